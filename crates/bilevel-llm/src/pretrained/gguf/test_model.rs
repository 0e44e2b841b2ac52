//! Whole models as GGUF files for tests.

use super::test_file::TestFile;
use crate::{
    model::{Architecture, Decoder, Family},
    tokenizer::byte_letter,
};

/// Bytes, the pair `th`, and one special token.
fn tokens() -> Vec<String> {
    (0..=255).map(|b| byte_letter(b).to_string()).chain(["th".into(), "<|end|>".into()]).collect()
}

/// A GGUF file with this architecture, made without the code that reads it.
pub fn gguf(a: &Architecture, parameters: &[f32]) -> TestFile {
    let name = a.family.name();
    let key = |part: &str| format!("{name}.{part}");
    let s = &a.sizes;
    let texts = tokens();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut kinds = vec![1; 258];
    kinds[257] = 3;
    let epsilon = if a.family == Family::Gpt2 { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    let mut file = TestFile::default()
        .text("general.architecture", name)
        .number(&key("block_count"), s.layers as u32)
        .number(&key("embedding_length"), s.width as u32)
        .number(&key("attention.head_count"), s.heads as u32)
        .number(&key("attention.head_count_kv"), s.kv_heads as u32)
        .number(&key("feed_forward_length"), s.ffn as u32)
        .number(&key("context_length"), s.context as u32)
        .float(&key("rope.freq_base"), s.rope_base as f32)
        .float(&key(&format!("attention.{epsilon}")), a.norm_epsilon as f32)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .texts("tokenizer.ggml.tokens", &texts)
        .numbers("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", &["t h"])
        .number("tokenizer.ggml.eos_token_id", 257)
        .text("tokenizer.chat_template", "{{ messages[0].content }}{{ eos_token }}");
    for tensor in Decoder::of(a.clone()).tensors() {
        let mut name = tensor.name.replace("model.layers.", "blk.").replace("transformer.h.", "blk.");
        for (from, to) in [
            ("model.embed_tokens", "token_embd"),
            ("transformer.wte", "token_embd"),
            ("transformer.wpe", "position_embd"),
            ("model.norm", "output_norm"),
            ("transformer.ln_f", "output_norm"),
            ("lm_head", "output"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("ln_1", "attn_norm"),
            ("ln_2", "ffn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("attn.c_attn", "attn_qkv"),
            ("attn.c_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
            ("mlp.c_fc", "ffn_up"),
            ("mlp.c_proj", "ffn_down"),
        ] {
            name = name.replace(from, to);
        }
        let mut values = parameters[tensor.range.clone()].to_vec();
        let mut shape = tensor.shape.clone();
        if tensor.is_transposed {
            shape.reverse();
        }
        if a.family == Family::Llama && (name.contains("attn_q") || name.contains("attn_k")) {
            // row 2i of a head is its row i, row 2i + 1 its row i + half
            let (width, half) = (shape[1], a.head_size / 2);
            let row = |r: usize| {
                let (head, r) = (r / a.head_size, r % a.head_size);
                let from = head * a.head_size + r / 2 + (r % 2) * half;
                &parameters[tensor.range.start + from * width..][..width]
            };
            values = (0..shape[0]).flat_map(row).copied().collect();
        }
        file = file.tensor(&name, &shape, &values);
    }
    file
}
