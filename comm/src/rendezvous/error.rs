//! Why a rank does not find the others.

use std::net::SocketAddr;
use std::time::Duration;

/// A rank that does not join the others.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rank {rank} of {size} does not join the others: {reason}")]
pub struct JoinError {
    /// The rank that tried.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// What is in the way.
    pub reason: Reason,
}

/// What is in the way.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Reason {
    /// Numbers that do not fit each other.
    #[error("{0}")]
    Place(String),
    /// A fingerprint with too much on it.
    #[error("{0}")]
    Fingerprint(String),
    /// The master's name leads nowhere.
    #[error("the master {name} cannot be found: {why}")]
    Resolve {
        /// Name and port.
        name: String,
        /// The system's words.
        why: String,
    },
    /// The master cannot listen at its address.
    #[error("cannot listen on {address}: {why}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What to do, or the system's words.
        why: String,
    },
    /// An address that others reach, and no token.
    #[error(
        "{address} is no loopback address and there is no token, so anybody could join: set SSMV_TOKEN to 64 \
         hexadecimal digits, the same on all ranks, or SSMV_TOKEN_FILE; in a network that you trust, --insecure"
    )]
    NoToken {
        /// The address.
        address: SocketAddr,
    },
    /// The process that answers does not know the token.
    #[error(
        "what answers at {address} does not have this job's token: another program listens there, or SSMV_TOKEN is \
         not the same on all ranks"
    )]
    Untrusted {
        /// The address.
        address: SocketAddr,
    },
    /// Nothing answers.
    #[error("{who} cannot be reached for {:.1} s: {why}", .waited.as_secs_f64())]
    Unreachable {
        /// The rank and its address.
        who: String,
        /// How long this rank tried.
        waited: Duration,
        /// What came of the last attempt.
        why: String,
    },
    /// Ranks that did not come.
    #[error("{} missing after {:.1} s", missing(.ranks), .waited.as_secs_f64())]
    Missing {
        /// The ranks.
        ranks: Vec<usize>,
        /// How long the master waited.
        waited: Duration,
    },
    /// Ranks that do not belong together, in the words that all of them report.
    #[error("{0}")]
    Refused(String),
    /// A rank that was there and went.
    #[error("{0}")]
    Lost(String),
    /// The operating system refuses something.
    #[error("{0}")]
    System(String),
}

fn missing(ranks: &[usize]) -> String {
    format!("{} {}", ranks_text(ranks), if ranks.len() == 1 { "is" } else { "are" })
}

/// "rank 3", "ranks 1, 2 and 5", or the first few of many.
pub fn ranks_text(ranks: &[usize]) -> String {
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
