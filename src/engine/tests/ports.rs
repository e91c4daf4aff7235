//! Ports that come and go: what is left of a container when its port is taken away.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::time::Duration;

use super::net::{Net, Options, address, server, socket};
use super::packets::{ACK, Datagram, GATEWAY_MAC, RST, SYN, Segment, ethernet, icmp, read_ip};
use super::switch::{
    ARP, B, C, V4, V6, arp, broadcast, dropped, group6, lan_of, lease, link_local, neighbour,
    unicast, v6,
};
use crate::config::{Lease, Protocol, Sharing};
use crate::engine::host::{HostEvent, SocketId, SocketKind};
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::{Destination, PortError, PortId};

/// A second container on the network.
fn second() -> Lease {
    Lease::new([10, 0, 2, 101].into(), Some("fd72:6e73:6e65::101".parse().unwrap()))
}

/// A network for several containers, with one.
fn shared() -> Net {
    Net::new(&Options { sharing: Sharing::Shared, ..Options::default() })
}

/// The second container comes; the first is told so.
fn add_second(net: &mut Net) -> PortId {
    let port = net.engine.add_port(second(), true, net.now).unwrap();
    assert_eq!(net.frames_at(PortId(0)).len(), 2, "an announcement of each family");
    port
}

fn packet_from(net: &mut Net, port: PortId, packet: &[u8]) -> Verdict {
    let frame = ethernet(GATEWAY_MAC, second().mac.0, 0x0800, packet);
    net.port_sends_frame(port, &frame)
}

/// A network with a second container that has a connection, one being made, a datagram's flow, a
/// ping and a question on their way. Returns its port and the sockets of all that.
fn busy() -> (Net, PortId, Vec<(SocketId, bool)>) {
    let mut net = shared();
    net.set_resolvers(&["192.0.2.53:53"]);
    let port = add_second(&mut net);
    let mut sockets = Vec::new();
    for (guest_port, stands) in [(40_000, true), (40_001, false)] {
        let from = socket(&format!("10.0.2.101:{guest_port}"));
        packet_from(&mut net, port, &Segment::new(from, server(false, 80), SYN, 100, 0).packet());
        let host = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
        if stands {
            net.host_connected(host);
            assert_eq!(net.port_gets(port, second().mac).len(), 1);
        }
        sockets.push((host, true));
    }
    let from = socket("10.0.2.101:4000");
    packet_from(&mut net, port, &Datagram::new(from, server(false, 7), b"ping").packet());
    sockets.push((net.host_opens(SocketKind::Udp { v6: false }), false));
    let ping = icmp(from.ip(), server(false, 0).ip(), 8, 0, &[0, 1, 0, 1]);
    packet_from(&mut net, port, &ping);
    sockets.push((net.host_opens(SocketKind::Ping { v6: false }), false));
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
    packet_from(&mut net, port, &Datagram::new(from, socket("10.0.2.3:53"), question).packet());
    sockets.push((net.host_opens(SocketKind::UdpConnect(socket("192.0.2.53:53"))), false));
    net.host.sent.clear();
    (net, port, sockets)
}

#[test]
fn a_port_s_end_closes_every_socket_of_its_container_and_no_other() {
    let (mut net, port, sockets) = busy();
    let kept = Segment::new(socket("10.0.2.100:40000"), server(false, 80), SYN, 100, 0);
    net.guest_sends(&kept.packet());
    let first = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
    net.engine.remove_port(port, net.now);
    net.settle();
    let mut closed: Vec<_> = net.host.closed.drain(..).collect();
    closed.sort_unstable();
    let mut expected = sockets;
    expected.sort_unstable();
    assert_eq!(closed, expected, "(socket, reset)");
    assert_eq!(net.frames_at(port), Vec::<Vec<u8>>::new(), "nobody is there to hear");
    net.host_connected(first);
    assert_eq!(
        net.guest_gets_segment().flags,
        SYN | ACK,
        "the other container has noticed nothing"
    );
}

#[test]
fn what_still_happens_for_a_port_that_is_gone_is_ignored() {
    let (mut net, port, sockets) = busy();
    let from = socket("10.0.2.101:4000");
    net.engine.remove_port(port, net.now);
    for (socket, _) in &sockets {
        net.engine.handle_host(*socket, HostEvent::Connected, net.now);
        let from = server(false, 7);
        let datagram = HostEvent::Datagram { from, to: None, payload: b"late" };
        net.engine.handle_host(*socket, datagram, net.now);
    }
    let late = Datagram::new(from, server(false, 7), b"late").packet();
    assert!(matches!(packet_from(&mut net, port, &late), Verdict::Dropped(_)));
    net.forget();
    net.pass(Duration::from_secs(10_000));
    net.expect_no_flows();
    assert_eq!(net.frames_at(port), Vec::<Vec<u8>>::new());
}

#[test]
fn the_next_container_at_a_port_has_nothing_of_the_last_one() {
    let (mut net, port, _) = busy();
    net.engine.remove_port(port, net.now);
    net.forget();
    let next = add_second(&mut net);
    assert_ne!(next, port, "what is late for one must not hit the other");
    // The same ends as of the connection that stood.
    let stray = Segment::new(socket("10.0.2.101:40000"), server(false, 80), ACK, 101, 1);
    assert_eq!(packet_from(&mut net, next, &stray.packet()), Verdict::Refused);
    net.host_opens_nothing();
}

#[test]
fn clients_of_a_published_port_are_led_to_each_container_in_turn() {
    let mut net = shared();
    let port = add_second(&mut net);
    let to = [PortId(0), port].map(|port| Destination { port, address: None });
    let tcp = net.engine.publish(Protocol::Tcp, to.to_vec(), 80);
    for round in 0..2 {
        net.accept(tcp, socket("198.51.100.7:5000")).unwrap();
        assert_eq!(net.guest_gets_segment().to, socket("10.0.2.100:80"), "{round}");
        net.accept(tcp, socket("198.51.100.7:5001")).unwrap();
        let [syn] = net.port_gets(port, second().mac).try_into().unwrap();
        assert_eq!(Segment::read(&syn).to, socket("10.0.2.101:80"), "{round}");
        net.forget();
    }
}

#[test]
fn a_udp_client_stays_with_the_container_it_was_led_to() {
    let mut net = shared();
    let port = add_second(&mut net);
    let to = [PortId(0), port].map(|port| Destination { port, address: None });
    let udp = net.engine.publish(Protocol::Udp, to.to_vec(), 53);
    for _ in 0..3 {
        net.host_gets(udp, socket("198.51.100.7:5000"), b"first");
        net.host_gets(udp, socket("198.51.100.7:5001"), b"second");
    }
    assert_eq!(net.guest_gets_all().len(), 3);
    let others = net.port_gets(port, second().mac);
    assert_eq!(others.len(), 3);
    assert!(others.iter().all(|packet| read_ip(packet).to == socket("10.0.2.101:0").ip()));
}

#[test]
fn a_published_port_of_a_container_that_is_gone_turns_its_clients_away() {
    let mut net = shared();
    let port = add_second(&mut net);
    let to = vec![Destination { port, address: None }];
    let tcp = net.engine.publish(Protocol::Tcp, to.clone(), 80);
    let udp = net.engine.publish(Protocol::Udp, to, 80);
    net.host_gets(udp, socket("198.51.100.7:5000"), b"known");
    net.engine.remove_port(port, net.now);
    assert_eq!(net.accept(tcp, socket("198.51.100.7:5000")), None);
    net.host_gets(udp, socket("198.51.100.7:5000"), b"late");
    net.expect_counters(&[("udp_opened", 1), ("drop.no-resources", 1)]);
}

/// A published port that leads to both containers, the first one first.
fn service(net: &mut Net, port: PortId) -> SocketId {
    let to = [PortId(0), port].map(|port| Destination { port, address: None });
    net.engine.publish(Protocol::Tcp, to.to_vec(), 80)
}

/// The first container's answer to a call: nobody listens there.
fn refuse(net: &mut Net, call: &Segment) {
    let reset = Segment::new(call.to, call.from, RST | ACK, 0, call.seq.wrapping_add(1));
    net.guest_sends(&reset.packet());
}

// C22
#[test]
fn a_client_that_one_container_refuses_is_led_to_the_next() {
    let mut net = shared();
    let port = add_second(&mut net);
    let listener = service(&mut net, port);
    let client = net.accept(listener, socket("198.51.100.7:5000")).unwrap();
    for to in ["10.0.2.100:80", "[fd72:6e73:6e65::100]:80"] {
        let call = net.guest_gets_segment();
        assert_eq!((call.to, call.flags), (socket(to), SYN), "both families of the first");
        refuse(&mut net, &call);
    }
    net.host_closes_nothing();
    let [call] = net.port_gets(port, second().mac).try_into().unwrap();
    let call = Segment::read(&call);
    assert_eq!((call.from, call.to), (socket("198.51.100.7:5000"), socket("10.0.2.101:80")));
    let taken = Segment::new(call.to, call.from, SYN | ACK, 9_000, call.seq.wrapping_add(1));
    packet_from(&mut net, port, &taken.packet());
    net.peer_sends(client, b"GET /");
    let [.., request] = &net.port_gets(port, second().mac)[..] else { panic!("no request") };
    assert_eq!(Segment::read(request).payload, b"GET /");
    net.guest_gets_nothing();
    net.expect_counters(&[("tcp_inbound", 1)]);
}

#[test]
fn a_client_that_every_container_refuses_is_reset() {
    let mut net = shared();
    let port = add_second(&mut net);
    let listener = service(&mut net, port);
    let client = net.accept(listener, socket("198.51.100.7:5000")).unwrap();
    for _ in 0..2 {
        let call = net.guest_gets_segment();
        refuse(&mut net, &call);
    }
    for family in [0x0800, 0x86dd] {
        net.host_closes_nothing();
        let [call] = net.port_gets(port, second().mac).try_into().unwrap();
        let call = Segment::read(&call);
        let reset = Segment::new(call.to, call.from, RST | ACK, 0, call.seq.wrapping_add(1));
        let frame = ethernet(GATEWAY_MAC, second().mac.0, family, &reset.packet());
        net.port_sends_frame(port, &frame);
    }
    net.host_closes(client, true);
    net.expect_no_flows();
    net.expect_counters(&[("tcp_inbound", 1), ("tcp_refused", 1)]);
}

#[test]
fn a_container_that_does_not_answer_is_waited_for_a_second_if_another_may() {
    let mut net = shared();
    let port = add_second(&mut net);
    let listener = service(&mut net, port);
    net.accept(listener, socket("198.51.100.7:5000")).unwrap();
    net.guest_gets_segment();
    net.pass(Duration::from_millis(900));
    assert_eq!(net.port_gets(port, second().mac).len(), 0);
    net.pass(Duration::from_millis(200));
    assert_eq!(net.port_gets(port, second().mac).len(), 1);
    net.pass(Duration::from_secs(120));
    net.host_closes_nothing();
    net.pass(Duration::from_secs(20));
    assert_eq!(net.host.closed.len(), 1, "the last one has the usual time");
    net.expect_counters(&[("tcp_inbound", 1), ("tcp_reset", 1)]);
}

#[test]
fn a_client_that_calls_a_container_as_it_ends_is_led_to_the_next() {
    let mut net = shared();
    let port = add_second(&mut net);
    let listener = service(&mut net, port);
    let (first, other) = ("198.51.100.7:5000", "198.51.100.7:5001");
    net.accept(listener, socket(first)).unwrap();
    let client = net.accept(listener, socket(other)).unwrap();
    assert_eq!(net.guest_gets_segment().from, socket(first));
    net.port_gets(port, second().mac);
    net.engine.remove_port(port, net.now);
    let call = net.guest_gets_segment();
    assert_eq!((call.from, call.to), (socket(other), socket("10.0.2.100:80")));
    net.host_closes_nothing();
    // And if nobody else is there, it hears so.
    net.engine.remove_port(PortId(0), net.now);
    net.settle();
    assert!(net.host.closed.contains(&(client, true)));
    net.expect_no_flows();
}

#[test]
fn a_published_port_can_lead_elsewhere_and_stops_trying_when_it_is_taken_back() {
    let mut net = shared();
    let port = add_second(&mut net);
    let listener = service(&mut net, port);
    let client = net.accept(listener, socket("198.51.100.7:5000")).unwrap();
    net.engine.retarget(listener, vec![Destination { port, address: None }]);
    let call = net.guest_gets_segment();
    for _ in 0..2 {
        net.accept(listener, socket("198.51.100.7:6000")).unwrap();
        net.guest_gets_nothing();
    }
    net.host.datagrams.insert(listener, SocketKind::Udp { v6: false });
    net.engine.unpublish(listener);
    refuse(&mut net, &call);
    let other = net.guest_gets_segment();
    refuse(&mut net, &other);
    net.settle();
    assert!(net.host.closed.contains(&(client, true)));
}

// E9
#[test]
fn an_address_of_the_link_alone_is_its_container_s_and_nobody_else_s() {
    let mut net = lan_of(Options { sharing: Sharing::Shared, ..Options::default() });
    let mut own = Lease::new([10, 0, 2, 110].into(), Some(v6(0x110)));
    let (own4, own6) = (Ipv4Addr::new(169, 254, 1, 5), address("fe80::5"));
    for address in [own4.into(), own6] {
        own.link_local.add(address).unwrap();
    }
    let port = net.engine.add_port(own, true, net.now).unwrap();
    net.forget();
    let from = |mac, kind, to, body: &[u8]| ethernet(lease(to).mac.0, mac, kind, body);
    let ping =
        |from, to| icmp(from, to, if matches!(from, IpAddr::V4(_)) { 8 } else { 128 }, 0, &[0; 4]);
    // Who has it is found, says so, and speaks by it.
    let asker = (lease(B).mac.0, lease(B).v4);
    let question = broadcast(B, ARP, &arp(1, asker, own4));
    assert_eq!(net.port_sends_frame(B, &question), Verdict::Port(port));
    let option = (1, lease(B).mac.0);
    let solicited = neighbour(link_local(B), "ff02::1:ff00:5", 135, Some(own6), option);
    assert_eq!(net.port_sends_frame(B, &group6(B, &solicited)), Verdict::Port(port));
    let mac = own.mac.0;
    let answer6 = neighbour(own6, "ff02::1", 136, Some(own6), (2, mac));
    for (kind, body) in [
        (ARP, arp(2, (mac, own4), lease(B).v4)),
        (V6, answer6),
        (V4, ping(own4.into(), lease(B).v4.into())),
        (V6, ping(own6, link_local(B))),
    ] {
        assert_eq!(net.port_sends_frame(port, &from(mac, kind, B, &body)), Verdict::Port(B));
    }
    net.forget();
    net.expect_counters(&[("switched_frames", 6), ("switched_bytes", 360)]);
    // Nobody else does.
    let forged = unicast(B, C, ARP, &arp(2, (lease(B).mac.0, own4), lease(C).v4));
    dropped(&mut net, B, &forged, DropReason::SpoofedArp, "spoofed-arp");
    for (kind, body) in
        [(V4, ping(own4.into(), lease(C).v4.into())), (V6, ping(own6, link_local(C)))]
    {
        let frame = unicast(B, C, kind, &body);
        dropped(&mut net, B, &frame, DropReason::SpoofedSource, "spoofed-source");
    }
    let forged = unicast(
        B,
        C,
        V6,
        &neighbour(link_local(B), "ff02::1", 136, Some(own6), (2, lease(B).mac.0)),
    );
    dropped(&mut net, B, &forged, DropReason::SpoofedNeighbour, "spoofed-neighbour");
    let mut second = Lease::new([10, 0, 2, 111].into(), Some(v6(0x111)));
    second.link_local.add(own4.into()).unwrap();
    let error = net.engine.add_port(second, true, net.now).unwrap_err();
    assert_eq!(error, PortError::AddressInUse(own4.into()));
}
