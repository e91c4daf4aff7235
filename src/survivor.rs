//! What a killed rnsnet leaves behind, and how another takes its place: `rnsnet reattach`.
//!
//! The interface stays in the container (`attach`); what was asked for stays as a file in the
//! run-time directory, beside the control socket: the words of the command line, the network
//! namespace and the process. The file goes at every end in order. It is in a directory that nobody
//! else can write to, so what it says is what the same user has once said. Ports that are published
//! and taken back later are noted in it ([`Record`]), in a file that is open since before the sandbox.

use std::error::Error as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::publish;
use crate::cli::{self, Command, UsageError};
use crate::config::{
    Attach, Egress, HostPorts, HostSide, Ports, Process, Publish, PublishDefaults, Rate,
    Republished, Target,
};
use crate::json;
use crate::runtime_dir::{self, Owner, RuntimeDirError};
use crate::sys::process;

/// What is kept of a run while it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// Of two that are in the file, the later one is larger.
    serial: u64,
    server: Server,
    namespace: Namespace,
    /// The words after `rnsnet`.
    arguments: Vec<String>,
    /// Where relative paths in them begin.
    directory: PathBuf,
    /// What has become of each published rule: those of the command line, then those of `added`.
    rules: Vec<RuleNow>,
    /// The rules that came later, as [`Publish::spelt`] has them.
    added: Vec<(String, Vec<IpAddr>)>,
    /// The rate, if it was changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
    /// The same of what it may reach outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<Egress>,
}

/// The host ports of a published rule, with the container's: some are found by chance. `None` once
/// it is taken back.
type RuleNow = Option<Vec<(u16, u16)>>;

/// The state of this process in its file, as it changes.
#[derive(Debug)]
pub struct Record {
    state: State,
    file: fs::File,
}

/// A process, whoever has its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Server {
    pid: i32,
    /// When it was started, in ticks since the system was: proc_pid_stat(5).
    started: u64,
}

/// A namespace while it exists: namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Namespace {
    device: u64,
    inode: u64,
}

/// Why nothing is attached again.
#[derive(thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ReattachError {
    #[error("nothing to reattach: no rnsnet was killed that served a container which still runs")]
    Nothing,
    #[error("nothing to reattach: no rnsnet has left anything of {what:?}")]
    NoSuch { what: String },
    #[error("{} containers can be reattached: {}", names.len(), names.join(", "))]
    Several { names: Vec<String> },
    #[error("nothing to reattach: {name} is being served, by pid {pid}")]
    Served { name: String, pid: i32 },
    #[error("the container of {name} has ended")]
    Ended { name: String },
    #[error("cannot look for what was left")]
    Look(#[source] RuntimeDirError),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot understand {}", path.display())]
    Understand { path: PathBuf, source: serde_json::Error },
    #[error("{} was written by another version of rnsnet", path.display())]
    Version { path: PathBuf },
    #[error("{} asks for something that cannot be done again", path.display())]
    Arguments { path: PathBuf, source: Box<UsageError> },
    #[error("cannot go to the directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
}

debug_as_display!(ReattachError);

impl ReattachError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSuch { .. } => Some(
                "rnsnet PID with the options of before takes the container's interface over too",
            ),
            Self::Several { .. } => Some("name one of them"),
            _ => None,
        }
    }
}

/// Where a run keeps its state.
#[must_use]
pub fn path_in(directory: &Path) -> PathBuf {
    directory.join(runtime_dir::STATE)
}

impl State {
    /// What is to be kept of this process, which serves that namespace.
    ///
    /// # Errors
    /// No /proc, or no working directory.
    pub fn of_this_process(
        namespace: &impl std::os::fd::AsFd,
        process: &Process,
        bound: Vec<Vec<(u16, u16)>>,
    ) -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).map_err(|_| io::ErrorKind::InvalidData)?;
        let started = started(pid).ok_or(io::ErrorKind::NotFound)?;
        let namespace = fs::File::from(namespace.as_fd().try_clone_to_owned()?);
        let Republished { origins, rules: count, added, rate, egress } = &process.republished;
        let mut rules: Vec<RuleNow> = vec![None; *count];
        for (index, pairs) in bound.into_iter().enumerate() {
            let origin = origins.get(index).copied().unwrap_or(index);
            if rules.len() <= origin {
                rules.resize(origin + 1, None);
            }
            if let Some(rule) = rules.get_mut(origin) {
                rule.get_or_insert_default().extend(pairs);
            }
        }
        Ok(Self {
            version: VERSION,
            serial: 0,
            server: Server { pid, started },
            namespace: Namespace::of(&namespace.metadata()?),
            arguments: process.arguments.clone(),
            directory: std::env::current_dir()?,
            rules,
            added: added.clone(),
            rate: *rate,
            egress: egress.clone(),
        })
    }

    /// Writes it to a directory, all or nothing.
    ///
    /// # Errors
    /// What open(2), write(2) and rename(2) report.
    pub fn write(self, directory: &Path) -> io::Result<Record> {
        let path = path_in(directory);
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&new)?;
        let line = self.line()?;
        if line.len() > PLACE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        file.write_all(line.as_bytes())?;
        fs::rename(new, path)?;
        Ok(Record { state: self, file })
    }

    fn line(&self) -> io::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    fn read(path: &Path) -> Result<Option<Self>, ReattachError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| ReattachError::Read { path: path.into(), source })?,
        };
        // Whoever was killed while it wrote one place has left the other whole.
        let (first, second) = bytes.split_at(bytes.len().min(PLACE));
        let of = |place: &[u8]| {
            let line = place.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            json::read::<Self>(line.strip_suffix(b"\n").unwrap_or_default())
        };
        let state = match (of(first), of(second)) {
            (Ok(one), Ok(other)) if one.serial < other.serial => other,
            (Ok(state), _) | (Err(_), Ok(state)) => state,
            (Err(source), Err(_)) => {
                return Err(ReattachError::Understand { path: path.into(), source });
            }
        };
        if state.version != VERSION {
            return Err(ReattachError::Version { path: path.into() });
        }
        Ok(Some(state))
    }
}

impl Record {
    /// Notes a rule that was published. Returns its place, for taking it back.
    pub fn added(&mut self, rule: &Publish, pairs: &[(u16, u16)]) -> usize {
        let State { rules, added, .. } = &mut self.state;
        // The place of one that is gone, or a new one.
        let typed = rules.len().saturating_sub(added.len());
        let gone = rules.iter().skip(typed).position(Option::is_none);
        let later = gone.unwrap_or(added.len());
        if gone.is_none() {
            rules.push(None);
            added.push((String::new(), Vec::new()));
        }
        if let (Some(now), Some(text)) = (rules.get_mut(typed + later), added.get_mut(later)) {
            (*now, *text) = (Some(pairs.to_vec()), rule.spelt());
        }
        self.update();
        typed + later
    }

    /// Notes that these ports of a rule were taken back.
    pub fn removed(&mut self, place: usize, pairs: &[(u16, u16)]) {
        if let Some(now) = self.state.rules.get_mut(place) {
            let rest = now.iter().flatten().filter(|pair| !pairs.contains(pair));
            *now = Some(rest.copied().collect()).filter(|rest: &Vec<_>| !rest.is_empty());
        }
        self.update();
    }

    /// Notes a rate that was changed.
    pub fn rate(&mut self, rate: Rate) {
        self.state.rate = Some(rate);
        self.update();
    }

    /// Notes rules that were changed.
    pub fn egress(&mut self, egress: &Egress) {
        self.state.egress = Some(egress.clone());
        self.update();
    }

    /// Writes it to the place where the one before the last is.
    fn update(&mut self) {
        self.state.serial += 1;
        let offset = if self.state.serial.is_multiple_of(2) { 0 } else { PLACE as u64 };
        let written = self.state.line().and_then(|line| {
            if line.len() > PLACE {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            self.file.write_all_at(line.as_bytes(), offset)
        });
        if let Err(error) = written {
            log::warn!("rnsnet reattach will not know of the last change: {error}");
        }
    }
}

/// A run whose state is there.
#[derive(Debug)]
struct Left {
    name: String,
    path: PathBuf,
    state: State,
}

impl Left {
    /// What was asked for.
    fn asked(&self) -> Result<Attach, ReattachError> {
        let words = self.state.arguments.iter().map(std::ffi::OsString::from);
        match cli::parse(words) {
            Ok(Command::Attach(attach)) => Ok(attach),
            Ok(_) => Err(ReattachError::Version { path: self.path.clone() }),
            Err(source) => {
                let source = Box::new(source);
                Err(ReattachError::Arguments { path: self.path.clone(), source })
            }
        }
    }

    /// Removes what is left of a run whose container is gone; nobody else would.
    fn clear(&self) {
        runtime_dir::clear(self.path.parent().unwrap_or(&self.path));
    }

    /// Whether its process still runs after `patience`, or answers from another pid namespace.
    fn is_served_after(&self, patience: Duration) -> bool {
        let answers = || UnixStream::connect(self.path.with_file_name(runtime_dir::SOCKET)).is_ok();
        self.state.server.lives_after(patience) || answers()
    }

    /// Whether its process, which runs no more, was killed: at an end in order the state goes first.
    fn is_left(&self) -> bool {
        self.path.exists()
    }

    /// Whether the container still runs: the namespace is where it was.
    fn has_container(&self) -> bool {
        let asked = self.asked().ok();
        let path = asked.and_then(|attach| namespace_path(&attach.target));
        let path = path.map(|path| self.state.directory.join(path));
        path.and_then(|path| Namespace::at(&path)) == Some(self.state.namespace)
    }
}

/// What `rnsnet reattach` is to attach: `what` names it, or there is only one. It is as it was asked
/// for, but for `process`, what a run in this place has of its own.
///
/// Changes the working directory to that of before, as relative paths are meant from there.
///
/// # Errors
/// See [`ReattachError`].
pub fn find(what: Option<&str>, process: &Process) -> Result<Attach, ReattachError> {
    let left = choose(all()?, what)?;
    // A process that was killed this moment is still there for another.
    if left.is_served_after(PATIENCE) {
        return Err(ReattachError::Served { name: left.name, pid: left.state.server.pid });
    }
    if !left.is_left() {
        return Err(what.map_or(ReattachError::Nothing, |what| ReattachError::NoSuch {
            what: what.to_owned(),
        }));
    }
    let mut attach = left.asked()?;
    std::env::set_current_dir(&left.state.directory).map_err(|source| {
        ReattachError::Directory { path: left.state.directory.clone(), source }
    })?;
    if !left.has_container() {
        left.clear();
        return Err(ReattachError::Ended { name: left.name });
    }
    let State { rules, added, rate, egress, .. } = left.state;
    attach.network.rate = rate.unwrap_or(attach.network.rate);
    let freebind = attach.network.publish_defaults.freebind;
    for (spec, bind) in &added {
        // One that is gone has a text all the same.
        let rule = publish::parse(spec, &PublishDefaults { bind: bind.clone(), freebind });
        let rule = rule.map_err(|_| ReattachError::Version { path: left.path.clone() })?;
        attach.network.publish.push(rule);
    }
    let (publish, origins) = pinned(attach.network.publish, &rules);
    attach.network.publish = publish;
    attach.process.republished = Republished { origins, rules: rules.len(), added, rate, egress };
    // Descriptors of before are nobody's now.
    attach.process.ready_fd = process.ready_fd;
    attach.process.exit_fd = process.exit_fd;
    attach.process.detach |= process.detach;
    Ok(attach)
}

/// Everything that was left, and everything that is being served.
fn all() -> Result<Vec<Left>, ReattachError> {
    let mut all = Vec::new();
    for (owner, name, socket) in runtime_dir::sockets().map_err(ReattachError::Look)? {
        let Some(directory) = socket.parent().filter(|_| owner == Owner::Container) else {
            continue;
        };
        let path = path_in(directory);
        match State::read(&path) {
            Ok(Some(state)) => all.push(Left { name, path, state }),
            Ok(None) => {}
            // The others can be served all the same.
            Err(error) => match error.source() {
                Some(source) => log::warn!("{error}: {source}"),
                None => log::warn!("{error}"),
            },
        }
    }
    Ok(all)
}

fn choose(all: Vec<Left>, what: Option<&str>) -> Result<Left, ReattachError> {
    let Some(what) = what else {
        let mut all: Vec<_> = all.into_iter().filter(Left::has_container).collect();
        let mut dead: Vec<_> =
            all.extract_if(.., |left| !left.is_served_after(Duration::ZERO)).collect();
        if dead.is_empty() {
            // Perhaps one was killed this moment.
            let patience = PATIENCE / u32::try_from(all.len()).unwrap_or(u32::MAX).max(1);
            dead = all.extract_if(.., |left| !left.is_served_after(patience)).collect();
        }
        dead.retain(Left::is_left);
        return match (dead.pop(), dead.is_empty()) {
            (None, _) => Err(ReattachError::Nothing),
            (Some(one), true) => Ok(one),
            (Some(last), false) => {
                let names = dead.into_iter().chain([last]).map(|left| left.name).collect();
                Err(ReattachError::Several { names })
            }
        };
    };
    let path = match what.parse::<i32>() {
        Ok(pid) => namespace_path(&Target::Pid(pid)),
        Err(_) => what.contains('/').then(|| what.into()),
    };
    let namespace = path.and_then(|path| Namespace::at(&path));
    let is_it = |left: &Left| left.name == what || Some(left.state.namespace) == namespace;
    let found = all.into_iter().find(is_it);
    found.ok_or_else(|| ReattachError::NoSuch { what: what.to_owned() })
}

/// The rules that were there last, those whose host ports were chosen by us with the ports that they
/// had, and which rule each comes from.
fn pinned(rules: Vec<Publish>, now: &[RuleNow]) -> (Vec<Publish>, Vec<usize>) {
    let mut pinned = Vec::new();
    for ((origin, rule), pairs) in rules.into_iter().enumerate().zip(now) {
        let Some(pairs) = pairs else { continue };
        match &rule.host {
            HostSide::Bound { on, ports } if !matches!(ports, HostPorts::Exactly(_)) => {
                for (host, guest) in pairs {
                    let ports = HostPorts::Exactly(Ports::one(*host));
                    let host = HostSide::Bound { on: on.clone(), ports };
                    let rule = Publish { host, guest: Ports::one(*guest), ..rule.clone() };
                    pinned.push((rule, origin));
                }
            }
            _ => pinned.push((rule, origin)),
        }
    }
    pinned.into_iter().unzip()
}

/// Where the namespace of a target is.
fn namespace_path(target: &Target) -> Option<PathBuf> {
    match target {
        Target::Pid(pid) => Some(format!("/proc/{pid}/ns/net").into()),
        Target::Path { netns, .. } => Some(netns.clone()),
        Target::Tap(_) => None,
    }
}

impl Namespace {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

impl Server {
    /// Whether this very process still runs after `patience`.
    fn lives_after(self, patience: Duration) -> bool {
        let pidfd = process::open(self.pid);
        if started(self.pid) != Some(self.started) {
            return false;
        }
        match pidfd {
            Ok(pidfd) => !process::ends(pidfd.as_fd(), patience).unwrap_or(false),
            Err(_) => true,
        }
    }
}

/// When a process was started: the 22nd field of its `stat`, after a name of any characters.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

/// How long a killed process may take to be gone: slow machines have others to run first.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the second of two states begins in the file, so what the first may have, in bytes: every port
/// of both protocols. The rest is holes.
const PLACE: usize = 2 << 20;

/// Of the file's form.
const VERSION: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns;
    use crate::testing::{self, scratch};

    fn state(arguments: &[&str]) -> State {
        let own = netns::own(netns::Kind::Network).unwrap();
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let process = Process { arguments, ..Process::default() };
        State::of_this_process(&own, &process, vec![vec![(80, 80)]]).unwrap()
    }

    fn left(name: &str, arguments: &[&str]) -> Left {
        Left { name: name.into(), path: "/no/such".into(), state: state(arguments) }
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = scratch("state");
        let path = path_in(&directory);
        assert!(State::read(&path).unwrap().is_none());
        let state = state(&["--publish", "80:80", "--", "7"]);
        state.clone().write(&directory).unwrap();
        assert_eq!(State::read(&path).unwrap().unwrap(), state);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let other = State { version: 1, ..state };
        other.write(&directory).unwrap();
        assert!(matches!(State::read(&path), Err(ReattachError::Version { .. })));
        fs::write(&path, "{").unwrap();
        assert!(matches!(State::read(&path), Err(ReattachError::Understand { .. })));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn every_port_of_both_protocols_fits() {
        let directory = scratch("ports");
        let all = || Some((1..=u16::MAX).map(|port| (port, port)).collect());
        let mut state = State { rules: vec![all(), all()], ..state(&["--", "7"]) };
        state.clone().write(&directory).unwrap();
        assert!(State::read(&path_in(&directory)).unwrap() == Some(state.clone()));
        state.rules.push(all());
        let error = state.write(&directory).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        let started = started(own).unwrap();
        assert!(Server { pid: own, started }.lives_after(Duration::ZERO));
        assert!(!Server { pid: own, started: started + 1 }.lives_after(Duration::ZERO));
        assert!(!Server { pid: i32::MAX, started }.lives_after(Duration::ZERO));
    }

    #[test]
    fn a_container_is_found_by_name_pid_and_path() {
        let own = std::process::id().to_string();
        let all = || vec![left("web", &["--", &own])];
        let path = format!("/proc/{own}/ns/net");
        for what in ["web", &own, &path, "/proc/self/ns/net"] {
            assert_eq!(choose(all(), Some(what)).unwrap().name, "web", "{what}");
        }
        for what in ["db", "4194304", "/proc/self/ns/user", ""] {
            assert!(matches!(choose(all(), Some(what)), Err(ReattachError::NoSuch { .. })));
        }
        // It is served, by this very process.
        assert!(matches!(choose(all(), None), Err(ReattachError::Nothing)));
        assert!(all()[0].has_container());
        assert!(!left("other", &["--", "/proc/self/ns/user"]).has_container());
    }

    #[test]
    fn whoever_ended_in_order_has_left_nothing() {
        let directory = scratch("ended");
        let own = std::process::id().to_string();
        let dead = |directory: &Path| {
            let mut dead = left("web", &["--", &own]);
            (dead.state.server.pid, dead.path) = (i32::MAX, path_in(directory));
            vec![dead]
        };
        state(&[]).write(&directory).unwrap();
        assert_eq!(choose(dead(&directory), None).unwrap().name, "web");
        // As when the state was read just before.
        fs::remove_dir_all(&directory).unwrap();
        assert!(matches!(choose(dead(&directory), None), Err(ReattachError::Nothing)));
    }

    #[test]
    fn ports_found_by_chance_are_kept() {
        let asked = left("web", &["-p", "80", "-p", "8080:81", "--", "7"]).asked().unwrap();
        let rules = asked.network.publish;
        let now = [Some(vec![(49_160, 80)]), Some(vec![(8080, 81)])];
        let (pinned, origins) = pinned(rules.clone(), &now);
        assert_eq!(origins, [0, 1]);
        let typed = left("web", &["-p", "49160:80", "-p", "8080:81", "--", "7"]).asked().unwrap();
        assert_eq!(pinned, typed.network.publish);
        assert_ne!(pinned, rules);
    }

    #[test]
    fn changes_of_ports_are_noted_and_a_torn_one_is_left_out() {
        let directory = scratch("record");
        let path = path_in(&directory);
        let read = || State::read(&path).unwrap().unwrap();
        let mut record = state(&["-p", "80:80", "--", "7"]).write(&directory).unwrap();
        let bind = vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
        let rule = |spec| {
            let bind = PublishDefaults { bind: bind.clone(), ..PublishDefaults::default() };
            publish::parse(spec, &bind).unwrap()
        };
        let one = record.added(&rule("127.0.0.1::81/udp"), &[(49_153, 81)]);
        let two = record.added(&rule("8082:82,from=192.0.2.0/24"), &[(8082, 82)]);
        record.removed(0, &[(80, 80)]);
        assert_eq!((one, two), (1, 2));
        let state = read();
        assert_eq!(state.rules, [None, Some(vec![(49_153, 81)]), Some(vec![(8082, 82)])]);
        let texts = ["127.0.0.1::81/udp", "8082:82/tcp,from=192.0.2.0/24"].map(str::to_owned);
        let [one_text, two_text] = texts;
        assert_eq!(state.added, [(one_text, Vec::new()), (two_text, bind.clone())]);
        // The place of one that is gone is the next one's.
        record.removed(one, &[(49_153, 81)]);
        assert_eq!(record.added(&rule("9000-9001:80"), &[(9001, 80)]), one);
        let last = read();
        assert_eq!(last.rules[1], Some(vec![(9001, 80)]));
        // Killed in the middle of the next one.
        let before = fs::read(&path).unwrap();
        record.removed(two, &[(8082, 82)]);
        let mut torn = fs::read(&path).unwrap();
        let changed = |at: &usize| torn[*at] != before[*at];
        let middle = (0..before.len()).filter(changed).nth(3).unwrap();
        torn[middle..before.len()].copy_from_slice(&before[middle..]);
        fs::write(&path, &torn).unwrap();
        assert_eq!(read(), last);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn rules_that_were_taken_back_stay_so() {
        let asked = left("web", &["-p", "80-82", "-p", "8080:81", "--", "7"]).asked().unwrap();
        let mut rules = asked.network.publish;
        rules.push(publish::parse("9000:90", &PublishDefaults::default()).unwrap());
        let now = [Some(vec![(49_153, 80), (49_155, 82)]), None, Some(vec![(9000, 90)])];
        let (publish, origins) = pinned(rules, &now);
        let texts: Vec<_> = publish.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["49153:80/tcp", "49155:82/tcp", "9000:90/tcp"]);
        assert_eq!(origins, [0, 0, 2]);
        // And the one that serves them knows what they come from.
        let republished = Republished {
            origins,
            rules: 3,
            added: vec![("9000:90".into(), Vec::new())],
            rate: None,
            egress: None,
        };
        let own = netns::own(netns::Kind::Network).unwrap();
        let process = Process { republished, ..Process::default() };
        let bound = vec![vec![(49_153, 80)], vec![(49_155, 82)], vec![(9000, 90)]];
        assert_eq!(State::of_this_process(&own, &process, bound).unwrap().rules, now);
    }

    #[test]
    fn words_of_another_version_are_refused() {
        let error = left("web", &["--no-such-option", "7"]).asked().unwrap_err();
        assert!(matches!(error, ReattachError::Arguments { .. }), "{error}");
        assert!(left("web", &["--mtu", "1400", "--", "7"]).asked().is_ok());
    }

    #[test]
    fn whoever_answers_has_left_nothing_though_its_process_cannot_be_seen() {
        let directory = scratch("answers");
        let own = std::process::id().to_string();
        let all = || {
            let mut elsewhere = left("web", &["--", &own]);
            (elsewhere.state.server.pid, elsewhere.path) = (i32::MAX, path_in(&directory));
            vec![elsewhere]
        };
        state(&[]).write(&directory).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(directory.join("control.sock"));
        assert!(matches!(choose(all(), None), Err(ReattachError::Nothing)));
        drop(socket.unwrap());
        let chosen = testing::until("nobody answers", || choose(all(), None).ok());
        assert_eq!(chosen.name, "web");
        fs::remove_dir_all(directory).unwrap();
    }
}
