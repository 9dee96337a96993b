//! Fuzzes the function that `tests/corpus` also runs on the corpus.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corpus::history::lines(data));
