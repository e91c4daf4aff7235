//! What containers have asked, and what became of it: for people who look later.
//!
//! One ring for the network. Where it is full the container that has most in it loses its first, so
//! that who asks much pushes out nobody else's.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use smoltcp::time::Duration;

use super::message::{self, Query, addresses, read_u16};
use crate::config::{Limit, Name};
use crate::engine::{Engine, Instant, PortId, Turn};
use crate::sorted::SortedMap;

/// A question that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Which one it was since the start, of all containers.
    pub number: u64,
    /// The port of the container.
    pub port: PortId,
    /// Which one of that container's it was: where one is missing, it was forgotten.
    pub serial: u64,
    /// The name, in lower case.
    pub name: Name,
    /// The record type.
    pub kind: u16,
    /// When it was answered.
    pub answered: Instant,
    /// How long that took.
    pub took: Duration,
    /// Who knew.
    pub source: Source,
    /// The response code.
    pub rcode: u8,
    /// How many records the answer had.
    pub answers: u16,
    /// The first address among them.
    pub address: Option<IpAddr>,
}

/// Who has answered a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The names of the network.
    Names,
    /// What was kept of an earlier answer.
    Cache,
    /// The same, beyond its time.
    Stale,
    /// A server.
    Server(SocketAddr),
    /// No server has, in time.
    Nobody,
    /// A rule on what the container may reach.
    Rule,
    /// The forwarder itself: no server is asked that.
    Forwarder,
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Log {
    lookups: VecDeque<Lookup>,
    /// How many there were.
    last: u64,
    ports: SortedMap<PortId, Count>,
}

/// Of one container.
#[derive(Debug, Default)]
struct Count {
    asked: u64,
    kept: usize,
}

impl Log {
    /// Takes note of an answer.
    pub(super) fn note(
        &mut self,
        turn: &mut Turn<'_>,
        query: &Query,
        answer: &[u8],
        (source, took): (Source, Duration),
    ) {
        let most = turn.network.limits.get(Limit::DnsLog);
        let count = self.ports.or_default(turn.port);
        count.asked += 1;
        count.kept += 1;
        self.last += 1;
        self.lookups.push_back(Lookup {
            number: self.last,
            port: turn.port,
            serial: count.asked,
            name: Name::from_labels(query.name()),
            kind: query.kind(),
            answered: turn.now,
            took,
            source,
            rcode: message::rcode_bits(answer),
            answers: read_u16(answer, 6).unwrap_or(0),
            address: addresses(answer).next().map(|(address, _)| address),
        });
        if self.lookups.len() > most {
            self.forget_one();
            turn.fx.stats.count_limit(Limit::DnsLog);
        }
    }

    fn forget_one(&mut self) {
        let most = self.ports.iter().max_by_key(|(_, count)| count.kept);
        let Some(port) = most.map(|(port, _)| *port) else { return };
        let first = self.lookups.iter().position(|lookup| lookup.port == port);
        if first.and_then(|first| self.lookups.remove(first)).is_some()
            && let Some(count) = self.ports.get_mut(&port)
        {
            count.kept -= 1;
        }
    }

    /// Forgets a container.
    pub(super) fn remove_port(&mut self, port: PortId) {
        if self.ports.remove(&port).is_some() {
            self.lookups.retain(|lookup| lookup.port != port);
        }
    }
}

impl Engine {
    /// What containers have asked after the lookup of that number, as far as it is remembered.
    pub fn lookups(&self, after: u64) -> impl Iterator<Item = &Lookup> {
        let lookups = &self.tables.dns.log.lookups;
        lookups.range(lookups.partition_point(|lookup| lookup.number <= after)..)
    }
}

impl Lookup {
    /// The record type by its name, or by its number (RFC 3597, section 5).
    #[must_use]
    pub fn kind(&self) -> Cow<'static, str> {
        name_of(&KINDS, self.kind, "TYPE")
    }

    /// The response code, alike.
    #[must_use]
    pub fn result(&self) -> Cow<'static, str> {
        name_of(&RCODES, self.rcode.into(), "RCODE")
    }
}

fn name_of(names: &[(u16, &'static str)], number: u16, otherwise: &str) -> Cow<'static, str> {
    let known = names.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("{otherwise}{number}").into(), |(_, name)| (*name).into())
}

/// Record types that programs ask for.
const KINDS: [(u16, &str); 22] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (43, "DS"),
    (44, "SSHFP"),
    (46, "RRSIG"),
    (48, "DNSKEY"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (257, "CAA"),
];

/// Response codes of a message without EDNS.
const RCODES: [(u16, &str); 6] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
];

impl fmt::Display for Source {
    /// In a word, or the address of the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "names",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Server(server) if server.port() == 53 => return write!(f, "{}", server.ip()),
            Self::Server(server) => return write!(f, "{server}"),
            Self::Nobody => "nobody",
            Self::Rule => "rule",
            Self::Forwarder => "forwarder",
        })
    }
}
