//! What a container may reach outside: the last rule decides, names by where they were found.

use smoltcp::time::Duration;

use super::net::{Net, Options, address, guest, server, socket};
use super::packets::{Datagram, Segment, icmp};
use crate::config::{Egress, HostAccess};
use crate::engine::host::SocketKind;
use crate::engine::stats::Verdict;
use crate::engine::{Attempt, PortId};

const GUEST: PortId = PortId(0);
const RESOLVER: &str = "192.0.2.53:53";

fn rules(texts: &[&str]) -> Egress {
    Egress::try_from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn net_with(options: &Options, texts: &[&str]) -> Net {
    let mut net = Net::new(options);
    net.set_resolvers(&[RESOLVER]);
    net.engine.set_egress(GUEST, rules(texts), net.now);
    net
}

fn net(texts: &[&str]) -> Net {
    net_with(&Options::default(), texts)
}

fn sends_syn(net: &mut Net, to: &str) -> Verdict {
    let to = socket(to);
    net.guest_sends(&Segment::syn(guest(to.is_ipv6(), 4_000), to, 1400).packet())
}

fn sends_datagram(net: &mut Net, to: &str) -> Verdict {
    let to = socket(to);
    net.guest_sends(&Datagram::new(guest(to.is_ipv6(), 4_000), to, b"x").packet())
}

fn pings(net: &mut Net, to: &str) -> Verdict {
    let to = address(to);
    let kind = if to.is_ipv6() { 128 } else { 8 };
    net.guest_sends(&icmp(guest(to.is_ipv6(), 0).ip(), to, kind, 0, &[0, 7, 0, 1]))
}

/// The guest is told that a filter keeps it.
fn is_prohibited(net: &mut Net) -> bool {
    matches!(net.guest_gets_icmp().payload[..2], [3, 13] | [1, 1])
}

fn denied(net: &Net) -> Vec<(String, u64)> {
    net.engine.denied(GUEST).map(|denial| (denial.attempt.to_string(), denial.times)).collect()
}

// F3
#[test]
fn what_a_rule_denies_is_told_counted_and_remembered() {
    let listed = ["deny any", "allow tcp:192.0.2.9:8080", "allow icmp:2001:db8::/32"];
    let mut net = net(&listed);
    assert_eq!(sends_syn(&mut net, "192.0.2.9:8080"), Verdict::Flow);
    net.host_opens(SocketKind::TcpConnect(socket("192.0.2.9:8080")));
    assert_eq!(pings(&mut net, "2001:db8::9"), Verdict::Flow);
    net.host_opens(SocketKind::Ping { v6: true });
    for _ in 0..2 {
        assert_eq!(sends_syn(&mut net, "192.0.2.9:7"), Verdict::Refused);
        assert!(is_prohibited(&mut net));
    }
    assert_eq!(sends_datagram(&mut net, "[2001:db8::9]:7"), Verdict::Refused);
    assert!(is_prohibited(&mut net));
    assert_eq!(pings(&mut net, "192.0.2.9"), Verdict::Refused);
    assert!(is_prohibited(&mut net));
    net.host_opens_nothing();
    assert_eq!(net.engine.egress_hits(GUEST), [4, 1, 1]);
    let expected = [("tcp 192.0.2.9:7", 2), ("udp [2001:db8::9]:7", 1), ("icmp 192.0.2.9", 1)];
    assert_eq!(denied(&net), expected.map(|(text, times)| (text.to_owned(), times)));
}

#[test]
fn containers_without_rules_and_what_the_gateway_stands_for_are_not_asked() {
    let options = Options { host_access: HostAccess::All, ..Options::default() };
    let mut net = net_with(&options, &["deny any"]);
    sends_syn(&mut net, "10.0.2.2:22");
    net.host_opens(SocketKind::TcpConnect(socket("127.0.0.1:22")));
    assert_eq!(sends_syn(&mut net, "192.0.2.9:22"), Verdict::Refused);
    net.engine.set_egress(GUEST, Egress::default(), net.now);
    assert_eq!(sends_syn(&mut net, "192.0.2.9:22"), Verdict::Flow);
}

#[test]
fn an_address_within_another_is_no_way_around() {
    let mut net = net(&["deny 192.0.2.0/24"]);
    assert_eq!(sends_datagram(&mut net, "[64:ff9b::c000:209]:7"), Verdict::Refused);
    assert_eq!(pings(&mut net, "64:ff9b::c000:209"), Verdict::Refused);
    assert_eq!(sends_syn(&mut net, "[64:ff9b::c000:209]:7"), Verdict::Refused);
    assert_eq!(sends_syn(&mut net, "[64:ff9b::c633:6409]:7"), Verdict::Flow);
}

// Whoever answers a broadcast may be written to, as far as rules go.
#[test]
fn an_answer_to_a_broadcast_opens_nothing_that_is_denied() {
    let options = Options { allow_broadcast: true, ..Options::default() };
    let mut net = net_with(&options, &["deny any", "allow 255.255.255.255", "allow 192.0.2.9"]);
    sends_datagram(&mut net, "255.255.255.255:7");
    let host = net.host_opens(SocketKind::UdpBroadcast);
    net.host_gets(host, socket("192.0.2.9:7"), b"here");
    assert_eq!(net.guest_gets_datagram().from, socket("192.0.2.9:7"));
    net.host_gets(host, socket("192.0.2.8:7"), b"here");
    net.guest_gets_nothing();
}

// F7
#[test]
fn what_is_denied_later_is_ended_and_answers_to_clients_are_not() {
    let mut net = Net::with_guest(&Options::default());
    let listener = net.publish(crate::config::Protocol::Udp, 53);
    let client = socket("198.51.100.7:5353");
    net.host_gets(listener, client, b"question");
    let handle = net.guest().connect(guest(false, 4_000), server(false, 80), 1 << 16);
    net.settle();
    let stream = net.host_opens(SocketKind::TcpConnect(server(false, 80)));
    assert!(net.guest().socket(handle).may_send());
    net.engine.set_egress(GUEST, rules(&["deny 198.51.100.0/24"]), net.now);
    net.settle();
    assert!(net.guest().socket(handle).may_send());
    net.engine.set_egress(GUEST, rules(&["deny any"]), net.now);
    net.settle();
    assert!(!net.guest().socket(handle).is_open());
    net.host_closes(stream, true);
    // Only the client's conversation is left.
    assert_eq!(net.engine.count_flows(), 1);
}

#[test]
fn what_is_being_opened_or_asked_is_ended_too() {
    let mut net = net(&[]);
    sends_syn(&mut net, "192.0.2.9:80");
    let opening = net.host_opens(SocketKind::TcpConnect(socket("192.0.2.9:80")));
    sends_datagram(&mut net, "192.0.2.9:7");
    let asking = net.host_opens(SocketKind::Udp { v6: false });
    pings(&mut net, "192.0.2.9");
    let pinging = net.host_opens(SocketKind::Ping { v6: false });
    net.host.sent.clear();
    net.engine.set_egress(GUEST, rules(&["deny private"]), net.now);
    assert_eq!(net.engine.count_flows(), 3);
    net.engine.set_egress(GUEST, rules(&["deny 192.0.2.9"]), net.now);
    net.settle();
    assert!(is_prohibited(&mut net));
    assert_eq!(net.host.closed, [(opening, true), (asking, false), (pinging, false)]);
    net.expect_no_flows();
    assert_eq!(sends_datagram(&mut net, "192.0.2.9:7"), Verdict::Refused);
}

/// A question for a name's address under id 7, by UDP.
fn asks(net: &mut Net, name: &str) -> Verdict {
    let labels = name.parse::<crate::config::Name>().unwrap();
    let question = [b"\0\x07\x01\0\0\x01\0\0\0\0\0\0", labels.labels(), b"\0\x01\0\x01"].concat();
    net.guest_sends(&Datagram::new(guest(false, 5_000), socket("10.0.2.3:53"), &question).packet())
}

/// The server answers what it was asked just now: an alias, and under that these addresses.
fn is_answered(net: &mut Net, addresses: &[[u8; 4]], ttl: u32) {
    let asked = net.host_opens(SocketKind::UdpConnect(socket(RESOLVER)));
    let mut answer = net.host_sends().payload;
    answer[2..8].copy_from_slice(&[
        0x81,
        0x80,
        0,
        1,
        0,
        u8::try_from(addresses.len() + 1).unwrap(),
    ]);
    answer.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x05\0\x06\x03cdn\xc0\x0c");
    let alias = [0xc0, u8::try_from(answer.len() - 6).unwrap()];
    for address in addresses {
        answer.extend(alias);
        answer.extend([0, 1, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address);
    }
    net.host_gets(asked, socket(RESOLVER), &answer);
    assert_eq!(net.guest_gets_datagram().payload[3] & 15, 0);
}

// F4
#[test]
fn a_name_is_reached_where_it_was_found_and_nothing_else_is() {
    let mut net = net(&["deny any", "allow a.test:8080", "allow *.b.test"]);
    assert_eq!(sends_syn(&mut net, "192.0.2.9:8080"), Verdict::Refused);
    assert!(is_prohibited(&mut net));
    asks(&mut net, "a.test");
    is_answered(&mut net, &[[192, 0, 2, 9], [192, 0, 2, 10]], 30);
    for (to, verdict) in [
        ("192.0.2.9:8080", Verdict::Flow),
        ("192.0.2.10:8080", Verdict::Flow),
        ("192.0.2.9:80", Verdict::Refused),
        ("192.0.2.11:8080", Verdict::Refused),
    ] {
        assert_eq!(sends_syn(&mut net, to), verdict, "{to}");
    }
    net.forget();
    // What no rule names is not asked for.
    for name in ["c.test", "b.test", "a.test.evil"] {
        asks(&mut net, name);
        assert_eq!(net.guest_gets_datagram().payload[3] & 15, 5, "{name}");
        net.host_opens_nothing();
    }
    asks(&mut net, "x.b.test");
    is_answered(&mut net, &[[198, 51, 100, 1]], 30);
    assert_eq!(sends_datagram(&mut net, "198.51.100.1:53"), Verdict::Flow);
    let lookup = net.engine.denied(GUEST).map(|denial| &denial.attempt);
    let lookups = lookup.filter(|attempt| matches!(attempt, Attempt::Lookup { .. }));
    assert_eq!(lookups.map(ToString::to_string).collect::<Vec<_>>()[2], "dns a.test.evil");
}

#[test]
fn where_a_name_was_found_counts_for_its_time_and_what_stands_stays() {
    let mut net = net(&["deny any", "allow a.test"]);
    asks(&mut net, "A.test");
    is_answered(&mut net, &[[192, 0, 2, 9]], 30);
    net.pass(Duration::from_secs(89));
    assert_eq!(sends_syn(&mut net, "192.0.2.9:80"), Verdict::Flow);
    let stream = net.host_opens(SocketKind::TcpConnect(socket("192.0.2.9:80")));
    net.host_connected(stream);
    net.pass(Duration::from_secs(2));
    assert_eq!(sends_syn(&mut net, "192.0.2.9:81"), Verdict::Refused);
    net.forget();
    net.engine.set_egress(GUEST, rules(&["deny any", "allow a.test", "deny tcp:25"]), net.now);
    net.settle();
    net.host_closes_nothing();
    net.engine.set_egress(GUEST, rules(&["deny any"]), net.now);
    net.settle();
    net.host_closes(stream, true);
}

#[test]
fn a_container_cannot_have_denials_remembered_without_end() {
    let mut net = net(&["deny any"]);
    for port in 1..=200 {
        sends_syn(&mut net, &format!("192.0.2.9:{port}"));
    }
    net.forget();
    let denied = denied(&net);
    assert_eq!((denied.len(), denied[63].0.as_str()), (64, "tcp 192.0.2.9:200"));
}

/// The guest asks for this, and no server hears of it.
fn is_not_asked(net: &mut Net, message: &[u8]) {
    net.guest_sends(&Datagram::new(guest(false, 5_000), socket("10.0.2.3:53"), message).packet());
    assert_eq!(net.guest_gets_datagram().payload[3] & 15, 5);
    net.host_opens_nothing();
}

const QUESTION: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
const RECORD: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\xc0\0\x02\x09";

// A name that is allowed is no cover for whatever else fits into a message.
#[test]
fn what_is_no_plain_question_is_not_asked_by_an_allowed_name() {
    let mut net = net(&["deny any", "allow a.test"]);
    let with = |at: usize, byte: u8, rest: &[u8]| {
        let mut message = [QUESTION, rest].concat();
        message[at] = byte;
        message
    };
    // An answer of its own, an update, another class, bytes behind the message, options of EDNS and
    // a name where it has none.
    is_not_asked(&mut net, &with(7, 1, RECORD));
    is_not_asked(&mut net, &with(2, 5 << 3, b""));
    is_not_asked(&mut net, &with(QUESTION.len() - 1, 3, b""));
    is_not_asked(&mut net, &with(2, 1, b"secret"));
    let option = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0a\xfd\xe9\0\x06secret";
    is_not_asked(&mut net, &with(11, 1, option));
    is_not_asked(&mut net, &with(11, 1, b"\x06secret\0\0\x29\x04\xd0\0\0\0\0\0\0"));
    assert_eq!(denied(&net), [("dns a.test, which is no plain question".to_owned(), 6)]);
    asks(&mut net, "a.test");
    is_answered(&mut net, &[[192, 0, 2, 9]], 30);
    assert_eq!(sends_syn(&mut net, "192.0.2.9:80"), Verdict::Flow);
}

// Some servers hand a query that they do not like back as it was.
#[test]
fn only_answers_to_plain_questions_say_where_a_name_is() {
    let mut net = net(&["deny any", "allow dns", "allow a.test"]);
    let mut own = [QUESTION, RECORD].concat();
    own[7] = 1;
    for (question, rcode) in [(&own[..], 0), (&own, 5), (QUESTION, 2), (QUESTION, 5)] {
        let sent = Datagram::new(guest(false, 5_000), socket("10.0.2.3:53"), question);
        net.guest_sends(&sent.packet());
        let asked = net.host_opens(SocketKind::UdpConnect(socket(RESOLVER)));
        let mut answer = net.host_sends().payload;
        answer.truncate(QUESTION.len());
        answer[2..8].copy_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, 1]);
        answer.extend(RECORD);
        net.host_gets(asked, socket(RESOLVER), &answer);
        net.guest_gets_datagram();
        assert_eq!(sends_syn(&mut net, "192.0.2.9:80"), Verdict::Refused, "{rcode}");
        net.forget();
    }
}

// F7
#[test]
fn a_name_that_is_denied_later_is_left_where_it_was_found() {
    let mut net = net(&[]);
    asks(&mut net, "a.test");
    is_answered(&mut net, &[[192, 0, 2, 9]], 30);
    sends_syn(&mut net, "192.0.2.9:80");
    let opening = net.host_opens(SocketKind::TcpConnect(socket("192.0.2.9:80")));
    net.host.closed.clear();
    net.engine.set_egress(GUEST, rules(&["deny *.test"]), net.now);
    net.settle();
    net.host_closes(opening, true);
    net.forget();
    // For as long as it is not known where else it is: it is not looked up any more.
    net.pass(Duration::from_secs(86_400));
    assert_eq!(sends_syn(&mut net, "192.0.2.9:80"), Verdict::Refused);
    assert_eq!(sends_syn(&mut net, "192.0.2.8:80"), Verdict::Flow);
    // What another container has looked up before opens nothing.
    net.engine.set_egress(GUEST, rules(&["deny any", "deny *.test", "allow a.test"]), net.now);
    assert_eq!(sends_syn(&mut net, "192.0.2.9:80"), Verdict::Refused);
}
