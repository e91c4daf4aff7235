//! The other hosts of a network that spans several: who is where, and frames that come from there.
//!
//! Where an IP address is the file says, so a question for it goes to one host, and what nobody has
//! goes nowhere. Which host has a hardware address is learnt from what comes from there, and only from
//! frames that the file allows: their source address is in a part of the host that sent them. A
//! hardware address stays with its host as long as it is heard of; what is none's that a host could
//! have (a container's here, the gateway's, a group's) is refused. Read first: RFC 7348.
//! Not here: how frames are wrapped ([`crate::engine::overlay`]).

use std::net::{IpAddr, SocketAddr};

use smoltcp::time::Duration;
use smoltcp::wire::ArpOperation;

use super::guard::{self, Sender};
use super::{Bucket, Neighbour, Switch, Way};
use crate::config::{Limit, MacAddress, Network, Overlay, OverlayHost, Prefix};
use crate::engine::Instant;
use crate::engine::flow::{GuestMap, KeyedHash};
use crate::engine::frame::{Frame, Payload};
use crate::engine::host::SocketId;
use crate::engine::stats::DropReason;
use crate::sorted::SortedMap;

/// How long a hardware address is its host's that is not heard of, as a bridge of Linux has it.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long a path's MTU holds that is smaller than the network's (RFC 8201, section 4).
const PATH_LIFETIME: Duration = Duration::from_secs(600);

/// All other hosts.
#[derive(Debug)]
pub(in crate::engine) struct Remote {
    pub(in crate::engine) vni: u32,
    pub(in crate::engine) port: u16,
    local: IpAddr,
    /// What carries frames to them and from them.
    pub(in crate::engine) socket: SocketId,
    hosts: SortedMap<IpAddr, Host>,
    /// First and last address of each part and its host, in order.
    parts: Vec<(IpAddr, IpAddr, IpAddr)>,
    macs: GuestMap<MacAddress, Learnt>,
    /// How many of those may be one host's.
    most: usize,
    /// A host has wanted more of them than that.
    pub(in crate::engine) refused: bool,
    /// The host that the frame at hand is for, if it is for one.
    pub(in crate::engine) whom: IpAddr,
    /// The frame at hand is for every one of them, too.
    pub(in crate::engine) everywhere: bool,
}

#[derive(Debug)]
struct Host {
    parts: Vec<Prefix>,
    /// How many hardware addresses are its own.
    macs: usize,
    storm: Bucket,
    /// When those that are silent may be looked for again.
    sweep: Instant,
    /// The longest inner packet that its path takes, and until when that is known.
    path: Option<(usize, Instant)>,
    /// It speaks from the port that all listen on.
    own_port: bool,
}

/// Whose a hardware address is.
#[derive(Debug, Clone, Copy)]
struct Learnt {
    host: IpAddr,
    heard: Instant,
}

impl Remote {
    /// The hosts of an overlay; `socket` carries what is between them and this one.
    pub(in crate::engine) fn new(
        overlay: &Overlay,
        network: &Network,
        socket: SocketId,
        hash: KeyedHash,
    ) -> Self {
        let mut remote = Self {
            vni: overlay.vni,
            port: overlay.port,
            local: overlay.local,
            socket,
            hosts: SortedMap::new(),
            parts: Vec::new(),
            macs: GuestMap::with_hasher(hash),
            most: network.limits.get(Limit::Elsewhere),
            refused: false,
            whom: overlay.local,
            everywhere: false,
        };
        remote.set(&overlay.hosts, network, Instant::ZERO);
        remote
    }

    /// Sets who they are. What is known of one that has other parts now, or none, is forgotten.
    pub(in crate::engine) fn set(
        &mut self,
        hosts: &[OverlayHost],
        network: &Network,
        now: Instant,
    ) {
        let rate = u64::try_from(network.limits.get(Limit::Storm)).unwrap_or(u64::MAX);
        let storm = || Bucket::new(rate, Duration::from_secs(1), now);
        let mut before = std::mem::replace(&mut self.hosts, SortedMap::new());
        self.parts.clear();
        for OverlayHost { address, parts } in hosts {
            if *address == self.local {
                continue;
            }
            let same = before.remove(address).filter(|host| host.parts == *parts);
            let new = || Host {
                parts: parts.clone(),
                macs: 0,
                storm: storm(),
                sweep: now,
                path: None,
                own_port: false,
            };
            self.hosts.insert(*address, same.unwrap_or_else(new));
            for part in parts {
                let at = self.parts.partition_point(|(first, ..)| *first < part.first());
                self.parts.insert(at, (part.first(), part.last(), *address));
            }
        }
        let hosts = &self.hosts;
        // Of one that is new there is none to be kept.
        self.macs.retain(|_, learnt| hosts.get(&learnt.host).is_some_and(|host| host.macs > 0));
    }

    /// How many hosts there are, and how many hardware addresses are known of them.
    pub(in crate::engine) fn counts(&self) -> (usize, usize) {
        (self.hosts.len(), self.macs.len())
    }

    /// All hosts.
    pub(in crate::engine) fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.hosts.keys().copied()
    }

    /// Whether what comes from there may be a host's. Which port a kernel's device sends from nobody
    /// knows; rnsnet sends from the one that it listens on, which nobody else there can have, so one that
    /// has spoken from that is heard from that alone.
    pub(in crate::engine) fn hears(&mut self, from: SocketAddr) -> bool {
        let Some(host) = self.hosts.get_mut(&from.ip()) else { return false };
        host.own_port |= from.port() == self.port;
        !host.own_port || from.port() == self.port
    }

    /// The host whose part an address is in.
    fn host_of(&self, ip: IpAddr) -> Option<IpAddr> {
        let behind = self.parts.partition_point(|(first, ..)| *first <= ip);
        let (_, last, host) = self.parts.get(behind.checked_sub(1)?)?;
        (ip <= *last).then_some(*host)
    }

    /// The host that a packet for a hardware address goes to: the one that it was heard from, or
    /// before that the one that has the address within.
    fn way_of(&self, mac: MacAddress, ip: Option<IpAddr>) -> Option<IpAddr> {
        let learnt = self.macs.get(&mac).map(|learnt| learnt.host);
        learnt.or_else(|| self.host_of(ip?))
    }

    /// Whether a hardware address may be a host's: nobody else's that was heard of lately.
    fn may_have(&self, host: IpAddr, mac: MacAddress, now: Instant) -> bool {
        let learnt = self.macs.get(&mac);
        learnt.is_none_or(|learnt| learnt.host == host || now >= learnt.heard + LIFETIME)
    }

    /// A hardware address is a host's.
    fn learn(&mut self, host: IpAddr, mac: MacAddress, now: Instant) {
        if let Some(learnt) = self.macs.get_mut(&mac)
            && learnt.host == host
        {
            learnt.heard = now;
            return;
        }
        let Some(room) = self.hosts.get(&host).map(|host| host.macs < self.most) else { return };
        if !room && !self.forget_silent(host, now) {
            self.refused = true;
            return;
        }
        if let Some(other) = self.macs.insert(mac, Learnt { host, heard: now })
            && let Some(other) = self.hosts.get_mut(&other.host)
        {
            other.macs -= 1;
        }
        if let Some(host) = self.hosts.get_mut(&host) {
            host.macs += 1;
        }
    }

    /// Forgets what a host has not been heard by of late, once in a while. Says whether it has room.
    fn forget_silent(&mut self, address: IpAddr, now: Instant) -> bool {
        let Some(host) = self.hosts.get_mut(&address).filter(|host| now >= host.sweep) else {
            return false;
        };
        host.sweep = now + LIFETIME;
        host.macs = 0;
        self.macs.retain(|_, learnt| {
            let own = learnt.host == address;
            let stays = !own || now < learnt.heard + LIFETIME;
            host.macs += usize::from(own && stays);
            stays
        });
        host.macs < self.most
    }

    /// The longest inner packet that is known to reach a host.
    pub(in crate::engine) fn path_mtu(&self, host: IpAddr, now: Instant) -> Option<usize> {
        let (mtu, until) = self.hosts.get(&host)?.path?;
        (now < until).then_some(mtu)
    }

    /// A path takes outer packets of so many bytes and no more.
    pub(in crate::engine) fn note_path(&mut self, host: IpAddr, outer: u32, now: Instant) {
        let least = if host.is_ipv6() { LEAST_V6 } else { LEAST_V4 };
        let outer = usize::try_from(outer).unwrap_or(usize::MAX).max(least);
        let inner = outer - overhead(host.is_ipv6());
        let inner = self.path_mtu(host, now).map_or(inner, |known| known.min(inner));
        if let Some(host) = self.hosts.get_mut(&host) {
            host.path = Some((inner, now + PATH_LIFETIME));
        }
    }
}

/// What wrapping adds to a packet, in bytes: the outer IP and UDP headers, VXLAN's, and the inner
/// Ethernet header.
pub(in crate::engine) const fn overhead(v6: bool) -> usize {
    (if v6 { 40 } else { 20 }) + 8 + 8 + 14
}

/// Less is no MTU that a kernel believes (`ip_rt_min_pmtu`; RFC 8200, section 5).
const LEAST_V4: usize = 552;
const LEAST_V6: usize = 1280;

impl Switch {
    /// Where an address is that no container here has.
    pub(super) fn elsewhere(&mut self, ip: IpAddr) -> Option<Way> {
        let remote = self.remote.as_mut()?;
        remote.whom = remote.host_of(ip)?;
        Some(Way::Host)
    }

    /// Where a frame of a container goes whose hardware address is no container's here.
    pub(super) fn way_elsewhere(&mut self, frame: &Frame<'_>) -> Option<Way> {
        let ip = match &frame.payload {
            Payload::Ip(packet) => Some(packet.destination),
            Payload::Arp(_) => None,
        };
        let remote = self.remote.as_mut()?;
        remote.whom = remote.way_of(frame.destination, ip)?;
        Some(Way::Host)
    }

    /// Finds where a frame from another host goes, after holding it against the host's parts.
    pub(in crate::engine) fn way_from_host(
        &mut self,
        network: &Network,
        host: IpAddr,
        frame: &Frame<'_>,
        now: Instant,
    ) -> Result<Way, DropReason> {
        let mac = frame.source;
        let taken = mac == network.rules.gateway_mac || self.by_mac.contains_key(&mac);
        let Some(remote) = &mut self.remote else { return Err(DropReason::NotForUs) };
        if taken || mac.is_group() || mac.0 == [0; 6] || !remote.may_have(host, mac, now) {
            return Err(DropReason::SpoofedMac);
        }
        let Some(Host { parts, .. }) = remote.hosts.get(&host) else {
            return Err(DropReason::UnknownHost);
        };
        let subnet = network.addresses.v4.subnet;
        let from = Sender::Elsewhere { mac, parts, subnet };
        let (sender, asked, packet) = match &frame.payload {
            Payload::Arp(body) => {
                let arp = guard::arp(&from, body)?;
                let asked = arp.operation == ArpOperation::Request;
                (Some(arp.sender.into()), asked.then_some(arp.target.into()), None)
            }
            Payload::Ip(packet) => match guard::ip(network, &from, packet)? {
                Some(Neighbour::RouterSolicitation) => return Err(DropReason::NotForUs),
                Some(Neighbour::Solicitation(target)) => {
                    (Some(packet.source), Some(target.into()), None)
                }
                Some(Neighbour::Advertisement) => (Some(packet.source), None, None),
                None => (Some(packet.source), None, Some(packet)),
            },
        };
        // One that was made of the hardware address is no proof of where that is.
        if sender.is_some_and(|sender| parts.iter().any(|part| part.contains(sender))) {
            remote.learn(host, mac, now);
        }
        if !frame.destination.is_group() {
            let to = self.by_mac.get(&frame.destination);
            return to.map(|to| Way::Port(*to)).ok_or(DropReason::NotForUs);
        }
        if let Some(target) = asked {
            // The gateway is the same on every host, and each has its own.
            return self.by_ip.get(&target).map_or(Ok(Way::Done), |to| Ok(Way::Port(*to)));
        }
        if let Some(packet) = packet {
            if guard::is_dhcp_question(packet) {
                return Err(DropReason::NotForUs);
            }
            if super::groups::is_report(packet) {
                return Ok(Way::Done);
            }
            if !super::is_for_all(network, packet.destination)? {
                self.receivers.clear();
                self.receivers.extend(self.groups.members(packet.destination, now));
                return if self.receivers.is_empty() { Ok(Way::Done) } else { Ok(Way::Ports) };
            }
        }
        let Some(Host { storm, .. }) = self.remote.as_mut().and_then(|r| r.hosts.get_mut(&host))
        else {
            return Err(DropReason::UnknownHost);
        };
        if !storm.has(1, now) {
            return Err(DropReason::Storm);
        }
        storm.take(1, now);
        Ok(self.everybody(None))
    }
}
