//! Tests of slirp4netns's command line: spellings, meanings, refusals, and whose a line is.

use super::words::OPTIONS;
use super::*;
use crate::verbs::environment;

fn os(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn line(text: &str) -> Vec<OsString> {
    os(&text.split_whitespace().collect::<Vec<_>>())
}

#[track_caller]
fn attached(text: &str) -> Attach {
    match parse(&line(text)) {
        Ok(Invocation { command: Command::Attach(attach), .. }) => attach,
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str) -> String {
    parse(&line(text)).expect_err(text).to_string()
}

fn is_native(text: &str) -> bool {
    !is_meant(OsStr::new("/usr/bin/rnsnet"), &line(text), &environment(Environment::default()))
}

#[test]
fn podman_s_line_is_understood() {
    let attach = attached(
        "--disable-host-loopback --mtu=65520 --enable-sandbox --enable-seccomp --enable-ipv6 \
         -c -e 3 -r 4 --netns-type=path /run/user/1001/netns/netns-1 tap0",
    );
    let netns = PathBuf::from("/run/user/1001/netns/netns-1");
    assert_eq!(attach.target, Target::Path { netns, userns: None });
    assert_eq!(attach.endpoint.ifname, "tap0");
    assert_eq!((attach.process.exit_fd, attach.process.ready_fd), (Some(3), Some(4)));
    assert_eq!(attach.network.host_access, HostAccess::None);
    assert_eq!(attach.network.mtu.get(), 65520);
    assert_eq!(attach.network.refusal, Refusal::Unreachable);
    assert_eq!(attach.network.dhcp_pool, Some([10, 0, 2, 15].into()));
    assert_eq!(attach.caller.setup, Setup::Configure);
    assert!(attach.caller.any_fds && attach.caller.inspectable && attach.network.dns);
    let v6 = attach.network.addresses.v6.unwrap();
    assert_eq!((v6.gateway.to_string(), v6.dns.to_string()), ("fd00::2".into(), "fd00::3".into()));

    let attach = attached(
        "--mtu=1400 --enable-sandbox --enable-seccomp --cidr=10.77.0.0/24 \
         --outbound-addr=127.0.0.1 -c -r 3 -e 4 --api-socket /tmp/x.net --netns-type=path /n tap0",
    );
    let v4 = attach.network.addresses.v4;
    assert_eq!(attach.endpoint.lease.v4, Ipv4Addr::new(10, 77, 0, 100));
    assert_eq!(v4.gateway, Ipv4Addr::new(10, 77, 0, 2));
    assert_eq!(v4.dns, Ipv4Addr::new(10, 77, 0, 3));
    assert_eq!(attach.network.addresses.v6, None);
    assert_eq!(attach.network.host_access, HostAccess::All);
    assert_eq!(attach.caller.outbound.v4, Some(Source::Address(Ipv4Addr::LOCALHOST)));
    assert!(attach.caller.outbound.loopback_too);
    assert_eq!(attach.caller.api_socket, Some("/tmp/x.net".into()));
}

#[test]
fn rootlesskit_s_lines_are_understood() {
    let attach = attached("--mtu 65520 -r 3 --disable-host-loopback 3191 tap0");
    assert_eq!(attach.target, Target::Pid(3191));
    assert_eq!(attach.caller.setup, Setup::Bare);
    assert!(!attach.caller.inspectable);
    let attach = attached(
        "--mtu 65520 -r 3 --userns-path=/proc/7/ns/user --netns-type=path /proc/7/root/n tap0",
    );
    let userns = Some("/proc/7/ns/user".into());
    assert_eq!(attach.target, Target::Path { netns: "/proc/7/root/n".into(), userns });
}

#[test]
fn defaults() {
    let Invocation { command, warnings } = parse(&line("4711")).unwrap();
    let Command::Attach(attach) = command else { panic!() };
    assert_eq!(attach.target, Target::Pid(4711));
    assert_eq!(attach.endpoint.ifname, "tap0");
    assert_eq!(attach.network.mtu.get(), 1500);
    assert_eq!(attach.network.addresses.v4, Addresses::default().v4);
    assert_eq!(attach.network.addresses.v6, None);
    assert_eq!(attach.network.host_access, HostAccess::All);
    assert_eq!(attach.caller.outbound, Outbound::default());
    let accessible = "127.0.0.1:* on the host is accessible as 10.0.2.2";
    assert!(warnings.iter().any(|warning| warning.starts_with(accessible)), "{warnings:?}");
}

#[test]
fn every_spelling_of_getopt_long() {
    let expected = attached("--configure --mtu=1400 --exit-fd=3 4711 tap1");
    for text in [
        "-c --mtu 1400 -e 3 4711 tap1",
        "-cm1400 -e3 4711 tap1",
        "-ce 3 -m 1400 4711 tap1",
        "-ce3 --mt=1400 4711 tap1",
        "--conf --mt 1400 --exit 3 4711 tap1",
        "4711 -c tap1 -m 1400 --exit-fd 3",
        "4711 tap1 -c -m1400 -e 3",
        "-c -m 1400 -e 3 -- 4711 tap1",
        "-m 9000 -c -m 1400 -e 3 4711 tap1",
    ] {
        assert_eq!(attached(text), expected, "{text}");
    }
    // The word after an option is its argument, whatever it looks like.
    assert_eq!(attached("-a -c 4711").caller.api_socket, Some("-c".into()));
    assert_eq!(attached("--api-socket -- 4711").caller.api_socket, Some("--".into()));
    assert!(attached("-6c 4711").network.addresses.v6.is_some());
}

#[test]
fn misspelt_options_are_named() {
    for (text, message) in [
        ("--frob 1", "unrecognized option \"--frob\""),
        ("-x 1", "unrecognized option \"-x\""),
        ("-cx 1", "unrecognized option \"-x\""),
        ("-- --mtu", "PID must be a positive integer"),
        ("--=3 1", "unrecognized option \"--\""),
        ("--mtu", "option --mtu requires an argument"),
        ("1 -m", "option --mtu requires an argument"),
        ("--configure=1 1", "option --configure allows no argument"),
        (
            "--enable 1",
            "option \"--enable\" is ambiguous; possibilities: --enable-ipv6 --enable-sandbox \
             --enable-seccomp",
        ),
        (
            "--outbound 1",
            "option \"--outbound\" is ambiguous; possibilities: --outbound-addr --outbound-addr6",
        ),
    ] {
        assert_eq!(refused(text), message, "{text}");
    }
}

#[test]
fn values_are_refused_in_known_words() {
    for (text, message) in [
        ("", "PID, PATH or FD is missing"),
        ("0", "PID must be a positive integer"),
        ("-1", "unrecognized option \"-1\""),
        ("web", "PID must be a positive integer"),
        ("-e x 1", "exit-fd must be a non-negative integer"),
        ("-e -1 1", "exit-fd must be a non-negative integer"),
        ("-r x 1", "ready-fd must be a non-negative integer"),
        ("-r 3 -e 3 1", "--ready-fd and --exit-fd are both 3"),
        ("-m 0 1", "MTU must be a positive integer (< 65522)"),
        ("-m 65522 1", "MTU must be a positive integer (< 65522)"),
        ("-m x 1", "MTU must be a positive integer (< 65522)"),
        ("-m 67 1", "MTU must be at least 68, which IPv4 needs"),
        ("--cidr 24 1", "invalid CIDR: 24"),
        ("--cidr foo 1", "invalid CIDR: foo"),
        ("--cidr 10.0.2.0 1", "invalid CIDR: 10.0.2.0"),
        ("--cidr 10.0.2.0/ 1", "invalid CIDR: 10.0.2.0/"),
        ("--cidr 10.0.2/24 1", "invalid CIDR: 10.0.2/24"),
        ("--cidr 256.0.2.0/24 1", "invalid network address: 256.0.2.0"),
        ("--cidr 10.0.2.0/26 1", "prefix length needs to be 1-25"),
        ("--cidr 10.0.2.0/0 1", "prefix length needs to be 1-25"),
        ("--cidr 10.0.2.100/99 1", "prefix length needs to be 1-25"),
        (
            "--cidr 10.0.2.100/24 1",
            "CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24",
        ),
        ("--cidr 127.0.0.0/8 1", "the network of --cidr overlaps 127.0.0.0/8"),
        ("--cidr 64.0.0.0/2 1", "the network of --cidr overlaps 127.0.0.0/8"),
        ("--cidr 192.0.0.0/2 1", "the network of --cidr overlaps 224.0.0.0/3"),
        ("--netns-type foo 1", "--netns-type must be pid, path or tapfd"),
        ("--netns-type tapfd x", "TAPFD must be a file descriptor"),
        (
            "--netns-type tapfd -c 3",
            "--configure cannot be combined with --netns-type=tapfd: there is no namespace to \
             enter",
        ),
        ("--target-type foo 1", "--target-type must be either \"netns\" or \"bess\""),
        (
            "--target-type bess 1",
            "--target-type=bess is not part of rnsnet: give it a namespace, or a TAP by tapfd",
        ),
        (
            "--macaddress 0e:d4:18:d9:38:fb 1",
            "--macaddr cannot be specified when --configure or -c is not specified",
        ),
        (
            "-c --macaddress 0e:d4 1",
            "macaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated \
             by a ':').",
        ),
        ("--outbound-addr ::1 1", "outbound-addr has to be valid ipv4 address or interface name."),
        (
            "--outbound-addr6 127.0.0.1 1",
            "outbound-addr6 has to be valid ipv6 address or interface name.",
        ),
        ("1 a/b", "invalid TAPNAME \"a/b\": an interface name cannot contain '/'"),
    ] {
        assert_eq!(refused(text), message, "{text}");
    }
}

#[test]
fn values_at_their_limits() {
    assert_eq!(attached("-m 68 1").network.mtu.get(), 68);
    assert_eq!(attached("-m 65521 1").network.mtu.get(), 65521);
    let lease = attached("--cidr 10.0.135.128/25 1").endpoint.lease;
    assert_eq!(lease.v4, Ipv4Addr::new(10, 0, 135, 228));
    let outbound = attached("--outbound-addr eth0 --outbound-addr6 lo 1").caller.outbound;
    assert_eq!(outbound.v4, Some(Source::Interface("eth0".into())));
    assert_eq!(outbound.v6, Some(Source::Interface("lo".into())));
    let mac = attached("-c --macaddress 0e:d4:18:d9:38:fb 1").endpoint.lease.mac;
    assert_eq!(mac.to_string(), "0e:d4:18:d9:38:fb");
    assert!(!attached("--disable-dns 1").network.dns);
    assert_eq!(attached("--netns-type tapfd 5").target, Target::Tap(5));
    let userns = Some("/u".into());
    assert_eq!(
        attached("--userns-path /u 7").target,
        Target::Path { netns: "/proc/7/ns/net".into(), userns }
    );
    assert_eq!(attached("-e 0 -r 1 7").process.ready_fd, Some(1));
}

#[test]
fn old_names_and_superfluous_words_are_warned_about() {
    let warnings = |text: &str| parse(&line(text)).unwrap().warnings;
    assert_eq!(
        warnings("--no-host-loopback --create-sandbox 1 tap0 what"),
        [
            "--no-host-loopback is deprecated: use --disable-host-loopback",
            "--create-sandbox is deprecated: use --enable-sandbox",
            "too many arguments",
        ]
    );
    assert!(warnings("--disable-host-loopback 1").is_empty());
}

#[test]
fn help_and_version_are_all_that_happens() {
    for text in ["-h", "--help", "-vh -x", "4711 --help", "-m 0 -h", "-v"] {
        let Invocation { command, .. } = parse(&line(text)).unwrap();
        let is_version = text.starts_with("-v");
        assert_eq!(matches!(command, Command::Version(_)), is_version, "{text}");
    }
}

#[test]
fn the_help_has_what_callers_look_for() {
    for spec in OPTIONS {
        let hidden = matches!(spec.long, "no-host-loopback" | "create-sandbox");
        assert_eq!(HELP.contains(&format!("--{}", spec.long)), !hidden, "{}", spec.long);
        if spec.only_here && !hidden {
            let listed = IN_NATIVE_HELP.contains(&format!("--{}", spec.long));
            assert!(listed || spec.long == "mtu", "{}", spec.long);
        }
    }
    assert!(HELP.split_whitespace().any(|word| word.starts_with("--netns-type")));
    let Ok(Command::Help(native)) = crate::cli::parse(line("--help").into_iter()) else { panic!() };
    for option in [
        "--disable-host-loopback",
        "--mtu",
        "--enable-sandbox",
        "--enable-seccomp",
        "--cidr",
        "--outbound-addr",
        "--enable-ipv6",
        "--netns-type",
        "--api-socket",
    ] {
        assert!(native.contains(option), "{option}");
    }
    for text in [HELP, IN_NATIVE_HELP] {
        for line in text.lines() {
            assert!(line.len() <= 80 && line.trim_end() == line, "{line}");
        }
    }
}

#[test]
fn the_version_has_the_lines_that_callers_take_apart() {
    let version = version();
    assert!(version.starts_with("slirp4netns version "));
    let number = version.lines().find_map(|line| line.strip_prefix("SLIRP_CONFIG_VERSION_MAX: "));
    assert!(number.unwrap().parse::<u32>().unwrap() >= 3);
    assert!(version.lines().any(|line| line.starts_with("libslirp: ")));
    assert!(version.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_name_or_an_option_of_its_own_makes_the_personality() {
    for program in ["slirp4netns", "/usr/bin/slirp4netns", "./slirp4netns"] {
        assert!(
            is_meant(OsStr::new(program), &line("4711"), &environment(Environment::default())),
            "{program}"
        );
    }
    for program in ["rnsnet", "/opt/slirp4netns/rnsnet", "slirp4netns.bak", ""] {
        assert!(
            !is_meant(OsStr::new(program), &line("4711"), &environment(Environment::default())),
            "{program}"
        );
    }
    for text in [
        "-c 4711",
        "4711 tap0 -c",
        "-ce 3 4711",
        "-6 4711",
        "-m1500 4711",
        "-a /s 4711",
        "--configure 4711",
        "--disable-host-loopback --mtu=65520 4711 tap0",
        "--mtu 65520 -r 3 --disable-host-loopback 3191 tap0",
        "-c --help",
        "--enable-sandbox --no-such-option 4711",
    ] {
        assert!(!is_native(text), "{text}");
    }
    for text in [
        "4711",
        "--help",
        "--version",
        "-h",
        "--mtu 1500 -r 3 4711 tap0",
        "-r 3 -e 4 --cidr 10.9.0.0/24 --netns-type path /n eth0",
        "-p 8080:80 4711",
        // Wrong, and ours to refuse.
        "",
        "-x 4711",
        "-v",
        "--conf 4711",
        "--publish -c 4711",
        "--no-such-option -c 4711",
        "--outbound-addr eth0 4711",
        "-m 1400 -p 8080:80 4711",
        "--configure --publish=8080:80 4711",
        "run -- sh -c id",
        "run sh -c id",
        "-- -c",
    ] {
        assert!(is_native(text), "{text}");
    }
}
