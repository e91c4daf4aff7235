//! Frames between the containers of a network: whom they reach, and what nobody may say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::time::Duration;
use smoltcp::wire::checksum::data;

use super::net::{Net, Options, address, server, socket};
use super::packets::{
    BROADCAST_MAC, Datagram, Dice, GATEWAY_MAC, GUEST_MAC, SYN, Segment, ethernet, icmp, ip,
};
use crate::config::{HostAccess, Lease, MacAddress, Network, Protocol, Sharing};
use crate::engine::host::SocketKind;
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::{Destination, Engine, MAX_PORTS, PortError, PortId};

pub(super) const A: PortId = PortId(0);
pub(super) const B: PortId = PortId(1);
pub(super) const C: PortId = PortId(2);

pub(super) const ARP: u16 = 0x0806;
pub(super) const V4: u16 = 0x0800;
pub(super) const V6: u16 = 0x86dd;

/// What the container at a port has.
pub(super) fn lease(port: PortId) -> Lease {
    if port == A {
        return super::net::lease(true);
    }
    let last = 100 + u8::try_from(port.0).unwrap();
    Lease::new([10, 0, 2, last].into(), Some(v6(u16::from(last))))
}

/// An address of the network by its last four digits, read as hexadecimal for the first port.
pub(super) fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd72, 0x6e73, 0x6e65, 0, 0, 0, 0, if last == 100 { 0x100 } else { last })
}

pub(super) fn link_local(port: PortId) -> IpAddr {
    let [a, b, c, d, e, f] = lease(port).mac.0;
    IpAddr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Three containers on one network.
pub(super) fn lan_of(options: Options) -> Net {
    let mut net = Net::new(&options);
    for port in [B, C] {
        assert_eq!(net.engine.add_port(lease(port), options.vnet, net.now), Ok(port));
    }
    net.forget();
    net
}

fn lan() -> Net {
    lan_of(Options { sharing: Sharing::Shared, ..Options::default() })
}

/// Who else got something since the last call, with how many frames.
fn got(net: &mut Net) -> Vec<(PortId, usize)> {
    let counts = [A, B, C].map(|port| (port, net.frames_at(port).len()));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

pub(super) fn arp(operation: u16, sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let (mac, ip) = sender;
    let target = target.octets();
    [&[0, 1, 8, 0, 6, 4], &operation.to_be_bytes()[..], &mac, &ip.octets(), &[0; 6], &target]
        .concat()
}

pub(super) fn unicast(from: PortId, to: PortId, kind: u16, packet: &[u8]) -> Vec<u8> {
    ethernet(lease(to).mac.0, lease(from).mac.0, kind, packet)
}

pub(super) fn broadcast(from: PortId, kind: u16, packet: &[u8]) -> Vec<u8> {
    ethernet(BROADCAST_MAC, lease(from).mac.0, kind, packet)
}

/// An IPv6 packet in a group's frame.
pub(super) fn group6(from: PortId, packet: &[u8]) -> Vec<u8> {
    ethernet([0x33, 0x33, 0, 0, 0, 1], lease(from).mac.0, V6, packet)
}

/// A neighbour discovery message with one link-layer address option.
pub(super) fn neighbour(
    from: IpAddr,
    to: &str,
    kind: u8,
    target: Option<IpAddr>,
    option: (u8, [u8; 6]),
) -> Vec<u8> {
    let mut body = vec![0; 4];
    if let Some(IpAddr::V6(target)) = target {
        body.extend(target.octets());
    }
    body.extend([option.0, 1]);
    body.extend(option.1);
    icmp(from, address(to), kind, 0, &body)
}

pub(super) fn dropped(net: &mut Net, from: PortId, frame: &[u8], reason: DropReason, label: &str) {
    assert_eq!(net.port_sends_frame(from, frame), Verdict::Dropped(reason), "{label}");
    net.expect_counters(&[(&format!("drop.{label}"), 1)]);
    assert_eq!(got(net), [], "{label}");
    net.host_opens_nothing();
}

#[test]
fn a_super_frame_crosses_as_it_is() {
    for vnet in [true, false] {
        let mut net = lan_of(Options { vnet, sharing: Sharing::Shared, ..Options::default() });
        let from = socket("10.0.2.101:40000");
        let segment = Segment::new(from, socket("10.0.2.102:80"), 16, 1, 1);
        let length = if vnet { 60_000 } else { 1400 };
        let packet = segment.with(&super::packets::pattern(length)).packet();
        // What a kernel says of 42 segments with unfinished checksums.
        let head: &[u8] = if vnet { &[1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0] } else { &[] };
        let raw = [head, &unicast(B, C, V4, &packet)].concat();
        assert_eq!(net.port_sends_raw(B, &raw), Verdict::Port(C));
        assert_eq!(net.frames_at(C), std::slice::from_ref(&raw));
        let bytes = (raw.len() - head.len()) as u64;
        net.expect_counters(&[("switched_frames", 1), ("switched_bytes", bytes)]);
        let counted = |net: &Net, port| {
            let (.., counters) = net.engine.ports().find(|(id, ..)| *id == port).unwrap();
            (counters.rx_frames, counters.rx_bytes, counters.tx_frames, counters.tx_bytes)
        };
        assert_eq!(counted(&net, B), (1, bytes, 2, counted(&net, B).3));
        assert_eq!(counted(&net, C), (0, 0, 1, bytes));
        assert_eq!(got(&mut net), []);
    }
}

#[test]
fn a_kernel_is_not_made_to_write_into_arp() {
    let mut net = lan();
    let body = arp(2, (lease(B).mac.0, lease(B).v4), lease(B).v4);
    let frame = broadcast(B, ARP, &body);
    // A checksum that is to be finished would go where the sender's address is.
    for head in [[1, 0, 0, 0, 0, 0, 14, 0, 14, 0], [0, 1, 54, 0, 100, 0, 0, 0, 0, 0]] {
        let verdict = net.port_sends_raw(B, &[&head[..], &frame].concat());
        net.expect_dropped(verdict, DropReason::BadOffload, "bad-offload");
        assert_eq!(got(&mut net), []);
    }
    assert_eq!(net.port_sends_raw(B, &[&[0; 10][..], &frame].concat()), Verdict::Ports);
}

#[test]
fn a_question_for_an_address_reaches_whom_has_it_and_nobody_else() {
    let mut net = lan();
    let asker = (lease(B).mac.0, lease(B).v4);
    let request = broadcast(B, ARP, &arp(1, asker, lease(C).v4));
    assert_eq!(net.port_sends_frame(B, &request), Verdict::Port(C));
    assert_eq!(got(&mut net), [(C, 1)]);
    let reply = unicast(C, B, ARP, &arp(2, (lease(C).mac.0, lease(C).v4), lease(B).v4));
    assert_eq!(net.port_sends_frame(C, &reply), Verdict::Port(B));
    assert_eq!(got(&mut net), [(B, 1)]);
    let nobody = broadcast(B, ARP, &arp(1, asker, [10, 0, 2, 77].into()));
    assert_eq!(net.port_sends_frame(B, &nobody), Verdict::Switch);
    assert_eq!(got(&mut net), []);
    let gateway = broadcast(B, ARP, &arp(1, asker, [10, 0, 2, 2].into()));
    assert_eq!(net.port_sends_frame(B, &gateway), Verdict::Gateway);
    assert_eq!(net.frames_at(B)[0][10 + 6..][..6], GATEWAY_MAC, "the gateway answers");
    assert_eq!(got(&mut net), []);

    let ask = |target: IpAddr| {
        let option = (1, lease(B).mac.0);
        group6(
            B,
            &neighbour(lease(B).v6.unwrap().into(), "ff02::1:ff00:66", 135, Some(target), option),
        )
    };
    for target in [lease(C).v6.unwrap().into(), link_local(C)] {
        assert_eq!(net.port_sends_frame(B, &ask(target)), Verdict::Port(C));
        assert_eq!(got(&mut net), [(C, 1)]);
    }
    assert_eq!(net.port_sends_frame(B, &ask(address("fd72:6e73:6e65::77"))), Verdict::Switch);
    assert_eq!(net.port_sends_frame(B, &ask(address("fd72:6e73:6e65::2"))), Verdict::Gateway);
    assert_eq!(got(&mut net), [(B, 1)]);
}

#[test]
fn a_container_that_asks_for_its_own_address_hears_nothing_and_all_hear_an_announcement() {
    let mut net = lan();
    let (mac, own) = (lease(B).mac.0, lease(B).v4);
    let announcement = broadcast(B, ARP, &arp(1, (mac, own), own));
    assert_eq!(net.port_sends_frame(B, &announcement), Verdict::Ports);
    assert_eq!(got(&mut net), [(A, 1), (C, 1)]);
    let nobody = address("::");
    let target = lease(B).v6.unwrap().into();
    // RFC 7527: a nonce, and no link-layer address.
    let probe = icmp(nobody, address("ff02::1:ff00:65"), 135, 0, &{
        let IpAddr::V6(target) = target else { unreachable!() };
        [&[0; 4], &target.octets()[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat()
    });
    assert_eq!(net.port_sends_frame(B, &group6(B, &probe)), Verdict::Switch);
    assert_eq!(got(&mut net), []);
}

#[test]
fn a_broadcast_reaches_all_others_until_it_is_a_storm() {
    let mut net = lan();
    for to in ["255.255.255.255", "10.0.2.255"] {
        let ping = icmp(lease(B).v4.into(), address(to), 8, 0, &[0, 1, 0, 1]);
        assert_eq!(net.port_sends_frame(B, &broadcast(B, V4, &ping)), Verdict::Ports);
        assert_eq!(got(&mut net), [(A, 1), (C, 1)], "{to}");
    }
    let all_nodes = icmp(link_local(B), address("ff02::1"), 128, 0, &[0, 1, 0, 1]);
    assert_eq!(net.port_sends_frame(B, &group6(B, &all_nodes)), Verdict::Ports);
    assert_eq!(got(&mut net), [(A, 1), (C, 1)]);
    let ping = icmp(lease(B).v4.into(), address("255.255.255.255"), 8, 0, &[0, 1, 0, 1]);
    let frame = broadcast(B, V4, &ping);
    let passed = (0..5000).filter(|_| net.port_sends_frame(B, &frame) == Verdict::Ports).count();
    assert_eq!(passed, 997, "a thousand in all");
    assert_eq!(net.port_sends_frame(B, &frame), Verdict::Dropped(DropReason::Storm));
    let other = icmp(lease(C).v4.into(), address("255.255.255.255"), 8, 0, &[0, 1, 0, 1]);
    assert_eq!(net.port_sends_frame(C, &broadcast(C, V4, &other)), Verdict::Ports);
    net.now += Duration::from_millis(10);
    let passed = (0..5000).filter(|_| net.port_sends_frame(B, &frame) == Verdict::Ports).count();
    assert_eq!(passed, 10, "and one a millisecond");
}

#[test]
fn nobody_can_be_another_container() {
    let mut net = lan();
    let (me, victim) = (lease(B), lease(C));
    let (mac, stolen) = (me.mac.0, victim.mac.0);
    let my6 = IpAddr::V6(me.v6.unwrap());
    let victim6 = IpAddr::V6(victim.v6.unwrap());
    let nobody = address("::");
    let ping =
        |from, to| icmp(from, to, if matches!(from, IpAddr::V4(_)) { 8 } else { 128 }, 0, &[0; 4]);

    // Its hardware address, towards the gateway, the victim and a third.
    for to in [GATEWAY_MAC, stolen, GUEST_MAC, BROADCAST_MAC] {
        let frame = ethernet(to, stolen, V4, &ping(me.v4.into(), lease(A).v4.into()));
        dropped(&mut net, B, &frame, DropReason::SpoofedMac, "spoofed-mac");
    }
    // ARP: as the sender of questions, answers and announcements.
    for operation in [1, 2] {
        for sender in
            [(mac, victim.v4), (stolen, me.v4), (stolen, victim.v4), (mac, [10, 0, 2, 2].into())]
        {
            for frame in [
                broadcast(B, ARP, &arp(operation, sender, lease(A).v4)),
                broadcast(B, ARP, &arp(operation, sender, sender.1)),
                unicast(B, A, ARP, &arp(operation, sender, lease(A).v4)),
            ] {
                dropped(&mut net, B, &frame, DropReason::SpoofedArp, "spoofed-arp");
            }
        }
    }
    // IPv4 and IPv6 sources, also from beyond the network and nowhere.
    for from in ["10.0.2.102", "10.0.2.2", "192.0.2.9", "0.0.0.0", "127.0.0.1"] {
        let packet = ping(address(from), lease(A).v4.into());
        for frame in [unicast(B, A, V4, &packet), ethernet(GATEWAY_MAC, mac, V4, &packet)] {
            dropped(&mut net, B, &frame, DropReason::SpoofedSource, "spoofed-source");
        }
    }
    for from in ["fd72:6e73:6e65::66", "fd72:6e73:6e65::2", "2001:db8::9", "::", "::1", "fe80::1"] {
        let packet = ping(address(from), lease(A).v6.unwrap().into());
        for frame in [unicast(B, A, V6, &packet), ethernet(GATEWAY_MAC, mac, V6, &packet)] {
            dropped(&mut net, B, &frame, DropReason::SpoofedSource, "spoofed-source");
        }
    }
    // Neighbour discovery: for its address, with its address, as somebody else's option.
    for packet in [
        neighbour(my6, "ff02::1", 136, Some(victim6), (2, mac)),
        neighbour(my6, "ff02::1", 136, Some(my6), (2, stolen)),
        neighbour(my6, "ff02::1", 136, Some(address("fd72:6e73:6e65::2")), (2, mac)),
        neighbour(my6, "ff02::1", 136, Some(link_local(C)), (2, mac)),
        neighbour(my6, "ff02::1:ff00:66", 135, Some(lease(A).v6.unwrap().into()), (1, stolen)),
        neighbour(nobody, "ff02::1:ff00:66", 135, Some(victim6), (14, [0; 6])),
        neighbour(nobody, "ff02::1", 136, Some(my6), (2, mac)),
    ] {
        dropped(
            &mut net,
            B,
            &group6(B, &packet),
            DropReason::SpoofedNeighbour,
            "spoofed-neighbour",
        );
        let frame = unicast(B, A, V6, &packet);
        dropped(&mut net, B, &frame, DropReason::SpoofedNeighbour, "spoofed-neighbour");
    }
}

#[test]
fn nobody_but_the_gateway_is_a_router_or_a_dhcp_server() {
    let mut net = lan();
    let (v4, ll) = (IpAddr::V4(lease(B).v4), link_local(B));
    let routers = [
        (V6, neighbour(ll, "ff02::1", 134, None, (1, lease(B).mac.0))),
        (V6, neighbour(ll, "ff02::1", 137, None, (2, lease(B).mac.0))),
        (V4, icmp(v4, address("10.0.2.102"), 5, 1, &[10, 0, 2, 101])),
        (V4, icmp(v4, address("224.0.0.1"), 9, 0, &[1, 2, 0, 30])),
    ];
    for (kind, packet) in routers {
        for frame in [unicast(B, C, kind, &packet), broadcast(B, kind, &packet)] {
            dropped(&mut net, B, &frame, DropReason::RogueRouter, "rogue-router");
        }
    }
    let servers = [
        (V4, Datagram::new(socket("10.0.2.101:67"), socket("255.255.255.255:68"), b"offer")),
        (V4, Datagram::new(socket("10.0.2.101:67"), socket("10.0.2.102:68"), b"offer")),
        (V4, Datagram::new(socket("10.0.2.101:6767"), socket("10.0.2.102:68"), b"offer")),
        (V6, Datagram::new((ll, 547).into(), (link_local(C), 546).into(), b"advertise")),
    ];
    for (kind, datagram) in servers {
        let packet = datagram.packet();
        for frame in [unicast(B, C, kind, &packet), broadcast(B, kind, &packet)] {
            dropped(&mut net, B, &frame, DropReason::RogueDhcp, "rogue-dhcp");
        }
    }
    // The same, hidden in a fragment that is none, behind headers, or cut before its ports.
    let advertisement = neighbour(ll, "ff02::1", 134, None, (1, lease(B).mac.0))[40..].to_vec();
    let in_fragment = ip(ll, address("ff02::1"), 58, &advertisement, Some((0, false, 7)));
    dropped(&mut net, B, &group6(B, &in_fragment), DropReason::Malformed, "malformed");
    let behind = [&[58, 0, 1, 4, 0, 0, 0, 0], &advertisement[..]].concat();
    let in_options = ip(ll, address("ff02::1"), 60, &behind, Some((0, false, 7)));
    dropped(&mut net, B, &group6(B, &in_options), DropReason::ExtensionHeader, "extension-header");
    let tiny = ip(v4, address("10.0.2.102"), 17, &[0, 67], Some((0, true, 7)));
    dropped(&mut net, B, &unicast(B, C, V4, &tiny), DropReason::BadFragment, "bad-fragment");
}

#[test]
fn a_flood_of_hardware_addresses_changes_nothing() {
    let mut net = lan();
    let ping = icmp(lease(B).v4.into(), lease(C).v4.into(), 8, 0, &[0; 4]);
    for number in 0..10_000_u32 {
        let [_, b, c, d] = number.to_be_bytes();
        let frame = ethernet(lease(C).mac.0, [2, 9, 9, b, c, d], V4, &ping);
        assert_eq!(net.port_sends_frame(B, &frame), Verdict::Dropped(DropReason::SpoofedMac));
    }
    assert_eq!(got(&mut net), []);
    // Still nothing for C reaches anybody else.
    let frame = unicast(A, C, V4, &icmp(lease(A).v4.into(), lease(C).v4.into(), 8, 0, &[0; 4]));
    assert_eq!(net.port_sends_frame(A, &frame), Verdict::Port(C));
    assert_eq!(got(&mut net), [(C, 1)]);
    let unknown = ethernet([2, 9, 9, 9, 9, 9], lease(B).mac.0, V4, &ping);
    net.expect_counters(&[
        ("drop.spoofed-mac", 10_000),
        ("switched_frames", 1),
        ("switched_bytes", frame.len() as u64),
    ]);
    dropped(&mut net, B, &unknown, DropReason::NotForUs, "not-for-us");
}

/// An IGMP message with a right checksum, to everybody who cares.
fn igmp(from: PortId, mut message: Vec<u8>) -> Vec<u8> {
    let sum = !data(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    broadcast(from, V4, &ip(lease(from).v4.into(), address("224.0.0.22"), 2, &message, None))
}

fn igmp_v3(from: PortId, kind: u8, sources: u8) -> Vec<u8> {
    let source = [198, 51, 100, 1].repeat(usize::from(sources));
    igmp(
        from,
        [&[0x22, 0, 0, 0, 0, 0, 0, 1, kind, 0, 0, sources, 239, 1, 2, 3][..], &source].concat(),
    )
}

/// MLD behind the router alert with which hosts send it.
fn mld(from: PortId, kind: u8, body: &[u8]) -> Vec<u8> {
    let to = address("ff02::16");
    let message = icmp(link_local(from), to, kind, 0, body)[40..].to_vec();
    let alert = [58, 0, 5, 2, 0, 0, 1, 0];
    let packet = ip(link_local(from), to, 0, &[&alert[..], &message].concat(), None);
    group6(from, &packet)
}

#[test]
fn multicast_reaches_those_that_joined_and_no_longer_those_that_left() {
    let group = "239.1.2.3:5000";
    let datagram = Datagram::new(socket("10.0.2.100:4000"), socket(group), b"to all").packet();
    let speak = ethernet([1, 0, 0x5e, 1, 2, 3], GUEST_MAC, V4, &datagram);
    let ways = [
        (igmp(B, vec![0x12, 0, 0, 0, 239, 1, 2, 3]), igmp(B, vec![0x17, 0, 0, 0, 239, 1, 2, 3])),
        (igmp(B, vec![0x16, 0, 0, 0, 239, 1, 2, 3]), igmp(B, vec![0x17, 0, 0, 0, 239, 1, 2, 3])),
        (igmp_v3(B, 4, 0), igmp_v3(B, 3, 0)),
        (igmp_v3(B, 2, 3), igmp_v3(B, 1, 0)),
        (igmp_v3(B, 5, 1), igmp_v3(B, 3, 0)),
    ];
    for (join, leave) in ways {
        let mut net = lan();
        dropped(&mut net, A, &speak, DropReason::NoMember, "no-member");
        assert_eq!(net.port_sends_frame(B, &join), Verdict::Switch);
        assert_eq!(got(&mut net), [], "hosts do not hear of each other");
        assert_eq!(net.port_sends_frame(A, &speak), Verdict::Ports);
        assert_eq!(got(&mut net), [(B, 1)]);
        let own = Datagram::new(socket("10.0.2.101:4000"), socket(group), b"my own").packet();
        let own = ethernet([1, 0, 0x5e, 1, 2, 3], lease(B).mac.0, V4, &own);
        assert_eq!(net.port_sends_frame(B, &own), Verdict::Dropped(DropReason::NoMember));
        net.port_sends_frame(B, &leave);
        assert_eq!(net.port_sends_frame(A, &speak), Verdict::Dropped(DropReason::NoMember));
    }
    let group6_bytes = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
    let datagram = Datagram::new(
        socket("[fd72:6e73:6e65::100]:4000"),
        socket("[ff05::1:203]:5000"),
        b"to all",
    );
    let speak = ethernet([0x33, 0x33, 0, 1, 2, 3], GUEST_MAC, V6, &datagram.packet());
    let old = |kind| mld(B, kind, &[&[0; 4][..], &group6_bytes].concat());
    let new = |kind| mld(B, 143, &[&[0, 0, 0, 1, kind, 0, 0, 0][..], &group6_bytes].concat());
    for (join, leave) in [(old(131), old(132)), (new(4), new(3))] {
        let mut net = lan();
        net.port_sends_frame(B, &join);
        assert_eq!(net.port_sends_frame(A, &speak), Verdict::Ports);
        assert_eq!(got(&mut net), [(B, 1)]);
        net.port_sends_frame(B, &leave);
        assert_eq!(net.port_sends_frame(A, &speak), Verdict::Dropped(DropReason::NoMember));
    }
}

#[test]
fn groups_of_the_link_reach_everybody_without_joining() {
    let mut net = lan();
    for (kind, mac, to) in [
        (V4, [1, 0, 0x5e, 0, 0, 251], "224.0.0.251:5353"),
        (V6, [0x33, 0x33, 0, 0, 0, 251], "[ff02::fb]:5353"),
    ] {
        let from = if kind == V4 { "10.0.2.101:5353" } else { "[fd72:6e73:6e65::65]:5353" };
        let datagram = Datagram::new(socket(from), socket(to), b"who?").packet();
        let frame = ethernet(mac, lease(B).mac.0, kind, &datagram);
        assert_eq!(net.port_sends_frame(B, &frame), Verdict::Ports);
        assert_eq!(got(&mut net), [(A, 1), (C, 1)]);
    }
}

#[test]
fn members_are_asked_while_there_are_any_and_forgotten_when_silent() {
    let mut net = lan();
    assert_eq!(net.engine.poll_timeout(), None, "an idle network stays idle");
    net.port_sends_frame(B, &igmp_v3(B, 4, 0));
    net.port_sends_frame(
        C,
        &mld(C, 131, &[0, 0, 0, 0, 0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
    );
    net.pass(Duration::from_secs(126));
    let asked = net.port_gets(B, lease(B).mac);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0][8..10], [1, 2], "a TTL of 1, IGMP");
    assert_eq!(asked[0][12..20], [10, 0, 2, 2, 224, 0, 0, 1]);
    assert_eq!(data(&asked[0][20..]), !0, "checksum");
    assert_eq!(asked[0][20..22], [0x11, 100]);
    let asked = net.port_gets(C, lease(C).mac);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0][6..8], [0, 1], "hop-by-hop options, a hop limit of 1");
    assert_eq!(asked[0][40..49], [58, 0, 5, 2, 0, 0, 1, 0, 130]);
    net.port_sends_frame(B, &igmp_v3(B, 2, 0));
    net.pass(Duration::from_secs(200));
    let speak = ethernet(
        [1, 0, 0x5e, 1, 2, 3],
        GUEST_MAC,
        V4,
        &Datagram::new(socket("10.0.2.100:4000"), socket("239.1.2.3:5000"), b"x").packet(),
    );
    assert_eq!(net.port_sends_frame(A, &speak), Verdict::Ports, "it has answered");
    net.pass(Duration::from_secs(600));
    assert_eq!(net.engine.poll_timeout(), None, "all were silent");
    assert_eq!(net.port_sends_frame(A, &speak), Verdict::Dropped(DropReason::NoMember));
}

#[test]
fn one_container_joins_so_many_groups_and_no_more() {
    let mut net = lan();
    for third in 0..20 {
        for last in 0..10 {
            net.port_sends_frame(B, &igmp(B, vec![0x16, 0, 0, 0, 239, 0, third, last]));
        }
    }
    net.port_sends_frame(C, &igmp(C, vec![0x16, 0, 0, 0, 239, 0, 19, 9]));
    let speak = |net: &mut Net, third: u8, last: u8| {
        let to = (IpAddr::from([239, 0, third, last]), 5000).into();
        let datagram = Datagram::new(socket("10.0.2.100:4000"), to, b"x").packet();
        net.port_sends_frame(A, &ethernet([1, 0, 0x5e, 0, third, last], GUEST_MAC, V4, &datagram));
        got(net)
    };
    let reached = (0..20).flat_map(|third| (0..10).map(move |last| (third, last)));
    let reached = reached.filter(|(third, last)| speak(&mut net, *third, *last).contains(&(B, 1)));
    assert_eq!(reached.count(), 64);
    assert_eq!(speak(&mut net, 19, 9), [(C, 1)], "which is no other's loss");
}

#[test]
fn isolated_containers_reach_the_outside_and_not_each_other() {
    let mut net = lan_of(Options { sharing: Sharing::Isolated, ..Options::default() });
    let (from, sender) = (lease(B).v4, (lease(B).mac.0, lease(B).v4));
    let ping = icmp(from.into(), lease(C).v4.into(), 8, 0, &[0; 4]);
    let all = icmp(from.into(), address("10.0.2.255"), 8, 0, &[0; 4]);
    let mdns = Datagram::new(socket("10.0.2.101:5353"), socket("224.0.0.251:5353"), b"x").packet();
    let option = (1, lease(B).mac.0);
    let solicitation =
        neighbour(link_local(B), "ff02::1:ff00:66", 135, Some(link_local(C)), option);
    net.port_sends_frame(C, &igmp_v3(C, 4, 0));
    let group = Datagram::new(socket("10.0.2.101:1"), socket("239.1.2.3:1"), b"x").packet();
    for frame in [
        unicast(B, C, V4, &ping),
        broadcast(B, V4, &all),
        broadcast(B, V4, &mdns),
        broadcast(B, V4, &group),
        broadcast(B, ARP, &arp(1, sender, lease(C).v4)),
        group6(B, &solicitation),
        // Through the gateway neither.
    ] {
        dropped(&mut net, B, &frame, DropReason::Isolated, "isolated");
    }
    let routed = ethernet(GATEWAY_MAC, lease(B).mac.0, V4, &ping);
    assert_eq!(net.port_sends_frame(B, &routed), Verdict::Refused);
    net.host_opens_nothing();
    net.forget();
    let out = Segment::new(socket("10.0.2.101:40000"), server(false, 80), SYN, 1, 0).packet();
    net.port_sends_frame(B, &ethernet(GATEWAY_MAC, lease(B).mac.0, V4, &out));
    net.host_opens(SocketKind::TcpConnect(server(false, 80)));
}

#[test]
fn an_internal_network_has_no_way_out_and_its_published_ports_a_way_in() {
    let host_access = HostAccess::All;
    let mut net = lan_of(Options {
        sharing: Sharing::Shared,
        internal: true,
        host_access,
        ..Options::default()
    });
    net.set_resolvers(&["192.0.2.53:53"]);
    let out = |packet: &[u8]| ethernet(GATEWAY_MAC, lease(B).mac.0, V4, packet);
    let from = socket("10.0.2.101:40000");
    let ping = icmp(from.ip(), server(false, 0).ip(), 8, 0, &[0; 4]);
    for (packet, refused) in [
        (Segment::new(from, server(false, 80), SYN, 1, 0).packet(), "denied"),
        (Datagram::new(from, server(false, 7), b"x").packet(), "denied"),
        (ping, "denied"),
        (Segment::new(from, socket("10.0.2.2:22"), SYN, 1, 0).packet(), "tcp_refused"),
    ] {
        assert_eq!(net.port_sends_frame(B, &out(&packet)), Verdict::Refused);
        assert_eq!(net.port_gets(B, lease(B).mac).len(), 1, "told at once");
        net.expect_counters(&[(refused, 1)]);
        net.host_opens_nothing();
        assert_eq!(net.host.sent.len(), 0);
    }
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
    let query = Datagram::new(from, socket("10.0.2.3:53"), question).packet();
    assert_eq!(net.port_sends_frame(B, &out(&query)), Verdict::Dns);
    let [answer] = net.port_gets(B, lease(B).mac).try_into().unwrap();
    assert_eq!(Datagram::read(&answer).payload[3] & 0xf, 5, "REFUSED, at once");
    net.host_opens_nothing();
    net.expect_counters(&[("dns_queries", 1), ("dns_refused", 1)]);

    let tcp = net.publish(Protocol::Tcp, 80);
    net.accept(tcp, socket("198.51.100.7:5000")).unwrap();
    assert_eq!(net.guest_gets_segment().flags, SYN);
    let udp = net.publish(Protocol::Udp, 80);
    net.host_gets(udp, socket("198.51.100.7:5000"), b"in");
    assert_eq!(net.guest_gets_datagram().from, socket("198.51.100.7:5000"));
    net.guest_sends(
        &Datagram::new(socket("10.0.2.100:80"), socket("198.51.100.7:5000"), b"out").packet(),
    );
    assert_eq!(net.host_sends().payload, b"out", "an answer goes where the question came from");
}

#[test]
fn a_container_reaches_a_published_port_of_its_own_network_by_the_host_s_address() {
    let mut net = lan();
    let host = socket("192.0.2.1:8080");
    let to = vec![Destination { port: C, address: None }];
    let listener = net.engine.publish(Protocol::Tcp, to, 80);
    let syn = Segment::syn(socket("10.0.2.101:40000"), host, 1460).packet();
    net.port_sends_frame(B, &ethernet(GATEWAY_MAC, lease(B).mac.0, V4, &syn));
    net.host_opens(SocketKind::TcpConnect(host));
    // The host connects to itself, from its own address.
    net.accept(listener, socket("192.0.2.1:41000")).unwrap();
    let [called] = net.port_gets(C, lease(C).mac).try_into().unwrap();
    let called = Segment::read(&called);
    assert_eq!((called.from, called.to), (socket("192.0.2.1:41000"), socket("10.0.2.102:80")));
}

#[test]
fn a_lease_that_the_network_cannot_give_is_refused() {
    let mut net = lan();
    let free = Lease::new([10, 0, 2, 110].into(), Some(v6(0x110)));
    let add = |net: &mut Net, lease| net.engine.add_port(lease, true, net.now);
    for (lease, error) in [
        (
            Lease { v4: [10, 0, 2, 101].into(), ..free },
            "address 10.0.2.101 is in use on the network",
        ),
        (Lease { v6: lease(B).v6, ..free }, "address fd72:6e73:6e65::65 is in use on the network"),
        (
            Lease { v4: [10, 0, 2, 2].into(), ..free },
            "address 10.0.2.2 is not one that a container of the network can have",
        ),
        (
            Lease { v4: [10, 0, 3, 5].into(), ..free },
            "address 10.0.3.5 is not one that a container of the network can have",
        ),
        (
            Lease { v6: Some("fd00::5".parse().unwrap()), ..free },
            "address fd00::5 is not one that a container of the network can have",
        ),
        (
            Lease { mac: lease(B).mac, ..free },
            "hardware address 02:72:0a:00:02:65 is in use on the network, or is a group's",
        ),
        (
            Lease { mac: MacAddress(GATEWAY_MAC), ..free },
            "hardware address 02:72:6e:00:00:02 is in use on the network, or is a group's",
        ),
        (
            Lease { mac: MacAddress(BROADCAST_MAC), ..free },
            "hardware address ff:ff:ff:ff:ff:ff is in use on the network, or is a group's",
        ),
    ] {
        assert_eq!(add(&mut net, lease).unwrap_err().to_string(), error);
    }
    let mixed = net.engine.add_port(free, false, net.now).unwrap_err();
    assert_eq!(
        mixed.to_string(),
        "the TAP lacks a virtio header and those of the network's other containers have it"
    );
    add(&mut net, free).unwrap();
    assert_eq!(add(&mut net, free).unwrap_err(), PortError::WrongMac(free.mac));
    let mut private = Net::by_hand();
    assert_eq!(add(&mut private, free), Err(PortError::Private));
}

#[test]
fn a_network_takes_so_many_containers_and_gives_their_ids_again() {
    let sharing = Sharing::Shared;
    let mut net = Net::new(&Options { sharing, ..Options::default() });
    // One at a time: an id comes again only when all others were given.
    net.engine.remove_port(A, net.now);
    let mut given: Vec<PortId> = Vec::new();
    for _ in 1..MAX_PORTS {
        let port = net.engine.add_port(lease(B), true, net.now).unwrap();
        assert!(!given.contains(&port));
        given.push(port);
        net.engine.remove_port(port, net.now);
    }
    assert!(net.engine.add_port(lease(B), true, net.now).unwrap().0 < MAX_PORTS);
    assert_eq!(net.engine.ports().count(), 1);
}

#[test]
fn the_others_are_told_whose_an_address_is_from_now_on() {
    let mut net = lan();
    net.engine.remove_port(C, net.now);
    let next = Lease { mac: MacAddress([2, 1, 2, 3, 4, 5]), ..lease(C) };
    net.engine.add_port(next, true, net.now).unwrap();
    for port in [A, B] {
        let frames = net.frames_at(port);
        let [arp, advert] = &frames[..] else { panic!("{frames:02x?}") };
        let arp = &arp[10 + 14..];
        assert_eq!(arp[6..8], [0, 2], "a reply");
        assert_eq!((&arp[8..14], &arp[14..18]), (&next.mac.0[..], &[10, 0, 2, 102][..]));
        assert_eq!((&arp[18..24], &arp[24..28]), (&next.mac.0[..], &[10, 0, 2, 102][..]));
        let advert = &advert[10 + 14 + 40..];
        assert_eq!((advert[0], advert[4]), (136, 0x20), "overrides");
        assert_eq!(advert[8..24], next.v6.unwrap().octets());
        assert_eq!(advert[24..], [&[2, 1][..], &next.mac.0].concat());
    }
}

#[test]
fn whatever_a_container_sends_goes_nowhere_as_somebody_else() {
    let mut dice = Dice::new(20);
    let mut net = lan();
    let mut forwarded = 0;
    for _ in 0..30_000 {
        let (from, to) = (PortId(dice.below(3)), PortId(dice.below(3)));
        let kind = [ARP, V4, V6][dice.below(3)];
        let packet = match kind {
            ARP => arp(
                1 + u16::from(dice.byte() & 1),
                (lease(from).mac.0, lease(from).v4),
                lease(to).v4,
            ),
            V4 => icmp(lease(from).v4.into(), lease(to).v4.into(), 8, 0, &[0; 4]),
            _ => {
                let kind = [128, 133, 134, 135, 136, 137][dice.below(6)];
                let target = Some(lease(to).v6.unwrap().into());
                let option = (1 + dice.byte() % 2, lease(from).mac.0);
                neighbour(lease(from).v6.unwrap().into(), "ff02::1", kind, target, option)
            }
        };
        let destination = [lease(to).mac.0, BROADCAST_MAC, GATEWAY_MAC][dice.below(3)];
        let mut frame = ethernet(destination, lease(from).mac.0, kind, &packet);
        for _ in 0..dice.below(3) {
            let at = dice.below(frame.len());
            frame[at] = [dice.byte(), lease(C).mac.0[5], 102][dice.below(3)];
        }
        let verdict = net.port_sends_frame(from, &frame);
        for port in [A, B, C] {
            for got in net.frames_at(port) {
                let got = &got[10..];
                if got[6..12] == GATEWAY_MAC {
                    assert_eq!(got[..6], lease(port).mac.0, "the gateway's frames find their port");
                    continue;
                }
                forwarded += 1;
                assert_ne!(port, from, "not back to where it came from");
                assert_eq!(got[6..12], lease(from).mac.0);
                let source = lease(from);
                match u16::from_be_bytes([got[12], got[13]]) {
                    ARP => {
                        assert_eq!(got[22..28], source.mac.0);
                        let sender: [u8; 4] = got[28..32].try_into().unwrap();
                        assert!(sender == source.v4.octets() || sender == [0; 4], "{verdict:?}");
                    }
                    V4 => assert_eq!(got[26..30], source.v4.octets()),
                    _ => {
                        let sender: [u8; 16] = got[22..38].try_into().unwrap();
                        let own = [IpAddr::V6(source.v6.unwrap()), link_local(from), address("::")];
                        assert!(own.contains(&IpAddr::from(sender)), "{verdict:?}");
                        assert!(!matches!(got[54], 134 | 137) || got[20] != 58, "a router");
                    }
                }
            }
        }
    }
    assert!(forwarded > 5_000, "{forwarded}");
}

#[test]
fn a_gateway_that_is_the_dns_server_too_stays_a_gateway_without_it() {
    for dns in [true, false] {
        let mut network = Network { sharing: Sharing::Shared, dns, ..Network::default() };
        network.host_access = HostAccess::All;
        let v4 = &mut network.addresses.v4;
        v4.dns = v4.gateway;
        let mut net = Net::by_hand();
        net.engine = Engine::new(network, [1, 2, 3, 4]);
        net.engine.add_port(lease(A), true, net.now).unwrap();
        let request =
            broadcast(A, ARP, &arp(1, (lease(A).mac.0, lease(A).v4), [10, 0, 2, 2].into()));
        net.guest_sends_frame(&request);
        assert_eq!(net.frames_at(A).len(), 1, "one answer for the two of them");
        let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
        let from = socket("10.0.2.100:4000");
        let query = Datagram::new(from, socket("10.0.2.2:53"), question).packet();
        let expected = if dns { Verdict::Dns } else { Verdict::Flow };
        assert_eq!(net.guest_sends(&query), expected, "the forwarder, or else the host's own");
        net.forget();
        let syn = Segment::new(from, socket("10.0.2.2:22"), SYN, 1, 0).packet();
        assert_eq!(net.guest_sends(&syn), Verdict::Flow);
        net.host_opens(SocketKind::TcpConnect(socket("127.0.0.1:22")));
    }
}
