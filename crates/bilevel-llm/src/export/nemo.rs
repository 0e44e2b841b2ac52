//! NeMo and Megatron (checked against NeMo Automodel 0.4 and Megatron Core): a blend is a flat list of weights and
//! dataset prefixes, `["0.3", "path/one", "0.7", "path/two"]`, read from JSON or given as `paths`.
//!
//! Megatron draws sequences of one length from tokenised, packed files, so its weights are shares of tokens.

use std::fmt::Write;

use serde_json::json;

use super::{ExportError, Fields, Mixture, Target, comments, quoted};

/// `nemo_blend.json`, and `nemo_blend.yaml` with the same list, what it is made of, and how to make its files.
pub(super) fn files(mixture: &Mixture) -> Result<Vec<(&'static str, String)>, ExportError> {
    let prefix = |name: &str| format!("tokenised/{name}");
    let blend: Vec<String> = mixture
        .parts
        .iter()
        .flat_map(|part| [format!("{:.6}", part.token_share), prefix(&part.name)])
        .collect();
    let mut yaml = comments(&mixture.provenance());
    yaml.push_str(
        "#\n# For NeMo Automodel (MegatronPretraining), NeMo 2 (PreTrainingDataModule) and Megatron Core. Weights are p, the shares\n# of tokens. Paths are prefixes of tokenised .bin and .idx files, made for each source by Megatron's preprocessing, with\n# the tokenizer of the model to be trained; JSON keys in order:\n",
    );
    for part in &mixture.parts {
        part.require_records(Target::Nemo)?;
        if part.skip > 0 || part.is_cut {
            let _ = writeln!(
                yaml,
                "#   {}: only records {} to {} belong to the mixture; cut the file first",
                part.name,
                part.skip + 1,
                part.skip + part.examples
            );
        }
        let keys = match &part.fields {
            Fields::Pair { prompt, response, .. } => {
                format!("{} {response}", part.prompt(Target::Nemo, prompt.as_ref())?)
            }
            Fields::Messages { field, .. } | Fields::Text { field } => field.clone(),
        };
        for path in &part.paths {
            let _ = writeln!(
                yaml,
                "#   {}: preprocess_data.py --input {} --json-keys {keys} --output-prefix {} --append-eod",
                part.name,
                path.display(),
                prefix(&part.name)
            );
        }
    }
    yaml.push_str("# Packed pretraining has its loss on prompts too; for a loss on responses alone use a fine-tuning trainer.\npaths:\n");
    for pair in blend.chunks(2) {
        let _ = writeln!(yaml, "  - {}\n  - {}", quoted(&pair[0]), quoted(&pair[1]));
    }
    let list = format!("{}\n", json!(blend));
    Ok(vec![("nemo_blend.json", list), ("nemo_blend.yaml", yaml)])
}
