//! Published ports as they were asked for: where on the host, which ports, for whom.
//!
//! A rule stays a range: two thousand ports are one [`Publish`]. What a rule comes to on this host
//! (which port is free, which addresses an interface has) is found out by who binds it.

use std::fmt;
use std::net::IpAddr;

use super::{Prefix, Protocol};

/// Host ports that are forwarded into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Where on the host.
    pub host: HostSide,
    /// The ports in the container.
    pub guest: Ports,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The clients that are let in; empty is everybody.
    pub from: Vec<Prefix>,
    /// Addresses and interfaces that are not there yet are no error (`IP_FREEBIND`, ip(7)).
    pub freebind: bool,
}

/// The host's side of a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostSide {
    /// Sockets that we bind.
    Bound {
        /// The addresses.
        on: Bind,
        /// The ports.
        ports: HostPorts,
    },
    /// One socket that whoever started us has bound.
    Inherited {
        /// Its descriptor.
        fd: i32,
        /// Whether the rule's protocol was typed, and not only assumed.
        protocol_typed: bool,
    },
}

/// What holds for every published port that does not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishDefaults {
    /// The addresses of one that names none; empty is every address.
    pub bind: Vec<IpAddr>,
    /// See [`Publish::freebind`].
    pub freebind: bool,
}

/// The host addresses that a port is bound at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Every address of both families; of one, where the host has no IPv6.
    All,
    /// These, of which there is at least one.
    Addresses(Vec<IpAddr>),
    /// Whatever addresses this interface has at any moment.
    Interface(String),
    /// This address, for what comes in by this interface alone, while there is such an interface.
    Device {
        /// May be unspecified: every address of its family.
        address: IpAddr,
        /// The interface.
        interface: String,
    },
}

/// Which host ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPorts {
    /// These, as many as there are container ports.
    Exactly(Ports),
    /// The first of these that is free, for one container port.
    FirstFree(Ports),
    /// Any of these that is free, by chance, for each container port.
    AnyOf(Ports),
    /// A free one of [`FREE_PORTS`] for each container port, the lowest first.
    Free,
}

/// Where a free port is looked for when the user names none: the dynamic ports of RFC 6335,
/// section 6, from 49153 on as Docker has it.
pub const FREE_PORTS: Ports = Ports { first: 49_153, last: u16::MAX };

/// Ports from `first` to `last`, both included; neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port, which is not below the first.
    pub last: u16,
}

impl Ports {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Each port, in order.
    pub fn iter(self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Whether a port is among both.
    #[must_use]
    pub fn overlap(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    /// As in a rule: `80` or `80-82`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last == self.first { Ok(()) } else { write!(f, "-{}", self.last) }
    }
}

impl Publish {
    /// Ports of these addresses, for everybody.
    #[must_use]
    pub fn at(on: Bind, ports: HostPorts, guest: Ports, protocol: Protocol) -> Self {
        let host = HostSide::Bound { on, ports };
        Self { host, guest, protocol, from: Vec::new(), freebind: false }
    }

    /// One port at one address, or at every one, for everybody.
    #[must_use]
    pub fn one(bind: Option<IpAddr>, host: u16, guest: u16, protocol: Protocol) -> Self {
        let on = bind.map_or(Bind::All, |address| Bind::Addresses(vec![address]));
        Self::at(on, HostPorts::Exactly(Ports::one(host)), Ports::one(guest), protocol)
    }

    /// The same at `address`, where none is named.
    #[must_use]
    pub fn or_at(mut self, address: IpAddr) -> Self {
        if let HostSide::Bound { on: on @ Bind::All, .. } = &mut self.host {
            *on = Bind::Addresses(vec![address]);
        }
        self
    }

    /// The rule in the grammar of `--publish`, and the addresses of a rule that has several, for which
    /// the grammar has no room: they are the [`PublishDefaults::bind`] that the text is to be read with.
    #[must_use]
    pub fn spelt(&self) -> (String, Vec<IpAddr>) {
        match &self.host {
            HostSide::Bound { on: Bind::Addresses(addresses), ports } if addresses.len() > 1 => {
                let host = HostSide::Bound { on: Bind::All, ports: *ports };
                (Self { host, ..self.clone() }.to_string(), addresses.clone())
            }
            _ => (self.to_string(), Vec::new()),
        }
    }
}

/// The rule in the grammar of `--publish`. Ports of several addresses are shown with the first
/// only, which no rule on its own can ask for (`--default-bind` can); nor for an address of one
/// interface (pasta's grammar can).
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostSide::Inherited { fd, .. } => write!(f, "fd:{fd}:")?,
            HostSide::Bound { on, ports } => {
                match on {
                    Bind::All => {}
                    Bind::Interface(name) => write!(f, "{name}/")?,
                    Bind::Device { address: IpAddr::V4(address), interface } => {
                        write!(f, "{address}%{interface}:")?;
                    }
                    Bind::Device { address: IpAddr::V6(address), interface } => {
                        write!(f, "[{address}%{interface}]:")?;
                    }
                    Bind::Addresses(addresses) => match addresses.first() {
                        Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
                        Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
                        None => {}
                    },
                }
                match ports {
                    HostPorts::Exactly(ports)
                    | HostPorts::FirstFree(ports)
                    | HostPorts::AnyOf(ports) => write!(f, "{ports}:")?,
                    HostPorts::Free if matches!(on, Bind::Addresses(_)) => f.write_str(":")?,
                    HostPorts::Free => {}
                }
            }
        }
        write!(f, "{}", self.guest)?;
        if !matches!(self.host, HostSide::Inherited { protocol_typed: false, .. }) {
            write!(f, "/{}", self.protocol)?;
        }
        for prefix in &self.from {
            write!(f, ",from={prefix}")?;
        }
        Ok(())
    }
}

/// Why no listener of ours can have `address`, if so.
#[must_use]
pub fn unbindable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("an IPv4 address in IPv6 form; write the IPv4 address")
        }
        // bind(2) wants a scope id with it, ipv6(7).
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("good on one interface only"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}
