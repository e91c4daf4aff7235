//! `rnsnet flows`: who talks to whom.

use std::net::SocketAddr;

use serde::Deserialize;

use super::super::{Action, Argument, Count, Typed, Verb};
use super::human::{age, size};
use super::{FORMAT, WHOM, format, number, print_list, text};
use crate::cli::UsageError;
use crate::client;
use crate::control::Flow;
use crate::error::Error;
use crate::output::{Column, Format, Value};

pub(in crate::verbs) const FLOWS: Verb = Verb {
    name: "flows",
    aliases: &[],
    about: "List the conversations of containers, with names",
    more: "FROM is who began. The container has its own name, whichever of its addresses it uses; the \
           other side's is the one that the container has asked its resolver for. TX is what the \
           container has sent, RX what it was sent, in bytes of payload. Templates and JSON have the \
           two ends' addresses as Guest and Host.",
    arguments: &[Argument { count: Count::Optional, ..WHOM }],
    options: &[FORMAT],
    examples: &[
        ("rnsnet flows", "Those of all containers."),
        ("rnsnet flows --format json web", "Those of one, an object for each line."),
    ],
    parse,
};

const COLUMNS: [Column; 15] = [
    ("Proto", "PROTO"),
    ("From", "FROM"),
    ("To", "TO"),
    ("State", "STATE"),
    ("Tx", "TX"),
    ("Rx", "RX"),
    ("Age", "AGE"),
    ("Container", "CONTAINER"),
    ("Guest", "GUEST"),
    ("Host", "HOST"),
    ("HostName", "HOST NAME"),
    ("TxBytes", "TX BYTES"),
    ("RxBytes", "RX BYTES"),
    ("AgeMs", "AGE MS"),
    ("Outbound", "OUTBOUND"),
];
const SHOWN: usize = 7;

#[derive(Debug)]
struct Flows {
    whose: Vec<String>,
    format: Format,
}

/// The answer of `flows`.
#[derive(Deserialize)]
struct Answer {
    flows: Vec<Flow>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    Ok(Box::new(Flows { whose: typed.arguments().to_vec(), format: format(typed)? }))
}

impl Action for Flows {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let mut rows: Vec<Value> = Vec::new();
        for (instance, answer) in client::ask_whom(&self.whose, "flows")? {
            let answer: Answer = instance.read(answer)?;
            rows.extend(answer.flows.iter().map(row));
        }
        print_list(&self.format, &rows, &COLUMNS, SHOWN)?;
        Ok(0)
    }
}

fn row(flow: &Flow) -> Value {
    let host = match &flow.host_name {
        Some(name) => with_name(&flow.host, name),
        None => flow.host.clone(),
    };
    let guest = match flow.guest.parse::<SocketAddr>() {
        Ok(guest) if !flow.container.is_empty() => format!("{}:{}", flow.container, guest.port()),
        _ => flow.guest.clone(),
    };
    let (from, to) = if flow.outbound { (guest, host) } else { (host, guest) };
    Value::Struct(vec![
        ("Proto", text(&flow.protocol)),
        ("From", text(from)),
        ("To", text(to)),
        ("State", text(&flow.state)),
        ("Tx", text(size(flow.tx_bytes))),
        ("Rx", text(size(flow.rx_bytes))),
        ("Age", text(age(flow.age_ms))),
        ("Container", text(&flow.container)),
        ("Guest", text(&flow.guest)),
        ("Host", text(&flow.host)),
        ("HostName", text(flow.host_name.clone().unwrap_or_default())),
        ("TxBytes", number(flow.tx_bytes)),
        ("RxBytes", number(flow.rx_bytes)),
        ("AgeMs", number(flow.age_ms)),
        ("Outbound", Value::Bool(flow.outbound)),
    ])
}

/// `a.test(192.0.2.9):80`
fn with_name(host: &str, name: &str) -> String {
    match host.parse::<SocketAddr>() {
        Ok(address) => format!("{name}({}):{}", address.ip(), address.port()),
        Err(_) => format!("{name}({host})"),
    }
}
