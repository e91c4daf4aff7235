//! The interfaces, addresses and routes of the namespace that this process is in, by rtnetlink(7).
//!
//! Reads only; what is to be made of them is decided in `crate::pasta`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link::{
    IFA_ADDRESS, IFA_F_DADFAILED, IFA_FLAGS, IFA_LOCAL, IFADDRMSG_LEN, IFINFOMSG_LEN, IFLA_IFNAME,
    IFLA_MTU, Message, RTMSG_LEN, RTNH_F_ONLINK, Request, attributes, dump, ip, number, text,
};
use crate::config::LinkRoute;

/// What the host's network looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostLinks {
    /// Interfaces by index.
    pub names: Vec<(u32, String)>,
    /// Global addresses, in the kernel's order.
    pub addresses: Vec<HostAddress>,
    /// Routes of the main table to somewhere, in the kernel's order.
    pub routes: Vec<HostRoute>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress {
    /// The interface.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix in bits.
    pub prefix_len: u8,
}

/// A route by an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// The interface.
    pub index: u32,
    /// The route.
    pub route: LinkRoute,
    /// It came with an address, and will again.
    pub of_address: bool,
}

/// The MTU of the interface that has an address, in bytes; `None` if none has it.
///
/// # Errors
/// What netlink(7) reports.
pub fn mtu_at(address: IpAddr) -> io::Result<Option<u32>> {
    let addresses = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; IFADDRMSG_LEN]);
    let has_it = |message: &Message<'_>| {
        let mut attributes = attributes(message.payload.get(IFADDRMSG_LEN..)?);
        let own = attributes.find(|(kind, value)| {
            [IFA_LOCAL, IFA_ADDRESS].contains(kind) && ip(value) == Some(address)
        });
        own.and_then(|_| number(message.payload.get(4..)?))
    };
    let Some(index) = dump(addresses, has_it)?.into_iter().next() else { return Ok(None) };
    let mtu = |message: &Message<'_>| {
        if number(message.payload.get(4..)?)? != index {
            return None;
        }
        let mut attributes = attributes(message.payload.get(IFINFOMSG_LEN..)?);
        attributes.find(|(kind, _)| *kind == IFLA_MTU).and_then(|(_, value)| number(value))
    };
    Ok(dump(Request::dump_links(), mtu)?.into_iter().next())
}

impl HostLinks {
    /// Looks at the host.
    ///
    /// # Errors
    /// What netlink(7) reports.
    pub fn read() -> io::Result<Self> {
        let addresses = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; IFADDRMSG_LEN]);
        let routes = dump(Request::dump_routes(), |message| Some(routes_in(message.payload)))?;
        Ok(Self {
            names: dump(Request::dump_links(), name)?,
            addresses: dump(addresses, |message| address(message.payload))?,
            routes: routes.into_iter().flatten().collect(),
        })
    }

    /// The interface of this name.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<u32> {
        self.names.iter().find(|(_, known)| known == name).map(|(index, _)| *index)
    }

    /// The name of this interface.
    #[must_use]
    pub fn name_of(&self, index: u32) -> Option<&str> {
        self.names.iter().find(|(known, _)| *known == index).map(|(_, name)| name.as_str())
    }
}

fn name(message: &Message<'_>) -> Option<(u32, String)> {
    let index = number(message.payload.get(4..)?)?;
    let name = attributes(message.payload.get(IFINFOMSG_LEN..)?)
        .find(|(kind, _)| *kind == IFLA_IFNAME)
        .map(|(_, value)| text(value))?;
    Some((index, name))
}

/// A global address that is there for good: `struct ifaddrmsg` and its attributes.
fn address(payload: &[u8]) -> Option<HostAddress> {
    let &[_, prefix_len, flags, scope, ..] = payload else { return None };
    let index = number(payload.get(4..)?)?;
    let mut found = None;
    let mut flags = u32::from(flags);
    for (kind, value) in attributes(payload.get(IFADDRMSG_LEN..)?) {
        match kind {
            // On a point-to-point link the other is the peer's.
            IFA_LOCAL => found = ip(value),
            IFA_ADDRESS => found = found.or_else(|| ip(value)),
            IFA_FLAGS => flags = number(value)?,
            _ => {}
        }
    }
    // One that is being tested as yet, where the link has just come up, is to be there for good.
    let unusable = IFA_F_TEMPORARY | IFA_F_DADFAILED | IFA_F_DEPRECATED;
    let address = found?;
    // An IPv4 address has no tests to pass; the first of these bits means "secondary" there.
    if scope != libc::RT_SCOPE_UNIVERSE || (address.is_ipv6() && flags & unusable != 0) {
        return None;
    }
    Some(HostAddress { index, address, prefix_len })
}

/// The routes in `struct rtmsg` and its attributes: one for each next hop.
fn routes_in(payload: &[u8]) -> Vec<HostRoute> {
    read_routes(payload).unwrap_or_default()
}

fn read_routes(payload: &[u8]) -> Option<Vec<HostRoute>> {
    let &[family, prefix_len, _, _, table, protocol, _, kind, ..] = payload else { return None };
    let flags = number(payload.get(8..)?)?;
    let (mut destination, mut gateway, mut index, mut metric) = (None, None, None, None);
    let mut hops: &[u8] = &[];
    let mut in_main = table == libc::RT_TABLE_MAIN;
    for (kind, value) in attributes(payload.get(RTMSG_LEN..)?) {
        match kind {
            libc::RTA_DST => destination = ip(value),
            libc::RTA_GATEWAY => gateway = ip(value),
            libc::RTA_OIF => index = number(value),
            libc::RTA_PRIORITY => metric = number(value),
            libc::RTA_MULTIPATH => hops = value,
            libc::RTA_TABLE => in_main = number(value) == Some(libc::RT_TABLE_MAIN.into()),
            _ => {}
        }
    }
    if !in_main || kind != libc::RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let destination = destination.or_else(|| match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        libc::AF_INET6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    })?;
    let on_link = flags & RTNH_F_ONLINK != 0;
    let of_address = protocol == libc::RTPROT_KERNEL;
    let hop = |index, gateway| HostRoute {
        index,
        route: LinkRoute { destination, prefix_len, gateway, on_link, metric },
        of_address,
    };
    Some(match index {
        Some(index) => vec![hop(index, gateway)],
        None => next_hops(hops).map(|(index, gateway)| hop(index, gateway)).collect(),
    })
}

/// `struct rtnexthop`s: interface and gateway.
fn next_hops(mut bytes: &[u8]) -> impl Iterator<Item = (u32, Option<IpAddr>)> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let index = number(bytes.get(4..)?)?;
        let gateway = attributes(bytes.get(RTNEXTHOP_LEN..len)?)
            .find(|(kind, _)| *kind == libc::RTA_GATEWAY)
            .and_then(|(_, value)| ip(value));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((index, gateway))
    })
}

// The sizes and numbers of linux/rtnetlink.h and linux/if_addr.h that libc lacks, and `link` has no use
// for.
const RTNEXTHOP_LEN: usize = 8;
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DEPRECATED: u32 = 0x20;
const RTM_F_CLONED: u32 = 0x200;

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn route(table: u8, protocol: u8, flags: u32, attributes: &[Vec<u8>]) -> Vec<HostRoute> {
        let mut payload = vec![2, 0, 0, 0, table, protocol, 0, libc::RTN_UNICAST];
        payload.extend_from_slice(&flags.to_ne_bytes());
        payload.extend(attributes.concat());
        routes_in(&payload)
    }

    #[test]
    fn one_s_own_loopback_is_seen() {
        let links = HostLinks::read().unwrap();
        let index = links.index_of("lo").unwrap();
        assert_eq!(links.name_of(index), Some("lo"));
        // Of the host's own scope, not of the world's.
        assert!(links.addresses.iter().all(|entry| !entry.address.is_loopback()));
    }

    #[test]
    fn routes_with_one_and_with_many_next_hops_are_read() {
        let by = |last| IpAddr::from([192, 0, 2, last]);
        let one = [
            attribute(libc::RTA_OIF, &7_u32.to_ne_bytes()),
            attribute(libc::RTA_GATEWAY, &[192, 0, 2, 254]),
            attribute(libc::RTA_PRIORITY, &100_u32.to_ne_bytes()),
        ];
        let expected = LinkRoute { metric: Some(100), on_link: true, ..LinkRoute::by(by(254)) };
        let found = route(libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, RTNH_F_ONLINK, &one);
        assert_eq!(found, [HostRoute { index: 7, route: expected, of_address: false }]);

        let hop = |index: u32, last| {
            let gateway = attribute(libc::RTA_GATEWAY, &[192, 0, 2, last]);
            let len = u16::try_from(RTNEXTHOP_LEN + gateway.len()).unwrap();
            let mut bytes = len.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&index.to_ne_bytes());
            bytes.extend(gateway);
            bytes
        };
        let many = [attribute(libc::RTA_MULTIPATH, &[hop(7, 1), hop(8, 2)].concat())];
        let found = route(libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, 0, &many);
        let found: Vec<_> = found.iter().map(|hop| (hop.index, hop.route.gateway)).collect();
        assert_eq!(found, [(7, Some(by(1))), (8, Some(by(2)))]);
    }

    #[test]
    fn other_tables_and_cached_routes_are_not_routes_of_the_host() {
        let hop = [attribute(libc::RTA_OIF, &7_u32.to_ne_bytes())];
        assert!(route(255, libc::RTPROT_KERNEL, 0, &hop).is_empty());
        assert!(route(libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, RTM_F_CLONED, &hop).is_empty());
        assert!(routes_in(&[2, 0, 0]).is_empty());
        assert!(next_hops(&[255, 255, 0, 0, 1, 0, 0, 0]).next().is_none());
    }

    #[test]
    fn link_local_and_temporary_addresses_are_left_out() {
        let read = |family: u8, flags: u8, scope: u8, value: &[u8]| {
            let mut payload = vec![family, 64, flags, scope];
            payload.extend_from_slice(&3_u32.to_ne_bytes());
            payload.extend(attribute(IFA_ADDRESS, value));
            address(&payload).map(|entry| entry.address.to_string())
        };
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(read(10, 0, 0, &v6), Some("2001:db8::1".into()));
        assert_eq!(read(10, 0, 253, &v6), None);
        assert_eq!(read(10, 1, 0, &v6), None);
        // It is tested still whether another has it, as where the link has just come up.
        assert_eq!(read(10, 0x40, 0, &v6), Some("2001:db8::1".into()));
        assert_eq!(read(10, 0x48, 0, &v6), None);
        // A secondary address is an address.
        assert_eq!(read(2, 1, 0, &[192, 0, 2, 7]), Some("192.0.2.7".into()));
    }
}
