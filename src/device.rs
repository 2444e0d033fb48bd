//! The device and the threads that a command computes on.

use std::sync::atomic::{AtomicBool, Ordering};
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
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let ended = &AtomicBool::new(false);
    rayon::scope(|scope| {
        let runs_body = rayon::current_thread_index();
        // Also when `body` panics: the scope waits for these tasks.
        let _end = End(ended);
        scope.spawn_broadcast(move |_, thread| {
            if Some(thread.index()) != runs_body {
                stay_awake(ended);
            }
        });
        body()
    })
}

/// Takes the pool's tasks until `ended`, without sleeping between them. It returns earlier after an idle time: a thread can
/// start this while it waits inside a task, which then goes on only when this returns, and `ended` may wait for that task.
fn stay_awake(ended: &AtomicBool) {
    /// Idle rounds before the core is offered to other programs.
    const PATIENCE: usize = 1000;
    /// Idle time after which it returns; the parts of a step between parallel loops are shorter.
    const LONGEST: Duration = Duration::from_millis(5);
    let mut idle = 0;
    let mut since = Instant::now();
    while !ended.load(Ordering::Acquire) {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = 0,
            _ if idle < PATIENCE => {
                idle += 1;
                since = Instant::now();
                (0..16).for_each(|_| std::hint::spin_loop());
            }
            _ if since.elapsed() >= LONGEST => return,
            _ => std::thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a thread that starts it inside a task, for which the call's body waits.
    #[test]
    fn a_thread_that_stays_awake_ends_when_it_has_nothing_to_do() {
        let (sender, ended) = std::sync::mpsc::channel();
        rayon::spawn(move || {
            stay_awake(&AtomicBool::new(false));
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
