//! What other hosts of an overlay send to this one, and what its containers send to them.
//!
//! The input is a list of actions: datagrams of hosts and of strangers, right but for what the input
//! bends; super-frames of a container; words of the path; other files; time. Whatever comes, a
//! container gets nothing under the name of this host's, the gateway's or another host's; whatever
//! goes is VXLAN with a right packet in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rnsnet::config::{Lease, Network, Overlay, OverlayHost, Sharing};
use rnsnet::engine::host::{Bounce, HostEvent, HostOp};
use rnsnet::engine::stats::Verdict;
use rnsnet::engine::{Engine, Instant, PortId};
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket};

use super::driver::{World, check_idle};
use super::input::Input;
use super::packet::{self, GATEWAY_MAC};

/// Actions of one input.
const MAX_ACTIONS: usize = 300;
const HERE: [u8; 4] = [192, 0, 2, 1];
/// The last digits of hosts with the last digits of what is there; the last is a stranger.
const OTHERS: [(u8, u8); 3] = [(2, 130), (9, 9), (77, 200)];
const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 42, 0];

/// Runs one input.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = Fleet::new(&mut input);
    for _ in 0..MAX_ACTIONS {
        if input.is_empty() {
            break;
        }
        world.act(&mut input);
        world.settle();
    }
    check_idle::<()>(&world.engine, &BTreeMap::new());
}

struct Fleet {
    engine: Engine,
    now: Instant,
    vnet: bool,
    /// Whom datagrams come from.
    from: u8,
    leases: Vec<Lease>,
}

fn hosts(fewer: bool) -> Vec<OverlayHost> {
    let host = |last, part: &str| OverlayHost {
        address: Ipv4Addr::new(192, 0, 2, last).into(),
        parts: vec![part.parse().unwrap()],
    };
    let mut hosts = vec![host(1, "10.0.2.64/26"), host(9, "10.0.2.9/32")];
    if !fewer {
        hosts.push(host(2, "10.0.2.128/26"));
    }
    hosts
}

impl Fleet {
    fn new(input: &mut Input<'_>) -> Self {
        let vnet = input.u8() & 1 == 0;
        let (vni, local, port) = (42, IpAddr::from(HERE), 4789);
        let overlay = Overlay { vni, local, port, hosts: hosts(false) };
        let sharing = Sharing::Shared;
        let network = Network { sharing, overlay: Some(overlay), ..Network::default() };
        let now = Instant::from_millis(1);
        let mut engine = Engine::new(network, [1, 2, 3, 4]);
        let lease = |last| Lease::new(Ipv4Addr::new(10, 0, 2, last), None);
        let leases = vec![lease(100), lease(101)];
        for lease in &leases {
            engine.add_port(*lease, vnet, now).expect("a lease that nobody else has");
        }
        let mut world = Self { engine, now, vnet, from: 0, leases };
        world.settle();
        world
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let underlay = self.engine.overlay_socket().unwrap();
        let bits = input.u8();
        self.from = OTHERS[usize::from(bits >> 4) % OTHERS.len()].0;
        match bits % 8 {
            0 => {
                let length = usize::from(input.u8()) * 2;
                let inner = input.bytes(length).to_vec();
                self.comes(input, &inner);
            }
            1..=3 => self.frame(input),
            4 => self.super_frame(input),
            5 => {
                let to = SocketAddr::new([192, 0, 2, input.pick(&OTHERS).0].into(), 4789);
                let mtu = u32::from(input.u16());
                let bounce = match input.u8() & 3 {
                    0 => Bounce::TooLong { mtu },
                    kind => Bounce::Icmp { by: to.ip(), kind: 3, code: 5 - kind, mtu },
                };
                let event = HostEvent::Bounced { to, bounce, payload: &[] };
                self.engine.handle_host(underlay, event, self.now);
            }
            6 => self.engine.set_overlay_hosts(&hosts(input.u8() & 1 == 0), self.now),
            _ => self.now += Duration::from_millis(input.pick(&[1, 999, 70_000, 301_000])),
        }
    }

    fn comes(&mut self, input: &mut Input<'_>, inner: &[u8]) {
        let bits = input.u8();
        let mut payload = [&HEADER[..], inner].concat();
        if bits & 0xf0 == 0xf0 {
            payload[usize::from(bits & 7)] ^= input.u8();
        }
        let from = SocketAddr::new([192, 0, 2, self.from].into(), 50_000);
        let underlay = self.engine.overlay_socket().unwrap();
        let event = HostEvent::Datagram { from, to: None, payload: &payload };
        self.engine.handle_host(underlay, event, self.now);
    }

    /// A frame of a machine elsewhere, several of which may follow each other.
    fn frame(&mut self, input: &mut Input<'_>) {
        let bits = input.u8();
        let mac = match bits & 7 {
            0 => GATEWAY_MAC,
            1 => self.leases[1].mac.0,
            last => [2, 0x42, 0, 0, 0, last],
        };
        let to = if bits & 8 == 0 { self.leases[0].mac.0 } else { [0xff; 6] };
        let last = if bits & 0x30 == 0 { input.u8() } else { input.pick(&OTHERS).1 };
        let source = Ipv4Addr::new(10, 0, 2, last);
        if bits & 0x40 == 0 {
            let body =
                [&[0, 1, 8, 0, 6, 4, 0, 1 + (bits >> 7)][..], &mac, &source.octets(), &[0; 6]];
            let target = Ipv4Addr::new(10, 0, 2, input.u8()).octets();
            let frame = [&to, &mac, &[8, 6][..], &body.concat(), &target].concat();
            return self.comes(input, &frame);
        }
        let addresses = (IpAddr::V4(source), IpAddr::V4(self.leases[0].v4));
        let size = usize::from(input.u8());
        for number in 0..=input.u8() % 4 {
            let begins = (u32::from(number) * u32::try_from(size).unwrap()).to_be_bytes();
            let mut segment = [&[0, 80, 1, 0][..], &begins, &[0, 0, 0, 1, 0x50]].concat();
            segment.extend([input.pick(&[16, 16, 24, 17, 2]), 1, 0, 0, 0, 0, 0]);
            segment.resize(20 + size, number);
            packet::finish(addresses, IpProtocol::Tcp, &mut segment);
            if let Some(packet) = packet::ip(addresses, IpProtocol::Tcp, 64, None, &segment) {
                let frame = [&to, &mac, &[8, 0][..], &packet].concat();
                self.comes(input, &frame);
            }
        }
    }

    /// A container's segments for another host, uncut.
    fn super_frame(&mut self, input: &mut Input<'_>) {
        let to = Ipv4Addr::new(10, 0, 2, input.pick(&OTHERS).1);
        let addresses = (IpAddr::V4(self.leases[0].v4), IpAddr::V4(to));
        let mut segment = vec![0; 20 + usize::from(input.u16() % 9000)];
        segment[12] = input.pick(&[0x50, 0x50, 0x60, 0xf0, 0x10]);
        segment[13] = input.u8();
        packet::finish(addresses, IpProtocol::Tcp, &mut segment);
        let Some(packet) = packet::ip(addresses, IpProtocol::Tcp, 64, None, &segment) else {
            return;
        };
        let offload = match packet::several(&packet, input.u16() % 3000) {
            Some(header) if self.vnet => header.to_vec(),
            _ if self.vnet => vec![0; packet::VNET],
            _ => Vec::new(),
        };
        let mac = self.leases[0].mac.0;
        let mut frame = [&offload, &[2, 0x42, 0, 0, 0, 7][..], &mac, &[8, 0], &packet].concat();
        let verdict = self.engine.handle_frame(PortId(0), &mut frame, self.now);
        assert!(!matches!(verdict, Verdict::Port(_) | Verdict::Ports), "{verdict:?}");
    }
}

impl World for Fleet {
    fn engine(&mut self) -> (&mut Engine, Instant) {
        (&mut self.engine, self.now)
    }

    fn serve(&mut self, op: HostOp) {
        let HostOp::Send { to, segment, payload, .. } = op else {
            panic!("{op:?} of an overlay");
        };
        let IpAddr::V4(to) = to.unwrap().ip() else { panic!("another family") };
        assert!([2, 9].contains(&to.octets()[3]) && to.octets()[..3] == HERE[..3], "{to}");
        let length = segment.map_or(payload.len(), usize::from);
        for datagram in payload.chunks(length) {
            assert_eq!(datagram[..8], HEADER);
            if datagram[20..22] == [8, 0] {
                let packet = Ipv4Packet::new_checked(&datagram[22..]).expect("a whole packet");
                assert!(packet.verify_checksum(), "IPv4 checksum");
                assert_eq!(usize::from(packet.total_len()), datagram.len() - 22);
                let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
                if segment.is_some() {
                    let tcp = TcpPacket::new_checked(packet.payload()).expect("a whole header");
                    assert!(tcp.verify_checksum(&source, &destination), "TCP checksum");
                }
            }
        }
        self.engine.recycle(payload);
    }

    fn frames(&mut self) -> bool {
        let (vnet, from, leases) = (self.vnet, self.from, self.leases.clone());
        let mut any = false;
        while self.engine.poll_frame(self.now, |port, frame, _| {
            let frame = &frame[if vnet { packet::VNET } else { 0 }..];
            let source = &frame[6..12];
            if source == GATEWAY_MAC {
                return;
            }
            // What one container is told of another that has come.
            if leases.iter().any(|lease| lease.mac.0 == source && from == 0) {
                return;
            }
            assert!(leases.iter().all(|lease| lease.mac.0 != source), "a container's here");
            assert!(port.0 < leases.len());
            let at = if frame[12..14] == [8, 6] { 28 } else { 26 };
            let ip = &frame[at..at + 4];
            let probe = frame[12..14] == [8, 6] && ip == [0; 4];
            let own = match from {
                2 => ip[..3] == [10, 0, 2] && ip[3] & 0xc0 == 0x80,
                9 => ip == [10, 0, 2, 9],
                _ => false,
            };
            assert!(own || probe, "{ip:?} from host {from}");
        }) {
            any = true;
        }
        any
    }
}
