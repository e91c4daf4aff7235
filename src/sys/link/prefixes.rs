//! What the host has taken of the address space: its addresses and its routes, by two dumps.
//!
//! Reads and changes nothing. Routes of every table count, as a VPN keeps its own in one.

use std::io;
use std::net::IpAddr;

use super::{IFA_ADDRESS, IFA_LOCAL, Message, Netlink, Request, attributes, octets};

/// The prefixes of the host's addresses and unicast routes, default routes among them. An address
/// has the length of its prefix, so that `192.0.2.1/24` stands for `192.0.2.0/24`.
///
/// # Errors
/// What netlink(7) reports.
pub fn prefixes_in_use() -> io::Result<Vec<(IpAddr, u8)>> {
    let mut netlink = Netlink::open().map_err(|error| error.source)?;
    let mut found = Vec::new();
    let flags = libc::NLM_F_DUMP;
    netlink.dump(Request::new(libc::RTM_GETADDR, flags, &[0; IFADDRMSG_LEN]), |message| {
        found.extend(address(message));
    })?;
    netlink.dump(Request::new(libc::RTM_GETROUTE, flags, &[0; RTMSG_LEN]), |message| {
        found.extend(route(message));
    })?;
    Ok(found)
}

/// The metrics of the default routes of the main table, with whether they are IPv4, and their interfaces.
/// One with several next hops is by no interface, 0.
///
/// # Errors
/// What netlink(7) reports.
pub fn default_routes() -> io::Result<Vec<(bool, u32, u32)>> {
    let mut netlink = Netlink::open().map_err(|error| error.source)?;
    let mut found = Vec::new();
    let request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &[0; RTMSG_LEN]);
    netlink.dump(request, |message| {
        let main = message.payload.get(4) == Some(&libc::RT_TABLE_MAIN);
        if let (true, Some((to, 0))) = (main, route(message)) {
            let rest = message.payload.get(RTMSG_LEN..).unwrap_or_default();
            let number = |wanted| {
                let number = attributes(rest).find(|(kind, _)| *kind == wanted);
                let number = number.and_then(|(_, value)| value.first_chunk().copied());
                number.map_or(0, u32::from_ne_bytes)
            };
            found.push((to.is_ipv4(), number(libc::RTA_PRIORITY), number(libc::RTA_OIF)));
        }
    })?;
    Ok(found)
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

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

const IFADDRMSG_LEN: usize = 8;
const RTMSG_LEN: usize = 12;

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
