//! By which names a guest has found the addresses that it talks to: A and AAAA answers that it was
//! given. For people who look at flows, and to leave names that are denied later: nothing is opened
//! by it.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::message::{HEADER_LEN, addresses};
use crate::sorted::SortedMap;

/// Most addresses that are remembered; beyond, the one that was learnt first is forgotten.
const MAX_ADDRESSES: usize = 1024;
/// Most addresses that one answer may teach.
const MAX_PER_ANSWER: usize = 16;

/// Names by address.
#[derive(Debug, Default)]
pub(in crate::engine) struct Seen {
    names: SortedMap<IpAddr, String>,
    order: VecDeque<IpAddr>,
}

impl Seen {
    /// Takes note of the addresses in an answer, under the name that was asked for.
    pub(super) fn learn(&mut self, answer: &[u8]) {
        let Some(name) = question(answer) else {
            return;
        };
        for (address, _) in addresses(answer).take(MAX_PER_ANSWER) {
            if self.names.insert(address, name.clone()).is_none() {
                self.order.push_back(address);
            }
            if self.order.len() > MAX_ADDRESSES
                && let Some(oldest) = self.order.pop_front()
            {
                self.names.remove(&oldest);
            }
        }
    }

    /// Every address, with the name that it was last found by.
    pub(in crate::engine) fn all(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.names.iter().map(|(address, name)| (*address, name.as_str()))
    }

    /// The name that an address was last found by.
    pub(in crate::engine) fn name(&self, address: IpAddr) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }
}

/// The name in the question, as people write it: lower case, bytes that are no letter, digit,
/// hyphen or underscore as `\DDD` (RFC 1035, section 5.1).
fn question(answer: &[u8]) -> Option<String> {
    let mut rest = answer.get(HEADER_LEN..)?;
    let mut name = String::new();
    loop {
        let (&length, after) = rest.split_first()?;
        if length == 0 {
            return (!name.is_empty()).then_some(name);
        }
        let (label, after) = after.split_at_checked(usize::from(length))?;
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'-' | b'_' => name.push(char::from(*byte)),
                b'A'..=b'Z' => name.push(char::from(byte.to_ascii_lowercase())),
                other => name.push_str(&format!("\\{other:03}")),
            }
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(last: u8) -> Vec<u8> {
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
        message.extend_from_slice(b"\x01A\x04te t\0\0\x01\0\x01");
        // An alias, then an address under it.
        message.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0e");
        message.extend_from_slice(b"\xc0\x24\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02");
        message.push(last);
        message
    }

    #[test]
    fn an_address_has_the_name_that_was_asked_for() {
        let mut seen = Seen::default();
        seen.learn(&answer(9));
        assert_eq!(seen.name("192.0.2.9".parse().unwrap()), Some("a.te\\032t"));
        assert_eq!(seen.name("192.0.2.8".parse().unwrap()), None);
    }

    #[test]
    fn what_is_cut_short_teaches_nothing_and_does_not_panic() {
        let whole = answer(9);
        for length in 0..whole.len() {
            let mut seen = Seen::default();
            seen.learn(&whole[..length]);
            assert_eq!(seen.name("192.0.2.9".parse().unwrap()), None, "{length}");
        }
    }

    #[test]
    fn the_first_is_forgotten_for_the_last() {
        let mut seen = Seen::default();
        for number in 0..=MAX_ADDRESSES {
            let mut message = answer(0);
            let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
            let end = message.len();
            message[end - 2..].copy_from_slice(&[high, low]);
            seen.learn(&message);
        }
        assert_eq!(seen.name("192.0.0.0".parse().unwrap()), None);
        assert!(seen.name("192.0.0.1".parse().unwrap()).is_some());
        assert_eq!((seen.names.len(), seen.order.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
    }
}
