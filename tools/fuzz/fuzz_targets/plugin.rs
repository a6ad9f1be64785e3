//! Feeds [`heddle_fuzz::plugin::check`] with what libFuzzer thinks of.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::plugin::check(bytes));
