//! Echo flows: pings from a guest, sent by the host's ping sockets.
//!
//! A reply reaches the guest only if the pinged host sent one; the gateway answers for its own
//! addresses alone. Errors about a request go on to the guest, so that it can trace the way. Where
//! `net.ipv4.ping_group_range` forbids ping sockets (icmp(7)), the guest is told that its pings are
//! prohibited. Read first: RFC 792, RFC 4443 section 4.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, IpRepr};

use super::{FlowKey, KeyedHash};
use crate::config::{Limit, PassKind};
use crate::engine::frame::IpPacket;
use crate::engine::host::{Bounce, Owner, SocketId, SocketKind};
use crate::engine::icmp::{self, IcmpError, Unreachable, V4_ECHO_REPLY, V6_ECHO_REPLY};
use crate::engine::nat;
use crate::engine::stats::{DropReason, Verdict};
use crate::engine::table::{Entry, Table};
use crate::engine::turn::Effects;
use crate::engine::view::FlowView;
use crate::engine::{Instant, PortId, Turn};

/// Silence after which an echo flow is forgotten.
const IDLE: Duration = Duration::from_secs(30);

/// All echo flows. In their keys the guest's port number is the identifier, the host's is 0.
#[derive(Debug)]
pub(in crate::engine) struct EchoFlows {
    pub(in crate::engine) flows: Table<EchoFlow>,
}

#[derive(Debug)]
pub(in crate::engine) struct EchoFlow {
    key: FlowKey,
    socket: SocketId,
    /// How the last request began, for an error to quote: it may have been of 64 KiB.
    pub(in crate::engine) request: Vec<u8>,
    to_host_bytes: u64,
    to_guest_bytes: u64,
    opened: Instant,
    last_active: Instant,
}

impl EchoFlows {
    pub(in crate::engine) fn new(hash: KeyedHash) -> Self {
        Self { flows: Table::new(hash) }
    }

    /// Takes an echo request from a guest.
    pub(in crate::engine) fn handle_request(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &IpPacket<'_>,
    ) -> Verdict {
        let Some((&[_, _, _, _, id0, id1, seq0, seq1], body)) =
            packet.payload().split_first_chunk()
        else {
            return Verdict::Dropped(DropReason::Malformed);
        };
        let addresses = (packet.destination, packet.source);
        if turn.is_own_address(packet.destination) {
            icmp::send_echo_reply(turn, addresses, [id0, id1, seq0, seq1], body);
            return Verdict::Gateway;
        }
        if nat::denied(turn.network, packet.destination) {
            icmp::send_denied(turn, packet.bytes);
            return Verdict::Refused;
        }
        let key = FlowKey {
            port: turn.port,
            guest: SocketAddr::new(packet.source, u16::from_be_bytes([id0, id1])),
            host: SocketAddr::new(packet.destination, 0),
        };
        let index = match self.flows.find(&key) {
            Some(index) => index,
            None if turn.admits(PassKind::Icmp, key.host) => self.open(turn, key),
            None => {
                icmp::send_denied(turn, packet.bytes);
                return Verdict::Refused;
            }
        };
        let Some(flow) = self.flows.get_mut(index) else {
            return Verdict::Dropped(DropReason::NoFlow);
        };
        flow.request.clear();
        let quoted = packet.bytes.get(..icmp::LONGEST_QUOTE).unwrap_or(packet.bytes);
        flow.request.extend_from_slice(quoted);
        flow.to_host_bytes += body.len() as u64;
        flow.last_active = turn.now;
        // The kernel writes its own identifier and the checksum.
        turn.fx.host.send(flow.socket, Some(key.host), None, packet.onward(), packet.payload());
        self.flows.set_deadline(index, Some(turn.now + IDLE));
        Verdict::Flow
    }

    fn open(&mut self, turn: &mut Turn<'_>, key: FlowKey) -> usize {
        let room = turn.room(Limit::Echo, Limit::EchoEach);
        if let Some(port) = self.flows.crowded(turn.port, room)
            && let Some(silent) = self.flows.pop_least(port)
        {
            turn.count_limit(Limit::Echo, Limit::EchoEach, room, self.flows.len_of(turn.port));
            self.remove(turn, silent);
        }
        let index = self.flows.next_index();
        let kind = SocketKind::Ping { v6: key.guest.is_ipv6() };
        let socket = turn.fx.host.open(Owner::Echo(index), kind);
        turn.fx.stats.echo_opened += 1;
        self.flows.insert(EchoFlow {
            key,
            socket,
            request: Vec::new(),
            to_host_bytes: 0,
            to_guest_bytes: 0,
            opened: turn.now,
            last_active: turn.now,
        })
    }

    /// Takes an ICMP message from a flow's ping socket.
    pub(in crate::engine) fn handle_reply(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        from: IpAddr,
        message: &[u8],
    ) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let Some((&[kind, _, _, _, _, _, seq0, seq1], body)) = message.split_first_chunk() else {
            return;
        };
        // A ping socket may hear other messages; only the answer to a request is one.
        let reply = if flow.key.host.is_ipv6() { V6_ECHO_REPLY } else { V4_ECHO_REPLY };
        if kind != reply || from != flow.key.host.ip() {
            turn.fx.stats.count_drop(DropReason::UnknownSender);
            return;
        }
        flow.to_guest_bytes += body.len() as u64;
        let [id0, id1] = flow.key.guest.port().to_be_bytes();
        let addresses = (from, flow.key.guest.ip());
        self.flows.set_deadline(index, Some(turn.now + IDLE));
        icmp::send_echo_reply(turn, addresses, [id0, id1, seq0, seq1], body);
    }

    /// A request of this flow got an error instead of a reply.
    pub(in crate::engine) fn handle_bounce(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        bounce: Bounce,
        message: &[u8],
    ) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let quoted = flow.quote(message);
        let v6 = flow.key.host.is_ipv6();
        let (by, error) = match bounce {
            Bounce::TooLong { mtu } => (None, Some(IcmpError::too_long(v6, mtu))),
            Bounce::Icmp { by, kind, code, mtu } => {
                let by = nat::client_as_seen_by_guest(turn.network, by);
                (Some(by), IcmpError::heard(v6, kind, code, mtu))
            }
        };
        let Some(error) = error else {
            return;
        };
        self.flows.set_deadline(index, Some(turn.now + IDLE));
        icmp::send_error(turn, by, &quoted, error);
    }

    /// The host could not send one of this flow's requests.
    pub(in crate::engine) fn handle_unsent(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        error: ErrorKind,
    ) {
        if let Some(flow) = self.flows.get(index)
            && let Some(reason) = Unreachable::from_error(error)
        {
            icmp::send_unreachable(turn, &flow.request, reason);
        }
    }

    /// The host cannot send this flow's requests.
    pub(in crate::engine) fn handle_failed(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        error: ErrorKind,
    ) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let request = std::mem::take(&mut flow.request);
        if let Some(reason) = Unreachable::from_error(error) {
            icmp::send_unreachable(turn, &request, reason);
        }
        self.remove(turn, index);
    }

    fn remove(&mut self, turn: &mut Turn<'_>, index: usize) {
        if let Some(flow) = self.flows.remove(index) {
            turn.fx.host.close(flow.socket, false);
        }
    }

    /// Forgets every flow: the next request opens a new socket.
    pub(in crate::engine) fn renew(&mut self, fx: &mut Effects) {
        let all: Vec<usize> = self.flows.iter().map(|(index, _)| index).collect();
        for index in all {
            if let Some(flow) = self.flows.remove(index) {
                fx.host.close(flow.socket, false);
            }
        }
    }

    /// Forgets what a port has asked.
    pub(in crate::engine) fn remove_port(&mut self, turn: &mut Turn<'_>) {
        for index in self.flows.of_port(turn.port) {
            self.remove(turn, index);
        }
    }

    /// Ends what the guest may not have opened any more.
    pub(in crate::engine) fn end_denied(&mut self, turn: &mut Turn<'_>) {
        for index in self.flows.of_port(turn.port) {
            let host = self.flows.get(index).map(|flow| flow.key.host);
            if host.is_some_and(|host| !turn.still_admits(PassKind::Icmp, host)) {
                self.remove(turn, index);
            }
        }
    }

    pub(in crate::engine) fn handle_timeout(&mut self, turn: &mut Turn<'_>, index: usize) {
        self.remove(turn, index);
    }
}

impl EchoFlow {
    /// The request that the host sent as `message`, as the guest sent it: the kernel has written an
    /// identifier of its own. Without the message it is the last one.
    fn quote(&self, message: &[u8]) -> Vec<u8> {
        let Some((&[kind, code, _, _, _, _, seq0, seq1], body)) = message.split_first_chunk()
        else {
            return self.request.clone();
        };
        let (guest, host) = (self.key.guest.ip(), self.key.host.ip());
        let [id0, id1] = self.key.guest.port().to_be_bytes();
        let mut quoted = vec![kind, code, 0, 0, id0, id1, seq0, seq1];
        quoted.extend_from_slice(body);
        let protocol = if guest.is_ipv6() { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
        let ip = IpRepr::new(guest.into(), host.into(), protocol, quoted.len(), 1);
        let mut packet = vec![0; ip.header_len()];
        ip.emit(&mut packet[..], &ChecksumCapabilities::default());
        packet.extend_from_slice(&quoted);
        packet
    }

    /// The flow as it looks from outside, without its name.
    pub(in crate::engine) fn view(&self) -> FlowView {
        FlowView {
            port: self.key.port,
            protocol: "icmp",
            outbound: true,
            guest: self.key.guest,
            host: self.key.host,
            host_name: None,
            state: if self.to_guest_bytes > 0 { "ACTIVE" } else { "ONE-WAY" },
            to_host_bytes: self.to_host_bytes,
            to_guest_bytes: self.to_guest_bytes,
            opened: self.opened,
        }
    }
}

impl Entry for EchoFlow {
    type Key = FlowKey;

    fn key(&self) -> FlowKey {
        self.key
    }

    fn port(&self) -> PortId {
        self.key.port
    }

    fn rank(&self) -> i64 {
        self.last_active.total_micros()
    }
}

impl fmt::Display for EchoFlows {
    /// One line a flow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, flow) in self.flows.iter() {
            let (guest, host) = (flow.key.guest, flow.key.host.ip());
            writeln!(f, "  flow {index} echo {} id {} > {host}", guest.ip(), guest.port())?;
        }
        Ok(())
    }
}
