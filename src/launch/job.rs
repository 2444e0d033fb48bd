//! A job: the command of its ranks, their environment, and the address and secret with which they connect.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ssmv_comm::rendezvous::Token;

use super::LAUNCHER;
use crate::{Error, Result};

/// Number of ranks, and which of them run on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of ranks on each machine.
    pub local_ranks: u32,
    /// Number of machines in the job.
    pub nodes: u32,
    /// Number of this machine, from 0.
    pub node: u32,
}

impl Layout {
    /// Number of ranks on all machines.
    pub fn ranks(&self) -> u32 {
        self.local_ranks.saturating_mul(self.nodes)
    }

    /// Number among all ranks of the rank `local` of this machine.
    pub fn rank(&self, local: u32) -> u32 {
        self.node.saturating_mul(self.local_ranks).saturating_add(local)
    }
}

/// Restarts of the ranks after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarts {
    /// Maximum number of restarts.
    pub most: u32,
    /// Run folder of the ranks' `--out`; they resume from its last checkpoint.
    pub out: PathBuf,
}

/// The ranks to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Program of every rank.
    pub program: PathBuf,
    /// Arguments of the program.
    pub arguments: Vec<OsString>,
    /// Number of ranks on each machine.
    pub layout: Layout,
    /// Name or address of the machine with rank 0.
    pub address: String,
    /// Port of rank 0; `None`: a free port, chosen at every start.
    pub port: Option<u16>,
    /// Secret of the job; `None`: a new one at every start.
    pub token: Option<Secret>,
    /// Environment variables of every rank, in addition to those of its place.
    pub environment: Vec<(String, OsString)>,
    /// Time for the other ranks to end by themselves after one has failed.
    pub grace: Duration,
    /// Restarts after a failure; `None`: no restart.
    pub restarts: Option<Restarts>,
}

impl Job {
    /// Address, port and secret for the next start.
    ///
    /// # Errors
    /// Rank 0 cannot listen on the address.
    pub(super) fn next_endpoint(&self) -> Result<Endpoint> {
        let mut port = self.port.unwrap_or(0);
        if self.layout.node == 0 {
            port = free_port(&self.address, port)?;
        }
        let token = self.token.clone().map_or_else(Secret::random, Ok)?;
        Ok(Endpoint { address: self.address.clone(), port, token })
    }

    /// Command of the rank `local` of this machine, after `restarts` restarts.
    pub(super) fn command(
        &self,
        arguments: &[OsString],
        endpoint: &Endpoint,
        local: u32,
        restarts: u32,
    ) -> Command {
        let mut command = Command::new(&self.program);
        // On loopback only root can change bytes on the way; other connections have MACs all the same.
        if self.token.is_none() && std::env::var_os("SSMV_MAC").is_none() {
            command.env("SSMV_MAC", "off");
        }
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("RANK", self.layout.rank(local).to_string())
            .env("LOCAL_RANK", local.to_string())
            .env("WORLD_SIZE", self.layout.ranks().to_string())
            .env("LOCAL_WORLD_SIZE", self.layout.local_ranks.to_string())
            .env("MASTER_ADDR", &endpoint.address)
            .env("SSMV_PORT", endpoint.port.to_string())
            .env("SSMV_RESTART", restarts.to_string())
            .env(LAUNCHER, std::process::id().to_string())
            .env_remove("SSMV_TOKEN")
            .env_remove("SSMV_TOKEN_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match &endpoint.token {
            Secret::Text(text) => command.env("SSMV_TOKEN", text),
            Secret::File(path) => command.env("SSMV_TOKEN_FILE", path),
            Secret::None => &mut command,
        };
        command
    }
}

/// The secret of a job. Its text is never printed, and never an argument.
#[derive(Clone)]
pub enum Secret {
    /// The token, which ranks read from their environment.
    Text(String),
    /// The file from which ranks read the token.
    File(PathBuf),
    /// No secret: every connection is accepted.
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
    /// The system gives no random numbers.
    pub fn random() -> Result<Self> {
        let token = Token::random().map_err(|e| Error::Failure(e.to_string()))?;
        Ok(Self::Text(token.to_hex()))
    }
}

/// Address on which rank 0 listens, and the token that it requires.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Name or address of the machine with rank 0.
    pub address: String,
    /// Port of rank 0.
    pub port: u16,
    /// Secret of the job.
    pub token: Secret,
}

/// `port`, or a free port for 0, after a check that rank 0 can listen on it.
///
/// # Errors
/// The port cannot be used; the message has the address.
pub(super) fn free_port(address: &str, port: u16) -> Result<u16> {
    let listening = TcpListener::bind((address, port)).and_then(|listener| listener.local_addr());
    listening.map(|local| local.port()).map_err(|e| {
        let what = match e.kind() {
            ErrorKind::AddrInUse => "is in use: give another --master-port".to_owned(),
            _ => format!("cannot be used: {e}; check --master-addr and --master-port"),
        };
        Error::Failure(format!("{address}:{port} {what}"))
    })
}
