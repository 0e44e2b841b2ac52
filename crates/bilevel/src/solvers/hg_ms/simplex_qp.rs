//! The dual of the prox-linear step: a small concave quadratic over the simplex, solved exactly.

use nalgebra::{DMatrix, DVector};

/// argmax over the simplex of ⟨w, c⟩ − (η/2) wᵀ Q w, for a positive semidefinite Gram matrix Q of at most about a
/// dozen rows: every support is tried, so the answer is exact to rounding.
pub fn maximise(values: &[f64], gram: &DMatrix<f64>, eta: f64) -> Vec<f64> {
    let n = values.len();
    let objective = |w: &[f64]| {
        let w = DVector::from_row_slice(w);
        DVector::from_row_slice(values).dot(&w) - 0.5 * eta * w.dot(&(gram * &w))
    };
    let mut best: Option<(f64, Vec<f64>)> = None;
    for support in 1u32..(1 << n) {
        let members: Vec<usize> = (0..n).filter(|i| support & (1 << i) != 0).collect();
        let size = members.len();
        // stationarity on the support: η Q w + ν 1 = c, 1ᵀw = 1
        let system = DMatrix::from_fn(size + 1, size + 1, |i, j| match (i == size, j == size) {
            (false, false) => eta * gram[(members[i], members[j])],
            (true, true) => 0.0,
            _ => 1.0,
        });
        let rhs = DVector::from_fn(size + 1, |i, _| if i == size { 1.0 } else { values[members[i]] });
        let scale = system.amax();
        let Ok(solution) = system.svd(true, true).solve(&rhs, 1e-13 * scale) else { continue };
        let mut w = vec![0.0; n];
        for (k, &i) in members.iter().enumerate() {
            w[i] = solution[k];
        }
        // the system of a support with repeated gradients can be inconsistent: its answer is no convex combination
        let sum: f64 = w.iter().sum();
        if w.iter().any(|&wi| wi < -1e-12) || (sum - 1.0).abs() > 1e-9 {
            continue;
        }
        let value = objective(&w);
        if best.as_ref().is_none_or(|(known, _)| value > *known) {
            best = Some((value, w));
        }
    }
    // single supports are always feasible
    best.expect("a vertex of the simplex").1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_opposite_gradients_balance() {
        // G = (0.2, −1.8), equal values: 0.2 w₁ = 1.8 w₂
        let gram = DMatrix::from_row_slice(2, 2, &[0.04, -0.36, -0.36, 3.24]);
        let w = maximise(&[1.0, 1.0], &gram, 1.0);
        assert!((w[0] - 0.9).abs() < 1e-12 && (w[1] - 0.1).abs() < 1e-12, "{w:?}");
    }

    #[test]
    fn a_much_larger_value_takes_all() {
        let w = maximise(&[5.0, 0.0], &DMatrix::identity(2, 2), 0.1);
        assert!((w[0] - 1.0).abs() < 1e-14 && w[1] == 0.0, "{w:?}");
    }

    #[test]
    fn repeated_gradients_do_not_break_it() {
        let w = maximise(&[1.0, 1.0, 1.0], &DMatrix::from_element(3, 3, 2.0), 1.0);
        assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
