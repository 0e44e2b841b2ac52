//! The zoo by name, for the command and for tests that go over all of it.

use super::{
    Sum, Zoo,
    bome_coreset::BomeCoreset,
    bome_minimax::BomeMinimax,
    bome_non_singleton::BomeNonSingleton,
    cases,
    chain::Chain,
    circle::Circle,
    curved_graph::CurvedGraph,
    dropped_value_function::DroppedValueFunction,
    factorisation::Factorisation,
    failures::{DecayingSpectrum, DoubleWell, FlatValley, Unbounded},
    hoelder::Hoelder,
    lancbio_synthetic::LancbioSynthetic,
    least_squares::{LargeLeastSquares, LeastSquares},
    matrix_sensing::{MatrixSensing, Sizes},
    parameters::{Parameter, Parameters, Values},
    pbgd_toy::{PbgdToy, ToyGradient},
    pl_game::{Instance, PlGame, Variant},
    quadratics::{self, Quadratics},
    rotating_manifold::RotatingManifold,
    runs,
    secular::Secular,
    sources::Sources,
    sphere::Sphere,
    stiefel::Stiefel,
    torus::Torus,
};
use crate::{error::ConfigError, names};

/// One problem of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Other names, as the table of known answers numbers them.
    pub aliases: &'static [&'static str],
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where the problem and its answer are from.
    pub source: &'static str,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    build: fn(&Values) -> Result<Zoo, ConfigError>,
}

impl Entry {
    /// The problem with these parameters, the others at their defaults.
    pub fn build(&self, parameters: &Parameters) -> Result<Zoo, ConfigError> {
        (self.build)(&Values::new(self.name, self.parameters, parameters)?)
    }
    /// The default upper starting point at the default parameters.
    ///
    /// # Panics
    /// Never: the defaults are allowed, as a test asks of every entry.
    pub fn default_x(&self) -> Vec<f64> {
        let zoo = self.build(&Parameters::new()).expect("the defaults of a registered problem are allowed");
        zoo.formulas().default_x()
    }
}

/// Parameters that every random PŁ game has.
const D: Parameter = Parameter::whole("d", 50.0, 1.0, 2000.0, "dimension of x and of y");
const N: Parameter = Parameter::whole("n", 2500.0, 1.0, 1e6, "samples that the matrices are means of");
const MU: Parameter =
    Parameter::real("mu", 0.1, 1e-6, 1e3, "least non-zero eigenvalue of the population of Q");
const SMOOTHNESS: Parameter = Parameter::real("smoothness", 1.0, 1e-6, 1e3, "largest eigenvalue of it");
const SEED: Parameter = Parameter::whole("seed", 0.0, 0.0, 9e15, "seed of the data");
const RHO: Parameter = Parameter::real("rho", 0.5, 1e-6, 1e6, "weight of the pull of y to a centre in f");
const SHIFT: Parameter = Parameter::real("shift", 0.05, 0.0, 1e6, "multiple of the identity added to P");
const LAMBDA: Parameter =
    Parameter::real("lambda", 10.0, 1e-6, 1e12, "smallest multiplier of penalty methods to be run");
const fn rank(default: f64) -> Parameter {
    Parameter::whole("l", default, 1.0, 2000.0, "rank of P and Q, at most d")
}
const fn scale(default: f64) -> Parameter {
    Parameter::real("scale", default, 1e-9, 1e6, "norm of R1 and R2")
}
/// A random PŁ game; parameters that the variant does not declare are not used by it.
fn pl_game(variant: Variant, v: &Values) -> Result<Zoo, ConfigError> {
    let or = |name: &str, unused: f64| v.get(name).unwrap_or(unused);
    let instance = Instance {
        d: v.whole("d"),
        l: v.whole("l"),
        n: v.whole("n"),
        mu: v.real("mu"),
        smoothness: v.real("smoothness"),
        scale: or("scale", 1.0),
        shift: or("shift", 0.0),
        rho: or("rho", 1.0),
        lambda: or("lambda", 1.0),
        seed: v.whole("seed") as u64,
    };
    Ok(Zoo::new(PlGame::random(variant, &instance)?))
}

fn quadratics(v: &Values) -> Result<Zoo, ConfigError> {
    let lower = v.whole("n");
    let sizes = quadratics::Sizes {
        m: v.whole("m"),
        d: v.whole("d"),
        upper: match v.whole("upper") {
            0 => lower,
            given => given,
        },
        lower,
        mu: v.real("mu"),
        smoothness: v.real("smoothness"),
        cross: v.real("cross"),
        seed: v.whole("seed") as u64,
    };
    Ok(Zoo::new(Sum(Quadratics::new(sizes)?)))
}

fn matrix_sensing(v: &Values) -> Result<Zoo, ConfigError> {
    let samples = match v.whole("samples") {
        0 => 20 * v.whole("d"),
        given => given,
    };
    let train = match v.whole("train") {
        0 => samples * 2 / 5,
        given => given,
    };
    ConfigError::require(
        (1..samples).contains(&train),
        "train",
        train,
        &format!("give 1 to {}, so that something is left to validate with", samples - 1),
    )?;
    let sizes = Sizes {
        d: v.whole("d"),
        rank: v.whole("rank"),
        train,
        validation: samples - train,
        noise: v.real("noise"),
        seed: v.whole("seed") as u64,
    };
    Ok(Zoo::new(MatrixSensing::new(sizes)?))
}

const CLOSED_FORM: &str = "closed form of this library's zoo";
const PL_GAME: &str = "arXiv 2407.17823 (slides) and the closed forms of this library's zoo";
const BOME: &str = "released code of BOME, arXiv 2209.08709";
const FAILURE: &str = "failure case of this library's zoo";

const ENTRIES: &[Entry] = &[
    Entry {
        name: "sphere",
        aliases: &["T1"],
        summary: "linear f on a sphere whose radius depends on x",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Sphere)),
    },
    Entry {
        name: "circle",
        aliases: &["T2"],
        summary: "two competing minimisers on a circle; F = −|x| has a kink",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Circle::default())),
    },
    Entry {
        name: "circle-concave",
        aliases: &["T2p"],
        summary: "circle for the pessimistic target; F_max = |x|",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Circle::concave())),
    },
    Entry {
        name: "circle-many-kinks",
        aliases: &["T2k"],
        summary: "F = −|sin ωx|, a kink at every multiple of π/ω",
        source: CLOSED_FORM,
        parameters: &[Parameter::real("omega", 5.0, 1e-3, 1e3, "frequency ω")],
        build: |v| Ok(Zoo::new(Circle::many_kinks(v.real("omega")))),
    },
    Entry {
        name: "least-squares",
        aliases: &["T3"],
        summary: "over-parameterised least squares, 2 equations in 4 unknowns",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(LeastSquares)),
    },
    Entry {
        name: "least-squares-large",
        aliases: &["T3-large"],
        summary: "least squares with n equations in 2n unknowns and chosen conditioning",
        source: CLOSED_FORM,
        parameters: &[
            Parameter::whole("n", 200.0, 2.0, 1e6, "number of equations"),
            Parameter::real(
                "condition",
                100.0,
                1.0,
                1e12,
                "condition number of the lower Hessian on its range",
            ),
        ],
        build: |v| Ok(Zoo::new(LargeLeastSquares::new(v.whole("n"), v.real("condition")))),
    },
    Entry {
        name: "chain",
        aliases: &["T4"],
        summary: "deep linear chain: a product of scalars fitted to x",
        source: CLOSED_FORM,
        parameters: &[Parameter::whole("links", 4.0, 2.0, 64.0, "number of factors")],
        build: |v| Ok(Zoo::new(Chain { links: v.whole("links") })),
    },
    Entry {
        name: "curved-graph-a",
        aliases: &["T5a"],
        summary: "concave f that is convex along the curved S",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(CurvedGraph::a())),
    },
    Entry {
        name: "curved-graph-b",
        aliases: &["T5b"],
        summary: "convex f that is less convex along the curved S",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(CurvedGraph::b())),
    },
    Entry {
        name: "curved-graph-c",
        aliases: &["T5c"],
        summary: "convex f that is unbounded below along the curved S",
        source: FAILURE,
        parameters: &[],
        build: |_| Ok(Zoo::new(CurvedGraph::c())),
    },
    Entry {
        name: "torus",
        aliases: &["T6"],
        summary: "k circles and p padding coordinates: 2^k local minimisers on S",
        source: CLOSED_FORM,
        parameters: &[
            Parameter::whole("k", 3.0, 1.0, 64.0, "number of circles, the dimension of S"),
            Parameter::whole("p", 4.0, 0.0, 1e7, "number of padding coordinates"),
        ],
        build: |v| Ok(Zoo::new(Torus::new(v.whole("k"), v.whole("p")))),
    },
    Entry {
        name: "torus-square",
        aliases: &["T6s"],
        summary: "the torus with r² = 1 + 0.2x², whose anchored branch functions are convex",
        source: CLOSED_FORM,
        parameters: &[
            Parameter::whole("k", 3.0, 1.0, 64.0, "number of circles, the dimension of S"),
            Parameter::whole("p", 4.0, 0.0, 1e7, "number of padding coordinates"),
        ],
        build: |v| Ok(Zoo::new(Torus::square_quadratic(v.whole("k"), v.whole("p")))),
    },
    Entry {
        name: "stiefel",
        aliases: &["T7"],
        summary: "Procrustes problem on scaled orthonormal frames",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Stiefel)),
    },
    Entry {
        name: "factorisation",
        aliases: &["T8"],
        summary: "matrix factorisation: an orbit of selections, F smooth",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Factorisation)),
    },
    Entry {
        name: "sources",
        aliases: &["T9"],
        summary: "weights of two data sources with conflicting labels",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Sources::default())),
    },
    Entry {
        name: "sources-agreeing",
        aliases: &[],
        summary: "two data sources with equal labels: x has no signal",
        source: FAILURE,
        parameters: &[],
        build: |_| Ok(Zoo::new(Sources::agreeing())),
    },
    Entry {
        name: "secular",
        aliases: &["T10"],
        summary: "indefinite quadratic on a sphere (secular equation)",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Secular::default())),
    },
    Entry {
        name: "secular-square",
        aliases: &["T10s"],
        summary: "the secular problem with r² = 1 + 0.2x₃²",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Secular::square_quadratic())),
    },
    Entry {
        name: "hoelder-quartic",
        aliases: &["T11"],
        summary: "F' = −x^(1/3): degenerate selection at x = 0",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Hoelder::quartic())),
    },
    Entry {
        name: "hoelder-flat",
        aliases: &["T11-flat"],
        summary: "∇F without any Hölder exponent at x = 0",
        source: CLOSED_FORM,
        parameters: &[],
        build: |_| Ok(Zoo::new(Hoelder::Flat)),
    },
    Entry {
        name: "unbounded",
        aliases: &[],
        summary: "lower level without a minimum",
        source: FAILURE,
        parameters: &[],
        build: |_| Ok(Zoo::new(Unbounded)),
    },
    Entry {
        name: "decaying-spectrum",
        aliases: &[],
        summary: "lower Hessian without a gap: the rank cannot be told",
        source: FAILURE,
        parameters: &[],
        build: |_| Ok(Zoo::new(DecayingSpectrum)),
    },
    Entry {
        name: "flat-valley",
        aliases: &[],
        summary: "quartic lower level: a single minimiser where the Hessian is singular",
        source: FAILURE,
        parameters: &[],
        build: |_| Ok(Zoo::new(FlatValley)),
    },
    Entry {
        name: "double-well",
        aliases: &[],
        summary: "lower level with a false local minimum",
        source: FAILURE,
        parameters: &[],
        build: |_| Ok(Zoo::new(DoubleWell)),
    },
    Entry {
        name: "rotating-manifold",
        aliases: &[],
        summary: "least squares whose affine set of solutions turns with x",
        source: "reliability test for implicit differentiation, data from seeded normals",
        parameters: &[
            Parameter::whole("rows", 5.0, 1.0, 1e4, "number of equations, below unknowns"),
            Parameter::whole("unknowns", 10.0, 2.0, 1e5, "dimension of y"),
            Parameter::whole("outer", 3.0, 1.0, 1e3, "dimension of x"),
            Parameter::whole("seed", 1.0, 0.0, 9e15, "seed of the data"),
        ],
        build: |v| {
            let (rows, unknowns) = (v.whole("rows"), v.whole("unknowns"));
            let remedy = "a manifold of solutions needs fewer rows than unknowns";
            ConfigError::require(rows < unknowns, "rows", rows, remedy)?;
            Ok(Zoo::new(RotatingManifold::new(rows, unknowns, v.whole("outer"), v.whole("seed") as u64)))
        },
    },
    Entry {
        name: "pl-game-literal",
        aliases: &[],
        summary: "PŁ game as printed in the slides: its lower level is unbounded below",
        source: PL_GAME,
        parameters: &[D, rank(48.0), N, MU, SMOOTHNESS, SEED],
        build: |v| pl_game(Variant::Literal, v),
    },
    Entry {
        name: "pl-game-v1",
        aliases: &[],
        summary: "PŁ game, compatible: f is constant on S",
        source: PL_GAME,
        parameters: &[D, rank(48.0), N, MU, SMOOTHNESS, scale(0.1), LAMBDA, SEED],
        build: |v| pl_game(Variant::V1, v),
    },
    Entry {
        name: "pl-game-v2",
        aliases: &[],
        summary: "PŁ game whose selected and optimistic targets differ",
        source: PL_GAME,
        parameters: &[D, rank(40.0), N, MU, SMOOTHNESS, scale(0.3), SHIFT, RHO, LAMBDA, SEED],
        build: |v| pl_game(Variant::V2, v),
    },
    Entry {
        name: "pl-game-v3",
        aliases: &[],
        summary: "PŁ game V2 with f constant on S: no part of ∇f outside the range of H",
        source: PL_GAME,
        parameters: &[D, rank(40.0), N, MU, SMOOTHNESS, scale(0.3), SHIFT, RHO, LAMBDA, SEED],
        build: |v| pl_game(Variant::V3, v),
    },
    Entry {
        name: "matrix-sensing",
        aliases: &[],
        summary: "a low-rank matrix from linear measurements, its last column below",
        source: "arXiv 2407.17823 (slides)",
        parameters: &[
            Parameter::whole("d", 20.0, 2.0, 1000.0, "rows of the factor"),
            Parameter::whole("rank", 3.0, 2.0, 100.0, "columns of the factor, all but one of them above"),
            Parameter::whole("samples", 0.0, 0.0, 1e6, "measurements in all; 0 for 20 d"),
            Parameter::whole("train", 0.0, 0.0, 1e6, "those of the lower level; 0 for two in five"),
            Parameter::real("noise", 0.0, 0.0, 1e6, "deviation of the noise"),
            SEED,
        ],
        build: matrix_sensing,
    },
    Entry {
        name: "lancbio-synthetic",
        aliases: &[],
        summary: "a strongly convex lower level of condition number 1e5",
        source: "released code of LancBiO, arXiv 2404.03331",
        parameters: &[
            Parameter::whole("n", 100.0, 1.0, 1e7, "dimension of x and of y"),
            Parameter::real("gamma", 0.5, 0.0, 0.999, "weight of the sines, below 1"),
            Parameter::real("smoothness", 1e5, 1.0, 1e12, "largest eigenvalue of G; the smallest is 1"),
            SEED,
        ],
        build: |v| {
            let [n, seed] = ["n", "seed"].map(|name| v.whole(name));
            Ok(Zoo::new(LancbioSynthetic::new(n, v.real("gamma"), v.real("smoothness"), seed as u64)?))
        },
    },
    Entry {
        name: "quadratics",
        aliases: &[],
        summary: "two means of quadratics of rank one, for solvers that take batches",
        source: "benchopt/benchmark_bilevel (simulated)",
        parameters: &[
            Parameter::whole("n", 1024.0, 1.0, 1e7, "terms of the lower level, at least d"),
            Parameter::whole("upper", 0.0, 0.0, 1e7, "terms of the upper level; 0 for n"),
            Parameter::whole("m", 100.0, 1.0, 2000.0, "dimension of x"),
            Parameter::whole("d", 100.0, 1.0, 2000.0, "dimension of y"),
            Parameter::real("mu", 0.1, 1e-6, 1e3, "least eigenvalue of A, and of B but for one that is 0"),
            Parameter::real("smoothness", 1.0, 1e-6, 1e3, "largest eigenvalue of A and B"),
            Parameter::real("cross", 0.1, 0.0, 1e3, "singular values of the mean of C"),
            SEED,
        ],
        build: quadratics,
    },
    Entry {
        name: "pl-game-v2-tiny",
        aliases: &[],
        summary: "PŁ game V2 in three dimensions without random numbers",
        source: PL_GAME,
        parameters: &[],
        build: |_| Ok(Zoo::new(PlGame::tiny())),
    },
    Entry {
        name: "pbgd-toy",
        aliases: &[],
        summary: "toy of V-PBGD: three minimisers of F on [0, 3]",
        source: "released code of V-PBGD, arXiv 2302.05185",
        parameters: &[Parameter::whole(
            "released_gradient",
            0.0,
            0.0,
            1.0,
            "1: with the wrong derivative of f in x of the released script",
        )],
        build: |v| {
            let gradient = match v.whole("released_gradient") {
                0 => ToyGradient::True,
                _ => ToyGradient::AsReleased,
            };
            Ok(Zoo::new(PbgdToy { gradient }))
        },
    },
    Entry {
        name: "bome-coreset",
        aliases: &[],
        summary: "coreset toy of BOME: inf F = 0.72, not attained",
        source: BOME,
        parameters: &[],
        build: |_| Ok(Zoo::new(BomeCoreset)),
    },
    Entry {
        name: "bome-minimax",
        aliases: &[],
        summary: "bilinear game on a box; F = 10|x|",
        source: BOME,
        parameters: &[],
        build: |_| Ok(Zoo::new(BomeMinimax)),
    },
    Entry {
        name: "bome-non-singleton",
        aliases: &[],
        summary: "a line of lower solutions: optimistic and selected minimisers differ",
        source: BOME,
        parameters: &[],
        build: |_| Ok(Zoo::new(BomeNonSingleton)),
    },
    Entry {
        name: "dropped-value-function",
        aliases: &[],
        summary: "all of the way to the minimum is in the implicit term",
        source: "released code of PBGD-Free, arXiv 2507.20400",
        parameters: &[],
        build: |_| Ok(Zoo::new(DroppedValueFunction)),
    },
];

/// Every problem.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// The names of every problem, in the order of the table of known answers.
pub fn names() -> Vec<&'static str> {
    ENTRIES.iter().map(|entry| entry.name).collect()
}

/// The problem of this name or alias (upper or lower case), a run such as `R6` or a failure
/// case such as `E8` (both start at their own point), with these parameters.
///
/// ```
/// use bilevel::problems;
///
/// let torus = problems::by_name("torus", &[("k".to_owned(), 2.0)].into())?;
/// assert_eq!(torus.intrinsic_dim(), Some(2));
/// let error = problems::by_name("taurus", &problems::Parameters::new()).unwrap_err();
/// assert!(error.to_string().contains("did you mean torus?"));
/// # Ok::<(), bilevel::ConfigError>(())
/// ```
///
/// # Errors
/// An unknown name, answered with the nearest one; an unknown parameter; a value out of range.
pub fn by_name(name: &str, parameters: &Parameters) -> Result<Zoo, ConfigError> {
    let is_named = |entry: &&Entry| {
        entry.name.eq_ignore_ascii_case(name) || entry.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
    };
    if let Some(entry) = ENTRIES.iter().find(is_named) {
        return entry.build(parameters);
    }
    let run = runs::by_name(name).map(|run| (run.name, run.problem));
    let case = || cases::by_name(name).map(|case| (case.name, case.problem));
    if let Some((name, problem)) = run.or_else(case) {
        return match parameters.first_key_value() {
            None => Ok(problem),
            Some((parameter, value)) => {
                Err(ConfigError::new(parameter, value, format!("{name} has no parameters; leave it out")))
            }
        };
    }
    let known = ENTRIES.iter().flat_map(|entry| entry.aliases.iter().chain([&entry.name])).copied();
    Err(names::unknown("problem", name, known, &names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(list: &[(&str, f64)]) -> Parameters {
        list.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn names_and_aliases_are_unique() {
        let mut all: Vec<String> = ENTRIES
            .iter()
            .flat_map(|e| e.aliases.iter().chain([&e.name]))
            .map(|name| name.to_lowercase())
            .chain(runs::all().iter().map(|run| run.name.to_lowercase()))
            .chain(cases::all().iter().map(|case| case.name.to_lowercase()))
            .collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn every_entry_builds_and_starts_with_its_dimensions() {
        use crate::problem::Problem;
        for entry in entries() {
            let zoo = by_name(entry.name, &Parameters::new()).unwrap();
            let (x, y) = zoo.start(3);
            assert_eq!((x.len(), y.len()), zoo.dims(), "{}", entry.name);
            assert_eq!(x, entry.default_x());
            // fixtures without random numbers, and the benchmark that starts at 0, have one start
            let is_fixture =
                ["pl-game-v2-tiny", "bome-minimax", "bome-non-singleton", "quadratics"].contains(&entry.name);
            assert_eq!(y == zoo.start(4).1, is_fixture, "{}: starts and the seed", entry.name);
            for alias in entry.aliases {
                assert_eq!(by_name(&alias.to_lowercase(), &Parameters::new()).unwrap().dims(), zoo.dims());
            }
        }
    }

    #[test]
    fn runs_and_cases_start_at_their_own_point() {
        use crate::problem::Problem;
        let run = by_name("r2k", &Parameters::new()).unwrap();
        assert_eq!(run.start(0), (vec![0.0], vec![1.0, 0.2]));
        let case = by_name("E8", &Parameters::new()).unwrap();
        assert_eq!(case.start(0).0, [0.0, -0.75]);
    }

    #[test]
    fn misspelt_names_are_answered_with_the_nearest() {
        let error = by_name("shpere", &Parameters::new()).unwrap_err();
        assert!(
            error.to_string().starts_with("problem = shpere is not allowed: did you mean sphere?"),
            "{error}"
        );
    }

    #[test]
    fn parameters_are_checked_by_name_and_range() {
        assert_eq!(by_name("T6", &parameters(&[("p", 9990.0)])).unwrap().dims(), (3, 9996));
        let unknown = by_name("torus", &parameters(&[("q", 1.0)])).unwrap_err();
        assert_eq!(unknown.to_string(), "q = 1 is not allowed: torus has the parameters k, p");
        let range = by_name("torus", &parameters(&[("k", 0.0)])).unwrap_err();
        assert!(
            range.to_string().starts_with("k = 0 is not allowed: give a whole number from 1 to 64"),
            "{range}"
        );
        let fraction = by_name("chain", &parameters(&[("links", 2.5)])).unwrap_err();
        assert_eq!(fraction.field, "links");
        let square = by_name("rotating-manifold", &parameters(&[("rows", 10.0)])).unwrap_err();
        assert_eq!(square.field, "rows");
        let none = by_name("R6", &parameters(&[("k", 2.0)])).unwrap_err();
        assert_eq!(none.to_string(), "k = 2 is not allowed: R6 has no parameters; leave it out");
    }
}
