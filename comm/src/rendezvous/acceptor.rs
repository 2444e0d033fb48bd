//! The listening end: many connections at once, with limits on bytes and time for each, until the ranks have connected.

use super::Settings;
use super::handshake::{Challenge, Connection, HELLO, Hello, PROOF, Purpose, Side, WELCOME};
use super::security::{Security, random_bytes};
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Limit of the connections that are accepted in one poll.
const ACCEPTS: usize = 1024;

/// A listener and its unauthenticated connections. Nothing here blocks.
pub struct Acceptor {
    listener: TcpListener,
    purpose: Purpose,
    rank: usize,
    security: Security,
    settings: Settings,
    drop_log: DropLog,
    callers: Vec<Caller>,
}

/// A connection from a caller that has the token.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, after its handshake.
    pub connection: Connection,
    /// The caller's rank, from its greeting.
    pub rank: usize,
    /// The number of ranks, from its greeting.
    pub size: usize,
}

impl Acceptor {
    /// Accepts connections to `rank` for `purpose`.
    ///
    /// # Errors
    /// The listener cannot be made non-blocking.
    pub fn new(
        listener: TcpListener,
        purpose: Purpose,
        rank: usize,
        security: &Security,
        settings: &Settings,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (drop_log, security, settings) = (DropLog::new(settings), security.clone(), settings.clone());
        Ok(Self { listener, purpose, rank, security, settings, drop_log, callers: Vec::new() })
    }

    /// Advances all connections; returns those that are now authenticated.
    pub fn poll(&mut self) -> Vec<Accepted> {
        self.drop_log.next_second();
        self.accept();
        let mut accepted = Vec::new();
        for mut caller in std::mem::take(&mut self.callers) {
            match caller.advance(&self.security, self.purpose, self.rank, self.settings.handshake_timeout) {
                Ok(None) => self.callers.push(caller),
                Ok(Some((hello, challenge))) => {
                    let seals = hello.seals(&self.security.key(), [Side::Host, Side::Caller], &challenge);
                    let (rank, size) = (hello.from.into(), hello.size.into());
                    let connection = Connection::new(caller.stream, seals, &challenge);
                    accepted.push(Accepted { connection, rank, size });
                }
                Err(why) => self.drop_log.dropped(caller.address, &why),
            }
        }
        accepted
    }

    /// Accepts a limited number of connections, so that a flood does not stop the handshakes.
    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok((stream, address)) => {
                    if self.callers.len() >= self.settings.pending {
                        // A rank sends its hello at once, so the oldest silent connection is the least likely to be one.
                        let silent =
                            self.callers.iter().position(|caller| caller.greeted.is_none()).unwrap_or(0);
                        let caller = self.callers.remove(silent);
                        let others = self.callers.len();
                        let why = format!("it sent no greeting, and {others} other connections are waiting");
                        self.drop_log.dropped(caller.address, &why);
                    }
                    match Caller::new(stream, address) {
                        Ok(caller) => self.callers.push(caller),
                        Err(why) => self.drop_log.dropped(address, &why.to_string()),
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // An error of one connection, or too many open files, is temporary; the join has a deadline.
                Err(e) => return self.drop_log.dropped("an unknown address", &e.to_string()),
            }
        }
    }
}

/// A connection during its handshake.
struct Caller {
    stream: TcpStream,
    address: SocketAddr,
    since: Instant,
    bytes: [u8; HELLO + PROOF],
    received: usize,
    greeted: Option<(Hello, Challenge)>,
}

impl Caller {
    fn new(stream: TcpStream, address: SocketAddr) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address,
            since: Instant::now(),
            bytes: [0; HELLO + PROOF],
            received: 0,
            greeted: None,
        })
    }

    /// Processes the received bytes. Returns the greeting of an authenticated caller and the
    /// challenge, or the reason to drop the connection.
    fn advance(
        &mut self,
        security: &Security,
        purpose: Purpose,
        rank: usize,
        handshake_timeout: Duration,
    ) -> Result<Option<(Hello, Challenge)>, String> {
        while self.receive()? {
            let Some((hello, challenge)) = self.greeted else {
                self.greet(security, purpose, rank)?;
                continue;
            };
            let mut proof = [0; PROOF];
            proof.copy_from_slice(&self.bytes[HELLO..]);
            if !hello.verify(&security.key(), Side::Caller, &challenge, &proof) {
                return Err(format!("it claims to be rank {} and does not have the token", hello.from));
            }
            self.stream.write_all(&[WELCOME]).map_err(|e| e.to_string())?;
            return Ok(Some((hello, challenge)));
        }
        match self.since.elapsed() >= handshake_timeout {
            true => Err(format!(
                "it did not complete the handshake within {:.1} s",
                handshake_timeout.as_secs_f64()
            )),
            false => Ok(None),
        }
    }

    /// Whether the greeting, or after it the proof, has arrived completely. Reads no further bytes.
    fn receive(&mut self) -> Result<bool, String> {
        let end = if self.greeted.is_some() { HELLO + PROOF } else { HELLO };
        while self.received < end {
            match self.stream.read(&mut self.bytes[self.received..end]) {
                Ok(0) => return Err("it closed the connection before it completed the handshake".into()),
                Ok(bytes) => self.received += bytes,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(true)
    }

    fn greet(&mut self, security: &Security, purpose: Purpose, rank: usize) -> Result<(), String> {
        let mut greeting = [0; HELLO];
        greeting.copy_from_slice(&self.bytes[..HELLO]);
        let hello = Hello::decode(&greeting).ok_or("it did not send the greeting of a rank")?;
        if hello.purpose != purpose || usize::from(hello.to) != rank {
            return Err(format!("rank {} called another rank or for another purpose", hello.from));
        }
        let nonce = random_bytes().map_err(|e| e.to_string())?;
        let challenge = hello.challenge(&nonce, security.wants_macs(self.address));
        let proof = hello.prove(&security.key(), Side::Host, &challenge);
        // The buffer of a new connection has space for this, or the caller is not a rank.
        self.stream.write_all(&[&challenge[..], &proof].concat()).map_err(|e| e.to_string())?;
        self.greeted = Some((hello, challenge));
        Ok(())
    }
}

/// Logs dropped connections: a limited number of lines a second, and the number of the others.
struct DropLog {
    settings: Settings,
    since: Instant,
    lines: usize,
    withheld: usize,
}

impl DropLog {
    fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), since: Instant::now(), lines: 0, withheld: 0 }
    }

    /// Logs a dropped connection.
    fn dropped(&mut self, who: impl Display, why: &str) {
        self.next_second();
        if self.lines < self.settings.lines {
            self.lines += 1;
            (self.settings.log)(&format!("dropped a connection from {who}: {why}"));
        } else {
            self.withheld += 1;
        }
    }

    /// Starts a new second if the last is over.
    fn next_second(&mut self) {
        if self.since.elapsed() >= Duration::from_secs(1) {
            self.report();
            (self.since, self.lines) = (Instant::now(), 0);
        }
    }

    fn report(&mut self) {
        if self.withheld > 0 {
            (self.settings.log)(&format!("dropped {} more connections", self.withheld));
            self.withheld = 0;
        }
    }
}

impl Drop for DropLog {
    fn drop(&mut self) {
        self.report();
    }
}
