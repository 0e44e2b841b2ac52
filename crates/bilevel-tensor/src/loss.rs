//! What a user states: a loss as a function of named tensors.

use bilevel::Sample;
use candle_core::{Error, Result, Tensor, Var};

use crate::tree::TensorTree;

/// Named tensors as a loss sees them: variables of the derivative being taken, or constants.
#[derive(Clone, Debug)]
pub struct Params {
    /// Sorted by name.
    entries: Vec<(String, Tensor)>,
}

impl Params {
    /// The tensor of this name; an error that lists the names there are, so that a loss can use `?`.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        if let Ok(i) = self.entries.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            return Ok(&self.entries[i].1);
        }
        let names: Vec<_> = self.entries.iter().map(|(name, _)| name.as_str()).collect();
        Err(Error::Msg(format!("there is no tensor \"{name}\"; there are {}", names.join(", "))))
    }
    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub(crate) fn constants(tree: &TensorTree) -> Self {
        Self { entries: tree.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect() }
    }
    pub(crate) fn variables(vars: &[(String, Var)]) -> Self {
        Self { entries: vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect() }
    }
}

/// One level's loss, made of candle operations that have derivatives.
///
/// A closure `|x: &Params, y: &Params, s: Sample| -> candle_core::Result<Tensor>` is a loss.
///
/// Operations without a derivative (candle's fused `softmax_last_dim`, `rms_norm`, `layer_norm`, `rope`; anything
/// with `no_bwd` in its name; `detach`) drop a part of the gradient without an error. That is what
/// [`TensorObjective::checked`](crate::TensorObjective::checked) is for.
pub trait Loss {
    /// The loss as a tensor of one element, averaged over the sample.
    fn loss(&self, x: &Params, y: &Params, s: Sample) -> Result<Tensor>;
    /// Number of terms of a finite sum; `None` for one deterministic term or a stream.
    fn n_samples(&self) -> Option<u64> {
        None
    }
    /// The loss as a function of a model's outputs, if it is one; needed by Gauss–Newton products alone.
    fn composite(&self) -> Option<&dyn Composite> {
        None
    }
}

impl<F: Fn(&Params, &Params, Sample) -> Result<Tensor>> Loss for F {
    fn loss(&self, x: &Params, y: &Params, s: Sample) -> Result<Tensor> {
        self(x, y, s)
    }
}

/// A loss of the form ℓ(x, o(x, y)) + ½ μ |y|², with ℓ convex in the outputs o.
pub trait Composite {
    /// The outputs o(x, y), any shape.
    fn outputs(&self, x: &Params, y: &Params, s: Sample) -> Result<Tensor>;
    /// ℓ(x, o): a tensor of one element.
    fn loss_of(&self, x: &Params, outputs: &Tensor, s: Sample) -> Result<Tensor>;
    /// μ, zero when there is no weight decay.
    fn weight_decay(&self) -> f64 {
        0.0
    }
    /// (∇²ℓ) u with respect to the outputs, of the shape of u. `None`, the default, takes differences of ∇ℓ: exact
    /// for squared errors up to rounding.
    fn curvature(&self, _x: &Params, _outputs: &Tensor, _u: &Tensor, _s: Sample) -> Option<Result<Tensor>> {
        None
    }
}
