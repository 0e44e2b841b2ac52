//! Classifiers as functions of a list of weights: losses of examples, their weighted gradient and Hessian products.

mod link;
mod mlp;

pub use link::Link;

use bilevel::{problem::Sample, problems::DataArray};

use crate::features::{Features, Rows};
use mlp::Mlp;

/// Examples with their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// One row for each.
    pub features: Features,
    /// The class of each.
    pub labels: Vec<u32>,
}

impl Examples {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
    /// Features and classes as arrays `NAME_features` and `NAME_labels`; empty where the features are sparse.
    pub fn arrays(&self, name: &str) -> Vec<DataArray> {
        let Features::Dense(dense) = &self.features else { return Vec::new() };
        let labels: Vec<f64> = self.labels.iter().map(|&label| f64::from(label)).collect();
        vec![
            DataArray::new(format!("{name}_features"), &[self.len(), dense.columns], &*dense.entries),
            DataArray::new(format!("{name}_labels"), &[self.len()], labels),
        ]
    }
    /// The weight of each example in the mean over a sample.
    pub fn share(&self, s: Sample) -> f64 {
        1.0 / s.size(Some(self.len() as u64)) as f64
    }
    fn pick<'a>(&'a self, s: Sample<'a>) -> (Rows<'a>, Labels<'a>) {
        (self.features.pick(s), Labels { labels: &self.labels, s })
    }
}

/// Sets of these sizes without common examples: in order, or drawn by a seed.
///
/// # Panics
/// More examples asked for than there are.
pub fn split<const N: usize>(all: &Examples, sizes: [usize; N], seed: Option<u64>) -> [Examples; N] {
    const PURPOSE: u64 = 30;
    let count = all.len() as u64;
    let order: Vec<usize> = match seed {
        Some(seed) => bilevel::rng::Stream::new(seed, PURPOSE).permutation(count),
        None => (0..count).collect(),
    }
    .into_iter()
    .map(|row| row as usize)
    .collect();
    let mut taken = 0;
    sizes.map(|size| {
        let rows = &order[taken..taken + size];
        taken += size;
        let labels = rows.iter().map(|&row| all.labels[row]).collect();
        Examples { features: all.features.select(rows), labels }
    })
}

/// The labels of some examples.
#[derive(Clone, Copy)]
struct Labels<'a> {
    labels: &'a [u32],
    s: Sample<'a>,
}

impl Labels<'_> {
    fn at(self, i: usize) -> u32 {
        match self.s {
            Sample::Full => self.labels[i],
            Sample::Batch(rows) => self.labels[rows[i] as usize],
        }
    }
}

/// The function from features to outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    /// z = A W, no bias but a column of ones.
    Linear,
    /// One hidden layer of logistic units.
    Mlp(Mlp),
}

/// A model with its loss. The weights y stand as [`Features::place`] says, those of a second layer behind the first's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classifier {
    model: Model,
    link: Link,
    columns: usize,
}

impl Classifier {
    /// Outputs that are linear in this many features; a bias is a feature that is always 1.
    pub fn linear(columns: usize, link: Link) -> Self {
        Self { model: Model::Linear, link, columns }
    }
    /// Outputs of one hidden layer of `hidden` logistic units, biases on both layers: the first's by a feature that is
    /// always 1, the second's among the weights.
    pub fn mlp(columns: usize, hidden: usize, link: Link) -> Self {
        Self { model: Model::Mlp(Mlp { columns, hidden, outputs: link.outputs() }), link, columns }
    }
    /// Number of weights.
    pub fn dim(&self) -> usize {
        match self.model {
            Model::Linear => self.columns * self.link.outputs(),
            Model::Mlp(mlp) => mlp.dim(),
        }
    }
    /// The loss.
    pub fn link(&self) -> Link {
        self.link
    }
    /// Weights uniform in ±1/√(inputs of the layer), as layers of a network usually start.
    pub fn random_weights(&self, seed: u64) -> Vec<f64> {
        let mut stream = bilevel::rng::Stream::new(seed, 0);
        let mut layer = |count: usize, inputs: usize| {
            let half = (inputs as f64).sqrt().recip();
            (0..count).map(|_| half * (2.0 * stream.uniform() - 1.0)).collect::<Vec<f64>>()
        };
        match self.model {
            Model::Linear => layer(self.dim(), self.columns),
            Model::Mlp(mlp) => {
                let first = layer(mlp.first(), mlp.columns);
                [first, layer(mlp.dim() - mlp.first(), mlp.hidden)].concat()
            }
        }
    }

    /// Loss of each example of a sample, in nats.
    pub fn losses(&self, y: &[f64], examples: &Examples, s: Sample) -> Vec<f64> {
        let (rows, labels) = examples.pick(s);
        let mut z = self.outputs(y, &rows);
        self.link_losses(&mut z, labels)
    }

    /// Mean loss over a sample.
    pub fn mean_loss(&self, y: &[f64], examples: &Examples, s: Sample) -> f64 {
        let losses = self.losses(y, examples, s);
        losses.iter().sum::<f64>() / losses.len() as f64
    }
    /// The gradient of [`Classifier::mean_loss`].
    pub fn mean_gradient(&self, y: &[f64], examples: &Examples, s: Sample) -> Vec<f64> {
        let share = examples.share(s);
        self.gradient(y, examples, s, |_| share)
    }

    /// Σ w_i ∇ℓ_i over the examples of a sample; `weight` tells w_i for the i-th of them.
    pub fn gradient(
        &self,
        y: &[f64],
        examples: &Examples,
        s: Sample,
        weight: impl Fn(usize) -> f64,
    ) -> Vec<f64> {
        self.differentiate(y, examples, s, weight, |z, _| self.link_probabilities(z)).1
    }
    /// Losses ℓ_i, and [`Classifier::gradient`].
    pub fn losses_and_gradient(
        &self,
        y: &[f64],
        examples: &Examples,
        s: Sample,
        weight: impl Fn(usize) -> f64,
    ) -> (Vec<f64>, Vec<f64>) {
        self.differentiate(y, examples, s, weight, |z, labels| self.link_losses(z, labels))
    }
    /// What `link` returns while it turns outputs into probabilities, and the gradient.
    fn differentiate<L>(
        &self,
        y: &[f64],
        examples: &Examples,
        s: Sample,
        weight: impl Fn(usize) -> f64,
        link: impl Fn(&mut [f64], Labels) -> L,
    ) -> (L, Vec<f64>) {
        let (rows, labels) = examples.pick(s);
        match self.model {
            Model::Linear => {
                let mut z = rows.times(y, self.link.outputs());
                let linked = link(&mut z, labels);
                self.weigh_residuals(&mut z, labels, weight);
                (linked, rows.transposed_times(&z, self.link.outputs()))
            }
            Model::Mlp(mlp) => {
                let mut pass = mlp.forward(y, &rows);
                let linked = link(&mut pass.outputs, labels);
                self.weigh_residuals(&mut pass.outputs, labels, weight);
                let gradient = mlp.pull_back(y, &rows, &pass, &pass.outputs);
                (linked, gradient)
            }
        }
    }

    /// Σ w_i ∇²ℓ_i u over the examples of a sample.
    pub fn curvature(
        &self,
        y: &[f64],
        u: &[f64],
        examples: &Examples,
        s: Sample,
        weight: impl Fn(usize) -> f64,
    ) -> Vec<f64> {
        let (rows, labels) = examples.pick(s);
        let n = self.link.outputs();
        let bend = |probabilities: &[f64], t: &mut [f64]| {
            for (i, (p, t)) in probabilities.chunks_exact(n).zip(t.chunks_exact_mut(n)).enumerate() {
                self.link.curvature(p, t);
                let w = weight(i);
                for t in t.iter_mut() {
                    *t *= w;
                }
            }
        };
        match self.model {
            Model::Linear => {
                let mut z = rows.times(y, n);
                self.link_probabilities(&mut z);
                let mut t = rows.times(u, n);
                bend(&z, &mut t);
                rows.transposed_times(&t, n)
            }
            Model::Mlp(mlp) => {
                let mut pass = mlp.forward(y, &rows);
                self.link_probabilities(&mut pass.outputs);
                let mut push = mlp.push(y, u, &rows, &pass);
                bend(&pass.outputs, &mut push.outputs);
                let mut product = mlp.pull_back(y, &rows, &pass, &push.outputs);
                self.weigh_residuals(&mut pass.outputs, labels, weight);
                mlp.add_second(y, u, &rows, &pass, &push, &mut product);
                product
            }
        }
    }

    /// ⟨∇ℓ_i, u⟩ for each example of a sample.
    pub fn slopes(&self, y: &[f64], u: &[f64], examples: &Examples, s: Sample) -> Vec<f64> {
        let (rows, labels) = examples.pick(s);
        let n = self.link.outputs();
        let (mut residuals, t) = match self.model {
            Model::Linear => (rows.times(y, n), rows.times(u, n)),
            Model::Mlp(mlp) => {
                let pass = mlp.forward(y, &rows);
                let push = mlp.push(y, u, &rows, &pass);
                (pass.outputs, push.outputs)
            }
        };
        self.link_probabilities(&mut residuals);
        self.weigh_residuals(&mut residuals, labels, |_| 1.0);
        residuals
            .chunks_exact(n)
            .zip(t.chunks_exact(n))
            .map(|(r, t)| r.iter().zip(t).map(|(r, t)| r * t).sum())
            .collect()
    }

    /// Mean loss in nats and share of right classes, over all examples.
    pub fn score(&self, y: &[f64], examples: &Examples) -> (f64, f64) {
        let (rows, labels) = examples.pick(Sample::Full);
        let mut z = self.outputs(y, &rows);
        let n = self.link.outputs();
        let right =
            z.chunks_exact(n).enumerate().filter(|(i, z)| self.link.class(z) == labels.at(*i)).count();
        let count = examples.len() as f64;
        let losses = self.link_losses(&mut z, labels);
        (losses.iter().sum::<f64>() / count, right as f64 / count)
    }

    fn outputs(&self, y: &[f64], rows: &Rows) -> Vec<f64> {
        match self.model {
            Model::Linear => rows.times(y, self.link.outputs()),
            Model::Mlp(mlp) => mlp.forward(y, rows).outputs,
        }
    }
    /// Losses; outputs become probabilities.
    fn link_losses(&self, z: &mut [f64], labels: Labels) -> Vec<f64> {
        let chunks = z.chunks_exact_mut(self.link.outputs()).enumerate();
        chunks.map(|(i, z)| self.link.loss(z, labels.at(i))).collect()
    }
    /// Outputs become probabilities.
    fn link_probabilities(&self, z: &mut [f64]) {
        z.chunks_exact_mut(self.link.outputs()).for_each(|z| self.link.probabilities(z));
    }
    /// Probabilities become w_i times the derivative of the loss in the outputs.
    fn weigh_residuals(&self, p: &mut [f64], labels: Labels, weight: impl Fn(usize) -> f64) {
        for (i, p) in p.chunks_exact_mut(self.link.outputs()).enumerate() {
            self.link.residual(p, labels.at(i));
            let w = weight(i);
            for p in p.iter_mut() {
                *p *= w;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::tests::both;

    fn examples(link: Link, is_sparse: bool) -> Examples {
        let [dense, sparse] = both(13, 6, 3);
        let labels = (0..13).map(|i| i % link.classes() as u32).collect();
        Examples { features: if is_sparse { sparse } else { dense }.with_ones(), labels }
    }

    #[test]
    fn every_derivative_matches_differences() {
        let batch = [4, 0, 4, 11, 2];
        let weight = |i: usize| 0.3 + 0.1 * i as f64;
        for link in [Link::Softmax { classes: 6 }, Link::Softmax { classes: 3 }, Link::Logistic] {
            for is_sparse in [false, true] {
                let examples = examples(link, is_sparse);
                for classifier in [Classifier::linear(7, link), Classifier::mlp(7, 8, link)] {
                    let y = classifier.random_weights(1);
                    let u = classifier.random_weights(2);
                    assert_eq!(y.len(), classifier.dim());
                    let along = |e: f64| -> Vec<f64> { y.iter().zip(&u).map(|(y, u)| y + e * u).collect() };
                    for s in [Sample::Full, Sample::Batch(&batch)] {
                        let e = 1e-5;
                        let ahead = classifier.losses_and_gradient(&along(e), &examples, s, weight);
                        let behind = classifier.losses_and_gradient(&along(-e), &examples, s, weight);
                        let slopes = classifier.slopes(&y, &u, &examples, s);
                        for (i, slope) in slopes.iter().enumerate() {
                            assert!(((ahead.0[i] - behind.0[i]) / (2.0 * e) - slope).abs() < 1e-9);
                        }
                        let (losses, gradient) = classifier.losses_and_gradient(&y, &examples, s, weight);
                        assert_eq!(gradient, classifier.gradient(&y, &examples, s, weight));
                        assert_eq!(losses, classifier.losses(&y, &examples, s));
                        let by_gradient: f64 = gradient.iter().zip(&u).map(|(g, u)| g * u).sum();
                        let by_slopes: f64 = slopes.iter().enumerate().map(|(i, s)| weight(i) * s).sum();
                        assert!((by_gradient - by_slopes).abs() < 1e-12);
                        let product = classifier.curvature(&y, &u, &examples, s, weight);
                        for (k, product) in product.iter().enumerate() {
                            let difference = (ahead.1[k] - behind.1[k]) / (2.0 * e);
                            assert!((difference - product).abs() < 1e-8, "{classifier:?} {k}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn scores_count_right_classes() {
        let link = Link::Softmax { classes: 2 };
        let features =
            Features::Dense(crate::features::Dense { columns: 1, entries: vec![1.0, -1.0, 2.0, 3.0] });
        let examples = Examples { features, labels: vec![0, 1, 0, 1] };
        let (loss, accuracy) = Classifier::linear(1, link).score(&[1.0, -1.0], &examples);
        assert_eq!(accuracy, 0.75);
        let by_hand =
            [2.0_f64, 2.0, 4.0, -6.0].map(|margin| (-margin).exp().ln_1p()).iter().sum::<f64>() / 4.0;
        assert!((loss - by_hand).abs() < 1e-14);
    }
}
