//! Starts the ranks of a job on this machine, watches them and ends them: `ssmv-raw launch`.
//!
//! A rank is a process of its own, in a process group of its own, so that a terminal's Ctrl-C comes to the launcher
//! alone and is passed on once. The first rank that fails ends the job: the others notice a broken ring by themselves
//! and get time for it, then SIGTERM, then SIGKILL. No rank survives the launcher ([`watch_parent`]).

mod events;
mod job;
mod meeting;
mod parent;
mod ranks;
mod relay;
pub mod restart;
mod run;

pub use job::{Job, Layout, Restarts};
pub use meeting::Secret;
pub use parent::watch_parent;
pub use ranks::Failure;
pub use relay::{Outputs, Sink};
pub use run::{Reporter, run};
