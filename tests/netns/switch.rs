//! The switch of a named network as the kernels at its ports see it. Rows E16 E26.

use crate::eventually::secs;
use crate::lab::{Lab, Place};

impl Lab {
    /// Frames and bytes of a container's interface, as the network's process counts them: to it and
    /// from it.
    fn crossed(&self, container: &str) -> [u64; 4] {
        let format = "{{.RxPackets}} {{.RxBytes}} {{.TxPackets}} {{.TxBytes}}";
        let stats = self.rnsnet_ends(&["stats", "--no-stream", "--format", format, container]);
        let numbers: Vec<u64> =
            stats.ok().split(' ').map(|n| n.parse().expect("a count")).collect();
        numbers.try_into().expect("four numbers")
    }
}

// E16 E26: what a kernel has not cut into segments crosses whole, by one read and one write.
#[test]
fn large_frames_cross_as_they_are() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let from = lab.member("--network n1 --name from");
    let to = lab.member("--network n1 --name to");
    let _server = lab.serve(Place::In(&to), "serve_each(lambda s: recv_exact(s, 64 << 20), 7)");
    let (before, before_to) = (lab.crossed("from"), lab.crossed("to"));
    let program = "s = tcp('10.89.0.3', 7); send_exact(s, 64 << 20); s.shutdown(1); read_all(s)";
    lab.py_within(Place::In(&from), program, secs(60)).ok();
    let (after, after_to) = (lab.crossed("from"), lab.crossed("to"));
    let (frames, bytes) = (after[2] - before[2], after[3] - before[3]);
    let (frames_to, bytes_to) = (after_to[0] - before_to[0], after_to[1] - before_to[1]);
    assert!(bytes > 64 << 20 && bytes_to > 64 << 20, "{bytes} {bytes_to} bytes");
    // At an MTU of 1500 bytes.
    let (mean, mean_to) = (bytes / frames, bytes_to / frames_to);
    assert!(mean > 10_000 && mean_to > 10_000, "{mean} bytes out, {mean_to} in");
    // A few are for the gateway or by it.
    assert!(frames.abs_diff(frames_to) < 100, "{frames} frames out, {frames_to} in");
}

// E16: a group's datagrams are for those that have joined it, IGMP (RFC 3376) and MLD (RFC 3810).
#[test]
fn multicast_reaches_those_that_joined_and_nobody_else() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --ipv6 n1");
    let sender = lab.member("--network n1 --name sender");
    let member = lab.member("--network n1 --name member");
    let other = lab.member("--network n1 --name other");
    let joined = "
index = socket.if_nametoindex('eth0')
s4, s6 = udp('239.1.2.3', 4000), udp('ff15::4711', 4000, v6=True)
s4.setsockopt(0, 35, socket.inet_aton('239.1.2.3') + bytes(4) + struct.pack('=i', index))
s6.setsockopt(41, 20, socket.inet_pton(socket.AF_INET6, 'ff15::4711') + struct.pack('=I', index))
say('ready')
for s in (s4, s6):
    s.settimeout(30)
    say(s.recv(99).decode())
";
    // What is for nobody in particular arrives before the datagram that is for this one.
    let watch = "
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('eth0', 3))
s.settimeout(60)
say('ready')
seen = []
while True:
    frame = s.recv(65536)
    if b'for-one' in frame: break
    if b'for-all' in frame: seen.append(frame[:6].hex(':'))
say(seen)
";
    // Again and again: nobody is told of when a switch has heard of a member.
    let send = "
index = socket.if_nametoindex('eth0')
s4, s6 = udp(), udp(v6=True)
s4.setsockopt(0, 32, bytes(8) + struct.pack('=i', index))
s6.setsockopt(41, 17, struct.pack('=I', index))
end = threading.Event()
def again():
    while not end.wait(0.05):
        for s, to, word in ((s4, '239.1.2.3', b'for-all 4'), (s6, 'ff15::4711', b'for-all 6')):
            try: s.sendto(word, (to, 4000))
            except OSError: pass
thread(again)
say('ready')
sys.stdin.readline()
end.set()
s4.sendto(b'for-one', ('10.89.0.4', 4000))
say('sent')
";
    let mut watcher = lab.serve(Place::In(&other), watch);
    let mut joined = lab.serve(Place::In(&member), joined);
    let mut sending = lab.serve(Place::In(&sender), send);
    assert_eq!([joined.line(secs(10)), joined.line(secs(10))], ["for-all 4", "for-all 6"]);
    sending.tell("enough");
    assert_eq!(sending.line(secs(10)), "sent");
    assert_eq!(watcher.line(secs(10)), "[]");
}
