//! Sockets in the file system: made for one user alone, and taken away at the end.

use std::fs::Permissions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, geteuid};

use crate::sys::fd::{Entry, directory_of};

/// The length of `sun_path` in unix(7).
pub const MAX_PATH: usize = 108;

/// A socket in the file system that is listened on. The file goes when this does.
#[derive(Debug)]
pub struct SocketFile {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    file: Entry,
    pub(crate) owner: Uid,
    /// Whether the members of a group may connect as well.
    pub(crate) shared: bool,
}

/// A socket that cannot be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum BindError {
    #[error("the path is too long (>= {MAX_PATH}): {}", path.display())]
    TooLong { path: PathBuf },
    #[error("another process listens on {}", path.display())]
    InUse { path: PathBuf },
    #[error("{} is there already and is no socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("cannot listen on {}", path.display())]
    Bind { path: PathBuf, source: io::Error },
}

impl SocketFile {
    /// Listens on `path`, for the calling user only (mode 0600). A socket that nobody listens on
    /// any more is replaced, anything else that is there is left alone.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Self::bind_for(path, None)
    }

    /// The same for the calling user and the members of a group (mode 0660). Nobody else may reach
    /// the directory that it is in: the socket is not the group's from the first moment on.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind_for(path: &Path, group: Option<Gid>) -> Result<Self, BindError> {
        if path.as_os_str().as_bytes().len() >= MAX_PATH {
            return Err(BindError::TooLong { path: path.into() });
        }
        let failed = |source| BindError::Bind { path: path.into(), source };
        let file = Entry::at(path).map_err(failed)?;
        let listener = match listen_on(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                listen_on(path).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        let (owner, shared) = (geteuid(), group.is_some());
        let socket = Self { listener, path: path.into(), file, owner, shared };
        if let Some(group) = group {
            chown(path, None, Some(group.as_raw())).map_err(failed)?;
            std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
        }
        socket.listener.set_nonblocking(true).map_err(failed)?;
        Ok(socket)
    }

    /// The directory that the socket will be removed from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        directory_of(&self.path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = self.file.remove_file() {
            log::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The mode is right from the first moment on: nobody else can ever connect.
fn listen_on(path: &Path) -> io::Result<UnixListener> {
    // Or files that other tests make meanwhile would have it, and the last of two that do this at once
    // would leave it so.
    #[cfg(test)]
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
    let before = umask(Mode::S_IXUSR | Mode::S_IRWXG | Mode::S_IRWXO);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Removes a socket that refuses connections.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Bind { path: path.into(), source };
    let there = std::fs::symlink_metadata(path).map_err(failed)?;
    if !there.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.into() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(source) => Err(failed(source)),
        Ok(_) => Err(BindError::InUse { path: path.into() }),
    }
}
