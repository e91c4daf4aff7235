//! The event loop: waits, gives the engine what happened, does what it asks.
//!
//! One turn: sockets and signals that are ready -> a batch of frames from each TAP, those for other
//! TAPs going straight there -> the engine's requests to the host -> if those were several, what they
//! brought meanwhile, so that an answer carries the acknowledgement of its request -> deadlines ->
//! frames to the TAPs. Nothing here decides what a packet means, and no error of one flow ends the loop.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use log::Level;
use mio::event::Event;
use mio::{Events, Poll, Token};
use nix::sys::signal::Signal;
use nix::unistd::Gid;

use super::api::{self, Api, ApiSocket};
use super::control::{self, Control, ControlSocket};
use super::host::Sockets;
use super::listen::{Published, in_words};
use super::mirror::{Mirrors, SocketTables};
use super::notify::Manager;
use super::outbound::OutboundPolicy;
use super::overlay::Underlay;
use super::ports::{self, AttachPortError, Container, Ports};
use super::published::{Place, PublishedPorts};
use super::relay::{self, Relay};
use super::resolv::HostResolvers;
use super::signals::{Received, Signals};
use super::watch::{File, Watches};
use crate::clock::Clock;
use crate::config::{self, Egress, Limit};
use crate::engine::host::SocketId;
use crate::engine::{Engine, Instant, SMALLEST_RING};
use crate::survivor::Record;
use crate::sys::alloc;
use crate::sys::datagram::Batch;
use crate::sys::interfaces::Interfaces;
use crate::sys::process;

mod follow;
mod frames;
mod set_up;
mod sockets;

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
/// Streams that take long enough to serve for an answer to the first to have come meanwhile.
const SEVERAL: usize = 2;
/// Datagrams received by one system call.
const PER_CALL: usize = 32;
/// TCP flows whose memory is worth a system call when they are gone.
const CROWD: usize = 500;
/// What is mapped page by page is what it is meant for.
const _: () = assert!(alloc::RING == SMALLEST_RING);
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
    /// Descriptors whose hang-up ends the process: `--exit-fd`, and what it depends on.
    pub exits: Vec<OwnedFd>,
    /// Signals to us.
    pub signals: Signals,
    /// Whether signals go on to the process of `pidfd` instead of ending us.
    pub forward_signals: bool,
    /// Who has started us, and may have the configuration read again.
    pub manager: Manager,
    /// Where requests to forward ports are taken.
    pub api: Option<ApiSocket>,
    /// Where questions are answered and changes are taken.
    pub control: Option<ControlSocket>,
    /// Where changes of the published ports are noted, and the places of those that are there.
    pub record: Option<(Record, Vec<usize>)>,
    /// What the container may reach outside, where that was changed before this process.
    pub egress: Option<Egress>,
    /// The local ends of what the container sends.
    pub outbound: OutboundPolicy,
    /// What is between the hosts of a network that spans several.
    pub underlay: Option<Underlay>,
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
    alloc::unmap_program();
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
    underlay: Option<Underlay>,
    resolvers: HostResolvers,
    /// When those were looked at last because one could not be asked.
    doubted_at: Option<Instant>,
    pidfd: Option<OwnedFd>,
    /// Kept open: their peers watch us as we watch them.
    _exits: Vec<OwnedFd>,
    forward_signals: bool,
    manager: Manager,
    /// Sockets with more to read than one turn allows.
    unfinished: Vec<SocketId>,
    /// Listeners with a client that had to wait for a descriptor.
    starved: Vec<SocketId>,
    /// When to try those again that the system had nothing for: what others give back, nobody tells.
    retry_at: Option<Instant>,
    datagram: Box<[u8]>,
    batch: Batch,
    pings_refused: bool,
    /// There have been more than [`CROWD`] TCP flows since memory was given back.
    crowded: bool,
    /// The process's group, for the message about pings.
    gid: Gid,
}

impl Server {
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
        // Before the events, of which theirs are none then: each has one share of a turn.
        for id in std::mem::take(&mut self.unfinished) {
            let now = self.clock.now();
            self.handle_readable(id, now);
        }
        let now = match self.handle_events(events, timeout)? {
            ControlFlow::Continue(now) => now,
            ControlFlow::Break(ended) => return Ok(Some(ended)),
        };
        self.look_for_descriptors(now);
        if let Some(gone) = self.ports.handle_timeout(now) {
            if let Some(process) = &self.pidfd {
                if process::has_ended(process.as_fd()) {
                    return Ok(Some(Ended::Container));
                }
                self.ports.look_again(now);
            }
            for id in gone {
                self.handle_container_gone(id, now);
            }
        }
        self.ports.resume(now);
        self.read_frames(now)?;
        if let Some((control, mut target)) = self.control(now) {
            control.handle_timeout(&mut target);
        }
        let mut now = now;
        if self.handle_ops(now) >= SEVERAL {
            match self.handle_events(events, Some(Duration::ZERO))? {
                ControlFlow::Continue(later) => now = later,
                ControlFlow::Break(ended) => return Ok(Some(ended)),
            }
            self.handle_ops(now);
        }
        self.engine.handle_timeout(now);
        self.handle_ops(now);
        self.give_memory_back();
        if let Some(api) = &mut self.api {
            api.flush(now);
            api.handle_timeout(now);
        }
        self.relay.handle_timeout(&mut self.sockets, now);
        self.follow_ports(now);
        if let Some((control, mut target)) = self.control(now) {
            control.tell_of_lookups(target.engine, now);
            control.flush(now);
            control.handle_abandoned(&mut target);
            if control.asked_to_end() || control.is_over(now) {
                return Ok(Some(Ended::Asked));
            }
        }
        self.more_frames = self.write_frames(now);
        Ok(None)
    }

    /// Waits for events, at most that long, and handles them. Returns when that was.
    fn handle_events(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> Result<ControlFlow<Ended, Instant>, LoopError> {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(source) => return Err(LoopError::Poll { source }),
        }
        let now = self.clock.now();
        for event in events.iter() {
            if let Some(ended) = self.handle_event(event, now) {
                return Ok(ControlFlow::Break(ended));
            }
        }
        Ok(ControlFlow::Continue(now))
    }

    /// How long to wait: not at all while something is left to do, else until the next deadline.
    fn timeout(&self) -> Option<Duration> {
        let unfinished =
            !self.unfinished.is_empty() || self.relay.is_unfinished() || self.engine.has_requests();
        if self.more_frames || self.ports.any_readable() || unfinished {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now();
        let api = self.api.as_ref().and_then(Api::poll_timeout);
        let mirrors = self.mirrors.poll_timeout();
        let control = self.control.as_ref().and_then(|control| control.poll_timeout(now));
        let others = api.into_iter().chain(mirrors).chain(control).chain(self.relay.poll_timeout());
        let others = others.chain(self.ports.poll_timeout()).chain(self.retry_at);
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
                    if self.handle_signal(received, now) {
                        return Some(Ended::Asked);
                    }
                }
            }
            CONTAINER => return Some(Ended::Container),
            EXIT => {
                // Not where the other side has only said everything (`shutdown(2)`).
                if event.is_write_closed() || event.is_error() {
                    return Some(Ended::Asked);
                }
            }
            WATCHES => {
                for file in self.watches.changed() {
                    match file {
                        File::Resolvers => self.follow_resolvers(Level::Warn, now),
                        File::Hosts => self.follow_hosts(now),
                        File::Namespace => return Some(Ended::Container),
                    }
                }
            }
            INTERFACES => self.follow_interfaces(),
            API => {
                if let Some(api) = &mut self.api {
                    api.accept(now);
                    if api.was_full() {
                        self.engine.count_limit(Limit::Clients);
                    }
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
                    if control.was_full() {
                        self.engine.count_limit(Limit::Clients);
                    }
                }
            }
            token if self.control.as_ref().is_some_and(|control| control.is_client(token)) => {
                if let Some((control, mut target)) = self.control(now) {
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

    /// The control socket, beside what its clients may look at and change.
    fn control(&mut self, now: Instant) -> Option<(&mut Control, control::Target<'_>)> {
        let control = self.control.as_mut()?;
        let target = control::Target {
            engine: &mut self.engine,
            sockets: &mut self.sockets,
            published: &mut self.published,
            interfaces: self.interfaces.as_mut(),
            ports: &mut self.ports,
            resolvers: &mut self.resolvers,
            now,
        };
        Some((control, target))
    }

    /// Returns whether the signal ends the process.
    fn handle_signal(&mut self, received: Received, now: Instant) -> bool {
        if received.signal == Signal::SIGUSR1 {
            self.dump();
            return false;
        }
        match (&self.pidfd, self.forward_signals) {
            (Some(command), true) => {
                // The terminal has sent its own to the command already.
                if !received.from_terminal
                    && let Err(error) = process::signal(command.as_fd(), received.signal)
                {
                    log::debug!("cannot pass {} on: {error}", received.signal);
                }
                false
            }
            _ if received.signal == Signal::SIGHUP && self.manager.is_there() => {
                self.reload(now);
                false
            }
            _ => true,
        }
    }

    /// Reads again what may be changed while we run.
    fn reload(&mut self, now: Instant) {
        let Self { manager, engine, resolvers, .. } = self;
        manager.reload(|| {
            resolvers.renew(engine, Level::Warn, now);
        });
    }

    fn dump(&self) {
        for rule in self.published.iter() {
            let bound = in_words(rule.bound());
            log::info!("published {} {}: {}", rule.id(), rule.publish(), bound.join(" "));
        }
        for line in self.engine.to_string().lines() {
            log::info!("{line}");
        }
        // Lines are written one by one: whoever reads along knows by this that it was all.
        log::info!("end of dump");
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
}

#[cfg(test)]
mod tests;
