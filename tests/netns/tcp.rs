//! Connections from the container to the world. Rows B1 B5 B6 B11 B12.

use crate::eventually::{eventually, less_than, millis, one_of_three, pause, secs};
use crate::exec::run;
use crate::lab::{HOST4, HOST6, LAN4, LAN6, Lab, Place};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A python call that moves `up` and `down` bytes and checks every one of them.
pub(crate) fn exact(host: &str, port: u16, up: u64, down: u64) -> String {
    format!("exact('{host}', {port}, {up}, {down})")
}

// B1 B6
#[test]
fn the_lan_sees_the_hosts_address_and_no_rule_is_made() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let rules = lab.sh(Place::Host, "nft list ruleset; ip rule; ip route").ok().to_owned();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for (to, host) in [(format!("TCP:{LAN4}:7"), HOST4), (format!("TCP6:[{LAN6}]:7"), HOST6)] {
        let seen = lab.sh(Place::In(&ctr), &format!("socat -t30 - {to} </dev/null"));
        assert!(seen.ok().starts_with(&format!("{host} ")), "{seen}");
    }
    assert_eq!(lab.sh(Place::Host, "nft list ruleset; ip rule; ip route").ok(), rules);
}

// B12: the mission's measure. The second half is sent after the first one's end, so that the
// connection is half-closed for a gigabyte.
#[test]
fn a_gibibyte_each_way_arrives_exactly() {
    let Some(lab) = Lab::alone() else { return };
    let _server = lab.serve(Place::Lan, "exact_server(9000)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).without_pcap().start();
    let program = format!("exact('{LAN4}', 9000, {GIB}, {GIB}, after=True)");
    lab.py_within(Place::In(&ctr), &program, secs(120)).ok();
}

// B11
#[test]
fn every_mtu_carries_streams_exactly() {
    let Some(lab) = Lab::alone() else { return };
    let _server = lab.serve(Place::Lan, "exact_server(9000)");
    for mtu in ["1280", "9000", "65520"] {
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).with(&["--mtu", mtu]).without_pcap().start();
        for lan in [LAN4, LAN6] {
            let program = exact(lan, 9000, 64 * MIB, 64 * MIB);
            lab.py_within(Place::In(&ctr), &program, secs(60)).ok();
        }
    }
}

// B11: plain frames, as on a kernel that grants no offload.
#[test]
fn streams_are_exact_without_offload() {
    let Some(lab) = Lab::alone() else { return };
    let _server = lab.serve(Place::Lan, "exact_server(9000)");
    for mtu in ["1500", "65520"] {
        let ctr = lab.container();
        let options = ["--offload", "off", "--mtu", mtu];
        let _net = lab.rnsnet(&ctr).with(&options).without_pcap().start();
        for lan in [LAN4, LAN6] {
            let program = exact(lan, 9000, 64 * MIB, 64 * MIB);
            lab.py_within(Place::In(&ctr), &program, secs(60)).ok();
        }
    }
}

// B6
#[test]
fn ipv6_streams_arrive_exactly() {
    let Some(lab) = Lab::alone() else { return };
    let _server = lab.serve(Place::Lan, "exact_server(9000)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).without_pcap().start();
    let program = exact(LAN6, 9000, 256 * MIB, 256 * MIB);
    lab.py_within(Place::In(&ctr), &program, secs(60)).ok();
}

// B12
#[test]
fn eight_flows_at_once_stay_exact() {
    let Some(lab) = Lab::alone() else { return };
    let _server = lab.serve(Place::Lan, "exact_server(9000)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).without_pcap().start();
    lab.py_within(Place::In(&ctr), &eight(LAN4, 9000), secs(90)).ok();
}

/// Eight exact flows of 32 MiB each way, each in a process of its own.
pub(crate) fn eight(host: &str, port: u16) -> String {
    format!(
        "
children = []
for _ in range(8):
    if (pid := os.fork()) == 0:
        try:
            {}
            os._exit(0)
        except BaseException as e:
            say(repr(e))
            os._exit(1)
    children.append(pid)
failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in children)
sys.exit(f'{{failed}} of 8 failed' if failed else 0)
",
        exact(host, port, 32 * MIB, 32 * MIB)
    )
}

// A real client and server, both directions, as users measure.
#[test]
fn iperf3_runs_in_both_directions() {
    let Some(lab) = Lab::alone() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).without_pcap().start();
    for direction in ["", "-R", "--bidir -P 4"] {
        // A server that has just served may not be ready for the next one.
        let _server = lab.listen(Place::Lan, &["iperf3", "-s", "-p", "5201"], 5201);
        let line = format!("iperf3 -c {LAN4} -t 2 -f m {direction}");
        lab.sh(Place::In(&ctr), &line).ok();
    }
}

// B12: the guest ends its half first and still gets the whole answer.
#[test]
fn half_close_by_the_container_keeps_the_answer_coming() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(Place::Lan, "serve_each(half_close_last)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        let program = format!("half_close_first(tcp('{lan}', 7))");
        assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "answer: 100000 end", "{lan}");
    }
}

// B12: the other way round; the host's end comes first and the guest goes on sending.
#[test]
fn half_close_by_the_host_keeps_the_request_going() {
    let Some(lab) = Lab::new() else { return };
    let mut server = lab.serve(Place::Lan, "serve_each(half_close_first)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        let program = format!("half_close_last(tcp('{lan}', 7))");
        lab.py(Place::In(&ctr), &program).ok();
        assert_eq!(server.line(secs(5)), "answer: 100000 end", "{lan}");
    }
}

// B12
#[test]
fn a_reset_by_the_host_reaches_the_container() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(Place::Lan, "serve_each(reset_after_a_byte)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        let program = format!("s = tcp('{lan}', 7); s.sendall(b'x'); say(ending(s))");
        assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "ECONNRESET", "{lan}");
    }
}

// B12
#[test]
fn a_reset_by_the_container_reaches_the_host() {
    let Some(lab) = Lab::new() else { return };
    let mut server = lab.serve(Place::Lan, "serve_each(echo_a_byte_and_watch)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        let program = format!("s = tcp('{lan}', 7); s.sendall(b'x'); s.recv(1); reset(s)");
        lab.py(Place::In(&ctr), &program).ok();
        assert_eq!(server.line(secs(5)), "ECONNRESET", "{lan}");
    }
}

// B5: refused at once, measured by the client itself.
#[test]
fn a_closed_port_is_refused_at_once() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        assert_eq!(lab.fails_at_once(&ctr, lan, 81), "ECONNREFUSED", "{lan}");
    }
    let curl = lab.run(Place::In(&ctr), &["curl", "-sS", "-m20", &format!("http://{LAN4}:81/")]);
    assert_eq!(curl.code(), 7, "{curl}");
}

// B5
#[test]
fn an_absent_neighbour_is_no_route_to_host() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for absent in ["192.0.2.77", "2001:db8:5::77"] {
        one_of_three(absent, || {
            let attempt = lab.py(Place::In(&ctr), &format!("attempt('{absent}', 80, 30)"));
            let (how, took) = attempt.ok().split_once(' ').expect("two words");
            assert_eq!(how, "EHOSTUNREACH", "{absent}: {attempt}");
            less_than(secs(4), millis(took.parse().expect("milliseconds")))
        });
    }
    let socat = lab.run(Place::In(&ctr), &["socat", "-", "TCP:192.0.2.77:80"]);
    assert!(socat.stderr.contains("No route to host"), "{socat}");
}

// B5
#[test]
fn an_address_without_a_route_fails_at_once() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for nowhere in ["203.0.113.5", "2001:db8:99::1"] {
        let how = lab.fails_at_once(&ctr, nowhere, 80);
        assert!(["ENETUNREACH", "EHOSTUNREACH"].contains(&how.as_str()), "{nowhere}: {how}");
    }
}

// The container's connect() succeeds when the host's has, and not before.
#[test]
fn the_syn_ack_is_withheld_until_the_host_is_connected() {
    let Some(lab) = Lab::new() else { return };
    // A listener whose queue is full drops every further SYN until it accepts.
    let mut server = lab.serve(
        Place::Lan,
        "
listener = listen(7, '0.0.0.0', backlog=0)
fillers = []
for _ in range(8):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex(('127.0.0.1', 7))
    fillers.append(s)
time.sleep(0.1)
say('ready')
sys.stdin.readline()
say('draining', time.monotonic())
while True:
    s, peer = listener.accept()
    if peer[0] == '192.0.2.1':
        s.sendall(b'hello')
        s.close()
",
    );
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = "s = tcp('192.0.2.9', 7, 60); say(time.monotonic()); say(read_all(s))";
    let mut client = lab.spawn_py(Place::In(&ctr), program);
    pause(millis(1500));
    assert!(client.ended().is_none(), "the container's connection must still be waiting");
    server.tell("drain");
    let drained = server.line(secs(2));
    let drained: f64 =
        drained.trim_start_matches("draining ").parse().expect("a time.monotonic() value");
    let connected: f64 = client.line(secs(20)).parse().expect("a time.monotonic() value");
    assert!(connected > drained, "connected at {connected}, drained at {drained}");
    assert_eq!(client.line(secs(5)), "b'hello'");
}

// A guest that gives up while the host still tries leaves nothing behind and hurts nobody.
#[test]
fn a_connection_given_up_early_is_forgotten() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).start();
    let attempt = lab.py(Place::In(&ctr), "attempt('192.0.2.77', 80, 0.2)");
    assert!(attempt.ok().starts_with("timeout"), "{attempt}");
    assert!(net.alive());
    let seen = lab.py(Place::In(&ctr), &format!("say(read_all(tcp('{LAN4}', 7)).decode())"));
    assert!(seen.ok().starts_with(HOST4), "{seen}");
}

// B12: whoever reads slowly is waited for, and gets everything; what it has not read yet waits where it
// came from. Who writes slowly is heard byte by byte.
#[test]
fn a_slow_reader_gets_every_byte_and_costs_no_memory() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(
        Place::Lan,
        "
listener = listen(7)
def give(s):
    send_exact(s, 32 << 20)
    s.close()
def serve():
    while True:
        thread(give, listener.accept()[0])
thread(serve)
taker = listen(8)
def take():
    while True:
        s, _ = taker.accept()
        time.sleep(1)
        s.sendall(recv_exact(s, 32 << 20).encode())
        s.close()
thread(take)
forever()
",
    );
    let _echo = lab.serve(Place::Lan, "echo_tcp(9)");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).without_pcap().start();
    let of = |line: &str| {
        let script = format!("awk '/^{line}:/ {{ print $2 }}' /proc/{}/status", net.pid());
        lab.sh(Place::Host, &script).ok().parse::<u64>().expect("KiB")
    };
    let before = of("VmRSS");
    let program = format!(
        "
s = tcp('{LAN4}', 7)
time.sleep(1)
down = recv_exact(s, 32 << 20)
say('down', ending(s))
s = tcp('{LAN4}', 8)
up = send_exact(s, 32 << 20)
say('up', read_all(s).decode() == up == down)
s = tcp('{LAN4}', 9)
for byte in range(200):
    s.sendall(bytes([byte]))
    time.sleep(0.002)
s.shutdown(socket.SHUT_WR)
say('slowly', read_all(s) == bytes(range(200)))
"
    );
    assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "down end\nup True\nslowly True");
    // The most that it ever had; a stream that is kept would be 32 MiB.
    let most = of("VmHWM");
    assert!(most < before + (16 << 10), "{most} KiB after {before}");
}

// B12: data and end in one breath; the last bytes are the ones that get lost.
#[test]
fn data_right_before_the_end_is_not_lost() {
    let Some(lab) = Lab::new() else { return };
    let mut server = lab.serve(
        Place::Lan,
        "
listener = listen(7)
taker = listen(8)
def serve():
    while True:
        s, _ = listener.accept()
        s.sendall(b'z' * 200000)
        s.close()
thread(serve)
say('ready')
for _ in range(20):
    say(len(read_all(taker.accept()[0])))
",
    );
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let program = format!(
        "
say(*(len(read_all(tcp('{LAN4}', 7))) for _ in range(20)))
for _ in range(20):
    s = tcp('{LAN4}', 8)
    s.sendall(b'z' * 200000)
    s.close()
"
    );
    assert_eq!(lab.py(Place::In(&ctr), &program).ok(), ["200000"; 20].join(" "));
    for _ in 0..20 {
        assert_eq!(server.line(secs(5)), "200000");
    }
}

// B12: many short connections, one after the other and at once; none fails, none is kept.
#[test]
fn five_hundred_short_connections_all_work() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).without_pcap().start();
    let program = format!(
        "
good = sum(read_all(tcp('{LAN4}', 7)).startswith(b'{HOST4} ') for _ in range(300))
open_ones = [tcp('{LAN4}', 7) for _ in range(200)]
good += sum(read_all(s).startswith(b'{HOST4} ') for s in open_ones)
say(good)
"
    );
    assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "500");
    eventually(secs(5), "no flow is left", || {
        let dump = net.dump();
        if dump.contains("flows: 0 tcp") { Ok(()) } else { Err(dump) }
    });
}

// B12: connections that begin while others end; none gets another's bytes or loses its own.
#[test]
fn connections_of_many_threads_keep_their_own_bytes() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        let tokens = lab.py(Place::In(&ctr), &format!("tokens('{lan}', 7, 8, 60)"));
        assert_eq!(tokens.ok(), "0 wrong", "{lan}");
    }
    eventually(secs(5), "no flow is left", || {
        let dump = net.dump();
        if dump.contains("flows: 0 tcp") { Ok(()) } else { Err(dump) }
    });
}

// B12: interactive traffic is not held back.
#[test]
fn a_thousand_round_trips_see_no_delay() {
    let Some(lab) = Lab::alone() else { return };
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for lan in [LAN4, LAN6] {
        lab.round_trips(Place::In(&ctr), lan, 7);
    }
}

// A real client.
#[test]
fn curl_fetches_a_file_of_the_lan() {
    let Some(lab) = Lab::new() else { return };
    let page = "0123456789abcdef".repeat(100_000);
    let _web = lab.web_server(Place::Lan, 8080, &page);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).without_pcap().start();
    for url in [format!("http://{LAN4}:8080/"), format!("http://[{LAN6}]:8080/")] {
        let argv = ["curl", "-sS", "-m60", &url];
        let fetched = run(&mut lab.cmd(Place::In(&ctr), &argv), b"", secs(15));
        assert!(fetched.ok() == page, "{} bytes of {}", fetched.stdout.len(), page.len());
    }
}
