//! The practical HG-MS on source weights: select among short continuations, differentiate, update.
//!
//! g(x, y) = Σ_i p_i(x) L_i(y), p = softmax(x), f = L_val(y). With (H_GN + damping) v = ∇L_val the hypergradient is
//! ∂F/∂p_i = −⟨∇L_i, v⟩ and (∇F)_i = −p_i (⟨∇L_i, v⟩ − Σ_l p_l ⟨∇L_l, v⟩).

use bilevel::{
    Vector,
    linear::{LinearSolver, cg::Cg},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::ReweightError,
    ledger::{Entry, Ledger},
    model::Batch,
    recipe::{Damping, Method, ReweightSpec, Upper},
    result::{Continuation, CycleCertificate},
    source::Order,
    train::{Buffers, Network, Setting, mean_step_size, norm},
};

/// Displacement of central differences, relative to |y|: the truncation is of its square, the rounding of f32 losses
/// (1e-7) of its inverse.
const DISPLACEMENT: f64 = 1e-3;
/// Below this r the sources are fitted and the weights have no effect.
const R_MIN: f64 = 1e-3;

/// A flat list of f32 as an element of a vector space.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flat(Vec<f32>);

impl Vector for Flat {
    fn dim(&self) -> usize {
        self.0.len()
    }
    fn zeros_like(&self) -> Self {
        Self(vec![0.0; self.0.len()])
    }
    fn dot(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }
    fn axpy(&mut self, a: f64, x: &Self) {
        self.0.iter_mut().zip(&x.0).for_each(|(s, &x)| *s = (f64::from(*s) + a * f64::from(x)) as f32);
    }
    fn scale(&mut self, a: f64) {
        self.0.iter_mut().for_each(|s| *s = (a * f64::from(*s)) as f32);
    }
    fn coordinates(&self) -> Vec<f64> {
        self.0.iter().map(|&a| f64::from(a)).collect()
    }
    fn with_coordinates(&self, coordinates: &[f64]) -> Self {
        Self(coordinates.iter().map(|&a| a as f32).collect())
    }
    fn resolution(&self) -> f64 {
        f64::from(f32::EPSILON)
    }
}

/// The upper variable and the memory of its updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpperState {
    /// Source logits.
    pub x: Vec<f64>,
    /// Running means of ∂F/∂p (centred) on the two half-batches.
    halves: [Vec<f64>; 2],
    /// Running means of squares: one number for mirror steps, one for each source for Adam.
    square: Vec<f64>,
    /// Updates of the running means.
    pub cycles: u64,
    /// Cycles in which p stayed.
    pub no_signal: u64,
    /// p after each cycle.
    pub history: Vec<Vec<f64>>,
    /// Units spent at the last cycle's end.
    spent: f64,
}

impl UpperState {
    /// At weights p, nothing learned yet.
    pub fn new(p: &[f64]) -> Self {
        let zeros = vec![0.0; p.len()];
        Self {
            x: p.iter().map(|p| p.ln()).collect(),
            halves: [zeros.clone(), zeros.clone()],
            square: zeros,
            cycles: 0,
            no_signal: 0,
            history: Vec::new(),
            spent: 0.0,
        }
    }
    /// p = softmax(x).
    pub fn weights(&self) -> Vec<f64> {
        softmax(&self.x)
    }
    /// The mean of p over the last fraction of the cycles; p itself before the first.
    pub fn final_weights(&self, fraction: f64) -> Vec<f64> {
        let n = ((self.history.len() as f64 * fraction).ceil() as usize).min(self.history.len());
        let last = &self.history[self.history.len() - n..];
        if last.is_empty() {
            return self.weights();
        }
        (0..self.x.len()).map(|i| last.iter().map(|p| p[i]).sum::<f64>() / n as f64).collect()
    }

    /// Takes in one cycle's estimates of ∂F/∂p on two half-batches; moves x unless nothing rises above the noise.
    pub fn update(
        &mut self,
        spec: &ReweightSpec,
        estimates: &[Vec<f64>; 2],
        r: f64,
        ledger: &Ledger,
    ) -> CycleCertificate {
        let step = spec.step.of_cycle((ledger.spent() - self.spent) / ledger.budget());
        self.spent = ledger.spent();
        let p = self.weights();
        let keep = spec.averaging;
        self.cycles += 1;
        let correction = 1.0 - keep.powf(self.cycles as f64);
        for (mean, estimate) in self.halves.iter_mut().zip(estimates) {
            let centre: f64 = estimate.iter().zip(&p).map(|(s, p)| s * p).sum();
            for (m, s) in mean.iter_mut().zip(estimate) {
                *m = keep * *m + (1.0 - keep) * (s - centre);
            }
        }
        let [a, b] = &self.halves;
        let signal: Vec<f64> = a.iter().zip(b).map(|(a, b)| 0.5 * (a + b) / correction).collect();
        let gradient: Vec<f64> = signal.iter().zip(&p).map(|(s, p)| s * p).collect();
        let noise =
            a.iter().zip(b).zip(&p).map(|((a, b), p)| (p * (a - b) / correction).powi(2)).sum::<f64>().sqrt();
        let gradient_norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        // equality counts as no signal: with one source, or none that differ, both sides are zero
        let no_signal = r < R_MIN || gradient_norm <= noise;
        let k = p.len() as f64;
        let mean_square = signal.iter().map(|s| s * s).sum::<f64>() / k;
        for (q, g) in self.square.iter_mut().zip(&gradient) {
            let new = match spec.upper {
                Upper::Mirror => mean_square,
                Upper::Adam => g * g,
            };
            *q = keep * *q + (1.0 - keep) * new;
        }
        if no_signal {
            self.no_signal += 1;
        } else {
            for ((x, q), (s, g)) in self.x.iter_mut().zip(&self.square).zip(signal.iter().zip(&gradient)) {
                let along = match spec.upper {
                    Upper::Mirror => s,
                    Upper::Adam => g,
                };
                // 1e-12: a direction without any history does not move
                *x -= step * along / ((q / correction).sqrt() + 1e-12);
            }
            let capped = cap(softmax(&self.x), spec.cap);
            self.x = capped.iter().map(|p| p.max(f64::MIN_POSITIVE).ln()).collect();
        }
        self.history.push(self.weights());
        CycleCertificate {
            r,
            gradient_norm,
            noise,
            gradient,
            no_signal,
            solve_residual: None,
            damping: None,
            continuations: Vec::new(),
        }
    }
}

/// Softmax of a short list.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|a| (a - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|a| a / sum).collect()
}

/// The weights with none above `cap`: what is cut off goes to the others in proportion.
fn cap(mut p: Vec<f64>, cap: Option<f64>) -> Vec<f64> {
    let Some(cap) = cap else { return p };
    let mut is_full = vec![false; p.len()];
    // each pass fills at least one more source
    while let Some(i) = (0..p.len()).find(|&i| !is_full[i] && p[i] > cap) {
        is_full[i] = true;
        p[i] = cap;
        let room = 1.0 - cap * is_full.iter().filter(|&&f| f).count() as f64;
        let rest: f64 = p.iter().zip(&is_full).filter(|(_, f)| !**f).map(|(p, _)| p).sum();
        for (p, _) in p.iter_mut().zip(&is_full).filter(|(_, f)| !**f) {
            *p *= room.max(0.0) / rest;
        }
    }
    p
}

/// Orders of the batches of hypergradients; beside those of training (0, 1, …).
const VALIDATION_ORDER: u64 = 1 << 32;
const SOURCE_ORDER: u64 = VALIDATION_ORDER + 1;
const CURVATURE_ORDER: u64 = VALIDATION_ORDER + 2;

/// The orders that a method's hypergradients draw from.
#[derive(Clone, Debug)]
pub struct GradientOrders {
    validation: Order,
    source: Vec<Order>,
    curvature: Vec<Order>,
}

impl GradientOrders {
    /// Those of a seed.
    pub fn new(seed: u64, setting: &Setting) -> Self {
        let all = |order| setting.sources.iter().map(|s| Order::new(seed, s, order)).collect();
        Self {
            validation: Order::new(seed, &setting.validation, VALIDATION_ORDER),
            source: all(SOURCE_ORDER),
            curvature: all(CURVATURE_ORDER),
        }
    }
}

/// The batches of one cycle's hypergradient, in halves.
#[derive(Clone, Debug)]
pub struct GradientBatches {
    halves: [Half; 2],
}

#[derive(Clone, Debug)]
struct Half {
    validation: Batch,
    source: Vec<Batch>,
    curvature: Vec<Batch>,
}

impl Half {
    fn tokens(batches: &[Batch]) -> u64 {
        batches.iter().map(|b| b.tokens.len() as u64).sum()
    }
}

impl GradientBatches {
    /// The batches of cycle number `cycle`.
    pub fn draw(setting: &Setting, orders: &mut GradientOrders, cycle: u64) -> Self {
        let spec = &setting.recipe.reweight;
        let split = |order: &mut Order, count: usize| {
            let count = count & !1;
            let drawn = order.take(cycle * count as u64, count);
            let (a, b) = drawn.split_at(count / 2);
            [a.to_vec(), b.to_vec()]
        };
        let validation = split(&mut orders.validation, spec.validation_batch);
        let per_source = |orders: &mut [Order], count: usize| -> [Vec<Batch>; 2] {
            let mut out = [Vec::new(), Vec::new()];
            for (source, order) in setting.sources.iter().zip(orders) {
                for (out, drawn) in out.iter_mut().zip(split(order, count)) {
                    out.push(source.batch(drawn));
                }
            }
            out
        };
        let [sa, sb] = per_source(&mut orders.source, spec.source_batch);
        let [ca, cb] = per_source(&mut orders.curvature, spec.curvature_batch);
        let [va, vb] = validation.map(|v| setting.validation.batch(v));
        Self {
            halves: [
                Half { validation: va, source: sa, curvature: ca },
                Half { validation: vb, source: sb, curvature: cb },
            ],
        }
    }

    /// What the hypergradient of `method` will cost on these batches.
    pub fn charges(&self, method: Method, cg_steps: u64) -> Vec<(Entry, u64)> {
        let sum = |f: &dyn Fn(&Half) -> u64| self.halves.iter().map(f).sum::<u64>();
        let mut charges = vec![
            (Entry::ValidationGradient, sum(&|h| h.validation.tokens.len() as u64)),
            (Entry::Directional, sum(&|h| Half::tokens(&h.source))),
        ];
        if method == Method::HgMs {
            charges.push((Entry::GaussNewton, cg_steps * sum(&|h| Half::tokens(&h.curvature))));
        }
        charges
    }
}

/// ∂F/∂p on two half-batches.
#[derive(Clone, Debug)]
pub struct Estimates {
    /// −⟨∇L_i, v⟩ for each half and source.
    pub halves: [Vec<f64>; 2],
    /// Larger relative residual of the two solves.
    pub residual: Option<f64>,
    /// Damping that was used.
    pub damping: Option<f64>,
}

/// Computes ∂F/∂p on both halves: by the damped solve for HG-MS, with v = ∇L_val for alignment.
#[expect(clippy::too_many_arguments, reason = "everything that a hypergradient rests on")]
pub fn estimate(
    setting: &Setting,
    method: Method,
    network: &Network,
    p: &[f64],
    ledger: &Ledger,
    steps: u64,
    batches: &GradientBatches,
    buffers: &mut Buffers,
) -> Result<Estimates, ReweightError> {
    let decoder = &setting.decoder;
    let spec = &setting.recipe.reweight;
    let size = norm(&network.y);
    let mut out = Estimates { halves: [Vec::new(), Vec::new()], residual: None, damping: None };
    let (metric, gamma) = match spec.damping {
        Damping::Fixed(gamma) => (None, gamma),
        Damping::Horizon => {
            let left = ledger.left().max(0.0) / (ledger.spent() / steps.max(1) as f64).max(1.0);
            let eta = mean_step_size(&setting.recipe.train, ledger.progress());
            // at least one step remains, or there would be nothing to weigh
            (Some(network.metric(setting.recipe.train.optimizer)), 1.0 / (eta * left.max(1.0)))
        }
    };
    for (half, out_half) in batches.halves.iter().zip(&mut out.halves) {
        let mut b = vec![0.0; network.y.len()];
        let scale = 1.0 / half.validation.rows.len() as f64;
        decoder.loss_gradient(network.weights(), &half.validation, scale, &mut b, &mut buffers.work);
        let v = if method == Method::HgMs {
            // in the metric: (D^-½ H D^-½ + γ) w = D^-½ b, v = D^-½ w
            let root: Vec<f32> = metric
                .as_ref()
                .map_or_else(|| vec![1.0; b.len()], |d| d.iter().map(|d| 1.0 / d.sqrt()).collect());
            let rhs = Flat(b.iter().zip(&root).map(|(b, r)| b * r).collect());
            let work = &mut buffers.work;
            let mut apply = |w: &Flat| {
                let v: Vec<f32> = w.0.iter().zip(&root).map(|(w, r)| w * r).collect();
                let h = DISPLACEMENT * size / norm(&v).max(f64::MIN_POSITIVE);
                let mut product = vec![0.0; v.len()];
                for (batch, &p) in half.curvature.iter().zip(p) {
                    let scale = p / batch.rows.len() as f64;
                    decoder.gauss_newton(network.weights(), &v, h, batch, scale, &mut product, work);
                }
                for ((a, r), w) in product.iter_mut().zip(&root).zip(&w.0) {
                    *a = *a * r + gamma as f32 * w;
                }
                Ok(Flat(product))
            };
            let cg = Cg { tolerance: 1e-6, max_iterations: spec.cg_steps, ..Cg::default() };
            let zero = rhs.zeros_like();
            let solved = cg.solve(&mut apply, &rhs, &zero)?;
            let relative = solved.residual / rhs.norm().max(f64::MIN_POSITIVE);
            out.residual = Some(out.residual.map_or(relative, |r: f64| r.max(relative)));
            out.damping = Some(gamma);
            solved.solution.0.iter().zip(&root).map(|(w, r)| w * r).collect()
        } else {
            b
        };
        let length = norm(&v);
        if length == 0.0 {
            *out_half = vec![0.0; half.source.len()];
            continue;
        }
        let h = DISPLACEMENT * size / length;
        let moved = |sign: f64| -> Vec<f32> {
            network.y.iter().zip(&v).map(|(&y, &v)| (f64::from(y) + sign * h * f64::from(v)) as f32).collect()
        };
        let (forth, back) = (moved(1.0), moved(-1.0));
        for batch in &half.source {
            let mut mean = |y: &[f32]| {
                decoder.row_losses(network.weights_at(y), batch, &mut buffers.work).iter().sum::<f64>()
                    / batch.rows.len() as f64
            };
            out_half.push(-(mean(&forth) - mean(&back)) / (2.0 * h));
        }
    }
    Ok(out)
}

/// The winner among continuations: of those with a training loss within the tolerance of the least, the one with
/// the least validation loss; the first of equals.
pub fn select(continuations: &[Continuation], tolerance: f64) -> usize {
    let least = continuations.iter().map(|c| c.train_loss).fold(f64::INFINITY, f64::min);
    let mut winner: Option<usize> = None;
    for (i, c) in continuations.iter().enumerate() {
        let is_better = winner.is_none_or(|w| c.validation_loss < continuations[w].validation_loss);
        if c.train_loss <= least + tolerance && is_better {
            winner = Some(i);
        }
    }
    winner.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{LedgerSpec, UpperStep};

    #[test]
    fn a_reach_is_covered_whatever_the_number_of_cycles() {
        let spec = ReweightSpec { step: UpperStep::Reach(3.0), averaging: 0.0, ..ReweightSpec::default() };
        for cycles in [1, 3, 10] {
            let mut upper = UpperState::new(&[0.5, 0.5]);
            let mut ledger = Ledger::new(900.0, LedgerSpec { training: 1.0, ..LedgerSpec::default() });
            let mut covered = 0.0;
            for _ in 0..cycles {
                ledger.charge(Entry::Training, 900 / cycles);
                let (p, before) = (upper.weights(), upper.x[0] - upper.x[1]);
                upper.update(&spec, &[vec![-1.0, 1.0], vec![-1.0, 1.0]], 1.0, &ledger);
                // centred at p the two derivatives are −1 − c and 1 − c, of root mean square √(1 + c²)
                let c = p[1] - p[0];
                covered += (upper.x[0] - upper.x[1] - before) / 2.0 * (1.0 + c * c).sqrt();
            }
            assert!((covered - 3.0).abs() < 1e-9, "{cycles} cycles covered {covered}");
        }
    }
}
