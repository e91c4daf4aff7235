//! The host's network as it changes, and the way out that was asked for. Rows B7 B8 B9.

use crate::eventually::{promptly, secs};
use crate::exec::Proc;
use crate::lab::{Container, HOST4, HOST6, LAN4, LAN6, Lab, Place};

/// Asks the LAN's `who` service by TCP and UDP, and gives both addresses that it saw; each answer is
/// waited for so many seconds.
fn seen(lab: &Lab, ctr: &Container, host: &str, seconds: u32) -> Result<String, String> {
    let program = format!(
        "a = read_all(tcp('{host}', 80, {seconds})).decode().split()[0]\n\
         s = udp(v6=':' in '{host}', timeout={seconds}); s.sendto(b'?', ('{host}', 80))\n\
         say(a, s.recv(99).decode().split()[0])"
    );
    let ran = lab.py(Place::In(ctr), &program);
    if ran.status.success() { Ok(ran.ok().to_owned()) } else { Err(ran.to_string()) }
}

/// How a TCP connection and a datagram from the container to `host` fail.
fn failure(lab: &Lab, ctr: &Container, host: &str) -> String {
    let program = format!(
        "attempt('{host}', 80)\n\
         s = udp(v6=':' in '{host}')\n\
         # IP_RECVERR and IPV6_RECVERR: without, Linux keeps this error to itself.\n\
         s.setsockopt(*((41, 25, 1) if ':' in '{host}' else (0, 11, 1)))\n\
         s.connect(('{host}', 80))\n\
         try: s.send(b'?'); say(s.recv(99))\n\
         except OSError as e: say(errno.errorcode[e.errno] if e.errno else 'timeout')"
    );
    let said = lab.py(Place::In(ctr), &program);
    let words: Vec<&str> = said.ok().lines().filter_map(|line| line.split(' ').next()).collect();
    words.join(" ")
}

/// Waits up to a second until the LAN sees `expected` for both families.
#[track_caller]
fn within_a_second(lab: &Lab, ctr: &Container, host: &str, expected: &str) {
    promptly(secs(1), &format!("{host} sees {expected}"), || match seen(lab, ctr, host, 2) {
        Ok(seen) if seen == format!("{expected} {expected}") => Ok(()),
        Ok(seen) | Err(seen) => Err(seen),
    });
}

/// Gives the host a second link to a second LAN, `h1` to `l1`.
pub(crate) fn second_link(lab: &Lab) {
    let lan = lab.lan_pid();
    lab.sh(
        Place::Host,
        &format!(
            "ip link add h1 type veth peer name l1 netns {lan}
             ip addr add 198.51.100.1/24 dev h1; ip addr add 2001:db8:6::1/64 dev h1 nodad
             ip link set h1 up"
        ),
    )
    .ok();
    lab.sh(
        Place::Lan,
        "ip addr add 198.51.100.9/24 dev l1; ip addr add 2001:db8:6::9/64 dev l1 nodad
         ip link set l1 up",
    )
    .ok();
}

// B9: nothing at all at the start.
#[test]
fn a_host_without_a_network_gets_one_later() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "ip link set h0 down; ip addr flush dev h0").ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _who = lab.who(Place::Lan, 80);
    for host in [LAN4, LAN6] {
        // Told at once: both give up after a time and would say so.
        assert_eq!(failure(&lab, &ctr, host), "ENETUNREACH ENETUNREACH", "{host}");
    }
    lab.sh(Place::Host, "ip link set h0 up; ip addr add 192.0.2.1/24 dev h0").ok();
    within_a_second(&lab, &ctr, LAN4, HOST4);
    // IPv6 comes later still.
    lab.sh(Place::Host, "ip addr add 2001:db8:5::1/64 dev h0 nodad").ok();
    within_a_second(&lab, &ctr, LAN6, HOST6);
    let _inside = lab.who(Place::In(&ctr), 80);
    for (host, client) in [(HOST4, LAN4), (HOST6, LAN6)] {
        let program = format!("say(read_all(tcp('{host}', 8080, 20)).decode().split()[0])");
        assert_eq!(lab.py(Place::Lan, &program).ok(), client);
    }
}

// B8: so does a ping that never ends, whose socket has the address of its beginning.
#[test]
fn a_ping_goes_on_from_the_new_address() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let mut pings = [LAN4, LAN6].map(|host| lab.spawn(Place::In(&ctr), &["ping", "-i.2", host]));
    let replies = |ping: &mut Proc, wanted: usize| {
        let mut seen = 0;
        while seen < wanted {
            seen += usize::from(ping.line(secs(10)).contains("64 bytes from"));
        }
    };
    pings.iter_mut().for_each(|ping| replies(ping, 2));
    lab.sh(
        Place::Host,
        "ip addr flush dev h0
         ip addr add 192.0.2.7/24 dev h0; ip addr add 2001:db8:5::7/64 dev h0 nodad",
    )
    .ok();
    pings.iter_mut().for_each(|ping| replies(ping, 15));
}

// B8: another address, with nothing to restart; a socket of the container's that goes on talking
// is heard from the new one.
#[test]
fn a_new_address_is_used_at_once() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let _who = lab.who(Place::Lan, 80);
    let mut talker = lab.spawn_py(
        Place::In(&ctr),
        &format!(
            "
s4, s6 = udp(), udp(v6=True)
for line in sys.stdin:
    for s, host in ((s4, '{LAN4}'), (s6, '{LAN6}')):
        try: s.sendto(b'?', (host, 80)); say(s.recv(99).decode().split()[0])
        except OSError as e: say(type(e).__name__)
"
        ),
    );
    talker.tell("go");
    assert_eq!([talker.line(secs(10)), talker.line(secs(10))], [HOST4, HOST6]);
    let inside = || {
        let seen = lab.sh(Place::In(&ctr), "ip -br addr show scope global; ip route; ip -6 route");
        seen.ok().to_owned()
    };
    let before = inside();
    lab.sh(
        Place::Host,
        "ip addr flush dev h0
         ip addr add 192.0.2.7/24 dev h0; ip addr add 2001:db8:5::7/64 dev h0 nodad",
    )
    .ok();
    within_a_second(&lab, &ctr, LAN4, "192.0.2.7");
    within_a_second(&lab, &ctr, LAN6, "2001:db8:5::7");
    talker.tell("go");
    assert_eq!([talker.line(secs(10)), talker.line(secs(10))], ["192.0.2.7", "2001:db8:5::7"]);
    assert_eq!(inside(), before, "the container's own addresses and routes are what they were");
}

// B8: the default route moves to another link, as when a VPN comes up and goes.
#[test]
fn a_new_default_route_is_used_at_once() {
    let Some(lab) = Lab::new() else { return };
    second_link(&lab);
    lab.sh(Place::Lan, "ip addr add 203.0.113.9/32 dev lo; ip addr add 2001:db8:7::9/128 dev lo")
        .ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let _who = lab.who(Place::Lan, 80);
    let (far4, far6) = ("203.0.113.9", "2001:db8:7::9");
    assert_eq!(failure(&lab, &ctr, far4), "ENETUNREACH ENETUNREACH");
    let ways = [
        ("192.0.2.9", "2001:db8:5::9", HOST4, HOST6),
        ("198.51.100.9", "2001:db8:6::9", "198.51.100.1", "2001:db8:6::1"),
        ("192.0.2.9", "2001:db8:5::9", HOST4, HOST6),
    ];
    for (via4, via6, seen4, seen6) in ways {
        lab.sh(
            Place::Host,
            &format!("ip route replace default via {via4}; ip -6 route replace default via {via6}"),
        )
        .ok();
        within_a_second(&lab, &ctr, far4, seen4);
        within_a_second(&lab, &ctr, far6, seen6);
    }
}

// B7: two addresses, one of which is asked for, and neither need be there.
#[test]
fn the_outbound_address_is_looked_for_when_it_is_used() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let options = ["--outbound-addr", "192.0.2.50", "--outbound-addr", "2001:db8:5::50"];
    let net = lab.rnsnet(&ctr).with(&options).with(&["--host-access", "5140"]).start();
    // A slip of the pen is seen at once.
    for missing in ["192.0.2.50", "2001:db8:5::50"] {
        let told = format!("warn: the container goes out by {missing}, which is not there yet");
        assert!(net.log().contains(&told), "{}", net.log());
    }
    let _who = lab.who(Place::Lan, 80);
    let _log = lab.who(Place::User, 5140);
    for _ in 0..2 {
        for host in [LAN4, LAN6] {
            assert_eq!(failure(&lab, &ctr, host), "ENETUNREACH ENETUNREACH", "{host}");
        }
        lab.sh(
            Place::Host,
            "ip addr add 192.0.2.50/24 dev h0; ip addr add 2001:db8:5::50/64 dev h0 nodad",
        )
        .ok();
        within_a_second(&lab, &ctr, LAN4, "192.0.2.50");
        within_a_second(&lab, &ctr, LAN6, "2001:db8:5::50");
        // Services on the loopback are not outbound.
        let local = "say(read_all(tcp('10.0.2.2', 5140, 20)).decode().split()[0])\n\
                     s = udp(); s.sendto(b'?', ('10.0.2.2', 5140))\n\
                     say(s.recv(99).decode().split()[0])";
        assert_eq!(lab.py(Place::In(&ctr), local).ok(), "127.0.0.1\n127.0.0.1");
        lab.sh(
            Place::Host,
            "ip addr del 192.0.2.50/24 dev h0; ip addr del 2001:db8:5::50/64 dev h0",
        )
        .ok();
    }
    drop(net);
}

// B7: each container has its own, and each named network.
#[test]
fn containers_go_out_by_addresses_of_their_own() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "ip addr add 192.0.2.3/24 dev h0").ok();
    let _who = lab.who(Place::Lan, 80);
    let (one, two) = (lab.container(), lab.container());
    let _one = lab.rnsnet(&one).with(&["--outbound-addr", "192.0.2.3"]).named("one").start();
    let _two = lab.rnsnet(&two).with(&["--outbound-addr", HOST4]).named("two").start();
    lab.rn("network create --opt outbound_addr4=192.0.2.3 n1");
    let three = lab.container();
    lab.rn(&format!("-d --network n1 {}", three.pid()));
    for (ctr, address) in [(&one, "192.0.2.3"), (&two, HOST4), (&three, "192.0.2.3")] {
        assert_eq!(seen(&lab, ctr, LAN4, 30).as_deref(), Ok(&*format!("{address} {address}")));
    }
}

// B7: an interface that is not the way of the default route, comes late, goes, and comes again
// under another number; a socket that goes on talking follows.
#[test]
fn the_outbound_interface_may_come_and_go() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Lan, "ip addr add 203.0.113.9/32 dev lo; ip addr add 2001:db8:7::9/128 dev lo")
        .ok();
    lab.sh(
        Place::Host,
        "ip route add default via 192.0.2.9; ip -6 route add default via 2001:db8:5::9",
    )
    .ok();
    let ctr = lab.container();
    let options = ["--outbound-if", "h1", "--host-access", "5140"];
    let _net = lab.rnsnet(&ctr).with(&options).start();
    let _who = lab.who(Place::Lan, 80);
    let _log = lab.who(Place::User, 5140);
    let (far4, far6) = ("203.0.113.9", "2001:db8:7::9");
    let mut talker = lab.spawn_py(
        Place::In(&ctr),
        &format!(
            "
s4, s6 = udp(), udp(v6=True)
for line in sys.stdin:
    for s, host in ((s4, '{far4}'), (s6, '{far6}')):
        try: s.sendto(b'?', (host, 80)); say(s.recv(99).decode().split()[0])
        except OSError as e: say(type(e).__name__)
"
        ),
    );
    for _ in 0..2 {
        for host in [far4, far6] {
            assert_eq!(failure(&lab, &ctr, host), "ENETUNREACH ENETUNREACH", "{host}");
        }
        second_link(&lab);
        lab.sh(
            Place::Host,
            "ip route add default via 198.51.100.9 dev h1 metric 4000
             ip -6 route add default via 2001:db8:6::9 dev h1 metric 4000",
        )
        .ok();
        within_a_second(&lab, &ctr, far4, "198.51.100.1");
        within_a_second(&lab, &ctr, far6, "2001:db8:6::1");
        talker.tell("go");
        assert_eq!(
            [talker.line(secs(10)), talker.line(secs(10))],
            ["198.51.100.1", "2001:db8:6::1"]
        );
        let local = "say(read_all(tcp('10.0.2.2', 5140, 20)).decode().split()[0])\n\
                     s = udp(); s.sendto(b'?', ('10.0.2.2', 5140))\n\
                     say(s.recv(99).decode().split()[0])";
        assert_eq!(lab.py(Place::In(&ctr), local).ok(), "127.0.0.1\n127.0.0.1");
        lab.sh(Place::Host, "ip link del h1").ok();
    }
}
