//! Sockets on a container's own loopback whose clients are led to the host's: each made by a child
//! that enters the container, and served from here (`io/relay`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{AttachError, Container, LISTEN, describe, failure, in_container};
use crate::config::Protocol;
use crate::config::pasta::Outward;
use crate::io::relay;
use crate::sys::netns::{ChildError, Failure, Reply};
use crate::sys::sock;

/// Listens where `outwards` says, with IPv6 as far as the container has it.
///
/// The process must be single-threaded, as children are forked.
///
/// # Errors
/// See [`AttachError`]; an address that somebody in the container has.
pub fn outward_sockets(
    container: &Container,
    outwards: &[Outward],
) -> Result<Vec<relay::Outward>, AttachError> {
    let mut sockets = Vec::new();
    for outward in outwards {
        let v6 = (IpAddr::from(Ipv6Addr::LOCALHOST), outward.at.is_none());
        let addresses = match outward.at {
            Some(at) => vec![(at, false)],
            None => vec![(Ipv4Addr::LOCALHOST.into(), false), v6],
        };
        for (ip, may_lack) in addresses {
            let address = SocketAddr::new(ip, outward.inside);
            sockets.extend(listen(container, outward, address, may_lack)?);
        }
    }
    Ok(sockets)
}

/// `None` where the container has no such family, and may lack it.
fn listen(
    container: &Container,
    outward: &Outward,
    address: SocketAddr,
    may_lack: bool,
) -> Result<Option<relay::Outward>, AttachError> {
    let (label, protocol) = (&container.label, outward.protocol);
    let refused = |source| AttachError::Outward { address, protocol, label: label.clone(), source };
    let reply = in_container(container, || {
        // The loopback may be down yet, and without its addresses.
        let bound = match protocol {
            Protocol::Tcp => sock::tcp_listen(address, true),
            Protocol::Udp => sock::udp_bind(address, true),
        };
        let socket = bound.map_err(|error| failure(LISTEN, &error, ""))?;
        Ok(Reply { fd: Some(socket), flags: 0 })
    });
    let socket = match reply {
        Ok(reply) => reply.fd.ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?,
        Err(ChildError::Work(Failure { code: LISTEN, errno, .. })) => {
            let lacks = matches!(errno, libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL);
            if may_lack && lacks {
                return Ok(None);
            }
            return Err(refused(io::Error::from_raw_os_error(errno)));
        }
        Err(error) => return Err(describe(error, label, "")),
    };
    Ok(Some(relay::Outward { socket, protocol, v6: address.is_ipv6(), port: outward.host }))
}
