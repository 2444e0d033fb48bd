//! All that the driver knows, behind one lock; and how threads wait for the work of devices.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use ssmv_emulator::{Memory, Options};

use crate::{
    capture::Capture,
    code::{Outcome, fail},
    context::{self, Context},
    event::{Event, Pages},
    executor,
    graph::{Graph, GraphExec, NodeName},
    handle::{Handle, Table},
    memory::{Allocation, Device},
    module::{Function, Module},
    schedule::{Schedule, WorkId},
    settings::Settings,
    stream::Stream,
    work,
};

/// The driver of this process.
#[derive(Debug)]
pub struct Driver {
    /// What it pretends to be.
    pub settings: Settings,
    /// How kernels run.
    pub options: Arc<Options>,
    state: Mutex<State>,
    changed: Condvar,
    process: u32,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    /// By ordinal.
    pub devices: Vec<Device>,
    pub contexts: Table<Context>,
    pub modules: Table<Module>,
    pub functions: Table<Function>,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub graphs: Table<Graph>,
    pub graph_execs: Table<GraphExec>,
    pub nodes: Table<NodeName>,
    pub captures: Table<Capture>,
    /// By address of the first byte.
    pub allocations: BTreeMap<u64, Allocation>,
    pub schedule: Schedule,
    pub event_pages: Pages,
}

static DRIVER: OnceLock<Driver> = OnceLock::new();

/// `cuInit`: reads the settings and makes the devices; only the first call does something.
pub fn initialise() -> Outcome {
    static ONCE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
    if DRIVER.get().is_some() {
        return driver().map(drop);
    }
    let settings = Settings::from_environment()?;
    let devices =
        (0..settings.devices).map(|ordinal| Device::new(ordinal, settings.memory)).collect::<Outcome<_>>()?;
    let state = State {
        devices,
        contexts: Table::new("context", 1),
        modules: Table::new("module", 2),
        functions: Table::new("function", 3),
        streams: Table::new("stream", 4),
        events: Table::new("event", 5),
        graphs: Table::new("graph", 6),
        graph_execs: Table::new("executable graph", 7),
        nodes: Table::new("graph node", 8),
        captures: Table::new("capture", 9),
        allocations: BTreeMap::new(),
        schedule: Schedule::new(settings.seed),
        event_pages: Pages::default(),
    };
    let options = Options {
        checks: settings.checks,
        approximation: settings.approximation,
        tensor_core: settings.tensor_core(),
        ..Options::default()
    };
    let driver = Driver {
        settings,
        options: Arc::new(options),
        state: Mutex::new(state),
        changed: Condvar::new(),
        process: std::process::id(),
    };
    // The lock above makes this the only call that sets it.
    let _ = DRIVER.set(driver);
    executor::start()
}

/// The driver, once it was initialised.
///
/// # Errors
/// `CUDA_ERROR_NOT_INITIALIZED` before `cuInit` and in a forked child.
pub fn driver() -> Outcome<&'static Driver> {
    work::refuse_in_callback()?;
    match DRIVER.get() {
        None => fail!(NOT_INITIALIZED, "cuInit was not called"),
        Some(driver) if driver.process != std::process::id() => {
            fail!(
                NOT_INITIALIZED,
                "this process was forked after cuInit: initialise CUDA in the child instead"
            )
        }
        Some(driver) => Ok(driver),
    }
}

/// The driver with its lock held, for a thread with a current context.
pub struct Entered {
    /// The driver.
    pub driver: &'static Driver,
    /// All that it knows.
    pub state: MutexGuard<'static, State>,
    /// The thread's current context.
    pub context: Handle,
}

/// Locks the driver for a call that needs a current context.
///
/// # Errors
/// `CUDA_ERROR_INVALID_CONTEXT` without one; the fault of a kernel that ended the context.
pub fn enter() -> Outcome<Entered> {
    let driver = driver()?;
    let state = driver.lock();
    let context = context::current(&state)?;
    state.contexts.get(context)?.check()?;
    Ok(Entered { driver, state, context })
}

impl State {
    /// The memory of a context's device.
    pub fn memory_of(&self, context: Handle) -> Outcome<Arc<Memory>> {
        Ok(self.devices[self.contexts.get(context)?.device].memory.clone())
    }
}

impl Entered {
    /// The ordinal of the context's device.
    pub fn device(&self) -> Outcome<usize> {
        Ok(self.state.contexts.get(self.context)?.device)
    }

    /// The stream of a raw handle, 0 to 2 among them.
    pub fn stream(&mut self, raw: Handle) -> Outcome<Handle> {
        self.state.stream(self.context, raw)
    }

    /// Waits for a piece of work, or for nothing where it was captured; then for how the context fares.
    pub fn finish(self, id: Option<WorkId>) -> Outcome {
        let Some(id) = id else { return Ok(()) };
        self.wait_until(|state| state.schedule.is_done(id))
    }

    /// Waits until all work of the context is done.
    pub fn finish_all(self) -> Outcome<Self> {
        let context = self.context;
        let entered = self.wait(|state| state.schedule.is_idle(context));
        entered.state.contexts.get(context)?.check()?;
        Ok(entered)
    }

    /// Waits until a condition holds; then for how the context fares.
    pub fn wait_until(self, holds: impl FnMut(&State) -> bool) -> Outcome {
        let entered = self.wait(holds);
        entered.state.contexts.get(entered.context)?.check()
    }

    /// Lets queued work go on for a moment: a program that asks again and again gets its answer.
    pub fn make_progress(self) -> Self {
        let mut first = true;
        self.wait(|_| !std::mem::take(&mut first))
    }

    fn wait(mut self, mut holds: impl FnMut(&State) -> bool) -> Self {
        self.state.schedule.waiting += 1;
        self.driver.notify();
        while !holds(&self.state) {
            // Events of other processes end without a notice.
            self.state = self.driver.pause(self.state, Duration::from_micros(200));
        }
        self.state.schedule.waiting -= 1;
        self
    }
}

impl Driver {
    /// All that the driver knows.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock away until something changes, or the time is over.
    pub fn pause<'a>(&'a self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, most) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// Wakes all threads that wait for a change.
    pub fn notify(&self) {
        self.changed.notify_all();
    }
}
