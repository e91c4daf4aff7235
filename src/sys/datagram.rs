//! Datagrams of host sockets: sent and received with the ancillary data that goes with them, and
//! the errors that come back.
//!
//! Nothing here allocates but the queue of errors. It decides no destination. Read first: ip(7) on
//! `IP_PKTINFO`, `IP_MTU_DISCOVER` and `IP_RECVERR`, ipv6(7) and RFC 3542 (section 6).
//! Not here: making sockets ([`super::sock`]).

use std::io::{self, IoSliceMut};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, recvmsg,
    setsockopt, sockopt,
};

use super::sock::{STORAGE_LEN, from_kernel, to_std};

/// A datagram that [`recv_from`] has put into the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Its length in bytes; the buffer's length if it was longer and cut.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The local address it was sent to, where the socket was bound to none (see
    /// [`super::sock::udp_bind`]).
    pub to: Option<IpAddr>,
    /// The length of each but the last, where the kernel has put several datagrams of one sender
    /// together (`UDP_GRO`, Linux 5.0).
    pub segment: Option<usize>,
}

impl Datagram {
    /// The datagrams that were put together, of its bytes. An empty one is one; several are never
    /// empty.
    pub fn each<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let length = self.segment.unwrap_or(bytes.len()).max(1);
        let (first, rest) = bytes.split_at(length.min(bytes.len()));
        std::iter::once(first).chain(rest.chunks(length))
    }
}

/// One entry of a socket's error queue (`IP_RECVERR`, ip(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedError {
    /// Whom the datagram was for.
    pub to: SocketAddr,
    /// Who sent the ICMP error; `None` for the host's own kernel.
    pub by: Option<IpAddr>,
    /// Type of the ICMP or ICMPv6 error; 0 of the kernel's own.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// What it means as an error number.
    pub errno: i32,
    /// The path's MTU in bytes, where `errno` is `EMSGSIZE`.
    pub mtu: u32,
    /// How much of the datagram's payload is in the buffer.
    pub len: usize,
}

/// Takes one error from the queue of an unconnected socket, with the beginning of the datagram's
/// payload; a ping socket's begins with the ICMP header. `None` when there is none.
///
/// # Errors
/// What recvmsg(2) reports.
pub fn take_error(socket: BorrowedFd<'_>, payload: &mut [u8]) -> io::Result<Option<QueuedError>> {
    let mut iov = [IoSliceMut::new(payload)];
    // The address that the datagram was sent from comes along where it was asked for.
    let mut control =
        nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, libc::in6_pktinfo);
    let flags = MsgFlags::MSG_ERRQUEUE;
    let message =
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags) {
            Err(Errno::EAGAIN) => return Ok(None),
            other => other?,
        };
    let len = message.bytes;
    let Some(to) = message.address.as_ref().map(to_std).transpose()? else {
        return Ok(None);
    };
    let found = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, by) => {
            Some((error, by.map(|by| Ipv4Addr::from(by.sin_addr.s_addr.to_ne_bytes()).into())))
        }
        ControlMessageOwned::Ipv6RecvErr(error, by) => {
            Some((error, by.map(|by| Ipv6Addr::from(by.sin6_addr.s6_addr).into())))
        }
        _ => None,
    });
    Ok(found.map(|(error, by)| QueuedError {
        to,
        by: by.filter(|_| error.ee_origin != libc::SO_EE_ORIGIN_LOCAL),
        kind: error.ee_type,
        code: error.ee_code,
        errno: i32::try_from(error.ee_errno).unwrap_or(0),
        mtu: error.ee_info,
        len,
    }))
}

/// Sends one datagram to `to`, from the local address `from` where one is named.
///
/// # Errors
/// `WouldBlock` when the send buffer is full, `EMSGSIZE`, `ENETUNREACH`, `EINVAL` for an address
/// that is not local; `ECONNREFUSED` may be the answer to an earlier datagram. `InvalidInput` when
/// the two addresses are of different families.
pub fn send_to(
    socket: BorrowedFd<'_>,
    datagram: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    send_segments(socket, datagram, None, to, from)
}

/// Sends datagrams of `segment` bytes, the last of which may be shorter, to one peer (`UDP_SEGMENT`
/// of udp(7), Linux 4.18). Without `segment` it is one datagram.
///
/// # Errors
/// As [`send_to`]; `EINVAL` and `EIO` where the kernel or the way out cannot do it.
pub fn send_segments(
    socket: BorrowedFd<'_>,
    datagrams: &[u8],
    segment: Option<u16>,
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    let to = SockaddrStorage::from(to);
    let mut iov = libc::iovec {
        // sendmsg(2) only reads.
        iov_base: datagrams.as_ptr().cast_mut().cast(),
        iov_len: datagrams.len(),
    };
    let mut control = Control::new();
    // SAFETY: every field of `msghdr` is a number or a pointer, valid as zeros; some C libraries
    // have private padding fields, so it cannot be written out.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    match (from, to.family()) {
        (None, _) => {}
        (Some(IpAddr::V4(from)), Some(AddressFamily::Inet)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            control.put(&mut message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        (Some(IpAddr::V6(from)), Some(AddressFamily::Inet6)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                ipi6_ifindex: 0,
            };
            control.put(&mut message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        (Some(_), _) => return Err(io::ErrorKind::InvalidInput.into()),
    }
    if let Some(segment) = segment {
        control.put(&mut message, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
    }
    // SAFETY: name, iov and control point to live values of the lengths given.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    length(sent)
}

/// Receives one datagram into `buffer`.
///
/// # Errors
/// `WouldBlock` when none waits; on a connected socket `ECONNREFUSED` and the like for an earlier
/// datagram of ours.
pub fn recv_from(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control::new();
    // SAFETY: `sockaddr_storage` is numbers and bytes, valid as zeros.
    let mut from: libc::sockaddr_storage = unsafe { mem::zeroed() };
    // SAFETY: as in `send_to`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = STORAGE_LEN;
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    control.offer(&mut message);
    // SAFETY: name, iov and control point to live buffers of the lengths given.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let len = length(received)?;
    let from = from_kernel(&from, message.msg_namelen)?;
    let Extra { to, segment } = extra(&message);
    Ok(Datagram { len, from, to, segment })
}

/// Buffers for many datagrams of one system call, 64 KiB each; memory is used as far as they fill.
pub struct Batch {
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    iovs: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    buffers: Vec<u8>,
    /// How many are offered: twice what came last, so that who gets one pays for two.
    offered: usize,
}

impl Batch {
    /// Buffers for `count` datagrams.
    #[must_use]
    pub fn new(count: usize) -> Self {
        // SAFETY: `sockaddr_storage` is numbers and bytes, valid as zeros.
        let name: libc::sockaddr_storage = unsafe { mem::zeroed() };
        // SAFETY: `mmsghdr` is numbers and pointers, valid as zeros; some C libraries have private
        // padding fields.
        let message: libc::mmsghdr = unsafe { mem::zeroed() };
        Self {
            names: vec![name; count],
            controls: (0..count).map(|_| Control::new()).collect(),
            iovs: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; count],
            messages: vec![message; count],
            buffers: vec![0; count * MAX_DATAGRAM],
            offered: 2.min(count),
        }
    }

    /// Receives as many datagrams as wait and have room, at least one. Returns how many.
    ///
    /// # Errors
    /// As [`recv_from`].
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let parts = self
            .messages
            .iter_mut()
            .zip(&mut self.names)
            .zip(&mut self.controls)
            .zip(&mut self.iovs)
            .zip(self.buffers.chunks_exact_mut(MAX_DATAGRAM));
        for ((((message, name), control), iov), buffer) in parts.take(self.offered) {
            *iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            message.msg_hdr.msg_name = (&raw mut *name).cast();
            message.msg_hdr.msg_namelen = STORAGE_LEN;
            message.msg_hdr.msg_iov = &raw mut *iov;
            message.msg_hdr.msg_iovlen = 1;
            control.offer(&mut message.msg_hdr);
        }
        // SAFETY: as many messages as offered have just been given pointers to buffers of the
        // length beside them, which this value owns and nobody else uses. The call is made by
        // number because musl's 64-bit wrapper changes the array. There is no timeout.
        let received = unsafe {
            libc::syscall(
                libc::SYS_recvmmsg,
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.offered,
                0,
                std::ptr::null::<libc::timespec>(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        self.offered = (2 * received).clamp(2.min(self.messages.len()), self.messages.len());
        Ok(received)
    }

    /// One of the datagrams that [`Batch::receive`] has just received, with its bytes.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(Datagram, &[u8])> {
        let message = self.messages.get(index)?;
        let len = usize::try_from(message.msg_len).ok()?;
        let from = from_kernel(self.names.get(index)?, message.msg_hdr.msg_namelen).ok()?;
        let Extra { to, segment } = extra(&message.msg_hdr);
        let start = index * MAX_DATAGRAM;
        let bytes = self.buffers.get(start..start + len)?;
        Some((Datagram { len, from, to, segment }, bytes))
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("room", &self.messages.len()).finish_non_exhaustive()
    }
}

/// Sets the TTL or hop limit of everything sent from now on.
///
/// # Errors
/// `EINVAL` for an IPv4 TTL of 0.
pub fn set_hop_limit(socket: BorrowedFd<'_>, v6: bool, hops: u8) -> io::Result<()> {
    if v6 {
        setsockopt(&socket, sockopt::Ipv6Ttl, &i32::from(hops))?;
    } else {
        setsockopt(&socket, sockopt::Ipv4Ttl, &i32::from(hops))?;
    }
    Ok(())
}

/// Sets whether what is sent from now on may be cut into fragments (`IP_MTU_DISCOVER`). If not,
/// sending more than the path takes fails and queues an error that tells the path's MTU.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn set_dont_fragment(socket: BorrowedFd<'_>, v6: bool, dont: bool) -> io::Result<()> {
    let (level, name, value) = match (v6, dont) {
        (false, false) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_WANT),
        (false, true) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        (true, false) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_WANT),
        (true, true) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
    };
    set_int(socket, level, name, value)
}

/// Sets the type of service or traffic class of everything sent from now on.
///
/// # Errors
/// `EPERM` for a class that the kernel keeps to the privileged, on kernels that do.
pub fn set_traffic_class(socket: BorrowedFd<'_>, v6: bool, class: u8) -> io::Result<()> {
    if v6 {
        setsockopt(&socket, sockopt::Ipv6TClass, &i32::from(class))?;
    } else {
        setsockopt(&socket, sockopt::Ipv4Tos, &i32::from(class))?;
    }
    Ok(())
}

/// Lets a socket send to broadcast addresses (`SO_BROADCAST`); without it the kernel says `EACCES`.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn allow_broadcast(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(setsockopt(&socket, sockopt::Broadcast, &true)?)
}

/// Has a socket take more at once than one super-frame: the kernel caps it at `net.core.wmem_max`.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn expect_bursts(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::SndBuf, &SEND_BUFFER)?)
}

/// Bytes that wait to be sent.
const SEND_BUFFER: usize = 4 << 20;

pub(super) fn set_int(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option is an int, which outlives the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), INT_LEN)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[allow(clippy::cast_possible_truncation)] // 4 bytes
const INT_LEN: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

/// What the ancillary data of a received message says.
#[derive(Default)]
struct Extra {
    to: Option<IpAddr>,
    segment: Option<usize>,
}

fn extra(message: &libc::msghdr) -> Extra {
    let mut extra = Extra::default();
    // SAFETY: `message` is as recvmsg(2) left it; its control buffer is alive and aligned, and
    // the kernel has set its length. The macros stay inside that length.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, hence a whole `cmsghdr` inside the buffer.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        // SAFETY: as above; the data of the kinds read here has the type that ip(7), udp(7) and
        // ipv6(7) give, and may be unaligned.
        unsafe {
            if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
                let info = libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().read_unaligned();
                extra.to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
            }
            if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) {
                let info = libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().read_unaligned();
                extra.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical());
            }
            if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
                let size = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
                extra.segment = usize::try_from(size).ok().filter(|size| *size > 0);
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    extra
}

/// What a system call of the send and receive family returned.
fn length(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Room for a control message with a local address and one with a segment's length, aligned as
/// `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

impl Control {
    fn new() -> Self {
        Self([0; CONTROL_LEN])
    }

    /// Lends the buffer to a message that is to be received.
    fn offer(&mut self, message: &mut libc::msghdr) {
        message.msg_control = self.0.as_mut_ptr().cast();
        // `size_t` on glibc, `socklen_t` on musl.
        message.msg_controllen = CONTROL_LEN as _;
    }

    /// Adds a control message and lends the buffer to a message that is to be sent.
    fn put<T: Copy>(
        &mut self,
        message: &mut libc::msghdr,
        level: libc::c_int,
        kind: libc::c_int,
        data: T,
    ) {
        const { assert!(size_of::<T>() <= size_of::<libc::in6_pktinfo>()) };
        // Both are at most 20 bytes.
        #[allow(clippy::cast_possible_truncation)]
        let len = size_of::<T>() as libc::c_uint;
        #[allow(clippy::unnecessary_cast)] // `socklen_t` on musl
        let used = message.msg_controllen as usize;
        // SAFETY: CMSG_SPACE and CMSG_LEN compute. The buffer is aligned, and `used` is a sum of
        // such spaces. By the assertion each message put is a header and at most `in6_pktinfo`, and
        // no caller puts more than that and one number: both have room.
        unsafe {
            let space = libc::CMSG_SPACE(len) as usize;
            assert!(used + space <= CONTROL_LEN, "room for two control messages");
            // One pointer for both: another borrow would end the first.
            let start = self.0.as_mut_ptr();
            let header = start.add(used).cast::<libc::cmsghdr>();
            message.msg_control = start.cast();
            message.msg_controllen = (used + space) as _;
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(len) as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(data);
        }
    }
}

/// `CMSG_SPACE` of both: headers of at most 16 bytes, `in6_pktinfo` of 20 and a number.
const CONTROL_LEN: usize = 64;
/// The longest datagram, or several put together, in bytes.
const MAX_DATAGRAM: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::sock::{Local, udp_any};

    #[test]
    fn addresses_of_two_families_are_refused() {
        let socket = udp_any(false, Local::default()).unwrap();
        let to = "127.0.0.1:9".parse().unwrap();
        let error = send_to(socket.as_fd(), b"", to, Some(Ipv6Addr::LOCALHOST.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn control_messages_are_read_as_they_were_written() {
        let local: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let info = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: local.octets() },
            ipi6_ifindex: 7,
        };
        // SAFETY: as in `send_segments`.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        assert!(extra(&message).to.is_none());
        let mut control = Control::new();
        control.put(&mut message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        control.put(&mut message, libc::SOL_UDP, libc::UDP_GRO, 1400 as libc::c_int);
        let Extra { to, segment } = extra(&message);
        assert_eq!((to, segment), (Some(local.into()), Some(1400)));
        // As a kernel leaves it that had no room for the second.
        #[allow(clippy::cast_possible_truncation)] // 20
        // SAFETY: computes a number from a number.
        let first = unsafe { libc::CMSG_SPACE(size_of_val(&info) as libc::c_uint) };
        message.msg_controllen = first as _;
        let Extra { to, segment } = extra(&message);
        assert_eq!((to, segment), (Some(local.into()), None));
    }

    #[test]
    fn hop_limits_are_set_by_family() {
        for v6 in [false, true] {
            if let Ok(socket) = udp_any(v6, Local::default()) {
                set_hop_limit(socket.as_fd(), v6, 1).unwrap();
            }
        }
        let socket = udp_any(false, Local::default()).unwrap();
        assert!(set_hop_limit(socket.as_fd(), false, 0).is_err());
    }

    #[test]
    fn header_fields_are_set_by_family() {
        for v6 in [false, true] {
            if let Ok(socket) = udp_any(v6, Local::default()) {
                for dont in [true, false] {
                    set_dont_fragment(socket.as_fd(), v6, dont).unwrap();
                }
                for class in [0xb8, 0] {
                    set_traffic_class(socket.as_fd(), v6, class).unwrap();
                }
            }
        }
    }

    #[test]
    fn an_empty_queue_of_errors_is_no_error() {
        let socket = udp_any(false, Local::default()).unwrap();
        assert_eq!(take_error(socket.as_fd(), &mut [0; 64]).unwrap(), None);
    }
}
