//! pasta's options by name and letter. What an option means is decided in the file above, how it
//! may be spelt in `getopt`.

use crate::cli::getopt::{Spec, shared, switch, value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Debug,
    Trace,
    Quiet,
    Foreground,
    /// What is so in any case.
    AlwaysSo,
    LogFile,
    Pcap,
    Pid,
    Mtu,
    Address,
    Netmask,
    MacAddr,
    NsMacAddr,
    Gateway,
    Interface,
    Outbound,
    DnsForward,
    DnsHost,
    NoTcp,
    NoUdp,
    NoIcmp,
    NoNdp,
    NoRa,
    NoDhcp,
    NoDhcpv6,
    MapHostLoopback,
    NoMapGw,
    MapGuestAddr,
    Ipv4Only,
    Ipv6Only,
    TcpPorts,
    UdpPorts,
    TcpNs,
    UdpNs,
    NsIfname,
    Userns,
    Netns,
    NoNetnsQuit,
    ConfigNet,
    NoCopyRoutes,
    NoCopyAddrs,
    Fd,
    Help,
    Version,
    /// What pasta does and rnsnet does not.
    Refused(&'static str),
    /// Of passt, which serves virtual machines.
    Passt,
}

const fn refused(long: &'static str, short: Option<char>, why: &'static str) -> Spec<Id> {
    switch(Id::Refused(why), long, short)
}

const fn refused_value(long: &'static str, short: Option<char>, why: &'static str) -> Spec<Id> {
    value(Id::Refused(why), long, short)
}

/// Why what only matters to a DHCP client is refused.
const ANNOUNCED: &str = "DHCP and router advertisements name the address of --dns-forward alone";

pub(super) const OPTIONS: &[Spec<Id>] = &[
    switch(Id::Debug, "debug", Some('d')),
    switch(Id::Trace, "trace", None),
    refused_value("stats", None, "send SIGUSR1 for the counters"),
    switch(Id::Quiet, "quiet", Some('q')),
    switch(Id::Foreground, "foreground", Some('f')),
    // Messages go to standard error as long as there is one.
    switch(Id::AlwaysSo, "stderr", Some('e')),
    value(Id::LogFile, "log-file", Some('l')),
    refused_value("log-size", None, "the log is short: warnings are given once"),
    refused_value("runas", None, "start rnsnet as that user; it keeps no rights in any case"),
    refused_value("conf-path", Some('c'), "there is no control socket for pesto"),
    shared(value(Id::Pcap, "pcap", None)),
    value(Id::Pcap, "pcap", Some('p')),
    value(Id::Pid, "pid", Some('P')),
    shared(value(Id::Mtu, "mtu", None)),
    value(Id::Mtu, "mtu", Some('m')),
    value(Id::Address, "address", Some('a')),
    value(Id::Netmask, "netmask", Some('n')),
    value(Id::MacAddr, "mac-addr", Some('M')),
    value(Id::NsMacAddr, "ns-mac-addr", None),
    value(Id::Gateway, "gateway", Some('g')),
    value(Id::Interface, "interface", Some('i')),
    value(Id::Outbound, "outbound", Some('o')),
    refused_value("outbound-if4", None, "give the interface's address: --outbound ADDR"),
    refused_value("outbound-if6", None, "give the interface's address: --outbound ADDR"),
    refused_value("dns", Some('D'), ANNOUNCED),
    value(Id::DnsForward, "dns-forward", None),
    value(Id::DnsHost, "dns-host", None),
    refused_value("search", Some('S'), ANNOUNCED),
    refused("dhcp-dns", None, ANNOUNCED),
    refused("no-dhcp-dns", None, ANNOUNCED),
    refused("dhcp-search", None, ANNOUNCED),
    switch(Id::AlwaysSo, "no-dhcp-search", None),
    refused_value("hostname", Some('H'), ANNOUNCED),
    refused_value("fqdn", None, ANNOUNCED),
    switch(Id::NoTcp, "no-tcp", None),
    switch(Id::NoUdp, "no-udp", None),
    switch(Id::NoIcmp, "no-icmp", None),
    switch(Id::NoDhcp, "no-dhcp", None),
    switch(Id::NoDhcpv6, "no-dhcpv6", None),
    switch(Id::NoNdp, "no-ndp", None),
    switch(Id::NoRa, "no-ra", None),
    refused("freebind", None, "an address that is bound must be there"),
    value(Id::MapHostLoopback, "map-host-loopback", None),
    switch(Id::NoMapGw, "no-map-gw", None),
    value(Id::MapGuestAddr, "map-guest-addr", None),
    switch(Id::Ipv4Only, "ipv4-only", Some('4')),
    switch(Id::Ipv6Only, "ipv6-only", Some('6')),
    value(Id::TcpPorts, "tcp-ports", Some('t')),
    value(Id::UdpPorts, "udp-ports", Some('u')),
    value(Id::TcpNs, "tcp-ns", Some('T')),
    value(Id::UdpNs, "udp-ns", Some('U')),
    refused(
        "host-lo-to-ns-lo",
        None,
        "published ports lead to the container's own address, not to its loopback",
    ),
    value(Id::NsIfname, "ns-ifname", Some('I')),
    value(Id::Userns, "userns", None),
    value(Id::Netns, "netns", None),
    // A user namespace is entered where the kernel wants it, and only there.
    switch(Id::AlwaysSo, "netns-only", None),
    switch(Id::NoNetnsQuit, "no-netns-quit", None),
    switch(Id::ConfigNet, "config-net", None),
    switch(Id::NoCopyRoutes, "no-copy-routes", None),
    switch(Id::NoCopyAddrs, "no-copy-addrs", None),
    // Every byte of a published port goes by the container's interface.
    switch(Id::AlwaysSo, "no-splice", None),
    refused("splice-only", None, "the container would have no interface"),
    // No root is changed, so none needs another way.
    switch(Id::AlwaysSo, "chroot-fallback", None),
    value(Id::Fd, "fd", Some('F')),
    shared(switch(Id::Help, "help", Some('h'))),
    shared(switch(Id::Version, "version", None)),
    switch(Id::Passt, "one-off", Some('1')),
    value(Id::Passt, "socket", Some('s')),
    switch(Id::Passt, "vhost-user", None),
    switch(Id::Passt, "print-capabilities", None),
    value(Id::Passt, "repair-path", None),
    switch(Id::Passt, "migrate-exit", None),
    switch(Id::Passt, "migrate-no-linger", None),
];
