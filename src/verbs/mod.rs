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
mod help;
mod instances;
#[cfg(test)]
mod manual;
mod network;
mod oci_hook;
mod policy;
mod reattach;
mod version;

use std::ffi::OsString;
#[cfg(not(test))]
use std::fmt;

use crate::cli::argv::{self, Normalised, Syntax, Words};
use crate::cli::options::{Job, OptionSpec};
use crate::cli::values::{Input, ValueError};
use crate::cli::{self, Environment, UsageError, VerbName};
use crate::error::Error;
use crate::session;

/// Every verb but `run`, whose options are the main job's, in the order of the help.
const VERBS: &[Entry] = &[
    Entry::Verb(&instances::PS),
    Entry::Verb(&instances::INSPECT),
    Entry::Verb(&instances::PORT),
    Entry::Verb(&instances::PUBLISH),
    Entry::Verb(&instances::UNPUBLISH),
    Entry::Verb(&instances::UPDATE),
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

#[cfg(test)]
use std::fmt::Debug as Shown;

/// `Debug` in tests, which look at actions by it, and else nothing: it would be kept of whatever a
/// verb may be told, though nobody prints it.
#[cfg(not(test))]
pub trait Shown {}

#[cfg(not(test))]
impl<T> Shown for T {}

/// What a verb is to do, with all that was typed understood.
pub trait Action: Shown {
    /// Does it, and returns the exit code.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    fn run(self: Box<Self>) -> Result<u8, Error>;
}

#[cfg(not(test))]
impl fmt::Debug for dyn Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Action")
    }
}

/// A line of the list.
#[derive(Debug, Clone, Copy)]
enum Entry {
    /// `rnsnet NAME`.
    Verb(&'static Verb),
    /// `rnsnet NAME VERB`.
    Group(&'static Group),
}

/// Verbs that share their first word.
#[derive(Debug)]
struct Group {
    name: &'static str,
    /// Other spellings of the name.
    aliases: &'static [&'static str],
    /// One line for the list of verbs, and the first of the group's help.
    about: &'static str,
    verbs: &'static [&'static Verb],
}

/// One verb.
#[derive(Debug)]
struct Verb {
    /// The last word of its name: `create` of `network create`.
    name: &'static str,
    /// Other spellings of the name.
    aliases: &'static [&'static str],
    /// One line for the list of verbs.
    about: &'static str,
    /// What more the help says above the usage line; may be empty. Lines are broken by the help.
    more: &'static str,
    /// Its arguments, in order.
    arguments: &'static [Argument],
    /// Its options; `--help` is added.
    options: &'static [OptionSpec],
    /// Command lines and what they do.
    examples: &'static [(&'static str, &'static str)],
    /// What its words mean. The number of arguments is right already.
    parse: fn(&Typed) -> Result<Box<dyn Action>, UsageError>,
}

/// An argument of a verb.
#[derive(Debug)]
struct Argument {
    /// What it is called: `CTR`.
    name: &'static str,
    count: Count,
    help: &'static str,
}

/// How often an argument may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    One,
    Optional,
    /// Only as the last argument.
    OneOrMore,
    /// Only as the last argument.
    Any,
}

/// The words after a verb.
#[derive(Debug)]
struct Typed {
    words: Words,
}

impl Typed {
    /// Whether a switch is given.
    fn switch(&self, long: &str) -> bool {
        self.words.seen().any(|option| option.long == long)
    }

    /// The value of an option.
    fn value(&self, long: &str) -> Option<&str> {
        self.values(long).next()
    }

    /// The values of an option that may be repeated.
    fn values<'t>(&'t self, long: &str) -> impl Iterator<Item = &'t str> {
        let given = self.words.options.iter().filter(move |(option, _)| option.long == long);
        given.filter_map(|(_, value)| value.as_deref())
    }

    /// The value of an option, read with `read`.
    ///
    /// # Errors
    /// What `read` refuses.
    fn read<T>(
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
    fn read_all<T>(
        &self,
        long: &'static str,
        read: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Result<Vec<T>, UsageError> {
        self.values(long).map(|text| Input::new(long, text).read(&read)).collect()
    }

    /// The arguments.
    fn arguments(&self) -> &[String] {
        &self.words.positionals
    }

    /// An argument by its place, counted from 0.
    fn argument(&self, index: usize) -> Option<&str> {
        self.words.positionals.get(index).map(String::as_str)
    }
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Command {
    /// `rnsnet VERB`.
    Verb(Box<dyn Action>),
    /// What no verb is for, the main job above all, or a text to print.
    Main(Box<cli::Command>),
}

impl Entry {
    fn name(self) -> VerbName {
        let (name, aliases, about) = match self {
            Self::Verb(verb) => (verb.name, verb.aliases, verb.about),
            Self::Group(group) => (group.name, group.aliases, group.about),
        };
        VerbName { name, aliases, about }
    }
}

impl Count {
    /// How it is written in a usage line.
    fn usage(self, name: &str) -> String {
        match self {
            Self::One => name.to_owned(),
            Self::Optional => format!("[{name}]"),
            Self::OneOrMore => format!("{name}..."),
            Self::Any => format!("[{name}...]"),
        }
    }
}

/// The same environment with the verbs that there are.
#[must_use]
pub fn environment(without: Environment) -> Environment {
    Environment { verbs: names().collect(), ..without }
}

/// The names of all verbs and groups of verbs, in the order of the help.
fn names() -> impl Iterator<Item = VerbName> {
    VERBS.iter().map(|entry| entry.name())
}

/// Reads a command line. `args` are the words after the program's name.
///
/// # Errors
/// Whatever makes the line unusable, the first problem found.
pub fn parse(
    environment: &Environment,
    args: impl Iterator<Item = OsString>,
) -> Result<Command, UsageError> {
    let mut args = args.peekable();
    if args.next_if(|word| word == "help").is_some() {
        let of = args.next().filter(|word| !word.is_empty());
        if let Some(word) = &of {
            check_verb(environment, &word.to_string_lossy())?;
        }
        let of = of.into_iter();
        // `rnsnet help network create` too: a verb's help wins wherever it stands.
        return parse_by(VERBS, environment, &mut of.chain(args).chain(["--help".into()]));
    }
    parse_by(VERBS, environment, &mut args)
}

/// Refuses a word that help is asked about and that is neither a verb nor an option.
fn check_verb(environment: &Environment, word: &str) -> Result<(), UsageError> {
    let known = |word| matches!(word, "run" | cli::HELP) || names().any(|name| name.is(word));
    if known(word) || word.starts_with('-') {
        return Ok(());
    }
    let suggestion = environment.suggest(word);
    Err(UsageError::UnknownVerb { group: cli::HELP, word: word.to_owned(), suggestion })
}

/// The same by a table of verbs.
fn parse_by(
    table: &[Entry],
    environment: &Environment,
    args: &mut dyn Iterator<Item = OsString>,
) -> Result<Command, UsageError> {
    let mut args = args.peekable();
    let first = args.peek().and_then(|word| word.to_str());
    let entry = first.and_then(|first| table.iter().find(|entry| entry.name().is(first)));
    let Some(entry) = entry else {
        return cli::parse_in(environment, &mut args)
            .map(|command| Command::Main(Box::new(command)));
    };
    args.next();
    match entry {
        Entry::Verb(verb) => parse_verb(verb.name, verb, &mut args),
        Entry::Group(group) => parse_group(group, &mut args),
    }
}

fn parse_group(
    group: &'static Group,
    rest: &mut dyn Iterator<Item = OsString>,
) -> Result<Command, UsageError> {
    let word = rest.next().map(|word| word.to_string_lossy().into_owned());
    match word.as_deref() {
        None => Err(UsageError::NoVerb { group: group.name }),
        Some("--help" | "-h" | "help") => Ok(text(help::group(group))),
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
    }
}

fn parse_verb(
    name: &str,
    verb: &'static Verb,
    words: &mut dyn Iterator<Item = OsString>,
) -> Result<Command, UsageError> {
    let syntax = Syntax { options: verb.options, job: Job::Verb, verbs: &[] };
    let mut read = || match argv::normalise(syntax, words)? {
        Normalised::Help | Normalised::Version => Ok(text(help::verb(name, verb))),
        Normalised::Words(words) => {
            count(verb.arguments, &words.positionals)?;
            (verb.parse)(&Typed { words }).map(Command::Verb)
        }
    };
    read().map_err(|source| UsageError::Verb {
        verb: name.to_owned(),
        usage: help::usage(&format!("rnsnet {name}"), verb),
        example: verb.examples.first().map_or("", |(line, _)| line),
        source: Box::new(source),
    })
}

fn text(text: String) -> Command {
    Command::Main(Box::new(cli::Command::Help(text)))
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

/// Tells of what could not be done, each in its line. Returns the exit code.
fn complain(errors: impl IntoIterator<Item = Error>) -> u8 {
    let codes = errors.into_iter().map(|error| session::finish(Err(error), Error::exit_code));
    codes.fold(0, u8::max)
}

#[cfg(test)]
mod tests;
