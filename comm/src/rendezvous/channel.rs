//! What a rank and the master say to each other once they know each other: a length and JSON.

use super::fingerprint::Fingerprint;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest message to the master, in bytes.
pub const TO_MASTER: usize = 512 << 10;
/// The longest message to a rank, which has the addresses of 65,535 at most.
pub const TO_RANK: usize = 8 << 20;

/// The longest reason that travels, in characters.
const MOST_REASON: usize = 4000;

/// How long one end waits for the other to take a message.
const TAKE: Duration = Duration::from_secs(5);

/// What they say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// A rank: what must be the same on all, and where it listens for its left neighbour.
    Here {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// Its address in the ring.
        address: SocketAddr,
    },
    /// The master: where all ranks listen, in order.
    Table(Vec<SocketAddr>),
    /// A rank: both its neighbours are connected.
    Connected,
    /// The master: all are.
    Go,
    /// Either: it ends here.
    Refused(String),
}

/// A connection between a rank and the master.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    most: usize,
    inbox: Vec<u8>,
}

impl Channel {
    /// Over a stream that does not block, with messages of up to `most` bytes.
    pub fn new(stream: TcpStream, most: usize) -> Self {
        Self { stream, most, inbox: Vec::new() }
    }

    /// This end's address.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Sends a message; waits if the other end is slow to take it.
    pub fn send(&mut self, message: &Message) -> io::Result<()> {
        let text = serde_json::to_vec(message).map_err(io::Error::other)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(TAKE))?;
        self.stream.write_all(&[&length.to_le_bytes()[..], &text].concat())?;
        self.stream.set_nonblocking(true)
    }

    /// The next message, if it is all there.
    pub fn poll(&mut self) -> io::Result<Option<Message>> {
        loop {
            let wanted = match self.inbox.first_chunk::<4>() {
                None => 4,
                Some(length) => 4 + u32::from_le_bytes(*length) as usize,
            };
            if wanted > 4 + self.most {
                return Err(io::Error::other(format!("a message of {} bytes is too long", wanted - 4)));
            }
            if self.inbox.len() == wanted && wanted > 4 {
                let message = serde_json::from_slice(&self.inbox[4..]);
                self.inbox.clear();
                return message.map(Some).map_err(|e| io::Error::other(format!("it sent no message: {e}")));
            }
            if wanted == 4 && self.inbox.len() == 4 {
                return Err(io::Error::other("it sent an empty message"));
            }
            match (&self.stream).take((wanted - self.inbox.len()) as u64).read_to_end(&mut self.inbox) {
                Ok(0) => return Err(io::Error::other("it closed the connection")),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }

    /// Tells the other end why it ends here and sends no more.
    pub fn refuse(&mut self, why: &str) {
        // Who is gone needs no word.
        let _ = self.send(&Message::Refused(why.chars().take(MOST_REASON).collect()));
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until the other end has closed, so that closing this one does not cut off what it has not read yet.
    pub fn drain(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let ready =
            self.stream.set_nonblocking(false).and_then(|()| self.stream.set_read_timeout(Some(left)));
        let mut rest = [0; 1024];
        while ready.is_ok() && Instant::now() < deadline && self.stream.read(&mut rest).is_ok_and(|n| n > 0) {
        }
    }
}
