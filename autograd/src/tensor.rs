//! The tensor handle.

use std::{fmt, sync::Arc};

#[cfg(feature = "cuda")]
use crate::cuda::{Cuda, DeviceMemory};
use crate::{
    DType, Element, Error, Result, Shape,
    buffer::Buffer,
    tape::{Edge, LeafId},
};

/// The device of a tensor's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Host memory, computed by this process' threads.
    Cpu,
    /// Memory of a GPU, or of the emulator that replaces it.
    #[cfg(feature = "cuda")]
    Cuda,
}

/// Memory that tensors share.
#[derive(Clone)]
pub enum Storage {
    /// f32 in host memory.
    F32(Arc<Buffer<f32>>),
    /// f64 in host memory.
    F64(Arc<Buffer<f64>>),
    /// f16 or f32 in device memory.
    #[cfg(feature = "cuda")]
    Cuda(DeviceMemory),
}

impl Storage {
    /// Element type of all values.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            #[cfg(feature = "cuda")]
            Self::Cuda(memory) => memory.dtype(),
        }
    }
}

/// A cheap handle: shape, storage, and the tape node that produced it. Always contiguous and row-major; images are
/// NHWC. Cloning copies the handle, never the elements.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    storage: Storage,
    offset: usize,
    edge: Option<Edge>,
}

impl Tensor {
    /// A tensor around `values` in row-major order; an error where their number differs from the shape's.
    pub fn new<T: Element>(shape: impl Into<Shape>, values: &[T]) -> Result<Self> {
        let shape = shape.into();
        if shape.checked_numel("tensor")? != values.len() {
            let message = format!("{} values given for the shape {shape}", values.len());
            return Err(Error::shape("tensor", message));
        }
        Ok(Self::from_buffer(shape, Buffer::copy_of(values)))
    }

    /// A tensor whose elements `write` fills, row-major. The initial contents of the slice are unspecified: memory is
    /// reused.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of elements overflows a `usize`.
    pub fn build<T: Element>(shape: impl Into<Shape>, write: impl FnOnce(&mut [T])) -> Result<Self> {
        let shape = shape.into();
        let mut buffer = Buffer::uninit(shape.checked_numel("tensor")?);
        write(&mut buffer);
        Ok(Self::from_buffer(shape, buffer))
    }

    /// A tensor that owns a buffer of the shape's number of elements.
    pub(crate) fn from_buffer<T: Element>(shape: impl Into<Shape>, buffer: Buffer<T>) -> Self {
        let shape = shape.into();
        debug_assert_eq!(shape.numel(), buffer.len());
        Self { shape, storage: T::storage(Arc::new(buffer)), offset: 0, edge: None }
    }

    /// A tensor that reads `shape.numel()` elements of `storage` from `offset` on; the range was checked.
    pub(crate) fn view(shape: Shape, storage: Storage, offset: usize, edge: Option<Edge>) -> Self {
        Self { shape, storage, offset, edge }
    }

    /// Zeros, on the CPU.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        let n = shape.checked_numel("zeros")?;
        Ok(crate::dispatch!(dtype, T => Self::from_buffer(shape, Buffer::<T>::zeros(n))))
    }

    /// A tensor of shape [] that holds `value`, on the CPU.
    pub fn scalar(value: f64, dtype: DType) -> Result<Self> {
        crate::dispatch!(dtype, T => {
            Ok(Self::from_buffer(Shape::scalar(), Buffer::copy_of(&[<T as Element>::from_f64(value)])))
        })
    }

    /// Sizes of the axes, outermost first.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes of its elements.
    pub(crate) fn bytes(&self) -> u64 {
        (self.numel() * self.dtype().bytes()) as u64
    }

    /// Total number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// Element type of all values.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// The device of the elements.
    pub fn device(&self) -> Device {
        match self.storage {
            Storage::F32(_) | Storage::F64(_) => Device::Cpu,
            #[cfg(feature = "cuda")]
            Storage::Cuda(_) => Device::Cuda,
        }
    }

    /// The elements in row-major order; an error where `T` is not the tensor's dtype or it is not on the CPU.
    pub fn values<T: Element>(&self) -> Result<&[T]> {
        let buffer = T::buffer(&self.storage).ok_or(match self.device() {
            Device::Cpu => {
                Error::Dtype { op: "values", found: self.dtype().name(), expected: T::DTYPE.name() }
            }
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                Error::misuse("values", "the tensor is on a device; bring it to the CPU with to_host first")
            }
        })?;
        Ok(&buffer[self.offset..self.offset + self.numel()])
    }

    /// The elements, mutable; they are copied first if another handle shares them.
    pub(crate) fn values_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let n = self.numel();
        let found = self.dtype().name();
        let shared = T::buffer_mut(&mut self.storage).is_some_and(|b| Arc::get_mut(b).is_none());
        if shared || self.offset != 0 {
            let copy = Buffer::copy_of(self.values::<T>()?);
            (self.storage, self.offset) = (T::storage(Arc::new(copy)), 0);
        }
        let buffer = T::buffer_mut(&mut self.storage).and_then(Arc::get_mut);
        let wrong = Error::Dtype { op: "values_mut", found, expected: T::DTYPE.name() };
        buffer.map(|b| &mut b[..n]).ok_or(wrong)
    }

    /// The elements as f64, in row-major order, copied from any device.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        let range = self.offset..self.offset + self.numel();
        match &self.storage {
            Storage::F32(b) => Ok(b[range].iter().map(|&x| f64::from(x)).collect()),
            Storage::F64(b) => Ok(b[range].to_vec()),
            #[cfg(feature = "cuda")]
            Storage::Cuda(memory) => Ok(memory.download(range)?.into_iter().map(f64::from).collect()),
        }
    }

    /// The one element of a one-element tensor; an error for any other.
    pub fn item(&self) -> Result<f64> {
        match self.to_f64()?[..] {
            [x] => Ok(x),
            _ => Err(Error::shape("item", format!("{} has more than one element", self.shape))),
        }
    }

    /// The same values in another CPU dtype, detached from the graph.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.detach());
        }
        let values = self.to_f64()?;
        crate::dispatch!(dtype, T => {
            let mut out = Buffer::<T>::uninit(values.len());
            out.iter_mut().zip(&values).for_each(|(o, &v)| *o = <T as Element>::from_f64(v));
            Ok(Self::from_buffer(self.shape.clone(), out))
        })
    }

    /// The same values in f32 on the CPU, after the device has computed them, detached from the graph.
    pub fn to_host(&self) -> Result<Self> {
        match &self.storage {
            #[cfg(feature = "cuda")]
            Storage::Cuda(memory) => {
                Self::new(self.shape.clone(), &memory.download(self.offset..self.offset + self.numel())?)
            }
            _ => Ok(self.detach()),
        }
    }

    /// The same values on a device in f16 or f32, detached from the graph.
    #[cfg(feature = "cuda")]
    pub fn to_cuda(&self, cuda: &Cuda, dtype: DType) -> Result<Self> {
        let values: Vec<f32> = self.to_f64()?.into_iter().map(|x| x as f32).collect();
        Self::on_cuda(cuda, self.shape.clone(), dtype, Some(&values))
    }

    /// The same elements, detached from the graph.
    pub fn detach(&self) -> Self {
        Self { edge: None, ..self.clone() }
    }

    /// The same elements as a leaf, whose gradient [`Tensor::backward`] stores.
    pub fn leaf(&self) -> Self {
        Self { edge: Some(Edge::Leaf(LeafId::fresh())), ..self.clone() }
    }

    /// Whether a gradient flows to this tensor.
    pub fn requires_grad(&self) -> bool {
        self.edge.is_some()
    }

    /// Offset of the first element in the storage.
    #[cfg(feature = "cuda")]
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn edge(&self) -> Option<&Edge> {
        self.edge.as_ref()
    }

    pub(crate) fn with_edge(mut self, edge: Option<Edge>) -> Self {
        self.edge = edge;
        self
    }

    /// The same elements in a shape with as many elements, detached from the graph.
    pub(crate) fn with_shape(&self, shape: Shape) -> Self {
        debug_assert_eq!(shape.numel(), self.numel());
        Self { shape, edge: None, ..self.clone() }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {})", self.shape, self.dtype())
    }
}
