//! `rnsnet network connect` and `disconnect`.

use super::super::{Action, Argument, Count, Typed, Verb};
use super::NETWORKS;
use super::create::list;
use crate::cli::UsageError;
use crate::cli::egress::egress;
use crate::cli::join::{self, alias, priority};
use crate::cli::options::{ALLOW, DENY, EGRESS, Kind, OptionSpec, VERB};
use crate::cli::values::{self, Input, ValueError};
use crate::config::{Join, LinkLocal, Rate, Target};
use crate::error::Error;
use crate::session::named::{self, Guest};

/// The container that a verb is about.
const CTR: Argument = Argument {
    name: "CTR",
    count: Count::One,
    help: "The name or id of a container that is attached, a pid, or the path of a network \
           namespace.",
};

pub(super) const CONNECT: Verb = Verb {
    name: "connect",
    aliases: &[],
    about: "Connect a running container to a network",
    more: "The container gets one more interface. What it has open stays open. What it may reach \
           outside is the same by every network, unless --egress, --allow or --deny say otherwise.",
    arguments: &[Argument { count: Count::One, ..NETWORKS }, CTR],
    options: &[
        OptionSpec {
            long: "--alias",
            kind: Kind::List("NAME"),
            help: "Another name of the container on this network.",
            ..VERB
        },
        OptionSpec {
            long: "--ip",
            kind: Kind::Value("ADDRESS"),
            help: "Its IPv4 address there.",
            ..VERB
        },
        OptionSpec {
            long: "--ip6",
            kind: Kind::Value("ADDRESS"),
            help: "Its IPv6 address there.",
            ..VERB
        },
        OptionSpec {
            long: "--mac-address",
            kind: Kind::Value("MAC"),
            help: "Its hardware address there; --mac is the same.",
            ..VERB
        },
        OptionSpec { long: "--mac", kind: Kind::Value("MAC"), help: "As --mac-address.", ..VERB },
        OptionSpec {
            long: "--ifname",
            kind: Kind::Value("NAME"),
            help: "The name of its interface.",
            ..VERB
        },
        OptionSpec {
            long: "--gw-priority",
            kind: Kind::Value("NUMBER"),
            help: "From -1000 to 1000: the network with the highest has the container's default \
                   route (default: 0).",
            ..VERB
        },
        OptionSpec { group: VERB.group, ..EGRESS },
        OptionSpec { group: VERB.group, ..ALLOW },
        OptionSpec { group: VERB.group, ..DENY },
        OptionSpec { long: "--rate", kind: Kind::Value("RATE"), help: Rate::HELP, ..VERB },
        OptionSpec {
            long: "--link",
            kind: Kind::List("CTR:ALIAS"),
            help: "What it alone calls another container of the network.",
            ..VERB
        },
        OptionSpec {
            long: "--name",
            kind: Kind::Value("NAME"),
            help: "What it is called there, if it is not attached anywhere yet.",
            ..VERB
        },
        OptionSpec {
            long: "--link-local-ip",
            kind: Kind::List("ADDRESS"),
            help: "An address besides, of 169.254.0.0/16 or fe80::/10; one of each family.",
            ..VERB
        },
        OptionSpec {
            long: "--driver-opt",
            kind: Kind::List("KEY=VALUE"),
            help: "Refused: a connection has no options of a driver.",
            ..VERB
        },
    ],
    examples: &[
        ("rnsnet network connect n2 web", "A container that is on another network already."),
        ("rnsnet network connect --ip 192.168.100.10 --alias w my-net 4711", "By its pid."),
    ],
    parse: parse_connect,
};

pub(super) const DISCONNECT: Verb = Verb {
    name: "disconnect",
    aliases: &[],
    about: "Disconnect a running container from a network",
    more: "Its interface and published ports on that network go; the others stay.",
    arguments: &[Argument { count: Count::One, ..NETWORKS }, CTR],
    options: &[OptionSpec {
        long: "--force",
        short: Some('f'),
        help: "That it is not connected is no error.",
        ..VERB
    }],
    examples: &[("rnsnet network disconnect n2 web", "As it says.")],
    parse: |typed| {
        Ok(Box::new(Disconnect {
            network: typed.argument(0).unwrap_or_default().to_owned(),
            guest: guest(typed)?,
            force: typed.switch("--force"),
        }))
    },
};

#[derive(Debug)]
struct Connect {
    join: Join,
    guest: Guest,
    name: Option<String>,
    links: Vec<(String, String)>,
}

#[derive(Debug)]
struct Disconnect {
    network: String,
    guest: Guest,
    force: bool,
}

/// The second argument: a number is a pid, what has a slash is a path, anything else a name or an
/// id, as is a number that is too large for a pid.
fn guest(typed: &Typed) -> Result<Guest, UsageError> {
    let word = typed.argument(1).unwrap_or_default();
    let typed = Input::new("CTR", word);
    let is_pid = || word.parse().is_ok_and(|number: u32| number <= values::MAX_PID);
    Ok(if word.is_empty() {
        return Err(typed.refuse(ValueError::Empty));
    } else if values::is_digits(word) && is_pid() {
        Guest::At(Target::Pid(typed.read(values::pid)?))
    } else if word.contains('/') {
        Guest::At(Target::Path { netns: typed.read(values::path)?, userns: None })
    } else {
        Guest::Named(word.to_owned())
    })
}

fn parse_connect(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    if let Some(text) = typed.value("--driver-opt") {
        let why = ValueError::Refused("a connection has no options of a driver");
        return Err(Input::new("--driver-opt", text).refuse(why));
    }
    let mut link_local = LinkLocal::default();
    list(typed, "--link-local-ip", |text| join::link_local(&mut link_local, text))?;
    let macs = (typed.read("--mac-address", values::mac)?, typed.read("--mac", values::mac)?);
    if let (Some(_), Some(_)) = macs {
        return Err(UsageError::Repeated { option: "--mac" });
    }
    let is_given = [EGRESS, ALLOW, DENY].iter().any(|option| typed.switch(option.long));
    let join = Join {
        link_local,
        network: typed.argument(0).unwrap_or_default().to_owned(),
        aliases: list(typed, "--alias", alias)?,
        v4: typed.read("--ip", |text| text.parse().map_err(|_| ValueError::NotIpv4))?,
        v6: typed.read("--ip6", |text| text.parse().map_err(|_| ValueError::NotIpv6))?,
        mac: macs.0.or(macs.1),
        ifname: typed.read("--ifname", values::ifname)?,
        priority: typed.read("--gw-priority", priority)?.unwrap_or_default(),
        rate: typed.read("--rate", values::rate)?.unwrap_or_default(),
        egress: is_given.then(|| egress(&typed.words)).transpose()?,
    };
    let links = list(typed, "--link", |text| {
        let (name, link) = text.split_once(':').unwrap_or((text, text));
        alias(name)?;
        alias(link)?;
        Ok((link.to_owned(), name.to_owned()))
    })?;
    let name = typed.read("--name", values::container_name)?;
    Ok(Box::new(Connect { join, guest: guest(typed)?, name, links }))
}

impl Action for Connect {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        named::connect(&self.join, &self.guest, self.name, self.links)?;
        Ok(0)
    }
}

impl Action for Disconnect {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        named::disconnect(&self.network, &self.guest, self.force)?;
        Ok(0)
    }
}
