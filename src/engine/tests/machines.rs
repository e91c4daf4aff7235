//! Several machines behind one TAP: a container that has bridged its interface to others.

use std::net::SocketAddr;

use super::net::{Net, Options, address, guest, server, socket};
use super::packets::{
    BROADCAST_MAC, Datagram, GATEWAY_MAC, GUEST_MAC, SYN, Segment, ethernet, icmp, receive_at,
};
use crate::config::{Neighbours, Protocol, Rules};
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

/// A machine's `DHCPDISCOVER`, or its `DHCPREQUEST` of an address; what it is answered: the kind of
/// message and the address. `None` without an answer.
fn asks_dhcp(net: &mut Net, mac: [u8; 6], wanted: Option<[u8; 4]>) -> Option<(u8, [u8; 4])> {
    says_dhcp(net, mac, if wanted.is_some() { 3 } else { 1 }, wanted)
}

/// The same for any kind of message.
fn says_dhcp(
    net: &mut Net,
    mac: [u8; 6],
    kind: u8,
    wanted: Option<[u8; 4]>,
) -> Option<(u8, [u8; 4])> {
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0, 0];
    message.resize(28, 0);
    message.extend(mac);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
    if let Some(ip) = wanted {
        message.extend([50, 4]);
        message.extend(ip);
    }
    message.push(255);
    let (nobody, server_port) = (socket("0.0.0.0:68"), socket("255.255.255.255:67"));
    sends(net, mac, &Datagram::new(nobody, server_port, &message).packet());
    let answers = gets(net, mac);
    let answer = Datagram::read(answers.first()?).payload;
    Some((answer[242], answer[16..20].try_into().unwrap()))
}

const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

#[test]
fn dhcp_answers_whoever_asks_and_takes_no_address_from_others() {
    let mut net = Net::by_hand();
    let (from, to) = (guest(false, 4000), server(false, 9));
    sends(&mut net, GUEST_MAC, &Datagram::new(from, to, b"?").packet());
    let host = net.host_opens(SocketKind::Udp { v6: false });
    assert_eq!(asks_dhcp(&mut net, INNER_MAC, None), Some((OFFER, [10, 0, 2, 101])));
    net.host_gets(host, to, b"!");
    assert_eq!(gets(&mut net, GUEST_MAC).len(), 1);
}

#[test]
fn dhcp_gives_no_address_to_two_machines() {
    let mut net = Net::by_hand();
    let mac = |last| [2, 0, 0, 0, 1, last];
    // One that has an address without DHCP, and has told of it.
    says(&mut net, mac(0), 1, [10, 0, 2, 102], [10, 0, 2, 102]);
    for (mac, last) in
        [(mac(1), 101), (GUEST_MAC, 100), (mac(2), 103), (mac(3), 104), (mac(1), 101)]
    {
        let ip = [10, 0, 2, last];
        assert_eq!(asks_dhcp(&mut net, mac, None), Some((OFFER, ip)), "{mac:?}");
        assert_eq!(asks_dhcp(&mut net, mac, Some(ip)), Some((ACK, ip)), "{mac:?}");
    }
    for taken in [100, 101, 102, 2, 3, 255] {
        let answer = asks_dhcp(&mut net, mac(4), Some([10, 0, 2, taken]));
        assert_eq!(answer, Some((NAK, [0; 4])), "{taken}");
    }
    // A silent one has it, as the machine has found out: DHCPDECLINE.
    assert_eq!(says_dhcp(&mut net, mac(3), 4, Some([10, 0, 2, 104])), None);
    assert_eq!(asks_dhcp(&mut net, mac(3), None), Some((OFFER, [10, 0, 2, 106])));
    // As after a restart of ours: a machine keeps what it has.
    let mut net = Net::by_hand();
    let ip = [10, 0, 2, 103];
    assert_eq!(asks_dhcp(&mut net, mac(2), Some(ip)), Some((ACK, ip)));
    assert_eq!(asks_dhcp(&mut net, mac(1), None), Some((OFFER, [10, 0, 2, 101])));
}

#[test]
fn dhcp_gives_the_container_s_address_to_a_machine_that_has_taken_it() {
    let mut net = Net::by_hand();
    let own = [10, 0, 2, 100];
    says(&mut net, INNER_MAC, 1, own, own);
    assert_eq!(asks_dhcp(&mut net, INNER_MAC, None), Some((OFFER, own)));
    assert_eq!(asks_dhcp(&mut net, GUEST_MAC, None), Some((OFFER, [10, 0, 2, 101])));
}

#[test]
fn dhcp_gives_away_none_of_the_host_s_neighbours_addresses() {
    let rules = Rules { neighbours: Neighbours::Host, ..Rules::default() };
    let mut net = Net::new(&Options { rules, ..Options::default() });
    assert_eq!(asks_dhcp(&mut net, INNER_MAC, None), None);
    assert_eq!(says_dhcp(&mut net, INNER_MAC, 8, None), Some((ACK, [0; 4])), "DHCPINFORM");
    assert_eq!(asks_dhcp(&mut net, GUEST_MAC, None), Some((OFFER, [10, 0, 2, 100])));
}

#[test]
fn what_is_for_all_machines_goes_to_all() {
    let mut net = Net::by_hand();
    let solicit = icmp(address("::"), address("ff02::2"), 133, 0, &[0; 4]);
    sends(&mut net, INNER_MAC, &solicit);
    let frames = net.frames_at(PortId(0));
    assert_eq!(frames[0][10..16], [0x33, 0x33, 0, 0, 0, 1]);
}
