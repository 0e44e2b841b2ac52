//! Named failure cases: a problem at the point where a solver has to say, by name, what is wrong.

use super::{
    Zoo,
    chain::Chain,
    circle::Circle,
    curved_graph::CurvedGraph,
    failures::{DecayingSpectrum, DoubleWell, FlatValley, Unbounded},
    hoelder::Hoelder,
    sources::Sources,
    sphere::Sphere,
};

/// A problem, a point, and the finding that is the right answer there.
#[derive(Clone, Debug)]
pub struct FailureCase {
    /// Its name, for instance `E1`.
    pub name: &'static str,
    /// What is wrong there, in one line.
    pub summary: &'static str,
    /// The problem, which starts at `x` and takes its lower starts from `seeds`.
    pub problem: Zoo,
    /// The upper point.
    pub x: Vec<f64>,
    /// Lower starting points, given to the solver together.
    pub seeds: Vec<Vec<f64>>,
    /// The name of the finding, as [`Finding::name`](crate::certificate::Finding::name) gives it.
    pub finding: &'static str,
    /// What the solver has to be denied for the failure to show; `None`: with default settings.
    pub needs: Option<Restriction>,
}

/// A setting without which a solver would get out of the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// The landing may not leave saddles and maxima of g.
    NoEscape,
    /// The landing has a single step.
    OneLandingStep,
}

impl FailureCase {
    fn new(
        name: &'static str,
        finding: &'static str,
        summary: &'static str,
        problem: Zoo,
        x: &[f64],
        seeds: &[&[f64]],
    ) -> Self {
        let seeds: Vec<Vec<f64>> = seeds.iter().map(|y| y.to_vec()).collect();
        Self {
            name,
            summary,
            problem: problem.starting_at(x).with_seeds(seeds.clone()),
            x: x.to_vec(),
            seeds,
            finding,
            needs: None,
        }
    }
    fn needing(mut self, restriction: Restriction) -> Self {
        self.needs = Some(restriction);
        self
    }
}

/// Every failure case.
pub fn all() -> Vec<FailureCase> {
    let wells = DoubleWell::wells();
    vec![
        FailureCase::new(
            "E1",
            "LowerLevelUnbounded",
            "g falls without bound along (0, -1) at slope 0.5",
            Zoo::new(Unbounded),
            &[0.5],
            &[&[0.3, 0.2]],
        ),
        FailureCase::new(
            "E2",
            "OutOfClass",
            "S is a line at x = 0 and empty beside it",
            Zoo::new(Unbounded),
            &[0.0],
            &[&[0.0, 0.0]],
        ),
        FailureCase::new(
            "E3",
            "LowerSaddle",
            "the start is a maximum of g, and it may not be left",
            Zoo::new(Sphere),
            &[0.3, -0.7],
            &[&[0.0; 3]],
        )
        .needing(Restriction::NoEscape),
        FailureCase::new(
            "E4",
            "RankUncertain",
            "the eigenvalues of the lower Hessian fall to zero without a gap",
            Zoo::new(DecayingSpectrum),
            &[1.0],
            &[&[0.0; 6]],
        ),
        FailureCase::new(
            "E5",
            "RankUncertain",
            "S is a cross, and y its centre",
            Zoo::new(Chain { links: 2 }),
            &[0.0],
            &[&[0.0, 0.0]],
        ),
        FailureCase::new(
            "E6",
            "NotSelected",
            "S is a point at which g is flat: the pseudoinverse formula answers 0 where the gradient is -1",
            Zoo::new(FlatValley),
            &[0.0],
            &[&[0.3, 0.2]],
        ),
        FailureCase::new(
            "E7",
            "Degenerate",
            "f is quartic along S at its minimiser",
            Zoo::new(Hoelder::quartic()),
            &[0.0],
            &[&[0.4, 0.1]],
        ),
        FailureCase::new(
            "E8",
            "Degenerate",
            "f is constant on S, and the hypergradient differs from point to point",
            Zoo::new(Sphere),
            &[0.0, -0.75],
            &[&[0.7, 0.6, -0.5]],
        ),
        FailureCase::new(
            "E9",
            "Tie",
            "two selections with opposite hypergradients",
            Zoo::new(Circle::default()),
            &[0.0],
            &[&[1.0, 0.2], &[-1.0, 0.2]],
        ),
        FailureCase::new(
            "E10",
            "SelectionUnbounded",
            "f falls without bound along S",
            Zoo::new(CurvedGraph::c()),
            &[0.4, 0.9],
            &[&[-0.45, 0.58375]],
        ),
        FailureCase::new(
            "E11",
            "NoSignal",
            "the lower solution does not react to x",
            Zoo::new(Sources::agreeing()),
            &[0.4],
            &[&[0.0; 5]],
        ),
        FailureCase::new(
            "E12",
            "LowerValueSplit",
            "g has a false minimum at which f is lower",
            Zoo::new(DoubleWell),
            &[-1.0],
            &[&[wells[0] - 1.0], &[wells[1] - 1.0]],
        ),
        FailureCase::new(
            "E13",
            "NotLanded",
            "the landing has too few steps",
            Zoo::new(Sphere),
            &[0.3, -0.7],
            &[&[3.0, 0.0, 0.0]],
        )
        .needing(Restriction::OneLandingStep),
    ]
}

/// The case of this name, upper or lower case.
pub fn by_name(name: &str) -> Option<FailureCase> {
    all().into_iter().find(|case| case.name.eq_ignore_ascii_case(name))
}
