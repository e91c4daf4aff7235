//! The DNS forwarder: one hostile client's queries, three hostile servers' answers, names and what
//! was kept between them.
//!
//! The same question is asked three times, with time between: by a datagram, by a datagram on the
//! container's own loopback, and over TCP there, in pieces. Whatever comes, a server sees the query
//! byte for byte under another id, and the client gets at most one answer a time, under its id.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use rnsnet::config::{Host, HostAddress, Lease, MacAddress, Mtu, Name, Network, Resolver as Dns};
use rnsnet::engine::dns::{PortNames, Resolvers};
use rnsnet::engine::host::{HostEvent, HostOp, HostStream, SocketId, SocketKind};
use rnsnet::engine::{Engine, Instant, PortId};
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, Ipv4Packet, UdpPacket};

use super::input::Input;
use super::packet;

/// One side of a TCP connection, as the engine has it.
#[derive(Default)]
struct Stream {
    to_read: Vec<u8>,
    /// How many bytes one call moves.
    step: usize,
    end: bool,
    written: Vec<u8>,
}

impl HostStream for Stream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read into nothing");
        let length = buffer.len().min(self.to_read.len()).min(self.step);
        match (length, self.end) {
            (0, true) if self.to_read.is_empty() => Ok(0),
            (0, _) => Err(ErrorKind::WouldBlock.into()),
            _ => {
                buffer[..length].copy_from_slice(&self.to_read[..length]);
                self.to_read.drain(..length);
                Ok(length)
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a write of nothing");
        let length = bytes.len().min(self.step);
        self.written.extend_from_slice(&bytes[..length]);
        if length == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(length) }
    }

    fn finish(&mut self) {}
}

struct World {
    engine: Engine,
    now: Instant,
    servers: Vec<SocketAddr>,
    /// The UDP socket and the TCP listener inside the container.
    local: [SocketId; 2],
}

/// How a question is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Datagram,
    LocalDatagram,
    LocalStream,
}

/// Runs one input.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new();
    let bits = input.u16();
    let mut query = match bits & 0x8000 {
        0 => input.bytes(usize::from(bits & 0x3ff)).to_vec(),
        _ => question(&mut input, bits),
    };
    let world = &mut world;
    for by in [By::Datagram, By::LocalDatagram, By::LocalStream] {
        world.ask(&mut input, by, &query);
        world.now += Duration::from_secs(u64::from(input.u16()));
        // The same question by somebody else, perhaps in another case.
        for byte in query.iter_mut().take(2) {
            *byte ^= input.u8();
        }
        let at = 12 + usize::from(input.u8() & 0xf);
        if let Some(byte) = query.get_mut(at).filter(|byte| byte.is_ascii_alphabetic()) {
            *byte ^= 0x20;
        }
    }
}

/// A well-formed query, for a name that is known or one that is not.
fn question(input: &mut Input<'_>, bits: u16) -> Vec<u8> {
    let names: [&[u8]; 8] = [
        b"\x03web\0",
        b"\x01w\x02n1\0",
        b"\x07printer\0",
        b"\x01x\x04apps\0",
        b"\x02db\0",
        b"\x017\x012\x010\x0210\x07in-addr\x04arpa\0",
        b"\x07example\x04test\0",
        b"\x07Example\x04teST\0",
    ];
    let name = names[usize::from(bits & 7)];
    let kind = [1, 28, 12, 255, 16, 252, 1, 1][usize::from(bits >> 3 & 7)];
    let edns = bits & 0x40 != 0;
    let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    let mut query = [&head, name, &[0, kind, 0, 1]].concat();
    if edns {
        let length = input.u8() & 0x1f;
        query.extend_from_slice(&[0, 0, 41, input.u8(), 0, 0, 0, input.u8(), 0, 0, length]);
        query.extend_from_slice(input.bytes(usize::from(length)));
    }
    query
}

impl World {
    fn new() -> Self {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let fixed = IpAddr::from([192, 0, 2, 9]);
        let hosts = [("printer", false), ("apps", true)].map(|(text, wildcard)| Host {
            name: name(text),
            wildcard,
            address: HostAddress::Is(fixed),
        });
        let resolver = Dns { hosts: hosts.to_vec(), domain: Some(name("n1")), ..Dns::default() };
        let mtu = Mtu::new(65_520).unwrap();
        let network = Network { mtu, resolver, ..Network::default() };
        let now = Instant::from_millis(1);
        let mut engine = Engine::new(network, [1, 2, 3, 4]);
        let lease = Lease { mac: MacAddress(packet::GUEST_MAC), ..Lease::default() };
        let port = engine.add_port(lease, false, now).unwrap();
        let servers: Vec<SocketAddr> =
            (1..=3).map(|last| SocketAddr::from(([192, 0, 2, last], 53))).collect();
        engine.set_resolvers(Resolvers::new(servers.clone()), now);
        let names = PortNames {
            addresses: (0..60).map(|last| IpAddr::from([10, 0, 2, last])).collect(),
            name: Some(name("web")),
            aliases: vec![name("w")],
            links: vec![(name("db"), name("gone"))],
            ..PortNames::default()
        };
        engine.set_names(port, names, now);
        let local = [engine.listen_dns(port), engine.listen_dns(port)];
        Self { engine, now, servers, local }
    }

    fn ask(&mut self, input: &mut Input<'_>, by: By, query: &[u8]) {
        let client = SocketAddr::from(([127, 0, 0, 1], 4000));
        let mut streams = BTreeMap::new();
        let mut own = None;
        match by {
            By::Datagram => {
                self.engine.handle_frame(PortId(0), &mut frame_of(query), self.now);
            }
            By::LocalDatagram => {
                let event = HostEvent::Datagram { from: client, to: None, payload: query };
                self.engine.handle_host(self.local[0], event, self.now);
            }
            By::LocalStream => {
                let socket = self.engine.accept(self.local[1], client, self.now).unwrap();
                let length = u16::try_from(query.len()).unwrap();
                let to_read = [&length.to_be_bytes(), query].concat();
                let step = 1 + usize::from(input.u8());
                let mut stream = Stream { to_read, step, end: step & 1 == 1, ..Stream::default() };
                for _ in 0..3000 {
                    self.engine.relay(socket, &mut stream, self.now);
                }
                streams.insert(socket, stream);
                own = Some(socket);
            }
        }
        let mut asked: Option<(SocketId, Vec<u8>)> = None;
        let mut replies: Vec<Vec<u8>> = Vec::new();
        for round in 0..128 {
            self.host_ops(query, &mut asked, &mut replies, &mut streams);
            let now = self.now;
            while self.engine.poll_frame(now, |_, frame, _| {
                packet::check(false, 65_520, frame);
                let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
                replies.push(UdpPacket::new_checked(ip.payload()).unwrap().payload().to_vec());
            }) {}
            let Some((socket, sent)) = &asked else { break };
            match input.u8() {
                // Three servers are asked twice, with patience of at most four seconds.
                _ if input.is_empty() || round >= 64 => self.now += Duration::from_secs(2),
                0..=7 => self.now += Duration::from_millis(u64::from(input.u16())),
                8..=15 => {
                    let error = HostEvent::Failed(ErrorKind::ConnectionRefused);
                    self.engine.handle_host(*socket, error, self.now);
                }
                bits => {
                    // Some are as they should be.
                    let bits = if bits & 0xf8 == 0x18 { GOOD } else { bits };
                    let answer = bend(input, bits, sent);
                    match streams.get_mut(socket) {
                        Some(stream) if by == By::LocalStream => {
                            let length = u16::try_from(answer.len()).unwrap();
                            stream.to_read = [&length.to_be_bytes(), &answer[..]].concat();
                            stream.end = bits & 0x20 == 0;
                            self.engine.relay(*socket, stream, self.now);
                        }
                        _ => {
                            let (from, payload) = (self.servers[0], &answer[..]);
                            let event = HostEvent::Datagram { from, to: None, payload };
                            self.engine.handle_host(*socket, event, self.now);
                        }
                    }
                }
            }
            self.engine.handle_timeout(self.now);
        }
        if let Some(stream) = own.and_then(|own| streams.remove(&own)) {
            replies.extend(messages(&stream.written));
        }
        assert!(replies.len() <= 1, "{} answers to one query", replies.len());
        for reply in replies {
            assert_eq!(reply.get(..2), query.get(..2), "an answer under another id");
            assert!(reply.get(2).is_some_and(|flags| flags & 0x80 != 0), "a query as an answer");
        }
        assert!(
            self.engine.to_string().contains("0 dns queries in flight"),
            "a query that never ends:\n{}",
            self.engine
        );
    }

    fn host_ops(
        &mut self,
        query: &[u8],
        asked: &mut Option<(SocketId, Vec<u8>)>,
        replies: &mut Vec<Vec<u8>>,
        streams: &mut BTreeMap<SocketId, Stream>,
    ) {
        let unchanged = |payload: &[u8]| {
            assert_eq!(payload.get(2..), query.get(2..), "a query that was changed");
        };
        while let Some(op) = self.engine.poll_host() {
            match op {
                HostOp::Send { socket, payload, .. } if socket == self.local[0] => {
                    replies.push(payload);
                }
                HostOp::Send { socket, to, payload, .. } => {
                    assert_eq!(to, None, "a query from a socket that is not connected");
                    unchanged(&payload);
                    *asked = Some((socket, payload));
                }
                HostOp::Open { socket, kind: SocketKind::TcpConnect(_) } => {
                    streams.insert(socket, Stream { step: usize::MAX, ..Stream::default() });
                    self.engine.handle_host(socket, HostEvent::Connected, self.now);
                }
                HostOp::Open { .. } => {}
                HostOp::Relay(socket) => {
                    let Some(stream) = streams.get_mut(&socket) else { continue };
                    for _ in 0..3000 {
                        self.engine.relay(socket, stream, self.now);
                    }
                    // What went to a server is the query; a client gets answers.
                    if stream.step == usize::MAX && stream.written.len() > 2 {
                        unchanged(&stream.written[2..]);
                        *asked = Some((socket, stream.written[2..].to_vec()));
                    }
                }
                HostOp::Close { socket, .. } => {
                    if asked.as_ref().is_some_and(|(asked, _)| *asked == socket) {
                        streams.remove(&socket);
                    }
                }
            }
        }
    }
}

/// What [`bend`] makes an answer of that is as it should be.
const GOOD: u8 = 0xc0;

/// A frame with a query of the guest.
fn frame_of(query: &[u8]) -> Vec<u8> {
    let addresses = (IpAddr::from([10, 0, 2, 100]), IpAddr::from([10, 0, 2, 3]));
    let mut bytes = [&[0; 8], query].concat();
    let udp_len = u16::try_from(bytes.len()).unwrap();
    let mut udp = UdpPacket::new_unchecked(&mut bytes);
    udp.set_src_port(4000);
    udp.set_dst_port(53);
    udp.set_len(udp_len);
    packet::finish(addresses, IpProtocol::Udp, &mut bytes);
    let ip = packet::ip(addresses, IpProtocol::Udp, 64, None, &bytes).unwrap();
    packet::frame(None, 0x0800, &ip)
}

/// The query as an answer, bent; with records that may be kept; or anything at all.
fn bend(input: &mut Input<'_>, bits: u8, sent: &[u8]) -> Vec<u8> {
    let mut answer = if bits & 1 == 0 { sent.to_vec() } else { Vec::new() };
    if let Some(flags) = answer.get_mut(2) {
        *flags |= 0x80;
    }
    if bits & 0x40 != 0 && answer.len() > 12 {
        // An address of the name that was asked for.
        answer[7] = 1;
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        answer.extend_from_slice(&input.u32().to_be_bytes());
        answer.extend_from_slice(&[0, 4, 192, 0, 2, 9]);
    }
    for _ in 0..bits >> 1 & 3 {
        let at = usize::from(input.u8());
        if let Some(byte) = answer.get_mut(at) {
            *byte = input.u8();
        }
    }
    let tail = usize::from(input.u8()) & if bits & 0x80 == 0 { 0xff } else { 0 };
    answer.extend_from_slice(input.bytes(tail));
    answer
}

/// The messages of a stream.
fn messages(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        messages.push(rest.get(..length).expect("a whole message").to_vec());
        stream = &rest[length..];
    }
    messages
}
