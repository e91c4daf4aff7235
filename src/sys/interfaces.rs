//! Which interface has which address, now: a copy of the kernel's tables that follows by
//! rtnetlink(7).
//!
//! The socket is opened while the process may still open such sockets; the tables are read, and
//! changes listened to, from the first question on, so that who asks nothing is told nothing. It
//! sends two kinds of request, both to list. Read first: rtnetlink(7) on `RTMGRP_LINK` and
//! `RTMGRP_IPV4_IFADDR`, netlink(7) on `ENOBUFS`.

use std::io;
use std::mem::take;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    socket,
};

use super::link::{
    self, IFA_ADDRESS, IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_FLAGS, IFA_LOCAL, IFADDRMSG_LEN,
    IFINFOMSG_LEN, IFLA_IFNAME, INT_LEN, Message,
};
use crate::sorted::{SortedMap, SortedSet};

/// The host's interfaces and their addresses.
#[derive(Debug)]
pub struct Interfaces {
    socket: OwnedFd,
    follows: bool,
    names: SortedMap<u32, String>,
    /// Those that are up and lead to a network on which everybody can be spoken to.
    lans: SortedSet<u32>,
    /// By the interface's index; tentative addresses are not among them.
    addresses: SortedSet<(u32, IpAddr)>,
}

impl Interfaces {
    /// Opens the socket, and asks nothing yet.
    ///
    /// # Errors
    /// What socket(2) reports, for example where a sandbox around us forbids the family.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        // A connected socket takes no messages but the kernel's.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self {
            socket,
            follows: false,
            names: SortedMap::new(),
            lans: SortedSet::default(),
            addresses: SortedSet::default(),
        })
    }

    /// Readable once something has changed: call [`Interfaces::changed`] then.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Reads the tables and listens to changes from now on, unless it does already.
    ///
    /// # Errors
    /// What netlink(7) reports.
    pub fn follow(&mut self) -> io::Result<()> {
        if self.follows {
            return Ok(());
        }
        // Before the tables are read, so that no change falls between.
        for group in [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR] {
            self.join(group)?;
        }
        self.read_tables()?;
        self.follows = true;
        Ok(())
    }

    /// Takes note of what has changed; returns whether anything has.
    pub fn changed(&mut self) -> bool {
        let before = (self.names.clone(), self.lans.clone(), self.addresses.clone());
        loop {
            match self.receive() {
                Ok(datagram) => drop(self.apply(&datagram)),
                Err(Errno::EINTR) => {}
                // More was to be told than the socket could hold: ask for everything.
                Err(Errno::ENOBUFS) => {
                    if let Err(error) = self.read_tables() {
                        log::warn!("changes of the host's addresses go unnoticed: {error}");
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        before.0 != self.names || before.1 != self.lans || before.2 != self.addresses
    }

    /// The index of an interface.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<u32> {
        self.names.iter().find(|(_, known)| *known == name).map(|(index, _)| *index)
    }

    /// The addresses of an interface, in order.
    pub fn addresses(&self, index: u32) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter(move |(of, _)| *of == index).map(|(_, address)| *address)
    }

    /// The interfaces that lead to networks on which everybody can be spoken to, with their names.
    pub fn lans(&self) -> impl Iterator<Item = (u32, &str)> {
        let lans = self.names.iter().filter(|(index, _)| self.lans.contains(*index));
        lans.map(|(index, name)| (*index, name.as_str()))
    }

    /// Whether any interface has this address.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(_, known)| *known == address)
    }

    fn join(&self, group: libc::c_int) -> io::Result<()> {
        // SAFETY: the option reads one `int`, which outlives the call.
        let joined = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_NETLINK,
                NETLINK_ADD_MEMBERSHIP,
                (&raw const group).cast(),
                INT_LEN,
            )
        };
        if joined < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads both tables anew. What was known before is known still where that fails: half of them
    /// would be half of the host's addresses gone.
    fn read_tables(&mut self) -> io::Result<()> {
        let before = (take(&mut self.names), take(&mut self.lans), take(&mut self.addresses));
        let read = self.dump(libc::RTM_GETLINK).and_then(|()| self.dump(libc::RTM_GETADDR));
        if read.is_err() {
            (self.names, self.lans, self.addresses) = before;
        }
        read
    }

    fn dump(&mut self, kind: u16) -> io::Result<()> {
        send(self.socket.as_raw_fd(), &link::dump_request(kind)?, MsgFlags::empty())?;
        for _ in 0..MOST_DATAGRAMS {
            match self.receive() {
                // The kernel has the next part ready whenever it is asked for.
                Ok(datagram) => {
                    if self.apply(&datagram)? {
                        return Ok(());
                    }
                }
                // Changes beside the list: what they were about, the list tells.
                Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn receive(&self) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; REPLY_LEN];
        let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        buffer.truncate(len);
        Ok(buffer)
    }

    /// Takes a datagram in; returns whether it ends a list.
    fn apply(&mut self, datagram: &[u8]) -> io::Result<bool> {
        for message in link::messages(datagram) {
            let message = message?;
            match i32::from(message.kind) {
                libc::NLMSG_DONE => return Ok(true),
                libc::NLMSG_ERROR => {
                    link::verdict(&message).map_err(|(_, source)| source)?;
                }
                _ => self.apply_one(&message),
            }
        }
        Ok(false)
    }

    fn apply_one(&mut self, message: &Message<'_>) {
        match message.kind {
            libc::RTM_NEWLINK => {
                if let Some((index, Some(name))) = link_of(message) {
                    self.names.insert(index, name);
                    if is_lan(message) {
                        self.lans.insert(index);
                    } else {
                        self.lans.remove(&index);
                    }
                }
            }
            libc::RTM_DELLINK => {
                if let Some((index, _)) = link_of(message) {
                    self.names.remove(&index);
                    self.lans.remove(&index);
                    self.addresses.retain(|(of, _)| *of != index);
                }
            }
            libc::RTM_NEWADDR => {
                if let Some((index, address, usable)) = address_of(message) {
                    if usable {
                        self.addresses.insert((index, address));
                    } else {
                        self.addresses.remove(&(index, address));
                    }
                }
            }
            libc::RTM_DELADDR => {
                if let Some((index, address, _)) = address_of(message) {
                    self.addresses.remove(&(index, address));
                }
            }
            _ => {}
        }
    }
}

/// Index and name in a message about a link. Messages of other families are about something else,
/// such as a bridge's ports.
fn link_of(message: &Message<'_>) -> Option<(u32, Option<String>)> {
    let header = message.payload.get(..IFINFOMSG_LEN)?;
    if i32::from(*header.first()?) != libc::AF_UNSPEC {
        return None;
    }
    let index = link::number(header.get(4..)?)?;
    let name = link::attributes(message.payload.get(IFINFOMSG_LEN..)?)
        .find(|(kind, _)| *kind == IFLA_IFNAME)
        .map(|(_, value)| link::text(value));
    Some((index, name))
}

/// Whether an interface is up and takes multicast, and is neither the loopback nor a tunnel nor a port
/// of a bridge or bond, which speaks for it: `struct ifinfomsg`.
fn is_lan(message: &Message<'_>) -> bool {
    let flags = message.payload.get(8..).and_then(link::number).unwrap_or(0).cast_signed();
    let wanted = libc::IFF_UP | libc::IFF_MULTICAST;
    let rest = message.payload.get(IFINFOMSG_LEN..).unwrap_or_default();
    flags & (wanted | libc::IFF_LOOPBACK | libc::IFF_POINTOPOINT) == wanted
        && link::attributes(rest).all(|(kind, _)| kind != libc::IFLA_MASTER)
}

/// Index, address, and whether sockets may have it, in a message about an address.
fn address_of(message: &Message<'_>) -> Option<(u32, IpAddr, bool)> {
    let &[_, _, short_flags, _, a, b, c, d] = message.payload.first_chunk::<IFADDRMSG_LEN>()?;
    let (mut local, mut address, mut flags) = (None, None, u32::from(short_flags));
    for (kind, value) in link::attributes(message.payload.get(IFADDRMSG_LEN..)?) {
        match kind {
            IFA_LOCAL => local = Some(value),
            IFA_ADDRESS => address = Some(value),
            IFA_FLAGS => flags = link::number(value).unwrap_or(flags),
            _ => {}
        }
    }
    // On a link with a peer the address is the peer's, and ours is the local one.
    let address = link::ip(local.or(address)?)?;
    let tentative = flags & IFA_F_TENTATIVE != 0 && flags & IFA_F_OPTIMISTIC == 0;
    let usable = !tentative && flags & IFA_F_DADFAILED == 0;
    Some((u32::from_ne_bytes([a, b, c, d]), address, usable))
}

/// Most datagrams of one list: beyond any machine's, so that nothing can hold us for ever.
const MOST_DATAGRAMS: usize = 65_536;

/// Enough for one datagram of a list: the kernel fills at most 32 KiB.
const REPLY_LEN: usize = 32 * 1024;

// linux/netlink.h, linux/rtnetlink.h and linux/if_addr.h, where libc lacks them and `link` has no use
// for them.
const NETLINK_ADD_MEMBERSHIP: libc::c_int = 1;
const RTNLGRP_LINK: libc::c_int = 1;
const RTNLGRP_IPV4_IFADDR: libc::c_int = 5;
const RTNLGRP_IPV6_IFADDR: libc::c_int = 9;
const IFA_F_OPTIMISTIC: u32 = 0x04;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn empty() -> Interfaces {
        Interfaces::open().unwrap()
    }

    /// A message about an address of interface 7.
    fn about(kind: u16, flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let family = if attributes.iter().any(|(_, value)| value.len() == 16) { 10 } else { 2 };
        let [a, b, c, d] = 7_u32.to_ne_bytes();
        let header = [family, 24, 0, 0, a, b, c, d];
        let flags = flags.to_ne_bytes();
        let mut all = attributes.to_vec();
        all.push((IFA_FLAGS, &flags));
        link::message_for_tests(kind, &header, &all)
    }

    #[test]
    fn loopback_is_found_with_its_address() {
        drop(link::bring_up("lo"));
        let mut interfaces = empty();
        interfaces.follow().unwrap();
        let lo = interfaces.index("lo").unwrap();
        assert!(interfaces.addresses(lo).any(|ip| ip == IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(interfaces.index("no-such-link"), None);
        assert!(!interfaces.changed());
    }

    #[test]
    fn addresses_come_and_go() {
        let mut interfaces = empty();
        let ours: IpAddr = "192.0.2.1".parse().unwrap();
        let attributes: [(u16, &[u8]); 2] =
            [(IFA_ADDRESS, &[192, 0, 2, 2]), (IFA_LOCAL, &[192, 0, 2, 1])];
        interfaces.apply(&about(libc::RTM_NEWADDR, 0, &attributes)).unwrap();
        assert_eq!(interfaces.addresses(7).collect::<Vec<_>>(), [ours]);
        assert_eq!(interfaces.addresses(8).count(), 0);
        interfaces.apply(&about(libc::RTM_DELADDR, 0, &attributes)).unwrap();
        assert_eq!(interfaces.addresses(7).count(), 0);
    }

    #[test]
    fn local_networks_are_told_from_other_interfaces() {
        let mut interfaces = empty();
        let lan = libc::IFF_UP | libc::IFF_MULTICAST | libc::IFF_BROADCAST;
        for (flags, is_lan) in [
            (lan, true),
            (lan & !libc::IFF_UP, false),
            (lan, true),
            (lan & !libc::IFF_MULTICAST, false),
            (lan | libc::IFF_POINTOPOINT, false),
            (lan | libc::IFF_LOOPBACK, false),
        ] {
            let mut header = [0; IFINFOMSG_LEN];
            header[8..12].copy_from_slice(&flags.to_ne_bytes());
            header[4..8].copy_from_slice(&7_u32.to_ne_bytes());
            let name: [(u16, &[u8]); 1] = [(IFLA_IFNAME, b"eth0\0")];
            let message = |kind| link::message_for_tests(kind, &header, &name);
            interfaces.apply(&message(libc::RTM_NEWLINK)).unwrap();
            let lans: Vec<_> = interfaces.lans().collect();
            assert_eq!(lans, if is_lan { vec![(7, "eth0")] } else { Vec::new() }, "{flags:#x}");
        }
        // A bridge's port has an address of IPv6, but what comes there is the bridge's.
        let mut header = [0; IFINFOMSG_LEN];
        header[8..12].copy_from_slice(&lan.to_ne_bytes());
        header[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        let master = 3_u32.to_ne_bytes();
        let both: [(u16, &[u8]); 2] = [(IFLA_IFNAME, b"eth0\0"), (libc::IFLA_MASTER, &master)];
        for (attributes, lans) in [(&both[..1], 1), (&both[..], 0), (&both[..1], 1)] {
            let message = link::message_for_tests(libc::RTM_NEWLINK, &header, attributes);
            interfaces.apply(&message).unwrap();
            assert_eq!(interfaces.lans().count(), lans, "{attributes:?}");
        }
    }

    #[test]
    fn tables_that_cannot_be_read_again_stay_as_they_were() {
        let mut interfaces = empty();
        let attributes: [(u16, &[u8]); 1] = [(IFA_LOCAL, &[192, 0, 2, 1])];
        interfaces.apply(&about(libc::RTM_NEWADDR, 0, &attributes)).unwrap();
        // Nobody answers there.
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        drop(theirs);
        interfaces.socket = ours.into();
        interfaces.read_tables().unwrap_err();
        assert_eq!(interfaces.addresses(7).count(), 1);
    }

    #[test]
    fn an_address_that_is_being_checked_is_none_yet() {
        let mut interfaces = empty();
        let octets = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        let attributes: [(u16, &[u8]); 1] = [(IFA_ADDRESS, &octets)];
        for (flags, usable) in [
            (IFA_F_TENTATIVE, 0),
            (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC, 1),
            (0, 1),
            (IFA_F_DADFAILED | IFA_F_TENTATIVE, 0),
        ] {
            interfaces.apply(&about(libc::RTM_NEWADDR, flags, &attributes)).unwrap();
            assert_eq!(interfaces.addresses(7).count(), usable, "{flags:#x}");
        }
    }

    #[test]
    fn malformed_messages_change_nothing() {
        let mut interfaces = empty();
        for payload in [&[][..], &[2, 24], &[2, 24, 0, 0, 7, 0, 0, 0], &[9; 12]] {
            for kind in [libc::RTM_NEWADDR, libc::RTM_NEWLINK, libc::RTM_DELLINK] {
                interfaces.apply(&link::message_for_tests(kind, payload, &[])).unwrap();
            }
        }
        assert_eq!(interfaces.addresses.iter().next(), None);
        assert!(interfaces.apply(&[1, 2, 3]).is_err());
    }
}
