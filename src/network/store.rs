//! Where networks are kept: one file each in `$XDG_CONFIG_HOME/rnsnet/networks`, and their leases
//! in `$XDG_STATE_HOME/rnsnet/networks`.
//!
//! A file is written whole or not at all (a temporary one, fsync, rename), and whoever changes the
//! set of networks holds a lock on the directory meanwhile, so that two creators never choose one
//! subnet or one name. Readers need no lock. What a network is, `definition` says.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::builtin;
use super::definition::{Definition, DefinitionError};
use super::leases::Journal;
use crate::json;
use crate::sorted::SortedMap;

/// The networks of a user.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    state: PathBuf,
}

/// The right to change the set of networks; given back when dropped, or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What is wrong with the networks' files, or with a word that is to name one.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum StoreError {
    #[error("neither HOME nor XDG_CONFIG_HOME says where networks are kept")]
    NoHome,
    #[error("cannot make the directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot understand {}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{} cannot be used", path.display())]
    Unusable { path: PathBuf, source: DefinitionError },
    #[error("{} is about a network of another name, {name}", path.display())]
    OtherName { path: PathBuf, name: String },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("{} is a pre-defined network and cannot be removed, changed or connected to", network.name)]
    Builtin { network: Box<Definition> },
    #[error("no such network: {word}")]
    NoSuch { word: String },
    #[error("{word} is the start of more than one network's id: {}", names.join(", "))]
    Ambiguous { word: String, names: Vec<String> },
}

/// Networks as they were read.
#[derive(Debug, Default)]
pub struct Networks {
    /// By their names.
    pub good: SortedMap<String, Definition>,
    /// Files that are no networks.
    pub bad: Vec<StoreError>,
}

impl Store {
    /// The store of the user whose process this is.
    ///
    /// # Errors
    /// Where the environment names no place.
    pub fn of_user() -> Result<Self, StoreError> {
        let absolute = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            // The XDG base directory specification: a relative path is no path.
            path.filter(|path| path.is_absolute())
        };
        let home = |below: &str| crate::user::home().map(|home| home.join(below));
        let config = absolute("XDG_CONFIG_HOME").or_else(|| home(".config"));
        let config = config.ok_or(StoreError::NoHome)?;
        let state = absolute("XDG_STATE_HOME").or_else(|| home(".local/state"));
        let state = state.unwrap_or_else(|| config.clone());
        let networks = |base: PathBuf| base.join("rnsnet").join("networks");
        Ok(Self { directory: networks(config), state: networks(state) })
    }

    /// The store in a directory.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        Self { state: directory.clone(), directory }
    }

    /// Opens the journal of a network's leases, one that is kept nowhere if need be: leases that
    /// are not kept over the end of a process are better than none.
    #[must_use]
    pub fn journal(&self, definition: &Definition) -> Journal {
        let path = self.leases(&definition.id);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.state);
        made.and_then(|()| Journal::open(&path)).unwrap_or_else(|error| {
            log::warn!("leases will not be kept: cannot open {}: {error}", path.display());
            Journal::nowhere()
        })
    }

    /// A network of the same name that is made later has another id, and none of its leases.
    fn leases(&self, id: &str) -> PathBuf {
        self.state.join(format!("{id}.leases"))
    }

    /// The directory of the definitions, which is made if it is not there.
    ///
    /// # Errors
    /// What keeps it from being made.
    pub fn make_directory(&self) -> Result<&Path, StoreError> {
        let directory = &self.directory;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| StoreError::Directory { path: directory.clone(), source })?;
        Ok(directory)
    }

    /// Waits for the right to change the set of networks.
    ///
    /// # Errors
    /// A directory or lock file that cannot be made.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.make_directory()?.join(".lock");
        let mut options = OpenOptions::new();
        let open = options.write(true).create(true).truncate(false).mode(0o600);
        let failed = |source| StoreError::Lock { path: path.clone(), source };
        let file = open.open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(Lock { _file: file })
    }

    /// Reads every network. A file that is none is no failure of the others.
    ///
    /// # Errors
    /// A directory that cannot be read; that it is not there means that there is no network.
    pub fn networks(&self) -> Result<Networks, StoreError> {
        let failed = |source| StoreError::Read { path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Networks::default());
            }
            Err(error) => return Err(failed(error)),
        };
        let mut networks = Networks::default();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            match self.read(name) {
                Ok(Some(definition)) => drop(networks.good.insert(name.to_owned(), definition)),
                // Removed since the directory was read.
                Ok(None) => {}
                Err(error) => networks.bad.push(error),
            }
        }
        Ok(networks)
    }

    /// The network that a word names: its name, its id, or the start of its id and of no other.
    ///
    /// # Errors
    /// There is none, there are several, or its file is damaged.
    pub fn find(&self, word: &str) -> Result<Definition, StoreError> {
        if super::definition::check_name(word).is_ok()
            && let Some(definition) = self.read(word)?
        {
            return Ok(definition);
        }
        let hexadecimal = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let networks = if hexadecimal { self.networks()?.good } else { SortedMap::new() };
        let mut found: Vec<Definition> =
            networks.into_values().filter(|network| network.id.starts_with(word)).collect();
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(match builtin::named(word) {
                Some(network) => StoreError::Builtin { network: Box::new(network) },
                None => StoreError::NoSuch { word: word.to_owned() },
            }),
            (Some(definition), true) => Ok(definition),
            (Some(definition), false) => {
                found.push(definition);
                let names = found.into_iter().map(|network| network.name).collect();
                Err(StoreError::Ambiguous { word: word.to_owned(), names })
            }
        }
    }

    /// Reads one network by its name; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be read or is no network.
    pub fn read(&self, name: &str) -> Result<Option<Definition>, StoreError> {
        let path = self.path(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        let definition: Definition = match json::read(text.as_bytes()) {
            Ok(definition) => definition,
            Err(source) => return Err(StoreError::Parse { path, source }),
        };
        if let Err(source) = definition.check() {
            return Err(StoreError::Unusable { path, source });
        }
        if definition.name != name {
            return Err(StoreError::OtherName { path, name: definition.name });
        }
        Ok(Some(definition))
    }

    /// Writes a network, in place of the one of its name if there is one.
    ///
    /// # Errors
    /// What the system refuses. The file is then as it was.
    pub fn write(&self, _: &Lock, definition: &Definition) -> Result<(), StoreError> {
        let path = self.path(&definition.name);
        let text = serde_json::to_string_pretty(definition)
            .map_err(|source| StoreError::Parse { path: path.clone(), source })?;
        replace(&path, text.as_bytes()).map_err(|source| StoreError::Write { path, source })
    }

    /// Removes a network.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn remove(&self, _: &Lock, definition: &Definition) -> Result<(), StoreError> {
        let path = self.path(&definition.name);
        fs::remove_file(&path).map_err(|source| StoreError::Remove { path, source })?;
        // There is none where no container ever was.
        drop(fs::remove_file(self.leases(&definition.id)));
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

/// Puts a file with these contents in the place of `path`, at once.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(contents)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::definition::{Made, Plan, Taken};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let number = getrandom::u64().unwrap();
            Self(std::env::temp_dir().join(format!("rnsnet-store-{number:x}")))
        }

        fn store(&self) -> Store {
            Store::at(self.0.join("networks"))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn network(name: &str, id: u8) -> Definition {
        let made = Made { id: [id; 32], global_id: 1, created: String::new() };
        let plan = Plan { name: name.into(), ..Plan::default() };
        plan.make(&Taken::default(), &made).unwrap()
    }

    // E21
    #[test]
    fn a_network_is_found_again_by_name_and_id() {
        let scratch = Scratch::new();
        let store = scratch.store();
        assert!(store.networks().unwrap().good.is_empty());
        let lock = store.lock().unwrap();
        for network in [network("n1", 0xab), network("n2", 0xac), network("abc", 0x11)] {
            store.write(&lock, &network).unwrap();
        }
        let find = |word: &str| store.find(word).map(|network| network.name);
        assert_eq!(find("n1").unwrap(), "n1");
        assert_eq!(find("acac").unwrap(), "n2");
        assert_eq!(find(&"ab".repeat(32)).unwrap(), "n1");
        // A name comes before an id that starts with it.
        assert_eq!(find("abc").unwrap(), "abc");
        let error = find("a").unwrap_err().to_string();
        assert_eq!(error, "a is the start of more than one network's id: n1, n2");
        for word in ["n3", "", "../n1", "ff"] {
            let error = find(word).unwrap_err().to_string();
            assert_eq!(error, format!("no such network: {word}"));
        }
        assert_eq!(store.read("n1").unwrap(), Some(network("n1", 0xab)));
        store.remove(&lock, &network("n1", 0xab)).unwrap();
        assert_eq!(store.read("n1").unwrap(), None);
        let left: Vec<_> = fs::read_dir(scratch.0.join("networks"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".tmp"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }

    #[test]
    fn a_damaged_file_harms_nobody_else() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let lock = store.lock().unwrap();
        store.write(&lock, &network("good", 1)).unwrap();
        let good = fs::read_to_string(store.path("good")).unwrap();
        for (name, text, expected) in [
            ("torn", &good[..40], "cannot understand"),
            ("newer", &good.replace("\"version\": 1", "\"version\": 9"), "cannot be used"),
            ("other", &good, "is about a network of another name, good"),
        ] {
            fs::write(store.path(name), text).unwrap();
            let error = store.read(name).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let networks = store.networks().unwrap();
        assert_eq!((networks.good.len(), networks.bad.len()), (1, 3));
        assert_eq!(store.find("good").unwrap().name, "good");
    }

    #[test]
    fn one_at_a_time_changes_the_set() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let lock = store.lock().unwrap();
        let other = File::open(scratch.0.join("networks/.lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
        drop(lock);
        other.try_lock().unwrap();
    }
}
