#![no_main]
#[allow(dead_code)]
#[path = "../harness/input.rs"]
mod input;
#[allow(dead_code)]
#[path = "../harness/packet.rs"]
mod packet;
#[path = "../harness/driver.rs"]
mod driver;
#[path = "../harness/engine.rs"]
mod engine;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::run(bytes));
