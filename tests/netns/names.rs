//! Names that are known without asking a server, and the files that say so. Rows D5, D9, D11, D13,
//! D14, D20, C25.

use crate::eventually::{eventually, secs};
use crate::lab::{DNS4, GATEWAY4, GATEWAY6, GUEST4, HOST4, LAN4, Lab, Place};

const HOST_NAMES: [&str; 2] = ["host.containers.internal", "host.docker.internal"];

impl Lab {
    /// What `rnsnet run OPTIONS -- sh -c SCRIPT` prints.
    #[track_caller]
    fn run_prints(&self, options: &[&str], script: &str) -> String {
        let ran = self.rnsnet_ends(&[&["run"], options, &["--", "sh", "-ec", script]].concat());
        ran.ok().to_owned()
    }
}

// D14
#[test]
fn the_host_has_a_name_and_so_has_what_was_added() {
    let Some(lab) = Lab::new() else { return };
    // Nobody is asked: there is no server.
    lab.set_resolv_conf("nameserver 192.0.2.77\n");
    let _web = lab.web_server(Place::Host, 8080, "hello from the host");
    let ctr = lab.container();
    let options = [
        "--host-access",
        "8080",
        "--add-host",
        "printer:192.0.2.9",
        "--add-host=me:host-gateway",
        "--add-host",
        "*.apps:10.89.0.5",
    ];
    let _net = lab.rnsnet(&ctr).with(&options).start();
    let dig = |question: &str| {
        let line = format!("dig +short +tries=1 +time=15 @{DNS4} {question}");
        lab.sh(Place::In(&ctr), &line).ok().to_owned()
    };
    for name in [HOST_NAMES[0], HOST_NAMES[1], "me"] {
        assert_eq!(dig(name), GATEWAY4, "{name}");
        assert_eq!(dig(&format!("AAAA {name}")), GATEWAY6, "{name}");
    }
    assert_eq!(dig("+tcp printer"), LAN4);
    assert_eq!(dig("x.apps"), "10.89.0.5");
    assert_eq!(dig(&format!("-x {GATEWAY4}")), "me.", "the first that was named");
    let inside = lab.run_prints(
        &options,
        "getent ahostsv4 host.containers.internal host.docker.internal | grep STREAM | tr -s ' '
         getent ahostsv4 printer | grep STREAM | tr -s ' '
         curl -sS -m20 http://host.containers.internal:8080/",
    );
    for part in [
        &format!("{GATEWAY4} STREAM host.containers.internal"),
        &format!("{GATEWAY4} STREAM host.docker.internal"),
        &format!("{LAN4} STREAM printer"),
        "hello from the host",
    ] {
        assert!(inside.contains(part), "no {part:?} in {inside}");
    }
}

// D9: a name that is known has no such record, which no server is asked about.
#[test]
fn a_known_name_without_the_type_is_no_unknown_name() {
    let Some(lab) = Lab::new() else { return };
    let mut counter = lab.counter(Place::Lan, &[53]);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--no-ipv6"]).start();
    for question in ["AAAA host.containers.internal", "TXT host.containers.internal"] {
        let line = format!("dig +tries=1 +time=15 @{DNS4} {question}");
        let dig = lab.sh(Place::In(&ctr), &line);
        assert!(dig.ok().contains("status: NOERROR"), "{dig}");
        assert!(dig.ok().contains("ANSWER: 0, AUTHORITY: 0,"), "{dig}");
    }
    // Each is answered at once; a busy machine makes some of many slow.
    let program = format!(
        "
question = b'\\4host\\x0acontainers\\x08internal\\0\\0\\x1c\\0\\1'
def ask(n):
    s, start = udp(timeout=30), time.monotonic()
    s.sendto(struct.pack('!HHHHHH', n, 0x0100, 1, 0, 0, 0) + question, ('{DNS4}', 53))
    assert s.recv(600)[6:8] == b'\\0\\0'
    return ms(start)
say(min(ask(n) for n in range(100)))
"
    );
    let fastest: u32 = lab.py(Place::In(&ctr), &program).ok().parse().expect("milliseconds");
    assert!(fastest < 5, "{fastest} ms");
    // Who is on this network no server knows.
    let line = format!("dig +tries=1 +time=15 @{DNS4} -x 10.0.2.77");
    assert!(lab.sh(Place::In(&ctr), &line).ok().contains("status: NXDOMAIN"));
    assert_eq!(crate::lab::arrivals(&mut counter), "0 connections 0 datagrams");
}

// D5
#[test]
fn the_only_container_has_no_name() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dnsmasq_with(Place::Lan, &["--listen-address=192.0.2.9", "--local=/web/"], 53);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let dig = lab.sh(Place::In(&ctr), &format!("dig +tries=1 +time=15 @{DNS4} web"));
    assert!(dig.ok().contains("status: NXDOMAIN"), "{dig}");
}

// D11 D13
#[test]
fn the_files_of_a_command_say_what_was_asked_for() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dnsmasq_with(
        Place::Lan,
        &["--listen-address=192.0.2.9", "--host-record=h.lab.test,192.0.2.55"],
        53,
    );
    let options = ["--dns", LAN4, "--dns-search", "lab.test", "--dns-opt", "ndots:2"];
    let file = lab.run_prints(&options, "cat /etc/resolv.conf");
    let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["nameserver 192.0.2.9", "search lab.test", "options ndots:2"]);
    let found = lab.run_prints(&options, "getent ahostsv4 h; dig +short +search h");
    assert!(found.starts_with("192.0.2.55") && found.ends_with("192.0.2.55"), "{found}");
    // Where the command cannot reach the server itself, it is told of the forwarder.
    for more in [&["--dns", "127.0.0.1"][..], &["--dns", LAN4, "--dns-route", "a.test=192.0.2.9"]] {
        let file = lab.run_prints(more, "cat /etc/resolv.conf");
        let first = file.lines().find(|line| !line.starts_with('#'));
        assert_eq!(first, Some("nameserver 10.0.2.3"), "{more:?}");
    }
    // Nor of who would not know the network's own names.
    lab.rn(&format!("network create --dns {LAN4} n1"));
    let _db = lab.member("--network n1 --name db");
    let found =
        lab.run_prints(&["--network", "n1"], "getent ahostsv4 db; getent ahostsv4 h.lab.test");
    assert!(found.starts_with("10.89.0.2 ") && found.contains("\n192.0.2.55 "), "{found}");
    let options = ["--dns", LAN4, "--add-host", "*.apps:10.0.2.9"];
    let found = lab.run_prints(&options, "getent ahostsv4 x.apps; getent ahostsv4 h.lab.test");
    assert!(found.starts_with("10.0.2.9 ") && found.contains("\n192.0.2.55 "), "{found}");
    let hosts = lab.run_prints(
        &["--hostname", "h1", "--add-host", "printer:192.0.2.9"],
        "cat /etc/hosts /etc/hostname",
    );
    for line in [
        format!("{GUEST4} h1"),
        format!("{GATEWAY4} host.containers.internal"),
        format!("{LAN4} printer"),
        "h1".to_owned(),
    ] {
        assert!(hosts.lines().any(|seen| seen == line), "no {line:?} in {hosts}");
    }
    let none = lab.run_prints(&["--network", "none"], "cat /etc/hosts");
    assert!(!none.contains("internal"), "{none}");
}

// D11: an image with a DHCP client hears of them too.
#[test]
fn search_domains_are_told_by_dhcp() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let domains = ["--dns-search", "lab.test", "--dns-search", "test"];
    let _net = lab.rnsnet(&ctr).with(&domains).start();
    let script = lab.dir().join("udhcpc").display().to_string();
    lab.sh(
        Place::User,
        &format!("printf '#!/bin/sh\\necho search=$search\\n' > {script}; chmod 755 {script}"),
    )
    .ok();
    let line =
        format!("busybox udhcpc -i eth0 -f -q -n -t 30 -T 1 -O search -s {script} 2>/dev/null");
    let told = lab.sh(Place::In(&ctr), &line);
    assert!(told.ok().contains("search=lab.test test"), "{told}");
}

// C25: the container's own name server has port 53 of the host, and the forwarder is not it.
#[test]
fn a_published_name_server_and_the_forwarder_do_not_collide() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "echo 53 > /proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "53:53/udp", "-p", "53:53/tcp"]).start();
    let _dns = lab.dnsmasq(Place::In(&ctr), "0.0.0.0");
    let program = format!(
        "
good = 0
for n in range(100):
    s = udp(timeout=20)
    s.sendto(struct.pack('!HHHHHH', n, 0x0100, 1, 0, 0, 0)
             + b'\\4host\\x0acontainers\\x08internal\\0\\0\\1\\0\\1', ('{DNS4}', 53))
    data = s.recv(600)
    good += data[:2] == struct.pack('!H', n) and data.endswith(bytes([10, 0, 2, 2]))
say(good)
"
    );
    let line = "for n in $(seq 20); do dig +short +tries=1 +time=15 @192.0.2.1 a.test; done";
    let mut outside = lab.spawn(Place::Lan, &["sh", "-c", line]);
    assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "100");
    for _ in 0..20 {
        assert_eq!(outside.line(secs(10)), LAN4);
    }
}

// C25 C12: nor on a named network, whose other containers are known by their names meanwhile.
#[test]
fn a_name_server_of_a_named_network_is_published_beside_its_names() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "echo 53 > /proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    lab.rn("network create n1");
    let server = lab.member("--network n1 --name server -p 53:53 -p 53:53/udp");
    let web = lab.member("--network n1 --name web");
    let _dns = lab.dnsmasq(Place::In(&server), "0.0.0.0");
    for transport in ["+notcp", "+tcp"] {
        let dig = |at: &str, name: &str| format!("dig +short +tries=2 {transport} @{at} {name}");
        assert_eq!(lab.sh(Place::Lan, &dig(HOST4, "a.test")).ok(), LAN4, "{transport}");
        for container in [&server, &web] {
            let asked = lab.within(container, &dig("10.89.0.1", "web"));
            assert_eq!(asked.ok(), "10.89.0.3", "{transport}");
        }
        assert_eq!(lab.within(&web, &dig("10.89.0.2", "a.test")).ok(), LAN4, "{transport}");
    }
    let hundred =
        "for n in $(seq 100); do dig +short +tries=2 @10.89.0.1 web; done | sort | uniq -c";
    assert_eq!(lab.within(&web, hundred).ok().trim(), "100 10.89.0.3");
}

// D12
#[test]
fn dns_is_answered_on_the_container_s_own_loopback() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let options = ["--dns-listen", "127.0.0.11", "--add-host", "web:10.0.2.100"];
    let _net = lab.rnsnet(&ctr).with(&options).start();
    for transport in ["+notcp", "+tcp"] {
        for (name, answer) in [("web", GUEST4), ("a.test", LAN4)] {
            let line = format!("dig +short +tries=1 +time=15 {transport} @127.0.0.11 {name}");
            assert_eq!(lab.sh(Place::In(&ctr), &line).ok(), answer, "{name} {transport}");
        }
    }
    let line = "dig +short +tries=1 +time=15 +tcp @127.0.0.11 TXT big.test";
    assert_eq!(lab.sh(Place::In(&ctr), line).ok().matches('x').count(), 3000);
    assert_eq!(lab.sh(Place::In(&ctr), "nft list ruleset").ok(), "", "no packet is rewritten");
    assert!(lab.sockets(Place::User, 53).is_empty(), "nothing of the host's is taken");
    // What Docker writes.
    let inside = lab.run_prints(
        &["--dns-listen", "127.0.0.11", "--dns-search", "test"],
        "cat /etc/resolv.conf; getent ahostsv4 a.test | head -n1",
    );
    let lines: Vec<&str> = inside.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines[..3], ["nameserver 127.0.0.11", "search test", "options ndots:0"]);
    assert!(lines[3].starts_with(LAN4), "{inside}");
}

// D13: the files of a container that is attached, for whoever mounts them there.
#[test]
fn files_are_written_for_a_container_that_is_attached() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let path = |name: &str| lab.dir().join(name).display().to_string();
    let (resolv, hosts) = (path("ctr-resolv.conf"), path("ctr-hosts"));
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).expect("it was written");
        text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    };
    let files = ["--write-resolv-conf", &resolv, "--write-hosts", &hosts];
    let more = ["-n", "web", "--dns-search", "lab.test", "--dns-opt", "ndots:2"];
    let net = lab.rnsnet(&ctr).with(&files).with(&more).start();
    let text = read(&resolv);
    assert!(text.starts_with(&format!("nameserver {DNS4}\n")), "{text}");
    assert!(text.ends_with("search lab.test\noptions ndots:2"), "{text}");
    let text = read(&hosts);
    for line in ["127.0.0.1 localhost", "10.0.2.100 web", "10.0.2.2 host.containers.internal"] {
        assert!(text.contains(line), "{text}");
    }
    drop(net);
    lab.rnsnet_ends(&["network", "create", "n1"]).ok();
    let pid = ctr.pid().to_string();
    let named = ["-d", "--network", "n1", "--name", "db", &pid];
    lab.rnsnet_ends(&[&files[..], &named[..]].concat()).ok();
    assert_eq!(read(&resolv), "nameserver 10.89.0.1");
    assert!(read(&hosts).contains("10.89.0.2 db"), "{}", read(&hosts));
    let other = lab.container();
    let nowhere = lab.rnsnet_ends(&["--write-hosts", "/nowhere/hosts", &other.pid().to_string()]);
    assert_eq!(nowhere.code(), 1, "{nowhere}");
    assert!(nowhere.stderr.contains("cannot write /nowhere/hosts"), "{nowhere}");
    let alone = lab.rnsnet_ends(&["--dns-opt", "ndots:2", &other.pid().to_string()]);
    assert_eq!(alone.code(), 2, "{alone}");
    assert!(alone.stderr.contains("--dns-opt does nothing without --write-resolv-conf"), "{alone}");
}

// D12: on a named network, where other containers have names.
#[test]
fn names_of_a_network_are_answered_on_the_container_s_own_loopback() {
    let Some(lab) = Lab::new() else { return };
    lab.rnsnet_ends(&["network", "create", "n1"]).ok();
    let (web, db) = (lab.container(), lab.container());
    for (ctr, name) in [(&web, "web"), (&db, "db")] {
        let options = ["-d", "--network", "n1", "--dns-listen", "127.0.0.11", "--name", name];
        lab.rnsnet_ends(&[&options[..], &[&ctr.pid().to_string()]].concat()).ok();
    }
    for transport in ["+notcp", "+tcp"] {
        let dig = format!("dig +short +tries=1 +time=15 {transport} @127.0.0.11");
        assert_eq!(lab.sh(Place::In(&web), &format!("{dig} db")).ok(), "10.89.0.3");
        assert_eq!(lab.sh(Place::In(&db), &format!("{dig} web")).ok(), "10.89.0.2");
    }
    assert_eq!(lab.sh(Place::In(&web), "nft list ruleset").ok(), "", "no packet is rewritten");
    let run = ["run", "--network", "n1", "--dns-listen", "127.0.0.11", "--"];
    let script = "cat /etc/resolv.conf; getent ahostsv4 web";
    let inside = lab.rnsnet_ends(&[&run[..], &["sh", "-c", script]].concat());
    assert!(inside.ok().contains("nameserver 127.0.0.11"), "{inside}");
    assert!(inside.ok().contains("10.89.0.2"), "{inside}");
    // It goes with its container, and the others' stay.
    db.kill();
    eventually(secs(5), "it has left", || {
        let dig = lab.sh(Place::In(&web), "dig +short +tries=1 +time=15 @127.0.0.11 db");
        if dig.ok().is_empty() { Ok(()) } else { Err(dig.to_string()) }
    });
}

// D12
#[test]
fn an_address_that_the_container_uses_itself_is_not_taken() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    lab.sh(Place::In(&ctr), "ip link set lo up").ok();
    let _own = lab.dnsmasq(Place::In(&ctr), "127.0.0.11");
    let ran = lab.rnsnet_ends(&["--dns-listen", "127.0.0.11", &ctr.pid().to_string()]);
    assert_eq!(ran.code(), 1, "{ran}");
    let label = format!("cannot answer DNS at 127.0.0.11:53 in pid {}", ctr.pid());
    assert!(ran.stderr.contains(&label) && ran.stderr.contains("in use"), "{ran}");
    let links = lab.sh(Place::In(&ctr), "ip -br link");
    assert!(!links.ok().contains("eth0"), "{links}");
}
