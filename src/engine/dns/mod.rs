//! The DNS forwarder at the gateway's DNS address.
//!
//! A query goes to the host's resolvers one after the other until one answers, each time from a
//! fresh socket connected to that server and under a fresh unpredictable id (RFC 5452, section
//! 9); an answer counts only if it comes from that server and repeats id and question. Messages
//! pass through byte for byte but for the id, so EDNS, truncation and every record type work.
//! Nothing is cached. Queries over TCP are ordinary flows to a resolver ([`super::flow::tcp`]).
//! Read first: RFC 1035 section 4, RFC 5452, RFC 9267 (what parsers get wrong).

mod message;

use std::net::SocketAddr;

use smoltcp::time::Duration;

use self::message::{Header, Query as Message, Rcode};
use super::flow::{FlowKey, KeyedHash};
use super::host::{Owner, SocketId, SocketKind};
use super::stats::{DropReason, Verdict};
use super::table::{Entry, Table};
use super::{PortId, Turn};

/// Most queries in flight; beyond, the oldest is answered with SERVFAIL to make room. An honest
/// server answers long before its query is the oldest of so many.
const MAX_QUERIES: usize = 1024;
/// The longest query that is taken, in bytes: what a client is told to expect of answers (RFC 6891,
/// section 6.2.5), while queries rarely have a hundred.
const MAX_QUERY_LEN: usize = 4096;
/// How long one server has to answer, in the first round over all of them and in the second.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// The host's resolvers, the one that answered last at the head.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resolvers {
    servers: Vec<SocketAddr>,
    preferred: usize,
}

impl Resolvers {
    /// Resolvers in the order of `resolv.conf(5)`.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, preferred: 0 }
    }

    /// Where a round over all servers begins now; what others learn meanwhile does not change it.
    pub(super) fn first(&self) -> usize {
        self.preferred
    }

    /// The server to ask on the `attempt`-th try of a round that began with `first`; `None` when
    /// all were asked.
    pub(super) fn get(&self, first: usize, attempt: usize) -> Option<SocketAddr> {
        if attempt >= self.servers.len() {
            return None;
        }
        self.servers.get((first + attempt) % self.servers.len()).copied()
    }

    /// Remembers that `server` answers, for the next query to begin with it.
    fn prefer(&mut self, server: SocketAddr) {
        if let Some(index) = self.servers.iter().position(|known| *known == server) {
            self.preferred = index;
        }
    }

    fn len(&self) -> usize {
        self.servers.len()
    }
}

/// Queries on their way.
#[derive(Debug)]
pub(super) struct Forwarder {
    /// By client and its id, so that a client's retransmission does not start a second query.
    pub(super) queries: Table<Query>,
}

#[derive(Debug)]
pub(super) struct Query {
    /// The client, and the forwarder's address as it sees it.
    client: FlowKey,
    client_id: u16,
    /// Which one it was since the start.
    number: u64,
    /// The query as the client sent it, with our id.
    message: Message,
    /// Where its round over the servers began, and how many tries there were.
    first: usize,
    attempt: usize,
    server: SocketAddr,
    socket: SocketId,
}

impl Forwarder {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self { queries: Table::new(hash) }
    }

    /// Takes a datagram to the forwarder's address.
    pub(super) fn handle_query(
        &mut self,
        turn: &mut Turn<'_>,
        client: FlowKey,
        payload: &[u8],
    ) -> Verdict {
        let bounded = Some(payload).filter(|payload| payload.len() <= MAX_QUERY_LEN);
        let Some(message) = bounded.and_then(Message::parse) else {
            if let Some(answer) = Header::parse(payload).and_then(Header::format_error) {
                turn.send_udp(client.host, client.guest, &answer);
            }
            return Verdict::Dropped(DropReason::Malformed);
        };
        let client_id = message.id();
        if self.queries.find(&(client, client_id)).is_some() {
            return Verdict::Dns;
        }
        turn.fx.stats.dns_queries += 1;
        let first = turn.resolvers.first();
        let Some(server) = turn.resolvers.get(first, 0) else {
            turn.fx.stats.dns_failed += 1;
            turn.send_udp(client.host, client.guest, &message.failure(client_id));
            return Verdict::Dns;
        };
        if self.queries.len() >= MAX_QUERIES {
            let oldest = self.queries.iter().min_by_key(|(_, query)| query.number);
            if let Some(index) = oldest.map(|(index, _)| index) {
                self.give_up(turn, index);
            }
        }
        let index = self.queries.next_index();
        let socket = turn.fx.host.open(Owner::Dns(index), SocketKind::UdpConnect(server));
        let (attempt, number) = (0, turn.fx.stats.dns_queries);
        self.queries.insert(Query {
            client,
            client_id,
            number,
            message,
            first,
            attempt,
            server,
            socket,
        });
        self.ask(turn, index);
        Verdict::Dns
    }

    /// Sends the query to its current server.
    fn ask(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(query) = self.queries.get_mut(index) else {
            return;
        };
        let [low, high, ..] = turn.fx.random.next_u64().to_le_bytes();
        query.message.set_id(u16::from_le_bytes([low, high]));
        turn.fx.host.send(query.socket, None, None, query.message.bytes());
        let round = query.attempt / turn.resolvers.len().max(1);
        let patience = PATIENCE.get(round).copied().unwrap_or(Duration::from_secs(3));
        self.queries.set_deadline(index, Some(turn.now + patience));
    }

    /// Takes a datagram from a query's socket, which is connected to the server asked.
    pub(super) fn handle_answer(&mut self, turn: &mut Turn<'_>, index: usize, answer: &[u8]) {
        let Some(query) = self.queries.get(index) else {
            return;
        };
        let Some(rcode) = query.message.rcode_of_answer(answer) else {
            turn.fx.stats.count_drop(DropReason::UnknownSender);
            return;
        };
        let unhelpful =
            matches!(rcode, Rcode::ServerFailure | Rcode::NotImplemented | Rcode::Refused);
        if unhelpful && query.attempt + 1 < turn.resolvers.len() {
            self.try_next(turn, index);
            return;
        }
        if !unhelpful {
            turn.resolvers.prefer(query.server);
        }
        let mut answer = answer.to_vec();
        if let Some(id) = answer.get_mut(..2) {
            id.copy_from_slice(&query.client_id.to_be_bytes());
        }
        let client = query.client;
        turn.send_udp(client.host, client.guest, &answer);
        self.remove(turn, index);
    }

    /// The query's socket failed: its server refuses or cannot be reached.
    pub(super) fn handle_failed(&mut self, turn: &mut Turn<'_>, index: usize) {
        self.try_next(turn, index);
    }

    /// Asks the next server, or gives up after the second round.
    fn try_next(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(query) = self.queries.get_mut(index) else {
            return;
        };
        query.attempt += 1;
        let servers = turn.resolvers.len().max(1);
        let next = (query.attempt < servers * PATIENCE.len())
            .then(|| turn.resolvers.get(query.first, query.attempt % servers))
            .flatten();
        let Some(server) = next else {
            self.give_up(turn, index);
            return;
        };
        turn.fx.host.close(query.socket, false);
        query.server = server;
        query.socket = turn.fx.host.open(Owner::Dns(index), SocketKind::UdpConnect(server));
        self.ask(turn, index);
    }

    /// Answers a query with SERVFAIL and forgets it.
    fn give_up(&mut self, turn: &mut Turn<'_>, index: usize) {
        if let Some(query) = self.queries.get(index) {
            turn.fx.stats.dns_failed += 1;
            let failure = query.message.failure(query.client_id);
            turn.send_udp(query.client.host, query.client.guest, &failure);
            self.remove(turn, index);
        }
    }

    fn remove(&mut self, turn: &mut Turn<'_>, index: usize) {
        if let Some(query) = self.queries.remove(index) {
            turn.fx.host.close(query.socket, false);
        }
    }

    /// Forgets what a port has asked.
    pub(super) fn remove_port(&mut self, turn: &mut Turn<'_>) {
        for index in self.queries.of_port(turn.port) {
            self.remove(turn, index);
        }
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>, index: usize) {
        self.try_next(turn, index);
    }
}

impl Entry for Query {
    type Key = (FlowKey, u16);

    fn key(&self) -> (FlowKey, u16) {
        (self.client, self.client_id)
    }

    fn port(&self) -> PortId {
        self.client.port
    }
}
