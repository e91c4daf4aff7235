//! Whom the DNS forwarder asks, and what it does when they do not answer. Rows D2, D3, D17-D19.

use std::fs;

use crate::eventually::{eventually, less_than, millis, one_of_three, promptly, secs};
use crate::exec::Proc;
use crate::lab::{Container, DNS4, HOST4, LAN4, Lab, Place, arrivals};
use crate::networks::query_time;

/// Another machine's address on the LAN.
const OTHER4: &str = "192.0.2.10";

impl Lab {
    /// dnsmasq at an address of the LAN, with more records than the usual.
    #[track_caller]
    fn lan_dns(&self, address: &str, more: &[&str]) -> Proc {
        let add = format!("ip addr replace {address}/24 dev l0");
        self.sh(Place::Lan, &add).ok();
        let listen = format!("--listen-address={address}");
        self.dnsmasq_with(Place::Lan, &[&[listen.as_str()], more].concat(), 53)
    }

    /// The LAN machine's link-local address, once it is sure that nobody else has it.
    #[track_caller]
    fn link_local(&self) -> String {
        eventually(secs(5), "the LAN machine has a link-local address", || {
            let shown = self.sh(Place::Lan, "ip -6 -br addr show dev l0 scope link -tentative");
            let address = shown.ok().split_whitespace().find(|word| word.starts_with("fe80"));
            let address = address.and_then(|word| word.split('/').next()).map(str::to_owned);
            address.ok_or_else(|| shown.stdout.clone())
        })
    }

    /// What `dig +short` says in the container; a single try.
    #[track_caller]
    fn dig(&self, container: &Container, question: &str) -> String {
        let line = format!("dig +short +tries=1 +time=15 @{DNS4} {question}");
        self.sh(Place::In(container), &line).stdout.trim_end().to_owned()
    }
}

/// A counter in the dump.
#[track_caller]
fn counter(dump: &str, name: &str) -> u64 {
    let line = dump.lines().find_map(|line| line.split_once(&format!("{name} ")));
    let Some((_, value)) = line else { panic!("no counter {name} in {dump}") };
    value.trim().parse().unwrap_or_else(|error| panic!("{name} {value:?}: {error}"))
}

// D2
#[test]
fn a_dead_server_costs_one_second_once() {
    let Some(lab) = Lab::new() else { return };
    lab.set_resolv_conf(&format!("nameserver 192.0.2.77\nnameserver {LAN4}\n"));
    let _dns = lab.dns_server(LAN4);
    let program = format!(
        "
def ask():
    s, start = udp(timeout=30), time.monotonic()
    s.sendto(b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\x01a\\x04test\\0\\0\\1\\0\\1', ('{DNS4}', 53))
    assert s.recv(600).endswith(bytes([192, 0, 2, 9]))
    return ms(start)
say(ask(), min(ask() for _ in range(20)))
"
    );
    one_of_three("the first answer within 2 s, others within a tenth of one", || {
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).start();
        let said = lab.py(Place::In(&ctr), &program);
        let times: Vec<u32> =
            said.stdout.split_whitespace().filter_map(|ms| ms.parse().ok()).collect();
        match times[..] {
            [..2_000, ..100] => Ok(()),
            _ => Err(format!("not milliseconds, or too many: {said}")),
        }
    });
}

// D2 D17: for clients over TCP too, whatever is wrong with the first server.
#[test]
fn a_server_that_says_nothing_is_left_for_the_next() {
    let Some(lab) = Lab::new() else { return };
    lab.set_resolv_conf(&format!("nameserver {HOST4}\nnameserver {LAN4}\n"));
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let line = format!("dig +short +tries=1 +time=15 +tcp @{DNS4} a.test");
    // A server that the machine keeps from answering is left, too.
    one_of_three("the silent one is asked once", || {
        let mut silent = lab.counter(Place::Host, &[53]);
        let _net = lab.rnsnet(&ctr).start();
        let mut seen = Vec::new();
        // The second time the other one is the first.
        for _ in 0..2 {
            assert_eq!(lab.sh(Place::In(&ctr), &line).ok(), LAN4);
            seen.push(arrivals(&mut silent));
        }
        if seen == ["0 connections 1 datagrams"; 2] { Ok(()) } else { Err(seen.join(", ")) }
    });
    let _net = lab.rnsnet(&ctr).start();
    // What a datagram has no room for is had over TCP.
    let big = lab.sh(Place::In(&ctr), &line.replace("a.test", "big.test TXT"));
    assert!(big.ok().len() > 3000, "{big}");
}

// D3
#[test]
fn a_changed_resolv_conf_counts_at_once() {
    let Some(lab) = Lab::new() else { return };
    lab.replaceable_etc();
    let _first = lab.lan_dns(LAN4, &["--host-record=who.test,192.0.2.101"]);
    let _second = lab.lan_dns(OTHER4, &["--host-record=who.test,192.0.2.102"]);
    let link_local = lab.link_local();
    let program = format!(
        "
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(('{link_local}', 53, 0, socket.if_nametoindex('l0')))
def serve():
    while True:
        data, peer = s.recvfrom(600)
        s.sendto(data[:2] + b'\\x85\\x80\\0\\1\\0\\1\\0\\0\\0\\0' + data[12:26]
                 + b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4\\xc0\\0\\2\\x67', peer)
thread(serve)
forever()
"
    );
    let _third = lab.serve(Place::Lan, &program);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    assert_eq!(lab.dig(&ctr, "who.test"), "192.0.2.101");
    let changes = [
        (
            "192.0.2.102",
            format!("echo nameserver {OTHER4} > /etc/new; mv /etc/new /etc/resolv.conf"),
        ),
        ("192.0.2.101", format!("echo nameserver {LAN4} > /etc/resolv.conf")),
        // Its interface is looked up by a process that is locked down by now.
        ("192.0.2.103", format!("echo nameserver {link_local}%h0 > /etc/resolv.conf")),
        (
            "192.0.2.102",
            format!("rm /etc/resolv.conf; echo nameserver {OTHER4} > /etc/resolv.conf"),
        ),
    ];
    for (answer, change) in changes {
        lab.sh(Place::Host, &change).ok();
        promptly(secs(1), &format!("{answer} after {change}"), || {
            let seen = lab.dig(&ctr, "who.test");
            if seen == answer { Ok(()) } else { Err(seen) }
        });
    }
}

// D2: IPv6 servers, and one that is known on its link alone.
#[test]
fn servers_may_have_ipv6_addresses_and_zones() {
    let Some(lab) = Lab::new() else { return };
    // First: dnsmasq listens there once it may.
    let link_local = lab.link_local();
    let _dns = lab.dnsmasq_with(Place::Lan, &["--interface=l0"], 53);
    for server in ["2001:db8:5::9".to_owned(), format!("{link_local}%h0")] {
        lab.set_resolv_conf(&format!("nameserver {server}\n"));
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).named("file").start();
        for transport in ["+notcp", "+tcp"] {
            assert_eq!(lab.dig(&ctr, &format!("{transport} a.test")), LAN4, "{server} {transport}");
        }
        lab.set_resolv_conf("nameserver 192.0.2.77\n");
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).with(&["--dns", &server]).named("option").start();
        assert_eq!(lab.dig(&ctr, "a.test"), LAN4, "--dns {server}");
    }
}

/// Whether the container's next questions are answered, the last of them within five seconds.
#[track_caller]
fn is_answered(lab: &Lab, container: &Container, when: &str) {
    eventually(secs(5), &format!("an answer {when}"), || {
        let seen = lab.dig(container, "a.test");
        if seen == LAN4 { Ok(()) } else { Err(seen) }
    });
}

// A modem that is pulled out and put in again has another index, and nobody touches resolv.conf.
#[test]
fn a_server_on_an_interface_that_comes_and_goes_is_asked_again() {
    let Some(lab) = Lab::new() else { return };
    let lan = lab.lan_pid();
    let plug = || {
        let host = format!(
            "ip link add h1 type veth peer name l1 netns {lan}
             ip link set h1 up; ip addr add fe80::1/64 dev h1 nodad"
        );
        lab.sh(Place::Host, &host).ok();
        lab.sh(Place::Lan, "ip link set l1 up; ip addr add fe80::9/64 dev l1 nodad").ok();
    };
    let unplug = || lab.sh(Place::Host, "ip link del h1");
    let program = "
s = udp_any(53)
def serve():
    while True:
        answer_udp(s, lambda data, _: data[:2] + b'\\x85\\x80\\0\\1\\0\\1\\0\\0\\0\\0' + data[12:24]
                   + b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4\\xc0\\0\\2\\x09')
thread(serve)
forever()
";
    let _dns = lab.serve(Place::Lan, program);
    lab.set_resolv_conf("nameserver fe80::9%h1\n");
    let by_file = lab.container();
    let _file = lab.rnsnet(&by_file).named("file").start();
    assert_eq!(lab.dig(&by_file, "a.test"), "");
    plug();
    is_answered(&lab, &by_file, "once there is the interface");
    let by_option = lab.container();
    let _option = lab.rnsnet(&by_option).with(&["--dns", "fe80::9%h1"]).named("option").start();
    is_answered(&lab, &by_option, "at the start");
    let by_route = lab.container();
    let route = ["--dns", "192.0.2.77", "--dns-route", "test=fe80::9%h1"];
    let _route = lab.rnsnet(&by_route).with(&route).named("route").start();
    is_answered(&lab, &by_route, "of its own domain's server");
    unplug().ok();
    for container in [&by_option, &by_route] {
        assert_eq!(lab.dig(container, "a.test"), "");
    }
    plug();
    is_answered(&lab, &by_file, "once it is there again");
    is_answered(&lab, &by_option, "once it is there again");
    is_answered(&lab, &by_route, "once it is there again");
}

// At boot rnsnet may be there before whoever writes the file, and the directory that a link in /etc
// leads to.
#[test]
fn a_resolv_conf_whose_directory_comes_later_is_read() {
    let Some(lab) = Lab::new() else { return };
    lab.replaceable_etc();
    lab.sh(Place::Host, "ln -sf late/resolv.conf /etc/resolv.conf").ok();
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    assert_eq!(lab.dig(&ctr, "a.test"), "");
    let write = format!("mkdir /etc/late; echo nameserver {LAN4} > /etc/late/resolv.conf");
    lab.sh(Place::Host, &write).ok();
    is_answered(&lab, &ctr, "once there is the file");
}

#[test]
fn a_server_on_an_interface_that_is_not_there_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let ran = lab.rnsnet_ends(&["--dns", "fe80::1%gone0", &ctr.pid().to_string()]);
    assert_eq!(ran.code(), 1, "{ran}");
    assert!(ran.stderr.contains("cannot find interface gone0 of DNS server fe80::1"), "{ran}");
}

// D11
#[test]
fn servers_may_be_named_with_their_port() {
    let Some(lab) = Lab::new() else { return };
    lab.set_resolv_conf("nameserver 192.0.2.77\n");
    let _dns = lab.dnsmasq_with(Place::Lan, &["--listen-address=192.0.2.9"], 5353);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--dns", "192.0.2.9:5353"]).start();
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(lab.dig(&ctr, &format!("{transport} a.test")), LAN4, "{transport}");
    }
}

// D19
#[test]
fn a_domain_s_names_are_asked_for_elsewhere() {
    let Some(lab) = Lab::new() else { return };
    let records = |last: u8| {
        ["x.corp.test", "corp.test", "y.test"]
            .map(|name| format!("--host-record={name},192.0.2.{last}"))
            .to_vec()
    };
    let (first, second) = (records(101), records(102));
    let of = |records: &[String]| -> Vec<String> { records.to_vec() };
    let (first, second) = (of(&first), of(&second));
    let _first = lab.lan_dns(LAN4, &first.iter().map(String::as_str).collect::<Vec<_>>());
    let _second = lab.lan_dns(OTHER4, &second.iter().map(String::as_str).collect::<Vec<_>>());
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--dns-route", "corp.test=192.0.2.10"]).start();
    for transport in ["+notcp", "+tcp"] {
        for (name, answer) in [
            ("x.corp.test", "192.0.2.102"),
            ("CORP.test", "192.0.2.102"),
            ("y.test", "192.0.2.101"),
        ] {
            assert_eq!(lab.dig(&ctr, &format!("{transport} {name}")), answer, "{name} {transport}");
        }
    }
}

// D18
#[test]
fn what_was_answered_is_kept_and_serves_when_the_server_is_gone() {
    let Some(lab) = Lab::new() else { return };
    let dns = lab.lan_dns(LAN4, &["--local-ttl=1"]);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    assert_eq!(lab.dig(&ctr, "a.test"), LAN4);
    drop(dns);
    let answer = eventually(secs(5), "the answer is stale", || {
        let line = format!("dig +noall +answer +comments +tries=1 +time=15 @{DNS4} a.test");
        let seen = lab.sh(Place::In(&ctr), &line).ok().to_owned();
        // Kept or stale, the client is never without an answer.
        assert!(seen.contains(LAN4), "{seen}");
        let counted = counter(&net.dump(), "dns_stale_total");
        if counted > 0 { Ok(seen) } else { Err(seen) }
    });
    let record = answer.lines().find(|line| line.starts_with("a.test.")).unwrap_or_default();
    let words: Vec<&str> = record.split_whitespace().collect();
    assert_eq!(words, ["a.test.", "30", "IN", "A", LAN4], "{answer}");
    assert!(answer.contains("EDE: 3"), "{answer}");
    assert_eq!(counter(&net.dump(), "dns_stale_total"), 1);
    // What was never asked has no answer.
    let line = format!("dig +tries=1 +time=15 @{DNS4} six.test");
    assert!(lab.sh(Place::In(&ctr), &line).ok().contains("status: SERVFAIL"));
}

// D18
#[test]
fn a_kept_answer_does_not_trouble_the_server() {
    let Some(lab) = Lab::new() else { return };
    let log = lab.dir().join("dnsmasq.log").display().to_string();
    let log_to = format!("--log-facility={log}");
    let _dns = lab.lan_dns(LAN4, &["--local-ttl=600", "--log-queries", &log_to]);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    let asked = |behind: &str| {
        // Another name, behind what the server was asked until now: again where it was slow.
        lab.dig(&ctr, &format!("AAAA {behind}"));
        let log = fs::read_to_string(&log).expect("dnsmasq writes its log");
        log.matches("query[A] ").count()
    };
    assert_eq!(lab.dig(&ctr, "a.test"), LAN4);
    let before = asked("one.test");
    assert_eq!(lab.dig(&ctr, "+tcp A.test"), LAN4);
    for _ in 0..4 {
        assert_eq!(lab.dig(&ctr, "a.test"), LAN4);
        assert_eq!(lab.dig(&ctr, "+tcp A.test"), LAN4);
    }
    assert_eq!(counter(&net.dump(), "dns_cached"), 9);
    assert!(before > 0, "it writes what it is asked");
    assert_eq!(asked("two.test"), before);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["--dns-cache", "0"]).named("without").start();
    for _ in 0..3 {
        assert_eq!(lab.dig(&ctr, "a.test"), LAN4);
    }
    assert_eq!(counter(&net.dump(), "dns_cached"), 0);
}

// D17: a server that answers nothing before all are there.
#[test]
fn a_thousand_queries_in_flight_are_all_answered() {
    let Some(lab) = Lab::alone() else { return };
    let server = format!(
        "
s = udp('{LAN4}', 53, timeout=None)
def answer(data, peer):
    s.sendto(data[:2] + b'\\x85\\x80\\0\\1\\0\\1\\0\\0\\0\\0' + data[12:]
             + b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4' + data[13:17], peer)
def serve():
    waiting = dict()
    while len(waiting) < 1000:
        data, peer = s.recvfrom(600)
        waiting[data[12:]] = data, peer
    for data, peer in waiting.values():
        answer(data, peer)
    # What is asked again: a burst beyond a socket's buffer is lost.
    while True:
        answer(*s.recvfrom(600))
thread(serve)
forever()
"
    );
    let _server = lab.serve(Place::Lan, &server);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    // Room for all of them, should rnsnet be kept from reading: nobody asks twice.
    lab.sh(Place::In(&ctr), "ip link set eth0 txqueuelen 2000").ok();
    let client = format!(
        "
# The answers to 250 have room in the buffer of one.
asking, good = [udp(timeout=20) for _ in range(4)], set()
for n in range(1000):
    name = f'{{n:04}}'.encode()
    asking[n // 250].sendto(struct.pack('!HHHHHH', n, 0x0100, 1, 0, 0, 0) + b'\\4' + name + b'\\4test\\0\\0\\1\\0\\1',
             ('{DNS4}', 53))
    # As a program does that has other work.
    if n % 50 == 49: time.sleep(0.005)
try:
    for number, s in enumerate(asking):
        while len(good) < 250 * (number + 1):
            data = s.recv(600)
            n = struct.unpack('!H', data[:2])[0]
            if data[-4:] == f'{{n:04}}'.encode(): good.add(n)
except TimeoutError:
    pass
say(len(good))
"
    );
    assert_eq!(lab.py(Place::In(&ctr), &client).ok(), "1000", "{}", net.dump());
}

// D17: dnsmasq serves twenty connections at once; what asks it must not take one for each query.
#[test]
fn hundreds_of_queries_over_one_connection_are_all_answered() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.lan_dns(LAN4, &["--address=/test/192.0.2.77"]);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    let client = format!(
        "
s, good = tcp('{DNS4}', 53), set()
def ask():
    for n in range(600):
        name = f'{{n:04}}'.encode()
        message = struct.pack('!HHHHHH', n, 0x0100, 1, 0, 0, 0) + b'\\4' + name + b'\\4test\\0\\0\\1\\0\\1'
        s.sendall(struct.pack('!H', len(message)) + message)
thread(ask)
while len(good) < 600:
    head = bytearray(2)
    recv_full(s, head)
    data = bytearray(struct.unpack('!H', head)[0])
    if recv_full(s, data) == 0:
        break
    if data[3] & 15 == 0 and data[-4:] == bytes((192, 0, 2, 77)):
        good.add(data[:2].hex())
say(len(good))
"
    );
    assert_eq!(lab.py(Place::In(&ctr), &client).ok(), "600", "{}", net.dump());
}

// D17: CVE-2024-8418 was one client that said nothing.
#[test]
fn idle_tcp_clients_delay_nobody() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = format!(
        "
idle = [tcp('{DNS4}', 53) for _ in range(50)]
for s in idle[:25]:
    s.sendall(b'\\0\\x1d\\0')
forever()
"
    );
    let _idle = lab.serve(Place::In(&ctr), &program);
    for transport in ["+notcp", "+tcp"] {
        one_of_three(transport, || {
            let line = "dig +noall +answer +stats +tries=1 +time=15";
            let dig = lab.sh(Place::In(&ctr), &format!("{line} {transport} @{DNS4} a.test"));
            assert!(dig.ok().contains(LAN4), "{dig}");
            less_than(secs(1), millis(query_time(dig.ok()).into()))
        });
    }
}

// D17: a client's own mixture of case comes back, from the server and from what was kept.
#[test]
fn the_case_of_a_name_is_the_client_s() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.lan_dns(LAN4, &["--local-ttl=600"]);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for name in ["a.test", "A.tEsT", "a.TEST"] {
        let line = format!("dig +tries=1 +time=15 @{DNS4} {name}");
        let dig = lab.sh(Place::In(&ctr), &line);
        assert!(dig.ok().contains(&format!("\n;{name}.")), "{dig}");
        assert!(dig.ok().contains(LAN4), "{dig}");
    }
}
