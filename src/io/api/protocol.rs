//! The words of the API socket: a request as JSON, its answer as JSON. Pure.
//!
//! One object each way, as slirp4netns has it; what is ours is that types and ranges are checked,
//! that the host's address may be IPv6, and that one request may ask for a range of ports. Refusals
//! are in the words that callers know, with our own in a second field. Who may ask, and what a
//! forward does, is decided elsewhere.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{Addresses, Lease, Protocol};

/// A request is shorter than this, in bytes.
pub(super) const MAX_REQUEST: usize = 4096;
/// Most ports of one request.
pub(super) const MAX_RANGE: u16 = 1024;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Add(Forward),
    List,
    Remove(u64),
}

/// A host port, or several in a row, and where they lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forward {
    pub(super) protocol: Protocol,
    pub(super) host: IpAddr,
    pub(super) host_port: u16,
    /// `None`: the container's own address.
    pub(super) guest: Option<IpAddr>,
    pub(super) guest_port: u16,
    /// How many ports, at least 1.
    pub(super) range: u16,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("bad request: cannot parse JSON")]
    NotJson,
    #[error("bad request: json_object() failed")]
    NotAnObject,
    #[error("bad request: no execute found")]
    NoExecute,
    #[error("bad request: unknown execute")]
    UnknownExecute,
    #[error("bad request: too large message")]
    TooLarge,
    #[error("bad request: {execute}: bad arguments.{argument}")]
    Argument { execute: &'static str, argument: &'static str },
    /// The host refuses; `reason` says why.
    #[error("bad request: add_hostfwd: slirp_add_hostfwd failed")]
    NotBound { reason: String },
    #[error("bad request: remove_hostfwd: bad arguments.id")]
    NoSuchId,
}

/// What became of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The object is not complete.
    More,
    /// It is, or can never be.
    Done(Result<Request, Refusal>),
}

/// Reads a request from what a client has sent so far. `ended` says that no more will come.
/// What follows the first JSON value is ignored.
pub(super) fn parse(bytes: &[u8], ended: bool, addresses: &Addresses) -> Parsed {
    if bytes.len() >= MAX_REQUEST {
        return Parsed::Done(Err(Refusal::TooLarge));
    }
    match serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().next() {
        Some(Ok(Value::Object(object))) => Parsed::Done(request(&object, addresses)),
        Some(Ok(_)) => Parsed::Done(Err(Refusal::NotAnObject)),
        Some(Err(error)) if error.is_eof() && !ended => Parsed::More,
        None if !ended => Parsed::More,
        Some(Err(_)) | None => Parsed::Done(Err(Refusal::NotJson)),
    }
}

/// The answer to `add_hostfwd`.
pub(super) fn added(id: u64) -> Vec<u8> {
    to_json(&Return { of: Id { id } })
}

/// The answer to `remove_hostfwd`.
pub(super) fn removed() -> Vec<u8> {
    to_json(&Return { of: Nothing {} })
}

/// The answer to `list_hostfwd`: `entries` inside `return`, as documented, and beside it, as
/// slirp4netns really answers.
pub(super) fn listed<'a>(
    forwards: impl Iterator<Item = (u64, &'a Forward)>,
    lease: &Lease,
) -> Vec<u8> {
    let entries: Vec<Entry> =
        forwards.map(|(id, forward)| Entry::new(id, forward, lease)).collect();
    to_json(&List { of: Entries { entries: &entries }, entries: &entries })
}

/// The answer to a request that is refused.
pub(super) fn refused(refusal: &Refusal) -> Vec<u8> {
    let reason = match refusal {
        Refusal::NotBound { reason } => Some(reason.as_str()),
        _ => None,
    };
    to_json(&Refused { error: Error { desc: refusal.to_string(), reason } })
}

fn request(object: &Map<String, Value>, addresses: &Addresses) -> Result<Request, Refusal> {
    let execute = object.get("execute").and_then(Value::as_str).ok_or(Refusal::NoExecute)?;
    let arguments = Arguments {
        execute: match execute {
            "add_hostfwd" => "add_hostfwd",
            "list_hostfwd" => return Ok(Request::List),
            "remove_hostfwd" => "remove_hostfwd",
            _ => return Err(Refusal::UnknownExecute),
        },
        given: object.get("arguments").and_then(Value::as_object),
    };
    if arguments.execute == "remove_hostfwd" {
        return arguments.id().map(Request::Remove);
    }
    // In the order in which slirp4netns checks them.
    let forward = Forward {
        protocol: arguments.protocol()?,
        host: arguments.host()?,
        host_port: arguments.port("host_port")?,
        guest: arguments.guest(addresses)?,
        guest_port: arguments.port("guest_port")?,
        range: arguments.range()?,
    };
    let last = forward.range - 1;
    match (forward.host_port.checked_add(last), forward.guest_port.checked_add(last)) {
        (Some(_), Some(_)) => Ok(Request::Add(forward)),
        _ => Err(arguments.bad("range")),
    }
}

/// The arguments of one request.
struct Arguments<'a> {
    execute: &'static str,
    given: Option<&'a Map<String, Value>>,
}

impl Arguments<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.given?.get(name)
    }

    fn bad(&self, argument: &'static str) -> Refusal {
        Refusal::Argument { execute: self.execute, argument }
    }

    fn protocol(&self) -> Result<Protocol, Refusal> {
        match self.get("proto").and_then(Value::as_str) {
            Some("tcp") => Ok(Protocol::Tcp),
            Some("udp") => Ok(Protocol::Udp),
            _ => Err(self.bad("proto")),
        }
    }

    /// An address; `None` where it is missing, null or empty. IPv6 may stand in brackets.
    fn address(&self, name: &'static str) -> Result<Option<IpAddr>, Refusal> {
        let text = match self.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value.as_str().ok_or_else(|| self.bad(name))?,
        };
        if text.is_empty() {
            return Ok(None);
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let address = match bare {
            Some(v6) => v6.parse().map(IpAddr::V6),
            None => text.parse(),
        };
        address.map(Some).map_err(|_| self.bad(name))
    }

    fn host(&self) -> Result<IpAddr, Refusal> {
        Ok(self.address("host_addr")?.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }

    /// The container's address: one of its subnet that is not the gateway's or the forwarder's.
    fn guest(&self, addresses: &Addresses) -> Result<Option<IpAddr>, Refusal> {
        let guest = self.address("guest_addr")?;
        let good = match (guest, addresses.v6) {
            // As in the original, the unspecified address is the container's own.
            (None, _) => true,
            (Some(IpAddr::V4(ip)), _) if ip.is_unspecified() => return Ok(None),
            (Some(IpAddr::V4(ip)), _) => {
                let v4 = &addresses.v4;
                v4.subnet.contains(ip)
                    && ![v4.gateway, v4.dns, v4.subnet.address, v4.subnet.broadcast()].contains(&ip)
            }
            (Some(IpAddr::V6(ip)), Some(v6)) => {
                v6.subnet.contains(ip) && ip != v6.gateway && ip != v6.dns
            }
            (Some(IpAddr::V6(_)), None) => false,
        };
        if good { Ok(guest) } else { Err(self.bad("guest_addr")) }
    }

    fn port(&self, name: &'static str) -> Result<u16, Refusal> {
        let port = self.get(name).and_then(whole).and_then(|port| u16::try_from(port).ok());
        port.filter(|port| *port != 0).ok_or_else(|| self.bad(name))
    }

    fn range(&self) -> Result<u16, Refusal> {
        let Some(range) = self.get("range") else {
            return Ok(1);
        };
        let range = whole(range).and_then(|range| u16::try_from(range).ok());
        range.filter(|range| (1..=MAX_RANGE).contains(range)).ok_or_else(|| self.bad("range"))
    }

    fn id(&self) -> Result<u64, Refusal> {
        self.get("id").and_then(whole).ok_or_else(|| self.bad("id"))
    }
}

/// A whole number; some languages write 80.0 for 80.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn whole(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0);
    value.as_u64().or_else(|| float().map(|n| n as u64))
}

impl Parsed {
    /// The answer to a request that does not become complete in time.
    pub(super) fn late() -> Vec<u8> {
        refused(&Refusal::NotJson)
    }
}

#[derive(Serialize)]
struct Return<T> {
    #[serde(rename = "return")]
    of: T,
}

#[derive(Serialize)]
struct Id {
    id: u64,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct List<'a> {
    #[serde(rename = "return")]
    of: Entries<'a>,
    entries: &'a [Entry],
}

#[derive(Serialize)]
struct Entries<'a> {
    entries: &'a [Entry],
}

#[derive(Serialize)]
struct Entry {
    id: u64,
    proto: &'static str,
    host_addr: IpAddr,
    host_port: u16,
    guest_addr: IpAddr,
    guest_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<u16>,
}

impl Entry {
    fn new(id: u64, forward: &Forward, lease: &Lease) -> Self {
        let own = match (forward.host, lease.v6) {
            (IpAddr::V6(_), Some(v6)) => IpAddr::V6(v6),
            _ => IpAddr::V4(lease.v4),
        };
        Self {
            id,
            proto: match forward.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            },
            host_addr: forward.host,
            host_port: forward.host_port,
            guest_addr: forward.guest.unwrap_or(own),
            guest_port: forward.guest_port,
            range: (forward.range > 1).then_some(forward.range),
        }
    }
}

#[derive(Serialize)]
struct Refused<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    desc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Maps with string keys, numbers and strings: nothing that JSON cannot say.
fn to_json(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Request, String> {
        match parse(text.as_bytes(), true, &Addresses::default()) {
            Parsed::Done(result) => result.map_err(|refusal| refusal.to_string()),
            Parsed::More => panic!("{text}"),
        }
    }

    fn text(json: Vec<u8>) -> String {
        String::from_utf8(json).unwrap()
    }

    const PODMAN: &str = "{\"execute\":\"add_hostfwd\",\"arguments\":{\"proto\":\"tcp\",\
        \"host_addr\":\"127.0.0.1\",\"host_port\":18083,\"guest_addr\":\"\",\"guest_port\":83}}\n";

    fn podman() -> Forward {
        Forward {
            protocol: Protocol::Tcp,
            host: "127.0.0.1".parse().unwrap(),
            host_port: 18083,
            guest: None,
            guest_port: 83,
            range: 1,
        }
    }

    #[test]
    fn requests_of_podman_and_rootlesskit_are_understood() {
        assert_eq!(parsed(PODMAN), Ok(Request::Add(podman())));
        let rootlesskit = r#"{"execute":"add_hostfwd","arguments":{"proto":"udp","host_addr":"",
            "host_port":53,"guest_addr":"10.0.2.100","guest_port":5353}}"#;
        let expected = Forward {
            protocol: Protocol::Udp,
            host: "0.0.0.0".parse().unwrap(),
            host_port: 53,
            guest: Some("10.0.2.100".parse().unwrap()),
            guest_port: 5353,
            range: 1,
        };
        assert_eq!(parsed(rootlesskit), Ok(Request::Add(expected)));
        assert_eq!(parsed(r#"{"execute":"list_hostfwd"}"#), Ok(Request::List));
        assert_eq!(
            parsed(r#"{"execute":"remove_hostfwd","arguments":{"id":7}}"#),
            Ok(Request::Remove(7))
        );
    }

    #[test]
    fn a_request_may_come_in_pieces_and_with_a_tail() {
        let addresses = Addresses::default();
        for length in 0..PODMAN.len() - 1 {
            assert_eq!(parse(&PODMAN.as_bytes()[..length], false, &addresses), Parsed::More);
        }
        let whole = Parsed::Done(Ok(Request::Add(podman())));
        assert_eq!(parse(PODMAN.as_bytes(), false, &addresses), whole);
        assert_eq!(parsed(&format!("{PODMAN} nonsense")), Ok(Request::Add(podman())));
    }

    #[test]
    fn what_is_no_request_is_refused_in_known_words() {
        for (text, refusal) in [
            ("", "cannot parse JSON"),
            ("  \n", "cannot parse JSON"),
            ("{\"execute\"", "cannot parse JSON"),
            ("execute", "cannot parse JSON"),
            ("[]", "json_object() failed"),
            ("3", "json_object() failed"),
            ("null", "json_object() failed"),
            ("{}", "no execute found"),
            ("{\"execute\":5}", "no execute found"),
            ("{\"execute\":\"quit\"}", "unknown execute"),
            ("{\"execute\":\"add_hostfwd\"}", "add_hostfwd: bad arguments.proto"),
            ("{\"execute\":\"add_hostfwd\",\"arguments\":5}", "add_hostfwd: bad arguments.proto"),
            ("{\"execute\":\"remove_hostfwd\"}", "remove_hostfwd: bad arguments.id"),
            (
                "{\"execute\":\"remove_hostfwd\",\"arguments\":{\"id\":\"1\"}}",
                "remove_hostfwd: bad arguments.id",
            ),
            (
                "{\"execute\":\"remove_hostfwd\",\"arguments\":{\"id\":-1}}",
                "remove_hostfwd: bad arguments.id",
            ),
        ] {
            assert_eq!(parsed(text), Err(format!("bad request: {refusal}")), "{text}");
        }
        let nested = "[".repeat(4000);
        assert_eq!(parsed(&nested), Err("bad request: cannot parse JSON".into()));
        let long = " ".repeat(MAX_REQUEST);
        assert_eq!(parsed(&long), Err("bad request: too large message".into()));
        assert_eq!(parsed(&long[1..]), Err("bad request: cannot parse JSON".into()));
    }

    #[test]
    fn every_argument_has_its_type_and_range() {
        let good: Map<String, Value> = serde_json::from_str(
            r#"{"proto":"tcp","host_addr":"","host_port":1,"guest_addr":"","guest_port":1}"#,
        )
        .unwrap();
        let with = |name: &str, value: Value| {
            let mut arguments = good.clone();
            arguments.insert(name.to_owned(), value);
            let request = serde_json::json!({"execute": "add_hostfwd", "arguments": arguments});
            parsed(&request.to_string())
        };
        let ports = ["0", "-1", "65536", "70000", "80.5", "\"80\"", "null", "[80]", "1e5", "true"];
        let bad_addresses = ["5", "\"10.0.2\"", "\"host\"", "\" 10.0.2.9\"", "\"[10.0.2.9]\""];
        for (name, values) in [
            ("proto", &["5", "null", "\"TCP\"", "\"sctp\"", "\"\"", "\"tcp4\""][..]),
            ("host_port", &ports),
            ("guest_port", &ports),
            ("host_addr", &bad_addresses),
            ("guest_addr", &bad_addresses),
            (
                "guest_addr",
                &["\"192.0.2.1\"", "\"10.0.2.2\"", "\"10.0.2.3\"", "\"10.0.2.255\"", "\"::1\""],
            ),
            ("range", &["0", "1025", "\"2\"", "null", "-1"]),
        ] {
            for value in values {
                assert_eq!(
                    with(name, serde_json::from_str(value).unwrap()),
                    Err(format!("bad request: add_hostfwd: bad arguments.{name}")),
                    "{name} {value}"
                );
            }
        }
        for (host_port, range) in [(65535, 1), (65534, 2), (1, 1024)] {
            let mut arguments = good.clone();
            arguments.insert("host_port".into(), host_port.into());
            arguments.insert("range".into(), range.into());
            let request = serde_json::json!({"execute": "add_hostfwd", "arguments": arguments});
            assert!(parsed(&request.to_string()).is_ok());
            arguments.insert("range".into(), (65537 - host_port).into());
            let request = serde_json::json!({"execute": "add_hostfwd", "arguments": arguments});
            let refusal = Err("bad request: add_hostfwd: bad arguments.range".into());
            assert_eq!(parsed(&request.to_string()), refusal);
        }
        for address in ["::1", "[::1]", "2001:db8::1"] {
            assert!(with("host_addr", address.into()).is_ok(), "{address}");
        }
    }

    // What languages make of an absent address, and of a number that is not for certain whole.
    #[test]
    fn null_is_no_address_and_a_number_may_have_a_point() {
        let request = r#"{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":null,
            "host_port":18083.0,"guest_addr":null,"guest_port":8.3e1}}"#;
        let any = Forward { host: "0.0.0.0".parse().unwrap(), ..podman() };
        assert_eq!(parsed(request), Ok(Request::Add(any)));
        let request = r#"{"execute":"remove_hostfwd","arguments":{"id":7.0}}"#;
        assert_eq!(parsed(request), Ok(Request::Remove(7)));
    }

    #[test]
    fn the_first_wrong_argument_is_named() {
        let request = r#"{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"x","guest_addr":"y"}}"#;
        assert_eq!(
            parsed(request),
            Err("bad request: add_hostfwd: bad arguments.host_addr".into())
        );
    }

    #[test]
    fn answers_are_exact() {
        assert_eq!(text(added(1)), r#"{"return":{"id":1}}"#);
        assert_eq!(text(removed()), r#"{"return":{}}"#);
        assert_eq!(
            text(refused(&Refusal::NoSuchId)),
            r#"{"error":{"desc":"bad request: remove_hostfwd: bad arguments.id"}}"#
        );
        assert_eq!(
            text(refused(&Refusal::NotBound { reason: "in use".into() })),
            r#"{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed","reason":"in use"}}"#
        );
        let lease = Lease::default();
        assert_eq!(
            text(listed(std::iter::empty(), &lease)),
            r#"{"return":{"entries":[]},"entries":[]}"#
        );
        let mut many = podman();
        many.host = "::".parse().unwrap();
        many.range = 3;
        let list = text(listed([(1, &podman()), (4, &many)].into_iter(), &lease));
        let entry = r#"{"id":1,"proto":"tcp","host_addr":"127.0.0.1","host_port":18083,"guest_addr":"10.0.2.100","guest_port":83}"#;
        assert!(list.starts_with(&format!("{{\"return\":{{\"entries\":[{entry},")), "{list}");
        assert!(list.contains(r#""guest_addr":"fd72:6e73:6e65::100","guest_port":83,"range":3}"#));
    }
}
