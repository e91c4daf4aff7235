//! What the words of `rnsnet network ...` mean, and which are refused.

use std::ffi::OsString;

use crate::cli::Environment;
use crate::error::{Error, report};
use crate::verbs::{Command, environment, parse};

fn understood(line: &str) -> String {
    match parse(&environment(Environment::default()), line.split_whitespace().map(OsString::from)) {
        Ok(Command::Verb(action)) => format!("{action:?}"),
        Ok(other) => format!("{other:?}"),
        Err(error) => report(&Error::from(error)),
    }
}

// E2
#[test]
fn the_documents_command_line_is_understood() {
    let plan = understood(
        "network create --driver=bridge --subnet=192.168.100.0/24 --gateway=192.168.100.1 \
         --ip-range 192.168.100.128/30 --aux-address r=192.168.100.7 --label tier=front \
         --label lone -o com.docker.network.driver.mtu=1400 --opt icc=false --dns 192.0.2.53 \
         --internal --ipv6 --attachable --scope local --ipam-driver default my-custom-net",
    );
    for part in [
        "driver: \"bridge\"",
        "name: \"my-custom-net\"",
        "subnets: [Prefix { address: 192.168.100.0, len: 24 }]",
        "gateways: [192.168.100.1]",
        "ip_ranges: [Prefix { address: 192.168.100.128, len: 30 }]",
        "aux: {\"r\": 192.168.100.7}",
        "labels: {\"lone\": \"\", \"tier\": \"front\"}",
        "mtu: Mtu(1400)",
        "resolvers: [192.0.2.53]",
        "ipv6: true, internal: true, isolate: true",
        "attachable: true",
    ] {
        assert!(plan.contains(part), "{part} is not in {plan}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (line, message) in [
        ("create", "NETWORK is missing"),
        (
            "create n --subnet 10.0.0.7/24",
            "invalid --subnet \"10.0.0.7/24\": it has host bits set: the prefix is 10.0.0.0/24",
        ),
        ("create n --gateway x", "invalid --gateway \"x\": not an IP address"),
        (
            "create n --aux-address 10.0.0.7",
            "invalid --aux-address \"10.0.0.7\": write NAME=ADDRESS",
        ),
        (
            "create n --aux-address a=1.2.3.4 --aux-address a=1.2.3.5",
            "--aux-address is given twice",
        ),
        ("create n --group=", "invalid --group \"\": it is empty"),
        ("create n --label =x", "invalid --label \"=x\": write KEY or KEY=VALUE"),
        (
            "create n -o vlan=7",
            "invalid --opt \"vlan=7\": no interface of the host is part of a network",
        ),
        ("create n --dns fe80::1", "invalid --dns \"fe80::1\": it is good on one interface only"),
        ("create n --dns 0.0.0.0", "invalid --dns \"0.0.0.0\": expected the address of one server"),
        (
            "update n --dns-add 255.255.255.255",
            "invalid --dns-add \"255.255.255.255\": expected the address of one server",
        ),
        (
            "update n --dns-add ff02::1",
            "invalid --dns-add \"ff02::1\": expected the address of one server",
        ),
        (
            "create n -o host_binding=ff02::1",
            "invalid --opt \"host_binding=ff02::1\": it is a multicast address",
        ),
        ("create n -o mtu", "invalid --opt \"mtu\": write KEY=VALUE"),
        ("create n --dns 1.1.1.1 --disable-dns", "--dns cannot be combined with --disable-dns"),
        (
            "create n --scope swarm",
            "invalid --scope \"swarm\": it is local, and global for those that span hosts (-d overlay)",
        ),
        (
            "create n --ipam-driver dhcp",
            "invalid --ipam-driver \"dhcp\": addresses are given here: default or host-local",
        ),
        ("create n --ingress", "--ingress cannot be had: it is a matter of Swarm"),
        ("create n --config-from x", "--config-from cannot be had: it is a matter of Swarm"),
        (
            "ls -f colour=red",
            "invalid --filter \"colour=red\": expected dangling=, driver=, id=, name=, scope=, type=, label= \
             or until=",
        ),
        ("ls --format {{.Name", "invalid --format \"{{.Name\": {{ without }}"),
        ("ls -q --format json", "--quiet cannot be combined with --format"),
        (
            "prune --filter name=x",
            "invalid --filter \"name=x\": expected until=TIME, label=KEY[=VALUE] or \
             label!=KEY[=VALUE]",
        ),
        (
            "connect n web --link-local-ip 192.0.2.1",
            "invalid --link-local-ip \"192.0.2.1\": expected an address of 169.254.0.0/16 or \
             fe80::/10",
        ),
        (
            "connect n web --link-local-ip 169.254.1.1 --link-local-ip 169.254.1.2",
            "invalid --link-local-ip \"169.254.1.2\": one address of each family is the most",
        ),
        (
            "connect n web --driver-opt a=b",
            "invalid --driver-opt \"a=b\": a connection has no options of a driver",
        ),
        (
            "connect n web --mac 02:00:00:00:00:01 --mac-address 02:00:00:00:00:02",
            "--mac is given twice",
        ),
        ("update n", "an option is missing that says what to change"),
        (
            "update n --rate fast",
            "invalid --rate \"fast\": expected down=RATE,up=RATE or RATE for both, with a RATE as 10mbit, 1mbps or none",
        ),
        (
            "create n --rate 1",
            "invalid --rate \"1\": out of range: 8kbit to 1tbit; without a unit it is bits",
        ),
        ("rm", "NETWORK is missing"),
    ] {
        let verb = line.split(' ').next().unwrap();
        let told = understood(&format!("network {line}"));
        let expected = format!("rnsnet: network {verb}: {message}");
        assert_eq!(told.lines().next(), Some(expected.as_str()), "{line}");
    }
}

#[test]
fn a_number_that_is_no_pid_is_an_id() {
    for verb in ["connect", "disconnect"] {
        for (word, guest) in [
            ("4194304", "guest: At(Pid(4194304))"),
            ("4194305", "guest: Named(\"4194305\")"),
            ("123456789012", "guest: Named(\"123456789012\")"),
            ("web", "guest: Named(\"web\")"),
        ] {
            let action = understood(&format!("network {verb} n1 {word}"));
            assert!(action.contains(guest), "{guest} is not in {action}");
        }
    }
}
