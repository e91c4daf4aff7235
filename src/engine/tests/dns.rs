//! The DNS forwarder: ids, failover, and what counts as an answer.

use std::net::SocketAddr;

use smoltcp::time::Duration;

use super::net::{Net, guest, socket};
use super::packets::Datagram;
use crate::engine::host::{HostEvent, SocketId, SocketKind};
use crate::engine::stats::Verdict;

const SERVERS: [&str; 2] = ["192.0.2.53:53", "[2001:db8::53]:53"];

fn question(id: u16, name: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0", name, b"\0\x01\0\x01"].concat()
}

/// An answer to a message as the server got it.
fn answer(query: &[u8], rcode: u8) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | rcode;
    answer
}

const NAME: &[u8] = b"\x07example\x04test\0";

struct Query {
    client: SocketAddr,
    forwarder: SocketAddr,
    socket: SocketId,
    /// The message as sent to the server.
    sent: Vec<u8>,
}

/// A query of the guest under id 0x1234, on its way to the server.
fn ask(net: &mut Net, v6: bool, server: &str) -> Query {
    let forwarder = socket(if v6 { "[fd72:6e73:6e65::3]:53" } else { "10.0.2.3:53" });
    let client = guest(v6, 4_000);
    let message = question(0x1234, NAME);
    let verdict = net.guest_sends(&Datagram::new(client, forwarder, &message).packet());
    assert_eq!(verdict, Verdict::Dns);
    let (socket, sent) = asked(net, server);
    assert_eq!(sent[2..], message[2..], "all but the id");
    Query { client, forwarder, socket, sent }
}

/// What the host was asked to send to a server.
fn asked(net: &mut Net, server: &str) -> (SocketId, Vec<u8>) {
    let opened = net.host_opens(SocketKind::UdpConnect(socket(server)));
    let sent = net.host_sends();
    assert_eq!((sent.socket, sent.to, sent.from), (opened, None, None));
    (opened, sent.payload)
}

fn resolved(net: &mut Net, query: &Query, message: &[u8]) {
    let got = net.guest_gets_datagram();
    assert_eq!(got, Datagram::new(query.forwarder, query.client, message));
}

/// The client's query with its own id, as failure.
fn servfail() -> Vec<u8> {
    let mut message = question(0x1234, NAME);
    message[2..4].copy_from_slice(&[0x81, 0x82]);
    message
}

fn net() -> Net {
    let mut net = Net::by_hand();
    net.set_resolvers(&SERVERS);
    net
}

#[test]
fn an_answer_comes_back_under_the_client_s_id() {
    for v6 in [false, true] {
        let mut net = net();
        let query = ask(&mut net, v6, SERVERS[0]);
        assert_ne!(query.sent[..2], [0x12, 0x34], "an id of our own");
        // EDNS and records pass through byte for byte.
        let mut reply = answer(&query.sent, 0);
        reply.extend(b"whatever the records are");
        net.host_gets(query.socket, socket(SERVERS[0]), &reply);
        reply[..2].copy_from_slice(&[0x12, 0x34]);
        resolved(&mut net, &query, &reply);
        net.host_closes(query.socket, false);
        net.expect_counters(&[("dns_queries", 1)]);
        net.expect_no_flows();
    }
}

#[test]
fn what_answers_another_question_is_ignored() {
    let mut net = net();
    let query = ask(&mut net, false, SERVERS[0]);
    let mut other_id = answer(&query.sent, 0);
    other_id[1] ^= 1;
    let mut other_name = answer(&query.sent, 0);
    other_name[14] ^= 1;
    let no_answer = query.sent.clone();
    for forged in [&other_id[..], &other_name, &no_answer, &[], &query.sent[..11]] {
        net.host_gets(query.socket, socket(SERVERS[0]), forged);
        net.guest_gets_nothing();
    }
    net.expect_counters(&[("dns_queries", 1), ("drop.unknown-sender", 5)]);
    net.host_gets(query.socket, socket(SERVERS[0]), &answer(&query.sent, 3));
    assert_eq!(net.guest_gets_datagram().payload[3] & 15, 3, "NXDOMAIN is an answer");
}

#[test]
fn every_query_has_a_fresh_id_and_socket() {
    let mut net = net();
    let mut ids = Vec::new();
    for port in 4_000..4_050 {
        let to = socket("10.0.2.3:53");
        net.guest_sends(&Datagram::new(guest(false, port), to, &question(1, NAME)).packet());
        ids.push(net.host_sends().payload[..2].to_vec());
    }
    assert_eq!(net.host.opened.len(), 50);
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() > 45, "{} ids of 50", ids.len());
}

#[test]
fn the_next_server_is_asked_when_one_is_silent_or_refuses_or_fails() {
    type Trouble = fn(&mut Net, &Query);
    let troubles: [Trouble; 4] = [
        |net, _| net.pass(Duration::from_secs(1)),
        |net, query| net.host_fails(query.socket, std::io::ErrorKind::ConnectionRefused),
        |net, query| {
            let unsent =
                HostEvent::Unsent { to: None, error: std::io::ErrorKind::NetworkUnreachable };
            net.host_event(query.socket, unsent);
        },
        |net, query| net.host_gets(query.socket, socket(SERVERS[0]), &answer(&query.sent, 2)),
    ];
    for trouble in troubles {
        let mut net = net();
        let query = ask(&mut net, false, SERVERS[0]);
        trouble(&mut net, &query);
        net.guest_gets_nothing();
        net.host_closes(query.socket, false);
        let (second, sent) = asked(&mut net, SERVERS[1]);
        assert_ne!(sent[..2], query.sent[..2], "a fresh id");
        net.host_gets(second, socket(SERVERS[1]), &answer(&sent, 0));
        let mut reply = answer(&question(0x1234, NAME), 0);
        reply[3] = 0x80;
        resolved(&mut net, &query, &reply);
        net.host_closes(second, false);
        net.expect_counters(&[("dns_queries", 1)]);
        // The one that answered is asked first from now on.
        ask(&mut net, false, SERVERS[1]);
    }
}

#[test]
fn silence_of_all_servers_ends_with_a_failure_after_two_rounds() {
    let mut net = net();
    let query = ask(&mut net, false, SERVERS[0]);
    let started = net.now;
    let mut order = vec![SERVERS[0]];
    for (wait, server) in [(1, SERVERS[1]), (1, SERVERS[0]), (3, SERVERS[1])] {
        net.pass(Duration::from_secs(wait) - Duration::from_micros(1));
        net.host_opens_nothing();
        net.pass(Duration::from_micros(1));
        asked(&mut net, server);
        order.push(server);
    }
    net.guest_gets_nothing();
    net.pass(Duration::from_secs(3));
    resolved(&mut net, &query, &servfail());
    assert_eq!(net.now - started, Duration::from_secs(8));
    assert_eq!(net.host.closed.len(), 4);
    net.expect_counters(&[("dns_failed", 1), ("dns_queries", 1)]);
    net.expect_no_flows();
    assert_eq!(net.engine.poll_timeout(), None);
}

#[test]
fn a_failure_of_all_servers_reaches_the_client() {
    let mut net = net();
    let query = ask(&mut net, false, SERVERS[0]);
    net.host_gets(query.socket, socket(SERVERS[0]), &answer(&query.sent, 2));
    let (second, sent) = asked(&mut net, SERVERS[1]);
    net.host_gets(second, socket(SERVERS[1]), &answer(&sent, 5));
    assert_eq!(net.guest_gets_datagram().payload[3] & 15, 5, "the last server's own words");
    net.expect_no_flows();
}

#[test]
fn a_retransmission_is_asked_once() {
    let mut net = net();
    let query = ask(&mut net, false, SERVERS[0]);
    let again = Datagram::new(query.client, query.forwarder, &question(0x1234, NAME));
    assert_eq!(net.guest_sends(&again.packet()), Verdict::Dns);
    net.host_opens_nothing();
    assert!(net.host.sent.is_empty());
    net.expect_counters(&[("dns_queries", 1)]);
    net.host_gets(query.socket, socket(SERVERS[0]), &answer(&query.sent, 0));
    net.guest_gets_datagram();
    net.guest_gets_nothing();
    net.guest_sends(&again.packet());
    net.host_opens(SocketKind::UdpConnect(socket(SERVERS[0])));
}

#[test]
fn without_servers_or_room_the_answer_is_a_failure() {
    let mut net = Net::by_hand();
    let forwarder = socket("10.0.2.3:53");
    let query =
        |index: u16| Datagram::new(guest(false, 4_000), forwarder, &question(index, NAME)).packet();
    net.guest_sends(&query(1));
    assert_eq!(net.guest_gets_datagram().payload[3], 0x82, "no server");
    net.set_resolvers(&SERVERS);
    for index in 0..1_024 {
        net.guest_sends(&query(index));
    }
    assert_eq!(net.host.opened.len(), 1_024);
    net.guest_gets_nothing();
    net.guest_sends(&query(5_000));
    assert_eq!(net.guest_gets_datagram().payload[3], 0x82, "no room");
    net.expect_counters(&[("dns_failed", 2), ("dns_queries", 1_026), ("limit.dns", 1)]);
    net.pass(Duration::from_secs(8));
    assert_eq!(net.guest_gets_all().len(), 1_024);
    net.expect_no_flows();
}

#[test]
fn what_is_no_query_is_dropped_or_called_malformed() {
    let mut net = net();
    let forwarder = socket("10.0.2.3:53");
    let send = |net: &mut Net, message: &[u8]| {
        net.guest_sends(&Datagram::new(guest(false, 4_000), forwarder, message).packet());
    };
    let mut two = question(7, NAME);
    two[5] = 2;
    send(&mut net, &two);
    assert_eq!(net.guest_gets_datagram().payload, b"\0\x07\x81\x01\0\0\0\0\0\0\0\0");
    send(&mut net, &answer(&question(7, NAME), 0));
    send(&mut net, b"short");
    send(&mut net, b"");
    net.guest_gets_nothing();
    net.host_opens_nothing();
    net.expect_counters(&[("drop.malformed", 4)]);
}

#[test]
fn changed_resolvers_serve_queries_that_are_on_their_way() {
    let mut net = net();
    let query = ask(&mut net, false, SERVERS[0]);
    net.set_resolvers(&["198.51.100.53:53"]);
    net.pass(Duration::from_secs(1));
    let (second, sent) = asked(&mut net, "198.51.100.53:53");
    net.host_gets(second, socket("198.51.100.53:53"), &answer(&sent, 0));
    resolved(&mut net, &query, &{
        let mut reply = answer(&question(0x1234, NAME), 0);
        reply[3] = 0x80;
        reply
    });
    net.expect_no_flows();
}

#[test]
fn a_query_asks_every_server_in_a_round_whatever_others_learn() {
    let mut net = Net::by_hand();
    net.set_resolvers(&["192.0.2.53:53", "192.0.2.54:53"]);
    let query = |id: u8| {
        let message = [&[0, id][..], b"\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01"].concat();
        Datagram::new(guest(false, 4_000), socket("10.0.2.3:53"), &message).packet()
    };
    net.guest_sends(&query(1));
    net.pass(Duration::from_millis(500));
    net.guest_sends(&query(2));
    net.host.opened.clear();
    net.host.sent.clear();
    net.pass(Duration::from_millis(500));
    // The first query's second server answers and is preferred from now on.
    let second = net.host_opens(SocketKind::UdpConnect(socket("192.0.2.54:53")));
    let mut answer = net.host_sends().payload;
    answer[2] |= 0x80;
    net.host_gets(second, socket("192.0.2.54:53"), &answer);
    net.pass(Duration::from_millis(500));
    net.host_opens(SocketKind::UdpConnect(socket("192.0.2.54:53")));
}
