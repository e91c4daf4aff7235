//! ICMP errors, both ways: the last hop, what the host hears, what is too long, what a guest refuses.

use std::net::SocketAddr;

use super::net::{Net, address, guest, server, socket};
use super::packets::{Datagram, Segment, icmp, ip, pattern, read_ip};
use crate::config::{HostAccess, Protocol};
use crate::engine::host::{Bounce, HostEvent, IpFields, SocketId, SocketKind};
use crate::engine::stats::{DropReason, Verdict};

const ROUTER4: &str = "203.0.113.254";
const ROUTER6: &str = "2001:db8:2::fe";

fn router(v6: bool) -> std::net::IpAddr {
    address(if v6 { ROUTER6 } else { ROUTER4 })
}

/// The same packet with another time to live.
fn with_hops(mut packet: Vec<u8>, hops: u8) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] = hops;
    } else {
        packet[8] = hops;
        reseal(&mut packet);
    }
    packet
}

/// Makes an IPv4 header's checksum right again.
fn reseal(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = !smoltcp::wire::checksum::data(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn ping(v6: bool, seq: u16) -> Vec<u8> {
    let request = if v6 { 128 } else { 8 };
    let body = [&[0x12, 0x34][..], &seq.to_be_bytes(), b"payload"].concat();
    icmp(guest(v6, 0).ip(), server(v6, 0).ip(), request, 0, &body)
}

fn datagram(v6: bool) -> Vec<u8> {
    Datagram::new(guest(v6, 4_000), server(v6, 33_434), b"probe").packet()
}

#[test]
fn the_gateway_is_the_first_hop() {
    for v6 in [false, true] {
        let syn = Segment::syn(guest(v6, 4_001), server(v6, 80), 1460).packet();
        for (packet, hops) in [(datagram(v6), 1), (ping(v6, 1), 1), (syn, 1), (datagram(v6), 0)] {
            let mut net = Net::by_hand();
            let packet = with_hops(packet, hops);
            assert_eq!(net.guest_sends(&packet), Verdict::Refused);
            let error = net.guest_gets_icmp();
            let gateway = address(if v6 { "fd72:6e73:6e65::2" } else { "10.0.2.2" });
            assert_eq!((error.from, error.to), (gateway, guest(v6, 0).ip()));
            assert_eq!(error.payload[..2], if v6 { [3, 0] } else { [11, 0] });
            assert_eq!(error.payload[4..8], [0; 4]);
            assert_eq!(error.payload[8..], packet);
            net.host_opens_nothing();
            net.expect_counters(&[]);
            net.expect_no_flows();
        }
    }
}

#[test]
fn the_gateway_itself_is_reached_on_the_last_hop() {
    let mut net = Net::by_hand();
    let body = b"\x12\x34\0\x01payload";
    let packet = icmp(guest(false, 0).ip(), address("10.0.2.2"), 8, 0, body);
    assert_eq!(net.guest_sends(&with_hops(packet, 1)), Verdict::Gateway);
    assert_eq!(net.guest_gets_icmp().payload[..2], [0, 0]);
}

#[test]
fn what_goes_on_has_a_hop_less() {
    for v6 in [false, true] {
        for packet in [datagram(v6), ping(v6, 1)] {
            let mut net = Net::by_hand();
            for hops in [2, 64, 255] {
                net.guest_sends(&with_hops(packet.clone(), hops));
                assert_eq!(net.host_sends().fields.hop_limit, Some(hops - 1));
            }
        }
    }
}

#[test]
fn the_class_is_kept_and_the_marks_of_congestion_are_not() {
    let mut net = Net::by_hand();
    let mut packet = datagram(false);
    packet[1] = 0xb8 | 2;
    reseal(&mut packet);
    net.guest_sends(&packet);
    assert_eq!(net.host_sends().fields.traffic_class, 0xb8);
    let mut packet = datagram(true);
    packet[0] |= 0xb;
    packet[1] = 0xa0;
    net.guest_sends(&packet);
    assert_eq!(net.host_sends().fields.traffic_class, 0xb8);
}

#[test]
fn only_what_an_ordinary_link_takes_stays_whole() {
    let mut net = Net::new(&super::net::Options { mtu: 9000, ..Default::default() });
    let mut fields = |packet: &[u8]| {
        net.guest_sends(packet);
        net.host_sends().fields.dont_fragment
    };
    for (v6, header) in [(false, 28), (true, 48)] {
        let sized = |len: usize| {
            Datagram::new(guest(v6, 4_000), server(v6, 9), &pattern(len - header)).packet()
        };
        assert!(fields(&sized(1500)));
        assert!(!fields(&sized(1501)), "the guest's link promises more than there is");
    }
    let mut may_be_cut = datagram(false);
    may_be_cut[6] = 0;
    reseal(&mut may_be_cut);
    assert!(!fields(&may_be_cut));
    // What came in fragments may leave in fragments.
    for v6 in [false, true] {
        let whole = read_ip(&datagram(v6));
        let (head, tail) = whole.payload.split_at(8);
        for (piece, position) in [(head, (0, true, 5)), (tail, (8, false, 5))] {
            let fragment = ip(whole.from, whole.to, 17, piece, Some(position));
            net.guest_sends(&fragment);
        }
        assert!(!net.host_sends().fields.dont_fragment);
    }
}

#[test]
fn what_comes_to_the_guest_may_be_cut_behind_it() {
    let mut net = Net::by_hand();
    net.guest_sends(&datagram(false));
    let host = net.host_opens(SocketKind::Udp { v6: false });
    net.guest_sends(&icmp(guest(false, 0).ip(), address("10.0.2.2"), 8, 0, b"\0\x01\0\x01"));
    for _ in 0..2 {
        net.host_gets(host, server(false, 33_434), b"answer");
    }
    let mut ids = std::collections::BTreeSet::new();
    for packet in [net.guest_gets(), net.guest_gets(), net.guest_gets()] {
        assert_eq!(packet[6..8], [0, 0]);
        ids.insert([packet[4], packet[5]]);
        read_ip(&packet);
    }
    assert_eq!(ids.len(), 3);
}

#[test]
fn what_has_arrived_has_a_hop_left() {
    let options = super::net::Options { host_access: HostAccess::All, ..Default::default() };
    let mut net = Net::new(&options);
    let probe = Datagram::new(guest(false, 4_000), socket("10.0.2.2:33434"), b"probe").packet();
    net.guest_sends(&with_hops(probe, 1));
    assert_eq!(net.host_sends().fields.hop_limit, Some(1));
}

#[test]
fn nobody_is_told_about_an_error() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let (kind, code) = if v6 { (1, 4) } else { (3, 3) };
        let body = [&[0; 4][..], &datagram(v6)].concat();
        let error = icmp(guest(v6, 0).ip(), server(v6, 0).ip(), kind, code, &body);
        net.guest_sends(&with_hops(error, 1));
        net.guest_gets_nothing();
    }
}

fn bounced(net: &mut Net, host: SocketId, to: SocketAddr, bounce: Bounce, payload: &[u8]) {
    net.host_event(host, HostEvent::Bounced { to, bounce, payload });
}

#[test]
fn what_the_host_hears_of_a_datagram_goes_on_in_the_name_of_who_said_it() {
    // (type, code, mtu) as heard, and the first eight bytes but for the checksum as told.
    let heard4: &[(u8, u8, u32, [u8; 4])] = &[
        (11, 0, 0, [0; 4]),
        (3, 1, 0, [0; 4]),
        (3, 3, 0, [0; 4]),
        (3, 13, 0, [0; 4]),
        (3, 4, 1400, [0, 0, 5, 0x78]),
    ];
    let heard6: &[(u8, u8, u32, [u8; 4])] = &[
        (3, 0, 0, [0; 4]),
        (1, 0, 0, [0; 4]),
        (1, 4, 0, [0; 4]),
        (2, 0, 1400, [0, 0, 5, 0x78]),
        (2, 0, 600, [0, 0, 5, 0]),
    ];
    for (v6, heard) in [(false, heard4), (true, heard6)] {
        let mut net = Net::by_hand();
        net.guest_sends(&datagram(v6));
        let host = net.host_opens(SocketKind::Udp { v6 });
        for &(kind, code, mtu, rest) in heard {
            let bounce = Bounce::Icmp { by: router(v6), kind, code, mtu };
            bounced(&mut net, host, server(v6, 33_434), bounce, b"probe");
            let error = net.guest_gets_icmp();
            assert_eq!((error.from, error.to), (router(v6), guest(v6, 0).ip()));
            assert_eq!((&error.payload[..2], &error.payload[4..8]), (&[kind, code][..], &rest[..]));
            let quoted = Datagram::read_unsealed(&error.payload[8..]);
            let sent = Datagram::new(guest(v6, 4_000), server(v6, 33_434), b"probe");
            assert_eq!(quoted, sent);
        }
        // What is no error, or one about another datagram.
        for (to, kind) in [(server(v6, 33_434), 0), (server(v6, 33_434), 5), (server(v6, 9), 3)] {
            let bounce = Bounce::Icmp { by: router(v6), kind, code: 0, mtu: 0 };
            bounced(&mut net, host, to, bounce, b"probe");
            net.guest_gets_nothing();
        }
        bounced(&mut net, host, server(v6, 33_434), Bounce::TooLong { mtu: 1300 }, b"");
        let error = net.guest_gets_icmp();
        let gateway = address(if v6 { "fd72:6e73:6e65::2" } else { "10.0.2.2" });
        assert_eq!(error.from, gateway, "the host's own word is the gateway's");
        assert_eq!(error.payload[..2], if v6 { [2, 0] } else { [3, 4] });
        assert_eq!(error.payload[4..8], [0, 0, 5, 0x14]);
        net.host_closes_nothing();
    }
}

#[test]
fn addresses_of_the_host_s_own_are_not_told() {
    let mut net = Net::by_hand();
    net.guest_sends(&datagram(false));
    let host = net.host_opens(SocketKind::Udp { v6: false });
    for by in ["127.0.0.1", "10.0.2.7", "169.254.3.4"] {
        let bounce = Bounce::Icmp { by: address(by), kind: 11, code: 0, mtu: 0 };
        bounced(&mut net, host, server(false, 33_434), bounce, b"");
        assert_eq!(net.guest_gets_icmp().from, address("10.0.2.2"));
    }
}

#[test]
fn an_error_about_a_ping_quotes_the_request_that_it_is_about() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        for seq in [1, 2, 3] {
            net.guest_sends(&with_hops(ping(v6, seq), 2));
        }
        let host = net.host_opens(SocketKind::Ping { v6 });
        net.forget();
        let kind = if v6 { 3 } else { 11 };
        let bounce = Bounce::Icmp { by: router(v6), kind, code: 0, mtu: 0 };
        // The kernel's own identifier and checksum, of the second request.
        let request = if v6 { 128 } else { 8 };
        let sent = [&[request, 0, 7, 7, 9, 9, 0, 2][..], b"payload"].concat();
        bounced(&mut net, host, server(v6, 0), bounce, &sent);
        let error = net.guest_gets_icmp();
        assert_eq!((error.from, &error.payload[..2]), (router(v6), &[kind, 0][..]));
        let quoted = read_ip(&error.payload[8..]);
        assert_eq!((quoted.from, quoted.to), (guest(v6, 0).ip(), server(v6, 0).ip()));
        assert_eq!(
            quoted.payload,
            [&[request, 0, 0, 0, 0x12, 0x34, 0, 2][..], b"payload"].concat()
        );
        // The flow goes on: the next request may go further.
        net.host_closes_nothing();
        net.guest_sends(&ping(v6, 4));
        assert_eq!(net.host_sends().socket, host);
        bounced(&mut net, host, server(v6, 0), Bounce::TooLong { mtu: 1300 }, b"");
        assert_eq!(read_ip(&net.guest_gets_icmp().payload[8..]), read_ip(&ping(v6, 4)));
    }
}

#[test]
fn of_a_long_ping_no_more_is_kept_than_an_error_quotes() {
    for v6 in [false, true] {
        let mut net = Net::new(&super::net::Options { mtu: 65_520, ..Default::default() });
        let request = if v6 { 128 } else { 8 };
        let body = [&[0x12, 0x34, 0, 1][..], &pattern(60_000)].concat();
        let packet = icmp(guest(v6, 0).ip(), server(v6, 0).ip(), request, 0, &body);
        assert_eq!(net.guest_sends(&packet), Verdict::Flow);
        let socket = net.host_opens(SocketKind::Ping { v6 });
        let kept = net.engine.tables.echo.flows.iter().map(|(_, flow)| flow.request.capacity());
        assert!(kept.sum::<usize>() <= 1300);
        net.host_event(socket, HostEvent::Failed(std::io::ErrorKind::NetworkUnreachable));
        let error = net.guest_gets_icmp();
        let quoted = &error.payload[8..];
        assert_eq!(quoted.len(), if v6 { 1232 } else { 548 });
        assert!(packet.starts_with(quoted));
    }
}

#[test]
fn a_service_hears_that_its_client_is_gone() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Udp, 53);
    let client = socket("192.0.2.50:4000");
    net.host_event(listener, HostEvent::Datagram { from: client, to: None, payload: b"ask" });
    assert_eq!(net.guest_gets_datagram().from, client);
    let bounce = Bounce::Icmp { by: client.ip(), kind: 3, code: 3, mtu: 0 };
    bounced(&mut net, listener, client, bounce, b"answer");
    let error = net.guest_gets_icmp();
    assert_eq!((error.from, &error.payload[..2]), (client.ip(), &[3, 3][..]));
    let quoted = Datagram::read_unsealed(&error.payload[8..]);
    assert_eq!((quoted.from, quoted.to), (guest(false, 53), client));
    bounced(&mut net, listener, socket("192.0.2.51:4000"), bounce, b"answer");
    net.guest_gets_nothing();
}

#[test]
fn too_long_for_the_other_family_is_told_in_the_guest_s_own_lengths() {
    let mut net = Net::new(&super::net::Options { v6: false, ..Default::default() });
    let listener = net.publish(Protocol::Udp, 53);
    let client = socket("[2001:db8::50]:4000");
    net.host_event(listener, HostEvent::Datagram { from: client, to: None, payload: b"ask" });
    net.guest_gets_datagram();
    bounced(&mut net, listener, client, Bounce::TooLong { mtu: 1500 }, b"answer");
    let error = net.guest_gets_icmp();
    assert_eq!((&error.payload[..2], &error.payload[4..8]), (&[3, 4][..], &[0, 0, 5, 0xc8][..]));
}

/// The guest's error about a datagram from `host` to its `port`.
fn refuse(net: &mut Net, v6: bool, host: SocketAddr, port: u16) -> Verdict {
    let quoted = Datagram::new(host, guest(v6, port), b"late").packet();
    let (kind, code) = if v6 { (1, 4) } else { (3, 3) };
    let body = [&[0; 4][..], &quoted].concat();
    net.guest_sends(&icmp(guest(v6, 0).ip(), host.ip(), kind, code, &body))
}

#[test]
fn a_socket_that_the_guest_has_closed_is_closed_on_the_host_too() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        net.guest_sends(&datagram(v6));
        let host = net.host_opens(SocketKind::Udp { v6 });
        let verdict = refuse(&mut net, v6, server(v6, 33_434), 4_001);
        net.expect_counters(&[("drop.unhandled-icmp", 1), ("udp_opened", 1)]);
        assert_eq!(verdict, Verdict::Dropped(DropReason::UnhandledIcmp));
        net.host_closes_nothing();
        assert_eq!(refuse(&mut net, v6, server(v6, 33_434), 4_000), Verdict::Flow);
        net.host_closes(host, false);
        net.expect_no_flows();
    }
}

#[test]
fn a_peer_that_the_guest_refuses_takes_no_other_along() {
    let mut net = Net::by_hand();
    let (stays, goes) = (server(false, 33_434), socket("192.0.2.10:33434"));
    for to in [stays, goes] {
        net.guest_sends(&Datagram::new(guest(false, 4_000), to, b"probe").packet());
    }
    let host = net.host_opens(SocketKind::Udp { v6: false });
    assert_eq!(refuse(&mut net, false, goes, 4_000), Verdict::Flow);
    net.host_closes_nothing();
    net.host_gets(host, stays, b"answer");
    assert_eq!(net.guest_gets_datagram().from, stays);
    refuse(&mut net, false, stays, 4_000);
    net.host_closes(host, false);
}

#[test]
fn a_call_that_the_guest_s_firewall_refuses_is_over_at_once() {
    for (kind, code, over) in [(3, 13, true), (3, 3, true), (3, 4, false), (11, 0, false)] {
        let mut net = Net::new(&super::net::Options { v6: false, ..Default::default() });
        let listener = net.publish(Protocol::Tcp, 80);
        let client = net.accept(listener, socket("198.51.100.7:5000")).unwrap();
        let syn = net.guest_gets();
        let body = [&[0; 4][..], &syn[..28]].concat();
        let error = icmp(guest(false, 0).ip(), address("198.51.100.7"), kind, code, &body);
        net.guest_sends(&error);
        if over {
            net.host_closes(client, true);
            net.expect_no_flows();
        } else {
            net.host_closes_nothing();
        }
    }
}

#[test]
fn a_published_port_stays_whatever_the_guest_says() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Udp, 53);
    let client = socket("192.0.2.50:4000");
    let ask = |net: &mut Net| {
        net.host_event(listener, HostEvent::Datagram { from: client, to: None, payload: b"ask" });
        net.guest_gets_datagram()
    };
    let first = ask(&mut net);
    assert_eq!((first.from, first.to), (client, guest(false, 53)));
    assert_eq!(refuse(&mut net, false, client, 53), Verdict::Flow);
    net.host_closes_nothing();
    net.guest_gets_all();
    // At its other address it may be served.
    assert_eq!(ask(&mut net).to, guest(true, 53));
}

#[test]
fn errors_of_the_guest_that_are_cut_short_are_dropped() {
    let quoted = Datagram::new(server(false, 7), guest(false, 4_000), b"late").packet();
    for len in 0..24 {
        let mut net = Net::by_hand();
        let body = [&[0; 4][..], &quoted[..len]].concat();
        let packet = icmp(guest(false, 0).ip(), server(false, 0).ip(), 3, 3, &body);
        let verdict = net.guest_sends(&packet);
        net.expect_dropped(verdict, DropReason::UnhandledIcmp, "unhandled-icmp");
    }
}

#[test]
fn the_gateway_s_own_queries_have_the_host_s_fields() {
    let mut net = Net::by_hand();
    net.set_resolvers(&["192.0.2.53:53"]);
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
    net.guest_sends(&Datagram::new(guest(false, 4_000), socket("10.0.2.3:53"), query).packet());
    assert_eq!(net.host_sends().fields, IpFields::default());
}
