//! Datagrams between a container's loopback and the host's.
//!
//! Each client has a socket of its own on the other side, so that answers find it and errors of one
//! are nobody else's. It lasts as long as there is traffic, and for a while after.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, send};
use smoltcp::time::Duration;

use super::{Dialer, MAX_PEERS, Outward, Service, Source, Watch, free_place};
use crate::config::Protocol;
use crate::engine::Instant;
use crate::engine::host::{IpFields, SocketId};
use crate::io::host::Sockets;
use crate::sys::{datagram, sock};

/// How long a silent client is remembered: more than the two minutes of RFC 4787, section 4.3.
const IDLE: Duration = Duration::from_secs(180);
/// Datagrams taken from one socket before others have their turn.
const PER_TURN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Peers {
    places: Vec<Option<Peer>>,
}

/// What a client has sent to, and where it is answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A port of the container's loopback.
    Outward(usize),
    /// A published port, at one of the host's addresses.
    Published(SocketId, Option<IpAddr>),
}

/// What a new socket takes.
pub(super) type Opening<'a> = (&'a Watch, &'a mut Dialer);

#[derive(Debug)]
struct Peer {
    origin: Origin,
    client: SocketAddr,
    socket: OwnedFd,
    service: Service,
    v6: bool,
    port: u16,
    /// Whether anything has come back.
    answered: bool,
    last: Instant,
}

impl Peers {
    /// Takes what clients have sent to a port; returns whether there may be more.
    pub(super) fn outwards(
        &mut self,
        index: usize,
        listener: &Outward,
        (watch, dialer): Opening<'_>,
        scratch: &mut [u8],
        now: Instant,
    ) -> bool {
        let (origin, to) = (Origin::Outward(index), (Service::Host, listener.v6, listener.port));
        for _ in 0..PER_TURN {
            match datagram::recv_from(listener.socket.as_fd(), scratch) {
                Ok(received) => {
                    let (from, bytes) = (received.from, scratch.get(..received.len));
                    for payload in received.each(bytes.unwrap_or_default()) {
                        let opening = (watch, &mut *dialer);
                        if let Err(error) = self.send(origin, from, to, payload, opening, now) {
                            log::debug!("a datagram to port {} is lost: {error}", listener.port);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Of an earlier datagram: the next call works.
                Err(_) => {}
            }
        }
        true
    }

    /// Takes what a service has answered; returns whether there may be more.
    pub(super) fn inwards(
        &mut self,
        index: usize,
        (listeners, sockets): (&[Option<Outward>], &mut Sockets),
        (watch, dialer): Opening<'_>,
        scratch: &mut [u8],
        now: Instant,
    ) -> bool {
        let mut refused = false;
        for _ in 0..PER_TURN {
            let Some(Some(peer)) = self.places.get_mut(index) else {
                return false;
            };
            match datagram::recv_from(peer.socket.as_fd(), scratch) {
                Ok(received) => {
                    (peer.answered, peer.last) = (true, now);
                    let payload = scratch.get(..received.len).unwrap_or_default();
                    if let Err(error) = peer.answer(payload, listeners, sockets) {
                        log::debug!("an answer to {} is lost: {error}", peer.client);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The service may be on the other family's loopback; the client asks again.
                    if refused
                        && !peer.answered
                        && let Ok(socket) =
                            open(index, (peer.service, !peer.v6, peer.port), watch, dialer)
                    {
                        (peer.socket, peer.v6) = (socket, !peer.v6);
                    }
                    return false;
                }
                // Answers may be behind it.
                Err(error) => refused |= error.kind() == io::ErrorKind::ConnectionRefused,
            }
        }
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.places.iter().flatten().map(|peer| peer.last + IDLE).min()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for place in &mut self.places {
            if place.as_ref().is_some_and(|peer| peer.last + IDLE <= now) {
                *place = None;
            }
        }
    }

    /// Sends what a client has sent on to where it leads.
    pub(super) fn send(
        &mut self,
        origin: Origin,
        client: SocketAddr,
        to: (Service, bool, u16),
        payload: &[u8],
        (watch, dialer): Opening<'_>,
        now: Instant,
    ) -> io::Result<()> {
        let known = self.places.iter_mut().flatten();
        let known = known.into_iter().find(|p| p.origin == origin && p.client == client);
        if let Some(peer) = known {
            peer.last = now;
            send_on(&peer.socket, payload)?;
            return Ok(());
        }
        let place = free_place(&mut self.places, MAX_PEERS).or_else(|| self.give_way());
        let Some(place) = place else { return Ok(()) };
        let (service, v6, port) = to;
        let socket = match open(place, to, watch, dialer) {
            // Nor is there a descriptor for everybody.
            Err(error) if sock::is_starved(&error) => {
                self.give_way().ok_or(error)?;
                open(place, to, watch, dialer)?
            }
            other => other?,
        };
        send_on(&socket, payload)?;
        if let Some(entry) = self.places.get_mut(place) {
            let answered = false;
            *entry = Some(Peer { origin, client, socket, service, v6, port, answered, last: now });
        }
        Ok(())
    }

    /// Clients of these ports are forgotten.
    pub(super) fn forget(&mut self, of: impl Fn(Origin) -> bool) {
        for place in &mut self.places {
            if place.as_ref().is_some_and(|peer| of(peer.origin)) {
                *place = None;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// Forgets the client that is silent longest; its place is free then.
    fn give_way(&mut self) -> Option<usize> {
        let all = self.places.iter().enumerate();
        let all = all.filter_map(|(index, peer)| Some((peer.as_ref()?.last, index)));
        let (_, oldest) = all.min()?;
        *self.places.get_mut(oldest)? = None;
        Some(oldest)
    }
}

impl Peer {
    fn answer(
        &self,
        payload: &[u8],
        listeners: &[Option<Outward>],
        sockets: &mut Sockets,
    ) -> io::Result<()> {
        match self.origin {
            Origin::Outward(index) => {
                let Some(Some(listener)) = listeners.get(index) else { return Ok(()) };
                datagram::send_to(listener.socket.as_fd(), payload, self.client, None).map(|_| ())
            }
            Origin::Published(id, from) => {
                sockets.send(id, Some(self.client), from, IpFields::default(), None, payload)
            }
        }
    }
}

/// A socket for the client at a place.
fn open(
    place: usize,
    to: (Service, bool, u16),
    watch: &Watch,
    dialer: &mut Dialer,
) -> io::Result<OwnedFd> {
    let socket = dialer.connect(to, Protocol::Udp)?;
    watch.add(&socket, Source::Peer(place))?;
    Ok(socket)
}

/// Sends a datagram; an error of an earlier one, which ends the call, is not this one's.
fn send_on(socket: &OwnedFd, payload: &[u8]) -> io::Result<usize> {
    let once = || send(socket.as_raw_fd(), payload, MsgFlags::MSG_NOSIGNAL);
    Ok(once().or_else(|errno| match errno {
        nix::errno::Errno::EAGAIN => Err(errno),
        _ => once(),
    })?)
}
