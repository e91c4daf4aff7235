# What takes minutes, for `ci/faults` and `ci/figures`; comes after prelude.py.


def churn(host, port, total, threads=8):
    """Connections one after the other in each thread, a word echoed on each; says what was lost."""
    lost = []

    def go(worker):
        for number in range(total // threads):
            word = b"%d %d" % (worker, number)
            try:
                with tcp(host, port, 30) as s:
                    s.sendall(word)
                    s.shutdown(socket.SHUT_WR)
                    if read_all(s) != word:
                        lost.append(word)
            except OSError as e:
                lost.append((word, e))

    for worker in [thread(go, worker) for worker in range(threads)]:
        worker.join()
    say(len(lost), lost[:3])


def greet(port):
    """Says a byte to each client and waits for its end: many at once, without a thread for each."""
    import selectors
    listener, ready = listen(port, backlog=4096), selectors.EpollSelector()
    listener.setblocking(False)
    ready.register(listener, selectors.EVENT_READ)
    say("ready")
    while True:
        for key, _ in ready.select():
            s = key.fileobj
            try:
                if s is listener:
                    client = listener.accept()[0]
                    client.sendall(b"x")
                    ready.register(client, selectors.EVENT_READ)
                elif not s.recv(1000):
                    raise OSError("it has ended")
            except BlockingIOError:
                pass
            except OSError:
                if s is not listener:
                    ready.unregister(s)
                    s.close()


def mixed(lan, dns=None):
    """Short connections, datagrams, refusals, bulk and names at once; says what failed."""
    def short():
        for number in range(600):
            with tcp(lan, 7) as s:
                s.sendall(b"x" * (number * 7 % 5000 + 1))
                s.shutdown(socket.SHUT_WR)
                read_all(s)

    def datagrams():
        for number in range(600):
            with udp() as s:
                s.sendto(b"x" * (number % 1400 + 1), (lan, 8))
                s.recv(2000)

    def names():
        for number in range(100 if dns else 0):
            with udp(timeout=10) as s:
                s.sendto(struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0)
                         + b"\1a\4test\0\0\1\0\1", (dns, 53))
                answer = s.recv(2000)
                assert answer[3] & 15 == 0 and answer[-4:] == socket.inet_aton(lan), answer

    def refused():
        for _ in range(600):
            try:
                tcp(lan, 6).close()
            except ConnectionRefusedError:
                pass

    def bulk():
        for _ in range(4):
            exact_client(lan, 9000, 20 << 20, 20 << 20)

    failed = []

    def run(f):
        try:
            f()
        except BaseException as e:
            failed.append((f.__name__, e))

    for t in [thread(run, f) for f in (short, datagrams, names, refused, bulk)]:
        t.join()
    say(failed)


def hostile_frames(seed, total, v6="fd72:6e73:6e65::"):
    """Random frames, good ones with some bytes changed, and well-formed ones of every kind, as a
    container with its own raw socket sends them; says how many the kernel took."""
    wire, rng, some = Wire(), random.Random(seed), random.Random(seed + 1).randbytes
    head = wire.gateway + wire.own
    to4 = ("10.0.2.2", "10.0.2.3", "192.0.2.9", "192.0.2.77", "127.0.0.1", "224.0.0.1",
           "255.255.255.255", "10.0.2.7")
    to6 = (v6 + "2", v6 + "3", "2001:db8:5::9", "::1", "ff02::1", "::ffff:127.0.0.1")

    def good():
        port, dport = rng.randrange(1, 65536), rng.choice((0, 7, 53, 67, 80, 547, 9000))
        kind = rng.randrange(5)
        if kind == 0:
            proto, body = 6, tcp_segment(port, dport, rng.randrange(256), rng.getrandbits(32),
                                         rng.getrandbits(32), some(rng.randrange(60)))
        elif kind == 1:
            proto, body = 17, udp_datagram(port, dport, some(rng.randrange(200)))
        elif kind == 2:
            proto = 1
            body = bytes((rng.randrange(20), rng.randrange(5))) + some(rng.randrange(8, 80))
        elif kind == 3:
            proto, body = 58, bytes((rng.randrange(128, 145), 0)) + some(rng.randrange(8, 80))
        else:
            proto, body = rng.choice((0, 2, 43, 44, 60, 132)), some(rng.randrange(8, 80))
        if not rng.randrange(3):
            return head + b"\x86\xdd" + packet(v6 + "100", rng.choice(to6), proto, body)
        ip = packet("10.0.2.100", rng.choice(to4), proto, body)
        if not rng.randrange(6):
            # A fragment of something.
            ip = ip[:6] + some(2) + ip[8:10] + bytes(2) + ip[12:]
            ip = ip[:10] + struct.pack("!H", checksum(ip[:20])) + ip[12:]
        return head + b"\x08\x00" + ip

    pool, sent = [good() for _ in range(3000)], 0
    kinds = (b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00")
    for number in range(total):
        if number % 3 == 0:
            frame = rng.choice((b"", head, head + rng.choice(kinds))) + some(rng.randrange(14, 200))
        else:
            frame = rng.choice(pool)
        if number % 3 == 1:
            frame = bytearray(frame)
            for _ in range(rng.randrange(1, 5)):
                frame[rng.randrange(12, len(frame))] = rng.randrange(256)
            if not number % 5:
                frame = frame[:rng.randrange(14, len(frame) + 1)]
        try:
            wire.frame(frame)
            sent += 1
        except OSError:
            pass
    say(sent)
