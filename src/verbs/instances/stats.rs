//! `rnsnet stats`: counters, once or live.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

use super::super::{Action, Argument, Count, Typed, Verb};
use super::human::size;
use super::{CTR, FORMAT, format, number, print_list, text};
use crate::cli::UsageError;
use crate::cli::options::{OptionSpec, VERB};
use crate::client::{self, ClientError};
use crate::control::{Named, Stats};
use crate::error::Error;
use crate::output::{Column, Format, Value, print};

pub(in crate::verbs) const STATS: Verb = Verb {
    name: "stats",
    aliases: &[],
    about: "Show what has gone through the networks of containers",
    more: "Every second anew. RX is what containers were sent, TX what they have sent, in bytes \
           and packets of their interfaces since they were attached.",
    arguments: &[Argument { count: Count::Any, ..CTR }],
    options: &[FORMAT, OptionSpec { long: "--no-stream", help: "Only once.", ..VERB }],
    examples: &[
        ("rnsnet stats", "All containers, until Ctrl-C."),
        ("rnsnet stats --no-stream --format json web", "The counters of one, for a program."),
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
    containers: Vec<String>,
    format: Format,
    once: bool,
}

/// The answer of `stats`.
#[derive(Deserialize)]
struct Answer {
    stats: Vec<Stats>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    Ok(Box::new(Live {
        containers: typed.arguments().to_vec(),
        format: format(typed)?,
        once: typed.switch("--no-stream"),
    }))
}

impl Action for Live {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal() && !self.once;
        loop {
            let rows = self.rows()?;
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

impl Live {
    fn rows(&self) -> Result<Vec<Value>, Error> {
        let mut rows = Vec::new();
        if self.containers.is_empty() {
            for mut instance in client::instances()? {
                let answer: Answer = instance.connection.ask("stats", &Named::default())?;
                rows.extend(answer.stats.iter().map(|stats| row(stats, &instance.info.network)));
            }
        }
        for name in &self.containers {
            for mut found in client::find_all(name)? {
                let answer: Answer = found.ask("stats", &Named { container: found.named() })?;
                let network = &found.instance.info.network;
                rows.extend(answer.stats.iter().map(|stats| row(stats, network)));
            }
        }
        Ok(rows)
    }
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
