//! What the launcher waits for, as one queue.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::{Error, Result};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGINT or SIGTERM came to the launcher.
    Signal(i32),
    /// A rank ended, or more than one.
    Ended,
    /// An output of a rank was passed on to its end.
    Drained,
}

/// The queue. As long as it lives, SIGINT and SIGTERM are events and end the process no more.
#[derive(Debug)]
pub(super) struct Events {
    queue: Receiver<Event>,
    sender: Sender<Event>,
    handle: Handle,
}

impl Events {
    /// Installs the handlers.
    pub fn listen() -> Result<Self> {
        let failed = |e| Error::Failure(format!("cannot install handlers for signals: {e}"));
        let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM]).map_err(failed)?;
        let (sender, queue) = channel();
        let (handle, to_queue) = (signals.handle(), sender.clone());
        let forward = move || {
            for signal in signals.forever() {
                let event = if signal == SIGCHLD { Event::Ended } else { Event::Signal(signal) };
                if to_queue.send(event).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(forward).map_err(failed)?;
        Ok(Self { queue, sender, handle })
    }

    /// For others that report.
    pub fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// The next event; `None` once `until` has passed. Without a time it waits for as long as it takes.
    pub fn wait(&self, until: Option<Instant>) -> Option<Event> {
        let Some(until) = until else {
            return self.queue.recv().ok();
        };
        self.queue.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.handle.close();
    }
}
