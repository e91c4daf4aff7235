//! Names that this network knows by itself: its containers', the host's, and fixed ones.
//!
//! A container's names belong to its port of the switch and are gone with it. Names of one network
//! are not seen in another: each has its own table. What is asked for by whom is looked up in this
//! order: the asking port's own hosts and links, containers' names and aliases, fixed names, fixed
//! names with a wildcard, addresses backwards. A name that is known but not with the type asked for
//! has no such record, which is an answer too; nothing that is found here goes to a server.

use std::net::IpAddr;

use super::message::rr;
use crate::config::name::parents;
use crate::config::{Name, Network};
use crate::engine::PortId;
use crate::sorted::SortedMap;

/// How long a client may remember a container's address, in seconds: no longer than it may take
/// until the container is seen to be gone.
pub(super) const OWNED_TTL: u32 = 1;
/// The same for names that stay as they are while the network runs.
pub(super) const FIXED_TTL: u32 = 60;

/// What one container is called, for [`crate::engine::Engine::set_names`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortNames {
    /// Its addresses on this network.
    pub addresses: Vec<IpAddr>,
    /// Its name, which its addresses lead back to.
    pub name: Option<Name>,
    /// What else it is called: aliases and short ids. Several containers may share one.
    pub aliases: Vec<Name>,
    /// What it alone calls another container: the alias, and that one's name.
    pub links: Vec<(Name, Name)>,
    /// What it alone knows: its `--add-host`.
    pub hosts: Vec<(Name, IpAddr)>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// These addresses, of the family asked for, maybe none; and for how long.
    Addresses(Vec<IpAddr>, u32),
    /// The address asked for backwards has this name.
    Pointer(Name, u32),
    /// There is no such name.
    Nothing,
}

/// All names of one network.
#[derive(Debug, Default)]
pub(super) struct Names {
    ports: SortedMap<PortId, PortNames>,
    /// Who has a name, in the order of their ports.
    owners: SortedMap<Name, Owners>,
    fixed: SortedMap<Name, Vec<IpAddr>>,
    /// Fixed names whose first label is a `*`, by the rest.
    wildcards: SortedMap<Name, Vec<IpAddr>>,
    pointers: SortedMap<Name, Pointer>,
}

/// Who has a name.
#[derive(Debug, Default)]
struct Owners {
    ports: Vec<PortId>,
    /// Which of them is named first, the next time: of those that ask for IPv4, and the others. Most
    /// ask for both.
    next: [usize; 2],
}

#[derive(Debug)]
struct Pointer {
    /// `None`: it is one of the network's own.
    owner: Option<PortId>,
    name: Name,
}

impl Names {
    /// The names of a network before it has containers.
    pub(super) fn new(network: &Network) -> Self {
        let mut names = Self::default();
        names.set_hosts(network);
        names
    }

    /// Takes the fixed names from the network's configuration, in the place of those before.
    pub(super) fn set_hosts(&mut self, network: &Network) {
        self.fixed.clear();
        self.wildcards.clear();
        self.pointers.retain(|_, pointer| pointer.owner.is_some());
        for host in &network.resolver.hosts {
            let map = if host.wildcard { &mut self.wildcards } else { &mut self.fixed };
            for address in host.address.resolve(&network.addresses) {
                map.or_default(host.name.clone()).push(address);
            }
            if !host.wildcard {
                for address in host.address.resolve(&network.addresses) {
                    let pointer = Pointer { owner: None, name: host.name.clone() };
                    let reverse = Name::reverse_of(address);
                    if !self.pointers.contains_key(&reverse) {
                        self.pointers.insert(reverse, pointer);
                    }
                }
            }
        }
    }

    /// The containers that have a name.
    pub(super) fn owners(&self, name: &Name) -> &[PortId] {
        self.owners.get(name).map_or(&[], |owners| &owners.ports)
    }

    /// Who calls whom by a name of its own.
    pub(super) fn links(&self) -> impl Iterator<Item = (PortId, &Name)> {
        let ports = self.ports.iter();
        ports.flat_map(|(port, names)| names.links.iter().map(|(_, name)| (*port, name)))
    }

    /// Gives a port these names, and takes those from it that it had.
    pub(super) fn set(&mut self, network: &Network, port: PortId, of_port: PortNames) {
        self.remove(network, port);
        let domain = network.resolver.domain.as_ref();
        for name in every_name(&of_port, domain) {
            let ports = &mut self.owners.or_default(name).ports;
            if let Err(place) = ports.binary_search(&port) {
                ports.insert(place, port);
            }
        }
        if let Some(name) = &of_port.name {
            let name = domain.and_then(|domain| name.below(domain)).unwrap_or_else(|| name.clone());
            for address in &of_port.addresses {
                let pointer = Pointer { owner: Some(port), name: name.clone() };
                self.pointers.insert(Name::reverse_of(*address), pointer);
            }
        }
        self.ports.insert(port, of_port);
    }

    /// Takes all names from a port.
    pub(super) fn remove(&mut self, network: &Network, port: PortId) {
        let Some(of_port) = self.ports.remove(&port) else {
            return;
        };
        for name in every_name(&of_port, network.resolver.domain.as_ref()) {
            if let Some(owners) = self.owners.get_mut(&name) {
                owners.ports.retain(|owner| *owner != port);
                if owners.ports.is_empty() {
                    self.owners.remove(&name);
                }
            }
        }
        for address in of_port.addresses {
            let reverse = Name::reverse_of(address);
            if self.pointers.get(&reverse).is_some_and(|pointer| pointer.owner == Some(port)) {
                self.pointers.remove(&reverse);
            }
        }
    }

    /// Looks a name up for `port`; `None` if this network does not know it.
    pub(super) fn find(
        &mut self,
        network: &Network,
        port: PortId,
        labels: &[u8],
        kind: u16,
    ) -> Option<Known> {
        let name = Name::from_labels(labels);
        let of_family = |addresses: &mut dyn Iterator<Item = IpAddr>, ttl| {
            Known::Addresses(addresses.filter(|address| is_of(*address, kind)).collect(), ttl)
        };
        let own = self.ports.get(&port);
        if let Some(own) = own {
            let mut hosts = own.hosts.iter().filter(|(host, _)| *host == name).peekable();
            if hosts.peek().is_some() {
                return Some(of_family(&mut hosts.map(|(_, address)| *address), FIXED_TTL));
            }
        }
        let linked = own.and_then(|own| own.links.iter().find(|(alias, _)| *alias == name));
        let name = linked.map_or(name, |(_, target)| target.clone());
        if let Some(owners) = self.owners.get_mut(&name) {
            let [v4, others] = &mut owners.next;
            let (count, next) = (owners.ports.len(), if kind == rr::A { v4 } else { others });
            let first = *next;
            *next = (first + 1) % count.max(1);
            let ports = owners.ports.iter().cycle().skip(first).take(count);
            let mut addresses = ports
                .filter_map(|port| self.ports.get(port))
                .flat_map(|port| port.addresses.iter().copied());
            return Some(of_family(&mut addresses, OWNED_TTL));
        }
        if linked.is_some() {
            // The one it is linked to is gone.
            return Some(Known::Nothing);
        }
        if let Some(addresses) = self.fixed.get(&name) {
            return Some(of_family(&mut addresses.iter().copied(), FIXED_TTL));
        }
        let mut above = parents(name.labels()).skip(1).map(Name::from_labels);
        if !self.wildcards.is_empty()
            && let Some(addresses) = above.find_map(|parent| self.wildcards.get(&parent))
        {
            return Some(of_family(&mut addresses.iter().copied(), FIXED_TTL));
        }
        self.find_address(network, &name, kind)
    }

    /// Looks up an address backwards.
    fn find_address(&self, network: &Network, name: &Name, kind: u16) -> Option<Known> {
        if let Some(Pointer { owner, name }) = self.pointers.get(name) {
            if kind != rr::PTR && kind != rr::ANY {
                return Some(Known::Addresses(Vec::new(), OWNED_TTL));
            }
            let ttl = if owner.is_some() { OWNED_TTL } else { FIXED_TTL };
            return Some(Known::Pointer(name.clone(), ttl));
        }
        // Nobody but this network knows who is on it (RFC 6303, section 3).
        let address = name.address()?;
        let addresses = &network.addresses;
        let own = match address {
            IpAddr::V4(ip) => addresses.v4.subnet.contains(ip),
            IpAddr::V6(ip) => addresses.v6.is_some_and(|v6| v6.subnet.contains(ip)),
        };
        own.then_some(Known::Nothing)
    }
}

/// What a container is called, each with and without the network's domain.
fn every_name(names: &PortNames, domain: Option<&Name>) -> Vec<Name> {
    let short = names.name.iter().chain(&names.aliases);
    let long = short.clone().filter_map(|name| name.below(domain?));
    short.cloned().chain(long).collect()
}

fn is_of(address: IpAddr, kind: u16) -> bool {
    match kind {
        rr::A => address.is_ipv4(),
        rr::AAAA => address.is_ipv6(),
        rr::ANY => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
