//! What the engine does for one packet of each kind, as works that can be repeated: the guards
//! without a clock count allocations (`tests/costs.rs`) and instructions (`ci/instructions`) of them.
//!
//! A work is made with everything warm: flows stand, rings have grown, buffers are there to be used
//! again. The guest is played by frames that were written once and get their numbers anew; the
//! host's sockets copy nothing. So what is counted is the engine's own, smoltcp included.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rnsnet::config::{Lease, MacAddress, Network, Protocol, Sharing};
use rnsnet::engine::host::{HostEvent, HostOp, HostStream, SocketId, SocketKind};
use rnsnet::engine::stats::Verdict;
use rnsnet::engine::{Destination, Engine, Instant, PortId};
use smoltcp::time::Duration;

use crate::packet::{self, GUEST_MAC, VNET};

/// One round of a work.
pub type Round = Box<dyn FnMut()>;
type Make = fn() -> Round;

/// Every work, with how it is made.
pub const WORKS: [(&str, Make); 21] = [
    ("tcp, guest to host, a segment", || tcp_up(false, SEGMENT, 0)),
    ("tcp, guest to host, a segment, IPv6", || tcp_up(true, SEGMENT, 0)),
    ("tcp, guest to host, a segment, 10,000 idle flows", || tcp_up(false, SEGMENT, CROWD)),
    ("tcp, guest to host, 64 KiB", || tcp_up(false, SUPER, 0)),
    ("tcp, guest to host, 64 KiB, IPv6", || tcp_up(true, SUPER, 0)),
    ("tcp, host to guest, 64 KiB", || tcp_down(false, SUPER, 0)),
    ("tcp, host to guest, 64 KiB, IPv6", || tcp_down(true, SUPER, 0)),
    ("tcp, host to guest, 64 bytes", || tcp_down(false, 64, 0)),
    ("tcp, host to guest, 64 bytes, 10,000 idle flows", || tcp_down(false, 64, CROWD)),
    ("tcp, an acknowledgement", || tcp_ack(false)),
    ("tcp, an acknowledgement, IPv6", || tcp_ack(true)),
    ("udp, guest to host, 1400 bytes", || udp_up(false, 1)),
    ("udp, guest to host, 1400 bytes, IPv6", || udp_up(true, 1)),
    ("udp, guest to host, 32 of 1400 bytes", || udp_up(false, 32)),
    ("udp, host to guest, 1400 bytes", || udp_down(false, 1)),
    ("udp, host to guest, 1400 bytes, IPv6", || udp_down(true, 1)),
    ("udp, host to guest, 32 of 1400 bytes", || udp_down(false, 32)),
    ("echo request and reply", echo),
    ("a frame from container to container", switch),
    ("tcp, connect and close, guest to host", connect),
    ("tcp, connect and close, to a published port", accept),
];

/// One full segment of a link of 1500 bytes, and as many as make a super-frame.
const SEGMENT: usize = 1460;
const SUPER: usize = 44 * SEGMENT;
/// Flows that are open and do nothing.
pub const CROWD: u16 = 10_000;

const NOW: Instant = Instant::from_micros_const(1_000_000);
const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// IPv4 and IPv6 header.
const IP_HEADER: [usize; 2] = [20, 40];
const ETHERNET: usize = 14;
const ECHO_REQUEST: [u8; 12] = [8, 0, 0, 0, 0, 7, 0, 1, 1, 2, 3, 4];

/// A host's socket that takes everything, and gives as many bytes as it is told.
struct Stream {
    to_give: usize,
    end: bool,
}

impl HostStream for Stream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.to_give);
        self.to_give -= length;
        if length == 0 && !self.end {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(length)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn finish(&mut self) {}
}

/// A connection as the guest sees it.
struct Flow {
    /// Where its TCP header begins in a frame.
    at: usize,
    guest: SocketAddr,
    host: SocketAddr,
    /// The guest's next number, and the next it expects.
    sequence: u32,
    acknowledge: u32,
    socket: SocketId,
    /// Frames that are written once: its first, a payload, none, its last.
    syn: Vec<u8>,
    data: Vec<u8>,
    bare: Vec<u8>,
    fin: Vec<u8>,
}

struct Net {
    engine: Engine,
    now: Instant,
    stream: Stream,
    /// The last frame for a guest.
    got: Vec<u8>,
    /// The socket that the engine has opened last.
    opened: Option<SocketId>,
    sent: usize,
}

fn guest(v6: bool, port: u16) -> SocketAddr {
    let lease = Lease::default();
    let ip = if v6 { lease.v6.map_or(IpAddr::V4(lease.v4), IpAddr::V6) } else { lease.v4.into() };
    SocketAddr::new(ip, port)
}

fn server(v6: bool) -> SocketAddr {
    let v6_server = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
    let ip = if v6 { v6_server.into() } else { IpAddr::from(Ipv4Addr::new(192, 0, 2, 9)) };
    SocketAddr::new(ip, 80)
}

/// A frame of the guest whose kernel leaves the checksum to us, and what is longer than a segment
/// for us to cut.
fn frame(from: SocketAddr, to: SocketAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let v6 = from.is_ipv6();
    let addresses = (from.ip(), to.ip());
    let packet = packet::ip(addresses, protocol.into(), 64, None, payload).unwrap();
    let mut offload = [0; VNET];
    if protocol == TCP || protocol == UDP {
        let start = u16::try_from(ETHERNET + IP_HEADER[usize::from(v6)]).unwrap();
        offload[0] = 1;
        offload[6..8].copy_from_slice(&start.to_le_bytes());
        offload[8] = if protocol == TCP { 16 } else { 6 };
        if protocol == TCP && payload.len() > 20 + SEGMENT {
            offload[1] = if v6 { 4 } else { 1 };
            offload[2..4].copy_from_slice(&(start + 20).to_le_bytes());
            offload[4..6].copy_from_slice(&u16::try_from(SEGMENT).unwrap().to_le_bytes());
        }
    }
    packet::frame(Some(offload), if v6 { 0x86dd } else { 0x0800 }, &packet)
}

/// A TCP segment; `options` come behind the header.
fn segment(from: SocketAddr, to: SocketAddr, flags: u8, options: &[u8], payload: usize) -> Vec<u8> {
    let header = u8::try_from(20 + options.len()).unwrap();
    let mut bytes = [&from.port().to_be_bytes()[..], &to.port().to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, header << 2, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.resize(bytes.len() + payload, 7);
    frame(from, to, TCP, &bytes)
}

/// MSS 1460, selective acknowledgements, windows times 128.
const SYN_OPTIONS: [u8; 12] = [2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 1, 1];

fn number_at(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
}

impl Net {
    fn new(sharing: Sharing) -> Self {
        let network = Network { sharing, ..Network::default() };
        let mut engine = Engine::new(network, [1, 2, 3, 4]);
        let lease = Lease { mac: MacAddress(GUEST_MAC), ..Lease::default() };
        let port = engine.add_port(lease, true, NOW).unwrap();
        engine.set_udp_offload(port);
        let stream = Stream { to_give: 0, end: false };
        Self { engine, now: NOW, stream, got: Vec::new(), opened: None, sent: 0 }
    }

    /// Lets everything happen that the engine asks for. Returns how many frames came.
    fn pump(&mut self) -> usize {
        let mut frames = 0;
        // As the event loop does it: requests, deadlines, frames.
        while let Some(op) = self.engine.poll_host() {
            match op {
                HostOp::Open { socket, kind } => {
                    self.opened = Some(socket);
                    if matches!(kind, SocketKind::TcpConnect(_)) {
                        self.engine.handle_host(socket, HostEvent::Connected, self.now);
                    }
                }
                HostOp::Send { payload, .. } => {
                    self.sent += payload.len();
                    self.engine.recycle(payload);
                }
                HostOp::Relay(socket) => self.engine.relay(socket, &mut self.stream, self.now),
                HostOp::Close { .. } => {}
            }
        }
        self.engine.handle_timeout(self.now);
        let got = &mut self.got;
        while self.engine.poll_frame(self.now, |_, frame, _| {
            // The headers are enough to know.
            got.clear();
            got.extend_from_slice(&frame[..frame.len().min(128)]);
            let length = u32::try_from(frame.len()).unwrap();
            got.extend_from_slice(&length.to_be_bytes());
        }) {
            frames += 1;
        }
        frames
    }

    fn give(&mut self, frame: &mut [u8]) {
        let verdict = self.engine.handle_frame(PortId(0), frame, self.now);
        assert_eq!(verdict, Verdict::Flow);
    }

    /// Opens a connection from the guest.
    fn connect(&mut self, v6: bool, port: u16, payload: usize) -> Flow {
        let mut flow = Flow::new(guest(v6, port), server(v6), SYN, payload);
        self.open(&mut flow);
        flow
    }

    fn open(&mut self, flow: &mut Flow) {
        flow.send(self, |flow| &mut flow.syn);
        assert_eq!(self.pump(), 1, "a SYN-ACK");
        flow.socket = self.opened.unwrap();
        flow.take(&self.got);
        self.acknowledge(flow);
    }

    /// Opens a connection of a client to the guest.
    fn accept(&mut self, listener: SocketId, flow: &mut Flow) {
        flow.socket = self.engine.accept(listener, flow.host, self.now).unwrap();
        assert_eq!(self.pump(), 1, "a SYN");
        flow.take(&self.got);
        flow.send(self, |flow| &mut flow.syn);
        self.pump();
    }

    fn acknowledge(&mut self, flow: &mut Flow) {
        flow.send(self, |flow| &mut flow.bare);
        while self.pump() > 0 {
            flow.take(&self.got);
        }
    }

    /// The host has so many bytes for the guest, which acknowledges what comes.
    fn receive(&mut self, flow: &mut Flow, length: usize) {
        self.stream.to_give += length;
        self.engine.relay(flow.socket, &mut self.stream, self.now);
        while self.pump() > 0 {
            flow.take(&self.got);
            self.acknowledge(flow);
        }
    }

    /// Opens connections that do nothing.
    fn crowd(&mut self, count: u16) {
        for port in 0..count {
            self.connect(false, 20_000 + port, 0);
        }
        assert_eq!(self.engine.tcp_flows(), usize::from(count));
    }

    /// A connection that has been busy: its rings have grown.
    fn busy(v6: bool, payload: usize, crowd: u16) -> (Self, Flow) {
        let mut net = Self::new(Sharing::Private);
        net.crowd(crowd);
        let mut flow = net.connect(v6, 5_000, payload);
        let full = segment(flow.guest, flow.host, ACK, &[], SEGMENT);
        let data = std::mem::replace(&mut flow.data, full);
        for _ in 0..4 {
            net.receive(&mut flow, 40_000);
            for _ in 0..12 {
                flow.send(&mut net, |flow| &mut flow.data);
            }
            net.pump();
            flow.take(&net.got);
            net.acknowledge(&mut flow);
        }
        flow.data = data;
        let text = net.engine.to_string();
        assert!(text.contains(" rings 524288"), "a busy flow has larger rings\n{text}");
        (net, flow)
    }

    /// Both sides finish; the flow is gone.
    fn close(&mut self, flow: &mut Flow) {
        let before = self.engine.tcp_flows();
        flow.send(self, |flow| &mut flow.fin);
        self.stream.end = true;
        self.pump();
        self.engine.relay(flow.socket, &mut self.stream, self.now);
        self.stream.end = false;
        self.pump();
        flow.take(&self.got);
        flow.send(self, |flow| &mut flow.bare);
        self.pump();
        assert_eq!(self.engine.tcp_flows(), before - 1, "{}", self.engine);
    }
}

impl Flow {
    /// One that begins with a SYN, alone or with an acknowledgement.
    fn new(guest: SocketAddr, host: SocketAddr, first: u8, payload: usize) -> Self {
        Self {
            at: VNET + ETHERNET + IP_HEADER[usize::from(guest.is_ipv6())],
            guest,
            host,
            sequence: 0,
            acknowledge: 0,
            socket: SocketId(0),
            syn: segment(guest, host, first, &SYN_OPTIONS, 0),
            data: segment(guest, host, ACK, &[], payload),
            bare: segment(guest, host, ACK, &[], 0),
            fin: segment(guest, host, FIN | ACK, &[], 0),
        }
    }

    /// Sends one of its frames, with the present numbers.
    fn send(&mut self, net: &mut Net, which: impl Fn(&mut Self) -> &mut Vec<u8>) {
        let (at, sequence, acknowledge) = (self.at, self.sequence, self.acknowledge);
        let frame = which(self);
        frame[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
        frame[at + 8..at + 12].copy_from_slice(&acknowledge.to_be_bytes());
        let header = usize::from(frame[at + 12] >> 4) * 4;
        let flags = u32::from(frame[at + 13] & (SYN | FIN) != 0);
        let length = u32::try_from(frame.len() - at - header).unwrap() + flags;
        net.give(frame);
        self.sequence = sequence.wrapping_add(length);
    }

    /// Takes a frame, of which the headers and the length are there.
    fn take(&mut self, got: &[u8]) {
        let at = self.at;
        let length = number_at(got, got.len() - 4);
        let header = u32::from(got[at + 12] >> 4) * 4;
        let payload = length - u32::try_from(at).unwrap() - header;
        let flags = u32::from(got[at + 13] & (SYN | FIN) != 0);
        self.acknowledge = number_at(got, at + 4).wrapping_add(payload + flags);
    }
}

fn tcp_up(v6: bool, payload: usize, crowd: u16) -> Round {
    let (mut net, mut flow) = Net::busy(v6, payload, crowd);
    Box::new(move || {
        flow.send(&mut net, |flow| &mut flow.data);
        assert_eq!(net.pump(), 1, "an acknowledgement");
        flow.take(&net.got);
    })
}

fn tcp_down(v6: bool, payload: usize, crowd: u16) -> Round {
    let (mut net, mut flow) = Net::busy(v6, 0, crowd);
    Box::new(move || {
        let before = flow.acknowledge;
        net.receive(&mut flow, payload);
        assert_eq!(flow.acknowledge.wrapping_sub(before) as usize, payload);
    })
}

fn tcp_ack(v6: bool) -> Round {
    let (mut net, mut flow) = Net::busy(v6, 0, 0);
    Box::new(move || net.acknowledge(&mut flow))
}

fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut bytes =
        [from.port().to_be_bytes(), to.port().to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    bytes.extend(payload);
    frame(from, to, UDP, &bytes)
}

fn udp_up(v6: bool, count: usize) -> Round {
    let mut net = Net::new(Sharing::Private);
    let mut frame = datagram(guest(v6, 5_000), server(v6), &[7; 1400]);
    Box::new(move || {
        net.sent = 0;
        for _ in 0..count {
            net.give(&mut frame);
        }
        net.pump();
        assert_eq!(net.sent, count * 1400);
    })
}

fn udp_down(v6: bool, count: usize) -> Round {
    let mut net = Net::new(Sharing::Private);
    net.give(&mut datagram(guest(v6, 5_000), server(v6), b"hello"));
    net.pump();
    let socket = net.opened.unwrap();
    let payload = [7; 1400];
    Box::new(move || {
        for _ in 0..count {
            let event = HostEvent::Datagram { from: server(v6), to: None, payload: &payload };
            net.engine.handle_host(socket, event, net.now);
        }
        assert_eq!(net.pump(), 1);
    })
}

fn echo() -> Round {
    let mut net = Net::new(Sharing::Private);
    let (from, to) = (guest(false, 0), server(false));
    let mut request = ECHO_REQUEST.to_vec();
    packet::finish((from.ip(), to.ip()), 1.into(), &mut request);
    let mut frame = frame(from, to, 1, &request);
    let mut reply = request.clone();
    reply[0] = 0;
    Box::new(move || {
        net.give(&mut frame);
        net.pump();
        let socket = net.opened.unwrap();
        let event = HostEvent::Datagram { from: to, to: None, payload: &reply };
        net.engine.handle_host(socket, event, net.now);
        assert_eq!(net.pump(), 1);
    })
}

fn switch() -> Round {
    let mut net = Net::new(Sharing::Shared);
    let other = Lease::new([10, 0, 2, 101].into(), None);
    let to = net.engine.add_port(other, true, NOW).unwrap();
    net.pump();
    let address = SocketAddr::new(other.v4.into(), 80);
    let mut frame = segment(guest(false, 5_000), address, ACK, &[], SUPER);
    frame[VNET..VNET + 6].copy_from_slice(&other.mac.0);
    Box::new(move || {
        let verdict = net.engine.handle_frame(PortId(0), &mut frame, net.now);
        assert_eq!(verdict, Verdict::Port(to));
    })
}

fn connect() -> Round {
    let mut net = Net::new(Sharing::Private);
    let mut flow = Flow::new(guest(false, 5_000), server(false), SYN, 0);
    Box::new(move || {
        net.open(&mut flow);
        net.close(&mut flow);
        net.now += Duration::from_millis(1);
    })
}

fn accept() -> Round {
    let mut net = Net::new(Sharing::Private);
    let to = vec![Destination { port: PortId(0), address: None }];
    let listener = net.engine.publish(Protocol::Tcp, to, 80);
    let client = SocketAddr::from(([192, 0, 2, 9], 40_000));
    let mut flow = Flow::new(guest(false, 80), client, SYN | ACK, 0);
    Box::new(move || {
        net.accept(listener, &mut flow);
        net.close(&mut flow);
        net.now += Duration::from_millis(1);
    })
}
