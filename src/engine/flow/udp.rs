//! UDP flows: datagrams between a guest's endpoint and peers on the host's side.
//!
//! One host socket per guest endpoint, whomever it talks to: endpoint-independent mapping, with
//! filtering by the peers that the guest has written to (RFC 4787, sections 4.1 and 5), so that
//! STUN, games and WireGuard work and strangers do not get in. A published port's socket serves
//! its clients' flows both ways, so answers leave from the published address.
//! ICMP errors that the host hears go on to the guest.
//! Not here: the DNS forwarder ([`crate::engine::dns`]) and ICMP errors towards the host.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, IpRepr, UDP_HEADER_LEN, UdpPacket};

use super::{FlowKey, GuestMap, KeyedHash};
use crate::config::limits::Room;
use crate::config::{Limit, Network, PassKind};
use crate::engine::frame::IpPacket;
use crate::engine::host::{Bounce, IpFields, Owner, SocketId, SocketKind};
use crate::engine::icmp::{self, IcmpError, Unreachable};
use crate::engine::nat::{self, Inbound, Meaning};
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::table::{Entry, Table};
use crate::engine::turn::Effects;
use crate::engine::view::FlowView;
use crate::engine::{Instant, PortId, Turn};
use crate::engine::{discovery, doubt};

/// Silence after which a flow in use is forgotten (RFC 4787, REQ-5: two minutes or more).
const IDLE_ANSWERED: Duration = Duration::from_secs(180);
/// The same where only one side has spoken, or both, but within [`BRIEF`]: what is not yet a stream, as
/// Linux's NAT has it (`nf_conntrack_udp_timeout`) and against REQ-5, so that thousands of them are
/// soon gone.
const IDLE_BRIEF: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_secs(2);
/// The same for DNS, whose exchanges are over with the answer (REQ-5 allows it for known ports).
const IDLE_DNS: Duration = Duration::from_secs(10);
const DNS_PORT: u16 = 53;
/// By how much a header of IPv6 is longer than one of IPv4, in bytes.
const IPV6_HEADER_MORE: u32 = 20;
/// How many ports are tried for a client whose own is taken.
const PORT_TRIES: usize = 64;
/// How long a guest may leave a client without an answer before it is doubted that it has its
/// address. One that never answers is asked for as often.
const PATIENCE: Duration = Duration::from_secs(2);

/// All UDP flows, and the sockets of the guests' endpoints.
#[derive(Debug)]
pub(in crate::engine) struct UdpFlows {
    /// Flows of published ports by listener and client, as the host sees them.
    clients: GuestMap<(SocketId, SocketAddr), usize>,
    pub(in crate::engine) flows: Table<UdpFlow>,
    endpoints: Table<Endpoint>,
    /// Most endpoints at once: each is a descriptor of the host's.
    max_endpoints: usize,
}

#[derive(Debug)]
pub(in crate::engine) struct UdpFlow {
    key: FlowKey,
    /// The peer's real address on the host's side.
    host: SocketAddr,
    via: Via,
    /// Among the flows of the guest's endpoint.
    place: usize,
    last_active: Instant,
    /// When the guest last spoke, or was last asked for since.
    heard: Instant,
    /// Datagrams.
    to_host: u64,
    to_guest: u64,
    to_host_bytes: u64,
    to_guest_bytes: u64,
    opened: Instant,
}

/// Which host socket carries a flow.
#[derive(Debug, Clone, Copy)]
enum Via {
    /// The guest endpoint's own, by index.
    Endpoint(usize),
    /// A published port's; `local` is the address that the client wrote to, `other` the guest's where it
    /// may be served as well.
    Published { listener: SocketId, local: Option<IpAddr>, other: Option<IpAddr> },
}

/// A datagram from a client of a published port.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Datagram<'a> {
    /// The published port's.
    pub(in crate::engine) socket: SocketId,
    pub(in crate::engine) from: SocketAddr,
    /// The local address that the client wrote to.
    pub(in crate::engine) to: Option<IpAddr>,
    pub(in crate::engine) payload: &'a [u8],
}

/// A guest's address and port with its socket on the host.
#[derive(Debug)]
struct Endpoint {
    port: PortId,
    guest: SocketAddr,
    /// For services on the host's loopback alone.
    loopback: bool,
    socket: SocketId,
    flows: Vec<usize>,
    /// Whether it has written twice to somebody.
    talks: bool,
    last_active: Instant,
}

impl Endpoint {
    fn kind(network: &Network, guest: SocketAddr, loopback: bool) -> SocketKind {
        match guest.is_ipv6() {
            v6 if loopback => SocketKind::UdpLoopback { v6 },
            false if network.allow_broadcast => SocketKind::UdpBroadcast,
            v6 => SocketKind::Udp { v6 },
        }
    }
}

impl UdpFlows {
    pub(in crate::engine) fn new(hash: KeyedHash) -> Self {
        Self {
            clients: GuestMap::with_hasher(hash),
            flows: Table::new(hash),
            endpoints: Table::new(hash),
            max_endpoints: usize::MAX,
        }
    }

    /// Sets how many guest endpoints may have a socket at once.
    pub(in crate::engine) fn set_max_endpoints(&mut self, sockets: usize) {
        self.max_endpoints = sockets.max(1);
    }

    /// Takes a datagram from a guest; `packet` is its IP packet, for an error to quote.
    pub(in crate::engine) fn handle_datagram(
        &mut self,
        turn: &mut Turn<'_>,
        key: FlowKey,
        udp: &UdpPacket<&[u8]>,
        packet: &IpPacket<'_>,
    ) -> Verdict {
        let fields = packet.onward();
        if let Some(index) = self.flows.find(&key) {
            return self.send_to_host(turn, index, (fields, packet.segment), udp.payload());
        }
        let reason = match nat::translate(turn.network, key.host) {
            Meaning::Host(to) if turn.admits(PassKind::Udp, to) => {
                self.make_room(turn);
                let via = Via::Endpoint(self.endpoint(turn, key, to.ip().is_loopback()));
                let index = self.open(turn, key, to, via);
                return self.send_to_host(turn, index, (fields, packet.segment), udp.payload());
            }
            // The forwarder has taken its own already.
            Meaning::Dns | Meaning::Closed => Unreachable::Port,
            Meaning::Host(_) | Meaning::Denied => {
                icmp::send_denied(turn, packet.bytes);
                return Verdict::Refused;
            }
        };
        icmp::send_unreachable(turn, packet.bytes, reason);
        Verdict::Refused
    }

    fn send_to_host(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        (fields, segment): (IpFields, Option<u16>),
        payload: &[u8],
    ) -> Verdict {
        let Some(flow) = self.flows.get_mut(index) else {
            return Verdict::Dropped(DropReason::NoFlow);
        };
        let (socket, from) = match flow.via {
            Via::Published { listener, local, .. } => (listener, local),
            Via::Endpoint(endpoint) => match self.endpoints.get(endpoint) {
                Some(endpoint) => (endpoint.socket, None),
                None => return Verdict::Dropped(DropReason::NoResources),
            },
        };
        flow.to_host += 1;
        flow.to_host_bytes += payload.len() as u64;
        flow.heard = turn.now;
        let host = flow.host;
        if host.ip().is_multicast() {
            send_by_all_links(turn.fx, socket, host, (fields, segment), payload);
        } else {
            turn.fx.host.send_udp(socket, host, from, fields, segment, payload);
        }
        self.touch(turn.now, index);
        Verdict::Flow
    }

    /// Takes a datagram from the socket of a guest's endpoint.
    pub(in crate::engine) fn handle_answer(
        &mut self,
        turn: &mut Turn<'_>,
        endpoint: usize,
        from: SocketAddr,
        payload: &[u8],
    ) {
        let Some(Endpoint { port, guest, .. }) = self.endpoints.get(endpoint) else {
            return;
        };
        let seen = SocketAddr::new(discovery::seen_by_guest(turn, from.ip()), from.port());
        let key = FlowKey { port: *port, guest: *guest, host: seen };
        match self.flows.find(&key) {
            Some(index) if self.flows.get(index).is_some_and(|flow| same(flow.host, from)) => {
                self.send_to_guest(turn, index, payload);
            }
            None if self.asked_everybody(turn.network, key)
                && discovery::may_answer(turn, from.ip())
                && turn.admits(PassKind::Udp, from) =>
            {
                self.make_room(turn);
                if self.endpoints.get(endpoint).is_none() {
                    return turn.fx.stats.count_drop(DropReason::NoResources);
                }
                let index = self.open(turn, key, from, Via::Endpoint(endpoint));
                self.send_to_guest(turn, index, payload);
            }
            _ => turn.fx.stats.count_drop(DropReason::UnknownSender),
        }
    }

    /// Whether the guest's endpoint has asked everybody on the host's network, on the port that an
    /// answer is from, or a group, of which each answers from a port of its choice.
    fn asked_everybody(&self, network: &Network, answer: FlowKey) -> bool {
        let everybody = SocketAddr::new(Ipv4Addr::BROADCAST.into(), answer.host.port());
        let asked = |host| self.flows.find(&FlowKey { host, ..answer }).is_some();
        asked(everybody) || network.discovery.groups().any(asked)
    }

    /// The host could not send a datagram of a guest's endpoint to `to`.
    pub(in crate::engine) fn handle_unsent(
        &mut self,
        turn: &mut Turn<'_>,
        endpoint: usize,
        to: SocketAddr,
        error: ErrorKind,
    ) {
        if let Some(flow) = self.peer(turn, endpoint, to) {
            self.unsent(turn, flow, error);
        }
    }

    /// The same where the flow is known.
    pub(in crate::engine) fn unsent(&mut self, turn: &mut Turn<'_>, flow: usize, error: ErrorKind) {
        let reason = match error {
            ErrorKind::ConnectionRefused => Some(Unreachable::Port),
            other => Unreachable::from_error(other),
        };
        if let Some((flow, reason)) = self.flows.get(flow).zip(reason) {
            icmp::send_unreachable(turn, &quote(flow.key, &[]), reason);
        }
    }

    /// A datagram of a guest's endpoint did not reach `to`: the guest is told as the network told
    /// the host.
    pub(in crate::engine) fn handle_bounce(
        &mut self,
        turn: &mut Turn<'_>,
        endpoint: usize,
        to: SocketAddr,
        bounce: Bounce,
        payload: &[u8],
    ) {
        if let Some(flow) = self.peer(turn, endpoint, to) {
            self.bounce(turn, flow, bounce, payload);
        }
    }

    /// The same where the flow is known.
    pub(in crate::engine) fn bounce(
        &mut self,
        turn: &mut Turn<'_>,
        flow: usize,
        bounce: Bounce,
        payload: &[u8],
    ) {
        let Some(UdpFlow { key, host, .. }) = self.flows.get(flow) else {
            return;
        };
        let v6 = key.guest.is_ipv6();
        // An error in the other family's words is not translated: that datagram is lost in silence.
        let (by, error) = match bounce {
            Bounce::TooLong { mtu } => {
                // The guest's header is shorter than the one that was too long, or longer.
                let mtu = match (host.is_ipv6(), v6) {
                    (true, false) => mtu.saturating_sub(IPV6_HEADER_MORE),
                    (false, true) => mtu.saturating_add(IPV6_HEADER_MORE),
                    _ => mtu,
                };
                (None, Some(IcmpError::too_long(v6, mtu)))
            }
            Bounce::Icmp { .. } if host.is_ipv6() != v6 => (None, None),
            Bounce::Icmp { by, kind, code, mtu } => {
                let by = if by == host.ip() {
                    key.host.ip()
                } else {
                    nat::client_as_seen_by_guest(turn.network, by)
                };
                (Some(by), IcmpError::heard(v6, kind, code, mtu))
            }
        };
        if let Some(error) = error {
            icmp::send_error(turn, by, &quote(*key, payload), error);
        }
    }

    /// The flow between a guest's endpoint and a peer, by the peer's real address.
    fn peer(&self, turn: &Turn<'_>, endpoint: usize, host: SocketAddr) -> Option<usize> {
        let Endpoint { port, guest, .. } = self.endpoints.get(endpoint)?;
        let seen =
            SocketAddr::new(nat::client_as_seen_by_guest(turn.network, host.ip()), host.port());
        let index = self.flows.find(&FlowKey { port: *port, guest: *guest, host: seen })?;
        self.flows.get(index).filter(|flow| same(flow.host, host)).map(|_| index)
    }

    /// The flow of a published port's client.
    pub(in crate::engine) fn client(&self, socket: SocketId, client: SocketAddr) -> Option<usize> {
        let client = SocketAddr::new(client.ip(), client.port());
        self.clients.get(&(socket, client)).copied()
    }

    /// The guest says that nothing listens any more where a datagram of this flow was for. The
    /// host's kernel says the same to those that go on sending, once the last flow's end closes the
    /// socket; a published port's stays, and its client is led to the guest's other address. `segment`
    /// is the datagram, as far as it is quoted.
    pub(in crate::engine) fn handle_refused(
        &mut self,
        turn: &mut Turn<'_>,
        key: FlowKey,
        segment: &[u8],
    ) -> Verdict {
        let Some(index) = self.flows.find(&key) else {
            return Verdict::Dropped(DropReason::UnhandledIcmp);
        };
        match self.flows.get(index).map(|flow| (flow.via, flow.host)) {
            // Only this flow: what the guest's program has with others goes on (RFC 4787, REQ-10).
            Some((Via::Endpoint(_), _)) => self.remove(turn.fx, index),
            Some((Via::Published { other: Some(other), .. }, client)) => {
                let led = self.lead_to(turn, index, other);
                // Once: whoever refuses at both addresses is not asked in turn.
                if led
                    && key.guest.is_ipv6() == client.is_ipv6()
                    && let Ok(datagram) = UdpPacket::new_checked(segment)
                {
                    self.send_to_guest(turn, index, datagram.payload());
                }
            }
            _ => {}
        }
        Verdict::Flow
    }

    /// Leads a client of a published port to another address of the guest's from now on. Returns
    /// whether that could be.
    fn lead_to(&mut self, turn: &mut Turn<'_>, index: usize, guest: IpAddr) -> bool {
        let Some(&UdpFlow { key, host, .. }) = self.flows.get(index) else { return false };
        let Some(new) = self.client_key(turn, host, (Some(guest), key.guest.port())) else {
            return false;
        };
        log::debug!("flow {index} udp {key}: led to {guest}");
        self.flows.rekey(index, |flow| {
            flow.key = new;
            if let Via::Published { other, .. } = &mut flow.via {
                *other = Some(key.guest.ip());
            }
        });
        true
    }

    /// Takes a datagram from a client of a published port.
    pub(in crate::engine) fn handle_client(
        &mut self,
        turn: &mut Turn<'_>,
        to_guest: (Option<IpAddr>, u16),
        datagram: Datagram<'_>,
    ) {
        let Datagram { socket: listener, from, to: local, payload } = datagram;
        let client = SocketAddr::new(from.ip(), from.port());
        let index = match self.clients.get(&(listener, client)) {
            Some(&index) => index,
            None => {
                let Some(key) = self.client_key(turn, client, to_guest) else {
                    turn.fx.stats.count_drop(DropReason::NoResources);
                    return;
                };
                self.make_room(turn);
                let other = nat::inbound(turn.network, turn.lease, client.ip(), to_guest.0).other;
                let index = self.open(turn, key, client, Via::Published { listener, local, other });
                self.clients.insert((listener, client), index);
                index
            }
        };
        if let Some(UdpFlow { via: Via::Published { local: known, .. }, .. }) =
            self.flows.get_mut(index)
        {
            *known = local;
        }
        self.send_to_guest(turn, index, payload);
    }

    /// The port of the container that a client was led to before.
    pub(in crate::engine) fn port_of_client(
        &self,
        listener: SocketId,
        from: SocketAddr,
    ) -> Option<PortId> {
        let client = SocketAddr::new(from.ip(), from.port());
        self.flows.port_of(*self.clients.get(&(listener, client))?)
    }

    /// The key of a new client's flow, with another source port if its own is taken.
    fn client_key(
        &self,
        turn: &mut Turn<'_>,
        client: SocketAddr,
        to_guest: (Option<IpAddr>, u16),
    ) -> Option<FlowKey> {
        let (guest, guest_port) = to_guest;
        let Inbound { guest, source: seen, .. } =
            nat::inbound(turn.network, &doubt::lease(turn), client.ip(), guest);
        // Some other, so that a client with many addresses and one port costs no more than any.
        let others = std::iter::repeat_with(|| turn.fx.random.next_u16() | 0xc000);
        std::iter::once(client.port())
            .chain(others.take(PORT_TRIES))
            .map(|host_port| FlowKey {
                port: turn.port,
                guest: SocketAddr::new(guest, guest_port),
                host: SocketAddr::new(seen, host_port),
            })
            .find(|key| self.flows.find(key).is_none())
    }

    /// A published port is no more: its clients' flows end with its socket.
    pub(in crate::engine) fn unpublish(&mut self, fx: &mut Effects, listener: SocketId) {
        let ended: Vec<usize> = self
            .flows
            .iter()
            .filter(|(_, flow)| {
                matches!(flow.via, Via::Published { listener: via, .. } if via == listener)
            })
            .map(|(index, _)| index)
            .collect();
        for index in ended {
            self.remove(fx, index);
        }
    }

    /// The guest has lost an address: clients who were led there are led elsewhere with their next
    /// datagram.
    pub(in crate::engine) fn guest_lost(&mut self, turn: &mut Turn<'_>, lost: IpAddr) {
        for index in self.flows.of_port(turn.port) {
            let led = |flow: &UdpFlow| {
                flow.key.guest.ip() == lost && matches!(flow.via, Via::Published { .. })
            };
            if self.flows.get(index).is_some_and(led) {
                self.remove(turn.fx, index);
            }
        }
    }

    /// Forgets a port's flows.
    pub(in crate::engine) fn remove_port(&mut self, turn: &mut Turn<'_>) {
        for index in self.flows.of_port(turn.port) {
            self.remove(turn.fx, index);
        }
    }

    /// Ends what the guest has opened and may not have opened any more. It hears so when it sends
    /// again.
    pub(in crate::engine) fn end_denied(&mut self, turn: &mut Turn<'_>) {
        for index in self.flows.of_port(turn.port) {
            let Some(flow) = self.flows.get(index) else { continue };
            let outbound = matches!(flow.via, Via::Endpoint(_));
            if outbound && !turn.still_admits(PassKind::Udp, flow.key.host) {
                self.remove(turn.fx, index);
            }
        }
    }

    fn send_to_guest(&mut self, turn: &mut Turn<'_>, index: usize, payload: &[u8]) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.to_guest += 1;
        flow.to_guest_bytes += payload.len() as u64;
        let (host, guest) = (flow.key.host, flow.key.guest);
        let published = matches!(flow.via, Via::Published { .. });
        if published
            && turn.now >= flow.heard + PATIENCE
            && turn.lease.v6.map(IpAddr::V6) == Some(guest.ip())
        {
            flow.heard = turn.now;
            doubt::begin(turn);
        }
        turn.send_udp(host, guest, payload);
        self.touch(turn.now, index);
    }

    /// A socket could not be opened: its flows go. The guest is told where the host's network is
    /// what lacks, and finds out by silence otherwise, as of a network that lost the datagram.
    pub(in crate::engine) fn handle_failed(
        &mut self,
        turn: &mut Turn<'_>,
        endpoint: usize,
        error: ErrorKind,
    ) {
        let Some(guest) = self.endpoints.get(endpoint).map(|endpoint| endpoint.guest) else {
            return;
        };
        let dead = self.flows_of(endpoint);
        log::debug!("udp {guest}: no socket on the host, {} flows dropped: {error}", dead.len());
        turn.fx.stats.count_drop(DropReason::NoResources);
        for index in dead {
            let key = self.flows.get(index).map(|flow| flow.key);
            if let (Some(key), Some(reason)) = (key, Unreachable::from_error(error)) {
                icmp::send_unreachable(turn, &quote(key, &[]), reason);
            }
            self.remove(turn.fx, index);
        }
    }

    /// Gives every endpoint but those for the loopback a new socket: the old one's local address
    /// or interface is not what it is to be any more.
    pub(in crate::engine) fn renew(&mut self, network: &Network, fx: &mut Effects) {
        for index in self.endpoints.indices() {
            if let Some(endpoint) = self.endpoints.get_mut(index).filter(|e| !e.loopback) {
                fx.host.close(endpoint.socket, false);
                let kind = Endpoint::kind(network, endpoint.guest, false);
                endpoint.socket = fx.host.open(Owner::Udp(index), kind);
            }
        }
    }

    /// The index of the guest endpoint's socket, opened if it is new.
    fn endpoint(&mut self, turn: &mut Turn<'_>, key: FlowKey, loopback: bool) -> usize {
        if let Some(index) = self.endpoints.find(&(key.port, key.guest, loopback)) {
            return index;
        }
        self.make_room_for_endpoint(turn);
        let index = self.endpoints.next_index();
        let kind = Endpoint::kind(turn.network, key.guest, loopback);
        let socket = turn.fx.host.open(Owner::Udp(index), kind);
        let (port, guest, flows) = (key.port, key.guest, Vec::new());
        let (talks, last_active) = (false, turn.now);
        self.endpoints.insert(Endpoint { port, guest, loopback, socket, flows, talks, last_active })
    }

    /// Makes room for a new endpoint: the one goes that was silent longest, and before those
    /// that are in a conversation one that asked once, as most do; of the container that has most.
    fn make_room_for_endpoint(&mut self, turn: &mut Turn<'_>) {
        let room = Room { all: self.max_endpoints, each: usize::MAX };
        if let Some(port) = self.endpoints.crowded(turn.port, room) {
            turn.fx.stats.count_limit(Limit::Descriptors);
            if let Some(endpoint) = self.endpoints.pop_least(port) {
                self.remove_endpoint(turn, endpoint);
            }
        }
    }

    /// Ends all flows of a guest's endpoint, and with them its socket.
    fn remove_endpoint(&mut self, turn: &mut Turn<'_>, endpoint: usize) {
        for index in self.flows_of(endpoint) {
            self.remove(turn.fx, index);
        }
    }

    fn flows_of(&self, endpoint: usize) -> Vec<usize> {
        self.endpoints.get(endpoint).map(|endpoint| endpoint.flows.clone()).unwrap_or_default()
    }

    /// Makes room for a new flow; an endpoint that has no other goes with the one that ends.
    fn make_room(&mut self, turn: &mut Turn<'_>) {
        let room = turn.room(Limit::Udp, Limit::UdpEach);
        if let Some(port) = self.flows.crowded(turn.port, room)
            && let Some(index) = self.flows.pop_least(port)
        {
            turn.count_limit(Limit::Udp, Limit::UdpEach, room, self.flows.len_of(turn.port));
            self.remove(turn.fx, index);
        }
    }

    /// To be called once there is room.
    fn open(&mut self, turn: &mut Turn<'_>, key: FlowKey, host: SocketAddr, via: Via) -> usize {
        turn.fx.stats.udp_opened += 1;
        let mut place = 0;
        if let Via::Endpoint(endpoint) = via
            && let Some(endpoint) = self.endpoints.get_mut(endpoint)
        {
            place = endpoint.flows.len();
            endpoint.flows.push(self.flows.next_index());
        }
        let index = self.flows.insert(UdpFlow {
            key,
            host,
            via,
            place,
            last_active: turn.now,
            heard: turn.now,
            to_host: 0,
            to_guest: 0,
            to_host_bytes: 0,
            to_guest_bytes: 0,
            opened: turn.now,
        });
        log::debug!("flow {index} udp {key}: open to {host}");
        index
    }

    fn touch(&mut self, now: Instant, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.last_active = now;
        if let Via::Endpoint(endpoint) = flow.via
            && let Some(endpoint) = self.endpoints.get_mut(endpoint)
        {
            endpoint.last_active = now;
            endpoint.talks |= flow.to_host > 1;
        }
        let idle = if flow.key.host.port() == DNS_PORT {
            IDLE_DNS
        } else if flow.to_host == 0 || flow.to_guest == 0 || now - flow.opened < BRIEF {
            IDLE_BRIEF
        } else {
            IDLE_ANSWERED
        };
        self.flows.set_deadline(index, Some(now + idle));
    }

    fn remove(&mut self, fx: &mut Effects, index: usize) {
        let Some(flow) = self.flows.remove(index) else {
            return;
        };
        match flow.via {
            Via::Published { listener, .. } => {
                self.clients.remove(&(listener, flow.host));
            }
            Via::Endpoint(endpoint) => {
                let Some(Endpoint { socket, flows, .. }) = self.endpoints.get_mut(endpoint) else {
                    return;
                };
                // The last one has its place now.
                let last = flows.pop();
                if let (Some(place), Some(last)) = (flows.get_mut(flow.place), last) {
                    *place = last;
                    if let Some(moved) = self.flows.get_mut(last) {
                        moved.place = flow.place;
                    }
                } else if flows.is_empty() {
                    fx.host.close(*socket, false);
                    self.endpoints.remove(endpoint);
                }
            }
        }
    }

    pub(in crate::engine) fn handle_timeout(&mut self, turn: &mut Turn<'_>, index: usize) {
        self.remove(turn.fx, index);
    }

    /// The switch port that a guest endpoint belongs to.
    pub(in crate::engine) fn port_of(&self, endpoint: usize) -> Option<PortId> {
        self.endpoints.port_of(endpoint)
    }
}

/// How a datagram of this flow began, for an ICMP error to quote: addresses and ports are what the
/// guest finds its socket by (RFC 1122, section 4.1.3.3), and some bytes of payload what its program
/// may look at.
fn quote(key: FlowKey, payload: &[u8]) -> Vec<u8> {
    let (guest, host) = (key.guest.ip(), key.host.ip());
    let length = UDP_HEADER_LEN + payload.len();
    let ip = IpRepr::new(guest.into(), host.into(), IpProtocol::Udp, length, 1);
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet[..], &ChecksumCapabilities::default());
    let body = packet.get_mut(ip.header_len()..).unwrap_or_default();
    let mut udp = UdpPacket::new_unchecked(body);
    udp.set_src_port(key.guest.port());
    udp.set_dst_port(key.host.port());
    udp.set_len(u16::try_from(length).unwrap_or(u16::MAX));
    udp.payload_mut().copy_from_slice(payload);
    packet
}

/// Whether two addresses are the same but for an IPv6 flow label or scope.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}

impl UdpFlow {
    /// The flow as it looks from outside, without its name.
    pub(in crate::engine) fn view(&self) -> FlowView {
        FlowView {
            port: self.key.port,
            protocol: "udp",
            outbound: matches!(self.via, Via::Endpoint(_)),
            guest: self.key.guest,
            host: self.key.host,
            host_name: None,
            state: if self.to_host > 0 && self.to_guest > 0 { "ACTIVE" } else { "ONE-WAY" },
            to_host_bytes: self.to_host_bytes,
            to_guest_bytes: self.to_guest_bytes,
            opened: self.opened,
        }
    }
}

impl Entry for UdpFlow {
    type Key = FlowKey;

    fn key(&self) -> FlowKey {
        self.key
    }

    fn port(&self) -> PortId {
        self.key.port
    }

    fn rank(&self) -> i64 {
        self.last_active.total_micros()
    }
}

impl Entry for Endpoint {
    type Key = (PortId, SocketAddr, bool);

    fn key(&self) -> Self::Key {
        (self.port, self.guest, self.loopback)
    }

    fn port(&self) -> PortId {
        self.port
    }

    fn rank(&self) -> i64 {
        // Above all that do not talk.
        let talks = if self.talks { 1 << 62 } else { 0 };
        self.last_active.total_micros() | talks
    }
}

impl fmt::Display for UdpFlows {
    /// One line a flow, in the order of their keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut flows: Vec<_> = self.flows.iter().collect();
        flows.sort_by_key(|(_, flow)| flow.key);
        for (index, flow) in flows {
            let (tx, rx) = (flow.to_host, flow.to_guest);
            writeln!(f, "  flow {index} udp {}: tx {tx} rx {rx} datagrams", flow.key)?;
        }
        Ok(())
    }
}

/// Sends a datagram to a group, on every network that the host is on.
#[cold]
fn send_by_all_links(
    fx: &mut Effects,
    socket: SocketId,
    group: SocketAddr,
    (fields, segment): (IpFields, Option<u16>),
    payload: &[u8],
) {
    for (to, from) in fx.links.iter().filter_map(|link| link.towards(group)) {
        fx.host.send_udp(socket, to, from, fields, segment, payload);
    }
}
