//! NeMo and Megatron (checked against NeMo Automodel 0.4 and Megatron Core): a blend is a flat list of weights and
//! dataset prefixes, `["0.3", "path/one", "0.7", "path/two"]`, read from JSON or given as `paths`.
//!
//! Megatron draws sequences of one length from tokenised, packed files, so its weights are shares of tokens.

use std::fmt::Write;

use serde_json::json;

use super::{ExportError, Fields, Mixture, Part, Target, comments, quoted};

/// `nemo_blend.json`, and `nemo_blend.yaml` with the same list, what it is made of, and how to make its files.
pub(super) fn files(mixture: &Mixture) -> Result<Vec<(&'static str, String)>, ExportError> {
    // Megatron's preprocessing names its files PREFIX_KEY_document, one for each JSON key.
    let key = |part: &Part| match &part.fields {
        Fields::Text { field } => field.clone(),
        Fields::Pair { .. } | Fields::Messages { .. } => "text".into(),
    };
    let blend: Vec<String> = mixture
        .parts
        .iter()
        .flat_map(|part| {
            [format!("{:.6}", part.token_share), format!("tokenised/{}_{}_document", part.name, key(part))]
        })
        .collect();
    let mut yaml = comments(&mixture.provenance());
    yaml.push_str(
        "#\n# For NeMo Automodel (MegatronPretraining), NeMo 2 (PreTrainingDataModule) and Megatron Core. Weights are p, the shares\n# of tokens. Paths are prefixes of tokenised .bin and .idx files, made of each source by Megatron's preprocess_data.py\n# with the tokenizer of the model to be trained (--tokenizer-type and its companions):\n",
    );
    for part in &mixture.parts {
        part.require_records(Target::Nemo)?;
        let mut first = Vec::new();
        match &part.fields {
            Fields::Text { .. } => {}
            Fields::Pair { prompt, response, .. } => {
                let prompt = prompt.as_deref().unwrap_or("the prompt");
                first.push(format!("write {prompt} and {response} of each record into one field text"));
            }
            Fields::Messages { field, .. } => {
                first.push(format!(
                    "write the {field} of each record into one field text, by the model's chat template"
                ));
            }
        }
        if part.skip > 0 || part.is_cut {
            first.push(format!("keep records {} to {} alone", part.skip + 1, part.skip + part.examples));
        }
        if part.paths.len() > 1 {
            first.push("join the files".into());
        }
        let files: Vec<String> = part.paths.iter().map(|path| path.display().to_string()).collect();
        let (name, files, key) = (&part.name, files.join(" "), key(part));
        let _ = if first.is_empty() {
            writeln!(yaml, "#   {name}: from {files}")
        } else {
            writeln!(yaml, "#   {name}: from {files}; first {}", first.join(", "))
        };
        let _ = writeln!(
            yaml,
            "#     preprocess_data.py --input FILE --json-keys {key} --output-prefix tokenised/{name} --append-eod"
        );
    }
    yaml.push_str("# Packed pretraining has its loss on prompts too; for a loss on responses alone use a fine-tuning trainer.\npaths:\n");
    for pair in blend.chunks(2) {
        let _ = writeln!(yaml, "  - {}\n  - {}", quoted(&pair[0]), quoted(&pair[1]));
    }
    let list = format!("{}\n", json!(blend));
    Ok(vec![("nemo_blend.json", list), ("nemo_blend.yaml", yaml)])
}
