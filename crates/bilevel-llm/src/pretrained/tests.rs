use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bilevel::rng::Stream;
use serde_json::Value;

use super::{
    gguf::{test_file::TestFile, test_model::gguf},
    *,
};
use crate::model::{Architecture, Batch, Family, ModelSizes, RopeScaling};

/// One of each kind, with a head of its own and with a tied one, as files of each layout have them.
fn kinds() -> Vec<Architecture> {
    let sizes =
        ModelSizes { layers: 2, width: 12, heads: 3, kv_heads: 1, ffn: 10, context: 32, rope_base: 5e4 };
    let llama = Architecture::llama(sizes, 258);
    let qwen2 =
        Architecture { family: Family::Qwen2, is_head_tied: false, norm_epsilon: 1e-6, ..llama.clone() };
    let gpt2 = Architecture {
        family: Family::Gpt2,
        sizes: ModelSizes { kv_heads: 3, rope_base: 1e4, ..sizes },
        ..llama.clone()
    };
    vec![llama, qwen2, gpt2]
}

fn random(n: usize) -> Vec<f32> {
    let mut stream = Stream::new(6, 0);
    (0..n).map(|_| stream.normal() as f32).collect()
}

fn put(folder: &Path, file: &TestFile) -> PathBuf {
    let path = folder.join("model.gguf");
    fs::write(&path, file.bytes()).unwrap();
    path
}

fn refusal(path: &Path) -> String {
    Checkpoint::load(path).unwrap_err().to_string()
}

#[test]
fn a_gguf_file_is_read_for_every_family() {
    for mut a in kinds() {
        let folder = tempfile::tempdir().unwrap();
        let parameters = random(Decoder::of(a.clone()).parameters());
        let model = Checkpoint::load(&put(folder.path(), &gguf(&a, &parameters))).unwrap();
        // learned positions have no base; it is what is written for the others
        a.sizes.rope_base = model.decoder.architecture.sizes.rope_base;
        assert_eq!(model.decoder.architecture, a);
        assert!(model.parameters == parameters, "{:?}", a.family);
        let ids = model.tokenizer.encode("the 12<|end|>").unwrap();
        let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
        assert_eq!(ids, [vec![256], bytes("e 12"), vec![257]].concat());
        assert_eq!(model.tokenizer.decode(&ids).unwrap(), "the 12");
        let chat = model.chat_template.unwrap().render(&[Message::new("user", "hi")], true).unwrap();
        assert_eq!(chat, "hi<|end|>");
    }
}

#[test]
fn a_model_that_was_saved_is_read_back_bit_for_bit() {
    let mut kinds = kinds();
    let stretched = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context: 8192.0,
    };
    kinds.push(Architecture { rope: stretched, head_size: 6, ..kinds[0].clone() });
    kinds.push(Architecture { rope: RopeScaling::Linear { factor: 2.5 }, ..kinds[1].clone() });
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Checkpoint::load(&put(folder.path(), &gguf(&kinds[0], &random(9_000)))).unwrap();
    for a in kinds {
        let decoder = Decoder::of(a);
        let parameters = random(decoder.parameters());
        let out = folder.path().join("saved");
        save(&out, &decoder, &parameters, &tokenizer.tokenizer, tokenizer.chat_template.as_ref()).unwrap();
        let model = Checkpoint::load(&out).unwrap();
        assert_eq!(model.decoder.architecture, decoder.architecture);
        assert!(model.parameters == parameters, "{:?}", decoder.architecture.family);
        assert_eq!(model.chat_template, tokenizer.chat_template);
        assert_eq!(model.tokenizer.encode("the 12").unwrap(), tokenizer.tokenizer.encode("the 12").unwrap());
        assert_eq!(model.tokenizer.end(), 257);
    }
}

/// A saved model, its tensors as (name, shape, bytes) to be spoilt.
struct Saved {
    folder: tempfile::TempDir,
    tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Saved {
    fn new(a: Architecture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let llama = &kinds()[0];
        let source = put(folder.path(), &gguf(llama, &random(Decoder::of(llama.clone()).parameters())));
        let tokenizer = Checkpoint::load(&source).unwrap().tokenizer;
        let decoder = Decoder::of(a);
        let parameters = random(decoder.parameters());
        save(folder.path(), &decoder, &parameters, &tokenizer, None).unwrap();
        let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes)
            .unwrap()
            .iter()
            .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec())))
            .collect();
        Self { folder, tensors }
    }
    fn write(&self, file: &str, keep: impl Fn(&str) -> bool) {
        let views = self.tensors.iter().filter(|(name, _)| keep(name)).map(|(name, (shape, data))| {
            (
                name,
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap(),
            )
        });
        fs::write(self.folder.path().join(file), safetensors::serialize(views, None).unwrap()).unwrap();
    }
    fn edit(&self, file: &str, change: impl Fn(&mut Value)) {
        let path = self.folder.path().join(file);
        let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
    }
    fn refusal(&self) -> String {
        refusal(self.folder.path())
    }
}

#[test]
fn shards_are_read_by_their_index_and_no_further() {
    let saved = Saved::new(kinds()[0].clone());
    let whole = Checkpoint::load(saved.folder.path()).unwrap();
    saved.write("a.safetensors", |name| name.contains("layers.0"));
    saved.write("b.safetensors", |name| !name.contains("layers.0"));
    fs::remove_file(saved.folder.path().join("model.safetensors")).unwrap();
    let index = |other: &str| {
        let map: BTreeMap<&str, &str> = saved
            .tensors
            .keys()
            .map(|name| (name.as_str(), if name.contains("layers.0") { "a.safetensors" } else { other }))
            .collect();
        let text = serde_json::json!({ "weight_map": map }).to_string();
        fs::write(saved.folder.path().join("model.safetensors.index.json"), text).unwrap();
    };
    index("b.safetensors");
    assert!(Checkpoint::load(saved.folder.path()).unwrap().parameters == whole.parameters);
    index("../b.safetensors");
    assert!(saved.refusal().contains("no name of a file in this folder"), "{}", saved.refusal());
    index("c.safetensors");
    assert!(saved.refusal().contains("c.safetensors"), "{}", saved.refusal());
    index("a.safetensors");
    let refusal = saved.refusal();
    assert!(
        refusal.contains("missing") && refusal.contains("model.layers.1.") && refusal.contains("more"),
        "{refusal}"
    );
    saved.write("b.safetensors", |_| true);
    index("b.safetensors");
    assert!(saved.refusal().contains("it is in another file too"), "{}", saved.refusal());
}

#[test]
fn missing_extra_and_wrongly_shaped_tensors_are_named() {
    let mut saved = Saved::new(kinds()[1].clone());
    let bias = saved.tensors.remove("model.layers.1.self_attn.q_proj.bias").unwrap();
    saved.tensors.insert("model.layers.7.bias".into(), bias);
    saved.tensors.get_mut("model.norm.weight").unwrap().0 = vec![3, 4];
    saved.write("model.safetensors", |_| true);
    let refusal = saved.refusal();
    for part in [
        "1 missing (model.layers.1.self_attn.q_proj.bias)",
        "1 of no use (model.layers.7.bias)",
        "model.norm.weight is [3, 4] and should be [12]",
        "fetch both again",
    ] {
        assert!(refusal.contains(part), "{refusal}");
    }
    let a = &kinds()[0];
    let mut file = gguf(a, &random(Decoder::of(a.clone()).parameters()));
    file.tensors.pop();
    file.tensors[3].0 = "blk.0.attn_qq.weight".into();
    let refusal = super::tests::refusal(&put(saved.folder.path(), &file));
    assert!(refusal.contains("missing (blk.0.attn_k.weight, output_norm.weight)"), "{refusal}");
    assert!(refusal.contains("1 of no use (blk.0.attn_qq.weight)"), "{refusal}");
}

#[test]
fn masks_and_copies_of_old_files_are_passed_over() {
    let mut saved = Saved::new(kinds()[2].clone());
    let whole = Checkpoint::load(saved.folder.path()).unwrap();
    saved.tensors = std::mem::take(&mut saved.tensors)
        .into_iter()
        .map(|(name, tensor)| (name.strip_prefix("transformer.").unwrap_or(&name).to_owned(), tensor))
        .collect();
    let copy = saved.tensors["wte.weight"].clone();
    saved.tensors.insert("lm_head.weight".into(), copy);
    saved.tensors.insert("h.0.attn.bias".into(), (vec![1, 1], vec![0; 4]));
    saved.write("model.safetensors", |_| true);
    assert!(Checkpoint::load(saved.folder.path()).unwrap().parameters == whole.parameters);
}

#[test]
fn what_would_change_the_computation_is_refused_by_name() {
    let says = |a: &Architecture, field: &str, value: Value, expected: &str| {
        let saved = Saved::new(a.clone());
        saved.edit("config.json", |json| json[field] = value.clone());
        let refusal = saved.refusal();
        assert!(refusal.contains("config.json") && refusal.contains(expected), "{refusal}");
    };
    let [llama, qwen2, gpt2] = &kinds()[..] else { unreachable!("three kinds") };
    says(llama, "model_type", "mamba".into(), "the architecture mamba is not supported");
    says(llama, "hidden_act", "relu".into(), "hidden_act = \"relu\"");
    says(llama, "attention_bias", true.into(), "attention_bias = true");
    says(llama, "rope_scaling", serde_json::json!({ "rope_type": "yarn" }), "rotary scaling of type yarn");
    says(llama, "quantization_config", serde_json::json!({}), "a quantised folder");
    says(llama, "hidden_size", Value::Null, "field hidden_size: missing");
    says(llama, "hidden_size", (-3).into(), "-3, which is of the wrong kind");
    says(llama, "num_hidden_layers", (1_u64 << 60).into(), "field layers: 1152921504606846976");
    says(llama, "num_key_value_heads", 2.into(), "3 heads on 2 key and value heads");
    says(llama, "rms_norm_eps", 0.into(), "norm_epsilon: 0");
    says(qwen2, "use_sliding_window", true.into(), "use_sliding_window");
    says(gpt2, "activation_function", "gelu".into(), "activation_function = \"gelu\"");
    says(gpt2, "n_embd", 13.into(), "head");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let small = Architecture { vocabulary: 200, ..kinds()[0].clone() };
    let saved = Saved::new(small);
    let refusal = saved.refusal();
    assert!(refusal.contains("258 tokens, where the model's embedding has 200 rows"), "{refusal}");

    let a = &kinds()[0];
    let says = |change: &dyn Fn(&mut TestFile), expected: &str| {
        let mut file = gguf(a, &random(Decoder::of(a.clone()).parameters()));
        change(&mut file);
        let refusal = super::tests::refusal(&put(saved.folder.path(), &file));
        assert!(refusal.contains("model.gguf") && refusal.contains(expected), "{refusal}");
    };
    let replace = |file: &mut TestFile, key: &str, with: TestFile| {
        file.keys.retain(|(name, _)| name != key);
        file.keys.extend(with.keys);
    };
    let new = TestFile::default;
    says(&|f| replace(f, "tokenizer.ggml.pre", new()), "tokenizer.ggml.pre: missing");
    says(
        &|f| replace(f, "tokenizer.ggml.pre", new().text("tokenizer.ggml.pre", "viking")),
        "\"viking\" to cut",
    );
    says(
        &|f| replace(f, "tokenizer.ggml.model", new().text("tokenizer.ggml.model", "llama")),
        "of kind llama",
    );
    says(
        &|f| replace(f, "tokenizer.ggml.merges", new().texts("tokenizer.ggml.merges", &["t", "h"])),
        "the merge \"t\" has no two parts",
    );
    says(
        &|f| replace(f, "tokenizer.ggml.merges", new().texts("tokenizer.ggml.merges", &["x yz"])),
        "out of vocabulary",
    );
    says(
        &|f| replace(f, "tokenizer.ggml.eos_token_id", new().number("tokenizer.ggml.eos_token_id", 258)),
        "eos_token_id is 258 and there are 258 tokens",
    );
    says(&|f| replace(f, "general.architecture", new().text("general.architecture", "rwkv7")), "rwkv7");
}

#[test]
fn harmful_safetensors_headers_are_refused() {
    let saved = Saved::new(kinds()[0].clone());
    let path = saved.folder.path().join("model.safetensors");
    let good = fs::read(&path).unwrap();
    let says = |bytes: &[u8], expected: &str| {
        fs::write(&path, bytes).unwrap();
        let refusal = saved.refusal();
        assert!(refusal.contains("model.safetensors") && refusal.contains(expected), "{refusal}");
    };
    says(&good[..5], "the file of 5 bytes ends here");
    says(&good[..good.len() - 1], "the tensors: they take");
    says(&[&good[..], &[0]].concat(), "the tensors: they take");
    for huge in [u64::MAX, 1 << 40, good.len() as u64 - 7] {
        says(&[&huge.to_le_bytes()[..], &good[8..]].concat(), "the header's length");
    }
    let with_header = |header: &str| [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let tensor = |offsets: &str, shape: &str| {
        with_header(&format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#))
    };
    says(&tensor("[0, 18446744073709551615]", "[1]"), "no table of tensors");
    says(&tensor("[4, 8]", "[1]"), "no table of tensors");
    says(&tensor("[0, 4]", "[4294967296, 4294967296, 4294967296]"), "no table of tensors");
    says(&tensor("[0, 4]", "[1]"), "the tensors: they take 4 bytes, where 0 follow");
    says(&with_header("[[[["), "no table of tensors");
    fs::remove_file(&path).unwrap();
    assert!(saved.refusal().contains("model.safetensors"));
    fs::write(saved.folder.path().join("pytorch_model.bin"), b"pickle").unwrap();
    assert!(saved.refusal().contains("a pickled checkpoint"), "{}", saved.refusal());
}

#[test]
fn whatever_stands_in_the_files_loading_answers() {
    let a = &kinds()[0];
    let parameters = random(Decoder::of(a.clone()).parameters());
    let saved = Saved::new(a.clone());
    let tensors = saved.folder.path().join("model.safetensors");
    let gguf_bytes = gguf(a, &parameters).bytes();
    let tensor_bytes = fs::read(&tensors).unwrap();
    // the headers: numbers behind them may be anything
    let tensor_header = 8 + u64::from_le_bytes(tensor_bytes[..8].try_into().unwrap());
    let gguf_header = gguf_bytes.len() as u64 - 4 * parameters.len() as u64;
    let mut stream = Stream::new(12, 0);
    let mut spoil = |bytes: &[u8], header: u64| {
        let mut bytes = bytes.to_vec();
        let at = stream.below(header) as usize;
        bytes[at] = stream.below(256) as u8;
        bytes
    };
    let gguf_path = saved.folder.path().join("model.gguf");
    for _ in 0..400 {
        fs::write(&gguf_path, spoil(&gguf_bytes, gguf_header)).unwrap();
        let _ = Checkpoint::load(&gguf_path);
        fs::write(&tensors, spoil(&tensor_bytes, tensor_header)).unwrap();
        let _ = Checkpoint::load(saved.folder.path());
    }
}

#[test]
fn a_text_is_a_function_of_prompt_and_seed() {
    let a = &kinds()[0];
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), &gguf(a, &random(Decoder::of(a.clone()).parameters())));
    let model = Checkpoint::load(&path).unwrap();
    let write = |choice, threads| generate(&model, "the", 12, choice, threads, &mut |_| ()).unwrap();
    let sample = |seed| Choice::Sample { temperature: 1.5, top_p: 0.95, seed };
    assert_eq!(write(sample(1), 1), write(sample(1), 2));
    assert_ne!(write(sample(1), 1).tokens, write(sample(2), 1).tokens);
    // greedy: each token is the likeliest after all before it
    let greedy = write(Choice::Greedy, 1);
    let all = [&model.tokenizer.encode("the").unwrap()[..], &greedy.tokens].concat();
    let rows: Vec<u32> = (greedy.prompt_tokens as u32 - 1..all.len() as u32 - 1).collect();
    let batch = Batch { targets: vec![0; rows.len()], rows, lengths: vec![all.len()], tokens: all };
    let logits = model.decoder.logits(&model.parameters, &batch, &mut model.decoder.workspace()).to_vec();
    for (row, &token) in logits.chunks_exact(258).zip(&greedy.tokens) {
        assert!(row.iter().all(|&l| l <= row[token as usize]));
    }
    // the context ends a text, a prompt beyond it is refused
    let mut texts = (0..50).map(|seed| generate(&model, "the", 99, sample(seed), 1, &mut |_| ()).unwrap());
    let long = texts.find(|text| text.stop == StopReason::Context).expect("one of fifty texts grows so long");
    assert_eq!(long.prompt_tokens + long.tokens.len(), 33);
    let error = generate(&model, &"x".repeat(33), 1, Choice::Greedy, 1, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("this model reads 1 to 32"), "{error}");
}

#[test]
fn the_loss_of_texts_is_the_mean_over_all_their_tokens() {
    let a = &kinds()[0];
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), &gguf(a, &random(Decoder::of(a.clone()).parameters())));
    let model = Checkpoint::load(&path).unwrap();
    let texts = ["the cat sat", "x", "on 12 mats"];
    let loss = text_loss(&model, texts.iter().map(|t| Ok((*t).to_owned())), 1, &mut |_| ()).unwrap();
    let (mut sum, mut count) = (0.0, 0);
    for text in texts {
        let ids = model.tokenizer.encode(text).unwrap();
        let n = ids.len() - 1;
        if n > 0 {
            let batch = Batch {
                tokens: ids[..n].to_vec(),
                lengths: vec![n],
                rows: (0..n as u32).collect(),
                targets: ids[1..].to_vec(),
            };
            let losses = model.decoder.row_losses(&model.parameters, &batch, &mut model.decoder.workspace());
            sum += losses.iter().sum::<f64>();
            count += n;
        }
    }
    assert_eq!((loss.tokens, loss.texts), (count as u64, 3));
    // sums of f32 logits in stacks of different height
    assert!((loss.mean - sum / count as f64).abs() < 1e-5, "{} {}", loss.mean, sum / count as f64);
}
