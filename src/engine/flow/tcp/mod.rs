//! TCP flows: a connection with the guest (smoltcp) and a socket on the host, bytes between them.
//!
//! ```text
//! outbound  SYN -> Opening --host connected--> Open --both halves done--> Closing -> gone
//! inbound   accept -> Calling --guest's SYN-ACK--^
//! ```
//!
//! Nothing is buffered between the two sides but the rings of the guest's connection, so
//! back-pressure is the TCP window: never read from one side what the other cannot take.
//! A guest's SYN is answered only when the host's side stands (or with a reset or an ICMP error
//! when it does not), so a container sees what a program on the host would see.
//! Not here: the TCP protocol itself ([`crate::engine::stack`]) and the meaning of addresses
//! ([`crate::engine::nat`]).

mod call;
mod flow;
mod open;
mod rings;
mod service;
mod unfinished;

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;

use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::TcpPacket;

pub(in crate::engine) use self::flow::Retry;
use self::flow::{State, TcpFlow};
use self::open::{End, Open};
use self::rings::Rings;
pub(in crate::engine) use self::rings::SMALL_RING as SMALLEST_RING;
use self::unfinished::{Oldest, Unfinished};
use super::{FlowKey, KeyedHash};
use crate::config::{Limit, PassKind};
use crate::engine::dns::StreamClient;
use crate::engine::doubt;
use crate::engine::frame::IpPacket;
use crate::engine::host::{HostStream, Owner, SocketKind};
use crate::engine::icmp::{self, Unreachable};
use crate::engine::nat::{self, Meaning};
use crate::engine::stack::{Connection, Panicked, Stack};
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::table::Table;
use crate::engine::turn::Effects;
use crate::engine::{PortId, Turn};

/// Most frames one flow sends in a row while others wait.
const BURST_FRAMES: u32 = 64;
/// How long a host connection may take. Linux itself gives up after about 130 s.
const OPENING: Duration = Duration::from_secs(150);
/// The longest packet that is kept as a SYN: headers of both layers with all their options, and
/// more than any system sends on its first SYN. What comes with a longer one would be kept in vain.
const MAX_SYN: usize = 576;
/// Silence after which a guest that owes only acknowledgements is forgotten, as Linux does with
/// orphans (`tcp(7)`, `tcp_fin_timeout`).
const ORPHAN: Duration = Duration::from_secs(60);
/// The same while it has bytes left to read: smoltcp asks a guest with a full window once a minute
/// at the most, and one lost answer is no silence.
const SLOW_READER: Duration = Duration::from_secs(150);
/// How long a host may take nothing of what a guest left behind, as long as Linux asks a peer with a
/// full window on behalf of a program that is gone (ip-sysctl, `tcp_retries2`: 924 s).
const SLOW_HOST: Duration = Duration::from_secs(15 * 60);
/// How long a guest may take to acknowledge our SYN-ACK (as long as Linux: `tcp_synack_retries`).
const HANDSHAKE: Duration = Duration::from_secs(60);
/// Timers of smoltcp are looked at no sooner than this.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// All TCP flows, found by key or by index.
#[derive(Debug)]
pub(in crate::engine) struct TcpFlows {
    pub(in crate::engine) flows: Table<TcpFlow>,
    /// Flows that may have segments for their guest, each at most once.
    egress: VecDeque<usize>,
    burst: u32,
    /// Outbound flows whose host has not answered, or whose guest has not acknowledged our SYN-ACK.
    opening: Unfinished,
    /// Those in [`State::Calling`], which have theirs there.
    calling: Unfinished,
    /// Those of them whose guest is given up, for another to be tried.
    refused: Vec<usize>,
    next_ticket: u64,
    /// Flows to the DNS forwarder whose bytes can be moved.
    services: VecDeque<usize>,
    /// Queries that came on them.
    pub(in crate::engine) dns_queries: VecDeque<(StreamClient, Vec<u8>)>,
    rings: Rings,
}

impl TcpFlows {
    pub(in crate::engine) fn new(hash: KeyedHash) -> Self {
        Self {
            flows: Table::new(hash),
            egress: VecDeque::new(),
            burst: 0,
            opening: Unfinished::default(),
            calling: Unfinished::default(),
            refused: Vec::new(),
            next_ticket: 0,
            services: VecDeque::new(),
            dns_queries: VecDeque::new(),
            rings: Rings::default(),
        }
    }

    /// Takes a segment from a guest.
    pub(in crate::engine) fn handle_segment(
        &mut self,
        turn: &mut Turn<'_>,
        packet: IpPacket<'_>,
    ) -> Verdict {
        let Ok(tcp) = TcpPacket::new_checked(packet.payload()) else {
            return Verdict::Dropped(DropReason::Malformed);
        };
        let key = FlowKey {
            port: turn.port,
            guest: SocketAddr::new(packet.source, tcp.src_port()),
            host: SocketAddr::new(packet.destination, tcp.dst_port()),
        };
        let (syn, ack, rst) = (tcp.syn(), tcp.ack(), tcp.rst());
        if let Some(index) = self.flows.find(&key) {
            return self.segment_of_flow(turn, index, packet, rst);
        }
        if rst {
            return Verdict::Dropped(DropReason::NoFlow);
        }
        if syn && !ack {
            return self.open_outbound(turn, key, packet);
        }
        turn.refuse(packet.bytes);
        Verdict::Refused
    }

    fn segment_of_flow(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        packet: IpPacket<'_>,
        rst: bool,
    ) -> Verdict {
        let Some(flow) = self.flows.get_mut(index) else {
            return Verdict::Dropped(DropReason::NoFlow);
        };
        let connection = match &mut flow.state {
            State::Opening { .. } if rst => {
                self.remove(turn, index, true);
                return Verdict::Flow;
            }
            State::Opening { syn, header_len, .. } => {
                // Another SYN of the same ports: the guest has given the first one up.
                let replaced = packet.bytes.len() <= MAX_SYN && **syn != *packet.bytes;
                if !replaced || !is_syn(packet.payload()) {
                    return Verdict::Dropped(DropReason::NotYetOpen);
                }
                *syn = (&*packet.bytes).into();
                *header_len = packet.header_len;
                return Verdict::Flow;
            }
            State::Calling { connection, .. } | State::Closing { connection, .. } => connection,
            State::Open(open) => &mut open.connection,
        };
        let of_another = is_bare_ack(packet.payload());
        match ingress(turn, connection, packet.bytes, packet.header_len) {
            Ok(()) if of_another => self.call_again(turn, index),
            Ok(()) => self.after_ingress(turn, index),
            Err(Panicked) => self.remove_after_panic(turn, index),
        }
        Verdict::Flow
    }

    fn open_outbound(
        &mut self,
        turn: &mut Turn<'_>,
        key: FlowKey,
        packet: IpPacket<'_>,
    ) -> Verdict {
        let to = match nat::translate(turn.network, key.host) {
            Meaning::Host(to) if turn.admits(PassKind::Tcp, to) => Some(to),
            Meaning::Dns => return self.open_service(turn, key, packet),
            Meaning::Closed => None,
            Meaning::Host(_) | Meaning::Denied => {
                icmp::send_denied(turn, packet.bytes);
                return Verdict::Refused;
            }
        };
        let Some(to) = to.filter(|_| self.has_room(turn)) else {
            turn.fx.stats.tcp_refused += 1;
            turn.refuse(packet.bytes);
            return Verdict::Refused;
        };
        if packet.bytes.len() > MAX_SYN {
            return Verdict::Dropped(DropReason::Malformed);
        }
        let ticket = self.ticket_to_open(turn);
        let index = self.flows.next_index();
        let socket = turn.fx.host.open(Owner::Tcp(index), SocketKind::TcpConnect(to));
        let state = State::Opening {
            syn: (&*packet.bytes).into(),
            header_len: packet.header_len,
            until: turn.now + OPENING,
        };
        let flow = TcpFlow::new(key, Some(socket), state, turn.now);
        self.insert_half_open(flow, ticket);
        turn.fx.stats.tcp_outbound += 1;
        log::debug!("flow {index} tcp {key}: opening to {to}");
        self.arm(turn, index);
        Verdict::Flow
    }

    /// Whether a port may have another connection; if not, it is counted why.
    fn has_room(&self, turn: &mut Turn<'_>) -> bool {
        let room = turn.room(Limit::Tcp, Limit::TcpEach);
        if self.flows.crowded(turn.port, room).is_some() {
            let own = self.flows.len_of(turn.port);
            turn.count_limit(Limit::Tcp, Limit::TcpEach, room, own);
            return false;
        }
        let memory = self.rings.first(&turn.network.limits).is_some();
        if !memory {
            turn.fx.stats.count_limit(Limit::Memory);
        }
        memory
    }

    /// What the rings of all connections have, in bytes.
    pub(in crate::engine) fn memory(&self) -> usize {
        self.rings.memory.used()
    }

    /// The ticket of a flow that is to be opened. Forgets the oldest whose handshake is not over if
    /// there are too many, so that a flood of SYNs keeps nobody out, whether they lead into a void or
    /// to a port that is open. A guest that still cares sends its SYN again; one whose SYN was answered
    /// is reset when it says something.
    fn ticket_to_open(&mut self, turn: &mut Turn<'_>) -> u64 {
        let room = turn.room(Limit::Opening, Limit::OpeningEach);
        if let Some(Oldest { index, own }) = self.opening.oldest(turn.port, room) {
            turn.fx.stats.tcp_evicted += 1;
            turn.count_limit(Limit::Opening, Limit::OpeningEach, room, own);
            self.remove(turn, index, true);
        }
        self.ticket()
    }

    fn insert_half_open(&mut self, mut flow: TcpFlow, ticket: u64) -> usize {
        flow.ticket = Some(ticket);
        let port = flow.key.port;
        let index = self.flows.insert(flow);
        self.opening.insert(ticket, port, index);
        index
    }

    fn ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// The host's side of an outbound flow stands: the guest's SYN is answered now.
    pub(in crate::engine) fn handle_connected(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let State::Opening { syn, header_len, .. } = &mut flow.state else {
            return;
        };
        let ring = self.rings.first(&turn.network.limits);
        if ring.is_none() {
            // Others have taken the memory since its SYN came.
            turn.fx.stats.count_limit(Limit::Memory);
            turn.fx.stats.tcp_refused += 1;
            turn.refuse(syn);
        }
        let memory = &self.rings.memory;
        let connection = ring.and_then(|ring| Stack::accept(flow.key.host, ring, memory));
        let Some(mut connection) = connection else {
            self.remove(turn, index, true);
            return;
        };
        if ingress(turn, &mut connection, syn, *header_len).is_err() {
            self.remove_after_panic(turn, index);
            return;
        }
        flow.state = State::Open(Box::new(Open::new(connection, turn.now)));
        log::debug!("flow {index} tcp {}: open", flow.key);
        self.settle(turn, index);
    }

    /// The host's side of a flow failed.
    pub(in crate::engine) fn handle_failed(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        error: ErrorKind,
    ) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let State::Opening { syn, .. } = &flow.state else {
            self.reset_guest(turn, index);
            return;
        };
        turn.fx.stats.tcp_refused += 1;
        log::debug!("flow {index} tcp {}: {error}", flow.key);
        match Unreachable::from_error(error) {
            Some(reason) => icmp::send_unreachable(turn, syn, reason),
            None => turn.refuse(syn),
        }
        self.remove(turn, index, true);
    }

    /// Moves bytes between the guest's rings and the host's socket, as far as both allow.
    pub(in crate::engine) fn relay(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        stream: &mut impl HostStream,
    ) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.relay_asked = false;
        let open = match &mut flow.state {
            State::Open(open) => open,
            // Its client is gone: nobody waits for the guest any more.
            State::Calling { .. } if stream.is_broken() => return self.reset_guest(turn, index),
            _ => return,
        };
        let taken = open.relay_to_host(stream);
        if taken > 0 {
            open.note_host_progress(turn.now);
        }
        flow.to_host_bytes += taken;
        flow.to_guest_bytes += open.relay_to_guest(stream);
        open.note_host_state(stream);
        self.offer_rings(turn, index);
        self.settle(turn, index);
    }

    /// After the guest's side changed: what follows for the host's side.
    fn after_ingress(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        match &mut flow.state {
            State::Opening { .. } => {}
            State::Calling { connection, .. } => match connection.state() {
                tcp::State::SynSent | tcp::State::SynReceived => {}
                tcp::State::Closed => return self.guest_refused(turn, index),
                _ => {
                    let State::Calling { connection, ticket, .. } =
                        std::mem::replace(&mut flow.state, State::placeholder())
                    else {
                        return;
                    };
                    self.calling.remove(ticket);
                    flow.state = State::Open(Box::new(Open::new(*connection, turn.now)));
                    log::debug!("flow {index} tcp {}: open", flow.key);
                    self.ask_relay(turn, index);
                }
            },
            State::Open(open) => {
                if open.connection.state() != tcp::State::SynReceived
                    && let Some(ticket) = flow.ticket.take()
                {
                    self.opening.remove(ticket);
                }
                open.note_guest_state(turn.now);
                if open.wants_relay() {
                    self.ask_relay(turn, index);
                }
                self.grow(turn, index);
            }
            State::Closing { connection, until } => *until = turn.now + patience(connection),
        }
        self.ask_egress(index);
        self.settle(turn, index);
    }

    /// Carries a flow's end across once it has one, and closes what is over.
    fn settle(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        match &mut flow.state {
            State::Opening { .. } | State::Calling { .. } => {}
            State::Open(open) => match open.end(turn.now) {
                End::NotYet => self.ask_egress(index),
                End::GuestReset => {
                    turn.fx.stats.tcp_reset += 1;
                    log::debug!("flow {index} tcp {}: reset by guest", flow.key);
                    self.remove(turn, index, true);
                    return;
                }
                End::HostReset => {
                    self.reset_guest(turn, index);
                    return;
                }
                End::Orderly => {
                    let State::Open(open) =
                        std::mem::replace(&mut flow.state, State::placeholder())
                    else {
                        return;
                    };
                    let connection = Box::new(open.connection);
                    let until = turn.now + patience(&connection);
                    flow.state = State::Closing { connection, until };
                    flow.close_host(turn.fx, false);
                    self.ask_egress(index);
                    // The guest may have acknowledged everything already.
                    return self.settle(turn, index);
                }
            },
            State::Closing { connection, .. } => {
                if matches!(connection.state(), tcp::State::TimeWait | tcp::State::Closed) {
                    log::debug!("flow {index} tcp {}: closed", flow.key);
                    self.remove(turn, index, false);
                    return;
                }
            }
        }
        self.arm(turn, index);
    }

    /// The port of the flow at the head of the egress queue.
    pub(in crate::engine) fn next_egress(&mut self) -> Option<PortId> {
        loop {
            let &index = self.egress.front()?;
            if let Some(flow) = self.flows.get(index) {
                return Some(flow.key.port);
            }
            self.egress.pop_front();
        }
    }

    /// Takes the flow at the head out of the queue, which has to wait for its port.
    pub(in crate::engine) fn leave_egress(&mut self) -> Option<usize> {
        self.burst = 0;
        self.egress.pop_front()
    }

    /// Puts flows back that had to wait.
    pub(in crate::engine) fn ask_egress_again(&mut self, flows: &mut VecDeque<usize>) {
        self.egress.append(flows);
    }

    /// Writes one segment of the flow at the head of the egress queue to the transmit frame.
    /// Returns `false` if that flow had none; it has left the queue then.
    pub(in crate::engine) fn write_egress(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(&index) = self.egress.front() else {
            return false;
        };
        let written = match self.flows.get_mut(index).map(|flow| &mut flow.state) {
            Some(state) => match state.connection_mut() {
                Some(connection) if connection.state() != tcp::State::TimeWait => {
                    turn.egress(connection)
                }
                _ => Ok(false),
            },
            None => Ok(false),
        };
        let Ok(written) = written else {
            self.egress.pop_front();
            self.burst = 0;
            self.remove_after_panic(turn, index);
            return false;
        };
        self.burst += 1;
        if !written {
            self.egress.pop_front();
            self.burst = 0;
            if let Some(flow) = self.flows.get_mut(index) {
                flow.in_egress = false;
                self.after_egress(turn, index);
            }
        } else if self.burst >= BURST_FRAMES {
            self.egress.rotate_left(1);
            self.burst = 0;
        }
        written
    }

    /// smoltcp may have given a connection up while it was polled (a timeout of its own).
    fn after_egress(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let gave_up = match &mut flow.state {
            State::Open(open) => {
                open.note_guest_left(turn.now);
                open.is_dead()
            }
            State::Calling { connection, .. } => connection.state() == tcp::State::Closed,
            State::Opening { .. } | State::Closing { .. } => false,
        };
        if gave_up {
            self.remove(turn, index, true);
        } else {
            self.grow(turn, index);
            self.arm(turn, index);
        }
    }

    /// A flow's deadline has come: its own, or one of smoltcp's.
    pub(in crate::engine) fn handle_timeout(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        match flow.state.until() {
            Some(until) if until <= turn.now => match flow.state {
                State::Opening { .. } => self.handle_failed(turn, index, ErrorKind::TimedOut),
                State::Calling { retry: Some(_), .. } => self.refused.push(index),
                State::Calling { .. } | State::Open(_) | State::Closing { .. } => {
                    self.reset_guest(turn, index);
                }
            },
            _ => {
                if self.is_silent(turn, index) {
                    self.reset_guest(turn, index);
                    return;
                }
                // Our SYN has had no answer.
                if let Some(v6) = turn.lease.v6
                    && self.flows.get(index).is_some_and(|flow| flow.calls(v6.into()))
                    && doubt::begin(turn)
                {
                    return self.guest_refused(turn, index);
                }
                self.ask_egress(index);
                self.settle(turn, index);
            }
        }
    }

    /// Resets the guest's connection, closes the host's and forgets the flow.
    fn reset_guest(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        if let Some(connection) = flow.state.connection_mut() {
            connection.socket_mut().abort();
            if turn.flush(connection).is_err() {
                self.remove_after_panic(turn, index);
                return;
            }
        }
        turn.fx.stats.tcp_reset += 1;
        log::debug!("flow {index} tcp {}: reset by host", flow.key);
        self.remove(turn, index, true);
    }

    /// Ends every flow of a port whose container is gone.
    pub(in crate::engine) fn remove_port(&mut self, turn: &mut Turn<'_>) {
        for index in self.flows.of_port(turn.port) {
            match self.flows.get(index).map(|flow| &flow.state) {
                Some(State::Calling { retry: Some(_), .. }) => self.refused.push(index),
                _ => self.remove(turn, index, true),
            }
        }
    }

    /// Ends what the guest has opened and may not have opened any more.
    pub(in crate::engine) fn end_denied(&mut self, turn: &mut Turn<'_>) {
        for index in self.flows.of_port(turn.port) {
            let Some(flow) = self.flows.get(index) else { continue };
            if !flow.outbound || turn.still_admits(PassKind::Tcp, flow.key.host) {
                continue;
            }
            match &flow.state {
                State::Opening { syn, .. } => {
                    icmp::send_denied(turn, syn);
                    self.remove(turn, index, true);
                }
                _ => self.reset_guest(turn, index),
            }
        }
    }

    /// A published port is no more: nobody else is tried for its clients.
    pub(in crate::engine) fn forget_rule(&mut self, rule: usize) {
        for index in self.flows.indices() {
            if let Some(State::Calling { retry, .. }) =
                self.flows.get_mut(index).map(|flow| &mut flow.state)
            {
                retry.take_if(|retry| retry.rule == rule);
            }
        }
    }

    fn remove_after_panic(&mut self, turn: &mut Turn<'_>, index: usize) {
        turn.fx.stats.flow_panics += 1;
        log::warn!("flow {index} tcp: killed after an internal error (please report it)");
        self.remove(turn, index, true);
    }

    fn remove(&mut self, turn: &mut Turn<'_>, index: usize, reset: bool) {
        self.forget(turn.fx, index, reset);
    }

    fn forget(&mut self, fx: &mut Effects, index: usize, reset: bool) {
        if let Some(mut flow) = self.flows.remove(index) {
            if let Some(ticket) = flow.ticket {
                self.opening.remove(ticket);
            }
            if let State::Calling { ticket, .. } = flow.state {
                self.calling.remove(ticket);
            }
            flow.leave_egress(fx, index);
            flow.close_host(fx, reset);
            if flow.look.is_some() {
                self.rings.forget(index);
            }
        }
    }

    /// Arms the earlier of the flow's own deadline and smoltcp's.
    fn arm(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let own = flow.state.until_or_idle(flow.service.as_deref());
        let idle = !flow.in_egress;
        let stack = match flow.state.connection_mut() {
            Some(connection) if idle && connection.state() != tcp::State::TimeWait => {
                turn.stack.poll_at(connection, turn.now)
            }
            _ => Ok(None),
        };
        let Ok(stack) = stack else {
            self.remove_after_panic(turn, index);
            return;
        };
        // What could be sent was sent: an earlier moment would only spin.
        let stack = stack.map(|at| at.max(turn.now + SHORTEST_TIMER));
        let due = match (own, stack) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.flows.set_deadline(index, due);
    }

    fn ask_egress(&mut self, index: usize) {
        if let Some(flow) = self.flows.get_mut(index)
            && !flow.in_egress
        {
            flow.in_egress = true;
            self.egress.push_back(index);
        }
    }

    fn ask_relay(&mut self, turn: &mut Turn<'_>, index: usize) {
        if let Some(flow) = self.flows.get_mut(index)
            && !flow.relay_asked
        {
            if let Some(socket) = flow.socket {
                flow.relay_asked = true;
                turn.fx.host.relay(socket);
            } else if flow.service.is_some() {
                flow.relay_asked = true;
                self.services.push_back(index);
            }
        }
    }
}

/// How long a guest may be silent that only has to acknowledge what it was sent.
fn patience(connection: &Connection) -> Duration {
    if connection.socket().send_queue() > 0 { SLOW_READER } else { ORPHAN }
}

/// Whether a segment asks for a new connection.
fn is_syn(segment: &[u8]) -> bool {
    TcpPacket::new_checked(segment).is_ok_and(|tcp| tcp.syn() && !tcp.ack() && !tcp.rst())
}

/// Whether a segment acknowledges and is neither a SYN nor a reset.
fn is_bare_ack(segment: &[u8]) -> bool {
    TcpPacket::new_checked(segment).is_ok_and(|tcp| tcp.ack() && !tcp.syn() && !tcp.rst())
}

/// Gives a packet to its connection. The acknowledgement of the guest's FIN goes out here and now:
/// in TIME-WAIT smoltcp is never polled again, because its timer clears the ring, with bytes in it
/// that a slow host has yet to take.
fn ingress(
    turn: &mut Turn<'_>,
    connection: &mut Connection,
    packet: &mut [u8],
    header_len: usize,
) -> Result<(), Panicked> {
    let before = connection.state();
    turn.ingress(connection, packet, header_len)?;
    if connection.state() == tcp::State::TimeWait && before != tcp::State::TimeWait {
        turn.flush(connection)?;
    }
    Ok(())
}

impl fmt::Display for TcpFlows {
    /// One line a flow, in the order of their keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut flows: Vec<_> = self.flows.iter().collect();
        flows.sort_by_key(|(_, flow)| flow.key);
        for (index, flow) in flows {
            let state = match &flow.state {
                State::Opening { .. } => "OPENING".to_owned(),
                State::Calling { .. } => "CALLING".to_owned(),
                State::Open(open) => open.connection.state().to_string(),
                State::Closing { connection, .. } => format!("closing {}", connection.state()),
            };
            let (tx, rx) = (flow.to_host_bytes, flow.to_guest_bytes);
            write!(f, "  flow {index} tcp {}: {state} tx {tx} rx {rx}", flow.key)?;
            match &flow.state {
                State::Open(open) => writeln!(f, " rings {}", open.connection.ring())?,
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }
}
