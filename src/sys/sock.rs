//! Ordinary sockets, set up the way the shell uses them: non-blocking and close-on-exec.
//!
//! Owns the options of each kind of socket. It decides no destination: the one place that may
//! connect or send asks the deny list first. Read first: tcp(7), udp(7), icmp(7) on ping sockets.
//! Not here: sending and receiving datagrams ([`super::datagram`]).

use std::ffi::OsString;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrLike, SockaddrStorage, bind, connect,
    getsockname, getsockopt, setsockopt, socket, sockopt,
};

/// The local end of a socket that is opened towards the host's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local<'a> {
    /// Its address; `None` leaves the choice to the kernel.
    pub address: Option<IpAddr>,
    /// The interface that it sends and receives by (`SO_BINDTODEVICE`, for everybody since Linux
    /// 5.7).
    pub device: Option<&'a str>,
}

/// Listens on `address`, with `freebind` even if it is not there yet. IPv6 listeners take IPv6
/// only, so that both families can have their own.
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, or `EACCES` for a port below `ip_unprivileged_port_start`.
pub fn tcp_listen(address: SocketAddr, freebind: bool) -> io::Result<OwnedFd> {
    tcp_listen_by(address, freebind, Local::default())
}

/// The same for what comes in by the interface of `by` alone, if there is one.
///
/// # Errors
/// As [`tcp_listen`]; `ENODEV` when there is no such interface.
pub fn tcp_listen_by(address: SocketAddr, freebind: bool, by: Local<'_>) -> io::Result<OwnedFd> {
    let socket = open(address.is_ipv6(), SockType::Stream, None)?;
    bind_to_device(&socket, by)?;
    if freebind {
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
    }
    // Only connections in TIME-WAIT are overridden, never another listener.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind_to(&socket, address)?;
    // SAFETY: takes numbers only.
    if unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Takes one connection from a listener, and its peer's address.
///
/// # Errors
/// `WouldBlock` when none waits; `EMFILE` and `ENFILE` leave it waiting.
pub fn tcp_accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: `sockaddr_storage` is numbers and bytes, valid as zeros.
    let mut peer: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut peer_len = STORAGE_LEN;
    // SAFETY: both pointers are to live values, and `peer_len` is the room in `peer`.
    let fd = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            (&raw mut peer).cast(),
            &raw mut peer_len,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: accept4 returned a new descriptor, which nothing else owns.
    let stream = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((stream, from_kernel(&peer, peer_len)?))
}

/// Whether an error of [`tcp_accept`] is of one client, that is gone already (accept(2)): the next
/// one may not be. After any other the listener is good for nothing, or for nothing now.
#[must_use]
pub fn is_of_one_client(error: &io::Error) -> bool {
    let of_one = [
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::EPERM,
        libc::EINTR,
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::ENETUNREACH,
    ];
    error.raw_os_error().is_none_or(|errno| of_one.contains(&errno))
}

/// Whether it is descriptors or memory that there are none of, for the moment.
#[must_use]
pub fn is_starved(error: &io::Error) -> bool {
    let starved = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|errno| starved.contains(&errno))
}

/// Whether an error of binding an address of a whole family, or its loopback, says that the host was
/// started without that family.
#[must_use]
pub fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Starts a connection to `to` from the `local` end. It is finished, or has failed, once the socket
/// is writable: see [`tcp_take_error`].
///
/// # Errors
/// What is known at once: `ENETUNREACH`, `EADDRNOTAVAIL`, `EACCES`, or no descriptor left.
pub fn tcp_connect_start(to: SocketAddr, local: Local<'_>) -> io::Result<OwnedFd> {
    let stream = tcp_open(to.is_ipv6())?;
    bind_to_device(&stream, local)?;
    if let Some(from) = local.address {
        // The port is chosen when both ends are known, so that one local port can serve many
        // peers (Linux 4.2).
        setsockopt(&stream, sockopt::IpBindAddressNoPort, &true)?;
        bind_to(&stream, SocketAddr::new(from, 0))?;
    }
    connect_to(&stream, to)?;
    Ok(stream)
}

/// A TCP socket that is to be connected by [`connect_to`].
///
/// # Errors
/// No descriptor left; `EAFNOSUPPORT` without IPv6.
pub fn tcp_open(v6: bool) -> io::Result<OwnedFd> {
    let stream = open(v6, SockType::Stream, None)?;
    tune_stream(&stream)?;
    Ok(stream)
}

/// Connects a UDP socket, or starts to connect a TCP one, as [`tcp_connect_start`] does.
///
/// # Errors
/// What is known at once.
pub fn connect_to(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The error that waits on a socket (`SO_ERROR`), which this call clears.
///
/// # Errors
/// That error: `ECONNREFUSED`, `ETIMEDOUT`, `EHOSTUNREACH` and so on.
pub fn tcp_take_error(stream: BorrowedFd<'_>) -> io::Result<()> {
    match getsockopt(&stream, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Makes closing the socket send a reset instead of a FIN, and drop what is not sent yet.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn tcp_set_reset_on_close(stream: BorrowedFd<'_>) -> io::Result<()> {
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(())
}

/// A UDP socket bound to `address`, with `freebind` even if that is not there yet. Where it is
/// unspecified, datagrams tell which local address they were sent to. Never shares its port with
/// another socket.
///
/// # Errors
/// As [`tcp_listen`].
pub fn udp_bind(address: SocketAddr, freebind: bool) -> io::Result<OwnedFd> {
    udp_bind_by(address, freebind, Local::default())
}

/// The same for what comes in by the interface of `by` alone, if there is one.
///
/// # Errors
/// As [`tcp_listen_by`].
pub fn udp_bind_by(address: SocketAddr, freebind: bool, by: Local<'_>) -> io::Result<OwnedFd> {
    let socket = open(address.is_ipv6(), SockType::Datagram, None)?;
    bind_to_device(&socket, by)?;
    if freebind {
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
    }
    prepare_published(&socket, address)?;
    expect_many(&socket)?;
    bind_to(&socket, address)?;
    Ok(socket)
}

/// A UDP socket that hears `group` at the interface of that index, beside whoever hears it as well,
/// and nothing else, and sends to it there with hop limit 255, but not to this host.
///
/// # Errors
/// `EADDRINUSE` where another has the port and shares it with nobody; `ENODEV`; `ENOBUFS` for one
/// group too many.
pub fn udp_group(group: SocketAddr, index: u32) -> io::Result<OwnedFd> {
    let socket = open(group.is_ipv6(), SockType::Datagram, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    let set = |level, name, value| super::datagram::set_int(socket.as_fd(), level, name, value);
    let number = libc::c_int::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // Bound to the group, it takes nothing that is for this host alone: that is for others to hear.
    match group {
        SocketAddr::V4(v4) => {
            let by = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                imr_address: libc::in_addr { s_addr: 0 },
                imr_ifindex: number,
            };
            bind_to(&socket, group)?;
            set_membership(&socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &by)?;
            set(libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, 0)?;
            set(libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, 255)?;
            set(libc::IPPROTO_IP, IP_MULTICAST_ALL, 0)?;
            set_membership(&socket, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &by)?;
        }
        SocketAddr::V6(v6) => {
            let by = libc::ipv6_mreq {
                ipv6mr_multiaddr: libc::in6_addr { s6_addr: v6.ip().octets() },
                ipv6mr_interface: index as _,
            };
            bind_to(&socket, SocketAddrV6::new(*v6.ip(), v6.port(), 0, index).into())?;
            set(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, number)?;
            set(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, 0)?;
            set(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, 255)?;
            set(libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)?;
            set_membership(&socket, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &by)?;
        }
    }
    Ok(socket)
}

/// Sets an option about a group at an interface: `ip_mreqn` or `ipv6_mreq`.
fn set_membership<T: Copy>(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    #[allow(clippy::cast_possible_truncation)] // 12 or 20 bytes
    let length = size_of::<T>() as libc::socklen_t;
    let socket = socket.as_raw_fd();
    // SAFETY: the value outlives the call, and its size is given.
    let result =
        unsafe { libc::setsockopt(socket, level, name, std::ptr::from_ref(value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// linux/in.h and linux/in6.h (Linux 4.20): a socket hears no group that it has not joined itself.
const IP_MULTICAST_ALL: libc::c_int = 49;
const IPV6_MULTICAST_ALL: libc::c_int = 29;

/// Lets datagrams tell which local address they were sent to, where `address`, which the socket is
/// or will be bound to, does not; and has errors reported.
pub(super) fn prepare_published(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    match address.ip() {
        ip if !ip.is_unspecified() => {}
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
    }
    report_errors(socket, address.is_ipv6())
}

/// A UDP socket on a free port of the kernel's choice, of the given family, with the local address
/// `from` where one is given.
///
/// # Errors
/// No port or no descriptor left; `EAFNOSUPPORT` without IPv6; `EADDRNOTAVAIL` for an address that
/// is not local.
pub fn udp_any(v6: bool, local: Local<'_>) -> io::Result<OwnedFd> {
    let any = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let socket = open(v6, SockType::Datagram, None)?;
    bind_to_device(&socket, local)?;
    bind_to(&socket, SocketAddr::new(local.address.unwrap_or(any), 0))?;
    // What a container asks a group is not asked of this host.
    let (level, name) = match v6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
        false => (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    };
    super::datagram::set_int(socket.as_fd(), level, name, 0)?;
    report_errors(&socket, v6)?;
    expect_many(&socket)?;
    Ok(socket)
}

/// A UDP socket on a free port that hears `to` and nobody else, with the local address `from`
/// where one is given.
///
/// # Errors
/// `ENETUNREACH`, or no port or descriptor left; `EADDRNOTAVAIL` for an address that is not local.
pub fn udp_connected(to: SocketAddr, local: Local<'_>) -> io::Result<OwnedFd> {
    let socket = udp_open(to.is_ipv6())?;
    bind_to_device(&socket, local)?;
    if let Some(from) = local.address {
        bind_to(&socket, SocketAddr::new(from, 0))?;
    }
    connect_to(&socket, to)?;
    Ok(socket)
}

/// Whether a route forbids what is sent to an IPv4 address. The kernel says `EACCES` of broadcast
/// addresses as well, and only it knows which those are; a socket that may have one is told of the
/// others alone. Nothing is sent.
#[must_use]
pub fn is_forbidden(to: SocketAddr) -> bool {
    let connected = udp_open(false).and_then(|socket| {
        super::datagram::allow_broadcast(socket.as_fd())?;
        connect_to(&socket, to)
    });
    connected.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// A UDP socket that is to be connected by [`connect_to`].
///
/// # Errors
/// No descriptor left; `EAFNOSUPPORT` without IPv6.
pub fn udp_open(v6: bool) -> io::Result<OwnedFd> {
    open(v6, SockType::Datagram, None)
}

/// A socket for echo requests, whose identifier the kernel chooses and checks in replies, with the
/// local address `from` where one is given.
///
/// # Errors
/// `EACCES` unless the process's group is in `net.ipv4.ping_group_range`, which governs IPv6 too.
pub fn ping_socket(v6: bool, local: Local<'_>) -> io::Result<OwnedFd> {
    let protocol = if v6 { SockProtocol::IcmpV6 } else { SockProtocol::Icmp };
    let socket = open(v6, SockType::Datagram, Some(protocol))?;
    report_errors(&socket, v6)?;
    bind_to_device(&socket, local)?;
    if let Some(from) = local.address {
        bind_to(&socket, SocketAddr::new(from, 0))?;
    }
    Ok(socket)
}

/// The address a socket is bound to.
///
/// # Errors
/// What getsockname(2) reports.
pub fn local_addr(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    to_std(&getsockname(socket.as_raw_fd())?)
}

fn open(v6: bool, kind: SockType, protocol: Option<SockProtocol>) -> io::Result<OwnedFd> {
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, kind, flags, protocol)?;
    // Set on every IPv6 socket, so that none ever speaks IPv4 by way of a mapped address.
    if v6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(socket)
}

/// Confines a socket to the interface of its local end.
fn bind_to_device(socket: &OwnedFd, local: Local<'_>) -> io::Result<()> {
    match local.device {
        None => Ok(()),
        Some(device) => Ok(setsockopt(socket, sockopt::BindToDevice, &OsString::from(device))?),
    }
}

/// Whether a socket is confined to the interface that has this name now, and not to one of that name
/// that is gone.
#[must_use]
pub fn is_bound_to_device(socket: BorrowedFd<'_>, device: &str) -> bool {
    getsockopt(&socket, sockopt::BindToDevice).is_ok_and(|bound| bound == device)
}

/// Asks whether this process may confine sockets to an interface without any capability, which it
/// has none of by the time that it opens them.
///
/// # Errors
/// `EPERM` before Linux 5.7.
pub fn may_bind_to_device() -> io::Result<()> {
    may_bind(&open(false, SockType::Datagram, None)?)
}

fn may_bind(socket: &OwnedFd) -> io::Result<()> {
    let (set, raw) = (CapSet::Effective, Capability::CAP_NET_RAW);
    let has_it = caps::has_cap(None, set, raw).unwrap_or(false);
    if has_it {
        caps::drop(None, set, raw).map_err(io::Error::other)?;
    }
    let bound = bind_to_device(socket, Local { address: None, device: Some("lo") });
    if has_it {
        caps::raise(None, set, raw).map_err(io::Error::other)?;
    }
    match bound {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
        _ => Ok(()),
    }
}

/// Makes room for what comes while others have their turn, and takes several datagrams of one
/// sender together where they come so (`UDP_GRO`, Linux 5.0).
fn expect_many(socket: &OwnedFd) -> io::Result<()> {
    setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    // Not a word of it in the log: who makes sockets for another may not write.
    match setsockopt(socket, sockopt::UdpGroSegment, &true) {
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Has the kernel queue ICMP errors about datagrams: [`super::datagram::take_error`].
fn report_errors(socket: &OwnedFd, v6: bool) -> io::Result<()> {
    if v6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    }
    Ok(())
}

fn bind_to(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?)
}

/// The index of a network interface (netdevice(7)). Unlike if_nametoindex(3) it needs no socket of
/// another family than those of the flows.
///
/// # Errors
/// `ENODEV` when there is no such interface, `EINVAL` for a name that none can have.
pub fn interface_index(name: &str) -> io::Result<u32> {
    // SAFETY: `ifreq` is numbers, bytes and a pointer, valid as zeros.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    let socket = open(false, SockType::Datagram, None)?;
    // SAFETY: the request is alive, its name ends with a zero, and the kernel writes an int to it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFINDEX has filled this member of the union.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    u32::try_from(index).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Nagle's algorithm runs at the two ends of a relayed flow, not in its middle; keep-alive finds
/// hosts that went away under an idle flow; urgent data stays among the rest. What a listener accepts
/// has its options (Linux clones the socket).
///
/// # Errors
/// What setsockopt(2) reports.
pub fn tune_stream(stream: &OwnedFd) -> io::Result<()> {
    setsockopt(stream, sockopt::TcpNoDelay, &true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::OobInline, &true)?;
    Ok(())
}

/// An address that the kernel has written, `len` bytes long.
pub(super) fn from_kernel(
    address: &libc::sockaddr_storage,
    len: libc::socklen_t,
) -> io::Result<SocketAddr> {
    // SAFETY: the storage is larger than any address, all of it is initialised, and nix compares
    // `len` with what the family needs.
    let address = unsafe { SockaddrStorage::from_raw((&raw const *address).cast(), Some(len)) };
    match to_std(&address.ok_or(io::ErrorKind::InvalidData)?)? {
        // A peer that speaks IPv4 to an inherited socket of both families.
        SocketAddr::V6(peer) if peer.ip().to_ipv4_mapped().is_some() => {
            Ok(SocketAddr::new(peer.ip().to_canonical(), peer.port()))
        }
        peer => Ok(peer),
    }
}

pub(super) fn to_std(address: &SockaddrStorage) -> io::Result<SocketAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Ok((*v4).into()),
        (_, Some(v6)) => Ok((*v6).into()),
        (None, None) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Bytes of datagrams that wait; the kernel caps it at `net.core.rmem_max`, by default what a
/// socket has anyway, and doubles it (socket(7)).
const RECEIVE_BUFFER: usize = 1 << 20;
/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: libc::c_int = 4096;

#[allow(clippy::cast_possible_truncation)] // 128 bytes
pub(super) const STORAGE_LEN: libc::socklen_t =
    size_of::<libc::sockaddr_storage>() as libc::socklen_t;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, poll};
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::sys::datagram::{recv_from, send_to, set_hop_limit, take_error};
    use crate::testing;

    const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

    fn wait(fd: &impl AsFd, flags: PollFlags) {
        let mut fds = [PollFd::new(fd.as_fd(), flags)];
        assert_eq!(poll(&mut fds, 60_000_u16).unwrap(), 1, "nothing within a minute");
    }

    /// In a namespace of the test's own `lo` may be down; elsewhere this is refused and needless.
    fn need_loopback() {
        drop(crate::sys::link::bring_up("lo"));
    }

    /// The families that this machine's loopback has.
    fn loopbacks() -> impl Iterator<Item = SocketAddr> {
        need_loopback();
        let addresses = LOOPBACK.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0));
        addresses.filter(|address| udp_bind(*address, false).is_ok())
    }

    #[test]
    fn a_stream_connects_and_a_reset_is_seen() {
        for address in loopbacks() {
            let listener = tcp_listen(address, false).unwrap();
            tune_stream(&listener).unwrap();
            assert_eq!(tcp_accept(listener.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let client =
                tcp_connect_start(local_addr(listener.as_fd()).unwrap(), Local::default()).unwrap();
            wait(&listener, PollFlags::POLLIN);
            let (server, peer) = tcp_accept(listener.as_fd()).unwrap();
            assert!(getsockopt(&server, sockopt::TcpNoDelay).unwrap());
            assert!(getsockopt(&server, sockopt::KeepAlive).unwrap());
            wait(&client, PollFlags::POLLOUT);
            tcp_take_error(client.as_fd()).unwrap();
            assert_eq!(peer, local_addr(client.as_fd()).unwrap());
            let (mut client, mut server) = (TcpStream::from(client), TcpStream::from(server));
            server.write_all(b"hello").unwrap();
            wait(&client, PollFlags::POLLIN);
            let mut bytes = [0; 8];
            assert_eq!(client.read(&mut bytes).unwrap(), 5);
            assert_eq!(client.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            tcp_set_reset_on_close(server.as_fd()).unwrap();
            drop(server);
            wait(&client, PollFlags::POLLIN);
            assert_eq!(client.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn a_refusal_is_the_pending_error() {
        let error = match tcp_connect_start(testing::address(), Local::default()) {
            Err(error) => error,
            Ok(stream) => {
                wait(&stream, PollFlags::POLLOUT);
                tcp_take_error(stream.as_fd()).unwrap_err()
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_listener_is_never_shared() {
        need_loopback();
        let listener = tcp_listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = local_addr(listener.as_fd()).unwrap();
        assert_eq!(tcp_listen(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let socket = udp_bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = local_addr(socket.as_fd()).unwrap();
        assert_eq!(udp_bind(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_can_have_the_same_port() {
        if loopbacks().any(|address| address.is_ipv6()) {
            // Another test may have one of a port's addresses.
            testing::until("both families have a port", || {
                let v4 = udp_bind("0.0.0.0:0".parse().unwrap(), false).unwrap();
                let port = local_addr(v4.as_fd()).unwrap().port();
                udp_bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), false).ok()
            });
        }
    }

    #[test]
    fn a_reply_leaves_from_the_address_that_was_asked() {
        for address in loopbacks() {
            let any: IpAddr = if address.is_ipv6() {
                Ipv6Addr::UNSPECIFIED.into()
            } else {
                Ipv4Addr::UNSPECIFIED.into()
            };
            let server = udp_bind(SocketAddr::new(any, 0), false).unwrap();
            let port = local_addr(server.as_fd()).unwrap().port();
            // All of 127/8 is local, so the answer's address is a choice.
            let asked: IpAddr =
                if address.is_ipv6() { address.ip() } else { "127.0.0.9".parse().unwrap() };
            let client = udp_connected(SocketAddr::new(asked, port), Local::default()).unwrap();
            let to = SocketAddr::new(asked, port);
            assert_eq!(send_to(client.as_fd(), b"question", to, None).unwrap(), 8);
            wait(&server, PollFlags::POLLIN);
            let mut buffer = [0; 64];
            let question = recv_from(server.as_fd(), &mut buffer).unwrap();
            assert_eq!((question.len, question.to), (8, Some(asked)));
            assert_eq!(question.from, local_addr(client.as_fd()).unwrap());
            send_to(server.as_fd(), b"answer", question.from, question.to).unwrap();
            // The client is connected: it hears this address only.
            wait(&client, PollFlags::POLLIN);
            let answer = recv_from(client.as_fd(), &mut buffer).unwrap();
            assert_eq!((answer.len, answer.from, answer.to), (6, to, None));
            assert_eq!(&buffer[..6], b"answer");
        }
    }

    #[test]
    fn a_group_is_heard_beside_who_hears_it_already() {
        drop(crate::sys::link::bring_up("lo"));
        let lo = interface_index("lo").unwrap();
        let port = testing::address().port();
        let group = SocketAddr::new(Ipv4Addr::new(239, 255, 77, 1).into(), port);
        let ears = [udp_group(group, lo).unwrap(), udp_group(group, lo).unwrap()];
        let sender = udp_any(false, Local::default()).unwrap();
        let from = Some(Ipv4Addr::LOCALHOST.into());
        send_to(sender.as_fd(), b"hello", group, from).unwrap();
        for ear in &ears {
            wait(ear, PollFlags::POLLIN);
            assert_eq!(recv_from(ear.as_fd(), &mut [0; 64]).unwrap().len, 5);
        }
        if loopbacks().any(|address| address.is_ipv6()) {
            let group: Ipv6Addr = "ff02::7701".parse().unwrap();
            let group = SocketAddr::new(group.into(), port);
            drop([udp_group(group, lo).unwrap(), udp_group(group, lo).unwrap()]);
        }
        assert!(udp_group(group, 0xffff).is_err(), "there is no such interface");
    }

    #[test]
    fn a_ping_socket_works_or_is_forbidden() {
        match ping_socket(false, Local::default()) {
            Ok(socket) => set_hop_limit(socket.as_fd(), false, 5).unwrap(),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    /// A socket that is confined already cannot be again without the capability, on any kernel.
    #[test]
    fn a_capability_that_will_be_dropped_confines_no_socket() {
        use crate::sys::netns::{spawn, wait};
        let child = spawn(|| {
            let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET;
            if unshare(flags).is_err() {
                return 0;
            }
            let lo = Local { address: None, device: Some("lo") };
            let socket = open(false, SockType::Datagram, None).unwrap();
            bind_to_device(&socket, lo).unwrap();
            let error = may_bind(&socket).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            bind_to_device(&socket, lo).unwrap();
            0
        });
        assert_eq!(wait(child.unwrap()).unwrap(), 0);
    }

    #[test]
    fn a_client_that_is_gone_is_told_with_the_address_that_it_asked() {
        for address in loopbacks() {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let server = udp_bind(SocketAddr::new(any, 0), false).unwrap();
            // None was there.
            let client = SocketAddr::new(address.ip(), testing::address().port());
            // How many such errors there are in a second is limited, for all of the machine.
            let error = testing::until("the error", || {
                send_to(server.as_fd(), b"answer", client, Some(address.ip())).ok();
                let mut fds = [PollFd::new(server.as_fd(), PollFlags::empty())];
                poll(&mut fds, 100_u8).unwrap();
                take_error(server.as_fd(), &mut [0; 64]).unwrap()
            });
            assert_eq!((error.errno, error.to), (libc::ECONNREFUSED, client));
        }
    }
}
