//! Records that stand in the sources more than once.

use std::{collections::HashMap, num::NonZeroU32};

use super::{
    Record, fingerprint,
    words::{mix, runs, words},
};

/// Words of a run (a shingle).
const RUN: usize = 5;
/// Runs of numbers that must agree for two records to be compared, and numbers in each: a pair of similarity s is
/// compared with probability 1 − (1 − s⁶)²⁰, that is 0.998 at 0.8 and 0.92 at 0.7.
const BANDS: usize = 20;
const ROWS: usize = 6;
/// Records of a bucket that are compared, the latest first, so that a text that all records share cannot make the work
/// quadratic.
const COMPARED: usize = 32;

/// The records of all sources so far, for finding those that stand there already.
///
/// An *exact* duplicate has the same text with case and white space evened out. A *near* duplicate has a Jaccard
/// similarity of its sets of runs of five words (words and signs; see the note on punctuation in `words`) of at least
/// the given bound, estimated from 120 minima of random orders (MinHash; Broder, doi 10.1109/SEQUEN.1997.666900, as Lee
/// et al., arXiv 2107.06499, use it for training texts). The estimate has a standard error of √(s(1 − s)/120), at most
/// 0.046; pairs are found by 20 bands of 6 minima, which miss a pair of similarity 0.8 with probability 0.002, and at most
/// 32 records of each bucket are compared. Exact duplicates are always found.
///
/// The first record stays. Memory is some 50 bytes for each record that stays, and 1 KiB with near duplicates.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The source of each text, by the first half of its fingerprint.
    exact: HashMap<[u8; 16], u32>,
    near: Option<Near>,
}

impl Seen {
    /// Nothing seen; near duplicates have at least this similarity, and are not looked for without.
    pub fn new(similarity: Option<f64>) -> Self {
        Self { exact: HashMap::new(), near: similarity.map(Near::new) }
    }

    /// The source of an earlier record that this one repeats; when there is none, the record counts as seen, in `source`.
    pub fn repeats(&mut self, record: &Record, source: u32) -> Option<u32> {
        let mut print = [0; 16];
        print.copy_from_slice(&fingerprint(record)[..16]);
        if let Some(&earlier) = self.exact.get(&print) {
            return Some(earlier);
        }
        if let Some(near) = &mut self.near
            && let Some(earlier) = near.repeats(record, source)
        {
            return Some(earlier);
        }
        self.exact.insert(print, source);
        None
    }
}

#[derive(Clone, Debug)]
struct Near {
    /// Minima that must be equal.
    least: usize,
    /// The minima of each record, the upper half of their bits.
    minima: Vec<[u32; BANDS * ROWS]>,
    sources: Vec<u32>,
    /// The latest record of a bucket, from 1.
    latest: HashMap<u64, NonZeroU32>,
    /// For each record and band the record before it in the same bucket, from 1.
    before: Vec<[Option<NonZeroU32>; BANDS]>,
}

impl Near {
    fn new(similarity: f64) -> Self {
        Self {
            least: (similarity * (BANDS * ROWS) as f64).ceil() as usize,
            minima: Vec::new(),
            sources: Vec::new(),
            latest: HashMap::new(),
            before: Vec::new(),
        }
    }

    fn repeats(&mut self, record: &Record, source: u32) -> Option<u32> {
        let runs = runs(&words(record), RUN);
        // without a word there is nothing to compare
        if runs.is_empty() {
            return None;
        }
        let minima = minima(&runs);
        let buckets: [u64; BANDS] = std::array::from_fn(|band| {
            let rows = &minima[band * ROWS..(band + 1) * ROWS];
            rows.iter().fold(band as u64, |hash, &row| mix(hash ^ u64::from(row)))
        });
        for (band, bucket) in buckets.iter().enumerate() {
            let mut next = self.latest.get(bucket).copied();
            for _ in 0..COMPARED {
                let Some(number) = next else { break };
                let other = number.get() as usize - 1;
                let equal = self.minima[other].iter().zip(&minima).filter(|(a, b)| a == b).count();
                if equal >= self.least {
                    return Some(self.sources[other]);
                }
                next = self.before[other][band];
            }
        }
        self.minima.push(minima);
        self.sources.push(source);
        // records beyond 2³² cannot be numbered, and stay uncompared
        let number = u32::try_from(self.minima.len()).ok().and_then(NonZeroU32::new);
        self.before.push(std::array::from_fn(|band| match number {
            Some(number) => self.latest.insert(buckets[band], number),
            None => None,
        }));
        None
    }
}

/// The least number of the set in each of 120 random orders.
fn minima(runs: &[u64]) -> [u32; BANDS * ROWS] {
    std::array::from_fn(|order| {
        // the increment of SplitMix64: its multiples, mixed, are a random sequence
        let key = mix((order as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let least = runs.iter().map(|run| mix(run ^ key)).min().unwrap_or(0);
        (least >> 32) as u32
    })
}

#[cfg(test)]
mod tests {
    use bilevel::rng::Stream;

    use super::*;
    use crate::source::Piece;

    fn record(text: &str) -> Record {
        vec![Piece::new(text, true)]
    }
    fn random(stream: &mut Stream, count: usize) -> Vec<String> {
        (0..count).map(|_| format!("w{}", stream.below(100_000))).collect()
    }
    fn changed(words: &[String], at: &[usize]) -> String {
        let mut words = words.to_vec();
        for &i in at {
            words[i] = "other".into();
        }
        words.join(" ")
    }

    #[test]
    fn exact_duplicates_are_found_with_their_source_and_the_first_stays() {
        let mut seen = Seen::new(None);
        assert_eq!(seen.repeats(&record("Two plus two"), 0), None);
        assert_eq!(seen.repeats(&record("two  PLUS two\n"), 1), Some(0));
        assert_eq!(seen.repeats(&record("two plus three"), 1), None);
        assert_eq!(seen.repeats(&record("two plus three"), 1), Some(1));
        // near ones are not looked for
        assert_eq!(seen.repeats(&record("two plus two!"), 2), None);
    }

    /// Estimates of the similarity have the mean and the spread that the documentation states.
    #[test]
    fn minima_agree_as_often_as_sets_overlap() {
        let mut stream = Stream::new(1, 0);
        let mut errors = Vec::new();
        for _ in 0..200 {
            let words_of = random(&mut stream, 104);
            // one changed word of 104 takes 5 of 100 runs
            let a = runs(&words(&record(&words_of.join(" "))), RUN);
            let b = runs(&words(&record(&changed(&words_of, &[20, 60]))), RUN);
            let both = a.iter().filter(|run| b.contains(run)).count();
            assert_eq!((both, a.len(), b.len()), (90, 100, 100));
            let equal = minima(&a).iter().zip(&minima(&b)).filter(|(a, b)| a == b).count();
            errors.push(equal as f64 / 120.0 - 90.0 / 110.0);
        }
        let mean = errors.iter().sum::<f64>() / 200.0;
        let deviation = (errors.iter().map(|e| e * e).sum::<f64>() / 200.0).sqrt();
        let s: f64 = 90.0 / 110.0;
        let stated = (s * (1.0 - s) / 120.0).sqrt();
        // four standard errors of 200 draws
        assert!(mean.abs() < 4.0 * stated / 200_f64.sqrt(), "{mean}");
        assert!((deviation / stated - 1.0).abs() < 4.0 / 400_f64.sqrt(), "{deviation} {stated}");
    }

    #[test]
    fn near_duplicates_above_the_bound_are_found_and_others_are_not() {
        let mut stream = Stream::new(2, 0);
        let mut seen = Seen::new(Some(0.8));
        let (mut close, mut far) = (0, 0);
        for _ in 0..200 {
            let words = random(&mut stream, 104);
            assert_eq!(seen.repeats(&record(&words.join(" ")), 3), None);
            // one changed word: 95 of 105, 0.905, 3.9 standard errors above the bound
            close += u32::from(seen.repeats(&record(&changed(&words, &[50])), 4) == Some(3));
            // four changed words: 80 of 120, 0.667, 3.1 standard errors below it
            far += u32::from(seen.repeats(&record(&changed(&words, &[10, 30, 50, 70])), 4).is_some());
        }
        // on the wrong side of the bound are 0.01 of 200 expected, and 0.2 of 200
        assert!(close >= 199, "{close}");
        assert!(far <= 3, "{far}");
    }

    #[test]
    fn short_records_repeat_only_their_own_words() {
        let mut seen = Seen::new(Some(0.8));
        assert_eq!(seen.repeats(&record("2 + 2 = 4"), 0), None);
        assert_eq!(seen.repeats(&record("2 + 2 = 5"), 0), None);
        assert_eq!(seen.repeats(&record("2+2 = 4."), 1), Some(0));
        assert_eq!(seen.repeats(&record("…"), 0), None);
    }

    #[test]
    fn a_text_that_all_records_share_does_not_hide_duplicates() {
        let mut seen = Seen::new(Some(0.8));
        let frame = (0..40).map(|i| format!("frame{i}")).collect::<Vec<_>>().join(" ");
        let mut stream = Stream::new(3, 0);
        let records: Vec<Record> =
            (0..300).map(|_| record(&format!("{frame} {}", random(&mut stream, 40).join(" ")))).collect();
        for one in &records {
            assert_eq!(seen.repeats(one, 0), None);
        }
        for one in &records {
            // one run more than 76
            let same = record(&format!("{} end", one[0].text));
            assert_eq!(seen.repeats(&same, 1), Some(0));
        }
    }
}
