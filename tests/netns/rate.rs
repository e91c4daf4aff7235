//! How much a container gets and sends each second. Rows E15 H1 H4.

use nix::sys::signal::Signal;

use crate::eventually::{eventually, one_of_three, secs};
use crate::exec::signal_pid;
use crate::lab::{Container, GATEWAY4, HOST4, LAN4, Lab, Place};
use crate::networks::info_process;

impl Lab {
    /// Mbit/s of one connection that a container makes, as its receiver saw them.
    #[track_caller]
    fn speed(&self, from: &Container, words: &str) -> f64 {
        // A server that has just served may not be ready for the next one.
        eventually(secs(10), "iperf3 measures", || {
            let ran = self.within(from, &format!("iperf3 -J -c {words}"));
            let (_, end) =
                ran.stdout.split_once("\"sum_received\":").ok_or_else(|| ran.to_string())?;
            let (_, rate) =
                end.split_once("\"bits_per_second\":").ok_or_else(|| ran.to_string())?;
            let rate = rate.split(',').next().unwrap_or_default().trim();
            rate.parse::<f64>().map(|rate| rate / 1e6).map_err(|_| ran.to_string())
        })
    }
}

/// Whether a speed is in a range, in words if not.
fn within(speed: f64, least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&speed) { Ok(()) } else { Err(format!("{speed} Mbit/s")) }
}

// H1
#[test]
fn a_container_gets_and_sends_at_its_rate_and_another_at_full_speed() {
    let Some(lab) = Lab::alone() else { return };
    lab.rn("network create n1");
    let web = lab.member("--network n1 --rate down=10mbit,up=5mbit --name web");
    let db = lab.member("--network n1 --name db");
    let other = lab.member("--network n1 --name other");
    let _lan = lab.listen(Place::Lan, &["iperf3", "-s", "-p", "5201"], 5201);
    let _db = lab.listen(Place::In(&db), &["iperf3", "-s", "-p", "5201"], 5201);
    for to in [LAN4, "10.89.0.3"] {
        one_of_three("up as it is limited", || {
            within(lab.speed(&web, &format!("{to} -t5")), 4.5, 5.3)
        });
        one_of_three("down as it is limited", || {
            within(lab.speed(&web, &format!("{to} -t5 -R")), 9.0, 10.5)
        });
    }
    // Beside it.
    let _more = lab.listen(Place::Lan, &["iperf3", "-s", "-p", "5202"], 5202);
    let words = ["iperf3", "-c", LAN4, "-p", "5202", "-t", "60", "-R"];
    let limited = lab.spawn(Place::In(&web), &words);
    for words in ["10.89.0.3 -t2".to_owned(), format!("{LAN4} -t2 -R")] {
        one_of_three("at full speed", || within(lab.speed(&other, &words), 500.0, f64::MAX));
    }
    drop(limited);
    // Its names are found while it sends as much as it may.
    let flood = lab.spawn(Place::In(&web), &["iperf3", "-c", "10.89.0.3", "-t", "30"]);
    one_of_three("a name is found", || match lab.asks(&web, "10.89.0.1", "db").as_str() {
        "10.89.0.3" => Ok(()),
        other => Err(other.to_owned()),
    });
    drop(flood);
}

// H4 E15
#[test]
fn a_rate_is_changed_while_a_connection_stands_and_kept() {
    let Some(lab) = Lab::alone() else { return };
    lab.rn("network create --rate down=5mbit n1");
    let web = lab.member("--network n1:rate-down=10mbit --name web");
    let db = lab.member("--network n1 --name db");
    let _lan = lab.listen(Place::Lan, &["iperf3", "-s", "-p", "5201"], 5201);
    let rate = |name: &str| {
        lab.rn(&format!("inspect -f {{{{.NetworkSettings.Networks.n1.Rate}}}} {name}"))
    };
    assert_eq!([rate("web"), rate("db")], ["down=10mbit", "down=5mbit"]);
    // Mbit/s of each half of a second, for as long as it runs.
    let mut client = lab.spawn(
        Place::In(&web),
        &["iperf3", "-c", LAN4, "-R", "-t", "300", "-i", "0.5", "-f", "m", "--forceflush"],
    );
    let mut comes = |what: &str, least: f64, most: f64| {
        eventually(secs(10), what, || {
            let line = client.line(secs(5));
            let words: Vec<&str> = line.split_whitespace().collect();
            let at =
                words.iter().position(|word| *word == "Mbits/sec").ok_or_else(|| line.clone())?;
            let speed: f64 = words[at - 1].parse().map_err(|_| line.clone())?;
            within(speed, least, most)
        });
    };
    comes("ten", 9.0, 10.5);
    assert_eq!(lab.rn("update --rate down=50mbit web"), "web");
    comes("fifty", 45.0, 52.5);
    // What is the network's holds for who has none of its own.
    lab.rn("network update --rate down=20mbit n1");
    assert_eq!([rate("web"), rate("db")], ["down=50mbit", "down=20mbit"]);
    lab.rn("update --rate none web");
    comes("twenty", 18.0, 21.0);
    lab.rn("update --rate down=30mbit,up=1mbit web");
    comes("thirty", 27.0, 31.5);
    drop(client);
    one_of_three("the network's rate", || {
        within(lab.speed(&db, &format!("{LAN4} -t2 -R")), 17.0, 21.5)
    });
    // Over the end of its process.
    signal_pid(info_process(&lab, "n1"), Signal::SIGKILL);
    lab.rn("reattach");
    assert_eq!([rate("web"), rate("db")], ["down=30mbit,up=1mbit", "down=20mbit"]);
    one_of_three("its rate", || within(lab.speed(&web, &format!("{LAN4} -t2 -R")), 24.0, 32.0));
    assert_eq!(lab.rn_fails("update --rate none nobody"), "there is no container \"nobody\"");
    lab.rn("network create n2");
    lab.rn("network connect --rate 1mbit n2 web");
    lab.rn("update --rate up=none --network n2 web");
    let on_n2 = lab.rn("inspect -f {{.NetworkSettings.Networks.n2.Rate}} web");
    assert_eq!([rate("web"), on_n2], ["down=30mbit,up=1mbit", "down=1mbit"]);
    assert_eq!(
        lab.rn_fails("update --rate none --network n2 db"),
        "the container db is not connected to the network n2"
    );
}

// H1 H4
#[test]
fn a_container_with_a_network_of_its_own_has_a_rate_too() {
    let Some(lab) = Lab::alone() else { return };
    let ctr = lab.container();
    let options = ["--rate", "down=10mbit,up=5mbit", "--name", "web"];
    let net = lab.rnsnet(&ctr).without_pcap().with(&options).start();
    let _lan = lab.listen(Place::Lan, &["iperf3", "-s", "-p", "5201"], 5201);
    let rate = || lab.rn("inspect -f {{.NetworkSettings.Rate}} web");
    assert_eq!(rate(), "down=10mbit,up=5mbit");
    one_of_three("up as it is limited", || {
        within(lab.speed(&ctr, &format!("{LAN4} -t3")), 4.5, 5.3)
    });
    one_of_three("down as it is limited", || {
        within(lab.speed(&ctr, &format!("{LAN4} -t3 -R")), 9.0, 10.5)
    });
    let datagrams = format!("{LAN4} -u -b 50M -t3 -R");
    one_of_three("datagrams are limited", || within(lab.speed(&ctr, &datagrams), 9.0, 10.5));
    lab.rn("update --rate down=20mbit web");
    // A change is what another process begins with, more than once.
    let mut net = net;
    for name in ["second", "third"] {
        net.signal(Signal::SIGKILL);
        assert!(!net.ends().success());
        net = lab.reattach(&["web"]).named(name).start();
        assert_eq!(rate(), "down=20mbit,up=5mbit");
    }
    one_of_three("as it was changed", || {
        within(lab.speed(&ctr, &format!("{LAN4} -t2 -R")), 17.0, 21.5)
    });
    // It rests where nobody sends.
    net.rests("a network with a rate");
}

// H4
#[test]
fn a_rate_that_is_raised_ends_a_pause() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let options = ["--mtu", "65520", "--rate", "up=8kbit", "--name", "web"];
    let _net = lab.rnsnet(&ctr).with(&options).start();
    let _who = lab.who(Place::Lan, 7);
    // Its kernel says things by itself, which would be noticed.
    lab.sh(Place::In(&ctr), "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6").ok();
    // One frame, which makes debt for a minute.
    lab.within(&ctr, &format!("ping -n -c1 -s 60000 -W 20 {GATEWAY4}")).ok();
    let ask = format!(
        "s = udp(timeout=20); s.sendto(b'?', ('{LAN4}', 7)); say('ready')
say(s.recv(99).decode().split()[0])"
    );
    let mut asks = lab.serve(Place::In(&ctr), &ask);
    lab.rn("update --rate none web");
    // Nothing but what waits is there to be noticed.
    assert_eq!(asks.line(secs(20)), HOST4);
}
