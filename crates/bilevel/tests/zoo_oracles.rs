//! Every oracle of every zoo problem against central differences at random points.

mod zoo_support;

use bilevel::{problems::Formulas, rng::Stream};
use zoo_support::{every_problem, random_point};

/// Central differences at h = 1e-5 have an error of about h²·|∂³| + ε/h ≈ 1e-10·|∂³| + 1e-11·|value|; third
/// derivatives of the zoo at these points are below 1e3, so 1e-6 of the scale leaves a factor of ten.
const H: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;

fn moved(a: &[f64], t: f64, direction: &[f64]) -> Vec<f64> {
    a.iter().zip(direction).map(|(a, u)| a + t * u).collect()
}
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}
/// A random direction of unit length.
fn direction(stream: &mut Stream, dim: usize) -> Vec<f64> {
    let u = stream.normal_like(&vec![0.0; dim]);
    let length = norm(&u);
    u.iter().map(|u| u / length).collect()
}
fn slope(value: impl Fn(f64) -> f64) -> f64 {
    (value(H) - value(-H)) / (2.0 * H)
}
fn close(name: &str, what: &str, got: f64, expected: f64, scale: f64) {
    let allowed = TOLERANCE * (1.0 + scale);
    assert!(
        (got - expected).abs() <= allowed,
        "{name} {what}: {got} but difference {expected} (scale {scale})"
    );
}

fn check(name: &str, p: &dyn Formulas, seed: u64) {
    let (m, d) = p.dims();
    let (x, y) = random_point(p, seed);
    let mut stream = Stream::new(seed, 99);
    for _ in 0..3 {
        let (a, u, w) = (direction(&mut stream, m), direction(&mut stream, d), direction(&mut stream, d));
        let along_x = |t: f64| moved(&x, t, &a);
        let along_y = |t: f64| moved(&y, t, &u);

        let gradient = p.f_grad_x(&x, &y);
        assert_eq!(gradient.len(), m, "{name} f_grad_x");
        close(name, "f_grad_x", dot(&gradient, &a), slope(|t| p.f(&along_x(t), &y)), p.f(&x, &y).abs());
        let gradient = p.f_grad_y(&x, &y);
        assert_eq!(gradient.len(), d, "{name} f_grad_y");
        close(name, "f_grad_y", dot(&gradient, &u), slope(|t| p.f(&x, &along_y(t))), p.f(&x, &y).abs());
        let gradient = p.g_grad_x(&x, &y);
        assert_eq!(gradient.len(), m, "{name} g_grad_x");
        close(name, "g_grad_x", dot(&gradient, &a), slope(|t| p.g(&along_x(t), &y)), p.g(&x, &y).abs());
        let gradient = p.g_grad_y(&x, &y);
        assert_eq!(gradient.len(), d, "{name} g_grad_y");
        close(name, "g_grad_y", dot(&gradient, &u), slope(|t| p.g(&x, &along_y(t))), p.g(&x, &y).abs());

        let scale = norm(&gradient);
        let product = p.g_hvp_yy(&x, &y, &u);
        assert_eq!(product.len(), d, "{name} g_hvp_yy");
        close(name, "g_hvp_yy", dot(&product, &w), slope(|t| dot(&p.g_grad_y(&x, &along_y(t)), &w)), scale);
        // ⟨w, H u⟩ = ⟨u, H w⟩ to rounding
        let other = dot(&p.g_hvp_yy(&x, &y, &w), &u);
        let rounding = 1e-13 * (d as f64) * (1.0 + norm(&product));
        assert!((dot(&product, &w) - other).abs() <= rounding, "{name} H is not symmetric");

        // J is the derivative of ∇_x g along y, and its transpose that of ∇_y g along x
        let product = p.g_jvp_xy(&x, &y, &u);
        assert_eq!(product.len(), m, "{name} g_jvp_xy");
        let scale = norm(&p.g_grad_x(&x, &y)) + scale;
        close(name, "g_jvp_xy", dot(&product, &a), slope(|t| dot(&p.g_grad_x(&x, &along_y(t)), &a)), scale);
        close(name, "g_jvp_xy'", dot(&product, &a), slope(|t| dot(&p.g_grad_y(&along_x(t), &y), &u)), scale);
    }
}

#[test]
fn oracles_agree_with_central_differences() {
    for (name, problem) in every_problem() {
        for seed in 0..8 {
            check(&name, problem.formulas(), seed);
        }
    }
}
