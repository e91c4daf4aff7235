//! What the DNS forwarder answers without a server: names of the network, and what was kept.

use smoltcp::time::Duration;

use super::net::{Net, Options, address, guest, socket};
use super::packets::Datagram;
use crate::config::{Host, HostAddress, Lease, Name, Resolver, Sharing};
use crate::engine::PortId;
use crate::engine::dns::{PortNames, Resolvers};
use crate::engine::host::{HostEvent, SocketId, SocketKind};

const SERVER: &str = "192.0.2.53:53";
const OTHER: &str = "192.0.2.54:53";
const WEB: &[u8] = b"\x03web\0";
const OUTSIDE: &[u8] = b"\x07example\x04test\0";
const A: u8 = 1;
const AAAA: u8 = 28;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn with(resolver: Resolver) -> Net {
    let mut net = Net::new(&Options { resolver, ..Options::default() });
    net.set_resolvers(&[SERVER]);
    net
}

/// A network without a way out.
fn internal() -> Net {
    let mut net = Net::new(&Options { internal: true, ..Options::default() });
    net.set_resolvers(&[SERVER]);
    net
}

fn question(name: &[u8], kind: u8) -> Vec<u8> {
    [b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0", name, &[0, kind, 0, 1]].concat()
}

/// An answer to `query` with one address that is true for a minute.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
    answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x09");
    answer
}

fn ask(net: &mut Net, message: &[u8]) {
    let to = socket("10.0.2.3:53");
    net.guest_sends(&Datagram::new(guest(false, 4_000), to, message).packet());
}

/// The answer that needs no server: response code, answers, the last four bytes.
fn answered_here(net: &mut Net, message: &[u8]) -> (u8, u8, [u8; 4]) {
    ask(net, message);
    net.host_opens_nothing();
    let got = net.guest_gets_datagram().payload;
    assert_eq!((&got[..2], got[2] & 0x80), (&message[..2], 0x80));
    (got[3] & 15, got[7], *got.last_chunk().unwrap())
}

/// The server that is asked, and what it gets.
fn asked(net: &mut Net, server: &str) -> (SocketId, Vec<u8>) {
    (net.host_opens(SocketKind::UdpConnect(socket(server))), net.host_sends().payload)
}

/// Asks and has the server answer.
fn learn(net: &mut Net, message: &[u8]) {
    ask(net, message);
    let (opened, sent) = asked(net, SERVER);
    net.host_gets(opened, socket(SERVER), &answer(&sent));
    net.guest_gets_datagram();
    net.host.closed.clear();
}

fn web() -> PortNames {
    PortNames {
        addresses: vec![address("10.0.2.100")],
        name: Some(name("web")),
        ..PortNames::default()
    }
}

// D4 D5 D9
#[test]
fn a_container_s_name_is_answered_where_it_has_one_and_nobody_is_asked() {
    let mut net = with(Resolver::default());
    ask(&mut net, &question(WEB, A));
    let (opened, _) = asked(&mut net, SERVER);
    net.host_fails(opened, std::io::ErrorKind::ConnectionRefused);
    net.engine.set_names(PortId(0), web(), net.now);
    net.pass(Duration::from_secs(9));
    net.guest_gets_all();
    net.host.opened.clear();
    net.host.sent.clear();
    assert_eq!(answered_here(&mut net, &question(b"\x03WEB\0", A)), (0, 1, [10, 0, 2, 100]));
    let (rcode, answers, _) = answered_here(&mut net, &question(WEB, AAAA));
    assert_eq!((rcode, answers), (0, 0), "no such record rather than no such name");
    net.engine.set_names(PortId(0), PortNames::default(), net.now);
    ask(&mut net, &question(WEB, A));
    asked(&mut net, SERVER);
}

// D10
#[test]
fn a_container_s_names_go_with_its_port() {
    let sharing = Sharing::Shared;
    let mut net = Net::new(&Options { internal: true, sharing, ..Options::default() });
    let lease = Lease::new([10, 0, 2, 101].into(), None);
    let other = net.engine.add_port(lease, true, net.now).unwrap();
    net.forget();
    net.engine.set_names(other, web(), net.now);
    assert_eq!(answered_here(&mut net, &question(WEB, A)).0, 0);
    net.engine.remove_port(other, net.now);
    assert_eq!(answered_here(&mut net, &question(WEB, A)).0, 5);
}

// D16
#[test]
fn an_internal_network_knows_its_names_and_asks_nobody() {
    let mut net = internal();
    net.engine.set_names(PortId(0), web(), net.now);
    assert_eq!(answered_here(&mut net, &question(WEB, A)), (0, 1, [10, 0, 2, 100]));
    assert_eq!(answered_here(&mut net, &question(OUTSIDE, A)).0, 5, "REFUSED at once");
    net.expect_counters(&[("dns_queries", 2), ("dns_local", 1), ("dns_refused", 1)]);
}

// D14
#[test]
fn the_host_s_name_leads_to_the_gateway() {
    let mut resolver = Resolver::default();
    let host = Host {
        name: name("printer"),
        wildcard: false,
        address: HostAddress::Is(address("192.0.2.9")),
    };
    resolver.hosts.push(host);
    resolver.add_host_names();
    let mut net = with(resolver);
    for host in [&b"\x04host\x0acontainers\x08internal\0"[..], b"\x04host\x06docker\x08internal\0"]
    {
        assert_eq!(answered_here(&mut net, &question(host, A)), (0, 1, [10, 0, 2, 2]));
        let (rcode, answers, end) = answered_here(&mut net, &question(host, AAAA));
        assert_eq!((rcode, answers, end), (0, 1, [0, 0, 0, 2]));
    }
    assert_eq!(answered_here(&mut net, &question(b"\x07printer\0", A)), (0, 1, [192, 0, 2, 9]));
}

// D17: a zone transfer is many messages, which a forwarder of queries cannot carry.
#[test]
fn a_zone_transfer_is_refused() {
    let mut net = with(Resolver::default());
    for kind in [251, 252] {
        assert_eq!(answered_here(&mut net, &question(OUTSIDE, kind)).0, 5);
    }
}

// D18
#[test]
fn an_answer_is_kept_for_its_time() {
    let mut net = with(Resolver::default());
    learn(&mut net, &question(OUTSIDE, A));
    net.expect_counters(&[("dns_queries", 1)]);
    net.pass(Duration::from_secs(59));
    let other_case = question(b"\x07eXample\x04tEst\0", A);
    ask(&mut net, &other_case);
    let got = net.guest_gets_datagram().payload;
    assert_eq!(got[12..30], other_case[12..30], "the client's own case");
    assert_eq!(got[got.len() - 10..], [0, 0, 0, 1, 0, 4, 192, 0, 2, 9], "one second left");
    net.expect_counters(&[("dns_queries", 1), ("dns_cached", 1)]);
    net.pass(Duration::from_secs(1));
    ask(&mut net, &question(OUTSIDE, A));
    asked(&mut net, SERVER);
}

// D18
#[test]
fn what_was_kept_is_given_when_the_servers_are_gone() {
    let mut net = with(Resolver::default());
    learn(&mut net, &question(OUTSIDE, A));
    net.pass(Duration::from_secs(3_600));
    // No uplink: the socket fails at once, twice.
    ask(&mut net, &question(OUTSIDE, A));
    for _ in 0..2 {
        let (opened, _) = asked(&mut net, SERVER);
        let error = std::io::ErrorKind::NetworkUnreachable;
        net.host_event(opened, HostEvent::Unsent { to: None, error });
    }
    let got = net.guest_gets_datagram().payload;
    assert_eq!(got[got.len() - 10..], [0, 0, 0, 30, 0, 4, 192, 0, 2, 9]);
    net.expect_counters(&[("dns_queries", 2), ("dns_stale_total", 1)]);
    net.expect_no_flows();
    // For a while they are not asked again, for this.
    let (rcode, answers, _) = answered_here(&mut net, &question(OUTSIDE, A));
    assert_eq!((rcode, answers), (0, 1));
    net.pass(Duration::from_secs(30));
    learn(&mut net, &question(OUTSIDE, A));
    net.expect_counters(&[("dns_queries", 2), ("dns_stale_total", 1)]);
    assert_eq!(answered_here(&mut net, &question(OUTSIDE, A)).1, 1);
    net.expect_counters(&[("dns_queries", 1), ("dns_cached", 1)]);
}

// D18: RFC 8767, section 5.
#[test]
fn a_client_waits_less_while_there_is_a_stale_answer() {
    let mut net = with(Resolver::default());
    learn(&mut net, &question(OUTSIDE, A));
    net.pass(Duration::from_secs(60));
    ask(&mut net, &question(OUTSIDE, A));
    asked(&mut net, SERVER);
    net.pass(Duration::from_millis(1_799));
    net.guest_gets_nothing();
    net.pass(Duration::from_millis(1));
    assert_eq!(net.guest_gets_datagram().payload[7], 1);
    // The second round goes on: its answer is for the next client.
    let (second, sent) = asked(&mut net, SERVER);
    net.host_gets(second, socket(SERVER), &answer(&sent));
    net.guest_gets_nothing();
    net.expect_no_flows();
    assert_eq!(answered_here(&mut net, &question(OUTSIDE, A)).1, 1);
    net.expect_counters(&[("dns_queries", 3), ("dns_cached", 1), ("dns_stale_total", 1)]);
}

#[test]
fn a_failure_of_the_servers_is_no_answer_while_there_is_a_stale_one() {
    let mut net = with(Resolver::default());
    learn(&mut net, &question(OUTSIDE, A));
    net.pass(Duration::from_secs(60));
    ask(&mut net, &question(OUTSIDE, A));
    let (opened, mut sent) = asked(&mut net, SERVER);
    sent[2..4].copy_from_slice(&[0x81, 0x82]);
    net.host_gets(opened, socket(SERVER), &sent);
    assert_eq!(net.guest_gets_datagram().payload[7], 1);
    net.expect_no_flows();
}

// D3
#[test]
fn other_servers_are_asked_anew() {
    let mut net = with(Resolver::default());
    learn(&mut net, &question(OUTSIDE, A));
    net.set_resolvers(&[SERVER]);
    assert_eq!(answered_here(&mut net, &question(OUTSIDE, A)).1, 1, "the same servers as before");
    net.set_resolvers(&[OTHER]);
    ask(&mut net, &question(OUTSIDE, A));
    asked(&mut net, OTHER);
}

#[test]
fn without_memory_every_question_is_asked() {
    let mut net = with(Resolver { cache_bytes: 0, ..Resolver::default() });
    learn(&mut net, &question(OUTSIDE, A));
    learn(&mut net, &question(OUTSIDE, A));
}

// D19
#[test]
fn a_domain_has_servers_of_its_own() {
    let mut net = with(Resolver::default());
    let servers = Resolvers::new(vec![socket(OTHER), socket("192.0.2.55:53")]);
    net.engine.set_dns_route(name("corp.test"), servers, net.now);
    ask(&mut net, &question(b"\x03www\x04CORP\x04test\0", A));
    let (first, _) = asked(&mut net, OTHER);
    net.host_fails(first, std::io::ErrorKind::ConnectionRefused);
    let (second, sent) = asked(&mut net, "192.0.2.55:53");
    net.host_gets(second, socket("192.0.2.55:53"), &answer(&sent));
    assert_eq!(net.guest_gets_datagram().payload[7], 1);
    // Its own preference, and no other domain's.
    ask(&mut net, &question(b"\x04corp\x04test\0", A));
    asked(&mut net, "192.0.2.55:53");
    let mut other = question(b"\x07notcorp\x04test\0", A);
    other[0] = 0x13;
    ask(&mut net, &other);
    asked(&mut net, SERVER);
}

// D17: another name server on the network answers nobody who asks the forwarder. Row C25.
#[test]
fn a_published_name_server_is_not_the_forwarder() {
    let mut net = with(Resolver::default());
    net.engine.set_names(PortId(0), web(), net.now);
    let listener = net.publish(crate::config::Protocol::Udp, 53);
    assert_eq!(answered_here(&mut net, &question(WEB, A)).0, 0);
    let client = socket("192.0.2.9:4000");
    net.host_gets(listener, client, &question(WEB, A));
    let got = net.guest_gets_datagram();
    assert_eq!((got.from, got.to), (client, guest(false, 53)));
    assert_eq!(answered_here(&mut net, &question(WEB, A)).0, 0);
}
