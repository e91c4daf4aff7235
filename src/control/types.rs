//! What the commands of the control socket take and return, by their JSON.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Egress, Rate};

/// Everything about a network's process and its containers: `info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The process's version of rnsnet.
    pub rnsnet: String,
    /// The process that answers.
    pub process: u32,
    /// What it was called as: `rnsnet`, `rnsnet run`, `slirp4netns` and so on.
    pub called_as: String,
    /// The network's name, `default` for a container's private one.
    pub network: String,
    /// The largest packet of the network, in bytes.
    pub mtu: u16,
    /// How much the process says in its log: `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(default)]
    pub log_level: String,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// 64 hex digits, the same as long as it is attached.
    pub id: String,
    /// Its name, unique among the user's.
    pub name: String,
    /// The process that it was attached by; `None` for a namespace by path.
    pub pid: Option<i32>,
    /// The network namespace: a path, for as long as it is there.
    pub netns: Option<String>,
    /// The inode of that namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// What else it is called on the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The metric of its default route by this network, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// How much it may get and send each second.
    #[serde(default, skip_serializing_if = "Rate::is_unlimited")]
    pub rate: Rate,
    /// What it may reach outside, if that is not everything.
    #[serde(default, skip_serializing_if = "Egress::is_empty")]
    pub egress: Egress,
    /// When it was attached, in seconds since 1970-01-01 UTC.
    pub attached: u64,
    /// Its interface; `None` under `--network none`.
    pub interface: Option<Interface>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
}

/// A container's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the container.
    pub ifname: String,
    /// Its hardware address.
    pub mac: String,
    /// Its IPv4 address.
    pub ipv4: String,
    /// The length of the IPv4 prefix.
    pub ipv4_prefix_len: u8,
    /// The IPv4 default router.
    pub ipv4_gateway: String,
    /// Its IPv6 address, if there is IPv6.
    pub ipv6: Option<String>,
    /// The length of the IPv6 prefix.
    pub ipv6_prefix_len: Option<u8>,
    /// The IPv6 default router.
    pub ipv6_gateway: Option<String>,
    /// The DNS servers.
    pub dns: Vec<String>,
    /// Addresses that were given to it besides, which are good on the link alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<IpAddr>,
}

/// Published ports: `ports`, and what `publish` and `unpublish` changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Each.
    pub ports: Vec<PortMapping>,
}

/// One bound port of the host and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMapping {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The container's port.
    pub guest_port: u16,
    /// The host address that is bound.
    pub host_address: IpAddr,
    /// The interface where it is, of an address that is good on one link only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_zone: Option<String>,
    /// The host port that is bound.
    pub host_port: u16,
}

impl PortMapping {
    /// The address, with its zone if it has one.
    #[must_use]
    pub fn host_ip(&self) -> String {
        let zone = self.host_zone.as_ref().map(|zone| format!("%{zone}")).unwrap_or_default();
        format!("{}{zone}", self.host_address)
    }

    /// The address and port, `0.0.0.0:8080` or `[::]:8080`.
    #[must_use]
    pub fn host_end(&self) -> String {
        let (address, port) = (self.host_ip(), self.host_port);
        if self.host_address.is_ipv6() {
            format!("[{address}]:{port}")
        } else {
            format!("{address}:{port}")
        }
    }
}

/// Arguments of `publish` and `unpublish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// As after `--publish`.
    pub spec: String,
    /// The container, where the network has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// A name on the network instead: all containers that have it, now or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Addresses for a `spec` that names none, where the network has none for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bind: Vec<IpAddr>,
}

/// Arguments of `ports`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    /// The container, where the network has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// A name on the network instead: what was published for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// Arguments of commands about one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The container by name or id; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// One conversation: an entry of `flows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// Whether the container has opened it.
    pub outbound: bool,
    /// The container's address and port (of a ping, its identifier).
    pub guest: String,
    /// The other side's address and port as the container sees them.
    pub host: String,
    /// The name that the container has asked its resolver for to find that address.
    pub host_name: Option<String>,
    /// The state of a TCP flow (RFC 9293), `ACTIVE` or `ONE-WAY` of the others.
    pub state: String,
    /// What the container has sent, in bytes of payload.
    pub tx_bytes: u64,
    /// What it was sent, in bytes of payload.
    pub rx_bytes: u64,
    /// How long it has been there, in milliseconds.
    pub age_ms: u64,
    /// The name of its container.
    pub container: String,
}

/// Counters since the container was attached: an entry of `stats`. Directions are the container's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The name of the container.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Ethernet frames to the container; a segment that was left whole by offload is one.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Ethernet frames from the container.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Conversations there are.
    pub flows: u64,
    /// Conversations there were since the start, by kind: `tcp_outbound`, `udp` and so on.
    pub opened: crate::sorted::SortedMap<String, u64>,
    /// DNS questions.
    pub dns: u64,
    /// DNS questions that no server answered.
    pub dns_failed: u64,
    /// Packets that were dropped, all in all.
    pub dropped: u64,
    /// The same by reason, those that happened.
    pub drops: crate::sorted::SortedMap<String, u64>,
    /// How often each bound was met, those that were (docs/security.md).
    #[serde(default)]
    pub limits: crate::sorted::SortedMap<String, u64>,
    /// Packets that policy keeps from the host.
    pub denied: u64,
}

/// Arguments of `events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// Begin with events since then, in milliseconds since 1970-01-01 UTC, as far as they are
    /// remembered; without it, with what happens next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

/// Something that has happened: an event of `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// What: `connect`, `disconnect`, `publish`, `unpublish`.
    pub action: String,
    /// The network.
    pub network: String,
    /// The container's id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// The port, of those about ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortMapping>,
}

/// Arguments of `capture`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// The container, where the network has several; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// End after so many frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Keep that many bytes of a frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap: Option<u32>,
    /// Only frames that this expression is about: [`super::filter`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// How a capture ended: the last event of `capture`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureEnd {
    /// Frames that were written.
    pub captured: u64,
    /// Frames that the reader was too slow for.
    pub missed: u64,
}

/// What a command answers whose lines follow as events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streaming {
    /// Always true.
    pub streaming: bool,
}

/// Arguments of `dns-log`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsLog {
    /// The container; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Go on with what is asked later, each as an event.
    #[serde(default)]
    pub follow: bool,
}

/// A question to the DNS forwarder that was answered: an entry of `dns-log`, or an event of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// When it was answered, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// The name of the container.
    pub container: String,
    /// Which of that container's it was: those that are missing were forgotten.
    pub number: u64,
    /// The name that was asked for. Bytes that are no letter, digit or sign of ASCII are escaped.
    pub name: String,
    /// The record type, as `A` or `TYPE1234`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The response code, as `NOERROR` or `RCODE9`.
    pub result: String,
    /// Who knew: `names`, `cache`, `stale`, the address of a server, or `nobody`; who refused: `rule`
    /// or `forwarder`.
    pub from: String,
    /// How many records the answer had.
    pub answers: u16,
    /// The first address among them.
    pub address: Option<IpAddr>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Arguments of `log-level`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLogLevel {
    /// As in [`Info::log_level`].
    pub level: String,
}

/// Arguments of `egress`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressChange {
    /// The container, where the network has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// A rule that comes behind all others, as `deny tcp:192.0.2.9:8080`, or `reset`; without it
    /// nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// What `egress` returns: what a container may reach outside, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressPolicy {
    /// The rules, in order.
    pub rules: Vec<EgressHits>,
    /// What was denied, the last at the end.
    pub denied: Vec<Denied>,
}

/// A rule with how often it decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressHits {
    /// As it is written.
    pub rule: String,
    /// How many flows and look-ups it decided on.
    pub hits: u64,
}

/// What a container wanted and was not given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// As `tcp 192.0.2.9:7`, `icmp 192.0.2.9` or `dns b.test`.
    pub attempt: String,
    /// How often.
    pub times: u64,
    /// How long ago the last time was, in milliseconds.
    pub age_ms: u64,
}
