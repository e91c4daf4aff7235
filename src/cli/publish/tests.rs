//! Tables and properties of the `--publish` grammar.

use super::*;
use proptest::prelude::*;

fn addresses(all: &[&str]) -> Bind {
    match all {
        [] => Bind::All,
        all => Bind::Addresses(all.iter().map(|address| address.parse().unwrap()).collect()),
    }
}

fn one(bind: &str, host_port: u16, guest_port: u16, protocol: Protocol) -> Publish {
    let on = if bind.is_empty() { Bind::All } else { addresses(&[bind]) };
    Publish::at(on, HostPorts::Exactly(Ports::one(host_port)), Ports::one(guest_port), protocol)
}

fn parse(spec: &str) -> Result<Publish, PublishError> {
    super::parse(spec, &PublishDefaults::default())
}

fn all(specs: &[&str]) -> Result<Vec<Publish>, String> {
    let specs: Vec<String> = specs.iter().map(|&spec| spec.to_owned()).collect();
    parse_all(&specs, &PublishDefaults::default()).map_err(|error| crate::error::report(&error))
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
        assert_eq!(parse(spec), Ok(expected), "{spec}");
    }
}

#[test]
fn ranges_stay_ranges() {
    let (host, guest) = (Ports { first: 8000, last: 8010 }, Ports { first: 9000, last: 9010 });
    let on = || addresses(&["127.0.0.1"]);
    assert_eq!(
        parse("127.0.0.1:8000-8010:9000-9010/udp"),
        Ok(Publish::at(on(), HostPorts::Exactly(host), guest, Protocol::Udp))
    );
    assert_eq!(
        parse("127.0.0.1:8000-8010:80"),
        Ok(Publish::at(on(), HostPorts::FirstFree(host), Ports::one(80), Protocol::Tcp))
    );
    assert_eq!(parse("1-65535:1-65535").map(|rule| rule.guest.count()), Ok(65535));
}

#[test]
fn a_host_port_that_is_left_out_is_a_free_one() {
    let free = |on, guest, protocol| Ok(Publish::at(on, HostPorts::Free, guest, protocol));
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let table = [
        ("80", free(Bind::All, Ports::one(80), tcp)),
        ("80/udp", free(Bind::All, Ports::one(80), udp)),
        (":80", free(Bind::All, Ports::one(80), tcp)),
        ("80-82", free(Bind::All, Ports { first: 80, last: 82 }, tcp)),
        ("127.0.0.1::80", free(addresses(&["127.0.0.1"]), Ports::one(80), tcp)),
        ("[::1]::80/udp", free(addresses(&["::1"]), Ports::one(80), udp)),
        ("eth0/80", free(Bind::Interface("eth0".into()), Ports::one(80), tcp)),
        ("eth0/:80/udp", free(Bind::Interface("eth0".into()), Ports::one(80), udp)),
    ];
    for (spec, expected) in table {
        assert_eq!(parse(spec), expected, "{spec}");
    }
}

#[test]
fn an_interface_stands_for_its_addresses() {
    let on = |name: &str| Bind::Interface(name.to_owned());
    let (host, guest) = (HostPorts::Exactly(Ports::one(8080)), Ports::one(80));
    for (spec, name, protocol) in [
        ("eth0/8080:80", "eth0", Protocol::Tcp),
        ("eth0/8080:80/udp", "eth0", Protocol::Udp),
        ("lo/8080:80/tcp", "lo", Protocol::Tcp),
        ("br-0.5/8080:80", "br-0.5", Protocol::Tcp),
        // Names are names even if they look like ports or protocols.
        ("80/8080:80", "80", Protocol::Tcp),
        ("udp/8080:80", "udp", Protocol::Tcp),
    ] {
        assert_eq!(parse(spec), Ok(Publish::at(on(name), host, guest, protocol)), "{spec}");
    }
}

#[test]
fn a_descriptor_stands_for_its_socket() {
    let expected = |fd, protocol_typed, protocol| Publish {
        host: HostSide::Inherited { fd, protocol_typed },
        guest: Ports::one(80),
        protocol,
        from: Vec::new(),
        freebind: false,
    };
    assert_eq!(parse("fd:3:80"), Ok(expected(3, false, Protocol::Tcp)));
    assert_eq!(parse("fd:10:80/udp"), Ok(expected(10, true, Protocol::Udp)));
}

#[test]
fn clients_are_named_by_prefixes() {
    let from = |spec: &str| {
        let rule = parse(spec).unwrap();
        rule.from.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(from("8080:80").is_empty());
    assert_eq!(from("8080:80,from=192.0.2.0/24"), ["192.0.2.0/24"]);
    assert_eq!(from("80/udp,from=192.0.2.9,from=2001:db8::/32"), ["192.0.2.9/32", "2001:db8::/32"]);
    assert_eq!(from("fd:3:80,from=::/0,from=0.0.0.0/0"), ["::/0", "0.0.0.0/0"]);
    assert_eq!(from("eth0/80:80,from=::1"), ["::1/128"]);
}

#[test]
fn defaults_hold_where_nothing_else_is_said() {
    let bind = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let defaults = PublishDefaults { bind, freebind: true };
    let rule = super::parse("8080:80", &defaults).unwrap();
    assert!(rule.freebind);
    let on = addresses(&["127.0.0.1", "::1"]);
    assert_eq!(rule.host, HostSide::Bound { on, ports: HostPorts::Exactly(Ports::one(8080)) });
    for (spec, on) in
        [("0.0.0.0:1:2", addresses(&["0.0.0.0"])), ("eth0/1:2", Bind::Interface("eth0".into()))]
    {
        let host = super::parse(spec, &defaults).unwrap().host;
        assert_eq!(
            host,
            HostSide::Bound { on, ports: HostPorts::Exactly(Ports::one(1)) },
            "{spec}"
        );
    }
}

#[test]
fn refusals() {
    const CONTAINER: &str = "the container port is missing: write HOST:CONTAINER, as in 8080:80";
    const EMPTY: &str = "the host address is empty: leave it out for all addresses";
    const BRACKETS: &str =
        "too many colons: write an IPv6 address in brackets, as in [::1]:8080:80";
    const CLOSING: &str = "the closing bracket is missing: write [ADDR]:HOST:CONTAINER";
    const COLON: &str = "a colon is missing after the bracket: write [ADDR]:HOST:CONTAINER";
    const BOTH: &str =
        "give an interface or an address, not both: an interface means all its addresses";
    let table = [
        ("", CONTAINER),
        (":", CONTAINER),
        ("/tcp", CONTAINER),
        ("8080:", CONTAINER),
        ("127.0.0.1:8080:", CONTAINER),
        ("127.0.0.1::", CONTAINER),
        ("eth0/", r#"protocol "" is unknown: only tcp and udp"#),
        ("eth0/8080:", CONTAINER),
        ("fd:3:", CONTAINER),
        ("fd:3", CONTAINER),
        (
            "127.0.0.1:80",
            "which port is it: write 127.0.0.1::80 for a free host port, \
             127.0.0.1:HOST:80 for one of your choice",
        ),
        (
            "[::1]:80",
            "which port is it: write [::1]::80 for a free host port, [::1]:HOST:80 for one of \
             your choice",
        ),
        ("eth0/127.0.0.1:8080:80", BOTH),
        ("eth0/[::1]:8080:80", BOTH),
        (
            "a-name-that-is-too-long/8080:80",
            r#"interface "a-name-that-is-too-long": longer than 15 bytes"#,
        ),
        ("/8080:80", r#"interface "": it is empty"#),
        ("a b/8080:80", r#"interface "a b": an interface name cannot contain ' '"#),
        ("8080:80/8080:80", r#"interface "8080:80": an interface name cannot contain ':'"#),
        ("all/8080:80", r#"interface "all": the name is reserved"#),
        ("fd:x:80", r#"descriptor "x": not a number"#),
        ("fd::80", r#"descriptor "": it is empty"#),
        (
            "fd:2:80",
            r#"descriptor "2": descriptors 0, 1 and 2 are standard input, output and error"#,
        ),
        ("fd:-3:80", r#"descriptor "-3": a file descriptor is never negative"#),
        ("fd:3:8080:80", "an inherited socket has its own address and port: write fd:3:CONTAINER"),
        ("fd:3:80-81", "an inherited socket is one port: 80-81 are several"),
        ("8080:80,", r#""" is unknown: only from=CIDR may follow a comma"#),
        ("8080:80,via=tap", r#""via=tap" is unknown: only from=CIDR may follow a comma"#),
        (
            "8080:80,from=lan",
            "from=lan: not a prefix, as in 192.0.2.0/24 or 2001:db8::/32, nor an address",
        ),
        (
            "8080:80,from=",
            "from=: not a prefix, as in 192.0.2.0/24 or 2001:db8::/32, nor an address",
        ),
        (
            "8080:80,from=192.0.2.9/24",
            "from=192.0.2.9/24: it has host bits set: the prefix is 192.0.2.0/24",
        ),
        (
            "8080:80,from=2001:db8::1/32",
            "from=2001:db8::1/32: it has host bits set: the prefix is 2001:db8::/32",
        ),
        ("8080:80,from=::ffff:1.2.3.4", "from=::ffff:1.2.3.4: write the IPv4 address"),
        (
            "8080:80,from=192.0.2.0/33",
            r#"from=192.0.2.0/33: prefix length "33" is not from 0 to 32"#,
        ),
        ("8080:80,from=::/+1", r#"from=::/+1: prefix length "+1" is not from 0 to 128"#),
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
        ("lan:80", r#"host port "lan" is not a number"#),
        ("1-2-3:1-3", r#"host port "2-3" is not a number"#),
        ("8010-8000:8000-8010", "host range 8010-8000 is reversed: write 8000-8010"),
        ("8000-8010:8010-8000", "container range 8010-8000 is reversed: write 8000-8010"),
        ("8000-8010:80-85", "the ranges differ in length: 11 on the host, 6 in the container"),
        ("80:80-82", "the ranges differ in length: 1 on the host, 3 in the container"),
        ("8000-8010:80-81", "the ranges differ in length: 11 on the host, 2 in the container"),
        (
            "1-65535:1-65534",
            "the ranges differ in length: 65535 on the host, 65534 in the container",
        ),
        ("8080:80/sctp", "sctp is not supported: only tcp and udp"),
        ("8080:80/SCTP", "sctp is not supported: only tcp and udp"),
        ("8080:80/", r#"protocol "" is unknown: only tcp and udp"#),
        ("8080:80/tcp/udp", r#"interface "8080:80": an interface name cannot contain ':'"#),
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
    let table: [(&[&str], u16, &str); 11] = [
        (&["8080:80", "8080:80"], 8080, "tcp"),
        (&["8080:80", "8080:81/TCP"], 8080, "tcp"),
        (&["53:53/udp", "53:54/udp"], 53, "udp"),
        (&["8080:80", "127.0.0.1:8080:80"], 8080, "tcp"),
        (&["[::1]:8080:80", "8080:80"], 8080, "tcp"),
        (&["0.0.0.0:8080:80", "127.0.0.1:8080:80"], 8080, "tcp"),
        (&["[::1]:8080:80", "[::]:8080:80"], 8080, "tcp"),
        (&["8000-8010:8000-8010", "8005:80"], 8005, "tcp"),
        (&["8000-8010:8000-8010", "8010-8020:8010-8020"], 8010, "tcp"),
        (&["eth0/8080:80", "8080:81"], 8080, "tcp"),
        (&["eth0/8080:80", "eth0/8080:81"], 8080, "tcp"),
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
    let table: [&[&str]; 12] = [
        &["8080:80", "8081:80"],
        &["53:53/tcp", "53:53/udp"],
        &["0.0.0.0:8080:80", "[::]:8080:80"],
        &["127.0.0.1:8080:80", "127.0.0.2:8080:80"],
        &["127.0.0.1:8080:80", "[::1]:8080:80", "[::2]:8080:80"],
        &["0.0.0.0:8080:80", "[::1]:8080:80"],
        &["8000-8010:8000-8010", "8011-8020:8011-8020"],
        &["8000-8001:80", "8000-8001:80", "8000:80"],
        &["80", "80", "81"],
        &["eth0/8080:80", "eth1/8080:80"],
        // Whether eth0 has this address is known only when it is bound.
        &["eth0/8080:80", "192.0.2.1:8080:80"],
        &["fd:3:80", "fd:4:80", "80:80"],
    ];
    for specs in table {
        assert_eq!(all(specs).map(|ports| ports.len()), Ok(specs.len()), "{specs:?}");
    }
}

#[test]
fn a_descriptor_is_published_once() {
    assert_eq!(
        all(&["fd:3:80", "fd:3:81"]).unwrap_err(),
        "rnsnet: invalid --publish \"fd:3:81\": descriptor 3 is already published by \"fd:3:80\""
    );
}

fn binds() -> impl Strategy<Value = Bind> {
    let address = any::<IpAddr>().prop_filter("bindable", |a| unbindable(*a).is_none());
    prop_oneof![
        Just(Bind::All),
        address.prop_map(|address| Bind::Addresses(vec![address])),
        "[a-z][a-z0-9.-]{0,9}".prop_map(Bind::Interface),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    (1_u16..=65000, 0_u16..500).prop_map(|(first, more)| Ports { first, last: first + more })
}

fn rules() -> impl Strategy<Value = Publish> {
    let kind = (0..4, binds(), ports(), any::<u16>(), 3..1000);
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let prefixes = proptest::collection::vec((any::<IpAddr>(), 0..=32_u8), 0..3);
    (kind, protocol, prefixes).prop_map(|((kind, on, guest, port, fd), protocol, prefixes)| {
        let one = Ports::one(guest.first);
        let first = port.clamp(1, 65000 - 500);
        let (host, guest) = match kind {
            0 => (HostSide::Inherited { fd, protocol_typed: true }, one),
            1 => (HostSide::Bound { on, ports: HostPorts::Free }, guest),
            2 => {
                let ports = HostPorts::FirstFree(Ports { first, last: first + 7 });
                (HostSide::Bound { on, ports }, one)
            }
            _ => {
                let last = first + (guest.last - guest.first);
                (HostSide::Bound { on, ports: HostPorts::Exactly(Ports { first, last }) }, guest)
            }
        };
        let cut = |(address, length): (IpAddr, u8)| match address {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => None,
            _ => Prefix::around(address, length),
        };
        let from = prefixes.into_iter().filter_map(cut).collect();
        Publish { host, guest, protocol, from, freebind: false }
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(rule in rules()) {
        prop_assert_eq!(parse(&rule.to_string()), Ok(rule));
    }

    #[test]
    fn no_text_panics(spec in ".*") {
        drop(parse(&spec));
    }

    #[test]
    fn no_text_of_its_letters_panics(spec in r"[\[\]:.0-9a-f/%tcpudprom=,-]{0,40}") {
        if let Ok(rule) = parse(&spec) {
            prop_assert!(rule.guest.first != 0);
            prop_assert_eq!(parse(&rule.to_string()), Ok(rule));
        }
    }
}
