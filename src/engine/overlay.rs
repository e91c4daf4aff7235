//! What is between this host and the others of a network that spans several: frames in VXLAN.
//!
//! A frame for another host leaves by one UDP socket, as its switch port sent it but for what a
//! network card would finish; what comes in is unwrapped, judged by the switch and queued for the
//! containers. One source port is used for all, as one socket can have no other. Neither host
//! encrypts. Read first: RFC 7348, section 5; RFC 6040 on the marks of congestion, of which none is
//! carried (its compatibility mode).
//! Not here: who is where ([`super::switch::remote`]).

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::IpProtocol;

use super::frame::{
    self, ETHERNET_HEADER_LEN, Frame, HEADROOM, IpPacket, Payload, VNET_HEADER_LEN,
};
use super::host::{Bounce, HostEvent, IpFields, Owner, SocketId};
use super::icmp::{self, IcmpError};
use super::segment::{self, Open};
use super::stats::{DropReason, Verdict};
use super::switch::Way;
use super::switch::remote::Remote;
use super::{Engine, Instant, PortId};
use crate::config::{Limit, OverlayHost};

/// "The VNI is valid", the one flag of the first byte (RFC 7348, section 5).
const VNI_VALID: u8 = 0x08;
/// Length of VXLAN's header, in bytes.
const HEADER_LEN: usize = 8;
/// As many frames that wait for containers let the underlay wait in its socket.
const BACKLOG: usize = 256;
/// The longest packets that no sender can be told to make shorter: less is no MTU that the kernel of a
/// container believes (`ip_rt_min_pmtu`; RFC 8200, section 5). They are cut outside.
const LEAST_V4: usize = 552;
const LEAST_V6: usize = 1280;

impl Engine {
    /// Makes the engine's side of an overlay, if the network is one.
    pub(super) fn open_overlay(&mut self, hash: super::flow::KeyedHash) {
        if let Some(overlay) = &self.network.overlay {
            let socket = self.fx.host.adopt(Owner::Overlay);
            self.switch.remote = Some(Remote::new(overlay, &self.network, socket, hash));
        }
    }

    /// What the socket between this host and the others is called; the shell is to bind it.
    #[must_use]
    pub fn overlay_socket(&self) -> Option<SocketId> {
        self.switch.remote.as_ref().map(|remote| remote.socket)
    }

    /// Sets who the hosts of the overlay are.
    pub fn set_overlay_hosts(&mut self, hosts: &[OverlayHost], now: Instant) {
        if let Some(remote) = &mut self.switch.remote {
            remote.set(hosts, &self.network, now);
        }
        if let Some(overlay) = &mut self.network.overlay {
            overlay.hosts = hosts.to_vec();
        }
    }

    /// Whether so many frames wait for containers that no more are to be read from the underlay.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.fx.frames.waiting() >= BACKLOG
    }

    /// Sends a container's frame to the host that has whom it is for.
    pub(super) fn send_to_host(
        &mut self,
        port: PortId,
        mut frame: Frame<'_>,
        now: Instant,
    ) -> Verdict {
        let Some(remote) = &self.switch.remote else {
            return Verdict::Dropped(DropReason::NotForUs);
        };
        let (host, path) = (remote.whom, remote.path_mtu(remote.whom, now));
        let mut dont_fragment = true;
        if let (Some(path), Payload::Ip(packet)) = (path, &frame.payload)
            && packet.longest() > path
        {
            let v6 = packet.source.is_ipv6();
            dont_fragment = packet.longest() > if v6 { LEAST_V6 } else { LEAST_V4 };
            if dont_fragment {
                let mtu = u32::try_from(path).unwrap_or(u32::MAX);
                if let Some((_, mut turn)) = self.turn(port, now) {
                    icmp::send_error(&mut turn, None, packet.bytes, IcmpError::too_long(v6, mtu));
                }
                return Verdict::Refused;
            }
        }
        match self.wrap(&mut frame, host, dont_fragment) {
            Ok(()) => Verdict::Elsewhere,
            Err(reason) => Verdict::Dropped(reason),
        }
    }

    /// Sends a container's frame to all hosts, if it is for everybody. The containers here get it as
    /// it is.
    pub(super) fn send_everywhere(
        &mut self,
        port: PortId,
        frame: &Frame<'_>,
        now: Instant,
    ) -> Result<bool, DropReason> {
        let Some(remote) = &mut self.switch.remote else { return Ok(false) };
        if !std::mem::take(&mut remote.everywhere) {
            return Ok(false);
        }
        let hosts: Vec<IpAddr> = remote.hosts().collect();
        let before = self.fx.stats.overlay_sent;
        let mut bytes = Vec::new();
        for host in &hosts {
            let payload = match &frame.payload {
                Payload::Arp(body) => Payload::Arp(body),
                // Nobody has a connection with everybody.
                Payload::Ip(IpPacket { segment: Some(_), protocol: IpProtocol::Tcp, .. }) => {
                    return Err(DropReason::BadOffload);
                }
                Payload::Ip(packet) => {
                    bytes.clear();
                    bytes.extend_from_slice(packet.bytes);
                    Payload::Ip(IpPacket { bytes: &mut bytes, ..*packet })
                }
            };
            self.wrap(&mut Frame { payload, ..*frame }, *host, true)?;
        }
        // One for each host has been counted before.
        let more = self.fx.stats.overlay_sent - before;
        self.switch.count_copies(port, more.saturating_sub(hosts.len() as u64), now);
        Ok(true)
    }

    fn wrap(
        &mut self,
        frame: &mut Frame<'_>,
        to_host: IpAddr,
        dont_fragment: bool,
    ) -> Result<(), DropReason> {
        let Some(remote) = &self.switch.remote else { return Err(DropReason::NotForUs) };
        let (socket, to_host) = (remote.socket, SocketAddr::new(to_host, remote.port));
        let [_, v0, v1, v2] = remote.vni.to_be_bytes();
        let fields = IpFields { dont_fragment, ..IpFields::default() };
        let kind = match &frame.payload {
            Payload::Arp(_) => [0x08, 0x06],
            Payload::Ip(packet) if packet.source.is_ipv4() => [0x08, 0x00],
            Payload::Ip(_) => [0x86, 0xdd],
        };
        let vxlan = [VNI_VALID, 0, 0, 0, v0, v1, v2, 0];
        let (to, from) = (frame.destination.0, frame.source.0);
        let (host, stats) = (&mut self.fx.host, &mut self.fx.stats);
        let mut send = |head: &[u8], rest: &[u8]| {
            let length = HEADER_LEN + ETHERNET_HEADER_LEN + head.len() + rest.len();
            stats.overlay_sent += 1;
            host.add_udp(socket, to_host, None, fields, length, |buffer| {
                for part in [&vxlan[..], &to, &from, &kind, head, rest] {
                    buffer.extend_from_slice(part);
                }
            });
        };
        match &mut frame.payload {
            Payload::Arp(body) => {
                // Without what fills a frame up.
                send(body.get(..ARP_LEN).unwrap_or(body), &[]);
                Ok(())
            }
            Payload::Ip(packet) => segment::cut(packet, send),
        }
    }

    /// Takes an event of the socket between the hosts.
    pub(super) fn handle_underlay(&mut self, event: HostEvent<'_>, now: Instant) {
        match event {
            HostEvent::Datagram { from, payload, .. } => {
                self.fx.stats.overlay_received += 1;
                if let Err(reason) = self.unwrap(from, payload, now) {
                    self.fx.stats.count_drop(reason);
                    log::trace!("{from}: dropped a frame: {reason:?}");
                }
                if let Some(remote) = &mut self.switch.remote
                    && std::mem::take(&mut remote.refused)
                {
                    self.fx.stats.count_limit(Limit::Elsewhere);
                }
            }
            HostEvent::Bounced { to, bounce, .. } => {
                let mtu = match bounce {
                    Bounce::TooLong { mtu } => Some(mtu),
                    Bounce::Icmp { kind, code, mtu, .. } => {
                        icmp::is_too_long(to.is_ipv6(), kind, code).then_some(mtu)
                    }
                };
                if let (Some(remote), Some(mtu)) = (&mut self.switch.remote, mtu) {
                    log::debug!("the path to {} takes {mtu} bytes", to.ip());
                    remote.note_path(to.ip(), mtu, now);
                }
            }
            HostEvent::Unsent { .. } | HostEvent::ToEverybody => {
                self.fx.stats.count_drop(DropReason::NoResources);
            }
            HostEvent::Connected | HostEvent::Failed(_) => {}
        }
    }

    /// Takes a frame out of what another host has sent, and queues it for whom it is.
    fn unwrap(&mut self, from: SocketAddr, payload: &[u8], now: Instant) -> Result<(), DropReason> {
        let Some(remote) = &mut self.switch.remote else { return Err(DropReason::UnknownHost) };
        if !remote.hears(from) {
            return Err(DropReason::UnknownHost);
        }
        let host = from.ip();
        let ([flags, _, _, _, v0, v1, v2, _], inner) =
            payload.split_first_chunk::<HEADER_LEN>().ok_or(DropReason::Malformed)?;
        // What is reserved is ignored.
        if flags & VNI_VALID == 0 || u32::from_be_bytes([0, *v0, *v1, *v2]) != remote.vni {
            return Err(DropReason::OtherVni);
        }
        let mut buffer = self.fx.frames.empty();
        buffer.resize(VNET_HEADER_LEN, 0);
        buffer.extend_from_slice(inner);
        let judged = self.judge(host, &mut buffer, now);
        match judged {
            Ok((Way::Port(to), open, length)) => {
                buffer.truncate(length);
                self.fx.deliver(to, buffer, open);
                return Ok(());
            }
            Ok((Way::Ports, _, length)) => {
                for to in self.switch.receivers() {
                    let mut copy = self.fx.frames.empty();
                    copy.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    self.fx.deliver(*to, copy, None);
                }
            }
            Ok((Way::Gateway | Way::Host | Way::Done, ..)) | Err(_) => {}
        }
        self.fx.frames.recycle(buffer);
        judged.map(drop)
    }

    /// Where a frame from another host goes, what it is of that others may be added to, and how long
    /// it is without what fills it up.
    fn judge(
        &mut self,
        host: IpAddr,
        buffer: &mut [u8],
        now: Instant,
    ) -> Result<(Way, Option<Open>, usize), DropReason> {
        let length = buffer.len();
        let (header, frame) =
            buffer.split_first_chunk_mut::<VNET_HEADER_LEN>().ok_or(DropReason::Malformed)?;
        let mut frame = frame::parse(frame, false)?;
        let way = self.switch.way_from_host(&self.network, host, &frame, now)?;
        let to = match way {
            Way::Port(to) => Some(to),
            Way::Ports => self.switch.receivers().first().copied(),
            Way::Gateway | Way::Host | Way::Done => None,
        };
        // All of them have the virtio header, or none has.
        let vnet = to.and_then(|to| self.switch.get(to)).is_some_and(|port| port.link.vnet);
        let Payload::Ip(packet) = &mut frame.payload else { return Ok((way, None, length)) };
        let length = HEADROOM + packet.bytes.len();
        if to.is_some() && segment::is_unfinished(packet) {
            let mtu = usize::from(self.network.mtu.get());
            let open = segment::leave_unfinished(packet, vnet.then_some(header), mtu)?;
            return Ok((way, open, length));
        }
        Ok((way, if vnet { Open::of(packet) } else { None }, length))
    }
}

/// An ARP packet about IPv4 on Ethernet, in bytes (RFC 826).
const ARP_LEN: usize = 28;
