//! What a container cannot use up: the host's log, the last descriptors. Row K5.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;

use crate::eventually::{eventually, now, secs};
use crate::lab::{DNS4, HOST4, LAN4, Lab, Place};

// K5: a container that has something to complain about, all the time.
#[test]
fn a_container_cannot_fill_the_log() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let start = now();
    let net = lab.rnsnet(&ctr).log_level("info").start();
    // DHCPDECLINE: every one of them is worth a warning (RFC 2131, section 4.3.3).
    let program = "
wire = Wire()
options = bytes((99, 130, 83, 99, 53, 1, 4, 255))
body = struct.pack('!BBBBIHH', 1, 1, 6, 0, 7, 0, 0) + bytes(16) + wire.own + bytes(202) + options
frame = packet('10.0.2.100', '10.0.2.2', 17, udp_datagram(68, 67, body))
for n in range(20000):
    wire.send(frame)
    # Each hundred of them are read before the next: the interface's queue drops what is too much.
    if n % 100 == 0:
        wire.resolve('10.0.2.2')
attempt('10.0.2.2', 9)
";
    lab.py(Place::In(&ctr), program).ok();
    let log = lab.dir().join("rnsnet.log");
    net.signal(Signal::SIGTERM);
    assert!(net.ends().success());
    let log = std::fs::read_to_string(log).expect("it has a log");
    let told = log.lines().filter(|line| line.contains("somebody else has")).count();
    // The burst of 50, and two for each second that it took.
    let seconds = usize::try_from(start.elapsed().as_secs()).expect("some minutes at the most");
    let most = 50 + 2 * (seconds + 1);
    assert!((50..=most).contains(&told), "{told} warnings of {most}");
    let left_out: usize = log
        .lines()
        .filter_map(|line| {
            line.strip_prefix("rnsnet: warn: ")?.strip_suffix(" warnings were left out of the log")
        })
        .map(|number| number.parse::<usize>().expect("a number"))
        .sum();
    assert!(left_out > 1000, "{log}");
}

// K5: with every descriptor that flows may have in use, names resolve and the user is obeyed.
#[test]
fn flows_leave_descriptors_for_dns_and_control() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    lab.set_resolv_conf(&format!("nameserver {LAN4}\n"));
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    for inbound in [false, true] {
        let ctr = lab.container();
        let net = lab
            .rnsnet(&ctr)
            .descriptors(96)
            .with(&["-p", "127.0.0.1:8081:80", "-p", &format!("{HOST4}:8080:80"), "-n", "web"])
            .start();
        let _inside = lab.serve(Place::In(&ctr), "echo_tcp(80)");
        // Flows until no more can be had, from within or from outside, and one at last of each kind.
        let (place, to) =
            if inbound { (Place::Lan, (HOST4, 8080)) } else { (Place::In(&ctr), (LAN4, 7)) };
        let program = format!(
            "
held = []
for _ in range(200):
    try:
        s = tcp('{}', {}, 10)
        s.sendall(b'x')
        s.recv(1)
        held.append(s)
    except OSError:
        break
say(len(held))
sys.stdin.readline()
",
            to.0, to.1
        );
        let mut holder = lab.spawn_py(place, &program);
        let held: u32 = holder.line(secs(20)).parse().expect("a number");
        assert!((20..96).contains(&held), "{held} flows, inbound: {inbound}");
        for transport in ["+notcp", "+tcp"] {
            let dig = format!("dig +short +tries=1 +time=15 {transport} @{DNS4} a.test");
            assert_eq!(lab.sh(Place::In(&ctr), &dig).ok(), LAN4, "{held} flows");
        }
        // Nor does it spin while somebody waits for one.
        let _waits = lab.serve(Place::Lan, &format!("s = tcp('{HOST4}', 8080); forever()"));
        net.rests("without a descriptor for a client");
        let flows = lab.rnsnet_ends(&["flows", "web"]);
        assert!(flows.ok().lines().count() > 20, "{flows}");
        assert!(lab.rnsnet_ends(&["ps"]).ok().contains("web"));
        // They are not kept from flows for longer than they have to be.
        drop(holder);
        eventually(secs(5), "a new flow finds a place", || {
            let program =
                format!("s = tcp('{}', {}, 1); s.sendall(b'x'); say(s.recv(1))", to.0, to.1);
            let again = lab.py(place, &program);
            if again.stdout.contains("b'x'") { Ok(()) } else { Err(again.to_string()) }
        });
        drop(net);
    }
}

// K4: a client for whom the system had no descriptor is served once there is one again, though rnsnet
// itself has given none back and nobody else comes.
#[test]
fn a_client_that_had_to_wait_is_served_when_others_give_descriptors_back() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    let _who = lab.who(Place::In(&ctr), 80);
    let limit = |most: usize| {
        let set = format!("prlimit --pid {} --nofile={most}:", net.pid());
        lab.sh(Place::Host, &set).ok();
    };
    // Up to the first that is free, as the kernel gives the lowest: open(2).
    let used = lab.run(Place::Host, &["ls", &format!("/proc/{}/fdinfo", net.pid())]);
    let used: BTreeSet<usize> = used.ok().lines().map(|fd| fd.parse().expect("a number")).collect();
    limit((0..).find(|fd| !used.contains(fd)).expect("there are more numbers"));
    let program = format!("say(read_all(tcp('{HOST4}', 8080, 60)).decode().split()[0])");
    let mut client = lab.spawn_py(Place::Lan, &program);
    eventually(secs(5), "the client has to wait", || {
        let log = net.log();
        if log.contains("a client has to wait") { Ok(()) } else { Err(log) }
    });
    limit(1024);
    assert_eq!(client.line(secs(10)), LAN4);
}

/// Opens as many files as this machine lets a user open.
const MANY_FILES: &str = "
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
";

// B10: every connection stands or is refused, and a byte goes each way on those that stand.
#[test]
fn ten_thousand_connections_cost_little_and_leave_nothing() {
    let Some(lab) = Lab::alone() else { return };
    let hold = "
listener = listen(7, backlog=4096)
say('ready')
held = []
while True:
    held.append(listener.accept()[0])
    held[-1].sendall(b'x')
";
    let mut server = lab.spawn_py(Place::Lan, &format!("{MANY_FILES}{hold}"));
    assert_eq!(server.line(secs(5)), "ready");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).without_pcap().start();
    let memory = || lab.memory(net.pid(), "Pss_Anon");
    let before = memory();
    let open = format!(
        "
open, refused = [], 0
for _ in range(10_000):
    try:
        open.append(tcp('{LAN4}', 7, 10))
        assert open[-1].recv(1) == b'x'
    except (ConnectionRefusedError, ConnectionResetError):
        refused += 1
say(len(open), refused)
sys.stdin.readline()
"
    );
    let mut client = lab.spawn_py(Place::In(&ctr), &format!("{MANY_FILES}{open}"));
    let said = client.line(secs(120));
    let during = memory();
    let (open, refused) = said.split_once(' ').expect("two numbers");
    let (open, refused): (u64, u64) = (open.parse().unwrap(), refused.parse().unwrap());
    assert_eq!(open + refused, 10_000, "{said}");
    // A machine may have a lower limit on open files, but not one that leaves no room at all.
    assert!(open >= 900, "{said}");
    assert!(during < 64 << 10, "{during} KiB with {open} connections");
    assert!(during - before < 10 * open + 2048, "{during} after {before} KiB with {open}");
    client.tell("done");
    client.finish(secs(10));
    drop(server);
    eventually(secs(30), "the connections leave nothing", || {
        let now = memory();
        if now < before + before / 5 + 2048 { Ok(()) } else { Err(format!("{now} KiB")) }
    });
}

/// The counters of bounds that were met, as `rnsnet stats` has them.
#[track_caller]
fn met(lab: &Lab) -> BTreeMap<String, u32> {
    let stats = ["stats", "--no-stream", "--format", "{{json .Limits}}", "web"];
    serde_json::from_str(lab.rnsnet_ends(&stats).ok()).expect("counts by name")
}

/// Whether this bound alone was met, so often: more often where a SYN was late and came again.
#[track_caller]
fn assert_met(lab: &Lab, bound: &str, least: u32) {
    let met = met(lab);
    assert!(met.len() == 1 && met.get(bound) >= Some(&least), "{bound}: {met:?}");
}

// K5: bounds that the user has set: what is too much is refused as a host would, and counted.
#[test]
fn bounds_are_what_the_user_says() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let ctr = lab.container();
    let limits = ["--limit", "tcp=3", "--limit", "udp=2", "--limit", "clients=2", "-n", "web"];
    let _net = lab.rnsnet(&ctr).with(&limits).start();
    let program = format!(
        "
held, refused = [], 0
for _ in range(5):
    try:
        held.append(tcp('{LAN4}', 7))
    except ConnectionRefusedError:
        refused += 1
say(len(held), refused)
for s in held:
    s.sendall(b'x')
    assert s.recv(1) == b'x'
for port in range(1000, 1005):
    udp('10.0.2.100', port).sendto(b'x', ('{LAN4}', 9))
sys.stdin.readline()
"
    );
    let mut holder = lab.spawn_py(Place::In(&ctr), &program);
    assert_eq!(holder.line(secs(10)), "3 2");
    eventually(secs(10), "all five datagrams are seen", || {
        let met = met(&lab);
        let counted = met.len() == 2 && met.get("tcp") >= Some(&2) && met.get("udp") == Some(&3);
        if counted { Ok(()) } else { Err(format!("{met:?}")) }
    });
    // Clients that say nothing go when somebody comes who has something to ask.
    let sockets = lab.sh(Place::Host, "find \"$XDG_RUNTIME_DIR\" -name control.sock");
    let silent = format!(
        "
held = []
for _ in range(2):
    s = socket.socket(socket.AF_UNIX)
    s.connect('{}')
    held.append(s)
say('ready')
sys.stdin.readline()
",
        sockets.ok().trim()
    );
    let mut silent = lab.spawn_py(Place::Host, &silent);
    assert_eq!(silent.line(secs(10)), "ready");
    eventually(secs(10), "a third client is served, and counted", || {
        let met = met(&lab);
        if met.contains_key("clients") { Ok(()) } else { Err(format!("{met:?}")) }
    });
    holder.tell("done");
    holder.finish(secs(10));
    eventually(secs(10), "there is room again", || {
        let again = lab.py(Place::In(&ctr), &format!("tcp('{LAN4}', 7); say('stands')"));
        if again.stdout.contains("stands") { Ok(()) } else { Err(again.to_string()) }
    });
}

// K5: no more descriptors than the user allows, though the system has more.
#[test]
fn descriptors_are_as_many_as_the_user_says() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["--limit", "descriptors=96", "-n", "web"]).start();
    let program = format!(
        "
held = []
for _ in range(200):
    try:
        held.append(tcp('{LAN4}', 7))
    except OSError:
        break
say(len(held))
sys.stdin.readline()
"
    );
    let mut holder = lab.spawn_py(Place::In(&ctr), &program);
    let held: usize = holder.line(secs(20)).parse().expect("a number");
    assert!((20..72).contains(&held), "{held} connections");
    let count = lab.descriptors(net.pid());
    assert!((held..=96).contains(&count), "{count} descriptors for {held} connections");
    assert_met(&lab, "descriptors", 1);
}

// K5 E6: the same on a named network, whose process has options of its own.
#[test]
fn bounds_of_a_named_network_are_among_its_options() {
    let Some(lab) = Lab::new() else { return };
    let rn = |words: &str| lab.rnsnet_ends(&words.split(' ').collect::<Vec<_>>());
    rn("network create --opt limit.containers=1 --opt limit.tcp-each=1 n1").ok();
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let (one, two) = (lab.container(), lab.container());
    rn(&format!("-d --network n1 --name web {}", one.pid())).ok();
    let full = rn(&format!("-d --network n1 --name two {}", two.pid()));
    assert_eq!(full.code(), 1, "{full}");
    assert!(full.stderr.contains("the network has 1 containers, which is the most"), "{full}");
    let program = format!("s = tcp('{LAN4}', 7); attempt('{LAN4}', 7); s.sendall(b'x')");
    let tried = lab.py(Place::In(&one), &program);
    assert!(tried.ok().contains("ECONNREFUSED"), "{tried}");
    assert_met(&lab, "tcp-each", 1);
    let wrong = rn("network create --opt limit.tcp=none n2");
    assert_eq!(wrong.code(), 2, "{wrong}");
    assert!(wrong.stderr.contains("tcp: expected a number from 1 to 262144"), "{wrong}");
    let refused = rn(&format!("--network n1 --limit tcp=5 {}", two.pid()));
    assert_eq!(refused.code(), 2, "{refused}");
}
