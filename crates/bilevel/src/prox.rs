//! Proximal maps and projections on slices, for [`crate::Problem::prox_x`] and [`crate::Problem::prox_y`].
//!
//! Every function changes its argument in place to argmin_z φ(z) + |z − v|²/2, where φ is the indicator of a convex set
//! or, for [`soft_threshold`], a multiple of the ℓ1 norm. All are firmly non-expansive; the projections are idempotent
//! and do not depend on a step.

/// Projects on the box of points with every coordinate between `lower` and `upper`. Panics when lower > upper.
pub fn project_box(v: &mut [f64], lower: f64, upper: f64) {
    for a in v {
        *a = a.clamp(lower, upper);
    }
}

/// Projects on the points with no negative coordinate.
pub fn project_non_negative(v: &mut [f64]) {
    for a in v {
        *a = a.max(0.0);
    }
}

/// Projects on the Euclidean ball of this radius around zero.
pub fn project_l2_ball(v: &mut [f64], radius: f64) {
    assert!(radius >= 0.0, "a ball has a radius of at least 0");
    let norm = v.iter().map(|a| a * a).sum::<f64>().sqrt();
    if norm > radius {
        let factor = radius / norm;
        for a in v {
            *a *= factor;
        }
    }
}

/// Projects on the simplex of points with no negative coordinate and the sum `total`.
///
/// Exact: the projection is (v − θ)₊, with θ from the sorted coordinates in O(n log n). Coordinates outside the support are
/// exactly zero.
///
/// ```
/// let mut weights = [0.9, 0.6, -1.0];
/// bilevel::prox::project_simplex(&mut weights, 1.0);
/// assert!((weights[0] - 0.65).abs() < 1e-15 && (weights[1] - 0.35).abs() < 1e-15 && weights[2] == 0.0);
/// ```
pub fn project_simplex(v: &mut [f64], total: f64) {
    assert!(total > 0.0, "a simplex has a positive sum");
    let mut descending = v.to_vec();
    descending.sort_by(|a, b| b.total_cmp(a));
    // The support is the longest prefix whose last coordinate is above θ = (Σ prefix − total)/length.
    let mut sum = 0.0;
    let mut theta = 0.0;
    for (i, &a) in descending.iter().enumerate() {
        sum += a;
        let candidate = (sum - total) / (i + 1) as f64;
        if a <= candidate {
            break;
        }
        theta = candidate;
    }
    for a in v {
        *a = (*a - theta).max(0.0);
    }
}

/// Proximal map of threshold·|·|₁: every coordinate moves towards zero by the threshold, and stops there.
pub fn soft_threshold(v: &mut [f64], threshold: f64) {
    assert!(threshold >= 0.0, "a threshold is at least 0");
    for a in v {
        *a = a.signum() * (a.abs() - threshold).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Checker,
        vector::{Dense, Vector},
    };
    use proptest::prelude::*;

    type Map = (&'static str, fn(&mut [f64]));
    const PROJECTIONS: [Map; 4] = [
        ("box", |v| project_box(v, -0.5, 1.0)),
        ("non-negative", |v| project_non_negative(v)),
        ("ball", |v| project_l2_ball(v, 1.5)),
        ("simplex", |v| project_simplex(v, 2.0)),
    ];
    const PROXIMAL: [Map; 1] = [("l1", |v| soft_threshold(v, 0.3))];

    fn image(map: fn(&mut [f64]), v: &[f64]) -> Dense {
        let mut image = v.to_vec();
        map(&mut image);
        image
    }

    fn vectors() -> impl Strategy<Value = Dense> {
        prop::collection::vec(prop_oneof![4 => -3.0..3.0f64, 1 => Just(0.0), 1 => -1e3..1e3f64], 1..12)
    }

    proptest! {
        #[test]
        fn every_map_is_firmly_non_expansive(v in vectors(), seed in 0..1000u64) {
            let checker = Checker { seed, ..Checker::default() };
            for (name, map) in PROJECTIONS.into_iter().chain(PROXIMAL) {
                let report = checker.prox(|v: &mut Dense, _| map(v), name, &v, 1.0);
                prop_assert!(report.passed(), "{}", report);
            }
        }

        #[test]
        fn projections_are_idempotent(v in vectors()) {
            for (name, map) in PROJECTIONS {
                let once = image(map, &v);
                let twice = image(map, &once);
                // the sum of a simplex and the norm on a ball carry rounding of the size of v
                prop_assert!(once.distance(&twice) <= 1e-15 * (10.0 + v.norm()), "{}", name);
            }
        }

        #[test]
        fn projections_are_feasible_and_optimal(v in vectors(), w in vectors()) {
            let n = v.len().min(w.len());
            let (v, w) = (&v[..n], &w[..n]);
            for (name, map) in PROJECTIONS {
                let p = image(map, v);
                match name {
                    "box" => prop_assert!(p.iter().all(|a| (-0.5..=1.0).contains(a))),
                    "non-negative" => prop_assert!(p.iter().all(|a| *a >= 0.0)),
                    "ball" => prop_assert!(p.norm() <= 1.5 * (1.0 + 1e-15)),
                    _ => {
                        prop_assert!(p.iter().all(|a| *a >= 0.0));
                        prop_assert!((p.iter().sum::<f64>() - 2.0).abs() <= 1e-14 * (10.0 + v.to_vec().norm()));
                    }
                }
                // ⟨v − p, z − p⟩ ≤ 0 for every z of the set
                let z = image(map, w);
                let product = v.to_vec().plus(-1.0, &p).dot(&z.plus(-1.0, &p));
                prop_assert!(product <= 1e-13 * (10.0 + v.to_vec().norm()).powi(2), "{} {}", name, product);
            }
        }

        #[test]
        fn soft_thresholding_satisfies_its_optimality_condition(v in vectors()) {
            let p = image(|v| soft_threshold(v, 0.3), &v);
            for (a, b) in v.iter().zip(&p) {
                // v − p is 0.3 times a subgradient of |·| at p
                let subgradient = (a - b) / 0.3;
                let excess = if *b == 0.0 { subgradient.abs() - 1.0 } else { (subgradient - b.signum()).abs() };
                prop_assert!(excess <= 1e-11, "{}", excess);
            }
        }
    }

    #[test]
    fn the_simplex_projection_of_a_point_of_the_simplex_is_itself() {
        let mut v = [0.25, 0.75, 0.0];
        project_simplex(&mut v, 1.0);
        assert_eq!(v, [0.25, 0.75, 0.0]);
        let mut far = [100.0, 0.0, -100.0];
        project_simplex(&mut far, 1.0);
        assert_eq!(far, [1.0, 0.0, 0.0]);
    }
}
