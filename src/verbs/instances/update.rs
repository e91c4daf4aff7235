//! `rnsnet update`: how much a container may get and send each second, and how much its network's
//! process says of it, while it runs.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;

use nix::fcntl::OFlag;
use serde_json::{Value, json};

use super::super::{Action, Argument, Count, Typed, Verb};
use super::{WHOM, print_line};
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values;
use crate::client::{self, ClientError, Instance};
use crate::control::Named;
use crate::error::Error;
use crate::network::manage::NetworkError;

pub(in crate::verbs) const UPDATE: Verb = Verb {
    name: "update",
    aliases: &[],
    about: "Change a running container's rate, or what is logged of it",
    more: "What it has open stays open. The new rate is kept over a restart of the network's process. Without a rate of its own it has the network's.",
    arguments: &[Argument { count: Count::One, ..WHOM }],
    options: &[
        OptionSpec {
            long: "--rate",
            kind: Kind::Value("RATE"),
            help: "How much it may get and send each second: down=50mbit changes one direction, \
                   1gbit both, none takes a limit back; 8kbit to 1tbit.",
            ..VERB
        },
        OptionSpec {
            long: "--log-level",
            kind: Kind::Value("LEVEL"),
            help: "From now on until the network's process ends: error, warn, info, debug or trace. Of a \
                   named network it is the level of all its containers.",
            ..VERB
        },
        OptionSpec {
            long: "--log-file",
            kind: Kind::Value("FILE"),
            help: "With --log-level: log to the end of this file from now on. Without it what runs in the \
                   background (-d, a named network) logs nowhere.",
            ..VERB
        },
        OptionSpec {
            long: "--network",
            kind: Kind::Value("NETWORK"),
            help: "On this network alone (default: on each that it is on).",
            ..VERB
        },
    ],
    examples: &[
        ("rnsnet update --rate down=50mbit web", "Up it is what it was."),
        ("rnsnet update --rate none --network n1 web", "As everybody else on that network."),
        ("rnsnet update --log-level debug --log-file n1.log n1", "Tell of each flow on a network."),
    ],
    parse,
};

#[derive(Debug)]
struct Update {
    whom: String,
    rate: Option<String>,
    level: Option<String>,
    file: Option<String>,
    network: Option<String>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let rate = typed.read("--rate", |text| values::rate(text).map(|_| text.to_owned()))?;
    let level =
        typed.read("--log-level", |text| values::log_level(text).map(|_| text.to_owned()))?;
    let file = typed.read("--log-file", |text| values::output(text).map(|_| text.to_owned()))?;
    if level.is_none() && file.is_some() {
        return Err(UsageError::Useless { option: "--log-file", needed: "--log-level LEVEL" });
    }
    if rate.is_none() && level.is_none() {
        return Err(UsageError::NothingToDo);
    }
    let whom = typed.argument(0).unwrap_or_default().to_owned();
    let network = typed.value("--network").map(str::to_owned);
    Ok(Box::new(Update { whom, rate, level, file, network }))
}

impl Action for Update {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let mut called = None;
        let meant = client::whom(std::slice::from_ref(&self.whom))?;
        let file = self.file.as_deref().map(open).transpose()?.map(OwnedFd::from);
        for (mut instance, Named { container }) in meant {
            if !self.is_meant(&instance) {
                continue;
            }
            if let Some(rate) = &self.rate {
                if container.is_none() {
                    return Err(ClientError::NotFound { name: self.whom }.into());
                }
                let asked = json!({"container": container, "rate": rate});
                let _: Value = instance.connection.ask("rate", &asked)?;
            }
            if let Some(level) = &self.level {
                let asked = json!({"level": level});
                let _: Value =
                    instance.connection.ask_with("log-level", &asked, file.as_slice())?;
            }
            called = called.or_else(|| Some(container.unwrap_or(instance.name)));
        }
        let Some(called) = called else {
            let (container, name) = (self.whom, self.network.unwrap_or_default());
            return Err(NetworkError::NotConnected { container, name }.into());
        };
        print_line(&called)?;
        Ok(0)
    }
}

/// A file to write at the end of. A FIFO is not waited for, but refused.
fn open(file: &str) -> Result<File, ClientError> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o600).custom_flags(OFlag::O_NONBLOCK.bits());
    let opened = options.open(file);
    opened.map_err(|source| ClientError::Write { file: file.to_owned(), source })
}

impl Update {
    /// Whether it is about what is on this network. One of one's own is called after its container; ps
    /// calls it by its kind.
    fn is_meant(&self, instance: &Instance) -> bool {
        let kind = instance.owner.is_none().then_some(&instance.info.network);
        let is_it = |only: &String| *only == instance.name || kind == Some(only);
        self.network.as_ref().is_none_or(is_it)
    }
}
