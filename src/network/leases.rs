//! The leases of a network over the end of its process: a journal of one line for each change.
//!
//! The process of a network has given up every file when it serves, so the journal is open before:
//! a lease that is new or has changed is appended with one write(2), and the last line about a name
//! counts. Reading leaves out what is torn or strange; a journal that has grown is written anew at
//! the start. Lines are small JSON objects, as `{"name":"web","mac":"02:...","v4":"10.89.0.2"}`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ipam::MAX_REMEMBERED;
use crate::config::{Lease, MacAddress};
use crate::json;
use crate::sorted::{SortedMap, SortedSet};

/// The journal of a network's leases.
#[derive(Debug)]
pub struct Journal {
    file: Option<File>,
    known: SortedMap<String, (Lease, Owner)>,
    /// Bytes that may yet be appended.
    room: usize,
}

/// The user whose container has a lease, if that is not the network's owner.
pub type Owner = Option<u32>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    mac: String,
    v4: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v6: Option<Ipv6Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Owner,
}

impl Journal {
    /// A journal that is kept nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { file: None, known: SortedMap::new(), room: 0 }
    }

    /// Opens the journal at `path`, which is made if it is not there.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut bytes = Vec::new();
        (&file).take(MAX_LEN).read_to_end(&mut bytes)?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let count = lines.clone().count();
        let kept = last_ones(lines.rev().filter_map(read));
        let torn = bytes.last().is_some_and(|last| *last != b'\n');
        let mut len = bytes.len();
        if torn || count > 2 * kept.len() + 64 {
            let text: String = kept.iter().map(|(name, kept)| line(name, *kept)).collect();
            super::store::replace(path, text.trim_end().as_bytes())?;
            file = options.open(path)?;
            len = text.len();
        }
        let room = usize::try_from(MAX_LEN).unwrap_or(usize::MAX).saturating_sub(len);
        Ok(Self { file: Some(file), known: kept.into_iter().collect(), room })
    }

    /// What was noted, by name.
    pub fn known(&self) -> impl Iterator<Item = (&str, Lease, Owner)> {
        self.known.iter().map(|(name, (lease, owner))| (name.as_str(), *lease, *owner))
    }

    /// Takes note of a lease. One that cannot be written is lost with this process, no more. Those of
    /// other users leave half of the room to the owner's.
    pub fn note(&mut self, name: &str, lease: Lease, owner: Owner) {
        let kept = (lease, owner);
        if self.known.get(name) == Some(&kept) {
            return;
        }
        let line = line(name, kept);
        let Some(room) = self.room.checked_sub(line.len()) else { return };
        if owner.is_some() && room < usize::try_from(MAX_LEN / 2).unwrap_or(usize::MAX) {
            return;
        }
        self.known.insert(name.to_owned(), kept);
        let Some(file) = &mut self.file else { return };
        // One call, unless the disk is full; a line that is torn is left out when it is read.
        match file.write_all(line.as_bytes()) {
            Ok(()) => self.room = room,
            Err(error) => log::debug!("the lease of {name} is not kept: {error}"),
        }
    }
}

/// What counts of lines that are read from the last to the first, in their order: the last one about
/// a name, and of other users no more than is remembered.
fn last_ones(
    lines: impl Iterator<Item = (String, (Lease, Owner))>,
) -> Vec<(String, (Lease, Owner))> {
    let mut seen = SortedSet::default();
    let mut of_others: SortedMap<u32, usize> = SortedMap::new();
    let mut kept = Vec::new();
    for (name, (lease, owner)) in lines {
        if !seen.insert(name.clone()) {
            continue;
        }
        if let Some(owner) = owner {
            let count = of_others.get(&owner).copied().unwrap_or_default();
            if count == MAX_REMEMBERED {
                continue;
            }
            of_others.insert(owner, count + 1);
        }
        kept.push((name, (lease, owner)));
    }
    kept.reverse();
    kept
}

fn read(line: &[u8]) -> Option<(String, (Lease, Owner))> {
    let Line { name, mac, v4, v6, owner } = json::read(line).ok()?;
    Some((name, (Lease { mac: mac_address(&mac)?, ..Lease::new(v4, v6) }, owner)))
}

fn line(name: &str, (lease, owner): (Lease, Owner)) -> String {
    let Lease { mac, v4, v6, .. } = lease;
    let line = Line { name: name.to_owned(), mac: mac.to_string(), v4, v6, owner };
    // Text and addresses always have a form in JSON.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

/// Reads six pairs of hex digits.
#[must_use]
pub fn mac_address(text: &str) -> Option<MacAddress> {
    let mut octets = [0; 6];
    let mut pairs = text.split(':');
    for octet in &mut octets {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        *octet = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(MacAddress(octets))
}

/// How large a journal may grow before its network's process ends, in bytes: some 10,000 changes.
const MAX_LEN: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let number = getrandom::u64().unwrap();
            Self(std::env::temp_dir().join(format!("rnsnet-leases-{number:x}")))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    fn lease(last: u8) -> Lease {
        Lease::new([10, 89, 0, last].into(), (last > 7).then(|| "fd00::7".parse().unwrap()))
    }

    fn names(journal: &Journal) -> Vec<(String, Lease)> {
        journal.known().map(|(name, lease, _)| (name.to_owned(), lease)).collect()
    }

    // E19 E21
    #[test]
    fn the_last_line_about_a_name_counts() {
        let scratch = Scratch::new();
        let mut journal = Journal::open(&scratch.0).unwrap();
        for (name, last) in [("web", 2), ("db", 9), ("web", 3), ("web", 3)] {
            journal.note(name, lease(last), None);
        }
        assert_eq!(std::fs::read_to_string(&scratch.0).unwrap().lines().count(), 3);
        let again = Journal::open(&scratch.0).unwrap();
        assert_eq!(names(&again), [("db".into(), lease(9)), ("web".into(), lease(3))]);
    }

    // E19 E22
    #[test]
    fn other_users_leave_room_for_the_owner() {
        let scratch = Scratch::new();
        let mut journal = Journal::open(&scratch.0).unwrap();
        journal.note("cam", lease(7), Some(1002));
        for number in 0..20_000 {
            journal.note(&format!("flood{number}"), lease(9), Some(1001));
        }
        journal.note("web", lease(2), None);
        let full = std::fs::metadata(&scratch.0).unwrap().len();
        assert!((MAX_LEN / 2 - 100..MAX_LEN / 2 + 100).contains(&full), "{full}");
        // The last of them are kept, so that there is room again.
        let mut again = Journal::open(&scratch.0).unwrap();
        assert_eq!(again.known().count(), 2 + MAX_REMEMBERED);
        again.note("late", lease(3), Some(1001));
        let again = Journal::open(&scratch.0).unwrap();
        let of = |name: &str| again.known().find(|known| known.0 == name).map(|known| known.2);
        assert_eq!((of("cam"), of("web")), (Some(Some(1002)), Some(None)));
        assert_eq!((of("flood0"), of("late")), (None, Some(Some(1001))));
    }

    #[test]
    fn what_is_torn_or_strange_is_left_out() {
        let scratch = Scratch::new();
        let good = line("web", (lease(2), None));
        let text = format!("{good}{{}}\nnonsense\n\u{0}\n{}", &good[..20]);
        std::fs::write(&scratch.0, text).unwrap();
        let mut journal = Journal::open(&scratch.0).unwrap();
        assert_eq!(names(&journal), [("web".into(), lease(2))]);
        // What is noted next does not hang on the torn line.
        journal.note("db", lease(9), None);
        assert_eq!(Journal::open(&scratch.0).unwrap().known().count(), 2);
    }

    #[test]
    fn a_journal_that_has_grown_is_written_anew() {
        let scratch = Scratch::new();
        let mut journal = Journal::open(&scratch.0).unwrap();
        for last in 0..200 {
            journal.note("web", lease(last), None);
        }
        drop(Journal::open(&scratch.0).unwrap());
        assert_eq!(std::fs::read_to_string(&scratch.0).unwrap(), line("web", (lease(199), None)));
    }
}
