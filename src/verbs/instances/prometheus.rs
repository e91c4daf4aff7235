//! Counters as Prometheus reads them: its text exposition format, version 0.0.4. Pure.
//!
//! What crosses an interface is a container's. All else is counted by the network's process; where
//! several containers share it `container` is empty, as each would count what all have done.

use crate::control::{PRIVATE, Stats};
use crate::sorted::SortedMap;

/// The metrics by name, with what they are, in the order of the output. What ends in `_total` only
/// grows; the others are what there is.
const METRICS: [(&str, &str); 11] = [
    ("rx_bytes_total", "Bytes of frames to the container."),
    ("rx_packets_total", "Frames to the container."),
    ("tx_bytes_total", "Bytes of frames from the container."),
    ("tx_packets_total", "Frames from the container."),
    ("dns_failed_total", "DNS questions that no server answered."),
    ("dns_queries_total", "DNS questions."),
    ("denied_packets_total", "Packets that policy keeps from the host."),
    ("flows", "Conversations there are."),
    ("flows_opened_total", "Conversations there were, by kind."),
    ("dropped_packets_total", "Packets that were dropped, by reason."),
    ("limit_reached_total", "How often a bound was met, by its name."),
];

/// Counters by the place of their metric and their labels.
#[derive(Debug, Default)]
pub(super) struct Samples(SortedMap<(usize, String), u64>);

impl Samples {
    /// Adds a container's, and those of its network unless they are there.
    pub(super) fn add(&mut self, network: &str, stats: &Stats) {
        let labels = |container: &str| {
            format!("container=\"{}\",network=\"{}\"", escaped(container), escaped(network))
        };
        let own = labels(&stats.name);
        let crossed = [stats.rx_bytes, stats.rx_packets, stats.tx_bytes, stats.tx_packets];
        for (metric, count) in crossed.into_iter().enumerate() {
            self.0.insert((metric, own.clone()), count);
        }
        let all = if network == PRIVATE { own } else { labels("") };
        let counted = [stats.dns_failed, stats.dns, stats.denied, stats.flows];
        for (metric, count) in counted.into_iter().enumerate() {
            self.0.insert((crossed.len() + metric, all.clone()), count);
        }
        let by = [("kind", &stats.opened), ("reason", &stats.drops), ("limit", &stats.limits)];
        for (metric, (label, counters)) in by.into_iter().enumerate() {
            for (name, count) in counters.iter() {
                let labels = format!("{all},{label}=\"{}\"", escaped(name));
                self.0.insert((crossed.len() + counted.len() + metric, labels), *count);
            }
        }
    }

    /// The text. A metric without samples is left out.
    pub(super) fn exposition(&self) -> String {
        let (mut text, mut last) = (String::new(), None);
        for ((metric, labels), count) in self.0.iter() {
            let Some((name, help)) = METRICS.get(*metric) else { continue };
            if last != Some(metric) {
                let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
                text += &format!("# HELP rnsnet_{name} {help}\n# TYPE rnsnet_{name} {kind}\n");
                last = Some(metric);
            }
            text += &format!("rnsnet_{name}{{{labels}}} {count}\n");
        }
        text
    }
}

/// The value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(name: &str, rx_bytes: u64) -> Stats {
        let drops = [("storm".to_owned(), 2)].into();
        Stats { name: name.to_owned(), rx_bytes, dns: 5, drops, ..Stats::default() }
    }

    // G2
    #[test]
    fn what_containers_share_is_counted_once() {
        let mut samples = Samples::default();
        for (network, name, rx_bytes) in
            [("n1", "web", 7), ("default", "cam", u64::MAX), ("n1", "db", 8), ("n1", "web", 7)]
        {
            samples.add(network, &stats(name, rx_bytes));
        }
        let text = samples.exposition();
        let begins = "# HELP rnsnet_rx_bytes_total Bytes of frames to the container.\n\
                      # TYPE rnsnet_rx_bytes_total counter\n\
                      rnsnet_rx_bytes_total{container=\"cam\",network=\"default\"} 18446744073709551615\n\
                      rnsnet_rx_bytes_total{container=\"db\",network=\"n1\"} 8\n\
                      rnsnet_rx_bytes_total{container=\"web\",network=\"n1\"} 7\n\
                      # HELP rnsnet_rx_packets_total ";
        assert!(text.starts_with(begins), "{text}");
        let of = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            of("rnsnet_dns_queries_total{"),
            [
                "rnsnet_dns_queries_total{container=\"\",network=\"n1\"} 5",
                "rnsnet_dns_queries_total{container=\"cam\",network=\"default\"} 5",
            ]
        );
        assert_eq!(
            of("rnsnet_dropped_packets_total{"),
            [
                "rnsnet_dropped_packets_total{container=\"\",network=\"n1\",reason=\"storm\"} 2",
                "rnsnet_dropped_packets_total{container=\"cam\",network=\"default\",reason=\"storm\"} 2",
            ]
        );
        assert!(text.contains("# TYPE rnsnet_flows gauge\n"), "{text}");
        assert_eq!(Samples::default().exposition(), "");
    }

    #[test]
    fn a_name_stays_within_its_label() {
        let mut samples = Samples::default();
        samples.add("default", &stats("a\"} 1\n\\", 1));
        let expected = "{container=\"a\\\"} 1\\n\\\\\",network=\"default\"} 1\n";
        assert!(samples.exposition().contains(expected), "{}", samples.exposition());
    }
}
