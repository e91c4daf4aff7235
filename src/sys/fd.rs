//! Descriptors that the caller of the program handed in by number, and files by the fewest calls.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, read, unlinkat};

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

/// Reads a file by `openat` and `read` alone, which a confined process may call. The standard
/// library's way asks for its length first, by calls that differ between C libraries.
///
/// # Errors
/// What openat(2) and read(2) report.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match read(&file, &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Removes a file by `unlinkat`, which every architecture has.
///
/// # Errors
/// What unlinkat(2) reports.
pub fn remove_file(path: &Path) -> io::Result<()> {
    Ok(unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir)?)
}
