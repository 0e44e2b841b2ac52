//! How well a model predicts texts.

use super::Checkpoint;
use crate::{
    error::ReweightError,
    model::{Batch, Workspace},
};

/// Longest piece of a text that is read at once, in tokens; attention to more would cost more than all the rest.
const WINDOW: usize = 1024;
/// Tokens of a batch.
const BATCH: usize = 2048;

/// Loss on texts.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct TextLoss {
    /// Mean of −log probability over all predicted tokens, in nats.
    pub mean: f64,
    /// Predicted tokens.
    pub tokens: u64,
    /// Texts.
    pub texts: u64,
}

/// Mean loss over every token of the texts but the first of each piece of at most 1,024 (or of the model's context).
/// What the model wants in front of every text stands there. `told` hears how many texts are done.
///
/// # Errors
/// When a text cannot be read, the tokenizer fails, a loss is not finite, or no token was predicted.
pub fn text_loss(
    model: &Checkpoint,
    texts: impl Iterator<Item = Result<String, ReweightError>>,
    threads: usize,
    told: &mut dyn FnMut(u64),
) -> Result<TextLoss, ReweightError> {
    let window = model.decoder.architecture.sizes.context.min(WINDOW);
    let mut work = model.decoder.workspace().with_threads(threads);
    let mut batch = Batch::default();
    let (mut sum, mut tokens, mut count) = (0.0, 0, 0);
    let add = |batch: &mut Batch, work: &mut Workspace<f32>, sum: &mut f64, tokens: &mut u64| {
        if !batch.rows.is_empty() {
            *sum += model.decoder.row_losses(&model.parameters, batch, work).iter().sum::<f64>();
            *tokens += batch.rows.len() as u64;
        }
        *batch = Batch::default();
    };
    for text in texts {
        let mut ids = model.tokenizer.prefix();
        ids.extend(model.tokenizer.encode(&text?)?);
        for piece in ids.chunks(window).filter(|piece| piece.len() > 1) {
            let first = batch.tokens.len() as u32;
            let inputs = &piece[..piece.len() - 1];
            batch.rows.extend(first..first + inputs.len() as u32);
            batch.tokens.extend(inputs);
            batch.targets.extend(&piece[1..]);
            batch.lengths.push(inputs.len());
            if batch.tokens.len() + window > BATCH {
                add(&mut batch, &mut work, &mut sum, &mut tokens);
            }
        }
        count += 1;
        told(count);
    }
    add(&mut batch, &mut work, &mut sum, &mut tokens);
    if tokens == 0 || !sum.is_finite() {
        return Err(ReweightError::Tokenizer {
            detail: format!("a loss of {sum} on {tokens} predicted tokens of {count} texts"),
            remedy: "give texts of at least two tokens, and a model with finite parameters".into(),
        });
    }
    Ok(TextLoss { mean: sum / tokens as f64, tokens, texts: count })
}
