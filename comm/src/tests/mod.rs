//! Ranks as threads of one process, on loopback.

mod collectives;
mod faults;
mod wire;

use super::tcp::{self, Options, Stall};
use super::{Communicator, Element, Error, ReduceOp, segment};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Listeners of `ranks` on loopback, with their addresses.
fn listeners(ranks: usize) -> (Vec<TcpListener>, Vec<SocketAddr>) {
    let listeners: Vec<_> = (0..ranks).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    (listeners, addresses)
}

/// Options with this timeout, and the stalls that will have been reported.
fn options(timeout: Duration) -> (Options, Arc<Mutex<Vec<Stall>>>) {
    let stalls = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&stalls);
    (Options { timeout, on_stall: Arc::new(move |stall| list.lock().unwrap().push(*stall)) }, stalls)
}

/// Runs `body` on every rank of a ring and returns the results.
pub(super) fn on_ranks<R: Send>(ranks: usize, body: impl Fn(&mut Communicator) -> R + Sync) -> Vec<R> {
    let (listeners, addresses) = listeners(ranks);
    let (options, _) = options(Duration::from_secs(20));
    let (body, addresses, options) = (&body, &addresses, &options);
    each(listeners, |rank, listener| {
        body(&mut tcp::join(rank, &listener, addresses, options.clone()).unwrap())
    })
}

/// Runs `body` in one thread per rank.
fn each<T: Send, R: Send>(given: Vec<T>, body: impl Fn(usize, T) -> R + Sync) -> Vec<R> {
    let body = &body;
    thread::scope(|scope| {
        let threads: Vec<_> = given
            .into_iter()
            .enumerate()
            .map(|(rank, given)| scope.spawn(move || body(rank, given)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The documented order: segment j is ((x_{j+1} + x_{j+2}) + …) + x_j.
pub(super) fn reference<T: Element>(inputs: &[Vec<T>], reduction: ReduceOp) -> Vec<T> {
    let (ranks, count) = (inputs.len(), inputs[0].len());
    let mut result = inputs[0].clone();
    for j in 0..ranks {
        for i in segment(count, ranks, j) {
            let mut of_ranks = (1..=ranks).map(|step| inputs[(j + step) % ranks][i]);
            let first = of_ranks.next().unwrap();
            result[i] = of_ranks.fold(first, |a, b| match reduction {
                ReduceOp::Sum => T::sum(a, b),
                ReduceOp::Max => T::max(a, b),
            });
        }
    }
    result
}

/// The bits, which unlike numbers can be compared when they are NaN.
pub(super) fn bits<T: Element>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// Checks that the error is `rank`'s, in this collective.
#[track_caller]
fn assert_names(error: &Error, rank: usize, operation: super::frame::Operation, sequence: u64) {
    assert_eq!((error.rank, error.operation, error.sequence), (rank, operation, sequence), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("rank {rank}: {operation} {sequence}: ")), "{text}");
}
