//! The proof of both ends of a connection that they know the token, and the calling end.
//!
//! | from | bytes |
//! | --- | --- |
//! | caller | magic, purpose, its rank, the host's rank, number of ranks, a nonce |
//! | host | a nonce, HMAC-SHA256 as host |
//! | caller | HMAC-SHA256 as caller |
//! | host | one byte: accepted |
//!
//! Each code covers a label, the side that made it, all of the caller's greeting and both nonces. So a code is not valid for the
//! other side or on another connection. It authenticates the ends of the connection; the bytes that follow are neither encrypted
//! nor authenticated.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{
    Reason,
    security::{Security, Token, random_bytes},
};

/// Size of a greeting in bytes.
pub const HELLO: usize = 47;
/// Size of a code in bytes.
pub const PROOF: usize = 32;
/// Size of the host's answer in bytes.
pub const ANSWER: usize = 32 + PROOF;
/// The host's byte for an accepted caller.
pub const WELCOME: u8 = b'+';

/// Limit of the bytes that are read from an unauthenticated connection.
pub const MOST_UNKNOWN: usize = 256;
const _: () = assert!(HELLO + PROOF <= MOST_UNKNOWN && ANSWER < MOST_UNKNOWN);

const MAGIC: [u8; 8] = *b"SSMRDV01";
const LABEL: &[u8] = b"ssmv-raw rendezvous 1\0";

/// A random number that is used once.
pub type Nonce = [u8; 32];

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A rank connects to the master.
    Join = 1,
    /// A rank connects to its right neighbour.
    Ring = 2,
}

/// The end of a connection that makes a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that connected.
    Caller = 1,
    /// The end that listened.
    Host = 2,
}

/// The greeting: the first bytes of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The purpose of the connection.
    pub purpose: Purpose,
    /// The rank of the caller.
    pub from: u16,
    /// The rank that it calls.
    pub to: u16,
    /// The number of ranks in the caller's configuration.
    pub size: u16,
    /// The nonce of the caller.
    pub nonce: Nonce,
}

impl Hello {
    /// The greeting as bytes.
    pub fn encode(&self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = self.purpose as u8;
        bytes[9..11].copy_from_slice(&self.from.to_le_bytes());
        bytes[11..13].copy_from_slice(&self.to.to_le_bytes());
        bytes[13..15].copy_from_slice(&self.size.to_le_bytes());
        bytes[15..].copy_from_slice(&self.nonce);
        bytes
    }

    /// The greeting of these bytes; `None` if they are not a greeting.
    pub fn decode(bytes: &[u8; HELLO]) -> Option<Self> {
        let purpose = match bytes[8] {
            1 => Purpose::Join,
            2 => Purpose::Ring,
            _ => return None,
        };
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let mut nonce = [0; 32];
        nonce.copy_from_slice(&bytes[15..]);
        let hello = Self { purpose, from: number(9), to: number(11), size: number(13), nonce };
        (bytes[..8] == MAGIC).then_some(hello)
    }

    /// The code of one side for the host's nonce.
    pub fn prove(&self, token: &Token, side: Side, host: &Nonce) -> [u8; PROOF] {
        self.code(token, side, host).finalize().into_bytes().into()
    }

    /// Whether `proof` is the code of that side, in constant time.
    pub fn verify(&self, token: &Token, side: Side, host: &Nonce, proof: &[u8; PROOF]) -> bool {
        self.code(token, side, host).verify(proof.into()).is_ok()
    }

    fn code(&self, token: &Token, side: Side, host: &Nonce) -> Hmac<Sha256> {
        // HMAC pads a short key with zeros.
        let mut key = [0; 64];
        key[..32].copy_from_slice(token.bytes());
        let mut code = Hmac::<Sha256>::new(&key.into());
        code.update(LABEL);
        code.update(&[side as u8]);
        code.update(&self.encode());
        code.update(host);
        code
    }
}

/// The first and the longest pause between two rounds of attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// Timeout for connecting to an address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that a rank wants.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The purpose of the connection.
    pub purpose: Purpose,
    /// The calling rank.
    pub from: usize,
    /// The rank to call.
    pub to: usize,
    /// The number of ranks.
    pub size: usize,
}

/// Attempts to reach a rank, one after another.
pub struct Dialer<'a> {
    request: Request,
    security: &'a Security,
    handshake_timeout: Duration,
    /// Returns the addresses to try, before each round.
    resolve: Box<dyn Fn() -> Result<Vec<SocketAddr>, Reason> + 'a>,
    untried: Vec<SocketAddr>,
    current: Option<Attempt>,
    next: Instant,
    pause: Duration,
    /// The error of the last attempt.
    pub last: String,
}

impl<'a> Dialer<'a> {
    /// Attempts to reach the rank at one of the addresses that `resolve` returns; `handshake_timeout` limits an attempt.
    pub fn new(
        request: Request,
        security: &'a Security,
        handshake_timeout: Duration,
        resolve: impl Fn() -> Result<Vec<SocketAddr>, Reason> + 'a,
    ) -> Self {
        let (untried, last) = (Vec::new(), "no attempt yet".into());
        let (resolve, next, pause) = (Box::new(resolve), Instant::now(), PAUSES[0]);
        Self { request, security, handshake_timeout, resolve, untried, current: None, next, pause, last }
    }

    /// The connection, after the handshake. Blocks only while it connects to an address.
    ///
    /// # Errors
    /// Errors that a later attempt would repeat: an address that needs a token, a host without the token.
    pub fn poll(&mut self) -> Result<Option<TcpStream>, Reason> {
        if let Some(attempt) = self.current.take() {
            match attempt.advance(&self.security.key(), self.handshake_timeout) {
                Progress::Wait(attempt) => self.current = Some(attempt),
                Progress::Done(stream) => return Ok(Some(stream)),
                Progress::Untrusted(address) => return Err(Reason::Untrusted { address }),
                Progress::Failed(why) => self.last = why,
            }
        } else if let Some(address) = self.untried.pop() {
            self.security.allows(address)?;
            match Attempt::new(self.request, address) {
                Ok(attempt) => self.current = Some(attempt),
                Err(e) => self.last = format!("{address}: {e}"),
            }
        } else if Instant::now() >= self.next {
            match (self.resolve)() {
                Ok(addresses) => self.untried = addresses.into_iter().rev().collect(),
                Err(reason) => self.last = reason.to_string(),
            }
            self.next = Instant::now() + self.pause;
            self.pause = (2 * self.pause).min(PAUSES[1]);
        }
        Ok(None)
    }
}

/// A connection on which the host has not answered yet.
struct Attempt {
    stream: TcpStream,
    address: SocketAddr,
    since: Instant,
    hello: Hello,
    bytes: [u8; ANSWER + 1],
    received: usize,
    proved: bool,
}

enum Progress {
    Wait(Attempt),
    Done(TcpStream),
    Untrusted(SocketAddr),
    Failed(String),
}

impl Attempt {
    fn new(request: Request, address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        // A port without a listener may be the one that the system chose for this end.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let nonce = random_bytes().map_err(io::Error::other)?;
        let Request { purpose, from, to, size } = request;
        // There are at most 65,535 ranks.
        let hello = Hello { purpose, from: from as u16, to: to as u16, size: size as u16, nonce };
        stream.write_all(&hello.encode())?;
        let since = Instant::now();
        Ok(Self { stream, address, since, hello, bytes: [0; ANSWER + 1], received: 0, proved: false })
    }

    fn advance(mut self, token: &Token, handshake_timeout: Duration) -> Progress {
        loop {
            match self.receive() {
                Ok(true) if self.proved && self.bytes[ANSWER] == WELCOME => {
                    return Progress::Done(self.stream);
                }
                Ok(true) if self.proved => return Progress::Untrusted(self.address),
                Ok(true) => match self.prove(token) {
                    Ok(true) => self.proved = true,
                    Ok(false) => return Progress::Untrusted(self.address),
                    Err(e) => return Progress::Failed(format!("{}: {e}", self.address)),
                },
                Ok(false) if self.since.elapsed() < handshake_timeout => return Progress::Wait(self),
                Ok(false) => {
                    return Progress::Failed(format!(
                        "{} accepts the connection and sends nothing",
                        self.address
                    ));
                }
                Err(e) => return Progress::Failed(format!("{}: {e}", self.address)),
            }
        }
    }

    /// Whether the answer, or after it the host's last byte, has arrived completely. Reads no byte more.
    fn receive(&mut self) -> io::Result<bool> {
        let end = if self.proved { ANSWER + 1 } else { ANSWER };
        while self.received < end {
            match self.stream.read(&mut self.bytes[self.received..end]) {
                Ok(0) => return Err(io::Error::other("it closed the connection")),
                Ok(bytes) => self.received += bytes,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Checks the host's code and sends this rank's. Returns whether the host has the token.
    fn prove(&mut self, token: &Token) -> io::Result<bool> {
        let (mut nonce, mut proof) = ([0; 32], [0; PROOF]);
        nonce.copy_from_slice(&self.bytes[..32]);
        proof.copy_from_slice(&self.bytes[32..ANSWER]);
        if !self.hello.verify(token, Side::Host, &nonce, &proof) {
            return Ok(false);
        }
        self.stream.write_all(&self.hello.prove(token, Side::Caller, &nonce))?;
        Ok(true)
    }
}
