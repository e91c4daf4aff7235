//! A guest: a second smoltcp stack at the other end of the link, with sockets of its own.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::packets::{receive, transmit};
use crate::config::{Addresses, Lease};
use crate::engine::Instant;

/// A guest's kernel with its TCP sockets.
pub(super) struct Guest {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    vnet: bool,
}

struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Guest {
    pub(super) fn new(
        lease: &Lease,
        addresses: &Addresses,
        mtu: usize,
        vnet: bool,
        now: Instant,
    ) -> Self {
        let mut wire = Wire { rx: VecDeque::new(), tx: VecDeque::new(), mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 7;
        let mut interface = Interface::new(config, &mut wire, now);
        interface.update_ip_addrs(|ips| {
            let v4 = &addresses.v4;
            ips.push(IpCidr::new(lease.v4.into(), v4.subnet.prefix_len)).unwrap();
            if let (Some(guest), Some(v6)) = (lease.v6, &addresses.v6) {
                ips.push(IpCidr::new(guest.into(), v6.subnet.prefix_len)).unwrap();
            }
        });
        let routes = interface.routes_mut();
        routes.add_default_ipv4_route(addresses.v4.gateway).unwrap();
        if let Some(v6) = &addresses.v6 {
            routes.add_default_ipv6_route(v6.gateway).unwrap();
        }
        Self { interface, sockets: SocketSet::new(Vec::new()), wire, vnet }
    }

    fn add(&mut self, ring: usize) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; ring]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    pub(super) fn connect(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        ring: usize,
    ) -> SocketHandle {
        let handle = self.add(ring);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), to, from).unwrap();
        handle
    }

    pub(super) fn listen(&mut self, at: SocketAddr, ring: usize) -> SocketHandle {
        let handle = self.add(ring);
        self.socket(handle).listen(at).unwrap();
        handle
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Takes a frame off the link.
    pub(super) fn handle_frame(&mut self, frame: &[u8]) {
        self.wire.rx.extend(receive(frame, self.vnet, self.wire.mtu));
    }

    /// Runs the guest's stack; returns the frames it sends.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        transmit(self.wire.tx.drain(..).collect(), self.vnet)
    }

    pub(super) fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        self.interface.poll_at(now, &self.sockets)
    }

    /// The address that a listening socket was connected from.
    pub(super) fn peer(&mut self, handle: SocketHandle) -> Option<SocketAddr> {
        let peer = self.socket(handle).remote_endpoint()?;
        let ip = match peer.addr {
            IpAddress::Ipv4(v4) => IpAddr::V4(v4),
            IpAddress::Ipv6(v6) => IpAddr::V6(v6),
        };
        Some(SocketAddr::new(ip, peer.port))
    }
}

impl Device for Wire {
    type RxToken<'t> = Received;
    type TxToken<'t> = Transmit<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Transmit<'_>)> {
        Some((Received(self.rx.pop_front()?), Transmit(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        Some(Transmit(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(super) struct Transmit<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
