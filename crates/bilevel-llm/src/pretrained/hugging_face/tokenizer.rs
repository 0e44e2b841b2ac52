//! `tokenizer.json` and what stands around it: special tokens and the chat template.

use std::path::Path;

use serde_json::Value;

use super::read_json;
use crate::{
    pretrained::{ChatTemplate, PretrainedError},
    tokenizer::{Tokenizer, parse},
};

/// The tokenizer and the chat template of a folder.
pub(super) fn load(
    folder: &Path,
    config: &Value,
) -> Result<(Tokenizer, Option<ChatTemplate>), PretrainedError> {
    let path = folder.join("tokenizer.json");
    let refused = |detail: String, remedy: &str| PretrainedError::Tokenizer {
        path: path.clone(),
        detail,
        remedy: remedy.into(),
    };
    let bytes = std::fs::read(&path).map_err(|source| PretrainedError::io(&path, source))?;
    let inner =
        parse(&bytes).map_err(|e| refused(e, "give a tokenizer.json as the tokenizers library writes it"))?;
    let generation = read_json(&folder.join("generation_config.json"))?.unwrap_or_default();
    let settings = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let special = |name: &str| -> Option<u32> {
        let text =
            settings.get(format!("{name}_token")).and_then(token_text).and_then(|t| inner.token_to_id(t));
        text.or_else(|| {
            [config, &generation].iter().find_map(|json| token_id(json.get(format!("{name}_token_id"))?))
        })
    };
    let begin = special("bos");
    let Some(end) = special("eos").or(begin) else {
        return Err(refused(
            "no token ends a sequence".into(),
            "set eos_token in tokenizer_config.json, or eos_token_id in config.json",
        ));
    };
    let is_begin_written = settings.get("add_bos_token").and_then(Value::as_bool).unwrap_or(false);
    let tokenizer = Tokenizer::pretrained(inner, begin, end, is_begin_written);
    let source = match std::fs::read_to_string(folder.join("chat_template.jinja")) {
        Ok(source) => Some(source),
        Err(_) => settings.get("chat_template").and_then(template_text).map(str::to_owned),
    };
    let template = source.map(|source| ChatTemplate {
        source,
        begin: begin.and_then(|id| tokenizer.text_of(id)),
        end: tokenizer.text_of(end),
    });
    Ok((tokenizer, template))
}

/// A token is written as its text, or as an object with it.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// An id, or the first of several.
fn token_id(value: &Value) -> Option<u32> {
    let value = value.as_array().map_or(Some(value), |list| list.first())?;
    u32::try_from(value.as_u64()?).ok()
}

/// A template, or the one called `default` of several.
fn template_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| {
        let list = value.as_array()?;
        let default = list.iter().find(|t| t.get("name").and_then(Value::as_str) == Some("default"))?;
        default.get("template")?.as_str()
    })
}
