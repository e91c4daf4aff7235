//! Networks that span hosts, beside the kernel's own VXLAN and a second rnsnet. Rows J1 J2 J7.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, secs};
use crate::exec::{DEFAULT_DEADLINE, Proc, Ran, run, signal_pid};
use crate::lab::{Container, HOST4, HOST6, LAN4, LAN6, Lab, Place, SECOND4, Second};
use crate::networks::{info_process, pings};
use crate::rnsnet::binary;

/// What every host reads.
const FLEET: &str = "\
    192.0.2.1   10.42.0.64/26  fd42::1:0/112  # the first host\n\
    198.18.0.2  10.42.0.128/26 fd42::2:0/112\n\
    192.0.2.9   10.42.0.9/32   fd42::9/128    # a device of the kernel\n";

const BOTH: &str = "--subnet 10.42.0.0/24 --subnet fd42::/64";

fn file(lab: &Lab) -> PathBuf {
    let folder = lab.dir().join("fleet.d");
    fs::create_dir_all(&folder).expect("the folder is ours");
    folder.join("fleet")
}

/// Puts the file in its place, as an editor does.
fn write(lab: &Lab, text: &str) {
    let file = file(lab);
    fs::write(file.with_extension("new"), text).expect("the folder is ours");
    fs::rename(file.with_extension("new"), file).expect("the folder is ours");
}

/// Makes the network on a host; what more is wanted of it comes before its name.
#[track_caller]
fn create(lab: &Lab, place: Place<'_>, local: &str, more: &str) {
    let store = format!("store=file:{}", file(lab).display());
    let words = format!(
        "network create -d overlay {more} --opt vni=42 --opt local={local} --opt {store} fleet"
    );
    rnsnet(lab, place, &words).ok();
}

#[track_caller]
fn rnsnet(lab: &Lab, place: Place<'_>, words: &str) -> Ran {
    let mut command = lab.cmd(place, &[binary()]);
    command.args(words.split_ascii_whitespace());
    run(&mut command, b"", DEFAULT_DEADLINE)
}

/// A container on the network of a host.
#[track_caller]
fn member(lab: &Lab, place: Place<'_>, name: &str) -> Container {
    let container = lab.container();
    let words = format!("-d --network fleet --name {name} {}", container.pid());
    rnsnet(lab, place, &words).ok();
    container
}

/// Writes what crosses `l0` to a file, as tcpdump does where it can give up root's rights.
const CAPTURE: &str = "
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(('l0', 3))
file = open(CAPTURE, 'wb', 0)
file.write(struct.pack('<IHHIIII', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
say('ready')
while True:
    frame = s.recv(65535)
    file.write(struct.pack('<IIII', 0, 0, len(frame), len(frame)) + frame)
";

/// The LAN machine has a VXLAN device of the kernel, to one other host.
fn kernel_device(lab: &Lab, words: &str) {
    lab.sh(
        Place::Lan,
        &format!(
            "ip link add vx0 type vxlan id 42 dstport 4789 {words}
             ip addr add 10.42.0.9/24 dev vx0
             ip addr add fd42::9/64 dev vx0 nodad
             ip link set vx0 up"
        ),
    )
    .ok();
}

#[track_caller]
fn answers(lab: &Lab, from: &Container, to: &str) {
    eventually(secs(10), &format!("{to} answers"), || {
        if pings(lab, from, to) { Ok(()) } else { Err("it does not".to_owned()) }
    });
}

/// A hundred MiB there and back, every byte compared.
#[track_caller]
fn exact(lab: &Lab, from: Place<'_>, to: &str, mib: usize) {
    let bytes = mib << 20;
    let program = format!("exact('{to}', 7000, {bytes}, {bytes}, timeout=240)");
    let ran = lab.py_within(from, &program, secs(300));
    assert!(ran.ok().starts_with("exact"), "{ran}");
}

fn exact_server(lab: &Lab, place: Place<'_>) -> Proc {
    lab.serve(place, "exact_server(7000)")
}

// J2: the kernel's own device is a host like any other.
#[test]
fn a_vxlan_device_of_the_kernel_and_a_container_reach_each_other() {
    let Some(lab) = Lab::alone() else { return };
    write(&lab, FLEET);
    create(&lab, Place::User, HOST4, BOTH);
    let web = member(&lab, Place::User, "web");
    kernel_device(&lab, &format!("remote {HOST4} local {LAN4} dev l0"));
    let pcap = lab.dir().join("underlay.pcap");
    let pcap = pcap.to_string_lossy();
    let program = format!("CAPTURE = '{pcap}'\n{CAPTURE}");
    let capture = lab.serve(Place::Lan, &program);
    for to in ["10.42.0.9", "fd42::9"] {
        answers(&lab, &web, to);
    }
    eventually(secs(5), "tcpdump decodes VXLAN", || {
        pings(&lab, &web, "10.42.0.9");
        let text = lab.run(Place::User, &["tcpdump", "-nr", &pcap]).stdout;
        let frames: Vec<&str> = text.lines().filter(|line| line.contains("VXLAN")).collect();
        let right = |line: &&str| line.contains("VXLAN, flags [I] (0x08), vni 42");
        if frames.len() > 3 && frames.iter().all(right) { Ok(()) } else { Err(text) }
    });
    drop(capture);
    for to in ["10.42.0.64", "fd42::1:0", "fd42::1:1"] {
        let there = rnsnet(&lab, Place::User, "inspect web").ok().contains(&format!("\"{to}"));
        let ping = lab.run(Place::Lan, &["ping", "-c1", "-W5", to]);
        assert_eq!(ping.status.success(), there, "{to}: {ping}");
    }
    let _here = exact_server(&lab, Place::In(&web));
    let _there = exact_server(&lab, Place::Lan);
    exact(&lab, Place::In(&web), "10.42.0.9", 100);
    let own = address(&lab, &web, "-4");
    exact(&lab, Place::Lan, &own, 100);
    exact(&lab, Place::In(&web), "fd42::9", 10);
    // What it says of itself.
    let shown = rnsnet(&lab, Place::User, "network inspect fleet").ok().to_owned();
    for part in ["\"Driver\": \"overlay\"", "\"Scope\": \"global\"", "\"IP\": \"198.18.0.2\""] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let listed = rnsnet(&lab, Place::User, "network ls --filter driver=overlay -q");
    assert_eq!(listed.ok().lines().count(), 1, "{listed}");
}

/// A container's address on the network.
fn address(lab: &Lab, container: &Container, family: &str) -> String {
    let shown =
        lab.sh(Place::In(container), &format!("ip {family} -o addr show eth0 scope global"));
    let word = shown.ok().split_ascii_whitespace().nth(3).expect("an address");
    word.split('/').next().expect("an address").to_owned()
}

struct Two {
    second: Second,
    one: Container,
    two: Container,
}

/// A container on either of two hosts.
#[track_caller]
fn two(lab: &Lab) -> Two {
    let second = lab.second();
    write(lab, FLEET);
    create(lab, Place::User, HOST4, BOTH);
    create(lab, Place::At(&second), SECOND4, BOTH);
    let one = member(lab, Place::User, "one");
    let two = member(lab, Place::At(&second), "two");
    Two { second, one, two }
}

// J1
#[test]
fn containers_of_two_hosts_reach_each_other() {
    let Some(lab) = Lab::alone() else { return };
    let Two { second: _second, one, two } = two(&lab);
    let (v4, v6) = (address(&lab, &two, "-4"), address(&lab, &two, "-6"));
    assert!(v4.starts_with("10.42.0.1") && v6.starts_with("fd42::2:"), "{v4} {v6}");
    for to in [&v4, &v6] {
        answers(&lab, &one, to);
    }
    let link_local = lab.sh(Place::In(&two), "ip -6 -o addr show eth0 scope link").ok().to_owned();
    let link_local = link_local.split([' ', '/']).find(|word| word.starts_with("fe80"));
    answers(&lab, &two, &address(&lab, &one, "-6"));
    answers(&lab, &one, &format!("{}%eth0", link_local.expect("one")));
    let _server = exact_server(&lab, Place::In(&two));
    let _who = lab.who(Place::In(&two), 7001);
    exact(&lab, Place::In(&one), &v4, 100);
    exact(&lab, Place::In(&one), &v6, 20);
    let own = address(&lab, &one, "-4");
    let _echo = lab.serve(Place::In(&two), "echo_udp(7002)");
    for to in [&v4, &v6] {
        let sizes = lab.py(Place::In(&one), &format!("udp_exact('{to}', 7002, [1, 1400, 3000])"));
        assert_eq!(sizes.ok(), "exact");
    }
    let seen = lab.py(Place::In(&one), &format!("say(read_all(tcp('{v4}', 7001)).decode())"));
    assert!(seen.ok().starts_with(&own), "the address of the container itself: {seen}");
    // An address that is another host's is not given here.
    let ctr = lab.container();
    let words = format!("-d --network fleet:ip=10.42.0.130 --name three {}", ctr.pid());
    let refused = rnsnet(&lab, Place::User, &words);
    assert!(refused.stderr.contains("10.42.0.130 is another host's: 10.42.0.64/26"), "{refused}");
}

// J1 J4: other networks and strangers are not heard, and the file is followed.
#[test]
fn only_hosts_of_the_file_are_heard_and_only_by_their_number() {
    let Some(lab) = Lab::new() else { return };
    let Two { second, one, two } = two(&lab);
    let v4 = address(&lab, &two, "-4");
    answers(&lab, &one, &v4);
    // A device with another number, by hand.
    lab.sh(
        Place::Lan,
        &format!(
            "ip link add vx1 type vxlan id 43 dstport 4789 remote {HOST4} local {LAN4} dev l0
             ip addr add 10.42.0.9/24 dev vx1
             ip link set vx1 up"
        ),
    )
    .ok();
    let own = address(&lab, &one, "-4");
    let ping = || lab.run(Place::Lan, &["ping", "-c1", "-W1", &own]);
    assert!(!ping().status.success());
    counted(&lab, "other-vni");
    // A host that is taken out of the file.
    let fewer: String = FLEET.lines().filter(|line| !line.starts_with("198")).map(line).collect();
    write(&lab, &fewer);
    eventually(secs(10), "nobody is there any more", || {
        if pings(&lab, &one, &v4) { Err("it answers".to_owned()) } else { Ok(()) }
    });
    assert!(!pings(&lab, &two, &own));
    counted(&lab, "unknown-host");
    // A file with a mistake changes nothing, nor does one that is gone.
    write(&lab, FLEET);
    answers(&lab, &one, &v4);
    write(&lab, &format!("{FLEET}192.0.2.7 10.99.0.0/24\n"));
    answers(&lab, &one, &v4);
    fs::remove_file(file(&lab)).expect("it is ours");
    answers(&lab, &one, &v4);
    // Networks that cannot be started say why, and by which line.
    rnsnet(&lab, Place::At(&second), "network disconnect fleet two").ok();
    let socket = second.runtime.join("rnsnet/networks/fleet/control.sock");
    eventually(secs(10), "its process has ended", || {
        if socket.exists() { Err(socket.display().to_string()) } else { Ok(()) }
    });
    let started = || {
        let words = format!("-d --network fleet --name two {}", two.pid());
        rnsnet(&lab, Place::At(&second), &words).stderr
    };
    let told = started();
    assert!(told.contains("cannot read") && told.contains("fleet: No such file"), "{told}");
    write(&lab, "198.18.0.2 10.42.0.128/26 fd42::2:0/112\n192.0.2.1 10.42.0.128/25\n");
    let told = started();
    assert!(told.contains("fleet: line 2: 10.42.0.128/25 overlaps 10.42.0.128/26"), "{told}");
}

fn line(line: &str) -> String {
    format!("{line}\n")
}

/// Waits until the first host has dropped something for this reason.
#[track_caller]
fn counted(lab: &Lab, reason: &str) {
    eventually(secs(10), &format!("drop.{reason} is counted"), || {
        let shown = rnsnet(lab, Place::User, "stats --no-stream --format json").stdout;
        if shown.contains(reason) { Ok(()) } else { Err(shown) }
    });
}

// J7
#[test]
fn a_container_has_the_mtu_that_is_left_and_hears_when_it_gets_smaller() {
    let Some(lab) = Lab::new() else { return };
    write(&lab, FLEET);
    create(&lab, Place::User, HOST4, BOTH);
    let web = member(&lab, Place::User, "web");
    kernel_device(&lab, &format!("remote {HOST4} local {LAN4} dev l0"));
    let mtu = lab.sh(Place::In(&web), "ip link show eth0");
    assert!(mtu.ok().contains("1450"), "{mtu}");
    answers(&lab, &web, "10.42.0.9");
    let ping = |size: u32| {
        let size = size.to_string();
        lab.run(Place::In(&web), &["ping", "-c1", "-W5", "-M", "do", "-s", &size, "10.42.0.9"])
    };
    eventually(secs(10), "the largest packet passes", || {
        let ping = ping(1422);
        if ping.status.success() { Ok(()) } else { Err(ping.to_string()) }
    });
    assert!(ping(1423).stderr.contains("message too long"), "{}", ping(1423));
    let _server = exact_server(&lab, Place::Lan);
    exact(&lab, Place::In(&web), "10.42.0.9", 1);
    lab.sh(Place::Host, "ip link set h0 mtu 1400").ok();
    lab.sh(Place::Lan, "ip link set l0 mtu 1400; ip link set vx0 mtu 1350").ok();
    for to in ["10.42.0.9", "fd42::9"] {
        exact(&lab, Place::In(&web), to, 2);
    }
    eventually(secs(10), "the container knows", || {
        let ping = ping(1422);
        let told = format!("{}{}", ping.stdout, ping.stderr);
        if told.contains("mtu") && told.contains("1350") { Ok(()) } else { Err(told) }
    });
    assert!(ping(1322).status.success());
}

// J7: over IPv6 it is 70 less.
#[test]
fn hosts_may_talk_over_ipv6_and_their_address_may_come_and_go() {
    let Some(lab) = Lab::new() else { return };
    write(&lab, &format!("{HOST6} 10.42.0.64/26\n{LAN6} 10.42.0.9/32\n"));
    lab.sh(Place::Host, &format!("ip addr del {HOST6}/64 dev h0")).ok();
    create(&lab, Place::User, HOST6, "--subnet 10.42.0.0/24 --opt mtu=1430");
    let web = member(&lab, Place::User, "web");
    let other = member(&lab, Place::User, "other");
    assert!(pings(&lab, &web, &address(&lab, &other, "-4")), "those of this host do not wait");
    kernel_device(&lab, &format!("remote {HOST6} local {LAN6} dev l0"));
    assert!(!pings(&lab, &web, "10.42.0.9"));
    for _ in 0..2 {
        lab.sh(Place::Host, &format!("ip addr add {HOST6}/64 dev h0 nodad")).ok();
        answers(&lab, &web, "10.42.0.9");
        lab.sh(Place::Host, &format!("ip addr del {HOST6}/64 dev h0")).ok();
        assert!(!pings(&lab, &web, "10.42.0.9"));
    }
    lab.sh(Place::Host, &format!("ip addr add {HOST6}/64 dev h0 nodad")).ok();
    let _server = exact_server(&lab, Place::Lan);
    answers(&lab, &web, "10.42.0.9");
    exact(&lab, Place::In(&web), "10.42.0.9", 5);
}

// A8 J1
#[test]
fn after_kill_9_containers_go_on_talking_to_other_hosts() {
    let Some(lab) = Lab::new() else { return };
    let Two { second: _second, one, two } = two(&lab);
    let v4 = address(&lab, &two, "-4");
    answers(&lab, &one, &v4);
    signal_pid(info_process(&lab, "fleet"), Signal::SIGKILL);
    eventually(secs(10), "it is brought back", || {
        let ran = rnsnet(&lab, Place::User, "reattach");
        let back = rnsnet(&lab, Place::User, "ps -q").stdout;
        if back.lines().count() == 1 { Ok(()) } else { Err(format!("{ran} {back}")) }
    });
    // What neighbours the container knows it knows still: nobody asks, and it is found all the same.
    answers(&lab, &one, &v4);
    answers(&lab, &two, &address(&lab, &one, "-4"));
}

// J1 J3 J4 J8
#[test]
fn what_cannot_be_had_is_refused_with_the_reason() {
    let Some(lab) = Lab::new() else { return };
    write(&lab, FLEET);
    let store = format!("--opt store=file:{}", file(&lab).display());
    let all = format!("{BOTH} --opt vni=42 --opt local={HOST4} {store}");
    for (options, told) in [
        (String::new(), "it needs --subnet PREFIX, --opt vni=NUMBER"),
        (format!("{all} --opt mode=l3"), "the mode is l2"),
        (format!("{all} --opt encrypted"), "give the address of a WireGuard interface as local"),
        (format!("{all} --opt icc=false"), "not with icc=false"),
        (format!("{all} --opt store=etcd:x"), "store=file:/PATH"),
        (format!("{all} --ip-range 10.42.0.128/28"), "is not in a part of 192.0.2.1"),
        (all.replace(HOST4, "192.0.2.3"), "it has no line for 192.0.2.3, this host"),
        (all.replace("fleet.d", "nowhere"), "cannot read"),
    ] {
        let ran = rnsnet(&lab, Place::User, &format!("network create -d overlay {options} fleet"));
        assert!(!ran.status.success() && ran.stderr.contains(told), "{options}: {ran}");
    }
    create(&lab, Place::User, HOST4, &format!("{BOTH} --scope global"));
    let again = format!("network create -d overlay {all} twin");
    let told = rnsnet(&lab, Place::User, &again).stderr;
    assert!(told.contains("the network fleet has UDP port 4789 of 192.0.2.1"), "{told}");
}
