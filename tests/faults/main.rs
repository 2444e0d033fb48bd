//! What can go wrong with a job of several ranks, done to real processes of the program: which fault, and what is promised.
//!
//! | file | faults |
//! | --- | --- |
//! | `killed.rs` | kill -9 of a rank, of rank 0, of the launcher, during a checkpoint |
//! | `signals.rs` | SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU, once and twice, to a rank and to the launcher; `nohup`, `timeout` |
//! | `resume.rs` | going on after all of that, to the bit, with another number of ranks and other options; a run that is over |
//! | `length.rs` | a warm-up longer than the training, an epoch smaller than the data, a preview that is too large or fails, data that is shortened |
//! | `disk.rs` | a disk that is full or read-only |
//! | `folder.rs` | a second process for a run folder, a run folder that is moved |
//! | `stalled.rs` | ranks that stop or are slow, a link that is down |
//! | `wire.rs` | bytes that change on their way, with right checksums too |
//! | `strangers.rs` | others at the master's port, another user, an unsafe token file, several machines without a token |
//! | `refused.rs` | ranks that do not fit each other, a port in use, damaged data, too little memory |

mod disk;
mod folder;
mod job;
mod killed;
mod length;
mod refused;
mod resume;
mod signals;
mod stalled;
mod strangers;
mod wire;
