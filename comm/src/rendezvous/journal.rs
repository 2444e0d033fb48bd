//! Lines about strangers, few enough to read.

use super::Settings;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Says at most some lines a second and counts the others.
pub struct Journal {
    settings: Settings,
    since: Instant,
    lines: usize,
    withheld: usize,
}

impl Journal {
    /// With the lines a second and the place for them of these settings.
    pub fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), since: Instant::now(), lines: 0, withheld: 0 }
    }

    /// Somebody was dropped.
    pub fn dropped(&mut self, who: impl Display, why: &str) {
        self.turn();
        if self.lines < self.settings.lines {
            self.lines += 1;
            (self.settings.log)(&format!("dropped a connection from {who}: {why}"));
        } else {
            self.withheld += 1;
        }
    }

    /// Begins a new second if the last is over.
    pub fn turn(&mut self) {
        if self.since.elapsed() >= Duration::from_secs(1) {
            self.report();
            (self.since, self.lines) = (Instant::now(), 0);
        }
    }

    fn report(&mut self) {
        if self.withheld > 0 {
            (self.settings.log)(&format!("dropped {} more connections", self.withheld));
            self.withheld = 0;
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.report();
    }
}
