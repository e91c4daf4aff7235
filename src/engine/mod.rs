//! The engine: everything that rnsnet decides, as a pure state machine.
//!
//! It knows no system call, no clock, no file and no socket. The shell gives it what happened
//! with the time at which it did (`handle_*`) and asks what follows (`poll_*`):
//!
//! | in | out |
//! |---|---|
//! | [`Engine::handle_frame`]: a frame from a guest's TAP | [`Engine::poll_frame`]: a frame for a TAP |
//! | [`Engine::handle_host`]: an event of a host socket | [`Engine::poll_host`]: a request to open, use or close one |
//! | [`Engine::handle_timeout`]: time has passed | [`Engine::poll_timeout`]: when to call it next |
//! | [`Engine::relay`]: a TCP socket, lent to move its bytes | |
//!
//! The modules stand in the order in which a frame from a guest meets them.

// A guest chooses what is parsed here: no length of its may become a panic.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod frame;
mod machines;
mod switch;
mod ports;
mod gateway;
mod reassembly;
mod arp;
mod ndp;
mod doubt;
mod dhcp;
mod dhcpv6;
mod icmp;
pub mod dns;
mod egress;
mod discovery;
mod flow;
pub mod nat;
mod forward;
mod stack;
mod shaper;
mod segment;
mod overlay;
pub mod host;
mod turn;
mod table;
mod timer;
pub mod stats;
pub mod view;

use std::fmt;

use slab::Slab;

use self::discovery::Discovery;
use self::dns::{Client, Forwarder, PortNames, Resolvers, StreamClient};
use self::egress::Policies;
use self::flow::udp::{Datagram, UdpFlows};
use self::flow::{KeyedHash, echo::EchoFlows, tcp::TcpFlows};
use self::forward::Published;
use self::frame::{Frame, Payload};
use self::host::{HostEvent, HostOp, HostSide, HostStream, Owner, SocketId};
use self::reassembly::Reassembly;
use self::shaper::Held;
use self::stack::TxFrame;
use self::stats::{DropReason, Stats, Verdict};
use self::switch::{Port, Switch, Way};
use self::turn::{Effects, Frames, Random, Turn};
use crate::config::{Between, Host, Limit, Mtu, Name, Network, Sharing};

pub use self::discovery::HostLink;
pub use self::dns::Lookup;
pub use self::egress::{Attempt, Denial};
pub use self::forward::Destination;
pub use self::switch::{MAX_PORTS, PortCounters, PortError};

/// A moment, in microseconds since one that the shell chooses once.
pub use smoltcp::time::Instant;

/// The length of the smallest rings of a TCP connection, in bytes.
pub const SMALLEST_RING: usize = flow::tcp::SMALLEST_RING;

/// A port of the switch: one TAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub usize);

/// How many due deadlines are served before frames have their turn again.
const TIMEOUTS_PER_TURN: usize = 1024;

/// A network with its gateway.
#[derive(Debug)]
pub struct Engine {
    network: Network,
    switch: Switch,
    published: Slab<Published>,
    tables: Tables,
    fx: Effects,
}

/// Every table of conversations.
#[derive(Debug)]
struct Tables {
    tcp: TcpFlows,
    udp: UdpFlows,
    echo: EchoFlows,
    dns: Forwarder,
    reassembly: Reassembly,
    dhcp: dhcp::Pool,
    discovery: Discovery,
}

/// The secret that makes hashes, sequence numbers and query ids unpredictable.
pub type Seed = [u64; 4];

impl Engine {
    /// A network without ports. It has no IPv6 where the MTU is below what that asks of a link
    /// (RFC 8200, section 5).
    #[must_use]
    pub fn new(mut network: Network, seed: Seed) -> Self {
        if network.mtu.get() < Mtu::MIN {
            network.addresses.v6 = None;
        }
        let [a, b, c, d] = seed;
        let hash = KeyedHash::new([a, b]);
        let dns = Forwarder::new(hash, &network);
        let groups = network.limits.get(Limit::Groups);
        let frames = Frames::new(&network.limits);
        let mut engine = Self {
            network,
            switch: Switch::new(hash, groups),
            published: Slab::new(),
            tables: Tables {
                tcp: TcpFlows::new(hash),
                udp: UdpFlows::new(hash),
                echo: EchoFlows::new(hash),
                dns,
                reassembly: Reassembly::default(),
                dhcp: dhcp::Pool::default(),
                discovery: Discovery::new(),
            },
            fx: Effects {
                frames,
                host: HostSide::default(),
                stats: Stats::default(),
                tx: TxFrame::new(),
                random: Random::new([c, d]),
                seen: dns::Seen::default(),
                policies: Policies::default(),
                links: Vec::new(),
                adverts: ndp::Adverts::default(),
                doubts: doubt::Doubts::default(),
                message: Vec::new(),
            },
        };
        engine.open_overlay(hash);
        engine
    }

    /// The local address or interface that the host's sockets are to have has changed: the guests'
    /// UDP endpoints get new ones, pings begin anew. Connections cannot move and stay.
    pub fn renew_sockets(&mut self) {
        self.tables.udp.renew(&self.network, &mut self.fx);
        self.tables.echo.renew(&mut self.fx);
    }

    /// How many TCP flows there are.
    #[must_use]
    pub fn tcp_flows(&self) -> usize {
        self.tables.tcp.flows.len()
    }

    /// Gives up the room that TCP flows had, if there are none left.
    pub fn shrink(&mut self) {
        self.tables.tcp.flows.shrink();
    }

    /// Sets how many host sockets the guests' UDP endpoints may have at once.
    pub fn set_max_udp_sockets(&mut self, sockets: usize) {
        self.tables.udp.set_max_endpoints(sockets);
    }

    /// Sets the servers to ask for every name without a route of its own.
    ///
    /// Returns whether they are others than before.
    pub fn set_resolvers(&mut self, resolvers: Resolvers, now: Instant) -> bool {
        self.tables.dns.set_resolvers(resolvers, now)
    }

    /// Sets the servers to ask for the names below a domain. The longest domain counts.
    ///
    /// Returns whether they are others than before.
    pub fn set_dns_route(&mut self, domain: Name, resolvers: Resolvers, now: Instant) -> bool {
        self.tables.dns.set_route(domain, resolvers, now)
    }

    /// Gives the container at a port these names, and takes those from it that it had. On an isolated
    /// network others may know it by them, and are told whose its addresses are from now on.
    pub fn set_names(&mut self, port: PortId, names: PortNames, now: Instant) {
        self.tables.dns.set_names(&self.network, port, names);
        self.open_ways();
        if self.network.sharing == Sharing::Isolated {
            self.announce(port, now);
        }
    }

    /// Sets the names that the network knows by itself, in the place of those before.
    pub fn set_hosts(&mut self, hosts: Vec<Host>) {
        self.network.resolver.hosts = hosts;
        self.tables.dns.set_hosts(&self.network);
    }

    /// Sets what passes between containers of an isolated network.
    pub fn set_between(&mut self, between: Vec<Between>) {
        self.network.between = between;
        self.open_ways();
    }

    /// Works out which containers have the names between which something passes.
    fn open_ways(&mut self) {
        if self.network.sharing == Sharing::Isolated {
            self.switch.ways.set(self.tables.dns.ways(&self.network));
        }
    }

    /// Takes a frame as read from a port's TAP; its bytes may be changed.
    pub fn handle_frame(&mut self, port: PortId, raw: &mut [u8], now: Instant) -> Verdict {
        self.fx.stats.rx_frames += 1;
        let verdict = self.dispatch(port, raw, now);
        let verdict = self.hold_back(verdict, port, raw, now);
        self.serve_refused(now);
        self.serve_dns_streams(now);
        if let Verdict::Dropped(reason) = verdict {
            self.fx.stats.count_drop(reason);
            if let Some(port) = self.switch.get_mut(port) {
                port.counters.rx_dropped += 1;
            }
            log::trace!("port {}: dropped a frame: {reason:?}", port.0);
        }
        verdict
    }

    fn dispatch(&mut self, port: PortId, raw: &mut [u8], now: Instant) -> Verdict {
        let Some(Port { lease, link, counters, .. }) = self.switch.get_mut(port) else {
            return Verdict::Dropped(DropReason::NotForUs);
        };
        let head_room = if link.vnet { frame::VNET_HEADER_LEN } else { 0 };
        let length = raw.len().saturating_sub(head_room) as u64;
        self.fx.stats.rx_bytes += length;
        counters.rx_frames += 1;
        counters.rx_bytes += length;
        self.fx.frames.shaper.count_up(port, length, now);
        let frame = match frame::parse(raw, link.vnet) {
            Ok(frame) => frame,
            Err(reason) => return Verdict::Dropped(reason),
        };
        if self.network.sharing != Sharing::Private {
            return self.dispatch_shared(port, frame, length, now);
        }
        if !frame.destination.is_group() && frame.destination != link.gateway_mac {
            return Verdict::Dropped(DropReason::NotForUs);
        }
        if frame.source.is_group() || frame.source == link.gateway_mac {
            return Verdict::Dropped(DropReason::SpoofedSource);
        }
        // Who is on a private network's link may call itself what it likes.
        if frame.source != link.guest_mac {
            if link.machines.is_empty() {
                // Whoever this is, those are the container's until it says otherwise.
                let own = switch::addresses_of(lease).into_iter();
                own.for_each(|ip| link.machines.note(ip, link.guest_mac));
            }
            link.guest_mac = frame.source;
        }
        self.give_gateway(port, frame, now)
    }

    /// Sends a frame on to other ports or to the gateway.
    fn dispatch_shared(
        &mut self,
        port: PortId,
        frame: Frame<'_>,
        length: u64,
        now: Instant,
    ) -> Verdict {
        let way = self.switch.way(&self.network, port, &frame, now);
        if std::mem::take(&mut self.switch.groups.refused) {
            self.fx.stats.count_limit(Limit::Groups);
        }
        let verdict = match way {
            Ok(Way::Gateway) => return self.give_gateway(port, frame, now),
            Ok(Way::Port(to)) => Verdict::Port(to),
            Ok(Way::Ports) => match self.send_everywhere(port, &frame, now) {
                Ok(true) if self.switch.receivers().is_empty() => return Verdict::Elsewhere,
                Ok(_) => Verdict::Ports,
                Err(reason) => return Verdict::Dropped(reason),
            },
            Ok(Way::Host) => return self.send_to_host(port, frame, now),
            Ok(Way::Done) => return Verdict::Switch,
            Err(reason) => return Verdict::Dropped(reason),
        };
        self.fx.stats.switched_frames += 1;
        self.fx.stats.switched_bytes += length;
        self.switch.count_forwarded(verdict, length);
        verdict
    }

    /// Keeps what one container has sent to others from those who have got as much as they may.
    fn hold_back(&mut self, verdict: Verdict, from: PortId, raw: &[u8], now: Instant) -> Verdict {
        if !self.fx.frames.shaper.is_any() {
            return verdict;
        }
        let vnet = self.switch.get(from).is_some_and(|port| port.link.vnet);
        match verdict {
            Verdict::Port(to) if !self.fx.passes(to, raw, vnet, now) => Verdict::Switch,
            Verdict::Ports => {
                self.switch.receivers.retain(|to| self.fx.passes(*to, raw, vnet, now));
                verdict
            }
            _ => verdict,
        }
    }

    fn give_gateway(&mut self, port: PortId, frame: Frame<'_>, now: Instant) -> Verdict {
        if !self.network.discovery.relays.is_empty()
            && let Payload::Ip(packet) = &frame.payload
            && self.switch.groups.take_report(port, packet, now)
        {
            return Verdict::Switch;
        }
        let Some((tables, mut turn)) = self.turn(port, now) else {
            return Verdict::Dropped(DropReason::NotForUs);
        };
        match frame.payload {
            Payload::Arp(body) => arp::handle(&mut turn, body),
            Payload::Ip(packet) => gateway::handle(tables, &mut turn, packet),
        }
    }

    /// Whether a host socket is for asking a DNS server.
    #[must_use]
    pub fn is_for_dns(&self, socket: SocketId) -> bool {
        matches!(self.fx.host.owner(socket), Some(Owner::Dns(_)))
    }

    /// Takes an event of a host socket.
    pub fn handle_host(&mut self, socket: SocketId, event: HostEvent<'_>, now: Instant) {
        self.dispatch_host(socket, event, now);
        self.serve_dns_streams(now);
    }

    fn dispatch_host(&mut self, socket: SocketId, event: HostEvent<'_>, now: Instant) {
        let Some(owner) = self.fx.host.owner(socket) else {
            return;
        };
        if owner == Owner::Overlay {
            return self.handle_underlay(event, now);
        }
        if let (Owner::Published(index), HostEvent::Datagram { from, to, payload }) =
            (owner, &event)
        {
            let datagram = Datagram { socket, from: *from, to: *to, payload };
            if self.handle_client(index, datagram, now).is_none() {
                self.fx.stats.count_drop(DropReason::NoResources);
            }
            return;
        }
        if let (
            Owner::Published(_),
            HostEvent::Bounced { to, .. } | HostEvent::Unsent { to: Some(to), .. },
        ) = (owner, &event)
        {
            // Unknown clients are gone, and nobody waits for the news.
            if let Some(index) = self.tables.udp.client(socket, *to)
                && let Some(port) = self.tables.udp.flows.port_of(index)
                && let Some((tables, mut turn)) = self.turn(port, now)
            {
                match event {
                    HostEvent::Bounced { bounce, payload, .. } => {
                        tables.udp.bounce(&mut turn, index, bounce, payload);
                    }
                    HostEvent::Unsent { error, .. } => tables.udp.unsent(&mut turn, index, error),
                    _ => {}
                }
            }
            return;
        }
        if let (Owner::Group(ear), HostEvent::Datagram { .. }) = (owner, &event)
            && !self.hears(ear, now)
        {
            return;
        }
        let Some((tables, mut turn)) = self.turn_of(owner, now) else {
            return;
        };
        match (owner, event) {
            (Owner::Tcp(index), HostEvent::Connected) => {
                tables.tcp.handle_connected(&mut turn, index);
            }
            (Owner::Tcp(index), HostEvent::Failed(error)) => {
                tables.tcp.handle_failed(&mut turn, index, error);
            }
            (Owner::Udp(index), HostEvent::Datagram { from, payload, .. }) => {
                tables.udp.handle_answer(&mut turn, index, from, payload);
            }
            (Owner::Udp(index), HostEvent::Unsent { to, error }) => {
                if let Some(to) = to {
                    tables.udp.handle_unsent(&mut turn, index, to, error);
                }
            }
            (Owner::Udp(index), HostEvent::Bounced { to, bounce, payload }) => {
                tables.udp.handle_bounce(&mut turn, index, to, bounce, payload);
            }
            (Owner::Udp(index), HostEvent::Failed(error)) => {
                tables.udp.handle_failed(&mut turn, index, error);
            }
            (Owner::Echo(index), HostEvent::Datagram { from, payload, .. }) => {
                tables.echo.handle_reply(&mut turn, index, from.ip(), payload);
            }
            (Owner::Echo(index), HostEvent::Bounced { bounce, payload, .. }) => {
                tables.echo.handle_bounce(&mut turn, index, bounce, payload);
            }
            (Owner::Echo(index), HostEvent::Unsent { error, .. }) => {
                tables.echo.handle_unsent(&mut turn, index, error);
            }
            (Owner::Echo(index), HostEvent::Failed(error)) => {
                tables.echo.handle_failed(&mut turn, index, error);
            }
            (Owner::Dns(index), HostEvent::Datagram { payload, .. }) => {
                tables.dns.handle_answer(&mut turn, index, payload);
            }
            (Owner::Group(ear), HostEvent::Datagram { from, payload, .. }) => {
                tables.discovery.handle_heard(&mut turn, ear, from, payload);
            }
            (Owner::Group(ear), HostEvent::Failed(_)) => {
                tables.discovery.handle_failed(ear, &mut turn.fx.host);
            }
            (Owner::DnsListener(_), HostEvent::Datagram { from, payload, .. }) => {
                tables.dns.handle_local(&mut turn, socket, from, payload);
            }
            (Owner::DnsStream(index), HostEvent::Failed(_)) => {
                tables.dns.local.handle_failed(&mut turn, index);
            }
            (Owner::Dns(index), HostEvent::Connected) => {
                tables.dns.handle_connected(&mut turn, index);
            }
            // RFC 1122, section 3.2.2, wants no error about those.
            (_, HostEvent::ToEverybody) => turn.fx.stats.count_drop(DropReason::Broadcast),
            (
                Owner::Dns(index),
                HostEvent::Failed(_) | HostEvent::Unsent { .. } | HostEvent::Bounced { .. },
            ) => {
                tables.dns.handle_failed(&mut turn, index);
            }
            // A listener that fails stays; datagrams and connections do not mix.
            (Owner::Published(_), _)
            | (
                Owner::Tcp(_),
                HostEvent::Datagram { .. } | HostEvent::Unsent { .. } | HostEvent::Bounced { .. },
            )
            | (Owner::DnsListener(_) | Owner::DnsStream(_), _)
            | (Owner::Closing | Owner::Group(_) | Owner::Overlay, _)
            | (_, HostEvent::Connected) => {}
        }
    }

    /// Moves the bytes of a TCP flow between its rings and the host's socket, lent as `stream`.
    pub fn relay(&mut self, socket: SocketId, stream: &mut impl HostStream, now: Instant) {
        let Some(owner) = self.fx.host.owner(socket) else {
            return;
        };
        let Some((tables, mut turn)) = self.turn_of(owner, now) else {
            return;
        };
        match owner {
            Owner::Tcp(index) => tables.tcp.relay(&mut turn, index, stream),
            Owner::Dns(index) => tables.dns.relay(&mut turn, index, stream),
            Owner::DnsStream(index) => tables.dns.relay_local(&mut turn, index, stream),
            Owner::Udp(_)
            | Owner::Echo(_)
            | Owner::DnsListener(_)
            | Owner::Group(_)
            | Owner::Published(_)
            | Owner::Overlay
            | Owner::Closing => {}
        }
        while let Some((port, index)) = self.tables.tcp.next_look() {
            if let Some((tables, mut turn)) = self.turn(port, now) {
                tables.tcp.reclaim(&mut turn, index);
            }
        }
        self.serve_dns_streams(now);
    }

    fn next_stream_query(&mut self) -> Option<(StreamClient, Vec<u8>)> {
        let Tables { tcp, dns, .. } = &mut self.tables;
        tcp.dns_queries.pop_front().or_else(|| dns.stream_queries.pop_front())
    }

    /// Carries queries and answers between the guests' connections to the forwarder and itself.
    fn serve_dns_streams(&mut self, now: Instant) {
        loop {
            if let Some((port, index)) = self.tables.tcp.next_service()
                && let Some((tables, mut turn)) = self.turn(port, now)
            {
                tables.tcp.relay_service(&mut turn, index);
            } else if let Some(port) = self.tables.dns.next_evicted()
                && let Some((tables, mut turn)) = self.turn(port, now)
            {
                tables.dns.fail_evicted(&mut turn);
            } else if let Some((client, query)) = self.next_stream_query()
                && let Some((tables, mut turn)) = self.turn(client.port, now)
            {
                tables.dns.handle_query(&mut turn, Client::Stream(client), &query);
            } else if let Some((client, answer)) = self.tables.dns.answers.pop_front()
                && let Some((tables, mut turn)) = self.turn(client.port, now)
            {
                if client.local {
                    tables.dns.answer_local(&mut turn, client, answer.as_deref());
                } else {
                    tables.tcp.answer_service(&mut turn, client, answer.as_deref());
                }
            } else {
                return;
            }
        }
    }

    /// Whether [`Engine::poll_host`] has something: a frame that was written may have made it.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        !self.fx.host.is_empty()
    }

    /// The next request to the shell.
    pub fn poll_host(&mut self) -> Option<HostOp> {
        self.fx.host.poll()
    }

    /// Gives back the payload of a [`HostOp::Send`] that was carried out.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.fx.host.recycle(payload);
    }

    /// Calls `write` with the next frame for a port, as the port's TAP takes it, and whether another
    /// container has sent it. Returns `false` if there is none.
    pub fn poll_frame(&mut self, now: Instant, write: impl FnOnce(PortId, &[u8], bool)) -> bool {
        loop {
            let mut queued = self.fx.frames.next_held(now);
            if queued.is_none() {
                self.tables.tcp.ask_egress_again(&mut self.fx.frames.shaper.resumed);
                if !self.fx.frames.yields() {
                    queued = self.fx.frames.pop();
                }
            }
            if let Some((port, Held { frame, passed_on })) = queued {
                if !passed_on {
                    self.count_sent(port, frame.len());
                }
                if let Some(frame) = self.trim(port, &frame) {
                    write(port, frame, passed_on);
                }
                self.fx.frames.recycle(frame);
                return true;
            }
            if let Some((port, vnet)) = self.write_segment(now) {
                if let Some(frame) = self.fx.tx.get() {
                    let skip = if vnet { 0 } else { frame::VNET_HEADER_LEN };
                    write(port, frame.get(skip..).unwrap_or_default(), false);
                }
                return true;
            }
            if self.fx.frames.is_empty() && !self.fx.frames.shaper.is_due(now) {
                return false;
            }
        }
    }

    /// Writes the next segment of a connection to the transmit frame and counts it. Returns its port,
    /// and whether that has the virtio header; `None` too where a connection's last words have put a
    /// frame into the queue.
    #[inline]
    fn write_segment(&mut self, now: Instant) -> Option<(PortId, bool)> {
        loop {
            let port = self.tables.tcp.next_egress()?;
            if self.fx.frames.shaper.is_in_debt(port, now)
                && let Some(flow) = self.tables.tcp.leave_egress()
            {
                self.fx.frames.shaper.park(port, flow);
                continue;
            }
            let (tables, mut turn) = self.turn(port, now)?;
            if tables.tcp.write_egress(&mut turn) {
                let vnet = turn.link.vnet;
                if let Some(length) = self.fx.tx.get().map(<[u8]>::len) {
                    self.count_sent(port, length);
                    let length = length.saturating_sub(frame::VNET_HEADER_LEN);
                    self.fx.frames.shaper.count_down(port, length, now);
                }
                return Some((port, vnet));
            }
            if !self.fx.frames.is_empty() {
                return None;
            }
        }
    }

    fn count_sent(&mut self, port: PortId, length: usize) {
        self.fx.stats.tx_frames += 1;
        let length = length.saturating_sub(frame::VNET_HEADER_LEN) as u64;
        self.fx.stats.tx_bytes += length;
        if let Some(port) = self.switch.get_mut(port) {
            port.counters.tx_frames += 1;
            port.counters.tx_bytes += length;
        }
    }

    /// A frame without the head-room that its port's TAP does not take.
    fn trim<'f>(&self, port: PortId, frame: &'f [u8]) -> Option<&'f [u8]> {
        let vnet = self.switch.get(port)?.link.vnet;
        frame.get(if vnet { 0 } else { frame::VNET_HEADER_LEN }..)
    }

    /// When to call [`Engine::handle_timeout`] if nothing happens before; `None` is never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Tables { tcp, udp, echo, dns, .. } = &self.tables;
        [
            tcp.flows.next_deadline(),
            udp.flows.next_deadline(),
            echo.flows.next_deadline(),
            dns.queries.next_deadline(),
            dns.local.streams.next_deadline(),
            self.switch.groups.next_deadline(),
            self.fx.adverts.next_deadline(),
            self.fx.doubts.next_deadline(),
            self.fx.frames.shaper.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Serves the deadlines that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (port, v6) in self.switch.groups.handle_timeout(now) {
            if let Some((_, mut turn)) = self.turn(port, now) {
                turn.ask_for_groups(v6);
            }
        }
        for port in self.fx.adverts.take_due(now) {
            if let Some((_, mut turn)) = self.turn(port, now) {
                ndp::advertise(&mut turn, ndp::ALL_NODES);
            }
        }
        while let Some(port) = self.fx.doubts.pop_due(now) {
            if let Some((tables, mut turn)) = self.turn(port, now) {
                doubt::go_on(tables, &mut turn);
            }
        }
        for _ in 0..TIMEOUTS_PER_TURN {
            if let Some((port, index)) = self.tables.tcp.flows.pop_due(now) {
                if let Some((tables, mut turn)) = self.turn(port, now) {
                    tables.tcp.handle_timeout(&mut turn, index);
                }
            } else if let Some((port, index)) = self.tables.udp.flows.pop_due(now) {
                if let Some((tables, mut turn)) = self.turn(port, now) {
                    tables.udp.handle_timeout(&mut turn, index);
                }
            } else if let Some((port, index)) = self.tables.echo.flows.pop_due(now) {
                if let Some((tables, mut turn)) = self.turn(port, now) {
                    tables.echo.handle_timeout(&mut turn, index);
                }
            } else if let Some((port, index)) = self.tables.dns.queries.pop_due(now) {
                if let Some((tables, mut turn)) = self.turn(port, now) {
                    tables.dns.handle_timeout(&mut turn, index);
                }
            } else if let Some((port, index)) = self.tables.dns.local.streams.pop_due(now) {
                if let Some((tables, mut turn)) = self.turn(port, now) {
                    tables.dns.local.handle_timeout(&mut turn, index);
                }
            } else {
                break;
            }
        }
        self.serve_refused(now);
        self.serve_dns_streams(now);
    }

    /// Counts that a bound of the shell's was met.
    pub fn count_limit(&mut self, limit: Limit) {
        self.fx.stats.count_limit(limit);
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.fx.stats
    }

    /// The tables and a turn at `port`, borrowed apart.
    fn turn(&mut self, port: PortId, now: Instant) -> Option<(&mut Tables, Turn<'_>)> {
        let Port { lease, link, stack, .. } = self.switch.get_mut(port)?;
        let (network, published, fx) = (&self.network, &self.published, &mut self.fx);
        let turn = Turn { now, network, published, port, lease, link, stack, fx };
        Some((&mut self.tables, turn))
    }

    /// The same at the port that a host socket's owner belongs to.
    fn turn_of(&mut self, owner: Owner, now: Instant) -> Option<(&mut Tables, Turn<'_>)> {
        let port = match owner {
            Owner::Tcp(index) => self.tables.tcp.flows.port_of(index)?,
            Owner::Udp(index) => self.tables.udp.port_of(index)?,
            Owner::Echo(index) => self.tables.echo.flows.port_of(index)?,
            Owner::Dns(index) => self.tables.dns.queries.port_of(index)?,
            Owner::DnsListener(index) => self.tables.dns.local.port_of(index)?,
            Owner::DnsStream(index) => self.tables.dns.local.streams.port_of(index)?,
            Owner::Group(_) => self.lone_port()?,
            Owner::Published(_) | Owner::Overlay | Owner::Closing => return None,
        };
        self.turn(port, now)
    }

    /// The port of a private network's container.
    fn lone_port(&self) -> Option<PortId> {
        self.switch.iter().next().map(|(port, _)| port)
    }
}

impl fmt::Display for Engine {
    /// The dump: every flow and every counter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tables { tcp, udp, echo, dns, .. } = &self.tables;
        let counts = (tcp.flows.len(), udp.flows.len(), echo.flows.len(), dns.queries.len());
        writeln!(
            f,
            "flows: {} tcp, {} udp, {} echo; {} dns queries in flight",
            counts.0, counts.1, counts.2, counts.3
        )?;
        write!(f, "{tcp}{udp}{echo}")?;
        let (used, most) = (tcp.memory(), self.network.limits.memory());
        if used > 0 {
            writeln!(f, "buffers: {used} bytes of {most}")?;
        }
        if let Some(remote) = &self.switch.remote {
            let (hosts, macs) = remote.counts();
            writeln!(f, "overlay: {hosts} other hosts, {macs} hardware addresses there")?;
        }
        let (answers, bytes) = dns.cache_size();
        if answers > 0 {
            writeln!(f, "dns cache: {answers} answers, {bytes} bytes")?;
        }
        writeln!(f, "counters:")?;
        write!(f, "{}", self.fx.stats)
    }
}

#[cfg(test)]
mod tests;
