//! Strengths of regularisation: a logarithmic weight for each feature or class, learnt on validation examples.
//!
//! ```text
//! min_x f = (1/n_v) Σ_j ℓ_j(y)              y = argmin g = (1/n) Σ_i ℓ_i(y) + (s/2) Σ_k e^(x_group(k)) y_k²
//! ```
//!
//! with ℓ the cross-entropy of a linear classifier. The lower level is strongly convex, so all targets are one: ∇F is worked
//! out by Newton's method with conjugate gradients where the sizes allow it.

use std::sync::{Arc, Mutex, PoisonError};

use bilevel::{
    linear::{LinearSolver, cg::Cg},
    problem::Sample,
    problems::{ClosedForm, DataArray, FiniteSum, KnownAnswer},
    vector::Vector,
};

use crate::classifier::{Classifier, Examples};

/// Which weights share a strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Those of one feature, for all classes.
    Feature,
    /// Those of one class, for all features.
    Class,
}

/// The problem; see the [module](self). m is the number of groups, d that of weights.
#[derive(Clone, Debug)]
pub struct Strengths {
    classifier: Classifier,
    train: Examples,
    validation: Examples,
    test: Examples,
    /// s.
    scale: f64,
    start_x: Vec<f64>,
    start_y: Start,
    /// The group of each weight.
    group: Vec<u32>,
    is_measured: bool,
    /// The last answer: a measurement asks for it several times.
    last: Arc<Mutex<Option<Answer>>>,
}

/// What the closed form is made of at one x.
#[derive(Clone, Debug)]
struct Answer {
    x: Vec<f64>,
    selection: Vec<f64>,
    v: Vec<f64>,
    gradient: Vec<f64>,
}

/// Where the weights of the classifier start.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// At 0.
    Zero,
    /// Standard normal numbers of the seed.
    Normal,
    /// At these weights.
    At(Vec<f64>),
}

/// Up to this number of weights ∇F is worked out for every measurement of a run.
const MEASURED_UP_TO: usize = 2_000;

impl Strengths {
    /// The problem of these examples. `start_x` has one number for each group.
    ///
    /// # Panics
    /// Sets of different width, or a start of another length than the number of groups.
    pub fn new(
        classifier: Classifier,
        [train, validation, test]: [Examples; 3],
        groups: Groups,
        scale: f64,
        start_x: Vec<f64>,
        start_y: Start,
    ) -> Self {
        let columns = train.features.columns();
        for set in [&validation, &test] {
            assert_eq!(set.features.columns(), columns, "sets of different width");
        }
        let outputs = classifier.link().outputs();
        let place = train.features.place(outputs);
        let mut group = vec![0; classifier.dim()];
        for j in 0..columns {
            for c in 0..outputs {
                group[place.feature * j + place.output * c] = match groups {
                    Groups::Feature => j as u32,
                    Groups::Class => c as u32,
                };
            }
        }
        let count = match groups {
            Groups::Feature => columns,
            Groups::Class => outputs,
        };
        assert_eq!(start_x.len(), count, "a start with one number for each group");
        let is_measured = classifier.dim() <= MEASURED_UP_TO;
        Self {
            classifier,
            train,
            validation,
            test,
            scale,
            start_x,
            start_y,
            group,
            is_measured,
            last: Arc::default(),
        }
    }

    /// s e^(x_group(k)) for each weight.
    fn strengths<'a>(&'a self, x: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        // few groups and many weights: an exponential for each group alone
        let strengths: Vec<f64> = x.iter().map(|x| self.scale * x.exp()).collect();
        self.group.iter().map(move |&group| strengths[group as usize])
    }
    /// ½ s e^(x) times a sum over each group.
    fn by_group(&self, x: &[f64], terms: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut sums = vec![0.0; x.len()];
        for (&group, term) in self.group.iter().zip(terms) {
            sums[group as usize] += term;
        }
        sums.iter().zip(x).map(|(sum, x)| self.scale * x.exp() * sum).collect()
    }

    /// Newton's method on g(x, ·) from y, each step by conjugate gradients, its length halved until g falls. `None` when the
    /// gradient does not come down to rounding.
    fn lower_solution(&self, x: &[f64], y: &[f64]) -> Option<Vec<f64>> {
        const STEPS: usize = 60;
        const TOLERANCE: f64 = 1e-11;
        let mut y = y.to_vec();
        for _ in 0..STEPS {
            let gradient = self.g_grad_y(x, &y, Sample::Full);
            let norm = gradient.norm();
            if norm <= TOLERANCE {
                return Some(y);
            }
            // as exact as the step is near the end: quadratic convergence is kept
            let direction = self.solve(x, &y, &gradient, norm.clamp(1e-10, 0.1))?;
            let value = self.g(x, &y, Sample::Full);
            let slope = gradient.dot(&direction);
            let mut length = 1.0;
            loop {
                let next = y.plus(-length, &direction);
                // rounding of g hides decreases below it
                if self.g(x, &next, Sample::Full) <= value - 1e-4 * length * slope + 1e-14 * value.abs() {
                    y = next;
                    break;
                }
                length *= 0.5;
                if length < 1e-10 {
                    return None;
                }
            }
        }
        None
    }
    /// H⁻¹ b at (x, y).
    fn solve(&self, x: &[f64], y: &[f64], b: &Vec<f64>, tolerance: f64) -> Option<Vec<f64>> {
        let cg = Cg { tolerance, ..Cg::default() };
        let mut apply = |u: &Vec<f64>| Ok(self.g_hvp_yy(x, y, u, Sample::Full));
        Some(cg.solve(&mut apply, b, &b.zeros_like()).ok()?.solution)
    }
    /// The selection, v and ∇F at x; the lower iteration starts at y.
    fn answer(&self, x: &[f64], y: &[f64]) -> Option<Answer> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = &*last
            && answer.x == x
        {
            return Some(answer.clone());
        }
        let answer = self.work_out(x, y)?;
        *last = Some(answer.clone());
        Some(answer)
    }
    fn work_out(&self, x: &[f64], y: &[f64]) -> Option<Answer> {
        let y = self.lower_solution(x, y)?;
        let v = self.solve(x, &y, &self.f_grad_y(x, &y, Sample::Full), 1e-12)?;
        let gradient = self.g_jvp_xy(x, &y, &v, Sample::Full).scaled(-1.0);
        Some(Answer { x: x.to_vec(), selection: y, v, gradient })
    }
}

impl FiniteSum for Strengths {
    fn dims(&self) -> (usize, usize) {
        (self.start_x.len(), self.classifier.dim())
    }
    fn terms(&self) -> (u64, u64) {
        (self.validation.len() as u64, self.train.len() as u64)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(0)
    }
    fn f(&self, _x: &[f64], y: &[f64], s: Sample) -> f64 {
        self.classifier.mean_loss(y, &self.validation, s)
    }
    fn f_grad_x(&self, x: &[f64], _y: &[f64], _s: Sample) -> Vec<f64> {
        vec![0.0; x.len()]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        self.classifier.mean_gradient(y, &self.validation, s)
    }
    fn g(&self, x: &[f64], y: &[f64], s: Sample) -> f64 {
        let penalty: f64 = self.strengths(x).zip(y).map(|(strength, y)| strength * y * y).sum();
        self.classifier.mean_loss(y, &self.train, s) + 0.5 * penalty
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64], _s: Sample) -> Vec<f64> {
        self.by_group(x, y.iter().map(|y| 0.5 * y * y))
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        let mut gradient = self.classifier.mean_gradient(y, &self.train, s);
        gradient.iter_mut().zip(self.strengths(x).zip(y)).for_each(|(g, (strength, y))| *g += strength * y);
        gradient
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64], s: Sample) -> Vec<f64> {
        let share = self.train.share(s);
        let mut product = self.classifier.curvature(y, u, &self.train, s, |_| share);
        product.iter_mut().zip(self.strengths(x).zip(u)).for_each(|(h, (strength, u))| *h += strength * u);
        product
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64], _s: Sample) -> Vec<f64> {
        self.by_group(x, y.iter().zip(u).map(|(y, u)| y * u))
    }
    fn arrays(&self) -> Vec<DataArray> {
        [self.validation.arrays("upper"), self.train.arrays("lower")].concat()
    }
    fn default_x(&self) -> Vec<f64> {
        self.start_x.clone()
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        match &self.start_y {
            Start::Zero => vec![0.0; self.classifier.dim()],
            Start::Normal => {
                let mut stream = bilevel::rng::Stream::new(seed, 0);
                (0..self.classifier.dim()).map(|_| stream.normal()).collect()
            }
            Start::At(y) => y.clone(),
        }
    }
    /// Loss and accuracy on the test examples at y; F(x), the validation loss at the re-solved lower level, where it is worked
    /// out.
    fn metrics(&self, x: &[f64], y: &[f64]) -> Vec<(&'static str, f64)> {
        let (loss, accuracy) = self.classifier.score(y, &self.test);
        let mut metrics = vec![("test-loss", loss), ("accuracy", accuracy)];
        if self.is_measured
            && let Some(answer) = self.answer(x, y)
        {
            metrics.push(("hyper-objective", self.f(x, &answer.selection, Sample::Full)));
        }
        metrics
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        if !self.is_measured {
            return None;
        }
        let Answer { selection, v, gradient, .. } = self.answer(x, &vec![0.0; self.classifier.dim()])?;
        Some(KnownAnswer {
            value: self.f(x, &selection, Sample::Full),
            gradient: Some(gradient),
            selection: Some(selection),
            v: Some(v),
            ..KnownAnswer::default()
        })
    }
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        self.is_measured.then_some(self)
    }
}

/// S(x) is one point, so both targets are one; there is no formula for minimisers.
impl ClosedForm for Strengths {
    fn selected_gradient(&self, x: &[f64], y: &[f64]) -> Option<Vec<f64>> {
        Some(self.answer(x, y)?.gradient)
    }
    fn optimistic_gradient(&self, x: &[f64]) -> Option<Vec<f64>> {
        Some(self.answer(x, &vec![0.0; self.classifier.dim()])?.gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks,
        classifier::{Link, split},
        synthetic::{clusters, texts},
    };

    fn problems() -> Vec<Strengths> {
        let sets = |classes| split(&clusters(72, 6, classes, 2.0, 1), [24, 18, 30], None);
        let sparse = split(&texts(72, 40, 12, 3, 1), [24, 18, 30], None);
        let softmax = Link::Softmax { classes: 3 };
        vec![
            Strengths::new(
                Classifier::linear(6, Link::Logistic),
                sets(2),
                Groups::Feature,
                1.0,
                vec![-1.0; 6],
                Start::Normal,
            ),
            Strengths::new(
                Classifier::linear(6, softmax),
                sets(3),
                Groups::Class,
                1.0,
                vec![-2.0; 3],
                Start::Normal,
            ),
            Strengths::new(
                Classifier::linear(40, softmax),
                sparse,
                Groups::Feature,
                1.0 / 120.0,
                vec![0.0; 40],
                Start::Normal,
            ),
        ]
    }

    #[test]
    fn every_oracle_matches_differences_and_batches_average_to_the_whole() {
        for problem in problems() {
            checks::batches(&problem);
            checks::derivatives(problem);
        }
    }

    #[test]
    fn the_hypergradient_is_that_of_re_solved_values() {
        for problem in problems() {
            let x = problem.default_x();
            let known = problem.known(&x).unwrap();
            let gradient = known.gradient.unwrap();
            for k in 0..x.len().min(4) {
                let at = |e: f64| {
                    let mut x = x.clone();
                    x[k] += e;
                    problem.known(&x).unwrap().value
                };
                let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
                assert!((difference - gradient[k]).abs() <= 1e-7 * (1.0 + gradient.norm()), "{k}");
            }
            assert!(problem.g_grad_y(&x, &known.selection.unwrap(), Sample::Full).norm() <= 1e-11);
        }
    }
}
