//! Log lines on stderr: `rnsnet: warn: ...`.
//!
//! One write a line, so that lines of several processes do not mix. What a container can make us
//! log is `debug` or below, except for warnings that are given once a cause.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level().as_str().to_ascii_lowercase();
        let line = format!("rnsnet: {level}: {}\n", record.args());
        // There is nowhere to report that stderr is gone.
        drop(std::io::stderr().write_all(line.as_bytes()));
    }

    fn flush(&self) {}
}

/// Sends the log to stderr from `level` on. Called once, by `main`.
pub fn init(level: LevelFilter) {
    static STDERR: Stderr = Stderr;
    if log::set_logger(&STDERR).is_ok() {
        log::set_max_level(level);
    }
}
