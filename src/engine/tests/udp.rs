//! UDP flows, both ways, and the fragments of datagrams that do not fit the link.

use std::io::ErrorKind;

use smoltcp::time::Duration;

use super::inbound::{advert, asked};
use super::net::{Net, Options, address, guest, server, socket};
use super::packets::{Datagram, Segment, UDP, icmp, ip, pattern, read_ip};
use crate::config::{HostAccess, Limit, Limits, Map, Neighbours, Prefix, Protocol, Rules};
use crate::engine::host::{HostEvent, SocketId, SocketKind};
use crate::engine::stats::{DropReason, Verdict};

/// A guest's datagram to a server; returns the host's socket.
fn ask(net: &mut Net, v6: bool) -> SocketId {
    let packet = Datagram::new(guest(v6, 4_000), server(v6, 7), b"ping").packet();
    assert_eq!(net.guest_sends(&packet), Verdict::Flow);
    let host = net.host_opens(SocketKind::Udp { v6 });
    let sent = net.host_sends();
    assert_eq!((sent.socket, sent.to, sent.from), (host, Some(server(v6, 7)), None));
    assert_eq!(sent.payload, b"ping");
    net.expect_counters(&[("udp_opened", 1)]);
    host
}

#[test]
fn a_datagram_and_its_answer_cross_with_their_addresses() {
    for v6 in [false, true] {
        for vnet in [false, true] {
            let mut net = Net::new(&Options { vnet, ..Options::default() });
            let host = ask(&mut net, v6);
            net.host_gets(host, server(v6, 7), b"pong");
            let answer = net.guest_gets_datagram();
            assert_eq!(answer, Datagram::new(server(v6, 7), guest(v6, 4_000), b"pong"));
            net.host_gets(host, server(v6, 7), b"");
            assert_eq!(net.guest_gets_datagram().payload, b"");
            net.expect_counters(&[]);
        }
    }
}

#[test]
fn one_endpoint_of_the_guest_has_one_socket_whomever_it_talks_to() {
    let mut net = Net::by_hand();
    let host = ask(&mut net, false);
    let other = socket("198.51.100.1:9");
    net.guest_sends(&Datagram::new(guest(false, 4_000), other, b"too").packet());
    net.host_opens_nothing();
    let sent = net.host_sends();
    assert_eq!((sent.socket, sent.to), (host, Some(other)));
    net.host_gets(host, other, b"from the other");
    assert_eq!(net.guest_gets_datagram().from, other);
    net.host_gets(host, server(false, 7), b"from the first");
    assert_eq!(net.guest_gets_datagram().from, server(false, 7));
    net.guest_sends(&Datagram::new(guest(false, 4_001), other, b"new").packet());
    assert_ne!(net.host_opens(SocketKind::Udp { v6: false }), host);
}

#[test]
fn strangers_are_kept_out() {
    let mut net = Net::by_hand();
    let host = ask(&mut net, false);
    for stranger in
        ["192.0.2.9:8", "198.51.100.1:7", "10.0.2.2:7", "127.0.0.1:7", "[2001:db8::9]:7"]
    {
        net.host_gets(host, socket(stranger), b"let me in");
        net.guest_gets_nothing();
        net.expect_counters(&[("drop.unknown-sender", 1)]);
    }
}

#[test]
fn a_loopback_service_answers_as_the_gateway_and_nobody_else_does() {
    let options = Options { host_access: HostAccess::Ports([514].into()), ..Options::default() };
    let mut net = Net::new(&options);
    let gateway = socket("10.0.2.2:514");
    net.guest_sends(&Datagram::new(guest(false, 4_000), gateway, b"log").packet());
    let host = net.host_opens(SocketKind::UdpLoopback { v6: false });
    assert_eq!(net.host_sends().to, Some(socket("127.0.0.1:514")));
    net.host_gets(host, socket("127.0.0.1:514"), b"ok");
    assert_eq!(net.guest_gets_datagram().from, gateway);
    net.expect_counters(&[("udp_opened", 1)]);
    // 127.0.0.2 is the gateway for the guest too, but it was not asked.
    net.host_gets(host, socket("127.0.0.2:514"), b"me too");
    net.guest_gets_nothing();
    net.expect_counters(&[("drop.unknown-sender", 1)]);
}

#[test]
fn a_closed_port_of_the_gateway_is_unreachable() {
    for (to, v4, v6) in [("10.0.2.2:9", [3, 3], [0; 2]), ("[fd72:6e73:6e65::2]:9", [0; 2], [1, 4])]
    {
        let mut net = Net::by_hand();
        let to = socket(to);
        let packet = Datagram::new(guest(to.is_ipv6(), 4_000), to, b"ping").packet();
        assert_eq!(net.guest_sends(&packet), Verdict::Refused);
        let error = net.guest_gets_icmp();
        assert_eq!(error.payload[..2], if to.is_ipv6() { v6 } else { v4 });
        assert_eq!((error.from, &error.payload[8..]), (to.ip(), &packet[..]));
        net.host_opens_nothing();
        net.expect_counters(&[]);
    }
}

#[test]
fn a_quote_of_a_long_datagram_keeps_the_error_small() {
    for (to, most) in [("10.0.2.2:9", 576), ("[fd72:6e73:6e65::2]:9", 1_280)] {
        let mut net = Net::by_hand();
        let to = socket(to);
        net.guest_sends(&Datagram::new(guest(to.is_ipv6(), 4_000), to, &pattern(1_400)).packet());
        assert_eq!(net.guest_gets().len(), most);
    }
}

#[test]
fn silence_closes_a_socket_sooner_where_nobody_answered() {
    for (answered, seconds) in [(false, 30), (true, 180)] {
        let mut net = Net::by_hand();
        let host = ask(&mut net, false);
        net.pass(Duration::from_secs(20));
        let mut last = Duration::from_secs(20);
        if answered {
            net.host_gets(host, server(false, 7), b"pong");
            net.guest_gets_datagram();
            last = Duration::ZERO;
        }
        net.pass(Duration::from_secs(seconds - 1) - last);
        net.host_closes_nothing();
        net.pass(Duration::from_secs(1));
        net.host_closes(host, false);
        net.expect_no_flows();
        assert_eq!(net.engine.poll_timeout(), None);
    }
}

#[test]
fn a_question_and_its_answer_are_soon_forgotten_and_a_stream_is_not() {
    for (lasts, seconds) in [(1, 30), (2, 180)] {
        let mut net = Net::by_hand();
        let host = ask(&mut net, false);
        net.pass(Duration::from_secs(lasts));
        net.host_gets(host, server(false, 7), b"pong");
        net.guest_gets_datagram();
        net.pass(Duration::from_secs(seconds - 1));
        net.host_closes_nothing();
        net.pass(Duration::from_secs(1));
        net.host_closes(host, false);
        net.expect_no_flows();
    }
}

#[test]
fn a_flow_in_use_lives_on_and_its_socket_with_the_last_flow() {
    let mut net = Net::by_hand();
    let host = ask(&mut net, false);
    net.guest_sends(&Datagram::new(guest(false, 4_000), server(false, 8), b"once").packet());
    for _ in 0..20 {
        net.pass(Duration::from_secs(20));
        net.guest_sends(&Datagram::new(guest(false, 4_000), server(false, 7), b"ping").packet());
        net.host_closes_nothing();
    }
    assert!(net.engine.to_string().contains("1 udp"), "the other flow is gone");
    net.pass(Duration::from_secs(30));
    net.host_closes(host, false);
}

#[test]
fn dns_servers_elsewhere_are_remembered_for_seconds_only() {
    let mut net = Net::by_hand();
    net.guest_sends(&Datagram::new(guest(false, 4_000), server(false, 53), b"?").packet());
    let host = net.host_opens(SocketKind::Udp { v6: false });
    net.pass(Duration::from_secs(10));
    net.host_closes(host, false);
}

#[test]
fn a_socket_that_cannot_be_opened_is_lost_silence() {
    let mut net = Net::by_hand();
    net.host.open_error = Some(ErrorKind::Other);
    net.guest_sends(&Datagram::new(guest(false, 4_000), server(false, 7), b"ping").packet());
    let host = net.host_opens(SocketKind::Udp { v6: false });
    net.host_closes(host, false);
    net.guest_gets_nothing();
    net.expect_counters(&[("drop.no-resources", 1), ("udp_opened", 1)]);
    net.host.datagrams.clear();
    net.expect_no_flows();
}

#[test]
fn a_host_without_a_network_is_an_unreachable_one() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        net.host.open_error = Some(ErrorKind::NetworkUnreachable);
        net.guest_sends(&Datagram::new(guest(v6, 4_000), server(v6, 7), b"ping").packet());
        let error = net.guest_gets_icmp();
        assert_eq!(error.payload[..2], if v6 { [1, 0] } else { [3, 0] });
        net.host_opens(SocketKind::Udp { v6 });
        net.expect_counters(&[("drop.no-resources", 1), ("udp_opened", 1)]);
        // It is there again: the next datagram goes out.
        net.host.open_error = None;
        net.forget();
        net.guest_sends(&Datagram::new(guest(v6, 4_000), server(v6, 7), b"ping").packet());
        net.host_opens(SocketKind::Udp { v6 });
        assert_eq!(net.host_sends().to, Some(server(v6, 7)));
        net.guest_gets_nothing();
    }
}

// Whichever of its flows have ended before it.
#[test]
fn a_socket_that_fails_takes_the_flows_that_are_left() {
    let mut net = Net::by_hand();
    let asks = |net: &mut Net, host: &str| {
        net.guest_sends(&Datagram::new(guest(false, 4_000), socket(host), b"?").packet());
    };
    // DNS is remembered for ten seconds.
    asks(&mut net, "198.51.100.1:53");
    let host = net.host_opens(SocketKind::Udp { v6: false });
    asks(&mut net, "198.51.100.1:7");
    net.pass(Duration::from_secs(5));
    asks(&mut net, "198.51.100.2:53");
    net.pass(Duration::from_secs(10));
    assert!(net.engine.to_string().contains("1 udp"), "the others are gone");
    net.host_event(host, HostEvent::Failed(ErrorKind::NetworkUnreachable));
    assert_eq!(net.guest_gets_icmp().payload[..2], [3, 0]);
    net.guest_gets_nothing();
    net.host_closes(host, false);
    net.expect_no_flows();
}

#[test]
fn renewed_sockets_carry_on_with_the_same_peers() {
    let options = Options { host_access: HostAccess::Ports([514].into()), ..Options::default() };
    let mut net = Net::new(&options);
    let own = guest(false, 4_000);
    net.guest_sends(&Datagram::new(own, server(false, 7), b"one").packet());
    let before = net.host_opens(SocketKind::Udp { v6: false });
    net.host_sends();
    net.guest_sends(&Datagram::new(own, socket("10.0.2.2:514"), b"log").packet());
    net.host_opens(SocketKind::UdpLoopback { v6: false });
    net.host_sends();
    net.engine.renew_sockets();
    net.settle();
    net.host_closes(before, false);
    let after = net.host_opens(SocketKind::Udp { v6: false });
    assert_ne!(before, after);
    net.host_opens_nothing();
    net.host_gets(after, server(false, 7), b"late answer");
    assert_eq!(net.guest_gets_datagram().payload, b"late answer");
    net.guest_sends(&Datagram::new(own, server(false, 7), b"two").packet());
    net.host_opens_nothing();
    assert_eq!(net.host_sends().socket, after);
}

#[test]
fn a_client_that_is_not_let_in_is_dropped_and_counted() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Udp, 53);
    let lan: Prefix = "192.0.2.0/24".parse().unwrap();
    net.engine.admit_only(listener, [lan].into());
    net.host_gets(listener, socket("198.51.100.7:5000"), b"?");
    net.host_gets(listener, socket("[2001:db8::7]:5000"), b"?");
    net.guest_gets_nothing();
    net.expect_counters(&[("drop.forbidden-client", 2)]);
    net.host_gets(listener, socket("192.0.2.7:5000"), b"?");
    assert_eq!(net.guest_gets_datagram().from, socket("192.0.2.7:5000"));
}

const MAX_FLOWS: usize = Limits::DEFAULT.get(Limit::Udp);

#[test]
fn the_flow_that_was_silent_longest_makes_room() {
    let mut net = Net::by_hand();
    let from = |index: usize| {
        let port = u16::try_from(1_024 + index).unwrap();
        guest(false, port)
    };
    for index in 0..MAX_FLOWS {
        net.now += Duration::from_micros(1);
        net.guest_sends(&Datagram::new(from(index), server(false, 7), b"x").packet());
    }
    net.host.opened.clear();
    net.host.sent.clear();
    net.host_closes_nothing();
    net.guest_sends(&Datagram::new(from(MAX_FLOWS), server(false, 7), b"x").packet());
    let new = net.host_opens(SocketKind::Udp { v6: false });
    assert_eq!(net.host_sends().socket, new);
    let closed: Vec<_> = net.host.closed.drain(..).collect();
    assert_eq!(closed.len(), 1, "one flow went");
    assert_eq!(net.host.datagrams.len(), MAX_FLOWS);
    net.pass(Duration::from_secs(61));
    net.expect_no_flows();
}

#[test]
fn a_published_port_answers_from_the_address_that_was_asked() {
    for (client, local, seen) in [
        ("198.51.100.7:5000", "192.0.2.1", "198.51.100.7:5000"),
        ("127.0.0.1:5000", "127.0.0.1", "10.0.2.2:5000"),
        ("[2001:db8::7]:5000", "2001:db8::1", "[2001:db8::7]:5000"),
    ] {
        let mut net = Net::by_hand();
        let listener = net.publish(Protocol::Udp, 53);
        net.host.datagrams.insert(listener, SocketKind::Udp { v6: false });
        let (client, local, seen) = (socket(client), address(local), socket(seen));
        let event = HostEvent::Datagram { from: client, to: Some(local), payload: b"query" };
        net.host_event(listener, event);
        let service = guest(client.is_ipv6(), 53);
        assert_eq!(net.guest_gets_datagram(), Datagram::new(seen, service, b"query"));
        net.guest_sends(&Datagram::new(service, seen, b"answer").packet());
        net.host_opens_nothing();
        let sent = net.host_sends();
        assert_eq!((sent.socket, sent.to), (listener, Some(client)));
        assert_eq!((sent.from, &sent.payload[..]), (Some(local), &b"answer"[..]));
        net.expect_counters(&[("udp_opened", 1)]);
        net.pass(Duration::from_secs(200));
        net.host_closes_nothing();
        assert!(net.engine.to_string().starts_with("flows: 0 tcp, 0 udp"));
    }
}

#[test]
fn two_clients_that_look_alike_to_the_guest_get_their_own_answers() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Udp, 53);
    let clients = ["127.0.0.1:5000", "127.0.0.2:5000"].map(socket);
    let mut seen = Vec::new();
    for client in clients {
        net.host_gets(listener, client, b"query");
        seen.push(net.guest_gets_datagram().from);
    }
    assert_ne!(seen[0], seen[1]);
    for (seen, client) in seen.into_iter().zip(clients) {
        net.guest_sends(&Datagram::new(guest(false, 53), seen, b"answer").packet());
        assert_eq!(net.host_sends().to, Some(client));
    }
}

#[test]
fn datagrams_of_any_length_cross_whole_and_in_fragments() {
    for v6 in [false, true] {
        let longest = if v6 { 65_527 } else { 65_507 };
        for mtu in [1_280, 1_500, 65_520] {
            for vnet in [false, true] {
                let mut net = Net::new(&Options { mtu, vnet, ..Options::default() });
                let host = ask(&mut net, v6);
                let fits = usize::from(mtu) - if v6 { 48 } else { 28 };
                for len in [0, 1, fits - 1, fits, fits + 1, 20_000, longest] {
                    let body = pattern(len);
                    let sent = Datagram::new(guest(v6, 4_000), server(v6, 7), &body);
                    let whole = len <= fits;
                    let packets =
                        if whole { vec![sent.packet()] } else { sent.fragments(mtu.into(), 5) };
                    for (index, packet) in packets.iter().enumerate() {
                        let last = index + 1 == packets.len();
                        let expected = if last { Verdict::Flow } else { Verdict::Held };
                        assert_eq!(net.guest_sends(packet), expected, "{len} {index}");
                    }
                    assert_eq!(net.host_sends().payload, body);
                    net.host_gets(host, server(v6, 7), &body);
                    let got = net.guest_gets_all();
                    assert_eq!(got.len() == 1, whole);
                    let got =
                        if whole { Datagram::read(&got[0]) } else { Datagram::of_fragments(&got) };
                    assert_eq!(got, Datagram::new(server(v6, 7), guest(v6, 4_000), &body));
                }
                net.expect_counters(&[]);
            }
        }
    }
}

#[test]
fn fragments_come_in_any_order_and_never_twice() {
    let mut net = Net::by_hand();
    ask(&mut net, false);
    let datagram = Datagram::new(guest(false, 4_000), server(false, 7), &pattern(6_000));
    let mut packets = datagram.fragments(1_500, 9);
    packets.rotate_left(2);
    for packet in &packets[1..] {
        assert_eq!(net.guest_sends(packet), Verdict::Held);
    }
    assert_eq!(net.guest_sends(&packets[0]), Verdict::Flow);
    assert_eq!(net.host_sends().payload, pattern(6_000));
    net.expect_counters(&[]);
    assert_eq!(net.guest_sends(&packets[1]), Verdict::Held);
    let verdict = net.guest_sends(&packets[1]);
    net.expect_dropped(verdict, DropReason::BadFragment, "bad-fragment");
    // Every datagram has an identification of its own on the way to the guest.
    let host = *net.host.datagrams.keys().next().unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        net.host_gets(host, server(false, 7), &pattern(3_000));
        let packets = net.guest_gets_all();
        ids.push(read_ip(&packets[0]).position.unwrap().2);
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_wrong_checksum_is_dropped_and_none_is_taken_over_ipv4() {
    let mut net = Net::by_hand();
    let datagram = Datagram::new(guest(false, 4_000), server(false, 7), b"ping");
    let mut packet = datagram.packet();
    *packet.last_mut().unwrap() ^= 1;
    let verdict = net.guest_sends(&packet);
    net.expect_dropped(verdict, DropReason::BadChecksum, "bad-checksum");
    let mut packet = datagram.packet();
    packet[26..28].fill(0);
    assert_eq!(net.guest_sends(&packet), Verdict::Flow);
}

#[test]
fn a_datagram_over_ipv6_without_checksum_is_dropped() {
    let mut net = Net::by_hand();
    let mut packet = Datagram::new(guest(true, 4_000), server(true, 7), b"ping").packet();
    packet[46..48].fill(0);
    let verdict = net.guest_sends(&packet);
    net.expect_dropped(verdict, DropReason::BadChecksum, "bad-checksum");
}

#[test]
fn a_datagram_that_did_not_arrive_is_reported_to_whom_it_was_from() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let host = ask(&mut net, v6);
        let refused = |to| HostEvent::Unsent { to: Some(to), error: ErrorKind::ConnectionRefused };
        net.host_event(host, refused(server(v6, 7)));
        let error = net.guest_gets_all().pop().expect("an ICMP error");
        let ports = [guest(v6, 4_000).port().to_be_bytes(), 7_u16.to_be_bytes()].concat();
        assert!(error.windows(4).any(|quoted| quoted == ports), "{error:x?}");
        net.host_event(host, refused(server(v6, 8)));
        net.guest_gets_nothing();
    }
}

#[test]
fn a_datagram_that_the_host_forbids_is_prohibited() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let host = ask(&mut net, v6);
        let to = Some(server(v6, 7));
        net.host_event(host, HostEvent::Unsent { to, error: ErrorKind::PermissionDenied });
        let error = net.guest_gets_icmp();
        assert_eq!(error.payload[..2], if v6 { [1, 1] } else { [3, 13] });
        net.guest_gets_nothing();
    }
}

#[test]
fn a_service_whose_answer_the_host_cannot_send_is_told() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let listener = net.publish(Protocol::Udp, 53);
        net.host_gets(listener, server(v6, 5_000), b"query");
        let query = net.guest_gets_datagram();
        net.guest_sends(&Datagram::new(query.to, query.from, b"answer").packet());
        net.host_sends();
        for (error, said) in [
            (ErrorKind::PermissionDenied, if v6 { [1, 1] } else { [3, 13] }),
            (ErrorKind::HostUnreachable, if v6 { [1, 3] } else { [3, 1] }),
        ] {
            let unsent = |to| HostEvent::Unsent { to: Some(to), error };
            net.host_event(listener, unsent(server(v6, 5_001)));
            net.guest_gets_nothing();
            net.host_event(listener, unsent(server(v6, 5_000)));
            let heard = net.guest_gets_icmp();
            assert_eq!(heard.payload[..2], said);
            let quoted = Datagram::read_unsealed(&heard.payload[8..]);
            assert_eq!((quoted.from, quoted.to), (query.to, query.from));
        }
        net.expect_counters(&[("udp_opened", 1)]);
        net.pass(Duration::from_secs(181));
        net.expect_no_flows();
    }
}

// RFC 6946.
#[test]
fn a_fragment_that_is_a_whole_datagram_is_no_business_of_others() {
    let mut net = Net::by_hand();
    let to = server(true, 7);
    let large = Datagram::new(guest(true, 4_000), to, &pattern(2_000));
    let [first, last] = large.fragments(1_280, 7).try_into().unwrap();
    let small = Datagram::new(guest(true, 4_001), to, b"whole");
    let (source, target) = (small.from.ip(), to.ip());
    let atomic = ip(source, target, UDP, &small.bytes(), Some((0, false, 7)));
    assert_eq!(net.guest_sends(&first), Verdict::Held);
    assert_eq!(net.guest_sends(&atomic), Verdict::Flow);
    assert_eq!(net.host_sends().payload, b"whole");
    assert_eq!(net.guest_sends(&last), Verdict::Flow);
    assert_eq!(net.host_sends().payload, large.payload);
}

// An image that sets net.ipv6.conf.all.disable_ipv6.
#[test]
fn clients_of_a_guest_that_has_lost_its_ipv6_address_are_led_to_ipv4() {
    for answers in [false, true] {
        let mut net = Net::by_hand();
        let listener = net.publish(Protocol::Udp, 53);
        // How often the guest is asked for its address, and where the datagram goes.
        let mut query = || {
            net.host_gets(listener, server(true, 5_000), b"query");
            let (questions, packets) = asked(&mut net);
            if answers && questions > 0 {
                net.guest_sends(&advert());
            }
            net.pass(Duration::from_secs(2));
            let later = asked(&mut net).0;
            (questions, later, Datagram::read(&packets[0]).to)
        };
        let (v4, v6) = (guest(false, 53), guest(true, 53));
        assert_eq!(query(), (0, 0, v6));
        if answers {
            assert_eq!([query(), query()], [(1, 0, v6); 2]);
        } else {
            assert_eq!([query(), query(), query()], [(1, 2, v6), (0, 0, v6), (1, 0, v4)]);
        }
    }
}

#[test]
fn broadcasts_go_out_on_request_alone() {
    let to_all = |port: u16| {
        let to = socket(&format!("255.255.255.255:{port}"));
        Datagram::new(guest(false, 4_000), to, b"wake").packet()
    };
    let mut net = Net::by_hand();
    let own = Datagram::new(guest(false, 4_000), socket("10.0.2.255:9"), b"wake").packet();
    for packet in [to_all(9), own] {
        let verdict = net.guest_sends(&packet);
        net.expect_dropped(verdict, DropReason::Broadcast, "broadcast");
    }
    net.host_opens_nothing();
    // The kernel knows a network's own broadcast address, and refuses it.
    net.guest_sends(&Datagram::new(guest(false, 4_000), socket("192.0.2.255:9"), b"x").packet());
    let host = net.host_opens(SocketKind::Udp { v6: false });
    net.host_event(host, HostEvent::ToEverybody);
    net.guest_gets_nothing();
    net.expect_counters(&[("udp_opened", 1), ("drop.broadcast", 1)]);

    let mut net = Net::new(&Options { allow_broadcast: true, ..Options::default() });
    assert_eq!(net.guest_sends(&to_all(9)), Verdict::Flow);
    let host = net.host_opens(SocketKind::UdpBroadcast);
    assert_eq!(net.host_sends().to, Some(socket("255.255.255.255:9")));
    // Whoever answers from the port that was asked is let in, and is a peer from then on.
    net.host_gets(host, socket("192.0.2.9:9"), b"here");
    assert_eq!(net.guest_gets_datagram().from, socket("192.0.2.9:9"));
    net.host_gets(host, socket("192.0.2.9:10"), b"a stranger");
    net.guest_gets_nothing();
    let verdict = net.guest_sends(&to_all(67));
    net.expect_counters(&[("drop.unknown-sender", 1), ("drop.broadcast", 1), ("udp_opened", 2)]);
    assert_eq!(verdict, Verdict::Dropped(DropReason::Broadcast));
    // Its own network has nobody else, so everybody on it is everybody on the host's.
    net.forget();
    let own = Datagram::new(guest(false, 4_001), socket("10.0.2.255:9"), b"wake").packet();
    assert_eq!(net.guest_sends(&own), Verdict::Flow);
    assert_eq!(net.host_sends().to, Some(socket("255.255.255.255:9")));
    // Loopback is not a network of the host's.
    for to in ["127.255.255.255:9", "0.0.0.0:9"] {
        let packet = Datagram::new(guest(false, 4_000), socket(to), b"x").packet();
        assert_ne!(net.guest_sends(&packet), Verdict::Flow, "{to}");
    }
}

#[test]
fn a_link_local_router_that_stands_for_the_host_is_reached_from_a_link_local_address() {
    let (router, other) = (address("fe80::99"), address("fe80::98"));
    let maps = vec![Map { seen: router, real: address("::1") }];
    let rules = Rules { neighbours: Neighbours::Host, maps, ..Rules::default() };
    for (to, reaches) in [(router, true), (other, false)] {
        let mut net = Net::new(&Options { rules: rules.clone(), ..Options::default() });
        let from = socket("[fe80::64]:4000");
        let at = |port| std::net::SocketAddr::new(to, port);
        net.guest_sends(&Datagram::new(from, at(9), b"x").packet());
        if reaches {
            net.host_opens(SocketKind::UdpLoopback { v6: true });
        }
        net.guest_sends(&Segment::syn(from, at(22), 1400).packet());
        if reaches {
            net.host_opens(SocketKind::TcpConnect(socket("[::1]:22")));
        }
        net.host_opens_nothing();
    }
}

/// The guest says of a packet that it got that nothing listens there, and quotes so much of it.
fn refuses(net: &mut Net, packet: &[u8], quoted: usize) {
    let got = read_ip(packet);
    let (kind, code) = if got.from.is_ipv6() { (1, 4) } else { (3, 3) };
    let body = [&[0; 4], &packet[..quoted]].concat();
    net.guest_sends(&icmp(got.to, got.from, kind, code, &body));
}

// A server that listens on one family is served to clients of both, as over TCP.
#[test]
fn a_client_whose_datagram_is_refused_is_led_to_the_other_address() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let listener = net.publish(Protocol::Udp, 53);
        let client = server(v6, 5_353);
        net.host_gets(listener, client, b"question");
        let first = net.guest_gets();
        assert_eq!(Datagram::read(&first).to, guest(v6, 53));
        refuses(&mut net, &first, first.len());
        let second = net.guest_gets_datagram();
        assert_eq!((second.to, &*second.payload), (guest(!v6, 53), &b"question"[..]));
        net.guest_sends(&Datagram::new(second.to, second.from, b"answer").packet());
        let sent = net.host_sends();
        assert_eq!(
            (sent.socket, sent.to, &*sent.payload),
            (listener, Some(client), &b"answer"[..])
        );
        // From now on it goes there at once.
        net.host_gets(listener, client, b"again");
        assert_eq!(net.guest_gets_datagram().to, guest(!v6, 53));
        net.guest_gets_nothing();
        assert_eq!(net.engine.count_flows(), 1);
    }
}

#[test]
fn who_refuses_at_both_addresses_is_not_asked_in_turn() {
    let mut net = Net::by_hand();
    let listener = net.publish(Protocol::Udp, 53);
    let client = server(true, 5_353);
    for _ in 0..3 {
        net.host_gets(listener, client, b"question");
        for v6 in [true, false] {
            let got = net.guest_gets();
            assert_eq!(Datagram::read(&got).to, guest(v6, 53));
            refuses(&mut net, &got, got.len());
        }
        net.guest_gets_nothing();
    }
    // An error that quotes a part of it leads the client all the same.
    net.host_gets(listener, client, b"question");
    let cut = net.guest_gets();
    refuses(&mut net, &cut, cut.len() - 1);
    net.guest_gets_nothing();
    net.host_gets(listener, client, b"question");
    assert_eq!(net.guest_gets_datagram().to, guest(false, 53));
}
