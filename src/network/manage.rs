//! What the verbs `rnsnet network ...` do to the set of networks.
//!
//! Brings together the store, chance, time and what the host has taken. Owns no format and prints
//! nothing.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use nix::unistd::{Gid, Group, getegid, geteuid, getgroups};

use super::builtin::OVERLAY;
use super::definition::{Definition, DefinitionError, Made, Plan, Taken, hexadecimal};
use super::options;
use super::overlay::{Overlay, OverlayError, Wanted};
use super::prefix::Prefix;
use super::store::{Store, StoreError};
use super::when::rfc3339;
use crate::clock::since_epoch;
use crate::config::RateError;
use crate::sys::host_links::mtu_at;
use crate::sys::link::prefixes_in_use;
use crate::user::is_group_here;

/// Why something cannot be done to a network.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum NetworkError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rate(#[from] RateError),
    #[error("cannot create the network {name}")]
    Create { name: String, source: DefinitionError },
    #[error("the network {name} already exists")]
    Exists { name: String },
    #[error("{driver} is not a driver of rnsnet: {instead}")]
    Driver { driver: String, instead: &'static str },
    #[error("cannot list the host's addresses and routes")]
    Host { source: io::Error },
    #[error("cannot get random numbers from the kernel")]
    Chance { source: io::Error },
    #[error("the process of the network {name} did not start")]
    Start { name: String },
    #[error("the process of the network {name} has ended")]
    Ended { name: String },
    #[error("there is no user {user}")]
    NoUser { user: String },
    #[error("there is no group {group}")]
    NoGroup { group: String },
    #[error("the group {group} is not in this user namespace")]
    GroupElsewhere { group: String },
    #[error("permission denied: you are not in the group {group}")]
    NotInGroup { group: String },
    #[error(
        "{name} is another user's network, which does not take sockets of a container: --dns-listen is for one's own"
    )]
    DnsListen { name: String },
    #[error(
        "{name} is another user's network, for which Linux 5.9 is needed: there are no pidfds here"
    )]
    NoPidfds { name: String },
    #[error("the network {name} has no IPv6, which {address} needs")]
    NoIpv6 { name: String, address: Ipv6Addr },
    #[error("the network {name} is not served")]
    NotServed { name: String },
    #[error("the network {name} has active endpoints: {}", containers.join(", "))]
    InUse { name: String, containers: Vec<String> },
    #[error("the container {container} is connected to the network {name} already")]
    Connected { container: String, name: String },
    #[error("the container {container} is not connected to the network {name}")]
    NotConnected { container: String, name: String },
    #[error("the container {name} has no namespace that can be entered")]
    NoNamespace { name: String },
    #[error("no process of the container {name} can be seen from this pid namespace")]
    Elsewhere { name: String },
    #[error("{address} is not a resolver of the network {name}")]
    NoResolver { address: IpAddr, name: String },
    #[error("the network {name} has no record {record}")]
    NoRecord { record: String, name: String },
    #[error("the network {name} has no rule {rule}")]
    NoRule { rule: String, name: String },
    #[error(
        "the containers of {name} reach each other anyway: it was made without --opt icc=false"
    )]
    NotIsolated { name: String },
    #[error("cannot create the network {name}")]
    Overlay { name: String, source: OverlayError },
    #[error("no more fits into the definition of the network {name}")]
    Large { name: String },
}

/// A network that was made.
#[derive(Debug)]
pub struct Created {
    /// What it is.
    pub definition: Definition,
    /// Whether it was not there before.
    pub is_new: bool,
    /// Routes of the host that its subnets hide from its containers.
    pub hidden: Vec<(Prefix, Prefix)>,
}

/// Makes a network. With `ignore`, one of that name that is there already is as good.
///
/// # Errors
/// See [`NetworkError`].
pub fn create(
    store: &Store,
    driver: &str,
    mut plan: Plan,
    ignore: bool,
) -> Result<Created, NetworkError> {
    check_driver(driver)?;
    let lock = store.lock()?;
    let name = plan.name.clone();
    let failed = |source| NetworkError::Create { name: name.clone(), source };
    super::definition::check_name(&name)
        .map_err(|reason| failed(DefinitionError::Name { name: name.clone(), reason }))?;
    if let Some(definition) = store.read(&name)? {
        return if ignore {
            Ok(Created { definition, is_new: false, hidden: Vec::new() })
        } else {
            Err(NetworkError::Exists { name })
        };
    }
    let networks = store.networks()?;
    // A network whose subnet is not known may be the one that is overlapped.
    if let Some(error) = networks.bad.into_iter().next() {
        return Err(error.into());
    }
    // What is missing was told before.
    let overlay = plan.overlay.take().as_ref().and_then(Wanted::complete_all);
    if let Some(overlay) = &overlay {
        check_port(overlay, &name, networks.good.values())?;
    }
    let subnets = networks.good.into_values().flat_map(|network| {
        let subnets: Vec<Prefix> = network.subnets().collect();
        subnets.into_iter().map(move |subnet| (network.name.clone(), subnet))
    });
    let host = prefixes_in_use().map_err(|source| NetworkError::Host { source })?;
    let host = host.into_iter().filter_map(|(address, length)| Prefix::around(address, length));
    let taken = Taken { networks: subnets.collect(), host: host.collect() };
    let mut definition = plan.make(&taken, &made()?).map_err(failed)?;
    if let Some(overlay) = overlay {
        settle(overlay, &mut definition)?;
    }
    store.write(&lock, &definition)?;
    let hidden = hidden(&definition, &taken.host);
    Ok(Created { definition, is_new: true, hidden })
}

/// Two processes cannot have one port of one address.
fn check_port<'a>(
    overlay: &Overlay,
    name: &str,
    mut others: impl Iterator<Item = &'a Definition>,
) -> Result<(), NetworkError> {
    let Overlay { local, port, .. } = *overlay;
    let same = |other: &Overlay| (other.local, other.port) == (local, port);
    match others.find(|other| other.overlay.as_ref().is_some_and(same)) {
        Some(other) => {
            let source = OverlayError::PortTaken { name: other.name.clone(), local, port };
            Err(NetworkError::Overlay { name: name.to_owned(), source })
        }
        None => Ok(()),
    }
}

/// Has a new network span the hosts that its file names.
fn settle(overlay: Overlay, definition: &mut Definition) -> Result<(), NetworkError> {
    let mtu = if options::has_mtu(definition) {
        None
    } else {
        let mtu = mtu_at(overlay.local).map_err(|source| NetworkError::Host { source })?;
        if mtu.is_none() {
            log::warn!(
                "{} is not there yet: its MTU is taken for {USUAL_MTU} (--opt mtu says otherwise)",
                overlay.local
            );
        }
        Some(mtu.unwrap_or(USUAL_MTU))
    };
    let name = definition.name.clone();
    let settled = overlay.settle(definition, mtu);
    settled.map_err(|source| NetworkError::Overlay { name, source })?;
    definition.overlay = Some(overlay);
    Ok(())
}

/// The MTU of Ethernet, in bytes.
const USUAL_MTU: u32 = 1500;

/// Changes a network's definition, and tells its process by `tell`, one change after the other.
///
/// # Errors
/// There is no such network, or `change` refuses, or `tell` does.
pub fn update<E: From<NetworkError>>(
    store: &Store,
    word: &str,
    change: impl FnOnce(&mut Definition) -> Result<(), NetworkError>,
    tell: impl FnOnce(&Definition) -> Result<(), E>,
) -> Result<Definition, E> {
    let lock = store.lock().map_err(NetworkError::from)?;
    let mut definition = store.find(word).map_err(NetworkError::from)?;
    change(&mut definition)?;
    let name = definition.name.clone();
    if serde_json::to_string(&definition).map_or(0, |text| text.len()) > MAX_DEFINITION {
        return Err(NetworkError::Large { name }.into());
    }
    store.write(&lock, &definition).map_err(NetworkError::from)?;
    tell(&definition)?;
    Ok(definition)
}

/// How long a definition may become in bytes, so that it is one request to the network's process.
const MAX_DEFINITION: usize = 60 * 1024;

/// Removes a network, once `end` has ended its process.
///
/// # Errors
/// There is no such network, or `end` refuses.
pub fn remove<E: From<NetworkError>>(
    store: &Store,
    word: &str,
    end: impl FnOnce(&Definition) -> Result<(), E>,
) -> Result<Definition, E> {
    let lock = store.lock().map_err(NetworkError::from)?;
    let definition = store.find(word).map_err(NetworkError::from)?;
    end(&definition)?;
    store.remove(&lock, &definition).map_err(NetworkError::from)?;
    Ok(definition)
}

/// The number of a group that the calling user is in, by its name or number.
///
/// # Errors
/// No such group, or another's.
pub fn group(word: &str) -> Result<u32, NetworkError> {
    let by_name = || Group::from_name(word).ok().flatten().map(|group| group.gid);
    let found = word.parse().ok().map(Gid::from_raw).or_else(by_name);
    let group = found.ok_or_else(|| NetworkError::NoGroup { group: word.to_owned() })?;
    if !is_group_here(group) {
        return Err(NetworkError::GroupElsewhere { group: word.to_owned() });
    }
    // A file of ours can be given to no other group, chown(2).
    let mine = getegid() == group || getgroups().is_ok_and(|groups| groups.contains(&group));
    if mine || geteuid().is_root() {
        return Ok(group.as_raw());
    }
    Err(NetworkError::NotInGroup { group: word.to_owned() })
}

fn check_driver(driver: &str) -> Result<(), NetworkError> {
    let instead = match driver {
        "" | "bridge" | OVERLAY => return Ok(()),
        "macvlan" | "ipvlan" => {
            "it needs CAP_NET_ADMIN on the host; use bridge, and publish ports at an address of \
             the host with -p ADDRESS:HOST:CTR"
        }
        "host" => "a container in the host's network needs no rnsnet",
        "none" | "null" => "no network is needed for it; attach with --network none",
        _ => "use bridge or overlay",
    };
    Err(NetworkError::Driver { driver: driver.to_owned(), instead })
}

/// An id that nothing else has: 64 hexadecimal digits.
///
/// # Errors
/// The kernel has no random numbers.
pub fn new_id() -> Result<String, NetworkError> {
    Ok(hexadecimal(&random_id()?))
}

fn random_id() -> Result<[u8; 32], NetworkError> {
    let chance = |error| NetworkError::Chance { source: io::Error::other(error) };
    let mut id = [0; 32];
    getrandom::fill(&mut id).map_err(chance)?;
    Ok(id)
}

fn made() -> Result<Made, NetworkError> {
    let chance = |error| NetworkError::Chance { source: io::Error::other(error) };
    let id = random_id()?;
    let global_id = getrandom::u64().map_err(chance)?;
    Ok(Made { id, global_id, created: rfc3339(since_epoch()) })
}

/// The host's own routes within or around a network's subnets, default routes apart.
fn hidden(definition: &Definition, host: &[Prefix]) -> Vec<(Prefix, Prefix)> {
    let mut hidden: Vec<_> = definition
        .subnets()
        .flat_map(|subnet| {
            let specific = host.iter().filter(|route| super::subnets::is_specific(route));
            specific.filter(move |route| route.overlaps(&subnet)).map(move |route| (subnet, *route))
        })
        .collect();
    hidden.sort();
    hidden.dedup();
    hidden
}
