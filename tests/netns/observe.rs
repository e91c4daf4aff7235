//! Looking into it: the capture and the dump.

use crate::eventually::{eventually, secs};
use crate::lab::{GUEST4, LAN4, Lab, Place, python};
use crate::rnsnet::binary;

#[test]
fn sigusr1_lists_a_live_flow_and_counters() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(Place::Lan, "serve_each(read_all)");
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).start();
    let mut client = lab.spawn_py(
        Place::In(&ctr),
        "s = tcp('192.0.2.9', 7); say(s.getsockname()[1]); threading.Event().wait()",
    );
    let port = client.line(secs(5));
    let from = format!("{GUEST4}:{port}");
    // The client knows that it is connected before its acknowledgement was read from the TAP.
    eventually(secs(5), "the flow is established", || {
        let dump = net.dump();
        assert!(dump.contains("tcp_outbound 1"), "the counters are listed: {dump}");
        let flow = dump.lines().find(|line| line.contains(&from)).ok_or(&*dump)?;
        assert!(flow.contains("192.0.2.9:7"), "{flow}");
        if flow.to_lowercase().contains("established") { Ok(()) } else { Err(flow.to_owned()) }
    });
    assert!(net.alive());
    // And gone once the flow is.
    drop(client);
    eventually(secs(5), "the flow leaves the table", || {
        let dump = net.dump();
        if dump.contains(&from) { Err(dump) } else { Ok(()) }
    });
}

#[test]
fn the_capture_is_readable_and_holds_both_directions() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "captured page");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:8080/")).ok();
    // While the connection ends a frame may be there by half.
    let read = |filter: &str| {
        eventually(secs(2), "the file is whole", || {
            let read = lab.run(Place::User, &["tcpdump", "-nvr", net.pcap(), filter]);
            let whole = read.status.success() && !read.stderr.contains("truncated");
            if whole { Ok(read.stdout) } else { Err(read.to_string()) }
        })
    };
    // What is written must be there for a reader at once, or soon.
    eventually(secs(2), "both directions are in the file", || {
        let text = read("tcp");
        let out = text.contains(&format!("> {LAN4}.8080: Flags [S]"));
        let back = text.contains("> 10.0.2.100.") && text.contains("Flags [S.]");
        if out && back { Ok(()) } else { Err(text) }
    });
    // What it sends is right on the wire; what the container sends has its sums unfinished.
    let from_us = read("tcp and src host 192.0.2.9");
    assert!(from_us.contains("Flags [S.]") && !from_us.contains("bad cksum"), "{from_us}");
}

#[test]
fn a_capture_that_cannot_be_written_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let refused = lab.rnsnet_ends(&["--pcap", "/nowhere/at/all.pcap", &pid]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("/nowhere/at/all.pcap"), "{refused}");
    assert_eq!(lab.sh(Place::In(&ctr), "ip -br link").ok().lines().count(), 1);
}

#[test]
fn the_log_level_is_obeyed() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).named("loud").start();
    let loud = net.log().lines().count();
    drop(net);
    let net = lab.rnsnet(&ctr).named("quiet").log_level("error").start();
    // Addresses and names are for debugging; at `error` there is nothing to say at all.
    let quiet = net.log();
    assert!(loud > quiet.lines().count(), "{quiet}");
    assert!(!quiet.contains("debug:") && !quiet.contains("info:"), "{quiet}");
}

/// What is asked of both; every one keeps some frames and leaves some out.
const EXPRESSIONS: [&str; 16] = [
    "tcp port 80",
    "udp",
    "not tcp and not arp",
    "host 192.0.2.9 or port 53",
    "ip6 and not icmp6",
    "src net 10.0.2.0/24 and greater 100",
    "tcp or udp and less 60",
    "dst portrange 50-90 or (icmp or arp)",
    "not port (80 or 53)",
    "udp src or dst port 80",
    "src and dst port 53",
    "ip host 10.0.2.100 and not udp port 53",
    "icmp6 or arp host 10.0.2.2",
    "ether dst 02:00:00:00:00:99 and not net 2001:db8::/32",
    "!(tcp||udp)&&!ip6",
    "dst 192.0.2.9 and not (src port 53 or 80)",
];

/// Python: frames of every kind from inside the container, whole, cut short and damaged.
const ALL_KINDS: &str = "
rng = random.Random(4)
w = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); w.bind(('eth0', 0))
own, other = w.getsockname()[4], bytes.fromhex('020000000099')
ports = (53, 80, 443, 40000)
def l4(proto, size):
    a, b = rng.choice(ports), rng.choice(ports)
    return tcp_segment(a, b, data=bytes(size)) if proto == 6 else udp_datagram(a, b, bytes(size))
def frame():
    proto, size = rng.choice((1, 6, 17, 58, 132)), rng.choice((0, 10, 200))
    body, kind = l4(proto, size), rng.choice((4, 4, 6, 6, 0))
    if kind == 4:
        src, dst = (rng.choice(('10.0.2.100', '10.0.2.2', '192.0.2.9')) for _ in 'ab')
        ip = bytearray(packet(src, dst, proto, body))
        if rng.random() < .3:
            ip[6:8] = struct.pack('!H', rng.choice((0x2000, 0x2003, 3, 0x4000)))
        if rng.random() < .3:
            ip[0] = 0x46; ip[20:20] = b'\\1' * 4
        ether = 0x0800
    elif kind == 6:
        src, dst = (rng.choice(('fd72:6e73:6e65::100', '2001:db8:5::9')) for _ in 'ab')
        ip = bytearray(packet(src, dst, proto, body))
        if rng.random() < .4:
            fragment = bytes([ip[6], 0]) + struct.pack('!HI', rng.choice((1, 8, 9)), 7)
            ip[6] = 44; ip[40:40] = fragment
        ether = 0x86dd
    else:
        addresses = (rng.choice(('10.0.2.100', '10.0.2.2', '192.0.2.9')) for _ in 'ab')
        spa, tpa = map(socket.inet_aton, addresses)
        ip = struct.pack('!HHBBH', 1, 0x0800, 6, 4, 1) + own + spa + bytes(6) + tpa
        ether = rng.choice((0x0806, 0x0806, 0x8035, 0x88cc))
    return rng.choice((own, other, other)) + own + struct.pack('!H', ether) + bytes(ip)
def dropped():
    return open('/sys/class/net/eth0/statistics/tx_dropped').read()
def send(data):
    # Where nobody reads the TAP for a while its queue is full, and the kernel drops what comes.
    before = None
    while before != dropped():
        before = dropped()
        try:
            w.send(data)
        except OSError as e:
            if e.errno != errno.ENOBUFS:
                raise
            before = None
        if before != dropped():
            time.sleep(.01)
send(other + own + b'\\x88\\xccthe first')
for number in range(1500):
    whole = bytearray(frame())
    if rng.random() < .2:
        del whole[rng.randrange(15, len(whole) + 1):]
    if rng.random() < .2:
        whole[rng.randrange(12, len(whole))] = rng.randrange(256)
    send(whole)
send(other + own + b'\\x88\\xccthe last')
";

/// Python: the frames of a capture file, and what tcpdump keeps of one.
const COMPARE: &str = "
import subprocess
def frames(data):
    at, found = 24, []
    while at + 16 <= len(data):
        length = struct.unpack_from('=I', data, at + 8)[0]
        found.append(data[at + 16:at + 16 + length])
        at += 16 + length
    return found
def compare(everything, *pairs):
    data = open(everything, 'rb').read()
    if b'the last' not in data:
        sys.exit('not all of it is there')
    # What came before the first was not seen by all.
    begin = data.index(b'the first') - 14 - 16
    before, total = frames(data[:begin]), len(frames(data[begin - 24:]))
    for file, expression in zip(pairs[::2], pairs[1::2]):
        said = subprocess.run(['tcpdump', '-O', '-r', '-', '-w', '-', expression],
                              input=data[:24] + data[begin:], capture_output=True, check=True)
        theirs, ours = frames(said.stdout), frames(open(file, 'rb').read())
        if not 20 < len(theirs) < total - 20:
            sys.exit(f'{expression}: {len(theirs)} of {total} say little')
        early = len(ours) - len(theirs)
        if early < 0 or ours[early:] != theirs or any(f not in before for f in ours[:early]):
            wrong = [f.hex() for f in ours if f not in theirs] + ['|'] \\
                + [f.hex() for f in theirs if f not in ours]
            sys.exit(f'{expression}: {len(ours)}, not {len(theirs)}: ' + ' '.join(wrong)[:900])
compare(*sys.argv[1:])
";

// G4
#[test]
fn a_filter_keeps_the_frames_that_tcpdump_keeps() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).without_pcap().with(&["-n", "web"]).start();
    let file = |name: &str| lab.dir().join(name).display().to_string();
    let program = binary();
    let capture = |name: &str, filter: &[&str]| {
        let path = file(name);
        let argv = [program.to_str().unwrap(), "capture", "web", "-w", &path];
        let process = lab.spawn(Place::User, &[&argv, filter].concat());
        eventually(secs(10), "the capture has begun", || match std::fs::metadata(&path) {
            Ok(file) if file.len() >= 24 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        process
    };
    let everything = file("everything.pcap");
    let mut running = vec![capture("everything.pcap", &[])];
    let mut arguments = vec![everything];
    for (index, expression) in EXPRESSIONS.iter().enumerate() {
        let name = format!("{index}.pcap");
        running.push(capture(&name, &["--filter", expression]));
        arguments.extend([file(&name), (*expression).to_owned()]);
    }
    lab.py(Place::In(&ctr), ALL_KINDS).ok();
    let program = python(COMPARE);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let compare = [&["python3", "-c", program.as_str()], &*arguments].concat();
    eventually(secs(20), "every filter has kept the same frames", || {
        let compared = lab.run(Place::User, &compare);
        if compared.status.success() { Ok(()) } else { Err(compared.stderr) }
    });
}

// G4
#[test]
fn a_filtered_capture_is_piped_into_tcpdump() {
    let Some(lab) = Lab::new() else { return };
    let _pages = lab.web_server(Place::Lan, 80, "a page");
    let _others = lab.web_server(Place::Lan, 8080, "another page");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-n", "web"]).start();
    let script = "\"$0\" capture web -w - --filter 'tcp port 80' | tcpdump -lnr - -c3 2>&1";
    let program = binary();
    let mut live = lab.spawn(Place::User, &["sh", "-c", script, program.to_str().unwrap()]);
    let first = live.line(secs(10));
    assert!(first.contains("link-type EN10MB"), "{first}");
    for port in [8080, 80] {
        lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:{port}/")).ok();
    }
    let ran = live.finish(secs(10));
    let packets = ran.ok();
    assert_eq!(packets.lines().count(), 3, "{packets}");
    assert!(packets.lines().all(|line| line.contains("192.0.2.9.80")), "{packets}");

    let refused = lab.rnsnet_ends(&["capture", "web", "--filter", "tcp port http"]);
    assert_eq!(refused.code(), 2, "{refused}");
    assert!(refused.stderr.contains("port needs a number"), "{refused}");
}

// G4
#[test]
fn a_capture_of_a_network_has_what_its_containers_say_to_each_other() {
    let Some(lab) = Lab::new() else { return };
    lab.rnsnet_ends(&["network", "create", "n1"]).ok();
    let containers = [lab.container(), lab.container()];
    for (container, name) in containers.iter().zip(["one", "two"]) {
        let pid = container.pid().to_string();
        lab.rnsnet_ends(&["-d", "--network", "n1", "--name", name, &pid]).ok();
    }
    let script = "\"$0\" capture network:n1 --filter icmp | tcpdump -lnr - -c4 2>&1";
    let program = binary();
    let mut live = lab.spawn(Place::User, &["sh", "-c", script, program.to_str().unwrap()]);
    let first = live.line(secs(10));
    assert!(first.contains("link-type EN10MB"), "{first}");
    // One after the other, however late an answer is.
    for _ in 0..2 {
        lab.sh(Place::In(&containers[0]), "ping -c1 -W20 10.89.0.3").ok();
    }
    // Each frame once, though two containers had it.
    let ran = live.finish(secs(10));
    let ways: Vec<bool> = ran.ok().lines().map(|l| l.contains("10.89.0.2 > 10.89.0.3")).collect();
    assert_eq!(ways, [true, false, true, false], "{ran}");
    let nobody = lab.rnsnet_ends(&["capture", "network:n2", "-w", "-"]);
    assert_eq!(nobody.code(), 1, "{nobody}");
    assert!(nobody.stderr.contains("nobody is on a network \"n2\""), "{nobody}");
}
