//! Frames as they cross a TAP: a virtio header, an Ethernet header, an IP packet.
//!
//! Owns the one checked parse of what a guest sends ([`parse`]) and the composing of what it is
//! sent ([`Composer`]). Every length is checked against the frame here, once, and checksums are
//! verified unless the virtio header vouches for them; what follows works on typed views.
//! Read first: RFC 791, RFC 8200 section 4, and `struct virtio_net_hdr` (virtio 1.2, 5.1.6).
//! Not here: what a packet means ([`super::gateway`]) and TCP segments, which
//! [`super::stack`] writes itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IPV6_HEADER_LEN, IpProtocol, IpRepr,
    Ipv4Packet, Ipv6FragmentHeader, Ipv6Packet, TcpPacket, UDP_HEADER_LEN, UdpPacket,
    checksum::{combine, data, pseudo_header},
};

use super::host::IpFields;
use super::machines::Machines;
use super::stats::DropReason;
use crate::config::MacAddress;

/// Length of `struct virtio_net_hdr` without the merged-buffers field, in bytes.
pub const VNET_HEADER_LEN: usize = 10;
/// Length of an Ethernet II header, in bytes.
pub const ETHERNET_HEADER_LEN: usize = 14;
/// Head-room before the IP packet in every buffer, in bytes. A TAP without the virtio header
/// skips its part of it.
pub const HEADROOM: usize = VNET_HEADER_LEN + ETHERNET_HEADER_LEN;
/// The largest frame with its head-room, in bytes: a full IPv4 or IPv6 packet of 65,535 bytes, or
/// an IPv6 header more for a super-frame whose payload alone is that long.
pub const MAX_FRAME_LEN: usize = HEADROOM + 65_535 + 40;

/// The longest IP packet that an ordinary link takes, in bytes (RFC 894).
const ETHERNET_MTU: usize = 1500;
/// The bits of the traffic class that are congestion notification's (RFC 3168, section 5).
const ECN: u8 = 3;
/// How many IPv6 extension headers are followed before the packet is dropped.
const MAX_EXTENSION_HEADERS: usize = 8;

/// The most UDP datagrams in one frame, as Linux has it (`UDP_MAX_SEGMENTS`: 64, 128 of late). Each
/// costs a request to the host or a DNS query, so one frame must not be sixty thousand.
const MAX_UDP_SEGMENTS: usize = 128;

/// Where TCP's and UDP's headers have their checksums, in bytes.
const TCP_CHECKSUM_AT: u16 = 16;
const UDP_CHECKSUM_AT: u16 = 6;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Where a port's frames come from and go to.
#[derive(Debug, Clone)]
pub struct Link {
    /// The guest's hardware address; of several machines that of the one that spoke last.
    pub guest_mac: MacAddress,
    /// Which of them has which address, once there are several.
    pub(super) machines: Machines,
    /// The gateway's hardware address.
    pub gateway_mac: MacAddress,
    /// Largest IP packet on the link, in bytes.
    pub mtu: usize,
    /// Whether frames carry the virtio header, and so unfinished checksums and super-frames.
    pub vnet: bool,
    /// Whether super-frames may be of UDP too (Linux 6.2).
    pub uso: bool,
}

impl Link {
    /// The hardware address that a packet for an address goes to.
    fn mac_of(&self, address: IpAddr) -> MacAddress {
        if self.machines.is_empty() {
            return self.guest_mac;
        }
        self.machines.find(address).unwrap_or(self.guest_mac)
    }
}

/// A frame from a guest whose lengths have been checked.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Source hardware address.
    pub source: MacAddress,
    /// Destination hardware address.
    pub destination: MacAddress,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a frame carries.
#[derive(Debug)]
pub enum Payload<'a> {
    /// An ARP packet, unparsed.
    Arp(&'a [u8]),
    /// An IP packet.
    Ip(IpPacket<'a>),
}

/// An IPv4 or IPv6 packet, trimmed to the length its header states.
#[derive(Debug)]
pub struct IpPacket<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Type of service or traffic class, ECN included.
    pub traffic_class: u8,
    /// Whether no router may cut it: a flag of IPv4, and the rule of IPv6.
    pub dont_fragment: bool,
    /// The upper layer's protocol, behind any extension headers.
    pub protocol: IpProtocol,
    /// Set when the packet is a fragment of a larger one.
    pub fragment: Option<Fragment>,
    /// The whole packet.
    pub bytes: &'a mut [u8],
    /// Where the upper layer begins in `bytes`.
    pub header_len: usize,
    /// The upper layer's checksum is vouched for by the guest's kernel.
    pub checksum_vouched: bool,
    /// Set when this is several TCP segments or UDP datagrams in one: the payload of each but the
    /// last, in bytes.
    pub segment: Option<u16>,
}

/// Position of a fragment (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Identification field.
    pub id: u32,
    /// Offset of its first byte in the whole payload, in bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
}

impl IpPacket<'_> {
    /// The upper layer's bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.header_len..).unwrap_or_default()
    }

    /// What a router that hands the packet on keeps of its header.
    #[must_use]
    pub fn onward(&self) -> IpFields {
        IpFields {
            // What has made its last hop is here because it was for the gateway, and has arrived.
            hop_limit: Some(self.hop_limit.saturating_sub(1).max(1)),
            // A link that takes more than Ethernet's packets ends here: what is beyond is not the
            // guest's to know, and no path takes them whole.
            dont_fragment: self.dont_fragment && self.longest() <= ETHERNET_MTU,
            traffic_class: self.traffic_class & !ECN,
        }
    }

    /// The length of the longest packet that this one stands for, in bytes.
    pub(super) fn longest(&self) -> usize {
        let upper = match self.protocol {
            IpProtocol::Tcp => self.payload().get(12).map_or(0, |word| usize::from(word >> 4) * 4),
            _ => UDP_HEADER_LEN,
        };
        match self.segment {
            Some(segment) => self.bytes.len().min(self.header_len + upper + usize::from(segment)),
            None => self.bytes.len(),
        }
    }

    /// The same packet without IPv6 extension headers, none of which means anything to TCP: smoltcp
    /// knows but one of them and answers others with errors.
    pub(super) fn without_extensions(mut self) -> Self {
        let extra = self.header_len.saturating_sub(IPV6_HEADER_LEN);
        if self.source.is_ipv6() && extra > 0 && self.header_len <= self.bytes.len() {
            self.bytes.copy_within(..IPV6_HEADER_LEN, extra);
            self.bytes = self.bytes.get_mut(extra..).unwrap_or_default();
            self.header_len = IPV6_HEADER_LEN;
            let length = self.bytes.len().saturating_sub(IPV6_HEADER_LEN);
            let mut header = Ipv6Packet::new_unchecked(&mut *self.bytes);
            header.set_next_header(self.protocol);
            header.set_payload_len(u16::try_from(length).unwrap_or(u16::MAX));
        }
        self
    }

    /// Verifies the upper layer's length and checksum, unless the virtio header vouched for it.
    ///
    /// # Errors
    /// [`DropReason::Malformed`] or [`DropReason::BadChecksum`].
    pub fn verify(&self) -> Result<(), DropReason> {
        let (source, destination, payload) = (self.source, self.destination, self.payload());
        let vouched = self.checksum_vouched;
        let valid = match self.protocol {
            IpProtocol::Tcp => {
                let tcp = TcpPacket::new_checked(payload).map_err(|_| DropReason::Malformed)?;
                vouched || tcp.verify_checksum(&source.into(), &destination.into())
            }
            IpProtocol::Udp => {
                let udp = UdpPacket::new_checked(payload).map_err(|_| DropReason::Malformed)?;
                // RFC 8200, section 8.1: over IPv6 there is no datagram without a checksum.
                let missing = source.is_ipv6() && udp.checksum() == 0;
                vouched || (!missing && udp.verify_checksum(&source.into(), &destination.into()))
            }
            IpProtocol::Icmp => payload.len() >= 8 && data(payload) == !0,
            IpProtocol::Icmpv6 => {
                let length = u32::try_from(payload.len()).map_err(|_| DropReason::Malformed)?;
                payload.len() >= 4
                    && combine(&[
                        pseudo_sum(source, destination, IpProtocol::Icmpv6, length),
                        data(payload),
                    ]) == !0
            }
            _ => true,
        };
        if valid { Ok(()) } else { Err(DropReason::BadChecksum) }
    }
}

/// The sum of the pseudo-header that TCP, UDP and ICMPv6 checksums begin with.
pub(super) fn pseudo_sum(
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    length: u32,
) -> u16 {
    pseudo_header(&source.into(), &destination.into(), protocol, length)
}

/// Parses a frame as read from a TAP.
///
/// # Errors
/// The reason to drop and count it.
pub fn parse(raw: &mut [u8], vnet: bool) -> Result<Frame<'_>, DropReason> {
    let (offload, ethernet) = if vnet {
        let (header, rest) =
            raw.split_first_chunk_mut::<VNET_HEADER_LEN>().ok_or(DropReason::Malformed)?;
        (Offload::parse(*header), rest)
    } else {
        (Offload::default(), raw)
    };
    let header = EthernetFrame::new_checked(&*ethernet).map_err(|_| DropReason::Malformed)?;
    let (source, destination) = (header.src_addr(), header.dst_addr());
    let protocol = header.ethertype();
    let body = ethernet.get_mut(ETHERNET_HEADER_LEN..).ok_or(DropReason::Malformed)?;
    let payload = match protocol {
        EthernetProtocol::Arp if offload.is_none() => Payload::Arp(body),
        // A checksum to be finished there would be written over what has been checked.
        EthernetProtocol::Arp => return Err(DropReason::BadOffload),
        EthernetProtocol::Ipv4 => Payload::Ip(parse_ipv4(body, &offload)?),
        EthernetProtocol::Ipv6 => Payload::Ip(parse_ipv6(body, &offload)?),
        EthernetProtocol::Unknown(_) => return Err(DropReason::UnknownEtherType),
    };
    Ok(Frame { source: MacAddress(source.0), destination: MacAddress(destination.0), payload })
}

fn parse_ipv4<'a>(body: &'a mut [u8], offload: &Offload) -> Result<IpPacket<'a>, DropReason> {
    let header = Ipv4Packet::new_checked(&*body).map_err(|_| DropReason::Malformed)?;
    if header.version() != 4 || usize::from(header.header_len()) < 20 {
        return Err(DropReason::Malformed);
    }
    if !header.verify_checksum() {
        return Err(DropReason::BadChecksum);
    }
    let header_len = usize::from(header.header_len());
    let total_len = usize::from(header.total_len());
    let (source, destination) = (header.src_addr(), header.dst_addr());
    let (hop_limit, protocol) = (header.hop_limit(), header.next_header());
    let traffic_class = header.dscp() << 2 | header.ecn();
    let dont_fragment = header.dont_frag();
    let fragment = (header.more_frags() || header.frag_offset() != 0).then(|| Fragment {
        id: u32::from(header.ident()),
        offset: usize::from(header.frag_offset()),
        more: header.more_frags(),
    });
    let payload_len = total_len.saturating_sub(header_len);
    let checksum_vouched =
        offload.vouches(protocol, (header_len, payload_len), fragment.is_some(), false)?;
    let bytes = body.get_mut(..total_len).ok_or(DropReason::Malformed)?;
    Ok(IpPacket {
        source: IpAddr::V4(source),
        destination: IpAddr::V4(destination),
        hop_limit,
        traffic_class,
        dont_fragment,
        protocol,
        fragment,
        bytes,
        header_len,
        checksum_vouched,
        segment: offload.segment(),
    })
}

fn parse_ipv6<'a>(body: &'a mut [u8], offload: &Offload) -> Result<IpPacket<'a>, DropReason> {
    let header = Ipv6Packet::new_checked(&*body).map_err(|_| DropReason::Malformed)?;
    if header.version() != 6 {
        return Err(DropReason::Malformed);
    }
    let total_len = header.total_len();
    let (source, destination) = (header.src_addr(), header.dst_addr());
    let (hop_limit, traffic_class) = (header.hop_limit(), header.traffic_class());
    let mut protocol = header.next_header();
    let bytes = body.get_mut(..total_len).ok_or(DropReason::Malformed)?;
    let mut header_len = 40;
    let mut fragment = None;
    for _ in 0..MAX_EXTENSION_HEADERS {
        let rest = bytes.get(header_len..).ok_or(DropReason::Malformed)?;
        match protocol {
            IpProtocol::HopByHop | IpProtocol::Ipv6Opts => {
                let &[next, length, ..] = rest else {
                    return Err(DropReason::Malformed);
                };
                protocol = IpProtocol::from(next);
                header_len += 8 + usize::from(length) * 8;
            }
            IpProtocol::Ipv6Frag => {
                let position =
                    Ipv6FragmentHeader::new_checked(rest.get(2..).ok_or(DropReason::Malformed)?)
                        .map_err(|_| DropReason::Malformed)?;
                let &[next, ..] = rest else {
                    return Err(DropReason::Malformed);
                };
                protocol = IpProtocol::from(next);
                fragment = Some(Fragment {
                    id: position.ident(),
                    offset: usize::from(position.frag_offset()) * 8,
                    more: position.more_frags(),
                });
                header_len += 8;
                // What follows is the middle of something: no more headers to read.
                break;
            }
            // RFC 8200, section 4.4: type 0 is forbidden (RFC 5095) and we are no waypoint.
            IpProtocol::Ipv6Route => return Err(DropReason::ExtensionHeader),
            _ => break,
        }
    }
    if header_len > total_len {
        return Err(DropReason::Malformed);
    }
    if matches!(protocol, IpProtocol::HopByHop | IpProtocol::Ipv6Opts) && fragment.is_none() {
        return Err(DropReason::ExtensionHeader);
    }
    let payload_len = total_len.saturating_sub(header_len);
    let checksum_vouched =
        offload.vouches(protocol, (header_len, payload_len), fragment.is_some(), true)?;
    Ok(IpPacket {
        source: IpAddr::V6(source),
        destination: IpAddr::V6(destination),
        hop_limit,
        traffic_class,
        dont_fragment: fragment.is_none(),
        protocol,
        fragment,
        bytes,
        header_len,
        checksum_vouched,
        segment: offload.segment(),
    })
}

/// The virtio header of a frame from a guest: claims to check, not facts.
#[derive(Debug, Default, Clone, Copy)]
struct Offload {
    flags: u8,
    gso_type: u8,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Offload {
    fn parse(header: [u8; VNET_HEADER_LEN]) -> Self {
        let [flags, gso_type, _, _, s0, s1, c0, c1, o0, o1] = header;
        Self {
            flags,
            gso_type,
            gso_size: u16::from_le_bytes([s0, s1]),
            csum_start: u16::from_le_bytes([c0, c1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    /// Whether nothing is left to do.
    fn is_none(&self) -> bool {
        self.flags & FLAG_NEEDS_CSUM == 0 && self.gso_type == GSO_NONE
    }

    /// The payload of each segment or datagram, if the frame is several.
    fn segment(&self) -> Option<u16> {
        (self.gso_type != GSO_NONE).then_some(self.gso_size)
    }

    /// Whether the upper layer's checksum need not be verified, after checking that the claims
    /// fit the packet: an unfinished checksum where it belongs, segments to cut of TCP and UDP.
    fn vouches(
        &self,
        protocol: IpProtocol,
        (header_len, payload_len): (usize, usize),
        fragment: bool,
        v6: bool,
    ) -> Result<bool, DropReason> {
        let expected_gso = if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
        if self.gso_type != GSO_NONE {
            let known = match protocol {
                IpProtocol::Tcp => self.gso_type & !GSO_ECN == expected_gso,
                IpProtocol::Udp => {
                    let most = usize::from(self.gso_size) * MAX_UDP_SEGMENTS;
                    self.gso_type == GSO_UDP && payload_len <= UDP_HEADER_LEN + most
                }
                _ => false,
            };
            let cuttable =
                known && !fragment && self.gso_size > 0 && self.flags & FLAG_NEEDS_CSUM != 0;
            if !cuttable {
                return Err(DropReason::BadOffload);
            }
        }
        if self.flags & FLAG_NEEDS_CSUM == 0 {
            return Ok(self.flags & FLAG_DATA_VALID != 0);
        }
        let offset = match protocol {
            IpProtocol::Tcp => TCP_CHECKSUM_AT,
            IpProtocol::Udp => UDP_CHECKSUM_AT,
            _ => return Err(DropReason::BadOffload),
        };
        let start = usize::from(self.csum_start);
        if fragment || self.csum_offset != offset || start != ETHERNET_HEADER_LEN + header_len {
            return Err(DropReason::BadOffload);
        }
        Ok(true)
    }
}

/// The header behind IP's, in which a checksum is to be finished.
#[derive(Debug, Clone, Copy)]
pub(super) enum Transport {
    /// TCP's, by its length in bytes.
    Tcp(u16),
    /// UDP's.
    Udp,
}

/// Writes the virtio header that hands a TCP or UDP packet to the guest's kernel with its checksum
/// unfinished and, if `gso_size` is given, to be cut into segments of that payload.
#[inline]
pub(super) fn write_vnet_header(
    header: &mut [u8; VNET_HEADER_LEN],
    v6: bool,
    transport: Transport,
    gso_size: Option<u16>,
) {
    const ETHERNET: u16 = 14;
    let start = ETHERNET + ip_header_len(v6);
    let (transport_header_len, csum_offset, gso) = match transport {
        Transport::Tcp(length) if v6 => (length, TCP_CHECKSUM_AT, GSO_TCPV6),
        Transport::Tcp(length) => (length, TCP_CHECKSUM_AT, GSO_TCPV4),
        Transport::Udp => (8, UDP_CHECKSUM_AT, GSO_UDP),
    };
    let gso_type = if gso_size.is_some() { gso } else { GSO_NONE };
    let [l0, l1] = (start + transport_header_len).to_le_bytes();
    let [s0, s1] = gso_size.unwrap_or(0).to_le_bytes();
    let [c0, c1] = start.to_le_bytes();
    let [o0, o1] = csum_offset.to_le_bytes();
    *header = [FLAG_NEEDS_CSUM, gso_type, l0, l1, s0, s1, c0, c1, o0, o1];
}

/// Length of an IP header without options or extension headers, in bytes.
pub(super) const fn ip_header_len(v6: bool) -> u16 {
    if v6 { 40 } else { 20 }
}

/// Source and destination of an IP packet, of which the end may be missing.
pub(super) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    if packet.first()? >> 4 == 6 {
        let header = Ipv6Packet::new_unchecked(packet.first_chunk::<40>()?);
        Some((header.src_addr().into(), header.dst_addr().into()))
    } else {
        let header = Ipv4Packet::new_unchecked(packet.first_chunk::<20>()?);
        Some((header.src_addr().into(), header.dst_addr().into()))
    }
}

/// Writes the Ethernet header from the gateway to whom an IP packet is for.
pub(super) fn write_ethernet_header(header: &mut [u8], link: &Link, destination: IpAddr) {
    write_header(header, link, link.mac_of(destination), ethertype(destination));
}

fn write_header(header: &mut [u8], link: &Link, to: MacAddress, protocol: EthernetProtocol) {
    let mut ethernet = EthernetFrame::new_unchecked(header);
    ethernet.set_dst_addr(EthernetAddress(to.0));
    ethernet.set_src_addr(EthernetAddress(link.gateway_mac.0));
    ethernet.set_ethertype(protocol);
}

/// Composes frames to a guest in buffers with head-room: `[virtio][ethernet][ip][payload]`.
#[derive(Debug)]
pub(super) struct Composer<'a> {
    /// The port's addresses and abilities.
    pub(super) link: &'a Link,
    /// Identification of an IPv4 packet.
    pub(super) id: u16,
}

impl Composer<'_> {
    /// Fills `buffer` with one IP packet; `emit` writes its `payload_len` bytes of payload. One of IPv4
    /// may be cut (RFC 6864, section 4): behind the guest there may be a smaller MTU, of which nobody
    /// here would hear.
    pub(super) fn ip(
        &self,
        buffer: &mut Vec<u8>,
        addresses: (IpAddr, IpAddr),
        protocol: IpProtocol,
        hop_limit: u8,
        payload_len: usize,
        emit: impl FnOnce(&mut [u8]),
    ) {
        let (source, destination) = addresses;
        let repr = IpRepr::new(source.into(), destination.into(), protocol, payload_len, hop_limit);
        let to = self.link.mac_of(destination);
        let body = self.blank(buffer, to, ethertype(source), repr.buffer_len());
        repr.emit(&mut *body, &ChecksumCapabilities::ignored());
        if source.is_ipv4() {
            set_ipv4_fragment(body, self.id, 0, false);
        }
        emit(body.get_mut(repr.header_len()..).unwrap_or_default());
    }

    /// Fills `buffer` with one ARP packet of 28 bytes, written by `emit`, for who spoke last.
    pub(super) fn arp(&self, buffer: &mut Vec<u8>, emit: impl FnOnce(&mut [u8])) {
        emit(self.blank(buffer, self.link.guest_mac, EthernetProtocol::Arp, 28));
    }

    /// A zeroed frame of `body_len` bytes behind the head-room; returns the body.
    fn blank<'b>(
        &self,
        buffer: &'b mut Vec<u8>,
        to: MacAddress,
        protocol: EthernetProtocol,
        body_len: usize,
    ) -> &'b mut [u8] {
        buffer.clear();
        buffer.resize(HEADROOM + body_len, 0);
        let (head, body) = buffer.split_at_mut(HEADROOM);
        write_header(head.get_mut(VNET_HEADER_LEN..).unwrap_or_default(), self.link, to, protocol);
        body
    }
}

/// The EtherType of an address family.
fn ethertype(address: IpAddr) -> EthernetProtocol {
    match address {
        IpAddr::V4(_) => EthernetProtocol::Ipv4,
        IpAddr::V6(_) => EthernetProtocol::Ipv6,
    }
}

/// Has the header of a packet without options say how long the packet is; returns the length of what
/// follows that header. `None` for one that is too long or too short to be one.
pub(super) fn set_ip_length(packet: &mut [u8], v6: bool) -> Option<u16> {
    let total = u16::try_from(packet.len()).ok()?;
    let length = total.checked_sub(ip_header_len(v6))?;
    if v6 {
        Ipv6Packet::new_unchecked(packet).set_payload_len(length);
    } else {
        let mut header = Ipv4Packet::new_unchecked(packet);
        header.set_total_len(total);
        header.fill_checksum();
    }
    Some(length)
}

/// Sets where an IPv4 packet belongs in the datagram that it may be a part of, and its checksum.
pub(super) fn set_ipv4_fragment(packet: &mut [u8], id: u16, offset: u16, more: bool) {
    let mut header = Ipv4Packet::new_unchecked(packet);
    header.set_ident(id);
    header.set_dont_frag(false);
    header.set_more_frags(more);
    header.set_frag_offset(offset);
    header.fill_checksum();
}

/// Whether an address is one that a host may have: neither group, broadcast nor unspecified.
#[must_use]
pub fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4 == Ipv4Addr::BROADCAST || v4.is_unspecified()),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6 == Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp_frame(vnet: bool) -> Vec<u8> {
        let link = Link {
            guest_mac: MacAddress([2, 0, 0, 0, 0, 1]),
            gateway_mac: MacAddress([2, 0, 0, 0, 0, 2]),
            machines: Machines::default(),
            mtu: 1500,
            vnet,
            uso: false,
        };
        let addresses = (IpAddr::from([10, 0, 2, 100]), IpAddr::from([192, 0, 2, 9]));
        let mut buffer = Vec::new();
        Composer { link: &link, id: 1 }.ip(
            &mut buffer,
            addresses,
            IpProtocol::Udp,
            64,
            12,
            |payload| {
                let mut udp = UdpPacket::new_unchecked(payload);
                udp.set_src_port(4000);
                udp.set_dst_port(53);
                udp.set_len(12);
                udp.payload_mut().copy_from_slice(b"ping");
                udp.fill_checksum(&addresses.0.into(), &addresses.1.into());
            },
        );
        if vnet { buffer } else { buffer.split_off(VNET_HEADER_LEN) }
    }

    fn verdict(mut raw: Vec<u8>) -> Result<(), DropReason> {
        match parse(&mut raw, true)?.payload {
            Payload::Ip(packet) => packet.verify(),
            Payload::Arp(_) => panic!("not an ARP frame"),
        }
    }

    #[test]
    fn a_composed_frame_parses_with_and_without_virtio_header() {
        for vnet in [true, false] {
            let mut raw = udp_frame(vnet);
            let frame = parse(&mut raw, vnet).unwrap();
            let Payload::Ip(packet) = frame.payload else { panic!("not IP") };
            assert_eq!(packet.verify(), Ok(()));
            assert_eq!(packet.payload().get(8..), Some(&b"ping"[..]));
        }
    }

    #[test]
    fn a_wrong_checksum_is_dropped_unless_the_kernel_vouches_for_it() {
        let mut raw = udp_frame(true);
        *raw.last_mut().unwrap() ^= 1;
        assert_eq!(verdict(raw.clone()), Err(DropReason::BadChecksum));
        raw[0] = FLAG_DATA_VALID;
        assert_eq!(verdict(raw), Ok(()));
    }

    #[test]
    fn an_unfinished_checksum_must_be_where_the_protocol_has_one() {
        let mut raw = udp_frame(true);
        raw[0] = FLAG_NEEDS_CSUM;
        raw[6] = 34;
        raw[8] = 6;
        assert_eq!(verdict(raw.clone()), Ok(()));
        raw[6] = 33;
        assert_eq!(verdict(raw), Err(DropReason::BadOffload));
    }

    #[test]
    fn only_tcp_comes_as_a_super_frame() {
        let mut raw = udp_frame(true);
        raw[0] = FLAG_NEEDS_CSUM;
        raw[1] = GSO_TCPV4;
        raw[4] = 100;
        raw[6] = 34;
        raw[8] = 6;
        assert_eq!(verdict(raw), Err(DropReason::BadOffload));
    }

    #[test]
    fn every_truncation_is_refused_and_none_panics() {
        let whole = udp_frame(true);
        for length in 0..whole.len() {
            assert!(verdict(whole[..length].to_vec()).is_err(), "{length} bytes were taken");
        }
    }

    #[test]
    fn endless_extension_headers_are_refused() {
        let mut raw = vec![0; HEADROOM + 40 + 8 * 10];
        raw[VNET_HEADER_LEN + 12] = 0x86;
        raw[VNET_HEADER_LEN + 13] = 0xdd;
        raw[HEADROOM] = 0x60;
        raw[HEADROOM + 5] = 80;
        assert_eq!(parse(&mut raw, true).err(), Some(DropReason::ExtensionHeader));
    }
}
