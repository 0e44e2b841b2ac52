//! Gradient steps on one lower objective, with or without momentum.

use crate::{error::OracleResult, vector::Vector};

/// What a loop carries from one of its steps to the next; every loop starts without momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::solvers) enum Momentum {
    None,
    /// b ← m·b + ∇, y ← y − step·b.
    HeavyBall(f64),
    /// The gradient is taken at y + m(y − the previous y).
    Nesterov(f64),
}

/// Length, step size and momentum of a loop.
#[derive(Clone, Copy, Debug)]
pub(in crate::solvers) struct Descent {
    pub steps: u64,
    pub step: f64,
    pub momentum: Momentum,
    /// The loop is cut short when its prox-gradient is at most this.
    pub tol: Option<f64>,
}

impl Descent {
    pub fn plain(steps: u64, step: f64) -> Self {
        Self { steps, step, momentum: Momentum::None, tol: None }
    }
    pub fn with(self, momentum: Momentum) -> Self {
        Self { momentum, ..self }
    }
    pub fn until(self, tol: f64) -> Self {
        Self { tol: Some(tol), ..self }
    }
}

/// One loop in progress: says where the next gradient is wanted, and takes the step.
pub(in crate::solvers) struct Walker<Y> {
    rule: Descent,
    buffer: Option<Y>,
}

impl<Y: Vector> Walker<Y> {
    pub fn new(rule: Descent) -> Self {
        Self { rule, buffer: None }
    }
    /// The point at which the next step wants its gradient.
    pub fn ahead(&mut self, y: &Y) -> Y {
        let mut ahead = y.clone();
        if let Momentum::Nesterov(m) = self.rule.momentum {
            if let Some(previous) = &self.buffer {
                ahead.axpy(m, y);
                ahead.axpy(-m, previous);
            }
            self.buffer = Some(y.clone());
        }
        ahead
    }
    /// Steps from `ahead` against the gradient taken there; returns the norm of the prox-gradient.
    pub fn advance(&mut self, y: &mut Y, ahead: &Y, mut gradient: Y, prox: &dyn Fn(&mut Y, f64)) -> f64 {
        if let Momentum::HeavyBall(m) = self.rule.momentum {
            if let Some(old) = &self.buffer {
                gradient.axpy(m, old);
            }
            self.buffer = Some(gradient.clone());
        }
        *y = ahead.plus(-self.rule.step, &gradient);
        prox(y, self.rule.step);
        ahead.distance(y) / self.rule.step
    }
}

/// `rule.steps` times y ← prox(y − step·gradient(y)); returns the norm of the last prox-gradient, 0 for an empty loop.
pub(in crate::solvers) fn descend<Y: Vector>(
    y: &mut Y,
    rule: Descent,
    gradient: &mut dyn FnMut(&Y) -> OracleResult<Y>,
    prox: &dyn Fn(&mut Y, f64),
) -> OracleResult<f64> {
    let mut residual = 0.0;
    let mut walker = Walker::new(rule);
    for _ in 0..rule.steps {
        let ahead = walker.ahead(y);
        let gradient = gradient(&ahead)?;
        residual = walker.advance(y, &ahead, gradient, prox);
        if rule.tol.is_some_and(|tol| residual <= tol) {
            break;
        }
    }
    Ok(residual)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ½(y₁² + 0.1 y₂²), minimised from (1, 1) with step 1.
    fn end(rule: Descent) -> (Vec<f64>, f64, u64) {
        let (mut y, mut calls) = (vec![1.0, 1.0], 0);
        let gradient = &mut |y: &Vec<f64>| {
            calls += 1;
            Ok(vec![y[0], 0.1 * y[1]])
        };
        let residual = descend(&mut y, rule, gradient, &|_, _| ()).unwrap();
        (y, residual, calls)
    }
    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-15, "{got}, expected {expected}");
    }

    #[test]
    fn steps_are_those_of_the_textbook() {
        let (y, residual, _) = end(Descent::plain(2, 1.0));
        close(y[1], 0.81);
        close(residual, 0.09);
        // b = ∇(1) = 0.1, then b = 0.5·0.1 + 0.09
        let (y, ..) = end(Descent::plain(2, 1.0).with(Momentum::HeavyBall(0.5)));
        close(y[1], 0.9 - 0.14);
        // the second gradient is taken at 0.9 + 0.5(0.9 − 1) = 0.85
        let (y, ..) = end(Descent::plain(2, 1.0).with(Momentum::Nesterov(0.5)));
        close(y[1], 0.85 * 0.9);
    }

    #[test]
    fn an_empty_loop_moves_nothing() {
        assert_eq!(end(Descent::plain(0, 1.0)), (vec![1.0, 1.0], 0.0, 0));
    }

    #[test]
    fn a_tolerance_cuts_the_loop_short() {
        // 0.1·0.9^k ≤ 0.05 first at k = 7, the eighth gradient
        let (_, residual, calls) = end(Descent::plain(100, 1.0).until(0.05));
        assert_eq!(calls, 8);
        assert!(residual <= 0.05);
    }

    #[test]
    fn the_residual_is_that_of_the_prox_gradient() {
        let mut y = vec![0.5];
        let prox = |y: &mut Vec<f64>, _: f64| y[0] = y[0].max(0.25);
        let residual = descend(&mut y, Descent::plain(3, 0.5), &mut |y| Ok(y.clone()), &prox).unwrap();
        assert_eq!((y, residual), (vec![0.25], 0.0));
    }
}
