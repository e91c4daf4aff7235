//! A table of conversations: an entry is found by its key, by its index, or by its deadline.
//!
//! An index is small and stable while its entry lives, so host sockets and queues can name it; it
//! is used again afterwards. Keys are chosen by guests, so they are hashed under a secret.

use std::collections::BinaryHeap;
use std::hash::Hash;

use slab::Slab;

use super::flow::{GuestMap, KeyedHash};
use super::timer::{Deadline, Timed, Timers};
use super::{Instant, PortId};
use crate::config::limits::Room;
use crate::sorted::SortedMap;

/// What a table holds.
pub(super) trait Entry {
    type Key: Copy + Eq + Hash;

    /// What it is found by; changes by [`Table::rekey`] alone.
    fn key(&self) -> Self::Key;
    /// The switch port of its guest.
    fn port(&self) -> PortId;
    /// Of a port's entries the one for which this is least gives way first. It only grows while an
    /// entry lives.
    fn rank(&self) -> i64 {
        0
    }
}

/// Entries that give way without another walk over the table. Few in tests, so that they walk.
const AT_ONCE: usize = if cfg!(test) { 4 } else { 64 };

#[derive(Debug)]
pub(super) struct Table<E: Entry> {
    by_key: GuestMap<E::Key, usize>,
    slots: Slab<Slot<E>>,
    /// How many entries each port has.
    counts: SortedMap<PortId, usize>,
    /// Of a port the entries of least rank, the least last, with their ranks when they were put in:
    /// whichever is not here has a rank no less than the first.
    least: SortedMap<PortId, Vec<(i64, usize)>>,
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
        Self {
            by_key: GuestMap::with_hasher(hash),
            slots: Slab::new(),
            counts: SortedMap::new(),
            least: SortedMap::new(),
            timers: Timers::default(),
        }
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
        *self.counts.or_default(entry.port()) += 1;
        let index = self.slots.insert(Slot { entry, deadline: Deadline::default() });
        self.by_key.insert(key, index);
        self.note_least(index);
        index
    }

    /// A new entry of a port may be among those of least rank.
    fn note_least(&mut self, index: usize) {
        let Some((port, rank)) = self.get(index).map(|entry| (entry.port(), entry.rank())) else {
            return;
        };
        if let Some(least) = self.least.get_mut(&port)
            && least.first().is_some_and(|(first, _)| rank < *first)
        {
            least.insert(least.partition_point(|known| *known > (rank, index)), (rank, index));
            if least.len() > AT_ONCE {
                least.remove(0);
            }
        }
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<E> {
        let Slot { entry, .. } = self.slots.try_remove(index)?;
        self.by_key.remove(&entry.key());
        self.uncount(entry.port());
        Some(entry)
    }

    fn uncount(&mut self, port: PortId) {
        if let Some(count) = self.counts.get_mut(&port) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&port);
                self.least.remove(&port);
            }
        }
    }

    /// Changes an entry in a way that may change its key.
    pub(super) fn rekey(&mut self, index: usize, change: impl FnOnce(&mut E)) {
        if let Some(slot) = self.slots.get_mut(index) {
            let before = slot.entry.port();
            self.by_key.remove(&slot.entry.key());
            change(&mut slot.entry);
            self.by_key.insert(slot.entry.key(), index);
            *self.counts.or_default(slot.entry.port()) += 1;
            self.uncount(before);
            self.note_least(index);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many of them are a port's.
    pub(super) fn len_of(&self, port: PortId) -> usize {
        self.counts.get(&port).copied().unwrap_or(0)
    }

    /// Whose entry has to go before `port` may have another: its own where it has its share, else
    /// one of the port that has most.
    pub(super) fn crowded(&self, port: PortId, room: Room) -> Option<PortId> {
        if self.len_of(port) >= room.each {
            return Some(port);
        }
        let full = self.len() >= room.all;
        let most = self.counts.iter().filter(|_| full).max_by_key(|(_, count)| **count);
        most.map(|(port, _)| *port)
    }

    /// Of a port's entries the one whose [`Entry::rank`] is least, to be removed by the caller. Who
    /// keeps a table full makes it be looked through once in [`AT_ONCE`] times.
    pub(super) fn pop_least(&mut self, port: PortId) -> Option<usize> {
        for _ in 0..2 {
            while let Some((rank, index)) = self.least.get_mut(&port).and_then(Vec::pop) {
                let is_same = |entry: &E| entry.port() == port && entry.rank() == rank;
                if self.get(index).is_some_and(is_same) {
                    return Some(index);
                }
                // It has grown since.
                self.note_least(index);
            }
            let of_port = self.iter().filter(|(_, entry)| entry.port() == port);
            let least = least(&mut of_port.map(|(index, entry)| (entry.rank(), index)));
            self.least.insert(port, least);
        }
        None
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

/// The least [`AT_ONCE`] of them, the least last. One function for all tables.
fn least(ranks: &mut dyn Iterator<Item = (i64, usize)>) -> Vec<(i64, usize)> {
    let mut least = BinaryHeap::with_capacity(AT_ONCE + 1);
    for rank in ranks {
        least.push(rank);
        if least.len() > AT_ONCE {
            least.pop();
        }
    }
    let mut least = least.into_sorted_vec();
    least.reverse();
    least
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use smoltcp::time::Duration;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Talk {
        key: u8,
        port: PortId,
        rank: i64,
    }

    impl Entry for Talk {
        type Key = u8;

        fn key(&self) -> u8 {
            self.key
        }

        fn port(&self) -> PortId {
            self.port
        }

        fn rank(&self) -> i64 {
            LOOKS.set(LOOKS.get() + 1);
            self.rank
        }
    }

    thread_local! {
        /// How often a rank was asked for.
        static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    // Who keeps a table full, whatever the ranks of those that come.
    #[test]
    fn a_full_table_is_not_looked_through_for_each_that_gives_way() {
        let port = PortId(1);
        for falling in [false, true] {
            let mut table = Table::new(KeyedHash::new([1, 2]));
            let rank = |n: i64| if falling { 10_000 - n } else { n };
            for key in 0..200 {
                table.insert(Talk { key, port, rank: rank(key.into()) });
            }
            LOOKS.set(0);
            for n in 200..1000 {
                let least = table.pop_least(port).unwrap();
                let Talk { key, .. } = table.remove(least).unwrap();
                table.insert(Talk { key, port, rank: rank(n) });
            }
            // A walk for each were 160,000.
            let looks = LOOKS.get();
            assert!(looks < 160_000 / AT_ONCE + 800 * 8, "{looks} looks, falling: {falling}");
        }
    }

    /// What may be done to a table. Entries are named by their place among the living.
    #[derive(Debug, Clone)]
    enum Step {
        Insert { key: u8, port: usize, rank: i64 },
        Raise(prop::sample::Index, i64),
        PopLeast(usize),
        Remove(prop::sample::Index),
        Rekey(prop::sample::Index, u8, usize),
        Set(prop::sample::Index, Option<u16>),
        Pass(u16),
    }

    /// Few enough to meet one another often.
    const KEYS: u8 = 48;

    fn step() -> impl Strategy<Value = Step> {
        let any_entry = any::<prop::sample::Index>;
        prop_oneof![
            6 => (0..KEYS, 0..3_usize, 0..200_i64)
                .prop_map(|(key, port, rank)| Step::Insert { key, port, rank }),
            2 => any_entry().prop_map(Step::Remove),
            2 => (any_entry(), 0..50_i64).prop_map(|(entry, by)| Step::Raise(entry, by)),
            2 => (0..3_usize).prop_map(Step::PopLeast),
            1 => (any_entry(), 0..KEYS, 0..3_usize)
                .prop_map(|(entry, key, port)| Step::Rekey(entry, key, port)),
            6 => (any_entry(), any::<Option<u16>>()).prop_map(|(entry, due)| Step::Set(entry, due)),
            2 => (0..5000_u16).prop_map(Step::Pass),
        ]
    }

    /// The same in the plainest form: an entry and when it is due, by index.
    type Model = BTreeMap<usize, (Talk, Option<Instant>)>;

    fn check(table: &Table<Talk>, model: &Model) -> Result<(), TestCaseError> {
        prop_assert_eq!(table.len(), model.len());
        let entries: BTreeMap<_, _> = table.iter().map(|(index, talk)| (index, *talk)).collect();
        let expected: BTreeMap<_, _> =
            model.iter().map(|(index, (talk, _))| (*index, *talk)).collect();
        prop_assert_eq!(entries, expected);
        let full = table.crowded(PortId(9), Room { all: model.len(), each: usize::MAX });
        let count = |port: &PortId| table.len_of(*port);
        let most = (0..3).map(PortId).max_by_key(count).filter(|port| count(port) > 0);
        prop_assert_eq!(full.as_ref().map(count), most.as_ref().map(count));
        for port in (0..3).map(PortId) {
            let own = Room { all: usize::MAX, each: count(&port).max(1) };
            prop_assert_eq!(table.crowded(port, own), (count(&port) > 0).then_some(port));
        }
        let by_key: BTreeMap<u8, usize> =
            model.iter().map(|(index, (talk, _))| (talk.key, *index)).collect();
        for key in 0..KEYS {
            prop_assert_eq!(table.find(&key), by_key.get(&key).copied(), "key {}", key);
        }
        for port in (0..3).map(PortId) {
            let of_port = model.iter().filter(|(_, (talk, _))| talk.port == port);
            let expected: BTreeSet<_> = of_port.map(|(index, _)| *index).collect();
            prop_assert_eq!(table.len_of(port), expected.len());
            prop_assert_eq!(table.of_port(port).into_iter().collect::<BTreeSet<_>>(), expected);
        }
        // Looking too early costs a look, looking too late a deadline.
        if let Some(due) = model.values().filter_map(|(_, due)| *due).min() {
            prop_assert!(table.next_deadline().is_some_and(|next| next <= due));
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_table_is_a_map_with_deadlines(steps in prop::collection::vec(step(), 1..300)) {
            let mut table = Table::new(KeyedHash::new([1, 2]));
            let mut model = Model::new();
            let mut now = Instant::ZERO;
            for step in steps {
                let pick = |entry: prop::sample::Index| {
                    let living: Vec<usize> = model.keys().copied().collect();
                    (!living.is_empty()).then(|| *entry.get(&living))
                };
                match step {
                    Step::Insert { key, port, rank } if table.find(&key).is_none() => {
                        let talk = Talk { key, port: PortId(port), rank };
                        let next = table.next_index();
                        prop_assert_eq!(table.insert(talk), next);
                        prop_assert!(model.insert(next, (talk, None)).is_none());
                    }
                    Step::Remove(entry) => if let Some(index) = pick(entry) {
                        prop_assert_eq!(table.remove(index), model.remove(&index).map(|(talk, _)| talk));
                        prop_assert_eq!(table.remove(index), None);
                    },
                    Step::Rekey(entry, key, port) if table.find(&key).is_none() => {
                        if let Some(index) = pick(entry) {
                            let change = |talk: &mut Talk| (talk.key, talk.port) = (key, PortId(port));
                            table.rekey(index, change);
                            model.entry(index).and_modify(|(talk, _)| change(talk));
                        }
                    }
                    Step::Insert { .. } | Step::Rekey(..) => {}
                    Step::Raise(entry, by) => if let Some(index) = pick(entry) {
                        table.get_mut(index).unwrap().rank += by;
                        model.entry(index).and_modify(|(talk, _)| talk.rank += by);
                    },
                    Step::PopLeast(port) => {
                        let of_port = model.values().filter(|(talk, _)| talk.port == PortId(port));
                        let least = of_port.map(|(talk, _)| talk.rank).min();
                        let popped = table.pop_least(PortId(port));
                        prop_assert_eq!(popped.map(|index| model[&index].0.rank), least);
                        if let Some(index) = popped {
                            prop_assert_eq!(table.remove(index), model.remove(&index).map(|(talk, _)| talk));
                        }
                    }
                    Step::Set(entry, after) => if let Some(index) = pick(entry) {
                        let due = after.map(|after| now + Duration::from_micros(after.into()));
                        table.set_deadline(index, due);
                        model.entry(index).and_modify(|(_, at)| *at = due);
                    },
                    Step::Pass(micros) => {
                        now += Duration::from_micros(micros.into());
                        let mut due = BTreeSet::new();
                        while let Some((port, index)) = table.pop_due(now) {
                            prop_assert_eq!(Some(port), table.port_of(index));
                            prop_assert!(due.insert(index), "{} is due twice", index);
                        }
                        let mut expected = BTreeSet::new();
                        for (index, (_, at)) in &mut model {
                            if at.take_if(|at| *at <= now).is_some() {
                                expected.insert(*index);
                            }
                        }
                        prop_assert_eq!(due, expected);
                        // Nothing that is over keeps the loop awake.
                        prop_assert!(table.next_deadline().is_none_or(|next| next > now));
                        table.shrink();
                    }
                }
                check(&table, &model)?;
            }
        }
    }
}
