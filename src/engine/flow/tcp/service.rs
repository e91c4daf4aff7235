//! Flows that end in the DNS forwarder: a [`Service`] stands where others have a host socket.
//!
//! Bytes move as they do for any open flow. What comes out of them, whole queries, waits in
//! [`TcpFlows::dns_queries`] for the engine to bring it to the forwarder, and the answers back.

use super::flow::{State, TcpFlow};
use super::open::Open;
use super::{TcpFlows, ingress};
use crate::engine::dns::StreamClient;
use crate::engine::dns::stream::Service;
use crate::engine::flow::FlowKey;
use crate::engine::frame::IpPacket;
use crate::engine::stack::Stack;
use crate::engine::stats::Verdict;
use crate::engine::{PortId, Turn};

impl TcpFlows {
    /// Takes a guest's SYN for the forwarder, which is always there.
    pub(super) fn open_service(
        &mut self,
        turn: &mut Turn<'_>,
        key: FlowKey,
        packet: IpPacket<'_>,
    ) -> Verdict {
        let room = self.has_room(turn);
        let ring = self.rings.first(&turn.network.limits).filter(|_| room);
        let memory = &self.rings.memory;
        let connection = ring.and_then(|ring| Stack::accept(key.host, ring, memory));
        let Some(mut connection) = connection else {
            turn.fx.stats.tcp_refused += 1;
            turn.refuse(packet.bytes);
            return Verdict::Refused;
        };
        let taken = ingress(turn, &mut connection, packet.bytes, packet.header_len);
        let ticket = self.ticket_to_open(turn);
        let state = State::Open(Box::new(Open::new(connection, turn.now)));
        let mut flow = TcpFlow::new(key, None, state, turn.now);
        flow.service = Some(Box::new(Service::new(self.ticket(), turn.now)));
        let index = self.insert_half_open(flow, ticket);
        turn.fx.stats.tcp_outbound += 1;
        log::debug!("flow {index} tcp {key}: open to the DNS forwarder");
        match taken {
            Ok(()) => self.settle(turn, index),
            Err(_) => self.remove_after_panic(turn, index),
        }
        Verdict::Flow
    }

    /// The next flow for [`TcpFlows::relay_service`], with its port.
    pub(in crate::engine) fn next_service(&mut self) -> Option<(PortId, usize)> {
        loop {
            let index = self.services.pop_front()?;
            if let Some(flow) = self.flows.get(index).filter(|flow| flow.service.is_some()) {
                return Some((flow.key.port, index));
            }
        }
    }

    /// Moves bytes between a guest and the forwarder's end of its connection.
    pub(in crate::engine) fn relay_service(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.relay_asked = false;
        let (State::Open(open), Some(service)) = (&mut flow.state, flow.service.as_deref_mut())
        else {
            return;
        };
        let serial = service.serial;
        let client = StreamClient { port: flow.key.port, flow: index, serial, local: false };
        loop {
            let taken = open.relay_to_host(service);
            let given = open.relay_to_guest(service);
            flow.to_host_bytes += taken;
            flow.to_guest_bytes += given;
            let mut asked = false;
            while let Some(query) = service.next_query(turn.now) {
                self.dns_queries.push_back((client, query));
                asked = true;
            }
            if taken == 0 && given == 0 && !asked {
                break;
            }
        }
        self.settle(turn, index);
    }

    /// Gives a guest the answer to one of its queries; `None` if it gets none.
    pub(in crate::engine) fn answer_service(
        &mut self,
        turn: &mut Turn<'_>,
        client: StreamClient,
        answer: Option<&[u8]>,
    ) {
        let service = self.flows.get_mut(client.flow).and_then(|flow| flow.service.as_deref_mut());
        if let Some(service) = service.filter(|service| service.serial == client.serial) {
            service.answer(answer, turn.now);
            self.relay_service(turn, client.flow);
        }
    }

    /// Whether a flow to the forwarder was silent for so long that it is to be reset. At first it
    /// is only ended.
    pub(super) fn is_silent(&mut self, turn: &mut Turn<'_>, index: usize) -> bool {
        let Some(flow) = self.flows.get_mut(index) else {
            return false;
        };
        let (State::Open(_), Some(service)) = (&flow.state, flow.service.as_deref_mut()) else {
            return false;
        };
        if service.idle_at > turn.now {
            return false;
        }
        if service.handle_idle(turn.now) {
            return true;
        }
        self.ask_relay(turn, index);
        false
    }
}
