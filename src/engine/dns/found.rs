//! Where a container has found the names that its rules are about ([`crate::config::Egress`]).
//!
//! Taken from the answers that the forwarder gave it, whose servers it could not choose. An address
//! is the name's for as long as its record lives, and [`GRACE`] longer: programs connect a while
//! after they have asked.

use std::net::IpAddr;

use smoltcp::time::Duration;

use super::message::{addresses, question_name};
use crate::config::Name;
use crate::engine::Instant;
use crate::sorted::SortedMap;

/// How long an address is a name's beyond its time.
const GRACE: Duration = Duration::from_secs(60);
/// The longest time to live that is believed, in seconds.
const MAX_TTL: u32 = 86_400;
/// Most addresses of one container, and most names of an address; those that are over soonest give
/// way, a quarter of all addresses at once: to find out which costs a look at each.
const MAX_ADDRESSES: usize = 1024;
const MAX_NAMES: usize = 8;

/// Names by address, with the end of each one's time.
#[derive(Debug, Default)]
pub(in crate::engine) struct FoundAt {
    names: SortedMap<IpAddr, Vec<(Name, Instant)>>,
}

impl FoundAt {
    /// Takes note of the addresses in an answer, if `wanted` is the name that was asked for: its
    /// labels in lower case.
    pub(in crate::engine) fn learn(
        &mut self,
        answer: &[u8],
        wanted: impl Fn(&[u8]) -> bool,
        now: Instant,
    ) {
        let Some(name) = question_name(answer).map(Name::from_labels) else {
            return;
        };
        if !wanted(name.labels()) {
            return;
        }
        for (address, ttl) in addresses(answer) {
            let until = now + Duration::from_secs(ttl.min(MAX_TTL).into()) + GRACE;
            self.note(address, &name, until);
        }
    }

    /// Takes note of where a name is until then.
    pub(in crate::engine) fn note(&mut self, address: IpAddr, name: &Name, until: Instant) {
        if !self.names.contains_key(&address) && self.names.len() >= MAX_ADDRESSES {
            self.forget_some();
        }
        let names = self.names.or_default(address);
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = until.max(*known),
            None => names.push((name.clone(), until)),
        }
        if names.len() > MAX_NAMES
            && let Some(first) = soonest(names)
        {
            names.remove(first);
        }
    }

    /// The names that an address was found by, as labels, with the end of each one's time.
    pub(in crate::engine) fn names(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = (&[u8], Instant)> {
        let names = self.names.get(&address).into_iter().flatten();
        names.map(|(name, until)| (name.labels(), *until))
    }

    fn forget_some(&mut self) {
        let end = |address: &IpAddr, names: &[(Name, Instant)]| {
            (names.iter().map(|(_, until)| *until).max(), *address)
        };
        let mut ends: Vec<_> =
            self.names.iter().map(|(address, names)| end(address, names)).collect();
        let (_, last, _) = ends.select_nth_unstable(MAX_ADDRESSES / 4 - 1);
        self.names.retain(|address, names| end(address, names) > *last);
    }
}

/// Which of an address's names is over first.
fn soonest(names: &[(Name, Instant)]) -> Option<usize> {
    let places = names.iter().enumerate().min_by_key(|(_, (_, until))| *until);
    places.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `host.test` with one address.
    fn answer(host: &str, address: [u8; 4], ttl: u32) -> Vec<u8> {
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        message.push(u8::try_from(host.len()).unwrap());
        message.extend_from_slice(host.as_bytes());
        message.extend_from_slice(b"\x04Test\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01");
        message.extend_from_slice(&ttl.to_be_bytes());
        message.extend_from_slice(&[0, 4]);
        message.extend_from_slice(&address);
        message
    }

    fn names(found: &FoundAt, address: [u8; 4]) -> Vec<(String, i64)> {
        let names = found.names(address.into());
        names.map(|(name, end)| (Name::from_labels(name).to_string(), end.secs())).collect()
    }

    // F4
    #[test]
    fn an_address_is_a_names_for_its_time_and_a_while() {
        let mut found = FoundAt::default();
        let now = Instant::from_secs(100);
        let wanted = |labels: &[u8]| labels != b"\x01x\x04test\0";
        found.learn(&answer("A", [192, 0, 2, 9], 10), wanted, now);
        found.learn(&answer("b", [192, 0, 2, 9], u32::MAX), wanted, now);
        found.learn(&answer("x", [192, 0, 2, 9], 10), wanted, now);
        // Less does not take away what was said before.
        found.learn(&answer("a", [192, 0, 2, 9], 1), wanted, now);
        let expected = [("a.test".to_owned(), 170), ("b.test".to_owned(), 86_560)];
        assert_eq!(names(&found, [192, 0, 2, 9]), expected);
        assert_eq!(names(&found, [192, 0, 2, 8]), []);
    }

    #[test]
    fn a_container_cannot_have_it_grow_without_end() {
        let mut found = FoundAt::default();
        let now = Instant::ZERO;
        for number in 0..3000_u16 {
            let [high, low] = number.to_be_bytes();
            found.learn(&answer("a", [10, 0, high, low], number.into()), |_| true, now);
        }
        assert!(found.names.len() <= MAX_ADDRESSES);
        assert_eq!(names(&found, [10, 0, 0, 0]), []);
        assert_eq!(names(&found, [10, 0, 11, 183]).len(), 1);
        for number in 0..20 {
            found.learn(&answer(&format!("n{number}"), [10, 0, 11, 183], 9), |_| true, now);
        }
        assert_eq!(names(&found, [10, 0, 11, 183]).len(), MAX_NAMES);
    }

    // To look for who has to go costs as much as to look at all, so it is not done for each.
    #[test]
    fn there_is_room_for_many_where_room_was_made_for_one() {
        let mut found = FoundAt::default();
        let add = |found: &mut FoundAt, number: u16| {
            let [high, low] = number.to_be_bytes();
            found.learn(&answer("a", [10, 0, high, low], 9), |_| true, Instant::ZERO);
        };
        (0..=1024).for_each(|number| add(&mut found, number));
        assert_eq!(found.names.len(), MAX_ADDRESSES - MAX_ADDRESSES / 4 + 1);
    }

    #[test]
    fn what_is_cut_short_teaches_nothing_and_does_not_panic() {
        let whole = answer("a", [192, 0, 2, 9], 10);
        for length in 0..whole.len() {
            let mut found = FoundAt::default();
            found.learn(&whole[..length], |_| true, Instant::ZERO);
            assert_eq!(names(&found, [192, 0, 2, 9]), [], "{length}");
        }
    }
}
