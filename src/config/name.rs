//! Domain names, as they are typed and as they stand in a DNS message.
//!
//! A [`Name`] holds its labels each behind a length byte, in lower case, with the root's empty
//! label at the end: what a question holds is compared with it byte for byte. Names of containers
//! and hosts may hold underscores, which RFC 1123 does not allow and everybody uses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A domain name in lower case, uncompressed (RFC 1035, section 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why a text is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or nothing between two dots.
    #[error("a name has no empty part")]
    EmptyLabel,
    /// RFC 1035, section 2.3.4.
    #[error("a part of a name has at most 63 characters")]
    LongLabel,
    /// RFC 1035, section 2.3.4, with the length bytes.
    #[error("a name has at most 253 characters")]
    TooLong,
    /// Anything but letters, digits, hyphens and underscores.
    #[error("a name cannot contain {0:?}")]
    Character(char),
}

/// Longest name with its length bytes (RFC 1035, section 2.3.4), in bytes.
pub(crate) const MAX_NAME_LEN: usize = 255;
/// Longest label (the same section), in bytes.
pub(crate) const MAX_LABEL_LEN: u8 = 63;

impl Name {
    /// The root, below which every name is.
    #[must_use]
    pub fn root() -> Self {
        Self([0].into())
    }

    /// A name from its labels as a message has them, the root's included. The caller has checked
    /// their lengths.
    pub(crate) fn from_labels(labels: &[u8]) -> Self {
        Self(labels.to_ascii_lowercase().into())
    }

    /// The labels, each behind its length, the root's included.
    #[must_use]
    pub fn labels(&self) -> &[u8] {
        &self.0
    }

    /// This name below `parent`; `None` if that is too long.
    #[must_use]
    pub fn below(&self, parent: &Self) -> Option<Self> {
        let own = self.0.len().checked_sub(1).and_then(|end| self.0.get(..end))?;
        let joined = [own, &parent.0].concat();
        (joined.len() <= MAX_NAME_LEN).then(|| Self(joined.into()))
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The name under which an address is asked for backwards: `in-addr.arpa` (RFC 1035, section
    /// 3.5) or `ip6.arpa` (RFC 3596, section 2.5).
    #[must_use]
    pub fn reverse_of(address: IpAddr) -> Self {
        let mut labels = Vec::new();
        match address {
            IpAddr::V4(ip) => {
                for octet in ip.octets().iter().rev() {
                    let text = octet.to_string();
                    labels.push(u8::try_from(text.len()).unwrap_or(3));
                    labels.extend_from_slice(text.as_bytes());
                }
                labels.extend_from_slice(b"\x07in-addr\x04arpa\0");
            }
            IpAddr::V6(ip) => {
                for octet in ip.octets().iter().rev() {
                    for digit in [octet & 0xf, octet >> 4] {
                        labels.push(1);
                        labels.extend(char::from_digit(digit.into(), 16).map(|c| c as u8));
                    }
                }
                labels.extend_from_slice(b"\x03ip6\x04arpa\0");
            }
        }
        Self(labels.into())
    }

    /// The address that is asked for backwards by this name, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let text = self.to_string();
        let address = if let Some(octets) = text.strip_suffix(".in-addr.arpa") {
            let mut octets: Vec<&str> = octets.split('.').collect();
            octets.reverse();
            octets.join(".").parse::<Ipv4Addr>().ok()?.into()
        } else {
            let digits = text.strip_suffix(".ip6.arpa")?.split('.').rev();
            let value =
                digits.map(|digit| u128::from_str_radix(digit, 16).ok().filter(|d| *d < 16));
            let value = value.map(|digit| digit.ok_or(())).collect::<Result<Vec<_>, ()>>().ok()?;
            let address = value.iter().fold(0, |sum, digit| sum << 4 | digit);
            (value.len() == 32).then(|| Ipv6Addr::from_bits(address))?.into()
        };
        // One address has one name: no leading zeros or signs.
        (Self::reverse_of(address) == *self).then_some(address)
    }
}

/// A name and each of its parents in turn, down to the root.
pub(crate) fn parents(labels: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(labels), |labels| {
        let (length, rest) = labels.split_first()?;
        if *length == 0 {
            return None;
        }
        rest.get(usize::from(*length)..).filter(|parent| !parent.is_empty())
    })
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads a name with or without the root's dot at its end.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut labels = Vec::with_capacity(text.len() + 2);
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if let Some(c) = label.chars().find(|c| !plain(c)) {
                return Err(NameError::Character(c));
            }
            if label.is_empty() {
                return Err(NameError::EmptyLabel);
            }
            let length = u8::try_from(label.len()).ok().filter(|length| *length <= MAX_LABEL_LEN);
            labels.push(length.ok_or(NameError::LongLabel)?);
            labels.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        labels.push(0);
        if labels.len() > MAX_NAME_LEN {
            return Err(NameError::TooLong);
        }
        Ok(Self(labels.into()))
    }
}

impl fmt::Display for Name {
    /// Without the root's dot, unless that is all. A dot within a label is told from those between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in parents(&self.0).enumerate() {
            let Some((length @ 1.., rest)) = part.split_first() else {
                break;
            };
            if index > 0 {
                f.write_str(".")?;
            }
            let label = rest.get(..usize::from(*length)).unwrap_or_default();
            write!(f, "{}", label.escape_ascii().to_string().replace('.', "\\."))?;
        }
        if self.is_root() { f.write_str(".") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let name: Name = "Web.Example.test.".parse().unwrap();
        assert_eq!(name.labels(), b"\x03web\x07example\x04test\0");
        assert_eq!(name.to_string(), "web.example.test");
        assert_eq!("my_db-1".parse::<Name>().unwrap().to_string(), "my_db-1");
        let below = "web".parse::<Name>().unwrap().below(&"n1".parse().unwrap()).unwrap();
        assert_eq!(below.to_string(), "web.n1");
        assert_eq!(below.below(&Name::root()), Some(below));
    }

    #[test]
    fn odd_names_are_not_taken_for_others() {
        for (labels, text) in
            [(&b"\0"[..], "."), (b"\x06a.test\0", "a\\.test"), (b"\x02\n\x1b\0", "\\n\\x1b")]
        {
            assert_eq!(Name::from_labels(labels).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (text, error) in [
            ("", NameError::EmptyLabel),
            (".", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a b", NameError::Character(' ')),
            ("*.a", NameError::Character('*')),
            ("bücher", NameError::Character('ü')),
            (&"a".repeat(64), NameError::LongLabel),
            (&"a.".repeat(130), NameError::TooLong),
        ] {
            assert_eq!(text.parse::<Name>(), Err(error), "{text}");
        }
        assert!("a".repeat(63).parse::<Name>().is_ok());
        assert!("a.".repeat(127).parse::<Name>().is_ok());
        let long: Name = "a.".repeat(127).parse().unwrap();
        assert_eq!(long.below(&"n1".parse().unwrap()), None);
    }

    #[test]
    fn parents_end_with_the_root() {
        let parents: Vec<_> = parents(b"\x01a\x02bc\0").collect();
        assert_eq!(parents, [&b"\x01a\x02bc\0"[..], b"\x02bc\0", b"\0"]);
    }

    #[test]
    fn addresses_have_names() {
        let name = |address: &str| Name::reverse_of(address.parse().unwrap()).to_string();
        assert_eq!(name("10.0.2.100"), "100.2.0.10.in-addr.arpa");
        assert_eq!(
            name("2001:db8::567:89ab"),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
        for address in ["10.0.2.100", "0.0.0.0", "2001:db8::567:89ab", "::"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Name::reverse_of(address).address(), Some(address));
        }
        for text in ["2.0.10.in-addr.arpa", "256.2.0.10.in-addr.arpa", "1.ip6.arpa", "web.test"] {
            assert_eq!(text.parse::<Name>().unwrap().address(), None, "{text}");
        }
    }
}
