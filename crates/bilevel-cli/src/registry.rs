//! The problems and solvers that the command knows, by name.

use anyhow::Result;
use bilevel::{
    Problem,
    problems::{
        Zoo, chain::Chain, circle::Circle, curved_graph::CurvedGraph, factorisation::Factorisation,
        hoelder::Hoelder, least_squares::LeastSquares, secular::Secular, sources::Sources, sphere::Sphere,
        stiefel::Stiefel, torus::Torus,
    },
    solvers::hg_ms::HgMs,
};
use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    exit::usage,
    recipe::{self, ProblemSpec},
};

/// A problem of the zoo.
pub struct ProblemEntry {
    pub name: &'static str,
    /// What it is, in a line.
    pub what: &'static str,
    make: fn() -> Zoo,
}

impl ProblemEntry {
    pub fn make(&self) -> Zoo {
        (self.make)()
    }
}

/// Every problem, in the order in which it is listed. `t…` are pointwise, most without a minimiser in x; `r…` have a
/// quadratic in x added to f and a minimiser to be found.
pub const PROBLEMS: &[ProblemEntry] = &[
    ProblemEntry { name: "t1", what: "sphere whose radius depends on x", make: || Zoo::new(Sphere) },
    ProblemEntry {
        name: "t2",
        what: "circle with two competing selections, a kink at 0",
        make: || Zoo::new(Circle::default()),
    },
    ProblemEntry { name: "t3", what: "over-parameterised least squares", make: || Zoo::new(LeastSquares) },
    ProblemEntry {
        name: "t4",
        what: "deep linear chain of four links",
        make: || Zoo::new(Chain { links: 4 }),
    },
    ProblemEntry {
        name: "t5",
        what: "curved graph: the ambient Hessian of f has the wrong sign",
        make: || Zoo::new(CurvedGraph::a()),
    },
    ProblemEntry {
        name: "t6",
        what: "torus of dimension 3 with 8 selections",
        make: || Zoo::new(Torus::new(3, 4)),
    },
    ProblemEntry { name: "t7", what: "scaled orthonormal frames (Procrustes)", make: || Zoo::new(Stiefel) },
    ProblemEntry {
        name: "t8",
        what: "matrix factorisation: an orbit of selections",
        make: || Zoo::new(Factorisation),
    },
    ProblemEntry {
        name: "t9",
        what: "two data sources with conflicting labels",
        make: || Zoo::new(Sources::default()),
    },
    ProblemEntry {
        name: "t10",
        what: "indefinite quadratic on a sphere",
        make: || Zoo::new(Secular::default()),
    },
    ProblemEntry {
        name: "t11",
        what: "degenerate selection: the hypergradient is only Hölder",
        make: || Zoo::new(Hoelder::quartic()),
    },
    ProblemEntry {
        name: "r2",
        what: "t2 with (x − 0.8)²; minimum −1.05 at 1.3",
        make: || {
            Zoo::new(Circle::default())
                .anchored(2.0, [0.8])
                .starting_at([0.5])
                .with_seeds(vec![vec![1.0, 0.0]])
        },
    },
    ProblemEntry {
        name: "r3",
        what: "t3 from (0.2, −0.5); minimum 0",
        make: || Zoo::new(LeastSquares).starting_at([0.2, -0.5]).with_seeds(vec![vec![0.0; 4]]),
    },
    ProblemEntry {
        name: "r4",
        what: "t4 with (x − 3)²; minimum 7.2024 at 2.2646",
        make: || {
            Zoo::new(Chain { links: 4 })
                .anchored(2.0, [3.0])
                .starting_at([2.0])
                .with_seeds(vec![vec![1.0, 1.0, 1.0, 2.0]])
        },
    },
    ProblemEntry {
        name: "r6",
        what: "t6 with a quadratic; minimum −4.2406, seven traps for a local selection",
        make: || {
            Zoo::new(Torus::square_quadratic(3, 4))
                .anchored(3.0, [1.2, 1.0, 0.8])
                .starting_at([0.5, 0.5, 0.5])
        },
    },
    ProblemEntry {
        name: "r8",
        what: "t8 with a quadratic; minimum 10.3611",
        make: || {
            Zoo::new(Factorisation)
                .anchored(1.0, [4.0, 1.0, -0.6, 3.0])
                .starting_at([2.0, 0.5, -0.3, 1.0])
                .with_seeds(vec![vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]])
        },
    },
    ProblemEntry {
        name: "r9",
        what: "t9 from 0; minimum 0.016875 at 0.5645",
        make: || Zoo::new(Sources::default()).starting_at([0.0]).with_seeds(vec![vec![0.0; 5]]),
    },
    ProblemEntry {
        name: "r10",
        what: "t10 with a quadratic; minimum −1.9294",
        make: || {
            Zoo::new(Secular::square_quadratic())
                .anchored(4.0, [0.5, -0.4, 0.8])
                .starting_at([0.5, -0.4, 0.8])
                .with_seeds(vec![vec![1.0, 0.0, 0.0]])
        },
    },
];

/// The problem of a recipe, with its start.
pub fn problem(spec: &ProblemSpec) -> Result<Zoo> {
    let entry = PROBLEMS.iter().find(|entry| entry.name == spec.name).ok_or_else(|| {
        let names: Vec<&str> = PROBLEMS.iter().map(|entry| entry.name).collect();
        usage(format!(
            "problem.name = \"{}\" is not known; did you mean `{}`? `bilevel list problems` shows all",
            spec.name,
            recipe::nearest(&spec.name, &names)
        ))
    })?;
    let mut problem = entry.make();
    let (m, d) = problem.dims();
    let check = |field: &str, start: &[f64], dim: usize| {
        if start.len() != dim {
            return Err(usage(format!(
                "problem.{field} = {start:?} has {} numbers; {} has {dim} {} coordinates",
                start.len(),
                spec.name,
                if field == "x" { "upper" } else { "lower" }
            )));
        }
        match start.iter().find(|number| !number.is_finite()) {
            Some(number) => {
                Err(usage(format!("problem.{field} has the entry {number}; give finite numbers")))
            }
            None => Ok(()),
        }
    };
    if let Some(x) = &spec.x {
        check("x", x, m)?;
        problem = problem.starting_at(x.clone());
    }
    if let Some(y) = &spec.y {
        check("y", y, d)?;
        problem = problem.with_seeds(vec![y.clone()]);
    }
    Ok(problem)
}

/// A problem's dimensions in words.
pub fn dimensions(problem: &Zoo) -> String {
    let (m, d) = problem.dims();
    let k = problem.intrinsic_dim().map_or_else(|| "unknown".into(), |k| k.to_string());
    let (x, y) = problem.start(0);
    debug_assert_eq!((x.len(), y.len()), (m, d));
    format!("{m} upper and {d} lower coordinates, S(x) of dimension {k}")
}

/// One row of the table of solvers.
pub struct SolverEntry {
    pub name: &'static str,
    pub what: &'static str,
    /// What the problem must offer.
    pub needs: &'static str,
    /// Which hyper-objectives it can descend.
    pub targets: &'static str,
    /// The type in the library.
    pub path: &'static str,
}

/// Every solver.
pub const SOLVERS: &[SolverEntry] = &[SolverEntry {
    name: "hg-ms",
    what: "select a point of S(x), then differentiate with the pseudoinverse; certified",
    needs: "gradients of f; gradients and second-order products of g",
    targets: "optimistic, pessimistic, selected",
    path: "bilevel::solvers::hg_ms::HgMs",
}];

/// The solver of a recipe with its settings.
#[derive(Clone, Debug)]
pub enum AnySolver {
    HgMs(HgMs),
}

impl AnySolver {
    /// The solver of a table `[solver]`: its name, and settings for what is not to have its default.
    pub fn new(table: &Table) -> Result<Self> {
        let mut settings = table.clone();
        let name = match settings.remove("name") {
            None => "hg-ms".into(),
            Some(Value::String(name)) => name,
            Some(other) => return Err(usage(format!("solver.name = {other} is not a name in quotes"))),
        };
        match name.as_str() {
            "hg-ms" => Ok(Self::HgMs(HgMs::deserialize(settings).map_err(|error| wrong_setting(&error))?)),
            _ => {
                let names: Vec<&str> = SOLVERS.iter().map(|entry| entry.name).collect();
                Err(usage(format!(
                    "solver.name = \"{name}\" is not known; did you mean `{}`? `bilevel list solvers` shows all",
                    recipe::nearest(&name, &names)
                )))
            }
        }
    }
}

/// A setting that the solver does not know, or of the wrong type.
fn wrong_setting(error: &toml::de::Error) -> anyhow::Error {
    usage(format!("[solver]: {}", recipe::detail(error)))
}
