//! `rnsnet doctor`: see [`crate::doctor`].

use super::{Action, Typed, Verb};
use crate::cli::UsageError;
use crate::cli::ValueError;
use crate::cli::options::{Kind, OptionSpec, VERB as OPTION};
use crate::doctor;
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    name: "doctor",
    aliases: &[],
    about: "Tell what this machine lacks for rnsnet, and how to mend it",
    more: "Each line is ok, warn or FAIL, what was looked at and what was found; where something \
           is wrong, what to do follows. The exit code is 1 when containers cannot be given a \
           network. Nothing on the machine is changed.",
    arguments: &[],
    options: &[OptionSpec {
        long: "--format",
        kind: Kind::Value("FORMAT"),
        help: "text or json. Default: text.",
        ..OPTION
    }],
    examples: &[
        ("rnsnet doctor", "What to run first on a new machine."),
        ("rnsnet doctor --format json", "The same for programs."),
    ],
    parse,
};

#[derive(Debug)]
struct Doctor {
    json: bool,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let json = typed.read("--format", |text| match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err(ValueError::Expected("text or json")),
    })?;
    Ok(Box::new(Doctor { json: json.unwrap_or(false) }))
}

impl Action for Doctor {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let findings = doctor::examine();
        let report = if self.json { doctor::json(&findings) } else { doctor::text(&findings) };
        output::print(&report)?;
        Ok(u8::from(!doctor::healthy(&findings)))
    }
}
