//! IPv6 neighbour discovery and router advertisement (RFC 4861).
//!
//! The gateway answers for its own addresses and advertises itself as the router of the prefix,
//! with the DNS forwarder (RFC 8106), to whoever asks. Those it tells again before they forget it,
//! a few times a day; to others it never sends unasked, so an idle network stays idle.
//! When a guest is asked itself: [`super::doubt`].

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::{
    EthernetAddress, Icmpv6Packet, Icmpv6Repr, IpProtocol, NdiscNeighborFlags,
    NdiscPrefixInfoFlags, NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags, RawHardwareAddress,
};

use super::frame::IpPacket;
use super::stats::{DropReason, Verdict};
use super::{Instant, PortId, Turn};
use crate::config::{Lease, MacAddress, Neighbours, Sharing};

/// Neighbour discovery is for the link alone (RFC 4861, section 7.1).
const HOP_LIMIT: u8 = 255;
/// How long the gateway stays a default router, the longest that there is (RFC 8319, section 4),
/// and the prefix preferred and valid: for ever, since nothing here ever changes.
const ROUTER_LIFETIME: Duration = Duration::from_secs(u16::MAX as u64);
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// How often those are told again who have heard it: two such frames may be lost before the route
/// is.
const INTERVAL: Duration = Duration::from_secs(ROUTER_LIFETIME.secs() / 4);

/// Who has a default route by advertisement, and when to tell them again.
#[derive(Debug, Default)]
pub(super) struct Adverts {
    ports: Vec<PortId>,
    due: Option<Instant>,
}

impl Adverts {
    /// When to call [`Adverts::take_due`]; `None` as long as nobody has asked.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whom to tell now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<PortId> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = (!self.ports.is_empty()).then_some(now + INTERVAL);
        self.ports.clone()
    }

    pub(super) fn remove_port(&mut self, gone: PortId) {
        self.ports.retain(|port| *port != gone);
    }
}

/// Types 133 to 137 of ICMPv6.
pub(super) fn is_neighbour_discovery(message_type: u8) -> bool {
    (133..=137).contains(&message_type)
}

/// The gateway's link-local address, which router advertisements must come from
/// (RFC 4861, section 6.1.2): the modified EUI-64 of its hardware address (RFC 4291, appendix A).
pub(super) fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The option that names a hardware address.
fn hardware_address(mac: MacAddress) -> Option<RawHardwareAddress> {
    Some(EthernetAddress(mac.0).into())
}

/// Takes a neighbour discovery message from a guest.
pub(super) fn handle(turn: &mut Turn<'_>, packet: &IpPacket<'_>) -> Verdict {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.source, packet.destination) else {
        return Verdict::Dropped(DropReason::Malformed);
    };
    if turn.network.addresses.v6.is_none() {
        return Verdict::Dropped(DropReason::UnhandledIcmp);
    }
    let checked = ChecksumCapabilities::ignored();
    let parsed = Icmpv6Packet::new_checked(packet.payload())
        .and_then(|message| Icmpv6Repr::parse(&source, &destination, &message, &checked));
    let Ok(Icmpv6Repr::Ndisc(message)) = parsed else {
        return Verdict::Dropped(DropReason::Malformed);
    };
    if packet.hop_limit != HOP_LIMIT {
        return Verdict::Dropped(DropReason::Malformed);
    }
    match message {
        NdiscRepr::NeighborSolicit { target_addr, .. } => answer(turn, source, target_addr),
        NdiscRepr::RouterSolicit { .. } if !turn.network.rules.protocols.ra => {
            return Verdict::Dropped(DropReason::SwitchedOff);
        }
        NdiscRepr::RouterSolicit { .. } => {
            advertise(turn, if source.is_unspecified() { ALL_NODES } else { source });
        }
        NdiscRepr::NeighborAdvert { target_addr, .. } => {
            if turn.lease.v6 == Some(target_addr) {
                turn.fx.doubts.clear(turn.port);
            }
        }
        // RFC 4861: only routers send these, and the guest is none.
        NdiscRepr::RouterAdvert { .. } | NdiscRepr::Redirect { .. } => {
            return Verdict::Dropped(DropReason::UnhandledIcmp);
        }
    }
    Verdict::Gateway
}

/// Tells who asks for an address that it is the gateway's, as far as it is.
fn answer(turn: &mut Turn<'_>, asker: Ipv6Addr, target_addr: Ipv6Addr) {
    // As for ARP: duplicate detection is not answered for others.
    let proxied = turn.network.rules.neighbours == Neighbours::Host
        && !asker.is_unspecified()
        && asker != target_addr
        && turn.lease.v6 != Some(target_addr);
    if !turn.is_own_address(target_addr.into()) && !proxied {
        return;
    }
    let gateway_mac = turn.link.gateway_mac;
    let flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
    // An unspecified address is a guest's duplicate detection: RFC 4861, section 7.2.4.
    let (to, flags) = if asker.is_unspecified() {
        (ALL_NODES, flags)
    } else {
        (asker, flags | NdiscNeighborFlags::SOLICITED)
    };
    let lladdr = hardware_address(gateway_mac);
    send(turn, target_addr, to, NdiscRepr::NeighborAdvert { flags, target_addr, lladdr }, &[]);
    // Only routes by advertisement lead to this address: the route is in use, of a time before this
    // program took over from another.
    if target_addr == link_local(gateway_mac.0)
        && !asker.is_unspecified()
        && turn.network.rules.protocols.ra
        && !turn.fx.adverts.ports.contains(&turn.port)
    {
        advertise(turn, ALL_NODES);
    }
}

/// Tells the guest that the gateway is its router, and again before it forgets.
pub(super) fn advertise(turn: &mut Turn<'_>, to: Ipv6Addr) {
    let Some(v6) = turn.network.addresses.v6 else { return };
    // On a shared network a container has the address of its lease and no other.
    let flags = match turn.network.sharing {
        Sharing::Private => NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
        Sharing::Shared | Sharing::Isolated => NdiscPrefixInfoFlags::ON_LINK,
    };
    let prefix_info = NdiscPrefixInformation {
        prefix_len: v6.subnet.prefix_len,
        flags,
        valid_lifetime: FOREVER,
        preferred_lifetime: FOREVER,
        prefix: v6.subnet.address,
    };
    let gateway_mac = turn.link.gateway_mac;
    let advert = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        // More is to be had by DHCPv6, but no addresses.
        flags: NdiscRouterFlags::OTHER,
        // RFC 4861, section 4.2: zero is no default router.
        router_lifetime: if turn.network.default_route { ROUTER_LIFETIME } else { Duration::ZERO },
        reachable_time: Duration::ZERO,
        retrans_time: Duration::ZERO,
        lladdr: hardware_address(gateway_mac),
        mtu: u32::try_from(turn.link.mtu).ok(),
        prefix_info: Some(prefix_info),
    };
    let mut more = dns_option(&turn.network.announced(v6.dns.into()));
    more.extend(search_option(&turn.network.announced_domains()));
    send(turn, link_local(gateway_mac.0), to, advert, &more);
    let Adverts { ports, due } = &mut turn.fx.adverts;
    if !ports.contains(&turn.port) {
        ports.push(turn.port);
    }
    due.get_or_insert(turn.now + INTERVAL);
}

/// Tells the guest which hardware address a lease's IPv6 address has, unasked (RFC 4861, section
/// 7.2.6): who does not know the address yet ignores it.
pub(super) fn announce(turn: &mut Turn<'_>, lease: &Lease) {
    let Some(target_addr) = lease.v6 else { return };
    let flags = NdiscNeighborFlags::OVERRIDE;
    let lladdr = hardware_address(lease.mac);
    let advert = NdiscRepr::NeighborAdvert { flags, target_addr, lladdr };
    send(turn, target_addr, ALL_NODES, advert, &[]);
}

/// Asks whether the guest has its lease's IPv6 address (RFC 4861, section 7.2.2).
pub(super) fn ask(turn: &mut Turn<'_>) {
    let Some(target_addr) = turn.lease.v6 else { return };
    let gateway_mac = turn.link.gateway_mac.0;
    let lladdr = Some(RawHardwareAddress::from(EthernetAddress(gateway_mac)));
    let message = NdiscRepr::NeighborSolicit { target_addr, lladdr };
    // RFC 4291, section 2.7.1: the group of all addresses that end so.
    let [.., a, b, c] = target_addr.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    send(turn, link_local(gateway_mac), group, message, &[]);
}

/// All nodes on the link (RFC 4291, section 2.7.1).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The option that names DNS servers for ever (RFC 8106, section 5.1); nothing without any.
fn dns_option(servers: &[u8]) -> Vec<u8> {
    const RDNSS: u8 = 25;
    endless(RDNSS, servers)
}

/// The option that names the domains to search for ever (RFC 8106, section 5.2); nothing without
/// any.
fn search_option(domains: &[u8]) -> Vec<u8> {
    const DNSSL: u8 = 31;
    endless(DNSSL, domains)
}

/// An option that holds for ever: after its type a length in units of eight bytes, the last filled
/// with zeros.
fn endless(kind: u8, data: &[u8]) -> Vec<u8> {
    let Some(units) = u8::try_from(1 + data.len().div_ceil(8)).ok().filter(|units| *units > 1)
    else {
        return Vec::new();
    };
    let mut option = [&[kind, units, 0, 0][..], &u32::MAX.to_be_bytes(), data].concat();
    option.resize(usize::from(units) * 8, 0);
    option
}

/// Sends a message followed by options that smoltcp does not know.
fn send(
    turn: &mut Turn<'_>,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    message: NdiscRepr<'_>,
    more: &[u8],
) {
    let repr = Icmpv6Repr::Ndisc(message);
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &source,
        &destination,
        &mut Icmpv6Packet::new_unchecked(&mut bytes[..]),
        &ChecksumCapabilities::ignored(),
    );
    bytes.extend_from_slice(more);
    Icmpv6Packet::new_unchecked(&mut bytes[..]).fill_checksum(&source, &destination);
    let addresses = (IpAddr::V6(source), IpAddr::V6(destination));
    turn.send_datagram(addresses, IpProtocol::Icmpv6, HOP_LIMIT, &bytes);
}
