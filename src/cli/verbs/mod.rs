//! The verbs of the command line: `rnsnet ps`, `rnsnet network create` and so on.
//!
//! [`VERBS`] is the one list. A verb is a file here with a constant [`Verb`]: its options, its
//! arguments, its help, and `parse`, which turns the words into an [`Action`]. Everything else
//! (spellings, refusals, `--help`, the list in `rnsnet --help`, a suggestion for what is misspelt)
//! follows from the table. Adding a verb is one file and one line in the list.
//! What a verb does when it runs is not decided here but where the action is.

mod completion;
mod dns;
mod doctor;
mod instances;
mod network;
mod oci_hook;
mod policy;
mod reattach;
mod version;

pub use oci_hook::HookError;

use std::ffi::OsString;
use std::fmt;

use super::argv::{self, Normalised, Syntax, Words};
use super::options::{Job, OptionSpec};
use super::values::{Input, ValueError};
use super::{UsageError, help};
use crate::error::Error;

/// Every verb but `run`, whose options are the main job's, in the order of the help.
pub(super) const VERBS: &[Entry] = &[
    Entry::Verb(&instances::PS),
    Entry::Verb(&instances::INSPECT),
    Entry::Verb(&instances::PORT),
    Entry::Verb(&instances::PUBLISH),
    Entry::Verb(&instances::UNPUBLISH),
    Entry::Verb(&instances::FLOWS),
    Entry::Verb(&instances::STATS),
    Entry::Verb(&instances::CAPTURE),
    Entry::Verb(&instances::EVENTS),
    Entry::Verb(&instances::DETACH),
    Entry::Group(&network::NETWORK),
    Entry::Group(&dns::DNS),
    Entry::Group(&policy::POLICY),
    Entry::Verb(&instances::LINK_ENV),
    Entry::Verb(&reattach::VERB),
    Entry::Verb(&oci_hook::VERB),
    Entry::Verb(&doctor::VERB),
    Entry::Verb(&completion::VERB),
    Entry::Verb(&version::VERB),
];

/// What a verb is to do, with all that was typed understood.
pub trait Action: fmt::Debug {
    /// Does it, and returns the exit code.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    fn run(self: Box<Self>) -> Result<u8, Error>;
}

/// A line of the list.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    /// `rnsnet NAME`.
    Verb(&'static Verb),
    /// `rnsnet NAME VERB`.
    Group(&'static Group),
}

/// Verbs that share their first word.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    /// Other spellings of the name.
    pub(super) aliases: &'static [&'static str],
    /// One line for the list of verbs, and the first of the group's help.
    pub(super) about: &'static str,
    pub(super) verbs: &'static [&'static Verb],
}

/// One verb.
#[derive(Debug)]
pub(super) struct Verb {
    /// The last word of its name: `create` of `network create`.
    pub(super) name: &'static str,
    /// Other spellings of the name.
    pub(super) aliases: &'static [&'static str],
    /// One line for the list of verbs.
    pub(super) about: &'static str,
    /// What more the help says above the usage line; may be empty. Lines are broken by the help.
    pub(super) more: &'static str,
    /// Its arguments, in order.
    pub(super) arguments: &'static [Argument],
    /// Its options; `--help` is added.
    pub(super) options: &'static [OptionSpec],
    /// Command lines and what they do.
    pub(super) examples: &'static [(&'static str, &'static str)],
    /// What its words mean. The number of arguments is right already.
    pub(super) parse: fn(&Typed) -> Result<Box<dyn Action>, UsageError>,
}

/// An argument of a verb.
#[derive(Debug)]
pub(super) struct Argument {
    /// What it is called: `CTR`.
    pub(super) name: &'static str,
    pub(super) count: Count,
    pub(super) help: &'static str,
}

/// How often an argument may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    One,
    Optional,
    /// Only as the last argument.
    OneOrMore,
    /// Only as the last argument.
    Any,
}

/// The words after a verb.
#[derive(Debug)]
pub(super) struct Typed {
    words: Words,
}

impl Typed {
    /// Whether a switch is given.
    pub(super) fn switch(&self, long: &str) -> bool {
        self.words.seen().any(|option| option.long == long)
    }

    /// The value of an option.
    pub(super) fn value(&self, long: &str) -> Option<&str> {
        self.values(long).next()
    }

    /// The values of an option that may be repeated.
    pub(super) fn values<'t>(&'t self, long: &str) -> impl Iterator<Item = &'t str> {
        let given = self.words.options.iter().filter(move |(option, _)| option.long == long);
        given.filter_map(|(_, value)| value.as_deref())
    }

    /// The value of an option, read with `read`.
    ///
    /// # Errors
    /// What `read` refuses.
    pub(super) fn read<T>(
        &self,
        long: &'static str,
        read: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<Option<T>, UsageError> {
        self.value(long).map(|text| Input::new(long, text).read(read)).transpose()
    }

    /// The values of an option that may be repeated, each read with `read`.
    ///
    /// # Errors
    /// What `read` refuses.
    pub(super) fn read_all<T>(
        &self,
        long: &'static str,
        read: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Result<Vec<T>, UsageError> {
        self.values(long).map(|text| Input::new(long, text).read(&read)).collect()
    }

    /// The arguments.
    pub(super) fn arguments(&self) -> &[String] {
        &self.words.positionals
    }

    /// An argument by its place, counted from 0.
    pub(super) fn argument(&self, index: usize) -> Option<&str> {
        self.words.positionals.get(index).map(String::as_str)
    }
}

/// What the words after `rnsnet` come to, if they begin with a verb.
#[derive(Debug)]
pub(super) enum Found {
    Action(Box<dyn Action>),
    Help(String),
}

impl Entry {
    fn name(self) -> &'static str {
        match self {
            Self::Verb(verb) => verb.name,
            Self::Group(group) => group.name,
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Verb(verb) => verb.about,
            Self::Group(group) => group.about,
        }
    }

    fn is_called(self, word: &str) -> bool {
        let aliases = match self {
            Self::Verb(verb) => verb.aliases,
            Self::Group(group) => group.aliases,
        };
        self.name() == word || aliases.contains(&word)
    }
}

impl Count {
    /// How it is written in a usage line.
    pub(super) fn usage(self, name: &str) -> String {
        match self {
            Self::One => name.to_owned(),
            Self::Optional => format!("[{name}]"),
            Self::OneOrMore => format!("{name}..."),
            Self::Any => format!("[{name}...]"),
        }
    }
}

/// Whether a word is the name of a verb or of a group of verbs. No PID and no path is.
pub(super) fn is_verb(word: &str) -> bool {
    VERBS.iter().any(|entry| entry.is_called(word))
}

/// The verb that a word is most likely meant to be.
pub(super) fn nearest(word: &str) -> Option<&'static str> {
    argv::closest(word, VERBS.iter().map(|entry| entry.name()).chain(["run"]))
}

/// Every verb of the program with its line of help.
pub(super) fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    VERBS.iter().map(|entry| (entry.name(), entry.about()))
}

/// Reads the words after `rnsnet` by a table of verbs, of which `first` is one.
///
/// # Errors
/// Whatever makes the words unusable, with the verb's name before it.
pub(super) fn parse(
    table: &[Entry],
    first: &str,
    mut rest: impl Iterator<Item = OsString>,
) -> Option<Result<Found, UsageError>> {
    let entry = *table.iter().find(|entry| entry.is_called(first))?;
    let group = match entry {
        Entry::Verb(verb) => return Some(parse_verb(verb.name, verb, rest)),
        Entry::Group(group) => group,
    };
    let word = rest.next().map(|word| word.to_string_lossy().into_owned());
    Some(match word.as_deref() {
        None => Err(UsageError::NoVerb { group: group.name }),
        Some("--help" | "-h" | "help") => Ok(Found::Help(help::group(group))),
        Some(word) => {
            let is_it = |verb: &&&Verb| verb.name == word || verb.aliases.contains(&word);
            match group.verbs.iter().find(is_it) {
                Some(verb) => parse_verb(&format!("{} {}", group.name, verb.name), verb, rest),
                None => Err(UsageError::UnknownVerb {
                    group: group.name,
                    word: word.to_owned(),
                    suggestion: argv::closest(word, group.verbs.iter().map(|verb| verb.name)),
                }),
            }
        }
    })
}

fn parse_verb(
    name: &str,
    verb: &'static Verb,
    words: impl Iterator<Item = OsString>,
) -> Result<Found, UsageError> {
    let syntax = Syntax { options: verb.options, job: Job::Verb };
    let read = || match argv::normalise(syntax, words)? {
        Normalised::Help | Normalised::Version => Ok(Found::Help(help::verb(name, verb))),
        Normalised::Words(words) => {
            count(verb.arguments, &words.positionals)?;
            (verb.parse)(&Typed { words }).map(Found::Action)
        }
    };
    read().map_err(|source| UsageError::Verb { verb: name.to_owned(), source: Box::new(source) })
}

/// Holds the number of arguments against what the verb takes.
fn count(arguments: &[Argument], words: &[String]) -> Result<(), UsageError> {
    let needed = |argument: &&Argument| matches!(argument.count, Count::One | Count::OneOrMore);
    if let Some(missing) = arguments.iter().filter(needed).nth(words.len()) {
        return Err(UsageError::MissingArgument { name: missing.name });
    }
    let open = |argument: &Argument| matches!(argument.count, Count::OneOrMore | Count::Any);
    match words.get(arguments.len()) {
        Some(word) if !arguments.last().is_some_and(open) => {
            Err(UsageError::SurplusArgument { word: word.clone() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
