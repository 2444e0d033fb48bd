//! A communicator: what its callers, its worker and the readers of its connections share.

use std::{
    collections::VecDeque,
    ffi::{CStr, CString, c_int, c_void},
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{
    Code, IN_PROGRESS, REMOTE_ERROR, SUCCESS,
    id::{Fault, OPERATIONS, Operation, Order},
    mesh,
    work::{Failure, Job, Worker},
};

/// Most bytes of one message.
const MOST: u64 = 1 << 30;

/// Reads device memory in the order of a stream: context, stream, address, to, bytes; 0 where it went well.
pub type Read = unsafe extern "C" fn(*const c_void, u64, u64, *mut u8, usize) -> c_int;
/// Writes it: context, stream, address, from, bytes.
pub type Write = unsafe extern "C" fn(*const c_void, u64, u64, *const u8, usize) -> c_int;

/// A way to a device's memory.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Reads.
    pub read: Read,
    /// Writes.
    pub write: Write,
    /// Handed back to both.
    pub context: *const c_void,
}

// SAFETY: the lender lets every thread call it.
unsafe impl Send for Memory {}

/// What came from a rank.
pub struct Message {
    /// The operation that sent it.
    pub operation: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// One rank of a communicator, as its callers hold it.
pub struct Communicator {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What the threads of a communicator share.
pub struct Shared {
    /// This rank.
    pub rank: usize,
    /// Ranks.
    pub size: usize,
    orders: Vec<Order>,
    state: Mutex<State>,
    changed: Condvar,
    words: OnceLock<CString>,
}

#[derive(Default)]
struct State {
    code: Code,
    /// Groups of operations that are not done; connecting counts as one.
    busy: usize,
    aborted: bool,
    /// By operation.
    calls: [usize; OPERATIONS.len()],
    groups: VecDeque<Vec<Job>>,
    /// By the rank that sent it.
    mail: Vec<VecDeque<Message>>,
    /// The ranks that send no more.
    closed: Vec<bool>,
    /// What is shut down when the communicator is aborted.
    connections: Vec<TcpStream>,
    memory: Option<Memory>,
}

impl Shared {
    /// Notes how the communicator ends, if a log is wanted.
    pub fn log(&self, how: &str) {
        let Some(path) = std::env::var_os("STANDIN_LOG") else { return };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // One write a line, for several processes write.
        let written = file.and_then(|mut file| file.write_all(format!("{how} {}\n", self.rank).as_bytes()));
        written.expect("STANDIN_LOG names a file that can be written");
    }
}

impl Communicator {
    /// A rank that is not connected yet.
    pub fn new(rank: usize, size: usize, orders: Vec<Order>) -> Self {
        let state = State {
            busy: 1,
            mail: (0..size).map(|_| VecDeque::new()).collect(),
            closed: vec![false; size],
            ..State::default()
        };
        let (changed, words) = (Condvar::new(), OnceLock::new());
        let shared = Shared { rank, size, orders, state: Mutex::new(state), changed, words };
        Self { shared: Arc::new(shared), worker: Mutex::default() }
    }

    /// What it shares with its threads.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Connects it and lets it work, in a thread.
    pub fn start(&self, address: SocketAddr, fault: Option<Fault>) {
        let shared = self.shared.clone();
        let worker = thread::spawn(move || {
            let connected = shared.suffer(fault).and_then(|()| Ok(mesh::connect(&shared, address)?));
            let readers = connected.and_then(|streams| Ok((readers(&shared, &streams)?, streams)));
            shared.done(readers.as_ref().err());
            if let Ok((readers, streams)) = readers {
                let mut worker = Worker { shared: &shared, streams };
                while let Some(group) = shared.next_group() {
                    shared.done(worker.run(group).err().as_ref());
                }
                // Readers end when the connections are shut down, which the abort did that ended the loop.
                readers.into_iter().for_each(|reader| drop(reader.join()));
            }
        });
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
    }

    /// Ends it, whatever it does.
    pub fn end(self) {
        self.shared.abort();
        if let Some(worker) = self.worker.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let _ = worker.join();
        }
    }
}

/// A thread a connection, which puts what comes into the mail, so that a sender never waits.
fn readers(shared: &Arc<Shared>, streams: &[Option<TcpStream>]) -> io::Result<Vec<JoinHandle<()>>> {
    let mut readers = Vec::new();
    for (rank, stream) in streams.iter().enumerate() {
        let Some(stream) = stream else { continue };
        let (shared, mut stream) = (shared.clone(), stream.try_clone()?);
        readers.push(thread::spawn(move || {
            while let Ok(message) = read_message(&mut stream) {
                shared.deliver(rank, message);
            }
            shared.state().closed[rank] = true;
            shared.changed.notify_all();
        }));
    }
    Ok(readers)
}

fn read_message(stream: &mut TcpStream) -> io::Result<Message> {
    let (mut operation, mut length) = ([0; 1], [0; 8]);
    stream.read_exact(&mut operation)?;
    stream.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok(Message { operation: operation[0], bytes })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` gives something; `None` once the communicator is aborted.
    fn wait<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        loop {
            if state.aborted {
                return None;
            }
            if let Some(found) = ready(&mut state) {
                return Some(found);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts a call of an operation; the failure that was ordered for it.
    pub fn fault(&self, operation: Operation) -> Option<Fault> {
        let mut state = self.state();
        state.calls[operation as usize] += 1;
        let call = state.calls[operation as usize];
        let ordered = |order: &&Order| {
            (order.operation, order.call) == (operation, call)
                && order.rank.is_none_or(|rank| rank == self.rank)
        };
        self.orders.iter().find(ordered).map(|order| order.fault)
    }

    /// Does as was ordered.
    pub fn suffer(&self, fault: Option<Fault>) -> Result<(), Failure> {
        match fault {
            None => Ok(()),
            Some(Fault::Hang) => {
                self.wait(|_| None::<()>);
                Err(Failure::new(REMOTE_ERROR, "it hung to order, and was aborted"))
            }
            Some(_) => Err(Failure::new(REMOTE_ERROR, "the other ranks are lost to order")),
        }
    }

    /// Takes a way to memory.
    pub fn lend(&self, memory: Memory) -> Code {
        self.state().memory = Some(memory);
        SUCCESS
    }

    /// The way to memory, where it was lent.
    pub fn memory(&self) -> Option<Memory> {
        self.state().memory
    }

    /// Keeps a connection, to shut it down when the communicator is aborted.
    pub fn watch(&self, stream: TcpStream) -> io::Result<TcpStream> {
        let mut state = self.state();
        if state.aborted {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        state.connections.push(stream.try_clone()?);
        Ok(stream)
    }

    /// Whether it was aborted.
    pub fn is_aborted(&self) -> bool {
        self.state().aborted
    }

    fn abort(&self) {
        let mut state = self.state();
        state.aborted = true;
        for connection in &state.connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    /// Queues operations that are one group.
    pub fn submit(&self, group: Vec<Job>) {
        let mut state = self.state();
        state.busy += 1;
        state.groups.push_back(group);
        self.changed.notify_all();
    }

    fn next_group(&self) -> Option<Vec<Job>> {
        self.wait(|state| state.groups.pop_front())
    }

    fn done(&self, failure: Option<&Failure>) {
        let mut state = self.state();
        state.busy -= 1;
        if let Some(Failure { code, words }) = failure
            && state.code == SUCCESS
        {
            let _ = self.words.set(CString::new(words.as_str()).unwrap_or_default());
            state.code = *code;
        }
    }

    /// Success, in progress, or the first failure.
    pub fn progress(&self) -> Code {
        let state = self.state();
        match state.code {
            SUCCESS if state.busy > 0 => IN_PROGRESS,
            code => code,
        }
    }

    /// The first failure in words.
    pub fn words(&self) -> Option<&CStr> {
        self.words.get().map(CString::as_c_str)
    }

    /// Puts a message into the mail.
    pub fn deliver(&self, from: usize, message: Message) {
        self.state().mail[from].push_back(message);
        self.changed.notify_all();
    }

    /// Waits for the next message of a rank; `None` where none will come.
    pub fn take(&self, from: usize) -> Option<Message> {
        self.wait(|state| match state.mail[from].pop_front() {
            Some(message) => Some(Some(message)),
            None => state.closed[from].then_some(None),
        })
        .flatten()
    }
}
