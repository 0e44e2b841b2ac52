//! What methods of a penalty share: two networks, of which y also sees the target, and weights that follow the difference of
//! their losses on the sources.
//!
//! With g(x, y) = Σ p_i(x) L_i(y), p = softmax(x), f the loss on the target and a multiplier λ, y descends g + f/λ and z descends g.
//! Then λ (∇ₓg(x, y) − ∇ₓg(x, z)) tends to ∇F as λ grows, with an error O(1/λ) where g is strongly convex, and needs the losses of
//! the sources at y and at z only.

use super::{
    Job, Search, Start, Tools,
    estimate::filled,
    job::{Drawn, order, purpose},
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    train::{Buffers, Network, StepBatch, StepLosses, step_size, weighted_gradient},
};

/// A search that begins with y and z at the same place; y first, since it is the one that is traced.
pub fn start<M: Default>(job: &Job) -> Start<M> {
    let fresh = job.fresh(purpose::SEARCH);
    Start { weights: job.initial(), memory: M::default(), networks: Some(vec![fresh.clone(), fresh]) }
}

/// What a step of both networks on one batch measured, before they moved.
pub struct Descent {
    /// At y.
    pub at_y: StepLosses,
    /// At z.
    pub at_z: StepLosses,
    /// The step size.
    pub size: f64,
}

/// One step of both networks on one batch of all sources; y takes `count` examples of the target as well. Both objectives are
/// divided by λ, so that `train.clip` and step sizes do not depend on it. Charges and counts it; `None` when the budget does not
/// reach.
///
/// # Errors
/// When a loss or a gradient is not finite.
pub fn descend<M>(
    job: &Job,
    search: &mut Search<M>,
    networks: &mut [Network],
    tools: &mut Tools,
    lambda: f64,
    count: usize,
) -> Result<Option<Descent>, ReweightError> {
    let setting = job.setting;
    let train = &setting.recipe.train;
    let batch = StepBatch::draw(setting, tools.orders.sources(job, order::SEARCH), search.step);
    let drawn = tools.orders.validation(job, order::VALIDATION).take(search.step * count as u64, count);
    let target = Drawn::of(setting, &setting.validation, drawn);
    let charges = [(Entry::Training, 2 * batch.tokens), (Entry::ValidationGradient, target.tokens())];
    if search.ledger.price_of(&charges) > search.ledger.left() {
        return Ok(None);
    }
    let [y, z] = networks else { unreachable!("a search with two networks") };
    let p = search.upper.weights();
    let size = step_size(train, search.step, search.ledger.progress());
    let buffers = &mut tools.buffers;

    let at_z = job.update(search.step, z, &batch, &p, size, buffers)?;
    let at_y = weighted_gradient(setting, y, &batch, &p, buffers);
    job.require_finite(&at_y, &batch, search.step + 1)?;
    let Buffers { total, work, .. } = buffers;
    let loss = target.add_gradient(&setting.decoder, y.weights(), 1.0 / lambda, total, work);
    if !loss.is_finite() {
        return Err(job.non_finite("validation", search.step + 1, &target.examples));
    }
    y.update(&setting.decoder, train, size, &mut buffers.total);

    search.ledger.charge_all(&charges);
    search.count(1, &at_y);
    Ok(Some(Descent { at_y, at_z, size }))
}

/// D_i = L_i(y) − L_i(z); a source that a batch did not measure gets the weighted mean of the others, which moves it nowhere.
pub fn differences(p: &[f64], at_y: &[Option<f64>], at_z: &[Option<f64>]) -> Vec<f64> {
    let known: Vec<Option<f64>> = at_y.iter().zip(at_z).map(|(y, z)| Some((*y)? - (*z)?)).collect();
    filled(p, &known)
}

/// λ (∇ₓg(x, y) − ∇ₓg(x, z)) at p = softmax(x), of the differences D_i: its components are λ p_i (D_i − Σ_l p_l D_l).
pub fn penalty_gradient(lambda: f64, p: &[f64], apart: &[f64]) -> Vec<f64> {
    let mean: f64 = p.iter().zip(apart).map(|(p, d)| p * d).sum();
    p.iter().zip(apart).map(|(p, d)| lambda * p * (d - mean)).collect()
}

/// Weighted ridge regression with known answers, for all methods of a penalty.
#[cfg(test)]
pub mod ridge {
    use nalgebra::{Matrix4, Vector4};

    use super::*;
    use crate::methods::softmax;

    /// `SplitMix64` and normals by Box and Muller, as the fixture prescribes them.
    struct Draws(u64);

    impl Draws {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
        fn normal(&mut self) -> f64 {
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            radius * (std::f64::consts::TAU * self.uniform()).cos()
        }
    }

    /// ‖A y − b‖²/40 as ½ yᵀ H y − cᵀ y + d.
    struct Quadratic {
        h: Matrix4<f64>,
        c: Vector4<f64>,
        d: f64,
    }

    impl Quadratic {
        fn of(rows: &[Vector4<f64>], b: &[f64]) -> Self {
            let mut out = Self { h: Matrix4::zeros(), c: Vector4::zeros(), d: 0.0 };
            for (row, &b) in rows.iter().zip(b) {
                out.h += row * row.transpose() / 20.0;
                out.c += row * b / 20.0;
                out.d += b * b / 40.0;
            }
            out
        }
        fn at(&self, y: &Vector4<f64>) -> f64 {
            0.5 * (self.h * y).dot(y) - self.c.dot(y) + self.d
        }
        fn gradient(&self, y: &Vector4<f64>) -> Vector4<f64> {
            self.h * y - self.c
        }
    }

    /// Weighted ridge regression: five sources of 20 rows whose noise grows, g = Σ p_i ‖A_i y − b_i‖²/40 + 0.005 ‖y‖².
    pub struct Ridge {
        sources: Vec<Quadratic>,
        target: Quadratic,
    }

    impl Ridge {
        pub fn new() -> Self {
            let mut draws = Draws(7);
            let truth = Vector4::new(1.0, -0.5, 0.25, 2.0);
            let mut ends = Vec::new();
            let mut quadratics: Vec<Quadratic> = [0.1, 0.5, 1.0, 2.0, 4.0, 0.1]
                .into_iter()
                .map(|noise| {
                    let rows: Vec<Vector4<f64>> =
                        (0..20).map(|_| Vector4::from_fn(|_, _| draws.normal())).collect();
                    let b: Vec<f64> = rows.iter().map(|a| a.dot(&truth) + noise * draws.normal()).collect();
                    ends.push((rows[0][0], b[0], b[19]));
                    Quadratic::of(&rows, &b)
                })
                .collect();
            assert!((ends[0].0 - 0.988_474_332_318_735).abs() < 1e-14, "{}", ends[0].0);
            assert!((ends[4].2 + 1.410_601_564_157).abs() < 1e-11, "{}", ends[4].2);
            assert!((ends[5].1 + 1.352_286_795_304).abs() < 1e-11, "{}", ends[5].1);
            let target = quadratics.pop().unwrap();
            Self { sources: quadratics, target }
        }
        /// Hessian and linear part of g.
        fn lower(&self, p: &[f64]) -> (Matrix4<f64>, Vector4<f64>) {
            let mut h = Matrix4::identity() * 0.01;
            let mut c = Vector4::zeros();
            for (p, source) in p.iter().zip(&self.sources) {
                h += source.h * *p;
                c += source.c * *p;
            }
            (h, c)
        }
        /// The minimiser of g.
        pub fn fitted(&self, p: &[f64]) -> Vector4<f64> {
            let (h, c) = self.lower(p);
            h.cholesky().unwrap().solve(&c)
        }
        pub fn losses(&self, y: &Vector4<f64>) -> Vec<f64> {
            self.sources.iter().map(|source| source.at(y)).collect()
        }
        /// F and ∇F by implicit differentiation.
        pub fn exact(&self, x: &[f64]) -> (f64, Vec<f64>) {
            let p = softmax(x);
            let y = self.fitted(&p);
            let v = self.lower(&p).0.cholesky().unwrap().solve(&self.target.gradient(&y));
            let along: Vec<f64> = self.sources.iter().map(|s| -s.gradient(&y).dot(&v)).collect();
            // what ∂F/∂p becomes in x is the same map as that of a difference of losses
            (self.target.at(&y), penalty_gradient(1.0, &p, &along))
        }
        /// D with y and z solved for.
        pub fn differences(&self, lambda: f64, x: &[f64]) -> Vec<f64> {
            let p = softmax(x);
            let (h, c) = self.lower(&p);
            let y = (self.target.h + h * lambda).cholesky().unwrap().solve(&(self.target.c + c * lambda));
            let at = [self.losses(&y), self.losses(&self.fitted(&p))];
            let [at_y, at_z] = at.map(|losses| losses.into_iter().map(Some).collect::<Vec<_>>());
            differences(&p, &at_y, &at_z)
        }
    }
    pub fn apart(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ridge::{Ridge, apart},
        *,
    };
    use crate::methods::softmax;

    #[test]
    fn the_penalty_gradient_of_weighted_ridge_approaches_the_exact_one_as_alpha_grows() {
        let ridge = Ridge::new();
        let (value, exact) = ridge.exact(&[0.0; 5]);
        assert!((value - 0.023_521_908_347).abs() < 1e-12, "{value}");
        let printed =
            [-0.006_237_549_5, -0.005_582_258_8, 0.002_472_908_0, -0.016_591_116_5, 0.025_938_016_9];
        assert!(exact.iter().zip(printed).all(|(a, b)| (a - b).abs() < 1e-10), "{exact:?}");
        let length = apart(&exact, &[0.0; 5]);
        for (alpha, error, digit) in [
            (1.0, 0.663, 1e-3),
            (10.0, 0.1586, 1e-4),
            (100.0, 1.837e-2, 1e-5),
            (1e3, 1.867e-3, 1e-6),
            (1e4, 1.870e-4, 1e-7),
        ] {
            let relative = apart(
                &penalty_gradient(alpha, &softmax(&[0.0; 5]), &ridge.differences(alpha, &[0.0; 5])),
                &exact,
            ) / length;
            assert!((relative - error).abs() < 0.51 * digit, "α = {alpha}: {relative}");
        }
    }

    #[test]
    fn a_source_that_was_not_measured_is_moved_nowhere() {
        let (p, at_u) = ([0.5, 0.3, 0.2], [Some(0.0); 3]);
        let apart = differences(&p, &[Some(2.0), None, Some(-1.0)], &at_u);
        let gradient = penalty_gradient(10.0, &p, &apart);
        assert!(gradient[1].abs() < 1e-15, "{gradient:?}");
        // the others as if they were alone, at p = (5/7, 2/7), with the share 0.7 of the weight
        let alone = penalty_gradient(10.0, &[5.0 / 7.0, 2.0 / 7.0], &[2.0, -1.0]);
        assert!((gradient[0] - 0.7 * alone[0]).abs() < 1e-12 && (gradient[2] - 0.7 * alone[1]).abs() < 1e-12);
        assert_eq!(differences(&p, &[None; 3], &at_u), [0.0; 3]);
    }
}
