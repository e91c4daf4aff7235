//! The DNS forwarder: one hostile client's queries, three hostile servers' answers.
//!
//! Whatever comes, a server sees the query byte for byte under another id, and the client gets
//! only what repeats its id and its question.

use std::net::{IpAddr, SocketAddr};

use rnsnet::config::{Lease, MacAddress, Mtu, Network};
use rnsnet::engine::dns::Resolvers;
use rnsnet::engine::host::{HostEvent, HostOp, SocketId};
use rnsnet::engine::{Engine, Instant, PortId};
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, Ipv4Packet, UdpPacket};

use super::input::Input;
use super::packet;

/// Runs one input.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let network = Network { mtu: Mtu::new(65_520).unwrap(), ..Network::default() };
    let mut now = Instant::from_millis(1);
    let mut engine = Engine::new(network, [1, 2, 3, 4]);
    let lease = Lease { mac: MacAddress(packet::GUEST_MAC), ..Lease::default() };
    engine.add_port(lease, false, now).unwrap();
    let servers: Vec<SocketAddr> =
        (1..=3).map(|last| SocketAddr::from(([192, 0, 2, last], 53))).collect();
    engine.set_resolvers(Resolvers::new(servers.clone()), now);
    let addresses = (IpAddr::from([10, 0, 2, 100]), IpAddr::from([10, 0, 2, 3]));

    let length = usize::from(input.u16() & 0x3ff);
    let query = input.bytes(length).to_vec();
    let mut bytes = [&[0; 8], query.as_slice()].concat();
    let udp_len = u16::try_from(bytes.len()).unwrap();
    let mut udp = UdpPacket::new_unchecked(&mut bytes);
    udp.set_src_port(4000);
    udp.set_dst_port(53);
    udp.set_len(udp_len);
    packet::finish(addresses, IpProtocol::Udp, &mut bytes);
    let ip = packet::ip(addresses, IpProtocol::Udp, 64, None, &bytes).unwrap();
    engine.handle_frame(PortId(0), &mut packet::frame(None, 0x0800, &ip), now);

    let mut asked: Option<(SocketId, Vec<u8>)> = None;
    let mut replies: Vec<Vec<u8>> = Vec::new();
    for round in 0..128 {
        while let Some(op) = engine.poll_host() {
            if let HostOp::Send { socket, to, payload, .. } = op {
                assert_eq!(to, None, "a query from a socket that is not connected");
                assert_eq!(payload.get(2..), query.get(2..), "a query that was changed");
                asked = Some((socket, payload));
            }
        }
        while engine.poll_frame(now, |_, frame| {
            packet::check(false, 65_520, frame);
            let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
            replies.push(UdpPacket::new_checked(ip.payload()).unwrap().payload().to_vec());
        }) {}
        let Some((socket, sent)) = &asked else { break };
        match input.u8() {
            // Three servers are asked twice, with patience of at most three seconds.
            _ if input.is_empty() || round >= 64 => now += Duration::from_secs(2),
            0..=7 => now += Duration::from_millis(u64::from(input.u16())),
            8..=15 => {
                let error = HostEvent::Failed(std::io::ErrorKind::ConnectionRefused);
                engine.handle_host(*socket, error, now);
            }
            bits => {
                // The query as an answer, bent; or anything at all.
                let mut answer = if bits & 1 == 0 { sent.clone() } else { Vec::new() };
                if let Some(flags) = answer.get_mut(2) {
                    *flags |= 0x80;
                }
                for _ in 0..bits >> 1 & 3 {
                    let at = usize::from(input.u8());
                    if let Some(byte) = answer.get_mut(at) {
                        *byte = input.u8();
                    }
                }
                let tail = usize::from(input.u8());
                answer.extend_from_slice(input.bytes(tail));
                let event = HostEvent::Datagram { from: servers[0], to: None, payload: &answer };
                engine.handle_host(*socket, event, now);
            }
        }
        engine.handle_timeout(now);
    }
    assert!(replies.len() <= 1, "{} answers to one query", replies.len());
    for reply in replies {
        assert_eq!(reply.get(..2), query.get(..2), "an answer under another id");
        assert!(reply.get(2).is_some_and(|flags| flags & 0x80 != 0), "a query as an answer");
    }
    assert!(
        engine.to_string().contains("0 dns queries in flight"),
        "a query that never ends:\n{engine}"
    );
}
