//! A container on named networks: leases, interfaces and ports, and their end.
//!
//! The container's side of what `session::network` serves. For each network: a lease over its
//! control socket, an interface in the container with what was leased, whose TAP goes to the
//! network's process with the container's pidfd. A network that cannot be had takes the others of
//! the same call with it.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use nix::sys::stat::fstat;

use super::network::{self, Foreign};
use super::{Announcement, Served, Watched, absolute, names_inside, serve, set_up, where_it_is};
use crate::attach::{self, Container, Ifname, Joint};
use crate::client::{self, ClientError, Connection};
use crate::config::{
    Attach, Egress, Endpoint, Join, Lease, LinkLocal, Membership, Offload, Target,
};
use crate::control::{self, Arrival, Info, Leased, Named, PortMapping, Ports, Spec, Wanted};
use crate::error::{Error, reasons};
use crate::io::control::roll::{Entry, Service};
use crate::io::{Ended, Signals};
use crate::network::definition::Definition;
use crate::network::leases::mac_address;
use crate::network::manage::{NetworkError, new_id};
use crate::network::options;
use crate::network::store::Store;
use crate::sys::isolate::isolate_initial;
use crate::sys::process;

/// What a container is called on a network, if it is on it.
fn called_there(connection: &mut Connection, inode: Option<u64>) -> Option<String> {
    let info: Info = connection.ask("info", &serde_json::json!({})).ok()?;
    let is_it = |there: &control::Container| inode.is_some() && there.inode == inode;
    info.containers.into_iter().find(is_it).map(|there| there.name)
}

/// Who a container is, on every network that it is on.
#[derive(Debug, Clone)]
pub struct Who {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether the name was chosen, so that its leases are kept for it.
    pub keep: bool,
    /// The process that it is attached by.
    pub pid: Option<i32>,
    /// The path of its network namespace.
    pub netns: Option<String>,
    /// That of the user namespace that it is entered by, if it was given.
    pub userns: Option<String>,
    /// What it alone calls others: the alias, and the other's name.
    pub links: Vec<(String, String)>,
    /// Whether it leaves its networks when we end.
    pub hold: bool,
}

/// A lease whose interface is not made yet. Dropping it gives the lease back.
#[derive(Debug)]
pub struct Ticket {
    connection: Connection,
    join: Join,
    lease: Lease,
    definition: Definition,
    /// Where the network's DNS answers inside the container, too.
    dns_listen: Option<IpAddr>,
    /// What it might reach outside at first, where that was changed since.
    egress_first: Option<Egress>,
}

/// A container's place on a network.
#[derive(Debug)]
pub struct Member {
    connection: Connection,
    name: String,
    /// The network.
    pub definition: Definition,
    /// Its addresses there.
    pub lease: Lease,
    /// Its interface.
    pub ifname: String,
    /// Of the default route, if there is one.
    metric: Option<u32>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
}

impl Who {
    /// A container that is attached for the first time.
    ///
    /// # Errors
    /// No random numbers for its id.
    fn new(name: Option<String>, default: String, target: Option<&Target>) -> Result<Self, Error> {
        let (keep, id) = (name.is_some(), new_id()?);
        let name = name.unwrap_or(default);
        let (pid, netns, userns, links) = (None, None, None, Vec::new());
        let mut who = Self { id, name, keep, pid, netns, userns, links, hold: false };
        if let Some(target) = target {
            who.is_at(target);
        }
        Ok(who)
    }

    fn is_at(&mut self, target: &Target) {
        (self.pid, self.netns) = where_it_is(target);
        self.userns = match target {
            Target::Path { userns: Some(userns), .. } => Some(absolute(userns)),
            _ => None,
        };
    }
}

impl Ticket {
    /// Gets a lease on a network, whose process is started if need be.
    ///
    /// # Errors
    /// No such network, an address or name that is taken, no address left.
    pub fn get(join: &Join, who: &Who) -> Result<Self, Error> {
        let own = match Foreign::named(&join.network)? {
            Some(foreign) => Err(foreign),
            None => {
                let store = Store::of_user().map_err(NetworkError::from)?;
                let definition = store.find(&join.network).map_err(NetworkError::from)?;
                Ok((store, definition))
            }
        };
        let addresses = join.v4.map(Into::into).into_iter().chain(join.v6.map(Into::into));
        let wanted = Wanted {
            name: who.name.clone(),
            addresses: addresses.collect(),
            mac: join.mac.map(|mac| mac.to_string()),
            keep: who.keep,
        };
        let namespace = who.netns.as_ref().and_then(|path| std::fs::metadata(path).ok());
        let inode = namespace.map(|there| there.ino());
        let mut tries = 0;
        loop {
            tries += 1;
            let mut connection = match &own {
                Ok((store, definition)) => network::connect(store, definition, inode)?,
                Err(foreign) => foreign.connect()?,
            };
            let leased: Leased = match connection.ask("lease", &wanted) {
                Ok(leased) => leased,
                // It was just about to end, since nobody had been there for a while.
                Err(error) if error.is_end() && tries < TRIES => continue,
                Err(error) => match called_there(&mut connection, inode) {
                    Some(container) => {
                        let name = join.network.clone();
                        return Err(NetworkError::Connected { container, name }.into());
                    }
                    None => return Err(error.into()),
                },
            };
            if let Err(foreign) = &own {
                foreign.remember();
            }
            return Self::of(connection, join.clone(), leased);
        }
    }

    /// What was leased by a connection.
    fn of(connection: Connection, join: Join, leased: Leased) -> Result<Self, Error> {
        let language = || ClientError::Language { name: join.network.clone() };
        let mac = mac_address(&leased.mac).ok_or_else(language)?;
        let link_local = join.link_local;
        if let (None, Some(address)) = (leased.ipv6, link_local.v6) {
            return Err(NetworkError::NoIpv6 { name: leased.network.name, address }.into());
        }
        let lease = Lease { mac, link_local, ..Lease::new(leased.ipv4, leased.ipv6) };
        let (dns_listen, egress_first) = (None, None);
        let definition = leased.network;
        Ok(Self { connection, join, lease, definition, dns_listen, egress_first })
    }

    /// Makes the interface and hands it to the network. The process must be single-threaded.
    ///
    /// # Errors
    /// What keeps it from being made or taken. The container is then as it was.
    pub fn bring(
        self,
        container: &Container,
        who: &Who,
        offload: Offload,
    ) -> Result<Member, Error> {
        let Self { mut connection, join, lease, definition, dns_listen, egress_first } = self;
        let held = container.pidfd.as_ref().and_then(|process| process::number(process.as_fd()));
        if held.is_some() && join.network.contains('/') {
            // The network's process touches no other file of somebody else's.
            return Err(NetworkError::NoPidfds { name: join.network }.into());
        }
        let joint = Joint {
            network: &definition.name,
            ifname: match &join.ifname {
                Some(name) => Ifname::Named(name),
                None => Ifname::Numbered(&definition.ifname_prefix),
            },
            lease,
            addresses: definition.addresses(),
            mtu: definition.mtu(),
            metric: options::metric(&definition, join.priority),
            routes: &definition.routes,
            offload,
        };
        let joined = attach::join(container, &joint)?;
        let dns = dns_listen.map(|address| attach::dns_sockets(container, address)).transpose()?;
        let dns = dns.unwrap_or_default();
        let arrival = Arrival {
            id: who.id.clone(),
            vnet_header: joined.vnet_header,
            ipv6: joined.ipv6,
            ifname: joined.ifname.clone(),
            aliases: join.aliases.iter().map(ToString::to_string).collect(),
            links: who.links.clone(),
            dns: dns_listen,
            pid: who.pid,
            pidns: who.pid.and_then(|_| own_pidns()),
            netns: who.netns.clone(),
            userns: who.userns.clone(),
            inode: inode(container),
            hold: who.hold,
            priority: join.priority,
            metric: joined.metric,
            rate: join.rate,
            egress: join.egress.unwrap_or_default(),
            egress_first,
            link_local: LinkLocal {
                v6: lease.link_local.v6.filter(|_| joined.ipv6),
                ..lease.link_local
            }
            .all(),
        };
        let pidfd = container.pidfd.as_ref().map(OwnedFd::try_clone).transpose();
        let pidfd = pidfd.map_err(set_up("watch the container"))?;
        let dns = dns.into_iter().map(|(_, socket)| socket);
        let fds: Vec<OwnedFd> = std::iter::once(joined.tap).chain(pidfd).chain(dns).collect();
        let _: control::Container = connection.ask_with("attach", &arrival, &fds)?;
        let lease = Lease { v6: lease.v6.filter(|_| joined.ipv6), ..lease };
        let (name, ifname, ports) = (who.name.clone(), joined.ifname, Vec::new());
        let metric = joined.metric;
        Ok(Member { connection, name, definition, lease, ifname, metric, ports })
    }
}

impl Member {
    /// Publishes ports of the container.
    ///
    /// # Errors
    /// The first that cannot be had; those before it stay.
    pub fn publish(&mut self, specs: &[String], bind: &[IpAddr]) -> Result<(), Error> {
        for spec in specs {
            let container = Some(self.name.clone());
            let (spec, bind) = (spec.clone(), bind.to_vec());
            let spec = Spec { spec, container, service: None, bind };
            let Ports { ports } = self.connection.ask("publish", &spec)?;
            self.ports.extend(ports);
        }
        Ok(())
    }

    /// Takes the container from the network, by calls that a process may make which has given
    /// everything up.
    ///
    /// # Errors
    /// The network's process has ended.
    fn leave(mut self) -> Result<(), NetworkError> {
        let named = Named { container: Some(self.name.clone()) };
        let name = self.definition.name;
        self.connection.tell("detach", &named).map_err(|_| NetworkError::Ended { name })
    }

    /// What was made, in a few words.
    fn summary(&self) -> String {
        let Self { definition, lease, ifname, ports, .. } = self;
        let mut text =
            format!("{} {ifname} {}/{}", definition.name, lease.v4, definition.v4.subnet.length());
        if let (Some(address), Some(pool)) = (lease.v6, &definition.v6) {
            text.push_str(&format!(" {address}/{}", pool.subnet.length()));
        }
        text.push_str(&format!(" gateway {}", definition.v4.gateway));
        for port in ports {
            let PortMapping { protocol, guest_port, .. } = port;
            text.push_str(&format!(" {}->{guest_port}/{protocol}", port.host_end()));
        }
        text
    }
}

/// Leases on every network that a container is to be on.
#[derive(Debug)]
pub(super) struct Tickets {
    tickets: Vec<Ticket>,
    who: Who,
    publish: Vec<String>,
    bind: Vec<IpAddr>,
}

impl Tickets {
    /// Leases for a container that is not there yet.
    pub(super) fn get(membership: &Membership, name: Option<String>) -> Result<Self, Error> {
        let default = format!("run-{}", std::process::id());
        let who = Who { hold: true, ..Who::new(name, default, None)? };
        Self::for_container(membership, who)
    }

    /// Leases for a container that is there.
    pub(super) fn for_container(membership: &Membership, who: Who) -> Result<Self, Error> {
        let tickets: Result<Vec<_>, Error> =
            membership.joins.iter().map(|join| Ticket::get(join, &who)).collect();
        let mut tickets = tickets?;
        if let (Some(first), Some(address)) = (tickets.first_mut(), membership.dns_listen) {
            if first.join.network.contains('/') {
                let name = first.join.network.clone();
                return Err(NetworkError::DnsListen { name }.into());
            }
            first.dns_listen = Some(address);
        }
        let Membership { publish, bind, .. } = membership.clone();
        Ok(Self { tickets, who, publish, bind })
    }

    /// What the files of a command are to name: the first network's resolvers, and its addresses.
    pub(super) fn names_inside(&self) -> crate::run::Names {
        let Some(first) = self.tickets.first() else { return crate::run::Names::default() };
        let endpoint = Endpoint {
            loopback_only: false,
            ifname: String::new(),
            lease: first.lease,
            offload: Offload::Auto,
        };
        let mut config = network::config(&first.definition);
        config.resolver.listen = first.dns_listen;
        config.egress = first.join.egress.clone().unwrap_or_default();
        names_inside(&endpoint, &config)
    }

    /// Brings the container to all its networks, or to none.
    pub(super) fn bring(
        self,
        container: &Container,
        target: &Target,
        offload: Offload,
    ) -> Result<Vec<Member>, Error> {
        let Self { tickets, mut who, publish, bind } = self;
        who.is_at(target);
        let mut members: Vec<Member> = Vec::new();
        let mut result = Ok(());
        for ticket in tickets {
            match ticket.bring(container, &who, offload) {
                Ok(member) => members.push(member),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        // The answers take the default route.
        let best = members.iter_mut().min_by_key(|member| member.metric.unwrap_or(u32::MAX));
        if let (Ok(()), Some(best)) = (&result, best) {
            result = best.publish(&publish, &bind);
        }
        for Member { definition, .. } in members.iter().filter(|_| result.is_ok()) {
            if let Err(error) = network::came_back(definition, inode(container)) {
                log::debug!("{} may be brought back twice: {}", definition.name, reasons(&error));
            }
        }
        match result {
            Ok(()) => Ok(members),
            Err(error) => {
                // What was refused is worth more than what became of the others.
                drop(leave_all(members));
                Err(error)
            }
        }
    }
}

/// What was made, in one line.
pub(super) fn summary(members: &[Member]) -> String {
    members.iter().map(Member::summary).collect::<Vec<_>>().join("; ")
}

/// Attaches a container to named networks; stays until it ends, unless it is to be detached.
pub(super) fn attach(
    command: Attach,
    membership: &Membership,
    exit: Option<OwnedFd>,
) -> Result<u8, Error> {
    let Attach { target, endpoint, process, .. } = command;
    let container = attach::open(&target)?;
    let default = format!("{UNNAMED}{}", inode(&container).unwrap_or_default());
    let mut who = Who::new(process.name.clone(), default, Some(&target))?;
    who.hold = !process.detach;
    let tickets = Tickets::for_container(membership, who)?;
    let names = tickets.names_inside();
    let ipv6 = tickets.tickets.iter().any(|ticket| ticket.lease.v6.is_some());
    crate::run::write_files(&names, &process, ipv6)?;
    let members = tickets.bring(&container, &target, endpoint.offload)?;
    let mut announcement = Announcement::of(process);
    announcement.log_status = true;
    announcement.status = summary(&members);
    if announcement.process.detach {
        let manager = std::mem::take(&mut announcement.manager);
        let made = announcement.make(&manager);
        if made.is_err() {
            // What could not be told is worth more than what became of the networks.
            drop(leave_all(members));
        }
        return made.map(|()| 0);
    }
    let exits = ends_of(&members)?.into_iter().chain(exit).collect();
    let served = serve_beside(&endpoint, &container, announcement, exits);
    let left = leave_all(members);
    served?;
    left?;
    Ok(0)
}

/// Takes a container from all its networks.
///
/// # Errors
/// The process of one has ended. The container has left the others.
pub(super) fn leave_all(members: Vec<Member>) -> Result<(), NetworkError> {
    members.into_iter().map(Member::leave).fold(Ok(()), Result::and)
}

/// What hangs up when the process of one of the networks ends.
///
/// # Errors
/// No more descriptors.
pub(super) fn ends_of(members: &[Member]) -> Result<Vec<OwnedFd>, Error> {
    let ends = members.iter().map(|member| member.connection.as_fd().try_clone_to_owned());
    ends.collect::<std::io::Result<_>>().map_err(set_up("watch the network's process"))
}

/// Waits for the end of the container or for a signal, as a network of its own would.
fn serve_beside(
    endpoint: &Endpoint,
    container: &Container,
    announcement: Announcement,
    exits: Vec<OwnedFd>,
) -> Result<Ended, Error> {
    let signals = Signals::new().map_err(set_up("receive signals"))?;
    let pidfd = container.pidfd.as_ref().map(OwnedFd::try_clone).transpose();
    let pidfd = pidfd.map_err(set_up("watch the container"))?;
    let watched = Watched { pidfd, path: container.watch_path.clone() };
    let served = Served::nothing(endpoint, crate::config::Network::default());
    let network = served.into_network(signals, watched, &announcement.process, exits);
    serve(network, announcement, false)
}

/// A container, as a user names it.
#[derive(Debug, Clone)]
pub enum Guest {
    /// By its process or its namespace.
    At(Target),
    /// By its name or its id, on any network that it is on already.
    Named(String),
}

/// Connects a running container to one more network.
///
/// # Errors
/// No such container or network, and what keeps it from being connected.
pub fn connect(
    join: &Join,
    guest: &Guest,
    name: Option<String>,
    links: Vec<(String, String)>,
) -> Result<(), Error> {
    isolate_initial(&[])?;
    if Foreign::named(&join.network)?.is_none() {
        // Before the container is looked for, as the two may be the wrong way round.
        let store = Store::of_user().map_err(NetworkError::from)?;
        store.find(&join.network).map_err(NetworkError::from)?;
    }
    let (target, known) = match guest {
        Guest::At(target) => (target.clone(), None),
        Guest::Named(name) => {
            let known = client::find(name)?.container;
            let target = match (known.pid, &known.netns) {
                (Some(pid), _) => Target::Pid(pid),
                (None, Some(netns)) => Target::Path { netns: netns.into(), userns: None },
                (None, None) => return Err(NetworkError::NoNamespace { name: name.clone() }.into()),
            };
            (target, Some(known))
        }
    };
    let container = attach::open(&target)?;
    let inode = inode(&container);
    if let Some(known) =
        known.as_ref().filter(|known| known.inode.is_some() && known.inode != inode)
    {
        // Another process has its number.
        return Err(ClientError::NotFound { name: known.name.clone() }.into());
    }
    let known = match known {
        Some(known) => Some(known),
        None => on_any_network(inode)?,
    };
    let egress = join.egress.clone().or_else(|| known.as_ref().map(|known| known.egress.clone()));
    let join = Join { egress, ..join.clone() };
    let mut who = match known {
        // The same container, so the same name and id, whatever it was named by.
        Some(known) => Who {
            keep: !known.name.starts_with(UNNAMED),
            id: known.id,
            name: known.name,
            pid: known.pid,
            netns: known.netns,
            userns: None,
            links: Vec::new(),
            hold: false,
        },
        None => Who::new(name, format!("{UNNAMED}{}", inode.unwrap_or_default()), Some(&target))?,
    };
    who.links = links;
    let member = Ticket::get(&join, &who)?.bring(&container, &who, Offload::Auto)?;
    network::came_back(&member.definition, inode)
}

/// Brings a container back to its network, whose process was killed and runs again.
///
/// # Errors
/// It has ended, and what keeps it from being attached.
pub(super) fn come_back(network: &str, entry: Entry) -> Result<(), Error> {
    let Entry { name, keep, addresses, mac, arrival, ports, .. } = entry;
    let is_elsewhere = is_elsewhere(&arrival);
    let unseen = || NetworkError::Elsewhere { name: name.clone() };
    let pid = match is_elsewhere {
        // Seen from here it may have another number.
        true => Some(arrival.inode.and_then(process_in).ok_or_else(unseen)?),
        false => arrival.pid,
    };
    let target = match (pid, &arrival.netns) {
        (Some(pid), _) => Target::Pid(pid),
        (None, Some(netns)) => {
            let userns = arrival.userns.as_ref().map(Into::into);
            Target::Path { netns: netns.into(), userns }
        }
        (None, None) => return Err(NetworkError::NoNamespace { name }.into()),
    };
    let container = attach::open(&target)?;
    if arrival.inode.is_none() || inode(&container) != arrival.inode {
        // Another process has its number.
        return Err(ClientError::NotFound { name }.into());
    }
    if is_elsewhere && !attach::was_joined(&container, network)? {
        // Another namespace has its number.
        return Err(unseen().into());
    }
    let mut connection =
        network::find(network)?.ok_or_else(|| NetworkError::Ended { name: network.to_owned() })?;
    let wanted = Wanted { name: name.clone(), addresses, mac: Some(mac), keep };
    let leased = connection.ask("lease", &wanted)?;
    // They were let pass before.
    let link_local = LinkLocal::of(&arrival.link_local).unwrap_or_default();
    let join = Join {
        network: network.to_owned(),
        aliases: arrival.aliases.iter().filter_map(|alias| alias.parse().ok()).collect(),
        ifname: Some(arrival.ifname),
        priority: arrival.priority,
        rate: arrival.rate,
        egress: Some(arrival.egress),
        link_local,
        ..Join::default()
    };
    let offload = if arrival.vnet_header { Offload::Auto } else { Offload::Off };
    let Arrival { id, netns, userns, links, dns, egress_first, .. } = arrival;
    let who = Who { id, name, keep, pid, netns, userns, links, hold: false };
    let ticket = Ticket { dns_listen: dns, egress_first, ..Ticket::of(connection, join, leased)? };
    let mut member = ticket.bring(&container, &who, offload)?;
    for (spec, bind) in ports {
        if let Err(error) = member.publish(std::slice::from_ref(&spec), &bind) {
            log::warn!("{spec} of {} is not published again: {}", who.name, reasons(&error));
        }
    }
    Ok(())
}

/// Publishes what was published for a name on a network whose process was killed and runs again.
pub(super) fn publish_again(network: &str, left: &Service) {
    let Service { service, ports, .. } = left;
    for (spec, bind) in ports {
        let wanted = Spec {
            spec: spec.clone(),
            container: None,
            service: Some(service.clone()),
            bind: bind.clone(),
        };
        let published = network::find(network).and_then(|connection| {
            let ended = || NetworkError::Ended { name: network.to_owned() };
            Ok(connection.ok_or_else(ended)?.ask::<Ports>("publish", &wanted)?)
        });
        if let Err(error) = published {
            log::warn!(
                "{spec} of @{network}/{service} is not published again: {}",
                reasons(&error)
            );
        }
    }
}

/// Whether a container's number is of another pid namespace than ours.
pub(super) fn is_elsewhere(arrival: &Arrival) -> bool {
    arrival.pid.is_some() && arrival.pidns.is_some() && arrival.pidns != own_pidns()
}

/// The inode of our pid namespace.
fn own_pidns() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/pid").ok().map(|there| there.ino())
}

/// A process in the network namespace of this inode that can be seen from here.
fn process_in(inode: u64) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.into_iter().find(|pid: &i32| {
        let there = std::fs::metadata(format!("/proc/{pid}/ns/net"));
        there.is_ok_and(|there| there.ino() == inode)
    })
}

/// Disconnects a running container from a network.
///
/// # Errors
/// It is not connected to it, unless `force`.
pub fn disconnect(network: &str, guest: &Guest, force: bool) -> Result<(), Error> {
    let (definition, connection) = network::look_up(network)?;
    let mut known = None;
    if let Some(mut connection) = connection {
        let info: Info = connection.ask("info", &serde_json::json!({}))?;
        let inode = match guest {
            Guest::At(target) => inode(&attach::open(target)?),
            Guest::Named(_) => None,
        };
        let there = |container: &control::Container| inode.is_some() && container.inode == inode;
        let place = match guest {
            Guest::At(_) => info.containers.iter().position(there),
            Guest::Named(name) => {
                let names = info.containers.iter().map(|known| (&*known.name, &*known.id));
                match control::meant(name, &names.collect::<Vec<_>>()) {
                    Err(2..) => {
                        let (name, what) = (name.clone(), "the beginning of the id");
                        return Err(ClientError::Ambiguous { name, what }.into());
                    }
                    other => other.ok(),
                }
            }
        };
        known = place.and_then(|place| info.containers.into_iter().nth(place));
        if let Some(container) = &known {
            let named = Named { container: Some(container.id.clone()) };
            let _: serde_json::Value = connection.ask("detach", &named)?;
        }
    }
    if known.is_some() || force {
        return Ok(());
    }
    let container = match guest {
        Guest::At(Target::Pid(pid)) => format!("pid {pid}"),
        Guest::At(Target::Path { netns, .. }) => netns.display().to_string(),
        Guest::At(Target::Tap(fd)) => format!("descriptor {fd}"),
        Guest::Named(name) => name.clone(),
    };
    Err(NetworkError::NotConnected { container, name: definition.name }.into())
}

/// The container whose network namespace has this inode, on whatever network it is.
fn on_any_network(inode: Option<u64>) -> Result<Option<control::Container>, Error> {
    let containers = client::instances()?.into_iter().flat_map(|other| other.info.containers);
    let same = |container: &control::Container| inode.is_some() && container.inode == inode;
    Ok(containers.into_iter().find(same))
}

/// What the names of containers start with that were given none.
const UNNAMED: &str = "ns-";

/// The inode of a container's network namespace.
pub fn inode(container: &Container) -> Option<u64> {
    let there = fstat(container.netns.as_fd()).ok()?;
    // 32 bits with glibc on 32-bit machines.
    #[allow(clippy::unnecessary_cast)]
    Some(there.st_ino as u64)
}

/// How often a network's process may be met that is about to end.
const TRIES: u32 = 5;
