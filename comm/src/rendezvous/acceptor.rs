//! The listening end: many strangers at once, few bytes and seconds for each, until the ranks are among them.

use super::Settings;
use super::handshake::{HELLO, Hello, Nonce, PROOF, Purpose, Side, WELCOME};
use super::security::{Token, random_bytes};
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The most connections that are accepted between two looks at the others.
const TURN: usize = 1024;

/// A listener with those who have not proved yet who they are. Nothing here blocks.
pub struct Acceptor {
    listener: TcpListener,
    purpose: Purpose,
    rank: usize,
    token: Token,
    settings: Settings,
    drop_log: DropLog,
    callers: Vec<Caller>,
}

/// A caller who knows the token.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, which does not block.
    pub stream: TcpStream,
    /// The caller's rank, as it says.
    pub rank: usize,
    /// The number of ranks, as it says.
    pub size: usize,
}

impl Acceptor {
    /// For callers that come to `rank` for `purpose`.
    ///
    /// # Errors
    /// A listener that does not take its settings.
    pub fn new(
        listener: TcpListener,
        purpose: Purpose,
        rank: usize,
        token: Token,
        settings: &Settings,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (drop_log, settings) = (DropLog::new(settings), settings.clone());
        Ok(Self { listener, purpose, rank, token, settings, drop_log, callers: Vec::new() })
    }

    /// Takes what has come; returns those who got through.
    pub fn poll(&mut self) -> Vec<Accepted> {
        self.drop_log.turn();
        self.accept();
        let mut accepted = Vec::new();
        for mut caller in std::mem::take(&mut self.callers) {
            match caller.advance(&self.token, self.purpose, self.rank, self.settings.handshake_timeout) {
                Ok(None) => self.callers.push(caller),
                Ok(Some(hello)) => {
                    let (rank, size) = (hello.from.into(), hello.size.into());
                    accepted.push(Accepted { stream: caller.stream, rank, size });
                }
                Err(why) => self.drop_log.dropped(caller.address, &why),
            }
        }
        accepted
    }

    /// A turn takes a bounded number, so that a flood does not stop the rest.
    fn accept(&mut self) {
        for _ in 0..TURN {
            match self.listener.accept() {
                Ok((stream, address)) => {
                    if self.callers.len() >= self.settings.pending {
                        // A rank sends its hello at once, so the oldest silent connection is the least likely to be one.
                        let silent =
                            self.callers.iter().position(|caller| caller.greeted.is_none()).unwrap_or(0);
                        let caller = self.callers.remove(silent);
                        let others = self.callers.len();
                        let why = format!(
                            "it has not said yet who it is, and {others} others are before it or wait"
                        );
                        self.drop_log.dropped(caller.address, &why);
                    }
                    match Caller::new(stream, address) {
                        Ok(caller) => self.callers.push(caller),
                        Err(why) => self.drop_log.dropped(address, &why.to_string()),
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // What is wrong with one connection, or with too many open files, passes; the join has a deadline.
                Err(e) => return self.drop_log.dropped("an unknown address", &e.to_string()),
            }
        }
    }
}

/// An accepted connection without a proof yet.
struct Caller {
    stream: TcpStream,
    address: SocketAddr,
    since: Instant,
    bytes: [u8; HELLO + PROOF],
    received: usize,
    greeted: Option<(Hello, Nonce)>,
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

    /// Goes on with what has come: the greeting once the caller is known, or why it is dropped.
    fn advance(
        &mut self,
        token: &Token,
        purpose: Purpose,
        rank: usize,
        handshake_timeout: Duration,
    ) -> Result<Option<Hello>, String> {
        while self.receive()? {
            let Some((hello, nonce)) = self.greeted else {
                self.greet(token, purpose, rank)?;
                continue;
            };
            let mut proof = [0; PROOF];
            proof.copy_from_slice(&self.bytes[HELLO..]);
            if !hello.verify(token, Side::Caller, &nonce, &proof) {
                return Err(format!("it says that it is rank {} and does not have the token", hello.from));
            }
            self.stream.write_all(&[WELCOME]).map_err(|e| e.to_string())?;
            return Ok(Some(hello));
        }
        match self.since.elapsed() >= handshake_timeout {
            true => Err(format!("it did not say who it is within {:.1} s", handshake_timeout.as_secs_f64())),
            false => Ok(None),
        }
    }

    /// Whether the greeting, or after it the proof, is all there. Reads no byte more.
    fn receive(&mut self) -> Result<bool, String> {
        let end = if self.greeted.is_some() { HELLO + PROOF } else { HELLO };
        while self.received < end {
            match self.stream.read(&mut self.bytes[self.received..end]) {
                Ok(0) => return Err("it went before it said who it is".into()),
                Ok(bytes) => self.received += bytes,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(true)
    }

    fn greet(&mut self, token: &Token, purpose: Purpose, rank: usize) -> Result<(), String> {
        let mut greeting = [0; HELLO];
        greeting.copy_from_slice(&self.bytes[..HELLO]);
        let hello = Hello::decode(&greeting).ok_or("it did not send the greeting of a rank")?;
        if hello.purpose != purpose || usize::from(hello.to) != rank {
            return Err(format!("rank {} did not mean to come here", hello.from));
        }
        let nonce = random_bytes().map_err(|e| e.to_string())?;
        let proof = hello.prove(token, Side::Host, &nonce);
        // A fresh connection takes this without waiting, or it is none of ours.
        self.stream.write_all(&[nonce, proof].concat()).map_err(|e| e.to_string())?;
        self.greeted = Some((hello, nonce));
        Ok(())
    }
}

/// Says at most some lines a second and counts the others.
struct DropLog {
    settings: Settings,
    since: Instant,
    lines: usize,
    withheld: usize,
}

impl DropLog {
    /// With the lines a second and the place for them of these settings.
    fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), since: Instant::now(), lines: 0, withheld: 0 }
    }

    /// Logs a dropped connection.
    fn dropped(&mut self, who: impl Display, why: &str) {
        self.turn();
        if self.lines < self.settings.lines {
            self.lines += 1;
            (self.settings.log)(&format!("dropped a connection from {who}: {why}"));
        } else {
            self.withheld += 1;
        }
    }

    /// Begins a new second if the last is over.
    fn turn(&mut self) {
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
