//! The process of a named network: started by the first who needs it, ends when nobody does.
//!
//! It is a child of that first caller in a session of its own, with none of its descriptors, and
//! locked down as any serving process. Its control socket is how everybody finds it. Two callers
//! never start two: the lock on the set of networks is held meanwhile.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};

use nix::unistd::{Gid, Uid, User, setsid};
use serde_json::{Value, json};

use super::{Announcement, Background, Served, Watched, finish, left, serve, set_up};
use crate::client::{self, ClientError, Connection};
use crate::config::{self, Caller, Endpoint, Lease, Offload, Process, Sharing};
use crate::control::{self, Info, Kind, Named, Update};
use crate::error::{Error, reasons};
use crate::io::Signals;
use crate::io::control::roll::{Entry, Roll};
use crate::io::control::{ControlSocket, Serves};
use crate::io::overlay::Underlay;
use crate::network::definition::Definition;
use crate::network::manage::{self, NetworkError};
use crate::network::options;
use crate::network::store::{Store, StoreError};
use crate::runtime_dir::{Owner, Place, remember, sockets};
use crate::sys::isolate::{close_all_but, isolate_initial};
use crate::sys::netns;

/// A connection to the process of a network, if there is one.
///
/// # Errors
/// A directory that cannot be read, a socket that cannot be connected to.
pub fn find(name: &str) -> Result<Option<Connection>, Error> {
    Ok(client::find_network(name)?)
}

/// A connection to the process of a network, which is started if there is none. The containers of
/// one that was killed are brought back to it, but for that of this network namespace.
///
/// # Errors
/// The network is gone, or what keeps its process from being started; that one has told why.
pub fn connect(
    store: &Store,
    definition: &Definition,
    except: Option<u64>,
) -> Result<Connection, Error> {
    let name = &definition.name;
    if let Some(connection) = find_alive(name)?.filter(|_| !left::is_any(name)) {
        return Ok(connection);
    }
    let _lock = store.lock().map_err(NetworkError::from)?;
    // Somebody else may have started it meanwhile, or removed the network.
    let current = store.read(name).map_err(NetworkError::from)?;
    let Some(current) = current.filter(|current| current.id == definition.id) else {
        let word = name.clone();
        return Err(NetworkError::from(StoreError::NoSuch { word }).into());
    };
    if find_alive(name)?.is_none() {
        left::put_aside(name)?;
        start(store, current)?;
    }
    left::bring_back(definition, except)?;
    find(name)?.ok_or_else(|| NetworkError::Start { name: name.clone() }.into())
}

/// Takes note that the caller has brought the container of a network namespace back to a network
/// whose process was killed.
///
/// # Errors
/// What keeps the set of networks from being locked.
pub(super) fn came_back(definition: &Definition, inode: Option<u64>) -> Result<(), Error> {
    if left::is_any(&definition.name) {
        let store = Store::of_user().map_err(NetworkError::from)?;
        let _lock = store.lock().map_err(NetworkError::from)?;
        left::strike(definition, inode);
    }
    Ok(())
}

/// Serves the networks again whose processes were killed, of all those that there are, or those that
/// a word names or a container that is called so was on. Returns their names. The descriptors in
/// `keep` stay open.
///
/// # Errors
/// What keeps a process from being started.
pub fn reattach(what: Option<&str>, keep: &[RawFd]) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let store = Store::of_user().ok();
    let inode = what.and_then(client::inode);
    for (owner, name, _) in sockets().map_err(ClientError::Directory)? {
        if owner != Owner::Network {
            continue;
        }
        let mut left = left::entries(&name, find_alive(&name)?.is_some());
        let current = store.as_ref().and_then(|store| store.read(&name).ok()?);
        // What is no more is told of.
        if let Some(current) = current {
            left.retain(|entry| entry.network == current.id);
        }
        let meant = what.is_none_or(|what| {
            name == what
                || left.iter().any(|entry| {
                    let Entry { name, arrival, .. } = entry;
                    name == what
                        || arrival.pid.is_some_and(|pid| pid.to_string() == what)
                        || inode.is_some() && arrival.inode == inode
                })
        });
        if !meant || left.is_empty() {
            continue;
        }
        match ensure(&name, keep) {
            Ok(()) => names.push(name),
            // The others can be served all the same.
            Err(error) if what.is_none() => {
                log::warn!("{name} is not served again: {}", reasons(&error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// As [`find`], if it answers: one that was killed this moment takes calls for a while.
fn find_alive(name: &str) -> Result<Option<Connection>, Error> {
    let Some(mut connection) = find(name)? else { return Ok(None) };
    match connection.ask::<Value>("version", &json!({})) {
        Ok(_) => Ok(Some(connection)),
        Err(error) if error.is_end() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A network of another user, written `OWNER/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The owner, outside of this user namespace.
    pub owner: Uid,
    /// What the owner calls it.
    pub name: String,
}

impl Foreign {
    /// The network that a word names; `None` if it is one of our own.
    ///
    /// # Errors
    /// No such user.
    pub fn named(word: &str) -> Result<Option<Self>, Error> {
        let Some((user, name)) = word.split_once('/') else { return Ok(None) };
        let owner = match user.parse() {
            Ok(number) => Some(Uid::from_raw(number)),
            Err(_) => User::from_name(user).ok().flatten().map(|user| user.uid),
        };
        let unknown = || NetworkError::NoUser { user: user.to_owned() };
        let owner = owner.ok_or_else(unknown)?;
        Ok(Some(Self { owner, name: name.to_owned() }))
    }

    /// A connection to its process.
    ///
    /// # Errors
    /// Its owner does not serve it, or not for us.
    pub fn connect(&self) -> Result<Connection, Error> {
        let Self { owner, name } = self;
        let connection = Connection::open_of(*owner, name)?;
        let called = format!("{owner}/{name}");
        Ok(connection.ok_or(NetworkError::NotServed { name: called })?)
    }

    /// Remembers that a container of ours is there, so that the verbs find it.
    pub fn remember(&self) {
        if let Err(error) = remember(self.owner, &self.name) {
            log::debug!("rnsnet ps will not know of this: {error}");
        }
    }
}

/// What a network is that a word names, one of our own or `OWNER/NAME`, and a connection to its
/// process if that runs.
///
/// # Errors
/// No such network, or what keeps it from being asked.
pub fn look_up(word: &str) -> Result<(Definition, Option<Connection>), Error> {
    if let Some(foreign) = Foreign::named(word)? {
        let mut connection = foreign.connect()?;
        let definition = connection.ask("network", &json!({}))?;
        return Ok((definition, Some(connection)));
    }
    let store = Store::of_user().map_err(NetworkError::from)?;
    let definition = store.find(word).map_err(NetworkError::from)?;
    let connection = find(&definition.name)?;
    Ok((definition, connection))
}

/// Starts the process of a network, if it does not run. Of the caller's descriptors those in `keep`
/// stay open.
///
/// # Errors
/// No such network, or what keeps its process from being started.
pub fn ensure(word: &str, keep: &[RawFd]) -> Result<(), Error> {
    let store = Store::of_user().map_err(NetworkError::from)?;
    let definition = store.find(word).map_err(NetworkError::from)?;
    isolate_initial(keep)?;
    connect(&store, &definition, None)?;
    Ok(())
}

/// The containers of a network, if its process runs.
///
/// # Errors
/// What keeps it from being asked.
pub fn containers(name: &str) -> Result<Vec<control::Container>, Error> {
    containers_of(find(name)?)
}

/// The same by a connection, if there is one.
///
/// # Errors
/// What keeps it from being asked.
pub fn containers_of(connection: Option<Connection>) -> Result<Vec<control::Container>, Error> {
    let Some(mut connection) = connection else { return Ok(Vec::new()) };
    match connection.ask::<Info>("info", &json!({})) {
        Ok(info) => Ok(info.containers),
        Err(error) if error.is_end() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Ends the process of a network, if it runs, and forgets who was on one that was killed. With
/// `force` its containers are disconnected first.
/// To be called with the lock on the set of networks, so that it is not started again.
///
/// # Errors
/// Containers are connected, [`NetworkError::InUse`].
pub fn end(network: &Definition, force: bool) -> Result<(), Error> {
    let name = &network.name;
    let connection = find_alive(name)?;
    let runs = connection.is_some();
    let there = containers_of(connection)?;
    let left = left::running(network, runs, &there);
    if !left.is_empty() && !force {
        let there = there.into_iter().map(|container| container.name);
        let containers = there.chain(left).collect();
        return Err(NetworkError::InUse { name: name.clone(), containers }.into());
    }
    left::forget(name, runs);
    let Some(mut connection) = find(name)? else { return Ok(()) };
    if force {
        for container in containers(name)? {
            let named = Named { container: Some(container.id) };
            match connection.ask::<Value>("detach", &named) {
                // It has gone by itself.
                Ok(_) | Err(ClientError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    match connection.ask::<Value>("quit", &json!({})) {
        Ok(_) => Ok(()),
        Err(error) if error.is_end() => Ok(()),
        Err(ClientError::Refused { source, .. }) if source.kind == Kind::Conflict => {
            let containers = containers(name)?.into_iter().map(|container| container.name);
            let (name, containers) = (name.clone(), containers.collect());
            Err(NetworkError::InUse { name, containers }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Changes a network, and its process if that runs.
///
/// # Errors
/// There is no such network, `change` refuses, or its process cannot be told.
pub fn update(
    word: &str,
    change: impl FnOnce(&mut Definition) -> Result<(), NetworkError>,
) -> Result<Definition, Error> {
    let store = Store::of_user().map_err(NetworkError::from)?;
    manage::update(&store, word, change, |definition| {
        let Some(mut connection) = find(&definition.name)? else { return Ok(()) };
        match connection.ask::<Value>("update", &Update { network: definition.clone() }) {
            Err(error) if !error.is_end() => Err(error.into()),
            _ => Ok(()),
        }
    })
}

/// Starts the process of a network, and returns once it serves.
fn start(store: &Store, definition: Definition) -> Result<(), Error> {
    let name = definition.name.clone();
    let (ours, theirs) = netns::message_pair().map_err(set_up("start a network's process"))?;
    let child = netns::spawn(|| {
        // Its parent is not to be asked for its end: a child of its own is nobody's.
        let grandchild = netns::spawn(|| {
            if let Err(errno) = setsid() {
                log::debug!("cannot start a session: {errno}");
            }
            let served = alone(theirs).and_then(|background| run(store, definition, background));
            finish(served, Error::exit_code).into()
        });
        i32::from(grandchild.is_err())
    })
    .map_err(set_up("start a network's process"))?;
    netns::wait(child).map_err(set_up("start a network's process"))?;
    match netns::receive(ours.as_fd()) {
        Ok((message, _)) if message == b"1" => Ok(()),
        _ => Err(NetworkError::Start { name }.into()),
    }
}

/// Gives up every descriptor of the caller's but standard output and error, until they are too.
fn alone(foreground: OwnedFd) -> Result<Background, Error> {
    close_all_but(&[foreground.as_raw_fd()]).map_err(set_up("close inherited descriptors"))?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(Background { foreground, null: null.map_err(set_up("open /dev/null"))? })
}

/// Serves a network until nobody is there any more.
fn run(store: &Store, definition: Definition, background: Background) -> Result<u8, Error> {
    let name = &definition.name;
    let mut place = match definition.group {
        Some(group) => Place::take_shared(name, Gid::from_raw(group))?,
        None => Place::take(Owner::Network, name)?,
    };
    let journal = store.journal(&definition);
    let file = place.directory.state();
    if let Err(error) = &file {
        log::debug!("rnsnet reattach will not know of this: {error}");
    }
    let roll = Roll::new(file.ok());
    let mut config = config(&definition);
    let overlay = definition.overlay.as_ref();
    let underlay = overlay.map(|overlay| Underlay::open(overlay, &definition)).transpose()?;
    let underlay = underlay.map(|(underlay, hosts)| {
        config.overlay = Some(hosts);
        underlay
    });
    let signals = Signals::new().map_err(set_up("receive signals"))?;
    let announcement =
        Announcement { background: Some(background), ..Announcement::of(Process::default()) };
    // Nothing of it is about an interface of its own.
    let (ifname, lease) = (String::new(), Lease::default());
    let endpoint = Endpoint { loopback_only: false, ifname, lease, offload: Offload::Auto };
    let caller = Caller { outbound: options::outbound(&definition), ..Caller::default() };
    let mut served = Served::wanted(&endpoint, config, &caller)?;
    served.underlay = underlay;
    let serves = Serves::Shared(Box::new(definition), journal, roll);
    served.control = Some(ControlSocket { place, serves });
    let process = &announcement.process;
    let network = served.into_network(signals, Watched::default(), process, Vec::new());
    serve(network, announcement, false)?;
    Ok(0)
}

/// How the engine is to behave for a network.
pub(super) fn config(definition: &Definition) -> config::Network {
    let sharing = if definition.isolate { Sharing::Isolated } else { Sharing::Shared };
    config::Network {
        addresses: definition.addresses(),
        mtu: definition.mtu(),
        dns: definition.dns,
        resolver: definition.resolver(),
        sharing,
        between: definition.ways(),
        internal: definition.internal,
        default_route: options::has_default_route(definition),
        limits: options::limits(definition),
        ..config::Network::default()
    }
}
