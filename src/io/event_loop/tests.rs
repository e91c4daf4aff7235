//! The loop with several containers, whose TAPs are socket pairs that keep frames apart.

use std::io::Write as _;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};

use super::sockets::PER_SOCKET;
use super::*;
use crate::config::{HostAccess, Lease, Sharing};
use crate::engine::stats::DropReason;
use crate::engine::{Destination, PortId};
use crate::io::tap::MAX_WAITING;
use crate::sys::sock;
use crate::sys::tun::Tap;
use crate::testing;

/// The other end of a container's TAP, and what keeps the container alive.
struct Guest {
    id: PortId,
    lease: Lease,
    wire: OwnedFd,
    alive: UnixStream,
}

struct Lab {
    server: Server,
    events: Events,
}

impl Lab {
    fn new() -> Self {
        Self::with(config::Network { sharing: Sharing::Shared, ..config::Network::default() })
    }

    fn with(config: config::Network) -> Self {
        let network = Network {
            config,
            containers: Vec::new(),
            published: Vec::new(),
            interfaces: None,
            resolvers: HostResolvers::default(),
            pidfd: None,
            watch_path: None,
            exits: Vec::new(),
            signals: Signals::new().unwrap(),
            forward_signals: false,
            manager: Manager::default(),
            api: None,
            control: None,
            record: None,
            egress: None,
            outbound: OutboundPolicy::default(),
            underlay: None,
            mirrors: (Vec::new(), Vec::new()),
            relayed: relay::Relayed::default(),
        };
        Self { server: Server::new(network).unwrap(), events: Events::with_capacity(64) }
    }

    /// A container at the address with that last number comes; its pidfd is a socket.
    fn attach(&mut self, last: u8) -> Guest {
        let kind = SockType::SeqPacket;
        let (ours, wire) =
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_NONBLOCK).unwrap();
        setsockopt(&ours, sockopt::SndBuf, &65_536).unwrap();
        let (pidfd, alive) = UnixStream::pair().unwrap();
        let lease = Lease::new(Ipv4Addr::new(10, 0, 2, last), None);
        let tap = Tap::from_fd(ours, false).unwrap();
        let container =
            Container { tap, lease, pidfd: Some(pidfd.into()), pcap: None, dns: Vec::new() };
        let now = self.server.clock.now();
        let Server { ports, engine, sockets, .. } = &mut self.server;
        let id = ports.attach(container, &mut Place { engine, sockets }, now).unwrap();
        Guest { id, lease, wire, alive }
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
    /// The container ends.
    fn ends(&self) {
        self.alive.shutdown(Shutdown::Both).unwrap();
    }

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

/// A TCP segment that a guest gets.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    port: u16,
    next: TcpSeqNumber,
    bare_ack: bool,
    fin: bool,
    rst: bool,
}

impl Guest {
    /// Sends a segment to a service of the host's, from a port of the same number.
    fn says(&self, port: u16, control: TcpControl, ack: Option<TcpSeqNumber>, payload: &[u8]) {
        let begin = TcpSeqNumber(1_000);
        let tcp = TcpRepr {
            src_port: port,
            dst_port: port,
            control,
            seq_number: if control == TcpControl::Syn { begin } else { begin + 1 },
            ack_number: ack,
            window_len: 60_000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let (source, gateway) = (self.lease.v4, Ipv4Addr::new(10, 0, 2, 2));
        let ip = Ipv4Repr {
            src_addr: source,
            dst_addr: gateway,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let sums = ChecksumCapabilities::default();
        let mut frame = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
        let (ethernet, packet) = frame.split_at_mut(14);
        ethernet[..6].fill(0xff);
        ethernet[6..12].copy_from_slice(&self.lease.mac.0);
        ethernet[12..].copy_from_slice(&[8, 0]);
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut *packet), &sums);
        let (source, gateway) = (IpAddress::from(source), IpAddress::from(gateway));
        let mut segment = TcpPacket::new_unchecked(&mut packet[ip.buffer_len()..]);
        tcp.emit(&mut segment, &source, &gateway, &sums);
        send(self.wire.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
    }

    /// The segments that have come.
    fn hears(&self) -> Vec<Heard> {
        let (mut heard, mut frame) = (Vec::new(), [0; 2000]);
        while let Ok(length @ 1..) = recv(self.wire.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            let ethernet = EthernetFrame::new_unchecked(&frame[..length]);
            let Ok(ip) = Ipv4Packet::new_checked(ethernet.payload()) else { continue };
            if ip.next_header() != IpProtocol::Tcp {
                continue;
            }
            let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
            heard.push(Heard {
                port: tcp.dst_port(),
                next: tcp.seq_number() + tcp.segment_len(),
                bare_ack: tcp.segment_len() == 0 && !tcp.rst(),
                fin: tcp.fin(),
                rst: tcp.rst(),
            });
        }
        heard
    }
}

impl Lab {
    /// What a guest hears until one of it is what is waited for.
    fn wait_for(&mut self, guest: &Guest, port: u16, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let limit = self.server.clock.now() + smoltcp::time::Duration::from_secs(60);
        while self.server.clock.now() < limit {
            self.turn();
            let mut heard = guest.hears().into_iter();
            if let Some(found) = heard.find(|heard| heard.port == port && wanted(heard)) {
                return found;
            }
        }
        panic!("nothing came");
    }

    /// A connection to a service of the host's that has ended it.
    fn ended_connection(&mut self, guest: &Guest) -> (u16, TcpSeqNumber) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        guest.says(port, TcpControl::Syn, None, &[]);
        let next = self.wait_for(guest, port, |heard| !heard.rst).next;
        guest.says(port, TcpControl::None, Some(next), &[]);
        let (stream, _): (TcpStream, _) = listener.accept().unwrap();
        drop(stream);
        (port, self.wait_for(guest, port, |heard| heard.fin).next)
    }
}

// Linux answers what comes for a socket that is closed within the call that sends it.
#[test]
fn an_answer_that_comes_at_once_takes_the_place_of_an_acknowledgement() {
    let host_access = HostAccess::All;
    let mut lab = Lab::with(config::Network { host_access, ..config::Network::default() });
    let guest = lab.attach(100);
    // Another job may keep the kernel from it. Acknowledged before the answer is looked for is each.
    testing::until("an answer at once", || {
        let connections = [lab.ended_connection(&guest), lab.ended_connection(&guest)];
        for (port, next) in connections {
            guest.says(port, TcpControl::None, Some(next), b"too late");
        }
        lab.turn();
        let heard = guest.hears();
        let at_once = |port: u16| heard.iter().any(|heard| heard.port == port && heard.rst);
        (connections.iter().all(|(port, _)| at_once(*port))
            && !heard.iter().any(|heard| heard.bare_ack))
        .then_some(())
    });
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
    a.ends();
    lab.turns(2);
    assert_eq!(b.gets(), (0..50).collect::<Vec<_>>());
    assert!(lab.server.engine.ports().all(|(port, ..)| port != a.id));
    assert!(b.sends(&c, 9));
    lab.turns(2);
    assert_eq!(c.gets(), [9]);
    // The address is free again, and not the same port yet.
    let next = lab.attach(100);
    assert_eq!(next.lease, a.lease);
    assert_ne!(next.id, a.id);
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
    let mut arrived = sink.gets();
    arrived.sort_unstable();
    // Nothing else is behind those of the other one.
    let read = u16::try_from(arrived.len()).unwrap() - 50;
    assert_eq!(arrived, (0..read).chain(1_000..1_050).collect::<Vec<_>>());
    let left = lab.server.timeout().unwrap();
    let passed = lab.server.clock.now() - now;
    // One at once, and what these turns took on a machine that is busy with other things.
    assert!((1..=1 + passed.secs()).contains(&u64::from(read)), "{read} in {passed}");
    assert!(passed + left.into() > smoltcp::time::Duration::from_millis(500), "{left:?}");
    // What it has said before it ends is not held back.
    limited.ends();
    lab.turns(2);
    assert_eq!(sink.gets(), (read..50).collect::<Vec<_>>());
    assert_eq!(lab.server.ports.poll_timeout(), None);
}

#[test]
fn a_container_that_cannot_be_added_leaves_nothing_behind() {
    let mut lab = Lab::new();
    let a = lab.attach(100);
    let (ours, _wire) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
    let directory = testing::scratch("loop");
    let mut regular = std::fs::File::create(directory.join("regular")).unwrap();
    writeln!(regular, "epoll takes no regular file").unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    let lease = Lease::new(Ipv4Addr::new(10, 0, 2, 101), None);
    let now = lab.server.clock.now();
    let Server { ports, engine, sockets, .. } = &mut lab.server;
    let tap = Tap::from_fd(ours, false).unwrap();
    let container =
        Container { tap, lease, pidfd: Some(regular.into()), pcap: None, dns: Vec::new() };
    let error = ports.attach(container, &mut Place { engine, sockets }, now).unwrap_err();
    assert_eq!(error.to_string(), "cannot watch the container");
    assert_eq!(engine.ports().map(|(id, ..)| id).collect::<Vec<_>>(), [a.id]);
    let b = lab.attach(101);
    assert!(a.sends(&b, 5));
    lab.turns(2);
    assert_eq!(b.gets(), [5]);
}

// `ss -K` of the container's root leaves a listener in its namespace as this does.
#[test]
fn a_listener_that_is_gone_makes_no_work() {
    let mut lab = Lab::new();
    let a = lab.attach(100);
    let socket = sock::tcp_listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let (id, fd) = (lab.server.engine.listen_dns(a.id), socket.as_raw_fd());
    lab.server.sockets.add_bound(id, config::Protocol::Tcp, socket).unwrap();
    nix::sys::socket::shutdown(fd, nix::sys::socket::Shutdown::Read).unwrap();
    lab.turns(3);
    assert!(lab.server.unfinished.is_empty());
}

#[test]
fn descriptors_that_another_process_keeps_tell_nothing_of_a_later_container() {
    let mut lab = Lab::new();
    let Guest { id, wire, alive, .. } = lab.attach(100);
    lab.turns(3);
    // Whoever handed them in may keep them.
    let port = lab.server.ports.get_mut(id).unwrap();
    let _kept = port.pidfd.as_ref().unwrap().try_clone().unwrap();
    let now = lab.server.clock.now();
    lab.server.ports.detach(&mut lab.server.engine, id, now);
    alive.shutdown(Shutdown::Both).unwrap();
    drop((alive, wire));
    // Of one that cannot be added as well.
    let (ours, wire) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK)
            .unwrap();
    let _kept_too = ours.try_clone().unwrap();
    let regular = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let container = Container {
        tap: Tap::from_fd(ours, false).unwrap(),
        lease: Lease::new(Ipv4Addr::new(10, 0, 2, 101), None),
        pidfd: Some(regular.into()),
        pcap: None,
        dns: Vec::new(),
    };
    let Server { ports, engine, sockets, .. } = &mut lab.server;
    ports.attach(container, &mut Place { engine, sockets }, now).unwrap_err();
    send(wire.as_raw_fd(), b"late", MsgFlags::empty()).unwrap();
    lab.server.poll.poll(&mut lab.events, Some(Duration::ZERO)).unwrap();
    let of_ports = |event: &Event| lab.server.ports.source_of(event.token()).is_some();
    assert!(!lab.events.iter().any(of_ports), "{:?}", lab.events);
}

impl Lab {
    /// Publishes a UDP port of a container on the host's loopback. Returns where it is.
    fn publish(&mut self, guest: &Guest, port: u16) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        setsockopt(&socket, sockopt::RcvBuf, &(1 << 20)).unwrap();
        let at = socket.local_addr().unwrap();
        let to = vec![Destination { port: guest.id, address: None }];
        let id = self.server.engine.publish(config::Protocol::Udp, to, port);
        self.server.sockets.add_bound(id, config::Protocol::Udp, socket.into()).unwrap();
        at
    }
}

#[test]
fn a_socket_with_much_to_read_has_one_share_of_each_turn() {
    let mut lab = Lab::new();
    let [a, b] = [100, 101].map(|last| lab.attach(last));
    lab.turns(3);
    let (busy, quiet) = (lab.publish(&a, 53), lab.publish(&b, 53));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let before = lab.server.engine.stats().tx_frames;
    for _ in 0..250 {
        client.send_to(b"?", busy).unwrap();
    }
    // Its frame is one of a thousand bytes.
    client.send_to(&[0; 958], quiet).unwrap();
    lab.turn();
    assert_eq!(b.gets(), [client.local_addr().unwrap().port()], "in the same turn");
    let share = PER_SOCKET as u64..(PER_SOCKET + PER_CALL) as u64;
    let mut carried = lab.server.engine.stats().tx_frames - before - 1;
    assert!(share.contains(&carried), "{carried}");
    for event in [false, true].into_iter().cycle() {
        if carried >= 250 {
            break;
        }
        // It is to be read on, and there may be an event of it as well.
        if event {
            client.send_to(b"?", busy).unwrap();
        }
        let before = lab.server.engine.stats().tx_frames;
        lab.turn();
        let now = lab.server.engine.stats().tx_frames - before;
        assert!(now > 0 && now < share.end, "{now}");
        carried += now;
    }
}

#[test]
fn what_is_asked_for_last_in_a_turn_is_carried_out_before_it_sleeps() {
    let mut lab = Lab::new();
    lab.turns(3);
    assert_ne!(lab.server.timeout(), Some(Duration::ZERO));
    // As a connection does that ends with the frame that was just written.
    let socket = lab.server.engine.publish(config::Protocol::Udp, Vec::new(), 53);
    lab.server.engine.unpublish(socket);
    assert_eq!(lab.server.timeout(), Some(Duration::ZERO));
    lab.turn();
    assert_ne!(lab.server.timeout(), Some(Duration::ZERO));
}
