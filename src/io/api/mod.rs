//! The API socket: forwards that are added and taken back while the network runs.
//!
//! One request per connection, answered and closed, as slirp4netns has it. How clients are served
//! without waiting for any is in `clients`, what a request says in `protocol`.

mod protocol;

use std::io;
use std::path::{Path, PathBuf};

use mio::{Registry, Token};
use smoltcp::time::Duration;

use self::protocol::{Forward, MAX_REQUEST, Parsed, Refusal, Request, parse};
use super::clients::{Clients, Limits};
use super::published::{Place, PublishedPorts};
use crate::config::{Addresses, Bind, HostPorts, Lease, Ports, Publish};
use crate::engine::{Destination, Instant, PortId};
use crate::socket_file::{BindError, MAX_PATH, SocketFile};
use crate::sorted::SortedMap;

/// Clients at once; a further one takes the place of the one that came first. A constant, as the command
/// line is slirp4netns's: it has no word for another number.
pub(super) const MAX_CLIENTS: usize = 16;
/// How long a client has from its connection until it has read its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most ports that are forwarded on request, all in all: each is a descriptor.
const MAX_PORTS: u32 = 4096;

const LIMITS: Limits = Limits {
    name: "API socket",
    clients: MAX_CLIENTS,
    request: MAX_REQUEST,
    answer: usize::MAX,
    patience: PATIENCE,
    grace: Duration::ZERO,
};

/// The socket that requests are taken from. Its file goes when this does.
#[derive(Debug)]
pub struct ApiSocket(SocketFile);

/// An API socket that cannot be had, in the words that callers know.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ApiError {
    #[error("the specified API socket path is too long (>= {MAX_PATH})")]
    TooLong,
    #[error("another process listens on the API socket {}", path.display())]
    InUse { path: PathBuf },
    #[error("cannot have the API socket")]
    Bind(#[source] BindError),
}

impl ApiSocket {
    /// Listens on `path`, see [`SocketFile::bind`].
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn bind(path: &Path) -> Result<Self, ApiError> {
        SocketFile::bind(path).map(Self).map_err(|error| match error {
            BindError::TooLong { .. } => ApiError::TooLong,
            BindError::InUse { path } => ApiError::InUse { path },
            other => ApiError::Bind(other),
        })
    }

    /// The directory that the socket will be removed from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.0.directory()
    }
}

/// The API socket with its clients and the forwards that they asked for.
#[derive(Debug)]
pub(super) struct Api {
    clients: Clients<()>,
    container: Container,
    forwards: SortedMap<u64, Active>,
    last_id: u64,
}

/// A forward and its rules among the published ports.
#[derive(Debug)]
struct Active {
    forward: Forward,
    rules: Vec<u64>,
}

/// What a request acts on.
pub(super) struct Target<'a> {
    pub(super) published: &'a mut PublishedPorts,
    pub(super) place: Place<'a>,
}

/// The container whose ports are forwarded, and its network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Container {
    pub(super) port: PortId,
    pub(super) lease: Lease,
    pub(super) addresses: Addresses,
}

impl Api {
    /// Registers the listener as `token` and clients from `first_client` on, [`MAX_CLIENTS`] many.
    pub(super) fn new(
        socket: ApiSocket,
        registry: Registry,
        token: Token,
        first_client: usize,
        container: Container,
    ) -> io::Result<Self> {
        Ok(Self {
            clients: Clients::new(socket.0, registry, token, first_client, LIMITS)?,
            container,
            forwards: SortedMap::new(),
            last_id: 0,
        })
    }

    /// Whether a token is one of a client's.
    pub(super) fn is_client(first_client: usize, token: Token) -> bool {
        (first_client..first_client + MAX_CLIENTS).contains(&token.0)
    }

    /// Takes new clients.
    pub(super) fn accept(&mut self, now: Instant) {
        self.clients.accept(now);
    }

    /// Whether a client has come, since this was asked last, when all places were taken.
    pub(super) fn was_full(&mut self) -> bool {
        std::mem::take(&mut self.clients.full)
    }

    /// Reads what a client has sent, and does what it asks once that is clear.
    pub(super) fn handle_client(&mut self, token: Token, target: &mut Target<'_>) {
        let Some(client) = self.clients.read(token) else {
            return;
        };
        let Parsed::Done(request) =
            parse(&client.received, client.ended, &self.container.addresses)
        else {
            return;
        };
        let answer = match request.and_then(|request| self.perform(request, target)) {
            Ok(answer) => answer,
            Err(refusal) => {
                log::debug!("API socket: {refusal}");
                protocol::refused(&refusal)
            }
        };
        if let Some(client) = self.clients.get_mut(token) {
            client.answer_and_leave(&answer);
        }
    }

    /// Sends answers, see [`Clients::flush`].
    pub(super) fn flush(&mut self, now: Instant) {
        self.clients.flush(now);
    }

    /// When to call [`Api::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.clients.poll_timeout()
    }

    /// Ends clients that took too long, and takes those that had to wait.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.clients.handle_timeout(now, Parsed::late);
    }

    fn perform(&mut self, request: Request, target: &mut Target<'_>) -> Result<Vec<u8>, Refusal> {
        // What was taken back by way of the control socket.
        self.forwards.retain(|_, active| active.rules.iter().all(|id| target.published.has(*id)));
        match request {
            Request::Add(forward) => self.add(forward, target).map(protocol::added),
            Request::List => {
                let forwards = self.forwards.iter().map(|(id, active)| (*id, &active.forward));
                Ok(protocol::listed(forwards, &self.container.lease))
            }
            Request::Remove(id) => {
                let Active { rules, .. } = self.forwards.remove(&id).ok_or(Refusal::NoSuchId)?;
                for rule in rules {
                    target.published.unpublish(rule, &mut target.place);
                }
                Ok(protocol::removed())
            }
        }
    }

    /// All ports of the forward are bound, or none.
    fn add(&mut self, forward: Forward, target: &mut Target<'_>) -> Result<u64, Refusal> {
        let not_bound = |reason: String| Refusal::NotBound { reason };
        let ports =
            self.forwards.values().map(|active| u32::from(active.forward.range)).sum::<u32>();
        if ports + u32::from(forward.range) > MAX_PORTS {
            return Err(not_bound(format!("more than {MAX_PORTS} ports")));
        }
        let ports = |first: u16| Ports { first, last: first.saturating_add(forward.range - 1) };
        let rule = Publish::at(
            Bind::Addresses(vec![forward.host]),
            HostPorts::Exactly(ports(forward.host_port)),
            ports(forward.guest_port),
            forward.protocol,
        );
        let to = Destination { port: self.container.port, address: forward.guest };
        let published = target.published.publish(&[rule], &[to], true, None, &mut target.place);
        let rules = published.map_err(|error| not_bound(error.with_cause()))?;
        self.last_id += 1;
        self.forwards.insert(self.last_id, Active { forward, rules });
        Ok(self.last_id)
    }
}

#[cfg(test)]
mod tests;
