//! Published ports on the host: all of them are bound, or none.
//!
//! Finds out what a rule comes to on this machine (which port is free, which addresses an
//! interface has, what an inherited socket is) and binds it, at the start and while the network
//! runs. Clients are not accepted here. Following an interface's changes is for [`super::published`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use nix::sys::resource::{Resource, getrlimit};

use super::activation::{Activation, ActivationError};
use crate::config::{Bind, FREE_PORTS, HostPorts, HostSide, Ports, Protocol, Publish};
use crate::control::{Kind, PORT_TAKEN, bind_hint};
use crate::sys::inherited::{InheritedError, InheritedSocket, take_socket};
use crate::sys::interfaces::Interfaces;
use crate::sys::sock;

/// A bound port and where it leads.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: OwnedFd,
    /// What it is bound to.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The container's port.
    pub guest_port: u16,
    /// An IPv6 socket that takes IPv4 as well; ours never do.
    pub dual_stack: bool,
}

/// A rule with its sockets.
#[derive(Debug)]
pub struct Published {
    /// What was asked for; the protocol is that of the sockets.
    pub rule: Publish,
    /// Each host port with the container's.
    pub pairs: Vec<(u16, u16)>,
    /// The sockets; none for an interface without addresses.
    pub listeners: Vec<Listener>,
}

/// A port that cannot be published.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ListenError {
    #[error(
        "cannot publish {publish}: cannot bind {}/{}",
        spelt(*address, zone_of(publish)),
        publish.protocol
    )]
    Bind { publish: Box<Publish>, address: SocketAddr, source: io::Error },
    #[error("cannot publish {publish}: no free port in {range}")]
    NoFreePort { publish: Box<Publish>, range: Ports },
    #[error("cannot publish {publish}: the host has no interface {interface}")]
    NoInterface { publish: Box<Publish>, interface: String },
    #[error("cannot publish {publish}: cannot list the host's addresses")]
    List { publish: Box<Publish>, source: io::Error },
    #[error("cannot publish {publish}: cannot use descriptor {fd}")]
    Inherited { publish: Box<Publish>, fd: i32, source: InheritedError },
    #[error("cannot publish {publish}: cannot use descriptor {fd}")]
    NotOurs { publish: Box<Publish>, fd: i32, source: ActivationError },
    #[error("cannot publish {publish}: descriptor {fd} is a {found} socket")]
    WrongProtocol { publish: Box<Publish>, fd: i32, found: Protocol },
    #[error("cannot publish {publish}: a socket is handed in only when rnsnet starts")]
    TooLate { publish: Box<Publish> },
    #[error("cannot publish {publish}: cannot watch the port")]
    Watch { publish: Box<Publish>, source: io::Error },
    #[error(
        "the limit of {limit} open files is too low: {ports} published ports and all else take {needed}"
    )]
    TooMany { ports: u32, needed: u64, limit: u64 },
}

impl ListenError {
    /// What helps, where one thing usually does.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bind { source, .. } => bind_hint(source.kind()),
            Self::NoFreePort { .. } => Some(PORT_TAKEN),
            Self::NoInterface { .. } => {
                Some("`ip link` lists those it has; --freebind waits for it")
            }
            Self::TooMany { .. } => Some("raise the hard limit: `ulimit -Hn`, or LimitNOFILE="),
            Self::List { .. }
            | Self::Inherited { .. }
            | Self::NotOurs { .. }
            | Self::WrongProtocol { .. }
            | Self::Watch { .. }
            | Self::TooLate { .. } => None,
        }
    }

    /// The message with its cause.
    pub(super) fn with_cause(&self) -> String {
        match self {
            Self::Bind { source, .. } | Self::List { source, .. } | Self::Watch { source, .. } => {
                format!("{self}: {source}")
            }
            other => other.to_string(),
        }
    }

    /// What sort of reason it is for a refusal.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::NoFreePort { .. } => Kind::Conflict,
            Self::TooLate { .. } => Kind::Arguments,
            _ if self.is_taken() => Kind::Conflict,
            _ => Kind::Failed,
        }
    }

    /// Whether another port may be free where this one was not.
    fn is_taken(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// The descriptors that rules name, which who starts us has to hand in.
///
/// # Errors
/// One that `activation` does not give to this process.
pub fn inherited_fds(rules: &[Publish], activation: &Activation) -> Result<Vec<i32>, ListenError> {
    let mut fds = Vec::new();
    for rule in rules {
        if let HostSide::Inherited { fd, .. } = rule.host {
            activation.check(fd, std::process::id()).map_err(|source| ListenError::NotOurs {
                publish: Box::new(rule.clone()),
                fd,
                source,
            })?;
            fds.push(fd);
        }
    }
    Ok(fds)
}

/// What binding needs to know of the machine.
#[derive(Debug)]
pub struct Binder<'a> {
    /// Whether ports of every address are bound for IPv6 too.
    pub v6: bool,
    /// The host's interfaces; `None` where they cannot be asked for.
    pub interfaces: Option<&'a mut Interfaces>,
    /// Whether descriptors may be taken over, and limits be asked for: before the first event only.
    pub may_inherit: bool,
}

impl Binder<'_> {
    /// Binds every rule. Those that name their ports come first, so that none of the others takes
    /// one of these; what is returned is in the rules' order.
    ///
    /// # Errors
    /// The first rule that cannot be bound; those bound before it are closed again.
    pub fn bind(&mut self, rules: &[Publish]) -> Result<Vec<Published>, ListenError> {
        // Once the process is confined the limit cannot be asked for: then a socket that cannot be
        // opened says so.
        if self.may_inherit {
            self.check_limit(rules)?;
        }
        let mut order: Vec<(usize, &Publish)> = rules.iter().enumerate().collect();
        order.sort_by_key(|(_, rule)| match rule.host {
            HostSide::Inherited { .. } => 0,
            HostSide::Bound { ports: HostPorts::Exactly(_), .. } => 1,
            HostSide::Bound { ports: HostPorts::FirstFree(_) | HostPorts::AnyOf(_), .. } => 2,
            HostSide::Bound { ports: HostPorts::Free, .. } => 3,
        });
        let mut bound = Vec::with_capacity(rules.len());
        let mut free = FREE_PORTS.first;
        for (index, rule) in order {
            bound.push((index, self.bind_one(rule, &mut free)?));
        }
        bound.sort_by_key(|(index, _)| *index);
        Ok(bound.into_iter().map(|(_, published)| published).collect())
    }

    /// Every socket is a descriptor, and so is every connection: better told now than by a network
    /// in which nothing can be opened.
    fn check_limit(&self, rules: &[Publish]) -> Result<(), ListenError> {
        let addresses = |rule: &Publish| match &rule.host {
            HostSide::Bound { on: Bind::All, .. } if self.v6 => 2,
            HostSide::Bound { on: Bind::Addresses(addresses), .. } => addresses.len() as u64,
            HostSide::Bound { .. } | HostSide::Inherited { .. } => 1,
        };
        let needed: u64 =
            rules.iter().map(|rule| u64::from(rule.guest.count()) * addresses(rule)).sum();
        let ports = rules.iter().map(|rule| rule.guest.count()).sum();
        #[allow(clippy::useless_conversion)] // 32 bits where the C library has it so
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft.into());
        let needed = needed.saturating_add(RESERVED);
        if needed > limit {
            return Err(ListenError::TooMany { ports, needed, limit });
        }
        Ok(())
    }

    /// Binds one rule. `free` is where the search for a free port begins, and goes on next time.
    fn bind_one(&mut self, rule: &Publish, free: &mut u16) -> Result<Published, ListenError> {
        let (on, ports) = match &rule.host {
            HostSide::Inherited { fd, protocol_typed } => {
                return self.inherit(rule, *fd, *protocol_typed);
            }
            HostSide::Bound { on, ports } => (on, *ports),
        };
        let places = self.places(rule, on)?;
        let mut published =
            Published { rule: rule.clone(), pairs: Vec::new(), listeners: Vec::new() };
        match ports {
            HostPorts::Exactly(host) => {
                published.pairs = host.iter().zip(rule.guest.iter()).collect();
                // Address by address, so that what is shown of them is ranges.
                for place in &places {
                    for (host_port, guest_port) in &published.pairs {
                        let listener = listen_at(rule, place, *host_port, *guest_port)?;
                        published.listeners.extend(listener);
                    }
                }
            }
            HostPorts::FirstFree(range) => {
                let guest_port = rule.guest.first;
                published.search(&places, range, range.iter(), guest_port)?;
            }
            HostPorts::AnyOf(range) => {
                for guest_port in rule.guest.iter() {
                    published.search(&places, range, from_anywhere(range), guest_port)?;
                }
            }
            HostPorts::Free => {
                for guest_port in rule.guest.iter() {
                    let ports = *free..=FREE_PORTS.last;
                    let found = published.search(&places, FREE_PORTS, ports, guest_port)?;
                    *free = found.saturating_add(1);
                }
            }
        }
        Ok(published)
    }

    fn inherit(
        &self,
        rule: &Publish,
        fd: i32,
        protocol_typed: bool,
    ) -> Result<Published, ListenError> {
        let publish = || Box::new(rule.clone());
        if !self.may_inherit {
            return Err(ListenError::TooLate { publish: publish() });
        }
        let InheritedSocket { socket, address, protocol, dual_stack } = take_socket(fd)
            .map_err(|source| ListenError::Inherited { publish: publish(), fd, source })?;
        if protocol_typed && protocol != rule.protocol {
            return Err(ListenError::WrongProtocol { publish: publish(), fd, found: protocol });
        }
        let guest_port = rule.guest.first;
        Ok(Published {
            rule: Publish { protocol, ..rule.clone() },
            pairs: vec![(address.port(), guest_port)],
            listeners: vec![Listener { socket, address, protocol, guest_port, dual_stack }],
        })
    }

    /// Where a rule is bound.
    fn places(&mut self, rule: &Publish, on: &Bind) -> Result<Vec<Place>, ListenError> {
        let place = |ip: IpAddr, may_lack| Place { address: SocketAddr::new(ip, 0), may_lack };
        Ok(match on {
            Bind::Addresses(addresses) => {
                addresses.iter().map(|ip| place(*ip, MayLack::Nothing)).collect()
            }
            Bind::All if self.v6 => vec![
                place(Ipv4Addr::UNSPECIFIED.into(), MayLack::Nothing),
                place(Ipv6Addr::UNSPECIFIED.into(), MayLack::Family),
            ],
            Bind::All => vec![place(Ipv4Addr::UNSPECIFIED.into(), MayLack::Nothing)],
            Bind::Interface(name) | Bind::Device { interface: name, .. } => {
                let publish = || Box::new(rule.clone());
                let listed = match &mut self.interfaces {
                    Some(interfaces) => of_interface(interfaces, on),
                    None => Err(io::ErrorKind::Unsupported.into()),
                };
                let listed =
                    listed.map_err(|source| ListenError::List { publish: publish(), source })?;
                let none = listed.is_none();
                if none && !rule.freebind {
                    let interface = name.clone();
                    return Err(ListenError::NoInterface { publish: publish(), interface });
                }
                let places = listed.unwrap_or_default();
                if places.is_empty() {
                    let what = if none { "is not there" } else { "has no address" };
                    log::warn!("{rule}: {name} {what} yet");
                }
                places
            }
        })
    }
}

/// The addresses that ports of an interface are bound at; `None` without such an interface.
///
/// # Errors
/// What netlink(7) reports.
fn of_interface(interfaces: &mut Interfaces, on: &Bind) -> io::Result<Option<Vec<Place>>> {
    interfaces.follow()?;
    Ok(addresses_of(interfaces, on).map(|addresses| {
        let may_lack = match on {
            Bind::Interface(_) => MayLack::Address,
            Bind::All | Bind::Addresses(_) | Bind::Device { .. } => MayLack::Nothing,
        };
        addresses.into_iter().map(|address| Place { address, may_lack }).collect()
    }))
}

/// The addresses, with port 0, at which ports of an interface are bound now; `None` without such an
/// interface, and for ports that are no interface's.
pub(super) fn addresses_of(interfaces: &Interfaces, on: &Bind) -> Option<Vec<SocketAddr>> {
    let (name, only) = match on {
        Bind::Interface(name) => (name, None),
        Bind::Device { address, interface } => (interface, Some(*address)),
        Bind::All | Bind::Addresses(_) => return None,
    };
    let index = interfaces.index(name)?;
    let address = |ip: IpAddr| match ip {
        // Good on that link only, so the kernel wants to know which: ipv6(7).
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, 0, 0, index).into(),
        ip => SocketAddr::new(ip, 0),
    };
    Some(match only {
        Some(only) => vec![address(only)],
        None => interfaces.addresses(index).map(address).collect(),
    })
}

/// Binds one port that an interface's new address is to have; `None` if the address is gone again.
///
/// # Errors
/// As [`Binder::bind`].
pub(super) fn listen_on_interface(
    rule: &Publish,
    address: SocketAddr,
    (host_port, guest_port): (u16, u16),
) -> Result<Option<Listener>, ListenError> {
    listen_at(rule, &Place { address, may_lack: MayLack::Address }, host_port, guest_port)
}

/// An address to bind at.
struct Place {
    /// Its port is 0.
    address: SocketAddr,
    may_lack: MayLack,
}

/// What is no error where it is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MayLack {
    Nothing,
    /// The host was started without IPv6: every address means every one there is.
    Family,
    /// It went away between being listed and being bound.
    Address,
}

impl Published {
    /// Binds the first port of `candidates` that is free at all the places, and returns it.
    fn search(
        &mut self,
        places: &[Place],
        range: Ports,
        candidates: impl Iterator<Item = u16>,
        guest_port: u16,
    ) -> Result<u16, ListenError> {
        for host_port in candidates {
            // Ours already, though without an address there is no socket to show it.
            if self.pairs.iter().any(|(known, _)| *known == host_port) {
                continue;
            }
            let bound: Result<Vec<_>, _> = places
                .iter()
                .map(|place| listen_at(&self.rule, place, host_port, guest_port))
                .collect();
            match bound {
                Ok(listeners) => {
                    self.listeners.extend(listeners.into_iter().flatten());
                    self.pairs.push((host_port, guest_port));
                    return Ok(host_port);
                }
                Err(error) if error.is_taken() => {}
                Err(error) => return Err(error),
            }
        }
        Err(ListenError::NoFreePort { publish: Box::new(self.rule.clone()), range })
    }

    /// What is bound.
    pub fn bound(&self) -> impl Iterator<Item = BoundPort<'_>> {
        self.listeners.iter().map(|listener| BoundPort {
            address: listener.address,
            zone: zone_of(&self.rule),
            protocol: listener.protocol,
            guest_port: listener.guest_port,
        })
    }

    /// Keeps the sockets that take IPv4.
    pub fn drop_v6(&mut self) {
        self.listeners.retain(|listener| listener.address.is_ipv4() || listener.dual_stack);
    }
}

/// Every port of a range once, from one on that chance chooses.
fn from_anywhere(range: Ports) -> impl Iterator<Item = u16> {
    let count = range.count();
    // Without randomness the order is known, and as good.
    let start = getrandom::u32().unwrap_or(0) % count;
    (0..count)
        .filter_map(move |step| u16::try_from(u32::from(range.first) + (start + step) % count).ok())
}

/// Binds one port; `None` where the place lacks what it may lack.
fn listen_at(
    rule: &Publish,
    place: &Place,
    host_port: u16,
    guest_port: u16,
) -> Result<Option<Listener>, ListenError> {
    let mut address = place.address;
    address.set_port(host_port);
    let mut by = sock::Local::default();
    if let HostSide::Bound { on: Bind::Device { interface, .. }, .. } = &rule.host {
        by.device = Some(interface);
    }
    let bound = match rule.protocol {
        Protocol::Tcp => sock::tcp_listen_by(address, rule.freebind, by),
        Protocol::Udp => sock::udp_bind_by(address, rule.freebind, by),
    };
    let lacks = |error: &io::Error| match place.may_lack {
        MayLack::Nothing => false,
        MayLack::Family => address.is_ipv6() && sock::lacks_family(error),
        MayLack::Address => error.kind() == io::ErrorKind::AddrNotAvailable,
    };
    match bound {
        Ok(socket) => {
            let protocol = rule.protocol;
            Ok(Some(Listener { socket, address, protocol, guest_port, dual_stack: false }))
        }
        Err(error) if lacks(&error) => Ok(None),
        Err(source) => Err(ListenError::Bind { publish: Box::new(rule.clone()), address, source }),
    }
}

/// One published port as it is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundPort<'a> {
    /// The host's address and port.
    pub address: SocketAddr,
    /// The interface that its rule names: the zone of an address that has one.
    pub zone: Option<&'a str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The container's port.
    pub guest_port: u16,
}

/// The interface that a rule names.
pub(super) fn zone_of(rule: &Publish) -> Option<&str> {
    match &rule.host {
        HostSide::Bound { on: Bind::Interface(name), .. }
        | HostSide::Bound { on: Bind::Device { interface: name, .. }, .. } => Some(name),
        HostSide::Bound { on: Bind::All | Bind::Addresses(_), .. } | HostSide::Inherited { .. } => {
            None
        }
    }
}

/// An address and port, with its zone by name where it has one (RFC 4007, section 11).
fn spelt(address: SocketAddr, zone: Option<&str>) -> String {
    match (address, zone) {
        (SocketAddr::V6(v6), Some(zone)) if v6.scope_id() != 0 => {
            format!("[{}%{zone}]:{}", v6.ip(), v6.port())
        }
        _ => address.to_string(),
    }
}

/// An address alone, so written that a port may follow.
pub(super) fn without_port(mut address: SocketAddr, zone: Option<&str>) -> String {
    address.set_port(0);
    let text = spelt(address, zone);
    text.strip_suffix(":0").unwrap_or(&text).to_owned()
}

/// Ports in words, `0.0.0.0:8080->80/tcp`; neighbours of one address are one range,
/// `0.0.0.0:8000-8010->9000-9010/tcp`.
#[must_use]
pub fn in_words<'a>(ports: impl IntoIterator<Item = BoundPort<'a>>) -> Vec<String> {
    /// The first port of a range, and how many follow it.
    type Run<'a> = (BoundPort<'a>, u16);
    let words = |(first, more): Run<'_>| {
        let BoundPort { address, zone, protocol, guest_port } = first;
        let host = Ports { first: address.port(), last: address.port().saturating_add(more) };
        let guest = Ports { first: guest_port, last: guest_port.saturating_add(more) };
        format!("{}:{host}->{guest}/{protocol}", without_port(address, zone))
    };
    let mut all = Vec::new();
    let mut run: Option<Run<'_>> = None;
    for port in ports {
        match &mut run {
            Some((first, more)) if follows(*first, *more, port) => *more += 1,
            _ => all.extend(run.replace((port, 0)).map(words)),
        }
    }
    all.extend(run.map(words));
    all
}

/// Whether `port` goes on where a range ends.
fn follows(first: BoundPort<'_>, more: u16, port: BoundPort<'_>) -> bool {
    let mut expected = first;
    let step = |port: u16| port.checked_add(more)?.checked_add(1);
    let (Some(host), Some(guest)) = (step(first.address.port()), step(first.guest_port)) else {
        return false;
    };
    expected.address.set_port(host);
    expected.guest_port = guest;
    expected == port
}

/// Descriptors that everything else needs, with some for connections.
const RESERVED: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn bind(rules: &[Publish]) -> Result<Vec<Published>, ListenError> {
        drop(crate::sys::link::bring_up("lo"));
        Binder { v6: true, interfaces: None, may_inherit: true }.bind(rules)
    }

    fn at(ip: Ipv4Addr, ports: HostPorts, guest: Ports) -> Publish {
        Publish::at(Bind::Addresses(vec![ip.into()]), ports, guest, Protocol::Tcp)
    }

    fn bound(address: &str, guest_port: u16) -> BoundPort<'_> {
        let address = address.parse().unwrap();
        BoundPort { address, zone: None, protocol: Protocol::Tcp, guest_port }
    }

    #[test]
    fn neighbours_are_one_range() {
        let ports = [
            bound("0.0.0.0:80", 8080),
            bound("0.0.0.0:81", 8081),
            bound("0.0.0.0:82", 8082),
            bound("0.0.0.0:83", 9000),
            bound("[::]:80", 8080),
            bound("[::]:81", 8081),
            bound("[fe80::1%3]:65535", 65535),
            BoundPort { zone: Some("eth0"), ..bound("[fe80::1%3]:80", 8080) },
            BoundPort { zone: Some("eth0"), ..bound("[fe80::1%3]:81", 8081) },
            BoundPort { zone: Some("eth0"), ..bound("[2001:db8::1]:80", 8080) },
        ];
        assert_eq!(
            in_words(ports),
            [
                "0.0.0.0:80-82->8080-8082/tcp",
                "0.0.0.0:83->9000/tcp",
                "[::]:80-81->8080-8081/tcp",
                "[fe80::1%3]:65535->65535/tcp",
                "[fe80::1%eth0]:80-81->8080-8081/tcp",
                "[2001:db8::1]:80->8080/tcp",
            ]
        );
        assert!(in_words([]).is_empty());
    }

    #[test]
    fn a_free_port_is_found_beside_one_that_is_named() {
        let ip = testing::loopback();
        let named = at(ip, HostPorts::Exactly(Ports::one(FREE_PORTS.first)), Ports::one(80));
        let free = at(ip, HostPorts::Free, Ports { first: 81, last: 82 });
        // The named one comes last, and is bound first. Another program may have it.
        let Ok(published) = bind(&[free, named]) else { return };
        let port = |rule: usize, nth: usize| published[rule].pairs[nth];
        assert_eq!(port(1, 0), (FREE_PORTS.first, 80));
        assert!(port(0, 0).0 > FREE_PORTS.first && port(0, 1).0 > port(0, 0).0);
        assert_eq!((port(0, 0).1, port(0, 1).1), (81, 82));
    }

    #[test]
    fn a_range_that_is_full_says_so() {
        let range = Ports { first: 21_873, last: 21_874 };
        let rule = at(testing::loopback(), HostPorts::FirstFree(range), Ports::one(80));
        let rules = [rule.clone(), rule.clone(), rule];
        let error = bind(&rules).unwrap_err().to_string();
        assert!(error.starts_with("cannot publish 127."), "{error}");
        assert!(error.ends_with(":21873-21874:80/tcp: no free port in 21873-21874"), "{error}");
        // Nothing is left bound.
        testing::until("both are free", || bind(&rules[..2]).ok());
    }

    #[test]
    fn every_port_of_a_range_is_tried_once() {
        let range = Ports { first: 10, last: 19 };
        let mut ports: Vec<u16> = from_anywhere(range).collect();
        ports.sort_unstable();
        assert_eq!(ports, (10..=19).collect::<Vec<_>>());
    }

    #[test]
    fn more_ports_than_descriptors_are_refused_before_any_is_bound() {
        let all = Ports { first: 1, last: 65_535 };
        let on = vec![IpAddr::from(Ipv4Addr::LOCALHOST); 60_000];
        let rule = Publish::at(Bind::Addresses(on), HostPorts::Exactly(all), all, Protocol::Udp);
        let mut at_start = Binder { v6: true, interfaces: None, may_inherit: true };
        let error = at_start.bind(&[rule]).unwrap_err();
        assert!(matches!(error, ListenError::TooMany { ports: 65_535, .. }), "{error}");
        assert!(error.hint().is_some());
        // Also where no port is to blame.
        let none = ListenError::TooMany { ports: 0, needed: RESERVED, limit: 20 };
        assert_eq!(
            none.to_string(),
            "the limit of 20 open files is too low: 0 published ports and all else take 64"
        );
    }
}
