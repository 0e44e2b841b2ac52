//! The upper variable x, of which the weights are p = softmax(x), and how it moves.

use serde::{Deserialize, Serialize};

use crate::{
    ledger::Ledger,
    methods::limits::within,
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
    /// Change of F that the estimates of ∂F/∂p promised for the moves of p so far; `None` before the first.
    promised: Option<f64>,
    /// That after each cycle.
    promises: Vec<f64>,
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
            promised: None,
            promises: Vec::new(),
            spent: 0.0,
        }
    }
    /// p = softmax(x).
    pub fn weights(&self) -> Vec<f64> {
        softmax(&self.x)
    }
    /// The mean of p over the last fraction of the cycles; p itself before the first.
    pub fn final_weights(&self, fraction: f64) -> Vec<f64> {
        let last = last(&self.history, fraction);
        if last.is_empty() {
            return self.weights();
        }
        let n = last.len() as f64;
        (0..self.x.len()).map(|i| last.iter().map(|p| p[i]).sum::<f64>() / n).collect()
    }

    /// The change of F that is expected of [`UpperState::final_weights`] in place of the first ones: the mean over the same
    /// cycles of what the estimates of ∂F/∂p promised on the way. `None` when there was none.
    pub fn final_prediction(&self, fraction: f64) -> Option<f64> {
        let last = last(&self.promises, fraction);
        if last.is_empty() { self.promised } else { Some(last.iter().sum::<f64>() / last.len() as f64) }
    }

    /// x from now on, as far as the limits of the weights allow.
    pub fn place(&mut self, x: &[f64], limits: Option<&[f64]>) {
        let p = softmax(x);
        self.x = within(p, limits).iter().map(|p| p.max(f64::MIN_POSITIVE).ln()).collect();
    }

    /// As [`UpperState::place`], with an estimate of ∂F/∂p (up to a constant) that says what the move promises.
    pub fn follow(&mut self, x: &[f64], limits: Option<&[f64]>, derivative: &[f64]) {
        let before = self.weights();
        self.place(x, limits);
        let moves = self.weights();
        let moves = moves.iter().zip(&before).map(|(after, before)| after - before);
        let change: f64 = moves.zip(derivative).map(|(by, slope)| by * slope).sum();
        self.promised = Some(self.promised.unwrap_or(0.0) + change);
    }

    /// Ends a cycle with x where a method's own rule puts it, after these estimates of ∂F/∂p on two half-batches. The certificate says what
    /// they are worth; the rule does not ask.
    pub fn go(
        &mut self,
        x: &[f64],
        limits: Option<&[f64]>,
        estimates: &[Vec<f64>; 2],
        r: f64,
    ) -> CycleCertificate {
        let p = self.weights();
        let in_x = |estimate: &Vec<f64>| -> Vec<f64> {
            let centre: f64 = estimate.iter().zip(&p).map(|(s, p)| s * p).sum();
            estimate.iter().zip(&p).map(|(s, p)| p * (s - centre)).collect()
        };
        let [a, b] = [in_x(&estimates[0]), in_x(&estimates[1])];
        let gradient: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 0.5 * (a + b)).collect();
        let noise = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        self.cycles += 1;
        self.place(x, limits);
        self.history.push(self.weights());
        CycleCertificate {
            r,
            gradient_norm: gradient.iter().map(|g| g * g).sum::<f64>().sqrt(),
            noise,
            gradient,
            no_signal: false,
            solve_residual: None,
            damping: None,
            continuations: Vec::new(),
        }
    }

    /// Takes in one cycle's estimates of ∂F/∂p on two half-batches; moves x unless nothing rises above the noise.
    pub fn update(
        &mut self,
        spec: &ReweightSpec,
        limits: Option<&[f64]>,
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
            let mut x = self.x.clone();
            for ((x, q), (s, g)) in x.iter_mut().zip(&self.square).zip(signal.iter().zip(&gradient)) {
                let along = match spec.upper {
                    Upper::Mirror => s,
                    Upper::Adam => g,
                };
                // 1e-12: a direction without any history does not move
                *x -= step * along / ((q / correction).sqrt() + 1e-12);
            }
            self.follow(&x, limits, &signal);
        }
        self.history.push(self.weights());
        self.promises.push(*self.promised.get_or_insert(0.0));
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

/// The last fraction of a list, rounded up.
fn last<T>(all: &[T], fraction: f64) -> &[T] {
    let n = ((all.len() as f64 * fraction).ceil() as usize).min(all.len());
    &all[all.len() - n..]
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
    fn promises_of_a_linear_f_are_kept() {
        // F = c·p: what estimates without noise promise is what p changes
        let c = [0.5, -1.0, 2.0];
        let spec = ReweightSpec { averaging: 0.0, average_last: 0.5, ..ReweightSpec::default() };
        let start = [0.2, 0.3, 0.5];
        let mut upper = UpperState::new(&start);
        assert_eq!(upper.final_prediction(0.5), None);
        let ledger = Ledger::new(900.0, LedgerSpec::default());
        for _ in 0..7 {
            upper.update(&spec, Some(&[0.5, 0.6, 0.5]), &[c.to_vec(), c.to_vec()], 1.0, &ledger);
        }
        let value = |p: &[f64]| p.iter().zip(c).map(|(p, c)| p * c).sum::<f64>();
        let change = value(&upper.final_weights(0.5)) - value(&start);
        assert!(change < -0.5 && (upper.final_prediction(0.5).unwrap() - change).abs() < 1e-12);
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
                upper.update(&spec, None, &[vec![-1.0, 1.0], vec![-1.0, 1.0]], 1.0, &ledger);
                // centred at p the two derivatives are −1 − c and 1 − c, of root mean square √(1 + c²)
                let c = p[1] - p[0];
                covered += (upper.x[0] - upper.x[1] - before) / 2.0 * (1.0 + c * c).sqrt();
            }
            assert!((covered - 3.0).abs() < 1e-9, "{cycles} cycles covered {covered}");
        }
    }
}
