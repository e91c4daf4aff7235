//! DNS at an address of the container's own loopback. Row D12.

use std::io::{self, ErrorKind};

use smoltcp::time::Duration;

use super::net::{Net, Options, address, socket};
use crate::config::{Lease, Sharing};
use crate::engine::PortId;
use crate::engine::dns::PortNames;
use crate::engine::host::{HostEvent, HostStream, SocketId, SocketKind};

const SERVER: &str = "192.0.2.53:53";
const CLIENT: &str = "127.0.0.1:4000";

fn query(id: u16, name: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0", name, b"\0\x01\0\x01"].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn answer(sent: &[u8]) -> Vec<u8> {
    let mut message = sent.to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message
}

const WEB: &[u8] = b"\x03web\0";
const OUTSIDE: &[u8] = b"\x01a\x04test\0";

fn net() -> (Net, SocketId) {
    let mut net = Net::by_hand();
    net.set_resolvers(&[SERVER]);
    let names = PortNames {
        addresses: vec![address("10.0.2.100")],
        name: Some("web".parse().unwrap()),
        ..PortNames::default()
    };
    net.engine.set_names(PortId(0), names, net.now);
    let listener = net.engine.listen_dns(PortId(0));
    (net, listener)
}

#[test]
fn a_datagram_is_answered_to_whom_it_came_from() {
    let (mut net, listener) = net();
    net.host_gets(listener, socket(CLIENT), &query(7, WEB));
    let sent = net.host_sends();
    assert_eq!((sent.socket, sent.to), (listener, Some(socket(CLIENT))));
    assert!(sent.payload.starts_with(&[0, 7]) && sent.payload.ends_with(&[10, 0, 2, 100]));
    net.host_gets(listener, socket(CLIENT), &query(8, OUTSIDE));
    let opened = net.host_opens(SocketKind::UdpConnect(socket(SERVER)));
    let asked = net.host_sends().payload;
    net.host_gets(opened, socket(SERVER), &answer(&asked));
    let sent = net.host_sends();
    assert_eq!((sent.socket, sent.to), (listener, Some(socket(CLIENT))));
    assert_eq!(sent.payload, answer(&query(8, OUTSIDE)));
    net.guest_gets_nothing();
}

#[test]
fn a_connection_is_answered_and_ends_with_its_client() {
    let (mut net, listener) = net();
    let stream = net.accept(listener, socket(CLIENT)).unwrap();
    net.peer_sends(stream, &framed(&query(7, WEB))[..5]);
    assert!(net.stream(stream).received.is_empty());
    net.peer_sends(stream, &framed(&query(7, WEB))[5..]);
    let received = std::mem::take(&mut net.stream(stream).received);
    assert!(received[2..].starts_with(&[0, 7]) && received.ends_with(&[10, 0, 2, 100]));
    net.peer_sends(stream, &framed(&query(8, OUTSIDE)));
    net.peer_finishes(stream);
    let opened = net.host_opens(SocketKind::UdpConnect(socket(SERVER)));
    let asked = net.host_sends();
    let (from, payload) = (socket(SERVER), &answer(&asked.payload)[..]);
    net.host_event(opened, HostEvent::Datagram { from, to: None, payload });
    let closed: Vec<_> = net.host.closed.drain(..).collect();
    assert_eq!(closed, [(opened, false), (stream, false)], "the end behind the last answer");
    net.expect_no_flows();
}

#[test]
fn a_silent_connection_is_let_go_and_there_are_never_too_many() {
    let (mut net, listener) = net();
    let streams: Vec<_> =
        (0..64).map(|_| net.accept(listener, socket(CLIENT)).expect("room")).collect();
    assert_eq!(net.accept(listener, socket(CLIENT)), None);
    net.peer_sends(streams[0], &framed(&query(7, WEB))[..5]);
    net.pass(Duration::from_secs(30));
    assert_eq!(net.host.closed.len(), 64);
    assert!(net.accept(listener, socket(CLIENT)).is_some());
}

/// Sends a query, a length that no query has, and then as much as anybody reads.
struct Endless {
    first: Vec<u8>,
    taken: usize,
}

impl HostStream for Endless {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.first.len());
        if length > 0 {
            buffer[..length].copy_from_slice(&self.first[..length]);
            self.first.drain(..length);
            return Ok(length);
        }
        self.taken += buffer.len();
        assert!(self.taken < 1 << 20, "it is read for as long as it sends");
        Ok(buffer.len())
    }

    fn send(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn finish(&mut self) {}
}

#[test]
fn a_client_that_never_stops_sending_holds_nobody_up() {
    let (mut net, listener) = net();
    let stream = net.accept(listener, socket(CLIENT)).unwrap();
    let first = [framed(&query(8, OUTSIDE)), vec![0xff, 0xff]].concat();
    let mut endless = Endless { first, taken: 0 };
    // The query is under way, so the connection stays for its answer.
    for _ in 0..3 {
        net.engine.relay(stream, &mut endless, net.now);
        net.settle();
    }
    net.host_opens(SocketKind::UdpConnect(socket(SERVER)));
    assert_eq!(net.host.closed.len(), 0);
}

#[test]
fn its_sockets_go_with_the_container() {
    let sharing = Sharing::Shared;
    let mut net = Net::new(&Options { sharing, ..Options::default() });
    let lease = Lease::new([10, 0, 2, 101].into(), None);
    let other = net.engine.add_port(lease, true, net.now).unwrap();
    net.forget();
    net.set_resolvers(&[SERVER]);
    let listener = net.engine.listen_dns(other);
    net.host.datagrams.insert(listener, SocketKind::Udp { v6: false });
    let stream = net.accept(listener, socket(CLIENT)).unwrap();
    net.host_gets(listener, socket(CLIENT), &query(8, OUTSIDE));
    let opened = net.host_opens(SocketKind::UdpConnect(socket(SERVER)));
    net.engine.remove_port(other, net.now);
    net.settle();
    let mut closed: Vec<_> = net.host.closed.drain(..).map(|(socket, _)| socket).collect();
    closed.sort_unstable();
    let mut expected = vec![listener, stream, opened];
    expected.sort_unstable();
    assert_eq!(closed, expected);
    net.expect_no_flows();
}
