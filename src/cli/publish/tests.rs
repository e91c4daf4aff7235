//! Tables and properties of the `--publish` grammar.

use super::*;
use proptest::prelude::*;

fn one(bind: &str, host_port: u16, guest_port: u16, protocol: Protocol) -> Publish {
    let bind = (!bind.is_empty()).then(|| bind.parse().unwrap());
    Publish { bind, host_port, guest_port, protocol }
}

fn all(specs: &[&str]) -> Result<Vec<Publish>, String> {
    let specs: Vec<String> = specs.iter().map(|&spec| spec.to_owned()).collect();
    parse_all(&specs).map_err(|error| crate::error::report(&error))
}

#[test]
fn single_ports() {
    use Protocol::{Tcp, Udp};
    let table = [
        ("8080:80", one("", 8080, 80, Tcp)),
        ("8080:80/tcp", one("", 8080, 80, Tcp)),
        ("8080:80/TCP", one("", 8080, 80, Tcp)),
        ("53:53/udp", one("", 53, 53, Udp)),
        ("53:53/Udp", one("", 53, 53, Udp)),
        ("1:65535", one("", 1, 65535, Tcp)),
        ("127.0.0.1:8080:80", one("127.0.0.1", 8080, 80, Tcp)),
        ("0.0.0.0:8080:80", one("0.0.0.0", 8080, 80, Tcp)),
        ("[::]:8080:80", one("::", 8080, 80, Tcp)),
        ("[::1]:8080:80/udp", one("::1", 8080, 80, Udp)),
        ("[2001:DB8::0:1]:8080:80", one("2001:db8::1", 8080, 80, Tcp)),
        ("8000-8000:80-80", one("", 8000, 80, Tcp)),
        ("08080:80", one("", 8080, 80, Tcp)),
    ];
    for (spec, expected) in table {
        assert_eq!(parse(spec), Ok(vec![expected]), "{spec}");
    }
}

#[test]
fn ranges_are_expanded_in_order() {
    let ports = parse("127.0.0.1:8000-8010:9000-9010/udp").unwrap();
    assert_eq!(ports.len(), 11);
    assert_eq!(ports[0], one("127.0.0.1", 8000, 9000, Protocol::Udp));
    assert_eq!(ports[10], one("127.0.0.1", 8010, 9010, Protocol::Udp));
    assert_eq!(parse("1-65535:1-65535").map(|ports| ports.len()), Ok(65535));
}

#[test]
fn refusals() {
    const HOST: &str = "the host port is missing: write HOST:CONTAINER, as in 8080:80";
    const CONTAINER: &str = "the container port is missing: write HOST:CONTAINER, as in 8080:80";
    const EMPTY: &str = "the host address is empty: leave it out for all addresses";
    const BRACKETS: &str =
        "too many colons: write an IPv6 address in brackets, as in [::1]:8080:80";
    const CLOSING: &str = "the closing bracket is missing: write [ADDR]:HOST:CONTAINER";
    const COLON: &str = "a colon is missing after the bracket: write [ADDR]:HOST:CONTAINER";
    let table = [
        ("", HOST),
        ("80", HOST),
        ("80/udp", HOST),
        (":80", HOST),
        (":", HOST),
        ("127.0.0.1:80", HOST),
        ("127.0.0.1::80", HOST),
        ("[::1]::80", HOST),
        ("[::1]:80", HOST),
        ("8080:", CONTAINER),
        ("127.0.0.1:8080:", CONTAINER),
        (":8080:80", EMPTY),
        ("::80", EMPTY),
        ("[]:8080:80", EMPTY),
        ("::1:8080:80", BRACKETS),
        ("2001:db8::1:8080:80", BRACKETS),
        ("1:2:3:4", BRACKETS),
        ("[::1:8080:80", CLOSING),
        ("[::1]8080:80", COLON),
        ("[::1]", COLON),
        ("localhost:8080:80", r#"host address "localhost" is not an IPv4 address"#),
        ("127.0.0.256:8080:80", r#"host address "127.0.0.256" is not an IPv4 address"#),
        ("[127.0.0.1]:8080:80", r#"host address "127.0.0.1" is not an IPv6 address"#),
        ("[fe80::1%eth0]:8080:80", r#"host address "fe80::1%eth0" is not an IPv6 address"#),
        (
            "[fe80::1]:8080:80",
            "host address fe80::1 cannot be bound: it is good on one interface only",
        ),
        (
            "[::ffff:1.2.3.4]:8080:80",
            "host address ::ffff:1.2.3.4 cannot be bound: it is an IPv4 address in IPv6 form; \
             write the IPv4 address",
        ),
        (
            "224.0.0.251:53:53/udp",
            "host address 224.0.0.251 cannot be bound: it is a multicast address",
        ),
        ("[ff02::1]:53:53", "host address ff02::1 cannot be bound: it is a multicast address"),
        (
            "255.255.255.255:53:53",
            "host address 255.255.255.255 cannot be bound: it is the broadcast address",
        ),
        ("0:80", "host port 0 is out of range: ports go from 1 to 65535"),
        ("8080:0", "container port 0 is out of range: ports go from 1 to 65535"),
        ("70000:80", "host port 70000 is out of range: ports go from 1 to 65535"),
        ("8080:65536", "container port 65536 is out of range: ports go from 1 to 65535"),
        (
            "8080:99999999999999999999",
            "container port 99999999999999999999 is out of range: ports go from 1 to 65535",
        ),
        ("0-10:80-90", "host port 0 is out of range: ports go from 1 to 65535"),
        ("http:80", r#"host port "http" is not a number"#),
        ("8080:http", r#"container port "http" is not a number"#),
        ("8080:+80", r#"container port "+80" is not a number"#),
        ("8080 :80", r#"host port "8080 " is not a number"#),
        ("8080:80\n", r#"container port "80\n" is not a number"#),
        ("٨٠:80", r#"host port "٨٠" is not a number"#),
        ("8000-:80-90", r#"host port "" is not a number"#),
        ("-1:80", r#"host port "" is not a number"#),
        ("1-2-3:1-3", r#"host port "2-3" is not a number"#),
        ("8010-8000:8000-8010", "host range 8010-8000 is reversed: write 8000-8010"),
        ("8000-8010:8010-8000", "container range 8010-8000 is reversed: write 8000-8010"),
        ("8000-8010:80-85", "the ranges differ in length: 11 on the host, 6 in the container"),
        ("8000-8010:80", "the ranges differ in length: 11 on the host, 1 in the container"),
        (
            "1-65535:1-65534",
            "the ranges differ in length: 65535 on the host, 65534 in the container",
        ),
        ("8080:80/sctp", "sctp is not supported: only tcp and udp"),
        ("8080:80/SCTP", "sctp is not supported: only tcp and udp"),
        ("8080:80/", r#"protocol "" is unknown: only tcp and udp"#),
        ("8080:80/tcp/udp", r#"protocol "tcp/udp" is unknown: only tcp and udp"#),
        ("8080:80/icmp", r#"protocol "icmp" is unknown: only tcp and udp"#),
    ];
    for (spec, expected) in table {
        let error = parse(spec).unwrap_err();
        assert_eq!(error.to_string(), expected, "{spec}");
    }
}

#[test]
fn a_refusal_names_the_whole_spec_and_the_part() {
    assert_eq!(
        all(&["8080:80", "127.0.0.1:81:http/udp"]).unwrap_err(),
        "rnsnet: invalid --publish \"127.0.0.1:81:http/udp\": \
         container port \"http\" is not a number"
    );
}

#[test]
fn one_host_port_is_published_once() {
    let table: [(&[&str], u16, &str); 8] = [
        (&["8080:80", "8080:80"], 8080, "tcp"),
        (&["8080:80", "8080:81/TCP"], 8080, "tcp"),
        (&["53:53/udp", "53:54/udp"], 53, "udp"),
        (&["8080:80", "127.0.0.1:8080:80"], 8080, "tcp"),
        (&["[::1]:8080:80", "8080:80"], 8080, "tcp"),
        (&["0.0.0.0:8080:80", "127.0.0.1:8080:80"], 8080, "tcp"),
        (&["[::1]:8080:80", "[::]:8080:80"], 8080, "tcp"),
        (&["8000-8010:8000-8010", "8005:80"], 8005, "tcp"),
    ];
    for (specs, port, protocol) in table {
        let expected = format!(
            "rnsnet: invalid --publish \"{}\": host port {port}/{protocol} is already \
             published by \"{}\"",
            specs[1], specs[0]
        );
        assert_eq!(all(specs), Err(expected), "{specs:?}");
    }
}

#[test]
fn different_host_ports_go_together() {
    let table: [&[&str]; 6] = [
        &["8080:80", "8081:80"],
        &["53:53/tcp", "53:53/udp"],
        &["0.0.0.0:8080:80", "[::]:8080:80"],
        &["127.0.0.1:8080:80", "127.0.0.2:8080:80"],
        &["127.0.0.1:8080:80", "[::1]:8080:80", "[::2]:8080:80"],
        &["0.0.0.0:8080:80", "[::1]:8080:80"],
    ];
    for specs in table {
        assert_eq!(all(specs).map(|ports| ports.len()), Ok(specs.len()), "{specs:?}");
    }
}

fn addresses() -> impl Strategy<Value = Option<IpAddr>> {
    proptest::option::of(any::<IpAddr>().prop_filter("bindable", |a| unbindable(*a).is_none()))
}

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        bind in addresses(),
        host_port in 1_u16..,
        guest_port in 1_u16..,
        protocol in protocols(),
    ) {
        let publish = Publish { bind, host_port, guest_port, protocol };
        prop_assert_eq!(parse(&publish.to_string()), Ok(vec![publish]));
    }

    #[test]
    fn a_range_is_its_ports(first in 1_u16..=65000, more in 0_u16..500, to in 1_u16..=65000) {
        let spec = format!("{first}-{}:{to}-{}", first + more, to + more);
        let ports = parse(&spec).unwrap();
        prop_assert_eq!(ports.len(), usize::from(more) + 1);
        for (offset, publish) in (0..).zip(ports) {
            prop_assert_eq!(publish, one("", first + offset, to + offset, Protocol::Tcp));
        }
    }

    #[test]
    fn no_text_panics(spec in ".*") {
        prop_assert!(parse(&spec).is_ok_and(|ports| !ports.is_empty()) || parse(&spec).is_err());
    }

    #[test]
    fn no_text_of_its_letters_panics(spec in r"[\[\]:.0-9a-f/%tcpudp-]{0,40}") {
        for publish in parse(&spec).into_iter().flatten().take(3) {
            prop_assert!(publish.host_port != 0 && publish.guest_port != 0);
            prop_assert_eq!(parse(&publish.to_string()), Ok(vec![publish]));
        }
    }
}
