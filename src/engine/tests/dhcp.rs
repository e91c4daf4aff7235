//! DHCP of both families, byte by byte, and what is not answered.

use std::net::{IpAddr, Ipv4Addr};

use super::net::{Net, Options, address, socket};
use super::packets::{BROADCAST_MAC, Datagram, GATEWAY_MAC, GUEST_MAC, ethernet, icmp};
use crate::config::{Addresses, Cidr, Resolver, Rules, Sharing};
use crate::engine::stats::{DropReason, Verdict};

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

const LEASE: [u8; 4] = [10, 0, 2, 100];
const OTHER: [u8; 4] = [10, 0, 2, 7];
const GATEWAY: [u8; 4] = [10, 0, 2, 2];

/// A client's message.
struct Message {
    kind: u8,
    flags: u16,
    client: [u8; 4],
    mac: [u8; 6],
    options: Vec<u8>,
}

fn message(kind: u8) -> Message {
    Message { kind, flags: 0, client: [0; 4], mac: GUEST_MAC, options: Vec::new() }
}

impl Message {
    fn option(mut self, kind: u8, data: &[u8]) -> Self {
        self.options.extend([kind, u8::try_from(data.len()).unwrap()]);
        self.options.extend(data);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 3];
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.client);
        bytes.extend([0; 12]);
        bytes.extend(self.mac);
        bytes.extend([0; 10 + 64 + 128]);
        bytes.extend([0x63, 0x82, 0x53, 0x63, 53, 1, self.kind]);
        bytes.extend(&self.options);
        bytes.push(255);
        bytes
    }

    /// Sends it as a client does, who has no address or that of `ciaddr`.
    fn send(&self, net: &mut Net) -> Verdict {
        let from = format!("{}:68", Ipv4Addr::from(self.client));
        let datagram =
            Datagram::new(socket(&from), socket("255.255.255.255:67"), &self.bytes()).packet();
        net.guest_sends_frame(&ethernet(BROADCAST_MAC, GUEST_MAC, 0x0800, &datagram))
    }
}

/// A server's answer.
struct Answer {
    to: IpAddr,
    bytes: Vec<u8>,
}

impl Answer {
    fn of(net: &mut Net) -> Self {
        let datagram = net.guest_gets_datagram();
        assert_eq!(datagram.from, socket("10.0.2.2:67"));
        assert_eq!(datagram.to.port(), 68);
        let bytes = datagram.payload;
        assert_eq!(bytes[..4], [2, 1, 6, 0], "a reply on Ethernet");
        assert_eq!(bytes[4..8], [0xde, 0xad, 0xbe, 0xef], "the client's transaction");
        assert_eq!(bytes[20..28], [0; 8], "neither a boot server nor a relay");
        assert_eq!(bytes[28..34], GUEST_MAC);
        assert_eq!(bytes[34..236], [0; 202]);
        assert_eq!(bytes[236..240], [0x63, 0x82, 0x53, 0x63]);
        assert!(bytes.len() >= 300, "{} bytes are too few for some clients", bytes.len());
        Self { to: datagram.to.ip(), bytes }
    }

    fn yours(&self) -> &[u8] {
        &self.bytes[16..20]
    }

    fn option(&self, wanted: u8) -> Option<&[u8]> {
        let mut rest = &self.bytes[240..];
        while let [kind, length, body @ ..] = rest {
            if *kind == 255 {
                return None;
            }
            let (data, next) = body.split_at(usize::from(*length));
            if *kind == wanted {
                return Some(data);
            }
            rest = next;
        }
        panic!("options without an end")
    }

    fn kind(&self) -> u8 {
        self.option(53).unwrap()[0]
    }
}

#[test]
fn a_client_gets_the_address_of_its_port_and_what_goes_with_it() {
    let mut net = Net::by_hand();
    assert_eq!(message(DISCOVER).send(&mut net), Verdict::Gateway);
    let offer = Answer::of(&mut net);
    assert_eq!((offer.kind(), offer.yours()), (OFFER, &LEASE[..]));
    assert_eq!(offer.to, address("10.0.2.100"));
    let request = message(REQUEST).option(54, &GATEWAY).option(50, &LEASE);
    assert_eq!(request.send(&mut net), Verdict::Gateway);
    let ack = Answer::of(&mut net);
    assert_eq!((ack.kind(), ack.yours()), (ACK, &LEASE[..]));
    for (option, value) in [
        (1, &[255, 255, 255, 0][..]),
        (3, &GATEWAY),
        (6, &[10, 0, 2, 3]),
        (26, &[0x05, 0xdc]),
        (28, &[10, 0, 2, 255]),
        (51, &86_400_u32.to_be_bytes()),
        (54, &GATEWAY),
    ] {
        assert_eq!(ack.option(option), Some(value), "option {option}");
        assert_eq!(offer.option(option), Some(value), "option {option}");
    }
    net.guest_gets_nothing();
    net.expect_counters(&[("dhcp_answers", 2)]);
    net.host_opens_nothing();
    net.expect_no_flows();
}

#[test]
fn the_way_to_a_router_elsewhere_is_told_and_none_where_there_is_none() {
    let mut addresses = Addresses::default();
    addresses.v4.subnet = Cidr { address: LEASE.into(), prefix_len: 32 };
    let elsewhere = [&[32][..], &GATEWAY, &[0; 4], &[0], &GATEWAY].concat();
    for (options, router, routes) in [
        (Options::default(), Some(&GATEWAY[..]), None),
        (Options { default_route: false, ..Options::default() }, None, None),
        (
            Options { addresses: Some(addresses), ..Options::default() },
            Some(&GATEWAY[..]),
            Some(&elsewhere[..]),
        ),
    ] {
        let mut net = Net::new(&options);
        message(DISCOVER).send(&mut net);
        let offer = Answer::of(&mut net);
        assert_eq!((offer.option(3), offer.option(121)), (router, routes));
    }
}

#[test]
fn answers_are_broadcast_to_those_who_ask_for_it() {
    let mut net = Net::by_hand();
    Message { flags: 0x8000, ..message(DISCOVER) }.send(&mut net);
    let offer = Answer::of(&mut net);
    assert_eq!(offer.to, address("255.255.255.255"));
    assert_eq!(offer.bytes[10..12], [0x80, 0]);
}

#[test]
fn a_client_that_restarts_or_renews_keeps_its_address() {
    let mut net = Net::by_hand();
    // INIT-REBOOT.
    message(REQUEST).option(50, &LEASE).send(&mut net);
    assert_eq!(Answer::of(&mut net).kind(), ACK);
    // RENEWING: to the server alone, from the address.
    let renew = Message { client: LEASE, ..message(REQUEST) };
    let packet =
        Datagram::new(socket("10.0.2.100:68"), socket("10.0.2.2:67"), &renew.bytes()).packet();
    assert_eq!(net.guest_sends(&packet), Verdict::Gateway);
    let ack = Answer::of(&mut net);
    assert_eq!((ack.kind(), ack.yours(), &ack.bytes[12..16]), (ACK, &LEASE[..], &LEASE[..]));
    // REBINDING: to everybody.
    renew.send(&mut net);
    assert_eq!(Answer::of(&mut net).to, address("10.0.2.100"));
}

#[test]
fn a_request_for_another_address_is_refused() {
    let mut net = Net::by_hand();
    for request in [
        message(REQUEST).option(50, &OTHER),
        message(REQUEST).option(54, &GATEWAY).option(50, &OTHER),
        Message { client: OTHER, ..message(REQUEST) },
    ] {
        request.send(&mut net);
        let nak = Answer::of(&mut net);
        assert_eq!((nak.kind(), nak.yours()), (NAK, &[0; 4][..]));
        assert_eq!(nak.to, address("255.255.255.255"));
        assert_eq!((nak.option(51), nak.option(3)), (None, None));
    }
}

#[test]
fn information_is_given_without_an_address() {
    let mut net = Net::by_hand();
    Message { client: LEASE, ..message(INFORM) }.send(&mut net);
    let ack = Answer::of(&mut net);
    assert_eq!((ack.kind(), ack.yours(), ack.option(51)), (ACK, &[0; 4][..], None));
    assert_eq!(ack.option(6), Some(&[10, 0, 2, 3][..]));
    assert_eq!(ack.to, address("10.0.2.100"));
}

#[test]
fn what_needs_no_answer_gets_none() {
    let mut net = Net::by_hand();
    for request in [
        message(DECLINE).option(54, &GATEWAY).option(50, &LEASE),
        Message { client: LEASE, ..message(RELEASE) }.option(54, &GATEWAY),
        message(REQUEST).option(54, &OTHER).option(50, &OTHER),
    ] {
        assert_eq!(request.send(&mut net), Verdict::Gateway);
        net.guest_gets_nothing();
    }
    net.expect_counters(&[]);
}

#[test]
fn a_client_s_identifier_comes_back() {
    let mut net = Net::by_hand();
    message(DISCOVER).option(61, b"\0me").send(&mut net);
    assert_eq!(Answer::of(&mut net).option(61), Some(&b"\0me"[..]));
    message(DISCOVER).option(61, &[7; 255]).send(&mut net);
    assert_eq!(Answer::of(&mut net).option(61), None);
}

#[test]
fn messages_that_no_client_here_sends_are_dropped() {
    let good = message(DISCOVER).bytes();
    let mut wrong: Vec<Vec<u8>> = Vec::new();
    // A reply, another medium, another address length, a relay, no magic, a server's kinds.
    for (at, byte) in [(0, 2), (1, 6), (2, 16), (27, 1), (236, 0), (242, OFFER), (242, 77)] {
        let mut bytes = good.clone();
        bytes[at] = byte;
        wrong.push(bytes);
    }
    wrong.push(good[..239].to_vec());
    wrong.push(good[..240].to_vec());
    wrong.push(message(REQUEST).bytes());
    for bytes in wrong {
        let mut net = Net::by_hand();
        let packet =
            Datagram::new(socket("0.0.0.0:68"), socket("255.255.255.255:67"), &bytes).packet();
        let verdict = net.guest_sends(&packet);
        net.expect_dropped(verdict, DropReason::Malformed, "malformed");
    }
}

#[test]
fn without_an_address_a_guest_may_speak_to_the_server_alone() {
    let mut net = Net::by_hand();
    for to in ["192.0.2.9:67", "10.0.2.3:53", "10.0.2.2:80"] {
        let packet = Datagram::new(socket("0.0.0.0:68"), socket(to), b"x").packet();
        let verdict = net.guest_sends(&packet);
        net.expect_dropped(verdict, DropReason::SpoofedSource, "spoofed-source");
    }
    let packet = Datagram::new(socket("[fe80::1]:546"), socket("[2001:db8::9]:547"), b"x").packet();
    let verdict = net.guest_sends(&packet);
    net.expect_dropped(verdict, DropReason::SpoofedSource, "spoofed-source");
}

#[test]
fn a_pool_gives_each_hardware_address_its_own_for_as_long_as_it_can() {
    let pool = Some(Ipv4Addr::new(10, 0, 2, 15));
    let mut net = Net::new(&Options { dhcp_pool: pool, ..Options::default() });
    let mut offered = |last: u8| {
        let mac = [2, 0, 0, 0, 0, last];
        Message { mac, ..message(DISCOVER) }.send(&mut net);
        net.guest_gets_datagram().payload[16..20].to_vec()
    };
    for last in 0..16 {
        assert_eq!(offered(last), [10, 0, 2, 15 + last]);
    }
    assert_eq!(offered(0), [10, 0, 2, 15], "a known client keeps its address");
    assert_eq!(offered(16), [10, 0, 2, 16], "the one silent longest gives way");
    assert_eq!(offered(0), [10, 0, 2, 15]);
}

/// A DHCPv6 message from the guest's link-local address to `to`.
fn ask6(net: &mut Net, to: &str, bytes: &[u8]) -> Verdict {
    let packet = Datagram::new(socket("[fe80::64]:546"), socket(to), bytes).packet();
    net.guest_sends(&packet)
}

const SERVERS: &str = "[ff02::1:2]:547";

#[test]
fn information_is_given_over_ipv6() {
    let mut net = Net::by_hand();
    let request = [11, 1, 2, 3, 0, 1, 0, 3, 7, 7, 7, 0, 6, 0, 2, 0, 23];
    assert_eq!(ask6(&mut net, SERVERS, &request), Verdict::Gateway);
    let reply = net.guest_gets_datagram();
    assert_eq!(reply.from, socket("[fe80::72:6eff:fe00:2]:547"));
    assert_eq!(reply.to, socket("[fe80::64]:546"));
    let expected = [
        &[7, 1, 2, 3][..],
        &[0, 1, 0, 3, 7, 7, 7],
        &[0, 2, 0, 10, 0, 3, 0, 1],
        &GATEWAY_MAC,
        &[0, 23, 0, 16, 0xfd, 0x72, 0x6e, 0x73, 0x6e, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
        &[0, 32, 0, 4, 0, 1, 0x51, 0x80],
    ]
    .concat();
    assert_eq!(reply.payload, expected);
    net.expect_counters(&[("dhcp_answers", 1)]);
}

// D11: option 119 of RFC 3397, 24 of RFC 3646, 31 of RFC 8106.
#[test]
fn domains_to_search_are_told_in_every_way() {
    let resolver = Resolver {
        search: vec!["lab.test".parse().unwrap(), "test".parse().unwrap()],
        ..Resolver::default()
    };
    let mut net = Net::new(&Options { resolver, ..Options::default() });
    let domains = b"\x03lab\x04test\0\x04test\0";
    message(DISCOVER).send(&mut net);
    let answer = Answer::of(&mut net);
    assert_eq!(answer.option(119), Some(&domains[..]));
    assert_eq!(answer.option(15), Some(&b"lab.test"[..]));
    ask6(&mut net, SERVERS, &[11, 1, 2, 3]);
    let reply = net.guest_gets_datagram().payload;
    let option = [&[0, 24, 0, 16][..], domains].concat();
    assert!(reply.windows(20).any(|seen| seen == option), "{reply:02x?}");
    net.guest_sends(&icmp(address("fe80::64"), address("ff02::2"), 133, 0, &[0; 4]));
    let advert = net.guest_gets_icmp().payload;
    let option = [&[31, 3, 0, 0, 0xff, 0xff, 0xff, 0xff][..], domains].concat();
    assert!(advert.ends_with(&option), "{advert:02x?}");
}

// L5: as pasta's --dns and --no-dhcp-dns say.
#[test]
fn other_resolvers_may_be_named_than_the_forwarder_or_none() {
    let advert = |net: &mut Net| {
        net.guest_sends(&icmp(address("fe80::64"), address("ff02::2"), 133, 0, &[0; 4]));
        net.guest_gets_icmp().payload
    };
    let rdnss = [25, 5, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0x01];
    for (announced, v4, v6) in [
        (vec![], None, 0),
        (
            ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"].map(address).to_vec(),
            Some(&[192, 0, 2, 1, 192, 0, 2, 2][..]),
            32,
        ),
    ] {
        let rules = Rules { announced: Some(announced), ..Rules::default() };
        let mut net = Net::new(&Options { rules, ..Options::default() });
        message(DISCOVER).send(&mut net);
        assert_eq!(Answer::of(&mut net).option(6), v4);
        ask6(&mut net, SERVERS, &[11, 1, 2, 3]);
        let reply = net.guest_gets_datagram().payload;
        let option = reply.windows(4).any(|seen| seen == [0, 23, 0, v6]);
        assert_eq!(option, v6 > 0, "{reply:02x?}");
        let advert = advert(&mut net);
        let option = advert.windows(rdnss.len()).any(|seen| seen == rdnss);
        assert_eq!(option, v6 > 0, "{advert:02x?}");
    }
}

#[test]
fn over_ipv6_nothing_but_information_is_given() {
    let ia = [11, 1, 2, 3, 0, 3, 0, 0];
    let solicit = [1, 1, 2, 3];
    let cut = [11, 1, 2, 3, 0, 1, 0, 9, 7];
    let loose = [11, 1, 2, 3, 0, 1];
    for bytes in [&ia[..], &solicit, &cut, &loose, &[11], &[]] {
        let mut net = Net::by_hand();
        let verdict = ask6(&mut net, SERVERS, bytes);
        net.expect_dropped(verdict, DropReason::Malformed, "malformed");
    }
    let mut net = Net::by_hand();
    let other_server = [11, 1, 2, 3, 0, 2, 0, 3, 7, 7, 7];
    assert_eq!(ask6(&mut net, SERVERS, &other_server), Verdict::Gateway);
    net.guest_gets_nothing();
    // Another group is none of ours.
    let verdict = ask6(&mut net, "[ff02::fb]:547", &[11, 1, 2, 3]);
    net.expect_dropped(verdict, DropReason::SpoofedSource, "spoofed-source");
}

#[test]
fn on_a_shared_network_nobody_is_told_to_make_up_an_address() {
    let mut net = Net::new(&Options { sharing: Sharing::Shared, ..Options::default() });
    message(DISCOVER).send(&mut net);
    assert_eq!(Answer::of(&mut net).yours(), LEASE);
    for (sharing, flags) in [(Sharing::Shared, 0x80), (Sharing::Private, 0xc0)] {
        let mut net = Net::new(&Options { sharing, ..Options::default() });
        let packet = icmp(address("fe80::ff:fe00:64"), address("ff02::2"), 133, 0, &[0; 4]);
        let group = [0x33, 0x33, 0, 0, 0, 2];
        assert_eq!(
            net.guest_sends_frame(&ethernet(group, GUEST_MAC, 0x86dd, &packet)),
            Verdict::Gateway
        );
        let advert = net.guest_gets_icmp();

        let at = advert.payload.windows(3).position(|option| option == [3, 4, 64]).unwrap();
        assert_eq!(advert.payload[at + 3], flags, "{sharing:?}");
    }
}
