//! The router that a guest sees: what a packet to it or through it means.
//!
//! One packet's way: [`handle`] drops what no guest may send, puts fragments together, verifies
//! the upper layer, and hands the packet to the one place that owns its protocol: neighbour
//! discovery and echo here in the gateway, queries to the DNS forwarder, all else to a flow.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::wire::{DHCP_SERVER_PORT, IpProtocol, UdpPacket};

use super::dns::Client;
use super::flow::FlowKey;
use super::frame::{IpPacket, is_unicast};
use super::icmp::{V4_ECHO_REQUEST, V6_ECHO_REQUEST};
use super::nat::{self, Meaning};
use super::stats::{DropReason, Verdict};
use super::{Tables, Turn, dhcp, dhcpv6, discovery, icmp, ndp};
use crate::config::{Neighbours, Rules};

/// Takes an IP packet that a guest sent to the gateway's hardware address or to a group.
pub(super) fn handle(tables: &mut Tables, turn: &mut Turn<'_>, packet: IpPacket<'_>) -> Verdict {
    if let Err(reason) = check_addresses(turn, &packet) {
        return Verdict::Dropped(reason);
    }
    turn.note_speaker(packet.source);
    if packet.fragment.is_none() {
        return dispatch(tables, turn, packet);
    }
    match tables.reassembly.handle(
        &turn.network.limits,
        &mut turn.fx.stats,
        turn.port,
        &packet,
        turn.now,
    ) {
        Ok(Some(mut whole)) => dispatch(tables, turn, whole.packet()),
        Ok(None) => Verdict::Held,
        Err(reason) => Verdict::Dropped(reason),
    }
}

/// Hands a whole packet to the owner of its protocol.
fn dispatch(tables: &mut Tables, turn: &mut Turn<'_>, packet: IpPacket<'_>) -> Verdict {
    if let Err(reason) = packet.verify() {
        return Verdict::Dropped(reason);
    }
    let protocols = turn.network.rules.protocols;
    let served = match packet.protocol {
        IpProtocol::Tcp => protocols.tcp,
        IpProtocol::Udp => protocols.udp,
        _ => true,
    };
    if !served {
        return Verdict::Dropped(DropReason::SwitchedOff);
    }
    // RFC 1812, section 5.3.1. What is for the gateway itself has arrived.
    let here = turn.is_own_address(packet.destination) || !is_unicast(packet.destination);
    if packet.hop_limit <= 1 && !here {
        icmp::send_time_exceeded(turn, packet.bytes);
        return Verdict::Refused;
    }
    match packet.protocol {
        IpProtocol::Tcp => tables.tcp.handle_segment(turn, packet.without_extensions()),
        IpProtocol::Udp => handle_udp(tables, turn, &packet),
        IpProtocol::Icmp if packet.source.is_ipv4() => handle_icmp(tables, turn, &packet),
        IpProtocol::Icmpv6 if packet.source.is_ipv6() => handle_icmp(tables, turn, &packet),
        _ => Verdict::Dropped(DropReason::UnknownProtocol),
    }
}

/// A guest may use any address of its network but the gateway's, or any at all among the host's
/// neighbours; link-local and unspecified sources are for neighbour discovery and DHCP alone, which
/// is told from other UDP by its ports ([`handle_udp`]).
fn check_addresses(turn: &Turn<'_>, packet: &IpPacket<'_>) -> Result<(), DropReason> {
    let addresses = &turn.network.addresses;
    let own = turn.is_own_address(packet.source);
    let Rules { neighbours, protocols, .. } = &turn.network.rules;
    // Who has copied the host's addresses may have several, in several subnets.
    let anywhere = *neighbours == Neighbours::Host && is_unicast(packet.source);
    let allowed = match (packet.source, addresses.v6) {
        (IpAddr::V4(_), _) if !protocols.ipv4 => return Err(DropReason::SwitchedOff),
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), _) => packet.protocol == IpProtocol::Udp,
        (IpAddr::V4(ip), _) if anywhere => !ip.is_loopback(),
        (IpAddr::V4(ip), _) => {
            addresses.v4.subnet.contains(ip) && ip != addresses.v4.subnet.broadcast()
        }
        (IpAddr::V6(ip), Some(v6)) => {
            v6.subnet.contains(ip)
                || match packet.protocol {
                    _ if anywhere && !ip.is_unicast_link_local() => !ip.is_loopback(),
                    IpProtocol::Icmpv6 => ip.is_unicast_link_local() || ip.is_unspecified(),
                    IpProtocol::Udp => ip.is_unicast_link_local(),
                    _ => is_for_neighbour(turn, packet),
                }
        }
        (IpAddr::V6(_), None) => false,
    };
    if own || !allowed {
        return Err(DropReason::SpoofedSource);
    }
    // Where the forwarder has an address of its own, nothing at all answers there without it.
    let lost = turn.is_dns_address(packet.destination) && !turn.is_gateway(packet.destination);
    if !turn.network.dns && lost {
        return Err(DropReason::DnsDisabled);
    }
    let to_group = !is_unicast(packet.destination);
    if to_group && !matches!(packet.protocol, IpProtocol::Icmpv6 | IpProtocol::Udp) {
        return Err(DropReason::Multicast);
    }
    Ok(())
}

/// Whether a packet is from a link-local address to one that stands for the host. Who has copied the
/// host's addresses has its router at such a one, and speaks to it from its own.
fn is_for_neighbour(turn: &Turn<'_>, packet: &IpPacket<'_>) -> bool {
    let link_local = |address| matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    link_local(packet.source)
        && link_local(packet.destination)
        && turn.network.rules.real(packet.destination).is_some()
}

fn handle_udp(tables: &mut Tables, turn: &mut Turn<'_>, packet: &IpPacket<'_>) -> Verdict {
    let Ok(udp) = UdpPacket::new_checked(packet.payload()) else {
        return Verdict::Dropped(DropReason::Malformed);
    };
    if udp.src_port() == 0 {
        return Verdict::Dropped(DropReason::Malformed);
    }
    let protocols = turn.network.rules.protocols;
    if dhcp::is_for_server(turn, packet, &udp) {
        if !protocols.dhcp {
            return Verdict::Dropped(DropReason::SwitchedOff);
        }
        return dhcp::handle(turn, &mut tables.dhcp, udp.payload());
    }
    if dhcpv6::is_for_server(packet, &udp) {
        if !protocols.dhcpv6 {
            return Verdict::Dropped(DropReason::SwitchedOff);
        }
        return dhcpv6::handle(turn, packet.source, udp.payload());
    }
    if !turn.network.discovery.is_empty()
        && let Some(verdict) = discovery::handle_guest(tables, turn, packet, &udp)
    {
        return verdict;
    }
    let local = match packet.source {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() && !is_for_neighbour(turn, packet),
    };
    if local {
        return Verdict::Dropped(DropReason::SpoofedSource);
    }
    let mut destination = packet.destination;
    // Of its own network nobody but the gateway is there.
    let subnet = turn.network.addresses.v4.subnet.broadcast();
    if destination == IpAddr::V4(subnet) && turn.network.rules.neighbours == Neighbours::Nobody {
        destination = Ipv4Addr::BROADCAST.into();
    }
    if destination == IpAddr::V4(Ipv4Addr::BROADCAST) {
        // DHCP ends at the gateway, whatever port it is sent from.
        if !turn.network.allow_broadcast || udp.dst_port() == DHCP_SERVER_PORT {
            return Verdict::Dropped(DropReason::Broadcast);
        }
    } else if !is_unicast(destination) {
        return Verdict::Dropped(DropReason::Multicast);
    }
    let key = FlowKey {
        port: turn.port,
        guest: SocketAddr::new(packet.source, udp.src_port()),
        host: SocketAddr::new(destination, udp.dst_port()),
    };
    if nat::translate(turn.network, key.host) == Meaning::Dns {
        let queries = udp.payload();
        let length = packet.segment.map_or(queries.len(), usize::from).max(1);
        let mut verdict = Verdict::Dropped(DropReason::Malformed);
        for query in queries.chunks(length) {
            verdict = tables.dns.handle_query(turn, Client::Datagram(key), query);
        }
        return verdict;
    }
    tables.udp.handle_datagram(turn, key, &udp, packet)
}

fn handle_icmp(tables: &mut Tables, turn: &mut Turn<'_>, packet: &IpPacket<'_>) -> Verdict {
    let Some(&[kind, ..]) = packet.payload().first_chunk::<8>() else {
        return Verdict::Dropped(DropReason::Malformed);
    };
    let v6 = packet.source.is_ipv6();
    let request = if v6 { V6_ECHO_REQUEST } else { V4_ECHO_REQUEST };
    let protocols = turn.network.rules.protocols;
    if (kind == request && !protocols.icmp)
        || (v6 && ndp::is_neighbour_discovery(kind) && !protocols.ndp)
    {
        return Verdict::Dropped(DropReason::SwitchedOff);
    }
    if kind == request && is_unicast(packet.destination) {
        tables.echo.handle_request(turn, packet)
    } else if v6 && ndp::is_neighbour_discovery(kind) {
        ndp::handle(turn, packet)
    } else if let Some(refused) = icmp::refused_by_guest(packet.payload(), v6)
        && refused.guest.ip() == packet.source
    {
        let key = FlowKey { port: turn.port, guest: refused.guest, host: refused.host };
        match refused.protocol {
            IpProtocol::Tcp => tables.tcp.handle_refused(turn, key),
            _ => tables.udp.handle_refused(turn, key, refused.segment),
        }
    } else {
        Verdict::Dropped(DropReason::UnhandledIcmp)
    }
}
