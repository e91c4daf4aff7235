//! Second stage of the command line: what the text of each option means.
//!
//! One function per kind of value, from text to a type of `config`; what several values mean
//! together (the container's address and its prefix) is decided here too.
//! Files, namespaces and descriptors are not looked at. `--publish` has its own file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::UsageError;
use crate::config::{
    Addresses, Cidr, EgressError, Family, HostAccess, Lease, LimitError, LinkLocalError, LogLevel,
    MacAddress, Mtu, NameError, Offload, Rate, RateError,
};
use crate::control::filter::FilterError;
use crate::network::definition;
use crate::network::options::OptionError;
use crate::network::prefix::PrefixError;
use crate::output::TemplateError;

/// What is wrong with the value of an option. Its Display names neither option nor value.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// An empty string.
    #[error("it is empty")]
    Empty,
    /// A bound that cannot be.
    #[error("{0}")]
    Limit(LimitError),
    /// Not an address of a link alone.
    #[error(transparent)]
    LinkLocal(#[from] LinkLocalError),
    /// A rate that cannot be.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// Not made of digits.
    #[error("not a number")]
    NotANumber,
    /// A number outside its range.
    #[error("out of range: {min} to {max}")]
    OutOfRange {
        /// The smallest number allowed.
        min: u32,
        /// The largest number allowed.
        max: u32,
    },
    /// Not one of a few words.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A network's name that cannot be one.
    #[error(transparent)]
    NetworkName(#[from] definition::NameError),
    /// A network that is named twice.
    #[error("the network is given twice")]
    NetworkTwice,
    /// A key after a network's name that does not exist.
    #[error(
        "unknown key {0:?}: there are alias, ip, ip6, link-local-ip, mac, ifname, gw-priority, \
         rate-down and rate-up"
    )]
    NetworkKey(String),
    /// A key that is not to be repeated.
    #[error("{0} is given twice")]
    KeyTwice(String),
    /// A negative descriptor.
    #[error("a file descriptor is never negative")]
    NegativeFd,
    /// Descriptor 0, 1 or 2.
    #[error("descriptors 0, 1 and 2 are standard input, output and error")]
    StandardFd,
    /// `-` for a file.
    #[error("standard output is not supported; a file of that name is ./-")]
    Dash,
    /// Not six pairs of hex digits.
    #[error("write six pairs of hex digits, as in 02:72:0a:00:02:64")]
    MacSyntax,
    /// The group bit of a hardware address is set.
    #[error("a multicast address cannot be an interface's own")]
    MacMulticast,
    /// 00:00:00:00:00:00
    #[error("all zero is no address")]
    MacZero,
    /// Not a domain name.
    #[error(transparent)]
    Name(NameError),
    /// More domains than fit.
    #[error("too many domains: all of them have 255 bytes at most")]
    TooManyDomains,
    /// Not an IPv4 address.
    #[error("not an IPv4 address")]
    NotIpv4,
    /// Not an IPv6 address.
    #[error("not an IPv6 address")]
    NotIpv6,
    /// An address with a prefix length.
    #[error("the prefix length goes into {0}")]
    LengthInAddress(&'static str),
    /// Not `ADDRESS/LENGTH`.
    #[error("write ADDRESS/LENGTH, as in {0}")]
    CidrSyntax(&'static str),
    /// A prefix length that does not exist, or that leaves no address to choose from.
    #[error("prefix length {length:?} is not {allowed}")]
    PrefixLength {
        /// What was typed for it.
        length: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Too few addresses in the prefix.
    #[error("too small for a gateway, a DNS server and a container: /29 is the smallest")]
    TooSmall,
    /// The default container address is not in the prefix.
    #[error("too small for the default container address {0}: give --ip")]
    TooSmallForDefault(Ipv4Addr),
    /// An address with host bits where a prefix belongs.
    #[error("it has host bits set: the prefix is {0}")]
    HostBits(String),
    /// A prefix that no private network can have.
    #[error("it overlaps {0}")]
    Reserved(&'static str),
    /// The container's address is not in its subnet.
    #[error("outside the subnet {0}")]
    OutsideSubnet(String),
    /// The container's address has another use.
    #[error("it is {0}")]
    AddressInUse(&'static str),
    /// A character that the kernel refuses in an interface name, or gives a meaning.
    #[error("an interface name cannot contain {0:?}")]
    IfnameCharacter(char),
    /// Longer than the kernel's IFNAMSIZ allows.
    #[error("longer than 15 bytes")]
    IfnameTooLong,
    /// A name that means something else.
    #[error("the name is reserved")]
    IfnameReserved,
    /// Not an address of either family.
    #[error("not an IP address")]
    NotAnAddress,
    /// Not a prefix of either family.
    #[error("not a prefix, as in 192.0.2.0/24 or 2001:db8::/32, nor an address")]
    NotAPrefix,
    /// Not what a container may be allowed or denied.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// An IPv4 address in IPv6 form.
    #[error("write the IPv4 address")]
    MappedAddress,
    /// Two addresses of one family.
    #[error("the {0} address is given twice")]
    FamilyTwice(&'static str),
    /// Not a host name.
    #[error("write letters, digits, dots and inner hyphens")]
    HostnameSyntax,
    /// Neither an IPv4 nor an IPv6 address.
    #[error("not an IP address")]
    NotIp,
    /// Not an address prefix.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Not two words with `=` between them.
    #[error("write {0}")]
    Pair(&'static str),
    /// An option of a network that cannot be had.
    #[error(transparent)]
    NetworkOption(#[from] OptionError),
    /// A `--format` that is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A `--filter` that is none.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// What another program has and this one does not.
    #[error("{0}")]
    Refused(&'static str),
    /// Not a container's name.
    #[error("write letters, digits, and inside _ . -, with a letter among them")]
    NameSyntax,
    /// A host name that is too long.
    #[error("longer than 63 bytes")]
    HostnameTooLong,
}

debug_as_display!(ValueError);

/// The text of one value, with the name to use for it in a refusal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    /// The option, or what a positional is.
    pub(crate) what: &'static str,
    pub(crate) text: &'a str,
}

impl<'a> Input<'a> {
    pub(crate) fn new(what: &'static str, text: &'a str) -> Self {
        Self { what, text }
    }

    /// The refusal of this value.
    pub(crate) fn refuse(self, source: ValueError) -> UsageError {
        UsageError::Invalid { what: self.what, text: self.text.to_owned(), source }
    }

    /// Reads the value with `read`.
    pub(crate) fn read<T>(
        self,
        read: impl FnOnce(&'a str) -> Result<T, ValueError>,
    ) -> Result<T, UsageError> {
        read(self.text).map_err(|source| self.refuse(source))
    }
}

/// The addresses of the network and its container, from the options about them. A container address
/// elsewhere than in the default prefix makes the /24 or /64 around it the network's.
///
/// # Errors
/// An address or prefix that is none, a prefix that is too small or reserved, a container address
/// that is outside or taken. `v6` is `None` for `--no-ipv6`.
pub(crate) fn addresses(
    cidr: Option<&str>,
    ip: Option<&str>,
    v6: Option<(Option<&str>, Option<&str>)>,
) -> Result<(Addresses, Lease), UsageError> {
    let default = Addresses::default();
    let lease = Lease::default();
    let (v4, guest4) = family4(default.v4, lease.v4, cidr, ip)?;
    let v6 = v6.zip(default.v6.zip(lease.v6));
    let v6 = v6.map(|((cidr6, ip6), (family, guest))| family6(family, guest, cidr6, ip6));
    let (v6, guest6) = v6.transpose()?.unzip();
    Ok((Addresses { v4, v6 }, Lease::new(guest4, guest6)))
}

pub(crate) fn mac(text: &str) -> Result<MacAddress, ValueError> {
    let mut octets = [0; 6];
    let mut pairs = text.split(':');
    for octet in &mut octets {
        let pair = pairs.next().ok_or(ValueError::MacSyntax)?;
        if pair.len() != 2 || !pair.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ValueError::MacSyntax);
        }
        *octet = u8::from_str_radix(pair, 16).map_err(|_| ValueError::MacSyntax)?;
    }
    if pairs.next().is_some() {
        return Err(ValueError::MacSyntax);
    }
    if octets == [0; 6] {
        return Err(ValueError::MacZero);
    }
    let mac = MacAddress(octets);
    if mac.is_group() { Err(ValueError::MacMulticast) } else { Ok(mac) }
}

/// Reads an interface name by the rule of the kernel's `dev_valid_name` (net/core/dev.c), without
/// the names that it reserves: `%` makes a name a template, `all` and `default` are sysctl's.
pub(crate) fn ifname(text: &str) -> Result<String, ValueError> {
    const MAX_BYTES: usize = 15;
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(ValueError::IfnameTooLong);
    }
    let refused = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    if let Some(c) = text.chars().find(|c| refused(*c)) {
        return Err(ValueError::IfnameCharacter(c));
    }
    if matches!(text, "lo" | "." | ".." | "all" | "default") {
        return Err(ValueError::IfnameReserved);
    }
    Ok(text.to_owned())
}

pub(crate) fn mtu(text: &str) -> Result<Mtu, ValueError> {
    let (min, max) = (u32::from(Mtu::MIN), u32::from(Mtu::MAX));
    let mtu = u16::try_from(number(text, min, max)?).ok().and_then(Mtu::new);
    mtu.ok_or(ValueError::OutOfRange { min, max })
}

pub(crate) fn rate(text: &str) -> Result<Rate, ValueError> {
    Ok(text.parse()?)
}

pub(crate) fn offload(text: &str) -> Result<Offload, ValueError> {
    match text {
        "auto" => Ok(Offload::Auto),
        "off" => Ok(Offload::Off),
        _ => Err(ValueError::Expected("auto or off")),
    }
}

pub(crate) fn host_access(text: &str) -> Result<HostAccess, ValueError> {
    match text {
        "none" => return Ok(HostAccess::None),
        "all" => return Ok(HostAccess::All),
        _ => {}
    }
    let mut ports = Vec::new();
    for port in text.split(',') {
        if port.is_empty() || !is_digits(port) {
            return Err(ValueError::Expected("none, all or PORT[,PORT...]"));
        }
        let port = number(port, 1, u32::from(u16::MAX))?;
        ports.extend(u16::try_from(port));
    }
    Ok(HostAccess::Ports(ports.into_iter().collect()))
}

/// Reads the number of an inherited descriptor, which is none of the standard three.
pub(crate) fn fd(text: &str) -> Result<i32, ValueError> {
    if text.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && is_digits(rest)) {
        return Err(ValueError::NegativeFd);
    }
    const MAX: u32 = i32::MAX.unsigned_abs();
    if matches!(text.parse(), Ok(0..=2_u32)) {
        return Err(ValueError::StandardFd);
    }
    let fd = number(text, 3, MAX)?;
    i32::try_from(fd).map_err(|_| ValueError::OutOfRange { min: 3, max: MAX })
}

/// Reads a process id.
pub(crate) fn pid(text: &str) -> Result<i32, ValueError> {
    let pid = number(text, 1, MAX_PID)?;
    i32::try_from(pid).map_err(|_| ValueError::OutOfRange { min: 1, max: MAX_PID })
}

/// PID_MAX_LIMIT of 64-bit kernels, proc_sys_kernel(5).
pub(crate) const MAX_PID: u32 = 4_194_304;

pub(crate) fn path(text: &str) -> Result<PathBuf, ValueError> {
    if text.is_empty() { Err(ValueError::Empty) } else { Ok(PathBuf::from(text)) }
}

/// Reads the path of a file that is to be written.
pub(crate) fn output(text: &str) -> Result<PathBuf, ValueError> {
    if text == "-" { Err(ValueError::Dash) } else { path(text) }
}

/// Reads a container's name: Docker's grammar, short enough for the path of a socket, and no
/// number, which would be a process id.
pub(crate) fn container_name(text: &str) -> Result<String, ValueError> {
    const MAX_BYTES: usize = 63;
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first || !text.bytes().all(inner) || is_digits(text) {
        return Err(ValueError::NameSyntax);
    }
    if text.len() > MAX_BYTES {
        return Err(ValueError::HostnameTooLong);
    }
    Ok(text.to_owned())
}

/// Reads a host name: RFC 1123, section 2.1, and short enough for sethostname(2) and one label.
pub(crate) fn hostname(text: &str) -> Result<String, ValueError> {
    const MAX_BYTES: usize = 63;
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !text.split('.').all(label) {
        return Err(ValueError::HostnameSyntax);
    }
    if text.len() > MAX_BYTES {
        return Err(ValueError::HostnameTooLong);
    }
    Ok(text.to_owned())
}

/// Reads an address that sockets may have as their own.
pub(crate) fn outbound(text: &str) -> Result<IpAddr, ValueError> {
    let address: IpAddr = text.parse().map_err(|_| ValueError::NotAnAddress)?;
    let refused = match address {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => return Err(ValueError::MappedAddress),
        _ if address.is_unspecified() => Some("every address, which is what goes without saying"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("good on one interface only"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    refused.map_or(Ok(address), |why| Err(ValueError::AddressInUse(why)))
}

pub(crate) fn log_level(text: &str) -> Result<LogLevel, ValueError> {
    let level = match text {
        "error" => log::LevelFilter::Error,
        "warn" => log::LevelFilter::Warn,
        "info" => log::LevelFilter::Info,
        "debug" => log::LevelFilter::Debug,
        "trace" => log::LevelFilter::Trace,
        _ => return Err(ValueError::Expected("error, warn, info, debug or trace")),
    };
    Ok(LogLevel(level))
}

/// Whether `text` is a number, however large. The empty string is one.
pub(crate) fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a decimal number from `min` to `max`, both included.
pub(crate) fn number(text: &str, min: u32, max: u32) -> Result<u32, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if !is_digits(text) {
        return Err(ValueError::NotANumber);
    }
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or(ValueError::OutOfRange { min, max })
}

/// The IPv4 side of the network, and the container's address. The defaults keep their places in
/// another prefix.
fn family4(
    default: Family<Ipv4Addr>,
    default_guest: Ipv4Addr,
    cidr: Option<&str>,
    ip: Option<&str>,
) -> Result<(Family<Ipv4Addr>, Ipv4Addr), UsageError> {
    let elsewhere = |ip: &Ipv4Addr| !default.subnet.contains(*ip);
    let (typed, subnet) = match (cidr, ip.and_then(|ip| ip.parse().ok()).filter(elsewhere)) {
        (Some(text), _) => {
            let typed = Input::new("--cidr", text);
            (typed, typed.read(cidr4)?)
        }
        (None, Some(guest)) => {
            let typed = Input::new("--ip", ip.unwrap_or_default());
            let [a, b, c, _] = guest.octets();
            (typed, typed.read(|_| cidr4(&format!("{}/24", Ipv4Addr::new(a, b, c, 0))))?)
        }
        (None, None) => return Ok((default, guest4(&default, default_guest, ip)?)),
    };
    // Every default is in the first /24 of its network, so its place is its last octet.
    let place = |default: Ipv4Addr| {
        let [.., last] = default.octets();
        Ipv4Addr::from_bits(subnet.address.to_bits() + u32::from(last))
    };
    let family = Family { subnet, gateway: place(default.gateway), dns: place(default.dns) };
    let guest = place(default_guest);
    if ip.is_none() && !subnet.contains(guest) {
        return Err(typed.refuse(ValueError::TooSmallForDefault(guest)));
    }
    Ok((family, guest4(&family, guest, ip)?))
}

/// The container's address: the one that was asked for, else the default.
fn guest4(
    family: &Family<Ipv4Addr>,
    default: Ipv4Addr,
    ip: Option<&str>,
) -> Result<Ipv4Addr, UsageError> {
    let Some(text) = ip else { return Ok(default) };
    let typed = Input::new("--ip", text);
    let guest = typed.read(|text| match text.parse::<Ipv4Addr>() {
        Ok(guest) => Ok(guest),
        Err(_) if text.contains('/') => Err(ValueError::LengthInAddress("--cidr")),
        Err(_) => Err(ValueError::NotIpv4),
    })?;
    let subnet = family.subnet;
    let problem = if !subnet.contains(guest) {
        ValueError::OutsideSubnet(format!("{}/{}", subnet.address, subnet.prefix_len))
    } else if guest == subnet.address {
        ValueError::AddressInUse("the network's own address")
    } else if guest == subnet.broadcast() {
        ValueError::AddressInUse("the broadcast address")
    } else if guest == family.gateway {
        ValueError::AddressInUse("the gateway's address")
    } else if guest == family.dns {
        ValueError::AddressInUse("the DNS server's address")
    } else {
        return Ok(guest);
    };
    Err(typed.refuse(problem))
}

fn cidr4(text: &str) -> Result<Cidr<Ipv4Addr>, ValueError> {
    let (address, length) = text.split_once('/').ok_or(ValueError::CidrSyntax("10.0.2.0/24"))?;
    let address: Ipv4Addr = address.parse().map_err(|_| ValueError::NotIpv4)?;
    let prefix_len = match length.parse::<u8>() {
        Ok(prefix_len @ 1..=29) if is_digits(length) => prefix_len,
        Ok(30..=32) if is_digits(length) => return Err(ValueError::TooSmall),
        Ok(_) | Err(_) => {
            let length = length.to_owned();
            return Err(ValueError::PrefixLength { length, allowed: "from 1 to 29" });
        }
    };
    let mask = u32::MAX << (32 - u32::from(prefix_len));
    let prefix = Ipv4Addr::from_bits(address.to_bits() & mask);
    if prefix != address {
        return Err(ValueError::HostBits(format!("{prefix}/{prefix_len}")));
    }
    let subnet = Cidr { address, prefix_len };
    for (reserved, name) in &RESERVED4 {
        if subnet.contains(reserved.address) || reserved.contains(address) {
            return Err(ValueError::Reserved(name));
        }
    }
    Ok(subnet)
}

/// The IPv6 side of the network, and the container's address.
fn family6(
    default: Family<Ipv6Addr>,
    default_guest: Ipv6Addr,
    cidr6: Option<&str>,
    ip6: Option<&str>,
) -> Result<(Family<Ipv6Addr>, Ipv6Addr), UsageError> {
    let guest = ip6.and_then(|ip6| ip6.parse::<Ipv6Addr>().ok());
    let subnet = match (cidr6, guest) {
        (Some(text), _) => Input::new("--cidr6", text).read(cidr6_64)?,
        (None, Some(guest)) => {
            let prefix = Ipv6Addr::from_bits(guest.to_bits() & !HOST_BITS6);
            Input::new("--ip6", ip6.unwrap_or_default())
                .read(|_| cidr6_64(&format!("{prefix}/64")))?
        }
        (None, None) => default.subnet,
    };
    let place = |default: Ipv6Addr| {
        Ipv6Addr::from_bits(subnet.address.to_bits() | (default.to_bits() & HOST_BITS6))
    };
    let family = Family { subnet, gateway: place(default.gateway), dns: place(default.dns) };
    let Some(text) = ip6 else { return Ok((family, place(default_guest))) };
    let typed = Input::new("--ip6", text);
    let guest = typed.read(|text| match text.parse::<Ipv6Addr>() {
        Ok(guest) => Ok(guest),
        Err(_) if text.contains('/') => Err(ValueError::LengthInAddress("--cidr6")),
        Err(_) => Err(ValueError::NotIpv6),
    })?;
    let problem = if !subnet.contains(guest) {
        ValueError::OutsideSubnet(format!("{}/{}", subnet.address, subnet.prefix_len))
    } else if guest == subnet.address {
        // RFC 4291, section 2.6.1.
        ValueError::AddressInUse("the subnet-router anycast address")
    } else if guest == family.gateway {
        ValueError::AddressInUse("the gateway's address")
    } else if guest == family.dns {
        ValueError::AddressInUse("the DNS server's address")
    } else {
        return Ok((family, guest));
    };
    Err(typed.refuse(problem))
}

fn cidr6_64(text: &str) -> Result<Cidr<Ipv6Addr>, ValueError> {
    let (address, length) =
        text.split_once('/').ok_or(ValueError::CidrSyntax("fd00:1:2:3::/64"))?;
    let address: Ipv6Addr = address.parse().map_err(|_| ValueError::NotIpv6)?;
    if length != "64" {
        // Stateless addressing knows no other: RFC 4862, section 5.5.3, and RFC 4291, 2.5.1.
        return Err(ValueError::PrefixLength { length: length.to_owned(), allowed: "64" });
    }
    let prefix = Ipv6Addr::from_bits(address.to_bits() & !HOST_BITS6);
    if prefix != address {
        return Err(ValueError::HostBits(format!("{prefix}/64")));
    }
    if address.is_unspecified() {
        return Err(ValueError::Reserved("::/64, the loopback and mapped addresses"));
    }
    if address.is_unicast_link_local() {
        return Err(ValueError::Reserved("fe80::/10, the link-local addresses"));
    }
    if address.is_multicast() {
        return Err(ValueError::Reserved("ff00::/8, the multicast addresses"));
    }
    Ok(Cidr { address, prefix_len: 64 })
}

/// The low half of an IPv6 address, which a /64 leaves to its hosts.
const HOST_BITS6: u128 = u64::MAX as u128;

/// Prefixes whose addresses cannot be on a link: RFC 1122, section 3.2.1.3, and RFC 1112.
const RESERVED4: [(Cidr<Ipv4Addr>, &str); 3] = [
    (Cidr { address: Ipv4Addr::new(0, 0, 0, 0), prefix_len: 8 }, "0.0.0.0/8, this network"),
    (Cidr { address: Ipv4Addr::new(127, 0, 0, 0), prefix_len: 8 }, "127.0.0.0/8, the loopback"),
    (
        Cidr { address: Ipv4Addr::new(224, 0, 0, 0), prefix_len: 3 },
        "224.0.0.0/3, the multicast and reserved addresses",
    ),
];

#[cfg(test)]
mod tests;
