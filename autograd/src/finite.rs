//! The check for the first operator whose output is infinite or NaN.

use std::cell::Cell;

#[cfg(feature = "cuda")]
use crate::cuda::primitives;
use crate::{Device, Error, Result, Tensor};

thread_local! {
    static CHECKING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`; if `on`, checks the output of every operator and returns an error that names the first one that is not
/// finite. Slow: the host waits for the device after each operator.
pub fn check_finite<R>(on: bool, body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHECKING.set(self.0);
        }
    }
    let _restore = Restore(CHECKING.replace(on));
    body()
}

/// [`Error::NotFinite`] if the check is on and an element of `y` is infinite or NaN.
pub(crate) fn check(op: &'static str, y: &Tensor) -> Result<()> {
    if !CHECKING.get() || y.numel() == 0 {
        return Ok(());
    }
    let finite = match y.device() {
        Device::Cpu => crate::dispatch!(y.dtype(), T => {
            y.values::<T>()?.iter().all(|x| crate::Element::to_f64(*x).is_finite())
        }),
        #[cfg(feature = "cuda")]
        Device::Cuda => primitives::all_finite(y)?,
    };
    if finite {
        return Ok(());
    }
    let values = y.to_f64()?;
    let first = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
    let (value, count) = (values[first], values.iter().filter(|x| !x.is_finite()).count());
    Err(Error::NotFinite { op, shape: y.shape().to_string(), count, first, value: value.to_string() })
}
