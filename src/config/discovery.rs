//! What multicast crosses the border between a container and the host's networks: `--mdns` and
//! `--relay`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Name;

/// Multicast DNS (RFC 6762, section 3).
pub const MDNS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb)), 5353),
];
/// Most groups that are relayed: each is a socket on each of the host's interfaces, and Linux lets
/// one socket join 20.
pub const MAX_RELAYS: usize = 16;

/// What multicast goes out to the host's networks and comes in from them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovery {
    /// Multicast DNS, with what the container announces rewritten.
    pub mdns: bool,
    /// Groups whose datagrams pass as they are.
    pub relays: Vec<SocketAddr>,
    /// The host's own name, `host.local`, which no container is to have.
    pub host_name: Option<Name>,
}

impl Discovery {
    /// Whether nothing crosses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.mdns && self.relays.is_empty()
    }

    /// Every group that crosses.
    pub fn groups(&self) -> impl Iterator<Item = SocketAddr> {
        let mdns = MDNS.into_iter().filter(|_| self.mdns);
        mdns.chain(self.relays.iter().copied())
    }

    /// Takes note of what the host is called.
    #[must_use]
    pub fn on_host(mut self, name: &str) -> Self {
        let label = name.split('.').next().unwrap_or_default();
        self.host_name = format!("{label}.local").parse().ok();
        self
    }
}
