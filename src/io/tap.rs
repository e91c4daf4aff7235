//! A TAP as the event loop uses it: frames in until it is empty, frames out in their order.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::pcap::Pcap;
use crate::engine::frame::VNET_HEADER_LEN;
use crate::sys::tun::Tap;

/// Bytes that wait for a TAP without room, beyond which frames to it are lost. One full ring of a
/// connection; the kernel itself takes two gigabytes before it refuses any.
pub(super) const MAX_WAITING: usize = 1 << 20;

/// One TAP, and what ends with its container.
pub(super) struct Port {
    tap: Tap,
    /// Its end is the container's end.
    pub(super) pidfd: Option<OwnedFd>,
    /// Frames that the kernel had no room for, in order.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// It may have frames to read, and is in the queue of those that do.
    pub(super) readable: bool,
    pcap: Option<Pcap>,
}

impl Port {
    pub(super) fn new(tap: Tap, pidfd: Option<OwnedFd>, pcap: Option<Pcap>) -> Self {
        let waiting = VecDeque::new();
        Self { tap, pidfd, waiting, waiting_bytes: 0, readable: false, pcap }
    }

    /// Whether its frames carry the virtio header.
    pub(super) fn vnet(&self) -> bool {
        self.tap.vnet_header()
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.tap.as_raw_fd()
    }

    /// Reads the next frame into `buffer`; returns its length, or `None` when there is none for now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.tap.read(buffer) {
                Ok(length) => {
                    record(&mut self.pcap, self.tap.vnet_header(), buffer.get(..length));
                    return Ok(Some(length));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether frames still wait for room.
    pub(super) fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes a frame, or keeps it for [`Port::flush`]; returns whether there was room for it. An
    /// interface that is down swallows it, as a cable would.
    pub(super) fn write(&mut self, frame: &[u8]) -> bool {
        let room = !self.is_blocked() && self.try_write(frame) || self.keep(frame);
        if room {
            record(&mut self.pcap, self.tap.vnet_header(), Some(frame));
        }
        room
    }

    /// Writes a frame to the TAP; returns whether that had room for it.
    fn try_write(&self, frame: &[u8]) -> bool {
        match self.tap.write(frame) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                log::debug!("a frame to the container is lost: {error}");
                true
            }
        }
    }

    fn keep(&mut self, frame: &[u8]) -> bool {
        let room = self.waiting_bytes + frame.len() <= MAX_WAITING;
        if room {
            self.waiting_bytes += frame.len();
            self.waiting.push_back(frame.to_vec());
        }
        room
    }

    /// Tries again to write the frames that there was no room for.
    pub(super) fn flush(&mut self) {
        while let Some(frame) = self.waiting.front() {
            if !self.try_write(frame) {
                return;
            }
            self.waiting_bytes -= frame.len();
            self.waiting.pop_front();
        }
    }
}

/// A frame of a TAP without its virtio header.
pub(super) fn ethernet(frame: &[u8], vnet: bool) -> &[u8] {
    frame.get(if vnet { VNET_HEADER_LEN } else { 0 }..).unwrap_or_default()
}

fn record(pcap: &mut Option<Pcap>, vnet: bool, frame: Option<&[u8]>) {
    if let (Some(file), Some(frame)) = (&mut *pcap, frame)
        && let Err(error) = file.write(ethernet(frame, vnet))
    {
        log::warn!("the capture ends here: {error}");
        *pcap = None;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn frames_that_had_to_wait_are_captured_too() {
        let file = std::env::temp_dir().join(format!("rnsnet-tap-{}", std::process::id()));
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let tap = Tap::from_fd(ours.into(), false).unwrap();
        let mut port = Port::new(tap, None, Some(Pcap::create(&file).unwrap()));
        let frame = [7; 60];
        let mut written = 0;
        while !port.is_blocked() {
            assert!(port.write(&frame));
            written += 1;
        }
        for _ in 0..3 {
            assert!(port.write(&frame));
            written += 1;
        }
        while theirs.recv(&mut [0; 64]).is_ok() && port.is_blocked() {
            port.flush();
        }
        // The head of the file, and one before each frame.
        assert_eq!(fs::metadata(&file).unwrap().len(), 24 + written * (16 + 60));
        fs::remove_file(file).unwrap();
    }
}
