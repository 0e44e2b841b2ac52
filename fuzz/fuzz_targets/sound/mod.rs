//! A small, sound folder in the Hugging Face layout, of which a target replaces one file.

use std::{fs, path::Path};

use bilevel_llm::{
    PretrainedModel,
    model::{Decoder, ModelSizes},
    pretrained::save,
    recipe::TokenizerSpec,
    tokenizer::Tokenizer,
};

/// Loads the folder with these bytes in place of a file.
pub fn load_with(file: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for a model");
    write(folder.path());
    fs::write(folder.path().join(file), bytes).expect("a file can be written");
    let _ = PretrainedModel::load(folder.path());
}

fn write(folder: &Path) {
    let sizes =
        ModelSizes { layers: 1, width: 4, heads: 2, kv_heads: 1, ffn: 6, context: 16, rope_base: 1e4 };
    let tokenizer = Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).expect("bytes");
    let decoder = Decoder::new(sizes, tokenizer.vocabulary());
    let parameters = vec![0.5; decoder.parameters()];
    save(folder, &decoder, &parameters, &tokenizer, None).expect("a folder can be written");
}
