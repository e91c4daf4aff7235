//! The TAPs of a network, which come and go with their containers.
//!
//! Ports have the ids that the engine gives them, and two tokens each: one of the TAP, one of the
//! container. Those with frames to read have their turns in a queue, a batch each.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use smoltcp::time::Duration;

use super::pcap::{Pcap, PcapError};
use super::published::Place;
use super::tap::Port;
use crate::config::{Lease, Protocol};
use crate::engine::{Engine, Instant, MAX_PORTS, PortError, PortId};
use crate::sys::process;
use crate::sys::tun::Tap;

/// A container to serve.
#[derive(Debug)]
pub struct Container {
    /// Its interface.
    pub tap: Tap,
    /// Its addresses.
    pub lease: Lease,
    /// Its end is the end of the container's port, and of nothing else.
    pub pidfd: Option<OwnedFd>,
    /// Where to capture its frames.
    pub pcap: Option<PathBuf>,
    /// Sockets inside it at which its DNS is answered.
    pub dns: Vec<(Protocol, OwnedFd)>,
}

/// Why a container cannot be served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum AttachPortError {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Pcap(#[from] PcapError),
    #[error("cannot watch {what}")]
    Watch { what: &'static str, source: io::Error },
}

/// How many tokens the ports of a network have.
pub(super) const TOKENS: usize = 2 * MAX_PORTS;

/// What an event of a port is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Tap(PortId),
    Container(PortId),
}

/// All ports by [`PortId`].
pub(super) struct Ports {
    registry: Registry,
    first_token: usize,
    entries: Vec<Option<Port>>,
    len: usize,
    /// How many have frames that wait for room.
    blocked: usize,
    /// Those that may have frames to read, each once.
    ready: VecDeque<PortId>,
    /// Those that are not to be read before a moment.
    paused: Vec<(Instant, PortId)>,
    /// When to look for the end of those without a pidfd; `None` as long as all have one.
    look_at: Option<Instant>,
}

/// How often the end of a process without a pidfd is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Ports {
    /// Ports register with `registry` from `first_token` on, [`TOKENS`] many.
    pub(super) fn new(registry: Registry, first_token: usize) -> Self {
        Self {
            registry,
            first_token,
            entries: Vec::new(),
            len: 0,
            blocked: 0,
            ready: VecDeque::new(),
            paused: Vec::new(),
            look_at: None,
        }
    }

    /// Whose token it is, if a port's.
    pub(super) fn source_of(&self, token: Token) -> Option<Source> {
        let offset = token.0.checked_sub(self.first_token).filter(|offset| *offset < TOKENS)?;
        let port = PortId(offset / 2);
        Some(if offset % 2 == 0 { Source::Tap(port) } else { Source::Container(port) })
    }

    /// Adds a container to the network.
    ///
    /// # Errors
    /// What keeps it from being served; nothing is left of it then.
    pub(super) fn attach(
        &mut self,
        container: Container,
        place: &mut Place<'_>,
        now: Instant,
    ) -> Result<PortId, AttachPortError> {
        let Place { engine, sockets } = place;
        let Container { tap, lease, pidfd, pcap, dns } = container;
        let pcap = pcap.as_deref().map(Pcap::create).transpose()?;
        let id = engine.add_port(lease, tap.vnet_header(), now)?;
        if tap.udp_offload() {
            engine.set_udp_offload(id);
        } else if tap.vnet_header() {
            log::debug!("this kernel has no UDP segmentation for TAPs (Linux 6.2)");
        }
        let port = Port::new(tap, pidfd, pcap);
        if let Err(error) = self.watch(id, &port, now) {
            self.unwatch(&port);
            engine.remove_port(id, now);
            return Err(error);
        }
        if self.entries.len() <= id.0 {
            self.entries.resize_with(id.0 + 1, || None);
        }
        if let Some(entry) = self.entries.get_mut(id.0) {
            *entry = Some(port);
        }
        self.len += 1;
        self.note_readable(id);
        for (protocol, socket) in dns {
            if let Err(source) = sockets.add_bound(engine.listen_dns(id), protocol, socket) {
                self.detach(engine, id, now);
                let what = "the DNS sockets in the container";
                return Err(AttachPortError::Watch { what, source });
            }
        }
        Ok(id)
    }

    fn watch(&mut self, id: PortId, port: &Port, now: Instant) -> Result<(), AttachPortError> {
        let token = self.first_token + 2 * id.0;
        let failed = |what| move |source| AttachPortError::Watch { what, source };
        let both = Interest::READABLE | Interest::WRITABLE;
        self.registry
            .register(&mut SourceFd(&port.raw_fd()), Token(token), both)
            .map_err(failed("the container's interface"))?;
        if let Some(pidfd) = &port.pidfd {
            self.watch_process(pidfd.as_fd(), Token(token + 1), now)
                .map_err(failed("the container"))?;
        }
        Ok(())
    }

    /// Epoll would forget them with their last descriptors, but who handed them in may have kept
    /// some (epoll(7), question 6).
    fn unwatch(&self, port: &Port) {
        let process = port.pidfd.as_ref().map(AsRawFd::as_raw_fd);
        for fd in std::iter::once(port.raw_fd()).chain(process) {
            // A process that is looked for is not there.
            drop(self.registry.deregister(&mut SourceFd(&fd)));
        }
    }

    /// Has the end of a process be an event, or looked for where it cannot be one.
    pub(super) fn watch_process(
        &mut self,
        process: BorrowedFd<'_>,
        token: Token,
        now: Instant,
    ) -> io::Result<()> {
        let mut source = SourceFd(&process.as_raw_fd());
        match self.registry.register(&mut source, token, Interest::READABLE) {
            Err(_) if process::number(process).is_some() => {
                self.look_at.get_or_insert(now + LOOK_EVERY);
                Ok(())
            }
            other => other,
        }
    }

    /// When to call [`Ports::handle_timeout`] or [`Ports::resume`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.paused.iter().map(|(until, _)| *until).chain(self.look_at).min()
    }

    /// Has a port not be read before a moment, when [`Ports::resume`] puts it back into the queue.
    pub(super) fn pause(&mut self, id: PortId, until: Instant) {
        self.paused.retain(|(_, paused)| *paused != id);
        self.paused.push((until, id));
    }

    /// Puts those back into the queue that have been paused for long enough.
    pub(super) fn resume(&mut self, now: Instant) {
        let due = self.paused.extract_if(.., |(until, _)| *until <= now);
        for (_, id) in due.collect::<Vec<_>>() {
            self.note_readable(id);
        }
    }

    /// Puts all of them back: who may send more from now on is not to wait for what held before.
    pub(super) fn resume_all(&mut self) {
        for (_, id) in std::mem::take(&mut self.paused) {
            self.note_readable(id);
        }
    }

    /// Returns whether it was time to look for ends, and which containers have ended.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Vec<PortId>> {
        self.look_at.take_if(|at| *at <= now)?;
        let mut ended = Vec::new();
        for (index, port) in self.entries.iter().enumerate() {
            let Some(process) = port.as_ref().and_then(|port| port.pidfd.as_ref()) else {
                continue;
            };
            if process::has_ended(process.as_fd()) {
                ended.push(PortId(index));
            } else if process::number(process.as_fd()).is_some() {
                self.look_at = Some(now + LOOK_EVERY);
            }
        }
        Some(ended)
    }

    /// Somebody else still has a process to look at.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.look_at = Some(now + LOOK_EVERY);
    }

    /// Takes a container from the network.
    pub(super) fn detach(&mut self, engine: &mut Engine, id: PortId, now: Instant) {
        if let Some(port) = self.entries.get_mut(id.0).and_then(Option::take) {
            self.unwatch(&port);
            self.len -= 1;
            self.blocked -= usize::from(port.is_blocked());
            self.ready.retain(|ready| *ready != id);
            self.paused.retain(|(_, paused)| *paused != id);
            engine.remove_port(id, now);
        }
    }

    /// Whether the frames of a port carry the virtio header.
    pub(super) fn vnet(&self, id: PortId) -> bool {
        self.entries.get(id.0).and_then(Option::as_ref).is_some_and(Port::vnet)
    }

    pub(super) fn get_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.entries.get_mut(id.0)?.as_mut()
    }

    /// Whether some port may have frames to read.
    pub(super) fn any_readable(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many ports may have frames to read.
    pub(super) fn readable(&self) -> usize {
        self.ready.len()
    }

    /// A port may have frames to read.
    pub(super) fn note_readable(&mut self, id: PortId) {
        if let Some(port) = self.entries.get_mut(id.0).and_then(Option::as_mut)
            && !port.readable
        {
            port.readable = true;
            self.ready.push_back(id);
        }
    }

    /// Takes the port whose turn it is out of the queue.
    pub(super) fn next_readable(&mut self) -> Option<PortId> {
        let id = self.ready.pop_front()?;
        if let Some(port) = self.get_mut(id) {
            port.readable = false;
        }
        Some(id)
    }

    /// Writes a frame to a port, or keeps it; returns whether there was room for it.
    pub(super) fn write(&mut self, id: PortId, frame: &[u8]) -> bool {
        let Some(port) = self.entries.get_mut(id.0).and_then(Option::as_mut) else {
            return false;
        };
        let before = port.is_blocked();
        let room = port.write(frame);
        self.blocked += usize::from(port.is_blocked() && !before);
        room
    }

    /// Writes what waits for a port, as far as there is room now.
    pub(super) fn flush(&mut self, id: PortId) {
        if let Some(port) = self.entries.get_mut(id.0).and_then(Option::as_mut)
            && port.is_blocked()
        {
            port.flush();
            self.blocked -= usize::from(!port.is_blocked());
        }
    }

    /// Whether no frame can go anywhere: a lone port can be waited for, while one of many must not
    /// make the others wait.
    pub(super) fn is_stuck(&self) -> bool {
        self.blocked == 1 && self.len == 1
    }
}
