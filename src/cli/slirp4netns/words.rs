//! slirp4netns's options by name and letter. What an option means is decided in the file above, how
//! it may be spelt in `getopt`.

use crate::cli::getopt::{Spec, shared, switch, value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Configure,
    ExitFd,
    ReadyFd,
    Mtu,
    Ipv6,
    ApiSocket,
    Cidr,
    DisableHostLoopback,
    NetnsType,
    UsernsPath,
    Sandbox,
    Seccomp,
    OutboundAddr,
    OutboundAddr6,
    DisableDns,
    MacAddress,
    TargetType,
    Help,
    Version,
}

pub(super) const OPTIONS: &[Spec<Id>] = &[
    switch(Id::Configure, "configure", Some('c')),
    shared(value(Id::ExitFd, "exit-fd", Some('e'))),
    shared(value(Id::ReadyFd, "ready-fd", Some('r'))),
    shared(value(Id::Mtu, "mtu", None)),
    value(Id::Mtu, "mtu", Some('m')),
    switch(Id::Ipv6, "enable-ipv6", Some('6')),
    value(Id::ApiSocket, "api-socket", Some('a')),
    shared(value(Id::Cidr, "cidr", None)),
    switch(Id::DisableHostLoopback, "disable-host-loopback", None),
    switch(Id::DisableHostLoopback, "no-host-loopback", None),
    shared(value(Id::NetnsType, "netns-type", None)),
    shared(value(Id::UsernsPath, "userns-path", None)),
    switch(Id::Sandbox, "enable-sandbox", None),
    switch(Id::Sandbox, "create-sandbox", None),
    switch(Id::Seccomp, "enable-seccomp", None),
    shared(value(Id::OutboundAddr, "outbound-addr", None)),
    value(Id::OutboundAddr6, "outbound-addr6", None),
    switch(Id::DisableDns, "disable-dns", None),
    value(Id::MacAddress, "macaddress", None),
    value(Id::TargetType, "target-type", None),
    shared(switch(Id::Help, "help", Some('h'))),
    shared(switch(Id::Version, "version", Some('v'))),
];
