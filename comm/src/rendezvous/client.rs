//! All ranks except 0: connect to the master, send their fingerprint, and connect to their neighbours. The master uses
//! the same channel and connects to its neighbours in the same way.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    FAREWELL, POLL, Reason, Settings, Streams,
    acceptor::Acceptor,
    handshake::{Connection, Dialer, Purpose, Request},
    listener,
    rank::{Fingerprint, Place},
    security::Security,
};
use crate::{
    seal::{SEAL, Seal},
    tcp::Wire,
};

/// A rank waits this much longer than the master, so that it receives the master's list of missing ranks.
const SLACK: Duration = Duration::from_secs(5);

/// Joins the other ranks and returns the streams to this rank's neighbours.
///
/// # Errors
/// This rank cannot join, or the master reports that another rank cannot.
pub fn join(
    place: &Place,
    fingerprint: &Fingerprint,
    security: &Security,
    settings: &Settings,
) -> Result<Streams, Reason> {
    let mut client = Client {
        place,
        security,
        settings,
        channel: Channel::new(reach(place, security, settings)?, TO_RANK),
        deadline: Instant::now() + settings.timeout + SLACK,
    };
    let result = client.run(fingerprint);
    match &result {
        Ok(_) | Err(Reason::Refused(_)) => {}
        Err(reason) => {
            client.channel.refuse(&reason.to_string());
            client.channel.drain(Instant::now() + FAREWELL);
        }
    }
    result
}

/// Connects to the master, and repeats until it answers.
pub(super) fn reach(place: &Place, security: &Security, settings: &Settings) -> Result<Connection, Reason> {
    let Place { rank, size, .. } = *place;
    let request = Request { purpose: Purpose::Join, from: rank, to: 0, size };
    let mut dialer = Dialer::new(request, security, settings.handshake_timeout, || place.resolve());
    let (since, mut logged) = (Instant::now(), false);
    let who = format!("rank 0, the master at {},", place.name());
    loop {
        if let Some(connection) = dialer.poll()? {
            return Ok(connection);
        }
        let waited = since.elapsed();
        if waited >= settings.timeout {
            return Err(Reason::Unreachable { who, waited, why: dialer.last });
        }
        if waited >= settings.quiet && !logged {
            (settings.log)(&format!("rank {rank} waits for {who} to answer: {}", dialer.last));
            logged = true;
        }
        thread::sleep(POLL);
    }
}

/// A rank that is connected to the master.
struct Client<'a> {
    place: &'a Place,
    security: &'a Security,
    settings: &'a Settings,
    channel: Channel,
    deadline: Instant,
}

impl Client<'_> {
    fn run(&mut self, fingerprint: &Fingerprint) -> Result<Streams, Reason> {
        let rank = self.place.rank;
        let system = |e: std::io::Error| Reason::System(e.to_string());
        let (listener, address) = listener(self.channel.local_address().map_err(system)?.ip())?;
        let acceptor =
            Acceptor::new(listener, Purpose::Ring, rank, self.security, self.settings).map_err(system)?;
        self.send(&Message::Here { fingerprint: fingerprint.clone(), address })?;
        let mut ring = Ring::new(rank, acceptor, &self.table()?, self.security, self.settings)?;
        while !ring.poll()? {
            if self.receive()?.is_some() {
                return Err(Reason::Lost("the master sent an unexpected message".into()));
            }
            thread::sleep(POLL);
        }
        self.send(&Message::Connected)?;
        match self.wait()? {
            Message::Go => ring.into_streams(),
            _ => Err(Reason::Lost("the master sent an unexpected message".into())),
        }
    }

    fn table(&mut self) -> Result<Vec<SocketAddr>, Reason> {
        match self.wait()? {
            Message::Table(addresses) if addresses.len() == self.place.size => {
                self.deadline = Instant::now() + self.settings.ring + SLACK;
                Ok(addresses)
            }
            _ => Err(Reason::Lost("the master did not send the addresses of all ranks".into())),
        }
    }

    fn wait(&mut self) -> Result<Message, Reason> {
        loop {
            if let Some(message) = self.receive()? {
                return Ok(message);
            }
            if Instant::now() >= self.deadline {
                return Err(Reason::Lost(format!("the master at {} sends nothing", self.place.name())));
            }
            thread::sleep(POLL);
        }
    }

    fn receive(&mut self) -> Result<Option<Message>, Reason> {
        match self.channel.poll() {
            Ok(Some(Message::Refused(why))) => Err(Reason::Refused(why)),
            Ok(message) => Ok(message),
            Err(e) => Err(self.lost(&e)),
        }
    }

    fn send(&mut self, message: &Message) -> Result<(), Reason> {
        self.channel.send(message).map_err(|e| self.lost(&e))
    }

    fn lost(&self, error: &std::io::Error) -> Reason {
        Reason::Lost(format!("rank 0, the master at {}, is gone: {error}", self.place.name()))
    }
}

/// Size limit of a message to the master in bytes.
pub const TO_MASTER: usize = 512 << 10;
/// Size limit of a message to a rank in bytes: the addresses of 65,535 ranks.
pub const TO_RANK: usize = 8 << 20;

/// Length limit of a reason in characters.
const MOST_REASON: usize = 4000;

/// Timeout for sending a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A message between a rank and the master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// From a rank, after the handshake.
    Here {
        /// Must be equal on all ranks.
        fingerprint: Fingerprint,
        /// Address at which it listens for its left neighbour.
        address: SocketAddr,
    },
    /// From the master: the addresses where the ranks listen, in the order of the ranks.
    Table(Vec<SocketAddr>),
    /// From a rank: both its neighbours are connected.
    Connected,
    /// From the master: all ranks are connected.
    Go,
    /// From both: the join fails, with the reason.
    Refused(String),
}

/// Size of a message's length and MACs in bytes.
const HEAD: usize = 4 + SEAL;

/// A connection between a rank and the master. A message is its length in bytes (u32, little-endian), its MACs, and JSON.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    outbound: Seal,
    inbound: Seal,
    most: usize,
    inbox: Vec<u8>,
}

impl Channel {
    /// A channel over a connection; received messages have at most `most` bytes.
    pub fn new(connection: Connection, most: usize) -> Self {
        let Connection { stream, outbound, inbound, .. } = connection;
        Self { stream, outbound, inbound, most, inbox: Vec::new() }
    }

    /// The address of this end.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Sends a message and blocks until it is in the system's buffer.
    pub fn send(&mut self, message: &Message) -> io::Result<()> {
        let text = serde_json::to_vec(message).map_err(io::Error::other)?;
        self.send_text(&text)
    }

    /// Sends these bytes as a message.
    pub fn send_text(&mut self, text: &[u8]) -> io::Result<()> {
        let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_le_bytes();
        let codes = self.outbound.seal(&length, text);
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(SEND_TIMEOUT))?;
        self.stream.write_all(&[&length[..], &codes, text].concat())?;
        self.stream.set_nonblocking(true)
    }

    /// The next message, if it has arrived completely.
    pub fn poll(&mut self) -> io::Result<Option<Message>> {
        loop {
            let mut wanted = HEAD;
            if let Some((head, text)) = self.inbox.split_first_chunk::<HEAD>() {
                let (mut length, mut codes) = ([0; 4], [0; SEAL]);
                length.copy_from_slice(&head[..4]);
                codes.copy_from_slice(&head[4..]);
                if !self.inbound.accepts_header(&length, &codes) {
                    return Err(forged());
                }
                let bytes = u32::from_le_bytes(length) as usize;
                if bytes == 0 {
                    return Err(io::Error::other("it sent an empty message"));
                }
                if bytes > self.most {
                    return Err(io::Error::other(format!("a message of {bytes} bytes is too long")));
                }
                if text.len() == bytes {
                    let is_authentic = self.inbound.accepts_payload(text, &codes);
                    if !is_authentic {
                        return Err(forged());
                    }
                    let message = serde_json::from_slice(text);
                    self.inbox.clear();
                    return message
                        .map(Some)
                        .map_err(|e| io::Error::other(format!("it sent an invalid message: {e}")));
                }
                wanted += bytes;
            }
            match (&self.stream).take((wanted - self.inbox.len()) as u64).read_to_end(&mut self.inbox) {
                Ok(0) => return Err(io::Error::other("it closed the connection")),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends the other end the reason for a failure, as the last message.
    pub fn refuse(&mut self, why: &str) {
        // The other end may be gone.
        let _ = self.send(&Message::Refused(why.chars().take(MOST_REASON).collect()));
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until the other end has closed: closing this end earlier could discard bytes that it has not read.
    pub fn drain(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let ready =
            self.stream.set_nonblocking(false).and_then(|()| self.stream.set_read_timeout(Some(left)));
        let mut rest = [0; 1024];
        while ready.is_ok() && Instant::now() < deadline && self.stream.read(&mut rest).is_ok_and(|n| n > 0) {
        }
    }
}

fn forged() -> io::Error {
    io::Error::other(
        "a message has a wrong MAC: it was changed, repeated, removed or reordered between the ranks",
    )
}

/// The connections of a rank to its neighbours.
pub struct Ring<'a> {
    rank: usize,
    size: usize,
    acceptor: Acceptor,
    dialer: Dialer<'a>,
    address: SocketAddr,
    since: Instant,
    settings: &'a Settings,
    left: Option<Wire>,
    right: Option<Wire>,
}

impl<'a> Ring<'a> {
    /// Starts to connect: `acceptor` accepts the left neighbour, and the right neighbour's address is in `addresses`, which are
    /// in the order of the ranks.
    ///
    /// # Errors
    /// `addresses` is empty.
    pub fn new(
        rank: usize,
        acceptor: Acceptor,
        addresses: &[SocketAddr],
        security: &'a Security,
        settings: &'a Settings,
    ) -> Result<Self, Reason> {
        let size = addresses.len();
        let to = (rank + 1) % size.max(1);
        let Some(&address) = addresses.get(to) else {
            return Err(Reason::Lost("the master sent no addresses".into()));
        };
        let request = Request { purpose: Purpose::Ring, from: rank, to, size };
        let dialer = Dialer::new(request, security, settings.handshake_timeout, move || Ok(vec![address]));
        let since = Instant::now();
        Ok(Self { rank, size, acceptor, dialer, address, since, settings, left: None, right: None })
    }

    /// Whether both neighbours are connected.
    ///
    /// # Errors
    /// A neighbour does not connect before the timeout.
    pub fn poll(&mut self) -> Result<bool, Reason> {
        let left = (self.rank + self.size - 1) % self.size;
        if self.left.is_none() {
            let accepted = self.acceptor.poll();
            self.left = accepted
                .into_iter()
                .find(|accepted| accepted.rank == left && accepted.size == self.size)
                .map(|accepted| accepted.connection.into_left());
        }
        if self.right.is_none() {
            self.right = self.dialer.poll()?.map(Connection::into_right);
        }
        let waited = self.since.elapsed();
        match (&self.left, &self.right) {
            (Some(_), Some(_)) => Ok(true),
            _ if waited < self.settings.ring => Ok(false),
            (_, None) => {
                let who = format!("rank {} at {}", (self.rank + 1) % self.size, self.address);
                Err(Reason::Unreachable { who, waited, why: self.dialer.last.clone() })
            }
            (None, _) => Err(Reason::Lost(format!(
                "rank {left} has not connected to rank {} for {:.1} s",
                self.rank,
                waited.as_secs_f64()
            ))),
        }
    }

    /// The streams from the left and to the right neighbour. Closes the listener.
    ///
    /// # Errors
    /// A neighbour is not connected.
    pub fn into_streams(self) -> Result<Streams, Reason> {
        self.left.zip(self.right).ok_or_else(|| Reason::Lost("the ring is not connected".into()))
    }
}
