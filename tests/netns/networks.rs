//! Named networks that several containers share. Rows A6 A10 A11 A13 C12 C21 D4 D6-D10 E2 E4 E9
//! E10 E11 E14 E17-E21 E23 E24.

use std::fs;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, millis, now, one_of_three, promptly, secs};
use crate::exec::Ran;
use crate::lab::{Container, HOST4, HOST6, LAN4, LAN6, Lab, Place, arrivals};
use crate::left::killed;
use crate::rnsnet::binary;

impl Lab {
    /// `rnsnet WORDS`, which has to work; what it prints.
    #[track_caller]
    pub(crate) fn rn(&self, words: &str) -> String {
        let args: Vec<&str> = words.split(' ').collect();
        self.rnsnet_ends(&args).ok().to_owned()
    }

    /// `rnsnet WORDS`, which has to fail; its line on standard error.
    #[track_caller]
    pub(crate) fn rn_fails(&self, words: &str) -> String {
        let args: Vec<&str> = words.split(' ').collect();
        let ran = self.rnsnet_ends(&args);
        assert_eq!((ran.code(), ran.stdout.as_str()), (1, ""), "{words}: {ran}");
        let told = ran.stderr.lines().next().unwrap_or_default();
        told.strip_prefix("rnsnet: ").unwrap_or(told).to_owned()
    }

    /// A new container on networks, in the background.
    #[track_caller]
    pub(crate) fn member(&self, options: &str) -> Container {
        let container = self.container();
        self.rn(&format!("-d {options} {}", container.pid()));
        container
    }

    pub(crate) fn within(&self, container: &Container, script: &str) -> Ran {
        self.sh(Place::In(container), script)
    }

    /// What a container's resolver has for a name, in order.
    #[track_caller]
    pub(crate) fn asks(&self, container: &Container, gateway: &str, question: &str) -> String {
        let dig =
            self.within(container, &format!("dig +short +tries=1 +time=15 @{gateway} {question}"));
        let mut lines: Vec<&str> = dig.ok().lines().collect();
        lines.sort_unstable();
        lines.join(" ")
    }

    fn is_up(&self, network: &str) -> bool {
        self.runtime().join("rnsnet/networks").join(network).join("control.sock").exists()
    }
}

/// Whether a container reaches an address: asked until there is an answer, as a link whose carrier has
/// just come loses what its kernel sends at first.
pub(crate) fn reaches(lab: &Lab, from: &Container, to: &str) -> bool {
    lab.within(from, &format!("ping -c1 -w20 {to}")).status.success()
}

/// Whether a ping from one container to an address is answered soon: for those that must not be.
pub(crate) fn pings(lab: &Lab, from: &Container, to: &str) -> bool {
    lab.within(from, &format!("ping -c1 -W3 {to}")).status.success()
}

// E17 D4: the documents' example, by the files that `rnsnet run` gives a command.
#[test]
fn ping_by_name_takes_less_than_a_millisecond() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create localnet");
    let _test2 = lab.member("--network localnet --name test2");
    let ping = "run --network localnet --name test1 -- ping -c20 -i0.1 test2";
    one_of_three("one of twenty within a millisecond", || {
        let ran = lab.rnsnet_ends(&ping.split(' ').collect::<Vec<_>>());
        let lines = ran.ok().lines().filter(|line| line.contains("64 bytes from"));
        let lines: Vec<&str> = lines.collect();
        assert_eq!(lines.len(), 20, "{ran}");
        assert!(lines[0].contains("(10.89.0.2)"), "{ran}");
        // The first one has to ask for the hardware address; the machine may be busy for some others.
        let time = |line: &&str| {
            let (_, time) = line.split_once("time=")?;
            time.split_whitespace().next()?.parse::<f64>().ok()
        };
        let best = lines.iter().filter_map(time).fold(f64::MAX, f64::min);
        if best < 1.0 { Ok(()) } else { Err(ran.to_string()) }
    });
}

// D4 D6 D7 D8 D9
#[test]
fn containers_are_known_by_name_alias_id_and_address() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --ipv6 n1");
    lab.rn("network create n2");
    let mut counter = lab.counter(Place::Lan, &[53]);
    let web = lab.member("--network n1:alias=db,alias=sql --name web");
    let _one = lab.member("--network n1:alias=sql --name one");
    let _two = lab.member("--network n1:alias=sql --name two");
    let other = lab.member("--network n2 --name other");
    let (gateway, elsewhere) = ("10.89.0.1", "10.89.1.1");
    assert_eq!(lab.asks(&web, gateway, "web"), "10.89.0.2");
    assert_eq!(lab.asks(&web, gateway, "web.n1"), "10.89.0.2");
    assert_eq!(lab.asks(&web, gateway, "db"), "10.89.0.2");
    assert_eq!(lab.asks(&web, gateway, "sql"), "10.89.0.2 10.89.0.3 10.89.0.4");
    assert!(lab.asks(&web, gateway, "AAAA one").ends_with("::3"));
    assert_eq!(lab.asks(&web, gateway, "-x 10.89.0.2"), "web.n1.");
    let id = lab.rn("ps -q --filter name=web");
    assert_eq!(lab.asks(&web, gateway, &id), "10.89.0.2");
    // Known, with no address of that family: no error, no answer, not who would know, at once.
    let asked = |question: &str| {
        let dig = format!("dig +noall +comments +stats @{elsewhere} {question}");
        lab.within(&other, &dig).ok().to_owned()
    };
    let known = (0..10).map(|_| asked("AAAA other")).min_by_key(|dig| query_time(dig));
    let known = known.expect("ten answers");
    assert!(query_time(&known) < 5, "{known}");
    for part in ["status: NOERROR", "ANSWER: 0", "AUTHORITY: 0"] {
        assert!(known.contains(part), "{part}: {known}");
    }
    // Replicas are named in turns.
    let firsts: std::collections::BTreeSet<String> = (0..9)
        .map(|_| {
            let dig = lab.within(&web, &format!("dig +short @{gateway} sql | head -1"));
            dig.ok().to_owned()
        })
        .collect();
    assert_eq!(firsts.len(), 3, "{firsts:?}");
    // Nobody else was asked until now. A name is its network's alone.
    assert_eq!(arrivals(&mut counter), "0 connections 0 datagrams");
    drop(counter);
    let options = ["--listen-address=192.0.2.9", "--local=/web/db/sql/"];
    let _dns = lab.dnsmasq_with(Place::Lan, &options, 53);
    for name in ["web", "db", "sql"] {
        assert!(asked(name).contains("status: NXDOMAIN"), "{name}");
    }
}

/// How long an answer took, in milliseconds, as dig has it.
pub(crate) fn query_time(dig: &str) -> u32 {
    let (_, time) = dig.split_once("Query time: ").expect("dig prints a time");
    time.split(' ').next().and_then(|time| time.parse().ok()).expect("a number")
}

// D10
#[test]
fn a_container_that_has_gone_is_forgotten_within_a_second() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let web = lab.member("--network n1 --name web");
    let db = lab.member("--network n1 --name db");
    let _dns = lab.dnsmasq_with(Place::Lan, &["--listen-address=192.0.2.9", "--local=/db/"], 53);
    let asked = lab.within(&web, "dig +noall +answer @10.89.0.1 db").ok().to_owned();
    let words: Vec<&str> = asked.split_whitespace().collect();
    assert!(words[1].parse::<u32>().is_ok_and(|ttl| ttl <= 5), "{asked}");
    assert_eq!(words[2..], ["IN", "A", "10.89.0.3"]);
    db.kill();
    promptly(secs(1), "the name is gone", || {
        let dig = lab.within(&web, "dig +tries=1 @10.89.0.1 db");
        if dig.ok().contains("status: NXDOMAIN") { Ok(()) } else { Err(dig.to_string()) }
    });
    assert!(!pings(&lab, &web, "10.89.0.3"));
}

// A6
#[test]
fn one_process_serves_a_network_and_ends_when_nobody_is_there() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    assert!(!lab.is_up("n1"));
    let first = lab.member("--network n1 --name a");
    let process = |name: &str| {
        let socket = lab.runtime().join("rnsnet/networks/n1/control.sock");
        let program = format!(
            "import json\ns = socket.socket(socket.AF_UNIX); s.connect('{}')\n\
             s.sendall(b'{{\"version\": 1, \"execute\": \"info\"}}\\n')\n\
             info = json.loads(s.makefile().readline())['return']\n\
             assert '{name}' in [c['name'] for c in info['containers']], info\n\
             say(info['process'])",
            socket.display()
        );
        lab.py(Place::User, &program).ok().to_owned()
    };
    let pid = process("a");
    let alone = lab.memory(pid.parse().expect("a pid"), "Pss_Anon");
    let others = [lab.member("--network n1 --name b"), lab.member("--network n1 --name c")];
    assert_eq!(process("c"), pid);
    // All that runs on this host of ours.
    let ours = "own=$(readlink /proc/self/ns/net); for p in /proc/[0-9]*; do
        [ \"$(cat $p/comm)\" != rnsnet ] || [ \"$(readlink $p/ns/net)\" != $own ] || echo ${p#/proc/}
    done 2>/dev/null";
    eventually(secs(5), "it is the only one, once those that called have ended", || {
        let running = lab.sh(Place::Host, ours);
        if running.ok() == pid { Ok(()) } else { Err(running.to_string()) }
    });
    for other in &others {
        assert!(reaches(&lab, &first, "10.89.0.3") && reaches(&lab, other, "10.89.0.2"));
    }
    let grown = lab.memory(pid.parse().expect("a pid"), "Pss_Anon").saturating_sub(alone);
    assert!(grown < 2 * 1024, "{grown} KiB for two containers more, after {alone}");
    drop((first, others));
    eventually(secs(5), "the process has ended", || {
        if lab.is_up("n1") { Err("its socket is there".to_owned()) } else { Ok(()) }
    });
    eventually(secs(2), "it has ended, or nobody has asked for its exit code yet", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ended = status.is_empty() || status.contains("State:\tZ");
        if ended { Ok(()) } else { Err(status) }
    });
    // And is started anew.
    let again = lab.member("--network n1 --name a");
    assert!(lab.within(&again, "ip -br addr show eth0").ok().contains("10.89.0.2/24"));
}

// A10 A13
#[test]
fn a_container_may_be_on_several_networks_and_on_each_once() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --opt mtu=1400 a");
    lab.rn("network create --ipv6 b");
    let both = lab.member("--network a:mac=02:00:00:00:00:07 --network b:ifname=lan0 --name web");
    let links = lab.within(&both, "ip -br addr").ok().to_owned();
    assert!(links.contains("eth0") && links.contains("10.89.0.2/24"), "{links}");
    assert!(links.contains("lan0") && links.contains("10.89.1.2/24"), "{links}");
    let routes = lab.within(&both, "ip route").ok().to_owned();
    assert!(routes.starts_with("default via 10.89.0.1 dev eth0"), "{routes}");
    // The second one's comes after it, and takes its place when it goes.
    let routes = lab.within(&both, "ip route get 192.0.2.9").ok().to_owned();
    assert!(routes.contains("dev eth0"), "{routes}");
    let link = lab.within(&both, "ip link show eth0").ok().to_owned();
    assert!(link.contains("mtu 1400") && link.contains("02:00:00:00:00:07"), "{link}");
    // It is one container to every verb.
    lab.rn("publish web 8080:80");
    assert_eq!(lab.rn("port web 80").lines().next(), Some("0.0.0.0:8080"));
    let row = lab.rn("ps --format {{.Name}}|{{.Networks}}|{{.Ports}}");
    assert_eq!(row, "web|a, b|0.0.0.0:8080->80/tcp");
    let template =
        "{{range $name, $at := .NetworkSettings.Networks}}{{$name}}={{$at.IPAddress}} {{end}}";
    let inspected = lab.rnsnet_ends(&["inspect", "-f", template, "web"]);
    assert_eq!(inspected.ok().trim_end(), "a=10.89.0.2 b=10.89.1.2");
    let (pid, another) = (both.pid(), lab.container());
    assert!(
        lab.rn_fails(&format!("-d --network a --name again {pid}"))
            .starts_with(&format!("pid {pid} is already attached (interface eth0"))
    );
    assert_eq!(
        lab.rn_fails(&format!("-d --network a --name web {}", another.pid())),
        "a: the name web is in use on this network"
    );
    lab.rn("network disconnect a web");
    let routes = lab.within(&both, "ip route get 192.0.2.9").ok().to_owned();
    assert!(routes.contains("dev lan0"), "{routes}");
    lab.rn("network connect a web");
    lab.rn("detach web");
    assert_eq!(lab.within(&both, "ip -br link").ok().lines().count(), 1);
}

// E24
#[test]
fn which_network_has_the_default_route_can_be_said() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create a");
    lab.rn("network create --ipv6 b");
    lab.rn("network create --internal inside");
    lab.rn("network create --opt metric=50 first");
    lab.rn("network create --opt no_default_route=1 --route 192.0.2.0/25,10.89.4.1,7 part");
    let words = "--network inside --network a --network b:gw-priority=1 --name web -p 8080:80";
    let web = lab.member(words);
    let by = |address: &str| {
        let route = lab.within(&web, &format!("ip route get {address}")).ok().to_owned();
        let (_, rest) = route.split_once(" dev ").expect("a route");
        rest.split(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(by("192.0.2.9"), "eth2");
    // The published port is where the answers go: its client is who it is.
    let _who = lab.who(Place::In(&web), 80);
    let program = format!("say(read_all(tcp('{HOST4}', 8080, 20)).decode().split()[0])");
    assert_eq!(lab.py(Place::Lan, &program).ok(), LAN4);
    lab.rn("network disconnect b web");
    assert_eq!(by("192.0.2.9"), "eth1");
    // Of those of the same priority the one that was there first.
    lab.rn("network connect b web");
    assert_eq!(by("192.0.2.9"), "eth1");
    // One of the container's later publishings goes by the default route, too.
    lab.rn("publish web 8081:80");
    let program = format!("say(read_all(tcp('{HOST4}', 8081, 20)).decode().split()[0])");
    assert_eq!(lab.py(Place::Lan, &program).ok(), LAN4);
    lab.rn("network connect first web");
    assert_eq!(by("192.0.2.9"), "eth3");
    lab.rn("network connect --gw-priority -5 --ifname last part web");
    assert_eq!(by("192.0.2.9"), "last");
    assert_eq!(by("192.0.2.200"), "eth3");
    let routes = lab.within(&web, "ip route show dev last").ok().to_owned();
    assert!(routes.contains("192.0.2.0/25 via 10.89.4.1 proto static metric 7"), "{routes}");
    assert!(!routes.contains("default"), "{routes}");
    let _server = lab.web_server(Place::Lan, 80, "by the way");
    assert_eq!(lab.within(&web, &format!("curl -sS -m20 http://{LAN4}/")).ok(), "by the way");
    let shown = lab.rnsnet_ends(&["network", "inspect", "-v", "-f", "{{.Routes}}", "part"]);
    assert_eq!(shown.ok(), "[[192.0.2.0/25 10.89.4.1 7]]");
}

// E24 E21: also when what a killed network has left is taken over.
#[test]
fn ports_are_published_on_the_network_that_has_the_default_route() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create zeta");
    lab.rn("network create alpha");
    let web = lab.member("--network zeta --network alpha --name web");
    let _who = lab.who(Place::In(&web), 80);
    let published = |port: u16| {
        lab.rn(&format!("publish web {port}:80"));
        let program = format!("say(read_all(tcp('{HOST4}', {port}, 20)).decode().split()[0])");
        assert_eq!(lab.py(Place::Lan, &program).ok(), LAN4);
        lab.rn(&format!("unpublish web {port}:80"));
    };
    published(8080);
    for network in ["zeta", "alpha"] {
        lab.kill_network(network);
        lab.rn("reattach");
        published(8081);
    }
    let first = || {
        let routes = lab.within(&web, "ip route show default").ok().to_owned();
        routes.lines().next().unwrap_or_default().replace(" linkdown", "").trim_end().to_owned()
    };
    assert_eq!(first(), "default via 10.89.0.1 dev eth0 proto static metric 200000");
    lab.kill_network("alpha");
    lab.rn("network connect --gw-priority 10 alpha web");
    assert_eq!(first(), "default via 10.89.1.1 dev eth1 proto static metric 199000");
    published(8082);
}

// E23 A12: the networks that a container has without naming any.
#[test]
fn the_predefined_networks_show_who_is_on_them() {
    let Some(lab) = Lab::new() else { return };
    let own = lab.container();
    let _own = lab.rnsnet(&own).with(&["--network", "bridge", "--name", "own"]).start();
    let run = ["run", "--network", "none", "--name", "alone", "--", "sleep", "60"];
    let _alone = crate::exec::Proc::spawn(&mut lab.rnsnet_command(&run));
    let of = |network: &str| {
        let template = "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}";
        lab.rnsnet_ends(&["network", "inspect", "-f", template, network]).ok().to_owned()
    };
    assert_eq!(of("bridge").trim_end(), "own 10.0.2.100/24");
    eventually(secs(10), "the command is listed", || match of("none").trim_end() {
        "alone" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(of("host").trim_end(), "");
    let predefined = "is a pre-defined network and cannot be removed, changed or connected to";
    for name in ["bridge", "host", "none"] {
        for verb in ["connect", "disconnect"] {
            let told = lab.rn_fails(&format!("network {verb} {name} own"));
            assert_eq!(told, format!("{name} {predefined}"));
        }
    }
}

// A11 E9 E10 E18: seeds of two documents.
#[test]
fn two_networks_are_apart_until_a_container_is_connected_to_both() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create localnet");
    lab.rn("network create other");
    let demo4 = lab.member("--network other --name demo4");
    let demo5 = lab.member("--network localnet --name demo5");
    assert!(!pings(&lab, &demo5, "10.89.1.2"));
    // What is open stays open, over the connecting and the disconnecting.
    let _echo = lab.serve(Place::Lan, "echo_tcp(7)");
    let mut flow = lab.spawn_py(
        Place::In(&demo4),
        &format!(
            "s = tcp('{LAN4}', 7); s.sendall(b'a'); say(s.recv(9).decode())\n\
             for _ in range(2):\n    sys.stdin.readline(); s.sendall(b'b'); say(s.recv(9).decode())"
        ),
    );
    assert_eq!(flow.line(secs(5)), "a");
    // The best of several: the machine may be busy with other tests.
    let mut fastest = secs(60);
    for round in 0..20 {
        if round > 0 {
            lab.rn("network disconnect localnet demo4");
        }
        let start = now();
        lab.rn("network connect --alias four --mac 02:00:00:00:00:44 localnet demo4");
        fastest = fastest.min(start.elapsed());
        assert!(lab.within(&demo4, "ip -br addr show eth1").ok().contains("10.89.0.3/24"));
        if fastest < millis(100) {
            break;
        }
    }
    assert!(fastest < millis(100), "{fastest:?}");
    assert!(reaches(&lab, &demo5, "10.89.0.3") && reaches(&lab, &demo4, "10.89.0.2"));
    assert!(lab.within(&demo4, "ip link show eth1").ok().contains("02:00:00:00:00:44"));
    assert_eq!(lab.asks(&demo5, "10.89.0.1", "four"), "10.89.0.3");
    assert_eq!(lab.asks(&demo5, "10.89.0.1", "demo4"), "10.89.0.3");
    flow.tell("go on");
    assert_eq!(flow.line(secs(5)), "b");
    // It is on both and leads nobody across.
    lab.within(&demo4, "echo 1 > /proc/sys/net/ipv4/ip_forward").ok();
    lab.within(&demo5, "ip route add 10.89.1.0/24 via 10.89.0.3").ok();
    assert!(!pings(&lab, &demo5, "10.89.1.1"));
    lab.rn("network disconnect localnet demo4");
    assert!(!lab.within(&demo4, "ip -br link").ok().contains("eth1"));
    assert!(!pings(&lab, &demo5, "10.89.0.3"));
    assert_eq!(lab.asks(&demo5, "10.89.0.1", "demo4"), "");
    flow.tell("go on");
    assert_eq!(flow.line(secs(5)), "b");
    assert_eq!(
        lab.rn_fails("network disconnect localnet demo4"),
        "the container demo4 is not connected to the network localnet"
    );
    lab.rn("network disconnect -f localnet demo4");
}

// E2 E9: the documents' example.
#[test]
fn connect_gives_the_address_and_alias_that_were_asked_for() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --driver=bridge --subnet=192.168.100.0/24 --gateway=192.168.100.1 \
         --ip-range=192.168.100.128/30 my-custom-net");
    let web = lab.container();
    let pid = web.pid();
    lab.rn(&format!("network connect --ip 192.168.100.10 --alias w my-custom-net {pid}"));
    assert!(lab.within(&web, "ip -br addr show eth0").ok().contains("192.168.100.10/24"));
    assert_eq!(lab.asks(&web, "192.168.100.1", "w"), "192.168.100.10");
    let second = lab.container();
    let connect = |words: &str| {
        lab.rn_fails(&format!("network connect {words} my-custom-net {}", second.pid()))
    };
    assert_eq!(
        connect("--ip 192.168.99.1"),
        "my-custom-net: the address 192.168.99.1 is not in the network's subnet 192.168.100.0/24"
    );
    let taken = connect("--ip 192.168.100.10");
    assert!(taken.starts_with("my-custom-net: the address 192.168.100.10 is in use by ns-"));
    assert_eq!(
        connect("--ip 192.168.100.1"),
        "my-custom-net: the address 192.168.100.1 cannot be used: it is the gateway's"
    );
    assert!(!lab.within(&second, "ip -br link").ok().contains("eth0"));
    // The range has four addresses.
    let members: Vec<Container> = (128..132)
        .map(|last| {
            let member = lab.member("--network my-custom-net");
            let addresses = lab.within(&member, "ip -br addr show eth0");
            assert!(addresses.ok().contains(&format!("192.168.100.{last}/24")), "{addresses}");
            member
        })
        .collect();
    assert_eq!(
        connect("--alias x"),
        "my-custom-net: no free address is left in 192.168.100.128/30"
    );
    drop(members);
}

// E1 E2
#[test]
fn a_chosen_subnet_is_no_route_of_the_host_and_an_auxiliary_address_nobodys() {
    let Some(lab) = Lab::new() else { return };
    let taken = format!("ip route add 10.89.0.0/24 via {LAN4}; ip addr add 10.89.1.200/26 dev h0");
    lab.sh(Place::Host, &taken).ok();
    lab.rn("network create n1");
    let config = lab.rn("network inspect -f {{.IPAM.Config}} n1");
    assert_eq!(config, "[{Subnet:10.89.2.0/24 Gateway:10.89.2.1}]");
    lab.rn("network create --subnet 192.168.101.0/29 --aux-address printer=192.168.101.2 n2");
    let members: Vec<Container> = (3..7)
        .map(|last| {
            let member = lab.member("--network n2");
            let addresses = lab.within(&member, "ip -br addr show eth0");
            assert!(addresses.ok().contains(&format!("192.168.101.{last}/29")), "{addresses}");
            member
        })
        .collect();
    let another = lab.container();
    let connect =
        |words: &str| lab.rn_fails(&format!("network connect {words} n2 {}", another.pid()));
    assert_eq!(connect("--alias x"), "n2: no free address is left in 192.168.101.0/29");
    assert_eq!(
        connect("--ip 192.168.101.2"),
        "n2: the address 192.168.101.2 cannot be used: it is the auxiliary address printer"
    );
    drop(members);
}

// E11 E13 E14
#[test]
fn a_network_in_use_is_inspected_and_not_removed() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    lab.rn("network create spare");
    let web = lab.member("--network n1 --name web");
    let template = "{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.MacAddress}}{{end}}";
    let inspected = lab.rnsnet_ends(&["network", "inspect", "-f", template, "n1"]);
    assert_eq!(inspected.ok(), "web 10.89.0.2/24 02:72:0a:59:00:02");
    assert_eq!(lab.rn_fails("network rm n1"), "the network n1 has active endpoints: web");
    assert_eq!(lab.rn("network prune -f"), "Deleted Networks:\nspare");
    let own = "network ls -f type=custom --format {{.Name}}";
    assert_eq!(lab.rn(own), "n1");
    assert_eq!(lab.rn("network rm -f n1"), "n1");
    eventually(secs(1), "the interface is gone", || {
        let links = lab.within(&web, "ip -br link").ok().to_owned();
        if links.contains("eth0") { Err(links) } else { Ok(()) }
    });
    assert_eq!(lab.rn(own), "");
}

// E19 E21
#[test]
fn a_name_keeps_its_address_over_restarts_of_container_and_process() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --ipv6 n1");
    let before = lab.rn("network inspect n1");
    let address = |container: &Container| {
        lab.within(container, "ip -br addr show eth0 | tr -s ' '").ok().to_owned()
    };
    let keeper = lab.member("--network n1 --name keeper");
    let mut first = String::new();
    for round in 0..5 {
        let web = lab.member("--network n1 --name web");
        if round == 0 {
            first = address(&web);
        }
        let link_local = |text: &str| text.split(" fe80").next().map(str::to_owned);
        assert_eq!(link_local(&address(&web)), link_local(&first));
        web.kill();
        eventually(secs(2), "the container is gone", || {
            let names = lab.rn("ps --format {{.Name}}");
            if names.contains("web") { Err(names) } else { Ok(()) }
        });
        // Another one does not get it meanwhile.
        let other = lab.member("--network n1");
        assert_ne!(link_ipv4(&address(&other)), link_ipv4(&first));
    }
    // The same when the process is killed: nothing of the network was in it alone.
    lab.kill_network("n1");
    let kept = address(&keeper);
    let web = lab.member("--network n1 --name web");
    assert_eq!(link_ipv4(&address(&web)), link_ipv4(&first));
    assert_eq!(link_ipv4(&address(&keeper)), link_ipv4(&kept));
    let containers = |text: &str| text.split("\"Containers\"").next().map(str::to_owned);
    assert_eq!(containers(&lab.rn("network inspect n1")), containers(&before));
}

fn link_ipv4(text: &str) -> Option<&str> {
    text.split(' ').nth(2)
}

/// The process of a network, as it says itself.
pub(crate) fn info_process(lab: &Lab, network: &str) -> u32 {
    let socket = lab.runtime().join("rnsnet/networks").join(network).join("control.sock");
    process_at(lab, &socket)
}

/// The process that answers on a control socket.
#[track_caller]
pub(crate) fn process_at(lab: &Lab, socket: &std::path::Path) -> u32 {
    let program = format!(
        "import json\ns = socket.socket(socket.AF_UNIX); s.connect('{}')\n\
         s.sendall(b'{{\"version\": 1, \"execute\": \"info\"}}\\n')\n\
         say(json.loads(s.makefile().readline())['return']['process'])",
        socket.display()
    );
    lab.py(Place::User, &program).ok().parse().expect("a pid")
}

// E20
#[test]
fn without_icc_containers_reach_the_outside_and_not_each_other() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --opt icc=false n1");
    let a = lab.member("--network n1 --name a");
    let _b = lab.member("--network n1 --name b");
    let _web = lab.web_server(Place::Lan, 80, "outside");
    assert!(!pings(&lab, &a, "10.89.0.3"));
    assert_eq!(lab.within(&a, &format!("curl -sS -m20 http://{LAN4}/")).ok(), "outside");
}

// C12 C10 C11: the client's own address and names, both at once.
#[test]
fn a_port_published_on_a_network_shows_the_clients_own_address() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --ipv6 n1");
    let web = lab.member("--network n1 --name web -p 8080:80 -p 8080:80/udp");
    let other = lab.member("--network n1 --name other");
    let _who = lab.who(Place::In(&web), 80);
    for (host, client) in [(HOST4, LAN4), (HOST6, LAN6)] {
        let program = format!("say(read_all(tcp('{host}', 8080, 20)).decode().split()[0])");
        assert_eq!(lab.py(Place::Lan, &program).ok(), client);
        // Connected: an answer from elsewhere would not be heard.
        let program = format!(
            "s = udp(timeout=15, v6=':' in '{host}'); s.connect(('{host}', 8080)); s.send(b'?')\n\
             say(s.recv(99).decode().split()[0])"
        );
        assert_eq!(lab.py(Place::Lan, &program).ok(), client);
    }
    assert_eq!(lab.asks(&other, "10.89.0.1", "web"), "10.89.0.2");
    assert!(reaches(&lab, &other, "10.89.0.2"));
    assert_eq!(lab.rn("port web 80/tcp").lines().next(), Some("0.0.0.0:8080"));
    // A port that is taken leaves no trace of who wanted it.
    let third = lab.container();
    let refused = lab.rn_fails(&format!("-d --network n1 --name x -p 8080:80 {}", third.pid()));
    assert!(refused.contains("8080"), "{refused}");
    eventually(secs(1), "nothing is left of it", || {
        let links = lab.within(&third, "ip -br link").ok().to_owned();
        if links.contains("eth0") { Err(links) } else { Ok(()) }
    });
    // The port goes with its container.
    web.kill();
    eventually(secs(2), "the port is free", || {
        let sockets = lab.sockets(Place::Host, 8080);
        if sockets.is_empty() { Ok(()) } else { Err(sockets) }
    });
}

// E6
#[test]
fn the_networks_options_are_in_force() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create --opt host_binding=127.0.0.1 --opt com.docker.network.driver.mtu=1400 \
         --opt com.docker.network.container_iface_prefix=lan n1");
    let web = lab.member("--network n1 --name web -p 8080:80 -p 192.0.2.1:8081:80");
    assert_eq!(lab.rn("port web 80"), "127.0.0.1:8080\n192.0.2.1:8081");
    let link = lab.within(&web, "ip link show lan0").ok().to_owned();
    assert!(link.contains("mtu 1400"), "{link}");
}

// C21 E4 D16
#[test]
fn an_internal_network_lets_clients_in_and_nothing_out() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.web_server(Place::Lan, 8080, "outside");
    let mut counter = lab.counter(Place::Lan, &[53]);
    lab.rn("network create --internal back");
    let web = lab.member("--network back --name web -p 8080:80");
    let peer = lab.member("--network back --name peer");
    let _web = lab.web_server(Place::In(&web), 80, "inside");
    assert_eq!(lab.sh(Place::Lan, &format!("curl -sS -m20 http://{HOST4}:8080/")).ok(), "inside");
    // Refused at once: after five seconds it would be 28.
    let out = lab.within(&web, &format!("curl -sS -m20 http://{LAN4}:8080/"));
    assert_eq!(out.code(), 7, "{out}");
    assert!(!lab.within(&web, &format!("curl -sS -m2 http://{HOST4}:8080/")).status.success());
    assert!(reaches(&lab, &web, "10.89.0.3") && reaches(&lab, &peer, "10.89.0.2"));
    assert_eq!(lab.asks(&web, "10.89.0.1", "peer"), "10.89.0.3");
    let asked = || lab.within(&web, "dig +tries=1 @10.89.0.1 a.test").ok().to_owned();
    let asked = (0..10).map(|_| asked()).min_by_key(|dig| query_time(dig)).expect("ten answers");
    assert!(asked.contains("status: REFUSED") || asked.contains("status: SERVFAIL"), "{asked}");
    assert!(query_time(&asked) < 50, "{asked}");
    assert_eq!(arrivals(&mut counter), "0 connections 0 datagrams");
}

#[test]
fn a_caller_that_dies_half_way_gives_the_lease_back() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let _keeper = lab.member("--network n1 --name keeper");
    let socket = lab.runtime().join("rnsnet/networks/n1/control.sock");
    let program = format!(
        "import json\ns = socket.socket(socket.AF_UNIX); s.connect('{}')\n\
         def ask(execute, **arguments):\n    \
         s.sendall(json.dumps({{'version': 1, 'execute': execute, 'arguments': arguments}})\
         .encode() + b'\\n')\n    return json.loads(f.readline())\n\
         f = s.makefile()\n\
         say(ask('lease', name='web')['return']['ipv4'])\n\
         say(ask('attach', id='1' * 64, vnet_header=False, ipv6=False, ifname='eth0')['error']['message'])\n\
         say(ask('lease', name='../x')['error']['kind'])\n\
         ask('lease', name='web')\n\
         say(ask('attach', id='www.example.com', vnet_header=False, ipv6=False, ifname='eth0')['error']['message'])\n\
         say(ask('lease', name='web')['return']['ipv4'])",
        socket.display()
    );
    assert_eq!(
        lab.py(Place::User, &program).ok(),
        "10.89.0.3\nattach takes a TAP and a pidfd\narguments\n\
         invalid id \"www.example.com\": expected 64 hex digits\n10.89.0.3"
    );
    let web = lab.member("--network n1 --name web");
    assert!(lab.within(&web, "ip -br addr").ok().contains("10.89.0.3/24"));
}

// In the foreground the caller stays, and takes the container away with it.
#[test]
fn in_the_foreground_the_network_goes_with_the_caller() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let _keeper = lab.member("--network n1 --name keeper");
    let web = lab.container();
    let net = lab.rnsnet(&web).with(&["--network", "n1", "--name", "web"]).without_pcap().start();
    assert!(lab.within(&web, "ip -br addr").ok().contains("10.89.0.3/24"));
    assert!(net.log().contains("n1 eth0 10.89.0.3/24 gateway 10.89.0.1"), "{}", net.log());
    drop(net);
    assert!(!lab.within(&web, "ip -br link").ok().contains("eth0"));
    assert_eq!(lab.rn("ps --format {{.Name}}"), "keeper");
    // Killed, it takes the container along as well.
    let net = lab.rnsnet_command(&["--network", "n1", "--name", "web", &web.pid().to_string()]);
    let net = crate::exec::Proc::spawn(&mut { net });
    eventually(secs(3), "it is attached", || {
        let links = lab.within(&web, "ip -br addr").ok().to_owned();
        if links.contains("10.89.0.3/24") { Ok(()) } else { Err(links) }
    });
    net.signal(Signal::SIGKILL);
    eventually(secs(2), "the interface is gone", || {
        let links = lab.within(&web, "ip -br link").ok().to_owned();
        if links.contains("eth0") { Err(links) } else { Ok(()) }
    });
    drop(net);
    // It does not stay without its network.
    let held = lab.rnsnet_command(&["--network", "n1", "--name", "web", &web.pid().to_string()]);
    let held = crate::exec::Proc::spawn(&mut { held });
    eventually(secs(3), "it is attached", || {
        let links = lab.within(&web, "ip -br addr").ok().to_owned();
        if links.contains("10.89.0.3/24") { Ok(()) } else { Err(links) }
    });
    killed(info_process(&lab, "n1"));
    let ran = held.finish(secs(2));
    assert_eq!(
        (ran.code(), ran.stderr.lines().last()),
        (1, Some("rnsnet: the process of the network n1 has ended")),
        "{ran}"
    );
    // Nor without one of several, though something else may end it too; nor does a command.
    lab.rn("network create n2");
    let both = "--network n1 --network n2";
    let ready = lab.dir().join("ready").display().to_string();
    for words in [
        format!("{both} --exit-fd 3 --ready-fd 4 {}", web.pid()),
        format!("run {both} -- sh -c \"printf 1 > {ready}; exec sleep 600\""),
    ] {
        drop(fs::remove_file(&ready));
        let script = format!("exec {} {words} 3<&0 4>{ready}", binary().display());
        let held = lab.spawn(Place::User, &["sh", "-c", &script]);
        eventually(secs(5), "it is on both", || match fs::read_to_string(&ready) {
            Ok(text) if text == "1" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        killed(info_process(&lab, "n2"));
        let ran = held.finish(secs(2));
        assert!(ran.stderr.contains("the process of the network n2 has ended"), "{ran}");
        assert_eq!(lab.rn("ps --format {{.Name}}"), "keeper", "{words}");
    }
    // And ends by itself with its container.
    let net = lab.rnsnet(&web).with(&["--network", "n1", "--name", "web"]).without_pcap().start();
    web.kill();
    assert!(net.ends().success());
}

#[test]
fn a_command_is_run_on_a_network() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let _db = lab.member("--network n1 --name db");
    let run = |words: &[&str]| {
        lab.rnsnet_ends(&[&["run", "--network", "n1", "--name", "app", "--"], words].concat())
    };
    assert!(run(&["ip", "-br", "addr", "show", "eth0"]).ok().contains("10.89.0.3/24"));
    assert!(run(&["cat", "/etc/resolv.conf"]).ok().contains("nameserver 10.89.0.1"));
    assert!(run(&["getent", "hosts", "db"]).ok().starts_with("10.89.0.2"));
    assert_eq!(run(&["sh", "-c", "exit 7"]).code(), 7);
    eventually(secs(2), "it is gone", || {
        let names = lab.rn("ps --format {{.Name}}");
        if names == "db" { Ok(()) } else { Err(names) }
    });
    let unknown = lab.rnsnet_ends(&["run", "--network", "nope", "true"]);
    assert_eq!(unknown.code(), 125);
    assert!(unknown.stderr.starts_with("rnsnet: no such network: nope\nhint: "), "{unknown}");
}

#[test]
fn what_cannot_be_had_is_told_in_a_line() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let web = lab.container();
    let pid = web.pid();
    for (words, told) in [
        (format!("-d --network nope {pid}"), "no such network: nope"),
        (format!("network connect nope {pid}"), "no such network: nope"),
        ("network connect n1 nobody".to_owned(), "there is no container \"nobody\""),
        (format!("network disconnect n1 {pid}"), "the container pid"),
        (format!("-d --network n1:ip=10.1.0.1 {pid}"), "n1: the address 10.1.0.1 is not in"),
        (format!("-d --network n1:ip6=fd00::1 {pid}"), "n1: the address fd00::1 is not in"),
        ("-d --network n1 4194304".to_owned(), "there is no process with pid 4194304"),
    ] {
        let failed = lab.rn_fails(&words);
        assert!(failed.starts_with(told), "{words}: {failed}");
    }
    assert!(!lab.within(&web, "ip -br link").ok().contains("eth0"));
    // A directory that others can have a hand in is not trusted.
    lab.rn(&format!("-d --network n1 --name web {pid}"));
    lab.sh(Place::User, "chmod 777 $XDG_RUNTIME_DIR/rnsnet").ok();
    let failed = lab.rn_fails("network disconnect n1 web");
    assert!(failed.contains("belongs to somebody else"), "{failed}");
    lab.sh(Place::User, "chmod 700 $XDG_RUNTIME_DIR/rnsnet").ok();
}
