//! ARP (RFC 826): on a private network the gateway answers for its own addresses and for no others:
//! one nobody has stays unanswered, so the guest's kernel reports it as unreachable. Where the host's
//! neighbours are the guest's too, it answers for all of them (RFC 1027).

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

use super::Turn;
use super::frame::Composer;
use super::stats::{DropReason, Verdict};
use crate::config::{Lease, Neighbours};

/// Takes an ARP packet from a guest.
pub(super) fn handle(turn: &mut Turn<'_>, body: &[u8]) -> Verdict {
    let Ok(ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr: asker,
        target_protocol_addr: target,
        ..
    }) = ArpPacket::new_checked(body).and_then(|packet| ArpRepr::parse(&packet))
    else {
        return Verdict::Dropped(DropReason::Malformed);
    };
    // An address that somebody has just got may be told by an answer that nobody asked for.
    if turn.network.addresses.v4.subnet.contains(asker) && !turn.is_own_address(asker.into()) {
        turn.note_speaker(asker.into());
    }
    if operation != ArpOperation::Request {
        return Verdict::Dropped(DropReason::Malformed);
    }
    let own = turn.is_own_address(target.into());
    let answered = match turn.network.rules.neighbours {
        Neighbours::Nobody => own,
        // Who asks for itself, or is nobody yet, wants to hear of a conflict (RFC 5227).
        Neighbours::Host => {
            own || (target != asker && !asker.is_unspecified() && target != turn.lease.v4)
        }
    };
    if !answered || !turn.network.rules.protocols.ipv4 {
        return Verdict::Gateway;
    }
    send(
        turn,
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(turn.link.gateway_mac.0),
            source_protocol_addr: target,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: asker,
        },
    );
    Verdict::Gateway
}

/// Tells the guest which hardware address a lease's IPv4 address has, unasked (RFC 5227, section 3):
/// who does not know the address yet ignores it.
pub(super) fn announce(turn: &mut Turn<'_>, lease: &Lease) {
    send(
        turn,
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(lease.mac.0),
            source_protocol_addr: lease.v4,
            // Linux takes it for gratuitous only so (`arp_is_garp`).
            target_hardware_addr: EthernetAddress(lease.mac.0),
            target_protocol_addr: lease.v4,
        },
    );
}

fn send(turn: &mut Turn<'_>, message: ArpRepr) {
    let composer = Composer { link: turn.link, id: 0 };
    turn.fx.queue(turn.port, |buffer| {
        composer.arp(buffer, |packet| message.emit(&mut ArpPacket::new_unchecked(packet)));
    });
}
