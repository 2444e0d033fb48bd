//! What can go wrong with a job of several ranks, done to real processes of the program: which fault, and what is promised.
//!
//! | file | faults |
//! | --- | --- |
//! | `killed.rs` | kill -9 of a rank, of rank 0, of the launcher, during a checkpoint |
//! | `signals.rs` | SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU, once and twice, to a rank and to the launcher; `nohup`, `timeout` |
//! | `resume.rs` | going on after all of that, to the bit, with another number of ranks and other options; a run that is over |
//! | `length.rs` | a warm-up longer than the training, an epoch smaller than the data, a running mean of few steps, a preview that is too large or fails, data that is shortened |
//! | `disk.rs` | a disk that is full or read-only |
//! | `folder.rs` | runs that start in the same second, a second process for a run folder, a run folder that is moved |
//! | `stalled.rs` | ranks that stop or are slow, a link that is down |
//! | `wire.rs` | bytes that change on their way, with right checksums too |
//! | `strangers.rs` | others at the master's port, another user, an unsafe token file, several machines without a token |
//! | `refused.rs` | ranks that do not fit each other, a port in use, damaged data, too little memory |
//!
//! Faults of one process or one file are tested beside the code:
//!
//! | file | faults |
//! | --- | --- |
//! | `tests/output_files.rs` | an output that is an input or of another kind, a signal during `data make`, control characters in names and files |
//! | `tests/record_files.rs` | a clock that is behind, a torn line of the log |
//! | `tests/checkpoint_kill.rs`, `src/checkpoint/tests.rs` | a kill or an error at every point of a checkpoint, a power loss, stray files, another process's number, a state of another step |
//! | `src/output.rs` | symbolic links and left-overs in the place of temporary files |
//! | `src/record/run_folder.rs` | a symbolic link in the place of the lock |
//! | `src/data/npy/sequences.rs`, `src/media/clip.rs` | a data file that is written again; a sparse file of 40 GiB |
//! | `src/train/interrupt.rs`, `tests/launch/signals.rs` | which signals count, and when |
//! | `tests/launch/restarts.rs` | a run folder that is moved before a restart |
//! | `tests/launch/watching.rs`, `comm/src/rendezvous/tests` | whether MACs are on; strangers, tokens of other users |
//! | `comm/src/seal.rs` | a message that is changed, repeated, removed or reordered |
//! | `autograd/src/host.rs` | memory limits of control groups, versions 1 and 2 |

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
