//! DHCP of both families: one client's hostile messages.
//!
//! Whatever comes, each message has at most one answer, to the client's port and transaction, and
//! no address is ever given but the port's own and, to machines behind it, the 64 that follow.

use std::net::{IpAddr, Ipv6Addr};

use rnsnet::config::{Lease, Network};
use rnsnet::engine::{Engine, Instant};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, IpProtocol, Ipv4Packet, Ipv6Packet, UdpPacket};

use super::input::Input;
use super::packet;

/// Runs one input.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let now = Instant::from_millis(1);
    let mut engine = Engine::new(Network::default(), [1, 2, 3, 4]);
    let port = engine.add_port(Lease::default(), false, now).unwrap();
    for _ in 0..16 {
        if input.is_empty() {
            break;
        }
        let choice = input.u8();
        let v6 = choice & 1 == 1;
        // A message that is right but for some bytes, with options of the input's; or just bytes.
        let mut message = if choice & 2 == 0 { Vec::new() } else { blank(v6, choice >> 2) };
        for _ in 0..choice >> 6 {
            let at = usize::from(input.u8());
            if let Some(byte) = message.get_mut(at) {
                *byte = input.u8();
            }
        }
        let tail = usize::from(input.u8());
        message.extend_from_slice(input.bytes(tail));
        let (addresses, ports) = if v6 {
            let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
            let client = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x64);
            ((IpAddr::V6(client), IpAddr::V6(servers)), (546, 547))
        } else {
            ((IpAddr::from([0, 0, 0, 0]), IpAddr::from([255, 255, 255, 255])), (68, 67))
        };
        let mut datagram = [&[0; 8], message.as_slice()].concat();
        let length = u16::try_from(datagram.len()).unwrap();
        let mut udp = UdpPacket::new_unchecked(&mut datagram);
        udp.set_src_port(ports.0);
        udp.set_dst_port(ports.1);
        udp.set_len(length);
        packet::finish(addresses, IpProtocol::Udp, &mut datagram);
        let ip = packet::ip(addresses, IpProtocol::Udp, 64, None, &datagram).unwrap();
        let kind = if v6 { 0x86dd } else { 0x0800 };
        engine.handle_frame(port, &mut packet::frame(None, kind, &ip), now);
        assert!(engine.poll_host().is_none(), "the host is asked for something");
        let mut answers = 0;
        while engine.poll_frame(now, |_, frame, _| {
            packet::check(false, 1500, frame);
            answers += 1;
            check(v6, &message, &frame[14..]);
        }) {}
        assert!(answers <= 1, "{answers} answers to one message");
    }
}

/// What a client sends, without options but for the kind of the message.
fn blank(v6: bool, kind: u8) -> Vec<u8> {
    if v6 {
        return vec![11, 1, 2, 3];
    }
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    message[28..34].copy_from_slice(&packet::GUEST_MAC);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend_from_slice(&[53, 1, 1 + kind % 8]);
    message
}

fn check(v6: bool, message: &[u8], answer: &[u8]) {
    if v6 {
        let ip = Ipv6Packet::new_checked(answer).unwrap();
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert_eq!((udp.src_port(), udp.dst_port()), (547, 546));
        assert_eq!(udp.payload()[..4], [&[7], &message[1..4]].concat());
        return;
    }
    let ip = Ipv4Packet::new_checked(answer).unwrap();
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert_eq!((udp.src_port(), udp.dst_port()), (67, 68));
    let dhcp = DhcpPacket::new_checked(udp.payload()).unwrap();
    assert!(udp.payload().len() <= 548, "more than every client takes");
    assert_eq!(udp.payload()[4..8], message[4..8], "another transaction");
    let own = Lease::default();
    let given = dhcp.your_ip();
    let place = given.to_bits().wrapping_sub(own.v4.to_bits());
    assert!(given.is_unspecified() || place <= 64, "a strange address: {given}");
    assert!(place != 0 || message[28..34] == own.mac.0, "the container's address: {message:x?}");
    let kind = dhcp.options().find(|option| option.kind == 53).unwrap().data[0];
    let kind = DhcpMessageType::from(kind);
    assert!(
        matches!(kind, DhcpMessageType::Offer | DhcpMessageType::Ack | DhcpMessageType::Nak),
        "{kind:?}"
    );
}
