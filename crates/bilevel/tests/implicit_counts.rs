//! Oracle calls of the implicit methods per step, as their documentation says; settings out of range; batches; resuming.

use std::ops::ControlFlow;

use bilevel::{
    Budget, Checkpoint, Event, Objective, OracleCounts, OracleResult, Problem, Run, Sample, SecondOrder,
    Solver, Tally,
    problems::{self, Parameters, Zoo},
    solvers::{
        adapag::{Adapag, Estimator},
        ba::{Ba, Growth, Inverse},
        galet::Galet,
        hjfbio::{FirstV, Hjfbio, Projections},
        implicit::{Direction, MirrorMap, VStart},
        lancbio::{Lancbio, SubspaceSolve},
        mgbio::{Mgbio, Momentum},
        penalty::Variant,
        residual_corrected::ResidualCorrected,
        saba::Saba,
        soba::Soba,
        srba::Srba,
        subbio::Subbio,
    },
};
use serde_json::{Value, json};

fn steps(n: u64) -> Budget {
    Budget { steps: Some(n), ..Budget::default() }
}
fn tiny() -> Zoo {
    problems::by_name("pl-game-v2-tiny", &Parameters::new()).unwrap()
}
fn counts<S: Solver<Zoo>>(solver: &S, n: u64) -> OracleCounts {
    Run::new(&tiny(), solver).budget(steps(n)).start(1).unwrap().counts
}
/// Calls of a level: [value, grad_x, grad_y, hvp_yy, jvp_xy].
fn tally([value, grad_x, grad_y, hvp_yy, jvp_xy]: [u64; 5]) -> Tally {
    let samples = value + grad_x + grad_y + hvp_yy + jvp_xy;
    Tally { value, grad_x, grad_y, hvp_yy, jvp_xy, samples }
}

/// One step costs one gradient of f and these calls of g, and nothing else; so does every other step, and a start
/// costs nothing.
fn assert_cost<S: Solver<Zoo>>(solver: &S, lower: [u64; 5]) {
    for n in [0, 1, 3] {
        let expected =
            OracleCounts { upper: tally([0, n, n, 0, 0]), lower: tally(lower.map(|calls| calls * n)) };
        assert_eq!(counts(solver, n), expected, "{} after {n} steps", S::NAME);
    }
}

#[test]
fn a_step_costs_what_the_table_says() {
    const T: u64 = 7;
    const N: u64 = 4;
    const P: u64 = 3; // coordinates of y
    assert_cost(&Galet { lower_steps: N, v_steps: T, ..Galet::default() }, [0, 0, N, 2 * T, 1]);
    assert_cost(&Mgbio::default(), [0, 0, 1, P, 1]);
    assert_cost(&Adapag::default(), [0, 0, 1, P, 1]);
    assert_cost(&Mgbio { momentum: Momentum::MovingAverage, ..Mgbio::default() }, [0, 0, 1, P, P]);
    assert_cost(&Adapag { estimator: Estimator::Spider, period: 1, ..Adapag::default() }, [0, 0, 1, P, P]);
    // with v = 0 there is nothing to take differences along
    let hjfbio = Hjfbio { first_v: Some(FirstV::Uniform), ..Hjfbio::default() };
    assert_cost(&hjfbio, [0, 2, 3, 0, 0]);
    assert_cost(&Hjfbio { direction: Direction::LeastSquares, ..hjfbio }, [0, 2, 5, 0, 0]);
    assert_eq!(counts(&Hjfbio::default(), 1).lower, tally([0, 0, 1, 0, 0]));
    assert_cost(&ResidualCorrected::default(), [0, 0, 1, 2, 1]);
    // with v = 0 the second direction vanishes, and one product with it
    let subbio = Subbio { lower_steps: T, ..Subbio::default() };
    assert_eq!(counts(&subbio, 3).lower, tally([0, 0, 3 * T, 3 * 5 - 1, 3]));
    let galerkin = Subbio { solve: SubspaceSolve::Galerkin, ..subbio };
    assert_eq!(counts(&galerkin, 3).lower, tally([0, 0, 3 * T, 3 * 3 - 1, 3]));
    assert_cost(&Soba::default(), [0, 0, 1, 1, 1]);
    assert_cost(&Soba { direction: Direction::LeastSquares, ..Soba::default() }, [0, 0, 1, 2, 1]);
    // one term a level is one block, and every step a renewal
    assert_cost(&Saba::default(), [0, 0, 1, 1, 1]);
    assert_cost(&Srba::default(), [0, 0, 1, 1, 1]);
}

#[test]
fn storm_and_spider_call_twice_away_from_a_renewal() {
    let both = |steps: u64| {
        let n = 2 * steps - 1;
        OracleCounts { upper: tally([0, n, n, 0, 0]), lower: tally([0, 0, n, 3 * n, 3 * n]) }
    };
    // β < 1 from the second step on: mix² = 1/(1 + t)^(2/3)
    assert_eq!(counts(&Mgbio { momentum: Momentum::Storm, ..Mgbio::default() }, 4), both(4));
    let spider = Adapag { estimator: Estimator::Spider, period: 4, ..Adapag::default() };
    assert_eq!(counts(&spider, 4), both(4));
    // the fifth step renews everything
    assert_eq!(counts(&spider, 5).upper, tally([0, 8, 8, 0, 0]));
}

#[test]
fn ba_costs_its_lower_steps_and_one_solve() {
    let ba = Ba { growth: Growth::Constant, lower_steps: 7, ..Ba::default() };
    let got = counts(&ba, 3);
    assert_eq!(got.upper, tally([0, 3, 3, 0, 0]));
    assert_eq!((got.lower.grad_y, got.lower.grad_x, got.lower.value, got.lower.jvp_xy), (21, 0, 0, 3));
    // MINRES on a Hessian with two non-zero eigenvalues, inconsistent: some tens of products at most
    assert!((3..3 * 40).contains(&got.lower.hvp_yy), "{}", got.lower.hvp_yy);
    // ⌈(k + 1)^(1/4)/2⌉ is 1 up to k = 15 and 2 from then on; ⌈√(k + 1)/2⌉ is 1, 1, 1, 1, 2
    assert_eq!(counts(&Ba::default(), 17).lower.grad_y, 16 + 2);
    assert_eq!(counts(&Ba { growth: Growth::Convex, ..ba.clone() }, 5).lower.grad_y, 4 + 2);
    // q is uniform in 0..terms, (terms − 1)/2 on average with a deviation of terms/√12
    let bsa = Ba { inverse: Inverse::RandomNeumann, terms: 10, ..ba };
    let products = counts(&bsa, 2_000).lower.hvp_yy as f64 / 2_000.0;
    assert!((products - 4.5).abs() < 4.0 * 2.9 / 2_000_f64.sqrt(), "{products}");
}

#[test]
fn lancbio_costs_one_product_and_more_at_a_restart() {
    let fixed = Lancbio { lower_steps: 2, subspace: 2, growth: 1.0, ..Lancbio::default() };
    // restarts at steps 1 and 3; the third step's subspace is not yet full
    let expected =
        |products| OracleCounts { upper: tally([0, 3, 3, 0, 0]), lower: tally([0, 0, 6, products, 3]) };
    assert_eq!(counts(&fixed, 3), expected(3 + 2 * 2));
    assert_eq!(counts(&Lancbio { solve: SubspaceSolve::Galerkin, ..fixed }, 3), expected(3 + 2));
}

fn assert_refused<S: Solver<Zoo> + serde::de::DeserializeOwned>(field: &str, value: &Value) {
    let settings: S = serde_json::from_value(json!({ field: value })).unwrap();
    let error = settings.validate().unwrap_err();
    assert_eq!(error.field, field, "{}: {error}", S::NAME);
}

#[test]
fn settings_out_of_range_name_the_field() {
    let (negative, zero) = (json!(-1.0), json!(0));
    for field in ["step_x", "step_y", "step_v", "decay", "tol"] {
        assert_refused::<Ba>(field, &negative);
        assert_refused::<Soba>(field, &negative);
    }
    for field in ["step_x", "step_y", "step_v", "tol"] {
        assert_refused::<Saba>(field, &negative);
        assert_refused::<Srba>(field, &negative);
    }
    assert_refused::<Saba>("batch", &zero);
    for field in ["batch", "period"] {
        assert_refused::<Srba>(field, &zero);
    }
    for field in ["lower_steps", "terms", "batch"] {
        assert_refused::<Ba>(field, &zero);
    }
    assert_refused::<Soba>("averaging", &json!(1.5));
    for field in ["step_x", "step_y", "step_v"] {
        assert_refused::<Galet>(field, &negative);
        assert_refused::<Hjfbio>(field, &negative);
        assert_refused::<ResidualCorrected>(field, &negative);
        assert_refused::<Subbio>(field, &negative);
    }
    for field in ["lower_steps", "v_steps"] {
        assert_refused::<Galet>(field, &zero);
    }
    for field in ["v_radius", "fd_radius", "hvp_radius", "damping"] {
        assert_refused::<Hjfbio>(field, &negative);
    }
    // damping without the direction that it belongs to
    assert_refused::<Hjfbio>("damping", &json!(0.1));
    for field in ["step_residual", "residual_from"] {
        assert_refused::<ResidualCorrected>(field, &negative);
    }
    for field in
        ["step_x", "step_y", "mix", "mu", "smoothness", "rank_tol", "averaging", "offset", "cross_bound"]
    {
        assert_refused::<Mgbio>(field, &negative);
    }
    assert_refused::<Mgbio>("mix", &json!(1.5));
    for field in ["step_x", "step_y", "mix", "decay", "rho", "mu", "rank_tol"] {
        assert_refused::<Adapag>(field, &negative);
    }
    assert_refused::<Adapag>("period", &zero);
    for field in ["step_x", "step_y", "growth"] {
        assert_refused::<Lancbio>(field, &negative);
    }
    for field in ["lower_steps", "subspace", "growth_period", "max_subspace"] {
        assert_refused::<Lancbio>(field, &zero);
    }
    let clash: Ba = serde_json::from_value(json!({"accelerated": true, "order": "x-then-y"})).unwrap();
    assert_eq!(Solver::<Zoo>::validate(&clash).unwrap_err().field, "accelerated");
}

type V = Vec<f64>;

/// f = mean of ½|y − a_i|² + x·y₁ and g = mean of ½(y₁ − x − b_i)² + ½(y₂ + c_i x)²·2, i < 8: H = diag(1, 2), strongly convex.
struct Sum {
    upper: Level,
    lower: Level,
    /// x is at least this.
    floor: Option<f64>,
    /// Both coordinates of y are at most this.
    ceiling: Option<f64>,
}
#[derive(Clone, Copy)]
enum Level {
    Upper,
    Lower,
}

impl Level {
    fn mean<const N: usize>(s: Sample, term: impl Fn(f64) -> [f64; N]) -> V {
        let list: Vec<u64> = if let Sample::Batch(list) = s { list.to_vec() } else { (0..8).collect() };
        let mut sum = vec![0.0; N];
        for i in &list {
            // −1 … 1 in eight equal steps: the mean over all is 0
            for (sum, term) in sum.iter_mut().zip(term(*i as f64 / 3.5 - 1.0)) {
                *sum += term / list.len() as f64;
            }
        }
        sum
    }
}
impl Objective<V, V> for Level {
    fn value(&self, x: &V, y: &V, s: Sample) -> OracleResult<f64> {
        Ok(match self {
            Self::Upper => Self::mean(s, |a| {
                [0.5 * (y[0] - 1.0 - a).powi(2) + 0.5 * (y[1] - a).powi(2) + 0.5 * x[0] * x[0]]
            })[0],
            Self::Lower => {
                Self::mean(s, |a| [0.5 * (y[0] - x[0] - a).powi(2) + (y[1] + (1.0 + a) * x[0]).powi(2)])[0]
            }
        })
    }
    fn grad_x(&self, x: &V, y: &V, s: Sample) -> OracleResult<V> {
        Ok(match self {
            Self::Upper => vec![x[0]],
            Self::Lower => Self::mean(s, |a| [x[0] + a - y[0] + 2.0 * (1.0 + a) * (y[1] + (1.0 + a) * x[0])]),
        })
    }
    fn grad_y(&self, x: &V, y: &V, s: Sample) -> OracleResult<V> {
        Ok(match self {
            Self::Upper => Self::mean(s, |a| [y[0] - 1.0 - a, y[1] - a]),
            Self::Lower => Self::mean(s, |a| [y[0] - x[0] - a, 2.0 * (y[1] + (1.0 + a) * x[0])]),
        })
    }
    fn n_samples(&self) -> Option<u64> {
        Some(8)
    }
}
impl SecondOrder<V, V> for Level {
    fn hvp_yy(&self, _x: &V, _y: &V, v: &V, _s: Sample) -> OracleResult<V> {
        Ok(vec![v[0], 2.0 * v[1]])
    }
    fn jvp_xy(&self, _x: &V, _y: &V, v: &V, s: Sample) -> OracleResult<V> {
        Ok(Self::mean(s, |a| [-v[0] + 2.0 * (1.0 + a) * v[1]]))
    }
}
impl Problem for Sum {
    type X = V;
    type Y = V;
    type Upper = Level;
    type Lower = Level;
    fn upper(&self) -> &Level {
        &self.upper
    }
    fn lower(&self) -> &Level {
        &self.lower
    }
    fn start(&self, _seed: u64) -> (V, V) {
        (vec![2.0], vec![0.0, 0.0])
    }
    fn prox_x(&self, x: &mut V, _step: f64) {
        x[0] = x[0].max(self.floor.unwrap_or(f64::NEG_INFINITY));
    }
    fn is_x_constrained(&self) -> bool {
        self.floor.is_some()
    }
    fn prox_y(&self, y: &mut V, _step: f64) {
        for y in y {
            *y = y.min(self.ceiling.unwrap_or(f64::INFINITY));
        }
    }
}

/// y*(x) = (x, −x): F = ½(x − 1)² + ½x² + ½x² + constant, minimised at x = 1/3.
const SUM_MINIMISER: f64 = 1.0 / 3.0;

fn sum() -> Sum {
    Sum { upper: Level::Upper, lower: Level::Lower, floor: None, ceiling: None }
}

/// Ends near the minimiser with batches of 2, touches two samples a call, and resumes to the same state.
fn check_stochastic<S: Solver<Sum>>(solver: &S, n: u64, within: f64) {
    let problem = sum();
    let whole = Run::new(&problem, solver).budget(steps(n)).start(4).unwrap();
    let error = (whole.x[0] - SUM_MINIMISER).abs();
    assert!(error <= within, "{}: {error:e}", S::NAME);
    // another seed has other batches
    let early = |seed| Run::new(&problem, solver).budget(steps(20)).start(seed).unwrap().x;
    assert_ne!(early(4), early(5), "{}", S::NAME);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    Run::new(&problem, solver).budget(steps(11)).checkpoint(&path, 1).start(4).unwrap();
    let at: Checkpoint<V, V, S::State> = Checkpoint::read(&path, S::NAME, "unnamed").unwrap();
    let resumed = Run::new(&problem, solver).budget(steps(n)).resume(at).unwrap();
    assert_eq!((resumed.counts, resumed.x), (whole.counts, whole.x), "{}", S::NAME);
}

#[test]
fn stochastic_forms_reach_the_minimiser_and_resume() {
    let batch = Some(2);
    let bsa = Ba {
        inverse: Inverse::RandomNeumann,
        growth: Growth::Constant,
        lower_steps: 3,
        step_v: 0.4,
        decay: 0.5,
        batch,
        ..Ba::default()
    };
    // steps that fall like 1/√k leave a noise of about √step: 0.1/√4000 = 1.6e-3 gives some per cent
    check_stochastic(&bsa, 4_000, 0.15);
    check_stochastic(&Soba { batch, ..Soba::default() }, 4_000, 0.1);
    check_stochastic(&Soba { batch, averaging: 0.1, ..Soba::default() }, 4_000, 0.1);
    for momentum in [Momentum::MovingAverage, Momentum::Storm] {
        check_stochastic(&Mgbio { momentum, mix: 0.5, batch, ..Mgbio::default() }, 4_000, 0.1);
    }
    let adavspag = Adapag {
        estimator: Estimator::Spider,
        batch,
        period: 5,
        step_x: 0.01,
        step_y: 0.02,
        ..Adapag::default()
    };
    check_stochastic(&adavspag, 4_000, 0.1);
}

#[test]
fn a_batch_touches_its_samples_alone() {
    let problem = sum();
    let report =
        Run::new(&problem, &Soba { batch: Some(2), ..Soba::default() }).budget(steps(5)).start(0).unwrap();
    assert_eq!((report.counts.upper.samples, report.counts.lower.samples), (5 * 2 * 2, 5 * 3 * 2));
    let report = Run::new(&problem, &Soba::default()).budget(steps(5)).start(0).unwrap();
    assert_eq!((report.counts.upper.samples, report.counts.lower.samples), (5 * 2 * 8, 5 * 3 * 8));
}

/// Runs of `n` steps and of `stop` and then n − stop steps leave the same bytes.
fn check_resume<S: Solver<Zoo>>(solver: &S) {
    let zoo = tiny();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let whole = Run::new(&zoo, solver).budget(steps(9)).start(5).unwrap();
    for stop in 1..9 {
        Run::new(&zoo, solver).budget(steps(stop)).checkpoint(&path, 1).start(5).unwrap();
        let resumed = Run::new(&zoo, solver).budget(steps(9)).resume_file(&path).unwrap();
        assert_eq!(resumed.counts, whole.counts, "{} stopped at {stop}", S::NAME);
        let bytes = |state: &S::State| serde_json::to_string(state).unwrap();
        assert_eq!(
            bytes(&resumed.checkpoint.unwrap().state),
            bytes(&whole.checkpoint.as_ref().unwrap().state),
            "{} stopped at {stop}",
            S::NAME
        );
    }
}

#[test]
fn resuming_equals_not_stopping() {
    check_resume(&Ba { accelerated: true, ..Ba::default() });
    check_resume(&Ba { inverse: Inverse::RandomNeumann, ..Ba::default() });
    check_resume(&Galet::default());
    check_resume(&Mgbio::default());
    check_resume(&Mgbio { momentum: Momentum::Storm, ..Mgbio::default() });
    check_resume(&Adapag { estimator: Estimator::Spider, period: 3, ..Adapag::default() });
    check_resume(&Hjfbio { first_v: Some(FirstV::Uniform), ..Hjfbio::default() });
    check_resume(&ResidualCorrected::default());
    check_resume(&Lancbio { subspace: 2, growth_period: 2, growth: 1.5, ..Lancbio::default() });
    check_resume(&Subbio::default());
    check_resume(&Soba { averaging: 0.5, ..Soba::default() });
}

fn check_constrained<S: Solver<Sum>>(solver: &S) {
    let problem = Sum { floor: Some(0.5), ..sum() };
    let report = Run::new(&problem, solver).budget(steps(2_000)).start(0).unwrap();
    // F is convex, and its minimiser lies below the floor
    assert_eq!(report.x, [0.5], "{}", S::NAME);
    // the prox-gradients vanish there
    assert!(report.last.unwrap().stationarity < 1e-9, "{}", S::NAME);
}

fn check_lower_constraint<S: Solver<Sum>>(solver: &S) {
    let problem = Sum { ceiling: Some(0.1), ..sum() };
    let mut largest = f64::NEG_INFINITY;
    let observer = |event: &Event<Sum>| {
        largest = event.y.iter().copied().fold(largest, f64::max);
        ControlFlow::Continue(())
    };
    let report = Run::new(&problem, solver).budget(steps(200)).observe(observer).start(0).unwrap();
    // the lower solution of x > 0.1 lies beyond the ceiling
    assert!(report.x[0] > 0.1, "{}", S::NAME);
    assert_eq!(largest, 0.1, "{}", S::NAME);
}

#[test]
fn constraints_of_x_and_y_are_kept_by_their_prox() {
    fn check<S: Solver<Sum>>(solver: &S) {
        check_constrained(solver);
        check_lower_constraint(solver);
    }
    check(&Ba::default());
    check(&Galet { step_v: 0.2, v_start: VStart::Warm, ..Galet::default() });
    check(&Mgbio::default());
    check(&Adapag::default());
    check(&Hjfbio::default());
    check(&ResidualCorrected { step_v: 0.2, step_residual: 0.0, ..ResidualCorrected::default() });
    check(&Lancbio { subspace: 1, growth: 1.0, ..Lancbio::default() });
    check(&Subbio { step_v: 0.2, ..Subbio::default() });
    check(&Soba { decay: 0.0, ..Soba::default() });
    check(&Saba::default());
    check(&Saba { batch: Some(3), ..Saba::default() });
    check(&Srba { batch: Some(2), ..Srba::default() });
}

/// The differing texts of HJFBiO differ in the first v, the ball and the radius of the differences.
#[test]
fn variants_of_hjfbio_set_what_is_not_given() {
    let first_v = |solver: &Hjfbio| {
        let report = Run::new(&tiny(), solver).budget(steps(0)).start(3).unwrap();
        report.checkpoint.unwrap().state.v
    };
    let of = |variant| Hjfbio { variant, ..Hjfbio::default() };
    assert_eq!(first_v(&of(Variant::Library)), [0.0; 3]);
    assert_eq!(first_v(&of(Variant::AsPublished)), [0.0; 3]);
    let released = first_v(&of(Variant::AsReleased));
    assert!(released.iter().all(|v| (0.0..1.0).contains(v)) && released[0] != released[1], "{released:?}");
    assert_eq!(of(Variant::AsPublished).projections(), Projections::Published);
    assert_eq!(of(Variant::AsReleased).projections(), Projections::None);
    // what is given stands
    let given = Hjfbio {
        first_v: Some(FirstV::Zero),
        projections: Some(Projections::Published),
        ..of(Variant::AsReleased)
    };
    assert_eq!((first_v(&given), given.projections()), (vec![0.0; 3], Projections::Published));
    // on a quadratic g the radius is seen in the rounding alone
    let after = |variant| Run::new(&tiny(), &of(variant)).budget(steps(50)).start(3).unwrap().x;
    let (library, published) = (after(Variant::Library), after(Variant::AsPublished));
    assert!(library != published && library.iter().zip(&published).all(|(a, b)| (a - b).abs() < 1e-9));
}

#[test]
fn entropic_steps_keep_sum_and_sign_and_end_where_the_gradient_is_level() {
    let zoo = tiny();
    let solver =
        Mgbio { mirror: MirrorMap::Entropy, mu: 0.5, smoothness: 1.0, step_x: 0.5, ..Mgbio::default() };
    let report = Run::new(&zoo, &solver).budget(steps(5_000)).start(0).unwrap();
    let x = &report.x;
    assert!((x.iter().sum::<f64>() - 3.0).abs() <= 1e-12 && x.iter().all(|x| *x >= 0.0), "{x:?}");
    // on the simplex of sum 3: equal slopes where x is positive, larger ones where it is 0
    let slope = zoo.closed_form().unwrap().selected_gradient(x, &report.y).unwrap();
    let least = slope.iter().copied().fold(f64::INFINITY, f64::min);
    for (x, slope) in x.iter().zip(&slope) {
        assert!(x * (slope - least) <= 1e-9, "{x} {slope} {least}");
    }
}
