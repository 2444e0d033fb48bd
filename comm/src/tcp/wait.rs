//! How long a rank waits for a neighbour.

use super::{Options, Place, Stall};
use crate::error::Fault;
use crate::frame::Tag;
use std::io::{self, ErrorKind};
use std::time::Instant;

/// The wait for one frame: a warning when it takes a quarter of the timeout, an error when no byte moves for
/// all of it.
///
/// The word that the neighbour waits itself is bytes that move. So the first rank behind a stall gives up
/// first, and the others hear from it which rank it was.
pub struct Wait {
    place: Place,
    sending: bool,
    tag: Tag,
    begun: Instant,
    moved: Instant,
    /// The rank that was blamed in the last warning.
    warned: Option<Option<usize>>,
}

impl Wait {
    /// Starts to wait for the right neighbour if `sending`, otherwise for the left.
    pub fn new(place: Place, sending: bool, tag: Tag) -> Self {
        let now = Instant::now();
        Self { place, sending, tag, begun: now, moved: now, warned: None }
    }

    /// Bytes moved.
    pub fn moved(&mut self) {
        self.moved = Instant::now();
    }

    /// What an error of a stream means: to go on waiting (true once, at the first warning), or the end. Warns again
    /// when it is another rank that the neighbour waits for.
    ///
    /// # Errors
    /// The fault, with `blamed` as the rank that the neighbour waits for.
    pub fn judge(
        &mut self,
        error: &io::Error,
        blamed: Option<usize>,
        options: &Options,
    ) -> Result<bool, Fault> {
        let peer = if self.sending { self.place.right() } else { self.place.left() };
        match error.kind() {
            ErrorKind::Interrupted => Ok(false),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.look(peer, blamed, options),
            ErrorKind::UnexpectedEof
            | ErrorKind::WriteZero
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected => Err(Fault::Closed { peer }),
            _ => Err(Fault::System { peer, message: error.to_string() }),
        }
    }

    fn look(&mut self, peer: usize, blamed: Option<usize>, options: &Options) -> Result<bool, Fault> {
        let (timeout, sending, still) = (options.timeout, self.sending, self.moved.elapsed());
        if still >= timeout {
            return Err(Fault::Timeout { peer, sending, waited: still, blamed });
        }
        let waited = self.begun.elapsed();
        if waited < timeout / 4 || self.warned == Some(blamed) {
            return Ok(false);
        }
        let first = self.warned.replace(blamed).is_none();
        let (rank, tag) = (self.place.rank, self.tag);
        (options.on_stall)(&Stall { rank, peer, sending, tag, waited, timeout, blamed });
        Ok(first)
    }
}
