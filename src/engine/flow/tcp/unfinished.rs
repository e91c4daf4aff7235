//! Connections whose handshake is not over: the oldest of whoever has most, found without a count.
//!
//! A flood makes as many of these as there may be, a walk over them for each SYN would be the flood's
//! second victim. So each container's are counted as they come and go, and the oldest is looked for
//! where it was last: others' that are older are passed once.

use std::collections::BTreeMap;

use crate::config::limits::Room;
use crate::engine::PortId;
use crate::sorted::SortedMap;

/// Flows by their tickets, so the oldest first.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    flows: BTreeMap<u64, (PortId, usize)>,
    /// What each container has; none has nothing.
    of: SortedMap<PortId, Own>,
}

#[derive(Debug, Default)]
struct Own {
    count: usize,
    /// None of its has a ticket before this one.
    from: u64,
}

/// A flow that has to give way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Oldest {
    pub(super) index: usize,
    /// How many the container has for which it makes room.
    pub(super) own: usize,
}

impl Unfinished {
    pub(super) fn insert(&mut self, ticket: u64, port: PortId, index: usize) {
        self.flows.insert(ticket, (port, index));
        self.of.or_default(port).count += 1;
    }

    pub(super) fn remove(&mut self, ticket: u64) {
        let Some((port, _)) = self.flows.remove(&ticket) else {
            return;
        };
        match self.of.get_mut(&port) {
            Some(own) if own.count > 1 => own.count -= 1,
            _ => {
                self.of.remove(&port);
            }
        }
    }

    /// The flow that has to go before `port` may have another: of the container itself if it is at
    /// its own bound, of the one that has most if there is no room for any.
    pub(super) fn oldest(&mut self, port: PortId, room: Room) -> Option<Oldest> {
        let own = self.of.get(&port).map_or(0, |own| own.count);
        let whose = if own >= room.each {
            port
        } else if self.flows.len() >= room.all {
            self.of.iter().max_by_key(|(_, own)| own.count).map(|(port, _)| *port)?
        } else {
            return None;
        };
        let of = self.of.get_mut(&whose)?;
        let mut flows = self.flows.range(of.from..);
        let (ticket, (_, index)) = flows.find(|(_, (port, _))| *port == whose)?;
        of.from = *ticket;
        Some(Oldest { index: *index, own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_makes_room_and_counts_are_right() {
        let (a, b) = (PortId(1), PortId(2));
        let room = Room { all: 4, each: 3 };
        let mut flows = Unfinished::default();
        for (ticket, port) in [(1, b), (2, a), (3, a)] {
            flows.insert(ticket, port, 10 + usize::try_from(ticket).unwrap());
            assert_eq!(flows.oldest(a, room), None);
        }
        flows.insert(4, a, 14);
        // A is at its own bound, and B finds the table full.
        assert_eq!(flows.oldest(a, room), Some(Oldest { index: 12, own: 3 }));
        assert_eq!(flows.of.get(&a).unwrap().from, 2);
        assert_eq!(flows.oldest(b, room), Some(Oldest { index: 12, own: 1 }));
        flows.remove(2);
        flows.remove(2);
        assert_eq!((flows.oldest(a, room), flows.oldest(b, room)), (None, None));
        for ticket in [1, 3, 4] {
            flows.remove(ticket);
        }
        assert!(flows.of.is_empty() && flows.flows.is_empty());
    }
}
