//! How the ranks of a job find each other, make sure of each other, and connect.
//!
//! 1. Rank 0, the master, listens at an address that all know ([`Place`]). The others call until it answers.
//! 2. Both ends of every connection prove that they have the job's [`Token`] (`handshake.rs`). Until then a stranger
//!    gets 256 bytes, a few seconds and one of a few places (`acceptor.rs`); it is dropped, logged, and the join goes on.
//! 3. Each rank shows its [`Fingerprint`]. Ranks that come twice, count differently or differ in a field are all refused, with
//!    the same words.
//! 4. The master sends the addresses of all, and each rank connects to its right neighbour, with the same proof.
//! 5. When all neighbours are connected the master says go, and every listener closes.
//!
//! One thread a rank does it all, without blocking and with one time limit for the whole. What follows the proof is neither
//! encrypted nor authenticated: an attacker on the network path can read and change it.

mod acceptor;
mod channel;
mod client;
mod dialer;
mod error;
mod fingerprint;
mod handshake;
mod neighbours;
mod place;
mod security;
mod server;
#[cfg(test)]
mod tests;

pub use error::{JoinError, Reason};
pub use fingerprint::Fingerprint;
pub use place::Place;
pub use security::{Security, SecurityError, Token, TokenError};

use super::communicator::Communicator;
use super::say;
use super::tcp::{self, TcpLink};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at the connections.
const LOOK: Duration = Duration::from_millis(2);

/// How long those at the other ends have to read why it ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// From the left and to the right neighbour.
type Streams = (TcpStream, TcpStream);

/// Limits of a join, and whom to tell.
#[derive(Clone)]
pub struct Settings {
    /// How long the ranks wait for each other.
    pub timeout: Duration,
    /// How long connecting the neighbours may take after that.
    pub ring: Duration,
    /// How long a connection may take to prove who it is.
    pub handshake_timeout: Duration,
    /// How many connections may be doing so at once; further ones are dropped.
    pub pending: usize,
    /// How long ranks that do not belong together wait for those who have not received it.
    pub grace: Duration,
    /// How long a rank waits for the master, or the master for ranks, before it says so.
    pub quiet: Duration,
    /// Lines a second about dropped connections.
    pub lines: usize,
    /// Where lines go.
    pub log: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for Settings {
    /// Five minutes for the ranks, 30 s for the ring, 5 s and 64 places for strangers, lines to standard error.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            ring: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(5),
            pending: 64,
            grace: Duration::from_secs(5),
            quiet: Duration::from_secs(3),
            lines: 5,
            log: Arc::new(say),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Settings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Joins the other ranks, for which it waits five minutes, or `options.timeout` where that is longer: they may have a lot to
/// read before they come.
///
/// # Errors
/// A rank that is missing, does not have the token or has another fingerprint, an address that cannot be used. All ranks that
/// have reached the master report the same.
pub fn join(
    place: &Place,
    fingerprint: &Fingerprint,
    security: &Security,
    options: tcp::Options,
) -> Result<Communicator, JoinError> {
    let settings = Settings::default();
    let settings = Settings { timeout: settings.timeout.max(options.timeout), ..settings };
    join_with(place, fingerprint, security, options, &settings)
}

/// As [`join`], with limits of your own.
///
/// # Errors
/// As [`join`].
pub fn join_with(
    place: &Place,
    fingerprint: &Fingerprint,
    security: &Security,
    options: tcp::Options,
    settings: &Settings,
) -> Result<Communicator, JoinError> {
    let Place { rank, size, .. } = *place;
    let fail = |reason| JoinError { rank, size, reason };
    place.check().and_then(|()| fingerprint.check()).map_err(fail)?;
    if size == 1 {
        return Ok(Communicator::alone());
    }
    let streams = match rank {
        0 => server::gather(place, fingerprint, security, settings),
        _ => client::join(place, fingerprint, security, settings),
    };
    let (left, right) = streams.map_err(fail)?;
    let link = TcpLink::new(rank, size, left, right, options);
    let link = link.map_err(|e| fail(Reason::System(format!("the ring's connections fail: {e}"))))?;
    Communicator::new(rank, size, Box::new(link)).map_err(|e| fail(Reason::Place(e.to_string())))
}

/// A listener for the left neighbour, on one interface, at a port of the system's choice.
fn listener(interface: IpAddr, security: &Security) -> Result<(TcpListener, SocketAddr), Reason> {
    let address = SocketAddr::new(interface, 0);
    security.allows(address)?;
    let bound = TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|e| Reason::Bind { address, why: e.to_string() })?;
    Ok((listener, address))
}
