//! The grammar of `--publish`: `[ADDR:]HOST:CTR[/tcp|/udp]`.
//!
//! Pure text work: a spec becomes one [`Publish`] per port, and specs that claim the same host
//! port are refused. Whether a port can be bound is not known here.
//! The grammar is Podman's: an IPv6 address is bracketed, ranges are of equal length, no address
//! means both families; `0.0.0.0` and `[::]` mean one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::UsageError;
use crate::config::{Protocol, Publish};

/// What is wrong with one `--publish` value. Its Display names the part, not the whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nothing but a container port, or nothing at all before it.
    #[error("the host port is missing: write HOST:CONTAINER, as in 8080:80")]
    NoHostPort,
    /// Nothing after the last colon.
    #[error("the container port is missing: write HOST:CONTAINER, as in 8080:80")]
    NoContainerPort,
    /// A colon with nothing before it, or empty brackets.
    #[error("the host address is empty: leave it out for all addresses")]
    EmptyAddress,
    /// Too many colons.
    #[error("too many colons: write an IPv6 address in brackets, as in [::1]:8080:80")]
    UnbracketedIpv6,
    /// `[` without `]`.
    #[error("the closing bracket is missing: write [ADDR]:HOST:CONTAINER")]
    NoClosingBracket,
    /// Something other than a colon after `]`.
    #[error("a colon is missing after the bracket: write [ADDR]:HOST:CONTAINER")]
    NoColonAfterBracket,
    /// The address is not an IPv4 address.
    #[error("host address {0:?} is not an IPv4 address")]
    NotIpv4(String),
    /// What stands in brackets is not an IPv6 address.
    #[error("host address {0:?} is not an IPv6 address")]
    NotIpv6(String),
    /// An address that no listener can have.
    #[error("host address {address} cannot be bound: it is {why}")]
    Unbindable {
        /// The address.
        address: IpAddr,
        /// What it is, with its article.
        why: &'static str,
    },
    /// A port that is not made of digits.
    #[error("{side} port {text:?} is not a number")]
    NotAPort {
        /// Host or container.
        side: Side,
        /// What was typed for it.
        text: String,
    },
    /// Port 0, or above 65535.
    #[error("{side} port {text} is out of range: ports go from 1 to 65535")]
    PortOutOfRange {
        /// Host or container.
        side: Side,
        /// What was typed for it.
        text: String,
    },
    /// A range whose end is below its start.
    #[error("{side} range {first}-{last} is reversed: write {last}-{first}")]
    ReversedRange {
        /// Host or container.
        side: Side,
        /// Its first port.
        first: u16,
        /// Its last port.
        last: u16,
    },
    /// Ranges that do not pair up.
    #[error("the ranges differ in length: {host} on the host, {container} in the container")]
    UnequalRanges {
        /// Number of host ports.
        host: u32,
        /// Number of container ports.
        container: u32,
    },
    /// A protocol that exists but is not relayed.
    #[error("{0} is not supported: only tcp and udp")]
    UnsupportedProtocol(&'static str),
    /// Anything else after the slash.
    #[error("protocol {0:?} is unknown: only tcp and udp")]
    UnknownProtocol(String),
    /// Another `--publish`, or the same one again, has this host port.
    #[error("host port {port}/{protocol} is already published by {other:?}")]
    Taken {
        /// The host port that both claim.
        port: u16,
        /// The protocol that both claim it for.
        protocol: Protocol,
        /// The earlier spec.
        other: String,
    },
}

/// The side of a published port that a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the colon.
    Host,
    /// After it.
    Container,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Container => "container",
        })
    }
}

/// The spec of one port, in the grammar of `--publish`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bind {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        write!(f, "{}:{}/{}", self.host_port, self.guest_port, self.protocol)
    }
}

/// Where one host port is bound, and the spec that says so.
type Claim<'a> = (Option<IpAddr>, &'a str);

/// Reads every `--publish` of a command line.
///
/// # Errors
/// The first spec that is wrong, or that claims a host port which an earlier one has.
pub(super) fn parse_all(specs: &[String]) -> Result<Vec<Publish>, UsageError> {
    let mut published = Vec::new();
    let mut taken: BTreeMap<(u16, Protocol), Vec<Claim<'_>>> = BTreeMap::new();
    for spec in specs {
        let refuse = |source| UsageError::Publish { spec: spec.clone(), source };
        for publish in parse(spec).map_err(refuse)? {
            let claims = taken.entry((publish.host_port, publish.protocol)).or_default();
            if let Some((_, other)) = claims.iter().find(|(bind, _)| overlap(*bind, publish.bind)) {
                return Err(refuse(PublishError::Taken {
                    port: publish.host_port,
                    protocol: publish.protocol,
                    other: (*other).to_owned(),
                }));
            }
            claims.push((publish.bind, spec));
            published.push(publish);
        }
    }
    Ok(published)
}

/// Reads one spec into its ports, in order.
///
/// # Errors
/// The first part of the spec that is wrong, from left to right but for the protocol.
pub(super) fn parse(spec: &str) -> Result<Vec<Publish>, PublishError> {
    let (ports, protocol) = match spec.split_once('/') {
        None => (spec, Protocol::Tcp),
        Some((ports, protocol)) => (ports, parse_protocol(protocol)?),
    };
    let (bind, host, container) = split(ports)?;
    let bind = bind.map(parse_address).transpose()?;
    if host.is_empty() {
        return Err(PublishError::NoHostPort);
    }
    if container.is_empty() {
        return Err(PublishError::NoContainerPort);
    }
    let host = parse_range(Side::Host, host)?;
    let container = parse_range(Side::Container, container)?;
    if host.len() != container.len() {
        let count =
            |range: &std::ops::RangeInclusive<u16>| u32::from(range.end() - range.start()) + 1;
        return Err(PublishError::UnequalRanges {
            host: count(&host),
            container: count(&container),
        });
    }
    let pairs = host.zip(container);
    Ok(pairs
        .map(|(host_port, guest_port)| Publish { bind, host_port, guest_port, protocol })
        .collect())
}

/// An address as it was typed.
#[derive(Clone, Copy)]
enum Typed<'a> {
    Plain(&'a str),
    Bracketed(&'a str),
}

/// Cuts the part before the protocol at its colons.
fn split(ports: &str) -> Result<(Option<Typed<'_>>, &str, &str), PublishError> {
    if let Some(rest) = ports.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(PublishError::NoClosingBracket)?;
        let rest = rest.strip_prefix(':').ok_or(PublishError::NoColonAfterBracket)?;
        let (host, container) = rest.split_once(':').ok_or(PublishError::NoHostPort)?;
        return Ok((Some(Typed::Bracketed(address)), host, container));
    }
    let parts: Vec<&str> = ports.split(':').collect();
    match parts[..] {
        // An address and one port: `127.0.0.1:80`.
        [address, _] if address.parse::<Ipv4Addr>().is_ok() => Err(PublishError::NoHostPort),
        [host, container] => Ok((None, host, container)),
        [address, host, container] => Ok((Some(Typed::Plain(address)), host, container)),
        [] | [_] => Err(PublishError::NoHostPort),
        [_, _, _, _, ..] => Err(PublishError::UnbracketedIpv6),
    }
}

fn parse_address(typed: Typed<'_>) -> Result<IpAddr, PublishError> {
    let address = match typed {
        Typed::Plain("") | Typed::Bracketed("") => return Err(PublishError::EmptyAddress),
        Typed::Plain(text) => text
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .map_err(|_| PublishError::NotIpv4(text.to_owned()))?,
        Typed::Bracketed(text) => text
            .parse::<Ipv6Addr>()
            .map(IpAddr::V6)
            .map_err(|_| PublishError::NotIpv6(text.to_owned()))?,
    };
    match unbindable(address) {
        Some(why) => Err(PublishError::Unbindable { address, why }),
        None => Ok(address),
    }
}

/// Why no listener of ours can have `address`, if so.
fn unbindable(address: IpAddr) -> Option<&'static str> {
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

fn parse_range(side: Side, text: &str) -> Result<std::ops::RangeInclusive<u16>, PublishError> {
    let (first, last) = match text.split_once('-') {
        None => {
            let port = parse_port(side, text)?;
            (port, port)
        }
        Some((first, last)) => (parse_port(side, first)?, parse_port(side, last)?),
    };
    if first > last {
        return Err(PublishError::ReversedRange { side, first, last });
    }
    Ok(first..=last)
}

fn parse_port(side: Side, text: &str) -> Result<u16, PublishError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PublishError::NotAPort { side, text: text.to_owned() });
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(PublishError::PortOutOfRange { side, text: text.to_owned() }),
        Ok(port) => Ok(port),
    }
}

fn parse_protocol(text: &str) -> Result<Protocol, PublishError> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Err(PublishError::UnsupportedProtocol("sctp")),
        _ => Err(PublishError::UnknownProtocol(text.to_owned())),
    }
}

/// Whether one host port cannot be bound at both addresses.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a, b) else {
        return true;
    };
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

#[cfg(test)]
mod tests;
