#![no_main]
// `protocol` is private to the program; what it needs of the crate is found here.
use rnsnet::config;

#[allow(dead_code)]
#[path = "../../src/io/api/protocol.rs"]
mod protocol;
#[path = "../harness/api.rs"]
mod api;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::run(bytes));
