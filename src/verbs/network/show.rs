//! `rnsnet network ls`, `inspect` and `exists`.

use super::super::{Action, Argument, Count, Typed, Verb, complain};
use super::NETWORKS;
use super::filter::{self, Filter};
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::control::{self, Container};
use crate::error::Error;
use crate::network::builtin;
use crate::network::definition::Definition;
use crate::network::inspect::{Inspected, InspectedContainer, Listed, More};
use crate::network::manage::NetworkError;
use crate::network::store::{Store, StoreError};
use crate::output::{self, Column, Format, Template, TemplateError, Value};
use crate::session::network;

pub(super) const LS: Verb = Verb {
    name: "ls",
    aliases: &["list"],
    about: "List the networks",
    more: "",
    arguments: &[],
    options: &[
        OptionSpec {
            long: "--filter",
            short: Some('f'),
            kind: Kind::List("KEY=VALUE"),
            help: "Only those: dangling=true (nobody is on it), driver=, id=, name=, scope=, type=, \
                   label= or until=.",
            ..VERB
        },
        OptionSpec {
            long: "--format",
            kind: Kind::Value("FORMAT"),
            help: "json, a template as '{{.Name}}', or a table of one's own as \
                   'table {{.ID}}\\t{{.Name}}'. Fields: .ID .Name .Driver .Scope .IPv4 .IPv6 \
                   .Internal .Labels .CreatedAt, and .Label \"KEY\".",
            ..VERB
        },
        OptionSpec { long: "--no-trunc", help: "Whole ids.", ..VERB },
        OptionSpec { long: "--quiet", short: Some('q'), help: "Ids only.", ..VERB },
    ],
    examples: &[
        ("rnsnet network ls", "All of them."),
        ("rnsnet network ls -q --filter label=tier=front", "The ids of some."),
        ("rnsnet network ls --format '{{.ID}}:{{.Driver}}'", "A line for each."),
    ],
    parse: parse_ls,
};

pub(super) const INSPECT: Verb = Verb {
    name: "inspect",
    aliases: &[],
    about: "Show all that is known of networks",
    more: "",
    arguments: &[NETWORKS],
    options: &[
        OptionSpec {
            long: "--format",
            short: Some('f'),
            kind: Kind::Value("TEMPLATE"),
            help: "What to print of each, as '{{.IPAM.Config}}' or '{{json .Labels}}'; json for \
                   one line each.",
            ..VERB
        },
        OptionSpec {
            long: "--verbose",
            short: Some('v'),
            help: "Also what Docker has no word for: .Group, .Resolvers, .Records, .Between, .Routes and \
                   .Rate.",
            ..VERB
        },
    ],
    examples: &[
        ("rnsnet network inspect n1", "JSON."),
        ("rnsnet network inspect -f {{.IPAM.Config}} n1", "Its subnets."),
    ],
    parse: parse_inspect,
};

pub(super) const EXISTS: Verb = Verb {
    name: "exists",
    aliases: &[],
    about: "Tell by the exit code whether a network exists",
    more: "The exit code is 0 if it exists and 1 if not. Nothing is printed.",
    arguments: &[Argument { count: Count::One, ..NETWORKS }],
    options: &[],
    examples: &[("rnsnet network exists n1", "For scripts.")],
    parse: |typed| {
        Ok(Box::new(Exists { network: typed.argument(0).unwrap_or_default().to_owned() }))
    },
};

#[derive(Debug)]
struct Ls {
    filters: Vec<Filter>,
    format: Format,
    whole_ids: bool,
}

#[derive(Debug)]
struct Inspect {
    networks: Vec<String>,
    format: Option<Template>,
    verbose: bool,
}

#[derive(Debug)]
struct Exists {
    network: String,
}

fn parse_ls(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let filters = super::create::list(typed, "--filter", |text| filter::read(text, false))?;
    let format = typed.read("--format", |text| Ok(Format::parse(text)?))?;
    let quiet = typed.switch("--quiet");
    if quiet && format.is_some() {
        return Err(UsageError::Conflict { option: "--quiet", other: "--format" });
    }
    let format = match format {
        _ if quiet => typed_by_us("{{.ID}}"),
        None => Format::Table,
        Some(format) => format,
    };
    Ok(Box::new(Ls { filters, format, whole_ids: typed.switch("--no-trunc") }))
}

/// A format of our own, which is right.
fn typed_by_us(text: &str) -> Format {
    Format::parse(text).unwrap_or(Format::Table)
}

fn parse_inspect(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let format = typed.read("--format", |text| {
        let text = if text == "json" { "{{json .}}" } else { text };
        Ok(Template::parse(text)?)
    })?;
    let verbose = typed.switch("--verbose");
    Ok(Box::new(Inspect { networks: typed.arguments().to_vec(), format, verbose }))
}

impl Action for Ls {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let networks = Store::of_user().and_then(|store| store.networks());
        let mut networks = networks.map_err(NetworkError::from)?;
        networks.good.extend(builtin::all().map(|network| (network.name.clone(), network)));
        let shown = networks.good.values().filter(|network| {
            // One that cannot be asked is in use.
            let in_use = || network::containers(&network.name).map_or(true, |all| !all.is_empty());
            filter::passes(&self.filters, network, &in_use)
        });
        let rows: Result<Vec<Value>, TemplateError> =
            shown.map(|network| row(network, self.whole_ids)).collect();
        output::print(&self.format.list(&rows?, &COLUMNS, 4)?)?;
        Ok(complain(networks.bad.into_iter().map(|error| NetworkError::from(error).into())))
    }
}

impl Action for Inspect {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let mut values = Vec::new();
        let mut errors: Vec<Error> = Vec::new();
        for word in &self.networks {
            let found = match network::look_up(word) {
                Err(Error::Network(NetworkError::Store(StoreError::Builtin { network }))) => {
                    on_builtin(&network.name).map(|containers| (*network, containers))
                }
                found => found.and_then(|(network, connection)| {
                    Ok((network, network::containers_of(connection)?))
                }),
            };
            match found {
                Ok((network, containers)) => {
                    let containers = containers.into_iter().map(container).collect();
                    let mut inspected = Inspected::new(&network, containers);
                    if let Some(overlay) = &network.overlay {
                        match overlay.read(&network) {
                            Ok(hosts) => inspected = inspected.with_peers(&hosts),
                            Err(error) => log::warn!("{}", error.told()),
                        }
                    }
                    let mut value = output::value_of(&inspected)?;
                    if self.verbose {
                        value = value.with(output::value_of(&More::of(&network))?);
                    }
                    values.push(value);
                }
                Err(error) => errors.push(error),
            }
        }
        match &self.format {
            None => output::print(&output::json_indented(&Value::List(values)))?,
            Some(template) => {
                for value in values {
                    output::print(&format!("{}\n", template.render(&value)?))?;
                }
            }
        }
        Ok(complain(errors))
    }
}

impl Action for Exists {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let found = Store::of_user().and_then(|store| store.find(&self.network));
        match found {
            Ok(_) | Err(StoreError::Builtin { .. }) => Ok(0),
            Err(StoreError::NoSuch { .. }) => Ok(1),
            Err(error) => Err(NetworkError::from(error).into()),
        }
    }
}

fn row(network: &Definition, whole_id: bool) -> Result<Value, TemplateError> {
    let mut row = output::value_of(&Listed::new(network, whole_id))?;
    if let Value::Struct(fields) = &mut row {
        fields.push(("Label", Value::Method(network.labels.clone())));
    }
    Ok(row)
}

/// The containers that a network stands for which nobody made: of `bridge` those that have one of
/// their own, of `none` those without.
fn on_builtin(name: &str) -> Result<Vec<Container>, Error> {
    let instances = crate::client::instances()?.into_iter();
    let own = instances.filter(|instance| instance.info.network == control::PRIVATE);
    let containers = own.flat_map(|instance| instance.info.containers);
    let is_there = |container: &Container| match name {
        builtin::BRIDGE => container.interface.is_some(),
        builtin::NONE => container.interface.is_none(),
        _ => false,
    };
    Ok(containers.filter(is_there).collect())
}

/// A container as an inspection shows it, by its id.
fn container(container: Container) -> (String, InspectedContainer) {
    let Some(interface) = container.interface else {
        let inspected = InspectedContainer {
            name: container.name,
            endpoint_id: container.id.clone(),
            ..InspectedContainer::default()
        };
        return (container.id, inspected);
    };
    let with_prefix = |address: String, length: u8| format!("{address}/{length}");
    let ipv6 = interface.ipv6.zip(interface.ipv6_prefix_len);
    let inspected = InspectedContainer {
        name: container.name,
        endpoint_id: container.id.clone(),
        mac_address: interface.mac,
        ipv4_address: with_prefix(interface.ipv4, interface.ipv4_prefix_len),
        ipv6_address: ipv6.map(|(ip, length)| with_prefix(ip, length)).unwrap_or_default(),
    };
    (container.id, inspected)
}

/// Every field of a line with its head, the table's own first.
const COLUMNS: [Column; 10] = [
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
    ("Label", "LABEL"),
];
