//! HG-MS at one x, against the printed answers of the zoo (specification §15, items 2 to 6).

use bilevel::{
    Oracles, Vector,
    hyper_hessian::hyper_hessian,
    problems::{
        Zoo,
        reference::{Reference, table},
    },
    rng::Stream,
    selection::{geometry::Factorise, level::At},
    solvers::hg_ms::{Evaluation, Exploration, HgMs},
};

type Found = Evaluation<Vec<f64>, Vec<f64>>;

fn evaluate(settings: &HgMs, problem: &Zoo, x: &[f64], seed: &[f64]) -> Found {
    let oracles = Oracles::new(problem);
    let mut stream = Stream::new(1, 0);
    settings
        .evaluate(&oracles, &x.to_vec(), &[seed.to_vec()], Exploration::None, &mut stream, None)
        .expect("the zoo's oracles do not fail")
}

fn assert_close(what: &str, row: &Reference, found: &[f64], printed: &[f64], tol: f64) {
    assert_eq!(found.len(), printed.len(), "{}: length of {what}", row.name);
    for (a, b) in found.iter().zip(printed) {
        assert!(
            (a - b).abs() <= tol * (1.0 + b.abs()),
            "{}: {what} is {found:?}, printed {printed:?}",
            row.name
        );
    }
}

/// Item 2: F, ∇F, y*, v, spectra, k and the certificate, from the selection itself and from a start off S(x).
#[test]
fn item_02_every_printed_number_from_on_and_off_the_manifold() {
    // T3 large is beyond the size that is factorised by default; only a factorisation counts its kernel exactly
    let mut settings = HgMs::default();
    settings.rank.factorise = Factorise::Dense;
    for row in table() {
        let mut starts = vec![row.start_off_s()];
        starts.extend(row.selection.clone());
        for start in starts {
            let found = evaluate(&settings, &row.problem, &row.x, &start);
            let certificate = &found.certificate;
            assert!(certificate.is_certified(), "{}: {certificate}", row.name);
            let best = &found.branches[0].point;
            // F is O(δ²), ∇F is O(δ + ε_T²), y and v are O(δ + ε_T): 1e-12 and 1e-8 by default
            assert_close("F", &row, &[found.value().unwrap()], &[row.value], 1e-11);
            assert_close("dF", &row, &found.gradient().unwrap(), &row.gradient, 1e-11);
            if let Some(selection) = &row.selection {
                assert_close("y*", &row, &best.y, selection, 1e-7);
            }
            if let Some(v) = &row.v {
                assert_close("v", &row, &best.v, v, 1e-6);
            }
            if let Some(curvatures) = &row.curvatures {
                assert_close("M_T", &row, best.model.eigenvalues().unwrap(), curvatures, 1e-6);
            }
            if let Some(spectrum) = &row.lower_spectrum {
                let all = best.geometry.spectrum().unwrap().values();
                assert_close("eig H", &row, &all[all.len() - spectrum.len()..], spectrum, 1e-7);
            }
            assert_eq!(certificate.kernel_dim, Some(row.kernel_dim() as f64), "{}", row.name);
            assert!(certificate.range_ratio.unwrap() <= 1e-8, "{}: {certificate}", row.name);
        }
    }
}

/// Item 3: every printed hyper-Hessian.
#[test]
fn item_03_hyper_hessians() {
    let mut settings = HgMs::default();
    settings.rank.factorise = Factorise::Dense;
    for row in table() {
        let Some(printed) = &row.hyper_hessian else { continue };
        let start = row.selection.clone().unwrap_or_else(|| row.start_off_s());
        let found = evaluate(&settings, &row.problem, &row.x, &start);
        let oracles = Oracles::new(&row.problem);
        let at = At { oracles: &oracles, x: &row.x, sign: 1.0 };
        let matrix = hyper_hessian(&at, &found.branches[0].point, &settings.refine).unwrap();
        assert_close("d2F", &row, matrix.transpose().as_slice(), printed, 1e-7);
    }
}

/// The gradient agrees with the closed form away from the printed x, too.
#[test]
fn the_closed_forms_agree_at_other_x() {
    let mut stream = Stream::new(5, 0);
    for row in table() {
        if row.name.starts_with("T8") {
            continue;
        }
        let x: Vec<f64> = row.x.iter().map(|x| x + 0.05 * stream.normal()).collect();
        let Some(gradient) = row.problem.known(&x).and_then(|known| known.gradient) else { continue };
        let found = evaluate(&HgMs::default(), &row.problem, &x, &row.start_off_s());
        let error = found.gradient().unwrap().distance(&gradient);
        assert!(error <= 1e-8 * (1.0 + gradient.norm()), "{}: {error}", row.name);
    }
}
