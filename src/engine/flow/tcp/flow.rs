//! One TCP flow: its state, and what is true in it.
//!
//! What moves a flow from one state to the next is in the parent module; the halves of an open one
//! are in [`super::open`].

use std::net::{IpAddr, SocketAddr};

use smoltcp::socket::tcp;

use super::open::Open;
use super::rings::Look;
use crate::engine::dns::stream::Service;
use crate::engine::flow::FlowKey;
use crate::engine::host::SocketId;
use crate::engine::stack::Connection;
use crate::engine::table::Entry;
use crate::engine::turn::Effects;
use crate::engine::view::FlowView;
use crate::engine::{Instant, PortId};

#[derive(Debug)]
pub(in crate::engine) struct TcpFlow {
    pub(super) key: FlowKey,
    /// The host's socket; `None` once it is closed.
    pub(super) socket: Option<SocketId>,
    /// What stands for it where the guest speaks with the DNS forwarder.
    pub(super) service: Option<Box<Service>>,
    pub(super) state: State,
    /// Of an outbound one whose handshake is not over; see [`super::TcpFlows`].
    pub(super) ticket: Option<u64>,
    pub(super) in_egress: bool,
    pub(super) relay_asked: bool,
    pub(super) to_guest_bytes: u64,
    pub(super) to_host_bytes: u64,
    /// Set while it has larger rings.
    pub(super) look: Option<Look>,
    opened: Instant,
    pub(super) outbound: bool,
}

/// A client of a published port that leads to several guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Retry {
    /// The published port, as the engine numbers them.
    pub(in crate::engine) rule: usize,
    pub(in crate::engine) client: SocketAddr,
    /// Whose turn it was already.
    pub(in crate::engine) tried: Vec<PortId>,
}

#[derive(Debug)]
pub(super) enum State {
    /// Entered with a guest's SYN; the host socket is connecting and the SYN is held.
    /// Leaves with the connection's success, its failure or [`super::OPENING`].
    Opening { syn: Box<[u8]>, header_len: usize, until: Instant },
    /// Entered with a client's connection; our SYN is with the guest.
    /// Leaves with the guest's answer or when it has waited too long. `other` is the guest's address
    /// of the other family, tried when this one refuses; `retry` is set where other guests are tried
    /// then.
    Calling {
        connection: Box<Connection>,
        other: Option<SocketAddr>,
        retry: Option<Box<Retry>>,
        until: Instant,
        ticket: u64,
    },
    /// Both sides stand and bytes may flow in any direction that is not over.
    /// Leaves when both halves are over, or with a reset from either side.
    Open(Box<Open>),
    /// The host's side is closed in order; the guest has yet to acknowledge the rest.
    /// Leaves with the last acknowledgement or after too long a silence ([`super::patience`]).
    Closing { connection: Box<Connection>, until: Instant },
}

impl TcpFlow {
    pub(super) fn new(key: FlowKey, socket: Option<SocketId>, state: State, now: Instant) -> Self {
        let outbound = !matches!(state, State::Calling { .. });
        Self {
            key,
            socket,
            service: None,
            state,
            ticket: None,
            in_egress: false,
            relay_asked: false,
            to_guest_bytes: 0,
            to_host_bytes: 0,
            look: None,
            opened: now,
            outbound,
        }
    }

    /// Whether the guest is called at this address and has not answered.
    pub(super) fn calls(&self, guest: IpAddr) -> bool {
        self.key.guest.ip() == guest && matches!(self.state, State::Calling { .. })
    }

    /// The flow as it looks from outside, without its name.
    pub(in crate::engine) fn view(&self) -> FlowView {
        let state = match &self.state {
            // The guest's SYN is held, ours is out: to its peer that is the same.
            State::Opening { .. } | State::Calling { .. } => tcp::State::SynSent,
            State::Open(open) => open.connection.state(),
            State::Closing { connection, .. } => connection.state(),
        };
        let state = match state {
            tcp::State::Closed => "CLOSED",
            tcp::State::Listen => "LISTEN",
            tcp::State::SynSent => "SYN-SENT",
            tcp::State::SynReceived => "SYN-RECEIVED",
            tcp::State::Established => "ESTABLISHED",
            tcp::State::FinWait1 => "FIN-WAIT-1",
            tcp::State::FinWait2 => "FIN-WAIT-2",
            tcp::State::CloseWait => "CLOSE-WAIT",
            tcp::State::Closing => "CLOSING",
            tcp::State::LastAck => "LAST-ACK",
            tcp::State::TimeWait => "TIME-WAIT",
        };
        FlowView {
            port: self.key.port,
            protocol: "tcp",
            outbound: self.outbound,
            guest: self.key.guest,
            host: self.key.host,
            host_name: None,
            state,
            to_host_bytes: self.to_host_bytes,
            to_guest_bytes: self.to_guest_bytes,
            opened: self.opened,
        }
    }

    /// It waits for no port's rate any more. An index that is left in the queue of those that do not
    /// wait is skipped, or serves the flow that has it next.
    pub(super) fn leave_egress(&mut self, fx: &mut Effects, index: usize) {
        if std::mem::take(&mut self.in_egress) {
            fx.frames.shaper.unpark(self.key.port, index);
        }
    }

    pub(super) fn close_host(&mut self, fx: &mut Effects, reset: bool) {
        if let Some(socket) = self.socket.take() {
            fx.host.close(socket, reset);
        }
    }
}

impl State {
    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Opening { .. } => None,
            Self::Calling { connection, .. } | Self::Closing { connection, .. } => Some(connection),
            Self::Open(open) => Some(&mut open.connection),
        }
    }

    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Self::Opening { until, .. }
            | Self::Calling { until, .. }
            | Self::Closing { until, .. } => Some(*until),
            Self::Open(open) => open.until,
        }
    }

    /// The earlier of its own deadline and that of a silent client of the DNS forwarder.
    pub(super) fn until_or_idle(&self, service: Option<&Service>) -> Option<Instant> {
        let idle = match self {
            Self::Open(_) => service.map(|service| service.idle_at),
            Self::Opening { .. } | Self::Calling { .. } | Self::Closing { .. } => None,
        };
        self.until().into_iter().chain(idle).min()
    }

    /// Stands in for a moment while one state's connection moves to the next.
    pub(super) fn placeholder() -> Self {
        Self::Opening { syn: Box::default(), header_len: 0, until: Instant::ZERO }
    }
}

impl Entry for TcpFlow {
    type Key = FlowKey;

    fn key(&self) -> FlowKey {
        self.key
    }

    fn port(&self) -> PortId {
        self.key.port
    }
}
