//! `rnsnet detach`: a container's network ends.

use super::super::{Action, Argument, Count, Verb};
use super::CTR;
use crate::client::{self, ClientError};
use crate::control::Named;
use crate::error::Error;

pub(in crate::verbs) const DETACH: Verb = Verb {
    name: "detach",
    aliases: &[],
    about: "Take a container's network away",
    more: "The interface and the published ports go. Returns once they are gone.",
    arguments: &[Argument { count: Count::OneOrMore, ..CTR }],
    options: &[],
    examples: &[("rnsnet detach web", "As when rnsnet is stopped by Ctrl-C.")],
    parse: |typed| Ok(Box::new(Detach { containers: typed.arguments().to_vec() })),
};

#[derive(Debug)]
struct Detach {
    containers: Vec<String>,
}

impl Action for Detach {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        for name in &self.containers {
            for mut found in client::find_all(name)? {
                let named = Named { container: found.named() };
                let _: serde_json::Value = found.ask("detach", &named)?;
                if found.instance.info.network != crate::control::PRIVATE {
                    // It is gone, and its network stays.
                    continue;
                }
                // The connection ends with the process.
                let talk = |source| ClientError::Talk { name: name.clone(), source };
                while found.instance.connection.wait(Some(PATIENCE_MS)).map_err(talk)? {
                    if found.instance.connection.next_event()? == client::Line::End {
                        break;
                    }
                }
            }
        }
        Ok(0)
    }
}

/// How long the end may take, in milliseconds.
const PATIENCE_MS: u16 = 10_000;
