//! The device of a run: opened and tried before the run starts, or refused with a reason.

#[cfg(feature = "cuda")]
mod calls;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod kept;

use bilevel::ConfigError;

use crate::{model::kernels::Accelerator, recipe::DeviceKind};

/// The device of this kind, found to multiply as the processor does; `None` for the processor itself.
///
/// # Errors
/// When this program was built without it, its driver or library is missing, there is none, or its products are not the processor's.
pub fn open(kind: DeviceKind) -> Result<Option<Accelerator>, ConfigError> {
    match kind {
        DeviceKind::Cpu => Ok(None),
        DeviceKind::Cuda => cuda().map(Some),
    }
}

/// An error about `run.device = "cuda"`.
pub(crate) fn refused(remedy: impl std::fmt::Display) -> ConfigError {
    ConfigError::new("run.device", "cuda", remedy.to_string())
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<Accelerator, ConfigError> {
    let device = cuda::Cuda::open()?;
    let name = crate::model::kernels::Device::name(&device).to_owned();
    Accelerator::new(Box::new(device)).map_err(|mismatch| {
        refused(format!(
            "{name} does not multiply as the processor does: {mismatch}; unset NVIDIA_TF32_OVERRIDE, bring driver and CUDA up to date, or set it to \"cpu\""
        ))
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<Accelerator, ConfigError> {
    Err(refused("this program was built without it; build it with `--features cuda`, or set it to \"cpu\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_needs_no_device() {
        assert!(open(DeviceKind::Cpu).unwrap().is_none());
    }

    /// Without the feature always; with it, on machines that have no device. One that has takes it, after it was tried.
    #[test]
    fn a_device_that_is_not_there_is_refused_with_field_value_and_remedy() {
        match open(DeviceKind::Cuda) {
            Ok(found) => assert!(cfg!(feature = "cuda") && !found.unwrap().name().is_empty()),
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with("run.device = cuda is not allowed: "), "{text}");
                assert!(text.ends_with("or set it to \"cpu\""), "{text}");
                assert_eq!(text.contains("--features cuda"), !cfg!(feature = "cuda"), "{text}");
            }
        }
    }
}
