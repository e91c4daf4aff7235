//! Waiting for things, always with a deadline and never by a bare sleep.
//!
//! The one place in these tests that reads the clock.

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

/// Calls `probe` until it gives a value.
///
/// # Panics
/// When `within` has passed; the message holds the last observation that `probe` returned.
pub(crate) fn eventually<T>(
    within: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let start = now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) => assert!(
                start.elapsed() < within,
                "not within {within:?}: {what}; last observation: {seen}"
            ),
        }
        pause(Duration::from_millis(5));
    }
}

/// Whole seconds, for deadlines.
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds, for deadlines.
pub(crate) const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
