//! `rnsnet events`: what happens to containers and networks, as it happens.
//!
//! Every network's process tells of its own; networks that come later are found by watching the
//! directories of the control sockets (inotify(7)). One that is killed cannot say so: its end is
//! told for it. That a named network is made or removed is seen by its definition.

use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::super::{Action, Typed, Verb};
use super::{FORMAT, format, number, print_line, short, text};
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values::ValueError;
use crate::client::{self, ClientError, Instance, Line};
use crate::clock::since_epoch;
use crate::control::{Event, Since, Streaming};
use crate::error::Error;
use crate::network::store::Store;
use crate::network::when::{micros, rfc3339};
use crate::output::{Column, Format, Value};
use crate::runtime_dir;
use crate::sorted::{SortedMap, SortedSet};

pub(in crate::verbs) const EVENTS: Verb = Verb {
    name: "events",
    aliases: &[],
    about: "Tell what happens to containers and networks, as it happens",
    more: "connect, disconnect, publish and unpublish of containers, create and destroy of one's own \
           networks, a line each, until Ctrl-C.",
    arguments: &[],
    options: &[
        OptionSpec {
            help: "json (an object for each line) or a Go template such as {{.Action}}. Default: \
                   a line of text.",
            ..FORMAT
        },
        SINCE,
    ],
    examples: &[
        ("rnsnet events", "What happens from now on."),
        ("rnsnet events --since 10m --format json", "For a program, the last ten minutes first."),
    ],
    parse,
};

const COLUMNS: [Column; 8] = [
    ("Time", "TIME"),
    ("Type", "TYPE"),
    ("Action", "ACTION"),
    ("Name", "NAME"),
    ("ID", "ID"),
    ("Network", "NETWORK"),
    ("Port", "PORT"),
    ("TimeMs", "TIME MS"),
];

#[derive(Debug)]
struct Events {
    format: Format,
    since: Option<u64>,
}

/// A network that is listened to, with the containers it has told of.
struct Source {
    instance: Instance,
    /// Those that are connected: id and name.
    connected: SortedSet<(String, String)>,
}

/// What has happened and is not printed yet, each with the kind of thing that it is about.
type Told = Vec<(&'static str, Event)>;

/// The user's named networks, as far as they have been told of.
struct Definitions {
    store: Store,
    /// Names by ids.
    known: SortedMap<String, String>,
}

/// Since when something is told.
pub(super) const SINCE: OptionSpec = OptionSpec {
    long: "--since",
    kind: Kind::Value("TIME"),
    help: "Begin with what happened since then, as far as it is remembered: 10m, seconds \
           since 1970, or 2026-11-21T08:00:00.",
    ..VERB
};

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    Ok(Box::new(Events { format: format(typed)?, since: since(typed)? }))
}

/// Reads `--since`, in milliseconds since 1970.
pub(super) fn since(typed: &Typed) -> Result<Option<u64>, UsageError> {
    typed.read("--since", |text| {
        let expected = "a time as 10m, 1795000000 or 2026-11-21T08:00:00";
        let time = micros(text, since_epoch()).ok_or(ValueError::Expected(expected))?;
        Ok(millis(time))
    })
}

/// Milliseconds of microseconds; what is before 1970 is 1970.
fn millis(micros: i64) -> u64 {
    u64::try_from(micros / 1000).unwrap_or_default()
}

impl Definitions {
    /// Watches the directory of the definitions; who has no place for networks has none.
    fn watch(inotify: &Inotify) -> Option<Self> {
        let store = Store::of_user().ok()?;
        let changes = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        if let Err(errno) = inotify.add_watch(store.make_directory().ok()?, changes) {
            log::debug!("cannot watch the networks' definitions: {errno}");
            return None;
        }
        Some(Self { store, known: SortedMap::new() })
    }
}

impl Action for Events {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let system = |step| {
            move |errno: nix::errno::Errno| ClientError::System { step, source: errno.into() }
        };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(system("watch for networks"))?;
        for parent in runtime_dir::make_parents().map_err(ClientError::Directory)? {
            let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            inotify.add_watch(&parent, flags).map_err(system("watch for networks"))?;
        }
        let mut told = Told::new();
        let mut definitions = Definitions::watch(&inotify);
        if let Some(definitions) = &mut definitions {
            let since = self.since.unwrap_or(u64::MAX);
            definitions.tell(&mut told, |time_ms| time_ms >= since);
        }
        let mut sources = Vec::new();
        listen_to_new(&mut sources, &mut told, self.since)?;
        // A directory is there before its socket: looked at again until there is one, or for long.
        let mut looks = 0;
        let stdout = std::io::stdout();
        loop {
            self.print_all(&mut told)?;
            // Nothing is asked of the output but whether its reader has gone.
            let mut fds = vec![
                PollFd::new(stdout.as_fd(), PollFlags::empty()),
                PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            ];
            let connections =
                sources.iter().map(|source: &Source| source.instance.connection.as_fd());
            fds.extend(connections.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let timeout = if looks > 0 { PollTimeout::from(LOOK_MS) } else { PollTimeout::NONE };
            match poll(&mut fds, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.map_err(system("wait for events"))?,
            };
            if fds.first().and_then(PollFd::any) == Some(true) {
                return Ok(0);
            }
            let mut changed = false;
            while inotify.read_events().is_ok() {
                (looks, changed) = (MAX_LOOKS, true);
            }
            if let Some(definitions) = definitions.as_mut().filter(|_| changed) {
                definitions.tell(&mut told, |_| true);
            }
            sources.retain_mut(|source| source.hear(&mut told));
            if looks > 0 {
                looks -= 1;
                listen_to_new(&mut sources, &mut told, Some(0))?;
            }
        }
    }
}

/// Listens to every network that is not listened to yet.
fn listen_to_new(
    sources: &mut Vec<Source>,
    told: &mut Told,
    since: Option<u64>,
) -> Result<(), Error> {
    let known: SortedSet<u32> = sources.iter().map(|source| source.instance.info.process).collect();
    for mut instance in client::instances()? {
        if known.contains(&instance.info.process) {
            continue;
        }
        let containers = instance.info.containers.iter();
        let connected = containers.map(|ctr| (ctr.id.clone(), ctr.name.clone())).collect();
        let asked = instance.connection.ask("events", &Since { since_ms: since });
        match asked {
            Ok(Streaming { .. }) => sources.push(Source { instance, connected }),
            // It has ended meanwhile.
            Err(error) => log::debug!("{error}"),
        }
    }
    for source in sources {
        source.hear(told);
    }
    Ok(())
}

impl Definitions {
    /// Tells which networks are new, of those made at a time that is `wanted`, and which are gone.
    fn tell(&mut self, told: &mut Told, wanted: impl Fn(u64) -> bool) {
        let Self { store, known } = self;
        let Ok(networks) = store.networks() else { return };
        let event = |action: &str, time_ms, id: &str, name: &str| Event {
            time_ms,
            action: action.to_owned(),
            network: name.to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            port: None,
        };
        let mut gone = known.clone();
        for definition in networks.good.values() {
            let (id, name) = (&definition.id, &definition.name);
            if gone.remove(id).is_some() {
                continue;
            }
            known.insert(id.clone(), name.clone());
            let created = micros(&definition.created, since_epoch());
            let time_ms = millis(created.unwrap_or_default());
            if wanted(time_ms) {
                told.push(("network", event("create", time_ms, id, name)));
            }
        }
        for (id, name) in gone.iter() {
            // One that cannot be read is still there.
            if store.read(name).is_ok_and(|other| other.is_none_or(|other| other.id != *id)) {
                known.remove(id);
                let now = u64::try_from(since_epoch().as_millis()).unwrap_or_default();
                told.push(("network", event("destroy", now, id, name)));
            }
        }
    }
}

impl Source {
    /// Tells what a network has told; false at its end.
    fn hear(&mut self, told: &mut Told) -> bool {
        loop {
            match self.instance.connection.next_event() {
                Ok(Line::Event(event)) => {
                    let Ok(event) = serde_json::from_value::<Event>(event) else {
                        continue;
                    };
                    let container = (event.id.clone(), event.name.clone());
                    match event.action.as_str() {
                        "connect" => drop(self.connected.insert(container)),
                        "disconnect" => drop(self.connected.remove(&container)),
                        _ => {}
                    }
                    told.push(("container", event));
                }
                Ok(Line::NotYet) => return true,
                Ok(Line::End) | Err(_) => break,
            }
        }
        let time_ms = u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX);
        for (id, name) in self.connected.take() {
            let network = self.instance.info.network.clone();
            let action = "disconnect".to_owned();
            told.push(("container", Event { time_ms, action, network, id, name, port: None }));
        }
        false
    }
}

impl Events {
    /// Prints what was told, the earliest first, whichever network it is of.
    fn print_all(&self, told: &mut Told) -> Result<(), Error> {
        told.sort_by_key(|(_, event)| event.time_ms);
        told.drain(..).try_for_each(|(kind, event)| self.print(kind, &event))
    }

    /// Prints a line of a `kind` of thing.
    fn print(&self, kind: &str, event: &Event) -> Result<(), Error> {
        let time = rfc3339(std::time::Duration::from_millis(event.time_ms));
        let port = event
            .port
            .as_ref()
            .map(|port| format!("{}/{} -> {}", port.guest_port, port.protocol, port.host_end()));
        if self.format == Format::Table {
            let Event { action, name, id, network, .. } = event;
            let port = port.map(|port| format!(", port={port}")).unwrap_or_default();
            let id = short(id);
            print_line(&format!("{time} {action} {name} (id={id}, network={network}{port})"))?;
            return Ok(());
        }
        let row = Value::Struct(vec![
            ("Time", text(time)),
            ("Type", text(kind)),
            ("Action", text(&event.action)),
            ("Name", text(&event.name)),
            ("ID", text(&event.id)),
            ("Network", text(&event.network)),
            ("Port", text(port.unwrap_or_default())),
            ("TimeMs", number(event.time_ms)),
        ]);
        super::print_list(&self.format, &[row], &COLUMNS, COLUMNS.len())
    }
}

/// How often a new directory is looked into, in milliseconds.
const LOOK_MS: u16 = 50;
/// How many times.
const MAX_LOOKS: u32 = 40;
