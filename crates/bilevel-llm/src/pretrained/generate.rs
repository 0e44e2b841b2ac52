//! Text from a model, token by token.

use bilevel::rng::Stream;

use super::Checkpoint;
use crate::{
    error::ReweightError,
    model::{Decoder, Sequence, Session, Weights},
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
    let mut texts = continue_each(
        (&model.decoder, (&model.parameters[..]).into()),
        vec![prompt_tokens],
        &Continuation { end: model.tokenizer.end(), most, choice, threads },
        &mut |_, tokens| {
            told(tokens[tokens.len() - 1]);
            Next::GoOn
        },
    );
    let (tokens, stop) = texts.remove(0);
    let text = model.tokenizer.decode(&tokens)?;
    Ok(Generation { tokens, text, prompt_tokens: count, stop })
}

/// How texts go on, and end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Continuation {
    /// The token that ends a text.
    pub end: u32,
    /// The most tokens after a beginning.
    pub most: usize,
    /// How each token is chosen.
    pub choice: Choice,
    /// Threads.
    pub threads: usize,
}

impl Continuation {
    /// Numbers that this many texts keep while they go on after beginnings of at most so many tokens.
    pub fn numbers(&self, decoder: &Decoder, texts: usize, beginning: usize) -> u64 {
        texts.min(AT_ONCE) as u64 * decoder.sequence_numbers(beginning + self.most)
    }
}

/// What becomes of a text after a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It goes on.
    GoOn,
    /// It ends here.
    End,
    /// All texts end here.
    EndAll,
}

/// Texts that go on at once. One text reads every weight of the model for each token, and so do many.
const AT_ONCE: usize = 16;

/// A text that grows.
struct Text {
    /// Which one.
    place: usize,
    sequence: Sequence<f32>,
    /// What was not yet read.
    unread: Vec<u32>,
    /// What came after the beginning.
    tokens: Vec<u32>,
}

/// What comes after each of these beginnings. `told` sees the place of a text and all its tokens after each.
///
/// A text ends with [`StopReason::Length`] where `told` ends it; those that had not begun by then stay empty.
///
/// # Panics
/// When a beginning is empty, or longer than the context.
pub(crate) fn continue_each(
    (decoder, weights): (&Decoder, Weights<'_, f32>),
    beginnings: Vec<Vec<u32>>,
    how: &Continuation,
    told: &mut dyn FnMut(usize, &[u32]) -> Next,
) -> Vec<(Vec<u32>, StopReason)> {
    let context = decoder.architecture.sizes.context;
    let mut session = Session::new(decoder, weights, how.threads);
    let mut texts: Vec<(Vec<u32>, StopReason)> =
        beginnings.iter().map(|_| (Vec::new(), StopReason::Length)).collect();
    let mut waiting = beginnings.into_iter().enumerate().filter(|_| how.most > 0);
    let mut running: Vec<Text> = Vec::new();
    loop {
        let begun = waiting.by_ref().take(AT_ONCE - running.len()).map(|(place, unread)| {
            let sequence = session.sequence((unread.len() + how.most).min(context));
            Text { place, sequence, unread, tokens: Vec::new() }
        });
        running.extend(begun);
        if running.is_empty() {
            return texts;
        }
        let mut news: Vec<_> =
            running.iter_mut().map(|text| (&mut text.sequence, &text.unread[..])).collect();
        let logits = session.read(&mut news);
        let mut is_over = false;
        let mut rows = logits.chunks_exact(decoder.architecture.vocabulary);
        running.retain_mut(|text| {
            let token = choose(rows.next().expect("a row for each text"), how.choice, text.tokens.len());
            let stop = if token == how.end {
                Some(StopReason::End)
            } else {
                text.tokens.push(token);
                text.unread = vec![token];
                let next = told(text.place, &text.tokens);
                is_over |= next == Next::EndAll;
                if next != Next::GoOn || text.tokens.len() == how.most {
                    Some(StopReason::Length)
                } else {
                    (text.sequence.len() == context).then_some(StopReason::Context)
                }
            };
            if let Some(stop) = stop {
                texts[text.place] = (std::mem::take(&mut text.tokens), stop);
            }
            stop.is_none()
        });
        if is_over {
            for text in running {
                texts[text.place].0 = text.tokens;
            }
            return texts;
        }
    }
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
    use crate::model::ModelSizes;

    /// Beginnings of two to nine tokens, more than go on at once.
    fn beginnings() -> Vec<Vec<u32>> {
        let beginning = |i: u32| (0..2 + i % 8).map(|t| (7 * i + 3 * t) % 31).collect();
        (0..2 * AT_ONCE as u32 + 5).map(beginning).collect()
    }

    fn model() -> (Decoder, Vec<f32>) {
        let sizes =
            ModelSizes { layers: 2, width: 12, heads: 3, kv_heads: 1, ffn: 10, context: 20, rope_base: 1e4 };
        let decoder = Decoder::new(sizes, 31);
        let mut stream = Stream::new(4, 0);
        let y = (0..decoder.parameters()).map(|_| 0.5 * stream.normal() as f32).collect();
        (decoder, y)
    }

    const HOW: Continuation = Continuation {
        end: 5,
        most: 13,
        choice: Choice::Sample { temperature: 2.0, top_p: 1.0, seed: 1 },
        threads: 1,
    };

    #[test]
    fn texts_go_on_together_as_they_do_alone() {
        let (decoder, y) = model();
        let of = |beginnings: Vec<Vec<u32>>, places: &[usize]| {
            continue_each((&decoder, (&y).into()), beginnings, &HOW, &mut |place, tokens| {
                // some texts are ended from outside
                if places[place].is_multiple_of(4) && tokens.len() == 3 { Next::End } else { Next::GoOn }
            })
        };
        let all = beginnings();
        let together = of(all.clone(), &(0..all.len()).collect::<Vec<_>>());
        for (i, beginning) in all.iter().enumerate() {
            assert_eq!(of(vec![beginning.clone()], &[i]), together[i..=i], "text {i}");
        }
        for stop in [StopReason::End, StopReason::Length, StopReason::Context] {
            assert!(together.iter().any(|text| text.1 == stop), "{stop:?}");
        }
        let long = |(beginning, text): (&Vec<u32>, &(Vec<u32>, StopReason))| {
            text.1 != StopReason::Context || beginning.len() + text.0.len() == 21
        };
        assert!(all.iter().zip(&together).all(long));
        assert!(together.iter().step_by(4).all(|text| text.0.len() <= 3));
    }

    #[test]
    fn all_texts_end_where_they_are_told_to() {
        let (decoder, y) = model();
        let mut told = 0;
        let texts = continue_each((&decoder, (&y).into()), beginnings(), &HOW, &mut |place, tokens| {
            told += 1;
            if (place, tokens.len()) == (3, 2) { Next::EndAll } else { Next::GoOn }
        });
        assert_eq!(texts.len(), 2 * AT_ONCE + 5);
        assert_eq!(texts[3].0.len(), 2);
        assert_eq!(texts.iter().map(|text| text.0.len()).sum::<usize>(), told);
        assert!(texts[AT_ONCE + 5..].iter().all(|text| text.0.is_empty()));
        let none = Continuation { most: 0, ..HOW };
        let texts = continue_each((&decoder, (&y).into()), beginnings(), &none, &mut |_, _| Next::GoOn);
        assert!(texts.iter().all(|text| *text == (Vec::new(), StopReason::Length)));
    }

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
