//! The options of `network create --opt`: their meaning, under Docker's and Podman's names.
//!
//! PURE. An option is understood or refused by its name, never passed over: a value is accepted
//! for what it means here, also where that cannot be otherwise (networks are always isolated from
//! each other, what leaves a network always has the host's address).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::definition::{Definition, Plan};
use super::overlay;
use crate::config::{LimitError, Limits, Mtu, Outbound, Source, unbindable};

/// An option that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum OptionError {
    #[error(
        "there is no such option: there are {}, and with -d overlay vni, local, port, store, mode",
        NAMES.join(", ")
    )]
    Unknown,
    #[error("expected {0}")]
    Expected(String),
    #[error("{0}")]
    Refused(&'static str),
    #[error("it needs {0}")]
    Missing(String),
    #[error("it is {0}")]
    Address(&'static str),
    #[error("{0}")]
    Limit(LimitError),
}

/// Applies one option.
///
/// # Errors
/// An option or value that does not exist or cannot be had.
pub fn apply(plan: &mut Plan, key: &str, value: &str) -> Result<(), OptionError> {
    if let Some(name) = key.strip_prefix(LIMIT) {
        Limits::default().set(name, value).map_err(OptionError::Limit)?;
        plan.options.insert(key.to_owned(), value.to_owned());
        return Ok(());
    }
    if let Some(overlay) = &mut plan.overlay
        && overlay.apply(key, value)?
    {
        plan.options.insert(key.to_owned(), value.to_owned());
        return Ok(());
    }
    match key {
        key if MTU.contains(&key) => {
            let mtu = value.parse().ok().and_then(Mtu::new);
            let expected = || format!("a number from {} to {}", Mtu::MIN, Mtu::MAX);
            plan.mtu = mtu.ok_or_else(|| OptionError::Expected(expected()))?;
        }
        "icc" | "com.docker.network.bridge.enable_icc" => plan.isolate = !truth(value)?,
        "isolate" => match value {
            "strict" => {}
            _ if truth(value)? => {}
            _ => {
                return Err(OptionError::Refused(
                    "networks never reach each other: connect a container to both",
                ));
            }
        },
        "host_binding" | "host_binding_ipv4" | "com.docker.network.bridge.host_binding_ipv4" => {
            let address: IpAddr =
                value.parse().map_err(|_| OptionError::Expected("an IP address".into()))?;
            if let Some(why) = unbindable(address) {
                return Err(OptionError::Address(why));
            }
            // Every address, of both families, is what one gets without the option.
            plan.host_binding = (!address.is_unspecified()).then_some(address);
        }
        OUTBOUND_V4 | HOST_IPV4 => {
            let usable =
                |ip: &Ipv4Addr| !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast());
            expect(value.parse().is_ok_and(|ip| usable(&ip)), "an IPv4 address")?;
        }
        OUTBOUND_V6 | HOST_IPV6 => {
            let usable = |ip: &Ipv6Addr| {
                let scoped = ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some();
                !(ip.is_unspecified() || ip.is_multicast() || scoped)
            };
            expect(value.parse().is_ok_and(|ip| usable(&ip)), "an IPv6 address")?;
        }
        OUTBOUND_IF => {
            let odd = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace();
            let known = (1..=15).contains(&value.len()) && !value.contains(odd);
            expect(known, "the name of an interface")?;
        }
        "com.docker.network.container_iface_prefix" => {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            // With three digits it still is a name that the kernel takes.
            let short = (1..=12).contains(&value.len());
            expect(short && value.bytes().all(known), "up to 12 letters and digits")?;
            plan.ifname_prefix = Some(value.to_owned());
        }
        "com.docker.network.bridge.enable_ip_masquerade" => {
            if !truth(value)? {
                return Err(OptionError::Refused(
                    "what leaves a network always has the host's address: --internal keeps it in",
                ));
            }
        }
        "com.docker.network.bridge.gateway_mode_ipv4"
        | "com.docker.network.bridge.gateway_mode_ipv6" => match value {
            "nat" => {}
            "isolated" => plan.internal = true,
            _ => {
                return Err(OptionError::Refused(
                    "nothing routes to the network's own addresses: the mode is nat or isolated",
                ));
            }
        },
        "com.docker.network.bridge.default_bridge" => {
            if truth(value)? {
                return Err(OptionError::Refused(
                    "the network of a container that names none is its own",
                ));
            }
        }
        "no_default_route" => drop(truth(value)?),
        "metric" => {
            let known = value.parse().is_ok_and(|metric: u32| metric <= MAX_METRIC);
            expect(known, &format!("a number from 0 to {MAX_METRIC}"))?;
        }
        "com.docker.network.bridge.name" | "interface_name" => {
            return Err(OptionError::Refused("there is no bridge on the host to be named"));
        }
        "parent" | "vlan" | "vrf" | "mode" => {
            return Err(OptionError::Refused("no interface of the host is part of a network"));
        }
        _ if overlay::is_option(key) => {
            return Err(OptionError::Refused("it is of networks that span hosts: -d overlay"));
        }
        _ => return Err(OptionError::Unknown),
    }
    plan.options.insert(key.to_owned(), value.to_owned());
    Ok(())
}

/// Whether a network's MTU was chosen.
#[must_use]
pub fn has_mtu(definition: &Definition) -> bool {
    definition.options.keys().any(|key| MTU.contains(&key.as_str()))
}

/// Refuses a value that is not `known` as one of those that are expected.
fn expect(known: bool, expected: &str) -> Result<(), OptionError> {
    if known { Ok(()) } else { Err(OptionError::Expected(expected.to_owned())) }
}

/// The bounds that are among a network's options. What is wrong with a file that somebody has
/// written is not worth the network: such a bound is the usual one.
#[must_use]
pub fn limits(definition: &Definition) -> Limits {
    let mut limits = Limits::default();
    for (key, value) in &definition.options {
        if let Some(name) = key.strip_prefix(LIMIT)
            && let Err(error) = limits.set(name, value)
        {
            log::warn!("network {}: {key}: {error}", definition.name);
        }
    }
    limits
}

/// The addresses and the interface that what leaves the network is to have, `--outbound-addr` and
/// `--outbound-if` of a container with a network of its own.
#[must_use]
pub fn outbound(definition: &Definition) -> Outbound {
    let typed = |keys: &[&str]| keys.iter().find_map(|key| definition.options.get(*key));
    let interface = typed(&[OUTBOUND_IF]).cloned();
    Outbound {
        v4: typed(&[OUTBOUND_V4, HOST_IPV4]).and_then(|ip| ip.parse().ok()).map(Source::Address),
        v6: typed(&[OUTBOUND_V6, HOST_IPV6]).and_then(|ip| ip.parse().ok()).map(Source::Address),
        interface_v4: interface.clone(),
        interface_v6: interface,
        loopback_too: false,
    }
}

const OUTBOUND_V4: &str = "outbound_addr4";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const OUTBOUND_V6: &str = "outbound_addr6";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
const OUTBOUND_IF: &str = "outbound_if";

/// Whether a network's gateway is the default router of its containers.
#[must_use]
pub fn has_default_route(definition: &Definition) -> bool {
    definition.options.get("no_default_route").is_none_or(|value| truth(value) != Ok(true))
}

/// The metric of a network's default route in a container whose other networks have priority 0
/// unless they say otherwise; the first of a hundred, in which equal ones come one after the other.
/// `None` for no default route at all. That of a network that leads nowhere is for the answers to
/// clients of published ports, and comes after all others.
#[must_use]
pub fn metric(definition: &Definition, priority: i16) -> Option<u32> {
    if !has_default_route(definition) {
        return None;
    }
    match definition.options.get("metric").and_then(|metric| metric.parse().ok()) {
        Some(metric) if priority == 0 => Some(metric),
        _ => {
            let last = if definition.internal { MAX_METRIC } else { 0 };
            // For any priority more than the metrics of other kinds of networks: the kernel's own
            // choice for IPv6 is 1024.
            let before = u32::try_from(2000 - i32::from(priority)).unwrap_or_default();
            Some(last + before * 100)
        }
    }
}

/// The largest that can be asked for; those of internal networks are larger.
const MAX_METRIC: u32 = 1_000_000;

const MTU: [&str; 3] = ["mtu", "com.docker.network.driver.mtu", "com.docker.network.bridge.mtu"];

/// Reads a truth value as Go's strconv.ParseBool does.
fn truth(value: &str) -> Result<bool, OptionError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(OptionError::Expected("true or false".into())),
    }
}

/// What can be set, by its shortest name.
const NAMES: [&str; 11] = [
    "mtu",
    "icc",
    "isolate",
    "host_binding",
    OUTBOUND_V4,
    OUTBOUND_V6,
    OUTBOUND_IF,
    "metric",
    "no_default_route",
    "com.docker.network.container_iface_prefix",
    "limit.NAME",
];

/// What comes before the name of a bound.
const LIMIT: &str = "limit.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::definition::{Made, Taken};

    fn with(options: &[(&str, &str)]) -> Result<Plan, String> {
        let mut plan = Plan::default();
        for (key, value) in options {
            apply(&mut plan, key, value).map_err(|error| error.to_string())?;
        }
        Ok(plan)
    }

    // E6
    #[test]
    fn dockers_names_mean_the_same() {
        for key in ["mtu", "com.docker.network.driver.mtu", "com.docker.network.bridge.mtu"] {
            let plan = with(&[(key, "1400")]).unwrap();
            assert_eq!((plan.mtu.get(), plan.options.get(key).unwrap().as_str()), (1400, "1400"));
        }
        assert!(with(&[("icc", "false")]).unwrap().isolate);
        assert!(!with(&[("com.docker.network.bridge.enable_icc", "true")]).unwrap().isolate);
        let plan = with(&[("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1")]).unwrap();
        assert_eq!(plan.host_binding, "127.0.0.1".parse().ok());
        assert_eq!(with(&[("host_binding", "0.0.0.0")]).unwrap().host_binding, None);
        let plan = with(&[("com.docker.network.container_iface_prefix", "lan")]).unwrap();
        assert_eq!(plan.ifname_prefix.as_deref(), Some("lan"));
        assert!(
            with(&[("com.docker.network.bridge.gateway_mode_ipv4", "isolated")]).unwrap().internal
        );
    }

    // B7
    #[test]
    fn a_network_may_go_out_by_an_address_of_its_own() {
        let made = Made { id: [1; 32], global_id: 1, created: String::new() };
        let network = |options: &[(&str, &str)]| {
            let plan = Plan { name: "n1".into(), ..with(options).unwrap() };
            outbound(&plan.make(&Taken::default(), &made).unwrap())
        };
        assert_eq!(network(&[]), Outbound::default());
        let both = network(&[(HOST_IPV4, "192.0.2.3"), (OUTBOUND_V6, "2001:db8::3")]);
        assert_eq!(both.v4, Some(Source::Address("192.0.2.3".parse().unwrap())));
        assert_eq!(both.v6, Some(Source::Address("2001:db8::3".parse().unwrap())));
        let by_interface = network(&[(OUTBOUND_IF, "wwan0")]);
        assert_eq!(by_interface.interface_v4.as_deref(), Some("wwan0"));
        assert_eq!(by_interface.interface_v4, by_interface.interface_v6);
        for (key, value) in [
            (OUTBOUND_V4, "2001:db8::3"),
            (OUTBOUND_V4, "0.0.0.0"),
            (HOST_IPV6, "192.0.2.3"),
            (OUTBOUND_V6, "fe80::1"),
            (OUTBOUND_IF, "a/b"),
        ] {
            assert!(with(&[(key, value)]).unwrap_err().starts_with("expected "), "{key}={value}");
        }
    }

    // E24
    #[test]
    fn the_default_route_is_of_the_highest_priority_and_internal_ones_come_last() {
        let network = |options: &[(&str, &str)], internal| {
            let made = Made { id: [1; 32], global_id: 1, created: String::new() };
            let plan = Plan { name: "n1".into(), internal, ..with(options).unwrap() };
            plan.make(&Taken::default(), &made).unwrap()
        };
        let plain = network(&[], false);
        assert_eq!(metric(&plain, 0), Some(200_000));
        assert!(metric(&plain, 1) < metric(&plain, 0) && metric(&plain, 0) < metric(&plain, -1));
        assert!(metric(&plain, 1000) > Some(1024 + 100));
        assert!(metric(&plain, -1000) < metric(&network(&[], true), 1000));
        let given = network(&[("metric", "42")], false);
        assert_eq!((metric(&given, 0), metric(&given, 1)), (Some(42), metric(&plain, 1)));
        assert_eq!(metric(&network(&[("no_default_route", "1")], false), 9), None);
        assert_eq!(metric(&network(&[("no_default_route", "0")], false), 0), Some(200_000));
        assert!(with(&[("metric", "-1")]).is_err() && with(&[("metric", "1000001")]).is_err());
    }

    #[test]
    fn what_is_so_in_any_case_is_accepted() {
        for (key, value) in [
            ("isolate", "strict"),
            ("isolate", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
            ("com.docker.network.bridge.gateway_mode_ipv6", "nat"),
            ("com.docker.network.bridge.default_bridge", "false"),
        ] {
            let plan = with(&[(key, value)]).unwrap();
            assert_eq!(plan.options.len(), 1, "{key}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for (key, value, message) in [
            ("mtu", "100", "expected a number from 1280 to 65520"),
            ("icc", "no", "expected true or false"),
            ("host_binding", "eth0", "expected an IP address"),
            ("host_binding", "fe80::1", "it is good on one interface only"),
            ("host_binding_ipv4", "224.0.0.1", "it is a multicast address"),
            ("host_binding", "255.255.255.255", "it is the broadcast address"),
            ("isolate", "false", "networks never reach each other: connect a container to both"),
            ("vlan", "7", "no interface of the host is part of a network"),
            ("com.docker.network.bridge.name", "br0", "there is no bridge on the host to be named"),
        ] {
            assert_eq!(with(&[(key, value)]).unwrap_err(), message, "{key}={value}");
        }
        assert!(with(&[("colour", "red")]).unwrap_err().starts_with("there is no such option"));
        assert!(with(&[("com.docker.network.bridge.enable_ip_masquerade", "0")]).is_err());
        assert!(with(&[("com.docker.network.bridge.gateway_mode_ipv4", "routed")]).is_err());
        assert!(with(&[("com.docker.network.container_iface_prefix", "a/b")]).is_err());
    }
}
