//! What the container must not reach: the host's loopback and its like; and what must not reach others:
//! its floods. Rows F1 F2 F5 F11 K4 K5 K8.
//!
//! A listener on the host counts what arrives, so that a test does not rely on what the container
//! is told. Frames built by hand stand for a container that does not keep to its kernel's rules.

use std::collections::BTreeSet;

use crate::eventually::{eventually, secs};
use crate::faults::LOAD;
use crate::lab::{DNS4, DNS6, GATEWAY4, GATEWAY6, LAN4, Lab, Place, arrivals};
use crate::networks::info_process;

const NOTHING: &str = "0 connections 0 datagrams";

// F1
#[test]
fn host_loopback_is_not_reachable_through_the_networks_addresses() {
    let Some(lab) = Lab::new() else { return };
    let mut counter = lab.counter(Place::Host, &[5432]);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for address in [GATEWAY4, GATEWAY6, DNS4, DNS6] {
        assert_eq!(lab.fails_at_once(&ctr, address, 5432), "ECONNREFUSED", "{address}");
        let send = format!("udp(v6=':' in '{address}').sendto(b'x', ('{address}', 5432))");
        lab.py(Place::In(&ctr), &send).ok();
    }
    assert_eq!(arrivals(&mut counter), NOTHING);
}

// F1: SYNs and datagrams to addresses that a kernel would never put on a wire.
#[test]
fn frames_to_special_addresses_reach_nothing_on_the_host() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(
        Place::Host,
        "ip addr add 169.254.169.254/32 dev h0; ip addr add 198.51.100.1/32 dev lo",
    )
    .ok();
    let mut counter = lab.counter(Place::Host, &[5432]);
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).start();
    lab.py(Place::In(&ctr), RAW_SPECIAL).ok();
    assert!(net.alive(), "the frames must not end rnsnet");
    // A later connection was served, so the frames before it have been looked at.
    let seen = lab.py(Place::In(&ctr), &format!("say(read_all(tcp('{LAN4}', 7)))"));
    assert!(seen.ok().starts_with("b'192.0.2.1 "), "{seen}");
    assert_eq!(arrivals(&mut counter), NOTHING);
}

const RAW_SPECIAL: &str = "
wire = Wire()
for dst in ('127.0.0.1', '127.0.0.53', '127.255.255.254', '0.0.0.0', '0.0.0.1',
            '255.255.255.255', '224.0.0.1', '240.0.0.1', '169.254.169.254', '10.0.2.255'):
    for sport in (40000, 40001):
        wire.send(packet('10.0.2.100', dst, 6, tcp_segment(sport, 5432)))
        wire.send(packet('10.0.2.100', dst, 17, udp_datagram(sport, 5432)))
for dst in ('::1', '::', '::ffff:127.0.0.1', '::ffff:0.0.0.0', '::127.0.0.1', '64:ff9b::127.0.0.1',
            'fe80::1', 'ff02::1', '::ffff:169.254.169.254'):
    for sport in (40000, 40001):
        wire.send(packet('fd72:6e73:6e65::100', dst, 6, tcp_segment(sport, 5432)))
        wire.send(packet('fd72:6e73:6e65::100', dst, 17, udp_datagram(sport, 5432)))
";

// F1: honest sockets with routes that send such addresses to the gateway.
#[test]
fn sockets_to_special_addresses_fail() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "ip addr add 169.254.169.254/32 dev h0").ok();
    let mut counter = lab.counter(Place::Host, &[5432]);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for address in ["169.254.169.254", "240.0.0.1", "64:ff9b::7f00:1"] {
        let attempt = lab.py(Place::In(&ctr), &format!("attempt('{address}', 5432, 2)"));
        assert!(!attempt.ok().starts_with("connected"), "{address}: {attempt}");
        assert!(!attempt.ok().starts_with("timeout"), "{address} must be told: {attempt}");
        let send = format!(
            "try: udp(v6=':' in '{address}').sendto(b'x', ('{address}', 5432))\n\
             except OSError: pass"
        );
        lab.py(Place::In(&ctr), &send).ok();
    }
    assert_eq!(arrivals(&mut counter), NOTHING);
}

// A sender that is not the container's lease is not the container.
#[test]
fn frames_with_a_foreign_source_go_nowhere() {
    let Some(lab) = Lab::new() else { return };
    let mut counter = lab.counter(Place::Lan, &[5432]);
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).start();
    lab.py(
        Place::In(&ctr),
        "
wire = Wire()
for src in ('127.0.0.1', '10.0.2.2', '10.0.2.3', '192.0.2.1', '0.0.0.0', '255.255.255.255'):
    wire.send(packet(src, '192.0.2.9', 6, tcp_segment(40000, 5432)))
    wire.send(packet(src, '192.0.2.9', 17, udp_datagram(40000, 5432)))
for src in ('::1', '::', 'fd72:6e73:6e65::2', '2001:db8:5::1', 'ff02::1', '::ffff:10.0.2.100'):
    wire.send(packet(src, '2001:db8:5::9', 6, tcp_segment(40000, 5432)))
    wire.send(packet(src, '2001:db8:5::9', 17, udp_datagram(40000, 5432)))
",
    )
    .ok();
    assert!(net.alive());
    let good = lab.py(Place::In(&ctr), &format!("attempt('{LAN4}', 5432)"));
    assert!(good.ok().starts_with("connected"), "{good}");
    eventually(secs(5), "that one alone has come", || match arrivals(&mut counter).as_str() {
        "1 connections 0 datagrams" => Ok(()),
        other => Err(other.to_owned()),
    });
}

// Broken frames: cut short, lying about lengths, with wrong checksums, fragments without end.
#[test]
fn broken_frames_do_not_hurt() {
    let Some(lab) = Lab::new() else { return };
    let mut counter = lab.counter(Place::Lan, &[5432]);
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).start();
    lab.py(Place::In(&ctr), RAW_BROKEN).ok();
    assert!(net.alive());
    let seen = lab.py(Place::In(&ctr), &format!("say(read_all(tcp('{LAN4}', 7)))"));
    assert!(seen.ok().starts_with("b'192.0.2.1 "), "{seen}");
    assert_eq!(arrivals(&mut counter), NOTHING);
}

const RAW_BROKEN: &str = "
wire = Wire()
head = wire.gateway + wire.own
good = packet('10.0.2.100', '192.0.2.9', 6, tcp_segment(40000, 5432))
six = packet('fd72:6e73:6e65::100', '2001:db8:5::9', 6, tcp_segment(40000, 5432))
for size in range(14, 14 + 40):
    wire.frame((head + b'\\x08\\x00' + good)[:size])
for size in range(14, 14 + 60):
    wire.frame((head + b'\\x86\\xdd' + six)[:size])
def broken(at, value, ip=good):
    return ip[:at] + bytes([value]) + ip[at + 1:]
for at, value in [(0, 0x44), (0, 0x4f), (0, 0x05), (2, 0xff), (3, 0), (8, 0), (10, 1), (36, 1)]:
    wire.send(broken(at, value)) if broken(at, value)[0] >> 4 in (4, 6) else \\
        wire.frame(head + b'\\x08\\x00' + broken(at, value))
rng = random.Random(11)
for _ in range(500):
    ip = bytearray(rng.choice((good, six)))
    for _ in range(rng.randrange(1, 6)):
        ip[rng.randrange(len(ip))] = rng.randrange(256)
    ip[0] = (ip[0] & 15) | rng.choice((0x40, 0x60))
    # Never a valid one to the counted port.
    ip[22:24] = b'\\0\\1'
    if len(ip) > 42:
        ip[42:44] = b'\\0\\1'
    wire.send(bytes(ip))
for _ in range(200):
    wire.frame(head + rng.choice((b'\\x08\\x00', b'\\x86\\xdd', b'\\x08\\x06', b'\\x81\\x00'))
               + rng.randbytes(rng.randrange(0, 1400)))
# Every combination of flags, without a connection.
for flags in range(256):
    wire.send(packet('10.0.2.100', '192.0.2.9', 6, tcp_segment(41000 + flags, 1, flags)))
# First fragments whose rest never comes.
for ident in range(300):
    ip = bytearray(packet('10.0.2.100', '192.0.2.9', 17, udp_datagram(40000, 5432, b'f' * 1000)))
    ip[4:6] = struct.pack('!H', ident)
    ip[6] = 0x20
    ip[10:12] = b'\\0\\0'
    ip[10:12] = struct.pack('!H', checksum(bytes(ip[:20])))
    wire.send(bytes(ip))
";

// F5
#[test]
fn host_access_opens_the_named_ports_only() {
    let Some(lab) = Lab::new() else { return };
    let mut open = lab.serve(
        Place::Host,
        "
l4, l6, u4 = listen(5432, '127.0.0.1'), listen(5432, '::1'), udp('127.0.0.1', 5432)
u4.settimeout(None)
def greet(l, text):
    while True:
        s, peer = l.accept()
        s.sendall(text + plain(peer[0]).encode())
        s.close()
def echo():
    while True:
        data, peer = u4.recvfrom(99)
        u4.sendto(data, peer)
thread(greet, l4, b'v4 ')
thread(greet, l6, b'v6 ')
thread(echo)
forever()
",
    );
    let mut closed = lab.counter(Place::Host, &[5433]);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--host-access", "5432,5434"]).start();
    let read = |address: &str| {
        lab.py(Place::In(&ctr), &format!("say(read_all(tcp('{address}', 5432)).decode())"))
    };
    assert_eq!(read(GATEWAY4).ok(), "v4 127.0.0.1");
    assert_eq!(read(GATEWAY6).ok(), "v6 ::1");
    for (port, expected) in [(5433, "ECONNREFUSED"), (5434, "ECONNREFUSED"), (22, "ECONNREFUSED")] {
        let attempt = lab.py(Place::In(&ctr), &format!("attempt('{GATEWAY4}', {port}, 2)"));
        assert!(attempt.ok().starts_with(expected), "{port}: {attempt}");
    }
    // The gateway's address is the only door.
    lab.py(
        Place::In(&ctr),
        "
wire = Wire()
for port in (5432, 5433):
    wire.send(packet('10.0.2.100', '127.0.0.1', 6, tcp_segment(40000, port)))
    wire.send(packet('10.0.2.100', '127.0.0.1', 17, udp_datagram(40000, port)))
",
    )
    .ok();
    let dns = lab.py(Place::In(&ctr), &format!("attempt('{DNS4}', 5432, 2)"));
    assert!(dns.ok().starts_with("ECONNREFUSED"), "{dns}");
    assert_eq!(arrivals(&mut closed), NOTHING);
    assert!(open.ended().is_none());
}

// F5
#[test]
fn host_access_all_opens_every_port_of_the_gateway() {
    let Some(lab) = Lab::new() else { return };
    let _one = lab.serve(Place::Host, "l = listen(5432, '127.0.0.1'); forever()");
    let _two = lab.serve(Place::Host, "l = listen(9999, '127.0.0.1'); forever()");
    let _echo = lab.serve(Place::Host, "echo_udp(7000, '127.0.0.1')");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--host-access", "all"]).start();
    for port in [5432, 9999] {
        let attempt = lab.py(Place::In(&ctr), &format!("attempt('{GATEWAY4}', {port})"));
        assert!(attempt.ok().starts_with("connected"), "{port}: {attempt}");
    }
    let attempt = lab.py(Place::In(&ctr), &format!("attempt('{GATEWAY4}', 1)"));
    assert!(attempt.ok().starts_with("ECONNREFUSED"), "{attempt}");
    let echo = lab.py(Place::In(&ctr), &format!("udp_exact('{GATEWAY4}', 7000, [1, 1400])"));
    assert_eq!(echo.ok(), "exact");
}

// F1: the published port's own loopback listener is no back door either.
#[test]
fn a_container_does_not_reach_what_is_bound_to_loopback_by_publishing() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "127.0.0.1:8080:80"]).start();
    for address in [GATEWAY4, DNS4] {
        let attempt = lab.py(Place::In(&ctr), &format!("attempt('{address}', 8080, 2)"));
        assert!(attempt.ok().starts_with("ECONNREFUSED"), "{attempt}");
    }
}

// A flood of connections must not starve what follows, nor take memory for what nobody answers.
#[test]
fn a_flood_of_raw_syns_is_survived() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).without_pcap().start();
    let before = lab.memory(net.pid(), "Pss_Anon");
    // To a host that is not there, and to one that is: more than there may be unfinished at once,
    // and each hundred of them are read before the next.
    for address in ["192.0.2.77", LAN4] {
        let program = format!(
            "
wire = Wire()
for sport in range(20000, 32000):
    wire.send(packet('10.0.2.150', '{address}', 6, tcp_segment(sport, 7)))
    if sport % 100 == 0:
        wire.resolve('10.0.2.2')
"
        );
        lab.py(Place::In(&ctr), &program).ok();
        assert!(net.alive());
        let after = lab.memory(net.pid(), "Pss_Anon");
        assert!(after < before + (16 << 10), "{before} KiB, then {after} with {address}");
    }
    // Within the time in which the absent neighbour's connections fail, new ones are served again.
    eventually(secs(10), "a connection works after the flood", || {
        let seen = lab.py(Place::In(&ctr), &format!("say(read_all(tcp('{LAN4}', 7, 20)))"));
        if seen.stdout.starts_with("b'192.0.2.1 ") { Ok(()) } else { Err(seen.to_string()) }
    });
}

// F11: nor is anything else there; the DNS address answers queries.
#[test]
fn the_networks_addresses_serve_names_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let _host = lab.who(Place::Host, 7);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for (address, expected) in [(GATEWAY4, "[]"), (GATEWAY6, "[]"), (DNS4, "[53]"), (DNS6, "[53]")]
    {
        let scan = format!(
            "
open = []
for port in list(range(1, 1200)) + [2375, 5000, 6443, 8000, 8080, 9090, 9273]:
    s = socket.socket(family('{address}')); s.settimeout(20)
    if s.connect_ex(('{address}', port)) == 0: open.append(port)
    s.close()
say(open)
"
        );
        assert_eq!(lab.py_within(Place::In(&ctr), &scan, secs(60)).ok(), expected, "{address}");
    }
}

// K8: on the host that which is published, in the container nothing, and no abstract socket anywhere.
#[test]
fn nobody_listens_but_where_it_was_asked_for() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let listening = |place| -> BTreeSet<String> {
        let script = "ss -Hlntuw | awk '{ print $1, $5 }'; ss -Hlx | awk '$5 ~ /^@/'";
        lab.sh(place, script).ok().lines().map(str::to_owned).collect()
    };
    let before = [Place::Host, Place::In(&ctr)].map(listening);
    let publish = ["-p", "8080:80", "-p", "127.0.0.1:8081:81/udp"];
    let _net = lab.rnsnet(&ctr).with(&publish).start();
    let after = [Place::Host, Place::In(&ctr)].map(listening);
    let new: Vec<&String> = after[0].difference(&before[0]).collect();
    assert_eq!(new, ["tcp 0.0.0.0:8080", "tcp [::]:8080", "udp 127.0.0.1:8081"]);
    assert_eq!(after[1], before[1]);
}

// K5: SYNs as fast as a container can send them, to a port that is open. They cost their bound and no
// more, and another container of the network nothing.
#[test]
fn a_flood_of_syns_has_a_bound_and_keeps_nobody_out() {
    let Some(lab) = Lab::alone() else { return };
    let _server = lab.serve(Place::Lan, &format!("{LOAD}\ngreet(10)"));
    lab.rn("network create --opt limit.opening=400 --opt limit.opening-each=100 n1");
    let flooder = lab.member("--network n1 --name flooder");
    let web = lab.member("--network n1 --name web");
    let process = info_process(&lab, "n1");
    let size = || (lab.memory(process, "Pss_Anon"), lab.descriptors(process));
    let before = size();
    // Its kernel would reset what it has not asked for.
    let mute =
        "table ip mute { chain out { type filter hook output priority 0; tcp flags rst drop; }; }";
    lab.within(&flooder, &format!("nft '{mute}'")).ok();
    let flood = format!(
        "
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
syns = [packet('10.89.0.2', '{LAN4}', 6, tcp_segment(1024 + n, 10, seq=n)) for n in range(20000)]
say('floods')
while True:
    for syn in syns:
        try: raw.sendto(syn, ('{LAN4}', 0))
        except OSError: pass
"
    );
    let mut flood = lab.spawn_py(Place::In(&flooder), &flood);
    assert_eq!(flood.line(secs(20)), "floods");
    let met = |least: u64| {
        let stats = ["stats", "--no-stream", "--format", "{{json .Limits}}", "flooder"];
        let stats = lab.rnsnet_ends(&stats).ok().to_owned();
        let count = stats.split("\"opening-each\":").nth(1).unwrap_or_default();
        let count: String = count.chars().take_while(char::is_ascii_digit).collect();
        if count.parse::<u64>().is_ok_and(|n| n >= least) { Ok(()) } else { Err(stats) }
    };
    eventually(secs(30), "the bound is met", || met(1000));
    let connect = format!("s = tcp('{LAN4}', 10, 60); say(s.recv(1))");
    for _ in 0..10 {
        assert_eq!(lab.py_within(Place::In(&web), &connect, secs(60)).ok(), "b'x'");
        let (kib, fds) = size();
        assert!(fds < before.1 + 120, "{fds} descriptors after {}", before.1);
        assert!(kib < before.0 + (16 << 10), "{kib} KiB after {}", before.0);
    }
    eventually(secs(30), "it was met all the time", || met(5000));
    assert!(flood.ended().is_none());
}
