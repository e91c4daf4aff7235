//! Tests of the relay between real sockets, all on this machine's loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

use mio::{Events, Poll};
use nix::sys::socket::MsgFlags;

use super::*;
use crate::io::outbound::OutboundPolicy;
use crate::sys::maker;
use crate::sys::netns::{Kind, own};
use crate::sys::{datagram, sock};
use crate::testing;

struct Rig {
    poll: Poll,
    events: Events,
    relay: Relay,
    sockets: Sockets,
    now: Instant,
    /// Where the relay listens.
    at: SocketAddr,
}

impl Rig {
    fn new(protocol: Protocol, port: u16) -> Self {
        Self::with(protocol, port, Relayed::default())
    }

    fn with(protocol: Protocol, port: u16, relayed: Relayed) -> Self {
        let at = "127.0.0.1:0".parse().unwrap();
        let socket = match protocol {
            Protocol::Tcp => sock::tcp_listen(at, false).unwrap(),
            Protocol::Udp => sock::udp_bind(at, false).unwrap(),
        };
        let at = sock::local_addr(socket.as_fd()).unwrap();
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let outward = Outward { socket, protocol, v6: false, port };
        let relayed = Relayed { outwards: vec![outward], ..relayed };
        let relay = Relay::new(registry, 100, relayed, RawFd::MAX, Instant::ZERO).unwrap();
        let sockets = poll.registry().try_clone().unwrap();
        let sockets = Sockets::new(sockets, 100 + TOKENS, OutboundPolicy::default());
        Self { poll, events: Events::with_capacity(64), relay, sockets, now: Instant::ZERO, at }
    }

    fn turn(&mut self) {
        let wait = if self.relay.is_unfinished() { 0 } else { 5 };
        testing::wait(&mut self.poll, &mut self.events, wait);
        for event in &self.events {
            assert!(self.relay.is_ours(event.token()));
            self.relay.handle_event(event, &mut self.sockets, self.now);
        }
        self.relay.handle_timeout(&mut self.sockets, self.now);
    }

    /// Turns until there is something.
    #[track_caller]
    fn until<T>(&mut self, mut there: impl FnMut(&Relay) -> Option<T>) -> T {
        testing::until("what is waited for", || {
            self.turn();
            there(&self.relay)
        })
    }

    fn connect(&mut self, service: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.at).unwrap();
        service.set_nonblocking(true).unwrap();
        let served = self.until(|_| service.accept().ok()).0;
        for stream in [&client, &served] {
            stream.set_nonblocking(true).unwrap();
        }
        (client, served)
    }

    /// Reads up to the end.
    #[track_caller]
    fn read(&mut self, mut from: &TcpStream) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.until(|_| match from.read_to_end(&mut all) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            other => Some(other),
        })?;
        Ok(all)
    }
}

/// Makes sockets where the test is.
fn maker() -> Option<Maker> {
    drop(crate::sys::link::bring_up("lo"));
    let netns = own(Kind::Network).unwrap();
    Some(Maker::start(netns.as_fd(), None).unwrap())
}

fn client(to: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(to).unwrap();
    client.set_nonblocking(true).unwrap();
    client
}

/// A UDP socket on the loopback, and its port.
fn udp_socket() -> (UdpSocket, u16) {
    drop(crate::sys::link::bring_up("lo"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn service() -> (TcpListener, u16) {
    drop(crate::sys::link::bring_up("lo"));
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    (service, port)
}

#[test]
fn every_source_has_a_token_of_its_own() {
    let registry = Poll::new().unwrap().registry().try_clone().unwrap();
    let watch = Watch { registry, first: 7 };
    let listeners = (0..MAX_OUTWARD).map(Source::Listener);
    let connections = (0..MAX_CONNECTIONS)
        .flat_map(|i| [tcp::End::Client, tcp::End::Server].map(|end| Source::Connection(i, end)));
    let all = listeners.chain(connections).chain((0..MAX_PEERS).map(Source::Peer));
    for (offset, source) in all.enumerate() {
        assert_eq!(watch.token(source), Token(7 + offset));
        assert_eq!(watch.source(Token(7 + offset)), Some(source));
    }
    assert_eq!(watch.source(Token(6)), None);
    assert_eq!(watch.source(Token(7 + TOKENS)), None);
}

#[test]
fn a_half_close_is_passed_on_after_every_byte_before_it() {
    let (service, port) = service();
    let mut rig = Rig::new(Protocol::Tcp, port);
    let (mut client, mut served) = rig.connect(&service);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.read(&served).unwrap(), b"question");
    served.write_all(b"answer").unwrap();
    drop(served);
    assert_eq!(rig.read(&client).unwrap(), b"answer");
    rig.until(|relay| (relay.tcp.count() == 0).then_some(()));
}

#[test]
fn who_does_not_read_holds_the_sender_back() {
    let (service, port) = service();
    let mut rig = Rig::new(Protocol::Tcp, port);
    let (mut client, served) = rig.connect(&service);
    let chunk = [7; 65_536];
    let mut sent = 0;
    let mut silent = 0;
    while silent < 20 {
        rig.turn();
        match client.write(&chunk) {
            Ok(length) => (sent, silent) = (sent + length, 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => silent += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 1 << 28, "nothing holds the sender back");
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.read(&served).unwrap().len(), sent);
}

#[test]
fn a_reset_is_passed_on_both_ways() {
    let (service, port) = service();
    let mut rig = Rig::new(Protocol::Tcp, port);
    for by_client in [true, false] {
        let (client, served) = rig.connect(&service);
        let (breaks, hears) = if by_client { (client, served) } else { (served, client) };
        sock::tcp_set_reset_on_close(breaks.as_fd()).unwrap();
        drop(breaks);
        assert_eq!(rig.read(&hears).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        rig.until(|relay| (relay.tcp.count() == 0).then_some(()));
    }
}

#[test]
fn a_reset_after_an_end_is_noticed() {
    let (service, port) = service();
    let mut rig = Rig::new(Protocol::Tcp, port);
    let (client, served) = rig.connect(&service);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.read(&served).unwrap(), b"");
    sock::tcp_set_reset_on_close(client.as_fd()).unwrap();
    drop(client);
    rig.until(|relay| (relay.tcp.count() == 0).then_some(()));
}

#[test]
fn a_port_that_nobody_serves_resets_its_clients() {
    let (service, port) = service();
    drop(service);
    let mut rig = Rig::new(Protocol::Tcp, port);
    let client = TcpStream::connect(rig.at).unwrap();
    client.set_nonblocking(true).unwrap();
    assert_eq!(rig.read(&client).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(rig.relay.tcp.count(), 0);
}

#[test]
fn a_service_of_the_other_family_is_found() {
    drop(crate::sys::link::bring_up("lo"));
    let Ok(service) = TcpListener::bind("[::1]:0") else { return };
    let mut rig = Rig::new(Protocol::Tcp, service.local_addr().unwrap().port());
    let (mut client, served) = rig.connect(&service);
    client.write_all(b"hello").unwrap();
    drop(client);
    assert_eq!(rig.read(&served).unwrap(), b"hello");
}

#[test]
fn answers_find_their_clients_and_silent_ones_are_forgotten() {
    drop(crate::sys::link::bring_up("lo"));
    let service = UdpSocket::bind("127.0.0.1:0").unwrap();
    service.set_nonblocking(true).unwrap();
    let mut rig = Rig::new(Protocol::Udp, service.local_addr().unwrap().port());
    let clients = [(); 2].map(|()| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(rig.at).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    });
    let mut buffer = [0; 64];
    for (client, word) in clients.iter().zip([b"a", b"b"]) {
        client.send(word).unwrap();
        let (_, from) = rig.until(|_| service.recv_from(&mut buffer).ok());
        assert_eq!(&buffer[..1], word);
        service.send_to(word, from).unwrap();
        rig.until(|_| client.recv(&mut buffer).ok());
        assert_eq!(&buffer[..1], word);
    }
    assert_eq!(rig.relay.udp.count(), 2);
    rig.now = rig.relay.poll_timeout().unwrap() - Duration::from_micros(1);
    rig.turn();
    assert_eq!(rig.relay.udp.count(), 2);
    rig.now += Duration::from_micros(1);
    rig.turn();
    assert_eq!((rig.relay.udp.count(), rig.relay.poll_timeout()), (0, None));
}

#[test]
fn the_client_that_is_silent_longest_gives_way() {
    drop(crate::sys::link::bring_up("lo"));
    let service = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new(Protocol::Udp, service.local_addr().unwrap().port());
    let mut buffer = [0; 8];
    for number in 0..=MAX_PEERS {
        rig.now += Duration::from_millis(1);
        // Ports come again, these addresses do not.
        let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
        let client = UdpSocket::bind((Ipv4Addr::new(127, 1, high, low), 0)).unwrap();
        client.send_to(b"x", rig.at).unwrap();
        service.set_nonblocking(true).unwrap();
        rig.until(|_| service.recv_from(&mut buffer).ok());
    }
    assert_eq!(rig.relay.udp.count(), MAX_PEERS);
}

// A limit that nothing is below stands for a process whose descriptors are all in use.
#[test]
fn a_client_waits_for_descriptors_and_nothing_spins_meanwhile() {
    let (service, port) = service();
    service.set_nonblocking(true).unwrap();
    let mut rig = Rig::new(Protocol::Tcp, port);
    rig.relay.dialer.limit = 0;
    let mut early = client(rig.at);
    early.write_all(b"early").unwrap();
    rig.until(|relay| relay.retry_at);
    assert!(!rig.relay.is_unfinished());
    assert_eq!(rig.relay.poll_timeout(), Some(rig.now + RETRY));
    // The next look is no sooner, and finds the same.
    rig.turn();
    assert!(rig.events.is_empty());
    rig.now += RETRY;
    rig.turn();
    assert_eq!(rig.relay.poll_timeout(), Some(rig.now + RETRY));
    assert_eq!((rig.relay.tcp.count(), rig.relay.waiting.len()), (0, 1));
    assert_eq!(service.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    rig.relay.dialer.limit = RawFd::MAX;
    rig.now += RETRY - Duration::from_micros(1);
    rig.turn();
    assert_eq!(rig.relay.tcp.count(), 0);
    rig.now += Duration::from_micros(1);
    let served = rig.until(|_| service.accept().ok()).0;
    served.set_nonblocking(true).unwrap();
    drop(early);
    assert_eq!(rig.read(&served).unwrap(), b"early");
    assert_eq!((rig.relay.retry_at, rig.relay.waiting.len()), (None, 0));
}

#[test]
fn a_connection_that_ends_makes_room_for_who_waits() {
    let (service, port) = service();
    let mut rig = Rig::new(Protocol::Tcp, port);
    let (first, served) = rig.connect(&service);
    rig.relay.dialer.limit = 0;
    let _second = client(rig.at);
    rig.until(|relay| relay.retry_at);
    rig.relay.dialer.limit = RawFd::MAX;
    // Without waiting for the time to look again.
    drop((first, served));
    rig.until(|_| service.accept().ok());
}

#[test]
fn the_oldest_client_of_udp_makes_room_where_descriptors_are_few() {
    let (service, port) = udp_socket();
    let mut rig = Rig::new(Protocol::Udp, port);
    let mut buffer = [0; 8];
    let clients = [(); 2].map(|()| udp_socket().0);
    clients[0].send_to(b"a", rig.at).unwrap();
    rig.until(|_| service.recv_from(&mut buffer).ok());
    rig.relay.dialer.limit = 0;
    clients[1].send_to(b"b", rig.at).unwrap();
    rig.until(|relay| (relay.udp.count() == 0).then_some(()));
    assert!(!rig.relay.is_unfinished());
    rig.relay.dialer.limit = RawFd::MAX;
    clients[1].send_to(b"c", rig.at).unwrap();
    rig.until(|_| service.recv_from(&mut buffer).ok());
    assert_eq!(&buffer[..1], b"c");
}

/// A rule for ports, at an address that nobody has.
fn following(protocol: Protocol, ip: Ipv4Addr, ports: RangeInclusive<u16>) -> Relayed {
    let rule = Mirror {
        protocol,
        bind: Some(ip.into()),
        interface: None,
        include: vec![ports],
        exclude: Vec::new(),
        freebind: false,
    };
    let tables = crate::io::mirror::open_tables().unwrap();
    Relayed { follows: (vec![rule], tables), maker: maker(), ..Relayed::default() }
}

impl Rig {
    /// Looks for what listens, at the time to do so.
    fn look(&mut self, ours: &[(Protocol, u16)]) {
        self.now = self.relay.poll_timeout().unwrap();
        self.relay.follow(self.now, || ours.iter().copied().collect());
    }

    /// Looks until a port is there: the kernel's table may lack it while other tests change the table.
    #[track_caller]
    fn look_until_there(&mut self, key: (Protocol, u16)) {
        testing::until("the port is there", || {
            self.look(&[]);
            self.relay.listens_inside(key).then_some(())
        });
    }

    /// Looks until a port is gone: children of other tests may have its socket for a moment.
    #[track_caller]
    fn look_until_gone(&mut self, key: (Protocol, u16)) {
        testing::until("the port is gone", || {
            self.look(&[]);
            self.turn();
            (!self.relay.listens_inside(key)).then_some(())
        });
    }
}

#[test]
fn a_port_is_there_while_the_host_listens_on_it() {
    if !maker::may_be_started() {
        return;
    }
    let (service, port) = service();
    let ip = testing::loopback();
    let mut rig = Rig::with(Protocol::Tcp, 1, following(Protocol::Tcp, ip, port..=port));
    let at = SocketAddr::from((ip, port));
    let key = (Protocol::Tcp, port);
    // What leads into the container would lead back.
    rig.look(&[key]);
    assert!(!rig.relay.listens_inside(key));
    assert!(TcpStream::connect(at).is_err());
    rig.look_until_there(key);
    rig.at = at;
    let (mut there, served) = rig.connect(&service);
    // The connection outlives the port.
    drop(service);
    rig.look_until_gone(key);
    rig.until(|_| TcpStream::connect(at).err());
    there.write_all(b"more").unwrap();
    drop(there);
    assert_eq!(rig.read(&served).unwrap(), b"more");
    // Not before it is time.
    rig.relay.follow(rig.now, || panic!("looked"));
}

#[test]
fn a_place_that_is_free_again_serves_another_port() {
    if !maker::may_be_started() {
        return;
    }
    let (first, port) = udp_socket();
    let ip = testing::loopback();
    let mut rig = Rig::with(Protocol::Udp, 1, following(Protocol::Udp, ip, 1..=u16::MAX));
    rig.look_until_there((Protocol::Udp, port));
    let (client, mut buffer) = (udp_socket().0, [0; 8]);
    client.send_to(b"a", (ip, port)).unwrap();
    let (_, relayed) = rig.until(|_| first.recv_from(&mut buffer).ok());
    assert_eq!(rig.relay.udp.count(), 1);
    drop(first);
    rig.look_until_gone((Protocol::Udp, port));
    // Answers to what is gone have no way back.
    assert_eq!(rig.relay.udp.count(), 0);
    let late = udp_socket().0;
    late.send_to(b"late", relayed).ok();
    let (second, port) = udp_socket();
    rig.look_until_there((Protocol::Udp, port));
    client.send_to(b"b", (ip, port)).unwrap();
    let (_, from) = rig.until(|_| second.recv_from(&mut buffer).ok());
    second.send_to(b"B", from).unwrap();
    let (_, from) = rig.until(|_| client.recv_from(&mut buffer).ok());
    assert_eq!((&buffer[..1], from), (&b"B"[..], SocketAddr::from((ip, port))));
}

#[test]
fn a_client_of_the_hosts_is_led_to_the_containers_loopback() {
    if !maker::may_be_started() {
        return;
    }
    let (service, port) = service();
    let relayed = Relayed { maker: maker(), to_loopback: true, ..Relayed::default() };
    let mut rig = Rig::with(Protocol::Tcp, 1, relayed);
    let leads = |rig: &Rig, ip: &str| rig.relay.leads_inside(ip.parse().unwrap());
    assert!(leads(&rig, "127.0.0.1") && leads(&rig, "::1") && !leads(&rig, "192.0.2.1"));
    // A client of a published port, accepted.
    let accept = |rig: &mut Rig, v6, port| {
        let published = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(published.local_addr().unwrap());
        let (accepted, _) = published.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        rig.relay.take_client(accepted.into(), v6, port);
        client
    };
    service.set_nonblocking(true).unwrap();
    // The service is of IPv4 alone, and found by the other family too.
    for v6 in [false, true] {
        let mut client = accept(&mut rig, v6, port);
        let served = rig.until(|_| service.accept().ok()).0;
        served.set_nonblocking(true).unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rig.read(&served).unwrap(), b"question");
    }
    drop(service);
    let refused = accept(&mut rig, false, port);
    assert_eq!(rig.read(&refused).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    rig.relay.dialer.limit = 0;
    let starved = accept(&mut rig, false, port);
    assert_eq!(rig.read(&starved).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn datagrams_are_led_to_the_containers_loopback_and_answered_where_they_came() {
    if !maker::may_be_started() {
        return;
    }
    let (service, port) = udp_socket();
    let relayed = Relayed { maker: maker(), to_loopback: true, ..Relayed::default() };
    let mut rig = Rig::with(Protocol::Udp, 1, relayed);
    let published = sock::udp_bind("0.0.0.0:0".parse().unwrap(), false).unwrap();
    let at = sock::local_addr(published.as_fd()).unwrap().port();
    rig.sockets.add_bound(SocketId(3), Protocol::Udp, published).unwrap();
    let (client, mut buffer) = (udp_socket().0, [0; 8]);
    client.connect(("127.0.0.8", at)).unwrap();
    let from = client.local_addr().unwrap();
    let origin = (SocketId(3), "127.0.0.8".parse().ok());
    rig.relay.take_datagram(origin, from, port, b"ask", rig.now);
    let (_, relayed) = rig.until(|_| service.recv_from(&mut buffer).ok());
    service.send_to(b"answer", relayed).unwrap();
    assert_eq!(rig.until(|_| client.recv(&mut buffer).ok()), 6);
    rig.relay.forget(SocketId(4));
    assert_eq!(rig.relay.udp.count(), 1);
    rig.relay.forget(SocketId(3));
    assert_eq!(rig.relay.udp.count(), 0);
}

// `ss -K` of the container's root leaves a listener as this does.
#[test]
fn a_listener_that_is_gone_is_let_go_of() {
    let (_service, port) = service();
    let mut rig = Rig::new(Protocol::Tcp, port);
    let listener = rig.relay.listeners[0].as_ref().unwrap().socket.as_raw_fd();
    nix::sys::socket::shutdown(listener, nix::sys::socket::Shutdown::Read).unwrap();
    rig.until(|relay| relay.listeners[0].is_none().then_some(()));
    assert!(!rig.relay.is_unfinished() && rig.relay.waiting.is_empty());
}

#[test]
fn more_clients_than_one_turn_takes_are_all_served() {
    let (service, port) = service();
    service.set_nonblocking(true).unwrap();
    let mut rig = Rig::new(Protocol::Tcp, port);
    let _clients: Vec<_> = (0..100).map(|_| client(rig.at)).collect();
    let mut served = Vec::new();
    rig.until(|_| {
        served.extend(std::iter::from_fn(|| service.accept().ok()));
        (served.len() == 100).then_some(())
    });
    assert!(!rig.relay.is_unfinished());
}

#[test]
fn datagrams_that_come_together_stay_apart() {
    let (service, port) = udp_socket();
    let mut rig = Rig::new(Protocol::Udp, port);
    let (client, mut buffer) = (udp_socket().0, [0; 64]);
    datagram::send_segments(client.as_fd(), b"aabbc", Some(2), rig.at, None).unwrap();
    for part in [&b"aa"[..], b"bb", b"c"] {
        let length = rig.until(|_| service.recv(&mut buffer).ok());
        assert_eq!(&buffer[..length], part);
    }
}

#[test]
fn what_comes_with_urgent_data_and_after_it_arrives() {
    let (service, port) = service();
    let mut rig = Rig::new(Protocol::Tcp, port);
    for by_client in [true, false] {
        for late in [true, false] {
            let (client, served) = rig.connect(&service);
            let (mut says, hears) = if by_client { (client, served) } else { (served, client) };
            says.write_all(b"a").unwrap();
            nix::sys::socket::send(says.as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
            if late {
                (0..5).for_each(|_| rig.turn());
            }
            says.write_all(b"b").unwrap();
            drop(says);
            assert_eq!(rig.read(&hears).unwrap(), b"a!b", "{by_client} {late}");
        }
    }
}

#[test]
fn answers_before_a_refusal_arrive() {
    let (service, port) = udp_socket();
    let mut rig = Rig::new(Protocol::Udp, port);
    let (client, mut buffer) = (udp_socket().0, [0; 8]);
    client.send_to(b"a", rig.at).unwrap();
    let (_, relayed) = rig.until(|_| service.recv_from(&mut buffer).ok());
    // The relay meets this datagram first, and with it the refusal.
    client.send_to(b"b", rig.at).unwrap();
    for answer in [b"1", b"2"] {
        service.send_to(answer, relayed).unwrap();
    }
    drop(service);
    for answer in [b"1", b"2"] {
        rig.until(|_| client.recv(&mut buffer).ok());
        assert_eq!(&buffer[..1], answer);
    }
}

#[test]
fn an_event_of_who_had_the_place_before_says_nothing_of_the_next() {
    if !maker::may_be_started() {
        return;
    }
    let (service, port) = service();
    let relayed = Relayed { maker: maker(), to_loopback: true, ..Relayed::default() };
    let mut rig = Rig::with(Protocol::Tcp, port, relayed);
    let (gone, served) = rig.connect(&service);
    rig.until(|relay| (relay.tcp.connecting() == 0).then_some(()));
    let published = TcpListener::bind("127.0.0.1:0").unwrap();
    let _next = client(published.local_addr().unwrap());
    let (accepted, _) = published.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    for stream in [&gone, &served] {
        sock::tcp_set_reset_on_close(stream.as_fd()).unwrap();
    }
    drop((gone, served));
    // Both ends have their end to tell, not always at once. The first is the connection's end.
    let mut ends: Vec<Event> = Vec::new();
    testing::until("both ends", || {
        testing::wait(&mut rig.poll, &mut rig.events, 5);
        for event in rig.events.iter().filter(|event| event.is_read_closed()) {
            if ends.iter().all(|end| end.token() != event.token()) {
                ends.push(event.clone());
            }
        }
        (ends.len() == 2).then_some(())
    });
    rig.relay.handle_event(&ends[0], &mut rig.sockets, rig.now);
    rig.relay.take_client(accepted.into(), false, port);
    rig.relay.handle_event(&ends[1], &mut rig.sockets, rig.now);
    assert_eq!(rig.relay.tcp.connecting(), 1);
    rig.until(|relay| (relay.tcp.connecting() == 0).then_some(()));
    rig.until(|_| service.accept().ok());
    assert_eq!(rig.relay.tcp.count(), 1);
}

#[test]
fn what_could_not_be_had_at_first_is_tried_again() {
    if !maker::may_be_started() || TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let (service, port) = service();
    let mut relayed = following(Protocol::Tcp, Ipv4Addr::LOCALHOST, port..=port);
    relayed.follows.0[0].bind = None;
    let mut rig = Rig::with(Protocol::Tcp, 1, relayed);
    // What follows is seen by what is followed here, so the port stays when its service goes.
    let places =
        |rig: &Rig| rig.relay.listeners.iter().flatten().filter(|o| o.port == port).count();
    rig.look_until_there((Protocol::Tcp, port));
    assert_eq!(places(&rig), 1);
    drop(service);
    testing::until("the other family is there", || {
        rig.look(&[]);
        rig.turn();
        (places(&rig) == 2).then_some(())
    });
}
