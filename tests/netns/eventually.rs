//! Waiting for things, always with a deadline and never by a bare sleep.
//!
//! The one place in these tests that reads the clock. A test machine may be busy with other things, so
//! a wait for what has to come is long ([`PATIENCE`]); where a time is promised, it is measured so
//! that only the program under test can make it too long: by [`promptly`] or [`one_of_three`].

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The present moment; real time is what these tests measure.
#[expect(clippy::disallowed_methods, reason = "the harness's only clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Lets `pause` pass, between two looks at something that cannot wake us.
pub(crate) fn pause(pause: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    assert_eq!(receiver.recv_timeout(pause), Err(mpsc::RecvTimeoutError::Timeout));
}

/// How many times as long as its test says a wait may last, on a machine that is busy.
pub(crate) const PATIENCE: u32 = 6;

/// The most that one look counts for where a time is promised.
const LONGEST_LOOK: Duration = Duration::from_millis(300);

/// Calls `probe` until it gives a value: for what has to come, however busy the machine is.
///
/// # Panics
/// When `within` has passed [`PATIENCE`] times; the message holds the last observation.
pub(crate) fn eventually<T>(
    within: Duration,
    what: &str,
    probe: impl FnMut() -> Result<T, String>,
) -> T {
    look(within * PATIENCE, Duration::MAX, what, probe)
}

/// Calls `probe` until it gives a value: for what is promised within a time. A look at it, which
/// takes some milliseconds to a tenth of a second, counts no more where the machine makes it longer.
///
/// # Panics
/// When looks have counted for `within`; the message holds the last observation.
pub(crate) fn promptly<T>(
    within: Duration,
    what: &str,
    probe: impl FnMut() -> Result<T, String>,
) -> T {
    look(within, LONGEST_LOOK, what, probe)
}

fn look<T>(
    within: Duration,
    longest: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let mut counted = Duration::ZERO;
    loop {
        let start = now();
        match probe() {
            Ok(value) => return value,
            Err(seen) => {
                assert!(counted < within, "not within {within:?}: {what}; last observation: {seen}")
            }
        }
        pause(Duration::from_millis(5));
        counted += start.elapsed().min(longest);
    }
}

/// Does something whose time is measured until it was fast enough once: a busy machine makes some
/// attempts long, a fault all of them.
///
/// # Panics
/// When three attempts have said what was wrong.
pub(crate) fn one_of_three(what: &str, mut attempt: impl FnMut() -> Result<(), String>) {
    let mut wrong = Vec::new();
    while let Err(seen) = attempt() {
        wrong.push(seen);
        assert!(wrong.len() < 3, "not once in three: {what}; seen: {}", wrong.join("\n"));
    }
}

/// Whether something took less than it may, and what it took if not.
pub(crate) fn less_than(limit: Duration, took: Duration) -> Result<(), String> {
    if took < limit { Ok(()) } else { Err(format!("it took {took:?}, not less than {limit:?}")) }
}

/// Whole seconds, for deadlines.
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds, for deadlines.
pub(crate) const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
