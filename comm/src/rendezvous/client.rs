//! Every rank but 0: finds the master, shows its fingerprint, and goes where the master says.

use super::acceptor::Acceptor;
use super::channel::{Channel, Message, TO_RANK};
use super::dialer::{Dialer, Request};
use super::error::Reason;
use super::fingerprint::Fingerprint;
use super::handshake::Purpose;
use super::neighbours::Ring;
use super::security::Security;
use super::{FAREWELL, LOOK, Place, Settings, Streams, listener};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How much longer than the master a rank waits, so that it hears from the master who is missing.
const SLACK: Duration = Duration::from_secs(5);

/// The streams to this rank's neighbours.
///
/// # Errors
/// What keeps this rank or, as the master tells, any other from joining.
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

/// Tries until the master answers.
pub(super) fn reach(place: &Place, security: &Security, settings: &Settings) -> Result<TcpStream, Reason> {
    let Place { rank, size, .. } = *place;
    let request = Request { purpose: Purpose::Join, from: rank, to: 0, size };
    let mut call = Dialer::new(request, security, settings.handshake_timeout, || place.resolve());
    let (since, mut said) = (Instant::now(), false);
    let who = format!("rank 0, the master at {},", place.name());
    loop {
        if let Some(stream) = call.poll()? {
            return Ok(stream);
        }
        let waited = since.elapsed();
        if waited >= settings.timeout {
            return Err(Reason::Unreachable { who, waited, why: call.last });
        }
        if waited >= settings.quiet && !said {
            (settings.log)(&format!("rank {rank} waits for {who} to answer: {}", call.last));
            said = true;
        }
        thread::sleep(LOOK);
    }
}

/// A rank that the master knows.
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
        let (listener, address) =
            listener(self.channel.local_address().map_err(system)?.ip(), self.security)?;
        let acceptor = Acceptor::new(listener, Purpose::Ring, rank, self.security.key(), self.settings)
            .map_err(system)?;
        self.send(&Message::Here { fingerprint: fingerprint.clone(), address })?;
        let mut ring = Ring::new(rank, acceptor, &self.table()?, self.security, self.settings)?;
        while !ring.poll()? {
            if self.receive()?.is_some() {
                return Err(Reason::Lost("the master speaks out of turn".into()));
            }
            thread::sleep(LOOK);
        }
        self.send(&Message::Connected)?;
        match self.wait()? {
            Message::Go => ring.into_streams(),
            _ => Err(Reason::Lost("the master speaks out of turn".into())),
        }
    }

    fn table(&mut self) -> Result<Vec<SocketAddr>, Reason> {
        match self.wait()? {
            Message::Table(addresses) if addresses.len() == self.place.size => {
                self.deadline = Instant::now() + self.settings.ring + SLACK;
                Ok(addresses)
            }
            _ => Err(Reason::Lost("the master sent no addresses of all ranks".into())),
        }
    }

    fn wait(&mut self) -> Result<Message, Reason> {
        loop {
            if let Some(message) = self.receive()? {
                return Ok(message);
            }
            if Instant::now() >= self.deadline {
                return Err(Reason::Lost(format!("the master at {} says nothing", self.place.name())));
            }
            thread::sleep(LOOK);
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
