//! The one place that asks for the time.

use nix::time::{ClockId, clock_gettime};

use crate::engine::Instant;

/// A monotonic clock that starts at zero.
#[derive(Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

#[allow(clippy::disallowed_methods)] // this is where time enters
impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// The time since the start, as the engine counts it.
    pub(crate) fn now(&self) -> Instant {
        let elapsed = std::time::Instant::now() - self.start;
        Instant::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }
}

/// CLOCK_MONOTONIC, in microseconds: what others can compare with their own.
pub(crate) fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.ok().and_then(|now| u64::try_from(now.as_micros()).ok()).unwrap_or(0)
}

/// The wall clock, for capture files and what is to be kept: time since 1970.
#[allow(clippy::disallowed_methods)] // this is where time enters
pub(crate) fn since_epoch() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
