//! Reduction of a device's gradients over all ranks: buckets are sent on a separate stream while the backward pass
//! continues in the compute stream.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ssmv_autograd::{
    ArenaLayout,
    cuda::{Cuda, DeviceMemory, Event, Priority, Stream},
    optim::ShardedAdamW,
};
use ssmv_comm::{
    Communicator, Pending,
    gpu::{
        self, Aborter, DeviceCollectives, DeviceRing, NcclCollectives, NcclLink, PeerLink, PeerOptions,
        Region, Staged, connect_nccl, tried,
    },
    nccl::Nccl,
};

use super::{Buckets, Ranks};
use crate::{Error, Result, config::Comm};

/// Shares start at multiples of this many elements.
const GROUP: usize = 64;

/// Pause between two queries of a device.
const LOOK: Duration = Duration::from_micros(20);

/// Time between two checks of the ring during a wait for a device.
const RING: Duration = Duration::from_millis(200);

/// The transport of gradients between devices. After connecting only the communication thread uses it; `None` after it
/// is closed.
type Way = Arc<Mutex<Option<Box<dyn DeviceCollectives>>>>;

/// A transport with its name.
type Named = (Box<dyn DeviceCollectives>, &'static str);

/// Connection of a device trainer to the ranks with which it shares its steps.
pub struct GpuSharing {
    /// The ranks that train together.
    pub ranks: Arc<Ranks>,
    /// The cut of the arena into buckets.
    pub buckets: Buckets,
    /// Name of the transport, for messages.
    pub name: &'static str,
    /// The reason why the fastest transport is not used, if another had to be taken.
    pub warning: Option<String>,
    /// With `--zero 1`, the optimiser of this rank's share.
    pub share: Option<Arc<ShardedAdamW>>,
    cuda: Cuda,
    way: Way,
    aborter: Aborter,
    stream: Stream,
    /// Recorded after the work that completes each bucket; the last one is for the loss.
    whole: Vec<Arc<Event>>,
    /// Recorded after the last collective of a step.
    back: Arc<Event>,
    settled: Event,
    pending: Vec<Pending<(), gpu::Error>>,
}

impl GpuSharing {
    /// Connects this rank's device with those of the others, by the fastest transport that works.
    ///
    /// # Errors
    /// A requested transport that is missing; errors of ranks and devices.
    pub fn connect(ranks: Arc<Ranks>, cuda: &Cuda, layout: &ArenaLayout, comm: Comm) -> Result<Self> {
        // A rank's share starts at a multiple of 64 elements, as the update kernels require.
        let multiple = if ranks.zero { GROUP * ranks.size() } else { 1 };
        let buckets = Buckets::new(layout, ranks.bucket_bytes, multiple);
        let (device, local, timeout) = (cuda.clone(), ranks.is_local(), ranks.timeout);
        let room = if ranks.zero { buckets.ranges().iter().map(Range::len).max().unwrap_or(0) } else { 0 };
        let ((way, name), warning) =
            ranks.call(move |control| connect(&device, control, comm, local, (timeout, room)))?;
        let event = || cuda.event().map(Arc::new);
        let whole = (0..=buckets.ranges().len()).map(|_| event()).collect::<Result<_, _>>()?;
        Ok(Self {
            stream: cuda.driver().create_stream(Priority::High)?,
            back: event()?,
            settled: cuda.event()?,
            aborter: way.aborter(),
            way: Arc::new(Mutex::new(Some(way))),
            warning,
            cuda: cuda.clone(),
            pending: Vec::new(),
            whole,
            buckets,
            ranks,
            name,
            share: None,
        })
    }

    /// Sends buckets whose gradients are computed by work queued in the compute stream so far.
    ///
    /// # Errors
    /// Errors of the device; errors of ranks are returned by [`wait`](Self::wait).
    pub fn send(&mut self, buckets: Range<usize>, gradients: &DeviceMemory) -> Result<()> {
        for bucket in buckets {
            let what = if self.ranks.zero && !self.buckets.is_short(bucket) {
                Collective::Scatter
            } else {
                Collective::Sum
            };
            self.queue(what, bucket, gradients, self.buckets.ranges()[bucket].clone())?;
        }
        Ok(())
    }

    /// Sums elements over all ranks.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn sum(&mut self, memory: &DeviceMemory, range: Range<usize>) -> Result<()> {
        self.queue(Collective::Sum, self.buckets.ranges().len(), memory, range)
    }

    /// Copies every rank's segment of elements to all ranks.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn gather(&mut self, memory: &DeviceMemory, range: Range<usize>) -> Result<()> {
        self.queue(Collective::Gather, self.buckets.ranges().len(), memory, range)
    }

    /// Copies every rank's share of memory laid out as the arena to all ranks.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn gather_shares(&mut self, memory: &DeviceMemory) -> Result<()> {
        for i in 0..self.buckets.ranges().len() {
            if !self.buckets.is_short(i) {
                self.queue(Collective::Gather, i, memory, self.buckets.ranges()[i].clone())?;
            }
        }
        Ok(())
    }

    /// Queues a collective after the work queued in the compute stream so far.
    fn queue(
        &mut self,
        what: Collective,
        event: usize,
        memory: &DeviceMemory,
        range: Range<usize>,
    ) -> Result<()> {
        let (way, whole, back) =
            (Arc::clone(&self.way), Arc::clone(&self.whole[event]), Arc::clone(&self.back));
        let (memory, stream) = (memory.clone(), self.stream);
        whole.record()?;
        self.pending.push(self.ranks.comm_thread.queue(move |control| {
            let rank = control.rank();
            let failed = |source| gpu::Error::Device { rank, operation: "order streams", source };
            whole.wait_on(stream).map_err(failed)?;
            let mut way = way.lock().unwrap_or_else(PoisonError::into_inner);
            let way = way.as_mut().ok_or(gpu::Error::Aborted { rank, operation: "a collective" })?;
            let region = Region { memory: &memory, range, stream };
            match what {
                Collective::Sum => way.all_reduce_sum(control, &region)?,
                Collective::Scatter => way.reduce_scatter_sum(control, &region).map(drop)?,
                Collective::Gather => way.all_gather(control, &region)?,
            }
            back.record_on(stream).map_err(failed)
        }));
        Ok(())
    }

    /// Makes the compute stream wait until all sent buckets are reduced.
    ///
    /// # Errors
    /// A rank that failed.
    pub fn wait(&mut self) -> Result<()> {
        for pending in std::mem::take(&mut self.pending) {
            self.ranks.wait(pending)?;
        }
        Ok(self.back.wait_on(self.cuda.compute_stream())?)
    }
}

/// The collective to run on a region.
#[derive(Clone, Copy)]
enum Collective {
    Sum,
    Scatter,
    Gather,
}

impl GpuSharing {
    /// Waits until `come` returns true, which may depend on other devices.
    ///
    /// # Errors
    /// Another device hangs: after the ranks' timeout everything is aborted.
    pub fn watch(&self, come: impl Fn() -> Result<bool>) -> Result<()> {
        let (start, mut looked) = (Instant::now(), Instant::now());
        while !come()? {
            if looked.elapsed() > RING {
                looked = Instant::now();
                self.ranks.check_ring()?;
            }
            if start.elapsed() > self.ranks.timeout {
                self.ranks.fail();
                (self.aborter)();
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

    /// Waits until the compute stream has done all that is queued, as [`watch`](Self::watch) does.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    pub fn settle(&self) -> Result<()> {
        self.settled.record()?;
        self.watch(|| Ok(self.settled.query()?))
    }

    /// Aborts work that waits for other ranks, on this process's threads and, as far as possible, on the device: so
    /// that a failing rank leaves no kernels behind that spin forever.
    pub fn abort(&self) {
        (self.aborter)();
    }

    /// Closes the connection, after all ranks have called this and all devices are done: only then may memory that a
    /// neighbour has opened be freed.
    ///
    /// # Errors
    /// A failure of a rank or a device.
    pub fn close(self) -> Result<()> {
        self.settle()?;
        let way = Arc::clone(&self.way);
        self.ranks.call(move |control| {
            let way = way.lock().unwrap_or_else(PoisonError::into_inner).take();
            way.map_or(Ok(()), |way| way.close(control))
        })
    }
}

impl Drop for GpuSharing {
    fn drop(&mut self) {
        if self.ranks.has_failed() {
            // Queued work may wait for a rank that is gone; the driver frees its objects when the process ends.
            (self.aborter)();
            return;
        }
        let _ = self.cuda.driver().synchronize(self.stream);
        let _ = self.cuda.driver().destroy_stream(self.stream);
    }
}

/// The fastest transport between the devices whose sums are correct, and a warning if a faster one failed. All ranks
/// choose the same one.
fn connect(
    cuda: &Cuda,
    control: &mut Communicator,
    comm: Comm,
    local: bool,
    (timeout, room): (Duration, usize),
) -> gpu::Result<(Named, Option<String>)> {
    let rank = control.rank();
    let failed = |source| gpu::Error::Device { rank, operation: "connect", source };
    // A rank that waits for NCCL sends nothing on the ring: it must return before the other ranks time out there.
    let patience = timeout / 4;
    if comm == Comm::Nccl {
        let nccl = connect_nccl(cuda, control, Nccl::open(), patience)?;
        let way = NcclCollectives::new(nccl, room).map_err(failed)?;
        return Ok(((tried(Box::new(way), cuda, control, timeout)?, "NCCL's all-reduce"), None));
    }
    if local {
        let options = PeerOptions { timeout, ..PeerOptions::default() };
        match peer_memory(cuda, control, options) {
            Ok(way) => return Ok((way, None)),
            Err(gpu::Error::Unreachable(_)) => {}
            // NCCL would also write the neighbour's memory.
            Err(gpu::Error::Wrong(why)) => {
                let warning = format!(
                    "GPUs that write each other's memory get it wrong ({why}): an IOMMU or the access control (ACS) of PCI \
                     Express switches diverts them; gradients travel through the host, which is slower"
                );
                return Ok((through_the_host(cuda, control, timeout)?, Some(warning)));
            }
            Err(error) => return Err(error),
        }
    }
    match connect_nccl(cuda, control, Nccl::open(), patience) {
        Ok(nccl) => {
            let link = NcclLink::new(nccl, NcclLink::MOST).map_err(failed)?;
            let way = Box::new(DeviceRing::new(cuda, link).map_err(failed)?);
            Ok(((tried(way, cuda, control, timeout)?, "NCCL's sends and receives"), None))
        }
        Err(gpu::Error::Unreachable(_)) => Ok((through_the_host(cuda, control, timeout)?, None)),
        Err(error) => Err(error),
    }
}

fn peer_memory(cuda: &Cuda, control: &mut Communicator, options: PeerOptions) -> gpu::Result<Named> {
    let rank = control.rank();
    let link = PeerLink::connect(cuda, control, options)?;
    let way = DeviceRing::new(cuda, link);
    let way = way.map_err(|source| gpu::Error::Device { rank, operation: "connect", source })?;
    Ok((tried(Box::new(way), cuda, control, options.timeout)?, "peer memory"))
}

fn through_the_host(cuda: &Cuda, control: &mut Communicator, timeout: Duration) -> gpu::Result<Named> {
    let rank = control.rank();
    let way = Staged::new(cuda, Staged::CHUNK);
    let way = way.map_err(|source| gpu::Error::Device { rank, operation: "connect", source })?;
    Ok((tried(Box::new(way), cuda, control, timeout)?, "pinned memory and TCP"))
}

impl From<gpu::Error> for Error {
    fn from(error: gpu::Error) -> Self {
        match error {
            gpu::Error::Control(error) => Self::Ranks(error),
            other => Self::Failure(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::TrainConfig,
        model::{Predictor, Preset},
        train::{interrupt::Interrupt, ranks::tests},
    };

    #[test]
    fn gradients_go_before_what_the_device_computes() {
        tests::among(2, |member| {
            let config = TrainConfig { ranks: 2, ..TrainConfig::preset("nano").unwrap() };
            let cuda = Cuda::over(tests::device(&member)).unwrap();
            let ranks = Arc::new(Ranks::start(member, &config, &Interrupt::never()).unwrap());
            let model = Predictor::zeros(Preset::find("nano").unwrap(), ssmv_autograd::DType::F32).unwrap();
            let sharing = GpuSharing::connect(ranks, &cuda, model.arena.layout(), config.comm).unwrap();
            let priority = |stream| cuda.driver().priority(stream).unwrap();
            assert_eq!(priority(sharing.stream), Priority::High);
            assert_eq!(priority(cuda.compute_stream()), Priority::Normal);
            sharing.close().unwrap();
        });
    }
}
