//! NCCL, NVIDIA's library for collectives across GPUs, opened at run time.
//!
//! | file | content |
//! | --- | --- |
//! | `library.rs` | [`Nccl`], its functions, and [`UniqueId`] |
//! | `handle.rs` | a communicator of the library, and the calls on it |
//! | `operation.rs` | operations over device memory |
//! | `communicator.rs` | [`NcclCommunicator`] and [`NcclGroup`]: one rank, its operations, failures and end |
//! | `error.rs` | result codes as errors with advice |
//!
//! All communicators are non-blocking (NCCL 2.14 and later): no call of the library waits for another rank. So the caller can
//! wait with a timeout, and end a communicator whose other ranks have died or hang.
//!
//! NCCL reads and writes memory through the driver, so it works on devices of [`Backend::Nvidia`] only. The tests use a test
//! double (`comm/standin-nccl`) with the `libcuda.so.1` of `emulator/libcuda`.
//!
//! [`Backend::Nvidia`]: ssmv_autograd::cuda::Backend::Nvidia

mod communicator;
mod error;
mod handle;
mod library;
mod operation;

pub use communicator::{NcclCommunicator, NcclGroup};
pub use error::{Error, Result};
pub use library::{Nccl, NcclFound, UniqueId, find};
