//! Everything that is typed: the native command line, `--publish`, and slirp4netns's.
//!
//! Nothing panics, and what is accepted is what the rest of the program may rely on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use rnsnet::cli::slirp4netns::Invocation;
use rnsnet::cli::{self, Command};
use rnsnet::config::{Attach, Endpoint, Network, Process};

/// Words separated by zero bytes, for `rnsnet`.
///
/// # Panics
/// At the first thing that must not be.
pub fn argv(bytes: &[u8]) {
    match cli::parse(words(bytes).into_iter()) {
        Ok(command) => check(&command),
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
    let _ = cli::slirp4netns::is_meant("rnsnet".as_ref(), &words);
    match cli::slirp4netns::parse(&words) {
        Ok(Invocation { command, .. }) => check(&command),
        Err(error) => assert!(!error.to_string().is_empty(), "a message without words"),
    }
}

/// One value of `--publish`.
///
/// # Panics
/// At the first thing that must not be.
pub fn publish(bytes: &[u8]) {
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
        Command::Verb(_) | Command::Help(_) | Command::Version(_) => return,
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
        assert!(rule.host_port != 0 && rule.guest_port != 0, "port 0");
    }
    let Process { ready_fd, exit_fd, .. } = process;
    assert!(ready_fd.is_none_or(|fd| fd >= 0) && exit_fd.is_none_or(|fd| fd >= 0));
}
