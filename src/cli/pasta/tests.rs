//! Tests of pasta's command line: spellings, meanings, refusals, and whose a line is.

use super::*;
use crate::config::pasta::{Mirror, Outward};
use crate::config::{Bind, HostPorts, HostSide, Publish};

fn line(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

#[track_caller]
fn understood(text: &str) -> Pasta {
    match parse(&line(text)) {
        Ok(Command::Pasta(pasta)) => *pasta,
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str) -> String {
    parse(&line(text)).expect_err(text).to_string()
}

fn ports(text: &str) -> Ports {
    understood(&format!("-u none -t {text} 1")).ports
}

fn fixed(text: &str) -> Vec<String> {
    let ports = ports(text);
    assert_eq!(ports.mirrors, [], "{text}");
    let show = |publish: &Publish| match &publish.host {
        HostSide::Bound { on, ports: HostPorts::Exactly(host) } => match on {
            Bind::Addresses(bind) => format!("{} {host}:{}", bind[0], publish.guest),
            Bind::All => format!("{host}:{}", publish.guest),
            Bind::Interface(name) => format!("%{name} {host}:{}", publish.guest),
            Bind::Device { address, interface } => {
                format!("{address}%{interface} {host}:{}", publish.guest)
            }
        },
        other => panic!("{other:?}"),
    };
    ports.fixed.iter().map(show).collect()
}

fn path(netns: &str) -> Job {
    Job::Attach(Target::Path { netns: netns.into(), userns: None })
}

#[test]
fn podman_s_line_is_understood() {
    let pasta = understood(
        "--config-net -t 18500-18500:80-80 -t 18510-18512:90-92 -u 127.0.0.1/18501-18501:81-81 \
         --dns-forward 169.254.1.1 -T none -U none --no-map-gw --quiet \
         --netns /run/user/1001/netns/netns-1 --map-guest-addr 169.254.1.2",
    );
    assert_eq!(pasta.job, path("/run/user/1001/netns/netns-1"));
    assert!(pasta.configure && pasta.process.detach && pasta.quit_with_netns);
    assert_eq!(pasta.process.log_level, LogLevel(log::LevelFilter::Warn));
    let v4 = pasta.v4.unwrap();
    assert_eq!(v4.dns_forward, Some(Ipv4Addr::new(169, 254, 1, 1)));
    assert_eq!(v4.map_guest, Some(Ipv4Addr::new(169, 254, 1, 2)));
    assert_eq!(v4.host_loopback, HostLoopback::Nothing);
    assert_eq!(pasta.v6.unwrap().host_loopback, HostLoopback::Nothing);
    let publish = |bind: Option<&str>, host_port, guest_port, protocol| {
        Publish::one(bind.map(|bind| bind.parse().unwrap()), host_port, guest_port, protocol)
    };
    let expected = [
        publish(None, 18500, 80, Protocol::Tcp),
        publish(None, 18510, 90, Protocol::Tcp),
        publish(None, 18511, 91, Protocol::Tcp),
        publish(None, 18512, 92, Protocol::Tcp),
        publish(Some("127.0.0.1"), 18501, 81, Protocol::Udp),
    ];
    assert_eq!(pasta.ports, Ports { fixed: expected.into(), ..Ports::default() });
    assert_eq!(pasta.mtu, Mtu::LARGEST);
}

#[test]
fn podman_s_line_with_slirp_s_addresses_is_understood() {
    let pasta = understood(
        "--config-net --ipv4-only -a 10.0.2.0 -n 24 -g 10.0.2.2 --dns-forward 10.0.2.3 -m 1500 \
         --no-ndp --no-dhcpv6 --no-dhcp -t none -u none -T none -U none --no-map-gw --quiet \
         --netns /n --map-guest-addr 169.254.1.2",
    );
    let v4 = pasta.v4.unwrap();
    assert_eq!(v4.address, Some(Ipv4Addr::new(10, 0, 2, 0)));
    assert_eq!((v4.prefix_len, v4.gateway), (Some(24), Some(Ipv4Addr::new(10, 0, 2, 2))));
    assert_eq!((pasta.v6, pasta.mtu.get()), (None, 1500));
    let Protocols { ndp, dhcp, dhcpv6, ra, tcp, .. } = pasta.protocols;
    assert_eq!((ndp, dhcp, dhcpv6, ra, tcp), (false, false, false, true, true));
    assert_eq!(pasta.ports, Ports::default());
}

#[test]
fn rootlesskit_s_lines_are_understood() {
    let pasta = understood(
        "--foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra \
         --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw \
         --ipv4-only --tcp-ports=auto --udp-ports=auto 4711",
    );
    assert_eq!(pasta.job, Job::Attach(Target::Pid(4711)));
    assert_eq!(pasta.ifname.as_deref(), Some("tap0"));
    assert!(!pasta.configure && !pasta.process.detach);
    assert_eq!(pasta.ports.mirrors.len(), 2);
    let pasta = understood("--tcp-ports=none --udp-ports=none --userns=/proc/5/ns/user --netns=/x");
    let target = Target::Path { netns: "/x".into(), userns: Some("/proc/5/ns/user".into()) };
    assert_eq!(pasta.job, Job::Attach(target));
    // Asked with the version: whether there is this option.
    for text in ["--version", "--host-lo-to-ns-lo --version", "--version --host-lo-to-ns-lo"] {
        let version = parse(&line(text));
        assert!(matches!(version, Ok(Command::Print(text)) if text.contains("rnsnet")), "{text}");
    }
    assert!(refused("--version --splice-only").contains("--splice-only"));
}

#[test]
fn every_spelling_of_an_option_is_the_same() {
    for text in
        ["--mtu=1400 1", "--mtu 1400 1", "-m1400 1", "-m 1400 1", "-fqm1400 1", "--mt 1400 1"]
    {
        assert_eq!(understood(text).mtu.get(), 1400, "{text}");
    }
    assert_eq!(understood("-m 1400 -m 0 1").mtu, Mtu::default());
    assert!(refused("--map 1 2").contains("ambiguous"));
    assert!(refused("--bogus 1").contains("unrecognized option \"--bogus\""));
    assert!(refused("-m").contains("requires an argument"));
    assert!(refused("--quiet=1 1").contains("allows no argument"));
}

#[test]
fn what_is_to_have_the_network_is_one_thing() {
    assert_eq!(understood("-f 12").job, Job::Attach(Target::Pid(12)));
    assert_eq!(understood("--netns web").job, path("/run/netns/web"));
    assert_eq!(understood("--netns ./web").job, path("./web"));
    assert_eq!(understood("").job, Job::Run(Vec::new()));
    // The command's options are its own.
    assert_eq!(understood("-4 sh -c --help").job, Job::Run(line("sh -c --help")));
    assert_eq!(understood("-4 -- 12 13").job, Job::Run(line("12 13")));
    assert_eq!(understood("--fd 7").job, Job::Attach(Target::Tap(7)));
    let target = Target::Path { netns: "/proc/12/ns/net".into(), userns: Some("/u".into()) };
    assert_eq!(understood("--userns /u 12").job, Job::Attach(target));
    for line in [
        "--netns /n 12",
        "--fd 7 12",
        "--fd 7 --netns /n",
        "--fd x",
        "--fd 7 --config-net",
        "--fd 7 -t auto",
        "0",
        "99999999999",
        "--userns /u sh",
        "--ns-mac-addr 02:00:00:00:00:01 1",
    ] {
        refused(line);
    }
}

#[test]
fn a_command_stays_in_the_foreground() {
    assert!(understood("12").process.detach);
    assert!(!understood("-f 12").process.detach);
    assert!(!understood("true").process.detach);
}

#[test]
fn addresses_belong_to_their_families() {
    let pasta = understood(
        "-a 192.0.2.5/25 -a 2001:db8::5/56 -g 192.0.2.1 --gateway fe80::1 -o 2001:db8::9 \
         --map-host-loopback 192.0.2.77 --dns-host ::1 --no-copy-routes --no-copy-addrs 1",
    );
    let (v4, v6) = (pasta.v4.unwrap(), pasta.v6.unwrap());
    assert_eq!((v4.address.unwrap().to_string(), v4.prefix_len), ("192.0.2.5".into(), Some(25)));
    assert_eq!((v6.address.unwrap().to_string(), v6.prefix_len), ("2001:db8::5".into(), Some(56)));
    assert_eq!(v4.host_loopback, HostLoopback::At(Ipv4Addr::new(192, 0, 2, 77)));
    assert_eq!(v6.host_loopback, HostLoopback::Gateway);
    assert_eq!((v4.outbound, v6.outbound.is_some()), (None, true));
    assert_eq!(v6.dns_host, Some(Ipv6Addr::LOCALHOST));
    assert!(!pasta.copy_addresses && !pasta.copy_routes);
    // Of the same family, the last counts.
    let v4 = understood("-a 192.0.2.5/25 -a 192.0.2.6 1").v4.unwrap();
    assert_eq!((v4.address.unwrap().to_string(), v4.prefix_len), ("192.0.2.6".into(), None));
    let v4 = understood("--map-host-loopback none --map-guest-addr none 1").v4.unwrap();
    assert_eq!((v4.host_loopback, v4.map_guest), (HostLoopback::Nothing, None));
    assert_eq!(understood("-n 255.255.240.0 1").v4.unwrap().prefix_len, Some(20));
    for line in [
        "-6 -a 192.0.2.1/33 1",
        "-a x 1",
        "-a 192.0.2.1/33 1",
        "-a 192.0.2.1/ 1",
        "-a 2001:db8::1/129 1",
        "-a 127.0.0.1 1",
        "-a 0.0.0.0 1",
        "-g 224.0.0.1 1",
        "-g ::1 1",
        "-n 33 1",
        "-n 255.0.255.0 1",
        "-n 0 1",
        "-m 67 1",
        "-m 65521 1",
        "-m 1e3 1",
        "-i a/b 1",
        "-I lo 1",
        "-M 01:00:00:00:00:00 1",
    ] {
        refused(line);
    }
}

// Podman's addresses are IPv4's, and its users' options come before its own.
#[test]
fn what_is_said_of_a_family_that_is_left_out_is_of_no_meaning() {
    let podman = "--dns-forward 169.254.1.1 --no-map-gw --map-guest-addr 169.254.1.2 --netns /n";
    let pasta = understood(&format!("--config-net -6 -n 24 --dns 192.0.2.9 {podman}"));
    assert_eq!((pasta.v4, pasta.announced), (None, Some(Vec::new())));
    assert_eq!(pasta.v6.unwrap().dns_forward, None);
    let pasta = understood(&format!("-4 -a 2001:db8::1 {podman}"));
    assert_eq!((pasta.v4.unwrap().map_guest.is_some(), pasta.v6), (true, None));
    // Of both, the last counts.
    assert!(understood("-4 -6 1").v4.is_none() && understood("-6 -4 1").v6.is_none());
}

#[test]
fn ports_are_ranges_with_mappings_and_exclusions() {
    assert_eq!(fixed("22"), ["22:22"]);
    assert_eq!(fixed("22,80-81"), ["22:22", "80:80", "81:81"]);
    assert_eq!(fixed("8080:80"), ["8080:80"]);
    assert_eq!(fixed("8080-8081:80-81"), ["8080:80", "8081:81"]);
    // One port on the right is the first of as many.
    assert_eq!(fixed("8080-8081:80"), ["8080:80", "8081:81"]);
    assert_eq!(fixed("127.0.0.1/22,23"), ["127.0.0.1 22:22", "127.0.0.1 23:23"]);
    assert_eq!(fixed("::1/8080-8080:80-80"), ["::1 8080:80"]);
    assert_eq!(fixed("[::1]/8080:80"), ["::1 8080:80"]);
    assert_eq!(fixed("*/22"), ["22:22"]);
    assert_eq!(fixed("%eth0/22,80:81"), ["%eth0 22:22", "%eth0 80:81"]);
    assert_eq!(fixed("*%lo/22"), ["%lo 22:22"]);
    assert_eq!(fixed("192.0.2.5%eth0/22"), ["192.0.2.5%eth0 22:22"]);
    assert_eq!(fixed("[fe80::1%eth0]/22"), ["fe80::1%eth0 22:22"]);
    assert_eq!(fixed("fe80::1%eth0/22:80"), ["fe80::1%eth0 22:80"]);
    assert_eq!(fixed("0.0.0.0%lo/22"), ["0.0.0.0%lo 22:22"]);
    assert_eq!(fixed("8080-8083:80-83,~8081-8082"), ["8080:80", "8083:83"]);
    assert_eq!(fixed("22 -t 23 -t 22"), ["22:22", "23:23"]);
    assert_eq!(fixed("none"), [""; 0]);
    // `none` takes nothing back.
    assert_eq!(fixed("22 -t none"), ["22:22"]);
}

// Podman names both, in either order.
#[test]
fn a_port_of_every_address_is_that_of_each() {
    for text in
        ["8080:80 -t ::/8080:80", "::/8080:80 -t 127.0.0.1/8080:80 -t 8080:80 -t %eth0/8080:80"]
    {
        assert_eq!(fixed(text), ["8080:80"], "{text}");
    }
    // Not where it leads elsewhere, nor where each is named by itself.
    for text in ["127.0.0.1/8080:81 -t 8080:80", "0.0.0.0/8080:80 -t ::/8080:80"] {
        assert_eq!(fixed(text).len(), 2, "{text}");
    }
}

#[test]
fn ports_lead_to_the_hosts_loopback_where_they_are_named() {
    let outwards = |text: &str| {
        let ports = understood(&format!("-t none -u none {text} 1")).ports;
        assert_eq!((ports.fixed, ports.mirrors), (Vec::new(), Vec::new()), "{text}");
        let show = |o: &Outward| {
            let at = o.at.map(|at| format!("{at} ")).unwrap_or_default();
            format!("{at}{}:{}/{}", o.inside, o.host, o.protocol)
        };
        ports.outwards.iter().map(show).collect::<Vec<_>>()
    };
    assert_eq!(outwards("-T none -U none"), [""; 0]);
    // As Podman has it for `--network pasta:-T,5432`.
    assert_eq!(outwards("-T 5432 -U none"), ["5432:5432/tcp"]);
    assert_eq!(outwards("-T none -T 22,80:8080 -T 22"), ["22:22/tcp", "80:8080/tcp"]);
    assert_eq!(outwards("-U 5000-5002:53,~5001"), ["5000:53/udp", "5002:55/udp"]);
    assert_eq!(outwards("-T %lo/22 -T 127.0.0.9%lo/23"), ["22:22/tcp", "127.0.0.9 23:23/tcp"]);
    assert_eq!(outwards("-T 127.0.0.9/22 -T ::1/22"), ["127.0.0.9 22:22/tcp", "::1 22:22/tcp"]);
}

#[test]
fn ports_to_the_hosts_loopback_may_follow_the_host() {
    let one = |text: &str| {
        let ports = understood(&format!("-t none -u none {text} 1")).ports;
        assert_eq!((ports.fixed, ports.mirrors, ports.outwards), Default::default(), "{text}");
        let [mirror] = <[Mirror; 1]>::try_from(ports.outward_mirrors).unwrap();
        mirror
    };
    for text in ["-T auto", "-T all", "-T none -T all,80"] {
        let mirror = one(text);
        assert_eq!((mirror.protocol, mirror.bind), (Protocol::Tcp, None));
        assert!([1, 80, 65535].iter().all(|port| mirror.covers(*port)), "{text}");
    }
    let mirror = one("-U 127.0.0.9/~1-1023");
    assert_eq!((mirror.protocol, mirror.bind), (Protocol::Udp, "127.0.0.9".parse().ok()));
    assert_eq!([1023, 1024].map(|port| mirror.covers(port)), [false, true]);
    let mirror = one("-T 80-82,auto,~81");
    assert_eq!([79, 80, 81].map(|port| mirror.covers(port)), [false, true, false]);
    // Unless told, none.
    assert_eq!(understood("1").ports.outward_mirrors, []);
    let to_loopback = |text: &str| understood(text).ports.to_loopback;
    assert_eq!([to_loopback("1"), to_loopback("--host-lo-to-ns-lo 1")], [false, true]);
}

#[test]
fn ports_that_follow_have_bounds() {
    let one = |text: &str| {
        let ports = ports(text);
        assert_eq!(ports.fixed, [], "{text}");
        let [mirror] = <[Mirror; 1]>::try_from(ports.mirrors).unwrap();
        mirror
    };
    for text in ["auto", "all", "all,80"] {
        let mirror = one(text);
        assert!([1, 80, 65535].iter().all(|port| mirror.covers(*port)), "{text}");
    }
    let mirror = one("80-82,auto,~81");
    let covered = [79, 80, 81, 82, 83].map(|port| mirror.covers(port));
    assert_eq!(covered, [false, true, false, true, false]);
    let mirror = one("127.0.0.1/~1-1023");
    assert_eq!(mirror.bind, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    assert_eq!([1, 1023, 1024].map(|port| mirror.covers(port)), [false, false, true]);
    for (text, bind) in [
        ("%eth0", None),
        ("*%eth0/auto", None),
        ("192.0.2.5%eth0/all,~22", "192.0.2.5".parse().ok()),
    ] {
        let mirror = one(text);
        assert_eq!((mirror.interface.as_deref(), mirror.bind), (Some("eth0"), bind), "{text}");
        assert!(mirror.covers(80), "{text}");
    }
    // Unless told, of both protocols.
    assert_eq!(understood("1").ports.mirrors.len(), 2);
}

#[test]
fn addresses_that_are_to_come_are_bound_for_all_ports_alike() {
    let ports = understood("--freebind -t 192.0.2.8/22 -u %wlan0/53 -u auto 1").ports;
    assert_eq!(ports.fixed.len(), 2);
    assert!(ports.fixed.iter().all(|publish| publish.freebind));
    assert!(ports.mirrors[0].freebind);
    let ports = understood("-t 192.0.2.8/22 1").ports;
    assert!(!ports.fixed[0].freebind && !ports.mirrors[0].freebind);
}

#[test]
fn each_family_may_leave_by_an_interface() {
    let pasta = understood("--outbound-if4 eth1 --outbound-if6=wg0 -o 192.0.2.7 1");
    let (v4, v6) = (pasta.v4.unwrap(), pasta.v6.unwrap());
    assert_eq!(v4.outbound_interface.as_deref(), Some("eth1"));
    assert_eq!(v4.outbound, Some(Ipv4Addr::new(192, 0, 2, 7)));
    assert_eq!(v6.outbound_interface.as_deref(), Some("wg0"));
    assert!(refused("--outbound-if4 a/b 1").contains("outbound-if4"));
}

#[test]
fn ports_that_are_none_are_refused_with_what_was_typed() {
    for (text, part) in [
        ("", "empty"),
        ("22,", "empty"),
        ("0", "no port"),
        ("65536", "no port"),
        ("x", "no port"),
        ("-5", "no port"),
        ("22-20", "ends before"),
        ("22-23:80-85", "not as many"),
        ("65530-65535:65531", "not as many"),
        ("127.0.0/22", "no address"),
        ("127.0.0%eth0/22", "no address"),
        ("22%eth0", "no address"),
        ("[::1/22", "no address"),
        ("192.0.2.5%/22", "no name of an interface"),
        ("%/22", "no name of an interface"),
        ("%a:b/22", "no name of an interface"),
        ("%eth0/", "empty"),
        ("22:192.0.2.5/80", "an address of its own"),
        ("all:192.0.2.5", "an address of its own"),
        ("22,none", "none goes"),
    ] {
        let error = parse(&["-t".into(), text.into(), "1".into()]).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("tcp-ports"), "{text}: {error}");
    }
}

#[test]
fn what_clients_of_dhcp_are_told_may_be_named() {
    let announced = |text: &str| understood(text).announced;
    let server = |text: &str| text.parse::<IpAddr>().unwrap();
    let both = vec![server("192.0.2.1"), server("2001:db8::1")];
    assert_eq!(announced("--dhcp-dns --dns-forward 192.0.2.5 1"), None);
    assert_eq!(announced("-D 192.0.2.1 --dns=2001:db8::1 1"), Some(both));
    for none in ["-D none 1", "--no-dhcp-dns 1", "-D 192.0.2.1 -D none 1"] {
        assert_eq!(announced(none), Some(Vec::new()), "{none}");
    }
    let last = "-D 192.0.2.1 --no-dhcp-dns --dhcp-dns 1";
    assert_eq!(announced(last), Some(vec![server("192.0.2.1")]));
    let search = |text: &str| {
        let search = understood(text).search;
        search.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(search("1"), [""; 0]);
    let line = ["-S".into(), "lab.test test".into(), "--dhcp-search".into(), "1".into()];
    let Ok(Command::Pasta(pasta)) = parse(&line) else { panic!() };
    assert_eq!(pasta.search.len(), 2);
    assert_eq!(search("-S lan -S none -S lab.test,test 1"), ["lab.test", "test"]);
    assert_eq!(search("-S lan --no-dhcp-search 1"), [""; 0]);
}

#[test]
fn what_we_do_not_do_is_refused_by_name() {
    for (line, name) in [
        ("-T 192.0.2.1/22 1", "container's loopback"),
        ("-T %eth0/22 1", "container's loopback"),
        ("-T 192.0.2.1%lo/22 1", "container's loopback"),
        ("-U 1-300 1", "at most 256"),
        ("--fd 7 -t none -u none -T 5", "--tcp-ns cannot be combined with --fd"),
        ("--fd 7 -t none -u none -U auto", "--udp-ns cannot be combined with --fd"),
        ("--fd 7 -t none -u none --host-lo-to-ns-lo", "--host-lo-to-ns-lo cannot be combined"),
        ("--no-splice --host-lo-to-ns-lo 1", "--no-splice and --host-lo-to-ns-lo exclude"),
        ("-T all:192.0.2.1 1", "an address of its own"),
        ("-t 8080:80,auto 1", "\"8080:80\" leads to another port"),
        ("-u 80,all,90-92:80 1", "\"90-92:80\" leads to another port"),
        ("-T auto,8080:80 1", "\"8080:80\" leads to another port"),
        ("-U 8080:80,auto 1", "\"8080:80\" leads to another port"),
        ("--stats 1 1", "--stats"),
        ("-c /s 1", "--conf-path"),
        ("--runas nobody 1", "--runas"),
        ("-D x 1", "--dns"),
        ("-D 127.0.0.1 1", "--dns"),
        ("-S a..b 1", "--search"),
        ("--dhcp-dns 1", "--dhcp-dns needs --dns-forward or --dns"),
        ("--dhcp-search 1", "--dhcp-search needs --search"),
        ("-H web 1", "--hostname"),
        ("--splice-only 1", "--splice-only"),
        ("-6 --outbound-if4 eth0 1", "--outbound-if4 is about a family that is left out"),
        ("--outbound-if6 eth0 --ipv4-only 1", "--outbound-if6 is about a family that is left out"),
        ("-6 -4 --outbound-if6 eth0 1", "--outbound-if6 is about a family that is left out"),
        ("-1", "--one-off is an option of passt"),
        ("--vhost-user", "passt"),
    ] {
        let error = refused(line);
        assert!(error.contains(name), "{line}: {error}");
    }
}

#[test]
fn every_option_is_in_the_help_or_refused() {
    for spec in OPTIONS {
        let hidden = matches!(spec.id, Id::Refused(_) | Id::Passt | Id::AlwaysSo | Id::NoSplice);
        assert!(hidden || HELP.contains(&format!("--{}", spec.long)), "--{}", spec.long);
    }
    assert!(HELP.lines().all(|line| line.len() <= 80));
}

#[test]
fn a_line_is_pasta_s_by_the_name_or_by_an_option() {
    let meant = |program: &str, text: &str| is_meant(OsStr::new(program), &line(text));
    for program in ["pasta", "/usr/libexec/podman/pasta", "/usr/bin/pasta.avx2"] {
        assert!(meant(program, "1"));
        assert!(meant(program, "--version"));
    }
    let rootlesskit = "--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 1";
    assert!(meant("/usr/bin/rnsnet", rootlesskit));
    assert!(meant("rnsnet", "--host-lo-to-ns-lo --version"));
    for native in [
        "1",
        "--version",
        "--mtu 1500 1",
        "run sh",
        "run --netns x",
        "-c 1",
        "--mtu 65520 -r 3 --disable-host-loopback --cidr 10.0.2.0/24 1 tap0",
        "--pid-file x 1",
        "--dns x 1",
        "--freebind -p x 1",
        "--quiet -p 8080:80 1",
        "--debug 1",
        "--gateway 10.0.2.1 -p 8080:80 1",
        "--log-file x 1",
    ] {
        assert!(!meant("rnsnet", native), "{native}");
    }
    assert!(!meant("/opt/pasta/rnsnet", "1"));
}
