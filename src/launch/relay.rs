//! Relays the output of ranks line by line, with the rank's number before each line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::ranks::Event;

/// Maximum length of a line in bytes; a longer line is split, so that memory stays bounded.
const MAX_LINE: u64 = 64 << 10;

/// A destination of output. Each line is written by one call.
pub type Sink = Arc<Mutex<dyn Write + Send>>;

/// Destinations of the two outputs of ranks.
#[derive(Clone)]
pub struct Outputs {
    /// Destination of the ranks' stdout.
    pub stdout: Sink,
    /// Destination of the ranks' stderr.
    pub stderr: Sink,
}

impl Outputs {
    /// The stdout and stderr of this process.
    pub fn standard() -> Self {
        Self { stdout: Arc::new(Mutex::new(io::stdout())), stderr: Arc::new(Mutex::new(io::stderr())) }
    }
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Outputs").finish_non_exhaustive()
    }
}

/// Copies `from` to `to` on a new thread, and sends [`Event::Drained`] at its end.
pub(super) fn spawn(
    from: impl Read + Send + 'static,
    prefix: String,
    to: Sink,
    done: Sender<Event>,
) -> io::Result<()> {
    let work = move || {
        // If the output loses its reader, the rank's pipe breaks too, and the rank ends as it would without a launcher.
        let _ = if prefix.is_empty() { copy(from, &to) } else { lines(from, &prefix, &to) };
        let _ = done.send(Event::Drained);
    };
    thread::Builder::new().name("output".to_owned()).spawn(work).map(drop)
}

/// Copies lines with `prefix` before each. A missing line break at the end is added.
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

/// Copies the bytes unchanged.
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
