//! Rings of another size for a connection that stands.
//!
//! smoltcp fixes a socket's rings when it is made, while what a flow needs is known only once bytes
//! flow. At a moment when nothing is on its way in either direction, a connection's state is a few
//! numbers: a new socket is led through a handshake that the guest never sees, and takes the old
//! one's place. It has sequence numbers of its own; from then on [`Wire::offset`] is added to them
//! on their way out and taken from the guest's acknowledgements on their way in.
//!
//! The scale of our windows is agreed once, in the real handshake: every connection states the one
//! of [`LARGEST_RING`].

use std::net::SocketAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::{Connection, Instant, Link, Panicked, Stack, TxFrame, tcp};

/// The largest ring that a connection may be given, in bytes. A single fast flow gains a tenth by it
/// beside half as much, and nothing from more (docs/performance.md).
pub(in crate::engine) const LARGEST_RING: usize = 2 << 20;

/// After how many acknowledgements that are alike smoltcp sends again (RFC 5681, section 3.2).
const DUPLICATE_ACKS: usize = 3;

/// What the guest and we have agreed on, whichever socket stands behind it. Numbers are those on
/// the link.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wire {
    /// What is added to the socket's sequence numbers.
    pub(super) offset: u32,
    /// Our next sequence number.
    sent: u32,
    /// The end of what was sent again last, or what is acknowledged if that is further.
    resent: u32,
    /// What of ours the guest has acknowledged.
    acknowledged: u32,
    /// The guest's next sequence number, as far as we have told it so.
    received: u32,
    /// The end of the furthest segment of the guest.
    furthest: u32,
    /// The furthest end of the windows that we have offered, as far as there is room for them.
    edge: u32,
    /// Whether we have acknowledged anything, and `received` and `edge` so are numbers of the guest's.
    answered: bool,
    /// The guest's window, as its last segment had it.
    window: u16,
    /// The scale of the guest's windows, if windows are scaled.
    pub(super) guest_scale: Option<u8>,
    /// Whether the guest takes selective acknowledgements.
    pub(super) sack: bool,
}

/// The numbers of a segment that went to the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    syn: bool,
    ack: bool,
    empty: bool,
    end: u32,
    acknowledged: u32,
    edge: u32,
}

impl Sent {
    /// The numbers of a finished segment whose window is to be shifted by `shift`.
    pub(super) fn of(tcp: &TcpPacket<&[u8]>, shift: u8) -> Self {
        let acknowledged = bits(tcp.ack_number());
        let window = u32::from(tcp.window_len()) << shift;
        Self {
            syn: tcp.syn(),
            ack: tcp.ack(),
            empty: tcp.segment_len() == 0,
            end: bits(tcp.seq_number() + tcp.segment_len()),
            acknowledged,
            edge: acknowledged.wrapping_add(window),
        }
    }
}

impl Wire {
    /// Notes a segment of the guest, and turns what it acknowledges into the socket's numbers.
    /// Returns how often the socket has to hear it to send again what the guest misses.
    ///
    /// A guest that misses bytes states a larger window whenever its reader took some, but smoltcp
    /// sends them again only after acknowledgements that are alike: the growth has to wait. If one
    /// loss is made good and the next shows, smoltcp would wait for three more of them, which a full
    /// window does not bring; RFC 6582, section 3.2, does not wait for a *partial acknowledgement*. One
    /// of a part of what was sent again last tells of no other loss: the rest is on its way.
    pub(super) fn note_received(&mut self, segment: &mut [u8]) -> usize {
        let Ok(mut tcp) = TcpPacket::new_checked(segment) else {
            return 1;
        };
        let end = bits(tcp.seq_number() + tcp.segment_len());
        if tcp.syn() || is_after(end, self.furthest) {
            self.furthest = end;
        }
        // smoltcp cuts off what does not fit, and takes the FIN behind it nevertheless.
        if tcp.fin() && !tcp.syn() && is_after(end.wrapping_sub(1), self.edge) {
            tcp.set_fin(false);
        }
        if !tcp.ack() {
            return 1;
        }
        let acknowledged = bits(tcp.ack_number());
        let partial = is_after(acknowledged, self.acknowledged);
        let misses = misses_bytes(&tcp);
        if misses && !partial && self.window > 0 {
            tcp.set_window_len(self.window.min(tcp.window_len()));
        }
        let on_its_way = is_after(self.resent, acknowledged);
        if !on_its_way {
            self.resent = acknowledged;
        }
        self.acknowledged = acknowledged;
        self.window = tcp.window_len();
        if self.offset != 0 {
            tcp.set_ack_number(number(acknowledged.wrapping_sub(self.offset)));
        }
        let alone = tcp.segment_len() == 0;
        if misses && partial && alone && !on_its_way { 1 + DUPLICATE_ACKS } else { 1 }
    }

    /// Turns a SYN of a connection that stands, and a reset in the window that is not exact, into what
    /// asks for nothing but an acknowledgement: if the guest means it, that brings the exact reset
    /// (RFC 5961, sections 3.2 and 4.2). smoltcp is deaf to the one and takes the other for good.
    pub(super) fn challenge(&self, segment: &mut [u8]) {
        let Ok(mut tcp) = TcpPacket::new_checked(segment) else {
            return;
        };
        let seq = bits(tcp.seq_number());
        // Its own next number may be beyond what we have told it that we have.
        let exact = [self.received, self.furthest, self.edge].contains(&seq);
        let inside = is_after(seq, self.received) && !is_after(seq, self.edge);
        let inexact = tcp.rst() && inside && !exact;
        if !inexact && (tcp.rst() || !tcp.syn()) {
            return;
        }
        let payload = u32::try_from(tcp.payload_mut().len()).unwrap_or(0);
        tcp.clear_flags();
        tcp.set_ack(true);
        tcp.set_seq_number(number(self.received.wrapping_sub(1).wrapping_sub(payload)));
        tcp.set_ack_number(number(self.acknowledged));
        tcp.set_window_len(self.window);
    }

    /// Notes a segment to the guest.
    pub(super) fn note_sent(&mut self, sent: Sent) {
        if sent.syn || is_after(sent.end, self.sent) {
            self.sent = sent.end;
        } else if !sent.empty {
            self.resent = sent.end;
        }
        if sent.syn {
            self.resent = sent.end;
        }
        if sent.ack {
            self.received = sent.acknowledged;
            if !self.answered || sent.syn || is_after(sent.edge, self.edge) {
                self.edge = sent.edge;
            }
            self.answered = true;
        }
    }

    /// Whether each side knows that the other has everything it sent.
    fn is_quiet(&self) -> bool {
        self.acknowledged == self.sent && self.furthest == self.received
    }

    /// A segment of the guest without a payload: the SYN that began the connection, as it would be
    /// with today's numbers, or an acknowledgement of `acknowledged`, `before` its next number.
    fn guest_segment(
        &self,
        ends: Ends,
        mss: u16,
        before: u32,
        acknowledged: Option<u32>,
    ) -> (Vec<u8>, usize) {
        let Ends { guest, host } = ends;
        let syn = acknowledged.is_none();
        let tcp = TcpRepr {
            src_port: guest.port(),
            dst_port: host.port(),
            control: if syn { TcpControl::Syn } else { TcpControl::None },
            seq_number: number(self.received.wrapping_sub(before)),
            ack_number: acknowledged.map(number),
            window_len: self.window,
            window_scale: self.guest_scale.filter(|_| syn),
            max_seg_size: syn.then_some(mss),
            sack_permitted: syn && self.sack,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (source, destination) = (IpAddress::from(guest.ip()), IpAddress::from(host.ip()));
        let ip = IpRepr::new(source, destination, IpProtocol::Tcp, tcp.buffer_len(), 64);
        let mut packet = vec![0; ip.buffer_len()];
        let unchecked = ChecksumCapabilities::ignored();
        ip.emit(&mut packet, &unchecked);
        let header_len = ip.header_len();
        let mut segment =
            TcpPacket::new_unchecked(packet.get_mut(header_len..).unwrap_or_default());
        tcp.emit(&mut segment, &source, &destination, &unchecked);
        (packet, header_len)
    }
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Ends {
    pub(in crate::engine) guest: SocketAddr,
    pub(in crate::engine) host: SocketAddr,
}

impl Connection {
    /// Whether nothing is on its way in either direction, nor waits in a ring.
    fn is_quiescent(&self) -> bool {
        let socket = self.socket();
        socket.state() == tcp::State::Established
            && socket.send_queue() == 0
            && socket.recv_queue() == 0
            && self.wire.is_quiet()
    }

    /// The largest ring that makes a difference: without scaled windows a guest cannot use more
    /// than 64 KiB.
    pub(in crate::engine) fn largest_ring(&self) -> usize {
        match self.wire.guest_scale {
            Some(_) => LARGEST_RING,
            None => usize::from(u16::MAX),
        }
    }

    /// The length of each of its rings, in bytes.
    pub(in crate::engine) fn ring(&self) -> usize {
        self.socket().recv_capacity()
    }
}

impl Stack {
    /// Gives a connection rings of `ring` bytes each, and tells the guest its new window by the frame
    /// in `tx`. Returns `false`, and leaves all as it is, while anything is on its way.
    pub(in crate::engine) fn resize(
        &mut self,
        connection: &mut Connection,
        ends: Ends,
        ring: usize,
        link: &Link,
        now: Instant,
        tx: &mut TxFrame,
    ) -> Result<bool, Panicked> {
        if !connection.is_quiescent() {
            return Ok(false);
        }
        let memory = connection.charge.memory.clone();
        let Some(mut successor) = Self::accept(ends.host, ring, &memory) else {
            return Ok(false);
        };
        let old = connection.wire;
        let (mut syn, header_len) = old.guest_segment(ends, connection.segments.mss, 1, None);
        self.ingress(&mut successor, link, &mut syn, header_len, now, tx)?;
        self.egress(&mut successor, link, now, tx)?;
        let own = successor.wire.sent;
        let (mut ack, header_len) = old.guest_segment(ends, 0, 0, Some(own));
        self.ingress(&mut successor, link, &mut ack, header_len, now, tx)?;
        tx.clear();
        if successor.state() != tcp::State::Established {
            return Ok(false);
        }
        let offset = old.sent.wrapping_sub(own);
        let room = old.received.wrapping_add(u32::try_from(ring).unwrap_or(u32::MAX));
        let edge = if is_after(old.edge, room) { room } else { old.edge };
        successor.wire = Wire { offset, edge, ..old };
        *connection = successor;
        // What a keep-alive asks for is an acknowledgement, and that states the window.
        let (mut probe, header_len) = old.guest_segment(ends, 0, 1, Some(old.sent));
        self.ingress(connection, link, &mut probe, header_len, now, tx)?;
        Ok(true)
    }
}

fn bits(number: TcpSeqNumber) -> u32 {
    number.0.cast_unsigned()
}

pub(super) fn number(bits: u32) -> TcpSeqNumber {
    TcpSeqNumber(bits.cast_signed())
}

/// Whether the guest has bytes beyond those that it acknowledges (RFC 2018, section 3). What it had
/// already and tells of once more (RFC 2883) is not beyond.
fn misses_bytes(tcp: &TcpPacket<&mut [u8]>) -> bool {
    let ranges = tcp.selective_ack_ranges().unwrap_or_default();
    let beyond = |&(begin, _): &(u32, u32)| is_after(begin, bits(tcp.ack_number()));
    ranges.iter().flatten().any(beyond)
}

/// Whether one sequence number comes after another (RFC 9293, section 3.4).
fn is_after(number: u32, other: u32) -> bool {
    number.wrapping_sub(other).cast_signed() > 0
}
