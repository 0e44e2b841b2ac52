//! Training: the weighted loss of all sources, AdamW or SGD, warm-up and cosine.

mod lisa;
mod metric;

use std::{borrow::Cow, ops::Range, sync::Arc};

use bilevel::rng::Stream;

use crate::{
    error::ReweightError,
    model::{
        Adapters, Batch, BatchShape, Decoder, Entrances, Frozen, Selection, Weights, Workspace,
        kernels::Accelerator,
    },
    recipe::{LedgerSpec, Optimizer, Recipe, TrainSpec},
    source::{Dataset, Order},
};

pub use lisa::{Awake, Lisa};
pub use metric::Metric;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const EPSILON: f64 = 1e-8;
const MOMENTUM: f64 = 0.9;

/// Everything that does not change in a run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The recipe.
    pub recipe: Recipe,
    /// The model's shape.
    pub decoder: Decoder,
    /// Longest sequence of the run.
    pub context: usize,
    /// The trained list at which networks that a checkpoint gives begin (adapters, which begin at random, need none); without a
    /// checkpoint all begin at random.
    pub start: Option<Arc<Vec<f32>>>,
    /// What the lists are that a run ends with; with [`Setting::lisa`] the full ones.
    pub trained: Trained,
    /// Of what networks train only a part at a time.
    pub lisa: Option<Lisa>,
    /// The sources, ascending by name.
    pub sources: Vec<Dataset>,
    /// The target's examples for the weights.
    pub validation: Dataset,
    /// The target's examples for the judgement.
    pub test: Dataset,
    /// What makes large products, beside the processor.
    pub accelerator: Option<Arc<Accelerator>>,
}

impl Setting {
    /// A network at the start: at the checkpoint, or at random as a function of seed and purpose.
    pub fn fresh(&self, seed: u64, purpose: u64) -> Network {
        if let (Some(lisa), Some(start)) = (self.lisa, &self.start) {
            return lisa.fresh(&self.decoder, start, seed);
        }
        let y = match &self.start {
            Some(start) => self.trained.start(start, &mut Stream::new(seed, purpose)),
            None => self.decoder.initial(&mut Stream::new(seed, purpose)),
        };
        Network::new(self.trained.clone(), y)
    }

    /// Lets those parts of a network sleep that a step does not train.
    pub fn wake(&self, network: &mut Network, seed: u64, step: u64) {
        if let Some(lisa) = self.lisa {
            network.wake(lisa, &self.decoder, seed, step);
        }
    }

    /// Tokens that a part of a training batch can have at most. Methods pass their own batches in parts of no more, so that a part of
    /// a hypergradient takes no more memory than one of a training step.
    pub fn tokens_at_once(&self) -> usize {
        self.recipe.train.part() * self.context
    }

    /// An empty workspace for one thread, and the run's device.
    pub fn workspace(&self) -> Workspace<f32> {
        self.decoder.workspace().on(self.accelerator.clone())
    }

    /// That the run's device has made every product that it was to make.
    ///
    /// # Errors
    /// What the device said when it first failed; the processor has made the products since, to another rounding.
    pub fn require_device(&self) -> Result<(), ReweightError> {
        match self.accelerator.as_ref().and_then(|a| Some((a.name(), a.failure()?))) {
            Some((name, said)) => Err(ReweightError::Device { name: name.to_owned(), said: said.to_owned() }),
            None => Ok(()),
        }
    }

    /// Number of parameters that are trained at a time.
    pub fn trained_at_once(&self) -> usize {
        self.lisa.map_or_else(|| self.trained.len(&self.decoder), |lisa| lisa.awake(&self.decoder))
    }

    /// The most blocks through which the derivative goes.
    pub fn kept_blocks(&self) -> usize {
        let decoder = &self.decoder;
        match self.lisa {
            // the lowest block is drawn some time
            Some(_) => decoder.architecture.sizes.layers,
            None => self.of_any_weights(|y| decoder.kept_blocks(y)),
        }
    }

    /// Numbers that a Gauss–Newton product on a batch of this shape takes beside those of its passes.
    pub fn tangent_numbers(&self, shape: BatchShape) -> u64 {
        self.of_any_weights(|y| self.decoder.tangent_numbers(y, shape))
    }

    /// What depends on which weights are trained, and not on their numbers.
    fn of_any_weights<R>(&self, of: impl FnOnce(Weights<f32>) -> R) -> R {
        of(self.trained.weights(&vec![0.0; self.trained.len(&self.decoder)]))
    }

    /// Numbers that a network keeps beside the list of what it trains at a time.
    pub fn own_frozen(&self) -> usize {
        self.lisa.map_or(0, |_| self.decoder.parameters())
    }

    /// The ledger's weights.
    pub fn ledger(&self) -> LedgerSpec {
        self.recipe.ledger
    }
}

/// What the list of a network's parameters is.
#[derive(Clone, Debug, Default)]
pub enum Trained {
    /// Every parameter of the decoder.
    #[default]
    All,
    /// A part; the rest stands still and is shared.
    Part {
        /// The full list; what stands at trained places is not read.
        frozen: Frozen,
        /// The places of the part.
        selection: Arc<Selection>,
        /// What the frozen blocks put out, for every network of the run; `None` where the first block is trained, or where the
        /// part changes, and with it what is frozen.
        entrances: Option<Arc<Entrances<f32>>>,
    },
    /// Low-rank changes of matrices; these stand still and are shared.
    Lora {
        /// The full list.
        frozen: Frozen,
        /// What is changed, and how.
        adapters: Arc<Adapters>,
        /// What the blocks below all changes put out, for every network of the run; `None` where the first block is changed.
        entrances: Option<Arc<Entrances<f32>>>,
    },
}

impl Trained {
    /// Whether what frozen blocks put out is kept.
    pub fn keeps_entrances(&self) -> bool {
        matches!(self, Self::Part { entrances: Some(_), .. } | Self::Lora { entrances: Some(_), .. })
    }

    /// The decoder's weights with this list of trained parameters.
    pub fn weights<'a>(&'a self, y: &'a [f32]) -> Weights<'a, f32> {
        match self {
            Self::All => y.into(),
            Self::Part { frozen, selection, entrances } => {
                Weights::with_trained(frozen.list(), selection, y).keeping(entrances.as_deref())
            }
            Self::Lora { frozen, adapters, entrances } => {
                Weights::adapted(frozen.list(), adapters, y).keeping(entrances.as_deref())
            }
        }
    }

    /// Length of the trained list.
    pub fn len(&self, decoder: &Decoder) -> usize {
        match self {
            Self::All => decoder.parameters(),
            Self::Part { selection, .. } => selection.len(),
            Self::Lora { adapters, .. } => adapters.len(),
        }
    }

    /// The list at which the training of a checkpoint begins, given its trained list there; only adapters begin at random.
    fn start(&self, start: &[f32], stream: &mut Stream) -> Vec<f32> {
        match self {
            Self::All | Self::Part { .. } => start.to_vec(),
            Self::Lora { adapters, .. } => adapters.initial(stream),
        }
    }

    /// Bytes of what stands still and is shared.
    pub fn frozen_bytes(&self) -> u64 {
        match self {
            Self::All => 0,
            Self::Part { frozen, .. } | Self::Lora { frozen, .. } => frozen.bytes(),
        }
    }

    /// What stands still, where it is kept in f32.
    pub fn frozen_singles(&self) -> Option<&Arc<Vec<f32>>> {
        match self {
            Self::Part { frozen: Frozen::F32(list), .. } | Self::Lora { frozen: Frozen::F32(list), .. } => {
                Some(list)
            }
            _ => None,
        }
    }

    /// Whether tensors of what stands still are widened when their turn comes.
    pub fn is_widened(&self) -> bool {
        match self {
            Self::All => false,
            Self::Part { frozen, .. } | Self::Lora { frozen, .. } => matches!(frozen, Frozen::Bf16(_)),
        }
    }

    /// The full list with this list of trained parameters in place, or merged into it.
    pub fn full<'a>(&self, y: &'a [f32]) -> Cow<'a, [f32]> {
        match self {
            Self::All => y.into(),
            Self::Part { frozen, selection, .. } => {
                let mut all = frozen.to_vec();
                selection.scatter(y, &mut all);
                all.into()
            }
            Self::Lora { frozen, adapters, .. } => {
                let mut all = frozen.to_vec();
                adapters.merge(y, &mut all);
                all.into()
            }
        }
    }

    /// Places in the trained list to which weight decay applies: matrices.
    fn decayed(&self, decoder: &Decoder) -> Vec<Range<usize>> {
        let matrices = decoder.matrices();
        match self {
            Self::All => matrices,
            Self::Part { selection, .. } => matrices.iter().filter_map(|m| selection.place(m)).collect(),
            Self::Lora { adapters, .. } => std::iter::once(0..adapters.len()).collect(),
        }
    }
}

/// A model in training.
#[derive(Clone, Debug)]
pub struct Network {
    /// What the lists below are of.
    pub trained: Trained,
    /// Trained parameters.
    pub y: Vec<f32>,
    /// First moment (AdamW) or velocity (SGD).
    pub first: Vec<f32>,
    /// Second moment (AdamW).
    pub second: Vec<f32>,
    /// Updates made.
    pub updates: u64,
    /// What of the network is awake, where parts of it sleep.
    pub awake: Option<Awake>,
}

impl Network {
    /// A network that has not moved.
    pub fn new(trained: Trained, y: Vec<f32>) -> Self {
        let zeros = vec![0.0; y.len()];
        Self { trained, y, first: zeros.clone(), second: zeros, updates: 0, awake: None }
    }

    /// The list that a run ends with: the trained one, or the full one where parts sleep.
    pub fn settled(&self) -> Cow<'_, [f32]> {
        if self.awake.is_some() { self.trained.full(&self.y) } else { (&self.y[..]).into() }
    }

    /// Places of the trained list, and the updates since the moments there began.
    fn ages(&self) -> Vec<(Range<usize>, u64)> {
        match &self.awake {
            None => vec![(0..self.y.len(), self.updates)],
            Some(awake) => {
                awake.spans().iter().map(|(span, born)| (span.clone(), self.updates - born)).collect()
            }
        }
    }

    /// Whether parameters and moments are numbers.
    pub fn is_finite(&self) -> bool {
        [&self.y, &self.first, &self.second].iter().all(|list| list.iter().all(|a| a.is_finite()))
    }

    /// The decoder's weights.
    pub fn weights(&self) -> Weights<'_, f32> {
        self.trained.weights(&self.y)
    }

    /// The direction in which an update with this gradient would move y, without step size and decay; the gradient is clipped first.
    /// Of SGD it is the gradient itself, without the momentum of others.
    pub fn direction(&self, spec: &TrainSpec, gradient: &mut [f32]) {
        clip(spec, gradient);
        if spec.optimizer == Optimizer::Sgd {
            return;
        }
        for (span, age) in self.ages() {
            let t = (age + 1) as f64;
            let (one, two) = (1.0 - BETA1.powf(t), 1.0 - BETA2.powf(t));
            let moments = self.first[span.clone()].iter().zip(&self.second[span.clone()]);
            for (g, (&m, &v)) in gradient[span].iter_mut().zip(moments) {
                let a = f64::from(*g);
                let m = BETA1 * f64::from(m) + (1.0 - BETA1) * a;
                let v = BETA2 * f64::from(v) + (1.0 - BETA2) * a * a;
                *g = (m / one / ((v / two).sqrt() + EPSILON)) as f32;
            }
        }
    }

    /// One update with the gradient, clipped first.
    pub fn update(&mut self, decoder: &Decoder, spec: &TrainSpec, step_size: f64, gradient: &mut [f32]) {
        clip(spec, gradient);
        self.updates += 1;
        if spec.weight_decay > 0.0 {
            let keep = (1.0 - step_size * spec.weight_decay) as f32;
            for range in self.trained.decayed(decoder) {
                for y in &mut self.y[range] {
                    *y *= keep;
                }
            }
        }
        match spec.optimizer {
            Optimizer::Adamw => {
                for (span, age) in self.ages() {
                    self.adamw(span, age, step_size, gradient);
                }
            }
            Optimizer::Sgd => {
                for ((y, &g), m) in self.y.iter_mut().zip(&*gradient).zip(&mut self.first) {
                    *m = MOMENTUM as f32 * *m + g;
                    *y -= step_size as f32 * *m;
                }
            }
        }
    }

    /// AdamW on a part of the list whose moments have seen `age` gradients, this one included.
    fn adamw(&mut self, span: Range<usize>, age: u64, step_size: f64, gradient: &[f32]) {
        let t = age as f64;
        let (b1, b2) = (BETA1 as f32, BETA2 as f32);
        // m̂/(√v̂ + ε) with the corrections moved into the step and ε
        let root = (1.0 - BETA2.powf(t)).sqrt();
        let step = (step_size * root / (1.0 - BETA1.powf(t))) as f32;
        let epsilon = (EPSILON * root) as f32;
        let moments = self.first[span.clone()].iter_mut().zip(&mut self.second[span.clone()]);
        for ((y, &g), (m, v)) in self.y[span.clone()].iter_mut().zip(&gradient[span]).zip(moments) {
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *y -= step * *m / (v.sqrt() + epsilon);
        }
    }
}

/// Shortens a gradient to the longest that the recipe allows.
fn clip(spec: &TrainSpec, gradient: &mut [f32]) {
    let Some(clip) = spec.clip else { return };
    let norm = norm(gradient);
    if norm > clip {
        let scale = (clip / norm) as f32;
        for g in gradient {
            *g *= scale;
        }
    }
}

/// Euclidean norm, accumulated in doubles.
pub fn norm(v: &[f32]) -> f64 {
    v.iter().map(|&a| f64::from(a) * f64::from(a)).sum::<f64>().sqrt()
}

/// Step size after `step` updates at a spent share `progress` of the budget: linear warm-up in steps, cosine in the
/// budget, so that every method ends at the same step size whatever it spends beside training.
pub fn step_size(spec: &TrainSpec, step: u64, progress: f64) -> f64 {
    let warm = if step < spec.warmup { (step + 1) as f64 / spec.warmup as f64 } else { 1.0 };
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    spec.lr * warm * (spec.final_fraction + (1.0 - spec.final_fraction) * cosine)
}

/// Mean of the cosine part of [`step_size`] over the rest of the budget.
pub fn mean_step_size(spec: &TrainSpec, progress: f64) -> f64 {
    use std::f64::consts::PI;
    let left = 1.0 - progress;
    // ∫ (1 + cos πu)/2 du over [progress, 1] = left/2 − sin(π progress)/2π
    let cosine = if left > 1e-9 { 0.5 - (PI * progress).sin() / (2.0 * PI * left) } else { 0.0 };
    spec.lr * (spec.final_fraction + (1.0 - spec.final_fraction) * cosine)
}

/// The batches of a training step: for each source its parts (accumulation).
#[derive(Clone, Debug)]
pub struct StepBatch {
    parts: Vec<Vec<Batch>>,
    examples: Vec<Vec<usize>>,
    /// Tokens of the step.
    pub tokens: u64,
}

impl StepBatch {
    /// The examples of `step` in these orders, one order for each source.
    pub fn draw(setting: &Setting, orders: &mut [Order], step: u64) -> Self {
        let batch = setting.recipe.train.batch;
        let places = vec![(step * batch as u64, batch); setting.sources.len()];
        Self::of(setting, orders, &places)
    }

    /// So many examples from a position on in each source's order; none of a source that has no part in the step.
    pub fn of(setting: &Setting, orders: &mut [Order], places: &[(u64, usize)]) -> Self {
        let train = &setting.recipe.train;
        let part = train.part();
        let mut tokens = 0;
        let (mut parts, mut all) = (Vec::new(), Vec::new());
        for ((source, order), &(position, count)) in setting.sources.iter().zip(orders).zip(places) {
            let examples = order.take(position, count);
            let batches: Vec<Batch> =
                examples.chunks(part).map(|c| source.batch(c.iter().copied())).collect();
            tokens += batches.iter().map(|b| b.tokens.len() as u64).sum::<u64>();
            parts.push(batches);
            all.push(examples);
        }
        Self { parts, examples: all, tokens }
    }

    /// The examples of a source's batch.
    pub fn examples(&self, source: usize) -> &[usize] {
        &self.examples[source]
    }

    /// The parts of each source's batch.
    pub fn parts(&self) -> &[Vec<Batch>] {
        &self.parts
    }
}

/// What a training step measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepLosses {
    /// L_i on the step's batch; `None` of a source that has no token under the loss in it.
    pub losses: Vec<Option<f64>>,
    /// |∇L_i| on the step's batch, where L_i was measured.
    pub gradient_norms: Vec<Option<f64>>,
    /// Σ p_i L_i over the sources that were measured, with the weights of the step.
    pub total: f64,
}

impl StepLosses {
    /// max_i |∇L_i|.
    pub fn largest_gradient(&self) -> f64 {
        self.gradient_norms.iter().flatten().copied().fold(0.0, f64::max)
    }
}

/// Buffers of one worker.
#[derive(Debug)]
pub struct Buffers {
    /// Of the model.
    pub work: Workspace<f32>,
    /// Of one source's gradient.
    pub source: Vec<f32>,
    /// Of the sum.
    pub total: Vec<f32>,
}

impl Buffers {
    /// Empty buffers of a worker of this run.
    pub fn new(setting: &Setting) -> Self {
        let mut work = setting.workspace();
        work.recompute = setting.recipe.train.recompute;
        Self { work, source: Vec::new(), total: Vec::new() }
    }
}

/// ∇ Σ_i p_i L_i into `buffers.total`; L_i is the mean over all of source i's response tokens in the step, whatever
/// the parts: with n tokens in all, each part adds 1/n of its sum. A source without such tokens adds nothing.
pub fn weighted_gradient(
    setting: &Setting,
    network: &Network,
    batch: &StepBatch,
    p: &[f64],
    buffers: &mut Buffers,
) -> StepLosses {
    let mut out = StepLosses::default();
    let (y, len) = (network.weights(), network.y.len());
    buffers.total.clear();
    buffers.total.resize(len, 0.0);
    for (parts, &p) in batch.parts.iter().zip(p) {
        let n: usize = parts.iter().map(|b| b.rows.len()).sum();
        if n == 0 {
            out.losses.push(None);
            out.gradient_norms.push(None);
            continue;
        }
        buffers.source.clear();
        buffers.source.resize(len, 0.0);
        let scale = 1.0 / n as f64;
        let mut sum = 0.0;
        for part in parts {
            sum += setting.decoder.loss_gradient(y, part, scale, &mut buffers.source, &mut buffers.work);
        }
        out.losses.push(Some(sum * scale));
        out.gradient_norms.push(Some(norm(&buffers.source)));
        for (t, &s) in buffers.total.iter_mut().zip(&buffers.source) {
            *t += p as f32 * s;
        }
    }
    out.total = out.losses.iter().zip(p).filter_map(|(loss, p)| Some((*loss)? * p)).sum();
    out
}
