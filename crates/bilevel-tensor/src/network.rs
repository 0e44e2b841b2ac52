//! An over-parameterised network as a bilevel problem: the large case without factorisation.

use std::{cell::RefCell, rc::Rc};

use bilevel::{
    Objective, OracleError, OracleResult, Problem, Sample, SecondOrder,
    linear::{LinearSolver, cg::Cg},
    rng::Stream,
    vector::Vector,
};
use candle_core::{DType, Device, Result, Tensor, TensorId};

use crate::{
    images::{CLASSES, Images},
    tree::TensorTree,
};

/// A network N(y; a) = W₂ tanh(W₁ a + b₁) + b₂, net(y; a) = σ (N(y; a) − N(y₀; a)), that interpolates its training images, and a table of codes that says
/// what it interpolates:
///
/// ```text
/// g(x, y) = 1/2n Σ |net(y; a_i) − x_{c_i}|²                                x: one code of 10 numbers for each label
/// f(x, y) = ω/2m Σ |net(y; a'_j) − e_{c'_j}|² + ½κ |y − y₀|²               clean validation images, y₀ the initial weights
/// ```
///
/// With more weights than 10 n equations S(x) is a manifold of dimension dim y − 10 n, and it moves with every entry of
/// x: all outputs on the training images are prescribed by it. With wrong labels among the training images this is label
/// correction: the best codes are those whose interpolating network, nearest to y₀, reads the clean images. κ > 0 makes
/// the selection unique near y₀; ω = 0 leaves the projection of y₀ on S(x).
///
/// The way from y₀ to S(x) is of length O(1/σ), and so is the part of the curvature of f along S(x) that comes from
/// the third derivative of g: for σ = 10 the network is nearly linear in its weights on the way (L. Chizat, E. Oyallon and
/// F. Bach, On lazy training, arXiv 1812.07956), with σ = 1 it is not, and S(x) bends sharply. The condition of the Hessian
/// does not depend on it.
///
/// Derivatives are by hand, the full Hessian included; products at the same y share its forward pass.
#[derive(Debug)]
pub struct Network {
    upper: NetworkUpper,
    lower: NetworkLower,
    start: (TensorTree, TensorTree),
}

/// Settings of [`Network`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkSettings {
    /// Hidden units.
    pub hidden: usize,
    /// ω, weight of the validation loss.
    pub validation: f64,
    /// κ, weight of the distance from the initial weights.
    pub proximity: f64,
    /// How numbers are stored: f32 or f64.
    pub dtype: DType,
    /// σ, by which the outputs are multiplied.
    pub output_scale: f64,
    /// Seed of the initial weights.
    pub seed: u64,
}

impl Default for NetworkSettings {
    /// 256 hidden units, ω = κ = σ = 1, f32.
    fn default() -> Self {
        Self { hidden: 256, validation: 1.0, proximity: 1.0, dtype: DType::F32, output_scale: 1.0, seed: 0 }
    }
}

/// The lower level g of [`Network`].
#[derive(Debug)]
pub struct NetworkLower {
    fit: Fit,
}

/// The upper level f of [`Network`].
#[derive(Debug)]
pub struct NetworkUpper {
    fit: Fit,
    targets: Tensor, // (m, 10)
    validation: f64,
    proximity: f64,
    initial: TensorTree,
}

impl Network {
    /// The problem of interpolating the training images and reading the validation images.
    ///
    /// Pixels are centred by the training mean and scaled to mean square 1 per image, so that the first layer's
    /// inputs do not share one dominant direction. The start is x = the unit codes and y = y₀.
    ///
    /// # Errors
    /// Sets of images that are empty or of different size; candle's refusals.
    pub fn new(training: &Images, validation: &Images, settings: NetworkSettings) -> Result<Self> {
        if training.is_empty() || validation.is_empty() || training.size != validation.size {
            return Err(candle_core::Error::Msg(format!(
                "a network needs images of one size to train and to validate on, there are {} of {} pixels and {} of \
                 {}",
                training.len(),
                training.size,
                validation.len(),
                validation.size
            )));
        }
        let (n, p) = (training.len() as f64, training.size);
        let mut mean = vec![0.0; p];
        for (i, &pixel) in training.pixels.iter().enumerate() {
            mean[i % p] += f64::from(pixel) / n;
        }
        let centred = |images: &Images| -> Vec<f64> {
            images.pixels.iter().enumerate().map(|(i, &pixel)| f64::from(pixel) - mean[i % p]).collect()
        };
        let training_inputs = centred(training);
        let square = training_inputs.iter().map(|a| a * a).sum::<f64>() / training_inputs.len() as f64;
        let initial = initial_weights(p, settings)?;
        let fit = |inputs: &[f64], images: &Images| -> Result<Fit> {
            let inputs = Tensor::from_slice(inputs, (images.len(), p), &Device::Cpu)?;
            Fit::new(&inputs.affine(1.0 / square.sqrt().max(1e-12), 0.0)?, &images.labels, settings, &initial)
        };
        let (lower, upper) = (fit(&training_inputs, training)?, fit(&centred(validation), validation)?);
        let codes = Tensor::eye(CLASSES, DType::F64, &Device::Cpu)?.to_dtype(settings.dtype)?;
        Ok(Self {
            lower: NetworkLower { fit: lower },
            upper: NetworkUpper {
                targets: upper.labels.clone(),
                fit: upper,
                validation: settings.validation,
                proximity: settings.proximity,
                initial: initial.clone(),
            },
            start: (TensorTree::new(vec![("codes".into(), codes)]).map_err(wrap)?, initial),
        })
    }

    /// A point near S(x): from y, Levenberg–Marquardt on the residuals of the training images, until
    /// g ≤ `value` or the steps are used up.
    ///
    /// g is a sum of squares, so far from S(x) this is the landing of choice: its model is positive semidefinite where
    /// the Hessian is not. Each step is the shortest one, so that the point reached is near the projection of y.
    /// HG-MS lands from there to its own tolerance.
    pub fn interpolate(
        &self,
        x: &TensorTree,
        y: &TensorTree,
        value: f64,
        steps: u32,
    ) -> OracleResult<TensorTree> {
        let fit = &self.lower.fit;
        let failed = |e| OracleError::failed("lower.value", e);
        let targets = codes(x).and_then(|codes| fit.labels.matmul(codes)).map_err(failed)?;
        let (mut y, mut damping) = (y.clone(), 1.0);
        let mut loss = fit.value(&y, &targets).map_err(failed)?;
        // K = ∂net ∂netᵀ/n has eigenvalues of the order of the Hessian's; the damping is on that scale
        let scale = 1.0 / fit.count as f64;
        for _ in 0..steps {
            if loss <= value {
                break;
            }
            let residual = fit.forward(&y).and_then(|f| outputs(f.outputs.sub(&targets)?)).map_err(failed)?;
            let solver = Cg { tolerance: 1e-3, max_iterations: 300, ..Cg::default() };
            let mut kernel = |u: &TensorTree| -> OracleResult<TensorTree> {
                let product = || {
                    let back = fit.gradient(&y, output(u)?)?;
                    outputs(fit.tangent(&y, &back)?.1.affine(scale, 0.0)?)
                };
                Ok(product().map_err(failed)?.plus(damping, u))
            };
            let solve = solver.solve(&mut kernel, &residual, &residual.zeros_like())?;
            let pulled = output(&solve.solution).and_then(|u| fit.gradient(&y, u)).map_err(failed)?;
            let trial = y.plus(-scale, &pulled);
            let there = fit.value(&trial, &targets).map_err(failed)?;
            if there < loss {
                (y, loss, damping) = (trial, there, (0.1 * damping).max(1e-8));
            } else {
                damping *= 10.0;
            }
        }
        Ok(y)
    }

    /// Dimension of S(x) where the 10 n outputs are independent: dim y − 10 n.
    pub fn kernel_dim(&self) -> usize {
        self.start.1.dim().saturating_sub(CLASSES * self.lower.fit.count)
    }

    /// Share of the validation images whose largest output is that of their label.
    pub fn accuracy(&self, y: &TensorTree) -> Result<f64> {
        let outputs = self.upper.fit.forward(y)?.outputs.argmax(1)?;
        let right = outputs.eq(&self.upper.targets.argmax(1)?)?.to_dtype(DType::F64)?;
        right.mean_all()?.to_scalar()
    }
}

fn wrap(error: crate::TensorError) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

/// Outputs as a vector, to solve with.
fn outputs(tensor: Tensor) -> Result<TensorTree> {
    TensorTree::new(vec![("outputs".into(), tensor)]).map_err(wrap)
}
fn output(tree: &TensorTree) -> Result<&Tensor> {
    tree.get("outputs").ok_or_else(|| candle_core::Error::Msg("outputs have another shape".into()))
}

/// Normal weights of variance 1/fan-in, zero biases.
fn initial_weights(inputs: usize, settings: NetworkSettings) -> Result<TensorTree> {
    const WEIGHTS: u64 = 0;
    let mut stream = Stream::new(settings.seed, WEIGHTS);
    let mut layer = |rows: usize, columns: usize| -> Result<Tensor> {
        let scale = (columns as f64).sqrt().recip();
        let values: Vec<f64> = (0..rows * columns).map(|_| scale * stream.normal()).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu)?.to_dtype(settings.dtype)
    };
    let (w1, w2) = (layer(settings.hidden, inputs)?, layer(CLASSES, settings.hidden)?);
    let bias = |rows: usize| Tensor::zeros(rows, settings.dtype, &Device::Cpu);
    TensorTree::new(vec![
        ("b1".into(), bias(settings.hidden)?),
        ("b2".into(), bias(CLASSES)?),
        ("w1".into(), w1),
        ("w2".into(), w2),
    ])
    .map_err(wrap)
}

/// The network on fixed images.
#[derive(Debug)]
struct Fit {
    inputs: Tensor, // (n, p)
    labels: Tensor, // (n, 10), one 1 a row
    count: usize,
    /// σ.
    scale: f64,
    /// N(y₀; ·).
    initial: Tensor, // (n, 10)
    /// The last forward pass; tensors of a tree never change, so their identities say that y is the same.
    last: RefCell<Option<(Vec<TensorId>, Rc<Forward>)>>,
}

/// What a forward pass leaves for derivatives.
#[derive(Debug)]
struct Forward {
    active: Tensor,  // tanh z, (n, h)
    slope: Tensor,   // 1 − tanh² z, (n, h)
    outputs: Tensor, // (n, 10)
}

/// The weights by name.
struct Weights<'a> {
    w1: &'a Tensor,
    b1: &'a Tensor,
    w2: &'a Tensor,
    b2: &'a Tensor,
}

impl<'a> Weights<'a> {
    fn of(y: &'a TensorTree) -> Result<Self> {
        let get = |name: &str| {
            y.get(name).ok_or_else(|| {
                candle_core::Error::Msg(format!(
                    "the network's weights have no tensor \"{name}\"; start from Problem::start"
                ))
            })
        };
        Ok(Self { w1: get("w1")?, b1: get("b1")?, w2: get("w2")?, b2: get("b2")? })
    }
}

impl Fit {
    fn new(inputs: &Tensor, labels: &[u8], settings: NetworkSettings, initial: &TensorTree) -> Result<Self> {
        let dtype = settings.dtype;
        let mut table = vec![0.0; labels.len() * CLASSES];
        for (i, &label) in labels.iter().enumerate() {
            let entry = table[i * CLASSES..(i + 1) * CLASSES].get_mut(usize::from(label));
            *entry.ok_or_else(|| {
                candle_core::Error::Msg(format!("label {label} of image {i} is not below {CLASSES}"))
            })? = 1.0;
        }
        let labels = Tensor::from_vec(table, (labels.len(), CLASSES), &Device::Cpu)?.to_dtype(dtype)?;
        let mut fit = Self {
            count: labels.dim(0)?,
            inputs: inputs.to_dtype(dtype)?,
            scale: settings.output_scale,
            initial: Tensor::zeros_like(&labels)?,
            labels,
            last: RefCell::new(None),
        };
        fit.initial = fit.forward(initial)?.outputs.affine(settings.output_scale.recip(), 0.0)?;
        fit.last.borrow_mut().take();
        Ok(fit)
    }

    /// The part of the images that a sample asks for.
    fn on<T>(&self, s: Sample, with: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        match s {
            Sample::Full => with(self),
            Sample::Batch(indices) => {
                let count = indices.len();
                if count == 0 || indices.iter().any(|&i| i >= self.count as u64) {
                    return Err(candle_core::Error::Msg(format!(
                        "a batch needs indices below {}, this one is {indices:?}",
                        self.count
                    )));
                }
                let rows: Vec<u32> = indices.iter().map(|&i| i as u32).collect();
                let rows = Tensor::from_vec(rows, count, &Device::Cpu)?;
                with(&Self {
                    inputs: self.inputs.index_select(&rows, 0)?,
                    labels: self.labels.index_select(&rows, 0)?,
                    count,
                    scale: self.scale,
                    initial: self.initial.index_select(&rows, 0)?,
                    last: RefCell::new(None),
                })
            }
        }
    }

    fn forward(&self, y: &TensorTree) -> Result<Rc<Forward>> {
        let key: Vec<TensorId> = y.iter().map(|(_, tensor)| tensor.id()).collect();
        if let Some((last, forward)) = &*self.last.borrow()
            && *last == key
        {
            return Ok(forward.clone());
        }
        let w = Weights::of(y)?;
        let active = self.inputs.matmul(&w.w1.t()?)?.broadcast_add(w.b1)?.tanh()?;
        let slope = active.sqr()?.affine(-1.0, 1.0)?;
        let outputs = active.matmul(&w.w2.t()?)?.broadcast_add(w.b2)?;
        let outputs = outputs.sub(&self.initial)?.affine(self.scale, 0.0)?;
        let forward = Rc::new(Forward { active, slope, outputs });
        *self.last.borrow_mut() = Some((key, forward.clone()));
        Ok(forward)
    }

    /// (net − t)/n, the derivative of the loss in the outputs.
    fn errors(&self, forward: &Forward, targets: &Tensor) -> Result<Tensor> {
        forward.outputs.sub(targets)?.affine(1.0 / self.count as f64, 0.0)
    }

    /// 1/2n Σ|net − t|².
    fn value(&self, y: &TensorTree, targets: &Tensor) -> Result<f64> {
        let residual = self.forward(y)?.outputs.sub(targets)?.to_dtype(DType::F64)?;
        Ok(residual.sqr()?.sum_all()?.to_scalar::<f64>()? / (2.0 * self.count as f64))
    }

    /// Σ_i (∂ net_i/∂y)ᵀ d_i.
    fn gradient(&self, y: &TensorTree, d: &Tensor) -> Result<TensorTree> {
        let (forward, w, d) = (self.forward(y)?, Weights::of(y)?, d.affine(self.scale, 0.0)?);
        let back = d.matmul(w.w2)?.mul(&forward.slope)?;
        y.with_tensors([
            back.sum(0)?,
            d.sum(0)?,
            back.t()?.matmul(&self.inputs)?,
            d.t()?.matmul(&forward.active)?,
        ])
    }

    /// Derivatives of tanh z and of the outputs along v.
    fn tangent(&self, y: &TensorTree, v: &TensorTree) -> Result<(Tensor, Tensor)> {
        let (forward, w, v) = (self.forward(y)?, Weights::of(y)?, Weights::of(v)?);
        let active = self.inputs.matmul(&v.w1.t()?)?.broadcast_add(v.b1)?.mul(&forward.slope)?;
        let outputs =
            active.matmul(&w.w2.t()?)?.add(&forward.active.matmul(&v.w2.t()?)?)?.broadcast_add(v.b2)?;
        let outputs = outputs.affine(self.scale, 0.0)?;
        Ok((active, outputs))
    }

    /// H v of 1/2n Σ|net − t|²: the derivative of [`Fit::gradient`] along v, residual term included.
    fn hessian(&self, y: &TensorTree, targets: &Tensor, v: &TensorTree) -> Result<TensorTree> {
        let (forward, w, vw) = (self.forward(y)?, Weights::of(y)?, Weights::of(v)?);
        // the derivatives of the loss in W₂ tanh(W₁ a + b₁) + b₂, and theirs along v
        let d = self.errors(&forward, targets)?.affine(self.scale, 0.0)?;
        let (active, outputs) = self.tangent(y, v)?;
        let d_dot = outputs.affine(self.scale / self.count as f64, 0.0)?;
        // back = (d W₂)·(1 − tanh²), so its derivative has a part from each factor
        let through = d_dot.matmul(w.w2)?.add(&d.matmul(vw.w2)?)?.mul(&forward.slope)?;
        let bend = d.matmul(w.w2)?.mul(&forward.active)?.mul(&active)?.affine(-2.0, 0.0)?;
        let back = through.add(&bend)?;
        y.with_tensors([
            back.sum(0)?,
            d_dot.sum(0)?,
            back.t()?.matmul(&self.inputs)?,
            d_dot.t()?.matmul(&forward.active)?.add(&d.t()?.matmul(&active)?)?,
        ])
    }
}

fn codes(x: &TensorTree) -> Result<&Tensor> {
    x.get("codes").ok_or_else(|| {
        candle_core::Error::Msg(
            "the upper variable has no tensor \"codes\"; start from Problem::start".into(),
        )
    })
}

impl Objective<TensorTree, TensorTree> for NetworkLower {
    fn value(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<f64> {
        let value = self.fit.on(s, |fit| fit.value(y, &fit.labels.matmul(codes(x)?)?));
        value.map_err(|e| OracleError::failed("lower.value", e))
    }
    fn grad_x(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        let gradient = self.fit.on(s, |fit| {
            let d = fit.errors(&*fit.forward(y)?, &fit.labels.matmul(codes(x)?)?)?;
            x.with_tensors([fit.labels.t()?.matmul(&d)?.neg()?])
        });
        gradient.map_err(|e| OracleError::failed("lower.grad_x", e))
    }
    fn grad_y(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        let gradient = self
            .fit
            .on(s, |fit| fit.gradient(y, &fit.errors(&*fit.forward(y)?, &fit.labels.matmul(codes(x)?)?)?));
        gradient.map_err(|e| OracleError::failed("lower.grad_y", e))
    }
    fn n_samples(&self) -> Option<u64> {
        Some(self.fit.count as u64)
    }
}

impl SecondOrder<TensorTree, TensorTree> for NetworkLower {
    fn hvp_yy(&self, x: &TensorTree, y: &TensorTree, v: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        let product = self.fit.on(s, |fit| fit.hessian(y, &fit.labels.matmul(codes(x)?)?, v));
        product.map_err(|e| OracleError::failed("lower.hvp_yy", e))
    }
    fn jvp_xy(&self, x: &TensorTree, y: &TensorTree, v: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        let product = self.fit.on(s, |fit| {
            let outputs = fit.tangent(y, v)?.1;
            x.with_tensors([fit.labels.t()?.matmul(&outputs)?.affine(-1.0 / fit.count as f64, 0.0)?])
        });
        product.map_err(|e| OracleError::failed("lower.jvp_xy", e))
    }
}

impl Objective<TensorTree, TensorTree> for NetworkUpper {
    fn value(&self, _: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<f64> {
        let distance = y.distance(&self.initial);
        let near = 0.5 * self.proximity * distance * distance;
        if self.validation == 0.0 {
            return Ok(near);
        }
        let fit = self.fit.on(s, |fit| fit.value(y, &fit.labels));
        Ok(self.validation * fit.map_err(|e| OracleError::failed("upper.value", e))? + near)
    }
    fn grad_x(&self, x: &TensorTree, _: &TensorTree, _: Sample) -> OracleResult<TensorTree> {
        Ok(x.zeros_like())
    }
    fn grad_y(&self, _: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        let mut gradient = y.plus(-1.0, &self.initial);
        gradient.scale(self.proximity);
        if self.validation != 0.0 {
            let fit = self.fit.on(s, |fit| fit.gradient(y, &fit.errors(&*fit.forward(y)?, &fit.labels)?));
            gradient.axpy(self.validation, &fit.map_err(|e| OracleError::failed("upper.grad_y", e))?);
        }
        Ok(gradient)
    }
    fn n_samples(&self) -> Option<u64> {
        Some(self.fit.count as u64)
    }
}

impl Problem for Network {
    type X = TensorTree;
    type Y = TensorTree;
    type Upper = NetworkUpper;
    type Lower = NetworkLower;
    fn upper(&self) -> &NetworkUpper {
        &self.upper
    }
    fn lower(&self) -> &NetworkLower {
        &self.lower
    }
    /// The unit codes and y₀, which [`NetworkSettings::seed`] fixes, since f depends on it.
    fn start(&self, _: u64) -> (TensorTree, TensorTree) {
        self.start.clone()
    }
}
