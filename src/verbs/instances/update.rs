//! `rnsnet update`: how much a container may get and send each second, while it runs.

use super::super::{Action, Typed, Verb};
use super::{CTR, print_line};
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values;
use crate::client::{self, Found};
use crate::control::{Container, SetRate};
use crate::error::Error;
use crate::network::manage::NetworkError;

pub(in crate::verbs) const UPDATE: Verb = Verb {
    name: "update",
    aliases: &[],
    about: "Change a running container's rate",
    more: "What it has open stays open. The new rate is kept over a restart of the network's process. Without a rate of its own it has the network's.",
    arguments: &[CTR],
    options: &[
        OptionSpec {
            long: "--rate",
            kind: Kind::Value("RATE"),
            help: "How much it may get and send each second: down=50mbit changes one direction, \
                   1gbit both, none takes a limit back; 8kbit to 1tbit.",
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
    ],
    parse,
};

#[derive(Debug)]
struct Update {
    container: String,
    rate: String,
    network: Option<String>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let rate = typed.read("--rate", |text| values::rate(text).map(|_| text.to_owned()))?;
    Ok(Box::new(Update {
        container: typed.argument(0).unwrap_or_default().to_owned(),
        rate: rate.ok_or(UsageError::NothingToDo)?,
        network: typed.value("--network").map(str::to_owned),
    }))
}

impl Action for Update {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let Self { container: name, rate, network } = *self;
        let mut found = client::find_all(&name)?;
        // A network of one's own is called after its container; ps calls it by its kind.
        found.retain(|Found { instance, .. }| {
            let kind = instance.owner.is_none().then_some(&instance.info.network);
            network.as_ref().is_none_or(|only| *only == instance.name || kind == Some(only))
        });
        let Some(first) = found.first() else {
            let (container, name) = (name, network.unwrap_or_default());
            return Err(NetworkError::NotConnected { container, name }.into());
        };
        let called = first.container.name.clone();
        for mut found in found {
            let asked = SetRate { container: found.named(), rate: rate.clone() };
            let _: Container = found.ask("rate", &asked)?;
        }
        print_line(&called)?;
        Ok(0)
    }
}
