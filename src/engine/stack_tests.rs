//! The defects of smoltcp that `stack.rs` works round: each is shown with smoltcp alone, and not
//! to be there with it. And what the frames of super-sized segments say.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::*;
use crate::config::MacAddress;
use crate::engine::machines::Machines;
use crate::engine::tests::packets::{
    ACK, Dice, FIN, GATEWAY_MAC, GUEST_MAC, PSH, SYN, Segment, pattern, receive,
};

const RING: usize = 256 << 10;

fn link(mtu: usize, vnet: bool) -> Link {
    let (guest_mac, gateway_mac) = (MacAddress(GUEST_MAC), MacAddress(GATEWAY_MAC));
    Link { guest_mac, gateway_mac, machines: Machines::default(), mtu, vnet, uso: false }
}

fn ends(v6: bool) -> (SocketAddr, SocketAddr) {
    if v6 {
        ("[fd72::100]:40000".parse().unwrap(), "[2001:db8::9]:80".parse().unwrap())
    } else {
        ("10.0.2.100:40000".parse().unwrap(), "192.0.2.9:80".parse().unwrap())
    }
}

/// A receiver of one stream: smoltcp as it is, or behind our stack.
trait Receiver {
    /// Takes a segment; returns what is sent at once.
    fn ingress(&mut self, packet: Vec<u8>, now: Instant) -> Vec<Segment>;
    fn egress(&mut self, now: Instant) -> Vec<Segment>;
    fn socket(&mut self) -> &mut tcp::Socket<'static>;
    /// Whatever else may happen between two packets, and what is sent then.
    fn disturb(&mut self, _: &mut Dice, _: Instant) -> Vec<Segment> {
        Vec::new()
    }
}

/// smoltcp without any of our care.
struct Bare {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
}

#[derive(Default)]
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
}

struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl Device for Wire {
    type RxToken<'t> = Received;
    type TxToken<'t> = Sent<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sent<'_>)> {
        Some((Received(self.rx.pop_front()?), Sent(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

impl Bare {
    fn new(ring: usize) -> Self {
        let mut wire = Wire::default();
        let mut interface =
            Interface::new(Config::new(HardwareAddress::Ip), &mut wire, Instant::ZERO);
        interface.set_any_ip(true);
        let buffer = || tcp::SocketBuffer::new(vec![0; ring]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        socket.listen(ends(false).1).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { interface, sockets, handle, wire }
    }

    fn sent(&mut self) -> Vec<Segment> {
        self.wire.tx.drain(..).map(|packet| Segment::read(&packet)).collect()
    }
}

impl Receiver for Bare {
    fn ingress(&mut self, packet: Vec<u8>, now: Instant) -> Vec<Segment> {
        self.wire.rx.push_back(packet);
        self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        self.sent()
    }

    fn egress(&mut self, now: Instant) -> Vec<Segment> {
        self.interface.poll_egress(now, &mut self.wire, &mut self.sockets);
        self.sent()
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

/// Our stack with one connection.
struct Ours {
    stack: Stack,
    connection: Connection,
    link: Link,
    tx: TxFrame,
}

impl Ours {
    fn new(ring: usize, link: Link, v6: bool) -> Self {
        let stack = Stack::new(&link, 7, Instant::ZERO);
        let connection = Stack::accept(ends(v6).1, ring, &Memory::default()).unwrap();
        Self { stack, connection, link, tx: TxFrame::new() }
    }

    /// Takes a packet; returns the frame that is sent at once.
    fn ingress_frame(&mut self, mut packet: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        let header_len = if packet[0] >> 4 == 6 { 40 } else { 20 };
        let Self { stack, connection, link, tx } = self;
        stack.ingress(connection, link, &mut packet, header_len, now, tx).unwrap();
        self.frame()
    }

    fn egress_frame(&mut self, now: Instant) -> Option<Vec<u8>> {
        let Self { stack, connection, link, tx } = self;
        stack.egress(connection, link, now, tx).unwrap();
        self.frame()
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        let skip = if self.link.vnet { 0 } else { VNET_HEADER_LEN };
        let frame = self.tx.get().map(|frame| frame[skip..].to_vec());
        self.tx.clear();
        frame
    }

    fn segments(&self, frame: Option<Vec<u8>>) -> Vec<Segment> {
        let receive = |frame: Vec<u8>| receive(&frame, self.link.vnet, self.link.mtu);
        frame.into_iter().flat_map(receive).map(|packet| Segment::read(&packet)).collect()
    }

    /// Opens the connection with this SYN; returns the SYN-ACK.
    fn open(&mut self, syn: &Segment) -> Segment {
        let now = Instant::ZERO;
        assert_eq!(self.ingress_frame(syn.packet(), now), None);
        let frame = self.egress_frame(now);
        let answer = self.segments(frame).remove(0);
        let ack = Segment::new(syn.from, syn.to, ACK, syn.seq + 1, answer.seq.wrapping_add(1));
        self.ingress_frame(ack.packet(), now);
        assert_eq!(self.connection.state(), tcp::State::Established);
        while self.egress_frame(now).is_some() {}
        answer
    }
}

impl Receiver for Ours {
    fn ingress(&mut self, packet: Vec<u8>, now: Instant) -> Vec<Segment> {
        let frame = self.ingress_frame(packet, now);
        self.segments(frame)
    }

    fn egress(&mut self, now: Instant) -> Vec<Segment> {
        let frame = self.egress_frame(now);
        self.segments(frame)
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.connection.socket_mut()
    }
}

/// How a stream went.
#[derive(Debug, Default)]
struct Outcome {
    /// Times that nothing would have moved without a retransmission timeout.
    stalls: usize,
    sent: usize,
    delivered: usize,
    /// Windows that were offered after the SYN, in bytes.
    windows: Vec<usize>,
}

const MSS: u16 = 1460;

/// Sends a stream that uses every byte of every window it is offered, and ends with the last byte
/// of one, to a reader that takes a random number of bytes now and then.
fn stream(receiver: &mut impl Receiver, seed: u64) -> Outcome {
    let mut dice = Dice::new(seed);
    let mut now = Instant::ZERO;
    let (from, to) = ends(false);
    let syn = Segment::syn(from, to, MSS);
    let mut answers = receiver.ingress(syn.packet(), now);
    answers.extend(receiver.egress(now));
    let shift = answers[0].option(3).unwrap()[0];
    let at = |offset: usize| syn.seq + 1 + u32::try_from(offset).unwrap();
    let offset_of = |seq: u32| usize::try_from(seq.wrapping_sub(syn.seq + 1)).unwrap();
    let ack = answers[0].seq.wrapping_add(1);
    receiver.ingress(Segment::new(from, to, ACK, at(0), ack).packet(), now);

    let enough = 2 * RING + dice.below(RING);
    let (mut acked, mut next, mut edge) = (0, 0, usize::from(answers[0].window));
    let mut end = None;
    let bytes = pattern(251 + usize::from(MSS));
    let mut outcome = Outcome::default();
    for _ in 0..100_000 {
        let mut answers = receiver.disturb(&mut dice, now);
        while next < edge.min(end.unwrap_or(usize::MAX)) {
            let len = usize::from(MSS).min(edge - next).min(end.unwrap_or(usize::MAX) - next);
            if end.is_none() && next + len >= enough && next + len == edge {
                end = Some(edge);
            }
            let fin = if end == Some(next + len) { FIN | PSH } else { 0 };
            let segment = Segment::new(from, to, ACK | fin, at(next), ack);
            let segment = segment.with(&bytes[next % 251..next % 251 + len]);
            answers.extend(receiver.ingress(segment.packet(), now));
            next += len;
            // An acknowledgement on the way, with a window that is rounded down.
            if dice.below(3) == 0 {
                answers.extend(receiver.egress(now));
            }
        }
        let mut read = 0;
        if dice.below(3) == 0 {
            let most = dice.size(RING);
            let taken = receiver.socket().recv(|bytes| {
                let len = bytes.len().min(most);
                (len, bytes[..len].to_vec())
            });
            match taken {
                Ok(taken) => {
                    read = taken.len();
                    for (index, byte) in taken.iter().enumerate() {
                        assert_eq!(usize::from(*byte), (outcome.delivered + index) % 251);
                    }
                    outcome.delivered += read;
                }
                Err(_) => break,
            }
        }
        loop {
            let more = receiver.egress(now);
            if more.is_empty() {
                break;
            }
            answers.extend(more);
        }
        for answer in &answers {
            let window = usize::from(answer.window) << shift;
            acked = acked.max(offset_of(answer.ack).min(end.unwrap_or(usize::MAX)));
            edge = edge.max(offset_of(answer.ack) + window);
            outcome.windows.push(window);
        }
        let can_send = next < edge.min(end.unwrap_or(usize::MAX));
        if answers.is_empty() && read == 0 && !can_send && receiver.socket().recv_queue() == 0 {
            if receiver.socket().state() == tcp::State::CloseWait {
                continue;
            }
            outcome.stalls += 1;
            assert!(outcome.stalls < 1_000, "no way on: {acked} {next} {edge}");
            now += Duration::from_millis(200);
            next = acked;
            if end == Some(acked) {
                let fin = Segment::new(from, to, ACK | FIN, at(acked), ack);
                receiver.ingress(fin.packet(), now);
            }
        }
    }
    outcome.sent = end.unwrap_or(next);
    outcome
}

#[test]
fn smoltcp_alone_stalls_and_truncates_streams_that_use_the_whole_window() {
    let (mut stalled, mut truncated) = (0, 0);
    for seed in 0..24 {
        let outcome = stream(&mut Bare::new(RING), seed);
        stalled += usize::from(outcome.stalls > 0);
        truncated += usize::from(outcome.delivered < outcome.sent);
    }
    // When smoltcp gets better, `Egress::guard_window` can go.
    assert!(stalled > 0, "no stream stalled");
    assert!(truncated > 0, "no stream was cut short and called complete");
}

#[test]
fn our_stack_neither_stalls_nor_truncates_them_nor_offers_silly_windows() {
    for (ring, mtu, vnet) in [(RING, 1500, true), (1 << 20, 1500, true), (65_535, 1500, false)] {
        for seed in 0..10 {
            let outcome = stream(&mut Ours::new(ring, link(mtu, vnet), false), seed);
            assert_eq!(outcome.stalls, 0, "ring {ring}, seed {seed}");
            assert_eq!(outcome.delivered, outcome.sent, "ring {ring}, seed {seed}");
            let silly = |window: &&usize| (1..usize::from(MSS)).contains(*window);
            assert_eq!(outcome.windows.iter().find(silly), None, "ring {ring}, seed {seed}");
        }
    }
}

#[test]
fn the_virtual_mss_is_a_whole_number_of_at_most_64_segments() {
    for overhead in [40, 60] {
        for mss in MIN_MSS..=65_475 {
            let virtual_mss = virtual_mss(mss, overhead);
            assert_eq!(virtual_mss % mss, 0, "MSS {mss}");
            assert!((1..=64).contains(&(virtual_mss / mss)), "MSS {mss}");
            assert!(usize::from(virtual_mss) + overhead <= VIRTUAL_MTU, "MSS {mss}");
        }
    }
    assert_eq!(virtual_mss(1460, 40), 44 * 1460);
    assert_eq!(virtual_mss(48, 40), 64 * 48);
}

#[test]
fn super_frames_say_where_to_cut_and_fit_the_guest() {
    for v6 in [false, true] {
        for (mtu, vnet, stated, cut) in [
            (1500, true, 1400, 1400),
            (1500, true, 65_000, if v6 { 1440 } else { 1460 }),
            (9000, true, 8000, 8000),
            (1500, true, 1, 48),
            (1500, false, 1400, 1400),
        ] {
            let mut ours = Ours::new(1 << 20, link(mtu, vnet), v6);
            let (from, to) = ends(v6);
            let syn = Segment { window: 65_535, ..Segment::syn(from, to, stated) };
            let answer = ours.open(&syn);
            let real = mtu - if v6 { 60 } else { 40 };
            assert_eq!(answer.mss().map(usize::from), Some(real), "the link's MSS is offered");
            let body = pattern(60_000);
            ours.socket().send_slice(&body).unwrap();
            let (mut got, mut frames) = (Vec::new(), 0);
            while let Some(frame) = ours.egress_frame(Instant::ZERO) {
                if vnet && frame[1] != 0 {
                    let size = u16::from_le_bytes([frame[4], frame[5]]);
                    assert_eq!(size, cut, "gso_size for an MSS of {stated}");
                }
                frames += 1;
                for segment in ours.segments(Some(frame)) {
                    assert!(segment.payload.len() <= usize::from(cut));
                    got.extend(segment.payload);
                }
            }
            assert_eq!(got, body, "MSS {stated}");
            let most = if !vnet {
                43
            } else if stated == 1 {
                20
            } else {
                2
            };
            assert!(frames <= most, "{frames} frames for an MSS of {stated}");
        }
    }
}

#[test]
fn options_of_any_kind_do_no_harm() {
    let (from, to) = ends(false);
    for options in [
        vec![],
        vec![2, 4, 0, 0],
        vec![2, 4, 0, 1],
        vec![2, 4, 0xff, 0xff],
        vec![2, 4, 0, 1, 2, 4, 5, 0xb4],
        vec![1, 1, 1, 1, 0, 9, 9, 9],
        vec![3, 3, 200, 1],
        vec![254, 6, 1, 2, 3, 4, 1, 1],
        vec![1; 40],
    ] {
        let mut ours = Ours::new(RING, link(1500, true), false);
        let syn = Segment { options: options.clone(), ..Segment::syn(from, to, 0) };
        ours.open(&syn);
        ours.socket().send_slice(&pattern(3_000)).unwrap();
        let mut got = 0;
        while let Some(frame) = ours.egress_frame(Instant::ZERO) {
            got += ours.segments(Some(frame)).iter().map(|s| s.payload.len()).sum::<usize>();
        }
        assert_eq!(got, 3_000, "{options:?}");
    }
    // smoltcp refuses to read these; nothing may come of them, but no panic either.
    for options in [vec![2, 0, 0, 0], vec![2, 1, 0, 0], vec![2, 40, 0, 0], vec![3, 2, 0, 0]] {
        let mut ours = Ours::new(RING, link(1500, true), false);
        let syn = Segment { options, ..Segment::syn(from, to, 0) };
        assert_eq!(ours.ingress_frame(syn.packet(), Instant::ZERO), None);
        assert_eq!(ours.egress_frame(Instant::ZERO), None);
    }
}

#[test]
fn a_syn_on_an_open_connection_teaches_nothing() {
    let (from, to) = ends(false);
    let mut ours = Ours::new(RING, link(1500, true), false);
    let syn = Segment::syn(from, to, 1400);
    let answer = ours.open(&syn);
    let again = Segment::syn(from, to, 100);
    let inside = Segment {
        seq: syn.seq + 1,
        flags: SYN | ACK,
        ack: answer.seq.wrapping_add(1),
        ..again.clone()
    };
    ours.ingress_frame(again.packet(), Instant::ZERO);
    ours.ingress_frame(inside.packet(), Instant::ZERO);
    assert_eq!(ours.connection.segments.mss, 1400);
    ours.socket().send_slice(&pattern(5_000)).unwrap();
    let frame = loop {
        let frame = ours.egress_frame(Instant::ZERO).unwrap();
        if frame[1] != 0 {
            break frame;
        }
    };
    assert_eq!(u16::from_le_bytes([frame[4], frame[5]]), 1400);
}

#[test]
fn a_guest_without_window_scaling_is_offered_unscaled_windows() {
    let (from, to) = ends(false);
    let mut ours = Ours::new(1 << 20, link(1500, true), false);
    let syn = Segment { options: vec![2, 4, 5, 0xb4], ..Segment::syn(from, to, 0) };
    let answer = ours.open(&syn);
    assert_eq!(answer.option(3), None);
    let data = Segment::new(from, to, ACK, syn.seq + 1, answer.seq.wrapping_add(1));
    ours.ingress_frame(data.with(&pattern(1_000)).packet(), Instant::ZERO);
    let frame = ours.egress_frame(Instant::ZERO);
    assert_eq!(ours.segments(frame)[0].window, 65_534);
}

/// Our stack with a connection whose rings change their size whenever they can.
struct Restless {
    ours: Ours,
    changes: usize,
}

impl Restless {
    /// Returns what the guest is told of it, if it could be done.
    fn resize(&mut self, ring: usize, now: Instant) -> Vec<Segment> {
        let (guest, host) = ends(false);
        let Ours { stack, connection, link, tx } = &mut self.ours;
        let ends = Ends { guest, host };
        let changed = stack.resize(connection, ends, ring, link, now, tx).unwrap();
        self.changes += usize::from(changed);
        let frame = self.ours.frame();
        self.ours.segments(frame)
    }
}

impl Receiver for Restless {
    fn ingress(&mut self, packet: Vec<u8>, now: Instant) -> Vec<Segment> {
        self.ours.ingress(packet, now)
    }

    fn egress(&mut self, now: Instant) -> Vec<Segment> {
        self.ours.egress(now)
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.ours.socket()
    }

    fn disturb(&mut self, dice: &mut Dice, now: Instant) -> Vec<Segment> {
        let ring = [8 << 10, 32 << 10, RING, LARGEST_RING][dice.below(4)];
        self.resize(ring, now)
    }
}

#[test]
fn a_stream_is_whole_whatever_becomes_of_the_rings() {
    let mut changes = 0;
    for seed in 0..30 {
        let ours = Ours::new(32 << 10, link(1500, true), false);
        let mut restless = Restless { ours, changes: 0 };
        let outcome = stream(&mut restless, seed);
        assert_eq!(outcome.delivered, outcome.sent, "seed {seed}");
        changes += restless.changes;
    }
    assert!(changes > 60, "only {changes} changes");
}

#[test]
fn numbers_and_windows_go_on_where_they_were_when_rings_change() {
    let (from, to) = ends(false);
    let now = Instant::ZERO;
    let ours = Ours::new(32 << 10, link(1500, true), false);
    let mut restless = Restless { ours, changes: 0 };
    let syn = Segment { window: 65_535, ..Segment::syn(from, to, 1400) };
    let answer = restless.ours.open(&syn);
    let shift = answer.option(3).unwrap()[0];
    let mut sent = answer.seq.wrapping_add(1);
    for ring in [256 << 10, LARGEST_RING, 32 << 10, LARGEST_RING] {
        restless.socket().send_slice(&pattern(3_000)).unwrap();
        assert_eq!(restless.resize(ring, now), [], "bytes wait for the guest");
        let mut segments = Vec::new();
        while let Some(frame) = restless.ours.egress_frame(now) {
            segments.extend(restless.ours.segments(Some(frame)));
        }
        let whole: usize = segments.iter().map(|segment| segment.payload.len()).sum();
        assert_eq!((segments[0].seq, whole), (sent, 3_000));
        assert_eq!(restless.resize(ring, now), [], "the guest owes acknowledgements");
        sent = sent.wrapping_add(3_000);
        let ack = Segment::new(from, to, ACK, syn.seq + 1, sent);
        assert_eq!(restless.ingress(ack.packet(), now), [], "an acceptable acknowledgement");
        let update = &restless.resize(ring, now)[0];
        assert_eq!((update.flags, update.seq, update.ack), (ACK, sent, syn.seq + 1));
        let window = usize::from(update.window) << shift;
        assert!(window <= ring && window > ring / 2, "{window} bytes for a ring of {ring}");
    }
}

#[test]
fn a_fin_behind_bytes_that_find_no_room_is_not_taken() {
    let (from, to) = ends(false);
    let now = Instant::ZERO;
    let ours = Ours::new(LARGEST_RING, link(1500, true), false);
    let mut restless = Restless { ours, changes: 0 };
    let syn = Segment::syn(from, to, 1400);
    let ack = restless.ours.open(&syn).seq.wrapping_add(1);
    // The guest has been offered a megabyte and knows nothing of this.
    assert_eq!(restless.resize(8 << 10, now).len(), 1);
    let body = pattern(20_000);
    let mut got: Vec<u8> = Vec::new();
    for turn in 0..3 {
        assert_eq!(restless.socket().state(), tcp::State::Established, "turn {turn}");
        let seq = syn.seq + 1 + u32::try_from(got.len()).unwrap();
        let rest = Segment::new(from, to, ACK | FIN, seq, ack).with(&body[got.len()..]);
        restless.ingress(rest.packet(), now);
        while let Ok(Some(bytes)) = restless
            .socket()
            .recv(|bytes| (bytes.len(), (!bytes.is_empty()).then(|| bytes.to_vec())))
        {
            got.extend(bytes);
        }
        restless.egress(now);
    }
    assert!(got == body, "{} of {} bytes", got.len(), body.len());
    assert_eq!(restless.socket().state(), tcp::State::CloseWait);
}

/// A connection whose guest has just finished; its FIN, and what our next segment's number is.
fn finished_by_guest() -> (Ours, Segment, u32) {
    let (from, to) = ends(false);
    let mut ours = Ours::new(32 << 10, link(1500, true), false);
    let syn = Segment::syn(from, to, 1400);
    let next = ours.open(&syn).seq.wrapping_add(1);
    let fin = Segment::new(from, to, ACK | FIN, syn.seq + 1, next);
    assert_eq!(ours.ingress(fin.packet(), Instant::ZERO), []);
    (ours, fin, next)
}

#[test]
fn our_own_end_or_data_acknowledges_a_fin_that_came_just_before() {
    let soon = Instant::ZERO + FIN_ACK - Duration::from_micros(1);
    for data in [&b""[..], b"the last words"] {
        let (mut ours, fin, next) = finished_by_guest();
        assert_eq!(ours.egress(soon), [], "not alone");
        if data.is_empty() {
            ours.socket().close();
        } else {
            ours.socket().send_slice(data).unwrap();
        }
        let answer = ours.egress(soon).remove(0);
        assert_eq!((answer.seq, answer.ack, &*answer.payload), (next, fin.seq + 1, data));
        assert_eq!(answer.flags & FIN != 0, data.is_empty());
        assert_eq!(ours.egress(soon), []);
    }
}

#[test]
fn a_fin_is_acknowledged_alone_when_nothing_follows_soon_or_it_comes_again() {
    let (mut ours, fin, next) = finished_by_guest();
    let due = Instant::ZERO + FIN_ACK;
    let Ours { stack, connection, .. } = &mut ours;
    assert_eq!(stack.poll_at(connection, Instant::ZERO), Ok(Some(due)));
    let acks = |segments: Vec<Segment>| -> Vec<_> {
        segments.iter().map(|segment| (segment.flags, segment.seq, segment.ack)).collect()
    };
    assert_eq!(acks(ours.egress(due)), [(ACK, next, fin.seq + 1)]);
    assert_eq!(ours.egress(due), [], "once");

    let (mut ours, fin, next) = finished_by_guest();
    let again = Instant::ZERO + Duration::from_millis(1);
    let mut answers = acks(ours.ingress(fin.packet(), again));
    answers.extend(acks(ours.egress(again)));
    assert_eq!(answers.first(), Some(&(ACK, next, fin.seq + 1)));
}

/// What a guest that holds the bytes from the `begin`th to the `end`th answers, in selective
/// acknowledgements (RFC 2018), and the window that it states.
fn with_range(ack: &Segment, window: u16, begin: u32, end: u32) -> Segment {
    let mut options = vec![1, 1, 5, 10];
    options.extend(ack.ack.wrapping_add(begin).to_be_bytes());
    options.extend(ack.ack.wrapping_add(end).to_be_bytes());
    Segment { window, options, ..ack.clone() }
}

/// A connection that has sent as much of `length` bytes as a guest with this window takes, and the
/// acknowledgement of the first of them.
fn sending(window: u16, length: usize) -> (Ours, Segment, usize) {
    let (from, to) = ends(false);
    let mut ours = Ours::new(LARGEST_RING, link(1500, true), false);
    let syn = Segment::syn(from, to, 1460);
    let next = ours.open(&syn).seq.wrapping_add(1);
    let ack = Segment { window, ..Segment::new(from, to, ACK, syn.seq + 1, next) };
    ours.ingress(ack.packet(), Instant::ZERO);
    ours.socket().send_slice(&pattern(length)).unwrap();
    let mut sent = 0;
    while let Some(frame) = ours.egress_frame(Instant::ZERO) {
        sent += ours.segments(Some(frame)).iter().map(|s| s.payload.len()).sum::<usize>();
    }
    (ours, ack, sent)
}

/// One full frame's bytes.
const FRAME: u32 = 44 * 1460;

#[test]
fn missing_bytes_are_sent_again_at_once_though_the_guest_reads_meanwhile() {
    // What the guest has of the bytes behind the first frame, and whether that frame is lost then.
    for (begin, end, lost) in [(FRAME, 2 * FRAME, true), (0, 0, false)] {
        let (mut ours, ack, _) = sending(60_000, 260_000);
        let mut again = Vec::new();
        for growth in 1..=3 {
            assert_eq!(again.len(), 0, "sent again by acknowledgement {growth}");
            let more = with_range(&ack, ack.window + growth, begin, end + u32::from(growth));
            ours.ingress(more.packet(), Instant::ZERO);
            again = ours.egress(Instant::ZERO);
        }
        let whole: usize = again.iter().map(|segment| segment.payload.len()).sum();
        assert_eq!(whole, if lost { FRAME as usize } else { 0 }, "from {begin} to {end}");
        assert!(!lost || again[0].seq == ack.ack);
    }
}

#[test]
fn a_window_that_grew_while_bytes_were_missing_is_used_when_they_are_there() {
    let now = Instant::ZERO;
    let (mut ours, first, sent) = sending(1_000, LARGEST_RING);
    assert_eq!(sent, 1_000 << 7);
    ours.ingress(with_range(&first, 2_000, 1460, 2920).packet(), now);
    assert_eq!(ours.egress(now), [], "not yet");
    let ack = first.ack.wrapping_add(u32::try_from(sent).unwrap());
    ours.ingress(Segment { window: 2_000, ack, ..first }.packet(), now);
    let frame = ours.egress(now);
    assert_eq!((frame[0].seq, frame[0].payload.len()), (ack, 1460));
}

#[test]
fn a_window_that_was_closed_opens_though_bytes_are_missing() {
    let now = Instant::ZERO;
    let (mut ours, first, _) = sending(1_000, LARGEST_RING);
    let closed = Segment { window: 0, ..first };
    ours.ingress(closed.packet(), now);
    ours.ingress(with_range(&closed, 2_000, 1460, 2920).packet(), now);
    assert_ne!(ours.egress(now).len(), 0);
}

#[test]
fn what_has_to_be_answered_is_answered_whatever_ranges_it_states() {
    let now = Instant::ZERO;
    let (mut ours, first, sent) = sending(60_000, 100_000);
    let sent = u32::try_from(sent).unwrap();
    let never_sent = Segment { ack: first.ack.wrapping_add(sent + 1_000_000), ..first.clone() };
    let answers = ours.ingress(with_range(&never_sent, 60_000, 1460, 2920).packet(), now);
    let answer = answers.first().expect("RFC 9293, section 3.10.7.4: an acknowledgement");
    assert_eq!((answer.flags, answer.ack), (ACK, first.seq));
}

#[test]
fn a_second_loss_in_one_window_is_sent_again_as_soon_as_it_is_heard_of() {
    let now = Instant::ZERO;
    let (mut ours, first, _) = sending(60_000, 260_000);
    let ack = Segment { ack: first.ack.wrapping_add(FRAME), ..first };
    ours.ingress(ack.packet(), now);
    assert_eq!(ours.egress(now).len(), 0, "nothing is lost");
    let ack = Segment { ack: ack.ack.wrapping_add(FRAME), ..ack };
    ours.ingress(with_range(&ack, 50_000, FRAME, 2 * FRAME).packet(), now);
    let again = ours.egress(now);
    let whole: usize = again.iter().map(|segment| segment.payload.len()).sum();
    assert_eq!((again[0].seq, whole), (ack.ack, FRAME as usize));
    assert_eq!(ours.egress(now).len(), 0, "once");
    ours.ingress(with_range(&ack, 51_000, FRAME, 2 * FRAME).packet(), now);
    assert_eq!(ours.egress(now).len(), 0, "nor for those that follow");
}

#[test]
fn what_is_on_its_way_again_is_not_sent_for_each_part_that_arrives() {
    let now = Instant::ZERO;
    let (mut ours, first, _) = sending(60_000, 400_000);
    // The whole first frame is lost behind the container, which passes on segment by segment.
    for growth in 0..3 {
        ours.ingress(with_range(&first, 60_000 + growth, FRAME, 2 * FRAME).packet(), now);
    }
    assert_eq!(ours.egress(now)[0].seq, first.ack);
    for part in 1..44 {
        let ack = Segment { ack: first.ack.wrapping_add(part * 1460), ..first.clone() };
        ours.ingress(with_range(&ack, 60_000, FRAME - part * 1460, 2 * FRAME).packet(), now);
        assert_eq!(ours.egress(now).len(), 0, "part {part}");
    }
    // All of that is there: what is missing now is another loss.
    let ack = Segment { ack: first.ack.wrapping_add(2 * FRAME), ..first };
    ours.ingress(with_range(&ack, 60_000, FRAME, 2 * FRAME).packet(), now);
    assert_eq!(ours.egress(now)[0].seq, ack.ack);
}
