//! The side of the verbs that ask running networks: which there are, and one request at a time.
//!
//! Here the program waits: a verb has nothing else to do. What is asked and answered is in
//! [`crate::control`], where the sockets are in [`crate::runtime_dir`].

mod connection;

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::Uid;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use connection::{Connection, Line};

use crate::control::{Container, Info, Kind, Named, PORT_TAKEN, Refusal, bind_hint};
use crate::runtime_dir::{self, Owner, RuntimeDirError};

/// What a verb cannot do with running networks.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ClientError {
    #[error("cannot look for running networks")]
    Directory(#[source] RuntimeDirError),
    #[error("nobody is on a network {name:?}")]
    NobodyThere { name: String },
    #[error("there is no container {name:?}")]
    NotFound { name: String },
    #[error("{name:?} is {what} of more than one container")]
    Ambiguous { name: String, what: &'static str },
    #[error("{name}")]
    Refused { name: String, source: Refusal },
    #[error("cannot talk to {name}")]
    Talk { name: String, source: io::Error },
    #[error("{name} speaks another language: it is another version of rnsnet")]
    Language { name: String },
    #[error("no public port {port:?} published for {name}")]
    NoPort { port: String, name: String },
    #[error("the socket of {name} is not its owner's")]
    Impostor { name: String },
    #[error("{name} has no interface")]
    NoInterface { name: String },
    #[error("the process of {name} has not ended within {seconds} s")]
    NotEnded { name: String, seconds: u16 },
    #[error("no port of {name} is published")]
    NothingPublished { name: String },
    #[error("a capture is not for a terminal")]
    Terminal,
    #[error("cannot write {file}")]
    Write { file: String, source: io::Error },
    #[error("cannot {step}")]
    System { step: &'static str, source: io::Error },
}

impl ClientError {
    /// Whether the other side has ended since it was connected to. One that is silent has not.
    #[must_use]
    pub fn is_end(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let Self::Talk { source, .. } = self else { return false };
        matches!(source.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
    }

    /// What helps, where one thing usually does.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NotFound { .. } => Some("rnsnet ps lists the containers there are".into()),
            Self::Ambiguous { .. } => Some("rnsnet ps --no-trunc lists their ids".into()),
            Self::Talk { name, source }
                if name.contains('/') && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(
                    "it is for the members of its group: see `id`, and log in anew after a change"
                        .into(),
                )
            }
            Self::Refused { source, .. } if source.message.starts_with("cannot publish ") => {
                match source.kind {
                    Kind::Conflict => Some(PORT_TAKEN.into()),
                    _ => bind_hint(reason_in(&source.message)?).map(Cow::Borrowed),
                }
            }
            Self::Terminal => {
                Some("rnsnet capture CTR -w FILE, or rnsnet capture CTR | tcpdump -nr -".into())
            }
            Self::NothingPublished { name } => {
                Some(format!("name its ports: rnsnet link-env {name}:ALIAS 5432").into())
            }
            _ => None,
        }
    }
}

/// The system's error that a message ends with, as the standard library writes it.
fn reason_in(message: &str) -> Option<io::ErrorKind> {
    let (_, number) = message.rsplit_once(" (os error ")?;
    let number = number.strip_suffix(')')?.parse().ok()?;
    Some(io::Error::from_raw_os_error(number).kind())
}

/// A running network that has answered.
#[derive(Debug)]
pub struct Instance {
    /// What its socket is called by.
    pub name: String,
    /// The user whose network it is, if that is another.
    pub owner: Option<Uid>,
    /// Everything about it.
    pub info: Info,
    /// The connection, ready for the next request.
    pub connection: Connection,
}

/// A container with the connection to its network.
#[derive(Debug)]
pub struct Found {
    /// Its network.
    pub instance: Instance,
    /// Which of the network's containers it is.
    pub container: Container,
}

/// Every network that runs. What does not answer, because its process is gone, is left out.
///
/// # Errors
/// Directories that cannot be read.
pub fn instances() -> Result<Vec<Instance>, ClientError> {
    let mut found = Vec::new();
    let mut add = |name: String, owner, connection| match Instance::of(name, connection) {
        Ok(instance) => found.push(Instance { owner, ..instance }),
        Err(error) if error.is_end() => {}
        // Of another version.
        Err(error) => {
            let because = std::error::Error::source(&error);
            let because = because.map(|source| format!(": {source}")).unwrap_or_default();
            log::warn!("{error}{because}");
        }
    };
    for (_, name, socket) in runtime_dir::sockets().map_err(ClientError::Directory)? {
        match Connection::open(&name, &socket) {
            Ok(Some(connection)) => add(name, None, connection),
            // It was killed, or is not yet there.
            Ok(None) => {}
            // Nobody listens where the path is too long for a socket.
            Err(error) => log::debug!("{socket:?}: {error}"),
        }
    }
    for (owner, name, known) in runtime_dir::of_others() {
        match Connection::open_of(owner, &name) {
            Ok(Some(connection)) => add(format!("{owner}/{name}"), Some(owner), connection),
            Ok(None) => drop(std::fs::remove_dir(known)),
            // Closed to us now.
            Err(error) => log::debug!("{error}"),
        }
    }
    Ok(found)
}

/// The process of a named network.
///
/// # Errors
/// There is none, as of [`find_network`].
pub fn network(name: &str) -> Result<Connection, ClientError> {
    find_network(name)?.ok_or_else(|| ClientError::NobodyThere { name: name.to_owned() })
}

/// The same, `None` if it does not run.
///
/// # Errors
/// A directory that cannot be read, a socket that cannot be connected to.
pub fn find_network(name: &str) -> Result<Option<Connection>, ClientError> {
    for (owner, other, socket) in runtime_dir::sockets().map_err(ClientError::Directory)? {
        if owner == Owner::Network
            && other == name
            && let Some(connection) = Connection::open(name, &socket)?
        {
            return Ok(Some(connection));
        }
    }
    Ok(None)
}

/// The container that is meant: by its name, by a process in it, by its network namespace, by its id
/// or the beginning of it. Where it is on several networks, the one on which its ports are published,
/// or the one that it has its default route by.
///
/// # Errors
/// None, or too many.
pub fn find(name: &str) -> Result<Found, ClientError> {
    let mut found = find_all(name)?;
    let place = found.iter().enumerate().min_by_key(|(_, found)| {
        (found.container.ports.is_empty(), found.container.metric.unwrap_or(u32::MAX))
    });
    match place.map(|(place, _)| place) {
        Some(place) => Ok(found.swap_remove(place)),
        None => Err(ClientError::NotFound { name: name.to_owned() }),
    }
}

/// The container that is meant, as [`find`], on every network that it is on, the first one first.
///
/// # Errors
/// None, or too many.
pub fn find_all(name: &str) -> Result<Vec<Found>, ClientError> {
    let instances = instances()?;
    let infos: Vec<&Info> = instances.iter().map(|instance| &instance.info).collect();
    let places = places(name, inode(name), &infos)?;
    let mut found = Vec::new();
    for (number, instance) in instances.into_iter().enumerate() {
        let place = places.iter().find(|(network, _)| *network == number);
        if let Some(container) = place.and_then(|(_, at)| instance.info.containers.get(*at)) {
            let container = container.clone();
            found.push(Found { instance, container });
        }
    }
    found.sort_by_key(|found| (found.container.attached, found.container.metric));
    Ok(found)
}

/// Whom a verb's words are about: containers, each on every network that it is on, or else all of a
/// network; without any, all of all networks.
///
/// # Errors
/// None, or too many.
pub fn whom(words: &[String]) -> Result<Vec<(Instance, Named)>, ClientError> {
    let all = |instance: Instance| (instance, Named::default());
    if words.is_empty() {
        return Ok(instances()?.into_iter().map(all).collect());
    }
    let mut whom = Vec::new();
    for word in words {
        match find_all(word) {
            Ok(found) => whom.extend(found.into_iter().map(|found| {
                let named = Named { container: found.named() };
                (found.instance, named)
            })),
            Err(error @ ClientError::NotFound { .. }) => {
                let mut networks = instances()?;
                networks.retain(|instance| instance.name == *word);
                if networks.is_empty() {
                    return Err(error);
                }
                whom.extend(networks.into_iter().map(all));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(whom)
}

/// The answers of those whom words are about, each with its network. Who has ended meanwhile has none,
/// and where all are meant, neither has another user's network that says nothing of the whole.
///
/// # Errors
/// Other refusals, and what keeps an answer from coming.
pub fn ask_whom(
    words: &[String],
    execute: &str,
) -> Result<Vec<(Instance, serde_json::Value)>, ClientError> {
    let mut answers = Vec::new();
    for (mut instance, named) in whom(words)? {
        match instance.connection.ask(execute, &named) {
            Ok(answer) => answers.push((instance, answer)),
            Err(error) if words.is_empty() && instance.may_be_left_out(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answers)
}

/// Where the container is that is meant: on which of the networks, and which of its containers.
fn places(
    name: &str,
    inode: Option<u64>,
    networks: &[&Info],
) -> Result<Vec<(usize, usize)>, ClientError> {
    let ways = ["the name", "a process or the network namespace", "the beginning of the id"];
    // What comes first counts, on whatever network.
    for (way, what) in ways.into_iter().enumerate() {
        let is_meant = |other: &Container| match way {
            0 => other.name == name || other.id == name,
            1 => {
                other.pid.is_some_and(|pid| pid.to_string() == name)
                    || inode.is_some() && other.inode == inode
            }
            _ => !name.is_empty() && other.id.starts_with(name),
        };
        let mut places = Vec::new();
        let mut first: Option<&Container> = None;
        for (network, info) in networks.iter().enumerate() {
            for (at, container) in info.containers.iter().enumerate() {
                if is_meant(container) {
                    if first.get_or_insert(container).id != container.id {
                        return Err(ClientError::Ambiguous { name: name.to_owned(), what });
                    }
                    places.push((network, at));
                }
            }
        }
        if !places.is_empty() {
            return Ok(places);
        }
    }
    Err(ClientError::NotFound { name: name.to_owned() })
}

/// The inode of the network namespace of a process, or that a path leads to.
#[must_use]
pub fn inode(name: &str) -> Option<u64> {
    let pid = name.parse::<u32>().ok().map(|pid| format!("/proc/{pid}/ns/net"));
    let path = pid.or_else(|| name.contains('/').then(|| name.to_owned()))?;
    std::fs::metadata(path).ok().map(|there| there.ino())
}

impl Instance {
    /// Asks a process that has been connected to who it is.
    ///
    /// # Errors
    /// What it answers instead.
    pub fn of(name: String, mut connection: Connection) -> Result<Self, ClientError> {
        let info = connection.ask("info", &serde_json::json!({}))?;
        Ok(Self { name, owner: None, info, connection })
    }

    /// Whether it cannot tell: it has ended, is another user's who keeps it, or is of an older version.
    #[must_use]
    pub fn may_be_left_out(&self, error: &ClientError) -> bool {
        match error {
            ClientError::Refused { source, .. } => match source.kind {
                Kind::Denied => self.owner.is_some(),
                kind => kind == Kind::Command,
            },
            error => error.is_end(),
        }
    }

    /// What it has answered to something.
    ///
    /// # Errors
    /// Another answer than is known here.
    pub fn read<T: DeserializeOwned>(&self, answer: serde_json::Value) -> Result<T, ClientError> {
        let language = |_| ClientError::Language { name: self.name.clone() };
        serde_json::from_value(answer).map_err(language)
    }
}

impl Found {
    /// Asks something about the container; its name goes along if the arguments take it.
    ///
    /// # Errors
    /// A refusal, and what keeps the answer from coming.
    pub fn ask<T: DeserializeOwned>(
        &mut self,
        execute: &str,
        arguments: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.instance.connection.ask(execute, arguments)
    }

    /// The name to ask by.
    #[must_use]
    pub fn named(&self) -> Option<String> {
        Some(self.container.name.clone())
    }
}

/// Whether a refusal says that the process does not know a command: it is older.
#[must_use]
pub fn is_unknown_command(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { source, .. } if source.kind == Kind::Command)
}

#[cfg(test)]
mod tests;
