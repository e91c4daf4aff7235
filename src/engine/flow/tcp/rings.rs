//! How large the rings of TCP flows are: small at first, larger for those that are busy, and all
//! the larger ones together within a bound.
//!
//! An idle flow so costs the same little beside a busy one as beside ten thousand others, and a
//! busy one has the same room whoever else is idle. The change itself is smoltcp's affair
//! ([`crate::engine::stack`]); when a flow is busy enough is [`super::open`]'s.

use std::collections::VecDeque;

use smoltcp::time::Duration;

use super::TcpFlows;
use super::flow::{State, TcpFlow};
use crate::config::{Limit, Limits};
use crate::engine::stack::{Connection, Ends, LARGEST_RING, Memory, Panicked};
use crate::engine::{Instant, PortId, Turn};

/// Length of both of a flow's rings at first, in bytes: no more than the windows of a guest that
/// cannot scale them, and touched page by page.
pub(super) const FIRST_RING: usize = 32 << 10;
/// The same where half of the memory is taken: five segments of an ordinary link. Not quite two
/// pages: the shell's allocator knows a ring by its length, and maps it page by page.
pub(in crate::engine) const SMALL_RING: usize = (8 << 10) - 16;
/// How many flows have rings of a size at most, counted with all larger ones, and the size in bytes.
/// 64 KiB halves the speed of 256 KiB.
const STEPS: [(usize, usize); 3] = [(2, LARGEST_RING), (8, FIRST_STEP), (64, SMALLEST_STEP)];
/// The most that a flow's rings grow to at once. So several flows that become busy together all get the
/// same; one that stays busy, alone or with one other, gets more.
const FIRST_STEP: usize = LARGEST_RING / 4;
/// The smallest of them.
const SMALLEST_STEP: usize = LARGEST_RING / 8;
/// The most memory that all larger rings can take, in bytes.
const LARGER: usize = {
    let [(first, large), (second, middle), (all, small)] = STEPS;
    2 * (first * large + (second - first) * middle + (all - second) * small)
};
/// Unless told otherwise, all the connections that there can be have rings, and those that are busy
/// large ones.
const _: () = {
    let (flows, memory) = (Limits::DEFAULT.get(Limit::Tcp), Limits::DEFAULT.memory());
    let first = memory / 2 / (2 * FIRST_RING);
    assert!(first * 2 * FIRST_RING + (flows - first) * 2 * SMALL_RING + LARGER <= memory);
};
/// A flow that has moved nothing for this long gives its rings to another that is busy.
const IDLE: Duration = Duration::from_secs(1);
/// How many holders of larger rings are looked at when there is none to be had, and how soon again.
const LOOKS: usize = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Who has larger rings.
#[derive(Debug, Default)]
pub(super) struct Rings {
    /// What they all have together.
    pub(super) memory: Memory,
    /// Each once, the one that was looked at longest ago first.
    holders: VecDeque<usize>,
    /// How many of them are to be looked at, because somebody needs larger rings and gets none.
    looks: usize,
    /// When that was last decided.
    looked: Option<Instant>,
}

/// What a holder of larger rings had done when it was last looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    moved: u64,
    at: Instant,
}

impl Rings {
    /// The rings that a new flow gets, in bytes each; `None` is no flow at all.
    pub(super) fn first(&self, limits: &Limits) -> Option<usize> {
        let (used, memory) = (self.memory.used(), limits.memory());
        if used + 2 * FIRST_RING <= memory / 2 {
            return Some(FIRST_RING);
        }
        (used + 2 * SMALL_RING <= memory).then_some(SMALL_RING)
    }

    /// The larger rings that a flow may have, in bytes each, instead of the larger ones that it has,
    /// of `held` bytes, or of its first ones.
    fn step(&self, held: Option<usize>, limits: &Limits) -> Option<usize> {
        let others = self.holders.len().saturating_sub(usize::from(held.is_some()));
        let sizes = held.map_or(0..=FIRST_STEP, |ring| ring + 1..=LARGEST_RING);
        let room = limits.memory().saturating_sub(self.memory.used());
        let fits = |(most, bytes): &&(usize, usize)| {
            others < *most && sizes.contains(bytes) && 2 * bytes <= room
        };
        STEPS.iter().find(fits).map(|(_, bytes)| *bytes)
    }

    pub(super) fn forget(&mut self, index: usize) {
        self.holders.retain(|holder| *holder != index);
    }
}

impl TcpFlow {
    fn moved(&self) -> u64 {
        self.to_guest_bytes.wrapping_add(self.to_host_bytes)
    }

    /// The length of its rings, in bytes, if it has larger ones.
    fn larger_ring(&self) -> Option<usize> {
        let State::Open(open) = &self.state else { return None };
        self.look.map(|_| open.connection.ring())
    }

    fn ends(&self) -> Ends {
        Ends { guest: self.key.guest, host: self.key.host }
    }
}

impl TcpFlows {
    /// Lets a flow that its rings hold back wait for larger ones, if there are any to be had.
    pub(super) fn offer_rings(&mut self, turn: &mut Turn<'_>, index: usize) {
        let cramped =
            |flow: &&TcpFlow| matches!(&flow.state, State::Open(open) if open.is_cramped());
        let Some(held) = self.flows.get(index).filter(cramped).map(TcpFlow::larger_ring) else {
            return;
        };
        // What a container sends waits with it at its rate, and more with a larger window.
        if turn.fx.frames.shaper.is_slower(turn.port, SMALLEST_STEP) {
            return;
        }
        let Some(step) = self.rings.step(held, &turn.network.limits) else {
            if self.rings.looked.is_none_or(|at| turn.now >= at + LOOK_AGAIN) {
                (self.rings.looks, self.rings.looked) = (LOOKS, Some(turn.now));
            }
            return;
        };
        if let Some(TcpFlow { state: State::Open(open), .. }) = self.flows.get_mut(index) {
            open.expect_ring(step);
        }
    }

    /// Gives a flow the rings that it waits for, once nothing of it is on its way.
    pub(super) fn grow(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let (ends, held) = (flow.ends(), flow.larger_ring());
        let State::Open(open) = &mut flow.state else {
            return;
        };
        let Some(ring) = open.expected_ring() else {
            return;
        };
        // Others may have been quicker.
        let step = self.rings.step(held, &turn.network.limits);
        let Some(ring) = step.map(|step| step.min(ring)) else {
            open.expect_no_ring();
            // What the host has sent meanwhile was left unread.
            self.ask_relay(turn, index);
            return;
        };
        match turn.resize(&mut open.connection, ends, ring) {
            Ok(false) => {}
            Ok(true) => {
                open.expect_no_ring();
                flow.look = Some(Look { moved: flow.moved(), at: turn.now });
                if held.is_none() {
                    self.rings.holders.push_back(index);
                }
                log::trace!("flow {index} tcp {}: rings of {ring} bytes", flow.key);
                self.ask_egress(index);
                self.ask_relay(turn, index);
            }
            Err(Panicked) => self.remove_after_panic(turn, index),
        }
    }

    /// A holder that is to be looked at, for [`TcpFlows::reclaim`] in a turn of its container.
    pub(in crate::engine) fn next_look(&mut self) -> Option<(PortId, usize)> {
        self.rings.looks = self.rings.looks.checked_sub(1)?;
        let index = self.rings.holders.pop_front()?;
        Some((self.flows.port_of(index)?, index))
    }

    /// Takes the rings of a holder that has been idle.
    pub(in crate::engine) fn reclaim(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let (moved, ends) = (flow.moved(), flow.ends());
        let idle = flow.look.is_some_and(|look| look.moved == moved && turn.now > look.at + IDLE);
        if flow.look.is_none_or(|look| look.moved != moved) {
            flow.look = Some(Look { moved, at: turn.now });
        }
        let connection = flow.state.connection_mut().filter(|_| idle);
        match connection.map(|connection| turn.resize(connection, ends, FIRST_RING)) {
            Some(Ok(true)) => {
                flow.look = None;
                self.rings.looks = 0;
                log::trace!("flow {index} tcp {}: rings of {FIRST_RING} bytes", flow.key);
            }
            Some(Err(Panicked)) => self.remove_after_panic(turn, index),
            Some(Ok(false)) | None => self.rings.holders.push_back(index),
        }
    }
}

/// The largest rings that make a difference to a connection, if they are larger than its own.
pub(super) fn room_to_grow(connection: &Connection) -> Option<usize> {
    let largest = connection.largest_ring();
    (largest > connection.ring()).then_some(largest)
}
