//! From the fields of a JSON record to pieces of text.

use std::path::Path;

use serde_json::Value;

use super::{Piece, Record};
use crate::{error::DataError, recipe::DataSpec};

const MESSAGE_FIELDS: [&str; 3] = ["messages", "conversations", "items"];
const PROMPT_FIELDS: [&str; 3] = ["prompt", "question", "instruction"];
const RESPONSE_FIELDS: [&str; 4] = ["response", "answer", "output", "completion"];

/// The pieces of a JSON record: what the recipe says, or what the names of its fields show.
pub fn record(spec: &DataSpec, value: &Value, path: &Path, place: &str) -> Result<Record, DataError> {
    let missing = |field: &str| {
        let found = match value {
            Value::Object(map) if !map.is_empty() => {
                map.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
            }
            Value::Object(_) => "no fields".to_owned(),
            _ => "no fields: it is not an object".to_owned(),
        };
        DataError::MissingField {
            path: path.to_owned(),
            place: place.to_owned(),
            field: field.to_owned(),
            found,
        }
    };
    let text = |field: &str| value.get(field).and_then(Value::as_str).ok_or_else(|| missing(field));
    // a template writes its own ends of messages
    let end = if spec.chat { "" } else { "\n" };
    let pair = |prompt: String, response: &str| {
        let role = |role: &str| spec.chat.then(|| role.to_owned());
        vec![
            Piece { role: role("user"), ..Piece::new(prompt, false) },
            Piece { role: role("assistant"), ..Piece::new(response, true) },
        ]
    };
    if let Some(field) = &spec.text {
        return Ok(vec![Piece::new(text(field)?, true)]);
    }
    if let Some(field) = &spec.messages {
        let list = value.get(field).and_then(Value::as_array).ok_or_else(|| missing(field))?;
        return messages(list, spec.chat).ok_or_else(|| missing(field));
    }
    if let Some(response) = &spec.response {
        let prompt = match (&spec.template, &spec.prompt) {
            (Some(template), _) => fill(template, &text)?,
            (None, Some(prompt)) => format!("{}{end}", text(prompt)?),
            (None, None) => String::new(),
        };
        return Ok(pair(prompt, text(response)?));
    }
    let has = |field: &&&str| value.get(**field).is_some();
    if let Some(field) = MESSAGE_FIELDS.iter().find(has) {
        return value
            .get(field)
            .and_then(Value::as_array)
            .and_then(|l| messages(l, spec.chat))
            .ok_or_else(|| missing(field));
    }
    let (prompt, response) =
        (PROMPT_FIELDS.iter().position(|f| has(&f)), RESPONSE_FIELDS.iter().position(|f| has(&f)));
    if let (Some(prompt), Some(response)) = (prompt, response) {
        let (prompt, response) = (PROMPT_FIELDS[prompt], RESPONSE_FIELDS[response]);
        let mut question = text(prompt)?.to_owned();
        if let Some(input) = value.get("input").and_then(Value::as_str).filter(|i| !i.is_empty()) {
            question = format!("{question}\n{input}");
        }
        question.push_str(end);
        return Ok(pair(question, text(response)?));
    }
    if value.get("text").is_none() || spec.chat {
        // half a pair: it is the other half that is missing
        if let Some(prompt) = prompt {
            return Err(missing(RESPONSE_FIELDS[prompt]));
        }
        if let Some(response) = response {
            return Err(missing(PROMPT_FIELDS[response.min(PROMPT_FIELDS.len() - 1)]));
        }
    }
    if spec.chat {
        return Err(missing(MESSAGE_FIELDS[0]));
    }
    Ok(vec![Piece::new(text("text")?, true)])
}

/// Roles before texts; the loss is on what the assistant says. For a chat the texts stay as they are, and roles get the names
/// that templates know.
fn messages(list: &[Value], is_chat: bool) -> Option<Record> {
    let mut pieces = Vec::new();
    for message in list {
        let get = |a: &str, b: &str| message.get(a).or_else(|| message.get(b)).and_then(Value::as_str);
        let (role, text) = (get("role", "from")?, get("content", "value")?);
        let is_learned = matches!(role, "assistant" | "gpt" | "model");
        let name = match role {
            "gpt" | "model" => "assistant",
            "human" => "user",
            other => other,
        };
        pieces.push(if is_chat {
            Piece { role: Some(name.to_owned()), ..Piece::new(text, is_learned) }
        } else {
            Piece::new(format!("{text}\n"), is_learned)
        });
    }
    pieces.iter().any(|p| p.is_learned).then_some(pieces)
}

/// Replaces `{field}` by the record's text; `{{` and `}}` are braces.
fn fill<'v>(template: &str, text: &impl Fn(&str) -> Result<&'v str, DataError>) -> Result<String, DataError> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            out.push_str(&tail[..1]);
            rest = &tail[2..];
        } else if let (Some(end), true) = (tail.find('}'), tail.starts_with('{')) {
            out.push_str(text(&tail[1..end])?);
            rest = &tail[end + 1..];
        } else {
            out.push_str(&tail[..1]);
            rest = &tail[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}
