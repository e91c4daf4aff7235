//! Ports of a name that several containers of a named network have. Row C22.

use crate::eventually::{eventually, secs};
use crate::exec::Proc;
use crate::lab::{Container, HOST4, Lab, Place};

/// Runs a verb that has to work.
#[track_caller]
fn verb(lab: &Lab, words: &str) -> String {
    let args: Vec<&str> = words.split(' ').collect();
    lab.rnsnet_ends(&args).ok().to_owned()
}

/// A container on n1 that is also called `web`, with a server that says its own name.
#[track_caller]
fn replica(lab: &Lab, name: &str) -> (Container, Proc) {
    let web = lab.container();
    verb(lab, &format!("-d --network n1:alias=web --name {name} {}", web.pid()));
    let program = format!("serve_each(lambda s: (s.sendall(b'{name}'), s.close()), 80)");
    let server = lab.serve(Place::In(&web), &program);
    (web, server)
}

/// Who answers four clients, one after the other.
fn four(lab: &Lab) -> String {
    let program = format!(
        "for _ in range(4):\n    try: say(read_all(tcp('{HOST4}', 8080, 20)).decode())\n    \
         except OSError as e: say(type(e).__name__)"
    );
    let said = lab.py(Place::Lan, &program).ok().to_owned();
    let mut words: Vec<&str> = said.split_whitespace().collect();
    words.sort_unstable();
    words.join(" ")
}

#[test]
fn a_name_is_published_for_all_its_containers_and_the_dead_are_passed_over() {
    let Some(lab) = Lab::new() else { return };
    verb(&lab, "network create n1");
    let (one, one_s) = replica(&lab, "one");
    let published = verb(&lab, "publish @n1/web 8080:80");
    assert!(published.starts_with("80/tcp -> 0.0.0.0:8080"), "{published}");
    assert_eq!(four(&lab), "one one one one");
    // Those that come later take their turns.
    let (two, two_s) = replica(&lab, "two");
    assert_eq!(four(&lab), "one one two two");
    // One is there and its server is not: nobody hears of it.
    drop(one_s);
    eventually(secs(3), "its server has gone", || {
        let sockets = lab.sockets(Place::In(&one), 80);
        if sockets.is_empty() { Ok(()) } else { Err(sockets) }
    });
    assert_eq!(four(&lab), "two two two two");
    one.kill();
    eventually(secs(2), "it has left", || {
        let names = verb(&lab, "ps --format {{.Names}}");
        if names.contains("one") { Err(names) } else { Ok(()) }
    });
    assert_eq!(four(&lab), "two two two two");
    assert!(verb(&lab, "port @n1/web").contains("80/tcp -> 0.0.0.0:8080"));
    assert!(verb(&lab, "port two").contains("80/tcp -> 0.0.0.0:8080"));
    // It is the name's and not the container's to take back.
    let refused = lab.rnsnet_ends(&["unpublish", "two", "8080:80"]);
    assert_eq!(refused.code(), 1, "{refused}");
    // With nobody the port stays, and its clients are turned away.
    let keeper = lab.container();
    verb(&lab, &format!("-d --network n1 --name keeper {}", keeper.pid()));
    drop(two_s);
    two.kill();
    eventually(secs(2), "it has left", || {
        let names = verb(&lab, "ps --format {{.Names}}");
        if names.contains("two") { Err(names) } else { Ok(()) }
    });
    assert!(!four(&lab).contains("two"));
    let (_three, _three_s) = replica(&lab, "three");
    assert_eq!(four(&lab), "three three three three");
    verb(&lab, "unpublish @n1/web 8080:80");
    assert_eq!(lab.sockets(Place::Host, 8080), "");
    assert_eq!(verb(&lab, "port @n1/web"), "");
}

#[test]
fn a_name_needs_its_network() {
    let Some(lab) = Lab::new() else { return };
    verb(&lab, "network create n1");
    let ran = lab.rnsnet_ends(&["publish", "@n1/web", "8080:80"]);
    assert_eq!(ran.code(), 1, "{ran}");
    assert!(ran.stderr.starts_with("rnsnet: nobody is on a network \"n1\""), "{ran}");
    let ran = lab.rnsnet_ends(&["publish", "@n1", "8080:80"]);
    assert_eq!(ran.code(), 2, "{ran}");
}
