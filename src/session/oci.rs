//! A container of an OCI runtime joins its networks: what `rnsnet oci-hook` does once it knows which.
//!
//! The same as attaching it by its pid in the background, but that what is there already stays as it
//! is: a hook may be listed for two stages, or run for each container of a pod.

use super::named::{Tickets, Who, inode};
use super::network::Foreign;
use crate::attach;
use crate::client;
use crate::config::{Membership, Offload, Target};
use crate::error::Error;
use crate::network::manage::NetworkError;
use crate::network::store::Store;
use crate::sys::isolate::isolate_initial;

/// Brings a container to all the networks that it is not on yet, or to none. Its ports are
/// published when it comes to the first one.
///
/// # Errors
/// No such process or network, and what keeps it from being attached.
pub fn attach(mut who: Who, pid: i32, mut membership: Membership) -> Result<(), Error> {
    isolate_initial(&[])?;
    let target = Target::Pid(pid);
    let container = attach::open(&target)?;
    let inode = inode(&container);
    let mut missing = Vec::new();
    let mut is_first_there = false;
    let instances = client::instances()?;
    for (place, join) in membership.joins.into_iter().enumerate() {
        let (owner, network) = match Foreign::named(&join.network)? {
            Some(Foreign { owner, name }) => (Some(owner), name),
            None => {
                let store = Store::of_user().map_err(NetworkError::from)?;
                (None, store.find(&join.network).map_err(NetworkError::from)?.name)
            }
        };
        let on_it = instances
            .iter()
            .filter(|instance| (instance.owner, &instance.info.network) == (owner, &network));
        let mut containers = on_it.flat_map(|instance| &instance.info.containers);
        match containers.find(|other| other.inode.is_some() && other.inode == inode) {
            // Whoever came first has named it.
            Some(there) => {
                who.id.clone_from(&there.id);
                who.name.clone_from(&there.name);
                is_first_there |= place == 0;
            }
            None => missing.push(join),
        }
    }
    membership.joins = missing;
    if is_first_there {
        membership.publish.clear();
    }
    Tickets::for_container(&membership, who)?.bring(&container, &target, Offload::Auto)?;
    Ok(())
}
