//! How a network's DNS behaves: whom it asks, what it knows itself, what its containers are told.

use std::net::IpAddr;

use super::{Addresses, Name};

/// How a network's DNS behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// Servers to ask instead of the host's; none are the host's.
    pub servers: Vec<Server>,
    /// Domains whose names are asked for elsewhere. The longest that fits counts.
    pub routes: Vec<Route>,
    /// Names with fixed addresses.
    pub hosts: Vec<Host>,
    /// The network's own domain: its containers are known below it and without it.
    pub domain: Option<Name>,
    /// Memory for answers that are kept, in bytes; 0 keeps none.
    pub cache_bytes: usize,
    /// Domains that containers try a short name in (`search` of resolv.conf(5)).
    pub search: Vec<Name>,
    /// Options of resolv.conf(5) for containers.
    pub options: Vec<String>,
    /// An address of the container's own loopback at which it is answered too.
    pub listen: Option<IpAddr>,
}

/// A DNS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// The interface it is on, by name or number, where its address is link-local (RFC 4007).
    pub zone: Option<String>,
    /// Its UDP and TCP port.
    pub port: u16,
}

/// A domain whose names are asked for elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The domain and all below it; the root is every name.
    pub domain: Name,
    /// Whom to ask, in this order.
    pub servers: Vec<Server>,
}

/// A name with a fixed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name.
    pub name: Name,
    /// Every name below it is meant, and not itself.
    pub wildcard: bool,
    /// Its address.
    pub address: HostAddress,
}

/// An address, or what stands for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAddress {
    /// This one.
    Is(IpAddr),
    /// Where the container reaches the host's services (`--host-access`): the gateway's addresses.
    Gateway,
}

/// Memory for answers, in bytes: some hundreds of them.
pub const CACHE_BYTES: usize = 256 << 10;
/// What containers call their host: Podman's name and Docker's.
const HOST_NAMES: [&str; 2] = ["host.containers.internal", "host.docker.internal"];

impl Default for Resolver {
    /// Asks the host's servers, keeps answers, knows no names.
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            routes: Vec::new(),
            hosts: Vec::new(),
            domain: None,
            cache_bytes: CACHE_BYTES,
            search: Vec::new(),
            options: Vec::new(),
            listen: None,
        }
    }
}

impl Resolver {
    /// Makes the names known by which containers expect their host, unless they are taken.
    pub fn add_host_names(&mut self) {
        for name in HOST_NAMES.into_iter().filter_map(|name| name.parse::<Name>().ok()) {
            if !self.hosts.iter().any(|host| host.name == name && !host.wildcard) {
                let address = HostAddress::Gateway;
                self.hosts.push(Host { name, wildcard: false, address });
            }
        }
    }
}

impl Resolver {
    /// The domains to search as DHCP has them: one behind the other (RFC 3397, RFC 3646).
    #[must_use]
    pub fn search_list(&self) -> Vec<u8> {
        self.search.iter().flat_map(|domain| domain.labels().iter().copied()).collect()
    }
}

impl HostAddress {
    /// The addresses meant in a network with `addresses`.
    pub fn resolve(self, addresses: &Addresses) -> impl Iterator<Item = IpAddr> + use<> {
        let (first, second) = match self {
            Self::Is(address) => (address, None),
            Self::Gateway => {
                let v6 = addresses.v6.map(|v6| IpAddr::V6(v6.gateway));
                (IpAddr::V4(addresses.v4.gateway), v6)
            }
        };
        std::iter::once(first).chain(second)
    }
}
