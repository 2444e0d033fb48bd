//! NCCL's calls against a test double for NCCL (`standin-nccl/`), on a device of an emulated driver (`emulator/libcuda`). The
//! ranks are threads.

mod failures;
#[path = "../../standin-nccl/libraries.rs"]
mod libraries;
mod misuse;
mod operations;

use std::{mem::ManuallyDrop, sync::OnceLock, thread, time::Duration};

use libloading::Library;
use ssmv_autograd::cuda::{Backend, Cuda};
use ssmv_comm::nccl::{Nccl, NcclCommunicator, Result, UniqueId};

/// Longer than any operation here takes, and shorter than the time limit of a test.
const LONG: Duration = Duration::from_secs(60);

/// Opens the emulated driver, by whose name the system then finds it.
fn open_driver() {
    static DRIVER: OnceLock<ManuallyDrop<Library>> = OnceLock::new();
    // SAFETY: the library's initialisers only make it ready for calls.
    DRIVER.get_or_init(|| ManuallyDrop::new(unsafe { Library::new(libraries::emulated_driver()) }.unwrap()));
}

/// The device, with streams and a memory pool of its own.
fn device() -> Cuda {
    open_driver();
    Cuda::open(Backend::Nvidia, 0).unwrap()
}

fn library() -> Nccl {
    open_driver();
    Nccl::open_at(&libraries::standin()).unwrap()
}

/// A new id with requested failures, such as `;hang=send:2@1`.
fn unique_id(nccl: &Nccl, orders: &str) -> UniqueId {
    let mut bytes = nccl.unique_id().unwrap().to_bytes();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap();
    bytes[end..end + orders.len()].copy_from_slice(orders.as_bytes());
    UniqueId::from_bytes(bytes)
}

/// Runs `body` on threads as ranks and returns their results. `timeout` is that of a rank's calls.
fn on_ranks<T: Send>(
    size: usize,
    orders: &str,
    timeout: impl Fn(usize) -> Duration,
    body: impl Fn(Result<NcclCommunicator>) -> T + Sync,
) -> Vec<T> {
    let nccl = library();
    let id = unique_id(&nccl, orders);
    let (nccl, id, body) = (&nccl, &id, &body);
    thread::scope(|scope| {
        let spawn = |rank| {
            let timeout = timeout(rank);
            scope.spawn(move || body(nccl.connect(&device(), rank, size, id, timeout)))
        };
        let ranks: Vec<_> = (0..size).map(spawn).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
