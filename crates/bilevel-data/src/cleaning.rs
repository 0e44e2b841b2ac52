//! Hyper-cleaning: one weight for each training example, learnt on clean validation examples.
//!
//! ```text
//! min_x f = (1/n_v) Σ_j ℓ_j(y)              y ∈ argmin g = (1/n) Σ_i w(x_i) ℓ_i(y) + c |y|²
//! ```
//!
//! with ℓ the cross-entropy, w(x) = 1/(1 + e^(−x)), or x itself kept in [0, 1] by projection. A softmax loss does not change
//! when one vector is added to the weights of all classes: without the ridge (c = 0) the lower Hessian is singular for every x,
//! and f is constant along that part of S(x).

use bilevel::{
    problem::Sample,
    problems::{DataArray, FiniteSum},
    prox::project_box,
    rng::Stream,
};

use crate::classifier::{Classifier, Examples};

/// How an entry of x becomes the weight of its example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// w = 1/(1 + e^(−x)), x free; an example is kept if x ≥ 0.
    Sigmoid,
    /// w = x, x projected to [0, 1]; an example is kept if x > ½.
    Clip,
}

impl Weighting {
    /// w(x) and w'(x).
    fn at(self, x: f64) -> (f64, f64) {
        match self {
            Self::Sigmoid => {
                let w = 1.0 / (1.0 + (-x).exp());
                (w, w * (1.0 - w))
            }
            // outside of [0, 1] the weight is constant
            Self::Clip => (x.clamp(0.0, 1.0), f64::from(u8::from((0.0..=1.0).contains(&x)))),
        }
    }
    fn is_kept(self, x: f64) -> bool {
        match self {
            Self::Sigmoid => x >= 0.0,
            Self::Clip => x > 0.5,
        }
    }
}

/// Where the weights of the model start.
#[derive(Clone, Debug, PartialEq)]
pub enum LowerStart {
    /// At 0.
    Zero,
    /// Uniform numbers, see [`Classifier::random_weights`].
    Random,
    /// At these weights.
    At(Vec<f64>),
}

/// Labels of which some were replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polluted {
    /// The labels.
    pub labels: Vec<u32>,
    /// Which of them were drawn for replacement; those may have been given their own label again.
    pub is_drawn: Vec<bool>,
}

/// Replaces each label with probability `share`: by a class uniform among all, or among the wrong ones.
pub fn pollute(labels: &[u32], share: f64, classes: u32, is_always_wrong: bool, seed: u64) -> Polluted {
    const PURPOSE: u64 = 20;
    let mut stream = Stream::new(seed, PURPOSE);
    let draws = labels.iter().map(|&label| {
        let is_drawn = stream.uniform() < share;
        let new = match (is_drawn, is_always_wrong) {
            (false, _) => label,
            (true, false) => stream.below(u64::from(classes)) as u32,
            (true, true) => (label + 1 + stream.below(u64::from(classes) - 1) as u32) % classes,
        };
        (new, is_drawn)
    });
    let (labels, is_drawn) = draws.unzip();
    Polluted { labels, is_drawn }
}

/// The problem; see the [module](self). m is the number of training examples, d that of weights.
#[derive(Clone, Debug)]
pub struct HyperCleaning {
    /// The model.
    pub classifier: Classifier,
    /// Training examples, some with wrong labels.
    pub train: Examples,
    /// Which training examples count as dirty.
    pub is_dirty: Vec<bool>,
    /// Clean validation examples.
    pub validation: Examples,
    /// Examples that no level sees.
    pub test: Examples,
    /// w.
    pub weighting: Weighting,
    /// c.
    pub ridge: f64,
    /// Every entry of x at the start.
    pub start_x: f64,
    /// y at the start.
    pub start_y: LowerStart,
}

impl HyperCleaning {
    /// The number of examples that a sample means, and the number in the training set of the i-th of them.
    fn chosen<'a>(&self, s: Sample<'a>) -> (f64, impl Fn(usize) -> usize + 'a) {
        let count = s.size(Some(self.train.len() as u64));
        (count as f64, move |i| match s {
            Sample::Full => i,
            Sample::Batch(rows) => rows[i] as usize,
        })
    }
    /// w(x_i) over the count, for the i-th of a sample.
    fn share<'a>(&self, x: &'a [f64], s: Sample<'a>) -> impl Fn(usize) -> f64 + 'a {
        let (count, number) = self.chosen(s);
        let weighting = self.weighting;
        move |i| weighting.at(x[number(i)]).0 / count
    }
    fn square(y: &[f64]) -> f64 {
        y.iter().map(|y| y * y).sum()
    }
    fn add_ridge(&self, by: &[f64], total: &mut [f64]) {
        if self.ridge > 0.0 {
            total.iter_mut().zip(by).for_each(|(t, y)| *t += 2.0 * self.ridge * y);
        }
    }
    /// A list over x with w'(x_i) times a number of the example, over the count.
    fn scatter(&self, x: &[f64], numbers: &[f64], s: Sample) -> Vec<f64> {
        let (count, number) = self.chosen(s);
        let mut list = vec![0.0; x.len()];
        for (i, value) in numbers.iter().enumerate() {
            let i = number(i);
            list[i] += self.weighting.at(x[i]).1 * value / count;
        }
        list
    }
    /// Precision, recall and F1 of keeping examples, where the clean ones are those to be kept.
    pub fn keeping(&self, x: &[f64]) -> [f64; 3] {
        let kept = |i: &usize| self.weighting.is_kept(x[*i]);
        let clean = |i: &usize| !self.is_dirty[*i];
        let both = (0..x.len()).filter(kept).filter(clean).count() as f64;
        let precision = both / (0..x.len()).filter(kept).count() as f64;
        let recall = both / (0..x.len()).filter(clean).count() as f64;
        [precision, recall, 2.0 * precision * recall / (precision + recall)]
    }
}

impl FiniteSum for HyperCleaning {
    fn dims(&self) -> (usize, usize) {
        (self.train.len(), self.classifier.dim())
    }
    fn terms(&self) -> (u64, u64) {
        (self.validation.len() as u64, self.train.len() as u64)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        (self.ridge > 0.0).then_some(0)
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
        let (count, number) = self.chosen(s);
        let losses = self.classifier.losses(y, &self.train, s);
        let sum: f64 = losses.iter().enumerate().map(|(i, l)| self.weighting.at(x[number(i)]).0 * l).sum();
        sum / count + self.ridge * Self::square(y)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        self.scatter(x, &self.classifier.losses(y, &self.train, s), s)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        let mut gradient = self.classifier.gradient(y, &self.train, s, self.share(x, s));
        self.add_ridge(y, &mut gradient);
        gradient
    }
    fn g_grad(&self, x: &[f64], y: &[f64], s: Sample) -> (Vec<f64>, Vec<f64>) {
        let (losses, mut gradient) = self.classifier.losses_and_gradient(y, &self.train, s, self.share(x, s));
        self.add_ridge(y, &mut gradient);
        (self.scatter(x, &losses, s), gradient)
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64], s: Sample) -> Vec<f64> {
        let mut product = self.classifier.curvature(y, u, &self.train, s, self.share(x, s));
        self.add_ridge(u, &mut product);
        product
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64], s: Sample) -> Vec<f64> {
        self.scatter(x, &self.classifier.slopes(y, u, &self.train, s), s)
    }
    fn default_x(&self) -> Vec<f64> {
        vec![self.start_x; self.train.len()]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        match &self.start_y {
            LowerStart::Zero => vec![0.0; self.classifier.dim()],
            LowerStart::Random => self.classifier.random_weights(seed),
            LowerStart::At(y) => y.clone(),
        }
    }
    fn prox_x(&self) -> Option<fn(&mut [f64], f64)> {
        match self.weighting {
            Weighting::Sigmoid => None,
            Weighting::Clip => Some(|x, _| project_box(x, 0.0, 1.0)),
        }
    }
    fn arrays(&self) -> Vec<DataArray> {
        [self.validation.arrays("upper"), self.train.arrays("lower")].concat()
    }
    /// Loss and accuracy on the test examples; precision, recall and F1 of keeping clean examples.
    fn metrics(&self, x: &[f64], y: &[f64]) -> Vec<(&'static str, f64)> {
        let (loss, accuracy) = self.classifier.score(y, &self.test);
        let [precision, recall, f1] = self.keeping(x);
        vec![
            ("test-loss", loss),
            ("accuracy", accuracy),
            ("precision", precision),
            ("recall", recall),
            ("f1", f1),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks,
        classifier::{Link, split},
        synthetic::clusters,
    };

    fn problem(weighting: Weighting, ridge: f64, hidden: usize) -> HyperCleaning {
        let link = Link::Softmax { classes: 6 };
        let all = clusters(72, 5, 6, 3.0, 1);
        let all = Examples { features: all.features.with_ones(), labels: all.labels };
        let [mut train, validation, test] = split(&all, [24, 18, 30], Some(1));
        let Polluted { labels, is_drawn } = pollute(&train.labels, 0.5, 6, true, 1);
        train.labels = labels;
        HyperCleaning {
            classifier: if hidden > 0 {
                Classifier::mlp(6, hidden, link)
            } else {
                Classifier::linear(6, link)
            },
            train,
            is_dirty: is_drawn,
            validation,
            test,
            weighting,
            ridge,
            start_x: 0.4,
            start_y: LowerStart::Random,
        }
    }

    #[test]
    fn every_oracle_matches_differences_and_batches_average_to_the_whole() {
        for (weighting, ridge, hidden) in
            [(Weighting::Sigmoid, 0.0, 0), (Weighting::Clip, 0.1, 0), (Weighting::Sigmoid, 0.2, 7)]
        {
            checks::derivatives(problem(weighting, ridge, hidden));
            checks::batches(&problem(weighting, ridge, hidden));
        }
    }

    #[test]
    fn a_vector_added_to_every_class_changes_nothing_without_a_ridge() {
        let problem = problem(Weighting::Sigmoid, 0.0, 0);
        let x = problem.default_x();
        let y = problem.start_y(&x, 3);
        let shift: Vec<f64> = (0..6).cycle().take(36).map(f64::from).collect();
        let moved: Vec<f64> = y.iter().zip(&shift).map(|(y, s)| y + s).collect();
        let s = Sample::Full;
        assert!((problem.f(&x, &y, s) - problem.f(&x, &moved, s)).abs() < 1e-12);
        assert!(problem.g_hvp_yy(&x, &y, &shift, s).iter().all(|h| h.abs() < 1e-13));
    }

    #[test]
    fn pollution_is_drawn_as_said() {
        let labels: Vec<u32> = (0..20_000).map(|i| i % 10).collect();
        for is_always_wrong in [false, true] {
            let polluted = pollute(&labels, 0.5, 10, is_always_wrong, 3);
            let drawn = polluted.is_drawn.iter().filter(|d| **d).count() as f64;
            let wrong = labels.iter().zip(&polluted.labels).filter(|(a, b)| a != b).count() as f64;
            // four standard deviations of a binomial
            assert!((drawn - 10_000.0).abs() < 4.0 * 5_000.0_f64.sqrt());
            if is_always_wrong {
                assert_eq!(wrong, drawn);
            } else {
                assert!((wrong - 0.9 * drawn).abs() < 4.0 * (drawn * 0.09).sqrt());
            }
        }
    }

    #[test]
    fn a_perfect_cleaner_of_released_pollution_has_the_derived_score() {
        let mut problem = problem(Weighting::Sigmoid, 0.0, 0);
        // of ten labels five are drawn, of ten drawn ones nine are wrong: 90 right and 90 wrong of 200 with 100 drawn
        let n = 2_000;
        problem.is_dirty = (0..n).map(|i| i % 2 == 0).collect();
        let x: Vec<f64> = (0..n).map(|i| if i % 2 == 0 && i % 20 != 0 { -1.0 } else { 1.0 }).collect();
        let [precision, recall, f1] = problem.keeping(&x);
        assert_eq!(recall, 1.0);
        assert!((precision - 1.0 / 1.1).abs() < 1e-12);
        assert!((f1 - 0.952).abs() < 5e-4);
    }
}
