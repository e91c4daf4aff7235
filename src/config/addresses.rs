//! The addresses of a network and of what is on it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4, always there.
    pub v4: Family<Ipv4Addr>,
    /// IPv6, unless `--no-ipv6`.
    pub v6: Option<Family<Ipv6Addr>>,
}

/// One address family of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family<A> {
    /// The on-link prefix.
    pub subnet: Cidr<A>,
    /// The router: default route, and where `--host-access` services are.
    pub gateway: A,
    /// The DNS forwarder.
    pub dns: A,
}

/// An address prefix. `address` has no host bits set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr<A> {
    /// The first address of the prefix.
    pub address: A,
    /// Its length in bits.
    pub prefix_len: u8,
}

impl Default for Addresses {
    /// 10.0.2.0/24 and fd72:6e73:6e65::/64 ("rns ne" in ASCII), a unique local prefix (RFC 4193).
    fn default() -> Self {
        let v6 = |last| Ipv6Addr::new(0xfd72, 0x6e73, 0x6e65, 0, 0, 0, 0, last);
        Self {
            v4: Family {
                subnet: Cidr { address: Ipv4Addr::new(10, 0, 2, 0), prefix_len: 24 },
                gateway: Ipv4Addr::new(10, 0, 2, 2),
                dns: Ipv4Addr::new(10, 0, 2, 3),
            },
            v6: Some(Family {
                subnet: Cidr { address: v6(0), prefix_len: 64 },
                gateway: v6(2),
                dns: v6(3),
            }),
        }
    }
}

impl Family<Ipv6Addr> {
    /// The address in the subnet, a /64, that a machine with this hardware address gives itself
    /// when a router is advertised to it: RFC 4862, with the interface identifier of RFC 4291,
    /// appendix A.
    #[must_use]
    pub fn self_assigned(&self, mac: MacAddress) -> Ipv6Addr {
        let [a, b, c, d, e, f] = mac.0;
        let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from_bits(self.subnet.address.to_bits() | u128::from(identifier))
    }
}

impl Cidr<Ipv4Addr> {
    /// The prefix of this length, in bits, that `address` is in.
    #[must_use]
    pub fn around(address: Ipv4Addr, prefix_len: u8) -> Self {
        let whole = Self { address, prefix_len };
        Self { address: Ipv4Addr::from_bits(address.to_bits() & whole.mask()), prefix_len }
    }

    /// The bits that are the prefix's.
    #[must_use]
    pub fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    /// Whether the prefix covers `address`.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.address.to_bits() & self.mask()
    }

    /// The last address of the prefix, which RFC 919 calls its broadcast address.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        let host = u32::MAX.checked_shr(u32::from(self.prefix_len)).unwrap_or(0);
        Ipv4Addr::from_bits(self.address.to_bits() | host)
    }
}

impl Cidr<Ipv6Addr> {
    /// The prefix of this length, in bits, that `address` is in.
    #[must_use]
    pub fn around(address: Ipv6Addr, prefix_len: u8) -> Self {
        let whole = Self { address, prefix_len };
        Self { address: Ipv6Addr::from_bits(address.to_bits() & whole.mask()), prefix_len }
    }

    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    /// Whether the prefix covers `address`.
    #[must_use]
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        address.to_bits() & self.mask() == self.address.to_bits() & self.mask()
    }
}

/// An IEEE 802 hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether it is of a group of interfaces, so that none can have it for its own.
    #[must_use]
    pub fn is_group(self) -> bool {
        let Self([first, ..]) = self;
        first & 1 == 1
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
