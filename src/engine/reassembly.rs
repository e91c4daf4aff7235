//! Fragments from guests, put together again.
//!
//! A pool of so many at once ([`Limit::Fragments`]); beyond, the oldest of the port that has most is
//! dropped for a new one. A datagram whose fragments overlap is dropped whole (RFC 8200 section 4.5;
//! for IPv4 the same, since no honest sender makes them).
//! Read first: RFC 791 section 3.2, RFC 8200 section 4.5.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::{IpProtocol, IpRepr};

use super::frame::IpPacket;
use super::stats::{DropReason, Stats};
use super::{Instant, PortId};
use crate::config::{Limit, Limits};
use crate::sorted::SortedMap;

/// The largest payload that an IP packet can have, in bytes.
const MAX_PAYLOAD: usize = 65_535;

/// The longest payload behind a header of `header_len` bytes: IPv4 counts its header in the length
/// field, IPv6 does not.
fn longest_payload(header_len: usize) -> usize {
    if header_len == 20 { MAX_PAYLOAD - header_len } else { MAX_PAYLOAD }
}

/// How long fragments wait for the rest: RFC 791 suggests 15 s.
const LIFETIME: Duration = Duration::from_secs(15);
/// How many pieces of a datagram may be apart from each other. Of honest ones some overtake others;
/// every second one of the smallest would make four thousand, and a walk over them of each that comes.
const MAX_RANGES: usize = 64;
/// Worst-case memory of the pool, in bytes.
const _: () = assert!(
    Limits::DEFAULT.get(Limit::Fragments)
        * (MAX_PAYLOAD + MAX_RANGES * size_of::<(usize, usize)>())
        <= 4 << 20
);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    port: PortId,
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    id: u32,
}

#[derive(Debug)]
struct Partial {
    key: Key,
    until: Instant,
    payload: Vec<u8>,
    /// Sorted, disjoint ranges that have arrived.
    ranges: Vec<(usize, usize)>,
    /// Known once the last fragment has come.
    total: Option<usize>,
    /// Set by an overlap, or by too many pieces: what still comes of it is dropped too.
    poisoned: bool,
}

/// The pool of incomplete datagrams.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    /// Oldest first.
    partials: Vec<Partial>,
}

/// A packet that was put together, without its fragment headers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    hop_limit: u8,
    traffic_class: u8,
    header_len: usize,
    bytes: Vec<u8>,
}

impl Whole {
    /// The packet of which `fragment` is the last to come.
    fn new(fragment: &IpPacket<'_>, payload: &[u8]) -> Self {
        let &IpPacket { source, destination, protocol, hop_limit, traffic_class, .. } = fragment;
        let repr =
            IpRepr::new(source.into(), destination.into(), protocol, payload.len(), hop_limit);
        let header_len = repr.header_len();
        let mut bytes = vec![0; header_len];
        repr.emit(&mut bytes[..], &ChecksumCapabilities::default());
        bytes.extend_from_slice(payload);
        Self { source, destination, protocol, hop_limit, traffic_class, header_len, bytes }
    }

    /// The packet as if it had come whole.
    pub(super) fn packet(&mut self) -> IpPacket<'_> {
        IpPacket {
            source: self.source,
            destination: self.destination,
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            dont_fragment: false,
            protocol: self.protocol,
            fragment: None,
            bytes: &mut self.bytes,
            header_len: self.header_len,
            checksum_vouched: false,
            segment: None,
        }
    }
}

impl Reassembly {
    /// Takes a fragment; returns the packet if it is whole now.
    pub(super) fn handle(
        &mut self,
        limits: &Limits,
        stats: &mut Stats,
        port: PortId,
        packet: &IpPacket<'_>,
        now: Instant,
    ) -> Result<Option<Whole>, DropReason> {
        let Some(fragment) = packet.fragment else {
            return Err(DropReason::BadFragment);
        };
        self.partials.retain(|partial| partial.until > now);
        let key = Key {
            port,
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            id: fragment.id,
        };
        let bytes = packet.payload();
        let (start, end) = (fragment.offset, fragment.offset + bytes.len());
        let header_len = if packet.source.is_ipv6() { 40 } else { 20 };
        if bytes.is_empty()
            || end > longest_payload(header_len)
            || (fragment.more && !bytes.len().is_multiple_of(8))
        {
            return Err(DropReason::BadFragment);
        }
        // RFC 6946, section 4: it is none, and is no business of others with its identification.
        if key.source.is_ipv6() && start == 0 && !fragment.more {
            return Ok(Some(Whole::new(packet, bytes)));
        }
        let index = match self.partials.iter().position(|partial| partial.key == key) {
            Some(index) => index,
            None => {
                if self.partials.len() >= limits.get(Limit::Fragments) {
                    stats.count_limit(Limit::Fragments);
                    self.make_room();
                }
                self.begin(key, now + LIFETIME)
            }
        };
        let partial = self.partials.get_mut(index).ok_or(DropReason::BadFragment)?;
        partial.add(start, end, bytes, fragment.more)?;
        if !partial.is_whole() {
            return Ok(None);
        }
        let Partial { payload, .. } = self.partials.remove(index);
        Ok(Some(Whole::new(packet, &payload)))
    }

    /// Forgets what a port has sent.
    pub(super) fn remove_port(&mut self, port: PortId) {
        self.partials.retain(|partial| partial.key.port != port);
    }

    /// Drops the oldest of the port that has most.
    fn make_room(&mut self) {
        let mut counts: SortedMap<PortId, usize> = SortedMap::new();
        for partial in &self.partials {
            *counts.or_default(partial.key.port) += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(port, _)| port);
        let oldest = self.partials.iter().position(|partial| Some(partial.key.port) == most);
        if let Some(oldest) = oldest {
            self.partials.remove(oldest);
        }
    }

    fn begin(&mut self, key: Key, until: Instant) -> usize {
        self.partials.push(Partial {
            key,
            until,
            payload: Vec::new(),
            ranges: Vec::new(),
            total: None,
            poisoned: false,
        });
        self.partials.len() - 1
    }
}

impl Partial {
    fn add(
        &mut self,
        start: usize,
        end: usize,
        bytes: &[u8],
        more: bool,
    ) -> Result<(), DropReason> {
        let overlaps = self.ranges.iter().any(|&(from, to)| start < to && from < end);
        let beyond = self.total.is_some_and(|total| end > total || !more);
        let short = !more && self.ranges.iter().any(|&(_, to)| to > end);
        let scattered = self.ranges.len() >= MAX_RANGES;
        if self.poisoned || overlaps || beyond || short || scattered {
            self.poisoned = true;
            self.payload = Vec::new();
            self.ranges = Vec::new();
            return Err(DropReason::BadFragment);
        }
        if !more {
            self.total = Some(end);
        }
        let length = self.payload.len();
        if length < end {
            // It grows as vectors do, but not beyond what a datagram can have.
            let room = (2 * length).max(end).min(MAX_PAYLOAD);
            self.payload.reserve_exact(room.saturating_sub(length));
            self.payload.resize(end, 0);
        }
        if let Some(room) = self.payload.get_mut(start..end) {
            room.copy_from_slice(bytes);
        }
        let at = self.ranges.partition_point(|&(from, _)| from < start);
        self.ranges.insert(at, (start, end));
        self.merge();
        Ok(())
    }

    fn merge(&mut self) {
        self.ranges.dedup_by(|next, previous| {
            let adjacent = previous.1 == next.0;
            if adjacent {
                previous.1 = next.1;
            }
            adjacent
        });
    }

    fn is_whole(&self) -> bool {
        match (self.total, self.ranges.as_slice()) {
            (Some(total), [(0, end)]) => *end == total,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::frame::Fragment;

    fn give(
        pool: &mut Reassembly,
        id: u32,
        offset: usize,
        body: &[u8],
        more: bool,
        at: i64,
    ) -> Result<Option<Vec<u8>>, DropReason> {
        let mut bytes = [&[0; 20], body].concat();
        let packet = IpPacket {
            source: IpAddr::from([10, 0, 2, 100]),
            destination: IpAddr::from([192, 0, 2, 9]),
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: false,
            protocol: IpProtocol::Udp,
            fragment: Some(Fragment { id, offset, more }),
            bytes: &mut bytes,
            header_len: 20,
            checksum_vouched: false,
            segment: None,
        };
        let (limits, stats) = (&Limits::default(), &mut Stats::default());
        let whole = pool.handle(limits, stats, PortId(0), &packet, Instant::from_secs(at))?;
        Ok(whole.map(|mut whole| whole.packet().payload().to_vec()))
    }

    #[test]
    fn fragments_in_any_order_make_the_datagram() {
        let mut pool = Reassembly::default();
        assert_eq!(give(&mut pool, 1, 16, b"tail", false, 0), Ok(None));
        assert_eq!(give(&mut pool, 1, 0, b"headhead", true, 0), Ok(None));
        let whole = give(&mut pool, 1, 8, b"middlemi", true, 0).unwrap().unwrap();
        assert_eq!(whole, b"headheadmiddlemitail");
    }

    #[test]
    fn an_overlap_drops_the_whole_datagram() {
        let mut pool = Reassembly::default();
        assert_eq!(give(&mut pool, 1, 0, b"0123456789abcdef", true, 0), Ok(None));
        assert_eq!(give(&mut pool, 1, 8, b"89abcdef", true, 0), Err(DropReason::BadFragment));
        assert_eq!(give(&mut pool, 1, 16, b"end", false, 0), Err(DropReason::BadFragment));
    }

    #[test]
    fn pieces_that_never_meet_are_given_up() {
        let mut pool = Reassembly::default();
        let piece = |pool: &mut Reassembly, number| give(pool, 1, number * 16, &[7; 8], true, 0);
        for number in 0..MAX_RANGES {
            assert_eq!(piece(&mut pool, number), Ok(None), "{number}");
        }
        assert_eq!(piece(&mut pool, MAX_RANGES), Err(DropReason::BadFragment));
        assert_eq!(piece(&mut pool, MAX_RANGES + 1), Err(DropReason::BadFragment));
        let Partial { payload, ranges, .. } = &pool.partials[0];
        assert_eq!((payload.capacity(), ranges.capacity()), (0, 0));
    }

    #[test]
    fn a_datagram_has_no_more_memory_than_the_largest_needs() {
        let mut pool = Reassembly::default();
        for at in (0..65_000).step_by(1000) {
            assert_eq!(give(&mut pool, 1, at, &[7; 1000], true, 0), Ok(None));
            assert!(pool.partials[0].payload.capacity() <= MAX_PAYLOAD);
        }
        assert_eq!(give(&mut pool, 1, 65_000, b"end", false, 0).unwrap().unwrap().len(), 65_003);
    }

    #[test]
    fn a_fragment_beyond_the_largest_packet_is_dropped() {
        let mut pool = Reassembly::default();
        let verdict = give(&mut pool, 1, 65_528, b"0123456789", false, 0);
        assert_eq!(verdict, Err(DropReason::BadFragment));
    }

    #[test]
    fn stray_fragments_never_keep_others_from_being_put_together() {
        let mut pool = Reassembly::default();
        for id in 0..1000 {
            assert_eq!(give(&mut pool, id, 8, b"01234567", true, 0), Ok(None));
        }
        assert!(pool.partials.len() <= Limits::DEFAULT.get(Limit::Fragments));
        assert_eq!(give(&mut pool, 5000, 0, b"01234567", true, 0), Ok(None));
        assert!(give(&mut pool, 5000, 8, b"x", false, 0).unwrap().is_some());
    }

    #[test]
    fn old_fragments_expire() {
        let mut pool = Reassembly::default();
        assert_eq!(give(&mut pool, 1, 0, b"01234567", true, 0), Ok(None));
        assert_eq!(give(&mut pool, 1, 8, b"x", false, 20), Ok(None));
    }
}
