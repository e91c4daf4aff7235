//! Which machine of a private link has which address.
//!
//! The link ends in one container, but that may have bridged it to a virtual machine or to containers
//! of its own, each with a hardware address. Who has which address is what they say of themselves in
//! ARP and IP, so a machine can take the addresses of another behind the same TAP, as on any wire, and
//! of nobody else. What is for an address that was never heard goes to who spoke last. As long as only
//! one has spoken, nothing is known and all is for that one.
//! Read first: RFC 826, RFC 4861 section 7.2.5. Not here: shared networks, which learn nothing.

use std::net::IpAddr;

use crate::config::MacAddress;

/// Most addresses that are known; the one heard longest ago gives way. 24 bytes each.
const MOST: usize = 64;

/// The addresses of the machines on one link.
#[derive(Debug, Clone, Default)]
pub(super) struct Machines {
    /// In the order in which they were last heard, the latest at the end.
    known: Vec<(IpAddr, MacAddress)>,
}

impl Machines {
    /// Whether there is one machine, as far as is known.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The machine that has just spoken from an address.
    #[inline(never)]
    pub(super) fn note(&mut self, address: IpAddr, mac: MacAddress) {
        if self.known.last() == Some(&(address, mac)) {
            return;
        }
        let own = self.known.iter().position(|(known, _)| *known == address);
        if let Some(at) = own.or_else(|| (self.known.len() >= MOST).then_some(0)) {
            let (known, was) = self.known.remove(at);
            if known == address && was != mac {
                // Mostly one machine that has another hardware address now, for all it has.
                self.known.retain(|(_, of)| *of != was);
            }
        }
        self.known.push((address, mac));
    }

    /// The machine that has an address, or the group's own.
    // Not in every place that composes a packet: few links have several machines.
    #[inline(never)]
    pub(super) fn find(&self, address: IpAddr) -> Option<MacAddress> {
        let known = self.known.iter().find(|(known, _)| *known == address);
        known.map(|(_, mac)| *mac).or_else(|| group(address))
    }
}

/// The hardware address of a group (RFC 1112, section 6.4; RFC 2464, section 7) or of everybody.
fn group(address: IpAddr) -> Option<MacAddress> {
    match address {
        IpAddr::V4(ip) if ip.is_broadcast() => Some(MacAddress([0xff; 6])),
        IpAddr::V4(ip) if ip.is_multicast() => {
            let [_, a, b, c] = ip.octets();
            Some(MacAddress([1, 0, 0x5e, a & 0x7f, b, c]))
        }
        IpAddr::V6(ip) if ip.is_multicast() => {
            let [.., a, b, c, d] = ip.octets();
            Some(MacAddress([0x33, 0x33, a, b, c, d]))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 2, last].into()
    }

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn who_floods_the_table_pushes_out_those_alone_that_are_silent() {
        let mut machines = Machines::default();
        machines.note(address(1), mac(1));
        for step in 0..100_000_u32 {
            machines.note(address(2), mac(2));
            machines.note(IpAddr::V4((0x0a01_0000 + step).into()), mac(3));
            assert!(machines.known.len() <= MOST && machines.known.capacity() <= 2 * MOST);
        }
        assert_eq!(machines.find(address(2)), Some(mac(2)));
        assert_eq!(machines.find(address(1)), None);
    }

    #[test]
    fn a_machine_with_another_hardware_address_has_it_for_all_of_its_addresses() {
        let mut machines = Machines::default();
        for (last, of) in [(1, 1), (2, 1), (3, 3)] {
            machines.note(address(last), mac(of));
        }
        machines.note(address(2), mac(4));
        let found = [1, 2, 3].map(|last| machines.find(address(last)));
        assert_eq!(found, [None, Some(mac(4)), Some(mac(3))]);
    }

    #[test]
    fn groups_have_their_own_hardware_addresses() {
        for (address, mac) in [
            ("255.255.255.255", Some([0xff; 6])),
            ("239.255.2.3", Some([1, 0, 0x5e, 0x7f, 2, 3])),
            ("ff02::1:ff00:2", Some([0x33, 0x33, 0xff, 0, 0, 2])),
            ("10.0.2.255", None),
            ("fd00::1", None),
        ] {
            assert_eq!(group(address.parse().unwrap()), mac.map(MacAddress), "{address}");
        }
    }
}
