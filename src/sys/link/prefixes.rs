//! What the host has taken of the address space: its addresses and its routes, by two dumps.
//!
//! Reads and changes nothing. Routes of every table count, as a VPN keeps its own in one.

use std::io;
use std::net::IpAddr;

use super::{
    IFA_ADDRESS, IFA_LOCAL, IFADDRMSG_LEN, Message, RTMSG_LEN, Request, attributes, dump, ip,
    number, octets,
};

/// The prefixes of the host's addresses and unicast routes, default routes among them. An address
/// has the length of its prefix, so that `192.0.2.1/24` stands for `192.0.2.0/24`.
///
/// # Errors
/// What netlink(7) reports.
pub fn prefixes_in_use() -> io::Result<Vec<(IpAddr, u8)>> {
    let addresses = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; IFADDRMSG_LEN]);
    let addresses = dump(addresses, |message| Some(address(message)))?;
    let mut found = addresses.concat();
    found.extend(dump(Request::dump_routes(), route)?);
    Ok(found)
}

/// A default route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Whether it is of IPv4.
    pub v4: bool,
    /// Its metric.
    pub metric: u32,
    /// Its interface; one with several next hops is by none, 0.
    pub index: u32,
}

/// The default routes of the main table.
///
/// # Errors
/// What netlink(7) reports.
pub fn default_routes() -> io::Result<Vec<DefaultRoute>> {
    dump(Request::dump_routes(), |message| {
        let main = message.payload.get(4) == Some(&libc::RT_TABLE_MAIN);
        let (to, 0) = route(message).filter(|_| main)? else { return None };
        let rest = message.payload.get(RTMSG_LEN..)?;
        let find = |wanted| {
            let found = attributes(rest).find(|(kind, _)| *kind == wanted);
            found.and_then(|(_, value)| number(value)).unwrap_or(0)
        };
        let (v4, metric) = (to.is_ipv4(), find(libc::RTA_PRIORITY));
        Some(DefaultRoute { v4, metric, index: find(libc::RTA_OIF) })
    })
}

/// `struct ifaddrmsg`: family, prefix length. On a point-to-point link the peer's address counts
/// as well as one's own, both with the same length.
fn address(message: &Message<'_>) -> Vec<(IpAddr, u8)> {
    let (Some(length), Some(rest)) = (message.payload.get(1), message.payload.get(IFADDRMSG_LEN..))
    else {
        return Vec::new();
    };
    let addresses = attributes(rest).filter(|(kind, _)| [IFA_ADDRESS, IFA_LOCAL].contains(kind));
    addresses.filter_map(|(_, value)| Some((ip(value)?, *length))).collect()
}

/// `struct rtmsg`: family, length of the destination, and the type at offset 7. A route without a
/// destination is a default route.
fn route(message: &Message<'_>) -> Option<(IpAddr, u8)> {
    let family = *message.payload.first()?;
    let length = *message.payload.get(1)?;
    if *message.payload.get(7)? != libc::RTN_UNICAST {
        return None;
    }
    let rest = message.payload.get(RTMSG_LEN..)?;
    let destination = attributes(rest).find(|(kind, _)| *kind == libc::RTA_DST);
    match destination {
        Some((_, value)) => Some((ip(value)?, length)),
        None => [IpAddr::from([0; 4]), IpAddr::from([0; 16])]
            .into_iter()
            .find(|address| octets(*address).0 == family)
            .map(|address| (address, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply, as the kernel writes it.
    fn reply(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let request =
            attributes.iter().fold(Request::new(kind, 0, header), |request, (kind, value)| {
                request.attribute(*kind, value)
            });
        request.finish().unwrap()
    }

    fn read<T>(reply: &[u8], read: impl Fn(&Message<'_>) -> T) -> T {
        read(&super::super::messages(reply).next().unwrap().unwrap())
    }

    #[test]
    fn addresses_and_routes_are_read() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let bytes = reply(
            libc::RTM_NEWADDR,
            &[2, 24, 0, 0, 0, 0, 0, 0],
            &[(IFA_ADDRESS, &[192, 0, 2, 1]), (3, b"h0\0")],
        );
        assert_eq!(read(&bytes, address), [(ip("192.0.2.1"), 24)]);
        let unicast = [2, 16, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        let bytes = reply(libc::RTM_NEWROUTE, &unicast, &[(libc::RTA_DST, &[10, 1, 0, 0])]);
        assert_eq!(read(&bytes, route), Some((ip("10.1.0.0"), 16)));
        let default6 = [10, 0, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        assert_eq!(read(&reply(libc::RTM_NEWROUTE, &default6, &[]), route), Some((ip("::"), 0)));
        let multicast = [10, 8, 0, 0, 254, 0, 0, libc::RTN_MULTICAST, 0, 0, 0, 0];
        assert_eq!(read(&reply(libc::RTM_NEWROUTE, &multicast, &[]), route), None);
        assert_eq!(read(&reply(libc::RTM_NEWROUTE, &[2, 0], &[]), route), None);
    }

    #[test]
    fn the_hosts_can_be_listed_without_privileges() {
        // Every namespace has `lo`; in a new one it has no address yet.
        prefixes_in_use().unwrap();
        default_routes().unwrap();
    }
}
