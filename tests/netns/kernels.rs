//! Kernels that lack what newer ones have: rnsnet says so once, and does without. Rows A1 A2 A4 G6.
//!
//! A seccomp filter around rnsnet answers as such a kernel does. Its own is added on top.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::{DEFAULT_DEADLINE, Proc, run};
use crate::lab::{LAN4, Lab, Place, python};
use crate::networks::reaches;
use crate::rnsnet::binary;

/// Executes its arguments with the answers in `rules`: a system call, the error, and which
/// value of its second argument and which bits of its third it is about.
const FILTER: &str = "
import ctypes, platform
def op(code, k, t=0, f=0): return struct.pack('<HBBI', code, t, f, k)
ioctl = {'x86_64': 16, 'aarch64': 29}[platform.machine()]
def answer(number, error, request=None, bits=None):
    rest = op(6, 0x50000 | error)
    if bits:
        rest = op(0x20, 32) + op(0x45, bits, 0, 1) + rest
    if request:
        rest = op(0x20, 24) + op(0x15, request, 0, len(rest) // 8) + rest
    return op(0x20, 0) + op(0x15, number, 0, len(rest) // 8) + rest
class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_char_p)]
libc = ctypes.CDLL(None)
code = b''.join(rules()) + op(6, 0x7fff0000)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
";

/// The ioctls of nsfs, as 64-bit kernels answer 32-bit programs.
const DEAF_NSFS: &str = "
def rules():
    return [answer(ioctl, errno.ENOTTY, request) for request in (0xb701, 0xb703)]
";

/// Linux 5.0: pidfd_send_signal, pidfd_open, close_range, mount_setattr, Landlock, and USO of TAPs are
/// to come.
const OLD: &str = "
def rules():
    calls = [answer(number, errno.ENOSYS) for number in (424, 434, 436, 442, 444, 445, 446)]
    return calls + [answer(ioctl, errno.EINVAL, 0x400454d0, 0x60)]
";

/// Who makes a user namespace has no rights in it: TUNSETIFF is refused.
const POWERLESS: &str = "
def rules():
    return [answer(ioctl, errno.EPERM, 0x400454ca)]
";

impl Lab {
    /// `rnsnet ARGS` on a kernel that lacks what `rules` say.
    fn lacking(&self, rules: &str, args: &[&str]) -> Command {
        let program = python(&format!("{rules}{FILTER}"));
        let mut command = self.cmd(Place::User, &["python3", "-c", &program]);
        command.arg(binary()).args(args);
        command
    }
}

// A1, A2: a 32-bit program under a 64-bit kernel.
#[test]
fn without_an_answer_about_namespaces_it_attaches_all_the_same() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let deaf = |args: &[&str]| run(&mut lab.lacking(DEAF_NSFS, args), b"", DEFAULT_DEADLINE);
    let pid = ctr.pid().to_string();
    deaf(&["--network", "none", &pid]).ok();
    let net = format!("/proc/{pid}/ns/net");
    deaf(&["--network", "none", &net]).ok();
    let wrong = deaf(&["--network", "none", "/proc/self/ns/user"]);
    assert!(wrong.stderr.contains("is not a network namespace"), "{wrong}");
    let wrong = deaf(&["--network", "none", "/proc/self/status"]);
    assert!(wrong.stderr.contains("is not a network namespace"), "{wrong}");

    // By a path that is no process's, the user namespace must be said.
    let path = lab.dir().join("netns");
    let path = path.to_str().expect("the lab's folders are UTF-8");
    lab.sh(Place::Host, &format!("touch {path}; mount --bind {net} {path}")).ok();
    let untold = deaf(&["--network", "none", path]);
    assert_eq!(untold.code(), 1, "{untold}");
    assert!(untold.stderr.contains("hint: say it by --userns-path"), "{untold}");
    let userns = format!("--userns-path=/proc/{pid}/ns/user");
    deaf(&["--network", "none", &userns, path]).ok();
    // The filter does what it is for: with it the answer is missing.
    assert!(untold.stderr.contains("Inappropriate ioctl"), "{untold}");
}

// A8: how a container was entered is known to who brings it back.
#[test]
fn a_killed_network_comes_back_by_the_user_namespace_that_was_said() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let web = lab.container();
    let net = format!("/proc/{}/ns/net", web.pid());
    let path = lab.dir().join("netns").display().to_string();
    lab.sh(Place::Host, &format!("touch {path}; mount --bind {net} {path}")).ok();
    let userns = format!("--userns-path=/proc/{}/ns/user", web.pid());
    let deaf = |args: &[&str]| run(&mut lab.lacking(DEAF_NSFS, args), b"", DEFAULT_DEADLINE);
    deaf(&["-d", "--network", "n1", "--name", "web", &userns, &path]).ok();
    lab.kill_network("n1");
    deaf(&["reattach"]).ok();
    assert_eq!(lab.rn("ps --format {{.Name}}"), "web");
    assert!(reaches(&lab, &web, "10.89.0.1"));
    // Of a namespace by a path the end cannot be seen: its network would stay for ever.
    lab.rn("network disconnect n1 web");
}

/// What is to be said of what an old kernel lacks.
#[track_caller]
fn says_what_is_missing(log: &str) {
    for what in ["no pidfds here (Linux 5.3", "no Landlock (Linux 5.13)"] {
        assert_eq!(log.matches(what).count(), 1, "{what}: {log}");
    }
}

// A4, G6: a command has its network and its signals.
#[test]
fn an_old_kernel_runs_a_command() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let url = format!("http://{LAN4}:8080/");
    let page = run(&mut lab.lacking(OLD, &["run", "curl", "-sS", "-m20", &url]), b"", secs(30));
    assert_eq!(page.ok(), "hello from the lan");
    says_what_is_missing(&page.stderr);
    let script = "trap 'exit 7' HUP; echo up; while :; do sleep 0.1; done";
    let mut command = lab.lacking(OLD, &["run", "--log-level", "debug", "sh", "-c", script]);
    let mut process = Proc::spawn(&mut command);
    assert_eq!(process.line(DEFAULT_DEADLINE), "up");
    process.signal(Signal::SIGHUP);
    let ran = process.finish(DEFAULT_DEADLINE);
    assert_eq!(ran.code(), 7, "{ran}");
    assert_eq!(ran.stderr.matches("no UDP segmentation").count(), 1, "{ran}");

    let report = run(&mut lab.lacking(OLD, &["doctor"]), b"", DEFAULT_DEADLINE);
    for line in ["warn landlock: missing", "warn pidfd: missing"] {
        assert!(report.stdout.contains(line), "{line}: {report}");
    }
}

// G6: as on Ubuntu 24.04, where namespaces can be made and nothing in them.
#[test]
fn a_restriction_by_apparmor_is_named_by_the_doctor() {
    let Some(lab) = Lab::new() else { return };
    let doctor = || run(&mut lab.lacking(POWERLESS, &["doctor"]), b"", DEFAULT_DEADLINE);
    let container = |report: &str| {
        let line = report.lines().find(|line| line.starts_with("FAIL container: no TAP device"));
        line.expect("a TAP is refused").to_owned()
    };
    lab.sh(Place::Host, "mount -t tmpfs none /proc/sys/kernel").ok();
    let restrict = |value: u8| {
        let file = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
        lab.sh(Place::Host, &format!("echo {value} > {file}")).ok();
        let report = doctor();
        assert_eq!(report.code(), 1, "{report}");
        container(&report.stdout)
    };
    assert!(!restrict(0).contains("AppArmor"));
    let remedy = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
    let line = restrict(1);
    assert!(line.ends_with(remedy), "{line}");
}

// A1, G6: the end of a container is seen, in a network of its own and in a named one.
#[test]
fn an_old_kernel_tells_of_the_end_of_containers() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let alone = lab.container();
    let mut command = lab.lacking(OLD, &["--log-level", "debug", &alone.pid().to_string()]);
    let process = Proc::spawn(&mut command);
    let get = format!("curl -sS -m20 http://{LAN4}:8080/");
    eventually(DEFAULT_DEADLINE, "the container has a network", || {
        let page = lab.sh(Place::In(&alone), &get);
        if page.stdout.contains("hello") { Ok(()) } else { Err(page.to_string()) }
    });
    alone.kill();
    let ran = process.finish(DEFAULT_DEADLINE);
    ran.ok();
    says_what_is_missing(&ran.stderr);

    lab.rnsnet_ends(&["network", "create", "n"]).ok();
    let (one, two) = (lab.container(), lab.container());
    for (name, container) in [("one", &one), ("two", &two)] {
        let args = ["-d", "--network", "n", "--name", name, &container.pid().to_string()];
        run(&mut lab.lacking(OLD, &args), b"", DEFAULT_DEADLINE).ok();
    }
    one.kill();
    eventually(DEFAULT_DEADLINE, "the network has one container less", || {
        let names = lab.rnsnet_ends(&["ps", "--format", "{{.Name}}"]);
        if names.ok().trim() == "two" { Ok(()) } else { Err(names.to_string()) }
    });
}
