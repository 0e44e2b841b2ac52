//! One hidden layer of logistic units: h = σ(A W₁), z = [h 1] W₂.

use crate::features::{Rows, product};

/// Sizes of the network. W₁ has `columns × hidden` weights, in the place that the features want; W₂ follows, for each output
/// its `hidden` weights and its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mlp {
    pub columns: usize,
    pub hidden: usize,
    pub outputs: usize,
}

/// What a forward pass leaves.
pub(super) struct Pass {
    /// h for each example, with a 1 behind.
    pub hidden: Vec<f64>,
    /// z for each example.
    pub outputs: Vec<f64>,
}

/// The derivative of a pass along a direction in the weights.
pub(super) struct Push {
    /// Of A W₁.
    pub before: Vec<f64>,
    /// Of h, with a 0 behind.
    pub hidden: Vec<f64>,
    /// Of z.
    pub outputs: Vec<f64>,
}

impl Mlp {
    /// Number of weights of the first layer.
    pub fn first(&self) -> usize {
        self.columns * self.hidden
    }
    pub fn dim(&self) -> usize {
        self.first() + (self.hidden + 1) * self.outputs
    }
    fn rows<'a>(&self, hidden: &'a [f64]) -> Rows<'a> {
        Rows::Dense { columns: self.hidden + 1, entries: hidden, rows: None }
    }

    pub fn forward(&self, y: &[f64], rows: &Rows) -> Pass {
        let (w1, w2) = y.split_at(self.first());
        let before = rows.times(w1, self.hidden);
        let mut hidden = Vec::with_capacity(rows.len() * (self.hidden + 1));
        for row in before.chunks_exact(self.hidden) {
            hidden.extend(row.iter().map(|a| 1.0 / (1.0 + (-a).exp())));
            hidden.push(1.0);
        }
        let outputs = self.rows(&hidden).times(w2, self.outputs);
        Pass { hidden, outputs }
    }

    /// r W₂ without the bias: from numbers for each output to numbers for each hidden unit.
    fn at_hidden(&self, r: &[f64], w2: &[f64]) -> Vec<f64> {
        let count = r.len() / self.outputs;
        let mut back = vec![0.0; count * self.hidden];
        product(
            (&mut back, [count, self.hidden], [self.hidden, 1]),
            (r, [self.outputs, 1]),
            (w2, [self.hidden + 1, 1]),
            self.outputs,
        );
        back
    }

    /// σ' at each hidden unit, h(1 − h), with h itself.
    fn slopes<'a>(&'a self, pass: &'a Pass) -> impl Iterator<Item = (f64, f64)> + 'a {
        let units = pass.hidden.chunks_exact(self.hidden + 1).flat_map(|row| &row[..self.hidden]);
        units.map(|&h| (h * (1.0 - h), h))
    }

    /// Jᵀ r: the gradient of ⟨r, z⟩ in the weights.
    pub fn pull_back(&self, y: &[f64], rows: &Rows, pass: &Pass, r: &[f64]) -> Vec<f64> {
        let mut back = self.at_hidden(r, &y[self.first()..]);
        back.iter_mut().zip(self.slopes(pass)).for_each(|(b, (slope, _))| *b *= slope);
        let mut gradient = rows.transposed_times(&back, self.hidden);
        gradient.extend(self.rows(&pass.hidden).transposed_times(r, self.outputs));
        gradient
    }

    /// J u: the derivative of the pass along u.
    pub fn push(&self, y: &[f64], u: &[f64], rows: &Rows, pass: &Pass) -> Push {
        let (u1, u2) = u.split_at(self.first());
        let before = rows.times(u1, self.hidden);
        let mut hidden = Vec::with_capacity(pass.hidden.len());
        for (moved, h) in before.chunks_exact(self.hidden).zip(pass.hidden.chunks_exact(self.hidden + 1)) {
            hidden.extend(moved.iter().zip(h).map(|(moved, h)| moved * h * (1.0 - h)));
            hidden.push(0.0);
        }
        let mut outputs = self.rows(&hidden).times(&y[self.first()..], self.outputs);
        let direct = self.rows(&pass.hidden).times(u2, self.outputs);
        outputs.iter_mut().zip(direct).for_each(|(o, d)| *o += d);
        Push { before, hidden, outputs }
    }

    /// Adds the derivative of Jᵀ r along u with r held, r being `pass.outputs`.
    pub fn add_second(&self, y: &[f64], u: &[f64], rows: &Rows, pass: &Pass, push: &Push, total: &mut [f64]) {
        let r = &pass.outputs;
        let back = self.at_hidden(r, &y[self.first()..]);
        let mut moved = self.at_hidden(r, &u[self.first()..]);
        let units = moved.iter_mut().zip(&back).zip(&push.before).zip(self.slopes(pass));
        // σ'' = σ'(1 − 2σ)
        for (((m, b), a), (slope, h)) in units {
            *m = *m * slope + b * slope * (1.0 - 2.0 * h) * a;
        }
        let (first, second) = total.split_at_mut(self.first());
        let by_first = rows.transposed_times(&moved, self.hidden);
        let by_second = self.rows(&push.hidden).transposed_times(r, self.outputs);
        first.iter_mut().zip(by_first).for_each(|(t, d)| *t += d);
        second.iter_mut().zip(by_second).for_each(|(t, d)| *t += d);
    }
}
