//! TCP towards the guest: the only file that uses `smoltcp::iface` and `smoltcp::socket`.
//!
//! One [`Stack`] per switch port and one [`Connection`] per flow, each a `SocketSet` that holds a
//! single socket, because smoltcp walks every socket of a set for every packet. Both are passed to
//! `Interface::poll_*` together, so a packet costs the same with one flow and with ten thousand.
//!
//! Defects of smoltcp 0.14.0 that this file works round, each with a test here:
//! - its window is rounded down, so the right edge may move left and a FIN at that edge truncates
//!   the stream: every window is sent one unit lower ([`Egress::guard_window`]);
//! - it offers windows smaller than a segment, on which a Linux sender waits (RFC 9293,
//!   section 3.8.6.2.2): such a window is sent as zero;
//! - its segmentation offload loses IPv6: smoltcp believes in a 64 KiB MTU (the *virtual MTU*),
//!   MSS options are rewritten on their way, and the virtio header says where to cut;
//! - it sends lost bytes again a second after, unless three acknowledgements are alike to the window
//!   that they state, though they tell of a loss by themselves: they are made alike
//!   ([`succession::Wire::note_received`]);
//! - a guest that acknowledges our FIN with a window of zero leaves its zero-window timer running,
//!   and in FIN-WAIT-2 every poll then sends one more acknowledgement, without end: there only what
//!   happened since the last frame is a reason for another ([`Connection::is_quiet`]).
//!
//! What a connection's rings become once it is busy is in [`succession`].
//!
//! smoltcp panics by design when sequence numbers that a peer chose make no sense (its issues 489,
//! 1048, 1051). Every call into it ends such a panic as [`Panicked`], and the flow with it.
//!
//! Read first: RFC 9293, and `docs/decisions/` on the virtual MTU.

mod succession;

use std::cell::Cell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::{HardwareAddress, IpProtocol, TcpPacket, TcpSeqNumber};

pub(super) use self::succession::{Ends, LARGEST_RING};
use self::succession::{Sent, Wire};
use super::Instant;
use super::frame::{
    ETHERNET_HEADER_LEN, HEADROOM, Link, MAX_FRAME_LEN, Transport, VNET_HEADER_LEN, addresses,
    ip_header_len, pseudo_sum, write_ethernet_header, write_vnet_header,
};

/// What smoltcp believes the MTU to be where the TAP cuts super-frames, in bytes.
const VIRTUAL_MTU: usize = 65_535;
/// Most segments in one super-frame: at an MSS of 1,460 this is already 64 KiB, and a guest that
/// asks for tiny segments must not make the host's kernel cut one frame into thousands.
const MAX_SEGMENTS_PER_FRAME: usize = 64;
/// MSS of a peer that states none (RFC 9293, section 3.7.1; RFC 8200, section 8.3), in bytes.
const DEFAULT_MSS_V4: u16 = 536;
const DEFAULT_MSS_V6: u16 = 1220;
/// The smallest MSS that smoltcp takes, as Linux's `TCP_MIN_SND_MSS`, in bytes.
const MIN_MSS: u16 = 48;
const TCP_HEADER_LEN: usize = 20;

/// Silence after which an established flow is probed (RFC 9293, section 3.8.4: two hours).
const KEEP_ALIVE: Duration = Duration::from_secs(2 * 60 * 60);
/// How often a connection in FIN-WAIT-2 speaks unasked, at most.
const FIN_WAIT_2_PACE: Duration = Duration::from_secs(60);
/// How long the acknowledgement of a guest's FIN waits for our own end to carry it, as it mostly can:
/// most servers end a connection when they hear of the client's end (RFC 9293, section 3.8.6.3,
/// allows 500 ms for any segment).
const FIN_ACK: Duration = Duration::from_millis(10);
/// Silence after which it is given up: the probe and ten minutes for its answer.
const GIVE_UP: Duration = Duration::from_secs(2 * 60 * 60 + 10 * 60);

/// One frame on its way to a guest: the buffer that smoltcp writes segments into.
#[derive(Debug)]
pub(super) struct TxFrame {
    buffer: Box<[u8]>,
    len: usize,
    /// The numbers of the segment in it.
    sent: Option<Sent>,
}

impl TxFrame {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; MAX_FRAME_LEN].into_boxed_slice(), len: 0, sent: None }
    }

    /// The frame with its head-room, if one was written since the last call of `clear`.
    pub(super) fn get(&self) -> Option<&[u8]> {
        if self.len == 0 { None } else { self.buffer.get(..self.len) }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.sent = None;
    }
}

/// A switch port's TCP/IP stack.
pub(super) struct Stack {
    interface: Interface,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

/// What the rings of all connections have of the memory that there is for them, in bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Rc<Cell<usize>>);

impl Memory {
    pub(super) fn used(&self) -> usize {
        self.0.get()
    }

    fn charge(&self, bytes: usize) -> Charge {
        self.0.set(self.0.get() + bytes);
        Charge { memory: self.clone(), bytes }
    }
}

/// One connection's part of it, which it gives back at its end.
#[derive(Debug)]
struct Charge {
    memory: Memory,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Memory(used) = &self.memory;
        used.set(used.get().saturating_sub(self.bytes));
    }
}

/// One TCP connection with the guest.
pub(super) struct Connection {
    charge: Charge,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    segments: Segments,
    wire: Wire,
    /// In FIN-WAIT-2: when to speak again, unless something happens before.
    quiet_until: Option<Instant>,
    /// In CLOSE-WAIT: when to acknowledge the guest's FIN, unless there is more to say before.
    fin_ack_at: Option<Instant>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// smoltcp panicked; the connection is in no state to be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panicked;

fn guard<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}

/// What has to be known of a connection to finish its segments.
#[derive(Debug, Clone, Copy)]
struct Look {
    segments: Segments,
    /// See [`Wire::offset`].
    offset: u32,
}

/// What the segments of one connection look like on the real link.
#[derive(Debug, Clone, Copy)]
struct Segments {
    /// The guest's real MSS, in bytes.
    mss: u16,
    /// How far smoltcp shifts our windows.
    window_shift: u8,
    /// How far the guest shifts them back.
    agreed_shift: u8,
    /// Windows below this many bytes are sent as zero.
    smallest_window: usize,
}

impl Stack {
    /// A stack whose sequence numbers depend on `seed`, which must be unpredictable.
    pub(super) fn new(link: &Link, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut no_frame = TxFrame { buffer: Box::default(), len: 0, sent: None };
        let mut device = Port::new(link, None, &mut no_frame, None);
        let mut interface = Interface::new(config, &mut device, now);
        interface.set_any_ip(true);
        Self { interface }
    }

    /// Gives a packet of the guest to `connection`. An answer that cannot wait goes to `tx`.
    pub(super) fn ingress(
        &mut self,
        connection: &mut Connection,
        link: &Link,
        packet: &mut [u8],
        header_len: usize,
        now: Instant,
        tx: &mut TxFrame,
    ) -> Result<(), Panicked> {
        connection.quiet_until = None;
        // A SYN on an open connection is an error for smoltcp to answer, nothing to learn from.
        if matches!(connection.state(), tcp::State::Listen | tcp::State::SynSent) {
            connection.learn(link, packet, header_len);
        }
        let segment = packet.get_mut(header_len..).unwrap_or_default();
        if connection.is_synchronized() {
            connection.wire.challenge(segment);
        }
        let times = connection.wire.note_received(segment);
        let was_open = connection.state() == tcp::State::Established;
        for _ in 0..times {
            let mut device = Port::new(link, Some(packet), tx, Some(connection.look()));
            guard(|| {
                self.interface.poll_ingress_single(now, &mut device, &mut connection.sockets);
            })?;
            if tx.get().is_some() {
                break;
            }
        }
        // A FIN that comes again, or anything else, is answered at once.
        let ends = was_open && connection.state() == tcp::State::CloseWait;
        connection.fin_ack_at = ends.then(|| now + FIN_ACK);
        connection.note_sent(tx);
        Ok(())
    }

    /// Writes the next segment of `connection` to `tx`; `false` when there is none.
    pub(super) fn egress(
        &mut self,
        connection: &mut Connection,
        link: &Link,
        now: Instant,
        tx: &mut TxFrame,
    ) -> Result<bool, Panicked> {
        let mut device = Port::new(link, None, tx, Some(connection.look()));
        if connection.is_quiet(now) {
            return Ok(false);
        }
        guard(|| {
            self.interface.poll_egress(now, &mut device, &mut connection.sockets);
        })?;
        connection.note_sent(tx);
        let written = tx.len > 0;
        if written && connection.state() == tcp::State::FinWait2 {
            connection.quiet_until = Some(now + FIN_WAIT_2_PACE);
        }
        Ok(written)
    }

    /// Writes the reset that answers `packet` to `tx`, as a host without the port would.
    pub(super) fn refuse(
        &mut self,
        link: &Link,
        packet: &[u8],
        now: Instant,
        tx: &mut TxFrame,
    ) -> Result<(), Panicked> {
        let mut device = Port::new(link, Some(packet), tx, None);
        guard(|| {
            let mut nobody = SocketSet::new(&mut [][..]);
            self.interface.poll_ingress_single(now, &mut device, &mut nobody);
        })
    }

    /// When `connection` wants to be polled again, whatever arrives or not.
    pub(super) fn poll_at(
        &mut self,
        connection: &Connection,
        now: Instant,
    ) -> Result<Option<Instant>, Panicked> {
        let at = guard(|| self.interface.poll_at(now, &connection.sockets))?;
        Ok(at.map(|at| connection.quiet().map_or(at, |quiet| at.max(quiet))))
    }

    /// A connection that waits for the guest's SYN, which is then given to [`Stack::ingress`].
    pub(super) fn accept(host: SocketAddr, ring: usize, memory: &Memory) -> Option<Connection> {
        let mut connection = Connection::new(ring, host.is_ipv6(), memory);
        connection.socket_mut().listen(host).ok()?;
        Some(connection)
    }

    /// A connection to the guest from `host`'s address.
    pub(super) fn connect(
        &mut self,
        guest: SocketAddr,
        host: SocketAddr,
        ring: usize,
        memory: &Memory,
    ) -> Option<Connection> {
        let mut connection = Connection::new(ring, host.is_ipv6(), memory);
        let socket = connection.sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
        socket.connect(self.interface.context(), guest, host).ok()?;
        Some(connection)
    }
}

impl Connection {
    fn new(ring: usize, v6: bool, memory: &Memory) -> Self {
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; ring]),
            tcp::SocketBuffer::new(vec![0; ring]),
        );
        // The other side of the flow has its own Nagle and its own idea of delay.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(GIVE_UP));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let mss = if v6 { DEFAULT_MSS_V6 } else { DEFAULT_MSS_V4 };
        let segments = Segments {
            mss,
            window_shift: window_shift(ring),
            agreed_shift: AGREED_SHIFT,
            smallest_window: ring / 2,
        };
        let charge = memory.charge(2 * ring);
        Self {
            charge,
            sockets,
            handle,
            segments,
            wire: Wire::default(),
            quiet_until: None,
            fin_ack_at: None,
        }
    }

    /// Learns from the guest's SYN; smoltcp is shown another MSS than the guest's.
    fn learn(&mut self, link: &Link, packet: &mut [u8], header_len: usize) {
        if let Some(segment) = packet.get_mut(header_len..) {
            self.segments.learn(link, segment, header_len, &mut self.wire);
        }
    }

    /// What the device has to know of it.
    fn look(&self) -> Look {
        Look { segments: self.segments, offset: self.wire.offset }
    }

    fn note_sent(&mut self, tx: &TxFrame) {
        if let Some(sent) = tx.sent {
            self.wire.note_sent(sent);
        }
    }

    pub(super) fn socket(&self) -> &tcp::Socket<'static> {
        self.sockets.get(self.handle)
    }

    pub(super) fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.quiet_until = None;
        self.sockets.get_mut(self.handle)
    }

    /// Whether both sides know each other's numbers (RFC 9293, section 3.3.2).
    fn is_synchronized(&self) -> bool {
        use tcp::State;
        let state = self.state();
        !matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
    }

    /// Until when it has nothing to say, whatever smoltcp thinks.
    fn quiet(&self) -> Option<Instant> {
        match self.state() {
            tcp::State::FinWait2 => self.quiet_until,
            tcp::State::CloseWait if self.socket().send_queue() == 0 => self.fin_ack_at,
            _ => None,
        }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet().is_some_and(|until| now < until)
    }

    pub(super) fn state(&self) -> tcp::State {
        self.socket().state()
    }
}

impl Segments {
    /// Learns the guest's real MSS from its SYN, and shows smoltcp the virtual one instead.
    fn learn(&mut self, link: &Link, segment: &mut [u8], header_len: usize, wire: &mut Wire) {
        let Ok(tcp) = TcpPacket::new_checked(&*segment) else {
            return;
        };
        if !tcp.syn() {
            return;
        }
        let overhead = header_len + TCP_HEADER_LEN;
        let ring_half = self.smallest_window;
        for_each_option(segment, |kind, value| match (kind, value) {
            (OPTION_MSS, [high, low]) => {
                self.mss = u16::from_be_bytes([*high, *low]).max(MIN_MSS);
                if link.vnet {
                    [*high, *low] = virtual_mss(self.mss, overhead).to_be_bytes();
                }
            }
            (OPTION_WINDOW_SCALE, [scale]) => wire.guest_scale = Some(*scale),
            (OPTION_SACK_PERMITTED, []) => wire.sack = true,
            _ => {}
        });
        let largest = u16::try_from(link.mtu.saturating_sub(overhead)).unwrap_or(u16::MAX);
        self.mss = self.mss.min(largest.max(MIN_MSS));
        self.smallest_window = usize::from(self.mss).min(ring_half);
        if wire.guest_scale.is_none() {
            self.window_shift = 0;
            self.agreed_shift = 0;
        }
    }
}

/// The largest whole number of segments that fits one super-frame, in bytes.
fn virtual_mss(mss: u16, overhead: usize) -> u16 {
    let segments = ((VIRTUAL_MTU - overhead) / usize::from(mss)).clamp(1, MAX_SEGMENTS_PER_FRAME);
    u16::try_from(segments * usize::from(mss)).unwrap_or(mss)
}

/// How far the windows of every connection are shifted on the link, where the guest can do that.
const AGREED_SHIFT: u8 = window_shift(LARGEST_RING);

/// How far smoltcp shifts the windows of a ring of `ring` bytes: the same rule as its own.
const fn window_shift(ring: usize) -> u8 {
    let mut shift = 0;
    while ring >> (16 + shift) > 0 {
        shift += 1;
    }
    shift
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_WINDOW_SCALE: u8 = 3;
const OPTION_SACK_PERMITTED: u8 = 4;

/// Calls `visit` with each TCP option's kind and value bytes.
fn for_each_option(segment: &mut [u8], mut visit: impl FnMut(u8, &mut [u8])) {
    let Some(&offset) = segment.get(12) else {
        return;
    };
    let header_len = usize::from(offset >> 4) * 4;
    let Some(mut options) = segment.get_mut(TCP_HEADER_LEN..header_len) else {
        return;
    };
    loop {
        match options {
            [OPTION_NOP, rest @ ..] => options = rest,
            [] | [OPTION_END, ..] | [_] => return,
            [kind, length, rest @ ..] => {
                let Some(value_len) = usize::from(*length).checked_sub(2) else {
                    return;
                };
                let Some((value, rest)) = rest.split_at_mut_checked(value_len) else {
                    return;
                };
                visit(*kind, value);
                options = rest;
            }
        }
    }
}

/// The device smoltcp sees for one call: at most one packet in, at most one frame out.
struct Port<'a> {
    link: &'a Link,
    rx: Option<&'a [u8]>,
    tx: &'a mut TxFrame,
    look: Option<Look>,
}

impl<'a> Port<'a> {
    fn new(link: &'a Link, rx: Option<&'a [u8]>, tx: &'a mut TxFrame, look: Option<Look>) -> Self {
        tx.clear();
        Self { link, rx, tx, look }
    }
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Ingress<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Egress<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Ingress<'_>, Egress<'_>)> {
        let packet = self.rx.take()?;
        Some((Ingress(packet), Egress { link: self.link, tx: self.tx, look: self.look }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Egress<'_>> {
        (self.tx.len == 0).then_some(Egress { link: self.link, tx: self.tx, look: self.look })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit =
            if self.link.vnet { VIRTUAL_MTU } else { self.link.mtu };
        // Verified by `frame::parse` on the way in; finished below or by the guest on the way out.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

struct Ingress<'a>(&'a [u8]);

impl RxToken for Ingress<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

struct Egress<'a> {
    link: &'a Link,
    tx: &'a mut TxFrame,
    look: Option<Look>,
}

impl TxToken for Egress<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, len: usize, f: F) -> R {
        let Some(packet) = self.tx.buffer.get_mut(HEADROOM..HEADROOM + len) else {
            // smoltcp never asks for more than its MTU.
            return f(&mut vec![0; len]);
        };
        let result = f(packet);
        if self.finish(len).is_some() {
            self.tx.len = HEADROOM + len;
        }
        result
    }
}

impl Egress<'_> {
    /// Turns smoltcp's packet into a frame of the real link.
    fn finish(&mut self, len: usize) -> Option<()> {
        let (head, rest) = self.tx.buffer.split_at_mut_checked(HEADROOM)?;
        let packet = rest.get_mut(..len)?;
        let (source, destination) = addresses(packet)?;
        let v6 = source.is_ipv6();
        let header_len = usize::from(ip_header_len(v6));
        let segment = packet.get_mut(header_len..)?;
        let segment_len = u32::try_from(segment.len()).ok()?;

        let (syn, tcp_header_len, payload_len) = {
            let tcp = TcpPacket::new_checked(&*segment).ok()?;
            (tcp.syn(), tcp.header_len(), tcp.payload().len())
        };
        if let Some(look) = self.look {
            Self::restore_numbers(segment, look.offset);
        }
        if syn {
            Self::state_real_options(self.link, segment, header_len);
        } else if let Some(look) = self.look {
            Self::guard_window(segment, look.segments);
        }
        self.tx.sent = self.look.map(|look| {
            let shift = if syn { 0 } else { look.segments.agreed_shift };
            Sent::of(&TcpPacket::new_unchecked(&*segment), shift)
        });

        if self.link.vnet {
            let sum = pseudo_sum(source, destination, IpProtocol::Tcp, segment_len);
            TcpPacket::new_unchecked(&mut *segment).set_checksum(sum);
            let mss = self.look.map_or(u16::MAX, |look| look.segments.mss);
            let gso_size = (payload_len > usize::from(mss)).then_some(mss);
            let transport = Transport::Tcp(u16::from(tcp_header_len));
            write_vnet_header(head.first_chunk_mut()?, v6, transport, gso_size);
        } else {
            TcpPacket::new_unchecked(&mut *segment)
                .fill_checksum(&source.into(), &destination.into());
        }
        let ethernet = head.get_mut(VNET_HEADER_LEN..VNET_HEADER_LEN + ETHERNET_HEADER_LEN)?;
        write_ethernet_header(ethernet, self.link, destination);
        Some(())
    }

    /// The guest knows our sequence numbers as the connection's first socket chose them.
    fn restore_numbers(segment: &mut [u8], offset: u32) {
        if offset != 0 {
            let mut tcp = TcpPacket::new_unchecked(segment);
            let own = tcp.seq_number();
            tcp.set_seq_number(TcpSeqNumber(own.0.wrapping_add(offset.cast_signed())));
        }
    }

    /// The guest must send segments that fit its own link, not smoltcp's virtual one; and its idea
    /// of our windows' scale outlives the ring that smoltcp has now.
    fn state_real_options(link: &Link, segment: &mut [u8], ip_header_len: usize) {
        let real = link.mtu.saturating_sub(ip_header_len + TCP_HEADER_LEN);
        let real = u16::try_from(real).unwrap_or(u16::MAX);
        for_each_option(segment, |kind, value| match (kind, value) {
            (OPTION_MSS, [high, low]) => [*high, *low] = real.to_be_bytes(),
            (OPTION_WINDOW_SCALE, [scale]) => *scale = AGREED_SHIFT,
            _ => {}
        });
    }

    /// Keeps the window's right edge from moving left, and a window that is smaller than a
    /// segment from being offered.
    ///
    /// smoltcp's edge lies in `(true - 2^shift, true]` and never moves left before rounding, so an
    /// edge one unit lower is always inside what it accepts. It counts with its own, larger window
    /// when it decides on a window update; as `smallest_window` is at most half the ring, that
    /// update comes at the latest when the ring is empty.
    fn guard_window(segment: &mut [u8], segments: Segments) {
        let mut tcp = TcpPacket::new_unchecked(segment);
        let window = tcp.window_len().saturating_sub(1);
        let bytes = usize::from(window) << segments.window_shift;
        let offered = bytes >> segments.agreed_shift;
        let too_small = offered << segments.agreed_shift < segments.smallest_window;
        // The agreed scale is that of the largest ring, so every window fits.
        let offered = u16::try_from(offered).unwrap_or(u16::MAX);
        tcp.set_window_len(if too_small { 0 } else { offered });
    }
}

#[cfg(test)]
#[path = "stack_tests.rs"]
mod tests;
