#![no_main]
#[allow(dead_code)]
#[path = "../harness/input.rs"]
mod input;
#[allow(dead_code)]
#[path = "../harness/packet.rs"]
mod packet;
#[path = "../harness/dns.rs"]
mod dns;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dns::run(bytes));
