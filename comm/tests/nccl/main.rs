//! NCCL's calls, against a library that stands in for it (`standin-nccl/`): threads as ranks, each with an emulated
//! device of its own.

#[path = "../../standin-nccl/built.rs"]
mod built;
mod failures;
mod misuse;
mod operations;

use std::{sync::Arc, thread, time::Duration};

use ssmv_autograd::cuda::{Cuda, Emulated, EmulatorOptions};
use ssmv_comm::nccl::{Nccl, NcclCommunicator, Result, UniqueId};

/// Longer than any of these works takes, and shorter than any test's limit.
const LONG: Duration = Duration::from_secs(60);

fn device() -> Cuda {
    let options = EmulatorOptions { memory: 64 << 20, ..Default::default() };
    Cuda::over(Arc::new(Emulated::new(&options))).unwrap()
}

fn library() -> Nccl {
    Nccl::open_at(&built::standin()).unwrap()
}

/// A new id with failures to order, such as `;hang=send:2@1`.
fn unique_id(nccl: &Nccl, orders: &str) -> UniqueId {
    let mut bytes = nccl.unique_id().unwrap().to_bytes();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap();
    bytes[end..end + orders.len()].copy_from_slice(orders.as_bytes());
    UniqueId::from_bytes(bytes)
}

/// Runs `body` on threads as ranks, and gives what each returns. A rank waits as long as `timeout` says.
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
