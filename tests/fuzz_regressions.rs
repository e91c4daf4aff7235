//! Every input under `fuzz/regressions/` through the harness that its folder is named after, and
//! under every harness a few hundred made-up ones: what fuzzing found stays fixed without a fuzzer.
//!
//! The harnesses are those of `fuzz/`; `ci/fuzz` looks for new inputs. A crash becomes a file here,
//! named after what broke.

// A harness fails as a test does.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(clippy::let_underscore_must_use, clippy::print_stdout, unreachable_pub)]

use std::fs;
use std::path::Path;

// What the words of the API need of the crate; they are private to the program.
use rnsnet::config;

#[path = "../fuzz/harness/input.rs"]
mod input;
#[path = "../fuzz/harness/packet.rs"]
mod packet;
#[path = "../fuzz/harness/driver.rs"]
mod driver;
#[path = "../fuzz/harness/engine.rs"]
mod engine;
#[path = "../fuzz/harness/lan.rs"]
mod lan;
#[path = "../fuzz/harness/overlay.rs"]
mod overlay;
#[path = "../fuzz/harness/control.rs"]
mod control;
#[path = "../fuzz/harness/filter.rs"]
mod filter;
#[path = "../fuzz/harness/dns.rs"]
mod dns;
#[path = "../fuzz/harness/dhcp.rs"]
mod dhcp;
#[path = "../fuzz/harness/words.rs"]
mod words;
#[allow(dead_code)]
#[path = "../src/io/api/protocol.rs"]
mod protocol;
#[path = "../fuzz/harness/api.rs"]
mod api;

/// Runs the files of one folder and `made_up` inputs of dice.
fn replay(target: &str, made_up: u32, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in &files {
        // The harness says what broke; the file is the last one named.
        println!("{}", file.display());
        run(&fs::read(file).unwrap());
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..made_up {
        let mut bytes = vec![0; 16 + number as usize % 500];
        for byte in &mut bytes {
            // xorshift64; the low choices of the harnesses are the interesting ones.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8 & if state >> 60 < 8 { 0x1f } else { 0xff };
        }
        run(&bytes);
    }
}

#[test]
fn the_engine_takes_every_input() {
    replay("engine", 300, engine::run);
}

#[test]
fn containers_beside_each_other_take_every_input() {
    replay("lan", 300, lan::run);
}

#[test]
fn hosts_beside_each_other_take_every_input() {
    replay("overlay", 300, overlay::run);
}

#[test]
fn the_control_socket_takes_every_input() {
    replay("control", 300, control::run);
}

#[test]
fn the_dns_forwarder_takes_every_input() {
    replay("dns", 300, dns::run);
}

#[test]
fn dhcp_takes_every_input() {
    replay("dhcp", 300, dhcp::run);
}

#[test]
fn the_api_takes_every_input() {
    replay("api", 300, api::run);
}

#[test]
fn the_command_line_takes_every_input() {
    replay("argv", 300, words::argv);
}

#[test]
fn the_command_line_of_slirp4netns_takes_every_input() {
    replay("slirp4netns", 300, words::slirp4netns);
}

#[test]
fn publish_takes_every_input() {
    replay("publish", 300, words::publish);
}

#[test]
fn filters_take_every_input() {
    replay("filter", 2000, filter::run);
}
