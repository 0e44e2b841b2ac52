//! LLaMA-Factory (checked against its data readme and loader, version 0.9.6).
//!
//! `dataset_info.json` describes each source; `mix_strategy: interleave_over` with `interleave_probs` draws examples with
//! the given probabilities until every source was seen whole, repeating those that end before.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{ExportError, Fields, Mixture, Target, comments};

/// `dataset_info.json` and `llama_factory.yaml`.
pub(super) fn files(mixture: &Mixture) -> Result<Vec<(&'static str, String)>, ExportError> {
    let target = Target::LlamaFactory;
    let mut info = Map::new();
    let is_text = mixture.parts.iter().all(|part| matches!(part.fields, Fields::Text { .. }));
    let mut is_templated = false;
    for part in &mixture.parts {
        part.require_records(target)?;
        let [file] = part.paths.as_slice() else {
            let problem = format!("it has {} files", part.paths.len());
            return Err(part.unreadable(target, &problem, "join them into one file and run on that"));
        };
        let mut entry = json!({ "file_name": file, "split": part.split() });
        match &part.fields {
            Fields::Pair { prompt, response, format } => {
                is_templated |= format != "{instruction}\n";
                entry["columns"] =
                    json!({ "prompt": part.prompt(target, prompt.as_ref())?, "response": response });
            }
            Fields::Messages { field, keys: (role, content) } => {
                let (user, assistant) = if role == "role" { ("user", "assistant") } else { ("human", "gpt") };
                entry["formatting"] = json!("sharegpt");
                entry["columns"] = json!({ "messages": field });
                entry["tags"] = json!({ "role_tag": role, "content_tag": content, "user_tag": user, "assistant_tag": assistant });
            }
            Fields::Text { field } if is_text => entry["columns"] = json!({ "prompt": field }),
            Fields::Text { .. } => {
                let problem = "it is running text among sources of prompts and responses, which this trainer learns in another stage";
                return Err(part.unreadable(target, problem, "export for axolotl or hf, which mix them"));
            }
        }
        info.insert(part.name.clone(), entry);
    }
    let mut info = serde_json::to_string_pretty(&Value::Object(info)).expect("a map of strings is JSON");
    info.push('\n');

    let names: Vec<&str> = mixture.parts.iter().map(|part| part.name.as_str()).collect();
    let shares: Vec<String> = mixture.parts.iter().map(|part| format!("{:.6}", part.example_share)).collect();
    let epoch =
        mixture.parts.iter().map(|part| part.examples as f64 / part.example_share).fold(0.0, f64::max);
    let mut yaml = comments(&mixture.provenance());
    let _ = writeln!(
        yaml,
        "#\n# For LLaMA-Factory 0.9.6, to be merged into a training configuration; dataset_dir is the folder of dataset_info.json.\n# An epoch ends when every source was seen whole, after about {epoch:.0} examples; set max_steps to end before.\ndataset_dir: .\ndataset: {}\nmix_strategy: interleave_over\ninterleave_probs: {}",
        names.join(","),
        shares.join(",")
    );
    if mixture.is_chat() {
        yaml.push_str(
            "# Set template to the one of this trainer that writes as the checkpoint's own does.\n",
        );
    }
    if is_templated {
        yaml.push_str("# The trainer's own chat template stands in place of the recipe's prompt template.\n");
    }
    yaml.push_str(if is_text { "stage: pt\n" } else { "stage: sft\ntrain_on_prompt: false\n" });
    Ok(vec![("dataset_info.json", info), ("llama_factory.yaml", yaml)])
}
