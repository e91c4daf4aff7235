//! The host's resolvers, from resolv.conf(5).
//!
//! Only `nameserver` lines count here. A server may be on the host's loopback (systemd-resolved,
//! dnsmasq): that is the host's choice, not a guest's.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use crate::engine::dns::Resolvers;
use crate::sys::sock::interface_index;

/// The port of every server in resolv.conf.
const DNS_PORT: u16 = 53;
/// More servers than this are not asked: a query is to fail within a client's patience.
const MAX_SERVERS: usize = 8;

/// Where the host's resolvers are written down.
#[derive(Debug, Clone)]
pub struct HostResolvers {
    path: PathBuf,
}

impl Default for HostResolvers {
    fn default() -> Self {
        Self { path: PathBuf::from("/etc/resolv.conf") }
    }
}

impl HostResolvers {
    /// The file.
    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Reads the file. A file that is not there is, as for resolv.conf(5), a server on loopback.
    pub(super) fn read(&self) -> Resolvers {
        let servers = match fs::read(&self.path) {
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
