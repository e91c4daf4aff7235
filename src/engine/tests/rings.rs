//! The rings of TCP flows: small for all, larger for the busy ones, within a bound.

use smoltcp::iface::SocketHandle;
use smoltcp::time::Duration;

use super::net::{Net, Options, guest, server};
use super::packets::{ACK, GATEWAY_MAC, Segment, ethernet, pattern};
use super::switch::{B, V4, lease};
use crate::config::{Limits, Sharing};
use crate::engine::PortId;
use crate::engine::host::{SocketId, SocketKind};

const FIRST: usize = 32 << 10;
const SMALL: usize = 256 << 10;
const MEDIUM: usize = 512 << 10;
const LARGE: usize = 2 << 20;

/// Opens one more flow.
fn open(net: &mut Net, port: u16) -> (SocketHandle, SocketId) {
    let to = server(false, 80);
    let handle = net.guest().connect(guest(false, port), to, 1 << 20);
    net.settle();
    (handle, net.host_opens(SocketKind::TcpConnect(to)))
}

/// Has the guest send as much as keeps a flow with small rings busy.
fn send(net: &mut Net, flow: (SocketHandle, SocketId)) {
    send_bytes(net, flow, 200_000);
}

/// Has the guest send as much as keeps any flow busy.
fn send_much(net: &mut Net, flow: (SocketHandle, SocketId)) {
    send_bytes(net, flow, 1 << 20);
}

fn send_bytes(net: &mut Net, (handle, host): (SocketHandle, SocketId), length: usize) {
    let before = net.stream(host).received.len();
    let body = pattern(length);
    net.guest().socket(handle).send_slice(&body).unwrap();
    net.settle();
    assert!(net.stream(host).received[before..] == body);
}

/// The lengths of the rings of all open flows, by address and port.
fn rings(net: &Net) -> Vec<usize> {
    let text = net.engine.to_string();
    let lines = text.lines().filter_map(|line| line.split_once(" rings "));
    lines.map(|(_, bytes)| bytes.parse().unwrap()).collect()
}

#[test]
fn a_flow_gets_larger_rings_once_it_is_busy_in_either_direction() {
    for down in [false, true] {
        let mut net = Net::with_guest(&Options::default());
        let (handle, host) = open(&mut net, 40_000);
        net.guest().socket(handle).send_slice(&pattern(3_000)).unwrap();
        net.settle();
        net.peer_sends(host, &pattern(10_000));
        assert_eq!(rings(&net), [FIRST], "a question and an answer");
        for (length, expected) in [(200_000, MEDIUM), (1 << 20, LARGE), (1 << 20, LARGE)] {
            if down {
                net.peer_sends(host, &pattern(length));
            } else {
                send_bytes(&mut net, (handle, host), length);
            }
            assert_eq!(rings(&net), [expected], "down: {down}");
        }
    }
}

#[test]
fn flows_that_are_busy_together_have_rings_of_one_length() {
    let mut net = Net::with_guest(&Options::default());
    let flows: Vec<_> = (0..8).map(|index| open(&mut net, 40_000 + index)).collect();
    for _ in 0..3 {
        for flow in &flows {
            send(&mut net, *flow);
        }
    }
    assert_eq!(rings(&net), [MEDIUM; 8]);
    for flow in &flows {
        send_much(&mut net, *flow);
    }
    assert_eq!(rings(&net), [MEDIUM; 8], "none of them is alone");

    // What is left when most have ended.
    for flow in &flows[2..] {
        net.guest().socket(flow.0).abort();
        net.settle();
        net.host_closes(flow.1, true);
    }
    for flow in &flows[..2] {
        send_much(&mut net, *flow);
    }
    assert_eq!(rings(&net), [LARGE; 2]);
}

// H1
#[test]
fn a_flow_whose_container_sends_slowly_has_small_rings() {
    for (rate, ring) in [("up=10mbit", FIRST), ("up=100mbit", MEDIUM), ("down=1mbit", MEDIUM)] {
        let mut net = Net::with_guest(&Options::default());
        net.engine.set_rate(PortId(0), rate.parse().unwrap(), net.now);
        let flow = open(&mut net, 40_000);
        net.guest().socket(flow.0).send_slice(&pattern(200_000)).unwrap();
        net.pass(Duration::from_secs(5));
        assert_eq!(net.stream(flow.1).received.len(), 200_000);
        assert_eq!(rings(&net), [ring], "{rate}");
    }
}

#[test]
fn a_guest_that_reads_nothing_gets_no_larger_rings() {
    let mut net = Net::with_guest(&Options::default());
    let to = server(false, 80);
    let handle = net.guest().connect(guest(false, 40_000), to, 4_000);
    net.settle();
    let host = net.host_opens(SocketKind::TcpConnect(to));
    net.peer_sends(host, &pattern(300_000));
    assert_eq!(rings(&net), [FIRST]);
    let mut got = Vec::new();
    while got.len() < 300_000 {
        let socket = net.guest().socket(handle);
        while socket.can_recv() {
            got.extend(socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap());
        }
        net.settle();
    }
    assert!(got == pattern(300_000));
}

#[test]
fn larger_rings_are_bounded_and_go_from_the_idle_to_the_busy() {
    let mut net = Net::with_guest(&Options::default());
    let flows: Vec<_> = (0..70).map(|index| open(&mut net, 40_000 + index)).collect();
    assert_eq!(rings(&net), [FIRST; 70]);
    for flow in &flows {
        send(&mut net, *flow);
    }
    let expected = [vec![MEDIUM; 8], vec![SMALL; 56], vec![FIRST; 6]].concat();
    assert_eq!(rings(&net), expected, "in the order in which they became busy");

    // None has been idle: there is nothing for another.
    send(&mut net, flows[69]);
    assert_eq!(rings(&net), expected);

    // One stays busy, the others have been idle.
    net.pass(Duration::from_secs(2));
    send(&mut net, flows[0]);
    for _ in 0..3 {
        send(&mut net, flows[69]);
        net.pass(Duration::from_secs(2));
    }
    let now = rings(&net);
    assert_eq!(now[69], SMALL, "a busy flow gets what an idle one had: {now:?}");
    assert_eq!(now[0], MEDIUM, "from one that is idle");
    let sum = |rings: &[usize]| rings.iter().sum::<usize>();
    assert!(sum(&now) <= sum(&expected), "no more than before");
    // And the one that lost them still works, whatever its guest thinks of the window.
    let loser = (0..70).find(|index| now[*index] < expected[*index]).unwrap();
    send(&mut net, flows[loser]);

    // A flow that ends makes room at once.
    net.guest().socket(flows[1].0).abort();
    net.settle();
    net.host_closes(flows[1].1, true);
    send(&mut net, flows[68]);
    assert!(rings(&net)[67] > FIRST, "{:?}", rings(&net));
}

#[test]
fn who_waits_for_rings_that_others_get_is_read_all_the_same() {
    let mut net = Net::with_guest(&Options::default());
    let flows: Vec<_> = (0..70).map(|index| open(&mut net, 40_000 + index)).collect();
    let body = pattern(200_000);
    for (_, host) in &flows {
        net.stream(*host).to_read.extend(&body);
    }
    // All are told of at once, and never again.
    for (_, host) in &flows {
        let stream = net.host.streams.get_mut(host).unwrap();
        net.engine.relay(*host, stream, net.now);
    }
    let mut got = vec![0; flows.len()];
    for _ in 0..100 {
        net.settle();
        for (index, (handle, _)) in flows.iter().enumerate() {
            let socket = net.guest().socket(*handle);
            while socket.can_recv() {
                got[index] += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
            }
        }
    }
    assert_eq!(got, [body.len(); 70]);
}

/// A frame of the container at the second port.
fn of_second(segment: &Segment) -> Vec<u8> {
    let frame = ethernet(GATEWAY_MAC, lease(B).mac.0, V4, &segment.packet());
    [&[0; 10], &frame[..]].concat()
}

#[test]
fn a_container_whose_rings_go_to_another_is_the_one_that_hears_of_it() {
    let mut limits = Limits::default();
    limits.set("memory", "1").unwrap();
    let options = Options { sharing: Sharing::Shared, limits, ..Options::default() };
    let mut net = Net::with_guest(&options);
    assert_eq!(net.engine.add_port(lease(B), options.vnet, net.now), Ok(B));
    let (from, to) = ((lease(B).v4, 40_000).into(), server(false, 80));
    net.port_sends_raw(B, &of_second(&Segment::syn(from, to, 1460)));
    net.host_opens(SocketKind::TcpConnect(to));
    let last = |net: &mut Net| {
        let packets = net.port_gets(B, lease(B).mac);
        packets.last().map(|packet| Segment::read(packet))
    };
    let answer = last(&mut net).expect("a SYN-ACK");
    let mut next = Segment::new(from, to, ACK, answer.ack, answer.seq + 1);
    for _ in 0..14 {
        let segment = next.clone().with(&[7; 1460]);
        net.engine.handle_frame(B, &mut of_second(&segment), net.now);
        next.seq += 1460;
    }
    net.port_sends_raw(B, &of_second(&next));
    assert_eq!(rings(&net), [SMALL]);
    let before = last(&mut net).expect("acknowledgements");
    assert_eq!(before.ack, next.seq);

    net.pass(Duration::from_secs(2));
    let other = open(&mut net, 40_001);
    for _ in 0..3 {
        send(&mut net, other);
        net.pass(Duration::from_secs(2));
    }
    assert_eq!(rings(&net), [SMALL, FIRST], "by address");
    let told = last(&mut net).expect("its new window");
    assert_eq!((told.from, told.to, told.ack), (to, from, next.seq));
    assert!(told.window < before.window, "{} and {}", told.window, before.window);
}
