//! What goes wrong around a running network, with traffic flowing: nothing that was accepted is lost,
//! nothing grows, and what can go on goes on. Rows B12 K4.
//!
//! The long ones are ignored by `ci/test` and run by `ci/faults`. Elsewhere are: the TAP deleted
//! and the container killed (`lifecycle`), no descriptors left (`bounds`), resolvers that die
//! (`dns_servers`), a slow reader, resets and ends in every order (`tcp`), other addresses and
//! routes of the host (`world`), the process killed (`survive`).

use nix::sys::signal::Signal;

use crate::eventually::{eventually, pause, secs};
use crate::exec::Proc;
use crate::lab::{DNS4, HOST4, LAN4, LAN6, Lab, Place};
use crate::rnsnet::Rnsnet;

/// Loads that last.
pub(crate) const LOAD: &str = include_str!("load.py");

/// Bytes of both directions that are checked one by one, and the bytes that have to be on their way
/// before something happens.
const STREAM: &str = "
import threading
up = down = 0
s = tcp('192.0.2.9', 9000, 60)
def tell():
    for _ in sys.stdin:
        say(up + down)
asked = thread(tell)
total = 800 * (1 << 20)
s.sendall(HEADER.pack(total, total, False))
def upload():
    global up
    for number in range(total // CHUNK):
        s.sendall(block(number, CHUNK))
        up += CHUNK
    s.shutdown(socket.SHUT_WR)
sender = thread(upload)
buffer = bytearray(CHUNK)
for number in range(total // CHUNK):
    assert recv_full(s, buffer) == CHUNK, 'the stream ended'
    assert buffer == block(number, CHUNK), 'wrong bytes'
    down += CHUNK
sums = bytearray(SUMS)
assert recv_full(s, sums) == SUMS and sums[:64] == sums[64:], sums
say('exact')
asked.join()
";

/// How far a stream is, in bytes; `None` once it is over.
fn progress(stream: &mut Proc) -> Option<u64> {
    stream.tell("how far");
    stream.line(secs(30)).parse().ok()
}

/// Waits until more bytes have come and gone than there were; `None` once all have.
fn moves_on(stream: &mut Proc, from: u64) -> Option<u64> {
    eventually(secs(60), "the stream moves", || match progress(stream) {
        Some(now) if now <= from + (4 << 20) => Err(format!("{now} bytes after {from}")),
        now => Ok(now),
    })
}

/// Runs faults while a stream flows both ways; all of it arrives.
fn survives(times: u32, mut fault: impl FnMut(&Lab, &crate::lab::Container, &Rnsnet)) {
    let Some(lab) = Lab::alone() else { return };
    let _server = lab.serve(Place::Lan, "exact_server(9000)");
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).without_pcap().start();
    let mut stream = lab.spawn_py(Place::In(&ctr), STREAM);
    let mut at = Some(0);
    for _ in 0..times {
        let before = at.and_then(|at| moves_on(&mut stream, at));
        let before = before.expect("a stream that lasts until the fault");
        fault(&lab, &ctr, &net);
        at = moves_on(&mut stream, before);
    }
    if at.is_some() {
        eventually(secs(120), "all of it arrives", || match progress(&mut stream) {
            None => Ok(()),
            Some(at) => Err(format!("{at} bytes so far")),
        });
    }
    stream.close_stdin();
    assert!(stream.finish(secs(10)).status.success());
    assert!(net.alive());
}

// The container's own administrator does that.
#[test]
fn an_interface_that_goes_down_and_comes_back_loses_no_byte() {
    survives(2, |lab, ctr, net| {
        let before = net.log().len();
        lab.sh(Place::In(ctr), "ip link set eth0 down").ok();
        eventually(secs(10), "frames are lost", || {
            let log = net.log();
            let since = log.get(before..).unwrap_or_default();
            if since.contains("a frame to the container is lost") { Ok(()) } else { Err(log) }
        });
        lab.sh(Place::In(ctr), "ip link set eth0 up; ip route add default via 10.0.2.2").ok();
    });
}

/// Waits until the host's kernel has said what it has for a port, on so many connections, for a third time:
/// it has noticed by then that nobody answers.
fn nobody_answers(lab: &Lab, port: u16, connections: usize) {
    eventually(secs(20), "nobody answers", || {
        let sockets = lab.sh(Place::Host, &format!("ss -Htno state connected dport = :{port}"));
        // timer:(on,1.2sec,2), or (persist,...) where the window was closed
        let times = sockets.ok().lines().filter_map(|line| {
            line.split_once("timer:(")?.1.split([',', ')']).nth(2)?.parse::<u32>().ok()
        });
        let again = times.filter(|times| *times >= 2).count();
        if again >= connections { Ok(()) } else { Err(sockets.stdout) }
    });
}

// A laptop that is carried to another room. The connection waits, as any program's would.
#[test]
fn a_host_address_that_goes_and_comes_back_loses_no_byte() {
    survives(2, |lab, _, _| {
        let link = lab.sh(Place::Host, &format!("ip -o -4 addr show to {HOST4}")).ok().to_owned();
        let words: Vec<&str> = link.split_whitespace().collect();
        let (device, prefix) = (words[1], words[3]);
        lab.sh(Place::Host, &format!("ip addr del {prefix} dev {device}")).ok();
        nobody_answers(lab, 9000, 1);
        lab.sh(Place::Host, &format!("ip addr add {prefix} dev {device}")).ok();
    });
}

/// Stops a process.
fn stop(lab: &Lab, net: &Rnsnet) {
    net.signal(Signal::SIGSTOP);
    eventually(secs(10), "it is stopped", || {
        let stat = lab.sh(Place::Host, &format!("cut -d' ' -f3 /proc/{}/stat", net.pid()));
        if stat.ok().trim() == "T" { Ok(()) } else { Err(stat.to_string()) }
    });
}

// Nobody reads the TAP and nobody serves the sockets meanwhile.
#[test]
fn a_process_that_is_stopped_and_continued_loses_no_byte() {
    survives(2, |lab, ctr, net| {
        // One that is idle waits in epoll_wait(2), which fails with EINTR then (signal(7)).
        let quiet = lab.container();
        let mut idle = lab.rnsnet(&quiet).named("idle").start();
        stop(lab, &idle);
        idle.signal(Signal::SIGCONT);
        lab.sh(Place::In(&quiet), "ping -c1 -W20 10.0.2.2").ok();
        assert!(idle.alive());
        stop(lab, net);
        // Long enough for the guest to send again: it has the queue of its TAP full.
        let queue = "wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                     for _ in range(6000): wire.sendto(bytes(9), ('192.0.2.9', 9))";
        lab.py(Place::In(ctr), queue).ok();
        net.signal(Signal::SIGCONT);
    });
}

/// A way out with no room for anything: an interface whose frames nobody takes, and no queue before it.
const FULL: &str = "
import fcntl, subprocess
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'full', 0x1001))
subprocess.run(['sh', '-ec', 'ip link set full txqueuelen 1 up; tc qdisc replace dev full root noqueue'], check=True)
forever()
";

// ENOBUFS, that is. A full router loses datagrams, too; no conversation ends by it.
#[test]
fn a_way_out_without_room_loses_datagrams_and_nothing_else() {
    survives(1, |lab, ctr, net| {
        let _who = lab.who(Place::Lan, 7);
        lab.sh(Place::Lan, "ip addr add 198.51.100.7/32 dev lo").ok();
        let via = |way: &str| {
            lab.sh(Place::Host, &format!("ip route replace 198.51.100.7 {way}")).ok();
        };
        via(&format!("via {LAN4}"));
        let program = "
s = udp()
s.connect(('198.51.100.7', 7))
for line in sys.stdin:
    if line == 'ask\\n':
        s.send(b'who')
        say(s.recv(99))
        continue
    # Each is larger than the one before it: of several sent in one call the kernel loses all in silence.
    for number in range(1000):
        s.send(bytes(number))
    say('sent')
";
        let mut client = lab.spawn_py(Place::In(ctr), program);
        client.tell("ask");
        let before = client.line(secs(10));
        let full = lab.serve(Place::Host, FULL);
        via("dev full");
        // Some of them may be lost before, where the TAP is not read for a while.
        eventually(secs(10), "datagrams are refused for want of room", || {
            client.tell("send");
            assert_eq!(client.line(secs(10)), "sent");
            let lost = net.log().matches("No buffer space available").count();
            if lost > 500 { Ok(()) } else { Err(format!("{lost} datagrams")) }
        });
        via(&format!("via {LAN4}"));
        drop(full);
        client.tell("ask");
        assert_eq!(client.line(secs(10)), before, "the port that the peer sees");
    });
}

/// A peer of the host that vanishes without a word, under connections in every stage.
#[test]
fn half_open_peers_cost_nothing_but_their_own_connections() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).without_pcap().start();
    let descriptors = lab.descriptors(net.pid());
    let program = format!(
        "
held = [tcp('{LAN4}', 7) for _ in range(50)]
for s in held:
    s.sendall(b'x')
    assert s.recv(1) == b'x'
say('ready')
sys.stdin.readline()
# Half of them speak into the void, the others end; neither waits.
for i, s in enumerate(held):
    s.setblocking(False)
    if i % 2:
        s.sendall(b'y' * 1000)
    else:
        s.close()
say('said')
sys.stdin.readline()
for s in held[1::2]:
    s.settimeout(90)
    got = b''
    while len(got) < 1000:
        got += s.recv(1000)
    assert got == b'y' * 1000
say('back')
"
    );
    let mut client = lab.spawn_py(Place::In(&ctr), &program);
    assert_eq!(client.line(secs(20)), "ready");
    let link = lab.sh(Place::Lan, &format!("ip -o -4 addr show to {LAN4}")).ok().to_owned();
    let words: Vec<&str> = link.split_whitespace().collect();
    let (device, prefix) = (words[1].to_owned(), words[3].to_owned());
    lab.sh(Place::Lan, &format!("ip addr del {prefix} dev {device}")).ok();
    client.tell("go on");
    assert_eq!(client.line(secs(20)), "said");
    nobody_answers(&lab, 7, 25);
    // Nobody else notices.
    let echo = format!("s = tcp('{LAN6}', 7); s.sendall(b'z'); say(s.recv(1))");
    assert_eq!(lab.py(Place::In(&ctr), &echo).ok(), "b'z'");
    assert!(net.alive());
    lab.sh(Place::Lan, &format!("ip addr add {prefix} dev {device}")).ok();
    client.tell("go on");
    assert_eq!(client.line(secs(40)), "back");
    // With the program its connections are gone, those that it closed while nobody answered, too.
    drop(client);
    eventually(secs(20), "nothing is left of them", || {
        let now = lab.descriptors(net.pid());
        if now <= descriptors { Ok(()) } else { Err(format!("{now} after {descriptors}")) }
    });
}

/// What each end does with its connections: they end, half by half, or break off, whenever it pleases.
const ENDS: &str = "
def ends(s, rng):
    # Nobody owes anybody anything: what does not come is not waited for.
    s.settimeout(0.003)
    try:
        for _ in range(rng.randrange(4)):
            rng.choice((lambda: s.sendall(bytes(rng.randrange(1, 30000))),
                        lambda: s.recv(rng.randrange(1, 30000)),
                        lambda: s.shutdown(socket.SHUT_WR),
                        lambda: time.sleep(rng.random() / 300)))()
        if rng.randrange(2):
            reset(s)
    except OSError:
        pass
    s.close()
";

/// Resets and ends of both sides, at the same time and in every order.
#[test]
fn ends_and_resets_that_cross_leave_nothing() {
    let Some(lab) = Lab::new() else { return };
    let server = format!(
        "{ENDS}\ncount = iter(range(1 << 30))\n\
                          serve_each(lambda s: ends(s, random.Random(next(count))), 7)"
    );
    let _server = lab.serve(Place::Lan, &server);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).without_pcap().start();
    let before = lab.descriptors(net.pid());
    let clients = format!(
        "{ENDS}
wrong = []
def work(worker):
    rng = random.Random(1000 + worker)
    for _ in range(150):
        try:
            with tcp('{LAN4}', 7, 60) as s:
                ends(s, rng)
        except TimeoutError as e:
            wrong.append(e)
        except OSError:
            # Reset before it stood, as seen from here.
            pass
for worker in [thread(work, n) for n in range(8)]:
    worker.join()
say(wrong)
"
    );
    assert_eq!(lab.py_within(Place::In(&ctr), &clients, secs(120)).ok(), "[]");
    // Who closes with bytes unread may be heard of no more: a minute for the last acknowledgement.
    eventually(secs(90), "no connection is left", || {
        let dump = net.dump();
        let fds = lab.descriptors(net.pid());
        let fine = dump.contains("flows: 0 tcp") && fds <= before;
        if fine { Ok(()) } else { Err(format!("{fds} after {before} descriptors; {dump}")) }
    });
    assert!(!net.dump().contains("flow_panics 1"), "{}", net.dump());
}

/// What a process has resident, in KiB, and how many descriptors.
fn size(lab: &Lab, pid: u32) -> (u64, usize) {
    let ran = lab.sh(Place::Host, &format!("awk '/^VmRSS/ {{ print $2 }}' /proc/{pid}/status"));
    (ran.ok().trim().parse().expect("a number"), lab.descriptors(pid))
}

// B12: connection after connection, outbound and published; none is lost, nothing is kept.
#[test]
#[ignore = "a minute: ci/faults"]
fn twenty_thousand_connections_leave_nothing() {
    let Some(lab) = Lab::alone() else { return };
    let _outside = lab.serve(Place::Lan, "echo_tcp(7)");
    let ctr = lab.container();
    let publish = format!("{HOST4}:8080:7");
    let net = lab.rnsnet(&ctr).without_pcap().with(&["-p", &publish]).start();
    let _inside = lab.serve(Place::In(&ctr), "echo_tcp(7)");
    let churn = |place: Place<'_>, host: &str, port: u16, rounds: u32| {
        let program = format!("{LOAD}\nchurn('{host}', {port}, {rounds})");
        let said = lab.py_within(place, &program, secs(300));
        assert_eq!(said.ok().trim(), "0 []", "{host}");
    };
    churn(Place::In(&ctr), LAN4, 7, 800);
    churn(Place::Lan, HOST4, 8080, 800);
    let before = size(&lab, net.pid());
    churn(Place::In(&ctr), LAN4, 7, 10_000);
    churn(Place::Lan, HOST4, 8080, 10_000);
    eventually(secs(90), "everything is given back", || {
        let (kib, fds) = size(&lab, net.pid());
        let fine = fds <= before.1 && kib <= before.0 + 1024;
        if fine { Ok(()) } else { Err(format!("{kib} KiB and {fds} after {before:?}")) }
    });
}

// An hour's mixture in a minute; what the last third adds to the second is nothing.
#[test]
#[ignore = "a minute: ci/faults"]
fn a_mixed_load_does_not_make_it_larger() {
    let Some(lab) = Lab::alone() else { return };
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let _exact = lab.serve(Place::Lan, "exact_server(9000)");
    let _udp = lab.serve(Place::Lan, "echo_udp(8)");
    let _dns = lab.dns_server(LAN4);
    lab.set_resolv_conf(&format!("nameserver {LAN4}\n"));
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).without_pcap().start();
    let third = format!("{LOAD}\nmixed('{LAN4}', '{DNS4}')");
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let said = lab.py_within(Place::In(&ctr), &third, secs(300));
        assert_eq!(said.ok().trim(), "[]");
        sizes.push(size(&lab, net.pid()).0);
    }
    assert!(sizes[2] <= sizes[1] + 1024, "KiB after each third: {sizes:?}");
}

// K4: as many as the program itself has counted, and afterwards it is what it was.
#[test]
#[ignore = "minutes: ci/faults"]
fn ten_million_hostile_frames_change_nothing() {
    let Some(lab) = Lab::alone() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).without_pcap().with(&["-n", "web"]).start();
    let taken = |lab: &Lab| {
        let stats = ["stats", "--no-stream", "--format", "{{.TxPackets}}", "web"];
        lab.rnsnet_ends(&stats).ok().trim().parse::<u64>().expect("a number")
    };
    let mut sizes = Vec::new();
    let mut seed = 0_u32;
    while taken(&lab) < 10_000_000 {
        assert!(seed < 600, "only {} frames of {seed} times 100,000 were taken", taken(&lab));
        let frames = format!("{LOAD}\nhostile_frames({seed}, 100_000)");
        lab.py_within(Place::In(&ctr), &frames, secs(120)).ok();
        assert!(net.alive(), "it died of seed {seed}");
        sizes.push(size(&lab, net.pid()).0);
        seed += 1;
    }
    let (half, last) = (sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    assert!(last <= half + 2048, "KiB: {sizes:?}");
    assert!(!net.dump().contains("flow_panics 1"), "{}", net.dump());
    eventually(secs(60), "a connection works", || {
        let seen = lab.py(Place::In(&ctr), &format!("say(read_all(tcp('{LAN4}', 7, 20)))"));
        if seen.stdout.starts_with("b'192.0.2.1 ") { Ok(()) } else { Err(seen.to_string()) }
    });
}

// Its backlog has a place for 129 of them; the SYNs of the others are dropped until it goes on. They all
// come again 31 s after the first, and those that find the backlog full once more after 63.
#[test]
#[ignore = "a minute: ci/faults"]
fn all_clients_of_a_container_that_is_paused_are_served_when_it_goes_on() {
    let Some(lab) = Lab::alone() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let who = lab.who(Place::In(&ctr), 80);
    who.signal(Signal::SIGSTOP);
    let call = format!(
        "
ends = []
def call():
    with tcp('{HOST4}', 8080, 120) as s:
        ends.append(ending(s))
callers = [thread(call) for _ in range(300)]
say('called')
for caller in callers:
    caller.join(120)
say([(how, ends.count(how)) for how in sorted(set(ends))])
"
    );
    let mut clients = lab.spawn_py(Place::Lan, &call);
    assert_eq!(clients.line(secs(20)), "called");
    pause(secs(20));
    who.signal(Signal::SIGCONT);
    assert_eq!(clients.line(secs(120)), "[('data', 300)]");
}
