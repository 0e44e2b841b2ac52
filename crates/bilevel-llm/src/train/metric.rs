//! The diagonal by which an optimiser divides a gradient.

use std::ops::Range;

use super::{BETA2, EPSILON, MOMENTUM, Network};
use crate::recipe::Optimizer;

/// A diagonal D over the trained list. What moments say is read where it is asked for, so that no list of it is made.
#[derive(Clone, Debug)]
pub enum Metric<'a> {
    /// The same number everywhere.
    Constant(f32),
    /// Roots of second moments.
    Roots {
        /// The moments.
        second: &'a [f32],
        /// The places, ascending and without gaps, with the correction of their moments.
        spans: Vec<(Range<usize>, f64)>,
        /// The least root.
        floor: f64,
    },
}

/// Places whose diagonal is made at once.
const AT_ONCE: usize = 1024;

impl Metric<'_> {
    /// Goes through a list of this length by stretches: their places, and D there.
    pub fn each(&self, len: usize, mut with: impl FnMut(Range<usize>, &[f32])) {
        let mut room = [0.0_f32; AT_ONCE];
        match self {
            Self::Constant(number) => {
                room.fill(*number);
                for start in (0..len).step_by(AT_ONCE) {
                    let end = len.min(start + AT_ONCE);
                    with(start..end, &room[..end - start]);
                }
            }
            Self::Roots { second, spans, floor } => {
                for (span, correction) in spans {
                    for start in span.clone().step_by(AT_ONCE) {
                        let places = start..span.end.min(start + AT_ONCE);
                        let room = &mut room[..places.len()];
                        for (d, &v) in room.iter_mut().zip(&second[places.clone()]) {
                            *d = (f64::from(v) / correction).sqrt().max(*floor) as f32;
                        }
                        with(places, room);
                    }
                }
            }
        }
    }
}

impl Network {
    /// The optimiser's diagonal D, by which y ← y − η D⁻¹∇g: √(second moment) for AdamW; for SGD with momentum β the
    /// steps add up to 1/(1 − β) of the gradient.
    ///
    /// Floored at 1/100 of its root mean square: coordinates that training hardly touches would otherwise carry the
    /// noise of the validation gradient at a hundred times everyone's weight.
    pub fn metric(&self, optimizer: Optimizer) -> Metric<'_> {
        if optimizer == Optimizer::Sgd {
            return Metric::Constant((1.0 - MOMENTUM) as f32);
        }
        let n = self.second.len() as f64;
        let corrected = |(span, age): (Range<usize>, u64)| (span, 1.0 - BETA2.powf(age.max(1) as f64));
        let spans: Vec<(Range<usize>, f64)> = self.ages().into_iter().map(corrected).collect();
        let mean = |(span, correction): &(Range<usize>, f64)| {
            self.second[span.clone()].iter().map(|&v| f64::from(v)).sum::<f64>() / n / correction
        };
        let floor = 0.01 * spans.iter().map(mean).sum::<f64>().sqrt() + EPSILON;
        Metric::Roots { second: &self.second, spans, floor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Trained;

    fn diagonal(metric: &Metric, len: usize) -> Vec<f32> {
        let mut all = vec![0.0; len];
        let mut end = 0;
        metric.each(len, |places, d| {
            assert_eq!((places.start, places.len()), (end, d.len()));
            end = places.end;
            all[places].copy_from_slice(d);
        });
        assert_eq!(end, len);
        all
    }

    #[test]
    fn roots_of_corrected_moments_have_a_floor() {
        let n = 2500;
        let mut network = Network::new(Trained::All, vec![0.0; n]);
        network.updates = 1;
        // after one update the correction is 1/100
        network.second =
            (0..n).map(|i| if i == 7 { 0.0 } else { 0.01 * ((i % 3 + 1) as f32).powi(2) }).collect();
        let found = diagonal(&network.metric(Optimizer::Adamw), n);
        let square = found.iter().map(|d| d * d).sum::<f32>() / n as f32;
        for (i, d) in found.iter().enumerate() {
            let expected = if i == 7 { 0.01 * square.sqrt() } else { (i % 3 + 1) as f32 };
            assert!((d - expected).abs() < 1e-5 * (1.0 + expected), "{i}: {d} {expected}");
        }
    }

    #[test]
    fn steps_with_momentum_add_up() {
        let network = Network::new(Trained::All, vec![0.0; 3]);
        assert_eq!(diagonal(&network.metric(Optimizer::Sgd), 3), [0.1; 3]);
        assert_eq!(diagonal(&Metric::Constant(2.0), 1025), vec![2.0; 1025]);
    }
}
