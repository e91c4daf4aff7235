//! What a sender may say of itself: what a port sends is held against its lease, and what comes from
//! another host against the parts of the network that are there.
//!
//! A container can forge whatever its own kernel lets it (CAP_NET_RAW in its user namespace is
//! everything), so this is the place where one container is kept from being another: source
//! addresses of every layer, the senders and options of ARP and neighbour discovery, and what only
//! the gateway may be: a router, a DHCP server.
//! Read first: RFC 826, RFC 4861, RFC 6105 and RFC 7113 (router advertisement guard), RFC 7610.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, IpProtocol};

use super::groups;
use crate::config::{Cidr, Lease, MacAddress, Network, Prefix};
use crate::engine::frame::IpPacket;
use crate::engine::ndp;
use crate::engine::stats::DropReason;

/// Who sends a frame.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sender<'a> {
    /// The container of a port.
    Container(&'a Lease),
    /// A machine behind another host, by its hardware address, of these parts of an IPv4 subnet and
    /// of what else there is.
    Elsewhere { mac: MacAddress, parts: &'a [Prefix], subnet: Cidr<Ipv4Addr> },
}

impl Sender<'_> {
    #[inline]
    fn mac(&self) -> MacAddress {
        match self {
            Self::Container(lease) => lease.mac,
            Self::Elsewhere { mac, .. } => *mac,
        }
    }

    #[inline]
    fn has_v6(&self) -> bool {
        match self {
            Self::Container(lease) => lease.v6.is_some(),
            Self::Elsewhere { .. } => true,
        }
    }

    #[inline]
    fn owns(&self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::Container(Lease { v4, link_local, .. }), IpAddr::V4(ip)) => {
                *v4 == ip || link_local.v4 == Some(ip)
            }
            (Self::Container(Lease { v6, link_local, .. }), IpAddr::V6(ip)) => {
                [*v6, link_local.v6].contains(&Some(ip)) || ip == ndp::link_local(self.mac().0)
            }
            (_, IpAddr::V6(ip)) if ip == ndp::link_local(self.mac().0) => true,
            (Self::Elsewhere { parts, subnet, .. }, ip) => {
                let nobody = [subnet.address, subnet.broadcast()].map(IpAddr::V4);
                parts.iter().any(|part| part.contains(ip)) && !nobody.contains(&ip)
            }
        }
    }
}

/// An ARP packet whose sender is who it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arp {
    pub(super) operation: ArpOperation,
    pub(super) sender: Ipv4Addr,
    pub(super) target: Ipv4Addr,
}

/// A neighbour discovery message whose sender is who it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    RouterSolicitation,
    /// For this address.
    Solicitation(Ipv6Addr),
    Advertisement,
}

/// Checks who sends an ARP packet. An unspecified address asks whether one is free (RFC 5227).
pub(super) fn arp(from: &Sender<'_>, body: &[u8]) -> Result<Arp, DropReason> {
    let Ok(ArpRepr::EthernetIpv4 {
        operation: operation @ (ArpOperation::Request | ArpOperation::Reply),
        source_hardware_addr,
        source_protocol_addr: sender,
        target_protocol_addr: target,
        ..
    }) = ArpPacket::new_checked(body).and_then(|packet| ArpRepr::parse(&packet))
    else {
        return Err(DropReason::Malformed);
    };
    let probe = sender.is_unspecified() && operation == ArpOperation::Request;
    let own = from.owns(sender.into());
    if source_hardware_addr.0 != from.mac().0 || !(own || probe) {
        return Err(DropReason::SpoofedArp);
    }
    Ok(Arp { operation, sender, target })
}

/// Checks who sends an IP packet, and that it is nothing that only the gateway may send.
pub(super) fn ip(
    network: &Network,
    from: &Sender<'_>,
    packet: &IpPacket<'_>,
) -> Result<Option<Neighbour>, DropReason> {
    match packet.source {
        IpAddr::V4(source) => {
            let joins = source.is_unspecified() && packet.protocol == super::IGMP;
            let asks = source.is_unspecified() && is_dhcp_question(packet);
            if !from.owns(source.into()) && !joins && !asks {
                return Err(DropReason::SpoofedSource);
            }
        }
        IpAddr::V6(_) if !from.has_v6() || network.addresses.v6.is_none() => {
            return Err(DropReason::NoIpv6);
        }
        IpAddr::V6(source) => {
            let nobody = source.is_unspecified() && packet.protocol == IpProtocol::Icmpv6;
            if !from.owns(source.into()) && !nobody {
                return Err(DropReason::SpoofedSource);
            }
        }
    }
    match packet.protocol {
        IpProtocol::Tcp => Ok(None),
        IpProtocol::Udp => {
            if !is_first(packet) {
                return Ok(None);
            }
            match ports(packet) {
                // DHCP clients listen there and nobody else does.
                Some((_, 68)) if packet.source.is_ipv4() => Err(DropReason::RogueDhcp),
                Some((_, 546)) if packet.source.is_ipv6() => Err(DropReason::RogueDhcp),
                Some(_) => Ok(None),
                // RFC 7113, section 3: what hides its ports in a later fragment is up to no good.
                None => Err(DropReason::BadFragment),
            }
        }
        IpProtocol::Icmp if packet.source.is_ipv4() => match kind(packet) {
            // Redirect and router advertisement (RFC 792, RFC 1256).
            Some(5 | 9) if is_first(packet) => Err(DropReason::RogueRouter),
            _ => Ok(None),
        },
        IpProtocol::Icmpv6 if packet.source.is_ipv6() => icmpv6(from, packet),
        // Headers that hide what follows them, behind a fragment header.
        IpProtocol::HopByHop
        | IpProtocol::Ipv6Opts
        | IpProtocol::Ipv6Route
        | IpProtocol::Ipv6Frag => Err(DropReason::ExtensionHeader),
        _ => Ok(None),
    }
}

fn icmpv6(from: &Sender<'_>, packet: &IpPacket<'_>) -> Result<Option<Neighbour>, DropReason> {
    if !is_first(packet) {
        return Ok(None);
    }
    let kind = kind(packet).ok_or(DropReason::Malformed)?;
    let unspecified = packet.source == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let sender_known = !unspecified || groups::is_report(packet);
    if !ndp::is_neighbour_discovery(kind) {
        return if sender_known { Ok(None) } else { Err(DropReason::SpoofedSource) };
    }
    // RFC 6980: neighbour discovery is never fragmented; RFC 4861: nor ever routed.
    if packet.fragment.is_some() || packet.hop_limit != 255 {
        return Err(DropReason::Malformed);
    }
    let (checked, options_at) = match kind {
        ROUTER_SOLICITATION => (Neighbour::RouterSolicitation, 8),
        NEIGHBOUR_SOLICITATION => {
            let target = target(packet)?;
            // From nobody, it asks whether an address is free for the sender (RFC 4862, section
            // 5.4); about that of another it would tell the other that its own is taken.
            if unspecified && !from.owns(target.into()) {
                return Err(DropReason::SpoofedNeighbour);
            }
            (Neighbour::Solicitation(target), 24)
        }
        NEIGHBOUR_ADVERTISEMENT => {
            if unspecified || !from.owns(target(packet)?.into()) {
                return Err(DropReason::SpoofedNeighbour);
            }
            (Neighbour::Advertisement, 24)
        }
        _ => return Err(DropReason::RogueRouter),
    };
    check_options(from.mac(), packet.payload().get(options_at..).ok_or(DropReason::Malformed)?)?;
    Ok(Some(checked))
}

/// Both kinds of link-layer address options (RFC 4861, section 4.6.1) are the sender's own.
fn check_options(mac: MacAddress, mut options: &[u8]) -> Result<(), DropReason> {
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        let Some((option, rest)) = options.split_at_checked(length).filter(|_| length > 0) else {
            return Err(DropReason::Malformed);
        };
        if matches!(kind, 1 | 2) && option.get(2..) != Some(&mac.0) {
            return Err(DropReason::SpoofedNeighbour);
        }
        options = rest;
    }
    if options.is_empty() { Ok(()) } else { Err(DropReason::Malformed) }
}

fn target(packet: &IpPacket<'_>) -> Result<Ipv6Addr, DropReason> {
    let target = packet.payload().get(8..).and_then(<[u8]>::first_chunk::<16>);
    target.map(|octets| Ipv6Addr::from(*octets)).ok_or(DropReason::Malformed)
}

/// Whether a packet is whole or begins with its upper layer's header.
fn is_first(packet: &IpPacket<'_>) -> bool {
    packet.fragment.is_none_or(|fragment| fragment.offset == 0)
}

fn kind(packet: &IpPacket<'_>) -> Option<u8> {
    packet.payload().first_chunk::<4>().map(|[kind, ..]| *kind)
}

/// Source and destination port of a UDP datagram or TCP segment.
pub(super) fn ports(packet: &IpPacket<'_>) -> Option<(u16, u16)> {
    let [s0, s1, d0, d1] = *packet.payload().first_chunk::<4>()?;
    Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

/// Whether a packet asks a DHCP server, which is the gateway (RFC 2131, RFC 8415 section 7.2).
pub(super) fn is_dhcp_question(packet: &IpPacket<'_>) -> bool {
    let server = if packet.source.is_ipv4() { 67 } else { 547 };
    packet.protocol == IpProtocol::Udp
        && packet.fragment.is_none()
        && ports(packet).is_some_and(|(_, to)| to == server)
}

// RFC 4861, section 4.
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
