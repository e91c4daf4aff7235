//! First stage of the command line: from what people type to the one spelling that argh takes.
//!
//! Splits `--mtu=1500`, `-p8080:80` and `-dr3`, lets options follow positionals, ends options at
//! `--`, and cuts off the command of `rnsnet run`, whose bytes are nobody's business here.
//! Every word is checked against the option table, so that refusals are worded by us.
//! It gives no value a meaning.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use super::options::{HELP, Job, Kind, OptionSpec};
use super::{UsageError, VerbName};

/// What a command line comes to after the first stage.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Normalised {
    Help,
    Version,
    Words(Words),
}

/// Whose options are understood, and where they may stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syntax<'a> {
    pub(crate) options: &'static [OptionSpec],
    pub(crate) job: Job,
    /// Words that come first or are no verbs.
    pub(crate) verbs: &'a [VerbName],
}

/// A command line with every option in one spelling.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// The options with their values, in order.
    pub(crate) options: Vec<(&'static OptionSpec, Option<String>)>,
    /// What is no option; always empty for `rnsnet run`.
    pub(crate) positionals: Vec<String>,
    /// Whether the first positional stands before any `--`.
    pub(crate) bare: bool,
    /// The command of `rnsnet run`.
    pub(crate) command: Vec<OsString>,
}

impl Words {
    /// The words for argh: no positional can be taken for an option.
    pub(crate) fn for_argh(&self) -> Vec<&str> {
        let options = self.options.iter();
        let options =
            options.flat_map(|(spec, value)| [spec.long].into_iter().chain(value.as_deref()));
        let positionals = self.positionals.iter().map(String::as_str);
        options.chain(["--"]).chain(positionals).collect()
    }

    /// The options, in order.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &'static OptionSpec> {
        self.options.iter().map(|(option, _)| *option)
    }

    fn push(
        &mut self,
        option: &'static OptionSpec,
        value: Option<String>,
    ) -> Result<(), UsageError> {
        if !matches!(option.kind, Kind::List(_)) && self.seen().any(|seen| seen == option) {
            return Err(UsageError::Repeated { option: option.long });
        }
        self.options.push((option, value));
        Ok(())
    }
}

impl Syntax<'_> {
    /// The option with this long name (`--mtu`), whatever its scope.
    fn by_long(self, name: &str) -> Option<&'static OptionSpec> {
        self.find(|option| option.long == name)
    }

    /// The option with this short name (`p`), whatever its scope.
    fn by_short(self, name: char) -> Option<&'static OptionSpec> {
        self.find(|option| option.short == Some(name))
    }

    fn find(self, is_it: impl Fn(&OptionSpec) -> bool) -> Option<&'static OptionSpec> {
        self.options.iter().find(|option| is_it(option)).or_else(|| is_it(&HELP).then_some(&HELP))
    }
}

/// Brings the words after `rnsnet`, `rnsnet run` or a verb into one spelling.
///
/// # Errors
/// Unknown, misplaced, repeated or incomplete options, and words that are not UTF-8.
pub(crate) fn normalise(
    syntax: Syntax<'_>,
    args: &mut dyn Iterator<Item = OsString>,
) -> Result<Normalised, UsageError> {
    let job = syntax.job;
    let mut words = Words::default();
    let mut args = args.peekable();
    while let Some(word) = args.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            match job {
                Job::Attach | Job::Verb => {
                    for word in args {
                        words.positionals.push(text(word)?);
                    }
                }
                Job::Run => words.command.extend(args),
            }
            break;
        }
        if bytes.len() < 2 || !bytes.starts_with(b"-") {
            match job {
                Job::Attach | Job::Verb => {
                    let word = text(word)?;
                    if words.positionals.is_empty() {
                        words.bare = true;
                        misplaced(syntax, &word)?;
                    }
                    words.positionals.push(word);
                }
                Job::Run => {
                    words.command.push(word);
                    words.command.extend(args);
                    break;
                }
            }
            continue;
        }
        for (option, inline) in split(syntax, &text(word)?)? {
            match option.kind {
                Kind::Help => return Ok(Normalised::Help),
                Kind::Version => return Ok(Normalised::Version),
                Kind::Switch => words.push(option, None)?,
                Kind::Value(value) | Kind::List(value) => {
                    let given = match inline {
                        Some(inline) => inline,
                        None => following(option, value, args.next())?,
                    };
                    words.push(option, Some(given))?;
                }
            }
        }
    }
    Ok(Normalised::Words(words))
}

/// Refuses a verb that follows an option.
fn misplaced(syntax: Syntax<'_>, word: &str) -> Result<(), UsageError> {
    match syntax.job {
        Job::Attach if word == "run" => Err(UsageError::RunNotFirst),
        Job::Attach if syntax.verbs.iter().any(|verb| verb.is(word)) => {
            Err(UsageError::VerbNotFirst { verb: word.to_owned() })
        }
        Job::Attach | Job::Run | Job::Verb => Ok(()),
    }
}

/// Splits one word that starts with a dash into its options, the last with the value that the
/// same word gives it.
fn split(
    syntax: Syntax<'_>,
    word: &str,
) -> Result<Vec<(&'static OptionSpec, Option<String>)>, UsageError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    if name.starts_with("--") {
        let option = in_scope(syntax, syntax.by_long(name), name)?;
        if value.is_some() && option.value().is_none() {
            return Err(UsageError::UnexpectedValue { option: option.long, word: word.to_owned() });
        }
        return Ok(vec![(option, value)]);
    }
    // `-mtu`: a long option with one dash would be read as a bundle and refused in riddles.
    if let Some(option) = syntax.by_long(&format!("-{name}")) {
        return Err(UsageError::UnknownOption {
            option: name.to_owned(),
            suggestion: Some(option.long),
            list: list(syntax.job),
        });
    }
    let mut found = Vec::new();
    let mut rest = word.get(1..).unwrap_or_default().chars();
    while let Some(letter) = rest.next() {
        if letter == '=' && !found.is_empty() {
            let (option, _): &(&OptionSpec, _) = &found[found.len() - 1];
            return Err(UsageError::UnexpectedValue { option: option.long, word: word.to_owned() });
        }
        let option = in_scope(syntax, syntax.by_short(letter), &format!("-{letter}"))?;
        if option.value().is_some() {
            let value = rest.as_str();
            let value =
                value.strip_prefix('=').or(if value.is_empty() { None } else { Some(value) });
            found.push((option, value.map(str::to_owned)));
            break;
        }
        found.push((option, None));
    }
    Ok(found)
}

/// Refuses an option that is unknown, or not one of this job.
fn in_scope(
    syntax: Syntax<'_>,
    option: Option<&'static OptionSpec>,
    typed: &str,
) -> Result<&'static OptionSpec, UsageError> {
    let Some(option) = option else {
        return Err(UsageError::UnknownOption {
            option: typed.to_owned(),
            suggestion: nearest(syntax, typed),
            list: list(syntax.job),
        });
    };
    if option.scope.covers(syntax.job) {
        return Ok(option);
    }
    Err(match syntax.job {
        Job::Attach | Job::Verb => UsageError::OnlyForRun { option: option.long },
        Job::Run => UsageError::NotForRun { option: option.long },
    })
}

/// What lists the options of a job.
fn list(job: Job) -> &'static str {
    match job {
        Job::Run => "rnsnet run --help",
        Job::Attach | Job::Verb => "rnsnet --help",
    }
}

/// Takes the word after an option as its value.
fn following(
    option: &'static OptionSpec,
    value: &'static str,
    word: Option<OsString>,
) -> Result<String, UsageError> {
    let Some(word) = word else {
        return Err(UsageError::MissingValue { option: option.long, value });
    };
    let word = text(word)?;
    // A forgotten value must not swallow the next option; -1 is a wrong number, not an option.
    let mut chars = word.chars();
    if chars.next() == Some('-') && chars.next().is_some_and(|next| !next.is_ascii_digit()) {
        return Err(UsageError::OptionAsValue { option: option.long, value, word });
    }
    Ok(word)
}

/// The word as text.
fn text(word: OsString) -> Result<String, UsageError> {
    word.into_string()
        .map_err(|word| UsageError::NotUtf8 { word: word.to_string_lossy().into_owned() })
}

/// The long option that `typed` is most likely meant to be, if any is close.
fn nearest(syntax: Syntax<'_>, typed: &str) -> Option<&'static str> {
    let typed = typed.to_ascii_lowercase();
    let stem = typed.strip_prefix("--")?;
    // A short option with one dash too many.
    if let (Some(letter), true) = (stem.chars().next(), stem.len() == 1) {
        let option = syntax.by_short(letter)?;
        return option.scope.covers(syntax.job).then_some(option.long);
    }
    let options = syntax.options.iter();
    let mut names = options.filter(|o| o.scope.covers(syntax.job)).map(|o| o.long);
    let stems = names.clone().filter_map(|name| name.strip_prefix("--"));
    let close = closest(stem, stems);
    let close = names.clone().find(|name| name.strip_prefix("--") == close);
    // Half an option's name: `--pub`, as getopt would take it.
    close.or_else(|| {
        let mut longer =
            names.by_ref().filter(|name| !stem.is_empty() && name[2..].starts_with(stem));
        let first = longer.next();
        if longer.next().is_some() { None } else { first }
    })
}

/// The one of `names` that `typed` is most likely meant to be, if any is close.
pub(crate) fn closest<'n>(typed: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3).min(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters to insert, drop, replace or swap with their neighbour to get from `a` to `b`
/// (optimal string alignment). More than two different lengths away is `usize::MAX`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::OPTIONS;
    use std::os::unix::ffi::OsStringExt as _;

    const ATTACH: Syntax<'_> = Syntax { options: OPTIONS, job: Job::Attach, verbs: &[VERSION] };
    const RUN: Syntax<'_> = Syntax { options: OPTIONS, job: Job::Run, verbs: &[VERSION] };
    const VERSION: VerbName = VerbName { name: "version", aliases: &[], about: "" };

    fn attach(args: &[&str]) -> Result<Normalised, UsageError> {
        normalise(ATTACH, &mut args.iter().map(OsString::from))
    }

    fn run(args: &[&str]) -> Result<Normalised, UsageError> {
        normalise(RUN, &mut args.iter().map(OsString::from))
    }

    /// The words that argh would see.
    fn argh(result: Result<Normalised, UsageError>) -> String {
        match result.expect("accepted") {
            Normalised::Words(words) => words.for_argh().join(" "),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_spelling_comes_to_one() {
        let table: &[(&[&str], &str)] = &[
            (&["4711"], "-- 4711"),
            (&["--mtu=1500", "4711"], "--mtu 1500 -- 4711"),
            (&["--mtu", "1500", "4711"], "--mtu 1500 -- 4711"),
            (&["4711", "--mtu", "1500"], "--mtu 1500 -- 4711"),
            (&["4711", "-d", "eth1"], "--detach -- 4711 eth1"),
            (&["-p", "1:2", "4711"], "--publish 1:2 -- 4711"),
            (&["-p1:2", "4711"], "--publish 1:2 -- 4711"),
            (&["-p=1:2", "4711"], "--publish 1:2 -- 4711"),
            (&["--publish=1:2", "-p3:4", "4711"], "--publish 1:2 --publish 3:4 -- 4711"),
            (&["-dp1:2", "4711"], "--detach --publish 1:2 -- 4711"),
            (&["-dp", "1:2", "4711"], "--detach --publish 1:2 -- 4711"),
            (&["-dr3", "-e4", "4711"], "--detach --ready-fd 3 --exit-fd 4 -- 4711"),
            (&["--pcap=a=b", "4711"], "--pcap a=b -- 4711"),
            (&["--pcap=--mtu", "4711"], "--pcap --mtu -- 4711"),
            (&["--pcap=", "4711"], "--pcap  -- 4711"),
            (&["-r", "-1", "4711"], "--ready-fd -1 -- 4711"),
            (&["-d", "--", "-4711", "--mtu"], "--detach -- -4711 --mtu"),
            (&["--", "run"], "-- run"),
            (&["4711", "run"], "-- 4711 run"),
            (&["-"], "-- -"),
            (&[""], "-- "),
        ];
        for (typed, expected) in table {
            assert_eq!(argh(attach(typed)), *expected, "{typed:?}");
        }
    }

    #[test]
    fn a_command_keeps_its_words_and_bytes() {
        let table: &[(&[&str], &str, &[&str])] = &[
            (&["sh", "-c", "id"], "--", &["sh", "-c", "id"]),
            (&["--", "sh", "--help"], "--", &["sh", "--help"]),
            (&["-p1:2", "sh", "-p3:4"], "--publish 1:2 --", &["sh", "-p3:4"]),
            (&["--", "--mtu", "--", "x"], "--", &["--mtu", "--", "x"]),
            (&["sh", "--", "x"], "--", &["sh", "--", "x"]),
            (&[], "--", &[]),
        ];
        for (typed, expected, command) in table {
            let Normalised::Words(words) = run(typed).unwrap() else { panic!("{typed:?}") };
            assert_eq!(words.for_argh().join(" "), *expected, "{typed:?}");
            assert_eq!(words.command, *command, "{typed:?}");
        }
        let bytes = OsString::from_vec(vec![b'a', 0xff]);
        let Normalised::Words(words) = normalise(RUN, &mut [bytes.clone()].into_iter()).unwrap()
        else {
            panic!("words")
        };
        assert_eq!(words.command, [bytes]);
    }

    #[test]
    fn help_and_version_win_where_they_stand() {
        for typed in [["--help", "--bad"], ["-h", "--bad"], ["-dh", ""], ["4711", "-h"]] {
            assert_eq!(attach(&typed), Ok(Normalised::Help), "{typed:?}");
        }
        assert_eq!(attach(&["-V"]), Ok(Normalised::Version));
        assert_eq!(attach(&["--version"]), Ok(Normalised::Version));
        assert_eq!(run(&["-h"]), Ok(Normalised::Help));
        assert_eq!(run(&["--version"]), Ok(Normalised::Version));
        assert!(attach(&["--bad", "--help"]).is_err());
        assert!(attach(&["--", "--help"]).is_ok_and(|n| n != Normalised::Help));
    }

    #[test]
    fn refusals() {
        let table: &[(&[&str], &str)] = &[
            (&["--publsh", "1:2"], r#"unknown option "--publsh": did you mean --publish?"#),
            (&["--pubilsh"], r#"unknown option "--pubilsh": did you mean --publish?"#),
            (&["--Publish=1:2"], r#"unknown option "--Publish": did you mean --publish?"#),
            (&["--publ"], r#"unknown option "--publ""#),
            (&["--ready_fd=3"], r#"unknown option "--ready_fd": did you mean --ready-fd?"#),
            (&["--host"], r#"unknown option "--host": did you mean --host-access?"#),
            (&["-mtu", "1500"], r#"unknown option "-mtu": did you mean --mtu?"#),
            (&["-mtu=1500"], r#"unknown option "-mtu": did you mean --mtu?"#),
            (&["--frobnicate"], r#"unknown option "--frobnicate""#),
            (&["--="], r#"unknown option "--""#),
            (&["---"], r#"unknown option "---""#),
            (&["--p", "1:2"], r#"unknown option "--p": did you mean --publish?"#),
            (&["--x"], r#"unknown option "--x""#),
            (&["-x"], r#"unknown option "-x""#),
            (&["-dx"], r#"unknown option "-x""#),
            (&["-1"], r#"unknown option "-1""#),
            (&["--\n"], r#"unknown option "--\n""#),
            (&["--detach=yes"], r#"--detach takes no value, but got "--detach=yes""#),
            (&["-d=yes"], r#"--detach takes no value, but got "-d=yes""#),
            (&["--help=x"], r#"--help takes no value, but got "--help=x""#),
            (&["--mtu"], "--mtu needs a value: --mtu BYTES"),
            (&["-p"], "--publish needs a value: --publish SPEC"),
            (
                &["--pcap", "-d", "4711"],
                r#"--pcap needs a value: --pcap FILE; to give it "-d", write --pcap=-d"#,
            ),
            (
                &["-p", "--", "4711"],
                r#"--publish needs a value: --publish SPEC; to give it "--", write --publish=--"#,
            ),
            (&["--mtu=1500", "--mtu", "1500"], "--mtu is given twice"),
            (&["-dd"], "--detach is given twice"),
            (&["--hostname=x"], "--hostname is an option of rnsnet run, not of rnsnet PID"),
            (&["-d", "version"], "version comes first: rnsnet version [OPTIONS]"),
            (&["-d", "run", "sh"], "run comes first: rnsnet run [OPTIONS] [--] CMD [ARG...]"),
        ];
        for (typed, expected) in table {
            assert_eq!(attach(typed).unwrap_err().to_string(), *expected, "{typed:?}");
        }
        let table: &[(&[&str], &str)] = &[
            (&["-d", "sh"], "--detach is not an option of rnsnet run"),
            (&["--netns-type=pid"], "--netns-type is not an option of rnsnet run"),
            (&["--hostnme=x"], r#"unknown option "--hostnme": did you mean --hostname?"#),
            (&["--detahc"], r#"unknown option "--detahc""#),
        ];
        for (typed, expected) in table {
            assert_eq!(run(typed).unwrap_err().to_string(), *expected, "{typed:?}");
        }
    }

    #[test]
    fn text_must_be_text() {
        let table: &[(&[&[u8]], &str)] = &[
            (&[b"\xff"], "not UTF-8: \"\u{fffd}\""),
            (&[b"--pcap=\xff"], "not UTF-8: \"--pcap=\u{fffd}\""),
            (&[b"--pcap", b"a\xffb"], "not UTF-8: \"a\u{fffd}b\""),
            (&[b"--", b"\xff"], "not UTF-8: \"\u{fffd}\""),
        ];
        for (typed, expected) in table {
            let mut args = typed.iter().map(|word| OsString::from_vec(word.to_vec()));
            let error = normalise(ATTACH, &mut args).unwrap_err();
            assert_eq!(error.to_string(), *expected, "{typed:?}");
        }
    }
}
