//! The end: `detach`.

use serde_json::json;

use super::{Command, Context, Reply};
use crate::control::{Named, Refusal, Request};

pub(super) const COMMANDS: &[Command] = &[Command { name: "detach", run: detach }];

/// Takes a container's network away. A private network ends with its only container.
fn detach(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Named { container } = request.arguments()?;
    context.instance.find(container.as_deref())?;
    *context.end = true;
    Ok(Reply::Value(json!({})))
}
