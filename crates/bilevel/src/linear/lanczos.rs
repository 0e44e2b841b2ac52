//! A short Lanczos process: extreme eigenvalues of a symmetric operator, with the vector of the smallest.

use nalgebra::DMatrix;

use super::{Apply, dense::Spectrum};
use crate::{error::OracleResult, vector::Vector};

/// Ritz values of a short Lanczos process. All lie inside the spectrum, so `smallest` is an upper estimate of the
/// smallest eigenvalue and `norm` a lower estimate of the norm.
#[derive(Clone, Debug)]
pub struct Extremes<V> {
    /// Smallest Ritz value.
    pub smallest: f64,
    /// Its unit Ritz vector.
    pub vector: V,
    /// Largest modulus of a Ritz value.
    pub norm: f64,
    /// Products with the operator.
    pub products: u64,
}

/// Runs at most `steps` Lanczos steps from `start`, with full reorthogonalisation; ends early when the Krylov space is
/// invariant up to `noise`, the relative error of a product: beyond it the process would see its own errors. `None` when
/// `start` is zero.
pub fn extremes<V: Vector>(
    apply: Apply<V>,
    start: &V,
    steps: usize,
    noise: f64,
) -> OracleResult<Option<Extremes<V>>> {
    let norm = start.norm();
    if norm == 0.0 {
        return Ok(None);
    }
    let mut basis = vec![start.scaled(norm.recip())];
    let (mut diagonal, mut off_diagonal): (Vec<f64>, Vec<f64>) = (vec![], vec![]);
    for step in 0..steps.max(1) {
        let mut w = apply(&basis[step])?;
        let scale = w.norm();
        diagonal.push(w.dot(&basis[step]));
        // twice is enough (Kahan and Parlett)
        for _ in 0..2 {
            for q in &basis {
                let overlap = w.dot(q);
                w.axpy(-overlap, q);
            }
        }
        let beta = w.norm();
        if step + 1 == steps.max(1) || beta <= noise * scale {
            break;
        }
        off_diagonal.push(beta);
        basis.push(w.scaled(beta.recip()));
    }
    let size = diagonal.len();
    let tridiagonal = DMatrix::from_fn(size, size, |i, j| match i.abs_diff(j) {
        0 => diagonal[i],
        1 => off_diagonal[i.min(j)],
        _ => 0.0,
    });
    let ritz = Spectrum::of_matrix(&tridiagonal);
    let mut vector = start.zeros_like();
    for (weight, q) in ritz.vector(0).iter().zip(&basis) {
        vector.axpy(*weight, q);
    }
    let length = vector.norm();
    vector.scale(length.recip());
    Ok(Some(Extremes { smallest: ritz.min(), vector, norm: ritz.norm(), products: size as u64 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_process_finds_the_whole_spectrum() {
        let entries = [3.0, -2.0, 0.5, 0.0, 1.0];
        let mut apply = |v: &Vec<f64>| Ok(v.iter().zip(entries).map(|(a, e)| a * e).collect());
        let found = extremes(&mut apply, &vec![1.0; 5], 20, 1e-13).unwrap().unwrap();
        assert!((found.smallest + 2.0).abs() < 1e-12 && (found.norm - 3.0).abs() < 1e-12);
        assert!((found.vector[1].abs() - 1.0).abs() < 1e-10);
        assert_eq!(found.products, 5);
    }

    #[test]
    fn the_zero_start_has_no_krylov_space() {
        assert!(extremes(&mut |v: &Vec<f64>| Ok(v.clone()), &vec![0.0; 3], 5, 1e-13).unwrap().is_none());
    }
}
