//! TCP as Linux has it: the same raw segments of a container once through rnsnet and once through the
//! kernel's own NAT, to the same server. What comes back is compared, word for word. Row B12.

use std::collections::{BTreeMap, BTreeSet};

use crate::eventually::secs;
use crate::lab::{Container, HOST4, LAN4, Lab, Place};

/// Where rnsnet answers otherwise, how, and why that is meant.
const DIFFERENT: &[(&str, &str, &str)] = &[
    // Linux takes the last urgent byte out of the stream, where nobody asks for it. Here urgent data is
    // data as all other: threats of the kind of CVE-2026-9539 have nothing to count.
    ("urgent data", "b'abcdef'", "urgent data is carried as ordinary data"),
    // The kernel's NAT finds no connection for it, and what it does not translate nobody answers. Linux
    // itself resets it, as RFC 9293 has it (section 3.10.7.1).
    ("FIN of no connection", "(4, 9000)", "what belongs to nothing is reset"),
];

/// A connection of raw segments.
const RAW: &str = "
ME, YOU = '10.0.2.150', '192.0.2.9'
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
wire = Wire()
wire.s.settimeout(0.2)
me = socket.inet_aton(ME)
def heard(sport, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            frame = wire.s.recv(70000)
        except TimeoutError:
            continue
        if frame[6:12] == wire.own or frame[12:14] != b'\\x08\\x00' or frame[23] != 6 or frame[30:34] != me:
            continue
        ip = frame[14:14 + int.from_bytes(frame[16:18], 'big')]
        tcp = ip[20:]
        if int.from_bytes(tcp[2:4], 'big') != sport:
            continue
        seq, ack = struct.unpack('!II', tcp[4:12])
        head = tcp[12] >> 4 << 2
        return tcp[13] & 0x3f, seq, ack, tcp[head:], tcp[20:head], int.from_bytes(tcp[14:16], 'big')
    return None
def segment(sport, dport, flags, seq, ack, data=b'', window=64240, options=b'', urgent=0):
    head = struct.pack('!HHIIBBHHH', sport, dport, seq & 0xffffffff, ack & 0xffffffff,
                       (5 + len(options) // 4) << 4, flags, window, 0, urgent)
    wire.send(packet(ME, YOU, 6, head + options + data))
class Conn:
    ports = iter(range(41000, 60000))
    def __init__(self, dport=7, sport=None, seq=None, options=b'', window=64240):
        self.sport, self.dport = sport or next(Conn.ports), dport
        self.seq = random.getrandbits(32) if seq is None else seq
        self.window = window
        segment(self.sport, dport, SYN, self.seq, 0, options=options, window=window)
        answer = heard(self.sport)
        while answer and not answer[0] & (SYN | RST):
            # Of the connection that had these ports before.
            answer = heard(self.sport)
        assert answer and answer[0] == SYN | ACK, answer
        self.seq += 1
        self.isn, self.options, self.window_of_peer = answer[1], answer[4], answer[5]
        self.ack = answer[1] + 1 & 0xffffffff
        self.say(ACK)
    def say(self, flags, data=b'', seq=0, ack=0, window=None, urgent=0):
        segment(self.sport, self.dport, flags, self.seq + seq, self.ack + ack, data,
                self.window if window is None else window, urgent=urgent)
    def hear(self, seconds=20):
        # What has been acknowledged is sent again where that was late.
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and (answer := heard(self.sport, left)):
            room = len(answer[3]) + bool(answer[0] & SYN) + bool(answer[0] & FIN)
            if not room or (answer[1] + room - self.ack - 1) & 0xffffffff < 1 << 31:
                return answer
        return None
    def words(self, answer):
        if answer is None:
            return 'silence'
        flags, seq, ack, data = answer[:4]
        names = [n for n, f in zip(('FIN', 'SYN', 'RST', 'ACK'), (FIN, SYN, RST, ACK)) if flags & f]
        place = 'exact' if ack == self.seq & 0xffffffff else 'other'
        return '+'.join(names) + (' ' + place if flags & ACK and not flags & RST else '') + (' data' if data else '')
    def take(self, total, ends=False, seconds=30):
        # So many bytes in order, acknowledged one by one; and whether the end came, which is waited
        # for where it has to.
        got, end, until = b'', False, time.monotonic() + seconds
        while (len(got) < total or not end) and time.monotonic() < until:
            answer = self.hear(0.5)
            if answer is None:
                if len(got) >= total and not ends:
                    break
                continue
            flags, seq, ack, data = answer[:4]
            if flags & RST:
                return got, 'reset'
            if seq != self.ack:
                continue
            got += data
            self.ack = self.ack + len(data) + (flags & FIN) & 0xffffffff
            end = end or bool(flags & FIN)
            if data or flags & FIN:
                self.say(ACK)
        return got, end
    def works(self):
        word = b'word%d' % random.getrandbits(30)
        self.say(ACK | PSH, word)
        self.seq += len(word)
        got, end = self.take(len(word))
        return 'works' if (got, end) == (word, False) else f'broken {got} {end}'
    def reset(self):
        self.say(RST)
";

/// What is compared.
const CHECKS: &str = "
def breathe():
    # What is out of order is answered once a second at the most, by both (RFC 5961, section 7).
    time.sleep(1.2)
def tell(name, *words):
    print(name + ': ' + ', '.join(map(str, words)), flush=True)

c = Conn()
c.say(SYN, seq=100)
tell('SYN inside the window', c.words(c.hear()), c.works())
breathe()
c.say(SYN, seq=-1)
tell('SYN again', c.words(c.hear()), c.works())
c.say(RST, seq=200_000)
tell('RST outside the window', c.words(c.hear(1)), c.works())
breathe()
c.say(RST, seq=100)
tell('RST inside the window', c.words(c.hear()), c.works())
breathe()
c.say(ACK, b'x' * 10, ack=1_000_000)
tell('ACK of what was not sent', c.words(c.hear()), c.works())
breathe()
c.say(ACK, b'old', seq=-3)
tell('old data', c.words(c.hear()), c.works())
breathe()
c.say(ACK, seq=-1)
tell('a keep-alive', c.words(c.hear()), c.works())
c.say(0, b'x')
tell('no flags', c.words(c.hear(1)), c.works())
breathe()
c.say(ACK | PSH, b'oldnew', seq=-3)
c.seq += 3
tell('old data before new', c.take(3)[0], c.works())
breathe()
c.say(ACK | PSH, b'far', seq=100_000)
tell('data beyond the window', c.words(c.hear()), c.works())
breathe()
c.say(ACK | PSH, b'e' * 1000, seq=c.window_of_peer - 500)
tell('data across the edge of the window', c.words(c.hear()), c.works())
c.reset()

c = Conn()
c.say(ACK | PSH, b'second', seq=5)
first = c.words(c.hear())
c.say(ACK | PSH, b'first')
c.seq += 11
tell('a hole that is filled', first, c.take(11)[0])
c.say(RST)
c.say(ACK | PSH, b'late')
tell('after an exact RST', c.words(c.hear()))

c = Conn()
c.say(ACK | PSH | FIN, b'all of it')
c.seq += 10
got, end = c.take(9, ends=True)
tell('data with a FIN', got, 'end' if end else 'no end')
again = c.sport
c = Conn(sport=again, seq=c.seq + 200_000)
tell('the same ports again', c.works())
c.reset()

c = Conn(dport=8)
got, end = c.take(100, ends=True)
c.say(ACK | PSH, b'after the end')
c.seq += 13
answer = c.words(c.hear())
c.say(ACK | FIN)
c.seq += 1
tell('the peer ends its half', len(got), end, answer, c.words(c.hear()))
# It is the peer who waits now, and takes a number that is later.
c = Conn(dport=8, sport=c.sport, seq=c.seq + 200_000)
tell('the same ports in the time that the peer waits', len(c.take(100)[0]))
c.reset()
c = Conn(dport=9)
c.say(ACK | PSH | FIN, b'question')
c.seq += 9
# However soon: the answer may come with the acknowledgement.
tell('we end our half', c.take(11, ends=True))

c = Conn(dport=11)
ended = c.take(0, ends=True)
c.say(ACK | PSH, b'too late')
# We acknowledge it first, as the host's kernel has taken it from us.
answers = iter(c.hear, None)
tell('data for a peer that has closed', *ended, any(a[0] & RST for a in answers))

c = Conn(window=10)
c.say(ACK | PSH, b'y' * 500, window=0)
c.seq += 500
beyond, until = 0, time.monotonic() + 1.5
while time.monotonic() < until:
    answer = c.hear(0.3)
    if answer and answer[3]:
        beyond = max(beyond, (answer[1] + len(answer[3]) - c.ack) & 0xffffffff)
tell('a closed window', 'kept' if beyond <= 1 else f'{beyond} bytes')
c.window = 64240
c.say(ACK)
got, _ = c.take(500)
tell('a window that opens', got == b'y' * 500)
c.reset()

c = Conn(options=b'\\x02\\x04\\x00\\x01')
tell('an MSS of 1', c.works())
c.reset()
c = Conn(options=b'\\x02\\x04\\x05\\xb4')
tell('an MSS is told', c.options[:2] == b'\\x02\\x04' and int.from_bytes(c.options[2:4], 'big') == 1460)
c.reset()

c = Conn()
c.say(ACK | URG | PSH, b'abcdef', urgent=6)
c.seq += 6
tell('urgent data', c.take(5)[0])
c.say(RST)
c = Conn()
c.say(ACK | URG | PSH, b'abc', urgent=60000)
c.seq += 3
tell('an urgent pointer beyond the data', len(c.take(2)[0]) <= 3)
c.reset()

s = next(Conn.ports)
segment(s, 6, SYN, 7000, 0)
a = heard(s)
tell('SYN to a closed port', a and (a[0], a[1], a[2]))
segment(s, 6, ACK, 7000, 9000)
a = heard(s)
tell('ACK to a closed port', a and (a[0], a[1]))
segment(s, 6, RST, 7000, 9000)
tell('RST to a closed port', heard(s, 1))
segment(s, 7, ACK | FIN, 7000, 9000)
a = heard(s)
tell('FIN of no connection', a and (a[0], a[1]))

isns = []
for _ in range(20):
    c = Conn()
    isns.append(c.isn)
    c.reset()
steps = {(b - a) & 0xffffffff for a, b in zip(isns, isns[1:])}
tell('initial numbers', len(set(isns)), len(steps) > 15, max(steps) > 1 << 24)
";

/// What was told, by name.
fn told(lab: &Lab, ctr: &Container) -> BTreeMap<String, String> {
    let program = format!("{RAW}{CHECKS}");
    let ran = lab.py_within(Place::In(ctr), &program, secs(120));
    let lines = ran.ok().lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, words)| (name.to_owned(), words.to_owned())).collect()
}

/// What the segments are for: an echo on port 7, one that ends its half first on 8, and one that answers
/// after the other's end on 9, and one that closes at once on 11.
const SERVERS: &str = "
def first(s):
    s.sendall(b'q' * 100)
    s.shutdown(socket.SHUT_WR)
    read_all(s)
def last(s):
    s.sendall(b'answer to %d' % len(read_all(s)))
thread(serve_each, first, 8)
thread(serve_each, last, 9)
thread(serve_each, socket.socket.close, 11)
echo_tcp(7)
";

#[test]
fn tcp_answers_as_linux_does() {
    let Some(lab) = Lab::new() else { return };
    let _servers = lab.serve(Place::Lan, SERVERS);
    let _who = lab.who(Place::Lan, 80);
    // The oracle: a container behind the kernel's NAT. What seems to it to be of no connection, or
    // outside of a window, would leave it untranslated unless it is told to be liberal.
    let linux = lab.container();
    let link = format!(
        "ip link add oracle type veth peer name eth0 netns {}
         ip addr add 10.0.2.2/24 dev oracle; ip link set oracle up
         echo 1 >/proc/sys/net/ipv4/ip_forward
         nft 'table ip oracle {{ chain out {{ type nat hook postrouting priority 100; oifname h0 masquerade; }}; }}'
         echo 1 >/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
        linux.pid()
    );
    lab.sh(Place::Host, &link).ok();
    let own =
        "ip addr add 10.0.2.100/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
               cat /sys/class/net/eth0/address";
    let own = lab.sh(Place::In(&linux), own);
    let neighbour = format!("ip neigh replace 10.0.2.150 lladdr {} dev oracle", own.ok().trim());
    lab.sh(Place::Host, &neighbour).ok();
    let seen = lab.py(Place::In(&linux), &format!("say(read_all(tcp('{LAN4}', 80)).decode())"));
    assert!(seen.ok().starts_with(&format!("{HOST4} ")), "it is translated: {seen}");
    assert_eq!(LAN4, "192.0.2.9");
    let expected = told(&lab, &linux);
    assert!(expected.len() >= 29, "{expected:#?}");
    lab.sh(Place::Host, "nft delete table ip oracle; ip link del oracle").ok();

    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    let mut found = told(&lab, &ctr);
    for (name, how, why) in DIFFERENT {
        assert_eq!(found.get(*name).map(String::as_str), Some(*how), "{name}: {why}");
        assert_ne!(found.get(*name), expected.get(*name), "{name}: no longer a difference");
        found.insert((*name).to_owned(), expected[*name].clone());
    }
    assert_eq!(found, expected, "left rnsnet, right Linux");
    assert!(!net.dump().contains("flow_panics 1"), "{}", net.dump());
}

// B12: whoever has seen those of one process knows nothing of another's, though all else is the same.
#[test]
fn initial_sequence_numbers_are_another_processs_no_second_time() {
    let Some(lab) = Lab::new() else { return };
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let program = format!("{RAW}\nfor _ in range(5): say(Conn().isn)");
    let mut seen = BTreeSet::new();
    for name in ["one", "two", "three"] {
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).named(name).start();
        let numbers = lab.py(Place::In(&ctr), &program);
        seen.extend(numbers.ok().lines().map(str::to_owned));
    }
    assert_eq!(seen.len(), 15, "{seen:?}");
}
