//! Which container may open what towards the host's network.
//!
//! Asked once for each flow and each name that is looked up; containers without rules are in no
//! table. What is denied is answered as by a router with a filter, counted for its rule, and
//! remembered for people who ask.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::dns::{FoundAt, Seen};
use super::nat::{self, Meaning};
use super::{Engine, Instant, PortId, Turn};
use crate::config::{Egress, EgressRule, Name, Opening, PassKind};
use crate::sorted::SortedMap;

/// Most denials of a container that are remembered; the one that was last met longest ago gives way.
const MAX_DENIED: usize = 64;

/// Every container with rules.
#[derive(Debug, Default)]
pub(super) struct Policies {
    ports: SortedMap<PortId, Policy>,
}

/// The rules of one container, and what came of them.
#[derive(Debug, Default)]
struct Policy {
    egress: Egress,
    /// How often each rule decided.
    hits: Vec<u64>,
    found: FoundAt,
    /// What was denied, the last at the end.
    denied: VecDeque<Denial>,
}

/// What a container wanted and was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What it was.
    pub attempt: Attempt,
    /// How often.
    pub times: u64,
    /// When it was met last.
    pub last: Instant,
}

/// What a container wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// To open something.
    Open(PassKind, SocketAddr),
    /// To look up a name, by a plain question or otherwise.
    Lookup {
        /// The name.
        name: Name,
        /// Whether nothing else was in the message.
        plain: bool,
    },
}

impl Policies {
    /// Sets a container's rules. Those that stay keep their counts. Where names that are denied are
    /// is what anybody has `seen`: they will not be looked up any more.
    fn set(&mut self, port: PortId, egress: Egress, seen: &Seen) {
        if egress.is_empty() {
            self.ports.remove(&port);
            return;
        }
        let policy = self.ports.or_default(port);
        let before = policy.egress.rules().iter().zip(&policy.hits);
        let before: Vec<_> = before.map(|(rule, hits)| (rule.clone(), *hits)).collect();
        let hits =
            |rule| before.iter().find(|(known, _)| known == rule).map_or(0, |(_, hits)| *hits);
        policy.hits = egress.rules().iter().map(hits).collect();
        let denied = |name: &Name| {
            egress.rules().iter().any(|rule| !rule.allow && rule.to.is_about(name.labels()))
        };
        for (address, name) in seen.all() {
            if let Some(name) = name.parse().ok().filter(denied) {
                // Over already, for those that allow it.
                policy.found.note(address, &name, Instant::ZERO);
            }
        }
        policy.egress = egress;
    }

    /// Forgets a container.
    pub(super) fn remove(&mut self, port: PortId) {
        self.ports.remove(&port);
    }

    /// Whether a container may open something; it is counted.
    pub(super) fn admits(
        &mut self,
        port: PortId,
        kind: PassKind,
        to: SocketAddr,
        now: Instant,
    ) -> bool {
        let Some(policy) = self.ports.get_mut(&port) else { return true };
        let place = policy.decides(kind, to, |until| until > now);
        policy.count(place, now, || Attempt::Open(kind, to))
    }

    /// Whether a container may have a name looked up; it is counted.
    pub(super) fn admits_lookup(
        &mut self,
        port: PortId,
        name: &[u8],
        plain: bool,
        now: Instant,
    ) -> bool {
        let Some(policy) = self.ports.get_mut(&port) else { return true };
        let name = Name::from_labels(name);
        let place = policy.egress.on_lookup(name.labels(), plain);
        policy.count(place, now, || Attempt::Lookup { name, plain })
    }

    /// Whether a container may keep what it has opened. Where it was found by a name that may have
    /// been over since: it was right then.
    fn still_admits(&self, port: PortId, kind: PassKind, to: SocketAddr) -> bool {
        let Some(policy) = self.ports.get(&port) else { return true };
        policy.egress.allows(policy.decides(kind, to, |_| true))
    }

    /// Takes note of an answer to a plain question that a container is given.
    pub(super) fn learn(&mut self, port: PortId, answer: &[u8], now: Instant) {
        if let Some(Policy { egress, found, .. }) = self.ports.get_mut(&port) {
            let named = |name: &[u8]| egress.rules().iter().any(|rule| rule.to.is_about(name));
            found.learn(answer, named, now);
        }
    }
}

impl Policy {
    /// The place of the rule that decides; `counts` says of the end of a name's time whether the name
    /// still counts for a rule that allows it. One that denies it holds for good: it is not looked up
    /// again.
    fn decides(
        &self,
        kind: PassKind,
        to: SocketAddr,
        counts: impl Fn(Instant) -> bool,
    ) -> Option<usize> {
        let within = match to.ip() {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => nat::embedded_v4(ip),
        };
        let opening = Opening { kind, address: to.ip(), within, port: to.port() };
        let named = |rule: &EgressRule| {
            let mut names = self.found.names(to.ip());
            names.any(|(name, until)| (!rule.allow || counts(until)) && rule.to.is_about(name))
        };
        self.egress.on_opening(&opening, named)
    }

    /// Counts for a rule, and remembers what it denies. Returns whether it allows it.
    fn count(
        &mut self,
        place: Option<usize>,
        now: Instant,
        attempt: impl FnOnce() -> Attempt,
    ) -> bool {
        if let Some(hits) = place.and_then(|place| self.hits.get_mut(place)) {
            *hits += 1;
        }
        if self.egress.allows(place) {
            return true;
        }
        let attempt = attempt();
        let known = self.denied.iter().position(|denial| denial.attempt == attempt);
        let times =
            known.and_then(|known| self.denied.remove(known)).map_or(0, |known| known.times);
        if times == 0 {
            log::debug!("deny {attempt}");
        }
        if self.denied.len() >= MAX_DENIED {
            self.denied.pop_front();
        }
        self.denied.push_back(Denial { attempt, times: times + 1, last: now });
        false
    }
}

impl Turn<'_> {
    /// Whether this container may open something towards the host's network; it is counted. What the
    /// gateway stands for is allowed by `--host-access`, which is asked elsewhere.
    pub(super) fn admits(&mut self, kind: PassKind, to: SocketAddr) -> bool {
        to.ip().is_loopback() || self.fx.policies.admits(self.port, kind, to, self.now)
    }

    /// Whether it may keep what it has opened to what it calls so.
    pub(super) fn still_admits(&self, kind: PassKind, to: SocketAddr) -> bool {
        let to = match kind {
            PassKind::Icmp => to,
            PassKind::Tcp | PassKind::Udp => match nat::translate(self.network, to) {
                Meaning::Host(to) if !to.ip().is_loopback() => to,
                _ => return true,
            },
        };
        self.fx.policies.still_admits(self.port, kind, to)
    }
}

impl Engine {
    /// Sets what a port's container may reach outside. What it has open and may not any more is
    /// ended: connections are reset.
    pub fn set_egress(&mut self, port: PortId, egress: Egress, now: Instant) {
        self.fx.policies.set(port, egress, &self.fx.seen);
        if let Some((tables, mut turn)) = self.turn(port, now) {
            tables.tcp.end_denied(&mut turn);
            tables.udp.end_denied(&mut turn);
            tables.echo.end_denied(&mut turn);
        }
    }

    /// How often each rule of a port's container decided, in order.
    #[must_use]
    pub fn egress_hits(&self, port: PortId) -> &[u64] {
        self.fx.policies.ports.get(&port).map_or(&[], |policy| &policy.hits)
    }

    /// What a port's container wanted and was not given, the last at the end.
    pub fn denied(&self, port: PortId) -> impl Iterator<Item = &Denial> {
        self.fx.policies.ports.get(&port).into_iter().flat_map(|policy| &policy.denied)
    }
}

impl fmt::Display for Attempt {
    /// As in `tcp 192.0.2.9:7`, `icmp 192.0.2.9` or `dns b.test`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(PassKind::Tcp, to) => write!(f, "tcp {to}"),
            Self::Open(PassKind::Udp, to) => write!(f, "udp {to}"),
            Self::Open(PassKind::Icmp, to) => write!(f, "icmp {}", to.ip()),
            Self::Lookup { name, plain: true } => write!(f, "dns {name}"),
            Self::Lookup { name, .. } => write!(f, "dns {name}, which is no plain question"),
        }
    }
}
