//! TCP flows that clients of published ports open.

use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::net::{Net, Options, guest, server, socket};
use super::packets::{ACK, FIN, RST, SYN, Segment};
use crate::config::{Prefix, Protocol};
use crate::engine::host::{HostEvent, SocketKind};

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
        assert_eq!(second.from.ip(), super::net::address(gateway));
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
