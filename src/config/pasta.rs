//! What a command line of pasta asks for, before the host was looked at: addresses that were not
//! named are the host's own, which `crate::pasta` finds out. Plain data like its parent.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::{MacAddress, Mtu, Name, Process, Protocol, Protocols, Publish, Target};

/// A line of pasta's, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pasta {
    /// What is to have the network.
    pub job: Job,
    /// IPv4; `None` after `--ipv6-only`.
    pub v4: Option<Wish<Ipv4Addr>>,
    /// IPv6; `None` after `--ipv4-only`.
    pub v6: Option<Wish<Ipv6Addr>>,
    /// The host's interface whose addresses and routes are the container's; `None` is that of the
    /// default route.
    pub template: Option<String>,
    /// The interface is brought up, with addresses and routes.
    pub configure: bool,
    /// All addresses of the template, not its first of each family alone.
    pub copy_addresses: bool,
    /// All routes of the template, not a default route alone.
    pub copy_routes: bool,
    /// The interface's name in the container; `None` is the template's.
    pub ifname: Option<String>,
    /// Its hardware address.
    pub guest_mac: Option<MacAddress>,
    /// The hardware address of everybody else on its link.
    pub gateway_mac: Option<MacAddress>,
    /// Its MTU.
    pub mtu: Mtu,
    /// The resolvers that DHCP and router advertisements name; `None` is the forwarder.
    pub announced: Option<Vec<IpAddr>>,
    /// The domains to search that they name.
    pub search: Vec<Name>,
    /// Which protocols are served.
    pub protocols: Protocols,
    /// Host ports that lead into the container.
    pub ports: Ports,
    /// Whether the end of the namespace is the end of the process.
    pub quit_with_netns: bool,
    /// The process's own life cycle.
    pub process: Process,
}

/// What is to have the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// A namespace that is there.
    Attach(Target),
    /// A command in new namespaces; empty is the user's shell.
    Run(Vec<OsString>),
}

/// What was said about one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish<A> {
    /// The container's address.
    pub address: Option<A>,
    /// The length of its prefix.
    pub prefix_len: Option<u8>,
    /// The router.
    pub gateway: Option<A>,
    /// Where DNS is forwarded.
    pub dns_forward: Option<A>,
    /// The resolver that it is forwarded to.
    pub dns_host: Option<A>,
    /// What stands for the host's loopback.
    pub host_loopback: HostLoopback<A>,
    /// What stands for the host's own address, which the container's hides.
    pub map_guest: Option<A>,
    /// The local address of what the container sends.
    pub outbound: Option<A>,
    /// The host's interface that it leaves by.
    pub outbound_interface: Option<String>,
}

/// What stands for the host's loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostLoopback<A> {
    /// The router's address.
    Gateway,
    /// This address.
    At(A),
    /// None.
    Nothing,
}

/// Host ports that lead into the container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports {
    /// Bound before anything is served, or the start fails.
    pub fixed: Vec<Publish>,
    /// Bound while somebody in the container listens on the same port, where that is possible.
    pub mirrors: Vec<Mirror>,
    /// Ports of the container's loopback that lead to the host's.
    pub outwards: Vec<Outward>,
    /// Such ports that are there while somebody on the host's loopback listens on the same port.
    pub outward_mirrors: Vec<Mirror>,
    /// Clients on the host's loopback are led to the container's loopback, not to its address.
    pub to_loopback: bool,
}

/// A port of the container's loopback that leads to one of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outward {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// An address of the container's loopback; `None` is 127.0.0.1, and ::1 where there is one.
    pub at: Option<IpAddr>,
    /// The container's port.
    pub inside: u16,
    /// The host's.
    pub host: u16,
}

/// Most ports that lead to the host's loopback, of both protocols together.
pub const MAX_OUTWARDS: usize = 256;

/// A rule for ports that follow what the container listens on, or the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address that they are bound at; `None` is every address of both families, or both
    /// loopbacks.
    pub bind: Option<IpAddr>,
    /// The host's interface that they are bound at, at its addresses unless one is given.
    pub interface: Option<String>,
    /// The ports it is for.
    pub include: Vec<RangeInclusive<u16>>,
    /// Those among them that it is not for.
    pub exclude: Vec<RangeInclusive<u16>>,
    /// An address that is not there yet is bound all the same.
    pub freebind: bool,
}

impl<A> Default for Wish<A> {
    fn default() -> Self {
        Self {
            address: None,
            prefix_len: None,
            gateway: None,
            dns_forward: None,
            dns_host: None,
            host_loopback: HostLoopback::Gateway,
            map_guest: None,
            outbound: None,
            outbound_interface: None,
        }
    }
}

impl Mirror {
    /// Whether the rule is for this port.
    #[must_use]
    pub fn covers(&self, port: u16) -> bool {
        let within = |ranges: &[RangeInclusive<u16>]| ranges.iter().any(|r| r.contains(&port));
        within(&self.include) && !within(&self.exclude)
    }
}
