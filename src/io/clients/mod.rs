//! Clients of a UNIX socket, served beside the packets: the transport of every socket we listen on.
//!
//! Nothing here ever waits. Every client is an event source with a deadline for what it owes, so
//! one that stays silent, or does not read its answer, costs a slot for a while and no packet and
//! no other client any time. Only processes of our own user and of root are let in, and on a socket
//! that is shared those whom the kernel lets connect ([`Clients::may_enter`] is the one place).
//! What is said is for the protocols: `io::api` and `io::control`.
//!
//! A stranger's descriptors may be made to wait for ever, by a file system of its own, for whatever
//! is asked of them, close(2) included: what is not surely a TAP, a pidfd or a pipe is never touched.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;
use smoltcp::time::Duration;

use crate::engine::Instant;
use crate::socket_file::SocketFile;
use crate::sys::{fd, unix};

/// What clients of one socket may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// What the socket is called in the log.
    pub(super) name: &'static str,
    /// Clients at once.
    pub(super) clients: usize,
    /// Bytes of a request that is not complete.
    pub(super) request: usize,
    /// Bytes that wait to be read by the client; beyond, nothing more is asked of it or told it.
    pub(super) answer: usize,
    /// How long a client has to complete a request and to read an answer.
    pub(super) patience: Duration,
    /// When all places are taken, one is given up by the client that has been silent longest, and
    /// for longer than this.
    pub(super) grace: Duration,
}

/// A listening socket with its clients; `T` is what the protocol keeps for each.
#[derive(Debug)]
pub(super) struct Clients<T> {
    /// Removes the file at the end: before clients see it, who may want its place then.
    socket: Option<SocketFile>,
    listener: mio::net::UnixListener,
    owner: Uid,
    shared: bool,
    /// Descriptors of strangers that are left open for ever.
    abandoned: usize,
    registry: Registry,
    first: usize,
    limits: Limits,
    slots: Vec<Option<Client<T>>>,
    /// One that has come and finds no place.
    waiting: Option<mio::net::UnixStream>,
    /// When to accept again, where that is not left to an event.
    accept_at: Option<Instant>,
    /// All places were taken when somebody came.
    pub(super) full: bool,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client<T> {
    /// What the protocol keeps.
    pub(super) session: T,
    /// What it has sent and the protocol has not taken.
    pub(super) received: Vec<u8>,
    /// The descriptors that came along.
    pub(super) fds: Vec<OwnedFd>,
    /// Who it is, if it is neither ourselves nor root.
    pub(super) stranger: Option<Uid>,
    /// Whether it sends no more.
    pub(super) ended: bool,
    stream: mio::net::UnixStream,
    limits: Limits,
    /// When it was last waited for in vain: since then, it owes something.
    since: Instant,
    /// When it must have done what it owes; `None` while it owes nothing.
    until: Option<Instant>,
    /// Whether it owes us nothing as long as it reads.
    listens: bool,
    /// Whether there may be more to read.
    readable: bool,
    /// What it has yet to read, and descriptors for its first byte.
    answer: Vec<u8>,
    answer_fds: Vec<OwnedFd>,
    stage: Stage,
}

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It may ask.
    Talking,
    /// It gets the rest of its answer and nothing more is heard.
    Finishing,
    /// The answer is out, and the client may still be writing: closed before it is done, it would
    /// hear of an error instead of the answer. How many bytes it may yet write.
    Leaving(usize),
}

/// Clients of one stranger at once.
const MAX_OF_STRANGER: usize = 64;
/// Descriptors that may be left open for ever before strangers are no longer let in.
const MAX_ABANDONED: usize = 64;
/// Clients accepted in a turn.
const PER_TURN: usize = 16;
/// When to try again where no descriptor or no place was left to accept a client with.
const RETRY: Duration = Duration::from_millis(100);
/// What a client writes beyond its request is read up to this many bytes.
const MAX_DRAIN: usize = 64 * 1024;
/// How much is read at once, in bytes.
const READ: usize = 4096;

impl<T: Default> Clients<T> {
    /// Registers the listener as `token` and clients from `first` on, [`Limits::clients`] many.
    pub(super) fn new(
        socket: SocketFile,
        registry: Registry,
        token: Token,
        first: usize,
        limits: Limits,
    ) -> io::Result<Self> {
        let mut listener = mio::net::UnixListener::from_std(socket.listener.try_clone()?);
        registry.register(&mut listener, token, Interest::READABLE)?;
        let (owner, shared) = (socket.owner, socket.shared);
        Ok(Self {
            socket: Some(socket),
            listener,
            owner,
            shared,
            abandoned: 0,
            registry,
            first,
            limits,
            slots: (0..limits.clients).map(|_| None).collect(),
            waiting: None,
            accept_at: None,
            full: false,
        })
    }

    /// Removes the file of the socket, before the end.
    pub(super) fn remove_file(&mut self) {
        self.socket = None;
    }

    /// Takes new clients.
    pub(super) fn accept(&mut self, now: Instant) {
        self.accept_at = None;
        for _ in 0..PER_TURN {
            let waited = self.waiting.take();
            let is_new = waited.is_none();
            let newcomer = || self.listener.accept().map(|(stream, _)| stream);
            let stream = match waited.map_or_else(newcomer, Ok) {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::debug!("a client of the {} has to wait: {error}", self.limits.name);
                    self.accept_at = Some(now + RETRY);
                    return;
                }
            };
            let Some(slot) = self.free_slot(now) else {
                self.full |= is_new;
                self.waiting = Some(stream);
                self.accept_at = Some(now + RETRY);
                return;
            };
            self.welcome(slot, stream, now);
        }
        self.accept_at = Some(now);
    }

    /// A place for a new client: a free one, or that of the client that has owed us something for
    /// longest. Nobody who owes nothing has to go.
    fn free_slot(&mut self, now: Instant) -> Option<usize> {
        if let Some(free) = self.slots.iter().position(Option::is_none) {
            return Some(free);
        }
        let owing = self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let client = slot.as_ref().filter(|client| client.until.is_some())?;
            (client.since + self.limits.grace <= now).then_some((client.since, index))
        });
        let gives_way = owing.min().map(|(_, index)| index);
        self.full |= gives_way.is_some();
        gives_way
    }

    /// Whether the process at the other end may ask us anything: one of our own user or of root, or
    /// on a shared socket a stranger, who is told apart.
    fn may_enter(&self, stream: &mio::net::UnixStream) -> Option<Option<Uid>> {
        let name = self.limits.name;
        match getsockopt(stream, sockopt::PeerCredentials) {
            Ok(peer) if peer.uid() == self.owner.as_raw() || peer.uid() == 0 => Some(None),
            Ok(peer) if self.shared && self.abandoned < MAX_ABANDONED => {
                let stranger = Some(Uid::from_raw(peer.uid()));
                let same = |client: &&Client<T>| client.stranger == stranger;
                let others = self.slots.iter().flatten().filter(same).count();
                (others < MAX_OF_STRANGER).then_some(stranger)
            }
            Ok(peer) => {
                log::warn!("{name}: a client of uid {} is turned away", peer.uid());
                None
            }
            Err(errno) => {
                log::warn!("{name}: a client that cannot be identified: {errno}");
                None
            }
        }
    }

    fn welcome(&mut self, index: usize, mut stream: mio::net::UnixStream, now: Instant) {
        let Some(stranger) = self.may_enter(&stream) else {
            return;
        };
        let limits = self.limits;
        if let Some(slot) = self.slots.get_mut(index) {
            // Deregistered by being closed, before its token has another owner.
            *slot = None;
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut stream, Token(self.first + index), interest)
        {
            log::debug!("a client of the {} is lost: {error}", limits.name);
            return;
        }
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(Client {
                session: T::default(),
                received: Vec::new(),
                fds: Vec::new(),
                stranger,
                ended: false,
                stream,
                limits,
                since: now,
                until: Some(now + limits.patience),
                listens: false,
                readable: true,
                answer: Vec::new(),
                answer_fds: Vec::new(),
                stage: Stage::Talking,
            });
        }
    }

    /// The client whose token that is, if it may ask something, with all that there is to read as
    /// far as the limits go. One whose connection broke is forgotten.
    pub(super) fn read(&mut self, token: Token) -> Option<&mut Client<T>> {
        let slot = self.slots.get_mut(token.0.checked_sub(self.first)?)?;
        let client = slot.as_mut().filter(|client| client.stage == Stage::Talking)?;
        let filled = client.fill(&mut self.abandoned);
        if let Err(error) = filled {
            log::debug!("a client of the {} is gone: {error}", client.limits.name);
            *slot = None;
        }
        slot.as_mut()
    }

    /// The client whose token that is, if it may ask or be told something.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Client<T>> {
        let client = self.slots.get_mut(token.0.checked_sub(self.first)?)?.as_mut();
        client.filter(|client| client.stage == Stage::Talking)
    }

    /// The same to look at.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Client<T>> {
        self.slots.iter().flatten().filter(|client| client.stage == Stage::Talking)
    }

    /// Every client that may ask or be told something.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client<T>> {
        self.slots.iter_mut().flatten().filter(|client| client.stage == Stage::Talking)
    }

    /// The clients that have more to say than one turn allowed, by token: those with a whole line
    /// that was not taken, or with more to read.
    pub(super) fn unfinished(&self) -> Vec<Token> {
        let unfinished = |client: &Client<T>| {
            let asks = client.readable || client.received.contains(&b'\n');
            client.stage == Stage::Talking && client.has_room() && asks
        };
        let slots = self.slots.iter().enumerate();
        let slots = slots.filter(|(_, slot)| slot.as_ref().is_some_and(unfinished));
        slots.map(|(index, _)| Token(self.first + index)).collect()
    }

    /// Sends answers, as far as their clients take them. To be called once what the requests
    /// brought about is done: a port that was taken back is free when its client hears so.
    pub(super) fn flush(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if let Some(client) = slot
                && client.advance(now)
            {
                *slot = None;
                // Whoever waits for a place has one.
                self.accept_at = self.accept_at.map(|at| at.min(now));
            }
        }
    }

    /// When to call [`Clients::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let clients = self.slots.iter().flatten().filter_map(|client| client.until);
        clients.chain(self.accept_at).min()
    }

    /// Ends clients that took too long, with `last_words` for those whose request is not complete,
    /// and takes those that had to wait.
    pub(super) fn handle_timeout(&mut self, now: Instant, last_words: impl Fn() -> Vec<u8>) {
        for slot in &mut self.slots {
            if let Some(client) = slot
                && client.until.is_some_and(|until| until <= now)
            {
                if client.stage == Stage::Talking && client.answer.is_empty() {
                    client.answer_and_leave(&last_words());
                    client.advance(now);
                }
                *slot = None;
            }
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(now);
        }
    }
}

impl<T> Client<T> {
    /// Reads until there is nothing more for now or the request is too long.
    fn fill(&mut self, abandoned: &mut usize) -> io::Result<()> {
        let mut buffer = [0; READ];
        self.readable = true;
        while self.received.len() < self.limits.request && !self.ended {
            let room = READ.min(self.limits.request - self.received.len());
            let buffer = buffer.get_mut(..room).unwrap_or_default();
            match unix::receive(self.stream.as_fd(), buffer, &mut self.fds) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    self.received.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    self.sift(abandoned)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.ended {
            self.readable = false;
        }
        Ok(())
    }

    /// Holds the descriptors that came against what a client may send.
    fn sift(&mut self, abandoned: &mut usize) -> io::Result<()> {
        let refused = || io::Error::new(io::ErrorKind::InvalidData, "descriptors of another kind");
        if self.stranger.is_some() {
            let before = self.fds.len();
            let strange = |fd: &mut OwnedFd| fd::kind(fd.as_fd()) == fd::Kind::Other;
            self.fds.extract_if(.., strange).for_each(std::mem::forget);
            let strange = before - self.fds.len();
            *abandoned += strange;
            if strange > 0 {
                return Err(refused());
            }
        }
        if self.fds.len() > unix::MAX_FDS { Err(refused()) } else { Ok(()) }
    }

    /// Says something to the client.
    pub(super) fn answer(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) {
        self.answer.extend_from_slice(bytes);
        self.answer_fds.extend(fds);
    }

    /// Says something to the client, and hears no more of it.
    pub(super) fn answer_and_leave(&mut self, bytes: &[u8]) {
        self.answer(bytes, Vec::new());
        self.stage = Stage::Finishing;
        self.readable = false;
    }

    /// Whether it has read enough of what it was told to be told more.
    pub(super) fn has_room(&self) -> bool {
        self.answer.len() < self.limits.answer
    }

    /// A request is answered: there is time for the next one, without end for a client that
    /// `listens` to something.
    pub(super) fn done(&mut self, listens: bool, now: Instant) {
        self.listens = listens;
        self.expect(now);
    }

    fn expect(&mut self, now: Instant) {
        self.since = now;
        let owes = !self.listens || !self.answer.is_empty();
        self.until = owes.then_some(now + self.limits.patience);
    }

    /// Writes what the client takes of its answer, then hears it out; returns whether it is over.
    fn advance(&mut self, now: Instant) -> bool {
        let mut written = 0;
        while let Some(rest) = self.answer.get(written..).filter(|rest| !rest.is_empty()) {
            match unix::send(self.stream.as_fd(), rest, &self.answer_fds) {
                Ok(length) => {
                    written += length;
                    self.answer_fds.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("an answer of the {} is lost: {error}", self.limits.name);
                    return true;
                }
            }
        }
        self.answer.drain(..written);
        // Whoever reads has more time to read the rest, and who has yet to read has a while.
        if self.stage == Stage::Talking && (written > 0 || self.until.is_none()) {
            self.expect(now);
        }
        if !self.answer.is_empty() {
            return false;
        }
        if self.stage == Stage::Finishing {
            if self.stream.shutdown(Shutdown::Write).is_err() {
                return true;
            }
            self.stage = Stage::Leaving(MAX_DRAIN);
        }
        match self.stage {
            Stage::Leaving(left) => self.hear_out(left),
            Stage::Talking | Stage::Finishing => self.ended && self.received.is_empty(),
        }
    }

    /// Reads what is sent too late; returns whether it is over.
    fn hear_out(&mut self, mut left: usize) -> bool {
        let mut buffer = [0; READ];
        while left > 0 && !self.ended {
            self.fds.clear();
            if self.stranger.is_some() {
                // What it may yet send is closed unseen with the connection.
                return true;
            }
            match unix::receive(self.stream.as_fd(), &mut buffer, &mut self.fds) {
                Ok(0) => return true,
                Ok(length) => left = left.saturating_sub(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stage = Stage::Leaving(left);
                    return false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        true
    }
}
