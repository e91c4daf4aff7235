//! The words of the control socket: requests and answers as lines of JSON. Pure.
//!
//! Both ends use this: the process of a network (`io::control`) and the verbs that ask it
//! ([`crate::client`]). docs/control-socket.md describes the protocol with an example of every
//! command. Types are strict: an unknown field, a wrong type or another version is refused.

pub mod filter;
mod members;
mod types;

use std::io;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub use members::{Arrival, Leased, SetRate, Update, Wanted};
pub use types::{
    Capture, CaptureEnd, Container, Denied, DnsLog, EgressChange, EgressHits, EgressPolicy, Event,
    Flow, Info, Interface, Lookup, Named, PortMapping, Ports, SetLogLevel, Since, Spec, Stats,
    Streaming, Whose,
};

/// What the network of one container is called, which it has for itself.
pub const PRIVATE: &str = "default";
/// The version of the protocol, in every request.
pub const VERSION: u64 = 1;
/// A request is shorter than this with its line break, in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;

/// Whether an id is a container's whole one, as engines give them: 64 hex digits.
#[must_use]
pub fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Which of a network's containers, each by its name and id, a word means: the one that is called
/// so, or else the only one whose id begins so.
///
/// # Errors
/// How many it may mean.
pub fn meant(word: &str, containers: &[(&str, &str)]) -> Result<usize, usize> {
    if let Some(place) = containers.iter().position(|(name, id)| *name == word || *id == word) {
        return Ok(place);
    }
    let begins = |(_, id): &(&str, &str)| !word.is_empty() && id.starts_with(word);
    let count = containers.iter().filter(|container| begins(container)).count();
    containers.iter().position(begins).filter(|_| count == 1).ok_or(count)
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The command.
    pub execute: String,
    /// What it is asked with.
    pub arguments: Map<String, Value>,
}

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Refusal {
    /// What sort of reason.
    pub kind: Kind,
    /// The reason, for a person.
    pub message: String,
}

/// What helps where somebody has a port that is to be published.
pub const PORT_TAKEN: &str = "another program listens there: `ss -ltunp` shows which";

/// What helps where a port cannot be bound.
#[must_use]
pub fn bind_hint(reason: io::ErrorKind) -> Option<&'static str> {
    match reason {
        io::ErrorKind::PermissionDenied => Some(
            "ports below net.ipv4.ip_unprivileged_port_start (1024) need root: publish a higher \
             port, lower the limit with sysctl, or start rnsnet with the socket handed in (fd:N:)",
        ),
        io::ErrorKind::AddrInUse => Some(PORT_TAKEN),
        io::ErrorKind::AddrNotAvailable => Some(
            "the host has no such address: `ip addr` lists those it has; rnsnet that is started \
             with --freebind waits for it",
        ),
        _ => None,
    }
}

/// What sort of reason there is for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Not a request at all: not JSON, no object, too long.
    Syntax,
    /// Another version of the protocol.
    Version,
    /// A command that does not exist.
    Command,
    /// Arguments of the wrong name, type or meaning.
    Arguments,
    /// There is no such container or rule.
    NotFound,
    /// It is there already, or in the way of something else.
    Conflict,
    /// It is another user's.
    Denied,
    /// The system refused.
    Failed,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Version => "version",
            Self::Command => "command",
            Self::Arguments => "arguments",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl Request {
    /// Reads one line, without its line break.
    ///
    /// # Errors
    /// What is no request of this version.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let syntax = |message: &str| Refusal::new(Kind::Syntax, message);
        let value = serde_json::from_slice(line)
            .map_err(|error| syntax(&format!("not one line of JSON: {error}")))?;
        let Value::Object(mut object) = value else {
            return Err(syntax("a request is an object"));
        };
        match object.remove("version") {
            Some(version) if version == json!(VERSION) => {}
            Some(version) => {
                let message = format!("version {version} is not spoken here: only {VERSION} is");
                return Err(Refusal::new(Kind::Version, message));
            }
            None => return Err(syntax("version is missing")),
        }
        let Some(Value::String(execute)) = object.remove("execute") else {
            return Err(syntax("execute is missing or no string"));
        };
        let arguments = match object.remove("arguments") {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => return Err(syntax("arguments is no object")),
        };
        match object.keys().next() {
            Some(name) => Err(syntax(&format!("unknown field {name:?}"))),
            None => Ok(Self { execute, arguments }),
        }
    }

    /// The line that asks for this, with its line break.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let Self { execute, arguments } = self;
        line(&json!({"version": VERSION, "execute": execute, "arguments": arguments}))
    }

    /// The arguments as what their command takes.
    ///
    /// # Errors
    /// Fields that are missing, unknown or of another type.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let refuse = |error| Refusal::new(Kind::Arguments, format!("{}: {error}", self.execute));
        serde_json::from_value(Value::Object(self.arguments.clone())).map_err(refuse)
    }
}

/// Takes the first whole line off what has been received, without its line break.
pub fn take_line(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = received.iter().position(|byte| *byte == b'\n')?;
    let mut line: Vec<u8> = received.drain(..=end).collect();
    line.pop();
    Some(line)
}

/// The line that answers a request, with its line break.
#[must_use]
pub fn answer(result: &Result<Value, Refusal>) -> Vec<u8> {
    match result {
        Ok(value) => line(&json!({"return": value})),
        Err(Refusal { kind, message }) => {
            line(&json!({"error": {"kind": kind.as_str(), "message": message}}))
        }
    }
}

/// A line of a stream, with its line break.
#[must_use]
pub fn event(event: &Value) -> Vec<u8> {
    line(&json!({"event": event}))
}

/// What a line from the process of a network is.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// The answer to the request.
    Return(Value),
    /// A refusal of the request.
    Error(Refusal),
    /// A line of a stream that was asked for.
    Event(Value),
}

impl Said {
    /// Reads one line, without its line break. `None` if it is none of these.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let Value::Object(mut object) = serde_json::from_slice(line).ok()? else {
            return None;
        };
        if let Some(value) = object.remove("return") {
            return Some(Self::Return(value));
        }
        if let Some(value) = object.remove("event") {
            return Some(Self::Event(value));
        }
        serde_json::from_value(object.remove("error")?).ok().map(Self::Error)
    }
}

fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests;
