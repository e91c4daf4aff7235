//! The DNS forwarder at the gateway's DNS address.
//!
//! A query is answered by the first of these that can: the names of this network ([`names`]), the
//! answers that were kept ([`cache`]), the servers. Those are asked one after the other until one
//! answers, each time from a fresh socket connected to that server and under a fresh unpredictable
//! id (RFC 5452, section 9); an answer counts only if it comes from that server and repeats id and
//! question. Messages pass through byte for byte but for the id, so EDNS, truncation and every
//! record type work. What came over TCP ([`stream`]) is asked over UDP like all else, and over TCP
//! where that answer is cut short or does not come: a connection for every query is more than servers
//! for a home take.
//! Read first: RFC 1035 section 4, RFC 5452, RFC 8767, RFC 9267 (what parsers get wrong).

pub(super) mod announce;
mod cache;
mod found;
pub(super) mod local;
mod log;
mod message;
mod names;
mod reply;
mod seen;
pub(super) mod stream;
mod upstream;

use std::collections::VecDeque;
use std::net::SocketAddr;

use smoltcp::time::Duration;

use self::cache::{Cache, Found};
use self::local::Local;
use self::log::Log;
use self::message::{Header, Query as Message, Rcode, rr};
use self::names::{Known, Names};
use self::reply::{PROHIBITED, Reply};
use self::stream::{Exchange, Progress};
use self::upstream::{Upstream, Upstreams};
use super::flow::{FlowKey, KeyedHash};
use super::host::{HostStream, IpFields, Owner, SocketId, SocketKind};
use super::stats::{DropReason, Verdict};
use super::table::{Entry, Table};
use super::{Instant, PortId, Turn};
use crate::config::{Between, Limit, Network, Pass};

pub(super) use self::found::FoundAt;
pub use self::log::{Lookup, Source};
pub use self::names::PortNames;
pub(super) use self::seen::Seen;
pub use self::upstream::Resolvers;

/// The longest query that is taken, in bytes: what a client is told to expect of answers (RFC 6891,
/// section 6.2.5), while queries rarely have a hundred.
const MAX_QUERY_LEN: usize = 4096;
/// How long one server has to answer over UDP, in the first round over all and in the second.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// The same over TCP, which takes two round trips.
const PATIENCE_TCP: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(3)];
/// How long a query that came over TCP is asked over UDP alone: its client is not to lose patience
/// before TCP begins, however many servers there are.
const OVER_UDP: Duration = Duration::from_secs(2);
/// How long a client waits while there is a stale answer to its question (RFC 8767, section 5).
const STALE_AFTER: Duration = Duration::from_millis(1800);
/// The longest message, in bytes: over TCP it has two bytes for its length.
const MAX_MESSAGE_LEN: usize = 65_535;

/// The forwarder.
#[derive(Debug)]
pub(super) struct Forwarder {
    /// By client and its id, so that a client's retransmission does not start a second query.
    pub(super) queries: Table<Query>,
    /// Those that made room for queries of other containers.
    evicted: VecDeque<Query>,
    /// Answers for clients on streams that have yet to be given to them.
    pub(super) answers: VecDeque<(StreamClient, Option<Vec<u8>>)>,
    /// Queries that came on streams inside containers.
    pub(super) stream_queries: VecDeque<(StreamClient, Vec<u8>)>,
    pub(super) local: Local,
    cache: Cache,
    names: Names,
    upstreams: Upstreams,
    log: Log,
}

/// Who asked, and where the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// A guest's UDP endpoint, and the forwarder's address as it sees it.
    Datagram(FlowKey),
    /// A program inside the container, at a UDP socket there that answers it.
    Local { port: PortId, socket: SocketId, to: SocketAddr },
    /// A guest's TCP connection.
    Stream(StreamClient),
}

/// A guest's TCP connection to the forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StreamClient {
    pub(super) port: PortId,
    /// The index of its flow, and what tells it from others at the same index.
    pub(super) flow: usize,
    pub(super) serial: u64,
    /// It is a connection inside the container, and `flow` its index among those.
    pub(super) local: bool,
}

/// A query that a server has been asked.
#[derive(Debug)]
pub(super) struct Query {
    client: Client,
    client_id: u16,
    /// Which one it was since the start.
    number: u64,
    /// The query as the client sent it, with our id.
    message: Message,
    /// Where its round over the servers began, and how many tries there were.
    upstream: Upstream,
    attempt: usize,
    began: Instant,
    /// How many there may be, since it has to be asked over TCP; two rounds unless set.
    tries: Option<usize>,
    server: SocketAddr,
    socket: SocketId,
    /// Our connection to the server, for a query that came over TCP and needs one.
    exchange: Option<Exchange>,
    /// When the next server is asked.
    until: Instant,
    /// When the client gets a stale answer, if there is one.
    stale_at: Option<Instant>,
    /// The client has its answer, a stale one: the question is for the cache.
    answered: bool,
}

impl Client {
    fn port(&self) -> PortId {
        match self {
            Self::Datagram(key) => key.port,
            Self::Local { port, .. } => *port,
            Self::Stream(client) => client.port,
        }
    }

    /// The longest answer to `query` that this client takes, in bytes.
    fn limit(&self, query: &Message) -> usize {
        match self {
            Self::Datagram(_) | Self::Local { .. } => query.max_udp_len(),
            Self::Stream(_) => MAX_MESSAGE_LEN,
        }
    }
}

impl Forwarder {
    pub(super) fn new(hash: KeyedHash, network: &Network) -> Self {
        Self {
            queries: Table::new(hash),
            evicted: VecDeque::new(),
            answers: VecDeque::new(),
            stream_queries: VecDeque::new(),
            local: Local::new(hash),
            cache: Cache::new(hash, network.resolver.cache_bytes),
            names: Names::new(network),
            upstreams: Upstreams::default(),
            log: Log::default(),
        }
    }

    /// Sets the servers for every name without a route of its own.
    pub(super) fn set_resolvers(&mut self, resolvers: Resolvers, now: Instant) -> bool {
        let changed = self.upstreams.set_default(resolvers);
        self.doubt_answers(changed, now)
    }

    /// Sets the servers for the names below a domain.
    pub(super) fn set_route(
        &mut self,
        domain: crate::config::Name,
        resolvers: Resolvers,
        now: Instant,
    ) -> bool {
        let changed = self.upstreams.set_route(domain, resolvers);
        self.doubt_answers(changed, now)
    }

    /// Other servers may give other answers.
    fn doubt_answers(&mut self, changed: bool, now: Instant) -> bool {
        if changed {
            self.cache.expire_all(now);
        }
        changed
    }

    pub(super) fn set_hosts(&mut self, network: &Network) {
        self.names.set_hosts(network);
    }

    /// What may be opened between containers: by the network's rules, and by those that call others
    /// by a name of their own.
    pub(super) fn ways<'n>(
        &'n self,
        network: &'n Network,
    ) -> impl Iterator<Item = ((PortId, PortId), Pass)> + 'n {
        let owners = |name| self.names.owners(name).iter().copied();
        let ruled = network.between.iter().flat_map(move |Between { from, to, pass }| {
            let pairs = owners(from).flat_map(move |from| owners(to).map(move |to| (from, to)));
            pairs.map(|pair| (pair, *pass))
        });
        let linked = self.names.links().flat_map(move |(from, name)| {
            let pairs = owners(name).map(move |to| (from, to));
            pairs.flat_map(|pair| Pass::ALL.map(|pass| (pair, pass)))
        });
        ruled.chain(linked).filter(|((from, to), _)| from != to)
    }

    pub(super) fn set_names(&mut self, network: &Network, port: PortId, names: PortNames) {
        self.names.set(network, port, names);
    }

    /// Takes a query.
    pub(super) fn handle_query(
        &mut self,
        turn: &mut Turn<'_>,
        client: Client,
        payload: &[u8],
    ) -> Verdict {
        let bounded = Some(payload).filter(|payload| payload.len() <= MAX_QUERY_LEN);
        let Some(message) = bounded.and_then(Message::parse) else {
            self.deliver(turn, client, Header::parse(payload).and_then(Header::format_error));
            return Verdict::Dropped(DropReason::Malformed);
        };
        let client_id = message.id();
        if self.queries.find(&(client, client_id)).is_some() {
            self.deliver(turn, client, None);
            return Verdict::Dns;
        }
        turn.fx.stats.dns_queries += 1;
        let limit = client.limit(&message);
        let at_once = Duration::ZERO;
        if let Some((answer, source)) = self.answer_here(turn, client.port(), &message, limit) {
            self.answer(turn, client, &message, answer, (source, at_once));
            return Verdict::Dns;
        }
        let mut stale_at = None;
        match self.cache.find(&message, turn.now) {
            Found::Fresh(kept) => {
                turn.fx.stats.dns_cached += 1;
                let answer = kept.answer(&message, client_id, limit);
                self.answer(turn, client, &message, answer, (Source::Cache, at_once));
                return Verdict::Dns;
            }
            Found::Stale { ask: true, .. } => stale_at = Some(turn.now + STALE_AFTER),
            Found::Stale { ask: false, kept } => {
                turn.fx.stats.dns_stale += 1;
                let answer = kept.answer(&message, client_id, limit);
                self.answer(turn, client, &message, answer, (Source::Stale, at_once));
                return Verdict::Dns;
            }
            Found::Nothing => {}
        }
        self.forward(turn, client, message, stale_at);
        Verdict::Dns
    }

    /// An answer that no server is asked for.
    fn answer_here(
        &mut self,
        turn: &mut Turn<'_>,
        port: PortId,
        query: &Message,
        limit: usize,
    ) -> Option<(Vec<u8>, Source)> {
        let reply = |rcode| Reply::new(query, query.id(), rcode, limit);
        if query.is_ordinary()
            && let Some(known) = self.names.find(turn.network, port, query.name(), query.kind())
        {
            turn.fx.stats.dns_local += 1;
            let rcode = if known == Known::Nothing { Rcode::NameError } else { Rcode::NoError };
            let mut reply = reply(rcode).authoritative();
            match known {
                Known::Addresses(addresses, ttl) => {
                    for address in addresses {
                        reply.address(address, ttl);
                    }
                }
                Known::Pointer(name, ttl) => reply.pointer(&name, ttl),
                Known::Nothing => {}
            }
            return Some((reply.finish(), Source::Names));
        }
        let (policies, plain) = (&mut turn.fx.policies, query.is_plain());
        let internal = turn.network.internal;
        if internal || !policies.admits_lookup(port, query.name(), plain, turn.now) {
            turn.fx.stats.dns_refused += 1;
            let source = if internal { Source::Forwarder } else { Source::Rule };
            return Some((reply(Rcode::Refused).because(PROHIBITED).finish(), source));
        }
        // One query, many messages: nothing that a forwarder of queries could pass on.
        if rr::TRANSFERS.contains(&query.kind()) {
            turn.fx.stats.dns_refused += 1;
            return Some((reply(Rcode::Refused).finish(), Source::Forwarder));
        }
        None
    }

    /// Begins to ask the servers.
    fn forward(
        &mut self,
        turn: &mut Turn<'_>,
        client: Client,
        message: Message,
        stale_at: Option<Instant>,
    ) {
        let client_id = message.id();
        let upstream = self.upstreams.of(message.name());
        let Some(server) = self.upstreams.get(upstream, 0) else {
            self.fail(turn, client, client_id, &message, Duration::ZERO);
            return;
        };
        let room = turn.room_for(Limit::Dns);
        if let Some(port) = self.queries.crowded(turn.port, room)
            && let Some(oldest) = self.queries.pop_least(port)
        {
            turn.fx.stats.count_limit(Limit::Dns);
            if port == turn.port {
                self.give_up(turn, oldest);
            } else if let Some(query) = self.remove(turn, oldest) {
                self.evicted.push_back(query);
            }
        }
        let index = self.queries.next_index();
        let socket = turn.fx.host.open(Owner::Dns(index), SocketKind::UdpConnect(server));
        self.queries.insert(Query {
            client,
            client_id,
            number: turn.fx.stats.dns_queries,
            message,
            upstream,
            attempt: 0,
            began: turn.now,
            tries: None,
            server,
            socket,
            exchange: None,
            until: turn.now,
            stale_at,
            answered: false,
        });
        self.ask(turn, index);
    }

    /// Sends the query to its current server, or has it sent once the connection stands.
    fn ask(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(query) = self.queries.get_mut(index) else {
            return;
        };
        let [low, high, ..] = turn.fx.random.next_u64().to_le_bytes();
        query.message.set_id(u16::from_le_bytes([low, high]));
        let short = query.wants_stream();
        let patience = match &mut query.exchange {
            None => {
                let fields = IpFields::default();
                turn.fx.host.send(query.socket, None, None, fields, query.message.bytes());
                // It may have to be asked over TCP as well before its client gives up.
                if short { [PATIENCE[0]; 2] } else { PATIENCE }
            }
            Some(exchange) => {
                *exchange = Exchange::new(query.message.bytes());
                PATIENCE_TCP
            }
        };
        let round = query.attempt / self.upstreams.len(query.upstream).max(1);
        let [_, last] = patience;
        query.until = turn.now + patience.get(round).copied().unwrap_or(last);
        self.arm(index);
    }

    fn arm(&mut self, index: usize) {
        if let Some(query) = self.queries.get(index) {
            let stale_at = query.stale_at.unwrap_or(query.until);
            let due = query.until.min(stale_at);
            self.queries.set_deadline(index, Some(due));
        }
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
        if unhelpful && query.attempt + 1 < self.upstreams.len(query.upstream) {
            self.try_next(turn, index);
            return;
        }
        if query.wants_stream() && !unhelpful && message::is_truncated(answer) {
            let server = query.server;
            self.connect(turn, index, server, true);
            return;
        }
        if unhelpful && query.stale_at.is_some() {
            self.give_up(turn, index);
            return;
        }
        let Some(query) = self.remove(turn, index) else {
            return;
        };
        if !unhelpful {
            self.upstreams.prefer(query.upstream, query.server, query.exchange.is_none());
            self.cache.insert(&query.message, answer, turn.now);
        }
        if !query.answered {
            let mut answer = answer.to_vec();
            if let Some(id) = answer.get_mut(..2) {
                id.copy_from_slice(&query.client_id.to_be_bytes());
            }
            let told = (Source::Server(query.server), turn.now - query.began);
            self.answer(turn, query.client, &query.message, answer, told);
        }
    }

    /// The query's connection to its server can be moved on.
    pub(super) fn relay(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        stream: &mut impl HostStream,
    ) {
        let progress = match self.queries.get_mut(index).map(|query| &mut query.exchange) {
            Some(Some(exchange)) => exchange.advance(stream),
            Some(None) | None => return,
        };
        match progress {
            Progress::Waiting => {}
            Progress::Broken => self.try_next(turn, index),
            Progress::Answer(answer) => {
                self.handle_answer(turn, index, &answer);
                // One that answers something else has nothing better to say.
                if self
                    .queries
                    .get(index)
                    .is_some_and(|query| query.exchange.as_ref().is_some_and(Exchange::is_over))
                {
                    self.try_next(turn, index);
                }
            }
        }
    }

    /// The query's connection to its server stands.
    pub(super) fn handle_connected(&mut self, turn: &mut Turn<'_>, index: usize) {
        if let Some(query) = self.queries.get(index) {
            turn.fx.host.relay(query.socket);
        }
    }

    /// The query's socket failed: its server refuses or cannot be reached.
    pub(super) fn handle_failed(&mut self, turn: &mut Turn<'_>, index: usize) {
        self.try_next(turn, index);
    }

    /// Asks the next server, or gives up after the second round. A query that came over TCP is soon
    /// asked so, since where nothing comes of UDP TCP may be let through: after one round, or two where
    /// answers do come (it was lost, and a busy server that loses datagrams has no connections to
    /// spare), but never later than [`OVER_UDP`].
    fn try_next(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(query) = self.queries.get_mut(index) else {
            return;
        };
        query.attempt += 1;
        let servers = self.upstreams.len(query.upstream).max(1);
        let mut stream = query.exchange.is_some();
        if query.wants_stream() {
            let again = self.upstreams.datagrams_pass(query.upstream);
            let rounds = if again { PATIENCE.len() } else { 1 };
            stream = query.attempt >= rounds * servers || turn.now >= query.began + OVER_UDP;
            if stream {
                query.tries = Some(query.attempt + servers);
                self.upstreams.note_silence(query.upstream);
            }
        }
        let next = (query.attempt < query.tries.unwrap_or(servers * PATIENCE.len()))
            .then(|| self.upstreams.get(query.upstream, query.attempt % servers))
            .flatten();
        match next {
            Some(server) => self.connect(turn, index, server, stream),
            None => self.give_up(turn, index),
        }
    }

    /// Asks a server from a fresh socket.
    fn connect(&mut self, turn: &mut Turn<'_>, index: usize, server: SocketAddr, stream: bool) {
        let Some(query) = self.queries.get_mut(index) else {
            return;
        };
        turn.fx.host.close(query.socket, query.exchange.is_some());
        query.server = server;
        query.exchange = stream.then(Exchange::default);
        let kind =
            if stream { SocketKind::TcpConnect(server) } else { SocketKind::UdpConnect(server) };
        query.socket = turn.fx.host.open(Owner::Dns(index), kind);
        self.ask(turn, index);
    }

    /// No server answers: the client gets what was kept, or SERVFAIL, and the query is forgotten.
    fn give_up(&mut self, turn: &mut Turn<'_>, index: usize) {
        self.answer_stale(turn, index);
        if let Some(query) = self.remove(turn, index) {
            self.cache.note_failure(&query.message, turn.now);
            if !query.answered {
                let took = turn.now - query.began;
                self.fail(turn, query.client, query.client_id, &query.message, took);
            }
        }
    }

    /// Gives the client a stale answer if there is one, and goes on for the cache's sake.
    fn answer_stale(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(query) = self.queries.get_mut(index) else {
            return;
        };
        if query.stale_at.take().is_none() || query.answered {
            return;
        }
        let Found::Stale { kept, .. } = self.cache.find(&query.message, turn.now) else {
            return;
        };
        query.answered = true;
        turn.fx.stats.dns_stale += 1;
        let limit = query.client.limit(&query.message);
        let answer = kept.answer(&query.message, query.client_id, limit);
        let (client, message) = (query.client, query.message.clone());
        let told = (Source::Stale, turn.now - query.began);
        self.answer(turn, client, &message, answer, told);
    }

    /// The port of the next query whose container has yet to hear that it made room for another's.
    pub(super) fn next_evicted(&self) -> Option<PortId> {
        self.evicted.front().map(|query| query.client.port())
    }

    /// Lets that container hear it; the turn is its own.
    pub(super) fn fail_evicted(&mut self, turn: &mut Turn<'_>) {
        if let Some(query) = self.evicted.pop_front().filter(|query| !query.answered) {
            let took = turn.now - query.began;
            self.fail(turn, query.client, query.client_id, &query.message, took);
        }
    }

    fn fail(
        &mut self,
        turn: &mut Turn<'_>,
        client: Client,
        client_id: u16,
        message: &Message,
        took: Duration,
    ) {
        turn.fx.stats.dns_failed += 1;
        let limit = client.limit(message);
        let failure = Reply::new(message, client_id, Rcode::ServerFailure, limit).finish();
        self.log.note(turn, message, &failure, (Source::Nobody, took));
        self.deliver(turn, client, Some(failure));
    }

    /// Sends the answer to a query to its client. Where names are is learnt from it, unless it is a
    /// failure or the query was odd: some servers hand back what they were given.
    fn answer(
        &mut self,
        turn: &mut Turn<'_>,
        client: Client,
        query: &Message,
        answer: Vec<u8>,
        told: (Source, Duration),
    ) {
        self.log.note(turn, query, &answer, told);
        if query.is_ordinary() && !message::is_failure(&answer) {
            turn.fx.seen.learn(&answer);
            turn.fx.policies.learn(client.port(), &answer, turn.now);
        }
        self.deliver(turn, client, Some(answer));
    }

    /// Sends an answer to its client, or tells a stream that there is none.
    fn deliver(&mut self, turn: &mut Turn<'_>, client: Client, answer: Option<Vec<u8>>) {
        match (client, answer) {
            (Client::Datagram(key), Some(answer)) => turn.send_udp(key.host, key.guest, &answer),
            (Client::Local { socket, to, .. }, Some(answer)) => {
                let fields = IpFields::default();
                turn.fx.host.send(socket, Some(to), None, fields, &answer);
            }
            (Client::Datagram(_) | Client::Local { .. }, None) => {}
            (Client::Stream(client), answer) => self.answers.push_back((client, answer)),
        }
    }

    fn remove(&mut self, turn: &mut Turn<'_>, index: usize) -> Option<Query> {
        let query = self.queries.remove(index)?;
        turn.fx.host.close(query.socket, query.exchange.is_some());
        Some(query)
    }

    /// Forgets what a port has asked and what it is called.
    pub(super) fn remove_port(&mut self, turn: &mut Turn<'_>) {
        for index in self.queries.of_port(turn.port) {
            self.remove(turn, index);
        }
        self.evicted.retain(|query| query.client.port() != turn.port);
        self.names.remove(turn.network, turn.port);
        self.local.remove_port(turn);
        self.log.remove_port(turn.port);
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(query) = self.queries.get(index) else {
            return;
        };
        let (until, stale_at) = (query.until, query.stale_at);
        if stale_at.is_some_and(|at| at <= turn.now) {
            self.answer_stale(turn, index);
        }
        if until <= turn.now {
            self.try_next(turn, index);
        } else {
            self.arm(index);
        }
    }

    /// How many answers are kept, and their memory in bytes.
    pub(super) fn cache_size(&self) -> (usize, usize) {
        self.cache.size()
    }
}

impl Query {
    /// Whether it came over TCP, so that nothing of its answer may be missing, and is not asked so.
    fn wants_stream(&self) -> bool {
        matches!(self.client, Client::Stream(_)) && self.exchange.is_none()
    }
}

impl Entry for Query {
    type Key = (Client, u16);

    fn key(&self) -> (Client, u16) {
        (self.client, self.client_id)
    }

    fn port(&self) -> PortId {
        self.client.port()
    }

    fn rank(&self) -> i64 {
        i64::try_from(self.number).unwrap_or(i64::MAX)
    }
}
