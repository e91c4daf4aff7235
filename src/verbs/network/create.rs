//! `rnsnet network create`.

use std::net::IpAddr;

use super::super::{Action, Argument, Count, Typed, Verb};
use crate::cli::UsageError;
use crate::cli::dns::resolver_address;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values::{self, Input, ValueError};
use crate::error::Error;
use crate::network::builtin::OVERLAY;
use crate::network::definition::{Definition, Plan, Route};
use crate::network::manage;
use crate::network::options;
use crate::network::overlay::Wanted;
use crate::network::prefix::Prefix;
use crate::network::store::Store;
use crate::output;
use crate::session::network;

pub(super) const CREATE: Verb = Verb {
    name: "create",
    aliases: &[],
    about: "Make a network and print its id",
    more: "The network exists until it is removed, also over a restart of the host. A process \
           serves it while containers are attached.",
    arguments: &[Argument {
        name: "NETWORK",
        count: Count::One,
        help: "Its name: letters, digits, and from the second on '_', '.' and '-'.",
    }],
    options: OPTIONS,
    examples: &[
        ("rnsnet network create n1", "A free subnet is chosen."),
        (
            "rnsnet network create --subnet 192.168.100.0/24 --gateway 192.168.100.1 my-net",
            "With these addresses.",
        ),
        ("rnsnet network create --internal --ipv6 backend", "Nothing outside can be reached."),
    ],
    parse,
};

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        long: "--driver",
        short: Some('d'),
        kind: Kind::Value("DRIVER"),
        help: "The kind of network: bridge (the default), or overlay, which spans hosts.",
        ..VERB
    },
    OptionSpec {
        long: "--subnet",
        kind: Kind::List("PREFIX"),
        help: "The network's addresses, as in 10.5.0.0/24; one prefix of each family.",
        ..VERB
    },
    OptionSpec {
        long: "--gateway",
        kind: Kind::List("ADDRESS"),
        help: "The router's address in a subnet, which answers DNS too (default: the first).",
        ..VERB
    },
    OptionSpec {
        long: "--ip-range",
        kind: Kind::List("PREFIX"),
        help: "The part of a subnet that containers get their addresses from.",
        ..VERB
    },
    OptionSpec {
        long: "--aux-address",
        kind: Kind::List("NAME=ADDRESS"),
        help: "An address that no container gets.",
        ..VERB
    },
    OptionSpec {
        long: "--route",
        kind: Kind::List("PREFIX,GATEWAY[,METRIC]"),
        help: "A route that every container gets, by an address of the network.",
        ..VERB
    },
    OptionSpec {
        long: "--ipv6",
        help: "IPv6 too, with a unique local prefix unless --subnet gives one.",
        ..VERB
    },
    OptionSpec {
        long: "--internal",
        help: "Containers reach each other and nothing outside.",
        ..VERB
    },
    OptionSpec {
        long: "--opt",
        short: Some('o'),
        kind: Kind::List("KEY=VALUE"),
        help: "mtu (1280 to 65520), icc, isolate, host_binding, outbound_addr4, outbound_addr6, \
               outbound_if, metric (of the default route, up to 1000000), \
               no_default_route, or the name that Docker has for it; with overlay vni, local (this \
               host's address), port (4789), mode (l2) and store=file:PATH (the file that says \
               which host has which part of the subnet).",
        ..VERB
    },
    OptionSpec {
        long: "--rate",
        kind: Kind::Value("RATE"),
        help: "How much each container may get and send each second that has no rate of its own: \
               down=10mbit,up=5mbit, or one for both, from 8kbit to 1tbit.",
        ..VERB
    },
    OptionSpec {
        long: "--label",
        kind: Kind::List("KEY[=VALUE]"),
        help: "A note of one's own, to be filtered by.",
        ..VERB
    },
    OptionSpec {
        long: "--dns",
        kind: Kind::List("ADDRESS"),
        help: "A resolver for what is no container's name (default: the host's).",
        ..VERB
    },
    OptionSpec { long: "--disable-dns", help: "The gateway answers no DNS queries.", ..VERB },
    OptionSpec {
        long: "--ignore",
        help: "A network of that name that exists already is no error.",
        ..VERB
    },
    OptionSpec {
        long: "--attachable",
        help: "Shown by inspect; every network can be attached to.",
        ..VERB
    },
    OptionSpec {
        long: "--scope",
        kind: Kind::Value("SCOPE"),
        help: "local; global with overlay.",
        ..VERB
    },
    OptionSpec {
        long: "--ipam-driver",
        kind: Kind::Value("DRIVER"),
        help: "default or host-local: addresses are given here.",
        ..VERB
    },
    OptionSpec {
        long: "--ipam-opt",
        kind: Kind::List("KEY=VALUE"),
        help: "Refused: giving addresses has no options.",
        ..VERB
    },
    OptionSpec {
        long: "--group",
        kind: Kind::Value("GROUP"),
        help: "Members of this group, by name or number, may attach containers of their own, as \
               OWNER/NETWORK. Its process runs from now on.",
        ..VERB
    },
    OptionSpec { long: "--ingress", help: "Refused: it is a matter of Swarm.", ..VERB },
    OptionSpec { long: "--config-only", help: "Refused: it is a matter of Swarm.", ..VERB },
    OptionSpec {
        long: "--config-from",
        kind: Kind::Value("NETWORK"),
        help: "Refused: it is a matter of Swarm.",
        ..VERB
    },
];

#[derive(Debug)]
struct Create {
    driver: String,
    plan: Plan,
    group: Option<String>,
    ignore: bool,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    refuse(typed)?;
    let mut plan = Plan {
        name: typed.argument(0).unwrap_or_default().to_owned(),
        subnets: list(typed, "--subnet", prefix)?,
        gateways: list(typed, "--gateway", ip)?,
        ip_ranges: list(typed, "--ip-range", prefix)?,
        routes: list(typed, "--route", route)?,
        ipv6: typed.switch("--ipv6"),
        internal: typed.switch("--internal"),
        dns: !typed.switch("--disable-dns"),
        resolvers: list(typed, "--dns", resolver_address)?,
        attachable: typed.switch("--attachable"),
        rate: typed.read("--rate", values::rate)?.unwrap_or_default(),
        ..Plan::default()
    };
    if !plan.dns && !plan.resolvers.is_empty() {
        return Err(UsageError::Conflict { option: "--dns", other: "--disable-dns" });
    }
    for (name, address) in list(typed, "--aux-address", |text| {
        let (name, address) = text.split_once('=').ok_or(ValueError::Pair("NAME=ADDRESS"))?;
        Ok((name.to_owned(), ip(address)?))
    })? {
        if plan.aux.insert(name, address).is_some() {
            return Err(UsageError::Repeated { option: "--aux-address" });
        }
    }
    plan.labels = list(typed, "--label", label)?.into_iter().collect();
    let driver = typed.value("--driver").unwrap_or("bridge").to_owned();
    plan.overlay = (driver == OVERLAY).then(Wanted::default);
    for text in typed.values("--opt") {
        let apply = |text: &str| {
            // Docker's has no value.
            let pair = text.split_once('=');
            let pair = pair.or_else(|| (text == "encrypted").then_some((text, "")));
            let (key, value) = pair.ok_or(ValueError::Pair("KEY=VALUE"))?;
            Ok(options::apply(&mut plan, key, value)?)
        };
        Input::new("--opt", text).read(apply)?;
    }
    if let Some(wanted) = &plan.overlay {
        let input = Input::new("--driver", &driver);
        input.read(|_| Ok(wanted.complete(!plan.subnets.is_empty())?))?;
        if plan.isolate {
            let why =
                "containers of a network that spans hosts reach each other: not with icc=false";
            return Err(input.refuse(ValueError::Refused(why)));
        }
    }
    let group = typed.read("--group", |text| match text {
        "" => Err(ValueError::Empty),
        _ => Ok(text.to_owned()),
    })?;
    Ok(Box::new(Create { driver, plan, group, ignore: typed.switch("--ignore") }))
}

/// Refuses what Docker has for Swarm, and for drivers of its own.
fn refuse(typed: &Typed) -> Result<(), UsageError> {
    let refuse =
        |option, text: &str, why| Err(Input::new(option, text).refuse(ValueError::Refused(why)));
    let overlay = typed.value("--driver") == Some(OVERLAY);
    match typed.value("--scope") {
        None => {}
        Some("global") if overlay => {}
        Some("local") if !overlay => {}
        Some(scope) => {
            let why = "it is local, and global for those that span hosts (-d overlay)";
            return refuse("--scope", scope, why);
        }
    }
    match typed.value("--ipam-driver") {
        None | Some("default" | "host-local") => {}
        Some(driver) => {
            let why = "addresses are given here: default or host-local";
            return refuse("--ipam-driver", driver, why);
        }
    }
    if let Some(option) = typed.value("--ipam-opt") {
        return refuse("--ipam-opt", option, "giving addresses has no options");
    }
    for (option, given) in [
        ("--ingress", typed.switch("--ingress")),
        ("--config-only", typed.switch("--config-only")),
        ("--config-from", typed.switch("--config-from")),
    ] {
        if given {
            return Err(UsageError::NotHere { option, why: "it is a matter of Swarm" });
        }
    }
    Ok(())
}

/// Reads every value of an option that may be repeated.
pub(super) fn list<T>(
    typed: &Typed,
    option: &'static str,
    mut read: impl FnMut(&str) -> Result<T, ValueError>,
) -> Result<Vec<T>, UsageError> {
    typed.values(option).map(|text| Input::new(option, text).read(&mut read)).collect()
}

pub(super) fn ip(text: &str) -> Result<IpAddr, ValueError> {
    text.parse().map_err(|_| ValueError::NotIp)
}

/// A static route.
fn route(text: &str) -> Result<Route, ValueError> {
    let mut parts = text.split(',');
    let (Some(to), Some(gateway), metric, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ValueError::Pair("PREFIX,GATEWAY or PREFIX,GATEWAY,METRIC"));
    };
    let number = |text: &str| text.parse().map_err(|_| ValueError::Expected("a metric"));
    Ok((prefix(to)?, ip(gateway)?, metric.map(number).transpose()?))
}

fn prefix(text: &str) -> Result<Prefix, ValueError> {
    Ok(text.parse()?)
}

/// A label, whose value may be absent.
pub(super) fn label(text: &str) -> Result<(String, String), ValueError> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(ValueError::Pair("KEY or KEY=VALUE"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

impl Action for Create {
    fn run(mut self: Box<Self>) -> Result<u8, Error> {
        self.plan.group = self.group.as_deref().map(manage::group).transpose()?;
        let store = Store::of_user().map_err(manage::NetworkError::from)?;
        let created = manage::create(&store, &self.driver, self.plan, self.ignore)?;
        for (subnet, route) in created.hidden {
            log::warn!(
                "the host has a route to {route}: containers of {} will find themselves at \
                 {subnet}, and not what is there on the host's network",
                created.definition.name
            );
        }
        let Definition { id, group, .. } = &created.definition;
        if group.is_some()
            && let Err(error) = network::ensure(id, &[])
        {
            // One that nobody else can reach is not what was asked for.
            if created.is_new {
                manage::remove(&store, id, |_| Ok::<_, manage::NetworkError>(()))?;
            }
            return Err(error);
        }
        output::print(&format!("{id}\n"))?;
        Ok(0)
    }
}
