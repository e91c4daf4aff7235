//! What the annotations of a container ask for: the command line of `rnsnet oci-hook`.
//!
//! A runtime gives its hooks the container's state (OCI runtime specification, sections State and
//! POSIX-platform Hooks).

use std::io;

use serde::Deserialize;

use super::join::{self, Asked};
use super::publish::{self, PublishDefaults};
use super::values::{self, Input};
use super::{Environment, UsageError, egress};
use crate::config::{HostSide, Membership, Name};
use crate::control::is_id;
use crate::sorted::SortedMap;

/// Why a hook does not do what it is there for.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum HookError {
    #[error("cannot read the container's state from standard input")]
    Read { source: io::Error },
    #[error("standard input is not the state of a container")]
    Parse { source: serde_json::Error },
    #[error("container {id} is {status} and has no process")]
    NoProcess { id: String, status: String },
    #[error("unknown annotation {key}: there are network, name, alias, publish and egress")]
    Unknown { key: String },
    #[error("annotation {EGRESS} does nothing without a named network in {NETWORK}")]
    Unkept,
    #[error("annotation {key}")]
    Annotation { key: &'static str, source: Box<UsageError> },
    #[error("the id {id:?} is no name for a container: give it one by the annotation {NAME}")]
    NoName { id: String },
}

/// What the runtime says of the container, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct State {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) pid: Option<i32>,
    #[serde(default)]
    annotations: SortedMap<String, String>,
}

/// What the annotations ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asks {
    pub(crate) membership: Membership,
    /// Its name, and whether somebody has chosen it.
    pub(crate) name: (String, bool),
}

impl State {
    /// Reads the annotations. `None` if they ask for nothing.
    pub(crate) fn asks(&self) -> Result<Option<Asks>, HookError> {
        let ours = self.annotations.keys().filter(|key| key.starts_with(PREFIX));
        if let Some(key) = ours.into_iter().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(HookError::Unknown { key: key.clone() });
        }
        // A container is not to start without the rules that it is to have.
        let nothing = || match self.annotations.contains_key(EGRESS) {
            true => Err(HookError::Unkept),
            false => Ok(None),
        };
        let Some(networks) = self.annotations.get(NETWORK) else { return nothing() };
        let refuse = |key| move |source| HookError::Annotation { key, source: Box::new(source) };
        let networks: Vec<String> = words(networks).map(str::to_owned).collect();
        let Asked::Named(mut joins) = join::parse_all(&networks).map_err(refuse(NETWORK))? else {
            // Nothing at all, `none` and a network of one's own, which has options of its own.
            return nothing();
        };
        let text = |key| self.annotations.get(key).map_or("", String::as_str);
        let alias = |word| Input::new("name", word).read(join::alias);
        let aliases: Result<Vec<Name>, UsageError> = words(text(ALIAS)).map(alias).collect();
        let aliases = aliases.map_err(refuse(ALIAS))?;
        let egress = egress::list("egress", text(EGRESS)).map_err(refuse(EGRESS))?;
        for join in &mut joins {
            join.aliases.extend(aliases.iter().cloned());
            join.egress = Some(egress.clone());
        }
        let publish: Vec<String> = words(text(PUBLISH)).map(str::to_owned).collect();
        let rules = publish::parse_all(&publish, &PublishDefaults::default());
        let rules = rules.map_err(refuse(PUBLISH))?;
        if rules.iter().any(|rule| matches!(rule.host, HostSide::Inherited { .. })) {
            let refused = UsageError::OfTheNetwork { option: "--publish fd:" };
            return Err(refuse(PUBLISH)(refused));
        }
        let name = match self.annotations.get(NAME) {
            Some(name) => {
                let read = Input::new("name", name).read(values::container_name);
                (read.map_err(refuse(NAME))?, true)
            }
            None => self.own_name()?,
        };
        let bind = Environment::of_this_process().bind().map_err(refuse(PUBLISH))?;
        Ok(Some(Asks { membership: Membership { joins, publish, bind, dns_listen: None }, name }))
    }

    /// An engine's id is long and by chance: its beginning is the name, as `podman ps` has it. An
    /// id that somebody has chosen is a name.
    fn own_name(&self) -> Result<(String, bool), HookError> {
        let id = &self.id;
        let is_name = |name: &str| values::container_name(name).is_ok();
        let found = if is_id(id) {
            // One of digits alone would be a pid.
            (12..id.len()).filter_map(|end| id.get(..end)).find(|name| is_name(name))
        } else {
            Some(id.as_str()).filter(|name| is_name(name))
        };
        let name = found.ok_or_else(|| HookError::NoName { id: id.clone() })?;
        Ok((name.to_owned(), !is_id(id)))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}

const PREFIX: &str = "org.rnsnet.";
const NETWORK: &str = "org.rnsnet.network";
const NAME: &str = "org.rnsnet.name";
const ALIAS: &str = "org.rnsnet.alias";
const PUBLISH: &str = "org.rnsnet.publish";
const EGRESS: &str = "org.rnsnet.egress";
const KEYS: [&str; 5] = [NETWORK, NAME, ALIAS, PUBLISH, EGRESS];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::report;

    const ID: &str = "4fcaab0123456789000000000000000000000000000000000000000000000000";

    fn asks(id: &str, annotations: &[(&str, &str)]) -> Result<Option<Asks>, String> {
        let annotations: SortedMap<_, _> = annotations
            .iter()
            .map(|(key, value)| (format!("org.rnsnet.{key}"), (*value).to_owned()))
            .collect();
        let state = serde_json::json!({"ociVersion": "1.0.2-dev", "id": id, "status": "creating",
            "pid": 16972, "bundle": "/b", "annotations": annotations});
        let state: State = serde_json::from_value(state).unwrap();
        state.asks().map_err(|error| report(&error))
    }

    #[test]
    fn annotations_are_options() {
        let found = asks(
            ID,
            &[
                ("network", "n1:ip=10.89.0.7  n2"),
                ("alias", "db sql"),
                ("publish", "8080:80 53:53/udp"),
                ("egress", "deny any, allow a.test:443"),
            ],
        );
        let Asks { membership, name } = found.unwrap().unwrap();
        assert_eq!(name, ("4fcaab012345".to_owned(), false));
        assert_eq!(membership.publish, ["8080:80", "53:53/udp"]);
        let [one, two] = &membership.joins[..] else { panic!("{membership:?}") };
        assert_eq!((one.network.as_str(), two.network.as_str()), ("n1", "n2"));
        assert_eq!(one.v4, "10.89.0.7".parse().ok());
        assert_eq!(one.aliases, ["db".parse().unwrap(), "sql".parse().unwrap()]);
        assert_eq!(two.aliases, one.aliases);
        let rules = Vec::from(two.egress.clone().unwrap());
        assert_eq!(rules, ["deny any", "allow a.test:443"]);
        assert_eq!(two.egress, one.egress);
    }

    #[test]
    fn names_are_given_or_those_of_the_engine() {
        let name = |id: &str, more: &[(&str, &str)]| {
            let all = [&[("network", "n1")][..], more].concat();
            asks(id, &all).map(|asks| asks.unwrap().name)
        };
        assert_eq!(name(ID, &[("name", "web")]), Ok(("web".to_owned(), true)));
        assert_eq!(name("web-1", &[]), Ok(("web-1".to_owned(), true)));
        let digits = format!("{}ab{}", "1".repeat(13), "0".repeat(49));
        assert_eq!(name(&digits, &[]), Ok((format!("{}a", "1".repeat(13)), false)));
        assert_eq!(
            name("a+b", &[]),
            Err("rnsnet: the id \"a+b\" is no name for a container: give it one by the \
                 annotation org.rnsnet.name"
                .to_owned())
        );
    }

    #[test]
    fn what_asks_for_nothing_gets_nothing() {
        assert_eq!(asks(ID, &[]), Ok(None));
        assert_eq!(asks(ID, &[("publish", "80:80")]), Ok(None));
        assert_eq!(asks(ID, &[("network", "")]), Ok(None));
        assert_eq!(asks(ID, &[("network", "none")]), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (more, message) in [
            (
                ("network", "n1:mtu=1"),
                "annotation org.rnsnet.network: invalid --network \"n1:mtu=1\": unknown key \
                 \"mtu\": there are alias, ip, ip6, link-local-ip, mac, ifname, gw-priority, rate-down and \
                 rate-up",
            ),
            (("name", "17"), "annotation org.rnsnet.name: invalid name \"17\": "),
            (("publish", "x:80"), "annotation org.rnsnet.publish: "),
            (("publish", "fd:3:80"), "annotation org.rnsnet.publish: "),
            (
                ("ports", "80"),
                "unknown annotation org.rnsnet.ports: there are network, name, alias, publish and \
                 egress",
            ),
            (
                ("egress", "any"),
                "annotation org.rnsnet.egress: invalid egress \"any\": a rule begins",
            ),
            (("egress", "allow any"), "annotation org.rnsnet.egress: --allow does nothing without"),
            (
                ("network", "none"),
                "annotation org.rnsnet.egress does nothing without a named network",
            ),
        ] {
            let rules = ("egress", "deny any");
            let refused = asks(ID, &[("network", "n1"), rules, more]).unwrap_err();
            let message = format!("rnsnet: {message}");
            assert!(refused.starts_with(&message), "{refused}");
        }
        // A container whose network is misspelt is not to start without one.
        let refused = asks(ID, &[("netwrok", "n1")]).unwrap_err();
        assert!(refused.contains("unknown annotation org.rnsnet.netwrok"), "{refused}");
    }
}
