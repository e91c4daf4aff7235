//! What a container may reach outside: `--egress`, `--allow` and `--deny`.
//!
//! A rule says allow or deny, and what: `tcp:192.0.2.9:8080`, `198.51.100.0/24`, `*.example.com:443`,
//! `private`, `internet`, `any`, `dns`, `icmp`. The last rule that is about what the container wants
//! decides, so what is said later is an exception to what was said before; what no rule is about is
//! allowed. `--egress deny` is the rule `deny any` before all others.
//! Rules are about what the host's network is asked for. The gateway, the DNS forwarder, other
//! containers of the network and answers to clients of published ports are none of their business.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::parents;
use super::prefix::PrefixError;
use super::{Name, NameError, PassKind, Ports, Prefix};

/// The rules of one container, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Egress {
    rules: Vec<EgressRule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// Whether it allows what it is about, or denies it.
    pub allow: bool,
    /// Of which protocol; `None` is TCP, UDP and pings.
    pub kind: Option<PassKind>,
    /// Where to.
    pub to: To,
    /// To which ports; `None` is all, and whatever has none.
    pub ports: Option<Ports>,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Everywhere; without a protocol and ports, looking names up as well.
    Any,
    /// Addresses of private networks: RFC 1918, RFC 4193, RFC 6598, link-local and broadcast ones.
    Private,
    /// All others.
    Internet,
    /// Names that servers are asked for, and no address.
    Lookups,
    /// These addresses.
    Prefix(Prefix),
    /// This name: it is looked up, and reached where it was found.
    Name(Name),
    /// Every name below this one, alike.
    Below(Name),
}

/// What a container wants to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The protocol.
    pub kind: PassKind,
    /// The address that it says.
    pub address: IpAddr,
    /// The IPv4 address within, where a translator unwraps one (RFC 6052).
    pub within: Option<Ipv4Addr>,
    /// The port; 0 for a ping.
    pub port: u16,
}

/// A text that is no rule, or rules that cannot be together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum EgressError {
    #[error(
        "expected [tcp:|udp:]TO[:PORT[-END]] or icmp, with TO an address, a prefix, NAME, *.NAME, \
         private, internet or any; or dns"
    )]
    Syntax,
    #[error("a rule has no scheme: write NAME:PORT, as in a.example.com:443")]
    Url,
    #[error("a port is from 1 to 65535, a range PORT-END")]
    Ports,
    #[error("pings have no ports")]
    PortsOfPing,
    #[error("an IPv6 address goes into brackets before a port: [2001:db8::1]:443")]
    Brackets,
    #[error("looking names up has neither protocol nor port")]
    Lookups,
    #[error("{0:?} is neither an address nor a name")]
    NoAddress(String),
    #[error("a name of one part has a dot behind it, to tell it from a slip: {0}.")]
    OnePart(String),
    #[error("{text:?} is no name: {error}")]
    Name { text: String, error: NameError },
    #[error("write the IPv4 address")]
    Mapped,
    #[error(transparent)]
    Prefix(PrefixError),
    #[error("a rule begins with allow or deny")]
    Verdict,
    #[error("there are {} rules, which is the most", Egress::MAX)]
    TooMany,
}

impl Egress {
    /// Most rules of one container.
    pub const MAX: usize = 128;

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[EgressRule] {
        &self.rules
    }

    /// Whether there is no rule: everything is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Adds a rule behind all others, in the place of the same with either verdict.
    ///
    /// # Errors
    /// Too many.
    pub fn add(&mut self, rule: EgressRule) -> Result<(), EgressError> {
        let again = |other: &EgressRule| {
            (other.kind, &other.to, other.ports) == (rule.kind, &rule.to, rule.ports)
        };
        let more = !self.rules.iter().any(again);
        if more && self.rules.len() >= Self::MAX {
            return Err(EgressError::TooMany);
        }
        self.rules.retain(|other| !again(other));
        self.rules.push(rule);
        Ok(())
    }

    /// The first rule, if it allows what is allowed anyway.
    #[must_use]
    pub fn useless(&self) -> Option<&EgressRule> {
        self.rules.first().filter(|rule| rule.allow)
    }

    /// The place of the rule that decides on an opening; `named` says whether the address was found
    /// by a name that this rule is about.
    #[must_use]
    pub fn on_opening(
        &self,
        opening: &Opening,
        named: impl Fn(&EgressRule) -> bool,
    ) -> Option<usize> {
        self.rules.iter().rposition(|rule| rule.is_about(opening, &named))
    }

    /// The place of the rule that decides on looking up a name, as a message has it but in lower
    /// case. What is not a `plain` question could say anything to a server, so that no name that is
    /// allowed allows it.
    #[must_use]
    pub fn on_lookup(&self, labels: &[u8], plain: bool) -> Option<usize> {
        self.rules.iter().rposition(|rule| {
            let whole = rule.kind.is_none() && rule.ports.is_none();
            match &rule.to {
                To::Any => whole,
                To::Lookups => true,
                // What is denied some ports only is looked up for the others.
                to => (if rule.allow { plain } else { whole }) && to.is_about(labels),
            }
        })
    }

    /// Whether that rule allows it; without one it is allowed.
    #[must_use]
    pub fn allows(&self, place: Option<usize>) -> bool {
        place.and_then(|place| self.rules.get(place)).is_none_or(|rule| rule.allow)
    }
}

impl EgressRule {
    /// Allows or denies everything.
    #[must_use]
    pub const fn any(allow: bool) -> Self {
        Self { allow, kind: None, to: To::Any, ports: None }
    }

    /// Reads what follows `--allow` or `--deny`.
    ///
    /// # Errors
    /// See [`EgressError`].
    pub fn read(allow: bool, text: &str) -> Result<Self, EgressError> {
        // TCP is no name.
        let text = &*text.to_ascii_lowercase();
        if text.contains("//") {
            return Err(EgressError::Url);
        }
        let (kind, rest) = match text.split_once(':').unwrap_or((text, "any")) {
            ("tcp", rest) => (Some(PassKind::Tcp), rest),
            ("udp", rest) => (Some(PassKind::Udp), rest),
            ("icmp", rest) => (Some(PassKind::Icmp), rest),
            _ => (None, text),
        };
        let (to, ports) = match kind {
            // As between containers.
            Some(_) if rest.starts_with(|c: char| c.is_ascii_digit()) && is_ports(rest) => {
                (To::Any, Some(rest))
            }
            _ => split(rest)?,
        };
        let ports = ports.map(read_ports).transpose()?;
        match (kind, &to, ports) {
            (Some(PassKind::Icmp), _, Some(_)) => Err(EgressError::PortsOfPing),
            (Some(_), To::Lookups, _) | (_, To::Lookups, Some(_)) => Err(EgressError::Lookups),
            _ => Ok(Self { allow, kind, to, ports }),
        }
    }

    /// Whether it is about an opening. What is denied by one of two addresses is denied.
    fn is_about(&self, opening: &Opening, named: impl Fn(&Self) -> bool) -> bool {
        let Opening { kind, address, within, port } = *opening;
        let kind = self.kind.is_none_or(|own| own == kind);
        // A ping has no port, so a rule with some is not about it.
        let port = self.ports.is_none_or(|ports| (ports.first..=ports.last).contains(&port));
        let inner = within.map_or(address, IpAddr::V4);
        let covers = |address| match &self.to {
            To::Any => true,
            To::Private => is_private(address),
            To::Internet => !is_private(address),
            To::Lookups => false,
            To::Prefix(prefix) => prefix.contains(address),
            To::Name(_) | To::Below(_) => named(self),
        };
        kind && port && (covers(inner) || !self.allow && covers(address))
    }
}

impl To {
    /// Whether it is about a name, as a message has it but in lower case.
    #[must_use]
    pub fn is_about(&self, labels: &[u8]) -> bool {
        match self {
            Self::Name(name) => name.labels() == labels,
            Self::Below(name) => parents(labels).skip(1).any(|parent| parent == name.labels()),
            _ => false,
        }
    }
}

/// What stands behind the protocol: where to, and the ports as typed.
fn split(text: &str) -> Result<(To, Option<&str>), EgressError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']').ok_or(EgressError::Syntax)?;
        let prefix = read_prefix(inner).ok_or(EgressError::Syntax)??;
        let ports = match rest.strip_prefix(':') {
            Some(ports) => Some(ports),
            None if rest.is_empty() => None,
            None => return Err(EgressError::Syntax),
        };
        return Ok((To::Prefix(prefix), ports));
    }
    match text.matches(':').count() {
        0 => Ok((read_to(text)?, None)),
        1 => {
            let (to, ports) = text.split_once(':').unwrap_or((text, ""));
            Ok((read_to(to)?, Some(ports)))
        }
        _ => match read_prefix(text) {
            Some(prefix) => Ok((To::Prefix(prefix?), None)),
            None if is_numbers(text) => Err(EgressError::Brackets),
            None => Err(EgressError::Syntax),
        },
    }
}

fn read_to(text: &str) -> Result<To, EgressError> {
    let name = |text: &str| {
        // 192.0.2 is a slip, not a name.
        let last = text.strip_suffix('.').unwrap_or(text).rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(EgressError::NoAddress(text.to_owned()));
        }
        text.parse().map_err(|error| EgressError::Name { text: text.to_owned(), error })
    };
    match text {
        "any" => Ok(To::Any),
        "private" => Ok(To::Private),
        "internet" => Ok(To::Internet),
        "dns" => Ok(To::Lookups),
        "" => Err(EgressError::Syntax),
        _ => match (read_prefix(text), text.strip_prefix("*.")) {
            (Some(prefix), _) => prefix.map(To::Prefix),
            (None, Some(below)) => name(below).map(To::Below),
            (None, None) => match name(text)? {
                one if is_one_part(&one) && !text.ends_with('.') => {
                    Err(EgressError::OnePart(text.to_owned()))
                }
                name => Ok(To::Name(name)),
            },
        },
    }
}

/// Reads a prefix, or an address that stands for itself; `None` for what is neither.
fn read_prefix(text: &str) -> Option<Result<Prefix, EgressError>> {
    let (address, _) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    Some(match address {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Err(EgressError::Mapped),
        _ if text.contains('/') => text.parse().map_err(EgressError::Prefix),
        _ => Ok(Prefix::from(address)),
    })
}

/// Whether a name has one part: a machine's nearby, or a word that is not known.
fn is_one_part(name: &Name) -> bool {
    parents(name.labels()).count() == 2
}

/// Whether a text is a port or a range, or was meant to be.
fn is_ports(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Whether a text was meant to be an IPv6 address, with ports behind it.
fn is_numbers(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'-' | b'/'))
}

fn read_ports(text: &str) -> Result<Ports, EgressError> {
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|port| digits && *port > 0).ok_or(EgressError::Ports)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ports = Ports { first: port(first)?, last: port(last)? };
    if ports.first <= ports.last { Ok(ports) } else { Err(EgressError::Ports) }
}

/// Whether an address belongs to a private network, or to nobody outside the host's.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip == Ipv4Addr::BROADCAST
                || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(ip) => {
            ip.is_unique_local() || ip.is_unicast_link_local() || ip == Ipv6Addr::LOCALHOST
        }
    }
}

impl FromStr for EgressRule {
    type Err = EgressError;

    /// Reads `allow` or `deny` and what follows it.
    fn from_str(text: &str) -> Result<Self, EgressError> {
        match text.split_once(' ') {
            Some(("allow", rest)) => Self::read(true, rest),
            Some(("deny", rest)) => Self::read(false, rest),
            _ => Err(EgressError::Verdict),
        }
    }
}

impl fmt::Display for EgressRule {
    /// As it is read: `deny tcp:192.0.2.0/24:25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allow { "allow " } else { "deny " })?;
        let kind = self.kind.map(|kind| match kind {
            PassKind::Tcp => "tcp",
            PassKind::Udp => "udp",
            PassKind::Icmp => "icmp",
        });
        match (kind, &self.to) {
            (Some(kind), To::Any) => f.write_str(kind)?,
            (Some(kind), to) => write!(f, "{kind}:{}", Bracketed(to, self.ports.is_some()))?,
            (None, to) => write!(f, "{}", Bracketed(to, self.ports.is_some()))?,
        }
        self.ports.map_or(Ok(()), |ports| write!(f, ":{ports}"))
    }
}

/// Where to, in brackets where a port follows an IPv6 address.
struct Bracketed<'a>(&'a To, bool);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            To::Any => f.write_str("any"),
            To::Private => f.write_str("private"),
            To::Internet => f.write_str("internet"),
            To::Lookups => f.write_str("dns"),
            To::Name(name) => write!(f, "{name}{}", if is_one_part(name) { "." } else { "" }),
            To::Below(name) => write!(f, "*.{name}"),
            To::Prefix(prefix) => {
                // An address is written as one.
                let text = match prefix.length() {
                    32 if prefix.is_v4() => prefix.first().to_string(),
                    128 => prefix.first().to_string(),
                    _ => prefix.to_string(),
                };
                if self.1 && !prefix.is_v4() { write!(f, "[{text}]") } else { f.write_str(&text) }
            }
        }
    }
}

impl TryFrom<Vec<String>> for Egress {
    type Error = EgressError;

    fn try_from(texts: Vec<String>) -> Result<Self, EgressError> {
        let mut egress = Self::default();
        for text in texts {
            egress.add(text.parse()?)?;
        }
        Ok(egress)
    }
}

impl From<Egress> for Vec<String> {
    fn from(egress: Egress) -> Self {
        egress.rules.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(texts: &[&str]) -> Egress {
        Egress::try_from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn opening(kind: PassKind, to: &str) -> Opening {
        let to: std::net::SocketAddr = to.parse().unwrap();
        Opening { kind, address: to.ip(), within: None, port: to.port() }
    }

    fn decides(egress: &Egress, kind: PassKind, to: &str) -> bool {
        egress.allows(egress.on_opening(&opening(kind, to), |_| false))
    }

    // F3
    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for (text, written) in [
            ("tcp:192.0.2.9:8080", ""),
            ("192.0.2.9", ""),
            ("192.0.2.9/32", "192.0.2.9"),
            ("192.0.2.0/24:80-90", ""),
            ("udp:[2001:db8::1]:53", ""),
            ("[2001:db8::/32]:443", ""),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::/32", ""),
            ("tcp:2001:db8::1", ""),
            ("tcp:443", ""),
            ("tcp:any:443", "tcp:443"),
            ("udp:5000-5010", ""),
            ("tcp", ""),
            ("icmp", ""),
            ("icmp:private", ""),
            ("any", ""),
            ("any:25", ""),
            ("private", ""),
            ("tcp:internet:443", ""),
            ("dns", ""),
            ("a.test:8080", ""),
            ("tcp:*.Example.COM:443", "tcp:*.example.com:443"),
            ("a.test.", "a.test"),
            ("nas.:445", ""),
            ("*.lan", ""),
            ("TCP:[2001:DB8::1]:80", "tcp:[2001:db8::1]:80"),
            ("Private", "private"),
            ("0.0.0.0/0", ""),
        ] {
            let rule =
                EgressRule::read(true, text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let expected = if written.is_empty() { text } else { written };
            assert_eq!(rule.to_string(), format!("allow {expected}"), "{text}");
            assert_eq!(rule.to_string().parse(), Ok(rule), "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        use EgressError as E;
        let name = |text: &str, error| E::Name { text: text.into(), error };
        for (text, error) in [
            ("", E::Syntax),
            ("tcp:", E::Syntax),
            (":80", E::Syntax),
            ("tcp:[::1", E::Syntax),
            ("tcp:[::1]80", E::Syntax),
            ("192.0.2.9:0", E::Ports),
            ("192.0.2.9:", E::Ports),
            ("tcp:90-80", E::Ports),
            ("tcp:70000", E::Ports),
            ("a.test:http", E::Ports),
            ("icmp:any:1", E::PortsOfPing),
            ("icmp:8", E::PortsOfPing),
            ("2001:db8::1:80-90", E::Brackets),
            ("tcp:dns", E::Lookups),
            ("dns:53", E::Lookups),
            ("192.0.2", E::NoAddress("192.0.2".into())),
            ("443", E::NoAddress("443".into())),
            ("*", name("*", NameError::Character('*'))),
            ("a..b", name("a..b", NameError::EmptyLabel)),
            ("ftp:a.test:21", E::Syntax),
            ("10.0.0.0/33", E::Prefix(PrefixError::Length("33".into(), 32))),
            ("a.test/24", name("a.test/24", NameError::Character('/'))),
            ("https://a.test/", E::Url),
            ("privat", E::OnePart("privat".into())),
            ("sctp:80", E::OnePart("sctp".into())),
            ("::ffff:192.0.2.9", E::Mapped),
        ] {
            assert_eq!(EgressRule::read(true, text), Err(error), "{text}");
        }
        assert_eq!("permit any".parse::<EgressRule>(), Err(E::Verdict));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_alike(
            text in "(tcp:|udp:|icmp:|)([a-z*.]{0,6}|[0-9.]{0,9}|[0-9a-f:]{0,9}|\\[[0-9a-f:]{2,7}\\])(/[0-9]{1,2}|)(:[0-9]{1,5}(-[0-9]{1,5}|)|)",
        ) {
            if let Ok(rule) = EgressRule::read(true, &text) {
                prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            }
        }
    }

    // F3 F6
    #[test]
    fn the_last_rule_that_is_about_it_decides() {
        use PassKind::{Icmp, Tcp, Udp};
        let none = Egress::default();
        assert!(decides(&none, Tcp, "192.0.2.9:80"));
        let listed = rules(&["deny any", "allow tcp:192.0.2.9:8080", "allow icmp"]);
        for (kind, to, allowed) in [
            (Tcp, "192.0.2.9:8080", true),
            (Udp, "192.0.2.9:8080", false),
            (Tcp, "192.0.2.9:7", false),
            (Tcp, "192.0.2.8:8080", false),
            (Icmp, "192.0.2.8:0", true),
            (Icmp, "[2001:db8::9]:0", true),
            (Tcp, "[2001:db8::9]:8080", false),
        ] {
            assert_eq!(decides(&listed, kind, to), allowed, "{kind:?} {to}");
        }
        let outside = rules(&["deny private", "allow 192.168.1.5"]);
        for (to, allowed) in [
            ("192.168.1.5:80", true),
            ("192.168.1.6:80", false),
            ("10.0.0.1:80", false),
            ("172.31.0.1:80", false),
            ("172.32.0.1:80", true),
            ("100.64.0.1:80", false),
            ("100.128.0.1:80", true),
            ("255.255.255.255:9", false),
            ("[fd00::1]:80", false),
            ("[fe80::1]:80", false),
            ("[2001:db8::1]:80", true),
            ("192.0.2.1:80", true),
        ] {
            assert_eq!(decides(&outside, Tcp, to), allowed, "{to}");
        }
        let inside = rules(&["deny internet"]);
        assert!(decides(&inside, Tcp, "192.168.1.6:80") && !decides(&inside, Tcp, "192.0.2.1:80"));
    }

    #[test]
    fn a_translator_is_no_way_around() {
        let through = |egress: &Egress| {
            let opening = Opening {
                kind: PassKind::Tcp,
                address: "64:ff9b::c000:209".parse().unwrap(),
                within: Some(Ipv4Addr::new(192, 0, 2, 9)),
                port: 80,
            };
            egress.allows(egress.on_opening(&opening, |_| false))
        };
        assert!(!through(&rules(&["deny 192.0.2.0/24"])));
        assert!(!through(&rules(&["deny 64:ff9b::/96"])));
        assert!(!through(&rules(&["deny any", "allow ::/0"])));
        assert!(through(&rules(&["deny any", "allow 192.0.2.9"])));
    }

    // F4
    #[test]
    fn names_are_looked_up_and_reached_where_they_were_found() {
        let egress = rules(&["deny any", "allow a.test:8080", "allow *.b.test"]);
        let looked_up = |name: &str| {
            let name: Name = name.parse().unwrap();
            egress.allows(egress.on_lookup(name.labels(), true))
        };
        for (name, allowed) in [
            ("a.test", true),
            ("x.a.test", false),
            ("b.test", false),
            ("x.b.test", true),
            ("y.x.b.test", true),
            ("xb.test", false),
        ] {
            assert_eq!(looked_up(name), allowed, "{name}");
        }
        let name: Name = "a.test".parse().unwrap();
        let found = |rule: &EgressRule| rule.to.is_about(name.labels());
        for (to, allowed) in [("192.0.2.9:8080", true), ("192.0.2.9:80", false)] {
            let place = egress.on_opening(&opening(PassKind::Tcp, to), found);
            assert_eq!(egress.allows(place), allowed, "{to}");
        }
        let all = rules(&["deny any", "allow dns"]);
        assert!(
            all.allows(all.on_lookup(b"\x01a\0", false))
                && !decides(&all, PassKind::Udp, "1.2.3.4:53")
        );
        for text in ["deny tcp", "deny any:25", "deny a.test:25", "deny tcp:*.test"] {
            let some = rules(&[text]);
            assert!(some.allows(some.on_lookup(b"\x01a\x04test\0", true)), "{text}");
        }
    }

    // F7
    #[test]
    fn what_is_said_again_is_said_last() {
        let mut egress = rules(&["deny any", "allow tcp:443"]);
        egress.add("deny 192.0.2.9".parse().unwrap()).unwrap();
        egress.add("deny tcp:443".parse().unwrap()).unwrap();
        egress.add("allow 192.0.2.9".parse().unwrap()).unwrap();
        assert_eq!(Vec::from(egress), ["deny any", "deny tcp:443", "allow 192.0.2.9"]);
        let mut full = Egress::default();
        for number in 0..Egress::MAX {
            full.add(EgressRule::read(false, &format!("tcp:{}", number + 1)).unwrap()).unwrap();
        }
        assert_eq!(full.add(EgressRule::any(true)), Err(EgressError::TooMany));
        full.add(EgressRule::read(true, "tcp:7").unwrap()).unwrap();
        assert_eq!(full.rules().len(), Egress::MAX);
    }

    #[test]
    fn an_exception_to_nothing_is_useless() {
        for (texts, useless) in [
            (&["allow tcp:443"][..], true),
            (&["allow tcp:443", "deny private"], true),
            (&["deny private", "allow tcp:443"], false),
            (&["deny private"], false),
            (&[], false),
        ] {
            assert_eq!(rules(texts).useless().is_some(), useless, "{texts:?}");
        }
    }
}
