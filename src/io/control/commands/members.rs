//! Containers come to a named network: `lease` and `attach`; and where its queries go.

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use super::super::instance::{Facts, Member};
use super::super::roll::Entry;
use super::{Command, Context, Reply, value};
use crate::config::{Lease, LinkLocal, Name, Protocol};
use crate::control::{Arrival, Kind, Leased, Refusal, Request, SetRate, Wanted, is_id};
use crate::engine::dns::PortNames;
use crate::io::Container;
use crate::io::published::Place;
use crate::network::definition::{Definition, check_name};
use crate::network::ipam::{IpamError, Wish};
use crate::network::leases::mac_address;
use crate::sys::{fd, tun::Tap};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "lease", run: lease },
    Command { name: "attach", run: attach },
    Command { name: "rate", run: rate },
];

/// A lease whose container is on its way. The lease is given back when this is dropped: by
/// the sweep in [`super::super::shared`], which finds that nobody has it any more.
#[derive(Debug)]
pub(in crate::io::control) struct Pending {
    name: String,
    lease: Lease,
    keep: bool,
    _alive: Rc<()>,
}

fn lease(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Wanted { name, addresses, mac, keep } = request.arguments()?;
    let refuse = |message: String| Refusal::new(Kind::Arguments, message);
    check_name(&name).map_err(|error| refuse(format!("invalid name {name:?}: {error}")))?;
    let mac = mac
        .map(|mac| mac_address(&mac).ok_or_else(|| refuse(format!("invalid MAC {mac:?}"))))
        .transpose()?;
    if let Some(uid) = context.stranger {
        let own = context.instance.containers.iter().filter(|m| m.owner == Some(uid)).count();
        if own >= MAX_OF_STRANGER {
            let message = format!("uid {uid} has {MAX_OF_STRANGER} containers, which is the most");
            return Err(Refusal::new(Kind::Failed, message));
        }
    }
    // One at a time: an earlier lease of this client is given back.
    context.session.pending = None;
    let shared = context.instance.shared()?;
    shared.sweep();
    let owner = context.stranger;
    if owner.is_some() && shared.ipam.is_kept(&name, owner) {
        return Err(taken(&name));
    }
    let wish = Wish { name: name.clone(), addresses, mac, keep, owner };
    let lease = shared.ipam.lease(&wish).map_err(|error| {
        let kind = match error {
            IpamError::Name { .. }
            | IpamError::Address { .. }
            | IpamError::Mac { .. }
            | IpamError::NoneFree { .. } => Kind::Conflict,
            IpamError::Reserved { .. }
            | IpamError::Elsewhere { .. }
            | IpamError::Outside { .. }
            | IpamError::Two { .. } => Kind::Arguments,
        };
        Refusal::new(kind, error.to_string())
    })?;
    let alive = shared.await_container(&name);
    context.session.pending = Some(Pending { name, lease, keep, _alive: alive });
    let Lease { mac, v4, v6, .. } = lease;
    let network = shared.definition.clone();
    Ok(value(&Leased { mac: mac.to_string(), ipv4: v4, ipv6: v6, network }))
}

fn attach(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let arrival: Arrival = request.arguments()?;
    let pending = context.session.pending.take();
    let pending = pending.ok_or_else(|| Refusal::new(Kind::Arguments, "a lease comes first"))?;
    let aliases = arrival.aliases.iter().map(|alias| name_of(alias));
    let aliases: Vec<Name> = aliases.collect::<Result<_, _>>()?;
    let links = arrival.links.iter().map(|(alias, name)| Ok((name_of(alias)?, name_of(name)?)));
    let links: Vec<(Name, Name)> = links.collect::<Result<_, Refusal>>()?;
    if !is_id(&arrival.id) {
        let message = format!("invalid id {:?}: expected 64 hex digits", arrival.id);
        return Err(Refusal::new(Kind::Arguments, message));
    }
    context.check_names(&pending.name, &arrival)?;
    let fds = std::mem::take(&mut context.fds);
    let container = container(fds, pending.lease, &arrival, context.stranger.is_some())?;
    let lease = container.lease;
    let mut place = Place { engine: context.engine, sockets: context.sockets };
    let attached = context.ports.attach(container, &mut place, context.now);
    let port = attached.map_err(|error| Refusal::new(Kind::Failed, error.to_string()))?;
    let short = arrival.id.get(..SHORT).and_then(|short| short.parse().ok());
    let own: Vec<_> = std::iter::once(lease.v4.into()).chain(lease.v6.map(Into::into)).collect();
    let names = PortNames {
        addresses: own.clone(),
        name: pending.name.parse().ok(),
        aliases: aliases.into_iter().chain(short).collect(),
        links,
        hosts: Vec::new(),
    };
    context.engine.set_names(port, names, context.now);
    let network = context.instance.shared()?.definition.id.clone();
    let entry = (context.stranger.is_none() && !arrival.hold).then(|| Entry {
        network,
        name: pending.name.clone(),
        keep: pending.keep,
        mac: lease.mac.to_string(),
        addresses: own,
        arrival: arrival.clone(),
        ports: Vec::new(),
    });
    let Arrival { id, ifname, pid, netns, inode, aliases, hold, metric, rate, .. } = arrival;
    let egress = arrival.egress;
    let name = pending.name.clone();
    let called_as = "rnsnet";
    let facts = Facts { id, name, pid, netns, inode, ifname, aliases, called_as, metric };
    let shared = context.instance.shared()?;
    shared.arrived(&pending.name);
    if hold {
        context.session.held.push(shared.hold(port));
    }
    if pending.keep {
        shared.journal.note(&pending.name, pending.lease, context.stranger);
    }
    let network = context.instance.network().to_owned();
    context.events.push("connect", &network, &facts.id, &facts.name, None);
    context.engine.set_egress(port, egress.clone(), context.now);
    let egress_first = arrival.egress_first.unwrap_or_else(|| egress.clone());
    context.instance.add(facts, port, lease, context.stranger, (rate, [egress, egress_first]));
    apply_rates(context);
    if let Some(entry) = entry {
        context.instance.enrol(port, entry);
    }
    let member = context.instance.at(port)?;
    context.published.welcome(port, |service| member.is_called(service), context.engine);
    Ok(value(&context.instance.container(member, context.published)))
}

/// The container that a request is about, by the descriptors that came with it: a TAP, a pidfd where
/// there are such, and of a container that has its DNS at an address of its own a UDP socket and a
/// TCP listener.
fn container(
    mut fds: Vec<OwnedFd>,
    mut lease: Lease,
    arrival: &Arrival,
    strange: bool,
) -> Result<Container, Refusal> {
    let refuse = |message: &str| Refusal::new(Kind::Arguments, message);
    let dns = match arrival.dns {
        None => Vec::new(),
        Some(_) if strange => return Err(refuse("sockets are taken of the owner alone")),
        Some(_) => fds.split_off(fds.len().saturating_sub(2)),
    };
    let mut fds = fds.into_iter();
    let (Some(tap), pidfd, None) = (fds.next(), fds.next(), fds.next()) else {
        return Err(refuse("attach takes a TAP and a pidfd"));
    };
    lease.v6 = lease.v6.filter(|_| arrival.ipv6);
    lease.link_local = LinkLocal::of(&arrival.link_local)
        .map_err(|error| refuse(&format!("link_local: {error}")))?;
    let tap = take_tap(tap, arrival.vnet_header, strange)
        .and_then(|mut tap| tap.persist().map(|()| tap))
        .map_err(|error| Refusal::new(Kind::Failed, format!("cannot use the TAP: {error}")))?;
    let dns = [Protocol::Udp, Protocol::Tcp].into_iter().zip(dns).collect();
    Ok(Container { tap, lease, pidfd, pcap: None, dns })
}

/// Changes how much a container may get and send each second.
fn rate(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let SetRate { container, rate: text } = request.arguments()?;
    let member = context.instance.find(container.as_deref())?;
    let none = || Refusal::new(Kind::Failed, "the container has no interface");
    let (port, mut rate) = (member.port.ok_or_else(none)?, member.rate);
    let refuse = |error| Refusal::new(Kind::Arguments, format!("invalid rate {text:?}: {error}"));
    rate.set(&text).map_err(refuse)?;
    context.instance.note_rate(port, rate);
    context.published.note_rate(rate);
    apply_rates(context);
    let member = context.instance.at(port)?;
    Ok(value(&context.instance.container(member, context.published)))
}

/// Tells the engine what holds for each container now.
pub(super) fn apply_rates(context: &mut Context<'_>) {
    for (port, rate) in context.instance.rates() {
        context.engine.set_rate(port, rate, context.now);
    }
    context.ports.resume_all();
}

fn take_tap(tap: OwnedFd, vnet_header: bool, strange: bool) -> std::io::Result<Tap> {
    match strange {
        false => Tap::from_fd(tap, vnet_header),
        true if fd::kind(tap.as_fd()) == fd::Kind::Tun => Tap::from_stranger(tap, vnet_header),
        true => Err(std::io::ErrorKind::InvalidInput.into()),
    }
}

/// How much of its id a container is called by, in digits.
const SHORT: usize = 12;
/// Most containers of one user who is not the network's owner.
const MAX_OF_STRANGER: usize = 128;

fn taken(name: &str) -> Refusal {
    Refusal::new(Kind::Denied, format!("permission denied: the name {name} is another's"))
}

impl Context<'_> {
    /// Keeps a container of one user from being taken for one of another, or for what the network
    /// or the world outside calls so.
    fn check_names(&mut self, name: &str, arrival: &Arrival) -> Result<(), Refusal> {
        let names = std::iter::once(name).chain(arrival.aliases.iter().map(String::as_str));
        for name in names.chain(arrival.id.get(..SHORT)) {
            let is_taken = |other: &Member| {
                other.owner != self.stranger
                    && (other.is_called(name) || other.facts.id.get(..SHORT) == Some(name))
            };
            if self.instance.containers.iter().any(is_taken) {
                return Err(taken(name));
            }
            if self.stranger.is_none() {
                continue;
            }
            let user = self.stranger;
            let is_it = |other: &str| other.eq_ignore_ascii_case(name);
            let published = self.published.iter().filter_map(|rule| rule.service()).any(is_it);
            let shared = self.instance.shared()?;
            let Definition { records, between, .. } = &shared.definition;
            let named = records.iter().any(|(record, _)| is_it(record));
            let ruled = between.iter().any(|(from, to, _)| is_it(from) || is_it(to));
            let kept = shared.ipam.is_kept(name, user);
            // One with a dot may be that of a machine somewhere else.
            if name.contains('.') || is_it("localhost") || named || ruled || published || kept {
                return Err(taken(name));
            }
        }
        let isolated = self.instance.shared()?.definition.isolate;
        match self.stranger {
            Some(_) if isolated && !arrival.links.is_empty() => {
                let message = "permission denied: a link opens a way on this network";
                Err(Refusal::new(Kind::Denied, message))
            }
            Some(_) if !arrival.rate.is_unlimited() => {
                let message = "permission denied: a rate is for the network's owner to say";
                Err(Refusal::new(Kind::Denied, message))
            }
            // Others could not be attached beside a TAP without the header.
            Some(_) if !arrival.vnet_header => {
                let message = "the TAP of another user's container needs a virtio header";
                Err(Refusal::new(Kind::Arguments, message))
            }
            _ => Ok(()),
        }
    }
}

fn name_of(text: &str) -> Result<Name, Refusal> {
    let refuse = |error| Refusal::new(Kind::Arguments, format!("invalid name {text:?}: {error}"));
    text.parse().map_err(refuse)
}
