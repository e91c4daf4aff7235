//! What no honest guest sends: nothing of it panics, reaches the host or piles up.

use std::io::ErrorKind;

use smoltcp::time::Duration;
use smoltcp::wire::checksum::data;

use super::net::{Host, Net, Options, address, guest, server, socket};
use super::packets::{
    ACK, BROADCAST_MAC, Datagram, Dice, FIN, GUEST_MAC, ICMP, PSH, RST, SYN, Segment, ethernet,
    frame_of, icmp, ip, pattern,
};
use crate::config::{HostAccess, Protocol};
use crate::engine::PortId;
use crate::engine::host::{HostEvent, SocketKind};
use crate::engine::stats::{DropReason, Verdict};

const FORBIDDEN: [&str; 14] = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "10.0.2.1",
    "10.0.2.255",
    "240.0.0.1",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "fe80::1",
    "fd72:6e73:6e65::7",
];

#[test]
fn raw_packets_to_the_host_itself_never_reach_it() {
    for host_access in [HostAccess::None, HostAccess::All] {
        for to in FORBIDDEN {
            let mut net =
                Net::new(&Options { host_access: host_access.clone(), ..Options::default() });
            let to = address(to);
            let from = guest(to.is_ipv6(), 40_000);
            let at = |port| std::net::SocketAddr::new(to, port);
            let echo = icmp(from.ip(), to, if to.is_ipv6() { 128 } else { 8 }, 0, b"\0\x01\0\x01");
            for packet in [
                Segment::syn(from, at(22), 1400).packet(),
                Datagram::new(from, at(53), b"x").packet(),
                echo.clone(),
            ] {
                let verdict = net.guest_sends(&packet);
                net.host_opens_nothing();
                assert!(net.host.sent.is_empty());
                // No host may be told about an address that is none, or everybody's (RFC 1122,
                // section 3.2.2).
                let everybody = to == address("10.0.2.255");
                let told = !to.is_unspecified() && !everybody;
                if verdict == Verdict::Refused {
                    net.expect_counters(&[("denied", 1)]);
                } else if everybody {
                    net.expect_counters(&[("drop.broadcast", 1)]);
                } else {
                    assert!(to.is_unspecified(), "{to}: {verdict:?}");
                    let echo = packet == echo && to.is_ipv6();
                    let label = if echo { "drop.unhandled-icmp" } else { "drop.multicast" };
                    net.expect_counters(&[(label, 1)]);
                }
                if told {
                    let error = net.guest_gets_icmp();
                    let expected = if to.is_ipv6() { [1, 1] } else { [3, 13] };
                    assert_eq!(
                        (&error.payload[..2], &error.payload[8..]),
                        (&expected[..], &packet[..])
                    );
                }
                net.guest_gets_nothing();
            }
        }
    }
}

#[test]
fn sources_that_a_guest_cannot_have_are_dropped() {
    for (from, to) in [
        ("192.0.2.77", "198.51.100.1"),
        ("10.0.3.1", "198.51.100.1"),
        ("10.0.2.2", "198.51.100.1"),
        ("10.0.2.3", "198.51.100.1"),
        ("10.0.2.255", "198.51.100.1"),
        ("127.0.0.1", "10.0.2.2"),
        ("0.0.0.0", "198.51.100.1"),
        ("224.0.0.1", "198.51.100.1"),
        ("2001:db8::77", "2001:db8::9"),
        ("fd72:6e73:6e65::2", "2001:db8::9"),
        ("::1", "2001:db8::9"),
        ("fe80::64", "2001:db8::9"),
        ("::", "2001:db8::9"),
    ] {
        let mut net = Net::by_hand();
        let (from, to) = (std::net::SocketAddr::new(address(from), 40_000), address(to));
        let to = std::net::SocketAddr::new(to, 80);
        let syn = Segment::syn(from, to, 1400).packet();
        for packet in [syn, Datagram::new(from, to, b"x").packet()] {
            let verdict = net.guest_sends(&packet);
            net.expect_dropped(verdict, DropReason::SpoofedSource, "spoofed-source");
            net.host_opens_nothing();
        }
    }
}

#[test]
fn groups_are_not_answered() {
    for to in ["224.0.0.251:5353", "239.1.2.3:67", "[ff02::fb]:5353"] {
        let mut net = Net::by_hand();
        let to = socket(to);
        let packet = Datagram::new(guest(to.is_ipv6(), 5_353), to, b"who?").packet();
        let verdict = net.guest_sends(&packet);
        net.expect_dropped(verdict, DropReason::Multicast, "multicast");
        net.host_opens_nothing();
    }
}

#[test]
fn offload_that_does_not_fit_the_packet_is_dropped() {
    let packet = Segment::new(guest(false, 40_000), server(false, 80), ACK, 1, 1);
    let frame = frame_of(&packet.with(&pattern(3_000)).packet());
    let udp = frame_of(&Datagram::new(guest(false, 4_000), server(false, 7), b"x").packet());
    for (header, frame) in [
        ([1, 1, 54, 0, 0, 0, 34, 0, 16, 0], &frame),
        ([1, 4, 54, 0, 100, 0, 34, 0, 16, 0], &frame),
        ([0, 1, 54, 0, 100, 0, 34, 0, 16, 0], &frame),
        ([1, 3, 54, 0, 100, 0, 34, 0, 16, 0], &frame),
        ([1, 0, 54, 0, 0, 0, 33, 0, 16, 0], &frame),
        ([1, 0, 54, 0, 0, 0, 34, 0, 6, 0], &frame),
        ([1, 0, 54, 0, 0, 0, 0xff, 0xff, 16, 0], &frame),
        ([1, 1, 42, 0, 100, 0, 34, 0, 6, 0], &udp),
    ] {
        let mut net = Net::by_hand();
        let verdict = net.guest_sends_raw(&[&header[..], frame].concat());
        net.expect_dropped(verdict, DropReason::BadOffload, "bad-offload");
    }
}

#[test]
fn a_syn_that_smoltcp_does_not_take_leaves_nothing() {
    for (flags, options) in [
        (SYN | FIN, vec![]),
        (SYN, vec![2, 0, 0, 0]),
        (SYN, vec![2, 1, 0, 0]),
        (SYN, vec![3, 2, 0, 0]),
    ] {
        let mut net = Net::by_hand();
        let syn = Segment::syn(guest(false, 40_000), server(false, 80), 1400);
        net.guest_sends(&Segment { flags, options, ..syn }.packet());
        if let Some((host, _)) = net.host.opened.pop_front() {
            net.host_connected(host);
            net.host_closes(host, true);
        }
        net.guest_gets_nothing();
        net.expect_no_flows();
    }
}

#[test]
fn a_syn_that_brings_more_than_headers_is_not_kept() {
    let mut net = Net::by_hand();
    let syn = Segment::syn(guest(false, 40_000), server(false, 80), 1400).with(&[b'A'; 60_000]);
    net.guest_sends(&syn.packet());
    let dump = format!("{:#?}", net.engine);
    let kept = dump.lines().filter(|line| line.trim() == "65,").count();
    assert!(kept < 1_000, "{kept} bytes of a SYN are kept");
}

/// Valid frames of every kind, without a virtio header, to be mutated.
fn valid_frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0x64, 10, 0, 2, 100];
    let arp = [&arp[..], &[0; 6], &[10, 0, 2, 2]].concat();
    frames.push(ethernet(BROADCAST_MAC, GUEST_MAC, 0x0806, &arp));
    for v6 in [false, true] {
        let (from, to) = (guest(v6, 40_000), server(v6, 80));
        let forwarder = socket(if v6 { "[fd72:6e73:6e65::3]:53" } else { "10.0.2.3:53" });
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
        let mut packets = vec![
            Segment::syn(from, to, 1460).packet(),
            Segment::new(from, to, ACK, 1001, 1).with(b"data").packet(),
            Segment::new(from, to, FIN | ACK, 1005, 1).packet(),
            Segment::new(from, to, RST, 1001, 0).packet(),
            Segment::new(from, to, PSH | ACK | SYN, 1001, 5).with(&pattern(700)).packet(),
            Datagram::new(from, to, b"hello").packet(),
            Datagram::new(from, forwarder, query).packet(),
        ];
        packets.extend(Datagram::new(from, to, &pattern(3_000)).fragments(1_280, 77));
        let echo = if v6 { 128 } else { 8 };
        packets.push(icmp(from.ip(), to.ip(), echo, 0, b"\x12\x34\0\x01payload"));
        frames.extend(packets.iter().map(|packet| frame_of(packet)));
    }
    // Neighbour discovery of every type, with its options.
    let (from, to) = (guest(true, 0).ip(), address("fd72:6e73:6e65::2"));
    let option = [&[1, 1][..], &GUEST_MAC].concat();
    let target = [0xfd, 0x72, 0x6e, 0x73, 0x6e, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let prefix = [&[3, 4, 64, 0xc0][..], &[0; 12], &target].concat();
    let mtu = [5, 1, 0, 0, 0, 0, 5, 0xdc];
    for (kind, body) in [
        (133, [&[0; 4], &option[..]].concat()),
        (134, [&[64, 0, 1, 0][..], &[0; 8], &prefix, &mtu, &option].concat()),
        (135, [&[0; 4], &target[..], &option].concat()),
        (136, [&[0x60, 0, 0, 0], &target[..], &option].concat()),
        (137, [&[0; 4], &target[..], &target, &option].concat()),
    ] {
        frames.push(frame_of(&icmp(from, to, kind, 0, &body)));
    }
    // Extension headers before TCP: hop by hop and for the destination.
    let (from, to) = (guest(true, 40_001), server(true, 80));
    let syn = Segment::syn(from, to, 1440).packet();
    for kind in [0, 60] {
        let body = [&[6, 0, 1, 4, 0, 0, 0, 0], &syn[40..]].concat();
        frames.push(frame_of(&ip(from.ip(), to.ip(), kind, &body, None)));
    }
    frames
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Makes the checksums of a mutated frame right again where it still has any, so that more than
/// the checksum sees the mutation.
fn reseal(frame: &mut [u8]) {
    let Some(packet) = frame.get_mut(14..) else { return };
    let (header_len, protocol, addresses) = match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => {
            let len = usize::from(packet[0] & 15) * 4;
            if let Some(header) = packet.get_mut(..len) {
                put(header, 10, 0);
                let value = !data(header);
                put(header, 10, value);
            }
            (len, packet[9], packet[12..20].to_vec())
        }
        Some(6) if packet.len() >= 40 => (40, packet[6], packet[8..40].to_vec()),
        _ => return,
    };
    let at = match protocol {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        _ => return,
    };
    let Some(upper) = packet.get_mut(header_len..) else { return };
    put(upper, at, 0);
    let len = u32::try_from(upper.len()).unwrap().to_be_bytes();
    let pseudo = [&addresses[..], &len, &[0, 0, 0, protocol]].concat();
    let value = if protocol == ICMP { !data(upper) } else { !data(&[&pseudo, &*upper].concat()) };
    put(upper, at, value);
}

fn mutate(frame: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(frame.len().max(1));
        let value = match dice.below(6) {
            0 => {
                frame.truncate(at);
                continue;
            }
            1 => {
                let more = dice.bytes(at.min(64));
                frame.extend(more);
                continue;
            }
            2 => [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
            _ => dice.byte(),
        };
        if let Some(byte) = frame.get_mut(at) {
            *byte = value;
        }
    }
    if dice.below(4) != 0 {
        reseal(frame);
    }
}

/// A virtio header: one that offloads nothing, one that offloads TCP, or anything.
fn virtio_header(frame: &[u8], dice: &mut Dice) -> Vec<u8> {
    let v6 = frame.get(14).is_some_and(|byte| byte >> 4 == 6);
    match dice.below(6) {
        0 => dice.bytes(10),
        1 => {
            let start = if v6 { 54 } else { 34 };
            vec![1, [0, 1, 4][dice.below(3)], start + 20, 0, 100, 0, start, 0, 16, 0]
        }
        _ => vec![0; 10],
    }
}

/// Something happens to one of the host's sockets.
fn disturb_host(net: &mut Net, dice: &mut Dice) {
    let Host { streams, datagrams, .. } = &net.host;
    let sockets: Vec<_> = streams.keys().chain(datagrams.keys()).copied().collect();
    let Some(&socket) = sockets.get(dice.below(sockets.len().max(1))) else { return };
    match dice.below(8) {
        0 => net.host_event(socket, HostEvent::Connected),
        1 => net.host_event(socket, HostEvent::Failed(ErrorKind::HostUnreachable)),
        2 => net
            .host_event(socket, HostEvent::Unsent { to: None, error: ErrorKind::PermissionDenied }),
        3 => {
            let payload = dice.bytes(100);
            net.host_gets(socket, server(dice.below(2) == 0, 80), &payload);
        }
        4 => {
            if let Some(stream) = net.host.streams.get_mut(&socket) {
                stream.to_read.extend(pattern(100));
                stream.end |= dice.below(3) == 0;
                net.stream_ready(socket);
            }
        }
        _ => {}
    }
}

fn fuzz(seed: u64, vnet: bool) {
    let mut dice = Dice::new(seed);
    let mtu = [1280, 1500, 65_520][dice.below(3)];
    let options = Options { mtu, vnet, host_access: HostAccess::All, ..Options::default() };
    let mut net = Net::new(&options);
    net.set_resolvers(&["192.0.2.53:53", "[2001:db8::53]:53"]);
    let listener = net.publish(Protocol::Tcp, 80);
    let frames = valid_frames();
    for step in 0..1_000 {
        let mut frame = frames[dice.below(frames.len())].clone();
        match dice.below(10) {
            0 => {
                let len = dice.below(2_000);
                frame = dice.bytes(len);
            }
            1 => {}
            _ => mutate(&mut frame, &mut dice),
        }
        if vnet {
            let header = virtio_header(&frame, &mut dice);
            frame.splice(..0, header);
        }
        net.engine.handle_frame(PortId(0), &mut frame, net.now);
        net.settle();
        disturb_host(&mut net, &mut dice);
        if dice.below(50) == 0 {
            net.accept(listener, server(dice.below(2) == 0, 5_000));
        }
        if step % 16 == 0 {
            net.pass(Duration::from_millis(u64::from(dice.byte()) * 8));
            net.forget();
        }
    }
    assert_eq!(net.engine.stats().flow_panics, 0, "smoltcp panicked\n{}", net.engine);
    // Whatever it was, time ends it: the longest is a silent guest's connection.
    net.pass(Duration::from_secs(8_000));
    net.forget();
    net.expect_no_flows();
}

#[test]
fn frames_of_any_bytes_never_panic_and_leave_nothing_behind() {
    for seed in 1..=40 {
        fuzz(seed, seed % 2 == 0);
    }
}

#[test]
fn an_endless_stream_of_stray_frames_takes_no_memory() {
    let mut net = Net::by_hand();
    for id in 0..5_000 {
        let port = 1_024 + id;
        let (from, to) = (guest(false, port), server(false, 80));
        net.guest_sends(&Segment::new(from, to, ACK, 1, 1).packet());
        net.guest_sends(&Datagram::new(from, socket("10.0.2.2:9"), b"x").packet());
        let fragments = Datagram::new(from, to, &pattern(3_000)).fragments(1_280, id);
        assert_eq!(net.guest_sends(&fragments[1]), Verdict::Held);
        assert_eq!(net.guest_gets_all().len(), 2);
    }
    net.host_opens_nothing();
    net.expect_counters(&[("limit.fragments", 5_000 - 32)]);
    assert!(net.host.sent.is_empty());
    // The pool of fragments has room for honest ones.
    let datagram = Datagram::new(guest(false, 4_000), server(false, 7), &pattern(3_000));
    for fragment in datagram.fragments(1_280, 9_999) {
        net.guest_sends(&fragment);
    }
    net.host_opens(SocketKind::Udp { v6: false });
    assert_eq!(net.host_sends().payload, pattern(3_000));
}
