use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::{Host, HostAddress};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(name: &str, at: &str) -> Host {
    let (wildcard, name) = name.strip_prefix("*.").map_or((false, name), |rest| (true, rest));
    let address = match at {
        "gateway" => HostAddress::Gateway,
        at => HostAddress::Is(address(at)),
    };
    Host { name: name.parse().unwrap(), wildcard, address }
}

fn container(called: &str, aliases: &[&str], addresses: &[&str]) -> PortNames {
    PortNames {
        addresses: addresses.iter().map(|text| address(text)).collect(),
        name: Some(name(called)),
        aliases: aliases.iter().map(|alias| name(alias)).collect(),
        ..PortNames::default()
    }
}

struct Table {
    network: Network,
    names: Names,
}

impl Table {
    fn new(domain: Option<&str>, hosts: &[(&str, &str)]) -> Self {
        let mut network = Network::default();
        network.resolver.domain = domain.map(name);
        network.resolver.hosts = hosts.iter().map(|(name, at)| host(name, at)).collect();
        let names = Names::new(&network);
        Self { network, names }
    }

    fn set(&mut self, port: usize, names: PortNames) {
        self.names.set(&self.network, PortId(port), names);
    }

    fn remove(&mut self, port: usize) {
        self.names.remove(&self.network, PortId(port));
    }

    fn ask(&mut self, port: usize, kind: u16, asked: &str) -> Option<Known> {
        let upper = name(asked).labels().to_ascii_uppercase();
        self.names.find(&self.network, PortId(port), &upper, kind)
    }

    /// The addresses of a name as text; "none" without any, "unknown" if a server is asked.
    fn find(&mut self, port: usize, kind: u16, asked: &str) -> String {
        match self.ask(port, kind, asked) {
            None => "unknown".to_owned(),
            Some(Known::Nothing) => "nothing".to_owned(),
            Some(Known::Addresses(addresses, _)) if addresses.is_empty() => "none".to_owned(),
            Some(Known::Addresses(addresses, _)) => {
                let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                texts.join(" ")
            }
            Some(Known::Pointer(name, _)) => name.to_string(),
        }
    }
}

const TXT: u16 = 16;

// D4 D8 D9
#[test]
fn a_container_is_known_by_its_names_in_both_families_and_backwards() {
    let mut table = Table::new(Some("n1"), &[]);
    table.set(1, container("web", &["www", "0123456789ab"], &["10.0.2.7", "fd72:6e73:6e65::7"]));
    for called in ["web", "www", "0123456789ab", "web.n1", "www.n1", "0123456789ab.n1"] {
        assert_eq!(table.find(9, rr::A, called), "10.0.2.7", "{called}");
        assert_eq!(table.find(9, rr::AAAA, called), "fd72:6e73:6e65::7", "{called}");
        assert_eq!(table.find(9, TXT, called), "none", "no such record is an answer: {called}");
    }
    assert_eq!(table.find(9, rr::ANY, "web"), "10.0.2.7 fd72:6e73:6e65::7");
    for unknown in ["we", "web.n2", "x.web", "n1", "web.n1.n1"] {
        assert_eq!(table.find(9, rr::A, unknown), "unknown", "{unknown}");
    }
    for at in ["10.0.2.7", "fd72:6e73:6e65::7"] {
        let reverse = Name::reverse_of(address(at)).to_string();
        assert_eq!(table.find(9, rr::PTR, &reverse), "web.n1");
        assert_eq!(table.find(9, rr::A, &reverse), "none");
    }
    // Others on this network have no name, and no server knows better.
    assert_eq!(table.find(9, rr::PTR, "8.2.0.10.in-addr.arpa"), "nothing");
    assert_eq!(table.find(9, rr::PTR, "9.2.0.192.in-addr.arpa"), "unknown");
}

#[test]
fn without_a_domain_names_are_short_alone() {
    let mut table = Table::new(None, &[]);
    table.set(1, container("web", &[], &["10.0.2.7"]));
    assert_eq!(table.find(2, rr::PTR, "7.2.0.10.in-addr.arpa"), "web");
    assert_eq!(table.find(2, rr::A, "web.n1"), "unknown");
    assert_eq!(table.find(2, rr::AAAA, "web"), "none");
}

// D7
#[test]
fn an_alias_of_many_answers_all_of_them_in_turn() {
    let mut table = Table::new(Some("n1"), &[]);
    for port in 1..=3 {
        let own = format!("c{port}");
        table.set(port, container(&own, &["api"], &[&format!("10.0.2.{port}")]));
    }
    let mut firsts = BTreeMap::new();
    for _ in 0..9 {
        let answer = table.find(9, rr::A, "api");
        // As getaddrinfo(3) does.
        assert_ne!(table.find(9, rr::AAAA, "api"), "unknown");
        let addresses: BTreeSet<_> = answer.split(' ').collect();
        assert_eq!(addresses.len(), 3, "{answer}");
        *firsts.entry(answer.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(firsts.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    table.remove(2);
    let mut answers = BTreeSet::new();
    for _ in 0..4 {
        answers.insert(table.find(9, rr::A, "api"));
        assert_ne!(table.find(9, rr::AAAA, "api"), "unknown");
    }
    let answers: Vec<_> = answers.into_iter().collect();
    assert_eq!(answers, ["10.0.2.1 10.0.2.3", "10.0.2.3 10.0.2.1"]);
    assert_eq!(table.find(9, rr::A, "c2"), "unknown");
}

// D10
#[test]
fn all_names_of_a_container_go_with_it_and_leave_nothing() {
    let mut table = Table::new(Some("n1"), &[("fixed", "10.0.2.9")]);
    table.set(1, container("web", &["www"], &["10.0.2.7", "fd72:6e73:6e65::7"]));
    table.set(2, container("db", &["www"], &["10.0.2.8"]));
    table.remove(1);
    table.remove(1);
    assert_eq!(table.find(9, rr::A, "web"), "unknown");
    assert_eq!(table.find(9, rr::A, "www"), "10.0.2.8");
    assert_eq!(table.find(9, rr::PTR, "7.2.0.10.in-addr.arpa"), "nothing");
    // Another container has the address and the port now.
    table.set(1, container("next", &[], &["10.0.2.7"]));
    assert_eq!(table.find(9, rr::PTR, "7.2.0.10.in-addr.arpa"), "next.n1");
    // Set anew, a container has its new names only.
    table.set(1, container("later", &[], &["10.0.2.7"]));
    assert_eq!(table.find(9, rr::A, "next"), "unknown");
    table.remove(1);
    table.remove(2);
    assert_eq!(table.find(9, rr::A, "fixed"), "10.0.2.9");
    let Names { ports, owners, pointers, .. } = &table.names;
    assert_eq!((ports.len(), owners.len(), pointers.len()), (0, 0, 1));
}

#[test]
fn an_address_goes_back_to_its_present_owner_in_whatever_order_they_come_and_go() {
    let mut table = Table::new(None, &[]);
    table.set(1, container("old", &[], &["10.0.2.7"]));
    table.set(2, container("new", &[], &["10.0.2.7"]));
    table.remove(1);
    assert_eq!(table.find(9, rr::PTR, "7.2.0.10.in-addr.arpa"), "new");
}

// D15
#[test]
fn a_link_is_seen_by_the_one_that_has_it() {
    let mut table = Table::new(Some("n1"), &[]);
    table.set(1, container("db", &[], &["10.0.2.7"]));
    let mut app = container("app", &[], &["10.0.2.8"]);
    app.links.push((name("d"), name("db")));
    table.set(2, app);
    assert_eq!(table.find(2, rr::A, "d"), "10.0.2.7");
    assert_eq!(table.find(1, rr::A, "d"), "unknown");
    table.remove(1);
    assert_eq!(table.find(2, rr::A, "d"), "nothing");
}

// D14 D20
#[test]
fn fixed_names_and_wildcards() {
    let hosts = [
        ("printer", "192.0.2.9"),
        ("printer", "2001:db8::9"),
        ("*.apps", "10.89.0.5"),
        ("*.a.apps", "10.89.0.6"),
        ("web", "10.89.0.7"),
        ("host.containers.internal", "gateway"),
    ];
    let mut table = Table::new(Some("n1"), &hosts);
    assert_eq!(table.find(1, rr::A, "printer"), "192.0.2.9");
    assert_eq!(table.find(1, rr::AAAA, "printer"), "2001:db8::9");
    assert_eq!(table.find(1, rr::A, "x.apps"), "10.89.0.5");
    assert_eq!(table.find(1, rr::A, "x.y.apps"), "10.89.0.5");
    assert_eq!(table.find(1, rr::A, "x.a.apps"), "10.89.0.6");
    assert_eq!(table.find(1, rr::AAAA, "x.apps"), "none");
    assert_eq!(table.find(1, rr::A, "apps"), "unknown");
    assert_eq!(table.find(1, rr::A, "xapps"), "unknown");
    let host = "host.containers.internal";
    assert_eq!(table.find(1, rr::A, host), "10.0.2.2");
    assert_eq!(table.find(1, rr::AAAA, host), "fd72:6e73:6e65::2");
    assert_eq!(table.find(1, rr::PTR, "2.2.0.10.in-addr.arpa"), host);
    assert_eq!(table.find(1, rr::PTR, "9.2.0.192.in-addr.arpa"), "printer");
    // A container is more than a fixed name, and what a container was told itself is more still.
    let mut own = container("app", &[], &["10.0.2.8"]);
    own.hosts.push((name("web"), address("10.89.0.8")));
    table.set(2, own);
    table.set(3, container("web", &[], &["10.0.2.9"]));
    assert_eq!(table.find(1, rr::A, "web"), "10.0.2.9");
    assert_eq!(table.find(2, rr::A, "web"), "10.89.0.8");
}

#[test]
fn what_changes_is_not_remembered_for_long() {
    let mut table = Table::new(None, &[("fixed", "10.0.2.9")]);
    table.set(1, container("web", &[], &["10.0.2.7"]));
    let ttl = |known| match known {
        Some(Known::Addresses(_, ttl) | Known::Pointer(_, ttl)) => ttl,
        Some(Known::Nothing) | None => panic!("not known"),
    };
    assert!(ttl(table.ask(1, rr::A, "web")) <= 5);
    assert!(ttl(table.ask(1, rr::PTR, "7.2.0.10.in-addr.arpa")) <= 5);
    assert_eq!(ttl(table.ask(1, rr::A, "fixed")), 60);
}
