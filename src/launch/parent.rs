//! A rank's side: it does not survive its launcher.

use std::os::unix::process::parent_id;

use crate::{Error, Result};

/// The launcher's process, in the environment of its ranks.
pub(super) const LAUNCHER: &str = "SSMV_LAUNCHER_PID";

/// Ties this process to its launcher, if it has one: when the launcher is gone, whatever ended it, this process is
/// killed. To be called before anything else.
///
/// # Errors
/// A launcher that has ended already.
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
        .map_err(|e| Error::Failure(format!("cannot ask to be ended with the launcher: {e}")))
}

/// A thread looks whether the launcher still is this process's parent.
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
