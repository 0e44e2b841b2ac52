//! Weights that were fitted before a run starts.

use bilevel::problem::Sample;

use crate::{
    classifier::{Classifier, Examples},
    features::Features,
};

/// Weights after so many accelerated gradient steps on the mean loss of these sets, from 0; each step is as long as the
/// largest row allows (the Hessian of a softmax is at most half of AᵀA).
pub fn fitted(classifier: &Classifier, sets: &[&Examples], steps: usize) -> Vec<f64> {
    let count: usize = sets.iter().map(|set| set.len()).sum();
    let square = sets.iter().map(|set| largest_square(&set.features)).fold(0.0, f64::max);
    let step = 2.0 / square.max(1e-300);
    let mut y = vec![0.0; classifier.dim()];
    let mut ahead = y.clone();
    for k in 0..steps {
        let mut next = ahead.clone();
        for set in sets {
            let gradient = classifier.gradient(&ahead, set, Sample::Full, |_| 1.0 / count as f64);
            next.iter_mut().zip(gradient).for_each(|(n, g)| *n -= step * g);
        }
        // Nesterov's weights for a convex function
        let momentum = k as f64 / (k as f64 + 3.0);
        ahead = next.iter().zip(&y).map(|(n, y)| n + momentum * (n - y)).collect();
        y = next;
    }
    y
}

/// The largest |row|².
fn largest_square(features: &Features) -> f64 {
    let squares = |row: &[f64]| row.iter().map(|e| e * e).sum::<f64>();
    match features {
        Features::Dense(dense) => dense.entries.chunks_exact(dense.columns).map(squares).fold(0.0, f64::max),
        Features::Sparse(sparse) => sparse
            .starts
            .windows(2)
            .map(|ends| squares(&sparse.entries[ends[0]..ends[1]]))
            .fold(0.0, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classifier::Link, synthetic};

    #[test]
    fn fitted_weights_lower_the_loss() {
        let set = synthetic::clusters(200, 6, 3, 4.0, 1);
        let classifier = Classifier::linear(6, Link::Softmax { classes: 3 });
        let (few, many) = (fitted(&classifier, &[&set], 20), fitted(&classifier, &[&set], 200));
        let [start, few, many] = [vec![0.0; 18], few, many].map(|y| classifier.score(&y, &set).0);
        assert!(many < few && few < start);
    }
}
