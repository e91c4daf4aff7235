//! Tests of the relay between real sockets, all on this machine's loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration as Patience;

use mio::{Events, Poll};

use super::*;
use crate::sys::sock;

struct Rig {
    poll: Poll,
    events: Events,
    relay: Relay,
    now: Instant,
    /// Where the relay listens.
    at: SocketAddr,
}

impl Rig {
    fn new(protocol: Protocol, port: u16) -> Self {
        let at = "127.0.0.1:0".parse().unwrap();
        let socket = match protocol {
            Protocol::Tcp => sock::tcp_listen(at, false).unwrap(),
            Protocol::Udp => sock::udp_bind(at, false).unwrap(),
        };
        let at = sock::local_addr(socket.as_fd()).unwrap();
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let outward = Outward { socket, protocol, v6: false, port };
        let relay = Relay::new(registry, 100, vec![outward]).unwrap();
        Self { poll, events: Events::with_capacity(64), relay, now: Instant::ZERO, at }
    }

    fn turn(&mut self) {
        let wait = if self.relay.is_unfinished() { 0 } else { 5 };
        self.poll.poll(&mut self.events, Some(Patience::from_millis(wait))).unwrap();
        for event in &self.events {
            assert!(self.relay.is_ours(event.token()));
            self.relay.handle_event(event, self.now);
        }
        self.relay.handle_timeout(self.now);
    }

    /// Turns until there is something.
    #[track_caller]
    fn until<T>(&mut self, mut there: impl FnMut(&Relay) -> Option<T>) -> T {
        for _ in 0..1000 {
            self.turn();
            if let Some(found) = there(&self.relay) {
                return found;
            }
        }
        panic!("nothing within 1000 turns");
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
        .flat_map(|i| [tcp::End::Inside, tcp::End::Host].map(|end| Source::Connection(i, end)));
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
