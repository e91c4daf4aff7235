//! Published ports: `ports`, `publish`, `unpublish`.

use super::super::instance::mappings;
use super::{Command, Context, Reply, value};
use crate::cli::publish::{self, PublishDefaults};
use crate::config::{Bind, HostPorts, HostSide, Publish};
use crate::control::{Kind, Named, PortMapping, Ports, Refusal, Request, Spec};
use crate::engine::Destination;
use crate::io::published::{Place, Rule};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "ports", run: ports },
    Command { name: "publish", run: add },
    Command { name: "unpublish", run: remove },
];

/// Most ports that are published on request, all in all: each is a descriptor.
const MAX_PORTS: usize = 4096;

fn ports(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Named { container } = request.arguments()?;
    let member = context.instance.find(container.as_deref())?;
    Ok(value(&Ports { ports: member.ports(context.published) }))
}

/// All ports of the specification are bound, or none.
fn add(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Spec { spec, container } = request.arguments()?;
    let rule = read(&spec, &context.instance.publish_defaults())?;
    let v6 = context.instance.has_ipv6();
    let bound: usize = context.published.iter().map(|rule| rule.bound().count()).sum();
    if bound + 2 * rule.guest.iter().count() > MAX_PORTS {
        let message = format!("more than {MAX_PORTS} ports would be published");
        return Err(Refusal::new(Kind::Failed, message));
    }
    let Some(port) = context.instance.find(container.as_deref())?.port else {
        return Err(Refusal::new(Kind::Failed, "the container has no interface"));
    };
    let to = Destination { port, address: None };
    let mut place = Place { engine: context.engine, sockets: context.sockets };
    let interfaces = context.interfaces.as_deref_mut();
    let published = context.published.publish(&[rule], &[to], v6, interfaces, &mut place);
    let ids = published.map_err(|error| {
        let kind = if error.is_taken() { Kind::Conflict } else { Kind::Failed };
        Refusal::new(kind, error.with_cause())
    })?;
    let new = context.published.iter().filter(|rule| ids.contains(&rule.id()));
    let ports = mappings(new);
    tell(context, "publish", container.as_deref(), &ports)?;
    Ok(value(&Ports { ports }))
}

/// Connections that stand go on.
fn remove(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Spec { spec, container } = request.arguments()?;
    let asked = read(&spec, &PublishDefaults::default())?;
    let port = context.instance.find(container.as_deref())?.port;
    let of_container = |rule: &&Rule| port.is_some_and(|port| rule.leads_to(port));
    let rules = || context.published.iter().filter(of_container);
    // As it was written, or else by the ports alone where it was bound by a default.
    let exact = rules().find(|rule| *rule.publish() == asked);
    let Some(found) = exact.or_else(|| rules().find(|rule| is_meant(&asked, rule.publish())))
    else {
        return Err(Refusal::new(Kind::NotFound, format!("{asked} is not published")));
    };
    let (id, ports) = (found.id(), mappings([found].into_iter()));
    let mut place = Place { engine: context.engine, sockets: context.sockets };
    context.published.unpublish(id, &mut place);
    tell(context, "unpublish", container.as_deref(), &ports)?;
    Ok(value(&Ports { ports }))
}

/// An event for each port.
fn tell(
    context: &mut Context<'_>,
    action: &str,
    container: Option<&str>,
    ports: &[PortMapping],
) -> Result<(), Refusal> {
    let network = context.instance.network().to_owned();
    let facts = &context.instance.find(container)?.facts;
    for port in ports {
        context.events.push(action, &network, &facts.id, &facts.name, Some(port.clone()));
    }
    Ok(())
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
