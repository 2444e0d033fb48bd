//! Starts the ranks of a job on this machine, watches them and ends them: `ssmv-raw launch`.
//!
//! Each rank is a process in its own process group, so that Ctrl-C in a terminal reaches only the launcher, which passes it
//! on once. The first failure of a rank ends the job: the other ranks get time to detect the broken ring, then SIGTERM, then
//! SIGKILL. No rank survives the launcher ([`watch_parent`]).

mod job;
mod ranks;
mod relay;
pub mod restart;

use std::os::unix::process::parent_id;

use ranks::{Events, Outcome, Ranks};

pub use job::{Job, Layout, Restarts, Secret};
pub use ranks::Failure;
pub use relay::{Outputs, Sink};

use crate::{Error, Result};

/// Receiver of the launcher's messages.
pub trait Reporter {
    /// Prints a note for the user.
    fn note(&self, line: &str);
    /// Prints a warning for the user.
    fn warn(&self, line: &str);
}

/// Runs the job, with its restarts, until all ranks have ended. Call it from the main thread: the system ends the ranks with
/// the calling thread.
///
/// # Errors
/// The first failure of a rank as [`Error::Rank`]; [`Error::Interrupted`] after a signal to this process; ranks that
/// cannot be started.
pub fn run(job: &Job, outputs: &Outputs, reporter: &dyn Reporter) -> Result<()> {
    let events = Events::listen()?;
    let begins = job.layout.node == 0;
    let folder = job.restarts.as_ref().map(|more| restart::Folder::of(&job.arguments, &more.out, begins));
    let mut folder = folder.transpose()?;
    let mut arguments = job.arguments.clone();
    let mut restarts = 0;
    loop {
        let endpoint = job.next_endpoint()?;
        reporter.note(&started(job, endpoint.port, restarts));
        let mut ranks = Ranks::start(job, (&arguments, restarts), &endpoint, outputs, &events)?;
        match ranks.watch(&events, job.grace, reporter) {
            Outcome::Done => return Ok(()),
            Outcome::Interrupted(signal) => return Err(Error::Interrupted(signal)),
            Outcome::Ended(failure) => return Err(failed(&failure)),
            Outcome::Failed(failure) => {
                let more = job.restarts.as_ref().filter(|more| restarts < more.most && may_restart(&failure));
                let (Some(more), Some(folder)) = (more, &mut folder) else { return Err(failed(&failure)) };
                restarts += 1;
                arguments = folder.arguments(&job.arguments, begins, reporter)?;
                reporter.warn(&format!("restart {restarts} of {}", more.most));
            }
        }
    }
}

/// True unless the failure was wrong usage, which a restart repeats, or the answer to a signal, which asked the rank to end.
fn may_restart(failure: &Failure) -> bool {
    failure.exit_code() != 2 && !failure.answers_signal()
}

fn failed(failure: &Failure) -> Error {
    Error::Rank { message: failure.to_string(), code: failure.exit_code() }
}

fn started(job: &Job, port: u16, restarts: u32) -> String {
    let layout = &job.layout;
    let here = match (layout.local_ranks, layout.nodes) {
        (1, 1) => "1 rank".to_owned(),
        (ranks, 1) => format!("{ranks} ranks"),
        (ranks, nodes) => {
            format!("{ranks} of {} ranks, node {} of {nodes}", layout.ranks(), layout.node)
        }
    };
    let again = if restarts == 0 { "" } else { " again" };
    format!("starting {here}{again}, rank 0 at {}:{port}", job.address)
}

/// Environment variable of a rank: the launcher's process number.
const LAUNCHER: &str = "SSMV_LAUNCHER_PID";

/// Ties this process to its launcher, if it has one: this process is killed when the launcher ends for any reason. Call it
/// before anything else.
///
/// # Errors
/// The launcher has already ended.
pub fn watch_parent() -> Result<()> {
    let Some(launcher) = std::env::var_os(LAUNCHER) else {
        return Ok(());
    };
    let Some(launcher) = launcher.to_str().and_then(|text| text.parse().ok()) else {
        return Err(Error::Usage(format!("{LAUNCHER} is set by `launch` to its process number; unset it")));
    };
    tie(launcher)?;
    // The launcher may have ended before it was watched.
    if parent_id() != launcher {
        return Err(Error::Failure(format!(
            "the launcher, process {launcher}, has ended; if this is not a rank of a launch, unset {LAUNCHER}"
        )));
    }
    Ok(())
}

/// The system kills this process when the thread that started it, the launcher's main thread, ends.
#[cfg(target_os = "linux")]
fn tie(_: u32) -> Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| Error::Failure(format!("cannot tie this process to its launcher: {e}")))
}

/// A thread checks that the launcher is still the parent of this process.
#[cfg(not(target_os = "linux"))]
fn tie(launcher: u32) -> Result<()> {
    let watch = move || {
        while parent_id() == launcher {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        std::process::exit(128 + signal_hook::consts::SIGKILL);
    };
    std::thread::Builder::new()
        .name("launcher".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|e| Error::Failure(format!("cannot watch the launcher: {e}")))
}
