//! Progress of the work: a bar on a terminal, else a line every ten seconds.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Ui;
use crate::text::clock;
use crate::train::Status;

/// Time between two lines without a bar.
const INTERVAL: Duration = Duration::from_secs(10);

/// Progress of some work. Made by [`Ui::progress`]; it disappears when dropped.
#[derive(Debug)]
pub struct Progress {
    ui: Ui,
    total: u64,
    bar: Option<ProgressBar>,
    /// Time and step of the start: a resumed run does not start at 0.
    start: Option<(Instant, u64)>,
    last_line: Option<Instant>,
}

impl Progress {
    pub(super) fn new(ui: Ui, total: u64) -> Self {
        let bar = (ui.is_terminal() && !ui.is_quiet()).then(|| {
            let bar = ui.bars().add(ProgressBar::new(total));
            // Two lines, since the text of a training alone has 75 columns.
            let style = ProgressStyle::with_template("{bar:50} {percent:>3}% · {prefix}\n{wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { ui, total, bar, start: None, last_line: None }
    }

    /// Without a first line in a log: for work that mostly ends within seconds.
    pub fn without_first_line(mut self) -> Self {
        self.last_line = Some(Instant::now());
        self
    }

    /// Sets the bar to `step` of the total, and its text to `message` and the time left.
    pub fn set(&mut self, step: u64, message: &str) {
        self.show(step, || message.to_owned());
    }

    /// As [`Progress::set`], with the text of a training.
    pub fn training(&mut self, status: &Status) {
        self.total = status.total;
        if let Some(bar) = &self.bar {
            bar.set_length(status.total);
        }
        self.show(status.step, || training_line(status));
    }

    /// Removes the bar from the screen.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.ui.bars().remove(&bar);
        }
    }

    fn show(&mut self, step: u64, text: impl FnOnce() -> String) {
        let left = self.time_left(step);
        let due = |at: Instant| step >= self.total || at.elapsed() >= INTERVAL;
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_prefix(left);
            bar.set_message(text());
        } else if !self.ui.is_quiet() && self.last_line.is_none_or(due) {
            self.last_line = Some(Instant::now());
            self.ui.stderr(&format!("{} · {left}", text()));
        }
    }

    /// Time left, from the mean speed since the first step shown.
    fn time_left(&mut self, step: u64) -> String {
        let (start, first) = *self.start.get_or_insert((Instant::now(), step));
        let left = self.total.saturating_sub(step);
        match step.saturating_sub(first) {
            _ if left == 0 => "done".to_owned(),
            0 => "? left".to_owned(),
            done => format!("{} left", clock(start.elapsed().as_secs_f64() / done as f64 * left as f64)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn training_line(status: &Status) -> String {
    let Status { epoch, epochs, step, total, loss, lr, samples_per_second } = status;
    let pace = format!("{samples_per_second:.1} samples/s");
    format!("epoch {epoch}/{epochs} · step {step}/{total} · loss {loss:.4} · lr {lr:.2e} · {pace}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_all_that_a_person_watches() {
        let status = Status {
            epoch: 1,
            epochs: 2,
            step: 40,
            total: 2000,
            loss: 0.04321,
            lr: 3e-3,
            samples_per_second: 81.26,
        };
        assert_eq!(
            training_line(&status),
            "epoch 1/2 · step 40/2000 · loss 0.0432 · lr 3.00e-3 · 81.3 samples/s"
        );
    }

    #[test]
    fn a_resumed_run_is_timed_from_where_it_began() {
        let mut progress = Ui::new(true).progress(100);
        progress.set(90, "");
        progress.start = Some((Instant::now() - Duration::from_secs(50), 90));
        assert_eq!(progress.time_left(95), "50s left");
        assert_eq!(progress.time_left(100), "done");
    }
}
