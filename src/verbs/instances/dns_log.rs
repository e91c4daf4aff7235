//! `rnsnet dns log`: what containers ask the DNS forwarder, and what it answers.

use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value as Json, json};

use super::super::{Action, Typed, Verb};
use super::events::{SINCE, since};
use super::{FORMAT, WHOM, format, number, print_line, print_list, text};
use crate::cli::UsageError;
use crate::cli::options::{OptionSpec, VERB};
use crate::client::{self, ClientError, Instance, Line};
use crate::error::Error;
use crate::network::when::rfc3339;
use crate::output::{Column, Format, Value};
use crate::sorted::SortedMap;

pub(in crate::verbs) const LOG: Verb = Verb {
    name: "log",
    aliases: &[],
    about: "List what containers have looked up",
    more: "As far as it is remembered: 256 answers of a network, or as many as --limit dns-log says. RESULT \
           is the response code, ANSWER the first address in it. FROM is who knew: names of the network, \
           cache, stale (a server's once, beyond its time), the server, or nobody; a rule or the \
           forwarder itself may have refused. -f has a line of text for each, or what --format says.",
    arguments: &[WHOM],
    options: &[
        OptionSpec {
            long: "--follow",
            short: Some('f'),
            help: "Go on with what is asked from now on, until Ctrl-C.",
            ..VERB
        },
        FORMAT,
        SINCE,
    ],
    examples: &[
        ("rnsnet dns log web", "What one asked."),
        ("rnsnet dns log -f --format json", "All, as they ask, an object for each line."),
    ],
    parse: |typed| Ok(Box::new(Log::read(typed)?)),
};

const COLUMNS: [Column; 14] = [
    ("Time", "TIME"),
    ("Container", "CONTAINER"),
    ("Type", "TYPE"),
    ("Name", "NAME"),
    ("Result", "RESULT"),
    ("Answer", "ANSWER"),
    ("From", "FROM"),
    ("Took", "TOOK"),
    ("Network", "NETWORK"),
    ("Number", "NUMBER"),
    ("Address", "ADDRESS"),
    ("Answers", "ANSWERS"),
    ("TimeMs", "TIME MS"),
    ("TookMs", "TOOK MS"),
];
const SHOWN: usize = 8;

#[derive(Debug)]
struct Log {
    whom: Vec<String>,
    follow: bool,
    format: Format,
    since: u64,
}

/// A network that is asked.
struct Source {
    instance: Instance,
    container: Option<String>,
    /// The number of the last lookup of each container.
    last: SortedMap<String, u64>,
}

/// What was told and is not printed yet, in the order of time.
type Told = Vec<Row>;

/// A lookup as the process of a network tells of it, a [`crate::control::Lookup`], and the network. It
/// is printed as it comes.
struct Row {
    lookup: Json,
    network: String,
}

impl Log {
    fn read(typed: &Typed) -> Result<Self, UsageError> {
        Ok(Self {
            whom: typed.arguments().to_vec(),
            follow: typed.switch("--follow"),
            format: format(typed)?,
            since: since(typed)?.unwrap_or_default(),
        })
    }

    fn print(&self, told: &mut Told) -> Result<(), Error> {
        told.retain(|row| row.number("time_ms") >= self.since);
        if self.follow && self.format == Format::Table {
            return told.drain(..).try_for_each(|row| Ok(print_line(&row.line())?));
        }
        let rows: Vec<Value> = told.drain(..).map(Row::fields).collect();
        if self.follow && rows.is_empty() {
            return Ok(());
        }
        print_list(&self.format, &rows, &COLUMNS, SHOWN)
    }
}

impl Action for Log {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let mut sources = Vec::new();
        let mut told = Told::new();
        for (instance, named) in client::whom(&self.whom)? {
            let container = named.container;
            let mut source = Source { instance, container, last: SortedMap::new() };
            match source.ask(self.follow, &mut told) {
                Ok(()) => sources.push(source),
                Err(error) if self.whom.is_empty() && source.instance.may_be_left_out(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let stdout = std::io::stdout();
        loop {
            // Some of it may have come with the answer.
            sources.retain_mut(|source| self.follow && source.hear(&mut told));
            self.print(&mut told)?;
            if sources.is_empty() {
                return Ok(0);
            }
            // Nothing is asked of the output but whether its reader has gone.
            let mut fds = vec![PollFd::new(stdout.as_fd(), PollFlags::empty())];
            let connections = sources.iter().map(|source| source.instance.connection.as_fd());
            fds.extend(connections.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.map_err(|errno| ClientError::System {
                    step: "wait for lookups",
                    source: errno.into(),
                })?,
            };
            if fds.first().and_then(PollFd::any) == Some(true) {
                return Ok(0);
            }
        }
    }
}

impl Source {
    /// Asks for what is remembered, or to be told of it and of what comes.
    fn ask(&mut self, follow: bool, told: &mut Told) -> Result<(), ClientError> {
        let asked = json!({"container": self.container, "follow": follow});
        let answer: Json = self.instance.connection.ask("dns-log", &asked)?;
        let lookups = answer.get("lookups").and_then(Json::as_array);
        lookups.into_iter().flatten().for_each(|lookup| self.take(lookup.clone(), told));
        Ok(())
    }

    /// Takes what has come; false at its end.
    fn hear(&mut self, told: &mut Told) -> bool {
        loop {
            match self.instance.connection.next_event() {
                Ok(Line::Event(lookup)) => self.take(lookup, told),
                Ok(Line::NotYet) => return true,
                Ok(Line::End) | Err(_) => return false,
            }
        }
    }

    /// Takes a lookup, and says so where some before it were forgotten.
    fn take(&mut self, lookup: Json, told: &mut Told) {
        let row = Row { lookup, network: self.instance.info.network.clone() };
        let (container, number) = (row.text("container"), row.number("number"));
        let last = self.last.or_default(container.clone());
        let forgotten = number.saturating_sub(*last + 1);
        if forgotten > 0 {
            log::info!("{forgotten} earlier answers to {container} are forgotten");
        }
        *last = number;
        // Those of other networks may be later.
        let time = row.number("time_ms");
        let place = told.partition_point(|other| other.number("time_ms") <= time);
        told.insert(place, row);
    }
}

impl Row {
    fn text(&self, field: &str) -> String {
        self.lookup.get(field).and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    fn number(&self, field: &str) -> u64 {
        self.lookup.get(field).and_then(Json::as_u64).unwrap_or_default()
    }

    /// `2026-11-22T13:00:00.123000000Z web A a.test NOERROR 192.0.2.9 (192.0.2.53, 1ms)`
    fn line(&self) -> String {
        let [container, kind, name, result, from] =
            ["container", "type", "name", "result", "from"].map(|field| self.text(field));
        let (time, answer, took) = (self.time(), self.answer(), self.number("took_ms"));
        let space = if answer.is_empty() { "" } else { " " };
        format!("{time} {container} {kind} {name} {result}{space}{answer} ({from}, {took}ms)")
    }

    fn time(&self) -> String {
        rfc3339(Duration::from_millis(self.number("time_ms")))
    }

    /// The first address, or how many records there are; and how many more.
    fn answer(&self) -> String {
        let address = self.text("address");
        match (address.as_str(), self.number("answers")) {
            ("", 0) => String::new(),
            ("", 1) => "1 record".to_owned(),
            ("", answers) => format!("{answers} records"),
            (_, 0 | 1) => address,
            (_, answers) => format!("{address} +{}", answers - 1),
        }
    }

    fn fields(self) -> Value {
        let as_text = |field| text(self.text(field));
        let as_number = |field| number(self.number(field));
        Value::Struct(vec![
            ("Time", text(self.time())),
            ("Container", as_text("container")),
            ("Type", as_text("type")),
            ("Name", as_text("name")),
            ("Result", as_text("result")),
            ("Answer", text(self.answer())),
            ("From", as_text("from")),
            ("Took", text(format!("{}ms", self.number("took_ms")))),
            ("Network", text(&self.network)),
            ("Number", as_number("number")),
            ("Address", as_text("address")),
            ("Answers", as_number("answers")),
            ("TimeMs", as_number("time_ms")),
            ("TookMs", as_number("took_ms")),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Lookup;

    fn row(address: Option<&str>, answers: u16) -> Row {
        let lookup = Lookup {
            time_ms: 1_795_246_800_123,
            container: "web".to_owned(),
            number: 1,
            name: "a.test".to_owned(),
            kind: "A".to_owned(),
            result: "NOERROR".to_owned(),
            from: "cache".to_owned(),
            answers,
            address: address.map(|address| address.parse().unwrap()),
            took_ms: 2,
        };
        Row { lookup: serde_json::to_value(lookup).unwrap(), network: "n1".to_owned() }
    }

    #[test]
    fn every_field_has_a_head_and_is_in_the_protocol() {
        let Value::Struct(fields) = row(Some("192.0.2.9"), 1).fields() else { panic!() };
        for ((field, value), (column, _)) in fields.iter().zip(COLUMNS) {
            assert_eq!(*field, column);
            assert!(!matches!(value, Value::Int(0)), "{field}");
            assert!(*value != text(""), "{field}");
        }
        assert_eq!(fields.len(), COLUMNS.len());
    }

    // D21
    #[test]
    fn an_answer_is_its_first_address_or_how_much_there_is() {
        let answers = [(None, 0), (None, 1), (None, 3), (Some("192.0.2.9"), 1), (Some("::1"), 3)];
        let told = answers.map(|(address, answers)| row(address, answers).answer());
        assert_eq!(told, ["", "1 record", "3 records", "192.0.2.9", "::1 +2"]);
        assert_eq!(
            row(None, 0).line(),
            "2026-11-21T07:40:00.123000000Z web A a.test NOERROR (cache, 2ms)"
        );
    }
}
