//! Writes a model in the Hugging Face layout.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use bilevel::run::checkpoint::{write_atomically, write_atomically_with};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use serde_json::{Value, json};

use super::config;
use crate::{
    model::Decoder,
    pretrained::{ChatTemplate, PretrainedError},
    tokenizer::Tokenizer,
};

/// The tensors in the format of safetensors, each made into bytes when its turn comes.
fn write_tensors(file: &mut File, decoder: &Decoder, parameters: &[f32]) -> std::io::Result<()> {
    let tensors = decoder.tensors();
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += 4 * tensor.range.len();
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, end) };
        (tensor.name.clone(), info)
    });
    let meta = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(meta), infos.collect()).map_err(std::io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    // numbers begin at a multiple of eight bytes, so that readers can map them
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::new(file);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for tensor in &tensors {
        let values = &parameters[tensor.range.clone()];
        match (tensor.is_transposed, &tensor.shape[..]) {
            (true, &[rows, cols]) => {
                for at in 0..rows * cols {
                    out.write_all(&values[at % cols * rows + at / cols].to_le_bytes())?;
                }
            }
            _ => values.iter().try_for_each(|a| out.write_all(&a.to_le_bytes()))?,
        }
    }
    out.flush()
}

/// Writes `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json` (with the chat template) into
/// a folder, which is made when it is missing. `transformers` loads the folder.
///
/// # Errors
/// When the file system refuses, or the layout has no words for the architecture.
pub fn save(
    folder: &Path,
    decoder: &Decoder,
    parameters: &[f32],
    tokenizer: &Tokenizer,
    chat_template: Option<&ChatTemplate>,
) -> Result<(), PretrainedError> {
    fs::create_dir_all(folder).map_err(|e| PretrainedError::io(folder, e))?;
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        write_atomically(&path, bytes).map_err(|e| PretrainedError::io(path, e))
    };
    let mut entries = config::write(&decoder.architecture).ok_or_else(|| PretrainedError::Unsupported {
        path: folder.join("config.json"),
        what: "a list of divisors of rotary frequencies".into(),
        remedy: "config.json has no words for it: read the model from its Hugging Face folder".into(),
    })?;
    entries.insert("eos_token_id".into(), tokenizer.end().into());
    entries.insert("bos_token_id".into(), tokenizer.begin_token().into());

    let path = folder.join("model.safetensors");
    write_atomically_with(&path, |file| write_tensors(file, decoder, parameters))
        .map_err(|e| PretrainedError::io(&path, e))?;

    let text = tokenizer.to_json().map_err(|e| PretrainedError::Tokenizer {
        path: folder.join("tokenizer.json"),
        detail: e.to_string(),
        remedy: "keep the tokenizer of the original model".into(),
    })?;
    put("tokenizer.json", text.as_bytes())?;
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.begin_token().and_then(|id| tokenizer.text_of(id)),
        "eos_token": tokenizer.text_of(tokenizer.end()),
        "add_bos_token": tokenizer.is_begin_written(),
        "clean_up_tokenization_spaces": false,
        "model_max_length": decoder.architecture.sizes.context,
        "chat_template": chat_template.map(|template| &template.source),
    });
    put("tokenizer_config.json", &pretty(&settings))?;
    // last, so that a folder with a configuration is whole
    put("config.json", &pretty(&Value::Object(entries)))
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
