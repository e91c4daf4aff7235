//! `rnsnet run`: namespaces, network and a command in one. Row A4.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::eventually::{eventually, secs};
use crate::exec::{DEFAULT_DEADLINE, Proc, Ran, run};
use crate::lab::{DNS4, GATEWAY4, GUEST4, GUEST6, HOST4, LAN4, LAN6, Lab, Place};

impl Lab {
    /// Runs `rnsnet run OPTIONS -- COMMAND` to its end.
    #[track_caller]
    fn rnsnet_run(&self, options: &[&str], command: &[&str]) -> Ran {
        self.rnsnet_ends(&[&["run"], options, &["--"], command].concat())
    }

    /// Starts it in a process group of its own, as a shell with job control does.
    #[track_caller]
    fn rnsnet_run_start(&self, options: &[&str], command: &[&str]) -> Proc {
        let arguments = [&["run"], options, &["--"], command].concat();
        Proc::spawn(self.rnsnet_command(&arguments).process_group(0))
    }
}

// A4
#[test]
fn the_command_has_a_network() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let addresses = lab.rnsnet_run(&[], &["ip", "-br", "addr"]);
    for part in ["127.0.0.1/8", "eth0", &format!("{GUEST4}/24"), &format!("{GUEST6}/64")] {
        assert!(addresses.ok().contains(part), "no {part}: {addresses}");
    }
    let routes = lab.rnsnet_run(&[], &["ip", "route"]);
    assert!(routes.ok().contains(&format!("default via {GATEWAY4}")), "{routes}");
    for url in [format!("http://{LAN4}:8080/"), format!("http://[{LAN6}]:8080/")] {
        let page = lab.rnsnet_run(&[], &["curl", "-sS", "-m20", &url]);
        assert_eq!(page.ok(), "hello from the lan");
        assert_eq!(page.stderr.matches("rror").count(), 0, "{page}");
    }
}

// A4: options of the network are those of the attaching form.
#[test]
fn the_interface_is_as_asked_for() {
    let Some(lab) = Lab::new() else { return };
    let options = ["--ifname", "lan0", "--mtu", "9000", "--mac", "02:00:00:00:00:07", "--no-ipv6"];
    let link = lab.rnsnet_run(&options, &["ip", "addr", "show", "lan0"]);
    for part in ["mtu 9000", "02:00:00:00:00:07", GUEST4] {
        assert!(link.ok().contains(part), "no {part}: {link}");
    }
    assert!(!link.ok().contains("fd72:"), "{link}");
    let none = lab.rnsnet_run(&["--network", "none"], &["ip", "-br", "addr"]);
    assert_eq!(none.ok().lines().count(), 1, "{none}");
    assert!(none.ok().contains("127.0.0.1/8"), "{none}");
}

// A4: files in place, and only inside.
#[test]
fn resolv_conf_hosts_and_hostname_are_in_place() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let files = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
    let host_files = || {
        let all = lab.sh(Place::User, "cat /etc/resolv.conf /etc/hosts /etc/hostname; uname -n");
        all.ok().to_owned()
    };
    let before = host_files();
    let read = |file: &str| lab.rnsnet_run(&["--hostname", "h1"], &["cat", file]).ok().to_owned();
    let resolv = read(files[0]);
    assert!(resolv.lines().any(|line| line == format!("nameserver {DNS4}")), "{resolv}");
    assert!(!resolv.contains(LAN4), "the host's servers are not the container's: {resolv}");
    let hosts = read(files[1]);
    let line = |address: &str, name: &str| {
        hosts.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(address) && words.any(|word| word == name)
        })
    };
    assert!(line("127.0.0.1", "localhost"), "{hosts}");
    assert!(line(GUEST4, "h1"), "{hosts}");
    assert_eq!(read(files[2]), "h1");
    assert_eq!(lab.rnsnet_run(&["--hostname", "h1"], &["uname", "-n"]).ok(), "h1");
    // The resolver of the C library finds names by all of this.
    let found = lab.rnsnet_run(&["--hostname", "h1"], &["getent", "ahostsv4", "a.test"]);
    assert!(found.ok().starts_with(LAN4), "{found}");
    let own = lab.rnsnet_run(&["--hostname", "h1"], &["getent", "ahostsv4", "h1"]);
    assert!(own.ok().starts_with(GUEST4), "{own}");
    assert_eq!(host_files(), before, "the host's files are unchanged");
}

// Where nobody answers at the gateway, whom the host asks is asked, if he can be reached.
#[test]
fn on_a_network_without_dns_a_command_asks_the_hosts_servers() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    lab.set_resolv_conf(&format!("nameserver 127.0.0.53\nnameserver {LAN4}\nnameserver {LAN6}\n"));
    lab.rn("network create --disable-dns n1");
    let run = |command: &[&str]| lab.rnsnet_run(&["--network", "n1"], command).ok().to_owned();
    // The network has no IPv6.
    let file = run(&["cat", "/etc/resolv.conf"]);
    assert_eq!(file, format!("# written by rnsnet\nnameserver {LAN4}"));
    assert!(run(&["getent", "ahostsv4", "a.test"]).starts_with("192.0.2.9"));
}

// A4
#[test]
fn the_exit_status_is_the_commands() {
    let Some(lab) = Lab::new() else { return };
    for status in [0, 1, 7, 125, 255] {
        let ran = lab.rnsnet_run(&[], &["sh", "-c", &format!("exit {status}")]);
        assert_eq!(ran.code(), status, "{ran}");
    }
    for (signal, status) in [("TERM", 143), ("KILL", 137), ("SEGV", 139)] {
        let ran = lab.rnsnet_run(&[], &["sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(ran.code(), status, "{ran}");
    }
}

// A4: 127, 126 and 125, as Docker has them.
#[test]
fn failures_of_the_start_have_their_own_codes() {
    let Some(lab) = Lab::new() else { return };
    let missing = lab.rnsnet_run(&[], &["no-such-command"]);
    assert_eq!(missing.code(), 127, "{missing}");
    assert!(missing.stderr.contains("no-such-command"), "{missing}");
    let missing = lab.rnsnet_run(&[], &["/no/such/command"]);
    assert_eq!(missing.code(), 127, "{missing}");
    let not_executable = lab.rnsnet_run(&[], &["/etc/passwd"]);
    assert_eq!(not_executable.code(), 126, "{not_executable}");
    assert!(not_executable.stderr.contains("/etc/passwd"), "{not_executable}");
    let _taken = lab.serve(Place::User, "l = listen(8080, '0.0.0.0'); forever()");
    let own = lab.rnsnet_run(&["-p", "8080:80"], &["sh", "-c", "echo ran"]);
    assert_eq!(own.code(), 125, "{own}");
    assert!(own.stderr.contains("8080"), "{own}");
    assert_eq!(own.stdout, "", "the command must not have been started");
}

// A4: standard streams and environment are the caller's.
#[test]
fn input_output_and_environment_pass_through() {
    let Some(lab) = Lab::new() else { return };
    let mut command =
        lab.rnsnet_command(&["run", "--", "sh", "-c", "cat; echo $GREETING; echo e >&2"]);
    let ran = run(command.env("GREETING", "hi"), b"from stdin\n", DEFAULT_DEADLINE);
    assert_eq!(ran.ok(), "from stdin\nhi");
    assert!(ran.stderr.lines().any(|line| line == "e"), "{ran}");
    // Arguments are handed on as they are, also what looks like our own.
    let echo = lab.rnsnet_run(&[], &["echo", "-p", "--", "--mtu=1", ""]);
    assert_eq!(echo.ok(), "-p -- --mtu=1");
}

// A4: the command is root of its own namespaces and nobody on the host.
#[test]
fn the_command_is_root_inside_only() {
    let Some(lab) = Lab::new() else { return };
    let id = lab.rnsnet_run(&[], &["id", "-u"]);
    assert_eq!(id.ok(), "0");
    for kind in ["user", "net", "mnt"] {
        let path = format!("/proc/self/ns/{kind}");
        let inside = lab.rnsnet_run(&[], &["readlink", &path]);
        assert_ne!(inside.ok(), lab.run(Place::User, &["readlink", &path]).ok(), "{kind}");
    }
    // No descriptor but the standard three is left to it; the fourth is ls's own.
    let fds = lab.rnsnet_run(&[], &["ls", "/proc/self/fd"]);
    assert_eq!(fds.ok(), "0\n1\n2\n3", "{fds}");
}

// A4, the README's first command
#[test]
fn a_published_server_answers_and_ends_on_ctrl_c() {
    let Some(lab) = Lab::new() else { return };
    let root = lab.dir().join("srv");
    std::fs::create_dir_all(&root).expect("the folder is ours");
    std::fs::write(root.join("index.html"), "hello from inside\n").expect("the folder is ours");
    let root = root.to_str().expect("the lab's folders are UTF-8");
    let command = ["busybox", "httpd", "-f", "-p", "80", "-h", root];
    let mut rnsnet = lab.rnsnet_run_start(&["-p", "8080:80"], &command);
    let fetch = |place: Place<'_>, url: &str| lab.run(place, &["curl", "-sS", "-m20", url]);
    eventually(secs(5), "the page is served", || {
        assert!(rnsnet.ended().is_none(), "it must go on");
        let page = fetch(Place::User, "http://127.0.0.1:8080/");
        if page.stdout == "hello from inside\n" { Ok(()) } else { Err(page.to_string()) }
    });
    let page = fetch(Place::Lan, &format!("http://{HOST4}:8080/"));
    assert_eq!(page.ok(), "hello from inside");
    // A terminal sends SIGINT to the whole foreground group.
    interrupt_group(&rnsnet);
    let ran = rnsnet.finish(secs(5));
    assert_eq!(ran.code(), 130, "{ran}");
    assert!(!ran.stderr.contains("rnsnet: error") && !ran.stderr.contains("panicked"), "{ran}");
    assert_eq!(lab.sockets(Place::User, 8080), "");
}

fn interrupt_group(process: &Proc) {
    let group = Pid::from_raw(i32::try_from(process.pid()).expect("a pid fits"));
    killpg(group, Signal::SIGINT).expect("the group is there");
}

/// Runs a program on a terminal of its own, types Ctrl-C once it has said `up`, and prints how often
/// it says `caught` after that. Only the kernel's own SIGINT shows where it came from.
const TERMINAL: &str = "
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b''
while b'up' not in seen:
    seen += os.read(fd, 1000)
os.write(fd, b'\\x03')
try:
    while more := os.read(fd, 1000):
        seen += more
except OSError:
    pass
print(seen.count(b'caught'))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

// A4: Ctrl-C is the command's to handle.
#[test]
fn a_command_that_handles_ctrl_c_decides_itself() {
    let Some(lab) = Lab::new() else { return };
    let script = "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.1; done";
    let rnsnet = lab.rnsnet_command(&["run", "--", "sh", "-c", script]);
    let mut terminal = Command::new("python3");
    terminal.args(["-c", TERMINAL]).arg(rnsnet.get_program()).args(rnsnet.get_args());
    let ran = run(&mut terminal, b"", secs(5));
    assert_eq!(ran.code(), 5, "{ran}");
    // Once: the terminal's signal must not be handed on a second time.
    assert_eq!(ran.stdout.trim(), "1", "{ran}");
}

// A4: signals to rnsnet alone are passed on.
#[test]
fn signals_are_passed_on_to_the_command() {
    let Some(lab) = Lab::new() else { return };
    for (signal, name) in
        [(Signal::SIGTERM, "TERM"), (Signal::SIGHUP, "HUP"), (Signal::SIGINT, "INT")]
    {
        let script = format!("trap 'exit 7' {name}; echo up; while :; do sleep 0.1; done");
        let mut rnsnet = lab.rnsnet_run_start(&[], &["sh", "-c", &script]);
        assert_eq!(rnsnet.line(secs(5)), "up");
        rnsnet.signal(signal);
        let ran = rnsnet.finish(secs(5));
        assert_eq!(ran.code(), 7, "{name}: {ran}");
    }
    let mut rnsnet = lab.rnsnet_run_start(&[], &["sh", "-c", "echo up; exec sleep 60"]);
    assert_eq!(rnsnet.line(secs(5)), "up");
    rnsnet.signal(Signal::SIGTERM);
    assert_eq!(rnsnet.finish(secs(5)).code(), 143);
}

// The command never outlives rnsnet.
#[test]
fn the_command_dies_with_rnsnet() {
    let Some(lab) = Lab::new() else { return };
    let mut rnsnet = lab.rnsnet_run_start(&[], &["sh", "-c", "echo $$; exec sleep 60"]);
    let command = rnsnet.line(secs(5));
    rnsnet.signal(Signal::SIGKILL);
    drop(rnsnet);
    eventually(secs(5), "the command has ended", || {
        match std::fs::read_to_string(format!("/proc/{command}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => Err(stat),
            _ => Ok(()),
        }
    });
}

// Several at once need no port or name of their own.
#[test]
fn many_run_side_by_side() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let fetch = format!("socat -t30 - TCP:{LAN4}:7 </dev/null");
    let running: Vec<Proc> =
        (0..6).map(|_| lab.rnsnet_run_start(&[], &["sh", "-c", &fetch])).collect();
    for process in running {
        let ran = process.finish(secs(10));
        assert!(ran.ok().starts_with(HOST4), "{ran}");
    }
}
