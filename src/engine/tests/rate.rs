//! Rates: how much a container gets and sends each second, and that nobody else notices. Rows H1 H4.

use smoltcp::time::Duration;

use super::net::{Net, Options, address, guest, server};
use super::packets::{Datagram, GATEWAY_MAC, RST, SYN, Segment, ethernet, icmp, pattern};
use super::switch::{A, B, C, V4, lan_of, lease, unicast};
use crate::config::{Protocol, Sharing};
use crate::engine::host::SocketKind;
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::{Destination, PortId};

/// A network of three containers, the last of which gets no more than a megabyte each second.
fn lan() -> Net {
    let mut net = lan_of(Options { sharing: Sharing::Shared, ..Options::default() });
    net.engine.set_rate(C, "down=8mbit".parse().unwrap(), net.now);
    net
}

/// A frame of a thousand bytes with a number from one container for another.
fn sends(net: &mut Net, from: PortId, to: PortId, number: u16) -> Verdict {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(958, 0);
    let at = |port: PortId| (lease(port).v4, 4_000).into();
    let packet = Datagram::new(at(from), at(to), &payload).packet();
    net.port_sends_frame(from, &unicast(from, to, V4, &packet))
}

/// The numbers of those that have come.
fn got(net: &mut Net, port: PortId) -> Vec<u16> {
    let frames = net.frames_at(port).into_iter().filter(|frame| frame.len() >= 1000);
    frames.map(|frame| u16::from_be_bytes([frame[52], frame[53]])).collect()
}

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn frames_of_others_come_at_the_rate_in_order_and_what_is_too_much_is_dropped() {
    let mut net = lan();
    let (mut arrived, mut elsewhere) = (Vec::new(), 0);
    for number in 0..10_000 {
        // Ten times as much as it may get, while another gets as much.
        sends(&mut net, B, C, number);
        assert_eq!(sends(&mut net, B, A, number), Verdict::Port(A));
        if number % 10 == 9 {
            net.pass(MILLISECOND);
            arrived.extend(got(&mut net, C));
            elsewhere += got(&mut net, A).len();
        }
    }
    assert_eq!(elsewhere, 10_000);
    assert!((990..=1_070).contains(&arrived.len()), "{} in a second", arrived.len());
    assert!(arrived.is_sorted());
    let drops = net.engine.stats().dropped(DropReason::Rate);
    // A tenth of a second waits, or as much as two of the largest frames.
    assert!((8_800..=8_900).contains(&drops), "{drops} dropped");
    net.pass(Duration::from_secs(1));
    let late = got(&mut net, C);
    assert!((125..=135).contains(&late.len()), "{} waited", late.len());
    // And then it waits for nothing.
    assert_eq!(net.engine.poll_timeout(), None);
    assert_eq!(sends(&mut net, B, C, 7), Verdict::Port(C));
}

#[test]
fn small_frames_count_as_they_are_on_the_link() {
    let mut net = lan();
    let at = |port: PortId| (lease(port).v4, 4_000).into();
    let packet = Datagram::new(at(B), at(C), &[0; 18]).packet();
    let frame = unicast(B, C, V4, &packet);
    assert_eq!(frame.len(), 60);
    let mut arrived = 0;
    for _ in 0..1_000 {
        for _ in 0..20 {
            net.port_sends_frame(B, &frame);
        }
        net.pass(MILLISECOND);
        arrived += net.frames_at(C).len();
    }
    // A megabyte and what may come at once.
    assert!((16_600..=17_800).contains(&arrived), "{arrived} in a second");
}

// H4
#[test]
fn a_rate_that_is_changed_or_taken_back_holds_at_once() {
    let mut net = lan();
    for number in 0..150 {
        sends(&mut net, B, C, number);
    }
    got(&mut net, C);
    net.engine.set_rate(C, "down=4mbit".parse().unwrap(), net.now);
    net.pass(MILLISECOND * 100);
    let slower = got(&mut net, C).len();
    assert!((65..=85).contains(&slower), "{slower}");
    net.engine.set_rate(C, "none".parse().unwrap(), net.now);
    assert!(got(&mut net, C).ends_with(&[149]), "what has waited comes");
    for number in 0..1_000 {
        assert_eq!(sends(&mut net, B, C, number), Verdict::Port(C));
    }
}

#[test]
fn a_container_that_leaves_takes_what_has_waited_for_it_along() {
    let mut net = lan();
    for number in 0..150 {
        sends(&mut net, B, C, number);
    }
    assert!(net.engine.poll_timeout().is_some());
    net.engine.remove_port(C, net.now);
    net.pass(Duration::from_secs(1));
    assert_eq!(net.engine.poll_timeout(), None);
}

/// How many bytes of a connection a container gets in two seconds, beside datagrams or not.
fn downloads(rate: &str, datagrams: bool) -> usize {
    let mut net = Net::with_guest(&Options::default());
    net.engine.set_rate(PortId(0), rate.parse().unwrap(), net.now);
    let to = server(false, 80);
    let handle = net.guest().connect(guest(false, 40_000), to, 1 << 20);
    net.settle();
    let host = *net.host.streams.keys().next().expect("it is connected");
    let udp = datagrams.then(|| {
        let ask = Datagram::new(guest(false, 4_000), server(false, 7), b"?").packet();
        net.guest_sends(&ask);
        net.host.opened.back().expect("a socket").0
    });
    let bytes = pattern(4 << 20);
    net.peer_sends(host, &bytes);
    let mut received = Vec::new();
    for _ in 0..400 {
        if let Some(udp) = udp {
            for _ in 0..40 {
                net.host_gets(udp, server(false, 7), &[7; 1_400]);
            }
        }
        net.pass(MILLISECOND * 5);
        let socket = net.guest().socket(handle);
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    received.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        net.settle();
    }
    assert!(bytes.starts_with(&received), "nothing of a connection is lost");
    received.len()
}

// H1
#[test]
fn a_connection_is_as_fast_as_the_rate_and_datagrams_do_not_starve_it() {
    let got = downloads("down=8mbit", false);
    assert!((1_900_000..=2_130_000).contains(&got), "{got} bytes in two seconds");
    let got = downloads("up=8mbit", false);
    assert_eq!(got, 4 << 20, "the other direction is not limited");
    let got = downloads("down=8mbit", true);
    assert!(got > 400_000, "{got} bytes beside a flood of datagrams");
}

#[test]
fn connections_share_a_rate() {
    let mut net = Net::with_guest(&Options::default());
    net.engine.set_rate(PortId(0), "down=8mbit".parse().unwrap(), net.now);
    let handles = [40_000, 40_001, 40_002]
        .map(|port| net.guest().connect(guest(false, port), server(false, 80), 1 << 20));
    net.settle();
    let hosts: Vec<_> = net.host.streams.keys().copied().collect();
    for host in hosts {
        net.peer_sends(host, &pattern(4 << 20));
    }
    let mut received = [0; 3];
    for _ in 0..300 {
        net.pass(MILLISECOND * 10);
        for (handle, count) in handles.iter().zip(&mut received) {
            let socket = net.guest().socket(*handle);
            while socket.can_recv() {
                *count += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
            }
        }
        net.settle();
    }
    assert!(received.iter().all(|count| (850_000..1_150_000).contains(count)), "{received:?}");
}

/// Whose frames come, in order, after each container has pinged the gateway so often.
fn turns(net: &mut Net, pings: [(PortId, usize); 3]) -> Vec<PortId> {
    for (port, count) in pings {
        let ping = icmp(lease(port).v4.into(), address("10.0.2.2"), 8, 0, &[0, 1, 0, 1]);
        let frame = [&[0; 10], &ethernet(GATEWAY_MAC, lease(port).mac.0, V4, &ping)[..]].concat();
        for _ in 0..count {
            net.engine.handle_frame(port, &mut frame.clone(), net.now);
        }
    }
    let mut turns = Vec::new();
    while net.engine.poll_frame(net.now, |port, _, _| turns.push(port)) {}
    assert_eq!(turns.len(), pings.iter().map(|(_, count)| count).sum::<usize>());
    turns
}

#[test]
fn a_rate_that_is_never_reached_keeps_nobody_else_waiting() {
    let mut net = lan();
    net.engine.set_rate(A, "1tbit".parse().unwrap(), net.now);
    net.engine.set_rate(C, "none".parse().unwrap(), net.now);
    let order = turns(&mut net, [(A, 1_000), (B, 1), (C, 1)]);
    assert!(order[..5].contains(&B) && order[..5].contains(&C), "{:?}", &order[..5]);
    net.engine.set_rate(C, "1tbit".parse().unwrap(), net.now);
    for (first, second) in [(A, C), (C, A)] {
        let order = turns(&mut net, [(first, 1_000), (second, 1), (B, 1)]);
        assert!(order[..5].contains(&B) && order[..5].contains(&second), "{:?}", &order[..5]);
    }
}

// H1
#[test]
fn what_a_container_sends_is_left_with_it_while_it_is_in_debt() {
    let mut net = lan();
    net.engine.set_rate(B, "up=8mbit".parse().unwrap(), net.now);
    let mut sent = 0_i64;
    for _ in 0..1_000 {
        while net.engine.paused_until(B, net.now).is_none() {
            sends(&mut net, B, A, 0);
            sent += 1;
        }
        assert!(net.engine.paused_until(A, net.now).is_none(), "nobody else waits");
        // Somebody wakes up late.
        net.now = net.engine.paused_until(B, net.now).unwrap() + Duration::from_millis(3);
    }
    let took = net.now.total_millis() - 1_000_000;
    assert!((sent - took).abs() < 70, "{sent} KB in {took} ms");
}

#[test]
fn connections_that_end_while_they_wait_leave_nothing_behind() {
    let mut net = Net::by_hand();
    net.engine.set_rate(PortId(0), "down=8kbit".parse().unwrap(), net.now);
    let to = server(false, 80);
    for port in 40_000..40_100 {
        let syn = Segment::syn(guest(false, port), to, 1_400);
        net.guest_sends(&syn.packet());
        let host = net.host_opens(SocketKind::TcpConnect(to));
        net.host_connected(host);
        assert_eq!(net.engine.fx.frames.shaper.parked(), 1, "the first answer has made debt");
        net.guest_sends(&Segment::new(syn.from, to, RST, syn.seq.wrapping_add(1), 0).packet());
        net.host_closes(host, true);
        assert_eq!(net.engine.fx.frames.shaper.parked(), 0, "{port}");
    }
}

#[test]
fn a_client_who_waits_for_one_container_s_rate_is_led_to_the_next_at_once() {
    let mut net = lan();
    net.engine.set_rate(B, "down=8kbit".parse().unwrap(), net.now);
    let to = [B, A].map(|port| Destination { port, address: None });
    let listener = net.engine.publish(Protocol::Tcp, to.to_vec(), 80);
    sends(&mut net, A, B, 0);
    net.accept(listener, server(false, 5_000)).unwrap();
    assert_eq!(got(&mut net, B), [0], "no more");
    net.forget();
    net.engine.remove_port(B, net.now);
    let call = net.guest_gets_segment();
    assert_eq!((call.to, call.flags), (guest(false, 80), SYN));
}
