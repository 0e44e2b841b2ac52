//! The ways to find weights, one file each, behind one trait.
//!
//! A search is a run of a proxy model under the token ledger; what it ends with are weights. A method says how the search
//! begins, what one step of it is, and what its end means. Everything else (interruption, checkpoints, trace, the retraining that
//! judges the weights) is the same for all and stands in [`crate::run`].

mod adam;
mod alignment;
mod boosting;
mod damped;
mod doremi;
mod estimate;
mod f2ba;
mod fixed;
mod grid;
mod hg_ms;
mod job;
mod less;
mod limits;
mod odm;
mod penalty;
mod regmix;
mod scalebio;
mod upper;

use std::fmt::Debug;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::ReweightError,
    ledger::{Entry, Ledger},
    recipe::{Method, Recipe},
    result::{CycleCertificate, LedgerReport},
    train::{Network, StepLosses},
};

pub use alignment::{Alignment, Rule};
pub use doremi::DoReMi;
pub use f2ba::F2ba;
pub use fixed::Fixed;
pub use grid::Grid;
pub use hg_ms::HgMs;
pub(crate) use job::Drawn;
pub use job::{Job, Orders, TRACED, Tools, order, purpose};
pub use less::Less;
pub(crate) use limits::require_room;
pub use odm::Odm;
pub use regmix::RegMix;
pub use scalebio::{ScaleBio, Variant};
pub use upper::{UpperState, softmax};

#[cfg(test)]
pub(crate) use fixed::dirichlet;

/// A way to find weights.
pub trait Learner: Sync {
    /// What it remembers from one step to the next, the weights apart; kept in checkpoints.
    type Memory: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send;

    /// How its search begins: one network and the recipe's starting weights, unless the method says otherwise.
    fn start(&self, job: &Job) -> Start<Self::Memory> {
        Start {
            weights: job.initial(),
            memory: Self::Memory::default(),
            networks: Some(vec![job.fresh(purpose::SEARCH)]),
        }
    }

    /// One step of the search on its networks, the first of which is the one that is traced. Charges the ledger for what it does.
    ///
    /// # Errors
    /// When a loss or a hypergradient is not finite, or a product with a curvature fails.
    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Self::Memory>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError>;

    /// What the end of the budget means: that the weights which the search moved are found, unless the method says otherwise.
    /// `validation_loss` is that of the first network on the whole validation set.
    fn end(
        &self,
        job: &Job,
        search: &mut Search<Self::Memory>,
        _networks: &mut Vec<Network>,
        _validation_loss: f64,
    ) -> End {
        End::of_online(job, search)
    }

    /// Budgets that a search spends.
    fn budgets(&self, _recipe: &Recipe) -> f64 {
        1.0
    }

    /// What it holds in memory at once: a network in training, unless the method says otherwise.
    fn footprint(&self, _recipe: &Recipe) -> Footprint {
        Footprint::TRAINING
    }

    /// Entries of the ledger that its search may write to; those of a retraining are [`Entry::Training`] and
    /// [`Entry::Observation`] for every method.
    fn entries(&self) -> &'static [Entry];
}

/// How a search begins.
#[derive(Clone, Debug)]
pub struct Start<M> {
    /// Weights p at the start; the final ones when nothing is searched.
    pub weights: Vec<f64>,
    /// The method's memory.
    pub memory: M,
    /// The networks of the search; `None` when the weights are known without one.
    pub networks: Option<Vec<Network>>,
}

/// A search in progress: what all methods have, and one method's own memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Search<M> {
    /// Training steps made.
    pub step: u64,
    /// What was spent.
    pub ledger: Ledger,
    /// The weights, and how they came about.
    pub upper: UpperState,
    /// max |∇L_i| in the first step.
    pub first_gradient: Option<f64>,
    /// max |∇L_i| in the last step.
    pub last_gradient: f64,
    /// The method's own.
    pub memory: M,
}

impl<M> Search<M> {
    /// Back to step 0 with nothing spent, at these weights; the count of cycles goes on.
    pub fn restart(&mut self, job: &Job, weights: &[f64]) {
        let (cycles, no_signal) = (self.upper.cycles, self.upper.no_signal);
        self.upper = UpperState::new(weights);
        (self.upper.cycles, self.upper.no_signal) = (cycles, no_signal);
        self.step = 0;
        self.ledger = job.ledger();
    }
    /// Counts so many training steps, of which the last measured this.
    pub fn count(&mut self, steps: u64, losses: &StepLosses) {
        self.step += steps;
        self.last_gradient = losses.largest_gradient();
        self.first_gradient.get_or_insert(self.last_gradient);
    }
    /// max |∇L_i| of the last step over that of the first.
    pub fn relative_gradient(&self) -> f64 {
        self.last_gradient / self.first_gradient.unwrap_or(1.0)
    }
}

/// What a step of a search did.
#[derive(Clone, Debug)]
pub enum Advance {
    /// Training steps were made.
    Stepped {
        /// What the last of them measured.
        losses: StepLosses,
        /// That of the cycle that ended with it, if one did.
        certificate: Option<CycleCertificate>,
    },
    /// The budget does not reach for another step.
    Spent,
}

/// What the end of a budget means.
#[derive(Clone, Debug)]
pub enum End {
    /// The search goes on with another run; the method has prepared it.
    Again,
    /// The weights are found.
    Found {
        /// The weights.
        weights: Vec<f64>,
        /// What finding them cost; `None` when nothing was searched.
        ledger: Option<LedgerReport>,
        /// Whether the first network was trained with the weights as they were learned, so that its own test loss says something.
        is_online: bool,
        /// The change of the validation loss that the method expects of these weights in place of the starting ones; `None` of a
        /// method that has no estimate of it.
        predicted: Option<f64>,
    },
}

impl End {
    /// The mean of the weights that a search went through, of their sum; the starting ones when there were none.
    pub fn of_sum<M>(job: &Job, search: &Search<M>, sum: &[f64]) -> Self {
        let total: f64 = sum.iter().sum();
        let weights = if total > 0.0 { sum.iter().map(|p| p / total).collect() } else { job.initial() };
        let ledger = Some(search.ledger.report(search.step));
        Self::Found { weights, ledger, is_online: true, predicted: None }
    }

    /// The weights that a search moved: the mean of p over its last cycles.
    pub fn of_online<M>(job: &Job, search: &Search<M>) -> Self {
        let fraction = job.setting.recipe.reweight.average_last;
        Self::Found {
            weights: search.upper.final_weights(fraction),
            ledger: Some(search.ledger.report(search.step)),
            is_online: true,
            predicted: search.upper.final_prediction(fraction),
        }
    }
}

/// Lists of the length of the trained parameters that a method holds at its peak, buffers of the model's passes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Copies of the parameters.
    pub models: usize,
    /// Copies of the optimiser's two moments.
    pub optimisers: usize,
    /// Other lists: gradients and vectors of a linear solve.
    pub vectors: usize,
}

impl Footprint {
    /// Of a network in training: itself, and the gradients of one source and of all.
    pub const TRAINING: Self = Self { models: 1, optimisers: 1, vectors: 2 };

    /// Of two networks in training, by turns.
    pub const PAIR: Self = Self { models: 2, optimisers: 2, ..Self::TRAINING };

    /// Lists in all.
    pub fn lists(self) -> usize {
        self.models + 2 * self.optimisers + self.vectors
    }
}

/// Something that is done with a method's learner, whatever its type.
pub trait Visit {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<L: Learner>(self, learner: &L) -> Self::Output;
}

/// Calls the visitor with the learner of a method.
pub fn visit<V: Visit>(method: Method, visitor: V) -> V::Output {
    match method {
        Method::HgMs => visitor.visit(&HgMs),
        Method::Alignment => visitor.visit(&Alignment { rule: Rule::Recipe }),
        Method::DoGe => visitor.visit(&Alignment { rule: Rule::DoGe }),
        Method::FastMix => visitor.visit(&Alignment { rule: Rule::FastMix }),
        Method::Grid => visitor.visit(&Grid),
        Method::DoReMi => visitor.visit(&DoReMi),
        Method::RegMix => visitor.visit(&RegMix),
        Method::Odm => visitor.visit(&Odm),
        Method::F2ba => visitor.visit(&F2ba),
        Method::Less => visitor.visit(&Less),
        Method::ScaleBio => visitor.visit(&ScaleBio { variant: Variant::AsPublished }),
        Method::ScaleBioReleased => visitor.visit(&ScaleBio { variant: Variant::AsReleased }),
        Method::Uniform | Method::Proportional | Method::Random | Method::Temperature | Method::Given => {
            visitor.visit(&Fixed(method))
        }
    }
}

/// What a method holds in memory with this recipe.
pub fn footprint(method: Method, recipe: &Recipe) -> Footprint {
    struct Ask<'a>(&'a Recipe);
    impl Visit for Ask<'_> {
        type Output = Footprint;
        fn visit<L: Learner>(self, learner: &L) -> Footprint {
            learner.footprint(self.0)
        }
    }
    visit(method, Ask(recipe))
}

/// Budgets that a method's search spends with this recipe; 0 when its weights are known without one.
pub fn budgets(method: Method, recipe: &Recipe) -> f64 {
    struct Ask<'a>(&'a Recipe);
    impl Visit for Ask<'_> {
        type Output = f64;
        fn visit<L: Learner>(self, learner: &L) -> f64 {
            learner.budgets(self.0)
        }
    }
    visit(method, Ask(recipe))
}

/// Ledger entries that a method's search may write to.
pub fn entries(method: Method) -> &'static [Entry] {
    struct Ask;
    impl Visit for Ask {
        type Output = &'static [Entry];
        fn visit<L: Learner>(self, learner: &L) -> &'static [Entry] {
            learner.entries()
        }
    }
    visit(method, Ask)
}
