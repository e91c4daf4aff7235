//! The API socket: forwards that are added and taken back while the network runs.
//!
//! One request per connection, answered and closed, as slirp4netns has it. Nothing here ever waits:
//! every client is an event source with a deadline, so that one that stays silent costs a slot for
//! a while and no packet any time. Only processes of our own user and of root are answered. What a
//! request says is in `protocol`.

mod protocol;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, geteuid};
use smoltcp::time::Duration;

use self::protocol::{Forward, MAX_REQUEST, Parsed, Refusal, Request, parse};
use super::published::{Place, PublishedPorts};
use crate::config::{Addresses, Bind, HostPorts, Lease, Ports, Publish};
use crate::engine::{Destination, Instant, PortId};

/// Clients at once; a further one takes the place of the one that came first.
pub(super) const MAX_CLIENTS: usize = 16;
/// How long a client has from its connection until it has read its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most ports that are forwarded on request, all in all: each is a descriptor.
const MAX_PORTS: u32 = 4096;
/// Clients accepted in a turn.
const PER_TURN: usize = 16;
/// When to try again where no descriptor was left to accept a client with.
const RETRY: Duration = Duration::from_millis(100);
/// The length of `sun_path` in unix(7).
const MAX_PATH: usize = 108;
/// What a client writes beyond its request is read up to this many bytes.
const MAX_DRAIN: usize = 64 * 1024;

/// A socket in the file system that is listened on. The file goes when this does.
#[derive(Debug)]
pub struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: Uid,
}

/// An API socket that cannot be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ApiError {
    #[error("the specified API socket path is too long (>= {MAX_PATH})")]
    TooLong,
    #[error("another process listens on the API socket {}", path.display())]
    InUse { path: PathBuf },
    #[error("{} is there already and is no socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("cannot listen on the API socket {}", path.display())]
    Bind { path: PathBuf, source: io::Error },
}

impl ApiSocket {
    /// Listens on `path`, for the calling user only (mode 0600). A socket that nobody listens on
    /// any more is replaced, anything else that is there is left alone.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn bind(path: &Path) -> Result<Self, ApiError> {
        if path.as_os_str().as_bytes().len() >= MAX_PATH {
            return Err(ApiError::TooLong);
        }
        let failed = |source| ApiError::Bind { path: path.into(), source };
        let listener = match listen_on(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                listen_on(path).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        let socket = Self { listener, path: path.into(), owner: geteuid() };
        socket.listener.set_nonblocking(true).map_err(failed)?;
        Ok(socket)
    }

    /// The directory that the socket will be removed from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The mode is right from the first moment on: nobody else can ever connect.
fn listen_on(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::S_IXUSR | Mode::S_IRWXG | Mode::S_IRWXO);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Removes a socket that refuses connections.
fn remove_stale(path: &Path) -> Result<(), ApiError> {
    let failed = |source| ApiError::Bind { path: path.into(), source };
    let there = std::fs::symlink_metadata(path).map_err(failed)?;
    if !there.file_type().is_socket() {
        return Err(ApiError::NotASocket { path: path.into() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(source) => Err(failed(source)),
        Ok(_) => Err(ApiError::InUse { path: path.into() }),
    }
}

/// The API socket with its clients and the forwards that they asked for.
#[derive(Debug)]
pub(super) struct Api {
    listener: mio::net::UnixListener,
    /// Removes the file at the end.
    _socket: ApiSocket,
    owner: Uid,
    registry: Registry,
    first_client: usize,
    clients: Vec<Option<Client>>,
    /// When to accept again, where that is not left to an event.
    accept_at: Option<Instant>,
    container: Container,
    forwards: BTreeMap<u64, Active>,
    last_id: u64,
}

#[derive(Debug)]
struct Client {
    stream: mio::net::UnixStream,
    until: Instant,
    stage: Stage,
}

/// How far a client is. Each stage ends at the client's deadline, whatever it does.
#[derive(Debug)]
enum Stage {
    /// The request is not complete: what there is of it.
    Asking(Vec<u8>),
    /// What is left of the answer.
    Answering(Vec<u8>),
    /// The answer is out, and the client may still be writing: closed before it is done, it would
    /// hear of an error instead of the answer. How many bytes it may yet write.
    Leaving(usize),
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
        let mut listener = mio::net::UnixListener::from_std(socket.listener.try_clone()?);
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self {
            listener,
            owner: socket.owner,
            _socket: socket,
            registry,
            first_client,
            clients: (0..MAX_CLIENTS).map(|_| None).collect(),
            accept_at: None,
            container,
            forwards: BTreeMap::new(),
            last_id: 0,
        })
    }

    /// Whether a token is one of a client's.
    pub(super) fn is_client(first_client: usize, token: Token) -> bool {
        (first_client..first_client + MAX_CLIENTS).contains(&token.0)
    }

    /// Takes new clients.
    pub(super) fn accept(&mut self, now: Instant) {
        self.accept_at = None;
        for _ in 0..PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("a client of the API socket has to wait: {error}");
                    self.accept_at = Some(now + RETRY);
                    return;
                }
            }
        }
        self.accept_at = Some(now);
    }

    fn welcome(&mut self, mut stream: mio::net::UnixStream, now: Instant) {
        match getsockopt(&stream, sockopt::PeerCredentials) {
            Ok(peer) if peer.uid() == self.owner.as_raw() || peer.uid() == 0 => {}
            Ok(peer) => {
                log::warn!("API socket: a client of uid {} is turned away", peer.uid());
                return;
            }
            Err(errno) => {
                log::warn!("API socket: a client that cannot be identified: {errno}");
                return;
            }
        }
        let free = self.clients.iter().position(Option::is_none);
        let oldest = || {
            let ages = self.clients.iter().map(|client| client.as_ref().map(|client| client.until));
            ages.enumerate().min_by_key(|(_, until)| *until).map(|(index, _)| index)
        };
        let Some(index) = free.or_else(oldest) else {
            return;
        };
        let token = Token(self.first_client + index);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut stream, token, interest) {
            log::debug!("a client of the API socket is lost: {error}");
            return;
        }
        if let Some(slot) = self.clients.get_mut(index) {
            let until = now + PATIENCE;
            *slot = Some(Client { stream, until, stage: Stage::Asking(Vec::new()) });
        }
    }

    /// Reads what a client has sent, and does what it asks once that is clear.
    pub(super) fn handle_client(&mut self, token: Token, target: &mut Target<'_>) {
        let index = token.0 - self.first_client;
        let Some(Some(client)) = self.clients.get_mut(index) else {
            return;
        };
        if !matches!(client.stage, Stage::Asking(_)) {
            return;
        }
        let request = match client.read(&self.container.addresses) {
            Ok(Parsed::More) => return,
            Ok(Parsed::Done(request)) => request,
            Err(error) => {
                log::debug!("a client of the API socket is gone: {error}");
                if let Some(slot) = self.clients.get_mut(index) {
                    *slot = None;
                }
                return;
            }
        };
        let answer = match request.and_then(|request| self.perform(request, target)) {
            Ok(answer) => answer,
            Err(refusal) => {
                log::debug!("API socket: {refusal}");
                protocol::refused(&refusal)
            }
        };
        if let Some(Some(client)) = self.clients.get_mut(index) {
            client.stage = Stage::Answering(answer);
        }
    }

    /// Sends answers, as far as their clients take them. To be called once what the requests
    /// brought about is done: a port that was taken back is free when its client hears so.
    pub(super) fn flush(&mut self) {
        for slot in &mut self.clients {
            if let Some(client) = slot
                && client.advance()
            {
                *slot = None;
            }
        }
    }

    /// When to call [`Api::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let clients = self.clients.iter().flatten().map(|client| client.until);
        clients.chain(self.accept_at).min()
    }

    /// Ends clients that took too long, and takes those that had to wait.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for slot in &mut self.clients {
            if let Some(client) = slot
                && client.until <= now
            {
                if matches!(client.stage, Stage::Asking(_)) {
                    client.stage = Stage::Answering(Parsed::late());
                    client.advance();
                }
                *slot = None;
            }
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(now);
        }
    }

    fn perform(&mut self, request: Request, target: &mut Target<'_>) -> Result<Vec<u8>, Refusal> {
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

impl Client {
    /// Reads until there is nothing more for now or the request is complete.
    fn read(&mut self, addresses: &Addresses) -> io::Result<Parsed> {
        let Stage::Asking(received) = &mut self.stage else {
            return Ok(Parsed::More);
        };
        let mut buffer = [0; MAX_REQUEST];
        loop {
            let ended = match self.stream.read(&mut buffer) {
                Ok(length) => {
                    received.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    length == 0
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Parsed::More);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match parse(received, ended, addresses) {
                Parsed::More => {}
                done @ Parsed::Done(_) => return Ok(done),
            }
        }
    }

    /// Writes what the client takes of its answer, then hears it out; returns whether it is over.
    fn advance(&mut self) -> bool {
        if let Stage::Answering(answer) = &mut self.stage {
            while !answer.is_empty() {
                match self.stream.write(answer) {
                    Ok(length) => drop(answer.drain(..length)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        log::debug!("an answer of the API socket is lost: {error}");
                        return true;
                    }
                }
            }
            if self.stream.shutdown(Shutdown::Write).is_err() {
                return true;
            }
            self.stage = Stage::Leaving(MAX_DRAIN);
        }
        if let Stage::Leaving(left) = &mut self.stage {
            let mut buffer = [0; MAX_REQUEST];
            while *left > 0 {
                match self.stream.read(&mut buffer) {
                    Ok(0) => return true,
                    Ok(length) => *left = left.saturating_sub(length),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return true,
                }
            }
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
