//! Axolotl (checked against its configuration reference and loader, version 0.18).
//!
//! Axolotl concatenates the entries of `datasets:` and has no weights. The mixture is therefore written as counts: an
//! entry for each whole pass over a source, and one with a slice (`split: train[:n]`, for local files since 0.17) for
//! the rest. One epoch of the file is as many examples as the sources have together.

use std::fmt::Write;

use super::{ExportError, Fields, Mixture, Part, Target, comments, quoted, quoted_path};

/// Most whole passes over a source in one epoch of the file; the epoch is shortened to stay below.
const MOST_PASSES: f64 = 20.0;

/// `axolotl.yaml`.
pub(super) fn files(mixture: &Mixture) -> Result<Vec<(&'static str, String)>, ExportError> {
    let total: u64 = mixture.parts.iter().map(|part| part.examples).sum();
    let epoch = mixture
        .parts
        .iter()
        .map(|part| MOST_PASSES * part.examples as f64 / part.example_share)
        .fold(total as f64, f64::min);
    let mut yaml = comments(&mixture.provenance());
    yaml.push_str(
        "#\n# For Axolotl 0.18, to be merged into a configuration. It has no weights: a source stands here once for each whole\n# pass that one epoch makes over it, and once with a slice for the rest. Keep the order shuffled and the doubles in.\n",
    );
    if mixture.is_chat() {
        yaml.push_str("chat_template: tokenizer_default\n");
    }
    yaml.push_str("shuffle_merged_datasets: true\ndataset_exact_deduplication: false\ntrain_on_inputs: false\ndatasets:\n");
    for part in &mixture.parts {
        part.require_records(Target::Axolotl)?;
        let wanted = (part.example_share * epoch).round() as u64;
        let (whole, rest) = (wanted / part.examples, wanted % part.examples);
        let _ = writeln!(
            yaml,
            "  # {}: {wanted} examples an epoch, {:.3} passes",
            part.name,
            wanted as f64 / part.examples as f64
        );
        for _ in 0..whole {
            entry(&mut yaml, part, &part.split())?;
        }
        if rest > 0 {
            entry(&mut yaml, part, &part.slice(0, rest))?;
        }
    }
    Ok(vec![("axolotl.yaml", yaml)])
}

fn entry(yaml: &mut String, part: &Part, split: &str) -> Result<(), ExportError> {
    // Writing to a string cannot fail.
    let _ = match part.paths.as_slice() {
        [one] => writeln!(yaml, "  - path: {}", quoted_path(one)),
        several => {
            let files: Vec<String> = several.iter().map(|path| quoted_path(path)).collect();
            let folder = several.first().and_then(|path| path.parent()).unwrap_or("".as_ref());
            writeln!(yaml, "  - path: {}\n    data_files: [{}]", quoted_path(folder), files.join(", "))
        }
    };
    let _ = writeln!(yaml, "    ds_type: json\n    split: {}", quoted(split));
    let _ = match &part.fields {
        Fields::Pair { prompt, format, response } => {
            let (prompt, format) = (quoted(part.prompt(Target::Axolotl, prompt.as_ref())?), quoted(format));
            writeln!(
                yaml,
                "    type:\n      field_instruction: {prompt}\n      field_output: {}\n      format: {format}\n      no_input_format: {format}",
                quoted(response)
            )
        }
        Fields::Messages { field, keys: (role, content) } => writeln!(
            yaml,
            "    type: chat_template\n    field_messages: {}\n    message_property_mappings:\n      role: {}\n      content: {}",
            quoted(field),
            quoted(role),
            quoted(content)
        ),
        Fields::Text { field } => writeln!(yaml, "    type: completion\n    field: {}", quoted(field)),
    };
    Ok(())
}
