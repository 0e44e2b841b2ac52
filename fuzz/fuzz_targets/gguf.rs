//! Any bytes as a GGUF file.
#![no_main]

use bilevel_llm::PretrainedModel;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for a file");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).expect("a file can be written");
    let _ = PretrainedModel::load(&path);
});
