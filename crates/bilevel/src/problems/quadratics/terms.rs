//! One level: a mean of quadratics with rank-one Hessians, kept as their factors.
//!
//! Factors are kept in single precision, and sums taken in double: fetching the factors of a batch is what an oracle waits for.

use crate::{problem::Sample, problems::DataArray};

/// Terms ½(z_iᵀy)² + ½(w_iᵀx)² + (p_iᵀx)(q_iᵀy) + a_iᵀy + b_iᵀx.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    m: usize,
    d: usize,
    /// One record z_i, q_i, a_i, w_i, p_i, b_i after the other: a batch touches each of its terms in one place.
    records: Vec<f32>,
}

/// The factors of one term.
#[derive(Clone, Copy)]
pub(super) struct Term<'a> {
    pub z: &'a [f32],
    pub q: &'a [f32],
    pub a: &'a [f32],
    pub w: &'a [f32],
    pub p: &'a [f32],
    pub b: &'a [f32],
}

impl Terms {
    pub(super) fn new<'a>((m, d): (usize, usize), terms: impl Iterator<Item = Term<'a>>) -> Self {
        let mut records = Vec::with_capacity(terms.size_hint().0 * 3 * (m + d));
        for Term { z, q, a, w, p, b } in terms {
            for (part, length) in [(z, d), (q, d), (a, d), (w, m), (p, m), (b, m)] {
                assert_eq!(part.len(), length, "factor of another dimension");
                records.extend_from_slice(part);
            }
        }
        Self { m, d, records }
    }
    /// Numbers of one record.
    fn stride(&self) -> usize {
        3 * (self.m + self.d)
    }
    pub(super) fn count(&self) -> usize {
        self.records.len() / self.stride()
    }
    #[cfg(test)]
    pub(super) fn stored(&self) -> usize {
        self.records.len()
    }

    fn term(&self, index: usize) -> Term<'_> {
        let (m, d) = (self.m, self.d);
        let (of_y, of_x) = self.records[index * self.stride()..(index + 1) * self.stride()].split_at(3 * d);
        let ((z, rest), (w, others)) = (of_y.split_at(d), of_x.split_at(m));
        let ((q, a), (p, b)) = (rest.split_at(d), others.split_at(m));
        Term { z, q, a, w, p, b }
    }
    /// The factors of all terms, an array for each letter.
    pub(super) fn arrays(&self, level: &str) -> impl Iterator<Item = DataArray> {
        type Part = for<'a> fn(Term<'a>) -> &'a [f32];
        let parts: [(&str, Part); 6] = [
            ("z", |term| term.z),
            ("q", |term| term.q),
            ("a", |term| term.a),
            ("w", |term| term.w),
            ("p", |term| term.p),
            ("b", |term| term.b),
        ];
        parts.into_iter().map(move |(letter, part)| {
            let entries: Vec<f64> =
                (0..self.count()).flat_map(|index| part(self.term(index))).map(|&n| f64::from(n)).collect();
            DataArray::new(
                format!("{level}_{letter}"),
                &[self.count(), entries.len() / self.count()],
                entries,
            )
        })
    }
    /// Visits the terms of a sample; returns their number.
    fn each<'a>(&'a self, s: Sample, mut visit: impl FnMut(Term<'a>)) -> f64 {
        match s {
            Sample::Full => (0..self.count()).for_each(|index| visit(self.term(index))),
            Sample::Batch(list) => list.iter().for_each(|&index| visit(self.term(index as usize))),
        }
        s.size(Some(self.count() as u64)) as f64
    }
    /// The mean over a sample of what `add` adds for a term to `dim` numbers.
    fn mean(&self, dim: usize, s: Sample, mut add: impl FnMut(Term, &mut [f64])) -> Vec<f64> {
        let mut sum = vec![0.0; dim];
        let count = self.each(s, |term| add(term, &mut sum));
        for sum in &mut sum {
            *sum /= count;
        }
        sum
    }

    pub(super) fn value(&self, x: &[f64], y: &[f64], s: Sample) -> f64 {
        let mut sum = 0.0;
        let count = self.each(s, |Term { z, q, a, w, p, b }| {
            let (zy, wx) = (dot(z, y), dot(w, x));
            sum += 0.5 * (zy * zy + wx * wx) + dot(p, x) * dot(q, y) + dot(a, y) + dot(b, x);
        });
        sum / count
    }
    /// (w_iᵀx) w_i + (q_iᵀy) p_i + b_i.
    pub(super) fn grad_x(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        self.mean(self.m, s, |Term { q, w, p, b, .. }, sum| add(sum, (dot(w, x), w), (dot(q, y), p), b))
    }
    /// (z_iᵀy) z_i + (p_iᵀx) q_i + a_i.
    pub(super) fn grad_y(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        self.mean(self.d, s, |Term { z, q, a, p, .. }, sum| add(sum, (dot(z, y), z), (dot(p, x), q), a))
    }
    /// Both gradients, every record fetched once.
    pub(super) fn grad(&self, x: &[f64], y: &[f64], s: Sample) -> (Vec<f64>, Vec<f64>) {
        let (mut by_x, mut by_y) = (vec![0.0; self.m], vec![0.0; self.d]);
        let count = self.each(s, |Term { z, q, a, w, p, b }| {
            add(&mut by_x, (dot(w, x), w), (dot(q, y), p), b);
            add(&mut by_y, (dot(z, y), z), (dot(p, x), q), a);
        });
        for sum in by_x.iter_mut().chain(&mut by_y) {
            *sum /= count;
        }
        (by_x, by_y)
    }
    /// (z_iᵀu) z_i.
    pub(super) fn hvp_yy(&self, u: &[f64], s: Sample) -> Vec<f64> {
        self.mean(self.d, s, |Term { z, .. }, sum| axpy(sum, dot(z, u), z))
    }
    /// (q_iᵀu) p_i.
    pub(super) fn jvp_xy(&self, u: &[f64], s: Sample) -> Vec<f64> {
        self.mean(self.m, s, |Term { q, p, .. }, sum| axpy(sum, dot(q, u), p))
    }
}

/// Sums that a processor keeps in flight at once; in one running sum each addition waits for the last.
const LANES: usize = 8;

/// ⟨a, b⟩, summed in lanes: these products are most of what an oracle costs.
fn dot(a: &[f32], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(&a, b)| f64::from(a) * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[lane] += f64::from(a[lane]) * b[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}
/// sum ← sum + a·u.
fn axpy(sum: &mut [f64], a: f64, u: &[f32]) {
    for (sum, &u) in sum.iter_mut().zip(u) {
        *sum += a * f64::from(u);
    }
}
/// sum ← sum + a·u + b·v + w, in one pass.
fn add(sum: &mut [f64], (a, u): (f64, &[f32]), (b, v): (f64, &[f32]), w: &[f32]) {
    for (((sum, &u), &v), &w) in sum.iter_mut().zip(u).zip(v).zip(w) {
        *sum += a * f64::from(u) + b * f64::from(v) + f64::from(w);
    }
}
