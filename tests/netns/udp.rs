//! Datagrams from the container to the world. Rows B2 B6.

use crate::eventually::{eventually, secs};
use crate::lab::{Container, HOST4, HOST6, LAN4, LAN6, Lab, Place};

/// One byte, below and at the MTU's limit, beyond it, and the most that IPv4 can carry.
const SIZES: &str = "[1, 2, 1000, 1400, 1472, 1473, 8000, 65507]";

// B2 B6
#[test]
fn the_lan_sees_the_hosts_address() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for (lan, host) in [(LAN4, HOST4), (LAN6, HOST6)] {
        assert_eq!(lab.who_at_udp(Place::In(&ctr), lan, 7), host);
    }
}

// B2
#[test]
fn datagrams_of_every_size_come_back_exactly() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_udp(7)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        let program = format!("udp_exact('{lan}', 7, {SIZES})");
        assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "exact", "{lan}");
    }
}

#[test]
fn sizes_hold_at_other_mtus_and_without_offload() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_udp(7)");
    for options in [["--mtu", "1280"], ["--mtu", "65520"], ["--offload", "off"]] {
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).with(&options).start();
        for lan in [LAN4, LAN6] {
            let program = format!("udp_exact('{lan}', 7, {SIZES})");
            assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "exact", "{lan} {options:?}");
        }
    }
}

// B2
#[test]
fn a_thousand_datagrams_are_echoed_and_none_is_lost() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_udp(7)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).without_pcap().start();
    for lan in [LAN4, LAN6] {
        let program = format!("udp_many('{lan}', 7, 1000)");
        assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "1000", "{lan}");
    }
}

// B2: an empty datagram is a datagram.
#[test]
fn an_empty_datagram_is_carried() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        let program = format!(
            "s = udp(v6=':' in '{lan}'); s.connect(('{lan}', 7)); s.send(b'')\n\
             say(s.recv(99).decode().split()[0])"
        );
        let host = if lan == LAN4 { HOST4 } else { HOST6 };
        assert_eq!(lab.py(Place::In(&ctr), &program).ok(), host);
    }
}

// RFC 4787: one port on the host for one socket in the container, whoever it speaks to.
#[test]
fn one_socket_keeps_one_host_port_for_all_peers() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Lan, "ip addr add 192.0.2.10/24 dev l0").ok();
    let _who7 = lab.who(Place::Lan, 7);
    let _who8 = lab.who(Place::Lan, 8);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = "
s = udp('0.0.0.0', 4000)
seen = set()
for peer in [('192.0.2.9', 7), ('192.0.2.9', 8), ('192.0.2.10', 7), ('192.0.2.10', 8)]:
    s.sendto(b'?', peer)
    data, who = s.recvfrom(99)
    assert who == peer, (who, peer)
    seen.add(data)
say(len(seen))
other = udp('0.0.0.0', 4001)
other.sendto(b'?', ('192.0.2.9', 7))
say(other.recv(99) not in seen)
";
    assert_eq!(lab.py(Place::In(&ctr), program).ok(), "1\nTrue");
}

// Inbound is for those the container has written to; a stranger's datagram is not delivered.
#[test]
fn a_stranger_does_not_reach_the_containers_socket() {
    let Some(lab) = Lab::new() else { return };
    // Answers each datagram first from strange sockets, then from the right one.
    let _lan = lab.serve(
        Place::Lan,
        "
lan = udp('192.0.2.9', 7)
lan.settimeout(None)
def serve():
    while True:
        data, peer = lan.recvfrom(99)
        for port in (8, 9, 7000):
            stranger = udp('192.0.2.9', port)
            stranger.sendto(b'stranger', peer)
            stranger.close()
        lan.sendto(b'friend', peer)
thread(serve)
forever()
",
    );
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = "
s = udp('0.0.0.0', 4000)
for _ in range(3):
    s.sendto(b'?', ('192.0.2.9', 7))
    say(*s.recvfrom(99))
s.settimeout(1)
try:
    say(*s.recvfrom(99))
except TimeoutError:
    say('quiet')
";
    let got = lab.py(Place::In(&ctr), program);
    let friend = "b'friend' ('192.0.2.9', 7)\n";
    assert_eq!(got.ok(), format!("{friend}{friend}{friend}quiet"));
}

// The other side may go on speaking long after the container's only datagram.
#[test]
fn the_peer_may_speak_many_times() {
    let Some(lab) = Lab::new() else { return };
    let _lan = lab.serve(
        Place::Lan,
        "
s = udp('192.0.2.9', 7)
s.settimeout(None)
def serve():
    _, peer = s.recvfrom(99)
    for number in range(20):
        s.sendto(str(number).encode(), peer)
        time.sleep(0.05)
thread(serve)
forever()
",
    );
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = "
s = udp()
s.sendto(b'go', ('192.0.2.9', 7))
say(','.join(s.recv(99).decode() for _ in range(20)))
";
    let all = (0..20).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(lab.py(Place::In(&ctr), program).ok(), all);
}

// B4
#[test]
fn a_port_nobody_serves_is_refused_and_the_socket_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_udp(7)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        let program = format!(
            "
s = socket.socket(socket.AF_INET6 if ':' in '{lan}' else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(('{lan}', 9))
s.send(b'nobody')
try:
    s.recv(1)
except ConnectionRefusedError:
    say('refused')
# The same endpoint, so the same socket on the host: the error was about one datagram.
s.connect(('{lan}', 7))
for i in range(20):
    s.send(b'%d' % i)
    assert s.recv(10) == b'%d' % i
say('answered')
"
        );
        let ran = lab.py(Place::In(&ctr), &program);
        assert_eq!(ran.ok(), "refused\nanswered", "{lan}: {ran}");
    }
}

// B4
#[test]
fn an_address_without_a_route_is_unreachable() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = "
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
# Without IP_RECVERR (11) Linux tells of refusals alone, as routes may come back: udp(7).
s.setsockopt(socket.IPPROTO_IP, 11, 1)
s.connect(('198.51.100.1', 9))
s.send(b'x')
try:
    s.recv(1)
except OSError as e:
    say(errno.errorcode[e.errno])
";
    assert_eq!(lab.py(Place::In(&ctr), program).ok(), "ENETUNREACH");
}

// What the host may not send itself, be it by its firewall or by a route.
#[test]
fn what_the_host_is_forbidden_is_prohibited() {
    let Some(lab) = Lab::new() else { return };
    let rules =
        "table inet no { chain out { type filter hook output priority 0; udp dport 9 drop; }; }";
    lab.sh(Place::Host, &format!("nft '{rules}'; ip route add prohibit 198.51.100.1")).ok();
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    let program = format!(
        "
for to, kind in [('{LAN4}', socket.SOCK_DGRAM), ('{LAN6}', socket.SOCK_DGRAM),
                 ('198.51.100.1', socket.SOCK_STREAM), ('198.51.100.1', socket.SOCK_DGRAM)]:
    s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, kind)
    s.settimeout(20)
    # IP_RECVERR and IPV6_RECVERR.
    s.setsockopt(*((socket.IPPROTO_IPV6, 25, 1) if ':' in to else (socket.IPPROTO_IP, 11, 1)))
    try:
        s.connect((to, 9))
        s.send(b'x')
        s.recv(1)
    except OSError as e:
        say(errno.errorcode.get(e.errno, e))
"
    );
    // As icmp(7) has it: of IPv4 a host that cannot be reached.
    let heard = lab.py(Place::In(&ctr), &program);
    assert_eq!(heard.ok(), "EHOSTUNREACH\nEACCES\nEHOSTUNREACH\nEHOSTUNREACH");
    assert!(!net.dump().contains("drop.broadcast"), "{}", net.dump());
}

// I5: Wake-on-LAN and the like, to everybody, to a network of the host's, and to one's own.
#[test]
fn broadcasts_leave_on_request_alone() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "ip route add default dev h0").ok();
    let heard_within = |ctr: &Container, seconds: u32| {
        let program = "
s = udp(timeout=SECONDS)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for to in ['255.255.255.255', '192.0.2.255', '10.0.2.255']:
    s.sendto(b'wake', (to, 9))
    try:
        say(s.recvfrom(99)[1][0])
    except OSError as e:
        say('nothing')
";
        let program = program.replace("SECONDS", &seconds.to_string());
        lab.py(Place::In(ctr), &program).ok().to_owned()
    };
    let _lan = lab.serve(
        Place::Lan,
        "
lan = udp('0.0.0.0', 9, timeout=60)
say('ready')
while True:
    data, peer = lan.recvfrom(99)
    lan.sendto(data, peer)
",
    );
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).named("closed").start();
    assert_eq!(heard_within(&ctr, 3), "nothing\nnothing\nnothing");
    eventually(secs(2), "all are counted", || {
        let dump = net.dump();
        if dump.contains("drop.broadcast 3") { Ok(()) } else { Err(dump) }
    });
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--allow-broadcast"]).start();
    // The answer to the second comes from an address that the container has heard by then.
    assert_eq!(heard_within(&ctr, 30), "192.0.2.9\n192.0.2.9\n192.0.2.9");
}

// Super-frames of datagrams, where the kernel has them: a program's own (UDP_SEGMENT, as QUIC uses
// it) leave as single datagrams, and what comes in a burst arrives as it was sent.
#[test]
fn bursts_of_datagrams_keep_their_bounds() {
    let Some(lab) = Lab::new() else { return };
    let burst = "
def burst(s, sizes, to):
    data = [random.Random(n).randbytes(size) for n, size in enumerate(sizes)]
    s.setsockopt(17, 103, sizes[0])
    s.sendto(b''.join(data), to)
    return data
";
    // Says what it has got, and sends it back in a burst of its own.
    let lan = format!(
        "{burst}
lan = {{f: udp(f, 7, timeout=60) for f in ('192.0.2.9', '2001:db8:5::9')}}
def serve(s):
    while True:
        peer, total = None, 0
        while total < 12 * 1000 + 77:
            data, peer = s.recvfrom(65536)
            total += len(data)
            assert len(data) in (77, 1000), len(data)
        burst(s, [500] * 60 + [9], peer)
for s in lan.values():
    thread(serve, s)
forever()
"
    );
    let _lan = lab.serve(Place::Lan, &lan);
    for options in [&[][..], &["--offload", "off"], &["--mtu", "9000"]] {
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).with(options).start();
        for lan in [LAN4, LAN6] {
            let program = format!(
                "{burst}
s = udp(v6=':' in '{lan}')
burst(s, [1000] * 12 + [77], ('{lan}', 7))
got = [s.recv(65536) for _ in range(61)]
say(got == [random.Random(n).randbytes(size) for n, size in enumerate([500] * 60 + [9])])
"
            );
            assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "True", "{lan} {options:?}");
        }
    }
}

// B2 C4: the error comes with the address that the client had asked.
#[test]
fn a_client_that_is_gone_is_told_to_the_server() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "5300:5300/udp"]).start();
    for host in [HOST4, HOST6] {
        let mut server = lab.serve(
            Place::In(&ctr),
            "
s = udp_any(5300); s.settimeout(60); say('ready')
_, peer = s.recvfrom(100); s.connect(peer); s.send(b'answer')
sys.stdin.readline()
try:
    for _ in range(300): s.send(b'more'); time.sleep(0.1)
    say('nothing')
except ConnectionRefusedError: say('refused')
",
        );
        let client = format!(
            "s = udp(v6={}); s.sendto(b'x', ('{host}', 5300)); say(s.recv(100).decode())",
            if host.contains(':') { "True" } else { "False" }
        );
        assert_eq!(lab.py(Place::Lan, &client).ok(), "answer", "{host}");
        server.tell("the client is gone");
        assert_eq!(server.line(secs(10)), "refused", "{host}");
    }
}

// A container that has bridged its interface to another namespace, as to a virtual machine: each
// has a hardware address and IP addresses of its own behind the one TAP.
#[test]
fn machines_behind_a_bridge_get_their_own_answers() {
    let Some(lab) = Lab::new() else { return };
    // Answers once both have asked, so that one of them was not the last to speak.
    let server = format!(
        "
def serve(lan):
    while True:
        asked = [lan.recvfrom(99) for _ in range(2)]
        for data, peer in asked:
            lan.sendto(data, peer)
for host in '{LAN4}', '{LAN6}':
    threading.Thread(target=serve, args=(udp(host, 9, timeout=100),), daemon=True).start()
say('ready')
time.sleep(100)
"
    );
    let _lan = lab.serve(Place::Lan, &server);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = format!(
        "
import ctypes, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def sh(script): subprocess.run(['sh', '-ec', script], check=True)
def ask(): return [udp(v6=v6) for v6 in (False, True)]
addresses = 'ip addr add 10.0.2.%d/24 dev %s; ip addr add fd72:6e73:6e65::%d/64 dev %s nodad'
routes = 'ip route add default via 10.0.2.2; ip route add default via fd72:6e73:6e65::2'
own = os.open('/proc/self/ns/net', os.O_RDONLY)
outside = subprocess.Popen(['sleep', '100'])
assert libc.unshare(0x40000000) == 0, ctypes.get_errno()
sh(f'ip link add eth0 type veth peer name v0 netns {{outside.pid}}; ip link set eth0 up;'
   + addresses % (50, 'eth0', 50, 'eth0') + ';' + routes)
inner = ask()
assert libc.setns(own, 0) == 0, ctypes.get_errno()
sh('ip addr flush dev eth0; ip -6 route flush dev eth0; ip link add br0 type bridge;'
   + 'ip link set eth0 master br0; ip link set v0 up master br0; ip link set br0 up;'
   + addresses % (100, 'br0', 100, 'br0') + ';' + routes)
outer = ask()
for family, lan in enumerate(['{LAN4}', '{LAN6}']):
    for number in range(10):
        for who in inner[family], outer[family]:
            who.sendto(b'%d' % number, (lan, 9))
        for who in outer[family], inner[family]:
            assert who.recv(9) == b'%d' % number
outside.kill()
say('each its own')
"
    );
    assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "each its own");
}
