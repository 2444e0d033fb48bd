//! `libcuda.so.1` over the PTX emulator: a program that speaks the CUDA driver API runs unchanged on a machine without a
//! GPU, its kernels on the CPU under the emulator's checks, its calls under the driver API's own rules.
//!
//! ```text
//! cargo build --release -p ssmv-libcuda
//! mkdir -p target/libcuda && cp target/release/libssmv_cuda.so target/libcuda/libcuda.so.1
//! LD_LIBRARY_PATH=target/libcuda program
//! ```
//!
//! It is as strict as a driver, or stricter: work that was queued runs late, in any order that streams and events allow
//! ([`settings`] has the seed); handles are checked; capture, IPC and context rules are enforced. A call that breaks a
//! rule returns the driver's code, and a line on standard error says what is wrong.
//!
//! A call's way: [`api`] takes it from C, checks the thread's context and locks the `driver`; the rules of memory, modules,
//! streams, events and captures have a file each; work for the device goes to the `schedule`, and the driver's own thread
//! runs it.
//!
//! Imports point down this list, never up:
//!
//! | layer | files |
//! | --- | --- |
//! | functions of cuda.h | `api/`, with `ffi` |
//! | the process's driver and its thread | `driver` |
//! | rules, one subject a file | `context`, `stream`, `event`, `capture`, `memory`, `module`, `ipc` |
//! | the objects that the driver knows | `state` |
//! | work, graphs, device memory | `schedule`, `graph`, `work`, `device`, `shared` |
//! | foundations | `settings`, `handle`, `host`, `log`, `code` |

pub mod api;
mod capture;
pub mod code;
mod context;
mod device;
mod driver;
mod event;
mod ffi;
mod graph;
mod handle;
mod host;
mod ipc;
mod log;
mod memory;
mod module;
mod schedule;
pub mod settings;
mod shared;
mod state;
mod stream;
mod work;
