//! Multicast between a container and the host's networks. Rows I3 I4.

use smoltcp::time::Duration;

use super::net::{Net, Options, Sent, address, guest, socket};
use super::packets::{Datagram, frame_of, read_ip};
use crate::config::{Discovery, Egress, Protocol};
use crate::engine::HostLink;
use crate::engine::host::{SocketId, SocketKind};
use crate::engine::stats::{DropReason, Verdict};

const GROUP4: &str = "224.0.0.251:5353";
const GROUP6: &str = "[ff02::fb]:5353";
const SSDP: &str = "239.255.255.250:1900";
const LINK_LOCAL: &str = "fe80::72:aff:fe00:264";

fn link(index: u32, addresses: &[&str]) -> HostLink {
    HostLink { index, addresses: addresses.iter().map(|text| address(text)).collect() }
}

fn options(mdns: bool, relays: &[&str]) -> Options {
    let relays = relays.iter().map(|group| socket(group)).collect();
    let discovery = Discovery { mdns, relays, ..Discovery::default() };
    Options { discovery, ..Options::default() }
}

/// A network with mDNS on one interface, with its sockets of both families.
fn mdns() -> (Net, SocketId, SocketId) {
    let mut net = Net::new(&options(true, &[]));
    net.engine.set_links(vec![link(3, &["192.0.2.1", "2001:db8:5::1", "fe80::1"])]);
    net.settle();
    let opened: Vec<_> = net.host.opened.drain(..).collect();
    let kind = |group: &str| SocketKind::Group { group: socket(group), index: 3 };
    let [(v4, v4_kind), (v6, v6_kind)] = opened[..] else { panic!("{opened:?}") };
    assert_eq!((v4_kind, v6_kind), (kind(GROUP4), kind(GROUP6)));
    (net, v4, v6)
}

/// `_x._tcp.local`, asked for by PTR, with flags and a class.
fn question(id: u8, class: u8) -> Vec<u8> {
    let head = [0, id, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&head[..], b"\x02_x\x04_tcp\x05local\0", &[0, 12, class, 1]].concat()
}

/// A container's announcement of its own address.
fn announcement(ip: [u8; 4]) -> Vec<u8> {
    let head = [0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let fixed = [0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4];
    [&head[..], b"\x01c\x05local\0", &fixed, &ip].concat()
}

const GUEST4: [u8; 4] = [10, 0, 2, 100];
const HOST4: [u8; 4] = [192, 0, 2, 1];

fn says(net: &mut Net, from: &str, to: &str, message: &[u8]) -> Verdict {
    net.guest_sends(&Datagram::new(socket(from), socket(to), message).packet())
}

fn sent_to(sent: &Sent) -> String {
    sent.to.unwrap().to_string()
}

#[test]
fn what_a_container_says_by_mdns_goes_out_once_on_each_interface_and_is_true_there() {
    let (mut net, v4, _) = mdns();
    let said = announcement(GUEST4);
    assert_eq!(says(&mut net, "10.0.2.100:5353", GROUP4, &said), Verdict::Flow);
    let sent = net.host_sends();
    assert_eq!((sent.socket, sent_to(&sent).as_str()), (v4, GROUP4));
    assert_eq!(sent.fields.hop_limit, Some(255));
    assert_eq!(sent.payload, announcement(HOST4));
    // A second interface, where the host has another address.
    net.engine.set_links(vec![link(3, &["192.0.2.1"]), link(4, &["198.51.100.1"])]);
    net.settle();
    net.host.opened.clear();
    says(&mut net, "10.0.2.100:5353", GROUP4, &said);
    let sent: Vec<_> = net.host.sent.drain(..).map(|sent| sent.payload).collect();
    assert_eq!(sent, [announcement(HOST4), announcement([198, 51, 100, 1])]);
    // Nothing of use.
    let verdict = says(&mut net, "10.0.2.100:5353", GROUP4, &announcement([172, 17, 0, 1]));
    assert_eq!(verdict, Verdict::Dropped(DropReason::Discovery));
    assert_eq!(net.host.sent.len(), 0);
    net.guest_gets_nothing();
}

#[test]
fn a_service_is_told_where_its_port_is_published() {
    let (mut net, ..) = mdns();
    let srv = |port: u16| {
        let head = [0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        let owner = b"\x01s\x02_x\x04_tcp\x05local\0";
        let fixed = [0, 33, 0x80, 1, 0, 0, 0, 120, 0, 15, 0, 0, 0, 0];
        [&head[..], owner, &fixed, &port.to_be_bytes(), b"\x01c\x05local\0"].concat()
    };
    let says = |net: &mut Net| says(net, "10.0.2.100:5353", GROUP4, &srv(80));
    assert_eq!(says(&mut net), Verdict::Dropped(DropReason::Discovery));
    for (at, told) in [
        ("127.0.0.1:8080", false),
        ("198.51.100.1:8080", false),
        ("192.0.2.1:8081", true),
        ("0.0.0.0:8082", true),
        ("[2001:db8:5::1]:8083", true),
    ] {
        let udp = net.publish(Protocol::Udp, 80);
        net.engine.set_address(udp, socket("0.0.0.0:1"));
        let published = net.publish(Protocol::Tcp, 80);
        net.engine.set_address(published, socket(at));
        assert_eq!(says(&mut net) == Verdict::Flow, told, "{at}");
        let sent = net.host.sent.pop_front().map(|sent| sent.payload);
        assert_eq!(sent, told.then(|| srv(socket(at).port())), "{at}");
        for socket in [published, udp] {
            net.host.datagrams.insert(socket, SocketKind::Udp { v6: false });
        }
        net.engine.unpublish(published);
        net.engine.unpublish(udp);
        net.forget();
    }
}

#[test]
fn what_the_network_says_comes_from_the_gateway_with_the_hop_limit_of_the_link() {
    let (mut net, v4, v6) = mdns();
    let answer = announcement([192, 0, 2, 9]);
    for (ear, from, group, gateway) in [
        (v4, "192.0.2.9:5353", GROUP4, "10.0.2.2:5353"),
        (v6, "[fe80::9]:5353", GROUP6, "[fe80::72:6eff:fe73:6e02]:5353"),
    ] {
        net.host_gets(ear, socket(from), &answer);
        let packet = read_ip(&net.guest_gets());
        assert_eq!(packet.hop_limit, 255);
        let heard = Datagram::of(&packet);
        assert_eq!((heard.to, heard.payload), (socket(group), answer.clone()));
        if group == GROUP4 {
            assert_eq!(heard.from, socket(gateway));
        } else {
            assert!(heard.from.to_string().starts_with("[fe80::"), "{}", heard.from);
        }
        // Nothing of it goes back.
        assert_eq!(net.host.sent.len(), 0);
    }
    // What comes from the host itself, from another port, or is nonsense.
    for (from, payload) in [
        ("192.0.2.1:5353", &answer),
        ("192.0.2.9:1024", &answer),
        ("192.0.2.9:5353", &vec![0; 11]),
        ("192.0.2.9:5353", &vec![0; 9001]),
    ] {
        net.host_gets(v4, socket(from), payload);
        net.guest_gets_nothing();
    }
    assert_eq!(net.host.sent.len(), 0);
    // One that is longer than the link takes is cut, and as far from its end.
    net.host_gets(v4, socket("192.0.2.9:5353"), &[&answer[..], &[0; 3000]].concat());
    let packets = net.guest_gets_all();
    assert_eq!(packets.len(), 3);
    assert!(packets.iter().all(|packet| read_ip(packet).hop_limit == 255));
}

#[test]
fn who_asks_the_container_but_once_gets_the_answer() {
    let (mut net, v4, _) = mdns();
    net.host_gets(v4, socket("192.0.2.9:40000"), &question(7, 0));
    let asked = net.guest_gets_datagram();
    assert_eq!((asked.from.ip(), asked.payload), (address("10.0.2.2"), question(7, 0)));
    assert_ne!(asked.from.port(), 5353);
    let answer = announcement(GUEST4);
    let asker = asked.from.to_string();
    assert_eq!(says(&mut net, "10.0.2.100:5353", &asker, &answer), Verdict::Flow);
    let sent = net.host_sends();
    assert_eq!((sent.socket, sent_to(&sent).as_str()), (v4, "192.0.2.9:40000"));
    assert_eq!(sent.payload, announcement(HOST4));
    // Nobody else may answer there, and nobody later.
    says(&mut net, "10.0.2.100:5354", &asker, &answer);
    net.pass(Duration::from_secs(10));
    says(&mut net, "10.0.2.100:5353", &asker, &answer);
    assert_eq!(net.host.sent.len(), 0);
    net.forget();
    // What is to go to who asked alone goes to everybody: that is who asked.
    assert_eq!(says(&mut net, "10.0.2.100:5353", "10.0.2.2:5353", &answer), Verdict::Flow);
    assert_eq!(sent_to(&net.host_sends()), GROUP4);
}

#[test]
fn a_container_that_asks_but_once_gets_the_answers_of_everybody() {
    let (mut net, ..) = mdns();
    assert_eq!(says(&mut net, "10.0.2.100:40000", GROUP4, &question(7, 0)), Verdict::Flow);
    let host = net.host_opens(SocketKind::Udp { v6: false });
    let sent = net.host_sends();
    assert_eq!((sent_to(&sent).as_str(), sent.from), (GROUP4, Some(address("192.0.2.1"))));
    assert_eq!(sent.payload, question(7, 0));
    for from in ["192.0.2.9:5353", "192.0.2.10:5353"] {
        net.host_gets(host, socket(from), b"answer");
        assert_eq!(net.guest_gets_datagram().from, socket(from));
    }
    // It tells nothing that way.
    let verdict = says(&mut net, "10.0.2.100:40000", GROUP4, &announcement(GUEST4));
    assert_eq!(verdict, Verdict::Dropped(DropReason::Discovery));
    // Over IPv6 it asks from its link-local address, and so do the others.
    let from = format!("[{LINK_LOCAL}]:40000");
    assert_eq!(says(&mut net, &from, GROUP6, &question(7, 0)), Verdict::Flow);
    let host = net.host_opens(SocketKind::Udp { v6: true });
    assert_eq!(sent_to(&net.host_sends()), "[ff02::fb%3]:5353");
    for from in ["[fe80::9%3]:5353", "[fe80::a%3]:5353"] {
        net.host_gets(host, socket(from), b"answer");
        assert_eq!(net.guest_gets_datagram().from.ip(), socket(from).ip());
    }
}

#[test]
fn a_container_says_no_more_than_a_network_bears() {
    let (mut net, ..) = mdns();
    for _ in 0..1000 {
        says(&mut net, "10.0.2.100:5353", GROUP4, &question(0, 0));
    }
    assert_eq!(net.host.sent.len(), 100);
    net.expect_counters(&[("drop.discovery", 900)]);
    net.pass(Duration::from_millis(500));
    for _ in 0..1000 {
        says(&mut net, "10.0.2.100:5353", GROUP4, &question(0, 0));
    }
    assert_eq!(net.host.sent.len(), 150);
}

#[test]
fn a_batch_is_as_many_as_it_holds() {
    let mut net = Net::new(&Options { uso: true, ..options(true, &[SSDP]) });
    net.engine.set_links(vec![link(3, &["192.0.2.1"])]);
    let says = |net: &mut Net, from: &str, to: &str, messages: &[Vec<u8>]| {
        let size = u16::try_from(messages[0].len()).unwrap().to_le_bytes();
        let datagram = Datagram::new(socket(from), socket(to), &messages.concat());
        let frame = frame_of(&datagram.packet());
        net.guest_sends_raw(&[&[1, 5, 0, 0, size[0], size[1], 34, 0, 6, 0], &frame[..]].concat())
    };
    let mut response = question(7, 0);
    response[2] = 0x84;
    // A response behind a question is one from a port that is not mDNS's.
    let verdict = says(&mut net, "10.0.2.100:40000", GROUP4, &[question(7, 0), response]);
    assert_eq!((verdict, net.host.sent.len()), (Verdict::Dropped(DropReason::Discovery), 0));
    let mut sent = Vec::new();
    for (from, to) in [("10.0.2.100:40000", SSDP), ("10.0.2.100:5353", GROUP4)] {
        for _ in 0..2 {
            says(&mut net, from, to, &vec![question(7, 0); 40]);
            sent.push(net.host.sent.drain(..).count());
        }
    }
    assert_eq!(sent, [40, 40, 0, 0]);
}

#[test]
fn rules_hold_for_what_is_said_to_everybody() {
    let (mut net, ..) = mdns();
    let mut egress = Egress::default();
    egress.add("deny any".parse().unwrap()).unwrap();
    net.engine.set_egress(super::super::PortId(0), egress.clone(), net.now);
    for from in ["10.0.2.100:5353", "10.0.2.100:40000"] {
        assert_eq!(says(&mut net, from, GROUP4, &question(0, 0)), Verdict::Refused);
    }
    egress.add("allow udp:224.0.0.251:5353".parse().unwrap()).unwrap();
    net.engine.set_egress(super::super::PortId(0), egress, net.now);
    for from in ["10.0.2.100:5353", "10.0.2.100:40000"] {
        assert_eq!(says(&mut net, from, GROUP4, &question(0, 0)), Verdict::Flow);
    }
    net.guest_gets_nothing();
}

#[test]
fn interfaces_come_and_go() {
    let (mut net, v4, v6) = mdns();
    net.engine.set_links(vec![link(3, &["192.0.2.7"])]);
    net.settle();
    net.host_opens_nothing();
    net.host_closes(v6, false);
    net.engine.set_links(Vec::new());
    net.settle();
    net.host_closes(v4, false);
    let verdict = says(&mut net, "10.0.2.100:5353", GROUP4, &question(0, 0));
    assert_eq!(verdict, Verdict::Dropped(DropReason::Discovery));
    // One that cannot be opened is tried again when something changes.
    net.host.open_error = Some(std::io::ErrorKind::AddrInUse);
    net.engine.set_links(vec![link(5, &["192.0.2.1"])]);
    net.settle();
    net.forget();
    net.host.open_error = None;
    net.engine.set_links(vec![link(5, &["192.0.2.1"])]);
    net.settle();
    net.host_opens(SocketKind::Group { group: socket(GROUP4), index: 5 });
}

#[test]
fn without_the_option_multicast_stays_inside() {
    let mut net = Net::by_hand();
    net.engine.set_links(vec![link(3, &["192.0.2.1"])]);
    net.settle();
    net.host_opens_nothing();
    for (from, to) in [("10.0.2.100:5353", GROUP4), ("10.0.2.100:40000", SSDP)] {
        let verdict = says(&mut net, from, to, &question(0, 0));
        net.expect_dropped(verdict, DropReason::Multicast, "multicast");
    }
    // Nor are other groups relayed than those that were named.
    let mut net = Net::new(&options(false, &[SSDP]));
    for to in [GROUP4, "239.255.255.250:1901", "239.255.255.251:1900"] {
        let verdict = says(&mut net, "10.0.2.100:40000", to, &question(0, 0));
        assert_eq!(verdict, Verdict::Dropped(DropReason::Multicast), "{to}");
    }
}

#[test]
fn a_group_is_relayed_to_who_has_joined_and_answers_come_from_anybody() {
    let mut net = Net::new(&options(false, &[SSDP]));
    // Who was there before says again what it is in.
    let asked: Vec<_> = net.guest_gets_all().iter().map(|packet| read_ip(packet).to).collect();
    assert_eq!(asked, [address("224.0.0.1"), address("ff02::1")]);
    net.engine.set_links(vec![link(3, &["192.0.2.1"])]);
    net.settle();
    let ear = net.host_opens(SocketKind::Group { group: socket(SSDP), index: 3 });
    let notify = |net: &mut Net| net.host_gets(ear, socket("192.0.2.9:1900"), b"NOTIFY");
    notify(&mut net);
    net.guest_gets_nothing();
    // IGMPv2.
    let report = |kind: u8| {
        let mut message = vec![kind, 0, 0, 0, 239, 255, 255, 250];
        let sum = !smoltcp::wire::checksum::data(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        super::packets::ip(address("10.0.2.100"), address("239.255.255.250"), 2, &message, None)
    };
    assert_eq!(net.guest_sends(&report(0x16)), Verdict::Switch);
    notify(&mut net);
    let heard = net.guest_gets_datagram();
    assert_eq!((heard.from, heard.to), (socket("192.0.2.9:1900"), socket(SSDP)));
    assert_eq!(heard.payload, b"NOTIFY");
    net.guest_sends(&report(0x17));
    notify(&mut net);
    net.guest_gets_nothing();

    let search = Datagram::new(guest(false, 40_000), socket(SSDP), b"M-SEARCH").packet();
    assert_eq!(net.guest_sends(&search), Verdict::Flow);
    let host = net.host_opens(SocketKind::Udp { v6: false });
    let sent = net.host_sends();
    assert_eq!((sent_to(&sent).as_str(), sent.from), (SSDP, Some(address("192.0.2.1"))));
    // Of whatever port.
    for from in ["192.0.2.9:1900", "192.0.2.10:49152"] {
        net.host_gets(host, socket(from), b"HTTP/1.1 200 OK");
        assert_eq!(net.guest_gets_datagram().from, socket(from));
    }
    // But not who would open what the container may not reach, by being its peer.
    for from in ["127.0.0.1:22", "169.254.169.254:80", "10.0.2.7:9", "[::1]:22"] {
        net.host_gets(host, socket(from), b"HTTP/1.1 200 OK");
        net.guest_gets_nothing();
    }
    // For as long as the question is remembered.
    net.pass(Duration::from_secs(200));
    net.host_closes(host, false);
}
