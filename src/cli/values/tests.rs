//! Tables of what each kind of value is and is not.

use super::*;
use crate::error::report;

/// What a refused value says, without the program's name.
fn said<T: std::fmt::Debug>(
    what: &'static str,
    text: &str,
    read: impl FnOnce(&str) -> Result<T, ValueError>,
) -> String {
    let error = Input::new(what, text).read(read).unwrap_err();
    report(&error).strip_prefix("rnsnet: ").unwrap().to_owned()
}

/// Holds a table of refusals against `read`.
fn refuses<T: std::fmt::Debug>(
    read: impl Fn(&str) -> Result<T, ValueError>,
    table: &[(&str, &str)],
) {
    for (text, why) in table {
        let expected = format!("invalid --x {text:?}: {why}");
        assert_eq!(said("--x", text, &read), expected);
    }
}

#[test]
fn hardware_addresses() {
    assert_eq!(mac("02:72:0a:00:02:64"), Ok(Lease::default().mac));
    assert_eq!(mac("02:72:0A:00:02:64"), mac("02:72:0a:00:02:64"));
    const SYNTAX: &str = "write six pairs of hex digits, as in 02:72:0a:00:02:64";
    const MULTICAST: &str = "a multicast address cannot be an interface's own";
    refuses(
        mac,
        &[
            ("", SYNTAX),
            ("02:72:0a:00:02", SYNTAX),
            ("02:72:0a:00:02:64:00", SYNTAX),
            ("2:72:a:0:2:64", SYNTAX),
            ("02-72-0a-00-02-64", SYNTAX),
            ("02720a000264", SYNTAX),
            ("02:72:0a:00:02:6g", SYNTAX),
            ("02:72:0a:00:02:+4", SYNTAX),
            ("02:72:0a:00:02:é", SYNTAX),
            ("01:00:5e:00:00:01", MULTICAST),
            ("ff:ff:ff:ff:ff:ff", MULTICAST),
            ("00:00:00:00:00:00", "all zero is no address"),
        ],
    );
}

#[test]
fn interface_names() {
    for name in ["eth0", "tap0", "a", "123456789012345", "4711", "net-1.5", "été"] {
        assert_eq!(ifname(name).as_deref(), Ok(name));
    }
    refuses(
        ifname,
        &[
            ("", "it is empty"),
            ("1234567890123456", "longer than 15 bytes"),
            ("éééééééé", "longer than 15 bytes"),
            ("a/b", "an interface name cannot contain '/'"),
            ("a:b", "an interface name cannot contain ':'"),
            ("eth%d", "an interface name cannot contain '%'"),
            ("a b", "an interface name cannot contain ' '"),
            ("a\tb", "an interface name cannot contain '\\t'"),
            ("a\u{b}", "an interface name cannot contain '\\u{b}'"),
            ("lo", "the name is reserved"),
            (".", "the name is reserved"),
            ("..", "the name is reserved"),
            ("all", "the name is reserved"),
            ("default", "the name is reserved"),
        ],
    );
}

#[test]
fn numbers() {
    assert_eq!(mtu("1280").map(Mtu::get), Ok(1280));
    assert_eq!(mtu("65520").map(Mtu::get), Ok(65520));
    refuses(
        mtu,
        &[
            ("", "it is empty"),
            ("1279", "out of range: 1280 to 65520"),
            ("65521", "out of range: 1280 to 65520"),
            ("99999999999999", "out of range: 1280 to 65520"),
            ("-1500", "not a number"),
            ("1500b", "not a number"),
            ("+1500", "not a number"),
        ],
    );
    assert_eq!(fd("3"), Ok(3));
    assert_eq!(fd("2147483647"), Ok(i32::MAX));
    const STANDARD: &str = "descriptors 0, 1 and 2 are standard input, output and error";
    refuses(
        fd,
        &[
            ("", "it is empty"),
            ("-1", "a file descriptor is never negative"),
            ("-", "not a number"),
            ("x", "not a number"),
            ("0", STANDARD),
            ("1", STANDARD),
            ("2", STANDARD),
            ("2147483648", "out of range: 3 to 2147483647"),
        ],
    );
    assert_eq!(pid("1"), Ok(1));
    assert_eq!(pid("4194304"), Ok(4_194_304));
    refuses(
        pid,
        &[
            ("0", "out of range: 1 to 4194304"),
            ("4194305", "out of range: 1 to 4194304"),
            ("99999999999999999999", "out of range: 1 to 4194304"),
            ("web", "not a number"),
            ("", "it is empty"),
        ],
    );
}

#[test]
fn words() {
    assert_eq!(offload("auto"), Ok(Offload::Auto));
    assert_eq!(offload("off"), Ok(Offload::Off));
    refuses(offload, &[("", "expected auto or off"), ("on", "expected auto or off")]);
    assert_eq!(log_level("warn"), Ok(LogLevel(log::LevelFilter::Warn)));
    assert_eq!(log_level("info"), Ok(LogLevel::default()));
    const LEVELS: &str = "expected error, warn, info, debug or trace";
    refuses(log_level, &[("off", LEVELS), ("INFO", LEVELS), ("", LEVELS)]);
}

#[test]
fn host_access_lists() {
    assert_eq!(host_access("none"), Ok(HostAccess::None));
    assert_eq!(host_access("all"), Ok(HostAccess::All));
    assert_eq!(host_access("5432"), Ok(HostAccess::Ports([5432].into())));
    assert_eq!(host_access("80,443,80"), Ok(HostAccess::Ports([80, 443].into())));
    const WORDS: &str = "expected none, all or PORT[,PORT...]";
    refuses(
        host_access,
        &[
            ("", WORDS),
            ("80,", WORDS),
            (",80", WORDS),
            ("80,all", WORDS),
            ("80, 443", WORDS),
            ("http", WORDS),
            ("-1", WORDS),
            ("0", "out of range: 1 to 65535"),
            ("80,65536", "out of range: 1 to 65535"),
        ],
    );
}

#[test]
fn host_names() {
    let long = "a".repeat(64);
    for name in ["web", "web-1", "3com", "a.example.org", &long[1..]] {
        assert_eq!(hostname(name).as_deref(), Ok(name));
    }
    const SYNTAX: &str = "write letters, digits, dots and inner hyphens";
    refuses(
        hostname,
        &[
            ("", "it is empty"),
            ("-web", SYNTAX),
            ("web-", SYNTAX),
            ("a..b", SYNTAX),
            ("a.", SYNTAX),
            ("my_host", SYNTAX),
            ("wéb", SYNTAX),
            ("a b", SYNTAX),
            (&long, "longer than 63 bytes"),
        ],
    );
}

#[test]
fn paths() {
    assert_eq!(path("-"), Ok(PathBuf::from("-")));
    assert_eq!(output("./-"), Ok(PathBuf::from("./-")));
    refuses(path, &[("", "it is empty")]);
    refuses(
        output,
        &[
            ("", "it is empty"),
            ("-", "standard output is not supported; a file of that name is ./-"),
        ],
    );
}

fn said_of_addresses(cidr: Option<&str>, ip: Option<&str>) -> String {
    report(&addresses(cidr, ip, None).unwrap_err())
}

fn said_of_addresses6(cidr6: Option<&str>, ip6: Option<&str>) -> String {
    report(&addresses(None, None, Some((cidr6, ip6))).unwrap_err())
}

#[test]
fn nothing_given_is_the_default_network() {
    let default = (Addresses::default(), Lease::default());
    assert_eq!(addresses(None, None, Some((None, None))), Ok(default));
    let v4_only =
        (Addresses { v6: None, ..Addresses::default() }, Lease { v6: None, ..Lease::default() });
    assert_eq!(addresses(None, None, None), Ok(v4_only));
    let typed = addresses(
        Some("10.0.2.0/24"),
        Some("10.0.2.100"),
        Some((Some("fd72:6e73:6e65::/64"), Some("fd72:6e73:6e65::100"))),
    );
    assert_eq!(typed, Ok(default));
}

#[test]
fn addresses_keep_their_places_in_another_prefix() {
    let table = [
        ("192.168.7.0/24", None, ["192.168.7.2", "192.168.7.3", "192.168.7.100"]),
        ("10.0.0.0/8", None, ["10.0.0.2", "10.0.0.3", "10.0.0.100"]),
        ("10.0.0.0/8", Some("10.9.8.7"), ["10.0.0.2", "10.0.0.3", "10.9.8.7"]),
        ("10.1.1.128/25", None, ["10.1.1.130", "10.1.1.131", "10.1.1.228"]),
        ("10.1.1.8/29", Some("10.1.1.14"), ["10.1.1.10", "10.1.1.11", "10.1.1.14"]),
        ("64.0.0.0/3", None, ["64.0.0.2", "64.0.0.3", "64.0.0.100"]),
    ];
    for (cidr, ip, expected) in table {
        let (Addresses { v4, .. }, lease) = addresses(Some(cidr), ip, None).unwrap();
        let got = [v4.gateway, v4.dns, lease.v4].map(|address| address.to_string());
        assert_eq!(got, expected, "{cidr}");
    }
    let (Addresses { v6, .. }, lease) =
        addresses(None, None, Some((Some("2001:db8:1:2::/64"), None))).unwrap();
    let v6 = v6.unwrap();
    assert_eq!(v6.subnet.address.to_string(), "2001:db8:1:2::");
    assert_eq!(v6.gateway.to_string(), "2001:db8:1:2::2");
    assert_eq!(v6.dns.to_string(), "2001:db8:1:2::3");
    assert_eq!(lease.v6.unwrap().to_string(), "2001:db8:1:2::100");
}

#[test]
fn an_address_elsewhere_brings_its_prefix() {
    let ip6 = "2001:db8:1:2::7:7";
    let (Addresses { v4, v6 }, lease) =
        addresses(None, Some("10.9.0.7"), Some((None, Some(ip6)))).unwrap();
    let v6 = v6.unwrap();
    let got = [v4.subnet.address, v4.gateway, v4.dns, lease.v4].map(|ip| ip.to_string());
    assert_eq!(got, ["10.9.0.0", "10.9.0.2", "10.9.0.3", "10.9.0.7"]);
    assert_eq!((v4.subnet.prefix_len, v6.subnet.prefix_len), (24, 64));
    let got = [v6.subnet.address, v6.gateway, v6.dns, lease.v6.unwrap()].map(|ip| ip.to_string());
    assert_eq!(got, ["2001:db8:1:2::", "2001:db8:1:2::2", "2001:db8:1:2::3", ip6]);
}

#[test]
fn prefixes() {
    const SYNTAX: &str = "write ADDRESS/LENGTH, as in 10.0.2.0/24";
    const LOOPBACK: &str = "it overlaps 127.0.0.0/8, the loopback";
    const ZERO: &str = "it overlaps 0.0.0.0/8, this network";
    const MULTICAST: &str = "it overlaps 224.0.0.0/3, the multicast and reserved addresses";
    const SMALL: &str =
        "too small for a gateway, a DNS server and a container: /29 is the smallest";
    refuses(
        cidr4,
        &[
            ("", SYNTAX),
            ("10.0.2.0", SYNTAX),
            ("10.0.2/24", "not an IPv4 address"),
            ("fd00::/64", "not an IPv4 address"),
            ("10.0.2.0/", r#"prefix length "" is not from 1 to 29"#),
            ("10.0.2.0/0", r#"prefix length "0" is not from 1 to 29"#),
            ("10.0.2.0/33", r#"prefix length "33" is not from 1 to 29"#),
            ("10.0.2.0/+24", r#"prefix length "+24" is not from 1 to 29"#),
            ("10.0.2.0/24/8", r#"prefix length "24/8" is not from 1 to 29"#),
            ("10.0.2.0/255.255.255.0", r#"prefix length "255.255.255.0" is not from 1 to 29"#),
            ("10.0.2.0/30", SMALL),
            ("10.0.2.1/32", SMALL),
            ("10.0.2.1/24", "it has host bits set: the prefix is 10.0.2.0/24"),
            ("10.0.2.0/22", "it has host bits set: the prefix is 10.0.0.0/22"),
            ("127.0.0.0/8", LOOPBACK),
            ("127.1.2.0/24", LOOPBACK),
            ("96.0.0.0/3", LOOPBACK),
            ("0.0.0.0/1", ZERO),
            ("0.0.1.0/24", ZERO),
            ("224.0.0.0/24", MULTICAST),
            ("128.0.0.0/1", MULTICAST),
            ("255.255.255.0/24", MULTICAST),
        ],
    );
    const SYNTAX6: &str = "write ADDRESS/LENGTH, as in fd00:1:2:3::/64";
    refuses(
        cidr6_64,
        &[
            ("", SYNTAX6),
            ("fd00::", SYNTAX6),
            ("10.0.2.0/24", "not an IPv6 address"),
            ("fd00::/48", r#"prefix length "48" is not 64"#),
            ("fd00::/128", r#"prefix length "128" is not 64"#),
            ("fd00::1/64", "it has host bits set: the prefix is fd00::/64"),
            ("::/64", "it overlaps ::/64, the loopback and mapped addresses"),
            ("fe80::/64", "it overlaps fe80::/10, the link-local addresses"),
            ("ff02::/64", "it overlaps ff00::/8, the multicast addresses"),
        ],
    );
}

#[test]
fn container_addresses() {
    let table = [
        (None, "127.0.3.5", "it overlaps 127.0.0.0/8, the loopback"),
        (None, "10.0.3.2", "it is the gateway's address"),
        (Some("10.7.0.0/16"), "10.0.2.100", "outside the subnet 10.7.0.0/16"),
        (None, "10.0.2.0", "it is the network's own address"),
        (None, "10.0.2.255", "it is the broadcast address"),
        (Some("10.1.1.8/29"), "10.1.1.15", "it is the broadcast address"),
        (None, "10.0.2.2", "it is the gateway's address"),
        (None, "10.0.2.3", "it is the DNS server's address"),
        (None, "10.0.2.100/24", "the prefix length goes into --cidr"),
        (None, "10.0.2", "not an IPv4 address"),
        (None, "fd00::1", "not an IPv4 address"),
        (None, "", "not an IPv4 address"),
    ];
    for (cidr, ip, why) in table {
        let expected = format!("rnsnet: invalid --ip {ip:?}: {why}");
        assert_eq!(said_of_addresses(cidr, Some(ip)), expected);
    }
    assert_eq!(
        said_of_addresses(Some("10.0.2.0/26"), None),
        "rnsnet: invalid --cidr \"10.0.2.0/26\": \
         too small for the default container address 10.0.2.100: give --ip"
    );
    let table = [
        (Some("fd00::/64"), "fd00:0:0:1::5", "outside the subnet fd00::/64"),
        (None, "fe80::5", "it overlaps fe80::/10, the link-local addresses"),
        (Some("fd00::/64"), "fd00::", "it is the subnet-router anycast address"),
        (None, "fd72:6e73:6e65::2", "it is the gateway's address"),
        (None, "fd72:6e73:6e65::3", "it is the DNS server's address"),
        (None, "fd72:6e73:6e65::5/64", "the prefix length goes into --cidr6"),
        (None, "10.0.2.5", "not an IPv6 address"),
    ];
    for (cidr6, ip6, why) in table {
        let expected = format!("rnsnet: invalid --ip6 {ip6:?}: {why}");
        assert_eq!(said_of_addresses6(cidr6, Some(ip6)), expected);
    }
}
