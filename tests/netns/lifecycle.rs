//! Beginning, idleness and end of the process. Rows A5 M5.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, less_than, now, one_of_three, pause, secs};
use crate::exec::{Proc, signal_pid};
use crate::lab::{Container, GUEST4, HOST4, LAN4, Lab, Place};
use crate::rnsnet::{END, binary};

const PUBLISH: &[&str] = &["-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "8080:80/udp"];

/// After the end: no port is bound, and all of them can be bound again at once.
#[track_caller]
fn assert_ports_free(lab: &Lab) {
    for port in [8080, 8081] {
        assert_eq!(lab.sockets(Place::User, port), "", "{port} must be closed");
    }
    // Without SO_REUSEADDR, which would hide a listener that is still closing.
    let bind = "for p in (8080, 8081): s = socket.socket(); s.bind(('', p)); s.listen()";
    lab.py(Place::User, bind).ok();
}

/// A container that sends, as fast as it can, until its network is gone.
fn sends(lab: &Lab, ctr: &Container) -> Proc {
    let program = "s = tcp('192.0.2.9', 7); s.sendall(b'x'); say('sending')\n\
                   while True: s.sendall(b'x' * 65536)";
    let mut sender = lab.spawn_py(Place::In(ctr), program);
    assert_eq!(sender.line(secs(5)), "sending");
    sender
}

// A5: with data under way.
#[test]
fn it_ends_with_the_container() {
    let Some(lab) = Lab::new() else { return };
    let _sink = lab.serve(Place::Lan, "serve_each(lambda s: read_all(s))");
    one_of_three("it ends within a second", || {
        let ctr = lab.container();
        let net = lab.rnsnet(&ctr).with(PUBLISH).without_pcap().start();
        assert_ne!(lab.sockets(Place::User, 8080), "");
        let _sender = sends(&lab, &ctr);
        ctr.kill();
        let start = now();
        assert!(net.ends().success(), "the container's end is no failure");
        let took = start.elapsed();
        assert_ports_free(&lab);
        less_than(END, took)
    });
}

// A5: attached by path, it is still the container's life that counts.
#[test]
fn it_ends_with_the_container_it_has_by_path() {
    let Some(lab) = Lab::new() else { return };
    for thread in [false, true] {
        let ctr = lab.container();
        let pid = ctr.pid();
        let task = if thread { format!("task/{pid}/") } else { String::new() };
        let net = lab.rnsnet_at(&[&format!("/proc/{pid}/{task}ns/net")]).with(PUBLISH).start();
        ctr.kill();
        assert!(net.ends().success(), "{task}");
        assert_ports_free(&lab);
    }
}

// A5
#[test]
fn signals_end_it_in_order() {
    let Some(lab) = Lab::new() else { return };
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let ctr = lab.container();
        let net = lab.rnsnet(&ctr).with(PUBLISH).start();
        net.signal(signal);
        assert!(net.ends().success(), "{signal}");
        assert_ports_free(&lab);
    }
}

// A5
#[test]
fn closing_the_exit_fd_ends_it() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let mut net = lab.rnsnet(&ctr).with(PUBLISH).with_exit_fd().start();
    assert!(net.alive());
    net.close_exit_fd();
    assert!(net.ends().success());
    assert_ports_free(&lab);
}

// A5: with connections open and data under way.
#[test]
fn open_connections_do_not_delay_the_end() {
    let Some(lab) = Lab::new() else { return };
    let _sink = lab.serve(Place::Lan, "serve_each(lambda s: read_all(s))");
    one_of_three("it ends within a second", || {
        let ctr = lab.container();
        let net = lab.rnsnet(&ctr).with(PUBLISH).without_pcap().start();
        let _who = lab.who(Place::In(&ctr), 80);
        let _sender = sends(&lab, &ctr);
        let mut holder = lab.spawn_py(
            Place::Lan,
            &format!("s = tcp('{HOST4}', 8080); s.recv(1); say('held'); threading.Event().wait()"),
        );
        assert_eq!(holder.line(secs(5)), "held");
        net.signal(Signal::SIGTERM);
        let start = now();
        assert!(net.ends().success());
        let took = start.elapsed();
        for port in [8080, 8081] {
            assert!(!lab.sockets(Place::User, port).contains("LISTEN"));
        }
        less_than(END, took)
    });
}

// A5
#[test]
fn twenty_restarts_in_a_row_bind_the_same_port() {
    let Some(lab) = Lab::new() else { return };
    for round in 0..20 {
        let ctr = lab.container();
        let net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
        // A connection each time, so that there is something to linger.
        let _who = lab.who(Place::In(&ctr), 80);
        let seen = lab.py(Place::Lan, &format!("say(read_all(tcp('{HOST4}', 8080)).decode())"));
        assert!(seen.ok().starts_with(LAN4), "round {round}: {seen}");
        ctr.kill();
        assert!(net.ends().success(), "round {round}");
    }
}

// A5
#[test]
fn the_pid_file_is_written_and_removed() {
    let Some(lab) = Lab::new() else { return };
    let file = lab.dir().join("pid");
    let name = file.to_str().expect("the lab's folders are UTF-8");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["--pid-file", name]).start();
    let written = fs::read_to_string(&file).expect("it is there when rnsnet is ready");
    assert_eq!(written.trim_end(), net.pid().to_string());
    net.signal(Signal::SIGTERM);
    assert!(net.ends().success());
    assert!(!file.exists(), "the pid file must be removed");
}

// A5: `ready` means configured: nothing needs a second look.
#[test]
fn ready_means_that_everything_is_there() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["-p", "8080:80"]).start();
    assert_ne!(lab.sockets(Place::User, 8080), "");
    assert!(lab.sh(Place::In(&ctr), "ip -br a show eth0").ok().contains(GUEST4));
    // Duplicate address detection would make the address unusable for a second.
    let tentative = lab.sh(Place::In(&ctr), "ip -6 addr show dev eth0 tentative").ok().to_owned();
    assert!(!tentative.contains("fd72:"), "{tentative}");
    // What it says of itself.
    let log = net.log();
    assert!(log.contains(GUEST4) && log.contains("8080"), "{log}");
}

// A5
#[test]
fn detached_it_returns_when_ready_and_serves_on() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "hello");
    let ctr = lab.container();
    let file = lab.dir().join("pid");
    let name = file.to_str().expect("the lab's folders are UTF-8");
    let pid = ctr.pid().to_string();
    let detached = lab.rnsnet_ends(&["-d", "--pid-file", name, &pid]);
    detached.ok();
    let page = lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:8080/"));
    assert_eq!(page.ok(), "hello");
    let daemon = fs::read_to_string(&file).expect("the pid file is there").trim().to_owned();
    assert!(Path::new(&format!("/proc/{daemon}")).exists());
    signal_pid(daemon.parse().expect("a pid"), Signal::SIGTERM);
    eventually(secs(5), "the daemon has ended", || {
        match fs::read_to_string(format!("/proc/{daemon}/stat")) {
            // A zombie has ended; that nobody waits for it is not rnsnet's fault.
            Ok(stat) if !stat.contains(") Z ") => Err(stat),
            _ => Ok(()),
        }
    });
    assert!(!file.exists(), "the pid file must be removed");
}

// A5: detached, the ready time of failures is the caller's: they come back as its exit code.
#[test]
fn detached_failures_are_reported() {
    let Some(lab) = Lab::new() else { return };
    let _taken = lab.serve(Place::User, "l = listen(8080, '0.0.0.0'); forever()");
    let ctr = lab.container();
    let refused = lab.rnsnet_ends(&["-d", "-p", "8080:80", &ctr.pid().to_string()]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("8080"), "{refused}");
}

// Nothing to do means no work: not idle, not with connections in any state.
#[test]
fn idle_it_uses_no_processor_time() {
    let Some(lab) = Lab::alone() else { return };
    let _server = lab.serve(
        Place::Lan,
        "
def hold(s):
    s.recv(1)
    s.sendall(b'y')
    threading.Event().wait()
def end(s):
    s.recv(1)
    s.sendall(b'y')
    s.shutdown(socket.SHUT_WR)
    threading.Event().wait()
def flood(s):
    s.settimeout(None)
    s.recv(1)
    s.sendall(b'y' * (64 << 20))
thread(serve_each, hold, 7)
thread(serve_each, end, 8)
serve_each(flood, 9)
",
    );
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).without_pcap().start();
    let rest = |what: &str| net.rests(what);
    rest("nothing has happened yet");
    for (what, port, more) in [
        ("an open connection", 7, ""),
        ("half-closed by the host", 8, ""),
        ("half-closed by the container", 7, "s.shutdown(socket.SHUT_WR)"),
        ("half-closed by both, not read", 8, "s.shutdown(socket.SHUT_WR)"),
        ("a sender that the container does not read", 9, ""),
        ("a reset", 7, "reset(s)"),
    ] {
        let program = format!(
            "s = tcp('{LAN4}', {port}); s.sendall(b'x'); s.recv(1); {more}\n\
             say('held'); threading.Event().wait()"
        );
        let mut client = lab.spawn_py(Place::In(&ctr), &program);
        assert_eq!(client.line(secs(5)), "held");
        rest(what);
    }
}

// A5: a container's root may delete its interface; what is left is nothing to serve.
#[test]
fn it_ends_with_the_container_s_interface_and_says_so() {
    let Some(lab) = Lab::new() else { return };
    let _sink = lab.serve(Place::Lan, "serve_each(lambda s: read_all(s))");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(PUBLISH).without_pcap().start();
    let _sender = sends(&lab, &ctr);
    lab.sh(Place::In(&ctr), "ip link del eth0").ok();
    assert_eq!(net.ends().code(), Some(1));
    let log = fs::read_to_string(lab.dir().join("rnsnet.log")).expect("it has a log");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("interface is gone")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_ports_free(&lab);
}

// M5: no timer ticks when nothing flows.
#[test]
fn an_idle_network_sleeps() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(PUBLISH).start();
    let wakeups = || {
        let status = lab.run(Place::User, &["cat", &format!("/proc/{}/status", net.pid())]);
        let line =
            status.ok().lines().find(|line| line.starts_with("voluntary")).map(str::to_owned);
        let count = line.as_deref().and_then(|line| line.split_whitespace().nth(1));
        count.and_then(|count| count.parse::<u64>().ok()).expect("a count of wake-ups")
    };
    // The container's kernel announces its addresses for some seconds.
    let mut last = wakeups();
    eventually(secs(20), "the container's kernel is silent for three seconds", || {
        pause(secs(3));
        let before = std::mem::replace(&mut last, wakeups());
        if before == last { Ok(()) } else { Err(format!("{before}, then {last} wake-ups")) }
    });
    one_of_three("no more than two wake-ups in 30 s", || {
        let before = wakeups();
        pause(secs(30));
        match wakeups() - before {
            ..=2 => Ok(()),
            woken => Err(format!("{woken} wake-ups")),
        }
    });
}

// K3: as where it has a root directory of its own, what is mounted there can be taken away.
#[test]
fn nobody_stays_in_the_directory_that_it_was_started_in() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let (directory, binary) = (lab.dir().display(), binary());
    let script = format!(
        "cd {directory}; exec {} -d --no-sandbox --pid-file pid {}",
        binary.display(),
        ctr.pid()
    );
    lab.sh(Place::User, &script).ok();
    let file = lab.dir().join("pid");
    let pid = fs::read_to_string(&file).expect("its pid");
    let working = lab.sh(Place::Host, &format!("readlink /proc/{}/cwd", pid.trim()));
    assert_eq!(working.ok(), "/");
    // What it was told of from there it takes away all the same.
    ctr.kill();
    eventually(secs(5), "the file is gone", || match file.exists() {
        true => Err("it is there".to_owned()),
        false => Ok(()),
    });
}
