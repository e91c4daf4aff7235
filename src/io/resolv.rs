//! The host's resolvers, from resolv.conf(5), or those that the user wants instead.
//!
//! Only `nameserver` lines count here. A server may be on the host's loopback (systemd-resolved,
//! dnsmasq): that is the host's choice, not a guest's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use crate::config::{Name, Resolver, Route, Server};
use crate::engine::dns::Resolvers;
use crate::sys::fd::read_file;
use crate::sys::sock::interface_index;

/// Where every C library looks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The port of every server in resolv.conf.
const DNS_PORT: u16 = 53;
/// More servers than this are not asked: a query is to fail within a client's patience.
const MAX_SERVERS: usize = 8;

/// Whom a network's DNS asks.
#[derive(Debug, Clone)]
pub struct HostResolvers {
    /// Where the host's resolvers are written down.
    path: PathBuf,
    /// The servers to ask instead, if there are any.
    instead: Vec<SocketAddr>,
    routes: Vec<(Name, Vec<SocketAddr>)>,
}

/// A DNS server that cannot be asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ResolverError {
    #[error("cannot find interface {zone} of DNS server {address}")]
    Zone { address: IpAddr, zone: String, source: io::Error },
}

impl Default for HostResolvers {
    fn default() -> Self {
        Self { path: PathBuf::from(RESOLV_CONF), instead: Vec::new(), routes: Vec::new() }
    }
}

impl HostResolvers {
    /// The host's resolvers, or those that are wanted instead.
    ///
    /// # Errors
    /// A server's interface that is not there.
    pub fn of(wanted: &Resolver) -> Result<Self, ResolverError> {
        let all = |servers: &[Server]| servers.iter().map(address_of).collect();
        let routes = wanted.routes.iter().map(|Route { domain, servers }| {
            let servers: Result<Vec<_>, ResolverError> = all(servers);
            Ok((domain.clone(), servers?))
        });
        Ok(Self {
            path: PathBuf::from(RESOLV_CONF),
            instead: all(&wanted.servers)?,
            routes: routes.collect::<Result<_, ResolverError>>()?,
        })
    }

    /// The file to watch, if it counts or `may` do so later.
    pub(super) fn path(&self, may: bool) -> Option<&PathBuf> {
        (may || self.instead.is_empty()).then_some(&self.path)
    }

    /// The servers of single domains.
    pub(super) fn routes(&self) -> impl Iterator<Item = (Name, Resolvers)> {
        self.routes
            .iter()
            .map(|(domain, servers)| (domain.clone(), Resolvers::new(servers.clone())))
    }

    /// Reads the file. A file that is not there is, as for resolv.conf(5), a server on loopback.
    pub(super) fn read(&self) -> Resolvers {
        if !self.instead.is_empty() {
            return Resolvers::new(self.instead.clone());
        }
        let servers = match read_file(&self.path) {
            Ok(bytes) => parse(&String::from_utf8_lossy(&bytes), scope_id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))]
            }
            Err(error) => {
                log::warn!("cannot read {}: {error}", self.path.display());
                Vec::new()
            }
        };
        log::debug!("resolvers: {servers:?}");
        Resolvers::new(servers)
    }
}

fn address_of(server: &Server) -> Result<SocketAddr, ResolverError> {
    let Server { address, zone, port } = server;
    match (address, zone) {
        (IpAddr::V6(v6), Some(zone)) => {
            let by_name = |_| {
                interface_index(zone).map_err(|source| {
                    let zone = zone.clone();
                    ResolverError::Zone { address: *address, zone, source }
                })
            };
            let scope = zone.parse().or_else(by_name)?;
            Ok(SocketAddr::V6(SocketAddrV6::new(*v6, *port, 0, scope)))
        }
        (address, _) => Ok(SocketAddr::new(*address, *port)),
    }
}

fn parse(text: &str, scope_id: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            if words.next()? != "nameserver" {
                return None;
            }
            server(words.next()?, &scope_id)
        })
        .take(MAX_SERVERS)
        .collect()
}

/// An address, for IPv6 with a zone like `fe80::1%eth0` (RFC 4007, section 11).
fn server(word: &str, scope_id: &impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let (address, zone) = word.split_once('%').map_or((word, None), |(a, z)| (a, Some(z)));
    match (address.parse().ok()?, zone) {
        (IpAddr::V6(v6), Some(zone)) => scoped(v6, scope_id(zone)?),
        (address, _) => Some(SocketAddr::new(address, DNS_PORT)),
    }
}

fn scoped(address: Ipv6Addr, scope: u32) -> Option<SocketAddr> {
    Some(SocketAddr::V6(SocketAddrV6::new(address, DNS_PORT, 0, scope)))
}

fn scope_id(zone: &str) -> Option<u32> {
    zone.parse().ok().or_else(|| interface_index(zone).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nameserver_lines_with_an_address_count() {
        let text = "# nameserver 192.0.2.1\nsearch lan\nnameserver 192.0.2.2\n\
                    nameserver\t2001:db8::1 # comment\nnameserver nonsense\nnameserver\n\
                    nameserver fe80::1%eth7\nnameserver fe80::1%gone\noptions ndots:1\n";
        let servers = parse(text, |zone| (zone == "eth7").then_some(7));
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.2:53", "[2001:db8::1]:53", "[fe80::1%7]:53"]);
    }
}
