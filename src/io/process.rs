//! The process as its caller sees it: the ready and exit descriptors and the pid file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::sys::fd::Entry;

/// A pid file, removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: Entry,
}

/// A file or descriptor of the caller's that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ProcessError {
    #[error("cannot write the pid file {}", path.display())]
    PidFile { path: PathBuf, source: io::Error },
    #[error("cannot write the log file {}", path.display())]
    LogFile { path: PathBuf, source: io::Error },
    #[error("{option} {fd} is not an open descriptor")]
    Inherited { option: &'static str, fd: i32, source: io::Error },
    #[error("cannot write to --ready-fd {fd}")]
    Ready { fd: i32, source: io::Error },
}

/// Opens the file that gets the log; one that is there is added to.
///
/// # Errors
/// What open(2) reports.
pub fn open_log(path: &Path) -> Result<File, ProcessError> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|source| ProcessError::LogFile { path: path.into(), source })
}

impl PidFile {
    /// Writes this process's id to `path`.
    ///
    /// # Errors
    /// What open(2) and write(2) report.
    pub fn write(path: &Path) -> Result<Self, ProcessError> {
        let failed = |source| ProcessError::PidFile { path: path.into(), source };
        let file = Entry::at(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut written =
            options.write(true).create(true).truncate(true).open(path).map_err(failed)?;
        writeln!(written, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { path: path.into(), file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = self.file.remove_file() {
            log::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Tells the caller that the network works: the byte `1`, then the end of the file.
///
/// # Errors
/// What write(2) reports.
pub fn announce_ready(fd: i32, ready: OwnedFd) -> Result<(), ProcessError> {
    File::from(ready).write_all(b"1").map_err(|source| ProcessError::Ready { fd, source })
}
