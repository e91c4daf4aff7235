//! Between a container's loopback and the host's: pasta's `-T` and `-U` from the inside, and with
//! `--host-lo-to-ns-lo` published ports from the host's side.
//!
//! One end of everything here was made inside the container's network namespace, the other is an
//! ordinary socket of the host's, so bytes go from kernel to kernel and no packet is made of them.
//! Where a port leads was said by the user; nothing is decided here and the deny list, which
//! is about destinations that a container chooses, is not asked. Connections are in `tcp`,
//! datagrams in `udp`, ports that come and go with what the host listens on in `follow`.

mod follow;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use smoltcp::time::Duration;

use super::host::{Sockets, TcpStream};
use super::mirror::SocketTables;
use crate::config::Protocol;
use crate::config::pasta::{MAX_OUTWARDS, Mirror};
use crate::engine::Instant;
use crate::engine::host::SocketId;
use crate::sys::maker::{Maker, Wanted};
use crate::sys::pipe::Pipe;
use crate::sys::sock;
use follow::Follow;

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

/// What is relayed.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Ports that lead out as long as there is a network.
    pub outwards: Vec<Outward>,
    /// Rules for ports that follow what the host listens on, and where that is seen.
    pub follows: (Vec<Mirror>, SocketTables),
    /// Makes the sockets in the container that are not there from the start.
    pub maker: Option<Maker>,
    /// Whether clients on the host's loopback are led to the container's.
    pub to_loopback: bool,
}

impl Relayed {
    /// Whether anything can come of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outwards.is_empty() && self.maker.is_none()
    }
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
/// The longest datagram.
const DATAGRAM: usize = 65_536;

/// All ports with their connections and clients.
#[derive(Debug)]
pub(super) struct Relay {
    watch: Watch,
    listeners: Vec<Option<Outward>>,
    follow: Follow,
    dialer: Dialer,
    to_loopback: bool,
    tcp: tcp::Connections,
    udp: udp::Peers,
    /// Listeners with a client that had to wait for a place or a descriptor.
    waiting: Vec<usize>,
    /// Whether there may be one and a place.
    accept: bool,
    retry_at: Option<Instant>,
    /// Sources with more to read than one turn allows.
    unfinished: Vec<Source>,
    /// For datagrams, and what streams go through.
    scratch: Box<[u8]>,
    pipe: Option<Pipe>,
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

/// Whose loopback a service is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Host,
    Container,
}

/// Makes the ends that are connected to services.
#[derive(Debug)]
struct Dialer {
    maker: Option<Maker>,
    /// No socket has this descriptor or a higher one: the others are DNS's and control's.
    limit: RawFd,
}

impl Relay {
    /// Registers with `registry` from the token `first` on, [`TOKENS`] many. Descriptors from
    /// `limit` on are left alone. Ports that follow are first looked for at `now`.
    ///
    /// # Errors
    /// What epoll_ctl(2) and pipe2(2) report.
    pub(super) fn new(
        registry: Registry,
        first: usize,
        relayed: Relayed,
        limit: RawFd,
        now: Instant,
    ) -> io::Result<Self> {
        // Where nothing can come nothing is kept for it.
        let busy = !relayed.is_empty();
        let Relayed { mut outwards, follows, maker, to_loopback } = relayed;
        outwards.truncate(MAX_OUTWARD);
        let watch = Watch { registry, first };
        for (index, listener) in outwards.iter().enumerate() {
            watch.add(&listener.socket, Source::Listener(index))?;
        }
        Ok(Self {
            watch,
            follow: Follow::new(follows, &outwards, now),
            listeners: outwards.into_iter().map(Some).collect(),
            dialer: Dialer { maker, limit },
            to_loopback,
            tcp: tcp::Connections::default(),
            udp: udp::Peers::default(),
            waiting: Vec::new(),
            accept: false,
            retry_at: None,
            unfinished: Vec::new(),
            scratch: vec![0; if busy { DATAGRAM } else { 0 }].into_boxed_slice(),
            pipe: busy.then(Pipe::new).transpose()?,
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

    /// When [`Relay::handle_timeout`] or [`Relay::follow`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let follow = self.follow.poll_timeout();
        self.udp.poll_timeout().into_iter().chain(self.retry_at).chain(follow).min()
    }

    /// Whether clients on the host's loopback are led to the container's.
    pub(super) fn leads_to_loopback(&self) -> bool {
        self.to_loopback
    }

    /// Whether a client of a published port is led to the container's loopback.
    pub(super) fn leads_inside(&self, client: IpAddr) -> bool {
        self.to_loopback && client.is_loopback()
    }

    /// Leads a client to a port of the container's loopback.
    pub(super) fn take_client(&mut self, client: OwnedFd, v6: bool, port: u16) {
        if let Err(error) = self.tcp.take(client, v6, port, &self.watch, &mut self.dialer) {
            log::debug!("the container's port {port} is not reached: {error}");
        }
    }

    /// Leads a datagram to a port of the container's loopback. It was sent to a published port,
    /// whose socket its answers come from, at the address `local`.
    pub(super) fn take_datagram(
        &mut self,
        (socket, local): (SocketId, Option<IpAddr>),
        client: SocketAddr,
        port: u16,
        payload: &[u8],
        now: Instant,
    ) {
        let origin = udp::Origin::Published(socket, local);
        let to = (Service::Container, client.is_ipv6(), port);
        let sent = self.udp.send(origin, client, to, payload, (&self.watch, &mut self.dialer), now);
        if let Err(error) = sent {
            log::debug!("a datagram to the container's port {port} is lost: {error}");
        }
    }

    /// The socket of a published port is gone, and with it the way back to its clients.
    pub(super) fn forget(&mut self, socket: SocketId) {
        self.udp.forget(|origin| matches!(origin, udp::Origin::Published(of, _) if of == socket));
    }

    /// Something has happened to one of our sockets.
    pub(super) fn handle_event(&mut self, event: &Event, sockets: &mut Sockets, now: Instant) {
        let Some(source) = self.watch.source(event.token()) else {
            return;
        };
        if let Source::Connection(index, end) = source {
            self.tcp.note(index, end, event);
        }
        self.advance(source, sockets, now);
    }

    /// Goes on with what is unfinished, and lets silent clients go.
    pub(super) fn handle_timeout(&mut self, sockets: &mut Sockets, now: Instant) {
        for source in std::mem::take(&mut self.unfinished) {
            self.advance(source, sockets, now);
        }
        self.tcp.clear();
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

    fn advance(&mut self, source: Source, sockets: &mut Sockets, now: Instant) {
        let more = match source {
            Source::Listener(index) => match self.listeners.get(index) {
                Some(Some(listener)) if listener.protocol == Protocol::Tcp => {
                    self.accept = true;
                    self.wait(index);
                    false
                }
                Some(Some(listener)) => {
                    let opening = (&self.watch, &mut self.dialer);
                    self.udp.outwards(index, listener, opening, &mut self.scratch, now)
                }
                Some(None) | None => false,
            },
            Source::Connection(index, _) => {
                let Some(pipe) = &self.pipe else {
                    return;
                };
                let went = self.tcp.pump(index, &self.watch, &mut self.dialer, pipe);
                self.accept |= went == tcp::Went::Over;
                went == tcp::Went::More
            }
            Source::Peer(index) => {
                let opening = (&self.watch, &mut self.dialer);
                let ways_back = (self.listeners.as_slice(), sockets);
                self.udp.inwards(index, ways_back, opening, &mut self.scratch, now)
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
        let Some(Some(listener)) = self.listeners.get(index) else {
            return;
        };
        match self.tcp.accept(listener, &self.watch, &mut self.dialer) {
            tcp::Accepted::All => return,
            tcp::Accepted::Some => return self.unfinished.push(Source::Listener(index)),
            tcp::Accepted::Gone => return self.lose(index),
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
            let end = if offset % 2 == 0 { tcp::End::Client } else { tcp::End::Server };
            return Some(Source::Connection(offset / 2, end));
        };
        (offset < MAX_PEERS).then_some(Source::Peer(offset))
    }

    fn add(&self, socket: &impl AsRawFd, source: Source) -> io::Result<()> {
        let interest = match source {
            Source::Connection(..) => TcpStream::INTEREST,
            Source::Listener(_) | Source::Peer(_) => Interest::READABLE,
        };
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), self.token(source), interest)
    }
}

impl Dialer {
    /// A socket to connect to a service's loopback, of IPv6 or not.
    ///
    /// # Errors
    /// `EMFILE` too where only descriptors are left that are not ours.
    fn open(&mut self, service: Service, protocol: Protocol, v6: bool) -> io::Result<OwnedFd> {
        let socket = match (service, protocol) {
            (Service::Host, Protocol::Tcp) => sock::tcp_open(v6),
            (Service::Host, Protocol::Udp) => sock::udp_open(v6),
            (Service::Container, Protocol::Tcp) => self.make(Wanted::Tcp { v6 }),
            (Service::Container, Protocol::Udp) => self.make(Wanted::Udp { v6 }),
        };
        self.within_limit(socket?)
    }

    /// The same, connected or on the way.
    fn connect(
        &mut self,
        (service, v6, port): (Service, bool, u16),
        protocol: Protocol,
    ) -> io::Result<OwnedFd> {
        let socket = self.open(service, protocol, v6)?;
        sock::connect_to(&socket, loopback(v6, port))?;
        Ok(socket)
    }

    fn make(&mut self, wanted: Wanted) -> io::Result<OwnedFd> {
        self.maker.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.make(wanted)
    }

    /// The kernel gives the lowest number that is free (open(2)): one beyond the limit means that
    /// all below are in use.
    fn within_limit(&self, socket: OwnedFd) -> io::Result<OwnedFd> {
        if socket.as_raw_fd() < self.limit {
            Ok(socket)
        } else {
            Err(io::Error::from_raw_os_error(libc::EMFILE))
        }
    }
}

/// A service's address.
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
