//! Descriptors that the caller of the program handed in by number.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// Whether the process was started with this descriptor.
#[must_use]
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Takes over a descriptor that the process was started with, close-on-exec from now on.
///
/// Call it once for a number: the owner closes it.
///
/// # Errors
/// `EBADF` when no such descriptor is open.
pub fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, as the call above has shown, was inherited, and by the contract above
    // has no other owner in this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
