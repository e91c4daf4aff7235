//! Second stage of the command line for what is said about DNS: servers, domains, names.
//!
//! Whether a server answers, or its interface exists, is found out by who asks it.

use std::net::{IpAddr, Ipv4Addr};

use super::UsageError;
use super::options::Given;
use super::values::Input;
use super::values::{ValueError, number};
use crate::config::{Host, HostAddress, Name, Resolver, Route, Server};

/// The port of a server that is named without one.
const DNS_PORT: u16 = 53;
/// Most that a DHCP option can hold of domains, in bytes (RFC 3397, section 2).
const MAX_SEARCH_LEN: usize = 255;

/// The network's DNS, from the options about it.
///
/// # Errors
/// The first value that is not what its option takes.
pub(super) fn resolver(given: &Given) -> Result<Resolver, UsageError> {
    let mut resolver = Resolver {
        servers: each("--dns", &given.dns, server)?,
        hosts: each("--add-host", &given.add_host, host)?,
        search: each("--dns-search", &given.dns_search, name)?,
        options: each("--dns-opt", &given.dns_opt, option)?,
        listen: given
            .dns_listen
            .as_deref()
            .map(|text| Input::new("--dns-listen", text).read(loopback))
            .transpose()?,
        ..Resolver::default()
    };
    for (domain, server) in each("--dns-route", &given.dns_route, route)? {
        match resolver.routes.iter_mut().find(|route| route.domain == domain) {
            Some(route) => route.servers.push(server),
            None => resolver.routes.push(Route { domain, servers: vec![server] }),
        }
    }
    let search_len: usize = resolver.search.iter().map(|domain| domain.labels().len()).sum();
    if search_len > MAX_SEARCH_LEN {
        let last = given.dns_search.last().map_or("", String::as_str);
        return Err(Input::new("--dns-search", last).refuse(ValueError::TooManyDomains));
    }
    if let Some(text) = &given.dns_cache {
        let kib = Input::new("--dns-cache", text).read(|text| number(text, 0, MAX_CACHE_KIB))?;
        resolver.cache_bytes = usize::try_from(kib).unwrap_or(0) << 10;
    }
    resolver.add_host_names();
    Ok(resolver)
}

/// The largest `--dns-cache`.
const MAX_CACHE_KIB: u32 = 65_536;

fn each<T>(
    what: &'static str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<Vec<T>, UsageError> {
    texts.iter().map(|text| Input::new(what, text).read(&read)).collect()
}

fn name(text: &str) -> Result<Name, ValueError> {
    text.parse().map_err(ValueError::Name)
}

/// Reads `ADDR`, `ADDR:PORT`, `[ADDR]:PORT`; an IPv6 address may have a zone (RFC 4007).
fn server(text: &str) -> Result<Server, ValueError> {
    const SYNTAX: ValueError =
        ValueError::Expected("ADDR or ADDR:PORT, an IPv6 ADDR with a PORT in brackets");
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(SYNTAX)?;
            let port = if rest.is_empty() { None } else { rest.strip_prefix(':') };
            if !rest.is_empty() && port.is_none() {
                return Err(SYNTAX);
            }
            (address, port)
        }
        // One colon: a port behind an IPv4 address.
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => (address, Some(port)),
            _ => (text, None),
        },
    };
    let port = match port {
        None => DNS_PORT,
        Some(port) => u16::try_from(number(port, 1, u32::from(u16::MAX))?).unwrap_or(DNS_PORT),
    };
    let (address, zone) = match address.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => (address, Some(zone.to_owned())),
        Some(_) => return Err(SYNTAX),
        None => (address, None),
    };
    let address: IpAddr = address.parse().map_err(|_| SYNTAX)?;
    let local = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if local && zone.is_none() {
        return Err(ValueError::Expected("a link-local address with its interface: fe80::1%eth0"));
    }
    if !local && zone.is_some() {
        return Err(ValueError::Expected("no interface: only link-local addresses have one"));
    }
    Ok(Server { address: of_one_server(address)?, zone, port })
}

/// Reads the address of a network's resolver, which has neither port nor zone.
pub(crate) fn resolver_address(text: &str) -> Result<IpAddr, ValueError> {
    let address = text.parse().map_err(|_| ValueError::NotIp)?;
    if matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Err(ValueError::AddressInUse("good on one interface only"));
    }
    of_one_server(address)
}

fn of_one_server(address: IpAddr) -> Result<IpAddr, ValueError> {
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || is_broadcast {
        return Err(ValueError::Expected("the address of one server"));
    }
    Ok(address)
}

/// Reads an address of a container's own loopback.
pub(super) fn loopback(text: &str) -> Result<IpAddr, ValueError> {
    let address = text.parse().ok().filter(IpAddr::is_loopback);
    address.ok_or(ValueError::Expected("a loopback address, as in 127.0.0.11"))
}

fn route(text: &str) -> Result<(Name, Server), ValueError> {
    let syntax = ValueError::Expected("DOMAIN=SERVER, as in corp.test=192.0.2.10");
    let (domain, text) = text.split_once('=').ok_or(syntax)?;
    Ok((name(domain)?, server(text)?))
}

/// Reads `NAME:ADDR` or `NAME=ADDR`, as Docker and Podman do.
fn host(text: &str) -> Result<Host, ValueError> {
    let syntax = || ValueError::Expected("NAME:ADDR, as in db:192.0.2.9 or db:host-gateway");
    let (called, address) = text.split_once([':', '=']).ok_or_else(syntax)?;
    let address = match address {
        "host-gateway" => HostAddress::Gateway,
        text => {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            HostAddress::Is(bare.unwrap_or(text).parse().map_err(|_| syntax())?)
        }
    };
    let below = called.strip_prefix("*.");
    Ok(Host { name: name(below.unwrap_or(called))?, wildcard: below.is_some(), address })
}

/// Reads one option of resolv.conf(5), whose names are the resolver library's affair.
fn option(text: &str) -> Result<String, ValueError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
    if text.is_empty() || !text.chars().all(plain) {
        return Err(ValueError::Expected("an option of resolv.conf, as in ndots:2"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_server(text: &str) -> Option<(String, Option<String>, u16)> {
        let Server { address, zone, port } = server(text).ok()?;
        Some((address.to_string(), zone, port))
    }

    #[test]
    fn servers_are_read_with_port_and_zone() {
        let is = |address: &str, zone: Option<&str>, port| {
            Some((address.to_owned(), zone.map(str::to_owned), port))
        };
        assert_eq!(read_server("192.0.2.9"), is("192.0.2.9", None, 53));
        assert_eq!(read_server("127.0.0.1:5353"), is("127.0.0.1", None, 5353));
        assert_eq!(read_server("2001:db8::1"), is("2001:db8::1", None, 53));
        assert_eq!(read_server("[2001:db8::1]:54"), is("2001:db8::1", None, 54));
        assert_eq!(read_server("[2001:db8::1]"), is("2001:db8::1", None, 53));
        assert_eq!(read_server("fe80::1%eth0"), is("fe80::1", Some("eth0"), 53));
        assert_eq!(read_server("[fe80::1%2]:54"), is("fe80::1", Some("2"), 54));
        for text in [
            "",
            "dns.test",
            "192.0.2",
            "192.0.2.9:",
            "192.0.2.9:0",
            "192.0.2.9:65536",
            "[::1",
            "[::1]x",
            "fe80::1",
            "fe80::1%",
            "2001:db8::1%eth0",
            "0.0.0.0",
            "::",
            "224.0.0.251",
            "ff02::fb",
        ] {
            assert_eq!(read_server(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_loopback_address_is_listened_at() {
        assert_eq!(loopback("127.0.0.11"), Ok([127, 0, 0, 11].into()));
        assert!(loopback("::1").is_ok());
        for text in ["", "127.0.0.11:53", "10.0.2.3", "0.0.0.0", "localhost"] {
            assert!(loopback(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_are_read_as_engines_write_them() {
        let read = |text: &str| {
            let Host { name, wildcard, address } = host(text).ok()?;
            Some((name.to_string(), wildcard, address))
        };
        let is = |name: &str, wildcard, address: &str| {
            Some((name.to_owned(), wildcard, HostAddress::Is(address.parse().unwrap())))
        };
        assert_eq!(read("db:192.0.2.9"), is("db", false, "192.0.2.9"));
        assert_eq!(read("Db=192.0.2.9"), is("db", false, "192.0.2.9"));
        assert_eq!(read("db:2001:db8::9"), is("db", false, "2001:db8::9"));
        assert_eq!(read("db:[2001:db8::9]"), is("db", false, "2001:db8::9"));
        assert_eq!(read("*.apps:10.89.0.5"), is("apps", true, "10.89.0.5"));
        assert_eq!(read("me:host-gateway"), Some(("me".to_owned(), false, HostAddress::Gateway)));
        for text in ["", "db", "db:", ":192.0.2.9", "d b:192.0.2.9", "a.*:192.0.2.9", "db:web"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
