//! Datagrams between a container's loopback and the host's.
//!
//! Each client inside has a socket of its own on the host, so that answers find it and errors of one
//! are nobody else's. It lasts as long as there is traffic, and for a while after.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, send};
use smoltcp::time::Duration;

use super::{MAX_PEERS, Outward, Source, Watch, free_place, loopback};
use crate::engine::Instant;
use crate::sys::datagram;
use crate::sys::sock::{self, Local};

/// How long a silent client is remembered: more than the two minutes of RFC 4787, section 4.3.
const IDLE: Duration = Duration::from_secs(180);
/// Datagrams taken from one socket before others have their turn.
const PER_TURN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Peers {
    places: Vec<Option<Peer>>,
}

#[derive(Debug)]
struct Peer {
    listener: usize,
    /// Who it is, inside.
    client: SocketAddr,
    socket: OwnedFd,
    v6: bool,
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
        watch: &Watch,
        scratch: &mut [u8],
        now: Instant,
    ) -> bool {
        for _ in 0..PER_TURN {
            match datagram::recv_from(listener.socket.as_fd(), scratch) {
                Ok(received) => {
                    let payload = scratch.get(..received.len).unwrap_or_default();
                    if let Err(error) =
                        self.send(index, listener, received.from, payload, watch, now)
                    {
                        log::debug!("a datagram to port {} is lost: {error}", listener.port);
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
        listeners: &[Outward],
        watch: &Watch,
        scratch: &mut [u8],
        now: Instant,
    ) -> bool {
        for _ in 0..PER_TURN {
            let Some(Some(peer)) = self.places.get_mut(index) else {
                return false;
            };
            let Some(listener) = listeners.get(peer.listener) else {
                return false;
            };
            match datagram::recv_from(peer.socket.as_fd(), scratch) {
                Ok(received) => {
                    (peer.answered, peer.last) = (true, now);
                    let payload = scratch.get(..received.len).unwrap_or_default();
                    let socket = listener.socket.as_fd();
                    if let Err(error) = datagram::send_to(socket, payload, peer.client, None) {
                        log::debug!("an answer to {} is lost: {error}", peer.client);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    // The service may be on the other family's loopback; the client asks again.
                    if !peer.answered
                        && let Ok(socket) = open(index, !peer.v6, listener.port, watch)
                    {
                        (peer.socket, peer.v6) = (socket, !peer.v6);
                    }
                    return false;
                }
                Err(_) => {}
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

    fn send(
        &mut self,
        index: usize,
        listener: &Outward,
        client: SocketAddr,
        payload: &[u8],
        watch: &Watch,
        now: Instant,
    ) -> io::Result<()> {
        let known = self.places.iter_mut().flatten();
        let known = known.into_iter().find(|p| p.listener == index && p.client == client);
        if let Some(peer) = known {
            peer.last = now;
            send_on(&peer.socket, payload)?;
            return Ok(());
        }
        let place = free_place(&mut self.places, MAX_PEERS).or_else(|| self.oldest());
        let Some(place) = place else { return Ok(()) };
        if let Some(entry) = self.places.get_mut(place) {
            *entry = None;
            let socket = open(place, listener.v6, listener.port, watch)?;
            send_on(&socket, payload)?;
            let (v6, answered) = (listener.v6, false);
            *entry = Some(Peer { listener: index, client, socket, v6, answered, last: now });
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.places.iter().flatten().count()
    }

    fn oldest(&self) -> Option<usize> {
        let all = self.places.iter().enumerate();
        all.filter_map(|(index, peer)| Some((peer.as_ref()?.last, index))).min().map(|(_, i)| i)
    }
}

/// A socket for the client at a place.
fn open(place: usize, v6: bool, port: u16, watch: &Watch) -> io::Result<OwnedFd> {
    let socket = sock::udp_connected(loopback(v6, port), Local::default())?;
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
