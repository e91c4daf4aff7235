//! Network interfaces by rtnetlink(7), written by hand: four kinds of request and three dumps.
//!
//! Everything acts on the network namespace of the calling process. Owns the encoding of the
//! messages and the reading of the kernel's verdict, with its own words where it gives some
//! (`NLMSGERR_ATTR_MSG`). It makes no interface and decides no address. Read first: netlink(7),
//! rtnetlink(7), Documentation/userspace-api/netlink/intro.rst.

mod prefixes;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    socket,
};

use crate::config::{LinkRoute, MacAddress, Mtu};

pub use prefixes::{DefaultRoute, default_routes, prefixes_in_use};

/// What an interface is to be.
#[derive(Debug, Clone, Copy)]
pub struct LinkConfig<'a> {
    /// The interface, which must exist.
    pub ifname: &'a str,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its MTU.
    pub mtu: Mtu,
    /// How many packets its queue holds.
    pub tx_queue_len: u32,
    /// Free text that `ip link` shows (`IFLA_IFALIAS`).
    pub alias: &'a str,
    /// Addresses with their prefix lengths in bits.
    pub addresses: &'a [(IpAddr, u8)],
    /// Routes, in an order in which each gateway is reachable before it is used.
    pub routes: &'a [LinkRoute],
    /// Whether addresses and routes may be there already.
    pub again: bool,
}

/// What [`configure`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configured {
    /// Whether the IPv6 addresses and routes were set; false where the namespace has no IPv6.
    pub ipv6: bool,
}

/// A step that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}{}", in_parentheses(.reason.as_deref()))]
pub struct LinkError {
    step: String,
    /// The kernel's own words.
    reason: Option<String>,
    source: io::Error,
}

impl LinkError {
    /// The error of the system call.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

/// Gives an interface its hardware address, MTU, queue length and alias, brings it up, and adds
/// addresses and routes. IPv6 addresses skip duplicate address detection: there is nobody
/// else on the link, and a second's wait would be lost. Routers are not listened to, so that no
/// advertisement adds an address.
///
/// # Errors
/// The first step that the kernel refuses.
pub fn configure(config: &LinkConfig<'_>) -> Result<Configured, LinkError> {
    let name = config.ifname;
    let index = index_of(name)?;
    let mut netlink = Netlink::open()?;
    let mtu = u32::from(config.mtu.get());
    for (kind, value, what) in [
        (IFLA_ADDRESS, &config.mac.0[..], "the hardware address"),
        (IFLA_MTU, &mtu.to_ne_bytes()[..], "the MTU"),
        (IFLA_TXQLEN, &config.tx_queue_len.to_ne_bytes()[..], "the queue length"),
        (IFLA_IFALIAS, config.alias.as_bytes(), "the alias"),
    ] {
        let request = Request::set_link(index, 0).attribute(kind, value);
        netlink.change(request, || format!("set {what} of {name}"))?;
    }
    let ipv6 = has_ipv6(name);
    if ipv6 {
        // Best effort: /proc/sys may be read-only in a container that runs containers, whose kernel
        // then takes what the gateway advertises to all who ask.
        drop(fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0"));
    }
    netlink.bring_up(name, index)?;
    let usable = |address: &IpAddr| ipv6 || address.is_ipv4();
    // Beside another address, one that is good on the link alone is nobody's source elsewhere.
    let on_link = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.is_link_local());
    let routed = config.addresses.iter().any(|(ip, _)| ip.is_ipv4() && !on_link(*ip));
    let scope = |address| {
        if routed && on_link(address) { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE }
    };
    for (address, prefix_len) in config.addresses.iter().filter(|(address, _)| usable(address)) {
        let request = Request::add_address(index, *address, *prefix_len, scope(*address));
        netlink.add(request, config.again, || {
            format!("add address {address}/{prefix_len} to {name}")
        })?;
    }
    for route in config.routes.iter().filter(|route| usable(&route.destination)) {
        netlink.add(Request::add_route(index, route), config.again, || {
            format!("add {route} on {name}")
        })?;
    }
    Ok(Configured { ipv6 })
}

/// Brings an interface up.
///
/// # Errors
/// No such interface, or what the kernel refuses.
pub fn bring_up(ifname: &str) -> Result<(), LinkError> {
    let index = index_of(ifname)?;
    Netlink::open()?.bring_up(ifname, index)
}

/// The name and the alias of the first interface whose alias starts with `prefix`.
///
/// # Errors
/// What netlink(7) reports.
pub fn find_alias(prefix: &str) -> io::Result<Option<(String, String)>> {
    let found = dump(Request::dump_links(), |message| aliased(message, prefix))?;
    Ok(found.into_iter().next())
}

/// Sends a request for a dump, and keeps of each message in the answer what `read` makes of it.
pub(super) fn dump<T>(
    request: Request,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut netlink = Netlink::open().map_err(|error| error.source)?;
    let mut found = Vec::new();
    netlink.dump(request, |message| found.extend(read(message)))?;
    Ok(found)
}

/// The request for a list of everything of one kind, such as `RTM_GETADDR`.
pub(super) fn dump_request(kind: u16) -> io::Result<Vec<u8>> {
    Request::new(kind, libc::NLM_F_DUMP, &ifinfomsg(0, 0)).finish()
}

/// Whether an interface of this name exists.
#[must_use]
pub fn exists(ifname: &str) -> bool {
    if_nametoindex(ifname).is_ok()
}

/// A route socket that talks to the kernel and to nobody else.
struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    fn open() -> Result<Self, LinkError> {
        let open = || -> io::Result<OwnedFd> {
            let protocol = SockProtocol::NetlinkRoute;
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            // A connected socket takes no messages from others, such as the container's root.
            connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            // Kernels before 4.12 have no words of their own to offer.
            for option in [NETLINK_CAP_ACK, NETLINK_EXT_ACK] {
                let on: libc::c_int = 1;
                // SAFETY: both options read one `int`, which outlives the call.
                unsafe {
                    libc::setsockopt(
                        socket.as_raw_fd(),
                        libc::SOL_NETLINK,
                        option,
                        (&raw const on).cast(),
                        INT_LEN,
                    )
                };
            }
            Ok(socket)
        };
        open().map(|socket| Self { socket }).map_err(|source| LinkError {
            step: "open a netlink socket".into(),
            reason: None,
            source,
        })
    }

    fn bring_up(&mut self, name: &str, index: u32) -> Result<(), LinkError> {
        self.change(Request::set_link(index, IFF_UP), || format!("bring {name} up"))
    }

    /// As [`Netlink::change`]; what is there already is no failure if it may be there `again`.
    fn add(
        &mut self,
        request: Request,
        again: bool,
        step: impl Fn() -> String,
    ) -> Result<(), LinkError> {
        match self.change(request, step) {
            Err(error) if again && error.errno() == libc::EEXIST => Ok(()),
            other => other,
        }
    }

    /// Sends a request for a change and waits for the kernel's verdict.
    fn change(&mut self, request: Request, step: impl Fn() -> String) -> Result<(), LinkError> {
        let failed = |(reason, source)| LinkError { step: step(), reason, source };
        self.send(request).map_err(|source| failed((None, source)))?;
        loop {
            let reply = self.receive().map_err(|source| failed((None, source)))?;
            for message in messages(&reply) {
                let message = message.map_err(|source| failed((None, source)))?;
                if i32::from(message.kind) == libc::NLMSG_ERROR {
                    return verdict(&message).map_err(failed);
                }
            }
        }
    }

    /// Sends a request for a list and hands each of its entries to `each`.
    fn dump(&mut self, request: Request, mut each: impl FnMut(&Message<'_>)) -> io::Result<()> {
        self.send(request)?;
        loop {
            let reply = self.receive()?;
            for message in messages(&reply) {
                let message = message?;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => verdict(&message).map_err(|(_, source)| source)?,
                    _ => each(&message),
                }
            }
        }
    }

    fn send(&mut self, request: Request) -> io::Result<()> {
        send(self.socket.as_raw_fd(), &request.finish()?, MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; REPLY_LEN];
        // MSG_TRUNC returns the message's real length.
        let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC)?;
        if len == 0 || len > buffer.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        buffer.truncate(len);
        Ok(buffer)
    }
}

/// A message from the kernel.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    flags: u16,
    /// What follows `struct nlmsghdr`.
    pub(super) payload: &'a [u8],
}

/// A message under construction: `struct nlmsghdr`, a family's own header, attributes.
pub(super) struct Request(Vec<u8>);

impl Request {
    pub(super) fn new(kind: u16, flags: i32, header: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or_default();
        let mut message = vec![0; 4]; // the length, known at the end
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&[0; 8]); // sequence number and port: one request at a time
        message.extend_from_slice(header);
        Self(message)
    }

    /// RTM_NEWLINK for an interface that exists; `flags` are set and no others touched.
    fn set_link(index: u32, flags: u32) -> Self {
        Self::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &ifinfomsg(index, flags))
    }

    pub(super) fn dump_links() -> Self {
        Self::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &ifinfomsg(0, 0))
    }

    pub(super) fn dump_routes() -> Self {
        Self::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &[0; RTMSG_LEN])
    }

    fn add_address(index: u32, address: IpAddr, prefix_len: u8, scope: u8) -> Self {
        let (family, octets) = octets(address);
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let [a, b, c, d] = index.to_ne_bytes();
        let header = [family, prefix_len, flags, scope, a, b, c, d];
        let request = Self::new(libc::RTM_NEWADDR, CREATE, &header)
            .attribute(IFA_LOCAL, &octets)
            .attribute(IFA_ADDRESS, &octets);
        match (address, u32::MAX.checked_shr(prefix_len.into())) {
            // RFC 3021: a /31 has no broadcast address, nor has a /32.
            (IpAddr::V4(address), Some(host_bits)) if prefix_len < 31 => {
                request.attribute(IFA_BROADCAST, &(address.to_bits() | host_bits).to_be_bytes())
            }
            _ => request,
        }
    }

    fn add_route(index: u32, route: &LinkRoute) -> Self {
        let (family, destination) = octets(route.destination);
        let scope = match (route.gateway, route.destination) {
            (None, IpAddr::V4(_)) => libc::RT_SCOPE_LINK,
            _ => libc::RT_SCOPE_UNIVERSE,
        };
        let flags: u32 = if route.on_link { RTNH_F_ONLINK } else { 0 };
        let [a, b, c, d] = flags.to_ne_bytes();
        let header = [
            family,
            route.prefix_len,
            0, // source and type of service: any
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            scope,
            libc::RTN_UNICAST,
            a,
            b,
            c,
            d,
        ];
        let mut request = Self::new(libc::RTM_NEWROUTE, CREATE, &header)
            .attribute(libc::RTA_OIF, &index.to_ne_bytes());
        if route.prefix_len > 0 {
            request = request.attribute(libc::RTA_DST, &destination);
        }
        if let Some(gateway) = route.gateway {
            request = request.attribute(libc::RTA_GATEWAY, &octets(gateway).1);
        }
        match route.metric {
            Some(metric) => request.attribute(libc::RTA_PRIORITY, &metric.to_ne_bytes()),
            None => request,
        }
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // Callers pass addresses, numbers and the alias, all shorter than 64 KiB.
        let len = u16::try_from(ATTRIBUTE_HEADER_LEN + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        let len = u32::try_from(self.0.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        Ok(self.0)
    }
}

/// `struct ifinfomsg`.
fn ifinfomsg(index: u32, flags: u32) -> [u8; IFINFOMSG_LEN] {
    let mut header = [0; IFINFOMSG_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes()); // which flags change
    header
}

/// Name and alias of the link in a reply to RTM_GETLINK, if the alias starts with `prefix`.
fn aliased(message: &Message<'_>, prefix: &str) -> Option<(String, String)> {
    let find = |wanted| {
        attributes(message.payload.get(IFINFOMSG_LEN..)?)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| text(value))
    };
    let alias = find(IFLA_IFALIAS).filter(|alias| alias.starts_with(prefix))?;
    Some((find(IFLA_IFNAME)?, alias))
}

/// The address in an attribute.
pub(super) fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// The number in an attribute, or at the head of what is left of a message.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_ne_bytes)
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    }
}

/// The number of an interface.
///
/// # Errors
/// No such interface.
pub fn index_of(ifname: &str) -> Result<u32, LinkError> {
    if_nametoindex(ifname).map_err(|errno| LinkError {
        step: format!("find the interface {ifname}"),
        reason: None,
        source: errno.into(),
    })
}

/// Whether the namespace has IPv6, and has it enabled for this interface.
fn has_ipv6(ifname: &str) -> bool {
    match fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6")) {
        Ok(disabled) => disabled.trim() == "0",
        Err(_) => false,
    }
}

/// The messages in a datagram.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = io::Result<Message<'_>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = split_message(datagram);
        datagram = message.as_ref().map_or(&[], |(_, rest)| rest);
        Some(message.map(|(message, _)| message).ok_or_else(|| io::ErrorKind::InvalidData.into()))
    })
}

/// The first message of a datagram and what follows it.
fn split_message(datagram: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let len = usize::try_from(u32::from_ne_bytes(*datagram.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*datagram.get(6..)?.first_chunk()?);
    let payload = datagram.get(MESSAGE_HEADER_LEN..len)?;
    Some((Message { kind, flags, payload }, datagram.get(align(len)..).unwrap_or_default()))
}

/// The attributes in a message: type and value. Stops at the first malformed one.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(ATTRIBUTE_HEADER_LEN..len)?;
        bytes = bytes.get(align(len)..).unwrap_or_default();
        Some((kind & ATTRIBUTE_TYPE_MASK, value))
    })
}

/// Reads `struct nlmsgerr`: success, or the kernel's words and its error number.
pub(super) fn verdict(message: &Message<'_>) -> Result<(), (Option<String>, io::Error)> {
    let payload = message.payload;
    let Some(code) = payload.first_chunk().map(|code| i32::from_ne_bytes(*code)) else {
        return Err((None, io::ErrorKind::InvalidData.into()));
    };
    if code == 0 {
        return Ok(());
    }
    // After the code comes the request, of which only the header where the kernel cut it, and
    // then the attributes.
    let reason = || {
        let request = payload.get(4..)?;
        let len = if message.flags & NLM_F_CAPPED == 0 {
            align(usize::try_from(u32::from_ne_bytes(*request.first_chunk()?)).ok()?)
        } else {
            MESSAGE_HEADER_LEN
        };
        attributes(request.get(len..)?)
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map(|(_, value)| text(value))
    };
    let reason = if message.flags & NLM_F_ACK_TLVS == 0 { None } else { reason() };
    Err((reason, io::Error::from_raw_os_error(code.saturating_neg())))
}

/// A string attribute without its NUL.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn in_parentheses(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}

/// Netlink aligns messages and attributes to 4 bytes.
const fn align(len: usize) -> usize {
    (len + 3) & !3
}

/// A change that is acknowledged and must not meet what it would make.
const CREATE: i32 = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// `sizeof(int)` as setsockopt(2) wants it.
pub(super) const INT_LEN: libc::socklen_t = 4;

/// Enough for one datagram of a dump: the kernel fills at most 32 KiB.
const REPLY_LEN: usize = 64 * 1024;

// The sizes and numbers of linux/netlink.h, linux/if_link.h and linux/if_addr.h that libc lacks.
const MESSAGE_HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
pub(super) const IFINFOMSG_LEN: usize = 16;
pub(super) const IFADDRMSG_LEN: usize = 8;
pub(super) const RTMSG_LEN: usize = 12;
/// The two top bits of an attribute's type are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;
const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_IFALIAS: u16 = 20;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
pub(super) const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u8 = 2;
pub(super) const IFA_F_DADFAILED: u32 = 0x08;
pub(super) const IFA_F_TENTATIVE: u32 = 0x40;
pub(super) const RTNH_F_ONLINK: u32 = 4;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

#[cfg(test)]
pub(super) fn message_for_tests(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let message = Request::new(kind, 0, header);
    let add = |message: Request, (kind, value): &(u16, &[u8])| message.attribute(*kind, value);
    attributes.iter().fold(message, add).finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_length_and_padded_attributes() {
        let bytes =
            Request::set_link(7, IFF_UP).attribute(IFLA_IFALIAS, b"abcde").finish().unwrap();
        let (message, rest) = split_message(&bytes).unwrap();
        assert_eq!(bytes.len(), 16 + 16 + 4 + 8);
        assert_eq!(usize::try_from(u32::from_ne_bytes(*bytes.first_chunk().unwrap())), Ok(44));
        assert_eq!((message.kind, rest.len()), (libc::RTM_NEWLINK, 0));
        let attributes: Vec<_> = attributes(&message.payload[IFINFOMSG_LEN..]).collect();
        assert_eq!(attributes, [(IFLA_IFALIAS, &b"abcde"[..])]);
    }

    #[test]
    fn an_ipv4_address_has_a_broadcast_address_up_to_30_bits() {
        let broadcast = |address: &str, prefix_len| {
            let bytes = Request::add_address(1, address.parse().unwrap(), prefix_len, 0).0;
            attributes(&bytes[16 + 8..])
                .find(|(kind, _)| *kind == IFA_BROADCAST)
                .map(|(_, value)| value.to_vec())
        };
        assert_eq!(broadcast("10.0.2.100", 24), Some(vec![10, 0, 2, 255]));
        assert_eq!(broadcast("10.0.2.1", 30), Some(vec![10, 0, 2, 3]));
        assert_eq!(broadcast("10.0.2.1", 0), Some(vec![255; 4]));
        assert_eq!(broadcast("10.0.2.1", 31), None);
        assert_eq!(broadcast("10.0.2.1", 32), None);
        assert_eq!(broadcast("fd00::1", 64), None);
    }

    /// A reply as the kernel writes it: `struct nlmsghdr`, the code, the request, the attributes.
    fn error_reply(code: i32, flags: u16, request: &[u8], reason: Option<&[u8]>) -> Vec<u8> {
        let mut reply = Request::new(2, 0, &code.to_ne_bytes());
        reply.0.extend_from_slice(request);
        if let Some(reason) = reason {
            reply = reply.attribute(NLMSGERR_ATTR_MSG, reason);
        }
        reply.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        reply.finish().unwrap()
    }

    #[test]
    fn the_kernels_words_are_found_in_both_layouts() {
        let request = Request::add_address(1, "10.0.0.1".parse().unwrap(), 24, 0).finish().unwrap();
        for (flags, repeated) in [
            (NLM_F_ACK_TLVS, &request[..]),
            (NLM_F_ACK_TLVS | NLM_F_CAPPED, &request[..MESSAGE_HEADER_LEN]),
        ] {
            let reply = error_reply(-libc::EINVAL, flags, repeated, Some(b"bad prefix\0"));
            let message = messages(&reply).next().unwrap().unwrap();
            let (reason, source) = verdict(&message).unwrap_err();
            assert_eq!(reason.as_deref(), Some("bad prefix"));
            assert_eq!(source.raw_os_error(), Some(libc::EINVAL));
        }
        let reply = error_reply(-libc::EPERM, 0, &request, None);
        let message = messages(&reply).next().unwrap().unwrap();
        assert_eq!(verdict(&message).unwrap_err().0, None);
        let reply = error_reply(0, 0, &request, None);
        assert!(verdict(&messages(&reply).next().unwrap().unwrap()).is_ok());
    }

    #[test]
    fn malformed_replies_are_errors_and_end() {
        for bytes in [&[1][..], &[0; 16], &[255; 16], &[17, 0, 0, 0, 2, 0, 0, 0]] {
            let all: Vec<_> = messages(bytes).collect();
            assert_eq!(all.len(), 1, "{bytes:?}");
            assert!(all[0].is_err(), "{bytes:?}");
        }
        assert_eq!(attributes(&[3, 0, 1, 0, 9]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 9]).count(), 0);
    }

    #[test]
    fn an_error_names_the_step_and_the_kernels_words() {
        let error = LinkError {
            step: "add address 10.0.2.100/24 to eth0".into(),
            reason: Some("address already assigned".into()),
            source: io::Error::from_raw_os_error(libc::EEXIST),
        };
        assert_eq!(
            error.to_string(),
            "cannot add address 10.0.2.100/24 to eth0 (address already assigned)"
        );
        assert_eq!(error.errno(), libc::EEXIST);
        let error = bring_up("no-such-link").unwrap_err();
        assert_eq!(error.to_string(), "cannot find the interface no-such-link");
    }

    #[test]
    fn links_can_be_listed_without_privileges() {
        assert!(exists("lo"));
        assert!(!exists("no-such-link"));
        assert_eq!(find_alias("no link has this alias").unwrap(), None);
    }
}
