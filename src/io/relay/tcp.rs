//! Connections between a container's loopback and the host's, whichever asks.
//!
//! Bytes are spliced, so they are not copied here. Each way has at most one chunk that was taken and
//! found no room, and while it is there nothing more is taken: back-pressure is the kernel's. An end
//! of one side is passed on once all before it was, a reset at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mio::event::Event;

use super::{Dialer, MAX_CONNECTIONS, Outward, Service, Source, Watch, free_place, loopback};
use crate::config::Protocol;
use crate::engine::host::HostStream;
use crate::io::host::TcpStream;
use crate::sys::pipe::Pipe;
use crate::sys::sock;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// Until the next event.
    Idle,
    /// There is more to do at once.
    More,
    /// It has ended.
    Over,
}

/// How many clients were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    All,
    /// As many as have their turn: there may be more.
    Some,
    /// As many as there are places.
    Full,
    /// As many as there are descriptors.
    Starved,
    /// The listener is none any more.
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Vec<Option<Connection>>,
    /// Places of those that have ended, not free before the end of the turn: an event that is about
    /// who had the place before is none of the next one's.
    over: Vec<usize>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    stage: Stage,
    service: Service,
    port: u16,
    there: Way,
    back: Way,
    /// An event told of an error that reading did not meet.
    failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server's end is on its way to an address of this family; then the other may be tried.
    Connecting {
        v6: bool,
        other: bool,
    },
    Refused {
        v6: bool,
        other: bool,
    },
    Open,
}

/// What goes one way.
#[derive(Debug, Default)]
struct Way {
    /// What was taken and found no room.
    rest: Vec<u8>,
    ended: bool,
    passed_on: bool,
}

/// Bytes taken at once. So many may wait for a slow reader each way.
const CHUNK: usize = 128 << 10;
/// Chunks that go one way before others have their turn.
const PER_TURN: usize = 8;
/// Clients taken from one listener before others have their turn.
const CLIENTS_PER_TURN: usize = 64;

impl Connections {
    pub(super) fn accept(
        &mut self,
        listener: &Outward,
        watch: &Watch,
        dialer: &mut Dialer,
    ) -> Accepted {
        for _ in 0..CLIENTS_PER_TURN {
            let Some(index) = free_place(&mut self.places, MAX_CONNECTIONS) else {
                return Accepted::Full;
            };
            // Before the client is taken: it waits where there is no descriptor for both ends.
            let mut v6 = listener.v6;
            let mut server = dialer.open(Service::Host, Protocol::Tcp, v6);
            if server.as_ref().is_err_and(|error| !sock::is_starved(error)) {
                v6 = !v6;
                server = dialer.open(Service::Host, Protocol::Tcp, v6);
            }
            let server = match server {
                Ok(server) => server,
                Err(error) => {
                    log::debug!("a client of port {} has to wait: {error}", listener.port);
                    return Accepted::Starved;
                }
            };
            let client = match sock::tcp_accept(listener.socket.as_fd()) {
                Ok((client, _)) => client,
                Err(error) if sock::is_starved(&error) => {
                    log::debug!("a client of port {} has to wait: {error}", listener.port);
                    return Accepted::Starved;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Accepted::All,
                Err(error) if sock::is_of_one_client(&error) => continue,
                Err(error) => {
                    let port = listener.port;
                    log::warn!("the container does not reach port {port} any more: {error}");
                    return Accepted::Gone;
                }
            };
            let to = (Service::Host, v6, listener.port);
            let tuned = sock::tune_stream(&client);
            let started = tuned.and_then(|()| self.start(index, client, server, to, watch, dialer));
            if let Err(error) = started {
                log::debug!("port {} is not reached: {error}", listener.port);
            }
        }
        Accepted::Some
    }

    /// Takes a client of the host's to a port of the container's; it is reset if that cannot be.
    pub(super) fn take(
        &mut self,
        client: OwnedFd,
        v6: bool,
        port: u16,
        watch: &Watch,
        dialer: &mut Dialer,
    ) -> io::Result<()> {
        let mut opened = || {
            let full = || io::Error::from(io::ErrorKind::QuotaExceeded);
            let index = free_place(&mut self.places, MAX_CONNECTIONS).ok_or_else(full)?;
            Ok((index, dialer.open(Service::Container, Protocol::Tcp, v6)?))
        };
        match opened() {
            Ok((index, server)) => {
                let to = (Service::Container, v6, port);
                self.start(index, client, server, to, watch, dialer)
            }
            Err(error) => {
                sock::tcp_set_reset_on_close(client.as_fd())?;
                Err(error)
            }
        }
    }

    fn start(
        &mut self,
        index: usize,
        client: OwnedFd,
        server: OwnedFd,
        to: (Service, bool, u16),
        watch: &Watch,
        dialer: &mut Dialer,
    ) -> io::Result<()> {
        let connection = Connection::start(index, client, server, to, watch, dialer)?;
        if let Some(place) = self.places.get_mut(index) {
            *place = Some(connection);
        }
        Ok(())
    }

    pub(super) fn note(&mut self, index: usize, end: End, event: &Event) {
        if let Some(Some(connection)) = self.places.get_mut(index) {
            connection.note(end, event);
        }
    }

    pub(super) fn pump(
        &mut self,
        index: usize,
        watch: &Watch,
        dialer: &mut Dialer,
        pipe: &Pipe,
    ) -> Went {
        if self.over.contains(&index) {
            return Went::Idle;
        }
        let Some(Some(connection)) = self.places.get_mut(index) else {
            return Went::Idle;
        };
        let went = connection.pump(index, watch, dialer, pipe).unwrap_or_else(|error| {
            log::debug!("a connection to port {} ends: {error}", connection.port);
            connection.reset();
            Went::Over
        });
        if went == Went::Over {
            self.over.push(index);
        }
        went
    }

    /// The end of a turn, for those that have ended in it.
    pub(super) fn clear(&mut self) {
        for index in self.over.drain(..) {
            if let Some(place) = self.places.get_mut(index) {
                *place = None;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.places.iter().flatten().count()
    }

    #[cfg(test)]
    pub(super) fn connecting(&self) -> usize {
        let stages = self.places.iter().flatten().map(|connection| connection.stage);
        stages.filter(|stage| matches!(stage, Stage::Connecting { .. })).count()
    }
}

impl Connection {
    fn start(
        index: usize,
        client: OwnedFd,
        mut server: OwnedFd,
        (service, mut v6, port): (Service, bool, u16),
        watch: &Watch,
        dialer: &mut Dialer,
    ) -> io::Result<Self> {
        let mut other = true;
        // Refused at once, as may be on the loopback.
        if sock::connect_to(&server, loopback(v6, port)).is_err() {
            (v6, other) = (!v6, false);
            server = match dialer.connect((service, v6, port), Protocol::Tcp) {
                Ok(server) => server,
                Err(error) => {
                    sock::tcp_set_reset_on_close(client.as_fd())?;
                    return Err(error);
                }
            };
        }
        watch.add(&server, Source::Connection(index, End::Server))?;
        watch.add(&client, Source::Connection(index, End::Client))?;
        Ok(Self {
            client: TcpStream::new(client, false),
            server: TcpStream::new(server, true),
            stage: Stage::Connecting { v6, other },
            service,
            port,
            there: Way::default(),
            back: Way::default(),
            failed: false,
        })
    }

    fn note(&mut self, end: End, event: &Event) {
        match (end, self.stage) {
            (End::Server, Stage::Connecting { v6, other }) => match self.server.note(event) {
                Some(Ok(())) => self.stage = Stage::Open,
                Some(Err(_)) => self.stage = Stage::Refused { v6, other },
                None => {}
            },
            (End::Server, _) => {
                self.failed |= event.is_error();
                self.server.note(event);
            }
            (End::Client, _) => {
                self.failed |= event.is_error();
                self.client.note(event);
            }
        }
    }

    fn pump(
        &mut self,
        index: usize,
        watch: &Watch,
        dialer: &mut Dialer,
        pipe: &Pipe,
    ) -> io::Result<Went> {
        if let Stage::Refused { v6, other } = self.stage {
            if !other {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let server = dialer.connect((self.service, !v6, self.port), Protocol::Tcp)?;
            watch.add(&server, Source::Connection(index, End::Server))?;
            self.server = TcpStream::new(server, true);
            self.stage = Stage::Connecting { v6: !v6, other: false };
        }
        if matches!(self.stage, Stage::Connecting { .. }) {
            // A client that is gone is found out when there is somebody to tell.
            return Ok(Went::Idle);
        }
        let mut more = self.there.pump(&mut self.client, &mut self.server, pipe)?;
        more |= self.back.pump(&mut self.server, &mut self.client, pipe)?;
        if std::mem::take(&mut self.failed) {
            sock::tcp_take_error(self.client.as_fd())?;
            sock::tcp_take_error(self.server.as_fd())?;
        }
        Ok(match (self.there.passed_on && self.back.passed_on, more) {
            (true, _) => Went::Over,
            (false, true) => Went::More,
            (false, false) => Went::Idle,
        })
    }

    /// Lets both ends know that this was no orderly end.
    fn reset(&self) {
        for stream in [&self.client, &self.server] {
            if let Err(error) = sock::tcp_set_reset_on_close(stream.as_fd()) {
                log::trace!("a connection is closed without a reset: {error}");
            }
        }
    }
}

impl Way {
    /// Moves bytes until one side has to wait; returns whether neither has.
    fn pump(&mut self, from: &mut TcpStream, to: &mut TcpStream, pipe: &Pipe) -> io::Result<bool> {
        for _ in 0..PER_TURN {
            if !self.rest.is_empty() {
                let Some(sent) = ready(to.send(&self.rest))? else { return Ok(false) };
                self.rest.drain(..sent);
                if self.rest.is_empty() {
                    self.rest = Vec::new();
                }
                continue;
            }
            if self.ended {
                if !self.passed_on {
                    to.finish();
                    self.passed_on = true;
                }
                return Ok(false);
            }
            let taken = ready(from.pass(to, pipe, CHUNK, &mut self.rest))?;
            let Some(taken) = taken else { return Ok(false) };
            self.ended = taken == 0;
        }
        Ok(true)
    }
}

/// `None` is "not now".
fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}
