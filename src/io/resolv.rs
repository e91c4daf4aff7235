//! The host's resolvers, from resolv.conf(5), or those that the user wants instead.
//!
//! Only `nameserver` lines count here. A server may be on the host's loopback (systemd-resolved,
//! dnsmasq): that is the host's choice, not a guest's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Component, Path, PathBuf};

use log::Level;

use crate::config::{Name, Resolver, Route, Server};
use crate::engine::dns::Resolvers;
use crate::engine::{Engine, Instant};
use crate::sys::fd::{is_there, read_file};
use crate::sys::sock::interface_index;

/// Where every C library looks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The port of every server in resolv.conf.
const DNS_PORT: u16 = 53;
/// The server where resolv.conf(5) names none.
const ON_LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DNS_PORT);
/// Symbolic links that the kernel follows for one file (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// More servers than this are not asked: a query is to fail within a client's patience.
const MAX_SERVERS: usize = 8;

/// Whom a network's DNS asks.
#[derive(Debug, Clone)]
pub struct HostResolvers {
    /// Where the host's resolvers are written down.
    path: PathBuf,
    /// The servers to ask instead, if there are any.
    instead: Vec<Server>,
    routes: Vec<Route>,
}

/// A DNS server that cannot be asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ResolverError {
    #[error("cannot find interface {zone} of DNS server {address}")]
    Zone { address: IpAddr, zone: String, source: io::Error },
}

impl Default for HostResolvers {
    fn default() -> Self {
        Self { path: PathBuf::from(RESOLV_CONF), instead: Vec::new(), routes: Vec::new() }
    }
}

impl HostResolvers {
    /// The host's resolvers, or those that are wanted instead.
    ///
    /// # Errors
    /// A server's interface that is not there.
    pub fn of(wanted: &Resolver) -> Result<Self, ResolverError> {
        let routed = wanted.routes.iter().flat_map(|route| &route.servers);
        for server in wanted.servers.iter().chain(routed) {
            address_of(server)?;
        }
        Ok(Self {
            path: PathBuf::from(RESOLV_CONF),
            instead: wanted.servers.clone(),
            routes: wanted.routes.clone(),
        })
    }

    /// The file to watch, if it counts or `may` do so later.
    pub(super) fn path(&self, may: bool) -> Option<&PathBuf> {
        (may || self.instead.is_empty()).then_some(&self.path)
    }

    /// The servers of single domains.
    pub(super) fn routes(&self) -> impl Iterator<Item = (Name, Resolvers)> {
        self.routes.iter().map(|Route { domain, servers }| (domain.clone(), now(servers)))
    }

    /// Has the engine ask whom it is to ask by now; returns whether those are others than before.
    pub(super) fn renew(&self, engine: &mut Engine, level: Level, now: Instant) -> bool {
        let read = self.read_again(level);
        let changed = read.is_some_and(|read| engine.set_resolvers(read, now));
        self.routes().fold(changed, |changed, (domain, servers)| {
            engine.set_dns_route(domain, servers, now) || changed
        })
    }

    /// Reads the file. One that is not there, or names no server, means a server on loopback, as for
    /// resolv.conf(5). `None` for one that cannot be read: it may lead where this process does not see
    /// it any more, which is told at this level.
    pub(super) fn read_again(&self, level: Level) -> Option<Resolvers> {
        if !self.instead.is_empty() {
            return Some(now(&self.instead));
        }
        let mut servers = match read_file(&self.path) {
            Ok(bytes) => parse(&String::from_utf8_lossy(&bytes), scope_id),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_there(&self.path) => {
                Vec::new()
            }
            Err(error) => {
                log::log!(level, "cannot read {}: {error}", self.path.display());
                return None;
            }
        };
        if servers.is_empty() {
            servers.push(ON_LOOPBACK);
        }
        log::debug!("resolvers: {servers:?}");
        Some(Resolvers::new(servers))
    }

    /// The same where nothing is known of before: what cannot be read is a server on loopback, too.
    #[must_use]
    pub fn read(&self) -> Resolvers {
        self.read_again(Level::Warn).unwrap_or_else(|| Resolvers::new(vec![ON_LOOPBACK]))
    }
}

/// The directories in which resolv.conf is found, from /etc on: a symbolic link has it in others as
/// well. `None` if those that there are now cannot be told, or do not have it alone.
#[must_use]
pub fn directories() -> Option<Vec<PathBuf>> {
    directories_of(RESOLV_CONF.as_ref())
}

/// The same of another file.
pub(super) fn directories_of(path: &Path) -> Option<Vec<PathBuf>> {
    let (mut directories, mut file) = (Vec::new(), path.to_owned());
    for _ in 0..MAX_LINKS {
        let directory = file.parent()?;
        if directory.parent().is_none() || !directory.is_dir() {
            return None;
        }
        if !directories.iter().any(|known| directory.starts_with(known)) {
            directories.push(directory.to_owned());
        }
        let Ok(target) = file.read_link() else {
            // The way by names alone is the one that the kernel goes.
            let same = file.canonicalize().ok() == path.canonicalize().ok();
            return same.then_some(directories);
        };
        file = by_names(&directory.join(target));
    }
    None
}

/// A path without `.` and `..`, as if none of its directories were a symbolic link.
fn by_names(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// Servers as they are reached now. Where the interface is gone, so is the server until there is one
/// of its name.
fn now(servers: &[Server]) -> Resolvers {
    let lost = |server: &Server| SocketAddr::new(server.address, server.port);
    let now = |server| address_of(server).unwrap_or_else(|_| lost(server));
    Resolvers::new(servers.iter().map(now).collect())
}

/// A mapped address (`::ffff:192.0.2.1`) is the IPv4 address, as no socket of ours speaks both.
fn address_of(server: &Server) -> Result<SocketAddr, ResolverError> {
    let Server { address, zone, port } = server;
    match (address.to_canonical(), zone) {
        (IpAddr::V6(v6), Some(zone)) => {
            let by_name = |_| {
                interface_index(zone).map_err(|source| {
                    let zone = zone.clone();
                    ResolverError::Zone { address: v6.into(), zone, source }
                })
            };
            let scope = zone.parse().or_else(by_name)?;
            Ok(SocketAddr::V6(SocketAddrV6::new(v6, *port, 0, scope)))
        }
        (address, _) => Ok(SocketAddr::new(address, *port)),
    }
}

fn parse(text: &str, scope_id: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            if words.next()? != "nameserver" {
                return None;
            }
            server(words.next()?, &scope_id)
        })
        .take(MAX_SERVERS)
        .collect()
}

/// An address, for IPv6 with a zone like `fe80::1%eth0` (RFC 4007, section 11). One whose interface is
/// not there yet cannot be asked, but is no reason to ask somebody who is not named.
fn server(word: &str, scope_id: &impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let (address, zone) = word.split_once('%').map_or((word, None), |(a, z)| (a, Some(z)));
    match (address.parse::<IpAddr>().ok()?.to_canonical(), zone) {
        (IpAddr::V6(v6), Some(zone)) => scoped(v6, scope_id(zone).unwrap_or(0)),
        (address, _) => Some(SocketAddr::new(address, DNS_PORT)),
    }
}

fn scoped(address: Ipv6Addr, scope: u32) -> Option<SocketAddr> {
    Some(SocketAddr::V6(SocketAddrV6::new(address, DNS_PORT, 0, scope)))
}

fn scope_id(zone: &str) -> Option<u32> {
    zone.parse().ok().or_else(|| interface_index(zone).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn resolv_conf_is_followed_through_its_directories() {
        let base = crate::testing::scratch("resolv");
        let [etc, run, deep] = ["etc", "run", "run/systemd/resolve"].map(|name| base.join(name));
        for directory in [&etc, &deep] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let file = etc.join("resolv.conf");
        let found = || directories_of(&file);
        // None there, and one there.
        assert_eq!(found(), Some(vec![etc.clone()]));
        std::fs::write(&file, "").unwrap();
        assert_eq!(found(), Some(vec![etc.clone()]));
        let link = |target: &Path| {
            drop(std::fs::remove_file(&file));
            symlink(target, &file).unwrap();
        };
        // The file may come later, its directory may not.
        link("../run/systemd/resolve/stub-resolv.conf".as_ref());
        assert_eq!(found(), Some(vec![etc.clone(), deep.clone()]));
        std::fs::write(deep.join("stub-resolv.conf"), "").unwrap();
        assert_eq!(found(), Some(vec![etc.clone(), deep.clone()]));
        link("../run/other/resolv.conf".as_ref());
        assert_eq!(found(), None);
        // Through another link, back to where it came from, and in a circle.
        link(&run.join("resolv.conf"));
        symlink(deep.join("stub-resolv.conf"), run.join("resolv.conf")).unwrap();
        assert_eq!(found(), Some(vec![etc.clone(), run.clone()]));
        link("./other".as_ref());
        std::fs::write(etc.join("other"), "").unwrap();
        assert_eq!(found(), Some(vec![etc.clone()]));
        link("resolv.conf".as_ref());
        assert_eq!(found(), None);
        // A directory that is a link itself, out of which `..` leads elsewhere than its name says.
        symlink(&deep, base.join("short")).unwrap();
        link(&base.join("short/stub-resolv.conf"));
        assert_eq!(found(), Some(vec![etc.clone(), base.join("short")]));
        symlink("../resolv.conf", deep.join("up")).unwrap();
        std::fs::write(run.join("systemd/resolv.conf"), "").unwrap();
        link(&base.join("short/up"));
        assert_eq!(found(), None);
        link("/".as_ref());
        assert_eq!(found(), None);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn only_nameserver_lines_with_an_address_count() {
        let text = "# nameserver 192.0.2.1\nsearch lan\nnameserver 192.0.2.2\n\
                    nameserver\t2001:db8::1 # comment\nnameserver nonsense\nnameserver\n\
                    nameserver fe80::1%eth7\nnameserver fe80::1%gone\noptions ndots:1\n\
                    nameserver ::ffff:192.0.2.3\n";
        let servers = parse(text, |zone| (zone == "eth7").then_some(7));
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let [link_local, unknown] = ["[fe80::1%7]:53", "[fe80::1]:53"];
        // The last one's is another way to write an IPv4 address (RFC 4291, section 2.5.5.2).
        let expected = ["192.0.2.2:53", "[2001:db8::1]:53", link_local, unknown, "192.0.2.3:53"];
        assert_eq!(servers, expected);
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_wherever_it_is_given() {
        let mapped =
            || Server { address: "::ffff:192.0.2.3".parse().unwrap(), zone: None, port: 53 };
        let routes = vec![Route { domain: "test".parse().unwrap(), servers: vec![mapped()] }];
        let wanted = Resolver { servers: vec![mapped()], routes, ..Resolver::default() };
        let host = HostResolvers::of(&wanted).unwrap();
        let is = Resolvers::new(vec!["192.0.2.3:53".parse().unwrap()]);
        assert_eq!(host.read_again(Level::Warn), Some(is.clone()));
        assert_eq!(host.routes().collect::<Vec<_>>(), [("test".parse().unwrap(), is)]);
    }

    #[test]
    fn a_file_without_a_server_means_the_one_on_loopback() {
        let base = crate::testing::scratch("resolv-none");
        let path = base.join("resolv.conf");
        let host = HostResolvers { path: path.clone(), ..HostResolvers::default() };
        for text in ["", "search lan\n", "nameserver nonsense\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(
                host.read_again(Level::Warn),
                Some(Resolvers::new(vec![ON_LOOPBACK])),
                "{text}"
            );
        }
        std::fs::remove_dir_all(base).unwrap();
    }
}
