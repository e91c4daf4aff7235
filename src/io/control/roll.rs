//! Who is on a network, for the process that takes its place if it is killed: `rnsnet reattach`.
//!
//! The interfaces stay in the containers, and how each came to be there stays in a file beside the
//! control socket. The process has it open since before it gave up all others: every container, and
//! every name that ports are published for, has a place of [`PLACE`] bytes in it, which is written by
//! one pwrite(2) of JSON and zeros whenever something of it changes, and by zeros alone when it has
//! gone. The file goes at every end in order.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control::Arrival;
use crate::json;

/// A container, as it is to come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The id of the network.
    pub network: String,
    /// Its name.
    pub name: String,
    /// Whether its lease is remembered by that.
    pub keep: bool,
    /// Its hardware address.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What it came with.
    pub arrival: Arrival,
    /// Its published ports, as after `--publish`, and the addresses of one that names none.
    pub ports: Vec<(String, Vec<IpAddr>)>,
}

/// The ports of a name, whoever has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    /// The id of the network.
    pub network: String,
    /// The name.
    pub service: String,
    /// As of a container.
    pub ports: Vec<(String, Vec<IpAddr>)>,
}

/// The file, and which places of it are taken.
#[derive(Debug, Default)]
pub struct Roll {
    file: Option<File>,
    taken: Vec<bool>,
}

impl Roll {
    /// A roll in an empty file, or to strike who is in one; without one nothing is kept.
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
        let text =
            |entry: &Entry| serde_json::to_vec(entry).ok().filter(|text| text.len() <= PLACE);
        let name = &entry.name;
        let text = text(entry).or_else(|| {
            log::warn!("rnsnet reattach will not know of the ports of {name}: they are too many");
            text(&Entry { ports: Vec::new(), ..entry.clone() })
        });
        if text.is_none() {
            log::warn!("rnsnet reattach will not know of {name}: it has too many names or rules");
        }
        // Nothing is better than what was so before.
        self.write(place, text.unwrap_or_default());
    }

    /// Writes which ports of a name are published at its place.
    pub fn note_service(&self, place: usize, service: &Service) {
        let text = serde_json::to_vec(service).ok().filter(|text| text.len() <= PLACE);
        if text.is_none() {
            let name = &service.service;
            log::warn!("rnsnet reattach will not know of the ports of {name}: they are too many");
        }
        self.write(place, text.unwrap_or_default());
    }

    /// Who had a place has gone.
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

/// What a roll has that a killed process has left, its containers ([`Entry`]) or the names that ports
/// are published for ([`Service`]), by their places; what is strange is left out.
#[must_use]
pub fn read<T: DeserializeOwned>(path: &Path) -> Vec<(usize, T)> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let places = bytes.chunks(PLACE).enumerate().filter_map(|(index, place)| {
        let end = place.iter().position(|byte| *byte == 0).unwrap_or(place.len());
        Some((index, json::read(place.get(..end)?).ok()?))
    });
    places.collect()
}

/// Appends the places of one roll to those of another.
///
/// # Errors
/// What the system reports; `NotFound` if there is nothing to append.
pub fn append(to: &Path, from: &Path) -> io::Result<()> {
    let bytes = std::fs::read(from)?;
    let file = OpenOptions::new().write(true).open(to)?;
    let end = file.metadata()?.len().next_multiple_of(PLACE as u64);
    file.write_all_at(&bytes, end)
}

/// Bytes of a container: a hundred published ports.
const PLACE: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, ports: usize) -> Entry {
        let arrival = r#"{"id":"3f2a","vnet_header":true,"ipv6":false,"ifname":"eth0"}"#;
        Entry {
            network: "1".into(),
            name: name.into(),
            keep: true,
            mac: String::new(),
            addresses: Vec::new(),
            arrival: serde_json::from_str(arrival).unwrap(),
            ports: vec![("8080:80".into(), vec![]); ports],
        }
    }

    fn names(path: &Path) -> Vec<(usize, String, usize)> {
        let entries = read::<Entry>(path).into_iter();
        entries.map(|(place, entry)| (place, entry.name, entry.ports.len())).collect()
    }

    #[test]
    fn a_place_says_what_is_so_now_and_rolls_are_joined() {
        let number = getrandom::u64().unwrap();
        let at = |name| std::env::temp_dir().join(format!("rnsnet-roll-{number:x}.{name}"));
        let (one, other) = (at("one"), at("other"));
        let mut roll = Roll::new(Some(File::create(&one).unwrap()));
        let places = [roll.place(), roll.place(), roll.place()];
        for (place, name) in places.into_iter().zip(["a", "b", "c"]) {
            roll.note(place, &entry(name, 2));
        }
        roll.strike(places[0]);
        // Without its ports rather than with those of before.
        roll.note(places[1], &entry("b", 1000));
        assert_eq!(names(&one), [(1, "b".into(), 0), (2, "c".into(), 2)]);
        roll.note(places[1], &entry(&"b".repeat(PLACE), 0));
        assert_eq!(names(&one), [(2, "c".into(), 2)]);
        let mut roll = Roll::new(Some(File::create(&other).unwrap()));
        let place = roll.place();
        roll.note(place, &entry("d", 0));
        append(&one, &other).unwrap();
        assert_eq!(names(&one), [(2, "c".into(), 2), (3, "d".into(), 0)]);
        // A name has a place of its own and is no container.
        let place = roll.place();
        let ports = vec![("8080:80".into(), vec![])];
        roll.note_service(place, &Service { network: "1".into(), service: "api".into(), ports });
        assert_eq!(names(&other), [(0, "d".into(), 0)]);
        let services = read::<Service>(&other);
        assert_eq!((services.len(), services[0].1.service.as_str()), (1, "api"));
        std::fs::remove_file(&other).unwrap();
        assert_eq!(append(&one, &other).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::remove_file(&one).unwrap();
    }
}
