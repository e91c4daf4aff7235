//! The list of allowed system calls is no longer than it has to be. Row K2.
//!
//! Processes that do everything once are watched by strace(1): from the moment of their confinement
//! on, all of them together make every call of the list, or the list is too long. The other half,
//! that nothing beyond the list is needed, is what every other test here shows.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::Proc;
use crate::lab::{DNS4, GUEST4, HOST4, LAN4, Lab, Place};

/// Calls of the list that these processes do not make, and why others do.
const ELSEWHERE: &[(&str, &str)] = &[
    ("clock_gettime", "where the kernel gives no vDSO (vdso(7)), as under some emulators"),
    ("clock_gettime64", "the same on 32-bit machines"),
    ("epoll_wait", "glibc's epoll_wait(3); musl's calls epoll_pwait"),
    ("epoll_pwait", "musl's epoll_wait(3), and everybody's on aarch64; glibc's calls epoll_wait"),
    ("mprotect", "musl's malloc(3), for the pages of its own tables"),
    ("preadv2", "containers of another user; see tests/e2e/sharing.bats"),
    ("pwritev2", "the same"),
    ("statx", "the same"),
    ("futex", "the first panic; see the unit test `a_panic_can_still_be_caught`"),
];

#[cfg(target_arch = "x86_64")]
const LIST: &str = include_str!("../../vendor-config/seccomp/x86_64.list");
#[cfg(target_arch = "aarch64")]
const LIST: &str = include_str!("../../vendor-config/seccomp/aarch64.list");
#[cfg(target_arch = "arm")]
const LIST: &str = include_str!("../../vendor-config/seccomp/arm.list");

/// A line of a trace: the pid, where there are several processes, and the rest.
fn by_process(line: &str) -> (&str, &str) {
    match line.split_once(' ') {
        Some((pid, rest)) if pid.bytes().all(|b| b.is_ascii_digit()) => (pid, rest.trim_start()),
        _ => ("", line),
    }
}

/// The calls after the confinement, by name.
fn calls(lab: &Lab, name: &str) -> BTreeSet<String> {
    let file = lab.dir().join(format!("{name}.strace"));
    let text = eventually(secs(5), "the trace ends with its processes", || {
        let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let pids: BTreeSet<_> = text.lines().map(|line| by_process(line).0).collect();
        let ends = text.lines().filter(|line| line.ends_with(" +++")).count();
        if ends >= pids.len() { Ok(text) } else { Err(format!("{ends} of {}", pids.len())) }
    });
    let (mut confined, mut made) = (BTreeSet::new(), BTreeSet::new());
    for (pid, rest) in text.lines().map(by_process) {
        if rest.starts_with("prctl(PR_SET_SECCOMP") {
            confined.insert(pid);
        } else if confined.contains(pid)
            && let Some((call, _)) = rest.split_once('(')
            && call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            made.insert(call.to_owned());
        }
    }
    assert!(!confined.is_empty(), "{name} was not confined");
    made
}

/// Traces a call of `rnsnet` that the test starts itself.
fn traced(lab: &Lab, name: &str, args: &[&str]) -> std::process::Command {
    let file = lab.dir().join(format!("{name}.strace"));
    let mut command = lab.cmd(Place::User, &["strace", "--daemonize", "-f", "-q", "-o"]);
    command.arg(file).arg(crate::rnsnet::binary()).args(args);
    command
}

/// Runs one whose tracer stays behind with what follows it, and holds its output open.
#[track_caller]
fn ends_well(command: &mut std::process::Command) {
    let mut process = Proc::spawn(command);
    let status = eventually(secs(10), "it ends", || process.ended().ok_or_else(String::new));
    assert!(status.success(), "{status}");
}

/// A network that does whatever can be asked of one.
fn serve_everything(lab: &Lab) {
    lab.allow_ping();
    let _dns = lab.dns_server(LAN4);
    let _echo = lab.serve(
        Place::Lan,
        "thread(echo_udp, 9); thread(serve_each, lambda s: (send_exact(s, 32 << 20), s.close()), 8)\n\
         echo_tcp(7)",
    );
    lab.set_resolv_conf(&format!("nameserver {LAN4}\n"));
    lab.replaceable_etc();
    let ctr = lab.container();
    let pid_file = lab.dir().join("pid");
    let options = ["-p", "8080:80", "-p", "8080:80/udp", "-n", "web"];
    let net = lab
        .rnsnet(&ctr)
        .traced()
        .named("all")
        .with(&options)
        .with(&["--pid-file", pid_file.to_str().expect("the lab's folders are UTF-8")])
        .start();
    let _inside = lab.serve(Place::In(&ctr), "thread(echo_udp, 80); echo_tcp(80)");
    let tcp_and_udp = format!(
        "
s = tcp('{LAN4}', 7); s.sendall(b'x'); s.recv(1); s.shutdown(socket.SHUT_WR); read_all(s)
s = tcp('{LAN4}', 8); time.sleep(0.3); recv_exact(s, 32 << 20)
u = udp(); u.sendto(b'x', ('{LAN4}', 9)); u.recv(9)
"
    );
    lab.py(Place::In(&ctr), &tcp_and_udp).ok();
    lab.sh(Place::In(&ctr), &format!("ping -c1 -W20 {LAN4}")).ok();
    let dig = format!("dig +short +tries=5 +time=10 @{DNS4} a.test");
    // Slow under strace on a busy machine: dig says so, and asks again.
    let dig = lab.sh(Place::In(&ctr), &dig);
    assert!(dig.ok().ends_with("192.0.2.9"), "{dig}");
    lab.py(
        Place::Lan,
        &format!(
            "s = tcp('{HOST4}', 8080); s.sendall(b'x'); s.recv(1)\n\
             u = udp(); u.sendto(b'x', ('{HOST4}', 8080)); u.recv(9)"
        ),
    )
    .ok();
    lab.rnsnet_ends(&["publish", "web", "127.0.0.1::81/udp"]).ok();
    lab.rnsnet_ends(&["publish", "web", "8082:81"]).ok();
    // Many flows and a long answer, so that the C library's and our own memory both have to grow.
    let hold = format!("all = [tcp('{LAN4}', 7) for _ in range(400)]; say('held'); forever()");
    let mut holder = lab.spawn_py(Place::In(&ctr), &hold);
    assert_eq!(holder.line(secs(20)), "held");
    let flows = lab.rnsnet_ends(&["flows", "web"]);
    assert!(flows.ok().lines().count() > 400, "{flows}");
    let capture = lab.dir().join("taken.pcap");
    let capture = capture.to_str().expect("the lab's folders are UTF-8");
    let mut frames = Proc::spawn(
        &mut lab.rnsnet_command(&["capture", "web", "--count", "1", "--write", capture]),
    );
    eventually(secs(5), "a frame is captured", || {
        lab.sh(Place::In(&ctr), &format!("ping -c1 -W5 {LAN4}"));
        frames.ended().map_or_else(|| Err("not yet".to_owned()), |_| Ok(()))
    });
    lab.sh(Place::Host, "echo nameserver 192.0.2.77 > /etc/resolv.conf").ok();
    eventually(secs(5), "resolv.conf is read again", || {
        if net.log().contains("192.0.2.77") { Ok(()) } else { Err(net.log()) }
    });
    net.signal(Signal::SIGTERM);
    assert!(net.ends().success());
    assert!(!pid_file.exists());
}

/// `rnsnet run`, with a signal on its way to the command.
fn run_a_command(lab: &Lab) {
    let script = "trap 'exit 7' HUP; echo up; while :; do sleep 0.1; done";
    let mut command = traced(lab, "run", &["run", "--", "sh", "-c", script]);
    let mut process = Proc::spawn(&mut command);
    assert_eq!(process.line(secs(10)), "up");
    process.signal(Signal::SIGHUP);
    assert_eq!(process.finish(secs(5)).code(), 7);
}

/// `--detach`: away from the terminal, until the container ends.
fn serve_in_the_background(lab: &Lab) {
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    ends_well(&mut traced(lab, "background", &["--detach", &pid]));
    let page = lab.sh(Place::In(&ctr), &format!("ip -br addr show eth0; : {GUEST4}"));
    assert!(page.ok().contains(GUEST4), "{page}");
    ctr.kill();
}

/// In the place of pasta: ports that follow what the container listens on.
fn follow_ports(lab: &Lab) {
    let ctr = lab.container();
    let pid = ctr.pid().to_string();
    let options = ["--config-net", "-q", "-t", "auto", "-u", "none", &pid];
    ends_well(&mut traced(lab, "pasta", &options));
    let _who = lab.who(Place::In(&ctr), 8089);
    eventually(secs(5), "the host listens on 8089", || {
        let sockets = lab.sockets(Place::Host, 8089);
        if sockets.is_empty() { Err(sockets) } else { Ok(()) }
    });
    ctr.kill();
}

// K2
#[test]
fn every_allowed_system_call_is_needed() {
    let Some(lab) = Lab::new() else { return };
    serve_everything(&lab);
    run_a_command(&lab);
    serve_in_the_background(&lab);
    follow_ports(&lab);
    let made: BTreeSet<String> =
        ["all", "run", "background", "pasta"].iter().flat_map(|name| calls(&lab, name)).collect();
    let listed: Vec<&str> = LIST.lines().filter_map(|line| line.split(['(', ' ']).next()).collect();
    let elsewhere = |call: &&str| ELSEWHERE.iter().any(|(known, _)| known == call);
    let superfluous: Vec<_> = listed
        .iter()
        .filter(|call| !made.contains(**call))
        .filter(|call| !elsewhere(call))
        .collect();
    assert!(superfluous.is_empty(), "nobody needs {superfluous:?}; they made {made:?}");
    let beyond: Vec<_> = made.iter().filter(|call| !listed.contains(&call.as_str())).collect();
    assert!(beyond.is_empty(), "not on the list: {beyond:?}");
    assert!(listed.len() <= 45, "{} calls are allowed", listed.len());
}
