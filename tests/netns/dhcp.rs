//! Containers that configure themselves: DHCP by two real clients, SLAAC by the kernel. Rows I1 I2.

use crate::eventually::{eventually, secs};
use crate::lab::{Container, DNS4, DNS6, GATEWAY4, GUEST4, GUEST6, LAN4, LAN6, Lab, Place};

/// Takes away what was set when the container was attached.
fn forget_addresses(lab: &Lab, ctr: &Container) {
    lab.sh(Place::In(ctr), "ip -4 addr flush dev eth0; ip -4 route flush dev eth0").ok();
}

/// Has the kernel solicit routers, as it does when an interface comes up.
fn solicit(lab: &Lab, ctr: &Container) {
    lab.sh(
        Place::In(ctr),
        "echo 1 > /proc/sys/net/ipv6/conf/eth0/keep_addr_on_down
         echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra
         echo 1 > /proc/sys/net/ipv6/conf/eth0/autoconf
         ip link set eth0 down; ip -6 route flush default; ip link set eth0 up",
    )
    .ok();
}

/// Domains to search; in DHCP one is written as the end of another (RFC 1035, section 4.1.4).
const SEARCH: &[&str] =
    &["--dns-search", "lab.test", "--dns-search", "corp.lab.test", "--dns-search", "example.com"];

/// A script for udhcpc that configures the interface and says what it was told.
const UDHCPC: &str = r#"#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr replace "$ip/$mask" broadcast "$broadcast" dev "$interface"
ip link set "$interface" mtu "$mtu"
ip route replace default via "$router"
echo "$1: $ip/$mask via $router dns $dns mtu $mtu lease $lease server $serverid search $search domain $domain"
"#;

/// Put there by another program: what this one has open for writing other tests' children may have
/// open too, and then nobody can execute it.
fn script(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.dir().join(name);
    let written = path.with_extension("text");
    std::fs::write(&written, text).expect("the folder is ours");
    let (from, to) = (written.to_string_lossy(), path.to_string_lossy().into_owned());
    lab.run(Place::User, &["install", "-m", "755", &from, &to]).ok();
    to
}

// I1
#[test]
fn udhcpc_configures_the_container() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    for options in [&[][..], &["--mtu", "9000", "--offload", "off"]] {
        let ctr = lab.container();
        let _net = lab.rnsnet(&ctr).with(SEARCH).with(options).start();
        forget_addresses(&lab, &ctr);
        let run = format!(
            "busybox udhcpc -i eth0 -O search -f -q -n -t 30 -T 1 -s {}",
            script(&lab, "udhcpc", UDHCPC)
        );
        // Twice: a client that restarts gets the same.
        for _ in 0..2 {
            let client = lab.sh(Place::In(&ctr), &run);
            let mtu = if options.is_empty() { 1500 } else { 9000 };
            let told = format!(
                "bound: {GUEST4}/24 via {GATEWAY4} dns {DNS4} mtu {mtu} lease 86400 \
                 server {GATEWAY4} search lab.test corp.lab.test example.com domain lab.test"
            );
            assert!(client.ok().contains(&told), "{client}");
        }
        let program = format!("say(tcp('{LAN4}', 7).recv(99).decode().split()[0])");
        assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "192.0.2.1");
    }
}

// I1: each of those that the container has bridged to its interface, and the container, go out.
#[test]
fn machines_behind_a_bridge_have_addresses_of_their_own() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    let bridge = format!(
        "mac=$(ip -o link show eth0 | grep -o 'link/ether [^ ]*' | cut -d' ' -f2)
         ip link add br0 type bridge; ip link set br0 address $mac up
         ip addr flush dev eth0; ip link set eth0 master br0
         ip addr add {GUEST4}/24 dev br0; ip route add default via {GATEWAY4}"
    );
    lab.sh(Place::In(&ctr), &bridge).ok();
    let goes_out = |into: &str| {
        let program = "busybox nc -w 10 192.0.2.9 7 </dev/null";
        lab.sh(Place::In(&ctr), &format!("{into} {program}")).ok().to_owned()
    };
    let udhcpc = script(&lab, "udhcpc", UDHCPC);
    let mut machines = Vec::new();
    for address in ["10.0.2.101", "10.0.2.102"] {
        let sleep = "echo $$; exec sleep 1000";
        let mut machine = lab.spawn(Place::In(&ctr), &["unshare", "--net", "sh", "-c", sleep]);
        let pid = machine.line(secs(5));
        let into = format!("nsenter -t {pid} --net");
        let plug = format!(
            "ip link add v{pid} type veth peer name eth0 netns {pid}
             ip link set v{pid} master br0 up; {into} ip link set eth0 up
             {into} busybox udhcpc -i eth0 -f -q -n -t 30 -T 1 -s {udhcpc}"
        );
        let client = lab.sh(Place::In(&ctr), &plug);
        assert!(client.ok().contains(&format!("bound: {address}/24 via {GATEWAY4}")), "{client}");
        machines.push((machine, into));
    }
    for (_, into) in &machines {
        assert!(goes_out(into).starts_with("192.0.2.1 "), "{into}");
    }
    assert!(goes_out("").starts_with("192.0.2.1 "), "the container");
}

// I1: asking for an address of an earlier life elsewhere is refused, and the client begins anew.
#[test]
fn udhcpc_that_remembers_another_network_gets_the_right_address() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    forget_addresses(&lab, &ctr);
    let run = format!(
        "busybox udhcpc -i eth0 -f -q -n -t 30 -T 1 -B -r 192.168.7.7 -s {}",
        script(&lab, "udhcpc", UDHCPC)
    );
    let client = lab.sh(Place::In(&ctr), &run);
    assert!(client.ok().contains(&format!("bound: {GUEST4}/24")), "{client}");
}

// I1
#[test]
fn dhclient_configures_the_container() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(SEARCH).start();
    forget_addresses(&lab, &ctr);
    let told = "echo \"$reason: $new_ip_address/$new_subnet_mask via $new_routers \
                dns $new_domain_name_servers mtu $new_interface_mtu \
                search $new_domain_search\"";
    let told = script(&lab, "hook", &format!("#!/bin/sh\n{told} >> {}/told\n", dir(&lab)));
    let request = "request subnet-mask, routers, domain-name-servers, interface-mtu, \
                   domain-search;\n";
    let config = script(&lab, "dhclient.conf", request);
    let files = format!("-cf {config} -lf {0}/leases -pf {0}/pid -sf {told}", dir(&lab));
    let run = format!("dhclient -4 -1 -d {files} eth0");
    let _client = lab.spawn(Place::In(&ctr), &run.split(' ').collect::<Vec<_>>());
    let bound = format!(
        "BOUND: {GUEST4}/255.255.255.0 via {GATEWAY4} dns {DNS4} mtu 1500 \
         search lab.test. corp.lab.test. example.com."
    );
    expect_told(&lab, &bound);
}

/// dhclient's hook was told this.
#[track_caller]
fn expect_told(lab: &Lab, expected: &str) {
    eventually(secs(15), &format!("the client has {expected:?}"), || {
        let told = std::fs::read_to_string(lab.dir().join("told")).unwrap_or_default();
        if told.contains(expected) { Ok(()) } else { Err(told) }
    });
}

// I2: DHCPv6 tells the forwarder's address and gives none.
#[test]
fn dhclient_gets_information_over_ipv6() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(SEARCH).start();
    eventually(secs(5), "the link-local address may be used", || {
        let seen = lab.sh(Place::In(&ctr), "ip -6 addr show dev eth0 scope link");
        if seen.ok().contains("fe80:") && !seen.ok().contains("tentative") {
            return Ok(());
        }
        Err(seen.stdout)
    });
    let told = "echo \"$reason: dns $new_dhcp6_name_servers search $new_dhcp6_domain_search \
                address $new_ip6_address\"";
    let told = script(&lab, "hook", &format!("#!/bin/sh\n{told} >> {}/told\n", dir(&lab)));
    let files = format!("-lf {0}/leases -pf {0}/pid -sf {told}", dir(&lab));
    let run = format!("dhclient -6 -S -1 -d {files} eth0");
    let _client = lab.spawn(Place::In(&ctr), &run.split(' ').collect::<Vec<_>>());
    expect_told(
        &lab,
        &format!("dns {DNS6} search lab.test. corp.lab.test. example.com. address \n"),
    );
}

// I2: the kernel takes the prefix and the router that are advertised; the address that was set
// stays, and both work.
#[test]
fn the_kernel_configures_itself_beside_the_address_that_was_set() {
    let Some(lab) = Lab::new() else { return };
    let _who = lab.who(Place::Lan, 7);
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).start();
    solicit(&lab, &ctr);
    let own = eventually(secs(10), "the kernel has an address and a route by itself", || {
        let seen = lab.sh(Place::In(&ctr), "ip -6 addr show dev eth0; ip -6 route show default");
        let text = seen.ok();
        let own = text
            .lines()
            .find(|line| line.contains("mngtmpaddr") && !line.contains("tentative"))
            .and_then(|line| line.split_whitespace().nth(1)?.split('/').next());
        match own {
            // Nearly all of the 65,535 s that there are.
            Some(own) if text.contains("proto ra") && text.contains("expires 65") => {
                Ok(own.to_owned())
            }
            _ => Err(text.to_owned()),
        }
    });
    let addresses = lab.sh(Place::In(&ctr), "ip -6 addr show dev eth0").ok().to_owned();
    assert!(addresses.contains(&format!("{GUEST6}/64")), "{addresses}");
    assert!(own.starts_with("fd72:6e73:6e65:"), "{addresses}");
    for source in [&own, GUEST6] {
        let program = format!(
            "s = socket.create_connection(('{LAN6}', 7), 30, ('{source}', 0))
say(s.recv(99).decode().split()[0])"
        );
        assert_eq!(lab.py(Place::In(&ctr), &program).ok(), "2001:db8:5::1", "{source}");
    }
}

// I2: what glibc-less images read with rdnssd: the DNS forwarder, the domains to search and the MTU
// are advertised.
#[test]
fn tcpdump_reads_the_advertisement() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(SEARCH).start();
    solicit(&lab, &ctr);
    let shown = eventually(secs(5), "an advertisement is in the capture", || {
        let dump =
            lab.run(Place::User, &["tcpdump", "-nvr", net.pcap(), "icmp6 and ip6[40] == 134"]);
        if dump.stdout.contains("rdnss") { Ok(dump.stdout) } else { Err(dump.to_string()) }
    });
    assert!(shown.contains("Flags [other stateful]"), "{shown}");
    assert!(shown.contains(&format!("lifetime 4294967295s, addr: {DNS6}")), "{shown}");
    let domains = "domain(s): lab.test. corp.lab.test. example.com.";
    assert!(shown.contains(domains) && shown.contains("dnssl"), "{shown}");
    assert!(shown.contains("router lifetime 65535s"), "{shown}");
    assert!(shown.contains("mtu option (5), length 8 (1):  1500"), "{shown}");
    assert!(shown.contains("fd72:6e73:6e65::/64, Flags [onlink, auto]"), "{shown}");
    assert!(!shown.contains("wrong"), "{shown}");
}

fn dir(lab: &Lab) -> String {
    lab.dir().to_string_lossy().into_owned()
}
