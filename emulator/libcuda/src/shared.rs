//! Memory that other processes can map: a device's bytes with their marks, and the events of a process. All mapping of
//! memory is here.
//!
//! A device's memory is one sparse file without a name. Another process opens it through `/proc/PID/fd/N`, so nothing is
//! left behind when a process is killed. The file holds a header, a counter for each block of 2 MiB (how often other
//! processes have it open), the bytes, and a bit for each byte that says whether it was written.

use std::{
    fs::File,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use ssmv_emulator::Region;

use crate::code::Code;
use crate::code::{Failure, Outcome, fail};

/// Bytes of a block: device memory is given to processes in whole blocks.
pub const BLOCK: u64 = 2 << 20;

/// The first word of a shared file.
const MAGIC: u64 = u64::from_le_bytes(*b"ssmvcuda");

/// Words of the header: magic, the file's number, the span of its bytes.
const HEADER: u64 = 4096;

fn system(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::OPERATING_SYSTEM, format!("{what}: {error}"))
}

/// A mapped range of a file, as words.
struct Mapping(MmapRaw);

impl Mapping {
    fn new(file: &File, offset: u64, bytes: u64) -> Outcome<Self> {
        let length = usize::try_from(bytes).map_err(|error| system("map memory", error))?;
        let map = MmapOptions::new().offset(offset).len(length).no_reserve_swap().map_raw(file);
        map.map(Self).map_err(|error| system(&format!("map {bytes} bytes of shared memory"), error))
    }

    /// The words from a byte offset on; nothing outside of the mapping.
    fn words(&self, offset: u64, bytes: u64) -> &[AtomicU64] {
        let (length, offset) = (self.0.len() as u64, offset.next_multiple_of(8));
        let bytes = bytes.min(length.saturating_sub(offset));
        if bytes < 8 {
            return &[];
        }
        // SAFETY: the range lies in the mapping, which starts at a page and lives as long as `self`; atomics may be shared
        // with other threads and processes. The file is never made shorter.
        unsafe {
            std::slice::from_raw_parts(self.0.as_ptr().add(offset as usize).cast(), (bytes / 8) as usize)
        }
    }
}

/// A range of shared bytes with its marks, as memory of the emulator.
pub struct Window {
    bytes: (Arc<Mapping>, u64),
    written: (Arc<Mapping>, u64),
    length: u64,
}

// SAFETY: a window and its mappings never change, so the slices are the same on every call.
unsafe impl Region for Window {
    fn words(&self) -> &[AtomicU64] {
        self.bytes.0.words(self.bytes.1, self.length.next_multiple_of(8))
    }

    fn written(&self) -> &[AtomicU64] {
        self.written.0.words(self.written.1, self.length.div_ceil(64) * 8)
    }
}

/// Where another process finds a shared file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileName {
    /// The process that made it.
    pub process: u32,
    /// The file's descriptor there.
    pub descriptor: u32,
    /// A number that no other file has.
    pub number: u64,
}

/// A shared file of this process.
struct SharedFile {
    file: File,
    name: FileName,
}

impl SharedFile {
    fn create(what: &str, bytes: u64) -> Outcome<Self> {
        let descriptor =
            memfd_create(what, MemfdFlags::CLOEXEC).map_err(|error| system("make shared memory", error))?;
        let file = File::from(descriptor);
        file.set_len(bytes)
            .map_err(|error| system(&format!("make {bytes} bytes of shared memory"), error))?;
        let name = FileName {
            process: std::process::id(),
            descriptor: file.as_raw_fd().unsigned_abs(),
            number: unique_number(),
        };
        Ok(Self { file, name })
    }

    /// Opens another process's file, whose header must have the number.
    fn open(name: FileName) -> Outcome<File> {
        let path = format!("/proc/{}/fd/{}", name.process, name.descriptor);
        let gone = |why: String| {
            let process = name.process;
            Failure::new(
                Code::INVALID_VALUE,
                format!("the handle's process {process} is gone, or its memory is: {why}"),
            )
        };
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| gone(format!("{path}: {error}")))?;
        let length = file.metadata().map_err(|error| gone(error.to_string()))?.len();
        if length < HEADER {
            return Err(gone(format!("{path} is another file now")));
        }
        let header = Mapping::new(&file, 0, HEADER)?;
        match header.words(0, 16) {
            [magic, number] if magic.load(SeqCst) == MAGIC && number.load(SeqCst) == name.number => Ok(file),
            _ => Err(gone(format!("{path} is another file now"))),
        }
    }
}

/// A number that no other process or file has, but for astronomical luck.
fn unique_number() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The memory of one device of this process.
pub struct Arena {
    shared: SharedFile,
    map: Arc<Mapping>,
    span: u64,
    data: u64,
    used: std::sync::Mutex<Blocks>,
}

#[derive(Debug, Default)]
struct Blocks {
    /// Runs in use: first block to number of blocks.
    runs: std::collections::BTreeMap<u64, u64>,
    /// Where the search begins, so that freed blocks are used again as late as possible.
    next: u64,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arena({} bytes)", self.span)
    }
}

/// Where the bytes of a file of this span begin: behind the header and the counters.
fn data_offset(span: u64) -> u64 {
    (HEADER + span / BLOCK * 8).next_multiple_of(BLOCK)
}

impl Arena {
    /// An arena of `span` bytes of addresses, a multiple of 2 MiB; it takes memory only for what is written.
    pub fn new(span: u64) -> Outcome<Self> {
        let data = data_offset(span);
        let total = data + span + span / 8;
        let shared = SharedFile::create("cuda-device", total)?;
        let map = Arc::new(Mapping::new(&shared.file, 0, total)?);
        for (word, value) in map.words(0, 24).iter().zip([MAGIC, shared.name.number, span]) {
            word.store(value, SeqCst);
        }
        Ok(Self { shared, map, span, data, used: Default::default() })
    }

    /// How other processes find it.
    pub fn name(&self) -> FileName {
        self.shared.name
    }

    /// Takes a run of whole blocks that holds `bytes` bytes; returns its offset. `None` where no addresses are left.
    /// One block stays free behind it.
    pub fn take(&self, bytes: u64) -> Option<u64> {
        let count = bytes.div_ceil(BLOCK).max(1);
        let blocks = &mut *self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = self.span / BLOCK;
        let find = |from: u64, to: u64| {
            let before =
                blocks.runs.range(..from).next_back().map_or(0, |(&start, &count)| start + count + 1);
            let mut at = before.max(from);
            for (&start, &taken) in blocks.runs.range(from..) {
                if at + count < start {
                    break;
                }
                at = at.max(start + taken + 1);
            }
            (at + count < to).then_some(at)
        };
        let first = find(blocks.next, last).or_else(|| find(0, last))?;
        blocks.runs.insert(first, count);
        blocks.next = first + count + 1;
        Some(first * BLOCK)
    }

    /// Gives back a run. Its memory is released, and it reads as zeros that were never written.
    pub fn give_back(&self, offset: u64) {
        let taken = self
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .runs
            .remove(&(offset / BLOCK));
        let bytes = taken.unwrap_or(0) * BLOCK;
        if bytes > 0 {
            let punch = |at: u64, length: u64| {
                fallocate(
                    &self.shared.file,
                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    at,
                    length,
                )
            };
            let punched =
                punch(self.data + offset, bytes).and(punch(self.data + self.span + offset / 8, bytes / 8));
            if punched.is_err() {
                // A file system without holes: the marks at least must go.
                self.map
                    .words(self.data + self.span + offset / 8, bytes / 8)
                    .iter()
                    .for_each(|word| word.store(0, SeqCst));
            }
        }
    }

    /// Part of it as memory of the emulator; `offset` is a multiple of 256.
    pub fn window(&self, offset: u64, length: u64) -> Arc<dyn Region> {
        let marks = self.data + self.span + offset / 8;
        Arc::new(Window {
            bytes: (self.map.clone(), self.data + offset),
            written: (self.map.clone(), marks),
            length,
        })
    }

    /// How often other processes have the block at an offset open.
    pub fn openings(&self, offset: u64) -> u64 {
        self.map.words(HEADER + offset / BLOCK * 8, 8).first().map_or(0, |counter| counter.load(SeqCst))
    }
}

/// A run of blocks of another process's device, until it is dropped.
pub struct PeerBlocks {
    counter: Mapping,
    counter_at: u64,
    bytes: Arc<Mapping>,
    written: Arc<Mapping>,
    length: u64,
}

impl PeerBlocks {
    /// Opens `length` bytes from `offset` on, both in whole blocks.
    pub fn open(name: FileName, offset: u64, length: u64) -> Outcome<Self> {
        let file = SharedFile::open(name)?;
        let span = Mapping::new(&file, 0, HEADER)?.words(16, 8).first().map_or(0, |span| span.load(SeqCst));
        let inside = offset.checked_add(length).is_some_and(|end| end <= span);
        if !inside || length == 0 || !offset.is_multiple_of(BLOCK) || !length.is_multiple_of(BLOCK) {
            return fail!(
                INVALID_VALUE,
                "the handle names {length} bytes at {offset} of a memory of {span} bytes"
            );
        }
        let data = data_offset(span);
        let counter_at = HEADER + offset / BLOCK * 8;
        let opened = Self {
            // Mappings begin at a page.
            counter: Mapping::new(&file, counter_at / 4096 * 4096, 4096)?,
            counter_at: counter_at % 4096,
            bytes: Arc::new(Mapping::new(&file, data + offset, length)?),
            written: Arc::new(Mapping::new(&file, data + span + offset / 8, length / 8)?),
            length,
        };
        opened.count(1);
        Ok(opened)
    }

    /// The bytes as memory of the emulator.
    pub fn window(&self) -> Arc<dyn Region> {
        Arc::new(Window {
            bytes: (self.bytes.clone(), 0),
            written: (self.written.clone(), 0),
            length: self.length,
        })
    }

    fn count(&self, change: i64) {
        if let Some(counter) = self.counter.words(self.counter_at, 8).first() {
            counter.fetch_add(change.cast_unsigned(), SeqCst);
        }
    }
}

impl std::fmt::Debug for PeerBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerBlocks({} bytes)", self.length)
    }
}

impl Drop for PeerBlocks {
    fn drop(&mut self) {
        self.count(-1);
    }
}

/// Most events of a process that other processes may wait for.
pub const MOST_EVENTS: u64 = 1 << 16;

/// The events of a process that others can open: for each how often it was recorded, and how many of these are done.
pub struct EventPage {
    name: FileName,
    map: Mapping,
    /// Keeps the descriptor open for the others.
    _file: Option<SharedFile>,
}

impl std::fmt::Debug for EventPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventPage({:?})", self.name)
    }
}

impl EventPage {
    const BYTES: u64 = HEADER + MOST_EVENTS * 16;

    /// A new page of this process.
    pub fn new() -> Outcome<Self> {
        let file = SharedFile::create("cuda-events", Self::BYTES)?;
        let map = Mapping::new(&file.file, 0, Self::BYTES)?;
        for (word, value) in map.words(0, 16).iter().zip([MAGIC, file.name.number]) {
            word.store(value, SeqCst);
        }
        Ok(Self { name: file.name, map, _file: Some(file) })
    }

    /// Opens the page of another process.
    pub fn open(name: FileName) -> Outcome<Self> {
        let file = SharedFile::open(name)?;
        Ok(Self { name, map: Mapping::new(&file, 0, Self::BYTES)?, _file: None })
    }

    /// How other processes find it.
    pub fn name(&self) -> FileName {
        self.name
    }

    fn word(&self, event: u64, which: u64) -> Option<&AtomicU64> {
        self.map.words(HEADER + event.min(MOST_EVENTS - 1) * 16 + which * 8, 8).first()
    }

    /// Notes that an event was recorded; returns how often it has been.
    pub fn recorded(&self, event: u64) -> u64 {
        self.word(event, 0).map_or(0, |word| word.fetch_add(1, SeqCst) + 1)
    }

    /// How often it was recorded so far.
    pub fn records(&self, event: u64) -> u64 {
        self.word(event, 0).map_or(0, |word| word.load(SeqCst))
    }

    /// Notes that the work before a record is done.
    pub fn completed(&self, event: u64, record: u64) {
        self.word(event, 1).map(|word| word.fetch_max(record, SeqCst));
    }

    /// Whether the work before a record is done.
    pub fn is_complete(&self, event: u64, record: u64) -> bool {
        self.word(event, 1).is_some_and(|word| word.load(SeqCst) >= record)
    }
}

/// Pinned host memory, whose bytes count as written: the host writes them without a call.
pub struct HostMemory {
    /// Of memory that was allocated here; `None` for the program's own.
    map: Option<MmapRaw>,
    address: usize,
    length: usize,
    written: Box<[AtomicU64]>,
}

impl HostMemory {
    /// Zeroed memory at a page; `None` where the machine has none left.
    pub fn allocate(length: usize) -> Option<Self> {
        let map = MmapRaw::from(MmapOptions::new().len(length.checked_next_multiple_of(8)?).map_anon().ok()?);
        let address = map.as_mut_ptr() as usize;
        Some(Self { map: Some(map), address, length, written: all_written(length) })
    }

    /// The program's own memory, from a multiple of 16 on.
    ///
    /// # Safety
    /// `length` bytes at `address`, both multiples of 16, stay readable and writable until this is dropped.
    pub unsafe fn register(address: usize, length: usize) -> Self {
        Self { map: None, address, length, written: all_written(length) }
    }

    /// The first byte's address in the program.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether the program allocated it.
    pub fn is_registered(&self) -> bool {
        self.map.is_none()
    }
}

fn all_written(length: usize) -> Box<[AtomicU64]> {
    (0..length.div_ceil(64)).map(|_| AtomicU64::new(u64::MAX)).collect()
}

// SAFETY: address, length and marks never change, so the slices are the same on every call.
unsafe impl Region for HostMemory {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: own memory is mapped with its length rounded up to whole words; registered memory has whole words and is
        // live by the promise of `register`. The program may write it meanwhile: then its copy races, as on a GPU.
        unsafe { std::slice::from_raw_parts(self.address as *const AtomicU64, self.length.div_ceil(8)) }
    }

    fn written(&self) -> &[AtomicU64] {
        &self.written
    }
}

impl std::fmt::Debug for HostMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostMemory({} bytes at {:#x})", self.length, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again_as_late_as_possible_and_are_empty_then() {
        let arena = Arena::new(16 * BLOCK).unwrap();
        let first = arena.take(1).unwrap();
        let second = arena.take(BLOCK + 1).unwrap();
        assert_eq!((first, second), (0, 2 * BLOCK));
        let window = arena.window(first, 64);
        window.words()[0].store(7, SeqCst);
        window.written()[0].store(255, SeqCst);
        arena.give_back(first);
        assert_eq!((window.words()[0].load(SeqCst), window.written()[0].load(SeqCst)), (0, 0));
        assert_eq!(arena.take(BLOCK), Some(5 * BLOCK));
        assert_eq!(arena.take(7 * BLOCK), Some(7 * BLOCK));
        assert_eq!(arena.take(BLOCK), Some(0));
        assert_eq!(arena.take(BLOCK), None);
    }

    #[test]
    fn blocks_open_under_their_name_and_are_counted() {
        let arena = Arena::new(8 * BLOCK).unwrap();
        let at = arena.take(BLOCK).unwrap();
        let opened = PeerBlocks::open(arena.name(), at, BLOCK).unwrap();
        arena.window(at, BLOCK).words()[3].store(5, SeqCst);
        assert_eq!(opened.window().words()[3].load(SeqCst), 5);
        assert_eq!(opened.window().words().len() as u64, BLOCK / 8);
        assert_eq!(arena.openings(at), 1);
        drop(opened);
        assert_eq!(arena.openings(at), 0);
        let wrong = FileName { number: arena.name().number ^ 1, ..arena.name() };
        assert!(PeerBlocks::open(wrong, at, BLOCK).unwrap_err().message.contains("is another file now"));
        assert!(PeerBlocks::open(arena.name(), at, 100 * BLOCK).is_err());
    }

    #[test]
    fn events_count_records() {
        let page = EventPage::new().unwrap();
        let same = EventPage::open(page.name()).unwrap();
        assert!(same.is_complete(3, 0) && !same.is_complete(3, 1));
        assert_eq!((page.recorded(3), page.recorded(3)), (1, 2));
        page.completed(3, 1);
        assert!(same.is_complete(3, 1) && !same.is_complete(3, 2));
        assert_eq!(same.records(3), 2);
    }
}
