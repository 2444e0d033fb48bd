//! Operations over ranges of device memory.

use std::ops::Range;

use ssmv_autograd::cuda::DeviceMemory;

use super::{Error, Result};
use super::{
    communicator::NcclCommunicator,
    handle::Handle,
    operation::{Call, Operation},
};
use crate::Reduction;

/// Operations that start together when the group ends, so that a rank can send and receive at once; see
/// [`NcclCommunicator::group`].
///
/// All are queued in the order of the group's stream and work in place, on f32 memory; those that only move elements take
/// f16 as well. Memory must be on the communicator's device. Errors are [`Error::Misuse`] or [`Error::Dtype`] for memory and
/// ranks that do not fit, else [`Error::Nccl`].
pub struct NcclGroup<'a> {
    pub(super) communicator: &'a NcclCommunicator,
    pub(super) handle: &'a Handle,
    pub(super) stream: u64,
    pub(super) calls: &'a mut Vec<Call>,
}

impl NcclGroup<'_> {
    /// Sends elements to a rank, which receives as many.
    pub fn send(&mut self, memory: &DeviceMemory, range: Range<usize>, to: usize) -> Result<()> {
        self.call(Operation::Send { to: self.rank(to)? }, memory, range)
    }

    /// Receives elements from a rank, which sends as many.
    pub fn receive(&mut self, memory: &DeviceMemory, range: Range<usize>, from: usize) -> Result<()> {
        self.call(Operation::Receive { from: self.rank(from)? }, memory, range)
    }

    /// Reduces elements over all ranks; all get the result.
    pub fn all_reduce(&mut self, memory: &DeviceMemory, range: Range<usize>, by: Reduction) -> Result<()> {
        self.call(Operation::AllReduce(by), memory, range)
    }

    /// Reduces elements over all ranks; each gets its share of the result, in place
    /// ([`NcclCommunicator::share`]). What is left in the other shares is unspecified.
    pub fn reduce_scatter(
        &mut self,
        memory: &DeviceMemory,
        range: Range<usize>,
        by: Reduction,
    ) -> Result<()> {
        self.call(Operation::ReduceScatter(by), memory, range)
    }

    /// Gives all ranks the shares of all: each brings its own, in place ([`NcclCommunicator::share`]).
    pub fn all_gather(&mut self, memory: &DeviceMemory, range: Range<usize>) -> Result<()> {
        self.call(Operation::AllGather, memory, range)
    }

    /// Copies elements from one rank to all others.
    pub fn broadcast(&mut self, memory: &DeviceMemory, range: Range<usize>, root: usize) -> Result<()> {
        self.call(Operation::Broadcast { root: self.rank(root)? }, memory, range)
    }

    fn call(&mut self, operation: Operation, memory: &DeviceMemory, range: Range<usize>) -> Result<()> {
        if !self.communicator.is_on(memory.cuda()) {
            return Err(Error::misuse(format!("nccl {operation}"), "the memory is on another device"));
        }
        let call = Call::new(operation, memory, range)?;
        let place = (self.communicator.rank(), self.communicator.size());
        self.handle.call(&call, place, self.stream)?;
        self.calls.push(call);
        Ok(())
    }

    fn rank(&self, rank: usize) -> Result<usize> {
        let size = self.communicator.size();
        if rank < size {
            return Ok(rank);
        }
        Err(Error::misuse("nccl", format!("there is no rank {rank} among {size}")))
    }
}
