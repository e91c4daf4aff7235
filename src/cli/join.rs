//! The grammar of `--network` for named networks: `NET[:KEY=VALUE,...]`, and Docker's
//! `name=NET,KEY=VALUE,...`.
//!
//! Keys have Docker's and Podman's names. Whether there is such a network is not known here.

use super::argv::Words;
use super::dns::loopback;
use super::egress::egress;
use super::options::Given;
use super::values::{self, Input, ValueError};
use super::{Environment, UsageError, publish, read};
use crate::config::{HostSide, Join, LinkLocal, Membership, Name};
use crate::network::builtin;
use crate::network::definition::check_name;

/// What `--network` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A network of its own.
    Private,
    /// `lo` alone.
    None,
    /// Networks that are shared.
    Named(Vec<Join>),
}

/// Reads every `--network` of a command line.
///
/// # Errors
/// A value that is wrong, or networks that exclude each other.
pub(crate) fn parse_all(texts: &[String]) -> Result<Asked, UsageError> {
    let mut joins: Vec<Join> = Vec::new();
    for text in texts {
        match text.as_str() {
            "default" | "private" | builtin::BRIDGE if texts.len() == 1 => {
                return Ok(Asked::Private);
            }
            "none" if texts.len() == 1 => return Ok(Asked::None),
            "default" | "private" | builtin::BRIDGE => return Err(alone("--network default")),
            "none" => return Err(alone("--network none")),
            _ => {}
        }
        let typed = Input::new("--network", text);
        let join = typed.read(parse)?;
        if joins.iter().any(|other| other.network == join.network) {
            return Err(typed.refuse(ValueError::NetworkTwice));
        }
        joins.push(join);
    }
    Ok(if joins.is_empty() { Asked::Private } else { Asked::Named(joins) })
}

fn alone(option: &'static str) -> UsageError {
    UsageError::Conflict { option, other: "another --network" }
}

fn parse(text: &str) -> Result<Join, ValueError> {
    let (network, rest) = match text.split_once(':') {
        // `name=n1,ip6=fd00::7` has colons too.
        _ if text.starts_with("name=") => {
            let text = text.strip_prefix("name=").unwrap_or_default();
            text.split_once(',').unwrap_or((text, ""))
        }
        Some(parts) => parts,
        None => (text, ""),
    };
    match network {
        "" => return Err(ValueError::Empty),
        "host" => {
            return Err(ValueError::Refused(
                "a container in the host's network needs no rnsnet: default, none or a network's \
                 name",
            ));
        }
        "default" | "bridge" | "none" => {
            return Err(ValueError::Refused(
                "it takes no keys: write --ip, --mac and the like, or a named network",
            ));
        }
        "container" => {
            return Err(ValueError::Refused(
                "a container in another's namespace has that one's network already",
            ));
        }
        _ => check_network(network)?,
    }
    let mut join = Join { network: network.to_owned(), ..Join::default() };
    let mut prioritised = None;
    for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(ValueError::Pair("KEY=VALUE"))?;
        set(&mut join, &mut prioritised, key, value)?;
    }
    join.priority = prioritised.unwrap_or_default();
    Ok(join)
}

/// Holds the name of a network against what there can be: one of our own, or `OWNER/NAME`.
fn check_network(text: &str) -> Result<(), ValueError> {
    match text.split_once('/') {
        Some((owner, name)) if !owner.is_empty() => Ok(check_name(name)?),
        _ => Ok(check_name(text)?),
    }
}

/// Applies one key.
fn set(
    join: &mut Join,
    prioritised: &mut Option<i16>,
    key: &str,
    value: &str,
) -> Result<(), ValueError> {
    let twice = match key {
        "alias" => {
            join.aliases.push(alias(value)?);
            false
        }
        "ip" => join.v4.replace(value.parse().map_err(|_| ValueError::NotIpv4)?).is_some(),
        "ip6" => join.v6.replace(value.parse().map_err(|_| ValueError::NotIpv6)?).is_some(),
        "link-local-ip" | "link_local_ip" => {
            link_local(&mut join.link_local, value)?;
            false
        }
        "mac" | "mac-address" | "mac_address" => join.mac.replace(values::mac(value)?).is_some(),
        "gw-priority" | "gw_priority" => prioritised.replace(priority(value)?).is_some(),
        "rate-down" => set_rate(&mut join.rate.down, value)?,
        "rate-up" => set_rate(&mut join.rate.up, value)?,
        "ifname" | "interface_name" => join.ifname.replace(values::ifname(value)?).is_some(),
        _ => return Err(ValueError::NetworkKey(key.to_owned())),
    };
    if twice { Err(ValueError::KeyTwice(key.to_owned())) } else { Ok(()) }
}

/// One direction of a rate.
fn set_rate(direction: &mut Option<u64>, value: &str) -> Result<bool, ValueError> {
    if value.contains(['=', ',']) {
        return Err(ValueError::Expected("one RATE, as 10mbit or none"));
    }
    let rate = values::rate(value)?.up;
    Ok(std::mem::replace(direction, rate).is_some())
}

/// The named networks, with what the options say that are about one of them.
pub(crate) fn membership(
    given: &Given,
    words: &Words,
    ifname: Option<&(&'static str, String)>,
    asked: &Asked,
    environment: &Environment,
) -> Result<Option<Membership>, UsageError> {
    let Asked::Named(joins) = asked else { return Ok(None) };
    if let Some(option) = words.seen().find(|option| !NAMED_TOO.contains(&option.long)) {
        return Err(UsageError::OfTheNetwork { option: option.long });
    }
    let mut joins = joins.clone();
    let ifname = ifname.map(|(what, name)| (*what, Some(name)));
    let (what, name) = ifname.unwrap_or(("--ifname", given.ifname.as_ref()));
    let own = Join {
        network: String::new(),
        aliases: Vec::new(),
        v4: read(given.ip.as_deref(), "--ip", |text| {
            text.parse().map_err(|_| ValueError::NotIpv4)
        })?,
        v6: read(given.ip6.as_deref(), "--ip6", |text| {
            text.parse().map_err(|_| ValueError::NotIpv6)
        })?,
        mac: read(given.mac.as_deref(), "--mac", values::mac)?,
        ifname: read(name.map(String::as_str), what, values::ifname)?,
        priority: 0,
        link_local: LinkLocal::default(),
        rate: read(given.rate.as_deref(), "--rate", values::rate)?.unwrap_or_default(),
        egress: Some(egress(words)?),
    };
    for (option, is_given, is_there) in [
        ("--ip", own.v4.is_some(), joins.iter().any(|join| join.v4.is_some())),
        ("--ip6", own.v6.is_some(), joins.iter().any(|join| join.v6.is_some())),
        ("--mac", own.mac.is_some(), joins.iter().any(|join| join.mac.is_some())),
        (what, own.ifname.is_some(), joins.iter().any(|join| join.ifname.is_some())),
        ("--rate", given.rate.is_some(), joins.iter().any(|join| !join.rate.is_unlimited())),
    ] {
        if is_given && (is_there || joins.len() > 1) {
            return Err(UsageError::OfOneNetwork { option });
        }
    }
    // Whichever way it goes, the same holds.
    for join in &mut joins {
        join.egress = own.egress.clone();
    }
    if let [only] = &mut joins[..] {
        only.v4 = only.v4.or(own.v4);
        only.v6 = only.v6.or(own.v6);
        only.mac = only.mac.or(own.mac);
        only.ifname = only.ifname.take().or(own.ifname);
        only.rate = only.rate.or(own.rate);
    }
    if given.detach {
        // Nobody stays who could watch the one or be in the other.
        for (option, is_given) in
            [("--exit-fd", given.exit_fd.is_some()), ("--pid-file", given.pid_file.is_some())]
        {
            if is_given {
                return Err(UsageError::Conflict { option, other: "--detach" });
            }
        }
    }
    // Checked here, and read again by the network's process.
    for rule in publish::parse_all(&given.publish, &publish::PublishDefaults::default())? {
        if matches!(rule.host, HostSide::Inherited { .. }) {
            let option = "--publish fd:";
            return Err(UsageError::OfTheNetwork { option });
        }
    }
    let dns_listen = read(given.dns_listen.as_deref(), "--dns-listen", loopback)?;
    let (publish, bind) = (given.publish.clone(), environment.bind()?);
    Ok(Some(Membership { joins, publish, bind, dns_listen }))
}

/// The options that go with named networks; the others are about a network of one's own.
const NAMED_TOO: [&str; 23] = [
    "--egress",
    "--allow",
    "--deny",
    "--rate",
    "--dns-listen",
    "--write-resolv-conf",
    "--write-hosts",
    "--network",
    "--publish",
    "--ip",
    "--ip6",
    "--mac",
    "--ifname",
    "--offload",
    "--name",
    "--hostname",
    "--netns-type",
    "--userns-path",
    "--detach",
    "--ready-fd",
    "--exit-fd",
    "--pid-file",
    "--log-level",
];

/// How much a network's default route is preferred.
pub(crate) fn priority(text: &str) -> Result<i16, ValueError> {
    let priority = text.parse().ok().filter(|priority| (-1000..=1000).contains(priority));
    priority.ok_or(ValueError::Expected("a number from -1000 to 1000"))
}

/// An address that is good on the link alone.
pub(crate) fn link_local(known: &mut LinkLocal, text: &str) -> Result<(), ValueError> {
    let address = text.parse().map_err(|_| ValueError::NotAnAddress)?;
    Ok(known.add(address)?)
}

/// Another name of a container.
pub(crate) fn alias(text: &str) -> Result<Name, ValueError> {
    text.parse().map_err(ValueError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, report};

    fn parsed(texts: &[&str]) -> Result<Asked, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        parse_all(&texts).map_err(|error| report(&Error::from(error)))
    }

    fn one(text: &str) -> Join {
        match parsed(&[text]) {
            Ok(Asked::Named(joins)) => joins.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn networks_are_read_in_both_grammars() {
        assert_eq!(parsed(&[]), Ok(Asked::Private));
        for word in ["default", "bridge"] {
            assert_eq!(parsed(&[word]), Ok(Asked::Private));
        }
        assert_eq!(parsed(&["none"]), Ok(Asked::None));
        assert_eq!(one("n1"), Join { network: "n1".into(), ..Join::default() });
        let podman =
            one("n1:alias=db,alias=sql,ip=10.89.0.7,ip6=fd00::7,mac=02:00:00:00:00:07,ifname=lan0");
        let docker = one(
            "name=n1,alias=db,alias=sql,ip=10.89.0.7,ip6=fd00::7,mac-address=02:00:00:00:00:07,\
             interface_name=lan0",
        );
        assert_eq!(podman, docker);
        assert_eq!(podman.aliases, ["db".parse().unwrap(), "sql".parse().unwrap()]);
        let rate = one("n1:rate-down=10mbit,rate-up=512kbit").rate;
        assert_eq!(rate.to_string(), "down=10mbit,up=512kbit");
        assert_eq!((one("n1:gw-priority=-7").priority, podman.priority), (-7, 0));
        assert_eq!(podman.v4, "10.89.0.7".parse().ok());
        assert_eq!(podman.ifname.as_deref(), Some("lan0"));
        let Ok(Asked::Named(two)) = parsed(&["a", "b:alias=x"]) else { panic!("two") };
        assert_eq!(two.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (texts, message) in [
            (&[""][..], "invalid --network \"\": it is empty"),
            (&["a", "none"], "--network none cannot be combined with another --network"),
            (&["default", "a"], "--network default cannot be combined with another --network"),
            (&["a", "a:alias=x"], "invalid --network \"a:alias=x\": the network is given twice"),
            (&["a:alias"], "invalid --network \"a:alias\": write KEY=VALUE"),
            (&["a:ip=fd00::7"], "invalid --network \"a:ip=fd00::7\": not an IPv4 address"),
            (
                &["a:mtu=1"],
                "invalid --network \"a:mtu=1\": unknown key \"mtu\": there are alias, \
                            ip, ip6, link-local-ip, mac, ifname, gw-priority, rate-down and rate-up",
            ),
            (
                &["a:gw-priority=1001"],
                "invalid --network \"a:gw-priority=1001\": expected a number from -1000 to 1000",
            ),
            (
                &["a:ip=1.2.3.4,ip=1.2.3.5"],
                "invalid --network \"a:ip=1.2.3.4,ip=1.2.3.5\": ip is given twice",
            ),
            (
                &["a:gw-priority=0,gw_priority=7"],
                "invalid --network \"a:gw-priority=0,gw_priority=7\": gw_priority is given twice",
            ),
            (
                &["a:rate-up=down=1mbit"],
                "invalid --network \"a:rate-up=down=1mbit\": expected one RATE, as 10mbit or none",
            ),
            (
                &["a:rate-up=1mbit,rate-up=2mbit"],
                "invalid --network \"a:rate-up=1mbit,rate-up=2mbit\": rate-up is given twice",
            ),
            (&["a:alias=x y"], "invalid --network \"a:alias=x y\": a name cannot contain ' '"),
            (
                &["-x"],
                "invalid --network \"-x\": write letters, digits, and from the second on \
                       '_', '.' and '-'",
            ),
        ] {
            assert_eq!(parsed(texts), Err(format!("rnsnet: {message}")), "{texts:?}");
        }
        for word in ["host", "bridge:ip=10.0.2.7", "container:web"] {
            assert!(parsed(&[word]).is_err(), "{word}");
        }
    }
}
