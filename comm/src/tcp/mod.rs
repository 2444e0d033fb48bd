//! The ring over TCP.
//!
//! A rank has one connection a neighbour. This thread receives; a thread of its own sends, so that both directions move
//! at the same time. The code that connects the ranks passes the two streams ([`rendezvous`](super::rendezvous)).

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
use sender::{RELAYED_FAULT_TIMEOUT, Sender};
use std::fmt;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wait::Wait;

/// A frame that has not come or gone within a quarter of the timeout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// This rank.
    pub rank: usize,
    /// The neighbour.
    pub peer: usize,
    /// Whether this rank is sending to it or receiving from it.
    pub sending: bool,
    /// The frame.
    pub tag: Tag,
    /// How long it takes already.
    pub waited: Duration,
    /// After how long without a byte this rank gives up.
    pub timeout: Duration,
    /// The rank that the neighbour says it waits for.
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

/// How long to wait, and whom to tell.
#[derive(Clone)]
pub struct Options {
    /// After this long without a byte a rank gives up.
    pub timeout: Duration,
    /// Called when a frame takes a quarter of it, and when it turns out who is behind that, from the thread that waits.
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

/// The longest that a thread sleeps without a look at the rest.
const LOOK: Duration = Duration::from_millis(250);

/// A rank's place among the others.
#[derive(Debug, Clone, Copy)]
struct Place {
    rank: usize,
    size: usize,
}

impl Place {
    fn left(self) -> usize {
        (self.rank + self.size - 1) % self.size
    }

    fn right(self) -> usize {
        (self.rank + 1) % self.size
    }
}

/// A [`Link`] over two TCP streams. Dropping it waits until what is queued has left.
#[derive(Debug)]
pub struct TcpLink {
    place: Place,
    left: TcpStream,
    sender: Sender,
    options: Options,
    /// The rank that the left neighbour said it waits for.
    blamed: Option<usize>,
    /// Since when a [`check`](Link::check) found the right neighbour gone.
    gone: Option<Instant>,
}

impl TcpLink {
    /// Rank `rank` of `size` with streams to its neighbours, on which nothing is under way.
    ///
    /// # Errors
    /// A stream that does not take its settings, a thread that does not start.
    pub fn new(
        rank: usize,
        size: usize,
        left: TcpStream,
        right: TcpStream,
        options: Options,
    ) -> io::Result<Self> {
        let place = Place { rank, size: size.max(1) };
        for stream in [&left, &right] {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            // Waits end often enough to look at the clock and at the other direction; the limits are `Wait`'s.
            let look = (options.timeout / 16).clamp(Duration::from_millis(1), LOOK);
            stream.set_read_timeout(Some(look))?;
            stream.set_write_timeout(Some(look))?;
        }
        let sender = Sender::start(place, right, options.clone())?;
        Ok(Self { place, left, sender, options, blamed: None, gone: None })
    }

    /// Fills `buffer` from the left neighbour.
    fn read(&mut self, buffer: &mut [u8], wait: &mut Wait) -> Result<(), Fault> {
        let peer = self.place.left();
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

    /// The left neighbour says that it waits for `rank`: passed on, unless it is this rank that all wait for.
    fn note_waiting(&mut self, rank: u64) {
        let Ok(rank) = usize::try_from(rank) else { return };
        if rank < self.place.size && rank != self.place.rank && self.blamed != Some(rank) {
            self.blamed = Some(rank);
            self.sender.waiting(rank);
        }
    }

    /// Fills `payload` with that of `header`, and checks it.
    fn read_payload(&mut self, header: &Header, payload: &mut [u8], wait: &mut Wait) -> Result<(), Fault> {
        self.read(payload, wait)?;
        let (peer, sent, found) = (self.place.left(), header.crc, crc32c::crc32c(payload));
        if sent == found { Ok(()) } else { Err(Fault::Checksum { peer, part: "payload", sent, found }) }
    }

    /// The failure that the left neighbour tells, without anything that a terminal would obey.
    fn told(&mut self, header: &Header, wait: &mut Wait) -> Result<Fault, Fault> {
        let mut text = [0; MOST_TEXT];
        let text = &mut text[..(header.bytes as usize).min(MOST_TEXT)];
        self.read_payload(header, text, wait)?;
        Ok(Fault::Told { text: String::from_utf8_lossy(text).replace(char::is_control, " ") })
    }
}

impl Link for TcpLink {
    fn send(&mut self, tag: Tag, block: Block) -> Result<(), Fault> {
        self.sender.send(tag, block)
    }

    fn receive(&mut self, tag: Tag, payload: &mut [u8]) -> Result<u32, Fault> {
        let (peer, bytes) = (self.place.left(), payload.len());
        let mut wait = Wait::new(self.place, false, tag);
        loop {
            let mut header = [0; HEADER];
            self.read(&mut header, &mut wait)?;
            let header = Header::decode(&header, peer)?;
            match header.tag.operation {
                Operation::Waiting => self.note_waiting(header.tag.count),
                Operation::Failed => return Err(self.told(&header, &mut wait)?),
                _ if header.tag != tag => {
                    return Err(Fault::Mismatch { peer, theirs: header.tag, ours: tag });
                }
                _ if header.bytes as usize != bytes => {
                    let message =
                        format!("{tag} has {} bytes of payload where {bytes} are due", header.bytes);
                    return Err(Fault::Frame { peer, message });
                }
                _ => {
                    self.read_payload(&header, payload, &mut wait)?;
                    self.blamed = None;
                    return Ok(header.crc);
                }
            }
        }
    }

    fn check(&mut self) -> Result<(), Fault> {
        // The left one first: a failure that goes round the ring comes from there, before the connections close.
        let (peer, mut bytes) = (self.place.left(), [0; HEADER]);
        while look(&self.left, peer, &mut bytes)? == HEADER {
            let header = Header::decode(&bytes, peer)?;
            let mut wait = Wait::new(self.place, false, header.tag);
            match header.tag.operation {
                Operation::Failed => {
                    self.read(&mut bytes, &mut wait)?;
                    return Err(self.told(&header, &mut wait)?);
                }
                Operation::Waiting => {
                    self.read(&mut bytes, &mut wait)?;
                    self.note_waiting(header.tag.count);
                }
                _ => break,
            }
        }
        match look(self.sender.stream(), self.place.right(), &mut [0]) {
            Ok(_) => Ok(()),
            // Why it is gone comes from the left, round the ring.
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
        // It may be closed already, by the other end or by the sender.
        let _ = self.left.shutdown(Shutdown::Both);
    }
}

/// How many of the bytes that wait in a stream fit in `bytes`, which gets them and leaves them there.
fn look(stream: &TcpStream, peer: usize, bytes: &mut [u8]) -> Result<usize, Fault> {
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
