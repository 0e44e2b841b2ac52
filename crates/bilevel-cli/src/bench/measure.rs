//! What is measured along a run, at steps that lie evenly on a logarithmic scale, with the clock stopped.

use std::{cell::RefCell, collections::BTreeMap, ops::ControlFlow, path::PathBuf, rc::Rc};

use bilevel::{
    Event, Objective, Observer, OracleCounts, Problem, Sample, Vector,
    problems::Zoo,
    run::{ObserverError, trace::Lines},
    solvers::HyperObjective,
};
use serde::{Deserialize, Serialize};

/// Measurements per factor of ten in the steps; every step before the twentieth.
const PER_DECADE: f64 = 20.0;

/// The numbers at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Seconds in the solver.
    pub seconds: f64,
    /// Oracle calls of the solver; those of the measurement are not counted.
    pub counts: OracleCounts,
    /// Numbers by name; what is not finite or not known is absent.
    pub metrics: BTreeMap<String, f64>,
}

/// Measures one run on its problem.
pub struct Measure<'p> {
    problem: &'p Zoo,
    target: HyperObjective,
    lines: Lines,
    rows: Rc<RefCell<Vec<Row>>>,
}

impl<'p> Measure<'p> {
    /// Rows go to this file, so that an interrupted run goes on with them, and to the list that is returned.
    pub fn new(problem: &'p Zoo, target: HyperObjective, path: PathBuf) -> (Self, Rc<RefCell<Vec<Row>>>) {
        let rows = Rc::new(RefCell::new(Vec::new()));
        (Self { problem, target, lines: Lines::new(path), rows: Rc::clone(&rows) }, rows)
    }
}

impl Observer<Zoo> for Measure<'_> {
    fn begin(&mut self, step: u64) -> Result<(), ObserverError> {
        self.lines.open_at(step)?;
        *self.rows.borrow_mut() = self.lines.rows()?;
        Ok(())
    }

    fn observe(&mut self, event: &Event<Zoo>) -> Result<ControlFlow<String>, ObserverError> {
        if is_due(event.step) {
            let mut metrics = metrics(self.problem, self.target, event.x, event.y);
            insert(&mut metrics, "stationarity", event.info.stationarity);
            let row =
                Row { step: event.step, seconds: event.wall.as_secs_f64(), counts: event.counts, metrics };
            self.lines.append(&row)?;
            self.rows.borrow_mut().push(row);
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Whether a step is one of those that are measured; a function of the step alone, so that a resumed run agrees.
fn is_due(step: u64) -> bool {
    let place = |step: u64| (PER_DECADE * (step as f64).log10()).floor();
    step < 20 || place(step) > place(step - 1)
}

/// What the problem says of a pair (x, y).
pub fn metrics(problem: &Zoo, target: HyperObjective, x: &Vec<f64>, y: &Vec<f64>) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let norms = problem.gradient_norms(x, y);
    let own = match target {
        HyperObjective::Selected => norms.selected,
        HyperObjective::Optimistic | HyperObjective::Penalised => norms.optimistic,
        HyperObjective::Pessimistic => {
            problem.known_pessimistic(x).and_then(|known| known.gradient).map(|gradient| gradient.norm())
        }
    };
    for (name, number) in [("target", own), ("selected", norms.selected), ("optimistic", norms.optimistic)] {
        if let Some(number) = number {
            insert(&mut metrics, name, number);
        }
    }
    // An oracle that fails has no number to give.
    if let Ok(value) = problem.upper().value(x, y, Sample::Full) {
        insert(&mut metrics, "value", value);
    }
    if let Ok(gradient) = problem.lower().grad_y(x, y, Sample::Full) {
        insert(&mut metrics, "lower-gradient", gradient.norm());
    }
    for (name, number) in problem.formulas().metrics(x, y) {
        insert(&mut metrics, name, number);
    }
    metrics
}

fn insert(metrics: &mut BTreeMap<String, f64>, name: &str, number: f64) {
    if number.is_finite() {
        metrics.insert(name.into(), number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_measured_evenly_on_a_logarithmic_scale() {
        let due: Vec<u64> = (1..=100_000).filter(|&step| is_due(step)).collect();
        assert_eq!(due[..19], (1..20).collect::<Vec<u64>>());
        let in_last_decade = due.iter().filter(|&&step| step > 10_000).count();
        assert_eq!(in_last_decade, PER_DECADE as usize);
        assert!(due.contains(&100) && due.contains(&1_000) && due.contains(&100_000));
    }
}
