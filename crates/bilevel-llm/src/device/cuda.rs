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
    blas: CudaBlas,
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
            work: Mutex::new(Work { blas, rooms: [None, None, None] }),
        })
    }

    fn multiply(
        &self,
        call: &Call,
        alpha: f32,
        first: &[f32],
        second: &[f32],
        beta: f32,
        c: &mut [f32],
    ) -> Result<(), String> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Work { blas, rooms } = &mut *work;
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
        self.multiply(call, alpha, first, second, beta, c)
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
