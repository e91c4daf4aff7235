//! What a container may reach outside, by address and by name, from the start and while it runs.
//! Rows F3 F4 F6 F7.

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::lab::{Container, DNS4, LAN4, LAN6, Lab, Place};
use crate::left::killed;
use crate::networks::{info_process, reaches};

/// What curl says of a page: its text, or its exit code.
fn page(lab: &Lab, ctr: &Container, url: &str) -> String {
    let ran = lab.sh(Place::In(ctr), &format!("curl -sS -m20 {url}"));
    if ran.status.success() { ran.stdout.trim().to_owned() } else { ran.code().to_string() }
}

/// What came of a connection: `yes`, or the name of the error, and whether it was soon.
fn connects(lab: &Lab, ctr: &Container, to: &str, port: u16) -> String {
    let program = format!(
        "start = time.monotonic()\n\
         try: tcp('{to}', {port}); said = 'yes'\n\
         except OSError as error: said = errno.errorcode.get(error.errno, 'timeout')\n\
         say(said if ms(start) < 10000 else 'late ' + said)"
    );
    lab.py(Place::In(ctr), &program).ok().to_owned()
}

fn looks_up(lab: &Lab, ctr: &Container, name: &str) -> String {
    let line = format!("dig +tries=1 +time=15 @{DNS4} {name} | grep -o 'status: [A-Z]*'");
    lab.sh(Place::In(ctr), &line).ok().to_owned()
}

// F3
#[test]
fn what_is_not_allowed_is_told_so_at_once() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let _who = lab.who(Place::Lan, 7);
    lab.allow_ping();
    let ctr = lab.container();
    let options =
        ["--egress", "deny", "--allow", "tcp:192.0.2.9:8080", "--allow", "icmp", "--name", "web"];
    let _net = lab.rnsnet(&ctr).with(&options).start();
    assert_eq!(page(&lab, &ctr, &format!("http://{LAN4}:8080/")), "hello from the lan");
    assert_eq!(connects(&lab, &ctr, LAN4, 7), "EHOSTUNREACH");
    assert_eq!(connects(&lab, &ctr, LAN6, 8080), "EACCES");
    let udp = format!(
        "s = udp(timeout=30); s.connect(('{LAN4}', 7)); s.send(b'x')\n\
         try: say(s.recv(9))\n\
         except OSError as error: say(errno.errorcode[error.errno])"
    );
    assert_eq!(lab.py(Place::In(&ctr), &udp).ok(), "EHOSTUNREACH");
    lab.sh(Place::In(&ctr), &format!("ping -c1 -W20 {LAN4}")).ok();
    let denied = lab.rn("policy log web --format {{.Attempt}}");
    let expected =
        ["deny tcp 192.0.2.9:7", "deny tcp [2001:db8:5::9]:8080", "deny udp 192.0.2.9:7"];
    assert_eq!(denied.lines().collect::<Vec<_>>(), expected);
    let rules = lab.rn("policy show web");
    let rows: Vec<Vec<&str>> =
        rules.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["RULE", "HITS", "NETWORK"]);
    // More where a SYN was late and came again.
    let hits = |row: &[&str]| row[2].parse::<u32>().expect("a number");
    assert_eq!((rows[1][..2].join(" "), rows[1][3]), ("deny any".to_owned(), "default"));
    assert!(hits(&rows[1]) >= 3, "{rules}");
    assert_eq!(rows[2], ["allow", "tcp:192.0.2.9:8080", "1", "default"]);
    assert_eq!(rows[3], ["allow", "icmp", "1", "default"]);
    let inspected = lab.rnsnet_ends(&["inspect", "-f", "{{json .NetworkSettings.Egress}}", "web"]);
    assert_eq!(inspected.ok(), r#"["deny any","allow tcp:192.0.2.9:8080","allow icmp"]"#);
}

// F4
#[test]
fn a_name_that_is_allowed_is_reached_where_it_was_found() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Lan, "ip addr add 192.0.2.10/24 dev l0").ok();
    let more = [
        "--listen-address=192.0.2.9",
        "--host-record=b.test,192.0.2.10",
        "--cname=alias.test,a.test",
        "--host-record=x.wild.test,192.0.2.10",
    ];
    let _dns = lab.dnsmasq_with(Place::Lan, &more, 53);
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let ctr = lab.container();
    let options = [
        "--dns",
        LAN4,
        "--egress=deny",
        "--allow=a.test:8080",
        "--allow=*.wild.test",
        "--allow=alias.test:8080",
        "--name=web",
    ];
    let _net = lab.rnsnet(&ctr).with(&options).start();
    let fetch = |name: &str, address: &str| {
        page(&lab, &ctr, &format!("--resolve {name}:8080:{address} http://{name}:8080/"))
    };
    // Before it was looked up, its address is nobody's.
    assert_eq!(fetch("a.test", LAN4), "7");
    assert_eq!(looks_up(&lab, &ctr, "a.test"), "status: NOERROR");
    assert_eq!(fetch("a.test", LAN4), "hello from the lan");
    assert_eq!(connects(&lab, &ctr, LAN4, 53), "EHOSTUNREACH");
    assert_eq!(looks_up(&lab, &ctr, "b.test"), "status: REFUSED");
    assert_eq!(fetch("b.test", "192.0.2.10"), "7");
    assert_eq!(looks_up(&lab, &ctr, "x.wild.test"), "status: NOERROR");
    assert_eq!(fetch("x.wild.test", "192.0.2.10"), "hello from the lan");
    // Over TCP as well.
    let tcp = format!("dig +tcp +tries=1 +time=15 @{DNS4} b.test | grep -o 'status: [A-Z]*'");
    assert_eq!(lab.sh(Place::In(&ctr), &tcp).ok(), "status: REFUSED");
    let log = lab.rn("policy log web --format {{.Attempt}}");
    assert!(log.contains("deny dns b.test"), "{log}");
}

// F6
#[test]
fn private_networks_are_denied_and_the_rest_is_not() {
    let Some(lab) = Lab::new() else { return };
    lab.sh(Place::Lan, "ip addr add 192.168.7.9/24 dev l0").ok();
    lab.sh(Place::Host, "ip addr add 192.168.7.1/24 dev h0").ok();
    let _dns = lab.dns_server(LAN4);
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let ctr = lab.container();
    let options = ["--deny", "private", "--allow", "192.168.7.9:7", "--dns", LAN4];
    let _net = lab.rnsnet(&ctr).with(&options).start();
    let _who = lab.who(Place::Lan, 7);
    assert_eq!(page(&lab, &ctr, "http://192.168.7.9:8080/"), "7");
    assert_eq!(connects(&lab, &ctr, "192.168.7.9", 7), "yes");
    assert_eq!(page(&lab, &ctr, &format!("http://{LAN4}:8080/")), "hello from the lan");
    assert_eq!(looks_up(&lab, &ctr, "a.test"), "status: NOERROR");
}

// F7
#[test]
fn rules_change_while_it_runs_and_end_what_stands() {
    let Some(lab) = Lab::new() else { return };
    let _servers = [8080, 8081].map(|port| lab.serve(Place::Lan, &format!("echo_tcp({port})")));
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["--name", "web"]).start();
    let mut client = lab.spawn_py(
        Place::In(&ctr),
        &format!(
            "one, other = tcp('{LAN4}', 8080, 60), tcp('{LAN4}', 8081, 60); say('there')\n\
             try: one.recv(1)\n\
             except OSError as error: say(errno.errorcode[error.errno])\n\
             sys.stdin.readline()"
        ),
    );
    assert_eq!(client.line(secs(20)), "there");
    assert_eq!(lab.rn("policy deny web tcp:192.0.2.9:8080"), "web");
    assert_eq!(client.line(secs(5)), "ECONNRESET");
    assert_eq!(connects(&lab, &ctr, LAN4, 8080), "EHOSTUNREACH");
    assert_eq!(connects(&lab, &ctr, LAN4, 8081), "yes");
    assert!(lab.rn("flows web").contains(":8081"), "the other stands");
    let shown = lab.rn("policy show web --format {{.Rule}}:{{.Hits}}");
    let hits = shown.strip_prefix("deny tcp:192.0.2.9:8080:").and_then(|hits| hits.parse().ok());
    assert!(hits.is_some_and(|hits: u32| hits > 0), "{shown}");
    // It is in force for the process after a killed one.
    net.signal(Signal::SIGKILL);
    assert!(!net.ends().success());
    lab.rn("reattach -d web");
    assert_eq!(connects(&lab, &ctr, LAN4, 8080), "EHOSTUNREACH");
    assert_eq!(connects(&lab, &ctr, LAN4, 8081), "yes");
    assert_eq!(lab.rn("policy allow web tcp:192.0.2.9:8080"), "web");
    assert_eq!(connects(&lab, &ctr, LAN4, 8080), "yes");
    assert_eq!(lab.rn("policy show web --format {{.Rule}}"), "allow tcp:192.0.2.9:8080");
    lab.rn("policy deny web any");
    assert_eq!(connects(&lab, &ctr, LAN4, 8081), "EHOSTUNREACH");
    // The process that was killed began with none.
    lab.rn("policy reset web");
    assert_eq!(lab.rn("policy show web --format {{.Rule}}"), "");
    assert_eq!(
        lab.rn_fails("policy allow web tcp:443"),
        "web: nothing is denied, so a rule that allows would change nothing"
    );
    assert_eq!(lab.rn_fails("policy show nobody"), "there is no container \"nobody\"");
}

// F3 F7: on networks that others are on, too.
#[test]
fn rules_are_one_container_s_on_every_network_that_it_is_on() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let _who = lab.who(Place::Lan, 7);
    for network in ["n1", "n2"] {
        lab.rn(&format!("network create {network}"));
    }
    let web = lab.member("--network n1 --name web --egress deny --allow tcp:8080");
    let db = lab.member("--network n1 --name db");
    let calls = |ctr: &Container| connects(&lab, ctr, LAN4, 7);
    assert_eq!([calls(&web), calls(&db)], ["EHOSTUNREACH", "yes"]);
    assert_eq!(page(&lab, &web, &format!("http://{LAN4}:8080/")), "hello from the lan");
    // Its neighbours are not outside.
    assert!(reaches(&lab, &web, "10.89.0.3"));
    // Another way out has the same rules.
    lab.rn("network connect --gw-priority 7 n2 web");
    let route = lab.within(&web, &format!("ip route get {LAN4}")).ok().to_owned();
    assert!(route.contains("10.89.1.1"), "{route}");
    assert_eq!(calls(&web), "EHOSTUNREACH");
    assert_eq!(lab.rn("policy allow web tcp:192.0.2.9:7"), "web");
    assert_eq!(calls(&web), "yes");
    let shown = lab.rn("policy show web --format {{.Network}}:{{.Rule}}");
    let first = |network: &str| format!("{network}:allow tcp:192.0.2.9:7");
    assert!(shown.contains(&first("n1")) && shown.contains(&first("n2")), "{shown}");
    lab.rn("policy deny web tcp:192.0.2.9:7");
    for network in ["n1", "n2"] {
        killed(info_process(&lab, network));
        eventually(secs(10), "it can be reattached", || {
            let ran = lab.rnsnet_ends(&["reattach", network]);
            if ran.status.success() { Ok(()) } else { Err(ran.to_string()) }
        });
    }
    assert_eq!([calls(&web), calls(&db)], ["EHOSTUNREACH", "yes"]);
    // Which rules it began with is known, too.
    lab.rn("policy reset web");
    let shown = lab.rn("policy show web --format {{.Network}}:{{.Rule}}");
    let rules = |network: &str| format!("{network}:deny any\n{network}:allow tcp:8080");
    assert!(shown.contains(&rules("n1")) && shown.contains(&rules("n2")), "{shown}");
    assert!(!shown.contains("192.0.2.9"), "{shown}");
    lab.rn("network disconnect n2 web");
    lab.rn("network connect --gw-priority 7 --egress allow n2 web");
    assert_eq!(calls(&web), "yes");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(lab) = Lab::new() else { return };
    for (words, told) in [
        ("--allow tcp:443 1", "--allow does nothing without --egress deny, or a --deny before it"),
        (
            "--deny 192.0.2 1",
            "invalid --deny \"192.0.2\": \"192.0.2\" is neither an address nor a name",
        ),
        ("--egress no 1", "invalid --egress \"no\": expected allow or deny"),
        ("--network none --deny any 1", "--deny cannot be combined with --network none"),
        ("policy deny web icmp:8", "policy deny: invalid RULE \"icmp:8\": pings have no ports"),
    ] {
        let args: Vec<&str> = words.split(' ').collect();
        let ran = lab.rnsnet_ends(&args);
        assert_eq!(ran.code(), 2, "{words}: {ran}");
        assert!(ran.stderr.starts_with(&format!("rnsnet: {told}")), "{words}: {ran}");
    }
}
