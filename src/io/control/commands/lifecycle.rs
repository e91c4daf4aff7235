//! The end: `detach` and `quit`.

use serde_json::json;

use super::info::Nothing;
use super::{Command, Context, Reply};
use crate::control::{Kind, Named, Refusal, Request};

pub(super) const COMMANDS: &[Command] =
    &[Command { name: "detach", run: detach }, Command { name: "quit", run: quit }];

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
