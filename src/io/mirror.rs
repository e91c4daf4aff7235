//! Published ports that follow what the container listens on: looked up once a second in the
//! tables of sockets that its namespace shows as /proc/net/tcp and the like (proc_net(5)).
//!
//! Owns when a port is bound and given back. Which ports may be is said by the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;

use super::host::Sockets;
use super::listen::Binder;
use crate::config::pasta::Mirror;
use crate::config::{Protocol, Publish};
use crate::engine::host::SocketId;
use crate::engine::{Destination, Engine, Instant};

/// The tables of sockets of a namespace, opened in it.
pub type SocketTables = Vec<(Protocol, File)>;

/// How long a new port may wait for being bound.
const PERIOD: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(1);

/// Rules, and the ports that are bound by them.
#[derive(Debug)]
pub(super) struct Mirrors {
    rules: Vec<Mirror>,
    tables: SocketTables,
    v6: bool,
    /// The container.
    to: Vec<Destination>,
    bound: BTreeMap<(Protocol, u16), Vec<SocketId>>,
    due: Instant,
    bytes: Vec<u8>,
}

impl Mirrors {
    /// Leads to the container `to`, which has IPv6 or not. The first look is at `now`.
    pub(super) fn new(
        (rules, tables): (Vec<Mirror>, SocketTables),
        v6: bool,
        to: Vec<Destination>,
        now: Instant,
    ) -> Self {
        Self { rules, tables, v6, to, bound: BTreeMap::new(), due: now, bytes: Vec::new() }
    }

    /// When to look again; `None` is never.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.rules.is_empty() { None } else { Some(self.due) }
    }

    /// Looks again if it is time, binds what is new and gives back what is gone.
    pub(super) fn handle_timeout(
        &mut self,
        engine: &mut Engine,
        sockets: &mut Sockets,
        now: Instant,
    ) {
        if self.rules.is_empty() || now < self.due {
            return;
        }
        self.due = now + PERIOD;
        let listening = match self.look() {
            Ok(listening) => listening,
            Err(error) => {
                log::debug!("cannot see what the container listens on: {error}");
                return;
            }
        };
        self.bound.retain(|key, ids| {
            let stays = listening.contains(key);
            if !stays {
                ids.iter().for_each(|id| engine.unpublish(*id));
            }
            stays
        });
        for (protocol, port) in listening {
            if !self.bound.contains_key(&(protocol, port)) {
                let ids = self.bind(protocol, port, engine, sockets);
                if !ids.is_empty() {
                    self.bound.insert((protocol, port), ids);
                }
            }
        }
    }

    fn look(&mut self) -> io::Result<BTreeSet<(Protocol, u16)>> {
        let mut found = BTreeSet::new();
        for (protocol, table) in &self.tables {
            read(table, &mut self.bytes)?;
            let text = String::from_utf8_lossy(&self.bytes);
            found.extend(listening(*protocol, &text).map(|port| (*protocol, port)));
        }
        Ok(found)
    }

    /// Binds a port by every rule that is for it, as far as that is possible.
    fn bind(
        &self,
        protocol: Protocol,
        port: u16,
        engine: &mut Engine,
        sockets: &mut Sockets,
    ) -> Vec<SocketId> {
        let mut ids = Vec::new();
        let rules = self.rules.iter().filter(|r| r.protocol == protocol && r.covers(port));
        let places =
            rules.flat_map(|rule| self.addresses(rule).into_iter().map(move |a| (a, rule)));
        for (address, Mirror { freebind, .. }) in places {
            let publish = Publish::one(Some(address), port, port, protocol);
            let publish = Publish { freebind: *freebind, ..publish };
            let mut binder = Binder { v6: self.v6, interfaces: None, may_inherit: false };
            let listeners = match binder.bind(&[publish]) {
                Ok(published) => published.into_iter().flat_map(|p| p.listeners),
                Err(error) => {
                    log::debug!("{}", error.with_cause());
                    continue;
                }
            };
            for listener in listeners {
                let id = engine.publish(listener.protocol, self.to.clone(), listener.guest_port);
                match sockets.add_listener(id, listener) {
                    Ok(()) => ids.push(id),
                    Err(error) => {
                        log::debug!("cannot watch {address} port {port}: {error}");
                        engine.unpublish(id);
                    }
                }
            }
        }
        ids
    }

    fn addresses(&self, rule: &Mirror) -> Vec<IpAddr> {
        match rule.bind {
            Some(address) => vec![address],
            None if self.v6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            None => vec![Ipv4Addr::UNSPECIFIED.into()],
        }
    }
}

/// Reads a file of /proc from its beginning, with pread(2) alone.
fn read(table: &File, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut length = 0;
    loop {
        bytes.resize(length + CHUNK, 0);
        let rest = bytes.get_mut(length..).unwrap_or_default();
        match table.read_at(rest, u64::try_from(length).unwrap_or(u64::MAX)) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(())
}

/// Bytes read at once.
const CHUNK: usize = 4096;

/// The ports on which somebody listens, other than on loopback, in one table.
fn listening(protocol: Protocol, table: &str) -> impl Iterator<Item = u16> {
    // TCP_LISTEN, and TCP_CLOSE for a UDP socket without a peer (net/tcp_states.h).
    let state = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    table.lines().filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        if fields.nth(1)? != state || ip(address)?.is_loopback() {
            return None;
        }
        u16::from_str_radix(port, 16).ok()
    })
}

/// An address as numbers of 32 bits in the machine's byte order, each of four bytes of it.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    let octets = |at| word(at).map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::from(octets(0)?)),
        32 => {
            let parts = [octets(0)?, octets(8)?, octets(16)?, octets(24)?].concat();
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(parts).ok()?);
            Some(address.to_canonical())
        }
        _ => None,
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_from_connections_and_from_loopback() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
            \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n\
            \x20  1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n\
            \x20  2: 0A020002:0016 0100000A:C350 01 00000000:00000000 00:00000000 00000000\n";
        assert_eq!(listening(Protocol::Tcp, tcp).collect::<Vec<_>>(), [80]);
        let tcp6 = "   0: 00000000000000000000000001000000:0016 \
            00000000000000000000000000000000:0000 0A 0:0\n\
            \x20  1: 00000000000000000000000000000000:0050 \
            00000000000000000000000000000000:0000 0A 0:0\n\
            \x20  2: 0000000000000000FFFF00000100007F:0051 \
            00000000000000000000000000000000:0000 0A 0:0\n";
        assert_eq!(listening(Protocol::Tcp, tcp6).collect::<Vec<_>>(), [80]);
        let udp = "  10: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000\n\
            \x20 11: 0A020002:0036 0100000A:C350 01 00000000:00000000 00:00000000 00000000\n";
        assert_eq!(listening(Protocol::Udp, udp).collect::<Vec<_>>(), [53]);
    }

    #[test]
    fn what_is_no_table_has_no_ports() {
        for text in ["", "\n\n", "a b", "0: zz:50 0:0 0A", "0: 00000000:xx 0:0 0A", "0: é:1 0:0 0A"]
        {
            assert_eq!(listening(Protocol::Tcp, text).count(), 0, "{text}");
        }
    }
}
