//! Tensors in device memory: their storage, and how operators create and address them.

use std::{ops::Range, sync::Arc};

use half::f16;

use super::primitives;
use super::{
    buffer::DeviceBuffer,
    device::Cuda,
    driver::{Address, Argument},
};
use crate::{DType, Error, Result, Shape, Storage, Tensor};

/// f16 or f32 elements in device memory that tensors share.
#[derive(Clone, Debug)]
pub struct DeviceMemory {
    bytes: Arc<DeviceBuffer<u8>>,
    dtype: DType,
}

impl DeviceMemory {
    /// `len` elements of unspecified content.
    ///
    /// # Errors
    /// [`Error::Dtype`] for f64, which kernels do not support, and the device's error.
    pub fn new(cuda: &Cuda, dtype: DType, len: usize) -> Result<Self> {
        if dtype == DType::F64 {
            return Err(Error::Dtype { op: "cuda", found: "f64", expected: "f16 or f32" });
        }
        Ok(Self { bytes: Arc::new(cuda.uninit(len * dtype.bytes())?), dtype })
    }

    /// A copy of values from the host, rounded to the nearest.
    pub fn copy_of(cuda: &Cuda, dtype: DType, values: &[f32]) -> Result<Self> {
        let memory = Self::new(cuda, dtype, values.len())?;
        memory.upload(values)?;
        Ok(memory)
    }

    /// Writes all elements, rounded to the nearest; returns when they are copied.
    pub fn upload(&self, values: &[f32]) -> Result<()> {
        if values.len() != self.len() {
            let message = format!("{} values for {} elements", values.len(), self.len());
            return Err(Error::misuse("upload", message));
        }
        let (cuda, to) = (self.cuda(), self.bytes.address());
        let upload = |bytes: &[u8]| cuda.driver().upload(to, bytes, cuda.compute_stream());
        match self.dtype {
            DType::F16 => {
                let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
                upload(bytemuck::cast_slice(&halves))
            }
            _ => upload(bytemuck::cast_slice(values)),
        }
    }

    /// Some of the elements as f32, after the work queued before has run.
    pub fn download(&self, range: Range<usize>) -> Result<Vec<f32>> {
        let (cuda, from) = (self.cuda(), self.address_of(range.start));
        let stream = cuda.compute_stream();
        match self.dtype {
            DType::F16 => {
                let mut halves = vec![f16::ZERO; range.len()];
                cuda.driver().download(bytemuck::cast_slice_mut(&mut halves), from, stream)?;
                Ok(halves.into_iter().map(f16::to_f32).collect())
            }
            _ => {
                let mut values = vec![0f32; range.len()];
                cuda.driver().download(bytemuck::cast_slice_mut(&mut values), from, stream)?;
                Ok(values)
            }
        }
    }

    /// Sets some of the elements to zero, in the order of the compute stream.
    pub fn clear(&self, range: Range<usize>) -> Result<()> {
        let (cuda, bytes) = (self.cuda(), (range.len() * self.dtype.bytes()) as u64);
        cuda.driver().fill(self.address_of(range.start), 0, bytes, cuda.compute_stream())
    }

    /// Copies the elements of another memory of as many elements and the same dtype, in the order of the compute stream.
    pub fn copy_from(&self, other: &Self) -> Result<()> {
        if (self.len(), self.dtype) != (other.len(), other.dtype) {
            return Err(Error::misuse("copy", format!("{} elements to {}", other.len(), self.len())));
        }
        let (cuda, bytes) = (self.cuda(), self.bytes.bytes());
        cuda.driver().copy(self.bytes.address(), other.bytes.address(), bytes, cuda.compute_stream())
    }

    /// Element type: f16 or f32.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of elements, not bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }

    /// True for memory without elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The device that holds the memory.
    pub fn cuda(&self) -> &Cuda {
        self.bytes.cuda()
    }

    /// The first element as an argument of a launch.
    pub fn argument(&self) -> Argument {
        Argument::Pointer(self.bytes.address())
    }

    /// The address of element `index`.
    pub fn address_of(&self, index: usize) -> Address {
        self.bytes.address().offset((index * self.dtype.bytes()) as u64)
    }
}

impl Tensor {
    /// A tensor on a device: a copy of values from the host, or unspecified content for a kernel to write.
    pub(crate) fn on_cuda(
        cuda: &Cuda,
        shape: impl Into<Shape>,
        dtype: DType,
        values: Option<&[f32]>,
    ) -> Result<Self> {
        let shape = shape.into();
        let memory = match values {
            Some(values) => DeviceMemory::copy_of(cuda, dtype, values)?,
            None => DeviceMemory::new(cuda, dtype, shape.checked_numel("cuda")?)?,
        };
        Ok(Self::view(shape, Storage::Cuda(memory), 0, None))
    }

    /// Zeros on a device.
    pub fn cuda_zeros(cuda: &Cuda, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let tensor = Self::on_cuda(cuda, shape, dtype, None)?;
        let memory = tensor.memory()?;
        memory.clear(0..memory.len())?;
        Ok(tensor)
    }

    /// A tensor that reads `shape.numel()` elements of device memory from `offset` on.
    ///
    /// # Errors
    /// [`Error::Misuse`] if the memory is too short.
    pub fn over_cuda(shape: impl Into<Shape>, memory: &DeviceMemory, offset: usize) -> Result<Self> {
        let shape = shape.into();
        let end = shape.checked_numel("cuda")?.checked_add(offset);
        if end.is_none_or(|end| end > memory.len()) {
            let message = format!("{shape} from {offset} on is not inside {} elements", memory.len());
            return Err(Error::misuse("tensor", message));
        }
        Ok(Self::view(shape, Storage::Cuda(memory.clone()), offset, None))
    }

    /// A tensor of this one's dtype and device, of unspecified content.
    pub(crate) fn empty_like(&self, shape: impl Into<Shape>) -> Result<Self> {
        Self::on_cuda(self.cuda()?, shape, self.dtype(), None)
    }

    /// The memory of a tensor on a device.
    pub(crate) fn memory(&self) -> Result<&DeviceMemory> {
        match self.storage() {
            Storage::Cuda(memory) => Ok(memory),
            _ => Err(Error::misuse(
                "cuda",
                "the tensor is on the CPU; bring it to the device with to_cuda first",
            )),
        }
    }

    /// The device of a tensor that is on one.
    pub fn cuda(&self) -> Result<&Cuda> {
        Ok(self.memory()?.cuda())
    }

    /// The first element as an argument of a launch.
    pub fn argument(&self) -> Result<Argument> {
        Ok(Argument::Pointer(self.memory()?.address_of(self.offset())))
    }

    /// On a device, adds another tensor's elements to this one, which is f32, in place; tensors that share the memory
    /// change too.
    pub fn accumulate(&self, other: &Self) -> Result<()> {
        if self.numel() != other.numel() || self.dtype() != DType::F32 {
            return Err(Error::misuse("accumulate", format!("{other:?} onto {self:?}")));
        }
        primitives::accumulate(other, self)
    }

    /// On a device, sets all elements to zero, in the order of the compute stream.
    pub(crate) fn clear(&self) -> Result<()> {
        self.memory()?.clear(self.offset()..self.offset() + self.numel())
    }

    /// On a device, copies another tensor's elements into this one, in the order of the compute stream; tensors that
    /// share the memory change too.
    pub fn assign(&self, from: &Self) -> Result<()> {
        if (self.numel(), self.dtype()) != (from.numel(), from.dtype()) {
            return Err(Error::misuse("copy", format!("{from:?} to {self:?}")));
        }
        let (to, source) = (self.memory()?, from.memory()?);
        let (to, source) = (to.address_of(self.offset()), source.address_of(from.offset()));
        let cuda = self.cuda()?;
        let bytes = (self.numel() * self.dtype().bytes()) as u64;
        cuda.driver().copy(to, source, bytes, cuda.compute_stream())
    }
}
