//! `AdamW` on a short list: the upper variable of methods that were published with it.

use serde::{Deserialize, Serialize};

const BETA1: f64 = 0.9;
const EPSILON: f64 = 1e-8;

/// Moments of `AdamW`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    first: Vec<f64>,
    second: Vec<f64>,
    updates: u64,
}

impl Moments {
    /// x after a step of size `size` along a gradient, with decoupled decay and the rate `beta2` of the second moment.
    pub fn step(&mut self, x: &[f64], gradient: &[f64], size: f64, decay: f64, beta2: f64) -> Vec<f64> {
        self.first.resize(x.len(), 0.0);
        self.second.resize(x.len(), 0.0);
        self.updates += 1;
        let t = self.updates as f64;
        let (one, two) = (1.0 - BETA1.powf(t), 1.0 - beta2.powf(t));
        let both = self.first.iter_mut().zip(&mut self.second);
        x.iter()
            .zip(gradient)
            .zip(both)
            .map(|((x, g), (m, v))| {
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                x * (1.0 - size * decay) - size * (*m / one) / ((*v / two).sqrt() + EPSILON)
            })
            .collect()
    }
}
