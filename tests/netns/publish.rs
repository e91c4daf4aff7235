//! Published ports, TCP and UDP. Rows C1 C2 C4 C8 C10 C11 C13.

use crate::eventually::{eventually, less_than, millis, one_of_three, secs};
use crate::lab::{GATEWAY4, GATEWAY6, GUEST4, GUEST6, HOST4, HOST6, LAN4, LAN6, Lab, Place};
use crate::tcp::{eight, exact};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Asks a `who` service by TCP and gives the address that it saw.
fn who_tcp(host: &str, port: u16) -> String {
    format!("say(read_all(tcp('{host}', {port})).decode().split()[0])")
}

/// Asks a `who` service by UDP, from a connected socket: it takes an answer from nowhere else.
fn who_udp(host: &str, port: u16) -> String {
    format!(
        "s = udp(v6=':' in '{host}'); s.connect(('{host}', {port})); s.send(b'?')\n\
         say(s.recv(99).decode().split()[0])"
    )
}

// C1 C10
#[test]
fn the_container_sees_each_tcp_clients_own_address() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    for (host, client) in [(HOST4, LAN4), (HOST6, LAN6)] {
        assert_eq!(lab.py(Place::Lan, &who_tcp(host, 8080)).ok(), client);
    }
    // With the real client of the document, too.
    let socat = lab.sh(Place::Lan, &format!("socat -t30 - TCP:{HOST4}:8080 </dev/null"));
    assert!(socat.ok().starts_with(LAN4), "{socat}");
}

// C11
#[test]
fn the_container_sees_each_udp_clients_own_address() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80/udp"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    for (host, client) in [(HOST4, LAN4), (HOST6, LAN6)] {
        assert_eq!(lab.py(Place::Lan, &who_udp(host, 8080)).ok(), client);
    }
}

// C11: the answer leaves from the address the client wrote to, on a host with several.
#[test]
fn a_udp_answer_leaves_from_the_published_address() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(
        Place::Host,
        "ip addr add 192.0.2.3/24 dev h0; ip addr add 2001:db8:5::3/64 dev h0 nodad",
    )
    .ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80/udp"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    for host in [HOST4, "192.0.2.3", HOST6, "2001:db8:5::3"] {
        let program = format!(
            "s = udp(v6=':' in '{host}'); s.sendto(b'?', ('{host}', 8080))\n\
             data, peer = s.recvfrom(99); say(data.decode().split()[0], *peer[:2])"
        );
        let client = if host.contains(':') { LAN6 } else { LAN4 };
        assert_eq!(lab.py(Place::Lan, &program).ok(), format!("{client} {host} 8080"));
    }
}

// C13
#[test]
fn a_loopback_client_is_seen_as_the_gateway() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80", "-p", "8080:80/udp"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    for (host, seen) in [("127.0.0.1", GATEWAY4), ("127.0.0.2", GATEWAY4), ("::1", GATEWAY6)] {
        assert_eq!(lab.py(Place::User, &who_tcp(host, 8080)).ok(), seen, "tcp {host}");
        assert_eq!(lab.py(Place::User, &who_udp(host, 8080)).ok(), seen, "udp {host}");
    }
}

// C13: a client on the host that uses the host's LAN address gets its answer as well.
#[test]
fn a_client_on_the_host_reaches_the_lan_address() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80", "-p", "8080:80/udp"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    for host in [HOST4, HOST6] {
        lab.py(Place::User, &who_tcp(host, 8080)).ok();
        lab.py(Place::User, &who_udp(host, 8080)).ok();
    }
}

// C2
#[test]
fn one_address_is_published_alone() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab
        .rnsnet(&ctr)
        .with(&["-p", "127.0.0.1:8080:80", "-p", "[::1]:8081:80"])
        .with(&["-p", "192.0.2.1:8082:80", "-p", "[2001:db8:5::1]:8083:80"])
        .start();
    let _web = lab.web_server(Place::In(&ctr), 80, "inside");
    let from = |place: Place<'_>, url: &str| {
        let curl = lab.run(place, &["curl", "-sS", "-m20", url]);
        (curl.code(), curl.stdout.trim_end().to_owned())
    };
    let (page, refused) = ((0, "inside".to_owned()), (7, String::new()));
    assert_eq!(from(Place::User, "http://127.0.0.1:8080/"), page);
    assert_eq!(from(Place::User, "http://[::1]:8081/"), page);
    assert_eq!(from(Place::Lan, "http://192.0.2.1:8082/"), page);
    assert_eq!(from(Place::Lan, "http://[2001:db8:5::1]:8083/"), page);
    assert_eq!(from(Place::Lan, "http://192.0.2.1:8080/"), refused);
    assert_eq!(from(Place::User, "http://[::1]:8080/"), refused);
    assert_eq!(from(Place::Lan, "http://[2001:db8:5::1]:8081/"), refused);
    assert_eq!(from(Place::User, "http://127.0.0.1:8081/"), refused);
    assert_eq!(from(Place::User, "http://127.0.0.1:8082/"), refused);
    assert_eq!(from(Place::User, "http://[::1]:8083/"), refused);
}

// C4: several at once, tcp and udp on one number, two numbers to one port.
#[test]
fn several_ports_are_published_at_once() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab
        .rnsnet(&ctr)
        .with(&["-p", "8080:80", "--publish", "8080:80/udp", "-p8081:81", "--publish=8082:80/tcp"])
        .start();
    let _who80 = lab.who(Place::In(&ctr), 80);
    let _who81 = lab.who(Place::In(&ctr), 81);
    for port in [8080, 8081, 8082] {
        assert_eq!(lab.py(Place::Lan, &who_tcp(HOST4, port)).ok(), LAN4, "{port}");
    }
    assert_eq!(lab.py(Place::Lan, &who_udp(HOST4, 8080)).ok(), LAN4);
    // udp was not asked for here.
    assert!(!lab.py(Place::Lan, &who_udp(HOST4, 8081)).status.success());
}

// B12 on a published port
#[test]
fn a_published_gibibyte_each_way_arrives_exactly() {
    let Some(lab) = Lab::alone() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "9000:9000"]).without_pcap().start();
    let _server = lab.serve(Place::In(&ctr), "exact_server(9000)");
    let program = format!("exact('{HOST4}', 9000, {GIB}, {GIB}, after=True)");
    lab.py_within(Place::Lan, &program, secs(120)).ok();
}

#[test]
fn published_streams_are_exact_at_every_mtu() {
    let Some(lab) = Lab::alone() else { return };
    for options in [["--mtu", "1280"], ["--mtu", "9000"], ["--mtu", "65520"], ["--offload", "off"]]
    {
        let ctr = lab.container();
        let net = lab.rnsnet(&ctr).with(&["-p", "9000:9000"]).with(&options).without_pcap();
        let _net = net.start();
        let _server = lab.serve(Place::In(&ctr), "exact_server(9000)");
        for (place, host) in [(Place::Lan, HOST4), (Place::Lan, HOST6), (Place::User, "127.0.0.1")]
        {
            let program = exact(host, 9000, 64 * MIB, 64 * MIB);
            let ran = lab.py_within(place, &program, secs(60));
            assert!(ran.status.success(), "{options:?} {host}: {ran}");
        }
    }
}

#[test]
fn eight_published_flows_at_once_stay_exact() {
    let Some(lab) = Lab::alone() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "9000:9000"]).without_pcap().start();
    let _server = lab.serve(Place::In(&ctr), "exact_server(9000)");
    lab.py_within(Place::Lan, &eight(HOST4, 9000), secs(90)).ok();
}

#[test]
fn iperf3_runs_to_a_published_server() {
    let Some(lab) = Lab::alone() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "5201:5201"]).without_pcap().start();
    for direction in ["", "-R"] {
        // A server that has just served may not be ready for the next one.
        let _server = lab.listen(Place::In(&ctr), &["iperf3", "-s", "-p", "5201"], 5201);
        lab.sh(Place::Lan, &format!("iperf3 -c {HOST4} -t 2 -f m {direction}")).ok();
    }
}

// B12 on a published port, both ways round
#[test]
fn a_published_half_close_is_carried_both_ways() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8007:7", "-p", "8008:8"]).start();
    let _last = lab.serve(Place::In(&ctr), "serve_each(half_close_last)");
    let mut first = lab.serve(Place::In(&ctr), "serve_each(half_close_first, 8)");
    for host in [HOST4, HOST6] {
        let client = lab.py(Place::Lan, &format!("half_close_first(tcp('{host}', 8007))"));
        assert_eq!(client.ok(), "answer: 100000 end", "{host}");
        lab.py(Place::Lan, &format!("half_close_last(tcp('{host}', 8008))")).ok();
        assert_eq!(first.line(secs(5)), "answer: 100000 end", "{host}");
    }
}

// B12 on a published port
#[test]
fn a_published_reset_is_carried_both_ways() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8007:7", "-p", "8008:8"]).start();
    let _resets = lab.serve(Place::In(&ctr), "serve_each(reset_after_a_byte)");
    let mut watches = lab.serve(Place::In(&ctr), "serve_each(echo_a_byte_and_watch, 8)");
    for host in [HOST4, HOST6] {
        let program = format!("s = tcp('{host}', 8007); s.sendall(b'x'); say(ending(s))");
        assert_eq!(lab.py(Place::Lan, &program).ok(), "ECONNRESET", "{host}");
        let program = format!("s = tcp('{host}', 8008); s.sendall(b'x'); s.recv(1); reset(s)");
        lab.py(Place::Lan, &program).ok();
        assert_eq!(watches.line(secs(5)), "ECONNRESET", "{host}");
    }
}

// The container's refusal is the client's.
#[test]
fn a_port_nobody_serves_resets_the_client() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    for host in [HOST4, HOST6] {
        let program = format!(
            "start = time.monotonic()\n\
             try: how = ending(tcp('{host}', 8080, 30))\n\
             except ConnectionError as e: how = errno.errorcode[e.errno]\n\
             say(how, ms(start))"
        );
        one_of_three(host, || {
            let client = lab.py(Place::Lan, &program);
            let (how, took) = client.ok().split_once(' ').expect("two words");
            assert!(["ECONNRESET", "ECONNREFUSED"].contains(&how), "{host}: {client}");
            less_than(millis(500), millis(took.parse().expect("milliseconds")))
        });
    }
}

// Whoever speaks first: many protocols wait for the server's greeting.
#[test]
fn a_server_in_the_container_may_speak_first() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "2525:25"]).start();
    let _server = lab.serve(
        Place::In(&ctr),
        "
def greet(s):
    s.sendall(b'220 hello\\n')
    s.sendall(b'you said ' + s.recv(99))
    s.close()
serve_each(greet, 25)
",
    );
    let program =
        format!("s = tcp('{HOST4}', 2525); say(s.recv(99)); s.sendall(b'x'); say(read_all(s))");
    assert_eq!(lab.py(Place::Lan, &program).ok(), "b'220 hello\\n'\nb'you said x'");
}

// Many clients at once and in turn; nothing is left behind.
#[test]
fn hundreds_of_clients_are_served() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    let program = format!(
        "
for _ in range(200):
    got = read_all(tcp('{HOST4}', 8080))
    assert got.startswith(b'{LAN4} '), got
open_ones = [tcp('{HOST4}', 8080) for _ in range(100)]
answers = [read_all(s) for s in open_ones]
bad = [a for a in answers if not a.startswith(b'{LAN4} ')]
say(len(answers) - len(bad), bad[:3])
"
    );
    assert_eq!(lab.py(Place::Lan, &program).ok(), "100 []");
}

// Connections that begin while others end; none gets another's bytes or loses its own.
#[test]
fn clients_of_many_threads_keep_their_own_bytes() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _echo = lab.serve(Place::In(&ctr), "echo_tcp(80)");
    for (place, host) in [(Place::Lan, HOST4), (Place::Lan, HOST6), (Place::User, "127.0.0.1")] {
        let tokens = lab.py(place, &format!("tokens('{host}', 8080, 8, 60)"));
        assert_eq!(tokens.ok(), "0 wrong", "{host}");
    }
    eventually(secs(5), "no flow is left", || {
        let dump = net.dump();
        if dump.contains("flows: 0 tcp") { Ok(()) } else { Err(dump) }
    });
}

#[test]
fn a_thousand_published_round_trips_see_no_delay() {
    let Some(lab) = Lab::alone() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _echo = lab.serve(Place::In(&ctr), "echo_tcp(80)");
    lab.round_trips(Place::Lan, HOST4, 8080);
}

// C4 C11
#[test]
fn published_datagrams_of_every_size_come_back_exactly() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80/udp"]).without_pcap().start();
    let _echo = lab.serve(Place::In(&ctr), "echo_udp(80)");
    for (place, host) in [(Place::Lan, HOST4), (Place::Lan, HOST6), (Place::User, "127.0.0.1")] {
        let sizes = "udp_exact('HOST', 8080, [1, 1000, 1400, 1472, 1473, 8000, 65507])";
        let sizes = lab.py(place, &sizes.replace("HOST", host));
        assert_eq!(sizes.ok(), "exact", "{host}");
        let many = lab.py(place, &format!("udp_many('{host}', 8080, 1000)"));
        assert_eq!(many.ok(), "1000", "{host}");
    }
}

// Two clients with the same port number on different machines are two flows.
#[test]
fn udp_clients_are_told_apart() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Lan, "ip addr add 192.0.2.10/24 dev l0").ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80/udp"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    let program = format!(
        "
socks = [udp(a, p) for a in ('192.0.2.9', '192.0.2.10') for p in (5000, 5001)]
for s in socks:
    s.sendto(b'?', ('{HOST4}', 8080))
for s in socks:
    own = s.getsockname()
    assert s.recv(99).decode().split() == [own[0], str(own[1])], own
say('apart')
"
    );
    assert_eq!(lab.py(Place::Lan, &program).ok(), "apart");
}

// C8
#[test]
fn a_taken_port_leaves_nothing_behind() {
    let Some(lab) = Lab::new() else { return };
    let _taken = lab.serve(Place::User, "l = listen(8080, '0.0.0.0'); forever()");
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    for order in [["8080:80", "8081:80"], ["8081:80", "8080:80"]] {
        let refused = lab.rnsnet_ends(&["-p", order[0], "-p", order[1], &pid]);
        assert_eq!(refused.code(), 1, "{refused}");
        let said = refused.stderr.to_lowercase();
        assert!(said.contains("8080") && said.contains("address already in use"), "{refused}");
        assert_eq!(lab.sockets(Place::User, 8081), "", "8081 stays unbound");
        let links = lab.sh(Place::In(&ctr), "ip -br link").ok().to_owned();
        assert_eq!(links.lines().count(), 1, "no TAP is left: {links}");
    }
}

// C8 for UDP, and for one address of two.
#[test]
fn a_taken_udp_port_is_refused_as_well() {
    let Some(lab) = Lab::new() else { return };
    let _taken = lab.serve(Place::User, "s = udp('127.0.0.1', 8080); forever()");
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let publish = ["-p", "8081:80/udp", "-p", "127.0.0.1:8080:80/udp", &pid];
    let refused = lab.rnsnet_ends(&publish);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("8080"), "{refused}");
    assert_eq!(lab.sockets(Place::User, 8081), "");
}

// C8: the same port asked for twice.
#[test]
fn the_same_port_twice_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let refused = lab.rnsnet_ends(&["-p", "8080:80", "-p", "8080:81", &ctr.pid().to_string()]);
    assert!([1, 2].contains(&refused.code()), "{refused}");
    assert!(refused.stderr.contains("8080"), "{refused}");
    assert_eq!(lab.sockets(Place::User, 8080), "");
}

// On a host without IPv6, "both families" is one.
#[test]
fn a_host_without_ipv6_still_publishes() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6").ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST4, 8080)).ok(), LAN4);
}

// As a network would tell a service that answers for itself.
#[test]
fn a_service_whose_answer_the_host_forbids_hears_of_it() {
    let Some(lab) = Lab::new() else { return };
    let rules =
        "table inet no { chain out { type filter hook output priority 0; udp sport 8080 drop; }; }";
    lab.sh(Place::Host, &format!("nft '{rules}'")).ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80/udp"]).start();
    let service = "
s = udp_any(80)
# IP_RECVERR and IPV6_RECVERR.
s.setsockopt(socket.IPPROTO_IP, 11, 1)
s.setsockopt(socket.IPPROTO_IPV6, 25, 1)
s.settimeout(60)
say('ready')
for _ in range(2):
    answer_udp(s, lambda data, peer: b'answer')
    try:
        s.recv(1)
    except OSError as e:
        say(errno.errorcode.get(e.errno, e))
";
    let mut service = lab.serve(Place::In(&ctr), service);
    // As icmp(7) has it: of IPv4 a host that cannot be reached.
    for (host, heard) in [(HOST4, "EHOSTUNREACH"), (HOST6, "EACCES")] {
        let ask = format!("udp(v6=':' in '{host}').sendto(b'?', ('{host}', 8080))");
        lab.py(Place::Lan, &ask).ok();
        assert_eq!(service.line(secs(20)), heard, "{host}");
    }
}

// As with an image that sets the sysctl.
#[test]
fn a_container_that_gives_ipv6_up_is_still_reached_by_clients_of_ipv6() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    assert_eq!(lab.py(Place::Lan, &who_tcp(HOST6, 8080)).ok(), LAN6);
    let sysctl = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    lab.sh(Place::In(&ctr), &format!("echo 1 > {sysctl}")).ok();
    let client = who_tcp(HOST6, 8080);
    assert_eq!(lab.py(Place::Lan, &client).ok(), GATEWAY4);
    one_of_three("the next one need not wait", || {
        let program = format!("start = time.monotonic(); {client}; say(ms(start))");
        let ran = lab.py(Place::Lan, &program);
        let (seen, took) = ran.ok().split_once('\n').expect("two lines");
        assert_eq!(seen, GATEWAY4);
        less_than(secs(1), millis(took.parse().expect("milliseconds")))
    });
    // It is found out when it is back.
    let back = format!(
        "echo 0 > {sysctl}; ip addr add {GUEST6}/64 dev eth0 nodad; \
         ip -6 route add default via {GATEWAY6}"
    );
    lab.sh(Place::In(&ctr), &back).ok();
    eventually(secs(20), "the container's IPv6 is used again", || {
        let seen = lab.py(Place::Lan, &who_tcp(HOST6, 8080)).ok().to_owned();
        if seen == LAN6 { Ok(()) } else { Err(seen) }
    });
}

// As over TCP: what listens on IPv4 alone is reached by clients of IPv6, at the first attempt.
#[test]
fn a_datagram_that_one_family_refuses_is_led_to_the_other() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "5353:53/udp"]).start();
    let _dns = lab.dnsmasq(Place::In(&ctr), GUEST4);
    for server in [HOST6, HOST4] {
        let line = format!("dig +short +tries=1 +time=15 -p 5353 @{server} a.test");
        assert_eq!(lab.sh(Place::Lan, &line).ok(), LAN4, "{server}");
    }
}

// Its kernel has the address, whatever its programs do, and IPv4 would be no quicker.
#[test]
fn a_container_that_is_slow_is_waited_for() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    let rules = "table ip6 no { chain in { type filter hook input priority 0; \
                 tcp dport 80 counter drop; }; }";
    lab.sh(Place::In(&ctr), &format!("nft '{rules}'")).ok();
    let patient = format!("say('ready')\n{}", who_tcp(HOST6, 8080).replace("8080)", "8080, 120)"));
    let mut client = lab.serve(Place::Lan, &patient);
    eventually(secs(30), "four SYNs, seven seconds", || {
        let counted = lab.sh(Place::In(&ctr), "nft list ruleset").ok().to_owned();
        let (_, packets) = counted.split_once("counter packets ").ok_or_else(|| counted.clone())?;
        let packets: u32 = packets.split(' ').next().unwrap_or_default().parse().unwrap_or(0);
        if packets >= 4 { Ok(()) } else { Err(counted.clone()) }
    });
    lab.sh(Place::In(&ctr), "nft delete table ip6 no").ok();
    assert_eq!(client.line(secs(60)), LAN6);
}
