//! Errors of the network on the way and back: traceroute, path MTU, closed ports. Rows B4 B11.
//!
//! ```text
//!  host 192.0.2.1 ---- router (the LAN machine) 192.0.2.9, 198.51.100.1 ---- far 198.51.100.7
//!       2001:db8:5::1                  2001:db8:5::9, 2001:db8:7::1               2001:db8:7::7
//! ```

use crate::eventually::secs;
use crate::exec::Proc;
use crate::lab::{GATEWAY4, GATEWAY6, HOST4, HOST6, LAN4, LAN6, Lab, Place};

const FAR4: &str = "198.51.100.7";
const FAR6: &str = "2001:db8:7::7";

/// Makes the LAN machine a router to one more network; lasts as long as the value.
fn far(lab: &Lab, mtu: u16) -> Proc {
    let mut holder =
        lab.spawn(Place::Lan, &["unshare", "--net", "sh", "-c", "echo in; exec sleep infinity"]);
    assert_eq!(holder.line(secs(5)), "in");
    let pid = holder.pid();
    lab.sh(
        Place::Lan,
        &format!(
            "ip link add l1 mtu {mtu} type veth peer name f0 mtu {mtu} netns {pid}
             ip addr add 198.51.100.1/24 dev l1; ip addr add 2001:db8:7::1/64 dev l1 nodad
             ip link set l1 up
             for f in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; do
                 echo 1 > $f
             done
             echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
             nsenter -t {pid} -n sh -ec '
                 ip addr add {FAR4}/24 dev f0; ip addr add {FAR6}/64 dev f0 nodad
                 echo 0 > /proc/sys/net/ipv4/icmp_ratelimit
                 echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
                 ip link set lo up; ip link set f0 up
                 ip route add default via 198.51.100.1; ip route add default via 2001:db8:7::1'"
        ),
    )
    .ok();
    lab.sh(
        Place::Host,
        &format!(
            "ip route add 198.51.100.0/24 via {LAN4}; ip route add 2001:db8:7::/64 via {LAN6}"
        ),
    )
    .ok();
    for address in [FAR4, FAR6] {
        crate::eventually::eventually(secs(5), &format!("the host reaches {address}"), || {
            let ping = lab.run(Place::Host, &["ping", "-c1", "-W0.2", address]);
            if ping.status.success() { Ok(()) } else { Err(ping.to_string()) }
        });
    }
    holder
}

/// The addresses that answered, one a hop.
fn hops(trace: &str) -> Vec<&str> {
    trace.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect()
}

// B4
#[test]
fn traceroute_shows_the_gateway_the_router_and_the_target() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let _far = far(&lab, 1500);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let way4 = [GATEWAY4, LAN4, FAR4];
    let way6 = [GATEWAY6, LAN6, FAR6];
    for (line, way) in [
        (format!("busybox traceroute -n -q1 -w15 -m8 {FAR4}"), way4),
        (format!("busybox traceroute -I -n -q1 -w15 -m8 {FAR4}"), way4),
        (format!("busybox traceroute6 -n -q1 -w15 -m8 {FAR6}"), way6),
    ] {
        let trace = lab.sh(Place::In(&ctr), &line);
        assert_eq!(hops(trace.ok()), way, "{trace}");
    }
}

// B4: ping's own words for a hop on the way, in both families.
#[test]
fn a_ping_that_does_not_live_long_enough_is_told_where_it_ended() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let _far = far(&lab, 1500);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for (target, gateway, router) in [(FAR4, GATEWAY4, LAN4), (FAR6, GATEWAY6, LAN6)] {
        for (hops, by) in [(1, gateway), (2, router)] {
            let line = format!("ping -n -c1 -W20 -t{hops} {target}");
            let ping = lab.run(Place::In(&ctr), &["sh", "-c", &line]);
            let said = if target == FAR4 {
                format!("From {by} icmp_seq=1 Time to live exceeded")
            } else {
                format!("From {by} icmp_seq=1 Time exceeded: Hop limit")
            };
            assert!(ping.stdout.contains(&said), "{ping}");
        }
        lab.sh(Place::In(&ctr), &format!("ping -n -c1 -W20 -t3 {target}")).ok();
    }
}

// B4: an address that the router has no way to, and one that nobody has.
#[test]
fn unreachable_addresses_are_reported_by_who_knows_it() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let _far = far(&lab, 1500);
    lab.sh(Place::Lan, "ip route add unreachable 198.51.100.64/26").ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let ping = lab.run(Place::In(&ctr), &["ping", "-n", "-c1", "-W20", "198.51.100.65"]);
    let said = format!("From {LAN4} icmp_seq=1 Destination Host Unreachable");
    assert!(ping.stdout.contains(&said), "{ping}");
    let program = "
s = udp()
s.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: a host unreachable is no hard error
s.connect(('198.51.100.65', 7))
s.send(b'x')
try:
    s.recv(9)
except OSError as e:
    say(errno.errorcode[e.errno])
";
    assert_eq!(lab.py(Place::In(&ctr), program).ok(), "EHOSTUNREACH");
}

// B11: a datagram that is not to be cut and is too long for the way gets the MTU of the way; cut, it
// arrives; and TCP is none the wiser.
#[test]
fn the_path_mtu_is_told() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let far = far(&lab, 1300);
    let pid = far.pid().to_string();
    let prelude = include_str!("prelude.py");
    let mut echo = lab.spawn(
        Place::Lan,
        &["nsenter", "-t", &pid, "-n", "python3", "-c", &format!("{prelude}\necho_udp(7)\n")],
    );
    assert_eq!(echo.line(secs(5)), "ready");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for (target, level, discover, want) in
        [(FAR4, "IPPROTO_IP", 10, 14), (FAR6, "IPPROTO_IPV6", 23, 24)]
    {
        // IP_MTU_DISCOVER (DO), then IP_MTU of the connected socket.
        let program = format!(
            "
s = udp(v6=':' in '{target}')
s.setsockopt(socket.{level}, {discover}, 2)
s.connect(('{target}', 7))
s.send(bytes(1400))
try:
    s.recv(2000)
except OSError as e:
    say(errno.errorcode[e.errno], s.getsockopt(socket.{level}, {want}))
try:
    s.send(bytes(1400))
except OSError as e:
    say(errno.errorcode[e.errno])
s.send(bytes(1200))
say(len(s.recv(2000)))
s.setsockopt(socket.{level}, {discover}, 1)
s.send(bytes(1400))
say(len(s.recv(2000)))
"
        );
        let said = lab.py(Place::In(&ctr), &program);
        assert_eq!(said.ok(), "EMSGSIZE 1300\nEMSGSIZE\n1200\n1400", "{target} {said}");
    }
    let ping = lab.run(Place::In(&ctr), &["ping", "-n", "-c2", "-W10", "-Mdo", "-s1400", FAR4]);
    assert!(
        ping.to_string().contains("mtu = 1300") || ping.to_string().contains("mtu=1300"),
        "{ping}"
    );
}

// The same where it is the host's own link that is narrow, of which its kernel alone tells: what the
// container sends, and what it answers at a published port.
#[test]
fn the_mtu_of_the_hosts_own_link_is_told() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_udp(7)");
    // One for each, as the kernel of the first knows of the way afterwards.
    let [ctr, published] = [lab.container(), lab.container()];
    let _net = lab.rnsnet(&ctr).start();
    let _other = lab.rnsnet(&published).with(&["-p", "7000:7000/udp"]).named("other").start();
    lab.sh(Place::Lan, "ip link set l0 mtu 1300").ok();
    lab.sh(Place::Host, "ip link set h0 mtu 1300").ok();
    let socket = "
def mtu_of(s):
    option = (socket.IPPROTO_IPV6, 24) if s.family == socket.AF_INET6 else (socket.IPPROTO_IP, 14)
    return s.getsockopt(*option)
def answered_or_told(s):
    try:
        return len(s.recv(2000))
    except OSError as e:
        return f'{errno.errorcode[e.errno]} {mtu_of(s)}' if e.errno else 'nothing'
";
    for (lan, host) in [(LAN4, HOST4), (LAN6, HOST6)] {
        let program = format!(
            "{socket}
s = udp(v6=':' in '{lan}')
s.connect(('{lan}', 7))
s.send(bytes(1400))
say(answered_or_told(s))
s.send(bytes(1400))
say(answered_or_told(s))
"
        );
        let said = lab.py(Place::In(&ctr), &program);
        assert_eq!(said.ok(), "EMSGSIZE 1300\n1400", "to {lan}");
        let server = format!(
            "{socket}
s = udp('::' if ':' in '{lan}' else '0.0.0.0', 7000, timeout=60)
say('ready')
_, peer = s.recvfrom(9)
s.connect(peer)
s.send(bytes(1400))
say(answered_or_told(s))
"
        );
        let mut server = lab.serve(Place::In(&published), &server);
        let client = format!("s = udp(v6=':' in '{host}'); s.sendto(b'?', ('{host}', 7000))");
        lab.py(Place::Lan, &client).ok();
        assert_eq!(server.line(secs(10)), "EMSGSIZE 1300", "from {lan}");
    }
}

// A service is told that its client is gone, as on a network without us.
#[test]
fn a_published_service_hears_of_a_client_that_is_gone() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "5300:53/udp"]).start();
    let mut service = lab.serve(
        Place::In(&ctr),
        "
s = udp('0.0.0.0', 53, timeout=60)
say('ready')
data, peer = s.recvfrom(99)
sys.stdin.readline()
s.connect(peer)
s.send(b'answer')
try:
    s.recv(99)
except OSError as e:
    say(errno.errorcode[e.errno])
",
    );
    lab.py(Place::Lan, "udp().sendto(b'ask', ('192.0.2.1', 5300))").ok();
    service.tell("the client is gone");
    assert_eq!(service.line(secs(5)), "ECONNREFUSED");
}

// Who writes to a socket that the container has closed hears of it from the host's kernel.
#[test]
fn a_peer_hears_that_the_containers_socket_is_closed() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let mut peer = lab.serve(
        Place::Lan,
        "
s = udp('192.0.2.9', 7, timeout=60)
say('ready')
data, who = s.recvfrom(99)
s.connect(who)
sys.stdin.readline()
for _ in range(300):
    try:
        s.send(b'late')
        s.settimeout(0.1)
        s.recv(99)
    except TimeoutError:
        pass
    except OSError as e:
        say(errno.errorcode[e.errno])
        break
",
    );
    lab.py(Place::In(&ctr), "udp().sendto(b'hello', ('192.0.2.9', 7))").ok();
    peer.tell("the socket is closed");
    assert_eq!(peer.line(secs(10)), "ECONNREFUSED");
}
