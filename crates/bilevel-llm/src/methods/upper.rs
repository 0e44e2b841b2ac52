//! The upper variable x, of which the weights are p = softmax(x), and how it moves.

use serde::{Deserialize, Serialize};

use crate::{
    ledger::Ledger,
    recipe::{ReweightSpec, Upper},
    result::CycleCertificate,
};

/// Below this r the sources are fitted and the weights have no effect.
const R_MIN: f64 = 1e-3;

/// The upper variable and the memory of its updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpperState {
    /// Source logits; −∞ of a source without weight.
    #[serde(with = "logits")]
    pub x: Vec<f64>,
    /// Running means of ∂F/∂p (centred) on the two half-batches.
    halves: [Vec<f64>; 2],
    /// Running means of squares: one number for mirror steps, one for each source for Adam.
    square: Vec<f64>,
    /// Updates of the running means.
    pub cycles: u64,
    /// Cycles in which p stayed.
    pub no_signal: u64,
    /// p after each cycle.
    pub history: Vec<Vec<f64>>,
    /// Units spent at the last cycle's end.
    spent: f64,
}

/// JSON has no infinite numbers: the logit of a weight of zero is `null` there.
mod logits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(x: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        let finite: Vec<Option<f64>> = x.iter().map(|x| (*x > f64::NEG_INFINITY).then_some(*x)).collect();
        finite.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let finite = Vec::<Option<f64>>::deserialize(deserializer)?;
        Ok(finite.into_iter().map(|x| x.unwrap_or(f64::NEG_INFINITY)).collect())
    }
}

impl UpperState {
    /// At weights p, nothing learned yet.
    pub fn new(p: &[f64]) -> Self {
        let zeros = vec![0.0; p.len()];
        Self {
            x: p.iter().map(|p| p.ln()).collect(),
            halves: [zeros.clone(), zeros.clone()],
            square: zeros,
            cycles: 0,
            no_signal: 0,
            history: Vec::new(),
            spent: 0.0,
        }
    }
    /// p = softmax(x).
    pub fn weights(&self) -> Vec<f64> {
        softmax(&self.x)
    }
    /// The mean of p over the last fraction of the cycles; p itself before the first.
    pub fn final_weights(&self, fraction: f64) -> Vec<f64> {
        let n = ((self.history.len() as f64 * fraction).ceil() as usize).min(self.history.len());
        let last = &self.history[self.history.len() - n..];
        if last.is_empty() {
            return self.weights();
        }
        (0..self.x.len()).map(|i| last.iter().map(|p| p[i]).sum::<f64>() / n as f64).collect()
    }

    /// x from now on; when no weight may rise above `limit`, the logits of the weights cut to it.
    pub fn place(&mut self, x: &[f64], limit: Option<f64>) {
        let p = softmax(x);
        self.x = cap(p, limit).iter().map(|p| p.max(f64::MIN_POSITIVE).ln()).collect();
    }

    /// Takes in one cycle's estimates of ∂F/∂p on two half-batches; moves x unless nothing rises above the noise.
    pub fn update(
        &mut self,
        spec: &ReweightSpec,
        estimates: &[Vec<f64>; 2],
        r: f64,
        ledger: &Ledger,
    ) -> CycleCertificate {
        let step = spec.step.of_cycle((ledger.spent() - self.spent) / ledger.budget());
        self.spent = ledger.spent();
        let p = self.weights();
        let keep = spec.averaging;
        self.cycles += 1;
        let correction = 1.0 - keep.powf(self.cycles as f64);
        for (mean, estimate) in self.halves.iter_mut().zip(estimates) {
            let centre: f64 = estimate.iter().zip(&p).map(|(s, p)| s * p).sum();
            for (m, s) in mean.iter_mut().zip(estimate) {
                *m = keep * *m + (1.0 - keep) * (s - centre);
            }
        }
        let [a, b] = &self.halves;
        let signal: Vec<f64> = a.iter().zip(b).map(|(a, b)| 0.5 * (a + b) / correction).collect();
        let gradient: Vec<f64> = signal.iter().zip(&p).map(|(s, p)| s * p).collect();
        let noise =
            a.iter().zip(b).zip(&p).map(|((a, b), p)| (p * (a - b) / correction).powi(2)).sum::<f64>().sqrt();
        let gradient_norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        // equality counts as no signal: with one source, or none that differ, both sides are zero
        let no_signal = r < R_MIN || gradient_norm <= noise;
        let k = p.len() as f64;
        let mean_square = signal.iter().map(|s| s * s).sum::<f64>() / k;
        for (q, g) in self.square.iter_mut().zip(&gradient) {
            let new = match spec.upper {
                Upper::Mirror => mean_square,
                Upper::Adam => g * g,
            };
            *q = keep * *q + (1.0 - keep) * new;
        }
        if no_signal {
            self.no_signal += 1;
        } else {
            for ((x, q), (s, g)) in self.x.iter_mut().zip(&self.square).zip(signal.iter().zip(&gradient)) {
                let along = match spec.upper {
                    Upper::Mirror => s,
                    Upper::Adam => g,
                };
                // 1e-12: a direction without any history does not move
                *x -= step * along / ((q / correction).sqrt() + 1e-12);
            }
            let x = std::mem::take(&mut self.x);
            self.place(&x, spec.cap);
        }
        self.history.push(self.weights());
        CycleCertificate {
            r,
            gradient_norm,
            noise,
            gradient,
            no_signal,
            solve_residual: None,
            damping: None,
            continuations: Vec::new(),
        }
    }
}

/// Softmax of a short list.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|a| (a - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|a| a / sum).collect()
}

/// The weights with none above `cap`: what is cut off goes to the others in proportion.
fn cap(mut p: Vec<f64>, cap: Option<f64>) -> Vec<f64> {
    let Some(cap) = cap else { return p };
    let mut is_full = vec![false; p.len()];
    // each pass fills at least one more source
    while let Some(i) = (0..p.len()).find(|&i| !is_full[i] && p[i] > cap) {
        is_full[i] = true;
        p[i] = cap;
        let room = 1.0 - cap * is_full.iter().filter(|&&f| f).count() as f64;
        let rest: f64 = p.iter().zip(&is_full).filter(|(_, f)| !**f).map(|(p, _)| p).sum();
        for (p, _) in p.iter_mut().zip(&is_full).filter(|(_, f)| !**f) {
            *p *= room.max(0.0) / rest;
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::Entry,
        recipe::{LedgerSpec, UpperStep},
    };

    #[test]
    fn a_source_without_weight_survives_a_checkpoint() {
        let upper = UpperState::new(&[0.0, 0.25, 0.75]);
        let copy: UpperState = serde_json::from_str(&serde_json::to_string(&upper).unwrap()).unwrap();
        assert_eq!(copy, upper);
        assert_eq!(copy.weights()[0], 0.0);
    }

    #[test]
    fn a_reach_is_covered_whatever_the_number_of_cycles() {
        let spec = ReweightSpec { step: UpperStep::Reach(3.0), averaging: 0.0, ..ReweightSpec::default() };
        for cycles in [1, 3, 10] {
            let mut upper = UpperState::new(&[0.5, 0.5]);
            let mut ledger = Ledger::new(900.0, LedgerSpec { training: 1.0, ..LedgerSpec::default() });
            let mut covered = 0.0;
            for _ in 0..cycles {
                ledger.charge(Entry::Training, 900 / cycles);
                let (p, before) = (upper.weights(), upper.x[0] - upper.x[1]);
                upper.update(&spec, &[vec![-1.0, 1.0], vec![-1.0, 1.0]], 1.0, &ledger);
                // centred at p the two derivatives are −1 − c and 1 − c, of root mean square √(1 + c²)
                let c = p[1] - p[0];
                covered += (upper.x[0] - upper.x[1] - before) / 2.0 * (1.0 + c * c).sqrt();
            }
            assert!((covered - 3.0).abs() < 1e-9, "{cycles} cycles covered {covered}");
        }
    }
}
