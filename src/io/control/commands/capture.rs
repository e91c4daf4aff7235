//! Frames for tcpdump: `capture`, with a pipe that the client sends.

use super::super::capture::ActiveCapture;
use super::super::exactly;
use super::{Command, Context, Reply, to_value};
use crate::control::{Capture, Kind, Refusal, Request, Streaming};

pub(super) const COMMANDS: &[Command] = &[Command { name: "capture", run: capture }];

/// The file goes into the pipe; an event on the connection says how it ended.
fn capture(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let asked: Capture = request.arguments()?;
    let [pipe] = exactly(std::mem::take(&mut context.fds), "capture")?;
    context.check_stream()?;
    if context.session.capture.is_some() {
        return Err(Refusal::new(Kind::Conflict, "this connection captures already"));
    }
    let port = match asked.container.as_deref() {
        Some(name) => context.instance.find(Some(name))?.port,
        None => None,
    };
    context.session.capture = Some(ActiveCapture::new(pipe, port, &asked)?);
    Ok(Reply::Stream(to_value(&Streaming { streaming: true }), Vec::new()))
}
