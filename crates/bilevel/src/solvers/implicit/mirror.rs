//! Steps in x in another geometry than the Euclidean one.

use serde::{Deserialize, Serialize};

use crate::{oracles::Oracles, problem::Problem, vector::Vector};

/// The distance in x̃ = argmin ⟨w, x'⟩ + D(x', x)/step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorMap {
    /// D = |x' − x|²/2: a gradient step and the prox of the problem.
    #[default]
    Euclidean,
    /// D the relative entropy: x̃ ∝ x·exp(−step·w), for x on a simplex. Coordinates keep their sign and their sum; the prox of
    /// the problem is not called. A coordinate of 0 stays 0.
    Entropy,
}

impl MirrorMap {
    /// x̃.
    pub(in crate::solvers) fn step<P: Problem>(
        self,
        oracles: &Oracles<P>,
        x: &P::X,
        w: &P::X,
        step: f64,
    ) -> P::X {
        match self {
            Self::Euclidean => {
                let mut next = x.plus(-step, w);
                oracles.prox_x(&mut next, step);
                next
            }
            Self::Entropy => {
                let (x_list, w_list) = (x.coordinates(), w.coordinates());
                // the largest exponent is 0, so nothing overflows
                let least = w_list.iter().copied().fold(f64::INFINITY, f64::min);
                let grown: Vec<f64> =
                    x_list.iter().zip(&w_list).map(|(x, w)| x * (-step * (w - least)).exp()).collect();
                let (before, after): (f64, f64) = (x_list.iter().sum(), grown.iter().sum());
                x.with_coordinates(&grown).scaled(before / after)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::{Zoo, sphere::Sphere};

    #[test]
    fn an_entropic_step_stays_on_the_simplex_and_minimises_its_model() {
        let problem = Zoo::new(Sphere);
        let oracles = Oracles::new(&problem);
        let (x, w, step) = (vec![0.25, 0.75], vec![3.0, -1.0], 0.2);
        let next = MirrorMap::Entropy.step(&oracles, &x, &w, step);
        assert!((next.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        // stationarity on the simplex: w_i + (1 + ln(x̃_i/x_i))/step is the same for all i
        let slope = |i: usize| w[i] + (next[i] / x[i]).ln() / step;
        assert!((slope(0) - slope(1)).abs() < 1e-13);
        let far = MirrorMap::Entropy.step(&oracles, &x, &vec![1e6, -1e6], 1.0);
        assert_eq!(far, [0.0, 1.0]);
    }
}
