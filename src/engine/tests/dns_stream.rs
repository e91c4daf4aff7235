//! DNS over TCP: the forwarder's end of a guest's connection, and its own to the servers.

use std::io::ErrorKind;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::net::{Connects, Net, Options, address, guest, socket};
use crate::engine::PortId;
use crate::engine::dns::PortNames;
use crate::engine::host::{HostEvent, SocketId, SocketKind};

const SERVERS: [&str; 2] = ["192.0.2.53:53", "[2001:db8::53]:53"];

/// A query for `example.test`, behind its length.
fn query(id: u16) -> Vec<u8> {
    let message =
        [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0\x07example\x04test\0\0\x10\0\x01"];
    framed(&message.concat())
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// An answer to what a server got: `len` bytes of records that are not looked at.
fn answer(sent: &[u8], len: usize) -> Vec<u8> {
    let mut message = sent[2..].to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message.resize(message.len() + len, 7);
    framed(&message)
}

fn net() -> Net {
    let mut net = Net::with_guest(&Options::default());
    net.host.connects = Connects::Pending;
    net.set_resolvers(&SERVERS);
    net
}

fn connect(net: &mut Net, v6: bool, port: u16) -> SocketHandle {
    let to = socket(if v6 { "[fd72:6e73:6e65::3]:53" } else { "10.0.2.3:53" });
    let handle = net.guest().connect(guest(v6, port), to, 100_000);
    net.settle();
    assert_eq!(net.guest().socket(handle).state(), tcp::State::Established);
    handle
}

fn send(net: &mut Net, handle: SocketHandle, bytes: &[u8]) {
    assert_eq!(net.guest().socket(handle).send_slice(bytes).unwrap(), bytes.len());
    net.settle();
}

fn receive(net: &mut Net, handle: SocketHandle) -> Vec<u8> {
    net.settle();
    let mut all = Vec::new();
    while net.guest().socket(handle).can_recv() {
        let read = net.guest().socket(handle).recv(|bytes| (bytes.len(), bytes.to_vec()));
        all.extend(read.unwrap());
        net.settle();
    }
    all
}

/// The server gets the query over UDP first: the socket and what it got.
fn asked_over_udp(net: &mut Net, server: &str) -> (SocketId, Vec<u8>) {
    let opened = net.host_opens(SocketKind::UdpConnect(socket(server)));
    let sent = net.host_sends();
    assert_eq!(sent.socket, opened);
    (opened, sent.payload)
}

/// It answers, with this behind the question.
fn answers_over_udp(net: &mut Net, opened: SocketId, sent: &[u8], flags: [u8; 2], more: &[u8]) {
    let mut payload = [sent, more].concat();
    payload[2..4].copy_from_slice(&flags);
    let from = socket(SERVERS[0]);
    net.host_event(opened, HostEvent::Datagram { from, to: None, payload: &payload });
    net.settle();
}

/// The server has more to say than a datagram takes, and is asked again over TCP.
fn asked_twice(net: &mut Net, server: &str) -> (SocketId, Vec<u8>) {
    cut_short(net, server);
    asked(net, server)
}

fn cut_short(net: &mut Net, server: &str) {
    let (opened, sent) = asked_over_udp(net, server);
    answers_over_udp(net, opened, &sent, [0x83, 0x80], b"");
    net.host_closes(opened, false);
}

/// The server that is asked next, once its connection stands: the socket and what it got.
fn asked(net: &mut Net, server: &str) -> (SocketId, Vec<u8>) {
    let opened = net.host_opens(SocketKind::TcpConnect(socket(server)));
    net.host_connected(opened);
    (opened, std::mem::take(&mut net.stream(opened).received))
}

#[test]
fn a_query_over_tcp_is_asked_over_udp_where_that_does() {
    let mut net = net();
    let handle = connect(&mut net, false, 40_000);
    send(&mut net, handle, &query(7));
    let (opened, sent) = asked_over_udp(&mut net, SERVERS[0]);
    assert_eq!(sent[2..], query(7)[4..]);
    answers_over_udp(&mut net, opened, &sent, [0x81, 0x80], &[7; 5]);
    net.host_closes(opened, false);
    let got = receive(&mut net, handle);
    assert_eq!((&got[2..6], got.len()), (&[0, 7, 0x81, 0x80][..], 2 + sent.len() + 5));
    net.host_opens_nothing();
}

// Where datagrams get lost, or are not let through, the second round is over TCP.
#[test]
fn a_query_over_tcp_that_gets_no_answer_over_udp_is_asked_over_tcp() {
    let mut net = net();
    let handle = connect(&mut net, false, 40_000);
    send(&mut net, handle, &query(7));
    for server in SERVERS {
        asked_over_udp(&mut net, server);
        net.pass(Duration::from_secs(1));
    }
    net.pass(Duration::from_millis(10));
    let (opened, sent) = asked(&mut net, SERVERS[0]);
    net.peer_sends(opened, &answer(&sent, 9));
    assert_eq!(receive(&mut net, handle).len(), answer(&sent, 9).len());
    // And the servers that say nothing at all fail before the client gives up.
    send(&mut net, handle, &query(8));
    net.pass(Duration::from_secs(1 + 1 + 3 + 3));
    let failure = receive(&mut net, handle);
    assert_eq!((&failure[2..4], failure[5] & 15), (&[0, 8][..], 2), "SERVFAIL");
}

// A busy server that loses datagrams has no connections to spare.
#[test]
fn a_query_over_tcp_that_is_lost_over_udp_is_sent_again_before_it_is_asked_over_tcp() {
    let mut net = net();
    net.set_resolvers(&SERVERS[..1]);
    let handle = connect(&mut net, false, 40_000);
    let lost = |net: &mut Net| {
        let lost = asked_over_udp(net, SERVERS[0]);
        net.pass(Duration::from_millis(1_010));
        net.host_closes(lost.0, false);
    };
    let answered = |net: &mut Net, id: u16| {
        let (opened, sent) = asked_over_udp(net, SERVERS[0]);
        answers_over_udp(net, opened, &sent, [0x81, 0x80], &[7; 5]);
        net.host_closes(opened, false);
        assert_eq!(receive(net, handle)[2..4], id.to_be_bytes());
    };
    send(&mut net, handle, &query(1));
    answered(&mut net, 1);
    // Twice, from another socket and under another id each time.
    send(&mut net, handle, &query(2));
    lost(&mut net);
    answered(&mut net, 2);
    // Datagrams are let through no more: in time for a client that waits for five seconds.
    send(&mut net, handle, &query(3));
    lost(&mut net);
    lost(&mut net);
    let third = asked(&mut net, SERVERS[0]);
    // Which is remembered, before there is an answer and after it.
    send(&mut net, handle, &query(4));
    lost(&mut net);
    let fourth = asked(&mut net, SERVERS[0]);
    for (id, (opened, sent)) in [(3, third), (4, fourth)] {
        net.peer_sends(opened, &answer(&sent, 9));
        assert_eq!(receive(&mut net, handle)[2..6], [0, id, 0x81, 0x80]);
    }
    net.host.closed.clear();
    send(&mut net, handle, &query(5));
    lost(&mut net);
    asked(&mut net, SERVERS[0]);
    net.pass(Duration::from_secs(3));
    assert_eq!(receive(&mut net, handle)[5] & 15, 2, "SERVFAIL");
}

// However many servers there are, and however well they have answered, TCP begins after two seconds:
// with the next one, and each has its turn.
#[test]
fn tcp_does_not_wait_for_every_server() {
    const MANY: [&str; 4] = ["192.0.2.51:53", "192.0.2.52:53", "192.0.2.53:53", "192.0.2.54:53"];
    let mut net = net();
    net.set_resolvers(&MANY);
    let handle = connect(&mut net, false, 40_000);
    send(&mut net, handle, &query(1));
    let (opened, sent) = asked_over_udp(&mut net, MANY[0]);
    answers_over_udp(&mut net, opened, &sent, [0x81, 0x80], &[7; 5]);
    assert_eq!(receive(&mut net, handle)[2..4], [0, 1]);
    send(&mut net, handle, &query(2));
    for server in &MANY[..2] {
        asked_over_udp(&mut net, server);
        net.pass(Duration::from_secs(1));
    }
    for server in [MANY[2], MANY[3], MANY[0]] {
        let opened = net.host_opens(SocketKind::TcpConnect(socket(server)));
        net.host_fails(opened, ErrorKind::ConnectionRefused);
    }
    let (opened, sent) = asked(&mut net, MANY[1]);
    net.peer_sends(opened, &answer(&sent, 9));
    assert_eq!(receive(&mut net, handle)[2..4], [0, 2]);
    // Those that refuse do so at once, and cost the others nothing.
    send(&mut net, handle, &query(3));
    for server in [MANY[1], MANY[2], MANY[3]] {
        let (opened, sent) = asked_over_udp(&mut net, server);
        answers_over_udp(&mut net, opened, &sent, [0x81, 0x85], b"");
    }
    let (opened, sent) = asked_over_udp(&mut net, MANY[0]);
    answers_over_udp(&mut net, opened, &sent, [0x81, 0x80], &[7; 5]);
    assert_eq!(receive(&mut net, handle)[2..4], [0, 3]);
}

#[test]
fn an_answer_that_is_cut_short_is_asked_for_over_tcp_and_given_whole() {
    for v6 in [false, true] {
        let mut net = net();
        let handle = connect(&mut net, v6, 40_000);
        net.host_opens_nothing();
        send(&mut net, handle, &query(7));
        let (opened, sent) = asked_twice(&mut net, SERVERS[0]);
        assert_eq!(
            (sent[..2].to_vec(), sent[4..].to_vec()),
            (query(7)[..2].to_vec(), query(7)[4..].to_vec())
        );
        let mut reply = answer(&sent, 60_000);
        for piece in reply.chunks(10_000) {
            assert_eq!(receive(&mut net, handle), b"");
            net.peer_sends(opened, piece);
        }
        reply[2..4].copy_from_slice(&7_u16.to_be_bytes());
        assert_eq!(receive(&mut net, handle), reply);
        net.host_closes(opened, true);
        // The client is done, and so are we.
        net.guest().socket(handle).close();
        net.settle();
        net.expect_no_flows();
        net.expect_counters(&[("dns_queries", 1), ("tcp_outbound", 1)]);
    }
}

// D2: whatever a server does, the next one is asked, also for a connection that stands.
#[test]
fn the_next_server_is_asked_when_one_is_silent_refuses_or_breaks_off() {
    type Trouble = fn(&mut Net);
    let first = |net: &mut Net| net.host_opens(SocketKind::TcpConnect(socket(SERVERS[0])));
    let troubles: [Trouble; 5] = [
        // Dead: its address answers nothing.
        |net| net.pass(Duration::from_secs(2)),
        |net| {
            let opened = net.host_opens(SocketKind::TcpConnect(socket(SERVERS[0])));
            net.host_fails(opened, ErrorKind::ConnectionRefused);
        },
        // It accepts and says nothing.
        |net| {
            asked(net, SERVERS[0]);
            net.pass(Duration::from_secs(2));
        },
        // It accepts and hangs up.
        |net| {
            let (opened, _) = asked(net, SERVERS[0]);
            net.peer_finishes(opened);
        },
        // It answers another question.
        |net| {
            let (opened, sent) = asked(net, SERVERS[0]);
            let mut other = answer(&sent, 0);
            other[16] ^= 1;
            net.peer_sends(opened, &other);
        },
    ];
    for (index, trouble) in troubles.into_iter().enumerate() {
        let mut net = net();
        let handle = connect(&mut net, false, 40_000);
        send(&mut net, handle, &query(7));
        cut_short(&mut net, SERVERS[0]);
        if index == 0 {
            first(&mut net);
        }
        trouble(&mut net);
        let (second, sent) = asked(&mut net, SERVERS[1]);
        net.peer_sends(second, &answer(&sent, 5));
        assert_eq!(receive(&mut net, handle).len(), answer(&sent, 5).len(), "trouble {index}");
        // From now on it is the first.
        send(&mut net, handle, &query(8));
        asked_over_udp(&mut net, SERVERS[1]);
    }
}

#[test]
fn queries_of_one_connection_are_answered_as_answers_come() {
    let mut net = net();
    let handle = connect(&mut net, false, 40_000);
    // Two queries and a half in one segment.
    let three = [query(1), query(2), query(3)].concat();
    let (now, later) = three.split_at(three.len() - 5);
    send(&mut net, handle, now);
    net.host.opened.clear();
    let sent: Vec<_> = net.host.sent.drain(..).collect();
    assert_eq!(sent.len(), 2);
    answers_over_udp(&mut net, sent[1].socket, &sent[1].payload, [0x81, 0x80], b"");
    net.host.closed.clear();
    assert_eq!(receive(&mut net, handle)[2..4], [0, 2], "the second first");
    send(&mut net, handle, later);
    let (third, sent) = asked_twice(&mut net, SERVERS[0]);
    net.peer_sends(third, &answer(&sent, 0));
    assert_eq!(receive(&mut net, handle)[2..4], [0, 3]);
}

#[test]
fn one_silent_client_keeps_nobody_waiting_and_is_let_go() {
    let mut net = net();
    let silent = connect(&mut net, false, 40_000);
    send(&mut net, silent, &query(1)[..9]);
    let handle = connect(&mut net, false, 40_001);
    send(&mut net, handle, &query(7));
    let (opened, sent) = asked_twice(&mut net, SERVERS[0]);
    net.peer_sends(opened, &answer(&sent, 0));
    assert_eq!(receive(&mut net, handle)[2..4], [0, 7]);
    net.pass(Duration::from_secs(31));
    // RFC 7766, section 6.2.3: an orderly end.
    assert_eq!(net.guest().socket(silent).state(), tcp::State::CloseWait);
    net.guest().socket(handle).close();
    net.pass(Duration::from_secs(31));
    assert_eq!(net.guest().socket(silent).state(), tcp::State::Closed, "a reset");
    net.expect_no_flows();
    assert_eq!(net.engine.poll_timeout(), None);
}

#[test]
fn an_end_behind_the_query_does_not_cut_off_the_answer() {
    let mut net = net();
    let handle = connect(&mut net, false, 40_000);
    send(&mut net, handle, &query(7));
    net.guest().socket(handle).close();
    net.settle();
    let (opened, sent) = asked_twice(&mut net, SERVERS[0]);
    net.peer_sends(opened, &answer(&sent, 1_000));
    assert_eq!(receive(&mut net, handle).len(), answer(&sent, 1_000).len());
    net.settle();
    net.expect_no_flows();
}

#[test]
fn a_client_that_leaves_does_not_get_another_s_answer() {
    let mut net = net();
    let handle = connect(&mut net, false, 40_000);
    send(&mut net, handle, &query(7));
    let (opened, sent) = asked_twice(&mut net, SERVERS[0]);
    net.guest().socket(handle).abort();
    net.settle();
    // The next one has the same place in the table.
    let next = connect(&mut net, false, 40_001);
    net.peer_sends(opened, &answer(&sent, 0));
    assert_eq!(receive(&mut net, next), b"");
}

#[test]
fn without_servers_and_with_nonsense_the_client_is_told() {
    let mut net = net();
    net.set_resolvers(&[]);
    let handle = connect(&mut net, false, 40_000);
    send(&mut net, handle, &query(7));
    let failure = receive(&mut net, handle);
    assert_eq!((&failure[2..4], failure[5] & 15), (&[0, 7][..], 2), "SERVFAIL");
    let mut two = query(8);
    two[7] = 2;
    send(&mut net, handle, &two);
    assert_eq!(receive(&mut net, handle)[5] & 15, 1, "FORMERR");
    // Too long to be a query: the connection ends.
    send(&mut net, handle, &[0xff; 100]);
    assert_eq!(net.guest().socket(handle).state(), tcp::State::CloseWait);
    net.guest().socket(handle).close();
    net.settle();
    net.expect_no_flows();
}

// D4 D18: the same names and the same memory, however it is asked.
#[test]
fn names_and_kept_answers_are_given_over_tcp_too() {
    let mut net = Net::with_guest(&Options { internal: true, ..Options::default() });
    let names = PortNames {
        addresses: (0..200).map(|last| address(&format!("10.0.2.{last}"))).collect(),
        name: Some("example.test".parse().unwrap()),
        ..PortNames::default()
    };
    net.engine.set_names(PortId(0), names, net.now);
    let handle = connect(&mut net, false, 40_000);
    let mut addresses = query(7);
    let kind = addresses.len() - 3;
    addresses[kind] = 1;
    send(&mut net, handle, &addresses);
    let got = receive(&mut net, handle);
    assert_eq!((got[8..10].to_vec(), got.len()), (vec![0, 200], 32 + 200 * 16));
}
