//! Where products are made: threads of the processor, and a device for large ones.

use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
};

pub use super::probe::Mismatch;
use super::{Layout, Real, blas::Call, probe};

/// Where products are made.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Threads of one call; the numbers do not depend on it.
    pub threads: usize,
    /// For large products of singles; the numbers do depend on it, by rounding.
    pub accelerator: Option<Arc<Accelerator>>,
}

impl Engine {
    /// So many threads of the processor (one at least), and no device.
    pub fn threads(threads: usize) -> Self {
        Self { threads: threads.max(1), accelerator: None }
    }

    /// C ← α A B + β C on the device, where there is one and the product is worth it; `false` where it is left to the processor.
    pub(super) fn on_device<T: Real>(
        &self,
        alpha: T,
        (a, la): (&[T], Layout),
        (b, lb): (&[T], Layout),
        beta: T,
        (c, lc): (&mut [T], Layout),
    ) -> bool {
        let Some(accelerator) = &self.accelerator else { return false };
        let (Some(a), Some(b), Some(c)) = (T::singles(a), T::singles(b), T::singles_mut(c)) else {
            return false;
        };
        accelerator.multiply(alpha.to() as f32, (a, la), (b, lb), beta.to() as f32, (c, lc))
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::threads(1)
    }
}

/// A machine beside the processor that multiplies matrices of singles.
pub trait Device: Debug + Send + Sync {
    /// What it is called.
    fn name(&self) -> &str;

    /// C ← α op(first) op(second) + β C, by columns. The slices are as long as [`Call::extents`] says; β = 0 overwrites whatever stands
    /// in C, and what lies between its columns is left as it is.
    ///
    /// # Errors
    /// What the device said. C may hold anything then.
    fn gemm(
        &self,
        call: &Call,
        alpha: f32,
        first: &[f32],
        second: &[f32],
        beta: f32,
        c: &mut [f32],
    ) -> Result<(), String>;

    /// Keeps a copy of a list that never changes, where there is room for it: parts of it need not be sent again. The device holds on to
    /// the list, so that no other can come to stand at its place in memory.
    ///
    /// # Errors
    /// What the device said.
    fn keep(&mut self, list: &Arc<Vec<f32>>) -> Result<(), String>;
}

/// Below this many multiplications a product takes a core about a millisecond, which is what sending may take as well. An estimate.
const WORTH_SENDING: usize = 1 << 25;
/// Multiplications for each number that is sent: a core does about 32 in the time in which a number crosses the bus. An estimate.
const WORTH_A_NUMBER: usize = 64;

/// A device that has been found to multiply as the processor does.
#[derive(Debug)]
pub struct Accelerator {
    device: Box<dyn Device>,
    worth_sending: usize,
    worth_a_number: usize,
    failure: OnceLock<String>,
}

impl Accelerator {
    /// Tries the device with products of every kind.
    ///
    /// # Errors
    /// When one differs from the processor's by more than rounding explains, or the device fails.
    pub fn new(device: Box<dyn Device>) -> Result<Self, Mismatch> {
        probe::probe(&*device)?;
        Ok(Self {
            device,
            worth_sending: WORTH_SENDING,
            worth_a_number: WORTH_A_NUMBER,
            failure: OnceLock::new(),
        })
    }

    /// The same for products of every size.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn for_all_products(mut self) -> Self {
        (self.worth_sending, self.worth_a_number) = (0, 0);
        self
    }

    /// As [`Device::keep`].
    ///
    /// # Errors
    /// What the device said.
    pub fn keep(&mut self, list: &Arc<Vec<f32>>) -> Result<(), String> {
        self.device.keep(list)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// What the device said when it first failed. From then on the processor makes all products; since they are rounded differently,
    /// whoever is about to keep numbers asks this first.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    fn multiply(
        &self,
        alpha: f32,
        (a, la): (&[f32], Layout),
        (b, lb): (&[f32], Layout),
        beta: f32,
        (c, lc): (&mut [f32], Layout),
    ) -> bool {
        let multiplications = la.rows * la.cols * lb.cols;
        let numbers = la.rows * la.cols + lb.rows * lb.cols + lc.rows * lc.cols;
        if multiplications < self.worth_sending.max(self.worth_a_number * numbers)
            || self.failure.get().is_some()
        {
            return false;
        }
        let Some(call) = Call::new(la, lb, lc) else { return false };
        let [first, second, end] = call.extents;
        match self.device.gemm(&call, alpha, &b[..first], &a[..second], beta, &mut c[..end]) {
            Ok(()) => true,
            Err(said) => {
                // another thread may have been first
                let _ = self.failure.set(said);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::model::kernels::{product::gemm_on, test_device::Plain};

    /// A product of halves and twos, whose entries are the inner dimension.
    fn fill<T: Real>(engine: &Engine, rows: usize, inner: usize, cols: usize) {
        let of = Layout::packed;
        let (a, b) = (vec![T::of(0.5); rows * inner], vec![T::of(2.0); inner * cols]);
        let mut c = vec![T::zero(); rows * cols];
        let (a, b) = ((&a[..], of(rows, inner)), (&b[..], of(inner, cols)));
        gemm_on(engine, T::one(), a, b, T::zero(), (&mut c, of(rows, cols)));
        assert!(c.iter().all(|&c| c == T::of(inner as f64)));
    }

    #[test]
    fn only_large_products_of_singles_are_sent() {
        let device = Plain::good();
        let calls = device.calls.clone();
        let mut engine = Engine::threads(1);
        engine.accelerator = Some(Arc::new(Accelerator::new(Box::new(device)).unwrap()));
        let sent = |rows: usize, inner: usize, cols: usize, is_single: bool| {
            let before = calls.load(Ordering::Relaxed);
            if is_single {
                fill::<f32>(&engine, rows, inner, cols);
            } else {
                fill::<f64>(&engine, rows, inner, cols);
            }
            calls.load(Ordering::Relaxed) > before
        };
        assert!(sent(320, 330, 340, true));
        assert!(!sent(320, 330, 340, false));
        // too small, and too thin for what is sent
        assert!(!sent(64, 64, 64, true));
        assert!(!sent(2000, 20, 1000, true));
    }

    #[test]
    fn after_a_failure_the_processor_makes_the_products_and_the_failure_is_told() {
        let device = Plain::good();
        let (calls, reach) = (device.calls.clone(), device.reach.clone());
        let accelerator = Accelerator::new(Box::new(device)).unwrap().for_all_products();
        let engine = Engine { threads: 1, accelerator: Some(Arc::new(accelerator)) };
        let failure = || engine.accelerator.as_ref().unwrap().failure();
        let product = || {
            let of = Layout::packed;
            let mut c = [f32::NAN; 4];
            gemm_on(
                &engine,
                1.0,
                (&[1.0, 2.0, 3.0, 4.0], of(2, 2)),
                (&[0.0, 1.0, 1.0, 0.0], of(2, 2)),
                0.0,
                (&mut c, of(2, 2)),
            );
            c
        };
        assert_eq!((product(), failure()), ([2.0, 1.0, 4.0, 3.0], None));
        reach.store(0, Ordering::Relaxed);
        assert_eq!((product(), failure()), ([2.0, 1.0, 4.0, 3.0], Some("out of reach")));
        let before = calls.load(Ordering::Relaxed);
        assert_eq!((product(), failure()), ([2.0, 1.0, 4.0, 3.0], Some("out of reach")));
        assert_eq!(calls.load(Ordering::Relaxed), before);
    }
}
