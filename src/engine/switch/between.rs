//! What passes between containers of an isolated network: ways that were opened by name.
//!
//! A way is from one container to the other: the first opens, the other answers. That somebody
//! answers and does not open is seen by the segment itself for TCP, and for UDP by what was asked
//! lately. Which ports have the names is worked out by the engine whenever that changes.
//! Read first: RFC 1858 and RFC 3128 (fragments that hide what they are), RFC 4787 section 4.3.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smoltcp::time::Duration;
use smoltcp::wire::IpProtocol;

use super::guard;
use crate::config::{Pass, PassKind};
use crate::engine::frame::IpPacket;
use crate::engine::{Instant, PortId};

/// How long a datagram may be answered: RFC 4787, section 4.3, has two minutes at the least.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
/// Most endpoints of others that one container may have asked lately.
const MAX_ASKED: usize = 1024;

/// The ways of a network.
#[derive(Debug, Default)]
pub(in crate::engine) struct Ways {
    /// What may be opened, by who opens and who is reached.
    open: BTreeMap<(PortId, PortId), Vec<Pass>>,
    /// Who has asked whom by UDP, from which port and at which; and until when answers pass.
    asked: BTreeMap<(PortId, PortId, u16, u16), Instant>,
}

impl Ways {
    /// These are the ways from now on.
    pub(in crate::engine) fn set(&mut self, ways: impl Iterator<Item = ((PortId, PortId), Pass)>) {
        self.open.clear();
        for (pair, pass) in ways {
            self.open.entry(pair).or_default().push(pass);
        }
        let open = &self.open;
        self.asked.retain(|(from, to, _, at), _| {
            open.get(&(*from, *to)).is_some_and(|passes| is_open(passes, PassKind::Udp, *at))
        });
    }

    /// Whether anything passes between the two, so that they may find each other.
    pub(in crate::engine) fn know_each_other(&self, a: PortId, b: PortId) -> bool {
        self.open.contains_key(&(a, b)) || self.open.contains_key(&(b, a))
    }

    /// Whether a packet from one container may go to another.
    pub(super) fn pass(
        &mut self,
        from: PortId,
        to: PortId,
        packet: &IpPacket<'_>,
        now: Instant,
    ) -> bool {
        let nothing = Vec::new();
        let there = self.open.get(&(from, to)).unwrap_or(&nothing);
        let back = self.open.get(&(to, from)).unwrap_or(&nothing);
        if there.is_empty() && back.is_empty() {
            return false;
        }
        let any = |kind| there.iter().chain(back).any(|pass| pass.kind == kind);
        match packet.protocol {
            // No TCP of today is fragmented, and what hides its flags is up to no good.
            IpProtocol::Tcp if packet.fragment.is_none() => {
                let Some((source, at)) = guard::ports(packet) else { return false };
                let opens = packet.payload().get(13).is_none_or(|flags| flags & 0x12 == 0x02);
                is_open(there, PassKind::Tcp, at)
                    || (!opens && is_open(back, PassKind::Tcp, source))
            }
            IpProtocol::Udp => {
                if packet.fragment.is_some_and(|fragment| fragment.offset > 0) {
                    // Of no use without the first one.
                    return any(PassKind::Udp);
                }
                let Some((source, at)) = guard::ports(packet) else { return false };
                if is_open(there, PassKind::Udp, at) {
                    return self.ask((from, to, source, at), now);
                }
                match self.asked.get_mut(&(to, from, at, source)) {
                    Some(until) if now < *until => {
                        *until = now + ANSWERED_WITHIN;
                        true
                    }
                    _ => false,
                }
            }
            IpProtocol::Icmp | IpProtocol::Icmpv6 => {
                if packet.fragment.is_some_and(|fragment| fragment.offset > 0) {
                    return any(PassKind::Icmp);
                }
                let Some([kind, ..]) = packet.payload().first_chunk::<4>() else { return false };
                // Echo request and reply; errors: RFC 792, RFC 4443.
                let (request, reply, errors): (u8, u8, &[u8]) = match packet.source {
                    IpAddr::V4(_) => (8, 0, &[3, 11, 12]),
                    IpAddr::V6(_) => (128, 129, &[1, 2, 3, 4]),
                };
                let pings = |passes: &[Pass]| is_open(passes, PassKind::Icmp, 0);
                (*kind == request && pings(there))
                    || (*kind == reply && pings(back))
                    || errors.contains(kind)
            }
            _ => false,
        }
    }

    /// Takes note of a question; refuses it where its sender has asked too many others.
    fn ask(&mut self, question: (PortId, PortId, u16, u16), now: Instant) -> bool {
        let (from, ..) = question;
        if !self.asked.contains_key(&question) {
            let own = (from, PortId(0), 0, 0)..=(from, PortId(usize::MAX), u16::MAX, u16::MAX);
            if self.asked.range(own.clone()).count() >= MAX_ASKED {
                // Its own alone are looked at, whatever the others have asked.
                self.asked.extract_if(own.clone(), |_, until| *until <= now).for_each(drop);
                if self.asked.range(own).count() >= MAX_ASKED {
                    return false;
                }
            }
        }
        self.asked.insert(question, now + ANSWERED_WITHIN);
        true
    }
}

fn is_open(passes: &[Pass], kind: PassKind, port: u16) -> bool {
    passes.iter().any(|pass| pass.kind == kind && (pass.first..=pass.last).contains(&port))
}
