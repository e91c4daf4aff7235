//! A container's interface on a named network: made in the container, served by another process.
//!
//! The same steps as for a private network, but a container may have many of these, and the TAP is
//! not for us: its descriptor goes to the network's process. If that is killed the interface stays,
//! to be taken over.

use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::poll::poll;
use siphasher::sip::SipHasher13;

use super::{
    ALIAS_PREFIX, ALREADY_ATTACHED, AttachError, CONFIGURE, CREATE_TAP, Container, IPV6, METRIC,
    OpenTap, TAKE_TAP, TX_QUEUE_LEN, VNET_HEADER, configure_failure, describe, failure,
    in_container, private_layout,
};
use crate::config::{Addresses, Layout, Lease, LinkRoute, Mtu, Offload};
use crate::network::definition::Route;
use crate::sys::link::{self, DefaultRoute, LinkConfig};
use crate::sys::netns::{Failure, Reply};
use crate::sys::tun;

/// What a container's interface on a named network is to be.
#[derive(Debug, Clone)]
pub struct Joint<'a> {
    /// The network.
    pub network: &'a str,
    /// The interface's name, or what comes before its number: the first that is free.
    pub ifname: Ifname<'a>,
    /// Its addresses.
    pub lease: Lease,
    /// The network's.
    pub addresses: Addresses,
    /// Of the interface.
    pub mtu: Mtu,
    /// The metric of its default route, the first of a hundred: it comes after those of them that
    /// there are. `None` for no default route.
    pub metric: Option<u32>,
    /// Other routes.
    pub routes: &'a [Route],
    /// How the TAP is opened.
    pub offload: Offload,
}

/// What an interface is to be called.
#[derive(Debug, Clone, Copy)]
pub enum Ifname<'a> {
    /// So.
    Named(&'a str),
    /// So, and the first number that is free.
    Numbered(&'a str),
}

/// An interface that was made.
#[derive(Debug)]
pub struct Joined {
    /// The other end of it.
    pub tap: OwnedFd,
    /// Whether frames carry a virtio header.
    pub vnet_header: bool,
    /// Whether the container has IPv6.
    pub ipv6: bool,
    /// The interface's name.
    pub ifname: String,
    /// The metric of its default route, if it has one: of IPv4's.
    pub metric: Option<u32>,
}

/// Makes and configures an interface in the container, and brings `lo` up.
///
/// The process must be single-threaded, as a child is forked.
///
/// # Errors
/// See [`AttachError`]. The container is then as it was.
pub fn join(container: &Container, joint: &Joint<'_>) -> Result<Joined, AttachError> {
    let Layout { addresses, routes } = private_layout(&joint.lease, &joint.addresses);
    let ours = prefix(joint.network);
    let alias = wanted_alias(&ours, &addresses, joint);
    let reply = in_container(container, || make(&ours, &alias, &addresses, routes, joint));
    let reply = reply.map_err(|error| {
        let ifname = match joint.ifname {
            Ifname::Named(name) | Ifname::Numbered(name) => name,
        };
        describe(error, &container.label, ifname)
    })?;
    let use_tap = |source| AttachError::UseTap { source };
    let tap = reply.fd.ok_or_else(|| use_tap(io::ErrorKind::NotFound.into()))?;
    Ok(Joined {
        ifname: tun::name(&tap).map_err(use_tap)?,
        tap,
        vnet_header: reply.flags & VNET_HEADER != 0,
        ipv6: reply.flags & IPV6 != 0,
        metric: u32::try_from(reply.flags >> 32).ok().filter(|_| reply.flags & METRIC != 0),
    })
}

/// The alias of an interface that is what is wanted, as one that was left may be.
fn wanted_alias(ours: &str, addresses: &[(IpAddr, u8)], joint: &Joint<'_>) -> String {
    let mut alias = ours.to_owned();
    for (address, prefix_len) in addresses {
        alias.push_str(&format!("{address}/{prefix_len} "));
    }
    // An interface whose routes are to be others is not what is wanted.
    if let Some(metric) = joint.metric {
        alias.push_str(&format!("metric {metric} "));
    }
    if !joint.routes.is_empty() {
        // An alias has room for 255 bytes.
        let mut hasher = SipHasher13::new();
        joint.routes.hash(&mut hasher);
        alias.push_str(&format!("routes {:x}", hasher.finish()));
    }
    alias.trim_end().to_owned()
}

/// In the container: makes the interface, or takes over the one that was left, and gives it what it is
/// to have. `routers` are its default routes, without metrics.
fn make(
    ours: &str,
    alias: &str,
    addresses: &[(IpAddr, u8)],
    routers: Vec<LinkRoute>,
    joint: &Joint<'_>,
) -> Result<Reply, Failure> {
    let remains = remains(ours, alias, joint)?;
    let existing = link::default_routes().map_err(cannot_list)?;
    let again = remains.is_some();
    let (ifname, (tap, vnet_header), routes, given) = match remains {
        Some((ifname, tap)) => {
            let index = link::index_of(&ifname).map_err(configure_failure)?;
            // Its routes are there, by the metrics that they were given.
            let own = existing.iter().find(|route| route.v4 && route.index == index);
            (ifname, tap, Vec::new(), own.map(|route| route.metric))
        }
        None => {
            let ifname = match joint.ifname {
                Ifname::Named(name) => name.to_owned(),
                Ifname::Numbered(prefix) => first_free(prefix),
            };
            let (routes, given) = routes(joint, routers, &existing);
            let tap = tun::create(&ifname, joint.offload)
                .map_err(|error| failure(CREATE_TAP, &error, &ifname))?;
            (ifname, tap, routes, given)
        }
    };
    let link = LinkConfig {
        ifname: &ifname,
        mac: joint.lease.mac,
        mtu: joint.mtu,
        tx_queue_len: TX_QUEUE_LEN,
        alias,
        addresses,
        routes: &routes,
        again,
    };
    let ipv6 = link::configure(&link).map_err(configure_failure)?.ipv6;
    link::bring_up("lo").map_err(configure_failure)?;
    let flags = if vnet_header { VNET_HEADER } else { 0 }
        | if ipv6 { IPV6 } else { 0 }
        | given.map_or(0, |metric| METRIC | u64::from(metric) << 32);
    Ok(Reply { fd: Some(tap), flags })
}

/// The routes of a new interface, and the metric that its default route of IPv4 has among the
/// `existing` ones.
fn routes(
    joint: &Joint<'_>,
    routers: Vec<LinkRoute>,
    existing: &[DefaultRoute],
) -> (Vec<LinkRoute>, Option<u32>) {
    let (mut routes, mut given) = (Vec::new(), None);
    if let Some(first) = joint.metric {
        for route in routers {
            let v4 = route.destination.is_ipv4();
            let metric = metric(existing, v4, first);
            routes.push(LinkRoute { metric: (metric > 0).then_some(metric), ..route });
            given = if v4 { Some(metric) } else { given };
        }
    }
    routes.extend(joint.routes.iter().map(|(to, gateway, metric)| LinkRoute {
        destination: to.first(),
        prefix_len: to.length(),
        gateway: Some(*gateway),
        on_link: false,
        metric: *metric,
    }));
    (routes, given)
}

/// Whether the container has an interface that the process of a network has left.
///
/// The process must be single-threaded, as a child is forked.
///
/// # Errors
/// See [`AttachError`].
pub fn was_joined(container: &Container, network: &str) -> Result<bool, AttachError> {
    let reply = in_container(container, || {
        let found = link::find_alias(&prefix(network)).map_err(cannot_list)?;
        Ok(Reply { fd: None, flags: found.is_some().into() })
    });
    Ok(reply.map_err(|error| describe(error, &container.label, ""))?.flags != 0)
}

/// How the alias of an interface on a network starts.
fn prefix(network: &str) -> String {
    format!("{ALIAS_PREFIX} network {network} ")
}

/// The metric of a default route that comes after those of its hundred that there are; the first one
/// that is free where there is none after them.
fn metric(existing: &[DefaultRoute], v4: bool, first: u32) -> u32 {
    let hundred = first..first.saturating_add(100);
    let is_taken = |metric: &u32| existing.iter().any(|r| (r.v4, r.metric) == (v4, *metric));
    match hundred.clone().rev().find(is_taken) {
        None => first,
        Some(last) if hundred.contains(&(last + 1)) => last + 1,
        Some(last) => hundred.into_iter().find(|metric| !is_taken(metric)).unwrap_or(last),
    }
}

/// In the container: takes over the interface that the network's process has left which was killed,
/// with its name, if it is what is wanted; removes it if it is not. A TAP has one queue, so only what
/// nobody serves can be opened.
fn remains(
    ours: &str,
    alias: &str,
    joint: &Joint<'_>,
) -> Result<Option<(String, OpenTap)>, Failure> {
    let Some((ifname, found)) = link::find_alias(ours).map_err(cannot_list)? else {
        return Ok(None);
    };
    let mut looks = 0..LOOKS;
    let tap = loop {
        match tun::attach(&ifname, joint.offload) {
            Ok(tap) => break tap,
            // One that was killed this moment has not let go of everything yet.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && looks.next().is_some() => {
                poll(&mut [], LOOK_MS).map_err(|errno| failure(TAKE_TAP, &errno.into(), ""))?;
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) => {
                let text = format!("{ifname}\0{found}");
                return Err(Failure { code: ALREADY_ATTACHED, errno: 0, text });
            }
            Err(error) => return Err(failure(TAKE_TAP, &error, "")),
        }
    };
    let named = match joint.ifname {
        Ifname::Named(name) => ifname == name,
        Ifname::Numbered(prefix) => ifname.starts_with(prefix),
    };
    if named && found == alias {
        return Ok(Some((ifname, tap)));
    }
    tun::set_persistent(tap.0.as_fd(), false)
        .map_err(|error| failure(CONFIGURE, &error, "cannot remove the old interface"))?;
    Ok(None)
}

/// How often it is looked whether an interface is free: for half a second.
const LOOKS: u32 = 25;
/// How long before the next look, in milliseconds.
const LOOK_MS: u8 = 20;

/// In the container: the first of `eth0`, `eth1` and so on that no interface is called.
fn first_free(prefix: &str) -> String {
    let names = (0..1000).map(|number| format!("{prefix}{number}"));
    names.into_iter().find(|name| !link::exists(name)).unwrap_or_else(|| prefix.to_owned())
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` gives it
fn cannot_list(error: io::Error) -> Failure {
    failure(CONFIGURE, &error, "cannot list the interfaces and routes")
}

#[cfg(test)]
mod tests {
    use super::*;

    // A10
    #[test]
    fn of_equal_networks_the_first_has_the_default_route() {
        let of = |v4: &[u32]| {
            let route = |metric: &u32| DefaultRoute { v4: true, metric: *metric, index: 2 };
            let routes: Vec<_> = v4.iter().map(route).collect();
            metric(&routes, true, 700)
        };
        assert_eq!(of(&[]), 700);
        assert_eq!(of(&[700]), 701);
        // The first has gone: its place stays empty, so that it comes back as the last.
        assert_eq!(of(&[701]), 702);
        assert_eq!(of(&[0, 699, 800]), 700);
        // What is behind the hundred is another priority's.
        assert_eq!(of(&[700, 799]), 701);
        let of_v4 = DefaultRoute { v4: true, metric: 700, index: 2 };
        assert_eq!(metric(&[of_v4], false, 700), 700);
    }
}
