"""Namespaces, helpers and servers that the measurements need, made by an unprivileged user.

    lan namespace == fast veth, slow links == host namespace, here == helpers == guests

This program is root of an outer user namespace that owns `host` and `lan`. Helpers run in `host` as
uid 1000 of an inner user namespace, without a capability there; guests are children of the inner
one. Everything dies with this process, the first of its pid namespace.
"""

import fcntl
import json
import os
import resource
import socket
import struct
import subprocess
import time

HOST4, HOST6, LAN4 = "192.0.2.1", "2001:db8:5::1", "192.0.2.9"
# name: rate in Mbit/s, delay one way in microseconds, queue in full frames, network
LINKS = {
    "1 Gbit/s, 0.5 ms": (1000, 250, 64, "198.51.100"),
    "100 Mbit/s, 10 ms": (100, 5000, 64, "203.0.113"),
}
IPERF, ECHO, UDP = 5201, 5202, 5203
# The limit of open files that most shells have.
USUAL_FILES = 1024
# Runs a program with a UDP socket as its standard input, bound to a port. Its receive buffer is as
# large as the kernel lets anybody have: datagrams that are lost are not lost at the ends.
UDP_SOCKET = """
import os, socket, sys
s = socket.socket(socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
s.bind(("", int(sys.argv[2])))
os.dup2(s.fileno(), 0)
os.execv(sys.argv[3], sys.argv[3:])
"""
MAX_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def run(argv, timeout=20, **kwargs):
    """Runs a command to its end; its output, or an exception that shows it."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout, **kwargs)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()[-300:]}")
    return done.stdout


def until(what, condition, patience=10):
    """Waits until `condition()` is true."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {patience} s in vain: {what}")
        time.sleep(0.005)


def with_udp_socket(argv, port=0):
    """What runs a program with a UDP socket, of IPv4, or of both families where a port is given."""
    return ["python3", "-c", UDP_SOCKET, "6" if port else "4", str(port), *argv]


class Process:
    """A program that runs until it is stopped."""

    def __init__(self, argv, log=None, **kwargs):
        streams = {"stdin": subprocess.DEVNULL, "stdout": log or subprocess.DEVNULL,
                   "stderr": log or subprocess.DEVNULL} | kwargs
        self.argv, self.streams, self.ready = argv, streams, None
        self.begin()

    def begin(self):
        self.popen = subprocess.Popen(self.argv, **self.streams)
        self.pid = self.popen.pid

    def restart(self):
        self.stop()
        self.begin()
        self.ready()

    def cpu(self):
        """Seconds on a processor so far. Every program measured here has one thread that works."""
        with open(f"/proc/{self.pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9

    def pss(self):
        """Proportional set size in bytes."""
        with open(f"/proc/{self.pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))

    def wakeups(self):
        """How often it has waited and been woken."""
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("voluntary"))

    def stop(self):
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                stream.close()


class Daemon(Process):
    """A process that has detached itself: known by its pid alone."""

    def __init__(self, pid):
        self.pid = pid

    def stop(self):
        os.kill(self.pid, 9)
        until("the end of a daemon", lambda: not running(self.pid))


def running(pid):
    try:
        # Our own orphans come to us, pid 1 of the namespace.
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return os.path.exists(f"/proc/{pid}")


class Namespace:
    """A network namespace, held by a sleeping process; `None` is the one this program is in."""

    def __init__(self, enter=None, unshare=None):
        self.sleeper, self.prefix = None, []
        if unshare:
            shell = ["sh", "-c", "echo up; exec sleep infinity"]
            self.sleeper = Process([*(enter or []), "unshare", *unshare, "--", *shell],
                                   stdout=subprocess.PIPE)
            self.sleeper.popen.stdout.readline()
            kinds = [flag for flag in ("-U", "-n") if flag in unshare]
            self.prefix = ["nsenter", "-t", str(self.sleeper.pid), "--preserve-credentials", *kinds]

    def run(self, argv, **kwargs):
        return run([*self.prefix, *argv], **kwargs)

    def spawn(self, argv, **kwargs):
        return Process([*self.prefix, *argv], **kwargs)

    def listening(self, port):
        pid = self.sleeper.pid if self.sleeper else "self"
        lines = []
        for table in ("tcp", "tcp6", "udp", "udp6"):
            with open(f"/proc/{pid}/net/{table}") as file:
                lines += [line.split() for line in file]
        return any(line[1].endswith(f":{port:04X}") and line[3] in ("0A", "07") for line in lines)

    def serve(self, argv, port):
        server = self.spawn(argv)
        server.ready = lambda: until(f"{argv[0]} on port {port}", lambda: self.listening(port))
        server.ready()
        return server

    def use_cubic(self):
        """Cubic for every connection. The sysctl is not ours to write, routes are."""
        for family in ("-4", "-6"):
            for line in self.run(["ip", family, "route", "show", "table", "all"]).splitlines():
                words = [word for word in line.split() if word not in ("linkdown", "dead")]
                if not {"broadcast", "anycast", "multicast", "congctl", "expires"} & set(words):
                    self.run(["ip", family, "route", "replace", *words, "congctl", "cubic"])
                    # IPv6's own local routes have metric 0, which nobody else's may have: ours is
                    # beside it, and not used before that is gone.
                    if "metric 0" in line:
                        self.run(["ip", family, "route", "del", *words])

    def tune(self):
        # Hundreds of thousands of short connections to one port: their ports must come back.
        # Where the helper's TCP has no timestamps, as none of the contenders' has, the kernel never
        # uses one in TIME-WAIT again: a minute's supply, 583 a second, was all that was measured.
        self.run(["sh", "-c", "cd /proc/sys/net/ipv4; echo 1 > tcp_tw_reuse; "
                              "echo 0 > tcp_max_tw_buckets; "
                              "echo 30000 65000 > ip_local_port_range"])

    def close(self):
        self.sleeper.stop()


class Instance:
    """One helper with its guest and the servers in it."""

    def __init__(self, lab, kind, mtu, files=USUAL_FILES, servers=True, options=()):
        self.lab, self.kind, self.mtu, self.files = lab, kind, mtu, files
        self.options = options
        lab.instances += 1
        self.base = 10_000 + 10 * lab.instances
        self.guest = Namespace(lab.user.prefix, ["-U", "-r", "-n"])
        self.guest.tune()
        self.processes = []
        self.iperf = None
        if servers:
            self.guest.run(["ip", "link", "set", "lo", "up"])
            self.iperf = self.guest.serve(["iperf3", "-s"], IPERF)
            self.processes = [self.iperf, self.guest.serve(lab.echo, UDP)]
        begin = time.monotonic()
        self.helper = getattr(self, "start_" + kind)()
        self.start_seconds = time.monotonic() - begin
        if servers:
            if kind == "slirp4netns":
                self.publish_slirp4netns()
            until("an IPv6 route", lambda: self.guest.run(["ip", "-6", "route", "show", "default"]))
            until("IPv6 addresses", lambda: "tentative" not in self.guest.run(["ip", "-6", "addr"]))
            self.guest.use_cubic()
            # After routes were replaced, ARP's first question may be lost, whoever the helper is:
            # the first connection then takes seconds, and is none to be measured.
            until("a first connection", self.reaches_host, 15)

    def reaches_host(self):
        try:
            return self.guest.run([self.lab.netload, "rr", f"{HOST4}:{ECHO}", "0"])
        except RuntimeError:
            return False

    def ports(self):
        return [(self.base, IPERF), (self.base + 1, ECHO)], [(self.base + 2, UDP)]

    def start(self, argv, **kwargs):
        log = open(f"{self.lab.dir}/{self.kind}.log", "a")
        # slirp4netns runs out of files where others do not; it may have all there are.
        files = self.files if self.kind == "rnsnet" else MAX_FILES
        limit = f"--nofile={files}:{files}"
        return Process([*self.lab.user.prefix, "prlimit", limit, *argv], log=log, **kwargs)

    def start_ready(self, argv):
        """For helpers that say when they are ready by a descriptor."""
        ours, theirs = os.pipe()
        helper = self.start([*argv, "--ready-fd", str(theirs), str(self.guest.sleeper.pid), "eth0"],
                            pass_fds=[theirs])
        os.close(theirs)
        with open(ours, "rb") as ready:
            if not ready.read(1):
                raise RuntimeError(f"{self.kind} does not start; see {self.lab.dir}")
        return helper

    def start_rnsnet(self):
        tcp, udp = self.ports()
        publish = [f"--publish={a}:{b}" for a, b in tcp] + [f"--publish={a}:{b}/udp" for a, b in udp]
        return self.start_ready([f"{self.lab.dir}/rnsnet", f"--mtu={self.mtu}", *self.options, *publish])

    def start_slirp4netns(self):
        self.api = f"{self.lab.dir}/slirp-{self.base}.sock"
        return self.start_ready(["slirp4netns", "--configure", "--enable-ipv6",
                                 f"--mtu={self.mtu}", f"--api-socket={self.api}"])

    def publish_slirp4netns(self):
        for proto, ports in zip(("tcp", "udp"), self.ports()):
            for host, guest in ports:
                with socket.socket(socket.AF_UNIX) as api:
                    api.connect(self.api)
                    call = {"proto": proto, "host_port": host, "guest_port": guest}
                    api.sendall(json.dumps({"execute": "add_hostfwd", "arguments": call}).encode())
                    api.shutdown(socket.SHUT_WR)
                    if b"error" in (answer := api.recv(4096)):
                        raise RuntimeError(f"slirp4netns add_hostfwd: {answer.decode()}")

    def start_pasta(self):
        tcp, udp = [",".join(f"{a}:{b}" for a, b in ports) for ports in self.ports()]
        pid_file = f"{self.lab.dir}/pasta-{self.base}.pid"
        # It goes to the background when it is ready.
        self.start(["pasta", "--config-net", "--ns-ifname", "eth0", "--mtu", str(self.mtu),
                    "-a", "10.0.3.2", "-n", "24", "-g", "10.0.3.1", "-a", "fd00:3::2",
                    "-g", "fd00:3::1", "-t", tcp, "-u", udp, "-T", "none", "-U", "none",
                    "--quiet", "--pid", pid_file, str(self.guest.sleeper.pid)]).popen.wait(timeout=10)
        with open(pid_file) as file:
            return Daemon(int(file.read()))

    def close(self):
        for process in [self.helper, *self.processes]:
            process.stop()
        self.guest.close()


class Members:
    """Two guests of one named network of rnsnet, and the server in the second."""

    def __init__(self, lab, mtu):
        directory, name = f"{lab.dir}/networks", f"bench{mtu}"
        os.makedirs(directory, mode=0o700, exist_ok=True)
        environment = os.environ | {"XDG_RUNTIME_DIR": directory, "XDG_CONFIG_HOME": directory}
        rnsnet = [*lab.user.prefix, f"{lab.dir}/rnsnet"]
        create = ["network", "create", "--opt", f"mtu={mtu}", name]
        run([*rnsnet, *create], env=environment)
        self.first, second = [Namespace(lab.user.prefix, ["-U", "-r", "-n"]) for _ in range(2)]
        for guest in (self.first, second):
            guest.run(["ip", "link", "set", "lo", "up"])
            # The first one's process serves the network; each goes to the background when ready.
            run([*rnsnet, "-d", "--network", name, str(guest.sleeper.pid)], env=environment)
            guest.use_cubic()
        words = second.run(["ip", "-4", "-o", "addr", "show", "dev", "eth0"]).split()
        self.address = words[words.index("inet") + 1].split("/")[0]
        until("the neighbour", lambda: reaches(self.first, self.address), 15)
        self.server = second.serve(["iperf3", "-s"], IPERF)
        self.helper = Daemon(pid_of(f"{lab.dir}/rnsnet", name))


def reaches(space, address):
    try:
        return space.run(["ping", "-c1", "-W1", address])
    except RuntimeError:
        return False


def pid_of(program, word):
    """The process of that program with that word on its command line."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        if words[0] == program and word in words:
            return int(pid)
    raise RuntimeError(f"no {program} serves {word}")


class Lab:
    """The namespaces and the helpers in them; helpers start when they are first asked for."""

    def __init__(self, directory):
        self.dir, self.instances, self.pool = directory, 0, {}
        self.netload = f"{directory}/netload"
        self.echo = with_udp_socket([self.netload, "serve", str(ECHO)], UDP)
        self.host, self.links = Namespace(), {}
        # Ten thousand connections are ten thousand files.
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
        self.user = Namespace(unshare=["-U", "--map-user=1000", "--map-group=1000"])
        self.lan = Namespace(unshare=["-n"])
        lan = str(self.lan.sleeper.pid)
        self.host.run(["sh", "-ec", f"""
            ip link set lo up
            ip link add h0 type veth peer name l0 netns {lan}
            ip addr add {HOST4}/24 dev h0; ip addr add {HOST6}/64 dev h0 nodad; ip link set h0 up"""])
        self.lan.run(["sh", "-ec", f"""
            ip link set lo up; ip link set l0 up
            ip addr add {LAN4}/24 dev l0; ip addr add 2001:db8:5::9/64 dev l0 nodad"""])
        # pasta takes its interface from the default route.
        self.host.run(["ip", "route", "add", "default", "via", LAN4])
        self.host.run(["ip", "-6", "route", "add", "default", "via", "2001:db8:5::9"])
        for namespace in (self.host, self.lan):
            namespace.use_cubic()
            namespace.tune()
        self.iperf = self.host.serve(["iperf3", "-s"], IPERF)
        self.lan_iperf = self.lan.serve(["iperf3", "-s"], IPERF)
        self.host.serve(self.echo, UDP)

    def instance(self, kind, mtu, tag="", **kwargs):
        """The helper of that kind, MTU and tag, started if need be."""
        key = (kind, mtu, tag)
        if key not in self.pool:
            try:
                self.pool[key] = Instance(self, kind, mtu, **kwargs)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                # Once is enough to know.
                self.pool[key] = RuntimeError(f"{kind} does not work here: {error}")
        if isinstance(self.pool[key], RuntimeError):
            raise self.pool[key]
        return self.pool[key]

    def close_tagged(self, tag):
        for key in [key for key in self.pool if key[2] == tag]:
            if isinstance(instance := self.pool.pop(key), Instance):
                instance.close()

    def link(self, name):
        """An emulated link from host to lan, made if need be; the first three bytes of its network."""
        mbit, delay, queue, network = LINKS[name]
        if name not in self.links:
            number = len(self.links) + 1
            ends = [self.tap(f"{side}{number}") for side in "hl"]
            self.host.run(["ip", "link", "set", f"l{number}", "netns", str(self.lan.sleeper.pid)])
            for space, side, last in ((self.host, "h", 1), (self.lan, "l", 9)):
                space.run(["ip", "addr", "add", f"{network}.{last}/24", "dev", f"{side}{number}"])
                space.run(["ip", "link", "set", f"{side}{number}", "up"])
                space.use_cubic()
            argv = [self.netload, "link", str(mbit), str(delay), str(queue)]
            self.links[name] = Process(argv, stdin=ends[0], stdout=ends[1])
            for fd in ends:
                os.close(fd)
            self.host.run(["ping", "-c1", "-W2", f"{network}.9"])
        return network

    @staticmethod
    def tap(name):
        iff_tap_no_pi, tunsetiff = 0x1002, 0x400454CA
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tap_no_pi))
        return fd
