//! Where cases are run, and in what.

use ssmv_autograd::{DType, Tensor, cuda::Cuda};

use super::case::Array;
use crate::{Error, Result};

/// The CPU in a dtype, or a device in f16 with f32 sums.
#[derive(Clone, Debug)]
pub enum Place {
    /// f32 or f64.
    Cpu(DType),
    /// A GPU, or the emulator.
    Device(Cuda),
}

impl Place {
    /// What activations are in.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Cpu(dtype) => *dtype,
            Self::Device(_) => DType::F16,
        }
    }

    /// What the training arithmetic is in.
    pub(super) fn wide(&self) -> DType {
        match self {
            Self::Cpu(dtype) => *dtype,
            Self::Device(_) => DType::F32,
        }
    }

    /// An array as an activation or a matrix.
    pub(super) fn tensor(&self, array: &Array) -> Result<Tensor> {
        self.tensor_of(array, self.dtype())
    }

    /// An array as what stays in f32 on a device.
    pub(super) fn wide_tensor(&self, array: &Array) -> Result<Tensor> {
        self.tensor_of(array, self.wide())
    }

    /// An array in a dtype of this place.
    pub(super) fn tensor_of(&self, array: &Array, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Cpu(_) => array.tensor(dtype),
            Self::Device(cuda) => Ok(array.tensor(DType::F32)?.to_cuda(cuda, dtype)?),
        }
    }
}

/// The place for a dtype and a device that was opened.
///
/// # Errors
/// [`Error::Usage`] for f64 on a device and f16 on the CPU.
pub fn place(dtype: Option<DType>, device: Option<Cuda>) -> Result<Place> {
    match (device, dtype) {
        (None, Some(DType::F16)) => {
            Err(Error::Usage("--dtype f16 is a device's; add --device emulator or --device cuda".into()))
        }
        (None, dtype) => Ok(Place::Cpu(dtype.unwrap_or(DType::F32))),
        (Some(cuda), None | Some(DType::F16)) => Ok(Place::Device(cuda)),
        (Some(_), Some(other)) => Err(Error::Usage(format!(
            "--dtype {other} is the CPU's; a device computes in f16: add --device cpu"
        ))),
    }
}
