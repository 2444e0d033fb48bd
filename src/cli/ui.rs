//! Output of a command: results on stdout, messages on stderr.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

use indicatif::MultiProgress;
use serde::Serialize;

use super::{Progress, SIGPIPE, Table, files};
use crate::{Error, Result};

/// The two output streams. Colour and progress bars are used only if stderr is a terminal.
#[derive(Clone, Debug)]
pub struct Ui {
    quiet: bool,
    terminal: bool,
    colour: bool,
    bars: MultiProgress,
}

impl Ui {
    /// Uses the streams of this process. `quiet` omits notes and progress; warnings, errors and results stay.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        // NO_COLOR (no-color.org): any value but the empty one.
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { quiet, terminal, colour, bars: MultiProgress::new() }
    }

    /// True if notes and progress are omitted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// True if stderr is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints a line to stderr, unless quiet.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            self.stderr(&printable(line));
        }
    }

    /// `warning: …`, also when quiet.
    pub fn warn(&self, line: &str) {
        self.stderr(&format!("{} {}", self.coloured("warning:", 33), printable(line)));
    }

    /// `error: …`, always as one line.
    pub fn error(&self, message: &str) {
        let line =
            message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        self.stderr(&format!("{} {}", self.coloured("error:", 31), printable(&line)));
    }

    /// A progress display over `total` steps: a bar on a terminal, else a line every ten seconds; nothing
    /// when quiet.
    pub fn progress(&self, total: u64) -> Progress {
        Progress::new(self.clone(), total)
    }

    /// Text to stdout, without control characters. If the reader has closed the pipe, the program ends without a message.
    pub fn print(&self, text: &str) -> Result<()> {
        let written = self.bars.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(printable(text).as_bytes()).and_then(|()| stdout.flush())
        });
        written.map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Error::Interrupted(SIGPIPE),
            _ => Error::Failure(format!("standard output: {e}")),
        })
    }

    /// Prints a table to stdout.
    pub fn table(&self, table: &Table) -> Result<()> {
        self.print(&table.to_string())
    }

    /// A value as JSON to stdout, indented, with a line break at its end.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        self.print(&to_json(value)?)
    }

    /// Writes `text` to a file, whole or not at all, and notes it. An existing file is replaced.
    pub fn write_out(&self, path: &Path, text: &str) -> Result<()> {
        files::write_whole(path, text.as_bytes())?;
        self.note(&format!("wrote {}", path.display()));
        Ok(())
    }

    /// Writes a value as JSON to a file: [`Ui::write_out`].
    pub fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        self.write_out(path, &to_json(value)?)
    }

    /// The progress bars, which must be suspended while a line is printed.
    pub(super) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// A line to stderr, in one piece, since ranks may share it. An error here cannot be reported anywhere.
    pub(super) fn stderr(&self, line: &str) {
        self.bars.suspend(|| {
            let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
        });
    }

    fn coloured(&self, word: &str, code: u8) -> String {
        if self.colour { format!("\x1b[1;{code}m{word}\x1b[0m") } else { word.to_owned() }
    }
}

/// The text with its control characters, except line breaks and tabs, as `\u001b`: names and values from files must not control
/// the terminal. JSON stays valid and keeps its meaning.
fn printable(text: &str) -> Cow<'_, str> {
    let controls = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(controls) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if controls(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

fn to_json(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string_pretty(value);
    json.map(|json| json + "\n").map_err(|e| Error::Failure(format!("the result does not fit JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_escaped() {
        for (text, shown) in [
            ("epoch 1\tµ ≤ 2\n", "epoch 1\tµ ≤ 2\n"),
            ("a\u{1b}[31mb\r\u{7}", "a\\u001b[31mb\\u000d\\u0007"),
            ("\u{9b}2J\u{7f}", "\\u009b2J\\u007f"),
        ] {
            assert_eq!(printable(text), shown);
        }
        let json = serde_json::to_string("x\u{9b}\u{7f}").unwrap();
        assert_eq!(serde_json::from_str::<String>(&printable(&json)).unwrap(), "x\u{9b}\u{7f}");
    }
}
