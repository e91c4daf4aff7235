//! `rnsnet reattach`: see [`crate::survivor`].

use serde_json::json;

use super::{Action, Argument, Count, Typed, Verb};
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB as OPTION};
use crate::cli::values;
use crate::client;
use crate::config::Process;
use crate::control::Info;
use crate::error::Error;
use crate::session::{self, network};
use crate::survivor::{self, ReattachError};

pub(super) const VERB: Verb = Verb {
    name: "reattach",
    aliases: &[],
    about: "Serve a container again whose rnsnet was killed",
    more: "When rnsnet is killed, the container keeps its interface, addresses and routes. This \
           takes the interface over, with the options of before: published ports, resolvers and \
           the rest. Named networks whose processes were killed get their containers back. It stays in the foreground as rnsnet PID does, unless that one did not. \
           Inherited descriptors of before are gone: it ends with the container.",
    arguments: &[Argument {
        name: "CONTAINER",
        count: Count::Optional,
        help: "Its name, PID or NETNS_PATH, or a network's name. Default: the only one there is, \
               and all networks.",
    }],
    options: &[
        OptionSpec {
            long: "--detach",
            short: Some('d'),
            help: "Go to the background once the network works.",
            ..OPTION
        },
        OptionSpec {
            long: "--ready-fd",
            short: Some('r'),
            kind: Kind::Value("FD"),
            help: "Write the byte 1 to this inherited descriptor once the network works.",
            ..OPTION
        },
        OptionSpec {
            long: "--exit-fd",
            short: Some('e'),
            kind: Kind::Value("FD"),
            help: "End when the other side of this inherited descriptor is closed.",
            ..OPTION
        },
    ],
    examples: &[
        ("rnsnet reattach", "The one container whose rnsnet is gone."),
        ("rnsnet reattach --detach 4711", "That of process 4711, in the background."),
    ],
    parse,
};

#[derive(Debug)]
struct Reattach {
    what: Option<String>,
    process: Process,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let process = Process {
        ready_fd: typed.read("--ready-fd", values::fd)?,
        exit_fd: typed.read("--exit-fd", values::fd)?,
        detach: typed.switch("--detach"),
        ..Process::default()
    };
    match (process.ready_fd, process.exit_fd) {
        (Some(ready), Some(exit)) if ready == exit => Err(UsageError::SameFd { fd: ready }),
        _ => Ok(Box::new(Reattach { what: typed.argument(0).map(str::to_owned), process })),
    }
}

/// What is said where the container or network that a word names is being served.
fn served(what: &str) -> Option<ReattachError> {
    let (name, process) = match client::find(what) {
        Ok(found) => (found.container.name, found.instance.info.process),
        Err(_) => {
            let info: Info = client::network(what).ok()?.ask("info", &json!({})).ok()?;
            (what.to_owned(), info.process)
        }
    };
    Some(ReattachError::Served { name, pid: process.try_into().ok()? })
}

impl Action for Reattach {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let what = self.what.as_deref();
        let keep = [self.process.ready_fd, self.process.exit_fd].into_iter().flatten();
        let networks = network::reattach(what, &keep.collect::<Vec<_>>())?;
        let attach = match survivor::find(what, &self.process) {
            Err(ReattachError::Nothing | ReattachError::NoSuch { .. }) if !networks.is_empty() => {
                return Ok(0);
            }
            Err(error @ ReattachError::NoSuch { .. }) => {
                return Err(what.and_then(served).unwrap_or(error).into());
            }
            found => found?,
        };
        log::set_max_level(attach.process.log_level.0);
        session::attach(attach)
    }
}
