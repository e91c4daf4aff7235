//! Files whose change matters, watched by inotify(7): resolv.conf and a namespace's path.
//!
//! Directories are watched rather than files, because resolv.conf is usually replaced by a rename
//! and a namespace's path disappears. A symbolic link is watched at both of its ends.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// What a watched file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    /// The host's resolvers.
    Resolvers,
    /// The path by which the container's namespace was given.
    Namespace,
}

/// Watched files.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: Inotify,
    entries: Vec<(WatchDescriptor, OsString, File)>,
}

impl Watches {
    pub(super) fn new() -> io::Result<Self> {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        Ok(Self { inotify: Inotify::init(flags)?, entries: Vec::new() })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }

    /// Watches `path`, and what it points to if it is a symbolic link.
    pub(super) fn add(&mut self, path: &Path, file: File) -> io::Result<()> {
        self.add_one(path, file)?;
        match path.canonicalize() {
            Ok(target) if target != path => self.add_one(&target, file),
            _ => Ok(()),
        }
    }

    fn add_one(&mut self, path: &Path, file: File) -> io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        let watch = self.inotify.add_watch(&directory, changes)?;
        self.entries.push((watch, name.to_owned(), file));
        Ok(())
    }

    /// Reads what happened and returns which kinds of file it happened to.
    pub(super) fn changed(&mut self) -> Vec<File> {
        let mut changed = Vec::new();
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                for (watch, name, file) in &self.entries {
                    if *watch == event.wd
                        && event.name.as_ref() == Some(name)
                        && !changed.contains(file)
                    {
                        changed.push(*file);
                    }
                }
            }
        }
        changed
    }
}
