//! Packets made and read by hand, and what a guest's kernel does with the virtio header.
//!
//! Independent of the code under test: only smoltcp's checksum arithmetic is shared with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::checksum::{combine, data};

pub(in crate::engine) const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x64];
pub(in crate::engine) const GATEWAY_MAC: [u8; 6] = [2, b'r', b'n', 0, 0, 2];
pub(in crate::engine) const BROADCAST_MAC: [u8; 6] = [0xff; 6];

pub(in crate::engine) const ICMP: u8 = 1;
pub(in crate::engine) const TCP: u8 = 6;
pub(in crate::engine) const UDP: u8 = 17;
pub(in crate::engine) const FRAGMENT: u8 = 44;
pub(in crate::engine) const ICMPV6: u8 = 58;

pub(in crate::engine) const FIN: u8 = 1;
pub(in crate::engine) const SYN: u8 = 2;
pub(in crate::engine) const RST: u8 = 4;
pub(in crate::engine) const PSH: u8 = 8;
pub(in crate::engine) const ACK: u8 = 16;

/// Bytes that no shift by less than their period leaves equal.
pub(in crate::engine) fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// A pseudo-random sequence; the same in every run.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Dice(u64);

impl Dice {
    pub(in crate::engine) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(in crate::engine) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(in crate::engine) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(in crate::engine) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    pub(in crate::engine) fn bytes(&mut self, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.byte()).take(len).collect()
    }

    /// A size that is small, middling or large with equal chance.
    pub(in crate::engine) fn size(&mut self, largest: usize) -> usize {
        let end = [16, 2_000, 20_000, largest][self.below(4)].min(largest);
        1 + self.below(end)
    }
}

pub(in crate::engine) fn ethernet(
    destination: [u8; 6],
    source: [u8; 6],
    kind: u16,
    body: &[u8],
) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes(), body].concat()
}

/// A frame from the guest to the gateway with an IP packet.
pub(in crate::engine) fn frame_of(packet: &[u8]) -> Vec<u8> {
    let kind = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    ethernet(GATEWAY_MAC, GUEST_MAC, kind, packet)
}

fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u16 {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let len = u32::try_from(len).unwrap().to_be_bytes();
    combine(&[data(&octets(from)), data(&octets(to)), data(&len), u16::from(protocol)])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Fills the checksum at `at` of an upper layer's bytes.
fn seal(from: IpAddr, to: IpAddr, protocol: u8, bytes: &mut [u8], at: usize) {
    put(bytes, at, 0);
    let sum = if protocol == ICMP {
        data(bytes)
    } else {
        combine(&[pseudo(from, to, protocol, bytes.len()), data(bytes)])
    };
    put(bytes, at, if sum == !0 && protocol == UDP { !0 } else { !sum });
}

/// One IP packet; `position` is (offset, more, id) of a fragment.
pub(in crate::engine) fn ip(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    payload: &[u8],
    position: Option<(usize, bool, u16)>,
) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            put(&mut header, 2, u16::try_from(20 + payload.len()).unwrap());
            if let Some((offset, more, id)) = position {
                put(&mut header, 4, id);
                let more = if more { 0x2000 } else { 0 };
                put(&mut header, 6, more | u16::try_from(offset / 8).unwrap());
            }
            let sum = !data(&header);
            put(&mut header, 10, sum);
            [&header, payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let extension = position.map(|(offset, more, id)| {
                let position = u16::try_from(offset).unwrap() | u16::from(more);
                let [p0, p1] = position.to_be_bytes();
                let [i0, i1] = id.to_be_bytes();
                vec![protocol, 0, p0, p1, 0, 0, i0, i1]
            });
            let next = if extension.is_some() { FRAGMENT } else { protocol };
            let extension = extension.unwrap_or_default();
            let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 64];
            header.extend(from.octets());
            header.extend(to.octets());
            put(&mut header, 4, u16::try_from(extension.len() + payload.len()).unwrap());
            [&header, &extension[..], payload].concat()
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// An IP packet as read; `protocol` is behind a fragment header, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Packet {
    pub(in crate::engine) from: IpAddr,
    pub(in crate::engine) to: IpAddr,
    pub(in crate::engine) protocol: u8,
    pub(in crate::engine) hop_limit: u8,
    /// (offset, more, id) of a fragment.
    pub(in crate::engine) position: Option<(usize, bool, u32)>,
    pub(in crate::engine) header_len: usize,
    pub(in crate::engine) payload: Vec<u8>,
}

/// Reads one IP packet, checking its lengths and IPv4 header checksum.
pub(in crate::engine) fn read_ip(bytes: &[u8]) -> Packet {
    if bytes[0] >> 4 == 6 {
        let address = |at: usize| {
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap()))
        };
        assert_eq!(usize::from(u16_at(bytes, 4)), bytes.len() - 40, "IPv6 payload length");
        let (mut protocol, mut header_len, mut position) = (bytes[6], 40, None);
        if protocol == FRAGMENT {
            let field = u16_at(bytes, 42);
            position = Some((usize::from(field & !7), field & 1 == 1, u32_at(bytes, 44)));
            protocol = bytes[40];
            header_len = 48;
        }
        return Packet {
            from: address(8),
            to: address(24),
            protocol,
            hop_limit: bytes[7],
            position,
            header_len,
            payload: bytes[header_len..].to_vec(),
        };
    }
    assert_eq!(bytes[0], 0x45, "an IPv4 header without options");
    assert_eq!(usize::from(u16_at(bytes, 2)), bytes.len(), "IPv4 total length");
    assert_eq!(data(&bytes[..20]), !0, "IPv4 header checksum");
    let address = |at: usize| {
        IpAddr::V4(Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]))
    };
    let field = u16_at(bytes, 6);
    let (offset, more) = (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0);
    Packet {
        from: address(12),
        to: address(16),
        protocol: bytes[9],
        hop_limit: bytes[8],
        position: (offset > 0 || more).then(|| (offset, more, u32::from(u16_at(bytes, 4)))),
        header_len: 20,
        payload: bytes[20..].to_vec(),
    }
}

impl Packet {
    /// Whether the upper layer's checksum is right.
    pub(in crate::engine) fn is_sealed(&self) -> bool {
        let sum = if self.protocol == ICMP {
            data(&self.payload)
        } else {
            let pseudo = pseudo(self.from, self.to, self.protocol, self.payload.len());
            combine(&[pseudo, data(&self.payload)])
        };
        sum == !0
    }
}

/// A TCP segment. Fields that a test does not care for come from [`Segment::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Segment {
    pub(in crate::engine) from: SocketAddr,
    pub(in crate::engine) to: SocketAddr,
    pub(in crate::engine) flags: u8,
    pub(in crate::engine) seq: u32,
    pub(in crate::engine) ack: u32,
    pub(in crate::engine) window: u16,
    pub(in crate::engine) options: Vec<u8>,
    pub(in crate::engine) payload: Vec<u8>,
}

impl Segment {
    pub(in crate::engine) fn new(
        from: SocketAddr,
        to: SocketAddr,
        flags: u8,
        seq: u32,
        ack: u32,
    ) -> Self {
        let (window, options, payload) = (60_000, Vec::new(), Vec::new());
        Self { from, to, flags, seq, ack, window, options, payload }
    }

    /// A SYN with the options of Linux but for timestamps: MSS, SACK permitted, window scale 7.
    pub(in crate::engine) fn syn(from: SocketAddr, to: SocketAddr, mss: u16) -> Self {
        let [m0, m1] = mss.to_be_bytes();
        let options = vec![2, 4, m0, m1, 4, 2, 1, 3, 3, 7, 1, 1];
        Self { options, ..Self::new(from, to, SYN, 1000, 0) }
    }

    pub(in crate::engine) fn with(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    pub(in crate::engine) fn packet(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        let offset = u8::try_from(5 + self.options.len().div_ceil(4)).unwrap() << 4;
        bytes.extend([offset, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.resize(usize::from(offset >> 4) * 4, 0);
        bytes.extend(&self.payload);
        seal(self.from.ip(), self.to.ip(), TCP, &mut bytes, 16);
        ip(self.from.ip(), self.to.ip(), TCP, &bytes, None)
    }

    pub(in crate::engine) fn read(packet: &[u8]) -> Self {
        let ip = read_ip(packet);
        assert_eq!(ip.protocol, TCP, "not TCP: {ip:?}");
        assert!(ip.is_sealed(), "TCP checksum");
        let bytes = &ip.payload;
        let header_len = usize::from(bytes[12] >> 4) * 4;
        Self {
            from: SocketAddr::new(ip.from, u16_at(bytes, 0)),
            to: SocketAddr::new(ip.to, u16_at(bytes, 2)),
            seq: u32_at(bytes, 4),
            ack: u32_at(bytes, 8),
            flags: bytes[13],
            window: u16_at(bytes, 14),
            options: bytes[20..header_len].to_vec(),
            payload: bytes[header_len..].to_vec(),
        }
    }

    /// The value of the MSS option.
    pub(in crate::engine) fn mss(&self) -> Option<u16> {
        self.option(2).map(|value| u16_at(value, 0))
    }

    pub(in crate::engine) fn option(&self, wanted: u8) -> Option<&[u8]> {
        let mut at = 0;
        while at < self.options.len() {
            match self.options[at] {
                0 => return None,
                1 => at += 1,
                kind => {
                    let end = at + usize::from(self.options[at + 1]);
                    if kind == wanted {
                        return Some(&self.options[at + 2..end]);
                    }
                    at = end;
                }
            }
        }
        None
    }
}

/// A UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Datagram {
    pub(in crate::engine) from: SocketAddr,
    pub(in crate::engine) to: SocketAddr,
    pub(in crate::engine) payload: Vec<u8>,
}

impl Datagram {
    pub(in crate::engine) fn new(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Self {
        Self { from, to, payload: payload.to_vec() }
    }

    pub(in crate::engine) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(&self.payload);
        seal(self.from.ip(), self.to.ip(), UDP, &mut bytes, 6);
        bytes
    }

    pub(in crate::engine) fn packet(&self) -> Vec<u8> {
        ip(self.from.ip(), self.to.ip(), UDP, &self.bytes(), None)
    }

    /// The same cut into fragments of an MTU, in order.
    pub(in crate::engine) fn fragments(&self, mtu: usize, id: u16) -> Vec<Vec<u8>> {
        let overhead = if self.from.is_ipv6() { 48 } else { 20 };
        let step = (mtu - overhead) & !7;
        let bytes = self.bytes();
        let count = bytes.chunks(step).count();
        let piece = |(index, piece): (usize, &[u8])| {
            let position = Some((index * step, index + 1 < count, id));
            ip(self.from.ip(), self.to.ip(), UDP, piece, position)
        };
        bytes.chunks(step).enumerate().map(piece).collect()
    }

    pub(in crate::engine) fn read(packet: &[u8]) -> Self {
        Self::of(&read_ip(packet))
    }

    pub(in crate::engine) fn of(ip: &Packet) -> Self {
        assert_eq!(ip.protocol, UDP, "not UDP: {ip:?}");
        assert!(ip.is_sealed(), "UDP checksum");
        Self::of_unsealed(ip)
    }

    /// Reads what an ICMP error quotes, whose checksum is nobody's business any more.
    pub(in crate::engine) fn read_unsealed(packet: &[u8]) -> Self {
        Self::of_unsealed(&read_ip(packet))
    }

    fn of_unsealed(ip: &Packet) -> Self {
        let bytes = &ip.payload;
        assert_eq!(usize::from(u16_at(bytes, 4)), bytes.len(), "UDP length");
        Self {
            from: SocketAddr::new(ip.from, u16_at(bytes, 0)),
            to: SocketAddr::new(ip.to, u16_at(bytes, 2)),
            payload: bytes[8..].to_vec(),
        }
    }

    /// Puts fragments together that came in order.
    pub(in crate::engine) fn of_fragments(packets: &[Vec<u8>]) -> Self {
        let pieces: Vec<_> = packets.iter().map(|packet| read_ip(packet)).collect();
        let mut whole = Packet { position: None, payload: Vec::new(), ..pieces[0].clone() };
        let id = pieces[0].position.unwrap().2;
        for (index, piece) in pieces.iter().enumerate() {
            let expected = Some((whole.payload.len(), index + 1 < pieces.len(), id));
            assert_eq!(piece.position, expected, "fragment {index}");
            whole.payload.extend(&piece.payload);
        }
        Self::of(&whole)
    }
}

/// An ICMP or ICMPv6 message with a right checksum; `body` begins behind it.
pub(in crate::engine) fn icmp(
    from: IpAddr,
    to: IpAddr,
    kind: u8,
    code: u8,
    body: &[u8],
) -> Vec<u8> {
    let protocol = if from.is_ipv6() { ICMPV6 } else { ICMP };
    let mut bytes = [&[kind, code, 0, 0], body].concat();
    seal(from, to, protocol, &mut bytes, 2);
    let mut packet = ip(from, to, protocol, &bytes, None);
    if from.is_ipv6() && (133..=137).contains(&kind) {
        packet[7] = 255;
    }
    packet
}

/// Does with a frame what the guest's kernel does: cuts super-frames, finishes checksums.
/// Returns IP packets that fit the link; anything but IP comes back empty-handed.
pub(in crate::engine) fn receive(frame: &[u8], vnet: bool, mtu: usize) -> Vec<Vec<u8>> {
    receive_at(GUEST_MAC, frame, vnet, mtu)
}

/// The same for the guest with that hardware address.
pub(in crate::engine) fn receive_at(
    mac: [u8; 6],
    frame: &[u8],
    vnet: bool,
    mtu: usize,
) -> Vec<Vec<u8>> {
    let (header, frame) = frame.split_at(if vnet { 10 } else { 0 });
    assert_eq!(frame[..6], mac, "destination hardware address");
    assert_eq!(frame[6..12], GATEWAY_MAC, "source hardware address");
    let mut packet = frame[14..].to_vec();
    let ip_len = match u16_at(frame, 12) {
        0x0800 => 20,
        0x86dd => 40,
        _ => {
            assert!(header.iter().all(|byte| *byte == 0), "offload of something else than IP");
            return Vec::new();
        }
    };
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    if !vnet || header[0] == 0 {
        assert!(header.iter().all(|byte| *byte == 0), "a header that offloads nothing: {header:?}");
        assert!(packet.len() <= mtu, "{} bytes on a link of {mtu}", packet.len());
        return vec![packet];
    }
    assert_eq!(header[0], 1, "NEEDS_CSUM alone");
    assert_eq!(usize::from(field(6)), 14 + ip_len, "csum_start");
    let protocol = packet[if ip_len == 40 { 6 } else { 9 }];
    let at = if protocol == TCP { 16 } else { 6 };
    assert_eq!(usize::from(field(8)), at, "csum_offset");
    let upper_len = if protocol == TCP { usize::from(packet[ip_len + 12] >> 4) * 4 } else { 8 };
    assert_eq!(usize::from(field(2)), 14 + ip_len + upper_len, "hdr_len");
    let sealed = |packet: &mut [u8]| {
        let sum = !data(&packet[ip_len..]);
        put(&mut packet[ip_len..], at, sum);
    };
    if header[1] == 0 {
        assert_eq!(field(4), 0, "gso_size");
        assert!(packet.len() <= mtu, "{} bytes on a link of {mtu}", packet.len());
        sealed(&mut packet);
        return vec![packet];
    }
    if header[1] == 5 {
        return cut_datagrams(packet, field(4).into(), mtu);
    }
    assert_eq!(header[1], if ip_len == 40 { 4 } else { 1 }, "gso_type");
    assert_eq!(protocol, TCP, "TCP is cut as TCP");
    let whole = {
        let mut whole = packet.clone();
        sealed(&mut whole);
        Segment::read(&whole)
    };
    let size = usize::from(field(4));
    assert!(whole.payload.len() > size, "a super-frame of one segment");
    assert!(whole.payload.len().div_ceil(size) <= 64, "more than 64 segments");
    assert_eq!(whole.flags & (SYN | RST), 0, "a super-frame that opens or resets");
    let last = whole.payload.len().div_ceil(size) - 1;
    let cut = |(index, payload): (usize, &[u8])| {
        let flags = if index == last { whole.flags } else { whole.flags & !(FIN | PSH) };
        let seq = whole.seq.wrapping_add(u32::try_from(index * size).unwrap());
        let packet = Segment { flags, seq, ..whole.clone() }.with(payload).packet();
        assert!(packet.len() <= mtu, "{} bytes on a link of {mtu}", packet.len());
        packet
    };
    whole.payload.chunks(size).enumerate().map(cut).collect()
}

/// What the guest's kernel makes of several UDP datagrams in one packet.
fn cut_datagrams(mut packet: Vec<u8>, size: usize, mtu: usize) -> Vec<Vec<u8>> {
    let ip_len = if packet[0] >> 4 == 6 { 40 } else { 20 };
    let sum = !data(&packet[ip_len..]);
    put(&mut packet[ip_len..], 6, sum);
    let whole = Datagram::read(&packet);
    assert!(whole.payload.len() > size, "a super-frame of one datagram");
    assert!(whole.payload.len().div_ceil(size) <= 64, "more than 64 datagrams");
    let cut = |payload: &[u8]| {
        let packet = Datagram::new(whole.from, whole.to, payload).packet();
        assert!(packet.len() <= mtu, "{} bytes on a link of {mtu}", packet.len());
        packet
    };
    whole.payload.chunks(size).map(cut).collect()
}

/// Does with packets what the guest's kernel does before its TAP: joins the segments of a stream
/// to super-frames and leaves checksums unfinished, where the TAP has the virtio header.
pub(in crate::engine) fn transmit(packets: Vec<Vec<u8>>, vnet: bool) -> Vec<Vec<u8>> {
    if !vnet {
        return packets.iter().map(|packet| frame_of(packet)).collect();
    }
    let is_tcp = |packet: &[u8]| packet[if packet[0] >> 4 == 6 { 6 } else { 9 }] == TCP;
    let mut frames = Vec::new();
    let mut pending: Option<(Segment, usize)> = None;
    for packet in packets {
        if !is_tcp(&packet) {
            frames.extend(pending.take().map(|(segment, size)| super_frame(&segment, size)));
            frames.push([&[0; 10], &frame_of(&packet)[..]].concat());
            continue;
        }
        let next = Segment::read(&packet);
        if let Some((segment, size)) = &mut pending {
            let end = segment.seq.wrapping_add(u32::try_from(segment.payload.len()).unwrap());
            let joins = (segment.from, segment.to, segment.ack, end)
                == (next.from, next.to, next.ack, next.seq)
                && segment.flags == ACK
                && next.flags & (SYN | RST) == 0
                && segment.payload.len().is_multiple_of(*size)
                && (1..=*size).contains(&next.payload.len())
                && segment.payload.len() + next.payload.len() <= 60_000;
            if joins {
                segment.payload.extend(&next.payload);
                segment.flags = next.flags;
                segment.window = next.window;
                continue;
            }
        }
        frames.extend(pending.take().map(|(segment, size)| super_frame(&segment, size)));
        let size = next.payload.len().max(1);
        pending = Some((next, size));
    }
    frames.extend(pending.map(|(segment, size)| super_frame(&segment, size)));
    frames
}

fn super_frame(segment: &Segment, size: usize) -> Vec<u8> {
    let mut packet = segment.packet();
    let v6 = segment.from.is_ipv6();
    let ip_len: u16 = if v6 { 40 } else { 20 };
    let upper = &mut packet[usize::from(ip_len)..];
    let sum = pseudo(segment.from.ip(), segment.to.ip(), TCP, upper.len());
    put(upper, 16, sum);
    let header_len = 14 + ip_len + u16::from(upper[12] >> 4) * 4;
    let cut = segment.payload.len() > size;
    let [h0, h1] = header_len.to_le_bytes();
    let [s0, s1] = if cut { u16::try_from(size).unwrap() } else { 0 }.to_le_bytes();
    let [c0, c1] = (14 + ip_len).to_le_bytes();
    let kind = match (cut, v6) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 4,
    };
    [&[1, kind, h0, h1, s0, s1, c0, c1, 16, 0], &frame_of(&packet)[..]].concat()
}
