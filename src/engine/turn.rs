//! One event's turn: what a handler may look at, and the few ways in which it can have effects.
//!
//! A [`Turn`] is made by the engine for one port and one event, so that the tables of flows need
//! not own the stack, the counters or the queues they all write to. Everything that leaves for a
//! guest other than TCP segments is composed here, cut into fragments where the link is too small.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};

use slab::Slab;
use smoltcp::wire::{IpProtocol, Ipv6FragmentHeader, UDP_HEADER_LEN, UdpPacket};

use super::discovery::HostLink;
use super::dns::Seen;
use super::doubt::Doubts;
use super::egress::Policies;
use super::flow::KeyedHash;
use super::forward::Published;
use super::frame::{
    Composer, HEADROOM, Link, Transport, VNET_HEADER_LEN, ip_header_len, is_unicast, pseudo_sum,
    set_ip_length, set_ipv4_fragment, write_vnet_header,
};
use super::host::{HostSide, fits};
use super::segment::Open as Segments;
use super::shaper::{Held, Shaper};
use super::stack::{Connection, Ends, Panicked, Stack, TxFrame};
use super::stats::{DropReason, Stats};
use super::switch::groups;
use super::{Instant, PortId, ndp};
use crate::config::limits::{Limit, Limits, Room};
use crate::config::{Lease, Neighbours, Network, Sharing};
use crate::sorted::SortedMap;

/// Everything a handler may use besides its own tables.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) network: &'a Network,
    pub(super) published: &'a Slab<Published>,
    pub(super) port: PortId,
    pub(super) lease: &'a Lease,
    pub(super) link: &'a mut Link,
    pub(super) stack: &'a mut Stack,
    pub(super) fx: &'a mut Effects,
}

impl Turn<'_> {
    /// How many there may be of all containers together, and of each.
    pub(super) fn room(&self, all: Limit, each: Limit) -> Room {
        let alone = self.network.sharing == Sharing::Private;
        self.network.limits.room(all, each, alone)
    }

    /// The same of what has no bound for each.
    pub(super) fn room_for(&self, limit: Limit) -> Room {
        let all = self.network.limits.get(limit);
        Room { all, each: all }
    }

    /// Counts that a bound was met: whichever of two it was.
    pub(super) fn count_limit(&mut self, all: Limit, each: Limit, room: Room, own: usize) {
        let met = if own >= room.each && room.each < room.all { each } else { all };
        self.fx.stats.count_limit(met);
    }
}

/// All effects of the engine: frames for guests, requests to the host, counters.
#[derive(Debug)]
pub(super) struct Effects {
    pub(super) frames: Frames,
    pub(super) host: HostSide,
    pub(super) stats: Stats,
    /// The frame that smoltcp writes its next segment to.
    pub(super) tx: TxFrame,
    pub(super) random: Random,
    /// By which names the guests have found addresses.
    pub(super) seen: Seen,
    /// What each container may reach outside.
    pub(super) policies: Policies,
    /// The host's interfaces, where groups are heard.
    pub(super) links: Vec<HostLink>,
    /// Who is to be told again that the gateway is its router.
    pub(super) adverts: ndp::Adverts,
    /// Who may have lost its IPv6 address.
    pub(super) doubts: Doubts,
    /// Room to write an ICMP message in.
    pub(super) message: Vec<u8>,
}

/// Frames for guests other than the segments of established flows, in order.
#[derive(Debug)]
pub(super) struct Frames {
    queue: VecDeque<(PortId, Vec<u8>)>,
    /// What the last of them is, if datagrams may be added to it.
    open: Option<Datagrams>,
    /// The same for segments of TCP from another host.
    segments: Option<Segments>,
    /// Length of all of them together, and of those of each port that has had some.
    bytes: usize,
    bytes_of: SortedMap<PortId, usize>,
    spare: Vec<Vec<u8>>,
    /// Those for ports with a rate.
    pub(super) shaper: Shaper,
    /// How many were taken since connections had their turn.
    in_a_row: u32,
    /// Whether the last frame was one that had waited for its port's rate.
    held_last: bool,
    /// The most bytes that wait, beyond which further datagrams are dropped, as a router with a full
    /// queue does. One frame of a guest can ask for fifty (an echo of the largest packet, in
    /// fragments), and datagrams of the host come as fast as the host is.
    most: usize,
}

/// One or several datagrams of one size in a frame.
#[derive(Debug, Clone, Copy)]
struct Datagrams {
    source: SocketAddr,
    destination: SocketAddr,
    /// Their length in bytes, once they are several.
    segment: Option<u16>,
}

/// How many frames of this queue go before one of a connection.
const MOST_IN_A_ROW: u32 = 4;
/// How many emptied frame buffers are kept.
const MAX_SPARE: usize = 64;

impl Effects {
    /// Queues the frame that `compose` writes into an empty buffer, if there is room.
    pub(super) fn queue(&mut self, port: PortId, compose: impl FnOnce(&mut Vec<u8>)) {
        if self.has_room(port, 1) {
            self.frames.push(port, compose);
        }
    }

    /// Whether another packet for a port may be queued, whole, in so many times the room that there
    /// is. Without room the last frames go of the port that has most, or this packet if that is it:
    /// each is counted as dropped.
    fn has_room(&mut self, port: PortId, times: usize) -> bool {
        if !self.frames.shaper.has_room(port, times) {
            self.stats.count_drop(DropReason::Rate);
            return false;
        }
        while !self.frames.has_room(times) {
            self.stats.count_drop(DropReason::QueueFull);
            self.stats.count_limit(Limit::Waiting);
            if !self.frames.make_room(port) {
                return false;
            }
        }
        true
    }

    /// Whether a frame of another container, as its TAP has it, may go to a port now. If not it
    /// waits there, or is dropped.
    pub(super) fn passes(&mut self, port: PortId, raw: &[u8], vnet: bool, now: Instant) -> bool {
        let head_room = if vnet { VNET_HEADER_LEN } else { 0 };
        if self.frames.shaper.passes(port, raw.len().saturating_sub(head_room), now) {
            return true;
        }
        if self.has_room(port, 1) {
            let mut frame = self.frames.empty();
            if !vnet {
                frame.resize(VNET_HEADER_LEN, 0);
            }
            frame.extend_from_slice(raw);
            self.frames.add(port, frame, true);
        }
        false
    }
}

impl Effects {
    /// Queues a frame of a machine behind another host, which may be added to the last one if it is
    /// what `segment` says.
    pub(super) fn deliver(&mut self, port: PortId, frame: Vec<u8>, segment: Option<Segments>) {
        if let Some(segment) = &segment
            && self.frames.has_room(1)
            && self.frames.add_segment(port, &frame, segment)
        {
            self.frames.recycle(frame);
        } else if self.has_room(port, 1) {
            self.frames.add(port, frame, false);
            let more = |first: &Segments| !first.pushed && !self.frames.shaper.is_limited(port);
            self.frames.segments = segment.filter(more);
        }
    }
}

impl Frames {
    pub(super) fn new(limits: &Limits) -> Self {
        let most = limits.get(Limit::Waiting).saturating_mul(1 << 20);
        Self {
            queue: VecDeque::new(),
            open: None,
            segments: None,
            bytes: 0,
            bytes_of: SortedMap::new(),
            spare: Vec::new(),
            shaper: Shaper::default(),
            in_a_row: 0,
            held_last: false,
            most,
        }
    }

    /// Queues the frame that `compose` writes into an empty buffer.
    fn push(&mut self, port: PortId, compose: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self.empty();
        compose(&mut buffer);
        self.add(port, buffer, false);
    }

    /// Nothing is added to the last frame any more.
    fn close(&mut self) {
        (self.open, self.segments) = (None, None);
    }

    /// How many frames wait for no rate.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// An empty buffer with room that it had before.
    pub(super) fn empty(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Queues a frame of the gateway, or `passed_on` of another container.
    fn add(&mut self, port: PortId, frame: Vec<u8>, passed_on: bool) {
        self.close();
        self.bytes += frame.len();
        *self.bytes_of.or_default(port) += frame.len();
        if self.shaper.is_limited(port) {
            self.shaper.hold(port, Held { frame, passed_on });
        } else {
            self.queue.push_back((port, frame));
        }
    }

    /// Takes the next frame for a port with a rate whose turn has come, every second time: a rate may
    /// be more than this machine can do, and nobody else is to wait for it.
    pub(super) fn next_held(&mut self, now: Instant) -> Option<(PortId, Held)> {
        if std::mem::take(&mut self.held_last) {
            return None;
        }
        let (port, held) = self.shaper.next(now)?;
        self.held_last = true;
        self.forget(port, held.frame.len());
        Some((port, held))
    }

    /// Adds a datagram to the last frame, if that is of others like it; the receiving kernel takes
    /// them apart, as it does with TCP's segments.
    fn add_datagram(
        &mut self,
        port: PortId,
        (source, destination): (SocketAddr, SocketAddr),
        body: &[u8],
    ) -> bool {
        let Some((open, (to, frame))) = self.open.as_mut().zip(self.queue.back_mut()) else {
            return false;
        };
        if (*to, open.source, open.destination) != (port, source, destination) {
            return false;
        }
        let ip_header_len = usize::from(ip_header_len(source.is_ipv6()));
        let payload_at = HEADROOM + ip_header_len + UDP_HEADER_LEN;
        let Some(size) = fits(frame.len().saturating_sub(payload_at), open.segment, body.len())
        else {
            return false;
        };
        frame.extend_from_slice(body);
        self.bytes += body.len();
        *self.bytes_of.or_default(port) += body.len();
        open.segment = Some(size);
        seal_datagrams(frame, source, destination, Some(size));
        true
    }

    /// The same with a segment of TCP in a frame.
    fn add_segment(&mut self, port: PortId, next: &[u8], segment: &Segments) -> bool {
        let Some((open, (to, frame))) = self.segments.as_mut().zip(self.queue.back_mut()) else {
            return false;
        };
        let before = frame.len();
        let added = if *to == port { open.add(frame, next, segment) } else { None };
        let Some(more) = added else { return false };
        let added = frame.len() - before;
        self.bytes += added;
        *self.bytes_of.or_default(port) += added;
        if !more {
            self.segments = None;
        }
        true
    }

    fn has_room(&self, times: usize) -> bool {
        self.bytes < self.most.saturating_mul(times)
    }

    /// Drops the last frame of the port that has most of them; false if `port` has as much.
    fn make_room(&mut self, port: PortId) -> bool {
        let own = self.bytes_of.get(&port).copied().unwrap_or(0);
        let most = self.bytes_of.iter().max_by_key(|(_, bytes)| **bytes);
        let Some((most, _)) = most.filter(|(_, bytes)| **bytes > own) else {
            return false;
        };
        let most = *most;
        let buffer = self.shaper.drop_last(most).or_else(|| {
            let last = self.queue.iter().rposition(|(to, _)| *to == most);
            last.and_then(|last| self.queue.remove(last)).map(|(_, buffer)| buffer)
        });
        if let Some(buffer) = buffer {
            self.close();
            self.forget(most, buffer.len());
            self.recycle(buffer);
        }
        true
    }

    fn forget(&mut self, port: PortId, length: usize) {
        self.bytes -= length;
        *self.bytes_of.or_default(port) -= length;
    }

    /// Whether connections are to have a frame now, if they want one: whoever fills this queue, with
    /// echoes of large packets from the gateway, say, does not keep them from sending.
    pub(super) fn yields(&mut self) -> bool {
        let yields = self.in_a_row >= MOST_IN_A_ROW;
        if yields {
            self.in_a_row = 0;
        }
        yields
    }

    /// Takes the next frame for a port without a rate.
    pub(super) fn pop(&mut self) -> Option<(PortId, Held)> {
        let (port, frame) = self.queue.pop_front()?;
        if self.queue.is_empty() {
            self.close();
        }
        self.forget(port, frame.len());
        self.in_a_row += 1;
        Some((port, Held { frame, passed_on: false }))
    }

    /// Forgets what waits for a port.
    pub(super) fn remove_port(&mut self, port: PortId) {
        self.close();
        self.shaper.remove(port);
        self.queue.retain(|(to, _)| *to != port);
        self.bytes -= self.bytes_of.remove(&port).unwrap_or(0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(buffer);
        }
    }
}

/// Numbers that nobody without the seed can predict: SipHash of a counter under a secret key.
#[derive(Debug)]
pub(super) struct Random {
    key: KeyedHash,
    counter: u64,
}

impl Random {
    pub(super) fn new(seed: [u64; 2]) -> Self {
        Self { key: KeyedHash::new(seed), counter: 0 }
    }

    /// The next number of 16 bits.
    pub(super) fn next_u16(&mut self) -> u16 {
        let [low, high, ..] = self.next_u64().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let mut hasher = self.key.build_hasher();
        hasher.write_u64(self.counter);
        hasher.finish()
    }
}

impl Turn<'_> {
    /// Takes note of whose an address is, where there are several machines: that one's which has just
    /// spoken.
    pub(super) fn note_speaker(&mut self, address: IpAddr) {
        if !self.link.machines.is_empty() && is_unicast(address) {
            self.link.machines.note(address, self.link.guest_mac);
        }
    }

    /// Whether an address is the gateway's, the DNS forwarder's, or stands for one of the host's.
    /// Among the host's neighbours the gateway is a machine as any other.
    pub(super) fn is_own_address(&self, address: IpAddr) -> bool {
        let rules = &self.network.rules;
        self.is_dns_address(address)
            || address == IpAddr::V6(ndp::link_local(self.link.gateway_mac.0))
            || (self.is_gateway(address) && rules.neighbours == Neighbours::Nobody)
            || rules.real(address).is_some()
    }

    /// Gives a packet of the guest to its connection, and sends an answer that cannot wait.
    pub(super) fn ingress(
        &mut self,
        connection: &mut Connection,
        packet: &mut [u8],
        header_len: usize,
    ) -> Result<(), Panicked> {
        let tx = &mut self.fx.tx;
        self.stack.ingress(connection, self.link, packet, header_len, self.now, tx)?;
        self.send_written_frame();
        Ok(())
    }

    /// Writes a connection's next segment to the transmit frame; `false` when there is none.
    pub(super) fn egress(&mut self, connection: &mut Connection) -> Result<bool, Panicked> {
        self.stack.egress(connection, self.link, self.now, &mut self.fx.tx)
    }

    /// Gives a connection rings of another size, unless something of it is on its way.
    pub(super) fn resize(
        &mut self,
        connection: &mut Connection,
        ends: Ends,
        ring: usize,
    ) -> Result<bool, Panicked> {
        let tx = &mut self.fx.tx;
        let resized = self.stack.resize(connection, ends, ring, self.link, self.now, tx)?;
        self.send_written_frame();
        Ok(resized)
    }

    /// Queues everything that a connection has to send now.
    pub(super) fn flush(&mut self, connection: &mut Connection) -> Result<(), Panicked> {
        while self.egress(connection)? {
            self.send_written_frame();
        }
        Ok(())
    }

    /// Answers a TCP packet with the reset that a closed port would send.
    pub(super) fn refuse(&mut self, packet: &[u8]) {
        match self.stack.refuse(self.link, packet, self.now, &mut self.fx.tx) {
            Ok(()) => self.send_written_frame(),
            Err(Panicked) => self.fx.stats.flow_panics += 1,
        }
    }

    /// Whether an address is the gateway's.
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        let addresses = &self.network.addresses;
        match address {
            IpAddr::V4(ip) => ip == addresses.v4.gateway,
            IpAddr::V6(ip) => addresses.v6.is_some_and(|v6| ip == v6.gateway),
        }
    }

    /// Whether an address is the DNS forwarder's.
    pub(super) fn is_dns_address(&self, address: IpAddr) -> bool {
        let addresses = &self.network.addresses;
        match address {
            IpAddr::V4(ip) => ip == addresses.v4.dns,
            IpAddr::V6(ip) => addresses.v6.is_some_and(|v6| ip == v6.dns),
        }
    }

    /// Queues the segment that the stack has just written.
    fn send_written_frame(&mut self) {
        // What TCP sends at once (handshakes, resets) has more, so that a flood of datagrams costs no
        // connection a second.
        let room = self.fx.tx.get().is_some() && self.fx.has_room(self.port, 2);
        let Effects { frames, tx, .. } = &mut *self.fx;
        if let Some(frame) = tx.get().filter(|_| room) {
            frames.push(self.port, |buffer| buffer.extend_from_slice(frame));
        }
        tx.clear();
    }

    /// Sends a UDP datagram to the guest.
    pub(super) fn send_udp(&mut self, source: SocketAddr, destination: SocketAddr, body: &[u8]) {
        let Ok(length) = u16::try_from(UDP_HEADER_LEN + body.len()) else {
            return;
        };
        let addresses = (source.ip(), destination.ip());
        let (source_ip, destination_ip) = addresses;
        let v6 = source_ip.is_ipv6();
        let ip_header_len = ip_header_len(v6);
        // A client of the other family may have sent more than fits an IPv4 packet.
        if !v6 && u16::checked_add(length, ip_header_len).is_none() {
            return;
        }
        let whole = usize::from(ip_header_len) + usize::from(length) <= self.link.mtu;
        let unfinished = whole && self.link.vnet;
        let write = |datagram: &mut [u8]| {
            let mut udp = UdpPacket::new_unchecked(datagram);
            udp.set_src_port(source.port());
            udp.set_dst_port(destination.port());
            udp.set_len(length);
            udp.payload_mut().copy_from_slice(body);
            if unfinished {
                // The guest's kernel adds the rest: it has to read the bytes anyway.
                let length = u32::from(length);
                let sum = pseudo_sum(source_ip, destination_ip, IpProtocol::Udp, length);
                udp.set_checksum(sum);
            } else {
                udp.fill_checksum(&source_ip.into(), &destination_ip.into());
            }
        };
        if self.link.uso
            && self.fx.frames.has_room(1)
            && self.fx.frames.add_datagram(self.port, (source, destination), body)
        {
            return;
        }
        if !whole {
            let mut datagram = vec![0; usize::from(length)];
            write(&mut datagram);
            self.send_fragments(addresses, IpProtocol::Udp, super::icmp::HOP_LIMIT, &datagram);
            return;
        }
        let composer = Composer { link: self.link, id: self.fx.random.next_u16() };
        let mut queued = false;
        self.fx.queue(self.port, |buffer| {
            queued = true;
            let hop_limit = super::icmp::HOP_LIMIT;
            composer.ip(buffer, addresses, IpProtocol::Udp, hop_limit, usize::from(length), write);
            if unfinished && let Some(header) = buffer.first_chunk_mut::<VNET_HEADER_LEN>() {
                write_vnet_header(header, v6, Transport::Udp, None);
            }
        });
        if queued && self.link.uso && !self.fx.frames.shaper.is_limited(self.port) {
            self.fx.frames.open = Some(Datagrams { source, destination, segment: None });
        }
    }

    /// Sends an IP packet with a finished payload to the guest, in fragments if need be.
    pub(super) fn send_datagram(
        &mut self,
        addresses: (IpAddr, IpAddr),
        protocol: IpProtocol,
        hop_limit: u8,
        payload: &[u8],
    ) {
        let header_len = ip_header_len(addresses.0.is_ipv6());
        if usize::from(header_len) + payload.len() > self.link.mtu {
            self.send_fragments(addresses, protocol, hop_limit, payload);
            return;
        }
        let composer = Composer { link: self.link, id: self.fx.random.next_u16() };
        self.fx.queue(self.port, |buffer| {
            composer.ip(buffer, addresses, protocol, hop_limit, payload.len(), |body| {
                body.copy_from_slice(payload);
            });
        });
    }

    /// Asks the guest which groups it is in.
    pub(super) fn ask_for_groups(&mut self, v6: bool) {
        if v6 {
            let source = ndp::link_local(self.link.gateway_mac.0);
            let addresses = (IpAddr::V6(source), IpAddr::V6(ndp::ALL_NODES));
            let query = groups::mld_query(source);
            self.send_datagram(addresses, IpProtocol::HopByHop, 1, &query);
        } else {
            let gateway = IpAddr::V4(self.network.addresses.v4.gateway);
            let addresses = (gateway, IpAddr::V4(groups::ALL_HOSTS));
            self.send_datagram(addresses, IpProtocol::Igmp, 1, &groups::igmp_query());
        }
    }

    /// RFC 791 section 3.2 and RFC 8200 section 4.5.
    fn send_fragments(
        &mut self,
        addresses: (IpAddr, IpAddr),
        protocol: IpProtocol,
        hop_limit: u8,
        payload: &[u8],
    ) {
        if !self.fx.has_room(self.port, 1) {
            return;
        }
        let v6 = addresses.0.is_ipv6();
        let header_len = usize::from(ip_header_len(v6)) + if v6 { IPV6_FRAGMENT_LEN } else { 0 };
        let step = (self.link.mtu - header_len) & !7;
        let [b0, b1, b2, b3, ..] = self.fx.random.next_u64().to_le_bytes();
        let id = u32::from_le_bytes([b0, b1, b2, b3]);
        let composer = Composer { link: self.link, id: u16::from_le_bytes([b0, b1]) };
        for (index, piece) in payload.chunks(step).enumerate() {
            let offset = index * step;
            let more = offset + piece.len() < payload.len();
            // Neither side can have a payload over 65,535 bytes.
            let Ok(offset) = u16::try_from(offset) else {
                return;
            };
            self.fx.frames.push(self.port, |buffer| {
                if v6 {
                    let length = IPV6_FRAGMENT_LEN + piece.len();
                    let next = IpProtocol::Ipv6Frag;
                    composer.ip(buffer, addresses, next, hop_limit, length, |body| {
                        let (header, rest) = body.split_at_mut(IPV6_FRAGMENT_LEN);
                        rest.copy_from_slice(piece);
                        write_ipv6_fragment(header, protocol, id, offset, more);
                    });
                } else {
                    composer.ip(buffer, addresses, protocol, hop_limit, piece.len(), |body| {
                        body.copy_from_slice(piece);
                    });
                    let packet = buffer.get_mut(HEADROOM..).unwrap_or_default();
                    set_ipv4_fragment(packet, composer.id, offset, more);
                }
            });
        }
    }
}

/// Writes lengths and checksums of a frame that has got another datagram.
fn seal_datagrams(
    frame: &mut [u8],
    source: SocketAddr,
    destination: SocketAddr,
    size: Option<u16>,
) {
    let v6 = source.is_ipv6();
    let ip_header_len = ip_header_len(v6);
    if let Some(header) = frame.first_chunk_mut::<VNET_HEADER_LEN>() {
        write_vnet_header(header, v6, Transport::Udp, size);
    }
    let packet = frame.get_mut(HEADROOM..).unwrap_or_default();
    let Some(length) = set_ip_length(packet, v6) else {
        return;
    };
    let datagram = packet.get_mut(usize::from(ip_header_len)..).unwrap_or_default();
    let mut udp = UdpPacket::new_unchecked(datagram);
    udp.set_len(length);
    let (source, destination) = (source.ip(), destination.ip());
    udp.set_checksum(pseudo_sum(source, destination, IpProtocol::Udp, u32::from(length)));
}

/// Length of the IPv6 fragment extension header, in bytes.
const IPV6_FRAGMENT_LEN: usize = 8;

fn write_ipv6_fragment(header: &mut [u8], next: IpProtocol, id: u32, offset: u16, more: bool) {
    let [protocol, reserved, position @ ..] = header else {
        return;
    };
    *protocol = next.into();
    *reserved = 0;
    let mut fragment = Ipv6FragmentHeader::new_unchecked(position);
    fragment.clear_reserved();
    fragment.set_frag_offset(offset / 8);
    fragment.set_more_frags(more);
    fragment.set_ident(id);
}
