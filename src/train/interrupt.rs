//! Signals that request the end of the program: the first one requests it, a later one ends it at once.

use crate::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The signals that request an end: Ctrl-C, `kill`, a closed terminal, and the warnings of batch systems such as Slurm.
pub(crate) const ENDING: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU];

/// Time after the first signal in which others are the same request: GNU `timeout`, for one, signals its child and then
/// its process group.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// The [`ENDING`] signals to handle: without SIGHUP if the process was started to ignore it, as by `nohup`.
pub(crate) fn ending_signals() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ENDING.into_iter().filter(|&number| number != SIGHUP || !ignores(&status, SIGHUP)).collect()
}

/// True if a process ignores a signal, by its `/proc/PID/status`; also true if the file does not show it.
fn ignores(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (number - 1) & 1 == 1)
}

/// Distinguishes the first request and later ones from repeated signals of one request.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    first: Option<Instant>,
}

impl Requests {
    /// False for a signal within [`SAME_REQUEST`] of the first.
    pub(crate) fn counts(&mut self, now: Instant) -> bool {
        let same = self.first.is_some_and(|first| now.saturating_duration_since(first) < SAME_REQUEST);
        self.first.get_or_insert(now);
        !same
    }
}

/// Records whether a signal has requested the end of the program.
///
/// The first of SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU is recorded, so that training can save and end
/// with [`Error::Interrupted`]; any of them at least one second later ends the process at once with 128 + its number.
#[derive(Debug, Clone)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Installs the handlers; call it once per process. A SIGHUP that the process was started to ignore stays ignored.
    ///
    /// # Errors
    /// The system refuses a handler or a thread.
    pub fn install() -> Result<Self> {
        let failed = |e| Error::Failure(format!("cannot install handlers for signals: {e}"));
        let mut signals = Signals::new(ending_signals()).map_err(failed)?;
        let signal = Arc::new(AtomicUsize::new(0));
        let (noted, mut requests) = (Arc::clone(&signal), Requests::default());
        let watch = move || {
            for number in signals.forever().filter(|_| requests.counts(Instant::now())) {
                let first = noted.compare_exchange(0, number as usize, Ordering::SeqCst, Ordering::SeqCst);
                if first.is_err() {
                    signal_hook::low_level::exit(128 + number);
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
        Ok(Self { signal })
    }

    /// An interrupt that no signal sets, for training inside another program.
    pub fn never() -> Self {
        Self { signal: Arc::default() }
    }

    /// The number of the received signal, if there was one.
    pub fn requested(&self) -> Option<i32> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            number => Some(number as i32),
        }
    }

    /// [`Error::Interrupted`] after a signal.
    ///
    /// # Errors
    /// Only that one.
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

    /// The process that receives the signals; does nothing when it is run as a test.
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
    fn the_first_signal_asks_and_one_a_second_later_ends() {
        use rustix::process::Signal;
        for (first, second) in [
            (Signal::INT, Signal::INT),
            (Signal::TERM, Signal::HUP),
            (Signal::HUP, Signal::TERM),
            (Signal::USR1, Signal::USR2),
            (Signal::USR2, Signal::XCPU),
            (Signal::XCPU, Signal::USR1),
        ] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "train::interrupt::tests::child", "--nocapture"])
                .env(CHILD, "1")
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let process = rustix::process::Pid::from_child(&child);
            let kill = |signal| rustix::process::kill_process(process, signal).unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
            kill(first);
            assert_eq!(lines.next().unwrap().unwrap(), format!("asked by {}", first.as_raw()));
            // A repetition at once changes nothing, as `timeout` sends one.
            kill(second);
            std::thread::sleep(SAME_REQUEST + Duration::from_millis(50));
            assert_eq!(child.try_wait().unwrap(), None);
            kill(second);
            assert_eq!(child.wait().unwrap().code(), Some(128 + second.as_raw()));
        }
    }

    #[test]
    fn a_signal_counts_first_and_then_from_a_second_on() {
        let (start, mut requests) = (Instant::now(), Requests::default());
        for (milliseconds, counts) in [(0, true), (0, false), (999, false), (1000, true), (1001, true)] {
            let now = start + Duration::from_millis(milliseconds);
            assert_eq!(requests.counts(now), counts, "{milliseconds}");
        }
    }

    #[test]
    fn ignored_signals_are_in_the_status_of_a_process() {
        let status = |mask| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores(&status("0000000000000001"), SIGHUP) && ignores("", SIGHUP));
        assert!(!ignores(&status("0000000000001002"), SIGHUP));
        assert!(ignores(&status("0000000000004000"), SIGTERM));
    }
}
