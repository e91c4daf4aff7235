//! Who is there: `version` and `info`.

use serde::Deserialize;
use serde_json::json;

use super::{Command, Context, Reply, names, value};
use crate::control::{Refusal, Request, VERSION};

pub(super) const COMMANDS: &[Command] =
    &[Command { name: "version", run: version }, Command { name: "info", run: info }];

/// Arguments of a command that takes none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

fn version(_: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Nothing {} = request.arguments()?;
    let rnsnet = env!("CARGO_PKG_VERSION");
    Ok(value(&json!({"version": VERSION, "rnsnet": rnsnet, "commands": names()})))
}

fn info(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Nothing {} = request.arguments()?;
    Ok(value(&context.instance.info(context.published)))
}
