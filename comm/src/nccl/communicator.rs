//! One rank of a communicator: its operations, its failures and its end.

use std::{
    fmt,
    fmt::Display,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ssmv_autograd::cuda::{Backend, Cuda, DeviceMemory, EventId, Stream};

use super::{Error, Result};
use super::{
    api::Api,
    error,
    group::NcclGroup,
    handle::Handle,
    lent::Lent,
    operation::{Call, Calls},
    wait,
};
use crate::Reduction;

/// One rank of a communicator.
///
/// Operations return when they are queued in their stream, as kernels do; on the emulator they are then done. What fails
/// later is found by [`wait`](Self::wait) and [`check`](Self::check). No call waits for ever: when its time is over, or when
/// anything has failed, the communicator is aborted and every later call is an error that says why. Any thread may call, and
/// [`abort`](Self::abort) ends a call that waits on another thread. Dropped without [`close`](Self::close), the communicator
/// is aborted.
pub struct NcclCommunicator {
    cuda: Cuda,
    rank: usize,
    size: usize,
    timeout: Duration,
    state: Mutex<State>,
}

enum State {
    Live(Live),
    /// Why it ended.
    Ended(String),
}

struct Live {
    handle: Handle,
    /// Stays until after the handle is dropped: the library may use it up to then.
    _lent: Option<Arc<Lent>>,
    /// The latest group, for errors.
    calls: Vec<Call>,
}

impl fmt::Debug for NcclCommunicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NcclCommunicator(rank {} of {}, {:?})", self.rank, self.size, self.cuda)
    }
}

impl NcclCommunicator {
    /// The library and the device fit each other.
    pub(super) fn connect(
        api: &Arc<Api>,
        cuda: &Cuda,
        (rank, size): (usize, usize),
        id: [u8; 128],
        timeout: Duration,
    ) -> Result<Self> {
        // Makes the device's context current on this thread; NCCL takes the device from there.
        cuda.driver().native_stream(cuda.compute_stream())?;
        let handle = Handle::connect(api, (rank, size), id)?;
        let lent = (cuda.driver().backend() == Backend::Emulated).then(|| Arc::new(Lent(cuda.clone())));
        lent.iter().try_for_each(|lent| handle.lend(lent))?;
        let state = Mutex::new(State::Live(Live { handle, _lent: lent, calls: Vec::new() }));
        let communicator = Self { cuda: cuda.clone(), rank, size, timeout, state };
        communicator.settle(&format_args!("connect rank {rank} of {size}"))?;
        Ok(communicator)
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Ranks in all.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The device.
    pub fn cuda(&self) -> &Cuda {
        &self.cuda
    }

    pub(super) fn is_on(&self, cuda: &Cuda) -> bool {
        self.cuda.is_same(cuda)
    }

    /// This rank's share of a range, in [`reduce_scatter`](Self::reduce_scatter) and [`all_gather`](Self::all_gather).
    ///
    /// # Errors
    /// [`Error::Misuse`] where the range is not a multiple of the ranks.
    pub fn share(&self, range: Range<usize>) -> Result<Range<usize>> {
        let share = range.len() / self.size;
        if share * self.size != range.len() {
            let message = format!("{} elements are not a multiple of {} ranks", range.len(), self.size);
            return Err(Error::misuse("share", message));
        }
        let start = range.start + self.rank * share;
        Ok(start..start + share)
    }

    /// Queues all operations of `work` in a stream, as one. Results of one operation cannot go into another of the group.
    /// `work` must call nothing but the group. Where it fails after its first operation, the communicator is aborted: the
    /// other ranks would wait for the rest.
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
    pub fn all_reduce(&self, memory: &DeviceMemory, range: Range<usize>, by: Reduction) -> Result<()> {
        self.group(self.cuda.compute_stream(), |group| group.all_reduce(memory, range, by))
    }

    /// [`NcclGroup::reduce_scatter`] on the compute stream.
    pub fn reduce_scatter(&self, memory: &DeviceMemory, range: Range<usize>, by: Reduction) -> Result<()> {
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

    /// The error of whatever failed so far, in the background too; waits for nothing.
    pub fn check(&self) -> Result<()> {
        self.progress(None).map(drop)
    }

    /// Returns when all work of a stream is done, the operations of all ranks that it waits for among it. Another thread may
    /// be calling operations meanwhile: then this is what watches over it.
    ///
    /// # Errors
    /// [`Error::Nccl`] at the timeout, or when an operation has failed; it names the latest operations.
    pub fn wait(&self, stream: Stream, timeout: Duration) -> Result<()> {
        let driver = self.cuda.driver();
        let event = driver.create_event(false)?;
        let waited = match driver.record(event, stream) {
            Ok(()) => self.wait_event(event, timeout),
            Err(error) => Err(error.into()),
        };
        // An event that never came is the driver's to forget.
        waited.and(driver.destroy_event(event).map_err(Error::from))
    }

    /// Returns when all that came before a recorded event is done; see [`wait`](Self::wait).
    pub fn wait_event(&self, event: EventId, timeout: Duration) -> Result<()> {
        let done =
            wait::until(timeout, || Ok(self.progress(None)? && self.cuda.driver().query_event(event)?))?;
        if done {
            return Ok(());
        }
        let mut state = lock(&self.state);
        let what = format!("wait for {}", Calls(&state.live(&"nccl wait")?.calls));
        Err(state.fail(error::timed_out(&what, timeout)))
    }

    /// Ends the communicator now, whatever it does; a call that waits on another thread returns with an error.
    pub fn abort(&self) {
        let mut state = lock(&self.state);
        if let State::Live(_) = *state {
            *state = State::Ended("this rank aborted it".into());
        }
    }

    /// Ends the communicator in good order, once all that was queued is done; all ranks do so.
    ///
    /// # Errors
    /// [`Error::Nccl`] when that fails or takes too long; the communicator is then aborted.
    pub fn close(self) -> Result<()> {
        let what = format!("close rank {} of {}", self.rank, self.size);
        lock(&self.state).live(&what)?.handle.finalize(&what)?;
        self.settle(&what)?;
        match std::mem::replace(&mut *lock(&self.state), State::Ended("it was closed".into())) {
            State::Live(live) => live.handle.destroy(&what),
            State::Ended(why) => Err(error::ended(&what, &why)),
        }
    }

    /// Waits until what was called is under way; nothing more can be called before.
    fn settle(&self, what: &dyn Display) -> Result<()> {
        if wait::until(self.timeout, || self.progress(Some(what)))? {
            return Ok(());
        }
        Err(lock(&self.state).fail(error::timed_out(what, self.timeout)))
    }

    /// Whether what was called is under way. `what` names it, or else the latest operations do.
    fn progress(&self, what: Option<&dyn Display>) -> Result<bool> {
        let mut state = lock(&self.state);
        let live = state.live(what.unwrap_or(&"nccl"))?;
        let done = match what {
            Some(what) => live.handle.is_done(what),
            None => live.handle.is_done(&Calls(&live.calls)),
        };
        done.map_err(|error| state.fail(error))
    }

    /// A stream's handle as the library takes it.
    fn native(&self, stream: Stream) -> Result<u64> {
        let driver = self.cuda.driver();
        if let Some(native) = driver.native_stream(stream)? {
            return Ok(native);
        }
        // The stand-in works at once, so it cannot be captured; waiting for a captured stream is an error.
        driver.synchronize(stream)?;
        Ok(stream.0)
    }
}

impl State {
    fn live(&mut self, what: &dyn Display) -> Result<&mut Live> {
        match self {
            Self::Live(live) => Ok(live),
            Self::Ended(why) => Err(error::ended(what, why)),
        }
    }

    /// Aborts because of an error, and gives it back.
    fn fail(&mut self, error: Error) -> Error {
        if let Self::Live(_) = self {
            *self = Self::Ended(error.to_string());
        }
        error
    }
}

/// Locks, whatever a thread that panicked left behind: the state is whole between statements.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
