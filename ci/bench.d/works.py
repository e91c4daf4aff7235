"""What is measured: families of works, each with one column per contender.

A work's cell is a function that takes one short sample and returns its metrics. A sample that fails
is None in the results, with the reason on standard error; it never ends the run.
"""

import json
import resource
import subprocess
import sys
import threading
import time

from lab import ECHO, HOST4, HOST6, IPERF, LINKS, MAX_FILES, UDP, Members, Namespace, with_udp_socket

DIRECTIONS = {
    "up": "guest to host",
    "down": "host to guest",
    "in": "to a published port",
    "out": "from a published port",
}
PEERS = [("slirp4netns", 65520), ("pasta", 65520)]
OURS = ("rnsnet", 1500)
DEFAULTS = [OURS, *PEERS]
SHORT_CUT = ("--publish-loopback", "--offload=off")
START, RESOURCES = "start to ready", "memory and wake-ups"
ALL = [OURS, ("rnsnet", 65520), ("slirp4netns", 1500), ("slirp4netns", 65520), ("pasta", 1500),
       ("pasta", 65520)]


def column(kind, mtu):
    return f"{kind} {mtu}"


class Work:
    """One row of the table."""

    def __init__(self, family, title, unit, cells):
        self.name, self.unit, self.cells = f"{family}: {title}", unit, cells


class Samples:
    """The ways to take one sample."""

    def __init__(self, lab, seconds):
        self.lab, self.seconds = lab, seconds

    def client(self, space, argv, patience):
        """Runs a client to its end; what it printed, as JSON, and its processor time."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        text = space.run(argv, timeout=patience)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return json.loads(text), cpu

    def iperf(self, space, target, port, reverse, flows, server, helper):
        """Gbit/s as the receiver saw them, and what a gigabyte cost in processor time."""
        argv = ["iperf3", "-J", "-C", "cubic", "-i", "0", "-t", str(self.seconds), "-P", str(flows),
                "-c", target, "-p", str(port), "--connect-timeout", "3000"]
        if reverse:
            argv.append("-R")
        cpus = [process.cpu() for process in (server, helper) if process]
        try:
            report, client = self.client(space, argv, self.seconds + 8)
        except (RuntimeError, subprocess.TimeoutExpired):
            # It may still be busy with the client that is gone.
            server.restart()
            raise
        used = [process.cpu() - cpu
                for process, cpu in zip([p for p in (server, helper) if p], cpus)]
        end = report["end"]["sum_received"]
        gigabytes = end["bytes"] / 1e9
        metrics = {"Gbit/s": end["bits_per_second"] / 1e9,
                   "Gbit per CPU-second": 8 * gigabytes / (client + sum(used))}
        if helper and gigabytes:
            metrics["helper CPU-seconds per GB"] = used[1] / gigabytes
        return metrics

    def tcp(self, instance, direction, flows=1, v6=False, network=None):
        """From or to a guest. With `network` the other end is the lan behind that link."""
        lab, reverse = self.lab, direction in ("down", "out")
        if direction in ("up", "down"):
            target = f"{network}.9" if network else HOST6 if v6 else HOST4
            server = lab.lan_iperf if network else lab.iperf
            return self.iperf(instance.guest, target, IPERF, reverse, flows, server, instance.helper)
        space = lab.lan if network else lab.host
        # Over the loopback address pasta splices, as it is made to.
        target = f"{network}.1" if network else "::1" if v6 else "127.0.0.1"
        return self.iperf(space, target, instance.base, reverse, flows, instance.iperf,
                          instance.helper)

    def loopback(self, direction, flows=1, v6=False, network=None):
        """What the host itself gets: over its loopback, or over the link."""
        lab, reverse = self.lab, direction in ("down", "out")
        if not network:
            target = "::1" if v6 else "127.0.0.1"
            return self.iperf(lab.host, target, IPERF, reverse, flows, lab.iperf, None)
        if direction in ("up", "down"):
            target, space, server = f"{network}.9", lab.host, lab.lan_iperf
        else:
            target, space, server = f"{network}.1", lab.lan, lab.iperf
        return self.iperf(space, target, IPERF, reverse, flows, server, None)

    def netload(self, mode, space, target, port, seconds, *more):
        argv = [self.lab.netload, mode, f"{target}:{port}", str(seconds), *map(str, more)]
        if mode.startswith("udp"):
            argv = with_udp_socket(argv)
        return self.client(space, argv, seconds + 12)[0]

    def requests(self, mode, instance, direction):
        half = self.seconds / 2
        if not instance:
            found = self.netload(mode, self.lab.host, HOST4, ECHO, half)
        elif direction == "up":
            found = self.netload(mode, instance.guest, HOST4, ECHO, half)
        else:
            found = self.netload(mode, self.lab.host, "127.0.0.1", instance.base + 1, half)
        metrics = {"per second": found["rate"]}
        for key, name in (("p50", "median, us"), ("p99", "99th percentile, us"), ("failed",) * 2):
            if key in found:
                metrics[name] = found[key]
        return metrics

    def datagrams(self, mode, instance, size):
        space = instance.guest if instance else self.lab.host
        half = self.seconds / 2
        flood = self.netload(mode, space, HOST4, UDP, half, size, 0)
        paced = self.netload(mode, space, HOST4, UDP, half, size, 50_000)
        return {"per second": flood["rate"], "lost at 50,000/s, %": 100 * paced["loss"]}


class Bench:
    """All works of a lab."""

    def __init__(self, lab, options):
        self.lab, self.quick, self.options = lab, options.quick, options
        self.take, self.members = Samples(lab, options.seconds), {}

    def families(self):
        """Each family: what it is called, its works, and what to close after it."""
        yield "TCP", self.tcp, []
        yield "short cut", self.short_cut, list(SHORT_CUT)
        yield "request/response", self.request_response, []
        yield "UDP", self.udp, []
        yield "container to container", self.containers, ["second"]
        yield "idle flows", self.idle, [f"idle {count}" for count in (0, *self.idle_counts())]
        for name in list(LINKS)[:1 if self.quick else None]:
            yield f"link of {name}", lambda name=name: self.link(name), []

    def cell(self, who, sample, tag="", **kwargs):
        return lambda: sample(self.lab.instance(*who, tag, **kwargs))

    def tcp(self):
        take = self.take
        kinds = ((False, 1),) if self.quick else ((False, 1), (False, 8), (True, 1))
        # What is compared stands side by side: a minute later the machine may be another.
        for way, words in DIRECTIONS.items():
            for v6, flows in kinds:
                def sample(instance, way=way, flows=flows, v6=v6):
                    return take.tcp(instance, way, flows, v6)
                who = DEFAULTS if self.quick else [w for w in ALL if not v6 or w[1] == 1500
                                                   or w in PEERS]
                if v6 and way in ("in", "out"):
                    # slirp4netns 1.2.0 publishes IPv4 only.
                    who = [w for w in who if w[0] != "slirp4netns"]
                cells = {column(*w): self.cell(w, sample) for w in who}
                cells["loopback"] = lambda way=way, flows=flows, v6=v6: take.loopback(way, flows, v6)
                title = f"{words}, IPv{6 if v6 else 4}, {flows} flow{'s' * (flows > 1)}"
                yield Work("TCP", title, "Gbit/s", cells)

    def short_cut(self):
        """Published ports whose clients are led past the TAP, and plain frames through it."""
        for way in ("in", "out"):
            for flows in (1, 8):
                def sample(instance, way=way, flows=flows):
                    return self.take.tcp(instance, way, flows)
                cells = {f"rnsnet {option}": self.cell(OURS, sample, option, options=[option])
                         for option in SHORT_CUT}
                cells |= {column(*w): self.cell(w, sample) for w in (OURS, ("pasta", 65520))}
                title = f"{DIRECTIONS[way]}, {flows} flow{'s' * (flows > 1)}"
                yield Work("short cut", title, "Gbit/s", cells)

    def request_response(self):
        for mode, title in (("rr", "request/response of 64 bytes"),
                            ("crr", "connect, request, response, close; 8 at a time")):
            for way in ("up", "in"):
                def sample(instance, mode=mode, way=way):
                    return self.take.requests(mode, instance, way)
                cells = {column(*w): self.cell(w, sample) for w in DEFAULTS}
                cells["loopback"] = lambda sample=sample: sample(None)
                yield Work("request/response", f"{title}, {DIRECTIONS[way]}", "per second", cells)

    def udp(self):
        for size in (64, 1400):
            for way, mode in (("up", "udp-up"), ("down", "udp-down")):
                def sample(instance, mode=mode, size=size):
                    return self.take.datagrams(mode, instance, size)
                cells = {column(*w): self.cell(w, sample) for w in DEFAULTS}
                cells["loopback"] = lambda sample=sample: sample(None)
                yield Work("UDP", f"{size} bytes, {DIRECTIONS[way]}", "per second", cells)

    def containers(self):
        """Guest to guest: by a published port, and what the kernel does with a bridge."""
        def sample(first):
            second = self.lab.instance(first.kind, first.mtu, "second")
            return self.take.iperf(first.guest, HOST4, second.base, False, 1, second.iperf,
                                   first.helper)
        cells = {column(*w): self.cell(w, sample) for w in DEFAULTS}
        cells["kernel veth and bridge"] = self.bridge
        title = "one container to another's published port"
        yield Work("container to container", title, "Gbit/s", cells)

        def member(mtu):
            if mtu not in self.members:
                self.members[mtu] = Members(self.lab, mtu)
            net = self.members[mtu]
            return self.take.iperf(net.first, net.address, IPERF, False, 1, net.server, net.helper)
        cells = {column(*w): lambda w=w: member(w[1]) for w in (OURS, ("rnsnet", 65520))}
        cells["kernel veth and bridge"] = self.bridge
        yield Work("container to container", "two containers of one network", "Gbit/s", cells)

    def bridge(self):
        """Between two namespaces on a bridge, all in the kernel."""
        if not hasattr(self, "bridged"):
            lab = self.lab
            lab.host.run(["ip", "link", "add", "br0", "type", "bridge"])
            lab.host.run(["ip", "link", "set", "br0", "up"])
            self.bridged = [Namespace(unshare=["-n"]) for _ in range(2)]
            for number, space in enumerate(self.bridged, 1):
                name, pid = f"b{number}", str(space.sleeper.pid)
                lab.host.run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0",
                              "netns", pid])
                lab.host.run(["ip", "link", "set", name, "master", "br0", "up"])
                space.run(["ip", "addr", "add", f"172.31.0.{number}/24", "dev", "eth0"])
                space.run(["ip", "link", "set", "eth0", "up"])
            self.bridged.append(self.bridged[1].serve(["iperf3", "-s"], IPERF))
        first, _, server = self.bridged
        return self.take.iperf(first, "172.31.0.2", IPERF, False, 1, server, None)

    def idle_counts(self):
        counts = (1000,) if self.quick else (1000, 10_000)
        # Each flow is a descriptor of the helper, and of the program at either end.
        return [count for count in counts if count + 100 <= MAX_FILES]

    def loaded(self, kind, mtu, count):
        """An instance with that many idle flows, opened when it is first asked for."""
        tag, lab = f"idle {count}", self.lab
        fresh = (kind, mtu, tag) not in lab.pool
        instance = lab.instance(kind, mtu, tag, files=MAX_FILES)
        if fresh:
            instance.opened, idle_pss = 0, instance.helper.pss()
            if count:
                port = 20_000 + lab.instances
                keeper = lab.host.serve([lab.netload, "hold", str(port)], port)
                opener = instance.guest.spawn([lab.netload, "idle", f"{HOST4}:{port}", str(count)],
                                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                instance.processes += [keeper, opener]
                line = opener.popen.stdout.readline()
                instance.opened = json.loads(line)["open"]
                grown = instance.helper.pss() - idle_pss
                instance.bytes_per_flow = grown / max(1, instance.opened)
        return instance

    def idle(self):
        ways = {way: lambda i, way=way: self.take.tcp(i, way) for way in DIRECTIONS}
        ways["requests"] = lambda i: self.take.requests("rr", i, "up")
        titles = DIRECTIONS | {"requests": "request/response"}
        contenders = [(OURS, count) for count in (0, *self.idle_counts())]
        contenders += [(w, count) for w in PEERS for count in (0, *self.idle_counts()[-1:])]
        for way in ("up", "requests") if self.quick else ways:
            cells = {}
            for who, count in contenders:
                def sample(who=who, count=count, way=way):
                    instance = self.loaded(*who, count)
                    if instance.opened < 0.95 * count:
                        raise RuntimeError(f"only {instance.opened} of {count} flows are open")
                    return ways[way](instance)
                cells[f"{column(*who)}, {count:,} idle"] = sample
            unit = "per second" if way == "requests" else "Gbit/s"
            yield Work("idle flows", f"{titles[way]} beside idle flows", unit, cells)

    def link(self, name):
        for way, words in DIRECTIONS.items():
            def sample(instance, way=way):
                return self.take.tcp(instance, way, network=self.lab.link(name))
            def host(way=way):
                return self.take.loopback(way, network=self.lab.link(name))
            who = [OURS, ("rnsnet", 65520), *PEERS, ("pasta", 1500)]
            yield Work(f"link of {name}", words, "Gbit/s",
                       {column(*w): self.cell(w, sample) for w in who} | {"the host itself": host})

    # What is measured once, with helpers of its own.

    def started(self, who, tag, **kwargs):
        try:
            return self.lab.instance(*who, tag, **kwargs)
        except RuntimeError as error:
            say(f"  {error}")
            return None

    def start_up(self):
        """Milliseconds from the call to ready, several runs."""
        columns = {column(*who): [] for who in DEFAULTS}
        for _ in range(6 if self.quick else 20):
            for who in DEFAULTS:
                if instance := self.started(who, "start", servers=False):
                    columns[column(*who)].append({"ms": 1000 * instance.start_seconds})
                self.lab.close_tagged("start")
        return columns

    def resources(self):
        """Memory and wake-ups of helpers that are alone on the machine."""
        columns, seconds = {}, 2 if self.quick else 10
        alone = [i for who in DEFAULTS if (i := self.started(who, "alone"))]
        # A fresh interface sends its announcements first.
        time.sleep(5)
        before = [instance.helper.wakeups() for instance in alone]
        time.sleep(seconds)
        for instance, wakeups in zip(alone, before):
            metrics = {"wake-ups in 10 s": (instance.helper.wakeups() - wakeups) * 10 / seconds,
                       "idle PSS, KB": instance.helper.pss() / 1e3}
            metrics["PSS with one busy flow, KB"] = max(
                self.busy_pss(instance, way) for way in ("up", "down"))
            columns[column(instance.kind, instance.mtu)] = [metrics]
        self.lab.close_tagged("alone")
        return columns

    def busy_pss(self, instance, way):
        most, over = [0], threading.Event()

        def watch():
            while not over.wait(0.05):
                most.append(instance.helper.pss() / 1e3)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            self.take.tcp(instance, way)
        finally:
            over.set()
            watcher.join()
        return max(most)

    # Running them.

    def wanted(self, name):
        patterns = self.options.only or [""]
        return any(pattern.lower() in name.lower() for pattern in patterns)

    def names(self):
        works = [work.name for _, make, _ in self.families() for work in make()]
        return [name for name in [START, RESOURCES, *works] if self.wanted(name)]

    def run(self, save):
        """Measures, and calls `save` after each family with all there is so far.

        {work: {"unit": of the metric that counts, "columns": {column: [metrics by round]}}}
        """
        results = {}
        for name, unit, measure in ((START, "ms", self.start_up),
                                    (RESOURCES, "idle PSS, KB", self.resources)):
            if self.wanted(name):
                say(name)
                results[name] = {"unit": unit, "columns": measure()}
                save(results)
        for family, make, tags in self.families():
            works = [work for work in make() if self.wanted(work.name)]
            for work in works:
                columns = {name: [] for name in work.cells}
                results[work.name] = {"unit": work.unit, "columns": columns}
            for turn in range(self.options.rounds if works else 0):
                say(f"{family}, round {turn + 1} of {self.options.rounds}")
                for number, work in enumerate(works):
                    # Nobody is always first, or always after the same neighbour's load.
                    cells = list(work.cells.items())
                    at = (turn + number) % len(cells)
                    for name, sample in cells[at:] + cells[:at]:
                        results[work.name]["columns"][name].append(self.sample(work, name, sample))
            if family == "idle flows" and works:
                results["memory per idle flow"] = {"unit": "bytes", "columns": {
                    f"{column(kind, mtu)}, {instance.opened:,} idle":
                        [{"bytes": instance.bytes_per_flow}]
                    for (kind, mtu, tag), instance in self.lab.pool.items()
                    if tag.startswith("idle ") and getattr(instance, "opened", 0)}}
            save(results)
            for tag in tags:
                self.lab.close_tagged(tag)

    def sample(self, work, name, sample):
        try:
            return sample()
        except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            say(f"  {work.name}, {name}: no sample: {' '.join(str(error).split())[-300:]}")
            return None


def say(text):
    print(text, file=sys.stderr, flush=True)
