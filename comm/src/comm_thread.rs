//! A thread that runs a rank's collectives one after the other, while the rank computes.

use super::communicator::Communicator;
use super::error::{Error, Fault, Result};
use super::frame::Operation;
use std::sync::mpsc;
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce(&mut Communicator) + Send>;

/// Owns a communicator and runs queued collectives in order. Ranks must queue the same collectives in the same order.
#[derive(Debug)]
pub struct CommThread {
    rank: usize,
    size: usize,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// The result of a queued job, to wait for.
#[derive(Debug)]
pub struct Pending<R, E = Error> {
    rank: usize,
    result: mpsc::Receiver<Result<R, E>>,
}

impl CommThread {
    /// Starts the thread of this rank.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(mut communicator: Communicator) -> std::io::Result<Self> {
        let (rank, size) = (communicator.rank(), communicator.size());
        let (jobs, queue) = mpsc::channel::<Job>();
        let run = move || queue.into_iter().for_each(|job| job(&mut communicator));
        let thread = Some(std::thread::Builder::new().name("ranks".into()).spawn(run)?);
        Ok(Self { rank, size, jobs: Some(jobs), thread })
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Queues `work` and returns at once.
    pub fn queue<R: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Communicator) -> Result<R, E> + Send + 'static,
    ) -> Pending<R, E> {
        let (sender, result) = mpsc::channel();
        let job: Job = Box::new(move |communicator| {
            // The caller may have dropped the receiver.
            let _ = sender.send(work(communicator));
        });
        if let Some(jobs) = &self.jobs {
            // If the thread has ended, the sender of the result is dropped, and the caller gets an error.
            let _ = jobs.send(job);
        }
        Pending { rank: self.rank, result }
    }

    /// Queues `work` and waits for its result.
    ///
    /// # Errors
    /// Errors of `work`.
    pub fn call<R: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Communicator) -> Result<R, E> + Send + 'static,
    ) -> Result<R, E> {
        self.queue(work).wait()
    }
}

impl Drop for CommThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic has printed its message.
            let _ = thread.join();
        }
    }
}

impl<R, E: From<Error>> Pending<R, E> {
    /// Waits for the result of the work.
    ///
    /// # Errors
    /// Errors of the work, or the thread has ended.
    pub fn wait(self) -> Result<R, E> {
        let gone = |_| {
            let fault = Fault::Earlier("the thread of the collectives has ended".into());
            Err(Error { rank: self.rank, operation: Operation::Barrier, sequence: 0, fault }.into())
        };
        self.result.recv().unwrap_or_else(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_in_order_beside_their_caller() {
        let comm_thread = CommThread::start(Communicator::alone()).unwrap();
        let pending: Vec<_> =
            (0..5u64).map(|i| comm_thread.queue(move |c| c.barrier().map(|()| (i, c.sequence())))).collect();
        let results: Vec<_> = pending.into_iter().map(|p| p.wait().unwrap()).collect();
        assert_eq!(results, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
        assert_eq!((comm_thread.rank(), comm_thread.size()), (0, 1));
    }

    #[test]
    fn a_job_that_panics_is_an_error_for_its_caller() {
        let comm_thread = CommThread::start(Communicator::alone()).unwrap();
        let bad = comm_thread.queue(|_| -> Result<()> { std::panic::resume_unwind(Box::new("no")) });
        let after = comm_thread.queue(|c| c.barrier());
        assert!(bad.wait().is_err() && after.wait().is_err() && comm_thread.call(|c| c.barrier()).is_err());
    }
}
