//! The containers of a named network whose process was killed, until they are back.
//!
//! The process has left its roll (`io::control::roll`). Before another is started that is put aside,
//! and each container is struck from it when it is back on the network or has ended; the file goes
//! with the last. So whatever fails on the way, who is not back is there for the next one who needs
//! the network. Ports of names are published again at once, as they need nobody to be there. What
//! writes here holds the lock on the set of networks.

use std::fs::{OpenOptions, metadata, remove_file, rename};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{named, set_up};
use crate::control::{self, Arrival};
use crate::error::{Error, reasons};
use crate::io::control::roll::{self, Entry, Roll, Service};
use crate::network::definition::Definition;
use crate::runtime_dir::{LEFT, Owner, STATE, clear, sockets};

/// Where a network's process may have been.
fn directories(name: &str) -> impl Iterator<Item = PathBuf> {
    let places = sockets().unwrap_or_default().into_iter();
    let own = places.filter(move |(owner, other, _)| *owner == Owner::Network && other == name);
    own.filter_map(|(_, _, socket)| Some(socket.parent()?.to_owned()))
}

/// The containers that are to come back to a network. What is noted by a process that still runs
/// is not left.
pub(super) fn entries(name: &str, runs: bool) -> Vec<Entry> {
    let files: &[&str] = if runs { &[LEFT] } else { &[LEFT, STATE] };
    let paths = directories(name).flat_map(|place| files.iter().map(move |file| place.join(file)));
    paths.flat_map(|path| roll::read::<Entry>(&path)).map(|(_, entry)| entry).collect()
}

/// Whether somebody is to come back, or about to, to a network whose process runs again.
pub(super) fn is_any(name: &str) -> bool {
    directories(name).any(|directory| directory.join(LEFT).exists())
}

/// Those of them that still run and are not among those that are `there`.
pub(super) fn running(
    network: &Definition,
    runs: bool,
    there: &[control::Container],
) -> Vec<String> {
    let entries = entries(&network.name, runs).into_iter();
    let left = entries.filter(|entry| entry.is_left(network, there));
    left.map(|entry| entry.name).collect()
}

/// Keeps the roll of a process that was killed from the one that is to be started.
///
/// # Errors
/// What the system reports. Starting one would lose them.
pub(super) fn put_aside(name: &str) -> Result<(), Error> {
    for directory in directories(name) {
        let (state, left) = (directory.join(STATE), directory.join(LEFT));
        let aside = match left.exists() {
            // Killed again before all were back.
            true => roll::append(&left, &state).and_then(|()| remove_file(&state)),
            false => rename(&state, &left),
        };
        match aside {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            aside => aside.map_err(set_up("keep the containers of a killed network"))?,
        }
    }
    Ok(())
}

/// Brings the containers that are left back to their network, which runs, but for that of one
/// network namespace, which the caller brings itself. One that cannot be brought back stays left, and
/// the others go on.
///
/// # Errors
/// The network cannot be asked who is there.
pub(super) fn bring_back(network: &Definition, except: Option<u64>) -> Result<(), Error> {
    let name = &network.name;
    for path in directories(name).map(|directory| directory.join(LEFT)) {
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        let there = super::network::containers(name)?;
        let mut roll = Roll::new(Some(file));
        // Without anybody the process would have ended, and with it the ports of names.
        let mut lives = network.group.is_some();
        for (place, entry) in roll::read::<Entry>(&path) {
            let container = entry.name.clone();
            let is_left = entry.is_left(network, &there);
            lives |= is_left;
            let is_the_callers = except.is_some() && entry.arrival.inode == except;
            if is_left && is_the_callers {
                continue;
            }
            if is_left && let Err(error) = named::come_back(name, entry) {
                log::warn!("{container} is not on {name} again: {}", reasons(&error));
            } else {
                roll.strike(place);
            }
        }
        for (place, service) in roll::read::<Service>(&path) {
            if lives && service.network == network.id {
                named::publish_again(name, &service);
            }
            roll.strike(place);
        }
        remove_if_struck(&path);
    }
    Ok(())
}

/// Strikes what a caller has brought back itself, which may be called otherwise now and have another
/// interface.
pub(super) fn strike(network: &Definition, inode: Option<u64>) {
    for path in directories(&network.name).map(|directory| directory.join(LEFT)) {
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        let mut roll = Roll::new(Some(file));
        for (place, entry) in roll::read::<Entry>(&path) {
            if entry.network == network.id && entry.arrival.inode == inode {
                roll.strike(place);
            }
        }
        remove_if_struck(&path);
    }
}

fn remove_if_struck(path: &Path) {
    if roll::read::<Entry>(path).is_empty()
        && let Err(error) = remove_file(path)
    {
        log::debug!("cannot remove {}: {error}", path.display());
    }
}

/// Forgets who is to come back to a network, which is to be removed; without a process, the place of
/// that too.
pub(super) fn forget(name: &str, runs: bool) {
    for directory in directories(name) {
        match runs {
            // The rest goes with the process.
            true => drop(remove_file(directory.join(LEFT))),
            false => clear(&directory),
        }
    }
}

impl Entry {
    /// Whether it was on this network, not one of its name before it, is not there yet and runs.
    fn is_left(&self, network: &Definition, there: &[control::Container]) -> bool {
        let Arrival { inode, ifname, .. } = &self.arrival;
        let known = there.iter().any(|container| {
            let interface = container.interface.as_ref();
            container.inode == *inode && interface.is_some_and(|other| other.ifname == *ifname)
        });
        self.network == network.id && !known && still_runs(&self.arrival)
    }
}

/// Whether a container is where it was. One that we may not look into may be, and so may one whose
/// number is of another pid namespace than ours.
fn still_runs(arrival: &Arrival) -> bool {
    if named::is_elsewhere(arrival) {
        return true;
    }
    let path = match (arrival.pid, &arrival.netns) {
        (Some(pid), _) => format!("/proc/{pid}/ns/net"),
        (None, Some(netns)) => netns.clone(),
        (None, None) => return false,
    };
    match metadata(path) {
        Ok(there) => Some(there.ino()) == arrival.inode,
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}
