use std::net::IpAddr;

use proptest::prelude::*;

use super::super::message::{Records, name_end, rr};
use super::{MAX_LEN, Truth, for_lan};
use crate::config::{Name, Protocol};

fn name(text: &str) -> Vec<u8> {
    text.parse::<Name>().unwrap().labels().to_vec()
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    let kind = kind.to_be_bytes();
    [owner, &kind, &[0x80, 1], &ttl.to_be_bytes(), &length, data].concat()
}

fn srv(port: u16, target: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0][..], &port.to_be_bytes(), target].concat()
}

/// A message of so many questions, answers, authorities and additional records.
fn message(flags: u8, counts: [u16; 4], parts: &[Vec<u8>]) -> Vec<u8> {
    let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_be_bytes()).collect();
    [&[0, 0, flags, 0], &counts[..], &parts.concat()].concat()
}

fn response(records: &[Vec<u8>]) -> Vec<u8> {
    message(0x84, [0, u16::try_from(records.len()).unwrap(), 0, 0], records)
}

const GUEST4: [u8; 4] = [10, 0, 2, 100];
const HOST4: [u8; 4] = [192, 0, 2, 1];

/// Port 80 is published at 8080 over TCP, 53 at 5300 over UDP.
fn told(message: &[u8]) -> Option<Vec<u8>> {
    let port = |protocol: Protocol, port: u16| match (protocol, port) {
        (Protocol::Tcp, 80) => Some(8080),
        (Protocol::Udp, 53) => Some(5300),
        _ => None,
    };
    let host: [IpAddr; 3] =
        [HOST4.into(), "2001:db8:5::1".parse().unwrap(), "fe80::1".parse().unwrap()];
    let host_name = "box.local".parse().unwrap();
    for_lan(
        message,
        &Truth {
            guest: [Some(GUEST4.into()), Some("fd72:6e73:6e65::100".parse().unwrap())],
            host: &host,
            host_name: Some(&host_name),
            port: &port,
        },
    )
}

#[test]
fn a_service_is_told_with_the_host_s_address_and_the_published_port() {
    // As a responder writes it: one name, and pointers to it and its parts.
    let service = name("_http._tcp.local");
    let mut web = b"\x03web\xc0\x0c".to_vec();
    let ptr = record(&service, rr::PTR, 4500, &web);
    // Behind the header, the owner and the ten bytes of a record.
    let at = u16::try_from(12 + service.len() + 10).unwrap();
    let web_at = (0xc000 | at).to_be_bytes();
    let target = name("c.local");
    let v6: std::net::Ipv6Addr = "fd72:6e73:6e65::100".parse().unwrap();
    let docker = record(&target, rr::A, 120, &[172, 17, 0, 1]);
    let link_local: std::net::Ipv6Addr = "fe80::72".parse().unwrap();
    let sent = response(&[
        ptr,
        record(&web_at, rr::SRV, 120, &srv(80, &target)),
        record(&web_at, rr::TXT, 4500, b"\x05a=b c"),
        record(&target, rr::A, 120, &GUEST4),
        docker,
        record(&target, rr::AAAA, 120, &v6.octets()),
        record(&target, rr::AAAA, 120, &link_local.octets()),
        record(&name("100.2.0.10.in-addr.arpa"), rr::PTR, 120, &target),
        record(&target, 47, 120, b"\x00\x00\x01\x40"),
    ]);
    web.truncate(4);
    let web = [&web[..], &service].concat();
    let heard = told(&sent).unwrap();
    let expected_v6: std::net::Ipv6Addr = "2001:db8:5::1".parse().unwrap();
    let pointer = |place: usize| u16::try_from(0xc000 | place).unwrap().to_be_bytes();
    let first = record(&service, rr::PTR, 4500, &web);
    let web_place = 12 + first.len();
    let second = record(&web, rr::SRV, 120, &srv(8080, &target));
    let third = record(&pointer(web_place), rr::TXT, 4500, b"\x05a=b c");
    let target_place = web_place + second.len() + third.len();
    let fourth = record(&target, rr::A, 120, &HOST4);
    let fifth = record(&pointer(target_place), rr::AAAA, 120, &expected_v6.octets());
    assert_eq!(heard, response(&[first, second, third, fourth, fifth]));
}

#[test]
fn what_is_not_published_is_left_out_with_all_that_is_said_of_it() {
    let (service, web, target) =
        (name("_http._tcp.local"), name("Web._http._tcp.local"), name("c.local"));
    let about = |port: u16, web: &[u8]| {
        [
            record(&service, rr::PTR, 4500, web),
            record(web, rr::SRV, 120, &srv(port, &target)),
            record(web, rr::TXT, 4500, b"\0"),
        ]
    };
    assert_eq!(told(&response(&about(81, &web))), None);
    // Whatever the case, and beside others.
    let other = name("other._http._tcp.local");
    let mut both = about(81, &web).to_vec();
    both[0] = record(&service, rr::PTR, 4500, &web.to_ascii_uppercase());
    both.extend(about(80, &other));
    let heard = told(&response(&both)).unwrap();
    assert_eq!(heard[7], 3);
    assert!(!heard.windows(4).any(|part| part.eq_ignore_ascii_case(b"\x03web")));
    // A port is one protocol's.
    let dns = name("x._dns._udp.local");
    assert!(told(&response(&about(53, &dns))).unwrap().ends_with(b"\0"));
    assert_eq!(told(&response(&about(53, &web))), None);
}

#[test]
fn the_host_s_own_name_and_addresses_of_others_are_not_a_container_s_to_give() {
    for (owner, data) in [
        ("box.local", &GUEST4[..]),
        ("BOX.Local", &GUEST4),
        ("c.local", &HOST4),
        ("c.local", &[192, 0, 2, 9]),
    ] {
        // A name that keeps its case.
        let labels: Vec<u8> = owner
            .split('.')
            .flat_map(|l| [&[u8::try_from(l.len()).unwrap()], l.as_bytes()].concat())
            .collect();
        let owner = [&labels[..], b"\0"].concat();
        assert_eq!(told(&response(&[record(&owner, rr::A, 120, data)])), None);
    }
}

#[test]
fn a_goodbye_passes() {
    let bye = record(&name("c.local"), rr::A, 0, &GUEST4);
    let expected = record(&name("c.local"), rr::A, 0, &HOST4);
    assert_eq!(told(&response(&[bye])), Some(response(&[expected])));
}

#[test]
fn questions_are_asked_so_that_everybody_is_answered_and_what_is_known_stays() {
    let ipp = name("_ipp._tcp.local");
    let ask = |class: &[u8]| [&ipp[..], &rr::PTR.to_be_bytes(), class].concat();
    let known = record(&[0xc0, 12], rr::PTR, 4500, &name("printer._ipp._tcp.local"));
    // A printer's address, which is nothing of the container's.
    let address = record(&name("printer.local"), rr::A, 120, &[192, 0, 2, 9]);
    let asked =
        |class: &[u8]| message(0, [1, 2, 0, 0], &[ask(class), known.clone(), address.clone()]);
    assert_eq!(told(&asked(&[0x80, 1])), Some(asked(&[0, 1])));
    // What somebody wants to announce is looked at as what is announced.
    let probe = |data: &[u8]| {
        let record = record(&name("c.local"), rr::A, 120, data);
        message(0, [1, 0, 1, 0], &[ask(&[0, 1]), record])
    };
    assert_eq!(told(&probe(&GUEST4)), Some(probe(&HOST4)));
    assert_eq!(told(&probe(&[172, 17, 0, 1])), Some(message(0, [1, 0, 0, 0], &[ask(&[0, 1])])));
}

#[test]
fn nonsense_is_not_told() {
    let whole = response(&[
        record(&name("_http._tcp.local"), rr::PTR, 4500, b"\x03web\xc0\x0c"),
        record(&name("c.local"), rr::A, 120, &GUEST4),
    ]);
    assert!(told(&whole).is_some());
    for end in 0..whole.len() {
        assert_eq!(told(&whole[..end]), None, "{end} bytes");
    }
    // A pointer to itself, and one ahead.
    for pointer in [[0xc0, 12], [0xc0, 14], [0xff, 0xff]] {
        assert_eq!(told(&response(&[record(&pointer, rr::A, 120, &GUEST4)])), None);
    }
    // Other kinds of message than questions and answers, and failures.
    for (at, bits) in [(2, 0x28), (3, 3)] {
        let mut other = whole.clone();
        other[at] |= bits;
        assert_eq!(told(&other), None);
    }
    // More than there may be, of length and number.
    let long = response(&[record(&name("c.local"), rr::TXT, 120, &vec![0; MAX_LEN])]);
    assert_eq!(told(&long), None);
    let many = vec![record(&name("c.local"), rr::A, 120, &GUEST4); 257];
    assert_eq!(told(&response(&many)), None);
    assert_eq!(told(&response(&[])), None);
    assert_eq!(told(&message(0, [0; 4], &[])), None);
}

/// Where the questions of a message end.
fn questions_end(message: &[u8]) -> usize {
    let questions = u16::from_be_bytes([message[4], message[5]]);
    (0..questions).fold(12, |at, _| name_end(message, at).unwrap() + 4)
}

proptest! {
    // However a message is broken: what leaves can be read, is of a length that there may be, and gives
    // no address but the host's.
    #[test]
    fn whatever_leaves_is_a_message(
        changes in prop::collection::vec((12_usize..400, any::<u8>()), 0..6),
        counts in prop::collection::vec(0_u16..4, 4),
        response in any::<bool>(),
    ) {
        let (service, web) = (name("_http._tcp.local"), name("web._http._tcp.local"));
        let mut message = message(if response { 0x84 } else { 0 }, [0; 4], &[
            record(&service, rr::PTR, 4500, b"\x03web\xc0\x0c"),
            record(&web, rr::SRV, 120, &srv(80, &name("c.local"))),
            record(&[0xc0, 12], rr::TXT, 120, b"\x03a=b"),
            record(&name("c.local"), rr::A, 120, &GUEST4),
            record(&name("d.local"), rr::A, 120, &GUEST4),
        ]);
        for (place, count) in message[4..12].chunks_exact_mut(2).zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        for (at, byte) in changes {
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(told) = told(&message) {
            prop_assert!(told.len() <= MAX_LEN);
            let records = Records::of(&told, questions_end(&told)).collect::<Option<Vec<_>>>();
            for record in records.expect("a message") {
                let known = !response && record.section == 0;
                let data = &told[record.ttl_at + 6..record.end];
                prop_assert!(known || record.kind != rr::A || data == HOST4);
            }
        }
    }
}
