//! Super-frames that leave the machine or come to it: cut into packets of the network's MTU with
//! finished checksums, and put together again from those that follow each other.
//!
//! What the kernels of containers do for each other by the virtio header, and a network card for a
//! kernel. Read first: the kernel's `tcp_gso_segment` and `tcp_gro_receive`; RFC 6864 on the
//! identification field, RFC 3168 section 6.1.2 on CWR.

use smoltcp::wire::{
    IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UDP_HEADER_LEN, UdpPacket,
    checksum::{combine, data},
};

use super::frame::{
    ETHERNET_HEADER_LEN, HEADROOM, IpPacket, Transport, VNET_HEADER_LEN, ip_header_len, pseudo_sum,
    set_ip_length, write_vnet_header,
};
use super::stats::DropReason;

/// The shortest segments that a kernel makes (`TCP_MIN_GSO_SIZE`): one frame is not to be thousands.
const SHORTEST: u16 = 48;
// Bits in the fourteenth byte of TCP's header.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// Calls `each` with the packets that a packet of a container stands for, in two parts each.
///
/// # Errors
/// A header that cannot be read, or segments too short.
pub(super) fn cut(
    packet: &mut IpPacket<'_>,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<(), DropReason> {
    let Some(size) = packet.segment else {
        finish(packet)?;
        each(packet.bytes, &[]);
        return Ok(());
    };
    let protocol = packet.protocol;
    let upper_len = match protocol {
        IpProtocol::Tcp if size < SHORTEST => return Err(DropReason::BadOffload),
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(packet.payload());
            usize::from(tcp.map_err(|_| DropReason::Malformed)?.header_len())
        }
        _ => UDP_HEADER_LEN,
    };
    let (source, destination, ip_len) = (packet.source, packet.destination, packet.header_len);
    let split = packet.bytes.split_at_mut_checked(ip_len + upper_len);
    let (head, body) = split.ok_or(DropReason::Malformed)?;
    let id = if source.is_ipv4() { Ipv4Packet::new_unchecked(&*head).ident() } else { 0 };
    let mut sequence = None;
    let mut flags = 0;
    if protocol == IpProtocol::Tcp {
        let upper = head.get(ip_len..).unwrap_or_default();
        sequence = Some(TcpPacket::new_unchecked(upper).seq_number());
        flags = upper.get(13).copied().unwrap_or_default();
    }
    let pieces = body.len().div_ceil(usize::from(size));
    for (number, piece) in body.chunks(usize::from(size)).enumerate() {
        let Some((ip, upper)) = head.split_at_mut_checked(ip_len) else { break };
        let length = u16::try_from(upper_len + piece.len()).map_err(|_| DropReason::Malformed)?;
        if source.is_ipv4() {
            let mut header = Ipv4Packet::new_unchecked(&mut *ip);
            header.set_total_len(u16::try_from(ip_len).unwrap_or(0).saturating_add(length));
            // There are fewer than fit.
            header.set_ident(id.wrapping_add(u16::try_from(number).unwrap_or(0)));
            header.fill_checksum();
        } else {
            let extensions = u16::try_from(ip_len.saturating_sub(40)).unwrap_or(0);
            Ipv6Packet::new_unchecked(&mut *ip).set_payload_len(length.saturating_add(extensions));
        }
        if let Some(number_of_first) = &mut sequence {
            let mut header = TcpPacket::new_unchecked(&mut *upper);
            header.set_seq_number(*number_of_first);
            header.set_checksum(0);
            *number_of_first += piece.len();
            let not_first = if number == 0 { 0 } else { CWR };
            let not_last = if number + 1 == pieces { 0 } else { FIN | PSH };
            if let Some(byte) = upper.get_mut(13) {
                *byte = flags & !(not_first | not_last);
            }
        } else {
            let mut header = UdpPacket::new_unchecked(&mut *upper);
            header.set_len(length);
            header.set_checksum(0);
        }
        let pseudo = pseudo_sum(source, destination, protocol, u32::from(length));
        let sum = !combine(&[pseudo, data(upper), data(piece)]);
        match protocol {
            IpProtocol::Tcp => TcpPacket::new_unchecked(upper).set_checksum(sum),
            // RFC 768: zero would say that there is none.
            _ => UdpPacket::new_unchecked(upper).set_checksum(if sum == 0 { !0 } else { sum }),
        }
        each(head, piece);
    }
    Ok(())
}

/// Whether the checksum of a packet is what a kernel begins with that leaves the rest to a network
/// card. Between two namespaces of one machine there is none, and nobody says so.
pub(super) fn is_unfinished(packet: &IpPacket<'_>) -> bool {
    let upper = packet.payload();
    let at = match packet.protocol {
        IpProtocol::Tcp => 16,
        IpProtocol::Udp => 6,
        _ => return false,
    };
    let (Ok(length), Some([high, low])) =
        (u32::try_from(upper.len()), upper.get(at..).and_then(<[u8]>::first_chunk))
    else {
        return false;
    };
    let begun = pseudo_sum(packet.source, packet.destination, packet.protocol, length);
    packet.fragment.is_none() && u16::from_be_bytes([*high, *low]) == begun
}

/// Has the kernel of a container finish such a packet, by the virtio header if there is one, and take
/// it for the segments that it must be if it is longer than the MTU. Says what may be added to it.
///
/// # Errors
/// What no header can say.
pub(super) fn leave_unfinished(
    packet: &mut IpPacket<'_>,
    header: Option<&mut [u8; VNET_HEADER_LEN]>,
    mtu: usize,
) -> Result<Option<Open>, DropReason> {
    let v6 = packet.source.is_ipv6();
    packet.checksum_vouched = true;
    let long = packet.bytes.len() > mtu;
    let plain = packet.header_len == usize::from(ip_header_len(v6));
    let (Some(header), true) = (header, plain) else {
        return if long { Err(DropReason::BadOffload) } else { finish(packet).map(|()| None) };
    };
    if packet.protocol != IpProtocol::Tcp {
        if long {
            return Err(DropReason::BadOffload);
        }
        write_vnet_header(header, v6, Transport::Udp, None);
        return Ok(None);
    }
    let tcp = TcpPacket::new_checked(packet.payload()).map_err(|_| DropReason::Malformed)?;
    let tcp = u16::from(tcp.header_len());
    let size = mtu.saturating_sub(packet.header_len + usize::from(tcp));
    let size = u16::try_from(size).ok().filter(|_| long);
    write_vnet_header(header, v6, Transport::Tcp(tcp), size);
    Ok(if long { None } else { Open::of(packet) })
}

/// Finishes the checksum of a packet whose kernel has left that to whoever sends it on.
fn finish(packet: &mut IpPacket<'_>) -> Result<(), DropReason> {
    let (source, destination) = (packet.source.into(), packet.destination.into());
    if !packet.checksum_vouched || packet.fragment.is_some() {
        return Ok(());
    }
    let upper = packet.bytes.get_mut(packet.header_len..).ok_or(DropReason::Malformed)?;
    match packet.protocol {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(upper).map_err(|_| DropReason::Malformed);
            tcp?.fill_checksum(&source, &destination);
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(upper).map_err(|_| DropReason::Malformed);
            udp?.fill_checksum(&source, &destination);
        }
        _ => {}
    }
    Ok(())
}

/// A TCP segment in a frame to which those that follow it can be added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// Length of IP's and TCP's header, in bytes.
    ip: usize,
    tcp: usize,
    /// Payload of each but the last, in bytes.
    size: usize,
    /// The sequence number behind the last.
    next: u32,
    /// It ends what was written: nothing is added to it.
    pub(super) pushed: bool,
}

impl Open {
    /// One that a frame begins with, if it is whole, right, and nothing but data.
    pub(super) fn of(packet: &IpPacket<'_>) -> Option<Self> {
        let plain = usize::from(ip_header_len(packet.source.is_ipv6()));
        if packet.protocol != IpProtocol::Tcp
            || packet.fragment.is_some()
            || packet.header_len != plain
        {
            return None;
        }
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        let (tcp, size) = (usize::from(segment.header_len()), segment.payload().len());
        let flags = packet.payload().get(13).copied()?;
        if size == 0 || flags & !PSH != ACK || packet.verify().is_err() {
            return None;
        }
        let next = number(packet.payload(), 4)?.wrapping_add(u32::try_from(size).ok()?);
        Some(Self { ip: plain, tcp, size, next, pushed: flags & PSH != 0 })
    }

    /// Adds the segment of another frame, of which `other` was made, if it follows. Says whether it
    /// did, and more may follow it.
    pub(super) fn add(&mut self, frame: &mut Vec<u8>, next: &[u8], other: &Self) -> Option<bool> {
        let Self { ip, tcp, size, .. } = *self;
        let payload_at = HEADROOM + ip + tcp;
        let begins = other.next.wrapping_sub(u32::try_from(other.size).ok()?);
        let fits = (other.ip, other.tcp, begins) == (ip, tcp, self.next)
            && other.size <= size
            && frame.len() + other.size <= HEADROOM + MOST
            && alike(frame.get(..payload_at)?, next.get(..payload_at)?, ip)?;
        if !fits {
            return None;
        }
        frame.extend_from_slice(next.get(payload_at..)?);
        self.next = other.next;
        if other.pushed {
            *frame.get_mut(HEADROOM + ip + 13)? |= PSH;
        }
        self.seal(frame)?;
        Some(other.size == size && !other.pushed)
    }

    /// Writes the lengths of a frame that is several segments, and has the container's kernel finish
    /// what it needs if it takes them apart.
    fn seal(&self, frame: &mut [u8]) -> Option<()> {
        let v6 = self.ip == 40;
        let header = frame.first_chunk_mut::<VNET_HEADER_LEN>()?;
        let size = u16::try_from(self.size).ok()?;
        write_vnet_header(header, v6, Transport::Tcp(u16::try_from(self.tcp).ok()?), Some(size));
        let packet = frame.get_mut(HEADROOM..)?;
        let (source, destination) = super::frame::addresses(packet)?;
        let length = set_ip_length(packet, v6)?;
        let sum = pseudo_sum(source, destination, IpProtocol::Tcp, u32::from(length));
        TcpPacket::new_unchecked(packet.get_mut(self.ip..)?).set_checksum(sum);
        Some(())
    }
}

/// Whether two frames have the same headers but for what differs from segment to segment.
fn alike(one: &[u8], other: &[u8], ip: usize) -> Option<bool> {
    let tcp = HEADROOM + ip;
    // Of IPv4 length, identification and checksum, of IPv6 the length.
    let differ: &[_] = if ip == 40 { &[(4, 6)] } else { &[(2, 6), (10, 12)] };
    let mut from = VNET_HEADER_LEN;
    let ip_at = VNET_HEADER_LEN + ETHERNET_HEADER_LEN;
    // And of TCP the sequence number, whether it is the last of a write, and the checksum.
    let of_ip = differ.iter().map(|(start, end)| (ip_at + start, ip_at + end));
    for (start, end) in
        of_ip.chain([(tcp + 4, tcp + 8), (tcp + 13, tcp + 14), (tcp + 16, tcp + 18)])
    {
        if one.get(from..start)? != other.get(from..start)? {
            return Some(false);
        }
        from = end;
    }
    Some(one.get(from..)? == other.get(from..)?)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The longest packet, in bytes.
const MOST: usize = 65_535;
