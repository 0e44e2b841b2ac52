//! The Hugging Face layout: a folder with `config.json`, safetensors and `tokenizer.json`.

mod config;
mod save;
mod tensor_files;
mod tokenizer;

use std::{collections::HashMap, fs, path::Path};

use serde_json::Value;

pub use save::save;

use super::{Checkpoint, PretrainedError, tensors};
use crate::model::{Decoder, Family, NamedTensor};
use tensor_files::TensorFiles;

/// Reads a folder; `accept` is asked before any tensor is read.
pub(super) fn load<E: From<PretrainedError>>(
    folder: &Path,
    accept: impl FnOnce(&Decoder) -> Result<(), E>,
) -> Result<Checkpoint, E> {
    let path = folder.join("config.json");
    let config = read_json(&path)?
        .ok_or_else(|| PretrainedError::io(&path, std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    let decoder = Decoder::of(config::architecture(&path, &config)?);
    let (tokenizer, chat_template) = tokenizer::load(folder, &config)?;
    let mut files = TensorFiles::open(folder)?;
    let a = &decoder.architecture;
    let is_unused = |name: &str| {
        // masks and frequencies that old versions of the library wrote, and a second copy of a tied head
        [".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"].iter().any(|end| name.ends_with(end))
            || (a.is_head_tied && name == "lm_head.weight")
    };
    let list = decoder.tensors();
    let expected = list.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
    let found = files.shapes().map(|(name, shape)| (full_name(a.family, name), shape.to_vec()));
    tensors::compare(folder, &expected, &found.filter(|(name, _)| !is_unused(name)).collect())?;
    accept(&decoder)?;
    let names: HashMap<String, String> =
        files.shapes().map(|(name, _)| (full_name(a.family, name), name.to_owned())).collect();
    let mut parameters = vec![0.0; decoder.parameters()];
    for tensor in &list {
        files.read(&names[&tensor.name], &mut parameters[tensor.range.clone()])?;
        turn(tensor, &mut parameters[tensor.range.clone()]);
    }
    Ok(Checkpoint { decoder, parameters, tokenizer, chat_template })
}

/// GPT-2 as first published leaves the model's name out.
fn full_name(family: Family, name: &str) -> String {
    if family == Family::Gpt2 && !name.starts_with("transformer.") && name != "lm_head.weight" {
        format!("transformer.{name}")
    } else {
        name.to_owned()
    }
}

/// From the file's order of a matrix to the decoder's.
fn turn(tensor: &NamedTensor, values: &mut [f32]) {
    if let (true, &[rows, cols]) = (tensor.is_transposed, &tensor.shape[..]) {
        let old = values.to_vec();
        for (i, row) in old.chunks_exact(cols).enumerate() {
            for (j, &a) in row.iter().enumerate() {
                values[j * rows + i] = a;
            }
        }
    }
}

/// A JSON file; `None` when it is not there.
fn read_json(path: &Path) -> Result<Option<Value>, PretrainedError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PretrainedError::io(path, error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| PretrainedError::Broken {
        path: path.into(),
        place: format!("line {}, column {}", error.line(), error.column()),
        found: format!("no JSON ({error})"),
        remedy: "the file is damaged: fetch it again".into(),
    })
}
