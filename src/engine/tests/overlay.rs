//! A network that spans hosts: what leaves for another one, and what one may say from there.

use std::net::{IpAddr, SocketAddr};

use smoltcp::time::Duration;
use smoltcp::wire::IpProtocol;

use super::net::{Net, Options, Sent, address, socket};
use super::packets::{
    ACK, BROADCAST_MAC, Datagram, FIN, GATEWAY_MAC, PSH, Segment, ethernet, icmp, ip, pattern,
    read_ip,
};
use super::switch::{A, ARP, B, C, V4, V6, arp, lan_of, lease, link_local, neighbour, unicast, v6};
use crate::config::{Overlay, OverlayHost, Sharing};
use crate::engine::host::{Bounce, HostEvent, IpFields};
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::{Instant, PortId};

const HERE: &str = "192.0.2.1";
const THERE: &str = "192.0.2.2";
const KERNEL: &str = "192.0.2.9";
const MAC: [u8; 6] = [0x02, 0x42, 7, 7, 7, 7];
const OTHER_MAC: [u8; 6] = [0x02, 0x42, 9, 9, 9, 9];

fn host(address: &str, parts: &[&str]) -> OverlayHost {
    let parts = parts.iter().map(|part| part.parse().unwrap()).collect();
    OverlayHost { address: address.parse().unwrap(), parts }
}

fn hosts() -> Vec<OverlayHost> {
    vec![
        host(HERE, &["10.0.2.64/26", "fd72:6e73:6e65::/112"]),
        host(THERE, &["10.0.2.128/26", "fd72:6e73:6e65::2:0/112"]),
        host(KERNEL, &["10.0.2.9/32"]),
    ]
}

fn options() -> Options {
    let overlay = Overlay { vni: 42, local: address(HERE), port: 4789, hosts: hosts() };
    Options { sharing: Sharing::Shared, mtu: 1450, overlay: Some(overlay), ..Options::default() }
}

fn net() -> Net {
    lan_of(options())
}

/// VXLAN's header of the network.
const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 42, 0];

/// Has a frame come from another host.
fn comes(net: &mut Net, from: &str, frame: &[u8]) {
    comes_as(net, from, &[&HEADER[..], frame].concat());
}

fn comes_as(net: &mut Net, from: &str, payload: &[u8]) {
    comes_by(net, SocketAddr::new(address(from), 50_000), payload);
}

fn comes_by(net: &mut Net, from: SocketAddr, payload: &[u8]) {
    let underlay = net.engine.overlay_socket().unwrap();
    net.host_gets(underlay, from, payload);
}

/// What was sent to other hosts: to whom, and the frame within.
fn sent(net: &mut Net) -> Vec<(String, Vec<u8>)> {
    net.settle();
    let unwrap = |Sent { to, fields, payload, .. }: Sent| {
        let to = to.unwrap();
        assert_eq!(to.port(), 4789);
        assert_eq!(fields, IpFields { dont_fragment: true, ..IpFields::default() });
        assert_eq!(payload[..8], HEADER);
        (to.ip().to_string(), payload[8..].to_vec())
    };
    net.host.sent.drain(..).map(unwrap).collect()
}

/// A ping, or a neighbour's answer, of one machine for another.
fn ping(from: &str, to: &str) -> Vec<u8> {
    let kind = if from.contains(':') { 128 } else { 8 };
    icmp(address(from), address(to), kind, 0, b"\0\x01\0\x01ping")
}

/// The machine 10.0.2.130 is known behind [`THERE`].
fn introduce(net: &mut Net) {
    let body = arp(1, (MAC, "10.0.2.130".parse().unwrap()), lease(B).v4);
    comes(net, THERE, &ethernet(BROADCAST_MAC, MAC, ARP, &body));
    net.forget();
}

#[test]
fn a_frame_for_another_host_is_wrapped_as_it_is() {
    let mut net = net();
    let frame = ethernet(MAC, lease(B).mac.0, V4, &ping("10.0.2.101", "10.0.2.130"));
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Elsewhere);
    let datagrams: Vec<Sent> = net.host.sent.drain(..).collect();
    // By hand: flags, three bytes, the number 42, one byte; then what the container has sent.
    let by_hand =
        [&[0x08, 0, 0, 0, 0, 0, 0x2a, 0][..], &MAC, &lease(B).mac.0, &[8, 0], &frame[14..]];
    assert_eq!(datagrams.len(), 1);
    assert_eq!(datagrams[0].payload, by_hand.concat());
    assert_eq!(datagrams[0].to, Some(socket("192.0.2.2:4789")));
    assert_eq!(datagrams[0].socket, net.engine.overlay_socket().unwrap());
    net.expect_counters(&[("overlay_sent", 1)]);
}

#[test]
fn a_question_goes_to_the_host_that_has_the_address_and_to_no_other() {
    let mut net = net();
    let me = (lease(B).mac.0, lease(B).v4);
    for (target, to) in [("10.0.2.130", THERE), ("10.0.2.9", KERNEL)] {
        let frame = ethernet(BROADCAST_MAC, me.0, ARP, &arp(1, me, target.parse().unwrap()));
        assert_eq!(net.port_sends_frame(B, &frame), Verdict::Elsewhere);
        assert_eq!(sent(&mut net), [(to.to_owned(), frame)]);
    }
    // Of nobody, and of this host although no container has it.
    for target in ["10.0.2.200", "10.0.2.70"] {
        let frame = ethernet(BROADCAST_MAC, me.0, ARP, &arp(1, me, target.parse().unwrap()));
        assert_eq!(net.port_sends_frame(B, &frame), Verdict::Switch, "{target}");
    }
    let target = address("fd72:6e73:6e65::2:5");
    let from = IpAddr::V6(v6(101));
    let packet = neighbour(from, "ff02::1:ff02:5", 135, Some(target), (1, me.0));
    let frame = ethernet([0x33, 0x33, 0xff, 2, 0, 5], me.0, V6, &packet);
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Elsewhere);
    assert_eq!(sent(&mut net), [(THERE.to_owned(), frame)]);
    // The gateway answers for itself, here.
    let gateway = "10.0.2.2".parse().unwrap();
    let frame = ethernet(BROADCAST_MAC, me.0, ARP, &arp(1, me, gateway));
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Gateway);
    assert_eq!(sent(&mut net), []);
}

#[test]
fn what_comes_from_a_host_reaches_whom_it_is_for_and_is_answered_there() {
    let mut net = net();
    let body = arp(1, (MAC, "10.0.2.130".parse().unwrap()), lease(B).v4);
    let question = ethernet(BROADCAST_MAC, MAC, ARP, &body);
    comes(&mut net, THERE, &question);
    assert_eq!(net.frames_at(B), [[&[0; 10][..], &question].concat()]);
    assert_eq!((net.frames_at(A).len(), net.frames_at(C).len()), (0, 0));
    net.expect_counters(&[("overlay_received", 1)]);
    // By its hardware address now, wherever the packet within goes.
    let frame = ethernet(MAC, lease(B).mac.0, V4, &ping("10.0.2.101", "198.51.100.7"));
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Elsewhere);
    assert_eq!(sent(&mut net), [(THERE.to_owned(), frame)]);
    let frame = unicast_from(MAC, B, V4, &ping("10.0.2.130", "10.0.2.101"));
    comes(&mut net, THERE, &frame);
    assert_eq!(net.frames_at(B), [[&[0; 10][..], &frame].concat()]);
    // Filled up as a network card does.
    comes(&mut net, THERE, &[&frame[..], &[0; 20]].concat());
    assert_eq!(net.frames_at(B), [[&[0; 10][..], &frame].concat()]);
    assert!(net.engine.to_string().contains("overlay: 2 other hosts, 1 hardware addresses there"));
}

fn unicast_from(mac: [u8; 6], to: PortId, kind: u16, packet: &[u8]) -> Vec<u8> {
    ethernet(lease(to).mac.0, mac, kind, packet)
}

/// A frame from a host is dropped for this reason, and nobody gets anything.
#[track_caller]
fn refused(net: &mut Net, from: &str, frame: &[u8], label: &str) {
    comes(net, from, frame);
    net.expect_counters(&[(&format!("drop.{label}"), 1), ("overlay_received", 1)]);
    for port in [A, B, C] {
        assert_eq!(net.frames_at(port).len(), 0, "{label}");
    }
    assert_eq!(sent(net), [], "{label}");
}

#[test]
fn a_host_speaks_for_its_own_part_alone() {
    let mut net = net();
    introduce(&mut net);
    net.expect_counters(&[("overlay_received", 1)]);
    let to_b = |mac, packet: &[u8]| unicast_from(mac, B, V4, packet);
    let mine = ping("10.0.2.130", "10.0.2.101");
    // Addresses within that are another host's, this one's, the gateway's, nobody's, the subnet's.
    for source in ["10.0.2.9", "10.0.2.70", "10.0.2.101", "10.0.2.2", "10.0.2.20", "198.51.100.7"] {
        let frame = to_b(OTHER_MAC, &ping(source, "10.0.2.101"));
        refused(&mut net, THERE, &frame, "spoofed-source");
        let body = arp(1, (OTHER_MAC, source.parse().unwrap()), lease(B).v4);
        refused(&mut net, THERE, &ethernet(BROADCAST_MAC, OTHER_MAC, ARP, &body), "spoofed-arp");
    }
    // An ARP packet that names another sender than its frame.
    let body = arp(2, (OTHER_MAC, "10.0.2.131".parse().unwrap()), lease(B).v4);
    refused(&mut net, THERE, &unicast_from(MAC, B, ARP, &body), "spoofed-arp");
    // Hardware addresses: the gateway's, a container's, a group's, none, another host's.
    for mac in [GATEWAY_MAC, lease(C).mac.0, BROADCAST_MAC, [0; 6]] {
        refused(&mut net, THERE, &to_b(mac, &mine), "spoofed-mac");
    }
    let theirs = to_b(MAC, &ping("10.0.2.9", "10.0.2.101"));
    refused(&mut net, KERNEL, &theirs, "spoofed-mac");
    // IPv6: another's address, and a link-local one that is not made of the hardware address.
    for (source, label) in
        [("fd72:6e73:6e65::3:5", "spoofed-source"), ("fe80::9", "spoofed-source")]
    {
        let packet = ping(source, &v6(101).to_string());
        refused(&mut net, THERE, &unicast_from(MAC, B, V6, &packet), label);
    }
    // Routers and DHCP servers there are none elsewhere.
    let own = "fe80::42:7ff:fe07:707";
    let advert = icmp(address(own), address("ff02::1"), 134, 0, &[0; 12]);
    let frame = ethernet([0x33, 0x33, 0, 0, 0, 1], MAC, V6, &advert);
    refused(&mut net, THERE, &frame, "rogue-router");
    let ends = (socket("10.0.2.130:67"), socket("255.255.255.255:68"));
    let offer = Datagram::new(ends.0, ends.1, b"offer").packet();
    refused(&mut net, THERE, &ethernet(BROADCAST_MAC, MAC, V4, &offer), "rogue-dhcp");
    // Neighbour discovery about what is another's.
    let packet = neighbour(address(own), "ff02::1", 136, Some(v6(102).into()), (2, MAC));
    let frame = ethernet([0x33, 0x33, 0, 0, 0, 1], MAC, V6, &packet);
    refused(&mut net, THERE, &frame, "spoofed-neighbour");
    // The gateway here is for containers here, whoever asks it.
    let frame = ethernet(GATEWAY_MAC, MAC, V4, &ping("10.0.2.130", "198.51.100.7"));
    refused(&mut net, THERE, &frame, "not-for-us");
    let ends = (socket("0.0.0.0:68"), socket("255.255.255.255:67"));
    let question = Datagram::new(ends.0, ends.1, b"discover").packet();
    refused(&mut net, THERE, &ethernet(BROADCAST_MAC, MAC, V4, &question), "not-for-us");
    let ask = icmp(address(own), address("ff02::2"), 133, 0, &[0; 4]);
    refused(&mut net, THERE, &ethernet([0x33, 0x33, 0, 0, 0, 2], MAC, V6, &ask), "not-for-us");
    // Nobody's hardware address, and nothing goes from one host to another by this one.
    let frame = ethernet(OTHER_MAC, MAC, V4, &ping("10.0.2.130", "10.0.2.9"));
    refused(&mut net, THERE, &frame, "not-for-us");
}

#[test]
fn what_is_not_of_this_network_is_not_heard() {
    let mut net = net();
    let frame = unicast_from(MAC, B, V4, &ping("10.0.2.130", "10.0.2.101"));
    refused(&mut net, "192.0.2.3", &frame, "unknown-host");
    // What this host itself is said to have sent.
    refused(&mut net, HERE, &frame, "unknown-host");
    for (payload, label) in [
        ([&[8, 0, 0, 0, 0, 0, 43, 0], &frame[..]].concat(), "other-vni"),
        ([&[8, 0, 0, 0, 1, 0, 42, 0], &frame[..]].concat(), "other-vni"),
        ([&[0, 0, 0, 0, 0, 0, 42, 0], &frame[..]].concat(), "other-vni"),
        (HEADER[..7].to_vec(), "malformed"),
        (HEADER.to_vec(), "malformed"),
        ([&HEADER, &frame[..33]].concat(), "malformed"),
        (Vec::new(), "malformed"),
    ] {
        comes_as(&mut net, THERE, &payload);
        net.expect_counters(&[(&format!("drop.{label}"), 1), ("overlay_received", 1)]);
        assert_eq!(net.frames_at(B).len(), 0);
    }
    // Reserved bits mean nothing (RFC 7348, section 5).
    comes_as(&mut net, THERE, &[&[0xff, 1, 2, 3, 0, 0, 42, 9], &frame[..]].concat());
    assert_eq!(net.frames_at(B).len(), 1);
}

// Whoever else is on a host can send from its address, and not from the port that is taken there.
#[test]
fn a_host_that_speaks_from_the_port_of_all_is_heard_from_that_alone() {
    let mut net = net();
    let there =
        [&HEADER[..], &unicast_from(MAC, B, V4, &ping("10.0.2.130", "10.0.2.101"))].concat();
    let kernel =
        [&HEADER[..], &unicast_from(OTHER_MAC, B, V4, &ping("10.0.2.9", "10.0.2.101"))].concat();
    for (from, payload, heard) in [
        ("192.0.2.2:50000", &there, true),
        ("192.0.2.2:4789", &there, true),
        ("192.0.2.2:50000", &there, false),
        ("192.0.2.9:50000", &kernel, true),
        ("192.0.2.2:4789", &there, true),
    ] {
        comes_by(&mut net, socket(from), payload);
        assert_eq!(net.frames_at(B).len(), usize::from(heard), "{from}");
        let mut counters = vec![("overlay_received", 1)];
        counters.extend((!heard).then_some(("drop.unknown-host", 1)));
        net.expect_counters(&counters);
    }
    // Another machine has its address now.
    let mut others = hosts();
    others[1] = host(THERE, &["10.0.2.128/27"]);
    net.engine.set_overlay_hosts(&others, net.now);
    comes_as(&mut net, THERE, &there);
    assert_eq!(net.frames_at(B).len(), 1);
}

#[test]
fn what_is_for_everybody_is_copied_to_every_host_within_a_bound() {
    let mut net = net();
    let from = (socket("10.0.2.101:5353"), socket("224.0.0.251:5353"));
    let packet = Datagram::new(from.0, from.1, b"who").packet();
    let frame = ethernet([1, 0, 0x5e, 0, 0, 251], lease(B).mac.0, V4, &packet);
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Ports);
    assert_eq!((net.frames_at(A).len(), net.frames_at(C).len()), (1, 1));
    let to: Vec<_> = sent(&mut net).into_iter().map(|(to, _)| to).collect();
    assert_eq!(to, [THERE, KERNEL]);
    // A group beyond the link, that nobody here has joined.
    let far = Datagram::new(from.0, socket("239.1.2.3:5000"), b"film").packet();
    let frame = ethernet([1, 0, 0x5e, 1, 2, 3], lease(B).mac.0, V4, &far);
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Elsewhere);
    assert_eq!(sent(&mut net).len(), 2);
    // A thousand copies a second; and as many frames from a host.
    let storms = (0..1000)
        .filter(|_| net.port_sends_frame(B, &frame) == Verdict::Dropped(DropReason::Storm));
    assert_eq!(storms.count(), 502);
    net.forget();
    let packet = Datagram::new(socket("10.0.2.130:5353"), from.1, b"me").packet();
    let frame = ethernet([1, 0, 0x5e, 0, 0, 251], MAC, V4, &packet);
    for _ in 0..1200 {
        comes(&mut net, THERE, &frame);
    }
    assert_eq!(net.frames_at(A).len(), 1000);
    assert_eq!(net.engine.stats().dropped(DropReason::Storm), 502 + 200);
    // Nothing of it goes on to the other host.
    assert_eq!(sent(&mut net), []);
}

/// A datagram for everybody on the link, whose checksum is left to be finished; several of `size`
/// bytes if that is not 0.
fn unfinished_for_all(length: usize, size: u16) -> Vec<u8> {
    let to = socket("224.0.0.251:5353");
    let mut packet = Datagram::new(socket("10.0.2.101:5353"), to, &pattern(length)).packet();
    packet[26..28].fill(0x55);
    let frame = ethernet([1, 0, 0x5e, 0, 0, 251], lease(B).mac.0, V4, &packet);
    let [s0, s1] = size.to_le_bytes();
    let header = [1, if size == 0 { 0 } else { 5 }, 42, 0, s0, s1, 34, 0, 6, 0];
    [&header[..], &frame].concat()
}

#[test]
fn what_other_hosts_get_in_pieces_is_whole_for_the_containers_here() {
    let mut net = net();
    for (length, size, pieces) in [(100, 0, 1), (2500, 1000, 3)] {
        let raw = unfinished_for_all(length, size);
        assert_eq!(net.port_sends_raw(B, &raw), Verdict::Ports);
        assert_eq!((net.frames_at(A), net.frames_at(C)), (vec![raw.clone()], vec![raw]));
        let sent = sent(&mut net);
        assert_eq!(sent.len(), 2 * pieces);
        for to in [THERE, KERNEL] {
            let own = sent.iter().filter(|(host, _)| host == to);
            let bytes = own.flat_map(|(_, frame)| Datagram::read(&frame[14..]).payload);
            assert!(bytes.eq(pattern(length)), "{to}");
        }
    }
}

#[test]
fn one_frame_is_not_a_flood_on_every_host() {
    let mut net = net();
    // Each piece counts, for each host.
    assert_eq!(net.port_sends_raw(B, &unfinished_for_all(60_000, 500)), Verdict::Ports);
    assert_eq!(sent(&mut net).len(), 240);
    for _ in 0..4 {
        net.port_sends_raw(B, &unfinished_for_all(60_000, 500));
        assert_eq!(sent(&mut net).len(), 240);
    }
    let verdict = net.port_sends_raw(B, &unfinished_for_all(100, 0));
    assert_eq!(verdict, Verdict::Dropped(DropReason::Storm));
    net.pass(Duration::from_secs(2));
    // Nobody has a connection with everybody.
    let (whole, _) = super_frame(false, 60_000, ACK);
    let all = Segment { to: socket("224.0.0.1:80"), ..whole };
    let frame = ethernet([1, 0, 0x5e, 0, 0, 1], lease(B).mac.0, V4, &all.packet());
    let raw = [&vnet_header(false, 48)[..], &frame].concat();
    assert_eq!(net.port_sends_raw(B, &raw), Verdict::Dropped(DropReason::BadOffload));
    assert_eq!(sent(&mut net), []);
}

#[test]
fn no_container_sends_to_other_hosts_by_the_gateway() {
    let mut net = net();
    let to = |to: &str| {
        let packet = Datagram::new(socket("10.0.2.101:4789"), socket(to), &HEADER).packet();
        unicast_to_gateway(&packet)
    };
    for peer in ["192.0.2.2:4789", "192.0.2.9:4789"] {
        assert_eq!(net.port_sends_frame(B, &to(peer)), Verdict::Refused, "{peer}");
    }
    net.host_opens_nothing();
    // Another port is another service, and another address is no host.
    for peer in ["192.0.2.2:53", "192.0.2.3:4789"] {
        assert_eq!(net.port_sends_frame(B, &to(peer)), Verdict::Flow, "{peer}");
    }
    net.forget();
    let more = [hosts(), vec![host("192.0.2.7", &["10.0.2.7/32"])]].concat();
    net.engine.set_overlay_hosts(&more, net.now);
    assert_eq!(net.port_sends_frame(B, &to("192.0.2.7:4789")), Verdict::Refused);
}

fn unicast_to_gateway(packet: &[u8]) -> Vec<u8> {
    ethernet(GATEWAY_MAC, lease(B).mac.0, V4, packet)
}

#[test]
fn hardware_addresses_that_are_silent_make_room_for_others() {
    let mut options = options();
    options.limits.set("elsewhere", "2").unwrap();
    let mut net = lan_of(options);
    let speaks = |net: &mut Net, last: u8| {
        let frame = unicast_from([2, 0, 0, 9, 9, last], B, V4, &ping("10.0.2.130", "10.0.2.101"));
        comes(net, THERE, &frame);
    };
    for last in 1..=2 {
        speaks(&mut net, last);
    }
    net.pass(Duration::from_secs(200));
    speaks(&mut net, 2);
    net.pass(Duration::from_secs(101));
    // The first has not been heard of for 301 s, the second has.
    for last in 3..=4 {
        speaks(&mut net, last);
    }
    net.forget();
    for (last, known) in [(1, false), (2, true), (3, true), (4, false)] {
        let packet = ping("10.0.2.101", "198.51.100.7");
        let frame = ethernet([2, 0, 0, 9, 9, last], lease(B).mac.0, V4, &packet);
        let verdict = net.port_sends_frame(B, &frame);
        assert_eq!(verdict == Verdict::Elsewhere, known, "{last}: {verdict:?}");
    }
    assert_eq!(net.engine.stats().dropped(DropReason::NotForUs), 2);
}

#[test]
fn hardware_addresses_have_a_bound_and_stay_with_their_host() {
    let mut options = options();
    options.limits.set("elsewhere", "2").unwrap();
    let mut net = lan_of(options);
    for last in 1..=4_u8 {
        let frame = unicast_from([2, 0, 0, 9, 9, last], B, V4, &ping("10.0.2.130", "10.0.2.101"));
        comes(&mut net, THERE, &frame);
        assert_eq!(net.frames_at(B).len(), 1, "it is heard all the same");
    }
    net.expect_counters(&[("overlay_received", 4), ("limit.elsewhere", 2)]);
    assert!(net.engine.to_string().contains("2 hardware addresses there"));
    // Another host's table has room, and takes none from this one as long as that is heard of.
    let claim = unicast_from([2, 0, 0, 9, 9, 1], B, V4, &ping("10.0.2.9", "10.0.2.101"));
    refused(&mut net, KERNEL, &claim, "spoofed-mac");
    net.pass(Duration::from_secs(301));
    comes(&mut net, KERNEL, &claim);
    assert_eq!(net.frames_at(B).len(), 1);
    let answer = ethernet([2, 0, 0, 9, 9, 1], lease(B).mac.0, V4, &ping("10.0.2.101", "10.0.2.9"));
    net.port_sends_frame(B, &answer);
    assert_eq!(sent(&mut net), [(KERNEL.to_owned(), answer)]);
    // Which has made room.
    let frame = unicast_from([2, 0, 0, 9, 9, 3], B, V4, &ping("10.0.2.130", "10.0.2.101"));
    comes(&mut net, THERE, &frame);
    assert_eq!(net.engine.poll_timeout(), None, "nobody is woken by it");
    net.expect_counters(&[("overlay_received", 2), ("overlay_sent", 1)]);
}

#[test]
fn a_host_that_goes_takes_along_what_was_learnt_from_it() {
    let mut net = net();
    introduce(&mut net);
    let out = ethernet(MAC, lease(B).mac.0, V4, &ping("10.0.2.101", "198.51.100.7"));
    assert_eq!(net.port_sends_frame(B, &out), Verdict::Elsewhere);
    // Another one comes: nothing changes for those that stay.
    let more = [hosts(), vec![host("192.0.2.7", &["10.0.2.7/32"])]].concat();
    net.engine.set_overlay_hosts(&more, net.now);
    assert_eq!(net.port_sends_frame(B, &out), Verdict::Elsewhere);
    net.forget();
    let fewer: Vec<_> = hosts().into_iter().filter(|h| h.address != address(THERE)).collect();
    net.engine.set_overlay_hosts(&fewer, net.now);
    assert_eq!(net.port_sends_frame(B, &out), Verdict::Dropped(DropReason::NotForUs));
    net.expect_counters(&[("drop.not-for-us", 1), ("overlay_received", 1), ("overlay_sent", 2)]);
    let frame = unicast_from(MAC, B, V4, &ping("10.0.2.130", "10.0.2.101"));
    refused(&mut net, THERE, &frame, "unknown-host");
    // One whose part is another now is known anew.
    net.engine.set_overlay_hosts(&hosts(), net.now);
    introduce(&mut net);
    let mut moved = hosts();
    moved[1] = host(THERE, &["10.0.2.192/26"]);
    net.engine.set_overlay_hosts(&moved, net.now);
    assert_eq!(net.port_sends_frame(B, &out), Verdict::Dropped(DropReason::NotForUs));
}

fn super_frame(v6: bool, length: usize, flags: u8) -> (Segment, Vec<u8>) {
    let ends = if v6 {
        ("[fd72:6e73:6e65::65]:40000", "[fd72:6e73:6e65::2:5]:80")
    } else {
        ("10.0.2.101:40000", "10.0.2.130:80")
    };
    let whole = Segment {
        options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        ..Segment::new(socket(ends.0), socket(ends.1), flags, 0xffff_fff0, 77)
    };
    let whole = whole.with(&pattern(length));
    let packet = whole.packet();
    let kind = if v6 { V6 } else { V4 };
    (whole, ethernet(MAC, lease(B).mac.0, kind, &packet))
}

/// What the kernel of a container says of segments of 1,398 bytes of payload.
fn vnet_header(v6: bool, size: u16) -> [u8; 10] {
    let ip: u16 = if v6 { 40 } else { 20 };
    let ([h0, h1], [s0, s1]) = ((14 + ip + 32).to_le_bytes(), size.to_le_bytes());
    let [c0, c1] = (14 + ip).to_le_bytes();
    let kind = if v6 { 4 } else { 1 };
    [1, if size == 0 { 0 } else { kind }, h0, h1, s0, s1, c0, c1, 16, 0]
}

#[test]
fn a_super_frame_is_cut_as_the_kernel_does() {
    for (v6, size) in [(false, 1398_u16), (true, 1378)] {
        let mut net = net();
        const CWR: u8 = 0x80;
        let (whole, mut frame) = super_frame(v6, 60_001, ACK | PSH | FIN | CWR);
        // Unfinished, as it comes.
        let at = 14 + if v6 { 40 } else { 20 } + 16;
        frame[at..at + 2].fill(0x55);
        let raw = [&vnet_header(v6, size)[..], &frame].concat();
        assert_eq!(net.port_sends_raw(B, &raw), Verdict::Elsewhere);
        let sent = sent(&mut net);
        let pieces = whole.payload.chunks(usize::from(size));
        assert_eq!(sent.len(), pieces.len());
        let (mut seq, last, mut ids) = (whole.seq, sent.len() - 1, Vec::new());
        for (number, ((to, frame), piece)) in sent.iter().zip(pieces).enumerate() {
            assert_eq!((to.as_str(), &frame[..14]), (THERE, &raw[10..24]));
            let packet = &frame[14..];
            // Its checksums are looked at there.
            let segment = Segment::read(packet);
            let first = if number == 0 { CWR } else { 0 };
            let end = if number == last { PSH | FIN } else { 0 };
            let expected =
                Segment { seq, flags: ACK | first | end, payload: piece.to_vec(), ..whole.clone() };
            assert_eq!(segment, expected, "{number}");
            assert!(packet.len() <= 1450);
            seq = seq.wrapping_add(u32::try_from(piece.len()).unwrap());
            ids.push(u16::from_be_bytes([packet[4], packet[5]]));
        }
        if !v6 {
            assert!(ids.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{ids:?}");
        }
    }
}

#[test]
fn a_single_frame_gets_its_checksum_and_datagrams_are_cut() {
    let mut net = net();
    for v6 in [false, true] {
        let (whole, mut frame) = super_frame(v6, 100, ACK);
        let at = 14 + if v6 { 40 } else { 20 } + 16;
        frame[at..at + 2].fill(0x55);
        net.port_sends_raw(B, &[&vnet_header(v6, 0)[..], &frame].concat());
        let sent = sent(&mut net);
        assert_eq!(Segment::read(&sent[0].1[14..]), whole);
    }
    let ends = (socket("10.0.2.101:4000"), socket("10.0.2.130:53"));
    let whole = Datagram::new(ends.0, ends.1, &pattern(2500)).packet();
    let frame = ethernet(MAC, lease(B).mac.0, V4, &whole);
    let header = [1, 5, 42, 0, 0xe8, 3, 34, 0, 6, 0];
    assert_eq!(net.port_sends_raw(B, &[&header[..], &frame].concat()), Verdict::Elsewhere);
    let sent = sent(&mut net);
    let lengths = sent.iter().map(|(_, frame)| {
        let datagram = Datagram::read(&frame[14..]);
        assert_eq!((datagram.from, datagram.to), ends);
        datagram.payload.len()
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [1000, 1000, 500]);
    // Segments so short that one frame would be thousands.
    let (_, frame) = super_frame(false, 60_000, ACK);
    let raw = [&vnet_header(false, 40)[..], &frame].concat();
    let verdict = net.port_sends_raw(B, &raw);
    assert_eq!(verdict, Verdict::Dropped(DropReason::BadOffload));
}

/// Frames as they come to another host of the same kind.
fn mirrored(v6: bool, length: usize, size: u16, flags: u8) -> (Segment, Vec<Vec<u8>>) {
    let mut net = net();
    let (whole, frame) = super_frame(v6, length, flags);
    net.port_sends_raw(B, &[&vnet_header(v6, size)[..], &frame].concat());
    // The same ends the other way round.
    let turn = |frame: Vec<u8>| {
        let mut segment = Segment::read(&frame[14..]);
        (segment.from, segment.to) = (segment.to, segment.from);
        unicast_from(MAC, B, if v6 { V6 } else { V4 }, &segment.packet())
    };
    let (from, to) = (whole.to, whole.from);
    (Segment { from, to, ..whole }, sent(&mut net).into_iter().map(|(_, f)| turn(f)).collect())
}

/// What a container's kernel makes of the frames at its port: the segments.
fn segments(net: &mut Net) -> (usize, Vec<Segment>) {
    let frames = net.frames_at(B);
    let count = frames.len();
    let as_guest = |mut frame: Vec<u8>| {
        frame[16..22].copy_from_slice(&GATEWAY_MAC);
        super::packets::receive_at(lease(B).mac.0, &frame, true, 1450)
    };
    let packets = frames.into_iter().flat_map(as_guest);
    (count, packets.map(|packet| Segment::read(&packet)).collect())
}

#[test]
fn segments_that_follow_each_other_are_one_super_frame() {
    for v6 in [false, true] {
        let (whole, frames) = mirrored(v6, 40_000, 1378, ACK | PSH);
        let mut net = net();
        let underlay = net.engine.overlay_socket().unwrap();
        let from = socket("192.0.2.2:4789");
        // As one system call brings them, before any of them is written.
        let give = |net: &mut Net, frames: &[Vec<u8>]| {
            for frame in frames {
                let payload = [&HEADER[..], frame].concat();
                let event = HostEvent::Datagram { from, to: None, payload: &payload };
                net.engine.handle_host(underlay, event, net.now);
            }
        };
        give(&mut net, &frames);
        let (count, got) = segments(&mut net);
        assert_eq!(count, 1);
        let bytes: Vec<u8> = got.iter().flat_map(|segment| segment.payload.clone()).collect();
        assert!(bytes == whole.payload, "every byte");
        assert_eq!((got[0].seq, got.len()), (whole.seq, frames.len()));
        assert_eq!(got.last().unwrap().flags, ACK | PSH);
        // Not where something is between, missing, twice, or broken.
        let (middle, others) = (frames.len() / 2, ping("10.0.2.130", "10.0.2.101"));
        let between = [&frames[..middle], &[unicast_from(MAC, B, V4, &others)], &frames[middle..]];
        give(&mut net, &between.concat());
        assert_eq!(net.frames_at(B).len(), 3);
        give(&mut net, &[&frames[..middle], &frames[middle + 1..]].concat());
        assert_eq!(segments(&mut net).0, 2);
        give(&mut net, &[&frames[..middle], &frames[..middle]].concat());
        assert_eq!(segments(&mut net).0, 2);
        let mut broken = frames.clone();
        broken[1].last_mut().map(|byte| *byte ^= 1).unwrap();
        give(&mut net, &broken[..3]);
        let got = net.frames_at(B);
        assert_eq!(got.len(), 3);
        assert_eq!(got[1], [&[0; 10][..], &broken[1]].concat(), "its own kernel is to drop it");
        // Nor with other flags, another window, for another port, or beyond what is written.
        let (_, pushed) = mirrored(v6, 1378, 1378, ACK | PSH);
        let (_, ended) = mirrored(v6, 1378, 1378, ACK | FIN);
        give(&mut net, &[&pushed[..], &frames[1..2]].concat());
        assert_eq!(net.frames_at(B).len(), 2);
        give(&mut net, &[&ended[..], &frames[1..2]].concat());
        assert_eq!(net.frames_at(B).len(), 2);
    }
}

/// A frame of a kernel that leaves the checksum within to a network card, where there is none.
fn unfinished(v6: bool, length: usize) -> (Segment, Vec<u8>) {
    let (whole, _) = super_frame(v6, length, ACK);
    let whole = Segment { from: whole.to, to: whole.from, ..whole };
    let mut packet = whole.packet();
    let (source, destination) = (whole.from.ip(), whole.to.ip());
    let ip_len = if v6 { 40 } else { 20 };
    let upper = u32::try_from(packet.len() - ip_len).unwrap();
    let begun = crate::engine::frame::pseudo_sum(source, destination, IpProtocol::Tcp, upper);
    packet[ip_len + 16..ip_len + 18].copy_from_slice(&begun.to_be_bytes());
    (whole, unicast_from(MAC, B, if v6 { V6 } else { V4 }, &packet))
}

#[test]
fn what_a_kernel_on_the_same_machine_leaves_unfinished_is_finished() {
    for v6 in [false, true] {
        let mut net = net();
        let (whole, frame) = unfinished(v6, 100);
        comes(&mut net, THERE, &frame);
        assert_eq!(segments(&mut net).1, [whole]);
        let (whole, frame) = unfinished(v6, 30_000);
        comes(&mut net, THERE, &frame);
        let (count, got) = segments(&mut net);
        let bytes: Vec<u8> = got.iter().flat_map(|segment| segment.payload.clone()).collect();
        assert_eq!((count, bytes == whole.payload), (1, true));
    }
    // A container without the virtio header gets what is right, or nothing.
    let mut plain = lan_of(Options { vnet: false, ..options() });
    let (whole, frame) = unfinished(false, 100);
    comes(&mut plain, THERE, &frame);
    assert_eq!(Segment::read(&plain.frames_at(B)[0][14..]), whole);
    plain.expect_counters(&[("overlay_received", 1)]);
    comes(&mut plain, THERE, &unfinished(false, 30_000).1);
    plain.expect_counters(&[("drop.bad-offload", 1), ("overlay_received", 1)]);
    assert_eq!(plain.frames_at(B).len(), 0);
}

#[test]
fn a_path_that_takes_less_is_told_of_and_tried_again_after_ten_minutes() {
    let mut net = net();
    let underlay = net.engine.overlay_socket().unwrap();
    let big = |net: &mut Net, v6: bool, length: usize| {
        let (_, frame) = super_frame(v6, length, ACK);
        net.port_sends_raw(B, &[&vnet_header(v6, 0)[..], &frame].concat())
    };
    assert_eq!(big(&mut net, false, 1398), Verdict::Elsewhere);
    net.forget();
    // The kernel's own word, and a router's which says less.
    let to = socket("192.0.2.2:4789");
    let too_long = |mtu| HostEvent::Bounced { to, bounce: Bounce::TooLong { mtu }, payload: &[] };
    net.host_event(underlay, too_long(1400));
    let bounce = Bounce::Icmp { by: address("192.0.2.254"), kind: 3, code: 4, mtu: 1390 };
    net.host_event(underlay, HostEvent::Bounced { to, bounce, payload: &[] });
    // Nobody listens there: no word about length.
    let bounce = Bounce::Icmp { by: address(THERE), kind: 3, code: 3, mtu: 0 };
    net.host_event(underlay, HostEvent::Bounced { to, bounce, payload: &[] });
    for (v6, length) in [(false, 1398), (true, 1378)] {
        assert_eq!(big(&mut net, v6, length), Verdict::Refused);
        assert_eq!(sent(&mut net), []);
        let told = net.port_gets(B, lease(B).mac);
        let error = read_ip(&told[0]);
        assert!(error.is_sealed());
        assert_eq!(error.to, if v6 { v6_of_b() } else { address("10.0.2.101") });
        // 1390 without 50.
        let mtu = 1340_u16.to_be_bytes();
        if v6 {
            assert_eq!(
                error.payload[..8],
                [2, 0, error.payload[2], error.payload[3], 0, 0, mtu[0], mtu[1]]
            );
        } else {
            assert_eq!(error.payload[..2], [3, 4]);
            assert_eq!(error.payload[6..8], mtu);
        }
    }
    // A super-frame of such segments as well, and not one of shorter ones; others' paths are others.
    let (_, frame) = super_frame(false, 5000, ACK);
    let raw = |size| [&vnet_header(false, size)[..], &frame].concat();
    assert_eq!(net.port_sends_raw(B, &raw(1398)), Verdict::Refused);
    assert_eq!(net.port_sends_raw(B, &raw(1288)), Verdict::Elsewhere);
    net.forget();
    let packet = ip(address("10.0.2.101"), address("10.0.2.9"), 1, &pattern(1400), None);
    let frame = ethernet(OTHER_MAC, lease(B).mac.0, V4, &packet);
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Elsewhere);
    assert_eq!(sent(&mut net).len(), 1);
    // What no container's kernel would make shorter is cut outside.
    net.host_event(underlay, too_long(1300));
    assert_eq!(big(&mut net, true, 1208), Verdict::Elsewhere);
    let fields = net.host_sends().fields;
    assert_eq!(fields, IpFields::default());
    assert_eq!(big(&mut net, true, 1209), Verdict::Refused);
    net.pass(Duration::from_secs(599));
    assert_eq!(big(&mut net, false, 1398), Verdict::Refused);
    net.pass(Duration::from_secs(2));
    assert_eq!(big(&mut net, false, 1398), Verdict::Elsewhere);
}

fn v6_of_b() -> IpAddr {
    v6(101).into()
}

#[test]
fn neighbours_may_use_the_address_that_is_made_of_theirs() {
    let mut net = net();
    let own = "fe80::42:7ff:fe07:707";
    // A kernel asks again by it whether a neighbour is still there.
    let packet = neighbour(address(own), &v6(101).to_string(), 135, Some(v6_of_b()), (1, MAC));
    let frame = unicast_from(MAC, B, V6, &packet);
    comes(&mut net, THERE, &frame);
    assert_eq!(net.frames_at(B).len(), 1);
    assert!(net.engine.to_string().contains("0 hardware addresses there"), "it proves nothing");
    let global = ping("fd72:6e73:6e65::2:5", &v6(101).to_string());
    comes(&mut net, THERE, &unicast_from(MAC, B, V6, &global));
    assert_eq!(net.frames_at(B).len(), 1);
    let answer = neighbour(link_local(B), own, 136, Some(link_local(B)), (2, lease(B).mac.0));
    let frame = ethernet(MAC, lease(B).mac.0, V6, &answer);
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Elsewhere);
    assert_eq!(sent(&mut net), [(THERE.to_owned(), frame)]);
}

#[test]
fn containers_here_talk_as_before() {
    let mut net = net();
    let frame = unicast(B, C, V4, &ping("10.0.2.101", "10.0.2.102"));
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Port(C));
    assert_eq!(sent(&mut net), []);
    let plain = lan_of(Options { sharing: Sharing::Shared, ..Options::default() });
    assert_eq!(plain.engine.overlay_socket(), None);
    assert_eq!(net.engine.poll_timeout(), None::<Instant>);
}
