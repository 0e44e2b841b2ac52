//! Are the derivatives right? Checks of everything that a user states, against differences.
//!
//! A wrong derivative rarely stops a solver; it makes it converge to something else. Run [`Checker::problem`], or
//! [`Checker::first_order_problem`] where there are no second derivatives, on every new problem at a few points:
//!
//! ```
//! use bilevel::{Problem, check::Checker, problems::{Zoo, circle::Circle}};
//! let problem = Zoo::new(Circle::default());
//! let (x, y) = problem.start(1);
//! for report in Checker::default().problem(&problem, &x, &y)? {
//!     assert!(report.passed(), "{report}");
//! }
//! # Ok::<(), bilevel::OracleError>(())
//! ```

mod report;

pub use report::{Report, Subject, Worst};

use serde::{Deserialize, Serialize};

use crate::{
    error::OracleResult,
    problem::{Objective, Problem, Sample, SecondOrder},
    rng::Stream,
    vector::Vector,
};

/// How to check. The defaults suit smooth functions in f64 of numbers of size about 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checker {
    /// Random directions for each check; a variable of at most this many coordinates is probed along each axis too.
    pub probes: u64,
    /// Seed of the directions.
    pub seed: u64,
    /// Allowed error relative to the derivative; raised to 40·resolution^(2/3) where the stored numbers are coarser.
    pub tolerance: f64,
    /// Size of a derivative, per unit length, below which a difference is taken for rounding.
    pub floor: f64,
    /// Step of the differences; by default the cube root of the resolution of the stored numbers times 1 + |variable|.
    pub step: Option<f64>,
}

impl Default for Checker {
    fn default() -> Self {
        Self { probes: 8, seed: 0, tolerance: 1e-6, floor: 1e-9, step: None }
    }
}

/// Claimed and measured number for one direction, and the size that the error is relative to.
struct Probe {
    direction: Vec<f64>,
    claimed: f64,
    measured: f64,
    scale: f64,
    /// Rounding that the measured number carries.
    rounding: f64,
}

impl Probe {
    /// Two vectors: their components along the difference carry all of it.
    fn of_vectors<V: Vector>(direction: Vec<f64>, claimed: &V, measured: &V) -> Self {
        let mut axis = claimed.plus(-1.0, measured);
        let length = axis.norm();
        axis.scale(if length > 0.0 { length.recip() } else { 0.0 });
        Self {
            direction,
            claimed: claimed.dot(&axis),
            measured: measured.dot(&axis),
            scale: claimed.norm().max(measured.norm()),
            rounding: 0.0,
        }
    }
}

impl Checker {
    /// The same checks with a step of one's own, for functions with noise.
    #[must_use]
    pub fn with_step(self, step: f64) -> Self {
        Self { step: Some(step), ..self }
    }

    fn step_at<V: Vector>(&self, at: &V) -> f64 {
        self.step.unwrap_or_else(|| at.resolution().cbrt() * (1.0 + at.norm()))
    }

    /// Unit directions: each axis of a small space, then random ones.
    fn directions<V: Vector>(&self, like: &V, purpose: u64) -> Vec<V> {
        let dim = like.dim();
        let mut directions = Vec::new();
        if dim as u64 <= self.probes {
            for i in 0..dim {
                let axis: Vec<f64> = (0..dim).map(|j| f64::from(u8::from(i == j))).collect();
                directions.push(like.with_coordinates(&axis));
            }
        }
        let mut stream = Stream::new(self.seed, purpose);
        for _ in 0..self.probes {
            let mut direction = stream.normal_like(like);
            let length = direction.norm();
            if length > 0.0 {
                direction.scale(length.recip());
                directions.push(direction);
            }
        }
        directions
    }

    fn report<V: Vector>(
        &self,
        (subject, label): (Subject, &str),
        like: &V,
        step: Option<f64>,
        probes: Vec<Probe>,
    ) -> Report {
        let mut report = Report {
            subject,
            label: label.to_owned(),
            relative_error: 0.0,
            // What a central difference at the best step leaves: resolution^(2/3), with a margin for large derivatives.
            tolerance: self.tolerance.max(40.0 * like.resolution().powf(2.0 / 3.0)),
            step,
            probes: probes.len() as u64,
            worst: None,
        };
        for probe in probes {
            let error = (probe.claimed - probe.measured).abs() - probe.rounding - self.floor;
            let relative_error = match error.partial_cmp(&0.0) {
                Some(std::cmp::Ordering::Greater) => error / probe.scale,
                Some(_) => 0.0,
                // not a number: neither side is worth anything
                None => f64::INFINITY,
            };
            if report.worst.is_none() || relative_error > report.relative_error {
                report.relative_error = relative_error;
                report.worst = Some(Worst {
                    direction: probe.direction,
                    claimed: probe.claimed,
                    measured: probe.measured,
                });
            }
        }
        report
    }

    /// A gradient against central differences of a function.
    fn gradient<V: Vector>(
        &self,
        (subject, label): (Subject, &str),
        at: &V,
        gradient: &V,
        step: f64,
        mut value: impl FnMut(&V) -> OracleResult<f64>,
    ) -> OracleResult<Report> {
        // A random unit direction sees 1/√d of the gradient.
        let typical = gradient.norm() / (at.dim() as f64).sqrt();
        let mut probes = Vec::new();
        for direction in self.directions(at, subject as u64) {
            let (up, down) = (value(&at.plus(step, &direction))?, value(&at.plus(-step, &direction))?);
            let (claimed, measured) = (gradient.dot(&direction), (up - down) / (2.0 * step));
            probes.push(Probe {
                direction: direction.coordinates(),
                claimed,
                measured,
                scale: typical.max(claimed.abs()).max(measured.abs()),
                rounding: 4.0 * at.resolution() * (up.abs() + down.abs()) / (2.0 * step),
            });
        }
        Ok(self.report((subject, label), at, Some(step), probes))
    }

    /// `grad_x` of an objective against central differences of `value`.
    pub fn grad_x<X: Vector, Y: Vector>(
        &self,
        objective: &impl Objective<X, Y>,
        label: &str,
        x: &X,
        y: &Y,
    ) -> OracleResult<Report> {
        let gradient = objective.grad_x(x, y, Sample::Full)?;
        self.gradient((Subject::GradX, label), x, &gradient, self.step_at(x), |at| {
            objective.value(at, y, Sample::Full)
        })
    }

    /// `grad_y` of an objective against central differences of `value`.
    pub fn grad_y<X: Vector, Y: Vector>(
        &self,
        objective: &impl Objective<X, Y>,
        label: &str,
        x: &X,
        y: &Y,
    ) -> OracleResult<Report> {
        let gradient = objective.grad_y(x, y, Sample::Full)?;
        self.gradient((Subject::GradY, label), y, &gradient, self.step_at(y), |at| {
            objective.value(x, at, Sample::Full)
        })
    }

    /// ⟨u, H v⟩ = ⟨H u, v⟩ for pairs of directions.
    pub fn hessian_symmetry<X: Vector, Y: Vector>(
        &self,
        objective: &impl SecondOrder<X, Y>,
        label: &str,
        x: &X,
        y: &Y,
    ) -> OracleResult<Report> {
        let directions = self.directions(y, Subject::HessianSymmetry as u64);
        let products = directions
            .iter()
            .map(|v| objective.hvp_yy(x, y, v, Sample::Full))
            .collect::<OracleResult<Vec<Y>>>()?;
        let mut probes = Vec::new();
        for i in 0..directions.len() {
            for j in 0..i {
                probes.push(Probe {
                    direction: directions[j].coordinates(),
                    claimed: directions[i].dot(&products[j]),
                    measured: directions[j].dot(&products[i]),
                    scale: products[i].norm().max(products[j].norm()),
                    rounding: 0.0,
                });
            }
        }
        Ok(self.report((Subject::HessianSymmetry, label), y, None, probes))
    }

    /// `hvp_yy` against central differences of `grad_y` along y.
    pub fn hvp_yy<X: Vector, Y: Vector>(
        &self,
        objective: &impl SecondOrder<X, Y>,
        label: &str,
        x: &X,
        y: &Y,
    ) -> OracleResult<Report> {
        let step = self.step_at(y);
        let mut probes = Vec::new();
        for v in self.directions(y, Subject::HvpYy as u64) {
            let claimed = objective.hvp_yy(x, y, &v, Sample::Full)?;
            let measured = quotient(y, &v, step, |at| objective.grad_y(x, at, Sample::Full))?;
            probes.push(Probe::of_vectors(v.coordinates(), &claimed, &measured));
        }
        Ok(self.report((Subject::HvpYy, label), y, Some(step), probes))
    }

    /// `jvp_xy` against central differences of `grad_x` along y.
    pub fn jvp_xy<X: Vector, Y: Vector>(
        &self,
        objective: &impl SecondOrder<X, Y>,
        label: &str,
        x: &X,
        y: &Y,
    ) -> OracleResult<Report> {
        let step = self.step_at(y);
        let mut probes = Vec::new();
        for v in self.directions(y, Subject::JvpXy as u64) {
            let claimed = objective.jvp_xy(x, y, &v, Sample::Full)?;
            let measured = quotient(y, &v, step, |at| objective.grad_x(x, at, Sample::Full))?;
            probes.push(Probe::of_vectors(v.coordinates(), &claimed, &measured));
        }
        Ok(self.report((Subject::JvpXy, label), y, Some(step), probes))
    }

    /// ⟨J v, u⟩ against central differences of ⟨`grad_y`, v⟩ along u in x.
    pub fn adjoint<X: Vector, Y: Vector>(
        &self,
        objective: &impl SecondOrder<X, Y>,
        label: &str,
        x: &X,
        y: &Y,
    ) -> OracleResult<Report> {
        let step = self.step_at(x);
        let along_y = self.directions(y, Subject::Adjoint as u64);
        let images = along_y
            .iter()
            .map(|v| objective.jvp_xy(x, y, v, Sample::Full))
            .collect::<OracleResult<Vec<X>>>()?;
        let mut probes = Vec::new();
        for u in self.directions(x, Subject::Adjoint as u64 + 100) {
            let slope = quotient(x, &u, step, |at| objective.grad_y(at, y, Sample::Full))?;
            for (v, image) in along_y.iter().zip(&images) {
                probes.push(Probe {
                    direction: v.coordinates(),
                    claimed: image.dot(&u),
                    measured: slope.dot(v),
                    scale: image.norm().max(slope.norm()),
                    rounding: 0.0,
                });
            }
        }
        Ok(self.report((Subject::Adjoint, label), x, Some(step), probes))
    }

    /// A proximal map is firmly non-expansive, near `around` and far from it.
    pub fn prox<V: Vector>(&self, prox: impl Fn(&mut V, f64), label: &str, around: &V, step: f64) -> Report {
        let mut stream = Stream::new(self.seed, Subject::Prox as u64);
        let mut probes = Vec::new();
        for spread in [0.1, 1.0, 10.0] {
            for _ in 0..self.probes {
                let mut point = || around.plus(spread * (1.0 + around.norm()), &stream.normal_like(around));
                let (a, b) = (point(), point());
                let (mut p, mut q) = (a.clone(), b.clone());
                prox(&mut p, step);
                prox(&mut q, step);
                let (before, after) = (a.plus(-1.0, &b), p.plus(-1.0, &q));
                let (claimed, bound) = (after.dot(&after), after.dot(&before));
                probes.push(Probe {
                    direction: before.coordinates(),
                    claimed: claimed.max(bound),
                    measured: bound,
                    scale: before.dot(&before),
                    rounding: 8.0 * around.resolution() * (p.norm() + q.norm() + before.norm()).powi(2),
                });
            }
        }
        self.report((Subject::Prox, label), around, None, probes)
    }

    /// The mean over a partition into batches of size `batch` is the full sum, for value and gradients. `None` when the
    /// objective is not a finite sum.
    pub fn batches<X: Vector, Y: Vector>(
        &self,
        objective: &impl Objective<X, Y>,
        label: &str,
        x: &X,
        y: &Y,
        batch: usize,
    ) -> OracleResult<Option<Report>> {
        let Some(n) = objective.n_samples() else { return Ok(None) };
        let indices: Vec<u64> = (0..n).collect();
        let mut value = 0.0;
        let (mut by_x, mut by_y) = (x.zeros_like(), y.zeros_like());
        for part in indices.chunks(batch.max(1)) {
            let weight = part.len() as f64 / n as f64;
            let s = Sample::Batch(part);
            value += weight * objective.value(x, y, s)?;
            by_x.axpy(weight, &objective.grad_x(x, y, s)?);
            by_y.axpy(weight, &objective.grad_y(x, y, s)?);
        }
        let whole = objective.value(x, y, Sample::Full)?;
        let probes = vec![
            Probe {
                direction: Vec::new(),
                claimed: value,
                measured: whole,
                scale: value.abs().max(whole.abs()),
                rounding: 0.0,
            },
            Probe::of_vectors(Vec::new(), &by_x, &objective.grad_x(x, y, Sample::Full)?),
            Probe::of_vectors(Vec::new(), &by_y, &objective.grad_y(x, y, Sample::Full)?),
        ];
        Ok(Some(self.report((Subject::Batches, label), y, None, probes)))
    }

    /// A hypergradient against central differences of the hyper-objective F, however the caller evaluates it.
    ///
    /// The default step here is 1e-4·(1 + |x|): F is itself the result of an iteration, and its error is divided by the step.
    pub fn hypergradient<X: Vector>(
        &self,
        hyper_objective: impl FnMut(&X) -> OracleResult<f64>,
        x: &X,
        hypergradient: &X,
    ) -> OracleResult<Report> {
        let step = self.step.unwrap_or_else(|| 1e-4 * (1.0 + x.norm()));
        self.gradient((Subject::Hypergradient, "F"), x, hypergradient, step, hyper_objective)
    }

    /// First derivatives of both levels, the two proximal maps and the batches of finite sums.
    pub fn first_order_problem<P: Problem>(
        &self,
        problem: &P,
        x: &P::X,
        y: &P::Y,
    ) -> OracleResult<Vec<Report>> {
        let (upper, lower) = (problem.upper(), problem.lower());
        let mut reports = vec![
            self.grad_x(upper, "upper", x, y)?,
            self.grad_y(upper, "upper", x, y)?,
            self.grad_x(lower, "lower", x, y)?,
            self.grad_y(lower, "lower", x, y)?,
            self.prox(|x, step| problem.prox_x(x, step), "upper", x, 1.0),
            self.prox(|y, step| problem.prox_y(y, step), "lower", y, 1.0),
        ];
        reports.extend(self.batches(upper, "upper", x, y, 2)?);
        reports.extend(self.batches(lower, "lower", x, y, 2)?);
        Ok(reports)
    }

    /// The checks of [`Checker::first_order_problem`], and the second derivatives of the lower level.
    pub fn problem<P: Problem<Lower: SecondOrder<P::X, P::Y>>>(
        &self,
        problem: &P,
        x: &P::X,
        y: &P::Y,
    ) -> OracleResult<Vec<Report>> {
        let lower = problem.lower();
        let mut reports = self.first_order_problem(problem, x, y)?;
        reports.extend([
            self.hessian_symmetry(lower, "lower", x, y)?,
            self.hvp_yy(lower, "lower", x, y)?,
            self.jvp_xy(lower, "lower", x, y)?,
            self.adjoint(lower, "lower", x, y)?,
        ]);
        Ok(reports)
    }
}

/// (φ(at + h·u) − φ(at − h·u))/2h.
fn quotient<V: Vector, W: Vector>(
    at: &V,
    direction: &V,
    step: f64,
    phi: impl Fn(&V) -> OracleResult<W>,
) -> OracleResult<W> {
    let mut quotient = phi(&at.plus(step, direction))?;
    quotient.axpy(-1.0, &phi(&at.plus(-step, direction))?);
    quotient.scale(0.5 / step);
    Ok(quotient)
}

#[cfg(test)]
mod tests;
