//! One method with one seed: search for weights, then retrain a fresh model with them.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use serde::Serialize;

use super::{
    chain_name,
    checkpoint::Store,
    kept::{ChainResult, ChainState, Found},
};
use crate::{
    error::ReweightError,
    eval::score,
    ledger::Entry,
    methods::{Advance, End, Job, Learner, Search, Start, TRACED, Tools, UpperState, order, purpose},
    progress::{Progress, ProgressEvent},
    result::{CycleCertificate, Phase, SeedResult, Timing, TraceRow},
    train::{Network, StepLosses, step_size},
};

/// The surroundings of a chain.
pub struct Chain<'a, 'p> {
    /// What is done, with which method and seed.
    pub job: Job<'a>,
    /// Set from outside to stop.
    pub interrupt: &'a AtomicBool,
    /// The listener.
    pub progress: &'a Mutex<&'p mut dyn Progress>,
    /// Checkpoints.
    pub store: &'a Store,
}

impl Chain<'_, '_> {
    fn name(&self) -> String {
        chain_name((self.job.method, self.job.seed))
    }

    fn start<L: Learner>(&self, learner: &L) -> (ChainState<L::Memory>, Vec<Network>) {
        let Start { weights, memory, networks } = learner.start(&self.job);
        let weights = self.job.limited(weights);
        let mut state = ChainState {
            phase: Phase::Search,
            search: Search {
                step: 0,
                ledger: self.job.ledger(),
                upper: UpperState::new(&weights),
                first_gradient: None,
                last_gradient: 0.0,
                memory,
            },
            evaluations: 0,
            rows: Vec::new(),
            seconds: 0.0,
            found: None,
            timings: Vec::new(),
        };
        let networks = networks.unwrap_or_else(|| {
            self.retrain(&mut state, Found { weights, ledger: None, online_test_loss: None, predicted: None })
        });
        (state, networks)
    }

    /// Goes over to the retraining with the weights found.
    fn retrain<M>(&self, state: &mut ChainState<M>, mut found: Found) -> Vec<Network> {
        found.weights = self.job.limited(found.weights);
        state.search.restart(&self.job, &found.weights);
        state.evaluations = 0;
        state.seconds = 0.0;
        state.phase = Phase::Retraining;
        state.found = Some(found);
        vec![self.job.fresh(purpose::RETRAINING)]
    }

    /// Runs to the end, or to an interruption, from the chain's checkpoint if there is one.
    pub fn run<L: Learner>(&self, learner: &L) -> Result<ChainResult, ReweightError> {
        let name = self.name();
        let (mut state, mut networks) = match self.store.load(&name, self.job.setting)? {
            Some(saved) => saved,
            None => self.start(learner),
        };
        let mut tools = Tools::new(self.job.setting);
        loop {
            let began = Instant::now();
            let before = state.seconds;
            self.phase(learner, &mut state, &mut networks, &mut tools, began, before)?;
            state.seconds = before + began.elapsed().as_secs_f64();
            self.require_sound(&state, &networks)?;
            if let Some(result) = self.turn(learner, &mut state, &mut networks, &mut tools) {
                self.job.setting.require_device()?;
                self.store.remember(&name, &result, &networks[0])?;
                return Ok(result);
            }
            self.save(&state, &networks)?;
        }
    }

    /// Saves the chain in progress, unless its numbers are no longer finite, or the device failed: what was saved before then stays.
    fn save<M: Serialize>(&self, state: &ChainState<M>, networks: &[Network]) -> Result<(), ReweightError> {
        self.require_sound(state, networks)?;
        self.store.save(&self.name(), state, networks)
    }

    fn require_sound<M>(&self, state: &ChainState<M>, networks: &[Network]) -> Result<(), ReweightError> {
        self.job.setting.require_device()?;
        if networks.iter().all(Network::is_finite) {
            return Ok(());
        }
        let (step, method) = (state.search.step, self.job.method.to_string());
        Err(ReweightError::Diverged { step, method, seed: self.job.seed })
    }

    /// What follows a finished budget: another run of the search, the retraining, or the end.
    fn turn<L: Learner>(
        &self,
        learner: &L,
        state: &mut ChainState<L::Memory>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Option<ChainResult> {
        let setting = self.job.setting;
        let (method, seed) = (self.job.method, self.job.seed);
        let work = &mut tools.buffers.work;
        let mut all = |set| score(&setting.decoder, networks[0].weights(), set, usize::MAX, work);
        let validation = all(&setting.validation).mean();
        let test = all(&setting.test);
        let seconds = state.seconds;
        let tokens = state.search.ledger.tokens(Entry::Training) as f64;
        let tokens_per_second = tokens / seconds.max(1e-9);
        self.tell(&ProgressEvent::Finished { method, seed, phase: state.phase, seconds });
        state.timings.push(Timing { method, seed, phase: state.phase, seconds, tokens_per_second });
        if state.phase == Phase::Retraining {
            let found = state.found.clone().expect("a retraining has weights");
            let search = &state.search;
            return Some(ChainResult {
                seed: SeedResult {
                    seed,
                    weights: found.weights,
                    search: found.ledger,
                    retraining: search.ledger.report(search.step),
                    no_signal: search.upper.no_signal,
                    cycles: search.upper.cycles,
                    online_test_loss: found.online_test_loss,
                    predicted_change: found.predicted,
                    validation_loss: validation,
                    test_loss: test.mean(),
                    test_accuracy: test.accuracy(),
                },
                rows: std::mem::take(&mut state.rows),
                scores: test,
                timings: std::mem::take(&mut state.timings),
            });
        }
        match learner.end(&self.job, &mut state.search, networks, validation) {
            End::Again => {
                state.evaluations = 0;
                state.seconds = 0.0;
            }
            End::Found { weights, ledger, is_online, predicted } => {
                let online_test_loss = is_online.then(|| test.mean());
                *networks = self.retrain(state, Found { weights, ledger, online_test_loss, predicted });
            }
        }
        None
    }

    fn tell(&self, event: &ProgressEvent) {
        self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner).report(event);
    }

    fn phase<L: Learner>(
        &self,
        learner: &L,
        state: &mut ChainState<L::Memory>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
        began: Instant,
        before: f64,
    ) -> Result<(), ReweightError> {
        let run = &self.job.setting.recipe.run;
        let mut told = 0.0;
        if state.search.step == 0 && state.evaluations == 0 {
            self.row(state, &networks[0], None, None, tools);
        }
        loop {
            if self.interrupt.load(Ordering::Relaxed) {
                state.seconds = before + began.elapsed().as_secs_f64();
                self.save(state, networks)?;
                return Err(ReweightError::Interrupted { out: run.out.clone() });
            }
            let begun = state.search.step;
            // before the method does anything with them: two networks that are compared train the same parts
            for network in networks.iter_mut() {
                self.job.setting.wake(network, self.job.seed, begun);
            }
            let advance = match state.phase {
                Phase::Search => learner.advance(&self.job, &mut state.search, networks, tools)?,
                Phase::Retraining => {
                    match self.job.train(&mut state.search, &mut networks[0], order::RETRAINING, tools)? {
                        Some(losses) => Advance::Stepped { losses, certificate: None },
                        None => Advance::Spent,
                    }
                }
            };
            let Advance::Stepped { losses, certificate } = advance else { return Ok(()) };
            let due = (state.search.ledger.progress() * run.evaluations as f64) as u64;
            if certificate.is_some() || due >= state.evaluations {
                self.row(state, &networks[0], Some(&losses), certificate, tools);
            }
            let spent = state.search.ledger.spent();
            let (method, seed, phase) = (self.job.method, self.job.seed, state.phase);
            self.tell(&ProgressEvent::Advanced { method, seed, phase, units: spent - told });
            told = spent;
            if begun / run.checkpoint_every != state.search.step / run.checkpoint_every {
                state.seconds = before + began.elapsed().as_secs_f64();
                self.save(state, networks)?;
            }
        }
    }

    fn row<M>(
        &self,
        state: &mut ChainState<M>,
        network: &Network,
        losses: Option<&StepLosses>,
        certificate: Option<CycleCertificate>,
        tools: &mut Tools,
    ) {
        let setting = self.job.setting;
        let search = &mut state.search;
        let p = search.upper.weights();
        let due = (search.ledger.progress() * setting.recipe.run.evaluations as f64) as u64;
        let mut validation_loss = None;
        if due >= state.evaluations {
            let work = &mut tools.buffers.work;
            let scores = score(&setting.decoder, network.weights(), &setting.validation, TRACED, work);
            search.ledger.charge(Entry::Observation, scores.tokens);
            state.evaluations = due + 1;
            validation_loss = Some(scores.mean());
        }
        let row = TraceRow {
            method: self.job.method,
            seed: self.job.seed,
            phase: state.phase,
            step: search.step,
            spent: search.ledger.spent(),
            step_size: step_size(&setting.recipe.train, search.step, search.ledger.progress()),
            train_loss: losses.map(|l| l.total),
            source_losses: losses.map(|l| l.losses.clone()).unwrap_or_default(),
            weights: p,
            validation_loss,
            // at the start of the retraining, before anything is known of its model
            predicted_change: state.found.as_ref().filter(|_| search.step == 0).and_then(|f| f.predicted),
            certificate,
        };
        self.tell(&ProgressEvent::Row(&row));
        state.rows.push(row);
    }
}
