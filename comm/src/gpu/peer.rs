//! The link within a machine: each rank writes its right neighbour's memory.
//!
//! A rank has an inbox, which its left neighbour opens. It has as many slots as there are ranks, and a slot has a few pieces.
//! Message k uses slot k modulo the number of slots. Two kinds of events order the streams of both ranks, and no host waits for a
//! device:
//!
//! - **filled**, one for each piece: the writer records it after the work that writes the piece; the reader's stream waits for it.
//! - **consumed**, one for each slot: the reader records it after the work that reads the slot; the writer's stream waits for it
//!   before it writes there again.
//!
//! A wait may be queued only after the event was recorded. So each rank counts the messages whose events it has recorded, in
//! memory that it shares with its neighbours' processes ([`Word`]). Over the control ring the ranks only compare their turns, once
//! in a collective. **Why n slots are enough for n ranks:** if the left neighbour has counted k − 1, it saw its own left neighbour
//! count k − 2, and so on round the ring to the right neighbour, which has counted k − n + 1. Before that it recorded that it
//! consumed message k − n, whose slot message k uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ssmv_autograd::cuda::{
    Address, Cuda, EventHandle, HANDLE_BYTES, MemoryHandle, PeerMemory, SharedEvent, SharedMemory, Stream,
};

use super::word::{Name, Word};
use super::{Aborter, DeviceLink, Error, Result, Turn};
use crate::{Communicator, say};

/// Size of a handle in words.
const HANDLE: usize = HANDLE_BYTES / 4;

/// Size in words of the first part of a card: the machine, the inbox's bytes, the name of the rank's [`Word`].
const HEAD: usize = 3 + size_of::<Name>() / 4;

/// Number of polls of a neighbour's word without a pause: its host is rarely far behind.
const SPINS: u32 = 200;

/// Shortest and longest pause between two later polls.
const PAUSES: (Duration, Duration) = (Duration::from_micros(10), Duration::from_micros(500));

/// Time between two checks of the control ring during a wait for a neighbour.
const RING: Duration = Duration::from_millis(5);

/// Sizes and timeout of a [`PeerLink`]; the same on all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerOptions {
    /// Size limit of a piece in bytes.
    pub most: usize,
    /// The number of pieces of a turn: while one is reduced, the next is written.
    pub width: usize,
    /// Longest wait for a neighbour.
    pub timeout: Duration,
}

impl Default for PeerOptions {
    /// Four pieces of 1 MiB in a turn, so 4 MiB of inbox for each rank; five minutes.
    fn default() -> Self {
        Self { most: 1 << 20, width: 4, timeout: Duration::from_secs(300) }
    }
}

/// The memory and events that a rank offers to its neighbours.
#[derive(Debug)]
struct Offer {
    inbox: SharedMemory,
    /// Events by slot and piece.
    filled: Vec<SharedEvent>,
    /// Events by slot.
    consumed: Vec<SharedEvent>,
    /// Twice the number of messages that this rank has sent and whose events are recorded; plus one during a long wait for its
    /// left neighbour.
    sent: Word,
    name: Name,
}

impl Offer {
    fn new(cuda: &Cuda, slots: usize, options: PeerOptions) -> ssmv_autograd::Result<Self> {
        let pieces = slots * options.width;
        let events = |count: usize| (0..count).map(|_| cuda.share_event()).collect::<Result<Vec<_>, _>>();
        let (sent, name) = Word::create().map_err(system_error("share memory between processes"))?;
        let (filled, consumed) = (events(pieces)?, events(slots)?);
        Ok(Self { inbox: cuda.share((pieces * stride(options)) as u64)?, filled, consumed, sent, name })
    }

    fn with_card(cuda: &Cuda, slots: usize, options: PeerOptions) -> ssmv_autograd::Result<(Self, Vec<u32>)> {
        let offer = Self::new(cuda, slots, options)?;
        match offer.card() {
            Ok(card) => Ok((offer, card)),
            // No other process has opened it yet.
            Err(error) => offer.free().and(Err(error)),
        }
    }

    /// The card for the neighbours: size of the inbox, name of the word, handles of the inbox and the events.
    fn card(&self) -> ssmv_autograd::Result<Vec<u32>> {
        let bytes = self.inbox.bytes();
        let mut card = vec![machine(), bytes as u32, (bytes >> 32) as u32];
        card.extend(self.name);
        card.extend(words(&self.inbox.handle()?.0));
        for event in self.filled.iter().chain(&self.consumed) {
            card.extend(words(&event.handle()?.0));
        }
        Ok(card)
    }

    /// Frees the memory and events, after the neighbours have closed them.
    fn free(self) -> ssmv_autograd::Result<()> {
        self.filled.into_iter().chain(self.consumed).try_for_each(SharedEvent::destroy)?;
        self.inbox.free()
    }
}

/// The memory and events that a rank opened of its neighbours.
#[derive(Debug)]
struct Opened {
    right_inbox: PeerMemory,
    right_consumed: Vec<SharedEvent>,
    left_filled: Vec<SharedEvent>,
    left_sent: Word,
}

impl Opened {
    fn new(cuda: &Cuda, left: &[u32], right: &[u32], slots: usize) -> ssmv_autograd::Result<Self> {
        let bytes = u64::from(right[1]) | u64::from(right[2]) << 32;
        let events = |handles: &[u32]| {
            let open = |words| cuda.open_peer_event(&EventHandle(bytes_of(words)));
            handles.chunks_exact(HANDLE).map(open).collect::<Result<Vec<_>, _>>()
        };
        let name: Name = std::array::from_fn(|i| left[HEAD - 4 + i]);
        let left_sent = Word::open(name).map_err(system_error("open memory of another process"))?;
        let (left, right) = (&left[HEAD..], &right[HEAD..]);
        let consumed = right.len() - slots * HANDLE;
        let right_consumed = events(&right[consumed..])?;
        let left_filled = events(&left[HANDLE..left.len() - slots * HANDLE])?;
        // The memory last, so that it is not left open after an error.
        let right_inbox = cuda.open_peer(&MemoryHandle(bytes_of(&right[..HANDLE])), bytes)?;
        Ok(Self { right_inbox, right_consumed, left_filled, left_sent })
    }

    /// Closes the memory and events, after the queued work is done.
    fn close(self) -> ssmv_autograd::Result<()> {
        self.right_inbox.close()?;
        self.right_consumed.into_iter().chain(self.left_filled).try_for_each(SharedEvent::destroy)
    }
}

/// A link between devices that can access each other's memory. The file `peer.rs` begins with the protocol.
#[derive(Debug)]
pub struct PeerLink {
    rank: usize,
    ranks: usize,
    options: PeerOptions,
    offer: Offer,
    opened: Opened,
    /// The number of turns so far, which is the number of the message to write.
    turns: u64,
    /// Whether the stream already waits for that message's slot.
    free: bool,
    aborted: Arc<AtomicBool>,
}

impl PeerLink {
    /// Connects this rank's device with those of its neighbours in the control ring, all of one machine.
    ///
    /// # Errors
    /// [`Error::Unreachable`] on all ranks if one of them cannot; errors of the control ring.
    pub fn connect(cuda: &Cuda, control: &mut Communicator, options: PeerOptions) -> Result<Self> {
        let (rank, ranks) = (control.rank(), control.size());
        if ranks < 2 || options.width == 0 || options.most < 16 {
            let message =
                format!("{ranks} ranks and {options:?}: two ranks, a piece of 16 bytes are the least");
            return Err(Error::Argument { rank, operation: "connect", message });
        }
        let len = HEAD + HANDLE * (1 + ranks * options.width + ranks);
        let offered = Offer::with_card(cuda, ranks, options);
        let mut cards = vec![0u32; len * ranks];
        if let Ok((_, card)) = &offered {
            cards[len * rank..][..len].copy_from_slice(card);
        }
        control.all_gather(&mut cards)?;

        let card = |rank: usize| &cards[len * (rank % ranks)..][..len];
        let (left, right) = (card(rank + ranks - 1), card(rank + 1));
        let opened = match &offered {
            Err(error) => Err(error.to_string()),
            // A rank without an offer sends an empty card and reports the reason itself.
            Ok(_) if (0..ranks).any(|rank| card(rank)[1..3] == [0, 0]) => Err(String::new()),
            Ok(_) if [left, right].iter().any(|card| card[0] != machine()) => {
                Err("a neighbour is on another machine".into())
            }
            Ok(_) => Opened::new(cuda, left, right, ranks).map_err(|e| e.to_string()),
        };
        let mut able = vec![0u32; ranks];
        able[rank] = opened.is_ok().into();
        control.all_gather(&mut able)?;
        let unable = able.iter().position(|&able| able == 0);
        match (offered, opened, unable) {
            (Ok((mut offer, _)), Ok(opened), None) => {
                offer.sent.hide();
                let aborted = Arc::default();
                Ok(Self { rank, ranks, options, offer, opened, turns: 0, free: false, aborted })
            }
            (offered, opened, unable) => {
                let other = format!("rank {} cannot; see its error", unable.unwrap_or(rank));
                let why = match opened {
                    Ok(opened) => opened.close().err().map(|e| e.to_string()),
                    Err(why) => Some(why).filter(|why| !why.is_empty()),
                };
                control.barrier()?;
                let freed = offered.and_then(|(offer, _)| offer.free()).err().map(|e| e.to_string());
                Err(Error::Unreachable(why.or(freed).unwrap_or(other)))
            }
        }
    }

    fn slot(&self, message: u64) -> usize {
        (message % self.ranks as u64) as usize
    }

    fn offset(&self, message: u64, piece: usize) -> u64 {
        ((self.slot(message) * self.options.width + piece) * stride(self.options)) as u64
    }

    fn event(&self, message: u64, piece: usize) -> usize {
        self.slot(message) * self.options.width + piece
    }

    /// Number of the message to read next.
    fn read(&self) -> u64 {
        self.turns.saturating_sub(1)
    }

    fn left(&self) -> usize {
        (self.rank + self.ranks - 1) % self.ranks
    }

    /// Waits until the left neighbour has sent as many messages as this rank.
    fn wait_for_left(&self, control: &mut Communicator, turn: Turn) -> Result<()> {
        let (rank, operation, left, timeout) = (self.rank, turn.name(), self.left(), self.options.timeout);
        let (start, mut polls, mut pause) = (Instant::now(), 0, PAUSES.0);
        let (mut checked, mut warned) = (start, false);
        while self.opened.left_sent.get() / 2 < self.turns {
            if self.aborted.load(Ordering::Relaxed) {
                return Err(Error::Aborted { rank, operation });
            }
            polls += 1;
            if polls < SPINS {
                std::hint::spin_loop();
                continue;
            }
            if checked.elapsed() >= RING {
                control.check()?;
                checked = Instant::now();
            }
            let (waited, seconds) = (start.elapsed(), start.elapsed().as_secs_f64());
            // If the neighbour itself waits, another rank is the cause: the rank that waits for that one times out
            // first.
            let limit = if self.opened.left_sent.get() % 2 == 1 { 2 * timeout } else { timeout };
            if waited >= limit {
                return Err(Error::Stalled { rank, operation, left, seconds });
            }
            if waited >= timeout / 4 && !std::mem::replace(&mut warned, true) {
                self.offer.sent.set(2 * self.turns + 1);
                let timeout = timeout.as_secs_f64();
                say(&format!(
                    "rank {rank}: {operation} over device memory: waiting {seconds:.1} s for rank {left} to send; giving up \
                     after {timeout:.1} s"
                ));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
        Ok(())
    }
}

/// Converts an error of the operating system.
fn system_error(operation: &'static str) -> impl Fn(std::io::Error) -> ssmv_autograd::Error {
    move |error| ssmv_autograd::Error::Elsewhere(format!("{operation}: {error}"))
}

/// Distance between pieces in bytes: 15 more than a piece, to align it as its elements are.
fn stride(options: PeerOptions) -> usize {
    (options.most + 15).next_multiple_of(256)
}

/// A number that all processes of a machine share, and other machines do not.
fn machine() -> u32 {
    crc32c::crc32c(&std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default())
}

fn words(bytes: &[u8; HANDLE_BYTES]) -> [u32; HANDLE] {
    std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|j| bytes[4 * i + j])))
}

/// Inverse of [`words`]: words to bytes.
fn bytes_of(words: &[u32]) -> [u8; HANDLE_BYTES] {
    let mut bytes = [0; HANDLE_BYTES];
    bytes.chunks_exact_mut(4).zip(words).for_each(|(four, word)| four.copy_from_slice(&word.to_le_bytes()));
    bytes
}

impl DeviceLink for PeerLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn width(&self) -> usize {
        self.options.width
    }

    fn most(&self) -> usize {
        self.options.most
    }

    fn outbox(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address> {
        if !self.free && self.turns >= self.ranks as u64 {
            self.opened.right_consumed[self.slot(self.turns)].wait(stream)?;
        }
        self.free = true;
        Ok(self.opened.right_inbox.address().offset(self.offset(self.turns, piece)))
    }

    fn send(&mut self, piece: usize, _: usize, stream: Stream) -> ssmv_autograd::Result<()> {
        self.offer.filled[self.event(self.turns, piece)].record(stream)
    }

    fn turn(&mut self, control: &mut Communicator, turn: Turn, _: &[usize], _: Stream) -> Result<()> {
        if turn.tag.index == 0 {
            turn.compare(control)?;
        }
        self.turns += 1;
        self.free = false;
        self.offer.sent.set(2 * self.turns);
        self.wait_for_left(control, turn)
    }

    fn receive(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address> {
        self.opened.left_filled[self.event(self.read(), piece)].wait(stream)?;
        Ok(self.offer.inbox.address().offset(self.offset(self.read(), piece)))
    }

    fn release(&mut self, stream: Stream) -> ssmv_autograd::Result<()> {
        self.offer.consumed[self.slot(self.read())].record(stream)
    }

    fn aborter(&self) -> Aborter {
        let aborted = Arc::clone(&self.aborted);
        Arc::new(move || aborted.store(true, Ordering::Relaxed))
    }

    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()> {
        let Self { rank, offer, opened, .. } = *self;
        let failed = |source| Error::Device { rank, operation: "close", source };
        // Closing waits for the queued work; after the barrier no rank writes here.
        opened.close().map_err(failed)?;
        control.barrier()?;
        offer.free().map_err(failed)
    }
}
