//! Frames between the TAPs and the engine, and past those who capture them.

use std::io;

use mio::event::Event;

use super::{FRAMES_IN, FRAMES_OUT, LAST_BATCHES, LoopError, Server};
use crate::config::Rate;
use crate::engine::stats::Verdict;
use crate::engine::{Instant, PortId};
use crate::io::ports::Source;
use crate::io::published::Place;
use crate::io::tap::ethernet;

impl Server {
    pub(super) fn handle_port(&mut self, source: Source, event: &Event, now: Instant) {
        match source {
            Source::Tap(id) => {
                // A TAP that is deleted has an error to read, and nothing else to tell.
                if event.is_readable() || event.is_error() {
                    self.ports.note_readable(id);
                }
                self.ports.flush(id);
            }
            Source::Container(id) => self.handle_container_gone(id, now),
        }
    }

    /// A container's process has ended.
    pub(super) fn handle_container_gone(&mut self, id: PortId, now: Instant) {
        // Its last words, such as that its connections are closed, are there already.
        self.engine.set_rate(id, Rate::UNLIMITED, now);
        for _ in 0..LAST_BATCHES {
            if !matches!(self.read_port(id, now), Ok(true)) {
                break;
            }
        }
        self.end_port(id, now);
    }

    /// The container at a port is gone.
    fn end_port(&mut self, id: PortId, now: Instant) {
        log::debug!("port {}: its container is gone", id.0);
        self.ports.detach(&mut self.engine, id, now);
        let mut place = Place { engine: &mut self.engine, sockets: &mut self.sockets };
        self.published.forget(id, &mut place);
        if let Some(control) = &mut self.control {
            control.handle_gone(id);
        }
    }

    /// Reads a batch of frames from each port that has some.
    pub(super) fn read_frames(&mut self, now: Instant) -> Result<(), LoopError> {
        for _ in 0..self.ports.readable() {
            let Some(id) = self.ports.next_readable() else {
                break;
            };
            match self.read_port(id, now) {
                Ok(true) => self.ports.note_readable(id),
                Ok(false) => {}
                Err(source) if self.private => return Err(LoopError::TapGone { source }),
                Err(error) => {
                    log::debug!("port {}: {error}", id.0);
                    self.end_port(id, now);
                }
            }
        }
        Ok(())
    }

    /// Reads a batch of frames; returns whether there may be more.
    fn read_port(&mut self, id: PortId, now: Instant) -> io::Result<bool> {
        let mut left = FRAMES_IN;
        while left > 0 {
            if let Some(until) = self.engine.paused_until(id, now) {
                self.ports.pause(id, until);
                return Ok(false);
            }
            let Some(port) = self.ports.get_mut(id) else {
                return Ok(false);
            };
            let Some(length) = port.read(&mut self.frame)? else {
                return Ok(false);
            };
            let frame = self.frame.get_mut(..length).unwrap_or_default();
            if let Some(control) = self.control.as_mut().filter(|control| control.is_capturing()) {
                control.record(id, ethernet(frame, port.vnet()), false);
            }
            match self.engine.handle_frame(id, frame, now) {
                Verdict::Port(to) => self.pass_on(to, length),
                Verdict::Ports => {
                    // What is for many costs its sender as much.
                    let mut next = 0;
                    while let Some(to) = self.engine.receivers().get(next).copied() {
                        self.pass_on(to, length);
                        next += 1;
                    }
                    left = left.saturating_sub(next);
                }
                _ => {}
            }
            left = left.saturating_sub(1);
        }
        Ok(true)
    }

    /// Writes the frame that was just read to another port.
    fn pass_on(&mut self, to: PortId, length: usize) {
        let frame = self.frame.get(..length).unwrap_or_default();
        if let Some(control) = self.control.as_mut().filter(|control| control.is_capturing()) {
            control.record(to, ethernet(frame, self.ports.vnet(to)), true);
        }
        if !self.ports.write(to, frame) {
            self.engine.handle_lost(to);
        }
    }

    /// Writes frames to the TAPs; returns whether some are left.
    pub(super) fn write_frames(&mut self, now: Instant) -> bool {
        for _ in 0..FRAMES_OUT {
            if self.ports.is_stuck() {
                // The TAP's next event goes on.
                return false;
            }
            let (ports, mut lost) = (&mut self.ports, None);
            let capturing = self.control.as_mut().filter(|control| control.is_capturing());
            let written = self.engine.poll_frame(now, |id, frame, passed_on| {
                if let Some(control) = capturing {
                    control.record(id, ethernet(frame, ports.vnet(id)), passed_on);
                }
                lost = (!ports.write(id, frame)).then_some(id);
            });
            if let Some(id) = lost {
                self.engine.handle_lost(id);
            }
            if !written {
                return false;
            }
        }
        true
    }
}
