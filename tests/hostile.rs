//! The engine's bounds against a guest, and peers, that try to pass them.
//!
//! What is full gives way in the way that is documented, what is served goes on being served, and
//! nothing grows. The attacks were all run against the program first; here they are small.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(unreachable_pub)]

use std::net::{IpAddr, SocketAddr};

use rnsnet::config::{Lease, MacAddress, Network, Protocol};
use rnsnet::engine::dns::Resolvers;
use rnsnet::engine::host::{HostOp, SocketId, SocketKind};
use rnsnet::engine::stats::DropReason;
use rnsnet::engine::{Destination, Engine, Instant, PortId};
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber, UdpPacket};

#[allow(dead_code)]
#[path = "../fuzz/harness/packet.rs"]
mod packet;

const NOW: Instant = Instant::from_micros_const(1_000_000);
const GUEST: [u8; 4] = [10, 0, 2, 100];
const DNS: [u8; 4] = [10, 0, 2, 3];
const LAN: [u8; 4] = [192, 0, 2, 9];

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

struct Net {
    engine: Engine,
    web: SocketId,
}

/// A TCP segment towards the guest: its ports, flags and sequence number.
#[derive(Debug, PartialEq, Eq)]
struct Seen(u16, u16, u8, i32);

impl Net {
    fn new() -> Self {
        Self::with(Network::default())
    }

    fn with(network: Network) -> Self {
        let mut engine = Engine::new(network, [1, 2, 3, 4]);
        let lease = Lease { mac: MacAddress(packet::GUEST_MAC), ..Lease::default() };
        let port = engine.add_port(lease, false, NOW).unwrap();
        engine.set_resolvers(Resolvers::new(vec![SocketAddr::from((LAN, 53))]), NOW);
        let web = engine.publish(Protocol::Tcp, vec![Destination { port, address: None }], 80);
        Self { engine, web }
    }

    fn give(&mut self, to: [u8; 4], protocol: IpProtocol, mut payload: Vec<u8>) {
        let addresses = (IpAddr::from(GUEST), IpAddr::from(to));
        packet::finish(addresses, protocol, &mut payload);
        let ip = packet::ip(addresses, protocol, 64, None, &payload).unwrap();
        let mut frame = packet::frame(None, 0x0800, &ip);
        self.engine.handle_frame(PortId(0), &mut frame, NOW);
    }

    fn segment(&mut self, ports: (u16, u16), flags: u8, seq: i32, ack: i32, payload: usize) {
        let mut bytes = vec![0; 20 + payload];
        let mut tcp = TcpPacket::new_unchecked(&mut bytes);
        tcp.set_src_port(ports.0);
        tcp.set_dst_port(ports.1);
        tcp.set_seq_number(TcpSeqNumber(seq));
        tcp.set_ack_number(TcpSeqNumber(ack));
        tcp.set_header_len(20);
        tcp.set_syn(flags & SYN != 0);
        tcp.set_ack(flags & ACK != 0);
        tcp.set_rst(flags & RST != 0);
        tcp.set_window_len(64_000);
        self.give(LAN, IpProtocol::Tcp, bytes);
    }

    fn query(&mut self, port: u16, padding: usize) {
        let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
        let mut bytes = [&[0; 8], &question[..], &vec![0; padding]].concat();
        let length = bytes.len() as u16;
        let mut udp = UdpPacket::new_unchecked(&mut bytes);
        udp.set_src_port(port);
        udp.set_dst_port(53);
        udp.set_len(length);
        self.give(DNS, IpProtocol::Udp, bytes);
    }

    /// What the host was asked to open, in order.
    fn opened(&mut self) -> Vec<SocketKind> {
        let mut opened = Vec::new();
        while let Some(op) = self.engine.poll_host() {
            if let HostOp::Open { kind, .. } = op {
                opened.push(kind);
            }
        }
        opened
    }

    /// The frames for the guest, all of them checked.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while self.engine.poll_frame(NOW, |_, frame, _| {
            packet::check(false, 1500, frame);
            frames.push(frame.to_vec());
        }) {}
        frames
    }

    fn segments(&mut self) -> Vec<Seen> {
        let seen = |frame: &Vec<u8>| {
            let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
            let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
            let flags = ip.payload()[13];
            Seen(tcp.src_port(), tcp.dst_port(), flags, tcp.seq_number().0)
        };
        self.frames().iter().map(seen).collect()
    }

    fn client(&mut self, number: usize) -> Option<SocketId> {
        let client = SocketAddr::from(([198, 51, 100, (number >> 15) as u8], 1 + number as u16));
        self.engine.accept(self.web, client, NOW)
    }
}

#[test]
fn echoes_that_nobody_takes_fill_a_bounded_queue() {
    let mut request = vec![0; 60_000];
    request[0] = 8;
    for (limit, room) in [("4", 4 << 20), ("1", 1 << 20)] {
        let mut network = Network::default();
        network.limits.set("waiting", limit).unwrap();
        let mut net = Net::with(network);
        for _ in 0..500 {
            net.give([10, 0, 2, 2], IpProtocol::Icmp, request.clone());
        }
        let lost = net.engine.stats().dropped(DropReason::QueueFull);
        assert!(lost > 400, "{lost} answers");
        assert_eq!(net.engine.stats().limits_met().collect::<Vec<_>>(), [("waiting", lost)]);
        let waiting: usize = net.frames().iter().map(Vec::len).sum();
        assert!((room - 70_000..room + 70_000).contains(&waiting), "{waiting} bytes waited");
        // There is room again.
        net.give([10, 0, 2, 2], IpProtocol::Icmp, request.clone());
        assert_eq!(net.frames().len(), 41);
    }
}

#[test]
fn clients_that_a_guest_lets_wait_do_not_keep_it_from_connecting() {
    let mut net = Net::new();
    for number in 0..20_000 {
        assert!(net.client(number).is_some(), "client {number} was turned away");
        net.opened();
        net.frames();
    }
    assert!(net.engine.to_string().starts_with("flows: 4096 tcp,"), "{}", net.engine);
    net.segment((4000, 443), SYN, 7, 0, 0);
    assert_eq!(net.opened(), [SocketKind::TcpConnect(SocketAddr::from((LAN, 443)))]);
}

#[test]
fn a_guest_in_time_wait_is_called_again_at_once() {
    let mut net = Net::new();
    net.client(999).unwrap();
    let &[Seen(1000, 80, SYN, first)] = &net.segments()[..] else { panic!("no SYN") };
    // As Linux answers a SYN whose sequence number is before what it last saw.
    let mut bytes = vec![0; 20];
    let mut tcp = TcpPacket::new_unchecked(&mut bytes);
    tcp.set_src_port(80);
    tcp.set_dst_port(1000);
    tcp.set_seq_number(TcpSeqNumber(5000));
    tcp.set_ack_number(TcpSeqNumber(first.wrapping_add(99_999)));
    tcp.set_header_len(20);
    tcp.set_ack(true);
    net.give([198, 51, 100, 0], IpProtocol::Tcp, bytes);
    let segments = net.segments();
    let [Seen(1000, 80, RST, ended), Seen(1000, 80, SYN, second)] = segments[..] else {
        panic!("a reset and a SYN were to come: {segments:?}");
    };
    assert_eq!(ended, first.wrapping_add(99_999), "the reset must end the old connection");
    assert_ne!(second, first);
}

#[test]
fn a_syn_that_carries_a_load_is_not_kept() {
    let mut net = Net::new();
    net.segment((4000, 80), SYN, 7, 0, 1000);
    assert_eq!(net.opened(), []);
    net.segment((4000, 80), SYN, 7, 0, 0);
    assert_eq!(net.opened().len(), 1);
}

#[test]
fn a_flood_of_queries_turns_the_oldest_away() {
    let mut net = Net::new();
    for port in 1..=1024 {
        net.query(port, 0);
    }
    assert_eq!(net.opened().len(), 1024);
    assert!(net.frames().is_empty(), "an answer before there is need");
    net.query(5000, 0);
    assert_eq!(net.opened(), [SocketKind::UdpConnect(SocketAddr::from((LAN, 53)))]);
    let answers = net.frames();
    let [answer] = &answers[..] else { panic!("{} answers", answers.len()) };
    let udp = UdpPacket::new_checked(&answer[34..]).unwrap();
    assert_eq!((udp.dst_port(), udp.payload()[3] & 15), (1, 2), "SERVFAIL for the oldest");
    // A query that would be dear to keep is not taken at all.
    net.query(6000, 5000);
    assert_eq!(net.opened(), []);
}
