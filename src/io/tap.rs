//! A TAP as the event loop uses it: frames in until it is empty, frames out and never lost.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::pcap::Pcap;
use crate::engine::PortId;
use crate::engine::frame::{MAX_FRAME_LEN, VNET_HEADER_LEN};
use crate::sys::tun::Tap;

/// One TAP with its buffers.
pub(super) struct Port {
    pub(super) id: PortId,
    tap: Tap,
    buffer: Box<[u8]>,
    /// A frame that the kernel had no room for.
    pending: Vec<u8>,
    pub(super) readable: bool,
    pcap: Option<Pcap>,
}

impl Port {
    pub(super) fn new(id: PortId, tap: Tap, pcap: Option<Pcap>) -> Self {
        Self {
            id,
            tap,
            buffer: vec![0; MAX_FRAME_LEN].into_boxed_slice(),
            pending: Vec::new(),
            readable: true,
            pcap,
        }
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.tap.as_raw_fd()
    }

    /// The next frame; `None` when there is none for now.
    pub(super) fn read(&mut self) -> io::Result<Option<&mut [u8]>> {
        match self.tap.read(&mut self.buffer) {
            Ok(length) => {
                let frame = self.buffer.get_mut(..length).unwrap_or_default();
                record(&mut self.pcap, self.tap.vnet_header(), frame);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the last frame still waits for room, and no other may be written.
    pub(super) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes a frame, or keeps it for [`Port::flush`]. An interface that is down swallows it, as
    /// a cable would.
    pub(super) fn write(&mut self, frame: &[u8]) {
        record(&mut self.pcap, self.tap.vnet_header(), frame);
        match self.tap.write(frame) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pending.extend_from_slice(frame);
            }
            Err(error) => log::debug!("a frame to the container is lost: {error}"),
        }
    }

    /// Tries again to write the frame that there was no room for.
    pub(super) fn flush(&mut self) {
        if self.is_blocked()
            && !matches!(self.tap.write(&self.pending),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            self.pending.clear();
        }
    }
}

fn record(pcap: &mut Option<Pcap>, vnet: bool, frame: &[u8]) {
    let Some(file) = pcap else { return };
    let ethernet = frame.get(if vnet { VNET_HEADER_LEN } else { 0 }..).unwrap_or_default();
    if let Err(error) = file.write(ethernet) {
        log::warn!("the capture ends here: {error}");
        *pcap = None;
    }
}
