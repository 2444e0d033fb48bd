//! What ranks print, passed on line by line, each line with its rank in front.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::events::Event;

/// A longer line is cut: its pieces stand on lines of their own, and no more of it is held in memory.
const MAX_LINE: u64 = 64 << 10;

/// Where output goes. A line is written whole, by one call.
pub type Sink = Arc<Mutex<dyn Write + Send>>;

/// Where the ranks' two outputs go.
#[derive(Clone)]
pub struct Outputs {
    /// For what ranks print to stdout.
    pub stdout: Sink,
    /// For what ranks print to stderr.
    pub stderr: Sink,
}

impl Outputs {
    /// This process's own.
    pub fn standard() -> Self {
        Self { stdout: Arc::new(Mutex::new(io::stdout())), stderr: Arc::new(Mutex::new(io::stderr())) }
    }
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Outputs").finish_non_exhaustive()
    }
}

/// Passes `from` on to `to` on a thread of its own, and reports [`Event::Drained`] at its end.
pub(super) fn spawn(
    from: impl Read + Send + 'static,
    prefix: String,
    to: Sink,
    done: Sender<Event>,
) -> io::Result<()> {
    let work = move || {
        // When the output has no reader any more, the rank's end of the pipe breaks too, and the rank ends as it
        // would have without a launcher.
        let _ = if prefix.is_empty() { copy(from, &to) } else { lines(from, &prefix, &to) };
        let _ = done.send(Event::Drained);
    };
    thread::Builder::new().name("output".to_owned()).spawn(work).map(drop)
}

/// Every line with `prefix` before it. The last gets the line break that it lacks.
fn lines(from: impl Read, prefix: &str, to: &Sink) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(prefix.as_bytes());
        if from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        write(to, &line)?;
    }
}

/// The bytes as they are.
fn copy(mut from: impl Read, to: &Sink) -> io::Result<()> {
    let mut buffer = [0; 8 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => write(to, buffer.get(..length).unwrap_or_default())?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn write(to: &Sink, bytes: &[u8]) -> io::Result<()> {
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    to.write_all(bytes)?;
    to.flush()
}
