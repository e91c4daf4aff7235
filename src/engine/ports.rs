//! Containers that come and go: the engine's side of a port's life.

use super::switch::{PortCounters, PortError, Switch};
use super::{DropReason, Engine, Instant, PortId, arp, ndp};
use crate::config::{Lease, Rate, Sharing};

impl Engine {
    /// Adds a TAP, whose container has `lease`. `vnet` says whether its frames carry the virtio
    /// header. The other containers of a shared network are told whose the addresses are from now on.
    ///
    /// # Errors
    /// A lease that the network cannot give, or not twice; see [`PortError`].
    pub fn add_port(
        &mut self,
        mut lease: Lease,
        vnet: bool,
        now: Instant,
    ) -> Result<PortId, PortError> {
        if self.network.addresses.v6.is_none() {
            lease.v6 = None;
            lease.link_local.v6 = None;
        }
        let seed = self.fx.random.next_u64();
        let added = self.switch.add(&self.network, lease, vnet, seed, now)?;
        self.set_rate(added, self.network.rate, now);
        self.set_egress(added, self.network.egress.clone(), now);
        self.announce(added, now);
        self.ask_for_relayed(added, now);
        Ok(added)
    }

    /// Sets how much a port's container may get and send each second.
    pub fn set_rate(&mut self, port: PortId, rate: Rate, now: Instant) {
        self.fx.frames.shaper.set(port, rate, now);
    }

    /// When a port is to be read again whose container has sent as much as it may; `None` is now.
    #[must_use]
    pub fn paused_until(&self, port: PortId, now: Instant) -> Option<Instant> {
        self.fx.frames.shaper.paused_until(port, now)
    }

    /// Tells those of a container that may know it: where an address was another's before, neighbours
    /// would take that one's hardware address for its own until theirs times out.
    pub(super) fn announce(&mut self, added: PortId, now: Instant) {
        let Some(lease) = self.switch.get(added).map(|port| port.lease) else { return };
        let Switch { ways, .. } = &self.switch;
        let knows = |id: &PortId| match self.network.sharing {
            Sharing::Private => false,
            Sharing::Shared => *id != added,
            Sharing::Isolated => ways.know_each_other(*id, added),
        };
        let others: Vec<_> = self.switch.iter().map(|(id, _)| id).filter(knows).collect();
        for other in others {
            if let Some((_, mut turn)) = self.turn(other, now) {
                arp::announce(&mut turn, &lease);
                ndp::announce(&mut turn, &lease);
            }
        }
    }

    /// The ports with what they have leased and what has crossed them, in the order of their ids.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &Lease, &PortCounters)> {
        self.switch.iter().map(|(id, port)| (id, &port.lease, &port.counters))
    }

    /// Whom the frame is for whose verdict was [`super::stats::Verdict::Ports`]; valid until the next
    /// frame.
    #[must_use]
    pub fn receivers(&self) -> &[PortId] {
        self.switch.receivers()
    }

    /// The shell had no room for a frame to this port.
    pub fn handle_lost(&mut self, port: PortId) {
        self.fx.stats.count_drop(DropReason::QueueFull);
        if let Some(port) = self.switch.get_mut(port) {
            port.counters.tx_dropped += 1;
        }
    }

    /// A port's TAP takes several UDP datagrams in one frame.
    pub fn set_udp_offload(&mut self, port: PortId) {
        if let Some(port) = self.switch.get_mut(port) {
            port.link.uso = port.link.vnet;
        }
    }

    /// Takes a port away with everything of its container: connections of both directions are
    /// reset towards the host, datagrams and questions on their way are forgotten, published ports
    /// lead there no more. Its id is used again as late as possible.
    pub fn remove_port(&mut self, port: PortId, now: Instant) {
        let Some((tables, mut turn)) = self.turn(port, now) else {
            return;
        };
        tables.tcp.remove_port(&mut turn);
        tables.udp.remove_port(&mut turn);
        tables.echo.remove_port(&mut turn);
        tables.dns.remove_port(&mut turn);
        tables.reassembly.remove_port(port);
        self.fx.frames.remove_port(port);
        self.fx.adverts.remove_port(port);
        self.fx.doubts.clear(port);
        self.fx.policies.remove(port);
        for (_, published) in &mut self.published {
            published.to.retain(|destination| destination.port != port);
        }
        self.switch.remove(port);
        self.open_ways();
        self.serve_refused(now);
    }
}
