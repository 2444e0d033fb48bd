//! The report that a training keeps current in its run folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{REPORT_FILE, Run, page};
use crate::{OutputFile, Result};

/// Least time between two pages, except at evaluations and at the end.
const INTERVAL: Duration = Duration::from_secs(30);

/// Writes `RUN/report.html` during a training.
#[derive(Debug)]
pub struct LiveReport {
    folder: PathBuf,
    /// The run; read at the first page.
    run: Option<Run>,
    written: Option<Instant>,
}

impl LiveReport {
    /// A report of the run folder `folder`, of which nothing is written yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), run: None, written: None }
    }

    /// True if no page was written in the last 30 seconds.
    pub fn is_due(&self) -> bool {
        self.written.is_none_or(|written| written.elapsed() >= INTERVAL)
    }

    /// Writes the page; with `goes_on`, one that reloads itself. A failure counts as a page: the next one is due 30 seconds
    /// later.
    ///
    /// # Errors
    /// The run cannot be read, or the page not be written.
    pub fn write(&mut self, goes_on: bool) -> Result<()> {
        let result = self.try_to_write(goes_on);
        self.written = Some(Instant::now());
        result
    }

    fn try_to_write(&mut self, goes_on: bool) -> Result<()> {
        let run = match &mut self.run {
            Some(run) => {
                run.read_on()?;
                run
            }
            None => self.run.insert(Run::open(&self.folder)?),
        };
        OutputFile::write(&self.folder.join(REPORT_FILE), page(std::slice::from_ref(run), goes_on).as_bytes())
    }
}
