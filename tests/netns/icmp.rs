//! Ping: real replies by ping sockets, or none, and never a forged one. Row B3.

use crate::eventually::secs;
use crate::lab::{GATEWAY4, GATEWAY6, HOST4, LAN4, LAN6, Lab, Place};

// B3 B6
#[test]
fn three_pings_give_three_replies_in_both_families() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for address in [LAN4, LAN6, GATEWAY4, GATEWAY6] {
        let ping = lab.sh(Place::In(&ctr), &format!("ping -c3 -i.2 -W10 {address}"));
        assert!(ping.ok().contains("3 received"), "{ping}");
        assert!(!ping.stdout.contains("DUP"), "{ping}");
    }
}

// B3: the requests are seen on the LAN, so the replies are real.
#[test]
fn the_lan_sees_every_request() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let mut witness = lab.serve(
        Place::Lan,
        "
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
say('ready')
while True:
    ip = s.recv(2048)
    if ip[9] == 1 and ip[20] == 8:
        say('echo request', socket.inet_ntoa(ip[12:16]), '>', socket.inet_ntoa(ip[16:20]))
",
    );
    lab.sh(Place::In(&ctr), &format!("ping -c3 -i.2 -W10 {LAN4}")).ok();
    for _ in 0..3 {
        assert_eq!(witness.line(secs(20)), format!("echo request {HOST4} > {LAN4}"));
    }
}

// B3: sizes, and what the reply must carry back.
#[test]
fn large_and_empty_payloads_come_back_unchanged() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    // iputils compares the payload itself and says `wrong data byte`.
    for size in [0, 56, 1400, 1472, 4000, 20000] {
        let line = format!("ping -c2 -i.2 -W10 -p a5 -s {size} {LAN4}");
        let ping = lab.sh(Place::In(&ctr), &line);
        assert!(ping.ok().contains("2 received"), "{ping}");
        assert!(!ping.stdout.contains("wrong data"), "{ping}");
    }
}

// B3: never forged.
#[test]
fn an_address_nobody_has_gives_no_reply() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    for address in ["192.0.2.77", "2001:db8:5::77", "203.0.113.5", "10.0.2.50", "2001:db8:99::1"] {
        let ping = lab.run(Place::In(&ctr), &["ping", "-c2", "-i.2", "-W1", address]);
        assert_ne!(ping.code(), 0, "{ping}");
        assert!(ping.stdout.contains(" 0 received"), "{ping}");
    }
}

// B3: said once, with the reason and the group.
#[test]
fn without_ping_sockets_it_says_so_once() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    for address in [LAN4, LAN6] {
        let ping = lab.run(Place::In(&ctr), &["ping", "-c2", "-i.2", "-W1", address]);
        assert!(ping.stdout.contains(" 0 received"), "{ping}");
    }
    // The gateway is rnsnet itself: it needs no ping socket.
    lab.sh(Place::In(&ctr), &format!("ping -c1 -W10 {GATEWAY4}")).ok();
    let log = net.log();
    let message = "ping disabled: net.ipv4.ping_group_range excludes gid 1000";
    assert_eq!(log.matches(message).count(), 1, "{log}");
}

// Two programs in the container ping at once; neither sees the other's replies.
#[test]
fn pings_at_the_same_time_do_not_mix() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let script = format!("for i in 1 2 3 4 5 6; do ping -c3 -i.2 -W10 {LAN4} & done; wait");
    let pings = lab.sh(Place::In(&ctr), &script);
    assert_eq!(pings.ok().matches("3 received").count(), 6, "{pings}");
    assert!(!pings.stdout.contains("DUP"), "{pings}");
}
