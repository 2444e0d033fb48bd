//! `launch`: makes the job from the arguments and the environment; the work is in [`crate::launch`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser};
use ssmv_autograd::cuda::{self, Backend};

use super::{Cli, Command, Ui};
use crate::launch::restart::{has, value_of};
use crate::launch::{self, Job, Layout, Outputs, Reporter, Restarts, Secret};
use crate::{Error, Result};

/// Maximum number of ranks on one machine.
const MAX_RANKS: u32 = 1024;

/// Command-line arguments of `launch`.
#[derive(Args, Clone, Debug)]
pub struct LaunchArgs {
    /// Ranks on this machine; auto: one for each GPU, or one without GPUs
    #[arg(long, value_name = "N|auto")]
    pub nproc: RankCount,
    /// Number of machines
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub nnodes: u32,
    /// Number of this machine, counted from 0
    #[arg(long, value_name = "R")]
    pub node_rank: Option<u32>,
    /// Name or address of the machine with rank 0 [default with one machine: 127.0.0.1]
    #[arg(long, value_name = "A")]
    pub master_addr: Option<String>,
    /// Port of rank 0 [default with one machine: a free port]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub master_port: Option<u16>,
    /// Maximum number of restarts after a failure; all ranks then resume from the last checkpoint in --out
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub max_restarts: u32,
    /// Time for the other ranks to end by themselves after one has failed; then they get SIGTERM, then SIGKILL
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=86400))]
    pub grace: u64,
    /// File with the job's secret token, the same on all machines, readable by its owner only (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Command that every rank runs, for example `train`, with its own options; all that follows it is its own
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw launch --nproc 8 train --preset base --out runs/base
  ssmv-raw launch --nproc auto --max-restarts 3 train --preset base --out runs/base

On two machines, a and b, with a file `token` of 64 hexadecimal digits on both; on b with --node-rank 1:
  ssmv-raw launch --nproc 8 --nnodes 2 --node-rank 0 \\
    --master-addr a --master-port 29400 --token-file token \\
    train --preset base --out runs/base";

/// Number of ranks on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankCount {
    /// One for each usable GPU, or one without GPUs.
    Auto,
    /// This number of ranks.
    Given(u32),
}

impl FromStr for RankCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().ok().filter(|count| (1..=MAX_RANKS).contains(count));
        count.map(Self::Given).ok_or_else(|| format!("takes a number from 1 to {MAX_RANKS}, or auto"))
    }
}

impl RankCount {
    fn count(self) -> u32 {
        match self {
            Self::Given(count) => count,
            Self::Auto => {
                let devices = cuda::devices(Backend::Nvidia).unwrap_or_default();
                let usable = devices.iter().filter(|device| cuda::is_usable(device)).count();
                u32::try_from(usable).unwrap_or(MAX_RANKS).clamp(1, MAX_RANKS)
            }
        }
    }
}

/// Starts the ranks and returns when the last one has ended.
pub fn run(args: &LaunchArgs, ui: &Ui) -> Result<()> {
    check_command(args)?;
    launch::run(&job(args)?, &Outputs::standard(), ui)
}

impl Reporter for Ui {
    fn note(&self, line: &str) {
        Ui::note(self, line);
    }

    fn warn(&self, line: &str) {
        Ui::warn(self, line);
    }
}

/// Checks the usage of the ranks' command once, so that the error is not printed by every rank.
fn check_command(args: &LaunchArgs) -> Result<()> {
    let program = OsString::from("ssmv-raw");
    match Cli::try_parse_from([&program].into_iter().chain(&args.command)) {
        Ok(Cli { command: Command::Launch(_), .. }) => {
            Err(Error::Usage("launch cannot start launch; give the command of one rank".to_owned()))
        }
        Ok(Cli { command: Command::Train(_), .. }) => Ok(()),
        Ok(_) if args.max_restarts > 0 => Err(Error::Usage(
            "--max-restarts works only with train, which can resume from a checkpoint".to_owned(),
        )),
        Err(e) if e.exit_code() == 2 => {
            Err(Error::Usage(format!("the command of a rank: {}", super::one_line(&e.render().to_string()))))
        }
        // A rank prints help.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The job that the arguments describe.
fn job(args: &LaunchArgs) -> Result<Job> {
    let layout =
        Layout { local_ranks: args.nproc.count(), nodes: args.nnodes, node: args.node_rank.unwrap_or(0) };
    if layout.node >= layout.nodes {
        return Err(Error::Usage(format!(
            "--node-rank {} with --nnodes {}: machines are counted from 0",
            layout.node, layout.nodes
        )));
    }
    if layout.nodes > 1 {
        let missing = [
            ("--node-rank", args.node_rank.is_none()),
            ("--master-addr", args.master_addr.is_none()),
            ("--master-port", args.master_port.is_none()),
        ];
        if let Some((option, _)) = missing.iter().find(|(_, missing)| *missing) {
            return Err(Error::Usage(format!("several machines need {option}")));
        }
    }
    Ok(Job {
        program: std::env::current_exe()
            .map_err(|e| Error::Failure(format!("cannot find the file of this program: {e}")))?,
        arguments: args.command.clone(),
        layout,
        address: args.master_addr.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
        port: args.master_port,
        token: token(args)?,
        environment: Vec::new(),
        grace: Duration::from_secs(args.grace),
        restarts: restarts(args)?,
    })
}

fn restarts(args: &LaunchArgs) -> Result<Option<Restarts>> {
    match (args.max_restarts, value_of(&args.command, "--out")) {
        (0, _) => Ok(None),
        (most, Some(out)) => Ok(Some(Restarts { most, out: out.into() })),
        (_, None) => Err(Error::Usage(
            "--max-restarts resumes from a checkpoint: give train --out DIR on the command line".to_owned(),
        )),
    }
}

/// The job's token. Several machines share one, from a file or the environment; one machine makes a new one (`None`) unless
/// a file is named.
fn token(args: &LaunchArgs) -> Result<Option<Secret>> {
    let from_file = |file: PathBuf| match std::fs::File::open(&file) {
        Ok(_) => Ok(Some(Secret::File(file))),
        Err(e) => Err(Error::file(file, format!("the token cannot be read: {e}"))),
    };
    if let Some(file) = &args.token_file {
        return from_file(file.clone());
    }
    if args.nnodes == 1 {
        return Ok(None);
    }
    if let Some(text) = set("SSMV_TOKEN") {
        let text = text.into_string();
        let text =
            text.map_err(|_| Error::Usage("SSMV_TOKEN does not have 64 hexadecimal digits".to_owned()));
        return Ok(Some(Secret::Text(text?)));
    }
    if let Some(file) = set("SSMV_TOKEN_FILE") {
        return from_file(file.into());
    }
    if has(&args.command, "--insecure") {
        return Ok(Some(Secret::None));
    }
    Err(Error::Usage(
        "several machines need one token: make it with `(umask 077; openssl rand -hex 32 > token)`, copy the file to \
         all of them, and give --token-file token"
            .to_owned(),
    ))
}

/// An environment variable that is set and not empty.
fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
