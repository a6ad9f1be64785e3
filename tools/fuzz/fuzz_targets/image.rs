//! Feeds [`heddle_fuzz::image::check`] with what libFuzzer thinks of.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::image::check(bytes));
