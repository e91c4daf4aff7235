//! Multicast groups: who joined which, heard from what hosts tell multicast routers.
//!
//! Every version of IGMP and MLD is understood as "wants it" or "wants it no more"; which sources
//! a host wants (IGMPv3, MLDv2) its own kernel sorts out. Hosts speak unasked when they join and
//! leave, and otherwise answer a querier: the gateway is it, and asks only while there are members.
//! Groups of link-local scope go to everybody and are not kept.
//! Read first: RFC 4541 (snooping), RFC 2236, RFC 3376, RFC 2710, RFC 3810.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::time::Duration;
use smoltcp::wire::IpProtocol;
use smoltcp::wire::checksum::data;

use super::IGMP;
use crate::engine::frame::{IpPacket, pseudo_sum};
use crate::engine::{Instant, PortId};
use crate::sorted::SortedMap;

/// How often members are asked, and how long they may leave that unanswered: RFC 3376, section 8
/// (query interval, robustness variable 2, query response interval 10 s).
const QUERY_INTERVAL: Duration = Duration::from_secs(125);
const LIFETIME: Duration = Duration::from_secs(260);

/// Members of groups beyond the link-local scope.
#[derive(Debug)]
pub(in crate::engine) struct Groups {
    /// How many a port may be in; Linux lets one socket join 20 (`igmp_max_memberships`).
    most: usize,
    /// A port has wanted more of them than that.
    pub(in crate::engine) refused: bool,
    /// When a port's membership ends unless it is heard of again.
    members: BTreeMap<(IpAddr, PortId), Instant>,
    /// How many of them are each port's: one report may have thousands of records, and a walk over
    /// everybody's members for each would stop the network. Who has none is not there.
    counts: SortedMap<PortId, usize>,
    /// When to ask next; `None` without members.
    ask_at: Option<Instant>,
}

impl Groups {
    /// No members; a port may be in `most` groups.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            refused: false,
            members: BTreeMap::new(),
            counts: SortedMap::new(),
            ask_at: None,
        }
    }

    /// When to call [`Groups::handle_timeout`].
    pub(in crate::engine) fn next_deadline(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Forgets those who were silent. Returns whom to ask whether they are still there, with the
    /// address family (IPv6: `true`), if it is time.
    pub(in crate::engine) fn handle_timeout(&mut self, now: Instant) -> Vec<(PortId, bool)> {
        if self.ask_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.members.retain(|(_, port), until| {
            let stays = now < *until;
            if !stays {
                uncount(&mut self.counts, *port);
            }
            stays
        });
        self.ask_at = (!self.members.is_empty()).then_some(now + QUERY_INTERVAL);
        let mut ask: Vec<_> =
            self.members.keys().map(|(group, port)| (*port, group.is_ipv6())).collect();
        ask.sort_unstable();
        ask.dedup();
        ask
    }

    /// The members of a group.
    pub(super) fn members(&self, group: IpAddr, now: Instant) -> impl Iterator<Item = PortId> {
        let all = (group, PortId(0))..=(group, PortId(usize::MAX));
        let members = self.members.range(all).filter(move |(_, until)| now < **until);
        members.map(|((_, port), _)| *port)
    }

    pub(super) fn remove_port(&mut self, gone: PortId) {
        self.members.retain(|(_, port), _| *port != gone);
        self.counts.remove(&gone);
    }

    /// Takes what a host tells of itself; see [`is_report`]. What makes no sense is ignored.
    pub(super) fn handle_report(&mut self, port: PortId, packet: &IpPacket<'_>, now: Instant) {
        let message = packet.payload();
        match (packet.protocol, message) {
            (IGMP, _) if data(message) != !0 => {}
            // IGMPv1 and IGMPv2 report, leave.
            (IGMP, &[0x12 | 0x16, _, _, _, a, b, c, d, ..]) => {
                self.join(port, IpAddr::from([a, b, c, d]), now);
            }
            (IGMP, &[0x17, _, _, _, a, b, c, d, ..]) => {
                self.leave(port, IpAddr::from([a, b, c, d]));
            }
            (IGMP, &[0x22, _, _, _, _, _, n0, n1, ref records @ ..]) => {
                self.handle_records::<4>(port, u16::from_be_bytes([n0, n1]), records, now);
            }
            (IpProtocol::Icmpv6, _) if packet.verify().is_err() => {}
            // MLDv1 report and done.
            (IpProtocol::Icmpv6, [kind @ (131 | 132), ..]) => {
                let group = message.get(8..).and_then(<[u8]>::first_chunk::<16>);
                match group.map(|group| IpAddr::from(*group)) {
                    Some(group) if *kind == 131 => self.join(port, group, now),
                    Some(group) => self.leave(port, group),
                    None => {}
                }
            }
            (IpProtocol::Icmpv6, &[143, _, _, _, _, _, n0, n1, ref records @ ..]) => {
                self.handle_records::<16>(port, u16::from_be_bytes([n0, n1]), records, now);
            }
            _ => {}
        }
    }

    /// The records of IGMPv3 (RFC 3376, section 4.2.4) and MLDv2 (RFC 3810, section 5.2.4), whose
    /// addresses have `LEN` bytes.
    fn handle_records<const LEN: usize>(
        &mut self,
        port: PortId,
        count: u16,
        mut records: &[u8],
        now: Instant,
    ) where
        IpAddr: From<[u8; LEN]>,
    {
        for _ in 0..count {
            let Some(([kind, auxiliary, n0, n1], rest)) = records.split_first_chunk::<4>() else {
                return;
            };
            let sources = usize::from(u16::from_be_bytes([*n0, *n1]));
            let Some((group, rest)) = rest.split_first_chunk::<LEN>() else {
                return;
            };
            let Some(rest) = rest.get(sources * LEN + usize::from(*auxiliary) * 4..) else {
                return;
            };
            let group = IpAddr::from(*group);
            match (kind, sources) {
                // Only from no source at all: that is to leave.
                (1 | 3, 0) => self.leave(port, group),
                (1..=5, _) => self.join(port, group, now),
                // Sources that are no longer wanted, of a group that still is.
                _ => {}
            }
            records = rest;
        }
    }

    /// Takes what a host tells of its groups, if that is what a packet is.
    pub(in crate::engine) fn take_report(
        &mut self,
        port: PortId,
        packet: &IpPacket<'_>,
        now: Instant,
    ) -> bool {
        let report = is_report(packet);
        if report {
            self.handle_report(port, packet, now);
        }
        report
    }

    /// Whether what is sent to a group is for a port.
    pub(in crate::engine) fn wants(&self, port: PortId, group: IpAddr, now: Instant) -> bool {
        !is_wide(group) || self.members(group, now).any(|member| member == port)
    }

    fn join(&mut self, port: PortId, group: IpAddr, now: Instant) {
        if !is_wide(group) {
            return;
        }
        if let Some(until) = self.members.get_mut(&(group, port)) {
            *until = now + LIFETIME;
        } else if self.counts.get(&port).is_none_or(|count| *count < self.most) {
            self.members.insert((group, port), now + LIFETIME);
            *self.counts.or_default(port) += 1;
            self.ask_at.get_or_insert(now + QUERY_INTERVAL);
        } else {
            self.refused = true;
        }
    }

    fn leave(&mut self, port: PortId, group: IpAddr) {
        if self.members.remove(&(group, port)).is_some() {
            uncount(&mut self.counts, port);
        }
    }
}

/// Whether a group is one that hosts tell of, beyond the link-local scope.
fn is_wide(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(ip) => ip.is_multicast() && !ip.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(ip) => ip.is_multicast() && ip.octets()[1] & 0xf > 2,
    }
}

fn uncount(counts: &mut SortedMap<PortId, usize>, port: PortId) {
    match counts.get_mut(&port) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(&port)),
    }
}

/// Whether a packet is one by which a host joins and leaves groups.
pub(super) fn is_report(packet: &IpPacket<'_>) -> bool {
    match (packet.protocol, packet.payload()) {
        (IGMP, _) => packet.source.is_ipv4(),
        (IpProtocol::Icmpv6, [kind, ..]) => {
            packet.source.is_ipv6() && matches!(kind, 130..=132 | 143)
        }
        _ => false,
    }
}

/// Asks for all groups of a host: IGMPv3 (RFC 3376, section 4.1), for 224.0.0.1.
pub(in crate::engine) fn igmp_query() -> [u8; 12] {
    // Answers within 10 s, robustness 2, asked every 125 s.
    let mut query = [0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
    let [high, low] = (!data(&query)).to_be_bytes();
    (query[2], query[3]) = (high, low);
    query
}

/// The same for IPv6, MLDv2 (RFC 3810, section 5.1), for `ff02::1`, behind the hop-by-hop header
/// with the router alert that hosts insist on.
pub(in crate::engine) fn mld_query(source: Ipv6Addr) -> Vec<u8> {
    const ROUTER_ALERT: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];
    let mut query = [0; 28];
    query[0] = 130;
    query[4..6].copy_from_slice(&10_000_u16.to_be_bytes());
    (query[24], query[25]) = (2, 125);
    let addresses = (IpAddr::V6(source), IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)));
    let pseudo = pseudo_sum(addresses.0, addresses.1, IpProtocol::Icmpv6, 28);
    let sum = !smoltcp::wire::checksum::combine(&[pseudo, data(&query)]);
    query[2..4].copy_from_slice(&sum.to_be_bytes());
    [&ROUTER_ALERT[..], &query].concat()
}

/// All hosts on the link (RFC 1112, section 4).
pub(in crate::engine) const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // However they come and go, each port has as many as it has, and none more than there may be.
        #[test]
        fn members_are_counted_as_they_come_and_go(
            steps in prop::collection::vec((0_u8..4, 0_usize..3, 0_u8..8, 0_i64..200), 0..200)
        ) {
            let mut groups = Groups::new(4);
            let mut now = Instant::ZERO;
            for (step, port, group, seconds) in steps {
                let (port, group) = (PortId(port), IpAddr::from([239, 1, 2, group]));
                match step {
                    0 | 1 => groups.join(port, group, now),
                    2 => groups.leave(port, group),
                    _ if seconds == 0 => groups.remove_port(port),
                    _ => {
                        now = Instant::from_micros(now.total_micros() + seconds * 1_000_000);
                        groups.handle_timeout(now);
                    }
                }
                let mut counted = SortedMap::new();
                for (_, port) in groups.members.keys() {
                    *counted.or_default(*port) += 1;
                }
                prop_assert_eq!(&groups.counts, &counted);
                prop_assert!(counted.values().all(|count| *count <= 4));
            }
        }
    }
}
