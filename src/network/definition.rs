//! What a network is: the contents of its file, and what must hold between them.
//!
//! PURE. A [`Definition`] is read strictly: an unknown key, a newer version or subnets that make
//! no sense are errors, whoever wrote the file. [`Plan`] is what `network create` was asked for, and
//! becomes a definition once it is known what the host and the other networks have taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::overlay::{self, Overlay};
use super::prefix::Prefix;
use super::subnets;
use crate::config::{
    Addresses, Between, Cidr, Family, Host, HostAddress, Mtu, Rate, Resolver, Server,
};
use crate::sorted::SortedMap;

/// A network as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Of the file's form: [`VERSION`].
    pub version: u32,
    /// What users call it.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Its IPv4 addresses.
    pub v4: Pool,
    /// Its IPv6 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Pool>,
    /// Containers reach each other and nothing outside.
    #[serde(default)]
    pub internal: bool,
    /// Containers reach the outside and not each other.
    #[serde(default)]
    pub isolate: bool,
    /// Of the containers' interfaces, in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Whether the gateway answers DNS queries.
    #[serde(default = "yes")]
    pub dns: bool,
    /// Where queries go that are about no container; the host's resolvers if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<IpAddr>,
    /// What interfaces in containers are called, before their number.
    #[serde(default = "default_ifname_prefix")]
    pub ifname_prefix: String,
    /// Where published ports are bound that name no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_binding: Option<IpAddr>,
    /// Shown and otherwise without a meaning here: every network can be attached to.
    #[serde(default)]
    pub attachable: bool,
    /// The user's own notes.
    #[serde(default)]
    pub labels: SortedMap<String, String>,
    /// The options as they were typed.
    #[serde(default)]
    pub options: SortedMap<String, String>,
    /// Whose members may attach containers as well: a group's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Names with fixed addresses: `printer`, or `*.apps` for every name below `apps`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<(String, IpAddr)>,
    /// What passes between containers of an isolated network: from, to, and what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub between: Vec<(String, String, String)>,
    /// Routes beside the default one: where to, by which neighbour, and the metric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// How much each container may get and send each second that has no rate of its own.
    #[serde(default, skip_serializing_if = "Rate::is_unlimited")]
    pub rate: Rate,
    /// Other hosts that have a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
}

/// A route of every container of a network: where to, by which neighbour, and the metric if it is
/// not the kernel's choice.
pub type Route = (Prefix, IpAddr, Option<u32>);

/// The addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The on-link prefix.
    pub subnet: Prefix,
    /// The router, which answers DNS too.
    pub gateway: IpAddr,
    /// The part of the subnet that addresses are chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<Prefix>,
    /// Addresses that are never chosen, by what has them.
    #[serde(default, skip_serializing_if = "SortedMap::is_empty")]
    pub aux: SortedMap<String, IpAddr>,
}

/// What `network create` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // as in `Definition`
pub struct Plan {
    pub name: String,
    /// One of each family at the most.
    pub subnets: Vec<Prefix>,
    /// Each in one of the subnets.
    pub gateways: Vec<IpAddr>,
    pub ip_ranges: Vec<Prefix>,
    pub aux: SortedMap<String, IpAddr>,
    /// An IPv6 subnet is chosen if none is given.
    pub ipv6: bool,
    pub internal: bool,
    pub isolate: bool,
    pub mtu: Mtu,
    pub dns: bool,
    pub resolvers: Vec<IpAddr>,
    pub ifname_prefix: Option<String>,
    pub host_binding: Option<IpAddr>,
    pub attachable: bool,
    pub labels: SortedMap<String, String>,
    pub options: SortedMap<String, String>,
    pub group: Option<u32>,
    pub routes: Vec<Route>,
    pub rate: Rate,
    /// What was given of a network that is to span hosts.
    pub overlay: Option<overlay::Wanted>,
}

/// What a new network must not overlap.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// Of other networks, with their names.
    pub networks: Vec<(String, Prefix)>,
    /// Of the host: its addresses and its routes.
    pub host: Vec<Prefix>,
}

/// Chance and time, for what is made new.
#[derive(Debug, Clone)]
pub struct Made {
    /// Where the id comes from.
    pub id: [u8; 32],
    /// Where an IPv6 prefix comes from.
    pub global_id: u64,
    /// The present, RFC 3339.
    pub created: String,
}

/// Why a network cannot be as it was asked for, or as its file has it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum DefinitionError {
    #[error("the file has version {found}, and this rnsnet knows version {VERSION}")]
    Version { found: u32 },
    #[error("the name {name:?} cannot be used: {reason}")]
    Name { name: String, reason: NameError },
    #[error("the id is not 64 hexadecimal digits")]
    Id,
    #[error("two {family} subnets are given, {first} and {second}: a network has one")]
    TwoSubnets { family: &'static str, first: Prefix, second: Prefix },
    #[error("the subnet {subnet} is too small: /{longest} is the smallest")]
    TooSmall { subnet: Prefix, longest: u8 },
    #[error("the subnet {subnet} cannot be used: it overlaps {reserved}")]
    Reserved { subnet: Prefix, reserved: &'static str },
    #[error("the subnet {subnet} overlaps {other} of the network {name}")]
    Overlap { subnet: Prefix, other: Prefix, name: String },
    #[error("no free IPv{version} subnet is left: give --subnet")]
    NoneLeft { version: u8 },
    #[error("the {what} {address} is in none of the network's subnets")]
    Outside { what: &'static str, address: String },
    #[error("the {what} {address} cannot be used: it is {use_}")]
    Unusable { what: &'static str, address: IpAddr, use_: &'static str },
    #[error("two {what}s are given for {subnet}")]
    Two { what: &'static str, subnet: Prefix },
    #[error("{subnet} is no subnet of IPv{version}")]
    Family { subnet: Prefix, version: u8 },
    #[error("the name {name:?} of a record is no name")]
    Record { name: String },
    #[error("the rule {rule:?} cannot be understood")]
    Between { rule: String },
    #[error("the route to {to} cannot be had: {why}")]
    Route { to: Prefix, why: &'static str },
    #[error("an MTU of {mtu} is not from {} to {}", Mtu::MIN, Mtu::MAX)]
    Mtu { mtu: u16 },
}

debug_as_display!(DefinitionError);

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No character at all.
    #[error("it is empty")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("it is longer than {MAX_NAME} bytes")]
    TooLong,
    /// Docker's rule.
    #[error("write letters, digits, and from the second on '_', '.' and '-'")]
    Character,
    /// A word with a meaning of its own.
    #[error("the word has a meaning of its own")]
    Reserved,
}

impl Definition {
    /// Holds what the file says against what must be so.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), DefinitionError> {
        if self.version != VERSION {
            return Err(DefinitionError::Version { found: self.version });
        }
        check_name(&self.name)
            .map_err(|reason| DefinitionError::Name { name: self.name.clone(), reason })?;
        if self.id.len() != 64 || !self.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DefinitionError::Id);
        }
        if Mtu::new(self.mtu).is_none() {
            return Err(DefinitionError::Mtu { mtu: self.mtu });
        }
        for (pool, version) in [(Some(&self.v4), 4), (self.v6.as_ref(), 6)] {
            let Some(pool) = pool else { continue };
            if pool.subnet.is_v4() != (version == 4) {
                return Err(DefinitionError::Family { subnet: pool.subnet, version });
            }
            pool.check()?;
        }
        for (to, gateway, _) in &self.routes {
            let (to, gateway) = (*to, *gateway);
            let refuse = |why| Err(DefinitionError::Route { to, why });
            match self.subnets().find(|subnet| subnet.contains(gateway)) {
                _ if to.length() == 0 => {
                    return refuse("a default route is the network's own, see --opt metric");
                }
                Some(subnet) if subnet.is_v4() != to.is_v4() => {
                    return refuse("its gateway is of the other family");
                }
                Some(subnet) if subnet.overlaps(&to) => {
                    return refuse("it overlaps the network's subnet");
                }
                Some(_) => {}
                None => {
                    let address = gateway.to_string();
                    return Err(DefinitionError::Outside { what: "route's gateway", address });
                }
            }
        }
        for (name, address) in &self.records {
            record(name, *address).map_err(|_| DefinitionError::Record { name: name.clone() })?;
        }
        for (from, to, pass) in &self.between {
            let failed = || DefinitionError::Between { rule: format!("{from} {to} {pass}") };
            rule(from, to, pass).ok_or_else(failed)?;
        }
        Ok(())
    }

    /// Refuses routes that no container could be given. A file that has such ones is read all the
    /// same, so that the network can be removed.
    fn check_routes(&self) -> Result<(), DefinitionError> {
        // What the kernel takes for no metric.
        let metric = |to: &Prefix, metric: Option<u32>| match metric.unwrap_or_default() {
            0 if !to.is_v4() => 1024,
            metric => metric,
        };
        for (number, (to, gateway, first)) in self.routes.iter().enumerate() {
            let mut pools = std::iter::once(&self.v4).chain(&self.v6);
            let pool = pools.find(|pool| pool.subnet.contains(*gateway));
            if let Some(use_) = pool.and_then(|pool| pool.use_of(*gateway)) {
                let (what, address) = ("route's gateway", *gateway);
                return Err(DefinitionError::Unusable { what, address, use_ });
            }
            let again = |(other, _, second): &Route| {
                other == to && metric(to, *second) == metric(to, *first)
            };
            if self.routes.iter().skip(number + 1).any(again) {
                let why = "it is given twice with the same metric";
                return Err(DefinitionError::Route { to: *to, why });
            }
        }
        Ok(())
    }

    /// Whom its DNS asks, and what it knows itself.
    #[must_use]
    pub fn resolver(&self) -> Resolver {
        let server = |address: &IpAddr| Server { address: *address, zone: None, port: DNS_PORT };
        let records = self.records.iter();
        let hosts = records.filter_map(|(name, address)| record(name, *address).ok());
        let mut resolver = Resolver {
            servers: self.resolvers.iter().map(server).collect(),
            hosts: hosts.collect(),
            // Containers are known as `web` and as `web.n1`.
            domain: self.name.parse().ok(),
            ..Resolver::default()
        };
        resolver.add_host_names();
        resolver
    }

    /// What passes between containers that do not reach each other.
    #[must_use]
    pub fn ways(&self) -> Vec<Between> {
        self.between.iter().filter_map(|(from, to, pass)| rule(from, to, pass)).collect()
    }

    /// The id as tables show it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Its subnets.
    pub fn subnets(&self) -> impl Iterator<Item = Prefix> + '_ {
        std::iter::once(&self.v4).chain(&self.v6).map(|pool| pool.subnet)
    }

    /// The MTU of its containers' interfaces.
    #[must_use]
    pub fn mtu(&self) -> Mtu {
        Mtu::new(self.mtu).unwrap_or_default()
    }

    /// Its addresses as the engine has them. The gateway answers DNS queries itself.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let v4 = {
            let (address, gateway) = (v4(self.v4.subnet.first()), v4(self.v4.gateway));
            let subnet = Cidr { address, prefix_len: self.v4.subnet.length() };
            Family { subnet, gateway, dns: gateway }
        };
        let v6 = self.v6.as_ref().map(|pool| {
            let (address, gateway) = (v6(pool.subnet.first()), v6(pool.gateway));
            let subnet = Cidr { address, prefix_len: pool.subnet.length() };
            Family { subnet, gateway, dns: gateway }
        });
        Addresses { v4, v6 }
    }
}

/// The IPv4 form of an address that is one; a checked [`Pool`] of IPv4 has no other.
pub(super) fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// As [`v4`], for IPv6.
pub(super) fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl Pool {
    /// A subnet whose router is its first usable address.
    fn new(subnet: Prefix) -> Self {
        let gateway = subnet.nth(1).unwrap_or_else(|| subnet.first());
        Self { subnet, gateway, ip_range: None, aux: SortedMap::new() }
    }

    fn check(&self) -> Result<(), DefinitionError> {
        let subnet = self.subnet;
        let longest = if subnet.is_v4() { 30 } else { 126 };
        if subnet.length() > longest {
            return Err(DefinitionError::TooSmall { subnet, longest });
        }
        for (reserved, name) in RESERVED {
            if reserved.parse().is_ok_and(|reserved: Prefix| reserved.overlaps(&subnet)) {
                return Err(DefinitionError::Reserved { subnet, reserved: name });
            }
        }
        let gateway = std::iter::once(("gateway", self.gateway));
        let aux = self.aux.values().map(|address| ("auxiliary address", *address));
        for (what, address) in gateway.chain(aux) {
            if !subnet.contains(address) {
                return Err(DefinitionError::Outside { what, address: address.to_string() });
            }
            if let Some(use_) = self.use_of(address) {
                return Err(DefinitionError::Unusable { what, address, use_ });
            }
        }
        for (name, address) in &self.aux {
            let twice = self.aux.iter().any(|(other, same)| same == address && other < name);
            let use_ = match () {
                () if *address == self.gateway => "the gateway's",
                () if twice => "another auxiliary address",
                () => continue,
            };
            let (what, address) = ("auxiliary address", *address);
            return Err(DefinitionError::Unusable { what, address, use_ });
        }
        match self.ip_range {
            Some(range) if !subnet.covers(&range) => {
                let address = range.to_string();
                Err(DefinitionError::Outside { what: "range", address })
            }
            _ => Ok(()),
        }
    }

    /// What an address of the subnet is that no machine can have.
    #[must_use]
    pub fn use_of(&self, address: IpAddr) -> Option<&'static str> {
        if address == self.subnet.first() {
            // RFC 4291, section 2.6.1, for IPv6.
            let anycast = "the subnet-router anycast address";
            return Some(if address.is_ipv4() { "the network's own address" } else { anycast });
        }
        let broadcast = address.is_ipv4() && address == self.subnet.last();
        broadcast.then_some("the broadcast address")
    }
}

impl Plan {
    /// Makes the network that was asked for, with a subnet that is free where none was given.
    ///
    /// # Errors
    /// What does not fit together, or with what is taken.
    pub fn make(self, taken: &Taken, made: &Made) -> Result<Definition, DefinitionError> {
        let (v4, v6) = self.pools(taken, made)?;
        let definition = Definition {
            version: VERSION,
            name: self.name,
            id: hexadecimal(&made.id),
            created: made.created.clone(),
            v4,
            v6,
            internal: self.internal,
            isolate: self.isolate,
            mtu: self.mtu.get(),
            dns: self.dns,
            resolvers: self.resolvers,
            ifname_prefix: self.ifname_prefix.unwrap_or_else(default_ifname_prefix),
            host_binding: self.host_binding,
            attachable: self.attachable,
            labels: self.labels,
            options: self.options,
            group: self.group,
            records: Vec::new(),
            between: Vec::new(),
            routes: self.routes,
            rate: self.rate,
            overlay: None,
        };
        definition.check()?;
        definition.check_routes()?;
        for subnet in definition.subnets() {
            let other = taken.networks.iter().find(|(_, other)| other.overlaps(&subnet));
            if let Some((name, other)) = other {
                let (name, other) = (name.clone(), *other);
                return Err(DefinitionError::Overlap { subnet, other, name });
            }
        }
        Ok(definition)
    }

    fn pools(&self, taken: &Taken, made: &Made) -> Result<(Pool, Option<Pool>), DefinitionError> {
        let given4 = self.given(true)?;
        let given6 = self.given(false)?;
        let mut avoid: Vec<Prefix> = taken.networks.iter().map(|(_, prefix)| *prefix).collect();
        avoid.extend(taken.host.iter().filter(|route| subnets::is_specific(route)));
        let v4 = match given4 {
            Some(subnet) => subnet,
            None => subnets::choose_v4(&avoid).ok_or(DefinitionError::NoneLeft { version: 4 })?,
        };
        let v6 = match given6 {
            Some(subnet) => Some(subnet),
            None if self.ipv6 => {
                let chosen = subnets::choose_v6(&avoid, made.global_id);
                Some(chosen.ok_or(DefinitionError::NoneLeft { version: 6 })?)
            }
            None => None,
        };
        let mut pools: Vec<Pool> = std::iter::once(v4).chain(v6).map(Pool::new).collect();
        let mut gateways = Vec::new();
        for gateway in &self.gateways {
            let pool = find(&mut pools, |subnet| subnet.contains(*gateway));
            let pool = pool.ok_or_else(|| outside("gateway", gateway.to_string()))?;
            if gateways.contains(&pool.subnet) {
                return Err(DefinitionError::Two { what: "gateway", subnet: pool.subnet });
            }
            gateways.push(pool.subnet);
            pool.gateway = *gateway;
        }
        for range in &self.ip_ranges {
            let pool = find(&mut pools, |subnet| subnet.covers(range));
            let pool = pool.ok_or_else(|| outside("range", range.to_string()))?;
            if pool.ip_range.replace(*range).is_some() {
                return Err(DefinitionError::Two { what: "range", subnet: pool.subnet });
            }
        }
        for (name, address) in &self.aux {
            let pool = find(&mut pools, |subnet| subnet.contains(*address));
            let pool = pool.ok_or_else(|| outside("auxiliary address", address.to_string()))?;
            pool.aux.insert(name.clone(), *address);
        }
        let mut pools = pools.into_iter();
        let v4 = pools.next().unwrap_or_else(|| Pool::new(v4));
        Ok((v4, pools.next()))
    }

    /// The subnet of one family that was asked for.
    fn given(&self, v4: bool) -> Result<Option<Prefix>, DefinitionError> {
        let mut given = self.subnets.iter().copied().filter(|subnet| subnet.is_v4() == v4);
        match (given.next(), given.next()) {
            (Some(first), Some(second)) => {
                let family = if v4 { "IPv4" } else { "IPv6" };
                Err(DefinitionError::TwoSubnets { family, first, second })
            }
            (given, _) => Ok(given),
        }
    }
}

fn find(pools: &mut [Pool], has: impl Fn(&Prefix) -> bool) -> Option<&mut Pool> {
    pools.iter_mut().find(|pool| has(&pool.subnet))
}

fn outside(what: &'static str, address: String) -> DefinitionError {
    DefinitionError::Outside { what, address }
}

/// Holds a network's or container's name against Docker's rule, a length that leaves room for it
/// in the path of a socket, and the words that `--network` understands otherwise.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let mut bytes = name.bytes();
    match bytes.next() {
        None => return Err(NameError::Empty),
        Some(first) if !first.is_ascii_alphanumeric() => return Err(NameError::Character),
        Some(_) => {}
    }
    if !bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Err(NameError::Character);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    let reserved = ["default", "none", "host", "bridge", "private", "container"];
    if reserved.contains(&name) { Err(NameError::Reserved) } else { Ok(()) }
}

/// Reads the name of a record: `printer`, or `*.apps` for every name below `apps`.
///
/// # Errors
/// What is wrong with it.
pub fn record(name: &str, address: IpAddr) -> Result<Host, crate::config::NameError> {
    let below = name.strip_prefix("*.");
    let address = HostAddress::Is(address);
    Ok(Host { name: below.unwrap_or(name).parse()?, wildcard: below.is_some(), address })
}

fn rule(from: &str, to: &str, pass: &str) -> Option<Between> {
    let (from, to, pass) = (from.parse().ok()?, to.parse().ok()?, pass.parse().ok()?);
    Some(Between { from, to, pass })
}

/// An id as it is shown.
pub(super) fn hexadecimal(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn default_mtu() -> u16 {
    Mtu::default().get()
}

fn default_ifname_prefix() -> String {
    "eth".to_owned()
}

fn yes() -> bool {
    true
}

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// The version of the file's form that is written and read.
pub const VERSION: u32 = 1;

/// A socket's path has at most 107 bytes (unix(7)), and the directories before the name up to 37.
pub const MAX_NAME: usize = 50;

/// Prefixes whose addresses cannot be on a link: RFC 1122, section 3.2.1.3, RFC 1112, RFC 4291.
const RESERVED: [(&str, &str); 6] = [
    ("0.0.0.0/8", "0.0.0.0/8, this network"),
    ("127.0.0.0/8", "127.0.0.0/8, the loopback"),
    ("224.0.0.0/3", "224.0.0.0/3, the multicast and reserved addresses"),
    ("::/64", "::/64, the loopback and mapped addresses"),
    ("fe80::/10", "fe80::/10, the link-local addresses"),
    ("ff00::/8", "ff00::/8, the multicast addresses"),
];

#[cfg(test)]
mod tests;
