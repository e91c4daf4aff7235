//! Files whose change matters, watched by inotify(7): resolv.conf and a namespace's path.
//!
//! Directories are watched rather than files, because resolv.conf is usually replaced by a rename
//! and a namespace's path disappears. A symbolic link is watched at both of its ends; resolv.conf,
//! whose links may come to lead elsewhere, wherever it may be.

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
    /// Who is where of a network that spans hosts.
    Hosts,
    /// The path by which the container's namespace was given.
    Namespace,
}

/// Watched files.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: Inotify,
    /// Without a name it is any file of the directory.
    entries: Vec<(WatchDescriptor, Option<OsString>, File)>,
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

    /// Watches resolv.conf in the directories through which its links lead, if they can be told.
    pub(super) fn add_resolvers(
        &mut self,
        path: &Path,
        directories: Option<Vec<PathBuf>>,
    ) -> io::Result<()> {
        match directories {
            Some(all) => all.iter().try_for_each(|one| self.add_in(one, None, File::Resolvers)),
            None => self.add(path, File::Resolvers),
        }
    }

    /// Watches all files of a directory.
    pub(super) fn add_directory(&mut self, directory: &Path, file: File) -> io::Result<()> {
        self.add_in(directory, None, file)
    }

    fn add_one(&mut self, path: &Path, file: File) -> io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        self.add_in(&directory, Some(name.to_owned()), file)
    }

    fn add_in(&mut self, directory: &Path, name: Option<OsString>, file: File) -> io::Result<()> {
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        let watch = self.inotify.add_watch(directory, changes)?;
        self.entries.push((watch, name, file));
        Ok(())
    }

    /// Reads what happened and returns which kinds of file it happened to.
    pub(super) fn changed(&mut self) -> Vec<File> {
        let mut changed = Vec::new();
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                for (watch, name, file) in &self.entries {
                    if *watch == event.wd
                        && (name.is_none() || event.name == *name)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::io::resolv::directories_of;

    #[test]
    fn resolv_conf_is_watched_wherever_its_links_may_lead() {
        let base = crate::testing::scratch("watch");
        let [etc, run] = ["etc", "run"].map(|name| base.join(name));
        for directory in [&etc, &run] {
            std::fs::create_dir(directory).unwrap();
        }
        let path = etc.join("resolv.conf");
        // The target may come later.
        symlink("../run/first", &path).unwrap();
        let mut watches = Watches::new().unwrap();
        watches.add_resolvers(&path, directories_of(&path)).unwrap();
        let mut changed = |change: &dyn Fn()| {
            change();
            watches.changed() == [File::Resolvers]
        };
        let link = |to: &str| {
            symlink(to, etc.join("new")).unwrap();
            std::fs::rename(etc.join("new"), &path).unwrap();
        };
        assert!(!changed(&|| ()));
        assert!(changed(&|| std::fs::write(run.join("first"), "1").unwrap()));
        assert!(changed(&|| link("../run/second")));
        assert!(changed(&|| std::fs::write(run.join("second"), "2").unwrap()));
        assert!(changed(&|| link("third")));
        assert!(changed(&|| std::fs::write(etc.join("third"), "3").unwrap()));
        std::fs::remove_dir_all(base).unwrap();
    }
}
