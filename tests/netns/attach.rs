//! Attaching a namespace: what the container then has, and what is refused. Rows A1 A2 A7 A12-A14.

use crate::eventually::{eventually, one_of_three, secs};
use crate::lab::{DNS4, GATEWAY4, GUEST4, GUEST6, LAN4, LAN6, Lab, Place};
use crate::rnsnet::binary;

// A1
#[test]
fn a_pid_gets_interface_addresses_route_and_loopback() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();

    let links = lab.sh(Place::In(&ctr), "ip -br a").ok().to_owned();
    let lo = links.lines().find(|line| line.starts_with("lo ")).expect("lo is listed");
    assert!(lo.contains("UNKNOWN") && lo.contains("127.0.0.1/8"), "{links}");
    let eth0 = links.lines().find(|line| line.starts_with("eth0 ")).expect("eth0 is listed");
    assert!(eth0.contains(&format!("{GUEST4}/24")), "{links}");
    assert!(eth0.contains(&format!("{GUEST6}/64")), "{links}");

    let routes = lab.sh(Place::In(&ctr), "ip route; ip -6 route").ok().to_owned();
    assert!(routes.contains(&format!("default via {GATEWAY4} dev eth0")), "{routes}");
    assert!(routes.contains("default via"), "{routes}");
    assert!(routes.contains("fd72:6e73:6e65::/64 dev eth0"), "{routes}");
    assert!(lab.sh(Place::In(&ctr), "ip -6 route show default").ok().contains("eth0"), "{routes}");
    assert!(lab.sh(Place::In(&ctr), "ip link show eth0").ok().contains("mtu 1500"));

    let page = lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:8080/"));
    assert_eq!(page.ok(), "hello from the lan");
}

// A1: the process keeps no power over the host namespace.
#[test]
fn no_capability_is_left_on_the_host() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", net.pid()))
        .expect("the process is there");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).expect("the kernel lists it");
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // K2: every system call is checked against the list.
    assert!(status.contains("Seccomp:\t2"), "{status}");
    // It stayed in the host namespace, too. Only root may look: it is not dumpable.
    let netns = |pid: u32| lab.sh(Place::Host, &format!("readlink /proc/{pid}/ns/net"));
    assert_eq!(netns(net.pid()).ok(), lab.sh(Place::User, "readlink /proc/self/ns/net").ok());
    assert_ne!(netns(net.pid()).ok(), netns(ctr.pid()).ok());
    drop(net);
    // K2: to find a fault, and to find it alone.
    for option in ["--no-seccomp", "--no-sandbox"] {
        let net = lab.rnsnet(&ctr).with(&[option]).start();
        let status = std::fs::read_to_string(format!("/proc/{}/status", net.pid()))
            .expect("the process is there");
        assert!(status.contains("Seccomp:\t0"), "{option}: {status}");
        assert!(status.contains("NoNewPrivs:\t1"), "{option}: {status}");
    }
}

// A2
#[test]
fn a_path_with_its_user_namespace_is_attached() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "hello from the lan");
    let ctr = lab.container();
    let net = format!("/proc/{}/ns/net", ctr.pid());
    let user = format!("--userns-path=/proc/{}/ns/user", ctr.pid());
    let _net = lab.rnsnet_at(&[&net]).with(&["--netns-type=path", &user]).start();
    let page = lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:8080/"));
    assert_eq!(page.ok(), "hello from the lan");
}

// A2: a path is recognised as one, and its owner asked for.
#[test]
fn a_path_alone_is_enough() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = format!("/proc/{}/ns/net", ctr.pid());
    let _net = lab.rnsnet_at(&[&net]).start();
    assert!(lab.sh(Place::In(&ctr), "ip -br a show eth0").ok().contains(GUEST4));
}

// A7
#[test]
fn name_mac_address_and_mtu_can_be_chosen() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let _net = lab
        .rnsnet(&ctr)
        .with(&["--ifname", "lan0", "--mac", "02:00:00:00:00:07", "--mtu", "9000"])
        .with(&["--ip", "10.9.0.7"])
        .with(&["--cidr6", "fd00:9::/64", "--ip6", "fd00:9::7"])
        .start();
    let link = lab.sh(Place::In(&ctr), "ip -d link show lan0; ip addr show lan0").ok().to_owned();
    for part in ["02:00:00:00:00:07", "mtu 9000", "10.9.0.7/24", "fd00:9::7/64", " tun "] {
        assert!(link.contains(part), "no {part:?} in {link}");
    }
    let routes = lab.sh(Place::In(&ctr), "ip route").ok().to_owned();
    assert!(routes.contains("default via 10.9.0.2 dev lan0"), "{routes}");
    for lan in [LAN4, LAN6] {
        lab.py(Place::In(&ctr), &format!("attempt('{lan}', 7)")).ok();
        let seen = lab.py(Place::In(&ctr), &format!("say(read_all(tcp('{lan}', 7)))"));
        assert!(seen.ok().starts_with("b'"), "{seen}");
    }
}

// A7: `rnsnet PID IFNAME`
#[test]
fn the_interface_name_may_be_an_operand() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet_at(&[&ctr.pid().to_string(), "web0"]).start();
    assert!(lab.sh(Place::In(&ctr), "ip -br a show web0").ok().contains(GUEST4));
}

// A7
#[test]
fn the_other_addresses_follow_the_prefix() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--cidr", "172.20.0.0/16"]).start();
    assert!(lab.sh(Place::In(&ctr), "ip -br a").ok().contains("172.20.0.100/16"));
    lab.sh(Place::In(&ctr), "ping -c1 -W10 172.20.0.2").ok();
}

#[test]
fn ipv6_can_be_left_out() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["--no-ipv6"]).start();
    let global = lab.sh(Place::In(&ctr), "ip -6 addr show dev eth0 scope global; ip -6 route");
    assert!(!global.ok().contains("fd72:"), "{global}");
    assert!(!global.ok().contains("default"), "{global}");
}

// A12
#[test]
fn network_none_gives_loopback_only() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    // There is nothing to serve, so it need not stay.
    lab.rnsnet_ends(&["--network", "none", &ctr.pid().to_string()]).ok();
    let links = lab.sh(Place::In(&ctr), "ip -br a").ok().to_owned();
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains("127.0.0.1/8"), "{links}");
    // Refused at once: after five seconds it would be 28.
    let curl = lab.run(Place::In(&ctr), &["curl", "-sS", "-m20", &format!("http://{LAN4}:8080/")]);
    assert_eq!(curl.code(), 7, "{curl}");
}

// A13
#[test]
fn a_second_attach_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "still here");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let second = lab.rnsnet_ends(&[&ctr.pid().to_string()]);
    assert_eq!(second.code(), 1, "{second}");
    assert!(second.stderr.contains("already attached"), "{second}");
    // By a path it is the same namespace, and another interface name is no way round either.
    let path = format!("/proc/{}/ns/net", ctr.pid());
    let third = lab.rnsnet_ends(&["--ifname", "other0", &path]);
    assert_eq!(third.code(), 1, "{third}");
    assert!(third.stderr.contains("already attached"), "{third}");
    // Nor is a network taken away, or said to be, by wanting none.
    let none = lab.rnsnet_ends(&["--network", "none", &ctr.pid().to_string()]);
    assert_eq!(none.code(), 1, "{none}");
    assert!(none.stderr.contains("already attached"), "{none}");
    let page = lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:8080/"));
    assert_eq!(page.ok(), "still here");
    assert!(!lab.sh(Place::In(&ctr), "ip -br link").ok().contains("other0"));
}

// A13: once the first has gone, the namespace is free again.
#[test]
fn attaching_again_after_the_end_works() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    for _ in 0..3 {
        let net = lab.rnsnet(&ctr).start();
        let seen = lab.py(Place::In(&ctr), &format!("say(read_all(tcp('{LAN4}', 7)).decode())"));
        assert!(seen.ok().starts_with("192.0.2.1 "), "{seen}");
        drop(net);
    }
}

// A14
#[test]
fn the_host_namespace_is_refused_with_the_reason() {
    let Some(lab) = Lab::new() else { return };
    let bystander = lab.bystander();
    let pid = bystander.pid().to_string();
    let refused = lab.rnsnet_ends(&[&pid]);
    assert_eq!(refused.code(), 1, "{refused}");
    let reason = format!("pid {pid} is in the host network namespace");
    assert!(refused.stderr.contains(&reason), "{refused}");
    assert!(!lab.sh(Place::Host, "ip -br link").ok().contains("eth0"));
}

// The container's very first packet must not be lost, whatever its family.
#[test]
fn the_first_packet_of_each_kind_gets_through() {
    let Some(lab) = Lab::new() else { return };
    lab.allow_ping();
    let _who = lab.who(Place::Lan, 7);
    let _dns = lab.dns_server(LAN4);
    let first = [
        format!("attempt('{LAN4}', 7, 2)"),
        format!("attempt('{LAN6}', 7, 2)"),
        format!(
            "s = udp(timeout=2); s.sendto(b'x', ('{LAN4}', 7)); s.recv(99); say('connected 0')"
        ),
        format!(
            "s = udp(timeout=2, v6=True); s.sendto(b'x', ('{LAN6}', 7)); s.recv(99)\n\
             say('connected 0')"
        ),
    ];
    for program in first {
        one_of_three(&program, || {
            let ctr = lab.container();
            let _net = lab.rnsnet(&ctr).start();
            let answer = lab.py(Place::In(&ctr), &program);
            let milliseconds = answer.stdout.strip_prefix("connected ").map(str::trim_end);
            // One lost SYN costs a second, one lost neighbour solicitation as well.
            match milliseconds.and_then(|number| number.parse::<u32>().ok()) {
                Some(..500) => Ok(()),
                _ => Err(answer.to_string()),
            }
        });
    }
    // What is not asked twice is lost for good.
    for once in [
        format!("ping -c1 -W10 {LAN4}"),
        format!("ping -c1 -W10 {LAN6}"),
        format!("dig +short +tries=1 +time=10 @{DNS4} a.test | grep {LAN4}"),
    ] {
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).start();
        lab.sh(Place::In(&ctr), &once).ok();
    }
}

// Two networks on one machine have nothing to do with each other.
#[test]
fn two_containers_are_served_side_by_side() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.container(), lab.container());
    let _one = lab.rnsnet(&one).named("one").with(&["-p", "8081:80"]).start();
    let _two = lab.rnsnet(&two).named("two").with(&["-p", "8082:80"]).start();
    let _web1 = lab.web_server(Place::In(&one), 80, "one");
    let page = |port: u16| lab.sh(Place::Lan, &format!("curl -sS -m20 http://192.0.2.1:{port}/"));
    assert_eq!(page(8081).ok(), "one");
    // Nothing listens in the second.
    let other = lab.run(Place::Lan, &["curl", "-sS", "-m20", "http://192.0.2.1:8082/"]);
    assert!(!other.status.success(), "{other}");
}

// A12: whoever was to be told that it works is gone.
#[test]
fn a_failure_to_tell_leaves_the_container_on_no_network() {
    let Some(lab) = Lab::new() else { return };
    lab.rn("network create n1");
    let _other = lab.member("--network n1 --name other");
    let ctr = lab.container();
    let program = format!(
        "import subprocess\nnobody, told = os.pipe(); os.close(nobody)\n\
         words = '-d --network n1 --ready-fd {{}} {}'.format(told).split()\n\
         say('code', subprocess.run(['{}', *words], pass_fds=[told]).returncode)",
        ctr.pid(),
        binary().display()
    );
    assert_eq!(lab.py(Place::User, &program).ok(), "code 1");
    eventually(secs(5), "it is on no network", || {
        let names = lab.rn("ps --format {{.Name}}");
        let links = lab.sh(Place::In(&ctr), "ip -br link").ok().to_owned();
        if names == "other" && !links.contains("eth0") { Ok(()) } else { Err(names + &links) }
    });
}
