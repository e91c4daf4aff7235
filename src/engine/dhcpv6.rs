//! DHCP for IPv6, as far as it tells without giving: `Information-request` (RFC 8415, 18.2.6).
//!
//! Addresses come from the prefix that the router advertises, or were set when the container was
//! attached; a client that asks for one here gets no answer. Read first: RFC 8415 sections 16.12
//! and 18.3.6, RFC 3646. Not here: router advertisement ([`super::ndp`]).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use smoltcp::wire::UdpPacket;

use super::frame::IpPacket;
use super::stats::{DropReason, Verdict};
use super::{Turn, ndp};

const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415, section 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

// Message types (RFC 8415, section 7.3).
const REPLY: u8 = 7;
const INFORMATION_REQUEST: u8 = 11;

// Options (RFC 8415, section 21, and RFC 3646).
const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_TA: u16 = 4;
const DNS_SERVERS: u16 = 23;
const DOMAIN_LIST: u16 = 24;
const IA_PD: u16 = 25;
const REFRESH_TIME: u16 = 32;

/// The longest DUID, in bytes, type included (RFC 8415, section 11.1).
const MAX_DUID_LEN: usize = 130;
/// When a client asks again, in seconds: a day, the default of RFC 8415, section 7.6.
const REFRESH_SECONDS: u32 = 86_400;

/// Whether a datagram is a client's to the servers of the link. Those to one server's address are
/// to be discarded (RFC 8415, section 16).
pub(super) fn is_for_server(packet: &IpPacket<'_>, udp: &UdpPacket<&[u8]>) -> bool {
    matches!(packet.source, IpAddr::V6(ip) if ip.is_unicast_link_local())
        && packet.destination == IpAddr::V6(SERVERS)
        && (udp.src_port(), udp.dst_port()) == (CLIENT_PORT, SERVER_PORT)
}

/// Takes a datagram for which [`is_for_server`] holds.
pub(super) fn handle(turn: &mut Turn<'_>, client: IpAddr, message: &[u8]) -> Verdict {
    let Some(v6) = turn.network.addresses.v6 else {
        return Verdict::Dropped(DropReason::UnknownProtocol);
    };
    let Some((&[INFORMATION_REQUEST, t0, t1, t2], options)) = message.split_first_chunk() else {
        return Verdict::Dropped(DropReason::Malformed);
    };
    let mac = turn.link.gateway_mac.0;
    // DUID-LL (RFC 8415, section 11.4): type 3, hardware type 1.
    let own_id = [&[0, 3, 0, 1][..], &mac].concat();
    let mut client_id: &[u8] = &[];
    let mut rest = options;
    while let Some((&[k0, k1, l0, l1], body)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some((data, next)) = body.split_at_checked(length) else {
            return Verdict::Dropped(DropReason::Malformed);
        };
        match u16::from_be_bytes([k0, k1]) {
            CLIENT_ID if data.len() <= MAX_DUID_LEN => client_id = data,
            SERVER_ID if data != own_id => return Verdict::Gateway,
            // RFC 8415, section 16.12: no request for information asks for an address.
            CLIENT_ID | IA_NA | IA_TA | IA_PD => return Verdict::Dropped(DropReason::Malformed),
            _ => {}
        }
        rest = next;
    }
    if !rest.is_empty() {
        return Verdict::Dropped(DropReason::Malformed);
    }
    let mut reply = vec![REPLY, t0, t1, t2];
    let mut put = |kind: u16, data: &[u8]| {
        if let Ok(length) = u16::try_from(data.len())
            && length > 0
        {
            reply.extend_from_slice(&kind.to_be_bytes());
            reply.extend_from_slice(&length.to_be_bytes());
            reply.extend_from_slice(data);
        }
    };
    put(CLIENT_ID, client_id);
    put(SERVER_ID, &own_id);
    put(DNS_SERVERS, &turn.network.announced(v6.dns.into()));
    put(DOMAIN_LIST, &turn.network.announced_domains());
    put(REFRESH_TIME, &REFRESH_SECONDS.to_be_bytes());
    turn.fx.stats.dhcp_answers += 1;
    let from = SocketAddr::new(ndp::link_local(mac).into(), SERVER_PORT);
    turn.send_udp(from, SocketAddr::new(client, CLIENT_PORT), &reply);
    Verdict::Gateway
}
