//! `rnsnet policy allow-between`, `ls` and `rm`: what passes between containers of a network on
//! which containers do not reach each other. What a container may reach outside is in
//! [`super::instances::policy`].

use super::dns::{FORMAT, NETWORK};
use super::instances::policy as egress;
use super::{Action, Argument, Count, Group, Typed, Verb};
use crate::cli::UsageError;
use crate::cli::join::alias;
use crate::cli::values::{Input, ValueError};
use crate::config::Pass;
use crate::error::Error;
use crate::network::manage::NetworkError;
use crate::network::store::Store;
use crate::output::{self, Column, Format, Value};
use crate::session::network;

/// The verbs, in the order of the help.
pub(super) const POLICY: Group = Group {
    name: "policy",
    aliases: &[],
    about: "Manage what containers may reach, outside and among themselves",
    verbs: &[
        &egress::SHOW,
        &egress::ALLOW,
        &egress::DENY,
        &egress::RESET,
        &egress::LOG,
        &ALLOW,
        &LS,
        &RM,
    ],
};

const FROM: Argument = Argument {
    name: "FROM",
    count: Count::One,
    help: "Who opens: every container of this name or alias, now and later.",
};
const TO: Argument = Argument { name: "TO", count: Count::One, help: "Who is reached, alike." };
const RULE: Argument = Argument {
    name: "RULE",
    count: Count::One,
    help: "tcp:PORT[-END], udp:PORT[-END], tcp, udp or icmp; what answers passes too.",
};

const ALLOW: Verb = Verb {
    name: "allow-between",
    aliases: &[],
    about: "Let containers of one name reach those of another",
    more: "For networks that were made with --opt icc=false: of what containers send each other, \
           only what is allowed here passes. It is in force at once, and kept until it is removed.",
    arguments: &[NETWORK, FROM, TO, RULE],
    options: &[],
    examples: &[("rnsnet policy allow-between n1 app db tcp:5432", "And nothing else.")],
    parse: |typed| Ok(Box::new(Allow(between(typed)?))),
};

const LS: Verb = Verb {
    name: "ls",
    aliases: &["list"],
    about: "List what passes between containers of a network",
    more: "",
    arguments: &[NETWORK],
    options: &[FORMAT],
    examples: &[("rnsnet policy ls n1", "All rules.")],
    parse: |typed| {
        let format = typed.read("--format", |text| Ok(Format::parse(text)?))?;
        let network = typed.argument(0).unwrap_or_default().to_owned();
        Ok(Box::new(Ls { network, format: format.unwrap_or(Format::Table) }))
    },
};

const RM: Verb = Verb {
    name: "rm",
    aliases: &["remove"],
    about: "Take a rule back",
    more: "What it let through stops at once.",
    arguments: &[NETWORK, FROM, TO, RULE],
    options: &[],
    examples: &[("rnsnet policy rm n1 app db tcp:5432", "As it was allowed.")],
    parse: |typed| Ok(Box::new(Rm(between(typed)?))),
};

/// A rule with the network that it is for.
#[derive(Debug)]
struct Rule {
    network: String,
    between: (String, String, String),
}

#[derive(Debug)]
struct Allow(Rule);

#[derive(Debug)]
struct Rm(Rule);

#[derive(Debug)]
struct Ls {
    network: String,
    format: Format,
}

fn between(typed: &Typed) -> Result<Rule, UsageError> {
    let word = |index| typed.argument(index).unwrap_or_default();
    let name = |text: &str| alias(text).map(|name| name.to_string());
    let pass = |text: &str| {
        let pass: Pass = text.parse().map_err(|_| ValueError::Expected(EXPECTED))?;
        Ok(pass.to_string())
    };
    let from = Input::new("FROM", word(1)).read(name)?;
    let to = Input::new("TO", word(2)).read(name)?;
    let pass = Input::new("RULE", word(3)).read(pass)?;
    Ok(Rule { network: word(0).to_owned(), between: (from, to, pass) })
}

impl Action for Allow {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let Rule { network, between } = self.0;
        network::update(&network, |network| {
            if !network.isolate {
                return Err(NetworkError::NotIsolated { name: network.name.clone() });
            }
            if !network.between.contains(&between) {
                network.between.push(between);
            }
            Ok(())
        })?;
        Ok(0)
    }
}

impl Action for Rm {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let Rule { network, between } = self.0;
        network::update(&network, |network| {
            let Some(place) = network.between.iter().position(|other| *other == between) else {
                let (from, to, pass) = &between;
                let rule = format!("{from} {to} {pass}");
                return Err(NetworkError::NoRule { rule, name: network.name.clone() });
            };
            network.between.remove(place);
            Ok(())
        })?;
        Ok(0)
    }
}

impl Action for Ls {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let network = Store::of_user().and_then(|store| store.find(&self.network));
        let network = network.map_err(NetworkError::from)?;
        let row = |(from, to, pass): &(String, String, String)| {
            let text = |text: &String| Value::Text(text.clone());
            Value::Struct(vec![("From", text(from)), ("To", text(to)), ("Rule", text(pass))])
        };
        let rows: Vec<Value> = network.between.iter().map(row).collect();
        output::print(&self.format.list(&rows, &COLUMNS, COLUMNS.len())?)?;
        Ok(0)
    }
}

const COLUMNS: [Column; 3] = [("From", "FROM"), ("To", "TO"), ("Rule", "RULE")];

const EXPECTED: &str = "tcp:PORT[-END], udp:PORT[-END], tcp, udp or icmp";
