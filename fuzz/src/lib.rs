//! What the targets share.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use bilevel_llm::{PretrainedModel, model::Family, pretrained::Message};

#[path = "../../crates/bilevel-llm/tests/sound/mod.rs"]
pub mod sound;

/// This process's folder, with a sound model in the Hugging Face layout in it. Its other files are written once: writing them
/// anew for each input would be most of the work.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("bilevel-fuzz-{}", std::process::id()));
        sound::hugging_face(&folder, Family::Llama);
        folder
    })
}

/// Loads the folder with these bytes in place of a file.
pub fn load_with(file: &str, bytes: &[u8]) {
    fs::write(folder().join(file), bytes).expect("a file can be written");
    use_model(folder());
}

/// Loads these bytes as a GGUF file.
pub fn load_gguf(bytes: &[u8]) {
    let path = folder().join("model.gguf");
    fs::write(&path, bytes).expect("a file can be written");
    use_model(&path);
}

/// Loads a model and, where that succeeds, reads a text by its tokenizer and writes a conversation by its template.
fn use_model(path: &Path) {
    let Ok(model) = PretrainedModel::load(path) else { return };
    assert_eq!(model.parameters.len(), model.decoder.parameters());
    if let Ok(tokens) = model.tokenizer.encode("It's 12 o'clock.\n") {
        let _ = model.tokenizer.decode(&tokens);
    }
    if let Some(template) = model.chat_template {
        let _ = template.render(&[Message::new("user", "Hello"), Message::new("assistant", "Yes?")], true);
    }
}
