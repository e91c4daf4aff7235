//! Everything that is typed: the native command line, `--publish`, and slirp4netns's.
//!
//! Nothing panics, and what is accepted is what the rest of the program may rely on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use rnsnet::cli::slirp4netns::Invocation;
use rnsnet::cli::{self, Command, Environment, PublishDefaults};
use rnsnet::config::{Attach, Bind, Endpoint, HostPorts, HostSide, Network, Process, Publish};
use rnsnet::verbs;

/// Words separated by zero bytes, for `rnsnet`.
///
/// # Panics
/// At the first thing that must not be.
pub fn argv(bytes: &[u8]) {
    match verbs::parse(&verbs::environment(Environment::default()), words(bytes).into_iter()) {
        Ok(verbs::Command::Main(command)) => check(&command),
        Ok(verbs::Command::Verb(_)) => {}
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a message without words");
            let _ = error.hint();
        }
    }
}

/// Words separated by zero bytes, for `slirp4netns`.
///
/// # Panics
/// At the first thing that must not be.
pub fn slirp4netns(bytes: &[u8]) {
    let words = words(bytes);
    let _ = cli::slirp4netns::is_meant(
        "rnsnet".as_ref(),
        &words,
        &verbs::environment(Environment::default()),
    );
    match cli::slirp4netns::parse(&words) {
        Ok(Invocation { command, .. }) => check(&command),
        Err(error) => assert!(!error.to_string().is_empty(), "a message without words"),
    }
}

/// What whoever binds a rule may rely on.
fn check_rule(rule: &Publish) {
    let count = rule.guest.count();
    assert!(rule.guest.first != 0 && count > 0, "container ports {}", rule.guest);
    match &rule.host {
        HostSide::Inherited { fd, .. } => assert!(*fd > 2 && count == 1, "{rule}"),
        HostSide::Bound { on, ports } => {
            match ports {
                HostPorts::Exactly(ports) => assert!(ports.first != 0 && ports.count() == count),
                HostPorts::FirstFree(ports) => {
                    assert!(ports.first != 0 && ports.count() > 1 && count == 1);
                }
                HostPorts::AnyOf(ports) => assert!(ports.first != 0),
                HostPorts::Free => {}
            }
            match on {
                Bind::All => {}
                Bind::Addresses(addresses) => {
                    assert!(!addresses.is_empty());
                    assert!(addresses.iter().all(|address| !address.is_multicast()));
                }
                Bind::Interface(name) | Bind::Device { interface: name, .. } => {
                    assert!((1..=15).contains(&name.len()), "an interface of {} bytes", name.len());
                    assert!(!name.contains(['/', ' ', '\0', ':']), "an interface {name:?}");
                }
            }
        }
    }
    for prefix in &rule.from {
        assert!(prefix.contains(prefix.first()), "{prefix} does not cover its own address");
    }
}

/// One value of `--publish`, which is read back from its own words.
///
/// # Panics
/// At the first thing that must not be.
pub fn publish(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(rule) = cli::parse_publish(text, &PublishDefaults::default())
    {
        check_rule(&rule);
        let shown = rule.to_string();
        let again = cli::parse_publish(&shown, &PublishDefaults::default());
        let again = again.unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(again.to_string(), shown);
        assert_eq!((&again.guest, &again.from), (&rule.guest, &rule.from));
    }
    let mut word = b"--publish=".to_vec();
    word.extend_from_slice(bytes);
    let args = [OsString::from_vec(word), "1".into()];
    match cli::parse(args.into_iter()) {
        Ok(command) => check(&command),
        Err(error) => assert!(!error.to_string().is_empty(), "a message without words"),
    }
}

fn words(bytes: &[u8]) -> Vec<OsString> {
    bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect()
}

fn check(command: &Command) {
    let (endpoint, network, process) = match command {
        Command::Attach(Attach { endpoint, network, process, .. }) => (endpoint, network, process),
        Command::Run(run) => (&run.endpoint, &run.network, &run.process),
        Command::Help(_) | Command::Version(_) => return,
    };
    let Endpoint { ifname, lease, .. } = endpoint;
    let mac = lease.mac;
    assert!((1..=15).contains(&ifname.len()), "an interface of {} bytes", ifname.len());
    assert!(!ifname.contains(['/', ' ', '\0', ':']), "an interface {ifname:?}");
    assert!(mac.0[0] & 1 == 0, "a group's hardware address {mac}");
    let Network { addresses, publish, .. } = network;
    let v4 = &addresses.v4;
    for address in [v4.gateway, v4.dns, lease.v4] {
        assert!(v4.subnet.contains(address), "{address} is not of the network");
    }
    assert!(v4.gateway != v4.dns && v4.gateway != lease.v4 && v4.dns != lease.v4);
    if let Some(v6) = &addresses.v6 {
        for address in [v6.gateway, v6.dns].into_iter().chain(lease.v6) {
            assert!(v6.subnet.contains(address), "{address} is not of the network");
        }
    }
    for rule in publish {
        check_rule(rule);
    }
    let Process { ready_fd, exit_fd, .. } = process;
    assert!(ready_fd.is_none_or(|fd| fd >= 0) && exit_fd.is_none_or(|fd| fd >= 0));
}
