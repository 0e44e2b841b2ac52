//! Whether the lower level has a solution at x, and what is known of its kind there.

use serde::{Deserialize, Serialize};

use crate::{
    certificate::Finding,
    error::{ConfigError, OracleResult},
    oracles::Oracles,
    problem::{Objective, Problem, Sample, SecondOrder},
    rng::Stream,
    selection::{
        geometry::{Geometry, Rank},
        land::{Land, LandingEnd},
        level::{At, Level},
        recession::recession,
    },
    vector::Vector,
};

/// How the lower level is looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LowerLevelCheck {
    /// How S(x) is approached from y.
    pub land: Land,
    /// How kernel and range of H are told apart.
    pub rank: Rank,
}

/// What was found at (x, y).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LowerLevel {
    /// Why no solution of the lower level was reached from y: it is unbounded below, y led to a saddle, or the landing gave up.
    pub finding: Option<Finding>,
    /// |∇_y g(x, y)| at the y that was given.
    pub gradient: f64,
    /// |∇_y g|²/(2(g(x, y) − g(x, z))), z the landed point: no PŁ constant near y is larger. `None` when y is landed or z was not
    /// reached.
    pub pl: Option<f64>,
    /// Smallest non-zero eigenvalue of H at z in modulus; `None` when H = 0.
    pub range_min: Option<f64>,
    /// Ratio of the eigenvalues of H next to the rank cut; `None` without a factorisation or when one side is empty.
    pub rank_gap: Option<f64>,
    /// Dimension of ker H at z, that of S(x) under PŁ; an estimate when H is large.
    pub kernel_dim: f64,
    /// |Π_k∇_y f| at z, the gradient of f along S(x): 0 at an optimistic point.
    pub tangent_gradient: f64,
    /// |J Π_k|/|J| at z, by random probes: 0 under PŁ; `None` when J = 0.
    pub range_ratio: Option<f64>,
}

impl LowerLevel {
    /// Whether g(x, ·) falls without bound.
    pub fn is_unbounded(&self) -> bool {
        matches!(self.finding, Some(Finding::LowerLevelUnbounded { .. }))
    }
}

/// Purpose of the random stream of the probes of J.
const PROBES_PURPOSE: u64 = 0x1d;
/// Random directions that estimate |J| and |J Π_k|.
const PROBES: usize = 4;

impl LowerLevelCheck {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.land.validate()?;
        self.rank.validate()
    }

    /// Lands on S(x) from y, and where that fails looks for a direction s in ker H along which g falls at a constant slope:
    /// s = −Π_k∇_y g with H s = 0, probed far out. For a quadratic g this decides whether S(x) is empty.
    ///
    /// The price is that of a landing, a few times y.dim() products where H is factorised; no gradient of x is called.
    pub fn run<P: Problem>(&self, oracles: &Oracles<P>, x: &P::X, y: &P::Y) -> OracleResult<LowerLevel>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let at = At { oracles, x, sign: 1.0 };
        let gradient = at.gradient(y)?.norm();
        let landing = self.land.run(&at, y.clone(), self.rank.is_dense(y.dim()), self.rank.tol)?;
        let z = &landing.y;
        let geometry = Geometry::new(&at, z, landing.gradient.norm(), landing.curvature.clone(), &self.rank)?;
        let finding = match landing.end {
            LandingEnd::Landed => None,
            LandingEnd::Saddle => Some(Finding::LowerSaddle { eigenvalue: landing.curvature.smallest() }),
            LandingEnd::OutOfSteps | LandingEnd::Left => {
                let distance = landing.gradient.norm() / geometry.range_min;
                let unbounded = recession(&at, &landing, &geometry, &self.rank)?;
                Some(unbounded.unwrap_or(Finding::NotLanded { distance }))
            }
        };

        let mut pl = None;
        if finding.is_none() {
            let (here, there) = (at.value(y)?, at.value(z)?);
            let gap = here - there;
            let rounding = 1e2 * y.resolution() * (here.abs() + there.abs());
            pl = (gap > rounding).then(|| gradient * gradient / (2.0 * gap));
        }
        let f_y = oracles.upper.grad_y(x, z, Sample::Full)?;
        let (mut all, mut flat) = (0.0, 0.0);
        let mut stream = Stream::new(0, PROBES_PURPOSE);
        for _ in 0..PROBES {
            let probe = stream.normal_like(z);
            all += at.j(z, &probe)?.norm().powi(2);
            flat += at.j(z, &geometry.project(&at, z, &probe)?)?.norm().powi(2);
        }
        let finite = |value: f64| value.is_finite().then_some(value);
        Ok(LowerLevel {
            finding,
            gradient,
            pl,
            range_min: finite(geometry.range_min),
            rank_gap: geometry.cut.as_ref().and_then(|cut| finite(cut.gap)),
            kernel_dim: geometry.kernel_dim(),
            tangent_gradient: geometry.project(&at, z, &f_y)?.norm(),
            range_ratio: (all > 0.0).then(|| (flat / all).sqrt()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::{self, Parameters, Zoo, failures::Unbounded, sphere::Sphere};

    fn look(zoo: &Zoo, x: &[f64], y: &[f64]) -> LowerLevel {
        LowerLevelCheck::default().run(&Oracles::new(zoo), &x.to_vec(), &y.to_vec()).unwrap()
    }

    #[test]
    fn the_numbers_of_v2_tiny_are_those_of_its_matrices() {
        let zoo = problems::by_name("pl-game-v2-tiny", &Parameters::new()).unwrap();
        let found = look(&zoo, &[1.0; 3], &[0.0, 0.0, -1.0]);
        assert_eq!((&found.finding, found.kernel_dim), (&None, 1.0));
        // ∇_y g = (.4, .3, 0), Q = diag(1, .5, 0): the gap is ½(.16 + .09/.5)
        assert!((found.gradient - 0.5).abs() < 1e-15);
        assert!((found.pl.unwrap() - 0.25 / 0.34).abs() < 1e-12, "{found:?}");
        assert!((found.range_min.unwrap() - 0.5).abs() < 1e-12);
        assert!((found.tangent_gradient - 1.35).abs() < 1e-12);
        assert!(found.range_ratio.unwrap() < 1e-12);
    }

    #[test]
    fn an_unbounded_lower_level_is_named_with_its_slope() {
        let found = look(&Zoo::new(Unbounded), &[0.5], &[0.3, 0.2]);
        let Some(Finding::LowerLevelUnbounded { direction, slope }) = &found.finding else {
            panic!("{found:?}")
        };
        assert!((slope - 0.5).abs() < 1e-9 && (direction[1] + 1.0).abs() < 1e-9, "{found:?}");
        assert!(found.is_unbounded() && found.pl.is_none());
        // and the range condition fails: J = (0, 1) is along the kernel
        assert!(found.range_ratio.unwrap() > 0.1);
    }

    #[test]
    fn a_curved_solution_set_is_reached() {
        let found = look(&Zoo::new(Sphere), &[0.3, -0.7], &[3.0, 1.0, -2.0]);
        assert_eq!((&found.finding, found.kernel_dim), (&None, 2.0), "{found:?}");
        // g is flatter than its Hessian on S(x) says: the quartic's PŁ ratio at a far y is finite and positive
        assert!(found.pl.unwrap() > 0.0 && found.range_ratio.unwrap() < 1e-6, "{found:?}");
    }
}
