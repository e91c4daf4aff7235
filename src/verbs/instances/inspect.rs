//! `rnsnet inspect`: everything about a container, with Docker's names.

use std::net::IpAddr;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::super::{Action, Argument, Count, Typed, Verb, complain};
use super::CTR;
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::client;
use crate::config::{Egress, Rate};
use crate::control::{Container, Info, Interface};
use crate::error::Error;
use crate::network::when::rfc3339;
use crate::output::{Template, Value, json_indented, print};
use crate::sorted::SortedMap;

pub(in crate::verbs) const INSPECT: Verb = Verb {
    name: "inspect",
    aliases: &[],
    about: "Show all that is known of containers",
    more: "",
    arguments: &[Argument { count: Count::OneOrMore, ..CTR }],
    options: &[OptionSpec {
        long: "--format",
        short: Some('f'),
        kind: Kind::Value("TEMPLATE"),
        help: "What to print of each, as '{{.NetworkSettings.IPAddress}}'; json for one line each.",
        ..VERB
    }],
    examples: &[
        ("rnsnet inspect web", "JSON, with the names that docker inspect uses."),
        ("rnsnet inspect -f {{.NetworkSettings.IPAddress}} web", "Its IPv4 address."),
    ],
    parse,
};

#[derive(Debug)]
struct Inspect {
    containers: Vec<String>,
    format: Option<Template>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let format = typed.read("--format", |text| {
        let text = if text == "json" { "{{json .}}" } else { text };
        Ok(Template::parse(text)?)
    })?;
    Ok(Box::new(Inspect { containers: typed.arguments().to_vec(), format }))
}

impl Action for Inspect {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let mut values = Vec::new();
        let mut errors: Vec<Error> = Vec::new();
        for name in &self.containers {
            let found = match client::find_all(name) {
                Ok(found) => found,
                Err(error) => {
                    errors.push(error.into());
                    continue;
                }
            };
            let mut all = found.iter().map(|found| (&found.instance.info, &found.container));
            let Some((info, container)) = all.next() else { continue };
            let mut inspected = Inspected::of(info, container);
            for (info, container) in all {
                inspected.add(info, container);
            }
            // Nothing in it that a template could not see.
            values.extend(Value::of(&inspected));
        }
        match &self.format {
            None => print(&json_indented(&Value::List(values)))?,
            Some(template) => {
                for value in &values {
                    super::print_line(&template.render(value)?)?;
                }
            }
        }
        Ok(complain(errors))
    }
}

/// As much of `docker inspect` as a network knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    created: String,
    name: String,
    state: State,
    network_settings: NetworkSettings,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: &'static str,
    running: bool,
    pid: i32,
    started_at: String,
}

#[derive(Debug)]
struct NetworkSettings {
    sandbox_id: String,
    sandbox_key: String,
    ports: SortedMap<String, Vec<Binding>>,
    /// Its fields stand among these.
    address: Address,
    networks: SortedMap<String, Address>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_ip: String,
    host_port: String,
}

#[derive(Debug, Clone, Default)]
struct Address {
    ipam_config: Option<IpamConfig>,
    endpoint_id: String,
    gateway: String,
    ip_address: String,
    ip_prefix_len: u8,
    ipv6_gateway: String,
    global_ipv6_address: String,
    global_ipv6_prefix_len: u8,
    mac_address: String,
    /// How much it may get and send each second, as after `--rate`; Docker has no word for it,
    rate: Rate,
    /// nor for what it may reach outside: the rules, in order.
    egress: Egress,
    /// What its process says in the log.
    log_level: String,
    dns_names: Vec<String>,
}

/// What was asked for, as far as it is known here.
#[derive(Debug, Clone, Serialize)]
struct IpamConfig {
    #[serde(rename = "LinkLocalIPs")]
    link_local: Vec<IpAddr>,
}

// Of serde's own words `flatten` would make a map of it, in which no field is unknown.
impl Serialize for NetworkSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("NetworkSettings", 4 + Address::FIELDS)?;
        fields.serialize_field("SandboxID", &self.sandbox_id)?;
        fields.serialize_field("SandboxKey", &self.sandbox_key)?;
        fields.serialize_field("Ports", &self.ports)?;
        self.address.serialize_fields(&mut fields)?;
        fields.serialize_field("Networks", &self.networks)?;
        fields.end()
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Address", Self::FIELDS)?;
        self.serialize_fields(&mut fields)?;
        fields.end()
    }
}

impl Address {
    const FIELDS: usize = 13;

    fn serialize_fields<S: SerializeStruct>(&self, fields: &mut S) -> Result<(), S::Error> {
        fields.serialize_field("IPAMConfig", &self.ipam_config)?;
        fields.serialize_field("EndpointID", &self.endpoint_id)?;
        fields.serialize_field("Gateway", &self.gateway)?;
        fields.serialize_field("IPAddress", &self.ip_address)?;
        fields.serialize_field("IPPrefixLen", &self.ip_prefix_len)?;
        fields.serialize_field("IPv6Gateway", &self.ipv6_gateway)?;
        fields.serialize_field("GlobalIPv6Address", &self.global_ipv6_address)?;
        fields.serialize_field("GlobalIPv6PrefixLen", &self.global_ipv6_prefix_len)?;
        fields.serialize_field("MacAddress", &self.mac_address)?;
        fields.serialize_field("Rate", &self.rate)?;
        fields.serialize_field("Egress", &self.egress)?;
        fields.serialize_field("LogLevel", &self.log_level)?;
        fields.serialize_field("DNSNames", &self.dns_names)
    }
}

impl Inspected {
    fn of(info: &Info, container: &Container) -> Self {
        let created = rfc3339(std::time::Duration::from_secs(container.attached));
        let address =
            container.interface.as_ref().map(|interface| address(info, container, interface));
        let mut inspected = Self {
            id: container.id.clone(),
            created: created.clone(),
            name: container.name.clone(),
            state: State {
                status: "running",
                running: true,
                pid: container.pid.unwrap_or(0),
                started_at: created,
            },
            network_settings: NetworkSettings {
                sandbox_id: container.id.clone(),
                sandbox_key: container.netns.clone().unwrap_or_default(),
                ports: SortedMap::new(),
                address: address.unwrap_or_default(),
                networks: SortedMap::new(),
            },
        };
        inspected.add(info, container);
        inspected
    }

    /// Adds what it has on one network.
    fn add(&mut self, info: &Info, container: &Container) {
        let settings = &mut self.network_settings;
        for port in &container.ports {
            let key = format!("{}/{}", port.guest_port, port.protocol);
            settings
                .ports
                .or_default(key)
                .push(Binding { host_ip: port.host_ip(), host_port: port.host_port.to_string() });
        }
        if let Some(interface) = &container.interface {
            let address = address(info, container, interface);
            settings.networks.insert(info.network.clone(), address);
        }
    }
}

fn address(info: &Info, container: &Container, interface: &Interface) -> Address {
    let link_local = interface.link_local.clone();
    Address {
        ipam_config: (!link_local.is_empty()).then_some(IpamConfig { link_local }),
        endpoint_id: container.id.clone(),
        gateway: interface.ipv4_gateway.clone(),
        ip_address: interface.ipv4.clone(),
        ip_prefix_len: interface.ipv4_prefix_len,
        ipv6_gateway: interface.ipv6_gateway.clone().unwrap_or_default(),
        global_ipv6_address: interface.ipv6.clone().unwrap_or_default(),
        global_ipv6_prefix_len: interface.ipv6_prefix_len.unwrap_or(0),
        mac_address: interface.mac.clone(),
        rate: container.rate,
        egress: container.egress.clone(),
        log_level: info.log_level.clone(),
        dns_names: std::iter::once(&container.name).chain(&container.aliases).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_misspelt_is_told_of_wherever_it_is() {
        let container = serde_json::json!({
            "id": "3f2a", "name": "web", "attached": 0, "ports": [],
            "interface": {
                "ifname": "eth0", "mac": "02:72:0a:00:02:64", "ipv4": "10.0.2.100",
                "ipv4_prefix_len": 24, "ipv4_gateway": "10.0.2.2", "dns": []
            }
        });
        let info = serde_json::json!({
            "rnsnet": "", "process": 1, "called_as": "rnsnet", "network": "default", "mtu": 1500,
            "containers": [container]
        });
        let info: Info = serde_json::from_value(info).unwrap();
        let value = Value::of(&Inspected::of(&info, &info.containers[0])).unwrap();
        let shown = |text: &str| {
            let template = Template::parse(&format!("{{{{.NetworkSettings.{text}}}}}")).unwrap();
            template.render(&value).map_err(|error| error.to_string())
        };
        assert_eq!(shown("IPAddress").as_deref(), Ok("10.0.2.100"));
        assert_eq!(shown("Networks.default.Gateway").as_deref(), Ok("10.0.2.2"));
        for text in ["IPAddres", "Networks.default.Gatway"] {
            let told = shown(text).unwrap_err();
            assert!(told.starts_with("there is no field ."), "{text}: {told}");
        }
    }
}
