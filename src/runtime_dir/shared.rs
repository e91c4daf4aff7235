//! Where the control socket of a network is that the members of a group may use.
//!
//! A user's own run-time directory is closed to others, so these are in `/run/rnsnet/UID/NAME`,
//! where the machine has that directory (mode 1777, as tmpfiles.d(5) makes it), else in
//! `/tmp/rnsnet-shared-UID/NAME`; UID is the owner's, outside of this user namespace. Anybody may
//! make a directory in either, so nothing there is trusted for its name: who listens makes sure
//! that the directories are its own, and who connects that the process at the other end is the
//! owner's (`SO_PEERCRED`). The directory of a network and its socket belong to the group
//! (0710, 0660), which is how the kernel keeps others out.
//! Read first: unix(7), tmpfiles.d(5), proc_sys_fs(5) (`protected_symlinks`).

use std::fs::{DirBuilder, Permissions, set_permissions, symlink_metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, geteuid};

use super::{Directory, Owner, Place, RuntimeDirError, SOCKET, make, make_all};
use crate::socket_file::{BindError, SocketFile};

/// Where the networks may be that a user shares, the best place first.
fn bases(owner: Uid) -> [PathBuf; 2] {
    [format!("/run/rnsnet/{owner}").into(), format!("/tmp/rnsnet-shared-{owner}").into()]
}

/// Where the socket of a network may be that a user shares.
#[must_use]
pub fn sockets_of(owner: Uid, name: &str) -> [PathBuf; 2] {
    bases(owner).map(|base| base.join(name).join(SOCKET))
}

impl Place {
    /// Listens on the control socket of a network, for the calling user and a group.
    ///
    /// # Errors
    /// [`RuntimeDirError::InUse`] if a living process has it; what the system reports of the last
    /// place otherwise.
    pub fn take_shared(name: &str, group: Gid) -> Result<Self, RuntimeDirError> {
        let mut last = RuntimeDirError::None;
        for base in bases(crate::user::outer()) {
            match take_in(&base, name, group) {
                Ok(place) => {
                    for own in super::bases() {
                        super::knock(&own.join(Owner::Network.directory()));
                    }
                    return Ok(place);
                }
                Err(error @ RuntimeDirError::InUse { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn take_in(base: &Path, name: &str, group: Gid) -> Result<Place, RuntimeDirError> {
    let failed = |source| RuntimeDirError::Directory { path: base.into(), source };
    // Where others may write they may take our directory away, unless the bit keeps them from it.
    let parent = base.parent().unwrap_or(base);
    let there = symlink_metadata(parent).map_err(failed)?;
    if !there.is_dir() || (there.mode() & 0o022 != 0 && there.mode() & 0o1000 == 0) {
        return Err(RuntimeDirError::Foreign { path: parent.into() });
    }
    match DirBuilder::new().mode(0o700).create(base) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(failed(source)),
        _ => check(base)?,
    }
    // Only names that are known can be asked for there.
    set_permissions(base, Permissions::from_mode(0o711)).map_err(failed)?;
    let path = base.join(name);
    match make(&path) {
        // Of an earlier process: it is the group's already.
        Err(RuntimeDirError::Foreign { .. }) => check(&path)?,
        other => other?,
    }
    let opened = chown(&path, None, Some(group.as_raw()));
    opened
        .and_then(|()| set_permissions(&path, Permissions::from_mode(0o710)))
        .map_err(|source| RuntimeDirError::Directory { path: path.clone(), source })?;
    let socket = SocketFile::bind_for(&path.join(SOCKET), Some(group)).map_err(|e| match e {
        BindError::InUse { .. } => RuntimeDirError::InUse { name: name.to_owned() },
        other => RuntimeDirError::Bind(other),
    })?;
    Ok(Place { socket, directory: Directory::of(path)? })
}

/// Refuses what is not a directory of ours that nobody else may write in.
fn check(path: &Path) -> Result<(), RuntimeDirError> {
    let failed = |source| RuntimeDirError::Directory { path: path.into(), source };
    let there = symlink_metadata(path).map_err(failed)?;
    let ours = there.is_dir() && there.uid() == geteuid().as_raw() && there.mode() & 0o022 == 0;
    if ours { Ok(()) } else { Err(RuntimeDirError::Foreign { path: path.into() }) }
}

/// The sockets of the networks that the calling user shares.
pub(super) fn own() -> Vec<(Owner, String, PathBuf)> {
    let bases = bases(crate::user::outer()).into_iter().filter(|base| check(base).is_ok());
    let entries = bases.filter_map(|base| std::fs::read_dir(base).ok()).flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry)));
    named.map(|(name, entry)| (Owner::Network, name, entry.path().join(SOCKET))).collect()
}

/// Keeps in mind that a container of ours is on another user's network: an empty directory
/// `UID@NAME` beside those of our own networks. No network is called so.
///
/// # Errors
/// What keeps it from being made.
pub fn remember(owner: Uid, name: &str) -> Result<(), RuntimeDirError> {
    let mut last = RuntimeDirError::None;
    for base in super::bases() {
        match make_all(&base, Owner::Network, &format!("{owner}@{name}")) {
            Ok(path) => {
                // It may have been there since another time.
                super::knock(path.parent().unwrap_or(&base));
                return Ok(());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The owner and name of another's network, if the name of a directory says so.
#[must_use]
pub fn remembered(directory: &str) -> Option<(Uid, &str)> {
    let (owner, name) = directory.split_once('@')?;
    Some((Uid::from_raw(owner.parse().ok()?), name))
}
