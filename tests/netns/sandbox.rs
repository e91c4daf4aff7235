//! What a serving process can still reach: its root directory and its namespaces. Row K3.

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::DEFAULT_DEADLINE;
use crate::lab::{Container, DNS4, LAN4, Lab, Place};
use crate::networks::{info_process, process_at};
use crate::rnsnet::Rnsnet;

/// Where resolv.conf is on many machines.
const STUB: &str = "/run/systemd/resolve/stub-resolv.conf";
/// No server there.
const NOBODY: &str = "192.0.2.77";

impl Lab {
    /// A `/run` of the test's own with resolv.conf in it, a symbolic link to that, and in `/run` a
    /// file system that the user may want to take out again.
    #[track_caller]
    fn resolv_conf_in_run(&self) {
        self.replaceable_etc();
        let script = format!(
            "mount -t tmpfs none /run; mkdir -p /run/systemd/resolve /run/media /run/other
             mount -t tmpfs none /run/media
             mv /etc/resolv.conf {STUB}; ln -s ..{STUB} /etc/resolv.conf"
        );
        self.sh(Place::Host, &script).ok();
    }

    /// The user and the mount namespace of a process.
    #[track_caller]
    fn namespaces(&self, pid: u32) -> Vec<String> {
        let links = format!("readlink /proc/{pid}/ns/user /proc/{pid}/ns/mnt");
        self.sh(Place::Host, &links).ok().lines().map(str::to_owned).collect()
    }

    /// Whether a process is in the namespaces that it was started in, or in two of its own.
    #[track_caller]
    fn has_root(&self, pid: u32) -> bool {
        let host = self.sh(Place::User, "readlink /proc/self/ns/user /proc/self/ns/mnt");
        let moved = self.namespaces(pid).into_iter().zip(host.ok().lines()).map(|(a, b)| a != b);
        match moved.collect::<Vec<_>>()[..] {
            [true, true] => true,
            [false, false] => false,
            _ => panic!("by half: {:?}, not {host}", self.namespaces(pid)),
        }
    }

    /// What a container is told of a name.
    #[track_caller]
    fn answer(&self, container: &Container) -> String {
        let dig = format!("dig +short +tries=1 +time=20 @{DNS4} a.test");
        self.sh(Place::In(container), &dig).stdout.trim_end().to_owned()
    }
}

/// Waits until its log tells of a server.
#[track_caller]
fn reads(net: &Rnsnet, server: &str) {
    eventually(secs(2), &format!("{server} is read"), || {
        let log = net.log();
        let last = log.lines().rfind(|line| line.contains("resolvers: ")).unwrap_or_default();
        if last.contains(server) { Ok(()) } else { Err(last.to_owned()) }
    });
}

// K3: `ls -l /proc/$P/root/` and `NoNewPrivs: 1`.
#[test]
fn its_root_directory_has_the_way_to_resolv_conf_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    lab.resolv_conf_in_run();
    let ctr = lab.container();
    let pid_file = lab.dir().join("pid");
    let options = ["--pid-file", pid_file.to_str().expect("UTF-8"), "--name", "web"];
    let net = lab.rnsnet(&ctr).with(&options).start();
    let (pid, host) = (net.pid(), |script: &str| lab.sh(Place::Host, script).ok().to_owned());
    assert!(lab.has_root(pid), "{}", net.log());
    let found = format!("cd /proc/{pid}/root; find . -xdev -mindepth 1 | sort");
    assert_eq!(host(&found), "./etc\n./run\n./run/systemd\n./run/systemd/resolve");
    let mounts = host(&format!("cat /proc/{pid}/mountinfo"));
    let places: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(places, ["/", "/etc", "/run/systemd/resolve"], "{mounts}");
    assert!(mounts.lines().all(|line| line.contains(" ro,nosuid,nodev,noexec")), "{mounts}");
    assert!(
        mounts.lines().next().is_some_and(|root| root.contains(" - tmpfs rnsnet ")),
        "{mounts}"
    );
    let status = host(&format!("grep -E '^(Cap|NoNew)' /proc/{pid}/status"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // What it has made elsewhere it takes away.
    let socket = lab.runtime().join("rnsnet/containers/web");
    assert!(socket.exists() && pid_file.exists());
    net.signal(Signal::SIGTERM);
    assert!(net.ends().success());
    assert!(!socket.exists() && !pid_file.exists());
}

// K3, D3: as before, by a rename, in place, and through a symbolic link.
#[test]
fn resolv_conf_is_followed_from_its_root_directory() {
    let Some(lab) = Lab::new() else { return };
    lab.resolv_conf_in_run();
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    assert!(lab.has_root(net.pid()), "{}", net.log());
    assert_eq!(lab.answer(&ctr), LAN4);
    for (server, change) in [
        (NOBODY, format!("echo nameserver {NOBODY} > {STUB}")),
        (LAN4, format!("echo nameserver {LAN4} > /run/systemd/new; mv /run/systemd/new {STUB}")),
        (NOBODY, format!("echo nameserver {NOBODY} > /etc/new; mv /etc/new /etc/resolv.conf")),
        (LAN4, format!("echo nameserver {LAN4} > {STUB}; ln -sf {STUB} /etc/resolv.conf")),
        // Nobody listens at the host's loopback, where C libraries look then.
        ("127.0.0.1", "rm /etc/resolv.conf".to_owned()),
        (LAN4, format!("ln -s {STUB} /etc/resolv.conf")),
    ] {
        lab.sh(Place::Host, &change).ok();
        reads(&net, server);
    }
    assert_eq!(lab.answer(&ctr), LAN4);
    // Where it cannot look, it says so and asks whom it knows.
    let change =
        "echo nameserver 192.0.2.78 > /run/other/x; ln -sf ../run/other/x /etc/resolv.conf";
    lab.sh(Place::Host, change).ok();
    eventually(secs(2), "it says that it cannot look there", || {
        let log = net.log();
        if log.contains("cannot read /etc/resolv.conf") { Ok(()) } else { Err(log) }
    });
    assert_eq!(lab.answer(&ctr), LAN4);
}

// K3: named networks, commands, and with the debugging options what they say.
#[test]
fn every_process_that_serves_has_a_root_directory_of_its_own() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let _web = lab.member("--network n1 --name web");
    assert!(lab.has_root(info_process(&lab, "n1")));
    let ctr = lab.container();
    for (option, has_root) in [("--no-seccomp", true), ("--no-sandbox", false)] {
        let net = lab.rnsnet(&ctr).with(&[option]).start();
        assert_eq!(lab.has_root(net.pid()), has_root, "{option}");
    }
    let socket = lab.runtime().join("rnsnet/containers/cmd/control.sock");
    let mut command = lab.rnsnet_command(&["run", "--name", "cmd", "--", "sh", "-c", "read line"]);
    let mut process = crate::exec::Proc::spawn(&mut command);
    eventually(DEFAULT_DEADLINE, "the command runs", || {
        if socket.exists() { Ok(()) } else { Err(format!("no {}", socket.display())) }
    });
    assert!(lab.has_root(process_at(&lab, &socket)));
    process.close_stdin();
    assert_eq!(process.finish(DEFAULT_DEADLINE).code(), 1);
}

// K3: where it cannot be had everything else works, and nothing is done by half.
#[test]
fn without_a_root_directory_of_its_own_it_serves_all_the_same() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let ctr = lab.container();
    let serves_without = |why: &str| {
        let net = lab.rnsnet(&ctr).start();
        assert!(!lab.has_root(net.pid()), "{why}");
        assert_eq!(lab.answer(&ctr), LAN4, "{why}");
        net.log()
    };
    // A link whose directory is yet to be made.
    lab.resolv_conf_in_run();
    let dangle = "ln -sf ../run/later/resolv.conf /etc/resolv.conf";
    lab.sh(Place::Host, dangle).ok();
    let net = lab.rnsnet(&ctr).start();
    assert!(!lab.has_root(net.pid()), "{}", net.log());
    drop(net);
    lab.sh(Place::Host, &format!("ln -sf {STUB} /etc/resolv.conf")).ok();
    // Members of a group are told apart by their user ids.
    lab.sh(Place::Host, "mkdir -m 1777 /run/rnsnet").ok();
    lab.rn("network create --group 1000 shared");
    let _one = lab.member("--network shared");
    let socket = std::path::Path::new("/run/rnsnet/0/shared/control.sock");
    assert!(!lab.has_root(process_at(&lab, socket)));
    // Its process would wait for other users' containers for ever.
    lab.rn("network rm --force shared");
    // As on Ubuntu 24.04, where a user namespace has no rights: it is not even tried.
    let restricted = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    lab.sh(Place::Host, &format!("mount -t tmpfs none /proc/sys/kernel; echo 1 > {restricted}"))
        .ok();
    let log = serves_without("restricted by AppArmor");
    assert!(!log.contains("no root directory of its own"), "{log}");
    lab.sh(Place::Host, "umount /proc/sys/kernel").ok();
    // There are enough user namespaces already.
    lab.sh(Place::Host, "echo 0 > /proc/sys/user/max_user_namespaces").ok();
    let log = serves_without("no more user namespaces");
    let told = "no root directory of its own for this process: cannot make namespaces";
    assert_eq!(log.matches(told).count(), 1, "{log}");
}
