//! `rnsnet completion`: scripts for shells, made from the tables of options and verbs.
//!
//! A script is text that knows every verb and option by itself: completing runs no program. What
//! the values of options are is not known here but that some are files.

mod bash;
mod fish;
mod zsh;

use super::{Action, Argument, Count, Entry, Typed, VERBS, Verb};
use crate::cli::help::ABOUT_RUN_SHORT;
use crate::cli::options::{HELP, Job, Kind, OPTIONS, OptionSpec};
use crate::cli::values::Input;
use crate::cli::{UsageError, ValueError};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    name: "completion",
    aliases: &[],
    about: "Print the completion script for a shell",
    more: "",
    arguments: &[Argument { name: "SHELL", count: Count::One, help: "bash, zsh or fish." }],
    options: &[],
    examples: &[
        (
            "rnsnet completion bash > ~/.local/share/bash-completion/completions/rnsnet",
            "For bash; without bash-completion: source <(rnsnet completion bash).",
        ),
        (
            "rnsnet completion zsh > ~/.zfunc/_rnsnet",
            "For zsh, with ~/.zfunc in fpath before compinit.",
        ),
        ("rnsnet completion fish > ~/.config/fish/completions/rnsnet.fish", "For fish."),
    ],
    parse,
};

#[derive(Debug)]
struct Completion(Shell);

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let shell =
        Input::new("SHELL", typed.argument(0).unwrap_or_default()).read(|text| match text {
            "bash" => Ok(Shell::Bash),
            "zsh" => Ok(Shell::Zsh),
            "fish" => Ok(Shell::Fish),
            _ => Err(ValueError::Expected("bash, zsh or fish")),
        })?;
    Ok(Box::new(Completion(shell)))
}

impl Action for Completion {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        output::print(&self.0.script())?;
        Ok(0)
    }
}

/// A shell that can be given a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The completion script.
    fn script(self) -> String {
        let places = places();
        match self {
            Self::Bash => bash::script(&places),
            Self::Zsh => zsh::script(&places),
            Self::Fish => fish::script(&places),
        }
    }
}

/// A part of the command line with options of its own.
struct Place {
    /// The words that lead there after `rnsnet`: none, `run`, `ps`, or `network create`.
    words: Vec<&'static str>,
    /// Other spellings of the last word.
    aliases: &'static [&'static str],
    /// One line.
    about: &'static str,
    options: Vec<&'static OptionSpec>,
    arguments: &'static [Argument],
}

impl Place {
    fn of_verb(group: Option<&'static str>, verb: &'static Verb) -> Self {
        Self {
            words: group.into_iter().chain([verb.name]).collect(),
            aliases: verb.aliases,
            about: verb.about,
            options: verb.options.iter().chain([&HELP]).collect(),
            arguments: verb.arguments,
        }
    }

    fn of_job(job: Job, words: Vec<&'static str>, about: &'static str) -> Self {
        let options = OPTIONS.iter().filter(|option| option.scope.covers(job)).collect();
        Self { words, aliases: &[], about, options, arguments: &[] }
    }

    /// Every spelling of the last word.
    fn spellings(&self) -> impl Iterator<Item = &'static str> {
        self.words.last().copied().into_iter().chain(self.aliases.iter().copied())
    }
}

/// The first words, each with its line of help.
fn first_words() -> Vec<(&'static str, &'static str)> {
    [("run", ABOUT_RUN_SHORT)]
        .into_iter()
        .chain(super::names().map(|name| (name.name, name.about)))
        .collect()
}

fn places() -> Vec<Place> {
    let mut places = vec![
        Place::of_job(Job::Attach, Vec::new(), ""),
        Place::of_job(Job::Run, vec!["run"], ABOUT_RUN_SHORT),
    ];
    for entry in VERBS {
        match entry {
            Entry::Verb(verb) => places.push(Place::of_verb(None, verb)),
            Entry::Group(group) => {
                let of_group = |verb| Place::of_verb(Some(group.name), verb);
                places.extend(group.verbs.iter().copied().map(of_group));
            }
        }
    }
    places
}

/// The groups of verbs: every spelling of the first word, and their places.
fn groups(places: &[Place]) -> Vec<(Vec<&'static str>, Vec<&Place>)> {
    let groups = VERBS.iter().filter_map(|entry| match entry {
        Entry::Verb(_) => None,
        Entry::Group(group) => Some(group),
    });
    groups
        .map(|group| {
            let names = [group.name].into_iter().chain(group.aliases.iter().copied()).collect();
            let of_group = |place: &&Place| place.words.len() == 2 && place.words[0] == group.name;
            (names, places.iter().filter(of_group).collect())
        })
        .collect()
}

/// The long and, if there is one, the short spelling.
fn spellings(option: &OptionSpec) -> Vec<String> {
    let short = option.short.map(|short| format!("-{short}"));
    [option.long.to_owned()].into_iter().chain(short).collect()
}

/// Whether the value of an option is a file.
fn is_file(option: &OptionSpec) -> bool {
    option.value().is_some_and(|value| value.contains("FILE") || value.contains("PATH"))
}

fn is_list(option: &OptionSpec) -> bool {
    matches!(option.kind, Kind::List(_))
}

/// The first sentence of a help text, without its full stop.
fn brief(help: &str) -> &str {
    help.split_once(". ").map_or(help, |(first, _)| first).trim_end_matches('.')
}

#[cfg(test)]
mod tests;
