//! ICMP and ICMPv6 messages that the gateway itself composes: echo replies and errors.
//!
//! Read first: RFC 792, RFC 1812 section 4.3.2 (whom not to answer, how much to quote), RFC 4443.
//! Not here: echo towards the host ([`super::flow::echo`]) and neighbour discovery
//! ([`super::ndp`]).

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    IpProtocol, Ipv4Packet, Ipv6Packet,
    checksum::{combine, data},
};

use super::Turn;
use super::frame::{addresses, is_unicast, pseudo_sum};
use crate::config::Refusal;

pub(super) const V4_ECHO_REPLY: u8 = 0;
const V4_UNREACHABLE: u8 = 3;
pub(super) const V4_ECHO_REQUEST: u8 = 8;
/// Code of [`V4_UNREACHABLE`]: too long, and not to be cut.
const V4_FRAGMENTATION_NEEDED: u8 = 4;
const V4_TIME_EXCEEDED: u8 = 11;
const V6_UNREACHABLE: u8 = 1;
const V6_TOO_BIG: u8 = 2;
const V6_TIME_EXCEEDED: u8 = 3;
pub(super) const V6_ECHO_REQUEST: u8 = 128;
pub(super) const V6_ECHO_REPLY: u8 = 129;

/// How much of the offending packet an error quotes: with its headers the error stays within the
/// smallest MTU that every link takes, 576 (RFC 1812) and 1280 bytes (RFC 4443).
const QUOTE_V4: usize = 548;
const QUOTE_V6: usize = 1232;
/// How much of a packet is to be kept for an error that may come, in bytes.
pub(super) const LONGEST_QUOTE: usize = QUOTE_V6;
/// Hop limit of what the gateway sends.
pub(super) const HOP_LIMIT: u8 = 64;

/// Why a destination cannot be reached, as the guest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// No route to the network.
    Network,
    /// The host does not answer.
    Host,
    /// Nothing listens on the port (datagrams; TCP has its reset).
    Port,
    /// Forbidden by policy.
    Prohibited,
}

impl Unreachable {
    /// What a failed connection means; `None` where a reset says it better.
    pub(super) fn from_error(error: ErrorKind) -> Option<Self> {
        match error {
            ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => Some(Self::Network),
            ErrorKind::HostUnreachable | ErrorKind::TimedOut => Some(Self::Host),
            ErrorKind::PermissionDenied => Some(Self::Prohibited),
            _ => None,
        }
    }

    /// Code of ICMP type 3 (RFC 792, RFC 1812 section 5.2.7.1).
    fn code_v4(self) -> u8 {
        match self {
            Self::Network => 0,
            Self::Host => 1,
            Self::Port => 3,
            Self::Prohibited => 13,
        }
    }

    /// Code of ICMPv6 type 1 (RFC 4443, section 3.1).
    fn code_v6(self) -> u8 {
        match self {
            Self::Network => 0,
            Self::Prohibited => 1,
            Self::Host => 3,
            Self::Port => 4,
        }
    }
}

/// An error about a guest's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IcmpError {
    kind: u8,
    code: u8,
    /// The second word of the message.
    rest: [u8; 4],
}

impl IcmpError {
    fn unreachable(v6: bool, reason: Unreachable) -> Self {
        let (kind, code) = if v6 {
            (V6_UNREACHABLE, reason.code_v6())
        } else {
            (V4_UNREACHABLE, reason.code_v4())
        };
        Self { kind, code, rest: [0; 4] }
    }

    /// RFC 792 and RFC 4443, section 3.3: time to live exceeded in transit.
    fn time_exceeded(v6: bool) -> Self {
        let kind = if v6 { V6_TIME_EXCEEDED } else { V4_TIME_EXCEEDED };
        Self { kind, code: 0, rest: [0; 4] }
    }

    /// RFC 1191, section 4, and RFC 4443, section 3.2.
    pub(super) fn too_long(v6: bool, mtu: u32) -> Self {
        if v6 {
            // RFC 8200, section 5: less is no IPv6 link.
            let mtu = mtu.max(1280);
            return Self { kind: V6_TOO_BIG, code: 0, rest: mtu.to_be_bytes() };
        }
        let [m0, m1] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
        Self { kind: V4_UNREACHABLE, code: V4_FRAGMENTATION_NEEDED, rest: [0, 0, m0, m1] }
    }

    /// An error that the host has heard, as the guest may hear it; `None` for what is none or
    /// concerns nobody but the host.
    pub(super) fn heard(v6: bool, kind: u8, code: u8, mtu: u32) -> Option<Self> {
        match (v6, kind, code) {
            (false, V4_UNREACHABLE, V4_FRAGMENTATION_NEEDED) | (true, V6_TOO_BIG, _) => {
                Some(Self::too_long(v6, mtu))
            }
            (false, V4_UNREACHABLE | V4_TIME_EXCEEDED, _)
            | (true, V6_UNREACHABLE | V6_TIME_EXCEEDED, _) => {
                Some(Self { kind, code, rest: [0; 4] })
            }
            _ => None,
        }
    }
}

/// Whether an ICMP or ICMPv6 error says that a packet is too long for its path.
pub(super) fn is_too_long(v6: bool, kind: u8, code: u8) -> bool {
    matches!(
        (v6, kind, code),
        (false, V4_UNREACHABLE, V4_FRAGMENTATION_NEEDED) | (true, V6_TOO_BIG, _)
    )
}

/// Tells the sender of `packet` that its destination cannot be reached. The error's source is the
/// gateway, or the destination itself for a closed port.
pub(super) fn send_unreachable(turn: &mut Turn<'_>, packet: &[u8], reason: Unreachable) {
    let Some((source, destination)) = addresses(packet) else {
        return;
    };
    let by = (reason == Unreachable::Port).then_some(destination);
    send_error(turn, by, packet, IcmpError::unreachable(source.is_ipv6(), reason));
}

/// Tells the sender of `packet` that it has made its last hop, which was the gateway.
pub(super) fn send_time_exceeded(turn: &mut Turn<'_>, packet: &[u8]) {
    if let Some((source, _)) = addresses(packet) {
        send_error(turn, None, packet, IcmpError::time_exceeded(source.is_ipv6()));
    }
}

/// Sends an error about `packet` to its sender, from `by` or else from the gateway.
pub(super) fn send_error(turn: &mut Turn<'_>, by: Option<IpAddr>, packet: &[u8], error: IcmpError) {
    let Some((source, destination)) = addresses(packet) else {
        return;
    };
    // RFC 1122, section 3.2.2: no error about a packet that was not from and to one host.
    let everybody = IpAddr::V4(turn.network.addresses.v4.subnet.broadcast());
    if !is_unicast(source) || !is_unicast(destination) || destination == everybody {
        return;
    }
    if is_error(packet) {
        return;
    }
    let gateway = match (source, turn.network.addresses.v6) {
        (IpAddr::V4(_), _) => IpAddr::V4(turn.network.addresses.v4.gateway),
        (IpAddr::V6(_), Some(v6)) => IpAddr::V6(v6.gateway),
        (IpAddr::V6(_), None) => return,
    };
    let from = by.filter(|by| by.is_ipv6() == source.is_ipv6()).unwrap_or(gateway);
    let quote = if source.is_ipv6() { QUOTE_V6 } else { QUOTE_V4 };
    let quoted = packet.get(..quote).unwrap_or(packet);
    send(turn, (from, source), [error.kind, error.code], error.rest, quoted);
}

/// Tells the sender of `packet` that its destination is forbidden, in the words its user expects.
pub(super) fn send_denied(turn: &mut Turn<'_>, packet: &[u8]) {
    turn.fx.stats.denied += 1;
    let reason = match turn.network.refusal {
        Refusal::Prohibited => Unreachable::Prohibited,
        Refusal::Unreachable => Unreachable::Network,
    };
    send_unreachable(turn, packet, reason);
}

/// Answers an echo request with `rest` (identifier, sequence number) and `body` as `from`.
pub(super) fn send_echo_reply(
    turn: &mut Turn<'_>,
    addresses: (IpAddr, IpAddr),
    rest: [u8; 4],
    body: &[u8],
) {
    let kind = if addresses.0.is_ipv4() { V4_ECHO_REPLY } else { V6_ECHO_REPLY };
    send(turn, addresses, [kind, 0], rest, body);
}

/// Sends one ICMP or ICMPv6 message: type and code, the second word, a body.
fn send(
    turn: &mut Turn<'_>,
    addresses: (IpAddr, IpAddr),
    type_and_code: [u8; 2],
    rest: [u8; 4],
    body: &[u8],
) {
    let (source, destination) = addresses;
    let v6 = source.is_ipv6();
    let protocol = if v6 { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
    let length = 8 + body.len();
    let mut message = std::mem::take(&mut turn.fx.message);
    message.clear();
    message.extend_from_slice(&type_and_code);
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&rest);
    message.extend_from_slice(body);
    let pseudo = match (v6, u32::try_from(length)) {
        (true, Ok(length)) => pseudo_sum(source, destination, protocol, length),
        _ => 0,
    };
    let sum = !combine(&[pseudo, data(&message)]);
    if let Some(checksum) = message.get_mut(2..4) {
        checksum.copy_from_slice(&sum.to_be_bytes());
    }
    turn.send_datagram(addresses, protocol, HOP_LIMIT, &message);
    turn.fx.message = message;
}

/// What the guest itself refuses, as an error of its quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused<'a> {
    pub(super) protocol: IpProtocol,
    /// The guest's end.
    pub(super) guest: SocketAddr,
    /// The host's end.
    pub(super) host: SocketAddr,
    /// The packet from its ports on, as far as it is quoted.
    pub(super) segment: &'a [u8],
}

/// What the guest itself refuses by an error. A datagram's port must be unreachable; a call is refused by its firewall as well
/// (RFC 1122, section 4.2.3.9, RFC 1812, section 5.2.7.1, RFC 4443, section 3.1).
pub(super) fn refused_by_guest(message: &[u8], v6: bool) -> Option<Refused<'_>> {
    let (&[kind, code, ..], quoted) = message.split_first_chunk::<8>()?;
    let (port, forbidden) = match (v6, kind) {
        (true, V6_UNREACHABLE) => (Unreachable::Port.code_v6(), &[1, 5, 6][..]),
        (false, V4_UNREACHABLE) => (Unreachable::Port.code_v4(), &[2, 9, 10, 13][..]),
        _ => return None,
    };
    // What is quoted is cut, so the lengths that it states are not to be held against it.
    let (source, destination, protocol, segment) = if v6 {
        let (header, rest) = quoted.split_first_chunk::<40>()?;
        let header = Ipv6Packet::new_unchecked(&header[..]);
        (header.src_addr().into(), header.dst_addr().into(), header.next_header(), rest)
    } else {
        let header = Ipv4Packet::new_unchecked(quoted.first_chunk::<20>()?);
        let rest = quoted.get(usize::from(header.header_len())..)?;
        (header.src_addr().into(), header.dst_addr().into(), header.next_header(), rest)
    };
    let &[s0, s1, d0, d1] = segment.first_chunk()?;
    let host = SocketAddr::new(source, u16::from_be_bytes([s0, s1]));
    let guest = SocketAddr::new(destination, u16::from_be_bytes([d0, d1]));
    let refused = match protocol {
        IpProtocol::Udp => code == port,
        IpProtocol::Tcp => code == port || forbidden.contains(&code),
        _ => false,
    };
    refused.then_some(Refused { protocol, guest, host, segment })
}

/// Whether a packet is an error itself: nobody is told of those (RFC 1122, section 3.2.2, RFC 4443,
/// section 2.4).
fn is_error(packet: &[u8]) -> bool {
    let (protocol, header_len) = match packet.first_chunk::<40>() {
        Some(header) if header[0] >> 4 == 6 => (header[6], 40),
        _ => match packet.first_chunk::<20>() {
            Some(header) => (header[9], usize::from(header[0] & 0xf) * 4),
            None => return false,
        },
    };
    let kind = packet.get(header_len).copied();
    match IpProtocol::from(protocol) {
        IpProtocol::Icmp => kind.is_some_and(|kind| matches!(kind, 3..=5 | 11 | 12)),
        IpProtocol::Icmpv6 => kind.is_some_and(|kind| kind < 128),
        _ => false,
    }
}
