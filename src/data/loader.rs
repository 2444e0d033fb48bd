//! Batches that background threads prepare ahead of their use.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::moving_mnist::Random;
use super::{Dataset, MAX_BYTES, Split};
use crate::{Error, Result};

/// The batches of a [`Loader`], and how far ahead it works.
#[derive(Debug, Clone, Copy)]
pub struct LoaderSpec {
    /// Training or test sequences.
    pub split: Split,
    /// Sequences in a batch.
    pub batch: usize,
    /// Epoch of the first batch.
    pub epoch: u64,
    /// Number of the first batch within its epoch, where an interrupted run continues.
    pub first_batch: u64,
    /// Sequences in an epoch of all ranks; sequences that do not fill a last batch on every rank are left out.
    pub sequences_per_epoch: u64,
    /// This rank and the number of ranks: it takes sequences rank, rank + ranks, … of an epoch's order.
    pub share: (u64, u64),
    /// Seed of the order of a file's sequences.
    pub seed: u64,
    /// True: a file's sequences have a new order in each epoch. Generated sequences are random anyway.
    pub shuffle: bool,
    /// Background threads; 0 means 1.
    pub workers: usize,
    /// Batches that are kept ready; 0 means 1.
    pub ahead: usize,
}

/// A batch of sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Epoch of the batch.
    pub epoch: u64,
    /// Number of the batch within the epoch.
    pub index: u64,
    /// Number of sequences B.
    pub batch: usize,
    /// [B, T, S, S, C], 0 is black.
    pub frames: Vec<u8>,
}

/// An endless series of batches, whose order depends only on the specification, not on the threads. Dropping it stops the
/// threads.
#[derive(Debug)]
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
}

#[derive(Debug)]
struct Shared {
    dataset: Arc<Dataset>,
    spec: LoaderSpec,
    batches_per_epoch: u64,
    state: Mutex<State>,
    /// A batch became ready.
    ready: Condvar,
    /// A batch was taken, or the loader stops.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number, counted from the loader's start, of the next batch that a thread will make.
    started: u64,
    /// The number of the next batch that `next` will give.
    given: u64,
    made: BTreeMap<u64, Result<Batch>>,
    spare: Vec<Vec<u8>>,
    stop: bool,
}

impl Loader {
    /// Starts the background threads.
    ///
    /// # Errors
    /// [`Error::Usage`] when an epoch does not fill one batch, a split has fewer sequences than an epoch, or a batch
    /// would pass 1 GiB; [`Error::Failure`] when no thread can be started.
    pub fn new(dataset: Arc<Dataset>, spec: LoaderSpec) -> Result<Self> {
        if let Some(len) = dataset.len(spec.split).filter(|&len| len < spec.sequences_per_epoch) {
            return Err(Error::Usage(format!(
                "an epoch of {} sequences is larger than the data, which has {len}",
                spec.sequences_per_epoch
            )));
        }
        let (rank, ranks) = spec.share;
        if rank >= ranks {
            return Err(Error::Usage(format!("rank {rank} of {ranks} has no share of the data")));
        }
        if spec.batch == 0 || spec.sequences_per_epoch / ranks < spec.batch as u64 {
            return Err(Error::Usage(format!(
                "an epoch of {} sequences does not fill a batch of {}; change --batch-size or --sequences",
                spec.sequences_per_epoch, spec.batch
            )));
        }
        if spec.batch.checked_mul(dataset.sequence_bytes()).is_none_or(|bytes| bytes > MAX_BYTES) {
            return Err(Error::Usage(format!(
                "a batch of {} sequences is more than 1 GiB; make it smaller (--batch-size)",
                spec.batch
            )));
        }
        Self::start(dataset, spec)
    }

    /// [`Loader::new`] for a specification that was checked.
    fn start(dataset: Arc<Dataset>, spec: LoaderSpec) -> Result<Self> {
        let workers = spec.workers.clamp(1, 256);
        let shared = Arc::new(Shared {
            batches_per_epoch: (spec.sequences_per_epoch / spec.share.1.max(1) / spec.batch as u64).max(1),
            dataset,
            spec,
            state: Mutex::default(),
            ready: Condvar::new(),
            room: Condvar::new(),
        });
        let mut loader = Self { shared, threads: Vec::new(), waited: Duration::ZERO };
        for i in 0..workers {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new().name(format!("data-{i}")).spawn(move || shared.work());
            match thread {
                Ok(thread) => loader.threads.push(thread),
                // One thread is enough to go on.
                Err(_) if i > 0 => break,
                Err(e) => return Err(Error::Failure(format!("cannot start a thread for the data: {e}"))),
            }
        }
        Ok(loader)
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.shared.batches_per_epoch
    }

    /// The next batch; waits until it is ready.
    ///
    /// # Errors
    /// The error that occurred while the batch was made.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and gives a Result")]
    pub fn next(&mut self) -> Result<Batch> {
        let mut state = self.shared.lock();
        let number = state.given;
        if !state.made.contains_key(&number) {
            let start = Instant::now();
            while !state.made.contains_key(&number) {
                state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            self.waited += start.elapsed();
        }
        state.given += 1;
        let batch = state.made.remove(&number);
        drop(state);
        self.shared.room.notify_one();
        batch.unwrap_or_else(|| Err(Error::Failure("a batch was lost".into())))
    }

    /// Returns the memory of a batch for reuse.
    pub fn recycle(&mut self, batch: Batch) {
        let mut state = self.shared.lock();
        if state.spare.len() <= self.shared.ahead() as usize {
            state.spare.push(batch.frames);
        }
    }

    /// Total time that [`Loader::next`] has waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was printed when it occurred.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The state, which no panic can leave half changed: nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ahead(&self) -> u64 {
        self.spec.ahead.max(1) as u64
    }

    /// The loop of a thread: takes the next number and makes that batch, until the loader stops.
    fn work(&self) {
        let mut order = Order::default();
        loop {
            let mut state = self.lock();
            while !state.stop && state.started >= state.given.saturating_add(self.ahead()) {
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            let number = state.started;
            state.started += 1;
            let buffer = state.spare.pop().unwrap_or_default();
            drop(state);
            // The waiting caller must get a panic as an error, or it would wait forever.
            let batch = catch_unwind(AssertUnwindSafe(|| self.batch(number, buffer, &mut order)))
                .unwrap_or_else(|_| Err(Error::Failure("a data thread panicked".into())));
            self.lock().made.insert(number, batch);
            self.ready.notify_all();
        }
    }

    fn batch(&self, number: u64, mut frames: Vec<u8>, order: &mut Order) -> Result<Batch> {
        let spec = &self.spec;
        let number = spec.first_batch.saturating_add(number);
        let epoch = spec.epoch.saturating_add(number / self.batches_per_epoch);
        let index = number % self.batches_per_epoch;
        frames.resize(spec.batch * self.dataset.sequence_bytes(), 0);
        for (i, out) in frames.chunks_exact_mut(self.dataset.sequence_bytes()).enumerate() {
            if self.lock().stop {
                break;
            }
            let (rank, ranks) = spec.share;
            let position = (index * spec.batch as u64 + i as u64) * ranks + rank;
            let sequence = match self.dataset.len(spec.split).filter(|_| spec.shuffle) {
                Some(len) => order.at(spec.seed, epoch, len, position),
                None => position,
            };
            self.dataset.sequence(spec.split, epoch, sequence, out)?;
        }
        Ok(Batch { epoch, index, batch: spec.batch, frames })
    }
}

/// Order of a file's sequences in one epoch.
#[derive(Debug, Default)]
struct Order {
    epoch: u64,
    numbers: Vec<u64>,
}

impl Order {
    /// The number at `position` of the epoch's permutation of 0…len − 1.
    fn at(&mut self, seed: u64, epoch: u64, len: u64, position: u64) -> u64 {
        if self.numbers.is_empty() || self.epoch != epoch {
            self.numbers.clear();
            self.numbers.extend(0..len);
            // Fisher and Yates; the third word keeps this stream apart from those of the sequences.
            let mut random = Random::from_words([seed, 2, epoch, 0]);
            for i in (1..self.numbers.len()).rev() {
                self.numbers.swap(i, random.below(i as u64 + 1) as usize);
            }
            self.epoch = epoch;
        }
        self.numbers.get(position as usize).copied().unwrap_or(position)
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::write_u8;
    use super::super::{DataSource, DataSpec};
    use super::*;
    use crate::clips::{ClipOptions, Layout};

    fn spec(workers: usize, ahead: usize) -> LoaderSpec {
        LoaderSpec {
            split: Split::Train,
            batch: 3,
            epoch: 4,
            first_batch: 0,
            sequences_per_epoch: 10,
            share: (0, 1),
            seed: 8,
            shuffle: true,
            workers,
            ahead,
        }
    }

    fn made() -> Arc<Dataset> {
        let spec = DataSpec { canvas: 28, frames: 2, ..DataSpec::default() };
        Arc::new(Dataset::open(&spec).unwrap())
    }

    /// 20 sequences of one pixel whose value is their number.
    fn file() -> Arc<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write_u8(&path, &[20, 1, 1, 1], &(0..20).collect::<Vec<u8>>()).unwrap();
        let options = ClipOptions { layout: Layout::Nthw, ..ClipOptions::default() };
        let source = DataSource::Clips { path, options };
        Arc::new(Dataset::open(&DataSpec { source, frames: 1, canvas: 1, ..DataSpec::default() }).unwrap())
    }

    #[test]
    fn the_order_does_not_depend_on_the_threads() {
        for data in [made(), file()] {
            let mut one = Loader::new(Arc::clone(&data), spec(1, 1)).unwrap();
            let mut many = Loader::new(Arc::clone(&data), spec(5, 7)).unwrap();
            let mut later =
                Loader::new(Arc::clone(&data), LoaderSpec { epoch: 5, first_batch: 1, ..spec(2, 2) });
            for number in 0..12u64 {
                let batch = one.next().unwrap();
                assert_eq!((batch.epoch, batch.index), (4 + number / 3, number % 3));
                assert_eq!(batch, many.next().unwrap());
                if number >= 4 {
                    assert_eq!(batch, later.as_mut().unwrap().next().unwrap());
                }
                many.recycle(batch);
            }
            assert!(one.waited() > Duration::ZERO);
        }
    }

    #[test]
    fn an_epoch_of_a_file_shows_each_sequence_once_in_another_order() {
        let data = file();
        let whole = LoaderSpec { sequences_per_epoch: 18, ..spec(2, 3) };
        let mut loader = Loader::new(Arc::clone(&data), whole).unwrap();
        let mut epoch = || (0..6).flat_map(|_| loader.next().unwrap().frames).collect::<Vec<u8>>();
        let (first, second) = (epoch(), epoch());
        assert_ne!(first, second);
        for mut order in [first, second] {
            order.sort_unstable();
            assert_eq!(order, (0..18).collect::<Vec<u8>>());
        }
        let mut plain = Loader::new(data, LoaderSpec { shuffle: false, ..whole }).unwrap();
        assert_eq!(plain.next().unwrap().frames, [0, 1, 2]);
    }

    #[test]
    fn the_ranks_shares_of_a_batch_are_the_batch_of_one_rank() {
        for data in [made(), file()] {
            let whole = LoaderSpec { batch: 6, sequences_per_epoch: 18, first_batch: 1, ..spec(1, 1) };
            let mut one = Loader::new(Arc::clone(&data), whole).unwrap();
            let shares = (0..3).map(|rank| LoaderSpec { batch: 2, share: (rank, 3), ..whole });
            let mut shares: Vec<_> = shares.map(|s| Loader::new(Arc::clone(&data), s).unwrap()).collect();
            let size = data.sequence_bytes();
            for _ in 0..5 {
                let whole = one.next().unwrap();
                let parts: Vec<_> = shares.iter_mut().map(|s| s.next().unwrap()).collect();
                for (i, sequence) in whole.frames.chunks_exact(size).enumerate() {
                    let part = &parts[i % 3];
                    assert_eq!((part.epoch, part.index), (whole.epoch, whole.index));
                    assert_eq!(&part.frames[i / 3 * size..][..size], sequence, "sequence {i}");
                }
            }
        }
    }

    #[test]
    fn refuses_what_cannot_be() {
        for bad in [
            LoaderSpec { batch: 0, ..spec(1, 1) },
            LoaderSpec { batch: 11, ..spec(1, 1) },
            LoaderSpec { sequences_per_epoch: 19, ..spec(1, 1) },
            LoaderSpec { share: (2, 2), ..spec(1, 1) },
            LoaderSpec { share: (0, 4), ..spec(1, 1) },
        ] {
            assert!(matches!(Loader::new(file(), bad), Err(Error::Usage(_))), "{bad:?}");
        }
        let absurd = LoaderSpec { batch: usize::MAX, sequences_per_epoch: u64::MAX, ..spec(1, 1) };
        assert!(matches!(Loader::new(made(), absurd), Err(Error::Usage(_))));
    }

    #[test]
    fn an_error_reaches_the_one_who_waits() {
        // 21 sequences are more than the 18 there are: the last batch of the epoch cannot be made, all others can.
        let mut loader =
            Loader::start(file(), LoaderSpec { sequences_per_epoch: 21, shuffle: false, ..spec(3, 4) })
                .unwrap();
        for number in 0..14 {
            assert_eq!(loader.next().is_err(), number % 7 == 6, "{number}");
        }
    }

    #[test]
    fn dropping_ends_the_threads() {
        let data = made();
        drop(Loader::new(Arc::clone(&data), spec(4, 100)).unwrap());
        assert_eq!(Arc::strong_count(&data), 1);
    }
}
