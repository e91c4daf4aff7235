//! The whole engine between a hostile guest and a model of the host.
//!
//! The input is a list of actions: frames (raw bytes, or well-formed but for what the input bends),
//! events of host sockets, clients, bytes moved, time. After each action the engine is driven as
//! the event loop drives it, and must come to rest in a bounded number of steps, owe nothing to the
//! past, ask the host only for what it may, and send only frames that a kernel takes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use rnsnet::config::{Addresses, HostAccess, Lease, MacAddress, Mtu, Network, Protocol, Refusal};
use rnsnet::engine::dns::Resolvers;
use rnsnet::engine::host::{HostEvent, HostOp, HostStream, SocketId, SocketKind};
use rnsnet::engine::{Destination, Engine, Instant, PortId, nat};
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, TcpPacket, TcpSeqNumber, UdpPacket};

use super::driver::{World, check_idle, socket};
use super::input::Input;
use super::packet::{self, GUEST_MAC};

/// Actions of one input.
const MAX_ACTIONS: usize = 400;
/// The most frames that wait while the guest takes none: 8 MiB of the smallest.
const MAX_WAITING_FRAMES: usize = 100_000;

/// The most datagrams that one frame may be: what Linux cuts one into (`UDP_MAX_SEGMENTS`, 6.9).
const MAX_PIECES: usize = 128;

const RESOLVERS: [&str; 3] = ["127.0.0.53:53", "198.51.100.53:53", "[2001:db8::53]:53"];
const V4: [&str; 9] = [
    "192.0.2.9",
    "10.0.2.2",
    "10.0.2.3",
    "198.51.100.7",
    "127.0.0.1",
    "10.0.2.7",
    "224.0.0.1",
    "255.255.255.255",
    "169.254.169.254",
];
const V6: [&str; 9] = [
    "2001:db8::9",
    "fd72:6e73:6e65::2",
    "fd72:6e73:6e65::3",
    "2001:db8::10",
    "::1",
    "fd72:6e73:6e65::7",
    "ff02::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
];
const PORTS: [u16; 6] = [80, 53, 443, 22, 0, 9];
const ERRORS: [ErrorKind; 8] = [
    ErrorKind::ConnectionRefused,
    ErrorKind::TimedOut,
    ErrorKind::HostUnreachable,
    ErrorKind::NetworkUnreachable,
    ErrorKind::PermissionDenied,
    ErrorKind::ConnectionReset,
    ErrorKind::AddrNotAvailable,
    ErrorKind::Other,
];

/// Runs one input.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut guest = Guest::new(&mut input);
    for _ in 0..MAX_ACTIONS {
        if input.is_empty() {
            break;
        }
        guest.act(&mut input);
        guest.settle();
    }
    guest.end();
}

struct Guest {
    engine: Engine,
    network: Network,
    now: Instant,
    vnet: bool,
    /// The guest takes no frames for now.
    blocked: bool,
    listeners: [Option<SocketId>; 3],
    sockets: BTreeMap<SocketId, Kind>,
    segments: BTreeMap<(SocketAddr, SocketAddr), (i32, i32)>,
    /// The keys of `segments`, newest last.
    flows: Vec<(SocketAddr, SocketAddr)>,
    resolvers: BTreeSet<SocketAddr>,
    last_dns: Vec<u8>,
    /// What the next packet has besides: more headers, pieces to be cut into.
    headers: Option<u8>,
    several: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connecting,
    Tcp,
    Datagram,
    Echo,
}

/// A host's TCP socket that does what the input says.
struct Stream {
    readable: usize,
    writable: usize,
    ended: bool,
    error: Option<ErrorKind>,
}

impl HostStream for Stream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read of nothing looks like the end");
        let length = buffer.len().min(self.readable);
        if length > 0 {
            buffer[..length].fill(b'h');
            self.readable -= length;
            return Ok(length);
        }
        match self.error {
            Some(error) => Err(error.into()),
            None if self.ended => Ok(0),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.writable);
        self.writable -= length;
        match self.error {
            Some(error) => Err(error.into()),
            None if length == 0 => Err(ErrorKind::WouldBlock.into()),
            None => Ok(length),
        }
    }

    fn finish(&mut self) {}
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Guest {
    fn new(input: &mut Input<'_>) -> Self {
        let bits = input.u8();
        let mut addresses = Addresses::default();
        let mtu = [1500, 1280, 65_520, 68, 576, 9000, 65_521, 1501][usize::from(bits >> 5)];
        // No link below 1280 bytes has IPv6 (RFC 8200, section 5).
        if bits & 2 != 0 || mtu < 1280 {
            addresses.v6 = None;
        }
        let network = Network {
            addresses,
            mtu: Mtu::unusual(mtu).unwrap(),
            host_access: if bits & 4 == 0 {
                HostAccess::Ports([22].into())
            } else {
                HostAccess::All
            },
            dns: bits & 8 == 0,
            refusal: if bits & 16 == 0 { Refusal::Prohibited } else { Refusal::Unreachable },
            ..Network::default()
        };
        let vnet = bits & 1 == 0;
        let now = Instant::from_millis(1);
        let mut engine = Engine::new(network.clone(), [1, 2, 3, 4]);
        let lease = Lease { mac: MacAddress(GUEST_MAC), ..Lease::default() };
        let port = engine.add_port(lease, vnet, now).unwrap();
        let to = |address| vec![Destination { port, address }];
        let listeners = [
            Some(engine.publish(Protocol::Tcp, to(None), 8080)),
            Some(engine.publish(Protocol::Udp, to(None), 5353)),
            Some(engine.publish(Protocol::Tcp, to(Some(address("10.0.2.15"))), 8081)),
        ];
        let mut world = Self {
            engine,
            network,
            now,
            vnet,
            blocked: false,
            listeners,
            sockets: BTreeMap::new(),
            segments: BTreeMap::new(),
            flows: Vec::new(),
            resolvers: BTreeSet::new(),
            last_dns: Vec::new(),
            headers: None,
            several: None,
        };
        world.set_resolvers(3);
        world
    }

    fn set_resolvers(&mut self, count: usize) {
        let servers: Vec<SocketAddr> =
            RESOLVERS.iter().take(count).map(|text| text.parse().unwrap()).collect();
        self.resolvers.extend(&servers);
        self.engine.set_resolvers(Resolvers::new(servers), self.now);
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.u8() % 16 {
            0 => self.raw_frame(input),
            1..=3 => self.segment(input),
            4 => self.syn(input),
            5 => self.datagram(input),
            6 => self.echo(input),
            7 => self.fragment(input),
            8 => self.neighbour(input),
            9 | 10 => self.host_event(input),
            11 => self.relay(input),
            12 => self.client(input),
            13 => {
                let step = [1, 10, 999, 1_000, 15_000, 60_000, 150_000, 7_300_000];
                self.now += Duration::from_millis(input.pick(&step));
            }
            14 => self.blocked = input.u8() & 1 == 1,
            _ => match input.u8() % 8 {
                0 => self.unpublish(input),
                1 => {
                    let count = usize::from(input.u8() % 4);
                    self.set_resolvers(count);
                }
                2 => self.engine.set_udp_offload(PortId(0)),
                3 => self.headers = Some(input.u8()),
                4 => self.several = Some(u16::from(input.u8())),
                _ => self.answer_dns(input),
            },
        }
    }

    fn give(&mut self, mut frame: Vec<u8>) {
        self.engine.handle_frame(PortId(0), &mut frame, self.now);
    }

    fn raw_frame(&mut self, input: &mut Input<'_>) {
        let length = usize::from(input.u16() & 0x7ff);
        let frame = input.bytes(length).to_vec();
        self.give(frame);
    }

    fn addresses(&self, input: &mut Input<'_>) -> (IpAddr, IpAddr) {
        let bits = input.u8();
        let index = usize::from(bits >> 4) % V4.len();
        let guest = &self.network.addresses;
        match (bits & 1, guest.v6) {
            (1, Some(_)) => {
                let sources = [address("fd72:6e73:6e65::100"), address("::"), address("fe80::64")];
                (sources[usize::from(bits >> 1 & 7).saturating_sub(5)], address(V6[index]))
            }
            _ => {
                let sources = [address("10.0.2.100"), address("10.0.2.15"), address("9.9.9.9")];
                (sources[usize::from(bits >> 1 & 7).saturating_sub(5)], address(V4[index]))
            }
        }
    }

    /// Gives an IP packet, with an offload header that may lie.
    fn packet(&mut self, input: &mut Input<'_>, addresses: (IpAddr, IpAddr), packet: Vec<u8>) {
        let longer = self.headers.take().and_then(|bits| packet::with_headers(bits, &packet));
        let packet = longer.unwrap_or(packet);
        let several = self.several.take().and_then(|size| packet::several(&packet, size));
        let offload = self.vnet.then(|| {
            if let Some(header) = several {
                return header;
            }
            let mut header = [0; packet::VNET];
            match input.u8() {
                0..=0xdf => {}
                0xe0..=0xef => header[0] = 2,
                _ => header.copy_from_slice(
                    &[input.bytes(packet::VNET), &[0; packet::VNET]].concat()[..packet::VNET],
                ),
            }
            header
        });
        let ethertype = if addresses.0.is_ipv4() { 0x0800 } else { 0x86dd };
        self.give(packet::frame(offload, ethertype, &packet));
    }

    fn transport(
        &mut self,
        input: &mut Input<'_>,
        addresses: (IpAddr, IpAddr),
        protocol: IpProtocol,
        hop_limit: u8,
        mut payload: Vec<u8>,
    ) {
        packet::finish(addresses, protocol, &mut payload);
        if let Some(bytes) = packet::ip(addresses, protocol, hop_limit, None, &payload) {
            self.packet(input, addresses, bytes);
        }
    }

    fn syn(&mut self, input: &mut Input<'_>) {
        let addresses = self.addresses(input);
        let ports = (40_000 + u16::from(input.u8() & 15), input.pick(&PORTS));
        let (seq, options) = (input.u32(), usize::from(input.u8() & 0x2c));
        let header = 20 + options;
        let mut bytes = vec![0; header];
        bytes[20..].copy_from_slice(&[input.bytes(options), &[1; 44]].concat()[..options]);
        let mut tcp = TcpPacket::new_unchecked(&mut bytes);
        tcp.set_src_port(ports.0);
        tcp.set_dst_port(ports.1);
        tcp.set_seq_number(TcpSeqNumber(seq as i32));
        tcp.set_header_len(header as u8);
        tcp.set_syn(true);
        tcp.set_window_len(64_240);
        let payload = usize::from(input.u8() & 3) * 500;
        bytes.resize(header + payload, 0);
        self.transport(input, addresses, IpProtocol::Tcp, 64, bytes);
    }

    /// A segment of a conversation that the engine has spoken in, near what it expects.
    fn segment(&mut self, input: &mut Input<'_>) {
        let Some(which) = usize::from(input.u8()).checked_rem(self.flows.len()) else {
            return;
        };
        let key = self.flows[self.flows.len() - 1 - which];
        let (next, ack) = self.segments[&key];
        let (guest, host) = key;
        let (bits, bend) = (input.u8(), input.u8());
        let mut delta = |how: u8| match how & 3 {
            0 | 1 => 0,
            2 => i32::from(input.u8()) - 128,
            _ => input.u32() as i32,
        };
        let (seq_delta, ack_delta) = (delta(bend), delta(bend >> 2));
        let window = match bend >> 4 & 3 {
            0 | 1 => 64_240,
            2 => 0,
            _ => u16::from(input.u8()),
        };
        let length = match bend >> 6 {
            0 => 0,
            1 => usize::from(input.u8()),
            2 => 1460,
            _ => usize::from(input.u16()),
        };
        let options = if bits & 0x40 == 0 { 0 } else { usize::from(input.u8() & 0x2c) };
        let header = 20 + options;
        let mut bytes = vec![b'g'; header + length];
        bytes[..20].fill(0);
        bytes[20..header].copy_from_slice(&[input.bytes(options), &[1; 44]].concat()[..options]);
        let mut tcp = TcpPacket::new_unchecked(&mut bytes);
        tcp.set_src_port(guest.port());
        tcp.set_dst_port(host.port());
        tcp.set_seq_number(TcpSeqNumber(ack.wrapping_add(seq_delta)));
        tcp.set_ack_number(TcpSeqNumber(next.wrapping_add(ack_delta)));
        tcp.set_header_len(header as u8);
        tcp.set_window_len(window);
        tcp.set_fin(bits & 1 != 0);
        tcp.set_syn(bits & 2 != 0);
        tcp.set_rst(bits & 4 != 0);
        tcp.set_psh(bits & 8 != 0);
        tcp.set_ack(bits & 16 == 0);
        tcp.set_urg(bits & 32 != 0);
        tcp.set_urgent_at(u16::from(bits));
        self.transport(input, (guest.ip(), host.ip()), IpProtocol::Tcp, 64, bytes);
    }

    fn datagram(&mut self, input: &mut Input<'_>) {
        let addresses = self.addresses(input);
        let ports = (40_000 + u16::from(input.u8() & 15), input.pick(&PORTS));
        let length = usize::from(input.u8());
        let body = input.bytes(length).to_vec();
        self.send_udp(input, addresses, ports, &body);
    }

    fn send_udp(
        &mut self,
        input: &mut Input<'_>,
        addresses: (IpAddr, IpAddr),
        ports: (u16, u16),
        body: &[u8],
    ) {
        let mut bytes = [&[0; 8], body].concat();
        let length = bytes.len() as u16;
        let mut udp = UdpPacket::new_unchecked(&mut bytes);
        udp.set_src_port(ports.0);
        udp.set_dst_port(ports.1);
        udp.set_len(length);
        self.transport(input, addresses, IpProtocol::Udp, 64, bytes);
    }

    fn echo(&mut self, input: &mut Input<'_>) {
        let addresses = self.addresses(input);
        let (v6, bits) = (addresses.0.is_ipv6(), input.u8());
        let (kind, protocol) = if v6 { (128, IpProtocol::Icmpv6) } else { (8, IpProtocol::Icmp) };
        let kind = if bits & 1 == 0 { kind } else { input.u8() };
        let length = if bits & 2 == 0 { usize::from(bits) } else { usize::from(input.u16()) };
        let mut bytes = vec![0; 8 + length];
        bytes[0] = kind;
        bytes[5] = bits >> 4;
        self.transport(input, addresses, protocol, 64, bytes);
    }

    fn fragment(&mut self, input: &mut Input<'_>) {
        let addresses = self.addresses(input);
        let protocol = input.pick(&[
            IpProtocol::Udp,
            IpProtocol::Icmp,
            IpProtocol::Icmpv6,
            IpProtocol::Tcp,
            IpProtocol::HopByHop,
        ]);
        let (id, offset) = (u32::from(input.u8() & 63), usize::from(input.u16()) & 0xfff8);
        let (more, length) = (input.u8() & 1 == 1, usize::from(input.u16() & 0x7ff));
        let body = [input.bytes(8), &vec![0; length]].concat();
        let fragment = Some((id, offset, more));
        if let Some(bytes) = packet::ip(addresses, protocol, 64, fragment, &body) {
            self.packet(input, addresses, bytes);
        }
    }

    /// Neighbour discovery and ARP, with the checksums right and all else as the input says.
    fn neighbour(&mut self, input: &mut Input<'_>) {
        let bits = input.u8();
        let length = usize::from(bits >> 1);
        let body = input.bytes(length).to_vec();
        if bits & 1 == 0 {
            let arp = [&[0, 1, 8, 0, 6, 4, 0, 1], body.as_slice(), &[0; 20]].concat();
            let offload = self.vnet.then_some([0; packet::VNET]);
            self.give(packet::frame(offload, 0x0806, &arp));
        } else {
            let addresses = self.addresses(input);
            let hops = if input.u8() & 7 == 7 { 64 } else { 255 };
            self.transport(input, addresses, IpProtocol::Icmpv6, hops, body);
        }
    }

    fn host_event(&mut self, input: &mut Input<'_>) {
        let Some((id, kind)) = socket(&self.sockets, input) else {
            return;
        };
        let bits = input.u8();
        match (kind, bits & 7) {
            (Kind::Connecting, 0..=5) => {
                self.sockets.insert(id, Kind::Tcp);
                self.engine.handle_host(id, HostEvent::Connected, self.now);
            }
            (_, 6) => {
                let error = input.pick(&ERRORS);
                self.engine.handle_host(id, HostEvent::Failed(error), self.now);
            }
            (_, 7) => {
                let error = input.pick(&ERRORS);
                self.engine.handle_host(id, HostEvent::Unsent { to: None, error }, self.now);
            }
            (Kind::Tcp | Kind::Connecting, _) => {
                self.engine.handle_host(id, HostEvent::Connected, self.now);
            }
            (Kind::Datagram | Kind::Echo, _) => {
                let (_, from) = self.addresses(input);
                let from = SocketAddr::new(from, input.pick(&PORTS));
                let length =
                    if bits & 8 == 0 { usize::from(bits) } else { usize::from(input.u16()) };
                let mut payload = vec![0; length.min(65_507)];
                let given = input.bytes(usize::from(bits >> 4)).to_vec();
                let given_len = given.len().min(payload.len());
                payload[..given_len].copy_from_slice(&given[..given_len]);
                let event = HostEvent::Datagram { from, to: None, payload: &payload };
                self.engine.handle_host(id, event, self.now);
            }
        }
    }

    /// The answer to the last query that went to the host, or nearly so.
    fn answer_dns(&mut self, input: &mut Input<'_>) {
        let mut answer = self.last_dns.clone();
        let Some((id, Kind::Datagram)) = socket(&self.sockets, input) else {
            return;
        };
        if let Some(flags) = answer.get_mut(2) {
            *flags |= 0x80;
        }
        let bend = usize::from(input.u8());
        if let Some(byte) = answer.get_mut(bend) {
            *byte ^= input.u8();
        }
        let length = usize::from(input.u8() >> 2);
        answer.extend_from_slice(input.bytes(length));
        let from = self.resolvers.iter().next().copied().unwrap();
        let event = HostEvent::Datagram { from, to: None, payload: &answer };
        self.engine.handle_host(id, event, self.now);
    }

    fn relay(&mut self, input: &mut Input<'_>) {
        let Some((id, kind)) = socket(&self.sockets, input) else {
            return;
        };
        if kind != Kind::Tcp {
            return;
        }
        let bits = input.u8();
        let amounts = [0, 1, 100, 1460, 20_000, 70_000, 1 << 20, 2 << 20];
        let mut stream = Stream {
            readable: amounts[usize::from(bits & 7)],
            writable: amounts[usize::from(bits >> 3 & 7)],
            ended: bits & 0x40 != 0,
            error: (bits & 0x80 != 0).then(|| input.pick(&ERRORS)),
        };
        self.engine.relay(id, &mut stream, self.now);
    }

    fn client(&mut self, input: &mut Input<'_>) {
        let bits = input.u8();
        let Some(listener) = self.listeners[usize::from(bits) % 3] else {
            return;
        };
        let from = ["192.0.2.77", "127.0.0.1", "2001:db8::77", "10.0.2.100"];
        let from = SocketAddr::new(address(from[usize::from(bits >> 2 & 3)]), u16::from(bits >> 4));
        if bits % 3 == 1 {
            let length = usize::from(input.u16());
            let payload = vec![0; length.min(65_507)];
            let event = HostEvent::Datagram { from, to: None, payload: &payload };
            self.engine.handle_host(listener, event, self.now);
        } else if let Some(id) = self.engine.accept(listener, from, self.now) {
            assert!(self.sockets.insert(id, Kind::Tcp).is_none(), "{id:?} is taken");
        }
    }

    fn unpublish(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.u8()) % 3;
        if let Some(listener) = self.listeners[which].take() {
            self.engine.unpublish(listener);
        }
    }

    /// Loopback is for what the gateway offers and for resolvers; the deny list for all else.
    fn check_destination(&self, to: SocketAddr) {
        let offered = to.ip().is_loopback() && self.network.host_access.allows(to.port());
        assert!(
            offered || self.resolvers.contains(&to) || !nat::denied(&self.network, to.ip()),
            "a way to {to}"
        );
    }

    /// All conversations end by time alone, and their sockets with them.
    fn end(&mut self) {
        self.blocked = false;
        self.settle();
        // Two steps over every timer: keep-alives are answered by nobody.
        for _ in 0..40 {
            self.now += Duration::from_secs(4 * 60 * 60);
            self.settle();
        }
        check_idle(&self.engine, &self.sockets);
    }
}

impl World for Guest {
    fn engine(&mut self) -> (&mut Engine, Instant) {
        (&mut self.engine, self.now)
    }

    fn serve(&mut self, op: HostOp) {
        match op {
            HostOp::Open { socket, kind } => {
                let known = match kind {
                    SocketKind::TcpConnect(to) => {
                        self.check_destination(to);
                        Kind::Connecting
                    }
                    SocketKind::UdpConnect(to) => {
                        assert!(self.resolvers.contains(&to), "a query to {to}");
                        Kind::Datagram
                    }
                    SocketKind::UdpBroadcast | SocketKind::Group { .. } => {
                        panic!("a socket for everybody, unasked")
                    }
                    SocketKind::Udp { .. } | SocketKind::UdpLoopback { .. } => Kind::Datagram,
                    SocketKind::Ping { .. } => Kind::Echo,
                };
                assert!(self.sockets.insert(socket, known).is_none(), "{socket:?} is taken");
            }
            HostOp::Send { socket, to, segment, payload, .. } => {
                let pieces = segment.map_or(1, |size| payload.len().div_ceil(size.into()));
                assert!(pieces <= MAX_PIECES, "{pieces} datagrams for one frame");
                let listens = self.listeners.contains(&Some(socket));
                match self.sockets.get(&socket) {
                    Some(Kind::Datagram) if to.is_none() => self.last_dns.clone_from(&payload),
                    Some(Kind::Datagram) => self.check_destination(to.unwrap()),
                    Some(Kind::Echo) => {
                        let to = to.expect("a ping has a destination").ip();
                        assert!(!nat::denied(&self.network, to), "a ping to {to}");
                    }
                    _ => assert!(listens, "{socket:?} cannot send"),
                }
                self.engine.recycle(payload);
            }
            HostOp::Relay(socket) => {
                assert!(self.sockets.contains_key(&socket), "{socket:?} is not open");
                let mut stream = Stream { readable: 0, writable: 300, ended: false, error: None };
                self.engine.relay(socket, &mut stream, self.now);
            }
            HostOp::Close { socket, .. } => {
                if self.sockets.remove(&socket).is_none() {
                    assert!(!self.listeners.contains(&Some(socket)), "a listener was closed");
                }
            }
        }
    }

    fn frames(&mut self) -> bool {
        if self.blocked {
            return false;
        }
        let (vnet, mtu) = (self.vnet, usize::from(self.network.mtu.get()));
        let mut steps = 0;
        let mut sent = Vec::new();
        while self
            .engine
            .poll_frame(self.now, |_, frame, _| sent.extend(packet::check(vnet, mtu, frame)))
        {
            steps += 1;
            assert!(steps < MAX_WAITING_FRAMES, "frames without end");
        }
        for segment in sent {
            let key = (segment.guest, segment.host);
            if self.segments.insert(key, (segment.next, segment.ack)).is_none() {
                self.flows.push(key);
            }
        }
        steps > 0
    }
}
