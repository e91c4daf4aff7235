//! Published ports: `ports`, `publish`, `unpublish`.

use super::super::instance::{Facts, mappings};
use super::{Command, Context, Reply, value};
use crate::cli::publish::{self, PublishDefaults};
use crate::config::{Bind, HostPorts, HostSide, Name, Publish};
use crate::control::{Kind, PortMapping, Ports, Refusal, Request, Spec, Whose};
use crate::engine::{Destination, PortId};
use crate::io::published::{Place, Rule};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "ports", run: ports },
    Command { name: "publish", run: add },
    Command { name: "unpublish", run: remove },
];

/// Most ports that are published on request, all in all: each is a descriptor.
const MAX_PORTS: usize = 4096;

fn ports(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let whose = request.arguments()?;
    // Clients of a name's ports come to each of its containers, too.
    let ports = match Of::read(context, whose)? {
        Of::Container { port: Some(port), .. } => {
            mappings(context.published.iter().filter(|rule| rule.leads_to(port)))
        }
        Of::Container { port: None, .. } => Vec::new(),
        of @ Of::Service(_) => mappings(context.published.iter().filter(|rule| of.has(rule))),
    };
    Ok(value(&Ports { ports }))
}

/// What ports are published for.
enum Of {
    /// One container.
    Container { port: Option<PortId>, id: String, name: String },
    /// Every container that has this name.
    Service(String),
}

impl Of {
    fn read(context: &mut Context<'_>, whose: Whose) -> Result<Self, Refusal> {
        match whose {
            Whose { container: Some(_), service: Some(_) } => {
                Err(Refusal::new(Kind::Arguments, "it is for a container or for a service"))
            }
            Whose { service: Some(service), .. } => {
                // Nobody could have any other.
                let name: Result<Name, _> = service.parse();
                let refuse = |error| format!("invalid service {service:?}: {error}");
                name.map_err(|error| Refusal::new(Kind::Arguments, refuse(error)))?;
                context.instance.shared()?;
                Ok(Self::Service(service))
            }
            Whose { container, .. } => {
                let member = context.instance.find(container.as_deref())?;
                let Facts { id, name, .. } = &member.facts;
                Ok(Self::Container { port: member.port, id: id.clone(), name: name.clone() })
            }
        }
    }

    /// Whether a rule was published for this.
    fn has(&self, rule: &Rule) -> bool {
        match (self, rule.service()) {
            (Self::Container { port: Some(port), .. }, None) => rule.leads_to(*port),
            (Self::Service(own), Some(service)) => own.eq_ignore_ascii_case(service),
            (Self::Container { .. }, _) | (Self::Service(_), None) => false,
        }
    }

    /// Keeps what is published now for another process.
    fn note(&self, context: &mut Context<'_>) {
        match self {
            Self::Container { port: Some(port), .. } => {
                context.instance.note_ports(*port, context.published);
            }
            Self::Container { port: None, .. } => {}
            Self::Service(service) => context.instance.note_service(service, context.published),
        }
    }

    /// An event for each port.
    fn tell(&self, context: &mut Context<'_>, action: &str, ports: &[PortMapping]) {
        let network = context.instance.network().to_owned();
        let (id, name) = match self {
            Self::Container { id, name, .. } => (id.as_str(), name.clone()),
            Self::Service(service) => ("", format!("@{network}/{service}")),
        };
        for port in ports {
            context.events.push(action, &network, id, &name, Some(port.clone()));
        }
    }
}

/// All ports of the specification are bound, or none.
fn add(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Spec { spec, container, service, bind } = request.arguments()?;
    let of = Of::read(context, Whose { container, service })?;
    let mut defaults = context.instance.publish_defaults();
    if defaults.bind.is_empty() {
        defaults.bind = bind;
    }
    let rule = read(&spec, &defaults)?;
    let v6 = context.instance.has_ipv6();
    let bound: usize = context.published.iter().map(|rule| rule.bound().count()).sum();
    if bound + 2 * rule.guest.iter().count() > MAX_PORTS {
        let message = format!("more than {MAX_PORTS} ports would be published");
        return Err(Refusal::new(Kind::Failed, message));
    }
    let to = match &of {
        Of::Container { port: Some(port), .. } => vec![*port],
        Of::Container { port: None, .. } => {
            return Err(Refusal::new(Kind::Failed, "the container has no interface"));
        }
        Of::Service(service) => context.instance.called(service),
    };
    let to: Vec<_> = to.into_iter().map(|port| Destination { port, address: None }).collect();
    let mut place = Place { engine: context.engine, sockets: context.sockets };
    let interfaces = context.interfaces.as_deref_mut();
    let published = context.published.publish(&[rule], &to, v6, interfaces, &mut place);
    let ids = published.map_err(|error| Refusal::new(error.kind(), error.with_cause()))?;
    for id in &ids {
        match &of {
            Of::Service(service) => context.published.set_service(*id, service),
            Of::Container { .. } => context.published.note(*id),
        }
    }
    of.note(context);
    let new = context.published.iter().filter(|rule| ids.contains(&rule.id()));
    let ports = mappings(new);
    of.tell(context, "publish", &ports);
    Ok(value(&Ports { ports }))
}

/// Connections that stand go on.
fn remove(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Spec { spec, container, service, .. } = request.arguments()?;
    let asked = read(&spec, &PublishDefaults::default())?;
    let of = Of::read(context, Whose { container, service })?;
    let rules = || context.published.iter().filter(|rule| of.has(rule));
    // As it was written, or else by the ports alone where it was bound by a default, or else by the
    // host's port.
    let found = rules()
        .find(|rule| *rule.publish() == asked)
        .or_else(|| rules().find(|rule| is_meant(&asked, rule.publish())))
        .or_else(|| rules().find(|rule| has_host_port(&asked, rule)));
    let Some(found) = found else {
        return Err(Refusal::new(Kind::NotFound, format!("{asked} is not published")));
    };
    let (id, ports) = (found.id(), mappings([found].into_iter()));
    let mut place = Place { engine: context.engine, sockets: context.sockets };
    context.published.unpublish(id, &mut place);
    of.note(context);
    of.tell(context, "unpublish", &ports);
    Ok(value(&Ports { ports }))
}

fn read(spec: &str, defaults: &PublishDefaults) -> Result<Publish, Refusal> {
    let refuse = |error| Refusal::new(Kind::Arguments, format!("invalid SPEC {spec:?}: {error}"));
    publish::parse(spec, defaults).map_err(refuse)
}

/// Whether what was asked for without an address is this rule, bound where a default says.
fn is_meant(asked: &Publish, rule: &Publish) -> bool {
    let ports = |publish: &Publish| -> Option<HostPorts> {
        match &publish.host {
            HostSide::Bound { ports, .. } => Some(*ports),
            HostSide::Inherited { .. } => None,
        }
    };
    let everywhere = matches!(&asked.host, HostSide::Bound { on: Bind::All, .. });
    everywhere
        && ports(asked) == ports(rule)
        && (asked.guest, asked.protocol, &asked.from) == (rule.guest, rule.protocol, &rule.from)
}

/// Whether a rule has one port, and the number that was asked for, alone, is what the host has it at.
fn has_host_port(asked: &Publish, rule: &Rule) -> bool {
    let free = HostSide::Bound { on: Bind::All, ports: HostPorts::Free };
    asked.host == free
        && asked.protocol == rule.publish().protocol
        && asked.guest.count() == 1
        && rule.publish().guest.count() == 1
        && rule.bound().any(|bound| bound.address.port() == asked.guest.first)
}
