//! The event loop: waits, gives the engine what happened, does what it asks.
//!
//! One turn: sockets and signals that are ready -> a batch of frames from the TAP -> the engine's
//! requests to the host -> deadlines -> frames to the TAP. Nothing here decides what a packet
//! means, and no error of one flow ends the loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;

use super::api::{self, Api, ApiSocket};
use super::clock::Clock;
use super::host::{DatagramSocket, Socket, Sockets};
use super::listen::Listener;
use super::outbound::OutboundAddresses;
use super::pcap::{Pcap, PcapError};
use super::resolv::HostResolvers;
use super::signals::{Received, Signals};
use super::tap::Port;
use super::watch::{File, Watches};
use crate::config::{self, Lease};
use crate::engine::host::{Bounce, HostEvent, HostOp, SocketId, SocketKind};
use crate::engine::{Destination, Engine, Instant, PortError};
use crate::sys::netns;
use crate::sys::tun::Tap;
use crate::sys::{datagram, sock};

const TAP: Token = Token(0);
const SIGNALS: Token = Token(1);
const CONTAINER: Token = Token(2);
const EXIT: Token = Token(3);
const WATCHES: Token = Token(4);
const API: Token = Token(5);
const FIRST_API_CLIENT: usize = 8;
const FIRST_SOCKET: usize = FIRST_API_CLIENT + api::MAX_CLIENTS;

/// Frames read from a TAP before other sources have their turn (measured: 32 is best).
const FRAMES_IN: usize = 32;
/// Frames written to TAPs before other sources have their turn.
const FRAMES_OUT: usize = 256;
/// Datagrams read from one socket, and clients accepted from one listener, in a turn.
const PER_SOCKET: usize = 64;
/// How much of a datagram that did not arrive is quoted to the guest, in bytes.
const MAX_QUOTE: usize = 128;
/// The largest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_536;

/// Everything that a network runs on.
#[derive(Debug)]
pub struct Network {
    /// Its addresses and rules.
    pub config: config::Network,
    /// The container's interface and its addresses; `None` is `--network none`.
    pub tap: Option<(Tap, Lease)>,
    /// Published ports.
    pub listeners: Vec<Listener>,
    /// The host's resolvers.
    pub resolvers: HostResolvers,
    /// Its end is the container's end.
    pub pidfd: Option<OwnedFd>,
    /// A namespace path whose end is the container's end.
    pub watch_path: Option<PathBuf>,
    /// A descriptor whose hang-up ends the process.
    pub exit: Option<OwnedFd>,
    /// Signals to us.
    pub signals: Signals,
    /// Whether signals go on to the process of `pidfd` instead of ending us.
    pub forward_signals: bool,
    /// Where to capture frames.
    pub pcap: Option<PathBuf>,
    /// Where requests to forward ports are taken.
    pub api: Option<ApiSocket>,
    /// The local addresses of what the container sends.
    pub outbound: OutboundAddresses,
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
    Pcap(#[from] PcapError),
    #[error("cannot add a container")]
    Port(#[from] PortError),
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
    port: Option<Port>,
    sockets: Sockets,
    api: Option<Api>,
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
    pings_refused: bool,
}

impl Server {
    fn new(network: Network) -> Result<Self, LoopError> {
        let poll = Poll::new().map_err(set_up("create an epoll instance"))?;
        let registry = poll.registry();
        let clock = Clock::new();
        let addresses = network.config.addresses;
        let mut engine = Engine::new(network.config, seed()?);
        engine.set_resolvers(network.resolvers.read(), clock.now());
        // Half of the descriptors: connections need the others, and a datagram's socket can be
        // given up for a new one while theirs cannot.
        if let Ok((descriptors, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            engine.set_max_udp_sockets(usize::try_from(descriptors / 2).unwrap_or(usize::MAX));
        }

        let container = network
            .tap
            .as_ref()
            .map(|(tap, lease)| {
                let port = engine.add_port(*lease, tap.vnet_header(), clock.now())?;
                Ok::<_, LoopError>((port, *lease))
            })
            .transpose()?;
        let port = match network.tap.zip(container) {
            None => None,
            Some(((tap, _), (id, _))) => {
                let pcap = network.pcap.as_deref().map(Pcap::create).transpose()?;
                let port = Port::new(id, tap, pcap);
                registry
                    .register(
                        &mut SourceFd(&port.raw_fd()),
                        TAP,
                        Interest::READABLE | Interest::WRITABLE,
                    )
                    .map_err(set_up("watch the container's interface"))?;
                Some(port)
            }
        };
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
        if let Err(error) = watches.add(network.resolvers.path(), File::Resolvers) {
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
        let mut sockets = Sockets::new(registry, FIRST_SOCKET, network.outbound);
        for listener in network.listeners {
            let to = container.map(|(port, _)| Destination { port, address: None });
            let to = to.into_iter().collect();
            let id = engine.publish(listener.protocol, to, listener.guest_port);
            sockets.add_listener(id, listener).map_err(set_up("watch a published port"))?;
        }
        Ok(Self {
            engine,
            poll,
            clock,
            port,
            sockets,
            api,
            signals: network.signals,
            watches,
            resolvers: network.resolvers,
            pidfd: network.pidfd,
            _exit: network.exit,
            forward_signals: network.forward_signals,
            unfinished: Vec::new(),
            starved: Vec::new(),
            datagram: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            pings_refused: false,
        })
    }

    fn run(&mut self) -> Result<Ended, LoopError> {
        let mut events = Events::with_capacity(256);
        let mut more_frames = false;
        loop {
            let timeout = self.timeout(more_frames);
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                Err(source) => return Err(LoopError::Poll { source }),
            }
            let now = self.clock.now();
            for event in &events {
                if let Some(ended) = self.handle_event(event, now) {
                    return Ok(ended);
                }
            }
            for id in std::mem::take(&mut self.unfinished) {
                self.handle_readable(id, now);
            }
            self.read_frames(now)?;
            self.handle_ops(now);
            self.engine.handle_timeout(now);
            self.handle_ops(now);
            if let Some(api) = &mut self.api {
                api.flush();
                api.handle_timeout(now);
            }
            more_frames = self.write_frames(now);
        }
    }

    /// How long to wait: not at all while something is left to do, else until the next deadline.
    fn timeout(&self, more_frames: bool) -> Option<Duration> {
        let readable = self.port.as_ref().is_some_and(|port| port.readable);
        if more_frames || readable || !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now();
        let api = self.api.as_ref().and_then(Api::poll_timeout);
        self.engine.poll_timeout().into_iter().chain(api).min().map(|at| {
            let micros = at.total_micros().saturating_sub(now.total_micros());
            // Rounded up by epoll to whole milliseconds, so that it does not wake early and spin.
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        })
    }

    fn handle_event(&mut self, event: &Event, now: Instant) -> Option<Ended> {
        match event.token() {
            TAP => {
                if let Some(port) = &mut self.port {
                    // A TAP that is deleted has an error to read, and nothing else to tell.
                    port.readable |= event.is_readable() || event.is_error();
                    port.flush();
                }
            }
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
            API => {
                if let Some(api) = &mut self.api {
                    api.accept(now);
                }
            }
            token if Api::is_client(FIRST_API_CLIENT, token) => {
                if let Some(api) = &mut self.api {
                    let (engine, sockets) = (&mut self.engine, &mut self.sockets);
                    api.handle_client(token, &mut api::Target { engine, sockets });
                }
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
            Some(Socket::Datagram(_) | Socket::Connected(_)) => self.receive(id, now),
            Some(Socket::Tcp(_)) | None => {}
        }
    }

    /// Accepts the clients of a published port.
    fn accept(&mut self, id: SocketId, now: Instant) {
        for _ in 0..PER_SOCKET {
            let Some(Socket::Listener(socket)) = self.sockets.get_mut(id) else {
                return;
            };
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

    /// Receives datagrams.
    fn receive(&mut self, id: SocketId, now: Instant) {
        for _ in 0..PER_SOCKET {
            // The engine may close the socket in answer to any datagram.
            let (socket, connected) = match self.sockets.get_mut(id) {
                Some(Socket::Datagram(socket)) => (DatagramSocket::as_fd(socket), false),
                Some(Socket::Connected(socket)) => (OwnedFd::as_fd(socket), true),
                Some(Socket::Tcp(_) | Socket::Listener(_)) | None => return,
            };
            match datagram::recv_from(socket, &mut self.datagram) {
                Ok(received) => {
                    let payload = self.datagram.get(..received.len).unwrap_or_default();
                    let event =
                        HostEvent::Datagram { from: received.from, to: received.to, payload };
                    self.engine.handle_host(id, event, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if connected => {
                    self.engine.handle_host(id, HostEvent::Failed(error.kind()), now);
                    return;
                }
                // Of an earlier datagram, and in the error queue too: the next call works.
                Err(_) => {}
            }
        }
        self.unfinished.push(id);
    }

    fn read_frames(&mut self, now: Instant) -> Result<(), LoopError> {
        let Some(port) = &mut self.port else {
            return Ok(());
        };
        if !port.readable {
            return Ok(());
        }
        let id = port.id;
        for _ in 0..FRAMES_IN {
            match port.read() {
                Ok(Some(frame)) => {
                    self.engine.handle_frame(id, frame, now);
                }
                Ok(None) => return Ok(()),
                Err(source) => return Err(LoopError::TapGone { source }),
            }
        }
        Ok(())
    }

    /// Carries out the engine's requests.
    fn handle_ops(&mut self, now: Instant) {
        let mut closed = false;
        while let Some(op) = self.engine.poll_host() {
            match op {
                HostOp::Open { socket, kind } => {
                    if let Err(error) = self.sockets.open(socket, kind) {
                        self.explain(kind, &error);
                        self.engine.handle_host(socket, HostEvent::Failed(error.kind()), now);
                    }
                }
                HostOp::Send { socket, to, from, fields, payload } => {
                    let sent = self.sockets.send(socket, to, from, fields, &payload);
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
            let gid = nix::unistd::getegid();
            log::warn!(
                "ping disabled: net.ipv4.ping_group_range excludes gid {gid} \
                 (sysctl -w net.ipv4.ping_group_range='{gid} {gid}' allows it)"
            );
        } else {
            log::debug!("cannot open {kind:?}: {error}");
        }
    }

    /// Writes frames to the TAP; returns whether some are left.
    fn write_frames(&mut self, now: Instant) -> bool {
        let Some(port) = &mut self.port else {
            return false;
        };
        for _ in 0..FRAMES_OUT {
            if port.is_blocked() {
                // The TAP's next event goes on.
                return false;
            }
            if !self.engine.poll_frame(now, |_, frame| port.write(frame)) {
                return false;
            }
        }
        true
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
