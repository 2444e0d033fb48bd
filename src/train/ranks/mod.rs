//! Communication of one rank of a data-parallel training with the others.
//!
//! Every rank is a process with the whole model and batches of its own. After each backward pass the gradients are
//! averaged over all ranks, so that every rank takes the same step to the same bits:
//!
//! | file | content |
//! | --- | --- |
//! | `buckets.rs` | the cut of the gradient arena into buckets, which are sent during the backward pass |
//! | `cpu.rs`, `gpu.rs` | reduction of one step's buckets; with `--zero 1` each rank keeps a share of each |
//! | `report.rs` | the report of each rank once per step: losses, found-inf, signals, times |
//! | `straggler.rs` | detects the rank that all wait for; on the CPU |
//!
//! All collectives go through one [`CommThread`] in the order of the program, which is the same on every rank.

mod buckets;
mod cpu;
mod gpu;
mod report;
mod straggler;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ssmv_autograd::ops::batch_norm2d::AcrossRanks;

use self::straggler::Stragglers;
pub use self::{
    buckets::Buckets,
    cpu::CpuSharing,
    gpu::GpuSharing,
    report::{Agreement, Report},
};
use ssmv_comm::{CommThread, Communicator, Pending, ReduceOp};

use super::interrupt::Interrupt;
use crate::{Error, Result, config::TrainConfig, eval::Share, model::RunningStatistics};

/// A rank before training begins.
#[derive(Debug)]
pub struct Member {
    /// Connection to the other ranks.
    pub communicator: Communicator,
    /// Place of this rank on its machine.
    pub local: Local,
}

/// A rank's place on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Index among the ranks of the machine, from 0; it selects the machine's GPU.
    pub rank: usize,
    /// Number of ranks on the machine.
    pub size: usize,
}

/// One rank's connection to the others, with their common state.
pub struct Ranks {
    comm_thread: CommThread,
    local: Local,
    interrupt: Interrupt,
    /// The signal that all ranks agreed on; 0: none.
    agreed: AtomicI32,
    /// Time in which this rank waited for others, in nanoseconds.
    waited: AtomicU64,
    /// Whether a collective failed.
    failed: AtomicBool,
    /// False once a comparison found different parameters on the ranks.
    sound: AtomicBool,
    stragglers: Mutex<(Stragglers, Option<String>)>,
    /// Whether each rank updates only a share of the parameters.
    pub zero: bool,
    /// Whether batch normalisation uses the statistics of all ranks' batches.
    pub sync_batchnorm: bool,
    /// Size of a bucket in bytes.
    pub bucket_bytes: usize,
    /// Longest wait for a rank.
    pub timeout: Duration,
    /// Whether buckets are reduced during the backward pass; otherwise all of them after it, with the same bits.
    pub overlap: bool,
    /// Steps between two comparisons of the parameters.
    pub check_every: Option<u64>,
}

impl Ranks {
    /// Starts the communication thread of connected ranks; checks that numbers arrive correctly.
    ///
    /// # Errors
    /// Ranks that fail, wrong sums.
    pub fn start(member: Member, config: &TrainConfig, interrupt: &Interrupt) -> Result<Self> {
        let Member { communicator, local } = member;
        let size = communicator.size();
        let failed = |e| Error::Failure(format!("cannot start a thread for the ranks: {e}"));
        let ranks = Self {
            comm_thread: CommThread::start(communicator).map_err(failed)?,
            local,
            interrupt: interrupt.clone(),
            agreed: AtomicI32::new(0),
            waited: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            sound: AtomicBool::new(true),
            timeout: Duration::from_secs_f64(config.comm_timeout),
            stragglers: Mutex::new((Stragglers::new(size), None)),
            zero: config.zero > 0,
            sync_batchnorm: config.sync_batchnorm,
            bucket_bytes: config.bucket_mib << 20,
            overlap: true,
            check_every: config.check_ranks_every,
        };
        ranks.try_out()?;
        Ok(ranks)
    }

    /// Number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.comm_thread.rank()
    }

    /// Number of ranks that train together.
    pub fn size(&self) -> usize {
        self.comm_thread.size()
    }

    /// Place of this rank on its machine.
    pub fn local(&self) -> Local {
        self.local
    }

    /// Whether all ranks are on one machine.
    pub fn is_local(&self) -> bool {
        self.local.size == self.size()
    }

    /// Whether this rank writes files and prints.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Waits for a queued collective.
    fn wait<R, E: From<ssmv_comm::Error>>(&self, pending: Pending<R, E>) -> Result<R, E> {
        pending.wait().inspect_err(|_| self.fail())
    }

    /// Checks the ring's connections without sending; queued collectives run first.
    ///
    /// # Errors
    /// A rank has closed its connection.
    fn check_ring(&self) -> Result<()> {
        self.call(|communicator| communicator.check())
    }

    /// Runs a collective and counts the time as waiting.
    fn call<R: Send + 'static, E: From<ssmv_comm::Error> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Communicator) -> Result<R, E> + Send + 'static,
    ) -> Result<R>
    where
        Error: From<E>,
    {
        let start = Instant::now();
        let result = self.comm_thread.call(work);
        self.waited.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if result.is_err() {
            self.fail();
        }
        Ok(result?)
    }

    /// Records that a collective failed: the ranks are no longer in step.
    fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Whether a collective failed.
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Seconds in which this rank waited for others, so far.
    pub fn waited(&self) -> f64 {
        self.waited.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Waits for all ranks.
    pub fn barrier(&self) -> Result<()> {
        self.call(|communicator| communicator.barrier())
    }

    /// Sends all other ranks the reason why this one ends.
    pub fn abandon(&self, why: &str) {
        self.fail();
        let why = why.to_owned();
        // A ring that failed has already sent its reason.
        let _ = self.comm_thread.call(move |communicator| {
            communicator.abandon(&why);
            Ok::<(), ssmv_comm::Error>(())
        });
    }

    /// Sums and maxima of known numbers, and a broadcast: detects a faulty connection before a step is wasted.
    fn try_out(&self) -> Result<()> {
        let (rank, size) = (self.rank(), self.size());
        // Odd, and more than a frame; whole numbers below 2²⁴, whose sums are exact in any order.
        let count = (1 << 18) + 77;
        let weight = |rank: usize| rank % 8 + 1;
        let known = move |rank: usize, i: usize| (weight(rank) * (i % 31)) as f32;
        let (sum, most, root) = self.call(move |c| {
            let own = |rank| (0..count).map(|i| known(rank, i)).collect::<Vec<f32>>();
            let (mut sum, mut most, mut root) = (own(rank), own(rank), own(rank));
            c.all_reduce(&mut sum, ReduceOp::Sum)?;
            c.all_reduce(&mut most, ReduceOp::Max)?;
            c.broadcast(&mut root, size - 1)?;
            Ok::<_, ssmv_comm::Error>((sum, most, root))
        })?;
        let (whole, largest) = (0..size).fold((0, 0), |(s, m), r| (s + weight(r), m.max(weight(r))));
        for i in 0..count {
            let want = [(whole * (i % 31)) as f32, (largest * (i % 31)) as f32, known(size - 1, i)];
            if [sum[i], most[i], root[i]] != want {
                return Err(Error::Failure(format!(
                    "rank {rank}: the self-test of {size} ranks gives {:?} at number {i} where {want:?} are due: do not trust \
                     this machine or its network",
                    [sum[i], most[i], root[i]]
                )));
            }
        }
        Ok(())
    }

    /// Exchanges this rank's report of a step with all ranks.
    pub fn agree(&self, report: Report) -> Result<Agreement> {
        let (rank, size) = (self.rank(), self.size());
        let signal = self.interrupt.requested().unwrap_or_default();
        let own = Report { signal, ..report }.to_numbers();
        let gathered = self.call(move |c| {
            let mut all = vec![0.0; own.len() * size];
            all[rank * own.len()..][..own.len()].copy_from_slice(&own);
            c.all_gather(&mut all)?;
            Ok::<_, ssmv_comm::Error>(all)
        })?;
        let agreement = Agreement::of(&Report::all(&gathered));
        self.note_signal(agreement.signal);
        let mut watch = self.stragglers.lock().unwrap_or_else(PoisonError::into_inner);
        let line = watch.0.observe(&agreement.busy);
        watch.1 = line.or(watch.1.take());
        Ok(agreement)
    }

    /// Exchanges received signals with all ranks; an error if any rank received one.
    pub fn agree_on_signals(&self) -> Result<()> {
        self.share_signals()?;
        self.check()
    }

    /// Exchanges received signals with all ranks.
    pub fn share_signals(&self) -> Result<()> {
        let own = self.interrupt.requested().unwrap_or_default() as u32;
        let signal = self.call(move |c| {
            let mut signal = [own];
            c.all_reduce(&mut signal, ReduceOp::Max)?;
            Ok::<_, ssmv_comm::Error>(signal[0])
        })?;
        self.note_signal(signal as i32);
        Ok(())
    }

    fn note_signal(&self, signal: i32) {
        self.agreed.fetch_max(signal, Ordering::SeqCst);
    }

    /// [`Error::Interrupted`] if the ranks agreed on a signal: all ranks get it after the same step.
    pub fn check(&self) -> Result<()> {
        match self.agreed.load(Ordering::SeqCst) {
            0 => Ok(()),
            signal => Err(Error::Interrupted(signal)),
        }
    }

    /// The latest line on a slow rank, if it was not taken yet.
    pub fn take_line(&self) -> Option<String> {
        self.stragglers.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }

    /// Compares the initial state of the ranks: the step and the parameters.
    ///
    /// # Errors
    /// Ranks whose state differs.
    pub fn compare_start(&self, step: u64, parameters: &[f32]) -> Result<()> {
        self.compare_now(step, crc32c::crc32c_append(step as u32, bytemuck::cast_slice(parameters)))
    }

    /// Compares a digest of the parameters, or of values derived from all of them, across ranks, if it is due.
    ///
    /// # Errors
    /// Ranks whose digest differs: all later results would be worthless.
    pub fn compare(&self, step: u64, digest: impl FnOnce() -> Result<u32>) -> Result<()> {
        match self.check_every.is_some_and(|every| step.is_multiple_of(every)) {
            true => self.compare_now(step, digest()?),
            false => Ok(()),
        }
    }

    /// Compares this rank's digest with the others'.
    ///
    /// # Errors
    /// Ranks whose digest differs.
    pub fn compare_now(&self, step: u64, own: u32) -> Result<()> {
        let (rank, size) = (self.rank(), self.size());
        let all = self.call(move |c| {
            let mut all = vec![0; size];
            all[rank] = own;
            c.all_gather(&mut all)?;
            Ok::<_, ssmv_comm::Error>(all)
        })?;
        let Some(other) = all.iter().position(|&digest| digest != all[0]) else { return Ok(()) };
        self.sound.store(false, Ordering::SeqCst);
        Err(Error::Failure(format!(
            "step {step}: the parameters of rank {other} have the digest {:08x}, those of rank 0 {:08x}: the ranks began \
             differently, or memory or a wire is faulty; no checkpoint was written since they agreed last: go on from the latest",
            all[other], all[0]
        )))
    }

    /// Whether all comparisons of the ranks agreed so far.
    pub fn is_sound(&self) -> bool {
        self.sound.load(Ordering::SeqCst)
    }

    /// Copies rank 0's running statistics to all ranks, for evaluation and checkpoints.
    pub fn share_statistics(&self, norms: &mut [RunningStatistics]) -> Result<()> {
        let mut flat = Vec::new();
        for norm in norms.iter() {
            flat.extend(norm.mean.iter().chain(&norm.variance));
            flat.push(norm.batches as f64);
        }
        let flat = self.call(move |c| {
            let mut flat = flat;
            c.broadcast(&mut flat, 0)?;
            Ok::<_, ssmv_comm::Error>(flat)
        })?;
        let mut rest = flat.into_iter();
        for norm in norms {
            norm.mean
                .iter_mut()
                .chain(&mut norm.variance)
                .zip(&mut rest)
                .for_each(|(value, new)| *value = new);
            norm.batches = rest.next().unwrap_or_default() as i64;
        }
        Ok(())
    }
}

impl AcrossRanks for Ranks {
    fn sum(&self, values: &mut [f64]) -> ssmv_autograd::Result<()> {
        Share::sum(self, values).map_err(|e| ssmv_autograd::Error::Elsewhere(e.to_string()))
    }
}

impl Share for Ranks {
    fn rank(&self) -> usize {
        self.comm_thread.rank()
    }

    fn size(&self) -> usize {
        self.comm_thread.size()
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        let mut own = values.to_vec();
        let sums = self.call(move |c| {
            c.all_reduce(&mut own, ReduceOp::Sum)?;
            Ok::<_, ssmv_comm::Error>(own)
        })?;
        values.copy_from_slice(&sums);
        Ok(())
    }
}
