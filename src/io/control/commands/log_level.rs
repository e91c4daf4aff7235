//! How much the process says in its log, and where: `log-level`.

use std::fs::File;
use std::os::fd::AsFd as _;

use serde_json::json;

use super::super::exactly;
use super::{Command, Context, Reply};
use crate::cli::values;
use crate::control::{Kind, Refusal, Request, SetLogLevel};
use crate::io::logger;
use crate::sys::fd;

pub(super) const COMMANDS: &[Command] = &[Command { name: "log-level", run: log_level }];

fn log_level(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let asked: SetLogLevel = request.arguments()?;
    let refuse = |message: String| Refusal::new(Kind::Arguments, message);
    let level = values::log_level(&asked.level)
        .map_err(|error| refuse(format!("invalid level {:?}: {error}", asked.level)))?;
    let fds = std::mem::take(&mut context.fds);
    if !fds.is_empty() {
        let [file] = exactly(fds, "log-level")?;
        // To write to anything else might take as long as its reader likes.
        if fd::kind(file.as_fd()) != fd::Kind::File {
            return Err(refuse("the log can go to a regular file alone".to_owned()));
        }
        logger::redirect(File::from(file));
    } else if !logger::is_heard() {
        let message = "the process is in the background and has no log: --log-file gives it one";
        return Err(Refusal::new(Kind::Failed, message));
    }
    log::set_max_level(level.0);
    Ok(Reply::Value(json!({})))
}
