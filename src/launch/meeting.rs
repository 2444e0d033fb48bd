//! Where the ranks of a job meet, and the secret by which they know each other.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;

use crate::{Error, Result};
use ssmv_comm::rendezvous::Token;

/// The secret of a job. Its own text is never printed, nor put on a command line.
#[derive(Clone)]
pub enum Secret {
    /// As ranks read it from their environment.
    Text(String),
    /// The file that ranks read it from.
    File(PathBuf),
    /// None: every connection is accepted.
    None,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::None => f.write_str("None"),
        }
    }
}

impl Secret {
    /// 256 bits from the system, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// A system that gives no random numbers.
    pub fn random() -> Result<Self> {
        let token = Token::random().map_err(|e| Error::Failure(e.to_string()))?;
        Ok(Self::Text(token.to_hex()))
    }
}

/// Where rank 0 listens, and the token that it asks for.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    /// A name or an address of the machine with rank 0.
    pub address: String,
    /// Rank 0's port.
    pub port: u16,
    /// The job's secret.
    pub token: Secret,
}

/// `port`, or some free one for 0, having made sure that rank 0 can listen there.
///
/// # Errors
/// One that cannot be listened on, with the address.
pub(super) fn free_port(address: &str, port: u16) -> Result<u16> {
    let listening = TcpListener::bind((address, port)).and_then(|listener| listener.local_addr());
    listening.map(|local| local.port()).map_err(|e| {
        let what = match e.kind() {
            ErrorKind::AddrInUse => "is in use: give another --master-port".to_owned(),
            _ => format!("cannot be listened on: {e}; check --master-addr and --master-port"),
        };
        Error::Failure(format!("{address}:{port} {what}"))
    })
}
