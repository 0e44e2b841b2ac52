//! How a mixture is judged: test losses of retrained models, compared example by example.

use bilevel::rng::Stream;
use serde::{Deserialize, Serialize};

use crate::{
    model::{Decoder, Weights, Workspace},
    recipe::Method,
    result::{Comparison, Estimate, ExactMatchDifference, Verdict},
    source::Dataset,
};

/// Losses of a model on every example of a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Sum of the cross-entropies of each example, nats.
    pub sums: Vec<f64>,
    /// Tokens under the loss of each example.
    pub counts: Vec<u64>,
    /// Tokens whose most likely prediction is right.
    pub hits: u64,
    /// Tokens that went through the model.
    pub tokens: u64,
}

impl Scores {
    /// Mean loss in nats per token under the loss.
    pub fn mean(&self) -> f64 {
        self.sums.iter().sum::<f64>() / self.counts.iter().sum::<u64>() as f64
    }
    /// Share of right predictions.
    pub fn accuracy(&self) -> f64 {
        self.hits as f64 / self.counts.iter().sum::<u64>() as f64
    }
}

/// Examples that go through the model at once.
pub(crate) const AT_ONCE: usize = 16;

/// Scores the first `limit` examples of a data set.
pub fn score<'y>(
    decoder: &Decoder,
    y: impl Into<Weights<'y, f32>>,
    set: &Dataset,
    limit: usize,
    work: &mut Workspace<f32>,
) -> Scores {
    let y = y.into();
    let mut scores = Scores::default();
    let n = set.len().min(limit);
    for start in (0..n).step_by(AT_ONCE) {
        let batch = set.batch(start..(start + AT_ONCE).min(n));
        let predictions = decoder.predictions(y, &batch, work);
        scores.hits += predictions.iter().map(|row| u64::from(row.is_likeliest)).sum::<u64>();
        let mut rows = batch.rows.iter().zip(&predictions).peekable();
        let mut end = 0;
        for &length in &batch.lengths {
            end += length;
            let (mut sum, mut count) = (0.0, 0);
            while let Some((_, prediction)) = rows.next_if(|(row, _)| (**row as usize) < end) {
                sum += prediction.loss;
                count += 1;
            }
            scores.sums.push(sum);
            scores.counts.push(count);
        }
        scores.tokens += batch.tokens.len() as u64;
    }
    scores
}

/// Resamples of the bootstrap: the 2.5 % quantile of 2000 is known to about 0.35 % of the mass.
const RESAMPLES: usize = 2000;

/// Compares two methods' models, paired by seed and by test example.
///
/// The standard error has two parts: from the test examples (bootstrap over examples of the mean difference over
/// seeds) and from the seeds (bootstrap over seeds, times √(n/(n − 1)), by which a bootstrap over n items is too
/// small). One seed has no second part, and no verdict.
pub fn compare(method: Method, baseline: Method, ours: &[&Scores], theirs: &[&Scores]) -> Comparison {
    let counts: Vec<f64> = ours[0].counts.iter().map(|&c| c as f64).collect();
    let of = |scores: &[&Scores]| scores.iter().map(|s| s.sums.clone()).collect::<Vec<_>>();
    let Paired { difference, standard_error, interval } = paired(&of(ours), &of(theirs), &counts, 0.0);
    let verdict = verdict(-difference, standard_error, ours.len());
    Comparison { method, baseline, difference, standard_error, interval, verdict, exact_match: None }
}

/// Compares the final answers of two methods' models, paired by seed and by example, as [`compare`] does the losses: a 1 for a right
/// answer and a 0 for a wrong one, for each seed and example. `None` when no example was asked.
///
/// Where the models differ on few examples, or on none, a bootstrap of these examples says that nothing is uncertain. The part of the
/// standard error from the examples is therefore at least 1/(n + 2), that of n examples without a difference under half an example
/// for either side (Agresti and Min, Statistics in Medicine 24, 2005).
pub fn compare_answers(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> Option<ExactMatchDifference> {
    let examples = ours[0].len();
    if examples == 0 {
        return None;
    }
    let least = 1.0 / (examples as f64 + 2.0);
    let Paired { difference, standard_error, interval } =
        paired(ours, theirs, &vec![1.0; examples], least * least);
    let verdict = verdict(difference, standard_error, ours.len());
    Some(ExactMatchDifference { difference, standard_error, interval, verdict })
}

/// A mean difference, its standard error, and its 95 % interval.
struct Paired {
    difference: f64,
    standard_error: f64,
    interval: (f64, f64),
}

/// The difference of sums over the sum of counts; each seed has a sum for every example. The variance from the examples is at least
/// `least`.
fn paired(ours: &[Vec<f64>], theirs: &[Vec<f64>], counts: &[f64], least: f64) -> Paired {
    let (seeds, examples) = (ours.len(), counts.len());
    let differences: Vec<Vec<f64>> =
        ours.iter().zip(theirs).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect()).collect();
    let mean = |s: &[usize], e: &[usize]| {
        let total: f64 = e.iter().map(|&j| counts[j]).sum();
        s.iter().map(|&i| e.iter().map(|&j| differences[i][j]).sum::<f64>()).sum::<f64>()
            / (s.len() as f64 * total)
    };
    let all_seeds: Vec<usize> = (0..seeds).collect();
    let all_examples: Vec<usize> = (0..examples).collect();
    let per_seed: Vec<f64> = all_seeds.iter().map(|&s| mean(&[s], &all_examples)).collect();
    let mut stream = Stream::new(0, 0x626f_6f74);
    let mut draw = |n: usize| -> Vec<usize> { (0..n).map(|_| stream.below(n as u64) as usize).collect() };
    let (mut by_examples, mut by_seeds, mut jointly) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RESAMPLES {
        let (s, e) = (draw(seeds), draw(examples));
        by_examples.push(mean(&all_seeds, &e));
        by_seeds.push(s.iter().map(|&i| per_seed[i]).sum::<f64>() / seeds as f64);
        jointly.push(mean(&s, &e));
    }
    let n = seeds as f64;
    let from_seeds = if seeds > 1 { variance(&by_seeds) * n / (n - 1.0) } else { 0.0 };
    jointly.sort_by(f64::total_cmp);
    Paired {
        difference: mean(&all_seeds, &all_examples),
        standard_error: (variance(&by_examples).max(least) + from_seeds).sqrt(),
        interval: (jointly[RESAMPLES / 40], jointly[RESAMPLES - 1 - RESAMPLES / 40]),
    }
}

/// What may be said of an advantage.
fn verdict(advantage: f64, standard_error: f64, seeds: usize) -> Verdict {
    if seeds < 2 {
        Verdict::OneSeed
    } else if advantage > 2.0 * standard_error {
        Verdict::Better
    } else if advantage < -2.0 * standard_error {
        Verdict::Worse
    } else {
        Verdict::NoDifference
    }
}

/// A mean over examples and seeds, with its 95 % interval: the quantiles of a joint bootstrap over both, 2,000 resamples. Each
/// seed has a sum and a count for every example, and the mean is that of sums over counts.
pub fn estimate_mean(seeds: &[(&[f64], &[f64])]) -> Estimate {
    let mean = |s: &[usize], e: &[usize]| {
        let total = |of: &dyn Fn(usize, usize) -> f64| -> f64 {
            s.iter().map(|&i| e.iter().map(|&j| of(i, j)).sum::<f64>()).sum()
        };
        total(&|i, j| seeds[i].0[j]) / total(&|i, j| seeds[i].1[j])
    };
    let (n, examples) = (seeds.len(), seeds[0].0.len());
    let mut stream = Stream::new(0, 0x6d65_616e);
    let mut draw = |n: usize| -> Vec<usize> { (0..n).map(|_| stream.below(n as u64) as usize).collect() };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean(&draw(n), &draw(examples))).collect();
    means.sort_by(f64::total_cmp);
    let all: (Vec<usize>, Vec<usize>) = ((0..n).collect(), (0..examples).collect());
    Estimate {
        mean: mean(&all.0, &all.1),
        interval: (means[RESAMPLES / 40], means[RESAMPLES - 1 - RESAMPLES / 40]),
    }
}

fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64
}

/// Mean and standard deviation (of a sample; absent for one value).
pub fn spread(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.len() > 1)
        .then(|| (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
    (mean, sd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(shift: f64, noise_seed: u64) -> Scores {
        let mut stream = Stream::new(noise_seed, 0);
        let sums =
            (0..200).map(|i| 10.0 + f64::from(i % 7) + 5.0 * (shift + 0.1 * stream.normal())).collect();
        Scores { sums, counts: vec![5; 200], hits: 0, tokens: 0 }
    }

    #[test]
    fn a_shift_is_found_and_pairing_removes_what_examples_share() {
        let (a, b) = ([scores(-0.1, 1), scores(-0.1, 2)], [scores(0.0, 3), scores(0.0, 4)]);
        let result = compare(Method::HgMs, Method::Uniform, &a.each_ref(), &b.each_ref());
        assert_eq!(result.verdict, Verdict::Better);
        // two seeds of 200 examples with deviation 0.1·√2 each: 0.1·√2/√400 = 0.007, the examples' own spread gone
        assert!((result.difference + 0.1).abs() < 4.0 * 0.007, "{result:?}");
        assert!(result.standard_error < 0.02, "{result:?}");
        assert!(result.interval.0 < result.difference && result.difference < result.interval.1);
    }

    #[test]
    fn one_seed_gives_no_verdict_however_large_the_difference() {
        let result = compare(Method::HgMs, Method::Uniform, &[&scores(-1.0, 1)], &[&scores(0.0, 2)]);
        assert!(result.difference < -10.0 * result.standard_error, "{result:?}");
        assert_eq!(result.verdict, Verdict::OneSeed);
    }

    /// Answers of two seeds, of which these are right in both.
    fn right(examples: usize, of: impl Fn(usize) -> bool) -> Vec<Vec<f64>> {
        let one: Vec<f64> = (0..examples).map(|i| f64::from(u8::from(of(i)))).collect();
        vec![one.clone(), one]
    }

    #[test]
    fn answers_are_compared_example_by_example() {
        // of 100 examples ours has 0..40, theirs 10..30: 20 for us, none for them
        let (ours, theirs) = (right(100, |i| i < 40), right(100, |i| (10..30).contains(&i)));
        let result = compare_answers(&ours, &theirs).unwrap();
        assert!((result.difference - 0.2).abs() < 1e-12);
        // a share of 0.2 of 100: √(0.2 · 0.8 / 100) = 0.04, known to 1/√4000 from 2000 resamples
        assert!((result.standard_error / 0.04 - 1.0).abs() < 0.1, "{result:?}");
        assert!(result.interval.0 > 0.1 && result.interval.1 < 0.3, "{result:?}");
        assert_eq!(result.verdict, Verdict::Better);
        assert_eq!(compare_answers(&theirs, &ours).unwrap().verdict, Verdict::Worse);
        // unpaired shares of 0.4 and 0.2 would have √(0.24 + 0.16)/10 = 0.063
        assert!(result.standard_error < 0.05);
    }

    #[test]
    fn equal_answers_are_no_certainty_and_no_examples_no_comparison() {
        let all = right(8, |_| true);
        let result = compare_answers(&all, &all).unwrap();
        assert_eq!((result.difference, result.standard_error), (0.0, 0.1));
        assert_eq!(result.verdict, Verdict::NoDifference);
        assert_eq!(compare_answers(&[vec![]], &[vec![]]), None);
        assert_eq!(compare_answers(&all[..1], &right(8, |_| false)[..1]).unwrap().verdict, Verdict::OneSeed);
    }

    #[test]
    fn the_interval_of_a_mean_covers_it_as_often_as_it_says() {
        let mut covered = 0;
        for trial in 0..200 {
            let mut stream = Stream::new(trial, 9);
            let sums: Vec<f64> = (0..100).map(|_| 3.0 + stream.normal()).collect();
            let estimate = estimate_mean(&[(&sums, &[1.0; 100])]);
            let width = estimate.interval.1 - estimate.interval.0;
            // 2 · 1.96 / √100, a tenth off at most times
            assert!((width / 0.392 - 1.0).abs() < 0.4, "{width}");
            covered += u32::from(estimate.interval.0 < 3.0 && 3.0 < estimate.interval.1);
        }
        // 190 of 200 are expected, with a deviation of 3.1
        assert!((177..=200).contains(&covered), "{covered}");
    }

    #[test]
    fn the_mean_of_sums_weighs_examples_by_their_counts() {
        let (sums, counts) = ([2.0, 30.0], [1.0, 10.0]);
        let estimate = estimate_mean(&[(&sums, &counts), (&sums, &counts)]);
        assert_eq!(estimate.mean, 32.0 / 11.0);
        assert_eq!(estimate.interval, (2.0, 3.0));
    }

    #[test]
    fn noise_is_no_difference() {
        let (a, b) = (
            [scores(0.0, 1), scores(0.0, 2), scores(0.0, 5)],
            [scores(0.0, 3), scores(0.0, 4), scores(0.0, 6)],
        );
        let result = compare(Method::HgMs, Method::Uniform, &a.each_ref(), &b.each_ref());
        assert_eq!(result.verdict, Verdict::NoDifference, "{result:?}");
    }
}
