//! NCCL between machines: the ring's schedule over its send and receive, and its own all-reduce.
//!
//! NCCL's calls are queued in the stream and return. If a rank is missing, the control ring fails, and the caller that waits for
//! the stream ends the communicator with [`DeviceCollectives::aborter`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ssmv_autograd::{
    DType,
    cuda::{Address, Cuda, DeviceMemory, Stream},
};

use super::ring::{abandon, check};
use super::{Aborter, DeviceCollectives, DeviceLink, Error, Region, Result, Turn};
use crate::frame::Operation;
use crate::nccl::{self, Nccl, NcclCommunicator, UniqueId};
use crate::{Communicator, ReduceOp, segment, segment_of};

/// Alignment of a link's addresses in bytes.
const ALIGN: usize = 256;

/// Connects the ranks of the control ring by NCCL. `nccl` is this rank's library.
///
/// # Errors
/// [`Error::Unreachable`] on all ranks if one of them has no library or cannot connect; errors of the control ring.
pub fn connect(
    cuda: &Cuda,
    control: &mut Communicator,
    nccl: nccl::Result<Nccl>,
    timeout: Duration,
) -> Result<Arc<NcclCommunicator>> {
    let (rank, size) = (control.rank(), control.size());
    let opened = nccl.and_then(|nccl| {
        let id = if rank == 0 { nccl.unique_id()?.to_bytes() } else { [0; UniqueId::BYTES] };
        Ok((nccl, id))
    });
    agree(control, &opened)?;
    let (nccl, mut id) = opened.map_err(|e| Error::Unreachable(e.to_string()))?;
    let mut words: Vec<u32> = id.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    control.broadcast(&mut words, 0)?;
    for (bytes, word) in id.as_chunks_mut::<4>().0.iter_mut().zip(&words) {
        *bytes = word.to_le_bytes();
    }
    let connected = nccl.connect(cuda, rank, size, &UniqueId::from_bytes(id), timeout);
    agree(control, &connected)?;
    connected.map(Arc::new).map_err(|e| Error::Unreachable(e.to_string()))
}

/// Returns an error on all ranks if one of them has an error.
fn agree<T>(control: &mut Communicator, own: &nccl::Result<T>) -> Result<()> {
    let mut failed = [u32::from(own.is_err())];
    control.all_reduce(&mut failed, ReduceOp::Max)?;
    match own {
        Err(e) => Err(Error::Unreachable(e.to_string())),
        Ok(_) if failed[0] != 0 => Err(Error::Unreachable("another rank has no NCCL that connects".into())),
        Ok(_) => Ok(()),
    }
}

/// A link over NCCL's send and receive, with memory for one piece to send and one received piece. The order of the stream
/// protects both.
#[derive(Debug)]
pub struct NcclLink {
    nccl: Arc<NcclCommunicator>,
    /// Of f16 elements: pieces of f16 and f32 have an even number of bytes.
    outbox: DeviceMemory,
    inbox: DeviceMemory,
    /// Size of the next turn's piece in bytes.
    outgoing: usize,
    most: usize,
}

impl NcclLink {
    /// Default size limit of a piece in bytes: large, because pieces do not overlap.
    pub const MOST: usize = 4 << 20;

    /// A link of pieces of at most `most` bytes.
    ///
    /// # Errors
    /// No device memory for two pieces.
    pub fn new(nccl: Arc<NcclCommunicator>, most: usize) -> ssmv_autograd::Result<Self> {
        let memory = || -> ssmv_autograd::Result<_> {
            let memory =
                DeviceMemory::new(nccl.cuda(), DType::F16, (most + ALIGN).next_multiple_of(ALIGN) / 2)?;
            // The bytes beside a piece are sent with it, so they must be initialised.
            memory.clear(0..memory.len())?;
            Ok(memory)
        };
        let (outbox, inbox) = (memory()?, memory()?);
        nccl.cuda().synchronize()?;
        Ok(Self { outbox, inbox, outgoing: 0, most, nccl })
    }
}

impl DeviceLink for NcclLink {
    fn rank(&self) -> usize {
        self.nccl.rank()
    }

    fn ranks(&self) -> usize {
        self.nccl.size()
    }

    fn width(&self) -> usize {
        1
    }

    fn most(&self) -> usize {
        self.most
    }

    fn outbox(&mut self, _piece: usize, _stream: Stream) -> ssmv_autograd::Result<Address> {
        Ok(self.outbox.address_of(0))
    }

    fn send(&mut self, _piece: usize, bytes: usize, _stream: Stream) -> ssmv_autograd::Result<()> {
        self.outgoing = bytes;
        Ok(())
    }

    fn turn(
        &mut self,
        control: &mut Communicator,
        turn: Turn,
        incoming: &[usize],
        stream: Stream,
    ) -> Result<()> {
        if turn.tag.index == 0 {
            turn.compare(control)?;
        }
        let (rank, ranks) = (self.rank(), self.ranks());
        let (outgoing, incoming) =
            (std::mem::take(&mut self.outgoing), incoming.first().copied().unwrap_or(0));
        let Self { nccl, outbox, inbox, .. } = self;
        if outgoing == 0 && incoming == 0 {
            return Ok(());
        }
        let queued = nccl.group(stream, |group| {
            if outgoing > 0 {
                group.send(outbox, 0..outgoing.div_ceil(2), (rank + 1) % ranks)?;
            }
            if incoming > 0 {
                group.receive(inbox, 0..incoming.div_ceil(2), (rank + ranks - 1) % ranks)?;
            }
            Ok(())
        });
        queued.map_err(|e| Error::Device { rank, operation: turn.name(), source: e.into() })
    }

    fn receive(&mut self, _piece: usize, _stream: Stream) -> ssmv_autograd::Result<Address> {
        Ok(self.inbox.address_of(0))
    }

    fn release(&mut self, _stream: Stream) -> ssmv_autograd::Result<()> {
        Ok(())
    }

    fn aborter(&self) -> Aborter {
        aborter(&self.nccl)
    }

    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()> {
        close(self.nccl, control)
    }
}

/// NCCL's own collectives. NCCL chooses the order of summation, the same on every rank.
#[derive(Debug)]
pub struct NcclCollectives {
    nccl: Arc<NcclCommunicator>,
    /// A copy of the elements of a reduce-scatter, which must not change the other segments.
    scratch: DeviceMemory,
}

impl NcclCollectives {
    /// Collectives of connected ranks; a reduce-scatter takes at most `capacity` elements.
    ///
    /// # Errors
    /// No device memory for them.
    pub fn new(nccl: Arc<NcclCommunicator>, capacity: usize) -> ssmv_autograd::Result<Self> {
        // Never freed during use: the pool orders reuse by the compute stream only.
        let scratch = DeviceMemory::new(nccl.cuda(), DType::F32, capacity)?;
        nccl.cuda().synchronize()?;
        Ok(Self { nccl, scratch })
    }

    /// Checks, compares and runs a collective; informs the other ranks of an error.
    fn collective(
        &mut self,
        control: &mut Communicator,
        region: &Region,
        (operation, root): (Operation, usize),
        body: impl FnOnce(&mut Self) -> nccl::Result<()>,
    ) -> Result<()> {
        let (rank, ranks) = (self.nccl.rank(), self.nccl.size());
        let turn = Turn::first(operation, root, region, control);
        check(region, operation, root, ranks)
            .map_err(|message| Error::Argument { rank, operation: turn.name(), message })
            .and_then(|()| turn.compare(control))
            .and_then(|()| match region.range.is_empty() {
                true => Ok(()),
                false => {
                    body(self).map_err(|e| Error::Device { rank, operation: turn.name(), source: e.into() })
                }
            })
            .inspect_err(|error| abandon(control, error))
    }
}

impl DeviceCollectives for NcclCollectives {
    fn all_reduce_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<()> {
        self.collective(control, region, (Operation::AllReduceSum, 0), |this| {
            this.nccl
                .group(region.stream, |g| g.all_reduce(region.memory, region.range.clone(), ReduceOp::Sum))
        })
    }

    fn reduce_scatter_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<Range<usize>> {
        let own = segment_of(&region.range, self.nccl.size(), self.nccl.rank());
        self.collective(control, region, (Operation::ReduceScatterSum, 0), |this| {
            // NCCL's shares have equal lengths, the ring's segments do not.
            let (cuda, count) = (this.nccl.cuda(), region.range.len());
            let scratch = &this.scratch;
            if count > scratch.len() {
                let message = format!("{count} elements, more than {}", scratch.len());
                return Err(ssmv_autograd::Error::misuse("reduce-scatter by NCCL", message).into());
            }
            let (driver, stream) = (cuda.driver(), region.stream);
            let from = region.memory.address_of(region.range.start);
            driver.copy(scratch.address_of(0), from, 4 * count as u64, stream)?;
            this.nccl.group(stream, |g| g.all_reduce(scratch, 0..count, ReduceOp::Sum))?;
            if !own.is_empty() {
                let sums = scratch.address_of(own.start - region.range.start);
                driver.copy(region.memory.address_of(own.start), sums, 4 * own.len() as u64, stream)?;
            }
            Ok(())
        })?;
        Ok(own)
    }

    fn all_gather(&mut self, control: &mut Communicator, region: &Region) -> Result<()> {
        let (ranks, range) = (self.nccl.size(), region.range.clone());
        self.collective(control, region, (Operation::AllGather, 0), |this| {
            this.nccl.group(region.stream, |group| {
                for root in (0..ranks).filter(|&root| !segment(range.len(), ranks, root).is_empty()) {
                    group.broadcast(region.memory, segment_of(&range, ranks, root), root)?;
                }
                Ok(())
            })
        })
    }

    fn broadcast(&mut self, control: &mut Communicator, region: &Region, root: usize) -> Result<()> {
        self.collective(control, region, (Operation::Broadcast, root), |this| {
            this.nccl.group(region.stream, |g| g.broadcast(region.memory, region.range.clone(), root))
        })
    }

    fn aborter(&self) -> Aborter {
        aborter(&self.nccl)
    }

    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()> {
        close(self.nccl, control)
    }
}

fn aborter(nccl: &Arc<NcclCommunicator>) -> Aborter {
    // A closed communicator needs no abort.
    let nccl = Arc::downgrade(nccl);
    Arc::new(move || {
        if let Some(nccl) = nccl.upgrade() {
            nccl.abort();
        }
    })
}

/// Ends the communicator after all ranks have called this.
fn close(nccl: Arc<NcclCommunicator>, control: &mut Communicator) -> Result<()> {
    control.barrier()?;
    let rank = nccl.rank();
    // Only an abort on another thread could still hold it.
    let closed = Arc::into_inner(nccl).map_or(Ok(()), NcclCommunicator::close);
    closed.map_err(|e| Error::Device { rank, operation: "close", source: e.into() })
}
