//! What is remembered of the questions that containers ask. Row D21.

use std::net::SocketAddr;

use smoltcp::time::Duration;

use super::net::{Net, Options, address, guest, socket};
use super::packets::Datagram;
use crate::config::{Egress, Lease, Limits, Sharing};
use crate::engine::PortId;
use crate::engine::dns::PortNames;
use crate::engine::host::{SocketId, SocketKind};

const SERVER: &str = "192.0.2.53:53";
const A: PortId = PortId(0);
const B: PortId = PortId(1);

fn question(name: &[u8], kind: u8) -> Vec<u8> {
    [b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0", name, &[0, kind, 0, 1]].concat()
}

/// An answer to `query` with two addresses, in an alias's name.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 3]);
    answer.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x0c");
    for last in [9, 10] {
        answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02");
        answer.push(last);
    }
    answer
}

fn ask(net: &mut Net, message: &[u8]) {
    let to = socket("10.0.2.3:53");
    net.guest_sends(&Datagram::new(guest(false, 4_000), to, message).packet());
}

/// A line for each.
fn log(net: &Net) -> Vec<String> {
    let line = |lookup: &crate::engine::Lookup| {
        let address = lookup.address.map(|address| format!(" {address}")).unwrap_or_default();
        format!(
            "{} {} {} {} {}{address} {} {}ms",
            lookup.serial,
            lookup.kind(),
            lookup.name,
            lookup.result(),
            lookup.answers,
            lookup.source,
            lookup.took.total_millis()
        )
    };
    net.engine.lookups(0).map(line).collect()
}

fn with_server(options: &Options) -> Net {
    let mut net = Net::new(options);
    net.set_resolvers(&[SERVER]);
    net
}

#[test]
fn it_says_who_has_answered_what() {
    let mut net = with_server(&Options::default());
    let rule = Egress::try_from(vec!["deny b.test".to_owned()]).unwrap();
    net.engine.set_egress(A, rule, net.now);
    let names = PortNames {
        addresses: vec![address("10.0.2.100")],
        name: "web".parse().ok(),
        ..PortNames::default()
    };
    net.engine.set_names(A, names, net.now);
    ask(&mut net, &question(b"\x03WEB\0", 1));
    ask(&mut net, &question(b"\x01b\x04test\0", 28));
    ask(&mut net, &question(b"\x01a\x04test\0", 252));
    for _ in 0..2 {
        ask(&mut net, &question(b"\x01a\x04test\0", 1));
        if let Some((opened, _)) = net.host.opened.pop_front() {
            net.now += Duration::from_millis(7);
            let sent = net.host_sends().payload;
            net.host_gets(opened, socket(SERVER), &answer(&sent));
        }
    }
    // Once its time is over, and nobody answers.
    net.pass(Duration::from_secs(61));
    ask(&mut net, &question(b"\x01a\x04test\0", 1));
    net.pass(Duration::from_secs(4));
    ask(&mut net, &question(b"\x01c\x04test\0", 65));
    net.pass(Duration::from_secs(4));
    assert_eq!(
        log(&net),
        [
            "1 A web NOERROR 1 10.0.2.100 names 0ms",
            "2 AAAA b.test REFUSED 0 rule 0ms",
            "3 AXFR a.test REFUSED 0 forwarder 0ms",
            "4 A a.test NOERROR 3 192.0.2.9 192.0.2.53 7ms",
            "5 A a.test NOERROR 3 192.0.2.9 cache 0ms",
            "6 A a.test NOERROR 3 192.0.2.9 stale 1800ms",
            "7 HTTPS c.test SERVFAIL 0 nobody 4000ms",
        ]
    );
    assert_eq!(net.engine.lookups(5).count(), 2);
    assert_eq!(net.engine.lookups(7).count(), 0);
}

#[test]
fn a_retransmission_is_one_question_and_the_wire_cannot_write_on_a_terminal() {
    let mut net = with_server(&Options::default());
    let odd = question(b"\x05\x1b[2J\n\x03a.b\0", 99);
    ask(&mut net, &odd);
    ask(&mut net, &odd);
    let opened = net.host_opens(SocketKind::UdpConnect(socket(SERVER)));
    let mut refused = net.host_sends().payload;
    refused[2] |= 0x80;
    refused[3] = 9;
    net.host_gets(opened, socket(SERVER), &refused);
    // What says nothing is answered and not remembered.
    ask(&mut net, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x40");
    assert_eq!(log(&net), ["1 TYPE99 \\x1b[2j\\n.a\\.b RCODE9 0 192.0.2.53 0ms"]);
}

fn two(most: &str) -> Net {
    let mut limits = Limits::default();
    limits.set("dns-log", most).unwrap();
    let sharing = Sharing::Shared;
    let mut net = Net::new(&Options { internal: true, sharing, limits, ..Options::default() });
    let lease = Lease::new([10, 0, 2, 101].into(), None);
    assert_eq!(net.engine.add_port(lease, true, net.now), Ok(B));
    net
}

/// Where each container asks, inside itself.
fn listeners(net: &mut Net) -> [SocketId; 2] {
    [A, B].map(|port| {
        let listener = net.engine.listen_dns(port);
        net.host.datagrams.insert(listener, SocketKind::Udp { v6: false });
        listener
    })
}

fn asks(net: &mut Net, at: SocketId, number: u16) {
    let from = SocketAddr::from(([127, 0, 0, 1], number));
    net.host_gets(at, from, &question(b"\x01x\0", 1));
}

#[test]
fn who_asks_much_pushes_out_its_own() {
    let mut net = two("4");
    let kept = |net: &Net| {
        net.engine.lookups(0).map(|lookup| (lookup.port, lookup.serial)).collect::<Vec<_>>()
    };
    let [a, b] = listeners(&mut net);
    asks(&mut net, b, 1);
    (1..100).for_each(|number| asks(&mut net, a, number));
    assert_eq!(kept(&net), [(B, 1), (A, 97), (A, 98), (A, 99)]);
    net.expect_counters(&[("dns_queries", 100), ("dns_refused", 100), ("limit.dns-log", 96)]);
    // With its container it is gone, and the next one at that port begins anew.
    net.engine.remove_port(A, net.now);
    assert_eq!(kept(&net), [(B, 1)]);
    asks(&mut net, b, 2);
    assert_eq!(kept(&net), [(B, 1), (B, 2)]);
}

#[test]
fn a_network_that_is_to_remember_nothing_does_so() {
    let mut net = two("0");
    let [a, _] = listeners(&mut net);
    asks(&mut net, a, 1);
    assert_eq!(net.engine.lookups(0).count(), 0);
}
