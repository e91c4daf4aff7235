//! What the commands take and return by which a container joins a named network.
//!
//! Two requests on one connection: `lease` gives the container its addresses, and `attach` brings
//! the interface that has been made with them. A connection that ends in between gives them back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::config::{Egress, Rate};
use crate::network::definition::Definition;

/// Arguments of `lease`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The container's name, which no other has on this network.
    pub name: String,
    /// These addresses and no others, one of each family at the most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// This hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Whether the lease is to be remembered by the name when the container has gone.
    #[serde(default)]
    pub keep: bool,
}

/// Arguments of `update`: what a network is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The network, as its file has it.
    pub network: Definition,
}

/// What `lease` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// The hardware address.
    pub mac: String,
    /// The IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address, where the network has IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The network.
    pub network: Definition,
}

/// Arguments of `attach`. The TAP comes along, and after it the pidfd if there is one, and the DNS
/// sockets if there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// 64 hex digits.
    pub id: String,
    /// Whether frames carry a virtio header.
    pub vnet_header: bool,
    /// Whether the container has IPv6.
    pub ipv6: bool,
    /// The interface's name in the container.
    pub ifname: String,
    /// What else it is called on this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What it alone calls others there: the alias, and the other's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(String, String)>,
    /// Where in the container its DNS is to be answered too: sockets of UDP and of TCP come along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<IpAddr>,
    /// The process that it was attached by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The inode of the pid namespace that this number is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidns: Option<u64>,
    /// The path of its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// The path of the user namespace that it is entered by, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns: Option<String>,
    /// The inode of its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Whether it leaves the network when this connection ends.
    #[serde(default)]
    pub hold: bool,
    /// How much its default route by this network is preferred.
    #[serde(default)]
    pub priority: i16,
    /// The metric of that route, if there is one: no other of the container has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Its addresses there that are good on the link alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<IpAddr>,
    /// How much it may get and send each second, if that is not the network's to say.
    #[serde(default, skip_serializing_if = "Rate::is_unlimited")]
    pub rate: Rate,
    /// What it may reach outside by this network.
    #[serde(default, skip_serializing_if = "Egress::is_empty")]
    pub egress: Egress,
    /// What it might at first, where that was changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_first: Option<Egress>,
}

/// Arguments of `rate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRate {
    /// The container, where the network has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What changes, as after `--rate`.
    pub rate: String,
}
