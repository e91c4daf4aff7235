//! Log lines on stderr, or in a file: `rnsnet: warn: ...`.
//!
//! One write a line, so that lines of several processes do not mix. What a container can make us
//! log is `debug` or below, except for warnings that are given once a cause.

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};

struct Lines;

/// Where lines go instead of stderr.
static FILE: OnceLock<File> = OnceLock::new();

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level().as_str().to_ascii_lowercase();
        let line = format!("rnsnet: {level}: {}\n", record.args());
        // There is nowhere to report that the log is gone.
        drop(match FILE.get() {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        });
    }

    fn flush(&self) {}
}

/// Sends the log to stderr from `level` on. Called once, by `main`.
pub fn init(level: LevelFilter) {
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(level);
    }
}

/// Sends the log to `file` from now on; the first call counts.
pub fn redirect(file: File) {
    drop(FILE.set(file));
}
