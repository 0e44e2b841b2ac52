//! One method with one seed: search for weights, then retrain a fresh model with them.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bilevel::rng::Stream;
use serde::{Deserialize, Serialize};

use super::checkpoint::Store;
use crate::{
    error::ReweightError,
    eval::{Scores, score},
    ledger::{Entry, Ledger},
    progress::{Progress, ProgressEvent},
    recipe::Method,
    result::{Continuation, CycleCertificate, Phase, SeedResult, Timing, TraceRow},
    reweighting::{GradientBatches, GradientOrders, UpperState, estimate, select},
    source::Order,
    train::{Buffers, Network, Setting, StepBatch, StepLosses, step_size, weighted_gradient},
};

/// Validation examples of the trace and of SELECT.
const TRACED: usize = 64;
/// Streams of a seed: a search and a retraining start from different parameters and see different orders, so that
/// weights are not judged on the very run that they were fitted to.
const SEARCH: u64 = 0;
const RETRAINING: u64 = 1;
const RANDOM: u64 = 2;

/// Everything of a chain but its network; JSON in its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainState {
    phase: Phase,
    step: u64,
    ledger: Ledger,
    upper: UpperState,
    /// max |∇L_i| in the first step.
    first_gradient: Option<f64>,
    /// max |∇L_i| in the last step.
    last_gradient: f64,
    /// The step at which the last selection began.
    selected_at: Option<u64>,
    continuations: Vec<Continuation>,
    evaluations: u64,
    rows: Vec<TraceRow>,
    seconds: f64,
    /// Points of the grid tried so far and the best: (tried, validation loss, weights).
    grid: Option<(usize, f64, Vec<f64>)>,
    found: Option<Found>,
    timings: Vec<Timing>,
}

/// The end of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    weights: Vec<f64>,
    ledger: Option<crate::result::LedgerReport>,
    online_test_loss: Option<f64>,
}

/// What a chain hands over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainResult {
    /// Its line in the result.
    pub seed: SeedResult,
    /// Its part of the trace.
    pub rows: Vec<TraceRow>,
    /// Test losses of the retrained model, example by example.
    pub scores: Scores,
    /// Clock times.
    pub timings: Vec<Timing>,
}

/// The surroundings of a chain.
pub struct Chain<'a, 'p> {
    /// What does not change.
    pub setting: &'a Setting,
    /// The method.
    pub method: Method,
    /// The seed.
    pub seed: u64,
    /// Set from outside to stop.
    pub interrupt: &'a AtomicBool,
    /// The listener.
    pub progress: &'a Mutex<&'p mut dyn Progress>,
    /// Checkpoints.
    pub store: &'a Store,
}

/// A draw from Dirichlet(1, …, 1): independent exponentials over their sum.
pub fn dirichlet(k: usize, stream: &mut Stream) -> Vec<f64> {
    let draws: Vec<f64> = (0..k).map(|_| -(1.0 - stream.uniform()).ln()).collect();
    let sum: f64 = draws.iter().sum();
    draws.iter().map(|draw| draw / sum).collect()
}

impl Chain<'_, '_> {
    fn name(&self) -> String {
        format!("{}-{}", self.method, self.seed)
    }

    fn fresh(&self, purpose: u64) -> Network {
        self.setting.fresh(self.seed, purpose)
    }

    fn start(&self) -> (ChainState, Network) {
        let setting = self.setting;
        let k = setting.sources.len() as f64;
        let uniform = || setting.sources.iter().map(|_| 1.0 / k).collect::<Vec<f64>>();
        let reweight = &setting.recipe.reweight;
        let fixed = match self.method {
            Method::Uniform => Some(uniform()),
            Method::Proportional => {
                let total: u64 = setting.sources.iter().map(|s| s.info.tokens).sum();
                Some(setting.sources.iter().map(|s| s.info.tokens as f64 / total as f64).collect())
            }
            Method::Random => Some(dirichlet(setting.sources.len(), &mut Stream::new(self.seed, RANDOM))),
            Method::HgMs | Method::Alignment | Method::Grid => None,
        };
        let initial = match &reweight.initial {
            Some(initial) => setting.sources.iter().map(|s| initial[&s.name]).collect(),
            None => uniform(),
        };
        let grid = (self.method == Method::Grid).then(|| (0, f64::MAX, Vec::new()));
        let mut state = ChainState {
            phase: Phase::Search,
            step: 0,
            ledger: self.ledger(),
            upper: UpperState::new(&initial),
            first_gradient: None,
            last_gradient: 0.0,
            selected_at: None,
            continuations: Vec::new(),
            evaluations: 0,
            rows: Vec::new(),
            seconds: 0.0,
            grid,
            found: None,
            timings: Vec::new(),
        };
        let network = match fixed {
            Some(weights) => {
                self.retrain(&mut state, Found { weights, ledger: None, online_test_loss: None })
            }
            None => self.fresh(SEARCH),
        };
        if self.method == Method::Grid {
            state.upper = UpperState::new(&self.grid_points()[0]);
        }
        (state, network)
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(self.setting.recipe.run.budget as f64, self.setting.ledger())
    }

    /// Goes over to the retraining with the weights found.
    fn retrain(&self, state: &mut ChainState, found: Found) -> Network {
        self.restart(state, &found.weights);
        state.phase = Phase::Retraining;
        state.found = Some(found);
        self.fresh(RETRAINING)
    }

    /// Back to step 0 at fixed weights.
    fn restart(&self, state: &mut ChainState, weights: &[f64]) {
        let (cycles, no_signal) = (state.upper.cycles, state.upper.no_signal);
        state.upper = UpperState::new(weights);
        (state.upper.cycles, state.upper.no_signal) = (cycles, no_signal);
        state.step = 0;
        state.ledger = self.ledger();
        state.evaluations = 0;
        state.seconds = 0.0;
    }

    /// Points of the simplex with the recipe's spacing.
    fn grid_points(&self) -> Vec<Vec<f64>> {
        let n = (1.0 / self.setting.recipe.reweight.grid_step).round() as usize;
        let k = self.setting.sources.len();
        let mut points = Vec::new();
        let mut counts = vec![0; k];
        fill_simplex(&mut counts, 0, n, n, &mut points);
        points
    }

    /// Runs to the end, or to an interruption, from the chain's checkpoint if there is one.
    pub fn run(&self) -> Result<ChainResult, ReweightError> {
        let name = self.name();
        let (mut state, mut network) = match self.store.load(&name, self.setting)? {
            Some(saved) => saved,
            None => self.start(),
        };
        let mut buffers = Buffers::new(&self.setting.decoder);
        loop {
            let began = Instant::now();
            let before = state.seconds;
            self.phase(&mut state, &mut network, &mut buffers, began, before)?;
            state.seconds = before + began.elapsed().as_secs_f64();
            if let Some(result) = self.turn(&mut state, &mut network, &mut buffers) {
                self.store.remember(&name, &result, &network)?;
                return Ok(result);
            }
            self.store.save(&name, &state, &network)?;
        }
    }

    /// What follows a finished budget: the next grid point, the retraining, or the end.
    fn turn(
        &self,
        state: &mut ChainState,
        network: &mut Network,
        buffers: &mut Buffers,
    ) -> Option<ChainResult> {
        let setting = self.setting;
        let all = usize::MAX;
        let validation =
            score(&setting.decoder, network.weights(), &setting.validation, all, &mut buffers.work).mean();
        let test = score(&setting.decoder, network.weights(), &setting.test, all, &mut buffers.work);
        let tokens = state.ledger.tokens(Entry::Training) as f64;
        let timing = Timing {
            method: self.method,
            seed: self.seed,
            phase: state.phase,
            seconds: state.seconds,
            tokens_per_second: tokens / state.seconds.max(1e-9),
        };
        self.tell(&ProgressEvent::Finished {
            method: self.method,
            seed: self.seed,
            phase: state.phase,
            seconds: state.seconds,
        });
        state.timings.push(timing);
        let report = state.ledger.report(state.step);
        if state.phase == Phase::Retraining {
            let found = state.found.clone().expect("a retraining has weights");
            return Some(ChainResult {
                seed: SeedResult {
                    seed: self.seed,
                    weights: found.weights,
                    search: found.ledger,
                    retraining: report,
                    no_signal: state.upper.no_signal,
                    cycles: state.upper.cycles,
                    online_test_loss: found.online_test_loss,
                    validation_loss: validation,
                    test_loss: test.mean(),
                    test_accuracy: test.accuracy(),
                },
                rows: std::mem::take(&mut state.rows),
                scores: test,
                timings: std::mem::take(&mut state.timings),
            });
        }
        if let Some((tried, best, weights)) = &mut state.grid {
            let points = self.grid_points();
            if validation < *best {
                (*best, *weights) = (validation, points[*tried].clone());
            }
            *tried += 1;
            let (tried, weights) = (*tried, weights.clone());
            if tried < points.len() {
                self.restart(state, &points[tried]);
                *network = self.fresh(SEARCH);
                return None;
            }
            // every point spent a whole budget
            let mut report = report;
            let n = points.len() as f64;
            report.budget *= n;
            report.spent *= n;
            report.steps *= points.len() as u64;
            for line in &mut report.entries {
                line.tokens *= points.len() as u64;
                line.units *= n;
            }
            *network = self.retrain(state, Found { weights, ledger: Some(report), online_test_loss: None });
            return None;
        }
        let weights = state.upper.final_weights(setting.recipe.reweight.average_last);
        let found = Found { weights, ledger: Some(report), online_test_loss: Some(test.mean()) };
        *network = self.retrain(state, found);
        None
    }

    fn tell(&self, event: &ProgressEvent) {
        self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner).report(event);
    }

    fn orders(&self, phase: Phase, continuation: u64) -> Vec<Order> {
        let base = match phase {
            Phase::Search => 0,
            Phase::Retraining => 1 << 16,
        };
        self.setting.sources.iter().map(|s| Order::new(self.seed, s, base + continuation)).collect()
    }

    fn phase(
        &self,
        state: &mut ChainState,
        network: &mut Network,
        buffers: &mut Buffers,
        began: Instant,
        before: f64,
    ) -> Result<(), ReweightError> {
        let setting = self.setting;
        let spec = &setting.recipe.reweight;
        let learns = state.phase == Phase::Search && matches!(self.method, Method::HgMs | Method::Alignment);
        let selects = learns && self.method == Method::HgMs && spec.continuations > 1;
        let mut orders: Vec<Vec<Order>> = (0..if selects { spec.continuations as u64 } else { 1 })
            .map(|c| self.orders(state.phase, c))
            .collect();
        let mut gradient_orders = GradientOrders::new(self.seed, setting);
        let mut told = 0.0;
        if state.step == 0 && state.evaluations == 0 {
            self.row(state, network, None, None, buffers);
        }
        loop {
            if self.interrupt.load(Ordering::Relaxed) {
                state.seconds = before + began.elapsed().as_secs_f64();
                self.store.save(&self.name(), state, network)?;
                return Err(ReweightError::Interrupted { out: setting.recipe.run.out.clone() });
            }
            let begun = state.step;
            let losses = if selects
                && state.step.is_multiple_of(spec.cycle)
                && state.selected_at != Some(state.step)
            {
                state.selected_at = Some(state.step);
                state.continuations.clear();
                match self.continuations(state, network, &mut orders, buffers)? {
                    Some(losses) => losses,
                    // too little is left for a selection: the rest is plain training
                    None => continue,
                }
            } else {
                let batch = StepBatch::draw(setting, &mut orders[0], state.step);
                if state.ledger.price(Entry::Training, batch.tokens) > state.ledger.left() {
                    break;
                }
                let p = state.upper.weights();
                let size = step_size(&setting.recipe.train, state.step, state.ledger.progress());
                let losses = self.step(state.step, network, &batch, &p, size, buffers)?;
                state.ledger.charge(Entry::Training, batch.tokens);
                state.step += 1;
                losses
            };
            state.last_gradient = losses.largest_gradient();
            state.first_gradient.get_or_insert(state.last_gradient);
            let mut certificate = None;
            if learns && state.step.is_multiple_of(spec.cycle) {
                certificate = self.differentiate(state, network, &mut gradient_orders, buffers)?;
            }
            let due = (state.ledger.progress() * setting.recipe.run.evaluations as f64) as u64;
            if certificate.is_some() || due >= state.evaluations {
                self.row(state, network, Some(&losses), certificate, buffers);
            }
            let spent = state.ledger.spent();
            self.tell(&ProgressEvent::Advanced {
                method: self.method,
                seed: self.seed,
                phase: state.phase,
                units: spent - told,
            });
            told = spent;
            let every = setting.recipe.run.checkpoint_every;
            if begun / every != state.step / every {
                state.seconds = before + began.elapsed().as_secs_f64();
                self.store.save(&self.name(), state, network)?;
            }
        }
        Ok(())
    }

    fn row(
        &self,
        state: &mut ChainState,
        network: &Network,
        losses: Option<&StepLosses>,
        certificate: Option<CycleCertificate>,
        buffers: &mut Buffers,
    ) {
        let setting = self.setting;
        let p = state.upper.weights();
        let due = (state.ledger.progress() * setting.recipe.run.evaluations as f64) as u64;
        let mut validation_loss = None;
        if due >= state.evaluations {
            let scores =
                score(&setting.decoder, network.weights(), &setting.validation, TRACED, &mut buffers.work);
            state.ledger.charge(Entry::Observation, scores.tokens);
            state.evaluations = due + 1;
            validation_loss = Some(scores.mean());
        }
        let row = TraceRow {
            method: self.method,
            seed: self.seed,
            phase: state.phase,
            step: state.step,
            spent: state.ledger.spent(),
            step_size: step_size(&setting.recipe.train, state.step, state.ledger.progress()),
            train_loss: losses.map(|l| l.weighted(&p)),
            source_losses: losses.map(|l| l.losses.clone()).unwrap_or_default(),
            weights: p,
            validation_loss,
            certificate,
        };
        self.tell(&ProgressEvent::Row(&row));
        state.rows.push(row);
    }

    fn step(
        &self,
        step: u64,
        network: &mut Network,
        batch: &StepBatch,
        p: &[f64],
        size: f64,
        buffers: &mut Buffers,
    ) -> Result<StepLosses, ReweightError> {
        let setting = self.setting;
        let losses = weighted_gradient(setting, network, batch, p, buffers);
        let finite = losses.losses.iter().zip(&losses.gradient_norms).position(|(l, g)| !(l + g).is_finite());
        if let Some(i) = finite {
            return Err(ReweightError::NonFinite {
                name: setting.sources[i].name.clone(),
                step: step + 1,
                method: self.method.to_string(),
                seed: self.seed,
            });
        }
        network.update(&setting.decoder, &setting.recipe.train, size, &mut buffers.total);
        Ok(losses)
    }

    /// SELECT: short continuations in different data orders; the winner goes on. `None` when the budget does not
    /// reach.
    fn continuations(
        &self,
        state: &mut ChainState,
        network: &mut Network,
        orders: &mut [Vec<Order>],
        buffers: &mut Buffers,
    ) -> Result<Option<StepLosses>, ReweightError> {
        let setting = self.setting;
        let spec = &setting.recipe.reweight;
        let steps = spec.continuation_steps;
        let batches: Vec<Vec<StepBatch>> = orders
            .iter_mut()
            .map(|o| (state.step..state.step + steps).map(|s| StepBatch::draw(setting, o, s)).collect())
            .collect();
        let tokens: Vec<u64> = batches.iter().map(|b| b.iter().map(|b| b.tokens).sum()).collect();
        let validation =
            setting.validation.batch(0..setting.validation.len().min(TRACED)).tokens.len() as u64;
        let price = state.ledger.price(Entry::Training, tokens.iter().sum())
            + state.ledger.price(Entry::Selection, validation * tokens.len() as u64);
        if price > state.ledger.left() {
            return Ok(None);
        }
        let p = state.upper.weights();
        let size = step_size(&setting.recipe.train, state.step, state.ledger.progress());
        let mut candidates = Vec::new();
        for batches in &batches {
            let mut candidate = network.clone();
            let mut last = StepLosses::default();
            let mut sum = 0.0;
            for (i, batch) in batches.iter().enumerate() {
                last = self.step(state.step + i as u64, &mut candidate, batch, &p, size, buffers)?;
                sum += last.weighted(&p);
            }
            let scores =
                score(&setting.decoder, candidate.weights(), &setting.validation, TRACED, &mut buffers.work);
            let continuation = Continuation {
                train_loss: sum / steps as f64,
                validation_loss: scores.mean(),
                is_winner: false,
            };
            state.ledger.charge(Entry::Selection, scores.tokens);
            candidates.push((candidate, last, continuation));
        }
        state.continuations = candidates.iter().map(|c| c.2).collect();
        let winner = select(&state.continuations, spec.loss_tolerance);
        state.continuations[winner].is_winner = true;
        for (i, &tokens) in tokens.iter().enumerate() {
            state
                .ledger
                .charge(if i == winner { Entry::Training } else { Entry::LosingContinuations }, tokens);
        }
        let (best, losses, _) = candidates.swap_remove(winner);
        *network = best;
        state.step += steps;
        Ok(Some(losses))
    }

    /// DIFFERENTIATE and UPDATE. `None` when the budget does not reach.
    fn differentiate(
        &self,
        state: &mut ChainState,
        network: &Network,
        orders: &mut GradientOrders,
        buffers: &mut Buffers,
    ) -> Result<Option<CycleCertificate>, ReweightError> {
        let setting = self.setting;
        let spec = &setting.recipe.reweight;
        let batches = GradientBatches::draw(setting, orders, state.upper.cycles);
        let charges = batches.charges(self.method, spec.cg_steps);
        if charges.iter().map(|&(e, t)| state.ledger.price(e, t)).sum::<f64>() > state.ledger.left() {
            return Ok(None);
        }
        let p = state.upper.weights();
        let found =
            estimate(setting, self.method, network, &p, &state.ledger, state.step, &batches, buffers)?;
        for (entry, tokens) in charges {
            state.ledger.charge(entry, tokens);
        }
        if found.halves.iter().flatten().any(|s| !s.is_finite()) {
            return Err(ReweightError::NonFinite {
                name: "validation".into(),
                step: state.step,
                method: self.method.to_string(),
                seed: self.seed,
            });
        }
        let r = state.last_gradient / state.first_gradient.unwrap_or(1.0);
        let mut certificate = state.upper.update(spec, &found.halves, r, &state.ledger);
        certificate.solve_residual = found.residual;
        certificate.damping = found.damping;
        certificate.continuations.clone_from(&state.continuations);
        Ok(Some(certificate))
    }
}

/// All ways to write `left` as a sum over the places from `at` on, as shares of `n`.
fn fill_simplex(counts: &mut [usize], at: usize, left: usize, n: usize, out: &mut Vec<Vec<f64>>) {
    if at + 1 == counts.len() {
        counts[at] = left;
        out.push(counts.iter().map(|&c| c as f64 / n as f64).collect());
        return;
    }
    for c in 0..=left {
        counts[at] = c;
        fill_simplex(counts, at + 1, left - c, n, out);
    }
}
