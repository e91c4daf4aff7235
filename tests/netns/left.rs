//! Named networks whose process was killed: what their containers keep, and how they come back.
//! Rows A8 E21.

use std::fs;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::{Proc, signal_pid};
use crate::lab::{Container, HOST4, LAN4, Lab, Place, python};
use crate::networks::{info_process, process_at, reaches};
use crate::rnsnet::binary;

impl Lab {
    /// Kills a network's process, and waits until it has no port and no socket any more.
    #[track_caller]
    pub(crate) fn kill_network(&self, network: &str) {
        killed(info_process(self, network));
    }
}

/// Kills a process that is not ours to wait for, and returns once it has ended.
#[track_caller]
pub(crate) fn killed(process: u32) {
    signal_pid(process, Signal::SIGKILL);
    eventually(secs(10), "it has ended", || {
        match fs::read_to_string(format!("/proc/{process}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => Err(stat),
            _ => Ok(()),
        }
    });
}

// A8 E21: as with a network of its own, a container keeps its interface, and everything comes back.
#[test]
fn the_containers_of_a_killed_network_keep_their_interfaces_and_come_back() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --ipv6 n1");
    let words = "--network n1:alias=www --dns-listen 127.0.0.11 --name web -p 8080:80 -p 80";
    let web = lab.member(words);
    let db = lab.member("--network n1 --name db");
    let gone = lab.member("--network n1 --name gone");
    let bare = lab.member("--network n1");
    lab.rn("publish web 8082:80,from=192.0.2.0/24");
    lab.rn("publish web 8083:80");
    lab.rn("unpublish web 8083:80");
    lab.rn("publish @n1/www 8084:80");
    lab.rn("publish @n1/www 8085:80");
    lab.rn("unpublish @n1/www 8085:80");
    let _who = lab.who(Place::In(&web), 80);
    let interface = |container: &Container| {
        let script = "ip -o link show eth0 | cut -d: -f1; ip -o addr show eth0 scope global | tr -s ' '; \
                      ip route show default; ip -6 route show default";
        lab.within(container, script).ok().replace(" linkdown", "")
    };
    let all = || [interface(&web), interface(&db), interface(&bare)];
    let (before, ports) = (all(), lab.rn("port web"));
    let of_the_name = lab.rn("port @n1/www");
    assert!(of_the_name.contains(":8084") && !of_the_name.contains(":8085"), "{of_the_name}");
    assert!(before.iter().all(|text| text.contains("default via 10.89.0.1")), "{before:?}");
    let (pid, mut gone) = (db.pid().to_string(), Some(gone));
    let own = format!("-d --network n1 --name db {pid}");
    let by_path = format!("reattach /proc/{pid}/ns/net");
    let mut second = lab.spawn(Place::In(&db), &["sh", "-c", "echo $$; exec sleep 1000"]);
    let by_pid = format!("reattach {}", second.line(secs(5)));
    let again = ["reattach", "reattach n1", "reattach web", "network start n1"];
    for words in again.into_iter().chain([&*own, &*by_path, &*by_pid]) {
        lab.kill_network("n1");
        assert_eq!(lab.sockets(Place::Host, 8080), "");
        assert_eq!(all(), before);
        if let Some(gone) = gone.take() {
            gone.kill();
        }
        lab.rn(words);
        assert_eq!(all(), before, "{words}");
        assert_eq!(lab.rn("port web"), ports, "{words}");
        assert_eq!(lab.rn("port @n1/www"), of_the_name, "{words}");
        let names = lab.rn("ps --format {{.Name}}");
        assert!(
            names.contains("web") && names.contains("db") && !names.contains("gone"),
            "{names}"
        );
        assert!(reaches(&lab, &db, "10.89.0.2") && reaches(&lab, &bare, "10.89.0.3"), "{words}");
        assert_eq!(lab.asks(&web, "127.0.0.11", "db"), "10.89.0.3");
        assert_eq!(lab.asks(&db, "10.89.0.1", "www"), "10.89.0.2");
        for port in [8080, 8082, 8084] {
            let program = format!("say(read_all(tcp('{HOST4}', {port}, 20)).decode().split()[0])");
            assert_eq!(lab.py(Place::Lan, &program).ok(), LAN4, "{words}");
        }
    }
    let served = lab.rn_fails("reattach n1");
    assert!(served.starts_with("nothing to reattach"), "{served}");
    // An end in order leaves nothing.
    signal_pid(info_process(&lab, "n1"), Signal::SIGTERM);
    eventually(secs(5), "it has ended", || {
        match lab.runtime().join("rnsnet/networks/n1").exists() {
            true => Err("its files are there".to_owned()),
            false => Ok(()),
        }
    });
    assert!(!lab.within(&db, "ip -br link").ok().contains("eth0"), "the interfaces go with it");
    let nothing = lab.rn_fails("reattach");
    assert!(nothing.starts_with("nothing to reattach"), "{nothing}");
}

// A8 E21: who cannot be brought back now is not lost, nor forgotten where the network is removed.
#[test]
fn a_container_that_cannot_come_back_yet_stays_left() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let web = lab.container();
    let script = format!(
        "cd /proc/{}/ns; RNSNET_DEFAULT_BIND=127.0.0.1,::1 exec {} -d --network n1 --name web \
         --offload off -p 8080:80 -p 8081:80 ./net",
        web.pid(),
        binary().display()
    );
    lab.sh(Place::User, &script).ok();
    let ports = lab.rn("port web");
    assert!(ports.contains("[::1]:8080") && ports.contains("127.0.0.1:8080"), "{ports}");
    let in_use = "the network n1 has active endpoints: web";
    lab.kill_network("n1");
    assert_eq!(lab.rn_fails("network rm n1"), in_use);
    assert_eq!(lab.rn("network prune -f"), "");
    // From a user namespace beside the container's, and once more.
    let start = format!("exec unshare -Ur {} network start n1", binary().display());
    for _ in 0..2 {
        let told = lab.sh(Place::User, &start).stderr;
        assert!(told.contains("web is not on n1 again: ") && told.contains("denied"), "{told}");
        assert_eq!(lab.rn_fails("network rm n1"), in_use);
        lab.kill_network("n1");
    }
    // The process runs, without it.
    lab.sh(Place::User, &start);
    lab.rn("reattach web");
    assert_eq!(lab.rn("port web"), ports);
    lab.kill_network("n1");
    let other = lab.who(Place::Host, 8080);
    let again = lab.rnsnet_ends(&["reattach"]);
    assert!(again.stderr.contains("8080:80/tcp of web is not published again: "), "{again}");
    assert!(again.stderr.contains("in use"), "{again}");
    let rest: Vec<&str> = ports.lines().filter(|port| port.ends_with("8081")).collect();
    assert_eq!(lab.rn("port web").lines().collect::<Vec<_>>(), rest);
    let link = lab.within(&web, "ip -d link show eth0");
    assert!(link.ok().contains("vnet_hdr off"), "{link}");
    let served = lab.rn_fails("reattach n1");
    assert!(served.starts_with("nothing to reattach"), "{served}");
    lab.kill_network("n1");
    assert_eq!(lab.rn("network rm -f n1"), "n1");
    assert!(!lab.runtime().join("rnsnet/networks/n1").exists());
    // Nobody comes to another network of its name, and one that is gone is in nobody's way.
    lab.rn("network create n1");
    let db = lab.member("--network n1 --name db");
    assert_eq!(lab.rn("ps --format {{.Name}}"), "db");
    lab.rn("publish @n1/db 8084:80");
    lab.kill_network("n1");
    fs::remove_file(lab.runtime().join("config/rnsnet/networks/n1.json")).expect("a definition");
    let own = lab.container();
    lab.rn(&format!("-d --name own {}", own.pid()));
    let socket = lab.runtime().join("rnsnet/containers/own/control.sock");
    killed(process_at(&lab, &socket));
    let reattached = lab.rnsnet_ends(&["reattach", "--detach"]);
    assert!(reattached.stderr.contains("n1 is not served again: no such network"), "{reattached}");
    assert_eq!(lab.rn("ps --format {{.Name}}"), "own");
    lab.rn("network create n1");
    let new = lab.member("--network n1 --name new");
    let names = lab.rn("ps --format {{.Name}}");
    assert!(names.contains("own") && names.contains("new") && !names.contains("db"), "{names}");
    assert_eq!(lab.sockets(Place::Host, 8084), "");
    assert!(lab.within(&new, "ip -br addr show eth0").ok().contains("10.89.0.2/24"));
    drop((other, db));
}

// A8 E21: what fails forgets nobody, and who is there again is not brought a second time.
#[test]
fn an_attach_that_fails_leaves_its_container_to_the_next() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let web = lab.member("--network n1 --name web -p 8080:80");
    let (ports, pid) = (lab.rn("port web"), web.pid());
    lab.kill_network("n1");
    let failed = lab.rn_fails(&format!("-d --network n1 --network typo --name web {pid}"));
    assert_eq!(failed, "no such network: typo");
    assert_eq!(lab.rn_fails("network rm n1"), "the network n1 has active endpoints: web");
    lab.rn("reattach web");
    assert_eq!(lab.rn("port web"), ports);
    lab.kill_network("n1");
    lab.rn(&format!("-d --network n1:interface_name=net7 --name web {pid}"));
    lab.rn("network start n1");
    assert_eq!(lab.rn("ps --format {{.Name}}"), "web");
    let served = lab.rn_fails("reattach n1");
    assert!(served.starts_with("nothing to reattach"), "{served}");

    // A process that is silent has not ended.
    let process = info_process(&lab, "n1");
    signal_pid(process, Signal::SIGSTOP);
    let silent = lab.rn_fails("network rm -f n1");
    signal_pid(process, Signal::SIGCONT);
    assert!(silent.starts_with("cannot talk to n1"), "{silent}");
    assert_eq!(lab.rn("ps --format {{.Name}}"), "web");
    assert_eq!(lab.rn("network rm -f n1"), "n1");
}

/// Starts a python program as the user, in a pid namespace of its own; `RNSNET` is the program.
#[track_caller]
fn in_another_pid_namespace(lab: &Lab, program: &str) -> Proc {
    let program = format!(
        "
import ctypes, subprocess
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
assert libc.setns(os.open('/proc/{}/ns/user', os.O_RDONLY), 0) == 0, ctypes.get_errno()
assert libc.unshare(CLONE_NEWNS | CLONE_NEWPID) == 0, ctypes.get_errno()
if os.fork(): os.wait(); sys.exit()
libc.prctl(1, 9)
assert libc.mount(b'proc', b'/proc', b'proc', 0, None) == 0, ctypes.get_errno()
RNSNET = {:?}
{program}",
        lab.user_pid(),
        binary().display().to_string()
    );
    lab.spawn(Place::Host, &["python3", "-c", &python(&program)])
}

// A8 E21: who comes from another pid namespace does not take the containers of this one for ended.
#[test]
fn a_caller_in_another_pid_namespace_forgets_nobody() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let web = lab.member("--network n1 --name web");
    let db = lab.member("--network n1 --name db");
    lab.kill_network("n1");
    let mut elsewhere = in_another_pid_namespace(
        &lab,
        "
ran = subprocess.run([RNSNET, 'network', 'start', 'n1'], capture_output=True, text=True)
say('|'.join(ran.stderr.splitlines()))
sys.stdin.read()
",
    );
    let told = elsewhere.line(secs(10));
    for name in ["web", "db"] {
        let unseen = format!(
            "{name} is not on n1 again: no process of the container {name} can be seen from this pid \
             namespace"
        );
        assert!(told.contains(&unseen), "{told}");
    }
    let in_use = lab.rn_fails("network rm n1");
    assert!(in_use.contains("web") && in_use.contains("db"), "{in_use}");
    lab.rn("reattach n1");
    assert!(reaches(&lab, &web, "10.89.0.3") && reaches(&lab, &db, "10.89.0.2"));
    drop(elsewhere);
}

// A8 E21: the number of a namespace that is gone may be another container's.
#[test]
fn a_container_of_another_pid_namespace_is_known_by_its_interface_too() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let _db = lab.member("--network n1 --name db");
    let mut elsewhere = in_another_pid_namespace(
        &lab,
        "
command = ['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', 'echo in; exec sleep 1000']
for name in ('web', 'gone'):
    container = subprocess.Popen(command, stdout=subprocess.PIPE)
    container.stdout.readline()
    pid = str(container.pid)
    subprocess.run([RNSNET, '-d', '--network', 'n1', '--name', name, pid], check=True)
say('ready')
sys.stdin.readline()
within = ['nsenter', '-t', pid, '-U', '--preserve-credentials', '-n', 'ip']
subprocess.run([*within, 'link', 'del', 'eth0'], check=True)
say('removed')
sys.stdin.read()
",
    );
    assert_eq!(elsewhere.line(secs(10)), "ready");
    lab.kill_network("n1");
    elsewhere.tell("take an interface away");
    assert_eq!(elsewhere.line(secs(10)), "removed");
    let told = lab.rnsnet_ends(&["reattach", "n1"]).stderr;
    assert!(told.contains("gone is not on n1 again: no process of the container gone"), "{told}");
    assert!(!told.contains("web"), "{told}");
    assert_eq!(lab.rn("ps --format {{.Name}}"), "db\nweb");
}

// A8 E21
#[test]
fn reattach_serves_networks_and_tells_of_a_network_of_ones_own() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let _web = lab.member("--network n1 --name web");
    let own = lab.container();
    let net = lab.rnsnet(&own).with(&["-n", "own"]).start();
    lab.kill_network("n1");
    net.signal(Signal::SIGKILL);
    assert!(!net.ends().success());
    let mut again = lab.reattach(&[]).with_exit_fd().start();
    let names = lab.rn("ps --format {{.Name}}");
    assert!(names.contains("own") && names.contains("web"), "{names}");
    again.close_exit_fd();
    assert!(again.ends().success());
}
