//! A network that spans hosts: which host has which part of it, as the file says that all of them
//! have.
//!
//! PURE. One line for a host: its address on the network that connects them, and the prefixes whose
//! machines are there. What follows `#` is a comment.

use std::net::{IpAddr, SocketAddr};

use super::prefix::{Prefix, PrefixError};

/// What the engine has to know of the other hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The number of the network, 24 bits (RFC 7348, section 5).
    pub vni: u32,
    /// The address of this host.
    pub local: IpAddr,
    /// The UDP port of all hosts.
    pub port: u16,
    /// All hosts, this one among them.
    pub hosts: Vec<OverlayHost>,
}

impl Overlay {
    /// Whether this is where a host hears the others.
    #[must_use]
    pub fn is_at(&self, to: SocketAddr) -> bool {
        to.port() == self.port && self.hosts.iter().any(|host| host.address == to.ip())
    }
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayHost {
    /// Its address.
    pub address: IpAddr,
    /// The addresses of the machines that are there; none of them is elsewhere.
    pub parts: Vec<Prefix>,
}

/// What the file is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The network's subnets.
    pub subnets: Vec<Prefix>,
    /// Addresses that are the same on every host.
    pub gateways: Vec<IpAddr>,
    /// The address of this host.
    pub local: IpAddr,
    /// What this host must have.
    pub own: Vec<Prefix>,
}

/// What is wrong with the file.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostsError {
    /// With one line.
    #[error("line {line}: {fault}")]
    Line {
        /// Its number from 1 on.
        line: usize,
        /// What is wrong with it.
        fault: Fault,
    },
    /// This host is not in it.
    #[error("it has no line for {0}, this host")]
    NotNamed(IpAddr),
    /// What this host's containers have is not this host's.
    #[error("{0}, which addresses are given from here, is not in a part of {1}, this host")]
    NotOwn(Prefix, IpAddr),
}

debug_as_display!(HostsError);
debug_as_display!(Fault);

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum Fault {
    #[error("{0:?} is not an IP address")]
    Address(String),
    #[error("{0} cannot be the address of a host")]
    Unusable(IpAddr),
    #[error("{0} is not of the family of {1}, this host")]
    Family(IpAddr, IpAddr),
    #[error("{0} is named before")]
    Twice(IpAddr),
    #[error("{0:?}: {1}")]
    Part(String, PrefixError),
    #[error("{0} is named without a part of the network")]
    Nothing(IpAddr),
    #[error("{0} is not in the network's subnet")]
    Outside(Prefix),
    #[error("{0} holds {1}, the gateway on every host")]
    Gateway(Prefix, IpAddr),
    #[error("{0} overlaps {1} of {2}")]
    Overlap(Prefix, Prefix, IpAddr),
    #[error("there are more than {MAX_HOSTS} hosts")]
    TooMany,
}

/// As many as get a copy of what is for everybody.
pub const MAX_HOSTS: usize = 256;

/// Reads the file.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str, span: &Span) -> Result<Vec<OverlayHost>, HostsError> {
    let mut hosts = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        if let Some(first) = words.next() {
            let host = host(first, words, span, &hosts);
            hosts.push(host.map_err(|fault| HostsError::Line { line: index + 1, fault })?);
        }
    }
    let own = hosts.iter().find(|host| host.address == span.local);
    let own = own.ok_or(HostsError::NotNamed(span.local))?;
    match span.own.iter().find(|range| !own.parts.iter().any(|part| part.covers(range))) {
        Some(range) => Err(HostsError::NotOwn(*range, span.local)),
        None => Ok(hosts),
    }
}

fn host<'a>(
    address: &str,
    parts: impl Iterator<Item = &'a str>,
    span: &Span,
    before: &[OverlayHost],
) -> Result<OverlayHost, Fault> {
    let address: IpAddr = address.parse().map_err(|_| Fault::Address(address.to_owned()))?;
    if !is_usable(address) {
        return Err(Fault::Unusable(address));
    }
    if address.is_ipv4() != span.local.is_ipv4() {
        return Err(Fault::Family(address, span.local));
    }
    if before.iter().any(|host| host.address == address) {
        return Err(Fault::Twice(address));
    }
    if before.len() >= MAX_HOSTS {
        return Err(Fault::TooMany);
    }
    let mut host = OverlayHost { address, parts: Vec::new() };
    for text in parts {
        let part: Prefix = text.parse().map_err(|error| Fault::Part(text.to_owned(), error))?;
        if !span.subnets.iter().any(|subnet| subnet.covers(&part)) {
            return Err(Fault::Outside(part));
        }
        if let Some(gateway) = span.gateways.iter().find(|gateway| part.contains(**gateway)) {
            return Err(Fault::Gateway(part, *gateway));
        }
        for other in before.iter().chain([&host]) {
            if let Some(taken) = other.parts.iter().find(|taken| taken.overlaps(&part)) {
                return Err(Fault::Overlap(part, *taken, other.address));
            }
        }
        host.parts.push(part);
    }
    if host.parts.is_empty() { Err(Fault::Nothing(address)) } else { Ok(host) }
}

/// Whether a host can have an address that others reach it by, without the name of an interface.
#[must_use]
pub fn is_usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => {
            let scoped = ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some();
            !(ip.is_unspecified() || ip.is_multicast() || scoped)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span {
            subnets: ["10.42.0.0/24", "fd42::/64"].map(|text| text.parse().unwrap()).to_vec(),
            gateways: ["10.42.0.1", "fd42::1"].map(|text| text.parse().unwrap()).to_vec(),
            local: "192.0.2.1".parse().unwrap(),
            own: vec!["10.42.0.64/26".parse().unwrap()],
        }
    }

    #[test]
    fn a_line_is_a_host_with_its_parts() {
        let text = "# all of them\n192.0.2.1 10.42.0.64/26  fd42::1:0/112\n\n\
                    192.0.2.2\t10.42.0.128/26 # another\n192.0.2.9 10.42.0.9/32\n";
        let hosts = parse(text, &span()).unwrap();
        let all: Vec<_> =
            hosts.iter().map(|host| format!("{} {}", host.address, host.parts.len())).collect();
        assert_eq!(all, ["192.0.2.1 2", "192.0.2.2 1", "192.0.2.9 1"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let own = "192.0.2.1 10.42.0.64/26\n";
        for (line, expected) in [
            ("host2 10.42.0.128/26", "\"host2\" is not an IP address"),
            ("0.0.0.0 10.42.0.128/26", "0.0.0.0 cannot be the address of a host"),
            ("fe80::2 10.42.0.128/26", "fe80::2 cannot be the address of a host"),
            ("fd00::2 10.42.0.128/26", "fd00::2 is not of the family of 192.0.2.1, this host"),
            ("192.0.2.1 10.42.0.128/26", "192.0.2.1 is named before"),
            ("192.0.2.2", "192.0.2.2 is named without a part of the network"),
            ("192.0.2.2 10.42.0.129/26", "\"10.42.0.129/26\": it has host bits set"),
            ("192.0.2.2 10.43.0.0/26", "10.43.0.0/26 is not in the network's subnet"),
            ("192.0.2.2 10.42.0.0/26", "10.42.0.0/26 holds 10.42.0.1, the gateway on every host"),
            ("192.0.2.2 10.42.0.80/28", "10.42.0.80/28 overlaps 10.42.0.64/26 of 192.0.2.1"),
            (
                "192.0.2.2 fd42::2:0/112 fd42::2:8/128",
                "fd42::2:8/128 overlaps fd42::2:0/112 of 192.0.2.2",
            ),
        ] {
            let error = parse(&format!("{own}{line}\n"), &span()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line 2: {expected}")), "{line}: {error}");
        }
        let many = |n: usize| format!("198.18.{}.{} fd42::{:x}:0/112\n", n / 200, n % 200, n + 16);
        let many: String = (1..300).map(many).collect();
        let error = parse(&many, &span()).unwrap_err().to_string();
        assert_eq!(error, "line 257: there are more than 256 hosts");
        let error = parse("192.0.2.2 10.42.0.128/26", &span()).unwrap_err().to_string();
        assert_eq!(error, "it has no line for 192.0.2.1, this host");
        let error = parse("192.0.2.1 10.42.0.64/27", &span()).unwrap_err().to_string();
        assert!(error.starts_with("10.42.0.64/26, which addresses are given from here"), "{error}");
    }
}
