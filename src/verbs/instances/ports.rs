//! `rnsnet port`, `publish` and `unpublish`.

use super::super::{Action, Argument, Count, Typed, Verb};
use super::print_line;
use crate::cli::publish::{self, PublishDefaults};
use crate::cli::values::{Input, ValueError, is_digits};
use crate::cli::{Environment, UsageError, join};
use crate::client::{self, ClientError, Connection};
use crate::control::{PortMapping, Ports, Spec, Whose};
use crate::error::Error;
use crate::network::definition::check_name;

/// Whose ports a verb is about.
const CTR: Argument = Argument {
    name: "CTR",
    count: Count::One,
    help: "The container: its name, a pid in it, its network namespace, its id or the beginning of it. @NETWORK/NAME is every \
           container that has this name or alias on a named network.",
};

pub(in crate::verbs) const PORT: Verb = Verb {
    name: "port",
    aliases: &[],
    about: "Show which ports of the host lead to a container",
    more: "",
    arguments: &[
        CTR,
        Argument {
            name: "PORT[/PROTO]",
            count: Count::Optional,
            help: "Only where this port of the container is published. PROTO is tcp unless given.",
        },
    ],
    options: &[],
    examples: &[
        ("rnsnet port web", "All of them: 80/tcp -> 0.0.0.0:8080."),
        ("rnsnet port web 53/udp", "The host's side of one, or exit code 1."),
    ],
    parse: |typed| {
        let only = typed.argument(1).map(|text| Input::new("PORT", text).read(port)).transpose()?;
        Ok(Box::new(Port { whose: whose(typed)?, only }))
    },
};

const SPEC: Argument = Argument {
    name: "SPEC",
    count: Count::One,
    help: "As after --publish: [ADDR:|IFACE/][HOST[-END]:]CTR[-END][/tcp|/udp][,from=CIDR].",
};

pub(in crate::verbs) const PUBLISH: Verb = Verb {
    name: "publish",
    aliases: &[],
    about: "Publish a port of a running container",
    more: "All ports of SPEC are published, or none, at the addresses of --default-bind or \
           $RNSNET_DEFAULT_BIND if SPEC names none. What was published is printed. Clients of \
           @NETWORK/NAME are led to one of its containers after the other; one that does not \
           answer the call is passed over, and containers may come and go for as long as somebody \
           is on the network.",
    arguments: &[CTR, SPEC],
    options: &[],
    examples: &[
        ("rnsnet publish web 8080:80", "Port 8080 of the host is port 80 of web from now on."),
        ("rnsnet publish web 127.0.0.1:5353:53/udp", "For this machine only."),
        ("rnsnet publish @n1/web 8080:80", "All containers that are called web on n1, in turns."),
    ],
    parse: |typed| Ok(Box::new(Publish { whose: whose(typed)?, spec: spec(typed)? })),
};

pub(in crate::verbs) const UNPUBLISH: Verb = Verb {
    name: "unpublish",
    aliases: &[],
    about: "Take a published port of a running container back",
    more: "SPEC is as it was published, or the port of the host alone. Connections that stand go on.",
    arguments: &[CTR, SPEC],
    options: &[],
    examples: &[
        ("rnsnet unpublish web 8080:80", "Port 8080 of the host is free again."),
        ("rnsnet unpublish web 5353/udp", "The same by the port of the host."),
    ],
    parse: |typed| Ok(Box::new(Unpublish { whose: whose(typed)?, spec: spec(typed)? })),
};

/// Whose ports are meant.
#[derive(Debug)]
enum Meant {
    Container(String),
    Service { network: String, service: String },
}

#[derive(Debug)]
struct Port {
    whose: Meant,
    /// The container's port and the protocol.
    only: Option<(u16, String)>,
}

#[derive(Debug)]
struct Publish {
    whose: Meant,
    spec: String,
}

#[derive(Debug)]
struct Unpublish {
    whose: Meant,
    spec: String,
}

fn whose(typed: &Typed) -> Result<Meant, UsageError> {
    let word = typed.argument(0).unwrap_or_default();
    let Some(name) = word.strip_prefix('@') else {
        return Ok(Meant::Container(word.to_owned()));
    };
    Input::new("CTR", word).read(|_| {
        let (network, service) =
            name.split_once('/').ok_or(ValueError::Expected("@NETWORK/NAME"))?;
        check_name(network)?;
        join::alias(service)?;
        Ok(Meant::Service { network: network.to_owned(), service: service.to_owned() })
    })
}

impl Meant {
    /// Who is to be asked about them, and how they are called there.
    fn ask(self) -> Result<(Connection, Whose), Error> {
        match self {
            Self::Container(name) => {
                let found = client::find(&name)?;
                let whose = Whose { container: found.named(), service: None };
                Ok((found.instance.connection, whose))
            }
            Self::Service { network, service } => {
                let whose = Whose { container: None, service: Some(service) };
                Ok((client::network(&network)?, whose))
            }
        }
    }
}

/// Reads `SPEC`, so that what is wrong with it is said without asking anybody.
fn spec(typed: &Typed) -> Result<String, UsageError> {
    let spec = typed.argument(1).unwrap_or_default().to_owned();
    match publish::parse(&spec, &PublishDefaults::default()) {
        Ok(_) => Ok(spec),
        Err(source) => Err(UsageError::PortRange { option: "SPEC", text: spec, source }),
    }
}

/// Reads `PORT[/PROTO]`.
pub(super) fn port(text: &str) -> Result<(u16, String), ValueError> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp") {
        return Err(ValueError::Expected("PORT, PORT/tcp or PORT/udp"));
    }
    if !is_digits(port) || port.is_empty() {
        return Err(ValueError::NotANumber);
    }
    let number = port.parse().ok().filter(|number| *number != 0);
    let number = number.ok_or(ValueError::OutOfRange { min: 1, max: 65535 })?;
    Ok((number, protocol.to_owned()))
}

impl Action for Port {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let (mut connection, whose) = self.whose.ask()?;
        let Ports { mut ports } = connection.ask("ports", &whose)?;
        if let Some((port, protocol)) = self.only {
            ports.retain(|p| p.guest_port == port && p.protocol == protocol);
            if ports.is_empty() {
                let name = whose.container.or(whose.service).unwrap_or_default();
                return Err(ClientError::NoPort { port: format!("{port}/{protocol}"), name }.into());
            }
            for port in &ports {
                print_line(&port.host_end())?;
            }
        } else {
            print_ports(&ports)?;
        }
        Ok(0)
    }
}

impl Action for Publish {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let (mut connection, Whose { container, service }) = self.whose.ask()?;
        let bind = Environment::of_this_process().bind()?;
        let spec = Spec { spec: self.spec, container, service, bind };
        let Ports { ports } = connection.ask("publish", &spec)?;
        print_ports(&ports)?;
        Ok(0)
    }
}

impl Action for Unpublish {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let (mut connection, Whose { container, service }) = self.whose.ask()?;
        let spec = Spec { spec: self.spec, container, service, bind: Vec::new() };
        let Ports { .. } = connection.ask("unpublish", &spec)?;
        Ok(0)
    }
}

/// As `docker port` does.
fn print_ports(ports: &[PortMapping]) -> Result<(), Error> {
    for port in ports {
        let line = format!("{}/{} -> {}", port.guest_port, port.protocol, port.host_end());
        print_line(&line)?;
    }
    Ok(())
}
