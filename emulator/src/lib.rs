//! Runs PTX text on the CPU and detects bugs while it runs: accesses out of bounds, reads of uninitialised memory, races in
//! shared memory, barriers that not all threads reach.
//!
//! [`Module::parse`] reads the text, [`Memory`] is the device's global memory, [`args!`] makes the arguments of a kernel, and
//! [`launch`] runs it over a grid.
//!
//! ```
//! use ssmv_emulator::{Error, FaultKind, LaunchConfig, Memory, Module, Options, args, launch};
//!
//! let text = "
//! .version 7.0
//! .target sm_80
//! .address_size 64
//! .visible .entry double(.param .u64 x, .param .u32 n)
//! {
//!     .reg .pred %p;
//!     .reg .b32 %i, %n, %v;
//!     .reg .b64 %x, %at;
//!     ld.param.u64 %x, [x];
//!     ld.param.u32 %n, [n];
//!     mov.u32 %i, %tid.x;
//!     setp.ge.u32 %p, %i, %n;
//!     @%p bra DONE;
//!     mul.wide.u32 %at, %i, 4;
//!     add.u64 %at, %at, %x;
//!     ld.global.u32 %v, [%at];
//!     add.u32 %v, %v, %v;
//!     st.global.u32 [%at], %v;
//! DONE:
//!     ret;
//! }";
//! let memory = Memory::new(1 << 20);
//! let module = Module::parse("double.ptx", text)?.load(&memory)?;
//! let x = memory.alloc(4 * 3)?;
//! memory.write(x, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])?;
//! let config = LaunchConfig { grid: [1, 1, 1], block: [32, 1, 1], shared: 0 };
//! let run = |n: u32| launch(&memory, &module, "double", &config, &args![x, n], &Options::default());
//!
//! let report = run(3)?;
//! let mut out = [0; 12];
//! memory.read(x, &mut out)?;
//! assert_eq!(out, [2, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0]);
//! assert_eq!(report.global_sectors, 2);
//!
//! // One element too many.
//! let Err(Error::Kernel { line, thread, fault, .. }) = run(4) else { panic!("not caught") };
//! assert_eq!((line, thread, fault.kind), (17, [3, 0, 0], FaultKind::OutOfBounds));
//! # Ok::<(), Error>(())
//! ```

mod arguments;
mod error;
mod machine;
mod memory;
mod numerics;
mod options;
mod report;
mod space;
mod syntax;

pub use arguments::Arguments;
pub use error::{Error, Fault, FaultKind, Result};
pub use machine::{KernelInfo, LoadedModule, Module, Parameter, launch};
pub use memory::{Memory, Region};
pub use options::{Approximation, Checks, LaunchConfig, Options, TensorCore};
pub use report::Report;
