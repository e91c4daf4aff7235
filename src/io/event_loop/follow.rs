//! What follows changes of the machine while the loop runs: published ports the host's addresses,
//! ports of either side what listens on the other, an overlay its file. What follows what is decided elsewhere.

use log::Level;
use smoltcp::time::Duration;

use super::Server;
use crate::engine::{Engine, HostLink, Instant};
use crate::io::host::Sockets;
use crate::io::overlay::Underlay;
use crate::io::published::{Place, Rule};
use crate::sys::interfaces::Interfaces;

/// How often resolv.conf is read for a resolver that cannot be asked: a guest may ask for ever.
const DOUBTS: Duration = Duration::from_secs(1);

/// Has groups be heard where the host is now, if any are.
pub(super) fn follow_links(engine: &mut Engine, interfaces: &Interfaces, sockets: &Sockets) {
    let lans = interfaces.lans().filter(|(_, name)| sockets.outbound.leaves_by(name));
    let link = |(index, _)| HostLink { index, addresses: interfaces.addresses(index).collect() };
    engine.set_links(lans.map(link).collect());
}

impl Server {
    /// The host's addresses have changed: published ports and what goes out follow.
    pub(super) fn follow_interfaces(&mut self) {
        let Some(interfaces) = &mut self.interfaces else {
            return;
        };
        if !interfaces.changed() {
            return;
        }
        if let Some(underlay) = &mut self.underlay {
            underlay.note(interfaces);
        }
        let (engine, sockets) = (&mut self.engine, &mut self.sockets);
        self.published.follow(interfaces, &mut Place { engine, sockets });
        if self.sockets.outbound.note(interfaces) {
            self.engine.renew_sockets();
        }
        follow_links(&mut self.engine, interfaces, &self.sockets);
    }

    /// The file that says who is where may be another.
    pub(super) fn follow_hosts(&mut self, now: Instant) {
        if let Some(hosts) = self.underlay.as_mut().and_then(Underlay::read_again) {
            self.engine.set_overlay_hosts(hosts, now);
        }
    }

    /// Where resolv.conf may be something has happened, which may be about another file.
    pub(super) fn follow_resolvers(&mut self, level: Level, now: Instant) {
        if self.resolvers.renew(&mut self.engine, level, now) {
            // For whoever waits for it.
            self.manager.reload(|| ());
        }
    }

    /// A resolver cannot be asked. Its interface may be another one by now, and of some changes of
    /// resolv.conf nobody is told.
    pub(super) fn doubt_resolvers(&mut self, now: Instant) {
        if self.doubted_at.is_none_or(|at| now >= at + DOUBTS) {
            self.doubted_at = Some(now);
            self.follow_resolvers(Level::Debug, now);
        }
    }

    /// Ports that follow what listens in the container, or on the host.
    pub(super) fn follow_ports(&mut self, now: Instant) {
        let (engine, sockets) = (&mut self.engine, &mut self.sockets);
        let (relay, interfaces) = (&self.relay, self.interfaces.as_mut());
        let loopback = |key| relay.leads_to_loopback() && !relay.listens_inside(key);
        let mut place = Place { engine, sockets };
        self.mirrors.handle_timeout(&mut self.published, &mut place, interfaces, loopback, now);
        let bound = || self.published.iter().flat_map(Rule::bound);
        self.relay.follow(now, || bound().map(|b| (b.protocol, b.address.port())).collect());
    }
}
