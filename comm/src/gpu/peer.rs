//! The link within a machine: each rank writes its right neighbour's memory.
//!
//! A rank has an inbox, which its left neighbour opens: a slot a rank of the ring, each of a few pieces. Message k goes to
//! slot k modulo the slots. Two kinds of events order the streams of both, and neither host ever waits for a device:
//!
//! - **filled**, one a piece: the writer records it behind the work that writes the piece, the reader's stream waits for it.
//! - **consumed**, one a slot: the reader records it behind the work that reads the slot, the writer's stream waits for it
//!   before it writes there again.
//!
//! A wait may only be queued once the event has been recorded, so each rank says that it has recorded all of message k: word
//! k, in memory that it shares with its neighbours' processes ([`Word`]). Over the control ring the ranks only compare, once a
//! collective, what they are about to do. **Why as many slots as ranks are enough:** a rank that has word k − 1 of its left neighbour
//! knows that this one had word k − 2 of its own, and so on round the ring to the right neighbour, which sent word
//! k − n + 1. Before that word it recorded that it consumed message k − n, which is the one whose slot message k takes.

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

/// Words of a handle.
const HANDLE: usize = HANDLE_BYTES / 4;

/// Words of a card before its handles: the machine, the inbox's bytes, the name of the rank's [`Word`].
const HEAD: usize = 3 + size_of::<Name>() / 4;

/// Looks at a neighbour's word without a pause: its host is rarely far behind.
const EAGER: u32 = 200;

/// The first pause between two later looks, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_micros(10), Duration::from_micros(500));

/// Between two looks at the control ring, while a neighbour is waited for.
const RING: Duration = Duration::from_millis(5);

/// How pieces travel; the same on all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerOptions {
    /// Bytes that a piece has at most.
    pub most: usize,
    /// Pieces a turn: while one is reduced, the next is on the way.
    pub width: usize,
    /// How long a neighbour is waited for.
    pub timeout: Duration,
}

impl Default for PeerOptions {
    /// Pieces of 1 MiB, four a turn: an inbox of 4 MiB a rank. Five minutes.
    fn default() -> Self {
        Self { most: 1 << 20, width: 4, timeout: Duration::from_secs(300) }
    }
}

/// What a rank offers to its neighbours.
#[derive(Debug)]
struct Offer {
    inbox: SharedMemory,
    /// By slot and piece.
    filled: Vec<SharedEvent>,
    /// By slot.
    consumed: Vec<SharedEvent>,
    /// Twice the messages that this rank has sent, all of whose events are recorded; and one more where it waits for its left
    /// neighbour for long.
    sent: Word,
    name: Name,
}

impl Offer {
    fn new(cuda: &Cuda, slots: usize, options: PeerOptions) -> ssmv_autograd::Result<Self> {
        let pieces = slots * options.width;
        let events = |count: usize| (0..count).map(|_| cuda.share_event()).collect::<Result<Vec<_>, _>>();
        let (sent, name) = Word::create().map_err(elsewhere("share memory between processes"))?;
        let (filled, consumed) = (events(pieces)?, events(slots)?);
        Ok(Self { inbox: cuda.share((pieces * stride(options)) as u64)?, filled, consumed, sent, name })
    }

    /// An offer with its card.
    fn with_card(cuda: &Cuda, slots: usize, options: PeerOptions) -> ssmv_autograd::Result<(Self, Vec<u32>)> {
        let offer = Self::new(cuda, slots, options)?;
        match offer.card() {
            Ok(card) => Ok((offer, card)),
            // No other process knows of it yet.
            Err(error) => offer.free().and(Err(error)),
        }
    }

    /// What the neighbours need to know: bytes of the inbox, the word's name, the inbox's handle, those of the events.
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

    /// Takes all of it back, once the neighbours have closed it and said so.
    fn free(self) -> ssmv_autograd::Result<()> {
        self.filled.into_iter().chain(self.consumed).try_for_each(SharedEvent::destroy)?;
        self.inbox.free()
    }
}

/// What a rank opened of its neighbours.
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
        let left_sent = Word::open(name).map_err(elsewhere("open memory of another process"))?;
        let (left, right) = (&left[HEAD..], &right[HEAD..]);
        let consumed = right.len() - slots * HANDLE;
        let right_consumed = events(&right[consumed..])?;
        let left_filled = events(&left[HANDLE..left.len() - slots * HANDLE])?;
        // The memory last, so that it is not left open where something fails.
        let right_inbox = cuda.open_peer(&MemoryHandle(bytes_of(&right[..HANDLE])), bytes)?;
        Ok(Self { right_inbox, right_consumed, left_filled, left_sent })
    }

    /// Lets go of it, once the work that is queued is done.
    fn close(self) -> ssmv_autograd::Result<()> {
        self.right_inbox.close()?;
        self.right_consumed.into_iter().chain(self.left_filled).try_for_each(SharedEvent::destroy)
    }
}

/// A link between devices that reach each other's memory. See the text of this file.
#[derive(Debug)]
pub struct PeerLink {
    rank: usize,
    ranks: usize,
    options: PeerOptions,
    offer: Offer,
    opened: Opened,
    /// Turns so far: the number of the message that is written.
    turns: u64,
    /// Whether the stream waits already until that message's slot is free.
    free: bool,
    aborted: Arc<AtomicBool>,
}

impl PeerLink {
    /// Connects this rank's device with those of its neighbours in the control ring, all of one machine.
    ///
    /// # Errors
    /// [`Error::Unreachable`] on all ranks where one of them cannot; what the control ring says.
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
            // What has no handles has no bytes; its rank says why.
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
                let other = format!("rank {} cannot, and says why", unable.unwrap_or(rank));
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

    /// The message that is read.
    fn read(&self) -> u64 {
        self.turns.saturating_sub(1)
    }

    fn left(&self) -> usize {
        (self.rank + self.ranks - 1) % self.ranks
    }

    /// Compares a collective with the left neighbour's.
    fn compare(&self, control: &mut Communicator, turn: Turn) -> Result<()> {
        let mut words = turn.words();
        control.shift(&mut words)?;
        let theirs = Turn::from_words(words);
        if theirs == turn {
            return Ok(());
        }
        let message = format!(
            "rank {} is in {theirs}, this rank in {turn}: all must call the same collectives in the same order",
            self.left()
        );
        Err(Error::Argument { rank: self.rank, operation: turn.name(), message })
    }

    /// Waits until the left neighbour has sent as many messages as this rank.
    fn meet(&self, control: &mut Communicator, turn: Turn) -> Result<()> {
        let (rank, operation, left, timeout) = (self.rank, turn.name(), self.left(), self.options.timeout);
        let (start, mut looks, mut pause) = (Instant::now(), 0, PAUSES.0);
        let (mut looked, mut warned) = (start, false);
        while self.opened.left_sent.get() / 2 < self.turns {
            if self.aborted.load(Ordering::Relaxed) {
                return Err(Error::Aborted { rank, operation });
            }
            looks += 1;
            if looks < EAGER {
                std::hint::spin_loop();
                continue;
            }
            if looked.elapsed() >= RING {
                control.check()?;
                looked = Instant::now();
            }
            let (waited, seconds) = (start.elapsed(), start.elapsed().as_secs_f64());
            // A neighbour that waits itself is not behind it: the rank that waits for that one gives up first, and says so.
            let patience = if self.opened.left_sent.get() % 2 == 1 { 2 * timeout } else { timeout };
            if waited >= patience {
                return Err(Error::Stalled { rank, operation, left, seconds });
            }
            if waited >= timeout / 4 && !std::mem::replace(&mut warned, true) {
                self.offer.sent.set(2 * self.turns + 1);
                let limit = timeout.as_secs_f64();
                say(&format!(
                    "rank {rank}: {operation} over device memory: waiting {seconds:.1} s for rank {left} to send; giving up \
                     after {limit:.1} s"
                ));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
        Ok(())
    }
}

/// The system's words as an error of the device's part of this program.
fn elsewhere(operation: &'static str) -> impl Fn(std::io::Error) -> ssmv_autograd::Error {
    move |error| ssmv_autograd::Error::Elsewhere(format!("{operation}: {error}"))
}

/// Bytes from piece to piece: with room to place it as its elements lie.
fn stride(options: PeerOptions) -> usize {
    (options.most + 15).next_multiple_of(256)
}

/// A number that processes of one machine have in common.
fn machine() -> u32 {
    crc32c::crc32c(&std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default())
}

fn words(bytes: &[u8; HANDLE_BYTES]) -> [u32; HANDLE] {
    std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|j| bytes[4 * i + j])))
}

/// The bytes of a handle's words, of which there are as many as it has.
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

    fn place(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address> {
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
        if turn.index == 0 {
            self.compare(control, turn)?;
        }
        self.turns += 1;
        self.free = false;
        self.offer.sent.set(2 * self.turns);
        self.meet(control, turn)
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
        // Closing waits for the work that is queued; after the barrier no rank writes here any more.
        opened.close().map_err(failed)?;
        control.barrier()?;
        offer.free().map_err(failed)
    }
}
