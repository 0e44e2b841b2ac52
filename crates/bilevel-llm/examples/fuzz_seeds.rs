//! Writes sound files into `fuzz/corpus/TARGET`, where `cargo fuzz run TARGET` begins, and their words into `fuzz/corpus/TARGET.dict`.
//! Small files: a mutation then hits something that matters.

use std::{collections::BTreeSet, error::Error, fs, path::Path};

use bilevel_llm::{Recipe, model::Family};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

#[path = "../tests/sound/mod.rs"]
mod sound;

/// GGUF's numbers of formats, with the numbers and the bytes of a block.
const FORMATS: [(&str, u32, usize, usize); 11] = [
    ("f32", 0, 1, 4),
    ("f16", 1, 1, 2),
    ("bf16", 30, 1, 2),
    ("q4_0", 2, 32, 18),
    ("q4_1", 3, 32, 20),
    ("q5_0", 6, 32, 22),
    ("q5_1", 7, 32, 24),
    ("q8_0", 8, 32, 34),
    ("q4_k", 12, 256, 144),
    ("q5_k", 13, 256, 176),
    ("q6_k", 14, 256, 210),
];

/// Ways to stretch a context, with their settings in a `config.json`.
const SCALINGS: [(&str, &str); 2] = [
    ("linear", r#""factor": 2.0"#),
    (
        "llama3",
        r#""factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8"#,
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let corpus = root.join("fuzz/corpus");
    let put = |target: &str, name: &str, bytes: &[u8]| -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(corpus.join(target))?;
        Ok(fs::write(corpus.join(target).join(name), bytes)?)
    };
    let tokens = ["t", "h", "th", "<|end|>"];
    for family in Family::ALL {
        let name = family.name();
        for (format, number, block, bytes) in FORMATS {
            // rows of one block, and few of them
            let sizes = match (block, family) {
                (1, _) => (4, 2, 6),
                (32, _) => (32, 16, 6),
                (_, Family::Gpt2) => continue,
                _ => (256, 2, 2),
            };
            let file = sound::gguf_of(family, &tokens, sizes, Some((number, block, bytes)));
            put("gguf", &format!("{name}-{format}"), &file.bytes())?;
        }
        let folder = corpus.join("folder");
        sound::hugging_face(&folder, family);
        let config = fs::read_to_string(folder.join("config.json"))?;
        put("config", name, config.as_bytes())?;
        if family == Family::Llama {
            for (scaling, numbers) in SCALINGS {
                let stretched = format!(r#""rope_scaling": {{"rope_type": "{scaling}", {numbers}}}"#);
                let config = config.replace(r#""rope_scaling": null"#, &stretched);
                put("config", &format!("{name}-{scaling}"), config.as_bytes())?;
            }
            let tensors = fs::read(folder.join("model.safetensors"))?;
            let tensors = SafeTensors::deserialize(&tensors)?;
            for (format, width) in [(Dtype::F32, 4), (Dtype::F16, 2), (Dtype::BF16, 2)] {
                let mut views = Vec::new();
                for (name, view) in tensors.iter() {
                    let data = &view.data()[..view.data().len() / 4 * width];
                    views.push((name, TensorView::new(format, view.shape().to_vec(), data)?));
                }
                put("safetensors", &format!("{format:?}"), &safetensors::serialize(views, None)?)?;
            }
        }
        fs::remove_dir_all(folder)?;
    }
    put("gguf", "every-byte", &sound::gguf(Family::Llama).bytes())?;
    put("recipe", "keys", sound::RECIPE.as_bytes())?;
    for folder in ["crates/bilevel-cli/recipes", "experiments"] {
        for entry in fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if Recipe::parse(&text, Path::new("")).is_ok() {
                let name = path.file_name().ok_or("an entry has a name")?;
                put("recipe", &name.to_string_lossy(), text.as_bytes())?;
            }
        }
    }
    for target in ["config", "gguf", "recipe", "safetensors"] {
        let mut words = BTreeSet::new();
        for entry in fs::read_dir(corpus.join(target))? {
            words.extend(words_of(&fs::read(entry?.path())?));
        }
        let lines: String = words.iter().flat_map(|word| ["\"", word, "\"\n"]).collect();
        fs::write(corpus.join(target).with_extension("dict"), lines)?;
    }
    Ok(())
}

/// Names of keys and values: runs of three to forty letters, digits, and what joins them.
fn words_of(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|b| !(b.is_ascii_alphanumeric() || b"_.-".contains(b)))
        .filter(|word| (3..=40).contains(&word.len()))
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}
