//! EXPLORE: random walks on S(x), the only global step. They move in the tangent space, so their number is governed by the
//! intrinsic dimension of S(x), whatever the dimension of y.

use serde::{Deserialize, Serialize};

use super::{
    geometry::{Geometry, Rank},
    land::{Land, LandingEnd},
    level::At,
};
use crate::{
    error::{ConfigError, OracleResult},
    problem::{Problem, SecondOrder},
    rng::Stream,
    vector::Vector,
};

/// Settings of the exploration of S(x).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Explore {
    /// Whether to explore at all. Without, the method selects locally: that is an ablation, not a safe setting.
    pub enabled: bool,
    /// Walks N; `None`: 4·2^min(k, 6) at the start and before stopping, with k the dimension of S(x).
    pub samples: Option<u32>,
    /// Explore every so many upper steps, with a quarter of the walks.
    pub every: u32,
    /// Steps of one walk.
    pub walk_len: u32,
    /// First step length, relative to 1 + |y|; it adapts between 0.05 and 0.5.
    pub step: f64,
    /// Warn when more than this share of S(x) may lie in basins not seen.
    pub missing_mass: f64,
}

impl Default for Explore {
    fn default() -> Self {
        Self { enabled: true, samples: None, every: 8, walk_len: 8, step: 0.5, missing_mass: 0.05 }
    }
}

/// Landing tolerance inside a walk: it only has to hit the right basin.
const WALK_TOL: f64 = 1e-6;

impl Explore {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::require(
            self.samples != Some(0),
            "explore.samples",
            0,
            "give at least 1, or switch exploration off by explore.enabled = false",
        )?;
        ConfigError::require(self.every >= 1, "explore.every", self.every, "give at least 1")?;
        ConfigError::require(self.walk_len >= 1, "explore.walk_len", self.walk_len, "give at least 1")?;
        ConfigError::require(
            self.step > 0.0 && self.step <= 1.0,
            "explore.step",
            self.step,
            "give a number in (0, 1]",
        )?;
        ConfigError::require(
            (0.0..1.0).contains(&self.missing_mass),
            "explore.missing_mass",
            self.missing_mass,
            "give a number in [0, 1)",
        )
    }

    /// Number of walks for an intrinsic dimension; all of them at the start and before stopping, a quarter otherwise.
    pub fn walks(&self, intrinsic_dim: f64, is_full: bool) -> u32 {
        let all = self.samples.unwrap_or_else(|| 4 << (intrinsic_dim.round().clamp(0.0, 6.0) as u32));
        if is_full { all } else { all.div_ceil(4) }
    }

    /// Walks from y on S(x) and returns where it ends, landed at a loose tolerance. `None` when S(x) is a point.
    pub fn walk<P: Problem>(
        &self,
        at: &At<P>,
        start: &P::Y,
        land: &Land,
        rank: &Rank,
        stream: &mut Stream,
    ) -> OracleResult<Option<P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let dense = rank.is_dense(start.dim());
        // Without a factorisation the tangent space is only seen close to S(x).
        let loose = if dense { land.with_tol(land.tol.max(WALK_TOL)) } else { land.clone() };
        let mut landing = loose.run(at, start.clone(), dense, rank.tol)?;
        let mut length = self.step;
        for _ in 0..self.walk_len {
            let y = landing.y.clone();
            let geometry = Geometry::new(at, &y, landing.gradient.norm(), landing.curvature.clone(), rank)?;
            let mut direction = geometry.project(at, &y, &stream.normal_like(&y))?;
            let size = direction.norm();
            if size <= 1e-6 * (y.dim() as f64).sqrt() {
                return Ok(None);
            }
            direction.scale(length * (1.0 + y.norm()) / size);
            let proposal = y.plus(1.0, &direction);
            let trial = loose.run(at, proposal.clone(), dense, rank.tol)?;
            let pulled_back = trial.y.distance(&proposal) > 0.5 * direction.norm();
            if trial.end == LandingEnd::Landed {
                landing = trial;
            }
            length = if pulled_back { (0.5 * length).max(0.05) } else { (1.2 * length).min(0.5) };
        }
        Ok(Some(landing.y))
    }
}
