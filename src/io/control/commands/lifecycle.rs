//! The end, `detach` and `quit`; and what the network is before that, `network` and `update`.

use serde_json::json;

use super::info::Nothing;
use super::members::apply_rates;
use super::{Command, Context, Reply, value};
use crate::control::{Kind, Named, Refusal, Request, Update};
use crate::io::HostResolvers;
use crate::network::definition::Definition;

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "detach", run: detach },
    Command { name: "quit", run: quit },
    Command { name: "update", run: update },
    Command { name: "network", run: network },
];

/// Takes a container's network away. A private network ends with its only container, a named one
/// loses it.
fn detach(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Named { container } = request.arguments()?;
    let port = context.instance.find(container.as_deref())?.port;
    match port {
        Some(port) if context.instance.is_shared() => {
            context.ports.detach(context.engine, port, context.now);
            context.forget(port);
        }
        _ => *context.end = true,
    }
    Ok(Reply::Value(json!({})))
}

/// Ends the process of a named network that nobody is on, and refuses where somebody is.
fn quit(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Nothing {} = request.arguments()?;
    let names: Vec<String> = context.instance.names().into_iter().map(|(_, name)| name).collect();
    let shared = context.instance.shared()?;
    shared.sweep();
    if shared.ipam.held() > 0 {
        let message = format!("it has active endpoints: {}", names.join(", "));
        return Err(Refusal::new(Kind::Conflict, message));
    }
    *context.end = true;
    Ok(Reply::Value(json!({})))
}

/// What a named network is.
fn network(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Nothing {} = request.arguments()?;
    Ok(value(&context.instance.shared()?.definition))
}

/// Takes over what can change while a named network is served: whom its DNS asks, the names that it
/// knows itself, what passes between containers and how fast, and what is only shown.
fn update(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Update { network } = request.arguments()?;
    let refuse = |message: String| Refusal::new(Kind::Arguments, message);
    network.check().map_err(|error| refuse(error.to_string()))?;
    let current = &mut context.instance.shared()?.definition;
    if network.id != current.id {
        return Err(refuse("it is about another network".to_owned()));
    }
    let Definition { labels, resolvers, records, between, rate, .. } = network;
    *current = Definition { labels, resolvers, records, between, rate, ..current.clone() };
    let (resolver, ways) = (current.resolver(), current.ways());
    let failed = |error: crate::io::ResolverError| Refusal::new(Kind::Failed, error.to_string());
    *context.resolvers = HostResolvers::of(&resolver).map_err(failed)?;
    context.engine.set_resolvers(context.resolvers.read(), context.now);
    context.engine.set_hosts(resolver.hosts);
    context.engine.set_between(ways);
    apply_rates(context);
    Ok(Reply::Value(json!({})))
}
