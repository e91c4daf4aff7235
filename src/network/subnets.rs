//! Which subnet a network gets that asks for none.
//!
//! PURE: what is taken is passed in. IPv4 comes from Podman's range first (10.89.0.0 to
//! 10.255.255.255 in steps of /24), then from 172.16.0.0/12 and 192.168.0.0/16, where a company's
//! route covers all of 10.0.0.0/8. IPv6 is a unique local prefix with a random global identifier
//! (RFC 4193, section 3.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::prefix::Prefix;

/// The first free IPv4 subnet, a /24; `None` when there is none left.
#[must_use]
pub fn choose_v4(taken: &[Prefix]) -> Option<Prefix> {
    RANGES.iter().find_map(|(first, last)| {
        let mut candidate = Prefix::around((*first).into(), 24)?;
        loop {
            if !taken.iter().any(|taken| taken.overlaps(&candidate)) {
                return Some(candidate);
            }
            candidate = candidate.next().filter(|next| next.first() <= IpAddr::V4(*last))?;
        }
    })
}

/// A free unique local /64; `random` gives its global identifier. `None` only where the host has
/// a route for all of fd00::/8.
#[must_use]
pub fn choose_v6(taken: &[Prefix], random: u64) -> Option<Prefix> {
    (0..TRIES).find_map(|attempt| {
        let identifier = random.wrapping_add(attempt) & GLOBAL_ID_MASK;
        let bits = u128::from(0xfd_u8) << 120 | u128::from(identifier) << 80;
        let candidate = Prefix::around(Ipv6Addr::from_bits(bits).into(), 64)?;
        (!taken.iter().any(|taken| taken.overlaps(&candidate))).then_some(candidate)
    })
}

/// Whether a host's route keeps a subnet from being chosen. A default route does not, nor do the
/// halves and quarters of one that VPNs use in its place (`0.0.0.0/1` and `128.0.0.0/1`).
#[must_use]
pub fn is_specific(route: &Prefix) -> bool {
    route.length() > 3
}

/// First and last subnet of each range.
const RANGES: [(Ipv4Addr, Ipv4Addr); 3] = [
    (Ipv4Addr::new(10, 89, 0, 0), Ipv4Addr::new(10, 255, 255, 0)),
    (Ipv4Addr::new(172, 16, 0, 0), Ipv4Addr::new(172, 31, 255, 0)),
    (Ipv4Addr::new(192, 168, 0, 0), Ipv4Addr::new(192, 168, 255, 0)),
];

/// A global identifier has 40 bits (RFC 4193, section 3.1).
const GLOBAL_ID_MASK: u64 = (1 << 40) - 1;

/// How many global identifiers are tried.
const TRIES: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn chosen(taken: &[&str]) -> Option<String> {
        choose_v4(&prefixes(taken)).map(|prefix| prefix.to_string())
    }

    // E1
    #[test]
    fn the_first_free_subnet_is_chosen() {
        for (taken, expected) in [
            (&[][..], "10.89.0.0/24"),
            (&["10.89.0.0/24", "10.89.1.0/24", "192.168.0.0/16"], "10.89.2.0/24"),
            (&["10.89.0.7/32"], "10.89.1.0/24"),
            (&["10.89.0.0/16"], "10.90.0.0/24"),
            (&["10.0.0.0/8"], "172.16.0.0/24"),
            (&["10.0.0.0/8", "172.16.0.0/12"], "192.168.0.0/24"),
            (&["fd00::/8"], "10.89.0.0/24"),
        ] {
            assert_eq!(chosen(taken).as_deref(), Some(expected), "{taken:?}");
        }
        assert_eq!(chosen(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), None);
    }

    // E3
    #[test]
    fn an_ipv6_subnet_is_unique_and_local() {
        let chosen = choose_v6(&[], 0xffff_ff12_3456_789a).unwrap();
        assert_eq!(chosen.to_string(), "fd12:3456:789a::/64");
        let next = choose_v6(&[chosen], 0x12_3456_789a).unwrap();
        assert_eq!(next.to_string(), "fd12:3456:789b::/64");
        assert_eq!(choose_v6(&prefixes(&["fd00::/8"]), 7), None);
    }

    #[test]
    fn a_vpns_halves_of_the_default_route_block_nothing() {
        let specific = |text: &str| is_specific(&text.parse().unwrap());
        assert!(!specific("0.0.0.0/0") && !specific("128.0.0.0/1") && !specific("2000::/3"));
        assert!(specific("10.0.0.0/8") && specific("192.0.2.0/24"));
    }
}
