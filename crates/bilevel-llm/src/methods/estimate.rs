//! Derivatives of the sources' losses along a direction, on two half-batches.
//!
//! g(x, y) = Σ_i p_i(x) L_i(y), p = softmax(x), f = L_val(y). With a direction v made of ∇L_val the hypergradient is
//! ∂F/∂p_i = −⟨∇L_i, v⟩ and (∇F)_i = −p_i (⟨∇L_i, v⟩ − Σ_l p_l ⟨∇L_l, v⟩). Methods differ in v.

use super::{Job, Orders, Search, Tools, job::order};
use crate::{
    error::ReweightError,
    ledger::Entry,
    model::{Batch, Workspace},
    result::CycleCertificate,
    source::Order,
    train::{Network, norm},
};

/// Displacement of central differences, relative to |y|: the truncation is of its square, the rounding of f32 losses
/// (1e-7) of its inverse.
const DISPLACEMENT: f64 = 1e-3;

/// The displacement of y along v: h with |h v| = 1e-3 |y|.
pub fn displacement(size: f64, v: &[f32]) -> f64 {
    DISPLACEMENT * size / norm(v).max(f64::MIN_POSITIVE)
}

/// The batches of one cycle's hypergradient, in halves.
#[derive(Clone, Debug)]
pub struct GradientBatches {
    /// The halves.
    pub halves: [Half; 2],
}

/// Half of the batches of a cycle.
#[derive(Clone, Debug)]
pub struct Half {
    /// Of the target.
    pub validation: Batch,
    /// Of each source, for its derivative.
    pub source: Vec<Batch>,
    /// Of each source, for curvature products.
    pub curvature: Vec<Batch>,
}

/// Tokens that go through a model.
pub fn tokens(batches: &[Batch]) -> u64 {
    batches.iter().map(|b| b.tokens.len() as u64).sum()
}

/// A cycle's examples of an order, in halves of equal size.
fn split(order: &mut Order, cycle: u64, count: usize) -> [Vec<usize>; 2] {
    let count = count & !1;
    let drawn = order.take(cycle * count as u64, count);
    let (a, b) = drawn.split_at(count / 2);
    [a.to_vec(), b.to_vec()]
}

/// A cycle's batches of all sources in the order of this number, in halves.
pub fn source_halves(
    job: &Job,
    orders: &mut Orders,
    number: u64,
    cycle: u64,
    count: usize,
) -> [Vec<Batch>; 2] {
    let mut out = [Vec::new(), Vec::new()];
    for (source, order) in job.setting.sources.iter().zip(orders.sources(job, number)) {
        for (out, drawn) in out.iter_mut().zip(split(order, cycle, count)) {
            out.push(source.batch(drawn));
        }
    }
    out
}

impl GradientBatches {
    /// The batches of cycle number `cycle`.
    pub fn draw(job: &Job, orders: &mut Orders, cycle: u64) -> Self {
        let setting = job.setting;
        let spec = &setting.recipe.reweight;
        let validation = split(orders.validation(job, order::VALIDATION), cycle, spec.validation_batch);
        let [sa, sb] = source_halves(job, orders, order::SOURCE, cycle, spec.source_batch);
        let [ca, cb] = source_halves(job, orders, order::CURVATURE, cycle, spec.curvature_batch);
        let [va, vb] = validation.map(|v| setting.validation.batch(v));
        Self {
            halves: [
                Half { validation: va, source: sa, curvature: ca },
                Half { validation: vb, source: sb, curvature: cb },
            ],
        }
    }

    /// What ∇L_val and ⟨∇L_i, v⟩ cost on these batches.
    pub fn charges(&self) -> Vec<(Entry, u64)> {
        let sum = |f: &dyn Fn(&Half) -> u64| self.halves.iter().map(f).sum::<u64>();
        vec![
            (Entry::ValidationGradient, sum(&|h| h.validation.tokens.len() as u64)),
            (Entry::Directional, sum(&|h| tokens(&h.source))),
        ]
    }

    /// Tokens that go through the model in one curvature product on both halves.
    pub fn curvature_tokens(&self) -> u64 {
        self.halves.iter().map(|h| tokens(&h.curvature)).sum()
    }
}

/// How a direction v is made of ∇L_val, on one half.
pub trait Direction {
    /// v, of the half's ∇L_val.
    fn of(
        &mut self,
        half: &Half,
        gradient: Vec<f32>,
        work: &mut Workspace<f32>,
    ) -> Result<Vec<f32>, ReweightError>;
}

/// Numbers of the sources, those that a batch did not measure replaced by the weighted mean of the others, which moves their weight
/// nowhere; zero when none was measured.
pub fn filled(p: &[f64], known: &[Option<f64>]) -> Vec<f64> {
    let pairs = || known.iter().zip(p).filter_map(|(a, p)| a.map(|a| (a, p)));
    let weight: f64 = pairs().map(|(_, p)| p).sum();
    let mean = if weight > 0.0 { pairs().map(|(a, p)| a * p).sum::<f64>() / weight } else { 0.0 };
    known.iter().map(|a| a.unwrap_or(mean)).collect()
}

/// −⟨∇L_i, v⟩ for each half and source, by central differences of the losses along v.
fn derivatives(
    job: &Job,
    network: &Network,
    batches: &GradientBatches,
    p: &[f64],
    direction: &mut impl Direction,
    work: &mut Workspace<f32>,
) -> Result<[Vec<f64>; 2], ReweightError> {
    let decoder = &job.setting.decoder;
    let size = norm(&network.y);
    let mut out = [Vec::new(), Vec::new()];
    for (half, out_half) in batches.halves.iter().zip(&mut out) {
        let mut b = vec![0.0; network.y.len()];
        let scale = 1.0 / half.validation.rows.len().max(1) as f64;
        decoder.loss_gradient(network.weights(), &half.validation, scale, &mut b, work);
        let v = direction.of(half, b, work)?;
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
        let mut along = |batch: &Batch| {
            let mut mean = |y: &[f32]| {
                decoder.row_losses(network.weights_at(y), batch, work).iter().sum::<f64>()
                    / batch.rows.len() as f64
            };
            (!batch.rows.is_empty()).then(|| -(mean(&forth) - mean(&back)) / (2.0 * h))
        };
        *out_half = filled(p, &half.source.iter().map(&mut along).collect::<Vec<_>>());
    }
    Ok(out)
}

/// DIFFERENTIATE: ∂F/∂p along the direction, on both halves. `more` is what the direction costs beside the usual charges.
/// `None` when the budget does not reach.
pub fn estimate<M>(
    job: &Job,
    search: &mut Search<M>,
    network: &Network,
    tools: &mut Tools,
    batches: &GradientBatches,
    more: Option<(Entry, u64)>,
    direction: &mut impl Direction,
) -> Result<Option<[Vec<f64>; 2]>, ReweightError> {
    let mut charges = batches.charges();
    charges.extend(more);
    if search.ledger.price_of(&charges) > search.ledger.left() {
        return Ok(None);
    }
    let halves =
        derivatives(job, network, batches, &search.upper.weights(), direction, &mut tools.buffers.work)?;
    search.ledger.charge_all(&charges);
    if halves.iter().flatten().any(|s| !s.is_finite()) {
        return Err(job.non_finite("validation", search.step));
    }
    Ok(Some(halves))
}

/// DIFFERENTIATE and UPDATE: [`estimate`], then a step of x by the rule of the recipe.
pub fn differentiate<M>(
    job: &Job,
    search: &mut Search<M>,
    network: &Network,
    tools: &mut Tools,
    batches: &GradientBatches,
    more: Option<(Entry, u64)>,
    direction: &mut impl Direction,
) -> Result<Option<CycleCertificate>, ReweightError> {
    let Some(halves) = estimate(job, search, network, tools, batches, more, direction)? else {
        return Ok(None);
    };
    let (r, limits) = (search.relative_gradient(), job.limits());
    let spec = &job.setting.recipe.reweight;
    Ok(Some(search.upper.update(spec, limits.as_deref(), &halves, r, &search.ledger)))
}
