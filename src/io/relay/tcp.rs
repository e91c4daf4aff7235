//! Connections between a container's loopback and the host's.
//!
//! Each way has at most one chunk that the reader has yet to take, and while it is there nothing
//! more is read: back-pressure is the kernel's. An end of one side is passed on once all before it
//! was, a reset at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mio::event::Event;

use super::{MAX_CONNECTIONS, Outward, Source, Watch, free_place, loopback};
use crate::engine::host::HostStream;
use crate::io::host::TcpStream;
use crate::sys::sock::{self, Local};

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Inside,
    Host,
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
    /// As many as there are places.
    Full,
    /// As many as there are descriptors.
    Starved,
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Vec<Option<Connection>>,
}

#[derive(Debug)]
struct Connection {
    inside: TcpStream,
    host: TcpStream,
    stage: Stage,
    port: u16,
    outwards: Way,
    inwards: Way,
    /// An event told of an error that reading did not meet.
    failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The host's end is on its way to an address of this family; then the other may be tried.
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
    /// What was read and could not be written.
    rest: Vec<u8>,
    ended: bool,
    passed_on: bool,
}

/// Chunks that go one way before others have their turn.
const PER_TURN: usize = 16;

impl Connections {
    pub(super) fn accept(&mut self, listener: &Outward, watch: &Watch) -> Accepted {
        loop {
            let Some(index) = free_place(&mut self.places, MAX_CONNECTIONS) else {
                return Accepted::Full;
            };
            let inside = match sock::tcp_accept(listener.socket.as_fd()) {
                Ok((inside, _)) => inside,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Accepted::All,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                        log::debug!("a client of port {} has to wait: {error}", listener.port);
                        return Accepted::Starved;
                    }
                    // That client is gone already; the next one may not be.
                    _ => continue,
                },
            };
            match Connection::start(index, inside, listener, watch) {
                Ok(connection) => {
                    if let Some(place) = self.places.get_mut(index) {
                        *place = Some(connection);
                    }
                }
                Err(error) => log::debug!("port {} is not reached: {error}", listener.port),
            }
        }
    }

    pub(super) fn note(&mut self, index: usize, end: End, event: &Event) {
        if let Some(Some(connection)) = self.places.get_mut(index) {
            connection.note(end, event);
        }
    }

    pub(super) fn pump(&mut self, index: usize, watch: &Watch, scratch: &mut [u8]) -> Went {
        let Some(Some(connection)) = self.places.get_mut(index) else {
            return Went::Idle;
        };
        let went = connection.pump(index, watch, scratch).unwrap_or_else(|error| {
            log::debug!("a connection to port {} ends: {error}", connection.port);
            connection.reset();
            Went::Over
        });
        if went == Went::Over
            && let Some(place) = self.places.get_mut(index)
        {
            *place = None;
        }
        went
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.places.iter().flatten().count()
    }
}

impl Connection {
    fn start(index: usize, inside: OwnedFd, listener: &Outward, watch: &Watch) -> io::Result<Self> {
        let (v6, port) = (listener.v6, listener.port);
        let connected = sock::tcp_connect_start(loopback(v6, port), Local::default());
        // Refused at once, as may be on the loopback.
        let (host, v6, other) = match connected {
            Ok(host) => (host, v6, true),
            Err(_) => match sock::tcp_connect_start(loopback(!v6, port), Local::default()) {
                Ok(host) => (host, !v6, false),
                Err(error) => {
                    sock::tcp_set_reset_on_close(inside.as_fd())?;
                    return Err(error);
                }
            },
        };
        watch.add(&host, Source::Connection(index, End::Host))?;
        watch.add(&inside, Source::Connection(index, End::Inside))?;
        Ok(Self {
            inside: TcpStream::new(inside, false),
            host: TcpStream::new(host, true),
            stage: Stage::Connecting { v6, other },
            port,
            outwards: Way::default(),
            inwards: Way::default(),
            failed: false,
        })
    }

    fn note(&mut self, end: End, event: &Event) {
        match (end, self.stage) {
            (End::Host, Stage::Connecting { v6, other }) => match self.host.note(event) {
                Some(Ok(())) => self.stage = Stage::Open,
                Some(Err(_)) => self.stage = Stage::Refused { v6, other },
                None => {}
            },
            (End::Host, _) => {
                self.failed |= event.is_error();
                self.host.note(event);
            }
            (End::Inside, _) => {
                self.failed |= event.is_error();
                self.inside.note(event);
            }
        }
    }

    fn pump(&mut self, index: usize, watch: &Watch, scratch: &mut [u8]) -> io::Result<Went> {
        if let Stage::Refused { v6, other } = self.stage {
            if !other {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let host = sock::tcp_connect_start(loopback(!v6, self.port), Local::default())?;
            watch.add(&host, Source::Connection(index, End::Host))?;
            self.host = TcpStream::new(host, true);
            self.stage = Stage::Connecting { v6: !v6, other: false };
        }
        if matches!(self.stage, Stage::Connecting { .. }) {
            // A client that is gone is found out when there is somebody to tell.
            return Ok(Went::Idle);
        }
        let mut more = self.outwards.pump(&mut self.inside, &mut self.host, scratch)?;
        more |= self.inwards.pump(&mut self.host, &mut self.inside, scratch)?;
        if std::mem::take(&mut self.failed) {
            sock::tcp_take_error(self.inside.as_fd())?;
            sock::tcp_take_error(self.host.as_fd())?;
        }
        Ok(match (self.outwards.passed_on && self.inwards.passed_on, more) {
            (true, _) => Went::Over,
            (false, true) => Went::More,
            (false, false) => Went::Idle,
        })
    }

    /// Lets both ends know that this was no orderly end.
    fn reset(&self) {
        for stream in [&self.inside, &self.host] {
            if let Err(error) = sock::tcp_set_reset_on_close(stream.as_fd()) {
                log::trace!("a connection is closed without a reset: {error}");
            }
        }
    }
}

impl Way {
    /// Moves bytes until one side has to wait; returns whether neither has.
    fn pump(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
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
            let Some(length) = ready(from.recv(scratch))? else { return Ok(false) };
            if length == 0 {
                self.ended = true;
                continue;
            }
            let bytes = scratch.get(..length).unwrap_or_default();
            let sent = ready(to.send(bytes))?.unwrap_or(0);
            self.rest.extend_from_slice(bytes.get(sent..).unwrap_or_default());
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
