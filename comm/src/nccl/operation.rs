//! Operations over device memory, and their names in errors.

use std::{fmt, ops::Range};

use ssmv_autograd::{
    DType, Error as DeviceError,
    cuda::{Address, DeviceMemory},
};

use super::{Error, Result};
use crate::ReduceOp;

/// An operation over elements of device memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Send { to: usize },
    Receive { from: usize },
    AllReduce(ReduceOp),
    ReduceScatter(ReduceOp),
    AllGather,
    Broadcast { root: usize },
}

/// An operation with its range of memory, which is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub operation: Operation,
    pub address: Address,
    pub count: usize,
    pub dtype: DType,
}

impl Call {
    pub fn new(operation: Operation, memory: &DeviceMemory, range: Range<usize>) -> Result<Self> {
        let dtype = memory.dtype();
        if range.start > range.end || range.end > memory.len() {
            let message = format!("elements {range:?} of {}", memory.len());
            return Err(Error::misuse(format!("nccl {operation}"), message));
        }
        let reduces = matches!(operation, Operation::AllReduce(_) | Operation::ReduceScatter(_));
        if reduces && dtype != DType::F32 {
            let found = dtype.name();
            return Err(DeviceError::Dtype { op: "nccl reduction", found, expected: "f32" }.into());
        }
        Ok(Self { operation, address: memory.address_of(range.start), count: range.len(), dtype })
    }

    /// The number of elements of each of `size` ranks.
    pub fn share(&self, size: usize) -> Result<usize> {
        if self.count.is_multiple_of(size) {
            return Ok(self.count / size);
        }
        let message = format!("{} elements are not a multiple of {size} ranks", self.count);
        Err(Error::misuse(format!("nccl {}", self.operation), message))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { to } => write!(f, "send to rank {to}"),
            Self::Receive { from } => write!(f, "receive from rank {from}"),
            Self::AllReduce(ReduceOp::Sum) => f.write_str("all-reduce (sum)"),
            Self::AllReduce(ReduceOp::Max) => f.write_str("all-reduce (max)"),
            Self::ReduceScatter(ReduceOp::Sum) => f.write_str("reduce-scatter (sum)"),
            Self::ReduceScatter(ReduceOp::Max) => f.write_str("reduce-scatter (max)"),
            Self::AllGather => f.write_str("all-gather"),
            Self::Broadcast { root } => write!(f, "broadcast from rank {root}"),
        }
    }
}

/// The operations of a group, for errors.
pub(super) struct Calls<'a>(pub &'a [Call]);

impl fmt::Display for Calls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nccl")?;
        for (index, Call { operation, count, dtype, .. }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} {operation}, {count} {}", dtype.name())?;
        }
        if self.0.is_empty() { f.write_str(" without operations") } else { Ok(()) }
    }
}
