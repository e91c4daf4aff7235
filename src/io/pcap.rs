//! Capture files in the classic pcap format with microseconds, link type Ethernet.
//!
//! A frame is written whole and at once, so a file is readable at any time, also after a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::since_epoch;

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
pub(super) const SNAP_LEN: u32 = 262_144;
const LINKTYPE_ETHERNET: u32 = 1;

impl Pcap {
    pub(super) fn create(path: &Path) -> Result<Self, PcapError> {
        let failed = |source| PcapError { path: path.into(), source };
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).open(path).map_err(failed)?;
        file.write_all(&header(SNAP_LEN)).map_err(failed)?;
        Ok(Self { file, record: Vec::new() })
    }

    pub(super) fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.record.clear();
        record(&mut self.record, frame, SNAP_LEN, since_epoch());
        self.file.write_all(&self.record)
    }
}

/// The head of a file whose frames are cut after `snap` bytes.
pub(super) fn header(snap: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(24);
    header.extend_from_slice(&0xa1b2_c3d4_u32.to_ne_bytes());
    header.extend_from_slice(&2_u16.to_ne_bytes());
    header.extend_from_slice(&4_u16.to_ne_bytes());
    header.extend_from_slice(&[0; 8]);
    header.extend_from_slice(&snap.to_ne_bytes());
    header.extend_from_slice(&LINKTYPE_ETHERNET.to_ne_bytes());
    header
}

/// Appends a frame as the file has it; `time` is since 1970.
pub(super) fn record(out: &mut Vec<u8>, frame: &[u8], snap: u32, time: Duration) {
    let length = u32::try_from(frame.len()).unwrap_or(SNAP_LEN);
    let kept = length.min(snap);
    // The format's seconds are 32 bits, unsigned until 2106.
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    for field in [seconds, time.subsec_micros(), kept, length] {
        out.extend_from_slice(&field.to_ne_bytes());
    }
    out.extend(frame.iter().take(usize::try_from(kept).unwrap_or(usize::MAX)));
}
