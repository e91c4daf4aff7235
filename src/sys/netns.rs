//! Namespaces and the short-lived children that enter them.
//!
//! Owns the questions one can ask a namespace descriptor (ioctl_ns(2)), fork(2), and
//! [`in_child`]: the network process never enters a container's namespaces itself, a child does
//! its work there and sends back a descriptor. What that work is, is decided in `attach.rs`.
//! Every function that forks wants a single-threaded process, since a fork of one with threads
//! may only call async-signal-safe functions. Read first: namespaces(7), user_namespaces(7),
//! unix(7) on `SCM_RIGHTS`.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

/// The kinds of namespace that are dealt with by descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A network namespace, network_namespaces(7).
    Network,
    /// A mount namespace, mount_namespaces(7).
    Mount,
    /// A user namespace, user_namespaces(7).
    User,
}

/// What the work in a child brings back.
#[derive(Debug)]
pub struct Reply {
    /// A descriptor for the parent.
    pub fd: Option<OwnedFd>,
    /// Whatever the two sides agree on.
    pub flags: u64,
}

/// Why the work in a child failed, in a form that crosses the process boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which failure, as the two sides agree.
    pub code: u8,
    /// The error of the system call, 0 if there was none.
    pub errno: i32,
    /// The noun or the step that failed.
    pub text: String,
}

/// Why [`in_child`] brought nothing back.
#[derive(thiserror::Error)]
pub enum ChildError {
    /// No child could be made or heard.
    #[error("cannot start a helper process")]
    Start(#[source] io::Error),
    /// The child may not enter the user namespace.
    #[error("cannot enter the user namespace")]
    EnterUser(#[source] io::Error),
    /// The child may not enter the network namespace.
    #[error("cannot enter the network namespace")]
    EnterNetwork(#[source] io::Error),
    /// The child ended without a word.
    #[error("the helper process ended with status {0}")]
    Died(i32),
    /// The work itself failed.
    #[error("{}", .0.text)]
    Work(Failure),
}

debug_as_display!(ChildError);

/// Opens the calling process's own namespace.
///
/// # Errors
/// What open(2) reports; `ENOENT` without a /proc.
pub fn own(kind: Kind) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/self/ns/{}", kind.name()))?.into())
}

/// Whether the descriptor is one of a namespace of this kind.
///
/// Where the kernel does not answer (before 4.11, and any 64-bit kernel asked by a 32-bit program,
/// whose requests nsfs does not take), the descriptor's name does. A namespace without one, by a
/// path such as `/run/netns/web`, is taken to be what was asked for: setns(2) looks again.
///
/// # Errors
/// `ENOTTY` when it is no namespace.
pub fn is_kind(namespace: BorrowedFd<'_>, kind: Kind) -> io::Result<bool> {
    // SAFETY: the request takes no argument and returns a number.
    let found = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if found >= 0 {
        return Ok(found == kind.clone_flag().bits());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOTTY) && is_namespace(namespace) {
        return Ok(is_kind_by_name(namespace, kind));
    }
    Err(error)
}

/// Whether the descriptor is one of nsfs.
fn is_namespace(fd: BorrowedFd<'_>) -> bool {
    fstatfs(fd).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// `net:[4026531840]` is the name of a network namespace in `/proc/self/fd`, namespaces(7).
fn is_kind_by_name(namespace: BorrowedFd<'_>, kind: Kind) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", namespace.as_raw_fd()));
    let name = link.unwrap_or_default().to_string_lossy().into_owned();
    match name.split_once(":[") {
        Some((found, _)) if !found.starts_with('/') => found == kind.name(),
        _ => true,
    }
}

/// Opens the user namespace that owns `namespace`.
///
/// # Errors
/// `ENOTTY` where the kernel does not answer, see [`is_kind`]; `EPERM` when that user namespace is
/// neither the caller's own nor below it.
pub fn owner(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument and returns a new descriptor.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) };
    owned(fd.into())
}

/// Whether two descriptors are of the same namespace: same device and inode, namespaces(7).
///
/// # Errors
/// What fstat(2) reports.
pub fn same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> io::Result<bool> {
    let (a, b) = (fstat(a)?, fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Runs `work` in a child that has entered `userns` (unless it is the caller's own or `None`) and
/// then `netns`, and returns what it brought back. The child has every capability in that user
/// namespace, cannot be traced from inside it, and dies with the caller.
///
/// The process must be single-threaded.
///
/// # Errors
/// See [`ChildError`].
pub fn in_child<F>(
    netns: BorrowedFd<'_>,
    userns: Option<BorrowedFd<'_>>,
    work: F,
) -> Result<Reply, ChildError>
where
    F: FnOnce() -> Result<Reply, Failure>,
{
    let (ours, theirs) = message_pair().map_err(ChildError::Start)?;
    let parent = getpid();
    let pid = spawn(|| {
        let reply = match enter(netns, userns, parent) {
            Ok(()) => work(),
            Err(failure) => Err(failure),
        };
        match send_reply(theirs.as_fd(), reply) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    })
    .map_err(ChildError::Start)?;
    drop(theirs);
    let reply = receive_reply(ours.as_fd());
    let status = wait(pid).map_err(ChildError::Start)?;
    match reply.map_err(ChildError::Start)? {
        None => Err(ChildError::Died(status)),
        Some(Ok(reply)) => Ok(reply),
        Some(Err(failure)) => Err(child_error(failure)),
    }
}

/// What a child has told of its failure.
pub(super) fn child_error(failure: Failure) -> ChildError {
    let source = || io::Error::from_raw_os_error(failure.errno);
    match failure.code {
        ENTER_USER => ChildError::EnterUser(source()),
        ENTER_NETWORK => ChildError::EnterNetwork(source()),
        _ => ChildError::Work(failure),
    }
}

/// Forks a child that runs `child` and exits with its result, also when it panics (101).
/// The process must be single-threaded.
///
/// # Errors
/// What fork(2) reports.
pub fn spawn<F: FnOnce() -> i32>(child: F) -> io::Result<Pid> {
    // Where the caller has it ignored, the kernel tells nobody how a child ended.
    set_default(Signal::SIGCHLD)?;
    // SAFETY: the callers see to it that there is one thread, so the child may do everything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: ends the process without running the parent's exit handlers or flushing
            // its buffers a second time.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Waits for a child and returns its exit status as shells count: 128 + N after signal N.
///
/// # Errors
/// What waitpid(2) reports.
pub fn wait(pid: Pid) -> io::Result<i32> {
    loop {
        match try_wait(pid, WaitPidFlag::empty()) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The exit status of a child as [`wait`] returns it, or `None` while it runs.
///
/// # Errors
/// What waitpid(2) reports.
pub fn wait_nonblocking(pid: Pid) -> io::Result<Option<i32>> {
    Ok(try_wait(pid, WaitPidFlag::WNOHANG)?)
}

fn try_wait(pid: Pid, flags: WaitPidFlag) -> Result<Option<i32>, Errno> {
    match waitpid(pid, Some(flags))? {
        WaitStatus::Exited(_, status) => Ok(Some(status)),
        WaitStatus::Signaled(_, signal, _) => Ok(Some(128 + signal as i32)),
        _ => Ok(None),
    }
}

/// Makes the calling child die with `parent`.
///
/// The kernel forgets this when the credentials change, so it is said again after that.
///
/// # Errors
/// `ESRCH` when the parent is gone already.
pub fn die_with(parent: Pid) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Gives the calling process the signal set-up that a program expects to start with: nothing
/// blocked, and `SIGPIPE`, which Rust's runtime ignores, at its default. Handlers end with
/// execve(2) anyway; a signal that the caller ignores (nohup) stays ignored.
///
/// # Errors
/// What sigaction(2) and sigprocmask(2) report.
pub fn reset_signals() -> io::Result<()> {
    set_default(Signal::SIGPIPE)?;
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

fn set_default(signal: Signal) -> Result<(), Errno> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: installs no handler.
    unsafe { nix::sys::signal::sigaction(signal, &default) }.map(drop)
}

/// Whether the caller had this process ignore a signal, as nohup(1) does.
#[must_use]
pub fn is_ignored(signal: Signal) -> bool {
    // SAFETY: every field is an integer, an array of such or an optional pointer to a function, for
    // which zero is a value.
    let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: changes nothing; the structure outlives the call that fills it.
    let asked = unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut found) };
    asked == 0 && found.sa_sigaction == libc::SIG_IGN
}

/// A connected pair of sockets that keep the borders of messages; close-on-exec.
///
/// # Errors
/// What socketpair(2) reports.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Sends one message, with a descriptor if there is one.
///
/// # Errors
/// What sendmsg(2) reports; `EPIPE` when the peer is gone.
pub fn send(socket: BorrowedFd<'_>, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let control = raw.as_ref().map(|raw| [ControlMessage::ScmRights(raw)]);
    let control = control.as_ref().map_or(&[][..], |control| &control[..]);
    let iov = [IoSlice::new(message)];
    sendmsg::<()>(socket.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message of at most [`MESSAGE_LEN`] bytes and its descriptor, close-on-exec.
/// An empty message means that the peer has closed.
///
/// # Errors
/// What recvmsg(2) reports.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut buffer = vec![0; MESSAGE_LEN];
    let mut control = nix::cmsg_space!(RawFd);
    let (len, fd) = loop {
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut received = None;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                for fd in fds {
                    // SAFETY: the kernel has just installed this descriptor for us alone. One
                    // that is not the last is closed here.
                    received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        break (message.bytes, received);
    };
    buffer.truncate(len);
    Ok((buffer, fd))
}

impl Kind {
    /// Its name in `/proc/PID/ns`.
    fn name(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Mount => "mnt",
            Self::User => "user",
        }
    }

    fn clone_flag(self) -> CloneFlags {
        match self {
            Self::Network => CloneFlags::CLONE_NEWNET,
            Self::Mount => CloneFlags::CLONE_NEWNS,
            Self::User => CloneFlags::CLONE_NEWUSER,
        }
    }
}

/// The child's way into the namespaces.
///
/// It keeps the caller's user and groups: entering a user namespace grants every capability there
/// whatever the ids are, while becoming that namespace's root (often a subordinate id) could lose
/// the right to open `/dev/net/tun`.
pub(super) fn enter(
    netns: BorrowedFd<'_>,
    userns: Option<BorrowedFd<'_>>,
    parent: Pid,
) -> Result<(), Failure> {
    let failed = |code| move |errno| Failure { code, errno: errno as i32, text: String::new() };
    // From here to the exit the container's root must not be able to trace this process.
    prctl::set_dumpable(false).map_err(failed(ENTER_USER))?;
    die_with(parent).map_err(failed(ENTER_USER))?;
    if let Some(userns) = userns {
        setns(userns, CloneFlags::CLONE_NEWUSER).map_err(failed(ENTER_USER))?;
    }
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(failed(ENTER_NETWORK))?;
    die_with(parent).map_err(failed(ENTER_NETWORK))
}

/// One message: a byte that says which kind, then flags, or code, errno and text.
pub(super) fn send_reply(socket: BorrowedFd<'_>, reply: Result<Reply, Failure>) -> io::Result<()> {
    match reply {
        Ok(Reply { fd, flags }) => {
            let mut message = vec![REPLY];
            message.extend_from_slice(&flags.to_ne_bytes());
            send(socket, &message, fd.as_ref().map(AsFd::as_fd))
        }
        Err(Failure { code, errno, text }) => {
            let mut message = vec![FAILURE, code];
            message.extend_from_slice(&errno.to_ne_bytes());
            message.extend_from_slice(text.as_bytes());
            message.truncate(MESSAGE_LEN);
            send(socket, &message, None)
        }
    }
}

/// The other end of [`send_reply`]; `None` when the child closed without a message.
pub(super) fn receive_reply(socket: BorrowedFd<'_>) -> io::Result<Option<Result<Reply, Failure>>> {
    let (message, fd) = receive(socket)?;
    match message.as_slice() {
        [] => Ok(None),
        [REPLY, a, b, c, d, e, f, g, h] => {
            let flags = u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            Ok(Some(Ok(Reply { fd, flags })))
        }
        [FAILURE, code, a, b, c, d, text @ ..] => Ok(Some(Err(Failure {
            code: *code,
            errno: i32::from_ne_bytes([*a, *b, *c, *d]),
            text: String::from_utf8_lossy(text).into_owned(),
        }))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A descriptor, or the error, that a raw system call returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the system call returned a new descriptor, which nothing else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The longest message in bytes between a parent and its child: a step and a kernel's text.
pub const MESSAGE_LEN: usize = 1024;

/// `NSFS_MAGIC` of <linux/magic.h>: the file system of namespaces.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

const REPLY: u8 = 0;
const FAILURE: u8 = 1;
/// Codes of [`Failure`] that this file uses itself; others belong to the caller of [`in_child`].
const ENTER_USER: u8 = 254;
const ENTER_NETWORK: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_told_apart() {
        let (net, user) = (own(Kind::Network).unwrap(), own(Kind::User).unwrap());
        assert!(is_kind(net.as_fd(), Kind::Network).unwrap());
        assert!(!is_kind(net.as_fd(), Kind::User).unwrap());
        assert!(same(net.as_fd(), own(Kind::Network).unwrap().as_fd()).unwrap());
        assert!(!same(net.as_fd(), user.as_fd()).unwrap());
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(
            is_kind(file.as_fd(), Kind::Network).unwrap_err().raw_os_error(),
            Some(libc::ENOTTY)
        );
    }

    #[test]
    fn how_a_child_ended_is_known_though_the_caller_ignores_children() {
        let child = spawn(|| {
            let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
            // SAFETY: installs no handler.
            unsafe { nix::sys::signal::sigaction(Signal::SIGCHLD, &ignore) }.unwrap();
            wait(spawn(|| 7).unwrap()).unwrap_or(1)
        });
        assert_eq!(wait(child.unwrap()).unwrap(), 7);
    }

    #[test]
    fn where_the_kernel_does_not_say_a_namespace_is_known_by_its_name() {
        let (net, user) = (own(Kind::Network).unwrap(), own(Kind::User).unwrap());
        assert!(is_namespace(net.as_fd()) && is_namespace(user.as_fd()));
        assert!(is_kind_by_name(net.as_fd(), Kind::Network));
        assert!(!is_kind_by_name(net.as_fd(), Kind::User));
        assert!(is_kind_by_name(user.as_fd(), Kind::User));
        assert!(!is_namespace(File::open("/proc/self/status").unwrap().as_fd()));
    }

    #[test]
    fn replies_and_failures_cross_the_socket() {
        let (a, b) = message_pair().unwrap();
        let fd = File::open("/dev/null").unwrap().into();
        send_reply(a.as_fd(), Ok(Reply { fd: Some(fd), flags: 5 << 32 })).unwrap();
        let reply = receive_reply(b.as_fd()).unwrap().unwrap().unwrap();
        assert_eq!((reply.flags, reply.fd.is_some()), (5 << 32, true));
        let failure = Failure { code: 3, errno: libc::ENODEV, text: "öffnen".into() };
        send_reply(a.as_fd(), Err(failure.clone())).unwrap();
        assert_eq!(receive_reply(b.as_fd()).unwrap().unwrap().unwrap_err(), failure);
        let long = Failure { code: 3, errno: 1, text: "x".repeat(5000) };
        send_reply(a.as_fd(), Err(long)).unwrap();
        let cut = receive_reply(b.as_fd()).unwrap().unwrap().unwrap_err();
        assert_eq!(cut.text.len(), MESSAGE_LEN - 6);
        drop(a);
        assert!(receive_reply(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_child_that_panics_is_no_parent() {
        // Without a message: another test's thread may have held the lock on it at the fork.
        let pid = spawn(|| std::panic::resume_unwind(Box::new("expected"))).unwrap();
        assert_eq!(wait(pid).unwrap(), 101);
    }
}
