//! The driver of a process, behind one lock; how threads wait for the work of devices; and the thread that runs the work.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use ssmv_emulator::Options;

use crate::{
    code::{Code, Failure, Outcome, fail},
    context,
    device::Device,
    handle::Handle,
    log,
    schedule::{Pick, WorkId},
    settings::Settings,
    state::State,
    work::{self, Work},
};

/// The driver of this process.
#[derive(Debug)]
pub struct Driver {
    pub settings: Settings,
    /// Options of every launch.
    pub options: Arc<Options>,
    state: Mutex<State>,
    changed: Condvar,
    process: u32,
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
    let state = State::new(devices, settings.seed);
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
    start()
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

/// The driver, and a device's number as an ordinal.
pub fn device(number: i32) -> Outcome<(&'static Driver, usize)> {
    let driver = driver()?;
    match usize::try_from(number) {
        Ok(ordinal) if ordinal < driver.settings.devices => Ok((driver, ordinal)),
        _ => fail!(INVALID_DEVICE, "device {number}: there are {} (0 is the first)", driver.settings.devices),
    }
}

/// The driver with its lock held, for a thread with a current context.
pub struct Entered {
    pub driver: &'static Driver,
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

impl Entered {
    /// The ordinal of the context's device.
    pub fn device(&self) -> Outcome<usize> {
        Ok(self.state.contexts.get(self.context)?.device)
    }

    /// The stream of a raw handle, 0 to 2 among them.
    pub fn stream(&mut self, raw: Handle) -> Outcome<Handle> {
        self.state.stream(self.context, raw)
    }

    /// Waits for a piece of work, unless it was captured (`None`); returns the fault of the context.
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

    /// Waits until a condition holds; returns the fault of the context.
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
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock until something changes, or the time is over.
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

/// Starts the thread that runs queued work, one piece at a time. A kernel's blocks use all cores.
fn start() -> Outcome {
    let driver = driver()?;
    let thread = thread::Builder::new().name("cuda-emulator".into());
    match thread.spawn(move || run(driver)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(Code::OPERATING_SYSTEM, format!("cannot start a thread: {error}"))),
    }
}

fn run(driver: &'static Driver) {
    let mut state = driver.lock();
    loop {
        let (id, context, work) = match state.schedule.pick(driver.settings.late) {
            Pick::Run(id, context, work) => (id, context, work),
            Pick::Wait(time) => {
                state = driver.pause(state, time);
                continue;
            }
            Pick::Idle => {
                state = driver.pause(state, Duration::from_secs(1));
                continue;
            }
        };
        // After a fault, a context runs no more work.
        let lives = state.contexts.get(context).is_ok_and(|context| context.check().is_ok());
        if lives {
            drop(state);
            let outcome = work.run();
            state = driver.lock();
            let outcome = match *work {
                Work::Free(address) => outcome.and_then(|()| state.release(address)),
                _ => outcome,
            };
            if let Err(failure) = outcome {
                log::write(&format!("{}: {}", failure.code.name(), failure.message));
                context::fail(&mut state, context, failure);
            }
        }
        state.schedule.complete(id);
        driver.notify();
    }
}
