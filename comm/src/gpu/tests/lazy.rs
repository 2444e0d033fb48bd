//! Devices whose streams run late and in any order that the events allow: a missing wait for an event gives wrong results.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssmv_autograd::{
    Error, Result,
    cuda::{
        Address, Argument, Backend, DeviceInfo, Driver, Emulated, EmulatorOptions, EventHandle, EventId,
        Function, FunctionAttributes, Graph, LaunchConfig, MemoryHandle, MemoryInfo, Module, Pinned,
        Priority, Stream,
    },
};
use ssmv_kernels::Kernel;

/// The device that created it, and its handle.
type Key = (u8, u64);

/// An entry of a stream.
enum Queued {
    Work(Box<dyn FnOnce() -> Result<()> + Send>),
    /// A record of the event, by its number.
    Record(Key, u64),
    Wait(Key, u64),
}

/// Devices that share events and run late.
pub struct World {
    state: Mutex<State>,
    /// Shared events that streams ignore, by their number on their device.
    deaf: Range<usize>,
}

struct State {
    rng: ChaCha8Rng,
    streams: BTreeMap<Key, VecDeque<Queued>>,
    /// The number of records of each event, and the last record that a stream reached.
    recorded: HashMap<Key, u64>,
    reached: HashMap<Key, u64>,
    exported: HashMap<[u8; 64], Key>,
    opened: HashMap<Key, Key>,
    /// Shared events in the order of their creation.
    shared: Vec<Key>,
}

impl World {
    pub fn new(seed: u64, deaf: Range<usize>) -> Arc<Self> {
        let state = State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            streams: BTreeMap::new(),
            recorded: HashMap::new(),
            reached: HashMap::new(),
            exported: HashMap::new(),
            opened: HashMap::new(),
            shared: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), deaf })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A device of this world.
    pub fn device(self: &Arc<Self>, ordinal: u8) -> Lazy {
        let options = EmulatorOptions { memory: 256 << 20, ordinal, ..Default::default() };
        Lazy { world: self.clone(), ordinal, inner: Arc::new(Emulated::new(&options)) }
    }
}

impl State {
    /// A shared event's number on its device.
    fn number(&self, event: Key) -> Option<usize> {
        self.shared.iter().filter(|(device, _)| *device == event.0).position(|other| *other == event)
    }

    /// Runs the first entry of a random stream that is not blocked.
    fn step(&mut self) -> Result<()> {
        let ready = |queue: &VecDeque<Queued>| match queue.front() {
            Some(Queued::Wait(event, number)) => self.reached.get(event).is_some_and(|at| at >= number),
            front => front.is_some(),
        };
        let ready: Vec<Key> =
            self.streams.iter().filter(|(_, queue)| ready(queue)).map(|(key, _)| *key).collect();
        assert!(!ready.is_empty(), "all streams wait for each other");
        let key = ready[self.rng.random_range(0..ready.len())];
        match self.streams.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(Queued::Work(work)) => work(),
            Some(Queued::Record(event, number)) => {
                self.reached.insert(event, number);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A device of a [`World`].
pub struct Lazy {
    world: Arc<World>,
    ordinal: u8,
    inner: Arc<Emulated>,
}

impl std::fmt::Debug for Lazy {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Lazy {}", self.ordinal)
    }
}

impl Lazy {
    fn queue(&self, stream: Stream, what: Queued) -> Result<()> {
        self.world.lock().streams.entry((self.ordinal, stream.0)).or_default().push_back(what);
        Ok(())
    }

    fn work(
        &self,
        stream: Stream,
        work: impl FnOnce(&Emulated) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let inner = self.inner.clone();
        self.queue(stream, Queued::Work(Box::new(move || work(&inner))))
    }

    /// Runs entries until the streams of this device that `which` selects are empty.
    fn drain(&self, which: impl Fn(Stream) -> bool) -> Result<&Emulated> {
        loop {
            let mut state = self.world.lock();
            let left = |(key, queue): (&Key, &VecDeque<Queued>)| {
                key.0 == self.ordinal && which(Stream(key.1)) && !queue.is_empty()
            };
            if !state.streams.iter().any(left) {
                return Ok(&self.inner);
            }
            state.step()?;
        }
    }

    fn all(&self) -> Result<&Emulated> {
        self.drain(|_| true)
    }

    fn key(&self, event: EventId) -> Key {
        let own = (self.ordinal, event.0);
        self.world.lock().opened.get(&own).copied().unwrap_or(own)
    }
}

impl Driver for Lazy {
    fn backend(&self) -> Backend {
        Backend::Emulated
    }

    fn device(&self) -> &DeviceInfo {
        self.inner.device()
    }

    fn memory(&self) -> Result<MemoryInfo> {
        self.inner.memory()
    }

    fn checks_bounds(&self) -> bool {
        true
    }

    fn allocate(&self, bytes: u64) -> Result<Address> {
        self.inner.allocate(bytes)
    }

    fn free(&self, address: Address) -> Result<()> {
        self.all()?.free(address)
    }

    fn poison(&self, address: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.work(stream, move |inner| inner.poison(address, bytes, stream))
    }

    fn allocate_pinned(&self, bytes: u64) -> Result<Pinned> {
        self.inner.allocate_pinned(bytes)
    }

    fn free_pinned(&self, memory: Pinned) -> Result<()> {
        self.all()?.free_pinned(memory)
    }

    fn with_pinned(&self, memory: Pinned, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.all()?.with_pinned(memory, body)
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        self.drain(|one| one == stream)?.upload(to, from, stream)
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        self.drain(|one| one == stream)?.download(to, from, stream)
    }

    fn upload_pinned(&self, to: Address, from: Pinned, bytes: u64, stream: Stream) -> Result<()> {
        self.work(stream, move |inner| inner.upload_pinned(to, from, bytes, stream))
    }

    fn download_pinned(&self, to: Pinned, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.work(stream, move |inner| inner.download_pinned(to, from, bytes, stream))
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.work(stream, move |inner| inner.copy(to, from, bytes, stream))
    }

    fn fill(&self, address: Address, value: u8, bytes: u64, stream: Stream) -> Result<()> {
        self.work(stream, move |inner| inner.fill(address, value, bytes, stream))
    }

    fn load(&self, kernel: &Kernel) -> Result<Module> {
        self.inner.load(kernel)
    }

    fn module_log(&self, module: Module) -> Result<String> {
        self.inner.module_log(module)
    }

    fn unload_module(&self, module: Module) -> Result<()> {
        self.all()?.unload_module(module)
    }

    fn function(&self, module: Module) -> Result<Function> {
        self.inner.function(module)
    }

    fn attributes(&self, function: Function) -> Result<FunctionAttributes> {
        self.inner.attributes(function)
    }

    fn allow_shared(&self, function: Function, bytes: u32) -> Result<()> {
        self.inner.allow_shared(function, bytes)
    }

    fn launch(
        &self,
        function: Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: Stream,
    ) -> Result<()> {
        let (config, arguments) = (*config, arguments.to_vec());
        self.work(stream, move |inner| inner.launch(function, &config, &arguments, stream))
    }

    fn create_stream(&self, priority: Priority) -> Result<Stream> {
        self.inner.create_stream(priority)
    }

    fn priority(&self, stream: Stream) -> Result<Priority> {
        self.inner.priority(stream)
    }

    fn destroy_stream(&self, stream: Stream) -> Result<()> {
        self.drain(|one| one == stream)?.destroy_stream(stream)
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.drain(|one| one == stream)?.synchronize(stream)
    }

    fn wait(&self, stream: Stream, event: EventId) -> Result<()> {
        let key = self.key(event);
        let number = self.world.lock().recorded.get(&key).copied();
        let number = number.ok_or_else(|| Error::Misuse {
            operation: "wait for an event".into(),
            message: "it was never recorded".into(),
        })?;
        if self.world.lock().number(key).is_some_and(|number| self.world.deaf.contains(&number)) {
            return Ok(());
        }
        self.queue(stream, Queued::Wait(key, number))
    }

    fn create_event(&self, timed: bool) -> Result<EventId> {
        self.inner.create_event(timed)
    }

    fn destroy_event(&self, event: EventId) -> Result<()> {
        self.world.lock().opened.remove(&(self.ordinal, event.0));
        self.inner.destroy_event(event)
    }

    fn record(&self, event: EventId, stream: Stream) -> Result<()> {
        let key = self.key(event);
        let number = {
            let mut state = self.world.lock();
            let number = state.recorded.entry(key).or_default();
            *number += 1;
            *number
        };
        self.queue(stream, Queued::Record(key, number))
    }

    fn synchronize_event(&self, _: EventId) -> Result<()> {
        self.all().map(drop)
    }

    fn elapsed_ms(&self, start: EventId, end: EventId) -> Result<f32> {
        self.all()?.elapsed_ms(start, end)
    }

    fn begin_capture(&self, stream: Stream) -> Result<()> {
        self.all()?.begin_capture(stream)
    }

    fn end_capture(&self, stream: Stream) -> Result<Graph> {
        self.inner.end_capture(stream)
    }

    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<()> {
        self.all()?.launch_graph(graph, stream)
    }

    fn destroy_graph(&self, graph: Graph) -> Result<()> {
        self.all()?.destroy_graph(graph)
    }

    fn export_memory(&self, address: Address) -> Result<MemoryHandle> {
        self.inner.export_memory(address)
    }

    fn open_memory(&self, handle: &MemoryHandle, bytes: u64) -> Result<Address> {
        self.inner.open_memory(handle, bytes)
    }

    fn close_memory(&self, address: Address) -> Result<()> {
        self.all()?.close_memory(address)
    }

    fn create_shared_event(&self) -> Result<EventId> {
        let event = self.inner.create_shared_event()?;
        self.world.lock().shared.push((self.ordinal, event.0));
        Ok(event)
    }

    fn export_event(&self, event: EventId) -> Result<EventHandle> {
        let handle = self.inner.export_event(event)?;
        self.world.lock().exported.insert(handle.0, (self.ordinal, event.0));
        Ok(handle)
    }

    fn open_event(&self, handle: &EventHandle) -> Result<EventId> {
        let event = self.inner.open_event(handle)?;
        let mut state = self.world.lock();
        if let Some(&key) = state.exported.get(&handle.0) {
            state.opened.insert((self.ordinal, event.0), key);
        }
        Ok(event)
    }
}
