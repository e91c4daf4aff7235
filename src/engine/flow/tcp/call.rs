//! Calls: what a client of a published port opens towards a guest, until the guest has answered.
//!
//! A guest that refuses is tried at its address of the other family; where the port leads to
//! several guests, the next one is tried, and the client notices nothing but the time it takes.

use std::net::{IpAddr, SocketAddr};

use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::TcpFlows;
use super::flow::{Retry, State, TcpFlow};
use super::unfinished::Oldest;
use crate::config::Limit;
use crate::engine::doubt;
use crate::engine::flow::FlowKey;
use crate::engine::host::{Owner, SocketId};
use crate::engine::nat::{self, Inbound};
use crate::engine::stack::Connection;
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::turn::Effects;
use crate::engine::{PortId, Turn};

/// How long a guest may take to accept a client: as long as Linux calls (ip-sysctl, `tcp_syn_retries`), so
/// that one that is frozen for a while has its clients still.
const CALLING: Duration = Duration::from_secs(130);
/// The same where others are there who may answer sooner.
const CALLING_NEXT: Duration = Duration::from_secs(1);
/// Where source ports are looked for when the client's own is taken (RFC 6335, section 6).
const DYNAMIC_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

impl TcpFlows {
    /// Resets the client that has waited longest if there are too many: as many as the kernel keeps
    /// waiting for us at most, a quarter of all flows. Clients of a port where nobody answers do not
    /// keep the guest from connecting.
    fn make_room_to_call(&mut self, turn: &mut Turn<'_>) {
        let room = turn.room_for(Limit::Calling);
        if let Some(Oldest { index: oldest, .. }) = self.calling.oldest(turn.port, room) {
            turn.fx.stats.tcp_evicted += 1;
            turn.fx.stats.count_limit(Limit::Calling);
            if self.flows.port_of(oldest) == Some(turn.port) {
                self.reset_guest(turn, oldest);
            } else {
                // Another container's: when it answers our SYN, it is reset.
                self.forget(turn.fx, oldest, true);
            }
        }
    }

    /// A client has connected to a published port. Returns the name of its socket, or `None` if
    /// the flow cannot be opened and the connection is to be reset.
    pub(in crate::engine) fn accept(
        &mut self,
        turn: &mut Turn<'_>,
        client: SocketAddr,
        to_guest: (Option<IpAddr>, u16),
        retry: Option<Retry>,
    ) -> Option<SocketId> {
        self.make_room_to_call(turn);
        if !self.has_room(turn) {
            return None;
        }
        let (key, connection, other) = self.call(turn, client, to_guest)?;
        let index = self.flows.next_index();
        let socket = turn.fx.host.adopt(Owner::Tcp(index));
        let ticket = self.ticket();
        self.calling.insert(ticket, key.port, index);
        let until = turn.now + if retry.is_some() { CALLING_NEXT } else { CALLING };
        let retry = retry.map(Box::new);
        let state = State::Calling { connection, other, retry, until, ticket };
        self.flows.insert(TcpFlow::new(key, Some(socket), state, turn.now));
        turn.fx.stats.tcp_inbound += 1;
        log::debug!("flow {index} tcp {key}: client {client} calls");
        self.ask_egress(index);
        self.arm(turn, index);
        Some(socket)
    }

    /// A key for a client that is not in use: its own port if possible.
    fn free_key(
        &self,
        port: PortId,
        guest: SocketAddr,
        source: IpAddr,
        wanted: u16,
        random: u64,
    ) -> Option<FlowKey> {
        let (first, last) = (u64::from(*DYNAMIC_PORTS.start()), u64::from(*DYNAMIC_PORTS.end()));
        let count = last - first + 1;
        let others = (0..count)
            .filter_map(|step| u16::try_from(first + random.wrapping_add(step) % count).ok());
        std::iter::once(wanted)
            .chain(others)
            .map(|host_port| FlowKey { port, guest, host: SocketAddr::new(source, host_port) })
            .find(|key| self.flows.find(key).is_none())
    }

    /// A guest may answer our SYN with an acknowledgement alone: it remembers a connection of the
    /// same two ends (TIME-WAIT above all, for a minute, and clients use ports again sooner). Our
    /// reset has ended that one now (RFC 9293, section 3.5.2), so a new SYN goes out at once rather
    /// than after a second.
    pub(super) fn call_again(&mut self, turn: &mut Turn<'_>, index: usize) {
        if let Some(TcpFlow { key, state: State::Calling { connection, .. }, .. }) =
            self.flows.get_mut(index)
            && connection.state() == tcp::State::SynSent
            && let Some(another) = {
                let (ring, memory) = (connection.ring(), &self.rings.memory);
                turn.stack.connect(key.guest, key.host, ring, memory)
            }
        {
            **connection = another;
        }
        self.after_ingress(turn, index);
    }

    /// The guest says by ICMP that it takes no call of this flow, as a firewall does.
    pub(in crate::engine) fn handle_refused(
        &mut self,
        turn: &mut Turn<'_>,
        key: FlowKey,
    ) -> Verdict {
        let index = self.flows.find(&key).filter(|index| {
            self.flows.get(*index).is_some_and(|flow| matches!(flow.state, State::Calling { .. }))
        });
        let Some(index) = index else {
            return Verdict::Dropped(DropReason::UnhandledIcmp);
        };
        self.guest_refused(turn, index);
        Verdict::Flow
    }

    /// The guest refused a client: its other address family is tried, then the client is reset.
    pub(super) fn guest_refused(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let (old, port) = (flow.key, flow.key.host.port());
        let (guest, until, ticket) = match flow.state {
            State::Calling { other: Some(guest), until, ticket, .. } => (guest, until, ticket),
            State::Calling { retry: Some(_), .. } => return self.refused.push(index),
            _ => {
                turn.fx.stats.tcp_refused += 1;
                self.remove(turn, index, true);
                return;
            }
        };
        // The client's own address is of the wrong family now; the gateway stands in for it.
        let addresses = &turn.network.addresses;
        let source = match (guest, addresses.v6) {
            (SocketAddr::V6(_), Some(v6)) => IpAddr::V6(v6.gateway),
            _ => IpAddr::V4(addresses.v4.gateway),
        };
        let called = self
            .free_key(old.port, guest, source, port, u64::from(port))
            .and_then(|key| Some((key, self.connect(turn, key)?)));
        let Some((key, connection)) = called else {
            self.remove(turn, index, true);
            return;
        };
        let connection = Box::new(connection);
        self.flows.rekey(index, |flow| {
            let retry = match &mut flow.state {
                State::Calling { retry, .. } => retry.take(),
                _ => None,
            };
            let until = if retry.is_some() { until } else { turn.now + CALLING };
            flow.key = key;
            flow.state = State::Calling { connection, other: None, retry, until, ticket };
        });
        self.ask_egress(index);
        self.arm(turn, index);
    }

    /// The guest has lost an address: those who are called there have refused.
    pub(in crate::engine) fn guest_lost(&mut self, turn: &mut Turn<'_>, lost: IpAddr) {
        for index in self.flows.of_port(turn.port) {
            if self.flows.get(index).is_some_and(|flow| flow.calls(lost)) {
                self.guest_refused(turn, index);
            }
        }
    }

    /// Begins to call the guest for a client. Returns the flow's key, its connection and the
    /// guest's address of the other family.
    fn call(
        &self,
        turn: &mut Turn<'_>,
        client: SocketAddr,
        to_guest: (Option<IpAddr>, u16),
    ) -> Option<(FlowKey, Box<Connection>, Option<SocketAddr>)> {
        let (guest, guest_port) = to_guest;
        let Inbound { guest, other, source } =
            nat::inbound(turn.network, &doubt::lease(turn), client.ip(), guest);
        let guest = SocketAddr::new(guest, guest_port);
        let other = other.map(|ip| SocketAddr::new(ip, guest_port));
        let random = turn.fx.random.next_u64();
        let key = self.free_key(turn.port, guest, source, client.port(), random)?;
        let connection = self.connect(turn, key)?;
        Some((key, Box::new(connection), other))
    }

    fn connect(&self, turn: &mut Turn<'_>, key: FlowKey) -> Option<Connection> {
        let ring = self.rings.first(&turn.network.limits)?;
        turn.stack.connect(key.guest, key.host, ring, &self.rings.memory)
    }

    /// A flow whose guest has refused its client, or was silent, while there may be others to try.
    pub(in crate::engine) fn next_refused(&mut self) -> Option<(usize, Retry)> {
        loop {
            let index = self.refused.pop()?;
            if let Some(State::Calling { retry: Some(retry), .. }) =
                self.flows.get_mut(index).map(|flow| &mut flow.state)
            {
                return Some((index, Retry::clone(retry)));
            }
        }
    }

    /// Calls another guest, that of the turn, for a flow's client. `more` says whether there are
    /// others yet.
    pub(in crate::engine) fn call_next(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        mut retry: Retry,
        to_guest: (Option<IpAddr>, u16),
        more: bool,
    ) {
        let Some((key, connection, other)) = self.call(turn, retry.client, to_guest) else {
            self.turn_away(turn.fx, index);
            return;
        };
        retry.tried.push(turn.port);
        let until = turn.now + if more { CALLING_NEXT } else { CALLING };
        log::debug!("flow {index} tcp {key}: called instead");
        self.flows.rekey(index, |flow| {
            flow.leave_egress(turn.fx, index);
            flow.key = key;
            if let State::Calling { ticket, .. } = flow.state {
                let retry = more.then(|| Box::new(retry));
                flow.state = State::Calling { connection, other, retry, until, ticket };
            }
        });
        self.ask_egress(index);
        self.arm(turn, index);
    }

    /// Nobody takes a flow's client.
    pub(in crate::engine) fn turn_away(&mut self, fx: &mut Effects, index: usize) {
        fx.stats.tcp_refused += 1;
        self.forget(fx, index, true);
    }
}
