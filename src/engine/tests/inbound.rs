//! TCP flows that clients of published ports open.

use std::net::{IpAddr, SocketAddr};

use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::net::{Net, Options, address, guest, server, socket};
use super::packets::{ACK, FIN, GATEWAY_MAC, GUEST_MAC, ICMPV6, RST, SYN, Segment, icmp, read_ip};
use crate::config::{Prefix, Protocol, Protocols, Rules};
use crate::engine::PortId;
use crate::engine::host::{HostEvent, SocketId, SocketKind};

#[test]
fn a_client_keeps_its_address_and_loopback_is_the_gateway() {
    for (client, seen) in [
        ("198.51.100.7:5000", "198.51.100.7:5000"),
        ("127.0.0.1:5000", "10.0.2.2:5000"),
        ("10.0.2.100:5000", "10.0.2.2:5000"),
        ("[2001:db8::7]:5000", "[2001:db8::7]:5000"),
        ("[::1]:5000", "[fd72:6e73:6e65::2]:5000"),
    ] {
        let mut net = Net::by_hand();
        let listener = net.publish(Protocol::Tcp, 80);
        let client = socket(client);
        net.accept(listener, client).unwrap();
        let syn = net.guest_gets_segment();
        assert_eq!((syn.from, syn.to), (socket(seen), guest(client.is_ipv6(), 80)));
        assert_eq!((syn.flags, syn.mss()), (SYN, Some(if client.is_ipv6() { 1440 } else { 1460 })));
        net.expect_counters(&[("tcp_inbound", 1)]);
        net.host_opens_nothing();
    }
}

/// Our SYN says nothing of the guest's numbers, so the window in it has no place among them: taken for
/// one that ends where they would if they began with 0, it hid the end of one container in 131,000, and
/// its client waited for ever.
#[test]
fn a_guest_s_end_is_heard_wherever_its_numbers_begin() {
    for first in (0..=u32::MAX - 10_000).step_by(10_000).filter(|first| {
        let half = first.abs_diff(1 << 31);
        half < 100_000 || first % (1 << 27) < 10_000
    }) {
        let mut net = Net::by_hand();
        let listener = net.publish(Protocol::Tcp, 80);
        let client = net.accept(listener, socket("198.51.100.7:5000")).unwrap();
        let syn = net.guest_gets_segment();
        let next = syn.seq.wrapping_add(1);
        net.guest_sends(&Segment::new(syn.to, syn.from, SYN | ACK, first, next).packet());
        assert_eq!(net.guest_gets_segment().flags, ACK, "{first}");
        net.guest_sends(&Segment::new(syn.to, syn.from, FIN | ACK, first + 1, next).packet());
        assert!(net.stream(client).received_end, "{first}");
    }
}

#[test]
fn a_client_that_is_not_let_in_is_reset_and_counted() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    let from = ["192.0.2.0/24", "::1/128"].map(|from| from.parse::<Prefix>().unwrap());
    net.engine.admit_only(listener, from.into());
    for (client, admitted) in [
        ("192.0.2.7:5000", true),
        ("192.0.3.7:5000", false),
        ("127.0.0.1:5000", false),
        ("[::1]:5000", true),
        ("[2001:db8::7]:5000", false),
    ] {
        let accepted = net.accept(listener, socket(client));
        assert_eq!(accepted.is_some(), admitted, "{client}");
        let counter = if admitted { "tcp_inbound" } else { "drop.forbidden-client" };
        if admitted {
            net.guest_gets_segment();
        }
        net.expect_counters(&[(counter, 1)]);
    }
}

#[test]
fn a_client_s_bytes_that_came_early_reach_the_guest() {
    let mut net = Net::with_guest(&Options::default());
    let listener = net.publish(Protocol::Tcp, 80);
    let handle = net.guest().listen(guest(false, 80), 65_535);
    let client = net.engine.accept(listener, server(false, 5_000), net.now).unwrap();
    net.host.streams.insert(client, super::net::Stream::with(b"GET / HTTP/1.0\r\n\r\n"));
    net.settle();
    let mut request = [0; 64];
    let len = net.guest().socket(handle).recv_slice(&mut request).unwrap();
    assert_eq!(&request[..len], b"GET / HTTP/1.0\r\n\r\n");
    net.guest().socket(handle).send_slice(b"HTTP/1.0 204\r\n\r\n").unwrap();
    net.guest().socket(handle).close();
    net.settle();
    assert_eq!(net.stream(client).received, b"HTTP/1.0 204\r\n\r\n");
    assert!(net.stream(client).received_end);
    net.peer_finishes(client);
    net.host_closes(client, false);
    net.expect_no_flows();
}

#[test]
fn two_clients_with_one_source_port_both_get_through() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    // Both are the gateway for the guest.
    let first = net.accept(listener, socket("127.0.0.1:5000")).unwrap();
    let second = net.accept(listener, socket("127.0.0.2:5000")).unwrap();
    assert_ne!(first, second);
    let syns = [net.guest_gets_segment(), net.guest_gets_segment()];
    assert_eq!(syns[0].from, socket("10.0.2.2:5000"));
    assert_eq!(syns[1].from.ip(), syns[0].from.ip());
    assert!(syns[1].from.port() >= 49_152, "{}", syns[1].from);
    net.expect_counters(&[("tcp_inbound", 2)]);
}

#[test]
fn a_guest_that_refuses_one_family_is_called_by_the_other() {
    for (client, gateway) in
        [(server(true, 5_000), "10.0.2.2"), (server(false, 5_000), "fd72:6e73:6e65::2")]
    {
        let mut net = Net::by_hand();
        let listener = net.publish(Protocol::Tcp, 80);
        let host = net.accept(listener, client).unwrap();
        let first = net.guest_gets_segment();
        assert_eq!(first.from, client);
        let refuse = |syn: &Segment| {
            Segment::new(syn.to, syn.from, RST | ACK, 0, syn.seq.wrapping_add(1)).packet()
        };
        net.guest_sends(&refuse(&first));
        net.host_closes_nothing();
        let second = net.guest_gets_segment();
        assert_eq!(second.from.ip(), address(gateway));
        assert_eq!((second.to, second.flags), (guest(!client.is_ipv6(), 80), SYN));
        net.expect_counters(&[("tcp_inbound", 1)]);
        net.guest_sends(&refuse(&second));
        net.host_closes(host, true);
        net.guest_gets_nothing();
        net.expect_counters(&[("tcp_refused", 1)]);
        net.expect_no_flows();
    }
}

#[test]
fn a_guest_that_takes_the_other_family_serves_the_client() {
    let mut net = Net::with_guest(&Options::default());
    let listener = net.publish(Protocol::Tcp, 80);
    let handle = net.guest().listen(guest(false, 80), 65_535);
    let client = net.accept(listener, server(true, 5_000)).unwrap();
    assert_eq!(net.guest().socket(handle).state(), tcp::State::Established);
    net.peer_sends(client, b"hello");
    assert_eq!(net.guest().socket(handle).recv_queue(), 5);
    net.expect_counters(&[("tcp_inbound", 1)]);
}

#[test]
fn a_guest_that_is_silent_is_given_up_after_two_minutes() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    let host = net.accept(listener, server(false, 5_000)).unwrap();
    net.pass(Duration::from_secs(129));
    let syns = net.guest_gets_all();
    assert!((7..=9).contains(&syns.len()), "{} SYNs", syns.len());
    net.host_closes_nothing();
    net.pass(Duration::from_secs(1));
    net.host_closes(host, true);
    net.guest_gets_all();
    net.expect_no_flows();
    assert_eq!(net.engine.poll_timeout(), None);
}

/// Those whom a frozen guest's full backlog has no place for (a SYN into it is dropped) are let in when
/// it goes on, as they would be by the host's kernel.
#[test]
fn a_client_waits_for_a_guest_that_is_frozen_for_a_while() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    let client = net.accept(listener, server(false, 5_000)).unwrap();
    net.peer_sends(client, b"GET /");
    net.peer_finishes(client);
    net.pass(Duration::from_secs(60));
    net.guest_gets_all();
    net.pass(Duration::from_secs(60));
    let syn = net.guest_gets_segment();
    assert_eq!(syn.flags, SYN);
    let next = syn.seq.wrapping_add(1);
    net.guest_sends(&Segment::new(syn.to, syn.from, SYN | ACK, 7, next).packet());
    let request = net.guest_gets_segment();
    assert_eq!((request.payload, request.flags & (FIN | RST)), (b"GET /".to_vec(), FIN));
    net.host_closes_nothing();
}

#[test]
fn a_client_that_is_gone_early_ends_its_flow() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    for is_told_by_the_socket in [false, true] {
        let host = net.accept(listener, server(false, 5_000)).unwrap();
        net.guest_gets_segment();
        if is_told_by_the_socket {
            net.stream(host).broken = Some(std::io::ErrorKind::ConnectionReset);
            net.stream_ready(host);
        } else {
            net.host_fails(host, std::io::ErrorKind::ConnectionReset);
        }
        net.host_closes(host, true);
        net.guest_gets_all();
        net.expect_no_flows();
    }
}

#[test]
fn a_new_client_never_has_the_name_of_a_socket_that_is_still_to_be_closed() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    let old = net.accept(listener, server(false, 5_000)).unwrap();
    // Both events come from one wait: the close is not carried out before the accept.
    let failed = HostEvent::Failed(std::io::ErrorKind::ConnectionReset);
    net.engine.handle_host(old, failed, net.now);
    let new = net.engine.accept(listener, server(false, 5_001), net.now).unwrap();
    assert_ne!(old, new);
}

#[test]
fn a_guest_s_own_connection_and_a_client_s_do_not_mix() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    // The guest calls the very address and port that the client has, from the published port.
    let (from, to) = (guest(false, 80), server(false, 5_000));
    net.guest_sends(&Segment::syn(from, to, 1400).packet());
    net.host_opens(SocketKind::TcpConnect(to));
    net.accept(listener, to).unwrap();
    let syn = net.guest_gets_segment();
    assert_eq!((syn.from.ip(), syn.to), (to.ip(), from));
    assert_ne!(syn.from.port(), to.port());
}

/// What a guest says that has its IPv6 address.
pub(super) fn advert() -> Vec<u8> {
    let (own, gateway) = (guest(true, 0).ip(), address("fe80::72:6eff:fe00:2"));
    let IpAddr::V6(target) = own else { panic!("{own}") };
    icmp(
        own,
        gateway,
        136,
        0,
        &[&[0x60, 0, 0, 0], &target.octets()[..], &[2, 1], &GUEST_MAC].concat(),
    )
}

/// What the guest has got since the last call: how often it was asked for its IPv6 address, and all
/// else.
pub(super) fn asked(net: &mut Net) -> (usize, Vec<Vec<u8>>) {
    let is_question = |packet: &Vec<u8>| {
        let packet = read_ip(packet);
        packet.protocol == ICMPV6 && packet.payload[0] == 135
    };
    let (questions, others): (Vec<_>, Vec<_>) =
        net.guest_gets_all().into_iter().partition(is_question);
    for question in &questions {
        let question = read_ip(question);
        assert_eq!(question.from, address("fe80::72:6eff:fe00:2"));
        assert_eq!(question.to, address("ff02::1:ff00:100"));
        assert!(question.is_sealed());
        let IpAddr::V6(target) = guest(true, 0).ip() else { panic!() };
        assert_eq!(question.payload[8..24], target.octets());
        assert_eq!(question.payload[24..], [&[1, 1][..], &GATEWAY_MAC].concat());
    }
    (questions.len(), others)
}

/// Where a client of either family is called.
fn called(net: &mut Net, listener: SocketId, client: SocketAddr) -> (usize, SocketAddr, IpAddr) {
    net.accept(listener, client).unwrap();
    let (questions, mut packets) = asked(net);
    let syn = Segment::read(&packets.pop().expect("a SYN"));
    assert_eq!((syn.flags, packets.len()), (SYN, 0));
    (questions, syn.to, syn.from.ip())
}

// An image that sets net.ipv6.conf.all.disable_ipv6.
#[test]
fn a_guest_that_has_lost_its_ipv6_address_is_called_by_ipv4() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    let (v4, v6) = (guest(false, 80), guest(true, 80));
    let gateway = address("10.0.2.2");
    let first = net.accept(listener, server(true, 5_000)).unwrap();
    net.guest_gets_segment();
    net.pass(Duration::from_millis(4_500));
    let (questions, syns) = asked(&mut net);
    assert_eq!(questions, 3);
    let syns: Vec<_> = syns.iter().map(|packet| Segment::read(packet)).collect();
    let syn = syns.last().unwrap();
    assert_eq!((syn.from.ip(), syn.to), (gateway, v4), "{syns:?}");
    let answer = Segment::new(syn.to, syn.from, SYN | ACK, 1, syn.seq.wrapping_add(1));
    net.guest_sends(&answer.packet());
    net.peer_sends(first, b"hello");
    assert!(net.guest_gets_all().iter().any(|packet| Segment::read(packet).payload == b"hello"));
    // The next ones are led there at once, and nobody to an address that is lost.
    assert_eq!(called(&mut net, listener, server(true, 5_001)), (1, v4, gateway));
    assert_eq!(called(&mut net, listener, server(false, 5_002)).1, v4);
    net.host_closes_nothing();
    net.guest_sends(&Segment::new(v4, server(false, 5_002), RST | ACK, 0, 0).packet());
    net.pass(Duration::from_secs(60));
    net.forget();
    // It is back: the one who finds out is the last to be led elsewhere.
    assert_eq!(called(&mut net, listener, server(true, 5_003)), (1, v4, gateway));
    net.guest_sends(&advert());
    assert_eq!(called(&mut net, listener, server(true, 5_004)), (0, v6, server(true, 0).ip()));
    net.pass(Duration::from_secs(1));
    assert!(net.engine.fx.doubts.next_deadline().is_some());
    net.engine.remove_port(PortId(0), net.now);
    assert_eq!(net.engine.fx.doubts.next_deadline(), None);
}

#[test]
fn a_guest_that_is_slow_and_has_its_ipv6_address_keeps_its_client() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Tcp, 80);
    let host = net.accept(listener, server(true, 5_000)).unwrap();
    let mut questions = 0;
    for _ in 0..129 {
        net.pass(Duration::from_secs(1));
        let (count, syns) = asked(&mut net);
        assert!(syns.iter().all(|syn| Segment::read(syn).to == guest(true, 80)));
        questions += count;
        if count > 0 {
            net.guest_sends(&advert());
        }
    }
    assert_eq!(questions, 7, "one for each SYN that had no answer");
    net.host_closes_nothing();
    net.pass(Duration::from_secs(1));
    net.host_closes(host, true);
    net.expect_no_flows();
}

#[test]
fn who_hears_no_advertisements_asks_for_nobody() {
    let protocols = Protocols { ndp: false, ..Protocols::default() };
    let rules = Rules { protocols, ..Rules::default() };
    let mut net = Net::new(&Options { rules, ..Options::default() });
    let listener = net.publish(Protocol::Tcp, 80);
    net.accept(listener, server(true, 5_000)).unwrap();
    net.pass(Duration::from_secs(29));
    assert_eq!(asked(&mut net).0, 0);
    net.host_closes_nothing();
}
