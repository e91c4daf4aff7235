//! Several machines behind one TAP: a container that has bridged its interface to others.

use std::net::SocketAddr;

use super::net::{Net, address, guest, server, socket};
use super::packets::{
    BROADCAST_MAC, Datagram, GATEWAY_MAC, GUEST_MAC, SYN, Segment, ethernet, icmp, receive_at,
};
use crate::config::Protocol;
use crate::engine::PortId;
use crate::engine::host::SocketKind;
use crate::engine::stats::Verdict;

/// The hardware address of a machine that the container has bridged.
const INNER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x65];

/// An address of that machine.
fn inner(v6: bool, port: u16) -> SocketAddr {
    let ip = if v6 { "fd72:6e73:6e65::50" } else { "10.0.2.50" };
    SocketAddr::new(address(ip), port)
}

fn sends(net: &mut Net, mac: [u8; 6], packet: &[u8]) {
    let kind = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    net.guest_sends_frame(&ethernet(GATEWAY_MAC, mac, kind, packet));
}

/// An ARP packet to everybody.
fn says(net: &mut Net, mac: [u8; 6], operation: u8, sender: [u8; 4], target: [u8; 4]) -> Verdict {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let body = [&head[..], &mac, &sender, &[0; 6], &target].concat();
    net.guest_sends_frame(&ethernet(BROADCAST_MAC, mac, 0x0806, &body))
}

/// The packets for the link, which must be for this machine or a group.
fn gets(net: &mut Net, mac: [u8; 6]) -> Vec<Vec<u8>> {
    let frames = net.frames_at(PortId(0));
    frames.iter().flat_map(|frame| receive_at(mac, frame, true, 1500)).collect()
}

#[test]
fn answers_go_to_the_machine_that_asked_whoever_spoke_last() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let to = server(v6, 9);
        let mut flow = |mac, from| {
            sends(&mut net, mac, &Datagram::new(from, to, b"?").packet());
            net.host_opens(SocketKind::Udp { v6 })
        };
        let outer_flow = flow(GUEST_MAC, guest(v6, 4000));
        let inner_flow = flow(INNER_MAC, inner(v6, 4000));
        for (flow, mac, from) in [
            (outer_flow, GUEST_MAC, guest(v6, 4000)),
            (inner_flow, INNER_MAC, inner(v6, 4000)),
            (outer_flow, GUEST_MAC, guest(v6, 4000)),
        ] {
            net.host_gets(flow, to, b"!");
            let packets = gets(&mut net, mac);
            assert_eq!(packets.len(), 1);
            assert_eq!(Datagram::read(&packets[0]).to, from);
        }
    }
}

#[test]
fn connections_stay_with_their_machine() {
    for v6 in [false, true] {
        let mut net = Net::by_hand();
        let mut open = |mac, from| {
            let syn = Segment::syn(from, server(v6, 80), 1400);
            sends(&mut net, mac, &syn.packet());
            net.host_opens(SocketKind::TcpConnect(syn.to))
        };
        let outer_flow = open(GUEST_MAC, guest(v6, 40_000));
        let inner_flow = open(INNER_MAC, inner(v6, 40_000));
        for (flow, mac) in [(outer_flow, GUEST_MAC), (inner_flow, INNER_MAC)] {
            net.host_connected(flow);
            assert_eq!(gets(&mut net, mac).len(), 1);
        }
    }
}

#[test]
fn a_silent_container_gets_its_clients_whoever_else_speaks() {
    let mut net = Net::by_hand();
    assert_eq!(says(&mut net, INNER_MAC, 1, [10, 0, 2, 50], [10, 0, 2, 2]), Verdict::Gateway);
    assert_eq!(net.frames_at(PortId(0))[0][10..16], INNER_MAC);
    let listener = net.publish(Protocol::Tcp, 80);
    for client in ["198.51.100.7:5000", "[2001:db8::7]:5000"] {
        net.accept(listener, socket(client)).unwrap();
        let syn = Segment::read(&gets(&mut net, GUEST_MAC)[0]);
        assert_eq!((syn.flags, syn.to), (SYN, guest(client.starts_with('['), 80)));
    }
}

#[test]
fn an_address_moves_with_what_is_said_of_it() {
    for operation in [1, 2] {
        let mut net = Net::by_hand();
        let (from, to) = (guest(false, 4000), server(false, 9));
        sends(&mut net, GUEST_MAC, &Datagram::new(from, to, b"?").packet());
        let host = net.host_opens(SocketKind::Udp { v6: false });
        // An announcement, then another machine.
        says(&mut net, INNER_MAC, operation, [10, 0, 2, 100], [10, 0, 2, 100]);
        says(&mut net, GUEST_MAC, 1, [10, 0, 2, 7], [10, 0, 2, 7]);
        net.host_gets(host, to, b"!");
        assert_eq!(gets(&mut net, INNER_MAC).len(), 1, "operation {operation}");
        // Nobody becomes the gateway.
        says(&mut net, GUEST_MAC, operation, [10, 0, 2, 2], [10, 0, 2, 2]);
        net.forget();
        net.host_gets(host, to, b"!");
        assert_eq!(gets(&mut net, INNER_MAC).len(), 1);
    }
}

#[test]
fn dhcp_answers_whoever_asks_and_takes_no_address_from_others() {
    let mut net = Net::by_hand();
    let mut discover = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0, 0];
    discover.resize(28, 0);
    discover.extend(INNER_MAC);
    discover.resize(236, 0);
    discover.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    let (nobody, server_port) = (socket("0.0.0.0:68"), socket("255.255.255.255:67"));
    let (from, to) = (guest(false, 4000), server(false, 9));
    sends(&mut net, GUEST_MAC, &Datagram::new(from, to, b"?").packet());
    let host = net.host_opens(SocketKind::Udp { v6: false });
    sends(&mut net, INNER_MAC, &Datagram::new(nobody, server_port, &discover).packet());
    let offers = gets(&mut net, INNER_MAC);
    assert_eq!(Datagram::read(&offers[0]).to, guest(false, 68));
    net.host_gets(host, to, b"!");
    assert_eq!(gets(&mut net, GUEST_MAC).len(), 1);
}

#[test]
fn what_is_for_all_machines_goes_to_all() {
    let mut net = Net::by_hand();
    let solicit = icmp(address("::"), address("ff02::2"), 133, 0, &[0; 4]);
    sends(&mut net, INNER_MAC, &solicit);
    let frames = net.frames_at(PortId(0));
    assert_eq!(frames[0][10..16], [0x33, 0x33, 0, 0, 0, 1]);
}
