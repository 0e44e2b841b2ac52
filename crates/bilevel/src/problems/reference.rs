//! The numbers printed in the specification of the zoo, for tests: made in 50-digit arithmetic, independent of the
//! closed forms in [`Formulas::known`](super::Formulas::known).

use super::{
    Zoo,
    circle::Circle,
    curved_graph::CurvedGraph,
    least_squares::{LargeLeastSquares, LeastSquares},
    sphere::Sphere,
    torus::Torus,
};

/// One problem at one x: every printed number. `None` where nothing is printed (or nothing is unique).
#[derive(Clone, Debug)]
pub struct Reference {
    /// The number of the problem in the specification, for instance `T5a`.
    pub name: &'static str,
    /// The problem.
    pub problem: Zoo,
    /// The x of the values.
    pub x: Vec<f64>,
    /// F.
    pub value: f64,
    /// ∇F.
    pub gradient: Vec<f64>,
    /// y*.
    pub selection: Option<Vec<f64>>,
    /// v.
    pub v: Option<Vec<f64>>,
    /// Eigenvalues of M_T, ascending.
    pub curvatures: Option<Vec<f64>>,
    /// Nonzero eigenvalues of H, ascending.
    pub lower_spectrum: Option<Vec<f64>>,
    /// ∇²F, row after row.
    pub hyper_hessian: Option<Vec<f64>>,
    /// g and f at yⱼ = j/10.
    pub probe: Option<(f64, f64)>,
}

impl Reference {
    fn new(name: &'static str, problem: Zoo, x: &[f64], value: f64, gradient: &[f64]) -> Self {
        Self {
            name,
            problem,
            x: x.to_vec(),
            value,
            gradient: gradient.to_vec(),
            selection: None,
            v: None,
            curvatures: None,
            lower_spectrum: None,
            hyper_hessian: None,
            probe: None,
        }
    }
    fn selected(mut self, selection: &[f64], v: &[f64]) -> Self {
        self.selection = Some(selection.to_vec());
        self.v = Some(v.to_vec());
        self
    }
    fn spectra(mut self, curvatures: &[f64], lower_spectrum: &[f64]) -> Self {
        self.curvatures = Some(curvatures.to_vec());
        self.lower_spectrum = Some(lower_spectrum.to_vec());
        self
    }
    fn bending(mut self, hyper_hessian: &[f64]) -> Self {
        self.hyper_hessian = Some(hyper_hessian.to_vec());
        self
    }
    fn probed(mut self, g: f64, f: f64) -> Self {
        self.probe = Some((g, f));
        self
    }
    /// The dimension k of S(x).
    ///
    /// # Panics
    /// Never: every row of the table has a manifold of minimisers.
    pub fn kernel_dim(&self) -> usize {
        self.problem.intrinsic_dim().expect("every printed problem has a manifold of minimisers")
    }
    /// yⱼ = j/10, the point of the printed probe values.
    pub fn probe_point(&self) -> Vec<f64> {
        (1..=self.problem.dims().1).map(|j| j as f64 / 10.0).collect()
    }
    /// A point off S(x) from which the selection is the nearest minimiser of f on S(x):
    /// y* + 0.1 (sin 1, sin 2, …), or the probe point where y* is not printed.
    pub fn start_off_s(&self) -> Vec<f64> {
        match &self.selection {
            Some(y) => y.iter().enumerate().map(|(j, y)| y + 0.1 * (j as f64 + 1.0).sin()).collect(),
            None => self.probe_point(),
        }
    }
}

/// T1 to T10 at the printed x, in their order.
pub fn table() -> Vec<Reference> {
    vec![
        Reference::new(
            "T1",
            Zoo::new(Sphere),
            &[0.3, -0.7],
            -0.52947308612845174,
            &[-2.0649051371131119, -3.2936642600394015],
        )
        .selected(
            &[-0.21331186623734102, -0.5866076321526878, -0.95990339806803458],
            &[0.050850797404066793, 0.13983969286118368, 0.22882858831830057],
        )
        .spectra(&[0.62506289821204915, 0.62506289821204915], &[2.62205])
        .bending(&[0.048339943351254595, 0.33136528473040579, 0.33136528473040579, 2.2976493752517156])
        .probed(0.34282488765625, 0.55666666666666667),
        Reference::new("T2", Zoo::new(Circle::default()), &[0.7], -0.7, &[-1.0])
            .selected(&[-1.0, 0.0], &[0.35, 0.0])
            .spectra(&[2.7], &[2.0])
            .bending(&[0.0])
            .probed(0.225625, 0.11),
        Reference::new(
            "T3",
            Zoo::new(LeastSquares),
            &[0.2, -0.5],
            0.46364444444444444,
            &[-0.50488888888888889, 0.46222222222222222],
        )
        .selected(
            &[0.82222222222222222, -1.4088888888888889, 0.10888888888888889, 1.84],
            &[0.01673202614379085, -0.27816993464052288, -0.24470588235294118, -0.29490196078431373],
        )
        .spectra(&[1.38704912741642, 2.67177440199534], &[2.6972243622680054, 6.3027756377319946])
        .bending(&[-1.1923809523809524, 0.46349206349206349, 0.46349206349206349, 3.2698412698412698])
        .probed(0.6698, 7.025),
        Reference::new(
            "T3 large",
            Zoo::new(LargeLeastSquares::new(200, 1e2)),
            &[0.3, -0.7],
            28.889672467971849,
            &[30.13289402582658, -69.627823897422461],
        )
        .bending(&[
            100.51791634405561,
            0.032115539128716549,
            0.032115539128716549,
            99.482083655944395,
        ]),
        Reference::new("T5a", Zoo::new(CurvedGraph::a()), &[0.4, 0.9], 0.0775, &[0.7, -0.45])
            .selected(&[0.45, 0.58375], &[-0.19887708107371526, 0.1473163563509002])
            .spectra(&[0.70859167404782994], &[6.7881125])
            .bending(&[0.0, 0.0, 0.0, -0.5])
            .probed(0.00911525, 0.105),
        Reference::new("T5b", Zoo::new(CurvedGraph::b()), &[0.4, 0.9], -0.4825, &[-0.7, -0.45])
            .selected(&[0.45, 0.58375], &[0.19887708107371526, -0.1473163563509002])
            .spectra(&[0.70859167404782994], &[6.7881125])
            .bending(&[0.0, 0.0, 0.0, -0.5])
            .probed(0.00911525, -0.265),
        Reference::new("T6", Zoo::new(Torus::new(3, 4)), &[0.5, -0.8, 1.2], 1.1985, &[0.825, -3.408, 1.268])
            .selected(
                &[-1.025, 0.0, 1.064, 0.0, -1.144, 0.0, -1.3, 2.0, -0.7, -1.3],
                &[
                    0.2379535990481856,
                    0.0,
                    -0.3533269263384024,
                    0.0,
                    0.45845762628979412,
                    0.0,
                    -1.3,
                    2.0,
                    -0.7,
                    -1.3,
                ],
            )
            .spectra(
                &[2.4878048780487805, 2.7518796992481203, 3.048951048951049],
                &[1.0, 1.0, 1.0, 1.0, 2.10125, 2.264192, 2.617472],
            )
            .bending(&[2.7, -2.0, -1.0, -2.0, 2.52, -1.0, -1.0, -1.0, 1.28])
            .probed(7.21189393538425, 2.44),
    ]
}

/// The row of this name.
///
/// # Panics
/// When there is none: the names are part of the test that asks.
pub fn row(name: &str) -> Reference {
    table().into_iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no printed values for {name}"))
}
