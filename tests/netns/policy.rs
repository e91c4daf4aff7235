//! What changes while a named network is served: fixed names, resolvers, what passes between
//! containers. Rows D15 D20 E12 E15 E20 E25 F12.

use crate::eventually::{eventually, secs};
use crate::lab::{Container, LAN4, Lab, Place};
use crate::networks::{info_process, pings};

/// Waits for such a connection. A kernel that was not answered just now says so at once for a second.
#[track_caller]
fn will_connect(lab: &Lab, from: &Container, to: &str, port: u16) {
    eventually(secs(10), &format!("{to} port {port} can be reached"), || {
        if connects(lab, from, to, port) { Ok(()) } else { Err("no".to_owned()) }
    });
}

/// Whether a connection from one container is taken at another's address, soon.
fn connects(lab: &Lab, from: &Container, to: &str, port: u16) -> bool {
    let program = format!("say(read_all(tcp('{to}', {port}, 2)).decode())");
    lab.py(Place::In(from), &program).stdout.starts_with("served")
}

// F12
#[test]
fn with_icc_off_only_what_is_allowed_between_two_names_passes() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --ipv6 --opt icc=false n1");
    let app = lab.member("--network n1 --name app");
    let db = lab.member("--network n1 --name db");
    let other = lab.member("--network n1 --name other");
    let serve = |container: &Container, port: u16| {
        let program = format!("serve_each(lambda s: (s.sendall(b'served'), s.close()), {port})");
        lab.serve(Place::In(container), &program)
    };
    let _servers = [serve(&db, 5432), serve(&db, 5433), serve(&app, 5432), serve(&other, 5432)];
    assert!(!connects(&lab, &app, "10.89.0.3", 5432));
    lab.rn("policy allow-between n1 app db tcp:5432");
    assert_eq!(lab.rn("policy ls n1 --format {{.From}}>{{.To}}:{{.Rule}}"), "app>db:tcp:5432");
    will_connect(&lab, &app, "10.89.0.3", 5432);
    let db6 = lab.asks(&app, "10.89.0.1", "AAAA db");
    will_connect(&lab, &app, &db6, 5432);
    // Another port, back, others, and pings.
    assert!(!connects(&lab, &app, "10.89.0.3", 5433));
    assert!(!connects(&lab, &db, "10.89.0.2", 5432));
    assert!(!connects(&lab, &other, "10.89.0.3", 5432));
    assert!(!connects(&lab, &app, "10.89.0.4", 5432));
    assert!(!pings(&lab, &app, "10.89.0.3"));
    // It follows the name: another container that is called so, and one after the process's end.
    let second = lab.member("--network n1:alias=db --name second");
    let _server = serve(&second, 5432);
    will_connect(&lab, &app, "10.89.0.5", 5432);
    assert_eq!(
        lab.rn_fails("policy rm n1 app db tcp:5433"),
        "the network n1 has no rule app db tcp:5433"
    );
    lab.rn("policy rm n1 app db tcp:5432");
    assert!(!connects(&lab, &app, "10.89.0.3", 5432));
    lab.rn("policy allow-between n1 app db tcp:5432");
    drop((app, db, other, second));
    eventually(secs(5), "the network's process has ended", || {
        let socket = lab.runtime().join("rnsnet/networks/n1/control.sock");
        if socket.exists() { Err("its socket is there".to_owned()) } else { Ok(()) }
    });
    let db = lab.member("--network n1 --name db");
    let app = lab.member("--network n1 --name app");
    let _server = serve(&db, 5432);
    // The rule is kept, as the addresses are.
    will_connect(&lab, &app, "10.89.0.3", 5432);
    assert!(!pings(&lab, &app, "10.89.0.3"));
    lab.rn("network create n2");
    assert_eq!(
        lab.rn_fails("policy allow-between n2 app db tcp:5432"),
        "the containers of n2 reach each other anyway: it was made without --opt icc=false"
    );
}

// E20: Docker's links are what it lets through.
#[test]
fn a_link_opens_the_way_to_the_other_on_a_network_without_icc() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --opt icc=false n1");
    let db = lab.member("--network n1 --name db");
    let app = lab.container();
    let other = lab.member("--network n1 --name other");
    lab.rn(&format!("network connect --name app --link db:d n1 {}", app.pid()));
    eventually(secs(10), "the other answers", || {
        if pings(&lab, &app, "10.89.0.2") { Ok(()) } else { Err("no".to_owned()) }
    });
    assert!(!pings(&lab, &db, "10.89.0.4"));
    assert!(!pings(&lab, &other, "10.89.0.2"));
}

// D15
#[test]
fn a_link_is_one_containers_own_name_for_another() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n0");
    lab.rn("network create n1");
    let app = lab.member("--network n0 --name app");
    let db = lab.member("--network n1 --name db -p 5432:5432");
    lab.rn("network connect --link db:d n1 app");
    assert_eq!(lab.asks(&app, "10.89.1.1", "d"), "10.89.1.2");
    assert_eq!(lab.asks(&db, "10.89.1.1", "d"), "");
    assert_eq!(lab.asks(&app, "10.89.0.1", "d"), "");
    assert_eq!(
        lab.rn("link-env db:d 53/udp"),
        "D_PORT=udp://10.89.1.2:53\n\
         D_PORT_53_UDP=udp://10.89.1.2:53\nD_PORT_53_UDP_ADDR=10.89.1.2\n\
         D_PORT_53_UDP_PORT=53\nD_PORT_53_UDP_PROTO=udp\n\
         D_PORT_5432_TCP=tcp://10.89.1.2:5432\nD_PORT_5432_TCP_ADDR=10.89.1.2\n\
         D_PORT_5432_TCP_PORT=5432\nD_PORT_5432_TCP_PROTO=tcp"
    );
    assert!(lab.rn("link-env db:d").contains("\nD_PORT_5432_TCP_ADDR=10.89.1.2\n"));
    assert_eq!(lab.rn_fails("link-env app:a"), "no port of app is published");
}

// D20
#[test]
fn fixed_names_and_wildcards_are_known_at_once_and_kept() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    lab.rn("network create n2");
    lab.rn("dns add n1 printer 192.0.2.9");
    let web = lab.member("--network n1 --name web");
    let elsewhere = lab.member("--network n2 --name elsewhere");
    assert_eq!(lab.asks(&web, "10.89.0.1", "printer"), "192.0.2.9");
    lab.rn("dns add n1 *.apps 10.89.0.5");
    assert_eq!(lab.asks(&web, "10.89.0.1", "x.apps"), "10.89.0.5");
    assert_eq!(lab.asks(&web, "10.89.0.1", "a.b.APPS"), "10.89.0.5");
    assert_eq!(lab.asks(&web, "10.89.0.1", "apps"), "");
    assert_eq!(lab.asks(&elsewhere, "10.89.1.1", "x.apps"), "");
    // A container's name comes first.
    lab.rn("dns add n1 web 192.0.2.77");
    assert_eq!(lab.asks(&web, "10.89.0.1", "web"), "10.89.0.2");
    let listed = lab.rn("dns ls n1");
    let words: Vec<&str> = listed.split_whitespace().collect();
    assert_eq!(words.join(" "), "NAME ADDRESS printer 192.0.2.9 *.apps 10.89.0.5 web 192.0.2.77");
    let verbose = "{{range .Records}}{{index . 0}} {{end}}";
    let inspected = lab.rnsnet_ends(&["network", "inspect", "-v", "-f", verbose, "n1"]);
    assert_eq!(inspected.ok().trim_end(), "printer *.apps web");
    lab.rn("dns rm n1 *.apps");
    assert_eq!(lab.asks(&web, "10.89.0.1", "x.apps"), "");
    assert_eq!(lab.asks(&web, "10.89.0.1", "printer"), "192.0.2.9");
    assert_eq!(
        lab.rn_fails("dns rm n1 printer 192.0.2.8"),
        "the network n1 has no record printer 192.0.2.8"
    );
    for words in ["dns add n1 a*b 192.0.2.9", "dns add n1 printer here", "dns add n1 printer"] {
        let args: Vec<&str> = words.split(' ').collect();
        assert_eq!(lab.rnsnet_ends(&args).code(), 2, "{words}");
    }
}

// E15
#[test]
fn resolvers_and_labels_are_changed_while_containers_are_there() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dnsmasq(Place::Lan, LAN4);
    lab.rn("network create --dns 192.0.2.254 n1");
    let web = lab.member("--network n1 --name web");
    let process = info_process(&lab, "n1");
    assert_eq!(lab.asks(&web, "10.89.0.1", "a.test"), "");
    lab.rn(&format!("network update --dns-add {LAN4} --dns-drop 192.0.2.254 --label a=b n1"));
    assert_eq!(lab.asks(&web, "10.89.0.1", "a.test"), LAN4);
    // After the last one the host's own are asked.
    lab.rn(&format!("network update --dns-drop {LAN4} n1"));
    assert_eq!(lab.asks(&web, "10.89.0.1", "a.test"), LAN4);
    lab.rn("network update --dns-add 192.0.2.254 n1");
    assert_eq!(lab.asks(&web, "10.89.0.1", "b.a.test"), "");
    assert_eq!(info_process(&lab, "n1"), process);
    assert_eq!(lab.rn("network inspect -f {{.Labels}} n1"), "map[a:b]");
}

// E12
#[test]
fn networks_that_nobody_is_on_are_dangling() {
    let Some(lab) = Lab::new() else { return };
    for network in ["n1", "n2"] {
        lab.rn(&format!("network create {network}"));
    }
    let _web = lab.member("--network n1 --name web");
    let list =
        |filter: &str| lab.rn(&format!("network ls --filter {filter} --format {{{{.Name}}}}"));
    assert_eq!(list("dangling=true"), "n2");
    assert_eq!(list("dangling=false --filter type=custom"), "n1");
    assert_eq!(list("dangling=true --filter name=n1"), "");
}
