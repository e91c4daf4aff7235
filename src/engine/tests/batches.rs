//! Several datagrams in one: what is sent by one request, and what crosses the TAP as one frame.

use super::net::{Net, Options, guest, server, socket};
use super::packets::{Datagram, frame_of, pattern, read_ip};
use crate::engine::PortId;
use crate::engine::host::{HostEvent, HostOp, SocketId, SocketKind};
use crate::engine::stats::{DropReason, Verdict};

fn net() -> Net {
    Net::new(&Options { uso: true, ..Options::default() })
}

/// Gives the engine datagrams of these sizes in one turn; returns the requests, as (bytes, segment).
fn requests(net: &mut Net, datagrams: &[(u16, usize)]) -> Vec<(usize, Option<u16>)> {
    for &(to, len) in datagrams {
        let packet = Datagram::new(guest(false, 4_000), server(false, to), &pattern(len)).packet();
        let mut frame = [&[0; 10], &frame_of(&packet)[..]].concat();
        assert_eq!(net.engine.handle_frame(PortId(0), &mut frame, net.now), Verdict::Flow);
    }
    let mut requests = Vec::new();
    while let Some(op) = net.engine.poll_host() {
        if let HostOp::Send { payload, segment, .. } = op {
            requests.push((payload.len(), segment));
        }
    }
    requests
}

#[test]
fn datagrams_of_one_size_to_one_peer_are_one_request() {
    for (datagrams, expected) in [
        (&[(7, 100)][..], &[(100, None)][..]),
        (&[(7, 100), (7, 100), (7, 100)], &[(300, Some(100))]),
        // The last may be shorter, and then it is the last.
        (&[(7, 100), (7, 60), (7, 60)], &[(160, Some(100)), (60, None)]),
        (&[(7, 60), (7, 100)], &[(60, None), (100, None)]),
        (&[(7, 100), (8, 100), (7, 100)], &[(100, None); 3]),
        // An empty one is never a part.
        (&[(7, 0), (7, 0)], &[(0, None); 2]),
        (&[(7, 100), (7, 0), (7, 100)], &[(100, None), (0, None), (100, None)]),
        (&[(7, 1); 70], &[(64, Some(1)), (6, Some(1))]),
        (&[(7, 1_400); 50], &[(46 * 1_400, Some(1_400)), (4 * 1_400, Some(1_400))]),
    ] {
        assert_eq!(requests(&mut net(), datagrams), expected, "{datagrams:?}");
    }
}

/// Gives the engine datagrams for the guest in one turn; returns the frames.
fn frames(net: &mut Net, host: SocketId, datagrams: &[(u16, usize)], v6: bool) -> Vec<Vec<u8>> {
    for &(from, len) in datagrams {
        let payload = &pattern(len)[..];
        let event = HostEvent::Datagram { from: server(v6, from), to: None, payload };
        net.engine.handle_host(host, event, net.now);
    }
    let mut frames = Vec::new();
    while net.engine.poll_frame(net.now, |_, frame, _| frames.push(frame.to_vec())) {}
    frames
}

/// A guest's endpoint that has two peers; its socket on the host.
fn opened(net: &mut Net, v6: bool) -> SocketId {
    for peer in [7, 8] {
        net.guest_sends(&Datagram::new(guest(v6, 4_000), server(v6, peer), b"hello").packet());
    }
    let host = net.host_opens(SocketKind::Udp { v6 });
    net.forget();
    host
}

#[test]
fn datagrams_of_one_size_from_one_peer_are_one_frame() {
    for v6 in [false, true] {
        for (datagrams, expected) in [
            (&[(7, 100)][..], &[1][..]),
            (&[(7, 100), (7, 100), (7, 60)], &[3]),
            (&[(7, 100), (7, 60), (7, 60)], &[2, 1]),
            (&[(7, 60), (7, 100)], &[1, 1]),
            (&[(7, 100), (8, 100), (7, 100)], &[1, 1, 1]),
            (&[(7, 0), (7, 0)], &[1, 1]),
            (&[(7, 2_000), (7, 100)], &[0, 0, 1]),
            (&[(7, 1); 70], &[64, 6]),
        ] {
            let mut net = net();
            let host = opened(&mut net, v6);
            let frames = frames(&mut net, host, datagrams, v6);
            let packets: Vec<_> =
                frames.iter().map(|frame| super::packets::receive(frame, true, 1_500)).collect();
            // A fragment counts for nothing.
            let whole = |packets: &Vec<Vec<u8>>| read_ip(&packets[0]).position.is_none();
            let count = |packets: &Vec<Vec<u8>>| if whole(packets) { packets.len() } else { 0 };
            let counts: Vec<_> = packets.iter().map(count).collect();
            assert_eq!(counts, expected, "{datagrams:?}");
            if counts.contains(&0) {
                continue;
            }
            let got: Vec<_> =
                packets.concat().iter().map(|packet| Datagram::read(packet)).collect();
            let sent = datagrams
                .iter()
                .map(|&(from, len)| {
                    Datagram::new(server(v6, from), guest(v6, 4_000), &pattern(len))
                })
                .collect::<Vec<_>>();
            assert_eq!(got, sent);
        }
    }
}

#[test]
fn a_tap_that_cannot_take_them_gets_one_frame_each() {
    for vnet in [true, false] {
        let mut net = Net::new(&Options { vnet, ..Options::default() });
        let host = opened(&mut net, false);
        assert_eq!(frames(&mut net, host, &[(7, 100); 3], false).len(), 3);
    }
}

/// Several datagrams of 100 bytes as a guest's kernel leaves them to us.
fn super_frame(to: std::net::SocketAddr, len: usize, size: u16) -> Vec<u8> {
    let v6 = to.is_ipv6();
    let datagram = Datagram::new(guest(v6, 4_000), to, &pattern(len));
    let frame = frame_of(&datagram.packet());
    let start: u16 = if v6 { 54 } else { 34 };
    let [s0, s1] = size.to_le_bytes();
    let [c0, c1] = start.to_le_bytes();
    [&[1, 5, 0, 0, s0, s1, c0, c1, 6, 0], &frame[..]].concat()
}

#[test]
fn a_guest_s_super_frame_goes_on_as_its_datagrams() {
    for v6 in [false, true] {
        let mut net = net();
        assert_eq!(net.guest_sends_raw(&super_frame(server(v6, 7), 250, 100)), Verdict::Flow);
        let sizes: Vec<_> = net.host.sent.drain(..).map(|sent| sent.payload).collect();
        let whole = pattern(250);
        assert_eq!(sizes, [&whole[..100], &whole[100..200], &whole[200..]]);
    }
}

#[test]
fn a_super_frame_of_long_datagrams_may_stay_whole() {
    let mut net = net();
    net.guest_sends_raw(&super_frame(server(false, 7), 14_720, 1_472));
    assert!(net.host.sent.drain(..).all(|sent| sent.fields.dont_fragment));
    net.guest_sends_raw(&super_frame(server(false, 7), 14_730, 1_473));
    assert!(net.host.sent.drain(..).all(|sent| !sent.fields.dont_fragment));
}

#[test]
fn super_frames_that_are_none_are_dropped() {
    let good = super_frame(server(false, 7), 250, 100);
    for (at, byte) in [(0, 0), (1, 1), (1, 4), (1, 3), (1, 0x85), (4, 0), (6, 33), (8, 16)] {
        let mut net = net();
        let mut frame = good.clone();
        frame[at] = byte;
        if at == 4 {
            frame[5] = 0;
        }
        let verdict = net.guest_sends_raw(&frame);
        net.expect_dropped(verdict, DropReason::BadOffload, "bad-offload");
    }
}

#[test]
fn one_frame_is_no_more_datagrams_than_a_kernel_makes_of_it() {
    for (len, size, taken) in
        [(128, 1, true), (129, 1, false), (12_800, 100, true), (12_801, 100, false)]
    {
        let mut net = net();
        let verdict = net.guest_sends_raw(&super_frame(server(true, 7), len, size));
        if taken {
            assert_eq!((verdict, net.host.sent.len()), (Verdict::Flow, 128), "{len} by {size}");
        } else {
            net.expect_dropped(verdict, DropReason::BadOffload, "bad-offload");
        }
    }
}

#[test]
fn queries_in_a_super_frame_are_asked_one_by_one() {
    let mut net = net();
    net.set_resolvers(&["192.0.2.53:53"]);
    let query = |id: u8| {
        [&[0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1][..], b"a", &[id, 0, 0, 1, 0, 1]].concat()
    };
    // Three queries of names that differ in their last label's length byte only.
    let queries: Vec<u8> = (1..=2)
        .flat_map(|id| {
            let mut bytes = query(id);
            bytes[14] = 0;
            bytes.truncate(15);
            bytes.extend([0, if id == 1 { 1 } else { 28 }, 0, 1]);
            bytes
        })
        .collect();
    let size = u16::try_from(queries.len() / 2).unwrap();
    let to = socket("10.0.2.3:53");
    let datagram = Datagram::new(guest(false, 4_000), to, &queries);
    let [s0, s1] = size.to_le_bytes();
    let frame = frame_of(&datagram.packet());
    let raw = [&[1, 5, 0, 0, s0, s1, 34, 0, 6, 0], &frame[..]].concat();
    net.guest_sends_raw(&raw);
    assert_eq!(net.host.sent.len(), 2, "two queries");
}
