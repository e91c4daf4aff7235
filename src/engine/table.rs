//! A table of conversations: an entry is found by its key, by its index, or by its deadline.
//!
//! An index is small and stable while its entry lives, so host sockets and queues can name it; it
//! is used again afterwards. Keys are chosen by guests, so they are hashed under a secret.

use std::hash::Hash;

use slab::Slab;

use super::flow::{GuestMap, KeyedHash};
use super::timer::{Deadline, Timed, Timers};
use super::{Instant, PortId};

/// What a table holds.
pub(super) trait Entry {
    type Key: Copy + Eq + Hash;

    /// What it is found by; changes by [`Table::rekey`] alone.
    fn key(&self) -> Self::Key;
    /// The switch port of its guest.
    fn port(&self) -> PortId;
}

#[derive(Debug)]
pub(super) struct Table<E: Entry> {
    by_key: GuestMap<E::Key, usize>,
    slots: Slab<Slot<E>>,
    timers: Timers,
}

#[derive(Debug)]
struct Slot<E> {
    entry: E,
    deadline: Deadline,
}

impl<E> Timed for Slot<E> {
    fn deadline(&mut self) -> &mut Deadline {
        &mut self.deadline
    }
}

impl<E: Entry> Table<E> {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self { by_key: GuestMap::with_hasher(hash), slots: Slab::new(), timers: Timers::default() }
    }

    /// Gives up the room that entries had, if there are none left.
    pub(super) fn shrink(&mut self) {
        if self.slots.is_empty() {
            self.by_key.shrink_to_fit();
            self.slots = Slab::new();
            self.timers = Timers::default();
        }
    }

    pub(super) fn find(&self, key: &E::Key) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, index: usize) -> Option<&E> {
        self.slots.get(index).map(|slot| &slot.entry)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut E> {
        self.slots.get_mut(index).map(|slot| &mut slot.entry)
    }

    /// The index that the next [`Table::insert`] will return.
    pub(super) fn next_index(&self) -> usize {
        self.slots.vacant_key()
    }

    pub(super) fn insert(&mut self, entry: E) -> usize {
        let key = entry.key();
        let index = self.slots.insert(Slot { entry, deadline: Deadline::default() });
        self.by_key.insert(key, index);
        index
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<E> {
        let Slot { entry, .. } = self.slots.try_remove(index)?;
        self.by_key.remove(&entry.key());
        Some(entry)
    }

    /// Changes an entry in a way that may change its key.
    pub(super) fn rekey(&mut self, index: usize, change: impl FnOnce(&mut E)) {
        if let Some(slot) = self.slots.get_mut(index) {
            self.by_key.remove(&slot.entry.key());
            change(&mut slot.entry);
            self.by_key.insert(slot.entry.key(), index);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &E)> {
        self.slots.iter().map(|(index, slot)| (index, &slot.entry))
    }

    /// The indices of a port's entries.
    pub(super) fn of_port(&self, port: PortId) -> Vec<usize> {
        let of_port = self.iter().filter(|(_, entry)| entry.port() == port);
        of_port.map(|(index, _)| index).collect()
    }

    /// The indices of all entries.
    pub(super) fn indices(&self) -> Vec<usize> {
        self.iter().map(|(index, _)| index).collect()
    }

    pub(super) fn port_of(&self, index: usize) -> Option<PortId> {
        self.get(index).map(Entry::port)
    }

    /// Sets when an entry is due; `None` is never.
    pub(super) fn set_deadline(&mut self, index: usize, due: Option<Instant>) {
        if let Some(slot) = self.slots.get_mut(index) {
            self.timers.set(index, &mut slot.deadline, due);
        }
        if self.timers.is_littered(self.slots.len()) {
            self.timers.compact(&mut self.slots);
        }
    }

    /// The next moment at which to call [`Table::pop_due`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// An entry that is due at `now`, with its port.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(PortId, usize)> {
        let index = self.timers.pop_due(now, &mut self.slots)?;
        Some((self.port_of(index)?, index))
    }
}
