//! Packets as a guest's kernel, or somebody who holds its raw socket, would write them; and the
//! checks that every frame towards a guest must pass.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::checksum::{combine, data, pseudo_header};
use smoltcp::wire::{
    ArpPacket, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet,
    Ipv6FragmentHeader, Ipv6Packet, TcpPacket, UdpPacket,
};

pub const VNET: usize = 10;
const ETHERNET: usize = 14;
pub const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x64];
pub const GATEWAY_MAC: [u8; 6] = [2, b'r', b'n', 0, 0, 2];

/// A position in a datagram: identification, offset in bytes, more to follow.
pub type Fragment = (u32, usize, bool);

fn sum(addresses: (IpAddr, IpAddr), protocol: IpProtocol, payload: &[u8]) -> u16 {
    let (source, destination) = addresses;
    let length = u32::try_from(payload.len()).unwrap();
    let pseudo = pseudo_header(&source.into(), &destination.into(), protocol, length);
    !combine(&[pseudo, data(payload)])
}

/// Writes the checksum of a TCP, UDP, ICMP or ICMPv6 payload, if it is long enough to have one.
pub fn finish(addresses: (IpAddr, IpAddr), protocol: IpProtocol, payload: &mut [u8]) {
    let at = match protocol {
        IpProtocol::Tcp => 16,
        IpProtocol::Udp => 6,
        _ => 2,
    };
    if payload.len() < at + 2 {
        return;
    }
    payload[at..at + 2].fill(0);
    let sum = match protocol {
        IpProtocol::Icmp => !data(payload),
        _ => sum(addresses, protocol, payload),
    };
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// An IP packet around `payload`; `None` if it would be too long for one.
pub fn ip(
    addresses: (IpAddr, IpAddr),
    protocol: IpProtocol,
    hop_limit: u8,
    fragment: Option<Fragment>,
    payload: &[u8],
) -> Option<Vec<u8>> {
    match addresses {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut bytes = vec![0; 20 + payload.len()];
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
            packet.set_version(4);
            packet.set_header_len(20);
            packet.set_total_len(u16::try_from(20 + payload.len()).ok()?);
            packet.set_hop_limit(hop_limit);
            packet.set_next_header(protocol);
            packet.set_src_addr(source);
            packet.set_dst_addr(destination);
            if let Some((id, offset, more)) = fragment {
                packet.set_ident(id as u16);
                packet.set_frag_offset((offset & 0xfff8) as u16);
                packet.set_more_frags(more);
            }
            packet.fill_checksum();
            bytes[20..].copy_from_slice(payload);
            Some(bytes)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let extension = if fragment.is_some() { 8 } else { 0 };
            let mut bytes = vec![0; 40 + extension + payload.len()];
            let mut packet = Ipv6Packet::new_unchecked(&mut bytes);
            packet.set_version(6);
            packet.set_payload_len(u16::try_from(extension + payload.len()).ok()?);
            packet.set_hop_limit(hop_limit);
            packet.set_src_addr(source);
            packet.set_dst_addr(destination);
            packet.set_next_header(protocol);
            if let Some((id, offset, more)) = fragment {
                packet.set_next_header(IpProtocol::Ipv6Frag);
                bytes[40] = protocol.into();
                let mut header = Ipv6FragmentHeader::new_unchecked(&mut bytes[42..]);
                header.set_frag_offset((offset / 8) as u16);
                header.set_more_frags(more);
                header.set_ident(id);
            }
            bytes[40 + extension..].copy_from_slice(payload);
            Some(bytes)
        }
        _ => None,
    }
}

/// The packet with more headers: options of IPv4, or one or two headers of options of IPv6. `bits`
/// choose which and how many; an option may be one that nobody knows.
pub fn with_headers(bits: u8, packet: &[u8]) -> Option<Vec<u8>> {
    let unknown = [1, 0x1e, 0x9e, 0xde][usize::from(bits >> 6)];
    if packet[0] >> 4 == 4 {
        let words = 1 + usize::from(bits & 7);
        let option = [[1, 1, 1, 1], [0, 0, 0, 0], [131, 3, 4, 1], [unknown, 4, 0, 0]];
        let options = option[usize::from(bits >> 3 & 3)].repeat(words);
        let mut bytes = [&packet[..20], &options, &packet[20..]].concat();
        let total = u16::try_from(bytes.len()).ok()?;
        let mut header = Ipv4Packet::new_unchecked(&mut bytes);
        header.set_header_len(20 + 4 * words as u8);
        header.set_total_len(total);
        header.fill_checksum();
        return Some(bytes);
    }
    let mut bytes = packet.to_vec();
    for place in 0..1 + (bits & 1) {
        // Hop-by-hop options come first (RFC 8200, section 4.1), or against the rule.
        let kind = if bits >> 1 & 1 == place { 60 } else { 0 };
        let header = [bytes[6], 0, unknown, 4, 0, 0, 0, 0];
        bytes[6] = kind;
        bytes.splice(40..40, header);
    }
    let length = u16::try_from(bytes.len() - 40).ok()?;
    Ipv6Packet::new_unchecked(&mut bytes).set_payload_len(length);
    Some(bytes)
}

/// The virtio header of a TCP or UDP packet with an unfinished checksum, to be cut into pieces of
/// `size` bytes.
pub fn several(packet: &[u8], size: u16) -> Option<[u8; VNET]> {
    let v6 = packet[0] >> 4 == 6;
    let (mut protocol, mut at) =
        if v6 { (packet[6], 40) } else { (packet[9], usize::from(packet[0] & 15) * 4) };
    while v6 && (protocol == 0 || protocol == 60) {
        (protocol, at) = (*packet.get(at)?, at + 8 + 8 * usize::from(*packet.get(at + 1)?));
    }
    let (kind, field) = match (protocol, v6) {
        (17, _) => (5, 6),
        (6, false) => (1, 16),
        (6, true) => (4, 16),
        _ => return None,
    };
    let [c0, c1] = u16::try_from(ETHERNET + at).ok()?.to_le_bytes();
    let [s0, s1] = size.to_le_bytes();
    Some([1, kind, 0, 0, s0, s1, c0, c1, field, 0])
}

/// A frame from the guest to the gateway.
pub fn frame(vnet: Option<[u8; VNET]>, ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(vnet.as_ref().map_or(&[][..], |header| header));
    bytes.extend_from_slice(&GATEWAY_MAC);
    bytes.extend_from_slice(&GUEST_MAC);
    bytes.extend_from_slice(&ethertype.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A TCP segment that the engine has sent, as the guest's kernel remembers it.
pub struct Segment {
    pub guest: SocketAddr,
    pub host: SocketAddr,
    /// The sequence number after it.
    pub next: i32,
    pub ack: i32,
}

/// Checks a frame towards the guest: whole, with right lengths and checksums, of a size that the
/// link takes, and an offload header that Linux would take. Returns its TCP segment, if it is one.
pub fn check(vnet: bool, mtu: usize, raw: &[u8]) -> Option<Segment> {
    let (offload, ethernet) = raw.split_at(if vnet { VNET } else { 0 });
    let header = EthernetFrame::new_checked(ethernet).expect("a whole Ethernet header");
    assert_eq!(header.src_addr().0, GATEWAY_MAC, "sent under another's hardware address");
    let body = header.payload();
    let (source, destination, protocol, payload, header_len, fragment): (
        IpAddr,
        IpAddr,
        _,
        &[u8],
        usize,
        bool,
    ) = match header.ethertype() {
        EthernetProtocol::Arp => {
            ArpPacket::new_checked(body).expect("a whole ARP packet");
            assert!(!vnet || offload.iter().all(|byte| *byte == 0), "an offloaded ARP packet");
            return None;
        }
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(body).expect("a whole IPv4 packet");
            assert!(packet.verify_checksum(), "a wrong IPv4 header checksum");
            assert_eq!(usize::from(packet.total_len()), body.len(), "a trailer");
            let header_len = usize::from(packet.header_len());
            let fragment = packet.more_frags() || packet.frag_offset() != 0;
            let end = usize::from(packet.frag_offset()) + body.len();
            assert!(end <= 65_535, "fragments of more than a packet can be: {end}");
            (
                packet.src_addr().into(),
                packet.dst_addr().into(),
                packet.next_header(),
                &body[header_len..],
                header_len,
                fragment,
            )
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(body).expect("a whole IPv6 packet");
            assert_eq!(packet.total_len(), body.len(), "a trailer");
            let fragment = packet.next_header() == IpProtocol::Ipv6Frag;
            (
                packet.src_addr().into(),
                packet.dst_addr().into(),
                packet.next_header(),
                packet.payload(),
                40,
                fragment,
            )
        }
        EthernetProtocol::Unknown(other) => panic!("a frame of type {other:#x}"),
    };
    let addresses = (source, destination);
    let gso = vnet && offload[1] != 0;
    assert!(gso || body.len() <= mtu, "{} bytes of IP on a link that takes {mtu}", body.len());
    if fragment {
        assert!(!vnet || offload.iter().all(|byte| *byte == 0), "an offloaded fragment");
        return None;
    }
    let unfinished = vnet && offload[0] & 1 != 0;
    if unfinished {
        let start = usize::from(u16::from_le_bytes([offload[6], offload[7]]));
        let offset = usize::from(u16::from_le_bytes([offload[8], offload[9]]));
        assert_eq!(start, ETHERNET + header_len, "csum_start");
        assert_eq!(offset, if protocol == IpProtocol::Tcp { 16 } else { 6 }, "csum_offset");
        let length = u32::try_from(payload.len()).unwrap();
        let pseudo = pseudo_header(&source.into(), &destination.into(), protocol, length);
        let field = u16::from_be_bytes([payload[offset], payload[offset + 1]]);
        assert_eq!(field, pseudo, "an unfinished checksum that cannot be finished");
    }
    assert!(unfinished || !gso, "a super-frame with a finished checksum");
    match protocol {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(payload).expect("a whole TCP segment");
            assert!(unfinished || sum(addresses, protocol, payload) == 0, "a wrong TCP checksum");
            if gso {
                let size = usize::from(u16::from_le_bytes([offload[4], offload[5]]));
                let headers = usize::from(u16::from_le_bytes([offload[2], offload[3]]));
                let tcp_header_len = usize::from(tcp.header_len());
                assert_eq!(headers, ETHERNET + header_len + tcp_header_len, "hdr_len");
                assert_eq!(offload[1], if source.is_ipv4() { 1 } else { 4 }, "gso_type");
                assert!(size > 0 && size < tcp.payload().len(), "gso_size {size}");
                // No MSS is below 48 (Linux's TCP_MIN_SND_MSS), however small the link.
                let fits = header_len + tcp_header_len + size <= mtu.max(header_len + 20 + 48);
                assert!(fits, "segments of {size} bytes");
                assert!(!tcp.syn() && !tcp.rst(), "a SYN or RST to be cut");
            }
            Some(Segment {
                guest: SocketAddr::new(destination, tcp.dst_port()),
                host: SocketAddr::new(source, tcp.src_port()),
                next: tcp.seq_number().0.wrapping_add(tcp.segment_len() as i32),
                ack: tcp.ack_number().0,
            })
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(payload).expect("a whole UDP datagram");
            assert_eq!(usize::from(udp.len()), payload.len(), "a UDP trailer");
            assert!(unfinished || udp.checksum() != 0, "no UDP checksum");
            assert!(unfinished || sum(addresses, protocol, payload) == 0, "a wrong UDP checksum");
            if gso {
                let size = usize::from(u16::from_le_bytes([offload[4], offload[5]]));
                assert_eq!(offload[1], 5, "gso_type");
                assert!(header_len + 8 + size <= mtu, "datagrams of {size} bytes");
                // What every kernel takes (UDP_MAX_SEGMENTS, Linux 4.18).
                let count = (payload.len() - 8).div_ceil(size);
                assert!((2..=64).contains(&count), "{count} datagrams in one frame");
            }
            None
        }
        IpProtocol::Icmp => {
            Icmpv4Packet::new_checked(payload).expect("a whole ICMP message");
            assert_eq!(data(payload), !0, "a wrong ICMP checksum");
            None
        }
        IpProtocol::Icmpv6 => {
            Icmpv6Packet::new_checked(payload).expect("a whole ICMPv6 message");
            assert_eq!(sum(addresses, protocol, payload), 0, "a wrong ICMPv6 checksum");
            None
        }
        other => panic!("a packet of protocol {other}"),
    }
}
