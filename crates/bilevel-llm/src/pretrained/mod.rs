//! Models that others trained: GGUF files and Hugging Face folders of Llama, Qwen2 and GPT-2 architecture.

mod chat;
pub(crate) mod error;
mod generate;
pub(crate) mod gguf;
mod hugging_face;
mod loss;
mod tensors;

use std::path::Path;

pub use chat::{ChatTemplate, Message};
pub use error::PretrainedError;
pub use generate::{Choice, Generation, StopReason, generate};
pub(crate) use generate::{Continuation, Next, continue_each};
pub use gguf::{Format, GgufFile, Header, HeaderError, TensorInfo, Value};
pub use hugging_face::save;
pub use loss::{TextLoss, text_loss};

use crate::{model::Decoder, tokenizer::Tokenizer};

/// A model read from files.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What it computes.
    pub decoder: Decoder,
    /// Its parameters, in the decoder's order.
    pub parameters: Vec<f32>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// How it wants conversations to be written, where it says so.
    pub chat_template: Option<ChatTemplate>,
}

impl Checkpoint {
    /// Reads a GGUF file, or the folder of a Hugging Face checkpoint. Every number becomes f32.
    ///
    /// # Errors
    /// When a file is missing, does not keep to its format, has tensors that are not the architecture's, or the
    /// architecture is not one that the decoder computes.
    pub fn load(path: &Path) -> Result<Self, PretrainedError> {
        Self::load_if(path, |_| Ok(()))
    }

    /// [`Checkpoint::load`], where `accept` is asked before any tensor is read, and may refuse a model by its shape.
    ///
    /// # Errors
    /// As `load`, and with what `accept` says.
    pub fn load_if<E: From<PretrainedError>>(
        path: &Path,
        accept: impl FnOnce(&Decoder) -> Result<(), E>,
    ) -> Result<Self, E> {
        let checkpoint =
            if path.is_dir() { hugging_face::load(path, accept)? } else { Self::load_gguf(path, accept)? };
        let (tokens, rows) = (checkpoint.tokenizer.vocabulary(), checkpoint.decoder.architecture.vocabulary);
        // embeddings may have rows to spare
        if tokens > rows {
            return Err(PretrainedError::Tokenizer {
                path: path.into(),
                detail: format!("{tokens} tokens, where the model's embedding has {rows} rows"),
                remedy: "the tokenizer belongs to another model: fetch both again".into(),
            }
            .into());
        }
        Ok(checkpoint)
    }

    fn load_gguf<E: From<PretrainedError>>(
        path: &Path,
        accept: impl FnOnce(&Decoder) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut file = GgufFile::open(path)?;
        let decoder = file.decoder()?;
        let tokenizer = file.tokenizer()?;
        let chat_template = file.chat_template(&tokenizer)?;
        accept(&decoder)?;
        let parameters = file.parameters(&decoder)?;
        Ok(Self { decoder, parameters, tokenizer, chat_template })
    }
}

#[cfg(test)]
mod tests;
