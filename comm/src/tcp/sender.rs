//! The thread that sends to the right neighbour.

use super::wait::Wait;
use super::{Options, Position, Wire};
use crate::error::Fault;
use crate::frame::{HEADER, Header, MOST_TEXT, Operation, Tag};
use crate::link::Block;
use crate::seal::{SEAL, Seal};
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time limit of a failing rank for sending the reason to its right neighbour.
const FAREWELL: Duration = Duration::from_millis(500);

/// Time that a rank with a closed connection to its right neighbour waits for the reason, which arrives from the left.
pub const RELAYED_FAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// The thread, its queue, and blocks for reuse.
#[derive(Debug)]
pub struct Sender {
    right: TcpStream,
    position: Position,
    queue: Option<mpsc::Sender<(Tag, Block)>>,
    /// Blocks that were sent; closed when the thread ends.
    done: Receiver<Block>,
    spare: Vec<Block>,
    fault: Arc<Mutex<Option<(Fault, Instant)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    /// Starts the thread.
    ///
    /// # Errors
    /// The stream cannot be cloned, or the thread cannot start.
    pub fn start(position: Position, right: Wire, options: Options) -> io::Result<Self> {
        let (queue, frames) = mpsc::channel();
        let (back, done) = mpsc::channel();
        let fault = Arc::new(Mutex::new(None));
        let Wire { stream: right, seal } = right;
        let mut writer = Writer { stream: right.try_clone()?, seal, position, options };
        let seen = Arc::clone(&fault);
        let run = move || {
            for (tag, block) in frames {
                if let Err(fault) = writer.write(tag, &block) {
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((fault, Instant::now()));
                    return;
                }
                // The receiver may be gone, as the link is closing.
                let _ = back.send(block);
            }
        };
        let thread = Some(thread::Builder::new().name(format!("send {}", position.rank)).spawn(run)?);
        Ok(Self { right, position, queue: Some(queue), done, spare: Vec::new(), fault, thread })
    }

    /// The connection to the right neighbour.
    pub fn stream(&self) -> &TcpStream {
        &self.right
    }

    /// Queues a frame. Frames that are queued shortly after a failure of the thread are lost, see [`overdue`](Self::overdue).
    ///
    /// # Errors
    /// The thread failed, or the link is closed.
    pub fn send(&mut self, tag: Tag, block: Block) -> Result<(), Fault> {
        if self.queue.as_ref().is_some_and(|queue| queue.send((tag, block)).is_ok()) {
            return Ok(());
        }
        match self.fault() {
            Some(_) => self.overdue().map_or(Ok(()), Err),
            None => Err(Fault::Closed { peer: self.position.right() }),
        }
    }

    /// Queues a frame that this rank waits for `rank`. If the thread failed, the next frame returns the error.
    pub fn waiting(&mut self, rank: usize) {
        let _ = self.send(control(Operation::Waiting, rank), Block::default());
    }

    /// The error of the thread.
    pub fn fault(&self) -> Option<Fault> {
        Some(self.fault.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.0.clone())
    }

    /// The error of the thread, after the left neighbour had time to send the reason.
    pub fn overdue(&self) -> Option<Fault> {
        let seen = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let (fault, since) = seen.as_ref()?;
        (since.elapsed() >= RELAYED_FAULT_TIMEOUT).then(|| fault.clone())
    }

    /// A block of `bytes`, reused if possible.
    pub fn block(&mut self, bytes: usize) -> Block {
        let mut block = self.spare.pop().or_else(|| self.done.try_recv().ok()).unwrap_or_default();
        block.resize(bytes);
        block
    }

    /// Keeps a block for [`block`](Self::block).
    pub fn recycle(&mut self, block: Block) {
        self.spare.push(block);
    }

    /// Sends `why` after the queued frames, for a short time at most, and closes the connection.
    pub fn close(&mut self, why: &str) {
        let why = &why.as_bytes()[..why.len().min(MOST_TEXT)];
        let mut text = self.block(why.len());
        text.bytes_mut().copy_from_slice(why);
        // After a failure of the thread nothing can be sent.
        let _ = self.send(control(Operation::Failed, self.position.rank), text);
        self.queue = None;
        let deadline = Instant::now() + FAREWELL;
        while self.done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        let _ = self.right.shutdown(Shutdown::Both);
        self.join();
    }

    fn join(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // After a panic the connection is closed too.
            let _ = thread.join();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.join();
    }
}

fn control(operation: Operation, rank: usize) -> Tag {
    Tag { operation, element: 0, root: 0, sequence: 0, count: rank as u64, index: 0 }
}

/// The writing end of the connection.
struct Writer {
    stream: TcpStream,
    seal: Option<Seal>,
    position: Position,
    options: Options,
}

impl Writer {
    /// Writes a frame to the stream.
    fn write(&mut self, tag: Tag, block: &Block) -> Result<(), Fault> {
        let payload = block.bytes();
        // The ring's pieces are far below the limit of `MOST_PAYLOAD`.
        let header = Header { tag, bytes: payload.len() as u32, crc: block.crc() }.encode();
        let mut sealed = [0; HEADER + SEAL];
        sealed[..HEADER].copy_from_slice(&header);
        let mut head = &sealed[..HEADER];
        if let Some(seal) = &mut self.seal {
            sealed[HEADER..].copy_from_slice(&seal.seal(&header, payload));
            head = &sealed;
        }
        let mut wait = Wait::new(self.position, true, tag);
        let mut body = payload;
        while !head.is_empty() || !body.is_empty() {
            match self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(0) => return Err(Fault::Closed { peer: self.position.right() }),
                Ok(bytes) => {
                    let of_head = bytes.min(head.len());
                    head = &head[of_head..];
                    body = &body[bytes - of_head..];
                    wait.moved();
                }
                Err(e) => {
                    wait.judge(&e, None, &self.options)?;
                }
            }
        }
        Ok(())
    }
}
