//! Containers that may have lost their IPv6 address.
//!
//! A container may be told later than by us that it has no IPv6: an image that sets the sysctl
//! `disable_ipv6`, say. What is sent to its address then is lost in silence. A client who gets no
//! answer for a while is a reason to ask who has the address, as any router would first; who has it
//! answers by its kernel, however slow its programs are. Nobody is asked before that, so a network
//! where all is well has no frame more. Read first: RFC 4861 section 7.2.2.
//! Not here: the messages ([`super::ndp`]).

use smoltcp::time::Duration;

use super::{Instant, PortId, Tables, Turn, ndp};
use crate::config::Lease;
use crate::sorted::SortedMap;

/// How often an address is asked for before it counts as lost, and at what intervals (RFC 4861,
/// section 10: `MAX_MULTICAST_SOLICIT`, `RETRANS_TIMER`).
const TRIES: u8 = 3;
const INTERVAL: Duration = Duration::from_secs(1);

/// All containers whose address is in doubt, or lost.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    ports: SortedMap<PortId, Doubt>,
}

#[derive(Debug)]
struct Doubt {
    asked: u8,
    /// When to ask again, or to give up; `None` is lost.
    due: Option<Instant>,
}

impl Doubts {
    /// When to call [`Doubts::pop_due`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.ports.values().filter_map(|doubt| doubt.due).min()
    }

    /// A port for [`go_on`].
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<PortId> {
        self.ports
            .iter_mut()
            .find_map(|(port, doubt)| doubt.due.take_if(|due| *due <= now).map(|_| *port))
    }

    /// A container says that it has its address, or is gone.
    pub(super) fn clear(&mut self, port: PortId) {
        self.ports.remove(&port);
    }
}

/// A client has waited for an answer of the container's IPv6 address. Returns whether that is lost.
pub(super) fn begin(turn: &mut Turn<'_>) -> bool {
    let doubts = &mut turn.fx.doubts.ports;
    if let Some(doubt) = doubts.get(&turn.port) {
        return doubt.due.is_none();
    }
    // Without neighbour discovery the gateway would not hear the answer.
    if turn.network.rules.protocols.ndp {
        doubts.insert(turn.port, Doubt { asked: 1, due: Some(turn.now + INTERVAL) });
        ndp::ask(turn);
    }
    false
}

/// Asks again, or gives up: then what has waited for the address is told.
pub(super) fn go_on(tables: &mut Tables, turn: &mut Turn<'_>) {
    let Some(doubt) = turn.fx.doubts.ports.get_mut(&turn.port) else { return };
    if doubt.asked < TRIES {
        doubt.asked += 1;
        doubt.due = Some(turn.now + INTERVAL);
        ndp::ask(turn);
    } else if let Some(lost) = turn.lease.v6 {
        log::debug!("port {}: the container has lost {lost}", turn.port.0);
        tables.tcp.guest_lost(turn, lost.into());
        tables.udp.guest_lost(turn, lost.into());
    }
}

/// Where a new client is led to: to a lost address no more. It is asked for once with each of them,
/// so that the next one is led there again if it is back.
pub(super) fn lease(turn: &mut Turn<'_>) -> Lease {
    let lost = turn.fx.doubts.ports.get(&turn.port).is_some_and(|doubt| doubt.due.is_none());
    if lost {
        ndp::ask(turn);
    }
    Lease { v6: turn.lease.v6.filter(|_| !lost), ..*turn.lease }
}
