//! What happens: `events`.

use super::{Command, Context, Reply, to_value};
use crate::control::{Refusal, Request, Since, Streaming};

pub(super) const COMMANDS: &[Command] = &[Command { name: "events", run: events }];

fn events(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Since { since_ms } = request.arguments()?;
    context.check_stream()?;
    let past = match since_ms {
        Some(since) => context.events.since(since).map(to_value).collect(),
        None => Vec::new(),
    };
    context.session.events = true;
    Ok(Reply::Stream(to_value(&Streaming { streaming: true }), past))
}
