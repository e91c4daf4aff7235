//! Counters: what became of every frame, flow and query.
//!
//! A frame's fate is a [`Verdict`]; every reason to drop is a [`DropReason`], is counted, and is
//! shown by the dump under its own name.

use std::fmt;

use super::PortId;
use crate::config::limits::{Limit, Limits};

/// What became of a frame from a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The gateway itself answered or took note (ARP, neighbour discovery, echo to the gateway).
    Gateway,
    /// It went to a flow, or opened one.
    Flow,
    /// It went to the DNS forwarder.
    Dns,
    /// It went to another host of the network, or to all of them and nobody here.
    Elsewhere,
    /// It is for this port: the shell writes it there as it is.
    Port(PortId),
    /// It is for the ports of [`super::Engine::receivers`], the same way.
    Ports,
    /// The switch took note of it, or nobody is there to take it.
    Switch,
    /// A fragment that waits for the rest of its datagram.
    Held,
    /// Refused, and the guest was told (reset or ICMP error).
    Refused,
    /// Dropped silently, and counted.
    Dropped(DropReason),
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        /// Why a frame was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// Every reason with its name.
            pub const ALL: &[(Self, &'static str)] = &[$((Self::$name, $label),)+];
        }
    };
}

drop_reasons! {
    /// Shorter than its headers say, or otherwise not what it claims to be.
    Malformed = "malformed",
    /// Neither ARP, IPv4 nor IPv6; VLAN tags are among these.
    UnknownEtherType = "unknown-ethertype",
    /// A checksum does not match.
    BadChecksum = "bad-checksum",
    /// The virtio header's claims do not fit the packet.
    BadOffload = "bad-offload",
    /// An IPv6 routing header, or too many extension headers.
    ExtensionHeader = "extension-header",
    /// The destination hardware address is nobody's.
    NotForUs = "not-for-us",
    /// The source hardware address is not the port's.
    SpoofedMac = "spoofed-mac",
    /// The sender of an ARP packet is not the port's.
    SpoofedArp = "spoofed-arp",
    /// Neighbour discovery for an address that is not the port's.
    SpoofedNeighbour = "spoofed-neighbour",
    /// The source address is not one that a guest of this network may have.
    SpoofedSource = "spoofed-source",
    /// A router advertisement or redirect: only the gateway is a router.
    RogueRouter = "rogue-router",
    /// What a DHCP server says: only the gateway is one.
    RogueDhcp = "rogue-dhcp",
    /// IPv6 on a network without.
    NoIpv6 = "no-ipv6",
    /// For another container of a network whose containers do not talk to each other.
    Isolated = "isolated",
    /// For everybody, from a container that says too much to everybody.
    Storm = "storm",
    /// For a group that no other container has joined.
    NoMember = "no-member",
    /// From a machine that the file of an overlay does not name.
    UnknownHost = "unknown-host",
    /// Of another overlay, or without its number.
    OtherVni = "other-vni",
    /// A datagram to everybody on the host's network, without `--allow-broadcast`.
    Broadcast = "broadcast",
    /// A group that the gateway does not serve.
    Multicast = "multicast",
    /// Discovery of which nothing is true on the other side or that is nonsense, or too much of it.
    Discovery = "discovery",
    /// For the DNS forwarder of a network that is to have none.
    DnsDisabled = "dns-disabled",
    /// Of a protocol that the network is not to serve.
    SwitchedOff = "switched-off",
    /// A protocol other than TCP, UDP and ICMP.
    UnknownProtocol = "unknown-protocol",
    /// A fragment that overlaps another, is too long, or found no room.
    BadFragment = "bad-fragment",
    /// An ICMP message of a kind that the gateway does not carry.
    UnhandledIcmp = "unhandled-icmp",
    /// Something the kernel would not let us do, or a table at its limit.
    NoResources = "no-resources",
    /// A frame towards a guest that takes them more slowly than they come.
    QueueFull = "queue-full",
    /// A frame towards a guest beyond the rate that it may get.
    Rate = "rate",
    /// A datagram from the host side whose sender the guest has never written to.
    UnknownSender = "unknown-sender",
    /// A client whom a published port's `from=` does not let in.
    ForbiddenClient = "forbidden-client",
    /// A TCP segment that opens nothing and belongs to nothing.
    NoFlow = "no-flow",
    /// A packet of a flow whose other side is not there yet.
    NotYetOpen = "opening",
}

/// Counters since the start. Units are in the names; bytes are of Ethernet frames.
#[derive(Debug, Default, Clone)]
pub struct Stats {
    /// Frames read from guests.
    pub rx_frames: u64,
    /// Bytes of those frames.
    pub rx_bytes: u64,
    /// Frames written to guests.
    pub tx_frames: u64,
    /// Bytes of those frames.
    pub tx_bytes: u64,
    /// TCP flows opened by guests.
    pub tcp_outbound: u64,
    /// TCP flows opened by clients of published ports.
    pub tcp_inbound: u64,
    /// TCP flows that the host's side refused or could not reach.
    pub tcp_refused: u64,
    /// TCP flows that gave way to newer ones before the host's side stood.
    pub tcp_evicted: u64,
    /// TCP flows ended by a reset from either side.
    pub tcp_reset: u64,
    /// UDP flows opened.
    pub udp_opened: u64,
    /// Echo flows opened.
    pub echo_opened: u64,
    /// DHCP messages answered, of both families.
    pub dhcp_answers: u64,
    /// DNS queries taken.
    pub dns_queries: u64,
    /// DNS queries answered with SERVFAIL because no server answered.
    pub dns_failed: u64,
    /// DNS queries answered by names of this network.
    pub dns_local: u64,
    /// DNS queries answered by what was kept.
    pub dns_cached: u64,
    /// DNS queries answered by what was kept beyond its time, as no server answered.
    pub dns_stale: u64,
    /// DNS queries refused: nobody is asked for such names.
    pub dns_refused: u64,
    /// Frames from one container to others.
    pub switched_frames: u64,
    /// Bytes of those frames.
    pub switched_bytes: u64,
    /// Frames to other hosts, each copy counted, after super-frames were cut.
    pub overlay_sent: u64,
    /// Datagrams from the underlay of an overlay, whatever became of them.
    pub overlay_received: u64,
    /// Packets that policy keeps from the host (the deny list, `--host-access`).
    pub denied: u64,
    /// Flows killed because their service panicked: each one is a bug.
    pub flow_panics: u64,
    drops: Counts<{ DropReason::ALL.len() }>,
    met: Counts<{ Limit::COUNT }>,
}

/// Counters by number. Arrays have a default up to 32 elements.
#[derive(Debug, Clone)]
struct Counts<const N: usize>([u64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl Stats {
    /// Counts one dropped frame.
    pub fn count_drop(&mut self, reason: DropReason) {
        if let Some(counter) = self.drops.0.get_mut(reason as usize) {
            *counter += 1;
        }
        if reason == DropReason::Storm {
            self.count_limit(Limit::Storm);
        }
    }

    /// Counts that a bound was met.
    pub fn count_limit(&mut self, limit: Limit) {
        if let Some(counter) = self.met.0.get_mut(limit as usize) {
            *counter += 1;
        }
    }

    /// How often each bound was met that ever was, by its name.
    pub fn limits_met(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Limits::TABLE.iter().map(|bound| bound.name);
        names.zip(self.met.0).filter(|(_, count)| *count > 0)
    }

    /// How many frames were dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.0.get(reason as usize).copied().unwrap_or(0)
    }
}

impl fmt::Display for Stats {
    /// One `name value` pair a line; drops that never happened are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [
            ("rx_frames", self.rx_frames),
            ("rx_bytes", self.rx_bytes),
            ("tx_frames", self.tx_frames),
            ("tx_bytes", self.tx_bytes),
            ("tcp_outbound", self.tcp_outbound),
            ("tcp_inbound", self.tcp_inbound),
            ("tcp_refused", self.tcp_refused),
            ("tcp_evicted", self.tcp_evicted),
            ("tcp_reset", self.tcp_reset),
            ("udp_opened", self.udp_opened),
            ("echo_opened", self.echo_opened),
            ("dhcp_answers", self.dhcp_answers),
            ("dns_queries", self.dns_queries),
            ("dns_failed", self.dns_failed),
            ("dns_local", self.dns_local),
            ("dns_cached", self.dns_cached),
            ("dns_stale_total", self.dns_stale),
            ("dns_refused", self.dns_refused),
            ("switched_frames", self.switched_frames),
            ("switched_bytes", self.switched_bytes),
            ("overlay_sent", self.overlay_sent),
            ("overlay_received", self.overlay_received),
            ("denied", self.denied),
            ("flow_panics", self.flow_panics),
        ] {
            writeln!(f, "  {name} {value}")?;
        }
        for (reason, label) in DropReason::ALL {
            let count = self.dropped(*reason);
            if count > 0 {
                writeln!(f, "  drop.{label} {count}")?;
            }
        }
        for (name, count) in self.limits_met() {
            writeln!(f, "  limit.{name} {count}")?;
        }
        Ok(())
    }
}
