//! TCP flows that a guest opens: when its SYN is answered, and with what.

use std::io::ErrorKind;

use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::net::{Connects, Net, Options, address, guest, server, socket};
use super::packets::{ACK, PSH, Packet, RST, SYN, Segment};
use crate::config::{HostAccess, Limit, Limits};
use crate::engine::host::{SocketId, SocketKind};
use crate::engine::stats::{DropReason, Verdict};

/// A guest's SYN to a server, and the host socket that was asked for.
fn opening(net: &mut Net, v6: bool) -> (Segment, SocketId) {
    let syn = Segment::syn(guest(v6, 40_000), server(v6, 80), 1400);
    assert_eq!(net.guest_sends(&syn.packet()), Verdict::Flow);
    let socket = net.host_opens(SocketKind::TcpConnect(syn.to));
    (syn, socket)
}

/// The error that answers `packet` says this and quotes it.
fn assert_unreachable(error: &Packet, packet: &[u8], v4: [u8; 2], v6: [u8; 2]) {
    let (kind, gateway) = match packet[0] >> 4 {
        6 => (v6, "fd72:6e73:6e65::2"),
        _ => (v4, "10.0.2.2"),
    };
    assert_eq!(error.from, address(gateway));
    assert_eq!(error.payload[..2], kind);
    assert_eq!(error.payload[4..8], [0; 4]);
    assert_eq!(error.payload[8..], *packet, "the packet is quoted");
}

#[test]
fn a_syn_is_answered_once_the_host_is_connected() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let (syn, host) = opening(&mut net, v6);
        net.guest_gets_nothing();
        net.host_connected(host);
        let answer = net.guest_gets_segment();
        assert_eq!((answer.from, answer.to), (syn.to, syn.from));
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, syn.seq + 1));
        assert_eq!(answer.mss(), Some(if v6 { 1440 } else { 1460 }));
        net.guest_gets_nothing();
        net.expect_counters(&[("tcp_outbound", 1)]);
    }
}

/// The packet with options of IP that mean nothing: of IPv6 both headers that may come before TCP.
fn with_options(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let (header, options): (usize, &[u8]) = match packet[0] >> 4 {
        6 => {
            packet[6] = 0;
            (40, &[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0x1e, 4, 1, 2, 3, 4])
        }
        _ => {
            packet[0] += 1;
            (20, &[1, 1, 1, 0])
        }
    };
    packet.splice(header..header, options.iter().copied());
    let longer = u16::try_from(options.len()).unwrap();
    let at = if header == 40 { 4 } else { 2 };
    let length = u16::from_be_bytes([packet[at], packet[at + 1]]) + longer;
    packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
    if header == 20 {
        packet[10..12].fill(0);
        let sum = !smoltcp::wire::checksum::data(&packet[..24]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

#[test]
fn options_of_ip_before_tcp_are_passed_over() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let syn = Segment::syn(guest(v6, 40_000), server(v6, 80), 1400);
        assert_eq!(net.guest_sends(&with_options(&syn.packet())), Verdict::Flow);
        let host = net.host_opens(SocketKind::TcpConnect(syn.to));
        net.host_connected(host);
        let answer = net.guest_gets_segment();
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, syn.seq + 1));
        let next = |payload: &[u8]| {
            let flags = ACK | PSH;
            Segment::new(syn.from, syn.to, flags, syn.seq + 1, answer.seq + 1).with(payload)
        };
        net.guest_sends(&with_options(&next(b"hello").packet()));
        let answer = net.guest_gets_segment();
        assert_eq!((answer.flags & RST, answer.ack), (0, syn.seq + 6));
        // One that is of no connection has its reset and nothing else.
        let stray = Segment::new(guest(v6, 40_001), server(v6, 80), ACK, 5, 9);
        assert_eq!(net.guest_sends(&with_options(&stray.packet())), Verdict::Refused);
        let answer = net.guest_gets_segment();
        assert_eq!((answer.flags, answer.seq), (RST, 9));
        net.guest_gets_nothing();
    }
}

#[test]
fn a_retransmitted_syn_opens_nothing_more() {
    let mut net = Net::by_hand();
    let (syn, _) = opening(&mut net, false);
    net.expect_counters(&[("tcp_outbound", 1)]);
    let verdict = net.guest_sends(&syn.packet());
    net.expect_dropped(verdict, DropReason::NotYetOpen, "opening");
    net.host_opens_nothing();
}

#[test]
fn a_refused_connection_is_reset() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let (syn, host) = opening(&mut net, v6);
        net.host_fails(host, ErrorKind::ConnectionRefused);
        let reset = net.guest_gets_segment();
        assert_eq!((reset.from, reset.to), (syn.to, syn.from));
        assert_eq!((reset.flags, reset.seq, reset.ack), (RST | ACK, 0, syn.seq + 1));
        net.guest_gets_nothing();
        net.host_closes(host, true);
        net.expect_counters(&[("tcp_outbound", 1), ("tcp_refused", 1)]);
        net.expect_no_flows();
    }
}

#[test]
fn an_unreachable_host_is_reported_with_the_syn() {
    for v6 in [false, true] {
        for (error, code_v4, code_v6) in [
            (ErrorKind::NetworkUnreachable, 0, 0),
            (ErrorKind::AddrNotAvailable, 0, 0),
            (ErrorKind::HostUnreachable, 1, 3),
            (ErrorKind::TimedOut, 1, 3),
            (ErrorKind::PermissionDenied, 13, 1),
        ] {
            let mut net = Net::by_hand();
            let (syn, host) = opening(&mut net, v6);
            net.host_fails(host, error);
            let answer = net.guest_gets_icmp();
            assert_unreachable(&answer, &syn.packet(), [3, code_v4], [1, code_v6]);
            net.guest_gets_nothing();
            net.host_closes(host, true);
            net.expect_counters(&[("tcp_outbound", 1), ("tcp_refused", 1)]);
            net.expect_no_flows();
        }
    }
}

#[test]
fn a_host_that_never_answers_is_given_up_after_linux_would() {
    let mut net = Net::by_hand();
    let (syn, host) = opening(&mut net, false);
    net.pass(Duration::from_secs(149));
    net.guest_gets_nothing();
    net.pass(Duration::from_secs(1));
    assert_unreachable(&net.guest_gets_icmp(), &syn.packet(), [3, 1], [1, 3]);
    net.host_closes(host, true);
    net.expect_no_flows();
    assert_eq!(net.engine.poll_timeout(), None);
}

#[test]
fn a_guest_that_resets_while_the_host_connects_ends_that() {
    let mut net = Net::by_hand();
    let (syn, host) = opening(&mut net, false);
    let reset = Segment::new(syn.from, syn.to, RST, syn.seq + 1, 0);
    assert_eq!(net.guest_sends(&reset.packet()), Verdict::Flow);
    net.host_closes(host, true);
    net.guest_gets_nothing();
    net.expect_no_flows();
}

#[test]
fn a_guest_that_gave_up_before_the_host_connected_leaves_nothing() {
    let mut net = Net::by_hand();
    let (syn, host) = opening(&mut net, false);
    net.host_connected(host);
    assert_eq!(net.guest_gets_segment().flags, SYN | ACK);
    // A closed socket sends nothing while it is in SYN-SENT; it resets the answer.
    net.guest_sends(&Segment::new(syn.from, syn.to, RST, syn.seq + 1, 0).packet());
    net.host_closes(host, true);
    net.guest_gets_nothing();
    net.expect_no_flows();
}

#[test]
fn a_segment_of_no_flow_is_reset_and_a_reset_is_not() {
    let mut net = Net::by_hand();
    let (from, to) = (guest(false, 40_000), server(false, 80));
    let stray = Segment::new(from, to, ACK | PSH, 7_000, 9_000).with(b"late");
    assert_eq!(net.guest_sends(&stray.packet()), Verdict::Refused);
    let reset = net.guest_gets_segment();
    assert_eq!((reset.from, reset.to), (to, from));
    assert_eq!((reset.flags, reset.seq), (RST, 9_000));
    net.guest_gets_nothing();
    net.host_opens_nothing();
    net.expect_counters(&[]);
    let verdict = net.guest_sends(&Segment::new(from, to, RST, 1, 0).packet());
    net.expect_dropped(verdict, DropReason::NoFlow, "no-flow");
    let synack = Segment::new(from, to, SYN | ACK, 7_000, 9_000);
    assert_eq!(net.guest_sends(&synack.packet()), Verdict::Refused);
    assert_eq!(net.guest_gets_segment().flags & RST, RST);
}

#[test]
fn the_gateway_is_reached_only_where_host_access_allows() {
    let options = Options { host_access: HostAccess::Ports([5432].into()), ..Options::default() };
    for (gateway, loopback) in [("10.0.2.2", "127.0.0.1"), ("[fd72:6e73:6e65::2]", "[::1]")] {
        let mut net = Net::new(&options);
        let to = socket(&format!("{gateway}:5432"));
        let from = guest(to.is_ipv6(), 40_000);
        assert_eq!(net.guest_sends(&Segment::syn(from, to, 1400).packet()), Verdict::Flow);
        net.host_opens(SocketKind::TcpConnect(socket(&format!("{loopback}:5432"))));
        let closed = socket(&format!("{gateway}:5433"));
        let verdict = net.guest_sends(&Segment::syn(from, closed, 1400).packet());
        assert_eq!(verdict, Verdict::Refused);
        assert_eq!(net.guest_gets_segment().flags, RST | ACK);
        net.host_opens_nothing();
        net.expect_counters(&[("tcp_outbound", 1), ("tcp_refused", 1)]);
    }
}

const MAX_FLOWS: usize = Limits::DEFAULT.get(Limit::Tcp);
const MAX_OPENING: usize = Limits::DEFAULT.get(Limit::Opening);

/// Gives the engine a SYN, and the host's sockets to the test as they are opened.
fn flood(net: &mut Net, index: usize) -> Verdict {
    let from = guest(false, u16::try_from(1_024 + index).unwrap());
    net.guest_sends(&Segment::syn(from, server(false, 80), 1400).packet())
}

/// The guest acknowledges the SYN-ACK that it has.
fn completes(net: &mut Net) {
    let answer = net.guest_gets_segment();
    assert_eq!(answer.flags, SYN | ACK);
    let ack = Segment::new(answer.to, answer.from, ACK, answer.ack, answer.seq.wrapping_add(1));
    assert_eq!(net.guest_sends(&ack.packet()), Verdict::Flow);
}

#[test]
fn one_flow_too_many_is_refused_and_the_others_stay() {
    let mut net = Net::by_hand();
    net.host.connects = Connects::AtOnce;
    for index in 0..MAX_FLOWS {
        assert_eq!(flood(&mut net, index), Verdict::Flow);
        completes(&mut net);
    }
    assert_eq!(net.host.opened.len(), MAX_FLOWS);
    net.host.opened.clear();
    assert_eq!(flood(&mut net, MAX_FLOWS), Verdict::Refused);
    assert_eq!(net.guest_gets_segment().flags, RST | ACK);
    net.host_opens_nothing();
    net.host_closes_nothing();
    let most = u64::try_from(MAX_FLOWS).unwrap();
    net.expect_counters(&[("tcp_outbound", most), ("tcp_refused", 1), ("limit.tcp", 1)]);
}

#[test]
fn of_too_many_connections_being_made_the_oldest_gives_way_in_silence() {
    let mut net = Net::by_hand();
    for index in 0..MAX_OPENING {
        assert_eq!(flood(&mut net, index), Verdict::Flow);
    }
    let (oldest, _) = net.host.opened[0];
    net.host.opened.clear();
    net.host_closes_nothing();
    assert_eq!(flood(&mut net, MAX_OPENING), Verdict::Flow);
    net.host_closes(oldest, true);
    let newest = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
    net.guest_gets_nothing();
    net.host_connected(newest);
    completes(&mut net);
    let opened = u64::try_from(MAX_OPENING).unwrap() + 1;
    let evicted = [("tcp_evicted", 1), ("limit.opening", 1), ("tcp_outbound", opened)];
    net.expect_counters(&evicted);
    // One that stands has no place among them any more.
    assert_eq!(flood(&mut net, MAX_OPENING + 1), Verdict::Flow);
    net.host_closes_nothing();
}

#[test]
fn an_idle_connection_wakes_nobody_for_two_hours_and_is_given_up_when_its_guest_is_gone() {
    let mut net = Net::by_hand();
    let (syn, host) = opening(&mut net, false);
    net.host_connected(host);
    let answer = net.guest_gets_segment();
    let ack = Segment::new(syn.from, syn.to, ACK, syn.seq + 1, answer.seq.wrapping_add(1));
    net.guest_sends(&ack.packet());
    net.guest_gets_all();
    // The deadline of the opening is forgotten when it passes, not before.
    net.pass(Duration::from_secs(150));
    let idle = net.engine.poll_timeout().unwrap() - net.now;
    assert!(idle > Duration::from_secs(7_000), "wakes after {idle}");
    net.guest_gets_nothing();
    net.pass(Duration::from_secs(7_200));
    let probe = net.guest_gets_segment();
    assert_eq!((probe.flags & RST, probe.seq), (0, answer.seq), "a keep-alive probe");
    net.guest_sends(&ack.packet());
    net.pass(Duration::from_secs(7_300));
    net.guest_gets_all();
    net.pass(Duration::from_secs(600));
    assert_eq!(net.guest_gets_segment().flags & RST, RST);
    net.host_closes(host, true);
    net.expect_no_flows();
}

#[test]
fn a_guest_s_stack_sees_an_ordinary_connection() {
    let mut net = Net::with_guest(&Options::default());
    net.host.connects = Connects::Pending;
    let handle = net.guest().connect(guest(false, 40_000), server(false, 80), 65_535);
    net.settle();
    assert_eq!(net.guest().socket(handle).state(), tcp::State::SynSent);
    let host = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
    // The peer speaks first, before the guest has so much as a SYN-ACK.
    net.stream(host).to_read.extend(b"220 ready\r\n");
    net.pass(Duration::from_secs(2));
    net.host_connected(host);
    net.settle();
    assert_eq!(net.guest().socket(handle).state(), tcp::State::Established);
    let mut greeting = [0; 64];
    let len = net.guest().socket(handle).recv_slice(&mut greeting).unwrap();
    assert_eq!(&greeting[..len], b"220 ready\r\n");
}

#[test]
fn a_new_syn_of_the_same_ports_replaces_the_old_one() {
    let mut net = Net::by_hand();
    let syn = Segment::syn(guest(false, 40_000), server(false, 80), 1400);
    net.guest_sends(&syn.packet());
    let host = net.host_opens(SocketKind::TcpConnect(syn.to));
    let new = Segment { seq: 777_000, ..syn };
    net.guest_sends(&new.packet());
    net.host_connected(host);
    assert_eq!(net.guest_gets_segment().ack, 777_001);
}
