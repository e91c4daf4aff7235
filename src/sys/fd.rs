//! Descriptors that the caller of the program handed in by number, and files by the fewest calls and
//! wherever the process's root directory is.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
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

/// What a descriptor of unknown origin is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/dev/net/tun`.
    Tun,
    /// A pipe or a FIFO.
    Pipe,
    /// A file of bytes on some file system.
    File,
    /// A process.
    Pidfd,
    /// Anything else.
    Other,
}

/// What a descriptor of unknown origin is of. Asks the kernel for what it knows already (statx(2),
/// `AT_STATX_DONT_SYNC`, Linux 4.11): a file system in user space is not called.
#[must_use]
pub fn kind(fd: BorrowedFd<'_>) -> Kind {
    // SAFETY: every field is an integer or an array of such, for which zero is a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (number, flags) = (fd.as_raw_fd(), libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC);
    let mask = libc::STATX_TYPE;
    // SAFETY: the path is an empty string, and the structure outlives the call that fills it.
    let result = unsafe {
        libc::syscall(libc::SYS_statx, number, c"".as_ptr(), flags, mask, &raw mut found)
    };
    let device = (found.stx_rdev_major, found.stx_rdev_minor);
    match libc::mode_t::from(found.stx_mode) & libc::S_IFMT {
        libc::S_IFCHR if result == 0 && device == TUN_DEVICE => Kind::Tun,
        libc::S_IFIFO if result == 0 => Kind::Pipe,
        // Those have been called files, too (Linux 6.9).
        _ if is_pidfd(fd) => Kind::Pidfd,
        libc::S_IFREG if result == 0 => Kind::File,
        _ => Kind::Other,
    }
}

/// Whether it is a pidfd: no other file is asked anything.
fn is_pidfd(fd: BorrowedFd<'_>) -> bool {
    let is_refused = |number: libc::c_int| {
        let nothing = std::ptr::null::<libc::c_void>();
        // SAFETY: signal 0 is none, and null stands for the usual information about its sender.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, number, 0, nothing, 0) };
        result != 0 && nix::errno::Errno::last() == nix::errno::Errno::EBADF
    };
    // Where the call itself is refused (before Linux 5.1, or forbidden) it tells nothing of a
    // descriptor. That the process is another's, or gone, is no matter.
    is_refused(-1) && !is_refused(fd.as_raw_fd())
}

/// Major and minor number: Documentation/admin-guide/devices.txt.
const TUN_DEVICE: (u32, u32) = (10, 200);

/// Reads a file by `openat` and `read` alone, which a confined process may call. The standard
/// library's way asks for its length first, by calls that differ between C libraries.
///
/// # Errors
/// What openat(2) and read(2) report.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_all(openat(AT_FDCWD, path, READ, Mode::empty())?)
}

/// Nobody waits for who writes to a pipe that is in the file's place.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
/// No file that is read whole has more bytes.
const LARGEST: usize = 256 << 10;

fn read_all(file: OwnedFd) -> io::Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match read(&file, &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() >= LARGEST => return Err(nix::errno::Errno::EFBIG.into()),
            Ok(length) => bytes.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether there is something of this name, even a symbolic link that leads nowhere.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty()).is_ok()
}

/// Where a file is.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// A file or directory that is to be removed at the end, when its path may lead elsewhere: the
/// directory that it is in is held open. Removed by `unlinkat`, which every architecture has.
#[derive(Debug)]
pub struct Entry {
    directory: OwnedFd,
    name: PathBuf,
}

impl Entry {
    /// What is at `path`, now or later.
    ///
    /// # Errors
    /// What open(2) reports of its directory; `EINVAL` for a path without a name.
    pub fn at(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(nix::errno::Errno::EINVAL)?.into();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { directory: open(directory_of(path), flags, Mode::empty())?, name })
    }

    /// Reads the file, whatever it is by now.
    ///
    /// # Errors
    /// What openat(2) and read(2) report.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        read_all(openat(&self.directory, &self.name, READ, Mode::empty())?)
    }

    /// Removes the file.
    ///
    /// # Errors
    /// What unlinkat(2) reports.
    pub fn remove_file(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, &self.name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes a file in the directory.
    ///
    /// # Errors
    /// What unlinkat(2) reports.
    pub fn remove_file_in(&self, file: &str) -> io::Result<()> {
        Ok(unlinkat(&self.directory, &self.name.join(file), UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes the directory, if it is empty.
    ///
    /// # Errors
    /// What unlinkat(2) reports.
    pub fn remove_directory(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, &self.name, UnlinkatFlags::RemoveDir)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::{spawn, wait};
    use crate::sys::process::pidfd_open;
    use crate::sys::seccomp::refuse;
    use std::fs::File;
    use std::os::fd::AsFd as _;

    #[test]
    fn descriptors_are_told_apart_without_being_used() {
        let pidfd = pidfd_open(nix::unistd::getpid().as_raw()).unwrap();
        assert_eq!(kind(pidfd.as_fd()), Kind::Pidfd);
        let (reader, _writer) = io::pipe().unwrap();
        assert_eq!(kind(reader.as_fd()), Kind::Pipe);
        assert_eq!(kind(File::open("/dev/null").unwrap().as_fd()), Kind::Other);
        assert_eq!(kind(File::open("/proc/self/status").unwrap().as_fd()), Kind::File);
        if let Ok(tun) = File::options().read(true).write(true).open("/dev/net/tun") {
            assert_eq!(kind(tun.as_fd()), Kind::Tun);
        }
    }

    #[test]
    fn what_is_no_file_of_a_sensible_length_keeps_nobody_waiting() {
        let folder = crate::testing::scratch("no-file");
        let pipe = folder.join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert!(read_file(&pipe).unwrap().is_empty());
        assert!(Entry::at(&pipe).unwrap().read().unwrap().is_empty());
        let error = read_file("/dev/zero".as_ref()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
        std::fs::remove_dir_all(folder).unwrap();
    }

    // Before Linux 5.1, and where an engine forbids it.
    #[test]
    fn where_nobody_can_be_asked_for_pidfds_nothing_is_one() {
        let own = nix::unistd::getpid().as_raw();
        for errno in [libc::ENOSYS, libc::EPERM] {
            let child = spawn(|| {
                nix::sys::prctl::set_no_new_privs().unwrap();
                refuse(libc::SYS_pidfd_send_signal, errno).unwrap();
                let (reader, _writer) = io::pipe().unwrap();
                let others = [pidfd_open(own).unwrap(), File::open("/dev/null").unwrap().into()];
                let right = kind(reader.as_fd()) == Kind::Pipe
                    && others.iter().all(|other| kind(other.as_fd()) == Kind::Other);
                i32::from(!right)
            });
            assert_eq!(wait(child.unwrap()).unwrap(), 0);
        }
    }
}
