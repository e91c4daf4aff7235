//! Capture files in the classic pcap format with microseconds, link type Ethernet.
//!
//! A frame is written whole and at once, so a file is readable at any time, also after a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::clock::since_epoch;

/// A capture file that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the capture file {}", path.display())]
pub struct PcapError {
    path: PathBuf,
    source: io::Error,
}

/// An open capture file.
#[derive(Debug)]
pub(super) struct Pcap {
    file: File,
    record: Vec<u8>,
}

/// Larger than any frame, so that none is cut short.
const SNAP_LEN: u32 = 262_144;
const LINKTYPE_ETHERNET: u32 = 1;

impl Pcap {
    pub(super) fn create(path: &Path) -> Result<Self, PcapError> {
        let failed = |source| PcapError { path: path.into(), source };
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).open(path).map_err(failed)?;
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&0xa1b2_c3d4_u32.to_ne_bytes());
        header.extend_from_slice(&2_u16.to_ne_bytes());
        header.extend_from_slice(&4_u16.to_ne_bytes());
        header.extend_from_slice(&[0; 8]);
        header.extend_from_slice(&SNAP_LEN.to_ne_bytes());
        header.extend_from_slice(&LINKTYPE_ETHERNET.to_ne_bytes());
        file.write_all(&header).map_err(failed)?;
        Ok(Self { file, record: Vec::new() })
    }

    pub(super) fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let now = since_epoch();
        let length = u32::try_from(frame.len()).unwrap_or(SNAP_LEN);
        // The format's seconds are 32 bits, unsigned until 2106.
        let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        self.record.clear();
        for field in [seconds, now.subsec_micros(), length, length] {
            self.record.extend_from_slice(&field.to_ne_bytes());
        }
        self.record.extend_from_slice(frame);
        self.file.write_all(&self.record)
    }
}
