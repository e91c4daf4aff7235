//! Multicast between a container and the host's network: mDNS, and groups that are relayed. Rows I3
//! I4; I5 is in `udp.rs`.

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::{DEFAULT_DEADLINE, Proc};
use crate::lab::{HOST4, LAN4, Lab, Place};

/// As much of multicast DNS as responders and clients need. Whoever asks does so until there is an
/// answer, as datagrams may be lost and machines busy.
const MDNS: &str = "
GROUPS = {4: '224.0.0.251', 6: 'ff02::fb'}
PTR, TXT, SRV, A = 12, 16, 33, 1


def labels(text):
    return b''.join(bytes([len(part)]) + part.encode() for part in text.split('.')) + b'\\0'


def record(owner, kind, data, ttl=120):
    return labels(owner) + struct.pack('!HHIH', kind, 1, ttl, len(data)) + data


def srv(port, target):
    return struct.pack('!3H', 0, 0, port) + labels(target)


def message(id, flags, questions, records):
    head = struct.pack('!6H', id, flags, len(questions), len(records), 0, 0)
    return head + b''.join(questions) + b''.join(records)


def question(text, kind, unicast=False):
    return labels(text) + struct.pack('!HH', kind, 0x8001 if unicast else 1)


def read_name(data, at):
    parts, end = [], None
    while data[at]:
        if data[at] >= 0xc0:
            end, at = end or at + 2, struct.unpack_from('!H', data, at)[0] & 0x3fff
        else:
            parts.append(data[at + 1:at + 1 + data[at]].decode())
            at += 1 + data[at]
    return '.'.join(parts), end or at + 1


def read(data):
    \"\"\"Id, whether it is an answer, questions and records.\"\"\"
    id, flags, questions, *counts = struct.unpack_from('!6H', data)
    at, asked, found = 12, [], []
    for _ in range(questions):
        name, at = read_name(data, at)
        asked.append((name, struct.unpack_from('!H', data, at)[0]))
        at += 4
    for _ in range(sum(counts)):
        name, at = read_name(data, at)
        kind, _, _, length = struct.unpack_from('!HHIH', data, at)
        at += 10
        if kind == PTR:
            value = read_name(data, at)[0]
        elif kind == SRV:
            value = '%d %s' % (struct.unpack_from('!H', data, at + 4)[0], read_name(data, at + 6)[0])
        elif kind == A:
            value = socket.inet_ntoa(data[at:at + 4])
        else:
            value = data[at:at + length]
        at += length
        found.append((name, kind, value))
    return id, flags & 0x8000 != 0, asked, found


def join(s, group, interface):
    index = socket.if_nametoindex(interface)
    if ':' in group:
        raw = socket.inet_pton(socket.AF_INET6, group)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, raw + struct.pack('@I', index))
    else:
        by = socket.inet_aton(group) + bytes(4) + struct.pack('@i', index)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, by)


def at_group(group, port, interface):
    s = socket.socket(family(group), socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ':' in group:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # IPV6_RECVHOPLIMIT, and IPV6_MULTICAST_ALL: of this interface alone.
        s.setsockopt(socket.IPPROTO_IPV6, 51, 1)
        s.setsockopt(socket.IPPROTO_IPV6, 29, 0)
    else:
        # IP_RECVTTL and IP_MULTICAST_ALL.
        s.setsockopt(socket.IPPROTO_IP, 12, 1)
        s.setsockopt(socket.IPPROTO_IP, 49, 0)
    s.bind(('', port))
    join(s, group, interface)
    s.settimeout(1)
    return s


def to_group(group, port, interface):
    if ':' in group:
        return (group, port, 0, socket.if_nametoindex(interface))
    return (group, port)


def respond(interface, answers, version=4):
    \"\"\"Answers questions by name and type: to everybody, or to who asks from another port.\"\"\"
    group = GROUPS[version]
    s = at_group(group, 5353, interface)
    def serve():
        while True:
            try:
                data, peer = s.recvfrom(9000)
            except TimeoutError:
                continue
            id, is_answer, asked, _ = read(data)
            found = [r for q in asked for r in answers.get(q, ())]
            if is_answer or not found:
                continue
            if peer[1] == 5353:
                s.sendto(message(0, 0x8400, [], found), to_group(group, 5353, interface))
            else:
                repeated = [question(*q) for q in asked]
                s.sendto(message(id, 0x8400, repeated, found), peer)
    thread(serve)


def ask(interface, text, kind, port=0, version=4, until=lambda found: True):
    \"\"\"The peer, the hop limit and the records of the first answer that will do; how often it asked.\"\"\"
    group = GROUPS[version]
    s = at_group(group, port, interface) if port else udp(v6=version == 6, timeout=1)
    if not port:
        join(s, group, interface)
    start, times = time.monotonic(), 0
    while time.monotonic() < start + 60:
        times += 1
        s.sendto(message(7, 0, [question(text, kind, port == 5353)], []),
                 to_group(group, 5353, interface))
        asked_at = time.monotonic()
        while time.monotonic() < asked_at + 2:
            try:
                data, extra, _, peer = s.recvmsg(9000, 100)
            except TimeoutError:
                break
            id, is_answer, _, found = read(data)
            mine = [r for r in found if r[:2] == (text, kind)]
            if is_answer and (port or id == 7) and mine and until(found):
                hops = [struct.unpack('@i', d)[0] for _, t, d in extra if t in (2, 52)]
                return peer, hops, found, times
    sys.exit('no answer')
";

fn serve(lab: &Lab, place: Place<'_>, program: &str) -> Proc {
    lab.serve(place, &format!("{MDNS}\n{program}\nsay('ready')\nforever()"))
}

fn py(lab: &Lab, place: Place<'_>, program: &str) -> String {
    lab.py_within(place, &format!("{MDNS}\n{program}"), secs(120)).ok().to_owned()
}

/// A printer, at an interface.
fn printer(interface: &str, name: &str) -> String {
    format!(
        "
found = [record('_ipp._tcp.local', PTR, labels('{name}._ipp._tcp.local'))]
for version in (4, 6):
    respond('{interface}', {{('_ipp._tcp.local', PTR): found}}, version)
"
    )
}

// I3, from the inside: by who asks but once, as `dig` did before it connected its sockets (9.18 hears
// no answer on any network), and by who hears what everybody is told.
#[test]
fn a_container_finds_what_the_network_announces() {
    let Some(lab) = Lab::new() else { return };
    let _printer = serve(&lab, Place::Lan, &printer("l0", "printer"));
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--mdns"]).start();
    let program = "
for version, port in [(4, 0), (4, 5353), (6, 0), (6, 5353)]:
    peer, hops, found, _ = ask('eth0', '_ipp._tcp.local', PTR, port, version)
    # Of the printer's two addresses of IPv6 the kernels choose.
    there = peer[0].startswith('fe80::') or peer[0] == '2001:db8:5::9'
    say(port, 'there' if there else peer[0], peer[1], hops, found[0][2])
";
    let printer_is = "printer._ipp._tcp.local";
    assert_eq!(
        py(&lab, Place::In(&ctr), program),
        format!(
            "0 {LAN4} 5353 [] {printer_is}\n5353 10.0.2.2 5353 [255] {printer_is}\n\
             0 there 5353 [] {printer_is}\n5353 there 5353 [255] {printer_is}"
        )
    );
    // A network that the host comes to later.
    lab.sh(
        Place::Host,
        &format!(
            "ip link add h1 type veth peer name l1 netns {}
             ip addr add 198.51.100.1/24 dev h1
             ip link set h1 up",
            lab.lan_pid()
        ),
    )
    .ok();
    lab.sh(Place::Lan, "ip addr add 198.51.100.9/24 dev l1; ip link set l1 up").ok();
    let _other = serve(&lab, Place::Lan, &printer("l1", "other"));
    let program = "
other = lambda found: any('other' in str(value) for _, _, value in found)
for port in (0, 5353):
    say(ask('eth0', '_ipp._tcp.local', PTR, port, until=other)[0][0])
";
    assert_eq!(py(&lab, Place::In(&ctr), program), "198.51.100.9\n10.0.2.2");
}

// I3, from the outside.
#[test]
fn a_published_service_is_found_at_the_host_and_another_is_not() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80", "--mdns"]).start();
    let _web = lab.web_server(Place::In(&ctr), 80, "hello from inside");
    let _responder = serve(
        &lab,
        Place::In(&ctr),
        "
web, ssh = 'web._http._tcp.local', 'ssh._http._tcp.local'
about = [
    record(web, SRV, srv(80, 'ctr.local')),
    record('ctr.local', A, socket.inet_aton('10.0.2.100')),
    record('ctr.local', A, socket.inet_aton('172.17.0.1')),
]
respond('eth0', {
    (web, SRV): about,
    ('_http._tcp.local', PTR): [
        record('_http._tcp.local', PTR, labels(ssh)),
        record('_http._tcp.local', PTR, labels(web)),
        record(ssh, SRV, srv(22, 'ctr.local')),
    ] + about,
})
",
    );
    // Every packet of mDNS that passes is counted: a question, and an answer.
    let program = format!(
        "
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
wire.bind(('l0', 3))
wire.settimeout(3)
asked = 0
for port in (0, 5353):
    peer, _, found, times = ask('l0', 'web._http._tcp.local', SRV, port)
    asked += times
    say(peer, [f[2] for f in found])
    _, _, found, times = ask('l0', '_http._tcp.local', PTR, port)
    asked += times
    say([f[2] for f in found])
packets = 0
while True:
    try:
        data, about = wire.recvfrom(9000)
    except TimeoutError:
        break
    if about[1] == 0x0800 and data[9] == 17 and 5353 in struct.unpack_from('!HH', data, 20):
        packets += 1
say('few' if packets <= 2 * asked else 'too many: %d of %d' % (packets, asked))
said = urllib.request.urlopen('http://{HOST4}:8080/', timeout=60).read().decode().strip()
say(said)
"
    );
    let service = "'8080 ctr.local', '192.0.2.1'";
    let web = "'web._http._tcp.local'";
    assert_eq!(
        py(&lab, Place::Lan, &format!("import urllib.request\n{program}")),
        format!(
            "('{HOST4}', 5353) [{service}]\n[{web}, {service}]\n\
             ('{HOST4}', 5353) [{service}]\n[{web}, {service}]\nfew\nhello from inside"
        )
    );
}

// I3: a program that shares the port with nobody.
#[test]
fn a_port_that_is_taken_is_told() {
    let Some(lab) = Lab::new() else { return };
    let _owner = lab.serve(Place::Host, "s = udp()\ns.bind(('', 5353))\nsay('ready')\nforever()");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["--mdns"]).start();
    let told = "rnsnet: warn: 224.0.0.251:5353 is not heard at interface ";
    let hint = " (ss -ulpn 'sport = :5353' tells who has the port to itself)";
    eventually(secs(5), "the log tells who is in the way", || {
        let log = net.log();
        let mut lines = log.lines();
        if lines.any(|l| l.starts_with(told) && l.ends_with(hint)) { Ok(()) } else { Err(log) }
    });
}

// I4
#[test]
fn a_relayed_group_is_searched_and_heard() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["--relay", "ssdp"]).start();
    // Answers from a port of its own, as many do, and tells everybody meanwhile.
    let _device = serve(
        &lab,
        Place::Lan,
        "
GROUP = '239.255.255.250'
s, own = at_group(GROUP, 1900, 'l0'), udp()
def serve():
    while True:
        try:
            data, peer = s.recvfrom(9000)
        except TimeoutError:
            s.sendto(b'NOTIFY * HTTP/1.1', (GROUP, 1900))
            continue
        if data.startswith(b'M-SEARCH'):
            own.sendto(b'HTTP/1.1 200 OK', peer)
thread(serve)
",
    );
    // Of the host's own programs nobody is asked, whatever else they hear.
    let mut own = lab.serve(
        Place::Host,
        &format!(
            "{MDNS}
def hear(group):
    s, seen = at_group(group, 1900, 'h0'), []
    s.settimeout(None)
    def serve():
        data = b''
        while data != b'END':
            data = s.recvfrom(9000)[0]
            if data.startswith(b'M-SEARCH'):
                seen.append(data)
        say(len(seen))
    return serve
listeners = [hear('239.255.255.250'), hear('ff02::c')]
say('ready')
for serve in listeners:
    serve()
forever()"
        ),
    );
    let program = "
GROUP = '239.255.255.250'
udp(v6=True).sendto(b'M-SEARCH * HTTP/1.1', to_group('ff02::c', 1900, 'eth0'))
s, heard, asked = udp(timeout=2), None, 0
while heard is None and asked < 30:
    asked += 1
    s.sendto(b'M-SEARCH * HTTP/1.1', (GROUP, 1900))
    try:
        heard, peer = s.recvfrom(9000)
    except TimeoutError:
        pass
say(heard, peer[0])
s, heard = at_group(GROUP, 1900, 'eth0'), b''
start = time.monotonic()
while not heard.startswith(b'NOTIFY') and time.monotonic() < start + 60:
    try:
        heard, peer = s.recvfrom(9000)
    except TimeoutError:
        pass
say(heard, peer[0])
";
    let said = py(&lab, Place::In(&ctr), program);
    assert_eq!(said, format!("b'HTTP/1.1 200 OK' {LAN4}\nb'NOTIFY * HTTP/1.1' {LAN4}"));
    let end = "
for group in ('239.255.255.250', 'ff02::c'):
    at_group(group, 1900, 'l0').sendto(b'END', to_group(group, 1900, 'l0'))
";
    py(&lab, Place::Lan, end);
    let heard = [own.line(secs(60)), own.line(secs(60))];
    assert_eq!(heard, ["0", "0"], "what the host hears of the container");
    // Groups that nobody has asked for cost nothing: the kernel does not wake us for them.
    let ticks = || {
        let stat = lab.sh(Place::Host, &format!("cut -d' ' -f14,15 /proc/{}/stat", net.pid()));
        let ticks = stat.ok().split(' ').map(|ticks| ticks.parse::<u32>().expect("a number"));
        ticks.sum::<u32>()
    };
    let before = ticks();
    let program = "
s = udp()
by = bytes(8) + struct.pack('@i', socket.if_nametoindex('l0'))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
for _ in range(300):
    s.sendto(bytes(100), ('239.1.2.3', 1900))
    threading.Event().wait(0.01)
";
    py(&lab, Place::Lan, program);
    // 5 % of three seconds.
    assert!(ticks() - before <= 15, "{before} ticks, then {}", ticks());
}

// What the one that was killed knew of groups, the next one asks for: the container has no reason to
// say it again.
#[test]
fn a_group_that_was_joined_before_is_heard_after_a_kill() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["--relay", "239.1.2.3:5000"]).start();
    let hear = "
s = at_group('239.1.2.3', 5000, 'eth0')
s.settimeout(None)
while True:
    say(s.recvfrom(99)[0].decode())
";
    let mut member = lab.spawn_py(Place::In(&ctr), &format!("{MDNS}\n{hear}"));
    let tell = |what: &str| {
        let program = format!(
            "
s = udp()
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
             bytes(8) + struct.pack('@i', socket.if_nametoindex('l0')))
say('ready')
for _ in range(3000):
    s.sendto(b'{what}', ('239.1.2.3', 5000))
    threading.Event().wait(0.1)
"
        );
        lab.serve(Place::Lan, &program)
    };
    let first = tell("first");
    // For four seconds: the container says that it has joined twice within two (RFC 3376, section 8).
    for _ in 0..40 {
        assert_eq!(member.line(DEFAULT_DEADLINE), "first");
    }
    drop(first);
    net.signal(Signal::SIGKILL);
    assert!(!net.ends().success());
    let _again = lab.reattach(&[]).start();
    let _second = tell("second");
    while member.line(DEFAULT_DEADLINE) != "second" {}
}
