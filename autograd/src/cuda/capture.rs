//! Captured steps: the work of a function, recorded once and run again as a whole.

use super::{device::Cuda, driver::Graph, pool::Owner, table::lock};
use crate::{Error, Result};

/// Captured work. It keeps the memory that it allocated while it was captured; what was allocated before must outlive it.
#[derive(Debug)]
pub struct Captured {
    cuda: Cuda,
    graph: Graph,
    owner: Owner,
}

impl Cuda {
    /// Records the work that `body` gives to the device instead of running it. Run the same work once before, so that its
    /// kernels are compiled and the pool holds the memory that it takes: neither can be had while capturing. `body` may not
    /// wait for the device nor copy from or to the host.
    ///
    /// # Errors
    /// What `body` gives, and what was not to be captured.
    pub fn capture<R, E: From<Error>>(
        &self,
        body: impl FnOnce() -> Result<R, E>,
    ) -> Result<(Captured, R), E> {
        let shared = self.shared();
        shared.driver.begin_capture(shared.compute)?;
        let capturing = Capturing { cuda: self, owner: lock(&shared.pool).begin_capture() };
        let result = body();
        let owner = capturing.owner;
        drop(capturing);
        let graph = shared.driver.end_capture(shared.compute);
        let error = match (result, graph) {
            (Ok(result), Ok(graph)) => return Ok((Captured { cuda: self.clone(), graph, owner }, result)),
            (Ok(_), Err(error)) => error.into(),
            (Err(error), graph) => {
                if let Ok(graph) = graph {
                    let _ = shared.driver.destroy_graph(graph);
                }
                error
            }
        };
        lock(&shared.pool).release(owner);
        Err(error)
    }
}

/// Ends the pool's part of a capture, also when `body` panics.
struct Capturing<'a> {
    cuda: &'a Cuda,
    owner: Owner,
}

impl Drop for Capturing<'_> {
    fn drop(&mut self) {
        let shared = self.cuda.shared();
        lock(&shared.pool).end_capture();
        if std::thread::panicking() {
            if let Ok(graph) = shared.driver.end_capture(shared.compute) {
                let _ = shared.driver.destroy_graph(graph);
            }
            lock(&shared.pool).release(self.owner);
        }
    }
}

impl Captured {
    /// Runs the work, in the order of the compute stream.
    pub fn launch(&self) -> Result<()> {
        let shared = self.cuda.shared();
        shared.driver.launch_graph(self.graph, shared.compute)
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        let shared = self.cuda.shared();
        let _ = shared.driver.destroy_graph(self.graph);
        // Runs that are still queued come before whatever uses the memory next: all of it is in the compute stream.
        lock(&shared.pool).release(self.owner);
    }
}
