//! What somebody who is not logged in wants to know: counters for Prometheus, the log level of what
//! runs, and what containers look up. Rows G2 G5 D21.

use std::collections::BTreeSet;
use std::fs;

use crate::eventually::{eventually, secs};
use crate::exec::Proc;
use crate::lab::{Container, DNS4, LAN4, Lab, Place};
use crate::networks::pings;

/// The samples of a text in Prometheus's format 0.0.4, which has to be without a fault: each metric is
/// told of once, by HELP and TYPE, before its samples, and no sample comes twice.
#[track_caller]
fn samples(text: &str) -> Vec<(String, u64)> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
            && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    assert!(text.ends_with('\n'), "{text}");
    let (mut metrics, mut seen, mut samples) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let help = help.strip_prefix("# HELP ").expect("HELP comes first");
        let (metric, help) = help.split_once(' ').expect("a text");
        assert!(is_name(metric) && metric.starts_with("rnsnet_") && !help.is_empty(), "{metric}");
        assert!(metrics.insert(metric), "{metric} comes twice");
        let kind = if metric.ends_with("_total") { "counter" } else { "gauge" };
        assert_eq!(lines.next(), Some(format!("# TYPE {metric} {kind}").as_str()));
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let labels = series.strip_prefix(metric).expect("a sample of this metric");
            let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
            for label in labels.expect("labels").split(',') {
                let (name, value) = label.split_once('=').expect("a label");
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                // No name of these tests has anything that is escaped.
                assert!(is_name(name) && value.is_some_and(|value| !value.contains(['"', '\\'])));
            }
            assert!(seen.insert(series), "{series} comes twice");
            samples.push((series.to_owned(), value.parse().expect("a whole number")));
        }
        assert!(samples.last().is_some_and(|(series, _)| series.starts_with(metric)), "{metric}");
    }
    samples
}

// G2
#[test]
fn prometheus_gets_every_counter_of_every_container_once() {
    let Some(lab) = Lab::new() else { return };
    let exposition = |whose: &[&str]| {
        let ran = lab.rnsnet_ends(&[&["stats", "--format", "prometheus"], whose].concat());
        ran.ok();
        ran.stdout
    };
    assert_eq!(exposition(&[]), "", "nobody is there");
    lab.rn("network create n1");
    let web = lab.member("--network n1 --name web");
    let _db = lab.member("--network n1 --name db");
    let _cam = lab.member("--name cam");
    assert!(pings(&lab, &web, "10.89.0.3"));
    lab.asks(&web, "10.89.0.1", "A db");
    let of = |samples: &[(String, u64)], series: &str| {
        let found = samples.iter().find(|(known, _)| known == series);
        found.unwrap_or_else(|| panic!("no {series}: {samples:?}")).1
    };
    let fields = ["rx_bytes", "rx_packets", "tx_bytes", "tx_packets"];
    let template = "{{.RxBytes}} {{.RxPackets}} {{.TxBytes}} {{.TxPackets}}";
    for (name, network) in [("web", "n1"), ("db", "n1"), ("cam", "default")] {
        // A kernel may have something to say in between.
        eventually(secs(5), "both ways of asking have the same", || {
            let samples = samples(&exposition(&[]));
            let labels = format!("container=\"{name}\",network=\"{network}\"");
            let ours = fields.map(|field| {
                of(&samples, &format!("rnsnet_{field}_total{{{labels}}}")).to_string()
            });
            let told = lab.rnsnet_ends(&["stats", "--no-stream", "--format", template, name]);
            if told.ok() == ours.join(" ") { Ok(()) } else { Err(format!("{ours:?}, {told}")) }
        });
    }
    let all = samples(&exposition(&[]));
    assert!(of(&all, "rnsnet_rx_bytes_total{container=\"web\",network=\"n1\"}") > 0, "{all:?}");
    // What the containers of a network have in common is nobody's.
    assert_eq!(of(&all, "rnsnet_dns_queries_total{container=\"\",network=\"n1\"}"), 1);
    assert_eq!(of(&all, "rnsnet_dns_queries_total{container=\"cam\",network=\"default\"}"), 0);
    let queries = all.iter().filter(|(series, _)| series.starts_with("rnsnet_dns_queries_total"));
    assert_eq!(queries.count(), 2, "{all:?}");
    // Of some: by their names, or by their network's.
    let containers = |whose: &[&str]| {
        let samples = samples(&exposition(whose));
        let bytes =
            samples.iter().filter(|(series, _)| series.starts_with("rnsnet_rx_bytes_total"));
        bytes.count()
    };
    assert_eq!([containers(&["web", "cam"]), containers(&["n1"]), containers(&[])], [2, 2, 3]);
    let unknown = lab.rn_fails("stats --format prometheus nope");
    assert_eq!(unknown, "there is no container \"nope\"");
}

// G5
#[test]
fn the_log_level_is_changed_while_it_runs() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(Place::Lan, "serve_each(read_all)");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).log_level("warn").with(&["--name", "web"]).start();
    let connect = |ctr: &Container| {
        lab.py(Place::In(ctr), &format!("tcp('{LAN4}', 7).close()")).ok();
    };
    let level =
        |name: &str| lab.rn(&format!("inspect -f {{{{.NetworkSettings.LogLevel}}}} {name}"));
    connect(&ctr);
    assert_eq!(level("web"), "warn");
    assert!(!net.log().contains("debug:"), "{}", net.log());
    assert_eq!(lab.rn("update --log-level debug web"), "web");
    assert_eq!(level("web"), "debug");
    connect(&ctr);
    eventually(secs(5), "the log tells of flows", || {
        let log = net.log();
        if log.contains("debug:") { Ok(()) } else { Err(log) }
    });
    lab.rn("update --log-level warn web");
    let before = net.log();
    connect(&ctr);
    // Whatever was said of it would be there before this answer.
    assert_eq!(level("web"), "warn");
    assert_eq!(net.log(), before);
    let refused = lab.rnsnet_ends(&["update", "--log-level", "loud", "web"]);
    assert_eq!(refused.code(), 2, "{refused}");
    let told = "invalid --log-level \"loud\": expected error, warn, info, debug or trace";
    assert!(refused.stderr.contains(told), "{refused}");
}

// G5: nobody hears what runs in the background until it is told where to say it.
#[test]
fn a_network_in_the_background_gets_a_log() {
    let Some(lab) = Lab::new() else { return };
    let _server = lab.serve(Place::Lan, "serve_each(read_all)");
    lab.rn("network create n1");
    let web = lab.member("--network n1 --name web");
    assert_eq!(
        lab.rn_fails("update --log-level debug n1"),
        "n1: the process is in the background and has no log: --log-file gives it one"
    );
    assert_eq!(lab.rn("inspect -f {{.NetworkSettings.LogLevel}} web"), "info");
    let file = lab.runtime().join("n1.log");
    let path = file.to_str().unwrap();
    lab.sh(Place::User, &format!("echo before > {path}")).ok();
    assert_eq!(lab.rn(&format!("update --log-level debug --log-file {path} n1")), "n1");
    lab.py(Place::In(&web), &format!("tcp('{LAN4}', 7).close()")).ok();
    eventually(secs(5), "the file tells of flows", || {
        let log = fs::read_to_string(&file).unwrap();
        if log.starts_with("before\nrnsnet: debug: ") { Ok(()) } else { Err(log) }
    });
    // Once it has one, the level is all that is said.
    assert_eq!(lab.rn("update --log-level error web"), "web");
    let device = lab.rn_fails("update --log-level debug --log-file /dev/null web");
    assert_eq!(device, "n1: the log can go to a regular file alone");
    // One that waits for a reader is not waited for, and nothing is changed by half.
    let fifo = lab.runtime().join("n1.fifo");
    let fifo = fifo.to_str().unwrap();
    lab.sh(Place::User, &format!("mkfifo {fifo}")).ok();
    let before = lab.rn("inspect -f {{.NetworkSettings.Networks.n1.Rate}} web");
    let refused =
        lab.rn_fails(&format!("update --rate 1mbit --log-level debug --log-file {fifo} web"));
    assert!(refused.contains(fifo), "{refused}");
    assert_eq!(lab.rn("inspect -f {{.NetworkSettings.Networks.n1.Rate}} web"), before);
    assert_eq!(lab.rn("inspect -f {{.NetworkSettings.LogLevel}} web"), "error");
}

const LINE: &str = "{{.Container}}|{{.Type}}|{{.Name}}|{{.Result}}|{{.Answer}}|{{.From}}";

// D21
#[test]
fn what_a_container_looks_up_is_remembered_with_who_answered() {
    let Some(lab) = Lab::new() else { return };
    let listen = format!("--listen-address={LAN4}");
    let _dns = lab.dnsmasq_with(Place::Lan, &[&listen, "--local-ttl=600"], 53);
    let ctr = lab.container();
    let options = ["--name", "web", "--deny", "b.test", "--add-host", "printer:192.0.2.7"];
    let net = lab.rnsnet(&ctr).with(&options).start();
    let dig = |rest: &str| {
        lab.sh(Place::In(&ctr), &format!("dig +tries=1 +time=15 @{DNS4} {rest}")).ok().to_owned()
    };
    let mut follow = Proc::spawn(&mut lab.rnsnet_command(&["dns", "log", "-f", "web"]));
    for rest in ["a.test", "a.test", "AAAA six.test", "nobody.test", "b.test", "printer"] {
        dig(rest);
    }
    dig("-t TYPE1234 a.test");
    // Bytes that a terminal would take for orders.
    let odd = "s = udp(timeout=15); s.sendto(b'\\0\\1\\1\\0\\0\\1' + bytes(6) + b'\\4\\x1b[2J\\4test\\0\\0\\x10\\0\\1', ('10.0.2.3', 53)); s.recv(512)";
    lab.py(Place::In(&ctr), odd).ok();
    let expected = [
        "web|A|a.test|NOERROR|192.0.2.9|192.0.2.9",
        "web|A|a.test|NOERROR|192.0.2.9|cache",
        "web|AAAA|six.test|NOERROR|2001:db8:5::9|192.0.2.9",
        "web|A|nobody.test|NXDOMAIN||192.0.2.9",
        "web|A|b.test|REFUSED||rule",
        "web|A|printer|NOERROR|192.0.2.7|names",
        "web|TYPE1234|a.test|NOERROR||192.0.2.9",
        "web|TXT|\\x1b[2j.test|NXDOMAIN||192.0.2.9",
    ];
    let lines = lab.rn(&format!("dns log --format {LINE} web"));
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    assert_eq!(lab.rn(&format!("dns log --since 10m --format {LINE}")), lines, "nobody else asked");
    // Those who follow have the same, with the time before it.
    for (number, expected) in expected.iter().enumerate() {
        let line = follow.line(secs(5));
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let [container, kind, name, result, answer, from] =
            <[&str; 6]>::try_from(expected.split('|').collect::<Vec<_>>()).unwrap();
        assert_eq!(words[..4], [container, kind, name, result], "{number}: {line}");
        assert!(line.contains(&format!("({from}, ")), "{line}");
        assert!(answer.is_empty() || words[4] == answer, "{line}");
    }
    let json = lab.rn("dns log --format json web");
    assert!(json.lines().count() == 8 && json.contains("\"Name\":\"\\\\x1b[2j.test\""), "{json}");
    let table = lab.rn("dns log");
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["TIME", "CONTAINER", "TYPE", "NAME", "RESULT", "ANSWER", "FROM", "TOOK"]
    );
    // It ends with its container.
    lab.rn("detach web");
    assert!(net.ends().success());
    assert_eq!(follow.finish(secs(5)).code(), 0);
}

// D21
#[test]
fn the_container_that_asks_most_is_forgotten_first_and_it_is_said() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --opt limit.dns-log=3 n1");
    let [web, db] = ["web", "db"].map(|name| lab.member(&format!("--network n1 --name {name}")));
    lab.asks(&db, "10.89.0.1", "web");
    for _ in 0..4 {
        lab.asks(&web, "10.89.0.1", "db");
    }
    let log = ["dns", "log", "--format", "{{.Container}} {{.Number}}", "n1"];
    let told = lab.rnsnet_ends(&log);
    assert_eq!(told.ok(), "db 1\nweb 3\nweb 4");
    assert_eq!(told.stderr, "rnsnet: info: 2 earlier answers to web are forgotten\n");
    let limits = lab.rn("stats --no-stream --format {{.Limits}} web");
    assert!(limits.contains("dns-log:2"), "{limits}");
    // One that leaves takes its own along; who follows it has its end.
    let mut follow = Proc::spawn(&mut lab.rnsnet_command(&["dns", "log", "-f", "db"]));
    assert!(follow.line(secs(5)).contains(" db A web NOERROR "));
    drop(db);
    assert_eq!(follow.finish(secs(5)).code(), 0);
    eventually(secs(5), "the container is gone", || {
        let left = lab.rn("dns log --format {{.Container}} n1");
        if left == "web\nweb" { Ok(()) } else { Err(left) }
    });
}
