//! Log lines on stderr, or in a file: `rnsnet: warn: ...`.
//!
//! One write a line, so that lines of several processes do not mix. Most of what a container can
//! make us log is `debug` or below, which nobody sees who has not asked for it. Warnings, errors
//! and the messages of panics have a bound in time, and what it leaves out is counted and told.

use std::fmt::{Arguments, Display};
use std::fs::File;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use smoltcp::time::Duration;

use crate::clock::Clock;
use crate::config::{Limit, Limits};
use crate::engine::Instant;

/// So many warnings at once are told: more than an honest start or shutdown has.
const BURST: u32 = 50;

struct Lines;

/// Where lines go instead of stderr.
static FILE: Mutex<Option<File>> = Mutex::new(None);

/// Whether stderr leads nowhere.
static SILENT: AtomicBool = AtomicBool::new(false);

static CLOCK: OnceLock<Clock> = OnceLock::new();

/// Afterwards one in this time, which is 17 MB a day at 100 bytes a line.
const PAUSE: Duration = Duration::from_micros(1_000_000 / Limits::DEFAULT.get(Limit::Log) as u64);

static BOUND: Mutex<Bound> =
    Mutex::new(Bound { left: BURST, pause: PAUSE, since: None, left_out: 0 });

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if record.level() <= Level::Warn {
            write_within_bound(record.level(), record.args());
        } else {
            write(record.level(), record.args());
        }
    }

    /// Tells of lines that were left out and not told of yet.
    fn flush(&self) {
        let left_out = std::mem::take(&mut bound().left_out);
        tell_left_out(left_out);
    }
}

/// Sends the log to stderr from `level` on, and the messages of panics to the log. Called once, by
/// `main`.
pub fn init(level: LevelFilter) {
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(level);
        // The standard library's has no bound, and for a backtrace it would read files that are
        // out of reach by now.
        std::panic::set_hook(Box::new(tell_panic));
    }
}

/// Lets so many warnings a second be told after the first ones.
pub fn set_rate(warnings: usize) {
    let warnings = u64::try_from(warnings).unwrap_or(u64::MAX).clamp(1, 1_000_000);
    bound().pause = Duration::from_micros(1_000_000 / warnings);
}

/// Sends the log to `file` from now on.
pub fn redirect(file: File) {
    *held(&FILE) = Some(file);
}

/// Nobody reads stderr any more.
pub fn leave_stderr() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether the log goes anywhere.
pub fn is_heard() -> bool {
    !SILENT.load(Ordering::Relaxed) || held(&FILE).is_some()
}

/// At any log level: the process may be about to end.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(no message)");
    let at: &dyn Display = panic.location().map_or(&"an unknown place", |at| at as _);
    write_within_bound(Level::Error, &format_args!("panicked at {at}: {message}"));
}

fn write_within_bound(level: Level, line: &Arguments<'_>) {
    let left_out = bound().take(CLOCK.get_or_init(Clock::new).now());
    if let Some(left_out) = left_out {
        tell_left_out(left_out);
        write(level, line);
    }
}

fn tell_left_out(left_out: u64) {
    if left_out > 0 {
        write(Level::Warn, &format_args!("{left_out} warnings were left out of the log"));
    }
}

fn write(level: Level, line: &Arguments<'_>) {
    let level = level.as_str().to_ascii_lowercase();
    let line = format!("rnsnet: {level}: {line}\n");
    // There is nowhere to report that the log is gone.
    drop(match &mut *held(&FILE) {
        Some(file) => file.write_all(line.as_bytes()),
        None => std::io::stderr().write_all(line.as_bytes()),
    });
}

fn bound() -> MutexGuard<'static, Bound> {
    held(&BOUND)
}

fn held<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many more lines may be told.
#[derive(Debug)]
struct Bound {
    left: u32,
    /// In which one more may be.
    pause: Duration,
    /// Since when there has been less than a whole burst.
    since: Option<Instant>,
    left_out: u64,
}

impl Bound {
    /// Whether a line may be told at `now`: if so, how many were left out before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if let Some(since) = self.since {
            let pauses = (now - since).total_micros() / self.pause.total_micros();
            let pauses = u32::try_from(pauses).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(pauses).min(BURST);
            let full = self.left == BURST;
            self.since = if full { None } else { Some(since + self.pause * pauses) };
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        };
        self.left = left;
        self.since.get_or_insert(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Bound {
        Bound { left: BURST, pause: PAUSE, since: None, left_out: 0 }
    }

    fn take_many(bound: &mut Bound, lines: u32, now: Instant) -> u32 {
        (0..lines).filter_map(|_| bound.take(now)).count().try_into().unwrap()
    }

    #[test]
    fn a_burst_is_told_and_the_rest_is_counted() {
        let (mut bound, now) = (full(), Instant::ZERO);
        assert_eq!(take_many(&mut bound, 1_000_000, now), BURST);
        assert_eq!(bound.take(now + PAUSE), Some(u64::from(1_000_000 - BURST)));
        assert_eq!(bound.take(now + PAUSE), None);
        assert_eq!(bound.take(now + PAUSE * 2), Some(1), "each is counted once");
    }

    #[test]
    fn a_day_of_warnings_is_a_bounded_number_of_lines() {
        let (mut bound, start) = (full(), Instant::ZERO);
        let day = 24 * 3600 * 1000;
        let told = (0..day)
            .step_by(20)
            .filter(|&at| bound.take(start + Duration::from_millis(at)).is_some());
        let most = u64::from(BURST) + day / PAUSE.total_millis();
        assert!((most - 2..=most).contains(&(told.count() as u64)));
    }

    #[test]
    fn silence_earns_a_burst_and_no_more() {
        let (mut bound, now) = (full(), Instant::ZERO);
        assert_eq!(take_many(&mut bound, BURST / 2, now), BURST / 2);
        let later = now + Duration::from_secs(1_000_000_000);
        assert_eq!(take_many(&mut bound, 1000, later), BURST);
        assert_eq!(take_many(&mut bound, 1000, later + PAUSE * 3), 3);
    }

    #[test]
    fn few_warnings_are_all_told() {
        let (mut bound, start) = (full(), Instant::ZERO);
        let told = (0..10_000).filter(|&n| bound.take(start + PAUSE * n) == Some(0));
        assert_eq!(told.count(), 10_000);
    }
}
