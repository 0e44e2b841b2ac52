//! What is run on both sides: a problem, its arrays, and solvers with their settings.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use bilevel::{
    Budget, Event, Run,
    problem::Problem,
    problems::Zoo,
    rng::Stream,
    solvers::registry::{self, AnySolver},
};
use serde_json::{Map, Value, json};

use crate::{
    npy::Array,
    recorder::{Batches, Recorder},
};

/// Seed of every run: starts, batches and the direction of the comparison at the start.
pub const SEED: u64 = 1;

/// A list of batches: its name on the other side, its shape, and the batches.
type Named = (&'static str, Vec<usize>, Vec<Vec<u64>>);

/// A problem with everything that the other side needs to state it.
#[derive(Debug)]
pub struct Workload {
    /// Its name here and in `statements.py`.
    pub name: &'static str,
    /// What it is, with its sizes.
    pub title: String,
    /// The problem, with its data.
    pub problem: Zoo,
    /// Constants of its statement.
    pub constants: Value,
    /// Solvers to time on it.
    pub cases: Vec<Case>,
    /// Methods of other libraries that give one hypergradient of it, with their options.
    pub implicit: Vec<(&'static str, Value)>,
    /// Arguments of `bilevel solve` that make its first SOBA step, for the time of a cold start.
    pub command: Option<Vec<String>>,
}

/// A solver with settings, and what it is held against.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of the solver on both sides.
    pub solver: &'static str,
    /// Its settings.
    pub settings: Value,
    /// Steps in one repetition.
    pub steps: u64,
    /// Terms of a batch; 0 where all terms are used.
    pub batch: u64,
    /// Statements of the other side.
    pub variants: Vec<Variant>,
    /// What the issue of the comparison asks for: other seconds by ours, at least.
    pub aim: Option<f64>,
}

/// One way in which the other side may be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// How tables call it.
    pub label: &'static str,
    /// `f32` or `f64`.
    pub dtype: &'static str,
    /// `indices`: the very batches of our solver, drawn beforehand; `blocks`: as many rows that stand together.
    pub sampling: &'static str,
    /// Constants that differ from those of the workload.
    pub constants: Value,
}

impl Variant {
    /// This sampling in both precisions.
    pub fn both(labels: [&'static str; 2], sampling: &'static str, constants: &Value) -> [Self; 2] {
        let of = |label, dtype| Self { label, dtype, sampling, constants: constants.clone() };
        [of(labels[0], "f64"), of(labels[1], "f32")]
    }
    /// Whether it does the very arithmetic of our solver, up to rounding.
    pub fn is_the_same(&self) -> bool {
        self.dtype == "f64" && self.sampling == "indices"
    }
}

impl Case {
    /// Steps of ours that come before the other side's first: SABA's full pass at the start is part of its start there.
    pub fn lead(&self) -> u64 {
        u64::from(self.solver == "saba")
    }
    /// The solver.
    pub fn build(&self) -> Result<AnySolver> {
        let mut settings = self.settings.as_object().cloned().unwrap_or_default();
        if self.batch > 0 {
            settings.insert("batch".into(), json!(self.batch));
        }
        Ok(registry::by_name(self.solver)?.build(&settings)?)
    }
    /// All settings, defaults included, as the other side reads them.
    pub fn all_settings(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self.build()?)? {
            Value::Object(settings) => Ok(settings),
            other => bail!("settings are a table, not {other}"),
        }
    }
    /// The request that names this case and a variant of it.
    pub fn request(&self, workload: &Workload, variant: &Variant, steps: u64, verb: &str) -> Result<Value> {
        let mut constants = workload.constants.clone();
        if let (Some(all), Some(own)) = (constants.as_object_mut(), variant.constants.as_object()) {
            all.extend(own.clone());
        }
        Ok(json!({
            "do": verb,
            "workload": workload.name,
            "problem": constants,
            "solver": self.solver,
            "settings": self.all_settings()?,
            "steps": steps,
            "batch": self.batch,
            "dtype": variant.dtype,
            "sampling": variant.sampling,
        }))
    }
    /// Of this many steps those before the first that is not the same on the other side: SABA there has no last block that
    /// is not full.
    pub fn comparable(&self, problem: &Zoo, steps: u64) -> Result<u64> {
        if self.solver != "saba" {
            return Ok(steps);
        }
        let solver = self.build()?;
        let recorder = Recorder::new(problem);
        let before = Run::new(&recorder, &solver).budget(Budget::steps(self.lead())).start(SEED)?.counts;
        let recorder = Recorder::new(problem);
        Run::new(&recorder, &solver).budget(Budget::steps(steps + self.lead())).start(SEED)?;
        let (upper, lower) = recorder.noted();
        let full = |calls: &[Vec<u64>], skip: u64| {
            calls[skip as usize..].iter().take_while(|block| block.len() as u64 == self.batch).count() as u64
        };
        Ok(full(&upper.grad, before.upper.grad_y).min(full(&lower.grad_y, before.lower.grad_y)))
    }
    /// Our iterates after this many steps of the other side.
    pub fn iterates(&self, problem: &Zoo, steps: u64) -> Result<(Vec<f64>, Vec<f64>)> {
        let solver = self.build()?;
        let report = Run::new(problem, &solver).budget(Budget::steps(steps + self.lead())).start(SEED)?;
        ensure!(report.steps == steps + self.lead(), "{}: the run ended as {}", self.solver, report.status);
        Ok((report.x, report.y))
    }
    /// Seconds of all steps, without those of the lead.
    pub fn seconds(&self, problem: &Zoo) -> Result<f64> {
        let solver = self.build()?;
        let lead = self.lead();
        let clock = std::cell::Cell::new(std::time::Instant::now());
        let run = Run::new(problem, &solver).budget(Budget::steps(self.steps + lead)).observe(
            |event: &Event<Zoo>| {
                if event.step == lead {
                    clock.set(std::time::Instant::now());
                }
                std::ops::ControlFlow::Continue(())
            },
        );
        clock.set(std::time::Instant::now());
        let report = run.start(SEED)?;
        let seconds = clock.get().elapsed().as_secs_f64();
        ensure!(
            report.steps == self.steps + lead,
            "{} ended after {} steps as {}; the settings of this comparison do not suit the data",
            self.solver,
            report.steps,
            report.status
        );
        Ok(seconds)
    }

    /// The batches of our solver, as the other side's program wants them.
    fn batches(&self, problem: &Zoo) -> Result<Vec<(String, Array)>> {
        let solver = self.build()?;
        let recorder = Recorder::new(problem);
        Run::new(&recorder, &solver).budget(Budget::steps(self.steps + self.lead())).start(SEED)?;
        let (upper, lower) = recorder.noted();
        let lists = self.lists(&upper, &lower);
        lists
            .into_iter()
            .map(|(name, shape, batches)| {
                let entries: Vec<i32> =
                    batches.iter().flat_map(|batch| batch.iter().map(|&i| i as i32)).collect();
                Ok((format!("{}-{name}", self.solver), Array::whole(&shape, entries)))
            })
            .collect()
    }

    /// Lists of batches by name, with their shapes.
    fn lists(&self, upper: &Batches, lower: &Batches) -> Vec<Named> {
        let (steps, size) = (self.steps as usize, self.batch as usize);
        match self.solver {
            "soba" => vec![
                ("upper", vec![steps, size], upper.grad.clone()),
                ("lower", vec![steps, size], lower.grad_y.clone()),
            ],
            "saba" => {
                // a block is told by its first term; the first step asks for every block
                let firsts = |calls: &[Vec<u64>]| {
                    calls[calls.len() - steps..].iter().map(|block| vec![block[0]]).collect()
                };
                vec![
                    ("upper", vec![steps, 1], firsts(&upper.grad)),
                    ("lower", vec![steps, 1], firsts(&lower.grad_y)),
                ]
            }
            "f2sa" => {
                let inner = upper.grad_y.len() / steps;
                let every = |from: usize, calls: &[Vec<u64>]| -> Vec<Vec<u64>> {
                    calls.iter().skip(from).step_by(2).cloned().collect()
                };
                vec![
                    ("loop_upper", vec![steps, inner, size], upper.grad_y.clone()),
                    ("loop_lower_y", vec![steps, inner, size], every(0, &lower.grad_y)),
                    ("loop_lower_z", vec![steps, inner, size], every(1, &lower.grad_y)),
                    ("upper", vec![steps, size], upper.grad_x.clone()),
                    ("lower", vec![steps, size], every(0, &lower.grad_x)),
                ]
            }
            _ => Vec::new(),
        }
    }
}

impl Workload {
    /// The direction v of the comparison at the start.
    pub fn direction(&self) -> Vec<f64> {
        let (_, y) = self.problem.start(SEED);
        Stream::new(SEED, 0x0070_6565_7273).normal_like(&y)
    }

    /// Writes data, start, direction and batches for the other side.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let batches = folder.join("batches");
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&batches).with_context(|| format!("{} cannot be made", batches.display()))?;
        for array in self.problem.formulas().arrays() {
            Array::real(&array.shape, array.entries).write(folder, &array.name)?;
        }
        let (x, y) = self.problem.start(SEED);
        for (name, list) in [("x0", x), ("y0", y), ("v", self.direction())] {
            Array::real(&[list.len()], list).write(folder, name)?;
        }
        for case in &self.cases {
            for (name, array) in case.batches(&self.problem)? {
                array.write(&batches, &name)?;
            }
        }
        Ok(())
    }
}
