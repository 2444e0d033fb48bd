//! The CUDA backend: a [`Driver`] for a GPU or the emulator, and the code above it that is the same for both.
//!
//! | file | content |
//! | --- | --- |
//! | `driver.rs` | the GPU driver interface: handles, config, arguments, the trait |
//! | `nvidia/` | NVIDIA's driver, opened at run time |
//! | `emulated/` | the PTX emulator behind the same trait |
//! | `counting_driver/` | counts the GPU memory of a step and runs nothing |
//! | `checked.rs` | the checks that all drivers share; `limits.rs`, `entry.rs` and `table.rs` are parts of it |
//! | `pool.rs` | device memory that is reused, deterministically |
//! | `device.rs`, `buffer.rs`, `kernels.rs`, `capture.rs`, `upload_buffer.rs` | [`Cuda`], the device handle |
//! | `memory.rs`, `plan.rs` | tensors on a device; kernels and their workspace, cached by specification |
//! | `arena.rs`, `tape.rs`, `primitives.rs` | arenas, gradients and the engine's own launches |
//! | `peer.rs` | memory and events that processes of one machine share |

pub(crate) mod arena;
mod buffer;
mod capture;
mod checked;
mod counting_driver;
mod device;
mod driver;
mod emulated;
mod entry;
mod host_block;
mod kernels;
mod limits;
mod memory;
mod nvidia;
mod peer;
pub(crate) mod plan;
mod pool;
pub(crate) mod primitives;
mod table;
mod tape;
mod upload_buffer;

pub use buffer::{DeviceBuffer, PinnedBuffer};
pub use capture::{Captured, Cutter};
pub use counting_driver::{Counting, Counts};
pub use device::{Cuda, Event, devices};
pub use driver::{
    Address, Argument, Backend, DeviceInfo, Driver, EventHandle, EventId, Function, FunctionAttributes,
    Graph, HANDLE_BYTES, LaunchConfig, LaunchReport, MemoryHandle, MemoryInfo, Module, Pinned, Priority,
    Stream,
};
pub use emulated::{Emulated, EmulatorOptions};
pub use kernels::LoadedKernel;
pub use memory::DeviceMemory;
pub use nvidia::{Nvidia, is_usable};
pub use peer::{PeerMemory, SharedEvent, SharedMemory};
pub use plan::LoadedPlan;
pub use pool::PoolReport;
pub use upload_buffer::UploadBuffer;
