//! The numbers printed in the specification of the zoo, for tests: made in 50-digit arithmetic, independent of the
//! closed forms in [`Formulas::known`](super::Formulas::known).

use super::{
    Zoo,
    chain::Chain,
    circle::Circle,
    curved_graph::CurvedGraph,
    factorisation::Factorisation,
    hoelder::Hoelder,
    least_squares::{LargeLeastSquares, LeastSquares},
    secular::Secular,
    sources::Sources,
    sphere::Sphere,
    stiefel::Stiefel,
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

/// T1 to T11 at the printed x, in their order.
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
        Reference::new(
            "T4 L2",
            Zoo::new(Chain { links: 2 }),
            &[2.0],
            2.8284271247461901,
            &[std::f64::consts::SQRT_2],
        )
        .selected(&[1.6817928305074291, 1.1892071150027211], &[0.39640237166757369, 0.56059761016914303])
        .spectra(&[2.6666666666666667], &[4.2426406871192851])
        .bending(&[0.0])
        .probed(1.9602, 0.045),
        Reference::new(
            "T4 L4",
            Zoo::new(Chain { links: 4 }),
            &[2.0],
            6.2603383202931493,
            &[1.5650845800732873],
        )
        .selected(
            &[1.7692284081334933, 1.2510334048590738, 1.0214644976938054, 0.88461420406674663],
            &[0.13844960500986694, 0.19579730911015184, 0.23980175016493212, 0.27689921001973389],
        )
        .spectra(&[2.36284132197301, 4.65555529833605, 6.98160337969094], &[12.77886208492545])
        .bending(&[-0.39127114501832183])
        .probed(1.99520288, 0.5),
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
        Reference::new(
            "T7",
            Zoo::new(Stiefel),
            &[0.3, -0.2],
            -3.2097055165774302,
            &[-1.0984501151525305, -0.62967674170348301],
        )
        .selected(
            &[
                0.93454444124114715,
                0.046776035887721099,
                0.093553029540203413,
                0.9345412486919431,
                0.35763042097830811,
                -0.36670104575789579,
            ],
            &[
                -0.49503725155317938,
                -0.14851117546595381,
                -0.14851117546595381,
                -0.99007450310635875,
                -0.14851117546595381,
                0.34652607608722556,
            ],
        )
        .spectra(&[1.01731577106264, 1.58892379722157, 2.1605318233805], &[2.02005; 3])
        .bending(&[-3.4891372458889093, -0.16979903156417124, -0.16979903156417124, -1.0853019792142144])
        .probed(0.2563388753125, -0.78),
        Reference::new(
            "T8",
            Zoo::new(Factorisation),
            &[2.0, 0.5, -0.3, 1.0],
            6.2096698785040095,
            &[1.9324698792024926, 0.51532530112066469, -0.51532530112066469, 1.9324698792024926],
        )
        .spectra(
            &[0.0, 3.2, 3.2, 3.32930409255742],
            &[2.60628879566681, 3.11619074702611, 4.64589660110393, 5.15579855246321],
        )
        .bending(&factorisation_bending())
        .probed(2.0594, 3.63),
        Reference::new(
            "T9",
            Zoo::new(Sources::default()),
            &[0.4],
            0.020490354546111719,
            &[-0.044760392281708704],
        )
        .selected(
            &[
                0.4831627241574328,
                0.3357874039325288,
                0.2831627241574328,
                -0.0357874039325288,
                0.0594750640449808,
            ],
            &[
                -0.01436614432578168,
                0.06194619556176632,
                -0.01436614432578168,
                -0.06194619556176632,
                0.02379002561799232,
            ],
        )
        .spectra(&[1.0; 3], &[2.0, 2.5])
        .bending(&[0.28591568129251802])
        .probed(1.273681105898793, 0.25),
        Reference::new(
            "T10",
            Zoo::new(Secular::default()),
            &[0.5, -0.4, 0.8],
            -1.7455898070608209,
            &[-1.0476308670690822, 0.11503285786925474, -0.56778822728607903],
        )
        .selected(
            &[-1.0476308670690822, 0.11503285786925474, -0.14605823487402167],
            &[1.1462198144583871, -0.1258582055456186, 0.1598032743592129],
        )
        .spectra(&[3.44050091521493, 5.38474904948691], &[2.264192])
        .bending(&[
            -0.0069925860532816695,
            -0.031471955797644078,
            -0.13658874624115639,
            -0.031471955797644078,
            -0.28710783607999538,
            0.0020585061978718492,
            -0.13658874624115639,
            0.0020585061978718492,
            -0.76421938121868395,
        ])
        .probed(0.246063618304, 0.355),
        hoelder(
            "T11 quartic 0.1",
            Hoelder::quartic(),
            0.1,
            -0.034811916252095842,
            -0.46415888336127789,
            0.64633040700956512,
        ),
        hoelder(
            "T11 quartic -0.5",
            Hoelder::quartic(),
            -0.5,
            -0.2976376972440374,
            0.79370052598409974,
            1.8898815748423097,
        ),
        hoelder(
            "T11 flat 0.5",
            Hoelder::Flat,
            0.5,
            -0.28681853187783377,
            -0.68182751289429163,
            2.8869567512675107,
        ),
        hoelder(
            "T11 flat 0.01",
            Hoelder::Flat,
            0.01,
            -0.0036933594516601535,
            -0.39621655887463069,
            0.30314825334366112,
        ),
        hoelder(
            "T11 flat 1e-6",
            Hoelder::Flat,
            1e-6,
            -2.4297437417023302e-7,
            -0.25035767658497312,
            1.2392907387290568e-4,
        ),
    ]
}

/// A row of T11, where y* = (−F', 0) and v = 0.
fn hoelder(
    name: &'static str,
    problem: Hoelder,
    x: f64,
    value: f64,
    slope: f64,
    curvature: f64,
) -> Reference {
    Reference::new(name, Zoo::new(problem), &[x], value, &[slope])
        .selected(&[-slope, 0.0], &[0.0, 0.0])
        .spectra(&[curvature], &[1.0])
}

/// ∇²F of T8, printed as four rows of three numbers up to sign.
fn factorisation_bending() -> [f64; 16] {
    let (p, q, s) = (0.042765585155241883, 0.16037094433215706, 0.60139104124558898);
    [p, -q, q, p, -q, s, -s, -q, q, -s, s, q, p, -q, q, p]
}

/// The row of this name.
///
/// # Panics
/// When there is none: the names are part of the test that asks.
pub fn row(name: &str) -> Reference {
    table().into_iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no printed values for {name}"))
}
