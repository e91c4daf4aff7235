//! The gateway's own addresses: ARP, neighbour discovery and echo, byte by byte.

use std::io::ErrorKind;

use smoltcp::time::Duration;

use super::net::{Net, Options, address, guest, server};
use super::packets::{
    BROADCAST_MAC, GATEWAY_MAC, GUEST_MAC, ICMPV6, ethernet, frame_of, icmp, pattern, read_ip,
};
use crate::config::Rules;
use crate::engine::PortId;
use crate::engine::host::{HostEvent, SocketKind};
use crate::engine::stats::{DropReason, Verdict};

const LINK_LOCAL: &str = "fe80::72:6eff:fe00:2";

fn arp(operation: u8, target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let body = [&head[..], &GUEST_MAC, &[10, 0, 2, 100], &[0; 6], &target].concat();
    ethernet(BROADCAST_MAC, GUEST_MAC, 0x0806, &body)
}

#[test]
fn arp_is_answered_for_the_gateway_and_the_forwarder_alone() {
    for vnet in [false, true] {
        let mut net = Net::new(&Options { vnet, ..Options::default() });
        for last in [2, 3] {
            assert_eq!(net.guest_sends_frame(&arp(1, [10, 0, 2, last])), Verdict::Gateway);
            let head = [0, 1, 8, 0, 6, 4, 0, 2];
            let body =
                [&head[..], &GATEWAY_MAC, &[10, 0, 2, last], &GUEST_MAC, &[10, 0, 2, 100]].concat();
            let reply = ethernet(GUEST_MAC, GATEWAY_MAC, 0x0806, &body);
            let offload = if vnet { &[0; 10][..] } else { &[] };
            assert_eq!(net.guest_gets_frame(), [offload, &reply].concat());
        }
        for target in [[10, 0, 2, 1], [10, 0, 2, 100], [192, 0, 2, 9]] {
            net.guest_sends_frame(&arp(1, target));
            net.guest_gets_nothing();
        }
        net.expect_counters(&[]);
        let verdict = net.guest_sends_frame(&arp(2, [10, 0, 2, 2]));
        net.expect_dropped(verdict, DropReason::Malformed, "malformed");
    }
}

#[test]
fn frames_go_to_the_address_that_the_guest_has_now() {
    let mut net = Net::by_hand();
    let mut frame = arp(1, [10, 0, 2, 2]);
    frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    net.guest_sends_frame(&frame);
    assert_eq!(net.guest_gets_frame()[10..16], [2, 9, 9, 9, 9, 9]);
}

/// A solicitation for `target`.
fn solicit(from: &str, target: &str) -> Vec<u8> {
    let std::net::IpAddr::V6(ip) = address(target) else { panic!("{target}") };
    let option = if address(from).is_unspecified() {
        Vec::new()
    } else {
        [&[1, 1][..], &GUEST_MAC].concat()
    };
    let body = [&[0; 4], &ip.octets()[..], &option].concat();
    icmp(address(from), address("ff02::1:ff00:2"), 135, 0, &body)
}

#[test]
fn neighbours_are_told_the_gateway_s_hardware_address() {
    for target in ["fd72:6e73:6e65::2", "fd72:6e73:6e65::3", LINK_LOCAL] {
        let guest = "fd72:6e73:6e65::100";
        for (from, to, flags) in [(guest, guest, 0xe0), ("::", "ff02::1", 0xa0)] {
            let mut net = Net::by_hand();
            assert_eq!(net.guest_sends(&solicit(from, target)), Verdict::Gateway);
            let advert = net.guest_gets_icmp();
            assert_eq!((advert.from, advert.to), (address(target), address(to)));
            assert_eq!(advert.hop_limit, 255);
            let std::net::IpAddr::V6(ip) = address(target) else { panic!("{target}") };
            assert_eq!(advert.payload[..2], [136, 0]);
            let body = [&[flags, 0, 0, 0], &ip.octets()[..], &[2, 1], &GATEWAY_MAC].concat();
            assert_eq!(advert.payload[4..], body);
            net.expect_counters(&[]);
        }
    }
    let mut net = Net::by_hand();
    for target in ["fd72:6e73:6e65::100", "fd72:6e73:6e65::7", "2001:db8::9"] {
        assert_eq!(net.guest_sends(&solicit("::", target)), Verdict::Gateway);
        net.guest_gets_nothing();
    }
}

#[test]
fn a_router_solicitation_is_answered_with_the_prefix() {
    let mut net = Net::by_hand();
    let packet = icmp(address("fe80::64"), address("ff02::2"), 133, 0, &[0; 4]);
    assert_eq!(net.guest_sends(&packet), Verdict::Gateway);
    let advert = net.guest_gets_icmp();
    assert_eq!((advert.from, advert.to), (address(LINK_LOCAL), address("fe80::64")));
    assert_eq!(advert.hop_limit, 255);
    let header = [134, 0, advert.payload[2], advert.payload[3], 64, 0x40, 0xff, 0xff];
    assert_eq!(advert.payload[..16], [&header[..], &[0; 8]].concat());
    let prefix = [0xfd, 0x72, 0x6e, 0x73, 0x6e, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let dns = [0xfd, 0x72, 0x6e, 0x73, 0x6e, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
    let options = [
        &[1, 1][..],
        &GATEWAY_MAC,
        &[5, 1, 0, 0, 0, 0, 5, 0xdc],
        &[3, 4, 64, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &prefix,
        &[25, 3, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &dns,
    ]
    .concat();
    assert_eq!(advert.payload[16..], options);
    net.guest_gets_nothing();
}

#[test]
fn a_gateway_that_is_no_default_route_is_not_advertised_as_one() {
    let mut net = Net::new(&Options { default_route: false, ..Options::default() });
    net.guest_sends(&icmp(address("fe80::64"), address("ff02::2"), 133, 0, &[0; 4]));
    assert_eq!(net.guest_gets_icmp().payload[6..8], [0, 0]);
}

/// Lets days pass. The guest never goes without a router, and is not woken for nothing.
fn is_told_again(net: &mut Net, days: u64) {
    const DAY: u64 = 86_400;
    let (start, mut heard) = (net.now, net.now);
    while net.now < start + Duration::from_secs(days * DAY) {
        let due = net.engine.poll_timeout().expect("the router's lifetime is a deadline");
        net.pass(due - net.now);
        let advert = net.guest_gets_icmp();
        assert_eq!((advert.to, advert.payload[0]), (address("ff02::1"), 134));
        assert_eq!(advert.payload[6..8], [0xff, 0xff]);
        let silent = net.now - heard;
        assert!(silent < Duration::from_secs(0xffff) / 2, "one of them may be lost: {silent}");
        assert!(silent > Duration::from_secs(DAY / 8), "the link is idle for hours: {silent}");
        net.guest_gets_nothing();
        heard = net.now;
    }
}

#[test]
fn who_asked_for_a_router_is_told_again_before_it_forgets() {
    let mut net = Net::by_hand();
    let ask = icmp(address("fe80::64"), address("ff02::2"), 133, 0, &[0; 4]);
    for _ in 0..3 {
        net.guest_sends(&ask);
        assert_eq!(net.guest_gets_icmp().to, address("fe80::64"));
    }
    is_told_again(&mut net, 10);
    net.engine.remove_port(PortId(0), net.now);
    net.pass(Duration::from_secs(100_000));
    assert_eq!(net.engine.poll_timeout(), None, "nobody is left to tell");
}

// Another program advertised, and died: what uses the route is enough to keep it.
#[test]
fn who_uses_an_advertised_route_is_told_again_before_it_forgets() {
    let mut net = Net::by_hand();
    for (from, target) in [("::", LINK_LOCAL), ("fe80::64", "fd72:6e73:6e65::2")] {
        net.guest_sends(&solicit(from, target));
        assert_eq!(net.guest_gets_icmp().payload[0], 136);
        net.guest_gets_nothing();
        assert_eq!(net.engine.poll_timeout(), None, "nobody has asked for a router");
    }
    net.guest_sends(&solicit("fe80::64", LINK_LOCAL));
    assert_eq!(net.guest_gets_icmp().payload[0], 136);
    assert_eq!(net.guest_gets_icmp().payload[0], 134);
    net.guest_sends(&solicit("fe80::64", LINK_LOCAL));
    assert_eq!(net.guest_gets_icmp().payload[0], 136);
    is_told_again(&mut net, 3);
}

#[test]
fn without_advertisements_nobody_is_told_of_a_router() {
    let mut rules = Rules::default();
    rules.protocols.ra = false;
    let mut net = Net::new(&Options { rules, ..Options::default() });
    net.guest_sends(&solicit("fe80::64", LINK_LOCAL));
    assert_eq!(net.guest_gets_icmp().payload[0], 136);
    let verdict = net.guest_sends(&icmp(address("fe80::64"), address("ff02::2"), 133, 0, &[0; 4]));
    net.expect_dropped(verdict, DropReason::SwitchedOff, "switched-off");
    assert_eq!(net.engine.poll_timeout(), None);
}

#[test]
fn neighbour_discovery_from_beyond_the_link_or_by_a_router_is_dropped() {
    let mut net = Net::by_hand();
    let mut far = solicit("fd72:6e73:6e65::100", "fd72:6e73:6e65::2");
    far[7] = 254;
    let verdict = net.guest_sends(&far);
    net.expect_dropped(verdict, DropReason::Malformed, "malformed");
    let advert = icmp(address("fe80::64"), address("ff02::1"), 134, 0, &[0; 12]);
    let verdict = net.guest_sends(&advert);
    net.expect_dropped(verdict, DropReason::UnhandledIcmp, "unhandled-icmp");
    let mut without = Net::new(&Options { v6: false, ..Options::default() });
    let verdict = without.guest_sends(&solicit("fd72:6e73:6e65::100", "fd72:6e73:6e65::2"));
    without.expect_dropped(verdict, DropReason::SpoofedSource, "spoofed-source");
}

const V4: [u8; 2] = [8, 0];
const V6: [u8; 2] = [128, 129];

#[test]
fn the_gateway_answers_its_own_pings() {
    for (to, [request, reply]) in [
        ("10.0.2.2", V4),
        ("10.0.2.3", V4),
        ("fd72:6e73:6e65::2", V6),
        ("fd72:6e73:6e65::3", V6),
        (LINK_LOCAL, V6),
    ] {
        let mut net = Net::by_hand();
        let to = address(to);
        let from = guest(to.is_ipv6(), 0).ip();
        let body = [b"\x12\x34\0\x07", &pattern(1_000)[..]].concat();
        assert_eq!(net.guest_sends(&icmp(from, to, request, 0, &body)), Verdict::Gateway);
        let got = net.guest_gets_icmp();
        assert_eq!((got.from, got.to), (to, from));
        assert_eq!(got.payload[..2], [reply, 0]);
        assert_eq!(got.payload[4..], body);
        net.host_opens_nothing();
        net.expect_counters(&[]);
    }
}

#[test]
fn other_pings_are_sent_by_the_host_and_answered_under_the_guest_s_id() {
    for (v6, [request, reply]) in [(false, V4), (true, V6)] {
        let mut net = Net::by_hand();
        let (from, to) = (guest(v6, 0).ip(), server(v6, 0));
        let packet = icmp(from, to.ip(), request, 0, b"\x12\x34\0\x07payload");
        assert_eq!(net.guest_sends(&packet), Verdict::Flow);
        let host = net.host_opens(SocketKind::Ping { v6 });
        let sent = net.host_sends();
        assert_eq!(sent.to, Some(to));
        assert_eq!((sent.payload[0], &sent.payload[6..]), (request, &b"\0\x07payload"[..]));
        net.guest_gets_nothing();
        // The kernel has put an identifier of its own in.
        net.host_gets(host, to, &[&[reply, 0, 0, 0], &b"\xaa\xbb\0\x07payload"[..]].concat());
        let got = net.guest_gets_icmp();
        assert_eq!((got.from, got.to), (to.ip(), from));
        assert_eq!(got.payload[..2], [reply, 0]);
        assert_eq!(got.payload[4..], b"\x12\x34\0\x07payload"[..]);
        net.expect_counters(&[("echo_opened", 1)]);
        let stranger = server(v6, 0).ip().to_string().replace('9', "8");
        let forged = [&[reply, 0, 0, 0], &b"\xaa\xbb\0\x08"[..]].concat();
        net.host_gets(host, std::net::SocketAddr::new(address(&stranger), 0), &forged);
        net.host_gets(host, to, &[&[request, 0, 0, 0], &b"\xaa\xbb\0\x08"[..]].concat());
        net.guest_gets_nothing();
        net.expect_counters(&[("drop.unknown-sender", 2)]);
        net.pass(Duration::from_secs(30));
        net.host_closes(host, false);
        net.expect_no_flows();
    }
}

#[test]
fn pings_that_the_host_forbids_are_prohibited() {
    for (v6, [request, _], unreachable) in [(false, V4, [3, 13]), (true, V6, [1, 1])] {
        let mut net = Net::by_hand();
        net.host.open_error = Some(ErrorKind::PermissionDenied);
        let packet = icmp(guest(v6, 0).ip(), server(v6, 0).ip(), request, 0, b"\x12\x34\0\x07data");
        net.guest_sends(&packet);
        let error = net.guest_gets_icmp();
        assert_eq!(error.payload[..2], unreachable);
        assert_eq!(error.payload[8..], packet);
        net.expect_counters(&[("echo_opened", 1)]);
        assert!(net.engine.to_string().contains("0 echo"));
        net.host.open_error = None;
    }
    let mut net = Net::by_hand();
    net.guest_sends(&icmp(guest(false, 0).ip(), server(false, 0).ip(), 8, 0, b"\0\x01\0\x01"));
    let host = net.host_opens(SocketKind::Ping { v6: false });
    net.host_event(host, HostEvent::Unsent { to: None, error: ErrorKind::NetworkUnreachable });
    assert_eq!(net.guest_gets_icmp().payload[..2], [3, 0]);
    net.host_closes_nothing();
}

#[test]
fn a_ping_flood_with_many_ids_has_a_limit() {
    let mut net = Net::by_hand();
    for id in 0..256_u16 {
        let body = [&id.to_be_bytes()[..], b"\0\x01"].concat();
        let packet = icmp(guest(false, 0).ip(), server(false, 0).ip(), 8, 0, &body);
        assert_eq!(net.guest_sends(&packet), Verdict::Flow);
    }
    let (first, _) = net.host.opened[0];
    let packet = icmp(guest(false, 0).ip(), server(false, 0).ip(), 8, 0, b"\xff\xff\0\x01");
    assert_eq!(net.guest_sends(&packet), Verdict::Flow);
    net.host_closes(first, false);
    net.expect_counters(&[("limit.echo", 1), ("echo_opened", 257)]);
}

#[test]
fn frames_to_others_and_of_other_kinds_are_dropped() {
    let mut net = Net::by_hand();
    let ping = icmp(guest(false, 0).ip(), server(false, 0).ip(), 8, 0, b"\0\x01\0\x01");
    let mut elsewhere = frame_of(&ping);
    elsewhere[..6].copy_from_slice(&[2, 2, 2, 2, 2, 2]);
    let verdict = net.guest_sends_frame(&elsewhere);
    net.expect_dropped(verdict, DropReason::NotForUs, "not-for-us");
    let mut ours = frame_of(&ping);
    ours[6..12].copy_from_slice(&GATEWAY_MAC);
    let verdict = net.guest_sends_frame(&ours);
    net.expect_dropped(verdict, DropReason::SpoofedSource, "spoofed-source");
    let vlan = ethernet(GATEWAY_MAC, GUEST_MAC, 0x8100, &[0; 50]);
    let verdict = net.guest_sends_frame(&vlan);
    net.expect_dropped(verdict, DropReason::UnknownEtherType, "unknown-ethertype");
    let mut gre = ping;
    gre[9] = 47;
    gre[10..12].fill(0);
    let sum = !smoltcp::wire::checksum::data(&gre[..20]);
    gre[10..12].copy_from_slice(&sum.to_be_bytes());
    let verdict = net.guest_sends(&gre);
    net.expect_dropped(verdict, DropReason::UnknownProtocol, "unknown-protocol");
    let mldv2 = icmp(guest(true, 0).ip(), address("ff02::16"), 143, 0, &[0; 4]);
    assert_eq!(read_ip(&mldv2).protocol, ICMPV6);
    let verdict = net.guest_sends(&mldv2);
    net.expect_dropped(verdict, DropReason::UnhandledIcmp, "unhandled-icmp");
}
