//! The processes of one start of a job: started together, watched, and ended together.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::events::{Event, Events};
use super::meeting::Meeting;
use super::{Job, Outputs, Reporter, relay};
use crate::{Error, Result};

/// The time that a rank has to end after SIGTERM, or after a second signal from outside, before SIGKILL.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a rank that was killed may take to end after one that noticed: its connections close while the system still
/// takes it apart.
const LATE_EXITS: Duration = Duration::from_millis(500);

/// A rank that did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its number among all ranks.
    pub rank: u32,
    /// How it ended.
    pub status: ExitStatus,
}

impl Failure {
    /// The exit code that a shell would give it: the rank's own, or 128 + the signal that ended it.
    pub fn exit_code(&self) -> u8 {
        let signal = self.status.signal().unwrap_or(0);
        self.status.code().unwrap_or(128 + signal).clamp(1, 255) as u8
    }

    /// Whether the rank ended because a signal asked it to: the answer of a program that saved its work first.
    pub fn was_asked(&self) -> bool {
        [SIGINT, SIGTERM].iter().any(|signal| self.status.code() == Some(128 + signal))
    }

    /// Whether the rank ended by or after one of the signals that are passed on.
    pub(super) fn answers_signal(&self) -> bool {
        self.was_asked() || [SIGINT, SIGTERM].iter().any(|signal| self.status.signal() == Some(*signal))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { rank, status } = self;
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(f, "rank {rank} ended with exit code {code}"),
            (None, Some(signal)) => {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("of no name");
                write!(f, "rank {rank} was ended by signal {signal} ({name})")
            }
            (None, None) => write!(f, "rank {rank} ended with {status}"),
        }
    }
}

/// How a start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All ranks succeeded.
    Done,
    /// A rank failed, this one first.
    Failed(Failure),
    /// The same, and a signal came to the launcher too: whatever failed is not started again.
    Ended(Failure),
    /// This signal came to the launcher, and no rank failed by itself before another one followed it.
    Interrupted(i32),
}

/// The ranks of one start. None of them outlives this value.
#[derive(Debug)]
pub(super) struct Ranks {
    running: Vec<Running>,
    /// Outputs that are not at their end yet.
    open_outputs: usize,
}

#[derive(Debug)]
struct Running {
    rank: u32,
    process: Child,
    group: Pid,
}

impl Running {
    /// How the rank ended, if it has. Nothing that it started stays behind.
    fn ended(&mut self) -> Option<ExitStatus> {
        // The group is ended while the unreaped rank still holds its number, which no other process can have.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.group), look).ok()??;
        self.signal(Signal::KILL);
        self.process.wait().ok()
    }

    /// To the rank and all that it started. A rank that has ended in the meantime needs no signal.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }
}

impl Ranks {
    /// Starts the ranks of this machine. The system ends them with the calling thread.
    ///
    /// # Errors
    /// A program that cannot be started; what was started is ended.
    pub fn start(
        job: &Job,
        (arguments, restarts): (&[OsString], u32),
        meeting: &Meeting,
        outputs: &Outputs,
        events: &Events,
    ) -> Result<Self> {
        let mut ranks = Self { running: Vec::new(), open_outputs: 0 };
        for local in 0..job.layout.local_ranks {
            let rank = job.layout.rank(local);
            let failed = |e: &dyn fmt::Display| {
                Error::Failure(format!("cannot start rank {rank}, {}: {e}", job.program.display()))
            };
            let mut command = job.command(arguments, meeting, local, restarts);
            let mut process = command.process_group(0).spawn().map_err(|e| failed(&e))?;
            let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
            let Some(group) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) else {
                return Err(failed(&"the system gave it no process number"));
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

    /// Waits until all ranks have ended and their output is out. Passes signals on; ends the others when one failed.
    pub fn watch(&mut self, events: &Events, grace: Duration, reporter: &dyn Reporter) -> Outcome {
        let mut first = None::<Failure>;
        let mut asked = None;
        let mut asked_again = false;
        let mut by_itself = false;
        // Ranks that ended as they were asked to.
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
                    reporter.warn(&said(&failure, self.running.len(), grace));
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
                        // At the second signal ranks end at once; one that does not is stuck. Others may notice such an end
                        // before their own signal, and report that.
                        asked_again = true;
                        pressure = Some((Instant::now() + SIGNAL_TIMEOUT, Signal::KILL));
                    }
                    asked.get_or_insert(number);
                }
                Some(Event::Drained) => self.open_outputs = self.open_outputs.saturating_sub(1),
                Some(Event::Ended) => {}
                None => {
                    // Until then a SIGKILL came from outside the launcher.
                    killed |= first.is_none() && matches!(pressure, Some((_, Signal::KILL)));
                    pressure = self.press(pressure, reporter);
                }
            }
        }
        let all_done = answered == 0 && first.is_none();
        // A signal that comes now asks for an end as well.
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

    /// The ranks that failed first, the one that is behind it in front: of those that ended at about the same time, the
    /// one that was killed took the others with it.
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

    /// Takes out the ranks that have ended, and gives those that failed.
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

    /// Sends the signal that is due, and gives the next one and its time.
    fn press(&self, due: Option<(Instant, Signal)>, reporter: &dyn Reporter) -> Option<(Instant, Signal)> {
        let (_, signal) = due?;
        let name = if signal == Signal::KILL { "SIGKILL" } else { "SIGTERM" };
        reporter.warn(&format!("{name} to {}, still running", self.names()));
        self.running.iter().for_each(|running| running.signal(signal));
        (signal != Signal::KILL).then(|| (Instant::now() + SIGNAL_TIMEOUT, Signal::KILL))
    }

    /// Waits until what the ranks wrote before they ended has been passed on. A slow reader may; a
    /// signal ends the wait, and is given.
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

/// The first failure, and what is done about it.
fn said(failure: &Failure, others: usize, grace: Duration) -> String {
    match others {
        0 => failure.to_string(),
        1 => format!("{failure}; the other one has {:.0} s to end", grace.as_secs_f64()),
        _ => format!("{failure}; the other {others} have {:.0} s to end", grace.as_secs_f64()),
    }
}
