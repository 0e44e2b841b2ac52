//! Small, sound files of each kind that comes from elsewhere: what the tests spoil, and where the fuzz targets begin.

use std::path::Path;

use bilevel_llm::{
    model::{Architecture, Decoder, Family, ModelSizes},
    pretrained::save,
    recipe::TokenizerSpec,
    tokenizer::Tokenizer,
};

#[path = "../../src/pretrained/gguf/test_file.rs"]
mod test_file;

pub use test_file::TestFile;

/// The letters of the 256 bytes in byte-level vocabularies.
fn letters() -> Vec<String> {
    let printable = |b: u32| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut free = 0x100;
    (0..256)
        .map(|b| {
            let letter = if printable(b) { b } else { free };
            free += u32::from(!printable(b));
            char::from_u32(letter).expect("letters below U+0200").to_string()
        })
        .collect()
}

/// A model of one block with every key that it needs, a token for each byte, and every number ½.
pub fn gguf(family: Family) -> TestFile {
    let letters = letters();
    let tokens: Vec<&str> = letters.iter().map(String::as_str).chain(["th", "<|end|>"]).collect();
    gguf_of(family, &tokens, (4, 2, 6), None)
}

/// The same with these tokens, of which the last is special and ends a text, and with these sizes: width, size of each of two
/// heads, feed-forward width. Matrices whose rows are made of whole blocks are in `blocks`, a format's number in the file with
/// the numbers and the bytes of a block.
pub fn gguf_of(
    family: Family,
    tokens: &[&str],
    (width, head, ffn): (usize, usize, usize),
    blocks: Option<(u32, usize, usize)>,
) -> TestFile {
    let name = family.name();
    let key = |part: &str| format!("{name}.{part}");
    let epsilon = if family == Family::Gpt2 { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    let key_heads = if family == Family::Gpt2 { 2 } else { 1 };
    let mut kinds = vec![1; tokens.len()];
    kinds[tokens.len() - 1] = 3;
    let mut file = TestFile::default()
        .text("general.architecture", name)
        .number(&key("block_count"), 1)
        .number(&key("embedding_length"), width as u32)
        .number(&key("attention.head_count"), 2)
        .number(&key("attention.head_count_kv"), key_heads as u32)
        .number(&key("attention.key_length"), head as u32)
        .number(&key("feed_forward_length"), ffn as u32)
        .number(&key("context_length"), 16)
        .float(&key(&format!("attention.{epsilon}")), 1e-5)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .texts("tokenizer.ggml.tokens", tokens)
        .numbers("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", &["t h"])
        .number("tokenizer.ggml.eos_token_id", tokens.len() as u32 - 1)
        .text("tokenizer.chat_template", "{{ messages[0].content }}");
    let (queries, keys) = (2 * head, key_heads * head);
    let vocabulary = tokens.len();
    let tensors: &[(&str, &[usize])] = match family {
        Family::Llama | Family::Qwen2 => &[
            ("token_embd.weight", &[vocabulary, width]),
            ("blk.0.attn_norm.weight", &[width]),
            ("blk.0.attn_q.weight", &[queries, width]),
            ("blk.0.attn_k.weight", &[keys, width]),
            ("blk.0.attn_v.weight", &[keys, width]),
            ("blk.0.attn_output.weight", &[width, queries]),
            ("blk.0.ffn_norm.weight", &[width]),
            ("blk.0.ffn_gate.weight", &[ffn, width]),
            ("blk.0.ffn_up.weight", &[ffn, width]),
            ("blk.0.ffn_down.weight", &[width, ffn]),
            ("output_norm.weight", &[width]),
        ],
        Family::Gpt2 => &[
            ("token_embd.weight", &[vocabulary, width]),
            ("position_embd.weight", &[16, width]),
            ("blk.0.attn_norm.weight", &[width]),
            ("blk.0.attn_norm.bias", &[width]),
            ("blk.0.attn_qkv.weight", &[3 * width, width]),
            ("blk.0.attn_qkv.bias", &[3 * width]),
            ("blk.0.attn_output.weight", &[width, width]),
            ("blk.0.attn_output.bias", &[width]),
            ("blk.0.ffn_norm.weight", &[width]),
            ("blk.0.ffn_norm.bias", &[width]),
            ("blk.0.ffn_up.weight", &[ffn, width]),
            ("blk.0.ffn_up.bias", &[ffn]),
            ("blk.0.ffn_down.weight", &[width, ffn]),
            ("blk.0.ffn_down.bias", &[width]),
            ("output_norm.weight", &[width]),
            ("output_norm.bias", &[width]),
        ],
    };
    let biases: &[(&str, &[usize])] = match family {
        Family::Qwen2 => &[
            ("blk.0.attn_q.bias", &[queries]),
            ("blk.0.attn_k.bias", &[keys]),
            ("blk.0.attn_v.bias", &[keys]),
        ],
        Family::Llama | Family::Gpt2 => &[],
    };
    for (name, shape) in tensors.iter().chain(biases) {
        let numbers: usize = shape.iter().product();
        file = file.tensor(name, shape, &vec![0.5; numbers]);
        let Some((number, block, bytes)) = blocks else { continue };
        if shape.len() > 1 && shape[1].is_multiple_of(block) {
            let (_, _, format, values) = file.tensors.last_mut().expect("a tensor was added");
            (*format, *values) = (number, vec![1; numbers / block * bytes]);
        }
    }
    file
}

/// A folder in the Hugging Face layout, of one block and every number ½.
pub fn hugging_face(folder: &Path, family: Family) {
    let kv_heads = if family == Family::Gpt2 { 2 } else { 1 };
    let sizes = ModelSizes { layers: 1, width: 4, heads: 2, kv_heads, ffn: 6, context: 16, rope_base: 1e4 };
    let tokenizer = Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).expect("bytes");
    let architecture = Architecture { family, ..Architecture::llama(sizes, tokenizer.vocabulary()) };
    let decoder = Decoder::of(architecture);
    let parameters = vec![0.5; decoder.parameters()];
    save(folder, &decoder, &parameters, &tokenizer, None).expect("a folder can be written");
}

/// A recipe with a key of each kind.
pub const RECIPE: &str = r#"
[run]
budget = 1000
seeds = [1, 2]
out = "runs/a"
[data]
deduplicate = "near"
similarity = 0.7
[[source]]
name = "a"
path = ["a.jsonl", "b.txt"]
prompt = "q"
response = "r"
skip = 3
[[source]]
name = "b"
path = "b.jsonl"
template = "{x}"
response = "r"
[validation]
path = "v.jsonl"
take = 10
[test]
path = "t.jsonl"
[evaluate]
exact_match = 3
answer = "boxed"
[model]
layers = 2
width = 16
heads = 2
[tokenizer]
kind = "bpe"
vocabulary = 300
[reweight]
methods = ["hg-ms", "uniform"]
step = { reach = 2.0 }
damping = 0.5
initial = { a = 0.5, b = 0.5 }
"#;
