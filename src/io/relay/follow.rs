//! Ports of a container's loopback that follow what the host listens on, looked up once a second:
//! pasta's `-T auto`.
//!
//! Owns when such a port is there. Which ports may be is said by the rules.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use super::{Dialer, MAX_OUTWARD, Outward, Relay, Source, Watch, free_place, loopback, udp};
use crate::config::Protocol;
use crate::config::pasta::Mirror;
use crate::engine::Instant;
use crate::io::mirror::{PERIOD, SocketTables, Tables};
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::maker::Wanted;
use crate::sys::sock;

/// A port of one protocol.
pub(in crate::io) type Key = (Protocol, u16);

/// Rules, and the ports that are there by them.
#[derive(Debug)]
pub(super) struct Follow {
    rules: Vec<Mirror>,
    tables: Tables,
    /// The container's ports that lead somewhere in any case.
    fixed: SortedSet<Key>,
    /// The others, where they could be had, with their places among the listeners.
    ports: SortedMap<Key, Vec<(SocketAddr, usize)>>,
    due: Instant,
    /// It was told that there are too many.
    told: bool,
}

impl Follow {
    pub(super) fn new(
        (rules, tables): (Vec<Mirror>, SocketTables),
        fixed: &[Outward],
        now: Instant,
    ) -> Self {
        let inside = |outward: &Outward| {
            let address = sock::local_addr(outward.socket.as_fd()).ok()?;
            Some((outward.protocol, address.port()))
        };
        let fixed = fixed.iter().filter_map(inside).collect();
        let (tables, ports) = (Tables::new(tables), SortedMap::new());
        Self { rules, tables, fixed, ports, due: now, told: false }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.rules.is_empty() { None } else { Some(self.due) }
    }
}

impl Relay {
    /// Whether a port of the container's loopback is one that we listen on.
    pub(in crate::io) fn listens_inside(&self, key: Key) -> bool {
        self.follow.fixed.contains(&key) || self.follow.ports.contains_key(&key)
    }

    /// Looks again if it is time, makes what is new and takes back what is gone. Ports of the
    /// host's that lead into the container are `ours`: they would lead back.
    pub(in crate::io) fn follow(&mut self, now: Instant, ours: impl FnOnce() -> SortedSet<Key>) {
        let follow = &mut self.follow;
        if follow.rules.is_empty() || now < follow.due {
            return;
        }
        follow.due = now + PERIOD;
        let reachable = |ip: IpAddr| {
            ip.is_unspecified() || [false, true].iter().any(|v6| loopback(*v6, 0).ip() == ip)
        };
        let mut there = match follow.tables.look(|_, ip| reachable(ip)) {
            Ok(there) => there,
            Err(error) => {
                log::debug!("cannot see what the host listens on: {error}");
                return;
            }
        };
        let ours = ours();
        there.retain(|key| {
            let (protocol, port) = *key;
            let covered = |rule: &Mirror| rule.protocol == protocol && rule.covers(port);
            !ours.contains(key) && follow.rules.iter().any(covered)
        });
        let mut gone = Vec::new();
        follow.ports.retain(|key, places| {
            let stays = there.contains(key);
            if !stays {
                gone.append(places);
            }
            stays
        });
        for (_, place) in gone {
            self.close(place);
        }
        there.retain(|key| !self.follow.fixed.contains(key));
        for key in there {
            if let Err(error) = self.listen(key) {
                let (protocol, port) = key;
                log::debug!("port {port}/{protocol} of the host is not in the container: {error}");
            }
        }
    }

    /// Listens by every rule that is for a port, as far as that is possible and not so yet.
    fn listen(&mut self, (protocol, port): Key) -> io::Result<()> {
        let Self { follow, listeners, dialer, watch, .. } = self;
        let mut addresses = Vec::new();
        for rule in follow.rules.iter().filter(|r| r.protocol == protocol && r.covers(port)) {
            match rule.bind {
                Some(ip) => addresses.push(SocketAddr::new(ip, port)),
                None => addresses.extend([false, true].map(|v6| loopback(v6, port))),
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        let had = follow.ports.get(&(protocol, port)).map(Vec::as_slice).unwrap_or_default();
        addresses.retain(|address| had.iter().all(|(known, _)| known != address));
        let mut places = Vec::new();
        let mut failed = None;
        for address in addresses {
            let Some(place) = free_place(listeners, MAX_OUTWARD) else {
                if !std::mem::replace(&mut follow.told, true) {
                    log::warn!("the host listens on more ports than lead to its loopback");
                }
                break;
            };
            match open(protocol, address, dialer, watch, place) {
                Ok(outward) => {
                    if let Some(entry) = listeners.get_mut(place) {
                        *entry = Some(outward);
                    }
                    places.push((address, place));
                }
                Err(error) => failed = Some(error),
            }
        }
        if !places.is_empty() {
            log::debug!("port {port}/{protocol} of the host is in the container");
            follow.ports.or_default((protocol, port)).extend(places);
            return Ok(());
        }
        failed.map_or(Ok(()), Err)
    }

    /// A listener is gone; where its port follows another it is made again.
    pub(super) fn lose(&mut self, place: usize) {
        self.follow.ports.retain(|_, places| {
            places.retain(|(_, known)| *known != place);
            !places.is_empty()
        });
        self.close(place);
    }

    /// A port leads nowhere any more; connections go on.
    fn close(&mut self, place: usize) {
        if let Some(entry) = self.listeners.get_mut(place) {
            *entry = None;
        }
        self.waiting.retain(|waiting| *waiting != place);
        self.unfinished.retain(|source| *source != Source::Listener(place));
        self.udp.forget(|origin| origin == udp::Origin::Outward(place));
    }
}

fn open(
    protocol: Protocol,
    address: SocketAddr,
    dialer: &mut Dialer,
    watch: &Watch,
    place: usize,
) -> io::Result<Outward> {
    let socket = dialer.make(match protocol {
        Protocol::Tcp => Wanted::TcpListener(address),
        Protocol::Udp => Wanted::UdpBound(address),
    })?;
    let socket = dialer.within_limit(socket)?;
    watch.add(&socket, Source::Listener(place))?;
    Ok(Outward { socket, protocol, v6: address.is_ipv6(), port: address.port() })
}
