//! What a container may reach outside: `--egress`, `--allow` and `--deny`.

use super::UsageError;
use super::argv::Words;
use super::values::{Input, ValueError};
use crate::config::{Egress, EgressError, EgressRule};

/// Reads the options about it, in the order in which they were given; `--egress` comes before all.
///
/// # Errors
/// What is no rule, too many rules, and an exception to nothing.
pub(crate) fn egress(words: &Words) -> Result<Egress, UsageError> {
    let mut egress = Egress::default();
    let of = |name| words.options.iter().filter(move |(option, _)| option.long == name);
    let first = of("--egress").map(|(_, text)| text.as_deref().unwrap_or_default());
    for text in first {
        let rule = match text {
            "allow" => None,
            "deny" => Some(EgressRule::any(false)),
            _ => {
                let expected = ValueError::Expected("allow or deny");
                return Err(Input::new("--egress", text).refuse(expected));
            }
        };
        rule.into_iter().try_for_each(|rule| add(&mut egress, "--egress", text, || Ok(rule)))?;
    }
    for (option, text) in &words.options {
        let text = text.as_deref().unwrap_or_default();
        match option.long {
            "--allow" => add(&mut egress, option.long, text, || EgressRule::read(true, text))?,
            "--deny" => add(&mut egress, option.long, text, || EgressRule::read(false, text))?,
            _ => {}
        }
    }
    sensible(egress)
}

/// Reads rules in one text, as `deny any, allow a.test:443`; `what` is what the text is.
///
/// # Errors
/// As [`egress`].
pub(crate) fn list(what: &'static str, text: &str) -> Result<Egress, UsageError> {
    let mut egress = Egress::default();
    let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
    for rule in rules {
        add(&mut egress, what, rule, || rule.parse())?;
    }
    sensible(egress)
}

/// Refuses an exception to nothing.
fn sensible(egress: Egress) -> Result<Egress, UsageError> {
    match egress.useless() {
        Some(_) => Err(UsageError::Useless {
            option: "--allow",
            needed: "--egress deny, or a --deny before it",
        }),
        None => Ok(egress),
    }
}

fn add(
    egress: &mut Egress,
    option: &'static str,
    text: &str,
    rule: impl FnOnce() -> Result<EgressRule, EgressError>,
) -> Result<(), UsageError> {
    let added = rule().and_then(|rule| egress.add(rule));
    added.map_err(|error| Input::new(option, text).refuse(error.into()))
}
