#![no_main]
#[allow(dead_code)]
#[path = "../harness/input.rs"]
mod input;
#[allow(dead_code)]
#[path = "../harness/packet.rs"]
mod packet;
#[path = "../harness/driver.rs"]
mod driver;
#[path = "../harness/lan.rs"]
mod lan;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lan::run(bytes));
