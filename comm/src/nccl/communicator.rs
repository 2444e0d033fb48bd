//! One rank of a communicator: its operations, its failures and its end.

use std::{
    fmt,
    fmt::Display,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ssmv_autograd::cuda::{Cuda, DeviceMemory, EventId, Stream};

use super::{
    Error, Result, UniqueId, error,
    handle::{Handle, wait_until},
    library::Api,
    operation::{Call, Calls, Operation},
};
use crate::ReduceOp;

/// One connected rank of an NCCL communicator.
///
/// Operations return when they are queued in their stream, as kernel launches do. [`wait`](Self::wait) and
/// [`check`](Self::check) return errors of queued work. Every call has a timeout. At the timeout, and after any failure, the
/// communicator is aborted, and later calls return an error with the reason. Any thread may call;
/// [`abort`](Self::abort) ends a call that waits on another thread. Dropping the communicator without
/// [`close`](Self::close) aborts it.
pub struct NcclCommunicator {
    cuda: Cuda,
    rank: usize,
    size: usize,
    timeout: Duration,
    state: Mutex<State>,
}

enum State {
    Live(Live),
    /// The reason for its end.
    Ended(String),
}

struct Live {
    handle: Handle,
    /// The operations of the last group, for errors.
    calls: Vec<Call>,
}

impl fmt::Debug for NcclCommunicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NcclCommunicator(rank {} of {}, {:?})", self.rank, self.size, self.cuda)
    }
}

impl NcclCommunicator {
    pub(super) fn connect(
        api: &Arc<Api>,
        cuda: &Cuda,
        (rank, size): (usize, usize),
        id: UniqueId,
        timeout: Duration,
    ) -> Result<Self> {
        // Makes the device's context current on this thread, from which NCCL takes the device.
        cuda.driver().native_stream(cuda.compute_stream())?;
        let handle = Handle::connect(api, (rank, size), id)?;
        let state = Mutex::new(State::Live(Live { handle, calls: Vec::new() }));
        let communicator = Self { cuda: cuda.clone(), rank, size, timeout, state };
        communicator.settle(&format_args!("connect rank {rank} of {size}"))?;
        Ok(communicator)
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The device of this rank.
    pub fn cuda(&self) -> &Cuda {
        &self.cuda
    }

    /// This rank's share of a range, in [`reduce_scatter`](Self::reduce_scatter) and [`all_gather`](Self::all_gather).
    ///
    /// # Errors
    /// [`Error::Device`] if the length of the range is not a multiple of the number of ranks.
    pub fn share(&self, range: Range<usize>) -> Result<Range<usize>> {
        let share = range.len() / self.size;
        if share * self.size != range.len() {
            let message = format!("{} elements are not a multiple of {} ranks", range.len(), self.size);
            return Err(Error::misuse("share", message));
        }
        let start = range.start + self.rank * share;
        Ok(start..start + share)
    }

    /// Queues the operations of `work` in a stream as one group, which start together. An operation cannot use the result of
    /// another of its group. `work` calls the group only. If it fails after its first operation, the communicator is aborted,
    /// because the other ranks would wait for the rest.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Nccl`].
    pub fn group(&self, stream: Stream, work: impl FnOnce(&mut NcclGroup<'_>) -> Result<()>) -> Result<()> {
        let stream = self.native(stream)?;
        let mut calls = Vec::new();
        let mut state = lock(&self.state);
        let live = state.live(&"nccl group")?;
        live.handle.group_start()?;
        let mut group = NcclGroup { communicator: self, handle: &live.handle, stream, calls: &mut calls };
        let worked = work(&mut group);
        let started = live.handle.group_end(&Calls(&calls));
        live.calls.clone_from(&calls);
        if let Err(error) = worked.and(started) {
            let unmatched = !calls.is_empty() || matches!(error, Error::Nccl { .. });
            return Err(if unmatched { state.fail(error) } else { error });
        }
        drop(state);
        self.settle(&Calls(&calls))
    }

    /// [`NcclGroup::send`] on the compute stream.
    pub fn send(&self, memory: &DeviceMemory, range: Range<usize>, to: usize) -> Result<()> {
        self.group(self.cuda.compute_stream(), |group| group.send(memory, range, to))
    }

    /// [`NcclGroup::receive`] on the compute stream.
    pub fn receive(&self, memory: &DeviceMemory, range: Range<usize>, from: usize) -> Result<()> {
        self.group(self.cuda.compute_stream(), |group| group.receive(memory, range, from))
    }

    /// [`NcclGroup::all_reduce`] on the compute stream.
    pub fn all_reduce(&self, memory: &DeviceMemory, range: Range<usize>, by: ReduceOp) -> Result<()> {
        self.group(self.cuda.compute_stream(), |group| group.all_reduce(memory, range, by))
    }

    /// [`NcclGroup::reduce_scatter`] on the compute stream.
    pub fn reduce_scatter(&self, memory: &DeviceMemory, range: Range<usize>, by: ReduceOp) -> Result<()> {
        self.group(self.cuda.compute_stream(), |group| group.reduce_scatter(memory, range, by))
    }

    /// [`NcclGroup::all_gather`] on the compute stream.
    pub fn all_gather(&self, memory: &DeviceMemory, range: Range<usize>) -> Result<()> {
        self.group(self.cuda.compute_stream(), |group| group.all_gather(memory, range))
    }

    /// [`NcclGroup::broadcast`] on the compute stream.
    pub fn broadcast(&self, memory: &DeviceMemory, range: Range<usize>, root: usize) -> Result<()> {
        self.group(self.cuda.compute_stream(), |group| group.broadcast(memory, range, root))
    }

    /// Returns the first error so far, in the background too. Does not wait.
    ///
    /// # Errors
    /// [`Error::Nccl`] after a failure.
    pub fn check(&self) -> Result<()> {
        self.progress(None).map(drop)
    }

    /// Returns when all work of a stream is done, which includes operations that wait for other ranks. Other threads may call
    /// operations meanwhile; this call then detects that they hang.
    ///
    /// # Errors
    /// [`Error::Nccl`] with the last operations, at the timeout or if an operation has failed.
    pub fn wait(&self, stream: Stream, timeout: Duration) -> Result<()> {
        let driver = self.cuda.driver();
        let event = driver.create_event(false)?;
        let waited = match driver.record(event, stream) {
            Ok(()) => self.wait_event(event, timeout),
            Err(error) => Err(error.into()),
        };
        // The driver frees an event that has not completed when it completes.
        waited.and(driver.destroy_event(event).map_err(Error::from))
    }

    /// Returns when all work before a recorded event is done.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_event(&self, event: EventId, timeout: Duration) -> Result<()> {
        let done =
            wait_until(timeout, || Ok(self.progress(None)? && self.cuda.driver().query_event(event)?))?;
        if done {
            return Ok(());
        }
        let mut state = lock(&self.state);
        let what = format!("wait for {}", Calls(&state.live(&"nccl wait")?.calls));
        Err(state.fail(error::timed_out(&what, timeout)))
    }

    /// Ends the communicator at once. A call that waits on another thread returns with an error.
    pub fn abort(&self) {
        let mut state = lock(&self.state);
        if let State::Live(_) = *state {
            *state = State::Ended("this rank aborted it".into());
        }
    }

    /// Ends the communicator after all queued work is done. All ranks must call this.
    ///
    /// # Errors
    /// [`Error::Nccl`] on a failure or at the timeout; the communicator is then aborted.
    pub fn close(self) -> Result<()> {
        let what = format!("close rank {} of {}", self.rank, self.size);
        lock(&self.state).live(&what)?.handle.finalize(&what)?;
        self.settle(&what)?;
        match std::mem::replace(&mut *lock(&self.state), State::Ended("it was closed".into())) {
            State::Live(live) => live.handle.destroy(&what),
            State::Ended(why) => Err(error::ended(&what, &why)),
        }
    }

    /// Waits until the last call is queued in its stream; NCCL takes no call before.
    fn settle(&self, what: &dyn Display) -> Result<()> {
        if wait_until(self.timeout, || self.progress(Some(what)))? {
            return Ok(());
        }
        Err(lock(&self.state).fail(error::timed_out(what, self.timeout)))
    }

    /// Whether the last call is queued. `what` names it in errors; `None` for the last operations.
    fn progress(&self, what: Option<&dyn Display>) -> Result<bool> {
        let mut state = lock(&self.state);
        let live = state.live(what.unwrap_or(&"nccl"))?;
        let done = match what {
            Some(what) => live.handle.is_done(what),
            None => live.handle.is_done(&Calls(&live.calls)),
        };
        done.map_err(|error| state.fail(error))
    }

    /// The handle of a stream for the library.
    fn native(&self, stream: Stream) -> Result<u64> {
        let native = self.cuda.driver().native_stream(stream)?;
        native.ok_or_else(|| Error::misuse("nccl", "the device's driver has no streams for other libraries"))
    }
}

impl State {
    fn live(&mut self, what: &dyn Display) -> Result<&mut Live> {
        match self {
            Self::Live(live) => Ok(live),
            Self::Ended(why) => Err(error::ended(what, why)),
        }
    }

    /// Aborts because of an error, and returns the error.
    fn fail(&mut self, error: Error) -> Error {
        if let Self::Live(_) = self {
            *self = Self::Ended(error.to_string());
        }
        error
    }
}

/// Locks, also after a panic of another thread: the state is consistent between statements.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Operations that start together when the group ends, so that a rank can send and receive at once; see
/// [`NcclCommunicator::group`].
///
/// All run in the order of the group's stream and in place, on f32 memory; operations that do not reduce take f16 too. The
/// memory must be on the communicator's device. Errors are [`Error::Device`] for memory and ranks that do not fit, else
/// [`Error::Nccl`].
pub struct NcclGroup<'a> {
    communicator: &'a NcclCommunicator,
    handle: &'a Handle,
    stream: u64,
    calls: &'a mut Vec<Call>,
}

impl NcclGroup<'_> {
    /// Sends elements to a rank, which must receive the same number.
    pub fn send(&mut self, memory: &DeviceMemory, range: Range<usize>, to: usize) -> Result<()> {
        self.call(Operation::Send { to: self.rank(to)? }, memory, range)
    }

    /// Receives elements from a rank, which must send the same number.
    pub fn receive(&mut self, memory: &DeviceMemory, range: Range<usize>, from: usize) -> Result<()> {
        self.call(Operation::Receive { from: self.rank(from)? }, memory, range)
    }

    /// Reduces elements over all ranks; all get the result.
    pub fn all_reduce(&mut self, memory: &DeviceMemory, range: Range<usize>, by: ReduceOp) -> Result<()> {
        self.call(Operation::AllReduce(by), memory, range)
    }

    /// Reduces elements over all ranks; each gets its share of the result, in place
    /// ([`NcclCommunicator::share`]). The other shares are then unspecified.
    pub fn reduce_scatter(&mut self, memory: &DeviceMemory, range: Range<usize>, by: ReduceOp) -> Result<()> {
        self.call(Operation::ReduceScatter(by), memory, range)
    }

    /// Copies every rank's share to all ranks, in place ([`NcclCommunicator::share`]).
    pub fn all_gather(&mut self, memory: &DeviceMemory, range: Range<usize>) -> Result<()> {
        self.call(Operation::AllGather, memory, range)
    }

    /// Copies elements from one rank to all others.
    pub fn broadcast(&mut self, memory: &DeviceMemory, range: Range<usize>, root: usize) -> Result<()> {
        self.call(Operation::Broadcast { root: self.rank(root)? }, memory, range)
    }

    fn call(&mut self, operation: Operation, memory: &DeviceMemory, range: Range<usize>) -> Result<()> {
        if !self.communicator.cuda.is_same(memory.cuda()) {
            return Err(Error::misuse(format!("nccl {operation}"), "the memory is on another device"));
        }
        let call = Call::new(operation, memory, range)?;
        let NcclCommunicator { rank, size, .. } = *self.communicator;
        self.handle.call(&call, (rank, size), self.stream)?;
        self.calls.push(call);
        Ok(())
    }

    fn rank(&self, rank: usize) -> Result<usize> {
        let size = self.communicator.size();
        if rank < size {
            return Ok(rank);
        }
        Err(Error::misuse("nccl", format!("rank {rank} does not exist among {size}")))
    }
}
