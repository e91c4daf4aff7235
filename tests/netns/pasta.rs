//! In the place of pasta: the host's addresses in the container. Rows L5 C10.

use std::fs;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::{DEFAULT_DEADLINE, Ran, run, signal_pid};
use crate::lab::{Container, HOST4, HOST6, LAN4, LAN6, Lab, Place};
use crate::rnsnet::binary;
use crate::world::second_link;

/// What Podman says besides ports.
const PODMAN: &[&str] = &[
    "--config-net",
    "--dns-forward",
    "169.254.1.1",
    "-T",
    "none",
    "-U",
    "none",
    "--no-map-gw",
    "--quiet",
    "--map-guest-addr",
    "169.254.1.2",
];
const NO_PORTS: &[&str] = &["-t", "none", "-u", "none"];
const MAPPED: &str = "169.254.1.2";

impl Lab {
    /// `pasta ARGS`, to its end: in the background it has begun to serve then.
    #[track_caller]
    pub(crate) fn pasta(&self, args: &[&str]) -> Ran {
        self.pasta_by(&[], args)
    }

    /// The same with a limit of open files.
    #[track_caller]
    pub(crate) fn pasta_limited(&self, limit: u32, args: &[&str]) -> Ran {
        self.pasta_by(&["prlimit", &format!("--nofile={limit}:{limit}")], args)
    }

    #[track_caller]
    fn pasta_by(&self, by: &[&str], args: &[&str]) -> Ran {
        let link = self.dir().join("pasta");
        if !link.exists() {
            std::os::unix::fs::symlink(binary(), &link).expect("the folder is ours");
        }
        let link = link.to_string_lossy().into_owned();
        let argv = [by, &[link.as_str()], args].concat();
        run(&mut self.cmd(Place::User, &argv), b"", DEFAULT_DEADLINE)
    }

    /// The same for a container, as Podman calls it; nothing may be said.
    #[track_caller]
    fn as_podman(&self, container: &Container, ports: &[&str]) {
        let netns = format!("/proc/{}/ns/net", container.pid());
        let done = self.pasta(&[PODMAN, ports, &["--netns", &netns]].concat());
        assert_eq!(done.ok(), "", "{done}");
        assert_eq!(done.stderr, "", "{done}");
    }

    /// A router for the host, as most hosts have one.
    pub(crate) fn default_route(&self) {
        self.sh(
            Place::Host,
            &format!("ip route add default via {LAN4}; ip route add default via {LAN6} dev h0"),
        )
        .ok();
    }

    /// Whom a `who` service at an address has seen.
    #[track_caller]
    pub(crate) fn who_at(&self, place: Place<'_>, host: &str, port: u16) -> String {
        let program = format!("say(read_all(tcp('{host}', {port})).decode().split()[0])");
        self.py(place, &program).ok().to_owned()
    }

    #[track_caller]
    pub(crate) fn who_at_udp(&self, place: Place<'_>, host: &str, port: u16) -> String {
        let program = format!(
            "s = udp(v6=':' in '{host}'); s.connect(('{host}', {port})); s.send(b'?')\n\
             say(s.recv(99).decode().split()[0])"
        );
        self.py(place, &program).ok().to_owned()
    }
}

// L5
#[test]
fn the_container_has_the_hosts_addresses_and_routes() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    lab.sh(
        Place::Host,
        "ip addr add 192.0.2.3/24 dev h0; ip route add 203.0.113.0/24 via 192.0.2.7",
    )
    .ok();
    let ctr = lab.container();
    lab.as_podman(&ctr, NO_PORTS);
    let addresses = lab.run(Place::In(&ctr), &["ip", "-br", "addr", "show", "h0"]);
    for part in ["192.0.2.1/24", "192.0.2.3/24", "2001:db8:5::1/64"] {
        assert!(addresses.ok().contains(part), "no {part}: {addresses}");
    }
    let routes = lab.sh(Place::In(&ctr), "ip route; ip -6 route");
    for part in [
        "default via 192.0.2.9 dev h0",
        "203.0.113.0/24 via 192.0.2.7 dev h0",
        "default via 2001:db8:5::9 dev h0",
    ] {
        assert!(routes.ok().contains(part), "no {part}: {routes}");
    }
}

// L5: the link has just come up, and whether another has its address is not known yet.
#[test]
fn an_address_that_is_being_tested_is_copied() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    lab.sh(
        Place::Host,
        "echo 1000 > /proc/sys/net/ipv6/conf/h0/dad_transmits
         ip addr add 2001:db8:5::77/64 dev h0",
    )
    .ok();
    let ctr = lab.container();
    lab.as_podman(&ctr, NO_PORTS);
    let tested = lab.sh(Place::Host, "ip -6 addr show dev h0 tentative").ok().to_owned();
    assert!(tested.contains("2001:db8:5::77"), "{tested}");
    let addresses = lab.run(Place::In(&ctr), &["ip", "-br", "addr", "show", "h0"]);
    assert!(addresses.ok().contains("2001:db8:5::77/64"), "{addresses}");
}

// L5: the subnet is the LAN.
#[test]
fn neighbours_on_the_lan_are_reached_and_see_the_host() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    lab.allow_ping();
    let ctr = lab.container();
    lab.as_podman(&ctr, NO_PORTS);
    let _who = lab.who(Place::Lan, 80);
    for (address, seen) in [(LAN4, HOST4), (LAN6, HOST6)] {
        assert_eq!(lab.who_at(Place::In(&ctr), address, 80), seen);
        assert_eq!(lab.who_at_udp(Place::In(&ctr), address, 80), seen);
        lab.run(Place::In(&ctr), &["ping", "-c1", "-W20", address]).ok();
    }
    // Nobody there: the host says so, not we.
    let dead = lab.py(Place::In(&ctr), "say(attempt('192.0.2.77', 80))");
    assert!(dead.ok().contains("EHOSTUNREACH"), "{dead}");
}

// L5 D1
#[test]
fn names_resolve_at_the_address_that_was_named() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    lab.default_route();
    let ctr = lab.container();
    lab.as_podman(&ctr, NO_PORTS);
    for transport in ["+notcp", "+tcp"] {
        let dig = format!("dig +short +tries=1 +time=15 {transport} @169.254.1.1 a.test");
        assert_eq!(lab.sh(Place::In(&ctr), &dig).ok(), LAN4);
    }
}

// L5: one resolver is asked, not the host's.
#[test]
fn dns_host_is_asked_instead_of_the_hosts_resolvers() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server("127.0.0.53");
    lab.set_resolv_conf("nameserver 192.0.2.77\n");
    lab.default_route();
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let dns = ["--dns-forward", "169.254.1.1", "--dns-host", "127.0.0.53"];
    lab.pasta(&[&["--config-net", "-q"], NO_PORTS, &dns, &[&pid]].concat()).ok();
    let dig = "dig +short +tries=1 +time=15 @169.254.1.1 a.test";
    assert_eq!(lab.sh(Place::In(&ctr), dig).ok(), LAN4);
}

// L5: the host's own address is the container's too; another stands for it.
#[test]
fn the_host_is_reached_at_its_mapped_address_and_its_loopback_is_not() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    lab.as_podman(&ctr, NO_PORTS);
    let _who = lab.who(Place::Host, 80);
    assert_eq!(lab.who_at(Place::In(&ctr), MAPPED, 80), HOST4);
    assert_eq!(lab.who_at_udp(Place::In(&ctr), MAPPED, 80), HOST4);
    let _private =
        lab.serve(Place::Host, "l = listen(81, '127.0.0.1'); say('ready')\nwhile True: l.accept()");
    for address in [MAPPED, "127.0.0.1", "192.0.2.1", LAN4] {
        let attempt = lab.py(Place::In(&ctr), &format!("say(attempt('{address}', 81, 20))"));
        assert!(!attempt.ok().starts_with("connected"), "{address}: {attempt}");
    }
}

// L5
#[test]
fn the_router_is_the_hosts_loopback_unless_told() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let _private = lab.serve(
        Place::Host,
        "l = listen(81, '127.0.0.1'); say('ready')\n\
         while True: s, _ = l.accept(); s.sendall(b'private'); s.close()",
    );
    let fetch = |options: &[&str], address: &str| {
        let ctr = lab.container();
        let pid = ctr.pid().to_string();
        lab.pasta(&[&["--config-net", "-q"], NO_PORTS, options, &[&pid]].concat()).ok();
        let program = format!("say(read_all(tcp('{address}', 81, 20)).decode())");
        lab.py(Place::In(&ctr), &program)
    };
    assert_eq!(fetch(&[], LAN4).ok(), "private");
    assert_eq!(fetch(&["--map-host-loopback", "192.0.2.77"], "192.0.2.77").ok(), "private");
    assert_ne!(fetch(&["--no-map-gw"], LAN4).code(), 0);
    assert_ne!(fetch(&["--map-host-loopback", "192.0.2.77"], LAN4).code(), 0);
}

// L5 C10 C11
#[test]
fn clients_of_published_ports_are_seen_as_they_are_or_as_what_stands_for_them() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    lab.as_podman(&ctr, &["-t", "8080-8080:80-80", "-u", "8080-8080:80-80"]);
    let _who = lab.who(Place::In(&ctr), 80);
    for (place, address, seen) in [
        (Place::Lan, HOST4, LAN4),
        (Place::Lan, HOST6, LAN6),
        // The host's own address and loopback cannot be told from the container's own.
        (Place::User, HOST4, MAPPED),
        (Place::User, "127.0.0.1", LAN4),
        (Place::User, "::1", LAN6),
    ] {
        assert_eq!(lab.who_at(place, address, 8080), seen, "tcp {address}");
        assert_eq!(lab.who_at_udp(place, address, 8080), seen, "udp {address}");
    }
}

// L5
#[test]
fn ports_follow_what_the_container_listens_on() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    lab.as_podman(&ctr, &["-t", "auto,~8081", "-u", "auto"]);
    assert_eq!(lab.sockets(Place::Host, 8080), "");
    let who = lab.who(Place::In(&ctr), 8080);
    let _excluded = lab.who(Place::In(&ctr), 8081);
    eventually(secs(5), "the host listens on 8080", || {
        let sockets = lab.sockets(Place::Host, 8080);
        if sockets.matches(":8080").count() == 4 { Ok(()) } else { Err(sockets) }
    });
    assert_eq!(lab.who_at(Place::Lan, HOST4, 8080), LAN4);
    assert_eq!(lab.who_at(Place::Lan, HOST6, 8080), LAN6);
    assert_eq!(lab.who_at_udp(Place::Lan, HOST4, 8080), LAN4);
    eventually(secs(5), "the host listens on 8081 by UDP alone", || {
        let sockets = lab.sockets(Place::Host, 8081);
        if sockets.matches(":8081").count() == 2 { Ok(()) } else { Err(sockets) }
    });
    drop(who);
    eventually(secs(5), "the port is given back", || {
        let sockets = lab.sockets(Place::Host, 8080);
        if sockets.is_empty() { Ok(()) } else { Err(sockets) }
    });
}

/// A second uplink, with the LAN's hosts behind it as well.
fn second_uplink(lab: &Lab) {
    second_link(lab);
    let hosts = "ip addr add 203.0.113.9/32 dev lo; ip addr add 2001:db8:7::9/128 dev lo";
    lab.sh(Place::Lan, hosts).ok();
}

// L5 C8
#[test]
fn ports_of_an_interface_are_at_its_addresses_alone() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    second_uplink(&lab);
    let ctr = lab.container();
    lab.as_podman(&ctr, &["-t", "%h1/8080:80", "-u", "%h1/8080:80"]);
    let _who = lab.who(Place::In(&ctr), 80);
    assert_eq!(lab.who_at(Place::Lan, "198.51.100.1", 8080), "198.51.100.9");
    assert_eq!(lab.who_at_udp(Place::Lan, "2001:db8:6::1", 8080), "2001:db8:6::9");
    let other = lab.py(Place::Lan, &format!("say(attempt('{HOST4}', 8080, 20))"));
    assert!(other.ok().contains("ECONNREFUSED"), "{other}");
    lab.sh(Place::Host, "ip addr add 198.51.100.3/24 dev h1").ok();
    eventually(secs(5), "the port is at the new address too", || {
        let sockets = lab.sockets(Place::Host, 8080);
        if sockets.contains("198.51.100.3:8080") { Ok(()) } else { Err(sockets) }
    });
}

// L5 C8: an address of an interface, for what comes in there.
#[test]
fn ports_of_an_address_and_an_interface_are_for_what_comes_in_there() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    second_uplink(&lab);
    let ctr = lab.container();
    let bound = ["-t", "198.51.100.1%h1/8080:80,8081:80", "-t", "198.51.100.1/8082:80"];
    let file = lab.dir().join("pasta.pid");
    let udp = ["-u", "[2001:db8:6::1%h1]/8080:80", "-P", &file.to_string_lossy()];
    lab.as_podman(&ctr, &[&bound[..], &udp].concat());
    let _who = lab.who(Place::In(&ctr), 80);
    assert_eq!(lab.who_at(Place::Lan, "198.51.100.1", 8080), "198.51.100.9");
    assert_eq!(lab.who_at(Place::Lan, "198.51.100.1", 8081), "198.51.100.9");
    assert_eq!(lab.who_at_udp(Place::Lan, "2001:db8:6::1", 8080), "2001:db8:6::9");
    // The same address by another interface.
    lab.sh(Place::Lan, "ip route add 198.51.100.1/32 via 192.0.2.1 dev l0").ok();
    let there = |port: u16| lab.py(Place::Lan, &format!("say(attempt('198.51.100.1', {port}))"));
    assert!(there(8080).ok().contains("ECONNREFUSED"));
    assert!(there(8082).ok().contains("connected"));
    // It goes with its interface, and comes back with it.
    let is_there = |there: bool| {
        eventually(secs(10), "the port follows its interface", || {
            let sockets = lab.sockets(Place::Host, 8081);
            if sockets.contains("%h1:8081") == there { Ok(()) } else { Err(sockets) }
        });
    };
    is_there(true);
    lab.sh(Place::Host, "ip link del h1").ok();
    is_there(false);
    let again = format!(
        "ip link add h1 type veth peer name l1 netns {}; ip addr add 198.51.100.1/24 dev h1
         ip link set h1 up",
        lab.lan_pid()
    );
    lab.sh(Place::Host, &again).ok();
    let route = "ip route del 198.51.100.1/32; ip addr add 198.51.100.9/24 dev l1";
    lab.sh(Place::Lan, &format!("{route}; ip link set l1 up")).ok();
    is_there(true);
    assert_eq!(lab.who_at(Place::Lan, "198.51.100.1", 8081), "198.51.100.9");
    // Both before anybody looks.
    let pasta = fs::read_to_string(&file).expect("written before the foreground ends");
    let pasta = pasta.trim().parse().expect("a pid");
    signal_pid(pasta, Signal::SIGSTOP);
    lab.sh(Place::Host, &format!("ip link del h1; {again}")).ok();
    lab.sh(Place::Lan, "ip addr add 198.51.100.9/24 dev l1; ip link set l1 up").ok();
    signal_pid(pasta, Signal::SIGCONT);
    eventually(secs(10), "the port is at the new interface", || {
        let there = there(8081);
        if there.stdout.contains("connected") { Ok(()) } else { Err(there.to_string()) }
    });
    let pid = ctr.pid().to_string();
    let none = lab.pasta(&["--config-net", "-u", "none", "-t", "192.0.2.1%h7/22", &pid]);
    assert_eq!(none.code(), 1, "{none}");
    assert!(none.stderr.contains("no interface h7"), "{none}");
}

// L5 C8
#[test]
fn ports_of_an_interface_may_follow_the_container() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    second_uplink(&lab);
    let ctr = lab.container();
    lab.as_podman(&ctr, &["-t", "%h1/auto", "-u", "198.51.100.1%h1/~53"]);
    let who = lab.who(Place::In(&ctr), 8080);
    eventually(secs(10), "the ports are at the interface", || {
        let sockets = lab.sockets(Place::Host, 8080);
        let found = ["198.51.100.1:8080", "[2001:db8:6::1]:8080", "198.51.100.1%h1:8080"];
        match found.iter().all(|found| sockets.contains(found)) {
            true => Ok(()),
            false => Err(sockets),
        }
    });
    assert!(!lab.sockets(Place::Host, 8080).contains(HOST4));
    assert_eq!(lab.who_at(Place::Lan, "198.51.100.1", 8080), "198.51.100.9");
    assert_eq!(lab.who_at_udp(Place::Lan, "198.51.100.1", 8080), "198.51.100.9");
    // A new address of it, too.
    lab.sh(Place::Host, "ip addr add 198.51.100.3/24 dev h1").ok();
    eventually(secs(10), "the port is at the new address too", || {
        let sockets = lab.sockets(Place::Host, 8080);
        if sockets.contains("198.51.100.3:8080") { Ok(()) } else { Err(sockets) }
    });
    drop(who);
    eventually(secs(10), "the ports are given back", || {
        let sockets = lab.sockets(Place::Host, 8080);
        if sockets.is_empty() { Ok(()) } else { Err(sockets) }
    });
}

// L5
#[test]
fn an_address_may_come_later_where_that_is_said() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let ports = ["-t", "192.0.2.50/8080:80", "-u", "none"];
    let netns = format!("/proc/{}/ns/net", ctr.pid());
    let absent = lab.pasta(&[PODMAN, &ports, &["--netns", &netns]].concat());
    assert_eq!(absent.code(), 1, "{absent}");
    lab.as_podman(&ctr, &[&ports[..], &["--freebind"]].concat());
    let _who = lab.who(Place::In(&ctr), 80);
    lab.sh(Place::Host, "ip addr add 192.0.2.50/24 dev h0").ok();
    assert_eq!(lab.who_at(Place::Lan, "192.0.2.50", 8080), LAN4);
}

// L5 B7
#[test]
fn each_family_leaves_by_its_interface() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    second_uplink(&lab);
    lab.sh(Place::Host, "ip route add default via 198.51.100.9 dev h1 metric 4000").ok();
    let _who = lab.who(Place::Lan, 80);
    for (options, seen4, name) in
        [(&[][..], HOST4, "h0"), (&["--outbound-if4", "h1"], "198.51.100.1", "h1")]
    {
        let ctr = lab.container();
        lab.as_podman(&ctr, &[NO_PORTS, options].concat());
        assert_eq!(lab.who_at(Place::In(&ctr), "203.0.113.9", 80), seen4);
        assert_eq!(lab.who_at_udp(Place::In(&ctr), "203.0.113.9", 80), seen4);
        // The other family's way is the same.
        assert_eq!(lab.who_at(Place::In(&ctr), "2001:db8:7::9", 80), HOST6);
        let shown = lab.sh(Place::In(&ctr), "ip -br -4 addr show scope global");
        assert!(shown.ok().starts_with(name) && shown.ok().contains(seen4), "{shown}");
    }
}

// L5: the container's loopback leads to the host's, at the ports that are named and nowhere else.
#[test]
fn ports_of_the_loopback_lead_to_the_hosts() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let _service = lab.serve(
        Place::Host,
        "u = udp('127.0.0.1', 5432, timeout=None)
def answer():
    while True:
        data, peer = u.recvfrom(65535); u.sendto(b'udp ' + data, peer)
threading.Thread(target=answer, daemon=True).start()
l = listen(5432, '127.0.0.1'); say('ready')
while True:
    s, peer = l.accept(); s.sendall(peer[0].encode()); s.close()",
    );
    let ctr = lab.container();
    let netns = format!("/proc/{}/ns/net", ctr.pid());
    let ports = ["-T", "5432,6000-6002:5430,~6001", "-U", "5432", "--no-map-gw", "-q"];
    lab.pasta(&[&["--config-net"], NO_PORTS, &ports, &["--netns", &netns]].concat()).ok();
    let fetch = |address: &str, port: u16| {
        let program = format!("say(read_all(tcp('{address}', {port})).decode())");
        lab.py(Place::In(&ctr), &program)
    };
    assert_eq!(fetch("127.0.0.1", 5432).ok(), "127.0.0.1");
    // The service is on IPv4 alone.
    assert_eq!(fetch("::1", 5432).ok(), "127.0.0.1");
    assert_eq!(fetch("127.0.0.1", 6002).ok(), "127.0.0.1");
    // Excluded; and led to where nobody listens.
    assert_ne!(fetch("127.0.0.1", 6001).code(), 0);
    assert_ne!(fetch("127.0.0.1", 6000).code(), 0);
    assert_ne!(fetch("192.0.2.1", 5432).code(), 0);
    let datagrams = "
for round in range(3):
    s = udp(); s.connect(('127.0.0.1', 5432))
    for size in (0, 1, 1400, 60000):
        s.send(b'x' * size); assert s.recv(65535) == b'udp ' + b'x' * size
say('good')";
    assert_eq!(lab.py(Place::In(&ctr), datagrams).ok(), "good");
}

// L5
#[test]
fn streams_to_the_hosts_loopback_keep_bytes_ends_and_resets() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let _service = lab.serve(
        Place::Host,
        "def serve(s):
    try:
        data = read_all(s)
        if data == b'reset':
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        else:
            s.sendall(data[::-1])
        s.close()
    except OSError as e: say(type(e).__name__)
l = listen(5432, '127.0.0.1'); say('ready')
while True: threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()",
    );
    let ctr = lab.container();
    let netns = format!("/proc/{}/ns/net", ctr.pid());
    let ports = ["-T", "5432", "-q", "--netns", &netns];
    lab.pasta(&[&["--config-net"], NO_PORTS, &ports].concat()).ok();
    let program = "
def ask(data):
    s = tcp('127.0.0.1', 5432, 20)
    threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)), daemon=True).start()
    return read_all(s)
data = random.randbytes(16 << 20)
assert ask(data) == data[::-1]
for _ in range(200): assert ask(b'ab') == b'ba'
try: say('no reset', ask(b'reset'))
except ConnectionResetError: say('reset')";
    assert_eq!(lab.py(Place::In(&ctr), program).ok(), "reset");
}

// L5
#[test]
fn a_port_of_the_loopback_that_is_taken_is_told() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    lab.sh(Place::In(&ctr), "ip link set lo up").ok();
    let _own = lab.who(Place::In(&ctr), 5432);
    let ran =
        lab.pasta(&[&["--config-net"], NO_PORTS, &["-T", "5432", &ctr.pid().to_string()]].concat());
    assert_eq!(ran.code(), 1, "{ran}");
    assert!(ran.stderr.contains("cannot listen at 127.0.0.1:5432/tcp"), "{ran}");
    let links = lab.sh(Place::In(&ctr), "ip -br link");
    assert_eq!(links.ok().lines().count(), 1, "{links}");
}

// L5
#[test]
fn protocols_can_be_switched_off() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    lab.allow_ping();
    let _who = lab.who(Place::Lan, 80);
    for (option, works) in [
        ("--no-tcp", [false, true, true]),
        ("--no-udp", [true, false, true]),
        ("--no-icmp", [true, true, false]),
    ] {
        let ctr = lab.container();
        lab.as_podman(&ctr, &[NO_PORTS, &[option]].concat());
        // What is to come is waited for.
        let [tcp, udp, ping] = works.map(|works| if works { 30 } else { 1 });
        let tcp = lab.py(Place::In(&ctr), &format!("say(attempt('{LAN4}', 80, {tcp}))"));
        let udp = lab.py(
            Place::In(&ctr),
            &format!("s = udp(timeout={udp}); s.sendto(b'?', ('{LAN4}', 80)); s.recv(99)"),
        );
        let ping = lab.run(Place::In(&ctr), &["ping", "-c1", &format!("-W{ping}"), LAN4]);
        let found =
            [tcp.ok().starts_with("connected"), udp.status.success(), ping.status.success()];
        assert_eq!(found, works, "{option}: {tcp} {udp} {ping}");
    }
    // Neighbours are not found, and so nothing of IPv6 works.
    let ctr = lab.container();
    lab.as_podman(&ctr, &[NO_PORTS, &["--no-ndp"]].concat());
    let v6 = lab.py(Place::In(&ctr), &format!("say(attempt('{LAN6}', 80, 1))"));
    assert!(!v6.ok().starts_with("connected"), "{v6}");
    assert_eq!(lab.who_at(Place::In(&ctr), LAN4, 80), HOST4);
}

// L5
#[test]
fn one_family_alone() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let _who = lab.who(Place::Lan, 80);
    let ctr = lab.container();
    lab.as_podman(&ctr, &["-t", "8080:80", "-u", "none", "-4"]);
    let shown = lab.sh(Place::In(&ctr), "ip -br addr show h0");
    assert!(shown.ok().contains(HOST4) && !shown.ok().contains(HOST6), "{shown}");
    assert_eq!(lab.sockets(Place::Host, 8080).matches(":8080").count(), 1);
    let ctr = lab.container();
    lab.as_podman(&ctr, &["-t", "8081:80", "-u", "none", "-6"]);
    let shown = lab.sh(Place::In(&ctr), "ip -br addr show h0");
    assert!(!shown.ok().contains(HOST4) && shown.ok().contains(HOST6), "{shown}");
    assert_eq!(lab.who_at(Place::In(&ctr), LAN6, 80), HOST6);
    assert_eq!(lab.sockets(Place::Host, 8081).matches(":8081").count(), 1);
}

// L5
#[test]
fn a_host_without_a_route_gives_a_network_of_its_own() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    lab.as_podman(&ctr, NO_PORTS);
    let shown = lab.sh(Place::In(&ctr), "ip -br addr show tap0");
    assert!(shown.ok().contains("169.254.2.1/16"), "{shown}");
    let _who = lab.who(Place::Lan, 80);
    assert_eq!(lab.who_at(Place::In(&ctr), LAN4, 80), HOST4);
}

// L5: what is given takes the place of what the host has.
#[test]
fn addresses_name_and_mtu_can_be_given() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let options = ["-4", "-a", "10.0.2.100", "-n", "24", "-g", "10.0.2.2", "-I", "tap9"];
    let macs = ["-m", "1400", "--ns-mac-addr", "02:00:00:00:00:09", "-M", "02:00:00:00:00:08"];
    lab.as_podman(&ctr, &[NO_PORTS, &options, &macs].concat());
    let _who = lab.who(Place::Lan, 80);
    assert_eq!(lab.who_at(Place::In(&ctr), LAN4, 80), HOST4);
    let shown = lab.sh(Place::In(&ctr), "ip addr show tap9; ip route; ip neigh");
    for part in [
        "mtu 1400 ",
        "link/ether 02:00:00:00:00:09",
        "inet 10.0.2.100/24",
        "default via 10.0.2.2",
        "lladdr 02:00:00:00:00:08",
    ] {
        assert!(shown.ok().contains(part), "no {part}: {shown}");
    }
}

// L5 A13
#[test]
fn it_ends_with_its_container_and_takes_its_pid_file_along() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let file = lab.dir().join("pasta.pid");
    lab.as_podman(&ctr, &["-t", "8080:80", "-u", "none", "-P", &file.to_string_lossy()]);
    let pid = fs::read_to_string(&file).expect("written before the foreground ends");
    assert!(pid.trim().parse::<u32>().is_ok(), "{pid}");
    assert_ne!(lab.sockets(Place::Host, 8080), "");
    ctr.kill();
    eventually(secs(2), "the port is free and the file gone", || {
        let sockets = lab.sockets(Place::Host, 8080);
        if sockets.is_empty() && !file.exists() { Ok(()) } else { Err(sockets) }
    });
}

// L5
#[test]
fn a_command_has_the_network_and_its_status_is_ours() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let _who = lab.who(Place::Lan, 80);
    let script =
        format!("id -u; cat /etc/resolv.conf; ip -br addr show h0; busybox nc {LAN4} 80; exit 7");
    let options = ["--config-net", "-q", "--no-map-gw", "-t", "none", "-u", "none"];
    let done = lab.pasta(&[&options, &["sh", "-c", &script][..]].concat());
    assert_eq!(done.code(), 7, "{done}");
    let lines: Vec<_> = done.stdout.lines().collect();
    assert_eq!(lines[0], "0");
    assert!(done.stdout.contains(&format!("nameserver {LAN4}")), "{done}");
    assert!(done.stdout.contains(HOST6), "{done}");
    assert!(lines.last().is_some_and(|last| last.starts_with(HOST4)), "{done}");
    assert_eq!(lab.pasta(&["--config-net", "/no/such/command"]).code(), 127);
}

// L5
#[test]
fn failures_are_told_before_the_foreground_ends() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let _taken = lab.who(Place::Host, 8080);
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let taken = lab.pasta(&["--config-net", "-t", "8080:80", "-u", "none", &pid]);
    assert_eq!(taken.code(), 1, "{taken}");
    assert!(taken.stderr.contains("cannot publish") && taken.stderr.contains("8080"), "{taken}");
    let unknown = lab.pasta(&["--config-net", "--bogus", &pid]);
    assert_eq!(unknown.code(), 1, "{unknown}");
    assert!(unknown.stderr.contains("unrecognized option"), "{unknown}");
    let shown = lab.run(Place::In(&ctr), &["ip", "-br", "addr"]);
    assert_eq!(shown.ok().lines().count(), 1, "{shown}");
}

// L5: what is said goes to a file.
#[test]
fn the_log_may_go_to_a_file() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let (log, pid) = (lab.dir().join("pasta.log"), ctr.pid().to_string());
    let to = log.to_string_lossy();
    let done = lab.pasta(&[&["--config-net", "-l", &to], NO_PORTS, &[&pid]].concat());
    assert_eq!((done.ok(), done.stderr.as_str()), ("", ""), "{done}");
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.contains("h0 192.0.2.1/24"), "{text}");
}

// L5: without --config-net the container configures itself, here by hand.
#[test]
fn without_config_net_the_interface_is_left_alone() {
    let Some(lab) = Lab::new() else { return };
    lab.default_route();
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    lab.pasta(&[&["-q", "--no-map-gw", "-I", "tap0"], NO_PORTS, &[&pid]].concat()).ok();
    let shown = lab.run(Place::In(&ctr), &["ip", "-br", "addr", "show", "tap0"]);
    assert!(shown.ok().contains("DOWN") && !shown.ok().contains("192.0.2"), "{shown}");
    let by_hand = format!(
        "ip link set tap0 up; ip addr add {HOST4}/24 dev tap0; ip route add default via {LAN4}"
    );
    lab.sh(Place::In(&ctr), &by_hand).ok();
    let _who = lab.who(Place::Lan, 80);
    assert_eq!(lab.who_at(Place::In(&ctr), LAN4, 80), HOST4);
}
