//! Published ports: where their clients are led to.
//!
//! A port leads to one container, or to several that do the same work: each client to the next of
//! them, and on to another where one refuses or does not answer. The sockets are the shell's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::flow::tcp::Retry;
use super::flow::udp::Datagram;
use super::host::{Owner, SocketId};
use super::stats::DropReason;
use super::{Engine, Instant, PortId};
use crate::config::{Prefix, Protocol};

/// Where the clients of a published port are led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// The container's port.
    pub port: PortId,
    /// Its address there; `None` is the leased one of the client's own family.
    pub address: Option<IpAddr>,
}

/// A bound host port and where it leads.
#[derive(Debug)]
pub(super) struct Published {
    /// Where it leads, each in its turn.
    pub(super) to: Vec<Destination>,
    guest_port: u16,
    protocol: Protocol,
    /// Where it is bound.
    at: Option<SocketAddr>,
    /// The clients that are let in; `None` is everybody.
    from: Option<Arc<[Prefix]>>,
}

impl Published {
    /// Whether a client is let in.
    fn admits(&self, client: IpAddr) -> bool {
        self.from.as_ref().is_none_or(|from| from.iter().any(|prefix| prefix.contains(client)))
    }

    /// The host's port of this for who comes by an interface with such addresses, if it is what leads
    /// to the container's.
    pub(super) fn port_at(
        &self,
        protocol: Protocol,
        guest_port: u16,
        link: &[IpAddr],
    ) -> Option<u16> {
        let at = self.at.filter(|at| at.ip().is_unspecified() || link.contains(&at.ip()))?;
        let leads = (self.protocol, self.guest_port) == (protocol, guest_port);
        (leads && !self.to.is_empty()).then_some(at.port())
    }

    /// Where the next client is led to.
    fn next(&mut self) -> Option<Destination> {
        let next = *self.to.first()?;
        self.to.rotate_left(1);
        Some(next)
    }
}

impl Engine {
    /// Names the socket that the shell has bound for a published port. Its clients are led to one
    /// destination after the other; without any they are turned away.
    pub fn publish(
        &mut self,
        protocol: Protocol,
        to: Vec<Destination>,
        guest_port: u16,
    ) -> SocketId {
        let index =
            self.published.insert(Published { to, guest_port, protocol, at: None, from: None });
        self.fx.host.adopt(Owner::Published(index))
    }

    /// Takes note of where a published port is bound, for who is to be told.
    pub fn set_address(&mut self, listener: SocketId, address: SocketAddr) {
        if let Some(Owner::Published(index)) = self.fx.host.owner(listener)
            && let Some(published) = self.published.get_mut(index)
        {
            published.at = Some(address);
        }
    }

    /// Lets no clients into a published port but those of `from`: others are reset, their datagrams
    /// dropped and counted.
    pub fn admit_only(&mut self, listener: SocketId, from: Arc<[Prefix]>) {
        if let Some(Owner::Published(index)) = self.fx.host.owner(listener)
            && let Some(published) = self.published.get_mut(index)
        {
            published.from = Some(from);
        }
    }

    /// Whether a client is let into a published port.
    #[must_use]
    pub fn admits(&self, listener: SocketId, client: IpAddr) -> bool {
        match self.fx.host.owner(listener) {
            Some(Owner::Published(index)) => {
                self.published.get(index).is_some_and(|published| published.admits(client))
            }
            _ => false,
        }
    }

    /// Takes a published port back. Connections that stand go on; a UDP port's clients, who share
    /// its socket, are forgotten.
    pub fn unpublish(&mut self, socket: SocketId) {
        let Some(Owner::Published(index)) = self.fx.host.owner(socket) else {
            return;
        };
        self.published.try_remove(index);
        self.tables.tcp.forget_rule(index);
        self.tables.udp.unpublish(&mut self.fx, socket);
        self.fx.host.close(socket, false);
    }

    /// Changes where the next clients of a published port are led to.
    pub fn retarget(&mut self, socket: SocketId, to: Vec<Destination>) {
        if let Some(Owner::Published(index)) = self.fx.host.owner(socket)
            && let Some(published) = self.published.get_mut(index)
        {
            published.to = to;
        }
    }

    /// Takes a client's connection to a published TCP port. Returns the name of its socket, or
    /// `None` if it cannot be served and is to be reset.
    pub fn accept(
        &mut self,
        listener: SocketId,
        client: SocketAddr,
        now: Instant,
    ) -> Option<SocketId> {
        let owner = self.fx.host.owner(listener)?;
        if let Owner::DnsListener(_) = owner {
            let (tables, mut turn) = self.turn_of(owner, now)?;
            return tables.dns.accept_local(&mut turn);
        }
        let Owner::Published(index) = owner else {
            return None;
        };
        let published = self.published.get_mut(index)?;
        if !published.admits(client.ip()) {
            self.fx.stats.count_drop(DropReason::ForbiddenClient);
            log::debug!("client {client} of port {} is turned away", published.guest_port);
            return None;
        }
        let Destination { port, address } = published.next()?;
        let to_guest = (address, published.guest_port);
        let several = published.to.len() > 1;
        let retry = several.then(|| Retry { rule: index, client, tried: vec![port] });
        let (tables, mut turn) = self.turn(port, now)?;
        tables.tcp.accept(&mut turn, client, to_guest, retry)
    }

    /// Takes a datagram from a client of a published port; the client stays with the container
    /// that it was led to first.
    pub(super) fn handle_client(
        &mut self,
        index: usize,
        datagram: Datagram<'_>,
        now: Instant,
    ) -> Option<()> {
        let published = self.published.get_mut(index)?;
        if published.protocol != Protocol::Udp {
            return None;
        }
        if !published.admits(datagram.from.ip()) {
            self.fx.stats.count_drop(DropReason::ForbiddenClient);
            return Some(());
        }
        let known = self.tables.udp.port_of_client(datagram.socket, datagram.from);
        let Destination { port, address } = match known {
            Some(port) => Destination { port, address: None },
            None => published.next()?,
        };
        let to_guest = (address, published.guest_port);
        let (tables, mut turn) = self.turn(port, now)?;
        tables.udp.handle_client(&mut turn, to_guest, datagram);
        Some(())
    }

    /// Leads clients on whose container has refused them, or is gone.
    pub(super) fn serve_refused(&mut self, now: Instant) {
        while let Some((index, retry)) = self.tables.tcp.next_refused() {
            let published = self.published.get(retry.rule);
            let untried = published.map(|published| {
                let untried = published.to.iter().filter(|next| !retry.tried.contains(&next.port));
                (untried.clone().next().copied(), untried.count() > 1, published.guest_port)
            });
            if let Some((Some(Destination { port, address }), more, guest_port)) = untried
                && let Some((tables, mut turn)) = self.turn(port, now)
            {
                tables.tcp.call_next(&mut turn, index, retry, (address, guest_port), more);
            } else {
                self.tables.tcp.turn_away(&mut self.fx, index);
            }
        }
    }
}
