//! The grammar of `--publish`:
//! `[ADDR|IFACE/|fd:N:][HOST[-END]]:CTR[-END][/tcp|/udp][,from=CIDR]...`, and what `--publish-all`
//! makes of `--expose`.
//!
//! Pure text work: a spec becomes one [`Publish`], and specs that claim the same host port are
//! refused. Whether a port can be bound is not known here.
//! Where Docker and Podman agree, the grammar is theirs: an IPv6 address is bracketed, no address
//! means both families, `0.0.0.0` and `[::]` mean one, `CTR` and `ADDR::CTR` leave the host port to
//! us, `8000-9000:80` takes the first that is free.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::UsageError;
use super::values::{self, ValueError};
use crate::config::{Bind, HostPorts, HostSide, Ports, Prefix, Protocol, Publish, unbindable};

pub use crate::config::PublishDefaults;

/// What is wrong with one `--publish` value. Its Display names the part, not the whole.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nothing after the last colon, or nothing at all.
    #[error("the container port is missing: write HOST:CONTAINER, as in 8080:80")]
    NoContainerPort,
    /// An address and one port, which could be either's.
    #[error(
        "which port is it: write {address}::{port} for a free host port, {address}:HOST:{port} \
             for one of your choice"
    )]
    AmbiguousPort {
        /// The address, with its brackets.
        address: String,
        /// The port.
        port: String,
    },
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
    /// What stands before the slash cannot be an interface.
    #[error("interface {name:?}: {problem}")]
    BadInterface {
        /// What was typed.
        name: String,
        /// What is wrong with it.
        problem: Box<ValueError>,
    },
    /// An interface and an address.
    #[error("give an interface or an address, not both: an interface means all its addresses")]
    InterfaceAndAddress,
    /// `fd:` without a number.
    #[error("descriptor {text:?}: {problem}")]
    BadDescriptor {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        problem: Box<ValueError>,
    },
    /// `fd:N:` with more than a container port.
    #[error("an inherited socket has its own address and port: write fd:{fd}:CONTAINER")]
    PortOfDescriptor {
        /// The descriptor.
        fd: i32,
    },
    /// `fd:N:` with a range.
    #[error("an inherited socket is one port: {0} are several")]
    RangeOfDescriptor(Ports),
    /// One descriptor in two specs.
    #[error("descriptor {fd} is already published by {other:?}")]
    DescriptorTaken {
        /// The descriptor.
        fd: i32,
        /// The earlier spec.
        other: String,
    },
    /// Something after a comma that is not `from=`.
    #[error("{0:?} is unknown: only from=CIDR may follow a comma")]
    UnknownKey(String),
    /// `from=` with something else than a prefix.
    #[error("from={text}: {problem}")]
    BadFrom {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        problem: Box<ValueError>,
    },
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

debug_as_display!(PublishError);

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

/// Reads every `--publish` of a command line.
///
/// # Errors
/// The first spec that is wrong, or that claims a host port which an earlier one has.
pub(super) fn parse_all(
    specs: &[String],
    defaults: &PublishDefaults,
) -> Result<Vec<Publish>, UsageError> {
    let mut rules: Vec<Publish> = Vec::new();
    for spec in specs {
        let refuse = |source| UsageError::Publish { spec: spec.clone(), source };
        let rule = parse(spec, defaults).map_err(refuse)?;
        for (earlier, other) in rules.iter().zip(specs) {
            if let Some(taken) = conflict(earlier, &rule, other) {
                return Err(refuse(taken));
            }
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// Reads one spec.
///
/// # Errors
/// The first part of the spec that is wrong: what follows a comma, the protocol, then from left to
/// right.
pub fn parse(spec: &str, defaults: &PublishDefaults) -> Result<Publish, PublishError> {
    let (spec, from) = split_from(spec)?;
    let (place, protocol) = split_protocol(spec)?;
    let (host, guest) = match (place.strip_prefix("fd:"), place.split_once('/')) {
        (Some(rest), _) => inherited(rest, protocol.is_some())?,
        (None, Some((name, ports))) => {
            let name = interface(name)?;
            let (address, host, container) = split(ports)?;
            if address.is_some() {
                return Err(PublishError::InterfaceAndAddress);
            }
            bound(Bind::Interface(name), host, container)?
        }
        (None, None) => {
            let (address, host, container) = split(place)?;
            let on = match address.map(parse_address).transpose()? {
                Some(address) => Bind::Addresses(vec![address]),
                None if defaults.bind.is_empty() => Bind::All,
                None => Bind::Addresses(defaults.bind.clone()),
            };
            bound(on, host, container)?
        }
    };
    let protocol = protocol.unwrap_or(Protocol::Tcp);
    Ok(Publish { host, guest, protocol, from, freebind: defaults.freebind })
}

/// What `--publish-all` adds: a rule for each `--expose` that no `--publish` covers, as Docker has
/// it. `range` is where the host ports come from.
///
/// # Errors
/// The first value that is no port, or the range that is none.
pub(super) fn exposed(
    expose: &[String],
    range: Option<&str>,
    published: &[Publish],
    defaults: &PublishDefaults,
) -> Result<Vec<Publish>, UsageError> {
    let range =
        match range {
            None => PUBLISH_RANGE,
            Some(text) => parse_range(Side::Host, text).map_err(|source| {
                UsageError::PortRange { option: "--publish-range", text: text.to_owned(), source }
            })?,
        };
    let on = || match &defaults.bind {
        none if none.is_empty() => Bind::All,
        some => Bind::Addresses(some.clone()),
    };
    let mut rules: Vec<Publish> = Vec::new();
    for text in expose {
        let refuse =
            |source| UsageError::PortRange { option: "--expose", text: text.clone(), source };
        let (ports, protocol) = split_protocol(text).map_err(refuse)?;
        let protocol = protocol.unwrap_or(Protocol::Tcp);
        for port in parse_range(Side::Container, ports).map_err(refuse)?.iter() {
            let guest = Ports::one(port);
            let covers = |rule: &Publish| rule.protocol == protocol && rule.guest.overlap(guest);
            if !published.iter().chain(&rules).any(covers) {
                let ports = HostPorts::AnyOf(range);
                let freebind = defaults.freebind;
                rules.push(Publish { freebind, ..Publish::at(on(), ports, guest, protocol) });
            }
        }
    }
    Ok(rules)
}

/// Reads `--default-bind`: addresses with commas between them, in brackets or not.
pub(super) fn default_bind(text: &str) -> Result<Vec<IpAddr>, ValueError> {
    let mut addresses = Vec::new();
    for word in text.split(',') {
        let inner = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
        let address: IpAddr = inner.parse().map_err(|_| ValueError::NotAnAddress)?;
        if let Some(why) = unbindable(address) {
            return Err(ValueError::AddressInUse(why));
        }
        if addresses.contains(&address) {
            return Err(ValueError::Expected("each address once"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// Where `--publish-all` takes host ports from.
const PUBLISH_RANGE: Ports = Ports { first: 49_000, last: 49_900 };

/// Cuts what follows the commas off, which is for whom the port is.
fn split_from(spec: &str) -> Result<(&str, Vec<Prefix>), PublishError> {
    let mut words = spec.split(',');
    let spec = words.next().unwrap_or_default();
    let prefix = |word: &str| {
        let text =
            word.strip_prefix("from=").ok_or_else(|| PublishError::UnknownKey(word.to_owned()))?;
        parse_prefix(text).map_err(|problem| PublishError::BadFrom {
            text: text.to_owned(),
            problem: Box::new(problem),
        })
    };
    Ok((spec, words.map(prefix).collect::<Result<_, _>>()?))
}

/// Reads a prefix, or an address that stands for itself.
fn parse_prefix(text: &str) -> Result<Prefix, ValueError> {
    let (address, length) = match text.split_once('/') {
        None => (text, None),
        Some((address, length)) => (address, Some(length)),
    };
    let address: IpAddr = address.parse().map_err(|_| ValueError::NotAPrefix)?;
    let allowed = if address.is_ipv4() { "from 0 to 32" } else { "from 0 to 128" };
    let prefix = match length {
        None => Prefix::from(address),
        Some(length) => {
            let bits = length.parse().ok().filter(|_| values::is_digits(length));
            let refused = || ValueError::PrefixLength { length: length.to_owned(), allowed };
            bits.and_then(|bits| Prefix::around(address, bits)).ok_or_else(refused)?
        }
    };
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(ValueError::MappedAddress);
    }
    if prefix.first() == address {
        Ok(prefix)
    } else {
        Err(ValueError::HostBits(prefix.to_string()))
    }
}

/// Cuts the protocol off. What follows the last slash is ports if it begins as ports do.
fn split_protocol(spec: &str) -> Result<(&str, Option<Protocol>), PublishError> {
    match spec.rsplit_once('/') {
        Some((ports, word))
            if !word.starts_with(|c: char| c.is_ascii_digit() || c == ':' || c == '[') =>
        {
            Ok((ports, Some(parse_protocol(word)?)))
        }
        _ => Ok((spec, None)),
    }
}

/// Reads what follows `fd:`.
fn inherited(rest: &str, protocol_typed: bool) -> Result<(HostSide, Ports), PublishError> {
    let (number, container) = rest.split_once(':').ok_or(PublishError::NoContainerPort)?;
    let fd = values::fd(number).map_err(|problem| PublishError::BadDescriptor {
        text: number.to_owned(),
        problem: Box::new(problem),
    })?;
    if container.contains(':') {
        return Err(PublishError::PortOfDescriptor { fd });
    }
    if container.is_empty() {
        return Err(PublishError::NoContainerPort);
    }
    let guest = parse_range(Side::Container, container)?;
    if guest.count() > 1 {
        return Err(PublishError::RangeOfDescriptor(guest));
    }
    Ok((HostSide::Inherited { fd, protocol_typed }, guest))
}

/// Reads an interface's name; unlike the container's own it may be `lo`.
fn interface(name: &str) -> Result<String, PublishError> {
    if name == "lo" {
        return Ok(name.to_owned());
    }
    values::ifname(name).map_err(|problem| PublishError::BadInterface {
        name: name.to_owned(),
        problem: Box::new(problem),
    })
}

/// Reads the ports of a rule that we bind; no host port is a free one.
fn bound(on: Bind, host: &str, container: &str) -> Result<(HostSide, Ports), PublishError> {
    if container.is_empty() {
        return Err(PublishError::NoContainerPort);
    }
    let host = if host.is_empty() { None } else { Some(parse_range(Side::Host, host)?) };
    let guest = parse_range(Side::Container, container)?;
    let ports = match host {
        None => HostPorts::Free,
        Some(host) if host.count() == guest.count() => HostPorts::Exactly(host),
        Some(host) if guest.count() == 1 => HostPorts::FirstFree(host),
        Some(host) => {
            return Err(PublishError::UnequalRanges {
                host: host.count(),
                container: guest.count(),
            });
        }
    };
    Ok((HostSide::Bound { on, ports }, guest))
}

/// An address as it was typed.
#[derive(Clone, Copy)]
enum Typed<'a> {
    Plain(&'a str),
    Bracketed(&'a str),
}

/// Cuts addresses and ports at their colons. An absent host port is empty.
fn split(ports: &str) -> Result<(Option<Typed<'_>>, &str, &str), PublishError> {
    let ambiguous = |address: String, port: &str| PublishError::AmbiguousPort {
        address,
        port: if port.is_empty() { "CONTAINER".to_owned() } else { port.to_owned() },
    };
    if let Some(rest) = ports.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(PublishError::NoClosingBracket)?;
        let rest = rest.strip_prefix(':').ok_or(PublishError::NoColonAfterBracket)?;
        let (host, container) =
            rest.split_once(':').ok_or_else(|| ambiguous(format!("[{address}]"), rest))?;
        return Ok((Some(Typed::Bracketed(address)), host, container));
    }
    let parts: Vec<&str> = ports.split(':').collect();
    match parts[..] {
        [address, port] if address.parse::<Ipv4Addr>().is_ok() => {
            Err(ambiguous(address.to_owned(), port))
        }
        [container] => Ok((None, "", container)),
        [host, container] => Ok((None, host, container)),
        [address, host, container] => Ok((Some(Typed::Plain(address)), host, container)),
        [] => Err(PublishError::NoContainerPort),
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

fn parse_range(side: Side, text: &str) -> Result<Ports, PublishError> {
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
    Ok(Ports { first, last })
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

/// What two rules claim both, if anything that is known before ports are bound.
fn conflict(earlier: &Publish, later: &Publish, other: &str) -> Option<PublishError> {
    let other = other.to_owned();
    match (&earlier.host, &later.host) {
        (HostSide::Inherited { fd, .. }, HostSide::Inherited { fd: again, .. }) if fd == again => {
            Some(PublishError::DescriptorTaken { fd: *fd, other })
        }
        (
            HostSide::Bound { on: a, ports: HostPorts::Exactly(ports) },
            HostSide::Bound { on: b, ports: HostPorts::Exactly(again) },
        ) if earlier.protocol == later.protocol && ports.overlap(*again) && overlap(a, b) => {
            let port = ports.first.max(again.first);
            Some(PublishError::Taken { port, protocol: later.protocol, other })
        }
        _ => None,
    }
}

/// Whether one host port cannot be bound at both.
fn overlap(a: &Bind, b: &Bind) -> bool {
    let same = |a: &IpAddr, b: &IpAddr| {
        a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
    };
    match (a, b) {
        (Bind::All, _) | (_, Bind::All) => true,
        (Bind::Interface(a), Bind::Interface(b)) => a == b,
        (Bind::Addresses(a), Bind::Addresses(b)) => a.iter().any(|a| b.iter().any(|b| same(a, b))),
        // Whether the interface has the address is known when it is bound.
        (Bind::Interface(_), Bind::Addresses(_))
        | (Bind::Addresses(_), Bind::Interface(_))
        | (Bind::Device { .. }, _)
        | (_, Bind::Device { .. }) => false,
    }
}

#[cfg(test)]
mod tests;
