//! Any bytes as the configuration of a Hugging Face folder.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bilevel_fuzz::load_with("config.json", bytes));
