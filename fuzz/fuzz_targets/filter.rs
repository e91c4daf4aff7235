#![no_main]
#[allow(dead_code)]
#[path = "../harness/input.rs"]
mod input;
#[path = "../harness/filter.rs"]
mod filter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| filter::run(bytes));
