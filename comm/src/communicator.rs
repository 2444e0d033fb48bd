//! One rank and its collectives.

use super::cut::segment;
use super::element::{Element, ReduceOp};
use super::error::{Error, Fault, Result};
use super::frame::{Operation, Tag};
use super::link::Link;
use super::ring::{Chain, Pass, Shift};
use std::ops::Range;

/// One rank among `size`. All ranks must call the same collectives in the same order with buffers of the same length.
pub struct Communicator {
    rank: usize,
    size: usize,
    link: Option<Box<dyn Link>>,
    sequence: u64,
    failure: Option<String>,
}

impl std::fmt::Debug for Communicator {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Communicator {{ rank: {}, size: {}, sequence: {} }}", self.rank, self.size, self.sequence)
    }
}

impl Communicator {
    /// A job of one rank, whose collectives do not change the buffer.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, link: None, sequence: 0, failure: None }
    }

    /// Rank `rank` of `size` over a link to its neighbours in the ring.
    ///
    /// # Errors
    /// Less than two ranks, more than 65,535, or `rank` is not one of them.
    pub fn new(rank: usize, size: usize, link: Box<dyn Link>) -> Result<Self> {
        if size < 2 || size > usize::from(u16::MAX) || rank >= size {
            let fault = Fault::Argument(format!("rank {rank} of {size} cannot be in a ring of 2 to 65,535"));
            return Err(Error { rank, operation: Operation::Barrier, sequence: 0, fault });
        }
        Ok(Self { rank, size, link: Some(link), sequence: 0, failure: None })
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The number of the last collective; the first is 1.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Makes `data` the sum or the maximum of all ranks' `data`, element by element, the same bits on every rank.
    ///
    /// # Errors
    /// A fault of any rank; `data` is then unspecified and the communicator closed.
    pub fn all_reduce<T: Element>(&mut self, data: &mut [T], reduction: ReduceOp) -> Result<()> {
        let operation = match reduction {
            ReduceOp::Sum => Operation::AllReduceSum,
            ReduceOp::Max => Operation::AllReduceMax,
        };
        self.pass(operation, data, Some(reduction), true)
    }

    /// Makes this rank's [`segment`] of `data` the sum or the maximum of all ranks'; the rest stays as it is.
    /// Returns the segment. An [`all_gather`](Self::all_gather) after it gives the bits of an
    /// [`all_reduce`](Self::all_reduce).
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn reduce_scatter<T: Element>(
        &mut self,
        data: &mut [T],
        reduction: ReduceOp,
    ) -> Result<Range<usize>> {
        let operation = match reduction {
            ReduceOp::Sum => Operation::ReduceScatterSum,
            ReduceOp::Max => Operation::ReduceScatterMax,
        };
        self.pass(operation, data, Some(reduction), false)?;
        Ok(segment(data.len(), self.size, self.rank))
    }

    /// Copies each rank's [`segment`] of `data` to all ranks.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn all_gather<T: Element>(&mut self, data: &mut [T]) -> Result<()> {
        self.pass(Operation::AllGather, data, None, true)
    }

    /// Waits until all ranks have called this.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn barrier(&mut self) -> Result<()> {
        self.pass::<u32>(Operation::Barrier, &mut [], None, true)
    }

    /// Copies `root`'s `data` to all ranks.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce), and a root that is not a rank.
    pub fn broadcast<T: Element>(&mut self, data: &mut [T], root: usize) -> Result<()> {
        let tag = self.next::<T>(Operation::Broadcast, data.len(), root);
        let (rank, ranks) = (self.rank, self.size);
        if root >= ranks {
            let fault = Fault::Argument(format!("rank {root} cannot be the root among {ranks}"));
            return self.end(tag, Err(fault));
        }
        let result = self.open().and_then(|link| match link {
            Some(link) => Chain { rank, ranks, root }.run(link, tag, data),
            None => Ok(()),
        });
        self.end(tag, result)
    }

    /// Sends `data` to the right neighbour, and replaces it by the data of the left neighbour.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn shift<T: Element>(&mut self, data: &mut [T]) -> Result<()> {
        let tag = self.next::<T>(Operation::Shift, data.len(), 0);
        let result = self.open().and_then(|link| match link {
            Some(link) => Shift.run(link, tag, data),
            None => Ok(()),
        });
        self.end(tag, result)
    }

    /// Checks the connections to the neighbours without sending. It is not a collective: a rank can call it at any time.
    ///
    /// # Errors
    /// A neighbour has closed its connection or failed; the communicator is then closed.
    pub fn check(&mut self) -> Result<()> {
        let tag = Tag {
            operation: Operation::Barrier,
            element: 0,
            root: 0,
            sequence: self.sequence,
            count: 0,
            index: 0,
        };
        let result = self.open().and_then(|link| link.map_or(Ok(()), Link::check));
        self.end(tag, result)
    }

    /// Ends the ring with a reason, which every other rank reports at its next collective. A rank that fails outside of
    /// a collective calls this; otherwise the others only report a closed connection.
    /// calls this; otherwise the others report only a closed connection.
    pub fn abandon(&mut self, why: &str) {
        if self.failure.is_none() {
            self.fail(format!("rank {}: after collective {}: {why}", self.rank, self.sequence));
        }
    }

    fn pass<T: Element>(
        &mut self,
        operation: Operation,
        data: &mut [T],
        reduce: Option<ReduceOp>,
        gather: bool,
    ) -> Result<()> {
        let tag = self.next::<T>(operation, data.len(), 0);
        let pass = Pass { rank: self.rank, ranks: self.size, reduce, gather };
        let result = self.open().and_then(|link| match link {
            Some(link) => pass.run(link, tag, data),
            None => Ok(()),
        });
        self.end(tag, result)
    }

    /// The tag of a new collective's first frame.
    fn next<T: Element>(&mut self, operation: Operation, count: usize, root: usize) -> Tag {
        self.sequence += 1;
        // Roots that do not fit are refused before anything is sent.
        let root = root as u16;
        Tag { operation, element: T::CODE, root, sequence: self.sequence, count: count as u64, index: 0 }
    }

    /// The link; `None` for a job of one rank.
    fn open(&mut self) -> Result<Option<&mut dyn Link>, Fault> {
        match (&self.failure, &mut self.link) {
            (Some(failure), _) => Err(Fault::Earlier(failure.clone())),
            (None, Some(link)) => Ok(Some(link.as_mut())),
            (None, None) => Ok(None),
        }
    }

    fn end(&mut self, tag: Tag, result: Result<(), Fault>) -> Result<()> {
        let Err(fault) = result else { return Ok(()) };
        let error = Error { rank: self.rank, operation: tag.operation, sequence: tag.sequence, fault };
        if self.failure.is_none() {
            // The message of the first rank is forwarded.
            self.fail(match &error.fault {
                Fault::Reported { text } => text.clone(),
                _ => error.to_string(),
            });
        }
        Err(error)
    }

    fn fail(&mut self, why: String) {
        if let Some(mut link) = self.link.take() {
            link.close(&why);
        }
        self.failure = Some(why);
    }
}
