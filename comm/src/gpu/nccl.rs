//! NCCL between machines: the ring's schedule over its sends and receives, and its own all-reduce.
//!
//! Its calls are queued in the stream and return; a missing rank shows in the control ring, and the caller that waits for the
//! stream ends the communicator with [`DeviceCollectives::aborter`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ssmv_autograd::{
    DType,
    cuda::{Address, Cuda, DeviceMemory, Stream},
};

use super::ring::{abandon, check};
use super::{Aborter, Collective, DeviceCollectives, DeviceLink, Error, Region, Result, Turn};
use crate::nccl::{self, Nccl, NcclCommunicator, UniqueId};
use crate::{Communicator, Reduction, segment, segment_of};

/// Bytes of a unique id.
const ID: usize = 128;

/// Alignment that a link promises.
const ALIGN: usize = 256;

/// Connects the ranks of the control ring by NCCL. `nccl` is this rank's library.
///
/// # Errors
/// [`Error::Unreachable`] on all ranks where one of them has no library or cannot connect; what the control ring says.
pub fn connect(
    cuda: &Cuda,
    control: &mut Communicator,
    nccl: nccl::Result<Nccl>,
    timeout: Duration,
) -> Result<Arc<NcclCommunicator>> {
    let (rank, size) = (control.rank(), control.size());
    let begun = nccl.and_then(|nccl| {
        let id = if rank == 0 { nccl.unique_id()?.to_bytes() } else { [0; ID] };
        Ok((nccl, id))
    });
    agree(control, &begun)?;
    let (nccl, mut id) = begun.map_err(|e| Error::Unreachable(e.to_string()))?;
    let mut words: Vec<u32> = id.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    control.broadcast(&mut words, 0)?;
    for (bytes, word) in id.as_chunks_mut::<4>().0.iter_mut().zip(&words) {
        *bytes = word.to_le_bytes();
    }
    let connected = nccl.connect(cuda, rank, size, &UniqueId::from_bytes(id), timeout);
    agree(control, &connected)?;
    connected.map(Arc::new).map_err(|e| Error::Unreachable(e.to_string()))
}

/// Makes what failed on one rank an error on all.
fn agree<T>(control: &mut Communicator, own: &nccl::Result<T>) -> Result<()> {
    let mut failed = [u32::from(own.is_err())];
    control.all_reduce(&mut failed, Reduction::Max)?;
    match own {
        Err(e) => Err(Error::Unreachable(e.to_string())),
        Ok(_) if failed[0] != 0 => Err(Error::Unreachable("another rank has no NCCL that connects".into())),
        Ok(_) => Ok(()),
    }
}

/// Compares what this rank is about to do with its left neighbour: NCCL itself would hang, or mix up numbers.
fn compare(control: &mut Communicator, turn: Turn) -> Result<()> {
    let mut words = turn.words();
    control.shift(&mut words)?;
    let (rank, left) = (control.rank(), (control.rank() + control.size() - 1) % control.size());
    match Turn::from_words(words) {
        theirs if theirs == turn => Ok(()),
        theirs => Err(Error::Argument {
            rank,
            operation: turn.name(),
            message: format!("rank {left} is in {theirs}, this rank in {turn}"),
        }),
    }
}

/// A link over NCCL's sends and receives: a place for a piece that leaves and one for a piece that comes. The stream's order
/// keeps them apart.
#[derive(Debug)]
pub struct NcclLink {
    nccl: Arc<NcclCommunicator>,
    /// Two bytes an element, which suits f16 and f32.
    outbox: DeviceMemory,
    inbox: DeviceMemory,
    /// Bytes of the coming turn's piece.
    leaving: usize,
    most: usize,
}

impl NcclLink {
    /// Bytes of a piece: large, for pieces do not overlap.
    pub const MOST: usize = 4 << 20;

    /// A link of pieces of at most `most` bytes.
    ///
    /// # Errors
    /// No room for two pieces on the device.
    pub fn new(nccl: Arc<NcclCommunicator>, most: usize) -> ssmv_autograd::Result<Self> {
        let memory = || -> ssmv_autograd::Result<_> {
            let memory =
                DeviceMemory::new(nccl.cuda(), DType::F16, (most + ALIGN).next_multiple_of(ALIGN) / 2)?;
            // What lies beside a piece travels with it.
            memory.clear(0..memory.len())?;
            Ok(memory)
        };
        let (outbox, inbox) = (memory()?, memory()?);
        nccl.cuda().synchronize()?;
        Ok(Self { outbox, inbox, leaving: 0, most, nccl })
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

    fn place(&mut self, _piece: usize, _stream: Stream) -> ssmv_autograd::Result<Address> {
        Ok(self.outbox.address_of(0))
    }

    fn send(&mut self, _piece: usize, bytes: usize, _stream: Stream) -> ssmv_autograd::Result<()> {
        self.leaving = bytes;
        Ok(())
    }

    fn turn(
        &mut self,
        control: &mut Communicator,
        turn: Turn,
        incoming: &[usize],
        stream: Stream,
    ) -> Result<()> {
        if turn.index == 0 {
            compare(control, turn)?;
        }
        let (rank, ranks) = (self.rank(), self.ranks());
        let (leaving, coming) = (std::mem::take(&mut self.leaving), incoming.first().copied().unwrap_or(0));
        let Self { nccl, outbox, inbox, .. } = self;
        if leaving == 0 && coming == 0 {
            return Ok(());
        }
        let queued = nccl.group(stream, |group| {
            if leaving > 0 {
                group.send(outbox, 0..leaving.div_ceil(2), (rank + 1) % ranks)?;
            }
            if coming > 0 {
                group.receive(inbox, 0..coming.div_ceil(2), (rank + ranks - 1) % ranks)?;
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

/// NCCL's own collectives. Their sums are added up in an order of NCCL's choice, the same on every rank.
#[derive(Debug)]
pub struct NcclCollectives {
    nccl: Arc<NcclCommunicator>,
    /// For a copy of what is reduced, where the rest must stay as it is.
    scratch: DeviceMemory,
}

impl NcclCollectives {
    /// Collectives of connected ranks; a reduce-scatter takes at most `room` elements.
    ///
    /// # Errors
    /// No room for as many on the device.
    pub fn new(nccl: Arc<NcclCommunicator>, room: usize) -> ssmv_autograd::Result<Self> {
        // Kept for good: the pool knows of the compute stream alone, and would give it away under a collective.
        let scratch = DeviceMemory::new(nccl.cuda(), DType::F32, room)?;
        nccl.cuda().synchronize()?;
        Ok(Self { nccl, scratch })
    }

    /// Checks, compares and runs a collective; tells the other ranks where it fails.
    fn collective(
        &mut self,
        control: &mut Communicator,
        region: &Region,
        (collective, root): (Collective, usize),
        body: impl FnOnce(&mut Self) -> nccl::Result<()>,
    ) -> Result<()> {
        let (rank, ranks) = (self.nccl.rank(), self.nccl.size());
        let turn = Turn::first(collective, root, region);
        check(region, collective.adds(), root, ranks)
            .map_err(|message| Error::Argument { rank, operation: turn.name(), message })
            .and_then(|()| compare(control, turn))
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
        self.collective(control, region, (Collective::AllReduce, 0), |this| {
            this.nccl
                .group(region.stream, |g| g.all_reduce(region.memory, region.range.clone(), Reduction::Sum))
        })
    }

    fn reduce_scatter_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<Range<usize>> {
        let own = segment_of(&region.range, self.nccl.size(), self.nccl.rank());
        self.collective(control, region, (Collective::ReduceScatter, 0), |this| {
            // NCCL's shares are all of one length, the ring's are not.
            let (cuda, count) = (this.nccl.cuda(), region.range.len());
            let scratch = &this.scratch;
            if count > scratch.len() {
                let message = format!("{count} elements where {} have room", scratch.len());
                return Err(ssmv_autograd::Error::misuse("reduce-scatter by NCCL", message).into());
            }
            let (driver, stream) = (cuda.driver(), region.stream);
            let from = region.memory.address_of(region.range.start);
            driver.copy(scratch.address_of(0), from, 4 * count as u64, stream)?;
            this.nccl.group(stream, |g| g.all_reduce(scratch, 0..count, Reduction::Sum))?;
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
        self.collective(control, region, (Collective::AllGather, 0), |this| {
            this.nccl.group(region.stream, |group| {
                for root in (0..ranks).filter(|&root| !segment(range.len(), ranks, root).is_empty()) {
                    group.broadcast(region.memory, segment_of(&range, ranks, root), root)?;
                }
                Ok(())
            })
        })
    }

    fn broadcast(&mut self, control: &mut Communicator, region: &Region, root: usize) -> Result<()> {
        self.collective(control, region, (Collective::Broadcast, root), |this| {
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
    // A communicator that is closed needs no abort.
    let nccl = Arc::downgrade(nccl);
    Arc::new(move || {
        if let Some(nccl) = nccl.upgrade() {
            nccl.abort();
        }
    })
}

/// Ends the communicator in good order, once all ranks have come here.
fn close(nccl: Arc<NcclCommunicator>, control: &mut Communicator) -> Result<()> {
    control.barrier()?;
    let rank = nccl.rank();
    // Nothing else holds it but an abort that is under way.
    let closed = Arc::into_inner(nccl).map_or(Ok(()), NcclCommunicator::close);
    closed.map_err(|e| Error::Device { rank, operation: "close", source: e.into() })
}
