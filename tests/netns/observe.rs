//! Looking into it: the capture and the dump.

use crate::eventually::{eventually, secs};
use crate::lab::{GUEST4, LAN4, Lab, Place};

#[test]
fn sigusr1_lists_a_live_flow_and_counters() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(Place::Lan, "serve_each(read_all)");
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).start();
    let mut client = lab.spawn_py(
        Place::In(&ctr),
        "s = tcp('192.0.2.9', 7); say(s.getsockname()[1]); threading.Event().wait()",
    );
    let port = client.line(secs(5));
    let dump = net.dump();
    let flow = dump
        .lines()
        .find(|line| line.contains(&format!("{GUEST4}:{port}")))
        .unwrap_or_else(|| panic!("no line for the flow from port {port}: {dump}"));
    assert!(flow.contains("192.0.2.9:7"), "{flow}");
    assert!(flow.to_lowercase().contains("established"), "{flow}");
    assert!(dump.contains("tcp_outbound 1"), "the counters are listed: {dump}");
    assert!(net.alive());
    // And gone once the flow is.
    drop(client);
    eventually(secs(5), "the flow leaves the table", || {
        let dump = net.dump();
        if dump.contains(&format!("{GUEST4}:{port}")) { Err(dump) } else { Ok(()) }
    });
}

#[test]
fn the_capture_is_readable_and_holds_both_directions() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "captured page");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    lab.sh(Place::In(&ctr), &format!("curl -sS -m5 http://{LAN4}:8080/")).ok();
    let read = || lab.run(Place::User, &["tcpdump", "-nvr", net.pcap(), "tcp"]);
    // What is written must be there for a reader at once, or soon.
    eventually(secs(2), "both directions are in the file", || {
        let text = read().stdout;
        let out = text.contains(&format!("> {LAN4}.8080: Flags [S]"));
        let back = text.contains("> 10.0.2.100.") && text.contains("Flags [S.]");
        if out && back { Ok(()) } else { Err(text) }
    });
    let last = read();
    last.ok();
    assert!(!last.stderr.contains("truncated"), "{last}");
    // What it sends is right on the wire; what the container sends has its sums unfinished.
    let from_us =
        lab.run(Place::User, &["tcpdump", "-nvr", net.pcap(), "tcp and src host 192.0.2.9"]);
    assert!(!from_us.ok().contains("bad cksum"), "{from_us}");
}

#[test]
fn a_capture_that_cannot_be_written_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let refused = lab.rnsnet_ends(&["--pcap", "/nowhere/at/all.pcap", &pid]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("/nowhere/at/all.pcap"), "{refused}");
    assert_eq!(lab.sh(Place::In(&ctr), "ip -br link").ok().lines().count(), 1);
}

#[test]
fn the_log_level_is_obeyed() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).named("loud").start();
    let loud = net.log().lines().count();
    drop(net);
    let net = lab.rnsnet(&ctr).named("quiet").log_level("error").start();
    // Addresses and names are for debugging; at `error` there is nothing to say at all.
    let quiet = net.log();
    assert!(loud > quiet.lines().count(), "{quiet}");
    assert!(!quiet.contains("debug:") && !quiet.contains("info:"), "{quiet}");
}
