//! Rates: what a container may get and send each second.
//!
//! Each limited direction of a port has a token bucket, which may go into debt by one frame. In debt,
//! what the container sends is left unread ([`super::Engine::paused_until`]), so that its own kernel
//! keeps it; what is for the container waits here. Frames wait in a queue, and are dropped when that
//! is full; connections wait for being asked for their next segment, so that nothing of them is
//! lost and their windows hold their senders back. Ports without a rate are in no table: a network
//! without any pays for one comparison a frame.

use std::collections::{BTreeSet, VecDeque};

use smoltcp::time::Duration;

use super::frame::VNET_HEADER_LEN;
use super::{Instant, PortId};
use crate::config::Rate;
use crate::sorted::SortedMap;

/// How much of a rate may come at once: more than a busy machine wakes up late.
const SPAN: Duration = Duration::from_millis(50);
/// How much of a rate is waited for, so that a fast one is not a wake-up for each frame.
const STEP: Duration = Duration::from_millis(5);
/// The longest that a frame waits at a rate, in parts of a second, unless that would be too few.
const LONGEST_WAIT: u64 = 10;
/// Bytes that may wait at any rate: two of the largest frames.
const LEAST_QUEUE: usize = 128 << 10;

/// All ports with a rate.
#[derive(Debug, Default)]
pub(super) struct Shaper {
    ports: SortedMap<PortId, Shaped>,
    /// When to look for whose turn has come; `None` when nobody waits.
    due: Option<Instant>,
    /// Who had the last turn.
    last: Option<PortId>,
    /// Connections that may send again.
    pub(super) resumed: VecDeque<usize>,
}

/// One port.
#[derive(Debug, Default)]
struct Shaped {
    rate: Rate,
    down: Option<Bucket>,
    up: Option<Bucket>,
    /// Frames that wait to go down, in order.
    frames: VecDeque<Held>,
    bytes: usize,
    /// Connections that do.
    flows: BTreeSet<usize>,
    /// Where to look for the one whose turn is next.
    next_flow: usize,
    /// Whose turn it is where both wait.
    flows_first: bool,
}

/// A frame that has to wait.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: Vec<u8>,
    /// Whether another container has sent it.
    pub(super) passed_on: bool,
}

impl Shaper {
    /// Whether any port has a rate.
    pub(super) fn is_any(&self) -> bool {
        !self.ports.is_empty()
    }

    /// Sets a port's rate; what waits goes on by the new one.
    pub(super) fn set(&mut self, port: PortId, rate: Rate, now: Instant) {
        if rate.is_unlimited() && !self.ports.contains_key(&port) {
            return;
        }
        let shaped = self.ports.or_default(port);
        if shaped.rate == rate {
            return;
        }
        let bucket = |bits: u64| Bucket::new(bits / 8, SPAN, now);
        shaped.rate = rate;
        (shaped.down, shaped.up) = (rate.down.map(bucket), rate.up.map(bucket));
        self.look(now);
    }

    /// Forgets a port and what waits for it.
    pub(super) fn remove(&mut self, port: PortId) {
        self.ports.remove(&port);
    }

    /// Whether frames for a port go through the queue.
    pub(super) fn is_limited(&self, port: PortId) -> bool {
        self.ports.get(&port).is_some_and(|shaped| shaped.down.is_some() || shaped.waits())
    }

    /// Whether another frame may wait for a port, in so many times the room that there is.
    pub(super) fn has_room(&self, port: PortId, times: usize) -> bool {
        self.ports.get(&port).is_none_or(|shaped| {
            let most = shaped.down.as_ref().map_or(0, Bucket::most_waiting);
            shaped.bytes < most.max(LEAST_QUEUE).saturating_mul(times)
        })
    }

    /// Whether a frame may go down now, before others that wait; it is counted if so.
    pub(super) fn passes(&mut self, port: PortId, length: usize, now: Instant) -> bool {
        let Some(shaped) = self.ports.get_mut(&port) else { return true };
        let passes = !shaped.waits() && shaped.is_free(now);
        if passes {
            shaped.spend(length, now);
        }
        passes
    }

    /// Has a frame wait for its turn.
    pub(super) fn hold(&mut self, port: PortId, held: Held) {
        if let Some(shaped) = self.ports.get_mut(&port) {
            shaped.bytes += held.frame.len();
            shaped.frames.push_back(held);
            let at = shaped.free_at();
            self.look(at);
        }
    }

    /// Takes the last frame that waits for a port back.
    pub(super) fn drop_last(&mut self, port: PortId) -> Option<Vec<u8>> {
        let shaped = self.ports.get_mut(&port)?;
        let held = shaped.frames.pop_back()?;
        shaped.bytes -= held.frame.len();
        Some(held.frame)
    }

    /// Whether a port has got as much as it may.
    pub(super) fn is_in_debt(&self, port: PortId, now: Instant) -> bool {
        self.ports.get(&port).is_some_and(|shaped| !shaped.is_free(now))
    }

    /// Has a connection wait until its port has no debt.
    pub(super) fn park(&mut self, port: PortId, flow: usize) {
        if let Some(shaped) = self.ports.get_mut(&port) {
            shaped.flows.insert(flow);
            let at = shaped.free_at();
            self.look(at);
        }
    }

    /// A connection waits no more: it has ended, or goes to another port.
    pub(super) fn unpark(&mut self, port: PortId, flow: usize) {
        if let Some(shaped) = self.ports.get_mut(&port) {
            shaped.flows.remove(&flow);
        }
    }

    /// How many connections wait.
    #[cfg(test)]
    pub(super) fn parked(&self) -> usize {
        self.ports.values().map(|shaped| shaped.flows.len()).sum()
    }

    /// Counts what a connection has sent down.
    pub(super) fn count_down(&mut self, port: PortId, length: usize, now: Instant) {
        if let Some(shaped) = self.ports.get_mut(&port) {
            shaped.spend(length, now);
        }
    }

    /// Counts what a container has sent.
    pub(super) fn count_up(&mut self, port: PortId, length: u64, now: Instant) {
        if let Some(up) = self.ports.get_mut(&port).and_then(|shaped| shaped.up.as_mut()) {
            up.take(length, now);
        }
    }

    /// When a container may send again that has sent as much as it may.
    pub(super) fn paused_until(&self, port: PortId, now: Instant) -> Option<Instant> {
        let up = self.ports.get(&port)?.up.as_ref()?;
        (!up.is_free(now)).then(|| up.free_at())
    }

    /// Whether a container needs longer to send so many bytes than anything waits.
    pub(super) fn is_slower(&self, port: PortId, bytes: usize) -> bool {
        let up = self.ports.get(&port).and_then(|shaped| shaped.up.as_ref());
        up.is_some_and(|up| up.most_waiting() < bytes)
    }

    /// The next frame whose turn has come. A connection of each port that has its turn is put into
    /// [`Shaper::resumed`]: one, as there may be thousands and the next frame makes debt.
    pub(super) fn next(&mut self, now: Instant) -> Option<(PortId, Held)> {
        if !self.is_due(now) {
            return None;
        }
        let (last, mut next) = (self.last, None);
        // First those behind the last one, then the others.
        'turns: for behind in [true, false] {
            for (port, shaped) in self.ports.iter_mut() {
                if (Some(*port) > last) != behind || !shaped.waits() || !shaped.is_free(now) {
                    continue;
                }
                let flows = shaped.flows_first || shaped.frames.is_empty();
                shaped.flows_first = !flows;
                if flows && !shaped.flows.is_empty() {
                    self.resumed.extend(shaped.resume());
                } else if let Some(held) = shaped.frames.pop_front() {
                    shaped.bytes -= held.frame.len();
                    shaped.spend(held.frame.len().saturating_sub(VNET_HEADER_LEN), now);
                    self.last = Some(*port);
                    next = Some((*port, held));
                    break 'turns;
                }
            }
        }
        if next.is_none() {
            self.ports.retain(|_, port| port.waits() || !port.rate.is_unlimited());
            self.due = self.ports.values().filter(|port| port.waits()).map(Shaped::free_at).min();
        }
        next
    }

    /// When [`Shaper::next`] has something.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it has something now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    fn look(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

impl Shaped {
    /// Takes out the connection behind the last one, so that each has its turn.
    fn resume(&mut self) -> Option<usize> {
        let behind = self.flows.range(self.next_flow..).next();
        let next = behind.or_else(|| self.flows.first()).copied()?;
        self.flows.remove(&next);
        self.next_flow = next + 1;
        Some(next)
    }

    fn waits(&self) -> bool {
        !self.frames.is_empty() || !self.flows.is_empty()
    }

    fn is_free(&self, now: Instant) -> bool {
        self.down.as_ref().is_none_or(|down| down.is_free(now))
    }

    fn free_at(&self) -> Instant {
        self.down.as_ref().map_or(Instant::ZERO, Bucket::free_at)
    }

    fn spend(&mut self, length: usize, now: Instant) {
        if let Some(down) = &mut self.down {
            down.take(u64::try_from(length).unwrap_or(u64::MAX), now);
        }
    }
}

/// A token bucket: so many each second, and as many at once as come in some time.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u64,
    /// In millionths, as `size`; below zero is debt.
    tokens: i64,
    size: i64,
    filled: Instant,
}

impl Bucket {
    /// `rate` tokens each second, of which as many are there at once as come in `span`.
    pub(super) fn new(rate: u64, span: Duration, now: Instant) -> Self {
        let size = in_millionths(rate, span);
        Self { rate, tokens: size, size, filled: now }
    }

    /// What is there now.
    fn level(&self, now: Instant) -> i64 {
        self.tokens.saturating_add(in_millionths(self.rate, now - self.filled)).min(self.size)
    }

    /// Whether there are so many.
    pub(super) fn has(&self, tokens: u64, now: Instant) -> bool {
        self.level(now) >= in_millionths(tokens, Duration::from_secs(1))
    }

    /// Takes so many, if only by going into debt.
    pub(super) fn take(&mut self, tokens: u64, now: Instant) {
        let taken = in_millionths(tokens, Duration::from_secs(1));
        self.tokens = self.level(now).saturating_sub(taken);
        self.filled = now;
    }

    /// As many as come while anything waits.
    fn most_waiting(&self) -> usize {
        usize::try_from(self.rate / LONGEST_WAIT).unwrap_or(usize::MAX)
    }

    /// Whether there is no debt.
    fn is_free(&self, now: Instant) -> bool {
        self.level(now) > 0
    }

    /// When there is more than no debt by [`STEP`].
    fn free_at(&self) -> Instant {
        let missing = in_millionths(self.rate, STEP).saturating_sub(self.tokens);
        let missing = u64::try_from(missing).unwrap_or(0);
        self.filled + Duration::from_micros(missing.div_ceil(self.rate.max(1)))
    }
}

/// What comes in a time of a rate each second.
fn in_millionths(rate: u64, time: Duration) -> i64 {
    i64::try_from(rate.saturating_mul(time.total_micros())).unwrap_or(i64::MAX)
}
