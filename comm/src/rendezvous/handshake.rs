//! Both ends of a connection prove that they have the token; the calling end's code.
//!
//! | from | bytes |
//! | --- | --- |
//! | caller | magic, purpose, its rank, the host's rank, number of ranks, whether it requests MACs in the ring, a nonce |
//! | host | a nonce, whether the ring has MACs, HMAC-SHA256 as host |
//! | caller | HMAC-SHA256 as caller |
//! | host | one byte: accepted |
//!
//! Each code covers a label, the side that made it, all of the caller's greeting and the host's challenge. So a code is
//! not valid for the other side or on another connection. Another label makes the keys of the connection's two
//! directions in the same way: HMAC-SHA256 with the token as key. They authenticate the messages that follow
//! ([`Seal`]), which are not encrypted. On a connection of the ring they are used if one of its ends requests it; the
//! codes cover these flags.

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
use crate::seal::Seal;
use crate::tcp::Wire;

/// Size of a greeting in bytes.
pub const HELLO: usize = 48;
/// Size of a code in bytes.
pub const PROOF: usize = 32;
/// Size of the host's answer in bytes.
pub const ANSWER: usize = CHALLENGE + PROOF;
/// Size of the host's nonce and flag in bytes.
pub const CHALLENGE: usize = 33;
/// The host's byte for an accepted caller.
pub const WELCOME: u8 = b'+';

/// Limit of the bytes that are read from an unauthenticated connection.
pub const MOST_UNKNOWN: usize = 256;
const _: () = assert!(HELLO + PROOF <= MOST_UNKNOWN && ANSWER < MOST_UNKNOWN);

const MAGIC: [u8; 8] = *b"SSMRDV02";
const PROVES: &[u8] = b"ssmv-raw rendezvous 2\0";
const AUTHENTICATES: &[u8] = b"ssmv-raw session key 2\0";

/// A random number that is used once.
pub type Nonce = [u8; 32];

/// A nonce of the host, then 1 if the ring's connection has MACs.
pub type Challenge = [u8; CHALLENGE];

/// A connection after a successful handshake.
#[derive(Debug)]
pub struct Connection {
    /// The stream, in non-blocking mode.
    pub stream: TcpStream,
    /// Authenticates this end's messages.
    pub outbound: Seal,
    /// Authenticates the other end's messages.
    pub inbound: Seal,
    /// Whether the frames of the ring have MACs on this connection.
    pub macs: bool,
}

impl Connection {
    /// A stream, the seals of this end and of the other, and the challenge of the host.
    pub fn new(stream: TcpStream, [outbound, inbound]: [Seal; 2], challenge: &Challenge) -> Self {
        Self { stream, outbound, inbound, macs: challenge[CHALLENGE - 1] != 0 }
    }

    /// The connection on which the left neighbour calls and sends.
    pub fn into_left(self) -> Wire {
        Wire::new(self.stream, self.macs.then_some(self.inbound))
    }

    /// The connection on which this rank calls its right neighbour and sends.
    pub fn into_right(self) -> Wire {
        Wire::new(self.stream, self.macs.then_some(self.outbound))
    }
}

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
    /// Whether the caller requests MACs in the ring.
    pub macs: bool,
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
        bytes[15] = self.macs.into();
        bytes[16..].copy_from_slice(&self.nonce);
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
        nonce.copy_from_slice(&bytes[16..]);
        let hello =
            Self { purpose, from: number(9), to: number(11), size: number(13), macs: bytes[15] == 1, nonce };
        (bytes[..8] == MAGIC && bytes[15] <= 1).then_some(hello)
    }

    /// The host's answer to the caller's request for MACs: a challenge with this nonce.
    pub fn challenge(&self, nonce: &Nonce, macs: bool) -> Challenge {
        let mut challenge = [0; CHALLENGE];
        challenge[..32].copy_from_slice(nonce);
        challenge[32] = (self.macs || macs).into();
        challenge
    }

    /// The code of one side for the host's challenge.
    pub fn prove(&self, token: &Token, side: Side, host: &Challenge) -> [u8; PROOF] {
        self.code(PROVES, token, side, host).finalize().into_bytes().into()
    }

    /// Whether `proof` is the code of that side, in constant time.
    pub fn verify(&self, token: &Token, side: Side, host: &Challenge, proof: &[u8; PROOF]) -> bool {
        self.code(PROVES, token, side, host).verify(proof.into()).is_ok()
    }

    /// The seals of the messages that `sides` send.
    pub fn seals(&self, token: &Token, sides: [Side; 2], host: &Challenge) -> [Seal; 2] {
        sides.map(|side| {
            Seal::new(&self.code(AUTHENTICATES, token, side, host).finalize().into_bytes().into())
        })
    }

    fn code(&self, label: &[u8], token: &Token, side: Side, host: &Challenge) -> Hmac<Sha256> {
        // HMAC pads a short key with zeros.
        let mut key = [0; 64];
        key[..32].copy_from_slice(token.bytes());
        let mut code = Hmac::<Sha256>::new(&key.into());
        code.update(label);
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

/// The parameters of a connection to make.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The purpose of the connection.
    pub purpose: Purpose,
    /// Rank of the caller.
    pub from: usize,
    /// Rank of the called process.
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
    /// The host does not have the token, which a later attempt would repeat.
    pub fn poll(&mut self) -> Result<Option<Connection>, Reason> {
        if let Some(attempt) = self.current.take() {
            match attempt.advance(&self.security.key(), self.handshake_timeout) {
                Progress::Wait(attempt) => self.current = Some(attempt),
                Progress::Done(connection) => return Ok(Some(connection)),
                Progress::Untrusted(address) => return Err(Reason::Untrusted { address }),
                Progress::Failed(why) => self.last = why,
            }
        } else if let Some(address) = self.untried.pop() {
            match Attempt::new(self.request, address, self.security) {
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
    /// The host's challenge, once this rank has proved that it has the token.
    proved: Option<Challenge>,
}

enum Progress {
    Wait(Attempt),
    Done(Connection),
    Untrusted(SocketAddr),
    Failed(String),
}

impl Attempt {
    fn new(request: Request, address: SocketAddr, security: &Security) -> io::Result<Self> {
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
        let hello = Hello {
            purpose,
            from: from as u16,
            to: to as u16,
            size: size as u16,
            macs: security.wants_macs(address),
            nonce,
        };
        stream.write_all(&hello.encode())?;
        let since = Instant::now();
        Ok(Self { stream, address, since, hello, bytes: [0; ANSWER + 1], received: 0, proved: None })
    }

    fn advance(mut self, token: &Token, handshake_timeout: Duration) -> Progress {
        loop {
            match (self.receive(), &self.proved) {
                (Ok(true), Some(challenge)) if self.bytes[ANSWER] == WELCOME => {
                    let seals = self.hello.seals(token, [Side::Caller, Side::Host], challenge);
                    return Progress::Done(Connection::new(self.stream, seals, challenge));
                }
                (Ok(true), Some(_)) => return Progress::Untrusted(self.address),
                (Ok(true), None) => match self.prove(token) {
                    Ok(Some(challenge)) => self.proved = Some(challenge),
                    Ok(None) => return Progress::Untrusted(self.address),
                    Err(e) => return Progress::Failed(format!("{}: {e}", self.address)),
                },
                (Ok(false), _) if self.since.elapsed() < handshake_timeout => return Progress::Wait(self),
                (Ok(false), _) => {
                    return Progress::Failed(format!(
                        "{} accepts the connection and sends nothing",
                        self.address
                    ));
                }
                (Err(e), _) => return Progress::Failed(format!("{}: {e}", self.address)),
            }
        }
    }

    /// Whether the answer, or after it the host's last byte, has arrived completely. Reads no further bytes.
    fn receive(&mut self) -> io::Result<bool> {
        let end = if self.proved.is_some() { ANSWER + 1 } else { ANSWER };
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

    /// Checks the host's code and sends this rank's. Returns the challenge, or `None` if the host does not have the token.
    fn prove(&mut self, token: &Token) -> io::Result<Option<Challenge>> {
        let (mut challenge, mut proof) = ([0; CHALLENGE], [0; PROOF]);
        challenge.copy_from_slice(&self.bytes[..CHALLENGE]);
        proof.copy_from_slice(&self.bytes[CHALLENGE..ANSWER]);
        if !self.hello.verify(token, Side::Host, &challenge, &proof) {
            return Ok(None);
        }
        self.stream.write_all(&self.hello.prove(token, Side::Caller, &challenge))?;
        Ok(Some(challenge))
    }
}
