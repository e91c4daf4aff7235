//! The DNS forwarder at the network's .3. Row D1.

use crate::eventually::{eventually, secs};
use crate::exec::Proc;
use crate::lab::{DNS4, DNS6, GUEST4, LAN4, LAN6, Lab, Place};

impl Lab {
    /// dnsmasq with the zone of these tests; at a loopback address on the host, else on the LAN.
    #[track_caller]
    pub(crate) fn dns_server(&self, address: &str) -> Proc {
        let place = if address.starts_with("127.") { Place::Host } else { Place::Lan };
        self.dnsmasq(place, address)
    }

    /// dnsmasq at any place. It knows `a.test`, `six.test` and `big.test` (3000 bytes of text).
    #[track_caller]
    pub(crate) fn dnsmasq(&self, place: Place<'_>, address: &str) -> Proc {
        let listen = format!("--listen-address={address}");
        self.dnsmasq_with(place, &[&listen], 53)
    }

    /// The same with options of its own, among them where it listens.
    #[track_caller]
    pub(crate) fn dnsmasq_with(&self, place: Place<'_>, options: &[&str], port: u16) -> Proc {
        let text = vec!["x".repeat(250); 12].join(",");
        let (big, at) = (format!("--txt-record=big.test,{text}"), format!("--port={port}"));
        let argv = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--group=",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--local=/test/",
            "--host-record=a.test,192.0.2.9",
            "--host-record=six.test,2001:db8:5::9",
            &at,
            &big,
        ];
        // By both transports, each for itself, beside another that is there already.
        let count = |kind: &str| self.sockets(place, port).matches(kind).count();
        let before = [count("LISTEN"), count("UNCONN")];
        let process = self.listen(place, &[&argv[..], options].concat(), port);
        eventually(secs(5), "dnsmasq listens by UDP and TCP", || {
            let now = [count("LISTEN"), count("UNCONN")];
            let both = now.iter().zip(&before).all(|(now, before)| now > before);
            if both { Ok(()) } else { Err(self.sockets(place, port)) }
        });
        process
    }
}

// D1
#[test]
fn names_resolve_over_udp_and_tcp_and_both_families() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for server in [DNS4, DNS6] {
        for transport in ["+notcp", "+tcp"] {
            let dig = |rest: &str| {
                let line = format!("dig +short +tries=1 +time=15 {transport} @{server} {rest}");
                lab.sh(Place::In(&ctr), &line).ok().to_owned()
            };
            assert_eq!(dig("a.test"), LAN4, "{transport} @{server}");
            assert_eq!(dig("AAAA six.test"), LAN6, "{transport} @{server}");
        }
    }
}

// D1: what the server says is passed on, also when it says no.
#[test]
fn a_name_that_does_not_exist_is_nxdomain() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let dig = lab.sh(Place::In(&ctr), &format!("dig +tries=1 +time=15 @{DNS4} nobody.test"));
    assert!(dig.ok().contains("status: NXDOMAIN"), "{dig}");
    let dig = lab.sh(Place::In(&ctr), &format!("dig +tries=1 +time=15 @{DNS4} AAAA a.test"));
    assert!(dig.ok().contains("status: NOERROR") && dig.ok().contains("ANSWER: 0"), "{dig}");
}

// D1: an answer beyond the client's limit is marked, and complete over TCP.
#[test]
fn a_big_answer_arrives_whole() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for how in ["+tcp", "+bufsize=512", "+bufsize=4096"] {
        let line = format!("dig +short +tries=1 +time=15 {how} @{DNS4} TXT big.test");
        let dig = lab.sh(Place::In(&ctr), &line);
        assert_eq!(dig.ok().matches('x').count(), 3000, "{how}: {dig}");
    }
    let line = format!("dig +tries=1 +time=15 +ignore +bufsize=512 @{DNS4} TXT big.test");
    let truncated = lab.sh(Place::In(&ctr), &line);
    assert!(truncated.ok().contains(" tc "), "{truncated}");
}

// D1: a resolver that listens on the host's loopback, as systemd-resolved does.
#[test]
fn a_resolver_on_the_hosts_loopback_is_used() {
    let Some(lab) = Lab::new() else { return };
    lab.set_resolv_conf("# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n");
    let _dns = lab.dns_server("127.0.0.53");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for transport in ["+notcp", "+tcp"] {
        let line = format!("dig +short +tries=1 +time=15 {transport} @{DNS4} a.test");
        assert_eq!(lab.sh(Place::In(&ctr), &line).ok(), LAN4, "{transport}");
    }
}

// D1
#[test]
fn the_second_server_answers_when_the_first_is_dead() {
    let Some(lab) = Lab::new() else { return };
    // The first does not exist, the second refuses.
    for dead in ["192.0.2.77", "192.0.2.1"] {
        lab.set_resolv_conf(&format!("nameserver {dead}\nnameserver {LAN4}\n"));
        let _dns = lab.dns_server(LAN4);
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).start();
        for transport in ["+notcp", "+tcp"] {
            // One try: no repetition by the client helps.
            let line = format!("dig +short +tries=1 +time=15 {transport} @{DNS4} a.test");
            let dig = lab.sh(Place::In(&ctr), &line);
            assert_eq!(dig.ok(), LAN4, "{dead} {transport}: {dig}");
        }
    }
}

// D1: a host whose only server, or whose first one, has an IPv6 address.
#[test]
fn a_server_with_an_ipv6_address_is_asked() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN6);
    for servers in
        [format!("nameserver {LAN6}\n"), format!("nameserver {LAN6}\nnameserver {LAN4}\n")]
    {
        lab.set_resolv_conf(&servers);
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).start();
        for transport in ["+notcp", "+tcp"] {
            let line = format!("dig +short +tries=1 +time=15 {transport} @{DNS4} a.test");
            let dig = lab.sh(Place::In(&ctr), &line);
            assert_eq!(dig.ok(), LAN4, "{servers} {transport}: {dig}");
        }
    }
}

// D1: many questions at once, each answered with its own id.
#[test]
fn a_hundred_questions_at_once_are_all_answered() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = format!(
        "
def ask(number):
    name = b'\\x01a\\x04test\\0'
    return struct.pack('!HHHHHH', number, 0x0100, 1, 0, 0, 0) + name + struct.pack('!HH', 1, 1)
socks = [udp(timeout=15) for _ in range(100)]
for i, s in enumerate(socks):
    s.sendto(ask(i * 7), ('{DNS4}', 53))
good = 0
for i, s in enumerate(socks):
    try:
        answer = s.recv(600)
        good += answer[:2] == struct.pack('!H', i * 7) and answer.endswith(bytes([192, 0, 2, 9]))
    except TimeoutError:
        pass
say(good)
# One socket, many ids: the same.
s = socks[0]
for i in range(100):
    s.sendto(ask(5000 + i), ('{DNS4}', 53))
ids = set()
try:
    while len(ids) < 100:
        ids.add(s.recv(600)[:2])
except TimeoutError:
    pass
say(len(ids))
"
    );
    assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "100\n100");
}

// What is not a question must neither be answered nor hurt.
#[test]
fn nonsense_does_not_stop_the_forwarder() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).start();
    let program = format!(
        "
rng = random.Random(3)
s = udp()
for size in list(range(0, 64)) + [512, 1400, 9000, 60000]:
    s.sendto(rng.randbytes(size), ('{DNS4}', 53))
for data in [b'', b'\\0', b'\\0\\0', b'\\xff\\xff' + rng.randbytes(70), b'\\0\\x05abcde']:
    t = tcp('{DNS4}', 53)
    t.sendall(data)
    t.close()
"
    );
    lab.py(Place::In(&ctr), &program).ok();
    assert!(net.alive());
    net.rests("nonsense is done with");
    let line = format!("dig +short +tries=1 +time=15 @{DNS4} a.test");
    assert_eq!(lab.sh(Place::In(&ctr), &line).ok(), LAN4);
}

// C4: the container's own name server, published on one port for both protocols.
#[test]
fn a_name_server_in_the_container_is_published_on_udp_and_tcp() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "echo 53 > /proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "53:53/tcp", "-p", "53:53/udp"]).start();
    let _dns = lab.dnsmasq(Place::In(&ctr), GUEST4);
    for transport in ["+notcp", "+tcp"] {
        let line = format!("dig +short +tries=1 +time=10 {transport} @192.0.2.1 a.test");
        assert_eq!(lab.sh(Place::Lan, &line).ok(), LAN4, "{transport}");
    }
}
