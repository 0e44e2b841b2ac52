//! Extreme eigenvalues of the tridiagonal matrix that a Lanczos process leaves behind, by bisection on Sturm counts.

/// A symmetric tridiagonal matrix.
#[derive(Clone, Debug, Default)]
pub(super) struct Tridiagonal {
    /// Diagonal, n numbers.
    pub diagonal: Vec<f64>,
    /// Off-diagonal, at least n − 1 numbers; further ones are not looked at.
    pub off_diagonal: Vec<f64>,
}

/// Halvings of an interval: more than the 53 bits of an `f64`.
const HALVINGS: usize = 64;

impl Tridiagonal {
    /// Number of eigenvalues below `t`: negative pivots of LDLᵀ of T − tI (Sylvester's law of inertia).
    fn count_below(&self, t: f64) -> usize {
        let tiny = f64::MIN_POSITIVE.sqrt();
        let mut count = 0;
        let mut pivot = 1.0;
        for (i, &diagonal) in self.diagonal.iter().enumerate() {
            let coupling = if i == 0 { 0.0 } else { self.off_diagonal[i - 1] };
            pivot = diagonal - t - coupling * coupling / pivot;
            if pivot.abs() < tiny {
                pivot = -tiny;
            }
            count += usize::from(pivot < 0.0);
        }
        count
    }

    /// Bound of the spectrum by Gershgorin's discs.
    fn bound(&self) -> f64 {
        let n = self.diagonal.len();
        let coupling = |i: usize| self.off_diagonal.get(i).map_or(0.0, |b| b.abs());
        (0..n)
            .map(|i| {
                let left = if i == 0 { 0.0 } else { coupling(i - 1) };
                let right = if i + 1 == n { 0.0 } else { coupling(i) };
                self.diagonal[i].abs() + left + right
            })
            .fold(0.0, f64::max)
    }

    /// Largest modulus of an eigenvalue; `None` for the empty matrix.
    pub fn largest_modulus(&self) -> Option<f64> {
        let n = self.diagonal.len();
        (n > 0).then(|| {
            // All moduli are below t when no eigenvalue is below −t and all are below t.
            self.bisect(|t| self.count_below(t) == n && self.count_below(-t) == 0)
        })
    }

    /// Smallest modulus of an eigenvalue; `None` for the empty matrix.
    pub fn smallest_modulus(&self) -> Option<f64> {
        (!self.diagonal.is_empty()).then(|| self.bisect(|t| self.count_below(t) > self.count_below(-t)))
    }

    /// The smallest t in [0, bound] for which the monotone condition holds, to the absolute accuracy of the matrix.
    fn bisect(&self, holds: impl Fn(f64) -> bool) -> f64 {
        let mut high = self.bound() * (1.0 + 4.0 * f64::EPSILON);
        let mut low = 0.0;
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if holds(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        0.5 * (low + high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::dense::Spectrum;
    use nalgebra::DMatrix;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn moduli_agree_with_the_dense_decomposition(
            entries in prop::collection::vec((-2.0..2.0f64, -2.0..2.0f64), 1..12)
        ) {
            let (diagonal, off_diagonal): (Vec<f64>, Vec<f64>) = entries.into_iter().unzip();
            let n = diagonal.len();
            let dense = Spectrum::of_matrix(&DMatrix::from_fn(n, n, |i, j| match i.abs_diff(j) {
                0 => diagonal[i],
                1 => off_diagonal[i.min(j)],
                _ => 0.0,
            }));
            let smallest = dense.values().iter().fold(f64::INFINITY, |m, v| v.abs().min(m));
            let matrix = Tridiagonal { diagonal, off_diagonal };
            prop_assert!((matrix.largest_modulus().unwrap() - dense.norm()).abs() < 1e-13);
            prop_assert!((matrix.smallest_modulus().unwrap() - smallest).abs() < 1e-13);
        }
    }

    #[test]
    fn the_empty_matrix_has_no_eigenvalue() {
        assert_eq!(Tridiagonal::default().largest_modulus(), None);
        assert_eq!(Tridiagonal::default().smallest_modulus(), None);
    }
}
