//! Published ports on the host: all of them are bound, or none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use crate::config::{Protocol, Publish};
use crate::sys::sock;

/// A bound port and where it leads.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: OwnedFd,
    /// What it is bound to.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The container's port.
    pub guest_port: u16,
}

/// A port that cannot be published.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish {publish}: cannot bind {address}/{}", publish.protocol)]
pub struct ListenError {
    publish: Publish,
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    /// What helps, where one thing usually does.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.source.kind() {
            io::ErrorKind::PermissionDenied => Some(
                "ports below net.ipv4.ip_unprivileged_port_start (1024) need root: publish a \
                 higher port, or lower the limit with sysctl",
            ),
            io::ErrorKind::AddrInUse => {
                Some("another program listens there: `ss -ltunp` shows which")
            }
            io::ErrorKind::AddrNotAvailable => {
                Some("the host has no such address: `ip addr` lists those it has")
            }
            _ => None,
        }
    }
}

impl ListenError {
    /// The message with its cause.
    pub(super) fn with_cause(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Binds every rule's port, IPv6 ones only if `v6`.
///
/// # Errors
/// The first port that cannot be bound; those bound before it are closed again.
pub fn bind(rules: &[Publish], v6: bool) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for publish in rules {
        for address in addresses(publish, v6) {
            let bound = match publish.protocol {
                Protocol::Tcp => sock::tcp_listen(address),
                Protocol::Udp => sock::udp_bind(address),
            };
            let socket = match bound {
                Ok(socket) => socket,
                // The host was started without IPv6: every address means every one there is.
                Err(error) if publish.bind.is_none() && address.is_ipv6() && lacks_ipv6(&error) => {
                    continue;
                }
                Err(source) => {
                    return Err(ListenError { publish: *publish, address, source });
                }
            };
            listeners.push(Listener {
                socket,
                address,
                protocol: publish.protocol,
                guest_port: publish.guest_port,
            });
        }
    }
    Ok(listeners)
}

/// The addresses that a rule binds.
fn addresses(publish: &Publish, v6: bool) -> Vec<SocketAddr> {
    let ips: Vec<IpAddr> = match publish.bind {
        Some(ip) => vec![ip],
        None if v6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        None => vec![Ipv4Addr::UNSPECIFIED.into()],
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, publish.host_port)).collect()
}

fn lacks_ipv6(error: &io::Error) -> bool {
    [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno))
}
