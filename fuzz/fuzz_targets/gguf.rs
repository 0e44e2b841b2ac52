//! Any bytes as a GGUF file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bilevel_fuzz::load_gguf(bytes));
