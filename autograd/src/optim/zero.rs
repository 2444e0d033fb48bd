//! The optimiser of one of several ranks on GPUs that updates only its share of the parameters (ZeRO stage 1, Rajbhandari
//! et al. 2020).
//!
//! Between its parts the ranks exchange what each has: gradients before it (reduce-scatter), the squares of the norm
//! ([`ShardedAdamW::squares`]), then the new f16 weights, and by [`ShardedAdamW::pack`] and
//! [`unpack`](ShardedAdamW::unpack) the few parameters that are read in f32.

use std::ops::Range;

use ssmv_kernels::{
    optim::{adamw, decay_bitmap, grad_norm, optimiser_step, partial_sums},
    ptx::F32,
};

use super::DeviceAdamW;
use crate::{
    DType, Error, Result,
    cuda::{Address, Argument, Cuda, DeviceBuffer, DeviceMemory},
};

/// Elements that one sum of squares covers, as in [`partial_sums`].
const PIECE: usize = 8192;

/// A stretch of the arena that this rank updates.
struct Part {
    range: Range<usize>,
    decaying: DeviceBuffer<u32>,
    /// The first of its sums of squares among this rank's; none where another rank counts them.
    sums: Option<usize>,
}

/// Elements that each rank updates.
pub struct Shares {
    /// This rank.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// What this rank updates, and whether all ranks update that alike.
    pub parts: Vec<(Range<usize>, bool)>,
    /// Parameters that are read in f32, as elements of the arena.
    pub plain: Vec<Range<usize>>,
}

/// The kernels of a share.
pub struct ShardedAdamW {
    cuda: Cuda,
    parts: Vec<Part>,
    /// Sums of squares in f64, rank by rank, as words.
    sums: DeviceMemory,
    /// How many each rank has.
    count: usize,
    rank: usize,
    size: usize,
    /// Parameters that are read in f32 one after the other, and where they stand in the arena.
    packed: DeviceMemory,
    plain: Vec<Range<usize>>,
    /// What of them this rank updates: elements of the arena, and where they are packed.
    own: Vec<(Range<usize>, usize)>,
}

impl ShardedAdamW {
    /// For a share of an arena of which the ranges `decaying` decay. Parts start at multiples of 64 elements and are as
    /// long on every rank.
    ///
    /// # Errors
    /// Arenas that no kernel counts, and what the device refuses.
    pub fn new(cuda: &Cuda, shares: &Shares, decaying: &[Range<usize>]) -> Result<Self> {
        let fail = |message: String| Error::misuse("sharded adamw", message);
        let (mut parts, mut count) = (Vec::new(), 0);
        for (range, common) in shares.parts.iter().filter(|(range, _)| !range.is_empty()) {
            let n = u32::try_from(range.len()).map_err(|e| fail(e.to_string()))?;
            let within = decaying.iter().filter(|d| d.start < range.end && range.start < d.end);
            let within =
                within.map(|d| d.start.max(range.start) - range.start..d.end.min(range.end) - range.start);
            let bits = decay_bitmap(n, &within.collect::<Vec<_>>()).map_err(|e| fail(e.to_string()))?;
            let counted = !common || shares.rank == 0;
            parts.push(Part {
                range: range.clone(),
                decaying: cuda.copy_of(&bits)?,
                sums: counted.then_some(count),
            });
            count += partial_sums(n) as usize;
        }
        let (mut own, mut packed) = (Vec::new(), 0);
        for plain in &shares.plain {
            for part in parts.iter().filter(|part| part.sums.is_some()) {
                let (start, end) = (plain.start.max(part.range.start), plain.end.min(part.range.end));
                if start < end {
                    own.push((start..end, packed + start - plain.start));
                }
            }
            packed += plain.len();
        }
        let zeros = |len: usize| -> Result<DeviceMemory> {
            let memory = DeviceMemory::new(cuda, DType::F32, len)?;
            memory.clear(0..len)?;
            Ok(memory)
        };
        Ok(Self {
            cuda: cuda.clone(),
            parts,
            // What this rank does not count stays zero in its own place.
            sums: zeros(2 * count * shares.size)?,
            count,
            rank: shares.rank,
            size: shares.size,
            packed: zeros(packed.max(1))?,
            plain: shares.plain.clone(),
            own,
        })
    }

    fn sum_address(&self, index: usize) -> Address {
        self.sums.address_of(2 * (self.rank * self.count + index))
    }

    /// The sums of squares of this rank's gradients.
    pub fn norm(&self, gradients: &DeviceMemory) -> Result<()> {
        for part in &self.parts {
            let (Some(sums), n) = (part.sums, part.range.len() as u32) else { continue };
            let arguments = [gradients.address_of(part.range.start).into(), self.sum_address(sums).into()];
            self.cuda
                .launch_one(&("grad_norm", n), &arguments, |_, target| Ok(grad_norm::<F32>(n, target)))?;
        }
        Ok(())
    }

    /// Where those of all ranks belong, each rank's in its segment: what the ranks gather after
    /// [`norm`](Self::norm).
    pub fn squares(&self) -> (&DeviceMemory, Range<usize>) {
        (&self.sums, 0..self.sums.len())
    }

    /// One step, once all sums of squares are there: norm and scale, then AdamW over this rank's share.
    pub fn step(
        &self,
        optimiser: &DeviceAdamW,
        [masters, halves]: [&DeviceMemory; 2],
        gradients: &DeviceMemory,
    ) -> Result<()> {
        let state = Argument::Pointer(optimiser.address());
        // As many sums as an arena of this length has.
        let all = u32::try_from(self.count * self.size * PIECE)
            .map_err(|_| Error::misuse("sharded adamw", "more sums of squares than a kernel counts"))?;
        self.cuda.launch_one(&("optimiser_step", all), &[self.sums.argument(), state], |_, target| {
            Ok(optimiser_step(all, target))
        })?;
        for Part { range, decaying, .. } in &self.parts {
            let n = range.len() as u32;
            let at = |memory: &DeviceMemory| Argument::from(memory.address_of(range.start));
            let [first, second] = &optimiser.moments;
            let arguments =
                [at(masters), at(first), at(second), at(gradients), at(halves), decaying.into(), state];
            self.cuda.launch_one(&("adamw", n), &arguments, |_, target| Ok(adamw::<F32>(n, true, target)))?;
        }
        Ok(())
    }

    /// Packs what this rank updated of the parameters that are read in f32, beside zeros for the rest: their sum over all
    /// ranks is what all have.
    pub fn pack(&self, masters: &DeviceMemory) -> Result<()> {
        self.packed.clear(0..self.packed.len())?;
        self.own.iter().try_for_each(|(range, to)| {
            self.copy(self.packed.address_of(*to), masters.address_of(range.start), range.len())
        })
    }

    /// Where they are packed.
    pub fn packed(&self) -> (&DeviceMemory, Range<usize>) {
        (&self.packed, 0..self.packed.len())
    }

    /// Puts the parameters that were packed, of all ranks, where they belong.
    pub fn unpack(&self, masters: &DeviceMemory) -> Result<()> {
        let mut from = 0;
        self.plain.iter().try_for_each(|range| {
            let copied =
                self.copy(masters.address_of(range.start), self.packed.address_of(from), range.len());
            from += range.len();
            copied
        })
    }

    fn copy(&self, to: Address, from: Address, count: usize) -> Result<()> {
        self.cuda.driver().copy(to, from, 4 * count as u64, self.cuda.compute_stream())
    }
}
