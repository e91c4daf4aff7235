//! The local addresses of what a container sends: named by the user, or found on an interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::config::{Outbound, Source};

/// Which address of each family outgoing sockets are bound to; `None` leaves it to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboundAddresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// A local address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum OutboundError {
    #[error("cannot list the host's addresses")]
    List { source: io::Error },
    #[error("interface {interface} has no {family} address")]
    None { interface: String, family: &'static str },
}

impl OutboundAddresses {
    /// Finds the addresses, once and for all: an interface's first of that family, for IPv6 the
    /// first that is not link-local.
    ///
    /// # Errors
    /// An interface that is not there or has no such address.
    pub fn find(wanted: &Outbound) -> Result<Self, OutboundError> {
        Ok(Self {
            v4: wanted
                .v4
                .as_ref()
                .map(|source| {
                    address(source, "IPv4", |address| Some(address.as_sockaddr_in()?.ip()))
                })
                .transpose()?,
            v6: wanted
                .v6
                .as_ref()
                .map(|source| {
                    address(source, "IPv6", |address| {
                        let ip = address.as_sockaddr_in6()?.ip();
                        (!ip.is_unicast_link_local()).then_some(ip)
                    })
                })
                .transpose()?,
        })
    }

    /// The address for a socket of one family.
    pub(super) fn of(self, v6: bool) -> Option<IpAddr> {
        if v6 { self.v6.map(IpAddr::V6) } else { self.v4.map(IpAddr::V4) }
    }
}

fn address<A: Copy>(
    source: &Source<A>,
    family: &'static str,
    take: impl Fn(&SockaddrStorage) -> Option<A>,
) -> Result<A, OutboundError> {
    let interface = match source {
        Source::Address(address) => return Ok(*address),
        Source::Interface(interface) => interface,
    };
    let mut all = getifaddrs().map_err(|errno| OutboundError::List { source: errno.into() })?;
    all.find_map(|entry| {
        let address = entry.address.filter(|_| entry.interface_name == *interface)?;
        take(&address)
    })
    .ok_or_else(|| OutboundError::None { interface: interface.clone(), family })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_they_are_and_interfaces_looked_up() {
        let v4 = Some(Source::Address(Ipv4Addr::new(192, 0, 2, 1)));
        let found = OutboundAddresses::find(&Outbound { v4, v6: None }).unwrap();
        assert_eq!(found.of(false), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(found.of(true), None);
        // In a namespace of the test's own `lo` may be down, and has no address then.
        drop(crate::sys::link::bring_up("lo"));
        let v4 = Some(Source::Interface("lo".to_owned()));
        let found = OutboundAddresses::find(&Outbound { v4, v6: None }).unwrap();
        assert_eq!(found.of(false), Some("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_interface_without_an_address_is_an_error() {
        let v6 = Some(Source::Interface("no-such-link".to_owned()));
        let error = OutboundAddresses::find(&Outbound { v4: None, v6 }).unwrap_err();
        assert_eq!(error.to_string(), "interface no-such-link has no IPv6 address");
    }
}
