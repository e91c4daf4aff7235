//! Definitions: what is made of a plan, what is refused, and what a file must not say.

use super::*;

fn made() -> Made {
    Made {
        id: [0xab; 32],
        global_id: 0x12_3456_789a,
        created: "2026-11-21T07:50:00.000000000Z".into(),
    }
}

fn plan(subnets: &[&str]) -> Plan {
    let subnets = subnets.iter().map(|text| text.parse().unwrap()).collect();
    Plan { name: "n1".into(), subnets, dns: true, ..Plan::default() }
}

fn make(plan: Plan) -> Result<Definition, String> {
    plan.make(&Taken::default(), &made()).map_err(|error| error.to_string())
}

fn addresses<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

// E1 E3
#[test]
fn a_network_that_asks_for_nothing_gets_what_is_free() {
    let taken = Taken {
        networks: vec![("n0".into(), "10.89.0.0/24".parse().unwrap())],
        host: addresses(&["0.0.0.0/0", "10.89.1.0/24", "fd12:3456:789a::/48"]),
    };
    let definition = Plan { ipv6: true, ..plan(&[]) }.make(&taken, &made()).unwrap();
    assert_eq!(definition.v4.subnet.to_string(), "10.89.2.0/24");
    assert_eq!(definition.v4.gateway.to_string(), "10.89.2.1");
    let v6 = definition.v6.as_ref().unwrap();
    assert_eq!(v6.subnet.to_string(), "fd12:3456:789b::/64");
    assert_eq!(v6.gateway.to_string(), "fd12:3456:789b::1");
    assert_eq!(definition.id.len(), 64);
    assert_eq!(definition.short_id(), "abababababab");
    let addresses = definition.addresses();
    assert_eq!(addresses.v4.dns, addresses.v4.gateway);
    assert_eq!(addresses.v6.unwrap().subnet.prefix_len, 64);
}

// E2
#[test]
fn everything_of_a_subnet_can_be_given() {
    let definition = make(Plan {
        gateways: addresses(&["192.168.100.254", "fd00:1::ffff"]),
        ip_ranges: addresses(&["192.168.100.128/30"]),
        aux: SortedMap::from([("router".into(), "192.168.100.7".parse().unwrap())]),
        ..plan(&["fd00:1::/64", "192.168.100.0/24"])
    })
    .unwrap();
    assert_eq!(definition.v4.gateway.to_string(), "192.168.100.254");
    assert_eq!(definition.v4.ip_range.unwrap().to_string(), "192.168.100.128/30");
    assert_eq!(definition.v4.aux.len(), 1);
    let v6 = definition.v6.unwrap();
    assert_eq!((v6.gateway.to_string(), v6.ip_range), ("fd00:1::ffff".into(), None));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for (plan, message) in [
        (
            plan(&["10.1.0.0/24", "10.2.0.0/24"]),
            "two IPv4 subnets are given, 10.1.0.0/24 and 10.2.0.0/24: a network has one",
        ),
        (plan(&["10.1.0.0/31"]), "the subnet 10.1.0.0/31 is too small: /30 is the smallest"),
        (plan(&["fd00::/127"]), "the subnet fd00::/127 is too small: /126 is the smallest"),
        (
            plan(&["127.0.0.0/24"]),
            "the subnet 127.0.0.0/24 cannot be used: it overlaps 127.0.0.0/8, the loopback",
        ),
        (
            Plan { gateways: addresses(&["10.9.0.1"]), ..plan(&["10.1.0.0/24"]) },
            "the gateway 10.9.0.1 is in none of the network's subnets",
        ),
        (
            Plan { gateways: addresses(&["10.1.0.255"]), ..plan(&["10.1.0.0/24"]) },
            "the gateway 10.1.0.255 cannot be used: it is the broadcast address",
        ),
        (
            Plan { gateways: addresses(&["10.1.0.1", "10.1.0.2"]), ..plan(&["10.1.0.0/24"]) },
            "two gateways are given for 10.1.0.0/24",
        ),
        (
            Plan { ip_ranges: addresses(&["10.1.0.0/16"]), ..plan(&["10.1.0.0/24"]) },
            "the range 10.1.0.0/16 is in none of the network's subnets",
        ),
        (
            Plan {
                aux: SortedMap::from([("x".into(), "10.1.0.0".parse().unwrap())]),
                ..plan(&["10.1.0.0/24"])
            },
            "the auxiliary address 10.1.0.0 cannot be used: it is the network's own address",
        ),
        (
            Plan {
                aux: SortedMap::from([("x".into(), "10.1.0.1".parse().unwrap())]),
                ..plan(&["10.1.0.0/24"])
            },
            "the auxiliary address 10.1.0.1 cannot be used: it is the gateway's",
        ),
        (
            Plan {
                aux: SortedMap::from(
                    [("x", 7), ("y", 7)]
                        .map(|(name, last)| (name.into(), Ipv4Addr::new(10, 1, 0, last).into())),
                ),
                ..plan(&["10.1.0.0/24"])
            },
            "the auxiliary address 10.1.0.7 cannot be used: it is another auxiliary address",
        ),
        (
            Plan { name: "host".into(), ..plan(&[]) },
            "the name \"host\" cannot be used: the word has a meaning of its own",
        ),
    ] {
        assert_eq!(make(plan).unwrap_err(), message);
    }
}

#[test]
fn networks_never_overlap() {
    let taken = Taken {
        networks: vec![("other".into(), "192.168.0.0/16".parse().unwrap())],
        host: addresses(&["10.1.0.0/16"]),
    };
    let error = plan(&["192.168.100.0/24"]).make(&taken, &made()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the subnet 192.168.100.0/24 overlaps 192.168.0.0/16 of the network other"
    );
    // What is given may overlap the host's routes: only the containers lose the way there.
    assert!(plan(&["10.1.2.0/24"]).make(&taken, &made()).is_ok());
    let all =
        Taken { host: addresses(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), ..taken };
    let error = plan(&[]).make(&all, &made()).unwrap_err();
    assert_eq!(error.to_string(), "no free IPv4 subnet is left: give --subnet");
}

#[test]
fn names_are_dockers_and_no_words_with_a_meaning() {
    for name in ["n1", "my-custom-net", "A.b_c-9", "0"] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    for (name, error) in [
        ("", NameError::Empty),
        ("-n", NameError::Character),
        (".n", NameError::Character),
        ("a/b", NameError::Character),
        ("a b", NameError::Character),
        ("ü", NameError::Character),
        ("none", NameError::Reserved),
    ] {
        assert_eq!(check_name(name), Err(error), "{name}");
    }
    assert_eq!(check_name(&"a".repeat(50)), Ok(()));
    assert_eq!(check_name(&"a".repeat(51)), Err(NameError::TooLong));
}

#[test]
fn a_file_is_read_strictly() {
    let definition = make(plan(&["10.1.0.0/24"])).unwrap();
    let json = serde_json::to_value(&definition).unwrap();
    assert_eq!(serde_json::from_value::<Definition>(json.clone()).unwrap(), definition);
    let changed = |key: &str, value: serde_json::Value| {
        let mut json = json.clone();
        json[key] = value;
        match serde_json::from_value::<Definition>(json) {
            Ok(definition) => definition.check().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    };
    let pool =
        |subnet: &str, gateway: &str| serde_json::json!({ "subnet": subnet, "gateway": gateway });
    for (key, value, message) in [
        ("version", 2.into(), "the file has version 2, and this rnsnet knows version 1"),
        ("id", "xyz".into(), "the id is not 64 hexadecimal digits"),
        ("mtu", 100.into(), "an MTU of 100 is not from 1280 to 65520"),
        ("v4", pool("fd00::/64", "fd00::1"), "fd00::/64 is no subnet of IPv4"),
        ("v4", pool("10.1.0.7/24", "10.1.0.1"), "it has host bits set: the prefix is 10.1.0.0/24"),
        (
            "v4",
            pool("10.1.0.0/24", "10.2.0.1"),
            "the gateway 10.2.0.1 is in none of the network's subnets",
        ),
        ("name", "a/b".into(), "the name \"a/b\" cannot be used"),
    ] {
        let error = changed(key, value).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
    assert!(changed("colour", "red".into()).unwrap_err().starts_with("unknown field `colour`"));
}

// E2: the network would be made, and nobody could be attached.
#[test]
fn a_route_that_no_container_could_be_given_is_refused() {
    let error = |routes: &[(&str, &str, Option<u32>)]| {
        let route = |(to, gateway, metric): &(&str, &str, Option<u32>)| -> Route {
            (to.parse().unwrap(), gateway.parse().unwrap(), *metric)
        };
        let routes = routes.iter().map(route).collect();
        let plan = Plan { routes, ..plan(&["10.1.0.0/24", "fd00:1::/64"]) };
        make(plan).err()
    };
    let twice = |to| {
        Some(format!("the route to {to} cannot be had: it is given twice with the same metric"))
    };
    let (to, gateway) = ("192.0.2.0/24", "10.1.0.9");
    assert_eq!(error(&[(to, gateway, None), (to, "10.1.0.8", Some(5))]), None);
    assert_eq!(error(&[(to, gateway, Some(5)), (to, "10.1.0.8", Some(5))]), twice(to));
    assert_eq!(error(&[(to, gateway, None), (to, gateway, Some(0))]), twice(to));
    let (to, gateway) = ("2001:db8::/32", "fd00:1::9");
    assert_eq!(error(&[(to, gateway, None), (to, gateway, Some(1024))]), twice(to));
    for (to, gateway, use_) in [
        ("192.0.2.0/24", "10.1.0.0", "the network's own address"),
        ("192.0.2.0/24", "10.1.0.255", "the broadcast address"),
        ("2001:db8::/32", "fd00:1::", "the subnet-router anycast address"),
    ] {
        let told = format!("the route's gateway {gateway} cannot be used: it is {use_}");
        assert_eq!(error(&[(to, gateway, None)]), Some(told));
    }
}
