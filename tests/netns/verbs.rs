//! The verbs where containers are on several networks, or several are named. Rows C7 C9 E10 E11.

use std::fs;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::signal_pid;
use crate::lab::{Container, LAN4, Lab, Place};
use crate::networks::info_process;

// C9 E10: who is named is shown with all that it has.
#[test]
fn flows_and_stats_are_of_every_network_of_a_container() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(Place::Lan, "serve_each(read_all)");
    lab.rn("network create n1");
    lab.rn("network create n2");
    let web = lab.member("--network n1 --network n2 --name web");
    let mut client = lab.spawn_py(
        Place::In(&web),
        &format!(
            "def by(device):\n\
             \x20   s = socket.socket()\n\
             \x20   s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)\n\
             \x20   s.settimeout(20); s.connect(('{LAN4}', 7)); return s\n\
             both = by(b'eth0'), by(b'eth1'); say('there'); threading.Event().wait()"
        ),
    );
    assert_eq!(client.line(secs(20)), "there");
    for name in ["", " web"] {
        let sorted = |words: &str| {
            let told = lab.rn(&format!("{words}{name}"));
            let mut lines: Vec<_> = told.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(sorted("stats --no-stream --format {{.Network}}"), ["n1", "n2"], "{name}");
        let flows = sorted("flows --format {{.Guest}}");
        assert!(flows.len() == 2 && flows[0].starts_with("10.89.0.2:"), "{name}: {flows:?}");
        assert!(flows[1].starts_with("10.89.1.2:"), "{name}: {flows:?}");
    }
}

// G4: a capture that is not begun takes nothing away.
#[test]
fn the_file_of_a_capture_keeps_what_it_has_until_there_is_another() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let web = lab.member("--network n1 --name web");
    let file = lab.runtime().join("n1.pcap");
    let path = file.to_str().unwrap();
    lab.sh(Place::User, &format!("printf %100s before > {path}")).ok();
    let silent = info_process(&lab, "n1");
    signal_pid(silent, Signal::SIGSTOP);
    let failed = lab.rn_fails(&format!("capture network:n1 -w {path}"));
    signal_pid(silent, Signal::SIGCONT);
    assert!(failed.starts_with("cannot talk to n1"), "{failed}");
    assert_eq!(fs::read(&file).unwrap().len(), 100);
    let captured = lab.rnsnet_command(&["capture", "web", "-w", path, "-c", "1", "-s", "20"]);
    let mut captured = captured;
    let mut captured = crate::exec::Proc::spawn(&mut captured);
    eventually(secs(10), "a frame is captured", || {
        lab.within(&web, "ping -c1 -W20 10.89.0.1").ok();
        captured.ended().map_or_else(|| Err("not yet".to_owned()), |_| Ok(()))
    });
    assert!(captured.finish(secs(10)).status.success());
    assert_eq!(fs::read(&file).unwrap().len(), 24 + 16 + 20);
}

// C7: one name that is wrong is no reason to leave out the others.
#[test]
fn the_others_are_inspected_and_detached_besides_a_name_that_is_wrong() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let _members = ["web", "db"].map(|name| lab.member(&format!("--network n1 --name {name}")));
    let unknown = "rnsnet: there is no container \"nope\"\n";
    let shown = lab.rnsnet_ends(&["inspect", "-f", "{{.Name}}", "web", "nope", "db"]);
    assert_eq!((shown.code(), shown.stdout.trim()), (1, "web\ndb"), "{shown}");
    assert!(shown.stderr.starts_with(unknown), "{shown}");
    let gone = lab.rnsnet_ends(&["detach", "web", "nope", "db"]);
    assert_eq!(gone.code(), 1, "{gone}");
    assert!(gone.stderr.starts_with(unknown), "{gone}");
    assert_eq!(lab.rn("ps -q"), "");
}

// E10: what a container was attached by may be another's since.
#[test]
fn who_is_connected_by_name_is_who_was_attached() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    lab.rn("network create n2");
    let (web, other) = (lab.container(), lab.container());
    let path = lab.runtime().join("netns");
    let lead_to = |container: &Container| {
        let target = format!("/proc/{}/ns/net", container.pid());
        lab.sh(Place::User, &format!("ln -sfn {target} {}", path.display())).ok();
    };
    lead_to(&web);
    lab.rn(&format!("-d --network n1 --name web {}", path.display()));
    lead_to(&other);
    let told = lab.rn_fails("network connect n2 web");
    assert_eq!(told, "there is no container \"web\"");
    assert!(!lab.within(&other, "ip -br link").ok().contains("eth0"));
    lead_to(&web);
    lab.rn("network connect n2 web");
    assert!(lab.within(&web, "ip -br link").ok().contains("eth1"));
    // By a path nobody sees its end.
    lab.rn("detach web");
    assert_eq!(lab.rn("ps -q"), "");
}
