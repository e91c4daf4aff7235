//! Giving up rights: what the process drops, in four stages, and when.
//!
//! 1. [`isolate_initial`], before anything is opened: inherited descriptors, permissive file
//!    modes, core dumps. Nothing later depends on these.
//! 2. [`isolate_root`], once every namespace is attached and every file open: the root directory,
//!    and with it the host's user namespace.
//! 3. [`isolate_final`]: privileges. Earlier is impossible, since setns(2) and low ports need
//!    capabilities.
//! 4. [`isolate_confine`], the last thing before the event loop: files (Landlock) and system calls
//!    (seccomp). What they forbid is what the stages before and everything before them needed.
//!
//! Read first: capabilities(7), prctl(2), close_range(2).

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use caps::CapSet;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};

use super::landlock::{self, Allowed};
use super::root::{Root, RootError};
use super::seccomp::{self, Extra};
use crate::config::Confinement;

/// What [`isolate_initial`] changed and a command that we start must get back.
#[derive(Debug, Clone, Copy)]
pub struct Inherited {
    umask: Mode,
    /// If it was changed.
    open_files: Option<(rlim_t, rlim_t)>,
    core: (rlim_t, rlim_t),
}

/// A stage that could not be completed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct IsolateError {
    step: String,
    source: io::Error,
}

/// Stage 1, the first thing in `main`.
///
/// Gives up every inherited descriptor but 0, 1, 2 and those in `keep`, which become
/// close-on-exec: a descriptor that leaked from the caller would outlive every later stage.
/// Files are made with mode 0600 from here on, no core file is ever written, and the limit of
/// open descriptors rises to the hard limit, as every flow is one.
///
/// # Errors
/// A descriptor in `keep` that is not open, and what the kernel refuses.
pub fn isolate_initial(keep: &[RawFd]) -> Result<Inherited, IsolateError> {
    for fd in keep {
        mark_close_on_exec(*fd)
            .map_err(|source| failed(format!("use the inherited descriptor {fd}"), source))?;
    }
    close_all_but(keep).map_err(|source| failed("close inherited descriptors", source))?;
    let open_files = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|errno| failed("read the limit of open files", errno))?;
    let open_files = Some(open_files).filter(|(soft, hard)| {
        // Refused, even if nothing changes, where the system allows fewer by now (`fs.nr_open`).
        let raised = || setrlimit(Resource::RLIMIT_NOFILE, *hard, *hard);
        let told = |error: &_| log::warn!("cannot raise the limit of open files: {error}");
        soft != hard && raised().inspect_err(told).is_ok()
    });
    let core = getrlimit(Resource::RLIMIT_CORE)
        .map_err(|errno| failed("read the limit of core files", errno))?;
    // Only the soft limit: the hard one could not be given back to a command of `rnsnet run`.
    setrlimit(Resource::RLIMIT_CORE, 0, core.1)
        .map_err(|errno| failed("forbid core files", errno))?;
    let umask = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    Ok(Inherited { umask, open_files, core })
}

/// Stage 2, once nothing is to be opened by its path any more but what `root` shows.
///
/// Gives up the host's root directory for `root`, and being somebody in the host's user namespace.
/// Returns whether that was done: where namespaces or mounts are refused, the process stays where it
/// is, and stage 4 alone keeps files from it. Not earlier: files to be removed later must have
/// their directories open by then. Not later: who cannot be traced cannot be mapped, and who is
/// restricted by Landlock cannot mount.
///
/// # Errors
/// It was done by half.
pub fn isolate_root(root: Root) -> Result<bool, IsolateError> {
    match root.enter() {
        Ok(()) => Ok(true),
        Err(RootError::Refused { step, source }) => {
            log::debug!("no root directory of its own for this process: cannot {step}: {source}");
            Ok(false)
        }
        Err(RootError::Half(source)) => Err(failed("enter a mount namespace", source)),
    }
}

/// Stage 3.
///
/// Gives up, for good: gaining privileges by executing a file, every capability in all five sets
/// (inheritable, permitted, effective, bounding, ambient), core files up to the hard limit, and
/// being traced or read through `/proc` by other processes of the same user. Not earlier: entering
/// a container's namespaces and binding ports below 1024 need capabilities, and the id maps of a
/// child that cannot be traced belong to root.
///
/// A caller that is used to `inspectable` helpers may read what is in `/proc` about this one. With
/// `low_ports` the right to bind ports below 1024 stays where there is one, for who publishes ports
/// later.
///
/// # Errors
/// What the kernel refuses. The bounding set stays where the process may not change it (without
/// `CAP_SETPCAP`), which changes nothing once no new privileges can be had.
pub fn isolate_final(inspectable: bool, low_ports: bool) -> Result<(), IsolateError> {
    prctl::set_no_new_privs().map_err(|errno| failed("renounce new privileges", errno))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|errno| failed("forbid core files", errno))?;
    // Bounding first: dropping from it needs a capability that the others still hold.
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).unwrap_or(false) {
        clear_capabilities(CapSet::Bounding)?;
    }
    clear_capabilities(CapSet::Ambient)?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        if low_ports { keep_bind_service(set)? } else { clear_capabilities(set)? }
    }
    // Changed credentials may have cleared it.
    prctl::set_dumpable(inspectable)
        .map_err(|errno| failed("forbid being traced, or allow it", errno))
}

/// Stage 4, after which only packets are moved.
///
/// Gives up every file but those that are `allowed` by [`super::landlock`], then every system call
/// but those that [`super::seccomp`] lists and `extras`. Not earlier: stage 3 makes calls that are
/// forbidden from here on.
///
/// # Errors
/// What the kernel refuses. Landlock may be missing (before Linux 5.13): that is logged.
pub fn isolate_confine(
    confinement: Confinement,
    allowed: Allowed,
    extras: &[Extra],
) -> Result<(), IsolateError> {
    if confinement == Confinement::None {
        return Ok(());
    }
    let enforced = landlock::restrict(allowed)
        .map_err(|error| failed("restrict access to files", io::Error::other(error)))?;
    if !enforced {
        log::info!("this kernel has no Landlock (Linux 5.13): access to files is not restricted");
    }
    if confinement == Confinement::Full {
        seccomp::restrict(extras).map_err(|source| failed("restrict system calls", source))?;
    }
    Ok(())
}

/// Stages 3 and 4 for the child that makes sockets in a container ([`super::maker`]): it keeps the
/// right to bind ports below 1024 there, reaches no file, and has a list of system calls of its own.
///
/// # Errors
/// As the stages.
pub(super) fn isolate_maker() -> Result<(), IsolateError> {
    isolate_final(false, true)?;
    landlock::restrict(Allowed::default())
        .map_err(|error| failed("restrict access to files", io::Error::other(error)))?;
    seccomp::restrict_maker().map_err(|source| failed("restrict system calls", source))
}

impl IsolateError {
    /// The system call's error, as far as there was one.
    pub(super) fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

impl Inherited {
    /// Gives the calling process back what [`isolate_initial`] changed, before it executes the
    /// user's command.
    ///
    /// # Errors
    /// What setrlimit(2) reports.
    pub fn restore(&self) -> io::Result<()> {
        umask(self.umask);
        if let Some((soft, hard)) = self.open_files {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        }
        setrlimit(Resource::RLIMIT_CORE, self.core.0, self.core.1)?;
        Ok(())
    }
}

/// Closes every descriptor from 3 on that is not in `keep`.
///
/// Descriptors that some other part of the process owns must be in `keep`: this is for the start
/// of a process and for a child that is about to execute another program.
///
/// # Errors
/// What reading `/proc/self/fd` reports on kernels before 5.9, which have no close_range(2).
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut first = FIRST_INHERITED;
    for fd in kept {
        if fd > first && !close_range(first, fd - 1)? {
            return close_listed(keep);
        }
        first = first.max(fd.saturating_add(1));
    }
    if close_range(first, u32::MAX)? { Ok(()) } else { close_listed(keep) }
}

/// close_range(2); false where the kernel or a container engine's filter does not have it.
fn close_range(first: u32, last: u32) -> io::Result<bool> {
    // By number, since neither musl's libc crate nor glibc before 2.34 has the function.
    // SAFETY: takes numbers only. The descriptors it closes are nobody's, which is what
    // `close_all_but` asks of its caller.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM) => Ok(false),
        _ => Err(error),
    }
}

/// [`close_all_but`] by the list in `/proc/self/fd`.
fn close_listed(keep: &[RawFd]) -> io::Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) {
            open.push(fd);
        }
    }
    // The directory's own descriptor is in the list and closed by now; EBADF is no failure.
    for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(fd)) {
        // SAFETY: takes a number; as in `close_range`.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

fn mark_close_on_exec(fd: RawFd) -> io::Result<()> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is not -1 and is used for one fcntl(2) only, which reports a descriptor
    // that is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    // 0 to 2 stay open for a command that is executed.
    if fd > 2 {
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    } else {
        fcntl(borrowed, FcntlArg::F_GETFD)?;
    }
    Ok(())
}

/// Empties a set but for the right to bind ports below 1024, if it is there.
fn keep_bind_service(set: CapSet) -> Result<(), IsolateError> {
    let step = || format!("reduce the {set:?} capability set");
    let change = || {
        let mut kept = caps::read(None, set)?;
        kept.retain(|capability| *capability == caps::Capability::CAP_NET_BIND_SERVICE);
        caps::set(None, set, &kept)
    };
    change().map_err(|error: caps::errors::CapsError| failed(step(), io::Error::other(error)))
}

fn clear_capabilities(set: CapSet) -> Result<(), IsolateError> {
    caps::clear(None, set).map_err(|error| {
        failed(format!("empty the {set:?} capability set"), io::Error::other(error))
    })
}

fn failed(step: impl Into<String>, source: impl Into<io::Error>) -> IsolateError {
    IsolateError { step: step.into(), source: source.into() }
}

/// The first descriptor that is neither input, output nor error.
const FIRST_INHERITED: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    // The stages change the whole process, so the tests look at a child of their own.
    fn in_child(check: fn() -> bool) -> bool {
        let pid = crate::sys::netns::spawn(|| i32::from(!check())).unwrap();
        crate::sys::netns::wait(pid).unwrap() == 0
    }

    fn is_open(fd: RawFd) -> bool {
        // SAFETY: F_GETFD takes a number and reads a flag.
        unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
    }

    fn open_three() -> [RawFd; 3] {
        // SAFETY: duplicates standard error; the copies are closed with the child.
        [(); 3].map(|()| unsafe { libc::fcntl(2, libc::F_DUPFD, 50) })
    }

    #[test]
    fn only_named_descriptors_survive() {
        assert!(in_child(|| {
            let [a, b, c] = open_three();
            close_all_but(&[b, 1]).is_ok() && !is_open(a) && is_open(b) && !is_open(c) && is_open(2)
        }));
        assert!(in_child(|| {
            let [a, b, c] = open_three();
            close_listed(&[c, a]).is_ok() && is_open(a) && !is_open(b) && is_open(c) && is_open(2)
        }));
    }

    #[test]
    fn a_named_descriptor_must_be_open() {
        assert!(in_child(|| isolate_initial(&[RawFd::MAX]).is_err()));
        assert!(in_child(|| isolate_initial(&[-1]).is_err()));
    }

    #[test]
    fn the_first_stage_can_be_undone_for_a_command() {
        assert!(in_child(|| {
            setrlimit(Resource::RLIMIT_NOFILE, 100, 200).unwrap();
            let before = (getrlimit(Resource::RLIMIT_NOFILE), getrlimit(Resource::RLIMIT_CORE));
            let mask = umask(Mode::S_IWGRP);
            umask(mask);
            let inherited = isolate_initial(&[]).unwrap();
            let files = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let core = getrlimit(Resource::RLIMIT_CORE).unwrap().0;
            inherited.restore().unwrap();
            let after = (getrlimit(Resource::RLIMIT_NOFILE), getrlimit(Resource::RLIMIT_CORE));
            (files, core) == ((200, 200), 0) && before == after && umask(mask) == mask
        }));
    }

    #[test]
    fn the_last_stage_leaves_no_privilege() {
        assert!(in_child(|| {
            // Every capability there is, as far as this machine has user namespaces for everybody.
            let all = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok();
            isolate_final(false, false).unwrap();
            let sets = [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient];
            let empty = |set: CapSet| caps::read(None, set).unwrap().is_empty();
            sets.into_iter().all(empty)
                && (!all || empty(CapSet::Bounding))
                && prctl::get_no_new_privs().unwrap()
                && !prctl::get_dumpable().unwrap()
                && getrlimit(Resource::RLIMIT_CORE).unwrap() == (0, 0)
        }));
    }
}
