//! `rnsnet version`: the same as `rnsnet --version`.

use super::{Action, Typed, Verb};
use crate::cli::UsageError;
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    name: "version",
    aliases: &[],
    about: "Print the version",
    more: "",
    arguments: &[],
    options: &[],
    examples: &[("rnsnet version", "What to name in a report.")],
    parse,
};

#[derive(Debug)]
struct Version;

fn parse(_: &Typed) -> Result<Box<dyn Action>, UsageError> {
    Ok(Box::new(Version))
}

impl Action for Version {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        output::print(&crate::cli::help::version())?;
        Ok(0)
    }
}
