//! Multicast between a private network's container and the host's networks: mDNS, and groups that
//! are relayed as they are.
//!
//! On each interface of the host that leads to a network, each group has a socket that hears it.
//! mDNS goes out by those: what the container says, made true out there ([`announce`]). What is
//! asked from another port than mDNS's, and all other groups, goes out as any datagram of a flow
//! ([`super::flow::udp`]), which lets in whoever answers. Whoever asks the container from such a
//! port is given one of the gateway's meanwhile, since the answer has to find the way back.
//! Nothing is sent on that was heard: what comes in goes to the container, what the container says
//! goes out, and what comes from the host itself is ignored.
//! Read first: RFC 6762 sections 6.7 (who asks but once) and 11 (who is on the link).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use slab::Slab;
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, UDP_HEADER_LEN, UdpPacket};

use super::dns::announce::{self, Truth};
use super::flow::FlowKey;
use super::frame::{IpPacket, is_unicast};
use super::host::{HostSide, IpFields, Owner, SocketId, SocketKind};
use super::shaper::Bucket;
use super::stats::{DropReason, Verdict};
use super::{Engine, Instant, PortId, Tables, Turn, nat, ndp};
use crate::config::{MDNS, PassKind, Protocol, Sharing};

/// The port of multicast DNS.
const MDNS_PORT: u16 = 5353;
/// Most interfaces of the host.
const MAX_LINKS: usize = 16;
/// What the container sends to groups each second at the most, and as much at once: every machine of
/// the network has to look at it.
const RATE: u64 = 100;
/// Most of those who asked but once and wait for an answer, and how long they do: who answers for
/// others waits half a second at most (RFC 6762, section 6), and machines may be busy.
const MAX_ASKERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);
/// The gateway's ports for them are of the dynamic range (RFC 6335).
const FIRST_PORT: u16 = 0xc000;
/// RFC 6762, section 11: who hears less knows that a router was in between.
const FROM_THE_LINK: IpFields =
    IpFields { hop_limit: Some(255), dont_fragment: false, traffic_class: 0 };

/// An interface of the host that leads to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLink {
    /// Its index.
    pub index: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl HostLink {
    fn has(&self, v6: bool) -> bool {
        self.addresses.iter().any(|ip| ip.is_ipv6() == v6)
    }

    /// How a datagram for a group goes out by this interface: its destination and its source. Of
    /// IPv4 the source says by which it does, of IPv6 the zone.
    pub(super) fn towards(&self, group: SocketAddr) -> Option<(SocketAddr, Option<IpAddr>)> {
        match group {
            SocketAddr::V4(_) => {
                let from = self.addresses.iter().find(|ip| ip.is_ipv4());
                from.map(|from| (group, Some(*from)))
            }
            SocketAddr::V6(group) => {
                let to = SocketAddrV6::new(*group.ip(), group.port(), 0, self.index);
                self.has(true).then_some((to.into(), None))
            }
        }
    }
}

/// What hears groups, and who waits for an answer.
#[derive(Debug)]
pub(super) struct Discovery {
    ears: Slab<Ear>,
    askers: VecDeque<Asker>,
    /// How many ports of the gateway were given away.
    asked: u16,
    storm: Bucket,
}

/// A group's socket at an interface.
#[derive(Debug, Clone, Copy)]
struct Ear {
    socket: SocketId,
    index: u32,
    group: SocketAddr,
}

/// Somebody on the host's network who asked from another port than mDNS's.
#[derive(Debug, Clone, Copy)]
struct Asker {
    /// The gateway's port that stands for it.
    port: u16,
    ear: usize,
    address: SocketAddr,
    at: Instant,
}

impl Discovery {
    pub(super) fn new() -> Self {
        Self {
            ears: Slab::new(),
            askers: VecDeque::new(),
            asked: 0,
            storm: Bucket::new(RATE, Duration::from_secs(1), Instant::ZERO),
        }
    }

    /// The gateway's port that stands for who asked but once.
    fn port_for(&mut self, ear: usize, address: SocketAddr, now: Instant) -> u16 {
        if self.askers.len() >= MAX_ASKERS {
            self.askers.pop_front();
        }
        let port = FIRST_PORT | self.asked;
        self.asked = (self.asked + 1) % FIRST_PORT.wrapping_neg();
        self.askers.push_back(Asker { port, ear, address, at: now });
        port
    }

    fn asker(&self, port: u16, now: Instant) -> Option<Asker> {
        let mut askers = self.askers.iter();
        askers.find(|asker| asker.port == port && now < asker.at + PATIENCE).copied()
    }

    /// Forgets a socket that could not be opened; the next change of the host's addresses tries again.
    pub(super) fn handle_failed(&mut self, ear: usize, host: &mut HostSide) {
        if let Some(Ear { socket, .. }) = self.ears.try_remove(ear) {
            host.close(socket, false);
        }
    }

    /// Takes what was sent to a group on the host's network, to the container.
    pub(super) fn handle_heard(
        &mut self,
        turn: &mut Turn<'_>,
        ear: usize,
        from: SocketAddr,
        payload: &[u8],
    ) {
        let Some(Ear { group, .. }) = self.ears.get(ear).copied() else { return };
        // The host's own programs, and what we have sent on another interface of the same network.
        if turn.fx.links.iter().any(|link| link.addresses.contains(&from.ip())) {
            return;
        }
        if !MDNS.contains(&group) {
            let source = SocketAddr::new(seen_by_guest(turn, from.ip()), from.port());
            return turn.send_to_group(source, group, payload);
        }
        let port = match announce::is_response(payload) {
            Some(_) if from.port() == MDNS_PORT => MDNS_PORT,
            Some(false) => self.port_for(ear, from, turn.now),
            // Of responses from other ports nobody takes notice (RFC 6762, section 6).
            _ => return turn.fx.stats.count_drop(DropReason::Discovery),
        };
        // Whoever it is, is on the link: that is where the gateway is.
        let gateway = match group {
            SocketAddr::V4(_) => IpAddr::V4(turn.network.addresses.v4.gateway),
            SocketAddr::V6(_) => IpAddr::V6(ndp::link_local(turn.link.gateway_mac.0)),
        };
        turn.send_to_group(SocketAddr::new(gateway, port), group, payload);
    }

    /// Takes what the container says by mDNS: to everybody, or to one who asked.
    fn tell(&self, turn: &mut Turn<'_>, v6: bool, to: Option<Asker>, message: &[u8]) -> Verdict {
        let answers = |place: usize| to.is_none_or(|asker| asker.ear == place);
        let mut told = false;
        let [v4_group, v6_group] = MDNS;
        let group = if v6 { v6_group } else { v4_group };
        for (_, ear) in
            self.ears.iter().filter(|(place, ear)| ear.group == group && answers(*place))
        {
            let link = turn.fx.links.iter().find(|link| link.index == ear.index);
            let Some(link) = link else { continue };
            let published = |protocol: Protocol, guest_port: u16| {
                let mut rules = turn.published.iter().map(|(_, published)| published);
                rules.find_map(|rule| rule.port_at(protocol, guest_port, &link.addresses))
            };
            let truth = Truth {
                guest: [Some(turn.lease.v4.into()), turn.lease.v6.map(IpAddr::V6)],
                host: &link.addresses,
                host_name: turn.network.discovery.host_name.as_ref(),
                port: &published,
            };
            if let Some(message) = announce::for_lan(message, &truth) {
                let to = to.map_or(ear.group, |asker| asker.address);
                turn.fx.host.send(ear.socket, Some(to), None, FROM_THE_LINK, &message);
                told = true;
            }
        }
        if told { Verdict::Flow } else { Verdict::Dropped(DropReason::Discovery) }
    }
}

/// Takes a datagram of the container if it is discovery: for a group that crosses, or for who asked.
pub(super) fn handle_guest(
    tables: &mut Tables,
    turn: &mut Turn<'_>,
    packet: &IpPacket<'_>,
    udp: &UdpPacket<&[u8]>,
) -> Option<Verdict> {
    let to = SocketAddr::new(packet.destination, udp.dst_port());
    let crosses = turn.network.discovery.groups().any(|group| group == to);
    let mdns = turn.network.discovery.mdns && udp.src_port() == MDNS_PORT;
    let v6 = to.is_ipv6();
    let gateway =
        turn.is_gateway(to.ip()) || to.ip() == IpAddr::V6(ndp::link_local(turn.link.gateway_mac.0));
    let asker = match to.port() {
        MDNS_PORT => None,
        port => tables.discovery.asker(port, turn.now),
    };
    // To the gateway alone goes what an asker wanted to have alone.
    let answers = mdns && gateway && (asker.is_some() || to.port() == MDNS_PORT);
    if !is_unicast(packet.source) || !(crosses || answers) {
        return None;
    }
    // A batch is as many as leave.
    let payload = udp.payload();
    let length = packet.segment.map_or(payload.len(), usize::from).max(1);
    let mut messages = payload.chunks(length);
    let count = u64::try_from(messages.len()).unwrap_or(u64::MAX).max(1);
    let storm = &mut tables.discovery.storm;
    if !storm.has(count, turn.now) {
        return Some(Verdict::Dropped(DropReason::Discovery));
    }
    storm.take(count, turn.now);
    if mdns && (answers || MDNS.contains(&to)) {
        let [v4_group, v6_group] = MDNS;
        if !turn.admits(PassKind::Udp, if v6 { v6_group } else { v4_group }) {
            turn.fx.stats.denied += 1;
            return Some(Verdict::Refused);
        }
        let asker = asker.filter(|_| answers);
        let mut verdict = Verdict::Dropped(DropReason::Malformed);
        for message in messages {
            verdict = tables.discovery.tell(turn, v6, asker, message);
        }
        return Some(verdict);
    }
    let asks = |message| announce::is_response(message) == Some(false);
    if MDNS.contains(&to) && (payload.is_empty() || !messages.all(asks)) {
        return Some(Verdict::Dropped(DropReason::Discovery));
    }
    let guest = SocketAddr::new(packet.source, udp.src_port());
    let key = FlowKey { port: turn.port, guest, host: to };
    Some(tables.udp.handle_datagram(turn, key, udp, packet))
}

/// How the container sees who is heard, or answers: a link-local address is one on its link as well.
pub(super) fn seen_by_guest(turn: &Turn<'_>, address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(ip)
            if ip.is_unicast_link_local()
                && !turn.network.discovery.is_empty()
                && !turn.is_own_address(address) =>
        {
            address
        }
        _ => nat::client_as_seen_by_guest(turn.network, address),
    }
}

/// Whether who answers a group may be spoken to from then on: no address that leads back to the host
/// by a way that the container has not, but for one that is good on the link alone, as devices have.
pub(super) fn may_answer(turn: &Turn<'_>, from: IpAddr) -> bool {
    !nat::denied(turn.network, from) || seen_by_guest(turn, from) == from
}

impl Turn<'_> {
    /// Sends a datagram to a group that the container is in, with the hop limit of the link.
    fn send_to_group(&mut self, source: SocketAddr, group: SocketAddr, body: &[u8]) {
        let Ok(length) = u16::try_from(UDP_HEADER_LEN + body.len()) else { return };
        let mut datagram = vec![0; usize::from(length)];
        let mut udp = UdpPacket::new_unchecked(&mut datagram[..]);
        udp.set_src_port(source.port());
        udp.set_dst_port(group.port());
        udp.set_len(length);
        udp.payload_mut().copy_from_slice(body);
        udp.fill_checksum(&source.ip().into(), &group.ip().into());
        let hop_limit = FROM_THE_LINK.hop_limit.unwrap_or(u8::MAX);
        self.send_datagram((source.ip(), group.ip()), IpProtocol::Udp, hop_limit, &datagram);
    }
}

impl Engine {
    /// The host is on these networks from now on: groups are heard there, and what the container
    /// announces is true there.
    pub fn set_links(&mut self, mut links: Vec<HostLink>) {
        links.truncate(MAX_LINKS);
        let discovery = &mut self.tables.discovery;
        let wanted: Vec<_> = links
            .iter()
            .flat_map(|link| {
                let groups = self.network.discovery.groups();
                let groups = groups.filter(|group| {
                    let v6 = group.is_ipv6();
                    link.has(v6) && (!v6 || self.network.addresses.v6.is_some())
                });
                groups.map(|group| (link.index, group))
            })
            .collect();
        let fx = &mut self.fx;
        fx.links = links;
        discovery.ears.retain(|_, ear| {
            let stays = wanted.contains(&(ear.index, ear.group));
            if !stays {
                fx.host.close(ear.socket, false);
            }
            stays
        });
        for (index, group) in wanted {
            if !discovery.ears.iter().any(|(_, ear)| (ear.index, ear.group) == (index, group)) {
                let entry = discovery.ears.vacant_entry();
                let kind = SocketKind::Group { group, index };
                let socket = fx.host.open(Owner::Group(entry.key()), kind);
                entry.insert(Ear { socket, index, group });
            }
        }
    }

    /// Whether a group's datagrams are for the container: those of a link's own are for whoever is
    /// there, others for who has joined.
    pub(super) fn hears(&self, ear: usize, now: Instant) -> bool {
        let ear = self.tables.discovery.ears.get(ear);
        let to = ear.zip(self.lone_port());
        to.is_some_and(|(ear, port)| self.switch.groups.wants(port, ear.group.ip(), now))
    }

    /// Asks the lone container which groups it is in: one that was served before by another process
    /// has said so to that.
    pub(super) fn ask_for_relayed(&mut self, port: PortId, now: Instant) {
        if self.network.discovery.relays.is_empty() || self.network.sharing != Sharing::Private {
            return;
        }
        if let Some((_, mut turn)) = self.turn(port, now) {
            turn.ask_for_groups(false);
            if turn.network.addresses.v6.is_some() {
                turn.ask_for_groups(true);
            }
        }
    }
}
