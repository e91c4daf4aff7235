//! How TCP flows end: in order, half by half, by a reset, by silence. Nothing accepted is lost.

use std::io::ErrorKind;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::net::{Net, Options, guest, server};
use super::packets::{ACK, FIN, RST, Segment, pattern};
use crate::engine::host::{SocketId, SocketKind};

/// An open connection of a guest's stack with rings of `ring` bytes.
fn open(ring: usize) -> (Net, SocketHandle, SocketId) {
    let mut net = Net::with_guest(&Options::default());
    let handle = net.guest().connect(guest(false, 40_000), server(false, 80), ring);
    net.settle();
    let host = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
    net.expect_counters(&[("tcp_outbound", 1)]);
    (net, handle, host)
}

/// Everything the guest has received and not yet read.
fn read(net: &mut Net, handle: SocketHandle) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let socket = net.guest().socket(handle);
        if !socket.can_recv() {
            return all;
        }
        all.extend(socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap());
        net.settle();
    }
}

/// A guest by hand with an open connection: its last segment, to go on from.
fn open_by_hand() -> (Net, Segment, SocketId) {
    let mut net = Net::by_hand();
    let syn = Segment::syn(guest(false, 40_000), server(false, 80), 1400);
    net.guest_sends(&syn.packet());
    let host = net.host_opens(SocketKind::TcpConnect(syn.to));
    net.host_connected(host);
    let answer = net.guest_gets_segment();
    let ack = Segment::new(syn.from, syn.to, ACK, syn.seq + 1, answer.seq.wrapping_add(1));
    net.guest_sends(&ack.packet());
    net.guest_gets_all();
    net.expect_counters(&[("tcp_outbound", 1)]);
    (net, ack, host)
}

#[test]
fn the_peer_answers_after_the_guest_has_finished() {
    let (mut net, handle, host) = open(65_535);
    net.guest().socket(handle).send_slice(b"request").unwrap();
    net.guest().socket(handle).close();
    net.settle();
    assert_eq!(net.stream(host).received, b"request");
    assert!(net.stream(host).received_end, "the peer sees the end of the request");
    net.pass(Duration::from_secs(600));
    net.host_closes_nothing();
    net.peer_sends(host, &pattern(200_000));
    let answer = read(&mut net, handle);
    assert_eq!(answer, pattern(200_000));
    net.peer_finishes(host);
    assert!(!net.guest().socket(handle).may_recv());
    net.host_closes(host, false);
    net.expect_no_flows();
    net.expect_counters(&[]);
}

#[test]
fn the_guest_answers_after_the_peer_has_finished() {
    let (mut net, handle, host) = open(65_535);
    net.peer_sends(host, b"request");
    net.peer_finishes(host);
    assert_eq!(read(&mut net, handle), b"request");
    assert_eq!(net.guest().socket(handle).state(), tcp::State::CloseWait);
    net.pass(Duration::from_secs(600));
    net.host_closes_nothing();
    assert!(!net.stream(host).received_end);
    net.guest().socket(handle).send_slice(&pattern(60_000)).unwrap();
    net.guest().socket(handle).close();
    net.settle();
    net.host_closes(host, false);
    net.expect_no_flows();
    net.expect_counters(&[]);
}

#[test]
fn a_reset_of_the_peer_comes_after_what_it_sent_before() {
    let (mut net, handle, host) = open(20_000);
    net.peer_sends(host, &pattern(100_000));
    net.stream(host).broken = Some(ErrorKind::ConnectionReset);
    net.stream_ready(host);
    assert_eq!(net.guest().socket(handle).state(), tcp::State::Established, "bytes are left");
    let got = read(&mut net, handle);
    assert_eq!(got, pattern(100_000));
    assert_eq!(net.guest().socket(handle).state(), tcp::State::Closed, "and then the reset");
    net.host_closes(host, true);
    net.expect_no_flows();
    net.expect_counters(&[("tcp_reset", 1)]);
}

#[test]
fn a_peer_that_has_finished_may_reset_the_connection_still() {
    for read_before in [true, false] {
        let (mut net, handle, host) = open(20_000);
        net.peer_sends(host, &pattern(30_000));
        net.peer_finishes(host);
        let mut got = if read_before { read(&mut net, handle) } else { Vec::new() };
        net.guest().socket(handle).send_slice(b"too late").unwrap();
        net.settle();
        net.stream(host).broken = Some(ErrorKind::BrokenPipe);
        net.stream_ready(host);
        got.extend(read(&mut net, handle));
        assert_eq!(got, pattern(30_000));
        assert_eq!(net.guest().socket(handle).state(), tcp::State::Closed, "{read_before}");
        net.host_closes(host, true);
        net.expect_no_flows();
        net.expect_counters(&[("tcp_reset", 1)]);
    }
}

#[test]
fn a_guest_that_vanishes_before_a_reset_is_waited_for_150_seconds() {
    let (mut net, _, host) = open(20_000);
    net.guest = None;
    net.peer_sends(host, &pattern(10_000));
    net.stream(host).broken = Some(ErrorKind::ConnectionReset);
    net.stream_ready(host);
    net.pass(Duration::from_secs(149));
    net.host_closes_nothing();
    net.pass(Duration::from_secs(1));
    net.host_closes(host, true);
    let last = net.guest_gets_all().pop().unwrap();
    assert_eq!(Segment::read(&last).flags & RST, RST);
    net.expect_no_flows();
    net.expect_counters(&[("tcp_reset", 1)]);
}

#[test]
fn a_reset_of_the_guest_resets_the_host() {
    let (mut net, handle, host) = open(65_535);
    net.guest().socket(handle).send_slice(b"x").unwrap();
    net.settle();
    net.guest().socket(handle).abort();
    net.settle();
    net.host_closes(host, true);
    net.expect_no_flows();
    net.expect_counters(&[("tcp_reset", 1)]);
}

#[test]
fn a_failed_event_of_an_open_socket_resets_the_guest() {
    let (mut net, handle, host) = open(65_535);
    net.host_fails(host, ErrorKind::ConnectionReset);
    assert_eq!(net.guest().socket(handle).state(), tcp::State::Closed);
    net.host_closes(host, true);
    net.expect_no_flows();
    net.expect_counters(&[("tcp_reset", 1)]);
}

#[test]
fn a_guest_that_owes_the_last_acknowledgement_is_forgotten_after_a_minute() {
    let (mut net, ack, host) = open_by_hand();
    let fin = Segment { flags: FIN | ACK, ..ack.clone() };
    net.guest_sends(&fin.packet());
    net.peer_finishes(host);
    net.host_closes(host, false);
    let all = net.guest_gets_all();
    assert!(all.iter().any(|packet| Segment::read(packet).flags & FIN != 0), "our FIN");
    net.pass(Duration::from_secs(59));
    let again = net.guest_gets_all();
    assert!(again.iter().all(|packet| Segment::read(packet).flags & FIN != 0), "sent again");
    assert!((4..10).contains(&again.len()), "{} retransmissions", again.len());
    assert!(net.engine.to_string().starts_with("flows: 1 tcp"));
    net.pass(Duration::from_secs(1));
    let last = net.guest_gets_segment();
    assert_eq!(last.flags & RST, RST);
    net.expect_no_flows();
    net.pass(Duration::from_secs(150));
    assert_eq!(net.engine.poll_timeout(), None, "nothing is waited for");
}

#[test]
fn the_minute_begins_anew_with_every_word_of_the_guest() {
    let (mut net, ack, host) = open_by_hand();
    let fin = Segment { flags: FIN | ACK, ..ack.clone() };
    net.guest_sends(&fin.packet());
    net.peer_finishes(host);
    net.pass(Duration::from_secs(30));
    net.guest_sends(&Segment { seq: ack.seq + 1, ..ack }.packet());
    net.pass(Duration::from_secs(59));
    assert!(net.engine.to_string().starts_with("flows: 1 tcp"));
    net.pass(Duration::from_secs(1));
    net.guest_gets_all();
    net.host_closes(host, false);
    net.expect_no_flows();
}

#[test]
fn the_last_acknowledgement_ends_a_flow_at_once() {
    let (mut net, ack, host) = open_by_hand();
    // The host finishes first: the guest's FIN ends it, and TIME-WAIT is not kept here.
    net.peer_finishes(host);
    let fin = net.guest_gets_segment();
    assert_eq!(fin.flags, FIN | ACK);
    let last = Segment { flags: FIN | ACK, ack: fin.seq.wrapping_add(1), ..ack.clone() };
    net.guest_sends(&last.packet());
    let acked = net.guest_gets_segment();
    assert_eq!((acked.flags, acked.ack), (ACK, last.seq + 1));
    net.host_closes(host, false);
    net.expect_no_flows();
    // The same ports may be used again at once.
    net.guest_sends(&Segment::syn(ack.from, ack.to, 1400).packet());
    net.host_opens(SocketKind::TcpConnect(ack.to));
}

#[test]
fn both_sides_may_finish_at_once() {
    let (mut net, ack, host) = open_by_hand();
    net.peer_finishes(host);
    let fin = net.guest_gets_segment();
    let crossing = Segment { flags: FIN | ACK, ..ack.clone() };
    net.guest_sends(&crossing.packet());
    net.host_closes(host, false);
    let acked = net.guest_gets_segment();
    assert_eq!(acked.ack, crossing.seq + 1);
    let last = Segment { seq: ack.seq + 1, ack: fin.seq.wrapping_add(1), ..ack };
    net.guest_sends(&last.packet());
    net.guest_gets_nothing();
    net.expect_no_flows();
}

#[test]
fn a_host_that_blocks_stops_the_guest_and_loses_nothing() {
    let (mut net, handle, host) = open(65_535);
    net.stream(host).room = 1_000;
    let sent = pattern(3_000_000);
    let mut at = 0;
    for _ in 0..100 {
        at += net.guest().socket(handle).send_slice(&sent[at..]).unwrap();
        net.settle();
    }
    assert!(at < 1_300_000, "{at} bytes were taken for a host that took 1,000");
    net.pass(Duration::from_secs(120));
    assert_eq!(net.stream(host).received.len(), 1_000);
    net.stream(host).room = usize::MAX;
    net.stream_ready(host);
    for _ in 0..200 {
        at += net.guest().socket(handle).send_slice(&sent[at..]).unwrap();
        net.pass(Duration::from_millis(500));
    }
    assert_eq!(net.stream(host).received, sent);
}

#[test]
fn a_guest_that_does_not_read_stops_the_peer_and_loses_nothing() {
    let (mut net, handle, host) = open(30_000);
    net.peer_sends(host, &pattern(3_000_000));
    let left = net.stream(host).to_read.len();
    assert!(left > 1_900_000, "{left} bytes stayed with the host");
    net.pass(Duration::from_secs(1_200));
    assert_eq!(net.stream(host).to_read.len(), left);
    let mut got = Vec::new();
    for _ in 0..400 {
        got.extend(read(&mut net, handle));
        net.pass(Duration::from_millis(10));
    }
    assert_eq!(got, pattern(3_000_000));
}

#[test]
fn a_slow_host_gets_everything_although_the_guest_s_time_wait_is_long_over() {
    let (mut net, handle, host) = open(65_535);
    net.stream(host).room = 0;
    net.peer_finishes(host);
    net.guest().socket(handle).send_slice(&pattern(50_000)).unwrap();
    net.guest().socket(handle).close();
    for received in [0, 10_000, 20_000, 30_000, 40_000] {
        net.pass(Duration::from_secs(90));
        assert_eq!(net.stream(host).received, pattern(50_000)[..received]);
        net.host_closes_nothing();
        net.stream(host).room = 10_000;
        net.stream_ready(host);
    }
    net.host_closes(host, false);
    net.expect_no_flows();
    net.expect_counters(&[]);
}

#[test]
fn a_guest_that_half_closed_gets_the_rest_as_fast_as_it_reads() {
    // In LAST-ACK smoltcp does not hear that a window opens.
    let (mut net, handle, host) = open(20_000);
    net.guest().socket(handle).close();
    net.peer_sends(host, &pattern(200_000));
    net.peer_finishes(host);
    let mut got = Vec::new();
    for _ in 0..50 {
        got.extend(read(&mut net, handle));
        net.pass(Duration::from_millis(10));
    }
    assert_eq!(got, pattern(200_000), "in half a second");
    net.host_closes(host, false);
    net.expect_no_flows();
}

#[test]
fn a_guest_that_half_closed_may_read_as_late_as_it_likes() {
    for peer_first in [false, true] {
        let mut net = Net::with_guest(&Options::default());
        let handle = net.guest().connect(guest(false, 40_000), server(false, 80), 20_000);
        net.settle();
        let host = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
        net.peer_sends(host, &pattern(50_000));
        if peer_first {
            net.peer_finishes(host);
        }
        net.guest().socket(handle).close();
        net.settle();
        if !peer_first {
            net.peer_finishes(host);
        }
        net.pass(Duration::from_secs(600));
        let mut got = Vec::new();
        for _ in 0..500 {
            net.pass(Duration::from_millis(100));
            while net.guest().socket(handle).can_recv() {
                got.extend(net.guest().socket(handle).recv(|b| (b.len(), b.to_vec())).unwrap());
            }
        }
        assert_eq!(got.len(), 50_000, "peer first: {peer_first}");
    }
}

#[test]
fn a_guest_that_never_acknowledges_the_syn_ack_is_given_up_soon() {
    let mut net = Net::by_hand();
    let syn = Segment::syn(guest(false, 40_000), server(false, 80), 1400);
    net.guest_sends(&syn.packet());
    let host = net.host_opens(SocketKind::TcpConnect(syn.to));
    net.host_connected(host);
    net.pass(Duration::from_secs(300));
    eprintln!("{} synacks", net.guest_gets_all().len());
    net.host_closes(host, true);
    net.expect_no_flows();
}
