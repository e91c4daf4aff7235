//! One connection to the control socket of a network.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ClientError;
use crate::control::{Request, Said, take_line};
use crate::sys::unix;
use crate::{runtime_dir, user};

/// How long an answer may take, in milliseconds.
const PATIENCE_MS: u16 = 5000;

/// A connection on which one request is answered after the other.
#[derive(Debug)]
pub struct Connection {
    /// What the network is called in messages.
    name: String,
    stream: UnixStream,
    received: Vec<u8>,
}

/// What came next on a connection.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// A line of a stream.
    Event(Value),
    /// Nothing more for now.
    NotYet,
    /// The other side has ended.
    End,
}

impl Connection {
    /// Connects to a socket; `None` if nobody listens there.
    ///
    /// # Errors
    /// What connect(2) reports.
    pub fn open(name: &str, path: &Path) -> Result<Option<Self>, ClientError> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Some(Self { name: name.to_owned(), stream, received: Vec::new() })),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(ClientError::Talk { name: name.to_owned(), source }),
        }
    }

    /// Connects to the process of another user's network, `None` if nobody listens there. Anybody may
    /// have put a socket where that one should be, so whose process it is counts.
    ///
    /// # Errors
    /// What connect(2) reports, and a process of somebody else.
    pub fn open_of(owner: Uid, name: &str) -> Result<Option<Self>, ClientError> {
        let called = format!("{owner}/{name}");
        let mut failed = None;
        for path in runtime_dir::sockets_of(owner, name) {
            match Self::open(&called, &path) {
                Ok(None) => {}
                Ok(Some(connection)) => {
                    let peer = getsockopt(&connection.stream, sockopt::PeerCredentials);
                    let peer = peer.ok().and_then(|peer| user::outer_of(Uid::from_raw(peer.uid())));
                    if peer == Some(owner) {
                        return Ok(Some(connection));
                    }
                    failed = Some(ClientError::Impostor { name: called.clone() });
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// A refusal, and what keeps the answer from coming.
    pub fn ask<T: DeserializeOwned>(
        &mut self,
        execute: &str,
        arguments: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.ask_with(execute, arguments, &[])
    }

    /// The same, with descriptors that go along.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn ask_with<T: DeserializeOwned>(
        &mut self,
        execute: &str,
        arguments: &impl Serialize,
        fds: &[OwnedFd],
    ) -> Result<T, ClientError> {
        let arguments = serde_json::to_value(arguments).unwrap_or_default();
        let answer = self.answer(execute, arguments, fds)?;
        serde_json::from_value(answer)
            .map_err(|_| ClientError::Language { name: self.name.clone() })
    }

    /// The answer as it came: what is the same for every type of one.
    fn answer(
        &mut self,
        execute: &str,
        arguments: Value,
        fds: &[OwnedFd],
    ) -> Result<Value, ClientError> {
        let name = self.name.clone();
        let talk = |source| ClientError::Talk { name: name.clone(), source };
        let language = || ClientError::Language { name: name.clone() };
        let Value::Object(arguments) = arguments else {
            return Err(language());
        };
        let line = Request { execute: execute.to_owned(), arguments }.line();
        self.send(&line, fds).map_err(talk)?;
        loop {
            if let Some(line) = take_line(&mut self.received) {
                return match Said::parse(&line) {
                    Some(Said::Return(value)) => Ok(value),
                    Some(Said::Error(source)) => {
                        Err(ClientError::Refused { name: name.clone(), source })
                    }
                    // Of a stream that was asked for before.
                    Some(Said::Event(_)) => continue,
                    None => Err(language()),
                };
            }
            if !self.wait(Some(PATIENCE_MS)).map_err(talk)? {
                return Err(talk(io::ErrorKind::TimedOut.into()));
            }
            if !self.fill().map_err(talk)? {
                return Err(talk(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Asks, and waits until the other side has answered, whatever it says. By calls that a process
    /// may make which has given everything up.
    ///
    /// # Errors
    /// What keeps it from being asked, and `UnexpectedEof` where the other side has ended.
    pub fn tell(&mut self, execute: &str, arguments: &impl Serialize) -> io::Result<()> {
        let Ok(Value::Object(arguments)) = serde_json::to_value(arguments) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let line = Request { execute: execute.to_owned(), arguments }.line();
        self.stream.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS.into())))?;
        self.stream.write_all(&line)?;
        match self.stream.read(&mut [0; 1024])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next line of a stream, as far as it is there.
    ///
    /// # Errors
    /// What recvmsg(2) reports, and lines that are none.
    pub fn next_event(&mut self) -> Result<Line, ClientError> {
        loop {
            if let Some(line) = take_line(&mut self.received) {
                return match Said::parse(&line) {
                    Some(Said::Event(event)) => Ok(Line::Event(event)),
                    Some(Said::Error(source)) => {
                        Err(ClientError::Refused { name: self.name.clone(), source })
                    }
                    Some(Said::Return(_)) => continue,
                    None => Err(ClientError::Language { name: self.name.clone() }),
                };
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Ok(Line::End),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Line::NotYet),
                Err(source) => return Err(ClientError::Talk { name: self.name.clone(), source }),
            }
        }
    }

    /// Waits until the other side has ended, or says something.
    ///
    /// # Errors
    /// What poll(2) reports.
    pub fn wait(&self, timeout_ms: Option<u16>) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        let timeout = timeout_ms.map_or(PollTimeout::NONE, PollTimeout::from);
        loop {
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => {}
                other => return Ok(other? > 0),
            }
        }
    }

    fn send(&self, mut line: &[u8], mut fds: &[OwnedFd]) -> io::Result<()> {
        while !line.is_empty() {
            match unix::send(self.stream.as_fd(), line, fds) {
                Ok(length) => {
                    line = line.get(length..).unwrap_or_default();
                    fds = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
                    if poll(&mut fds, PATIENCE_MS)? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what there is; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let length = unix::receive(self.stream.as_fd(), &mut buffer, &mut Vec::new())?;
        self.received.extend_from_slice(buffer.get(..length).unwrap_or_default());
        Ok(length > 0)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
