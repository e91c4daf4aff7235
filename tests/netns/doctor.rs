//! `rnsnet doctor` on machines that lack something. Row G6.

use crate::lab::{LAN4, Lab, Place};
use crate::rnsnet::binary;

/// The line of a report that begins so.
#[track_caller]
fn line<'a>(report: &'a str, start: &str) -> &'a str {
    let found = report.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no line {start:?} in {report}"))
}

// G6
#[test]
fn a_machine_that_has_everything_is_well() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let report = lab.rnsnet_ends(&["doctor"]);
    let text = report.ok();
    assert_eq!(line(text, "ok   tun:"), "ok   tun: /dev/net/tun can be opened");
    assert!(line(text, "ok   container:").contains("TAP with offloads, IPv4 and IPv6"), "{text}");
    assert!(line(text, "ok   dns:").ends_with(LAN4), "{text}");
    line(text, "ok   ping: works");
    line(text, "ok   seccomp:");
    line(text, "ok   root:");
    line(text, "ok   pidfd:");
    // It has left nothing, and the report is all that it says.
    assert_eq!(report.stderr, "");
    assert!(!lab.sh(Place::Host, "ip -br link").ok().contains("rnsnet"));

    let json = lab.rnsnet_ends(&["doctor", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(json.ok()).expect("it is JSON");
    assert_eq!(json["ok"], true);
    let findings = json["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), text.lines().count());
    assert!(findings.iter().any(|one| one["name"] == "tun" && one["level"] == "ok"), "{json}");
}

// G6
#[test]
fn without_the_tun_device_it_says_how_to_get_one() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Host, "mount -t tmpfs none /dev/net").ok();
    let report = lab.rnsnet_ends(&["doctor"]);
    assert_eq!(report.code(), 1, "{report}");
    let tun = line(&report.stdout, "FAIL tun:");
    assert!(tun.starts_with("FAIL tun: missing – modprobe tun / opkg install kmod-tun"), "{tun}");
    line(&report.stdout, "FAIL container: no TAP device");
    let json = lab.rnsnet_ends(&["doctor", "--format=json"]);
    assert_eq!(json.code(), 1, "{json}");
    assert!(json.stdout.contains("\"ok\": false"), "{json}");

    lab.sh(Place::Host, "touch /dev/net/tun; chmod 0666 /dev/net/tun").ok();
    let report = lab.rnsnet_ends(&["doctor"]);
    let tun = line(&report.stdout, "FAIL tun:");
    assert!(tun.contains("/dev/net/tun is not the device (10, 200)"), "{report}");
    lab.sh(Place::Host, "chmod 0 /dev/net/tun").ok();
    let report = lab.rnsnet_ends(&["doctor"]);
    assert_eq!(report.code(), 1, "{report}");
    assert!(line(&report.stdout, "FAIL tun:").contains("chmod 0666 /dev/net/tun"), "{report}");
}

// G6
#[test]
fn without_user_namespaces_it_names_the_switch() {
    let Some(lab) = Lab::new() else { return };
    let program = binary().into_string().expect("a path in UTF-8");
    let script = format!("echo 0 > /proc/sys/user/max_user_namespaces; exec {program} doctor");
    let report = lab.sh(Place::Host, &script);
    assert_eq!(report.code(), 1, "{report}");
    let container = line(&report.stdout, "FAIL container: no user and network namespace");
    assert!(container.contains("sysctl -w user.max_user_namespaces="), "{container}");
    assert!(line(&report.stdout, "warn root:").contains("cannot make namespaces"), "{report}");
    line(&report.stdout, "ok   tun:");
}

// G6: what only some need is a warning.
#[test]
fn without_ping_or_resolvers_it_warns() {
    let Some(lab) = Lab::new() else { return };
    lab.set_resolv_conf("search example.test\n");
    let report = lab.rnsnet_ends(&["doctor"]);
    let text = report.ok();
    assert!(line(text, "warn ping:").contains("sysctl -w net.ipv4.ping_group_range="), "{text}");
    assert!(line(text, "warn dns:").contains("names no server"), "{text}");
}
