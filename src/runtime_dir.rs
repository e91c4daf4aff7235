//! Where the control sockets are: `rnsnet/` in the user's run-time directory.
//!
//! `$XDG_RUNTIME_DIR/rnsnet` where that is a directory of this user's, else `/run/user/UID/rnsnet`,
//! else `/tmp/rnsnet-UID`, UID being the user outside of this user namespace; in it
//! `containers/NAME/control.sock` for a container with a network of its own and
//! `networks/NAME/control.sock` for a named network. Directories of ours have mode 0700 and our owner
//! and are no symbolic links: anything else was put there by somebody else and is not used.
//! Nothing here is needed for packets: who cannot have a directory serves without a socket.

mod shared;

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};

use crate::socket_file::{BindError, SocketFile};
use crate::sys::fd::Entry;

pub use shared::{remember, remembered, sockets_of};

/// What a control socket belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A container with a network of its own.
    Container,
    /// A named network.
    Network,
}

/// A control socket that cannot be had.
#[derive(thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RuntimeDirError {
    #[error("the name {name:?} is in use")]
    InUse { name: String },
    #[error("cannot have a control socket")]
    Bind(#[source] BindError),
    #[error("cannot use the directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("{} belongs to somebody else, is open to others, or is a link", path.display())]
    Foreign { path: PathBuf },
    #[error("no directory for control sockets can be made")]
    None,
}

debug_as_display!(RuntimeDirError);

/// A listening control socket. It goes with its directory when this does.
#[derive(Debug)]
pub struct Place {
    /// Taken out to be listened on; the file is removed by whoever has it.
    pub socket: SocketFile,
    /// The directory of the socket alone, removed at the end.
    pub directory: Directory,
}

/// A directory that is removed when this is dropped, if it is empty then.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    entry: Entry,
    /// Whether what is kept of a run there is ours, to be removed with the directory.
    pub with_state: bool,
}

impl Place {
    /// Listens on the control socket of a name.
    ///
    /// # Errors
    /// [`RuntimeDirError::InUse`] if a living process has it; what the system reports otherwise.
    pub fn take(owner: Owner, name: &str) -> Result<Self, RuntimeDirError> {
        let mut last = RuntimeDirError::None;
        for base in bases() {
            match Self::take_in(&base, owner, name) {
                Ok(place) => return Ok(place),
                Err(error @ RuntimeDirError::InUse { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn take_in(base: &Path, owner: Owner, name: &str) -> Result<Self, RuntimeDirError> {
        let directory = Directory::of(make_all(base, owner, name)?)?;
        let path = directory.path();
        let socket = SocketFile::bind(&path.join(SOCKET)).map_err(|error| match error {
            BindError::InUse { .. } => RuntimeDirError::InUse { name: name.to_owned() },
            other => RuntimeDirError::Bind(other),
        })?;
        knock(path.parent().unwrap_or(base));
        Ok(Self { socket, directory })
    }
}

impl Owner {
    fn directory(self) -> &'static str {
        match self {
            Self::Container => "containers",
            Self::Network => "networks",
        }
    }
}

impl Directory {
    /// Opens the file in which something of a run is kept, empty; it goes when this does.
    ///
    /// # Errors
    /// What open(2) reports.
    pub fn state(&mut self) -> io::Result<std::fs::File> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(self.path.join(STATE))?;
        self.with_state = true;
        Ok(file)
    }

    /// Removes what is kept of the run, as at the end: nobody takes it for one that was killed.
    pub fn forget_state(&mut self) {
        // The file is not always there, and the call is on the list of those that are allowed.
        if std::mem::take(&mut self.with_state)
            && let Err(error) = self.entry.remove_file_in(STATE)
        {
            log::trace!("cannot remove {STATE}: {error}");
        }
    }

    /// A directory that is there.
    pub(crate) fn of(path: PathBuf) -> Result<Self, RuntimeDirError> {
        match Entry::at(&path) {
            Ok(entry) => Ok(Self { path, entry, with_state: false }),
            Err(source) => Err(RuntimeDirError::Directory { path, source }),
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that it is removed from.
    #[must_use]
    pub fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.forget_state();
        // The other one of socket and state may still be there: then it is not empty.
        if let Err(error) = self.entry.remove_directory() {
            log::trace!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes what a killed process has left in the directory of its socket, and that.
pub fn clear(directory: &Path) {
    for file in [STATE, LEFT, SOCKET] {
        drop(std::fs::remove_file(directory.join(file)));
    }
    if let Err(error) = std::fs::remove_dir(directory) {
        log::debug!("cannot remove {}: {error}", directory.display());
    }
}

/// Every control socket there is, living or not, with its owner and name, in the order of names.
/// Directories that do not exist or are not ours have none.
///
/// # Errors
/// What keeps every place from being looked at, and what keeps one of ours from being read.
pub fn sockets() -> Result<Vec<(Owner, String, PathBuf)>, RuntimeDirError> {
    let mut found = sockets_below(bases())?;
    found.extend(shared::own());
    found.retain(|(_, name, _)| remembered(name).is_none());
    found.sort_by(|(_, a, _), (_, b, _)| a.cmp(b));
    Ok(found)
}

fn sockets_below(bases: Vec<PathBuf>) -> Result<Vec<(Owner, String, PathBuf)>, RuntimeDirError> {
    let mut found = Vec::new();
    let (mut usable, mut unusable) = (false, None);
    for base in bases {
        match check(&base) {
            Ok(()) => usable = true,
            Err(RuntimeDirError::Directory { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                usable |= base.parent().is_some_and(|parent| check(parent).is_ok());
                continue;
            }
            Err(error) => {
                unusable = Some(error);
                continue;
            }
        }
        for owner in [Owner::Container, Owner::Network] {
            let parent = base.join(owner.directory());
            let failed = |source| RuntimeDirError::Directory { path: parent.clone(), source };
            let entries = match std::fs::read_dir(&parent) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                if let Ok(name) = entry.file_name().into_string() {
                    found.push((owner, name, entry.path().join(SOCKET)));
                }
            }
        }
    }
    // Anybody may have made that of /tmp: what is there says nothing of the other.
    unusable.filter(|_| !usable).map_or(Ok(found), Err)
}

/// Other users' networks that containers of ours were brought to: whose, what they are called, and
/// the directory that says so.
#[must_use]
pub fn of_others() -> Vec<(Uid, String, PathBuf)> {
    let parents = bases().into_iter().map(|base| base.join(Owner::Network.directory()));
    let entries = parents.filter_map(|parent| std::fs::read_dir(parent).ok()).flatten().flatten();
    let known = entries.filter_map(|entry| {
        let directory = entry.file_name().into_string().ok()?;
        let (owner, name) = remembered(&directory)?;
        Some((owner, name.to_owned(), entry.path()))
    });
    known.collect()
}

/// The directories in which control sockets of new networks will be: made if they are not there.
///
/// # Errors
/// The best place cannot be used, and neither can the others.
pub fn make_parents() -> Result<Vec<PathBuf>, RuntimeDirError> {
    let mut last = RuntimeDirError::None;
    for base in bases() {
        let parents = [Owner::Container, Owner::Network].map(|owner| base.join(owner.directory()));
        match make(&base).and_then(|()| parents.iter().try_for_each(|parent| make(parent))) {
            Ok(()) => return Ok(parents.to_vec()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where to look, the best first.
fn bases() -> Vec<PathBuf> {
    let uid = crate::user::outer();
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match named.filter(|path| is_ours(path)) {
        Some(path) => vec![path.join("rnsnet")],
        None => vec![
            PathBuf::from(format!("/run/user/{uid}/rnsnet")),
            PathBuf::from(format!("/tmp/rnsnet-{uid}")),
        ],
    }
}

/// Whether a run-time directory is this user's: that of another stays in the environment after su(1)
/// and `sudo -E`, and what root makes there locks its owner out.
fn is_ours(path: &Path) -> bool {
    let own = || path.metadata().is_ok_and(|there| there.uid() == geteuid().as_raw());
    path.is_absolute() && own()
}

/// Lets `rnsnet events` know, which watches this directory, that somebody serves who could not be
/// seen there: the directory of one that was killed is not new, and that of a shared network is
/// elsewhere.
fn knock(parent: &Path) {
    // The name of no network or container.
    let path = parent.join(format!(".{}", std::process::id()));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    if let Err(error) = made.and_then(|()| std::fs::remove_dir(&path)) {
        log::trace!("cannot make {} for a moment: {error}", path.display());
    }
}

/// Makes the directory of a name below a base, with those above it.
fn make_all(base: &Path, owner: Owner, name: &str) -> Result<PathBuf, RuntimeDirError> {
    let parent = base.join(owner.directory());
    let directory = parent.join(name);
    for path in [base, &parent, &directory] {
        make(path)?;
    }
    Ok(directory)
}

/// Makes a directory of ours, or finds that it is there.
fn make(path: &Path) -> Result<(), RuntimeDirError> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(RuntimeDirError::Directory { path: path.into(), source })
        }
        _ => check(path),
    }
}

/// Refuses a directory that another user can have a hand in.
fn check(path: &Path) -> Result<(), RuntimeDirError> {
    let failed = |source| RuntimeDirError::Directory { path: path.into(), source };
    let there = std::fs::symlink_metadata(path).map_err(failed)?;
    let ours = there.is_dir() && there.uid() == geteuid().as_raw() && there.mode() & 0o077 == 0;
    if ours {
        return Ok(());
    }
    if there.uid() != geteuid().as_raw() && there.mode() & 0o007 == 0 {
        // Nothing that we could look into.
        return Err(failed(io::ErrorKind::PermissionDenied.into()));
    }
    Err(RuntimeDirError::Foreign { path: path.into() })
}

/// The name of every control socket in its own directory.
pub(crate) const SOCKET: &str = "control.sock";
/// What is kept of a run, beside the socket; see [`crate::survivor`].
pub(crate) const STATE: &str = "state.json";
/// Those of a killed network who are not back yet, as in its `STATE`.
pub(crate) const LEFT: &str = "state.left";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scratch;

    #[test]
    fn a_directory_of_somebody_else_hides_no_other() {
        let root = scratch("bases");
        let (ours, open) = (root.join("ours"), root.join("open"));
        std::fs::create_dir(&open).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&open, permissions).unwrap();
        let found = |base: &Path| sockets_below(vec![base.to_owned(), open.clone()]);
        // What is not made yet is as good as what is there, but not where it cannot be made.
        assert_eq!(found(&ours).unwrap(), []);
        let alone = found(&ours.join("none"));
        assert!(matches!(alone, Err(RuntimeDirError::Foreign { .. })), "{alone:?}");
        let web = ours.join("containers/web");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&web).unwrap();
        let socket = web.join(SOCKET);
        assert_eq!(found(&ours).unwrap(), [(Owner::Container, "web".to_owned(), socket)]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_run_time_directory_of_somebody_else_is_not_taken() {
        let directory = scratch("own");
        assert!(is_ours(&directory));
        let relative = Path::new(".");
        assert!(!is_ours(relative) && !is_ours(&directory.join("nothing")));
        // Who may give nothing away is not whose the root directory is.
        let given = std::os::unix::fs::chown(&directory, Some(1), None).is_ok();
        assert!(!is_ours(if given { &directory } else { Path::new("/") }));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
