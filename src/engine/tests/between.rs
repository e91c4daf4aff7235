//! What passes between containers of an isolated network, by name.

use std::net::{IpAddr, SocketAddr};

use smoltcp::time::Duration;

use super::net::{Net, Options};
use super::packets::{ACK, Datagram, RST, SYN, Segment, TCP, icmp, ip};
use super::switch::{A, ARP, B, C, V4, V6, arp, broadcast, lan_of, lease, unicast};
use crate::config::{Between, Lease, MacAddress, Sharing};
use crate::engine::PortId;
use crate::engine::dns::PortNames;
use crate::engine::stats::{DropReason, Verdict};

const REFUSED: Verdict = Verdict::Dropped(DropReason::Isolated);

fn named(name: &str) -> PortNames {
    PortNames { name: name.parse().ok(), ..PortNames::default() }
}

fn between(from: &str, to: &str, pass: &str) -> Between {
    let name = |text: &str| text.parse().unwrap();
    Between { from: name(from), to: name(to), pass: pass.parse().unwrap() }
}

/// An isolated network of `app` (A), `db` (B) and `other` (C).
fn isolated(ways: &[(&str, &str, &str)]) -> Net {
    let mut net = lan_of(Options { sharing: Sharing::Isolated, ..Options::default() });
    for (port, name) in [(A, "app"), (B, "db"), (C, "other")] {
        net.engine.set_names(port, named(name), net.now);
    }
    let ways = ways.iter().map(|(from, to, pass)| between(from, to, pass));
    net.engine.set_between(ways.collect());
    net
}

fn at(port: PortId, number: u16) -> SocketAddr {
    (lease(port).v4, number).into()
}

fn send(net: &mut Net, from: PortId, to: PortId, packet: &[u8]) -> Verdict {
    let kind = if packet[0] >> 4 == 6 { V6 } else { V4 };
    net.port_sends_frame(from, &unicast(from, to, kind, packet))
}

/// A segment from port number `from` of one container to `to` of another.
fn tcp(net: &mut Net, from: (PortId, u16), to: (PortId, u16), flags: u8) -> Verdict {
    let segment = Segment::new(at(from.0, from.1), at(to.0, to.1), flags, 1, 1);
    send(net, from.0, to.0, &segment.packet())
}

fn udp(net: &mut Net, from: (PortId, u16), to: (PortId, u16)) -> Verdict {
    let datagram = Datagram::new(at(from.0, from.1), at(to.0, to.1), b"x");
    send(net, from.0, to.0, &datagram.packet())
}

fn ping(net: &mut Net, from: PortId, to: PortId, kind: u8) -> Verdict {
    let packet = icmp(lease(from).v4.into(), lease(to).v4.into(), kind, 0, &[0; 4]);
    send(net, from, to, &packet)
}

// F12
#[test]
fn one_port_is_open_for_one_container_and_nothing_else() {
    let mut net = isolated(&[("app", "db", "tcp:5432")]);
    assert_eq!(tcp(&mut net, (A, 40_000), (B, 5432), SYN), Verdict::Port(B));
    assert_eq!(tcp(&mut net, (B, 5432), (A, 40_000), SYN | ACK), Verdict::Port(A));
    assert_eq!(tcp(&mut net, (A, 40_000), (B, 5432), ACK), Verdict::Port(B));
    assert_eq!(tcp(&mut net, (B, 5432), (A, 40_000), RST), Verdict::Port(A));
    for (from, to, flags) in [
        ((A, 40_000), (B, 5433), SYN),
        ((A, 5432), (B, 40_000), SYN),
        // The other way round, and from the port that answers.
        ((B, 40_000), (A, 5432), SYN),
        ((B, 5432), (A, 22), SYN),
        ((B, 5433), (A, 40_000), ACK),
        // Others.
        ((C, 40_000), (B, 5432), SYN),
        ((A, 40_000), (C, 5432), SYN),
        ((B, 5432), (C, 40_000), ACK),
    ] {
        assert_eq!(tcp(&mut net, from, to, flags), REFUSED, "{from:?} {to:?} {flags}");
    }
    assert_eq!(udp(&mut net, (A, 40_000), (B, 5432)), REFUSED);
    assert_eq!(ping(&mut net, A, B, 8), REFUSED);
    // IPv6 is the same, and so is the name.
    let v6 = |port: PortId| IpAddr::V6(lease(port).v6.unwrap());
    let syn = Segment::new((v6(A), 1).into(), (v6(B), 5432).into(), SYN, 1, 0).packet();
    assert_eq!(send(&mut net, A, B, &syn), Verdict::Port(B));
    let syn = Segment::new((v6(A), 1).into(), (v6(B), 5433).into(), SYN, 1, 0).packet();
    assert_eq!(send(&mut net, A, B, &syn), REFUSED);
}

#[test]
fn who_may_talk_may_find_each_other() {
    let mut net = isolated(&[("app", "db", "tcp:5432")]);
    let asks = |from: PortId, to: PortId| {
        broadcast(from, ARP, &arp(1, (lease(from).mac.0, lease(from).v4), lease(to).v4))
    };
    assert_eq!(net.port_sends_frame(A, &asks(A, B)), Verdict::Port(B));
    assert_eq!(net.port_sends_frame(B, &asks(B, A)), Verdict::Port(A));
    assert_eq!(net.port_sends_frame(A, &asks(A, C)), REFUSED);
    let reply = |from: PortId, to: PortId| {
        unicast(from, to, ARP, &arp(2, (lease(from).mac.0, lease(from).v4), lease(to).v4))
    };
    assert_eq!(net.port_sends_frame(B, &reply(B, A)), Verdict::Port(A));
    assert_eq!(net.port_sends_frame(B, &reply(B, C)), REFUSED);
    // A packet for a third one, in a frame for one who is known.
    let syn = Segment::new(at(A, 1), at(C, 5432), SYN, 1, 0).packet();
    assert_eq!(net.port_sends_frame(A, &unicast(A, B, V4, &syn)), REFUSED);
}

#[test]
fn a_datagram_opens_the_way_for_its_answers_alone() {
    let mut net = isolated(&[("app", "db", "udp:53-54")]);
    assert_eq!(udp(&mut net, (B, 53), (A, 4000)), REFUSED, "nobody has asked");
    assert_eq!(udp(&mut net, (A, 4000), (B, 53)), Verdict::Port(B));
    assert_eq!(udp(&mut net, (B, 53), (A, 4000)), Verdict::Port(A));
    assert_eq!(udp(&mut net, (B, 54), (A, 4000)), REFUSED);
    assert_eq!(udp(&mut net, (B, 53), (A, 4001)), REFUSED);
    net.pass(Duration::from_secs(100));
    assert_eq!(udp(&mut net, (B, 53), (A, 4000)), Verdict::Port(A));
    net.pass(Duration::from_secs(121));
    assert_eq!(udp(&mut net, (B, 53), (A, 4000)), REFUSED, "too late");
    // The host has said that nobody listens.
    let unreachable = icmp(lease(B).v4.into(), lease(A).v4.into(), 3, 3, &[0; 32]);
    assert_eq!(send(&mut net, B, A, &unreachable), Verdict::Port(A));
    let unreachable = icmp(lease(C).v4.into(), lease(A).v4.into(), 3, 3, &[0; 32]);
    assert_eq!(send(&mut net, C, A, &unreachable), REFUSED);
    // One container does not fill the table for others.
    net.engine.set_between(vec![between("app", "db", "udp"), between("other", "db", "udp:7")]);
    let passed = (1..3000).filter(|port| udp(&mut net, (A, 5000), (B, *port)) == Verdict::Port(B));
    assert_eq!(passed.count(), 1024);
    assert_eq!(udp(&mut net, (C, 5000), (B, 7)), Verdict::Port(B));
}

#[test]
fn pings_pass_one_way_and_are_answered() {
    let mut net = isolated(&[("app", "db", "icmp")]);
    assert_eq!(ping(&mut net, A, B, 8), Verdict::Port(B));
    assert_eq!(ping(&mut net, B, A, 0), Verdict::Port(A));
    assert_eq!(ping(&mut net, B, A, 8), REFUSED);
    assert_eq!(ping(&mut net, A, B, 13), REFUSED);
    assert_eq!(tcp(&mut net, (A, 1), (B, 2), SYN), REFUSED);
}

#[test]
fn what_hides_its_ports_does_not_pass() {
    let mut net = isolated(&[("app", "db", "tcp:5432"), ("app", "db", "udp:53")]);
    let (a, b) = (IpAddr::V4(lease(A).v4), IpAddr::V4(lease(B).v4));
    let segment = Segment::new(at(A, 1), at(B, 5432), SYN, 1, 0).packet();
    // A TCP header in two pieces, RFC 1858 section 3, and anything after a first one.
    for (piece, position) in [(&segment[20..28], (0, true, 7)), (&segment[28..], (8, false, 7))] {
        let fragment = ip(a, b, TCP, piece, Some(position));
        assert_eq!(send(&mut net, A, B, &fragment), REFUSED, "{position:?}");
    }
    let whole = Datagram::new(at(A, 4000), at(B, 53), &[7; 3000]);
    for fragment in whole.fragments(1_280, 7) {
        assert_eq!(send(&mut net, A, B, &fragment), Verdict::Port(B));
    }
    let whole = Datagram::new(at(A, 4000), at(B, 54), &[7; 3000]);
    let fragments = whole.fragments(1_280, 8);
    assert_eq!(send(&mut net, A, B, &fragments[0]), REFUSED);
    // Some protocol without ports.
    assert_eq!(send(&mut net, A, B, &ip(a, b, 132, &[0; 16], None)), REFUSED);
}

// F12
#[test]
fn rules_follow_names_as_containers_come_and_go() {
    let mut net = isolated(&[("app", "db", "tcp:5432")]);
    assert_eq!(tcp(&mut net, (A, 1), (B, 5432), SYN), Verdict::Port(B));
    net.engine.remove_port(B, net.now);
    let lease = lease(B);
    let next = net.engine.add_port(lease, true, net.now).unwrap();
    let syn = Segment::new(at(A, 1), at(B, 5432), SYN, 1, 0).packet();
    let frame = unicast(A, B, V4, &syn);
    assert_eq!(net.port_sends_frame(A, &frame), REFUSED, "it has no name yet");
    let alias = vec!["DB".parse().unwrap()];
    net.engine.set_names(next, PortNames { aliases: alias, ..named("second") }, net.now);
    assert_eq!(net.port_sends_frame(A, &frame), Verdict::Port(next), "an alias is a name");
    net.engine.set_between(Vec::new());
    assert_eq!(net.port_sends_frame(A, &frame), REFUSED);
    // A link opens the way to the other and no way back, as Docker's do.
    let links = vec![("d".parse().unwrap(), "second".parse().unwrap())];
    net.engine.set_names(A, PortNames { links, ..named("app") }, net.now);
    assert_eq!(net.port_sends_frame(A, &frame), Verdict::Port(next));
    let back = Segment::new(at(B, 1), at(A, 80), SYN, 1, 0).packet();
    assert_eq!(net.port_sends_frame(next, &unicast(B, A, V4, &back)), REFUSED);
    assert_eq!(net.port_sends_frame(C, &unicast(C, B, V4, &back)), SPOOFED);
}

#[test]
fn a_container_that_comes_back_with_another_mac_is_announced_to_those_who_know_it() {
    let mut net = isolated(&[("app", "db", "tcp:5432")]);
    net.engine.remove_port(B, net.now);
    let mac = MacAddress([2, 9, 9, 9, 9, 9]);
    let next = net.engine.add_port(Lease { mac, ..lease(B) }, true, net.now).unwrap();
    net.forget();
    net.engine.set_names(next, named("db"), net.now);
    for (port, announcements) in [(A, 2), (C, 0), (next, 0)] {
        let frames = net.frames_at(port);
        assert_eq!(frames.len(), announcements, "{port:?}");
        for frame in frames {
            assert!(frame.windows(6).any(|bytes| bytes == mac.0), "{frame:x?}");
        }
    }
    net.engine.remove_port(A, net.now);
    let back = net.engine.add_port(lease(A), true, net.now).unwrap();
    net.engine.set_names(back, named("app"), net.now);
    assert_eq!(net.frames_at(next).len(), 2, "whoever comes is announced, not who opens");
}

const SPOOFED: Verdict = Verdict::Dropped(DropReason::SpoofedSource);

#[test]
fn who_asks_too_much_is_refused_until_its_questions_are_old() {
    let mut net = isolated(&[("app", "db", "udp"), ("other", "db", "udp")]);
    for port in 0..1024 {
        assert_eq!(udp(&mut net, (A, 10_000 + port), (B, 53)), Verdict::Port(B));
    }
    assert_eq!(udp(&mut net, (A, 9_999), (B, 53)), REFUSED);
    assert_eq!(udp(&mut net, (A, 10_000), (B, 53)), Verdict::Port(B), "that is known");
    assert_eq!(udp(&mut net, (C, 9_999), (B, 53)), Verdict::Port(B), "nobody else's loss");
    net.pass(Duration::from_secs(100));
    assert_eq!(udp(&mut net, (A, 10_001), (B, 53)), Verdict::Port(B));
    net.pass(Duration::from_secs(30));
    assert_eq!(udp(&mut net, (A, 9_999), (B, 53)), Verdict::Port(B));
    assert_eq!(udp(&mut net, (B, 53), (A, 10_000)), REFUSED, "too old to be answered");
    assert_eq!(udp(&mut net, (B, 53), (A, 10_001)), Verdict::Port(A), "asked again since");
}
