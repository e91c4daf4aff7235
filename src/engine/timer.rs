//! Deadlines of many entries, without a scan and without a tick.
//!
//! An entry keeps its true deadline; here is only a heap of moments at which to look again.
//! Moving a deadline later costs nothing: the old moment passes, the entry is found not to be due
//! and the later one is armed. So each busy flow costs about one entry a second, not one a packet.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use super::Instant;

/// Moments that may be in vain before the heap is looked through.
const MIN_LITTER: usize = 64;

/// A queue of deadlines of the entries of one slab.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

/// One entry's deadline, as its owner keeps it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Deadline {
    due: Option<Instant>,
    armed: Option<Instant>,
}

/// An entry with a deadline.
pub(super) trait Timed {
    fn deadline(&mut self) -> &mut Deadline;
}

impl Timers {
    /// Sets when the entry at `index` is due; `None` is never.
    pub(super) fn set(&mut self, index: usize, deadline: &mut Deadline, due: Option<Instant>) {
        deadline.due = due;
        if let Some(due) = due
            && deadline.armed.is_none_or(|armed| due < armed)
        {
            deadline.armed = Some(due);
            self.heap.push(Reverse((due, index)));
        }
    }

    /// Whether most of the heap is of moments that were given up, for `live` entries. Whoever sets
    /// deadlines calls [`Timers::compact`] then; else a deadline that comes closer and goes away
    /// again, as a busy flow's does, would leave a moment behind each time.
    pub(super) fn is_littered(&self, live: usize) -> bool {
        self.heap.len() > 2 * live + MIN_LITTER
    }

    /// Drops the moments at which no entry is armed.
    pub(super) fn compact<T: Timed>(&mut self, slab: &mut Slab<T>) {
        self.heap.retain(|&Reverse((at, index))| {
            slab.get_mut(index).is_some_and(|entry| entry.deadline().armed == Some(at))
        });
        // The heap may hold one moment twice, if it was armed, given up and armed again.
        let mut moments: Vec<_> = std::mem::take(&mut self.heap).into_vec();
        moments.sort_unstable();
        moments.dedup();
        self.heap = moments.into();
    }

    /// The next moment at which to call [`Timers::pop_due`].
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The index of an entry that is due at `now`. Entries whose deadline has moved are armed
    /// again on the way; those of entries that are gone are forgotten.
    pub(super) fn pop_due<T: Timed>(&mut self, now: Instant, slab: &mut Slab<T>) -> Option<usize> {
        while let Some(&Reverse((at, index))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            let Some(entry) = slab.get_mut(index) else {
                continue;
            };
            let deadline = entry.deadline();
            if deadline.armed != Some(at) {
                continue;
            }
            deadline.armed = None;
            match deadline.due {
                Some(due) if due <= now => return Some(index),
                due => self.set(index, deadline, due),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for Deadline {
        fn deadline(&mut self) -> &mut Deadline {
            self
        }
    }

    #[test]
    fn a_deadline_moved_later_fires_once_and_late() {
        let second = Instant::from_secs;
        let (mut timers, mut slab) = (Timers::default(), Slab::new());
        let index = slab.insert(Deadline::default());
        timers.set(index, &mut slab[index], Some(second(1)));
        timers.set(index, &mut slab[index], Some(second(5)));
        assert_eq!(timers.pop_due(second(2), &mut slab), None);
        assert_eq!(timers.next(), Some(second(5)));
        assert_eq!(timers.pop_due(second(6), &mut slab), Some(index));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_moved_earlier_fires_once_and_early() {
        let second = Instant::from_secs;
        let (mut timers, mut slab) = (Timers::default(), Slab::new());
        let index = slab.insert(Deadline::default());
        timers.set(index, &mut slab[index], Some(second(5)));
        timers.set(index, &mut slab[index], Some(second(1)));
        assert_eq!(timers.pop_due(second(1), &mut slab), Some(index));
        timers.set(index, &mut slab[index], None);
        assert_eq!(timers.pop_due(second(9), &mut slab), None);
    }

    #[test]
    fn a_deadline_that_comes_and_goes_leaves_nothing_behind() {
        let (mut timers, mut slab) = (Timers::default(), Slab::new());
        let index = slab.insert(Deadline::default());
        for step in 0..10_000 {
            let now = Instant::from_millis(step * 10);
            let after = |seconds| Some(now + smoltcp::time::Duration::from_secs(seconds));
            timers.set(index, &mut slab[index], after(7200));
            timers.set(index, &mut slab[index], Some(now));
            assert_eq!(timers.pop_due(now, &mut slab), Some(index));
            timers.set(index, &mut slab[index], after(7200));
            if timers.is_littered(slab.len()) {
                timers.compact(&mut slab);
            }
            assert!(timers.heap.len() <= 2 + MIN_LITTER + 2, "{} moments", timers.heap.len());
        }
        let end = Instant::from_secs(100_000);
        assert_eq!(timers.pop_due(end, &mut slab), Some(index), "its deadline was lost");
    }

    #[test]
    fn an_entry_that_is_gone_never_fires() {
        let (mut timers, mut slab) = (Timers::default(), Slab::new());
        let index = slab.insert(Deadline::default());
        timers.set(index, &mut slab[index], Some(Instant::from_secs(1)));
        slab.remove(index);
        assert_eq!(timers.pop_due(Instant::from_secs(9), &mut slab), None);
        assert_eq!(timers.next(), None);
    }
}
