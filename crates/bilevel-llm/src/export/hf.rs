//! Hugging Face `datasets` (from version 4.0; tried with 5.2): `interleave_datasets` with probabilities over sources that
//! repeat without end, so that the shares hold for as long as the training runs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{ExportError, Fields, Mixture, Part, Target, comments, is_text, quoted, quoted_path};

/// `mixture.py`, which makes the stream, and `mixture.json`, for programs.
pub(super) fn files(mixture: &Mixture) -> Result<Vec<(&'static str, String)>, ExportError> {
    let mut python = comments(&mixture.provenance());
    python.push_str(
        "#\n# For datasets >= 4.0. The stream never ends: set max_steps in the trainer.\n\nfrom datasets import interleave_datasets, load_dataset\n\n\ndef source(kind, files, split, to_columns, **options):\n    data = load_dataset(kind, data_files=files, split=split, **options)\n    data = data.map(to_columns, remove_columns=data.column_names)\n    return data.shuffle(seed=0).to_iterable_dataset().repeat(None)\n\n\nmixture = interleave_datasets(\n    [\n",
    );
    for part in &mixture.parts {
        let files: Vec<String> = part.paths.iter().map(|path| quoted_path(path)).collect();
        part.require_records(Target::Hf)?;
        let is_text = part.paths.iter().any(|path| is_text(path));
        // Documents are separated by blank lines, as the run read them.
        let (kind, options) = if is_text { ("text", ", sample_by=\"paragraph\"") } else { ("json", "") };
        let _ = writeln!(
            python,
            "        # {}\n        source({}, [{}], {}, {}{options}),",
            part.name,
            quoted(kind),
            files.join(", "),
            quoted(&part.split()),
            to_columns(part)
        );
    }
    let shares: Vec<String> = mixture.parts.iter().map(|part| format!("{:.6}", part.example_share)).collect();
    let _ = writeln!(
        python,
        "    ],\n    probabilities=[{}],\n    seed=0,\n    stopping_strategy=\"first_exhausted\",\n)",
        shares.join(", ")
    );
    let sources: Vec<Value> = mixture
        .parts
        .iter()
        .map(|part| {
            json!({
                "name": part.name,
                "data_files": part.paths,
                "split": part.split(),
                "probability": part.example_share,
                "token_share": part.token_share,
                "token_share_sd": part.spread,
                "examples": part.examples,
                "passes": part.epochs,
                "sha256": part.sha256,
                "is_chat": part.is_chat,
                "notes": part.notes,
            })
        })
        .collect();
    let all = json!({ "method": mixture.method, "version": mixture.version, "sources": sources, "left_out": mixture.left_out });
    let mut list = serde_json::to_string_pretty(&all).expect("strings and numbers are JSON");
    list.push('\n');
    Ok(vec![("mixture.py", python), ("mixture.json", list)])
}

/// A function from a record to the columns that trainers know: prompt and completion, messages, or text. Interleaved
/// sources need equal columns, so those that a record has not are none.
fn to_columns(part: &Part) -> String {
    let (prompt, completion, messages, text) = match &part.fields {
        Fields::Pair { prompt, format, response } => {
            let value = format!("r[{}]", quoted(response));
            let prompt = match prompt {
                Some(field) => {
                    let (before, after) = format.split_once("{instruction}").unwrap_or((format, ""));
                    let before =
                        if before.is_empty() { String::new() } else { format!("{} + ", quoted(before)) };
                    let after =
                        if after.is_empty() { String::new() } else { format!(" + {}", quoted(after)) };
                    format!("{before}r[{}]{after}", quoted(field))
                }
                // Python's own format fills the recipe's template, which has the same rules for braces.
                None if format != "{instruction}\n" => format!("{}.format_map(r)", quoted(format)),
                None => "\"\"".into(),
            };
            (prompt, value, "None".into(), "None".into())
        }
        Fields::Messages { field, keys: (role, content) } => {
            let list = format!(
                "[{{\"role\": m[{}], \"content\": m[{}]}} for m in r[{}]]",
                quoted(role),
                quoted(content),
                quoted(field)
            );
            ("None".into(), "None".into(), list, "None".into())
        }
        Fields::Text { field } => {
            ("None".to_owned(), "None".to_owned(), "None".to_owned(), format!("r[{}]", quoted(field)))
        }
    };
    format!(
        "lambda r: {{\"prompt\": {prompt}, \"completion\": {completion}, \"messages\": {messages}, \"text\": {text}}}"
    )
}
