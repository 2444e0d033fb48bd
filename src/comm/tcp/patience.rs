//! How long a rank waits for a neighbour.

use super::super::error::Fault;
use super::super::frame::Tag;
use super::{Options, Place, Stall};
use std::io::{self, ErrorKind};
use std::time::Instant;

/// One wait: a warning at a quarter of the timeout, an error at the timeout, both counted from the last byte.
pub struct Patience<'a> {
    place: Place,
    sending: bool,
    tag: Tag,
    options: &'a Options,
    since: Instant,
    warned: bool,
}

impl<'a> Patience<'a> {
    /// Starts to wait for the right neighbour if `sending`, otherwise for the left.
    pub fn new(place: Place, sending: bool, tag: Tag, options: &'a Options) -> Self {
        Self { place, sending, tag, options, since: Instant::now(), warned: false }
    }

    /// Bytes moved: the wait starts again.
    pub fn moved(&mut self) {
        (self.since, self.warned) = (Instant::now(), false);
    }

    /// What an error of a stream means: to go on waiting (true once, when the warning is due), or the end.
    ///
    /// # Errors
    /// The fault, with `blamed` as the rank that the neighbour waits for.
    pub fn judge(&mut self, error: &io::Error, blamed: Option<usize>) -> Result<bool, Fault> {
        let peer = if self.sending { self.place.right() } else { self.place.left() };
        match error.kind() {
            ErrorKind::Interrupted => Ok(false),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.look(peer, blamed),
            ErrorKind::UnexpectedEof
            | ErrorKind::WriteZero
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected => Err(Fault::Closed { peer }),
            _ => Err(Fault::System { peer, message: error.to_string() }),
        }
    }

    fn look(&mut self, peer: usize, blamed: Option<usize>) -> Result<bool, Fault> {
        let (waited, timeout, sending) = (self.since.elapsed(), self.options.timeout, self.sending);
        if waited >= timeout {
            return Err(Fault::Timeout { peer, sending, waited, blamed });
        }
        if self.warned || waited < timeout / 4 {
            return Ok(false);
        }
        self.warned = true;
        let (rank, tag) = (self.place.rank, self.tag);
        (self.options.on_stall)(&Stall { rank, peer, sending, tag, waited, timeout, blamed });
        Ok(true)
    }
}
