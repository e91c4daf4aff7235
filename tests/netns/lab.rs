//! A small internet per test, made of namespaces by an unprivileged user.
//!
//! ```text
//!  "host" namespace                      "lan" namespace          container namespaces
//!  h0 192.0.2.1  2001:db8:5::1  ------  l0 192.0.2.9  ...::9      lo; eth0 once rnsnet has come
//! ```
//! The host and lan namespaces belong to an outer user namespace whose root may do anything in
//! them. `rnsnet` runs in the host namespace as uid 1000 of an inner user namespace, and so has no
//! capability there; the containers are children of that inner one. Each namespace is held by a
//! sleeping process that dies with the [`Lab`].

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::eventually::{eventually, one_of_three, secs};
use crate::exec::{DEFAULT_DEADLINE, Proc, Ran, run};

/// The host's address on the LAN.
pub(crate) const HOST4: &str = "192.0.2.1";
/// The host's IPv6 address on the LAN.
pub(crate) const HOST6: &str = "2001:db8:5::1";
/// The LAN machine, which runs the services.
pub(crate) const LAN4: &str = "192.0.2.9";
/// The LAN machine's IPv6 address.
pub(crate) const LAN6: &str = "2001:db8:5::9";
/// The network's gateway.
pub(crate) const GATEWAY4: &str = "10.0.2.2";
/// The network's gateway, IPv6.
pub(crate) const GATEWAY6: &str = "fd72:6e73:6e65::2";
/// The DNS forwarder.
pub(crate) const DNS4: &str = "10.0.2.3";
/// The DNS forwarder, IPv6.
pub(crate) const DNS6: &str = "fd72:6e73:6e65::3";
/// The container.
pub(crate) const GUEST4: &str = "10.0.2.100";
/// The container, IPv6.
pub(crate) const GUEST6: &str = "fd72:6e73:6e65::100";

/// Helper functions that every python program of these tests may call.
const PRELUDE: &str = include_str!("prelude.py");

/// Programs the tests call; a missing one is a missing lab, not a failed test.
const TOOLS: &[&str] = &[
    "busybox", "curl", "dhclient", "dig", "dnsmasq", "ip", "iperf3", "nft", "nsenter", "ping",
    "python3", "setpriv", "socat", "ss", "strace", "tcpdump", "unshare",
];

/// The user's run-time directory, in the host's mount namespace: short, as the paths of sockets are.
const RUNTIME_DIR: &str = "/mnt";

/// System directories first: a developer's own python may be unreadable from inside.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";

/// Where a command runs.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// The host namespace, with every right in it.
    Host,
    /// The host namespace, as the unprivileged user that runs `rnsnet`.
    User,
    /// The LAN machine, with every right in it.
    Lan,
    /// A container, as its root.
    In(&'a Container),
    /// Another host, as the unprivileged user that runs `rnsnet` there.
    At(&'a Second),
}

/// Another host beside the first, at 198.18.0.2: with a run-time directory of its own.
pub(crate) struct Second {
    net: Proc,
    pub(crate) runtime: PathBuf,
}

impl Drop for Second {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.runtime));
    }
}

/// The address of the second host.
pub(crate) const SECOND4: &str = "198.18.0.2";

/// One container: a process asleep in new user and network namespaces.
pub(crate) struct Container {
    sleeper: Proc,
}

impl Container {
    /// The pid to hand to `rnsnet`.
    pub(crate) fn pid(&self) -> u32 {
        self.sleeper.pid()
    }

    /// Ends the container as `kill -9` does.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// The namespaces of one test. Everything in them ends when it is dropped.
pub(crate) struct Lab {
    name: String,
    dir: PathBuf,
    host: Proc,
    user: Proc,
    lan: Proc,
    /// The run-time directory of the user that runs `rnsnet`: short, for the paths of sockets.
    runtime: PathBuf,
    _turn: Turn,
}

/// Tests that load both processors run alone, so that those that measure times are not disturbed.
static MACHINE: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "guards are held, not read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Lab {
    /// A lab for the test that calls. `None` where this machine gives no namespaces, after a line
    /// `SKIP: reason` on standard error.
    ///
    /// # Panics
    /// Where there are no namespaces and the environment variable `CI` is set.
    pub(crate) fn new() -> Option<Self> {
        Self::build(|| Turn::Shared(MACHINE.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// A lab for a test that loads the machine: it runs alone.
    pub(crate) fn alone() -> Option<Self> {
        Self::build(|| Turn::Alone(MACHINE.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn build(turn: impl FnOnce() -> Turn) -> Option<Self> {
        static POSSIBLE: OnceLock<Result<(), String>> = OnceLock::new();
        if let Err(reason) = POSSIBLE.get_or_init(possible) {
            skip(reason);
            return None;
        }
        let turn = turn();
        let name = std::thread::current().name().unwrap_or("main").replace("::", "-");
        let dir = artefacts().join(&name);
        // What an earlier run left is of no use.
        drop(fs::remove_dir_all(&dir));
        fs::create_dir_all(&dir)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));

        let host =
            sleeper(command(&["unshare", "--user", "--map-root-user", "--net", "--mount", "--"]));
        let lan = sleeper(in_host(&host, &["unshare", "--net", "--"]));
        let user = sleeper(in_host(
            &host,
            &["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"],
        ));
        let runtime = runtime_dir();
        let lab = Self { name, dir, host, user, lan, runtime, _turn: turn };
        let resolv = lab.dir.join("resolv.conf");
        fs::write(&resolv, format!("nameserver {LAN4}\n")).expect("the folder is ours");
        lab.sh(
            Place::Host,
            &format!(
                "mount --bind {resolv} /etc/resolv.conf
                 mount -t tmpfs -o mode=700 none {RUNTIME_DIR}
                 ip link add h0 type veth peer name l0 netns {lan}
                 ip addr add {HOST4}/24 dev h0
                 ip addr add {HOST6}/64 dev h0 nodad
                 ip link set lo up
                 ip link set h0 up",
                resolv = resolv.display(),
                lan = lab.lan.pid(),
            ),
        )
        .ok();
        lab.sh(
            Place::Lan,
            &format!(
                "ip addr add {LAN4}/24 dev l0
                 ip addr add {LAN6}/64 dev l0 nodad
                 ip link set lo up
                 ip link set l0 up"
            ),
        )
        .ok();
        // A fresh link loses its first packets, and a lost IPv6 one is a second.
        for address in [LAN4, LAN6] {
            eventually(secs(5), &format!("the host reaches {address}"), || {
                let ping = lab.run(Place::Host, &["ping", "-c1", "-W0.2", address]);
                if ping.status.success() { Ok(()) } else { Err(ping.to_string()) }
            });
        }
        Some(lab)
    }

    /// Where this test's logs and captures are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Replaces what the host's `/etc/resolv.conf` says. Call it before `rnsnet` starts.
    pub(crate) fn set_resolv_conf(&self, text: &str) {
        fs::write(self.dir.join("resolv.conf"), text).expect("the folder is ours");
    }

    /// Makes the host's /etc a folder of its own: a file that is bound over, as `resolv.conf` is,
    /// cannot be replaced by a rename, nor is anybody told of its changes.
    #[track_caller]
    pub(crate) fn replaceable_etc(&self) {
        let etc = self.dir.join("etc");
        fs::create_dir_all(&etc).expect("the folder is ours");
        let etc = etc.display().to_string();
        self.sh(
            Place::Host,
            &format!(
                "for file in passwd group nsswitch.conf hosts hostname resolv.conf; do
                     if [ -r /etc/$file ]; then cat /etc/$file > {etc}/$file; fi
                 done
                 mount --bind {etc} /etc"
            ),
        )
        .ok();
    }

    /// Lets the user that runs `rnsnet` open ping sockets, as distributions do.
    pub(crate) fn allow_ping(&self) {
        self.sh(Place::Host, "echo '0 0' > /proc/sys/net/ipv4/ping_group_range").ok();
    }

    /// A new container that the unprivileged user owns.
    pub(crate) fn container(&self) -> Container {
        let argv = ["unshare", "--user", "--map-root-user", "--net", "--"];
        Container { sleeper: sleeper(self.cmd(Place::User, &argv)) }
    }

    /// A container that belongs to somebody else: the unprivileged user has no right to it.
    pub(crate) fn foreign_container(&self) -> Container {
        let argv = ["unshare", "--user", "--map-root-user", "--net", "--"];
        Container { sleeper: sleeper(self.cmd(Place::Host, &argv)) }
    }

    /// A host beside the first, connected to it by a link of its own.
    pub(crate) fn second(&self) -> Second {
        let net = sleeper(in_host(&self.host, &["unshare", "--net", "--"]));
        let second = Second { runtime: runtime_dir(), net };
        let pid = second.net.pid();
        self.sh(
            Place::Host,
            &format!(
                "ip link add h1 type veth peer name s0 netns {pid}
                 ip addr add 198.18.0.1/24 dev h1
                 ip link set h1 up
                 nsenter -t {pid} -n sh -ec '
                     ip addr add {SECOND4}/24 dev s0
                     ip link set lo up
                     ip link set s0 up
                     ip route add default via 198.18.0.1'"
            ),
        )
        .ok();
        second
    }

    /// A process in the namespace of the LAN machine.
    pub(crate) fn lan_pid(&self) -> u32 {
        self.lan.pid()
    }

    /// A process in the user namespace of the unprivileged user.
    pub(crate) fn user_pid(&self) -> u32 {
        self.user.pid()
    }

    /// A process without namespaces of its own.
    pub(crate) fn bystander(&self) -> Proc {
        sleeper(self.cmd::<&str>(Place::User, &[]))
    }

    /// A command to run at `place`.
    pub(crate) fn cmd<S: AsRef<OsStr>>(&self, place: Place<'_>, argv: &[S]) -> Command {
        let mut command = match place {
            Place::Host => in_host(&self.host, &[]),
            Place::User => in_host(
                &self.host,
                &["nsenter", "-t", &self.user.pid().to_string(), "-U", "--preserve-credentials"],
            ),
            Place::Lan => in_net(self.lan.pid()),
            Place::In(container) => in_net(container.pid()),
            Place::At(second) => {
                let (net, user) = (second.net.pid().to_string(), self.user.pid().to_string());
                let user = ["nsenter", "-t", &user, "-U", "--preserve-credentials"];
                in_host(&self.host, &[&["nsenter", "-t", &net, "-n", "--"], &user[..]].concat())
            }
        };
        let runtime = match place {
            Place::At(second) => &second.runtime,
            _ => &self.runtime,
        };
        command.env("XDG_RUNTIME_DIR", runtime);
        // Networks are a test's own, too.
        command.env("XDG_CONFIG_HOME", runtime.join("config"));
        command.env("XDG_STATE_HOME", runtime.join("state"));
        command.args(argv);
        command
    }

    /// The run-time directory of the user that runs `rnsnet`.
    pub(crate) fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, place: Place<'_>, argv: &[S]) -> Ran {
        run(&mut self.cmd(place, argv), b"", DEFAULT_DEADLINE)
    }

    /// Runs a shell script to its end; it stops at the first failure.
    #[track_caller]
    pub(crate) fn sh(&self, place: Place<'_>, script: &str) -> Ran {
        self.run(place, &["sh", "-ec", script])
    }

    /// Runs a python program (after the common prelude) to its end.
    #[track_caller]
    pub(crate) fn py(&self, place: Place<'_>, program: &str) -> Ran {
        self.py_within(place, program, DEFAULT_DEADLINE)
    }

    /// As [`Lab::py`], with a deadline of its own.
    #[track_caller]
    pub(crate) fn py_within(&self, place: Place<'_>, program: &str, deadline: Duration) -> Ran {
        run(&mut self.cmd(place, &["python3", "-c", &python(program)]), b"", deadline)
    }

    /// Starts a program that runs until the value is dropped.
    #[track_caller]
    pub(crate) fn spawn(&self, place: Place<'_>, argv: &[&str]) -> Proc {
        let guarded = [&["setpriv", "--pdeathsig", "KILL", "--"], argv].concat();
        Proc::spawn(&mut self.cmd(place, &guarded))
    }

    /// Starts a python program; does not wait for anything.
    #[track_caller]
    pub(crate) fn spawn_py(&self, place: Place<'_>, program: &str) -> Proc {
        self.spawn(place, &["python3", "-c", &python(program)])
    }

    /// Starts a python program; returns once it has said `ready`.
    #[track_caller]
    pub(crate) fn serve(&self, place: Place<'_>, program: &str) -> Proc {
        let mut process = self.spawn_py(place, program);
        let first = process.line(DEFAULT_DEADLINE);
        assert_eq!(first, "ready", "the first line of a python service");
        process
    }

    /// Starts a program that listens on a port; returns once it does.
    #[track_caller]
    pub(crate) fn listen(&self, place: Place<'_>, argv: &[&str], port: u16) -> Proc {
        let mut process = self.spawn(place, argv);
        eventually(secs(5), &format!("{} listens on {port}", argv[0]), || {
            if let Some(status) = process.ended() {
                return Err(format!("it ended with {status}"));
            }
            let sockets = self.sockets(place, port);
            if sockets.is_empty() { Err("no such socket".to_owned()) } else { Ok(()) }
        });
        process
    }

    /// The bound TCP listeners and UDP sockets of a port, as `ss` shows them; empty if none.
    #[track_caller]
    pub(crate) fn sockets(&self, place: Place<'_>, port: u16) -> String {
        let filter = format!("sport = :{port}");
        let tcp = self.run(place, &["ss", "-Hltn", &filter]);
        let udp = self.run(place, &["ss", "-Huan", &filter]);
        format!("{}{}", tcp.ok(), udp.ok())
    }

    /// Serves `/srv` of this test with one page, `index.html`, by busybox.
    #[track_caller]
    pub(crate) fn web_server(&self, place: Place<'_>, port: u16, page: &str) -> Proc {
        let root = self.dir.join(format!("srv-{port}"));
        fs::create_dir_all(&root).expect("the folder is ours");
        fs::write(root.join("index.html"), format!("{page}\n")).expect("the folder is ours");
        let root = root.to_string_lossy().into_owned();
        let port_text = port.to_string();
        self.listen(place, &["busybox", "httpd", "-f", "-p", &port_text, "-h", &root], port)
    }

    /// Answers on TCP and UDP `port`, both families, with the client's address and port.
    #[track_caller]
    pub(crate) fn who(&self, place: Place<'_>, port: u16) -> Proc {
        self.serve(place, &format!("who({port})"))
    }

    /// A thousand bytes there and back, each by itself: a busy machine makes some of them slow, and
    /// less of them some other time; a delayed acknowledgement or lost wake-up makes hundreds slow.
    #[track_caller]
    pub(crate) fn round_trips(&self, place: Place<'_>, host: &str, port: u16) {
        one_of_three("round trips that are not slow", || {
            let trips = self.py(place, &format!("round_trips('{host}', {port}, 1000)"));
            let slow = trips.ok().split(' ').next().unwrap_or_default();
            if slow.parse::<u32>().is_ok_and(|slow| slow < 50) { Ok(()) } else { Err(trips.stdout) }
        });
    }

    /// How connections of a container to an address fail, which all do in one way: at once, by the
    /// fastest of five, as a machine that is busy makes some of them slow.
    #[track_caller]
    pub(crate) fn fails_at_once(&self, ctr: &Container, address: &str, port: u16) -> String {
        let program = format!("for _ in range(5): attempt('{address}', {port})");
        let attempts = self.py(Place::In(ctr), &program);
        let words = attempts.ok().lines().map(|line| line.split_once(' ').expect("two words"));
        let (ways, took): (BTreeSet<&str>, Vec<u32>) =
            words.map(|(how, took)| (how, took.parse::<u32>().expect("milliseconds"))).unzip();
        assert!(ways.len() == 1 && took.iter().any(|took| *took < 100), "{address}: {attempts}");
        ways.into_iter().collect()
    }

    /// How many descriptors a process has. Its `fd` in /proc is closed to all but itself, as it cannot
    /// be dumped; `fdinfo` is open to who may trace it (proc(5)).
    #[track_caller]
    pub(crate) fn descriptors(&self, pid: u32) -> usize {
        let listing = self.run(Place::Host, &["ls", &format!("/proc/{pid}/fdinfo")]);
        listing.ok().lines().count()
    }

    /// KiB of a process's memory, counted as `what` says: `Pss`, or `Pss_Anon`, which is without what
    /// it has read of its own program by then (proc(5), `smaps_rollup`).
    #[track_caller]
    pub(crate) fn memory(&self, pid: u32, what: &str) -> u64 {
        let file = self.sh(Place::Host, &format!("grep ^{what}: /proc/{pid}/smaps_rollup"));
        file.ok().split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
    }

    /// Counts what reaches `port` on TCP and UDP, both families. See [`arrivals`].
    #[track_caller]
    pub(crate) fn counter(&self, place: Place<'_>, ports: &[u16]) -> Proc {
        self.serve(place, &format!("count({ports:?})"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.runtime));
        if std::thread::panicking() {
            report(&self.name, &self.dir);
        } else if std::env::var_os("RNSNET_TEST_KEEP").is_none() {
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}

/// A new directory for control sockets.
fn runtime_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("rt-{}-{number}", std::process::id()));
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    dir
}

/// How many connections and datagrams a [`Lab::counter`] has taken until now.
#[track_caller]
pub(crate) fn arrivals(counter: &mut Proc) -> String {
    counter.tell("count");
    counter.line(secs(5))
}

/// Everything the failed test left, by name; in the panic's output.
#[expect(clippy::print_stderr, reason = "the test runner shows it with the failure")]
fn report(name: &str, dir: &Path) {
    let mut files: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    files.sort();
    eprintln!("artefacts of {name}: {} ({})", dir.display(), files.join(", "));
}

/// Says that a test does not run, past the test runner's capture so that it is seen and counted.
fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI is set, so this must work: {reason}");
    writeln!(std::io::stderr(), "SKIP: {reason}").expect("standard error is open");
}

/// Whether this machine can hold a lab at all.
fn possible() -> Result<(), String> {
    for tool in TOOLS {
        let found = PATH.split(':').any(|folder| Path::new(folder).join(tool).exists());
        if !found {
            return Err(format!("{tool} is not installed (ci/setup installs it)"));
        }
    }
    fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|error| format!("cannot open /dev/net/tun: {error} (ci/setup makes it usable)"))?;
    let argv = ["unshare", "--user", "--map-root-user", "--net", "--mount", "true"];
    let unshare = run(&mut command(&argv), b"", DEFAULT_DEADLINE);
    if unshare.status.success() {
        Ok(())
    } else {
        Err(format!("no unprivileged user namespaces: {}", unshare.stderr.trim_end()))
    }
}

/// The folder that holds one folder per failed test.
fn artefacts() -> PathBuf {
    std::env::var_os("RNSNET_TEST_ARTEFACTS").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("netns"),
        PathBuf::from,
    )
}

/// A command whose environment does not depend on who runs the tests.
fn command(argv: &[&str]) -> Command {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    command
}

fn in_host(host: &Proc, argv: &[&str]) -> Command {
    let pid = host.pid().to_string();
    let mut command =
        command(&["nsenter", "-t", &pid, "-U", "--preserve-credentials", "-n", "-m", "--"]);
    command.args(argv).env("XDG_RUNTIME_DIR", RUNTIME_DIR);
    command
}

fn in_net(pid: u32) -> Command {
    command(&["nsenter", "-t", &pid.to_string(), "-U", "--preserve-credentials", "-n", "--"])
}

/// Completes `enter` to a process that holds the namespaces it is in; waits until it does.
#[track_caller]
fn sleeper(mut enter: Command) -> Proc {
    let guard = ["setpriv", "--pdeathsig", "KILL", "--"];
    enter.args(guard).args(["sh", "-c", "echo in; exec sleep infinity"]);
    let mut process = Proc::spawn(&mut enter);
    assert_eq!(process.line(secs(5)), "in");
    process
}

pub(crate) fn python(program: &str) -> String {
    format!("{PRELUDE}\n{program}\n")
}
