//! The verbs where containers are on several networks, or several are named. Rows C7 C9 E10 E11.

use crate::eventually::secs;
use crate::lab::{LAN4, Lab, Place};

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
