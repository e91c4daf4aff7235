//! The process of a named network: started by the first who needs it, ends when nobody does.
//!
//! It is a child of that first caller in a session of its own, with none of its descriptors, and
//! locked down as any serving process. Its control socket is how everybody finds it. Two callers
//! never start two: the lock on the set of networks is held meanwhile.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::unistd::setsid;
use serde_json::{Value, json};

use super::{Announcement, Background, Served, Watched, finish, serve, set_up};
use crate::client::{ClientError, Connection};
use crate::config::{self, Caller, Endpoint, Lease, Offload, Process, Sharing};
use crate::control::{self, Info, Kind, Named, Update};
use crate::error::Error;
use crate::io::Signals;
use crate::io::control::{ControlSocket, Serves};
use crate::network::definition::Definition;
use crate::network::manage::{self, NetworkError};
use crate::network::store::{Store, StoreError};
use crate::runtime_dir::{Owner, Place, sockets};
use crate::sys::isolate::close_all_but;
use crate::sys::netns;

/// A connection to the process of a network, if there is one.
///
/// # Errors
/// A directory that cannot be read, a socket that cannot be connected to.
pub fn find(name: &str) -> Result<Option<Connection>, Error> {
    let sockets = sockets().map_err(ClientError::Directory)?;
    for (owner, other, path) in sockets {
        if owner == Owner::Network && other == name {
            return Ok(Connection::open(name, &path)?);
        }
    }
    Ok(None)
}

/// A connection to the process of a network, which is started if there is none.
///
/// # Errors
/// The network is gone, or what keeps its process from being started; that one has told why.
pub fn connect(store: &Store, definition: &Definition) -> Result<Connection, Error> {
    let name = &definition.name;
    if let Some(connection) = find(name)? {
        return Ok(connection);
    }
    let _lock = store.lock().map_err(NetworkError::from)?;
    // Somebody else may have started it meanwhile, or removed the network.
    if let Some(connection) = find(name)? {
        return Ok(connection);
    }
    let current = store.read(name).map_err(NetworkError::from)?;
    let Some(current) = current.filter(|current| current.id == definition.id) else {
        let word = name.clone();
        return Err(NetworkError::from(StoreError::NoSuch { word }).into());
    };
    start(store, current)?;
    find(name)?.ok_or_else(|| NetworkError::Start { name: name.clone() }.into())
}

/// The containers of a network, if its process runs.
///
/// # Errors
/// What keeps it from being asked.
pub fn containers(name: &str) -> Result<Vec<control::Container>, Error> {
    let Some(mut connection) = find(name)? else { return Ok(Vec::new()) };
    match connection.ask::<Info>("info", &json!({})) {
        Ok(info) => Ok(info.containers),
        // It has ended since it was connected to.
        Err(ClientError::Talk { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Ends the process of a network, if it runs. With `force` its containers are disconnected first.
/// To be called with the lock on the set of networks, so that it is not started again.
///
/// # Errors
/// Containers are connected, [`NetworkError::InUse`].
pub fn end(name: &str, force: bool) -> Result<(), Error> {
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
        Ok(_) | Err(ClientError::Talk { .. }) => Ok(()),
        Err(ClientError::Refused { source, .. }) if source.kind == Kind::Conflict => {
            let containers = containers(name)?.into_iter().map(|container| container.name);
            let (name, containers) = (name.to_owned(), containers.collect());
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
            // It has ended since it was connected to.
            Ok(_) | Err(ClientError::Talk { .. }) => Ok(()),
            Err(error) => Err(error.into()),
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
    let place = Place::take(Owner::Network, &definition.name)?;
    let journal = store.journal(&definition);
    let config = config(&definition);
    let signals = Signals::new().map_err(set_up("receive signals"))?;
    let announcement =
        Announcement { background: Some(background), ..Announcement::of(Process::default()) };
    // Nothing of it is about an interface of its own.
    let (ifname, lease) = (String::new(), Lease::default());
    let endpoint = Endpoint { loopback_only: false, ifname, lease, offload: Offload::Auto };
    let mut served = Served::wanted(&endpoint, config, &Caller::default())?;
    let serves = Serves::Shared(Box::new(definition), journal);
    served.control = Some(ControlSocket { place, serves });
    let process = &announcement.process;
    let network = served.into_network(signals, Watched::default(), process, None);
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
        ..config::Network::default()
    }
}
