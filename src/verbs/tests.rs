//! Tests of the verbs' framework with a table of its own, and of what every verb must have.

use super::*;
use crate::cli::options::{Kind, VERB};
use crate::error::{self, report};

/// Says what it was told.
#[derive(Debug)]
struct Done(String);

impl Action for Done {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        Err(UsageError::Parser { message: self.0 }.into())
    }
}

const LIST: Verb = Verb {
    name: "ls",
    aliases: &["list"],
    about: "List things",
    more: "",
    arguments: &[],
    options: &[
        OptionSpec { long: "--quiet", short: Some('q'), help: "Ids only.", ..VERB },
        OptionSpec {
            long: "--filter",
            short: Some('f'),
            kind: Kind::List("KEY=VALUE"),
            help: "Only those.",
            ..VERB
        },
        OptionSpec { long: "--format", kind: Kind::Value("FORMAT"), help: "How.", ..VERB },
    ],
    examples: &[("rnsnet thing ls", "All of them.")],
    parse: |typed| {
        let filters: Vec<&str> = typed.values("--filter").collect();
        let text = format!("{} {filters:?} {:?}", typed.switch("--quiet"), typed.value("--format"));
        Ok(Box::new(Done(text)))
    },
};

const CONNECT: Verb = Verb {
    name: "connect",
    aliases: &[],
    about: "Connect things",
    more: "Things may be connected more than once.",
    arguments: &[
        Argument { name: "THING", count: Count::One, help: "The thing." },
        Argument { name: "PORT", count: Count::Optional, help: "Where." },
    ],
    options: &[],
    examples: &[("rnsnet thing connect a", "As it says.")],
    parse: |typed| Ok(Box::new(Done(format!("{:?} {:?}", typed.argument(0), typed.argument(1))))),
};

const REMOVE: Verb = Verb {
    name: "rm",
    arguments: &[Argument { name: "THING", count: Count::OneOrMore, help: "The things." }],
    parse: |typed| Ok(Box::new(Done(format!("{:?}", typed.arguments())))),
    ..CONNECT
};

const TABLE: &[Entry] = &[
    Entry::Verb(&LIST),
    Entry::Group(&Group {
        name: "thing",
        aliases: &["th"],
        about: "Things",
        verbs: &[&LIST, &CONNECT, &REMOVE],
    }),
];

fn understood(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace().map(OsString::from);
    match parse_by(TABLE, &Environment::default(), &mut words) {
        Ok(Command::Verb(action)) => match action.run() {
            Err(Error::Usage(UsageError::Parser { message })) => Ok(message),
            other => panic!("{other:?}"),
        },
        Ok(Command::Main(command)) => match *command {
            cli::Command::Help(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
            _ => Err("no verb".to_owned()),
        },
        Err(error) => Err(report(&Error::from(error))),
    }
}

#[test]
fn words_after_a_verb_are_its_own() {
    for (line, expected) in [
        ("ls", "false [] None"),
        ("list -q", "true [] None"),
        ("thing ls -qf a=b --filter=c --format json", r#"true ["a=b", "c"] Some("json")"#),
        ("th connect a", r#"Some("a") None"#),
        ("thing connect a -- -b", r#"Some("a") Some("-b")"#),
        ("thing rm a b c", r#"["a", "b", "c"]"#),
        ("thing --help", "rnsnet thing: Things."),
        ("thing connect -h", "rnsnet thing connect: Connect things."),
        ("ls -qh", "rnsnet ls: List things."),
    ] {
        assert_eq!(understood(line).as_deref(), Ok(expected), "{line}");
    }
}

#[test]
fn refusals_name_the_verb() {
    for (line, expected) in [
        ("4711", "no verb"),
        ("/run/ls", "no verb"),
        ("./ls", "no verb"),
        ("ls --qiet", "rnsnet: ls: unknown option \"--qiet\": did you mean --quiet?"),
        ("ls --format", "rnsnet: ls: --format needs a value: --format FORMAT"),
        ("ls -q -q", "rnsnet: ls: --quiet is given twice"),
        (
            "ls --mtu=1500",
            "rnsnet: ls: unknown option \"--mtu\"\nhint: rnsnet ls --help lists its options",
        ),
        ("ls a", "rnsnet: ls: unexpected argument \"a\"\nhint: rnsnet ls --help has examples"),
        (
            "thing connect",
            "rnsnet: thing connect: THING is missing\n\
             hint: rnsnet thing connect THING [PORT], as in: rnsnet thing connect a",
        ),
        (
            "th rm",
            "rnsnet: thing rm: THING is missing\n\
             hint: rnsnet thing rm THING..., as in: rnsnet thing connect a",
        ),
        (
            "thing connect a b c",
            "rnsnet: thing connect: unexpected argument \"c\"\n\
             hint: rnsnet thing connect --help has examples",
        ),
        ("thing", "rnsnet: thing: the verb is missing\nhint: rnsnet thing --help lists the verbs"),
        ("thing conect", "rnsnet: thing: unknown verb \"conect\": did you mean connect?"),
        (
            "thing frobnicate",
            "rnsnet: thing: unknown verb \"frobnicate\"\nhint: rnsnet thing --help lists the verbs",
        ),
    ] {
        assert_eq!(understood(line), Err(expected.to_owned()), "{line}");
    }
}

// What new users have typed.
#[test]
fn a_slip_is_answered_by_what_to_type() {
    let publish = "rnsnet publish CTR SPEC, as in: rnsnet publish web 8080:80";
    let run = "rnsnet run --help lists the options";
    for (line, told, hint) in [
        ("publish 80:80 web", "invalid SPEC \"web\"", publish),
        ("publish 80:80", "SPEC is missing", publish),
        ("unpublish 80 web", "invalid SPEC \"web\"", "rnsnet unpublish CTR SPEC"),
        ("port 80 web", "invalid PORT \"web\"", "rnsnet port CTR [PORT[/PROTO]]"),
        ("publish -p 80:80 web", "unknown option \"-p\"", "rnsnet publish --help lists"),
        ("update web", "an option is missing", "rnsnet update --help has examples"),
        ("update --log-file x web", "--log-file does nothing without --log-level LEVEL", ""),
        ("update --log-level info --log-file - web", "a file of that name is ./-", ""),
        ("update --log-level 5 web", "expected error, warn, info, debug or trace", ""),
        ("dns add foo 192.0.2.1", "ADDRESS is missing", "rnsnet dns add NETWORK NAME ADDRESS"),
        ("network connect n1", "CTR is missing", "rnsnet network connect NETWORK CTR"),
        ("run --rm -it alpine sh", "unknown option \"--rm\"", run),
        ("run -it sh", "unknown option \"-i\"", run),
        ("exec web sh", "\"exec\" is neither", "lists the verbs"),
        ("stop web", "\"stop\" is neither a PID nor a path nor a verb: did you mean detach?", ""),
        ("rm -f web", "unknown option \"-f\"", "rnsnet --help"),
        ("disconnect n1 web", "did you mean network disconnect?", "lists the verbs"),
        ("list", "did you mean ps?", "lists the verbs"),
        ("-p 80:80 web", "\"web\" is neither", "podman inspect -f '{{.State.Pid}}' web"),
        ("help nosuch", "help: unknown verb \"nosuch\"", "rnsnet --help lists the verbs"),
        ("help network nosuch", "network: unknown verb \"nosuch\"", "rnsnet network --help"),
        ("help pubish", "help: unknown verb \"pubish\": did you mean publish?", ""),
    ] {
        let words = line.split(' ').map(OsString::from);
        let error = parse(&environment(Environment::default()), words).unwrap_err();
        let report = report(&Error::from(error));
        assert!(report.contains(told) && report.contains(hint), "{line}: {report}");
    }
    for line in ["help", "help run", "help --help", "help network ls", "help publish"] {
        let words = line.split(' ').map(OsString::from);
        assert!(parse(&environment(Environment::default()), words).is_ok(), "{line}");
    }
}

#[test]
fn what_a_number_may_be_is_in_the_help() {
    for line in [
        "--mtu 1 4711",
        "--rate 1 4711",
        "--dns-cache 99999999 4711",
        "network connect --rate 1 n1 web",
        "network connect --gw-priority 1001 n1 web",
        "network create --rate 1 n1",
        "network update --rate 1 n1",
        "update --rate 1 web",
    ] {
        let read = |line: &str| {
            let words = line.split(' ').map(OsString::from);
            parse(&environment(Environment::default()), words)
        };
        let error = error::reasons(&read(line).unwrap_err());
        let words: Vec<&str> = error.split(' ').collect();
        let to = words.iter().position(|word| *word == "to").expect(&error);
        let range = words[to - 1..=to + 1].join(" ");
        let range = range.trim_end_matches(';').to_owned();
        let verb: Vec<&str> = line.split(' ').take_while(|word| !word.starts_with('-')).collect();
        let help = [&verb[..], &["--help"]].concat().join(" ");
        let Ok(Command::Main(command)) = read(&help) else { panic!("{help}") };
        let cli::Command::Help(text) = *command else { panic!("{help}") };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&range), "{line}: {range}");
    }
}

#[test]
fn a_group_lists_its_verbs_and_a_verb_its_arguments() {
    let Entry::Group(group) = TABLE[1] else { panic!("a group") };
    assert_eq!(
        help::group(group),
        "rnsnet thing: Things.\n\n\
         Usage: rnsnet thing VERB [OPTIONS]\n\n\
         Verbs:\n  ls              List things\n  connect         Connect things\n  \
         rm              Connect things\n\n\
         rnsnet thing VERB --help says more about a verb.\n\n\
         Examples:\n  rnsnet thing ls\n      All of them.\n  rnsnet thing connect a\n      \
         As it says.\n  rnsnet thing connect a\n      As it says.\n"
    );
    assert_eq!(
        help::verb("thing connect", &CONNECT),
        "rnsnet thing connect: Connect things.\n\n\
         Things may be connected more than once.\n\n\
         Usage: rnsnet thing connect [OPTIONS] THING [PORT]\n\n  \
         THING           The thing.\n  PORT            Where.\n\n\
         Options:\n  -h, --help              Print this help.\n\n\
         Examples:\n  rnsnet thing connect a\n      As it says.\n"
    );
}

/// Every verb with its whole name.
fn all() -> Vec<(String, &'static Verb)> {
    let mut all = Vec::new();
    for entry in VERBS {
        match entry {
            Entry::Verb(verb) => all.push((verb.name.to_owned(), *verb)),
            Entry::Group(group) => all.extend(
                group.verbs.iter().map(|verb| (format!("{} {}", group.name, verb.name), *verb)),
            ),
        }
    }
    all
}

#[test]
fn every_verb_has_a_help_that_fits_and_examples_that_work() {
    for (name, verb) in all() {
        let text = help::verb(&name, verb);
        for line in text.lines() {
            assert!(line.chars().count() <= 80 && line.trim_end() == line, "{name}: {line}");
        }
        assert!(!verb.about.ends_with('.'), "{name}");
        assert!(!verb.examples.is_empty(), "{name}");
        for (command, _) in verb.examples {
            assert!(command.starts_with(&format!("rnsnet {name}")), "{command}");
            // Up to where the shell takes over.
            let own = command.split(['|', '>']).next().unwrap_or_default();
            let quoted = own.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            });
            let parsed =
                parse(&environment(Environment::default()), quoted.skip(1).map(OsString::from));
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
    }
}

#[test]
fn options_of_a_verb_are_described_and_there_once() {
    for (name, verb) in all() {
        let longs: std::collections::BTreeSet<_> = verb.options.iter().map(|o| o.long).collect();
        let shorts: std::collections::BTreeSet<_> =
            verb.options.iter().filter_map(|o| o.short).collect();
        assert_eq!(longs.len(), verb.options.len(), "{name}");
        let with_short = verb.options.iter().filter(|option| option.short.is_some()).count();
        assert_eq!(shorts.len(), with_short, "{name}");
        for option in verb.options {
            assert!(option.help.ends_with('.'), "{name} {}", option.long);
            assert!(option.long.starts_with("--") && !shorts.contains(&'h'), "{name}");
        }
    }
}

#[test]
fn no_verb_is_a_pid_a_path_or_another_verb() {
    let mut names = std::collections::BTreeSet::new();
    for entry in VERBS {
        let VerbName { name, .. } = entry.name();
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        assert!(names.insert(name) && !matches!(name, "run" | "help"));
    }
}
