//! The listening end: many strangers at once, few bytes and seconds for each, until the ranks are among them.

use super::Settings;
use super::challenge::{HELLO, Hello, Nonce, PROOF, Purpose, Side, WELCOME};
use super::journal::Journal;
use super::token::{Token, random_bytes};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The most connections that are accepted between two looks at the others.
const TURN: usize = 1024;

/// A listener with those who have not proved yet who they are. Nothing here blocks.
pub struct Gate {
    listener: TcpListener,
    purpose: Purpose,
    rank: usize,
    token: Token,
    settings: Settings,
    journal: Journal,
    callers: Vec<Caller>,
}

/// A caller who knows the token.
#[derive(Debug)]
pub struct Entrant {
    /// The connection, which does not block.
    pub stream: TcpStream,
    /// The caller's rank, as it says.
    pub rank: usize,
    /// The number of ranks, as it says.
    pub size: usize,
}

impl Gate {
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
        let (journal, settings) = (Journal::new(settings), settings.clone());
        Ok(Self { listener, purpose, rank, token, settings, journal, callers: Vec::new() })
    }

    /// Takes what has come; returns those who got through.
    pub fn poll(&mut self) -> Vec<Entrant> {
        self.journal.turn();
        self.accept();
        let mut entrants = Vec::new();
        for mut caller in std::mem::take(&mut self.callers) {
            match caller.advance(&self.token, self.purpose, self.rank, self.settings.patience) {
                Ok(None) => self.callers.push(caller),
                Ok(Some(hello)) => {
                    let (rank, size) = (hello.from.into(), hello.size.into());
                    entrants.push(Entrant { stream: caller.stream, rank, size });
                }
                Err(why) => self.journal.dropped(caller.address, &why),
            }
        }
        entrants
    }

    /// A turn takes a bounded number, so that a flood does not stop the rest.
    fn accept(&mut self) {
        for _ in 0..TURN {
            match self.listener.accept() {
                Ok((stream, address)) => {
                    if self.callers.len() >= self.settings.pending {
                        // A rank says who it is at once: whoever has kept a place longest is the least likely to be one.
                        let silent =
                            self.callers.iter().position(|caller| caller.greeted.is_none()).unwrap_or(0);
                        let caller = self.callers.remove(silent);
                        let others = self.callers.len();
                        let why = format!(
                            "it has not said yet who it is, and {others} others are before it or wait"
                        );
                        self.journal.dropped(caller.address, &why);
                    }
                    match Caller::new(stream, address) {
                        Ok(caller) => self.callers.push(caller),
                        Err(why) => self.journal.dropped(address, &why.to_string()),
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // What is wrong with one connection, or with too many open files, passes; the join has a deadline.
                Err(e) => return self.journal.dropped("an unknown address", &e.to_string()),
            }
        }
    }
}

/// Somebody who has connected.
struct Caller {
    stream: TcpStream,
    address: SocketAddr,
    since: Instant,
    bytes: [u8; HELLO + PROOF],
    heard: usize,
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
            heard: 0,
            greeted: None,
        })
    }

    /// Goes on with what has come: the greeting once the caller is known, or why it is dropped.
    fn advance(
        &mut self,
        token: &Token,
        purpose: Purpose,
        rank: usize,
        patience: Duration,
    ) -> Result<Option<Hello>, String> {
        while self.hear()? {
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
        match self.since.elapsed() >= patience {
            true => Err(format!("it did not say who it is within {:.1} s", patience.as_secs_f64())),
            false => Ok(None),
        }
    }

    /// Whether the greeting, or after it the proof, is all there. Reads no byte more.
    fn hear(&mut self) -> Result<bool, String> {
        let end = if self.greeted.is_some() { HELLO + PROOF } else { HELLO };
        while self.heard < end {
            match self.stream.read(&mut self.bytes[self.heard..end]) {
                Ok(0) => return Err("it went before it said who it is".into()),
                Ok(bytes) => self.heard += bytes,
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
        let hello = Hello::decode(&greeting).ok_or("what it sent is no greeting of a rank")?;
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
