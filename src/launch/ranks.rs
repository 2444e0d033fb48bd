//! The processes of one start of a job: started together, watched, and ended together.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::{Handle, Signals};

use super::job::Endpoint;
use super::{Job, Outputs, Reporter, relay};
use crate::train::interrupt::{ENDING, Requests, ending_signals};
use crate::{Error, Result};

/// Time from SIGTERM, or from a second signal from outside, to SIGKILL.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Time in which a killed rank may end after a rank that noticed it: the system closes its connections first.
const LATE_EXITS: Duration = Duration::from_millis(500);

/// An event that the launcher waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The launcher got a signal that requests an end; a repetition of the same request is left out.
    Signal(i32),
    /// At least one rank ended.
    Ended,
    /// An output of a rank was relayed to its end.
    Drained,
}

/// The queue of events. As long as it exists, signals that request an end are events and do not end the process.
#[derive(Debug)]
pub(super) struct Events {
    queue: Receiver<Event>,
    sender: Sender<Event>,
    handle: Handle,
}

impl Events {
    /// Installs the signal handlers.
    pub fn listen() -> Result<Self> {
        let failed = |e| Error::Failure(format!("cannot install handlers for signals: {e}"));
        let mut signals = Signals::new(ending_signals().into_iter().chain([SIGCHLD])).map_err(failed)?;
        let (sender, queue) = channel();
        let (handle, to_queue, mut requests) = (signals.handle(), sender.clone(), Requests::default());
        let forward = move || {
            for signal in signals.forever() {
                let event = match signal {
                    SIGCHLD => Event::Ended,
                    _ if requests.counts(Instant::now()) => Event::Signal(signal),
                    _ => continue,
                };
                if to_queue.send(event).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(forward).map_err(failed)?;
        Ok(Self { queue, sender, handle })
    }

    /// A sender for other sources of events.
    pub fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// The next event; `None` after the time `until`, if there is one.
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

/// A rank that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Number among all ranks.
    pub rank: u32,
    /// Exit status of its process.
    pub status: ExitStatus,
}

impl Failure {
    /// Exit code as in a shell: the rank's own, or 128 + the signal that ended it.
    pub fn exit_code(&self) -> u8 {
        let signal = self.status.signal().unwrap_or(0);
        self.status.code().unwrap_or(128 + signal).clamp(1, 255) as u8
    }

    /// True if a signal asked the rank to end and it ended by itself, after saving its work.
    pub fn was_asked(&self) -> bool {
        ENDING.iter().any(|signal| self.status.code() == Some(128 + signal))
    }

    /// True if the rank ended by or after one of the signals that are passed on.
    pub(super) fn answers_signal(&self) -> bool {
        self.was_asked() || self.status.signal().is_some_and(|signal| ENDING.contains(&signal))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { rank, status } = self;
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(f, "rank {rank} ended with exit code {code}"),
            (None, Some(signal)) => {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("unknown");
                write!(f, "rank {rank} was ended by signal {signal} ({name})")
            }
            (None, None) => write!(f, "rank {rank} ended with {status}"),
        }
    }
}

/// Result of one start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All ranks ended with success.
    Done,
    /// The first rank that failed.
    Failed(Failure),
    /// The first rank that failed, when the launcher also got a signal: no restart.
    Ended(Failure),
    /// The launcher got this signal, and no rank failed by itself before a second signal.
    Interrupted(i32),
}

/// The ranks of one start. They are killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Ranks {
    running: Vec<Running>,
    /// Number of outputs that have not reached their end.
    open_outputs: usize,
}

#[derive(Debug)]
struct Running {
    rank: u32,
    process: Child,
    group: Pid,
}

impl Running {
    /// Exit status of the rank, if it has ended. Its child processes are killed then.
    fn ended(&mut self) -> Option<ExitStatus> {
        // The group is killed before the rank is reaped, so that no other process can have its number.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.group), look).ok()??;
        self.signal(Signal::KILL);
        self.process.wait().ok()
    }

    /// Sends a signal to the rank and its child processes. An error means that they have ended.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }
}

impl Ranks {
    /// Starts the ranks of this machine. The system kills them when the calling thread ends.
    ///
    /// # Errors
    /// The program cannot be started; ranks that were started are killed.
    pub fn start(
        job: &Job,
        (arguments, restarts): (&[OsString], u32),
        endpoint: &Endpoint,
        outputs: &Outputs,
        events: &Events,
    ) -> Result<Self> {
        let mut ranks = Self { running: Vec::new(), open_outputs: 0 };
        for local in 0..job.layout.local_ranks {
            let rank = job.layout.rank(local);
            let failed = |e: &dyn fmt::Display| {
                Error::Failure(format!("cannot start rank {rank}, {}: {e}", job.program.display()))
            };
            let mut command = job.command(arguments, endpoint, local, restarts);
            let mut process = command.process_group(0).spawn().map_err(|e| failed(&e))?;
            let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
            let Some(group) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) else {
                return Err(failed(&"it has no process number"));
            };
            ranks.running.push(Running { rank, process, group });
            let prefix = if job.layout.ranks() == 1 { String::new() } else { format!("[rank {rank}] ") };
            if let Some(stdout) = stdout {
                relay::spawn(stdout, prefix.clone(), outputs.stdout.clone(), events.sender())
                    .map_err(|e| failed(&e))?;
                ranks.open_outputs += 1;
            }
            if let Some(stderr) = stderr {
                relay::spawn(stderr, prefix, outputs.stderr.clone(), events.sender())
                    .map_err(|e| failed(&e))?;
                ranks.open_outputs += 1;
            }
        }
        Ok(ranks)
    }

    /// Waits until all ranks have ended and their output is written. Passes signals on; ends the other ranks when one fails.
    pub fn watch(&mut self, events: &Events, grace: Duration, reporter: &dyn Reporter) -> Outcome {
        let mut first = None::<Failure>;
        let mut asked = None;
        let mut asked_again = false;
        let mut by_itself = false;
        // Ranks that a signal asked to end.
        let mut answered = 0;
        let mut killed = false;
        let mut pressure = None;
        loop {
            let failures = match (asked, first) {
                (None, None) => self.first_failures(),
                _ => self.reap(),
            };
            for failure in failures {
                if asked.is_some() && failure.answers_signal() {
                    answered += 1;
                    continue;
                }
                if first.is_none() {
                    reporter.warn(&failure_line(&failure, self.running.len(), grace));
                    first = Some(failure);
                    by_itself = !asked_again && !failure.answers_signal();
                    pressure.get_or_insert((Instant::now() + grace, Signal::TERM));
                }
            }
            if self.running.is_empty() {
                break;
            }
            match events.wait(pressure.map(|(at, _)| at)) {
                Some(Event::Signal(number)) => {
                    self.pass_on(number, reporter);
                    if asked.is_some() {
                        // Ranks end at once at the second signal; a rank that does not is stuck. Other ranks may detect such
                        // an end before they get their own signal, and report it.
                        asked_again = true;
                        pressure = Some((Instant::now() + SIGNAL_TIMEOUT, Signal::KILL));
                    }
                    asked.get_or_insert(number);
                }
                Some(Event::Drained) => self.open_outputs = self.open_outputs.saturating_sub(1),
                Some(Event::Ended) => {}
                None => {
                    // A SIGKILL before this moment was sent from outside the launcher.
                    killed |= first.is_none() && matches!(pressure, Some((_, Signal::KILL)));
                    pressure = self.escalate(pressure, reporter);
                }
            }
        }
        let all_done = answered == 0 && first.is_none();
        // A signal during this time also requests an end.
        let asked = self.drain(events).or(asked);
        match (asked, first) {
            // A rank that failed by itself has not saved, even if an end was requested meanwhile.
            (Some(_), Some(failure)) if by_itself && !killed => Outcome::Ended(failure),
            (Some(_), _) if all_done => Outcome::Done,
            (Some(signal), _) => Outcome::Interrupted(signal),
            (None, Some(failure)) => Outcome::Failed(failure),
            (None, None) => Outcome::Done,
        }
    }

    /// The ranks that failed first, the cause in front: if several end at about the same time, the one that was killed
    /// caused the other failures.
    fn first_failures(&mut self) -> Vec<Failure> {
        let mut failures = self.reap();
        let until = Instant::now() + LATE_EXITS;
        let was_killed = |failure: &Failure| failure.status.signal().is_some();
        let is_open = |failures: &[Failure]| !failures.is_empty() && !failures.iter().any(was_killed);
        while is_open(&failures) && !self.running.is_empty() && Instant::now() < until {
            std::thread::sleep(LATE_EXITS / 50);
            failures.extend(self.reap());
        }
        failures.sort_by_key(|failure| !was_killed(failure));
        failures
    }

    /// Removes the ranks that have ended; returns those that failed.
    fn reap(&mut self) -> Vec<Failure> {
        let mut failures = Vec::new();
        self.running.retain_mut(|running| match running.ended() {
            None => true,
            Some(status) => {
                if !status.success() {
                    failures.push(Failure { rank: running.rank, status });
                }
                false
            }
        });
        failures
    }

    fn pass_on(&self, number: i32, reporter: &dyn Reporter) {
        if let Some(signal) = Signal::from_named_raw(number) {
            reporter.note(&format!("signal {number} passed on to {}", self.names()));
            self.running.iter().for_each(|running| running.signal(signal));
        }
    }

    /// Sends the signal that is due; returns the next one and its time.
    fn escalate(&self, due: Option<(Instant, Signal)>, reporter: &dyn Reporter) -> Option<(Instant, Signal)> {
        let (_, signal) = due?;
        let name = if signal == Signal::KILL { "SIGKILL" } else { "SIGTERM" };
        reporter.warn(&format!("{name} to {}, still running", self.names()));
        self.running.iter().for_each(|running| running.signal(signal));
        (signal != Signal::KILL).then(|| (Instant::now() + SIGNAL_TIMEOUT, Signal::KILL))
    }

    /// Waits until all output of the ranks is written, however slow its reader is. A signal ends the wait and is returned.
    fn drain(&mut self, events: &Events) -> Option<i32> {
        while self.open_outputs > 0 {
            match events.wait(None) {
                Some(Event::Drained) => self.open_outputs = self.open_outputs.saturating_sub(1),
                Some(Event::Ended) => {}
                Some(Event::Signal(number)) => return Some(number),
                None => return None,
            }
        }
        None
    }

    /// `rank 3`, `ranks 1, 2`.
    fn names(&self) -> String {
        let numbers: Vec<_> = self.running.iter().map(|running| running.rank.to_string()).collect();
        format!("rank{} {}", if numbers.len() == 1 { "" } else { "s" }, numbers.join(", "))
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for running in &mut self.running {
            running.signal(Signal::KILL);
            let _ = running.process.wait();
        }
    }
}

/// The first failure, and the time that the other ranks have.
fn failure_line(failure: &Failure, others: usize, grace: Duration) -> String {
    match others {
        0 => failure.to_string(),
        1 => format!("{failure}; the other one has {:.0} s to end", grace.as_secs_f64()),
        _ => format!("{failure}; the other {others} have {:.0} s to end", grace.as_secs_f64()),
    }
}
