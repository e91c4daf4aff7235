//! In the place of pasta: from what was asked for, and what the host's network looks like, to what
//! `session.rs` carries out.
//!
//! Owns which of the host's addresses and routes the container gets and what stands in for them
//! where there are none. Looks at nothing itself: `sys/host_links.rs` does, and so every rule here
//! is tested without a network.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::config::pasta::{HostLoopback, Job, Mirror, Outward, Pasta, Wish};
use crate::config::{
    Addresses, Attach, Caller, Cidr, Endpoint, Family, Layout, Lease, LinkRoute, Map, Neighbours,
    Network, Offload, Outbound, Publish, Refusal, Resolver, Rules, Run, Server, Setup, Source,
};
use crate::sys::host_links::{HostLinks, HostRoute};

/// What to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// A namespace that is there.
    Attach(Attach),
    /// A command in new namespaces.
    Run(Run),
}

/// What the host lacks for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The template.
    #[error("the host has no interface {0}")]
    NoInterface(String),
    /// `--ipv6-only` or `--outbound-if6` without IPv6.
    #[error("the host has no IPv6 address to copy")]
    NoIpv6,
}

impl PlanError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoInterface(_) => Some("`ip link` lists those it has"),
            Self::NoIpv6 => Some("give one with --address"),
        }
    }
}

/// Decides what the container gets.
///
/// `shell` is the command where none was given, `ephemeral` the ports that the host gives to
/// outgoing connections, which are never published unless named.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(
    pasta: Pasta,
    host: &HostLinks,
    shell: OsString,
    ephemeral: &RangeInclusive<u16>,
) -> Result<Plan, PlanError> {
    let index = |name: Option<&String>| match name {
        None => Ok(None),
        Some(name) => {
            let index = host.index_of(name);
            index.map(Some).ok_or_else(|| PlanError::NoInterface(name.clone()))
        }
    };
    let named = index(pasta.template.as_ref())?;
    // The way out of a family is what it is copied from, unless told.
    let out = (
        index(pasta.v4.as_ref().and_then(|wish| wish.outbound_interface.as_ref()))?,
        index(pasta.v6.as_ref().and_then(|wish| wish.outbound_interface.as_ref()))?,
    );
    let side = |v6| {
        let template = named.or(if v6 { out.1 } else { out.0 });
        Side { host, template: template.or_else(|| default_route_s_interface(host, v6)) }
    };
    let v4 = pasta.v4.as_ref().map(|wish| side(false).take(&pasta, wish));
    let v6 = pasta.v6.as_ref().map(|wish| side(true).take(&pasta, wish));
    // Without an address of the host's there is IPv4 that only rnsnet knows, and no IPv6.
    let v6 = v6.filter(|taken| !taken.addresses.is_empty());
    // Who names an interface for it to leave by wants it, too.
    if v6.is_none() && (v4.is_none() || out.1.is_some()) {
        return Err(PlanError::NoIpv6);
    }
    let template = side(false).template.filter(|_| v4.is_some()).or_else(|| side(true).template);
    Ok(assemble(pasta, v4, v6, template.and_then(|index| host.name_of(index)), shell, ephemeral))
}

/// What one family comes to.
struct Taken<A> {
    /// With their prefixes; the first is the one that ports lead to.
    addresses: Vec<(A, u8)>,
    gateway: A,
    routes: Vec<LinkRoute>,
    dns: Option<A>,
    maps: Vec<Map>,
    outbound: Option<Source<A>>,
    outbound_interface: Option<String>,
    resolver: Option<IpAddr>,
}

/// A view of the host for one family.
struct Side<'a> {
    host: &'a HostLinks,
    /// The interface that is copied.
    template: Option<u32>,
}

/// What the two families do differently.
trait Version: Copy + PartialEq + Into<IpAddr> {
    /// Of the other family, `None`.
    fn of(address: IpAddr) -> Option<Self>;
    fn loopback() -> IpAddr;
    /// The prefix of an address that comes without one.
    fn usual_prefix(self) -> u8;
    /// An address and a router for a host that has none.
    fn fallback() -> (Option<(Self, u8)>, Self);
}

impl Version for Ipv4Addr {
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    fn loopback() -> IpAddr {
        Self::LOCALHOST.into()
    }

    /// By the classes of RFC 791, section 3.2.
    fn usual_prefix(self) -> u8 {
        match self.octets() {
            [0..=127, ..] => 8,
            [128..=191, ..] => 16,
            _ => 24,
        }
    }

    fn fallback() -> (Option<(Self, u8)>, Self) {
        (Some(FALLBACK_V4), FALLBACK_ROUTER_V4)
    }
}

impl Version for Ipv6Addr {
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    fn loopback() -> IpAddr {
        Self::LOCALHOST.into()
    }

    fn usual_prefix(self) -> u8 {
        64
    }

    fn fallback() -> (Option<(Self, u8)>, Self) {
        (None, Self::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))
    }
}

impl Side<'_> {
    fn take<A: Version>(&self, pasta: &Pasta, wish: &Wish<A>) -> Taken<A> {
        let of_host = self.addresses::<A>();
        let of_this_family: Vec<LinkRoute> = self
            .routes(|route| A::of(route.route.destination).is_some())
            .map(|route| LinkRoute { on_link: route.route.gateway.is_some(), ..route.route })
            .collect();
        let addresses = match wish.address {
            Some(address) => {
                let known = of_host.iter().find(|(known, _)| *known == address);
                let usual = known.map_or_else(|| address.usual_prefix(), |(_, len)| *len);
                vec![(address, wish.prefix_len.unwrap_or(usual))]
            }
            None => {
                let (fallback, _) = A::fallback();
                let mut taken = of_host.clone();
                if taken.is_empty() {
                    taken.extend(fallback);
                }
                if !pasta.copy_addresses {
                    taken.truncate(1);
                }
                if let (Some(first), Some(len)) = (taken.first_mut(), wish.prefix_len) {
                    first.1 = len;
                }
                taken
            }
        };
        let of_default_route = best_default(&of_this_family).and_then(|route| route.gateway);
        let gateway = wish
            .gateway
            .or_else(|| of_default_route.and_then(A::of))
            .unwrap_or_else(|| A::fallback().1);
        let by_gateway = LinkRoute { on_link: true, ..LinkRoute::by(gateway.into()) };
        let routes = if wish.gateway.is_some() || of_this_family.is_empty() {
            vec![by_gateway]
        } else if pasta.copy_routes {
            // Gateways may be reachable by the others alone.
            let (links, gateways): (Vec<_>, Vec<_>) =
                of_this_family.into_iter().partition(|route| route.gateway.is_none());
            [links, gateways].concat()
        } else {
            vec![best_default(&of_this_family).copied().unwrap_or(by_gateway)]
        };
        let mut maps = Vec::new();
        let loopback = match wish.host_loopback {
            HostLoopback::Gateway => Some(gateway),
            HostLoopback::At(address) => Some(address),
            HostLoopback::Nothing => None,
        };
        // The loopback first: a container's address that is also the host's loopback there is not.
        maps.extend(loopback.map(|seen| Map { seen: seen.into(), real: A::loopback() }));
        if let (Some(seen), Some((real, _))) = (wish.map_guest, of_host.first()) {
            maps.push(Map { seen: seen.into(), real: (*real).into() });
        }
        Taken {
            addresses,
            gateway,
            routes,
            dns: wish.dns_forward,
            maps,
            outbound: wish.outbound.map(Source::Address),
            outbound_interface: wish.outbound_interface.clone(),
            resolver: wish.dns_host.map(Into::into),
        }
    }

    /// The template's addresses of one family.
    fn addresses<A: Version>(&self) -> Vec<(A, u8)> {
        let of_template = self.host.addresses.iter().filter(|a| Some(a.index) == self.template);
        of_template.filter_map(|a| Some((A::of(a.address)?, a.prefix_len))).collect()
    }

    /// The template's routes that its addresses do not bring along.
    fn routes(&self, wanted: impl Fn(&HostRoute) -> bool) -> impl Iterator<Item = &HostRoute> {
        let of_template = move |route: &&HostRoute| Some(route.index) == self.template;
        self.host.routes.iter().filter(of_template).filter(move |r| !r.of_address && wanted(r))
    }
}

/// The interface of the default route with the lowest metric.
fn default_route_s_interface(host: &HostLinks, v6: bool) -> Option<u32> {
    let defaults = host.routes.iter().filter(|HostRoute { route, .. }| {
        route.prefix_len == 0 && route.destination.is_ipv6() == v6
    });
    defaults.min_by_key(|route| route.route.metric.unwrap_or(0)).map(|route| route.index)
}

fn best_default(routes: &[LinkRoute]) -> Option<&LinkRoute> {
    let defaults = routes.iter().filter(|route| route.prefix_len == 0);
    defaults.min_by_key(|route| route.metric.unwrap_or(0))
}

fn assemble(
    pasta: Pasta,
    v4: Option<Taken<Ipv4Addr>>,
    v6: Option<Taken<Ipv6Addr>>,
    template: Option<&str>,
    shell: OsString,
    ephemeral: &RangeInclusive<u16>,
) -> Plan {
    let caller = caller(&pasta, v4.as_ref(), v6.as_ref(), ephemeral);
    let mut rules = Rules {
        neighbours: Neighbours::Host,
        protocols: pasta.protocols,
        announced: pasta.announced,
        ..Rules::default()
    };
    if let Some(mac) = pasta.gateway_mac {
        rules.gateway_mac = mac;
    }
    let mut resolver = Resolver { search: pasta.search, ..Resolver::default() };
    let mut dns = false;
    if let Some(v4) = &v4 {
        rules.maps.extend(&v4.maps);
        resolver.servers.extend(v4.resolver.map(server));
        dns |= v4.dns.is_some();
    }
    if let Some(v6) = &v6 {
        rules.maps.extend(&v6.maps);
        resolver.servers.extend(v6.resolver.map(server));
        dns |= v6.dns.is_some();
    }
    let (v4_guest, v4_family) = v4_family(v4.as_ref());
    let v6_family = v6.as_ref().and_then(|v6| v6_family(v6, &rules));
    let mut lease = Lease::new(v4_guest, v6_family.map(|(guest, _)| guest));
    if let Some(mac) = pasta.guest_mac {
        lease.mac = mac;
    }
    let everywhere = everywhere(v4.is_some());
    let bound = |port: Publish| match everywhere {
        Some(address) => port.or_at(address),
        None => port,
    };
    let network = Network {
        addresses: Addresses { v4: v4_family, v6: v6_family.map(|(_, family)| family) },
        mtu: pasta.mtu,
        publish: pasta.ports.fixed.into_iter().map(bound).collect(),
        dns,
        resolver,
        refusal: Refusal::Unreachable,
        rules,
        ..Network::default()
    };
    let ifname = pasta.ifname.or_else(|| template.map(str::to_owned));
    let endpoint = Endpoint {
        loopback_only: false,
        ifname: ifname.unwrap_or_else(|| "tap0".to_owned()),
        lease,
        offload: Offload::Auto,
    };
    let (membership, process) = (None, pasta.process);
    match pasta.job {
        Job::Attach(target) => {
            Plan::Attach(Attach { target, endpoint, network, membership, process, caller })
        }
        Job::Run(command) => {
            let command = if command.is_empty() { vec![shell] } else { command };
            let hostname = None;
            Plan::Run(Run { command, hostname, endpoint, network, membership, process, caller })
        }
    }
}

/// What is done to the interface, and which ports lead where.
fn caller(
    pasta: &Pasta,
    v4: Option<&Taken<Ipv4Addr>>,
    v6: Option<&Taken<Ipv6Addr>>,
    ephemeral: &RangeInclusive<u16>,
) -> Caller {
    let mut layout = Layout::default();
    let mut outbound = Outbound::default();
    if let Some(v4) = v4 {
        layout.addresses.extend(v4.addresses.iter().map(|(ip, len)| (IpAddr::V4(*ip), *len)));
        layout.routes.extend(&v4.routes);
        outbound.v4.clone_from(&v4.outbound);
        outbound.interface_v4.clone_from(&v4.outbound_interface);
    }
    if let Some(v6) = v6 {
        layout.addresses.extend(v6.addresses.iter().map(|(ip, len)| (IpAddr::V6(*ip), *len)));
        layout.routes.extend(&v6.routes);
        outbound.v6.clone_from(&v6.outbound);
        outbound.interface_v6.clone_from(&v6.outbound_interface);
    }
    let loopback: Option<IpAddr> = match (&pasta.v4, &pasta.v6) {
        (None, _) => Some(Ipv6Addr::LOCALHOST.into()),
        (_, None) => Some(Ipv4Addr::LOCALHOST.into()),
        (Some(_), Some(_)) => None,
    };
    let everywhere = everywhere(v4.is_some());
    let follow = |mirror: &Mirror, otherwise: Option<IpAddr>| {
        let mut mirror = mirror.clone();
        mirror.bind = mirror.bind.or(otherwise);
        mirror.exclude.push(ephemeral.clone());
        mirror
    };
    let ports = &pasta.ports;
    let mirrors = ports.mirrors.iter().map(|mirror| {
        // An interface has what addresses it has.
        follow(mirror, everywhere.filter(|_| mirror.interface.is_none()))
    });
    let outwards = ports.outwards.iter().map(|outward| {
        let at = outward.at.or(loopback);
        Outward { at, ..outward.clone() }
    });
    let outward_mirrors = ports.outward_mirrors.iter().map(|mirror| follow(mirror, loopback));
    Caller {
        personality: Some("pasta"),
        setup: if pasta.configure { Setup::Configure } else { Setup::Bare },
        outbound,
        layout: Some(layout),
        mirrors: mirrors.collect(),
        outwards: outwards.collect(),
        outward_mirrors: outward_mirrors.collect(),
        to_loopback: ports.to_loopback,
        outlive_netns: !pasta.quit_with_netns,
        host_files: true,
        ..Caller::default()
    }
}

/// Where a port without an address is bound: on those of the families that the container has.
fn everywhere(v4: bool) -> Option<IpAddr> {
    (!v4).then_some(Ipv6Addr::UNSPECIFIED.into())
}

/// A resolver at the usual port.
fn server(address: IpAddr) -> Server {
    Server { address, zone: None, port: 53 }
}

/// The container's address and its network; made up, and not served, for IPv6 alone.
fn v4_family(taken: Option<&Taken<Ipv4Addr>>) -> (Ipv4Addr, Family<Ipv4Addr>) {
    let first = taken.and_then(|v4| v4.addresses.first().copied());
    let (guest, prefix_len) = first.unwrap_or(FALLBACK_V4);
    let family = Family {
        subnet: Cidr::<Ipv4Addr>::around(guest, prefix_len),
        gateway: taken.map_or(FALLBACK_ROUTER_V4, |v4| v4.gateway),
        // Link-local, so in nobody's way where the forwarder is IPv6's alone.
        dns: taken.and_then(|v4| v4.dns).unwrap_or(Ipv4Addr::new(169, 254, 1, 1)),
    };
    (guest, family)
}

fn v6_family(taken: &Taken<Ipv6Addr>, rules: &Rules) -> Option<(Ipv6Addr, Family<Ipv6Addr>)> {
    let (guest, prefix_len) = taken.addresses.first().copied()?;
    let subnet = Cidr::<Ipv6Addr>::around(guest, prefix_len);
    let family = Family { subnet, gateway: taken.gateway, dns: guest };
    // Where the forwarder is IPv4's alone: the gateway's own link-local address, as is in nobody's
    // way either.
    let link = Family {
        subnet: Cidr { address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), prefix_len: 64 },
        ..family
    };
    let dns = taken.dns.unwrap_or_else(|| link.self_assigned(rules.gateway_mac));
    Some((guest, Family { dns, ..family }))
}

/// An address and a router for a container of a host that has none.
const FALLBACK_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 2, 1), 16);
const FALLBACK_ROUTER_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 2, 2);

#[cfg(test)]
mod tests;
