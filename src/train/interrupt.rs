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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    const CHILD: &str = "SSMV_TEST_INTERRUPT_CHILD";

    /// The process that gets the signals; does nothing when it is run as a test.
    #[test]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let interrupt = Interrupt::install().unwrap();
        assert!(interrupt.check().is_ok());
        // Stderr, since a test's stdout is not a pipe's at once.
        writeln!(std::io::stderr(), "ready").unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let mut said = false;
        while Instant::now() < end {
            if let (false, Some(signal)) = (said, interrupt.requested()) {
                assert_eq!(interrupt.check().unwrap_err().exit_code(), 128 + signal as u8);
                writeln!(std::io::stderr(), "asked by {signal}").unwrap();
                said = true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn the_first_signal_asks_and_the_second_ends() {
        for (first, second, number) in
            [("INT", "INT", SIGINT), ("TERM", "INT", SIGTERM), ("INT", "TERM", SIGINT)]
        {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "train::interrupt::tests::child", "--nocapture"])
                .env(CHILD, "1")
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let process = rustix::process::Pid::from_child(&child);
            let kill = |name| {
                use rustix::process::Signal;
                let signal = if name == "INT" { Signal::INT } else { Signal::TERM };
                rustix::process::kill_process(process, signal)
            };
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
            kill(first).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), format!("asked by {number}"));
            kill(second).unwrap();
            let code = if second == "INT" { 130 } else { 143 };
            assert_eq!(child.wait().unwrap().code(), Some(code));
        }
    }
}
