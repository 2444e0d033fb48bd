//! Many values to one, within a warp and within a block, in an order that nothing but the number of threads decides: the
//! same bits on every run. What follows is for whole warps: every lane takes part.

use crate::{
    ptx::{Asm, F32, Reg, Var},
    span::access_width,
};

/// How two values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fold {
    /// a + b, rounded to the nearest.
    Sum,
    /// The larger one; NaN where one is NaN.
    Max,
}

impl Fold {
    /// a ∘ b.
    pub fn of<'k>(self, a: Reg<'k, F32>, b: Reg<'k, F32>) -> Reg<'k, F32> {
        match self {
            Self::Sum => a + b,
            Self::Max => a.max_nan(b),
        }
    }

    /// sum ← sum ∘ x.
    pub fn onto<'k>(self, sum: Var<'k, F32>, x: Reg<'k, F32>) {
        match self {
            Self::Sum => sum.add(x),
            Self::Max => sum.max_nan(x),
        }
    }

    /// Neighbours first, then neighbouring pairs, and so on: ((x₀ ∘ x₁) ∘ (x₂ ∘ x₃)) ∘ …; an odd one at the end waits for
    /// the next level. `None` of nothing.
    pub fn pairwise<'k>(self, values: &[Reg<'k, F32>]) -> Option<Reg<'k, F32>> {
        let mut values = values.to_vec();
        while values.len() > 1 {
            values = values.chunks(2).map(|c| if let [a, b] = *c { self.of(a, b) } else { c[0] }).collect();
        }
        values.first().copied()
    }
}

impl Asm {
    /// Folds the values of the lanes whose numbers agree except in the bits of `from` to `below` / 2, both powers of two:
    /// lane l takes x[l] ∘ x[l XOR m] for m = below / 2, below / 4, …, from. All of them get the result, the same bits.
    ///
    /// (1, 32) is the whole warp, (1, 8) groups of eight neighbours, (8, 32) the lanes that agree modulo 8.
    pub fn lanes_fold<'k>(&'k self, fold: Fold, x: Reg<'k, F32>, from: u32, below: u32) -> Reg<'k, F32> {
        let mut x = x;
        let mut mask = below / 2;
        while mask >= from {
            x = fold.of(x, x.shuffle_xor(mask));
            mask /= 2;
        }
        x
    }

    /// The values of a block of `threads` threads along x (a multiple of 32, up to 1024): warps fold as in
    /// [`Asm::lanes_fold`], then their results are folded in the warps' order, ((w₀ ∘ w₁) ∘ w₂) ∘ …, by every thread.
    ///
    /// All threads of the block must come here. Each call has shared memory of its own; inside of a loop that runs, a
    /// barrier must lie between one round's call and the next's.
    pub fn block_fold<'k>(&'k self, fold: Fold, x: Reg<'k, F32>, threads: u32) -> Reg<'k, F32> {
        let x = self.lanes_fold(fold, x, 1, 32);
        let warps = threads / 32;
        if warps <= 1 {
            return x;
        }
        let slots = self.shared::<F32>(warps);
        self.if_(self.lane().eq(0), || slots.at(self.thread(0) >> 5).store(x));
        self.barrier();
        let mut results = Vec::new();
        for first in (0..i64::from(warps)).step_by(access_width(warps, 4) as usize) {
            match access_width(warps, 4) {
                4 => results.extend(slots.plus(first).load_vector::<4>()),
                2 => results.extend(slots.plus(first).load_vector::<2>()),
                _ => results.push(slots.plus(first).load()),
            }
        }
        results.into_iter().reduce(|a, b| fold.of(a, b)).unwrap_or(x)
    }

    /// Σ over the warp, in every lane.
    pub fn warp_sum<'k>(&'k self, x: Reg<'k, F32>) -> Reg<'k, F32> {
        self.lanes_fold(Fold::Sum, x, 1, 32)
    }

    /// The largest of the warp, NaN where there is one, in every lane.
    pub fn warp_max<'k>(&'k self, x: Reg<'k, F32>) -> Reg<'k, F32> {
        self.lanes_fold(Fold::Max, x, 1, 32)
    }

    /// Σ over the block, in every thread; see [`Asm::block_fold`].
    pub fn block_sum<'k>(&'k self, x: Reg<'k, F32>, threads: u32) -> Reg<'k, F32> {
        self.block_fold(Fold::Sum, x, threads)
    }

    /// The largest of the block, NaN where there is one, in every thread; see [`Asm::block_fold`].
    pub fn block_max<'k>(&'k self, x: Reg<'k, F32>, threads: u32) -> Reg<'k, F32> {
        self.block_fold(Fold::Max, x, threads)
    }
}
