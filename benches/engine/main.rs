//! Runs one of the engine's works so many times, for `ci/instructions` to count under callgrind.
//!
//! It takes no time itself: how long a work lasts depends on the machine, how many instructions it
//! takes on the compiler alone.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(clippy::print_stdout, unreachable_pub)]

#[allow(dead_code)]
#[path = "../../fuzz/harness/packet.rs"]
mod packet;
mod works;

/// As in the program: rings are mapped and not cleared.
#[global_allocator]
static ALLOCATOR: rnsnet::sys::alloc::PageAllocator = rnsnet::sys::alloc::PageAllocator;

/// Rounds before any are counted: every buffer has been used by then.
const WARM: usize = 50;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match (args.next(), args.next().map(|count| count.parse())) {
        (Some(name), Some(Ok(count))) => {
            let (_, make) = works::WORKS.iter().find(|(work, _)| *work == name).unwrap();
            let mut round = make();
            repeat(&mut round, WARM);
            measured(&mut round, count);
        }
        _ => works::WORKS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn repeat(round: &mut works::Round, count: usize) {
    (0..count).for_each(|_| round());
}

/// Callgrind counts while this function runs, and finds it by its name.
#[inline(never)]
fn measured(round: &mut works::Round, count: usize) {
    repeat(round, count);
    // Else the call might be a jump, and the function never be left.
    std::hint::black_box(round);
}
