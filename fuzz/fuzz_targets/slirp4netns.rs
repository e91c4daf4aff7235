#![no_main]
#[allow(dead_code)]
#[path = "../harness/words.rs"]
mod words;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| words::slirp4netns(bytes));
