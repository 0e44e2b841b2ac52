//! The lower Hessian at a landed point: its kernel (the tangent space of S(x)), its pseudoinverse, its rank.

use serde::{Deserialize, Serialize};

use super::{land::Curvature, level::Level};
use crate::{
    error::{ConfigError, OracleResult},
    linear::{
        LinearSolver,
        dense::{RankCut, Spectrum},
        minres::Minres,
    },
    rng::Stream,
    vector::Vector,
};

/// Whether the lower Hessian is factorised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Factorise {
    /// Up to [`Rank::dense_limit`].
    #[default]
    Auto,
    /// Always.
    Dense,
    /// Never: products only.
    MatrixFree,
}

/// How kernel and range of the lower Hessian are told apart, and how systems with it are solved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rank {
    /// Dense or matrix-free.
    pub factorise: Factorise,
    /// Largest dimension of y that `auto` factorises. A factorisation is y.dim() products and an eigendecomposition.
    pub dense_limit: usize,
    /// Eigenvalues up to tol·‖H‖ are kernel.
    pub tol: f64,
    /// The eigenvalues next to the cut must differ by this factor, or the rank is uncertain.
    pub gap_min: f64,
    /// Relative tolerance of iterative solves, at the same time their rank cut; raised where y is too far from S(x) for it.
    pub tol_solve: f64,
    /// Most products in one iterative solve.
    pub max_products: u64,
    /// Random directions that probe the kernel. A kernel of smaller dimension is found whole, basis and all; of a larger
    /// one the dimension is estimated.
    pub probes: usize,
}

impl Default for Rank {
    fn default() -> Self {
        Self {
            factorise: Factorise::Auto,
            dense_limit: 300,
            tol: 1e-6,
            gap_min: 1e3,
            tol_solve: 1e-12,
            max_products: 20_000,
            probes: 8,
        }
    }
}

impl Rank {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = |field: &str, value: f64| {
            ConfigError::require(value > 0.0 && value < 1.0, field, value, "give a number between 0 and 1")
        };
        positive("rank.tol", self.tol)?;
        positive("rank.tol_solve", self.tol_solve)?;
        ConfigError::require(
            self.gap_min > 1.0,
            "rank.gap_min",
            self.gap_min,
            "give a number above 1, for instance 1e3",
        )?;
        ConfigError::require(self.probes >= 1, "rank.probes", self.probes, "give at least 1")?;
        ConfigError::require(
            self.max_products >= 1,
            "rank.max_products",
            self.max_products,
            "give at least 1",
        )
    }
    /// Whether a Hessian of this dimension is factorised.
    pub fn is_dense(&self, dim: usize) -> bool {
        match self.factorise {
            Factorise::Auto => dim <= self.dense_limit,
            Factorise::Dense => true,
            Factorise::MatrixFree => false,
        }
    }
}

/// The tangent space T = ker H of S(x).
#[derive(Clone, Debug)]
pub enum Kernel<Y> {
    /// An orthonormal basis.
    Basis(Vec<Y>),
    /// Known by its projection only; the dimension is an estimate.
    Implicit {
        /// Estimate of the dimension, between 0 and dim y.
        dim: f64,
        /// Standard deviation of the estimate.
        spread: f64,
    },
}

/// The lower Hessian at one point.
#[derive(Clone, Debug)]
pub struct Geometry<Y> {
    /// Tangent space of S(x).
    pub kernel: Kernel<Y>,
    /// ‖H‖.
    pub norm: f64,
    /// c: smallest non-zero eigenvalue in modulus; infinite when H = 0.
    pub range_min: f64,
    /// λ_min(H).
    pub smallest: f64,
    /// The rank cut; `None` without a factorisation.
    pub cut: Option<RankCut>,
    spectrum: Option<Spectrum>,
    minres: Minres,
    /// Eigenvalues up to this times ‖H‖ are kernel.
    cut_tol: f64,
    /// Whether kernel and c are those of another point.
    pub is_carried: bool,
    /// Products spent on learning this.
    pub products: u64,
}

/// The part of a vector along S(x).
#[derive(Clone, Debug)]
pub struct Projection<Y> {
    /// P z.
    pub part: Y,
    /// Estimate of what `part` still has outside the kernel: |H part|/c, measured, where it comes from an iterative solve;
    /// 0 with a factorisation.
    pub noise: f64,
}

/// Solution of H v = b in the least-squares, minimum-norm sense.
#[derive(Clone, Debug)]
pub struct PseudoSolve<Y> {
    /// v = H⁺ b.
    pub v: Y,
    /// P b, the part of b in the kernel.
    pub tangent: Y,
    /// Estimate of what `tangent` still has outside the kernel, see [`Projection::noise`].
    pub tangent_noise: f64,
    /// Smallest non-zero eigenvalue of H in modulus as this solve saw it; `None` with a factorisation.
    pub range_min: Option<f64>,
    /// |H(H v − b)| / (‖H‖ |b|).
    pub residual: f64,
    /// Iterations spent.
    pub iterations: u64,
    /// Whether the tolerance was met.
    pub is_solved: bool,
}

impl<Y: Vector> Geometry<Y> {
    /// From what LAND found at y, where |∇_y g| = `gradient_norm`.
    pub fn new(
        level: &impl Level<Y>,
        y: &Y,
        gradient_norm: f64,
        curvature: Curvature<Y>,
        rank: &Rank,
    ) -> OracleResult<Self> {
        match curvature {
            Curvature::Dense(spectrum) => Ok(Self::dense(y, spectrum, rank, rank.tol)),
            Curvature::Krylov { norm, smallest, .. } => {
                Self::krylov(level, y, gradient_norm, norm, smallest, rank)
            }
        }
    }

    /// From an eigendecomposition, cut at `tol`·‖H‖.
    pub fn dense(y: &Y, spectrum: Spectrum, rank: &Rank, tol: f64) -> Self {
        let norm = spectrum.norm();
        let cut = spectrum.cut(tol * norm, rank.gap_min);
        let basis = spectrum
            .kernel(cut.threshold)
            .into_iter()
            .map(|i| y.with_coordinates(&spectrum.vector(i)))
            .collect();
        let range_min = spectrum
            .values()
            .iter()
            .map(|v| v.abs())
            .filter(|&v| v > cut.threshold)
            .fold(f64::INFINITY, f64::min);
        Self {
            kernel: Kernel::Basis(basis),
            norm,
            range_min,
            smallest: spectrum.min(),
            cut: Some(cut),
            spectrum: Some(spectrum),
            minres: Minres::default(),
            cut_tol: tol,
            is_carried: false,
            products: 0,
        }
    }

    fn krylov(
        level: &impl Level<Y>,
        y: &Y,
        gradient_norm: f64,
        norm: f64,
        smallest: f64,
        rank: &Rank,
    ) -> OracleResult<Self> {
        let mut stream = Stream::new(0, PROBE_PURPOSE);
        let mut minres = Minres { tolerance: rank.tol_solve, max_iterations: rank.max_products };
        let mut geometry = Self {
            kernel: Kernel::Implicit { dim: 0.0, spread: 0.0 },
            norm,
            range_min: f64::INFINITY,
            smallest,
            cut: None,
            spectrum: None,
            minres: minres.clone(),
            cut_tol: rank.tol,
            is_carried: false,
            products: 0,
        };
        let mut basis: Vec<Y> = vec![];
        let mut share = 0.0;
        for probe in 0..rank.probes {
            let zeta = stream.normal_like(y);
            let image = level.hessian_product(y, &zeta)?;
            geometry.products += 1;
            let mut projected = zeta.clone();
            if image.norm() > rank.tol * geometry.norm * zeta.norm() {
                // ζ − H⁺Hζ; the Krylov space of Hζ lies in the range
                let solve = minres.solve(&mut |v| level.hessian_product(y, v), &image, &y.zeros_like())?;
                geometry.products += solve.products;
                geometry.norm = geometry.norm.max(solve.operator_norm.unwrap_or(0.0));
                // a Ritz value below the cut is rounding that leaked into the kernel
                if let Some(ritz) = solve.smallest_ritz.filter(|r| r.abs() > rank.tol * geometry.norm) {
                    geometry.range_min = geometry.range_min.min(ritz.abs());
                }
                if probe == 0 {
                    minres.tolerance = geometry.solve_tolerance(y, gradient_norm, rank);
                }
                projected.axpy(-1.0, &solve.solution);
            }
            share += projected.dot(&zeta) / zeta.dot(&zeta) / rank.probes as f64;
            for _ in 0..2 {
                for t in &basis {
                    let overlap = projected.dot(t);
                    projected.axpy(-overlap, t);
                }
            }
            // A new kernel direction is left almost surely while there is one; then only the error of the solve is,
            // which H does not map to zero.
            let left = projected.norm();
            let is_kernel = left > KERNEL_NOISE * zeta.norm() && {
                geometry.products += 1;
                let image = level.hessian_product(y, &projected)?.norm();
                image <= rank.tol.sqrt() * geometry.norm * left
            };
            if !is_kernel {
                geometry.kernel = Kernel::Basis(basis);
                geometry.minres = minres;
                return Ok(geometry);
            }
            basis.push(projected.scaled(left.recip()));
        }
        // ζᵀPζ/|ζ|² has the law Beta(k/2, (d − k)/2): mean k/d, and a variance that is small where k is near 0 or near d.
        // Hutchinson's ζᵀPζ has the variance 2k however near d it is.
        let d = y.dim() as f64;
        let dim = d * share.clamp(0.0, 1.0);
        let spread = (2.0 * dim * (d - dim) / (d + 2.0) / rank.probes as f64).sqrt();
        geometry.kernel = Kernel::Implicit { dim, spread };
        geometry.minres = minres;
        Ok(geometry)
    }

    /// Relative residual at which solves stop at y: the setting, or what |∇_y g| allows. Off S(x) by δ the kernel
    /// eigenvalues are up to ‖H‖δ/(1 + |y|), and a solve that goes on below that inverts them.
    fn solve_tolerance(&self, y: &Y, gradient_norm: f64, rank: &Rank) -> f64 {
        let distance = if gradient_norm == 0.0 { 0.0 } else { 2.0 * gradient_norm / self.range_min };
        rank.tol_solve.max(10.0 * distance / (1.0 + y.norm())).min(1e-2)
    }

    /// What is known of the Hessian at `y`, a landed point near the one this was learnt at: the dimension of the kernel,
    /// which is the same all over S(x), and c until a solve there says better. `None` unless the kernel is implicit.
    pub fn carried_to(
        &self,
        y: &Y,
        gradient_norm: f64,
        curvature: &Curvature<Y>,
        rank: &Rank,
    ) -> Option<Self> {
        let Kernel::Implicit { .. } = self.kernel else { return None };
        let mut carried = self.clone();
        carried.norm = carried.norm.max(curvature.norm());
        carried.smallest = curvature.smallest();
        carried.minres.tolerance = carried.solve_tolerance(y, gradient_norm, rank);
        carried.products = 0;
        carried.is_carried = true;
        Some(carried)
    }

    /// The same learnt anew at `y`, from the norm and the smallest eigenvalue known there.
    pub fn renewed(
        &self,
        level: &impl Level<Y>,
        y: &Y,
        gradient_norm: f64,
        rank: &Rank,
    ) -> OracleResult<Self> {
        Self::krylov(level, y, gradient_norm, self.norm, self.smallest, rank)
    }

    /// Takes c as a solve at this point saw it: Ritz values lie above it, so that the smaller of two is the better.
    pub fn observe_range_min(&mut self, seen: Option<f64>) {
        if let Some(c) = seen {
            self.range_min = if self.is_carried { c } else { self.range_min.min(c) };
        }
    }

    /// Dimension of the kernel; an estimate when the kernel is implicit.
    pub fn kernel_dim(&self) -> f64 {
        match &self.kernel {
            Kernel::Basis(basis) => basis.len() as f64,
            Kernel::Implicit { dim, .. } => *dim,
        }
    }

    /// Standard deviation of [`Geometry::kernel_dim`]; `None` when the kernel is known whole.
    pub fn kernel_dim_spread(&self) -> Option<f64> {
        match &self.kernel {
            Kernel::Basis(_) => None,
            Kernel::Implicit { spread, .. } => Some(*spread),
        }
    }

    /// The whole spectrum, if it was computed.
    pub fn spectrum(&self) -> Option<&Spectrum> {
        self.spectrum.as_ref()
    }

    /// P z, the part of z along S(x), as exactly as the solves are.
    pub fn project(&self, level: &impl Level<Y>, y: &Y, z: &Y) -> OracleResult<Y> {
        Ok(self.project_to(level, y, z, 0.0)?.part)
    }

    /// P z. An iterative solve takes the range part away to a relative `accuracy`, or to what its tolerance allows.
    ///
    /// With a factorisation or a basis it is exact and costs no product.
    pub fn project_to(
        &self,
        level: &impl Level<Y>,
        y: &Y,
        z: &Y,
        accuracy: f64,
    ) -> OracleResult<Projection<Y>> {
        match &self.kernel {
            Kernel::Basis(basis) => {
                let mut part = z.zeros_like();
                for t in basis {
                    part.axpy(z.dot(t), t);
                }
                // a basis that was found by solves is as exact as they were
                let is_exact = self.spectrum.is_some() || !self.range_min.is_finite();
                let relative =
                    if is_exact { 0.0 } else { self.minres.tolerance * self.norm / self.range_min };
                Ok(Projection { part, noise: relative * z.norm() })
            }
            Kernel::Implicit { .. } => {
                let image = level.hessian_product(y, z)?;
                // |H(s − z)| ≤ ε‖H‖|s| leaves at most ε‖H‖/c·|s| of the range
                let solve = self.minres_to(accuracy).solve(
                    &mut |v| level.hessian_product(y, v),
                    &image,
                    &y.zeros_like(),
                )?;
                let noise = solve.residual / self.range_min;
                Ok(Projection { part: z.plus(-1.0, &solve.solution), noise })
            }
        }
    }

    /// The solver of systems in the range whose solutions are to be right to a relative `accuracy`, c being the smallest
    /// eigenvalue there.
    fn minres_to(&self, accuracy: f64) -> Minres {
        let wanted = if accuracy > 0.0 { (accuracy * self.range_min / self.norm).min(1e-2) } else { 0.0 };
        let tolerance = wanted.max(self.minres.tolerance);
        Minres { tolerance, ..self.minres }
    }

    /// P z to `resolution`·|P z|, or to 1e-9 (1 + |z|) where that is more: a second projection, and where P z is far smaller
    /// than it seemed a third, takes away what the one before left of the range, if that was too much.
    pub fn project_resolved(
        &self,
        level: &impl Level<Y>,
        y: &Y,
        z: &Y,
        resolution: f64,
    ) -> OracleResult<Projection<Y>> {
        let mut projection = self.project_to(level, y, z, 0.1 * resolution)?;
        for _ in 0..MORE_PROJECTIONS {
            let goal = (resolution * projection.part.norm()).max(1e-9 * (1.0 + z.norm()));
            if projection.noise <= goal || matches!(self.kernel, Kernel::Basis(_)) {
                break;
            }
            // accuracy is relative to what is taken away, here the noise of the projection before
            projection = self.project_to(level, y, &projection.part, 0.1 * goal / projection.noise)?;
        }
        Ok(projection)
    }

    /// v = H⁺ b and P b. Dense: by the eigendecomposition. Matrix-free: b − P b lies in the range, and one consistent
    /// MINRES solve gives v.
    pub fn pseudoinverse(&self, level: &impl Level<Y>, y: &Y, b: &Y) -> OracleResult<PseudoSolve<Y>> {
        self.pseudoinverse_to(level, y, b, 0.0)
    }

    /// [`Geometry::pseudoinverse`] with P b resolved to `resolution`·|P b| and v to a tenth of `resolution` only, which is
    /// cheaper where P b is large.
    pub fn pseudoinverse_to(
        &self,
        level: &impl Level<Y>,
        y: &Y,
        b: &Y,
        resolution: f64,
    ) -> OracleResult<PseudoSolve<Y>> {
        if let (Some(spectrum), Some(cut)) = (&self.spectrum, &self.cut) {
            let v = spectrum.pseudoinverse(cut.threshold, b);
            let tangent = spectrum.project_on_kernel(cut.threshold, b);
            // on the range H(H v − b) = 0 up to the rounding of the decomposition
            let defect = spectrum.function(|value| value, &v).plus(-1.0, b).plus(1.0, &tangent);
            let scale = b.norm().max(f64::MIN_POSITIVE);
            return Ok(PseudoSolve {
                residual: defect.norm() / scale,
                v,
                tangent,
                tangent_noise: 0.0,
                range_min: None,
                iterations: 0,
                is_solved: true,
            });
        }
        let Projection { part: tangent, noise: tangent_noise } =
            self.project_resolved(level, y, b, resolution)?;
        let range_part = b.plus(-1.0, &tangent);
        let solve = self.minres_to(0.1 * resolution).solve(
            &mut |v| level.hessian_product(y, v),
            &range_part,
            &y.zeros_like(),
        )?;
        let scale = (self.norm * b.norm()).max(f64::MIN_POSITIVE);
        // a smaller Ritz value is rounding that leaked into the kernel
        let cut = self.cut_tol * self.norm;
        Ok(PseudoSolve {
            v: solve.solution,
            tangent,
            tangent_noise,
            range_min: solve.smallest_ritz.map(f64::abs).filter(|&ritz| ritz > cut),
            residual: solve.normal_residual / scale,
            iterations: solve.iterations,
            is_solved: solve.status.is_least_squares(),
        })
    }
}

/// Purpose of the random stream of kernel probes.
const PROBE_PURPOSE: u64 = 0x9e;
/// Most projections that follow the first one of a vector.
const MORE_PROJECTIONS: u32 = 2;
/// Relative size below which a projected probe is the error of its solve.
const KERNEL_NOISE: f64 = 1e-9;
