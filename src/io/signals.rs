//! Signals as a readable descriptor, signalfd(2), so that they are events like any other.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::netns::is_ignored;

/// The signals that the process handles; all are blocked from [`Signals::new`] on, but those of a
/// terminal that the caller ignores: under nohup(1) and in the background of a script.
const HANDLED: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1];
/// `si_code` of a signal that the kernel sent: the terminal's keys (`SI_KERNEL`, sigaction(2)).
const SENT_BY_KERNEL: i32 = 0x80;

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// The whole foreground process group got it, our children too.
    pub(super) from_terminal: bool,
}

/// The handled signals.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals and opens their descriptor. Children that are started later inherit the
    /// block; a command that must not is to be forked before.
    ///
    /// # Errors
    /// What signalfd(2) reports.
    pub fn new() -> io::Result<Self> {
        let terminals = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];
        let handled = |signal: &Signal| !(terminals.contains(signal) && is_ignored(*signal));
        let mask: SigSet = HANDLED.into_iter().filter(handled).collect();
        mask.thread_block()?;
        Ok(Self(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(super) fn next(&mut self) -> Option<Received> {
        let info = self.0.read_signal().ok().flatten()?;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        Some(Received { signal, from_terminal: info.ssi_code == SENT_BY_KERNEL })
    }
}
