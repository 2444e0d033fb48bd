//! The state of the driver: the tables of a process's objects, and the objects in them. The files that import this one
//! have the rules.

use std::{collections::BTreeMap, sync::Arc, thread::ThreadId};

use ssmv_emulator::{KernelInfo, LoadedModule, Memory};

use crate::{
    code::{Failure, Outcome, fail},
    device::Device,
    graph::{Graph, GraphExec, NodeName},
    handle::{Handle, Table},
    schedule::{ForeignRecord, Schedule, WorkId},
    shared::{EventPage, FileName, HostMemory, MOST_EVENTS, PeerBlocks},
    work::Record,
};

/// The tables of the driver's objects.
#[derive(Debug)]
pub struct State {
    /// Indexed by ordinal.
    pub devices: Vec<Device>,
    pub contexts: Table<Context>,
    pub modules: Table<Module>,
    pub functions: Table<Function>,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub graphs: Table<Graph>,
    pub graph_execs: Table<GraphExec>,
    pub nodes: Table<NodeName>,
    pub captures: Table<Capture>,
    /// By address of the first byte.
    pub allocations: BTreeMap<u64, Allocation>,
    pub schedule: Schedule,
    pub event_pages: Pages,
}

impl State {
    /// No objects but the devices; `seed` is that of the [`Schedule`].
    pub fn new(devices: Vec<Device>, seed: u64) -> Self {
        Self {
            devices,
            contexts: Table::new("context", 1),
            modules: Table::new("module", 2),
            functions: Table::new("function", 3),
            streams: Table::new("stream", 4),
            events: Table::new("event", 5),
            graphs: Table::new("graph", 6),
            graph_execs: Table::new("executable graph", 7),
            nodes: Table::new("graph node", 8),
            captures: Table::new("capture", 9),
            allocations: BTreeMap::new(),
            schedule: Schedule::new(seed),
            event_pages: Pages::default(),
        }
    }

    /// The memory of a context's device.
    pub fn memory_of(&self, context: Handle) -> Outcome<Arc<Memory>> {
        Ok(self.devices[self.contexts.get(context)?.device].memory.clone())
    }
}

#[derive(Debug)]
pub struct Context {
    /// The ordinal of its device.
    pub device: usize,
    /// The retain count of a primary context; `None` for other contexts.
    pub retained: Option<usize>,
    /// The flags that it was made with.
    pub flags: u32,
    /// The fault of the work that ended it.
    pub fault: Option<Failure>,
    /// The stream that waits for all blocking streams.
    pub legacy: Handle,
    /// The default streams of threads that use them.
    pub per_thread: BTreeMap<String, Handle>,
    /// Devices whose memory it can reach, besides its own.
    pub peers: Vec<usize>,
    /// Values that `cuCtxSetLimit` set.
    pub limits: BTreeMap<u32, usize>,
}

impl Context {
    /// The fault that ended it, again and again.
    pub fn check(&self) -> Outcome {
        match &self.fault {
            None => Ok(()),
            Some(fault) => Err(Failure { code: fault.code, message: String::new() }),
        }
    }
}

#[derive(Debug)]
pub struct Stream {
    pub context: Handle,
    /// It synchronises with the legacy default stream.
    pub blocking: bool,
    /// Priority; lower is more urgent.
    pub priority: i32,
    /// The newest work in it.
    pub last: Option<WorkId>,
    /// Other work that the next work waits for.
    pub after: Vec<WorkId>,
    pub foreign: Vec<ForeignRecord>,
    /// The capture that records its work.
    pub capture: Option<Handle>,
}

impl Stream {
    /// A stream of a context.
    pub fn new(context: Handle, blocking: bool, priority: i32) -> Self {
        Self {
            context,
            blocking,
            priority,
            last: None,
            after: Vec::new(),
            foreign: Vec::new(),
            capture: None,
        }
    }

    /// The legacy default stream of a context.
    pub fn default_of(context: Handle) -> Self {
        Self::new(context, false, 0)
    }
}

#[derive(Debug)]
pub struct Event {
    pub context: Handle,
    /// Created without `CU_EVENT_DISABLE_TIMING`.
    pub timing: bool,
    pub at: LastRecord,
    /// Whether other processes can open it, or it is another process's.
    pub shared: bool,
}

/// The last record of an event.
#[derive(Debug, Clone)]
pub enum LastRecord {
    /// It was never recorded.
    Never,
    /// Behind work of this process.
    Work { work: WorkId, record: Arc<Record> },
    /// In a capture, behind these nodes.
    Captured { capture: Handle, nodes: Vec<usize> },
    /// Wherever the processes that share it recorded it.
    Shared { page: Arc<EventPage>, number: u64 },
}

/// The pages of shared events: this process's, and those of others that were opened.
#[derive(Debug, Default)]
pub struct Pages {
    own: Option<Arc<EventPage>>,
    used: u64,
    others: BTreeMap<(u32, u32, u64), Arc<EventPage>>,
}

impl Pages {
    /// A new number on this process's page.
    pub fn take(&mut self) -> Outcome<LastRecord> {
        let page = match &self.own {
            Some(page) => page.clone(),
            None => self.own.insert(Arc::new(EventPage::new()?)).clone(),
        };
        if self.used == MOST_EVENTS {
            return fail!(
                OUT_OF_MEMORY,
                "{MOST_EVENTS} events for other processes were made, and no more are possible"
            );
        }
        self.used += 1;
        Ok(LastRecord::Shared { page, number: self.used - 1 })
    }

    /// Opens an event of another process.
    pub fn open(&mut self, name: FileName, number: u64) -> Outcome<LastRecord> {
        if number >= MOST_EVENTS {
            return fail!(INVALID_VALUE, "the event's handle has been changed");
        }
        let key = (name.process, name.descriptor, name.number);
        let page = match self.others.get(&key) {
            Some(page) => page.clone(),
            None => {
                let page = Arc::new(EventPage::open(name)?);
                self.others.insert(key, page.clone());
                page
            }
        };
        Ok(LastRecord::Shared { page, number })
    }
}

/// Which calls of which threads a capture forbids (cuda.h, `CUstreamCaptureMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Unsafe calls of any thread.
    Global,
    /// Unsafe calls of the thread that captures.
    ThreadLocal,
    /// Forbids no calls.
    Relaxed,
}

impl Mode {
    pub fn from_number(number: u32) -> Outcome<Self> {
        match number {
            0 => Ok(Self::Global),
            1 => Ok(Self::ThreadLocal),
            2 => Ok(Self::Relaxed),
            _ => fail!(INVALID_VALUE, "{number} is not a capture mode"),
        }
    }
}

/// A capture that goes on.
#[derive(Debug)]
pub struct Capture {
    /// The stream that it began in.
    pub origin: Handle,
    pub mode: Mode,
    pub thread: ThreadId,
    pub graph: Graph,
    /// The nodes that the next work of each stream in it comes after.
    pub heads: BTreeMap<Handle, Vec<usize>>,
    /// Why the capture is invalid; `None` while it is valid.
    pub broken: Option<String>,
    /// A number that no other capture has.
    pub number: u64,
}

/// A loaded module.
#[derive(Debug)]
pub struct Module {
    pub context: Handle,
    pub loaded: Arc<LoadedModule>,
    /// Its version of PTX: 70 for 7.0.
    pub version: u32,
    /// The handles of its functions that the program asked for.
    pub functions: Vec<(String, Handle)>,
}

/// A kernel that the program asked for.
#[derive(Debug, Clone)]
pub struct Function {
    pub module: Handle,
    /// Parameters and limits.
    pub info: KernelInfo,
    /// Dynamic shared memory that launches may have.
    pub allowed_shared: u32,
    /// Other attributes that were set.
    pub attributes: std::collections::BTreeMap<u32, i32>,
}

impl Function {
    /// The dynamic shared memory that a launch may have.
    pub fn most_dynamic_shared(&self) -> u32 {
        self.allowed_shared.max(SHARED_WITHOUT_ATTRIBUTE.saturating_sub(self.info.static_shared))
    }

    /// The most threads of a block.
    pub fn most_threads(&self) -> u32 {
        let required = self.info.required_block.map(|block| block.iter().product());
        required.or(self.info.max_threads).unwrap_or(1024)
    }
}

/// Static and dynamic shared memory that a launch may have without the attribute (CUDA C++ Programming Guide).
pub const SHARED_WITHOUT_ATTRIBUTE: u32 = 48 << 10;

/// The kinds of allocations.
#[derive(Debug)]
pub enum Kind {
    /// Whole blocks from an offset of the device's memory on.
    Large { offset: u64 },
    /// Part of a block that it shares.
    Small { offset: u64 },
    /// Pinned or managed host memory.
    Host { memory: Arc<HostMemory>, managed: bool, flags: u32 },
    /// Memory of another process, and how often it was opened.
    Opened { blocks: PeerBlocks, handle: [u8; 64], times: usize },
}

#[derive(Debug)]
pub struct Allocation {
    /// The context that it belongs to.
    pub context: Handle,
    /// The ordinal of the device.
    pub device: usize,
    /// Requested size in bytes.
    pub bytes: u64,
    pub kind: Kind,
    /// A number that no other allocation has.
    pub number: u64,
    /// `cuMemFreeAsync` was called for it.
    pub freed_in_stream: bool,
}
