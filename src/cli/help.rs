//! The help texts, made from the option table.
//!
//! Lines are at most 80 columns wide. The table says what an option does; this file owns how a
//! help text is laid out, the usage lines and the examples.

use super::VerbName;
use super::options::{Group, Job, OPTIONS, OptionSpec};

/// The text of `--help` for one job, with a line break at its end.
pub(crate) fn help(job: Job, verbs: &[VerbName]) -> String {
    let (about, usage, examples) = match job {
        Job::Attach | Job::Verb => (ABOUT_ATTACH, USAGE_ATTACH, EXAMPLES_ATTACH),
        Job::Run => (ABOUT_RUN, USAGE_RUN, EXAMPLES_RUN),
    };
    let mut text = format!("{about}\n\n{usage}\n");
    if job == Job::Attach {
        let verbs = verbs.iter().map(|verb| (verb.name, verb.about));
        list(&mut text, [("run", ABOUT_RUN_SHORT)].into_iter().chain(verbs));
        text.push_str("\nrnsnet VERB --help says more about a verb.\n");
    }
    for group in Group::ALL {
        let mut options =
            OPTIONS.iter().filter(|o| o.group == group && o.scope.covers(job)).peekable();
        if options.peek().is_none() {
            continue;
        }
        text.push_str(&format!("\n{}:\n", group.heading()));
        for option in options {
            describe(&mut text, option);
        }
    }
    tell_examples(&mut text, &examples);
    text
}

/// Adds a list of verbs.
pub(crate) fn list<'a>(text: &mut String, verbs: impl Iterator<Item = (&'a str, &'a str)>) {
    text.push_str("\nVerbs:\n");
    for (name, about) in verbs {
        columns(text, &format!("  {name}"), about, ARGUMENT_INDENT);
    }
}

pub(crate) fn tell_examples(text: &mut String, examples: &[Example]) {
    text.push_str("\nExamples:\n");
    for (command, what) in examples {
        text.push_str(&format!("  {command}\n      {what}\n"));
    }
}

/// The text of `--version`, with a line break at its end.
pub(crate) fn version() -> String {
    format!("rnsnet {}\n", env!("CARGO_PKG_VERSION"))
}

/// Adds an option: its names in the left column, what it does in the right one.
pub(crate) fn describe(text: &mut String, option: &OptionSpec) {
    let short = option.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let value = option.value().map_or_else(String::new, |value| format!(" {value}"));
    let names = format!("  {short}{}{value}", option.long);
    columns(text, &names, option.help, INDENT);
}

/// Adds a left column, and a paragraph in a right one that starts at `indent`.
pub(crate) fn columns(text: &mut String, left: &str, right: &str, indent: usize) {
    let mut lines = wrap(right, WIDTH - indent).into_iter();
    if left.len() + 2 <= indent {
        let first = lines.next().unwrap_or_default();
        text.push_str(&format!("{left:indent$}{first}\n"));
    } else {
        text.push_str(&format!("{left}\n"));
    }
    for line in lines {
        text.push_str(&format!("{:indent$}{line}\n", ""));
    }
}

/// Breaks a paragraph between words into lines of at most `width` bytes.
pub(crate) fn wrap(paragraph: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The widest line, in columns.
pub(crate) const WIDTH: usize = 80;
/// Where the right column starts.
const INDENT: usize = 26;
/// The same for arguments and verbs.
pub(crate) const ARGUMENT_INDENT: usize = 18;

pub(crate) const ABOUT_ATTACH: &str = "\
rnsnet connects a container's network namespace to the host without root:
outbound TCP, UDP, ping and DNS, and published ports, IPv4 and IPv6.";

const USAGE_ATTACH: &str = "\
Usage: rnsnet [OPTIONS] PID|NETNS_PATH [IFNAME]
       rnsnet run [OPTIONS] [--] CMD [ARG...]
       rnsnet VERB [OPTIONS] [ARG...]
       rnsnet --help | --version

  PID|NETNS_PATH  The container: a process in it, or its network namespace.
  IFNAME          The same as --ifname.";

/// In the list of verbs.
pub(crate) const ABOUT_RUN_SHORT: &str = "Run a command in a network of its own";

pub(crate) const ABOUT_RUN: &str = "\
rnsnet run starts CMD in new user, mount and network namespaces and connects
them to the host. It ends with CMD's exit status.";

const USAGE_RUN: &str = "\
Usage: rnsnet run [OPTIONS] [--] CMD [ARG...]

  CMD, ARG        The command; options after CMD are its own.";

/// A command and what it does.
pub(crate) type Example = (&'static str, &'static str);

pub(crate) const EXAMPLES_ATTACH: [Example; 4] = [
    ("rnsnet --publish 8080:80 4711", "Port 8080 of the host is port 80 of the container."),
    (
        "rnsnet -p 127.0.0.1:8080:80 -p '[::1]:8080:80' -p 53:53/udp 4711",
        "A web server for this machine only, a DNS server for everyone.",
    ),
    (
        "rnsnet --detach --pid-file web.pid /run/user/1000/netns/web",
        "A namespace by its path; rnsnet goes to the background.",
    ),
    (
        "rnsnet run --publish 8080:8000 -- python3 -m http.server 8000",
        "A command in a network of its own; see rnsnet run --help.",
    ),
];

pub(crate) const EXAMPLES_RUN: [Example; 4] = [
    ("rnsnet run sh", "A shell with a network of its own."),
    (
        "rnsnet run --publish 8080:8000 -- python3 -m http.server 8000",
        "Port 8080 of the host is port 8000 of the command.",
    ),
    (
        "rnsnet run --host-access 5432 -- psql -h 10.0.2.2 shop",
        "The database on the host's loopback, at the gateway's address.",
    ),
    ("rnsnet run --network none -- make test", "A command that reaches nothing but its own lo."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_help_of_its_job() {
        for job in [Job::Attach, Job::Run] {
            let text = help(job, &[]);
            for option in OPTIONS {
                let value = option.value().map_or_else(String::new, |value| format!(" {value}"));
                let entry = format!("{}{value}", option.long);
                let listed = text.lines().any(|line| {
                    let line = line.trim_start();
                    let line = line
                        .get(4..)
                        .filter(|_| line.starts_with('-') && !line.starts_with("--"))
                        .unwrap_or(line);
                    line == entry || line.starts_with(&format!("{entry}  "))
                });
                assert_eq!(listed, option.scope.covers(job), "{} {job:?}", option.long);
                let short = option.short.map(|short| format!("  -{short}, {}", option.long));
                if let Some(short) = short.filter(|_| option.scope.covers(job)) {
                    assert!(text.contains(&short), "{short}");
                }
            }
        }
    }

    #[test]
    fn the_help_fits_a_terminal_and_ends_with_four_examples() {
        for job in [Job::Attach, Job::Run] {
            let text = help(job, &[]);
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
                assert_eq!(line.trim_end(), line);
            }
            let (_, examples) = text.split_once("\nExamples:\n").expect("examples");
            assert_eq!(examples.lines().filter(|line| line.starts_with("  rnsnet ")).count(), 4);
        }
    }

    #[test]
    fn every_option_says_what_it_does() {
        for option in OPTIONS {
            assert!(option.help.ends_with('.'), "{}", option.long);
            assert!(!option.help.contains('\n'), "{}", option.long);
        }
    }

    #[test]
    fn the_examples_are_accepted() {
        for (command, _) in EXAMPLES_ATTACH.iter().chain(&EXAMPLES_RUN) {
            let words = command.split_whitespace().skip(1).map(|word| word.trim_matches('\''));
            let parsed = crate::cli::parse(words.map(std::ffi::OsString::from));
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
    }
}
