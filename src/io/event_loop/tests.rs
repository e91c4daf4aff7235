//! The loop with several containers, whose TAPs are socket pairs that keep frames apart.

use std::io::{PipeReader, PipeWriter, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};

use super::*;
use crate::config::{Lease, Sharing};
use crate::engine::PortId;
use crate::engine::stats::DropReason;
use crate::io::tap::MAX_WAITING;
use crate::sys::tun::Tap;

/// The other end of a container's TAP, and what keeps the container alive.
struct Guest {
    id: PortId,
    lease: Lease,
    wire: OwnedFd,
    _alive: PipeWriter,
}

struct Lab {
    server: Server,
    events: Events,
}

impl Lab {
    fn new() -> Self {
        let config = config::Network { sharing: Sharing::Shared, ..config::Network::default() };
        let network = Network {
            config,
            containers: Vec::new(),
            published: Vec::new(),
            interfaces: None,
            resolvers: HostResolvers::default(),
            pidfd: None,
            watch_path: None,
            exit: None,
            signals: Signals::new().unwrap(),
            forward_signals: false,
            manager: Manager::default(),
            api: None,
            control: None,
            record: None,
            outbound: OutboundPolicy::default(),
            mirrors: (Vec::new(), Vec::new()),
            relayed: relay::Relayed::default(),
        };
        Self { server: Server::new(network).unwrap(), events: Events::with_capacity(64) }
    }

    /// A container at the address with that last number comes; its pidfd is a pipe.
    fn attach(&mut self, last: u8) -> Guest {
        let kind = SockType::SeqPacket;
        let (ours, wire) =
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_NONBLOCK).unwrap();
        setsockopt(&ours, sockopt::SndBuf, &65_536).unwrap();
        let (pidfd, alive): (PipeReader, PipeWriter) = io::pipe().unwrap();
        let lease = Lease::new(Ipv4Addr::new(10, 0, 2, last), None);
        let tap = Tap::from_fd(ours, false).unwrap();
        let container =
            Container { tap, lease, pidfd: Some(pidfd.into()), pcap: None, dns: Vec::new() };
        let now = self.server.clock.now();
        let id = self.server.ports.attach(&mut self.server.engine, container, now).unwrap();
        Guest { id, lease, wire, _alive: alive }
    }

    fn turn(&mut self) {
        let ended = self.server.turn(&mut self.events, Some(Duration::ZERO)).unwrap();
        assert_eq!(ended, None, "one container's end is not the network's");
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }
}

impl Guest {
    /// Sends a frame of a thousand bytes with a number.
    fn sends(&self, to: &Self, number: u16) -> bool {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 253, 0, 0];
        packet[2..4].copy_from_slice(&986_u16.to_be_bytes());
        packet.extend(self.lease.v4.octets());
        packet.extend(to.lease.v4.octets());
        let sum = !smoltcp::wire::checksum::data(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(number.to_be_bytes());
        packet.resize(986, 0);
        let frame = [&to.lease.mac.0[..], &self.lease.mac.0, &[8, 0], &packet].concat();
        match send(self.wire.as_raw_fd(), &frame, MsgFlags::empty()) {
            Ok(length) => length == frame.len(),
            Err(Errno::EAGAIN) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// The numbers of the frames that have come.
    fn gets(&self) -> Vec<u16> {
        let mut numbers = Vec::new();
        let mut frame = [0; 2000];
        while let Ok(length @ 1..) = recv(self.wire.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            // Announcements of the gateway are shorter.
            if length == 1000 {
                numbers.push(u16::from_be_bytes([frame[34], frame[35]]));
            }
        }
        numbers
    }
}

#[test]
fn a_container_that_takes_nothing_keeps_nothing_from_the_others() {
    let mut lab = Lab::new();
    let [a, dead, c] = [100, 101, 102].map(|last| lab.attach(last));
    let mut arrived = Vec::new();
    for number in 0..4_000 {
        assert!(a.sends(&dead, number), "whoever sends to it is not held up");
        assert!(a.sends(&c, number));
        lab.turn();
        arrived.extend(c.gets());
    }
    assert_eq!(arrived, (0..4_000).collect::<Vec<_>>());
    let lost = lab.server.engine.stats().dropped(DropReason::QueueFull);
    let waiting = u64::try_from(MAX_WAITING / 1000).unwrap();
    assert!(lost > 2_000 && lost < 4_000 - waiting, "{lost} lost, {waiting} wait");
    // It wakes up, and gets what waited in order, then what comes.
    let mut late = Vec::new();
    for _ in 0..2_000 {
        late.extend(dead.gets());
        lab.turn();
    }
    let kept = 4_000 - u16::try_from(lost).unwrap();
    assert_eq!(late, (0..kept).collect::<Vec<_>>());
    a.sends(&dead, 7);
    lab.turns(2);
    assert_eq!(dead.gets(), [7]);
}

#[test]
fn a_container_at_full_speed_leaves_the_others_their_turns() {
    let mut lab = Lab::new();
    let [fast, sink, slow, other] = [100, 101, 102, 103].map(|last| lab.attach(last));
    lab.turns(3);
    let mut sent = 0;
    while fast.sends(&sink, 0) {
        sent += 1;
    }
    assert!(sent > 2 * FRAMES_IN, "{sent} frames fit");
    assert!(slow.sends(&other, 1));
    lab.turn();
    assert_eq!(other.gets(), [1], "in the same turn");
    assert_eq!(sink.gets().len(), FRAMES_IN, "a batch, although there is more");
}

#[test]
fn a_container_s_last_words_arrive_and_its_end_is_nobody_else_s() {
    let mut lab = Lab::new();
    let [a, b, c] = [100, 101, 102].map(|last| lab.attach(last));
    lab.turns(3);
    for number in 0..50 {
        assert!(a.sends(&b, number));
    }
    let Guest { id, lease, wire: _wire, _alive } = a;
    drop(_alive);
    lab.turns(2);
    assert_eq!(b.gets(), (0..50).collect::<Vec<_>>());
    assert!(lab.server.engine.ports().all(|(port, ..)| port != id));
    assert!(b.sends(&c, 9));
    lab.turns(2);
    assert_eq!(c.gets(), [9]);
    // The address is free again, and not the same port yet.
    let next = lab.attach(100);
    assert_eq!(next.lease, lease);
    assert_ne!(next.id, id);
    assert!(c.sends(&next, 3));
    lab.turns(2);
    assert_eq!(next.gets(), [3]);
}

// H1
#[test]
fn a_container_with_a_rate_is_read_no_faster_and_the_others_are() {
    let mut lab = Lab::new();
    let [limited, sink, other] = [100, 101, 102].map(|last| lab.attach(last));
    lab.turns(3);
    let now = lab.server.clock.now();
    // A second for each frame.
    lab.server.engine.set_rate(limited.id, "up=8kbit".parse().unwrap(), now);
    for number in 0..50 {
        assert!(limited.sends(&sink, number) && other.sends(&sink, 1_000 + number));
    }
    lab.turns(5);
    let expected: Vec<u16> = std::iter::once(0).chain(1_000..1_050).collect();
    let mut arrived = sink.gets();
    arrived.sort_unstable();
    assert_eq!(arrived, expected);
    assert!(lab.server.timeout().is_some_and(|left| left > Duration::from_millis(500)));
    // What it has said before it ends is not held back.
    drop(limited._alive);
    lab.turns(2);
    assert_eq!(sink.gets(), (1..50).collect::<Vec<_>>());
    assert_eq!(lab.server.ports.poll_timeout(), None);
}

#[test]
fn a_container_that_cannot_be_added_leaves_nothing_behind() {
    let mut lab = Lab::new();
    let a = lab.attach(100);
    let (ours, _wire) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
    let file = std::env::temp_dir().join(format!("rnsnet-loop-{}", std::process::id()));
    let mut regular = std::fs::File::create(&file).unwrap();
    writeln!(regular, "epoll takes no regular file").unwrap();
    std::fs::remove_file(&file).unwrap();
    let lease = Lease::new(Ipv4Addr::new(10, 0, 2, 101), None);
    let now = lab.server.clock.now();
    let Server { ports, engine, .. } = &mut lab.server;
    let tap = Tap::from_fd(ours, false).unwrap();
    let container =
        Container { tap, lease, pidfd: Some(regular.into()), pcap: None, dns: Vec::new() };
    let error = ports.attach(engine, container, now).unwrap_err();
    assert_eq!(error.to_string(), "cannot watch the container");
    assert_eq!(engine.ports().map(|(id, ..)| id).collect::<Vec<_>>(), [a.id]);
    let b = lab.attach(101);
    assert!(a.sends(&b, 5));
    lab.turns(2);
    assert_eq!(b.gets(), [5]);
}
