//! The manual page, `docs/rnsnet.1`, made from the tables that the help is made of.
//!
//! Only the tests need this: one writes the page with `UPDATE_GOLDEN=1` and otherwise fails where
//! the page is not what the tables say. Read first: man(7) of mandoc.

use super::{Entry, VERBS, Verb};
use crate::cli::help::{ABOUT_ATTACH, ABOUT_RUN, EXAMPLES_ATTACH, EXAMPLES_RUN};
use crate::cli::options::{Group, HELP, Job, OPTIONS, OptionSpec};
use crate::config::Limits;
use crate::config::limits::Bound;

/// The whole page.
fn page() -> String {
    let mut page = Page::default();
    page.line(".\\\" Made from the option tables: UPDATE_GOLDEN=1 cargo test --lib manual");
    page.line(&format!(
        ".TH RNSNET 1 \"\" \"rnsnet {}\" \"User Commands\"",
        env!("CARGO_PKG_VERSION")
    ));
    page.heading("NAME");
    page.line("rnsnet \\- the network of containers, without root");
    page.heading("SYNOPSIS");
    for usage in [
        "rnsnet [OPTIONS] PID|NETNS_PATH [IFNAME]",
        "rnsnet run [OPTIONS] [--] CMD [ARG...]",
        "rnsnet VERB [OPTIONS] [ARG...]",
        "rnsnet --help | --version",
    ] {
        page.usage(usage);
    }
    page.heading("DESCRIPTION");
    page.text(ABOUT_ATTACH);
    page.text(DESCRIPTION);
    page.text(ABOUT_RUN);
    page.heading("OPTIONS");
    page.text("Of rnsnet PID and rnsnet run, unless only one of them is named.");
    for group in Group::ALL {
        let options: Vec<_> = OPTIONS.iter().filter(|option| option.group == group).collect();
        if !options.is_empty() {
            page.line(&format!(".SS {}", escaped(group.heading())));
        }
        for option in options {
            let only = match (option.scope.covers(Job::Attach), option.scope.covers(Job::Run)) {
                (true, false) => " (rnsnet PID only)",
                (false, true) => " (rnsnet run only)",
                _ => "",
            };
            page.option(option, only);
        }
    }
    page.heading("VERBS");
    page.text("rnsnet VERB --help tells the same of one verb.");
    for entry in VERBS {
        match entry {
            Entry::Verb(verb) => page.verb(verb.name, verb),
            Entry::Group(group) => {
                for verb in group.verbs {
                    page.verb(&format!("{} {}", group.name, verb.name), verb);
                }
            }
        }
    }
    page.heading("BOUNDS");
    page.text(BOUNDS);
    for Bound { name, default, range: (least, most), what, then } in Limits::TABLE {
        page.term(&format!("{name}={default}"), &format!("{what}: {then}. {least} to {most}."));
    }
    for (heading, rows) in [("EXIT STATUS", STATUS), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)]
    {
        page.heading(heading);
        for (term, text) in rows {
            page.term(term, text);
        }
    }
    page.heading("EXAMPLES");
    // One of `rnsnet run` is in both lists.
    let of_run = EXAMPLES_RUN
        .iter()
        .filter(|(command, _)| EXAMPLES_ATTACH.iter().all(|(other, _)| command != other));
    for (command, what) in EXAMPLES_ATTACH.iter().chain(of_run) {
        page.example(command, what);
    }
    page.heading("SEE ALSO");
    page.line(".BR podman (1),\n.BR network_namespaces (7),\n.BR user_namespaces (7)");
    page.0
}

/// A page as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        self.line(&format!(".SH {heading}"));
    }

    fn paragraph(&mut self) {
        // A heading begins one by itself.
        let last = self.0.lines().last().unwrap_or_default();
        if !last.starts_with(".SH") && !last.starts_with(".SS") {
            self.line(".PP");
        }
    }

    /// A paragraph, a line for each sentence.
    fn text(&mut self, text: &str) {
        self.paragraph();
        self.sentences(text);
    }

    fn sentences(&mut self, text: &str) {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.line(&escaped(&text).replace(". ", ".\n"));
    }

    /// A command line, with its first words in bold.
    fn usage(&mut self, usage: &str) {
        let (name, rest) = usage.split_once([' ']).unwrap_or((usage, ""));
        self.paragraph();
        self.line(&format!(".B {}\n{}", escaped(name), escaped(rest)));
    }

    fn term(&mut self, term: &str, text: &str) {
        self.line(&format!(".TP\n.B {}", escaped(term)));
        self.sentences(text);
    }

    fn option(&mut self, option: &OptionSpec, only: &str) {
        let short = option.short.map_or_else(String::new, |short| format!("-{short}, "));
        let names = format!("\\fB{}\\fR", escaped(&format!("{short}{}", option.long)));
        let value =
            option.value().map_or_else(String::new, |value| format!(" \\fI{}\\fR", escaped(value)));
        self.line(&format!(".TP\n{names}{value}{}", escaped(only)));
        self.sentences(option.help);
    }

    fn verb(&mut self, name: &str, verb: &Verb) {
        let arguments: String = verb
            .arguments
            .iter()
            .map(|argument| format!(" {}", argument.count.usage(argument.name)))
            .collect();
        self.line(&format!(".SS \"rnsnet {}\"", escaped(&format!("{name} [OPTIONS]{arguments}"))));
        self.sentences(&format!("{}. {}", verb.about, verb.more));
        for argument in verb.arguments {
            self.term(argument.name, argument.help);
        }
        for option in verb.options.iter().filter(|option| option.long != HELP.long) {
            self.option(option, "");
        }
        for (command, what) in verb.examples {
            self.example(command, what);
        }
    }

    fn example(&mut self, command: &str, what: &str) {
        self.text(what);
        self.line(&format!(".RS\n.EX\n{}\n.EE\n.RE", escaped(command)));
    }
}

/// Text as it is: no escape, no request, dashes that can be copied.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\u{2013}', "\\(en");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

const DESCRIPTION: &str = "\
It puts a TAP device into the network namespace, speaks TCP/IP with the container in user space, and \
carries what it says by ordinary sockets of the calling user. It stays in the foreground and ends \
with the container. If it is killed, the container keeps its interface, and rnsnet reattach or the \
same command takes it over. Started by systemd with Type=notify, it says when the network works, and reads resolv.conf again on SIGHUP. \
Called slirp4netns or pasta, it behaves as that program.";

const BOUNDS: &str = "\
What --limit changes, and network create --opt limit.NAME=N for a named network; groups and containers \
are of named networks alone. Each time that one is met is counted, as rnsnet stats --format \
{{json .Limits}} shows.";

const STATUS: &[(&str, &str)] = &[
    ("0", "The container has ended, or rnsnet was asked to end by a signal or by --exit-fd."),
    ("1", "It failed. One line on standard error says what, often another how to mend it."),
    ("2", "The command line makes no sense."),
    (
        "125, 126, 127",
        "Of rnsnet run: rnsnet failed; the command cannot be executed; there is no such command. \
         Any other status is the command's own.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "NOTIFY_SOCKET",
        "Where a service manager is told of readiness, of resolv.conf being read again, and of the end, \
         sd_notify(3). SIGHUP then has it read again, rather than end rnsnet.",
    ),
    ("RNSNET_DEFAULT_BIND", "What --default-bind says where that is not given."),
    (
        "XDG_RUNTIME_DIR",
        "Where rnsnet keeps what other calls need to know of a running one, if it is a directory of \
         the calling user's. Default: /run/user/UID or else a directory of one's own in /tmp. It \
         serves without, too.",
    ),
];

const FILES: &[(&str, &str)] = &[
    ("/dev/net/tun", "Must be readable and writable."),
    ("/etc/resolv.conf", "The servers that DNS queries are forwarded to. Changes are followed."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rnsnet.1");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == page(), "UPDATE_GOLDEN=1 cargo test --lib manual writes docs/rnsnet.1");
    }

    #[test]
    fn every_option_and_verb_is_in_the_page() {
        let page = page();
        for option in OPTIONS {
            assert!(page.contains(&escaped(option.long)), "{}", option.long);
        }
        for entry in VERBS {
            let (group, verbs) = match entry {
                Entry::Verb(verb) => ("", std::slice::from_ref(verb)),
                Entry::Group(group) => (group.name, group.verbs),
            };
            for verb in verbs {
                let name = format!("rnsnet {group} {}", verb.name).replace("  ", " ");
                assert!(page.contains(&escaped(&name)), "{name}");
            }
        }
    }

    #[test]
    fn no_text_is_a_request() {
        assert_eq!(escaped(".SH x"), "\\&.SH x");
        assert_eq!(escaped("--a\\b"), "\\-\\-a\\eb");
        // Sentences start lines, too.
        let known = ["\"", "TH", "SH", "SS", "PP", "TP", "B ", "BR", "RS", "RE", "EX", "EE"];
        for line in page().lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(
                known.iter().any(|name| line[1..].starts_with(name) || line.starts_with(".\\\"")),
                "{line}"
            );
        }
    }
}
