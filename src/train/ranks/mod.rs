//! What one rank of a data-parallel training does with the others.
//!
//! Every rank is a process with the whole model and batches of its own. After each backward pass the gradients are
//! averaged over all ranks, so that every rank takes the same step to the same bits:
//!
//! | file | what it is |
//! | --- | --- |
//! | `buckets.rs` | how the gradient arena is cut; buckets travel while the backward pass goes on |
//! | `cpu.rs`, `gpu.rs` | one step's buckets on their way; with `--zero 1` each rank keeps a share of each |
//! | `report.rs` | what the ranks tell each other once a step: losses, found-inf, signals, times |
//! | `straggler.rs` | the rank that all wait for; on the CPU |
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
    /// Its way to the other ranks.
    pub communicator: Communicator,
    /// Where it is among the ranks of its machine.
    pub local: Local,
}

/// A rank's place on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its number among the ranks of the machine, from 0: also which of the machine's GPUs is its.
    pub rank: usize,
    /// The number of those.
    pub size: usize,
}

/// The other ranks, as one of them sees them.
pub struct Ranks {
    comm_thread: CommThread,
    local: Local,
    interrupt: Interrupt,
    /// The signal that all ranks know of; 0: none.
    agreed: AtomicI32,
    /// Nanoseconds in which this rank waited for others.
    waited: AtomicU64,
    /// Whether a collective failed.
    failed: AtomicBool,
    /// Whether the ranks were found to have the same parameters as far as was looked.
    sound: AtomicBool,
    stragglers: Mutex<(Stragglers, Option<String>)>,
    /// Each rank updates a share of the parameters.
    pub zero: bool,
    /// Normalises by the statistics of all ranks' batches.
    pub sync_batchnorm: bool,
    /// Bytes of a bucket.
    pub bucket_bytes: usize,
    /// How long a rank is waited for.
    pub timeout: Duration,
    /// Reduces buckets beside the backward pass; otherwise all of them after it, to the same bits.
    pub overlap: bool,
    /// Steps between two comparisons of the parameters.
    pub check_every: Option<u64>,
}

impl Ranks {
    /// Ranks that have found each other; checks that numbers arrive as they should.
    ///
    /// # Errors
    /// Ranks that fail, sums that are wrong.
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

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.comm_thread.size()
    }

    /// Where this rank is among those of its machine.
    pub fn local(&self) -> Local {
        self.local
    }

    /// Whether all ranks are on one machine.
    pub fn is_local(&self) -> bool {
        self.local.size == self.size()
    }

    /// Whether this is the rank that writes files and speaks.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Waits for a queued collective.
    fn wait<R, E: From<ssmv_comm::Error>>(&self, pending: Pending<R, E>) -> Result<R, E> {
        pending.wait().inspect_err(|_| self.fail())
    }

    /// Whether the ring's connections stand, as far as can be seen without sending anything; collectives that are queued
    /// run first.
    ///
    /// # Errors
    /// A rank that is gone.
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

    /// Notes that a collective failed: the ranks are no longer together.
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

    /// Tells all other ranks that this one ends, and why.
    pub fn abandon(&self, why: &str) {
        self.fail();
        let why = why.to_owned();
        // A ring that failed has told them already.
        let _ = self.comm_thread.call(move |communicator| {
            communicator.abandon(&why);
            Ok::<(), ssmv_comm::Error>(())
        });
    }

    /// Sums and maxima of known numbers, and a broadcast: what is wrong with the wire is found before a step is wasted.
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

    /// Tells all ranks of this rank's share of a step and hears of theirs.
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
        self.heard(agreement.signal);
        let mut watch = self.stragglers.lock().unwrap_or_else(PoisonError::into_inner);
        let line = watch.0.observe(&agreement.busy);
        watch.1 = line.or(watch.1.take());
        Ok(agreement)
    }

    /// Tells all ranks of a signal that came to this one and hears of theirs; an error once there is one.
    pub fn agree_on_signals(&self) -> Result<()> {
        self.share_signals()?;
        self.check()
    }

    /// Tells all ranks of a signal that came to this one and hears of theirs.
    pub fn share_signals(&self) -> Result<()> {
        let own = self.interrupt.requested().unwrap_or_default() as u32;
        let signal = self.call(move |c| {
            let mut signal = [own];
            c.all_reduce(&mut signal, ReduceOp::Max)?;
            Ok::<_, ssmv_comm::Error>(signal[0])
        })?;
        self.heard(signal as i32);
        Ok(())
    }

    fn heard(&self, signal: i32) {
        self.agreed.fetch_max(signal, Ordering::SeqCst);
    }

    /// [`Error::Interrupted`] once all ranks know of a signal: each comes here after the same step.
    pub fn check(&self) -> Result<()> {
        match self.agreed.load(Ordering::SeqCst) {
            0 => Ok(()),
            signal => Err(Error::Interrupted(signal)),
        }
    }

    /// A line on a slow rank, where there is one that was not taken.
    pub fn take_line(&self) -> Option<String> {
        self.stragglers.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }

    /// Compares where the ranks begin: the step and the parameters.
    ///
    /// # Errors
    /// Ranks that differ.
    pub fn compare_start(&self, step: u64, parameters: &[f32]) -> Result<()> {
        self.compare_now(step, crc32c::crc32c_append(step as u32, bytemuck::cast_slice(parameters)))
    }

    /// Compares a digest of the parameters, or of all that follows from them, across ranks, when it is time to.
    ///
    /// # Errors
    /// Ranks that differ: whatever is computed from now on is worthless.
    pub fn compare(&self, step: u64, digest: impl FnOnce() -> Result<u32>) -> Result<()> {
        match self.check_every.is_some_and(|every| step.is_multiple_of(every)) {
            true => self.compare_now(step, digest()?),
            false => Ok(()),
        }
    }

    /// Compares this rank's digest with the others'.
    ///
    /// # Errors
    /// Ranks that differ.
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

    /// Whether no difference between the ranks was found.
    pub fn is_sound(&self) -> bool {
        self.sound.load(Ordering::SeqCst)
    }

    /// Gives all ranks rank 0's running statistics, as they are evaluated and kept.
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
