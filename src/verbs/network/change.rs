//! `rnsnet network rm`, `prune` and `update`.

use std::io::BufRead as _;
use std::net::IpAddr;

use super::super::{Action, Argument, Count, Typed, Verb, complain};
use super::NETWORKS;
use super::create::{ip, label, list};
use super::filter::{self, Filter};
use crate::cli::UsageError;
use crate::cli::dns::resolver_address;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values;
use crate::error::Error;
use crate::network::definition::Definition;
use crate::network::manage::{self, NetworkError};
use crate::network::store::{Store, StoreError};
use crate::output;
use crate::session::network;

pub(super) const RM: Verb = Verb {
    name: "rm",
    aliases: &["remove"],
    about: "Remove networks and print their names",
    more: "",
    arguments: &[NETWORKS],
    options: &[OptionSpec {
        long: "--force",
        short: Some('f'),
        help: "Disconnect the containers that it has; one that does not exist is no error.",
        ..VERB
    }],
    examples: &[("rnsnet network rm n1 n2", "Both, whatever becomes of the other.")],
    parse: |typed| {
        let networks = typed.arguments().to_vec();
        Ok(Box::new(Rm { networks, force: typed.switch("--force") }))
    },
};

pub(super) const PRUNE: Verb = Verb {
    name: "prune",
    aliases: &[],
    about: "Remove all networks that are not in use",
    more: "",
    arguments: &[],
    options: &[
        OptionSpec {
            long: "--filter",
            kind: Kind::List("KEY=VALUE"),
            help: "Only those: until=24h (older than that), label=KEY[=VALUE], label!=KEY.",
            ..VERB
        },
        OptionSpec { long: "--force", short: Some('f'), help: "Do not ask.", ..VERB },
    ],
    examples: &[
        ("rnsnet network prune", "Asks first."),
        ("rnsnet network prune -f --filter until=24h", "Those that are older than a day."),
    ],
    parse: |typed| {
        let filters = list(typed, "--filter", |text| filter::read(text, true))?;
        Ok(Box::new(Prune { filters, force: typed.switch("--force") }))
    },
};

pub(super) const UPDATE: Verb = Verb {
    name: "update",
    aliases: &[],
    about: "Change a network's labels, resolvers and rate",
    more: "Containers that are on it see the change at once. Its fixed names are changed by rnsnet \
           dns, what passes between its containers by rnsnet policy.",
    arguments: &[Argument { count: Count::One, ..NETWORKS }],
    options: &[
        OptionSpec {
            long: "--label",
            kind: Kind::List("KEY[=VALUE]"),
            help: "Adds or changes a label.",
            ..VERB
        },
        OptionSpec {
            long: "--label-rm",
            kind: Kind::List("KEY"),
            help: "Removes a label.",
            ..VERB
        },
        OptionSpec {
            long: "--dns-add",
            kind: Kind::List("ADDRESS"),
            help: "Adds a resolver for what is no container's name.",
            ..VERB
        },
        OptionSpec {
            long: "--dns-drop",
            kind: Kind::List("ADDRESS"),
            help: "Removes a resolver; after the last one the host's are asked.",
            ..VERB
        },
        OptionSpec {
            long: "--rate",
            kind: Kind::Value("RATE"),
            help: "How much each container may get and send each second that has no rate of its \
                   own: down=10mbit changes one direction, none takes a limit back; 8kbit to 1tbit. See \
                   rnsnet update for that of one container.",
            ..VERB
        },
    ],
    examples: &[
        ("rnsnet network update --dns-add 192.0.2.53 n1", "For what is no container's name."),
        ("rnsnet network update --rate down=100mbit n1", "Up they are as they were."),
    ],
    parse: parse_update,
};

pub(super) const START: Verb = Verb {
    name: "start",
    aliases: &[],
    about: "Start the process of a network",
    more: "Who attaches a container does that anyway, but others than the owner cannot: a network \
           that was made with --group is started so after the host was, and runs until it is \
           removed. Another ends when nobody comes.",
    arguments: &[NETWORKS],
    options: &[],
    examples: &[("rnsnet network start shared", "In a unit of systemd, as the owner.")],
    parse: |typed| Ok(Box::new(Start { networks: typed.arguments().to_vec() })),
};

#[derive(Debug)]
struct Start {
    networks: Vec<String>,
}

#[derive(Debug)]
struct Rm {
    networks: Vec<String>,
    force: bool,
}

#[derive(Debug)]
struct Prune {
    filters: Vec<Filter>,
    force: bool,
}

#[derive(Debug)]
struct Update {
    network: String,
    labels: Vec<(String, String)>,
    without: Vec<String>,
    add: Vec<IpAddr>,
    drop: Vec<IpAddr>,
    /// What is checked to be a change of a rate.
    rate: Option<String>,
}

fn parse_update(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let update = Update {
        network: typed.argument(0).unwrap_or_default().to_owned(),
        labels: list(typed, "--label", label)?,
        without: typed.values("--label-rm").map(str::to_owned).collect(),
        add: list(typed, "--dns-add", resolver_address)?,
        drop: list(typed, "--dns-drop", ip)?,
        rate: typed.read("--rate", |text| values::rate(text).map(|_| text.to_owned()))?,
    };
    let nothing = update.labels.is_empty()
        && update.without.is_empty()
        && update.add.is_empty()
        && update.drop.is_empty()
        && update.rate.is_none();
    if nothing { Err(UsageError::NothingToDo) } else { Ok(Box::new(update)) }
}

impl Update {
    fn apply(&self, network: &mut Definition) -> Result<(), NetworkError> {
        network.labels.extend(self.labels.iter().cloned());
        for key in &self.without {
            network.labels.remove(key);
        }
        for address in &self.drop {
            let place = network.resolvers.iter().position(|resolver| resolver == address);
            let Some(place) = place else {
                let (address, name) = (*address, network.name.clone());
                return Err(NetworkError::NoResolver { address, name });
            };
            network.resolvers.remove(place);
        }
        if let Some(rate) = &self.rate {
            network.rate.set(rate)?;
        }
        for address in &self.add {
            if !network.resolvers.contains(address) {
                network.resolvers.push(*address);
            }
        }
        Ok(())
    }
}

/// Whether there is no such network.
fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Network(NetworkError::Store(StoreError::NoSuch { .. })))
}

impl Action for Update {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let network = network::update(&self.network, |network| self.apply(network))?;
        output::print(&format!("{}\n", network.name))?;
        Ok(0)
    }
}

impl Action for Start {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        for word in &self.networks {
            network::ensure(word, &[])?;
        }
        Ok(0)
    }
}

impl Action for Rm {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let store = Store::of_user().map_err(NetworkError::from)?;
        let mut errors = Vec::new();
        for word in &self.networks {
            let removed = manage::remove(&store, word, |network| network::end(network, self.force));
            match removed {
                Ok(network) => output::print(&format!("{}\n", network.name))?,
                Err(error) if self.force && is_unknown(&error) => {}
                Err(error) => errors.push(error),
            }
        }
        Ok(complain(errors))
    }
}

impl Action for Prune {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        if !self.force {
            output::print(
                "WARNING! This will remove all networks not used by at least one container.\n\
                 Are you sure you want to continue? [y/N] ",
            )?;
            let mut answer = String::new();
            let read = std::io::stdin().lock().read_line(&mut answer);
            if read.is_err() || !matches!(answer.trim(), "y" | "Y" | "yes") {
                return Ok(0);
            }
        }
        let store = Store::of_user().map_err(NetworkError::from)?;
        let networks = store.networks().map_err(NetworkError::from)?;
        let bad = networks.bad.into_iter();
        let mut errors: Vec<Error> = bad.map(|error| NetworkError::from(error).into()).collect();
        let mut removed = String::new();
        for network in networks.good.into_values() {
            // One in use is not removed anyway.
            if !filter::passes(&self.filters, &network, &|| false) {
                continue;
            }
            match manage::remove(&store, &network.name, |network| network::end(network, false)) {
                Ok(network) => removed.push_str(&format!("{}\n", network.name)),
                Err(Error::Network(NetworkError::InUse { .. })) => {}
                // Somebody else was faster.
                Err(error) if is_unknown(&error) => {}
                Err(error) => errors.push(error),
            }
        }
        if !removed.is_empty() {
            output::print(&format!("Deleted Networks:\n{removed}\n"))?;
        }
        Ok(complain(errors))
    }
}
