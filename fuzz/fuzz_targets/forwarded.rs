#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fullon_master_api::fuzzing::forwarded(bytes));
