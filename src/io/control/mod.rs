//! The control socket: a running network is asked and changed.
//!
//! How clients are served without waiting for any is in `clients`; what a line says is in
//! [`crate::control`]; what each command does is in `commands`, a file for each family. This file
//! joins them: the table of commands, the streams of events, the captures.

mod capture;
mod commands;
mod instance;
pub mod roll;
mod shared;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use mio::{Registry, Token};
use smoltcp::time::Duration;

use self::capture::ActiveCapture;
use self::commands::dns_log::Following;
use self::commands::{Context, Reply};
pub(super) use self::instance::Instance;
pub use self::instance::{Facts, Serves};
use super::HostResolvers;
use super::clients::{Clients, Limits};
use super::host::Sockets;
use super::ports::Ports;
use super::published::{self, PublishedPorts};
use crate::clock::since_epoch;
use crate::config::Egress;
use crate::control::{self, Event, Kind, MAX_REQUEST, PortMapping, Refusal, Request};
use crate::engine::{Engine, Instant, PortId};
use crate::runtime_dir::{Directory, Place};
use crate::sys::interfaces::Interfaces;

/// Clients at once.
pub(super) const MAX_CLIENTS: usize = 256;
/// Clients at once that read a stream: others always find a place.
const MAX_STREAMS: usize = 32;
/// Events that are remembered for those who ask later.
const MAX_EVENTS: usize = 256;

const LIMITS: Limits = Limits {
    name: "control socket",
    clients: MAX_CLIENTS,
    request: MAX_REQUEST,
    answer: 256 * 1024,
    patience: Duration::from_secs(10),
    grace: Duration::from_millis(100),
};

/// The control socket of a network that is about to be served, and who its container is.
#[derive(Debug)]
pub struct ControlSocket {
    /// Where it is.
    pub place: Place,
    /// What it is for.
    pub serves: Serves,
}

/// The control socket and its clients.
#[derive(Debug)]
pub(super) struct Control {
    /// Removed before clients see the end.
    directory: Directory,
    clients: Clients<Session>,
    first_client: usize,
    instance: Instance,
    events: EventLog,
    /// Whether some client captures frames: nobody else pays for it.
    capturing: bool,
    /// The same of those who read what is asked of the DNS forwarder.
    following: bool,
    /// Whether the process was asked to end.
    end: bool,
}

impl Drop for Control {
    /// Before the socket goes: whoever finds that nobody answers there would bring back whom the state
    /// tells of.
    fn drop(&mut self) {
        self.directory.forget_state();
        self.clients.remove_file();
    }
}

/// What a client has asked for that goes on.
#[derive(Debug, Default)]
struct Session {
    events: bool,
    capture: Option<ActiveCapture>,
    /// What is asked of the DNS forwarder.
    lookups: Option<Following>,
    /// A container that is on its way to a named network.
    pending: Option<commands::members::Pending>,
    /// Containers that leave a named network when this client does.
    held: Vec<Rc<()>>,
}

/// What has happened, the latest last.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    past: VecDeque<Event>,
    /// Those that nobody was told of yet.
    new: Vec<Event>,
}

/// What a request acts on.
pub(super) struct Target<'a> {
    pub(super) engine: &'a mut Engine,
    pub(super) sockets: &'a mut Sockets,
    pub(super) published: &'a mut PublishedPorts,
    pub(super) interfaces: Option<&'a mut Interfaces>,
    pub(super) ports: &'a mut Ports,
    pub(super) resolvers: &'a mut HostResolvers,
    pub(super) now: Instant,
}

impl Control {
    /// Registers the listener as `token` and clients from `first_client` on, so many but no more
    /// than [`MAX_CLIENTS`].
    pub(super) fn new(
        place: Place,
        registry: Registry,
        token: Token,
        first_client: usize,
        instance: Instance,
        clients: usize,
    ) -> io::Result<Self> {
        let limits = Limits { clients: clients.min(MAX_CLIENTS), ..LIMITS };
        let mut control = Self {
            clients: Clients::new(place.socket, registry, token, first_client, limits)?,
            directory: place.directory,
            first_client,
            instance,
            events: EventLog::default(),
            capturing: false,
            following: false,
            end: false,
        };
        control.tell_of_containers("connect");
        Ok(control)
    }

    /// Whether a token is one of a client's.
    pub(super) fn is_client(&self, token: Token) -> bool {
        (self.first_client..self.first_client + MAX_CLIENTS).contains(&token.0)
    }

    /// Whether a client has asked for the end.
    pub(super) fn asked_to_end(&self) -> bool {
        self.end
    }

    /// Takes note of what a container may reach outside, where that is not what it might at first.
    pub(super) fn note_egress(&mut self, port: PortId, egress: Egress) {
        self.instance.note_egress(port, egress);
    }

    /// Whether the network is a named one on which nobody has been for a while.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.instance.is_over(now)
    }

    /// Takes containers from a named network that nobody holds any more who did. To be called after
    /// [`Control::flush`], which lets clients go.
    pub(super) fn handle_abandoned(&mut self, target: &mut Target<'_>) {
        while let Some(port) = self.instance.abandoned() {
            target.ports.detach(target.engine, port, target.now);
            let (engine, sockets) = (&mut *target.engine, &mut *target.sockets);
            target.published.forget(port, &mut published::Place { engine, sockets });
            self.handle_gone(port);
        }
    }

    /// The container at a port is gone.
    pub(super) fn handle_gone(&mut self, port: PortId) {
        commands::forget(&mut self.instance, &mut self.events, port);
        self.tell();
    }

    /// Takes new clients.
    pub(super) fn accept(&mut self, now: Instant) {
        self.clients.accept(now);
    }

    /// Whether a client has come, since this was asked last, when all places were taken.
    pub(super) fn was_full(&mut self) -> bool {
        std::mem::take(&mut self.clients.full)
    }

    /// Reads what a client has sent, and does what it asks: one request, before other sources have
    /// their turn.
    pub(super) fn handle_client(&mut self, token: Token, target: &mut Target<'_>) {
        self.handle_request(token, target);
        self.tell();
        self.note_streams();
    }

    fn handle_request(&mut self, token: Token, target: &mut Target<'_>) {
        let streams = self.clients.iter().filter(|client| client.session.streams()).count();
        let Some(client) = self.clients.read(token).filter(|client| client.has_room()) else {
            return;
        };
        let Some(line) = control::take_line(&mut client.received) else {
            if client.received.len() >= MAX_REQUEST {
                let refusal = Refusal::new(Kind::Syntax, "the request is too long");
                client.answer_and_leave(&control::answer(&Err(refusal)));
            } else if client.ended {
                // The rest of it will never come.
                client.received.clear();
            }
            return;
        };
        let mut context = Context {
            engine: target.engine,
            sockets: target.sockets,
            published: target.published,
            interfaces: target.interfaces.as_deref_mut(),
            ports: target.ports,
            resolvers: target.resolvers,
            now: target.now,
            instance: &mut self.instance,
            events: &mut self.events,
            session: &mut client.session,
            fds: std::mem::take(&mut client.fds),
            stranger: client.stranger.map(nix::unistd::Uid::as_raw),
            may_stream: streams < MAX_STREAMS,
            end: &mut self.end,
        };
        let result = Request::parse(&line).and_then(|request| context.run(&request));
        if let Err(refusal) = &result {
            log::debug!("control socket: {refusal}");
        }
        let (result, follow) = match result {
            Ok(Reply::Value(value)) => (Ok(value), Vec::new()),
            Ok(Reply::Stream(value, follow)) => (Ok(value), follow),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        client.answer(&control::answer(&result), Vec::new());
        for event in follow {
            client.answer(&control::event(&event), Vec::new());
        }
        client.done(client.session.stays(), target.now);
    }

    /// Tells those who read it what was asked of the DNS forwarder, as far as they keep up.
    pub(super) fn tell_of_lookups(&mut self, engine: &Engine, now: Instant) {
        if !self.following {
            return;
        }
        for client in self.clients.iter_mut() {
            while client.has_room()
                && let Some(following) = &mut client.session.lookups
            {
                if let Some(lookup) = following.next(engine, &self.instance, now) {
                    client.answer(&control::event(&commands::to_value(&lookup)), Vec::new());
                } else if following.is_over(&self.instance) {
                    client.answer_and_leave(&[]);
                    break;
                } else {
                    break;
                }
            }
        }
        self.note_streams();
    }

    /// Sends answers, see [`Clients::flush`].
    pub(super) fn flush(&mut self, now: Instant) {
        for client in self.clients.iter_mut() {
            if let Some(capture) = &mut client.session.capture {
                capture.flush();
                if let Some(end) = capture.end() {
                    client.session.capture = None;
                    client.answer(&control::event(&commands::to_value(&end)), Vec::new());
                    client.done(client.session.stays(), now);
                }
            }
        }
        self.clients.flush(now);
        if self.capturing {
            self.note_streams();
        }
    }

    /// When to call [`Control::handle_timeout`].
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let waiting = self.capturing
            && self.clients.iter().any(|client| {
                client.session.capture.as_ref().is_some_and(ActiveCapture::is_waiting)
            });
        let unfinished = !self.clients.unfinished().is_empty();
        let soon = waiting.then_some(now + CAPTURE_RETRY);
        let at_once = unfinished.then_some(now);
        let over = self.instance.ends_at();
        self.clients.poll_timeout().into_iter().chain(soon).chain(at_once).chain(over).min()
    }

    /// Ends clients that took too long, takes those that had to wait, and goes on with those that
    /// have asked for more than one turn allows.
    pub(super) fn handle_timeout(&mut self, target: &mut Target<'_>) {
        for token in self.clients.unfinished() {
            self.handle_client(token, target);
        }
        self.clients.handle_timeout(target.now, || {
            control::answer(&Err(Refusal::new(Kind::Syntax, "no request came in time")))
        });
    }

    /// Hands a frame as the TAP has it, without its virtio header, to those who capture. One that
    /// is `passed_on` by the switch was there before, at the port of its sender.
    pub(super) fn record(&mut self, port: PortId, frame: &[u8], passed_on: bool) {
        if !self.capturing {
            return;
        }
        for client in self.clients.iter_mut() {
            if let Some(capture) = &mut client.session.capture {
                capture.record(port, frame, passed_on, since_epoch());
            }
        }
    }

    /// Whether [`Control::record`] has anybody to hand frames to.
    pub(super) fn is_capturing(&self) -> bool {
        self.capturing
    }

    /// Tells those who listen that the containers are no longer connected.
    pub(super) fn farewell(&mut self, now: Instant) {
        self.tell_of_containers("disconnect");
        self.clients.flush(now);
    }

    fn tell_of_containers(&mut self, action: &str) {
        for (id, name) in self.instance.names() {
            self.events.push(action, self.instance.network(), &id, &name, None);
        }
        self.tell();
    }

    /// Tells of what is new.
    fn tell(&mut self) {
        for event in std::mem::take(&mut self.events.new) {
            let line = control::event(&commands::to_value(&event));
            for client in self.clients.iter_mut().filter(|client| client.session.events) {
                if client.has_room() {
                    client.answer(&line, Vec::new());
                } else {
                    client.answer_and_leave(&[]);
                }
            }
            self.events.remember(event);
        }
    }

    fn note_streams(&mut self) {
        self.capturing = self.clients.iter().any(|client| client.session.capture.is_some());
        self.following = self.clients.iter().any(|client| client.session.lookups.is_some());
    }
}

impl Session {
    fn streams(&self) -> bool {
        self.events || self.capture.is_some() || self.lookups.is_some()
    }

    /// Whether it may be silent for as long as it likes.
    fn stays(&self) -> bool {
        self.streams() || !self.held.is_empty()
    }
}

impl EventLog {
    /// Something has happened.
    fn push(
        &mut self,
        action: &str,
        network: &str,
        id: &str,
        name: &str,
        port: Option<PortMapping>,
    ) {
        let time_ms = u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX);
        let (action, network) = (action.to_owned(), network.to_owned());
        let (id, name) = (id.to_owned(), name.to_owned());
        self.new.push(Event { time_ms, action, network, id, name, port });
    }

    fn remember(&mut self, event: Event) {
        if self.past.len() >= MAX_EVENTS {
            self.past.pop_front();
        }
        self.past.push_back(event);
    }

    /// What happened since then, as far as it is remembered.
    fn since(&self, time_ms: u64) -> impl Iterator<Item = &Event> {
        self.past.iter().filter(move |event| event.time_ms >= time_ms)
    }
}

/// How long a reader of a capture that is too slow is left alone.
const CAPTURE_RETRY: Duration = Duration::from_millis(20);

/// The descriptors that came with a request, if they are as many as it takes.
fn exactly<const N: usize>(fds: Vec<OwnedFd>, what: &str) -> Result<[OwnedFd; N], Refusal> {
    fds.try_into().map_err(|fds: Vec<OwnedFd>| {
        let message = format!("{what} takes {N} descriptors, but {} came", fds.len());
        Refusal::new(Kind::Arguments, message)
    })
}

#[cfg(test)]
mod tests;
