//! What the commands of the control socket know of the network beside the engine: who its
//! containers are.

use std::net::SocketAddr;

use super::roll::{Entry, Roll, Service};
use super::shared::Shared;
use crate::cli::publish::PublishDefaults;
use crate::clock::since_epoch;
use crate::config::{self, Egress, Lease, Rate};
use crate::control::{self, Container, Info, Interface, Kind, PortMapping, Refusal};
use crate::engine::{Instant, PortId};
use crate::io::listen::BoundPort;
use crate::io::published::{PublishedPorts, Rule};
use crate::network::definition::Definition;
use crate::network::leases::Journal;

/// What is known of a container from outside the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The process that it was attached by.
    pub pid: Option<i32>,
    /// The path of its network namespace.
    pub netns: Option<String>,
    /// What the program was called as.
    pub called_as: &'static str,
    /// The name of its interface.
    pub ifname: String,
    /// The inode of its network namespace.
    pub inode: Option<u64>,
    /// What else it is called on the network.
    pub aliases: Vec<String>,
    /// The metric of its default route by the network, if it has one.
    pub metric: Option<u32>,
}

/// What a control socket is for.
#[derive(Debug)]
pub enum Serves {
    /// A network with one container.
    Private(Facts),
    /// A named network, with the leases that are kept and the roll of who is there.
    Shared(Box<Definition>, Journal, Roll),
}

/// A network as its clients see it.
#[derive(Debug)]
pub(in crate::io) struct Instance {
    network: String,
    config: config::Network,
    /// Our own, as asked for before the calls were restricted.
    process: u32,
    called_as: &'static str,
    pub(super) containers: Vec<Member>,
    shared: Option<Shared>,
    roll: Roll,
    /// Names that ports are published for, and their places in the roll.
    services: Vec<(String, usize)>,
}

/// One container.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) facts: Facts,
    /// Its switch port; `None` under `--network none`.
    pub(super) port: Option<PortId>,
    lease: Lease,
    attached: u64,
    /// The user whose it is, if that is another than ours.
    pub(super) owner: Option<u32>,
    /// Its own, as far as it has one.
    pub(super) rate: Rate,
    /// What it may reach outside, now and at first.
    pub(super) egress: [Egress; 2],
    /// Its place in the roll, and what is there.
    entry: Option<(usize, Entry)>,
}

impl Instance {
    /// A private network with its container.
    pub(in crate::io) fn private(
        facts: Facts,
        config: config::Network,
        port: Option<(PortId, Lease)>,
    ) -> Self {
        let called_as = facts.called_as;
        let member = Member {
            facts,
            port: port.map(|(port, _)| port),
            lease: port.map_or_else(Lease::default, |(_, lease)| lease),
            attached: since_epoch().as_secs(),
            owner: None,
            rate: config.rate,
            egress: [config.egress.clone(), config.egress.clone()],
            entry: None,
        };
        let network = control::PRIVATE.to_owned();
        let process = std::process::id();
        let containers = vec![member];
        let (roll, services) = (Roll::default(), Vec::new());
        Self { network, config, process, called_as, containers, shared: None, roll, services }
    }

    /// A named network, which nobody is on yet.
    pub(in crate::io) fn shared_by_many(
        definition: Definition,
        journal: Journal,
        roll: Roll,
        config: config::Network,
    ) -> Self {
        Self {
            network: definition.name.clone(),
            config,
            process: std::process::id(),
            called_as: "rnsnet",
            containers: Vec::new(),
            shared: Some(Shared::new(definition, journal)),
            roll,
            services: Vec::new(),
        }
    }

    /// What a named network keeps.
    pub(super) fn shared(&mut self) -> Result<&mut Shared, Refusal> {
        let none = || Refusal::new(Kind::Failed, "this network is one container's own");
        self.shared.as_mut().ok_or_else(none)
    }

    /// Whether it is a named network.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Adds a container that is attached.
    pub(super) fn add(
        &mut self,
        facts: Facts,
        port: PortId,
        lease: Lease,
        owner: Option<u32>,
        (rate, egress): (Rate, [Egress; 2]),
    ) {
        let attached = since_epoch().as_secs();
        let (port, entry) = (Some(port), None);
        self.containers.push(Member { facts, port, lease, attached, owner, rate, egress, entry });
    }

    /// The ports of all containers with what holds for each: its own rate, or else the network's.
    pub(super) fn rates(&self) -> impl Iterator<Item = (PortId, Rate)> + '_ {
        let rate = |member: &Member| self.rate_of(member);
        self.containers.iter().filter_map(move |member| Some((member.port?, rate(member))))
    }

    /// What holds for a container.
    fn rate_of(&self, member: &Member) -> Rate {
        let default = self.shared.as_ref().map(|shared| shared.definition.rate);
        member.rate.or(default.unwrap_or(Rate::UNLIMITED))
    }

    /// Takes note of the rate that a container has of its own now.
    pub(super) fn note_rate(&mut self, port: PortId, rate: Rate) {
        if let Some(member) = self.containers.iter_mut().find(|m| m.port == Some(port)) {
            member.rate = rate;
            if let Some((place, entry)) = &mut member.entry {
                entry.arrival.rate = rate;
                self.roll.note(*place, entry);
            }
        }
    }

    /// Takes note of what a container may reach outside from now on.
    pub(super) fn note_egress(&mut self, port: PortId, egress: Egress) {
        if let Some(member) = self.containers.iter_mut().find(|m| m.port == Some(port)) {
            let [now, first] = &mut member.egress;
            now.clone_from(&egress);
            if let Some((place, entry)) = &mut member.entry {
                entry.arrival.egress = egress;
                entry.arrival.egress_first = Some(first.clone());
                self.roll.note(*place, entry);
            }
        }
    }

    /// Takes note of how a container that was added came, for another process than this.
    pub(super) fn enrol(&mut self, port: PortId, entry: Entry) {
        if let Some(member) = self.containers.iter_mut().find(|m| m.port == Some(port)) {
            let place = self.roll.place();
            self.roll.note(place, &entry);
            member.entry = Some((place, entry));
        }
    }

    /// Takes note of what is published for a container now.
    pub(super) fn note_ports(&mut self, port: PortId, published: &PublishedPorts) {
        let member = self.containers.iter_mut().find(|member| member.port == Some(port));
        if let Some((place, entry)) = member.and_then(|member| member.entry.as_mut()) {
            let own = |rule: &&Rule| rule.service().is_none() && rule.leads_to(port);
            entry.ports = published.iter().filter(own).flat_map(Rule::again).collect();
            self.roll.note(*place, entry);
        }
    }

    /// Takes note of what is published for a name of a named network now.
    pub(super) fn note_service(&mut self, service: &str, published: &PublishedPorts) {
        let Some(shared) = &self.shared else { return };
        let known = self.services.iter().position(|(name, _)| name.eq_ignore_ascii_case(service));
        let own =
            |rule: &&Rule| rule.service().is_some_and(|other| other.eq_ignore_ascii_case(service));
        let ports: Vec<_> = published.iter().filter(own).flat_map(Rule::again).collect();
        let place = match known {
            Some(known) if ports.is_empty() => {
                return self.roll.strike(self.services.swap_remove(known).1);
            }
            Some(known) => self.services.get(known).map(|(_, place)| *place).unwrap_or_default(),
            None if ports.is_empty() => return,
            None => {
                let place = self.roll.place();
                self.services.push((service.to_owned(), place));
                place
            }
        };
        let (network, service) = (shared.definition.id.clone(), service.to_owned());
        self.roll.note_service(place, &Service { network, service, ports });
    }

    /// The container at a port.
    pub(super) fn at(&self, port: PortId) -> Result<&Member, Refusal> {
        let member = self.containers.iter().find(|member| member.port == Some(port));
        member.ok_or_else(|| Refusal::new(Kind::NotFound, "it has gone"))
    }

    /// Forgets the container at a port; its lease is free again.
    pub(super) fn remove(&mut self, port: PortId) -> Option<Member> {
        let place = self.containers.iter().position(|member| member.port == Some(port))?;
        let member = self.containers.remove(place);
        if let Some((place, _)) = member.entry {
            self.roll.strike(place);
        }
        if let Some(shared) = &mut self.shared {
            shared.ipam.release(&member.facts.name);
            shared.gone(port);
        }
        Some(member)
    }

    /// Whether it is a named network on which nobody has been for a while.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let anybody = !self.containers.is_empty();
        self.shared.as_mut().is_some_and(|shared| shared.is_over(anybody, now))
    }

    /// A container of a named network whose connection has ended that was to hold it.
    pub(super) fn abandoned(&mut self) -> Option<PortId> {
        self.shared.as_mut().and_then(Shared::abandoned)
    }

    /// Where ports are published that name no address.
    pub(super) fn publish_defaults(&self) -> PublishDefaults {
        let Some(shared) = &self.shared else {
            return self.config.publish_defaults.clone();
        };
        let bind = shared.definition.host_binding.into_iter().collect();
        PublishDefaults { bind, ..PublishDefaults::default() }
    }

    /// When to ask that again.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.shared.as_ref().and_then(Shared::ends_at)
    }

    /// The network's name.
    pub(super) fn network(&self) -> &str {
        &self.network
    }

    /// Whether the network has IPv6.
    pub(super) fn has_ipv6(&self) -> bool {
        self.config.addresses.v6.is_some()
    }

    /// The id and name of every container.
    pub(super) fn names(&self) -> Vec<(String, String)> {
        let containers = self.containers.iter();
        containers.map(|member| (member.facts.id.clone(), member.facts.name.clone())).collect()
    }

    /// The container that is meant: the one of that name or id, or the only one.
    pub(super) fn find(&mut self, named: Option<&str>) -> Result<&mut Member, Refusal> {
        match named {
            Some(word) => {
                let names = self.containers.iter().map(|member| &member.facts);
                let names: Vec<_> = names.map(|facts| (&*facts.name, &*facts.id)).collect();
                let place = control::meant(word, &names).map_err(|count| match count {
                    0 => Refusal::new(Kind::NotFound, format!("no container {word:?}")),
                    _ => Refusal::new(Kind::Arguments, format!("{word:?} begins {count} ids")),
                })?;
                Ok(&mut self.containers[place])
            }
            None => match &mut self.containers[..] {
                [only] => Ok(only),
                _ => Err(Refusal::new(Kind::Arguments, "say which container")),
            },
        }
    }

    /// The ports of the containers that have a name on a named network.
    pub(super) fn called(&self, service: &str) -> Vec<PortId> {
        let called = self.containers.iter().filter(|member| member.is_called(service));
        called.filter_map(|member| member.port).collect()
    }

    /// Everything, as `info` tells it.
    pub(super) fn info(&self, published: &PublishedPorts) -> Info {
        Info {
            rnsnet: env!("CARGO_PKG_VERSION").to_owned(),
            process: self.process,
            called_as: self.called_as.to_owned(),
            network: self.network.clone(),
            mtu: self.config.mtu.get(),
            log_level: log::max_level().as_str().to_ascii_lowercase(),
            containers: self.containers.iter().map(|m| self.container(m, published)).collect(),
        }
    }

    /// A container, as clients see it.
    pub(super) fn container(&self, member: &Member, published: &PublishedPorts) -> Container {
        let Member { facts, port, lease, attached, .. } = member;
        let config::Addresses { v4, v6 } = &self.config.addresses;
        let v6 = v6.as_ref().filter(|_| lease.v6.is_some());
        let interface = port.map(|_| Interface {
            ifname: facts.ifname.clone(),
            mac: lease.mac.to_string(),
            ipv4: lease.v4.to_string(),
            ipv4_prefix_len: v4.subnet.prefix_len,
            ipv4_gateway: v4.gateway.to_string(),
            ipv6: v6.and(lease.v6).map(|address| address.to_string()),
            ipv6_prefix_len: v6.map(|v6| v6.subnet.prefix_len),
            ipv6_gateway: v6.map(|v6| v6.gateway.to_string()),
            dns: [Some(v4.dns.to_string()), v6.map(|v6| v6.dns.to_string())]
                .into_iter()
                .flatten()
                .collect(),
            link_local: lease.link_local.all(),
        });
        Container {
            id: facts.id.clone(),
            name: facts.name.clone(),
            pid: facts.pid,
            netns: facts.netns.clone(),
            inode: facts.inode,
            aliases: facts.aliases.clone(),
            metric: facts.metric,
            rate: self.rate_of(member),
            egress: member.egress[0].clone(),
            attached: *attached,
            interface,
            ports: member.ports(published),
        }
    }
}

impl Member {
    /// Whether this is its name or one of its aliases.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let Facts { name: own, aliases, .. } = &self.facts;
        std::iter::once(own).chain(aliases).any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Its published ports in the order of `docker port`.
    pub(super) fn ports(&self, published: &PublishedPorts) -> Vec<PortMapping> {
        let of = |rule: &&Rule| self.port.is_some_and(|port| rule.leads_to(port));
        mappings(published.iter().filter(of))
    }
}

/// The bound ports of rules as clients see them, in the order of `docker port`.
pub(super) fn mappings<'r>(rules: impl Iterator<Item = &'r Rule>) -> Vec<PortMapping> {
    let mapping = |port: BoundPort<'_>| PortMapping {
        protocol: port.protocol.to_string(),
        guest_port: port.guest_port,
        host_address: port.address.ip(),
        host_zone: match port.address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => port.zone.map(str::to_owned),
            SocketAddr::V4(_) | SocketAddr::V6(_) => None,
        },
        host_port: port.address.port(),
    };
    let mut ports: Vec<_> = rules.flat_map(Rule::bound).map(mapping).collect();
    ports.sort_by_key(|port| (port.guest_port, port.clone()));
    ports
}
