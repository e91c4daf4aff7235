//! The event loop: waits, gives the engine what happened, does what it asks.
//!
//! One turn: sockets and signals that are ready -> a batch of frames from each TAP, those for other
//! TAPs going straight there -> the engine's requests to the host -> deadlines -> frames to the
//! TAPs. Nothing here decides what a packet means, and no error of one flow ends the loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Gid;

use super::api::{self, Api, ApiSocket};
use super::clock::Clock;
use super::control::{self, Control, ControlSocket, Instance, Serves};
use super::host::{Purpose, Socket, Sockets};
use super::listen::{Published, in_words};
use super::mirror::{Mirrors, SocketTables};
use super::outbound::OutboundPolicy;
use super::ports::{self, AttachPortError, Container, Ports};
use super::published::{Place, PublishedPorts};
use super::relay::{self, Relay};
use super::resolv::HostResolvers;
use super::signals::{Received, Signals};
use super::watch::{File, Watches};
use crate::config::{self, Sharing};
use crate::engine::frame::MAX_FRAME_LEN;
use crate::engine::host::{Bounce, HostEvent, HostOp, SocketId, SocketKind};
use crate::engine::{Destination, Engine, Instant};
use crate::sys::alloc;
use crate::sys::datagram::{self, Batch};
use crate::sys::interfaces::Interfaces;
use crate::sys::netns;
use crate::sys::sock;

mod follow;
mod frames;

const SIGNALS: Token = Token(1);
const CONTAINER: Token = Token(2);
const EXIT: Token = Token(3);
const WATCHES: Token = Token(4);
const API: Token = Token(5);
const INTERFACES: Token = Token(6);
const CONTROL: Token = Token(7);
const FIRST_API_CLIENT: usize = 8;
const FIRST_CONTROL_CLIENT: usize = FIRST_API_CLIENT + api::MAX_CLIENTS;
const FIRST_PORT: usize = FIRST_CONTROL_CLIENT + control::MAX_CLIENTS;
const FIRST_RELAYED: usize = FIRST_PORT + ports::TOKENS;
const FIRST_SOCKET: usize = FIRST_RELAYED + relay::TOKENS;

/// Frames read from a TAP before other sources have their turn (measured: 32 is best).
const FRAMES_IN: usize = 32;
/// Batches read from a port whose container is gone: what its queue holds at most
/// ([`crate::attach`] makes it 4096 frames long).
const LAST_BATCHES: usize = 4096 / FRAMES_IN;
/// Frames written to TAPs before other sources have their turn.
const FRAMES_OUT: usize = 256;
/// Datagrams read from one socket, and clients accepted from one listener, in a turn.
const PER_SOCKET: usize = 64;
/// How much of a datagram that did not arrive is quoted to the guest, in bytes.
const MAX_QUOTE: usize = 128;
/// Datagrams received by one system call.
const PER_CALL: usize = 32;
/// TCP flows whose memory is worth a system call when they are gone.
const CROWD: usize = 500;
/// The largest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_536;

/// Everything that a network runs on.
#[derive(Debug)]
pub struct Network {
    /// Its addresses and rules.
    pub config: config::Network,
    /// The containers that are there from the start.
    pub containers: Vec<Container>,
    /// Published ports, bound.
    pub published: Vec<Published>,
    /// The host's interfaces; `None` where they cannot be asked for.
    pub interfaces: Option<Interfaces>,
    /// The host's resolvers.
    pub resolvers: HostResolvers,
    /// Its end is the end of the whole network: that of its only container, or of the command.
    pub pidfd: Option<OwnedFd>,
    /// A namespace path whose end is the container's end.
    pub watch_path: Option<PathBuf>,
    /// A descriptor whose hang-up ends the process.
    pub exit: Option<OwnedFd>,
    /// Signals to us.
    pub signals: Signals,
    /// Whether signals go on to the process of `pidfd` instead of ending us.
    pub forward_signals: bool,
    /// Where requests to forward ports are taken.
    pub api: Option<ApiSocket>,
    /// Where questions are answered and changes are taken.
    pub control: Option<ControlSocket>,
    /// The local ends of what the container sends.
    pub outbound: OutboundPolicy,
    /// Rules for ports that follow what the container listens on, and where that is seen.
    pub mirrors: (Vec<config::pasta::Mirror>, SocketTables),
    /// What is between the container's loopback and the host's.
    pub relayed: relay::Relayed,
}

/// Why the loop ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The container, its namespace path or the command of `rnsnet run` is gone.
    Container,
    /// A signal or the exit descriptor.
    Asked,
}

/// Why the loop could not begin or go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum LoopError {
    #[error("cannot {step}")]
    SetUp { step: &'static str, source: io::Error },
    #[error(transparent)]
    Container(#[from] AttachPortError),
    #[error("the container's interface is gone")]
    TapGone { source: io::Error },
    #[error("cannot wait for events")]
    Poll { source: io::Error },
}

fn set_up(step: &'static str) -> impl FnOnce(io::Error) -> LoopError {
    move |source| LoopError::SetUp { step, source }
}

/// Runs a network until its container ends or it is asked to.
///
/// `ready` is called once everything is in place, before the first event.
///
/// # Errors
/// What could not be set up, and failures that leave nothing to serve.
pub fn serve<E: From<LoopError>>(
    network: Network,
    ready: impl FnOnce() -> Result<(), E>,
) -> Result<Ended, E> {
    let mut server = Server::new(network)?;
    ready()?;
    Ok(server.run()?)
}

struct Server {
    engine: Engine,
    poll: Poll,
    clock: Clock,
    ports: Ports,
    /// Whether the network ends with its only container's interface.
    private: bool,
    /// The frame that was read last.
    frame: Box<[u8]>,
    /// Whether the engine has more frames than one turn writes.
    more_frames: bool,
    sockets: Sockets,
    published: PublishedPorts,
    interfaces: Option<Interfaces>,
    api: Option<Api>,
    mirrors: Mirrors,
    relay: Relay,
    control: Option<Control>,
    signals: Signals,
    watches: Watches,
    resolvers: HostResolvers,
    pidfd: Option<OwnedFd>,
    /// Kept open: its peer watches us as we watch it.
    _exit: Option<OwnedFd>,
    forward_signals: bool,
    /// Sockets with more to read than one turn allows.
    unfinished: Vec<SocketId>,
    /// Listeners with a client that had to wait for a descriptor.
    starved: Vec<SocketId>,
    datagram: Box<[u8]>,
    batch: Batch,
    pings_refused: bool,
    /// There have been more than [`CROWD`] TCP flows since memory was given back.
    crowded: bool,
    /// The process's group, for the message about pings.
    gid: Gid,
}

impl Server {
    fn new(network: Network) -> Result<Self, LoopError> {
        let poll = Poll::new().map_err(set_up("create an epoll instance"))?;
        let registry = poll.registry();
        let clock = Clock::new();
        let addresses = network.config.addresses;
        let config = network.config.clone();
        let private = network.config.sharing == Sharing::Private;
        let mut engine = Engine::new(network.config, seed()?);
        engine.set_resolvers(network.resolvers.read(), clock.now());
        for (domain, servers) in network.resolvers.routes() {
            engine.add_dns_route(domain, servers);
        }
        // Half of the descriptors that published ports leave: connections need the others, and a
        // datagram's socket can be given up for a new one while theirs cannot.
        if let Ok((descriptors, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
            let listeners = network.published.iter().map(|published| published.listeners.len());
            engine.set_max_udp_sockets(descriptors.saturating_sub(listeners.sum()) / 2);
        }

        let ports_registry = registry.try_clone().map_err(set_up("create an epoll instance"))?;
        let mut ports = Ports::new(ports_registry, FIRST_PORT);
        let mut container = None;
        let mut inside = Vec::new();
        for mut attached in network.containers {
            let lease = attached.lease;
            let dns = std::mem::take(&mut attached.dns);
            let port = ports.attach(&mut engine, attached, clock.now())?;
            inside.extend(dns.into_iter().map(|socket| (port, socket)));
            container.get_or_insert((port, lease));
        }
        watch(&poll, network.signals.raw_fd(), SIGNALS).map_err(set_up("watch signals"))?;
        if let Some(pidfd) = &network.pidfd {
            watch(&poll, pidfd.as_raw_fd(), CONTAINER).map_err(set_up("watch the container"))?;
        }
        if let Some(exit) = &network.exit {
            match watch(&poll, exit.as_raw_fd(), EXIT) {
                // epoll(7) takes no regular files, and those never hang up.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                    log::warn!("--exit-fd is a file, which nobody can close from afar");
                }
                other => other.map_err(set_up("watch --exit-fd"))?,
            }
        }
        let mut watches = Watches::new().map_err(set_up("watch files"))?;
        // Those of a named network may be the host's later.
        if let Some(path) = network.resolvers.path(!private)
            && let Err(error) = watches.add(path, File::Resolvers)
        {
            log::debug!("changes of the host's resolvers go unnoticed: {error}");
        }
        if let Some(path) = &network.watch_path {
            watches
                .add(path, File::Namespace)
                .map_err(set_up("watch the network namespace's path"))?;
        }
        watch(&poll, watches.raw_fd(), WATCHES).map_err(set_up("watch files"))?;

        let registry = registry.try_clone().map_err(set_up("create an epoll instance"))?;
        let api_registry = registry.try_clone().map_err(set_up("create an epoll instance"))?;
        let api = network
            .api
            .zip(container)
            .map(|(socket, (port, lease))| {
                let container = api::Container { port, lease, addresses };
                Api::new(socket, api_registry, API, FIRST_API_CLIENT, container)
            })
            .transpose()
            .map_err(set_up("watch the API socket"))?;
        let control_registry = registry.try_clone().map_err(set_up("create an epoll instance"))?;
        let control = network
            .control
            .map(|ControlSocket { place, serves }| {
                let instance = match serves {
                    Serves::Private(facts) => Instance::private(facts, config, container),
                    Serves::Shared(definition, journal) => {
                        Instance::shared_by_many(*definition, journal, config)
                    }
                };
                Control::new(place, control_registry, CONTROL, FIRST_CONTROL_CLIENT, instance)
            })
            .transpose()
            .map_err(set_up("watch the control socket"))?;
        let relay_registry = registry.try_clone().map_err(set_up("create an epoll instance"))?;
        let mut sockets = Sockets::new(registry, FIRST_SOCKET, network.outbound);
        if let Ok((descriptors, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            #[allow(clippy::useless_conversion)] // 32 bits where the C library has it so
            sockets.keep_reserve(descriptors.into());
        }
        let (relayed, limit) = (network.relayed, sockets.flow_limit());
        let relay = Relay::new(relay_registry, FIRST_RELAYED, relayed, limit, clock.now())
            .map_err(set_up("watch the ports of the container's loopback"))?;
        let mut published = PublishedPorts::default();
        let to = container.map(|(port, _)| Destination { port, address: None });
        let to: Vec<Destination> = to.into_iter().collect();
        let v6 = addresses.v6.is_some();
        let mirrors = Mirrors::new(network.mirrors, v6, to.clone(), clock.now());
        for (port, (protocol, socket)) in inside {
            let id = engine.listen_dns(port);
            let added = sockets.add_bound(id, protocol, socket);
            added.map_err(set_up("watch the DNS sockets in the container"))?;
        }
        for bound in network.published {
            let mut place = Place { engine: &mut engine, sockets: &mut sockets };
            published.adopt(bound, &to, &mut place).map_err(set_up("watch a published port"))?;
        }
        let mut interfaces = network.interfaces;
        if let Some(interfaces) = &mut interfaces {
            watch(&poll, interfaces.raw_fd(), INTERFACES)
                .map_err(set_up("watch the host's interfaces"))?;
            if sockets.outbound.follows() {
                interfaces.follow().map_err(set_up("list the host's interfaces"))?;
                sockets.outbound.note(interfaces);
            }
        }
        Ok(Self {
            engine,
            poll,
            clock,
            ports,
            private,
            frame: vec![0; MAX_FRAME_LEN].into_boxed_slice(),
            more_frames: false,
            sockets,
            published,
            interfaces,
            api,
            mirrors,
            relay,
            control,
            signals: network.signals,
            watches,
            resolvers: network.resolvers,
            pidfd: network.pidfd,
            _exit: network.exit,
            forward_signals: network.forward_signals,
            unfinished: Vec::new(),
            starved: Vec::new(),
            datagram: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            batch: Batch::new(PER_CALL),
            pings_refused: false,
            crowded: false,
            gid: nix::unistd::getegid(),
        })
    }

    fn run(&mut self) -> Result<Ended, LoopError> {
        let ended = self.turns();
        if let Some(control) = &mut self.control {
            control.farewell(self.clock.now());
        }
        ended
    }

    fn turns(&mut self) -> Result<Ended, LoopError> {
        let mut events = Events::with_capacity(256);
        loop {
            let timeout = self.timeout();
            if let Some(ended) = self.turn(&mut events, timeout)? {
                return Ok(ended);
            }
        }
    }

    /// Waits for something to happen, at most that long, and does all that follows.
    fn turn(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> Result<Option<Ended>, LoopError> {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(source) => return Err(LoopError::Poll { source }),
        }
        let now = self.clock.now();
        for event in events.iter() {
            if let Some(ended) = self.handle_event(event, now) {
                return Ok(Some(ended));
            }
        }
        for id in std::mem::take(&mut self.unfinished) {
            self.handle_readable(id, now);
        }
        self.read_frames(now)?;
        if let Some(control) = &mut self.control {
            control.handle_timeout(&mut control::Target {
                engine: &mut self.engine,
                sockets: &mut self.sockets,
                published: &mut self.published,
                interfaces: self.interfaces.as_mut(),
                ports: &mut self.ports,
                resolvers: &mut self.resolvers,
                now,
            });
        }
        self.handle_ops(now);
        self.engine.handle_timeout(now);
        self.handle_ops(now);
        self.give_memory_back();
        if let Some(api) = &mut self.api {
            api.flush(now);
            api.handle_timeout(now);
        }
        self.relay.handle_timeout(&mut self.sockets, now);
        self.follow_ports(now);
        if let Some(control) = &mut self.control {
            control.flush(now);
            control.handle_abandoned(&mut control::Target {
                engine: &mut self.engine,
                sockets: &mut self.sockets,
                published: &mut self.published,
                interfaces: self.interfaces.as_mut(),
                ports: &mut self.ports,
                resolvers: &mut self.resolvers,
                now,
            });
            if control.asked_to_end() || control.is_over(now) {
                return Ok(Some(Ended::Asked));
            }
        }
        self.more_frames = self.write_frames(now);
        Ok(None)
    }

    /// How long to wait: not at all while something is left to do, else until the next deadline.
    fn timeout(&self) -> Option<Duration> {
        let unfinished = !self.unfinished.is_empty() || self.relay.is_unfinished();
        if self.more_frames || self.ports.any_readable() || unfinished {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now();
        let api = self.api.as_ref().and_then(Api::poll_timeout);
        let mirrors = self.mirrors.poll_timeout();
        let control = self.control.as_ref().and_then(|control| control.poll_timeout(now));
        let others = api.into_iter().chain(mirrors).chain(control).chain(self.relay.poll_timeout());
        self.engine.poll_timeout().into_iter().chain(others).min().map(|at| {
            let micros = at.total_micros().saturating_sub(now.total_micros());
            // Rounded up by epoll to whole milliseconds, so that it does not wake early and spin.
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        })
    }

    fn handle_event(&mut self, event: &Event, now: Instant) -> Option<Ended> {
        match event.token() {
            SIGNALS => {
                while let Some(received) = self.signals.next() {
                    if self.handle_signal(received) {
                        return Some(Ended::Asked);
                    }
                }
            }
            CONTAINER => return Some(Ended::Container),
            EXIT => {
                if event.is_read_closed() || event.is_write_closed() || event.is_error() {
                    return Some(Ended::Asked);
                }
            }
            WATCHES => {
                for file in self.watches.changed() {
                    match file {
                        File::Resolvers => {
                            self.engine.set_resolvers(self.resolvers.read(), now);
                        }
                        File::Namespace => return Some(Ended::Container),
                    }
                }
            }
            INTERFACES => self.follow_interfaces(),
            API => {
                if let Some(api) = &mut self.api {
                    api.accept(now);
                }
            }
            token if Api::is_client(FIRST_API_CLIENT, token) => {
                if let Some(api) = &mut self.api {
                    let (engine, sockets) = (&mut self.engine, &mut self.sockets);
                    let place = Place { engine, sockets };
                    let published = &mut self.published;
                    api.handle_client(token, &mut api::Target { published, place });
                }
            }
            CONTROL => {
                if let Some(control) = &mut self.control {
                    control.accept(now);
                }
            }
            token if self.control.as_ref().is_some_and(|control| control.is_client(token)) => {
                if let Some(control) = &mut self.control {
                    let mut target = control::Target {
                        engine: &mut self.engine,
                        sockets: &mut self.sockets,
                        published: &mut self.published,
                        interfaces: self.interfaces.as_mut(),
                        ports: &mut self.ports,
                        resolvers: &mut self.resolvers,
                        now,
                    };
                    control.handle_client(token, &mut target);
                }
            }
            token if let Some(source) = self.ports.source_of(token) => {
                self.handle_port(source, event, now);
            }
            token if self.relay.is_ours(token) => {
                self.relay.handle_event(event, &mut self.sockets, now);
            }
            token => {
                let id = self.sockets.id_of(token)?;
                self.handle_socket(id, event, now);
            }
        }
        None
    }

    /// Returns whether the signal ends the process.
    fn handle_signal(&mut self, received: Received) -> bool {
        if received.signal == Signal::SIGUSR1 {
            self.dump();
            return false;
        }
        match (&self.pidfd, self.forward_signals) {
            (Some(command), true) => {
                // The terminal has sent its own to the command already.
                if !received.from_terminal
                    && let Err(error) = netns::pidfd_signal(command.as_fd(), received.signal)
                {
                    log::debug!("cannot pass {} on: {error}", received.signal);
                }
                false
            }
            _ => true,
        }
    }

    fn dump(&self) {
        for rule in self.published.iter() {
            let bound = in_words(rule.bound());
            log::info!("published {} {}: {}", rule.id(), rule.publish(), bound.join(" "));
        }
        for line in self.engine.to_string().lines() {
            log::info!("{line}");
        }
    }

    fn handle_socket(&mut self, id: SocketId, event: &Event, now: Instant) {
        let Some(socket) = self.sockets.get_mut(id) else {
            return;
        };
        if let Socket::Tcp(stream) = socket {
            match stream.note(event) {
                Some(Ok(())) => self.engine.handle_host(id, HostEvent::Connected, now),
                Some(Err(error)) => {
                    self.engine.handle_host(id, HostEvent::Failed(error.kind()), now);
                }
                None => self.engine.relay(id, stream, now),
            }
        } else {
            if event.is_error() {
                self.report_icmp_errors(id, now);
            }
            self.handle_readable(id, now);
        }
    }

    /// Tells the engine of the datagrams that did not arrive.
    fn report_icmp_errors(&mut self, id: SocketId, now: Instant) {
        for _ in 0..PER_SOCKET {
            let Some(Socket::Datagram(socket)) = self.sockets.get_mut(id) else {
                return;
            };
            let mut payload = [0; MAX_QUOTE];
            let Ok(Some(error)) = datagram::take_error(socket.as_fd(), &mut payload) else {
                return;
            };
            let (to, mtu) = (error.to, error.mtu);
            let bounce = match (error.by, error.errno) {
                (Some(by), _) => Bounce::Icmp { by, kind: error.kind, code: error.code, mtu },
                (None, libc::EMSGSIZE) => Bounce::TooLong { mtu },
                // Any other error of the kernel's own is what the call returned that sent.
                (None, _) => continue,
            };
            let payload = payload.get(..error.len).unwrap_or_default();
            self.engine.handle_host(id, HostEvent::Bounced { to, bounce, payload }, now);
        }
    }

    fn handle_readable(&mut self, id: SocketId, now: Instant) {
        match self.sockets.get_mut(id) {
            Some(Socket::Listener(_)) => self.accept(id, now),
            Some(Socket::Datagram(_)) => self.receive_batch(id, now),
            Some(Socket::Connected(_)) => self.receive(id, now),
            Some(Socket::Tcp(_)) | None => {}
        }
    }

    /// Accepts the clients of a published port.
    fn accept(&mut self, id: SocketId, now: Instant) {
        for _ in 0..PER_SOCKET {
            let crowded = self.sockets.is_crowded();
            let Some(Socket::Listener(socket)) = self.sockets.get_mut(id) else {
                return;
            };
            if crowded {
                self.starved.push(id);
                return;
            }
            let (stream, client) = match sock::tcp_accept(socket.as_fd()) {
                Ok(accepted) => accepted,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                        self.starved.push(id);
                        log::debug!("a client has to wait: {error}");
                        return;
                    }
                    // That client is gone already; the next one may not be.
                    _ => continue,
                },
            };
            if self.relay.leads_inside(client.ip()) {
                if let Some(port) = self.published.guest_port(id) {
                    self.relay.take_client(stream, client.is_ipv6(), port);
                }
                continue;
            }
            match self.engine.accept(id, client, now) {
                Some(flow) => {
                    if let Err(error) = self.sockets.add_accepted(flow, stream) {
                        self.engine.handle_host(flow, HostEvent::Failed(error.kind()), now);
                    }
                }
                None => {
                    if let Err(error) = sock::tcp_set_reset_on_close(stream.as_fd()) {
                        log::debug!("a client is turned away without a reset: {error}");
                    }
                }
            }
        }
        self.unfinished.push(id);
    }

    /// Receives the datagrams of a socket with many peers.
    fn receive_batch(&mut self, id: SocketId, now: Instant) {
        let mut taken = 0;
        while taken < PER_SOCKET {
            let Some(Socket::Datagram(socket)) = self.sockets.get_mut(id) else {
                return;
            };
            let received = match self.batch.receive(socket.as_fd()) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Of an earlier datagram, and in the error queue too: the next call works.
                Err(_) => 0,
            };
            taken += received.max(1);
            for (datagram, bytes) in (0..received).filter_map(|index| self.batch.get(index)) {
                let (from, to) = (datagram.from, datagram.to);
                let inside = self.relay.leads_inside(from.ip());
                let inside = inside.then(|| self.published.guest_port(id)).flatten();
                // An empty one is one; several are never empty.
                let length = datagram.segment.unwrap_or(bytes.len()).max(1);
                let (first, rest) = bytes.split_at(length.min(bytes.len()));
                for payload in std::iter::once(first).chain(rest.chunks(length)) {
                    if let Some(port) = inside {
                        self.relay.take_datagram((id, to), from, port, payload, now);
                        continue;
                    }
                    self.engine.handle_host(id, HostEvent::Datagram { from, to, payload }, now);
                }
            }
        }
        self.unfinished.push(id);
    }

    /// Receives datagrams of a socket with one peer.
    fn receive(&mut self, id: SocketId, now: Instant) {
        for _ in 0..PER_SOCKET {
            // The engine may close the socket in answer to any datagram.
            let Some(Socket::Connected(socket)) = self.sockets.get_mut(id) else {
                return;
            };
            match datagram::recv_from(socket.as_fd(), &mut self.datagram) {
                Ok(received) => {
                    let payload = self.datagram.get(..received.len).unwrap_or_default();
                    let event =
                        HostEvent::Datagram { from: received.from, to: received.to, payload };
                    self.engine.handle_host(id, event, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.engine.handle_host(id, HostEvent::Failed(error.kind()), now);
                    return;
                }
            }
        }
        self.unfinished.push(id);
    }

    /// Once a crowd of flows has left, what they had of the heap is nobody's.
    fn give_memory_back(&mut self) {
        match self.engine.tcp_flows() {
            0 if self.crowded => {
                self.crowded = false;
                self.engine.shrink();
                alloc::trim();
            }
            flows => self.crowded |= flows >= CROWD,
        }
    }

    /// Carries out the engine's requests.
    fn handle_ops(&mut self, now: Instant) {
        let mut closed = false;
        while let Some(op) = self.engine.poll_host() {
            match op {
                HostOp::Open { socket, kind } => {
                    let purpose =
                        if self.engine.is_for_dns(socket) { Purpose::Dns } else { Purpose::Flow };
                    if let Err(error) = self.sockets.open(socket, kind, purpose) {
                        self.explain(kind, &error);
                        self.engine.handle_host(socket, HostEvent::Failed(error.kind()), now);
                    }
                }
                HostOp::Send { socket, to, from, fields, segment, payload } => {
                    let sent = self.sockets.send(socket, to, from, fields, segment, &payload);
                    self.engine.recycle(payload);
                    if let Err(error) = sent {
                        log::debug!("a datagram to {to:?} is lost: {error}");
                        self.engine.handle_host(
                            socket,
                            HostEvent::Unsent { to, error: error.kind() },
                            now,
                        );
                    }
                }
                HostOp::Relay(socket) => {
                    if let Some(Socket::Tcp(stream)) = self.sockets.get_mut(socket) {
                        self.engine.relay(socket, stream, now);
                    }
                }
                HostOp::Close { socket, reset } => {
                    self.sockets.close(socket, reset);
                    self.relay.forget(socket);
                    closed = true;
                }
            }
        }
        if closed {
            self.unfinished.append(&mut self.starved);
        }
    }

    /// Says once why pings do not work, where the host forbids them.
    fn explain(&mut self, kind: SocketKind, error: &io::Error) {
        let forbidden = error.kind() == io::ErrorKind::PermissionDenied;
        if matches!(kind, SocketKind::Ping { .. }) && forbidden && !self.pings_refused {
            self.pings_refused = true;
            let gid = self.gid;
            log::warn!(
                "ping disabled: net.ipv4.ping_group_range excludes gid {gid} \
                 (sysctl -w net.ipv4.ping_group_range='{gid} {gid}' allows it)"
            );
        } else {
            log::debug!("cannot open {kind:?}: {error}");
        }
    }
}

fn watch(poll: &Poll, fd: i32, token: Token) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)
}

/// A secret from the kernel.
fn seed() -> Result<[u64; 4], LoopError> {
    let mut seed = [0; 4];
    for word in &mut seed {
        *word = getrandom::u64().map_err(|error| LoopError::SetUp {
            step: "get random numbers from the kernel",
            source: io::Error::other(error),
        })?;
    }
    Ok(seed)
}

#[cfg(test)]
mod tests;
