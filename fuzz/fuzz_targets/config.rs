//! Any bytes as the configuration of a Hugging Face folder.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod sound;

fuzz_target!(|bytes: &[u8]| sound::load_with("config.json", bytes));
