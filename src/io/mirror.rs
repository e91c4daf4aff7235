//! Published ports that follow what the container listens on: looked up once a second in the
//! tables of sockets that its namespace shows as /proc/net/tcp and the like (proc_net(5)).
//!
//! Owns when a port is bound and given back. Which ports may be is said by the rules.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;

use super::published::{Place, PublishedPorts};
use crate::config::pasta::Mirror;
use crate::config::{Bind, HostPorts, Ports, Protocol, Publish};
use crate::engine::{Destination, Instant};
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::interfaces::Interfaces;

/// The tables of sockets of a namespace, opened in it.
pub type SocketTables = Vec<(Protocol, File)>;

/// Those tables, by their names in /proc/self/net.
pub const TABLES: [(Protocol, &str); 4] = [
    (Protocol::Tcp, "tcp"),
    (Protocol::Tcp, "tcp6"),
    (Protocol::Udp, "udp"),
    (Protocol::Udp, "udp6"),
];

/// Opens a table of the namespace that the caller is in; `None` where it has no such family.
///
/// # Errors
/// What open(2) reports.
pub fn open_table(name: &str) -> io::Result<Option<File>> {
    match File::open(format!("/proc/self/net/{name}")) {
        Ok(table) => Ok(Some(table)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens all tables of the namespace that the caller is in.
///
/// # Errors
/// What open(2) reports.
pub fn open_tables() -> io::Result<SocketTables> {
    let open = |(protocol, name)| Ok(open_table(name)?.map(|table| (protocol, table)));
    TABLES.into_iter().filter_map(|table| open(table).transpose()).collect()
}

/// How long a new port may wait for being bound.
pub(super) const PERIOD: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(1);

/// Rules, and the ports that are bound by them.
#[derive(Debug)]
pub(super) struct Mirrors {
    rules: Vec<Mirror>,
    tables: Tables,
    v6: bool,
    /// The container.
    to: Vec<Destination>,
    /// Which of its places each port has, and the names of what was published there.
    bound: SortedMap<(Protocol, u16), Vec<(usize, u64)>>,
    due: Instant,
    /// It was told that there are too many.
    told: bool,
}

/// Most ports that are bound because the container listens: each is a descriptor.
const MAX_PORTS: usize = 4096;

/// Tables of sockets, and room to read them.
#[derive(Debug, Default)]
pub(super) struct Tables {
    tables: SocketTables,
    bytes: Vec<u8>,
}

impl Tables {
    pub(super) fn new(tables: SocketTables) -> Self {
        Self { tables, bytes: Vec::new() }
    }

    /// The ports that somebody listens on at an address that is `wanted`.
    pub(super) fn look(
        &mut self,
        wanted: impl Fn((Protocol, u16), IpAddr) -> bool,
    ) -> io::Result<SortedSet<(Protocol, u16)>> {
        let mut found = Vec::new();
        for (protocol, table) in &self.tables {
            read(table, &mut self.bytes)?;
            let text = String::from_utf8_lossy(&self.bytes);
            let all = listening(*protocol, &text).map(|(ip, port)| ((*protocol, port), ip));
            found.extend(all.filter(|(key, ip)| wanted(*key, *ip)).map(|(key, _)| key));
        }
        Ok(found.into_iter().collect())
    }
}

impl Mirrors {
    /// Leads to the container `to`, which has IPv6 or not. The first look is at `now`.
    pub(super) fn new(
        (rules, tables): (Vec<Mirror>, SocketTables),
        v6: bool,
        to: Vec<Destination>,
        now: Instant,
    ) -> Self {
        let tables = Tables::new(tables);
        Self { rules, tables, v6, to, bound: SortedMap::new(), due: now, told: false }
    }

    /// When to look again; `None` is never.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.rules.is_empty() { None } else { Some(self.due) }
    }

    /// Looks again if it is time, binds what is new and gives back what is gone. What listens on
    /// the container's loopback counts where `loopback` says so of a port.
    pub(super) fn handle_timeout(
        &mut self,
        published: &mut PublishedPorts,
        place: &mut Place<'_>,
        mut interfaces: Option<&mut Interfaces>,
        loopback: impl Fn((Protocol, u16)) -> bool,
        now: Instant,
    ) {
        if self.rules.is_empty() || now < self.due {
            return;
        }
        self.due = now + PERIOD;
        let listening = match self.tables.look(|key, ip| !ip.is_loopback() || loopback(key)) {
            Ok(listening) => listening,
            Err(error) => {
                log::debug!("cannot see what the container listens on: {error}");
                return;
            }
        };
        self.bound.retain(|key, ids| {
            let stays = listening.contains(key);
            if !stays {
                for (_, id) in ids {
                    published.unpublish(*id, place);
                }
            }
            stays
        });
        let mut left = MAX_PORTS.saturating_sub(self.bound.values().map(Vec::len).sum());
        for (protocol, port) in listening {
            let key = (protocol, port);
            for (at, rule) in self.places(protocol, port).into_iter().enumerate() {
                if self.bound.get(&key).is_some_and(|ids| ids.iter().any(|(had, _)| *had == at)) {
                    continue;
                }
                // What fails counts too: it is as much work.
                if left == 0 && !std::mem::replace(&mut self.told, true) {
                    log::warn!("the container listens on more ports than follow it");
                }
                if left == 0 {
                    break;
                }
                left -= 1;
                let interfaces = interfaces.as_deref_mut();
                match published.publish(&[rule], &self.to, self.v6, interfaces, place) {
                    Ok(made) => {
                        let made = made.into_iter().map(|id| (at, id));
                        self.bound.or_default(key).extend(made);
                    }
                    // Tried again next time.
                    Err(error) => log::debug!("{}", error.with_cause()),
                }
            }
        }
    }

    /// What a port comes to by every rule that is for it; each is bound as far as that is possible.
    fn places(&self, protocol: Protocol, port: u16) -> Vec<Publish> {
        let rules = self.rules.iter().filter(|r| r.protocol == protocol && r.covers(port));
        let (host, inside) = (HostPorts::Exactly(Ports::one(port)), Ports::one(port));
        let publish =
            |(on, freebind)| Publish { freebind, ..Publish::at(on, host, inside, protocol) };
        rules
            .flat_map(|rule| self.binds(rule).into_iter().map(|on| (on, rule.freebind)))
            .map(publish)
            .collect()
    }

    /// Where a rule's ports are bound, each on its own.
    fn binds(&self, rule: &Mirror) -> Vec<Bind> {
        let at = |address: IpAddr| Bind::Addresses(vec![address]);
        match (&rule.interface, rule.bind) {
            (Some(name), Some(address)) => {
                vec![Bind::Device { address, interface: name.clone() }]
            }
            (Some(name), None) => vec![Bind::Interface(name.clone())],
            (None, Some(address)) => vec![at(address)],
            (None, None) if self.v6 => {
                vec![at(Ipv4Addr::UNSPECIFIED.into()), at(Ipv6Addr::UNSPECIFIED.into())]
            }
            (None, None) => vec![at(Ipv4Addr::UNSPECIFIED.into())],
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

/// The addresses and ports on which somebody listens in one table.
fn listening(protocol: Protocol, table: &str) -> impl Iterator<Item = (IpAddr, u16)> {
    // TCP_LISTEN, and TCP_CLOSE for a UDP socket without a peer (net/tcp_states.h).
    let state = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    table.lines().filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        if fields.nth(1)? != state {
            return None;
        }
        Some((ip(address)?, u16::from_str_radix(port, 16).ok()?))
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

    fn found(protocol: Protocol, table: &str) -> Vec<String> {
        let show = |(ip, port)| std::net::SocketAddr::new(ip, port).to_string();
        listening(protocol, table).map(show).collect()
    }

    #[test]
    fn listeners_are_told_from_connections() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
            \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n\
            \x20  1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n\
            \x20  2: 0A020002:0016 0100000A:C350 01 00000000:00000000 00:00000000 00000000\n";
        assert_eq!(found(Protocol::Tcp, tcp), ["127.0.0.1:8080", "0.0.0.0:80"]);
        let tcp6 = "   0: 00000000000000000000000001000000:0016 \
            00000000000000000000000000000000:0000 0A 0:0\n\
            \x20  1: 00000000000000000000000000000000:0050 \
            00000000000000000000000000000000:0000 0A 0:0\n\
            \x20  2: 0000000000000000FFFF00000100007F:0051 \
            00000000000000000000000000000000:0000 0A 0:0\n";
        assert_eq!(found(Protocol::Tcp, tcp6), ["[::1]:22", "[::]:80", "127.0.0.1:81"]);
        let udp = "  10: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000\n\
            \x20 11: 0A020002:0036 0100000A:C350 01 00000000:00000000 00:00000000 00000000\n";
        assert_eq!(found(Protocol::Udp, udp), ["0.0.0.0:53"]);
    }

    #[test]
    fn what_is_no_table_has_no_ports() {
        for text in ["", "\n\n", "a b", "0: zz:50 0:0 0A", "0: 00000000:xx 0:0 0A", "0: é:1 0:0 0A"]
        {
            assert_eq!(listening(Protocol::Tcp, text).count(), 0, "{text}");
        }
    }
}

#[cfg(test)]
mod bound {
    //! What is bound for tables that a test has written.

    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;
    use crate::config::Network;
    use crate::engine::Engine;
    use crate::io::host::Sockets;
    use crate::io::outbound::OutboundPolicy;
    use crate::testing;

    struct Lab {
        mirrors: Mirrors,
        published: PublishedPorts,
        engine: Engine,
        sockets: Sockets,
        now: Instant,
    }

    impl Lab {
        /// Somebody listens on these ports in the container.
        fn new(ports: impl Iterator<Item = u16>, bind: Option<IpAddr>) -> Self {
            drop(crate::sys::link::bring_up("lo"));
            let directory = testing::scratch("mirror");
            let path = directory.join("tcp");
            let mut table = File::create(&path).unwrap();
            for port in ports {
                writeln!(table, " 0: 00000000:{port:04X} 00000000:0000 0A").unwrap();
            }
            let table = File::open(&path).unwrap();
            std::fs::remove_dir_all(directory).unwrap();
            let rule = Mirror {
                protocol: Protocol::Tcp,
                bind,
                interface: None,
                include: vec![1..=u16::MAX],
                exclude: Vec::new(),
                freebind: false,
            };
            let tables = (vec![rule], vec![(Protocol::Tcp, table)]);
            let registry = mio::Poll::new().unwrap().registry().try_clone().unwrap();
            Self {
                mirrors: Mirrors::new(tables, true, Vec::new(), Instant::ZERO),
                published: PublishedPorts::default(),
                engine: Engine::new(Network::default(), [1, 2, 3, 4]),
                sockets: Sockets::new(registry, 100, OutboundPolicy::default()),
                now: Instant::ZERO,
            }
        }

        /// What is bound after another look.
        fn look(&mut self) -> Vec<std::net::SocketAddr> {
            self.now = self.mirrors.poll_timeout().unwrap();
            let mut place = Place { engine: &mut self.engine, sockets: &mut self.sockets };
            let published = &mut self.published;
            self.mirrors.handle_timeout(published, &mut place, None, |_| false, self.now);
            let rules = self.published.iter();
            rules.flat_map(|rule| rule.bound().map(|b| b.address).collect::<Vec<_>>()).collect()
        }
    }

    #[test]
    fn a_container_cannot_have_all_descriptors_by_listening() {
        let mut lab = Lab::new(30_000..30_010, Some(testing::loopback().into()));
        lab.sockets.keep_reserve(4);
        assert_eq!(lab.look(), []);
        lab.sockets.keep_reserve(usize::MAX);
        assert_eq!(lab.look().len(), 10);
    }

    #[test]
    fn a_container_cannot_have_ports_without_end() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let wanted = 8192;
        if hard < wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
            return;
        }
        let mut lab = Lab::new(20_000..26_000, Some(testing::loopback().into()));
        for _ in 0..2 {
            assert_eq!(lab.look().len(), 4096);
        }
    }

    #[test]
    fn what_could_not_be_bound_is_tried_again() {
        let at = testing::address();
        let (other, port) = (TcpListener::bind(at).unwrap(), at.port());
        let [v4, v6] = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()]
            .map(|ip| std::net::SocketAddr::new(ip, port));
        if crate::sys::sock::tcp_listen(v6, false).is_err() {
            return;
        }
        let mut lab = Lab::new(std::iter::once(port), None);
        testing::until("one is bound", || (lab.look() == [v6]).then_some(()));
        drop(other);
        testing::until("both are bound", || (lab.look() == [v6, v4]).then_some(()));
        assert_eq!(lab.look(), [v6, v4]);
    }
}
