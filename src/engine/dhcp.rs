//! DHCP for IPv4 (RFC 2131): images that run a client get the address that their port has anyway.
//!
//! A port's lease is its own, so the offer to a container is always the same, and a client that restarts
//! keeps its address. Machines that it has bridged to its interface have an address of a [`Pool`], one a
//! hardware address, as slirp4netns has it for all. Read first: RFC 2131 sections 4.1 and 4.3, RFC 2132.
//! Not here: DHCPv6 ([`super::dhcpv6`]) and DHCP towards the host's network, which never happens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use smoltcp::wire::{
    ArpHardware, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpFlags, DhcpMessageType, DhcpOpCode,
    DhcpOption, DhcpPacket, EthernetAddress, UdpPacket,
};

use super::frame::{IpPacket, Link};
use super::machines::Machines;
use super::stats::{DropReason, Verdict};
use super::{PortId, Turn};
use crate::config::{MacAddress, Neighbours, Sharing};

/// How long a lease lasts: a day. It is never given to anybody else.
const LEASE_SECONDS: u32 = 86_400;
/// "DHCP" at the head of the options (RFC 2131, section 3).
const MAGIC: u32 = 0x6382_5363;
/// Fixed fields and the magic number, in bytes.
const FIXED_LEN: usize = 240;
/// The least that a BOOTP message has, in bytes (RFC 1542, section 2.1): some clients drop less.
const MIN_LEN: usize = 300;
/// The most that every client takes, in bytes (RFC 2131, section 2): 576 with IP and UDP headers.
const MAX_LEN: usize = 548;
/// How many hardware addresses have an address of a [`Pool`] at once: as slirp4netns, and otherwise (as
/// many as are told from each other, see [`Machines`]).
const POOL_SIZES: (u32, u32) = (16, 64);

// Options of RFC 2132 that smoltcp does not name for others.
const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAME_SERVERS: u8 = 6;
const DOMAIN_NAME: u8 = 15;
const INTERFACE_MTU: u8 = 26;
const BROADCAST_ADDRESS: u8 = 28;
const REQUESTED_ADDRESS: u8 = 50;
const LEASE_TIME: u8 = 51;
const MESSAGE_TYPE: u8 = 53;
const SERVER_IDENTIFIER: u8 = 54;
const CLIENT_IDENTIFIER: u8 = 61;
const DOMAIN_SEARCH: u8 = 119;
const CLASSLESS_ROUTES: u8 = 121;

/// Who has which address of a range; the hardware address heard longest ago gives way.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Longest silent first.
    holders: Vec<(PortId, MacAddress, Ipv4Addr)>,
}

impl Pool {
    /// The address for a client: the one that it wants rather than another, as it may have had it
    /// before we were started. `None` where there is none to give.
    fn address(&mut self, turn: &Turn<'_>, request: &Request) -> Option<Ipv4Addr> {
        let mac = MacAddress(request.mac.0);
        let known = self.holders.iter().position(|holder| (holder.0, holder.1) == (turn.port, mac));
        let address = match known {
            Some(at) => self.holders.remove(at).2,
            None => {
                let (first, size) = match turn.network.dhcp_pool {
                    Some(first) => (first.to_bits(), POOL_SIZES.0),
                    None => (turn.lease.v4.to_bits().wrapping_add(1), POOL_SIZES.1),
                };
                let free = (0..size)
                    .map(|step| Ipv4Addr::from_bits(first.wrapping_add(step)))
                    .filter(|ip| self.holders.iter().all(|holder| holder.2 != *ip))
                    .filter(|ip| is_to_give(turn, mac, *ip));
                let wanted = free.clone().find(|ip| request.wanted() == Some(*ip));
                wanted
                    .or_else(|| free.clone().next())
                    .or_else(|| (!self.holders.is_empty()).then(|| self.holders.remove(0).2))?
            }
        };
        self.holders.push((turn.port, mac, address));
        Some(address)
    }
}

/// Whether a machine may have an address: one of the network's that nobody else is known to have.
fn is_to_give(turn: &Turn<'_>, mac: MacAddress, ip: Ipv4Addr) -> bool {
    let subnet = &turn.network.addresses.v4.subnet;
    let there = subnet.contains(ip) && ip != subnet.broadcast();
    let own = ip == turn.lease.v4 || turn.is_own_address(ip.into());
    there && !own && turn.link.machines.find(ip.into()).is_none_or(|has| has == mac)
}

/// The address for who asks. That of the port is for who has it, as far as is known.
fn lease_for(turn: &Turn<'_>, pool: &mut Pool, request: &Request) -> Option<Ipv4Addr> {
    let own = turn.lease.v4;
    if turn.network.dhcp_pool.is_none() {
        let has_own = || turn.link.machines.find(own.into()).unwrap_or(turn.lease.mac);
        // Those on a shared network are held to their leases.
        if turn.network.sharing != Sharing::Private || has_own().0 == request.mac.0 {
            return Some(own);
        }
        // All others there are somebody's.
        if turn.network.rules.neighbours == Neighbours::Host {
            return None;
        }
    }
    pool.address(turn, request)
}

/// Whether a datagram is a client's to the server.
pub(super) fn is_for_server(
    turn: &Turn<'_>,
    packet: &IpPacket<'_>,
    udp: &UdpPacket<&[u8]>,
) -> bool {
    let IpAddr::V4(destination) = packet.destination else {
        return false;
    };
    let v4 = &turn.network.addresses.v4;
    let here = [Ipv4Addr::BROADCAST, v4.subnet.broadcast(), v4.gateway].contains(&destination);
    here && (udp.src_port(), udp.dst_port()) == (DHCP_CLIENT_PORT, DHCP_SERVER_PORT)
}

/// A client's message, as far as it matters.
struct Request {
    kind: DhcpMessageType,
    transaction: u32,
    secs: u16,
    flags: DhcpFlags,
    client: Ipv4Addr,
    mac: EthernetAddress,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    identifier: Vec<u8>,
}

impl Request {
    /// `None` for what no client on this link sends.
    fn parse(message: &[u8]) -> Option<Self> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        let direct = packet.relay_agent_ip().is_unspecified();
        let ethernet =
            packet.hardware_type() == ArpHardware::Ethernet && packet.hardware_len() == 6;
        let right = packet.opcode() == DhcpOpCode::Request && packet.magic_number() == MAGIC;
        if !(direct && ethernet && right) {
            return None;
        }
        let (mut kind, mut requested, mut server) = (None, None, None);
        let mut identifier = Vec::new();
        for DhcpOption { kind: option, data } in packet.options() {
            match (option, data) {
                (MESSAGE_TYPE, &[value]) => kind = Some(DhcpMessageType::from(value)),
                (REQUESTED_ADDRESS, &[a, b, c, d]) => requested = Some(Ipv4Addr::new(a, b, c, d)),
                (SERVER_IDENTIFIER, &[a, b, c, d]) => server = Some(Ipv4Addr::new(a, b, c, d)),
                // Given back as it came, so of a length that leaves room for the rest.
                (CLIENT_IDENTIFIER, data) if data.len() <= 64 => identifier = data.to_vec(),
                _ => {}
            }
        }
        Some(Self {
            kind: kind?,
            transaction: packet.transaction_id(),
            secs: packet.secs(),
            flags: packet.flags(),
            client: packet.client_ip(),
            mac: packet.client_hardware_address(),
            requested,
            server,
            identifier,
        })
    }

    /// The address that a `DHCPREQUEST` asks for: RFC 2131, section 4.3.2.
    fn wanted(&self) -> Option<Ipv4Addr> {
        self.requested.or(Some(self.client)).filter(|ip| !ip.is_unspecified())
    }
}

/// Takes a datagram for which [`is_for_server`] holds.
pub(super) fn handle(turn: &mut Turn<'_>, pool: &mut Pool, message: &[u8]) -> Verdict {
    let Some(request) = Request::parse(message) else {
        return Verdict::Dropped(DropReason::Malformed);
    };
    let (own, pooled) = (turn.lease.v4, turn.network.dhcp_pool.is_some());
    let lease = match lease_for(turn, pool, &request) {
        Some(lease) => lease,
        None if request.kind == DhcpMessageType::Inform => Ipv4Addr::UNSPECIFIED,
        None => {
            log::debug!("dhcp: no address for {}", request.mac);
            return Verdict::Gateway;
        }
    };
    let gateway = turn.network.addresses.v4.gateway;
    if request.server.is_some_and(|server| server != gateway) {
        // It has chosen another server; there is none, but that is its affair.
        return Verdict::Gateway;
    }
    let answer = match request.kind {
        DhcpMessageType::Discover => Some(DhcpMessageType::Offer),
        // As slirp4netns, a container that has its address from us without DHCP may ask for that too.
        DhcpMessageType::Request => match request.wanted() {
            Some(wanted) if wanted == lease || (pooled && wanted == own) => {
                Some(DhcpMessageType::Ack)
            }
            Some(_) => Some(DhcpMessageType::Nak),
            None => return Verdict::Dropped(DropReason::Malformed),
        },
        DhcpMessageType::Inform => Some(DhcpMessageType::Ack),
        DhcpMessageType::Decline => {
            log::warn!("dhcp: the container says that somebody else has {lease}");
            if let Some(holder) = pool.holders.iter_mut().find(|holder| holder.2 == lease) {
                // Nobody's hardware address: another is offered next.
                holder.1 = MacAddress([0; 6]);
            }
            None
        }
        DhcpMessageType::Release => None,
        DhcpMessageType::Offer
        | DhcpMessageType::Ack
        | DhcpMessageType::Nak
        | DhcpMessageType::Unknown(_) => return Verdict::Dropped(DropReason::Malformed),
    };
    let Some(kind) = answer else {
        return Verdict::Gateway;
    };
    let yours = match (request.kind, kind) {
        // RFC 2131, table 3: neither tells an address.
        (DhcpMessageType::Inform, _) | (_, DhcpMessageType::Nak) => Ipv4Addr::UNSPECIFIED,
        (DhcpMessageType::Request, _) => request.wanted().unwrap_or(lease),
        _ => lease,
    };
    let options = options(turn, &request, kind, yours);
    let reply = compose(&request, kind, yours, &options);
    // RFC 2131, section 4.1.
    let broadcast = request.flags.contains(DhcpFlags::BROADCAST);
    let to = match kind {
        DhcpMessageType::Nak => Ipv4Addr::BROADCAST,
        _ if !request.client.is_unspecified() => request.client,
        _ if broadcast || yours.is_unspecified() => Ipv4Addr::BROADCAST,
        _ => yours,
    };
    turn.fx.stats.dhcp_answers += 1;
    let from = SocketAddrV4::new(gateway, DHCP_SERVER_PORT);
    let to = SocketAddrV4::new(to, DHCP_CLIENT_PORT);
    // The address may be another machine's still: who asked is to hear.
    let link = &mut Link { machines: Machines::default(), ..*turn.link };
    let mut asker = Turn { link, stack: turn.stack, fx: turn.fx, ..*turn };
    asker.send_udp(SocketAddr::V4(from), SocketAddr::V4(to), &reply);
    Verdict::Gateway
}

/// The options of an answer, in order, without the end mark.
fn options(turn: &Turn<'_>, request: &Request, kind: DhcpMessageType, yours: Ipv4Addr) -> Vec<u8> {
    let v4 = &turn.network.addresses.v4;
    let mut options = Vec::with_capacity(MAX_LEN - FIXED_LEN);
    let mut put = |kind: u8, data: &[u8]| {
        if let Ok(length) = u8::try_from(data.len())
            && length > 0
            && options.len() + data.len() + 3 <= MAX_LEN - FIXED_LEN
        {
            options.extend_from_slice(&[kind, length]);
            options.extend_from_slice(data);
        }
    };
    put(MESSAGE_TYPE, &[kind.into()]);
    put(SERVER_IDENTIFIER, &v4.gateway.octets());
    // RFC 6842: a client that shares its hardware address knows its answer by this.
    put(CLIENT_IDENTIFIER, &request.identifier);
    if kind == DhcpMessageType::Nak {
        return options;
    }
    if !yours.is_unspecified() {
        put(LEASE_TIME, &LEASE_SECONDS.to_be_bytes());
    }
    put(SUBNET_MASK, &v4.subnet.mask().to_be_bytes());
    if turn.network.default_route {
        put(ROUTER, &v4.gateway.octets());
    }
    if turn.network.default_route && !v4.subnet.contains(v4.gateway) {
        // RFC 3442: the router is on the link, and everything else is beyond it.
        let [a, b, c, d] = v4.gateway.octets();
        put(CLASSLESS_ROUTES, &[32, a, b, c, d, 0, 0, 0, 0, 0, a, b, c, d]);
    }
    put(NAME_SERVERS, &turn.network.announced(v4.dns.into()));
    // RFC 3397; nobody asks for so many domains that one option cannot hold them.
    let domains = turn.network.announced_domains();
    put(DOMAIN_SEARCH, &domains);
    // For clients that know of one domain only.
    if let Some(first) = turn.network.resolver.search.first().filter(|_| !domains.is_empty()) {
        put(DOMAIN_NAME, first.to_string().as_bytes());
    }
    put(BROADCAST_ADDRESS, &v4.subnet.broadcast().octets());
    if let Ok(mtu) = u16::try_from(turn.link.mtu) {
        put(INTERFACE_MTU, &mtu.to_be_bytes());
    }
    options
}

fn compose(request: &Request, kind: DhcpMessageType, yours: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    const END: u8 = 255;
    let mut reply = vec![0; FIXED_LEN];
    let mut packet = DhcpPacket::new_unchecked(&mut reply[..]);
    packet.set_opcode(DhcpOpCode::Reply);
    packet.set_hardware_type(ArpHardware::Ethernet);
    packet.set_hardware_len(6);
    packet.set_transaction_id(request.transaction);
    packet.set_secs(request.secs);
    packet.set_flags(request.flags);
    // RFC 2131, table 3: `ciaddr` is given back in an ACK alone.
    if kind == DhcpMessageType::Ack {
        packet.set_client_ip(request.client);
    }
    packet.set_your_ip(yours);
    packet.set_client_hardware_address(request.mac);
    packet.set_magic_number(MAGIC);
    reply.extend_from_slice(options);
    reply.push(END);
    if reply.len() < MIN_LEN {
        reply.resize(MIN_LEN, 0);
    }
    reply
}
