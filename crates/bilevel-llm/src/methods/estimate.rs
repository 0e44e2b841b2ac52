//! Derivatives of the sources' losses along a direction, on two half-batches.
//!
//! g(x, y) = Σ_i p_i(x) L_i(y), p = softmax(x), f = L_val(y). With a direction v made of ∇L_val the hypergradient is
//! ∂F/∂p_i = −⟨∇L_i, v⟩ and (∇F)_i = −p_i (⟨∇L_i, v⟩ − Σ_l p_l ⟨∇L_l, v⟩). Methods differ in v.

use super::{
    Job, Orders, Search, Tools,
    job::{Drawn, order, tokens},
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    model::Workspace,
    result::CycleCertificate,
    source::Order,
    train::{Buffers, Network, norm},
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
    pub validation: Drawn,
    /// Of each source, for its derivative.
    pub source: Vec<Drawn>,
    /// Of each source, for curvature products.
    pub curvature: Vec<Drawn>,
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
) -> [Vec<Drawn>; 2] {
    let mut out = [Vec::new(), Vec::new()];
    for (source, order) in job.setting.sources.iter().zip(orders.sources(job, number)) {
        for (out, drawn) in out.iter_mut().zip(split(order, cycle, count)) {
            out.push(Drawn::of(job.setting, source, drawn));
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
        let [va, vb] = validation.map(|v| Drawn::of(setting, &setting.validation, v));
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
            (Entry::ValidationGradient, sum(&|h| h.validation.tokens())),
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
    /// Turns the half's ∇L_val into v. `spare` is a list to use, whatever it holds.
    fn of(
        &mut self,
        half: &Half,
        gradient: &mut Vec<f32>,
        spare: &mut Vec<f32>,
        work: &mut Workspace<f32>,
    ) -> Result<(), ReweightError>;
}

/// Numbers of the sources, those that a batch did not measure replaced by the weighted mean of the others, which moves their weight
/// nowhere; zero when none was measured.
pub fn filled(p: &[f64], known: &[Option<f64>]) -> Vec<f64> {
    let pairs = || known.iter().zip(p).filter_map(|(a, p)| a.map(|a| (a, p)));
    let weight: f64 = pairs().map(|(_, p)| p).sum();
    let mean = if weight > 0.0 { pairs().map(|(a, p)| a * p).sum::<f64>() / weight } else { 0.0 };
    known.iter().map(|a| a.unwrap_or(mean)).collect()
}

/// −⟨∇L_i, v⟩ for each half and source, by central differences of the losses along v; refused where one is not finite, with the
/// examples of its batch. The buffers of a training step, which stand idle here, hold ∇L_val and then v.
fn derivatives(
    job: &Job,
    network: &Network,
    batches: &GradientBatches,
    p: &[f64],
    direction: &mut impl Direction,
    buffers: &mut Buffers,
    step: u64,
) -> Result<[Vec<f64>; 2], ReweightError> {
    let Buffers { work, source: spare, total: v } = buffers;
    let decoder = &job.setting.decoder;
    let size = norm(&network.y);
    let mut out = [Vec::new(), Vec::new()];
    for (half, out_half) in batches.halves.iter().zip(&mut out) {
        v.clear();
        v.resize(network.y.len(), 0.0);
        let target = &half.validation;
        let loss = target.add_gradient(decoder, network.weights(), 1.0, v, work);
        if !loss.is_finite() || !norm(v).is_finite() {
            return Err(job.non_finite("validation", step, &target.examples));
        }
        direction.of(half, v, spare, work)?;
        let length = norm(v);
        if length == 0.0 {
            *out_half = vec![0.0; half.source.len()];
            continue;
        }
        let h = DISPLACEMENT * size / length;
        let mut along = |(i, drawn): (usize, &Drawn)| {
            let mut at = |step: f64| {
                let mut room = Vec::new();
                drawn.mean_loss(decoder, network.weights().along(step as f32, v, &mut room), work)
            };
            let Some((forth, back)) = at(h).zip(at(-h)) else { return Ok(None) };
            let slope = -(forth - back) / (2.0 * h);
            if slope.is_finite() { Ok(Some(slope)) } else { Err(job.non_finite_in(i, step, &drawn.examples)) }
        };
        let known: Result<Vec<_>, _> = half.source.iter().enumerate().map(&mut along).collect();
        *out_half = filled(p, &known?);
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
    let p = search.upper.weights();
    let halves = derivatives(job, network, batches, &p, direction, &mut tools.buffers, search.step)?;
    search.ledger.charge_all(&charges);
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

#[cfg(test)]
pub mod tests {
    use std::{fmt::Write as _, fs};

    use super::*;
    use crate::{
        methods::{Learner, UpperState},
        recipe::{Method, Recipe},
        run::prepare,
        train::Setting,
    };

    /// Two sources of letters and a small model.
    pub fn setting() -> Setting {
        let folder = tempfile::tempdir().unwrap();
        let lines = |shift: usize| {
            (0..30).fold(String::new(), |mut text, i| {
                let letter = |k: usize| char::from(b'a' + ((i * shift + k) % 26) as u8);
                let _ = writeln!(
                    text,
                    "{{\"prompt\":\"{}{}\",\"response\":\"{}\"}}",
                    letter(0),
                    letter(1),
                    letter(2)
                );
                text
            })
        };
        let mut recipe = String::from(
            "[run]\nbudget = 100000\nseeds = [1]\n[model]\nlayers = 1\nwidth = 16\nheads = 2\nkv_heads = 1\nffn = 24\ncontext = 24\n[reweight]\nvalidation_batch = 4\nsource_batch = 6\ncurvature_batch = 2\ncg_steps = 2\n",
        );
        for (i, name) in ["a", "b", "v", "t"].into_iter().enumerate() {
            fs::write(folder.path().join(format!("{name}.jsonl")), lines(i + 1)).unwrap();
        }
        for name in ["a", "b"] {
            let _ = writeln!(recipe, "[[source]]\nname = \"{name}\"\npath = \"{name}.jsonl\"");
        }
        recipe.push_str("[validation]\npath = \"v.jsonl\"\n[test]\npath = \"t.jsonl\"\n");
        prepare(&Recipe::parse(&recipe, folder.path()).unwrap()).unwrap().setting
    }

    /// How an error names examples.
    pub fn named(name: &str, method: Method, drawn: &Drawn) -> String {
        let places: Vec<String> = drawn.examples.iter().map(|example| (example + 1).to_string()).collect();
        format!(
            "source {name} is not finite in step 7 of {method}, seed 3, with its examples {};",
            places.join(", ")
        )
    }

    /// The gradient, with a first entry that is put in its place.
    struct First(Option<f32>);

    impl Direction for First {
        fn of(
            &mut self,
            _half: &Half,
            gradient: &mut Vec<f32>,
            _spare: &mut Vec<f32>,
            _work: &mut Workspace<f32>,
        ) -> Result<(), ReweightError> {
            if let Some(first) = self.0 {
                gradient[0] = first;
            }
            Ok(())
        }
    }

    #[test]
    fn a_hypergradient_that_is_not_finite_names_the_examples_of_the_batch() {
        let setting = setting();
        let job = Job { setting: &setting, method: Method::Alignment, seed: 3 };
        let mut tools = Tools::new(&setting);
        let batches = GradientBatches::draw(&job, &mut tools.orders, 2);
        let [first, second] = &batches.halves;
        assert_eq!((first.validation.examples.len(), first.source[1].examples.len()), (2, 3));
        assert_ne!(first.source[0].examples, second.source[0].examples);
        let mut of = |y: Option<f32>, direction: Option<f32>| {
            let mut network = job.fresh(0);
            if let Some(y) = y {
                network.y[7] = y;
            }
            let mut search = Search {
                step: 7,
                ledger: job.ledger(),
                upper: UpperState::new(&job.uniform()),
                first_gradient: None,
                last_gradient: 0.0,
                memory: <crate::methods::Fixed as Learner>::Memory::default(),
            };
            estimate(&job, &mut search, &network, &mut tools, &batches, None, &mut First(direction))
        };
        assert!(of(None, None).unwrap().unwrap().iter().flatten().all(|a| a.is_finite()));
        let error = of(Some(f32::NAN), None).unwrap_err().to_string();
        assert!(error.contains(&named("validation", Method::Alignment, &first.validation)), "{error}");
        let error = of(None, Some(f32::INFINITY)).unwrap_err().to_string();
        assert!(error.contains(&named("a", Method::Alignment, &first.source[0])), "{error}");
    }
}
