//! How the weights of a recipe are learned.

use std::collections::BTreeMap;

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{F2baSpec, Given, LessSpec, Method, OdmSpec, RegMixSpec, ScaleBioSpec, is_default, need};

/// `[reweight]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReweightSpec {
    /// Methods to run, each with the same budget.
    pub methods: Vec<Method>,
    /// Training steps between two updates of the weights.
    pub cycle: u64,
    /// Short continuations among which HG-MS selects (n_c); 1 turns selection off.
    pub continuations: usize,
    /// Training steps of a continuation, at most `cycle`.
    pub continuation_steps: u64,
    /// Continuations with a training loss above the least by more than this are not selected (τ_loss, nats).
    pub loss_tolerance: f64,
    /// Damping of the linear system.
    pub damping: Damping,
    /// Conjugate-gradient steps.
    pub cg_steps: u64,
    /// Validation sequences for ∇L_val, each cycle.
    pub validation_batch: usize,
    /// Sequences of each source for ⟨∇L_i, v⟩, each cycle.
    pub source_batch: usize,
    /// Sequences of each source for the Gauss–Newton products, each cycle.
    pub curvature_batch: usize,
    /// How x moves.
    pub upper: Upper,
    /// How far x moves.
    pub step: UpperStep,
    /// Share of the past kept in the running mean of the hypergradient (averaging over cycles), in [0, 1).
    pub averaging: f64,
    /// The final weights are the mean of p over this last fraction of the cycles, in (0, 1].
    pub average_last: f64,
    /// Largest weight of any source, in every method; must be at least 1/K.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// Largest number of passes over any source that training on the whole budget by sampling in proportion to the weights would
    /// make, in every method; weights above it are moved to the nearest that keep to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_epochs: Option<f64>,
    /// Starting weights: by source name, all sources, sum 1; or those of another run, the path of its `weights.json`; uniform when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<Given>,
    /// Spacing of the grid on the simplex.
    pub grid_step: f64,
    /// Power of the sources' tokens to which the method `temperature` sets the weights, in [0, 1]: 0 is uniform, 1 proportional.
    pub exponent: f64,
    /// Weights of the method `given`: by source name, all sources, sum 1; or those of another run, the path of its `weights.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
    /// Models that the method `regmix` trains out of its budget, at least one more than there are sources.
    pub proxies: usize,
    /// Of the method `regmix`.
    #[serde(skip_serializing_if = "is_default")]
    pub regmix: RegMixSpec,
    /// Of the methods `scalebio` and `scalebio-released`.
    pub scalebio: ScaleBioSpec,
    /// Of the method `odm`.
    pub odm: OdmSpec,
    /// Of the method `f2ba`.
    pub f2ba: F2baSpec,
    /// Of the method `less`.
    pub less: LessSpec,
}

impl Default for ReweightSpec {
    fn default() -> Self {
        Self {
            methods: vec![Method::HgMs, Method::Uniform, Method::Proportional, Method::Alignment],
            cycle: 20,
            continuations: 2,
            continuation_steps: 4,
            loss_tolerance: 0.05,
            damping: Damping::Horizon,
            cg_steps: 3,
            validation_batch: 64,
            source_batch: 16,
            curvature_batch: 8,
            upper: Upper::Mirror,
            step: UpperStep::default(),
            averaging: 0.5,
            average_last: 0.25,
            cap: None,
            max_epochs: None,
            initial: None,
            grid_step: 0.25,
            exponent: 0.5,
            given: None,
            proxies: 12,
            regmix: RegMixSpec::default(),
            scalebio: ScaleBioSpec::default(),
            odm: OdmSpec::default(),
            f2ba: F2baSpec::default(),
            less: LessSpec::default(),
        }
    }
}

/// Damping of (H_GN + damping) v = ∇L_val.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "DampingField", into = "DampingField")]
pub enum Damping {
    /// D/(ηT): T remaining steps, η their mean step size, D the optimiser's diagonal.
    #[default]
    Horizon,
    /// γI with this γ.
    Fixed(f64),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "\"horizon\" or a positive number")]
enum DampingField {
    Number(f64),
    Word(DampingWord),
}
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum DampingWord {
    Horizon,
}
impl From<DampingField> for Damping {
    fn from(field: DampingField) -> Self {
        match field {
            DampingField::Number(gamma) => Self::Fixed(gamma),
            DampingField::Word(DampingWord::Horizon) => Self::Horizon,
        }
    }
}
impl From<Damping> for DampingField {
    fn from(damping: Damping) -> Self {
        match damping {
            Damping::Fixed(gamma) => Self::Number(gamma),
            Damping::Horizon => Self::Word(DampingWord::Horizon),
        }
    }
}

/// How x moves along the averaged hypergradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Upper {
    /// Exponentiated gradient on p, scaled by the running root mean square over all sources.
    #[default]
    Mirror,
    /// Adam on x, coordinate by coordinate.
    Adam,
}

/// The step in x, in units of the scaled hypergradient. TOML: `step = 0.3`, or `step = { reach = 3.0 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "UpperStepField", into = "UpperStepField")]
pub enum UpperStep {
    /// This far in each cycle.
    PerCycle(f64),
    /// This far over the whole budget: a cycle moves x by its share of the units spent. Methods whose hypergradients
    /// cost more have fewer cycles, and move as far all the same.
    Reach(f64),
}

impl Default for UpperStep {
    fn default() -> Self {
        Self::PerCycle(0.3)
    }
}

impl UpperStep {
    /// The step of a cycle that spent this share of the budget.
    pub fn of_cycle(self, share: f64) -> f64 {
        match self {
            Self::PerCycle(step) => step,
            Self::Reach(reach) => reach * share,
        }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number for each cycle, or { reach = … } over the whole budget")]
enum UpperStepField {
    Number(f64),
    Table(ReachField),
}
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReachField {
    reach: f64,
}
impl From<UpperStepField> for UpperStep {
    fn from(field: UpperStepField) -> Self {
        match field {
            UpperStepField::Number(step) => Self::PerCycle(step),
            UpperStepField::Table(ReachField { reach }) => Self::Reach(reach),
        }
    }
}
impl From<UpperStep> for UpperStepField {
    fn from(step: UpperStep) -> Self {
        match step {
            UpperStep::PerCycle(step) => Self::Number(step),
            UpperStep::Reach(reach) => Self::Table(ReachField { reach }),
        }
    }
}

impl ReweightSpec {
    /// What this method reads: itself alone, and the keys that are another method's own at their defaults. Two recipes that agree
    /// in this have the same chains of the method.
    #[must_use]
    pub fn read_by(&self, method: Method) -> Self {
        let standard = Self::default();
        let mut read = Self { methods: vec![method], ..self.clone() };
        if method != Method::Grid {
            read.grid_step = standard.grid_step;
        }
        if method != Method::Temperature {
            read.exponent = standard.exponent;
        }
        if method != Method::Given {
            read.given = None;
        }
        if method != Method::RegMix {
            read.proxies = standard.proxies;
            read.regmix = standard.regmix;
        }
        if !matches!(method, Method::ScaleBio | Method::ScaleBioReleased) {
            read.scalebio = standard.scalebio;
        }
        if method != Method::Odm {
            read.odm = standard.odm;
        }
        if method != Method::F2ba {
            read.f2ba = standard.f2ba;
        }
        if method != Method::Less {
            read.less = standard.less;
        }
        read
    }

    pub(super) fn validate(&self, names: &[&str]) -> Result<(), ConfigError> {
        let k = names.len();
        need(!self.methods.is_empty(), "reweight.methods", "[]", "give at least one method")?;
        let mut methods = self.methods.clone();
        methods.sort_unstable();
        methods.dedup();
        need(
            methods.len() == self.methods.len(),
            "reweight.methods",
            self.methods.iter().map(|m| m.name()).collect::<Vec<_>>().join(", "),
            "each method once",
        )?;
        need(
            k <= 3 || !self.methods.contains(&Method::Grid),
            "reweight.methods",
            "grid",
            &format!("the grid is for at most 3 sources, this recipe has {k}; leave it out"),
        )?;
        need(self.cycle > 0, "reweight.cycle", self.cycle, "at least 1 step")?;
        need(
            self.continuations > 0,
            "reweight.continuations",
            self.continuations,
            "1 (no selection) or more",
        )?;
        need(
            self.continuation_steps > 0 && self.continuation_steps <= self.cycle,
            "reweight.continuation_steps",
            self.continuation_steps,
            &format!("between 1 and reweight.cycle = {}", self.cycle),
        )?;
        need(
            self.loss_tolerance.is_finite() && self.loss_tolerance >= 0.0,
            "reweight.loss_tolerance",
            self.loss_tolerance,
            "zero or positive, in nats",
        )?;
        if let Damping::Fixed(gamma) = self.damping {
            need(
                gamma.is_finite() && gamma > 0.0,
                "reweight.damping",
                gamma,
                "\"horizon\" or a positive number; the curvature is singular without damping",
            )?;
        }
        need(
            (1..=10).contains(&self.cg_steps),
            "reweight.cg_steps",
            self.cg_steps,
            "between 1 and 10; more steps amplify the noise of small batches",
        )?;
        need(
            self.validation_batch >= 2,
            "reweight.validation_batch",
            self.validation_batch,
            "at least 2: the noise estimate splits the batch",
        )?;
        need(
            self.source_batch >= 2,
            "reweight.source_batch",
            self.source_batch,
            "at least 2: the noise estimate splits the batch",
        )?;
        need(
            self.curvature_batch >= 2,
            "reweight.curvature_batch",
            self.curvature_batch,
            "at least 2: the noise estimate splits the batch",
        )?;
        match self.step {
            UpperStep::PerCycle(step) => {
                need(step.is_finite() && step > 0.0, "reweight.step", step, "positive, about 0.3")?;
            }
            UpperStep::Reach(reach) => {
                need(reach.is_finite() && reach > 0.0, "reweight.step.reach", reach, "positive, about 3")?;
            }
        }
        need((0.0..1.0).contains(&self.averaging), "reweight.averaging", self.averaging, "in [0, 1)")?;
        need(
            self.average_last > 0.0 && self.average_last <= 1.0,
            "reweight.average_last",
            self.average_last,
            "in (0, 1]",
        )?;
        if let Some(cap) = self.cap {
            need(
                cap * k as f64 >= 1.0 && cap <= 1.0,
                "reweight.cap",
                cap,
                &format!("between 1/K = {:.4} and 1", 1.0 / k as f64),
            )?;
        }
        if let Some(epochs) = self.max_epochs {
            need(
                epochs.is_finite() && epochs > 0.0,
                "reweight.max_epochs",
                epochs,
                "positive, for instance 4",
            )?;
        }
        need(
            self.grid_step > 0.0
                && self.grid_step <= 1.0
                && ((1.0 / self.grid_step).round() * self.grid_step - 1.0).abs() < 1e-9,
            "reweight.grid_step",
            self.grid_step,
            "1/n for a whole n, for instance 0.25",
        )?;
        let points = grid_points(k, self.grid_step);
        need(
            points <= MOST_POINTS || !self.methods.contains(&Method::Grid),
            "reweight.grid_step",
            self.grid_step,
            &format!(
                "this grid has {points} points, each a whole training; at most {MOST_POINTS}, by a larger step"
            ),
        )?;
        need((0.0..=1.0).contains(&self.exponent), "reweight.exponent", self.exponent, "between 0 and 1")?;
        self.scalebio.validate()?;
        self.odm.validate()?;
        self.f2ba.validate()?;
        self.less.validate()?;
        need(
            self.proxies > k || !self.methods.contains(&Method::RegMix),
            "reweight.proxies",
            self.proxies,
            &format!("at least one more than the {k} sources, or a line does not fit"),
        )?;
        if self.methods.contains(&Method::RegMix) {
            self.regmix.validate(self.proxies)?;
        }
        if let Some(Given::Weights(initial)) = &self.initial {
            need_start("reweight.initial", initial, names)?;
        }
        if let Some(Given::Weights(given)) = &self.given {
            need_simplex("reweight.given", given, names)?;
        }
        need(
            self.given.is_some() || !self.methods.contains(&Method::Given),
            "reweight.given",
            "(absent)",
            "the method given needs a weight for every source, for instance { books = 0.4, chats = 0.6 }, or the path of a weights.json",
        )
    }
}

/// Points of a grid that are tried at most.
const MOST_POINTS: f64 = 1000.0;

/// Points of the simplex with k corners and this spacing: C(n + k − 1, k − 1) with n intervals on an edge.
pub fn grid_points(k: usize, spacing: f64) -> f64 {
    let n = (1.0 / spacing).round();
    (1..k).fold(1.0, |c, i| c * (n + i as f64) / i as f64)
}

/// Refuses weights at which a search cannot start: those that [`need_simplex`] refuses, and zeros.
fn need_start(field: &str, weights: &BTreeMap<String, f64>, names: &[&str]) -> Result<(), ConfigError> {
    need_simplex(field, weights, names)?;
    match weights.iter().find(|(_, weight)| **weight == 0.0) {
        Some((name, weight)) => Err(ConfigError::new(
            format!("{field}.{name}"),
            weight,
            "weights lie in the simplex: each above 0 (a zero could never rise again) and at most 1",
        )),
        None => Ok(()),
    }
}

/// Refuses weights that are not one for each source in the simplex.
fn need_simplex(field: &str, weights: &BTreeMap<String, f64>, names: &[&str]) -> Result<(), ConfigError> {
    for (name, &weight) in weights {
        need(
            names.contains(&name.as_str()),
            &format!("{field}.{name}"),
            weight,
            &format!("no source has that name; the sources are {}", names.join(", ")),
        )?;
        need(
            (0.0..=1.0).contains(&weight),
            &format!("{field}.{name}"),
            weight,
            "weights lie in the simplex: none below 0 and none above 1",
        )?;
    }
    if let Some(missing) = names.iter().find(|n| !weights.contains_key(**n)) {
        return Err(ConfigError::new(
            format!("{field}.{missing}"),
            "(absent)",
            "give every source a weight, or none",
        ));
    }
    let sum: f64 = weights.values().sum();
    need((sum - 1.0).abs() < 1e-6, field, format!("sum {sum}"), "weights must sum to 1")
}
