//! From the outputs of a model to a loss, with its first two derivatives in the outputs.

/// How outputs become probabilities of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Softmax over as many outputs as there are classes; the loss is the cross-entropy, in nats.
    Softmax {
        /// Number of classes.
        classes: usize,
    },
    /// One output z, the log-odds of class 1 against class 0: log(1 + e^(−z)) for class 1, log(1 + e^z) for class 0.
    Logistic,
}

impl Link {
    /// Number of outputs.
    pub fn outputs(self) -> usize {
        match self {
            Self::Softmax { classes } => classes,
            Self::Logistic => 1,
        }
    }
    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            Self::Softmax { classes } => classes,
            Self::Logistic => 2,
        }
    }
    /// The loss of one example. Turns its outputs into probabilities as [`Link::probabilities`] does.
    pub fn loss(self, z: &mut [f64], label: u32) -> f64 {
        match self {
            Self::Softmax { .. } => {
                let right = z[label as usize];
                let [largest, sum] = softmax(z);
                sum.ln() - (right - largest)
            }
            Self::Logistic => {
                let right = if label == 1 { z[0] } else { -z[0] };
                logistic(&mut z[0]).ln_1p() + (-right).max(0.0)
            }
        }
    }
    /// Turns the outputs of one example into probabilities: of every class, or of class 1.
    pub fn probabilities(self, z: &mut [f64]) {
        match self {
            Self::Softmax { .. } => drop(softmax(z)),
            Self::Logistic => drop(logistic(&mut z[0])),
        }
    }
    /// Probabilities minus the label: the derivative of the loss in the outputs.
    pub fn residual(self, probabilities: &mut [f64], label: u32) {
        match self {
            Self::Softmax { .. } => probabilities[label as usize] -= 1.0,
            Self::Logistic => probabilities[0] -= f64::from(label),
        }
    }
    /// The second derivative of the loss in the outputs, times t; replaces t.
    pub fn curvature(self, probabilities: &[f64], t: &mut [f64]) {
        match self {
            Self::Softmax { .. } => {
                let mean: f64 = probabilities.iter().zip(t.iter()).map(|(p, t)| p * t).sum();
                t.iter_mut().zip(probabilities).for_each(|(t, p)| *t = p * (*t - mean));
            }
            Self::Logistic => t[0] *= probabilities[0] * (1.0 - probabilities[0]),
        }
    }
    /// The most likely class.
    pub fn class(self, z: &[f64]) -> u32 {
        match self {
            Self::Softmax { .. } => {
                let best = (0..z.len()).max_by(|&a, &b| z[a].total_cmp(&z[b]));
                best.unwrap_or_default() as u32
            }
            Self::Logistic => u32::from(z[0] > 0.0),
        }
    }
}

/// Turns outputs into probabilities; returns the largest output and Σ e^(z − largest).
fn softmax(z: &mut [f64]) -> [f64; 2] {
    let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for z in z.iter_mut() {
        *z = (*z - largest).exp();
        sum += *z;
    }
    let scale = 1.0 / sum;
    for z in z.iter_mut() {
        *z *= scale;
    }
    [largest, sum]
}

/// Turns log-odds z into a probability; returns e^(−|z|), which never overflows.
fn logistic(z: &mut f64) -> f64 {
    let small = (-z.abs()).exp();
    *z = if *z >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_match_differences() {
        for (link, z) in [(Link::Softmax { classes: 3 }, vec![0.3, -1.2, 2.0]), (Link::Logistic, vec![-0.7])]
        {
            let probabilities = |z: &[f64]| {
                let mut p = z.to_vec();
                link.loss(&mut p, 0);
                p
            };
            for label in 0..link.classes() as u32 {
                let mut residual = probabilities(&z);
                link.residual(&mut residual, label);
                for k in 0..z.len() {
                    let at = |e: f64| {
                        let mut moved = z.clone();
                        moved[k] += e;
                        moved
                    };
                    let slope = (link.loss(&mut at(1e-5), label) - link.loss(&mut at(-1e-5), label)) / 2e-5;
                    assert!((slope - residual[k]).abs() < 1e-9, "{link:?} {label} {k}");
                    let mut t = vec![0.0; z.len()];
                    t[k] = 1.0;
                    link.curvature(&probabilities(&z), &mut t);
                    for (c, t) in t.iter().enumerate() {
                        let bend = (probabilities(&at(1e-5))[c] - probabilities(&at(-1e-5))[c]) / 2e-5;
                        assert!((bend - t).abs() < 1e-9);
                    }
                }
            }
        }
    }

    #[test]
    fn losses_stay_finite_for_large_outputs() {
        assert_eq!(Link::Softmax { classes: 2 }.loss(&mut [2000.0, 0.0], 1), 2000.0);
        assert_eq!(Link::Logistic.loss(&mut [-2000.0], 1), 2000.0);
        assert_eq!(Link::Logistic.loss(&mut [2000.0], 1), 0.0);
        assert_eq!(Link::Logistic.class(&[0.5]), 1);
        assert_eq!(Link::Softmax { classes: 3 }.class(&[0.5, 2.0, 1.0]), 1);
    }
}
