//! What a guest's destination means on the host.
//!
//! There is no packet rewriting here and no table: a destination maps to a [`Meaning`], and
//! everything that is to be sent to the host's network passes [`denied`], which looks at the
//! final address after every mapping. It is the one deny list; the shell has none.
//! Read first: RFC 6890 (special-purpose addresses), RFC 4291 section 2.5.5, RFC 6052.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{Addresses, Lease, Neighbours, Network, Refusal, Server, Sharing};

/// What a guest's destination address means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// This address on the host's network.
    Host(SocketAddr),
    /// The DNS forwarder.
    Dns,
    /// Nothing is there: answered as a machine without that port would.
    Closed,
    /// Forbidden: answered as a router with a filter would.
    Denied,
}

/// Finds what a TCP or UDP destination means.
#[must_use]
pub fn translate(network: &Network, to: SocketAddr) -> Meaning {
    let addresses = &network.addresses;
    let (is_gateway, is_dns) = match (to.ip(), addresses.v6) {
        (IpAddr::V4(ip), _) => (ip == addresses.v4.gateway, ip == addresses.v4.dns),
        (IpAddr::V6(ip), Some(v6)) => (ip == v6.gateway, ip == v6.dns),
        (IpAddr::V6(_), None) => (false, false),
    };
    let private = is_private(network);
    if is_dns && to.port() == 53 && network.dns {
        return Meaning::Dns;
    }
    if let Some(real) = network.rules.real(to.ip())
        && to.port() != 0
    {
        return Meaning::Host(SocketAddr::new(real, to.port()));
    }
    if is_gateway && private {
        if network.internal || !network.host_access.allows(to.port()) {
            return match network.refusal {
                Refusal::Prohibited => Meaning::Closed,
                Refusal::Unreachable => Meaning::Denied,
            };
        }
        let loopback = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        return Meaning::Host(SocketAddr::new(loopback, to.port()));
    }
    if is_dns && private {
        return Meaning::Closed;
    }
    // Everybody on the host's network, for datagrams; nothing else comes here with it.
    let everybody = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
    if everybody && network.allow_broadcast && !network.internal && to.port() != 0 {
        return Meaning::Host(to);
    }
    // The same of groups.
    if network.discovery.groups().any(|group| group == to) {
        return Meaning::Host(to);
    }
    // What came by the gateway would be from this host, and so from any container here.
    let between_hosts = network.overlay.as_ref().is_some_and(|overlay| overlay.is_at(to));
    let denied = to.port() == 0 || between_hosts || denied(network, to.ip());
    if denied { Meaning::Denied } else { Meaning::Host(to) }
}

/// Whether a guest may not reach `address` on the host's network by its own choice of address.
///
/// Loopback services are reached by the gateway's address and `--host-access` only.
#[must_use]
pub fn denied(network: &Network, address: IpAddr) -> bool {
    network.internal || leads_back(network, address)
}

/// Whether an address is one of the host itself, of the network, or of nobody in particular.
fn leads_back(network: &Network, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => denied_v4(network, ip),
        IpAddr::V6(ip) => embedded_v4(ip).map_or_else(
            || {
                ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_unicast_link_local()
                    || is_private(network)
                        && network.addresses.v6.is_some_and(|v6| v6.subnet.contains(ip))
            },
            |v4| denied_v4(network, v4) || is_mapped(ip),
        ),
    }
}

fn denied_v4(network: &Network, ip: Ipv4Addr) -> bool {
    let [first, ..] = ip.octets();
    first == 0
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || first >= 240
        || is_private(network) && network.addresses.v4.subnet.contains(ip)
}

fn is_private(network: &Network) -> bool {
    network.rules.neighbours == Neighbours::Nobody
}

/// The IPv4 address within an IPv6 one that the kernel or a translator would unwrap.
pub(super) fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        // ::ffff:0:0/96 mapped and ::/96 compatible (RFC 4291), but :: and ::1 are themselves.
        [0, 0, 0, 0, 0, 0xffff, _, _] => ip.to_ipv4(),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => ip.to_ipv4(),
        // 64:ff9b::/96, the well-known translation prefix (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

/// Mapped addresses never appear on a wire (RFC 4291): who sends to one wants to slip past.
fn is_mapped(ip: Ipv6Addr) -> bool {
    ip.to_ipv4_mapped().is_some()
}

/// The DNS servers that a guest is to be told of: the address at which it is answered on its own
/// loopback; else those that were named for it, if it reaches them itself, else the forwarder, which
/// reaches servers on the host's loopback and knows routes and names that no file can say. IPv6
/// servers are left to it: whether the guest's kernel has IPv6 is not known yet.
#[must_use]
pub fn servers_for_guest(network: &Network) -> Vec<IpAddr> {
    if let Some(listen) = network.resolver.listen {
        return vec![listen];
    }
    let named = &network.resolver.servers;
    let reaches = |server: &Server| {
        server.address.is_ipv4() && server.port == 53 && !denied(network, server.address)
    };
    let Addresses { v4, v6 } = network.addresses;
    let knows_more = network.sharing != Sharing::Private
        || !network.resolver.routes.is_empty()
        // It is to know which names were found where.
        || !network.egress.is_empty()
        || network.resolver.hosts.iter().any(|host| host.wildcard);
    if !named.is_empty() && named.iter().all(reaches) && !knows_more {
        return named.iter().map(|server| server.address).collect();
    }
    [Some(IpAddr::V4(v4.dns)), v6.map(|v6| IpAddr::V6(v6.dns))].into_iter().flatten().collect()
}

/// How the container sees a client of a published port: as itself, unless the client is on the
/// host's loopback or claims an address of the container's own network, who are the gateway.
#[must_use]
pub fn client_as_seen_by_guest(network: &Network, client: IpAddr) -> IpAddr {
    if let Some(seen) = network.rules.seen(client) {
        return seen;
    }
    let strange = match client {
        IpAddr::V4(ip) => denied_v4(network, ip),
        IpAddr::V6(_) => leads_back(network, client),
    };
    if strange { gateway(network, client) } else { client }
}

/// The gateway's address of the client's family, where there is one.
fn gateway(network: &Network, client: IpAddr) -> IpAddr {
    match (client, network.addresses.v6) {
        (IpAddr::V6(_), Some(v6)) => IpAddr::V6(v6.gateway),
        _ => IpAddr::V4(network.addresses.v4.gateway),
    }
}

/// Where a client of a published port is led to, and as whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound {
    /// The container's address.
    pub guest: IpAddr,
    /// Its address of the other family, for a service that listens there alone.
    pub other: Option<IpAddr>,
    /// Whom the container sees.
    pub source: IpAddr,
}

/// Leads a client to `guest` where the rule names one, else to the container's address of the
/// client's own family. A client of the other family is seen as the gateway.
#[must_use]
pub fn inbound(network: &Network, lease: &Lease, client: IpAddr, guest: Option<IpAddr>) -> Inbound {
    let v4 = IpAddr::V4(lease.v4);
    let v6 = lease.v6.map(IpAddr::V6);
    let (guest, other) = match (guest, client, v6) {
        (Some(guest), ..) => (guest, None),
        (None, IpAddr::V4(_), other) => (v4, other),
        (None, IpAddr::V6(_), Some(v6)) => (v6, Some(v4)),
        (None, IpAddr::V6(_), None) => (v4, None),
    };
    let source = match (guest, client, network.addresses.v6) {
        (IpAddr::V4(_), IpAddr::V6(_), _) => IpAddr::V4(network.addresses.v4.gateway),
        (IpAddr::V6(_), IpAddr::V4(_), Some(v6)) => IpAddr::V6(v6.gateway),
        // The container's address is the host's own where it was copied, and no machine answers
        // to itself by way of a network.
        _ => match client_as_seen_by_guest(network, client) {
            seen if IpAddr::V4(lease.v4) == seen || lease.v6.map(IpAddr::V6) == Some(seen) => {
                gateway(network, client)
            }
            seen => seen,
        },
    };
    Inbound { guest, other, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostAccess, Refusal};

    fn network(host_access: HostAccess) -> Network {
        Network { host_access, ..Network::default() }
    }

    fn meaning(access: HostAccess, to: &str) -> Meaning {
        translate(&network(access), to.parse().unwrap())
    }

    #[test]
    fn every_address_that_leads_back_to_the_host_is_denied() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.8.9.10",
            "169.254.169.254",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "10.0.2.7",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.9",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.2.2",
            "64:ff9b::169.254.169.254",
            "fd72:6e73:6e65::77",
        ] {
            assert!(denied(&network(HostAccess::All), address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn ordinary_addresses_are_not_denied() {
        for address in
            ["192.0.2.9", "10.0.3.1", "172.16.0.1", "1.1.1.1", "2001:db8::1", "64:ff9b::192.0.2.9"]
        {
            assert!(!denied(&network(HostAccess::None), address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_gateway_offers_only_the_ports_that_were_asked_for() {
        let ports = || HostAccess::Ports([5432].into());
        let loopback = Meaning::Host("127.0.0.1:5432".parse().unwrap());
        assert_eq!(meaning(ports(), "10.0.2.2:5432"), loopback);
        assert_eq!(meaning(ports(), "10.0.2.2:5433"), Meaning::Closed);
        assert_eq!(meaning(HostAccess::None, "10.0.2.2:5432"), Meaning::Closed);
        let v6 = Meaning::Host("[::1]:22".parse().unwrap());
        assert_eq!(meaning(HostAccess::All, "[fd72:6e73:6e65::2]:22"), v6);
        assert_eq!(meaning(HostAccess::All, "127.0.0.1:5432"), Meaning::Denied);
    }

    #[test]
    fn a_forbidden_gateway_is_unreachable_where_the_caller_expects_that() {
        let mut network = network(HostAccess::None);
        network.refusal = Refusal::Unreachable;
        let to = "10.0.2.2:22".parse().unwrap();
        assert_eq!(translate(&network, to), Meaning::Denied);
        network.host_access = HostAccess::All;
        let loopback = Meaning::Host("127.0.0.1:22".parse().unwrap());
        assert_eq!(translate(&network, to), loopback);
    }

    #[test]
    fn a_rule_s_own_address_is_reached_by_clients_of_both_families() {
        let network = network(HostAccess::None);
        let led = |client: &str, guest: Option<&str>| {
            let guest = guest.map(|guest| guest.parse().unwrap());
            let Inbound { guest, other, source } =
                inbound(&network, &Lease::default(), client.parse().unwrap(), guest);
            (guest.to_string(), other.is_some(), source.to_string())
        };
        let led_to =
            |guest: &str, other, source: &str| (guest.to_owned(), other, source.to_owned());
        assert_eq!(led("192.0.2.9", None), led_to("10.0.2.100", true, "192.0.2.9"));
        assert_eq!(led("2001:db8::9", None), led_to("fd72:6e73:6e65::100", true, "2001:db8::9"));
        let rule = Some("10.0.2.15");
        assert_eq!(led("192.0.2.9", rule), led_to("10.0.2.15", false, "192.0.2.9"));
        assert_eq!(led("2001:db8::9", rule), led_to("10.0.2.15", false, "10.0.2.2"));
        assert_eq!(led("::1", rule), led_to("10.0.2.15", false, "10.0.2.2"));
        let rule = Some("fd72:6e73:6e65::15");
        let gateway = "fd72:6e73:6e65::2";
        assert_eq!(led("192.0.2.9", rule), led_to("fd72:6e73:6e65::15", false, gateway));
    }

    #[test]
    fn the_forwarder_serves_port_53_alone() {
        assert_eq!(meaning(HostAccess::All, "10.0.2.3:53"), Meaning::Dns);
        assert_eq!(meaning(HostAccess::All, "10.0.2.3:54"), Meaning::Closed);
    }

    #[test]
    fn a_gateway_that_is_the_forwarder_too_is_both() {
        let mut network = network(HostAccess::Ports([53, 80].into()));
        let v4 = &mut network.addresses.v4;
        v4.dns = v4.gateway;
        let meaning = |network: &Network, to: &str| translate(network, to.parse().unwrap());
        assert_eq!(meaning(&network, "10.0.2.2:53"), Meaning::Dns);
        let web = Meaning::Host("127.0.0.1:80".parse().unwrap());
        assert_eq!(meaning(&network, "10.0.2.2:80"), web);
        assert_eq!(meaning(&network, "10.0.2.2:81"), Meaning::Closed);
        assert_eq!(meaning(&network, "10.0.2.3:53"), Meaning::Denied, "nobody is there");
        network.dns = false;
        let resolver = Meaning::Host("127.0.0.1:53".parse().unwrap());
        assert_eq!(meaning(&network, "10.0.2.2:53"), resolver);
        network.internal = true;
        for port in [53, 80, 81] {
            assert_eq!(meaning(&network, &format!("10.0.2.2:{port}")), Meaning::Closed);
        }
    }

    #[test]
    fn loopback_clients_are_seen_as_the_gateway_and_others_as_themselves() {
        let seen = |client: &str| {
            client_as_seen_by_guest(&network(HostAccess::None), client.parse().unwrap()).to_string()
        };
        assert_eq!(seen("127.0.0.1"), "10.0.2.2");
        assert_eq!(seen("::1"), "fd72:6e73:6e65::2");
        assert_eq!(seen("10.0.2.100"), "10.0.2.2");
        assert_eq!(seen("192.0.2.9"), "192.0.2.9");
        assert_eq!(seen("2001:db8:5::9"), "2001:db8:5::9");
    }

    // F4: names that the forwarder has not answered are not known to rules.
    #[test]
    fn where_there_are_rules_a_guest_is_told_of_the_forwarder_alone() {
        let mut network = network(HostAccess::None);
        let address = "192.0.2.53".parse().unwrap();
        network.resolver.servers = vec![Server { address, zone: None, port: 53 }];
        assert_eq!(servers_for_guest(&network), [address]);
        network.egress.add("deny any".parse().unwrap()).unwrap();
        assert_eq!(servers_for_guest(&network)[0], IpAddr::V4(network.addresses.v4.dns));
    }
}
