//! What somebody who is not logged in wants to know: counters for Prometheus. Row G2.

use std::collections::BTreeSet;

use crate::eventually::{eventually, secs};
use crate::lab::Lab;
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
