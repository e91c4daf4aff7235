//! The rest of the grammar of published ports. Rows C3 C5 C6 C14-C19 F8.

use crate::eventually::{eventually, less_than, millis, now, one_of_three, secs};
use crate::exec::run;
use crate::lab::{HOST4, HOST6, LAN4, LAN6, Lab, Place};
use crate::rnsnet::{Rnsnet, binary};

/// Asks a `who` service by TCP and gives the address that it saw.
fn who_tcp(host: &str, port: u16) -> String {
    format!("say(read_all(tcp('{host}', {port})).decode().split()[0])")
}

/// Asks a `who` service by UDP.
fn who_udp(host: &str, port: u16) -> String {
    format!(
        "s = udp(v6=':' in '{host}'); s.connect(('{host}', {port})); s.send(b'?')\n\
         say(s.recv(99).decode().split()[0])"
    )
}

/// How a connection attempt ends: `connected`, or the errno's name.
fn attempt(lab: &Lab, place: Place<'_>, host: &str, port: u16) -> String {
    let ran = lab.py(place, &format!("attempt('{host}', {port})"));
    ran.ok().split(' ').next().unwrap_or_default().to_owned()
}

/// The published ports in the line that says what was made.
fn summary(net: &Rnsnet) -> Vec<String> {
    let log = net.log();
    let line = log.lines().find(|line| line.contains(" gateway ")).expect("a summary").to_owned();
    line.split(' ').filter(|word| word.contains("->")).map(str::to_owned).collect()
}

/// The host port of the n-th published port.
fn host_port(net: &Rnsnet, nth: usize) -> u16 {
    let words = summary(net);
    let host = words[nth].split("->").next().unwrap_or_default();
    host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

// C3
#[test]
fn a_free_port_is_chosen_for_both_families_and_said() {
    let Some(lab) = Lab::new() else { return };
    let _taken = lab.serve(Place::User, "l = listen(49153, '0.0.0.0'); forever()");
    let _half = lab.serve(Place::User, "s = udp('::', 49154); l = listen(49154, '::1'); forever()");
    let ctr = lab.container();
    let ports = ["-n", "web", "-p", "80", "-p", "127.0.0.1::80", "-p", "80/udp"];
    let net = lab.rnsnet(&ctr).with(&ports).start();
    let _who = lab.who(Place::In(&ctr), 80);
    assert_eq!(
        summary(&net),
        [
            // Taken for IPv4, taken for IPv6 on one address.
            "0.0.0.0:49155->80/tcp",
            "[::]:49155->80/tcp",
            "127.0.0.1:49156->80/tcp",
            "0.0.0.0:49157->80/udp",
            "[::]:49157->80/udp",
        ]
    );
    let told = lab.rn("port web 80");
    assert_eq!(told, "0.0.0.0:49155\n127.0.0.1:49156\n[::]:49155");
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST4, 49155)).ok(), LAN4);
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST6, 49155)).ok(), LAN6);
    assert_eq!(lab.py(Place::Lan, &who_udp(HOST6, 49157)).ok(), LAN6);
    lab.py(Place::User, &who_tcp("127.0.0.1", 49156)).ok();
    assert_eq!(attempt(&lab, Place::Lan, HOST4, 49156), "ECONNREFUSED");
}

// C5
#[test]
fn the_first_free_port_of_a_range_is_taken_until_there_is_none() {
    let Some(lab) = Lab::new() else { return };
    let range = ["-p", "8000-8001:80"];
    let (a, b, c) = (lab.container(), lab.container(), lab.container());
    let first = lab.rnsnet(&a).with(&range).named("first").start();
    let second = lab.rnsnet(&b).with(&range).named("second").start();
    assert_eq!(summary(&first), ["0.0.0.0:8000->80/tcp", "[::]:8000->80/tcp"]);
    assert_eq!(summary(&second), ["0.0.0.0:8001->80/tcp", "[::]:8001->80/tcp"]);
    let refused = lab.rnsnet_ends(&["-p", "8080:80", "-p", "8000-8001:80", &c.pid().to_string()]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("no free port in 8000-8001"), "{refused}");
    assert_eq!(lab.sockets(Place::User, 8080), "", "all or nothing");
}

// C5: ranges of equal length, port by port; a port that is named goes before one that is searched.
#[test]
fn ranges_lead_to_their_own_ports() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let ports = ["-n", "web", "-p", "8000-8020:80", "-p", "8000-8010:9000-9010"];
    let net = lab.rnsnet(&ctr).with(&ports).start();
    assert_eq!(
        summary(&net),
        [
            "0.0.0.0:8011->80/tcp",
            "[::]:8011->80/tcp",
            "0.0.0.0:8000-8010->9000-9010/tcp",
            "[::]:8000-8010->9000-9010/tcp",
        ]
    );
    let told = lab.rn("port web");
    let of_range = |address: &str| told.lines().filter(|line| line.contains(address)).count() - 1;
    assert_eq!((of_range("0.0.0.0:80"), of_range("[::]:80")), (11, 11), "{told}");
    let _who80 = lab.who(Place::In(&ctr), 80);
    let _who9010 = lab.who(Place::In(&ctr), 9010);
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST4, 8011)).ok(), LAN4);
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST6, 8010)).ok(), LAN6);
}

// C6
#[test]
fn exposed_ports_are_published_within_the_range() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab
        .rnsnet(&ctr)
        .with(&["-P", "--expose", "80", "--expose", "53/udp", "-p", "8081:81", "--expose", "81"])
        .with(&["--publish-range", "50000-50009"])
        .start();
    let _who80 = lab.who(Place::In(&ctr), 80);
    let _who53 = lab.who(Place::In(&ctr), 53);
    let ports = [host_port(&net, 2), host_port(&net, 4)];
    // 81 is published already, so nothing else is.
    assert_eq!(summary(&net).len(), 6, "{:?}", summary(&net));
    assert!(ports.iter().all(|port| (50_000..=50_009).contains(port)), "{ports:?}");
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST4, ports[0])).ok(), LAN4);
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST6, ports[0])).ok(), LAN6);
    assert_eq!(lab.py(Place::Lan, &who_udp(HOST4, ports[1])).ok(), LAN4);
    let other = lab.container();
    let net = lab.rnsnet(&other).named("default").with(&["-P", "--expose", "80"]).start();
    assert!((49_000..=49_900).contains(&host_port(&net, 0)));
    assert_eq!(host_port(&net, 0), host_port(&net, 1));
}

// F8
#[test]
fn only_named_clients_are_let_in() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Lan, "ip addr add 192.0.2.77/24 dev l0").ok();
    let ctr = lab.container();
    let from = "from=192.0.2.0/27,from=2001:db8:5::9";
    let net = lab
        .rnsnet(&ctr)
        .with(&["-p", &format!("8080:80,{from}"), "-p", &format!("8080:80/udp,{from}")])
        .start();
    let _who = lab.who(Place::In(&ctr), 80);
    for (host, client) in [(HOST4, LAN4), (HOST6, LAN6)] {
        assert_eq!(lab.py(Place::Lan, &who_tcp(host, 8080)).ok(), client);
        assert_eq!(lab.py(Place::Lan, &who_udp(host, 8080)).ok(), client);
    }
    let stranger = format!(
        "s = socket.socket(); s.settimeout(20); s.bind(('192.0.2.77', 0))\n\
         try: s.connect(('{HOST4}', 8080)); say(ending(s))\n\
         except ConnectionError as e: say(errno.errorcode[e.errno])\n\
         u = udp('192.0.2.77', 0, timeout=0.5); u.sendto(b'?', ('{HOST4}', 8080))\n\
         try: say(u.recv(99))\n\
         except TimeoutError: say('silence')"
    );
    assert_eq!(lab.py(Place::Lan, &stranger).ok(), "ECONNRESET\nsilence");
    // The host itself is no exception.
    let local = "try: say(ending(tcp('127.0.0.1', 8080, 20)))\n\
                 except ConnectionError as e: say(errno.errorcode[e.errno])";
    assert_eq!(lab.py(Place::User, local).ok(), "ECONNRESET");
    eventually(secs(2), "they are counted", || {
        let dump = net.dump();
        if dump.contains("drop.forbidden-client 3") { Ok(()) } else { Err(dump) }
    });
}

// C15
#[test]
fn ports_of_an_interface_follow_its_addresses() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let ports = ["-n", "web", "-p", "h0/8080:80", "-p", "h0/8080:80/udp"];
    let net = lab.rnsnet(&ctr).with(&ports).start();
    let _who = lab.who(Place::In(&ctr), 80);
    for (host, client) in [(HOST4, LAN4), (HOST6, LAN6)] {
        assert_eq!(lab.py(Place::Lan, &who_tcp(host, 8080)).ok(), client);
        assert_eq!(lab.py(Place::Lan, &who_udp(host, 8080)).ok(), client);
    }
    for loopback in ["127.0.0.1", "::1"] {
        assert_eq!(attempt(&lab, Place::User, loopback, 8080), "ECONNREFUSED", "{loopback}");
    }
    // Another address instead of the first, and one more of the other family.
    lab.sh(
        Place::Host,
        "ip addr del 192.0.2.1/24 dev h0; ip addr add 192.0.2.5/24 dev h0
         ip addr add 2001:db8:5::5/64 dev h0 nodad",
    )
    .ok();
    for (host, client) in [("192.0.2.5", LAN4), ("2001:db8:5::5", LAN6), (HOST6, LAN6)] {
        eventually(secs(5), "the new address answers", || {
            let answer = lab.py(Place::Lan, &who_tcp(host, 8080));
            if answer.status.success() { Ok(()) } else { Err(format!("{host}: {answer}")) }
        });
        assert_eq!(lab.py(Place::Lan, &who_tcp(host, 8080)).ok(), client);
        assert_eq!(lab.py(Place::Lan, &who_udp(host, 8080)).ok(), client);
    }
    let bound = lab.sockets(Place::User, 8080);
    assert!(!bound.contains("192.0.2.1:"), "the old one is let go: {bound}");
    assert!(net.log().contains("h0/8080:80/tcp: now at 192.0.2.5\n"), "{}", net.log());
    // An address that is good on the link alone has the interface's name, as whoever uses it writes it.
    eventually(secs(5), "the link-local address is there", || {
        let told = lab.rn("port web 80");
        let scoped = told.lines().find(|line| line.starts_with("[fe80::")).unwrap_or_default();
        if scoped.ends_with("%h0]:8080") { Ok(()) } else { Err(told) }
    });
    let dump = net.dump();
    assert!(dump.contains("%h0]:8080->80/tcp") && !dump.contains("%2"), "{dump}");
}

// C15 and C16: the interface comes, goes and comes again.
#[test]
fn an_interface_that_is_not_there_is_refused_or_waited_for() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let refused = lab.rnsnet_ends(&["-p", "vpn0/8080:80", &ctr.pid().to_string()]);
    assert_eq!(refused.code(), 1, "{refused}");
    let said = "cannot publish vpn0/8080:80/tcp: the host has no interface vpn0";
    assert!(refused.stderr.contains(said), "{refused}");
    let _net = lab.rnsnet(&ctr).with(&["-p", "vpn0/8080:80", "--freebind"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    let comes_and_goes = || {
        lab.sh(
            Place::Host,
            "ip link add vpn0 type veth peer name vpn1; ip addr add 10.99.0.1/24 dev vpn0; ip link set vpn0 up",
        )
        .ok();
        let start = now();
        eventually(secs(5), "the interface's address answers", || {
            match attempt(&lab, Place::User, "10.99.0.1", 8080).as_str() {
                "connected" => Ok(()),
                other => Err(other.to_owned()),
            }
        });
        let came = start.elapsed();
        lab.sh(Place::Host, "ip link del vpn0").ok();
        let start = now();
        eventually(secs(5), "the port is let go", || {
            match lab.sockets(Place::User, 8080).as_str() {
                "" => Ok(()),
                other => Err(other.to_owned()),
            }
        });
        less_than(secs(1), came.max(start.elapsed()))
    };
    for _ in 0..2 {
        one_of_three("it follows its interface within a second", comes_and_goes);
    }
}

// C16
#[test]
fn an_address_that_is_not_there_yet_is_refused_or_waited_for() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let refused = lab.rnsnet_ends(&["-p", "192.0.2.50:8080:80", &pid]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("--freebind waits for it"), "{refused}");
    let _net = lab
        .rnsnet(&ctr)
        .with(&["-p", "192.0.2.50:8080:80", "-p", "[2001:db8:5::50]:8080:80/udp", "--freebind"])
        .start();
    let _who = lab.who(Place::In(&ctr), 80);
    lab.sh(
        Place::Host,
        "ip addr add 192.0.2.50/24 dev h0; ip addr add 2001:db8:5::50/64 dev h0 nodad",
    )
    .ok();
    assert_eq!(lab.py(Place::Lan, &who_tcp("192.0.2.50", 8080)).ok(), LAN4);
    assert_eq!(lab.py(Place::Lan, &who_udp("2001:db8:5::50", 8080)).ok(), LAN6);
}

// C17
#[test]
fn ports_without_an_address_are_bound_where_the_environment_says() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let options = ["-p", "8080:80", "-p", "0.0.0.0:8081:80", "--default-bind", "127.0.0.1,::1"];
    let net = lab.rnsnet(&ctr).with(&options).start();
    assert_eq!(
        summary(&net),
        ["127.0.0.1:8080->80/tcp", "[::1]:8080->80/tcp", "0.0.0.0:8081->80/tcp"]
    );
    assert_eq!(attempt(&lab, Place::Lan, HOST4, 8080), "ECONNREFUSED");
    drop(net);
    let ctr = lab.container();
    let bind = ("RNSNET_DEFAULT_BIND", "127.0.0.1");
    let _net = lab.rnsnet(&ctr).with(&["-n", "web", "-p", "8080:80"]).env(bind.0, bind.1).start();
    let bound = lab.sockets(Place::User, 8080);
    assert!(bound.contains("127.0.0.1:8080") && bound.lines().count() == 1, "{bound}");
    assert_eq!(lab.rn("port web"), "80/tcp -> 127.0.0.1:8080");
    // Also where the run says nothing, or the network is one of several containers.
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-n", "other"]).start();
    let mut publish = lab.rnsnet_command(&["publish", "other", "8081:80"]);
    let told = run(publish.env(bind.0, bind.1), b"", secs(10));
    assert_eq!(told.ok(), "80/tcp -> 127.0.0.1:8081");
    lab.rn("network create n1");
    let ctr = lab.container();
    let options = ["-d", "--network", "n1", "-p", "8082:80", &ctr.pid().to_string()];
    run(lab.rnsnet_command(&options).env(bind.0, bind.1), b"", secs(10)).ok();
    let bound = lab.sockets(Place::User, 8082);
    assert!(bound.contains("127.0.0.1:8082") && bound.lines().count() == 1, "{bound}");
}

/// Starts rnsnet as systemd does: sockets from descriptor 3 on, the variables, then exec. `enter`
/// is what comes before the program.
fn activated(enter: &[&str], sockets: &str, args: &[&str]) -> String {
    let program = binary().to_string_lossy().into_owned();
    let argv = [enter, &[program.as_str()], args].concat();
    format!(
        "
{sockets}
# Out of the way of the numbers that they are to have, then there.
for number, s in enumerate(given):
    os.dup2(s.fileno(), 100 + number)
for number in range(len(given)):
    os.dup2(100 + number, 3 + number)
os.closerange(3 + len(given), 200)
os.environ.update(LISTEN_FDS=str(len(given)), LISTEN_PID=str(os.getpid()))
os.execvp({argv:?}[0], {argv:?})
"
    )
}

// C18: low ports that root has bound, TCP for both families and UDP for both on one socket.
#[test]
fn sockets_are_taken_from_who_starts_it() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let sockets = "
def dual(kind):
    s = socket.socket(socket.AF_INET6, kind)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(('::', 80))
    return s
stream, datagrams = dual(socket.SOCK_STREAM), dual(socket.SOCK_DGRAM)
stream.listen(16)
given = [stream, datagrams]
";
    // Bound by the host's root, which rnsnet's user is not.
    let user = lab.user_pid().to_string();
    let enter = ["nsenter", "-t", &user, "-U", "--preserve-credentials", "--"];
    let args = ["-p", "fd:3:80", "-p", "fd:4:80,from=::/0,from=0.0.0.0/0", &pid];
    let mut net = lab.spawn_py(Place::Host, &activated(&enter, sockets, &args));
    let _who = lab.who(Place::In(&ctr), 80);
    for (host, client) in [(HOST4, LAN4), (HOST6, LAN6)] {
        eventually(secs(5), "the handed-in port answers", || {
            assert!(net.ended().is_none(), "rnsnet ended");
            let answer = lab.py(Place::Lan, &who_tcp(host, 80));
            if answer.status.success() { Ok(()) } else { Err(answer.to_string()) }
        });
        assert_eq!(lab.py(Place::Lan, &who_tcp(host, 80)).ok(), client);
        assert_eq!(lab.py(Place::Lan, &who_udp(host, 80)).ok(), client);
    }
    let limit = lab.sh(Place::Host, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    assert_eq!(limit.ok(), "1024");
}

// C18: a descriptor that is something else is refused by what it is.
#[test]
fn a_wrong_descriptor_is_refused_by_name() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let refusal = |sockets: &str, spec: &str| {
        let ran =
            lab.py(Place::User, &activated(&[], sockets, &["-p", "8080:80", "-p", spec, &pid]));
        assert_eq!(ran.code(), 1, "{ran}");
        assert_eq!(lab.sockets(Place::User, 8080), "", "all or nothing");
        ran.stderr
    };
    let table = [
        (
            "given = [socket.socketpair()[0]]",
            "fd:3:80",
            "cannot use descriptor 3: it is a UNIX socket, not a TCP or UDP socket",
        ),
        ("given = [open('/dev/null')]", "fd:3:80", "it is no socket, not a TCP or UDP socket"),
        ("given = [socket.socket()]", "fd:3:80", "it is a TCP socket that does not listen"),
        ("given = [udp('127.0.0.1', 5353)]", "fd:3:80/tcp", "descriptor 3 is a udp socket"),
        (
            "given = [udp('127.0.0.1', 5353)]",
            "fd:4:80",
            "cannot use descriptor 4: LISTEN_FDS says that there are 3 to 3",
        ),
    ];
    for (sockets, spec, expected) in table {
        let said = refusal(sockets, spec);
        assert!(said.contains(expected), "{sockets} {spec}: {said}");
    }
    let program = binary().to_string_lossy().into_owned();
    let script = "LISTEN_PID=1 LISTEN_FDS=1 exec \"$@\" 3</dev/null";
    let ran = lab.run(Place::User, &["sh", "-c", script, "sh", &program, "-p", "fd:3:80", &pid]);
    assert!(ran.stderr.contains("LISTEN_PID says that it is for process 1"), "{ran}");
}

// C19
#[test]
fn two_thousand_ports_are_cheap() {
    const RANGE: &[&str] = &["-p", "20000-21999:20000-21999"];
    let Some(lab) = Lab::alone() else { return };
    one_of_three("it is ready soon, in a debug build and the test's poll included", || {
        let ctr = lab.container();
        let start = now();
        let net = lab.rnsnet(&ctr).with(RANGE).without_pcap().start();
        let took = start.elapsed();
        drop(net);
        less_than(millis(1000), took)
    });
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(RANGE).without_pcap().start();
    // What is promised, without what the machine does beside it.
    assert!(net.used() < millis(300), "{:?}", net.used());
    // The pages of a debug build's code are most of it.
    let pss = lab.memory(net.pid(), "Pss");
    assert!(pss < 12_000, "{pss} KiB");
    let _who = lab.who(Place::In(&ctr), 21999);
    assert_eq!(
        summary(&net),
        ["0.0.0.0:20000-21999->20000-21999/tcp", "[::]:20000-21999->20000-21999/tcp"]
    );
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST4, 21999)).ok(), LAN4);
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST6, 21999)).ok(), LAN6);
}

// C19: too few descriptors are told of before any port is bound.
#[test]
fn more_ports_than_descriptors_are_refused_with_the_limit() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let script = "ulimit -n 1024; exec \"$@\"";
    let (program, pid) = (binary().to_string_lossy().into_owned(), ctr.pid().to_string());
    let argv = ["sh", "-c", script, "sh", &program, "-p", "20000-21999:20000-21999", &pid];
    let refused = lab.run(Place::User, &argv);
    assert_eq!(refused.code(), 1, "{refused}");
    let said =
        "the limit of 1024 open files is too low: 2000 published ports and all else take 4064";
    assert!(refused.stderr.contains(said), "{refused}");
}

// C14: the client is the host, as which the container reaches it.
#[test]
fn the_container_reaches_its_own_published_ports() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80", "-p", "8080:80/udp"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    for host in [HOST4, HOST6] {
        assert_eq!(lab.py(Place::In(&ctr), &who_tcp(host, 8080)).ok(), host);
        assert_eq!(lab.py(Place::In(&ctr), &who_udp(host, 8080)).ok(), host);
    }
    let _web = lab.web_server(Place::In(&ctr), 8000, "own page");
    let other = lab.container();
    let _second = lab.rnsnet(&other).named("second").with(&["-p", "8081:8000"]).start();
    let _page = lab.web_server(Place::In(&other), 8000, "other page");
    let curl = ["curl", "-sS", "-m20", "http://192.0.2.1:8081/"];
    assert_eq!(lab.run(Place::In(&ctr), &curl).ok(), "other page");
    assert_eq!(lab.run(Place::In(&other), &curl).ok(), "other page");
}
