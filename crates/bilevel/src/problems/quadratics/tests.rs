//! The drawn moments, the stored numbers, batches, and where methods end.

use super::*;
use crate::{
    problems::{Sum, Zoo},
    run::{Budget, Run},
    solvers::{
        f2ba::F2ba, g_pbgd::GPbgd, high_order_f2ba::HighOrderF2ba, saba::Saba, soba::Soba, srba::Srba,
    },
    vector::Vector,
};

fn sizes(m: usize, d: usize, n: usize) -> Sizes {
    Sizes { m, d, upper: n, lower: n, mu: 0.1, smoothness: 1.0, cross: 0.1, seed: 3 }
}
fn small() -> Quadratics {
    Quadratics::new(Sizes { upper: 70, ..sizes(3, 5, 60) }).unwrap()
}

#[test]
fn means_have_the_stated_spectra() {
    let n = 40_000;
    let quadratics = Quadratics::new(sizes(3, 4, n)).unwrap();
    for level in [&quadratics.pair.upper, &quadratics.pair.lower] {
        // relative deviation of an eigenvalue of a mean of squares: √(2/n) = 0.7 %, four times that
        let close = |got: f64, expected: f64| (got / expected - 1.0).abs() < 0.03;
        let spectrum = Spectrum::of_matrix(&level.a_matrix);
        for (i, value) in spectrum.values().iter().enumerate() {
            assert!(close(*value, 0.1 * 10_f64.powf(i as f64 / 3.0)), "A: {:?}", spectrum.values());
        }
        let spectrum = Spectrum::of_matrix(&level.b_matrix);
        assert!(spectrum.values()[0].abs() < 1e-14, "B: {:?}", spectrum.values());
        assert!(close(spectrum.values()[1], 0.1) && close(spectrum.values()[2], 1.0));
        // each of three numbers is 0.1·h², its products with the others leave 0.1/√n
        for value in level.c_matrix.clone().svd(false, false).singular_values.iter() {
            assert!(close(*value, 0.1), "C: {value}");
        }
        assert!(level.a.norm().max(level.b.norm()) < 4.0 * (4.0 / n as f64).sqrt());
    }
}

#[test]
fn only_factors_are_stored() {
    let Quadratics { upper, lower, .. } = small();
    assert_eq!((upper.stored(), lower.stored()), (70 * 3 * (3 + 5), 60 * 3 * (3 + 5)));
}

type Oracle<'a> = Box<dyn Fn(Sample) -> Vec<f64> + 'a>;

#[test]
fn batches_of_a_partition_average_to_everything_and_that_to_the_means() {
    let quadratics = small();
    let (x, y, u) = (normals(3), normals(5), normals(5));
    let batches: Vec<Vec<u64>> =
        vec![(0..7).collect(), vec![59, 7, 9, 8], (10..40).collect(), (40..59).collect()];
    let average = |oracle: &dyn Fn(Sample) -> Vec<f64>| {
        let mut sum = oracle(Sample::Full).zeros_like();
        for batch in &batches {
            sum.axpy(batch.len() as f64 / 60.0, &oracle(Sample::Batch(batch)));
        }
        sum
    };
    let (vx, vy, vu) = (vector(&x), vector(&y), vector(&u));
    let mean = &quadratics.pair.lower;
    let oracles: [(Oracle, Vec<f64>); 5] = [
        (Box::new(|s| vec![quadratics.g(&x, &y, s)]), vec![mean.value(&vx, &vy)]),
        (Box::new(|s| quadratics.g_grad_x(&x, &y, s)), list(&mean.grad_x(&vx, &vy))),
        (Box::new(|s| quadratics.g_grad_y(&x, &y, s)), list(&mean.grad_y(&vx, &vy))),
        (Box::new(|s| quadratics.g_hvp_yy(&x, &y, &u, s)), list(&(&mean.a_matrix * &vu))),
        (Box::new(|s| quadratics.g_jvp_xy(&x, &y, &u, s)), list(&(&mean.c_matrix * &vu))),
    ];
    for (oracle, expected) in &oracles {
        let full = oracle(Sample::Full);
        assert!(full.distance(expected) < 1e-13 * (1.0 + full.norm()), "{full:?} {expected:?}");
        assert!(average(oracle).distance(&full) < 1e-13 * (1.0 + full.norm()), "{full:?}");
        assert!(oracle(Sample::Batch(&batches[0])).distance(&full) > 1e-3, "a batch is not everything");
    }
    let both = (quadratics.g_grad_x(&x, &y, Sample::Full), quadratics.g_grad_y(&x, &y, Sample::Full));
    assert_eq!(quadratics.g_grad(&x, &y, Sample::Full), both);
    // an index that stands twice counts twice
    let twice = quadratics.g_grad_y(&x, &y, Sample::Batch(&[4, 4, 9]));
    let mut sum = quadratics.g_grad_y(&x, &y, Sample::Batch(&[4])).scaled(2.0 / 3.0);
    sum.axpy(1.0 / 3.0, &quadratics.g_grad_y(&x, &y, Sample::Batch(&[9])));
    assert!(twice.distance(&sum) < 1e-13 * (1.0 + sum.norm()));
}

fn normals(count: usize) -> Vec<f64> {
    crate::problems::algebra::normals(7, count as u64, count)
}

#[test]
fn stated_limits_are_where_the_methods_end() {
    // well conditioned: the methods are first-order ones
    let sizes = Sizes { mu: 0.5, cross: 0.5, upper: 80, ..sizes(2, 3, 60) };
    let problem = Zoo::new(Sum(Quadratics::new(sizes).unwrap()));
    let forms = problem.closed_form().unwrap();
    let near = |what: &str, got: &[f64], expected: &[f64], tolerance: f64| {
        let error = got.to_vec().distance(&expected.to_vec());
        assert!(error < tolerance, "{what}: {error:e}");
    };
    let steps = Budget::steps(5_000);
    let minimiser = forms.optimistic_minimiser().unwrap();
    assert!(problem.known(&minimiser.x).unwrap().gradient.unwrap().norm() < 1e-12);
    let soba = Soba { decay: 0.0, ..Soba::default() };
    let report = Run::new(&problem, &soba).budget(steps).start(0).unwrap();
    near("soba", &report.x, &minimiser.x, 1e-10);
    near("soba", &report.y, &minimiser.y, 1e-10);

    let lambda = 10.0;
    let f2ba = F2ba { lambda, step_y: 0.3, step_z: 0.3, lower_steps: 20, ..F2ba::default() };
    let report = Run::new(&problem, &f2ba).budget(steps).start(0).unwrap();
    let limit = forms.penalty_minimiser(lambda).unwrap();
    near("f2ba", &report.x, &limit.x, 1e-8);
    near("f2ba", &report.y, &limit.y, 1e-8);
    let g_pbgd = GPbgd { lambda, step_x: 0.02, step_y: 0.02, ..GPbgd::default() };
    let report = Run::new(&problem, &g_pbgd).budget(Budget::steps(20_000)).start(0).unwrap();
    let limit = forms.gradient_penalty_minimiser(lambda).unwrap();
    near("g-pbgd", &report.x, &limit.x, 1e-8);
    near("g-pbgd", &report.y, &limit.y, 1e-8);
    for order in 1..=3 {
        let solver =
            HighOrderF2ba { order, sigma: 0.1, step_y: 0.3, lower_steps: 20, ..HighOrderF2ba::default() };
        let report = Run::new(&problem, &solver).budget(steps).start(0).unwrap();
        let limit = forms.one_sided_minimiser(order as usize, 0.1).unwrap();
        near("one-sided", &report.x, &limit.x, 1e-8);
    }
}

#[test]
fn saba_and_srba_end_at_the_minimiser_on_batches() {
    let problem = Zoo::new(Sum(small()));
    let minimiser = problem.closed_form().unwrap().optimistic_minimiser().unwrap();
    let (batch, step) = (Some(8), 0.05);
    let error = |x: Vec<f64>| x.distance(&minimiser.x);
    let steps = Budget::steps(40_000);
    let saba = Saba { batch, step_x: step, step_y: step, step_v: step, ..Saba::default() };
    let srba = Srba { batch, step_x: step, step_y: step, step_v: step, ..Srba::default() };
    let soba = Soba { batch, step_x: step, step_y: step, step_v: step, decay: 0.0, ..Soba::default() };
    let by_saba = error(Run::new(&problem, &saba).budget(steps).start(1).unwrap().x);
    let by_srba = error(Run::new(&problem, &srba).budget(steps).start(1).unwrap().x);
    assert!(by_saba < 1e-9 && by_srba < 1e-9, "{by_saba:e} {by_srba:e}");
    let by_soba = error(Run::new(&problem, &soba).budget(steps).start(1).unwrap().x);
    assert!(by_soba > 1e-2, "{by_soba:e}");
}

#[test]
fn settings_that_cannot_be_drawn_are_refused_by_name() {
    let error = Quadratics::new(sizes(3, 5, 4)).unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("n", "4"));
    let error = Quadratics::new(Sizes { smoothness: 0.01, ..sizes(3, 5, 60) }).unwrap_err();
    assert_eq!(error.field, "smoothness");
    // with one y, C_fY + YᵀC_fᵀ has eigenvalues of both signs, and here it outweighs the rest
    let error = Quadratics::new(Sizes { cross: 50.0, ..sizes(3, 1, 60) }).unwrap_err();
    assert_eq!(error.field, "cross");
}
