//! The top-level error: what the process ends with, and how that is told.
//!
//! Every module has an error of its own, with the failed system call as its source; `Error` wraps
//! them, gives each its exit code and, for the failures that everyone meets, a hint.
//! [`report`] is the one place that puts an error into words for a person.

use std::borrow::Cow;

use crate::attach::AttachError;
use crate::cli::{HookError, UsageError};
use crate::client::ClientError;
use crate::io::api::ApiError;
use crate::io::listen::ListenError;
use crate::io::outbound::OutboundError;
use crate::io::overlay::UnderlayError;
use crate::io::process::ProcessError;
use crate::io::{LoopError, ResolverError};
use crate::network::manage::NetworkError;
use crate::network::store::StoreError;
use crate::output::{OutputError, TemplateError};
use crate::pasta::PlanError;
use crate::run::RunError;
use crate::runtime_dir::RuntimeDirError;
use crate::survivor::ReattachError;
use crate::sys::isolate::IsolateError;

/// Why rnsnet ends without having done what was asked.
#[derive(thiserror::Error)]
pub enum Error {
    /// The command line cannot be carried out as written.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The container cannot be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A port cannot be published.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The command of `rnsnet run` cannot be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The process could not be locked down.
    #[error(transparent)]
    Isolate(#[from] IsolateError),
    /// A descriptor or file of the caller's cannot be used.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The API socket cannot be had.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The control socket cannot be had.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// A local address for what the container sends cannot be had.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// A DNS server cannot be asked.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The host lacks what a container in the place of pasta's is to get.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The network could not be set up or kept up.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// Nothing is attached again.
    #[error(transparent)]
    Reattach(#[from] ReattachError),
    /// What a verb prints cannot be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// What was to be done with running networks.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A network cannot span its hosts.
    #[error(transparent)]
    Underlay(#[from] UnderlayError),
    /// What was to be done to a named network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A hook of an OCI runtime.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A `--format` does not fit what is to be printed.
    #[error("cannot fill in --format")]
    Template(#[from] TemplateError),
}

debug_as_display!(Error);

impl Error {
    /// The exit code of the process: 2 for a wrong command line, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Run(error) => error.exit_code(),
            Self::Attach(_)
            | Self::Listen(_)
            | Self::Isolate(_)
            | Self::Process(_)
            | Self::Api(_)
            | Self::RuntimeDir(_)
            | Self::Outbound(_)
            | Self::Resolver(_)
            | Self::Loop(_)
            | Self::Plan(_)
            | Self::Output(_)
            | Self::Client(_)
            | Self::Network(_)
            | Self::Underlay(_)
            | Self::Hook(_)
            | Self::Template(_)
            | Self::Reattach(_) => EXIT_FAILURE,
        }
    }

    /// What the user can do about it, if there is one thing that usually helps.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Usage(error) => error.hint(),
            Self::Attach(error) => error.hint().map(Cow::Borrowed),
            Self::Listen(error) => error.hint().map(Cow::Borrowed),
            Self::Run(error) => error.hint().map(Cow::Borrowed),
            Self::Plan(error) => error.hint().map(Cow::Borrowed),
            Self::Reattach(error) => error.hint().map(Cow::Borrowed),
            Self::Client(error) => error.hint(),
            Self::RuntimeDir(RuntimeDirError::InUse { .. }) => {
                Some("rnsnet ps tells whose it is, and --name gives another".into())
            }
            Self::Network(NetworkError::NotServed { .. }) => {
                Some("its owner starts it: rnsnet network start NETWORK".into())
            }
            Self::Network(NetworkError::Store(StoreError::NoSuch { .. })) => Some(
                "rnsnet network ls lists those there are, rnsnet network create makes one".into(),
            ),
            Self::Network(NetworkError::Connected { container, name }) => Some(
                format!("rnsnet network disconnect {name} {container} takes it from there").into(),
            ),
            Self::Network(NetworkError::InUse { .. }) => {
                Some("rnsnet network rm --force disconnects them".into())
            }
            Self::Isolate(_)
            | Self::Process(_)
            | Self::Api(_)
            | Self::RuntimeDir(_)
            | Self::Outbound(_)
            | Self::Resolver(_)
            | Self::Loop(_)
            | Self::Output(_)
            | Self::Network(_)
            | Self::Underlay(_)
            | Self::Hook(_)
            | Self::Template(_) => None,
        }
    }
}

/// Tells an error in one line, `rnsnet: a: b: Permission denied (os error 13)`, from the chain of
/// its sources. For an [`Error`] with a hint a second line follows, `hint: ...`.
///
/// There is no line break at the end, and none inside a line whatever the messages contain.
#[must_use]
pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("rnsnet: {}", reasons(error));
    if let Some(hint) = error.downcast_ref::<Error>().and_then(Error::hint) {
        text.push_str("\nhint: ");
        push_printable(&mut text, &hint);
    }
    text
}

/// The chain of an error's sources in one line, `a: b: Permission denied (os error 13)`.
#[must_use]
pub fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    push_printable(&mut text, &error.to_string());
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        push_printable(&mut text, &error.to_string());
        next = error.source();
    }
    text
}

/// Appends `message` with whatever would break the line or steer a terminal escaped.
fn push_printable(text: &mut String, message: &str) {
    for c in message.trim_end().chars() {
        // Line and paragraph separators, and the marks that turn the direction of writing.
        let steers = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || steers {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
}

/// Exit code for a command line that cannot be carried out as written.
const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open {path}")]
    struct Open {
        path: String,
        source: io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot attach PID 4242")]
    struct Attach(#[source] Open);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Top(#[from] Attach);

    fn open(path: &str) -> Open {
        Open { path: path.to_owned(), source: io::Error::from_raw_os_error(libc::EACCES) }
    }

    #[test]
    fn the_chain_is_one_line() {
        let error = Top(Attach(open("/proc/4242/ns/net")));
        assert_eq!(
            report(&error),
            "rnsnet: cannot attach PID 4242: cannot open /proc/4242/ns/net: \
             Permission denied (os error 13)"
        );
    }

    #[test]
    fn nothing_in_a_message_breaks_the_line() {
        let error = open("a\nb\u{1b}[2J\u{202e}\tü");
        assert_eq!(
            report(&error),
            "rnsnet: cannot open a\\nb\\u{1b}[2J\\u{202e}\\tü: Permission denied (os error 13)"
        );
    }

    #[test]
    fn nor_in_a_hint() {
        let suggestion = None;
        let error = UsageError::NoSuchVerb { word: "a\n\u{1b}b".to_owned(), suggestion };
        let report = report(&Error::from(error));
        assert_eq!(report.lines().count(), 2, "{report}");
        assert!(report.contains("./a\\n\\u{1b}b"), "{report}");
    }

    #[test]
    fn a_usage_error_has_its_code_and_hint() {
        let error = Error::from(UsageError::NoTarget);
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            report(&error),
            "rnsnet: PID or NETNS_PATH is missing\n\
             hint: rnsnet PID attaches a running container; rnsnet --help has examples"
        );
        let error = Error::from(UsageError::RunNotFirst);
        assert_eq!(report(&error).lines().count(), 1);
    }
}
