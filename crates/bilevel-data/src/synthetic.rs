//! Examples that the library makes itself, in the shape of data that it has no folder of.

use bilevel::rng::Stream;

use crate::{
    classifier::Examples,
    features::{Dense, Features, Sparse},
};

/// Purposes of random numbers, one per function and role.
const CENTRES: u64 = 40;
const NOISE: u64 = 41;

/// Dense features: half of them tell something, by a centre for each class at distance about `separation` from the others;
/// the other half is noise. Labels in random order, classes equally likely.
pub(crate) fn clusters(count: usize, columns: usize, classes: u32, separation: f64, seed: u64) -> Examples {
    let mut centres = Stream::new(seed, CENTRES);
    let telling = columns.div_ceil(2);
    let scale = separation / (2.0 * telling as f64).sqrt();
    let centre: Vec<f64> = (0..classes as usize * telling).map(|_| scale * centres.normal()).collect();
    let mut stream = Stream::new(seed, NOISE);
    let mut entries = Vec::with_capacity(count * columns);
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        let label = stream.below(u64::from(classes)) as usize;
        labels.push(label as u32);
        for j in 0..columns {
            let mean = if j < telling { centre[label * telling + j] } else { 0.0 };
            entries.push(mean + stream.normal());
        }
    }
    Examples { features: Features::Dense(Dense { columns, entries }), labels }
}

/// Sparse rows of length 1, as of short texts: `words` draws from a Zipf law over the columns, whose order is shuffled
/// within blocks of columns for each class, so that common words tell little and rarer ones more.
pub(crate) fn texts(count: usize, columns: usize, words: usize, classes: u32, seed: u64) -> Examples {
    let mut stream = Stream::new(seed, NOISE);
    let mut rows = Sparse { columns, starts: vec![0], column: vec![], entries: vec![] };
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        let label = stream.below(u64::from(classes));
        labels.push(label as u32);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..words {
            // log-uniform ranks: density 1/rank
            let rank = (columns as f64).powf(stream.uniform()) as usize - 1;
            let own = (rank as u64 * u64::from(classes) + label * 7919) % columns as u64;
            let column = if stream.uniform() < 0.3 { own as usize } else { rank.min(columns - 1) };
            *counts.entry(column).or_insert(0.0) += 1.0;
        }
        let length = counts.values().map(|c: &f64| c * c).sum::<f64>().sqrt();
        for (column, count) in counts {
            rows.column.push(column as u32);
            rows.entries.push(count / length);
        }
        rows.starts.push(rows.entries.len());
    }
    Examples { features: Features::Sparse(rows), labels }
}
