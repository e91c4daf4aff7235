#![no_main]
#[allow(dead_code)]
#[path = "../harness/input.rs"]
mod input;
#[allow(dead_code)]
#[path = "../harness/packet.rs"]
mod packet;
#[allow(dead_code)]
#[path = "../harness/driver.rs"]
mod driver;
#[path = "../harness/overlay.rs"]
mod overlay;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| overlay::run(bytes));
