//! `ScaleBiO`: two networks, one of which also sees the target, and weights that follow the difference of their losses.

use serde::{Deserialize, Serialize};

use super::{
    Advance, Footprint, Job, Learner, Search, Start, Tools,
    job::{order, purpose},
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    recipe::{Recipe, ScaleBioSpec},
    train::{Network, StepBatch, step_size, weighted_gradient},
};

/// Of `AdamW` on x, as in the released code.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// `ScaleBiO` (arXiv 2406.19976): min over x and y, max over u, of f(y) + α (g(x, y) − g(x, u)), with f the loss on the target
/// and g = Σ p_i L_i, p = softmax(x). A step draws one batch of all sources and one of the target; u descends g, y descends
/// g + f/α, and x moves along α (∇ₓg(x, y) − ∇ₓg(x, u)), which needs the losses of the two forward passes only.
///
/// Where the released code (`research4pan/scalebio`) differs from this:
/// - The objectives are divided by α throughout, so that `train.clip` bounds what the release clips at α, and descent without
///   adaptive steps does not need a step size that depends on α.
/// - f is the mean over the target's tokens under the loss and L_i that over the source's; the release divides f by the
///   number of tokens and does not divide the penalty, so that its α depends on the batch.
/// - The validation examples are never trained on, other than through f as above.
/// - The weights are those of the last step; a fresh model is trained with them.
///
/// The search costs two training steps and a validation gradient for every step of y.
#[derive(Clone, Copy, Debug)]
pub struct ScaleBio {
    /// How x moves.
    pub variant: Variant,
}

/// How x moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// A plain step along the gradient.
    AsPublished,
    /// `AdamW` with decoupled decay. A coordinate of x moves by about its step size in every step whatever the size of its gradient, so
    /// that no two log-weights differ by more than about twice the sum of the step sizes: the ranking of the weights says
    /// something, their spread does not. α has no effect on x but through y.
    AsReleased,
}

/// Moments of `AdamW` on x.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    first: Vec<f64>,
    second: Vec<f64>,
    updates: u64,
}

/// D_i = L_i(y) − L_i(u); a source that a batch did not measure gets the weighted mean of the others, which moves it nowhere.
fn differences(p: &[f64], at_y: &[Option<f64>], at_u: &[Option<f64>]) -> Vec<f64> {
    let known: Vec<Option<f64>> = at_y.iter().zip(at_u).map(|(y, u)| Some((*y)? - (*u)?)).collect();
    let of_known = |number: fn(f64, f64) -> f64| -> f64 {
        known.iter().zip(p).filter_map(|(d, p)| d.map(|d| number(*p, d))).sum()
    };
    let (sum, weight) = (of_known(|p, d| p * d), of_known(|p, _| p));
    let mean = if weight > 0.0 { sum / weight } else { 0.0 };
    known.iter().map(|d| d.unwrap_or(mean)).collect()
}

/// α (∇ₓg(x, y) − ∇ₓg(x, u)) at p = softmax(x), of the differences D_i = L_i(y) − L_i(u): its components are
/// α p_i (D_i − Σ_l p_l D_l).
fn penalty_gradient(alpha: f64, p: &[f64], apart: &[f64]) -> Vec<f64> {
    let mean: f64 = p.iter().zip(apart).map(|(p, d)| p * d).sum();
    p.iter().zip(apart).map(|(p, d)| alpha * p * (d - mean)).collect()
}

impl Variant {
    /// x after a step of size `size` along a gradient.
    fn moved(self, x: &[f64], gradient: &[f64], size: f64, decay: f64, moments: &mut Moments) -> Vec<f64> {
        match self {
            Self::AsPublished => x.iter().zip(gradient).map(|(x, g)| x - size * g).collect(),
            Self::AsReleased => {
                moments.first.resize(x.len(), 0.0);
                moments.second.resize(x.len(), 0.0);
                moments.updates += 1;
                let t = moments.updates as f64;
                let (one, two) = (1.0 - BETA1.powf(t), 1.0 - BETA2.powf(t));
                let both = moments.first.iter_mut().zip(&mut moments.second);
                x.iter()
                    .zip(gradient)
                    .zip(both)
                    .map(|((x, g), (m, v))| {
                        *m = BETA1 * *m + (1.0 - BETA1) * g;
                        *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                        x * (1.0 - size * decay) - size * (*m / one) / ((*v / two).sqrt() + EPSILON)
                    })
                    .collect()
            }
        }
    }
}

impl Learner for ScaleBio {
    type Memory = Moments;

    fn start(&self, job: &Job) -> Start<Moments> {
        let fresh = job.fresh(purpose::SEARCH);
        Start {
            weights: job.initial(),
            memory: Moments::default(),
            // y first: it is the one that is traced
            networks: Some(vec![fresh.clone(), fresh]),
        }
    }

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Moments>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let setting = job.setting;
        let train = &setting.recipe.train;
        let ScaleBioSpec { alpha, step, weight_decay, validation_batch } = setting.recipe.reweight.scalebio;
        let batch = StepBatch::draw(setting, tools.orders.sources(job, order::SEARCH), search.step);
        let count = validation_batch.unwrap_or(train.batch);
        let drawn = tools.orders.validation(job, order::VALIDATION).take(search.step * count as u64, count);
        let target = setting.validation.batch(drawn);
        let charges =
            [(Entry::Training, 2 * batch.tokens), (Entry::ValidationGradient, target.tokens.len() as u64)];
        if charges.iter().map(|&(e, t)| search.ledger.price(e, t)).sum::<f64>() > search.ledger.left() {
            return Ok(Advance::Spent);
        }
        let [y, u] = &mut networks[..] else { unreachable!("a search with two networks") };
        let p = search.upper.weights();
        let size = step_size(train, search.step, search.ledger.progress());
        let buffers = &mut tools.buffers;

        let at_u = job.update(search.step, u, &batch, &p, size, buffers)?;
        let at_y = weighted_gradient(setting, y, &batch, &p, buffers);
        job.require_finite(&at_y, &batch, search.step + 1)?;
        let scale = 1.0 / (alpha * target.rows.len() as f64);
        let loss =
            setting.decoder.loss_gradient(y.weights(), &target, scale, &mut buffers.total, &mut buffers.work);
        if !loss.is_finite() {
            return Err(job.non_finite("validation", search.step + 1));
        }
        y.update(&setting.decoder, train, size, &mut buffers.total);

        let gradient = penalty_gradient(alpha, &p, &differences(&p, &at_y.losses, &at_u.losses));
        let x = self.variant.moved(
            &search.upper.x,
            &gradient,
            step * size / train.lr,
            weight_decay,
            &mut search.memory,
        );
        search.upper.place(&x, setting.recipe.reweight.cap);
        for (entry, tokens) in charges {
            search.ledger.charge(entry, tokens);
        }
        search.count(1, &at_y);
        Ok(Advance::Stepped { losses: at_y, certificate: None })
    }

    fn footprint(&self, _recipe: &Recipe) -> Footprint {
        Footprint { models: 2, optimisers: 2, ..Footprint::TRAINING }
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training, Entry::ValidationGradient]
    }
}

#[cfg(test)]
mod tests {
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
    struct Ridge {
        sources: Vec<Quadratic>,
        target: Quadratic,
    }

    impl Ridge {
        fn new() -> Self {
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
        fn fitted(&self, p: &[f64]) -> Vector4<f64> {
            let (h, c) = self.lower(p);
            h.cholesky().unwrap().solve(&c)
        }
        fn losses(&self, y: &Vector4<f64>) -> Vec<f64> {
            self.sources.iter().map(|source| source.at(y)).collect()
        }
        /// F and ∇F by implicit differentiation.
        fn exact(&self, x: &[f64]) -> (f64, Vec<f64>) {
            let p = softmax(x);
            let y = self.fitted(&p);
            let v = self.lower(&p).0.cholesky().unwrap().solve(&self.target.gradient(&y));
            let along: Vec<f64> = self.sources.iter().map(|s| -s.gradient(&y).dot(&v)).collect();
            // what ∂F/∂p becomes in x is the same map as that of a difference of losses
            (self.target.at(&y), penalty_gradient(1.0, &p, &along))
        }
        /// The penalty's gradient with y and u solved for.
        fn penalised(&self, alpha: f64, x: &[f64]) -> Vec<f64> {
            let p = softmax(x);
            let (h, c) = self.lower(&p);
            let y = (self.target.h + h * alpha).cholesky().unwrap().solve(&(self.target.c + c * alpha));
            let at = [self.losses(&y), self.losses(&self.fitted(&p))];
            let [at_y, at_u] = at.map(|losses| losses.into_iter().map(Some).collect::<Vec<_>>());
            penalty_gradient(alpha, &p, &differences(&p, &at_y, &at_u))
        }
    }

    fn apart(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

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
            let relative = apart(&ridge.penalised(alpha, &[0.0; 5]), &exact) / length;
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

    #[test]
    fn plain_steps_reach_the_minimum_of_weighted_ridge() {
        let ridge = Ridge::new();
        let mut x = vec![0.0; 5];
        for _ in 0..100_000 {
            x = Variant::AsPublished.moved(&x, &ridge.exact(&x).1, 1.0, 0.0, &mut Moments::default());
        }
        let value = ridge.exact(&x).0;
        assert!((value - 0.005_223_03).abs() < 0.51e-8, "{value}");
        let printed = [0.8521, 0.0020, 0.0850, 0.0604, 0.0004];
        let p = softmax(&x);
        assert!(p.iter().zip(printed).all(|(a, b)| (a - b).abs() < 0.51e-4), "{p:?}");
    }

    /// 234 steps of a cosine from 1e-2, decay 1e-2.
    fn released(ridge: &Ridge, scale: f64) -> Vec<f64> {
        let (mut x, mut moments) = (vec![0.0; 5], Moments::default());
        for t in 0..234 {
            let size = 0.5e-2 * (1.0 + (std::f64::consts::PI * f64::from(t) / 234.0).cos());
            let gradient: Vec<f64> = ridge.exact(&x).1.iter().map(|g| scale * g).collect();
            x = Variant::AsReleased.moved(&x, &gradient, size, 1e-2, &mut moments);
        }
        x
    }

    #[test]
    fn the_released_steps_end_where_their_sum_lets_them_whatever_the_size_of_the_gradient() {
        let ridge = Ridge::new();
        let x = released(&ridge, 1.0);
        let value = ridge.exact(&x).0;
        assert!((value - 0.008_59).abs() < 0.51e-5, "{value}");
        let p = softmax(&x);
        let printed = [0.3726, 0.2925, 0.0624, 0.1954, 0.0772];
        assert!(p.iter().zip(printed).all(|(a, b)| (a - b).abs() < 0.51e-4), "{p:?}");
        let hundredfold = softmax(&released(&ridge, 100.0));
        assert!(apart(&p, &hundredfold) < 1e-6, "{p:?} {hundredfold:?}");
        // the steps sum to 1.175
        let spread = x.iter().copied().fold(f64::MIN, f64::max) - x.iter().copied().fold(f64::MAX, f64::min);
        assert!(spread < 2.0 * 1.175, "{spread}");
    }
}
