//! Several containers on one network, each as hostile as the others, which come and go.
//!
//! The input is a list of actions: frames of a container, right but for what the input bends,
//! containers that come and go, clients of a port that leads to several, events of host sockets,
//! time. Whatever a container sends, no other gets a frame under a name that is not the sender's;
//! an isolated one gets none; what is gone gets none and leaves nothing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rnsnet::config::{Lease, Name, Network, Protocol, Rate, Sharing};
use rnsnet::engine::dns::{PortNames, Resolvers};
use rnsnet::engine::host::{HostEvent, HostOp, HostStream, SocketId, SocketKind};
use rnsnet::engine::stats::Verdict;
use rnsnet::engine::{Destination, Engine, Instant, PortId, nat};
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, TcpPacket, TcpSeqNumber, UdpPacket};

use super::driver::{MAX_STEPS, World, check_idle, socket};
use super::input::Input;
use super::packet::{self, GATEWAY_MAC};

/// Actions of one input.
const MAX_ACTIONS: usize = 300;
/// Containers that there are at most.
const CONTAINERS: u8 = 4;

const OUTSIDE: &str = "192.0.2.9";
const RESOLVER: &str = "198.51.100.53:53";
const BROADCAST: [u8; 6] = [0xff; 6];

/// Runs one input.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut lan = Lan::new(&mut input);
    for _ in 0..MAX_ACTIONS {
        if input.is_empty() {
            break;
        }
        lan.act(&mut input);
        lan.settle();
    }
    lan.end();
}

struct Lan {
    engine: Engine,
    network: Network,
    now: Instant,
    vnet: bool,
    /// By the number of the container.
    ports: BTreeMap<u8, PortId>,
    listeners: [SocketId; 2],
    sockets: BTreeMap<SocketId, SocketKind>,
    /// The last sequence numbers that each container was sent: to whom, ours, its own.
    heard: BTreeMap<PortId, (SocketAddr, SocketAddr, i32, i32)>,
}

struct Stream(usize);

impl HostStream for Stream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.0);
        self.0 -= length;
        buffer[..length].fill(b'h');
        if length == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(length) }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn finish(&mut self) {}
}

/// What a container has by its number.
fn lease(number: u8) -> Lease {
    let v6 = Ipv6Addr::new(0xfd72, 0x6e73, 0x6e65, 0, 0, 0, 0, 0x100 + u16::from(number));
    Lease::new(Ipv4Addr::new(10, 0, 2, 100 + number), Some(v6))
}

fn link_local(lease: &Lease) -> Ipv6Addr {
    let [a, b, c, d, e, f] = lease.mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

impl Lan {
    fn new(input: &mut Input<'_>) -> Self {
        let bits = input.u8();
        let sharing = if bits & 1 == 0 { Sharing::Shared } else { Sharing::Isolated };
        // A frame in two milliseconds.
        let rate = if bits & 8 == 0 { Rate::UNLIMITED } else { "256kbit".parse().unwrap() };
        let network = Network { sharing, internal: bits & 4 != 0, rate, ..Network::default() };
        let now = Instant::from_millis(1);
        let mut engine = Engine::new(network.clone(), [1, 2, 3, 4]);
        engine.set_resolvers(Resolvers::new(vec![RESOLVER.parse().unwrap()]), now);
        let listeners = [
            engine.publish(Protocol::Tcp, Vec::new(), 80),
            engine.publish(Protocol::Udp, Vec::new(), 53),
        ];
        let mut lan = Self {
            engine,
            network,
            now,
            vnet: bits & 2 == 0,
            ports: BTreeMap::new(),
            listeners,
            sockets: BTreeMap::new(),
            heard: BTreeMap::new(),
        };
        for number in 0..3 {
            lan.come_or_go(number);
        }
        lan.settle();
        lan
    }

    fn come_or_go(&mut self, number: u8) {
        if let Some(port) = self.ports.remove(&number) {
            self.engine.remove_port(port, self.now);
            self.heard.remove(&port);
            assert!(self.engine.ports().all(|(id, ..)| id != port), "{port:?} is still there");
        } else {
            let added = self.engine.add_port(lease(number), self.vnet, self.now);
            let port = added.expect("a lease that nobody else has");
            assert!(self.ports.values().all(|other| *other != port), "{port:?} is taken");
            let name: Name = format!("web{number}").parse().unwrap();
            let lease = lease(number);
            let addresses = vec![lease.v4.into(), lease.v6.unwrap().into()];
            let names = PortNames { addresses, name: Some(name), ..PortNames::default() };
            self.engine.set_names(port, names, self.now);
            self.ports.insert(number, port);
        }
        let to: Vec<_> =
            self.ports.values().map(|port| Destination { port: *port, address: None }).collect();
        for listener in self.listeners {
            self.engine.retarget(listener, to.clone());
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let number = input.u8() % CONTAINERS;
        match input.u8() % 16 {
            0 => self.come_or_go(number),
            1 => self.raw(input, number),
            2 | 3 => self.arp(input, number),
            4 | 5 => self.neighbour(input, number),
            6 => self.answer_segment(input, number),
            7..=11 => self.packet(input, number),
            12 => self.client(input),
            13 => self.host_event(input),
            14 => self.relay(input),
            _ => {
                self.now +=
                    Duration::from_millis(input.pick(&[1, 50, 999, 5000, 70_000, 9_000_000]))
            }
        }
    }

    /// A container's own addresses, or another's where the input says so.
    fn of(&self, input: &mut Input<'_>, number: u8) -> Lease {
        let bits = input.u8();
        lease(if bits < 0xc0 { number } else { bits % CONTAINERS })
    }

    fn give(&mut self, number: u8, destination: [u8; 6], source: [u8; 6], kind: u16, body: &[u8]) {
        let Some(port) = self.ports.get(&number).copied() else {
            return;
        };
        let offload = if self.vnet { &[0; packet::VNET][..] } else { &[] };
        let mut frame = [offload, &destination, &source, &kind.to_be_bytes(), body].concat();
        self.give_frame(number, port, &mut frame);
    }

    fn give_frame(&mut self, number: u8, port: PortId, frame: &mut [u8]) {
        let verdict = self.engine.handle_frame(port, frame, self.now);
        let receivers: Vec<PortId> = match verdict {
            Verdict::Port(to) => vec![to],
            Verdict::Ports => self.engine.receivers().to_vec(),
            _ => return,
        };
        assert_eq!(self.network.sharing, Sharing::Shared, "{verdict:?} of an isolated container");
        for to in receivers {
            assert!(to != port && self.ports.values().any(|id| *id == to), "a frame for {to:?}");
        }
        let ethernet = &frame[if self.vnet { packet::VNET } else { 0 }..];
        check_passed(&lease(number), ethernet);
    }

    fn raw(&mut self, input: &mut Input<'_>, number: u8) {
        let Some(port) = self.ports.get(&number).copied() else {
            return;
        };
        let length = usize::from(input.u8()) * 2;
        let mut frame = input.bytes(length).to_vec();
        self.give_frame(number, port, &mut frame);
    }

    fn arp(&mut self, input: &mut Input<'_>, number: u8) {
        let (frame, sender) = (self.of(input, number), self.of(input, number));
        let bits = input.u8();
        let other = lease(bits >> 2 & 3);
        let targets =
            [other.v4, sender.v4, Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 77)];
        let sender_ip = if bits & 0x40 == 0 { sender.v4 } else { Ipv4Addr::UNSPECIFIED };
        let body = [
            &[0, 1, 8, 0, 6, 4, 0, 1 + (bits & 1)][..],
            &sender.mac.0,
            &sender_ip.octets(),
            &other.mac.0,
            &input.pick(&targets).octets(),
        ]
        .concat();
        let to = if bits & 2 == 0 { BROADCAST } else { other.mac.0 };
        self.give(number, to, frame.mac.0, 0x0806, &body);
    }

    fn neighbour(&mut self, input: &mut Input<'_>, number: u8) {
        let (frame, sender, told) =
            (self.of(input, number), self.of(input, number), self.of(input, number));
        let bits = input.u8();
        let kind = input.pick(&[133, 134, 135, 136, 137, 131, 132, 143, 128]);
        let mut body = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        let target = if bits & 1 == 0 { told.v6.unwrap() } else { link_local(&told) };
        body.extend(target.octets());
        body.extend([1 + (bits >> 1 & 1), 1]);
        body.extend(self.of(input, number).mac.0);
        body.extend(input.bytes(usize::from(bits >> 5) * 8));
        let source = match bits >> 2 & 3 {
            0 => sender.v6.unwrap(),
            1 => link_local(&sender),
            2 => Ipv6Addr::UNSPECIFIED,
            _ => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        };
        let group: Ipv6Addr =
            input.pick(&["ff02::1", "ff02::2", "ff02::16", "ff0e::7"]).parse().unwrap();
        let addresses = (IpAddr::V6(source), IpAddr::V6(group));
        packet::finish(addresses, IpProtocol::Icmpv6, &mut body);
        let hops = if bits & 0x10 == 0 { 255 } else { 64 };
        if let Some(bytes) = packet::ip(addresses, IpProtocol::Icmpv6, hops, None, &body) {
            self.give(number, [0x33, 0x33, 0, 0, 0, 1], frame.mac.0, 0x86dd, &bytes);
        }
    }

    /// TCP, UDP and echo to another container, to the gateway, to the outside, to everybody.
    fn packet(&mut self, input: &mut Input<'_>, number: u8) {
        let (frame, sender) = (self.of(input, number), self.of(input, number));
        let bits = input.u8();
        let other = lease(bits & 3);
        let (mac, to): ([u8; 6], IpAddr) = match bits >> 2 & 7 {
            0 => (other.mac.0, other.v4.into()),
            1 => (other.mac.0, other.v6.unwrap().into()),
            2 => (GATEWAY_MAC, OUTSIDE.parse().unwrap()),
            3 => (GATEWAY_MAC, "2001:db8::9".parse().unwrap()),
            4 => (GATEWAY_MAC, "10.0.2.3".parse().unwrap()),
            5 => (BROADCAST, "10.0.2.255".parse().unwrap()),
            6 => ([1, 0, 0x5e, 1, 2, 3], "239.1.2.3".parse().unwrap()),
            // What is another's, by way of the gateway.
            _ => (GATEWAY_MAC, other.v4.into()),
        };
        let from = if to.is_ipv4() { sender.v4.into() } else { sender.v6.unwrap().into() };
        let port = input.pick(&[53, 80, 67, 68, 546, 443]);
        let (protocol, mut payload) = match bits >> 5 & 3 {
            0 => (IpProtocol::Tcp, syn(40_000 + u16::from(bits & 3), port, input.u32())),
            1 | 2 => {
                let length = usize::from(input.u8() >> 2);
                let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x04web1\0\0\x01\0\x01";
                let body = if bits & 0x80 == 0 { question } else { input.bytes(length) };
                let mut bytes = [&[0; 8], body].concat();
                let length = bytes.len() as u16;
                let mut udp = UdpPacket::new_unchecked(&mut bytes);
                udp.set_src_port(40_000 + u16::from(bits & 3));
                udp.set_dst_port(port);
                udp.set_len(length);
                (IpProtocol::Udp, bytes)
            }
            _ => (
                if to.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 },
                vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, bits, 0, 1],
            ),
        };
        packet::finish((from, to), protocol, &mut payload);
        let fragment = (bits & 0x80 != 0 && input.u8() & 7 == 0).then(|| {
            (u32::from(input.u8() & 3), usize::from(input.u8() & 1) * 8, input.u8() & 1 == 1)
        });
        if let Some(bytes) = packet::ip((from, to), protocol, 64, fragment, &payload) {
            let kind = if to.is_ipv4() { 0x0800 } else { 0x86dd };
            self.give(number, mac, frame.mac.0, kind, &bytes);
        }
    }

    /// A segment where a container was spoken to, by it or by another in its name.
    fn answer_segment(&mut self, input: &mut Input<'_>, number: u8) {
        let whose = lease(if input.u8() < 0xc0 { number } else { input.u8() % CONTAINERS });
        let Some(port) = self.ports.get(&number) else { return };
        let Some((guest, host, next, ack)) = self.heard.get(port).copied() else { return };
        let bits = input.u8();
        let length = if bits & 0x10 == 0 { 0 } else { usize::from(input.u8()) };
        let mut bytes = vec![0; 20 + length];
        let mut tcp = TcpPacket::new_unchecked(&mut bytes);
        tcp.set_src_port(guest.port());
        tcp.set_dst_port(host.port());
        tcp.set_seq_number(TcpSeqNumber(ack));
        tcp.set_ack_number(TcpSeqNumber(next));
        tcp.set_header_len(20);
        tcp.set_window_len(64_000);
        tcp.set_ack(bits & 1 == 0);
        tcp.set_syn(bits & 2 != 0);
        tcp.set_fin(bits & 4 != 0);
        tcp.set_rst(bits & 8 != 0);
        let addresses = (guest.ip(), host.ip());
        packet::finish(addresses, IpProtocol::Tcp, &mut bytes);
        if let Some(bytes) = packet::ip(addresses, IpProtocol::Tcp, 64, None, &bytes) {
            let kind = if guest.is_ipv4() { 0x0800 } else { 0x86dd };
            self.give(number, GATEWAY_MAC, whose.mac.0, kind, &bytes);
        }
    }

    fn client(&mut self, input: &mut Input<'_>) {
        let bits = input.u8();
        let from = ["192.0.2.77", "127.0.0.1", "2001:db8::77", "10.0.2.101"];
        let from = SocketAddr::new(from[usize::from(bits & 3)].parse().unwrap(), u16::from(bits));
        let [tcp, udp] = self.listeners;
        if bits & 4 == 0 {
            if let Some(id) = self.engine.accept(tcp, from, self.now) {
                let kind = SocketKind::TcpConnect(from);
                assert!(self.sockets.insert(id, kind).is_none(), "{id:?} is taken");
            }
        } else {
            let event = HostEvent::Datagram { from, to: None, payload: input.bytes(9) };
            self.engine.handle_host(udp, event, self.now);
        }
    }

    fn host_event(&mut self, input: &mut Input<'_>) {
        let Some((id, kind)) = socket(&self.sockets, input) else { return };
        let bits = input.u8();
        let event = match kind {
            _ if bits & 7 == 7 => HostEvent::Failed(ErrorKind::ConnectionRefused),
            SocketKind::TcpConnect(_) => HostEvent::Connected,
            SocketKind::UdpConnect(from) => {
                HostEvent::Datagram { from, to: None, payload: input.bytes(40) }
            }
            _ => {
                let from = SocketAddr::new(OUTSIDE.parse().unwrap(), input.pick(&[80, 53, 443]));
                HostEvent::Datagram { from, to: None, payload: input.bytes(40) }
            }
        };
        self.engine.handle_host(id, event, self.now);
    }

    fn relay(&mut self, input: &mut Input<'_>) {
        if let Some((id, SocketKind::TcpConnect(_))) = socket(&self.sockets, input) {
            let mut stream = Stream(usize::from(input.u8()) * 100);
            self.engine.relay(id, &mut stream, self.now);
        }
    }

    fn check_destination(&self, to: SocketAddr) {
        assert!(!nat::denied(&self.network, to.ip()), "a way to {to}");
    }

    /// Who leaves takes everything along.
    fn end(&mut self) {
        for number in self.ports.keys().copied().collect::<Vec<_>>() {
            self.come_or_go(number);
        }
        self.settle();
        check_idle(&self.engine, &self.sockets);
    }
}

impl World for Lan {
    fn engine(&mut self) -> (&mut Engine, Instant) {
        (&mut self.engine, self.now)
    }

    fn serve(&mut self, op: HostOp) {
        match op {
            HostOp::Open { socket, kind } => {
                assert!(!self.network.internal, "{kind:?} on a network without a way out");
                match kind {
                    SocketKind::TcpConnect(to) => self.check_destination(to),
                    SocketKind::UdpConnect(to) => assert_eq!(to, RESOLVER.parse().unwrap()),
                    _ => {}
                }
                assert!(self.sockets.insert(socket, kind).is_none(), "{socket:?} is taken");
            }
            HostOp::Send { socket, to, payload, .. } => {
                let listens = self.listeners.contains(&socket);
                assert!(listens || self.sockets.contains_key(&socket), "{socket:?} is closed");
                if let Some(to) = to.filter(|_| !listens) {
                    self.check_destination(to);
                }
                self.engine.recycle(payload);
            }
            HostOp::Relay(socket) => {
                assert!(self.sockets.contains_key(&socket), "{socket:?} is not open");
                self.engine.relay(socket, &mut Stream(0), self.now);
            }
            HostOp::Close { socket, .. } => {
                if self.sockets.remove(&socket).is_none() {
                    assert!(!self.listeners.contains(&socket), "a listener was closed");
                }
            }
        }
    }

    fn frames(&mut self) -> bool {
        let mut sent = Vec::new();
        let mut addressed = Vec::new();
        let vnet = self.vnet;
        let mut steps = 0;
        while self.engine.poll_frame(self.now, |port, frame, passed_on| {
            if !passed_on {
                sent.push((port, packet::check(vnet, 1500, frame)));
            }
            let ethernet = &frame[if vnet { packet::VNET } else { 0 }..];
            let to: Option<IpAddr> = match ethernet[12..14] {
                [0x08, 0x00] => Some(<[u8; 4]>::try_from(&ethernet[30..34]).unwrap().into()),
                [0x86, 0xdd] => Some(<[u8; 16]>::try_from(&ethernet[38..54]).unwrap().into()),
                _ => None,
            };
            // What another container has sent may be for its broadcast address, or for none at all.
            addressed.push((port, ethernet[..6].to_vec(), to.filter(|_| !passed_on)));
        }) {
            steps += 1;
            assert!(steps < MAX_STEPS, "frames without end");
        }
        for (port, mac, to) in addressed {
            let owner = self.ports.iter().find(|(_, id)| **id == port);
            let of = lease(*owner.unwrap_or_else(|| panic!("{port:?} is gone")).0);
            assert!(mac[0] & 1 == 1 || mac == of.mac.0, "a frame for another at {port:?}");
            let own = |to: IpAddr| match to {
                IpAddr::V4(to) => to == of.v4 || to.is_broadcast() || to.is_multicast(),
                IpAddr::V6(to) => Some(to) == of.v6 || to == link_local(&of) || to.is_multicast(),
            };
            assert!(to.is_none_or(own), "a packet for {to:?} at {port:?}");
        }
        for (port, segment) in sent {
            let owner = self.ports.iter().find(|(_, id)| **id == port);
            let (number, _) = owner.unwrap_or_else(|| panic!("a frame for {port:?}, who is gone"));
            if let Some(segment) = segment {
                let of = lease(*number);
                let own = [of.v4.into(), of.v6.unwrap().into(), link_local(&of).into()];
                assert!(own.contains(&segment.guest.ip()), "{} at {number}", segment.guest);
                let heard = (segment.guest, segment.host, segment.next, segment.ack);
                self.heard.insert(port, heard);
            }
        }
        steps > 0
    }
}

fn syn(from: u16, to: u16, seq: u32) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    let mut tcp = TcpPacket::new_unchecked(&mut bytes);
    tcp.set_src_port(from);
    tcp.set_dst_port(to);
    tcp.set_seq_number(TcpSeqNumber(seq as i32));
    tcp.set_header_len(20);
    tcp.set_syn(true);
    tcp.set_window_len(64_000);
    bytes
}

/// A frame that others get says of its sender only what is true, in every layer.
fn check_passed(of: &Lease, ethernet: &[u8]) {
    assert_eq!(ethernet[6..12], of.mac.0, "another's hardware address");
    let body = &ethernet[14..];
    match ethernet[12..14] {
        [0x08, 0x06] => {
            assert_eq!(body[8..14], of.mac.0, "another's hardware address in ARP");
            let sender = Ipv4Addr::from([body[14], body[15], body[16], body[17]]);
            assert!(sender == of.v4 || sender.is_unspecified(), "{sender} in ARP");
        }
        [0x08, 0x00] => {
            let source = Ipv4Addr::from([body[12], body[13], body[14], body[15]]);
            assert_eq!(source, of.v4, "another's IPv4 address");
            let header = usize::from(body[0] & 15) * 4;
            let first = body[6] & 0x1f == 0 && body[7] == 0;
            if first && body[9] == 17 {
                assert_ne!(body[header + 2..header + 4], [0, 68], "a DHCP server's answer");
            }
        }
        [0x86, 0xdd] => {
            let source: [u8; 16] = body[8..24].try_into().unwrap();
            let source = Ipv6Addr::from(source);
            let own = [of.v6.unwrap(), link_local(of), Ipv6Addr::UNSPECIFIED];
            assert!(own.contains(&source), "another's IPv6 address: {source}");
            if body[6] == 58 {
                let kind = body[40];
                assert!(kind != 134 && kind != 137, "a router's message");
                if kind == 136 {
                    let target: [u8; 16] = body[48..64].try_into().unwrap();
                    assert!(own[..2].contains(&Ipv6Addr::from(target)), "another's address told");
                }
                if kind == 136 || kind == 135 {
                    for option in body[64..].chunks(8).filter(|option| option.len() == 8) {
                        // Only whole options of one unit are looked at here.
                        if option[1] != 1 {
                            break;
                        }
                        let own = !matches!(option[0], 1 | 2) || option[2..] == of.mac.0;
                        assert!(own, "another's hardware address told");
                    }
                }
            }
        }
        _ => panic!("a frame of another kind went through"),
    }
}
