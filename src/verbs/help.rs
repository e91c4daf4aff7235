//! The help texts of verbs, laid out as that of the program in [`crate::cli::help`].

use super::{Group, Verb};
use crate::cli::help::{
    ARGUMENT_INDENT, Example, WIDTH, columns, describe, list, tell_examples, wrap,
};
use crate::cli::options::{self, HELP};

/// The text of `rnsnet VERB --help`; `name` is the whole name, as in `network create`.
pub(super) fn verb(name: &str, verb: &Verb) -> String {
    let mut text = format!("rnsnet {name}: {}.\n", verb.about);
    if !verb.more.is_empty() {
        text.push_str(&format!("\n{}\n", wrap(verb.more, WIDTH).join("\n")));
    }
    text.push_str(&format!("\n{}\n", usage(&format!("Usage: rnsnet {name} [OPTIONS]"), verb)));
    if !verb.arguments.is_empty() {
        text.push('\n');
    }
    for argument in verb.arguments {
        columns(&mut text, &format!("  {}", argument.name), argument.help, ARGUMENT_INDENT);
    }
    text.push_str(&format!("\n{}:\n", options::Group::Verb.heading()));
    for option in verb.options.iter().chain([&HELP]) {
        describe(&mut text, option);
    }
    tell_examples(&mut text, verb.examples);
    text
}

/// A verb with its arguments behind it.
pub(super) fn usage(verb_name: &str, verb: &Verb) -> String {
    let mut line = verb_name.to_owned();
    for argument in verb.arguments {
        line.push(' ');
        line.push_str(&argument.count.usage(argument.name));
    }
    line
}

/// The text of `rnsnet GROUP --help`.
pub(super) fn group(group: &Group) -> String {
    let name = group.name;
    let mut text =
        format!("rnsnet {name}: {}.\n\nUsage: rnsnet {name} VERB [OPTIONS]\n", group.about);
    list(&mut text, group.verbs.iter().map(|verb| (verb.name, verb.about)));
    text.push_str(&format!("\nrnsnet {name} VERB --help says more about a verb.\n"));
    // Enough to begin with.
    let examples: Vec<Example> =
        group.verbs.iter().take(3).filter_map(|verb| verb.examples.first().copied()).collect();
    tell_examples(&mut text, &examples);
    text
}
