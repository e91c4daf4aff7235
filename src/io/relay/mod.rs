//! Ports of a container's loopback that lead to the host's loopback: pasta's `-T` and `-U`.
//!
//! The listeners were made inside the container's network namespace, the other ends are ordinary
//! sockets of the host's, so bytes go from kernel to kernel and no packet is made of them. Where a
//! port leads was said by the user, port by port; nothing is decided here and the deny list, which
//! is about destinations that a container chooses, is not asked. Connections are in `tcp`,
//! datagrams in `udp`.

mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use smoltcp::time::Duration;

use crate::config::Protocol;
use crate::config::pasta::MAX_OUTWARDS;
use crate::engine::Instant;

/// A port of a container's loopback.
#[derive(Debug)]
pub struct Outward {
    /// A UDP socket or a TCP listener inside the container.
    pub socket: OwnedFd,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Whether the socket is of IPv6.
    pub v6: bool,
    /// The port on the host's loopback.
    pub port: u16,
}

/// Most ports of containers' loopbacks, of both families and protocols.
pub const MAX_OUTWARD: usize = 2 * MAX_OUTWARDS;
/// Most connections at once; further clients wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 1024;
/// Most clients of UDP ports at once; the one silent longest gives way.
const MAX_PEERS: usize = 256;
/// How many tokens a relay needs.
pub(super) const TOKENS: usize = MAX_OUTWARD + 2 * MAX_CONNECTIONS + MAX_PEERS;
/// When to accept again where no descriptor was left.
const RETRY: Duration = Duration::from_millis(100);
/// Bytes read at once, and the longest datagram.
const CHUNK: usize = 65_536;

/// All ports with their connections and clients.
#[derive(Debug)]
pub(super) struct Relay {
    watch: Watch,
    listeners: Vec<Outward>,
    tcp: tcp::Connections,
    udp: udp::Peers,
    /// Listeners with a client that had to wait for a place or a descriptor.
    waiting: Vec<usize>,
    /// Whether there may be one and a place. Not before the end of a turn: an event that is about
    /// who had the place before is none of the new one's.
    accept: bool,
    retry_at: Option<Instant>,
    /// Sources with more to read than one turn allows.
    unfinished: Vec<Source>,
    scratch: Box<[u8]>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Listener(usize),
    Connection(usize, tcp::End),
    Peer(usize),
}

/// Where sockets register.
#[derive(Debug)]
struct Watch {
    registry: Registry,
    first: usize,
}

impl Relay {
    /// Registers with `registry` from the token `first` on, [`TOKENS`] many.
    ///
    /// # Errors
    /// What epoll_ctl(2) reports.
    pub(super) fn new(
        registry: Registry,
        first: usize,
        mut listeners: Vec<Outward>,
    ) -> io::Result<Self> {
        listeners.truncate(MAX_OUTWARD);
        let watch = Watch { registry, first };
        for (index, listener) in listeners.iter().enumerate() {
            watch.add(&listener.socket, Source::Listener(index))?;
        }
        // Nothing is read where nothing listens.
        let chunk = if listeners.is_empty() { 0 } else { CHUNK };
        Ok(Self {
            watch,
            listeners,
            tcp: tcp::Connections::default(),
            udp: udp::Peers::default(),
            waiting: Vec::new(),
            accept: false,
            retry_at: None,
            unfinished: Vec::new(),
            scratch: vec![0; chunk].into_boxed_slice(),
        })
    }

    /// Whether a token is one of ours.
    pub(super) fn is_ours(&self, token: Token) -> bool {
        self.watch.source(token).is_some()
    }

    /// Whether something is left to do without a further event.
    pub(super) fn is_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// When [`Relay::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.udp.poll_timeout().into_iter().chain(self.retry_at).min()
    }

    /// Something has happened to one of our sockets.
    pub(super) fn handle_event(&mut self, event: &Event, now: Instant) {
        let Some(source) = self.watch.source(event.token()) else {
            return;
        };
        if let Source::Connection(index, end) = source {
            self.tcp.note(index, end, event);
        }
        self.advance(source, now);
    }

    /// Goes on with what is unfinished, and lets silent clients go.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for source in std::mem::take(&mut self.unfinished) {
            self.advance(source, now);
        }
        self.udp.expire(now);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.accept = true;
        }
        if std::mem::take(&mut self.accept) {
            for index in std::mem::take(&mut self.waiting) {
                self.accept(index, now);
            }
        }
    }

    fn advance(&mut self, source: Source, now: Instant) {
        let more = match source {
            Source::Listener(index) => match self.listeners.get(index) {
                Some(listener) if listener.protocol == Protocol::Tcp => {
                    self.accept = true;
                    self.wait(index);
                    false
                }
                Some(listener) => {
                    self.udp.outwards(index, listener, &self.watch, &mut self.scratch, now)
                }
                None => false,
            },
            Source::Connection(index, _) => {
                let went = self.tcp.pump(index, &self.watch, &mut self.scratch);
                self.accept |= went == tcp::Went::Over;
                went == tcp::Went::More
            }
            Source::Peer(index) => {
                self.udp.inwards(index, &self.listeners, &self.watch, &mut self.scratch, now)
            }
        };
        if more && !self.unfinished.contains(&source) {
            self.unfinished.push(source);
        }
    }

    fn wait(&mut self, index: usize) {
        if !self.waiting.contains(&index) {
            self.waiting.push(index);
        }
    }

    fn accept(&mut self, index: usize, now: Instant) {
        let Some(listener) = self.listeners.get(index) else {
            return;
        };
        match self.tcp.accept(listener, &self.watch) {
            tcp::Accepted::All => return,
            tcp::Accepted::Full => {}
            // Others may give a descriptor back, of which nobody tells us.
            tcp::Accepted::Starved => self.retry_at = Some(now + RETRY),
        }
        self.wait(index);
    }
}

impl Watch {
    fn token(&self, source: Source) -> Token {
        Token(
            self.first
                + match source {
                    Source::Listener(index) => index,
                    Source::Connection(index, end) => MAX_OUTWARD + 2 * index + end as usize,
                    Source::Peer(index) => MAX_OUTWARD + 2 * MAX_CONNECTIONS + index,
                },
        )
    }

    fn source(&self, token: Token) -> Option<Source> {
        let offset = token.0.checked_sub(self.first)?;
        let Some(offset) = offset.checked_sub(MAX_OUTWARD) else {
            return Some(Source::Listener(offset));
        };
        let Some(offset) = offset.checked_sub(2 * MAX_CONNECTIONS) else {
            let end = if offset % 2 == 0 { tcp::End::Inside } else { tcp::End::Host };
            return Some(Source::Connection(offset / 2, end));
        };
        (offset < MAX_PEERS).then_some(Source::Peer(offset))
    }

    fn add(&self, socket: &impl AsRawFd, source: Source) -> io::Result<()> {
        let interest = match source {
            Source::Connection(..) => Interest::READABLE | Interest::WRITABLE,
            Source::Listener(_) | Source::Peer(_) => Interest::READABLE,
        };
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), self.token(source), interest)
    }
}

/// The host's loopback.
fn loopback(v6: bool, port: u16) -> SocketAddr {
    let ip: IpAddr = if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    SocketAddr::new(ip, port)
}

/// The first free place among `most`.
fn free_place<T>(places: &mut Vec<Option<T>>, most: usize) -> Option<usize> {
    match places.iter().position(Option::is_none) {
        None if places.len() < most => {
            places.push(None);
            Some(places.len() - 1)
        }
        free => free,
    }
}

#[cfg(test)]
mod tests;
