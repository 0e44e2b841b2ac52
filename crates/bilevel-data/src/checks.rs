//! What is asked of every problem of this crate.

use bilevel::{
    problem::Sample,
    problems::{FiniteSum, Formulas, Sum},
    rng::Stream,
};

fn near(found: f64, wanted: f64, scale: f64) {
    assert!((found - wanted).abs() <= 2e-8 * (1.0 + scale.abs()), "{found} against {wanted}");
}

/// First and second derivatives against central differences, along random directions at a random point.
pub fn derivatives<T: FiniteSum>(problem: T) {
    let p = Sum(problem);
    let mut stream = Stream::new(5, 0);
    // inside of [0, 1], where clipped weights are smooth
    let x: Vec<f64> = p.default_x().iter().map(|_| 0.2 + 0.6 * stream.uniform()).collect();
    let y = p.start_y(&x, 1);
    let (u, v) = (stream.normal_like(&x), stream.normal_like(&y));
    let e = 1e-5;
    let moved =
        |a: &[f64], d: &[f64], e: f64| -> Vec<f64> { a.iter().zip(d).map(|(a, d)| a + e * d).collect() };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let slope = |f: &dyn Fn(f64) -> f64| (f(e) - f(-e)) / (2.0 * e);

    let f_x = slope(&|e| p.f(&moved(&x, &u, e), &y));
    near(dot(&p.f_grad_x(&x, &y), &u), f_x, f_x);
    let f_y = slope(&|e| p.f(&x, &moved(&y, &v, e)));
    near(dot(&p.f_grad_y(&x, &y), &v), f_y, f_y);
    let g_x = slope(&|e| p.g(&moved(&x, &u, e), &y));
    near(dot(&p.g_grad_x(&x, &y), &u), g_x, g_x);
    let g_y = slope(&|e| p.g(&x, &moved(&y, &v, e)));
    near(dot(&p.g_grad_y(&x, &y), &v), g_y, g_y);
    let w = stream.normal_like(&y);
    let curvature = slope(&|e| dot(&p.g_grad_y(&x, &moved(&y, &v, e)), &w));
    near(dot(&p.g_hvp_yy(&x, &y, &v), &w), curvature, curvature);
    near(dot(&p.g_hvp_yy(&x, &y, &w), &v), curvature, curvature);
    let cross = slope(&|e| dot(&p.g_grad_y(&moved(&x, &u, e), &y), &v));
    near(dot(&p.g_jvp_xy(&x, &y, &v), &u), cross, cross);
}

/// The mean over batches of equal size that divide the terms is the answer over all of them, for every oracle.
pub fn batches(p: &impl FiniteSum) {
    const SIZE: usize = 6;
    let mut stream = Stream::new(6, 0);
    let x: Vec<f64> = p.default_x().iter().map(|_| stream.uniform()).collect();
    let y = p.start_y(&x, 2);
    let v = stream.normal_like(&y);
    let (n_f, n_g) = p.terms();
    let agree = |n: u64, oracle: &dyn Fn(Sample) -> Vec<f64>| {
        assert_eq!(n % SIZE as u64, 0, "a test of batches needs whole ones");
        // every second term first, so that batches are no runs of neighbours
        let order: Vec<u64> = (0..n).step_by(2).chain((1..n).step_by(2)).collect();
        let whole = oracle(Sample::Full);
        let mut mean = vec![0.0; whole.len()];
        for batch in order.chunks(SIZE) {
            let part = oracle(Sample::Batch(batch));
            mean.iter_mut().zip(part).for_each(|(m, p)| *m += p * SIZE as f64 / n as f64);
        }
        for (m, w) in mean.iter().zip(&whole) {
            assert!((m - w).abs() <= 1e-12 * (1.0 + w.abs()), "{m} against {w}");
        }
    };
    agree(n_f, &|s| vec![p.f(&x, &y, s)]);
    agree(n_f, &|s| p.f_grad_x(&x, &y, s));
    agree(n_f, &|s| p.f_grad_y(&x, &y, s));
    agree(n_g, &|s| vec![p.g(&x, &y, s)]);
    agree(n_g, &|s| p.g_grad_x(&x, &y, s));
    agree(n_g, &|s| p.g_grad_y(&x, &y, s));
    agree(n_g, &|s| p.g_hvp_yy(&x, &y, &v, s));
    agree(n_g, &|s| p.g_jvp_xy(&x, &y, &v, s));
    let (g_x, g_y) = p.g_grad(&x, &y, Sample::Full);
    assert_eq!((g_x, g_y), (p.g_grad_x(&x, &y, Sample::Full), p.g_grad_y(&x, &y, Sample::Full)));
}
