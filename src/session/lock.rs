//! What a process gives up before it serves: which files it keeps, and whether it can have a root
//! directory of its own. How that is done is in [`crate::sys::isolate`].

use std::os::fd::AsFd as _;

use caps::{CapSet, Capability};
use nix::unistd::geteuid;

use crate::config::{Confinement, Process};
use crate::io::overlay::Underlay;
use crate::io::{self, resolv_conf_directories};
use crate::run;
use crate::runtime_dir::Directory;
use crate::sys::fd::directory_of;
use crate::sys::isolate::{IsolateError, isolate_confine, isolate_final, isolate_root};
use crate::sys::landlock::Allowed;
use crate::sys::netns::{self, Kind};
use crate::sys::process;
use crate::sys::root::Root;
use crate::sys::seccomp::Extra;

/// What is to be given up.
#[derive(Debug)]
pub(super) struct Lock {
    /// One that is being made meanwhile.
    root: Option<Root>,
    allowed: Allowed,
    confinement: Confinement,
    inspectable: bool,
    /// System calls beyond the list.
    extras: Vec<Extra>,
}

impl Lock {
    /// Decides for a network that is about to be served. The process must be single-threaded.
    pub(super) fn new(network: &io::Network, process: &Process, inspectable: bool) -> Self {
        let confinement = process.confinement;
        let shown = resolv_conf_directories();
        let wanted = confinement != Confinement::None && !needs_its_ids(network, inspectable);
        let root = shown.as_deref().filter(|_| wanted).and_then(|shown| {
            let made = Root::make(shown);
            made.inspect_err(|error| log::debug!("no child makes a root directory: {error}")).ok()
        });

        let mut allowed = Allowed::usual();
        shown.iter().flatten().for_each(|directory| allowed.read_below(directory));
        let hosts = network.underlay.as_ref().map(Underlay::directory);
        hosts.into_iter().for_each(|directory| allowed.read_below(directory));
        let control = network.control.as_ref().map(|control| &control.place.directory);
        let pid_file = process.pid_file.as_deref().map(directory_of);
        let api = network.api.as_ref().map(io::api::ApiSocket::directory);
        let files_in = [pid_file, api, control.map(Directory::path)].into_iter().flatten();
        files_in.for_each(|directory| allowed.remove_files(directory));
        control.into_iter().for_each(|directory| allowed.remove_directories(directory.parent()));

        let watched = network.pidfd.as_ref().and_then(|process| process::number(process.as_fd()));
        if watched.is_some() {
            log::info!(
                "there are no pidfds here (Linux 5.3, or forbidden): the container's end is looked for every second"
            );
        }
        let killed = watched.filter(|_| network.forward_signals);
        let killed = killed.and_then(|pid| u32::try_from(pid).ok()).map(Extra::Kill);
        let splice = (!network.relayed.is_empty()).then_some(Extra::Splice);
        let extras = killed.into_iter().chain(splice).collect();
        Self { root, allowed, confinement, inspectable, extras }
    }

    /// Gives it up.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn close(self) -> Result<(), IsolateError> {
        let Self { root, allowed, confinement, inspectable, extras } = self;
        let has_root = root.map(isolate_root).transpose()?.unwrap_or(false);
        // As in a root directory of its own, what is mounted where it was started can be taken away.
        if !has_root && let Err(error) = std::env::set_current_dir("/") {
            log::debug!("cannot leave the working directory: {error}");
        }
        isolate_final(inspectable, inspectable && !has_root)?;
        isolate_confine(confinement, allowed, &extras)
    }
}

/// Whether the process must stay in the host's user namespace, in which alone it is who it is, or
/// had better not try to make another one.
fn needs_its_ids(network: &io::Network, inspectable: bool) -> bool {
    // Members of a group are told apart by their user ids: in another namespace all are nobody.
    let shared = network.control.as_ref().is_some_and(|control| control.place.socket.shared);
    // A command that may become any user gets signals from who owns its user namespace alone.
    let commands = network.forward_signals && geteuid().is_root();
    shared || commands || (inspectable && binds_low_ports()) || run::apparmor_restricts()
}

/// Whether the process can bind ports below 1024 of the host by a capability.
fn binds_low_ports() -> bool {
    let can = caps::has_cap(None, CapSet::Permitted, Capability::CAP_NET_BIND_SERVICE);
    let owner = netns::own(Kind::Network).and_then(|network| netns::owner(network.as_fd()));
    // EPERM: the namespace belongs to somebody above us, so the capability says nothing of it.
    let above = owner.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM));
    can.unwrap_or(false) && !above
}
