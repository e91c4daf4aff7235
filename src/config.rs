//! What was asked for, as validated types.
//!
//! The command line and the personalities end here: nothing past this module parses a string.
//! Types here are plain data that the pure engine may use too; they touch no kernel.

mod addresses;
pub(crate) mod name;
mod between;
mod discovery;
mod egress;
pub mod limits;
mod link_local;
pub mod overlay;
mod ports;
pub mod prefix;
mod rate;
pub mod resolver;
pub mod pasta;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::sorted::SortedSet;

pub use addresses::{Addresses, Cidr, Family, MacAddress};
pub use between::{Between, Pass, PassError, PassKind};
pub use discovery::{Discovery, MAX_RELAYS, MDNS};
pub use egress::{Egress, EgressError, EgressRule, Opening, To};
pub use limits::{Limit, LimitError, Limits};
pub use link_local::{LinkLocal, LinkLocalError};
pub use name::{Name, NameError};
pub use overlay::{Overlay, OverlayHost};
pub use ports::{
    Bind, FREE_PORTS, HostPorts, HostSide, Ports, Publish, PublishDefaults, unbindable,
};
pub use prefix::Prefix;
pub use rate::{Rate, RateError};
pub use resolver::{Host, HostAddress, Resolver, Route, Server};

/// Everything that attaching one container to a private network needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The namespace to attach.
    pub target: Target,
    /// What the container's interface is to be.
    pub endpoint: Endpoint,
    /// How the network behaves.
    pub network: Network,
    /// The named networks that it is to be on instead.
    pub membership: Option<Membership>,
    /// The process's own life cycle.
    pub process: Process,
    /// What a caller expects that takes us for another program.
    pub caller: Caller,
}

/// `rnsnet run`: new namespaces, a network for them, and a command inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command and its arguments; never empty.
    pub command: Vec<std::ffi::OsString>,
    /// The host name inside; `None` keeps the host's.
    pub hostname: Option<String>,
    /// What the container's interface is to be.
    pub endpoint: Endpoint,
    /// How the network behaves.
    pub network: Network,
    /// The named networks that it is to be on instead.
    pub membership: Option<Membership>,
    /// The process's own life cycle.
    pub process: Process,
    /// What a caller expects that takes us for another program.
    pub caller: Caller,
}

/// Named networks that a container is to be on, and what is published of it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The networks; the first has the published ports and, if it leads outside, the default
    /// route.
    pub joins: Vec<Join>,
    /// Published ports as they were typed: the network's process reads them.
    pub publish: Vec<String>,
    /// Where they are bound that name no address, if the network does not say.
    pub bind: Vec<IpAddr>,
    /// An address of the container's own loopback at which the first network's DNS answers too.
    pub dns_listen: Option<IpAddr>,
}

/// What a container is to have on one named network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Join {
    /// The network, by its name or its id.
    pub network: String,
    /// What it is called there besides its name.
    pub aliases: Vec<Name>,
    /// This IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// This IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// These addresses besides.
    pub link_local: LinkLocal,
    /// This hardware address.
    pub mac: Option<MacAddress>,
    /// This name for its interface.
    pub ifname: Option<String>,
    /// The network with the highest has the default route, of equal ones the first: from -1000 to
    /// 1000.
    pub priority: i16,
    /// How much it may get and send there each second, if that is not the network's to say.
    pub rate: Rate,
    /// What it may reach outside by it; `None` is what it may elsewhere, if it is anywhere else.
    pub egress: Option<Egress>,
}

/// Which network namespace to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The network namespace of a running process.
    Pid(i32),
    /// A network namespace by path, with its user namespace where the kernel is not to be asked.
    Path {
        /// The network namespace, for example `/proc/4242/ns/net` or `/run/netns/web`.
        netns: PathBuf,
        /// The user namespace to enter first; `None` takes the one that owns `netns`.
        userns: Option<PathBuf>,
    },
    /// No namespace at all: the inherited descriptor of a TAP that the caller has made.
    Tap(i32),
}

/// What a caller expects that takes us for another program, such as slirp4netns. The default is
/// what `rnsnet` itself does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// What is done to the container's interface.
    pub setup: Setup,
    /// The local addresses of what the container sends.
    pub outbound: Outbound,
    /// Where requests to forward ports are taken.
    pub api_socket: Option<PathBuf>,
    /// A ready or exit descriptor that is not open is no error: the first is not written to, the
    /// second counts as closed.
    pub any_fds: bool,
    /// Other processes of the same user may look at ours in `/proc`.
    pub inspectable: bool,
    /// What we are taken for; `None` is rnsnet itself.
    pub personality: Option<&'static str>,
    /// What the interface is given instead of a lease in a private network.
    pub layout: Option<Layout>,
    /// Rules for ports that follow what the container listens on.
    pub mirrors: Vec<pasta::Mirror>,
    /// Ports of the container's loopback that lead to the host's.
    pub outwards: Vec<pasta::Outward>,
    /// Rules for such ports that follow what the host listens on.
    pub outward_mirrors: Vec<pasta::Mirror>,
    /// Clients of published ports who are on the host's loopback are led to the container's.
    pub to_loopback: bool,
    /// The end of a namespace is not the end of the process.
    pub outlive_netns: bool,
    /// A command sees the host's `resolv.conf` and `hosts`.
    pub host_files: bool,
}

/// What an interface is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Addresses with their prefix lengths in bits.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routes, in an order in which each gateway is reachable before it is used.
    pub routes: Vec<LinkRoute>,
}

/// A route in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkRoute {
    /// Where to: the first address of a prefix.
    pub destination: IpAddr,
    /// The prefix's length in bits; 0 is the default route.
    pub prefix_len: u8,
    /// By whom; `None` is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The gateway is taken to be on the link, whatever the addresses say.
    pub on_link: bool,
    /// The metric; `None` is the kernel's choice.
    pub metric: Option<u32>,
}

/// What is done to the container's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Setup {
    /// It is made, and must not be there before; it gets its addresses and routes.
    #[default]
    Create,
    /// A TAP of that name is taken over or made; it gets its addresses and routes.
    Configure,
    /// A TAP of that name is taken over or made, and left as it is.
    Bare,
}

/// The local addresses and the interface of what a container sends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outbound {
    /// For IPv4; `None` leaves the choice to the kernel.
    pub v4: Option<Source<Ipv4Addr>>,
    /// For IPv6.
    pub v6: Option<Source<Ipv6Addr>>,
    /// The interface that IPv4 leaves by, which may come and go.
    pub interface_v4: Option<String>,
    /// The same for IPv6.
    pub interface_v6: Option<String>,
    /// What goes to the host's loopback has these addresses too, as slirp4netns has it.
    pub loopback_too: bool,
}

/// A local address, or where to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source<A> {
    /// This address.
    Address(A),
    /// The first address of this interface when rnsnet starts.
    Interface(String),
}

/// The container's side of the link: what the TAP device is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `--network none`: bring `lo` up, make no interface.
    pub loopback_only: bool,
    /// Interface name in the container, `eth0` by default.
    pub ifname: String,
    /// Its addresses in the container.
    pub lease: Lease,
    /// Whether to ask the kernel for a virtio header and offloads.
    pub offload: Offload,
}

/// How the TAP is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Checksum and segmentation offload where the kernel grants them (`IFF_VNET_HDR`).
    #[default]
    Auto,
    /// Plain frames.
    Off,
}

/// What one container has on a network, and nobody else there: the endpoint of one switch port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Hardware address.
    pub mac: MacAddress,
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address besides the link-local one; `None` without IPv6.
    pub v6: Option<Ipv6Addr>,
    /// Addresses besides these that are good on this link alone.
    pub link_local: LinkLocal,
}

/// How a network behaves. This is the engine's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Addresses of the gateway and the DNS forwarder.
    pub addresses: Addresses,
    /// MTU of the container's interface.
    pub mtu: Mtu,
    /// Host ports that are forwarded into the container.
    pub publish: Vec<Publish>,
    /// What holds for those that are published while it runs.
    pub publish_defaults: PublishDefaults,
    /// Which services on the host's loopback the container may reach, at the gateway's address.
    pub host_access: HostAccess,
    /// Whether the DNS forwarder works; without it nothing answers at its address.
    pub dns: bool,
    /// What it answers by itself, and whom it asks.
    pub resolver: Resolver,
    /// Whether the gateway is the containers' default router.
    pub default_route: bool,
    /// How the container is told that a destination is forbidden.
    pub refusal: Refusal,
    /// The first of the addresses that DHCP gives away, one for each hardware address that asks;
    /// `None` gives each container the address that it has anyway, and those after it to machines
    /// that it has bridged to its interface.
    pub dhcp_pool: Option<Ipv4Addr>,
    /// Who may be on it.
    pub sharing: Sharing,
    /// What passes all the same between containers of an isolated network.
    pub between: Vec<Between>,
    /// Whether its containers reach nothing outside: no address, no resolver, no service of the
    /// host. Published ports still lead in.
    pub internal: bool,
    /// Whether datagrams to broadcast addresses of the host's networks go out.
    pub allow_broadcast: bool,
    /// What multicast goes out to the host's networks and comes in from them.
    pub discovery: Discovery,
    /// What else addresses mean, and which protocols are served.
    pub rules: Rules,
    /// How much of each thing there is at the most.
    pub limits: Limits,
    /// How much each of its containers may get and send each second, unless told otherwise of one.
    pub rate: Rate,
    /// What each of its containers may reach outside, unless told otherwise of one.
    pub egress: Egress,
    /// Other hosts whose containers are on it too.
    pub overlay: Option<Overlay>,
}

/// Who may be on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// One container alone, which may call itself what it likes.
    #[default]
    Private,
    /// Containers that talk to each other, each held to its lease.
    Shared,
    /// Containers that do not, each held to its lease.
    Isolated,
}

/// What addresses mean besides the gateway's and the DNS forwarder's, and which protocols are
/// served. The default is a private network that serves all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Who else is on the container's link.
    pub neighbours: Neighbours,
    /// Addresses that stand for some of the host's.
    pub maps: Vec<Map>,
    /// Which protocols are served.
    pub protocols: Protocols,
    /// The hardware address of the gateway and of everybody behind it.
    pub gateway_mac: MacAddress,
    /// The resolvers that DHCP and router advertisements name instead of the forwarder.
    pub announced: Option<Vec<IpAddr>>,
}

/// Who is on a container's link besides the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Neighbours {
    /// Nobody: the network is private, and what is not known in it does not exist.
    #[default]
    Nobody,
    /// Whoever the host finds there: the container has the host's own addresses, and its subnet
    /// is the host's.
    Host,
}

/// An address of the container's network that stands for one of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// The container's side.
    pub seen: IpAddr,
    /// The host's side, of the same family.
    pub real: IpAddr,
}

/// Which protocols are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent switches
pub struct Protocols {
    /// IPv4 and ARP at all.
    pub ipv4: bool,
    /// TCP.
    pub tcp: bool,
    /// UDP, with DNS.
    pub udp: bool,
    /// Echo requests.
    pub icmp: bool,
    /// Neighbour and router solicitations.
    pub ndp: bool,
    /// Router solicitations.
    pub ra: bool,
    /// The DHCP server.
    pub dhcp: bool,
    /// The DHCPv6 server.
    pub dhcpv6: bool,
}

/// How a container is told that a destination is forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refusal {
    /// A closed port at the gateway, "communication administratively prohibited" elsewhere.
    #[default]
    Prohibited,
    /// "Network unreachable" for both, as slirp4netns has it.
    Unreachable,
}

/// Maximum transmission unit of an interface, in bytes of IP packet: 1280 (RFC 8200, section 5)
/// to 65520, so that a frame with its headers stays below 64 KiB. Only [`Mtu::unusual`] makes one
/// outside these bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(u16);

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
}

/// Which services bound to the host's loopback a container may reach by the gateway's address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostAccess {
    /// None: the gateway offers nothing.
    #[default]
    None,
    /// These TCP and UDP ports.
    Ports(SortedSet<u16>),
    /// Every port.
    All,
}

/// The life cycle of the rnsnet process itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Inherited descriptor that gets the byte `1` when the network works.
    pub ready_fd: Option<i32>,
    /// Inherited descriptor whose hang-up ends the process.
    pub exit_fd: Option<i32>,
    /// What the container is called by `rnsnet ps` and the other verbs; `None` is `ns-` and the
    /// inode of its network namespace.
    pub name: Option<String>,
    /// File that holds the process id while it runs.
    pub pid_file: Option<PathBuf>,
    /// File that gets the log instead of stderr.
    pub log_file: Option<PathBuf>,
    /// Capture of every frame of the container's interface.
    pub pcap: Option<PathBuf>,
    /// File that gets a resolv.conf for the container.
    pub resolv_conf: Option<PathBuf>,
    /// File that gets a hosts file for the container.
    pub hosts: Option<PathBuf>,
    /// Go to the background once the network works.
    pub detach: bool,
    /// What is logged on stderr.
    pub log_level: LogLevel,
    /// How far the process locks itself down before it serves.
    pub confinement: Confinement,
    /// The words that ask for the same again; none where that cannot be.
    pub arguments: Vec<String>,
    /// What the rules for published ports are, where they are no longer those of the words.
    pub republished: Republished,
}

/// Published ports, a rate and rules that were changed at run time by a process that is no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Republished {
    /// The number of the rule that each rule comes from, where it is not its own.
    pub origins: Vec<usize>,
    /// How many rules there were: those of the words, and the later ones.
    pub rules: usize,
    /// The later ones, as [`Publish::spelt`] has them.
    pub added: Vec<(String, Vec<IpAddr>)>,
    /// The rate, if it was changed as well.
    pub rate: Option<Rate>,
    /// The same of what it may reach outside.
    pub egress: Option<Egress>,
}

/// How far the process locks itself down before it serves. Capabilities are given up in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confinement {
    /// Files by Landlock and system calls by seccomp.
    #[default]
    Full,
    /// Files only (`--no-seccomp`), to debug a system call that is missing in the list.
    FilesOnly,
    /// Neither (`--no-sandbox`).
    None,
}

/// The most verbose level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub log::LevelFilter);

impl Default for LogLevel {
    fn default() -> Self {
        Self(log::LevelFilter::Info)
    }
}

impl Mtu {
    /// The smallest MTU: what IPv6 asks of every link (RFC 8200, section 5).
    pub const MIN: u16 = 1280;
    /// The largest MTU: with Ethernet and virtio headers a frame still fits in 64 KiB.
    pub const MAX: u16 = 65520;

    /// [`Mtu::MAX`] as an MTU.
    pub const LARGEST: Self = Self(Self::MAX);

    /// Takes an MTU in bytes; `None` outside [`Mtu::MIN`]..=[`Mtu::MAX`].
    #[must_use]
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes >= Self::MIN && bytes <= Self::MAX { Some(Self(bytes)) } else { None }
    }

    /// Takes an MTU that slirp4netns takes too: from 68 (RFC 791, section 3.2), which IPv4 alone
    /// can use, to 65521, the most that Linux gives a TAP.
    #[must_use]
    pub const fn unusual(bytes: u16) -> Option<Self> {
        if bytes >= 68 && bytes <= 65521 { Some(Self(bytes)) } else { None }
    }

    /// The MTU in bytes.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Network {
    /// The resolvers of one family that DHCP or router advertisements name, as their bytes.
    /// `forwarder` is that family's.
    #[must_use]
    pub fn announced(&self, forwarder: IpAddr) -> Vec<u8> {
        let octets = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        match &self.rules.announced {
            None if self.dns => octets(&forwarder),
            None => Vec::new(),
            Some(list) => {
                let same = list.iter().filter(|server| server.is_ipv4() == forwarder.is_ipv4());
                same.flat_map(octets).collect()
            }
        }
    }

    /// The domains to search that they name, as [`Resolver::search_list`].
    #[must_use]
    pub fn announced_domains(&self) -> Vec<u8> {
        let any = self.dns || self.rules.announced.is_some();
        if any { self.resolver.search_list() } else { Vec::new() }
    }
}

impl Default for Mtu {
    fn default() -> Self {
        Self(1500)
    }
}

impl Rules {
    /// The host's address that this one of the container's network stands for.
    #[must_use]
    pub fn real(&self, seen: IpAddr) -> Option<IpAddr> {
        self.maps.iter().find(|map| map.seen == seen).map(|map| map.real)
    }

    /// The address of the container's network that stands for this one of the host's.
    #[must_use]
    pub fn seen(&self, real: IpAddr) -> Option<IpAddr> {
        self.maps.iter().find(|map| map.real == real).map(|map| map.seen)
    }
}

impl Default for Rules {
    /// The gateway's hardware address is locally administered, "rn" and the gateway's last octet.
    fn default() -> Self {
        Self {
            neighbours: Neighbours::default(),
            maps: Vec::new(),
            protocols: Protocols::default(),
            gateway_mac: MacAddress([0x02, b'r', b'n', 0, 0, 2]),
            announced: None,
        }
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            ipv4: true,
            tcp: true,
            udp: true,
            icmp: true,
            ndp: true,
            ra: true,
            dhcp: true,
            dhcpv6: true,
        }
    }
}

impl LinkRoute {
    /// A default route.
    #[must_use]
    pub fn by(gateway: IpAddr) -> Self {
        let destination = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { destination, prefix_len: 0, gateway: Some(gateway), on_link: false, metric: None }
    }
}

impl fmt::Display for LinkRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_len {
            0 => f.write_str("the default route")?,
            length => write!(f, "the route to {}/{length}", self.destination)?,
        }
        self.gateway.map_or(Ok(()), |gateway| write!(f, " by {gateway}"))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Lease {
    /// A container at `v4`, with the stable hardware address that goes with it: 02:72 and the
    /// octets. The first byte says "locally administered, one station" (IEEE 802-2014, 8.4).
    #[must_use]
    pub fn new(v4: Ipv4Addr, v6: Option<Ipv6Addr>) -> Self {
        let [a, b, c, d] = v4.octets();
        let mac = MacAddress([0x02, 0x72, a, b, c, d]);
        Self { mac, v4, v6, link_local: LinkLocal::default() }
    }
}

impl HostAccess {
    /// Whether the service on `port` of the host's loopback may be reached.
    #[must_use]
    pub fn allows(&self, port: u16) -> bool {
        match self {
            Self::None => false,
            Self::Ports(ports) => ports.contains(&port),
            Self::All => true,
        }
    }
}

impl Default for Lease {
    /// 10.0.2.100 and fd72:6e73:6e65::100, in the default network.
    fn default() -> Self {
        let v6 = Ipv6Addr::new(0xfd72, 0x6e73, 0x6e65, 0, 0, 0, 0, 0x100);
        Self::new(Ipv4Addr::new(10, 0, 2, 100), Some(v6))
    }
}

impl Default for Network {
    /// The default addresses, a DNS forwarder, nothing published and no host access.
    fn default() -> Self {
        Self {
            addresses: Addresses::default(),
            mtu: Mtu::default(),
            publish: Vec::new(),
            publish_defaults: PublishDefaults::default(),
            host_access: HostAccess::default(),
            dns: true,
            resolver: Resolver::default(),
            default_route: true,
            refusal: Refusal::default(),
            dhcp_pool: None,
            sharing: Sharing::default(),
            between: Vec::new(),
            internal: false,
            allow_broadcast: false,
            discovery: Discovery::default(),
            rules: Rules::default(),
            limits: Limits::default(),
            rate: Rate::UNLIMITED,
            egress: Egress::default(),
            overlay: None,
        }
    }
}
