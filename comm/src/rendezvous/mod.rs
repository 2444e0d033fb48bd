//! How the ranks of a job find and authenticate each other, and connect.
//!
//! 1. Rank 0, the master, listens at an address that all ranks know ([`Place`]). The others try to connect until it answers.
//! 2. Both ends of every connection prove that they have the job's [`Token`] (`handshake.rs`). Until then at most 256 bytes are
//!    read from a connection, for a few seconds, and the number of such connections is limited (`acceptor.rs`). Others are
//!    dropped and logged, and the join goes on.
//! 3. Each rank sends its [`Fingerprint`]. If a rank connects twice, or the numbers of ranks or the fingerprints differ, all ranks
//!    get the same error.
//! 4. The master sends the addresses of all ranks. Each rank connects to its right neighbour, with the same proof.
//! 5. When all neighbours are connected, the master sends a message to all, and every listener closes.
//!
//! One thread in each rank does all this without blocking, with one time limit. After the proof, every message between
//! a rank and the master has a MAC with keys of that connection. The frames of the ring have MACs too, if [`Security`]
//! requires them. Nothing is encrypted: an attacker on the network path can read it.

mod acceptor;
mod client;
mod handshake;
mod local;
mod rank;
mod security;
mod server;
#[cfg(test)]
mod tests;

pub use rank::{Fingerprint, Place};
pub use security::{Security, SecurityError, Token, TokenError};

use super::communicator::Communicator;
use super::say;
use super::tcp::{self, TcpLink, Wire};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two polls of the connections.
const POLL: Duration = Duration::from_millis(2);

/// Time for the other ends to read the reason for a failure.
const FAREWELL: Duration = Duration::from_millis(500);

/// The connections from the left and to the right neighbour.
type Streams = (Wire, Wire);

/// Limits of a join, and its log.
#[derive(Clone)]
pub struct Settings {
    /// Timeout for the ranks to connect to the master.
    pub timeout: Duration,
    /// Timeout for the connections between neighbours after that.
    pub ring: Duration,
    /// Timeout for the handshake of a connection.
    pub handshake_timeout: Duration,
    /// Limit of the connections in the handshake; more are dropped.
    pub pending: usize,
    /// After a conflict, how long the master waits for more ranks, so that they get the error too.
    pub grace: Duration,
    /// How long a rank waits for the others before it logs that it waits.
    pub quiet: Duration,
    /// Limit of log lines per second about dropped connections.
    pub lines: usize,
    /// Folder of the token that ranks of one machine share; `None`: XDG_RUNTIME_DIR, else one in the temporary directory.
    pub token_folder: Option<PathBuf>,
    /// Function that prints a line of the log.
    pub log: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for Settings {
    /// Five minutes for the ranks, 30 s for the neighbours, 5 s for a handshake, 64 connections; the log is standard error.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            ring: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(5),
            pending: 64,
            grace: Duration::from_secs(5),
            quiet: Duration::from_secs(3),
            lines: 5,
            token_folder: None,
            log: Arc::new(say),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Settings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Joins the other ranks. The timeout is five minutes or `options.timeout`, the longer one, as the ranks may read much data
/// before they join.
///
/// # Errors
/// A rank is missing, has no token or another fingerprint, or an address cannot be used. All ranks that are connected to the
/// master get the same error.
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

/// As [`join`], with other limits.
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
    let security = security.complete(place, settings).map_err(fail)?;
    let streams = match rank {
        0 => server::gather(place, fingerprint, &security, settings),
        _ => client::join(place, fingerprint, &security, settings),
    };
    let (left, right) = streams.map_err(fail)?;
    let link = TcpLink::new(rank, size, left, right, options);
    let link = link.map_err(|e| fail(Reason::System(format!("the ring's connections fail: {e}"))))?;
    Communicator::new(rank, size, Box::new(link)).map_err(|e| fail(Reason::Place(e.to_string())))
}

/// A listener for the left neighbour on one interface, at a free port.
fn listener(interface: IpAddr) -> Result<(TcpListener, SocketAddr), Reason> {
    let address = SocketAddr::new(interface, 0);
    let bound = TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|e| Reason::Bind { address, why: e.to_string() })?;
    Ok((listener, address))
}

/// A rank cannot join the others.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rank {rank} of {size} does not join the others: {reason}")]
pub struct JoinError {
    /// The rank that reports the error.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// The reason why it cannot join.
    pub reason: Reason,
}

/// The reason why a rank cannot join.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Reason {
    /// The rank's numbers or the master's address are invalid.
    #[error("{0}")]
    Place(String),
    /// The fingerprint exceeds a limit.
    #[error("{0}")]
    Fingerprint(String),
    /// The master's name has no usable address.
    #[error("the master {name} cannot be found: {why}")]
    Resolve {
        /// The master as `host:port`.
        name: String,
        /// Message of the operating system.
        why: String,
    },
    /// The master cannot listen at its address.
    #[error("cannot listen on {address}: {why}")]
    Bind {
        /// The socket address.
        address: SocketAddr,
        /// The reason with advice, or the system's message.
        why: String,
    },
    /// The ranks are on several machines and have no token.
    #[error(
        "the ranks are on several machines without a token, so any process could join: set SSMV_TOKEN to 64 \
         hexadecimal digits, the same on all ranks, or SSMV_TOKEN_FILE; in a network that you trust, --insecure"
    )]
    NoToken,
    /// The token file that the ranks of this machine share cannot be used.
    #[error("{0}; the ranks of one machine share it unless SSMV_TOKEN or SSMV_TOKEN_FILE is set")]
    TokenFile(TokenError),
    /// The process that answers does not have the token.
    #[error(
        "the process at {address} does not have this job's token: another program listens there, or the \
         ranks have different tokens: set SSMV_TOKEN, the same on all of them"
    )]
    Untrusted {
        /// The socket address.
        address: SocketAddr,
    },
    /// A rank does not answer.
    #[error("{who} cannot be reached for {:.1} s: {why}", .waited.as_secs_f64())]
    Unreachable {
        /// The rank and its address.
        who: String,
        /// How long this rank tried.
        waited: Duration,
        /// The error of the last attempt.
        why: String,
    },
    /// Ranks did not connect before the timeout.
    #[error("{} missing after {:.1} s", missing(.ranks), .waited.as_secs_f64())]
    Missing {
        /// The ranks that are missing.
        ranks: Vec<usize>,
        /// How long the master waited.
        waited: Duration,
    },
    /// The ranks do not agree; all of them report the same message.
    #[error("{0}")]
    Refused(String),
    /// The connection to a rank was lost.
    #[error("{0}")]
    Lost(String),
    /// A call of the operating system failed.
    #[error("{0}")]
    System(String),
}

fn missing(ranks: &[usize]) -> String {
    format!("{} {}", ranks_text(ranks), if ranks.len() == 1 { "is" } else { "are" })
}

/// "rank 3", "ranks 1, 2 and 5", or the first few of many.
fn ranks_text(ranks: &[usize]) -> String {
    const SHOWN: usize = 8;
    let list = |ranks: &[usize]| ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    match ranks {
        [] => "no rank".into(),
        [one] => format!("rank {one}"),
        [most @ .., last] if ranks.len() <= SHOWN => format!("ranks {} and {last}", list(most)),
        _ => {
            format!("ranks {} and {} more", list(ranks.get(..SHOWN).unwrap_or(ranks)), ranks.len() - SHOWN)
        }
    }
}
