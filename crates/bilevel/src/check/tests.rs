use super::*;
use crate::{
    objective::examples::{Curved, CurvedProblem},
    vector::Dense,
};

const X: [f64; 2] = [0.3, -0.7];
const Y: [f64; 2] = [0.4, 0.9];

#[test]
fn a_right_problem_passes_every_check() {
    let reports = Checker::default().problem(&CurvedProblem, &X.to_vec(), &Y.to_vec()).unwrap();
    assert_eq!(reports.len(), 12);
    for report in reports {
        assert!(report.passed(), "{report}");
        assert!(report.to_string().contains("right to"), "{report}");
    }
}

/// cos(4y + 2)/(1 + e^(2−4x)) + ½ ln((4x − 2)² + 1), with the square of the first denominator's derivative in the wrong place
/// when `is_wrong`: 1 + (e^(2−4x))² for (1 + e^(2−4x))².
#[derive(Debug)]
struct Toy {
    is_wrong: bool,
}

impl Objective<Dense, Dense> for Toy {
    fn value(&self, x: &Dense, y: &Dense, _: Sample) -> OracleResult<f64> {
        let e = (2.0 - 4.0 * x[0]).exp();
        Ok((4.0 * y[0] + 2.0).cos() / (1.0 + e) + 0.5 * ((4.0 * x[0] - 2.0).powi(2) + 1.0).ln())
    }
    fn grad_x(&self, x: &Dense, y: &Dense, _: Sample) -> OracleResult<Dense> {
        let e = (2.0 - 4.0 * x[0]).exp();
        let denominator = if self.is_wrong { 1.0 + e * e } else { (1.0 + e) * (1.0 + e) };
        let u = 4.0 * x[0] - 2.0;
        Ok(vec![(4.0 * y[0] + 2.0).cos() * 4.0 * e / denominator + 4.0 * u / (u * u + 1.0)])
    }
    fn grad_y(&self, x: &Dense, y: &Dense, _: Sample) -> OracleResult<Dense> {
        Ok(vec![-4.0 * (4.0 * y[0] + 2.0).sin() / (1.0 + (2.0 - 4.0 * x[0]).exp())])
    }
}

#[test]
fn a_misplaced_square_is_caught_with_both_numbers() {
    let (x, y) = (vec![0.3], vec![0.2]);
    let checker = Checker::default();
    assert!(checker.grad_x(&Toy { is_wrong: false }, "upper", &x, &y).unwrap().passed());
    let report = checker.grad_x(&Toy { is_wrong: true }, "upper", &x, &y).unwrap();
    assert!(!report.passed());
    let worst = report.worst.clone().unwrap();
    assert!((worst.claimed.abs() - 3.360).abs() < 5e-4 && (worst.measured.abs() - 2.757).abs() < 5e-4);
    let text = report.to_string();
    for part in ["upper grad_x is wrong", "coordinate 0", "the central difference of value", "What to do"] {
        assert!(text.contains(part), "{text}");
    }
}

/// `Curved` with one fault.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    GradX,
    GradY,
    Hessian,
    Asymmetric,
    Jacobian,
    Summed,
}

impl Objective<Dense, Dense> for Fault {
    fn value(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<f64> {
        let factor = if *self == Self::Summed && matches!(s, Sample::Full) { 2.0 } else { 1.0 };
        Ok(factor * Curved.value(x, y, s)?)
    }
    fn grad_x(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
        let mut gradient = Curved.grad_x(x, y, s)?;
        gradient[1] *= if *self == Self::GradX { 1.0 + 1e-4 } else { 1.0 };
        Ok(gradient)
    }
    fn grad_y(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
        let mut gradient = Curved.grad_y(x, y, s)?;
        gradient[0] += if *self == Self::GradY { 1e-3 } else { 0.0 };
        Ok(gradient)
    }
    fn n_samples(&self) -> Option<u64> {
        Some(2)
    }
}

impl SecondOrder<Dense, Dense> for Fault {
    fn hvp_yy(&self, x: &Dense, y: &Dense, v: &Dense, s: Sample) -> OracleResult<Dense> {
        let mut product = Curved.hvp_yy(x, y, v, s)?;
        match self {
            // leaves out the curvature of the residual, as a Gauss–Newton product does
            Self::Hessian => product[1] += 0.5 * (y[1].sin() - x[0] * x[1]) * y[1].sin() * v[1],
            Self::Asymmetric => product[0] += 1e-3 * v[1],
            _ => {}
        }
        Ok(product)
    }
    fn jvp_xy(&self, x: &Dense, y: &Dense, v: &Dense, s: Sample) -> OracleResult<Dense> {
        let sign = if *self == Self::Jacobian { -1.0 } else { 1.0 };
        Ok(Curved.jvp_xy(x, y, v, s)?.scaled(sign))
    }
}

#[test]
fn each_fault_is_caught_by_its_own_check() {
    let (checker, x, y) = (Checker::default(), X.to_vec(), Y.to_vec());
    let failed = |fault: Fault| -> Vec<Subject> {
        [
            checker.grad_x(&fault, "lower", &x, &y).unwrap(),
            checker.grad_y(&fault, "lower", &x, &y).unwrap(),
            checker.hessian_symmetry(&fault, "lower", &x, &y).unwrap(),
            checker.hvp_yy(&fault, "lower", &x, &y).unwrap(),
            checker.jvp_xy(&fault, "lower", &x, &y).unwrap(),
            checker.adjoint(&fault, "lower", &x, &y).unwrap(),
            checker.batches(&fault, "lower", &x, &y, 1).unwrap().unwrap(),
        ]
        .into_iter()
        .filter(|report| !report.passed())
        .map(|report| report.subject)
        .collect()
    };
    // the wrong factor of grad_x shows in its derivative along y as well
    assert_eq!(failed(Fault::GradX), [Subject::GradX, Subject::JvpXy]);
    assert_eq!(failed(Fault::GradY), [Subject::GradY]);
    assert_eq!(failed(Fault::Hessian), [Subject::HvpYy]);
    assert_eq!(failed(Fault::Asymmetric), [Subject::HessianSymmetry, Subject::HvpYy]);
    assert_eq!(failed(Fault::Jacobian), [Subject::JvpXy, Subject::Adjoint]);
    // twice the value is wrong against its gradients too
    assert_eq!(failed(Fault::Summed), [Subject::GradX, Subject::GradY, Subject::Batches]);
}

#[test]
fn a_projection_on_a_sphere_is_not_a_proximal_map() {
    let checker = Checker::default();
    let around = vec![0.2, -0.1, 0.4];
    let ball = |v: &mut Dense, _: f64| {
        let norm = v.norm();
        if norm > 1.0 {
            v.scale(norm.recip());
        }
    };
    let sphere = |v: &mut Dense, _: f64| {
        let norm = v.norm();
        v.scale(norm.recip());
    };
    assert!(checker.prox(ball, "upper", &around, 1.0).passed());
    let report = checker.prox(sphere, "upper", &around, 1.0);
    assert!(!report.passed() && report.to_string().contains("not the proximal map"), "{report}");
}

#[test]
fn a_hypergradient_is_held_against_differences_of_f() {
    // F(x) = |x|²/2 + sin x₀
    let value = |x: &Dense| Ok(0.5 * x.dot(x) + x[0].sin());
    let x = X.to_vec();
    let right = vec![x[0] + x[0].cos(), x[1]];
    let checker = Checker::default();
    assert!(checker.hypergradient(value, &x, &right).unwrap().passed());
    let report = checker.hypergradient(value, &x, &right.scaled(1.01)).unwrap();
    assert!(!report.passed());
    assert!((report.relative_error - 0.01).abs() < 0.01, "{report}");
}

#[test]
fn a_large_variable_is_probed_in_random_directions_only() {
    let x = vec![0.1; 100];
    let report = Checker::default().hypergradient(|x: &Dense| Ok(0.5 * x.dot(x)), &x, &x).unwrap();
    assert_eq!((report.probes, report.passed()), (8, true));
    // one wrong coordinate of a hundred is still seen
    let mut wrong = x.clone();
    wrong[17] *= 1.001;
    let report = Checker::default().hypergradient(|x: &Dense| Ok(0.5 * x.dot(x)), &x, &wrong).unwrap();
    assert!(!report.passed());
}

#[test]
fn failures_of_an_oracle_surface() {
    let failing = |_: &Dense| Err(crate::error::OracleError::NonFinite { oracle: "upper.value" });
    assert!(Checker::default().hypergradient(failing, &X.to_vec(), &X.to_vec()).is_err());
}

#[test]
fn a_nan_never_passes() {
    let x = X.to_vec();
    let report = Checker::default().hypergradient(|_: &Dense| Ok(f64::NAN), &x, &x).unwrap();
    assert!(!report.passed());
}
