//! `bilevel generate`

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::{Context, Result};
use bilevel_llm::pretrained::{Checkpoint, Choice, Message, generate};
use clap::Args;

use crate::{
    exit::{Exit, usage},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  bilevel generate --model SmolLM2-135M-Instruct.Q4_1.gguf --prompt 'The capital of France is'
  bilevel generate --model runs/demo/model --prompt 'Q: 3 + 4' --tokens 20
  bilevel generate --model model.gguf --chat --prompt 'Why is the sky blue?' --temperature 0.7 --top-p 0.9";

/// Let a language model go on after a prompt
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Generate {
    /// A GGUF file, or a folder in the Hugging Face layout: Llama, Qwen2 or GPT-2
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// What stands before the text
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Write the prompt as a message of the model's chat template
    #[arg(long)]
    chat: bool,
    /// At most so many tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    tokens: usize,
    /// Draw tokens, after the logits were divided by this; without, the likeliest token is taken
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "temperature")]
    top_p: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0, requires = "temperature")]
    seed: u64,
    /// Threads; the text does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl Generate {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let choice = self.choice()?;
        let model = Checkpoint::load(&self.model)?;
        let prompt = if self.chat {
            let template = model.chat_template.as_ref().with_context(|| {
                format!("{} has no chat template; leave --chat out", self.model.display())
            })?;
            template.render(&[Message::new("user", &self.prompt)], true)?
        } else {
            self.prompt.clone()
        };
        let progress = output.progress(Some(self.tokens as f64));
        let mut told = |_| progress.advance(1.0, String::new);
        let threads = threads(self.threads);
        let text = generate(&model, &prompt, self.tokens, choice, threads, &mut told);
        progress.finish();
        let text = text?;
        output.result(&text.text, &text)?;
        Ok(Exit::Done)
    }

    fn choice(&self) -> Result<Choice> {
        let Some(temperature) = self.temperature else { return Ok(Choice::Greedy) };
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(usage(format!(
                "--temperature is {temperature}; give a positive number, or leave it out for the likeliest token"
            )));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(usage(format!("--top-p is {}; give a number above 0 and at most 1", self.top_p)));
        }
        Ok(Choice::Sample { temperature, top_p: self.top_p, seed: self.seed })
    }
}

/// The threads that were asked for, or all that there are.
pub fn threads(asked: Option<NonZeroUsize>) -> usize {
    asked.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}
