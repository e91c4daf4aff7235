//! What a service manager is told, sd_notify(3). Row L10.

use nix::sys::signal::Signal;

use crate::eventually::secs;
use crate::lab::{DNS4, GUEST4, LAN4, Lab, Place};

/// Hears datagrams at a path or abstract name, and says each in one line.
fn manager(lab: &Lab, name: &str) -> crate::exec::Proc {
    lab.serve(
        Place::User,
        &format!(
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('{name}'.replace('@', chr(0)))
say('ready')
while True: say(s.recv(4096).decode().replace(chr(10), ' | '))"
        ),
    )
}

// L10
#[test]
fn a_service_manager_is_told_of_ready_and_of_the_end() {
    let Some(lab) = Lab::new() else { return };
    let path = lab.dir().join("notify");
    for name in [path.to_str().expect("the lab's folders are UTF-8"), "@rnsnet-notify"] {
        let mut manager = manager(&lab, name);
        let ctr = lab.container();
        let net = lab.rnsnet(&ctr).env("NOTIFY_SOCKET", name).with(&["-p", "8080:80"]).start();
        let ready = manager.line(secs(5));
        assert!(ready.starts_with(&format!("READY=1 | STATUS=eth0 {GUEST4}/24 ")), "{ready}");
        assert!(ready.contains("8080") && !ready.contains("MAINPID"), "{ready}");
        assert_ne!(lab.sockets(Place::User, 8080), "", "ready means that it works");
        net.signal(Signal::SIGTERM);
        assert!(net.ends().success());
        assert_eq!(manager.line(secs(5)), "STOPPING=1");
    }
}

// L10: the process to watch is another one then.
#[test]
fn in_the_background_it_says_who_serves() {
    let Some(lab) = Lab::new() else { return };
    let mut manager = manager(&lab, "@rnsnet-notify");
    let ctr = lab.container();
    let pid_file = lab.dir().join("pid");
    let pid_file_name = pid_file.to_str().expect("the lab's folders are UTF-8");
    let pid = ctr.pid().to_string();
    let mut command = lab.rnsnet_command(&["--detach", "--pid-file", pid_file_name, &pid]);
    command.env("NOTIFY_SOCKET", "@rnsnet-notify");
    crate::exec::run(&mut command, b"", secs(5)).ok();
    let ready = manager.line(secs(5));
    let serving = std::fs::read_to_string(&pid_file).expect("it is ready");
    assert!(ready.ends_with(&format!(" | MAINPID={}", serving.trim_end())), "{ready}");
    ctr.kill();
    assert_eq!(manager.line(secs(5)), "STOPPING=1");
}

// L10: `systemctl reload` brings news of a file that is bound over another, of which nobody is told.
#[test]
fn a_reload_reads_the_resolvers_again() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    lab.set_resolv_conf("");
    let mut manager = manager(&lab, "@rnsnet-notify");
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).env("NOTIFY_SOCKET", "@rnsnet-notify").start();
    assert!(manager.line(secs(5)).starts_with("READY=1 | "));
    let dig = format!("dig +tries=1 +time=15 @{DNS4} a.test");
    let before = lab.sh(Place::In(&ctr), &dig);
    assert!(before.ok().contains("status: SERVFAIL"), "{before}");
    lab.set_resolv_conf(&format!("nameserver {LAN4}\n"));
    net.signal(Signal::SIGHUP);
    let reloading = manager.line(secs(5));
    let since = reloading.strip_prefix("RELOADING=1 | MONOTONIC_USEC=").expect("the two");
    // Of a clock that all have.
    let uptime = std::fs::read_to_string("/proc/uptime").expect("it is there");
    let uptime = uptime.split('.').next().and_then(|s| s.parse::<u64>().ok()).expect("seconds");
    let since: u64 = since.parse().expect("microseconds");
    assert!((1..=uptime + 1).contains(&(since / 1_000_000)), "{since} of {uptime}");
    assert_eq!(manager.line(secs(5)), "READY=1");
    let after = lab.sh(Place::In(&ctr), &format!("{dig} +short"));
    assert_eq!(after.ok(), LAN4);
    drop(net);
    assert_eq!(manager.line(secs(5)), "STOPPING=1");
}

// L10: no manager, no harm.
#[test]
fn a_manager_that_is_not_there_is_no_failure() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).env("NOTIFY_SOCKET", "/no/such/socket").start();
    assert!(net.log().contains("cannot reach the service manager"), "{}", net.log());
}
