//! The launcher's work from the first start of the ranks to the end of the last.

use super::events::Events;
use super::ranks::{Outcome, Ranks};
use super::{Failure, Job, Outputs, restart};
use crate::{Error, Result};

/// What the launcher has to say.
pub trait Reporter {
    /// What a person may like to know.
    fn note(&self, line: &str);
    /// What went wrong.
    fn warn(&self, line: &str);
}

/// Runs the job until all its ranks have ended, with restarts as it allows. To be called from a thread that lives as
/// long as the ranks are to live: the main thread.
///
/// # Errors
/// The first failure of a rank as [`Error::Rank`]; [`Error::Interrupted`] after a signal to this process; ranks that
/// cannot be started.
pub fn run(job: &Job, outputs: &Outputs, reporter: &dyn Reporter) -> Result<()> {
    let events = Events::listen()?;
    let begins = job.layout.node == 0;
    let folder = job.restarts.as_ref().map(|more| restart::Folder::of(&job.arguments, &more.out, begins));
    let folder = folder.transpose()?;
    let mut arguments = job.arguments.clone();
    let mut restarts = 0;
    loop {
        let meeting = job.next_meeting()?;
        reporter.note(&started(job, meeting.port, restarts));
        let mut ranks = Ranks::start(job, (&arguments, restarts), &meeting, outputs, &events)?;
        match ranks.watch(&events, job.grace, reporter) {
            Outcome::Done => return Ok(()),
            Outcome::Interrupted(signal) => return Err(Error::Interrupted(signal)),
            Outcome::Ended(failure) => return Err(failed(&failure)),
            Outcome::Failed(failure) => {
                let more = job.restarts.as_ref().filter(|more| restarts < more.most && may_restart(&failure));
                let (Some(more), Some(folder)) = (more, &folder) else { return Err(failed(&failure)) };
                restarts += 1;
                reporter.warn(&format!("restart {restarts} of {}", more.most));
                arguments = folder.arguments(&job.arguments, begins, reporter)?;
            }
        }
    }
}

/// Wrong usage stays wrong, and a signal that the rank could handle was a request to end.
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
