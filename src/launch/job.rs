//! A job: what its ranks run, and what they are told by their environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Secret;
use super::meeting::{Meeting, free_port};
use super::parent::LAUNCHER;
use crate::Result;

/// How many ranks there are, and which of them run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Ranks on each machine.
    pub local_ranks: u32,
    /// Machines.
    pub nodes: u32,
    /// Which of them this is, from 0.
    pub node: u32,
}

impl Layout {
    /// All ranks of the job.
    pub fn ranks(&self) -> u32 {
        self.local_ranks.saturating_mul(self.nodes)
    }

    /// The number among all ranks of one here.
    pub fn rank(&self, local: u32) -> u32 {
        self.node.saturating_mul(self.local_ranks).saturating_add(local)
    }
}

/// How ranks are started again after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarts {
    /// How often, at most.
    pub most: u32,
    /// The run folder of the ranks' `--out`, from whose last checkpoint they go on.
    pub out: PathBuf,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The program of every rank.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// How many ranks, and where.
    pub layout: Layout,
    /// The machine of rank 0, by name or address.
    pub address: String,
    /// Rank 0's port; `None` for one that is free, found anew at every start.
    pub port: Option<u16>,
    /// The job's secret; `None` for a new one at every start.
    pub token: Option<Secret>,
    /// Variables for every rank beside those that say its place.
    pub environment: Vec<(String, OsString)>,
    /// The time that ranks have to end by themselves after one failed.
    pub grace: Duration,
    /// Whether the ranks may be started again after a failure.
    pub restarts: Option<Restarts>,
}

impl Job {
    /// Where the ranks of the next start meet.
    ///
    /// # Errors
    /// An address on this machine that rank 0 cannot listen on.
    pub(super) fn next_meeting(&self) -> Result<Meeting> {
        let mut port = self.port.unwrap_or(0);
        if self.layout.node == 0 {
            port = free_port(&self.address, port)?;
        }
        let token = self.token.clone().map_or_else(Secret::random, Ok)?;
        Ok(Meeting { address: self.address.clone(), port, token })
    }

    /// The process of one rank: the `local`th here, at the start after `restarts` restarts.
    pub(super) fn command(
        &self,
        arguments: &[OsString],
        meeting: &Meeting,
        local: u32,
        restarts: u32,
    ) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("RANK", self.layout.rank(local).to_string())
            .env("LOCAL_RANK", local.to_string())
            .env("WORLD_SIZE", self.layout.ranks().to_string())
            .env("LOCAL_WORLD_SIZE", self.layout.local_ranks.to_string())
            .env("MASTER_ADDR", &meeting.address)
            .env("SSMV_PORT", meeting.port.to_string())
            .env("SSMV_RESTART", restarts.to_string())
            .env(LAUNCHER, std::process::id().to_string())
            .env_remove("SSMV_TOKEN")
            .env_remove("SSMV_TOKEN_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match &meeting.token {
            Secret::Text(text) => command.env("SSMV_TOKEN", text),
            Secret::File(path) => command.env("SSMV_TOKEN_FILE", path),
            Secret::None => &mut command,
        };
        command
    }
}
