//! The switch: the ports of a network, and frames from one of them to others.
//!
//! Nothing is learnt from the frames of containers. A port has the addresses of its lease and no others, so the
//! table of hardware addresses is the table of leases: it cannot be flooded, and no frame goes to a
//! port that it is not for. What a port sends is first held against its lease ([`guard`]); ARP and
//! neighbour discovery go to the one container that they ask for; multicast goes to those that
//! joined ([`groups`]). A frame that passes is not changed: the shell writes it, with its virtio
//! header, to the other TAP. Read first: RFC 826, RFC 4541 (snooping), IEEE 802.1Q chapter 8.
//! Not here: what is for the gateway ([`super::gateway`]), and the lone container of a private
//! network, which has nobody to deceive.

mod between;
pub(super) mod groups;
mod guard;
pub(super) mod remote;

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::time::Duration;
use smoltcp::wire::{ArpOperation, IpProtocol};

use self::between::Ways;
use self::groups::Groups;
use self::guard::{Arp, Neighbour, Sender};
use self::remote::Remote;
use super::flow::{GuestMap, KeyedHash};
use super::frame::{Frame, IpPacket, Link, Payload};
use super::machines::Machines;
use super::ndp;
use super::shaper::Bucket;
use super::stack::Stack;
use super::stats::{DropReason, Verdict};
use super::{Instant, PortId};
use crate::config::{Addresses, Lease, Limit, MacAddress, Network, Sharing};
use crate::sorted::SortedMap;

/// Most ports of one network, as many as a bridge of Linux has (`BR_MAX_PORTS`).
pub const MAX_PORTS: usize = 1024;

/// A port: one container's TAP.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) lease: Lease,
    pub(super) link: Link,
    pub(super) stack: Stack,
    pub(super) counters: PortCounters,
    storm: Bucket,
}

/// What has crossed one port since its container came. "Rx" is from the container.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames that the container sent.
    pub rx_frames: u64,
    /// Their bytes, with all headers.
    pub rx_bytes: u64,
    /// Frames to the container.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames of the container that were dropped, for whatever reason.
    pub rx_dropped: u64,
    /// Frames to the container that its TAP had no room for.
    pub tx_dropped: u64,
}

/// Why a port cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum PortError {
    #[error("a private network has one container, and it is there")]
    Private,
    #[error("the network has {most} containers, which is the most")]
    Full { most: usize },
    #[error("address {0} is in use on the network")]
    AddressInUse(IpAddr),
    #[error("address {0} is not one that a container of the network can have")]
    WrongAddress(IpAddr),
    #[error("hardware address {0} is in use on the network, or is a group's")]
    WrongMac(MacAddress),
    #[error(
        "the TAP {} a virtio header and those of the network's other containers {}",
        if *.vnet { "has" } else { "lacks" },
        if *.vnet { "lack it" } else { "have it" }
    )]
    MixedOffload { vnet: bool },
}

/// All ports, found by id and by what they have leased.
#[derive(Debug)]
pub(super) struct Switch {
    slots: Vec<Option<Box<Port>>>,
    /// Where to look for the next free slot: an id is used again as late as possible, so that what
    /// the shell has still to say of a port that is gone does not hit the next one.
    next: usize,
    len: usize,
    by_mac: GuestMap<MacAddress, PortId>,
    /// By IPv4, IPv6 and link-local address.
    by_ip: SortedMap<IpAddr, PortId>,
    pub(super) groups: Groups,
    pub(super) ways: Ways,
    /// Whom the frame at hand is for, if for several.
    pub(super) receivers: Vec<PortId>,
    /// The other hosts of a network that spans several.
    pub(super) remote: Option<Remote>,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the gateway.
    Gateway,
    /// To this port.
    Port(PortId),
    /// To those in [`Switch::receivers`].
    Ports,
    /// To the host that [`Remote::whom`] says, which has who is meant.
    Host,
    /// Nowhere: the switch itself took note, or nobody is there to take it.
    Done,
}

impl Switch {
    /// No ports; each may be in so many groups.
    pub(super) fn new(hash: KeyedHash, groups: usize) -> Self {
        Self {
            slots: Vec::new(),
            next: 0,
            len: 0,
            by_mac: GuestMap::with_hasher(hash),
            by_ip: SortedMap::new(),
            groups: Groups::new(groups),
            ways: Ways::default(),
            receivers: Vec::new(),
            remote: None,
        }
    }

    /// Adds a port if its lease is one that the network can give.
    pub(super) fn add(
        &mut self,
        network: &Network,
        lease: Lease,
        vnet: bool,
        seed: u64,
        now: Instant,
    ) -> Result<PortId, PortError> {
        self.check(network, &lease, vnet)?;
        let mtu = usize::from(network.mtu.get());
        let link = Link {
            guest_mac: lease.mac,
            machines: Machines::default(),
            gateway_mac: network.rules.gateway_mac,
            mtu,
            vnet,
            uso: false,
        };
        let stack = Stack::new(&link, seed, now);
        let counters = PortCounters::default();
        // Starting a container costs about ten; a storm (a loop, a broken program) comes by the ten
        // thousand.
        let storm = u64::try_from(network.limits.get(Limit::Storm)).unwrap_or(u64::MAX);
        let storm = Bucket::new(storm, Duration::from_secs(1), now);
        let port = Box::new(Port { lease, link, stack, counters, storm });
        let id = self.free_slot();
        if let Some(slot) = self.slots.get_mut(id.0) {
            *slot = Some(port);
        }
        self.len += 1;
        self.by_mac.insert(lease.mac, id);
        for ip in addresses_of(&lease) {
            self.by_ip.insert(ip, id);
        }
        Ok(id)
    }

    fn check(&self, network: &Network, lease: &Lease, vnet: bool) -> Result<(), PortError> {
        if network.sharing == Sharing::Private {
            // It may call itself what it likes, so there is nothing to check.
            return if self.len == 0 { Ok(()) } else { Err(PortError::Private) };
        }
        let most = network.limits.get(Limit::Containers).min(MAX_PORTS);
        if self.len >= most {
            return Err(PortError::Full { most });
        }
        let Addresses { v4, v6 } = &network.addresses;
        let reserved = [v4.gateway, v4.dns, v4.subnet.address, v4.subnet.broadcast()];
        if !v4.subnet.contains(lease.v4) || reserved.contains(&lease.v4) {
            return Err(PortError::WrongAddress(lease.v4.into()));
        }
        if let Some(ip) = lease.v6 {
            let fits = v6.is_some_and(|v6| {
                let reserved = [v6.gateway, v6.dns, v6.subnet.address];
                v6.subnet.contains(ip) && !reserved.contains(&ip)
            });
            if !fits {
                return Err(PortError::WrongAddress(ip.into()));
            }
        }
        let taken = lease.mac == network.rules.gateway_mac || self.by_mac.contains_key(&lease.mac);
        if lease.mac.is_group() || lease.mac.0 == [0; 6] || taken {
            return Err(PortError::WrongMac(lease.mac));
        }
        let gateway = IpAddr::V6(ndp::link_local(network.rules.gateway_mac.0));
        for ip in addresses_of(lease) {
            if ip == gateway {
                return Err(PortError::WrongAddress(ip));
            }
            if self.by_ip.contains_key(&ip) {
                return Err(PortError::AddressInUse(ip));
            }
        }
        if self.iter().any(|(_, port)| port.link.vnet != vnet) {
            return Err(PortError::MixedOffload { vnet });
        }
        Ok(())
    }

    fn free_slot(&mut self) -> PortId {
        let count = self.slots.len().max(1);
        let free = (0..self.slots.len())
            .map(|step| (self.next + step) % count)
            .find(|slot| self.slots.get(*slot).is_some_and(Option::is_none));
        // As many ids as there can be ports before one is used again.
        let slot = match free {
            Some(slot) if self.slots.len() >= MAX_PORTS => slot,
            _ => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.next = slot + 1;
        PortId(slot)
    }

    pub(super) fn remove(&mut self, id: PortId) {
        if let Some(port) = self.slots.get_mut(id.0).and_then(Option::take) {
            self.len -= 1;
            self.by_mac.remove(&port.lease.mac);
            for ip in addresses_of(&port.lease) {
                self.by_ip.remove(&ip);
            }
            self.groups.remove_port(id);
            self.receivers.clear();
        }
    }

    pub(super) fn get(&self, id: PortId) -> Option<&Port> {
        self.slots.get(id.0)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.slots.get_mut(id.0)?.as_deref_mut()
    }

    /// All ports, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PortId, &Port)> {
        let ports = self.slots.iter().enumerate();
        ports.filter_map(|(id, slot)| Some((PortId(id), slot.as_deref()?)))
    }

    /// Counts a frame that goes from one container to others.
    pub(super) fn count_forwarded(&mut self, verdict: Verdict, bytes: u64) {
        let mut count = |to: PortId| {
            if let Some(Some(port)) = self.slots.get_mut(to.0) {
                port.counters.tx_frames += 1;
                port.counters.tx_bytes += bytes;
            }
        };
        match verdict {
            Verdict::Port(to) => count(to),
            Verdict::Ports => self.receivers.iter().copied().for_each(count),
            _ => {}
        }
    }

    /// Whom the last frame with [`Way::Ports`] is for.
    pub(super) fn receivers(&self) -> &[PortId] {
        &self.receivers
    }

    /// Finds where a frame of a shared network goes, after holding it against its port's lease.
    pub(super) fn way(
        &mut self,
        network: &Network,
        from: PortId,
        frame: &Frame<'_>,
        now: Instant,
    ) -> Result<Way, DropReason> {
        let Some(port) = self.get(from) else {
            return Err(DropReason::NotForUs);
        };
        if frame.source != port.lease.mac {
            return Err(DropReason::SpoofedMac);
        }
        let sender = Sender::Container(&port.lease);
        let packet = match &frame.payload {
            Payload::Arp(body) => {
                let arp = guard::arp(&sender, body)?;
                if frame.destination.is_group() {
                    return self.way_of_arp(network, from, arp, now);
                }
                None
            }
            Payload::Ip(packet) => {
                let neighbour = guard::ip(network, &sender, packet)?;
                if frame.destination.is_group() {
                    return self.way_of_group(network, from, packet, neighbour, now);
                }
                neighbour.is_none().then_some(packet)
            }
        };
        if frame.destination == network.rules.gateway_mac {
            return Ok(Way::Gateway);
        }
        match self.by_mac.get(&frame.destination) {
            Some(to) if *to != from && network.sharing == Sharing::Isolated => {
                let to = *to;
                let passes = match packet {
                    Some(packet) => {
                        self.by_ip.get(&packet.destination) == Some(&to)
                            && self.ways.pass(from, to, packet, now)
                    }
                    // Who may talk may find each other.
                    None => self.ways.know_each_other(from, to),
                };
                if passes { Ok(Way::Port(to)) } else { Err(DropReason::Isolated) }
            }
            Some(to) if *to != from => Ok(Way::Port(*to)),
            Some(_) => Err(DropReason::NotForUs),
            None => self.way_elsewhere(frame).ok_or(DropReason::NotForUs),
        }
    }

    /// A question for the address of `to`, who may not be known to everybody.
    fn way_of_question(
        &self,
        network: &Network,
        from: PortId,
        to: PortId,
    ) -> Result<Way, DropReason> {
        match network.sharing {
            Sharing::Isolated if !self.ways.know_each_other(from, to) => Err(DropReason::Isolated),
            Sharing::Private | Sharing::Shared | Sharing::Isolated => Ok(Way::Port(to)),
        }
    }

    /// A question for an address goes to who has it; an announcement goes to everybody.
    fn way_of_arp(
        &mut self,
        network: &Network,
        from: PortId,
        arp: Arp,
        now: Instant,
    ) -> Result<Way, DropReason> {
        let v4 = &network.addresses.v4;
        if arp.operation == ArpOperation::Request {
            if arp.target == v4.gateway || arp.target == v4.dns {
                return Ok(Way::Gateway);
            }
            match self.by_ip.get(&IpAddr::V4(arp.target)) {
                Some(to) if *to != from => return self.way_of_question(network, from, *to),
                Some(_) => {}
                // What nobody has nobody answers for.
                None => {
                    return Ok(self.elsewhere(arp.target.into()).unwrap_or(Way::Done));
                }
            }
        }
        self.way_to_all(network, from, now)
    }

    /// A packet for a group or for everybody.
    fn way_of_group(
        &mut self,
        network: &Network,
        from: PortId,
        packet: &IpPacket<'_>,
        neighbour: Option<Neighbour>,
        now: Instant,
    ) -> Result<Way, DropReason> {
        match neighbour {
            Some(Neighbour::RouterSolicitation) => return Ok(Way::Gateway),
            Some(Neighbour::Solicitation(target)) => {
                let v6 = network.addresses.v6.as_ref();
                let own = ndp::link_local(network.rules.gateway_mac.0);
                if target == own || v6.is_some_and(|v6| [v6.gateway, v6.dns].contains(&target)) {
                    return Ok(Way::Gateway);
                }
                return match self.by_ip.get(&IpAddr::V6(target)) {
                    Some(to) if *to != from => self.way_of_question(network, from, *to),
                    Some(_) => Ok(Way::Done),
                    None => Ok(self.elsewhere(target.into()).unwrap_or(Way::Done)),
                };
            }
            Some(Neighbour::Advertisement) => return self.way_to_all(network, from, now),
            None => {}
        }
        if guard::is_dhcp_question(packet) {
            return Ok(Way::Gateway);
        }
        if groups::is_report(packet) {
            self.groups.handle_report(from, packet, now);
            return Ok(Way::Done);
        }
        if is_for_all(network, packet.destination)? {
            return self.way_to_all(network, from, now);
        }
        if network.sharing == Sharing::Isolated {
            return Err(DropReason::Isolated);
        }
        self.receivers.clear();
        let members = self.groups.members(packet.destination, now);
        self.receivers.extend(members.filter(|port| *port != from));
        // Who has joined on other hosts is not known here: there it is for everybody.
        let everywhere = self.remote.is_some() && {
            self.take_storm(from, now)?;
            self.go_everywhere()
        };
        if self.receivers.is_empty() && !everywhere {
            return Err(DropReason::NoMember);
        }
        Ok(Way::Ports)
    }

    /// To every other port, as often as one container may speak to all.
    fn way_to_all(
        &mut self,
        network: &Network,
        from: PortId,
        now: Instant,
    ) -> Result<Way, DropReason> {
        if network.sharing == Sharing::Isolated {
            return Err(DropReason::Isolated);
        }
        self.take_storm(from, now)?;
        let everywhere = self.go_everywhere();
        Ok(match self.everybody(Some(from)) {
            Way::Done if everywhere => Way::Ports,
            way => way,
        })
    }

    /// Counts a frame for everybody, as one for each host that gets it.
    fn take_storm(&mut self, from: PortId, now: Instant) -> Result<(), DropReason> {
        let hosts = self.remote.as_ref().map_or(0, |remote| remote.counts().0);
        let Some(port) = self.get_mut(from) else {
            return Err(DropReason::NotForUs);
        };
        if !port.storm.has(1, now) {
            return Err(DropReason::Storm);
        }
        port.storm.take(hosts.max(1) as u64, now);
        Ok(())
    }

    /// Counts further copies that one frame has become: whoever sends it may owe them.
    pub(super) fn count_copies(&mut self, from: PortId, copies: u64, now: Instant) {
        if let Some(port) = self.get_mut(from) {
            port.storm.take(copies, now);
        }
    }

    /// Has the frame at hand go to every other host too, if there is any.
    fn go_everywhere(&mut self) -> bool {
        let Some(remote) = &mut self.remote else { return false };
        remote.everywhere = remote.counts().0 > 0;
        remote.everywhere
    }

    /// All ports but the one that a frame is from.
    fn everybody(&mut self, from: Option<PortId>) -> Way {
        let mut receivers = std::mem::take(&mut self.receivers);
        receivers.clear();
        receivers.extend(self.iter().map(|(id, _)| id).filter(|id| Some(*id) != from));
        self.receivers = receivers;
        if self.receivers.is_empty() { Way::Done } else { Way::Ports }
    }
}

/// Whether a group is everybody: a broadcast address, or a group of link-local scope.
fn is_for_all(network: &Network, group: IpAddr) -> Result<bool, DropReason> {
    match group {
        IpAddr::V4(ip) if is_broadcast(network, ip) => Ok(true),
        IpAddr::V4(ip) if ip.is_multicast() => Ok(ip.octets().starts_with(&[224, 0, 0])),
        IpAddr::V6(ip) if ip.is_multicast() => match ip.octets()[1] & 0xf {
            // RFC 4291, section 2.7: reserved, and within one machine.
            0 | 1 => Err(DropReason::Multicast),
            2 => Ok(true),
            _ => Ok(false),
        },
        // One machine's packet in everybody's frame (RFC 1122, section 3.3.6).
        IpAddr::V4(_) | IpAddr::V6(_) => Err(DropReason::Multicast),
    }
}

/// All addresses that are a lease's alone.
pub(super) fn addresses_of(lease: &Lease) -> Vec<IpAddr> {
    let mut addresses = lease.link_local.all();
    addresses.push(lease.v4.into());
    if let Some(v6) = lease.v6 {
        addresses.push(v6.into());
        addresses.push(ndp::link_local(lease.mac.0).into());
    }
    addresses
}

fn is_broadcast(network: &Network, ip: Ipv4Addr) -> bool {
    ip.is_broadcast() || ip == network.addresses.v4.subnet.broadcast()
}

/// The protocol by which IPv4 hosts join groups.
const IGMP: IpProtocol = IpProtocol::Igmp;
