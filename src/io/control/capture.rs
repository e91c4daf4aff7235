//! A capture that a client has asked for: frames into the pipe that it has sent.
//!
//! The reader may be slow or stop: what does not fit its pipe is counted and left out, and never
//! keeps a packet waiting. A record that was begun is finished first, so the file stays readable.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::write;

use crate::control::filter::Filter;
use crate::control::{Capture, CaptureEnd, Kind, Refusal};
use crate::engine::PortId;
use crate::io::pcap;

/// A capture that goes on.
#[derive(Debug)]
pub(super) struct ActiveCapture {
    pipe: File,
    /// `None`: every container's.
    port: Option<PortId>,
    /// What is left to write of the last record.
    rest: Vec<u8>,
    /// How many more frames; `None` is no limit.
    left: Option<u64>,
    snap: u32,
    /// What it keeps; `None` is all.
    filter: Option<Filter>,
    captured: u64,
    missed: u64,
    /// Whether the reader is gone or has what it wanted.
    over: bool,
}

impl ActiveCapture {
    /// Begins one with the head of the file.
    pub(super) fn new(
        pipe: OwnedFd,
        port: Option<PortId>,
        asked: &Capture,
    ) -> Result<Self, Refusal> {
        let failed = |errno: Errno| Refusal::new(Kind::Failed, format!("the pipe: {errno}"));
        let pipe = File::from(pipe);
        // Nothing else has a size of this kind.
        if fcntl(&pipe, FcntlArg::F_GETPIPE_SZ).is_err() {
            return Err(Refusal::new(Kind::Arguments, "the descriptor is no pipe"));
        }
        let flags = OFlag::from_bits_truncate(fcntl(&pipe, FcntlArg::F_GETFL).map_err(failed)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(failed)?;
        let filter =
            asked.filter.as_deref().map(Filter::parse).transpose().map_err(|error| {
                Refusal::new(Kind::Arguments, format!("capture: filter: {error}"))
            })?;
        let snap = asked.snap.filter(|snap| *snap > 0).unwrap_or(pcap::SNAP_LEN);
        let rest = pcap::header(snap.min(pcap::SNAP_LEN));
        let mut capture = Self {
            pipe,
            port,
            rest,
            left: asked.count,
            snap: snap.min(pcap::SNAP_LEN),
            filter,
            captured: 0,
            missed: 0,
            over: asked.count == Some(0),
        };
        capture.flush();
        Ok(capture)
    }

    /// Takes a frame.
    pub(super) fn record(&mut self, port: PortId, frame: &[u8], passed_on: bool, time: Duration) {
        let wanted = self.port.map_or(!passed_on, |only| only == port);
        if self.over || !wanted || self.filter.as_ref().is_some_and(|filter| !filter.matches(frame))
        {
            return;
        }
        self.flush();
        if !self.rest.is_empty() {
            self.missed += 1;
            return;
        }
        pcap::record(&mut self.rest, frame, self.snap, time);
        self.captured += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
            self.over = *left == 0;
        }
        self.flush();
    }

    /// Writes what the pipe takes.
    pub(super) fn flush(&mut self) {
        while !self.rest.is_empty() {
            match write(&self.pipe, &self.rest) {
                Ok(length) => drop(self.rest.drain(..length)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    log::debug!("a capture ends: {errno}");
                    self.rest.clear();
                    self.over = true;
                }
            }
        }
    }

    /// Whether the reader has to read before there is more.
    pub(super) fn is_waiting(&self) -> bool {
        !self.rest.is_empty()
    }

    /// What has become of it, once it is over.
    pub(super) fn end(&self) -> Option<CaptureEnd> {
        let done = self.over && self.rest.is_empty();
        done.then_some(CaptureEnd { captured: self.captured, missed: self.missed })
    }
}
