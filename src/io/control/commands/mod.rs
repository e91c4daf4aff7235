//! The commands of the control socket. Each family has a file with its own table; adding a command
//! is a function and a line there.

mod capture;
pub(super) mod dns_log;
mod egress;
mod events;
mod flows;
mod info;
mod lifecycle;
mod log_level;
pub(super) mod members;
mod ports;

use std::os::fd::OwnedFd;

use serde::Serialize;
use serde_json::Value;

use super::{EventLog, Instance, Session};
use crate::control::{Kind, Refusal, Request};
use crate::engine::{Engine, Instant, PortId};
use crate::io::HostResolvers;
use crate::io::host::Sockets;
use crate::io::ports::Ports;
use crate::io::published::{Place, PublishedPorts};
use crate::sys::interfaces::Interfaces;

/// What a command may use.
pub(super) struct Context<'a> {
    pub(super) engine: &'a mut Engine,
    pub(super) sockets: &'a mut Sockets,
    pub(super) published: &'a mut PublishedPorts,
    pub(super) interfaces: Option<&'a mut Interfaces>,
    pub(super) ports: &'a mut Ports,
    pub(super) resolvers: &'a mut HostResolvers,
    pub(super) now: Instant,
    pub(super) instance: &'a mut Instance,
    pub(super) events: &'a mut EventLog,
    /// What this client has asked for that goes on.
    pub(super) session: &'a mut Session,
    /// The descriptors that came with the request.
    pub(super) fds: Vec<OwnedFd>,
    /// The user whose request it is, if that is another than ours.
    pub(super) stranger: Option<u32>,
    /// Whether another client may begin to read a stream.
    pub(super) may_stream: bool,
    /// Set to end the process.
    pub(super) end: &'a mut bool,
}

/// What a request is answered.
#[derive(Debug)]
pub(super) enum Reply {
    Value(Value),
    /// The same, and lines that follow at once; more come as they happen.
    Stream(Value, Vec<Value>),
}

/// One command.
struct Command {
    name: &'static str,
    run: fn(&mut Context<'_>, &Request) -> Result<Reply, Refusal>,
}

/// Every command, by family.
const COMMANDS: &[&[Command]] = &[
    info::COMMANDS,
    ports::COMMANDS,
    flows::COMMANDS,
    events::COMMANDS,
    capture::COMMANDS,
    lifecycle::COMMANDS,
    members::COMMANDS,
    egress::COMMANDS,
    log_level::COMMANDS,
    dns_log::COMMANDS,
];

impl Context<'_> {
    /// The container at a port is gone.
    fn forget(&mut self, port: PortId) {
        let mut place = Place { engine: self.engine, sockets: self.sockets };
        self.published.forget(port, &mut place);
        forget(self.instance, self.events, port);
    }

    /// Carries out a request.
    pub(super) fn run(&mut self, request: &Request) -> Result<Reply, Refusal> {
        let command = COMMANDS.iter().copied().flatten().find(|c| c.name == request.execute);
        let Some(command) = command else {
            let message = format!("there is no command {:?}", request.execute);
            return Err(Refusal::new(Kind::Command, message));
        };
        self.check_right(request)?;
        (command.run)(self, request)
    }

    /// Holds what another user asks against what a member of the network's group may: join, look
    /// around, and do with containers of its own what goes by their names.
    fn check_right(&mut self, request: &Request) -> Result<(), Refusal> {
        let Some(uid) = self.stranger else { return Ok(()) };
        let name = request.arguments.get("container").and_then(Value::as_str);
        let (may, whose) = match request.execute.as_str() {
            "version" | "info" | "network" | "events" | "lease" | "attach" => return Ok(()),
            "detach" | "ports" | "publish" | "unpublish" | "flows" | "stats" | "dns-log" => {
                match name {
                    Some(name) => (self.instance.find(Some(name))?.owner == Some(uid), "its owner"),
                    None => (false, "the network's owner"),
                }
            }
            _ => (false, "the network's owner"),
        };
        let of = name.map(|name| format!(" with {name}")).unwrap_or_default();
        let refuse = || format!("permission denied: {}{of} is for {whose}", request.execute);
        if may { Ok(()) } else { Err(Refusal::new(Kind::Denied, refuse())) }
    }

    /// Refuses a stream where too many are read already.
    fn check_stream(&self) -> Result<(), Refusal> {
        if self.may_stream || self.session.streams() {
            return Ok(());
        }
        Err(Refusal::new(Kind::Failed, "too many clients read a stream"))
    }
}

/// Takes note that the container at a port is gone, and tells of it.
pub(super) fn forget(instance: &mut Instance, events: &mut EventLog, port: PortId) {
    let Some(member) = instance.remove(port) else { return };
    let network = instance.network().to_owned();
    events.push("disconnect", &network, &member.facts.id, &member.facts.name, None);
}

/// Every command's name.
fn names() -> Vec<&'static str> {
    COMMANDS.iter().copied().flatten().map(|command| command.name).collect()
}

/// The JSON of a type of ours: names, numbers, text and lists, nothing that JSON cannot say.
pub(super) fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The answer of a command that returns this.
fn value(value: &impl Serialize) -> Reply {
    Reply::Value(to_value(value))
}
