//! What a container cannot use up: the host's log. Rows K4 K8.

use nix::sys::signal::Signal;

use crate::lab::{Lab, Place};

// K8: a container that has something to complain about, all the time.
#[test]
fn a_container_cannot_fill_the_log() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).log_level("info").start();
    // DHCPDECLINE: every one of them is worth a warning (RFC 2131, section 4.3.3).
    let program = "
wire = Wire()
options = bytes((99, 130, 83, 99, 53, 1, 4, 255))
body = struct.pack('!BBBBIHH', 1, 1, 6, 0, 7, 0, 0) + bytes(16) + wire.own + bytes(202) + options
frame = packet('10.0.2.100', '10.0.2.2', 17, udp_datagram(68, 67, body))
for _ in range(20000):
    wire.send(frame)
attempt('10.0.2.2', 9)
";
    lab.py(Place::In(&ctr), program).ok();
    let log = lab.dir().join("rnsnet.log");
    net.signal(Signal::SIGTERM);
    assert!(net.ends().success());
    let log = std::fs::read_to_string(log).expect("it has a log");
    let told = log.lines().filter(|line| line.contains("somebody else has")).count();
    // The burst of 50, and two for each second that it took.
    assert!((50..50 + 2 * 30).contains(&told), "{told} warnings");
    let left_out: usize = log
        .lines()
        .filter_map(|line| {
            line.strip_prefix("rnsnet: warn: ")?.strip_suffix(" warnings were left out of the log")
        })
        .map(|number| number.parse::<usize>().expect("a number"))
        .sum();
    assert!(left_out > 1000, "{log}");
}
