//! The kernels of a training, compiled before its first step.
//!
//! A step asks for its kernels one after the other, so a device would compile them on one core. All of them are known before:
//! the step is taken on a driver that only counts, which writes every kernel's text and runs nothing. Then they are compiled
//! on all threads.

use std::sync::mpsc;

use ssmv_autograd::cuda::Cuda;

use super::footprint::kernels_on;
use crate::{Error, Result, config::TrainConfig, train::backend::Source};

/// Compiles what a training as `config` says launches on a device. On this thread, `each` gets the number of compiled
/// kernels and the number of all.
///
/// # Errors
/// What the device's compiler refuses, and what stops a step.
pub(in crate::train) fn compile(
    config: &TrainConfig,
    source: Source,
    cuda: &Cuda,
    each: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    let kernels = kernels_on(config, source, cuda.device())?;
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        let compiling = scope.spawn(|| {
            // Moved in, so that the loop below ends when all of them are done.
            let sender = sender;
            cuda.load_all(&kernels, || {
                // The receiver stays until all are done.
                let _ = sender.send(());
            })
        });
        receiver.iter().enumerate().for_each(|(done, ())| each(done + 1, kernels.len()));
        let compiled = compiling.join();
        Ok(compiled.map_err(|_| Error::Failure("a thread that compiles kernels has ended".into()))??)
    })
}
