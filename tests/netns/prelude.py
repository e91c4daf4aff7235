# What every python program of the netns tests may use. Programs print results on standard output;
# a failure is an exception or sys.exit("what went wrong").
import errno, hashlib, os, random, select, socket, struct, sys, threading, time


def say(*words):
    # One write a line: threads say things too.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def ms(since):
    """Milliseconds since a time.monotonic() value."""
    return round((time.monotonic() - since) * 1000)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def plain(address):
    """An address without the v4-mapped prefix and the scope."""
    return address.removeprefix("::ffff:").split("%")[0]


def tcp(host, port, timeout=30):
    s = socket.socket(family(host), socket.SOCK_STREAM)
    s.settimeout(timeout)
    s.connect((host, port))
    return s


def udp(host=None, port=0, timeout=30, v6=False):
    """A UDP socket, bound if host is given."""
    s = socket.socket(family(host) if host else socket.AF_INET6 if v6 else socket.AF_INET,
                      socket.SOCK_DGRAM)
    s.settimeout(timeout)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        s.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
    if host:
        s.bind((host, port))
    return s


def listen(port, host="::", backlog=128):
    s = socket.socket(family(host), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == "::":
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind((host, port))
    s.listen(backlog)
    return s


def udp_any(port):
    """A UDP socket on every address of both families."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    # The local address comes with each datagram, so that the answer can leave from it.
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    s.bind(("::", port))
    return s


def answer_udp(s, reply):
    """Answers one datagram with reply(data, peer), from the address it was sent to."""
    data, local, _, peer = s.recvmsg(65536, socket.CMSG_SPACE(20))
    s.sendmsg([reply(data, peer)], local, 0, peer)


def attempt(host, port, timeout=30):
    """Connects and says how that went: "connected" or the errno's name, and the milliseconds."""
    start = time.monotonic()
    try:
        tcp(host, port, timeout)
        say("connected", ms(start))
    except TimeoutError as e:
        say("ETIMEDOUT" if e.errno else "timeout", ms(start))
    except OSError as e:
        say(errno.errorcode[e.errno], ms(start))


def reset(s):
    """Closes a TCP socket with a reset."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def ending(s):
    """How the peer ended a connection: "end" or the errno's name."""
    try:
        data = s.recv(1)
        return "end" if data == b"" else "data"
    except TimeoutError:
        return "timeout"
    except OSError as e:
        return errno.errorcode[e.errno]


def read_all(s):
    parts = []
    while part := s.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def thread(f, *args):
    """Runs f(*args) beside the rest, until the program ends."""
    t = threading.Thread(target=f, args=args, daemon=True)
    t.start()
    return t


def forever():
    say("ready")
    threading.Event().wait()


# --- services

def who(port):
    """Answers with the client's address and port, on TCP and UDP."""
    listener, datagrams = listen(port), udp_any(port)

    def streams():
        while True:
            s, peer = listener.accept()
            try:
                s.sendall(f"{plain(peer[0])} {peer[1]}\n".encode())
                s.close()
            except OSError:
                pass

    def packets():
        while True:
            answer_udp(datagrams, lambda _, peer: f"{plain(peer[0])} {peer[1]}\n".encode())

    thread(streams)
    thread(packets)
    forever()


def echo_udp(port, host=None):
    s = udp(host, port) if host else udp_any(port)
    s.settimeout(None)

    def serve():
        while True:
            answer_udp(s, lambda data, _: data)

    thread(serve)
    forever()


def count(ports):
    """Counts connections and datagrams on all the ports; each line on stdin asks for the sums."""
    sums = {"connections": 0, "datagrams": 0}

    def streams(listener):
        while True:
            listener.accept()
            sums["connections"] += 1

    def packets(s):
        while True:
            s.recvfrom(65536)
            sums["datagrams"] += 1

    for port in ports:
        thread(streams, listen(port))
        thread(packets, udp_any(port))
    say("ready")
    for _ in sys.stdin:
        say(sums["connections"], "connections", sums["datagrams"], "datagrams")


# --- how connections end: a service on port 7, and what each end does with a connection

def serve_each(handle, port=7):
    """Hands every connection to `handle`, one thread each, and closes it after that."""
    listener = listen(port)

    def connection(s):
        with s:
            s.settimeout(120)
            handle(s)

    def serve():
        while True:
            thread(connection, listener.accept()[0])

    thread(serve)
    forever()


def half_close_first(s):
    """Sends, ends its half, then reads everything."""
    s.settimeout(20)
    s.sendall(b"q" * 100000)
    s.shutdown(socket.SHUT_WR)
    say("answer:", read_all(s)[:80].decode())


def half_close_last(s):
    """Reads to the end, lets the half-closed state last, then answers in two parts and closes."""
    s.settimeout(20)
    n = len(read_all(s))
    time.sleep(0.3)
    s.sendall(str(n).encode())
    time.sleep(0.3)
    s.sendall(b" end")
    s.close()


def reset_after_a_byte(s):
    s.recv(1)
    reset(s)


def echo_a_byte_and_watch(s):
    """Answers one byte, then says how the connection ended."""
    s.sendall(s.recv(1))
    say(ending(s))


# --- exact streams: every byte is compared with what it must be, and both ends compare SHA-256

CHUNK = 1 << 18
BASE = random.Random(7).randbytes(CHUNK)
HEADER = struct.Struct("!QQ?")
SUMS = 128


def block(number, size):
    return (number.to_bytes(8, "big") + BASE[8:])[:size]


def send_exact(s, total):
    digest = hashlib.sha256()
    for number in range((total + CHUNK - 1) // CHUNK):
        data = block(number, min(CHUNK, total - number * CHUNK))
        digest.update(data)
        s.sendall(data)
    return digest.hexdigest()


def recv_full(s, buffer):
    got = 0
    while got < len(buffer):
        n = s.recv_into(memoryview(buffer)[got:])
        if n == 0:
            break
        got += n
    return got


def recv_exact(s, total):
    digest = hashlib.sha256()
    for number in range((total + CHUNK - 1) // CHUNK):
        size = min(CHUNK, total - number * CHUNK)
        buffer = bytearray(size)
        got = recv_full(s, buffer)
        if got < size:
            sys.exit(f"the stream ended after {number * CHUNK + got} of {total} bytes")
        expected = block(number, size)
        if buffer != expected:
            first = next(i for i in range(size) if buffer[i] != expected[i])
            sys.exit(f"wrong byte at offset {number * CHUNK + first} of {total}")
        digest.update(buffer)
    return digest.hexdigest()


def exact_server(port):
    """Takes `up` bytes, gives `down` bytes (at once, or after the client's end), then both sums."""
    listener = listen(port)

    def serve(s):
        header = bytearray(HEADER.size)
        recv_full(s, header)
        up, down, after = HEADER.unpack(header)
        sent = []
        sender = threading.Thread(target=lambda: sent.append(send_exact(s, down)))
        if not after:
            sender.start()
        received = recv_exact(s, up)
        if s.recv(1) != b"":
            os._exit(3)
        if after:
            sender.start()
        sender.join()
        s.sendall((received + sent[0]).encode())
        s.close()

    def accept():
        while True:
            s, _ = listener.accept()
            thread(serve, s)

    thread(accept)
    forever()


def exact_client(host, port, up, down, after=False, timeout=60):
    """The other end of exact_server; raises unless every byte arrived both ways."""
    s = tcp(host, port, timeout)
    s.sendall(HEADER.pack(up, down, after))
    sent = []

    def upload():
        sent.append(send_exact(s, up))
        s.shutdown(socket.SHUT_WR)

    sender = thread(upload)
    received = recv_exact(s, down)
    sender.join(timeout)
    sums = bytearray(SUMS)
    got = recv_full(s, sums)
    if got < SUMS:
        sys.exit(f"the stream ended after {got} of {SUMS} bytes of the sums")
    if s.recv(1) != b"":
        sys.exit("more bytes than were sent")
    if sums.decode() != sent[0] + received:
        sys.exit(f"sums differ: {sums.decode()} against {sent[0]} + {received}")


def exact(host, port, up, down, after=False, timeout=60):
    start = time.monotonic()
    exact_client(host, port, up, down, after, timeout)
    say("exact", f"{(up + down) / (1 << 20) / (time.monotonic() - start):.0f} MiB/s")


# --- many small connections at once: each must get its own bytes back

def echo_tcp(port):
    """Sends everything back, however long its clients are silent; ends its half when they do."""
    def echo(s):
        s.settimeout(None)
        while data := s.recv(1 << 16):
            s.sendall(data)

    serve_each(echo, port)


def tokens(host, port, threads, rounds):
    """Connections from many threads, in every order of sending and ending; counts wrong answers."""
    wrong = []

    def work(worker):
        rng = random.Random(worker)
        for number in range(rounds):
            token = f"{worker}-{number}-".encode() * rng.choice((1, 30, 3000))
            try:
                with tcp(host, port) as s:
                    s.sendall(token)
                    if rng.random() < 0.5:
                        s.shutdown(socket.SHUT_WR)
                        back = read_all(s)
                    else:
                        back = bytearray(len(token))
                        back = bytes(back[:recv_full(s, back)])
                if back != token:
                    wrong.append(f"{len(back)} of {len(token)} bytes back")
            except OSError as e:
                wrong.append(repr(e))

    workers = [thread(work, worker) for worker in range(threads)]
    for worker in workers:
        worker.join(60)
    say(len(wrong), "wrong", *sorted(set(wrong))[:5])


def round_trips(host, port, total):
    """One byte there and back, many times: any delayed acknowledgement or lost wake-up shows."""
    s = tcp(host, port, 30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    slow, start = 0, time.monotonic()
    for number in range(total):
        sent = time.monotonic()
        s.sendall(bytes([number % 256]))
        if s.recv(2) != bytes([number % 256]):
            sys.exit("a wrong byte came back")
        slow += ms(sent) > 30
    say(slow, "slow", ms(start) // 1000, "s")


# --- datagrams

def udp_exact(host, port, sizes):
    """Sends one datagram of each size and compares its echo; names the sizes that failed."""
    s = udp(v6=":" in host)
    s.connect((host, port))
    bad = []
    for size in sizes:
        data = random.Random(size).randbytes(size)
        try:
            s.send(data)
            if (back := s.recv(65536)) != data:
                bad.append(f"{size}: {len(back)} bytes back")
        except OSError as e:
            bad.append(f"{size}: {e}")
    say("exact" if not bad else f"not echoed: {bad}")


def udp_many(host, port, total, window=16):
    """Sends many datagrams of 100 to 1400 bytes, some in flight at once; counts exact echoes."""
    s = udp(v6=":" in host)
    s.connect((host, port))
    rng, flying, exact_ones, number = random.Random(1), {}, 0, 0
    while number < total or flying:
        while number < total and len(flying) < window:
            data = number.to_bytes(4, "big") + rng.randbytes(rng.randrange(96, 1396))
            flying[data[:4]] = data
            s.send(data)
            number += 1
        try:
            back = s.recv(65536)
        except TimeoutError:
            break
        exact_ones += flying.pop(back[:4], None) == back
    say(exact_ones)


# --- frames built by hand, for what no honest kernel would send

def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp_segment(sport, dport, flags=0x02, seq=1000, ack=0, data=b""):
    return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 64240, 0, 0) + data


def udp_datagram(sport, dport, data=b"raw"):
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def with_checksum(proto, src, dst, l4):
    at = 16 if proto == 6 else 6
    if len(src) == 4:
        pseudo = src + dst + struct.pack("!BBH", 0, proto, len(l4))
    else:
        pseudo = src + dst + struct.pack("!II", len(l4), proto)
    return l4[:at] + struct.pack("!H", checksum(pseudo + l4) or 0xFFFF) + l4[at + 2:]


def packet(src, dst, proto, l4, ttl=64):
    """One IP packet; addresses as text, the family by the destination."""
    f = family(dst)
    src, dst = socket.inet_pton(f, src), socket.inet_pton(f, dst)
    l4 = with_checksum(proto, src, dst, l4)
    if f == socket.AF_INET6:
        return struct.pack("!IHBB", 6 << 28, len(l4), proto, ttl) + src + dst + l4
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(l4), 7, 0, ttl, proto, 0) + src + dst
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + l4


class Wire:
    """A packet socket on the container's interface, to the gateway's hardware address."""

    def __init__(self, ifname="eth0", gateway="10.0.2.2"):
        self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.s.bind((ifname, 0))
        self.s.settimeout(30)
        self.own = self.s.getsockname()[4]
        self.gateway = self.resolve(gateway)

    def resolve(self, gateway):
        me = socket.inet_aton("10.0.2.100")
        ask = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + self.own + me + bytes(6) \
            + socket.inet_aton(gateway)
        for _ in range(30):
            self.s.send(b"\xff" * 6 + self.own + b"\x08\x06" + ask)
            until = time.monotonic() + 1
            while (left := until - time.monotonic()) > 0 and select.select([self.s], [], [], left)[0]:
                frame = self.s.recv(65536)
                if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2":
                    return frame[22:28]
        sys.exit("the gateway does not answer ARP")

    def send(self, ip):
        kind = b"\x86\xdd" if ip[0] >> 4 == 6 else b"\x08\x00"
        self.s.send(self.gateway + self.own + kind + ip)

    def frame(self, frame):
        self.s.send(frame)
