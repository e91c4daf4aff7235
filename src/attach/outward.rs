//! What is between a container's loopback and the host's: sockets in the container and who makes
//! more of them, handed to `io/relay`, which serves them from here.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use super::{AttachError, CONFIGURE, Container, describe, failure};
use crate::config::pasta::Outward;
use crate::config::{Caller, Protocol};
use crate::io::mirror::open_tables;
use crate::io::relay::{self, Relayed};
use crate::sys::maker::{Maker, Wanted};
use crate::sys::netns::ChildError;
use crate::sys::sock;

/// Makes what `caller` asks for, with IPv6 as far as the container has it.
///
/// The process must be single-threaded, as a child is forked.
///
/// # Errors
/// See [`AttachError`]; an address that somebody in the container has.
pub fn relayed(container: &Container, caller: &Caller) -> Result<Relayed, AttachError> {
    let Caller { outwards, outward_mirrors, to_loopback, .. } = caller;
    if outwards.is_empty() && outward_mirrors.is_empty() && !to_loopback {
        return Ok(Relayed::default());
    }
    let userns = container.userns.as_ref().map(AsFd::as_fd);
    let mut maker = Maker::start(container.netns.as_fd(), userns)
        .map_err(|error| describe(error, &container.label, ""))?;
    let mut relayed = Relayed { to_loopback: *to_loopback, ..Relayed::default() };
    for outward in outwards {
        let addresses = match outward.at {
            Some(at) => vec![(at, false)],
            None => vec![(Ipv4Addr::LOCALHOST.into(), false), (Ipv6Addr::LOCALHOST.into(), true)],
        };
        for (ip, may_lack) in addresses {
            let address = SocketAddr::new(ip, outward.inside);
            let made = listen(&mut maker, container, outward, address, may_lack)?;
            relayed.outwards.extend(made);
        }
    }
    if !outward_mirrors.is_empty() {
        let tables = open_tables().map_err(|error| {
            let failed = failure(CONFIGURE, &error, "cannot see the host's sockets");
            describe(ChildError::Work(failed), &container.label, "")
        })?;
        relayed.follows = (outward_mirrors.clone(), tables);
    }
    if *to_loopback || !outward_mirrors.is_empty() {
        relayed.maker = Some(maker);
    }
    Ok(relayed)
}

/// `None` where the container has no such family, and may lack it.
fn listen(
    maker: &mut Maker,
    container: &Container,
    outward: &Outward,
    address: SocketAddr,
    may_lack: bool,
) -> Result<Option<relay::Outward>, AttachError> {
    let (label, protocol) = (container.label.clone(), outward.protocol);
    // The loopback may be down yet, and without its addresses: both are bound all the same.
    let made = maker.make(match protocol {
        Protocol::Tcp => Wanted::TcpListener(address),
        Protocol::Udp => Wanted::UdpBound(address),
    });
    match made {
        Ok(socket) => {
            Ok(Some(relay::Outward { socket, protocol, v6: address.is_ipv6(), port: outward.host }))
        }
        Err(error) if may_lack && sock::lacks_family(&error) => Ok(None),
        Err(source) => Err(AttachError::Outward { address, protocol, label, source }),
    }
}
