//! The local ends of what a container sends: addresses and an interface that the user named.
//!
//! What is named is looked for when a socket is opened, and may come and go: without it the flow is
//! refused. Only slirp4netns's interfaces are looked up once, at the start, as that has it.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::config::{Outbound, Source};
use crate::sys::interfaces::Interfaces;
use crate::sys::sock::{self, Local};

/// What sockets towards the host's network are bound to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutboundPolicy {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    interface_v4: Option<Interface>,
    interface_v6: Option<Interface>,
    loopback_too: bool,
    /// What of it was there when the host's addresses were last looked at.
    seen: Seen,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: String,
    /// Whether sockets are confined to it; otherwise they have its addresses.
    by_device: bool,
}

/// What the host has of what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    index_v4: Option<u32>,
    index_v6: Option<u32>,
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
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

impl OutboundPolicy {
    /// Takes what is wanted. Interfaces of slirp4netns's options are looked up: an interface's first
    /// address of that family, for IPv6 the first that is not link-local.
    ///
    /// # Errors
    /// An interface that is not there or has no such address.
    pub fn find(wanted: &Outbound) -> Result<Self, OutboundError> {
        let interface = |name: &Option<String>| {
            let by_device = sock::may_bind_to_device().is_ok();
            name.clone().map(|name| Interface { name, by_device })
        };
        Ok(Self {
            interface_v4: interface(&wanted.interface_v4),
            interface_v6: interface(&wanted.interface_v6),
            loopback_too: wanted.loopback_too,
            seen: Seen::default(),
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

    /// Whether the host's addresses matter to it.
    pub(super) fn follows(&self) -> bool {
        *self != Self::default()
    }

    /// Looks at the host's addresses; returns whether sockets that were opened before are not what
    /// they are to be any more.
    pub(super) fn note(&mut self, interfaces: &Interfaces) -> bool {
        let index = |interface: &Option<Interface>| interfaces.index(&interface.as_ref()?.name);
        let (index_v4, index_v6) = (index(&self.interface_v4), index(&self.interface_v6));
        let first = |v6: bool| {
            let index = if v6 { index_v6 } else { index_v4 };
            let mut addresses = index.into_iter().flat_map(|index| interfaces.addresses(index));
            addresses.find(|ip| ip.is_ipv6() == v6 && !is_link_local(*ip))
        };
        let there = |address: Option<IpAddr>| address.filter(|ip| interfaces.has(*ip));
        let seen = Seen {
            index_v4,
            index_v6,
            v4: there(self.v4.map(IpAddr::V4)).or_else(|| first(false)),
            v6: there(self.v6.map(IpAddr::V6)).or_else(|| first(true)),
        };
        std::mem::replace(&mut self.seen, seen) != seen
    }

    /// Tells what the host did not have of it when its addresses were last looked at.
    pub(super) fn missing(&self, tell: &mut dyn FnMut(&dyn Display)) {
        let other = self.interface_v6.as_ref().filter(|v6| self.interface_v4.as_ref() != Some(v6));
        for (address, there, interface, index) in [
            (self.v4.map(IpAddr::V4), self.seen.v4, self.interface_v4.as_ref(), self.seen.index_v4),
            (self.v6.map(IpAddr::V6), self.seen.v6, other, self.seen.index_v6),
        ] {
            if let Some(address) = address.filter(|_| there != address) {
                tell(&address);
            }
            if let (Some(interface), None) = (interface, index) {
                tell(&interface.name);
            }
        }
    }

    /// Whether anything may leave by an interface.
    pub(super) fn leaves_by(&self, name: &str) -> bool {
        let mut named = [&self.interface_v4, &self.interface_v6].into_iter().flatten().peekable();
        named.peek().is_none() || named.any(|interface| interface.name == name)
    }

    /// The local end of a socket of one family towards the host's network.
    ///
    /// # Errors
    /// `NetworkUnreachable` where there is no interface to have an address of.
    pub(super) fn of(&self, v6: bool) -> io::Result<Local<'_>> {
        let fixed = if v6 { self.v6.map(IpAddr::V6) } else { self.v4.map(IpAddr::V4) };
        match if v6 { &self.interface_v6 } else { &self.interface_v4 } {
            None => Ok(Local { address: fixed, device: None }),
            Some(Interface { name, by_device: true }) => {
                Ok(Local { address: fixed, device: Some(name) })
            }
            Some(Interface { by_device: false, .. }) => {
                let address = fixed.or(if v6 { self.seen.v6 } else { self.seen.v4 });
                let address = address.ok_or(io::ErrorKind::NetworkUnreachable)?;
                Ok(Local { address: Some(address), device: None })
            }
        }
    }

    /// The same for a socket with one peer. Nothing leaves the host towards the loopback, so what
    /// goes there has no special address unless that was asked for.
    ///
    /// # Errors
    /// As [`OutboundPolicy::of`].
    pub(super) fn towards(&self, peer: IpAddr) -> io::Result<Local<'_>> {
        if peer.is_loopback() && !self.loopback_too {
            return Ok(Local::default());
        }
        self.of(peer.is_ipv6())
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
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

    fn wanted(v4: Option<Source<Ipv4Addr>>, v6: Option<Source<Ipv6Addr>>) -> Outbound {
        Outbound { v4, v6, ..Outbound::default() }
    }

    fn address(policy: &OutboundPolicy, v6: bool) -> Option<IpAddr> {
        policy.of(v6).unwrap().address
    }

    #[test]
    fn addresses_are_taken_as_they_are_and_slirp4netns_s_interfaces_looked_up() {
        let v4 = Some(Source::Address(Ipv4Addr::new(192, 0, 2, 1)));
        let found = OutboundPolicy::find(&wanted(v4, None)).unwrap();
        assert_eq!(address(&found, false), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(address(&found, true), None);
        // In a namespace of the test's own `lo` may be down, and has no address then.
        drop(crate::sys::link::bring_up("lo"));
        let v4 = Some(Source::Interface("lo".to_owned()));
        let found = OutboundPolicy::find(&wanted(v4, None)).unwrap();
        assert_eq!(address(&found, false), Some("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_interface_of_slirp4netns_without_an_address_is_an_error() {
        let v6 = Some(Source::Interface("no-such-link".to_owned()));
        let error = OutboundPolicy::find(&wanted(None, v6)).unwrap_err();
        assert_eq!(error.to_string(), "interface no-such-link has no IPv6 address");
    }

    #[test]
    fn nothing_leaves_towards_the_loopback() {
        let v4 = Some(Source::Address(Ipv4Addr::new(192, 0, 2, 1)));
        let policy = OutboundPolicy::find(&wanted(v4, None)).unwrap();
        let local = policy.towards("127.0.0.53".parse().unwrap()).unwrap();
        assert!(local.address.is_none() && local.device.is_none());
        assert!(policy.towards("192.0.2.9".parse().unwrap()).unwrap().address.is_some());
        let v4 = Some(Source::Address(Ipv4Addr::new(192, 0, 2, 1)));
        let as_slirp4netns = Outbound { loopback_too: true, ..wanted(v4, None) };
        let policy = OutboundPolicy::find(&as_slirp4netns).unwrap();
        assert!(policy.towards("127.0.0.1".parse().unwrap()).unwrap().address.is_some());
    }

    #[test]
    fn where_sockets_cannot_be_confined_they_have_the_interface_s_address() {
        drop(crate::sys::link::bring_up("lo"));
        let mut interfaces = Interfaces::open().unwrap();
        interfaces.follow().unwrap();
        let named = |name: &str| {
            let interface = || Some(Interface { name: name.to_owned(), by_device: false });
            OutboundPolicy {
                interface_v4: interface(),
                interface_v6: interface(),
                ..OutboundPolicy::default()
            }
        };
        let mut policy = named("lo");
        assert_eq!(policy.of(false).unwrap_err().kind(), io::ErrorKind::NetworkUnreachable);
        assert!(policy.note(&interfaces));
        assert_eq!(address(&policy, false), Some("127.0.0.1".parse().unwrap()));
        assert!(!policy.note(&interfaces));
        let missing = |policy: &OutboundPolicy| {
            let mut missing = Vec::new();
            policy.missing(&mut |name| missing.push(name.to_string()));
            missing
        };
        assert!(missing(&policy).is_empty());
        let mut absent = named("no-such-link");
        assert!(!absent.note(&interfaces));
        assert_eq!(missing(&absent), ["no-such-link"]);
        assert_eq!(absent.of(true).unwrap_err().kind(), io::ErrorKind::NetworkUnreachable);
    }

    #[test]
    fn each_family_may_have_an_interface_of_its_own() {
        let both = Outbound {
            interface_v4: Some("a".to_owned()),
            interface_v6: Some("b".to_owned()),
            ..Outbound::default()
        };
        let mut policy = OutboundPolicy::find(&both).unwrap();
        for interface in [&mut policy.interface_v4, &mut policy.interface_v6] {
            interface.as_mut().unwrap().by_device = true;
        }
        assert_eq!(policy.of(false).unwrap().device, Some("a"));
        assert_eq!(policy.of(true).unwrap().device, Some("b"));
        assert!(policy.leaves_by("a") && policy.leaves_by("b") && !policy.leaves_by("c"));
        assert!(OutboundPolicy::default().leaves_by("c"));
        let one = OutboundPolicy { interface_v6: None, ..policy };
        assert_eq!(one.of(true).unwrap().device, None);
        assert!(one.follows());
    }
}
