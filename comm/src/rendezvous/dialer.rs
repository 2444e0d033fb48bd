//! The calling end: tries until the host answers and both have proved who they are.

use super::error::Reason;
use super::handshake::{ANSWER, Hello, PROOF, Purpose, Side, WELCOME};
use super::security::Security;
use super::security::{Token, random_bytes};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Between two rounds of attempts: at first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// How long one address may take to answer at all.
const REACH: Duration = Duration::from_secs(2);

/// Who calls whom for what.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// What for.
    pub purpose: Purpose,
    /// This rank.
    pub from: usize,
    /// The other rank.
    pub to: usize,
    /// The number of ranks.
    pub size: usize,
}

/// Attempts to reach a rank, one after another.
pub struct Dialer<'a> {
    request: Request,
    security: &'a Security,
    handshake_timeout: Duration,
    /// Where to look for the addresses, before each round.
    resolve: Box<dyn Fn() -> Result<Vec<SocketAddr>, Reason> + 'a>,
    untried: Vec<SocketAddr>,
    current: Option<Attempt>,
    next: Instant,
    pause: Duration,
    /// What came of the last attempt.
    pub last: String,
}

impl<'a> Dialer<'a> {
    /// To the rank behind any of the addresses that `resolve` gives; an attempt may take `handshake_timeout`.
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

    /// The connection once it stands. Blocks for no longer than it takes to reach an address.
    ///
    /// # Errors
    /// What another attempt would not change: an address that needs a token, a host that does not have it.
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
        let mut stream = TcpStream::connect_timeout(&address, REACH)?;
        // A port without a listener may be the one that the system chose for this end.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let nonce = random_bytes().map_err(io::Error::other)?;
        let Request { purpose, from, to, size } = request;
        // Ranks are no more than 65,535.
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
                Ok(false) => return Progress::Failed(format!("{} accepts and says nothing", self.address)),
                Err(e) => return Progress::Failed(format!("{}: {e}", self.address)),
            }
        }
    }

    /// Whether the answer, or after it the welcome, is all there. Reads no byte more.
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

    /// Checks the host's code and sends this rank's; whether the host has the token.
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
