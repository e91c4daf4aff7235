//! Sockets of the host: what is ready is read for the engine, and what it asks for is carried out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use mio::event::Event;
use smoltcp::time::Duration;

use super::Server;
use crate::config::Limit;
use crate::engine::Instant;
use crate::engine::host::{Bounce, HostEvent, HostOp, SocketId, SocketKind};
use crate::io::host::{Purpose, Socket};
use crate::sys::{datagram, sock};

/// Datagrams read from one socket, and clients accepted from one listener, in a turn.
pub(super) const PER_SOCKET: usize = 64;
/// How much of a datagram that did not arrive is quoted to the guest, in bytes.
const MAX_QUOTE: usize = 128;
/// How long a client waits for a descriptor or memory before it is looked for again.
const RETRY: Duration = Duration::from_millis(100);

impl Server {
    pub(super) fn handle_socket(&mut self, id: SocketId, event: &Event, now: Instant) {
        let Some(socket) = self.sockets.get_mut(id) else {
            return;
        };
        if let Socket::Tcp(stream) = socket {
            match stream.note(event) {
                Some(Ok(())) => self.engine.handle_host(id, HostEvent::Connected, now),
                Some(Err(error)) => {
                    self.engine.handle_host(id, HostEvent::Failed(error.kind()), now);
                }
                None => self.engine.relay(id, stream, now),
            }
        } else {
            if event.is_error() {
                self.report_icmp_errors(id, None, now);
            }
            // One that is unfinished has its share of each turn as it is.
            if !self.unfinished.contains(&id) {
                self.handle_readable(id, now);
            }
        }
    }

    /// Tells the engine of the datagrams that did not arrive. One to `unsent` did not even leave: of
    /// that the queue has the MTU, over IPv4 without the peer's port, and twice if it was tried twice.
    fn report_icmp_errors(&mut self, id: SocketId, mut unsent: Option<SocketAddr>, now: Instant) {
        for _ in 0..PER_SOCKET {
            let Some(Socket::Datagram(socket)) = self.sockets.get_mut(id) else {
                return;
            };
            let mut payload = [0; MAX_QUOTE];
            let Ok(Some(error)) = datagram::take_error(socket.as_fd(), &mut payload) else {
                return;
            };
            let mtu = error.mtu;
            let (to, bounce) = match (error.by, error.errno) {
                (Some(by), _) => {
                    (error.to, Bounce::Icmp { by, kind: error.kind, code: error.code, mtu })
                }
                (None, libc::EMSGSIZE) => {
                    let Some(to) = unsent.take() else { continue };
                    (to, Bounce::TooLong { mtu })
                }
                // Any other error of the kernel's own is what the call returned that sent.
                (None, _) => continue,
            };
            let payload = payload.get(..error.len).unwrap_or_default();
            self.engine.handle_host(id, HostEvent::Bounced { to, bounce, payload }, now);
        }
    }

    pub(super) fn handle_readable(&mut self, id: SocketId, now: Instant) {
        match self.sockets.get_mut(id) {
            Some(Socket::Listener(_)) => self.accept(id, now),
            Some(Socket::Datagram(_)) => self.receive_batch(id, now),
            Some(Socket::Connected(_)) => self.receive(id, now),
            Some(Socket::Tcp(_)) | None => {}
        }
    }

    /// Has clients accepted that had to wait, once there may be something for them.
    pub(super) fn look_for_descriptors(&mut self, now: Instant) {
        if self.retry_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        if self.sockets.is_still_crowded() {
            self.retry_at = Some(now + RETRY);
        } else {
            self.serve_starved();
        }
    }

    /// Has everybody accepted next turn who waits for descriptors.
    fn serve_starved(&mut self) {
        for id in std::mem::take(&mut self.starved) {
            self.leave_unfinished(id);
        }
    }

    /// Has a socket read on in the next turn.
    fn leave_unfinished(&mut self, id: SocketId) {
        if !self.unfinished.contains(&id) {
            self.unfinished.push(id);
        }
    }

    /// Has a listener wait until there are descriptors.
    fn leave_starved(&mut self, id: SocketId, now: Instant) {
        if !self.starved.contains(&id) {
            self.starved.push(id);
        }
        self.retry_at = Some(now + RETRY);
    }

    /// Accepts the clients of a published port.
    fn accept(&mut self, id: SocketId, now: Instant) {
        for _ in 0..PER_SOCKET {
            let crowded = self.sockets.is_crowded();
            let Some(Socket::Listener(socket)) = self.sockets.get_mut(id) else {
                return;
            };
            if crowded {
                self.engine.count_limit(Limit::Descriptors);
                self.leave_starved(id, now);
                return;
            }
            let (stream, client) = match sock::tcp_accept(socket.as_fd()) {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if sock::is_of_one_client(&error) => continue,
                Err(error) if sock::is_starved(&error) => {
                    self.leave_starved(id, now);
                    log::debug!("a client has to wait: {error}");
                    return;
                }
                Err(error) => {
                    log::warn!("a listener takes no more clients: {error}");
                    return;
                }
            };
            if self.relay.leads_inside(client.ip()) && self.engine.admits(id, client.ip()) {
                if let Some(port) = self.published.guest_port(id) {
                    self.relay.take_client(stream, client.is_ipv6(), port);
                }
                continue;
            }
            match self.engine.accept(id, client, now) {
                Some(flow) => {
                    if let Err(error) = self.sockets.add_accepted(flow, stream) {
                        self.engine.handle_host(flow, HostEvent::Failed(error.kind()), now);
                    }
                }
                None => {
                    if let Err(error) = sock::tcp_set_reset_on_close(stream.as_fd()) {
                        log::debug!("a client is turned away without a reset: {error}");
                    }
                }
            }
        }
        self.leave_unfinished(id);
    }

    /// Receives the datagrams of a socket with many peers.
    fn receive_batch(&mut self, id: SocketId, now: Instant) {
        // Where a lone TAP takes nothing, there is nothing to wait for: what is too much is dropped.
        let underlay = self.engine.overlay_socket() == Some(id) && !self.ports.is_stuck();
        let mut taken = 0;
        // What is between hosts waits in the socket as long as much of it waits for containers.
        while taken < PER_SOCKET && !(underlay && self.engine.has_backlog()) {
            let Some(Socket::Datagram(socket)) = self.sockets.get_mut(id) else {
                return;
            };
            let received = match self.batch.receive(socket.as_fd()) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Of an earlier datagram, and in the error queue too: the next call works.
                Err(_) => 0,
            };
            taken += received.max(1);
            for (datagram, bytes) in (0..received).filter_map(|index| self.batch.get(index)) {
                let (from, to) = (datagram.from, datagram.to);
                let inside =
                    self.relay.leads_inside(from.ip()) && self.engine.admits(id, from.ip());
                let inside = inside.then(|| self.published.guest_port(id)).flatten();
                for payload in datagram.each(bytes) {
                    if let Some(port) = inside {
                        self.relay.take_datagram((id, to), from, port, payload, now);
                        continue;
                    }
                    self.engine.handle_host(id, HostEvent::Datagram { from, to, payload }, now);
                }
            }
        }
        self.leave_unfinished(id);
    }

    /// Receives datagrams of a socket with one peer.
    fn receive(&mut self, id: SocketId, now: Instant) {
        for _ in 0..PER_SOCKET {
            // The engine may close the socket in answer to any datagram.
            let Some(Socket::Connected(socket)) = self.sockets.get_mut(id) else {
                return;
            };
            match datagram::recv_from(socket.as_fd(), &mut self.datagram) {
                Ok(received) => {
                    let payload = self.datagram.get(..received.len).unwrap_or_default();
                    let event =
                        HostEvent::Datagram { from: received.from, to: received.to, payload };
                    self.engine.handle_host(id, event, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.doubt_resolvers(now);
                    self.engine.handle_host(id, HostEvent::Failed(error.kind()), now);
                    return;
                }
            }
        }
        self.leave_unfinished(id);
    }

    /// Carries out the engine's requests; returns how many streams may have been written to.
    pub(super) fn handle_ops(&mut self, now: Instant) -> usize {
        let (mut closed, mut relayed) = (false, 0);
        while let Some(op) = self.engine.poll_host() {
            match op {
                HostOp::Open { socket, kind } => {
                    let purpose =
                        if self.engine.is_for_dns(socket) { Purpose::Dns } else { Purpose::Flow };
                    if let Err(error) = self.sockets.open(socket, kind, purpose) {
                        self.explain(kind, &error);
                        if error.raw_os_error() == Some(libc::EMFILE) {
                            self.engine.count_limit(Limit::Descriptors);
                        }
                        if matches!(kind, SocketKind::UdpConnect(_)) {
                            self.doubt_resolvers(now);
                        }
                        self.engine.handle_host(socket, HostEvent::Failed(error.kind()), now);
                    }
                }
                HostOp::Send { socket, to, from, fields, segment, payload } => {
                    let sent = self.sockets.send(socket, to, from, fields, segment, &payload);
                    self.engine.recycle(payload);
                    if let Err(error) = sent {
                        log::debug!("a datagram to {to:?} is lost: {error}");
                        if error.raw_os_error() == Some(libc::EMSGSIZE) {
                            self.report_icmp_errors(socket, to, now);
                        }
                        let event = match (error.raw_os_error(), to) {
                            // send(2). Of IPv6 no addresses are such, and a firewall says EPERM.
                            (Some(libc::EACCES), Some(peer @ SocketAddr::V4(_)))
                                if !sock::is_forbidden(peer) =>
                            {
                                HostEvent::ToEverybody
                            }
                            _ => HostEvent::Unsent { to, error: error.kind() },
                        };
                        self.engine.handle_host(socket, event, now);
                    }
                }
                HostOp::Relay(socket) => {
                    if let Some(Socket::Tcp(stream)) = self.sockets.get_mut(socket) {
                        self.engine.relay(socket, stream, now);
                        relayed += 1;
                    }
                }
                HostOp::Close { socket, reset } => {
                    self.sockets.close(socket, reset);
                    self.relay.forget(socket);
                    closed = true;
                }
            }
        }
        if closed {
            self.serve_starved();
        }
        relayed
    }

    /// Says once why pings do not work, where the host forbids them, and what of discovery does not.
    fn explain(&mut self, kind: SocketKind, error: &io::Error) {
        let forbidden = error.kind() == io::ErrorKind::PermissionDenied;
        if matches!(kind, SocketKind::Ping { .. }) && forbidden && !self.pings_refused {
            self.pings_refused = true;
            let gid = self.gid;
            log::warn!(
                "ping disabled: net.ipv4.ping_group_range excludes gid {gid} \
                 (sysctl -w net.ipv4.ping_group_range='{gid} {gid}' allows it)"
            );
        } else if let SocketKind::Group { group, index } = kind {
            let port = group.port();
            let taken = error.kind() == io::ErrorKind::AddrInUse;
            let hint = format!(" (ss -ulpn 'sport = :{port}' tells who has the port to itself)");
            let hint = if taken { hint.as_str() } else { "" };
            log::warn!("{group} is not heard at interface {index}: {error}{hint}");
        } else {
            log::debug!("cannot open {kind:?}: {error}");
        }
    }
}
