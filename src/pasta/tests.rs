//! Tests of what of the host's addresses and routes a container gets.

use super::*;
use crate::cli::pasta::{Command, parse};
use crate::engine::nat::{Meaning, denied, inbound, translate};
use crate::sys::host_links::HostAddress;

const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

fn route(index: u32, destination: &str, prefix_len: u8, gateway: Option<&str>) -> HostRoute {
    let destination = destination.parse().unwrap();
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    let route = LinkRoute { destination, prefix_len, gateway, on_link: false, metric: None };
    HostRoute { index, route, of_address: false }
}

fn metric(metric: u32, route: HostRoute) -> HostRoute {
    HostRoute { route: LinkRoute { metric: Some(metric), ..route.route }, ..route }
}

fn of_address(route: HostRoute) -> HostRoute {
    HostRoute { of_address: true, ..route }
}

fn address(index: u32, address: &str, prefix_len: u8) -> HostAddress {
    HostAddress { index, address: address.parse().unwrap(), prefix_len }
}

/// eth0 with two addresses of each family and a default route, and a second uplink.
fn host() -> HostLinks {
    HostLinks {
        names: vec![(1, "lo".into()), (2, "eth0".into()), (3, "wlan0".into())],
        addresses: vec![
            address(3, "198.51.100.9", 24),
            address(2, "192.0.2.1", 24),
            address(2, "192.0.2.2", 24),
            address(2, "2001:db8:5::1", 64),
        ],
        routes: vec![
            metric(600, route(3, "0.0.0.0", 0, Some("198.51.100.1"))),
            metric(100, route(2, "0.0.0.0", 0, Some("192.0.2.254"))),
            of_address(route(2, "192.0.2.0", 24, None)),
            route(2, "203.0.113.0", 24, Some("10.9.0.1")),
            route(2, "10.9.0.1", 32, None),
            of_address(route(2, "fe80::", 64, None)),
            of_address(route(2, "2001:db8:5::", 64, None)),
            metric(1024, route(2, "::", 0, Some("fe80::99"))),
        ],
    }
}

fn planned(host: &HostLinks, line: &str) -> Result<Plan, PlanError> {
    let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
    let Ok(Command::Pasta(pasta)) = parse(&words) else { panic!("{line}") };
    plan(*pasta, host, "/bin/zsh".into(), &EPHEMERAL)
}

#[track_caller]
fn attached(host: &HostLinks, line: &str) -> Attach {
    match planned(host, line) {
        Ok(Plan::Attach(attach)) => attach,
        other => panic!("{line}: {other:?}"),
    }
}

fn addresses(attach: &Attach) -> Vec<String> {
    let layout = attach.caller.layout.as_ref().unwrap();
    layout.addresses.iter().map(|(address, len)| format!("{address}/{len}")).collect()
}

fn routes(attach: &Attach) -> Vec<String> {
    let layout = attach.caller.layout.as_ref().unwrap();
    layout.routes.iter().map(ToString::to_string).collect()
}

fn meaning(attach: &Attach, to: &str) -> Meaning {
    translate(&attach.network, to.parse().unwrap())
}

fn host_at(address: &str) -> Meaning {
    Meaning::Host(address.parse().unwrap())
}

const PODMAN: &str = "--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
    --no-map-gw --quiet --netns /n --map-guest-addr 169.254.1.2";

#[test]
fn the_addresses_and_routes_of_the_default_route_s_interface_are_copied() {
    let attach = attached(&host(), PODMAN);
    assert_eq!(addresses(&attach), ["192.0.2.1/24", "192.0.2.2/24", "2001:db8:5::1/64"]);
    // The link before the gateways that are reached by it; none that an address brings along.
    assert_eq!(
        routes(&attach),
        [
            "the route to 10.9.0.1/32",
            "the default route by 192.0.2.254",
            "the route to 203.0.113.0/24 by 10.9.0.1",
            "the default route by fe80::99",
        ]
    );
    let layout = attach.caller.layout.as_ref().unwrap();
    assert!(layout.routes.iter().all(|route| route.on_link == route.gateway.is_some()));
    assert_eq!(attach.endpoint.ifname, "eth0");
    assert_eq!(attach.endpoint.lease.v4, Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(attach.network.addresses.v4.subnet.address, Ipv4Addr::new(192, 0, 2, 0));
    assert_eq!(attach.caller.setup, Setup::Configure);
}

#[test]
fn addresses_mean_what_podman_says() {
    let attach = attached(&host(), PODMAN);
    assert_eq!(meaning(&attach, "169.254.1.1:53"), Meaning::Dns);
    assert_eq!(meaning(&attach, "169.254.1.2:8080"), host_at("192.0.2.1:8080"));
    // The router and the neighbours are machines of the host's network.
    assert_eq!(meaning(&attach, "192.0.2.254:22"), host_at("192.0.2.254:22"));
    assert_eq!(meaning(&attach, "192.0.2.9:7"), host_at("192.0.2.9:7"));
    assert_eq!(meaning(&attach, "[2001:db8:5::9]:7"), host_at("[2001:db8:5::9]:7"));
    // No address leads to the host's loopback, or to other things only the host has.
    for closed in ["127.0.0.1:22", "[::1]:22", "169.254.169.254:80", "[fe80::99]:22", "0.0.0.0:1"] {
        assert_eq!(meaning(&attach, closed), Meaning::Denied, "{closed}");
    }
    assert!(denied(&attach.network, "::ffff:127.0.0.1".parse().unwrap()));
}

#[test]
fn the_router_s_address_is_the_host_s_loopback_unless_told() {
    let attach = attached(&host(), "--config-net 1");
    assert_eq!(meaning(&attach, "192.0.2.254:22"), host_at("127.0.0.1:22"));
    assert_eq!(meaning(&attach, "[fe80::99]:22"), host_at("[::1]:22"));
    let attach = attached(&host(), "--config-net --map-host-loopback 192.0.2.77 1");
    assert_eq!(meaning(&attach, "192.0.2.77:22"), host_at("127.0.0.1:22"));
    assert_eq!(meaning(&attach, "192.0.2.254:22"), host_at("192.0.2.254:22"));
}

#[test]
fn clients_are_seen_as_what_stands_for_them() {
    let seen = |line: &str, client: &str| {
        let attach = attached(&host(), line);
        let client = client.parse().unwrap();
        inbound(&attach.network, &attach.endpoint.lease, client, None).source.to_string()
    };
    assert_eq!(seen(PODMAN, "192.0.2.9"), "192.0.2.9");
    assert_eq!(seen(PODMAN, "192.0.2.1"), "169.254.1.2");
    assert_eq!(seen(PODMAN, "127.0.0.1"), "192.0.2.254");
    assert_eq!(seen(PODMAN, "::1"), "fe80::99");
    assert_eq!(seen(PODMAN, "2001:db8:5::1"), "fe80::99");
    assert_eq!(seen("--config-net 1", "192.0.2.1"), "192.0.2.254");
    assert_eq!(seen("--config-net --map-host-loopback 192.0.2.77 1", "127.0.0.1"), "192.0.2.77");
}

#[test]
fn addresses_that_are_given_take_the_place_of_the_host_s() {
    let attach = attached(
        &host(),
        "--config-net --ipv4-only -a 10.0.2.100 -n 24 -g 10.0.2.2 --dns-forward 10.0.2.3 \
         -I tap0 -t none -u none 1",
    );
    assert_eq!(addresses(&attach), ["10.0.2.100/24"]);
    assert_eq!(routes(&attach), ["the default route by 10.0.2.2"]);
    assert_eq!((attach.endpoint.ifname.as_str(), attach.network.addresses.v6), ("tap0", None));
    assert_eq!(meaning(&attach, "10.0.2.3:53"), Meaning::Dns);
    assert_eq!(addresses(&attached(&host(), "-4 -a 192.0.2.2 1")), ["192.0.2.2/24"]);
    assert_eq!(addresses(&attached(&host(), "-4 -a 172.20.0.7 1")), ["172.20.0.7/16"]);
    assert_eq!(addresses(&attached(&host(), "-4 -n 28 1")), ["192.0.2.1/28", "192.0.2.2/24"]);
    assert_eq!(addresses(&attached(&host(), "-6 -a 2001:db8::7 1")), ["2001:db8::7/64"]);
}

#[test]
fn another_interface_may_be_the_template_and_less_of_it_copied() {
    let attach = attached(&host(), "--config-net -i wlan0 1");
    assert_eq!(addresses(&attach), ["198.51.100.9/24"]);
    assert_eq!((attach.endpoint.ifname.as_str(), attach.network.addresses.v6), ("wlan0", None));
    let attach = attached(&host(), "--config-net --no-copy-addrs --no-copy-routes -4 1");
    assert_eq!(addresses(&attach), ["192.0.2.1/24"]);
    assert_eq!(routes(&attach), ["the default route by 192.0.2.254"]);
    let error = planned(&host(), "-i eth7 1").unwrap_err();
    assert_eq!(error.to_string(), "the host has no interface eth7");
    assert!(error.hint().is_some());
}

#[test]
fn the_interface_that_a_family_leaves_by_is_its_template() {
    let attach = attached(&host(), "--config-net --outbound-if4 wlan0 1");
    assert_eq!(addresses(&attach), ["198.51.100.9/24", "2001:db8:5::1/64"]);
    assert_eq!(attach.caller.outbound.interface_v4.as_deref(), Some("wlan0"));
    assert_eq!(attach.caller.outbound.interface_v6, None);
    let attach = attached(&host(), "--config-net -i eth0 --outbound-if4 wlan0 1");
    assert_eq!(addresses(&attach)[0], "192.0.2.1/24");
    let error = planned(&host(), "--outbound-if6 eth7 1").unwrap_err();
    assert_eq!(error.to_string(), "the host has no interface eth7");
}

#[test]
fn a_host_without_a_network_gives_a_network_of_its_own() {
    let attach = attached(&HostLinks::default(), PODMAN);
    assert_eq!(addresses(&attach), ["169.254.2.1/16"]);
    assert_eq!(routes(&attach), ["the default route by 169.254.2.2"]);
    assert_eq!((attach.endpoint.ifname.as_str(), attach.network.addresses.v6), ("tap0", None));
    assert_eq!(meaning(&attach, "169.254.1.1:53"), Meaning::Dns);
    assert_eq!(meaning(&attach, "192.0.2.9:7"), host_at("192.0.2.9:7"));
    assert_eq!(planned(&HostLinks::default(), "-6 1").unwrap_err(), PlanError::NoIpv6);
    let names = vec![(3, "wlan0".to_owned())];
    let without = HostLinks { names, ..HostLinks::default() };
    assert_eq!(planned(&without, "--outbound-if6 wlan0 1").unwrap_err(), PlanError::NoIpv6);
    attached(&without, "--outbound-if6 wlan0 -a 2001:db8::7 1");
    let attach = attached(&HostLinks::default(), "-6 -a 2001:db8::7 1");
    assert_eq!(routes(&attach), ["the default route by fe80::1"]);
}

#[test]
fn ipv6_alone_has_no_ipv4_at_all() {
    let attach = attached(&host(), "--config-net -6 -t 8080:80 -u auto 1");
    assert_eq!(addresses(&attach), ["2001:db8:5::1/64"]);
    assert!(!attach.network.rules.protocols.ipv4);
    let any = Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    assert_eq!(attach.network.publish[0].to_string(), "[::]:8080:80/tcp");
    assert_eq!(attach.caller.mirrors[0].bind, any);
}

#[test]
fn ports_of_the_loopback_are_of_the_families_that_are_there() {
    let at = |line: &str| attached(&host(), line).caller.outwards[0].at;
    assert_eq!(at("-T 22 1"), None);
    assert_eq!(at("-4 -T 22 1"), Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(at("-6 -T 22 1"), Some(Ipv6Addr::LOCALHOST.into()));
    assert_eq!(at("-4 -T 127.0.0.9/22 1"), Some(Ipv4Addr::new(127, 0, 0, 9).into()));
    let caller = attached(&host(), "-4 -T auto --host-lo-to-ns-lo 1").caller;
    let [mirror] = caller.outward_mirrors.as_slice() else { panic!() };
    assert_eq!(mirror.bind, Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!([8080, 40_000].map(|port| mirror.covers(port)), [true, false]);
    assert!(caller.to_loopback);
}

#[test]
fn ports_of_outgoing_connections_are_published_by_name_alone() {
    let attach = attached(&host(), "-t auto -u 40000 1");
    assert!(attach.caller.mirrors[0].covers(8080));
    assert!(!attach.caller.mirrors[0].covers(40000));
    assert_eq!(attach.network.publish[0].to_string(), "40000:40000/udp");
}

#[test]
fn what_is_announced_is_what_was_said() {
    let attach = attached(&host(), "--dns-forward 192.0.2.5 -D 192.0.2.6 -S lan 1");
    let octets = attach.network.announced(attach.network.addresses.v4.dns.into());
    assert_eq!((octets.as_slice(), attach.network.dns), (&[192, 0, 2, 6][..], true));
    assert_eq!(attach.network.announced_domains(), b"\x03lan\0");
    let attach = attached(&host(), "--dns-forward 192.0.2.5 --no-dhcp-dns 1");
    assert_eq!(attach.network.announced(attach.network.addresses.v4.dns.into()), [0; 0]);
    let attach = attached(&host(), "--dns-forward 192.0.2.5 1");
    let octets = attach.network.announced(attach.network.addresses.v4.dns.into());
    assert_eq!(octets, [192, 0, 2, 5]);
}

#[test]
fn without_a_command_there_is_a_shell() {
    let Ok(Plan::Run(run)) = planned(&host(), "--config-net") else { panic!() };
    assert_eq!((run.command, run.caller.host_files), (vec![OsString::from("/bin/zsh")], true));
    let Ok(Plan::Run(run)) = planned(&host(), "--config-net -- ip addr") else { panic!() };
    assert_eq!(run.command, ["ip", "addr"]);
}
