//! The device and the threads that a command computes on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ssmv_autograd::cuda::{self, Backend, Counting, Cuda, DeviceInfo};

use crate::config::Device;
use crate::model::{DevicePredictor, Predict, Predictor};
use crate::{Error, Result};

/// The GPU (or the emulator) that `device` names; `None` for the CPU. `auto` is the first usable GPU,
/// else the CPU.
///
/// # Errors
/// No driver, a driver that is too old, or no GPU of compute capability 8.0. The message says what to do.
pub fn open(device: Device) -> Result<Option<Cuda>> {
    open_for(device, 0)
}

/// As [`open`], for one of several ranks of a machine, which share its GPUs in turn.
///
/// # Errors
/// As [`open`].
pub fn open_for(device: Device, local_rank: usize) -> Result<Option<Cuda>> {
    let of_rank = |devices: &[DeviceInfo]| {
        let usable: Vec<_> = devices.iter().filter(|device| cuda::is_usable(device)).collect();
        (!usable.is_empty()).then(|| usable[local_rank % usable.len()].ordinal)
    };
    match device {
        Device::Cpu => Ok(None),
        Device::Cuda => {
            let devices = cuda::devices(Backend::Nvidia)?;
            // Without a usable GPU, the first one's error says why.
            Ok(Some(Cuda::open(Backend::Nvidia, of_rank(&devices).unwrap_or(0))?))
        }
        Device::Emulator => Ok(Some(Cuda::open(Backend::Emulated, 0)?)),
        Device::Auto => {
            let devices = cuda::devices(Backend::Nvidia).unwrap_or_default();
            of_rank(&devices).map(|ordinal| Ok(Cuda::open(Backend::Nvidia, ordinal)?)).transpose()
        }
    }
}

/// Description of `device`; of an H100 if there is no GPU; `None` for the CPU.
///
/// # Errors
/// Wrong settings of the emulator.
pub fn describe(device: Device) -> Result<Option<DeviceInfo>> {
    let first = |backend| cuda::devices(backend).map(|devices| devices.into_iter().find(cuda::is_usable));
    Ok(match device {
        Device::Cpu => None,
        Device::Emulator => first(Backend::Emulated)?,
        Device::Cuda | Device::Auto => {
            let here = first(Backend::Nvidia).ok().flatten();
            Some(here.unwrap_or_else(Counting::describe))
        }
    })
}

/// The model on `device`, or on the CPU for `None`, ready to predict.
///
/// # Errors
/// Too little device memory.
pub fn place(model: Predictor, device: Option<&Cuda>) -> Result<Box<dyn Predict>> {
    Ok(match device {
        Some(cuda) => Box::new(DevicePredictor::upload(&model, cuda)?),
        None => Box::new(model),
    })
}

/// Sets the number of threads for all parallel work of this process; `None`: one per core. Call it once, before any work.
///
/// # Errors
/// [`Error::Failure`] when the system does not start that many threads.
pub fn use_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else {
        return Ok(());
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::Failure(format!("cannot start {threads} threads: {e}; lower --threads")))
}

/// Runs `body` on a thread of the pool: from another thread, each of its many parallel loops would begin and end with a
/// change of threads. The other threads stay awake meanwhile, because a loop is often shorter than waking one takes.
///
/// `body` must not wait for another call's `body`, which may have to wait for a thread of the pool.
pub(crate) fn in_pool<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    /// Time for the other threads to wake up.
    const WAKING: Duration = Duration::from_millis(1);
    let awake = &Awake::default();
    rayon::scope(|scope| {
        let runs_body = rayon::current_thread_index();
        // Also when `body` panics: the scope waits for these tasks.
        let _end = End(awake);
        scope.spawn_broadcast(move |_, thread| {
            if Some(thread.index()) != runs_body {
                awake.stay();
            }
        });
        let others = rayon::current_num_threads() - 1;
        let start = Instant::now();
        while awake.threads.load(Ordering::Acquire) < others && start.elapsed() < WAKING {
            std::hint::spin_loop();
        }
        // A thread that began later might do so inside a task that `body` waits for, and end only with `body`.
        awake.begin.store(false, Ordering::Release);
        body()
    })
}

/// The threads that are kept awake during a call of [`in_pool`].
struct Awake {
    begin: AtomicBool,
    threads: AtomicUsize,
    ended: AtomicBool,
}

impl Default for Awake {
    fn default() -> Self {
        Self { begin: AtomicBool::new(true), threads: AtomicUsize::new(0), ended: AtomicBool::new(false) }
    }
}

/// Ends the threads' watch when it is dropped.
struct End<'a>(&'a Awake);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

impl Awake {
    /// Takes the pool's tasks until the call ends, without sleeping between them, unless the call has begun already.
    fn stay(&self) {
        /// Idle rounds before the core is offered to other programs.
        const PATIENCE: usize = 1000;
        /// Idle time after which the thread may sleep. A thread that waits inside a task of another call goes on then.
        const LONGEST: Duration = Duration::from_millis(20);
        if !self.begin.load(Ordering::Acquire) {
            return;
        }
        self.threads.fetch_add(1, Ordering::AcqRel);
        let (mut idle, mut since) = (0, Instant::now());
        while !self.ended.load(Ordering::Acquire) {
            match rayon::yield_now() {
                Some(rayon::Yield::Executed) => (idle, since) = (0, Instant::now()),
                _ if idle < PATIENCE => {
                    idle += 1;
                    (0..16).for_each(|_| std::hint::spin_loop());
                }
                _ if since.elapsed() > LONGEST => return,
                _ => std::thread::yield_now(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn many_short_calls_from_many_threads_all_end() {
        let call = |rounds: usize| {
            for i in 0..rounds {
                let sum: usize = in_pool(|| {
                    (0..200)
                        .into_par_iter()
                        .map(|j| (0..50).into_par_iter().map(|k| i + j + k).sum::<usize>())
                        .sum()
                });
                assert_eq!(sum, 10_000 * i + 50 * 19_900 + 200 * 1225);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| call(200)))));
    }

    #[test]
    fn a_thread_that_comes_late_or_has_nothing_to_do_goes_on() {
        let (sender, ended) = std::sync::mpsc::channel();
        rayon::spawn(move || {
            let late = Awake::default();
            late.begin.store(false, Ordering::Release);
            late.stay();
            assert_eq!(late.threads.load(Ordering::Acquire), 0);
            Awake::default().stay();
            let _ = sender.send(());
        });
        ended.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn the_error_of_a_missing_device_says_what_to_do() {
        assert!(open(Device::Cpu).unwrap().is_none());
        assert!(open(Device::Emulator).unwrap().is_some());
        // An error without a driver; on a machine with a GPU this opens it.
        if let Err(error) = open(Device::Cuda) {
            let message = error.to_string();
            assert!(message.contains("--device cpu") && message.lines().count() == 1, "{message}");
            assert!(open(Device::Auto).unwrap().is_none());
        }
    }
}
