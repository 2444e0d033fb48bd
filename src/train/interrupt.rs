//! SIGINT and SIGTERM: the first asks, the second ends.

use crate::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether a signal has asked the program to end.
///
/// The first SIGINT or SIGTERM is noted, so that training can save and end with [`Error::Interrupted`]; a second
/// one, of either kind, ends the process at once with 128 + its number.
#[derive(Debug, Clone)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Installs the handlers; once a process.
    ///
    /// # Errors
    /// A system that refuses a handler.
    pub fn install() -> Result<Self> {
        let (signal, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for number in [SIGINT, SIGTERM] {
            // Handlers run in the order of their registration: the flag that ends the process is looked at before
            // it is set, and so lets the first signal pass.
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&asked))
                .and_then(|_| signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize))
                .and_then(|_| signal_hook::flag::register(number, Arc::clone(&asked)))
                .map_err(|e| Error::Failure(format!("cannot install a handler for signal {number}: {e}")))?;
        }
        Ok(Self { signal })
    }

    /// An interrupt that no signal sets, for training inside another program.
    pub fn never() -> Self {
        Self { signal: Arc::default() }
    }

    /// The number of the signal that came, if one did.
    pub fn requested(&self) -> Option<i32> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            number => Some(number as i32),
        }
    }

    /// [`Error::Interrupted`] once a signal came.
    ///
    /// # Errors
    /// That one.
    pub fn check(&self) -> Result<()> {
        self.requested().map_or(Ok(()), |signal| Err(Error::Interrupted(signal)))
    }
}
