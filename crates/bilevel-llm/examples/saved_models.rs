//! Writes a small random model of each family as every model is saved, with its logits, tokens and chat beside it, for
//! `peers/python/transformers_reference.py`.
//!
//! `cargo run --release -p bilevel-llm --example saved_models -- FOLDER`

use std::{error::Error, fs, path::Path};

use bilevel::rng::Stream;
use bilevel_llm::{
    model::{Architecture, Batch, Decoder, Family, ModelSizes, RopeScaling},
    pretrained::{ChatTemplate, Checkpoint, Message, save},
    recipe::TokenizerSpec,
    tokenizer::Tokenizer,
};

const TEXT: &str = "3 × 4 = 12\n\tcafé 😀, it's";
const TEMPLATE: &str = "{% for m in messages %}\n{{ bos_token }}{{ m['role'] }}: {{ m['content'] | trim }}{{ eos_token }}\n{% endfor %}\n{% if add_generation_prompt %}assistant:{% endif %}";

/// What is saved, by name.
fn models() -> Vec<(&'static str, Architecture)> {
    let sizes =
        ModelSizes { layers: 3, width: 16, heads: 4, kv_heads: 2, ffn: 24, context: 64, rope_base: 5e4 };
    let llama = Architecture::llama(sizes, 258);
    let stretched = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context: 32.0,
    };
    vec![
        ("llama", llama.clone()),
        (
            "llama-3-scaled",
            Architecture { rope: stretched, head_size: 8, is_head_tied: false, ..llama.clone() },
        ),
        (
            "llama-linear",
            Architecture { rope: RopeScaling::Linear { factor: 2.5 }, norm_epsilon: 1e-3, ..llama.clone() },
        ),
        ("qwen2", Architecture { family: Family::Qwen2, is_head_tied: false, ..llama.clone() }),
        (
            "gpt2",
            Architecture {
                family: Family::Gpt2,
                sizes: ModelSizes { kv_heads: 4, rope_base: 1e4, ..sizes },
                ..llama
            },
        ),
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("give a folder")?;
    let tokenizer = Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>())?;
    let text = |token| tokenizer.text_of(token);
    let template = ChatTemplate {
        source: TEMPLATE.into(),
        begin: tokenizer.begin_token().and_then(text),
        end: text(tokenizer.end()),
    };
    for (name, architecture) in models() {
        let folder = Path::new(&folder).join(name);
        let decoder = Decoder::of(architecture);
        let mut stream = Stream::new(5, 0);
        // none is zero or one, so that biases and norms matter
        let parameters: Vec<f32> =
            (0..decoder.parameters()).map(|_| (0.3 * stream.normal() + 0.1) as f32).collect();
        save(&folder, &decoder, &parameters, &tokenizer, Some(&template))?;
        let model = Checkpoint::load(&folder)?;
        let tokens = model.tokenizer.encode(TEXT)?;
        let batch = Batch {
            rows: (0..tokens.len() as u32).collect(),
            targets: vec![0; tokens.len()],
            lengths: vec![tokens.len()],
            tokens: tokens.clone(),
        };
        let mut work = model.decoder.workspace();
        let logits = model.decoder.logits(&model.parameters, &batch, &mut work);
        let rows: Vec<&[f32]> = logits.chunks_exact(258).collect();
        let chat = model.chat_template.as_ref().ok_or("the template was not saved")?;
        let messages = [Message::new("user", " Hello. "), Message::new("assistant", "Yes?")];
        let chat = chat.render(&messages, true)?;
        let beside = serde_json::json!({ "text": TEXT, "tokens": tokens, "logits": rows, "chat": chat });
        fs::write(folder.join("expected.json"), beside.to_string())?;
    }
    Ok(())
}
