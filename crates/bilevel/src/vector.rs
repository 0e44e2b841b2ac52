//! What a solver needs of a variable: a finite-dimensional real inner-product space.

use serde::{Serialize, de::DeserializeOwned};

/// An element of a real inner-product space.
///
/// Coefficients are `f64`; how the entries are stored (f32, on a device, as a tree of tensors) is the
/// implementer's. Operations on two elements panic when their shapes differ: a shape is fixed by the problem,
/// so a mismatch is a bug in the problem and not a condition to recover from.
pub trait Vector: Clone + std::fmt::Debug + Serialize + DeserializeOwned {
    /// Number of real coordinates.
    fn dim(&self) -> usize;
    /// The zero element of the same shape.
    #[must_use]
    fn zeros_like(&self) -> Self;
    /// Inner product ⟨self, other⟩.
    fn dot(&self, other: &Self) -> f64;
    /// `self ← self + a·x`.
    fn axpy(&mut self, a: f64, x: &Self);
    /// `self ← a·self`.
    fn scale(&mut self, a: f64);
    /// The coordinates in an orthonormal basis, `dim()` numbers, so that ⟨u, v⟩ is the dot product of the two lists.
    ///
    /// Direct solvers and random directions go through here; an iterative solver on a large vector never does.
    fn coordinates(&self) -> Vec<f64>;
    /// The element of this shape with the given coordinates; inverse of [`Vector::coordinates`].
    #[must_use]
    fn with_coordinates(&self, coordinates: &[f64]) -> Self;

    /// Relative spacing of the stored numbers: 2^-52 for f64 (the default), 2^-23 for f32. Steps of differences
    /// and floors of tolerances derive from it.
    fn resolution(&self) -> f64 {
        f64::EPSILON
    }
    /// Euclidean norm.
    fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }
    /// Whether every entry is finite. The default tests the norm.
    fn is_finite(&self) -> bool {
        self.norm().is_finite()
    }
    /// `self + a·x` as a new element.
    #[must_use]
    fn plus(&self, a: f64, x: &Self) -> Self {
        let mut sum = self.clone();
        sum.axpy(a, x);
        sum
    }
    /// `a·self` as a new element.
    #[must_use]
    fn scaled(&self, a: f64) -> Self {
        let mut product = self.clone();
        product.scale(a);
        product
    }
    /// |self − other|.
    fn distance(&self, other: &Self) -> f64 {
        self.plus(-1.0, other).norm()
    }
}

/// Dense vectors are plain lists of `f64`.
pub type Dense = Vec<f64>;

impl Vector for Dense {
    fn dim(&self) -> usize {
        self.len()
    }
    fn zeros_like(&self) -> Self {
        vec![0.0; self.len()]
    }
    fn dot(&self, other: &Self) -> f64 {
        assert_eq!(self.len(), other.len(), "dot product of vectors of different length");
        // eight running sums do not wait for one another, and err less than one
        let (a, a_rest) = self.as_chunks::<8>();
        let (b, b_rest) = other.as_chunks::<8>();
        let mut sums = [0.0; 8];
        for (a, b) in a.iter().zip(b) {
            for k in 0..8 {
                sums[k] += a[k] * b[k];
            }
        }
        let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
        let [a, b, c, d, e, f, g, h] = sums;
        ((a + b) + (c + d)) + ((e + f) + (g + h)) + rest
    }
    fn axpy(&mut self, a: f64, x: &Self) {
        assert_eq!(self.len(), x.len(), "sum of vectors of different length");
        self.iter_mut().zip(x).for_each(|(s, x)| *s += a * x);
    }
    fn scale(&mut self, a: f64) {
        for s in self.iter_mut() {
            *s *= a;
        }
    }
    fn coordinates(&self) -> Vec<f64> {
        self.clone()
    }
    fn with_coordinates(&self, coordinates: &[f64]) -> Self {
        assert_eq!(self.len(), coordinates.len(), "coordinates of another dimension");
        coordinates.to_vec()
    }
    fn is_finite(&self) -> bool {
        // no early end: the answer is nearly always yes, and whole chunks are compared at once
        let (chunks, rest) = self.as_chunks::<8>();
        let all = |list: &[f64]| list.iter().fold(true, |all, a| all & a.is_finite());
        chunks.iter().all(|chunk| all(chunk)) && all(rest)
    }
}
