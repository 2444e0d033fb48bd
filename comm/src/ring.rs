//! The schedule of the ring and the loop that runs it.

use super::cut::{Cut, Pieces, segment};
use super::element::{Element, ReduceOp};
use super::error::Fault;
use super::frame::Tag;
use super::link::{Block, Link};

/// Size of a full frame in bytes. Large enough that system calls and headers do not matter, small enough that the frames in
/// flight, in the kernel too, stay in the second-level cache.
const PIECE: usize = 96 << 10;

/// The number of frames that each rank has in flight.
const WIDTH: usize = 3;

/// A segment of at most this many bytes is one frame: more frames would only add latency.
const UNCUT: usize = 32 << 10;

const PIECES: Pieces = Pieces { width: WIDTH, most: PIECE, uncut: UNCUT };

/// A collective in which all ranks play the same part: first the steps that reduce, then the steps that copy.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// This rank, from 0.
    pub rank: usize,
    /// The number of ranks, at least 2.
    pub ranks: usize,
    /// Reduces in the first ranks − 1 steps, after which rank r has segment r.
    pub reduce: Option<ReduceOp>,
    /// Copies in the last ranks − 1 steps, before which rank r has segment r.
    pub gather: bool,
}

impl Pass {
    /// The number of steps that reduce; they are the first.
    pub fn reducing_steps(&self) -> usize {
        if self.reduce.is_some() { self.ranks - 1 } else { 0 }
    }

    /// The number of all steps.
    pub fn steps(&self) -> usize {
        self.reducing_steps() + if self.gather { self.ranks - 1 } else { 0 }
    }

    /// The segment that this rank receives in `step`. The reduction of segment j starts at rank j + 1 and ends at j.
    pub fn receives(&self, step: usize) -> usize {
        let back = match step.checked_sub(self.reducing_steps()) {
            None => step + 2,
            Some(step) => step + 1,
        };
        (self.rank + 2 * self.ranks - back) % self.ranks
    }

    /// The segment that this rank sends first.
    pub fn starts(&self) -> usize {
        if self.reduce.is_some() { (self.rank + self.ranks - 1) % self.ranks } else { self.rank }
    }

    /// Runs the collective over `data`. `tag` is that of the first frame.
    ///
    /// # Errors
    /// Errors of the link; `data` is then partly reduced.
    pub fn run<T: Element>(&self, link: &mut dyn Link, tag: Tag, data: &mut [T]) -> Result<(), Fault> {
        let cut = Cut::new(&(0..data.len()), self.ranks, size_of::<T>(), PIECES);
        let (mut outbound, mut inbound) = (tag, tag);
        for i in 0..cut.width {
            start(link, &mut outbound, &data[cut.piece(self.starts(), 0, i)])?;
        }
        for wave in 0..cut.waves {
            for step in 0..self.steps() {
                for i in 0..cut.width {
                    let own = &mut data[cut.piece(self.receives(step), wave, i)];
                    if let Some(block) = self.take(link, next(&mut inbound), step, own)? {
                        link.send(next(&mut outbound), block)?;
                    } else if wave + 1 < cut.waves {
                        start(link, &mut outbound, &data[cut.piece(self.starts(), wave + 1, i)])?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Receives the piece at `own` and returns the block to forward, `None` in the last step. Partial sums are in forwarded
    /// blocks only; final values are received into `own`.
    fn take<T: Element>(
        &self,
        link: &mut dyn Link,
        tag: Tag,
        step: usize,
        own: &mut [T],
    ) -> Result<Option<Block>, Fault> {
        let last = step + 1 == self.steps();
        let Some(reduction) = self.reduce.filter(|_| step < self.reducing_steps()) else {
            let crc = link.receive(tag, bytemuck::cast_slice_mut(own))?;
            return Ok((!last).then(|| copy(link, own, Some(crc))));
        };
        let mut block = link.receive_block(tag, size_of_val(own))?;
        reduction.apply(block.elements_mut(), own);
        if step + 1 == self.reducing_steps() {
            own.copy_from_slice(block.elements());
        }
        if last {
            link.recycle(block);
            return Ok(None);
        }
        Ok(Some(block))
    }
}

/// A broadcast from `root`: the buffer is forwarded right from rank to rank; the last rank answers the root with empty
/// frames.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// This rank, from 0.
    pub rank: usize,
    /// The number of ranks, at least 2.
    pub ranks: usize,
    /// The rank whose elements are sent to all.
    pub root: usize,
}

impl Chain {
    /// Runs the broadcast over `data`. `tag` is that of the first frame.
    ///
    /// # Errors
    /// Errors of the link; `data` is then partly written.
    pub fn run<T: Element>(&self, link: &mut dyn Link, tag: Tag, data: &mut [T]) -> Result<(), Fault> {
        let pieces = size_of_val(data).div_ceil(PIECE).max(1);
        let (mut outbound, mut inbound) = (tag, tag);
        if self.rank == self.root {
            // The answers limit the root to one piece for each rank and a few more in flight.
            let ahead = self.ranks + WIDTH;
            for i in 0..pieces + ahead {
                if i < pieces {
                    start(link, &mut outbound, &data[segment(data.len(), pieces, i)])?;
                }
                if i >= ahead {
                    link.receive(next(&mut inbound), &mut [])?;
                }
            }
            return Ok(());
        }
        let last = (self.rank + 1) % self.ranks == self.root;
        for i in 0..pieces {
            let piece = segment(data.len(), pieces, i);
            let own = &mut data[piece];
            let crc = link.receive(next(&mut inbound), bytemuck::cast_slice_mut(own))?;
            let block = if last { link.block(0) } else { copy(link, own, Some(crc)) };
            link.send(next(&mut outbound), block)?;
        }
        Ok(())
    }
}

/// Sends every rank's buffer to its right neighbour.
#[derive(Debug, Clone, Copy)]
pub struct Shift;

impl Shift {
    /// Runs the shift over `data`. `tag` is that of the first frame.
    ///
    /// # Errors
    /// Errors of the link; `data` is then partly written.
    pub fn run<T: Element>(self, link: &mut dyn Link, tag: Tag, data: &mut [T]) -> Result<(), Fault> {
        let pieces = size_of_val(data).div_ceil(PIECE).max(1);
        let (mut outbound, mut inbound) = (tag, tag);
        for i in 0..pieces {
            let piece = segment(data.len(), pieces, i);
            let own = &mut data[piece];
            start(link, &mut outbound, own)?;
            link.receive(next(&mut inbound), bytemuck::cast_slice_mut(own))?;
        }
        Ok(())
    }
}

/// Sends a copy of `own`.
fn start<T: Element>(link: &mut dyn Link, tag: &mut Tag, own: &[T]) -> Result<(), Fault> {
    let block = copy(link, own, None);
    link.send(next(tag), block)
}

/// A block of `own`, with its CRC-32C if that is known.
fn copy<T: Element>(link: &mut dyn Link, own: &[T], crc: Option<u32>) -> Block {
    let mut block = link.block(size_of_val(own));
    block.elements_mut().copy_from_slice(own);
    if let Some(crc) = crc {
        block.vouch(crc);
    }
    block
}

/// Returns the tag of this frame and advances to the next.
fn next(tag: &mut Tag) -> Tag {
    let this = *tag;
    tag.index = tag.index.wrapping_add(1);
    this
}
