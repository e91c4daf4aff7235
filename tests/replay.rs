//! Captures of what a guest sent, replayed into an engine; what became of them is compared with
//! the text beside each capture.
//!
//! `UPDATE_GOLDEN=1 cargo test --test replay` writes the captures and the texts anew: the
//! captures from [`scenarios`], because a guest's acknowledgements depend on the engine's
//! sequence numbers. Read the difference before you commit it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use rnsnet::config::{HostAccess, Lease, MacAddress, Network};
use rnsnet::engine::dns::Resolvers;
use rnsnet::engine::host::{HostEvent, HostOp, HostStream, SocketId, SocketKind};
use rnsnet::engine::{Engine, Instant, PortId};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::{
    EthernetFrame, Icmpv4Packet, Icmpv4Repr, IpProtocol, IpRepr, PrettyPrinter, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x64];
const GATEWAY_MAC: [u8; 6] = [2, b'r', b'n', 0, 0, 2];
/// How long a replay goes on after the last frame.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// An engine, a host that answers by port number, and the text of all that happened.
struct Replay {
    engine: Engine,
    streams: BTreeMap<SocketId, Echo>,
    kinds: BTreeMap<SocketId, SocketKind>,
    now: Instant,
    text: String,
    /// The last frames that the guest was sent.
    sent: Vec<Vec<u8>>,
}

/// A peer that sends back what it gets, and finishes when the guest does.
#[derive(Default)]
struct Echo {
    bytes: Vec<u8>,
    end: bool,
}

impl HostStream for Echo {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.bytes.len());
        if len == 0 && !self.end {
            return Err(ErrorKind::WouldBlock.into());
        }
        for (place, byte) in buffer.iter_mut().zip(self.bytes.drain(..len)) {
            *place = byte;
        }
        Ok(len)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn finish(&mut self) {
        self.end = true;
    }
}

impl Replay {
    fn new() -> Self {
        let network =
            Network { host_access: HostAccess::Ports([5432].into()), ..Network::default() };
        let mut engine = Engine::new(network, [11, 12, 13, 14]);
        let lease = Lease { mac: MacAddress(GUEST_MAC), ..Lease::default() };
        engine.add_port(lease, false, Instant::ZERO).expect("a port");
        engine.set_resolvers(Resolvers::new(vec![address("192.0.2.53:53")]), Instant::ZERO);
        Self {
            engine,
            streams: BTreeMap::new(),
            kinds: BTreeMap::new(),
            now: Instant::ZERO,
            text: String::new(),
            sent: Vec::new(),
        }
    }

    fn line(&mut self, text: &str) {
        writeln!(self.text, "{} {text}", self.now).expect("a string takes everything");
    }

    /// One frame of the guest, `at` after the start.
    fn feed(&mut self, at: Duration, frame: &[u8]) {
        self.pass(Instant::ZERO + at);
        self.sent.clear();
        self.show("guest", frame);
        let verdict = self.engine.handle_frame(PortId(0), &mut frame.to_vec(), self.now);
        self.line(&format!("      = {verdict:?}"));
        self.settle();
    }

    fn pass(&mut self, until: Instant) {
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    fn settle(&mut self) {
        loop {
            while let Some(op) = self.engine.poll_host() {
                self.line(&format!("host  {op:?}"));
                self.carry_out(op);
            }
            let mut frames = Vec::new();
            while self.engine.poll_frame(self.now, |_, frame, _| frames.push(frame.to_vec())) {}
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                self.show("to it", &frame);
                self.sent.push(frame);
            }
        }
    }

    /// Ports 81 and 82 refuse and cannot be reached; everything else answers with what it got.
    fn carry_out(&mut self, op: HostOp) {
        match op {
            HostOp::Open { socket, kind } => {
                self.kinds.insert(socket, kind);
                let SocketKind::TcpConnect(to) = kind else { return };
                self.streams.insert(socket, Echo::default());
                let event = match to.port() {
                    81 => HostEvent::Failed(ErrorKind::ConnectionRefused),
                    82 => HostEvent::Failed(ErrorKind::HostUnreachable),
                    _ => HostEvent::Connected,
                };
                self.engine.handle_host(socket, event, self.now);
            }
            HostOp::Send { socket, to, mut payload, .. } => {
                let from = match (to, self.kinds.get(&socket)) {
                    (Some(to), _) => to,
                    (None, Some(SocketKind::UdpConnect(to))) => *to,
                    _ => return,
                };
                match self.kinds.get(&socket) {
                    Some(SocketKind::UdpConnect(_)) => payload[2] |= 0x80,
                    Some(SocketKind::Ping { .. }) => payload[0] = 0,
                    _ => {}
                }
                let event = HostEvent::Datagram { from, to: None, payload: &payload };
                self.engine.handle_host(socket, event, self.now);
            }
            HostOp::Relay(socket) => {
                if let Some(stream) = self.streams.get_mut(&socket) {
                    self.engine.relay(socket, stream, self.now);
                }
            }
            HostOp::Close { socket, .. } => {
                self.streams.remove(&socket);
                self.kinds.remove(&socket);
            }
        }
    }

    fn show(&mut self, who: &str, frame: &[u8]) {
        let printed = PrettyPrinter::<EthernetFrame<&[u8]>>::new("      ", &frame).to_string();
        self.line(who);
        for line in printed.lines() {
            writeln!(self.text, "{line}").expect("a string takes everything");
        }
    }

    /// The whole text, with what is left at the end and the counters that moved.
    fn finish(mut self) -> String {
        self.pass(self.now + AFTERWARDS);
        let left = self.engine.to_string();
        let moved = left.lines().filter(|line| !line.ends_with(" 0"));
        format!("{}\n{}\n", self.text, moved.collect::<Vec<_>>().join("\n"))
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn ethernet(kind: u16, body: &[u8]) -> Vec<u8> {
    [&GATEWAY_MAC[..], &GUEST_MAC, &kind.to_be_bytes(), body].concat()
}

/// A frame of the guest with an IP packet whose payload `emit` writes.
fn ip(
    (from, to): (IpAddr, IpAddr),
    protocol: IpProtocol,
    len: usize,
    emit: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let repr = IpRepr::new(from.into(), to.into(), protocol, len, 64);
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut packet[..], &ChecksumCapabilities::default());
    emit(&mut packet[repr.header_len()..]);
    ethernet(if from.is_ipv4() { 0x0800 } else { 0x86dd }, &packet)
}

fn udp(from: SocketAddr, to: SocketAddr, body: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let (src, dst) = (from.ip().into(), to.ip().into());
    ip((from.ip(), to.ip()), IpProtocol::Udp, 8 + body.len(), |bytes| {
        let fill = |payload: &mut [u8]| payload.copy_from_slice(body);
        let checked = ChecksumCapabilities::default();
        let mut packet = UdpPacket::new_unchecked(bytes);
        repr.emit(&mut packet, &src, &dst, body.len(), fill, &checked);
    })
}

/// A guest's side of one TCP connection, as far as a capture needs it.
struct Tcp {
    from: SocketAddr,
    to: SocketAddr,
    seq: i32,
    ack: Option<i32>,
}

impl Tcp {
    fn new(from: &str, to: &str) -> Self {
        Self { from: address(from), to: address(to), seq: 1000, ack: None }
    }

    fn segment(&mut self, control: TcpControl, payload: &[u8]) -> Vec<u8> {
        let syn = control == TcpControl::Syn;
        let repr = TcpRepr {
            src_port: self.from.port(),
            dst_port: self.to.port(),
            control,
            seq_number: TcpSeqNumber(self.seq),
            ack_number: self.ack.map(TcpSeqNumber),
            window_len: 60_000,
            window_scale: syn.then_some(7),
            max_seg_size: syn.then_some(1460),
            sack_permitted: syn,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let repr_len = i32::try_from(repr.segment_len()).expect("a short segment");
        self.seq += repr_len;
        let (src, dst) = (self.from.ip().into(), self.to.ip().into());
        ip((self.from.ip(), self.to.ip()), IpProtocol::Tcp, repr.buffer_len(), |bytes| {
            let mut packet = TcpPacket::new_unchecked(bytes);
            repr.emit(&mut packet, &src, &dst, &ChecksumCapabilities::default());
        })
    }

    /// Takes note of what is to be acknowledged in the frames that came.
    fn listen(&mut self, frames: &[Vec<u8>]) {
        let header_len = if self.from.is_ipv4() { 34 } else { 54 };
        for frame in frames {
            let packet = TcpPacket::new_unchecked(&frame[header_len..]);
            let len = i32::try_from(packet.segment_len()).expect("a short segment");
            self.ack = Some(packet.seq_number().0.wrapping_add(len));
        }
    }
}

/// A capture: each frame with when it was sent.
type Capture = Vec<(Duration, Vec<u8>)>;

/// Feeds a frame and keeps it.
struct Recorder {
    replay: Replay,
    capture: Capture,
}

impl Recorder {
    fn send(&mut self, frame: Vec<u8>) {
        let at = Duration::from_millis(10)
            * (1 + u32::try_from(self.capture.len()).expect("a short capture"));
        self.replay.feed(at, &frame);
        self.capture.push((at, frame));
    }

    fn talk(&mut self, tcp: &mut Tcp, control: TcpControl, payload: &[u8]) {
        let frame = tcp.segment(control, payload);
        self.send(frame);
        tcp.listen(&self.replay.sent);
    }
}

/// A capture's name and what the guest does in it.
type Scenario = (&'static str, fn(&mut Recorder));

/// What the committed captures are made from.
fn scenarios() -> Vec<Scenario> {
    vec![
        ("arp", |recorder| {
            for target in [2, 3, 9] {
                let head = [0, 1, 8, 0, 6, 4, 0, 1];
                let body = [&head[..], &GUEST_MAC, &[10, 0, 2, 100], &[0; 6], &[10, 0, 2, target]];
                recorder.send(ethernet(0x0806, &body.concat()));
            }
        }),
        ("ping", |recorder| {
            for to in ["10.0.2.2", "192.0.2.9", "127.0.0.1"] {
                let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data: b"are you there" };
                let to: IpAddr = to.parse().expect("an address");
                let guest = IpAddr::from([10, 0, 2, 100]);
                recorder.send(ip((guest, to), IpProtocol::Icmp, repr.buffer_len(), |bytes| {
                    let mut packet = Icmpv4Packet::new_unchecked(bytes);
                    repr.emit(&mut packet, &ChecksumCapabilities::default());
                }));
            }
        }),
        ("udp-and-dns", |recorder| {
            let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x04test\0\0\x01\0\x01";
            for (from, to) in
                [("10.0.2.100", "10.0.2.3:53"), ("[fd72:6e73:6e65::100]", "[fd72:6e73:6e65::3]:53")]
            {
                recorder.send(udp(address(&format!("{from}:4000")), address(to), query));
            }
            for to in ["192.0.2.9:7", "10.0.2.2:5432", "10.0.2.2:9", "169.254.169.254:80"] {
                recorder.send(udp(address("10.0.2.100:4001"), address(to), b"hello"));
            }
        }),
        ("tcp-echo", |recorder| {
            for (from, to) in [
                ("10.0.2.100:40000", "192.0.2.9:80"),
                ("[fd72:6e73:6e65::100]:40000", "[2001:db8::9]:80"),
            ] {
                let mut tcp = Tcp::new(from, to);
                recorder.talk(&mut tcp, TcpControl::Syn, b"");
                recorder.talk(&mut tcp, TcpControl::None, b"");
                recorder.talk(&mut tcp, TcpControl::Psh, b"hello");
                recorder.talk(&mut tcp, TcpControl::Fin, b"and goodbye");
                recorder.talk(&mut tcp, TcpControl::None, b"");
            }
        }),
        ("tcp-refused", |recorder| {
            for to in ["192.0.2.9:81", "192.0.2.9:82", "10.0.2.2:22", "127.0.0.1:22"] {
                recorder.talk(&mut Tcp::new("10.0.2.100:40000", to), TcpControl::Syn, b"");
            }
        }),
    ]
}

fn path(name: &str, extension: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pcap");
    directory.join(name).with_extension(extension)
}

/// A capture in the format of pcap(5): version 2.4, microseconds, Ethernet.
fn write_pcap(capture: &Capture) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (at, frame) in capture {
        let micros = u32::try_from(at.total_micros()).expect("a short capture");
        let len = u32::try_from(frame.len()).expect("a frame");
        for word in [micros / 1_000_000, micros % 1_000_000, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    bytes
}

fn read_pcap(bytes: &[u8]) -> Capture {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 1), "pcap, microseconds, Ethernet");
    let (mut capture, mut at) = (Capture::new(), 24);
    while at < bytes.len() {
        let micros = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
        let end = at + 16 + usize::try_from(word(at + 8)).expect("a frame");
        capture.push((Duration::from_micros(micros), bytes[at + 16..end].to_vec()));
        at = end;
    }
    capture
}

#[test]
fn captures_replay_to_the_text_beside_them() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, scenario) in scenarios() {
        if update {
            let mut recorder = Recorder { replay: Replay::new(), capture: Vec::new() };
            scenario(&mut recorder);
            std::fs::write(path(name, "pcap"), write_pcap(&recorder.capture)).unwrap();
            std::fs::write(path(name, "txt"), recorder.replay.finish()).unwrap();
        }
        let mut replay = Replay::new();
        for (at, frame) in read_pcap(&std::fs::read(path(name, "pcap")).unwrap()) {
            replay.feed(at, &frame);
        }
        let (got, expected) =
            (replay.finish(), std::fs::read_to_string(path(name, "txt")).unwrap());
        for (number, (got, expected)) in got.lines().zip(expected.lines()).enumerate() {
            assert_eq!(got, expected, "tests/pcap/{name}.txt, line {}", number + 1);
        }
        assert_eq!(got.lines().count(), expected.lines().count(), "lines of {name}.txt");
    }
}

#[test]
fn every_capture_has_a_scenario() {
    let known: Vec<_> = scenarios().into_iter().map(|(name, _)| name).collect();
    for entry in std::fs::read_dir(path("", "")).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(known.contains(&stem.as_str()), "tests/pcap/{stem} has no scenario");
    }
}
