//! What a packet costs, without a clock: how often the engine asks for memory. Nothing for a packet
//! of a flow that stands, and for a connection no more than is written here.
//!
//! Instructions of the same works are `ci/instructions`'s.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(unreachable_pub, unsafe_code)] // an allocator is unsafe by its trait

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[allow(dead_code)]
#[path = "../fuzz/harness/packet.rs"]
mod packet;
#[path = "../benches/engine/works.rs"]
mod works;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // None while a thread ends.
    ALLOCATIONS.try_with(|count| count.set(count.get() + 1)).unwrap_or_default();
}

// SAFETY: every call goes on to `System` as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds before any are counted: every buffer has been used by then.
const WARM: usize = 300;
const ROUNDS: usize = 1_000;

/// How often a work's rounds allocate, on average.
fn allocations(name: &str) -> f64 {
    let (_, make) = works::WORKS.iter().find(|(work, _)| *work == name).unwrap();
    let mut round = make();
    (0..WARM).for_each(|_| round());
    let before = ALLOCATIONS.get();
    (0..ROUNDS).for_each(|_| round());
    (ALLOCATIONS.get() - before) as f64 / ROUNDS as f64
}

#[test]
fn the_count_sees_an_allocation() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![0_u8; 10]));
    assert_eq!(ALLOCATIONS.get(), before + 1);
}

#[test]
fn a_packet_of_a_standing_flow_asks_for_no_memory() {
    for (name, _) in works::WORKS {
        if !name.contains("connect") {
            assert_eq!(allocations(name), 0.0, "{name}");
        }
    }
}

#[test]
fn a_connection_asks_for_little_memory() {
    for (name, most) in [
        ("tcp, connect and close, guest to host", 6.0),
        ("tcp, connect and close, to a published port", 6.0),
    ] {
        let found = allocations(name);
        assert!(found <= most, "{name}: {found} allocations, {most} allowed");
    }
}
