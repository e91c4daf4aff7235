//! A network in virtual time: the engine, a host that is a table of sockets, and a guest that is
//! a stack of its own or a test that sends and expects frames by hand.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::time::Duration;

use super::guest::Guest;
use super::packets::{Datagram, Packet, Segment, frame_of, read_ip, receive, receive_at};
use crate::config::{
    Addresses, Discovery, HostAccess, Lease, Limits, MacAddress, Mtu, Network, Overlay, Protocol,
    Resolver, Rules, Sharing,
};
use crate::engine::dns::Resolvers;
use crate::engine::host::{HostEvent, HostOp, HostStream, IpFields, SocketId, SocketKind};
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::{Destination, Engine, Instant, PortId};

/// What the host does with a TCP connection that the engine asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connects {
    /// Nothing, until the test says what.
    Pending,
    /// It stands at once.
    AtOnce,
}

/// A datagram that the engine had the host send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) socket: SocketId,
    pub(super) to: Option<SocketAddr>,
    pub(super) from: Option<IpAddr>,
    pub(super) fields: IpFields,
    pub(super) payload: Vec<u8>,
}

/// The host's side of the network.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) connects: Connects,
    /// What opening any socket but TCP ends with.
    pub(super) open_error: Option<ErrorKind>,
    /// Every socket asked for and not yet looked at by the test.
    pub(super) opened: VecDeque<(SocketId, SocketKind)>,
    pub(super) sent: VecDeque<Sent>,
    pub(super) closed: VecDeque<(SocketId, bool)>,
    pub(super) streams: BTreeMap<SocketId, Stream>,
    /// Sockets that are open and no streams.
    pub(super) datagrams: BTreeMap<SocketId, SocketKind>,
}

/// A TCP connection of the host, from the peer's point of view.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// What the peer has got.
    pub(super) received: Vec<u8>,
    /// The peer has got the end of the stream.
    pub(super) received_end: bool,
    /// How many bytes the host's send buffer takes before it blocks.
    pub(super) room: usize,
    /// What the peer has sent and the engine not yet read.
    pub(super) to_read: VecDeque<u8>,
    /// How many bytes one read gives at most; 0 is without limit.
    pub(super) chunk: usize,
    /// The peer has finished.
    pub(super) end: bool,
    /// The connection is broken: reading gives this once all is read, writing at once.
    pub(super) broken: Option<ErrorKind>,
}

impl Stream {
    fn new() -> Self {
        Self { room: usize::MAX, ..Self::default() }
    }

    /// One whose peer has sent something already.
    pub(super) fn with(bytes: &[u8]) -> Self {
        Self { to_read: bytes.iter().copied().collect(), ..Self::new() }
    }
}

impl HostStream for Stream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read into nothing looks like the end of the stream");
        let chunk = if self.chunk == 0 { usize::MAX } else { self.chunk };
        let len = buffer.len().min(self.to_read.len()).min(chunk);
        for (place, byte) in buffer.iter_mut().zip(self.to_read.drain(..len)) {
            *place = byte;
        }
        match (len, self.broken) {
            (1.., _) => Ok(len),
            (0, Some(error)) => Err(error.into()),
            (0, None) if self.end => Ok(0),
            (0, None) => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a write of nothing");
        assert!(!self.received_end, "a write after the end of the stream");
        if let Some(error) = self.broken {
            return Err(error.into());
        }
        let len = bytes.len().min(self.room);
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= if self.room == usize::MAX { 0 } else { len };
        self.received.extend(&bytes[..len]);
        Ok(len)
    }

    fn finish(&mut self) {
        assert!(!self.received_end, "finished twice");
        self.received_end = true;
    }

    fn is_broken(&self) -> bool {
        self.broken.is_some()
    }
}

/// The network.
pub(super) struct Net {
    pub(super) engine: Engine,
    pub(super) host: Host,
    pub(super) guest: Option<Guest>,
    pub(super) now: Instant,
    pub(super) vnet: bool,
    mtu: usize,
    /// Frames to the guest that nobody has looked at: kept only without a guest's stack.
    frames: VecDeque<Vec<u8>>,
    /// The same of other ports than the first, which have no guest's stack.
    others: BTreeMap<PortId, VecDeque<Vec<u8>>>,
    counters: BTreeMap<String, u64>,
}

/// What a [`Net`] is made of.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) mtu: u16,
    pub(super) vnet: bool,
    pub(super) v6: bool,
    pub(super) host_access: HostAccess,
    pub(super) dhcp_pool: Option<Ipv4Addr>,
    pub(super) resolver: Resolver,
    pub(super) sharing: Sharing,
    pub(super) allow_broadcast: bool,
    pub(super) discovery: Discovery,
    pub(super) uso: bool,
    pub(super) internal: bool,
    pub(super) default_route: bool,
    /// Other ones than the usual.
    pub(super) addresses: Option<Addresses>,
    pub(super) rules: Rules,
    pub(super) limits: Limits,
    pub(super) overlay: Option<Overlay>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mtu: 1500,
            vnet: true,
            v6: true,
            host_access: HostAccess::None,
            dhcp_pool: None,
            resolver: Resolver::default(),
            sharing: Sharing::Private,
            allow_broadcast: false,
            discovery: Discovery::default(),
            uso: false,
            internal: false,
            default_route: true,
            addresses: None,
            rules: Rules::default(),
            limits: Limits::default(),
            overlay: None,
        }
    }
}

pub(super) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The guest's own address with a port.
pub(super) fn guest(v6: bool, port: u16) -> SocketAddr {
    let ip = if v6 { "fd72:6e73:6e65::100" } else { "10.0.2.100" };
    SocketAddr::new(address(ip), port)
}

/// What the guest has on the network.
pub(super) fn lease(v6: bool) -> Lease {
    let mac = MacAddress(super::packets::GUEST_MAC);
    let lease = Lease { mac, ..Lease::default() };
    if v6 { lease } else { Lease { v6: None, ..lease } }
}

/// A server somewhere on the host's network.
pub(super) fn server(v6: bool, port: u16) -> SocketAddr {
    let ip = if v6 { "2001:db8::9" } else { "192.0.2.9" };
    SocketAddr::new(address(ip), port)
}

impl Net {
    /// A network whose guest is the test itself, with frames made by hand.
    pub(super) fn new(options: &Options) -> Self {
        let mut addresses = options.addresses.unwrap_or_default();
        if !options.v6 {
            addresses.v6 = None;
        }
        let network = Network {
            addresses,
            mtu: Mtu::new(options.mtu).unwrap(),
            host_access: options.host_access.clone(),
            dhcp_pool: options.dhcp_pool,
            resolver: options.resolver.clone(),
            sharing: options.sharing,
            allow_broadcast: options.allow_broadcast,
            discovery: options.discovery.clone(),
            internal: options.internal,
            default_route: options.default_route,
            rules: options.rules.clone(),
            limits: options.limits,
            overlay: options.overlay.clone(),
            ..Network::default()
        };
        let now = Instant::from_secs(1_000);
        let mut engine = Engine::new(network, [1, 2, 3, 4]);
        assert_eq!(engine.poll_timeout(), None, "a new engine waits for nothing");
        let port = engine.add_port(lease(options.v6), options.vnet, now).unwrap();
        if options.uso {
            engine.set_udp_offload(port);
        }
        Self {
            engine,
            host: Host {
                connects: Connects::Pending,
                open_error: None,
                opened: VecDeque::new(),
                sent: VecDeque::new(),
                closed: VecDeque::new(),
                streams: BTreeMap::new(),
                datagrams: BTreeMap::new(),
            },
            guest: None,
            now,
            vnet: options.vnet,
            mtu: usize::from(options.mtu),
            frames: VecDeque::new(),
            others: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    /// The usual network, its guest played by the test.
    pub(super) fn by_hand() -> Self {
        Self::new(&Options::default())
    }

    /// A network with a guest's stack, whose connections stand at once.
    pub(super) fn with_guest(options: &Options) -> Self {
        let mut net = Self::new(options);
        let mut addresses = Addresses::default();
        if !options.v6 {
            addresses.v6 = None;
        }
        net.guest = Some(Guest::new(&lease(options.v6), &addresses, net.mtu, net.vnet, net.now));
        net.host.connects = Connects::AtOnce;
        net
    }

    pub(super) fn guest(&mut self) -> &mut Guest {
        self.guest.as_mut().unwrap()
    }

    pub(super) fn set_resolvers(&mut self, servers: &[&str]) {
        let servers = servers.iter().map(|server| socket(server)).collect();
        self.engine.set_resolvers(Resolvers::new(servers), self.now);
    }

    /// Gives the engine a frame as the TAP would, behind a virtio header that offloads nothing.
    pub(super) fn guest_sends_frame(&mut self, frame: &[u8]) -> Verdict {
        let head: &[u8] = if self.vnet { &[0; 10] } else { &[] };
        self.guest_sends_raw(&[head, frame].concat())
    }

    /// Gives the engine bytes as read from the TAP.
    pub(super) fn guest_sends_raw(&mut self, raw: &[u8]) -> Verdict {
        self.port_sends_raw(PortId(0), raw)
    }

    pub(super) fn guest_sends(&mut self, packet: &[u8]) -> Verdict {
        self.guest_sends_frame(&frame_of(packet))
    }

    /// The next packet for the guest, which must be there.
    pub(super) fn guest_gets(&mut self) -> Vec<u8> {
        let frame = self.guest_gets_frame();
        let mut packets = receive(&frame, self.vnet, self.mtu);
        assert_eq!(packets.len(), 1, "one packet");
        packets.remove(0)
    }

    /// The next frame for the guest as written to the TAP.
    pub(super) fn guest_gets_frame(&mut self) -> Vec<u8> {
        self.settle();
        match self.frames.pop_front() {
            Some(frame) => frame,
            None => panic!("the guest got nothing\n{}", self.engine),
        }
    }

    pub(super) fn guest_gets_segment(&mut self) -> Segment {
        Segment::read(&self.guest_gets())
    }

    pub(super) fn guest_gets_datagram(&mut self) -> Datagram {
        Datagram::read(&self.guest_gets())
    }

    /// An ICMP message with a right checksum.
    pub(super) fn guest_gets_icmp(&mut self) -> Packet {
        let packet = read_ip(&self.guest_gets());
        assert!(packet.is_sealed(), "ICMP checksum");
        packet
    }

    /// All packets for the guest.
    pub(super) fn guest_gets_all(&mut self) -> Vec<Vec<u8>> {
        self.settle();
        let (vnet, mtu) = (self.vnet, self.mtu);
        self.frames.drain(..).flat_map(|frame| receive(&frame, vnet, mtu)).collect()
    }

    pub(super) fn guest_gets_nothing(&mut self) {
        self.settle();
        let frames: Vec<_> = self.frames.drain(..).collect();
        assert!(frames.is_empty(), "the guest got {frames:02x?}");
    }

    /// The host was asked to open this, and so far nothing else.
    pub(super) fn host_opens(&mut self, kind: SocketKind) -> SocketId {
        let opened: Vec<_> = self.host.opened.drain(..).collect();
        match opened.as_slice() {
            [(socket, opened)] if *opened == kind => *socket,
            _ => panic!("expected {kind:?}, the host was asked to open {opened:?}"),
        }
    }

    pub(super) fn host_opens_nothing(&mut self) {
        assert_eq!(self.host.opened, [], "the host was asked to open something");
    }

    /// The host was asked to close this socket, and so far nothing else.
    pub(super) fn host_closes(&mut self, socket: SocketId, reset: bool) {
        let closed: Vec<_> = self.host.closed.drain(..).collect();
        assert_eq!(closed, [(socket, reset)], "(socket, reset)");
    }

    pub(super) fn host_closes_nothing(&mut self) {
        assert_eq!(self.host.closed, [], "the host was asked to close something");
    }

    /// The host was asked to send this one datagram.
    pub(super) fn host_sends(&mut self) -> Sent {
        let sent: Vec<_> = self.host.sent.drain(..).collect();
        assert_eq!(sent.len(), 1, "one datagram: {sent:?}");
        sent.into_iter().next().unwrap()
    }

    pub(super) fn host_event(&mut self, socket: SocketId, event: HostEvent<'_>) {
        self.engine.handle_host(socket, event, self.now);
        self.settle();
    }

    pub(super) fn host_connected(&mut self, socket: SocketId) {
        self.host_event(socket, HostEvent::Connected);
    }

    pub(super) fn host_fails(&mut self, socket: SocketId, error: ErrorKind) {
        self.host_event(socket, HostEvent::Failed(error));
    }

    pub(super) fn host_gets(&mut self, socket: SocketId, from: SocketAddr, payload: &[u8]) {
        self.host_event(socket, HostEvent::Datagram { from, to: None, payload });
    }

    pub(super) fn publish(&mut self, protocol: Protocol, guest_port: u16) -> SocketId {
        let to = Destination { port: PortId(0), address: None };
        self.engine.publish(protocol, vec![to], guest_port)
    }

    /// A client connects to a published port.
    pub(super) fn accept(&mut self, listener: SocketId, client: SocketAddr) -> Option<SocketId> {
        let socket = self.engine.accept(listener, client, self.now)?;
        self.host.streams.insert(socket, Stream::new());
        self.settle();
        Some(socket)
    }

    pub(super) fn stream(&mut self, socket: SocketId) -> &mut Stream {
        self.host.streams.get_mut(&socket).unwrap()
    }

    /// Something happened to a TCP socket of the host: epoll would tell.
    pub(super) fn stream_ready(&mut self, socket: SocketId) {
        if let Some(stream) = self.host.streams.get_mut(&socket) {
            self.engine.relay(socket, stream, self.now);
        }
        self.settle();
    }

    /// The peer sends bytes on a TCP connection.
    pub(super) fn peer_sends(&mut self, socket: SocketId, bytes: &[u8]) {
        self.stream(socket).to_read.extend(bytes);
        self.stream_ready(socket);
    }

    /// The peer finishes its half.
    pub(super) fn peer_finishes(&mut self, socket: SocketId) {
        self.stream(socket).end = true;
        self.stream_ready(socket);
    }

    /// Only these counters have moved since the last call; frames and bytes apart.
    pub(super) fn expect_counters(&mut self, expected: &[(&str, u64)]) {
        let counters: BTreeMap<String, u64> = self
            .engine
            .stats()
            .to_string()
            .lines()
            .filter_map(|line| line.trim().split_once(' '))
            .filter(|(name, _)| !name.starts_with("rx_") && !name.starts_with("tx_"))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect();
        let moved: Vec<(&str, u64)> = counters
            .iter()
            .map(|(name, value)| {
                (name.as_str(), value - self.counters.get(name).copied().unwrap_or(0))
            })
            .filter(|(_, by)| *by > 0)
            .collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(moved, expected, "counters that moved");
        self.counters = counters;
    }

    pub(super) fn expect_dropped(&mut self, verdict: Verdict, reason: DropReason, label: &str) {
        assert_eq!(verdict, Verdict::Dropped(reason));
        self.expect_counters(&[(&format!("drop.{label}"), 1)]);
        self.guest_gets_nothing();
    }

    /// Nothing is left: no flow, no socket, no deadline but idle ones of the past.
    pub(super) fn expect_no_flows(&mut self) {
        let dump = self.engine.to_string();
        let first = dump.lines().next().unwrap();
        assert_eq!(first, "flows: 0 tcp, 0 udp, 0 echo; 0 dns queries in flight", "{dump}");
        assert!(self.host.streams.is_empty(), "left: {:?}", self.host.streams.keys());
        assert!(self.host.datagrams.is_empty(), "left: {:?}", self.host.datagrams);
    }

    /// Runs everything that is to be done at this moment.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut progress = false;
            while let Some(op) = self.engine.poll_host() {
                progress = true;
                self.carry_out(op);
            }
            let mut frames = Vec::new();
            let others = &mut self.others;
            let mut count = 0;
            while self.engine.poll_frame(self.now, |port, frame, _| {
                count += 1;
                match port {
                    PortId(0) => frames.push(frame.to_vec()),
                    port => others.entry(port).or_default().push_back(frame.to_vec()),
                }
            }) {
                assert!(count < 100_000, "frames without end\n{}", self.engine);
            }
            progress |= count > 0;
            match &mut self.guest {
                None => self.frames.extend(frames),
                Some(guest) => {
                    frames.iter().for_each(|frame| guest.handle_frame(frame));
                    for mut frame in guest.poll(self.now) {
                        progress = true;
                        self.engine.handle_frame(PortId(0), &mut frame, self.now);
                    }
                }
            }
            if !progress {
                return;
            }
        }
        panic!("the network does not come to rest\n{}", self.engine);
    }

    /// Another port gives the engine a frame, behind a virtio header that offloads nothing.
    pub(super) fn port_sends_frame(&mut self, port: PortId, frame: &[u8]) -> Verdict {
        let head: &[u8] = if self.vnet { &[0; 10] } else { &[] };
        self.port_sends_raw(port, &[head, frame].concat())
    }

    /// A port gives the engine bytes as read from its TAP. What is for other ports goes there as it
    /// is.
    pub(super) fn port_sends_raw(&mut self, port: PortId, raw: &[u8]) -> Verdict {
        // What the engine has changed of it others get changed.
        let mut raw = raw.to_vec();
        let verdict = self.engine.handle_frame(port, &mut raw, self.now);
        let receivers = match verdict {
            Verdict::Port(to) => vec![to],
            Verdict::Ports => self.engine.receivers().to_vec(),
            _ => Vec::new(),
        };
        for to in receivers {
            match to {
                PortId(0) => self.frames.push_back(raw.clone()),
                to => self.others.entry(to).or_default().push_back(raw.clone()),
            }
        }
        self.settle();
        verdict
    }

    /// The frames for any port since the last call.
    pub(super) fn frames_at(&mut self, port: PortId) -> Vec<Vec<u8>> {
        self.settle();
        match port {
            PortId(0) => self.frames.drain(..).collect(),
            port => self.others.remove(&port).unwrap_or_default().into(),
        }
    }

    /// The packets in those frames, which must be for `mac`.
    pub(super) fn port_gets(&mut self, port: PortId, mac: MacAddress) -> Vec<Vec<u8>> {
        let mac = mac.0;
        let (vnet, mtu) = (self.vnet, self.mtu);
        let frames = self.frames_at(port);
        frames.into_iter().flat_map(|frame| receive_at(mac, &frame, vnet, mtu)).collect()
    }

    /// Settles, and forgets what came of it.
    pub(super) fn forget(&mut self) {
        self.settle();
        self.frames.clear();
        self.others.clear();
        self.host.opened.clear();
        self.host.sent.clear();
        self.host.closed.clear();
    }

    /// Lets virtual time pass. Fails if the engine wakes up again and again for nothing.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut idle_wakes = 0;
        self.settle();
        loop {
            let due = self.engine.poll_timeout();
            let guest = self.guest.as_mut().and_then(|guest| guest.poll_at(self.now));
            let next = due.into_iter().chain(guest).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if due.is_some_and(|due| due <= self.now) {
                let frames = |net: &Self| net.others.values().map(VecDeque::len).sum::<usize>();
                let before = (self.engine.stats().tx_frames, frames(self));
                let ops = self.host.closed.len() + self.host.opened.len() + self.host.sent.len();
                self.engine.handle_timeout(self.now);
                self.settle();
                let after = self.host.closed.len() + self.host.opened.len() + self.host.sent.len();
                let worked =
                    (self.engine.stats().tx_frames, frames(self)) != before || after != ops;
                idle_wakes = if worked { 0 } else { idle_wakes + 1 };
                // Moments that were given up may be many, of each kind of flow; see `Timers`.
                assert!(idle_wakes < 200, "woke for nothing too often\n{}", self.engine);
            } else {
                self.settle();
            }
        }
        self.now = end;
        self.settle();
        if let Some(at) = self.engine.poll_timeout() {
            assert!(at > self.now, "a deadline of the past is left: {at} at {}", self.now);
        }
    }

    fn carry_out(&mut self, op: HostOp) {
        match op {
            HostOp::Open { socket, kind } => {
                self.host.opened.push_back((socket, kind));
                let outcome = match (kind, self.host.connects, self.host.open_error) {
                    (SocketKind::TcpConnect(_), connects, _) => {
                        let old = self.host.streams.insert(socket, Stream::new());
                        assert!(old.is_none(), "{socket:?} is open already");
                        match connects {
                            Connects::Pending => None,
                            Connects::AtOnce => Some(HostEvent::Connected),
                        }
                    }
                    (_, _, error) => {
                        let old = self.host.datagrams.insert(socket, kind);
                        assert!(old.is_none(), "{socket:?} is open already");
                        error.map(HostEvent::Failed)
                    }
                };
                if let Some(event) = outcome {
                    self.engine.handle_host(socket, event, self.now);
                }
            }
            HostOp::Send { socket, to, from, fields, segment, payload } => {
                let length = segment.map_or(payload.len(), usize::from).max(1);
                let (first, rest) = payload.split_at(length.min(payload.len()));
                for datagram in std::iter::once(first).chain(rest.chunks(length)) {
                    let payload = datagram.to_vec();
                    self.host.sent.push_back(Sent { socket, to, from, fields, payload });
                }
                self.engine.recycle(payload);
            }
            HostOp::Relay(socket) => {
                if let Some(stream) = self.host.streams.get_mut(&socket) {
                    self.engine.relay(socket, stream, self.now);
                }
            }
            HostOp::Close { socket, reset } => {
                let stream = self.host.streams.remove(&socket).is_some();
                let datagram = self.host.datagrams.remove(&socket).is_some();
                assert!(stream || datagram, "{socket:?} is not open");
                self.host.closed.push_back((socket, reset));
            }
        }
    }
}
