//! What the zoo's tests share.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use bilevel::{
    problems::{Formulas, Zoo, reference},
    rng::Stream,
};

/// Every problem of the zoo under its name.
pub fn every_problem() -> Vec<(String, Zoo)> {
    reference::table().into_iter().map(|row| (row.name.to_owned(), row.problem)).collect()
}

/// x near the default one and y from a unit normal; both differ by seed.
pub fn random_point(p: &dyn Formulas, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut stream = Stream::new(seed, 98);
    let x: Vec<f64> = p.default_x().iter().map(|x| x + 0.3 * (2.0 * stream.uniform() - 1.0)).collect();
    let y = stream.normal_like(&vec![0.0; p.dims().1]);
    (x, y)
}
