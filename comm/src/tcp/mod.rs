//! The ring over TCP connections.
//!
//! A rank has one connection to each neighbour. The caller's thread receives and another thread sends, so that both directions
//! work at the same time. [`rendezvous`](super::rendezvous) makes the two streams.

mod sender;
#[cfg(test)]
mod setup;
mod wait;

#[cfg(test)]
pub use setup::{join, pair};

use super::error::Fault;
use super::frame::{HEADER, Header, MOST_TEXT, Operation, Tag};
use super::link::{Block, Link};
use super::say;
use super::seal::{Codes, SEAL, Seal};
use sender::{RELAYED_FAULT_TIMEOUT, Sender};
use std::fmt;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wait::Wait;

/// A frame that was not sent or received within a quarter of the timeout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// The rank that waits.
    pub rank: usize,
    /// Rank of the neighbour.
    pub peer: usize,
    /// Whether this rank sends to it or receives from it.
    pub sending: bool,
    /// Identifies the frame in its collective.
    pub tag: Tag,
    /// The time since the start of the frame.
    pub waited: Duration,
    /// The time without a byte after which this rank fails.
    pub timeout: Duration,
    /// The rank that the neighbour reports to wait for.
    pub blamed: Option<usize>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { rank, peer, tag, .. } = self;
        let (what, waited) = (if self.sending { "take" } else { "send" }, self.waited.as_secs_f64());
        write!(
            f,
            "rank {rank}: {} {}: waiting {waited:.1} s for rank {peer} to {what}",
            tag.operation, tag.sequence
        )?;
        if let Some(blamed) = self.blamed {
            write!(f, ", which waits for rank {blamed}")?;
        }
        write!(f, "; giving up after {:.1} s", self.timeout.as_secs_f64())
    }
}

/// Timeout and warnings of a ring.
#[derive(Clone)]
pub struct Options {
    /// The time without a byte after which a rank fails.
    pub timeout: Duration,
    /// Called by the waiting thread after a quarter of the timeout, and when the rank that causes the wait is known.
    pub on_stall: Arc<dyn Fn(&Stall) + Send + Sync>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Options").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Default for Options {
    /// Five minutes; stalls go to standard error.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(300), on_stall: Arc::new(|stall| say(&stall.to_string())) }
    }
}

/// The longest time that a thread blocks in one call.
const POLL: Duration = Duration::from_millis(250);

/// A rank's position in the ring.
#[derive(Debug, Clone, Copy)]
struct Position {
    rank: usize,
    size: usize,
}

impl Position {
    fn left(self) -> usize {
        (self.rank + self.size - 1) % self.size
    }

    fn right(self) -> usize {
        (self.rank + 1) % self.size
    }
}

/// The connection to a neighbour, of which the ring uses one direction.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Authenticates the frames; without it they have a CRC only.
    seal: Option<Seal>,
}

impl Wire {
    /// A connection whose frames have MACs if there is a seal.
    pub(crate) fn new(stream: TcpStream, seal: Option<Seal>) -> Self {
        Self { stream, seal }
    }
}

impl From<TcpStream> for Wire {
    /// A connection whose frames have no MAC.
    fn from(stream: TcpStream) -> Self {
        Self::new(stream, None)
    }
}

/// A received header and its MACs; zeros without MACs.
struct Head {
    header: Header,
    codes: Codes,
}

/// A [`Link`] over two TCP streams. Dropping it waits until all queued frames are sent.
#[derive(Debug)]
pub struct TcpLink {
    position: Position,
    left: TcpStream,
    seal: Option<Seal>,
    sender: Sender,
    options: Options,
    /// The rank that the left neighbour reported to wait for.
    blamed: Option<usize>,
    /// When a [`check`](Link::check) first found the right neighbour's connection closed.
    gone: Option<Instant>,
}

impl TcpLink {
    /// Rank `rank` of `size` with new streams to its neighbours.
    ///
    /// # Errors
    /// The streams cannot be set up, or the thread cannot start.
    pub fn new(
        rank: usize,
        size: usize,
        left: impl Into<Wire>,
        right: impl Into<Wire>,
        options: Options,
    ) -> io::Result<Self> {
        let (left, right) = (left.into(), right.into());
        let position = Position { rank, size: size.max(1) };
        for stream in [&left.stream, &right.stream] {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            // Calls return often enough to check the clock and the other direction; `Wait` has the timeout.
            let poll = (options.timeout / 16).clamp(Duration::from_millis(1), POLL);
            stream.set_read_timeout(Some(poll))?;
            stream.set_write_timeout(Some(poll))?;
        }
        let sender = Sender::start(position, right, options.clone())?;
        let Wire { stream: left, seal } = left;
        Ok(Self { position, left, seal, sender, options, blamed: None, gone: None })
    }

    /// Fills `buffer` from the left neighbour.
    fn read(&mut self, buffer: &mut [u8], wait: &mut Wait) -> Result<(), Fault> {
        let peer = self.position.left();
        let mut done = 0;
        while done < buffer.len() {
            match self.left.read(&mut buffer[done..]) {
                Ok(0) => return Err(Fault::Closed { peer }),
                Ok(bytes) => {
                    done += bytes;
                    wait.moved();
                }
                Err(e) => {
                    if let Some(fault) = self.sender.overdue() {
                        return Err(fault);
                    }
                    if wait.judge(&e, self.blamed, &self.options)? {
                        self.sender.waiting(self.blamed.unwrap_or(peer));
                    }
                }
            }
        }
        Ok(())
    }

    /// The left neighbour waits for `rank`: forwards this, unless it is this rank.
    fn note_waiting(&mut self, rank: u64) {
        let Ok(rank) = usize::try_from(rank) else { return };
        if rank < self.position.size && rank != self.position.rank && self.blamed != Some(rank) {
            self.blamed = Some(rank);
            self.sender.waiting(rank);
        }
    }

    /// Size of a received header with its MACs in bytes.
    fn head_bytes(&self) -> usize {
        if self.seal.is_some() { HEADER + SEAL } else { HEADER }
    }

    /// Receives a header and checks it.
    fn read_head(&mut self, wait: &mut Wait) -> Result<Head, Fault> {
        let mut bytes = [0; HEADER + SEAL];
        let used = self.head_bytes();
        self.read(&mut bytes[..used], wait)?;
        self.decode(&bytes)
    }

    /// Checks a header and its MACs. A wrong checksum is reported before a wrong MAC: it is damage, not an attack.
    fn decode(&self, bytes: &[u8; HEADER + SEAL]) -> Result<Head, Fault> {
        let peer = self.position.left();
        let (mut header, mut codes) = ([0; HEADER], [0; SEAL]);
        header.copy_from_slice(&bytes[..HEADER]);
        codes.copy_from_slice(&bytes[HEADER..]);
        let decoded = Header::decode(&header, peer);
        match &self.seal {
            Some(seal)
                if !seal.accepts_header(&header, &codes)
                    && !matches!(decoded, Err(Fault::Checksum { .. })) =>
            {
                Err(Fault::Forged { peer, part: "header", number: seal.number() })
            }
            _ => Ok(Head { header: decoded?, codes }),
        }
    }

    /// Receives the payload of `head` and checks it.
    fn read_payload(&mut self, head: &Head, payload: &mut [u8], wait: &mut Wait) -> Result<(), Fault> {
        self.read(payload, wait)?;
        let (peer, sent, found) = (self.position.left(), head.header.crc, crc32c::crc32c(payload));
        if sent != found {
            return Err(Fault::Checksum { peer, part: "payload", sent, found });
        }
        let Some(seal) = &mut self.seal else { return Ok(()) };
        let number = seal.number();
        match seal.accepts_payload(payload, &head.codes) {
            true => Ok(()),
            false => Err(Fault::Forged { peer, part: "payload", number }),
        }
    }

    /// Receives the failure of the left neighbour, without control characters for the terminal.
    fn read_failure(&mut self, head: &Head, wait: &mut Wait) -> Result<Fault, Fault> {
        let mut text = [0; MOST_TEXT];
        let text = &mut text[..(head.header.bytes as usize).min(MOST_TEXT)];
        self.read_payload(head, text, wait)?;
        Ok(Fault::Reported { text: String::from_utf8_lossy(text).replace(char::is_control, " ") })
    }
}

impl Link for TcpLink {
    fn send(&mut self, tag: Tag, block: Block) -> Result<(), Fault> {
        self.sender.send(tag, block)
    }

    fn receive(&mut self, tag: Tag, payload: &mut [u8]) -> Result<u32, Fault> {
        let (peer, bytes) = (self.position.left(), payload.len());
        let mut wait = Wait::new(self.position, false, tag);
        loop {
            let head = self.read_head(&mut wait)?;
            let header = head.header;
            match header.tag.operation {
                Operation::Waiting => {
                    self.read_payload(&head, &mut [], &mut wait)?;
                    self.note_waiting(header.tag.count);
                }
                Operation::Failed => return Err(self.read_failure(&head, &mut wait)?),
                _ if header.tag != tag => {
                    return Err(Fault::Mismatch { peer, theirs: header.tag, ours: tag });
                }
                _ if header.bytes as usize != bytes => {
                    let message =
                        format!("{tag} has {} bytes of payload where {bytes} are due", header.bytes);
                    return Err(Fault::Frame { peer, message });
                }
                _ => {
                    self.read_payload(&head, payload, &mut wait)?;
                    self.blamed = None;
                    return Ok(header.crc);
                }
            }
        }
    }

    fn check(&mut self) -> Result<(), Fault> {
        // Check the left connection first: the reason for a failure arrives there, before the connections close.
        let (peer, used, mut bytes) = (self.position.left(), self.head_bytes(), [0; HEADER + SEAL]);
        while peek(&self.left, peer, &mut bytes[..used])? == used {
            let head = self.decode(&bytes)?;
            let tag = head.header.tag;
            let mut wait = Wait::new(self.position, false, tag);
            match tag.operation {
                Operation::Failed => {
                    self.read(&mut bytes[..used], &mut wait)?;
                    return Err(self.read_failure(&head, &mut wait)?);
                }
                Operation::Waiting => {
                    self.read(&mut bytes[..used], &mut wait)?;
                    self.read_payload(&head, &mut [], &mut wait)?;
                    self.note_waiting(tag.count);
                }
                _ => break,
            }
        }
        match peek(self.sender.stream(), self.position.right(), &mut [0]) {
            Ok(_) => Ok(()),
            // The reason arrives from the left, round the ring.
            Err(_) if self.gone.get_or_insert_with(Instant::now).elapsed() < RELAYED_FAULT_TIMEOUT => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    fn block(&mut self, bytes: usize) -> Block {
        self.sender.block(bytes)
    }

    fn recycle(&mut self, block: Block) {
        self.sender.recycle(block);
    }

    fn close(&mut self, why: &str) {
        self.sender.close(why);
        // The other end or the sender may have closed it.
        let _ = self.left.shutdown(Shutdown::Both);
    }
}

/// Copies received bytes into `bytes` without consuming them, and returns their number. Does not block.
fn peek(stream: &TcpStream, peer: usize, bytes: &mut [u8]) -> Result<usize, Fault> {
    let system = |e: io::Error| Fault::System { peer, message: e.to_string() };
    stream.set_nonblocking(true).map_err(system)?;
    let seen = stream.peek(bytes);
    stream.set_nonblocking(false).map_err(system)?;
    match seen {
        Ok(0) => Err(Fault::Closed { peer }),
        Ok(seen) => Ok(seen),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        Err(_) => Err(Fault::Closed { peer }),
    }
}
