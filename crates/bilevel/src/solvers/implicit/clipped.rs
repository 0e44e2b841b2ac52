//! S(H)⁻¹: the inverse of a lower Hessian whose eigenvalues are clipped.

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::{error::ConfigError, linear::dense::Spectrum, solvers::penalty::positive, vector::Vector};

/// Which eigenvalues are clipped to [μ, L].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clip {
    /// Every one, zero and negative ones included, as published.
    #[default]
    All,
    /// Those of modulus above `rank_tol` times the largest; the others count as 0 and are left out of the inverse, which
    /// is H⁺ wherever the non-zero spectrum lies in [μ, L].
    NonZero,
}

/// Settings of the clipped inverse.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClippedInverse {
    /// Which eigenvalues are clipped.
    pub clip: Clip,
    /// Lower end μ.
    pub mu: f64,
    /// Upper end L.
    pub smoothness: f64,
    /// Relative size below which an eigenvalue is zero, for [`Clip::NonZero`].
    pub rank_tol: f64,
}

impl ClippedInverse {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        positive("mu", self.mu)?;
        ConfigError::require(
            self.smoothness >= self.mu && self.smoothness.is_finite(),
            "smoothness",
            self.smoothness,
            "the upper end of the spectrum is at least mu",
        )?;
        ConfigError::require(
            (0.0..1.0).contains(&self.rank_tol),
            "rank_tol",
            self.rank_tol,
            "give a number from 0 to below 1, for instance 1e-8",
        )
    }
    /// S(H)⁻¹ b, with S the clip of the spectrum.
    pub fn apply<Y: Vector>(&self, spectrum: &Spectrum, b: &Y) -> Y {
        let zero = self.rank_tol * spectrum.norm();
        spectrum.function(
            |value| match self.clip {
                Clip::NonZero if value.abs() <= zero => 0.0,
                Clip::All | Clip::NonZero => value.clamp(self.mu, self.smoothness).recip(),
            },
            b,
        )
    }
}

/// The last eigendecomposition: a lower level that is quadratic in y has one Hessian, which is decomposed once.
#[derive(Clone, Debug, Default)]
pub(in crate::solvers) struct SpectrumCache(Option<(DMatrix<f64>, Spectrum)>);

impl SpectrumCache {
    /// The eigendecomposition of the matrix with these columns.
    pub fn of<Y: Vector>(&mut self, columns: &[Y]) -> &Spectrum {
        let entries: Vec<f64> = columns.iter().flat_map(Vector::coordinates).collect();
        let matrix = DMatrix::from_vec(columns.len(), columns.len(), entries);
        if self.0.as_ref().is_none_or(|(known, _)| *known != matrix) {
            let spectrum = Spectrum::of_matrix(&matrix);
            self.0 = Some((matrix, spectrum));
        }
        &self.0.as_ref().expect("was just made").1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_clips_differ_on_zero_eigenvalues_alone() {
        let columns = [vec![2.0, 0.0, 0.0], vec![0.0, 0.01, 0.0], vec![0.0, 0.0, 0.0]];
        let mut cache = SpectrumCache::default();
        let all = ClippedInverse { clip: Clip::All, mu: 0.1, smoothness: 1.0, rank_tol: 1e-8 };
        let b = vec![1.0; 3];
        assert_eq!(all.apply(cache.of(&columns), &b), [1.0, 10.0, 10.0]);
        let non_zero = ClippedInverse { clip: Clip::NonZero, ..all };
        assert_eq!(non_zero.apply(cache.of(&columns), &b), [1.0, 10.0, 0.0]);
    }

    #[test]
    fn a_cache_follows_the_matrix() {
        let mut cache = SpectrumCache::default();
        assert_eq!(cache.of(&[vec![2.0]]).values(), [2.0]);
        assert_eq!(cache.of(&[vec![2.0]]).values(), [2.0]);
        assert_eq!(cache.of(&[vec![3.0]]).values(), [3.0]);
    }
}
