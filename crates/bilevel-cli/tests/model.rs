//! `bilevel model` and `bilevel generate` on checkpoints that are not what they should be.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use bilevel::rng::Stream;
use bilevel_llm::{
    model::{Decoder, ModelSizes},
    pretrained::save,
    recipe::TokenizerSpec,
    tokenizer::Tokenizer,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

fn bilevel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bilevel")).args(arguments).output().unwrap()
}

/// A small sound model in a folder, to be spoilt.
struct Model {
    folder: TempDir,
}

impl Model {
    /// With an embedding of so many rows; the tokenizer has 258 tokens.
    fn with_rows(rows: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sizes =
            ModelSizes { layers: 1, width: 8, heads: 2, kv_heads: 1, ffn: 6, context: 16, rope_base: 1e4 };
        let tokenizer = Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).unwrap();
        let decoder = Decoder::new(sizes, rows);
        let parameters: Vec<f32> = decoder.initial(&mut Stream::new(1, 0));
        save(folder.path(), &decoder, &parameters, &tokenizer, None).unwrap();
        Self { folder }
    }
    fn new() -> Self {
        Self::with_rows(258)
    }
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Changes the table of tensors and the bytes behind it.
    fn tensors(&self, change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>)) {
        let path = self.path().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut table: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let mut numbers = bytes[8 + length..].to_vec();
        change(&mut table, &mut numbers);
        let header = serde_json::to_vec(&table).unwrap();
        let out = [&(header.len() as u64).to_le_bytes()[..], &header, &numbers].concat();
        fs::write(path, out).unwrap();
    }
    fn config(&self, field: &str, value: Value) {
        let path = self.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[field] = value;
        fs::write(path, config.to_string()).unwrap();
    }
}

/// Both commands refuse this model with these words, and with no panic.
fn refused(path: &Path, parts: &[&str]) {
    let path = path.display().to_string();
    for arguments in [vec!["model", &path], vec!["generate", "--model", &path, "--prompt", "a"]] {
        let output = bilevel(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
        for part in parts.iter().chain([&path.as_str()]) {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn a_sound_model_is_read() {
    let model = Model::new();
    let output = bilevel(&["model", &model.path().display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_missing_tensor_is_named() {
    let model = Model::new();
    model.tensors(|table, numbers| {
        // the last one, so that the others follow one another without a gap
        let begin = |info: &Value| info["data_offsets"][0].as_u64();
        let last = table.iter().max_by_key(|(_, info)| begin(info)).map(|(name, _)| name.clone()).unwrap();
        numbers.truncate(begin(&table[&last]).unwrap() as usize);
        table.remove(&last);
    });
    refused(model.path(), &["1 missing (model.", ".weight)", "fetch both again"]);
}

#[test]
fn an_extra_tensor_is_named() {
    let model = Model::new();
    model.tensors(|table, numbers| {
        let end = numbers.len();
        numbers.extend([0; 8]);
        let info = json!({ "dtype": "F32", "shape": [2], "data_offsets": [end, end + 8] });
        table.insert("model.layers.0.adapter.weight".into(), info);
    });
    refused(model.path(), &["1 of no use (model.layers.0.adapter.weight)"]);
}

#[test]
fn a_wrongly_shaped_tensor_is_named_with_both_shapes() {
    let model = Model::new();
    model.tensors(|table, _| table["model.norm.weight"]["shape"] = json!([2, 4]));
    refused(model.path(), &["model.norm.weight is [2, 4] and should be [8]"]);
}

#[test]
fn harmful_headers_are_refused() {
    let offsets = |begin: u64, end: u64| {
        let model = Model::new();
        model.tensors(|table, _| {
            table["model.norm.weight"]["data_offsets"] = json!([begin, end]);
        });
        refused(model.path(), &["model.safetensors", "made to do harm"]);
    };
    // outside the file, backwards, over another tensor
    offsets(1 << 40, (1 << 40) + 32);
    offsets(64, 32);
    offsets(0, 32);
    offsets(u64::MAX - 31, u64::MAX);

    let model = Model::new();
    model.tensors(|table, _| table["model.norm.weight"]["shape"] = json!([1_u64 << 60, 1_u64 << 60]));
    refused(model.path(), &["model.safetensors", "made to do harm"]);
    let file = model.path().join("model.safetensors");
    fs::write(&file, [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    refused(model.path(), &["model.safetensors", "18446744073709551615, where 2 bytes follow"]);

    let gguf = |parts: &[&[u8]], expected: &str| {
        let path = model.path().join("model.gguf");
        fs::write(&path, [&b"GGUF"[..], &parts.concat()].concat()).unwrap();
        refused(&path, &[expected]);
    };
    let (v3, n) = (3_u32.to_le_bytes(), |n: u64| n.to_le_bytes());
    gguf(&[&v3, &n(1 << 60), &n(0)], "the number of tensors");
    gguf(&[&v3, &n(0), &n(u64::MAX)], "the number of keys");
    let padding = [0; 64];
    gguf(&[&v3, &n(0), &n(1), &n(1 << 40), &padding], "the name of key 0");
    gguf(&[&v3, &n(0), &n(1), &n(2), b"\xff\xfe", &padding], "not UTF-8");
    let (array, bytes, whole) = (9_u32.to_le_bytes(), 0_u32.to_le_bytes(), 4_u32.to_le_bytes());
    gguf(
        &[&v3, &n(0), &n(1), &n(1), b"a", &array, &bytes, &n(1 << 60), &padding],
        "key a: a count or length",
    );
    let alignment = b"general.alignment";
    gguf(&[&v3, &n(0), &n(1), &n(17), alignment, &whole, &[0; 4], &padding], "a power of two from 8");
    // a tensor: name, dimensions, sizes, format, offset
    let tensor = |size: u64, offset: u64| {
        [&v3[..], &n(1), &n(0), &n(1), b"t", &1_u32.to_le_bytes(), &n(size), &[0; 4], &n(offset), &padding]
            .concat()
    };
    gguf(&[&tensor(0, 0)], "which is empty");
    gguf(&[&tensor(1 << 61, 0)], "larger than the file");
    gguf(&[&tensor(4, 1 << 40)], "16 bytes at offset 1099511627776");
    gguf(&[&tensor(4, u64::MAX - 31)], "tensor t");
}

#[test]
fn an_unsupported_architecture_is_named_with_those_that_are_read() {
    let model = Model::new();
    model.config("model_type", "mamba".into());
    refused(model.path(), &["the architecture mamba is not supported", "llama, qwen2 and gpt2 are read"]);
    model.config("model_type", "llama".into());
    model.config("hidden_act", "relu".into());
    refused(model.path(), &["hidden_act = \"relu\" is not supported"]);
}

#[test]
fn a_tokenizer_that_does_not_match_is_refused() {
    refused(
        Model::with_rows(200).path(),
        &["258 tokens, where the model's embedding has 200 rows", "belongs to another model"],
    );
    let model = Model::new();
    let path = model.path().join("tokenizer.json");
    for broken in ["", "[1, 2", "{}", "null"] {
        fs::write(&path, broken).unwrap();
        refused(model.path(), &["tokenizer.json", "as the tokenizers library writes it"]);
    }
    fs::remove_file(&path).unwrap();
    refused(model.path(), &["tokenizer.json", "check the path"]);
}

#[test]
fn a_chat_template_that_fails_is_told_in_its_words() {
    let model = Model::new();
    let path = model.path().display().to_string();
    for (template, parts) in [
        ("{{ raise_exception('system first') }}", ["system first", "roles of the messages"]),
        ("{% for m in messages %}", ["chat template", "template is broken"]),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
            ["fuel", "plain prompt"],
        ),
        ("{{ messages[0].content.no_such_method() }}", ["no_such_method", "plain prompt"]),
    ] {
        fs::write(model.path().join("chat_template.jinja"), template).unwrap();
        // a template is only looked at where it is used
        assert!(bilevel(&["generate", "--model", &path, "--prompt", "a", "--tokens", "1"]).status.success());
        let output = bilevel(&["generate", "--model", &path, "--prompt", "a", "--chat"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}
