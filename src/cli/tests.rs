//! Tests of the whole command line: its defaults, effects and refusals.

use super::*;
use crate::config::{
    Addresses, Bind, Confinement, Discovery, Egress, HostAccess, HostPorts, HostSide, Lease,
    Limits, LinkLocal, LogLevel, MacAddress, Offload, Outbound, Ports, Protocol, Publish, Rate,
    Republished, Resolver, Source,
};
use crate::error::report;
use crate::verbs;
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt as _;

fn parsed(args: &[&str]) -> Result<Command, UsageError> {
    match verbs::parse(
        &verbs::environment(Environment::default()),
        args.iter().map(OsString::from),
    )? {
        verbs::Command::Main(command) => Ok(*command),
        verbs::Command::Verb(action) => panic!("{action:?}"),
    }
}

fn attached(args: &[&str]) -> Attach {
    match parsed(args) {
        Ok(Command::Attach(attach)) => attach,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn ran(args: &[&str]) -> Run {
    match parsed(&[&["run"], args].concat()) {
        Ok(Command::Run(run)) => run,
        other => panic!("{args:?}: {other:?}"),
    }
}

/// The default link of the default network.
fn default_link() -> (Endpoint, Network) {
    let endpoint = Endpoint {
        loopback_only: false,
        ifname: "eth0".to_owned(),
        lease: Lease {
            mac: MacAddress([0x02, 0x72, 10, 0, 2, 100]),
            v4: [10, 0, 2, 100].into(),
            v6: Some("fd72:6e73:6e65::100".parse().unwrap()),
            link_local: LinkLocal::default(),
        },
        offload: Offload::Auto,
    };
    let mut network = Network {
        addresses: Addresses::default(),
        mtu: Mtu::default(),
        publish: Vec::new(),
        publish_defaults: PublishDefaults::default(),
        host_access: HostAccess::None,
        dns: true,
        resolver: Resolver::default(),
        default_route: true,
        refusal: Refusal::Prohibited,
        dhcp_pool: None,
        sharing: Sharing::Private,
        between: Vec::new(),
        internal: false,
        allow_broadcast: false,
        discovery: Discovery::default(),
        limits: Limits::default(),
        rate: Rate::UNLIMITED,
        egress: Egress::default(),
        overlay: None,
        rules: Rules::default(),
    };
    network.resolver.add_host_names();
    (endpoint, network)
}

#[test]
fn a_pid_alone_is_all_defaults() {
    let (endpoint, network) = default_link();
    let arguments = vec!["--".into(), "4711".into()];
    let process = Process { arguments, ..Process::default() };
    let expected = Attach {
        target: Target::Pid(4711),
        endpoint,
        network,
        membership: None,
        process,
        caller: Caller::default(),
    };
    assert_eq!(attached(&["4711"]), expected);
}

#[test]
fn a_command_alone_is_all_defaults() {
    let (endpoint, network) = default_link();
    let expected = Run {
        membership: None,
        command: vec!["sh".into(), "-c".into(), "id".into()],
        hostname: None,
        endpoint,
        network,
        process: Process::default(),
        caller: Caller::default(),
    };
    assert_eq!(ran(&["sh", "-c", "id"]), expected);
    assert_eq!(ran(&["--", "sh", "-c", "id"]), expected);
}

#[test]
fn the_environment_says_where_ports_are_bound_that_name_no_address() {
    let environment =
        |text: &str| Environment { default_bind: Some(text.into()), verbs: Vec::new() };
    let bound = |text: &str, args: &[&str]| {
        let mut args = args.iter().map(OsString::from);
        match parse_in(&environment(text), &mut args).map_err(|error| report(&error)) {
            Ok(Command::Attach(attach)) => {
                // As it is when another takes over, whose environment may say something else.
                let again = attach.process.arguments.iter().map(OsString::from);
                let Ok(Command::Attach(again)) = parse(again) else { panic!("{attach:?}") };
                assert_eq!(again.network, attach.network);
                let host = attach.network.publish.into_iter().next().unwrap().host;
                let HostSide::Bound { on, .. } = host else { panic!("{host:?}") };
                Ok(on)
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    let addresses = |all: &[&str]| {
        Ok(Bind::Addresses(all.iter().map(|address| address.parse().unwrap()).collect()))
    };
    let plain = ["-p8080:80", "1"];
    assert_eq!(bound("127.0.0.1", &plain), addresses(&["127.0.0.1"]));
    assert_eq!(bound("127.0.0.1,[::1]", &plain), addresses(&["127.0.0.1", "::1"]));
    assert_eq!(bound("", &plain), Ok(Bind::All));
    let other = ["-p8080:80", "--default-bind", "::1", "1"];
    assert_eq!(bound("127.0.0.1", &other), addresses(&["::1"]));
    let named = ["-p0.0.0.0:8080:80", "1"];
    assert_eq!(bound("127.0.0.1", &named), addresses(&["0.0.0.0"]));
    assert_eq!(
        bound("localhost", &plain),
        Err("rnsnet: invalid RNSNET_DEFAULT_BIND \"localhost\": not an IP address".to_owned())
    );
    // Ports that cannot meet are no conflict.
    let apart = ["-p8080:80", "-p[::1]:8080:80", "1"];
    assert_eq!(bound("127.0.0.1", &apart), addresses(&["127.0.0.1"]));
}

#[test]
fn every_option_has_its_effect() {
    let attach = attached(&[
        "--publish=8080:80",
        "--default-bind=127.0.0.1",
        "--publish-all",
        "--expose=80",
        "--expose=9000-9001/udp",
        "--publish-range=50000-50100",
        "--freebind",
        "--publish-loopback",
        "--outbound-addr=192.0.2.3",
        "--outbound-addr=2001:db8::3",
        "--outbound-if=wlan0",
        "-p53:53/udp",
        "--host-access=5432,6379",
        "--network=default",
        "--mac=02:00:00:00:00:01",
        "--ip=10.9.0.7",
        "--cidr=10.9.0.0/16",
        "--ip6=fd00::7",
        "--cidr6=fd00::/64",
        "--mtu=9000",
        "--offload=off",
        "--netns-type=path",
        "--userns-path=/proc/5/ns/user",
        "-d",
        "-r3",
        "-e4",
        "--name=web",
        "--pid-file=a.pid",
        "--pcap=a.pcap",
        "--log-level=trace",
        "--no-seccomp",
        "4711",
        "tap0",
    ]);
    let publish = |host_port, guest_port, protocol| {
        let (host, guest) = (HostPorts::Exactly(Ports::one(host_port)), Ports::one(guest_port));
        Publish::at(Bind::Addresses(vec![[127, 0, 0, 1].into()]), host, guest, protocol)
    };
    let v4 = attach.network.addresses.v4;
    let v6 = attach.network.addresses.v6.unwrap();
    let any_of = |guest_port| {
        let range = HostPorts::AnyOf(Ports { first: 50_000, last: 50_100 });
        let host =
            HostSide::Bound { on: Bind::Addresses(vec![[127, 0, 0, 1].into()]), ports: range };
        Publish { host, ..publish(1, guest_port, Protocol::Udp) }
    };
    // 80/tcp is published already.
    let mut expected = [
        publish(8080, 80, Protocol::Tcp),
        publish(53, 53, Protocol::Udp),
        any_of(9000),
        any_of(9001),
    ];
    expected.iter_mut().for_each(|rule| rule.freebind = true);
    assert!(attach.caller.to_loopback);
    assert_eq!(attach.network.publish, expected);
    assert_eq!(
        attach.caller.outbound,
        Outbound {
            v4: Some(Source::Address([192, 0, 2, 3].into())),
            v6: Some(Source::Address("2001:db8::3".parse().unwrap())),
            interface_v4: Some("wlan0".to_owned()),
            interface_v6: Some("wlan0".to_owned()),
            loopback_too: false,
        }
    );
    assert_eq!(attach.network.host_access, HostAccess::Ports([5432, 6379].into()));
    assert_eq!(attach.network.mtu.get(), 9000);
    assert_eq!((v4.subnet.address, v4.subnet.prefix_len), ([10, 9, 0, 0].into(), 16));
    assert_eq!(v4.gateway, std::net::Ipv4Addr::new(10, 9, 0, 2));
    assert_eq!(v6.gateway.to_string(), "fd00::2");
    assert_eq!(
        attach.endpoint,
        Endpoint {
            loopback_only: false,
            ifname: "tap0".to_owned(),
            lease: Lease {
                mac: MacAddress([2, 0, 0, 0, 0, 1]),
                v4: [10, 9, 0, 7].into(),
                v6: Some("fd00::7".parse().unwrap()),
                link_local: LinkLocal::default(),
            },
            offload: Offload::Off,
        }
    );
    assert_eq!(
        attach.target,
        Target::Path { netns: "4711".into(), userns: Some("/proc/5/ns/user".into()) }
    );
    assert_eq!(
        attach.process,
        Process {
            ready_fd: Some(3),
            exit_fd: Some(4),
            name: Some("web".into()),
            pid_file: Some("a.pid".into()),
            log_file: None,
            pcap: Some("a.pcap".into()),
            resolv_conf: None,
            hosts: None,
            detach: true,
            log_level: LogLevel(log::LevelFilter::Trace),
            confinement: Confinement::FilesOnly,
            arguments: attach.process.arguments.clone(),
            republished: Republished::default(),
        }
    );
    assert!(attached(&["--allow-broadcast", "4711"]).network.allow_broadcast);
    let relays = ["--mdns", "--relay", "ssdp", "--relay=239.1.2.3:5000", "--relay", "[ff05::c]:9"];
    let discovery =
        attached(&[&relays[..], &["--relay", "ssdp", "4711"]].concat()).network.discovery;
    let groups: Vec<String> = discovery.relays.iter().map(ToString::to_string).collect();
    let expected = ["239.255.255.250:1900", "[ff02::c]:1900", "239.1.2.3:5000", "[ff05::c]:9"];
    assert!(discovery.mdns && groups == expected, "{groups:?}");
    let run = ran(&["--hostname", "web", "--no-ipv6", "--ifname", "net0", "sh"]);
    assert_eq!(run.hostname.as_deref(), Some("web"));
    assert_eq!(run.network.addresses.v6, None);
    assert_eq!(run.endpoint.ifname, "net0");
    assert!(ran(&["--network", "none", "sh"]).endpoint.loopback_only);
    assert!(attached(&["--network", "none", "-d", "4711"]).endpoint.loopback_only);
}

// A10
#[test]
fn named_networks_and_what_goes_with_them() {
    let attach = attached(&[
        "4711",
        "eth7",
        "--network=n1:alias=db",
        "--ip",
        "10.89.0.7",
        "-p",
        "8080:80",
        "-d",
    ]);
    let membership = attach.membership.unwrap();
    let join = &membership.joins[0];
    assert_eq!((join.network.as_str(), join.ifname.as_deref()), ("n1", Some("eth7")));
    assert_eq!(join.v4, Some([10, 89, 0, 7].into()));
    assert_eq!(membership.publish, ["8080:80"]);
    let run = ran(&["--network", "a", "--network", "b:ip=10.90.0.7", "sh"]);
    assert_eq!(run.membership.unwrap().joins.len(), 2);
    assert_eq!(attached(&["4711"]).membership, None);
    assert_eq!(attached(&["--network", "none", "4711"]).membership, None);
}

#[test]
fn targets() {
    let path = |netns: &str| Target::Path { netns: netns.into(), userns: None };
    let table: &[(&[&str], Target)] = &[
        (&["1"], Target::Pid(1)),
        (&["--netns-type=pid", "1"], Target::Pid(1)),
        (&["--netns-type=tapfd", "5"], Target::Tap(5)),
        (&["--netns-type=path", "1"], path("1")),
        (&["/proc/1/ns/net"], path("/proc/1/ns/net")),
        (&["./web"], path("./web")),
        (&["--netns-type=path", "web"], path("web")),
        (&["--", "ps"], path("ps")),
        (&["--", "-web"], path("-web")),
        (&["--", "run"], path("run")),
        (&["--", "--help"], path("--help")),
    ];
    for (args, expected) in table {
        assert_eq!(attached(args).target, *expected, "{args:?}");
    }
}

#[test]
fn the_default_mac_follows_the_address() {
    assert_eq!(
        attached(&["--ip=10.0.2.15", "1"]).endpoint.lease.mac.to_string(),
        "02:72:0a:00:02:0f"
    );
    assert_eq!(
        attached(&["--cidr=192.168.255.0/24", "1"]).endpoint.lease.mac.to_string(),
        "02:72:c0:a8:ff:64"
    );
}

#[test]
fn the_command_may_be_any_bytes() {
    let bytes = OsString::from_vec(b"\xff\xfe".to_vec());
    let command = parse(["run".into(), "--".into(), bytes.clone()].into_iter());
    let Ok(Command::Run(run)) = command else { panic!("{command:?}") };
    assert_eq!(run.command, [bytes]);
}

#[test]
fn help_and_version() {
    let Ok(Command::Help(text)) = parsed(&["--help"]) else { panic!("help") };
    assert!(text.contains("Usage: rnsnet [OPTIONS] PID|NETNS_PATH [IFNAME]\n"));
    let Ok(Command::Help(text)) = parsed(&["run", "-p", "8080:80", "-h"]) else { panic!("help") };
    assert!(text.contains("Usage: rnsnet run [OPTIONS] [--] CMD [ARG...]\n"));
    let version = concat!("rnsnet ", env!("CARGO_PKG_VERSION"), "\n").to_owned();
    assert!(matches!(parsed(&["--version"]), Ok(Command::Version(text)) if text == version));
}

#[test]
fn refusals() {
    let table: &[(&[&str], &str)] = &[
        (&[], "PID or NETNS_PATH is missing"),
        (&["-d"], "PID or NETNS_PATH is missing"),
        (&["--"], "PID or NETNS_PATH is missing"),
        (&["run"], "the command is missing: rnsnet run [OPTIONS] [--] CMD [ARG...]"),
        (&["run", "--"], "the command is missing: rnsnet run [OPTIONS] [--] CMD [ARG...]"),
        (&["run", "", "x"], "the command is missing: rnsnet run [OPTIONS] [--] CMD [ARG...]"),
        (&["web"], r#""web" is neither a PID nor a path nor a verb"#),
        (
            &["-d", "vesrion"],
            "\"vesrion\" is neither a PID nor a path nor a verb: did you mean version?",
        ),
        (&["rnu", "sh"], "\"rnu\" is neither a PID nor a path nor a verb: did you mean run?"),
        (&["version", "--frob"], r#"version: unknown option "--frob""#),
        (&["version", "4711"], r#"version: unexpected argument "4711""#),
        (&["0"], r#"invalid PID "0": out of range: 1 to 4194304"#),
        (&["99999999999"], r#"invalid PID "99999999999": out of range: 1 to 4194304"#),
        (&["--netns-type=pid", "web"], r#"invalid PID "web": not a number"#),
        (&["--netns-type=pid", ""], r#"invalid PID "": it is empty"#),
        (&[""], r#"invalid NETNS_PATH "": it is empty"#),
        (&["--netns-type=fd", "3"], r#"invalid --netns-type "fd": expected pid, path or tapfd"#),
        (&["--netns-type=tapfd", "x"], r#"invalid FD "x": not a number"#),
        (&["--netns-type=tapfd", "3", "tap0"], "IFNAME cannot be combined with --netns-type tapfd"),
        (
            &["--netns-type=tapfd", "3", "--publish-loopback"],
            "--publish-loopback cannot be combined with --netns-type tapfd",
        ),
        (
            &["--netns-type=tapfd", "3", "--dns-listen=127.0.0.11"],
            "--dns-listen cannot be combined with --netns-type tapfd",
        ),
        (&["--userns-path=", "/x"], r#"invalid --userns-path "": it is empty"#),
        (&["--userns-path=/x", "4711"], "--userns-path goes with a NETNS_PATH, not with PID 4711"),
        (
            &["4711", "eth0", "eth1"],
            r#"unexpected argument "eth1" after PID|NETNS_PATH and IFNAME"#,
        ),
        (&["4711", "lo"], r#"invalid IFNAME "lo": the name is reserved"#),
        (&["4711", "--ifname=lo"], r#"invalid --ifname "lo": the name is reserved"#),
        (&["4711", "a", "--ifname=a"], "--ifname cannot be combined with IFNAME"),
        (&["4711", "-r3", "-e3"], "--ready-fd and --exit-fd are both 3"),
        (&["4711", "-r", "-1"], r#"invalid --ready-fd "-1": a file descriptor is never negative"#),
        (
            &["4711", "-e1"],
            "invalid --exit-fd \"1\": \
             descriptors 0, 1 and 2 are standard input, output and error",
        ),
        (
            &["4711", "--relay=[ff02::fb%1]:5353"],
            "invalid --relay \"[ff02::fb%1]:5353\": \
             expected ssdp, wsd or GROUP:PORT, as 239.1.2.3:5000 or [ff05::1:3]:5000",
        ),
        (
            &["4711", "--relay=[ff02::fb]:5353"],
            "invalid --relay \"[ff02::fb]:5353\": \
             that is --mdns, which makes true what is announced",
        ),
        (&["4711", "--mtu=1279"], r#"invalid --mtu "1279": out of range: 1280 to 65520"#),
        (&["4711", "--mtu="], r#"invalid --mtu "": it is empty"#),
        (
            &["4711", "--mac=00:00:00:00:00:00"],
            r#"invalid --mac "00:00:00:00:00:00": all zero is no address"#,
        ),
        (&["4711", "--offload=on"], r#"invalid --offload "on": expected auto or off"#),
        (
            &["4711", "--network=n1", "--mtu=9000"],
            "--mtu is a matter of the network: it cannot be combined with --network NAME",
        ),
        (
            &["4711", "--network=a", "--network=b", "--ip=10.89.0.7"],
            "--ip is about one network: write it after the network's name, NET:KEY=VALUE",
        ),
        (
            &["4711", "--network=a:ip=10.89.0.7", "--ip=10.89.0.8"],
            "--ip is about one network: write it after the network's name, NET:KEY=VALUE",
        ),
        (
            &["-d", "4711", "--network=a", "--exit-fd=5"],
            "--exit-fd cannot be combined with --detach",
        ),
        (
            &["4711", "--host-access=x"],
            r#"invalid --host-access "x": expected none, all or PORT[,PORT...]"#,
        ),
        (
            &["4711", "--pcap=-"],
            "invalid --pcap \"-\": standard output is not supported; a file of that name is ./-",
        ),
        (
            &["4711", "--write-hosts=a", "--write-resolv-conf=./a"],
            "--write-resolv-conf and --write-hosts are both a",
        ),
        (&["4711", "--pcap=/run/a", "--pid-file=/run//a"], "--pid-file and --pcap are both /run/a"),
        (&["4711", "--pid-file="], r#"invalid --pid-file "": it is empty"#),
        (
            &["4711", "--log-level=5"],
            r#"invalid --log-level "5": expected error, warn, info, debug or trace"#,
        ),
        (
            &["4711", "--cidr=10.0.2.1/24"],
            "invalid --cidr \"10.0.2.1/24\": it has host bits set: the prefix is 10.0.2.0/24",
        ),
        (&["4711", "--ip=10.0.2.2"], r#"invalid --ip "10.0.2.2": it is the gateway's address"#),
        (
            &["4711", "--cidr6=fd00::/48"],
            r#"invalid --cidr6 "fd00::/48": prefix length "48" is not 64"#,
        ),
        (&["4711", "--no-ipv6", "--ip6=fd00::1"], "--ip6 cannot be combined with --no-ipv6"),
        (&["4711", "--cidr6=x", "--no-ipv6"], "--cidr6 cannot be combined with --no-ipv6"),
        (
            &["4711", "-p", "8080:80/sctp"],
            r#"invalid --publish "8080:80/sctp": sctp is not supported: only tcp and udp"#,
        ),
        (&["1", "--expose=80"], "--expose does nothing without --publish-all"),
        (&["1", "-P"], "--publish-all does nothing without --expose"),
        (&["1", "--publish-range=1-2"], "--publish-range does nothing without --publish-all"),
        (
            &["1", "-P", "--expose=80/sctp"],
            r#"invalid --expose "80/sctp": sctp is not supported: only tcp and udp"#,
        ),
        (
            &["1", "-P", "--expose=8080:80"],
            r#"invalid --expose "8080:80": container port "8080:80" is not a number"#,
        ),
        (
            &["1", "-P", "--expose=80", "--publish-range=900-1"],
            r#"invalid --publish-range "900-1": host range 900-1 is reversed: write 1-900"#,
        ),
        (
            &["1", "-p1:1", "--default-bind=224.0.0.1"],
            r#"invalid --default-bind "224.0.0.1": it is a multicast address"#,
        ),
        (
            &["1", "-p1:1", "--default-bind=::1,::1"],
            r#"invalid --default-bind "::1,::1": expected each address once"#,
        ),
        (
            &["1", "--outbound-addr=1.2.3.4", "--outbound-addr=1.2.3.5"],
            r#"invalid --outbound-addr "1.2.3.5": the IPv4 address is given twice"#,
        ),
        (&["1", "--outbound-addr=eth0"], r#"invalid --outbound-addr "eth0": not an IP address"#),
        (
            &["1", "--outbound-addr=::"],
            r#"invalid --outbound-addr "::": it is every address, which is what goes without saying"#,
        ),
        (
            &["1", "--outbound-addr=::ffff:1.2.3.4"],
            r#"invalid --outbound-addr "::ffff:1.2.3.4": write the IPv4 address"#,
        ),
        (
            &["1", "--outbound-if=a/b"],
            r#"invalid --outbound-if "a/b": an interface name cannot contain '/'"#,
        ),
        (
            &["run", "--hostname=my_host", "sh"],
            "invalid --hostname \"my_host\": write letters, digits, dots and inner hyphens",
        ),
        (&["--network=none", "4711", "eth0"], "IFNAME cannot be combined with --network none"),
    ];
    for (args, expected) in table {
        let error = parsed(args).unwrap_err();
        assert_eq!(report(&error), format!("rnsnet: {expected}"), "{args:?}");
    }
}

#[test]
fn what_needs_an_interface_is_refused_without_one() {
    for option in OPTIONS.iter().filter(|option| option.needs_interface) {
        let mut args = vec!["--network=none".to_owned(), option.long.to_owned()];
        if !option.scope.covers(Job::Attach) {
            args.insert(0, "run".to_owned());
        }
        args.extend(option.value().map(|_| "x".to_owned()));
        args.push("4711".to_owned());
        let error = parse(args.into_iter().map(OsString::from)).unwrap_err();
        let expected = UsageError::Conflict { option: option.long, other: "--network none" };
        assert_eq!(error, expected);
    }
}

#[test]
fn what_needs_a_process_is_refused_where_none_stays() {
    for option in ["--name=web", "--pid-file=p", "--exit-fd=5"] {
        let error = parsed(&["--network=none", option, "4711"]).unwrap_err();
        let long = option.split('=').next().unwrap();
        assert_eq!(error.to_string(), format!("{long} cannot be combined with --network none"));
        assert!(parsed(&["run", "--network=none", option, "sh"]).is_ok(), "{option}");
    }
}

#[test]
fn hints() {
    let table: &[(&[&str], Option<&str>)] = &[
        (&["--frobnicate"], Some("rnsnet --help lists the options")),
        (&["--publsh"], None),
        (&["1", "2", "3"], Some("rnsnet --help lists the options")),
        (&[], Some("rnsnet PID attaches a running container; rnsnet --help has examples")),
        (&["run"], Some("rnsnet run --help has examples")),
        (&["run", "--frobnicate"], Some("rnsnet run --help lists the options")),
        (&["vesrion"], Some("rnsnet --help lists the verbs; a namespace here is ./vesrion")),
        (&["version", "--frobnicate"], Some("rnsnet version --help lists its options")),
        (&["version", "x"], Some("rnsnet version --help has examples")),
        (
            &["4711", "--network=n1", "--mtu=9000"],
            Some(
                "rnsnet network create --help and rnsnet dns --help say what a network can be given",
            ),
        ),
    ];
    for (args, expected) in table {
        assert_eq!(parsed(args).unwrap_err().hint().as_deref(), *expected, "{args:?}");
    }
}

/// Words that look like a command line, and some that do not.
fn words() -> impl Strategy<Value = OsString> {
    let names = || {
        let names: Vec<_> = OPTIONS.iter().map(|option| option.long).collect();
        proptest::sample::select(names)
    };
    prop_oneof![
        names().prop_map(OsString::from),
        names().prop_map(|name| format!("{name}=4").into()),
        "-[a-zA-Z=]{0,4}".prop_map(OsString::from),
        ".*".prop_map(OsString::from),
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(OsString::from_vec),
        Just(OsString::from("--")),
        Just(OsString::from("4711")),
    ]
}

proptest! {
    #[test]
    fn no_command_line_panics_or_takes_two_lines(
        run in any::<bool>(),
        args in proptest::collection::vec(words(), 0..8),
    ) {
        let args = run.then(|| "run".into()).into_iter().chain(args);
        if let Err(error) = parse(args) {
            prop_assert!(!matches!(error, UsageError::Parser { .. }), "{}", error);
            prop_assert_eq!(report(&error).lines().count(), 1);
        }
    }
}

#[test]
fn what_is_said_about_names_is_understood_together() {
    let given = attached(&[
        "--dns=192.0.2.9",
        "--dns",
        "fe80::1%eth0",
        "--dns-route",
        "corp.test=192.0.2.10",
        "--dns-route",
        "CORP.test=[2001:db8::1]:54",
        "--dns-search",
        "lab.test",
        "--dns-cache",
        "0",
        "--add-host",
        "host.docker.internal:192.0.2.9",
        "4711",
    ]);
    let resolver = given.network.resolver;
    assert_eq!(resolver.servers.len(), 2);
    assert_eq!(resolver.servers[1].zone.as_deref(), Some("eth0"));
    assert_eq!(resolver.routes.len(), 1, "one domain");
    assert_eq!(resolver.routes[0].servers[1].port, 54);
    assert_eq!(resolver.search[0].to_string(), "lab.test");
    assert_eq!(resolver.cache_bytes, 0);
    // A name of the host that is given is not the gateway's.
    let hosts: Vec<_> = resolver.hosts.iter().map(|host| host.name.to_string()).collect();
    assert_eq!(hosts, ["host.docker.internal", "host.containers.internal"]);
    let options =
        ran(&["--dns-opt", "ndots:2", "--dns-opt", "edns0", "id"]).network.resolver.options;
    assert_eq!(options, ["ndots:2", "edns0"]);
}

#[test]
fn what_is_wrong_about_names_is_said() {
    for (args, message) in [
        (
            &["--dns", "dns.test", "1"][..],
            "invalid --dns \"dns.test\": expected ADDR or ADDR:PORT, an IPv6 ADDR with a PORT in brackets",
        ),
        (
            &["--dns-route", "192.0.2.9", "1"],
            "invalid --dns-route \"192.0.2.9\": expected DOMAIN=SERVER, as in corp.test=192.0.2.10",
        ),
        (&["--dns-search", "a b", "1"], "invalid --dns-search \"a b\": a name cannot contain ' '"),
        (
            &["--add-host", "db", "1"],
            "invalid --add-host \"db\": expected NAME:ADDR, as in db:192.0.2.9 or db:host-gateway",
        ),
        (
            &["--rate", "down=10mb", "1"],
            "invalid --rate \"down=10mb\": expected down=RATE,up=RATE or RATE for both, with a RATE \
             as 10mbit, 1mbps or none",
        ),
        (
            &["--rate", "1kbit", "1"],
            "invalid --rate \"1kbit\": out of range: 8kbit to 1tbit; without a unit it is bits",
        ),
        (
            &["--rate", "1mbit", "--network", "a", "--network", "b", "1"],
            "--rate is about one network: write it after the network's name, NET:KEY=VALUE",
        ),
        (
            &["--rate", "1mbit", "--network", "none", "1"],
            "--rate cannot be combined with --network none",
        ),
        (&["--limit", "tcp", "1"], "invalid --limit \"tcp\": expected NAME=NUMBER"),
        (
            &["--limit", "memory=0", "1"],
            "invalid --limit \"memory=0\": memory: expected a number from 1 to 65536",
        ),
        (
            &["--limit", "groups=9", "1"],
            "invalid --limit \"groups=9\": groups is of named networks: rnsnet network create --opt limit.groups=N",
        ),
        (&["--dns-cache", "65537", "1"], "invalid --dns-cache \"65537\": out of range: 0 to 65536"),
        (&["--dns-opt", "ndots:2", "1"], "--dns-opt does nothing without --write-resolv-conf"),
        (
            &["run", "--dns-opt", "ndots 2", "id"],
            "invalid --dns-opt \"ndots 2\": expected an option of resolv.conf, as in ndots:2",
        ),
        (
            &["run", "--network", "none", "--dns", "192.0.2.9", "id"],
            "--dns cannot be combined with --network none",
        ),
    ] {
        let error = parsed(args).expect_err("it is wrong");
        let text = report(&crate::error::Error::Usage(error));
        let first = text.lines().next().unwrap_or_default();
        assert_eq!(first, format!("rnsnet: {message}"), "{args:?}");
    }
    let many = "a".repeat(60);
    let search: Vec<String> =
        (0..5).map(|index| format!("--dns-search={many}{index}.test")).collect();
    let mut args: Vec<&str> = search.iter().map(String::as_str).collect();
    args.push("1");
    assert!(parsed(&args).is_err(), "more than DHCP can tell");
}
