//! Captured steps: the device work of a function, recorded once and replayed as a whole.

use std::cell::RefCell;

use super::{device::Cuda, driver::Graph, pool::Owner, table::lock};
use crate::{Error, Result};

/// Captured work, in one part or in several that run one after the other. It keeps the memory that it allocated during
/// the capture; memory allocated before must outlive it.
#[derive(Debug)]
pub struct Captured {
    cuda: Cuda,
    parts: Vec<Graph>,
    owner: Owner,
}

/// Cuts a capture into parts, so that other work can run between them.
#[derive(Debug)]
pub struct Cutter {
    cuda: Cuda,
    parts: RefCell<Vec<Graph>>,
}

impl Cutter {
    /// Ends the current part: work captured from now on belongs to the next one.
    ///
    /// # Errors
    /// The driver's error.
    pub fn cut(&self) -> Result<()> {
        let shared = self.cuda.shared();
        let part = shared.driver.end_capture(shared.compute)?;
        self.parts.borrow_mut().push(part);
        shared.driver.begin_capture(shared.compute)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        for part in self.parts.take() {
            let _ = self.cuda.shared().driver.destroy_graph(part);
        }
    }
}

impl Cuda {
    /// Records the work that `body` queues on the device instead of running it. Run the same work once before, so that
    /// its kernels are compiled and the pool holds the memory it needs: a capture can neither compile nor allocate.
    /// `body` may not wait for the device nor copy from or to the host.
    ///
    /// # Errors
    /// The error of `body`, and work that cannot be captured.
    pub fn capture<R, E: From<Error>>(
        &self,
        body: impl FnOnce() -> Result<R, E>,
    ) -> Result<(Captured, R), E> {
        self.capture_parts(|_| body())
    }

    /// As [`capture`](Self::capture), in parts: `body` ends each with [`Cutter::cut`].
    ///
    /// # Errors
    /// As [`capture`](Self::capture).
    pub fn capture_parts<R, E: From<Error>>(
        &self,
        body: impl FnOnce(&Cutter) -> Result<R, E>,
    ) -> Result<(Captured, R), E> {
        let shared = self.shared();
        shared.driver.begin_capture(shared.compute)?;
        let cutter = Cutter { cuda: self.clone(), parts: RefCell::default() };
        let capturing = Capturing { cuda: self, owner: lock(&shared.pool).begin_capture() };
        let result = body(&cutter);
        let owner = capturing.owner;
        drop(capturing);
        let last = shared.driver.end_capture(shared.compute);
        let error = match (result, last) {
            (Ok(result), Ok(last)) => {
                let mut parts = cutter.parts.take();
                parts.push(last);
                return Ok((Captured { cuda: self.clone(), parts, owner }, result));
            }
            (Ok(_), Err(error)) => error.into(),
            (Err(error), last) => {
                if let Ok(last) = last {
                    let _ = shared.driver.destroy_graph(last);
                }
                error
            }
        };
        drop(cutter);
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
    /// Runs all parts, in the order of the compute stream.
    pub fn launch(&self) -> Result<()> {
        (0..self.parts.len()).try_for_each(|part| self.launch_part(part))
    }

    /// Number of parts that the capture was cut into.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Runs one part; all parts must run once, in their order.
    ///
    /// # Errors
    /// A part that does not exist, and the driver's error.
    pub fn launch_part(&self, part: usize) -> Result<()> {
        let shared = self.cuda.shared();
        let graph = self.parts.get(part);
        let graph = graph.ok_or_else(|| Error::misuse("graph", format!("part {part} does not exist")))?;
        shared.driver.launch_graph(*graph, shared.compute)
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        let shared = self.cuda.shared();
        for part in &self.parts {
            let _ = shared.driver.destroy_graph(*part);
        }
        // The next user of the memory also queues in the compute stream, so it runs after replays that are still
        // queued.
        lock(&shared.pool).release(self.owner);
    }
}
