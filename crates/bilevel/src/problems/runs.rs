//! Named runs: a problem with an anchor, a start, and the minimiser of F that a solver has to find.
//!
//! The minimisers, values and traps are the printed ones; `tests/zoo_runs.rs` checks them against the closed forms.

use super::{
    Zoo, chain::Chain, circle::Circle, factorisation::Factorisation, least_squares::LeastSquares,
    secular::Secular, sources::Sources, torus::Torus,
};
use crate::solvers::HyperObjective;

/// A run with a known end.
#[derive(Clone, Debug)]
pub struct NamedRun {
    /// Its name, for instance `R6`.
    pub name: &'static str,
    /// What it shows, in one line.
    pub summary: &'static str,
    /// The anchored problem, which starts at the first of `starts` and takes its lower starts from `seeds`.
    pub problem: Zoo,
    /// Which hyper-objective is minimised.
    pub target: HyperObjective,
    /// Upper starting points.
    pub starts: Vec<Vec<f64>>,
    /// Lower starting points, given to the solver together.
    pub seeds: Vec<Vec<f64>>,
    /// The minimisers of F; any of them is right.
    pub minimisers: Vec<Vec<f64>>,
    /// F at the minimisers.
    pub value: f64,
    /// Where a solver without exploration stops.
    pub traps: Vec<Trap>,
}

/// A stationary point of one branch function where F is lower and not stationary.
#[derive(Clone, Debug)]
pub struct Trap {
    /// Upper start.
    pub x_start: Vec<f64>,
    /// Lower start, on the wrong branch.
    pub y_start: Vec<f64>,
    /// Where local selection stops.
    pub x: Vec<f64>,
    /// The value claimed there.
    pub claimed: f64,
    /// F there.
    pub true_value: f64,
    /// |∇F| there.
    pub true_gradient_norm: f64,
    /// Smallest eigenvalue of M_T on the wrong branch: it is a strict minimiser of f on S; `None` where not printed.
    pub curvature: Option<f64>,
}

impl NamedRun {
    fn new(
        name: &'static str,
        summary: &'static str,
        problem: Zoo,
        starts: &[&[f64]],
        seeds: &[&[f64]],
        minimisers: &[&[f64]],
        value: f64,
    ) -> Self {
        let lists = |points: &[&[f64]]| points.iter().map(|point| point.to_vec()).collect::<Vec<_>>();
        let (starts, seeds) = (lists(starts), lists(seeds));
        Self {
            name,
            summary,
            problem: problem.starting_at(starts[0].clone()).with_seeds(seeds.clone()),
            target: HyperObjective::Optimistic,
            starts,
            seeds,
            minimisers: lists(minimisers),
            value,
            traps: Vec::new(),
        }
    }
}

/// Signs of the branches of R6, with the row of each: signs, x, claimed value, F, |∇F|, smallest curvature.
type TorusRow = ([f64; 3], [f64; 3], f64, f64, f64, f64);
const TORUS_ROWS: [TorusRow; 8] = [
    (
        [-1.0, -1.0, -1.0],
        [1.631197299034, 1.549113236176, 1.42122932892],
        -4.24062721362,
        -4.24062721362,
        0.0,
        3.1995,
    ),
    (
        [1.0, 1.0, 1.0],
        [0.7111142000352, 0.6394895819699, 0.5334368935618],
        2.646329322696,
        -1.273153823,
        3.86681,
        1.3223,
    ),
    (
        [1.0, 1.0, -1.0],
        [0.8303844280907, 0.7592309438671, 1.05985328007],
        0.9844584872713,
        -2.39073323,
        3.33959,
        1.2216,
    ),
    (
        [1.0, -1.0, 1.0],
        [0.8822529372311, 1.128147254168, 0.6570559240976],
        0.773191507751,
        -2.493363104,
        3.31897,
        1.1793,
    ),
    (
        [1.0, -1.0, -1.0],
        [1.016044005258, 1.281536561698, 1.21955840566],
        -1.223411680256,
        -3.455444685,
        2.57273,
        1.0750,
    ),
    (
        [-1.0, 1.0, 1.0],
        [1.215504741178, 0.8170213418918, 0.6611767964779],
        0.5799062699666,
        -2.538746338,
        3.27754,
        1.2326,
    ),
    (
        [-1.0, 1.0, -1.0],
        [1.370404786562, 0.9520588617154, 1.225206192911],
        -1.42853828222,
        -3.498063925,
        2.50733,
        1.1240,
    ),
    (
        [-1.0, -1.0, 1.0],
        [1.445987283666, 1.36439436797, 0.8051120885629],
        -1.806211711692,
        -3.51763164,
        2.36964,
        1.2425,
    ),
];

/// The torus of R6: rᵢ² = 1 + 0.2xᵢ², k = 3, p = 4.
const R6_TORUS: (usize, usize) = (3, 4);
const R6_START: [f64; 3] = [0.5, 0.5, 0.5];

/// The lower start of R6 on the branch with these signs: its minimiser on S, every coordinate raised by 0.05.
pub fn torus_seed(signs: &[f64; 3]) -> Vec<f64> {
    let torus = Torus::square_quadratic(R6_TORUS.0, R6_TORUS.1);
    torus.branch(&R6_START, signs).point.iter().map(|y| y + 0.05).collect()
}

fn r6() -> NamedRun {
    let (k, padding) = R6_TORUS;
    let best = &TORUS_ROWS[0];
    let mut run = NamedRun::new(
        "R6",
        "torus with eight branches: local selection from a wrong one stops at its own false minimiser",
        Zoo::new(Torus::square_quadratic(k, padding)).anchored(3.0, [1.2, 1.0, 0.8]),
        &[&R6_START],
        &[&torus_seed(&[1.0, 1.0, 1.0])],
        &[&best.1],
        best.2,
    );
    run.traps = TORUS_ROWS[1..]
        .iter()
        .map(|&(signs, x, claimed, true_value, true_gradient_norm, curvature)| Trap {
            x_start: R6_START.to_vec(),
            y_start: torus_seed(&signs),
            x: x.to_vec(),
            claimed,
            true_value,
            true_gradient_norm,
            curvature: Some(curvature),
        })
        .collect();
    run
}

/// Every run.
pub fn all() -> Vec<NamedRun> {
    let mut r2 = NamedRun::new(
        "R2",
        "circle started on the wrong branch: without exploration it ends at x = 0.3 with a false value",
        Zoo::new(Circle::default()).anchored(2.0, [0.8]),
        &[&[0.5]],
        &[&[1.0, 0.0]],
        &[&[1.3]],
        -1.05,
    );
    r2.traps = vec![Trap {
        x_start: vec![0.5],
        y_start: vec![1.0, 0.0],
        x: vec![0.3],
        claimed: 0.55,
        true_value: -0.05,
        true_gradient_norm: 2.0,
        curvature: Some(1.7),
    }];
    let r2k = NamedRun::new(
        "R2k",
        "circle started at a tie: x = 0 is a kink and a maximum, and must be left",
        Zoo::new(Circle::default()).anchored(2.0, [0.0]),
        &[&[0.0]],
        &[&[1.0, 0.2]],
        &[&[0.5], &[-0.5]],
        -0.25,
    );
    let mut r2p = NamedRun::new(
        "R2p",
        "pessimistic circle: the minimiser is a convex kink with weights 0.9 and 0.1",
        Zoo::new(Circle::concave()).anchored(1.0, [0.8]),
        &[&[0.7], &[-1.3]],
        &[&[1.0, 0.1], &[-1.0, 0.1]],
        &[&[0.0]],
        0.32,
    );
    r2p.target = HyperObjective::Pessimistic;
    let r3 = NamedRun::new(
        "R3",
        "over-parameterised least squares with two global minimisers",
        Zoo::new(LeastSquares),
        &[&[0.2, -0.5], &[-1.0, 0.0]],
        &[&[0.0; 4]],
        &[&[1.0, -0.5], &[-1.5, 0.75]],
        0.0,
    );
    let r4 = NamedRun::new(
        "R4",
        "deep chain with eight sign copies of the selection",
        Zoo::new(Chain { links: 4 }).anchored(2.0, [3.0]),
        &[&[2.0]],
        &[&[1.0, 1.0, 1.0, 2.0]],
        &[&[2.2645930503614256]],
        7.2024132509327547,
    );
    let r8 = NamedRun::new(
        "R8",
        "matrix factorisation: an orbit of selections with one gradient",
        Zoo::new(Factorisation).anchored(1.0, [4.0, 1.0, -0.6, 3.0]),
        &[&[2.0, 0.5, -0.3, 1.0]],
        &[&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]],
        &[&[2.0502829868562654, 0.55435039699571781, -0.15435039699571781, 1.0502829868562654]],
        10.361058456812994,
    );
    let r9 = NamedRun::new(
        "R9",
        "weights of two data sources with conflicting labels",
        Zoo::new(Sources::default()),
        &[&[0.0]],
        &[&[0.0; 5]],
        &[&[0.56452980273785174]],
        0.016875,
    );
    let mut r10 = NamedRun::new(
        "R10",
        "indefinite quadratic on a sphere started on the wrong branch",
        Zoo::new(Secular::square_quadratic()).anchored(4.0, [0.5, -0.4, 0.8]),
        &[&[0.5, -0.4, 0.8]],
        &[&[1.0, 0.0, 0.0]],
        &[&[0.76783329393082952, -0.42884580808063989, 0.9750947058075038]],
        -1.9294155799352737,
    );
    r10.traps = vec![Trap {
        x_start: vec![0.5, -0.4, 0.8],
        y_start: vec![1.0, 0.0, 0.0],
        x: vec![0.23656223608994971, -0.43959604703296682, 0.93145180672520365],
        claimed: -0.86631427806924252,
        true_value: -1.3663837509922,
        true_gradient_norm: 2.11469,
        curvature: None,
    }];
    vec![r2, r2k, r2p, r3, r4, r6(), r8, r9, r10]
}

/// The run of this name, upper or lower case.
pub fn by_name(name: &str) -> Option<NamedRun> {
    all().into_iter().find(|run| run.name.eq_ignore_ascii_case(name))
}
