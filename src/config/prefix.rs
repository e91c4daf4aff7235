//! An address prefix of either family, as `10.89.0.0/24`: what it contains and what it overlaps.
//!
//! PURE. A [`Prefix`] never has host bits set. Arithmetic is on 128 bits for both families.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address prefix; no host bit is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

/// Text that is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not an address and a length.
    #[error("write ADDRESS/LENGTH, as in 10.89.0.0/24")]
    Syntax,
    /// The address is none.
    #[error("{0:?} is not an IP address")]
    Address(String),
    /// A length that the family does not have.
    #[error("the length {0:?} is not from 0 to {1}")]
    Length(String, u8),
    /// Host bits are set.
    #[error("it has host bits set: the prefix is {0}")]
    HostBits(Prefix),
}

impl Prefix {
    /// The prefix of this length that contains `address`; `None` for a length that the family
    /// does not have.
    #[must_use]
    pub fn around(address: IpAddr, len: u8) -> Option<Self> {
        let width = width(address);
        if len > width {
            return None;
        }
        let network = bits(address) & !host_mask(width - len);
        Some(Self { address: from_bits(network, address.is_ipv4()), len })
    }

    /// Its first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.address
    }

    /// Its last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        let hosts = host_mask(width(self.address) - self.len);
        from_bits(bits(self.address) | hosts, self.is_v4())
    }

    /// Its length in bits.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.len
    }

    /// Whether it is IPv4.
    #[must_use]
    pub fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The address `index` places after its first one; `None` beyond its last.
    #[must_use]
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        let address = bits(self.address).checked_add(index)?;
        let within = address <= bits(self.last());
        within.then(|| from_bits(address, self.is_v4()))
    }

    /// The prefix of the same length that follows; `None` after the last one.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        let next = bits(self.last()).checked_add(1)?;
        if self.is_v4() && next > u128::from(u32::MAX) {
            return None;
        }
        Some(Self { address: from_bits(next, self.is_v4()), len: self.len })
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_v4()
            && (bits(self.address)..=bits(self.last())).contains(&bits(address))
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.address)
    }

    /// Whether any address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl From<IpAddr> for Prefix {
    /// The address alone.
    fn from(address: IpAddr) -> Self {
        Self { address, len: width(address) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, len) = text.split_once('/').ok_or(PrefixError::Syntax)?;
        let address: IpAddr =
            address.parse().map_err(|_| PrefixError::Address(address.to_owned()))?;
        let digits = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = len.parse().ok().filter(|_| digits).and_then(|len| Self::around(address, len));
        let prefix = prefix.ok_or_else(|| PrefixError::Length(len.to_owned(), width(address)))?;
        if prefix.address == address { Ok(prefix) } else { Err(PrefixError::HostBits(prefix)) }
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The lowest `count` bits.
fn host_mask(count: u8) -> u128 {
    u128::MAX.checked_shr(128 - u32::from(count)).unwrap_or(0)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn from_bits(bits: u128, v4: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if v4 => IpAddr::V4(bits.into()),
        _ => IpAddr::V6(bits.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_read_and_written_alike() {
        for text in ["0.0.0.0/0", "10.89.0.0/24", "192.168.100.128/30", "::/0", "fd00:1::/64"] {
            assert_eq!(prefix(text).to_string(), text);
            let json = serde_json::to_string(&prefix(text)).unwrap();
            assert_eq!(serde_json::from_str::<Prefix>(&json).unwrap(), prefix(text));
        }
        for (text, message) in [
            ("10.0.0.0", "write ADDRESS/LENGTH, as in 10.89.0.0/24"),
            ("10.0.0/24", "\"10.0.0\" is not an IP address"),
            ("10.0.0.0/33", "the length \"33\" is not from 0 to 32"),
            ("10.0.0.0/", "the length \"\" is not from 0 to 32"),
            ("10.0.0.0/+8", "the length \"+8\" is not from 0 to 32"),
            ("fd00::/129", "the length \"129\" is not from 0 to 128"),
            ("10.0.0.7/24", "it has host bits set: the prefix is 10.0.0.0/24"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap_err().to_string(), message, "{text}");
        }
        assert!(serde_json::from_str::<Prefix>("\"10.0.0.7/24\"").is_err());
    }

    #[test]
    fn its_addresses_are_counted() {
        let small = prefix("192.168.100.128/30");
        assert_eq!(small.nth(3), Some(small.last()));
        assert_eq!(small.nth(4), None);
        assert_eq!(small.next(), Some(prefix("192.168.100.132/30")));
        assert_eq!(prefix("255.255.255.0/24").next(), None);
        assert_eq!(prefix("0.0.0.0/0").last().to_string(), "255.255.255.255");
        assert_eq!(prefix("::/0").next(), None);
        assert_eq!(prefix("fd00::/64").nth(2).unwrap().to_string(), "fd00::2");
        assert_eq!(Prefix::around("10.1.2.3".parse().unwrap(), 33), None);
    }

    #[test]
    fn overlap_is_mutual_and_within_one_family() {
        for (a, b, overlap) in [
            ("10.0.0.0/8", "10.89.0.0/24", true),
            ("10.89.0.0/24", "10.89.1.0/24", false),
            ("0.0.0.0/0", "10.0.0.0/8", true),
            ("0.0.0.0/0", "::/0", false),
            ("fd00::/8", "fd00:1::/64", true),
        ] {
            let (a, b) = (prefix(a), prefix(b));
            assert_eq!((a.overlaps(&b), b.overlaps(&a)), (overlap, overlap), "{a} {b}");
        }
        assert!(!prefix("10.0.0.0/24").contains("::a00:0".parse().unwrap()));
    }
}
