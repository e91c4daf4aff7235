//! The verbs about running containers: `ps`, `port`, `inspect`, `publish`, `flows` and so on.
//!
//! Each asks the processes of the networks over their control sockets ([`crate::client`]) and
//! prints what they answer. This file has what several of them share.

mod capture;
mod detach;
pub(super) mod dns_log;
mod events;
mod flows;
mod human;
mod inspect;
mod link_env;
pub(super) mod policy;
mod ports;
mod prometheus;
mod ps;
mod stats;
mod update;

pub(super) use capture::CAPTURE;
pub(super) use detach::DETACH;
pub(super) use events::EVENTS;
pub(super) use flows::FLOWS;
pub(super) use inspect::INSPECT;
pub(super) use link_env::LINK_ENV;
pub(super) use ports::{PORT, PUBLISH, UNPUBLISH};
pub(super) use ps::PS;
pub(super) use stats::STATS;
pub(super) use update::UPDATE;

use super::{Argument, Count, Typed};
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values::ValueError;
use crate::error::Error;
use crate::output::{Column, Format, OutputError, Value, print};

/// A container.
const CTR: Argument = Argument {
    name: "CTR",
    count: Count::One,
    help: "The container: its name, a pid in it, its network namespace, its id or the beginning of it.",
};

/// Containers, or all of a network's.
const WHOM: Argument = Argument {
    name: "CTR|NETWORK",
    count: Count::Any,
    help: "A container: its name, a pid in it, its network namespace, its id or the beginning of it; or \
           else a network by its name, for all that are on it.",
};

/// How a list is printed.
const FORMAT: OptionSpec = OptionSpec {
    long: "--format",
    kind: Kind::Value("FORMAT"),
    help: "table, json (an object for each line), or a Go template such as {{.Name}}; \
           'table TEMPLATE' prints heads too. Default: table.",
    ..VERB
};

/// Reads `--format`.
fn format(typed: &Typed) -> Result<Format, UsageError> {
    let format = typed.read("--format", |text| Format::parse(text).map_err(ValueError::from))?;
    Ok(format.unwrap_or(Format::Table))
}

/// Prints a list.
fn print_list(
    format: &Format,
    rows: &[Value],
    columns: &[Column],
    shown: usize,
) -> Result<(), Error> {
    Ok(print(&format.list(rows, columns, shown)?)?)
}

/// The first twelve digits of an id.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// A field of a row.
fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

/// A counter in a row.
fn number(number: u64) -> Value {
    Value::Int(number.into())
}

/// What cannot be printed because nobody reads it any more is no failure.
fn print_line(line: &str) -> Result<(), OutputError> {
    print(&format!("{line}\n"))
}
