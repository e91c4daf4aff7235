//! A network as `network inspect` and `network ls` show it: Docker's names and shapes.
//!
//! PURE.

use std::net::IpAddr;

use serde::Serialize;

use super::builtin;
use super::definition::{Definition, Pool, Route};
use super::prefix::Prefix;
use crate::config::{OverlayHost, Rate};
use crate::sorted::SortedMap;

/// What `network inspect` prints of a network.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's names
pub struct Inspected {
    pub name: String,
    pub id: String,
    pub created: String,
    pub scope: &'static str,
    pub driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    pub ipam: InspectedIpam,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub config_from: ConfigFrom,
    pub config_only: bool,
    pub containers: SortedMap<String, InspectedContainer>,
    pub options: SortedMap<String, String>,
    pub labels: SortedMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<InspectedPeer>,
}

/// A host of a network that spans several.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's names
pub struct InspectedPeer {
    /// Its parts, as hosts have no other name.
    pub name: String,
    #[serde(rename = "IP")]
    pub ip: IpAddr,
}

/// What `network inspect --verbose` prints after [`Inspected`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // as in `Definition`
pub struct More {
    pub group: Option<u32>,
    pub resolvers: Vec<IpAddr>,
    pub records: Vec<(String, IpAddr)>,
    pub between: Vec<(String, String, String)>,
    pub routes: Vec<Route>,
    pub rate: Rate,
}

/// How addresses are given.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's names
pub struct InspectedIpam {
    pub driver: &'static str,
    pub options: SortedMap<String, String>,
    pub config: Vec<InspectedPool>,
}

/// One subnet.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's names
pub struct InspectedPool {
    pub subnet: Prefix,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<Prefix>,
    pub gateway: IpAddr,
    #[serde(skip_serializing_if = "SortedMap::is_empty")]
    pub auxiliary_addresses: SortedMap<String, IpAddr>,
}

/// Where the configuration is from; nowhere else, here.
#[derive(Debug, Clone, Serialize, Default)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's names
pub struct ConfigFrom {
    pub network: String,
}

/// A container that is attached.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's names
pub struct InspectedContainer {
    pub name: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub mac_address: String,
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// A line of `network ls`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's names
pub struct Listed {
    #[serde(rename = "ID")]
    pub id: String,
    pub name: String,
    pub driver: &'static str,
    pub scope: &'static str,
    #[serde(rename = "IPv4")]
    pub ipv4: bool,
    #[serde(rename = "IPv6")]
    pub ipv6: bool,
    pub internal: bool,
    pub labels: String,
    pub created_at: String,
}

impl Inspected {
    /// A network with the containers that are attached to it, by their ids.
    #[must_use]
    pub fn new(definition: &Definition, containers: SortedMap<String, InspectedContainer>) -> Self {
        let Definition { name, id, created, v4, v6, internal, attachable, options, labels, .. } =
            definition.clone();
        let (enable_ipv6, driver) = (v6.is_some(), builtin::driver(definition));
        // The others have no addresses to give.
        let has_pools = [DRIVER, builtin::OVERLAY].contains(&driver);
        let pools = std::iter::once(v4).chain(v6).filter(|_| has_pools);
        let config = pools.map(InspectedPool::new).collect();
        Self {
            name,
            id,
            created,
            scope: scope(definition),
            driver,
            enable_ipv4: true,
            enable_ipv6,
            ipam: InspectedIpam { driver: "default", options: SortedMap::new(), config },
            internal,
            attachable,
            ingress: false,
            config_from: ConfigFrom::default(),
            config_only: false,
            containers,
            options,
            labels,
            peers: Vec::new(),
        }
    }

    /// Adds the hosts that a network spans.
    #[must_use]
    pub fn with_peers(mut self, hosts: &[OverlayHost]) -> Self {
        self.peers.extend(hosts.iter().map(|host| {
            let parts: Vec<_> = host.parts.iter().map(ToString::to_string).collect();
            InspectedPeer { name: parts.join(" "), ip: host.address }
        }));
        self
    }
}

impl More {
    /// What a network's definition says.
    #[must_use]
    pub fn of(definition: &Definition) -> Self {
        let Definition { group, resolvers, records, between, routes, rate, .. } =
            definition.clone();
        Self { group, resolvers, records, between, routes, rate }
    }
}

impl InspectedPool {
    fn new(pool: Pool) -> Self {
        let Pool { subnet, gateway, ip_range, aux } = pool;
        Self { subnet, ip_range, gateway, auxiliary_addresses: aux }
    }
}

impl Listed {
    /// A network's line, with its whole id or the short one.
    #[must_use]
    pub fn new(definition: &Definition, whole_id: bool) -> Self {
        let id = if whole_id { definition.id.as_str() } else { definition.short_id() };
        let labels: Vec<_> =
            definition.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self {
            id: id.to_owned(),
            name: definition.name.clone(),
            driver: builtin::driver(definition),
            scope: scope(definition),
            ipv4: true,
            ipv6: definition.v6.is_some(),
            internal: definition.internal,
            labels: labels.join(","),
            created_at: definition.created.clone(),
        }
    }
}

/// The driver of every network that is made: what Docker calls a switch on one host.
pub const DRIVER: &str = "bridge";

/// Where a network is known: on this host, or on all that it spans.
#[must_use]
pub fn scope(definition: &Definition) -> &'static str {
    if definition.overlay.is_some() { "global" } else { "local" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::definition::{Made, Plan, Taken};

    // E11
    #[test]
    fn an_inspection_has_dockers_keys_in_dockers_order() {
        let plan = Plan {
            name: "my-custom-net".into(),
            subnets: vec!["192.168.100.0/24".parse().unwrap()],
            ..Plan::default()
        };
        let made = Made { id: [1; 32], global_id: 1, created: "2026-11-21T07:50:00Z".into() };
        let definition = plan.make(&Taken::default(), &made).unwrap();
        let json = serde_json::to_string(&Inspected::new(&definition, SortedMap::new())).unwrap();
        let id = &definition.id;
        assert_eq!(
            json,
            format!(
                "{{\"Name\":\"my-custom-net\",\"Id\":\"{id}\",\
                 \"Created\":\"2026-11-21T07:50:00Z\",\"Scope\":\"local\",\"Driver\":\"bridge\",\
                 \"EnableIPv4\":true,\"EnableIPv6\":false,\"IPAM\":{{\"Driver\":\"default\",\
                 \"Options\":{{}},\"Config\":[{{\"Subnet\":\"192.168.100.0/24\",\
                 \"Gateway\":\"192.168.100.1\"}}]}},\"Internal\":false,\"Attachable\":false,\
                 \"Ingress\":false,\"ConfigFrom\":{{\"Network\":\"\"}},\"ConfigOnly\":false,\
                 \"Containers\":{{}},\"Options\":{{}},\"Labels\":{{}}}}"
            )
        );
    }
}
