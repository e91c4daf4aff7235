//! What bad input and an unfit machine get: one line that names the input, a hint where everyone
//! meets it, the right exit code, and nothing half-done.

use std::fs;

use crate::exec::Ran;
use crate::lab::{Lab, Place};
use crate::rnsnet::binary;

/// One line that begins with the program's name and holds `noun`; perhaps a hint after it.
#[track_caller]
fn assert_said(ran: &Ran, code: i32, noun: &str) {
    assert_eq!(ran.code(), code, "{ran}");
    let mut lines = ran.stderr.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with("rnsnet: "), "{ran}");
    assert!(first.contains(noun), "no {noun:?} in the message: {ran}");
    let rest: Vec<&str> = lines.collect();
    assert!(rest.len() <= 1, "one line, and perhaps one hint: {ran}");
    assert!(rest.iter().all(|line| line.starts_with("hint: ")), "{ran}");
    assert!(!ran.stderr.contains("panicked"), "{ran}");
    assert_eq!(ran.stdout, "", "{ran}");
}

#[track_caller]
fn assert_hinted(ran: &Ran) {
    assert!(ran.stderr.contains("hint: "), "this is met by everyone, so there is a hint: {ran}");
}

// The container is as it was: only lo, and down.
#[track_caller]
fn assert_untouched(lab: &Lab, container: &crate::lab::Container) {
    let links = lab.sh(Place::In(container), "ip -br link").ok().to_owned();
    assert_eq!(links.lines().count(), 1, "no TAP may be left: {links}");
}

#[test]
fn bad_usage_exits_2_and_names_the_word() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["--frobnicate", &pid], "--frobnicate"),
        (&["-x", &pid], "-x"),
        (&["--publish"], "--publish"),
        (&["-p", "80:80:80:80", &pid], "80:80:80:80"),
        (&["-p", "0:80", &pid], "0:80"),
        (&["-p", "8080:0", &pid], "8080:0"),
        (&["-p", "70000:80", &pid], "70000:80"),
        (&["-p", "8080:80/sctp", &pid], "sctp"),
        (&["-p", "eighty:80", &pid], "eighty:80"),
        (&["-p", "8080:", &pid], "8080:"),
        (&["-p", "", &pid], "publish"),
        (&["-p", "::1:8080:80", &pid], "::1:8080:80"),
        (&["-p", "[::1:8080:80", &pid], "[::1:8080:80"),
        (&["-p", "300.0.0.1:8080:80", &pid], "300.0.0.1:8080:80"),
        (&["--cidr", "10.0.2.0", &pid], "10.0.2.0"),
        (&["--cidr", "10.0.2.0/33", &pid], "10.0.2.0/33"),
        (&["--cidr", "10.0.2.0/31", &pid], "10.0.2.0/31"),
        (&["--cidr", "fd00::/64", &pid], "fd00::/64"),
        (&["--cidr6", "10.0.2.0/24", &pid], "10.0.2.0/24"),
        (&["--ip", "10.0.2.256", &pid], "10.0.2.256"),
        (&["--cidr", "10.0.2.0/24", "--ip", "10.0.3.7", &pid], "10.0.3.7"),
        (&["--ip", "10.0.2.2", &pid], "10.0.2.2"),
        (&["--mac", "02:00:00:00:00", &pid], "02:00:00:00:00"),
        (&["--mac", "01:00:00:00:00:07", &pid], "01:00:00:00:00:07"),
        (&["--mtu", "1279", &pid], "1279"),
        (&["--mtu", "65521", &pid], "65521"),
        (&["--mtu", "big", &pid], "big"),
        (&["--ifname", "a-name-that-is-too-long", &pid], "a-name-that-is-too-long"),
        (&["--ifname", "a/b", &pid], "a/b"),
        (&["--ifname", "", &pid], "ifname"),
        (&["--offload", "maybe", &pid], "maybe"),
        (&["--host-access", "some", &pid], "some"),
        (&["--host-access", "99999", &pid], "99999"),
        (&["--log-level", "shout", &pid], "shout"),
        (&["--netns-type", "name", &pid], "name"),
        (&["--network", "a/b/c", &pid], "b/c"),
        (&["--ready-fd", "-1", &pid], "-1"),
        (&["--exit-fd", "x", &pid], "x"),
        (&[&pid, "eth0", "more"], "more"),
        (&["run"], "command"),
        (&["run", "--"], "command"),
        (&["run", "--frobnicate", "--", "true"], "--frobnicate"),
    ];
    for (arguments, noun) in cases {
        assert_said(&lab.rnsnet_ends(arguments), 2, noun);
    }
    // No operand at all: what it expects is said.
    let nothing = lab.rnsnet_ends(&[]);
    assert_eq!(nothing.code(), 2, "{nothing}");
    assert!(nothing.stderr.contains("PID"), "{nothing}");
    assert_untouched(&lab, &ctr);
}

#[test]
fn help_and_version_succeed_on_standard_output() {
    let Some(lab) = Lab::new() else { return };
    let help = lab.rnsnet_ends(&["--help"]);
    for option in ["--publish", "--mtu", "--ready-fd", "--host-access", "run"] {
        assert!(help.ok().contains(option), "no {option}: {help}");
    }
    let version = lab.rnsnet_ends(&["--version"]);
    assert!(version.ok().contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn a_pid_that_is_gone_is_named() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    ctr.kill();
    assert_said(&lab.rnsnet_ends(&[&pid]), 1, &pid);
    for not_a_pid in ["0", "-5", "999999999"] {
        let ran = lab.rnsnet_ends(&["--netns-type=pid", "--", not_a_pid]);
        assert!([1, 2].contains(&ran.code()), "{ran}");
        assert!(ran.stderr.contains(not_a_pid), "{ran}");
    }
}

#[test]
fn a_path_that_is_no_namespace_is_named() {
    let Some(lab) = Lab::new() else { return };
    let missing = lab.rnsnet_ends(&["--netns-type=path", "/run/netns/nobody"]);
    assert_said(&missing, 1, "/run/netns/nobody");
    // A file that is not a namespace, and one of another kind.
    assert_said(&lab.rnsnet_ends(&["--netns-type=path", "/etc/passwd"]), 1, "/etc/passwd");
    let ctr = lab.container();
    let other_kind = format!("/proc/{}/ns/uts", ctr.pid());
    assert_said(&lab.rnsnet_ends(&["--netns-type=path", &other_kind]), 1, &other_kind);
    let user = ["--userns-path=/proc/nobody/ns/user", &format!("/proc/{}/ns/net", ctr.pid())];
    assert_said(&lab.rnsnet_ends(&user), 1, "/proc/nobody/ns/user");
}

#[test]
fn somebody_elses_container_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.foreign_container();
    let pid = ctr.pid().to_string();
    let refused = lab.rnsnet_ends(&["-p", "8080:80", &pid]);
    assert_said(&refused, 1, &pid);
    assert_eq!(lab.sockets(Place::User, 8080), "");
    assert_untouched(&lab, &ctr);
}

// A14, by path
#[test]
fn the_host_namespace_by_path_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let refused = lab.rnsnet_ends(&["/proc/self/ns/net"]);
    assert_said(&refused, 1, "host network namespace");
}

#[test]
fn a_machine_without_tun_gets_a_hint() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "mount -t tmpfs none /dev/net").ok();
    let ctr = lab.container();
    let refused = lab.rnsnet_ends(&["-p", "8080:80", &ctr.pid().to_string()]);
    assert_said(&refused, 1, "/dev/net/tun");
    assert_hinted(&refused);
    assert_eq!(lab.sockets(Place::User, 8080), "");
}

#[test]
fn disabled_user_namespaces_get_a_hint() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "echo 0 > /proc/sys/user/max_user_namespaces").ok();
    let refused = lab.rnsnet_ends(&["run", "--", "true"]);
    assert_said(&refused, 125, "namespace");
    assert_hinted(&refused);
    assert!(refused.stderr.contains("/proc/sys/user/max_"), "{refused}");
}

#[test]
fn a_port_below_1024_gets_a_hint() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    for publish in ["80:80", "127.0.0.1:80:80", "80:80/udp"] {
        let refused = lab.rnsnet_ends(&["-p", "8080:80", "-p", publish, &pid]);
        assert_said(&refused, 1, "80");
        assert_hinted(&refused);
        assert!(refused.stderr.contains("ip_unprivileged_port_start"), "{refused}");
        assert_eq!(lab.sockets(Place::User, 8080), "");
        assert_untouched(&lab, &ctr);
    }
}

#[test]
fn an_address_the_host_does_not_have_is_named() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let refused = lab.rnsnet_ends(&["-p", "192.0.2.50:8080:80", &ctr.pid().to_string()]);
    assert_said(&refused, 1, "192.0.2.50");
    assert_untouched(&lab, &ctr);
}

#[test]
fn a_taken_interface_name_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    lab.sh(Place::In(&ctr), "ip link add eth0 type veth peer name eth1").ok();
    let refused = lab.rnsnet_ends(&["-p", "8080:80", &ctr.pid().to_string()]);
    assert_said(&refused, 1, "eth0");
    assert_hinted(&refused);
    assert_eq!(lab.sockets(Place::User, 8080), "");
    // What was there is not ours to remove.
    assert!(lab.sh(Place::In(&ctr), "ip -br link").ok().contains("eth1"));
}

#[test]
fn descriptors_that_are_not_open_are_named() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    assert_said(&lab.rnsnet_ends(&["--ready-fd", "77", &pid]), 1, "77");
    assert_said(&lab.rnsnet_ends(&["--exit-fd", "78", &pid]), 1, "78");
    assert_untouched(&lab, &ctr);
}

#[test]
fn a_pid_file_that_cannot_be_written_is_named() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let refused = lab.rnsnet_ends(&["--pid-file", "/nowhere/pid", &pid]);
    assert_said(&refused, 1, "/nowhere/pid");
    assert_untouched(&lab, &ctr);
}

#[test]
fn too_few_open_files_are_told_of_as_such_where_no_port_is_published() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let (program, pid) = (binary().to_string_lossy().into_owned(), ctr.pid().to_string());
    let argv = ["sh", "-c", "ulimit -n 20; exec \"$@\"", "sh", &program, &pid];
    let refused = lab.run(Place::User, &argv);
    assert_said(&refused, 1, "the limit of 20 open files is too low");
    assert_hinted(&refused);
    assert_untouched(&lab, &ctr);
}

// Where fs.nr_open was lowered below the hard limit since, setrlimit(2) refuses it: the kernel has one
// such setting for all namespaces, so strace(1) answers in its place.
#[test]
fn a_limit_of_open_files_that_cannot_be_raised_is_told_and_does_not_matter() {
    let Some(lab) = Lab::new() else { return };
    let (program, trace) = (binary().to_string_lossy().into_owned(), lab.dir().join("strace"));
    let ends = |inject: &str| {
        let trace = trace.to_string_lossy().into_owned();
        let few = ["prlimit", "--nofile=64:128", "strace", "-qq", "-e", inject, "-o", &trace];
        // After the limit, nobody's pid.
        lab.run(Place::User, &[&few[..], &[&program, "4194304"]].concat())
    };
    let raised = ends("trace=prlimit64");
    assert_said(&raised, 1, "there is no process with pid 4194304");
    assert!(!raised.stderr.contains("open files"), "{raised}");
    let calls = fs::read_to_string(&trace).expect("strace's file");
    let is_it = |call: &str| call.contains("RLIMIT_NOFILE, {rlim_cur=128, rlim_max=128}, ");
    let number = calls.lines().position(is_it).expect(&calls) + 1;
    let refused = ends(&format!("inject=prlimit64:error=EPERM:when={number}"));
    let told = "warn: cannot raise the limit of open files: EPERM";
    for line in [told, "there is no process with pid 4194304"] {
        assert!(refused.stderr.contains(line), "{refused}");
    }
}

#[test]
fn what_is_so_already_is_said() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    lab.rn("network create n2");
    let (web, other) = (lab.member("--network n1 --name web"), lab.member("--network n2"));
    let (web, other) = (web.pid(), other.pid());
    let connected = "the container web is connected to the network n1 already";
    let cases: &[(&str, &str, &str)] = &[
        ("network connect n1 web", connected, "rnsnet network disconnect n1 web"),
        (&format!("network connect --ip 10.89.0.9 n1 {web}"), connected, "disconnect n1 web"),
        (&format!("-d --network n1 --name web {web}"), connected, "disconnect n1 web"),
        (&format!("-d --network n1:ip=10.89.0.2 --name web2 {web}"), connected, "disconnect"),
        (&format!("network connect --alias db n2 {other}"), "the container ns-", "disconnect n2"),
        // The other way round.
        ("network connect web n1", "no such network: web", "rnsnet network ls"),
        ("publish web 80:80", "cannot publish 80:80/tcp", "ip_unprivileged_port_start"),
        ("publish web 192.0.2.77:8080:80", "192.0.2.77", "`ip addr`"),
    ];
    for (words, said, helps) in cases {
        let ran = lab.rnsnet_ends(&words.split(' ').collect::<Vec<_>>());
        assert_said(&ran, 1, said);
        assert!(ran.stderr.contains(helps), "{words}: {ran}");
    }
    // Whoever is served needs no other.
    for (named, called) in [("web", "web"), (web.to_string().as_str(), "web"), ("n1", "n1")] {
        let ran = lab.rnsnet_ends(&["reattach", named]);
        assert_said(&ran, 1, &format!("nothing to reattach: {called} is being served, by pid "));
        assert!(!ran.stderr.contains("hint: "), "{ran}");
    }
}

#[test]
fn who_asks_what_runs_is_told_what_helps() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80", "--name", "web"]).start();
    let cases: &[(&str, i32, &str, &str)] = &[
        ("publish web 8080:81", 1, "cannot publish 8080:81/tcp", "ss -ltunp"),
        ("update web", 2, "an option is missing", "rnsnet update --help"),
        ("network ls n1 n2", 2, "n1", "rnsnet network ls --help"),
        ("network inspect -f {{.Name}} n1", 1, "no such network: n1", "rnsnet network ls"),
        (&format!("--network n1 --host-access 80 {pid}"), 2, "--host-access", "network create"),
        (&pid, 1, "is already attached", "rnsnet ps"),
    ];
    for (words, code, said, helps) in cases {
        let ran = lab.rnsnet_ends(&words.split(' ').collect::<Vec<_>>());
        assert_said(&ran, *code, said);
        assert_hinted(&ran);
        assert!(ran.stderr.contains(helps), "{words}: {ran}");
    }
    // What was typed is called what the verb's help calls it.
    assert_said(&lab.rnsnet_ends(&["publish", "web", "foo"]), 2, "invalid SPEC \"foo\"");
    let keys = lab.rnsnet_ends(&["--network", "default:ip=10.0.2.7", &pid]);
    assert_said(&keys, 2, "\"default:ip=10.0.2.7\": it takes no keys");
    // And the network what `rnsnet ps` calls it.
    assert_eq!(lab.rn("ps --format {{.Networks}}"), "default");
    assert_eq!(lab.rn("update --rate 10mbit --network default web"), "web");
    assert_eq!(lab.rn("inspect -f {{.NetworkSettings.Rate}} web"), "down=10mbit,up=10mbit");
}
