//! `rnsnet link-env`: the environment that Docker's `--link` gave a container.

use super::super::{Action, Argument, Count, Typed, Verb};
use super::ports::port;
use super::print_line;
use crate::cli::UsageError;
use crate::cli::join;
use crate::cli::values::{Input, ValueError};
use crate::client::{self, ClientError};
use crate::error::Error;
use crate::sorted::SortedSet;

pub(in crate::verbs) const LINK_ENV: Verb = Verb {
    name: "link-env",
    aliases: &[],
    about: "Print the variables that Docker's --link sets for a container",
    more: "Names and ports of the network do the same without them. Docker takes the ports that \
           an image exposes; here they are the published ones and those that are given.",
    arguments: &[
        Argument {
            name: "CTR:ALIAS",
            count: Count::One,
            help: "The container that is linked to, and what it is called there.",
        },
        Argument {
            name: "PORT[/PROTO]",
            count: Count::Any,
            help: "A port of it that is to be named. PROTO is tcp unless given.",
        },
    ],
    options: &[],
    examples: &[("rnsnet link-env db:d 5432", "D_PORT_5432_TCP_ADDR=10.89.0.2 and so on.")],
    parse,
};

#[derive(Debug)]
struct LinkEnv {
    container: String,
    alias: String,
    ports: SortedSet<(u16, String)>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let word = typed.argument(0).unwrap_or_default();
    let (container, alias) = word.split_once(':').unwrap_or((word, word));
    Input::new("CTR:ALIAS", word).read(|_| match container {
        "" => Err(ValueError::Empty),
        _ => join::alias(alias),
    })?;
    let ports = typed.arguments().iter().skip(1);
    let ports: Result<_, UsageError> =
        ports.map(|text| Input::new("PORT", text).read(port)).collect();
    Ok(Box::new(LinkEnv {
        container: container.to_owned(),
        alias: alias.to_owned(),
        ports: ports?,
    }))
}

impl Action for LinkEnv {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let Self { container: name, alias, mut ports } = *self;
        let found = client::find(&name)?.container;
        for mapping in found.ports {
            ports.insert((mapping.guest_port, mapping.protocol));
        }
        let Some(interface) = found.interface else {
            return Err(ClientError::NoInterface { name }.into());
        };
        let Some((first, protocol)) = ports.iter().next() else {
            return Err(ClientError::NothingPublished { name }.into());
        };
        let address = interface.ipv4;
        // Docker's rule for what a variable cannot be called.
        let known = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let alias: String = alias.chars().map(known).collect();
        print_line(&format!("{alias}_PORT={protocol}://{address}:{first}"))?;
        for (port, protocol) in ports.iter() {
            let start = format!("{alias}_PORT_{port}_{}", protocol.to_ascii_uppercase());
            print_line(&format!("{start}={protocol}://{address}:{port}"))?;
            print_line(&format!("{start}_ADDR={address}"))?;
            print_line(&format!("{start}_PORT={port}"))?;
            print_line(&format!("{start}_PROTO={protocol}"))?;
        }
        Ok(0)
    }
}
