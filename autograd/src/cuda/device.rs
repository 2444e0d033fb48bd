//! [`Cuda`]: an open device with its pool and its streams.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use bytemuck::Pod;

use super::{
    buffer::{DeviceBuffer, PinnedBuffer},
    counting_driver::Counting,
    driver::*,
    emulated::{Emulated, EmulatorOptions},
    kernels::Kernels,
    nvidia::{self, Nvidia},
    pool::{Pool, PoolReport, Purpose},
    table::lock,
};
use crate::{Error, Result};

/// The devices that a backend has.
///
/// # Errors
/// [`Error::NoDevice`] where there is no NVIDIA driver, or one that is too old.
pub fn devices(backend: Backend) -> Result<Vec<DeviceInfo>> {
    match backend {
        Backend::Nvidia => nvidia::devices(),
        Backend::Emulated => Ok(vec![Emulated::describe(&EmulatorOptions::from_environment()?)]),
        Backend::Counting => Ok(vec![Counting::describe()]),
    }
}

/// A handle to an open device; cloning it copies the handle. Work goes to one stream, the compute stream, in the order of
/// the calls; copies through pinned memory go to a second one.
#[derive(Clone)]
pub struct Cuda(Arc<Shared>);

pub(super) struct Shared {
    pub driver: Arc<dyn Driver>,
    pub pool: Mutex<Pool>,
    pub compute: Stream,
    pub copy: Stream,
    pub kernels: Kernels,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cuda({}, device {})", self.device().name, self.device().ordinal)
    }
}

impl Cuda {
    /// Opens device `ordinal` of a backend.
    ///
    /// # Errors
    /// [`Error::NoDevice`] where there is no driver, no such device, or one that the kernels do not run on.
    pub fn open(backend: Backend, ordinal: u32) -> Result<Self> {
        match backend {
            Backend::Nvidia => Self::over(Arc::new(Nvidia::open(ordinal)?)),
            Backend::Emulated if ordinal == 0 => {
                Self::over(Arc::new(Emulated::new(&EmulatorOptions::from_environment()?)))
            }
            Backend::Emulated => Err(Error::NoDevice(format!(
                "device {ordinal} does not exist: the emulator has only device 0"
            ))),
            Backend::Counting => Self::over(Arc::new(Counting::new(Counting::describe()))),
        }
    }

    /// A device that a driver has opened.
    pub fn over(driver: Arc<dyn Driver>) -> Result<Self> {
        let stream = || driver.create_stream(Priority::Normal);
        let (compute, copy) = (stream()?, stream()?);
        let pool = Mutex::new(Pool::new(driver.clone(), compute));
        Ok(Self(Arc::new(Shared { driver, pool, compute, copy, kernels: Kernels::default() })))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Whether both are handles of one opened device.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Name, memory and limits of the device.
    pub fn device(&self) -> &DeviceInfo {
        self.0.driver.device()
    }

    /// The driver of this device.
    pub fn driver(&self) -> &dyn Driver {
        &*self.0.driver
    }

    /// The stream that all work goes to, for callers that use the driver directly.
    pub fn compute_stream(&self) -> Stream {
        self.0.compute
    }

    /// Waits until all work is done; returns the error of work that failed.
    pub fn synchronize(&self) -> Result<()> {
        self.0.driver.synchronize(self.0.copy)?;
        self.0.driver.synchronize(self.0.compute)
    }

    /// `len` elements of unspecified content, for a kernel that writes them all.
    pub fn uninit<T: Pod>(&self, len: usize) -> Result<DeviceBuffer<T>> {
        DeviceBuffer::new(self, len, Purpose::General)
    }

    /// `len` elements whose bits are all zero.
    pub fn zeros<T: Pod>(&self, len: usize) -> Result<DeviceBuffer<T>> {
        let mut buffer = self.uninit(len)?;
        buffer.clear()?;
        Ok(buffer)
    }

    /// A copy of the host's values.
    pub fn copy_of<T: Pod>(&self, values: &[T]) -> Result<DeviceBuffer<T>> {
        let mut buffer = self.uninit(values.len())?;
        buffer.upload(values)?;
        Ok(buffer)
    }

    /// Pinned host memory of `len` elements, zeroed.
    pub fn pinned<T: Pod>(&self, len: usize) -> Result<PinnedBuffer<T>> {
        PinnedBuffer::new(self, len)
    }

    /// Bytes that the memory pool holds.
    pub fn memory_report(&self) -> PoolReport {
        lock(&self.0.pool).report()
    }

    /// Frees cached memory, for example between training and evaluation.
    pub fn trim(&self) -> Result<()> {
        lock(&self.0.pool).trim()
    }

    /// A new event that orders streams and measures no time.
    pub fn event(&self) -> Result<Event> {
        self.event_of(false)
    }

    /// A new event that also measures time.
    pub fn timed_event(&self) -> Result<Event> {
        self.event_of(true)
    }

    fn event_of(&self, timed: bool) -> Result<Event> {
        let event = self.0.driver.create_event(timed)?;
        Ok(Event { cuda: self.clone(), event })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Errors cannot be reported here, and the driver frees all of it with the context.
        let _ = self.driver.synchronize(self.copy);
        let _ = self.driver.synchronize(self.compute);
        let _ = lock(&self.pool).trim();
        self.kernels.unload(&*self.driver);
        let _ = self.driver.destroy_stream(self.copy);
        let _ = self.driver.destroy_stream(self.compute);
    }
}

/// A CUDA event: a point in a stream that the host and other streams can wait for.
#[derive(Debug)]
pub struct Event {
    cuda: Cuda,
    pub(super) event: EventId,
}

impl Event {
    /// Records the event after all work that is queued in the compute stream.
    pub fn record(&self) -> Result<()> {
        self.cuda.0.driver.record(self.event, self.cuda.0.compute)
    }

    /// Records the event after all work that is queued in `stream`.
    pub fn record_on(&self, stream: Stream) -> Result<()> {
        self.cuda.0.driver.record(self.event, stream)
    }

    /// Later work of `stream` waits for the event.
    pub fn wait_on(&self, stream: Stream) -> Result<()> {
        self.cuda.0.driver.wait(stream, self.event)
    }

    /// Whether all work before the event is done; does not wait.
    pub fn query(&self) -> Result<bool> {
        self.cuda.0.driver.query_event(self.event)
    }

    /// Waits until all work before the event is done.
    pub fn synchronize(&self) -> Result<()> {
        self.cuda.0.driver.synchronize_event(self.event)
    }

    /// Milliseconds from `start` to this event, once all work before both is done; both are [timed](Cuda::timed_event).
    /// The emulator measures host time.
    pub fn elapsed_ms(&self, start: &Self) -> Result<f32> {
        self.cuda.0.driver.elapsed_ms(start.event, self.event)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.cuda.0.driver.destroy_event(self.event);
    }
}
