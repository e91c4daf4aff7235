//! `rnsnet policy show`, `allow`, `deny`, `reset` and `log`: what a container may reach outside.

use super::super::{Action, Argument, Count, Typed, Verb};
use super::human::age;
use super::{CTR, FORMAT, format, number, print_line, print_list, text};
use crate::cli::UsageError;
use crate::cli::values::Input;
use crate::client::{self, ClientError, Found};
use crate::config::EgressRule;
use crate::control::{EgressChange, EgressPolicy};
use crate::error::Error;
use crate::output::{Column, Format, Value};

const RULE: Argument = Argument {
    name: "RULE",
    count: Count::One,
    help: "[tcp:|udp:]TO[:PORT[-END]], tcp:PORT, icmp or dns, where TO is an address, a prefix, NAME, \
           *.NAME, private, internet or any.",
};

pub(in crate::verbs) const SHOW: Verb = Verb {
    name: "show",
    aliases: &[],
    about: "List what a container may reach outside",
    more: "The last rule that is about what it wants decides; what none is about is allowed. HITS is \
           how many connections, conversations and look-ups a rule decided on.",
    arguments: &[CTR],
    options: &[FORMAT],
    examples: &[("rnsnet policy show web", "Its rules, in order.")],
    parse: |typed| Ok(Box::new(List { what: What::Rules, ..list(typed)? })),
};

pub(in crate::verbs) const LOG: Verb = Verb {
    name: "log",
    aliases: &[],
    about: "List what a container was denied",
    more: "The last 64 different things, the last one at the end.",
    arguments: &[CTR],
    options: &[FORMAT],
    examples: &[("rnsnet policy log web", "As deny tcp 192.0.2.9:7.")],
    parse: |typed| Ok(Box::new(List { what: What::Denied, ..list(typed)? })),
};

pub(in crate::verbs) const ALLOW: Verb = Verb {
    name: "allow",
    aliases: &[],
    about: "Let a running container reach something outside",
    more: "The rule comes behind all that there are, so it decides. It is kept by rnsnet reattach, and gone when the \
           container's network ends.",
    arguments: &[CTR, RULE],
    options: &[],
    examples: &[("rnsnet policy allow web a.test:443", "By its name, at port 443.")],
    parse: |typed| change(typed, true),
};

pub(in crate::verbs) const DENY: Verb = Verb {
    name: "deny",
    aliases: &[],
    about: "Keep a running container from reaching something outside",
    more: "The rule comes behind all that there are, so it decides. What the container has open there is ended at \
           once: connections are reset. It is kept as those of rnsnet policy allow.",
    arguments: &[CTR, RULE],
    options: &[],
    examples: &[
        ("rnsnet policy deny web private", "No private network."),
        ("rnsnet policy deny web any", "Nothing at all, until something is allowed."),
    ],
    parse: |typed| change(typed, false),
};

pub(in crate::verbs) const RESET: Verb = Verb {
    name: "reset",
    aliases: &[],
    about: "Take back what policy allow and policy deny said",
    more: "The container has the rules that it began with.",
    arguments: &[CTR],
    options: &[],
    examples: &[("rnsnet policy reset web", "As --egress, --allow and --deny said.")],
    parse: |typed| Ok(Box::new(Change { container: container(typed), change: "reset".into() })),
};

const RULES: [Column; 3] = [("Rule", "RULE"), ("Hits", "HITS"), ("Network", "NETWORK")];
const DENIED: [Column; 4] =
    [("Attempt", "DENIED"), ("Times", "TIMES"), ("Last", "LAST"), ("Network", "NETWORK")];

#[derive(Debug)]
struct List {
    container: String,
    what: What,
    format: Format,
}

/// What of it is listed.
#[derive(Debug)]
enum What {
    Rules,
    Denied,
}

#[derive(Debug)]
struct Change {
    container: String,
    change: String,
}

fn container(typed: &Typed) -> String {
    typed.argument(0).unwrap_or_default().to_owned()
}

fn list(typed: &Typed) -> Result<List, UsageError> {
    Ok(List { container: container(typed), what: What::Rules, format: format(typed)? })
}

fn change(typed: &Typed, allow: bool) -> Result<Box<dyn Action>, UsageError> {
    let text = typed.argument(1).unwrap_or_default();
    let rule = Input::new("RULE", text).read(|text| Ok(EgressRule::read(allow, text)?))?;
    Ok(Box::new(Change { container: container(typed), change: rule.to_string() }))
}

/// The container, on every network that it is on.
fn everywhere(name: &str) -> Result<Vec<Found>, ClientError> {
    let found = client::find_all(name)?;
    if found.is_empty() {
        return Err(ClientError::NotFound { name: name.to_owned() });
    }
    Ok(found)
}

impl Action for List {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let mut rows = Vec::new();
        for mut found in everywhere(&self.container)? {
            let asked = EgressChange { container: found.named(), change: None };
            let EgressPolicy { rules, denied } = found.ask("egress", &asked)?;
            let network = &found.instance.info.network;
            match self.what {
                What::Rules => rows.extend(rules.into_iter().map(|rule| {
                    Value::Struct(vec![
                        ("Rule", text(rule.rule)),
                        ("Hits", number(rule.hits)),
                        ("Network", text(network)),
                    ])
                })),
                What::Denied => rows.extend(denied.into_iter().map(|denied| {
                    Value::Struct(vec![
                        ("Attempt", text(format!("deny {}", denied.attempt))),
                        ("Times", number(denied.times)),
                        ("Last", text(format!("{} ago", age(denied.age_ms)))),
                        ("Network", text(network)),
                    ])
                })),
            }
        }
        let columns: &[Column] = match self.what {
            What::Rules => &RULES,
            What::Denied => &DENIED,
        };
        print_list(&self.format, &rows, columns, columns.len())?;
        Ok(0)
    }
}

impl Action for Change {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let (mut called, mut refused) = (String::new(), Ok(()));
        for mut found in everywhere(&self.container)? {
            let change = Some(self.change.clone());
            let asked = EgressChange { container: found.named(), change };
            // What one network refuses holds on the others all the same.
            let changed: Result<EgressPolicy, _> = found.ask("egress", &asked);
            refused = refused.and_then(|()| changed.map(drop));
            called.clone_from(&found.container.name);
        }
        refused?;
        print_line(&called)?;
        Ok(0)
    }
}
