//! Features shifted and scaled by those of the training set.

use crate::{
    classifier::Examples,
    features::{Dense, Features},
};

/// How pixels become features.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// Grey values in [0, 1].
    Unit,
    /// Mean 0 and deviation 1 for each pixel over the training images; a constant pixel is 0.
    ByPixel,
    /// (value − mean)/(deviation + 1e-4) with one mean and one deviation over all training pixels.
    Overall,
}

pub fn dense(examples: &mut Examples) -> &mut Dense {
    match &mut examples.features {
        Features::Dense(dense) => dense,
        Features::Sparse(_) => unreachable!("images and tables are dense"),
    }
}

/// Shifts and scales the features of every set by those of the first.
pub fn rescale(sets: &mut [Examples; 3], scaling: Scaling) {
    let train = dense(&mut sets[0]);
    let columns = train.columns;
    let rows = (train.entries.len() / columns) as f64;
    let (mean, scale) = match scaling {
        Scaling::Unit => return,
        Scaling::Overall => {
            let count = train.entries.len() as f64;
            let mean = train.entries.iter().sum::<f64>() / count;
            let variance = train.entries.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / count;
            (vec![mean; columns], vec![1.0 / (variance.sqrt() + 1e-4); columns])
        }
        Scaling::ByPixel => {
            let mut mean = vec![0.0; columns];
            for row in train.entries.chunks_exact(columns) {
                mean.iter_mut().zip(row).for_each(|(m, e)| *m += e / rows);
            }
            let mut variance = vec![0.0; columns];
            for row in train.entries.chunks_exact(columns) {
                variance
                    .iter_mut()
                    .zip(row.iter().zip(&mean))
                    .for_each(|(v, (e, m))| *v += (e - m).powi(2) / rows);
            }
            let scale = variance.iter().map(|v| if *v > 0.0 { v.sqrt().recip() } else { 1.0 }).collect();
            (mean, scale)
        }
    };
    for set in sets {
        for row in dense(set).entries.chunks_exact_mut(columns) {
            for ((e, m), s) in row.iter_mut().zip(&mean).zip(&scale) {
                *e = (*e - m) * s;
            }
        }
    }
}
