//! Whom to ask: the servers for all names, and those of the domains that have their own.

use std::net::SocketAddr;

use crate::config::Name;
use crate::config::name::parents;

/// DNS servers, the one that answered last at the head.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resolvers {
    servers: Vec<SocketAddr>,
    preferred: usize,
    /// Answers have come over UDP, and no query has since been in need of TCP for lack of one.
    datagrams_pass: bool,
}

impl Resolvers {
    /// Resolvers in the order of `resolv.conf(5)`.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, preferred: 0, datagrams_pass: false }
    }

    /// The servers, in that order.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Others instead of these; returns whether they are others.
    fn replace(&mut self, resolvers: Self) -> bool {
        let changed = self.servers != resolvers.servers;
        if changed {
            *self = resolvers;
        }
        changed
    }

    /// The server to ask on the `attempt`-th try of a round that began with `first`; `None` when
    /// all were asked.
    fn get(&self, first: usize, attempt: usize) -> Option<SocketAddr> {
        if attempt >= self.servers.len() {
            return None;
        }
        self.servers.get((first + attempt) % self.servers.len()).copied()
    }
}

/// Servers by the names they are asked for.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    default: Resolvers,
    routes: Vec<(Name, Resolvers)>,
}

/// Which servers a query goes to, and with which of them its rounds begin: what others learn
/// meanwhile does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upstream {
    route: Option<usize>,
    first: usize,
}

impl Upstreams {
    /// Sets the servers for names without a route; returns whether they are others than before.
    pub(super) fn set_default(&mut self, resolvers: Resolvers) -> bool {
        self.default.replace(resolvers)
    }

    /// Sets the servers for a domain and all names below it; returns the same.
    pub(super) fn set_route(&mut self, domain: Name, resolvers: Resolvers) -> bool {
        if let Some((_, known)) = self.routes.iter_mut().find(|(known, _)| *known == domain) {
            return known.replace(resolvers);
        }
        self.routes.push((domain, resolvers));
        true
    }

    /// Where a query for this name goes now: the longest domain that it is in.
    pub(super) fn of(&self, labels: &[u8]) -> Upstream {
        let route = if self.routes.is_empty() {
            None
        } else {
            parents(labels).find_map(|parent| {
                self.routes
                    .iter()
                    .position(|(domain, _)| domain.labels().eq_ignore_ascii_case(parent))
            })
        };
        let first = self.resolvers(route).map_or(0, |resolvers| resolvers.preferred);
        Upstream { route, first }
    }

    /// The server to ask on the `attempt`-th try of a round.
    pub(super) fn get(&self, upstream: Upstream, attempt: usize) -> Option<SocketAddr> {
        self.resolvers(upstream.route)?.get(upstream.first, attempt)
    }

    /// How many servers there are for it.
    pub(super) fn len(&self, upstream: Upstream) -> usize {
        self.resolvers(upstream.route).map_or(0, |resolvers| resolvers.servers.len())
    }

    /// Whether a query for it that is not answered over UDP was most likely lost.
    pub(super) fn datagrams_pass(&self, upstream: Upstream) -> bool {
        self.resolvers(upstream.route).is_some_and(|resolvers| resolvers.datagrams_pass)
    }

    /// A query for it had to be asked over TCP, as no answer came over UDP.
    pub(super) fn note_silence(&mut self, upstream: Upstream) {
        if let Some(resolvers) = self.resolvers_mut(upstream.route) {
            resolvers.datagrams_pass = false;
        }
    }

    /// Remembers that `server` answers, for the next query to begin with it, and whether that came
    /// over UDP.
    pub(super) fn prefer(&mut self, upstream: Upstream, server: SocketAddr, over_udp: bool) {
        if let Some(resolvers) = self.resolvers_mut(upstream.route)
            && let Some(index) = resolvers.servers.iter().position(|known| *known == server)
        {
            resolvers.preferred = index;
            resolvers.datagrams_pass |= over_udp;
        }
    }

    fn resolvers_mut(&mut self, route: Option<usize>) -> Option<&mut Resolvers> {
        match route {
            None => Some(&mut self.default),
            Some(index) => self.routes.get_mut(index).map(|(_, resolvers)| resolvers),
        }
    }

    fn resolvers(&self, route: Option<usize>) -> Option<&Resolvers> {
        match route {
            None => Some(&self.default),
            Some(index) => self.routes.get(index).map(|(_, resolvers)| resolvers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_domain_counts() {
        let mut upstreams = Upstreams::default();
        let server = |last: u8| SocketAddr::from(([192, 0, 2, last], 53));
        upstreams.set_default(Resolvers::new(vec![server(1)]));
        for (domain, last) in [("test", 2), ("corp.test", 3)] {
            upstreams.set_route(domain.parse().unwrap(), Resolvers::new(vec![server(last)]));
        }
        let asked = |name: &str| {
            let name: Name = name.parse().unwrap();
            upstreams.get(upstreams.of(&name.labels().to_ascii_uppercase()), 0).unwrap()
        };
        assert_eq!(asked("example.org"), server(1));
        assert_eq!(asked("a.test"), server(2));
        assert_eq!(asked("test"), server(2));
        assert_eq!(asked("corp.test"), server(3));
        assert_eq!(asked("a.b.corp.test"), server(3));
        assert_eq!(asked("notcorp.test"), server(2));
        assert_eq!(asked("corptest"), server(1));
    }
}
