//! `rnsnet dns ls`, `add` and `rm`: names with fixed addresses on a named network. What containers
//! look up is in [`super::instances::dns_log`].

use std::net::IpAddr;

use super::instances::dns_log::LOG;
use super::{Action, Argument, Count, Group, Typed, Verb};
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values::{Input, ValueError};
use crate::error::Error;
use crate::network::definition::record;
use crate::network::manage::NetworkError;
use crate::network::store::Store;
use crate::output::{self, Column, Format, Value};
use crate::session::network;

/// The verbs, in the order of the help.
pub(super) const DNS: Group = Group {
    name: "dns",
    aliases: &[],
    about: "Manage fixed names on a named network, and list what containers look up",
    verbs: &[&LS, &ADD, &RM, &LOG],
};

/// The network that a verb is about.
pub(super) const NETWORK: Argument =
    Argument { name: "NETWORK", count: Count::One, help: "Name, id, or the start of an id." };

const NAME: Argument = Argument {
    name: "NAME",
    count: Count::One,
    help: "A name, as printer or db.corp.test; *.apps is every name below apps.",
};

const LS: Verb = Verb {
    name: "ls",
    aliases: &["list"],
    about: "List a network's fixed names",
    more: "",
    arguments: &[NETWORK],
    options: &[FORMAT],
    examples: &[("rnsnet dns ls n1", "All of them.")],
    parse: |typed| {
        let format = typed.read("--format", |text| Ok(Format::parse(text)?))?;
        let network = typed.argument(0).unwrap_or_default().to_owned();
        Ok(Box::new(Ls { network, format: format.unwrap_or(Format::Table) }))
    },
};

/// How a list is printed.
pub(super) const FORMAT: OptionSpec = OptionSpec {
    long: "--format",
    kind: Kind::Value("FORMAT"),
    help: "json, or a template as '{{.Name}}'.",
    ..VERB
};

const ADD: Verb = Verb {
    name: "add",
    aliases: &[],
    about: "Give a name an address, for all containers of a network",
    more: "Containers see it at once; it is kept until it is removed. Names of containers come \
           first. A name may have several addresses.",
    arguments: &[
        NETWORK,
        NAME,
        Argument { name: "ADDRESS", count: Count::One, help: "IPv4 or IPv6." },
    ],
    options: &[],
    examples: &[
        ("rnsnet dns add n1 printer 192.0.2.9", "One name."),
        ("rnsnet dns add n1 '*.apps' 10.89.0.5", "x.apps, y.apps and so on."),
    ],
    parse: |typed| Ok(Box::new(Add(typed_record(typed)?))),
};

const RM: Verb = Verb {
    name: "rm",
    aliases: &["remove"],
    about: "Take a name's address back",
    more: "",
    arguments: &[
        NETWORK,
        NAME,
        Argument {
            name: "ADDRESS",
            count: Count::Optional,
            help: "Only this one; all of them unless given.",
        },
    ],
    options: &[],
    examples: &[("rnsnet dns rm n1 printer", "As it says.")],
    parse: |typed| Ok(Box::new(Rm(typed_record(typed)?))),
};

#[derive(Debug)]
struct Ls {
    network: String,
    format: Format,
}

/// A name on a network, as it was typed, with its address.
#[derive(Debug)]
struct Record {
    network: String,
    name: String,
    address: Option<IpAddr>,
}

#[derive(Debug)]
struct Add(Record);

#[derive(Debug)]
struct Rm(Record);

fn typed_record(typed: &Typed) -> Result<Record, UsageError> {
    let name = typed.argument(1).unwrap_or_default();
    let ip = |text: &str| text.parse().map_err(|_| ValueError::NotIp);
    let address = typed.argument(2).map(|text| Input::new("ADDRESS", text).read(ip));
    let address: Option<IpAddr> = address.transpose()?;
    let check = |text: &str| {
        let any = IpAddr::from([0, 0, 0, 0]);
        let host = record(text, address.unwrap_or(any)).map_err(ValueError::Name)?;
        Ok(if host.wildcard { format!("*.{}", host.name) } else { host.name.to_string() })
    };
    let name = Input::new("NAME", name).read(check)?;
    Ok(Record { network: typed.argument(0).unwrap_or_default().to_owned(), name, address })
}

impl Action for Ls {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let network = Store::of_user().and_then(|store| store.find(&self.network));
        let network = network.map_err(NetworkError::from)?;
        let row = |(name, address): &(String, IpAddr)| {
            let address = Value::Text(address.to_string());
            Value::Struct(vec![("Name", Value::Text(name.clone())), ("Address", address)])
        };
        let rows: Vec<Value> = network.records.iter().map(row).collect();
        output::print(&self.format.list(&rows, &COLUMNS, COLUMNS.len())?)?;
        Ok(0)
    }
}

impl Action for Add {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let Record { network, name, address } = self.0;
        network::update(&network, |network| {
            let new = address.map(|address| (name, address));
            let new = new.filter(|new| !network.records.contains(new));
            network.records.extend(new);
            Ok(())
        })?;
        Ok(0)
    }
}

impl Action for Rm {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let Record { network, name, address } = self.0;
        network::update(&network, |network| {
            let before = network.records.len();
            network.records.retain(|(other, at)| {
                *other != name || address.is_some_and(|address| address != *at)
            });
            if network.records.len() == before {
                let record =
                    address.map_or_else(|| name.clone(), |address| format!("{name} {address}"));
                return Err(NetworkError::NoRecord { record, name: network.name.clone() });
            }
            Ok(())
        })?;
        Ok(0)
    }
}

const COLUMNS: [Column; 2] = [("Name", "NAME"), ("Address", "ADDRESS")];
