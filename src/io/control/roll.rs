//! Who is on a network, for the process that takes its place if it is killed: `rnsnet reattach`.
//!
//! The interfaces stay in the containers, and how each came to be there stays in a file beside the
//! control socket. The process has it open since before it gave up all others: every container has a
//! place of [`PLACE`] bytes in it, which is written by one pwrite(2) of JSON and zeros whenever
//! something of the container changes, and by zeros alone when it has gone. The file goes at every
//! end in order.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::control::Arrival;

/// A container, as it is to come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether its lease is remembered by that.
    pub keep: bool,
    /// Its hardware address.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// What it came with.
    pub arrival: Arrival,
    /// Its published ports, as after `--publish`.
    pub ports: Vec<String>,
}

/// The file, and which places of it are taken.
#[derive(Debug, Default)]
pub struct Roll {
    file: Option<File>,
    taken: Vec<bool>,
}

impl Roll {
    /// A roll in an empty file; without one nothing is kept.
    #[must_use]
    pub fn new(file: Option<File>) -> Self {
        Self { file, taken: Vec::new() }
    }

    /// Takes a place.
    pub fn place(&mut self) -> usize {
        let free = self.taken.iter().position(|taken| !taken);
        let place = free.unwrap_or(self.taken.len());
        match self.taken.get_mut(place) {
            Some(taken) => *taken = true,
            None => self.taken.push(true),
        }
        place
    }

    /// Writes what is known of a container at its place.
    pub fn note(&self, place: usize, entry: &Entry) {
        match serde_json::to_vec(entry) {
            Ok(text) if text.len() <= PLACE => self.write(place, text),
            _ => log::warn!("rnsnet reattach will not know of {}: it has too much", entry.name),
        }
    }

    /// The container of a place has gone.
    pub fn strike(&mut self, place: usize) {
        if let Some(taken) = self.taken.get_mut(place) {
            *taken = false;
        }
        self.write(place, Vec::new());
    }

    fn write(&self, place: usize, mut text: Vec<u8>) {
        let Some(file) = &self.file else { return };
        text.resize(PLACE, 0);
        let offset = u64::try_from(place * PLACE).unwrap_or(u64::MAX);
        if let Err(error) = file.write_all_at(&text, offset) {
            log::warn!("rnsnet reattach will not know of the last change: {error}");
        }
    }
}

/// The containers of a roll that a killed process has left; what is strange is left out.
#[must_use]
pub fn read(path: &Path) -> Vec<Entry> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let places = bytes.chunks(PLACE).filter_map(|place| {
        let end = place.iter().position(|byte| *byte == 0).unwrap_or(place.len());
        serde_json::from_slice(place.get(..end)?).ok()
    });
    places.collect()
}

/// Bytes of a container: a hundred published ports.
const PLACE: usize = 8 << 10;
