//! Products by cuBLAS.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use bilevel::ConfigError;
use cudarc::{
    cublas::CudaBlas,
    driver::{CudaContext, CudaSlice, CudaStream, DriverError},
};

use super::{calls, kept::Kept, refused};
use crate::model::kernels::{Device, blas::Call};

/// The first device that the driver offers (`CUDA_VISIBLE_DEVICES` chooses). One product at a time: operands are sent, unless they are parts
/// of a list that is kept, and the result is fetched.
#[derive(Debug)]
pub struct Cuda {
    name: String,
    stream: Arc<CudaStream>,
    /// Lists that stand still, with their copies on the device.
    kept: Kept<CudaSlice<f32>>,
    work: Mutex<Work>,
}

/// What one product uses.
#[derive(Debug)]
struct Work {
    /// Given up after a failure: to give back a handle that its device no longer knows would be another.
    blas: Option<CudaBlas>,
    /// Room for first operand, second, and result; grown when it does not reach.
    rooms: [Option<CudaSlice<f32>>; 3],
}

impl Cuda {
    /// Opens the device.
    ///
    /// # Errors
    /// When driver, cuBLAS or device are missing, or refuse.
    pub fn open() -> Result<Self, ConfigError> {
        let (has_driver, has_blas) = calls::libraries();
        if !has_driver {
            return Err(refused(
                "NVIDIA's driver is not found (libcuda); install it on a machine with such a device, or set it to \"cpu\"",
            ));
        }
        if !has_blas {
            return Err(refused(
                "cuBLAS is not found (libcublas of CUDA 11, 12 or 13); install it, let LD_LIBRARY_PATH name its folder, or set it to \"cpu\"",
            ));
        }
        let driver_refuses = |error: DriverError| {
            refused(format!(
                "the driver says {error}; see whether nvidia-smi shows a device, or set it to \"cpu\""
            ))
        };
        let context = CudaContext::new(0).map_err(driver_refuses)?;
        let name = context.name().map_err(driver_refuses)?;
        let stream = context.default_stream();
        let blas = CudaBlas::new(stream.clone()).map_err(|error| {
            refused(format!("cuBLAS says {error}; bring it up to date, or set it to \"cpu\""))
        })?;
        Ok(Self {
            name,
            stream,
            kept: Kept::default(),
            work: Mutex::new(Work { blas: Some(blas), rooms: [None, None, None] }),
        })
    }

    fn multiply(
        &self,
        work: &mut Work,
        call: &Call,
        alpha: f32,
        (first, second): (&[f32], &[f32]),
        beta: f32,
        c: &mut [f32],
    ) -> Result<(), String> {
        let Work { blas, rooms } = work;
        let blas = blas.as_ref().ok_or("it failed before")?;
        self.stream.context().bind_to_thread().map_err(words)?;
        let [first_room, second_room, result_room] = rooms;
        let stream = &self.stream;
        let room = |room: &mut Option<CudaSlice<f32>>, len: usize| {
            if room.as_ref().is_none_or(|room| room.len() < len) {
                // the old one goes first
                *room = None;
                *room = Some(stream.alloc_zeros(len)?);
            }
            Ok::<_, DriverError>(())
        };
        let send = |list: &[f32], to: &mut Option<CudaSlice<f32>>| {
            room(to, list.len())?;
            stream.memcpy_htod(list, to.as_mut().expect("there is room now"))
        };
        let (kept_first, kept_second) = (self.kept.find(first), self.kept.find(second));
        if kept_first.is_none() {
            send(first, first_room).map_err(words)?;
        }
        if kept_second.is_none() {
            send(second, second_room).map_err(words)?;
        }
        if beta != 0.0 || call.has_gaps {
            send(c, result_room).map_err(words)?;
        } else {
            room(result_room, c.len()).map_err(words)?;
        }
        let there = "what is not kept was sent";
        let (first_copy, at) = kept_first.unwrap_or_else(|| (first_room.as_ref().expect(there), 0));
        let first = first_copy.slice(at..at + first.len());
        let (second_copy, at) = kept_second.unwrap_or_else(|| (second_room.as_ref().expect(there), 0));
        let second = second_copy.slice(at..at + second.len());
        let mut result = result_room.as_mut().expect("there is room now").slice_mut(..c.len());
        calls::gemm(blas, call, alpha, &first, &second, beta, &mut result).map_err(words)?;
        stream.memcpy_dtoh(&result, c).map_err(words)?;
        stream.synchronize().map_err(words)
    }
}

fn words(error: impl Display) -> String {
    error.to_string()
}

impl Device for Cuda {
    fn name(&self) -> &str {
        &self.name
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
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        self.multiply(&mut work, call, alpha, (first, second), beta, c).inspect_err(|_| {
            std::mem::forget(work.blas.take());
        })
    }

    fn keep(&mut self, list: &Arc<Vec<f32>>) -> Result<(), String> {
        let (free, _) = self.stream.context().mem_get_info().map_err(words)?;
        // the other half is for the products
        if !list.is_empty() && 2 * size_of_val(&list[..]) <= free {
            let copy = self.stream.clone_htod(&list[..]).map_err(words)?;
            self.stream.synchronize().map_err(words)?;
            self.kept.hold(list.clone(), copy);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bilevel::rng::Stream;

    use super::*;
    use crate::model::{
        Batch, Decoder, ModelSizes, Part, Weights, Workspace,
        kernels::{Accelerator, Engine, linear},
    };

    /// The device of this machine; without one, its refusal is held against what it has to say.
    fn device() -> Option<Cuda> {
        match Cuda::open() {
            Ok(device) => Some(device),
            Err(error) => {
                assert!(error.to_string().starts_with("run.device = cuda is not allowed: "), "{error}");
                None
            }
        }
    }

    fn random(n: usize, purpose: u64) -> Vec<f32> {
        let mut stream = Stream::new(8, purpose);
        (0..n).map(|_| stream.normal() as f32).collect()
    }

    #[test]
    fn products_with_parts_of_a_list_that_is_kept_are_those_of_the_processor() {
        let Some(mut device) = device() else { return };
        let list = Arc::new(random(5000, 0));
        device.keep(&list).unwrap();
        let accelerator = Accelerator::new(Box::new(device)).unwrap().for_all_products();
        let engine = Engine { threads: 1, accelerator: Some(Arc::new(accelerator)) };
        let x = random(40 * 30, 1);
        for first in [0, 17, 5000 - 20 * 30] {
            let kept = &list[first..first + 20 * 30];
            let elsewhere = kept.to_vec();
            for weights in [kept, &elsewhere] {
                let product = |engine: &Engine| {
                    let mut y = vec![f32::NAN; 40 * 20];
                    linear(engine, &x, weights, &mut y, (40, 30, 20));
                    y
                };
                for (there, here) in product(&engine).iter().zip(product(&Engine::default())) {
                    // 30 products of order 1, each rounded to 2^-24
                    assert!((there - here).abs() < 2e-5, "{there} {here}");
                }
            }
        }
        assert_eq!(engine.accelerator.unwrap().failure(), None);
    }

    #[test]
    fn a_decoder_with_frozen_blocks_has_the_gradient_of_the_processor() {
        let Some(mut device) = device() else { return };
        let sizes = ModelSizes {
            layers: 2,
            width: 32,
            heads: 4,
            kv_heads: 2,
            ffn: 48,
            context: 32,
            rope_base: 10_000.0,
        };
        let decoder = Decoder::new(sizes, 50);
        let frozen: Arc<Vec<f32>> = Arc::new(decoder.initial(&mut Stream::new(1, 0)));
        let selection = decoder.select(&[Part::Block(1), Part::FinalNorm]);
        let y = selection.gather(&frozen);
        let batch = Batch {
            tokens: (0..40).map(|i| i * 7 % 50).collect(),
            lengths: vec![25, 15],
            rows: (0..40).collect(),
            targets: (0..40).map(|i| i * 11 % 50).collect(),
        };
        device.keep(&frozen).unwrap();
        let accelerator = Accelerator::new(Box::new(device)).unwrap().for_all_products();
        let gradient = |mut work: Workspace<f32>| {
            let mut g = vec![0.0; y.len()];
            let weights = Weights::with_trained(&frozen[..], &selection, &y);
            (decoder.loss_gradient(weights, &batch, 1.0, &mut g, &mut work), g)
        };
        let (loss, here) = gradient(decoder.workspace());
        let (there_loss, there) = gradient(decoder.workspace().on(Some(Arc::new(accelerator))));
        // a few hundred roundings of 2^-24 one upon the other
        assert!((there_loss - loss).abs() < 1e-4 * loss, "{there_loss} {loss}");
        let scale = here.iter().fold(0.0_f32, |m, a| m.max(a.abs()));
        for (there, here) in there.iter().zip(&here) {
            assert!((there - here).abs() < 1e-4 * scale, "{there} {here}");
        }
    }
}
