//! What the engine wants done with host sockets, and what it hears back.
//!
//! The engine names sockets by [`SocketId`] before they exist; the shell opens, uses and closes
//! them as told by [`HostOp`] and decides nothing. Bytes of TCP flows do not pass through here:
//! the shell lends a [`HostStream`] to [`super::Engine::relay`], which moves them between the
//! stream and the flow's ring without a copy in between.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use slab::Slab;

/// Names a host socket. Ids are small and used again after the socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub usize);

/// What a host socket is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// A TCP socket that connects to this address.
    TcpConnect(SocketAddr),
    /// A UDP socket on a port of the kernel's choice, connected to nobody.
    Udp {
        /// IPv6 rather than IPv4.
        v6: bool,
    },
    /// A UDP socket over IPv4 like that, which may send to broadcast addresses too.
    UdpBroadcast,
    /// The same, for services on the host's loopback: none of the addresses and interfaces that
    /// what goes out is to have.
    UdpLoopback {
        /// IPv6 rather than IPv4.
        v6: bool,
    },
    /// A UDP socket that hears a group at an interface of the host's, and nothing else, and sends to
    /// it there: to everybody but this host.
    Group {
        /// The group and its port, which others may hear as well.
        group: SocketAddr,
        /// The interface.
        index: u32,
    },
    /// A UDP socket on a fresh random port, connected to this address (DNS queries).
    UdpConnect(SocketAddr),
    /// An ICMP echo socket (`icmp(7)`, `ping_group_range`).
    Ping {
        /// ICMPv6 rather than ICMP.
        v6: bool,
    },
}

/// The fields of the IP header that a datagram keeps on its way through us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IpFields {
    /// Time to live, or hop limit; `None` is the host's own.
    pub hop_limit: Option<u8>,
    /// It is not to be cut into fragments, neither by the host nor by a router.
    pub dont_fragment: bool,
    /// Type of service, or traffic class: DSCP (RFC 2474) without the two bits of ECN.
    pub traffic_class: u8,
}

/// A request to the shell. Requests for one socket are to be carried out in order.
#[derive(Debug, PartialEq, Eq)]
pub enum HostOp {
    /// Open a socket; failures come back as [`HostEvent::Failed`].
    Open {
        /// Its name from now on.
        socket: SocketId,
        /// What to open.
        kind: SocketKind,
    },
    /// Send one datagram, or several of one size to one peer; a failure comes back as
    /// [`HostEvent::Unsent`] or [`HostEvent::ToEverybody`].
    Send {
        /// The socket to send from.
        socket: SocketId,
        /// The peer; `None` on a connected socket.
        to: Option<SocketAddr>,
        /// The local address to send from, where the socket is bound to none.
        from: Option<IpAddr>,
        /// What its IP header is to say.
        fields: IpFields,
        /// The length in bytes of each datagram in the payload but the last, which may be shorter;
        /// `None` if it is one.
        segment: Option<u16>,
        /// The payload; give it back with [`super::Engine::recycle`].
        payload: Vec<u8>,
    },
    /// Call [`super::Engine::relay`] with this TCP socket: bytes can be moved.
    Relay(SocketId),
    /// Close the socket and forget its name.
    Close {
        /// The socket to close.
        socket: SocketId,
        /// Whether its peer is to see a reset rather than an orderly end.
        reset: bool,
    },
}

/// Something that happened to a host socket.
#[derive(Debug)]
pub enum HostEvent<'a> {
    /// A TCP connection stands.
    Connected,
    /// A socket could not be opened or connected, or broke.
    Failed(io::ErrorKind),
    /// One datagram could not be sent.
    Unsent {
        /// Whom it was for; `None` on a connected socket.
        to: Option<SocketAddr>,
        /// Why.
        error: io::ErrorKind,
    },
    /// One datagram could not be sent, for its address is everybody's on a network of the host's.
    ToEverybody,
    /// One datagram was sent and did not arrive.
    Bounced {
        /// Whom it was for.
        to: SocketAddr,
        /// Who says so and why.
        bounce: Bounce,
        /// How its payload began; of an echo request, the whole ICMP message.
        payload: &'a [u8],
    },
    /// A datagram arrived.
    Datagram {
        /// Who sent it.
        from: SocketAddr,
        /// The local address it was sent to, where the socket is bound to none.
        to: Option<IpAddr>,
        /// Its payload.
        payload: &'a [u8],
    },
}

/// Why a datagram did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounce {
    /// A router or the addressed host has sent an ICMP or ICMPv6 error.
    Icmp {
        /// Who sent it.
        by: IpAddr,
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// The MTU that it names, in bytes, if it is about that.
        mtu: u32,
    },
    /// The host itself knows that it is longer than the path takes, in bytes of IP packet.
    TooLong {
        /// What the path takes.
        mtu: u32,
    },
}

/// The host's side of a TCP flow, lent to the engine for one call of [`super::Engine::relay`].
///
/// Errors of kind `WouldBlock` end a direction for now, all others for good.
pub trait HostStream {
    /// Reads into `buffer`; 0 is the end of the stream.
    ///
    /// # Errors
    /// As `recv(2)` on a non-blocking socket.
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes a prefix of `bytes` and returns its length.
    ///
    /// # Errors
    /// As `send(2)` on a non-blocking socket.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Tells the peer that no more bytes follow (`shutdown(2)`, `SHUT_WR`).
    fn finish(&mut self);
    /// Whether the peer has reset the connection or is lost: the next `send` would tell.
    fn is_broken(&self) -> bool {
        false
    }
}

/// Who in the engine owns a host socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A TCP flow, by index.
    Tcp(usize),
    /// The socket of a guest's UDP endpoint, by index.
    Udp(usize),
    /// An echo flow, by index.
    Echo(usize),
    /// A DNS query, by index.
    Dns(usize),
    /// A socket for DNS queries inside a container, by index.
    DnsListener(usize),
    /// A connection to one, by index.
    DnsStream(usize),
    /// What hears a group on the host's network, by index.
    Group(usize),
    /// A listener of a published port, by index of the rule.
    Published(usize),
    /// What is between the hosts of an overlay.
    Overlay,
    /// Nobody any more: the shell has yet to close it, so its name is still taken.
    Closing,
}

/// The engine's book of host sockets and its outgoing requests.
#[derive(Debug, Default)]
pub(super) struct HostSide {
    owners: Slab<Owner>,
    ops: VecDeque<HostOp>,
    spare: Vec<Vec<u8>>,
}

/// Most datagrams in one request: what every kernel takes (`UDP_MAX_SEGMENTS`, Linux 4.18).
const MAX_SEGMENTS: usize = 64;
/// Their most bytes together, so that they make one IP packet with every header.
const MAX_SEGMENTS_LEN: usize = 65_000;

/// Whether a datagram may follow others whose payload is `length` bytes, so that all are of one
/// length but for the last. Returns that length.
pub(super) fn fits(length: usize, segment: Option<u16>, datagram: usize) -> Option<u16> {
    let size = segment.map_or_else(|| u16::try_from(length), Ok).ok()?;
    let each = usize::from(size);
    let fits = datagram > 0
        && datagram <= each
        && length.is_multiple_of(each)
        && length / each < MAX_SEGMENTS
        && length + datagram <= MAX_SEGMENTS_LEN;
    fits.then_some(size)
}

/// How many spare payload buffers are kept for the next datagrams.
const MAX_SPARE: usize = 64;

impl HostSide {
    /// Names a socket that the shell has already: a listener, or an accepted connection.
    pub(super) fn adopt(&mut self, owner: Owner) -> SocketId {
        SocketId(self.owners.insert(owner))
    }

    pub(super) fn open(&mut self, owner: Owner, kind: SocketKind) -> SocketId {
        let socket = self.adopt(owner);
        self.ops.push_back(HostOp::Open { socket, kind });
        socket
    }

    pub(super) fn send(
        &mut self,
        socket: SocketId,
        to: Option<SocketAddr>,
        from: Option<IpAddr>,
        fields: IpFields,
        payload: &[u8],
    ) {
        self.send_segments(socket, to, from, fields, None, payload);
    }

    /// As [`HostSide::send`], one or several datagrams of UDP. What comes next to each other for
    /// one peer is sent by one system call: UDP segmentation offload (udp(7), `UDP_SEGMENT`).
    pub(super) fn send_udp(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        from: Option<IpAddr>,
        fields: IpFields,
        segment: Option<u16>,
        payload: &[u8],
    ) {
        if segment.is_some() {
            return self.send_segments(socket, Some(to), from, fields, segment, payload);
        }
        self.add_udp(socket, to, from, fields, payload.len(), |last| {
            last.extend_from_slice(payload);
        });
    }

    /// The same for one datagram of so many bytes that `write` appends.
    pub(super) fn add_udp(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        from: Option<IpAddr>,
        fields: IpFields,
        length: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let to = Some(to);
        if let Some(HostOp::Send {
            socket: last,
            to: last_to,
            from: last_from,
            fields: last_fields,
            segment: last_segment,
            payload: last_payload,
        }) = self.ops.back_mut()
            && (*last, *last_to, *last_from, *last_fields) == (socket, to, from, fields)
            && let Some(size) = fits(last_payload.len(), *last_segment, length)
        {
            *last_segment = Some(size);
            return write(last_payload);
        }
        self.send_segments(socket, to, from, fields, None, &[]);
        if let Some(HostOp::Send { payload, .. }) = self.ops.back_mut() {
            write(payload);
        }
    }

    fn send_segments(
        &mut self,
        socket: SocketId,
        to: Option<SocketAddr>,
        from: Option<IpAddr>,
        fields: IpFields,
        segment: Option<u16>,
        payload: &[u8],
    ) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(payload);
        let op = HostOp::Send { socket, to, from, fields, segment, payload: buffer };
        self.ops.push_back(op);
    }

    pub(super) fn relay(&mut self, socket: SocketId) {
        self.ops.push_back(HostOp::Relay(socket));
    }

    pub(super) fn close(&mut self, socket: SocketId, reset: bool) {
        if let Some(owner) = self.owners.get_mut(socket.0)
            && *owner != Owner::Closing
        {
            *owner = Owner::Closing;
            self.ops.push_back(HostOp::Close { socket, reset });
        }
    }

    pub(super) fn owner(&self, socket: SocketId) -> Option<Owner> {
        self.owners.get(socket.0).copied().filter(|owner| *owner != Owner::Closing)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(super) fn poll(&mut self) -> Option<HostOp> {
        let op = self.ops.pop_front();
        // Only now may another socket have the name: one that is adopted takes it at once, and
        // would be the one that the shell closes.
        if let Some(HostOp::Close { socket, .. }) = op {
            self.owners.try_remove(socket.0);
        }
        op
    }

    pub(super) fn recycle(&mut self, payload: Vec<u8>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(payload);
        }
    }
}
