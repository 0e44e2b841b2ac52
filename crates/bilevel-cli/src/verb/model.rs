//! `bilevel model`

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::Result;
use bilevel_llm::{
    pretrained::{self, Checkpoint},
    recipe::{DataSpec, Paths},
    source::Reader,
};
use clap::Args;

use super::generate::threads;
use crate::{
    exit::Exit,
    output::{Output, bytes},
};

const EXAMPLES: &str = "\
Examples:
  bilevel model SmolLM2-135M-Instruct.Q4_1.gguf                       sizes, tokenizer, memory
  bilevel model model.gguf --save smollm2                             the same in the Hugging Face layout, in float32
  bilevel model model.gguf --loss gsm8k/test.jsonl --take 100         mean loss on the texts of a data file";

/// Look at a language model: what it is, how well it predicts a text; write it as transformers reads it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Model {
    /// A GGUF file, or a folder in the Hugging Face layout: Llama, Qwen2 or GPT-2
    #[arg(value_name = "MODEL")]
    path: PathBuf,
    /// Write it into this folder, in the Hugging Face layout
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Mean loss on the texts of this data file, prompts and responses together
    #[arg(long, value_name = "FILE")]
    loss: Option<PathBuf>,
    /// Only on so many records
    #[arg(long, value_name = "N", requires = "loss")]
    take: Option<u64>,
    /// Threads; the numbers do not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl Model {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let model = Checkpoint::load(&self.path)?;
        let a = &model.decoder.architecture;
        let s = &a.sizes;
        let parameters = model.decoder.parameters();
        let template = if model.chat_template.is_some() { "with" } else { "without" };
        let mut text = format!(
            "architecture {}: {} blocks of width {}, {} heads on {}, context {}\nparameters   {parameters}, {} in memory\ntokenizer    {} tokens, {template} chat template\n",
            a.family.name(),
            s.layers,
            s.width,
            s.heads,
            s.kv_heads,
            s.context,
            bytes(4.0 * parameters as f64),
            model.tokenizer.vocabulary(),
        );
        let mut json = serde_json::json!({
            "architecture": a.family.name(),
            "sizes": s,
            "vocabulary": a.vocabulary,
            "parameters": parameters,
            "is_head_tied": a.is_head_tied,
            "has_chat_template": model.chat_template.is_some(),
        });
        if let Some(path) = &self.loss {
            let loss = self.loss(&model, path, output)?;
            text += &format!(
                "loss         {:.4} nats a token, on {} tokens of {} texts\n",
                loss.mean, loss.tokens, loss.texts
            );
            json["loss"] = serde_json::to_value(loss)?;
        }
        if let Some(folder) = &self.save {
            let template = model.chat_template.as_ref();
            pretrained::save(folder, &model.decoder, &model.parameters, &model.tokenizer, template)?;
            text += &format!("saved in     {}\n", folder.display());
            json["saved"] = folder.display().to_string().into();
        }
        output.result(&text, &json)?;
        Ok(Exit::Done)
    }

    fn loss(&self, model: &Checkpoint, path: &Path, output: Output) -> Result<pretrained::TextLoss> {
        let spec = DataSpec { path: Paths::One(path.to_owned()), take: self.take, ..DataSpec::default() };
        let mut reader = Reader::new(&spec);
        let texts = reader.by_ref().map(|record| Ok(record?.into_iter().map(|piece| piece.text).collect()));
        let progress = output.progress(self.take.map(|n| n as f64));
        let loss = pretrained::text_loss(model, texts, threads(self.threads), &mut |texts| {
            progress.set(texts as f64, || format!("{texts} texts"));
        });
        progress.finish();
        let loss = loss?;
        reader.finish("--loss")?;
        Ok(loss)
    }
}
