//! `rnsnet stats`: counters, once or live.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

use super::super::{Action, Typed, Verb};
use super::human::size;
use super::prometheus::Samples;
use super::{FORMAT, WHOM, format, number, print_list, text};
use crate::cli::UsageError;
use crate::cli::options::{OptionSpec, VERB};
use crate::client::{self, ClientError};
use crate::control::Stats;
use crate::error::Error;
use crate::output::{Column, Format, Value, print};

pub(in crate::verbs) const STATS: Verb = Verb {
    name: "stats",
    aliases: &[],
    about: "Show what has gone through the networks of containers",
    more: "Every second anew. RX is what containers were sent, TX what they have sent, in bytes \
           and packets of their interfaces since they were attached.",
    arguments: &[WHOM],
    options: &[
        OptionSpec {
            help: "table, json (an object for each line), a Go template such as {{.Name}}, or prometheus: \
                   once, as its text format has it. Default: table.",
            ..FORMAT
        },
        OptionSpec { long: "--no-stream", help: "Only once.", ..VERB },
    ],
    examples: &[
        ("rnsnet stats", "All containers, until Ctrl-C."),
        ("rnsnet stats --no-stream --format json web", "The counters of one, for a program."),
        ("rnsnet stats --format prometheus", "All, for node_exporter's textfile collector."),
    ],
    parse,
};

const COLUMNS: [Column; 19] = [
    ("Name", "NAME"),
    ("Network", "NETWORK"),
    ("RxTx", "RX / TX"),
    ("Pkts", "PKTS"),
    ("Flows", "FLOWS"),
    ("DNS", "DNS"),
    ("Dropped", "DROPPED"),
    ("ID", "ID"),
    ("RxBytes", "RX BYTES"),
    ("TxBytes", "TX BYTES"),
    ("RxPackets", "RX PACKETS"),
    ("TxPackets", "TX PACKETS"),
    ("DNSFailed", "DNS FAILED"),
    ("Denied", "DENIED"),
    ("Opened", "OPENED"),
    ("Drops", "DROPS"),
    ("Limits", "LIMITS"),
    ("Container", "CONTAINER"),
    ("Names", "NAMES"),
];
const SHOWN: usize = 7;
/// How often the live table is made anew, in milliseconds.
const PERIOD_MS: u16 = 1000;

#[derive(Debug)]
struct Live {
    whose: Vec<String>,
    format: Format,
    once: bool,
}

/// The same once, for Prometheus.
#[derive(Debug)]
struct Exposition(Vec<String>);

/// The answer of `stats`.
#[derive(Deserialize)]
struct Answer {
    stats: Vec<Stats>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let whose = typed.arguments().to_vec();
    if typed.value("--format") == Some("prometheus") {
        return Ok(Box::new(Exposition(whose)));
    }
    Ok(Box::new(Live { whose, format: format(typed)?, once: typed.switch("--no-stream") }))
}

impl Action for Live {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal() && !self.once;
        loop {
            let rows = ask(&self.whose)?;
            let rows: Vec<Value> =
                rows.iter().map(|(network, stats)| row(stats, network)).collect();
            if terminal {
                // Home, and clear: the table stays where it is.
                print("\x1b[H\x1b[2J")?;
            }
            print_list(&self.format, &rows, &COLUMNS, SHOWN)?;
            if self.once {
                return Ok(0);
            }
            // Nothing is asked of the output but whether its reader has gone.
            let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
            let wait = poll(&mut fds, PollTimeout::from(PERIOD_MS));
            let gone =
                wait.map_err(|errno| ClientError::System { step: "wait", source: errno.into() })?;
            if gone > 0 {
                return Ok(0);
            }
        }
    }
}

impl Action for Exposition {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let mut samples = Samples::default();
        for (network, stats) in ask(&self.0)? {
            samples.add(&network, &stats);
        }
        print(&samples.exposition())?;
        Ok(0)
    }
}

/// The counters, each with its network.
fn ask(whose: &[String]) -> Result<Vec<(String, Stats)>, ClientError> {
    let mut all = Vec::new();
    for (instance, answer) in client::ask_whom(whose, "stats")? {
        let answer: Answer = instance.read(answer)?;
        // Another user's may be called as one's own.
        let network = if instance.owner.is_some() { instance.name } else { instance.info.network };
        all.extend(answer.stats.into_iter().map(|stats| (network.clone(), stats)));
    }
    Ok(all)
}

fn row(stats: &Stats, network: &str) -> Value {
    let map = |counters: &crate::sorted::SortedMap<String, u64>| {
        Value::Map(counters.iter().map(|(name, count)| (name.clone(), number(*count))).collect())
    };
    Value::Struct(vec![
        ("Name", text(&stats.name)),
        ("Network", text(network)),
        ("RxTx", text(format!("{} / {}", size(stats.rx_bytes), size(stats.tx_bytes)))),
        ("Pkts", text(format!("{} / {}", stats.rx_packets, stats.tx_packets))),
        ("Flows", number(stats.flows)),
        ("DNS", number(stats.dns)),
        ("Dropped", number(stats.dropped)),
        ("ID", text(&stats.id)),
        ("RxBytes", number(stats.rx_bytes)),
        ("TxBytes", number(stats.tx_bytes)),
        ("RxPackets", number(stats.rx_packets)),
        ("TxPackets", number(stats.tx_packets)),
        ("DNSFailed", number(stats.dns_failed)),
        ("Denied", number(stats.denied)),
        ("Opened", map(&stats.opened)),
        ("Drops", map(&stats.drops)),
        ("Limits", map(&stats.limits)),
        ("Container", text(&stats.name)),
        ("Names", text(&stats.name)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_head() {
        let Value::Struct(fields) = row(&Stats::default(), "n1") else { panic!() };
        for (field, _) in fields {
            assert!(COLUMNS.iter().any(|(column, _)| *column == field), "{field}");
        }
    }
}
