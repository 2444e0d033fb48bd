//! Runs the operations. A group first sends all its data and then receives; reader threads empty the connections meanwhile,
//! so two ranks that send to each other do not deadlock.

use std::{
    ffi::c_int,
    io::{self, Write as _},
    net::TcpStream,
};

use crate::{
    CUDA_ERROR, Code, INVALID_USAGE, REMOTE_ERROR,
    id::{Fault, Operation},
    shared::{Message, Shared},
};

// `ncclDataType_t` and `ncclRedOp_t` of nccl.h.
const F16: c_int = 6;
const F32: c_int = 7;
const SUM: c_int = 0;
const MAX: c_int = 2;

/// Why an operation failed.
#[derive(Debug)]
pub struct Failure {
    /// The result code of NCCL for it.
    pub code: Code,
    /// The text of `ncclGetLastError`.
    pub message: String,
}

impl Failure {
    /// A failure with a result code and its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(REMOTE_ERROR, format!("ranks cannot connect: {error}"))
    }
}

/// One queued operation.
pub struct Job {
    operation: Operation,
    from: u64,
    to: u64,
    count: usize,
    dtype: c_int,
    /// The other rank of a send or receive, or the root.
    pub peer: usize,
    reduction: c_int,
    stream: usize,
    fault: Option<Fault>,
}

impl Job {
    /// An operation; `None` for arguments that this library does not support.
    pub fn new(
        operation: Operation,
        (from, to): (u64, u64),
        (count, dtype): (usize, c_int),
        peer: c_int,
        reduction: c_int,
        stream: usize,
        fault: Option<Fault>,
    ) -> Option<Self> {
        let reduces = matches!(operation, Operation::AllReduce | Operation::ReduceScatter);
        let known = if reduces {
            dtype == F32 && [SUM, MAX].contains(&reduction)
        } else {
            [F16, F32].contains(&dtype)
        };
        let peer = usize::try_from(peer).ok()?;
        known.then_some(Self { operation, from, to, count, dtype, peer, reduction, stream, fault })
    }

    fn bytes(&self) -> usize {
        self.count * if self.dtype == F16 { 2 } else { 4 }
    }

    fn reduce(&self, onto: &mut [u8], other: &[u8]) {
        let number = |bytes: &[u8]| bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
        for (onto, other) in onto.chunks_exact_mut(4).zip(other.chunks_exact(4)) {
            let (a, b) = (number(onto), number(other));
            let both = if self.reduction == SUM { a + b } else { a.max(b) };
            onto.copy_from_slice(&both.to_le_bytes());
        }
    }
}

/// Runs the operations of one rank.
pub struct Worker<'a> {
    /// The communicator's state.
    pub shared: &'a Shared,
    /// Connections by rank; `None` for this rank.
    pub streams: Vec<Option<TcpStream>>,
}

impl Worker<'_> {
    /// Runs a group of operations.
    pub fn run(&mut self, group: Vec<Job>) -> Result<(), Failure> {
        let mut own = Vec::with_capacity(group.len());
        for job in &group {
            self.shared.inject(job.fault)?;
            own.push(self.post(job)?);
        }
        group.iter().zip(own).try_for_each(|(job, own)| self.complete(job, own))
    }

    /// Sends this rank's data and returns the part that this rank itself needs.
    fn post(&mut self, job: &Job) -> Result<Vec<u8>, Failure> {
        let (rank, size, bytes) = (self.shared.rank, self.shared.size, job.bytes());
        match job.operation {
            Operation::Send => {
                let data = self.read(job, bytes)?;
                self.send(job, job.peer, &data)?;
                Ok(Vec::new())
            }
            Operation::AllReduce | Operation::AllGather => {
                let data = self.read(job, bytes)?;
                self.others().try_for_each(|peer| self.send(job, peer, &data))?;
                Ok(data)
            }
            Operation::ReduceScatter => {
                let data = self.read(job, bytes * size)?;
                let share = |rank: usize| &data[rank * bytes..][..bytes];
                self.others().try_for_each(|peer| self.send(job, peer, share(peer)))?;
                Ok(share(rank).to_vec())
            }
            Operation::Broadcast if job.peer == rank => {
                let data = self.read(job, bytes)?;
                self.others().try_for_each(|peer| self.send(job, peer, &data))?;
                Ok(data)
            }
            Operation::Broadcast | Operation::Recv | Operation::Init => Ok(Vec::new()),
        }
    }

    /// Receives the other ranks' data and writes the result. Sums run over the ranks in their order.
    fn complete(&self, job: &Job, own: Vec<u8>) -> Result<(), Failure> {
        let (rank, bytes) = (self.shared.rank, job.bytes());
        match job.operation {
            Operation::Send | Operation::Init => Ok(()),
            Operation::Recv => self.write(job, 0, &self.receive(job, job.peer)?),
            Operation::Broadcast if job.peer == rank => self.write(job, 0, &own),
            Operation::Broadcast => self.write(job, 0, &self.receive(job, job.peer)?),
            Operation::AllGather => {
                self.write(job, rank * bytes, &own)?;
                self.others().try_for_each(|peer| self.write(job, peer * bytes, &self.receive(job, peer)?))
            }
            Operation::AllReduce | Operation::ReduceScatter => {
                let mut sum: Option<Vec<u8>> = None;
                for peer in 0..self.shared.size {
                    let part = if peer == rank { own.clone() } else { self.receive(job, peer)? };
                    match &mut sum {
                        Some(sum) => job.reduce(sum, &part),
                        none => *none = Some(part),
                    }
                }
                self.write(job, 0, &sum.unwrap_or_default())
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let rank = self.shared.rank;
        (0..self.shared.size).filter(move |&peer| peer != rank)
    }

    fn send(&self, job: &Job, to: usize, bytes: &[u8]) -> Result<(), Failure> {
        let operation = match job.operation {
            Operation::Send => Operation::Recv,
            collective => collective,
        } as u8;
        let Some(mut stream) = self.streams[to].as_ref() else {
            self.shared.deliver(to, Message { operation, bytes: bytes.to_vec() });
            return Ok(());
        };
        let header = [&[operation][..], &(bytes.len() as u64).to_le_bytes()].concat();
        stream.write_all(&header).and_then(|()| stream.write_all(bytes)).map_err(|_| gone(to))
    }

    /// The next message of a rank, which must be of this operation and have its length.
    fn receive(&self, job: &Job, from: usize) -> Result<Vec<u8>, Failure> {
        let message = self.shared.take(from).ok_or_else(|| gone(from))?;
        if (message.operation, message.bytes.len()) == (job.operation as u8, job.bytes()) {
            return Ok(message.bytes);
        }
        let message =
            format!("rank {from} does another operation, or one of another size: {:?}", job.operation);
        Err(Failure::new(INVALID_USAGE, message))
    }

    fn read(&self, job: &Job, bytes: usize) -> Result<Vec<u8>, Failure> {
        let mut data = vec![0; bytes];
        match self.shared.device.read(job.stream, job.from, &mut data) {
            true => Ok(data),
            false => Err(Failure::new(CUDA_ERROR, "device memory cannot be read")),
        }
    }

    fn write(&self, job: &Job, offset: usize, data: &[u8]) -> Result<(), Failure> {
        match self.shared.device.write(job.stream, job.to + offset as u64, data) {
            true => Ok(()),
            false => Err(Failure::new(CUDA_ERROR, "device memory cannot be written")),
        }
    }
}

fn gone(rank: usize) -> Failure {
    Failure::new(REMOTE_ERROR, format!("rank {rank} is gone"))
}
