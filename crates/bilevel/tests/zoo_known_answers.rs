//! The closed forms against the printed numbers, against themselves by differences, and against the theory:
//! y* ∈ S, J P = 0, M_T, and the hypergradient formula.

mod zoo_support;

use bilevel::{
    linear::dense::Spectrum,
    problems::{
        Formulas, KnownAnswer, Zoo,
        curved_graph::CurvedGraph,
        factorisation::Factorisation,
        failures::{DecayingSpectrum, DoubleWell, FlatValley},
        hoelder::Hoelder,
        reference,
        rotating_manifold::RotatingManifold,
        secular::Secular,
        sources::Sources,
        sphere::Sphere,
        torus::Torus,
    },
};
use zoo_support::{every_problem, random_point};

/// Printed digits: the closed forms are evaluated in f64, so a few units of 1e-16 of the scale; the project asks 1e-11.
const PRINTED: f64 = 1e-11;

fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * (1.0 + e.abs()), "{what}[{i}]: {g}, expected {e}");
    }
}
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}
fn moved(a: &[f64], t: f64, u: &[f64]) -> Vec<f64> {
    a.iter().zip(u).map(|(a, u)| a + t * u).collect()
}
fn unit(dim: usize, i: usize) -> Vec<f64> {
    (0..dim).map(|j| f64::from(u8::from(i == j))).collect()
}
fn spectrum(zoo: &Zoo, x: &[f64], y: &[f64]) -> Spectrum {
    let p = zoo.formulas();
    Spectrum::of(&mut |u: &Vec<f64>| Ok(p.g_hvp_yy(x, y, u)), &y.to_vec()).unwrap()
}
/// An orthonormal basis of ker H by the known dimension.
fn kernel(spectrum: &Spectrum, k: usize) -> Vec<Vec<f64>> {
    let mut order: Vec<usize> = (0..spectrum.values().len()).collect();
    order.sort_by(|&i, &j| spectrum.values()[i].abs().total_cmp(&spectrum.values()[j].abs()));
    order[..k].iter().map(|&i| spectrum.vector(i)).collect()
}
/// Eigenvalues of P(∇²_yy f − ∇³_yyy g[v])P on T by central differences of D(y) = ∇_y f − H v.
fn curvatures(zoo: &Zoo, x: &[f64], y: &[f64], v: &[f64], tangent: &[Vec<f64>]) -> Vec<f64> {
    let p = zoo.formulas();
    let lagrangian = |y: &[f64]| moved(&p.f_grad_y(x, y), -1.0, &p.g_hvp_yy(x, y, v));
    let h = 6.06e-6 * (1.0 + norm(y));
    let images: Vec<Vec<f64>> = tangent
        .iter()
        .map(|t| {
            let (ahead, behind) = (lagrangian(&moved(y, h, t)), lagrangian(&moved(y, -h, t)));
            ahead.iter().zip(&behind).map(|(a, b)| (a - b) / (2.0 * h)).collect()
        })
        .collect();
    let k = tangent.len();
    let entries: Vec<f64> = (0..k * k).map(|n| dot(&tangent[n / k], &images[n % k])).collect();
    let mut e = 0;
    let form = Spectrum::of(
        &mut |_: &Vec<f64>| {
            let column = (0..k).map(|i| entries[i * k + e]).collect();
            e += 1;
            Ok(column)
        },
        &vec![0.0; k],
    );
    form.unwrap().values().to_vec()
}

#[test]
fn probe_values_are_the_printed_ones() {
    let mut seen = 0;
    for row in reference::table() {
        let Some((g, f)) = row.probe else { continue };
        let p = row.problem.formulas();
        let y = row.probe_point();
        assert_close(row.name, &[p.g(&row.x, &y), p.f(&row.x, &y)], &[g, f], 1e-13);
        seen += 1;
    }
    assert!(seen >= 5);
}

#[test]
fn closed_forms_give_the_printed_digits() {
    for row in reference::table() {
        let known = row.problem.known(&row.x).unwrap();
        let check = |what: &str, got: Option<Vec<f64>>, printed: Option<&Vec<f64>>, tolerance: f64| {
            if let Some(printed) = printed {
                assert_close(&format!("{} {what}", row.name), &got.expect(what), printed, tolerance);
            }
        };
        check("F", Some(vec![known.value]), Some(&vec![row.value]), PRINTED);
        check("dF", known.gradient, Some(&row.gradient), PRINTED);
        check("y*", known.selection, row.selection.as_ref(), PRINTED);
        check("v", known.v, row.v.as_ref(), PRINTED);
        check("eig H", known.lower_spectrum, row.lower_spectrum.as_ref(), PRINTED);
        check("M_T", known.curvatures, row.curvatures.as_ref(), PRINTED);
        check("d2F", known.hyper_hessian.map(|rows| rows.concat()), row.hyper_hessian.as_ref(), PRINTED);
    }
}

/// Everything that the theory says of a known answer at x.
fn check_theory(name: &str, zoo: &Zoo, x: &[f64], known: &KnownAnswer) {
    let p = zoo.formulas();
    let Some(y) = &known.selection else { return };
    let scale = 1.0 + norm(y);
    let slope = norm(&p.g_grad_y(x, y));
    assert!(slope <= 1e-13 * scale, "{name}: y* is off S by a slope of {slope}");
    assert_close(&format!("{name} f(x, y*)"), &[p.f(x, y)], &[known.value], 1e-13);

    // S is a point where H is singular: outside the theory, which is what the case is for
    if name == "flat-valley" {
        return;
    }
    let k = zoo.intrinsic_dim().unwrap();
    let spectrum = spectrum(zoo, x, y);
    let tangent = kernel(&spectrum, k);
    let jacobian =
        (0..y.len()).map(|j| norm(&p.g_jvp_xy(x, y, &unit(y.len(), j))).powi(2)).sum::<f64>().sqrt();
    for t in &tangent {
        let leak = norm(&p.g_jvp_xy(x, y, t));
        assert!(leak <= 1e-12 * (1.0 + jacobian), "{name}: J P = {leak}");
    }
    if let Some(expected) = &known.lower_spectrum {
        let mut values = spectrum.values().to_vec();
        values.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        assert_close(&format!("{name} eig H"), &values[k..], expected, 1e-10);
    }
    // a cut well below the smallest known eigenvalue
    let smallest = known.lower_spectrum.as_ref().map_or(1e-6, |values| values[0].abs());
    let v = spectrum.pseudoinverse(1e-3 * smallest, &p.f_grad_y(x, y));
    if let Some(expected) = &known.v {
        assert_close(&format!("{name} v"), &v, expected, 1e-11);
    }
    if let Some(gradient) = &known.gradient {
        let formula = moved(&p.f_grad_x(x, y), -1.0, &p.g_jvp_xy(x, y, &v));
        assert_close(&format!("{name} (HG)"), &formula, gradient, 1e-12);
    }
    if let Some(expected) = known.curvatures.as_ref().filter(|list| !list.is_empty()) {
        let found = curvatures(zoo, x, y, &v, &tangent);
        assert_close(&format!("{name} M_T"), &found, expected, 1e-8);
    }
}

/// Problems without a closed form of F at every x: an empty S(x), f unbounded on S(x), and matrix sensing, whose answer is
/// known at the truth alone.
const WITHOUT_ANSWER: [&str; 5] =
    ["unbounded", "curved-graph-c", "pl-game-literal", "matrix-sensing", "lancbio-synthetic"];

#[test]
fn known_answers_satisfy_the_theory() {
    for (name, zoo) in every_problem() {
        for seed in 0..6 {
            let (x, _) = random_point(zoo.formulas(), seed);
            let Some(known) = zoo.known(&x) else {
                assert!(WITHOUT_ANSWER.contains(&name.as_str()), "{name} has no answer at {x:?}");
                continue;
            };
            check_theory(&name, &zoo, &x, &known);
        }
    }
}

/// Central differences of `value` in each coordinate of x, fourth order: error about h⁴|∂⁵| + ε|value|/h.
fn differences(x: &[f64], value: impl Fn(&[f64]) -> Vec<f64>) -> Vec<Vec<f64>> {
    let h = 1e-4;
    (0..x.len())
        .map(|i| {
            let u = unit(x.len(), i);
            let at = |t: f64| value(&moved(x, t * h, &u));
            let (far, near) = ((at(2.0), at(-2.0)), (at(1.0), at(-1.0)));
            (0..far.0.len())
                .map(|j| (8.0 * (near.0[j] - near.1[j]) - (far.0[j] - far.1[j])) / (12.0 * h))
                .collect()
        })
        .collect()
}

#[test]
fn gradients_and_hyper_hessians_are_the_derivatives_of_the_closed_form() {
    for (name, zoo) in every_problem() {
        for seed in 0..6 {
            let (x, _) = random_point(zoo.formulas(), seed);
            let Some(known) = zoo.known(&x) else { continue };
            let Some(gradient) = known.gradient else { continue };
            let slopes = differences(&x, |x| vec![zoo.known(x).unwrap().value]).concat();
            assert_close(&format!("{name} dF"), &gradient, &slopes, 1e-8);
            let Some(rows) = known.hyper_hessian else { continue };
            let bends = differences(&x, |x| zoo.known(x).unwrap().gradient.unwrap()).concat();
            assert_close(&format!("{name} d2F"), &rows.concat(), &bends, 1e-8);
        }
    }
}

#[test]
fn pessimistic_circle_has_the_printed_value() {
    let row = reference::row("T2");
    let worst = row.problem.known_pessimistic(&[0.7]).unwrap();
    assert_close(
        "F_max",
        &[worst.value, worst.gradient.unwrap()[0], worst.curvatures.unwrap()[0]],
        &[1.1225, 0.35, -1.755],
        PRINTED,
    );
    let spurious = row.problem.branches(&[0.7]);
    assert_eq!(spurious.len(), 2);
    assert_close(
        "spurious",
        &[spurious[1].value, spurious[1].gradient[0], spurious[1].curvatures[0]],
        &[0.7, 1.0, 1.3],
        PRINTED,
    );
}

#[test]
fn torus_has_the_printed_branches() {
    let row = reference::row("T6");
    let values: Vec<f64> = row.problem.branches(&row.x).iter().map(|branch| branch.value).collect();
    let printed = [1.1985, 2.2235, 2.9009, 3.9259, 3.9441, 4.9691, 5.6465, 6.6715];
    assert_close("branches", &values, &printed, PRINTED);
}

#[test]
fn branches_are_stationary_on_s_with_their_gradients() {
    for name in ["T2", "T6", "T10"] {
        let row = reference::row(name);
        for branch in row.problem.branches(&row.x) {
            let answer = KnownAnswer {
                value: branch.value,
                gradient: Some(branch.gradient),
                selection: Some(branch.point.clone()),
                curvatures: Some(branch.curvatures),
                ..KnownAnswer::default()
            };
            check_theory(name, &row.problem, &row.x, &answer);
        }
    }
}

#[test]
fn secular_has_the_printed_second_minimiser() {
    let row = reference::row("T10");
    let branches = row.problem.branches(&row.x);
    assert_eq!(branches.len(), 2);
    let spurious = &branches[1];
    // printed to fifteen digits
    assert_close("y", &spurious.point, &[1.03706445059694, 0.158864444088094, -0.177074599286962], 1e-13);
    assert_close("f", &[spurious.value], &[-0.702523830091611], 1e-13);
    assert_close("M", &spurious.curvatures, &[2.44619973592047, 4.38417688716125], 1e-13);
}

#[test]
fn the_hard_case_is_a_tie_of_two_selections() {
    let x = [0.0, -0.4, 0.8];
    let zoo = Zoo::new(Secular::default());
    let known = zoo.known(&x).unwrap();
    assert_close("F", &[known.value], &[-1.222762666666667], 1e-14);
    assert_eq!((&known.gradient, &known.selection), (&None, &None));
    let tied = zoo.branches(&x);
    assert_eq!(tied.len(), 2);
    for (branch, side) in tied.iter().zip([-1.0, 1.0]) {
        let first = side * 1.043416610095039;
        assert_close("y", &branch.point, &[first, 2.0 / 15.0, -0.16], 1e-14);
        assert_close("G", &branch.gradient, &[first, 2.0 / 15.0, -0.50048], 1e-14);
        assert_close("M_T", &branch.curvatures, &[2.950139580689582, 4.889685546037008], 1e-14);
        let answer = KnownAnswer {
            value: branch.value,
            gradient: Some(branch.gradient.clone()),
            selection: Some(branch.point.clone()),
            curvatures: Some(branch.curvatures.clone()),
            ..KnownAnswer::default()
        };
        check_theory("T10 tie", &zoo, &x, &answer);
    }
}

#[test]
fn kinks_have_a_value_and_no_gradient() {
    let cone = Sphere.known(&[0.0, -0.75]).unwrap();
    assert_eq!((cone.value, cone.gradient, cone.selection), (0.28125, None, None));
    assert_eq!(cone.curvatures, Some(vec![0.0, 0.0]));
    let tie = reference::row("T2").problem.known(&[0.0]).unwrap();
    assert_eq!((tie.value, tie.gradient, tie.curvatures), (0.0, None, Some(vec![2.0])));
    let torus = Torus::new(3, 4).known(&[0.5, 0.0, 1.2]).unwrap();
    assert_eq!((torus.gradient, torus.selection), (None, None));
}

#[test]
fn every_point_of_the_orbit_is_a_selection_with_the_same_gradient() {
    let row = reference::row("T8");
    let known = row.problem.known(&row.x).unwrap();
    // det X > 0 above, det X < 0 below
    for x in [row.x.clone(), vec![0.4, 1.5, 0.9, -0.6]] {
        let known_here = row.problem.known(&x).unwrap();
        for (angle, reflected) in [(0.0, false), (0.7, false), (2.9, true), (-1.3, true)] {
            let answer = KnownAnswer {
                selection: Factorisation.selection(&x, angle, reflected),
                ..known_here.clone()
            };
            assert!(answer.selection.is_some());
            check_theory("T8", &row.problem, &x, &answer);
        }
    }
    assert_eq!(known.selection, None);
}

#[test]
fn degenerate_selections_have_a_derivative_and_no_curvature() {
    for problem in [Hoelder::quartic(), Hoelder::Flat] {
        let known = problem.known(&[0.0]).unwrap();
        assert_eq!((known.value, known.gradient.unwrap()[0].abs()), (0.0, 0.0));
        assert_eq!((known.curvatures, known.hyper_hessian), (Some(vec![0.0]), None));
    }
}

#[test]
fn failure_cases_have_the_printed_numbers() {
    let e4 = DecayingSpectrum.known(&[1.0]).unwrap();
    assert_eq!((e4.value, e4.gradient), (2.5, Some(vec![5.0])));
    let e6 = FlatValley.known(&[0.0]).unwrap();
    assert_eq!(e6.gradient, Some(vec![-1.0]));
    let e11 = Sources::agreeing().known(&[0.4]).unwrap();
    assert_close("E11", &[e11.value, e11.gradient.unwrap()[0]], &[0.041, 0.0], 1e-15);
    assert_eq!(CurvedGraph::c().known(&[0.4, 0.9]), None);

    let wells = DoubleWell::wells();
    assert_close("E12 u", &wells, &[-1.046680531804602, 0.9456492739235914], 1e-15);
    let depths = wells.map(|u| DoubleWell.g(&[0.0], &[u]));
    assert_close("E12 g", &depths, &[-0.1023860738, 0.0973605582], 1e-10);
    let e12 = DoubleWell.known(&[0.3]).unwrap();
    assert_close("E12 F", &[e12.value], &[0.5 * (0.3_f64 - 1.046680531804602).powi(2)], 1e-15);
}

/// The large torus is too large for dense algebra; its closed form is checked through the products.
#[test]
fn a_torus_with_ten_thousand_unknowns_has_its_answer() {
    let torus = Torus::new(4, 9_992);
    let x = torus.default_x();
    let known = torus.known(&x).unwrap();
    let (y, v) = (known.selection.unwrap(), known.v.unwrap());
    assert_eq!(y.len(), 10_000);
    assert_close("grad g", &torus.g_grad_y(&x, &y), &vec![0.0; 10_000], 1e-14);
    assert_close("H v", &torus.g_hvp_yy(&x, &y, &v), &torus.f_grad_y(&x, &y), 1e-13);
    let formula = moved(&torus.f_grad_x(&x, &y), -1.0, &torus.g_jvp_xy(&x, &y, &v));
    assert_close("(HG)", &formula, &known.gradient.unwrap(), 1e-12);
    assert_close("F", &[torus.f(&x, &y)], &[known.value], 1e-13);
}

/// The rotating manifold at both sizes: v solves the system, (HG) gives ∇F, and both selections have the gradient
/// that differences of their values have.
#[test]
fn rotating_manifold_has_both_its_answers() {
    for (problem, width) in [(RotatingManifold::small(1), 10), (RotatingManifold::large(1), 1000)] {
        let x = problem.default_x();
        let known = problem.known(&x).unwrap();
        let (y, v, gradient) = (known.selection.unwrap(), known.v.unwrap(), known.gradient.unwrap());
        assert_eq!(y.len(), width);
        assert_close("grad g", &problem.g_grad_y(&x, &y), &vec![0.0; width], 1e-10);
        assert_close("f(x, y*)", &[problem.f(&x, &y)], &[known.value], 1e-12);
        assert_close("H v", &problem.g_hvp_yy(&x, &y, &v), &problem.f_grad_y(&x, &y), 1e-10);
        let formula: Vec<f64> = problem.g_jvp_xy(&x, &y, &v).iter().map(|j| -j).collect();
        assert_close("(HG)", &formula, &gradient, 1e-10);

        let y0 = problem.start_y(&x, 5);
        let selected = problem.selected(&x, &y0).unwrap();
        assert_close("grad g", &problem.g_grad_y(&x, &selected.point), &vec![0.0; width], 1e-10);
        assert!(selected.value > known.value + 0.1, "another value than the optimistic one");
        let direction: Vec<f64> = (0..x.len()).map(|i| (i as f64 + 0.5).cos()).collect();
        // fourth-order differences at h = 1e-3: error h⁴·|∂⁵| + ε|F|/h, far below 1e-7 of the slope's scale
        let slope = |value: &dyn Fn(&[f64]) -> f64| {
            let at = |t: f64| value(&moved(&x, 1e-3 * t, &direction));
            (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / 12e-3
        };
        let optimistic = slope(&|x| problem.known(x).unwrap().value);
        assert_close("dF", &[dot(&gradient, &direction)], &[optimistic], 1e-7);
        let kept = slope(&|x| problem.selected(x, &y0).unwrap().value);
        assert_close("d selected", &[dot(&selected.gradient, &direction)], &[kept], 1e-7);
    }
}

#[test]
fn gradient_descent_ends_at_the_selected_point() {
    let problem = RotatingManifold::small(1);
    let x = problem.default_x();
    let y0 = problem.start_y(&x, 5);
    let spectrum = spectrum(&Zoo::new(RotatingManifold::small(1)), &x, &y0);
    let step = 1.0 / spectrum.norm();
    let mut y = y0.clone();
    for _ in 0..20_000 {
        y = moved(&y, -step, &problem.g_grad_y(&x, &y));
    }
    assert_close("limit", &y, &problem.selected(&x, &y0).unwrap().point, 1e-10);
}
