//! A communicator: the state that its callers, its worker thread and the readers of its connections share.

use std::{
    collections::VecDeque,
    ffi::{CStr, CString},
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{
    Code, IN_PROGRESS, REMOTE_ERROR, SUCCESS,
    device::Device,
    id::{Fault, OPERATIONS, Operation, Order},
    mesh,
    work::{Failure, Job, Worker},
};

/// Most bytes of one message.
const MOST: u64 = 1 << 30;

/// A message from another rank.
pub struct Message {
    /// The operation that receives it, as a number.
    pub operation: u8,
    /// The elements in little-endian order.
    pub bytes: Vec<u8>,
}

/// One rank of a communicator; NCCL's `ncclComm_t` points to it.
pub struct Communicator {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// The state of a communicator that its threads share.
pub struct Shared {
    /// This rank, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// The device that the operations work on.
    pub device: Device,
    orders: Vec<Order>,
    state: Mutex<State>,
    changed: Condvar,
    message: OnceLock<CString>,
}

#[derive(Default)]
struct State {
    code: Code,
    /// The number of groups that are not done; connecting counts as one.
    busy: usize,
    aborted: bool,
    /// Calls so far, by operation.
    calls: [usize; OPERATIONS.len()],
    groups: VecDeque<Vec<Job>>,
    /// Received messages, by sender.
    mail: Vec<VecDeque<Message>>,
    /// Whether a rank closed its connection.
    closed: Vec<bool>,
    /// Shut down when the communicator is aborted.
    connections: Vec<TcpStream>,
}

impl Shared {
    /// Adds a line to the log, if there is one.
    pub fn log(&self, how: &str) {
        let Some(path) = std::env::var_os("STANDIN_LOG") else { return };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // One write a line, because several processes write.
        let written = file.and_then(|mut file| file.write_all(format!("{how} {}\n", self.rank).as_bytes()));
        written.expect("STANDIN_LOG names a file that can be written");
    }
}

impl Communicator {
    /// A rank that is not connected yet.
    pub fn new(rank: usize, size: usize, device: Device, orders: Vec<Order>) -> Self {
        let state = State {
            busy: 1,
            mail: (0..size).map(|_| VecDeque::new()).collect(),
            closed: vec![false; size],
            ..State::default()
        };
        let (changed, message) = (Condvar::new(), OnceLock::new());
        let shared = Shared { rank, size, device, orders, state: Mutex::new(state), changed, message };
        Self { shared: Arc::new(shared), worker: Mutex::default() }
    }

    /// The state that it shares with its threads.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Starts the thread that connects it and runs its operations.
    pub fn start(&self, address: SocketAddr, fault: Option<Fault>) {
        let shared = self.shared.clone();
        let worker = thread::spawn(move || {
            let connected = shared.inject(fault).and_then(|()| Ok(mesh::connect(&shared, address)?));
            let readers = connected.and_then(|streams| Ok((readers(&shared, &streams)?, streams)));
            shared.done(readers.as_ref().err());
            if let Ok((readers, streams)) = readers {
                let mut worker = Worker { shared: &shared, streams };
                while let Some(group) = shared.next_group() {
                    shared.done(worker.run(group).err().as_ref());
                }
                // The abort that ended the loop shut the connections down, so the readers end.
                readers.into_iter().for_each(|reader| drop(reader.join()));
            }
        });
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
    }

    /// Aborts it and waits for its threads.
    pub fn end(self) {
        self.shared.abort();
        if let Some(worker) = self.worker.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let _ = worker.join();
        }
    }
}

/// Starts a thread for each connection that stores its messages, so that a sender never waits.
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

    /// Counts a call of an operation and returns the failure that is requested for it.
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

    /// Fails or hangs as requested.
    pub fn inject(&self, fault: Option<Fault>) -> Result<(), Failure> {
        match fault {
            None => Ok(()),
            Some(Fault::Hang) => {
                self.wait(|_| None::<()>);
                Err(Failure::new(REMOTE_ERROR, "it hung on request and was aborted"))
            }
            Some(_) => Err(Failure::new(REMOTE_ERROR, "the other ranks are lost on request")),
        }
    }

    /// Registers a connection to be shut down when the communicator is aborted.
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

    /// Queues the operations of one group.
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
        if let Some(Failure { code, message }) = failure
            && state.code == SUCCESS
        {
            let _ = self.message.set(CString::new(message.as_str()).unwrap_or_default());
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

    /// The message of the first failure.
    pub fn message(&self) -> Option<&CStr> {
        self.message.get().map(CString::as_c_str)
    }

    /// Stores a message of a rank.
    pub fn deliver(&self, from: usize, message: Message) {
        self.state().mail[from].push_back(message);
        self.changed.notify_all();
    }

    /// Waits for the next message of a rank; `None` if its connection is closed.
    pub fn take(&self, from: usize) -> Option<Message> {
        self.wait(|state| match state.mail[from].pop_front() {
            Some(message) => Some(Some(message)),
            None => state.closed[from].then_some(None),
        })
        .flatten()
    }
}
