//! Other processes, held by a descriptor that no later process of the same number takes over.
//!
//! That is a pidfd. On kernels without them (before Linux 5.3), and in containers whose engine
//! forbids pidfd_open(2), it is the process's open `/proc/PID/stat`: it cannot be waited for, but
//! tells, each time it is read, whether the process is still there. Read first: pidfd_open(2),
//! pidfd_send_signal(2), proc_pid_stat(5).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Holds the process `pid`.
///
/// # Errors
/// `ESRCH` when there is no such process, `EINVAL` when `pid` is not positive or, where there are
/// pidfds, a thread.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    if pid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    match pidfd_open(pid) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            match File::open(format!("/proc/{pid}/stat")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Errno::ESRCH.into()),
                other => Ok(other?.into()),
            }
        }
        other => other,
    }
}

/// A pidfd of the process `pid`.
///
/// # Errors
/// As [`open`], and `ENOSYS` on kernels before 5.3.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only. By number, since C libraries got the function late.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0_u32) };
    let fd = i32::try_from(Errno::result(result)?).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process still runs. A zombie does not.
///
/// # Errors
/// What poll(2) reports.
pub fn is_alive(process: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(!ends(process, Duration::ZERO)?)
}

/// Whether the process ends within `patience`; where there are no pidfds, it is looked at now and then.
///
/// # Errors
/// What poll(2) reports.
pub fn ends(process: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    match look(process) {
        Look::Pidfd => {
            let mut fds = [PollFd::new(process, PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            Ok(poll(&mut fds, timeout)? > 0)
        }
        Look::Alive(_) => {
            let step = PollTimeout::try_from(patience / LOOKS).unwrap_or(PollTimeout::MAX);
            for _ in 0..if patience.is_zero() { 0 } else { LOOKS } {
                poll(&mut [], step)?;
                if has_ended(process) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Look::Ended => Ok(true),
    }
}

/// How often a process that cannot be waited for is looked at.
const LOOKS: u32 = 10;

/// Sends `signal` to the process. Where there are no pidfds it must be an unreaped child of ours: only
/// then its number is nobody else's.
///
/// # Errors
/// `ESRCH` when it has ended, `EPERM` when it belongs to somebody else.
pub fn signal(process: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    match look(process) {
        Look::Pidfd => {
            let info = std::ptr::null::<libc::siginfo_t>();
            let (number, flags) = (signal as libc::c_int, 0_u32);
            // SAFETY: a null `info` is allowed and makes the call equal kill(2).
            let result = unsafe {
                libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, info, flags)
            };
            Errno::result(result)?;
            Ok(())
        }
        Look::Alive(pid) => Ok(kill(Pid::from_raw(pid), signal)?),
        Look::Ended => Err(Errno::ESRCH.into()),
    }
}

/// The number of a running process that is held without a pidfd, so that its end must be looked
/// for and a signal to it is kill(2).
#[must_use]
pub fn number(process: BorrowedFd<'_>) -> Option<i32> {
    match look(process) {
        Look::Alive(pid) => Some(pid),
        Look::Pidfd | Look::Ended => None,
    }
}

/// Whether a process that is held without a pidfd has ended.
#[must_use]
pub fn has_ended(process: BorrowedFd<'_>) -> bool {
    matches!(look(process), Look::Ended)
}

/// What a `/proc/PID/stat` says.
enum Look {
    /// It is none.
    Pidfd,
    Alive(i32),
    Ended,
}

fn look(process: BorrowedFd<'_>) -> Look {
    // Its number, its name of at most 64 characters in brackets, its state, and more; of a main
    // thread that has ended up to the 20th field, how many threads there are.
    let mut stat = [0; 512];
    let (fd, length) = (process.as_raw_fd(), stat.len());
    // SAFETY: writes at most that many bytes into the buffer, which outlives the call.
    let read = unsafe { libc::pread(fd, stat.as_mut_ptr().cast(), length, 0) };
    match usize::try_from(read) {
        Ok(read) => of_stat(stat.get(..read).unwrap_or_default()),
        Err(_) if Errno::last() == Errno::ESRCH => Look::Ended,
        Err(_) => Look::Pidfd,
    }
}

fn of_stat(stat: &[u8]) -> Look {
    let pid = stat.split(|byte| *byte == b' ').next().and_then(|pid| str::from_utf8(pid).ok());
    let after = stat.iter().rposition(|byte| *byte == b')').map(|at| at + 2);
    let mut fields =
        after.and_then(|at| stat.get(at..)).unwrap_or_default().split(|byte| *byte == b' ');
    let threads = fields.nth(17).and_then(|threads| str::from_utf8(threads).ok()?.parse().ok());
    // The main thread may end before the others do.
    let other_threads = threads.is_some_and(|threads: u32| threads > 1);
    let after = after.and_then(|at| stat.get(at));
    match (pid.and_then(|pid| pid.parse().ok()), after) {
        (Some(_), Some(b'Z' | b'X')) if !other_threads => Look::Ended,
        (Some(pid), Some(_)) => Look::Alive(pid),
        _ => Look::Pidfd,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::sys::socket::{Shutdown, shutdown};

    use super::*;
    use crate::sys::netns::{message_pair, receive, spawn, wait};

    /// Both ways to hold a process.
    fn stat_open(pid: i32) -> io::Result<OwnedFd> {
        Ok(File::open(format!("/proc/{pid}/stat"))?.into())
    }

    #[test]
    fn it_is_known_when_a_process_has_ended() {
        for open in [pidfd_open, stat_open, open] {
            let (ours, theirs) = message_pair().unwrap();
            let pid = spawn(|| i32::from(receive(theirs.as_fd()).is_err())).unwrap();
            let process = open(pid.as_raw()).unwrap();
            assert!(is_alive(process.as_fd()).unwrap());
            // Whoever has copies of it, which ends the child.
            shutdown(ours.as_raw_fd(), Shutdown::Both).unwrap();
            assert_eq!(wait(pid).unwrap(), 0);
            assert!(!is_alive(process.as_fd()).unwrap());
            let gone = signal(process.as_fd(), Signal::SIGTERM).unwrap_err();
            assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
            let own = i32::try_from(std::process::id()).unwrap();
            assert!(is_alive(open(own).unwrap().as_fd()).unwrap());
        }
    }

    #[test]
    fn an_end_is_waited_for() {
        for open in [pidfd_open, stat_open] {
            let pid = spawn(|| poll(&mut [], PollTimeout::NONE).unwrap_or(0)).unwrap();
            let process = open(pid.as_raw()).unwrap();
            for patience in [Duration::ZERO, Duration::from_millis(20)] {
                assert!(!ends(process.as_fd(), patience).unwrap());
            }
            signal(process.as_fd(), Signal::SIGKILL).unwrap();
            assert!(ends(process.as_fd(), Duration::from_secs(60)).unwrap());
            // A zombie until now.
            assert_eq!(wait(pid).unwrap(), 128 + Signal::SIGKILL as i32);
            assert!(ends(process.as_fd(), Duration::ZERO).unwrap());
        }
    }

    #[test]
    fn no_process_no_descriptor() {
        // Above PID_MAX_LIMIT (4,194,304), so never in use.
        assert_eq!(open(i32::MAX).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert_eq!(open(-1).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_state_is_found_behind_any_name() {
        assert!(matches!(of_stat(b"7 (a) Z (b) S 1 "), Look::Alive(7)));
        assert!(matches!(of_stat(b"7 (a) S) Z 1 "), Look::Ended));
        let stat =
            |threads| format!("7 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 20 0 {threads} 0 99 ");
        assert!(matches!(of_stat(stat(1).as_bytes()), Look::Ended));
        assert!(matches!(of_stat(stat(2).as_bytes()), Look::Alive(7)));
        assert!(matches!(of_stat(b""), Look::Pidfd));
        assert!(matches!(of_stat(b"nonsense"), Look::Pidfd));
    }
}
