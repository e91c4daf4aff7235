//! Between the container's loopback and the host's, in the place of pasta and natively. Rows C20 L5.

use std::fs;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::Ran;
use crate::lab::{Container, HOST4, LAN4, Lab, Place};

/// What every line of these tests has, but for ports.
const QUIET: &[&str] = &["--config-net", "-q", "--no-map-gw"];

/// Answers "HOST PORT CLIENT" by TCP and UDP at addresses of one port.
fn answering(host: &str, port: u16) -> String {
    format!(
        "u = udp('{host}', {port}, timeout=None); l = listen({port}, '{host}')
def answer():
    while True:
        data, peer = u.recvfrom(65535); u.sendto(f'{host} {port} {{peer[0]}}'.encode(), peer)
threading.Thread(target=answer, daemon=True).start(); say('ready')
while True:
    s, peer = l.accept(); s.sendall(f'{host} {port} {{peer[0]}}'.encode()); s.close()"
    )
}

impl Lab {
    #[track_caller]
    fn joined(&self, container: &Container, options: &[&str]) {
        let netns = format!("/proc/{}/ns/net", container.pid());
        self.pasta(&[QUIET, options, &["--netns", &netns]].concat()).ok();
    }

    /// What is answered by TCP, or the error's name.
    fn ask_tcp(&self, place: Place<'_>, host: &str, port: u16) -> Ran {
        let program = format!(
            "try: say(read_all(tcp('{host}', {port})).decode())
except OSError as e: say(errno.errorcode.get(e.errno, 'timeout'))"
        );
        self.py(place, &program)
    }

    /// The same by UDP, asked again where nobody answers: the first datagram to a service of the
    /// other family is lost.
    fn ask_udp(&self, place: Place<'_>, host: &str, port: u16) -> Ran {
        let program = format!(
            "s = udp(v6=':' in '{host}', timeout=2); s.connect(('{host}', {port}))
for _ in range(5):
    try: s.send(b'?'); say(s.recv(99).decode()); break
    except TimeoutError: continue
    except OSError as e: say(errno.errorcode[e.errno]); break"
        );
        self.py(place, &program)
    }

    #[track_caller]
    fn wait_for_sockets(&self, place: Place<'_>, port: u16, count: usize) {
        eventually(secs(10), &format!("{count} sockets of port {port}"), || {
            let sockets = self.sockets(place, port);
            let found = sockets.matches(&format!(":{port} ")).count();
            if found == count { Ok(()) } else { Err(sockets) }
        });
    }
}

// L5: -T auto, as `podman run --network pasta:-T,auto` has it.
#[test]
fn ports_of_the_loopback_follow_what_the_host_listens_on() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let _early = lab.serve(Place::Host, &answering("127.0.0.1", 631));
    // Of another address, so of no use at the loopback.
    let _elsewhere = lab.serve(Place::Host, &answering(HOST4, 5434));
    let _excluded = lab.serve(Place::Host, &answering("127.0.0.1", 5435));
    lab.joined(&ctr, &["-t", "8080:80", "-u", "none", "-T", "auto,~5435", "-U", "all"]);
    let inside = Place::In(&ctr);
    // A port below 1024 too; of IPv6's loopback as well.
    lab.wait_for_sockets(inside, 631, 4);
    for address in ["127.0.0.1", "::1"] {
        assert_eq!(lab.ask_tcp(inside, address, 631).ok(), "127.0.0.1 631 127.0.0.1");
        assert_eq!(lab.ask_udp(inside, address, 631).ok(), "127.0.0.1 631 127.0.0.1");
    }
    let late = lab.serve(Place::Host, &answering("::", 5432));
    lab.wait_for_sockets(inside, 5432, 4);
    assert_eq!(lab.ask_tcp(inside, "127.0.0.1", 5432).ok(), ":: 5432 ::ffff:127.0.0.1");
    drop(late);
    lab.wait_for_sockets(inside, 5432, 0);
    // By then the others have been seen as well, by which there are no ports: one that leads into
    // the container, one of an address of the host's, one that is excluded for TCP.
    assert_eq!(lab.sockets(inside, 8080), "");
    assert_eq!(lab.sockets(inside, 5434), "");
    lab.wait_for_sockets(inside, 5435, 2);
    assert_eq!(lab.ask_tcp(inside, "127.0.0.1", 5435).ok(), "ECONNREFUSED");
    // Only the loopback leads there.
    assert_eq!(lab.ask_tcp(inside, HOST4, 631).ok(), "ECONNREFUSED");
}

// L5: what follows in both directions leads nowhere in a circle.
#[test]
fn ports_that_follow_both_ways_do_not_lead_back() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    lab.joined(&ctr, &["-t", "auto", "-u", "auto", "-T", "auto", "-U", "auto"]);
    let inside = lab.serve(Place::In(&ctr), &answering("0.0.0.0", 8080));
    let outside = lab.serve(Place::Host, &answering("127.0.0.1", 5432));
    lab.wait_for_sockets(Place::Host, 8080, 4);
    lab.wait_for_sockets(Place::In(&ctr), 5432, 4);
    assert_eq!(lab.ask_tcp(Place::Host, "127.0.0.1", 8080).ok().split(' ').next(), Some("0.0.0.0"));
    assert_eq!(lab.ask_tcp(Place::In(&ctr), "127.0.0.1", 5432).ok(), "127.0.0.1 5432 127.0.0.1");
    // The same ports are not there a second time, and end with who listened first.
    lab.wait_for_sockets(Place::In(&ctr), 8080, 2);
    lab.wait_for_sockets(Place::Host, 5432, 2);
    drop((inside, outside));
    for port in [8080, 5432] {
        lab.wait_for_sockets(Place::Host, port, 0);
        lab.wait_for_sockets(Place::In(&ctr), port, 0);
    }
}

// L5: the container's own loopback is reached where that is said, and by the host alone.
#[test]
fn a_service_on_the_containers_loopback_is_reached_where_that_is_said() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ports = ["-t", "8080:80", "-u", "8080:80"];
    let ctr = lab.container();
    lab.joined(&ctr, &[&ports[..], &["--host-lo-to-ns-lo"]].concat());
    let service = lab.serve(Place::In(&ctr), &answering("127.0.0.1", 80));
    for address in ["127.0.0.1", "::1"] {
        assert_eq!(lab.ask_tcp(Place::User, address, 8080).ok(), "127.0.0.1 80 127.0.0.1");
        assert_eq!(lab.ask_udp(Place::User, address, 8080).ok(), "127.0.0.1 80 127.0.0.1");
    }
    // Answered from the address that was asked.
    assert_eq!(lab.ask_udp(Place::User, "127.0.0.9", 8080).ok(), "127.0.0.1 80 127.0.0.1");
    // Others are led to the container's address, where nobody is.
    assert_eq!(lab.ask_tcp(Place::Lan, HOST4, 8080).ok(), "ECONNRESET");
    assert_eq!(lab.ask_tcp(Place::User, HOST4, 8080).ok(), "ECONNRESET");
    drop(service);
    assert_eq!(lab.ask_tcp(Place::User, "127.0.0.1", 8080).ok(), "ECONNRESET");
    let _service = lab.serve(Place::In(&ctr), &answering("0.0.0.0", 80));
    assert!(lab.ask_tcp(Place::Lan, HOST4, 8080).ok().starts_with("0.0.0.0 80 192.0.2.9"));
    drop(ctr);
    lab.wait_for_sockets(Place::Host, 8080, 0);
    let ctr = lab.container();
    lab.joined(&ctr, &ports);
    let _service = lab.serve(Place::In(&ctr), &answering("127.0.0.1", 80));
    assert_eq!(lab.ask_tcp(Place::User, "127.0.0.1", 8080).ok(), "ECONNRESET");
}

// C20: natively too, for ports that come later, and for whoever takes over; for those who are let in.
#[test]
fn a_published_port_leads_from_loopback_to_loopback_where_that_is_said() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let ports = ["-p", "8080:80", "-p", "8080:80/udp", "-p", "8081:80,from=192.0.2.0/24"];
    let options = ["-n", "web", "--publish-loopback", "--dns-listen", "127.0.0.11"];
    let mut net = lab.rnsnet(&ctr).with(&ports).with(&options).start();
    let _service = lab.serve(Place::In(&ctr), &answering("127.0.0.1", 80));
    lab.rn("publish web 8082:80");
    let inside = "127.0.0.1 80 127.0.0.1";
    for _ in 0..2 {
        for address in ["127.0.0.1", "::1"] {
            assert_eq!(lab.ask_tcp(Place::User, address, 8080).ok(), inside);
            assert_eq!(lab.ask_udp(Place::User, address, 8080).ok(), inside);
            assert_eq!(lab.ask_tcp(Place::User, address, 8082).ok(), inside);
            assert_eq!(lab.ask_tcp(Place::User, address, 8081).ok(), "ECONNRESET");
        }
        // Others are led to the container's address, where nobody is.
        assert_eq!(lab.ask_tcp(Place::Lan, HOST4, 8080).ok(), "ECONNRESET");
        // Programs of the container on its own loopback are no such clients.
        for transport in ["+notcp", "+tcp"] {
            let dig = format!("dig +short +tries=1 +time=10 {transport} @127.0.0.11 a.test");
            assert_eq!(lab.sh(Place::In(&ctr), &dig).ok(), LAN4, "{transport}");
        }
        net.signal(Signal::SIGKILL);
        let again = lab.reattach(&["web"]).start();
        assert!(!net.ends().success());
        net = again;
    }
}

// L5: and found by what follows it.
#[test]
fn ports_follow_the_containers_loopback_where_that_is_said() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let both = ["-t", "auto", "-u", "auto", "-T", "auto", "-U", "auto", "--host-lo-to-ns-lo"];
    lab.joined(&ctr, &both);
    let service = lab.serve(Place::In(&ctr), &answering("127.0.0.1", 8080));
    let outside = lab.serve(Place::Host, &answering("127.0.0.1", 5432));
    lab.wait_for_sockets(Place::Host, 8080, 4);
    assert_eq!(lab.ask_tcp(Place::User, "127.0.0.1", 8080).ok(), "127.0.0.1 8080 127.0.0.1");
    assert_eq!(lab.ask_udp(Place::User, "127.0.0.1", 8080).ok(), "127.0.0.1 8080 127.0.0.1");
    // What we listen on ourselves there is nobody's service.
    lab.wait_for_sockets(Place::In(&ctr), 5432, 4);
    drop((service, outside));
    lab.wait_for_sockets(Place::Host, 8080, 0);
    lab.wait_for_sockets(Place::In(&ctr), 5432, 0);
    assert_eq!(lab.sockets(Place::Host, 5432), "");
}

// L5 H: who makes sockets inside has no other right there, and ends with its network.
#[test]
fn what_makes_sockets_in_the_container_can_do_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let file = lab.dir().join("pid");
    lab.joined(&ctr, &["-t", "none", "-u", "none", "-T", "auto", "-P", &file.to_string_lossy()]);
    let pid = fs::read_to_string(&file).expect("the pid file").trim().to_owned();
    let children = lab.sh(Place::Host, &format!("pgrep -P {pid}"));
    let maker = children.ok().to_owned();
    assert_eq!(maker.lines().count(), 1, "{children}");
    let status = fs::read_to_string(format!("/proc/{maker}/status")).expect("its status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    // CAP_NET_BIND_SERVICE alone.
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(set).trim_start_matches('0'), if set == "CapBnd:" { "" } else { "400" });
    }
    assert_eq!((field("CapAmb:"), field("NoNewPrivs:")), ("0".repeat(16), "1".to_owned()));
    assert_eq!((field("Seccomp:"), field("Threads:")), ("2".to_owned(), "1".to_owned()));
    lab.sh(Place::Host, &format!("kill -9 {pid}")).ok();
    eventually(secs(10), "it ends with its parent", || {
        match fs::read_to_string(format!("/proc/{maker}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => Err(stat),
            _ => Ok(()),
        }
    });
}

// L5: without it the network goes on.
#[test]
fn a_network_outlives_what_makes_its_sockets() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let (file, log) = (lab.dir().join("pid"), lab.dir().join("log"));
    let (file, log) = (file.to_string_lossy(), log.to_string_lossy());
    let ports = ["-t", "8080:80", "-u", "none", "-T", "auto", "--host-lo-to-ns-lo"];
    lab.joined(&ctr, &[&ports[..], &["-P", &file, "-l", &log]].concat());
    let _service = lab.serve(Place::In(&ctr), &answering("0.0.0.0", 80));
    assert_eq!(lab.ask_tcp(Place::User, "127.0.0.1", 8080).ok(), "0.0.0.0 80 127.0.0.1");
    lab.sh(Place::Host, &format!("kill -9 $(pgrep -P $(cat {file}))")).ok();
    eventually(secs(10), "a client is told", || {
        let asked = lab.ask_tcp(Place::User, "127.0.0.1", 8080);
        if asked.ok() == "ECONNRESET" { Ok(()) } else { Err(asked.to_string()) }
    });
    let seen = lab.ask_tcp(Place::Lan, HOST4, 8080);
    assert!(seen.ok().starts_with("0.0.0.0 80 192.0.2.9"), "{seen}");
    // Told once, not to each client.
    assert_eq!(lab.ask_tcp(Place::User, "127.0.0.1", 8080).ok(), "ECONNRESET");
    let told = fs::read_to_string(&*log).expect("the log");
    let line = "the process that makes sockets in the container does not answer";
    assert_eq!(told.matches(line).count(), 1, "{told}");
}

// K4: clients who had to wait are served once those of the loopback have given descriptors back.
#[test]
fn clients_wait_no_longer_than_those_of_the_loopback_stay() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let options = ["-p", "8080:80", "--publish-loopback"];
    let net = lab.rnsnet(&ctr).descriptors(96).with(&options).start();
    let _service = lab.serve(Place::In(&ctr), "echo_tcp(80)");
    let hold = |host: &str, wanted: usize| {
        format!(
            "
held = []
while len(held) < {wanted}:
    try:
        s = tcp('{host}', 8080, 10); s.sendall(b'x'); assert s.recv(1) == b'x'; held.append(s)
    except OSError: break
say(len(held)); sys.stdin.readline()
"
        )
    };
    let mut inside = lab.spawn_py(Place::User, &hold("127.0.0.1", 99));
    let held: usize = inside.line(secs(20)).parse().expect("a number");
    assert!((20..48).contains(&held), "{held} pairs of 96 descriptors");
    // The first is the last that there is a descriptor for.
    let mut first = lab.spawn_py(Place::Lan, &hold(HOST4, 1));
    assert_eq!(first.line(secs(10)), "1");
    let mut waits = lab.spawn_py(
        Place::Lan,
        &format!("s = tcp('{HOST4}', 8080, 90); s.sendall(b'y'); say('there'); say(s.recv(1))"),
    );
    assert_eq!(waits.line(secs(10)), "there");
    net.rests("somebody waits");
    drop(first);
    drop(inside);
    assert_eq!(waits.line(secs(10)), "b'y'");
}

// L5 L10: the last descriptors are for DNS and control, whatever the loopback's clients take.
#[test]
fn clients_of_the_loopback_wait_where_descriptors_are_few() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    lab.default_route();
    let _service = lab.serve(
        Place::Host,
        "l = listen(5432, '127.0.0.1', 512); say('ready'); held = []
while True: held.append(l.accept()[0]); held[-1].sendall(b'x')",
    );
    let ctr = lab.container();
    let netns = format!("/proc/{}/ns/net", ctr.pid());
    let ports = ["-t", "none", "-u", "none", "-T", "5432", "--dns-forward", "169.254.1.1"];
    lab.pasta_limited(96, &[QUIET, &ports, &["--netns", &netns]].concat()).ok();
    // Each takes two descriptors.
    let mut clients = lab.spawn_py(
        Place::In(&ctr),
        "held = [tcp('127.0.0.1', 5432) for _ in range(100)]
for s in held: s.setblocking(False)
def served():
    count = 0
    for s in held:
        try: count += s.recv(9, socket.MSG_PEEK) == b'x'
        except BlockingIOError: pass
    return count
for line in sys.stdin:
    if line == 'end\\n':
        for s in held: s.close()
    else: say(served())",
    );
    let mut served = 0;
    eventually(secs(10), "some are served, and no more", || {
        clients.tell("served");
        let now: usize = clients.line(secs(10)).parse().expect("a number");
        let before = std::mem::replace(&mut served, now);
        if now > 10 && now == before { Ok(()) } else { Err(format!("{before} {now}")) }
    });
    assert!(served < 48, "{served} pairs of 96 descriptors");
    let dig = "dig +short +tries=1 +time=15 @169.254.1.1 a.test";
    assert_eq!(lab.sh(Place::In(&ctr), dig).ok(), LAN4);
    clients.tell("end");
    eventually(secs(10), "the next client is served", || {
        let asked = lab.py(Place::In(&ctr), "say(tcp('127.0.0.1', 5432, 20).recv(1))");
        if asked.stdout.contains("b'x'") { Ok(()) } else { Err(asked.to_string()) }
    });
}
