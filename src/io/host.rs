//! Host sockets: opened, used and closed as the engine says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::listen::Listener;
use super::outbound::OutboundPolicy;
use crate::config::Protocol;
use crate::engine::host::{HostStream, IpFields, SocketId, SocketKind};
use crate::sys::pipe::Pipe;
use crate::sys::{datagram, sock};

/// A host socket.
#[derive(Debug)]
pub(super) enum Socket {
    /// A TCP connection, or one that is being made.
    Tcp(TcpStream),
    /// UDP or ping.
    Datagram(DatagramSocket),
    /// UDP with one peer: an error is about the one exchange that it is for.
    Connected(OwnedFd),
    /// A published TCP port.
    Listener(OwnedFd),
}

/// A UDP or ping socket without a peer, and what its options say now.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    socket: OwnedFd,
    v6: bool,
    /// Takes IPv4 as well, whose addresses are written as IPv6 ones then (ipv6(7)).
    dual_stack: bool,
    fields: IpFields,
}

/// A TCP socket and what edge-triggered epoll(7) has told of it.
#[derive(Debug)]
pub(super) struct TcpStream {
    socket: OwnedFd,
    connecting: bool,
    readable: bool,
    writable: bool,
    /// The peer has finished: no further event will tell, so read on until the end.
    read_closed: bool,
    /// The kernel has an error to tell.
    broken: bool,
    /// The peer has sent urgent data: reading stops there, with more behind it.
    urgent: bool,
}

/// All host sockets by [`SocketId`].
#[derive(Debug)]
pub(super) struct Sockets {
    registry: Registry,
    pub(super) outbound: OutboundPolicy,
    first_token: usize,
    entries: Vec<Option<Socket>>,
    reserve: Reserve,
    /// Whether the last socket of a flow had to come from the reserve.
    crowded: bool,
}

/// What a socket is for, which says how far it may go into the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Flow,
    Dns,
}

/// Descriptors that flows must leave alone, so that DNS and control clients can have some when a
/// container has used up the rest.
///
/// The kernel gives the lowest number that is free (open(2)): one in the reserve means that all
/// others are in use, by whomever.
#[derive(Debug, Clone, Copy)]
struct Reserve {
    /// No flow has this descriptor or a higher one.
    flows: RawFd,
    /// No DNS query has this one or a higher one: the rest is for control.
    dns: RawFd,
}

impl Reserve {
    const NONE: Self = Self { flows: RawFd::MAX, dns: RawFd::MAX };

    /// A quarter of all, at most [`MAX_RESERVE`].
    fn of(descriptors: usize) -> Self {
        let descriptors = RawFd::try_from(descriptors).unwrap_or(RawFd::MAX);
        let kept = (descriptors / 4).min(MAX_RESERVE);
        Self { flows: descriptors - kept, dns: descriptors - kept / 2 }
    }
}

/// As many as there can be control clients, and as many again for DNS.
const MAX_RESERVE: RawFd = 128;

impl Sockets {
    /// Sockets register with `registry` under their id plus `first_token`; those that are opened
    /// have the local ends that `outbound` says.
    pub(super) fn new(registry: Registry, first_token: usize, outbound: OutboundPolicy) -> Self {
        Self {
            registry,
            outbound,
            first_token,
            entries: Vec::new(),
            reserve: Reserve::NONE,
            crowded: false,
        }
    }

    /// Keeps some of so many descriptors for DNS and control.
    pub(super) fn keep_reserve(&mut self, descriptors: usize) {
        self.reserve = Reserve::of(descriptors);
    }

    /// No flow has this descriptor or a higher one.
    pub(super) fn flow_limit(&self) -> RawFd {
        self.reserve.flows
    }

    /// Whether another flow would have to wait for a descriptor.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// The same, looked at again: descriptors that are not of these sockets may have become free.
    pub(super) fn is_still_crowded(&mut self) -> bool {
        if self.crowded
            && let Ok(probe) = sock::udp_open(false)
        {
            self.crowded = probe.as_raw_fd() >= self.reserve.flows;
        }
        self.crowded
    }

    pub(super) fn id_of(&self, token: Token) -> Option<SocketId> {
        token.0.checked_sub(self.first_token).map(SocketId)
    }

    pub(super) fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.entries.get_mut(id.0)?.as_mut()
    }

    /// Opens what the engine asked for.
    ///
    /// # Errors
    /// `EMFILE` too where only the reserve is left.
    pub(super) fn open(
        &mut self,
        id: SocketId,
        kind: SocketKind,
        purpose: Purpose,
    ) -> io::Result<()> {
        let opened = self.open_socket(kind);
        // There is no such interface now, which is as good as no route.
        let socket = opened.map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => io::ErrorKind::NetworkUnreachable.into(),
            _ => error,
        })?;
        let fd = socket.as_raw_fd();
        let most = match purpose {
            Purpose::Flow => {
                self.crowded = fd >= self.reserve.flows;
                self.reserve.flows
            }
            Purpose::Dns => self.reserve.dns,
        };
        if fd >= most {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.add(id, socket)
    }

    fn open_socket(&self, kind: SocketKind) -> io::Result<Socket> {
        let outbound = &self.outbound;
        let datagram = |socket, v6| Socket::Datagram(DatagramSocket::new(socket, v6));
        Ok(match kind {
            SocketKind::TcpConnect(to) => {
                let socket = sock::tcp_connect_start(to, outbound.towards(to.ip())?)?;
                Socket::Tcp(TcpStream::new(socket, true))
            }
            SocketKind::Udp { v6 } => datagram(sock::udp_any(v6, outbound.of(v6)?)?, v6),
            SocketKind::UdpBroadcast => {
                let socket = sock::udp_any(false, outbound.of(false)?)?;
                datagram::allow_broadcast(socket.as_fd())?;
                datagram(socket, false)
            }
            SocketKind::Group { group, index } => {
                datagram(sock::udp_group(group, index)?, group.is_ipv6())
            }
            SocketKind::UdpLoopback { v6 } => {
                let loopback: IpAddr =
                    if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
                datagram(sock::udp_any(v6, outbound.towards(loopback)?)?, v6)
            }
            SocketKind::UdpConnect(to) => {
                Socket::Connected(sock::udp_connected(to, outbound.towards(to.ip())?)?)
            }
            SocketKind::Ping { v6 } => datagram(sock::ping_socket(v6, outbound.of(v6)?)?, v6),
        })
    }

    /// Takes a published port.
    pub(super) fn add_listener(&mut self, id: SocketId, listener: Listener) -> io::Result<()> {
        self.add_bound(id, listener.protocol, listener.socket)?;
        if let Some(Socket::Datagram(datagram)) = self.get_mut(id) {
            datagram.dual_stack = listener.dual_stack;
        }
        Ok(())
    }

    /// Whether a socket is confined to the interface that has this name now.
    pub(super) fn is_of_device(&self, id: SocketId, device: &str) -> bool {
        let socket = self.entries.get(id.0).and_then(Option::as_ref);
        socket.is_some_and(|socket| sock::is_bound_to_device(socket.as_fd(), device))
    }

    /// Takes a bound UDP socket or a TCP listener.
    pub(in crate::io) fn add_bound(
        &mut self,
        id: SocketId,
        protocol: Protocol,
        socket: OwnedFd,
    ) -> io::Result<()> {
        match protocol {
            Protocol::Tcp => {
                sock::tune_stream(&socket)?;
                self.add(id, Socket::Listener(socket))
            }
            Protocol::Udp => {
                let v6 = sock::local_addr(socket.as_fd())?.is_ipv6();
                self.add(id, Socket::Datagram(DatagramSocket::new(socket, v6)))
            }
        }
    }

    /// Takes an accepted connection.
    pub(super) fn add_accepted(&mut self, id: SocketId, stream: OwnedFd) -> io::Result<()> {
        self.crowded = stream.as_raw_fd() >= self.reserve.flows;
        self.add(id, Socket::Tcp(TcpStream::new(stream, false)))
    }

    fn add(&mut self, id: SocketId, socket: Socket) -> io::Result<()> {
        let interest = match socket {
            Socket::Tcp(_) => TcpStream::INTEREST,
            Socket::Datagram(_) | Socket::Connected(_) | Socket::Listener(_) => Interest::READABLE,
        };
        let token = Token(self.first_token + id.0);
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)?;
        if self.entries.len() <= id.0 {
            self.entries.resize_with(id.0 + 1, || None);
        }
        if let Some(entry) = self.entries.get_mut(id.0) {
            *entry = Some(socket);
        }
        Ok(())
    }

    /// Closes a socket; epoll forgets it with its last descriptor.
    pub(super) fn close(&mut self, id: SocketId, reset: bool) {
        let Some(Some(socket)) = self.entries.get_mut(id.0).map(Option::take) else {
            return;
        };
        if socket.as_raw_fd() < self.reserve.flows {
            self.crowded = false;
        }
        if let (Socket::Tcp(stream), true) = (&socket, reset)
            && let Err(error) = sock::tcp_set_reset_on_close(stream.socket.as_fd())
        {
            log::debug!("a connection is closed without a reset: {error}");
        }
    }

    pub(super) fn send(
        &mut self,
        id: SocketId,
        to: Option<SocketAddr>,
        from: Option<IpAddr>,
        fields: IpFields,
        segment: Option<u16>,
        payload: &[u8],
    ) -> io::Result<()> {
        match (self.entries.get_mut(id.0), to) {
            (Some(Some(Socket::Connected(socket))), _) => {
                send(socket.as_raw_fd(), payload, MsgFlags::MSG_NOSIGNAL)?;
                Ok(())
            }
            (Some(Some(Socket::Datagram(socket))), Some(to)) => {
                socket.send(to, from, fields, segment, payload)
            }
            _ => Ok(()),
        }
    }
}

/// An address as an IPv6 socket takes it.
fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        v6 @ IpAddr::V6(_) => v6,
    }
}

/// Sends datagrams one by one; the first error is that of all.
fn send_each(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    segment: Option<u16>,
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<()> {
    let length = segment.map_or(payload.len(), usize::from).max(1);
    let mut outcome = Ok(());
    for datagram in payload.chunks(length) {
        let sent = send_one(socket, datagram, to, from);
        outcome = outcome.and(sent);
    }
    outcome
}

fn send_one(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<()> {
    let once = || datagram::send_to(socket, payload, to, from).map(drop);
    // An ICMP error about an earlier datagram ends the call that comes next (ip(7)):
    // it is in the error queue as well, and this datagram has not been tried.
    once().or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Err(error),
        _ => once(),
    })
}

impl Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.socket.as_fd(),
            Self::Datagram(datagram) => datagram.socket.as_fd(),
            Self::Connected(socket) | Self::Listener(socket) => socket.as_fd(),
        }
    }

    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl DatagramSocket {
    fn new(socket: OwnedFd, v6: bool) -> Self {
        Self { socket, v6, dual_stack: false, fields: IpFields::default() }
    }

    fn send(
        &mut self,
        to: SocketAddr,
        from: Option<IpAddr>,
        fields: IpFields,
        segment: Option<u16>,
        payload: &[u8],
    ) -> io::Result<()> {
        self.set(fields)?;
        let (to, from) = if self.dual_stack {
            (SocketAddr::new(mapped(to.ip()), to.port()), from.map(mapped))
        } else {
            (to, from)
        };
        let socket = self.socket.as_fd();
        if segment.is_none() {
            return send_one(socket, payload, to, from);
        }
        let all = || datagram::send_segments(socket, payload, segment, to, from);
        // An error of another peer is told once.
        match all().or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Err(error),
            _ => all(),
        }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // Not all ways out take several at once, and the error may be of another.
            Err(_) => send_each(socket, payload, segment, to, from),
            Ok(_) => Ok(()),
        }
    }

    /// Makes what is sent next have these fields: a system call for each one that has changed.
    fn set(&mut self, fields: IpFields) -> io::Result<()> {
        let socket = self.socket.as_fd();
        if let Some(hops) = fields.hop_limit
            && self.fields.hop_limit != Some(hops)
        {
            datagram::set_hop_limit(socket, self.v6, hops)?;
        }
        if self.fields.dont_fragment != fields.dont_fragment {
            datagram::set_dont_fragment(socket, self.v6, fields.dont_fragment)?;
        }
        if self.fields.traffic_class != fields.traffic_class {
            datagram::set_traffic_class(socket, self.v6, fields.traffic_class)?;
        }
        self.fields = IpFields { hop_limit: fields.hop_limit.or(self.fields.hop_limit), ..fields };
        Ok(())
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl TcpStream {
    /// The events that [`TcpStream::note`] is for.
    pub(super) const INTEREST: Interest =
        Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

    pub(super) fn new(socket: OwnedFd, connecting: bool) -> Self {
        Self {
            socket,
            connecting,
            readable: false,
            writable: false,
            read_closed: false,
            broken: false,
            urgent: false,
        }
    }

    /// Notes an event. Returns the outcome of the connection if this event decided it.
    pub(super) fn note(&mut self, event: &Event) -> Option<io::Result<()>> {
        let over = event.is_error() || event.is_read_closed();
        self.readable |= event.is_readable() || over;
        self.writable |= event.is_writable() || over;
        self.read_closed |= over;
        self.broken |= event.is_error();
        self.urgent |= event.is_priority();
        if !self.connecting || !(event.is_writable() || over) {
            return None;
        }
        self.connecting = false;
        // Without an error to tell of, epoll(7) says nothing but that it can be written to.
        Some(if over { sock::tcp_take_error(self.socket.as_fd()) } else { Ok(()) })
    }

    /// Moves bytes on to another connection without a copy. What that does not take is appended to
    /// `rest`, for [`HostStream::send`] later. Returns how many were taken, 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to take or no room, and what went wrong on either side.
    pub(super) fn pass(
        &mut self,
        to: &mut Self,
        pipe: &Pipe,
        most: usize,
        rest: &mut Vec<u8>,
    ) -> io::Result<usize> {
        if !self.readable || !to.writable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let passed = pipe.pass(self.socket.as_fd(), to.socket.as_fd(), most, rest);
        let passed = match passed {
            // The end, or urgent data before it: splice(2) never gets past that.
            Ok(passed) if passed.taken == 0 => return self.read_on(rest),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.urgent {
                    return self.read_on(rest);
                }
                self.readable = false;
                return Err(error);
            }
            other => other?,
        };
        match passed.stopped {
            Some(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable = false,
            Some(error) => return Err(error),
            None => {}
        }
        Ok(passed.taken)
    }

    fn read_on(&mut self, rest: &mut Vec<u8>) -> io::Result<usize> {
        let mut bytes = [0; 1024];
        let length = self.recv(&mut bytes)?;
        rest.extend_from_slice(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl HostStream for TcpStream {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let received = recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty());
        match received {
            // Fewer bytes than there was room for: the queue is empty (epoll(7), question 9).
            Ok(length) if length < buffer.len() && !self.read_closed && !self.urgent => {
                self.readable = false;
            }
            Err(nix::errno::Errno::EAGAIN) => self.readable = false,
            _ => {}
        }
        Ok(received?)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL);
        match sent {
            Ok(length) if length < bytes.len() => self.writable = false,
            Err(nix::errno::Errno::EAGAIN) => self.writable = false,
            _ => {}
        }
        Ok(sent?)
    }

    fn finish(&mut self) {
        if let Err(error) = shutdown(self.socket.as_raw_fd(), Shutdown::Write) {
            log::trace!("cannot finish a connection that is gone: {error}");
        }
    }

    fn is_broken(&self) -> bool {
        self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_quarter_of_few_and_little_of_many() {
        for (descriptors, flows, dns) in [
            (64, 48, 56),
            (1024, 896, 960),
            (1 << 20, (1 << 20) - 128, (1 << 20) - 64),
            (usize::MAX, RawFd::MAX - 128, RawFd::MAX - 64),
        ] {
            let reserve = Reserve::of(descriptors);
            assert_eq!((reserve.flows, reserve.dns), (flows, dns), "{descriptors}");
        }
    }

    #[test]
    fn what_follows_urgent_data_is_read_without_a_further_event() {
        // The event may come before all of the data.
        crate::testing::until("it is read by one event", || reads_by_one_event().then_some(()));
    }

    fn reads_by_one_event() -> bool {
        drop(crate::sys::link::bring_up("lo"));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = OwnedFd::from(stream);
        sock::tune_stream(&stream).unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let mut sockets = Sockets::new(registry, 0, OutboundPolicy::default());
        sockets.add_accepted(SocketId(0), stream).unwrap();
        for (bytes, flags) in
            [(b"a", MsgFlags::empty()), (b"!", MsgFlags::MSG_OOB), (b"b", MsgFlags::empty())]
        {
            send(client.as_raw_fd(), bytes, flags).unwrap();
        }
        let mut events = mio::Events::with_capacity(8);
        let (mut got, mut buffer) = (Vec::new(), [0; 64]);
        crate::testing::wait(&mut poll, &mut events, 5_000);
        let Some(Socket::Tcp(stream)) = sockets.get_mut(SocketId(0)) else { panic!() };
        for event in &events {
            assert!(stream.note(event).is_none());
        }
        for _ in 0..4 {
            if let Ok(length) = stream.recv(&mut buffer) {
                got.extend_from_slice(&buffer[..length]);
            }
        }
        got == b"a!b" && !stream.readable
    }
}
