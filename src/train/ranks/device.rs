//! The gradients of a device's steps on their way to all ranks: buckets leave on a stream of their own while the backward
//! pass goes on in the compute stream.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ssmv_autograd::{
    ArenaLayout,
    cuda::{Cuda, DeviceMemory, Mark, Nccl, Stream},
};

use super::{Buckets, Ranks};
use crate::{
    Error, Result,
    comm::{
        Communicator, Pending,
        device::{
            self, DeviceCollectives, DeviceRing, NcclCollectives, NcclLink, PeerLink, PeerOptions, Place,
            Staged, connect_nccl,
        },
    },
    config::Comm,
};

/// Between two looks at a device.
const LOOK: Duration = Duration::from_micros(20);

/// What moves gradients between devices, used by the courier's thread alone once it is connected.
type Way = Arc<Mutex<Box<dyn DeviceCollectives>>>;

/// The ranks that a device trainer shares its steps with.
pub struct DeviceSharing {
    /// The ranks.
    pub ranks: Arc<Ranks>,
    /// How the arena is cut.
    pub buckets: Buckets,
    /// How gradients travel, in words.
    pub name: &'static str,
    cuda: Cuda,
    way: Way,
    stream: Stream,
    /// After the work that makes each bucket whole; the last is for the loss.
    whole: Vec<Arc<Mark>>,
    /// After the last collective of a step.
    back: Arc<Mark>,
    pending: Vec<Pending<(), device::Error>>,
}

impl DeviceSharing {
    /// Connects this rank's device with those of the others, by the best way that there is.
    ///
    /// # Errors
    /// What was asked for and is not there; what ranks and devices say.
    pub fn connect(ranks: Arc<Ranks>, cuda: &Cuda, layout: &ArenaLayout, comm: Comm) -> Result<Self> {
        let buckets = Buckets::new(layout, ranks.bucket_bytes);
        let (device, local, timeout) = (cuda.clone(), ranks.is_local(), ranks.timeout);
        let (way, name) = ranks.call(move |control| connect(&device, control, comm, local, timeout))?;
        let mark = || cuda.mark().map(Arc::new);
        let whole = (0..=buckets.ranges().len()).map(|_| mark()).collect::<Result<_, _>>()?;
        Ok(Self {
            stream: cuda.driver().create_stream()?,
            back: mark()?,
            way: Arc::new(Mutex::new(way)),
            cuda: cuda.clone(),
            pending: Vec::new(),
            whole,
            buckets,
            ranks,
            name,
        })
    }

    /// Sends buckets, whose gradients are in the compute stream by now.
    ///
    /// # Errors
    /// What the device says; the ranks' errors come with [`finish`](Self::finish).
    pub fn send(&mut self, buckets: Range<usize>, gradients: &DeviceMemory) -> Result<()> {
        for bucket in buckets {
            self.queue(bucket, gradients, self.buckets.ranges()[bucket].clone())?;
        }
        Ok(())
    }

    fn queue(&mut self, mark: usize, memory: &DeviceMemory, range: Range<usize>) -> Result<()> {
        let (way, whole, back) =
            (Arc::clone(&self.way), Arc::clone(&self.whole[mark]), Arc::clone(&self.back));
        let (memory, stream) = (memory.clone(), self.stream);
        whole.set()?;
        self.pending.push(self.ranks.courier.queue(move |control| {
            let rank = control.rank();
            let failed = |source| device::Error::Device { rank, operation: "all-reduce", source };
            whole.wait_in(stream).map_err(failed)?;
            let mut way = way.lock().unwrap_or_else(PoisonError::into_inner);
            way.all_reduce_sum(control, &Place { memory: &memory, range, stream })?;
            back.set_in(stream).map_err(failed)
        }));
        Ok(())
    }

    /// Sends the step's loss after its gradients, and lets the compute stream go on once all sums are there.
    ///
    /// # Errors
    /// A rank that failed.
    pub fn finish(&mut self, record: &DeviceMemory, loss: Range<usize>) -> Result<()> {
        self.queue(self.buckets.ranges().len(), record, loss)?;
        for pending in std::mem::take(&mut self.pending) {
            pending.wait().inspect_err(|_| self.ranks.fail())?;
        }
        Ok(self.back.wait_in(self.cuda.compute_stream())?)
    }
}

impl DeviceSharing {
    /// Waits until `come` says so, a device that is behind others' included.
    ///
    /// # Errors
    /// Another device that hangs: after the ranks' timeout all is ended.
    pub fn watch(&self, come: impl Fn() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !come()? {
            if start.elapsed() > self.ranks.timeout {
                self.abort();
                return Err(Error::Failure(format!(
                    "rank {}: the device has not come to the end of a step for {:.1} s: a device among the ranks hangs",
                    self.ranks.rank(),
                    self.ranks.timeout.as_secs_f64()
                )));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn abort(&self) {
        self.way.lock().unwrap_or_else(PoisonError::into_inner).abort();
    }
}

impl Drop for DeviceSharing {
    fn drop(&mut self) {
        if self.ranks.has_failed() {
            self.abort();
        }
        let _ = self.cuda.driver().synchronize(self.stream);
        let _ = self.cuda.driver().destroy_stream(self.stream);
    }
}

/// The best way between the devices: every rank comes to the same.
fn connect(
    cuda: &Cuda,
    control: &mut Communicator,
    comm: Comm,
    local: bool,
    timeout: Duration,
) -> device::Result<(Box<dyn DeviceCollectives>, &'static str)> {
    let rank = control.rank();
    let failed = |source| device::Error::Device { rank, operation: "connect", source };
    if comm == Comm::Nccl {
        let nccl = connect_nccl(cuda, control, Nccl::open(), timeout)?;
        return Ok((Box::new(NcclCollectives::new(nccl)), "NCCL's all-reduce"));
    }
    if local {
        match PeerLink::connect(cuda, control, PeerOptions::default()) {
            Ok(link) => return Ok((Box::new(DeviceRing::new(cuda, link).map_err(failed)?), "peer memory")),
            Err(device::Error::Unreachable(_)) => {}
            Err(error) => return Err(error),
        }
    }
    match connect_nccl(cuda, control, Nccl::open(), timeout) {
        Ok(nccl) => {
            let link = NcclLink::new(nccl, NcclLink::MOST).map_err(failed)?;
            Ok((Box::new(DeviceRing::new(cuda, link).map_err(failed)?), "NCCL's sends and receives"))
        }
        Err(device::Error::Unreachable(_)) => {
            let staged = Staged::new(cuda, Staged::CHUNK).map_err(failed)?;
            Ok((Box::new(staged), "pinned memory and TCP"))
        }
        Err(error) => Err(error),
    }
}

impl From<device::Error> for Error {
    fn from(error: device::Error) -> Self {
        match error {
            device::Error::Control(error) => Self::Ranks(error),
            other => Self::Failure(other.to_string()),
        }
    }
}
