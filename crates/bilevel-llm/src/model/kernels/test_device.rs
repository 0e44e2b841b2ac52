//! A device for tests: products by the definition of BLAS, on the processor.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    blas::{Call, tests::reference},
    engine::Device,
};

/// Multiplies, after something was done to the factors and before something is done to the result.
#[derive(Clone, Debug)]
pub struct Plain {
    pub factor: fn(f32) -> f32,
    pub result: fn(&Call, &mut [f32]),
    pub is_beta_forgotten: bool,
    /// Calls so far.
    pub calls: Arc<AtomicUsize>,
    /// The calls after which all fail.
    pub reach: Arc<AtomicUsize>,
}

impl Plain {
    /// One that does nothing but multiply.
    pub fn good() -> Self {
        Self {
            factor: |x| x,
            result: |_, _| (),
            is_beta_forgotten: false,
            calls: Arc::default(),
            reach: Arc::new(usize::MAX.into()),
        }
    }
}

impl Device for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn gemm(
        &self,
        call: &Call,
        alpha: f32,
        first: &[f32],
        second: &[f32],
        beta: f32,
        c: &mut [f32],
    ) -> Result<(), String> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= self.reach.load(Ordering::Relaxed) {
            return Err("out of reach".into());
        }
        assert_eq!([first.len(), second.len(), c.len()], call.extents);
        let of = |list: &[f32]| list.iter().map(|&x| (self.factor)(x)).collect::<Vec<_>>();
        let beta = if self.is_beta_forgotten { 0.0 } else { beta };
        reference(call, alpha, &of(first), &of(second), beta, c);
        (self.result)(call, c);
        Ok(())
    }

    fn keep(&mut self, _list: &Arc<Vec<f32>>) -> Result<(), String> {
        Ok(())
    }
}
