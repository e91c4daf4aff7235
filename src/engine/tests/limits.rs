//! Every bound of the engine, met by one container while another goes about its business.
//!
//! What is full gives way as the table says, is counted under its name and nothing else is, and
//! the other container gets what it asks for.

use std::net::{IpAddr, SocketAddr};

use smoltcp::time::Duration;

use super::net::{Connects, Net, Options, address, guest, server, socket};
use super::packets::{
    ACK, Datagram, FIN, GATEWAY_MAC, GUEST_MAC, PSH, RST, SYN, Segment, ethernet, icmp, ip, pattern,
};
use crate::config::{Lease, Limits, Protocol, Sharing};
use crate::engine::host::{HostEvent, SocketKind};
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::{Destination, PortError, PortId, SMALLEST_RING};

const A: PortId = PortId(0);
const B: PortId = PortId(1);

/// What the container at `B` has.
fn lease() -> Lease {
    Lease::new([10, 0, 2, 101].into(), None)
}

fn limits(given: &[(&str, &str)]) -> Limits {
    let mut limits = Limits::default();
    for (name, number) in given {
        limits.set(name, number).unwrap();
    }
    limits
}

/// Two containers on one network with these bounds.
fn pair(given: &[(&str, &str)]) -> Net {
    let (sharing, limits) = (Sharing::Shared, limits(given));
    let mut net = Net::new(&Options { sharing, limits, ..Options::default() });
    assert_eq!(net.engine.add_port(lease(), true, net.now), Ok(B));
    net.set_resolvers(&["198.51.100.53:53"]);
    net.forget();
    net
}

fn alone(given: &[(&str, &str)]) -> Net {
    Net::new(&Options { limits: limits(given), ..Options::default() })
}

/// Gives the engine an IPv4 packet of the container at a port.
fn sends(net: &mut Net, port: PortId, packet: &[u8]) -> Verdict {
    let mac = if port == A { GUEST_MAC } else { lease().mac.0 };
    net.port_sends_frame(port, &ethernet(GATEWAY_MAC, mac, 0x0800, packet))
}

fn own(port: PortId, number: u16) -> SocketAddr {
    if port == A { guest(false, number) } else { SocketAddr::new(lease().v4.into(), number) }
}

fn syn(net: &mut Net, port: PortId, number: u16) -> Verdict {
    sends(net, port, &Segment::syn(own(port, number), server(false, 80), 1400).packet())
}

fn datagram(net: &mut Net, port: PortId, number: u16) {
    net.now += Duration::from_micros(1);
    let packet = Datagram::new(own(port, number), server(false, 7), b"x").packet();
    assert_eq!(sends(net, port, &packet), Verdict::Flow);
}

fn ping(net: &mut Net, port: PortId, id: u8) {
    net.now += Duration::from_micros(1);
    let packet = icmp(own(port, 0).ip(), server(false, 0).ip(), 8, 0, &[0, id, 0, 1]);
    assert_eq!(sends(net, port, &packet), Verdict::Flow);
}

fn query(net: &mut Net, port: PortId, number: u16) {
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
    let packet = Datagram::new(own(port, number), socket("10.0.2.3:53"), question).packet();
    assert_eq!(sends(net, port, &packet), Verdict::Dns);
}

fn fragment(net: &mut Net, port: PortId, id: u16, offset: usize, more: bool) -> Verdict {
    let whole = Datagram::new(own(port, 4000), server(false, 7), &[b'x'; 24]).bytes();
    let body = if more { &whole[..16] } else { &whole[16..] };
    let (from, to): (IpAddr, IpAddr) = (own(port, 0).ip(), server(false, 0).ip());
    sends(net, port, &ip(from, to, super::packets::UDP, body, Some((offset, more, id))))
}

/// Whose flows the host was asked to close: the ports of their sockets in the order of their opening.
fn closed(net: &mut Net, opened: &[(crate::engine::host::SocketId, SocketKind)]) -> Vec<usize> {
    let closed: Vec<_> = net.host.closed.drain(..).collect();
    closed
        .iter()
        .map(|(id, _)| opened.iter().position(|(opened, _)| opened == id).unwrap())
        .collect()
}

fn opened(net: &mut Net) -> Vec<(crate::engine::host::SocketId, SocketKind)> {
    net.host.opened.drain(..).collect()
}

#[test]
fn one_container_cannot_have_all_tcp_connections() {
    let mut net = pair(&[("tcp", "8")]);
    net.host.connects = Connects::AtOnce;
    for number in 1..=2 {
        assert_eq!(syn(&mut net, A, number), Verdict::Flow);
    }
    assert_eq!(syn(&mut net, A, 3), Verdict::Refused);
    let answers: Vec<u8> = net.guest_gets_all().iter().map(|p| Segment::read(p).flags).collect();
    assert_eq!(answers, [SYN | ACK, SYN | ACK, RST | ACK]);
    assert_eq!(syn(&mut net, B, 1), Verdict::Flow);
    net.expect_counters(&[("tcp_outbound", 3), ("tcp_refused", 1), ("limit.tcp-each", 1)]);
    assert_eq!(opened(&mut net).len(), 3);
    net.host_closes_nothing();
}

#[test]
fn all_tcp_connections_together_have_a_bound_in_both_directions() {
    let mut net = pair(&[("tcp", "3"), ("tcp-each", "2")]);
    net.host.connects = Connects::AtOnce;
    let web = net.publish(Protocol::Tcp, 80);
    assert_eq!(syn(&mut net, B, 1), Verdict::Flow);
    assert_eq!(syn(&mut net, B, 2), Verdict::Flow);
    assert!(net.accept(web, socket("192.0.2.7:5000")).is_some());
    assert!(net.accept(web, socket("192.0.2.7:5001")).is_none(), "reset by the shell");
    assert_eq!(syn(&mut net, A, 1), Verdict::Refused);
    // The DNS forwarder's connections are connections.
    let dns = Segment::syn(own(A, 2), socket("10.0.2.3:53"), 1400).packet();
    assert_eq!(sends(&mut net, A, &dns), Verdict::Refused);
    let refused = [("tcp_refused", 2), ("limit.tcp", 3), ("tcp_inbound", 1), ("tcp_outbound", 2)];
    net.expect_counters(&refused);
}

#[test]
fn who_opens_most_connections_gives_way() {
    let mut net = pair(&[("opening", "8")]);
    // A quarter each.
    for number in 1..=3 {
        assert_eq!(syn(&mut net, A, number), Verdict::Flow);
    }
    let asked = opened(&mut net);
    assert_eq!(closed(&mut net, &asked), [0], "the first of its own");
    net.expect_counters(&[("tcp_outbound", 3), ("tcp_evicted", 1), ("limit.opening-each", 1)]);

    let mut net = pair(&[("opening", "4"), ("opening-each", "4")]);
    for (port, number) in [(B, 1), (A, 1), (A, 2), (A, 3), (B, 2)] {
        assert_eq!(syn(&mut net, port, number), Verdict::Flow);
    }
    let asked = opened(&mut net);
    assert_eq!(closed(&mut net, &asked), [1], "the oldest of A, though B's is older");
    net.expect_counters(&[("tcp_outbound", 5), ("tcp_evicted", 1), ("limit.opening", 1)]);
}

#[test]
fn a_storm_is_what_the_user_says() {
    let mut net = pair(&[("storm", "5")]);
    let ask = |net: &mut Net| {
        let ping = icmp(own(B, 0).ip(), address("255.255.255.255"), 8, 0, &[0, 1, 0, 1]);
        let frame = ethernet([0xff; 6], lease().mac.0, 0x0800, &ping);
        net.port_sends_frame(B, &frame) == Verdict::Ports
    };
    assert_eq!((0..9).filter(|_| ask(&mut net)).count(), 5);
    net.now += Duration::from_millis(400);
    assert_eq!((0..9).filter(|_| ask(&mut net)).count(), 2);
    let met: Vec<_> = net.engine.stats().limits_met().collect();
    assert_eq!(met, [("storm", 11)]);
}

#[test]
fn connections_that_a_container_does_not_acknowledge_keep_nobody_out() {
    for to in ["192.0.2.9:80", "10.0.2.3:53"] {
        let mut net = alone(&[("tcp", "20"), ("opening", "8")]);
        net.host.connects = Connects::AtOnce;
        for number in 1..=50 {
            let syn = Segment::syn(own(A, number), socket(to), 1400);
            assert_eq!(sends(&mut net, A, &syn.packet()), Verdict::Flow);
        }
        net.expect_counters(&[("tcp_outbound", 50), ("tcp_evicted", 42), ("limit.opening", 42)]);
        let answers = net.guest_gets_all();
        let (asked, closed) = (opened(&mut net), std::mem::take(&mut net.host.closed));
        assert_eq!(asked.len() - closed.len(), if to.ends_with(":80") { 8 } else { 0 });
        // One that is acknowledged is none of them any more.
        let last = Segment::read(answers.last().unwrap());
        let ack = Segment::new(last.to, last.from, ACK, last.ack, last.seq.wrapping_add(1));
        sends(&mut net, A, &ack.packet());
        for number in 51..=58 {
            let syn = Segment::syn(own(A, number), socket(to), 1400);
            sends(&mut net, A, &syn.packet());
        }
        net.guest_gets_all();
        let data = Segment { flags: ACK | PSH, payload: b"x".to_vec(), ..ack };
        sends(&mut net, A, &data.packet());
        let answer = net.guest_gets_all();
        assert_eq!(Segment::read(answer.last().unwrap()).flags & (RST | ACK), ACK);
    }
}

#[test]
fn the_client_who_has_waited_longest_is_reset() {
    let mut net = alone(&[("calling", "2")]);
    let web = net.publish(Protocol::Tcp, 80);
    let clients: Vec<_> = (5000..5003)
        .map(|port| net.accept(web, SocketAddr::new([192, 0, 2, 7].into(), port)).unwrap())
        .collect();
    net.host_closes(clients[0], true);
    let flags: Vec<u8> = net.guest_gets_all().iter().map(|p| Segment::read(p).flags).collect();
    assert_eq!(flags.iter().filter(|flags| **flags == SYN).count(), 3, "{flags:?}");
    let evicted = [("tcp_inbound", 3), ("tcp_evicted", 1), ("tcp_reset", 1), ("limit.calling", 1)];
    net.expect_counters(&evicted);
}

#[test]
fn a_client_of_another_container_that_gives_way_is_no_business_of_ours() {
    let mut net = pair(&[("calling", "2")]);
    let web = net.publish(Protocol::Tcp, 80);
    let to = Destination { port: B, address: None };
    let other = net.engine.publish(Protocol::Tcp, vec![to], 80);
    let clients: Vec<_> = (5000..5002)
        .map(|port| net.accept(web, SocketAddr::new([192, 0, 2, 7].into(), port)).unwrap())
        .collect();
    let syns = net.guest_gets_all();
    net.accept(other, socket("192.0.2.8:6000")).unwrap();
    net.host_closes(clients[0], true);
    net.guest_gets_nothing();
    let frames = net.port_gets(B, lease().mac);
    let flags: Vec<u8> = frames.iter().map(|packet| Segment::read(packet).flags).collect();
    assert_eq!(flags, [SYN], "its own client's and nothing else");
    // The one that went is no more when its container answers.
    let called = Segment::read(&syns[0]);
    let late = Segment::new(called.to, called.from, SYN | ACK, 7, called.seq.wrapping_add(1));
    assert_eq!(sends(&mut net, A, &late.packet()), Verdict::Refused);
    assert_eq!(net.guest_gets_segment().flags, RST);
}

#[test]
fn buffers_shrink_before_connections_are_refused() {
    // 64 KiB a connection for half of it, 16 KiB afterwards.
    let mut net = alone(&[("memory", "1")]);
    net.host.connects = Connects::AtOnce;
    let mut stood = 0;
    while syn(&mut net, A, 1000 + stood) == Verdict::Flow {
        stood += 1;
        assert!(stood < 1000, "no bound");
    }
    let text = net.engine.to_string();
    let of = |size: usize| text.lines().filter(|l| l.ends_with(&format!("rings {size}"))).count();
    assert_eq!((of(32 << 10), of(SMALLEST_RING), stood), (8, 32, 40));
    assert!(text.contains("\nbuffers: 1047552 bytes of 1048576\n"), "{text}");
    let refused = net.guest_gets_all().pop().unwrap();
    assert_eq!(Segment::read(&refused).flags, RST | ACK);
    net.expect_counters(&[("tcp_outbound", 40), ("tcp_refused", 1), ("limit.memory", 1)]);
    // What ends gives its part back.
    for (host, _) in opened(&mut net).into_iter().take(3) {
        net.host_fails(host, std::io::ErrorKind::ConnectionReset);
    }
    assert_eq!(syn(&mut net, A, 5000), Verdict::Flow);
    net.engine.remove_port(A, net.now);
    assert!(!net.engine.to_string().contains("\nbuffers: "));
}

#[test]
fn memory_that_others_took_meanwhile_is_no_panic_but_a_reset() {
    let mut net = alone(&[("memory", "1")]);
    for number in 0..100 {
        assert_eq!(syn(&mut net, A, 1000 + number), Verdict::Flow);
    }
    for (host, _) in opened(&mut net) {
        net.host_connected(host);
    }
    let flags: Vec<u8> = net.guest_gets_all().iter().map(|p| Segment::read(p).flags).collect();
    let stood = flags.iter().filter(|flags| **flags == SYN | ACK).count();
    let reset = flags.iter().filter(|flags| **flags == RST | ACK).count();
    assert_eq!((stood, reset), (40, 60));
    net.expect_counters(&[("tcp_outbound", 100), ("tcp_refused", 60), ("limit.memory", 60)]);
}

#[test]
fn buffers_grow_no_further_than_there_is_memory() {
    for (memory, grown) in [("1", 256 << 10), ("2", 512 << 10), ("5", 2 << 20)] {
        let mut net = Net::with_guest(&Options {
            limits: limits(&[("memory", memory)]),
            ..Options::default()
        });
        let handle = net.guest().connect(guest(false, 40_000), server(false, 80), 1 << 20);
        net.settle();
        let host = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
        for _ in 0..4 {
            let body = pattern(1 << 20);
            let before = net.stream(host).received.len();
            net.guest().socket(handle).send_slice(&body).unwrap();
            net.settle();
            assert!(net.stream(host).received[before..] == body);
        }
        let text = net.engine.to_string();
        assert!(text.contains(&format!(" rings {grown}\n")), "{memory} MiB: {text}");
        assert!(text.contains(&format!("buffers: {} bytes", 2 * grown)), "{text}");
    }
}

#[test]
fn small_buffers_carry_every_byte() {
    let mut net =
        Net::with_guest(&Options { limits: limits(&[("memory", "1")]), ..Options::default() });
    // The first ones take the half.
    let mut flows = Vec::new();
    for number in 0..20 {
        let to = server(false, 80);
        let handle = net.guest().connect(guest(false, 40_000 + number), to, 1 << 20);
        net.settle();
        flows.push((handle, net.host_opens(SocketKind::TcpConnect(to))));
    }
    let &(handle, host) = flows.last().unwrap();
    assert!(net.engine.to_string().contains(" rings 8176\n"));
    let body = pattern(100_000);
    net.guest().socket(handle).send_slice(&body).unwrap();
    net.settle();
    assert!(net.stream(host).received == body);
    net.peer_sends(host, &body);
    net.peer_finishes(host);
    let mut got = Vec::new();
    for _ in 0..200 {
        let socket = net.guest().socket(handle);
        while socket.can_recv() {
            got.extend(socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap());
        }
        net.settle();
    }
    assert!(got == body, "{} bytes", got.len());
}

#[test]
fn who_has_most_udp_conversations_loses_the_silent_one() {
    let mut net = pair(&[("udp", "8")]);
    for number in 1..=3 {
        datagram(&mut net, A, number);
    }
    let asked = opened(&mut net);
    assert_eq!(closed(&mut net, &asked), [0]);
    net.expect_counters(&[("udp_opened", 3), ("limit.udp-each", 1)]);

    let mut net = pair(&[("udp", "4"), ("udp-each", "4")]);
    for (port, number) in [(B, 1), (A, 1), (A, 2), (A, 3), (B, 2)] {
        datagram(&mut net, port, number);
    }
    let asked = opened(&mut net);
    assert_eq!(closed(&mut net, &asked), [1], "the oldest of A, though B's is older");
    net.expect_counters(&[("udp_opened", 5), ("limit.udp", 1)]);
}

#[test]
fn descriptors_for_udp_are_taken_from_whom_has_most() {
    let mut net = pair(&[]);
    net.engine.set_max_udp_sockets(4);
    for (port, number) in [(B, 1), (A, 1), (A, 2), (A, 3), (B, 2)] {
        datagram(&mut net, port, number);
    }
    let asked = opened(&mut net);
    assert_eq!(closed(&mut net, &asked), [1]);
    net.expect_counters(&[("udp_opened", 5), ("limit.descriptors", 1)]);
}

#[test]
fn who_has_most_pings_loses_the_silent_one() {
    let mut net = pair(&[("echo", "4"), ("echo-each", "4")]);
    for (port, id) in [(B, 1), (A, 1), (A, 2), (A, 3)] {
        ping(&mut net, port, id);
    }
    // One that goes on is not the silent one.
    ping(&mut net, A, 1);
    ping(&mut net, B, 2);
    let asked = opened(&mut net);
    assert_eq!(closed(&mut net, &asked), [2]);
    net.expect_counters(&[("echo_opened", 5), ("limit.echo", 1)]);

    let mut net = alone(&[("echo", "2")]);
    for id in 1..=3 {
        ping(&mut net, A, id);
    }
    let asked = opened(&mut net);
    assert_eq!(closed(&mut net, &asked), [0]);
    net.expect_counters(&[("echo_opened", 3), ("limit.echo", 1)]);
    let mut net = pair(&[("echo", "8")]);
    for id in 1..=3 {
        ping(&mut net, A, id);
    }
    net.expect_counters(&[("echo_opened", 3), ("limit.echo-each", 1)]);
}

#[test]
fn who_has_most_dns_queries_gets_a_failure() {
    let mut net = pair(&[("dns", "4")]);
    for (port, number) in [(B, 1), (A, 1), (A, 2), (A, 3), (B, 2)] {
        query(&mut net, port, number);
    }
    let asked = opened(&mut net);
    assert_eq!(closed(&mut net, &asked), [1]);
    let failure = net.guest_gets_datagram();
    assert_eq!((failure.to.port(), failure.payload[3] & 15), (1, 2), "SERVFAIL");
    assert!(net.frames_at(B).is_empty());
    net.expect_counters(&[("dns_queries", 5), ("dns_failed", 1), ("limit.dns", 1)]);
}

#[test]
fn who_has_most_fragments_loses_the_oldest() {
    let mut net = pair(&[("fragments", "4")]);
    for (port, id) in [(B, 1), (A, 1), (A, 2), (A, 3), (A, 4), (A, 5)] {
        assert_eq!(fragment(&mut net, port, id, 0, true), Verdict::Held);
    }
    net.expect_counters(&[("limit.fragments", 2)]);
    assert_eq!(fragment(&mut net, B, 1, 16, false), Verdict::Flow, "B's datagram is whole");
    assert_eq!(fragment(&mut net, A, 5, 16, false), Verdict::Flow);
    assert_eq!(fragment(&mut net, A, 1, 16, false), Verdict::Held, "the rest is gone");
}

#[test]
fn a_network_takes_no_more_containers_than_it_may() {
    let mut net = pair(&[("containers", "2")]);
    let third = Lease::new([10, 0, 2, 102].into(), None);
    let error = net.engine.add_port(third, true, net.now).unwrap_err();
    assert_eq!(error, PortError::Full { most: 2 });
    assert_eq!(error.to_string(), "the network has 2 containers, which is the most");
    net.engine.remove_port(B, net.now);
    assert!(net.engine.add_port(third, true, net.now).is_ok());
}

#[test]
fn a_container_joins_no_more_groups_than_it_may() {
    let mut net = pair(&[("groups", "2")]);
    let report = |group: u8| {
        let mut body = vec![0x16, 0, 0, 0, 239, 1, 1, group];
        let sum = !smoltcp::wire::checksum::data(&body);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let to = IpAddr::from([239, 1, 1, group]);
        let packet = ip(own(A, 0).ip(), to, 2, &body, None);
        ethernet([1, 0, 0x5e, 1, 1, group], GUEST_MAC, 0x0800, &packet)
    };
    for group in [1, 2, 1, 3] {
        assert_eq!(net.port_sends_frame(A, &report(group)), Verdict::Switch);
    }
    net.expect_counters(&[("limit.groups", 1)]);
    let say = |group: u8| {
        let to = SocketAddr::from(([239, 1, 1, group], 7));
        let packet = Datagram::new(own(B, 7), to, b"x").packet();
        ethernet([1, 0, 0x5e, 1, 1, group], lease().mac.0, 0x0800, &packet)
    };
    assert_eq!(net.port_sends_frame(B, &say(2)), Verdict::Ports);
    let nobody = Verdict::Dropped(DropReason::NoMember);
    assert_eq!(net.port_sends_frame(B, &say(3)), nobody);
}

/// The mill that a bound must not become: each one too many costs as much as the first.
#[test]
fn beyond_a_bound_nothing_spins_and_nothing_is_left() {
    let small = [
        ("tcp", "9"),
        ("opening", "3"),
        ("udp", "5"),
        ("echo", "3"),
        ("dns", "3"),
        ("fragments", "2"),
    ];
    let mut net = pair(&small);
    for number in 1..400_u16 {
        for port in [A, B] {
            syn(&mut net, port, number);
            datagram(&mut net, port, number);
            ping(&mut net, port, number.to_le_bytes()[0]);
            query(&mut net, port, number);
            fragment(&mut net, port, number, 0, true);
        }
        net.forget();
    }
    let text = net.engine.to_string();
    assert!(text.starts_with("flows: 2 tcp, 2 udp, 2 echo; 3 dns queries in flight\n"), "{text}");
    // What is named in the wrong order ends all the same.
    net.pass(Duration::from_secs(400));
    net.forget();
    let gone = Segment::new(own(A, 1), server(false, 80), FIN | ACK, 1001, 1);
    sends(&mut net, A, &gone.packet());
    net.forget();
    net.expect_no_flows();
}

/// Gives the engine a packet and takes nothing that comes of it.
fn gives(net: &mut Net, port: PortId, packet: &[u8]) {
    let mac = if port == A { GUEST_MAC } else { lease().mac.0 };
    let frame = ethernet(GATEWAY_MAC, mac, 0x0800, packet);
    net.engine.handle_frame(port, &mut [&[0; 10][..], &frame].concat(), net.now);
}

fn ping_of_the_gateway(port: PortId) -> Vec<u8> {
    icmp(own(port, 0).ip(), address("10.0.2.2"), 8, 0, &pattern(1400))
}

#[test]
fn what_waits_for_one_container_leaves_another_its_answers() {
    let mut net = pair(&[("waiting", "1")]);
    for _ in 0..1000 {
        gives(&mut net, A, &ping_of_the_gateway(A));
    }
    for _ in 0..3 {
        gives(&mut net, B, &ping_of_the_gateway(B));
    }
    assert_eq!(net.frames_at(B).len(), 3);
    let answers = net.frames_at(A).len();
    assert!((700..750).contains(&answers), "{answers} of a MiB");
    let lost = (1000 + 3 - 3 - answers) as u64;
    net.expect_counters(&[("limit.waiting", lost), ("drop.queue-full", lost)]);
    // Nothing is left of either.
    for port in [B, A] {
        gives(&mut net, port, &ping_of_the_gateway(port));
        assert_eq!(net.frames_at(port).len(), 1);
    }
}

#[test]
fn small_frames_that_give_way_to_large_ones_are_as_many_as_it_takes() {
    let mut net = pair(&[("waiting", "1")]);
    let ping = |port, length| icmp(own(port, 0).ip(), address("10.0.2.2"), 8, 0, &pattern(length));
    for _ in 0..20_000 {
        gives(&mut net, A, &ping(A, 20));
    }
    for _ in 0..1000 {
        gives(&mut net, B, &ping(B, 1400));
    }
    let waiting = net.frames_at(A).into_iter().chain(net.frames_at(B)).map(|frame| frame.len());
    let waiting = waiting.sum::<usize>();
    assert!(waiting < (1 << 20) + 10_000, "{waiting} bytes");
}

#[test]
fn connections_have_their_turn_however_much_else_waits() {
    let mut net = pair(&[]);
    syn(&mut net, B, 40_000);
    let host = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
    net.host_connected(host);
    let answer = Segment::read(&net.port_gets(B, lease().mac)[0]);
    let ack = |window| {
        let segment = Segment::new(answer.to, answer.from, ACK, answer.ack, answer.seq + 1);
        Segment { window, ..segment }.packet()
    };
    sends(&mut net, B, &ack(0));
    net.peer_sends(host, &pattern(50_000));
    net.forget();
    for _ in 0..200 {
        gives(&mut net, A, &ping_of_the_gateway(A));
    }
    gives(&mut net, B, &ack(500));
    let mut to = Vec::new();
    for _ in 0..20 {
        assert!(net.engine.poll_frame(net.now, |port, _, _| to.push(port)));
    }
    assert!(to.contains(&B), "{to:?}");
}

/// Clients on the host's loopback are all the gateway for the guest, so those with one port need others.
#[test]
fn a_client_s_port_is_looked_for_so_often_and_not_for_ever() {
    let mut net = alone(&[("udp", "65536")]);
    let listener = net.publish(Protocol::Udp, 53);
    let mut ask = |clients: std::ops::Range<u32>| {
        for client in clients {
            let from = SocketAddr::from(((0x7f00_0001 + client).to_be_bytes(), 5_000));
            let question = HostEvent::Datagram { from, to: None, payload: b"?" };
            net.engine.handle_host(listener, question, net.now);
            while net.engine.poll_frame(net.now, |_, _, _| ()) {}
        }
        let stats = net.engine.stats();
        (stats.udp_opened, stats.dropped(DropReason::NoResources))
    };
    // Half of the ports are free: one of them is found.
    assert_eq!(ask(0..8_000), (8_000, 0));
    let (opened, dropped) = ask(8_000..20_000);
    assert!(opened > 15_000 && opened + dropped == 20_000, "{opened} opened");
}
