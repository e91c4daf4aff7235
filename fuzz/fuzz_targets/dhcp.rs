#![no_main]
#[allow(dead_code)]
#[path = "../harness/input.rs"]
mod input;
#[allow(dead_code)]
#[path = "../harness/packet.rs"]
mod packet;
#[path = "../harness/dhcp.rs"]
mod dhcp;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dhcp::run(bytes));
