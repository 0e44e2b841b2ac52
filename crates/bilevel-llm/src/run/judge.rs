//! What a retrained model is asked beside its losses on the target.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    Prepared,
    checkpoint::Store,
    kept::{ChainResult, Judgement},
};
use crate::{
    answer::{agree, extract, is_complete},
    error::ReweightError,
    eval::{Scores, estimate_mean, score},
    model::Weights,
    pretrained::{Choice, Continuation, Next, continue_each},
    result::{Estimate, Evaluation, ExactMatch},
    source::Dataset,
};

/// The judgement of a finished chain: the one that was kept, or a new one where none was or another was asked for; a new one is
/// kept.
///
/// # Errors
/// As [`judge`], and when files cannot be read or written.
pub fn kept_or_judged(
    prepared: &Prepared,
    store: &Store,
    name: &str,
    y: &[f32],
    interrupt: &AtomicBool,
) -> Result<Judgement, ReweightError> {
    let kept = store.recall_judgement(name)?;
    if let Some(kept) = kept.filter(|kept| kept.asked == prepared.setting.recipe.evaluate) {
        return Ok(kept);
    }
    let judgement = judge(prepared, prepared.setting.trained.weights(y), interrupt)?;
    prepared.setting.require_device()?;
    store.remember_judgement(name, &judgement)?;
    Ok(judgement)
}

/// Judges a model.
///
/// # Errors
/// When the tokenizer fails on its own tokens, or the run is interrupted.
pub fn judge(
    prepared: &Prepared,
    weights: Weights<'_, f32>,
    interrupt: &AtomicBool,
) -> Result<Judgement, ReweightError> {
    let setting = &prepared.setting;
    let (decoder, spec) = (&setting.decoder, &setting.recipe.evaluate);
    let mut out = Judgement { asked: *spec, ..Judgement::default() };
    if !prepared.held_out.is_empty() {
        let mut work = setting.workspace();
        let of = |set: &Dataset| score(decoder, weights, set, set.len(), &mut work);
        out.sources = prepared.held_out.iter().map(of).collect();
    }
    let tokenizer = &prepared.tokenizer;
    let (mut questions, mut expected) = (Vec::new(), Vec::new());
    for i in 0..setting.test.len().min(spec.exact_match) {
        let (question, reference) = setting.test.question_and_answer(i);
        let reference = tokenizer.decode(&reference)?;
        match extract(spec.answer, &reference).filter(|_| !question.is_empty()) {
            Some(answer) => {
                questions.push(question);
                expected.push(answer.to_owned());
            }
            None => out.left_out += 1,
        }
    }
    let mut failed = None;
    let texts = continue_each((decoder, weights), questions, &answering(prepared), &mut |_, tokens| {
        if interrupt.load(Ordering::Relaxed) {
            failed = Some(ReweightError::Interrupted { out: setting.recipe.run.out.clone() });
            return Next::EndAll;
        }
        match tokenizer.decode(tokens) {
            Ok(text) if is_complete(spec.answer, &text) => Next::End,
            Ok(_) => Next::GoOn,
            Err(error) => {
                failed = Some(error);
                Next::EndAll
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    for ((tokens, _), expected) in texts.iter().zip(&expected) {
        let text = tokenizer.decode(tokens)?;
        let answer = extract(spec.answer, &text);
        out.answers.push((answer.is_some_and(|a| agree(spec.answer, a, expected)), answer.is_some()));
    }
    Ok(out)
}

/// How a model answers.
fn answering(prepared: &Prepared) -> Continuation {
    Continuation {
        end: prepared.tokenizer.end(),
        most: prepared.setting.recipe.evaluate.max_tokens,
        choice: Choice::Greedy,
        threads: 1,
    }
}

/// Numbers that a model keeps while it answers.
pub fn answering_numbers(prepared: &Prepared) -> u64 {
    let setting = &prepared.setting;
    let asked = setting.test.len().min(setting.recipe.evaluate.exact_match);
    answering(prepared).numbers(&setting.decoder, asked, setting.context)
}

/// For each model a 1 for every right answer and a 0 for every wrong one, in the order of the test examples.
pub fn right_answers(judged: &[&Judgement]) -> Vec<Vec<f64>> {
    judged
        .iter()
        .map(|j| j.answers.iter().map(|(is_right, _)| f64::from(u8::from(*is_right))).collect())
        .collect()
}

/// The models of a method over all seeds.
pub fn summarise(chains: &[&ChainResult], judged: &[&Judgement]) -> Evaluation {
    let asked = judged[0].answers.len();
    let share = |of: fn(&(bool, bool)) -> bool, judgement: &Judgement| {
        judgement.answers.iter().filter(|a| of(a)).count() as f64 / asked as f64
    };
    let exact_match = (asked > 0).then(|| {
        let right = right_answers(judged);
        let ones = vec![1.0; asked];
        let seeds: Vec<(&[f64], &[f64])> = right.iter().map(|right| (&right[..], &ones[..])).collect();
        ExactMatch {
            share: estimate_mean(&seeds),
            seeds: judged.iter().map(|j| share(|a| a.0, j)).collect(),
            examples: asked as u64,
            left_out: judged[0].left_out,
            unanswered: judged.iter().map(|j| share(|a| !a.1, j)).sum::<f64>() / judged.len() as f64,
        }
    });
    let scores: Vec<&Scores> = chains.iter().map(|chain| &chain.scores).collect();
    let source_losses = (0..judged[0].sources.len())
        .map(|i| {
            let scores: Vec<&Scores> = judged.iter().map(|j| &j.sources[i]).collect();
            (!scores[0].sums.is_empty()).then(|| estimate_scores(&scores))
        })
        .collect();
    Evaluation { test_loss: estimate_scores(&scores), source_losses, exact_match }
}

fn estimate_scores(scores: &[&Scores]) -> Estimate {
    let counts: Vec<Vec<f64>> =
        scores.iter().map(|s| s.counts.iter().map(|&count| count as f64).collect()).collect();
    let seeds: Vec<(&[f64], &[f64])> =
        scores.iter().zip(&counts).map(|(s, counts)| (&s.sums[..], &counts[..])).collect();
    estimate_mean(&seeds)
}
