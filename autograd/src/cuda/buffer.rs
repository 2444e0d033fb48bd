//! Typed memory: on the device, and pinned on the host.

use std::marker::PhantomData;

use bytemuck::Pod;

use super::{
    device::Cuda,
    driver::{Address, Argument, Pinned, Stream},
    pool::{Block, Purpose},
    table::lock,
};
use crate::{Error, Result};

/// Elements on a device, contiguous, at a multiple of 256 bytes. Dropping it returns the memory to the device's pool;
/// work that is already queued may still use it.
#[derive(Debug)]
pub struct DeviceBuffer<T: Pod> {
    cuda: Cuda,
    /// `Some` until `drop` takes it.
    block: Option<Block>,
    address: Address,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> DeviceBuffer<T> {
    pub(super) fn new(cuda: &Cuda, len: usize, purpose: Purpose) -> Result<Self> {
        let bytes = (len as u64).checked_mul(size_of::<T>() as u64).ok_or_else(|| {
            Error::misuse("allocate", format!("{len} elements of {} bytes", size_of::<T>()))
        })?;
        let block = lock(&cuda.shared().pool).take(bytes, purpose)?;
        let address = block.address;
        Ok(Self { cuda: cuda.clone(), block: Some(block), address, len, element: PhantomData })
    }

    /// Number of elements, not bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a buffer without elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size of all elements in bytes.
    pub fn bytes(&self) -> u64 {
        (self.len * size_of::<T>()) as u64
    }

    /// The device that holds the memory.
    pub fn cuda(&self) -> &Cuda {
        &self.cuda
    }

    /// The first element's address, as an argument of a launch or for arithmetic. It is valid while the buffer lives.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The address of element `index`; one past the end is allowed, for ranges.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an index beyond that.
    pub fn address_of(&self, index: usize) -> Result<Address> {
        if index > self.len {
            return Err(Error::misuse("address", format!("element {index} of a buffer of {}", self.len)));
        }
        Ok(self.address.offset((index * size_of::<T>()) as u64))
    }

    /// Writes all elements; returns when they are copied.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the number of values differs.
    pub fn upload(&mut self, values: &[T]) -> Result<()> {
        self.check_len("upload", values.len())?;
        let shared = self.cuda.shared();
        shared.driver.upload(self.address, bytemuck::cast_slice(values), shared.compute)
    }

    /// All elements, after the work queued before has run.
    pub fn download(&self) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); self.len];
        self.download_into(&mut values)?;
        Ok(values)
    }

    /// As [`download`](Self::download), into the caller's memory.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the number of values differs.
    pub fn download_into(&self, values: &mut [T]) -> Result<()> {
        self.check_len("download", values.len())?;
        let shared = self.cuda.shared();
        shared.driver.download(bytemuck::cast_slice_mut(values), self.address, shared.compute)
    }

    /// Copies another buffer, in the order of the compute stream.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the lengths differ.
    pub fn copy_from(&mut self, other: &Self) -> Result<()> {
        self.check_len("copy", other.len)?;
        let shared = self.cuda.shared();
        shared.driver.copy(self.address, other.address, self.bytes(), shared.compute)
    }

    /// Sets all bits to zero, in the order of the compute stream.
    pub fn clear(&mut self) -> Result<()> {
        let shared = self.cuda.shared();
        shared.driver.fill(self.address, 0, self.bytes(), shared.compute)
    }

    fn check_len(&self, operation: &str, len: usize) -> Result<()> {
        if len != self.len {
            return Err(Error::misuse(operation, format!("{len} values for a buffer of {}", self.len)));
        }
        Ok(())
    }
}

impl<T: Pod> Drop for DeviceBuffer<T> {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            lock(&self.cuda.shared().pool).give(block);
        }
    }
}

impl<T: Pod> From<&DeviceBuffer<T>> for Argument {
    fn from(buffer: &DeviceBuffer<T>) -> Self {
        Self::Pointer(buffer.address)
    }
}

impl<T: Pod> From<&mut DeviceBuffer<T>> for Argument {
    fn from(buffer: &mut DeviceBuffer<T>) -> Self {
        Self::Pointer(buffer.address)
    }
}

/// Pinned host memory: copies from and to it run beside the host and the compute stream.
#[derive(Debug)]
pub struct PinnedBuffer<T: Pod> {
    cuda: Cuda,
    pub(super) memory: Pinned,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> PinnedBuffer<T> {
    pub(super) fn new(cuda: &Cuda, len: usize) -> Result<Self> {
        let bytes = (len as u64).checked_mul(size_of::<T>() as u64).ok_or_else(|| {
            Error::misuse("allocate", format!("{len} elements of {} bytes", size_of::<T>()))
        })?;
        let memory = cuda.shared().driver.allocate_pinned(bytes)?;
        Ok(Self { cuda: cuda.clone(), memory, len, element: PhantomData })
    }

    /// Number of elements, not bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for memory without elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies all elements from device memory, in the order of the compute stream; returns before the copy is done.
    pub fn download_from(&self, from: Address) -> Result<()> {
        let shared = self.cuda.shared();
        let bytes = (self.len * size_of::<T>()) as u64;
        shared.driver.download_pinned(self.memory, from, bytes, shared.compute)
    }

    /// Copies the first `len` elements from device memory, in the order of a stream; returns before the copy is done.
    pub fn download_in(&self, from: Address, len: usize, stream: Stream) -> Result<()> {
        let bytes = (len * size_of::<T>()) as u64;
        self.cuda.shared().driver.download_pinned(self.memory, from, bytes, stream)
    }

    /// Copies the first `len` elements to device memory, in the order of a stream; returns before the copy is done.
    pub fn upload_in(&self, to: Address, len: usize, stream: Stream) -> Result<()> {
        let bytes = (len * size_of::<T>()) as u64;
        self.cuda.shared().driver.upload_pinned(to, self.memory, bytes, stream)
    }

    /// Runs `body` on the elements, after the copies that use them are done.
    pub fn with<R>(&mut self, body: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        let (len, mut body, mut result) = (self.len * size_of::<T>(), Some(body), None);
        self.cuda.shared().driver.with_pinned(self.memory, &mut |bytes| {
            if let (Some(body), Some(bytes)) = (body.take(), bytes.get_mut(..len)) {
                result = bytemuck::try_cast_slice_mut(bytes).ok().map(body);
            }
        })?;
        result.ok_or_else(|| {
            Error::misuse("pinned memory", "the driver gave memory of another size or alignment")
        })
    }
}

impl<T: Pod> Drop for PinnedBuffer<T> {
    fn drop(&mut self) {
        let _ = self.cuda.shared().driver.free_pinned(self.memory);
    }
}
