//! The wait for a neighbour, with a warning and a timeout.

use super::{Options, Position, Stall};
use crate::error::Fault;
use crate::frame::Tag;
use std::io::{self, ErrorKind};
use std::time::Instant;

/// The wait for one frame: a warning after a quarter of the timeout, an error after the timeout without a byte.
///
/// A frame saying that the neighbour itself waits counts as bytes. So the first rank behind a stalled rank times out
/// first, and sends the stalled rank's number to the others.
pub struct Wait {
    position: Position,
    sending: bool,
    tag: Tag,
    begun: Instant,
    moved: Instant,
    /// The rank that the last warning blamed.
    warned: Option<Option<usize>>,
}

impl Wait {
    /// Starts to wait: for the right neighbour if `sending`, otherwise for the left.
    pub fn new(position: Position, sending: bool, tag: Tag) -> Self {
        let now = Instant::now();
        Self { position, sending, tag, begun: now, moved: now, warned: None }
    }

    /// Notes that bytes were sent or received.
    pub fn moved(&mut self) {
        self.moved = Instant::now();
    }

    /// Decides whether an error of a stream ends the wait. Returns true once, at the first warning. Warns again when `blamed`, the
    /// rank that the neighbour waits for, changes.
    ///
    /// # Errors
    /// The fault that ends the wait.
    pub fn judge(
        &mut self,
        error: &io::Error,
        blamed: Option<usize>,
        options: &Options,
    ) -> Result<bool, Fault> {
        let peer = if self.sending { self.position.right() } else { self.position.left() };
        match error.kind() {
            ErrorKind::Interrupted => Ok(false),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.check_time(peer, blamed, options),
            ErrorKind::UnexpectedEof
            | ErrorKind::WriteZero
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected => Err(Fault::Closed { peer }),
            _ => Err(Fault::System { peer, message: error.to_string() }),
        }
    }

    fn check_time(&mut self, peer: usize, blamed: Option<usize>, options: &Options) -> Result<bool, Fault> {
        let (timeout, sending, still) = (options.timeout, self.sending, self.moved.elapsed());
        if still >= timeout {
            return Err(Fault::Timeout { peer, sending, waited: still, blamed });
        }
        let waited = self.begun.elapsed();
        if waited < timeout / 4 || self.warned == Some(blamed) {
            return Ok(false);
        }
        let first = self.warned.replace(blamed).is_none();
        let (rank, tag) = (self.position.rank, self.tag);
        (options.on_stall)(&Stall { rank, peer, sending, tag, waited, timeout, blamed });
        Ok(first)
    }
}
