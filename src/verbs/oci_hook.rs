//! `rnsnet oci-hook`: networks for a container from within its OCI runtime.
//!
//! The runtime gives the container's state on standard input. What its annotations ask for is in
//! [`crate::cli::oci`], the rest in [`crate::session::oci`].

use std::io::{self, Read as _};

use super::{Action, Verb};
use crate::cli::HookError;
use crate::cli::oci::{Asks, State};
use crate::control::is_id;
use crate::error::Error;
use crate::json;
use crate::network::manage::new_id;
use crate::session::named::Who;
use crate::session::oci;

pub(super) const VERB: Verb = Verb {
    name: "oci-hook",
    aliases: &[],
    about: "Attach a container from a hook of its OCI runtime",
    more: "For runc, crun and Podman's --hooks-dir, at the stage createRuntime or prestart. Reads \
           the container's state from standard input. Its annotations say what to do: \
           org.rnsnet.network (networks as after --network, separated by spaces; without it nothing \
           is done), org.rnsnet.name, org.rnsnet.alias (names on each of them), \
           org.rnsnet.publish (ports as after --publish, separated by spaces) and org.rnsnet.egress \
           (rules as of rnsnet policy show, separated by commas). What is attached \
           already stays as it is, and a container that has stopped has left by itself.",
    arguments: &[],
    options: &[],
    examples: &[("rnsnet oci-hook", "As vendor-config/podman/hooks.d/rnsnet.json says it.")],
    parse: |_| Ok(Box::new(Hook)),
};

#[derive(Debug)]
struct Hook;

impl Action for Hook {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let mut text = Vec::new();
        let stdin = io::stdin().lock();
        let read = stdin.take(MAX_STATE).read_to_end(&mut text);
        read.map_err(|source| HookError::Read { source })?;
        let state: State = json::read(&text).map_err(|source| HookError::Parse { source })?;
        let Some(Asks { membership, name: (name, keep) }) = state.asks()? else {
            log::debug!("container {} asks for no network", state.id);
            return Ok(0);
        };
        if state.status == "stopped" {
            return Ok(0);
        }
        let State { id, status, .. } = state;
        let Some(pid) = state.pid.filter(|pid| *pid > 0) else {
            return Err(HookError::NoProcess { id, status }.into());
        };
        let id = if is_id(&id) { id } else { new_id()? };
        let who = Who {
            id,
            name,
            keep,
            pid: None,
            netns: None,
            userns: None,
            links: Vec::new(),
            hold: false,
        };
        oci::attach(who, pid, membership)?;
        Ok(0)
    }
}

/// Longer than any state is, in bytes.
const MAX_STATE: u64 = 1024 * 1024;
