//! The forwarder at an address of a container's own loopback: `--dns-listen`.
//!
//! Its sockets were made inside the container's network namespace and are served like the host's.
//! Each belongs to a port of the switch: what comes in by it was asked by that port's container,
//! and it is closed with the port. A connection is a [`Service`] as that of any guest's flow is;
//! here the shell lends the other end.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::stream::Service;
use super::{Client, Forwarder, StreamClient};
use crate::engine::flow::KeyedHash;
use crate::engine::host::{HostStream, Owner, SocketId};
use crate::engine::table::{Entry, Table};
use crate::engine::{Engine, PortId, Turn};

/// Most connections of one container at once; more are turned away.
const MAX_STREAMS: usize = 64;
/// Bytes read or written at once.
const STEP: usize = 4096;

/// Sockets inside containers.
#[derive(Debug)]
pub(in crate::engine) struct Local {
    listeners: Table<Listener>,
    pub(in crate::engine) streams: Table<Stream>,
    /// A number for each stream, so that no answer reaches another at the same index.
    serial: u64,
}

/// A UDP socket or a TCP listener.
#[derive(Debug)]
pub(in crate::engine) struct Listener {
    port: PortId,
    socket: SocketId,
}

/// A connection to a listener.
#[derive(Debug)]
pub(in crate::engine) struct Stream {
    port: PortId,
    socket: SocketId,
    service: Service,
    /// What the client has yet to take.
    outbox: Vec<u8>,
}

impl Engine {
    /// Names a socket that the shell has inside the container at `port`, for queries of that
    /// container alone: a UDP socket or a TCP listener.
    pub fn listen_dns(&mut self, port: PortId) -> SocketId {
        let local = &mut self.tables.dns.local;
        let index = local.listeners.next_index();
        let socket = self.fx.host.adopt(Owner::DnsListener(index));
        local.listeners.insert(Listener { port, socket });
        socket
    }
}

impl Local {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self { listeners: Table::new(hash), streams: Table::new(hash), serial: 0 }
    }

    /// The port of a listener's container.
    pub(in crate::engine) fn port_of(&self, listener: usize) -> Option<PortId> {
        self.listeners.port_of(listener)
    }

    pub(super) fn remove_port(&mut self, turn: &mut Turn<'_>) {
        for index in self.listeners.of_port(turn.port) {
            if let Some(listener) = self.listeners.remove(index) {
                turn.fx.host.close(listener.socket, false);
            }
        }
        for index in self.streams.of_port(turn.port) {
            self.remove_stream(turn, index, true);
        }
    }

    fn remove_stream(&mut self, turn: &mut Turn<'_>, index: usize, reset: bool) {
        if let Some(stream) = self.streams.remove(index) {
            turn.fx.host.close(stream.socket, reset);
        }
    }

    /// A connection's deadline has come: it was silent for too long.
    pub(in crate::engine) fn handle_timeout(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        if stream.service.idle_at > turn.now {
            let due = stream.service.idle_at;
            self.streams.set_deadline(index, Some(due));
            return;
        }
        let told_before = stream.service.handle_idle(turn.now);
        let due = stream.service.idle_at;
        if told_before {
            self.remove_stream(turn, index, true);
        } else {
            turn.fx.host.relay(stream.socket);
            self.streams.set_deadline(index, Some(due));
        }
    }

    /// A connection broke.
    pub(in crate::engine) fn handle_failed(&mut self, turn: &mut Turn<'_>, index: usize) {
        self.remove_stream(turn, index, true);
    }
}

impl Forwarder {
    /// Takes a datagram to a socket inside the container.
    pub(in crate::engine) fn handle_local(
        &mut self,
        turn: &mut Turn<'_>,
        socket: SocketId,
        from: SocketAddr,
        payload: &[u8],
    ) {
        let client = Client::Local { port: turn.port, socket, to: from };
        self.handle_query(turn, client, payload);
    }

    /// Takes a connection to a listener inside the container; `None` if there are too many.
    pub(in crate::engine) fn accept_local(&mut self, turn: &mut Turn<'_>) -> Option<SocketId> {
        let local = &mut self.local;
        if local.streams.len_of(turn.port) >= MAX_STREAMS {
            return None;
        }
        local.serial += 1;
        let service = Service::new(local.serial, turn.now);
        let due = service.idle_at;
        let index = local.streams.next_index();
        let socket = turn.fx.host.adopt(Owner::DnsStream(index));
        local.streams.insert(Stream { port: turn.port, socket, service, outbox: Vec::new() });
        local.streams.set_deadline(index, Some(due));
        Some(socket)
    }

    /// Moves bytes between a connection, lent as `stream`, and the forwarder's end of it.
    pub(in crate::engine) fn relay_local(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        stream: &mut impl HostStream,
    ) {
        let Some(entry) = self.local.streams.get_mut(index) else {
            return;
        };
        let client = StreamClient {
            port: entry.port,
            flow: index,
            serial: entry.service.serial,
            local: true,
        };
        let mut buffer = [0; STEP];
        let ended = loop {
            let Ok(mut progress) = entry.take(stream, &mut buffer) else {
                break Some(true);
            };
            while let Some(query) = entry.service.next_query(turn.now) {
                self.stream_queries.push_back((client, query));
                progress = true;
            }
            match entry.give(stream, &mut buffer) {
                Ok(Given::Something) => {}
                Ok(Given::Nothing) if progress => {}
                Ok(Given::Nothing) => break None,
                Ok(Given::End) => break Some(false),
                Err(_) => break Some(true),
            }
        };
        if let Some(reset) = ended {
            self.local.remove_stream(turn, index, reset);
        }
    }

    /// Gives a connection the answer to one of its queries; `None` if it gets none.
    pub(in crate::engine) fn answer_local(
        &mut self,
        turn: &mut Turn<'_>,
        client: StreamClient,
        answer: Option<&[u8]>,
    ) {
        if let Some(stream) = self.local.streams.get_mut(client.flow)
            && stream.service.serial == client.serial
        {
            stream.service.answer(answer, turn.now);
            turn.fx.host.relay(stream.socket);
        }
    }
}

impl Stream {
    /// Takes what the client says, as far as there is room; returns whether anything came.
    fn take(&mut self, stream: &mut impl HostStream, buffer: &mut [u8]) -> io::Result<bool> {
        let room = self.service.room().min(buffer.len());
        if room == 0 {
            return Ok(false);
        }
        match stream.recv(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => {
                self.service.finish();
                Ok(false)
            }
            Ok(received) => {
                // There is room for all of it.
                drop(self.service.send(buffer.get(..received).unwrap_or_default()));
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the client what it takes of its answers.
    fn give(&mut self, stream: &mut impl HostStream, buffer: &mut [u8]) -> io::Result<Given> {
        if self.outbox.is_empty() {
            match self.service.recv(buffer) {
                Ok(0) => return Ok(Given::End),
                Ok(length) => self.outbox.extend(buffer.iter().take(length)),
                // None is there yet.
                Err(_) => return Ok(Given::Nothing),
            }
        }
        match stream.send(&self.outbox) {
            Ok(sent) => {
                drop(self.outbox.drain(..sent.min(self.outbox.len())));
                Ok(Given::Something)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Given::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// What a client was given.
enum Given {
    Something,
    Nothing,
    /// All that there will be.
    End,
}

impl Entry for Listener {
    type Key = SocketId;

    fn key(&self) -> SocketId {
        self.socket
    }

    fn port(&self) -> PortId {
        self.port
    }
}

impl Entry for Stream {
    type Key = SocketId;

    fn key(&self) -> SocketId {
        self.socket
    }

    fn port(&self) -> PortId {
        self.port
    }
}
