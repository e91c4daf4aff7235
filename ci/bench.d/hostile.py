"""What a hostile container, a bad link and time can do: figures with a goal each, taken once.

Every measurement has helpers of its own: rnsnet at its default MTU, slirp4netns at its fastest. The
programs in the guests are made of tests/netns/prelude.py and load.py.
"""

import json
import os
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import prelude
from lab import (HOST4, IPERF, LAN4, MAX_FILES, Daemon, Instance, Namespace, pid_of, reaches, run,
                 until)
from works import OURS, PEERS, Samples, column, say

PEER, BRIDGE = PEERS[0], ("bridge of Linux", "")
PREFIX6 = {"rnsnet": "fd72:6e73:6e65::", "slirp4netns": "fd00::"}
KIB, MIB = 1 << 10, 1 << 20
FLOW_SECONDS = 5
SYNS = 5000
UNLIMITED = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({MAX_FILES},) * 2)\n"

# title, unit, sense of the goal, goal
FRAMES = [("1,000,000 hostile frames: deaths", "", "<=", 0),
          ("what the second half of them adds to its memory", "KiB", "<=", 1024)]
OPEN = [("memory with 2,000 connections open", "MiB", "<=", 40)]
CHURN = [("10,000 connections to a published port: lost", "", "<=", 0),
         ("descriptors more than before, 10 s later", "", "<=", 0)]
LOSSY = [("download while the TAP loses 1 % of the frames", "Mbit/s", ">=", 300)]
FLOOD = [("SYN flood to an open port: of 10 other connections stand", "", ">=", 10),
         ("memory that the flood takes", "MiB", "<=", 16)]
ECHO = [("99th percentile of an echo beside a bulk flow", "ms", "<=", 20)]
DATAGRAMS = [("descriptors more than before, a minute after 5,000 UDP flows", "", "<=", 100)]
DEATH = [("until the container's death is noticed", "ms", "<=", 1000)]
SOAK = [("slope of its memory, second half of a mixed load", "MiB/h", "<=", 1)]
LINK = [("attacks on a shared network that succeed, of 7", "", "<=", 0)]


def resident(process):
    """Bytes of memory that are a process's own or mapped by it, counted page by page."""
    with open(f"/proc/{process.pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) * KIB for line in file if line.startswith("Rss:"))


def descriptors(process):
    # Beside it, `fd` is closed to all but the process where that cannot be dumped.
    return len(os.listdir(f"/proc/{process.pid}/fdinfo"))


def alive(process):
    return process.popen.poll() is None


def slope(points):
    """Of the line through points, by least squares."""
    xs, ys = zip(*points)
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a in xs)


class Figures:
    """All figures of a lab; those that take long can be left out by `--only`."""

    def __init__(self, lab, options):
        self.lab, self.options = lab, options
        self.take = Samples(lab, FLOW_SECONDS)
        here = Path(__file__).parent
        self.prelude = "".join((here / f"{name}.py").read_text() for name in ("prelude", "load"))
        for port, program in ((7, "echo_tcp(7)"), (8, "echo_udp(8)"), (9000, "exact_server(9000)"),
                              (10, "greet(10)")):
            lab.lan.serve(self.python(UNLIMITED + program), port)

    def groups(self):
        """What is measured at once, by which function, on whom."""
        both = (OURS, PEER)
        yield FRAMES, self.frames, both
        yield OPEN, self.connections, both
        yield CHURN, self.churn, both
        yield LOSSY, self.lossy, both
        yield FLOOD, self.syn_flood, both
        yield ECHO, self.echo, both
        yield DATAGRAMS, self.datagrams, both
        yield DEATH, self.death, both
        yield LINK, self.link_attacks, (OURS, BRIDGE)
        yield SOAK, self.soak, both

    def run(self, save):
        """Measures; what it found is given to `save` after each group."""
        results = []
        wanted = self.options.only or [""]
        for figures, measure, contenders in self.groups():
            if not any(p.lower() in f[0].lower() for p in wanted for f in figures):
                continue
            rows = [{"title": title, "unit": unit, "sense": sense, "goal": goal, "columns": {}}
                    for title, unit, sense, goal in figures]
            results += rows
            for who in contenders:
                name = column(*who).strip()
                say(f"{figures[0][0]}: {name}")
                try:
                    found = measure(who)
                except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
                    text = " ".join(str(error).split())
                    found = [(None, "failed")] * len(rows)
                    say(f"  no figure: {text[:100]} ... {text[-300:]}")
                for row, (value, note) in zip(rows, found):
                    row["columns"][name] = {"value": value, "note": note}
                    say(f"  {row['title']}: {value} {row['unit']} {note}")
                self.lab.close_tagged("hostile")
            save(results)

    # Programs.

    def python(self, program):
        return ["python3", "-c", f"{self.prelude}\n{program}\n"]

    def ask(self, space, program, timeout=120):
        return space.run(self.python(program), timeout=timeout).strip()

    def start(self, space, program):
        """A program that has said something, and waits for its standard input."""
        process = space.spawn(self.python(program), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if not process.popen.stdout.readline():
            raise RuntimeError("a program in a guest failed")
        return process

    def fresh(self, who):
        return self.lab.instance(*who, "hostile", files=MAX_FILES)

    # Figures.

    def frames(self, who):
        net = self.fresh(who)
        # What the helper has read, not what was sent.
        taken = Path(f"/proc/{net.guest.sleeper.pid}/net/dev")
        sizes, read = [], 0
        for seed in range(60):
            try:
                self.ask(net.guest, f"hostile_frames({seed}, 100_000, '{PREFIX6[net.kind]}')")
            except RuntimeError:
                pass
            if not alive(net.helper):
                return [(1, f"among the first {100_000 * (seed + 1):,} sent"), (None, "dead")]
            line = next(l for l in taken.read_text().splitlines() if "eth0:" in l)
            read = int(line.split(":")[1].split()[9])
            sizes.append(resident(net.helper))
            if read >= 1_000_000:
                return [(0, f"{read:,} frames read"),
                        ((sizes[-1] - sizes[len(sizes) // 2]) / KIB, "")]
        return [(0, f"{read:,} frames read"), (None, "it reads no more")]

    def connections(self, who):
        net = self.fresh(who)
        holder = self.start(net.guest, UNLIMITED + f"""
held = []
for number in range(2000):
    s = tcp('{LAN4}', 7)
    s.sendall(bytes(1000))
    assert recv_full(s, bytearray(1000)) == 1000
    held.append(s)
say(len(held))
sys.stdin.readline()""")
        size = net.helper.pss()
        holder.stop()
        return [(size / MIB, "PSS; 1,000 bytes there and back on each")]

    def churn(self, who):
        net = self.fresh(who)
        # In the place of the server that is published.
        net.processes.pop(0).stop()
        net.processes.append(net.guest.serve(self.python(UNLIMITED + f"echo_tcp({IPERF})"), IPERF))
        self.ask(self.lab.lan, f"churn('{HOST4}', {net.base}, 400)")
        before = descriptors(net.helper)
        said = self.ask(self.lab.lan, f"churn('{HOST4}', {net.base}, 10_000)", 900)
        if not alive(net.helper):
            return [(None, "dead")] * 2
        end = time.monotonic() + 10
        while (left := descriptors(net.helper) - before) > 0 and time.monotonic() < end:
            time.sleep(0.1)
        return [(int(said.split()[0]), "8 at a time"), (left, "")]

    def lossy(self, who):
        net = self.fresh(who)
        net.guest.run(["nft", "add table netdev bad\nadd chain netdev bad in "
                       "{ type filter hook ingress device eth0 priority 0; }\n"
                       "add rule netdev bad in numgen random mod 100 0 drop\n"])
        rates = [self.take.tcp(net, "down")["Gbit/s"] * 1000 for _ in range(3)]
        return [(sorted(rates)[1], f"the middle one of three times {FLOW_SECONDS} s")]

    def syn_flood(self, who):
        """Slow enough for the container's own queue, which loses frames before anybody has them."""
        net = self.fresh(who)
        before, sizes, over = resident(net.helper), [0], threading.Event()
        flood = self.start(net.guest, f"""
wire = Wire()
frames = [wire.gateway + wire.own + b'\\x08\\x00' + packet('10.0.2.150', '{LAN4}', 6,
    tcp_segment(1024 + n, 10, seq=n * 7)) for n in range(60_000)]
def flood():
    begin, sent = time.monotonic(), 0
    while True:
        while sent < (time.monotonic() - begin) * {SYNS}:
            for _ in range(20):
                try:
                    wire.frame(frames[sent % len(frames)])
                except OSError:
                    pass
                sent += 1
        time.sleep(0.001)
thread(flood)
say('floods')
sys.stdin.readline()""")

        def watch():
            while not over.wait(0.05) and alive(net.helper):
                sizes.append(resident(net.helper))
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            stand = self.ask(net.guest, f"""
time.sleep(2)
stand = 0
for _ in range(10):
    try:
        with tcp('{LAN4}', 10, 5) as s:
            stand += s.recv(1) == b'x'
    except OSError:
        pass
    time.sleep(0.5)
say(stand)""")
        finally:
            over.set()
            watcher.join()
            flood.stop()
        return [(int(stand), f"{SYNS:,} SYNs a second; 5 s for each connection"),
                ((max(sizes) - before) / MIB, "at the most")]

    def echo(self, who):
        net = self.fresh(who)
        worst = (0, "")
        for way in ("up", "down"):
            bulk = threading.Thread(target=self.take.tcp, args=(net, way))
            bulk.start()
            said = self.ask(net.guest, f"""
import json
s, u = tcp('{LAN4}', 7), udp()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
u.connect(('{LAN4}', 8))
times = dict(TCP=[], UDP=[])
time.sleep(0.5)
end = time.monotonic() + {FLOW_SECONDS - 1}
while time.monotonic() < end:
    for name, e in (('TCP', s), ('UDP', u)):
        begin = time.monotonic()
        e.send(b'x')
        try:
            e.recv(1)
        except TimeoutError:
            pass
        times[name].append(1000 * (time.monotonic() - begin))
    time.sleep(0.005)
say(json.dumps(times))""")
            bulk.join()
            for name, times in json.loads(said).items():
                p99 = sorted(times)[int(0.99 * len(times))]
                worst = max(worst, (p99, f"{name} beside {way}load, the worst of four"))
        return [worst]

    def datagrams(self, who):
        net = self.fresh(who)
        before = descriptors(net.helper)
        self.ask(net.guest, f"""
for number in range(5000):
    with udp('10.0.2.100', 10_000 + number) as s:
        s.sendto(b'x', ('{LAN4}', 8))""")
        at_once = descriptors(net.helper) - before
        time.sleep(60)
        return [(descriptors(net.helper) - before, f"{at_once:,} at once")]

    def death(self, who):
        net = self.fresh(who)
        for process in net.processes:
            process.stop()
        net.guest.sleeper.stop()
        begin = time.monotonic()
        try:
            net.helper.popen.wait(10)
            return [(1000 * (time.monotonic() - begin), "")]
        except subprocess.TimeoutExpired:
            return [(None, "not in 10 s")]

    def soak(self, who):
        net = self.fresh(who)
        seconds, points, begin = 60 * self.options.soak, [], time.monotonic()
        while (now := time.monotonic() - begin) < seconds:
            said = self.ask(net.guest, f"mixed('{LAN4}')", 600)
            if not alive(net.helper):
                return [(None, "dead")]
            failed = "" if said == "[]" else "; not all of it worked"
            points.append((now, resident(net.helper)))
        half = [point for point in points if point[0] > seconds / 2]
        note = f"{len(points)} loads in {self.options.soak} min, {half[-1][1] / MIB:.1f} MiB at last"
        return [(slope(half) * 3600 / MIB, note + failed)]

    def link_attacks(self, who):
        three = Bridged(self.lab) if who == BRIDGE else Networked(self.lab)
        won = [name for name in ATTACKS if self.attack(three, name)]
        return [(len(won), "; ".join(won))]

    def attack(self, three, name):
        """Whether it succeeds: who is not meant to gets what has those bytes."""
        victim, other, attacker = three.ends
        deceived, needle, frames, spoken = ATTACKS[name](victim, other, attacker)
        size = three.size()
        ear = self.start({"victim": victim, "attacker": attacker}[deceived].space, f"""
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(('eth0', 0))
say('hears')
sys.stdin.readline()
s.setblocking(False)
found = 0
try:
    while True:
        frame, whence = s.recvfrom(70000)
        found += whence[2] != socket.PACKET_OUTGOING and bytes.fromhex('{needle.hex()}') in frame
except BlockingIOError:
    say(found)""")
        self.ask(attacker.space, f"""
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
for frame in '{' '.join(frame.hex() for frame in frames)}'.split():
    s.send(bytes.fromhex(frame))
if {name == FLOOD_OF_ADDRESSES}:
    for _ in range(20_000):
        s.send({other.mac!r} + bytes([2]) + os.urandom(5) + b'\\x88\\xb5' + bytes(46))""")
        if spoken:
            self.ask(victim.space, f"""
with udp() as s:
    for _ in range(20):
        s.sendto({needle!r}, ('{other.v4}', 9))""")
        time.sleep(0.5)
        ear.popen.stdin.write(b"\n")
        ear.popen.stdin.flush()
        found = int(ear.popen.stdout.readline())
        ear.stop()
        return found > 0 or (name == FLOOD_OF_ADDRESSES and three.size() > size + 1000)


class End:
    """A guest of a shared network."""

    def __init__(self, space):
        self.space = space
        link = json.loads(space.run(["ip", "-j", "addr", "show", "dev", "eth0"]))[0]
        self.mac = bytes.fromhex(link["address"].replace(":", ""))
        self.v4 = next(a["local"] for a in link["addr_info"] if a["family"] == "inet")
        self.v6 = next(a["local"] for a in link["addr_info"]
                       if a["family"] == "inet6" and a["scope"] == "link")


class Networked:
    """Three guests of one named network of rnsnet."""

    def __init__(self, lab):
        directory = f"{lab.dir}/attacked"
        os.makedirs(directory, mode=0o700)
        environment = os.environ | {"XDG_RUNTIME_DIR": directory, "XDG_CONFIG_HOME": directory}
        rnsnet = [*lab.user.prefix, f"{lab.dir}/rnsnet"]
        run([*rnsnet, "network", "create", "attacked"], env=environment)
        spaces = [Namespace(lab.user.prefix, ["-U", "-r", "-n"]) for _ in range(3)]
        for space in spaces:
            run([*rnsnet, "-d", "--network", "attacked", str(space.sleeper.pid)], env=environment)
        self.ends = [End(space) for space in spaces]
        until("the neighbour", lambda: reaches(spaces[0], self.ends[1].v4), 15)
        self.helper = Daemon(pid_of(f"{lab.dir}/rnsnet", "attacked"))

    def size(self):
        """Entries of a table that remembers hardware addresses, if it takes 32 bytes for each."""
        return resident(self.helper) // 32


class Bridged:
    """Three namespaces on a bridge of Linux."""

    def __init__(self, lab):
        self.lab = lab
        lab.host.run(["sh", "-ec", "ip link add br1 type bridge; ip link set br1 up"])
        self.ends = []
        for number in (1, 2, 3):
            space = Namespace(unshare=["-n"])
            lab.host.run(["ip", "link", "add", f"a{number}", "type", "veth", "peer", "name", "eth0",
                          "netns", str(space.sleeper.pid)])
            lab.host.run(["ip", "link", "set", f"a{number}", "master", "br1", "up"])
            space.run(["sh", "-ec", f"ip addr add 172.31.1.{number}/24 dev eth0; "
                                    "ip link set eth0 up"])
            until("an IPv6 address", lambda space=space: "scope link" in space.run(
                ["ip", "-6", "addr", "show", "dev", "eth0", "-tentative"]))
            self.ends.append(End(space))
        until("the neighbour", lambda: reaches(self.ends[0].space, self.ends[1].v4), 15)

    def size(self):
        return len(self.lab.host.run(["bridge", "fdb", "show", "br", "br1"]).splitlines())


# Attacks: who is deceived if he gets what, by which frames, and whether the victim speaks to the
# other meanwhile.

EVERYBODY, MARK = b"\xff" * 6, b"deceived by a neighbour"


def ethernet(to, source, kind, body):
    return to + source + struct.pack("!H", kind) + body


def arp_spoof(victim, other, attacker):
    lie = attacker.mac + socket.inet_aton(other.v4)
    answer = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + lie + victim.mac + socket.inet_aton(victim.v4)
    return "victim", lie, [ethernet(victim.mac, attacker.mac, 0x806, answer)] * 20, False


def mac_steal(victim, other, attacker):
    frame = ethernet(EVERYBODY, other.mac, 0x88B5, bytes(46))
    return "attacker", MARK, [frame] * 20, True


def mac_flood(victim, other, attacker):
    return "attacker", MARK, [], True


def forged_address(victim, other, attacker):
    datagram = prelude.packet(other.v4, victim.v4, 17, prelude.udp_datagram(9, 9, MARK))
    return "victim", MARK, [ethernet(victim.mac, attacker.mac, 0x800, datagram)] * 20, False


def icmpv6(source, to, kind, body):
    return prelude.packet(source, to, 58, struct.pack("!BBH", kind, 0, 0) + body, ttl=255)


def forged_neighbour(victim, other, attacker):
    lie = socket.inet_pton(socket.AF_INET6, other.v6) + b"\2\1" + attacker.mac
    answer = icmpv6(other.v6, victim.v6, 136, struct.pack("!I", 0x60000000) + lie)
    return "victim", lie, [ethernet(victim.mac, attacker.mac, 0x86DD, answer)] * 20, False


def rogue_router(victim, other, attacker):
    prefix = b"\3\4\x40\xc0" + struct.pack("!III", 1800, 1800, 0) \
        + socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
    router = icmpv6(attacker.v6, "ff02::1", 134, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix)
    to = b"\x33\x33\0\0\0\1"
    return "victim", prefix, [ethernet(to, attacker.mac, 0x86DD, router)] * 20, False


def rogue_dhcp(victim, other, attacker):
    offer = struct.pack("!BBBBIHH", 2, 1, 6, 0, 7, 0, 0) + bytes(16) + victim.mac + bytes(10) \
        + MARK.ljust(192, b"\0") + bytes((99, 130, 83, 99, 53, 1, 2, 255))
    datagram = prelude.packet(attacker.v4, "255.255.255.255", 17,
                              prelude.udp_datagram(67, 68, offer))
    return "victim", MARK, [ethernet(EVERYBODY, attacker.mac, 0x800, datagram)] * 20, False


FLOOD_OF_ADDRESSES = "flood of hardware addresses"
ATTACKS = {"ARP spoofing": arp_spoof, "taking another's hardware address": mac_steal,
           FLOOD_OF_ADDRESSES: mac_flood, "another's IPv4 address": forged_address,
           "another's neighbour advertisement": forged_neighbour, "rogue router": rogue_router,
           "rogue DHCP server": rogue_dhcp}
