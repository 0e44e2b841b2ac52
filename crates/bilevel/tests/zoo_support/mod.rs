//! What the zoo's tests share.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use bilevel::{
    problems::{self, Formulas, Parameters, Zoo, reference},
    rng::Stream,
};

/// Every registered problem at its default parameters, and every row of the printed table, under its name.
pub fn every_problem() -> Vec<(String, Zoo)> {
    let registered = problems::entries()
        .iter()
        .map(|entry| (entry.name.to_owned(), entry.build(&Parameters::new()).expect("defaults are allowed")));
    registered.chain(reference::table().into_iter().map(|row| (row.name.to_owned(), row.problem))).collect()
}

/// x near the default one and y from a unit normal; both differ by seed.
pub fn random_point(p: &dyn Formulas, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut stream = Stream::new(seed, 98);
    let x: Vec<f64> = p.default_x().iter().map(|x| x + 0.3 * (2.0 * stream.uniform() - 1.0)).collect();
    let y = stream.normal_like(&vec![0.0; p.dims().1]);
    (x, y)
}
