//! `rnsnet run`: a command in new user, mount, network and UTS namespaces.
//!
//! The child is forked first and waits; this process writes its id maps and attaches its network
//! (`attach.rs`), then lets it go. Before it executes the command the child puts its own
//! `resolv.conf`, `hosts` and `hostname` over the host's, in its own mount namespace, so that the
//! host's files are never touched. There is no PID namespace and no root file system of its own:
//! this is not a container engine. Read first: user_namespaces(7), mount_namespaces(7).

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, execvp, getegid, geteuid, gethostname, getpid, sethostname};

use crate::attach::{self, AttachError, Container};
use crate::config::{Process, Run, Target};
use crate::sys::isolate::{Inherited, close_all_but};
use crate::sys::netns;
use crate::sys::process;

/// A child in its new namespaces. Dropped before [`Sandbox::start`], it ends without having run
/// anything; afterwards it goes on until its command ends, or this process does.
#[derive(Debug)]
pub struct Sandbox {
    /// Its process id.
    pub pid: i32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
    /// The command, for messages.
    command: OsString,
    /// Where the child waits; `None` once it was let go.
    channel: Option<OwnedFd>,
}

/// What the generated files of a command name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// DNS servers.
    pub servers: Vec<IpAddr>,
    /// Domains that a short name is tried in.
    pub search: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
    /// The command's own addresses.
    pub own: Vec<IpAddr>,
    /// Other names with their addresses.
    pub hosts: Vec<(IpAddr, String)>,
}

/// Why a command could not be run.
#[derive(thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RunError {
    #[error("cannot start a child process")]
    Start { source: io::Error },
    #[error("cannot make new namespaces")]
    Namespaces { source: io::Error, hint: Option<&'static str> },
    #[error("cannot write {}", path.display())]
    Map { path: PathBuf, source: io::Error, hint: Option<&'static str> },
    #[error("cannot {step}")]
    Setup { step: String, source: io::Error },
    #[error("the child process ended before it ran {command:?}")]
    Died { command: OsString },
    #[error("cannot run {command:?}")]
    Exec { command: OsString, source: io::Error },
}

debug_as_display!(RunError);

impl RunError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Namespaces { hint, .. } | Self::Map { hint, .. } => *hint,
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("what is started is a program of this machine, no image")
            }
            _ => None,
        }
    }

    /// The exit status for this failure, as shells and env(1) have it: 127 for a command that is
    /// not there, 126 for one that cannot be executed, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Exec { .. } => 126,
            _ => 1,
        }
    }
}

/// Makes the namespaces and a child in them that waits for [`Sandbox::start`].
///
/// `names` is what the command is to find in its files; `inherited` is what it gets back of what
/// this process gave up. The process must be single-threaded.
///
/// # Errors
/// See [`RunError`]; above all that user namespaces are forbidden.
pub fn spawn(run: &Run, names: &Names, inherited: &Inherited) -> Result<Sandbox, RunError> {
    let start = |source| RunError::Start { source };
    let plan = Plan { run, names, inherited };
    let command = run.command.first().cloned().unwrap_or_default();
    let (ours, theirs) = netns::message_pair().map_err(start)?;
    let parent = getpid();
    let pid = netns::spawn(|| child(theirs.as_fd(), parent, &plan)).map_err(start)?;
    drop(theirs);
    let pidfd = match process::open(pid.as_raw()) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            drop(ours);
            netns::wait(pid).map_err(start)?;
            return Err(start(error));
        }
    };
    // From here on dropping it ends the child.
    let sandbox = Sandbox { pid: pid.as_raw(), pidfd, command, channel: Some(ours) };
    sandbox.expect_ready()?;
    write_maps(sandbox.pid)?;
    Ok(sandbox)
}

impl Sandbox {
    /// The child's namespaces, for [`attach::attach`].
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn container(&self) -> Result<Container, AttachError> {
        attach::open(&Target::Pid(self.pid))
    }

    /// Lets the child run its command, and returns once that is running. `ipv6` says whether the
    /// container has IPv6; without it no IPv6 address appears in its files.
    ///
    /// # Errors
    /// See [`RunError`]; see [`RunError::exit_code`] for a command that cannot be executed.
    pub fn start(&mut self, ipv6: bool) -> Result<(), RunError> {
        let start = |source| RunError::Start { source };
        let Some(channel) = self.channel.take() else {
            return Ok(());
        };
        netns::send(channel.as_fd(), &[u8::from(ipv6)], None).map_err(start)?;
        // The child's end closes when its command is executed.
        match netns::receive(channel.as_fd()).map_err(start)?.0.as_slice() {
            [] => Ok(()),
            report => {
                let error = self.reported(report);
                netns::wait(Pid::from_raw(self.pid)).map_err(start)?;
                Err(error)
            }
        }
    }

    /// Sends a signal to the command.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        process::signal(self.pidfd.as_fd(), signal)
    }

    /// The command's exit status, 128 + N after signal N, or `None` while it runs.
    ///
    /// # Errors
    /// What waitpid(2) reports; `ECHILD` when it was asked for before.
    pub fn exit_status(&self) -> io::Result<Option<i32>> {
        netns::wait_nonblocking(Pid::from_raw(self.pid))
    }

    /// Waits until the child is in its namespaces.
    fn expect_ready(&self) -> Result<(), RunError> {
        let died = || RunError::Died { command: self.command.clone() };
        let channel = self.channel.as_ref().ok_or_else(died)?;
        let message =
            netns::receive(channel.as_fd()).map_err(|source| RunError::Start { source })?.0;
        match message.as_slice() {
            [] => Err(died()),
            [READY] => Ok(()),
            report => Err(self.reported(report)),
        }
    }

    /// The error in a child's report: which, the error number, the step.
    fn reported(&self, report: &[u8]) -> RunError {
        let command = self.command.clone();
        let [code, a, b, c, d, step @ ..] = report else {
            return RunError::Died { command };
        };
        let source = io::Error::from_raw_os_error(i32::from_ne_bytes([*a, *b, *c, *d]));
        match *code {
            UNSHARE => RunError::Namespaces { hint: namespace_hint(&source), source },
            EXEC => RunError::Exec { command, source },
            _ => RunError::Setup { step: String::from_utf8_lossy(step).into_owned(), source },
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            // The child reads the end of the channel and exits.
            drop(channel);
            drop(netns::wait(Pid::from_raw(self.pid)));
        }
    }
}

/// What the child needs to know.
struct Plan<'a> {
    run: &'a Run,
    names: &'a Names,
    inherited: &'a Inherited,
}

/// A step that failed in the child.
struct Report {
    code: u8,
    errno: i32,
    step: String,
}

/// The child's life up to the command.
fn child(channel: BorrowedFd<'_>, parent: Pid, plan: &Plan<'_>) -> i32 {
    match prepare_and_execute(channel, parent, plan) {
        Ok(_) => 0,
        Err(None) => 1,
        Err(Some(Report { code, errno, step })) => {
            let mut message = vec![code];
            message.extend_from_slice(&errno.to_ne_bytes());
            message.extend_from_slice(step.as_bytes());
            message.truncate(netns::MESSAGE_LEN);
            match netns::send(channel, &message, None) {
                Ok(()) | Err(_) => 1,
            }
        }
    }
}

/// Returns only on failure; `None` when the parent gave up.
fn prepare_and_execute(
    channel: BorrowedFd<'_>,
    parent: Pid,
    plan: &Plan<'_>,
) -> Result<Infallible, Option<Report>> {
    let failed = |step: &str| {
        let step = step.to_owned();
        move |source: io::Error| Some(Report::new(SETUP, &source, step))
    };
    // Nothing of ours is for the command, neither sockets nor what the caller passed to us.
    close_all_but(&[channel.as_raw_fd()]).map_err(failed("close descriptors"))?;
    netns::die_with(parent).map_err(|_| None)?;
    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces)
        .map_err(|errno| Some(Report::new(UNSHARE, &errno.into(), String::new())))?;
    netns::send(channel, &[READY], None).map_err(|_| None)?;
    // The parent has written the id maps and attached the network when this comes.
    let message = netns::receive(channel).map_err(|_| None)?.0;
    let [ipv6] = message.as_slice() else {
        return Err(None);
    };

    set_up_files(plan, *ipv6 != 0).map_err(|(step, source)| failed(&step)(source))?;
    plan.inherited.restore().map_err(failed("restore limits"))?;
    netns::reset_signals().map_err(failed("reset signals"))?;
    netns::die_with(parent).map_err(|_| None)?;
    let arguments = plan
        .run
        .command
        .iter()
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| failed("pass an argument with a NUL byte")(Errno::EINVAL.into()))?;
    let Some(program) = arguments.first() else {
        return Err(failed("run an empty command")(Errno::EINVAL.into()));
    };
    execvp(program, &arguments).map_err(|errno| {
        // One unreadable directory in PATH makes execvp(3) say EACCES for a command that is
        // nowhere; a shell says "not found".
        let path = std::env::var_os("PATH").unwrap_or_default();
        let nowhere = errno == Errno::EACCES && !is_somewhere(&plan.run.command[0], &path);
        let errno = if nowhere { Errno::ENOENT } else { errno };
        Some(Report::new(EXEC, &errno.into(), String::new()))
    })
}

/// Whether a command names a file, by itself or in a directory of `path`.
fn is_somewhere(command: &OsStr, path: &OsStr) -> bool {
    command.as_bytes().contains(&b'/')
        || std::env::split_paths(path).any(|directory| directory.join(command).exists())
}

/// Puts the generated files over the host's in this mount namespace, sets the host name, and shows
/// the new network namespace's devices under `/sys`.
fn set_up_files(plan: &Plan<'_>, ipv6: bool) -> Result<(), (String, io::Error)> {
    let failed = |step: &str| {
        let step = step.to_owned();
        move |errno: Errno| (step, io::Error::from(errno))
    };
    let nothing = None::<&str>;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, flags, nothing).map_err(failed("make mounts private"))?;
    if let Some(hostname) = &plan.run.hostname {
        sethostname(hostname).map_err(failed("set the host name"))?;
    }
    let cgroup = open_path("/sys/fs/cgroup");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("rnsnet"), STAGING, Some("tmpfs"), flags, Some("mode=0755,size=1m"))
        .map_err(failed("mount a temporary file system"))?;
    let files = if plan.run.caller.host_files { Vec::new() } else { files(plan, ipv6) };
    for (target, contents) in files {
        place(target, &contents)
            .map_err(|source| (format!("put a generated file over {target}"), source))?;
    }
    // The files stay where they were bound.
    umount2(STAGING, MntFlags::MNT_DETACH).map_err(failed("unmount the temporary file system"))?;
    // Refused where the host's /sys is partly covered, as in many containers: the command then
    // sees the host's devices there, but cannot use them.
    if mount(Some("sysfs"), "/sys", Some("sysfs"), flags, nothing).is_ok()
        && let Some(cgroup) = cgroup
    {
        let source = format!("/proc/self/fd/{}", cgroup.as_raw_fd());
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        if mount(Some(source.as_str()), "/sys/fs/cgroup", nothing, flags, nothing).is_err() {
            log::debug!("/sys/fs/cgroup is empty for the command");
        }
    }
    Ok(())
}

/// Binds a file with these contents over `target`, whose symbolic links are followed.
fn place(target: &str, contents: &str) -> io::Result<()> {
    let target = Path::new(target);
    // Making it would be a change of the host's file system.
    if !target.exists() {
        log::warn!("{} does not exist, so the command sees none either", target.display());
        return Ok(());
    }
    let source = Path::new(STAGING).join(target.file_name().unwrap_or_default());
    fs::write(&source, contents)?;
    // Whatever the umask: programs of any user inside read these.
    fs::set_permissions(&source, Permissions::from_mode(0o644))?;
    let nothing = None::<&str>;
    mount(Some(&source), target, nothing, MsFlags::MS_BIND, nothing)?;
    Ok(())
}

/// The generated files: where they go and what is in them.
fn files(plan: &Plan<'_>, ipv6: bool) -> Vec<(&'static str, String)> {
    let hostname = plan.run.hostname.clone().or_else(|| gethostname().ok()?.into_string().ok());
    let mut files = vec![
        ("/etc/resolv.conf", resolv_conf(plan.names, ipv6)),
        ("/etc/hosts", hosts(plan.names, hostname.as_deref(), ipv6)),
    ];
    if let Some(hostname) = &plan.run.hostname {
        files.push(("/etc/hostname", format!("{hostname}\n")));
    }
    files
}

/// Writes the files that the user of an attached container has asked for, before it is locked down.
///
/// # Errors
/// What keeps one from being written.
pub fn write_files(names: &Names, process: &Process, ipv6: bool) -> Result<(), RunError> {
    for (path, text) in [
        (&process.resolv_conf, resolv_conf(names, ipv6)),
        (&process.hosts, hosts(names, process.name.as_deref(), ipv6)),
    ] {
        if let Some(path) = path {
            let failed = |source| RunError::Map { path: path.clone(), source, hint: None };
            write_for_all(path, &text).map_err(failed)?;
        }
    }
    Ok(())
}

/// Writes a file that programs of any user inside read: one that is made is open to them, one that
/// is there keeps its mode.
fn write_for_all(path: &Path, text: &str) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::write(path, text),
        Err(error) => Err(error),
    }
}

/// resolv.conf(5).
fn resolv_conf(names: &Names, ipv6: bool) -> String {
    let mut text = String::from("# written by rnsnet\n");
    for server in names.servers.iter().filter(|address| ipv6 || address.is_ipv4()) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (keyword, words) in [("search", &names.search), ("options", &names.options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

/// hosts(5).
fn hosts(names: &Names, hostname: Option<&str>, ipv6: bool) -> String {
    let mut text = String::from("# written by rnsnet\n127.0.0.1 localhost\n");
    if ipv6 {
        text.push_str("::1 localhost ip6-localhost ip6-loopback\n");
    }
    let usable = |address: &IpAddr| ipv6 || address.is_ipv4();
    if let Some(hostname) = hostname.filter(|name| !name.is_empty() && *name != "localhost") {
        for address in names.own.iter().filter(|address| usable(address)) {
            text.push_str(&format!("{address} {hostname}\n"));
        }
    }
    for (address, name) in names.hosts.iter().filter(|(address, _)| usable(address)) {
        text.push_str(&format!("{address} {name}\n"));
    }
    text
}

/// Writes the child's id maps: every id this process has as itself when it is privileged root,
/// else the caller as root and nobody beside.
fn write_maps(pid: i32) -> Result<(), RunError> {
    let write = |name: &str, text: &str| {
        let path = PathBuf::from(format!("/proc/{pid}/{name}"));
        fs::write(&path, text).map_err(|source| {
            let hint = namespace_hint(&source);
            RunError::Map { path, source, hint }
        })
    };
    if geteuid().is_root() && may_map_everything() {
        for name in ["gid_map", "uid_map"] {
            let path = PathBuf::from(format!("/proc/self/{name}"));
            let own = fs::read_to_string(&path).map_err(|source| RunError::Map {
                path,
                source,
                hint: None,
            })?;
            write(name, &identity_map(&own))?;
        }
        return Ok(());
    }
    // user_namespaces(7): without privilege, only after setgroups(2) was given up.
    write("setgroups", "deny")?;
    write("gid_map", &format!("0 {} 1", getegid()))?;
    write("uid_map", &format!("0 {} 1", geteuid()))
}

/// CAP_SETFCAP is what mapping id 0 takes since Linux 5.12.
fn may_map_everything() -> bool {
    [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_SETFCAP]
        .iter()
        .all(|cap| caps::has_cap(None, CapSet::Effective, *cap).unwrap_or(false))
}

/// Every id of a user namespace mapped to itself, from that namespace's own map.
fn identity_map(own: &str) -> String {
    own.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (inside, count) = (fields.next()?, fields.nth(1)?);
            Some(format!("{inside} {inside} {count}\n"))
        })
        .collect()
}

/// Which of the usual switches forbids user namespaces.
pub(crate) fn namespace_hint(error: &io::Error) -> Option<&'static str> {
    if !matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS | libc::EINVAL)
    ) {
        return None;
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return Some("user namespaces are switched off: sysctl -w user.max_user_namespaces=16384");
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Some(
            "user namespaces are for root only here: sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    if apparmor_restricts() {
        return Some(APPARMOR);
    }
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EUSERS) => {
            Some("too many namespaces: see the limits in /proc/sys/user/max_*_namespaces")
        }
        Some(libc::EINVAL) => Some("the kernel must have user, network, mount and UTS namespaces"),
        _ => Some(
            "user namespaces are forbidden here: in a container usually by the engine's seccomp \
             filter, in a chroot by the kernel, on a host by an LSM or a hardened kernel",
        ),
    }
}

fn is(path: &str, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

/// Whether who makes a user namespace has no capabilities in it: Ubuntu 23.10 and later, for programs
/// without a profile.
pub(crate) fn apparmor_restricts() -> bool {
    let label = fs::read_to_string("/proc/self/attr/apparmor/current").unwrap_or_default();
    let has_profile = !label.is_empty() && label.trim() != "unconfined";
    is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") && !has_profile
}

/// What helps there.
pub(crate) const APPARMOR: &str = "AppArmor restricts user namespaces to programs with a profile: \
     install vendor-config/apparmor/rnsnet, or sysctl -w \
     kernel.apparmor_restrict_unprivileged_userns=0";

fn open_path(path: &str) -> Option<OwnedFd> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    file.ok().map(OwnedFd::from)
}

impl Report {
    fn new(code: u8, error: &io::Error, step: String) -> Self {
        Self { code, errno: error.raw_os_error().unwrap_or(libc::EIO), step }
    }
}

/// Where the generated files are made. It is there on every Linux, and unlike /tmp, /run and /proc
/// no `/etc/resolv.conf` in use is a symbolic link into it (OpenWrt, systemd-resolved and network
/// boot have such links).
const STAGING: &str = "/sys";

// The first byte of the child's messages.
const READY: u8 = 0;
const UNSHARE: u8 = 1;
const SETUP: u8 = 2;
const EXEC: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn generated_files_name_the_container() {
        let mut names = Names {
            servers: addresses(&["10.0.2.3", "fd72:6e73:6e65::3"]),
            own: addresses(&["10.0.2.100", "fd72:6e73:6e65::100"]),
            ..Names::default()
        };
        assert_eq!(
            resolv_conf(&names, true),
            "# written by rnsnet\nnameserver 10.0.2.3\nnameserver fd72:6e73:6e65::3\n"
        );
        assert_eq!(
            hosts(&names, Some("box"), true),
            "# written by rnsnet\n127.0.0.1 localhost\n\
             ::1 localhost ip6-localhost ip6-loopback\n\
             10.0.2.100 box\nfd72:6e73:6e65::100 box\n"
        );
        names.search = vec!["lab.test".to_owned(), "test".to_owned()];
        names.options = vec!["ndots:2".to_owned(), "edns0".to_owned()];
        let printer = ("192.0.2.9".parse().unwrap(), "printer".to_owned());
        names.hosts = vec![printer, ("2001:db8::9".parse().unwrap(), "printer".to_owned())];
        assert_eq!(
            resolv_conf(&names, false),
            "# written by rnsnet\nnameserver 10.0.2.3\nsearch lab.test test\n\
             options ndots:2 edns0\n"
        );
        assert_eq!(
            hosts(&names, None, false),
            "# written by rnsnet\n127.0.0.1 localhost\n192.0.2.9 printer\n"
        );
    }

    #[test]
    fn an_identity_map_covers_what_the_caller_has() {
        assert_eq!(identity_map("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity_map("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let exec = |errno| RunError::Exec {
            command: "x".into(),
            source: io::Error::from_raw_os_error(errno),
        };
        assert_eq!(exec(libc::ENOENT).exit_code(), 127);
        assert_eq!(exec(libc::EACCES).exit_code(), 126);
        assert_eq!(exec(libc::ENOEXEC).exit_code(), 126);
        assert_eq!(RunError::Died { command: "x".into() }.exit_code(), 1);
        assert_eq!(exec(libc::ENOENT).to_string(), "cannot run \"x\"");
    }

    #[test]
    fn a_command_is_looked_for_in_the_path_only_without_a_slash() {
        let is = |command: &str, path: &str| is_somewhere(command.as_ref(), path.as_ref());
        assert!(is("fd", "/no/such:/proc/self"));
        assert!(!is("fd", "/no/such"));
        assert!(is("./fd", ""));
    }

    #[test]
    fn only_refusals_get_a_hint() {
        assert!(namespace_hint(&io::Error::from_raw_os_error(libc::EPERM)).is_some());
        assert!(namespace_hint(&io::Error::from_raw_os_error(libc::ENOSPC)).is_some());
        assert!(namespace_hint(&io::Error::from_raw_os_error(libc::ENOMEM)).is_none());
    }

    #[test]
    fn files_for_a_container_can_be_read_there_whatever_the_umask() {
        let directory = crate::testing::scratch("written");
        let (new, old) = (directory.join("resolv.conf"), directory.join("hosts"));
        fs::write(&old, "long ago, and longer than what is written").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o640)).unwrap();
        let process = Process {
            resolv_conf: Some(new.clone()),
            hosts: Some(old.clone()),
            ..Process::default()
        };
        let child = netns::spawn(|| {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
            i32::from(write_files(&Names::default(), &process, false).is_err())
        });
        assert_eq!(netns::wait(child.unwrap()).unwrap(), 0);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&new), mode(&old)), (0o644, 0o640));
        assert_eq!(fs::read_to_string(&new).unwrap(), "# written by rnsnet\n");
        assert_eq!(fs::read_to_string(&old).unwrap(), "# written by rnsnet\n127.0.0.1 localhost\n");
        fs::remove_dir_all(directory).unwrap();
    }
}
