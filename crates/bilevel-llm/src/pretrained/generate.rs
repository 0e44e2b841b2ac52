//! Text from a model, token by token.

use std::ops::ControlFlow;

use bilevel::rng::Stream;

use super::Checkpoint;
use crate::{
    error::ReweightError,
    model::{Decoder, Session, Weights},
};

/// Streams of generation among the purposes of a seed.
const PURPOSE: u64 = 0x6765_6e65_7261_7465;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The likeliest one; of equals the first.
    Greedy,
    /// One drawn from the likeliest tokens that together have probability `top_p` (Holtzman et al., arXiv 1904.09751), after
    /// the logits were divided by `temperature`.
    Sample {
        /// Above 0; 1 is the model's own distribution.
        temperature: f64,
        /// In (0, 1]; 1 draws from all tokens.
        top_p: f64,
        /// The draw of token number t is a function of seed and t.
        seed: u64,
    },
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// The model wrote its last token.
    End,
    /// As many tokens as were allowed.
    Length,
    /// The model reads no longer texts.
    Context,
}

/// A generated text.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Generation {
    /// The tokens after the prompt, without the last token of a text.
    pub tokens: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub stop: StopReason,
}

/// Goes on after a prompt for at most this many tokens. `told` sees each token as it comes.
///
/// # Errors
/// When the prompt is empty or longer than the model's context, or the tokenizer fails on it.
pub fn generate(
    model: &Checkpoint,
    prompt: &str,
    most: usize,
    choice: Choice,
    threads: usize,
    told: &mut dyn FnMut(u32),
) -> Result<Generation, ReweightError> {
    let mut prompt_tokens = model.tokenizer.prefix();
    prompt_tokens.extend(model.tokenizer.encode(prompt)?);
    let context = model.decoder.architecture.sizes.context;
    if prompt_tokens.is_empty() || prompt_tokens.len() > context {
        return Err(ReweightError::Tokenizer {
            detail: format!("the prompt has {} tokens", prompt_tokens.len()),
            remedy: format!("this model reads 1 to {context}: give a prompt of that length"),
        });
    }
    let count = prompt_tokens.len();
    let (tokens, stop) = continue_tokens(
        &model.decoder,
        (&model.parameters[..]).into(),
        &prompt_tokens,
        model.tokenizer.end(),
        most,
        choice,
        threads,
        &mut |tokens| {
            told(tokens[tokens.len() - 1]);
            ControlFlow::Continue(())
        },
    );
    let text = model.tokenizer.decode(&tokens)?;
    Ok(Generation { tokens, text, prompt_tokens: count, stop })
}

/// Tokens after these, until the token `end`, at most so many, or until `told`, which sees all of them after each, breaks.
///
/// # Panics
/// When there is no token, or more than the context holds.
#[expect(clippy::too_many_arguments, reason = "a model, where it begins, and how it goes on and ends")]
pub(crate) fn continue_tokens(
    decoder: &Decoder,
    weights: Weights<'_, f32>,
    from: &[u32],
    end: u32,
    most: usize,
    choice: Choice,
    threads: usize,
    told: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
) -> (Vec<u32>, StopReason) {
    let mut session = Session::new(decoder, weights, threads);
    let mut next = from.to_vec();
    let mut tokens = Vec::new();
    while tokens.len() < most {
        if session.len() + next.len() > decoder.architecture.sizes.context {
            return (tokens, StopReason::Context);
        }
        let token = choose(session.read(&next), choice, tokens.len());
        if token == end {
            return (tokens, StopReason::End);
        }
        tokens.push(token);
        next = vec![token];
        if told(&tokens).is_break() {
            return (tokens, StopReason::Length);
        }
    }
    (tokens, StopReason::Length)
}

/// The token after these logits; number `t` of the text.
fn choose(logits: &[f32], choice: Choice, t: usize) -> u32 {
    let best = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    let top = (0..logits.len()).fold(0, best);
    let Choice::Sample { temperature, top_p, seed } = choice else { return top as u32 };
    let weight = |i: usize| ((f64::from(logits[i]) - f64::from(logits[top])) / temperature).exp();
    let mut tokens: Vec<usize> = (0..logits.len()).collect();
    // stable, so that equals keep the order of the vocabulary
    tokens.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let all: f64 = tokens.iter().map(|&i| weight(i)).sum();
    let mut kept = 0;
    let mut mass = 0.0;
    while kept < tokens.len() && (kept == 0 || mass < top_p * all) {
        mass += weight(tokens[kept]);
        kept += 1;
    }
    // a stream for each token, so that a text does not depend on how long its draws are
    let at = mass * Stream::new(seed, PURPOSE.wrapping_add(t as u64)).uniform();
    let mut sum = 0.0;
    let drawn = tokens[..kept].iter().find(|&&i| {
        sum += weight(i);
        sum > at
    });
    *drawn.unwrap_or(&top) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, -1.0, 2.0, 1.0];

    fn counts(temperature: f64, top_p: f64) -> [f64; 5] {
        let mut counts = [0.0; 5];
        for seed in 0..20_000 {
            counts[choose(&LOGITS, Choice::Sample { temperature, top_p, seed }, 3) as usize] +=
                1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        assert_eq!(choose(&LOGITS, Choice::Greedy, 0), 1);
    }

    #[test]
    fn draws_have_the_probabilities_of_the_softmax() {
        let weights = LOGITS.map(|l| (f64::from(l) / 0.7).exp());
        let sum: f64 = weights.iter().sum();
        for (count, weight) in counts(0.7, 1.0).iter().zip(weights) {
            // four standard errors of 20,000 draws
            let p = weight / sum;
            assert!((count - p).abs() < 4.0 * (p * (1.0 - p) / 20_000.0).sqrt(), "{count} {p}");
        }
    }

    #[test]
    fn top_p_leaves_the_tail_out_and_never_everything() {
        // the softmax of two equals at the top is 0.38 each
        let half = counts(1.0, 0.5);
        assert_eq!((half[0], half[2], half[4]), (0.0, 0.0, 0.0));
        assert!((half[1] - 0.5).abs() < 0.015 && (half[1] + half[3] - 1.0).abs() < 1e-9);
        assert!((counts(1.0, 1e-9)[1] - 1.0).abs() < 1e-9);
    }
}
