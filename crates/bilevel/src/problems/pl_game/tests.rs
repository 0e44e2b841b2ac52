use super::*;
use crate::problems::{Minimiser, Zoo};

fn reference(variant: Variant) -> Instance {
    let (l, scale) = if variant == Variant::V1 { (18, 0.1) } else { (15, 0.3) };
    Instance {
        d: 20,
        l,
        n: 1000,
        mu: 0.1,
        smoothness: 1.0,
        scale,
        shift: 0.2,
        rho: 0.5,
        lambda: 10.0,
        seed: 3,
    }
}
fn norm(a: &[f64]) -> f64 {
    a.iter().map(|a| a * a).sum::<f64>().sqrt()
}
fn moved(a: &[f64], t: f64, u: &[f64]) -> Vec<f64> {
    a.iter().zip(u).map(|(a, u)| a + t * u).collect()
}
/// Half a unit of the last printed digit.
fn printed(what: &str, got: &[f64], expected: &[f64], digits: i32) {
    for (got, expected) in got.iter().zip(expected) {
        let half = 0.501 * 10f64.powi(-digits);
        assert!((got - expected).abs() <= half, "{what}: {got}, printed {expected}");
    }
}
/// A number printed with this many significant digits.
fn significant(what: &str, got: f64, expected: f64, digits: i32) {
    let unit = 10f64.powi(expected.abs().log10().floor() as i32 - digits + 1);
    assert!((got - expected).abs() <= 0.501 * unit, "{what}: {got:e}, printed {expected:e}");
}

#[test]
fn the_tiny_game_starts_as_printed() {
    let game = PlGame::tiny();
    let (x, y) = (game.default_x(), game.start_y(&[], 7));
    printed("f, g", &[game.f(&x, &y), game.g(&x, &y)], &[4.1, 0.0], 14);
    printed("f_x", &game.f_grad_x(&x, &y), &[1.0, 1.4, 0.45], 14);
    printed("f_y", &game.f_grad_y(&x, &y), &[-0.3, 0.7, -1.35], 14);
    printed("g_y", &game.g_grad_y(&x, &y), &[0.4, 0.3, 0.0], 14);
    let norms = Zoo::new(game).gradient_norms(&x, &y);
    printed(
        "norms",
        &[norms.selected.unwrap(), norms.optimistic.unwrap()],
        &[1.5196381148, 1.9902323985],
        10,
    );
}

#[test]
fn the_minimisers_of_the_tiny_game_are_the_printed_ones() {
    let game = PlGame::tiny();
    let slope = |at: &Minimiser| norm(&game.optimistic_gradient(&at.x).unwrap());

    let at = game.selected_minimiser(&[0.0, 0.0, -1.0]).unwrap();
    printed("selected x", &at.x, &[0.3677266910, -0.1856683404, -0.0137015523], 10);
    printed("selected y", &at.y, &[-0.0880017065, -0.1518492993, -1.0], 10);
    printed("selected f, slope", &[at.value, slope(&at)], &[2.6711278757, 1.2058376594], 10);
    let f_y = game.f_grad_y(&at.x, &at.y);
    printed("selected v", &times(&game.q_inverse, &f_y), &[-0.4495093696, 0.6975977159, 0.0], 10);
    printed("selected kernel part", &f_y[2..], &[-1.3741795478], 10);

    let at = game.optimistic_minimiser().unwrap();
    printed("optimistic x", &at.x, &[-2.0868110222, 3.4970273398, -2.5832308898], 10);
    printed("optimistic y", &at.y, &[1.5420342054, -1.1800166785, 6.2245562577], 10);
    printed("optimistic f", &[at.value], &[-2.2927908498], 10);
    let v = game.known(&at.x).unwrap().v.unwrap();
    printed("optimistic v", &v, &[0.5113227080, 1.1195102839, 0.0], 10);

    for (lambda, x, y, value, expected) in [
        (
            10.0,
            [-2.1328176625, 3.5418072029, -2.5930249745],
            [1.5098644795, -1.2788276503, 6.2747238740],
            -2.3737812,
            3.587424e-2,
        ),
        (
            100.0,
            [-2.0916838867, 3.5017350237, -2.5842124745],
            [1.5386854863, -1.1904856933, 6.2298208062],
            -2.3015876,
            3.841437e-3,
        ),
        (
            1000.0,
            [-2.0873012085, 3.4975005489, -2.5833290614],
            [1.5416979405, -1.1810698438, 6.2250853434],
            -2.2936781,
            3.868587e-4,
        ),
    ] {
        let at = game.penalty_minimiser(lambda).unwrap();
        printed("penalty x", &at.x, &x, 10);
        printed("penalty y", &at.y, &y, 10);
        printed("penalty f", &[at.value], &[value], 7);
        significant("penalty slope", slope(&at), expected, 7);
    }
    for (lambda, x, expected) in [
        (10.0, [-2.1659117525, 3.5578760513, -2.5745259627], 8.199837e-2),
        (100.0, [-2.0955948025, 3.5036822547, -2.5821027465], 9.240200e-3),
    ] {
        let at = game.gradient_penalty_minimiser(lambda).unwrap();
        printed("gradient penalty x", &at.x, &x, 10);
        significant("gradient penalty slope", slope(&at), expected, 7);
    }
    for (order, x, expected) in [
        (2, [-2.0936776858, 3.5024318702, -2.5826687625], 6.957615e-3),
        (3, [-2.0883107004, 3.4980341031, -2.5828334412], 1.750749e-3),
    ] {
        let at = game.one_sided_minimiser(order, 0.1).unwrap();
        printed("one-sided x", &at.x, &x, 10);
        significant("one-sided slope", slope(&at), expected, 7);
    }
    // order 1 is the penalty at lambda = 1/σ
    let (one, penalty) = (game.one_sided_minimiser(1, 0.1).unwrap(), game.penalty_minimiser(10.0).unwrap());
    printed("order 1", &one.x, &penalty.x, 12);
}

#[test]
fn the_spectra_of_the_tiny_game_are_the_printed_ones() {
    let game = PlGame::tiny();
    let ends = |values: Vec<f64>| [values[0], *values.last().unwrap()];
    printed("selected", &ends(game.selected_spectrum()), &[0.6086, 1.4080], 4);
    printed("optimistic", &ends(game.optimistic_spectrum()), &[0.2343, 1.4068], 4);
    printed("penalised", &ends(game.penalty_spectrum(10.0)), &[0.2308, 1.3553], 4);
    assert_eq!(game.lower_spectrum(), [0.5, 1.0]);
}

/// The value of each target by its definition, a minimisation over y done independently of the closed forms, against its
/// gradient by central differences at h = 1e-5: 1e-8 of the scale.
#[test]
fn gradients_of_every_target_agree_with_differences() {
    for variant in [Variant::V1, Variant::V2, Variant::V3] {
        let game = PlGame::random(variant, &reference(variant)).unwrap();
        let x = game.default_x();
        let y = game.start_y(&x, 1);
        let least_norm = |x: &[f64]| -> Vec<f64> {
            // gradient descent on g from y: the kernel part of y stays
            let mut y = y.clone();
            for _ in 0..1500 {
                y = moved(&y, -0.8, &game.g_grad_y(x, &y));
            }
            y
        };
        let direction = normals(5, 1, 20);
        let difference = |value: &dyn Fn(&[f64]) -> f64| {
            (value(&moved(&x, 1e-5, &direction)) - value(&moved(&x, -1e-5, &direction))) / 2e-5
        };
        let selected = difference(&|x| game.f(x, &least_norm(x)));
        let claimed = view(&game.selected_gradient(&x, &y).unwrap()).dot(&view(&direction));
        assert!(
            (selected - claimed).abs() <= 1e-7 * (1.0 + claimed.abs()),
            "{variant:?}: {selected} {claimed}"
        );

        // φ: descent on f along ker Q from there
        let optimistic = difference(&|x| {
            let mut y = least_norm(x);
            for _ in 0..200 {
                let f_y = game.f_grad_y(x, &y);
                let along = moved(&f_y, -1.0, &times(&game.range, &f_y));
                y = moved(&y, -1.0, &along);
            }
            game.f(x, &y)
        });
        let claimed = view(&game.optimistic_gradient(&x).unwrap()).dot(&view(&direction));
        assert!(
            (optimistic - claimed).abs() <= 1e-7 * (1.0 + claimed.abs()),
            "{variant:?}: {optimistic} {claimed}"
        );
    }
}

#[test]
fn minimisers_are_stationary_for_their_own_objective() {
    for variant in [Variant::V1, Variant::V2, Variant::V3] {
        let game = PlGame::random(variant, &reference(variant)).unwrap();
        let y = game.start_y(&[], 1);
        let small = |what: &str, gradient: &[f64], at: &Minimiser| {
            let size = norm(gradient);
            assert!(size <= 1e-10 * (1.0 + norm(&at.x) + norm(&at.y)), "{variant:?} {what}: {size:e}");
        };
        let at = game.selected_minimiser(&y).unwrap();
        small("selected", &game.selected_gradient(&at.x, &y).unwrap(), &at);
        small("on S", &game.g_grad_y(&at.x, &at.y), &at);
        let at = game.optimistic_minimiser().unwrap();
        small("optimistic", &game.optimistic_gradient(&at.x).unwrap(), &at);
        small("on S", &game.g_grad_y(&at.x, &at.y), &at);
        // f + 10(g(x, y) − g(x, z)), z on S(x)
        let at = game.penalty_minimiser(10.0).unwrap();
        let z = game.least_norm_y(&DVector::from_vec(at.x.clone()));
        let by_x = moved(&game.g_grad_x(&at.x, &at.y), -1.0, &game.g_grad_x(&at.x, z.as_slice()));
        small("penalty x", &moved(&game.f_grad_x(&at.x, &at.y), 10.0, &by_x), &at);
        small("penalty y", &moved(&game.f_grad_y(&at.x, &at.y), 10.0, &game.g_grad_y(&at.x, &at.y)), &at);
        let at = game.gradient_penalty_minimiser(10.0).unwrap();
        let g_y = game.g_grad_y(&at.x, &at.y);
        let (by_x, by_y) = (game.g_jvp_xy(&at.x, &at.y, &g_y), game.g_hvp_yy(&at.x, &at.y, &g_y));
        small("norm penalty x", &moved(&game.f_grad_x(&at.x, &at.y), 10.0, &by_x), &at);
        small("norm penalty y", &moved(&game.f_grad_y(&at.x, &at.y), 10.0, &by_y), &at);
    }
}

#[test]
fn targets_agree_where_f_is_constant_on_the_solution_set() {
    for variant in [Variant::V1, Variant::V3] {
        let game = PlGame::random(variant, &reference(variant)).unwrap();
        let (x, y) = (game.default_x(), game.start_y(&[], 2));
        let gap = norm(&moved(
            &game.selected_gradient(&x, &y).unwrap(),
            -1.0,
            &game.optimistic_gradient(&x).unwrap(),
        ));
        assert!(gap <= 1e-13, "{variant:?}: {gap:e}");
    }
}

#[test]
fn the_literal_game_has_no_lower_solution_and_no_optimistic_target() {
    let game =
        PlGame::random(Variant::Literal, &Instance { d: 50, l: 48, n: 2500, ..reference(Variant::V2) })
            .unwrap();
    assert_eq!((game.intrinsic_dim(), game.known(&game.default_x())), (None, None));
    assert_eq!((game.optimistic_minimiser(), game.selected_minimiser(&game.x0)), (None, None));
    // the specification's table has 7.8e-4 for one draw at d = 50; a Wishart norm varies by some tens of per cent
    let slope = game.unbounded_slope();
    assert!((3e-4..2e-3).contains(&slope), "{slope:e}");
    // g falls linearly along Π_k R²ᵀx
    let x = game.default_x();
    let along = tr_times(&game.r2, &x);
    let along = moved(&along, -1.0, &times(&game.range, &along));
    let zero = vec![0.0; 50];
    let (near, far) = (game.g(&x, &moved(&zero, -1e3, &along)), game.g(&x, &moved(&zero, -2e3, &along)));
    assert!(near < 0.0 && (far / near - 2.0).abs() < 1e-6, "{near} {far}");
}

#[test]
fn a_seed_gives_one_game_and_hopeless_settings_are_refused() {
    let instance = reference(Variant::V2);
    let (a, b) =
        (PlGame::random(Variant::V2, &instance).unwrap(), PlGame::random(Variant::V2, &instance).unwrap());
    assert_eq!((a.q, a.r1, a.c), (b.q.clone(), b.r1, b.c));
    let other = PlGame::random(Variant::V2, &Instance { seed: 4, ..instance.clone() }).unwrap();
    assert_ne!(other.q, b.q);
    let error =
        PlGame::random(Variant::V2, &Instance { scale: 30.0, shift: 0.0, ..instance.clone() }).unwrap_err();
    assert_eq!(error.field, "scale");
    assert!(error.remedy.contains("64 draws"), "{error}");
    let error = PlGame::random(Variant::V2, &Instance { l: 21, ..instance }).unwrap_err();
    assert_eq!(error.field, "l");
}
