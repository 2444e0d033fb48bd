//! Reductions within a warp and within a block, in an order that depends only on the number of threads: every run gives
//! the same bits. All lanes of a warp must take part.

use crate::{
    ptx::{Asm, F32, Global, Reg, Var},
    span::access_width,
};

/// The operation that combines two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fold {
    /// a + b, rounded to the nearest.
    Sum,
    /// The larger one; NaN if one is NaN.
    Max,
}

impl Fold {
    /// a ∘ b.
    pub fn of<'a>(self, a: Reg<'a, F32>, b: Reg<'a, F32>) -> Reg<'a, F32> {
        match self {
            Self::Sum => a + b,
            Self::Max => a.max_nan(b),
        }
    }

    /// sum ← sum ∘ x.
    pub fn onto<'a>(self, sum: Var<'a, F32>, x: Reg<'a, F32>) {
        match self {
            Self::Sum => sum.add(x),
            Self::Max => sum.max_nan(x),
        }
    }

    /// Neighbours first, then neighbouring pairs, and so on: ((x₀ ∘ x₁) ∘ (x₂ ∘ x₃)) ∘ …; an odd one at the end moves
    /// to the next level. `None` for no values.
    pub fn pairwise<'a>(self, values: &[Reg<'a, F32>]) -> Option<Reg<'a, F32>> {
        let mut values = values.to_vec();
        while values.len() > 1 {
            values = values.chunks(2).map(|c| if let [a, b] = *c { self.of(a, b) } else { c[0] }).collect();
        }
        values.first().copied()
    }
}

impl Asm {
    /// Folds the values of the lanes whose numbers agree except in the bits of `from` to `below` / 2, both powers of
    /// two: lane l takes x[l] ∘ x[l XOR m] for m = below / 2, below / 4, …, from. All of them get the result, with the
    /// same bits.
    ///
    /// (1, 32) is the whole warp, (1, 8) groups of eight neighbours, (8, 32) the lanes that agree modulo 8.
    pub fn lanes_fold<'a>(&'a self, fold: Fold, x: Reg<'a, F32>, from: u32, below: u32) -> Reg<'a, F32> {
        let mut x = x;
        let mut mask = below / 2;
        while mask >= from {
            x = fold.of(x, x.shuffle_xor(mask));
            mask /= 2;
        }
        x
    }

    /// Sums of several values at once (a power of two of them) over the lanes that [`Asm::lanes_fold`] would fold,
    /// distributed over these lanes: n − 1 shuffles for n values over n lanes, where folding each would take n·log₂ n.
    /// For mask = below / 2, below / 4, …, from the values are halved: a lane sends one half to lane l XOR mask, the
    /// upper one if its own bit is 0, and adds the half that it receives to the half that it keeps. So lanes numbered g
    /// = 0, 1, … by the bits from `from` on end up with the sums of values g·n/G to (g + 1)·n/G − 1, where G = below /
    /// from is the number of lanes; with fewer values than lanes, G/n neighbours have the same one.
    pub fn lanes_scatter<'a>(&'a self, values: &[Reg<'a, F32>], from: u32, below: u32) -> Vec<Reg<'a, F32>> {
        let lane = self.lane();
        let mut values = values.to_vec();
        let mut mask = below / 2;
        while mask >= from && mask > 0 {
            if values.len() > 1 {
                let upper = (lane & mask).ne(0);
                let (low, high) = values.split_at(values.len() / 2);
                let pairs = low.iter().zip(high);
                let halved = pairs.map(|(&low, &high)| {
                    let (kept, given) = (self.select(upper, high, low), self.select(upper, low, high));
                    kept + given.shuffle_xor(mask)
                });
                values = halved.collect();
            } else {
                values = vec![values[0] + values[0].shuffle_xor(mask)];
            }
            mask /= 2;
        }
        values
    }

    /// Σ at[i·stride] for i = 0, 1, …, `count` − 1, added in this order.
    pub fn strided_sum<'a>(&'a self, at: Global<'a, F32>, count: u32, stride: u32) -> Reg<'a, F32> {
        /// Loads that a thread issues at once.
        const UNROLL: u32 = 8;
        let sum = self.var::<F32>(0.0);
        let add = |at: Global<'a, F32>, count: u32| {
            let parts: Vec<_> =
                (0..i64::from(count)).map(|i| at.plus(i * i64::from(stride)).load()).collect();
            parts.into_iter().for_each(|part| sum.add(part));
        };
        let unrolled = count / UNROLL * UNROLL;
        if unrolled > 0 {
            self.for_range(0, unrolled, UNROLL, |i| add(at.at(i * stride), UNROLL));
        }
        add(at.plus(i64::from(unrolled) * i64::from(stride)), count - unrolled);
        sum.get()
    }

    /// Folds the values of a block of `threads` threads along x (a multiple of 32, up to 1024): warps fold as in
    /// [`Asm::lanes_fold`], then every thread folds their results in the warps' order, ((w₀ ∘ w₁) ∘ w₂) ∘ ….
    ///
    /// All threads of the block must call this. Each call has its own shared memory; inside of a loop, a barrier must
    /// separate one round's call from the next.
    pub fn block_fold<'a>(&'a self, fold: Fold, x: Reg<'a, F32>, threads: u32) -> Reg<'a, F32> {
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

    /// The sum over the warp, in every lane.
    pub fn warp_sum<'a>(&'a self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        self.lanes_fold(Fold::Sum, x, 1, 32)
    }

    /// The largest value of the warp, NaN if there is one, in every lane.
    pub fn warp_max<'a>(&'a self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        self.lanes_fold(Fold::Max, x, 1, 32)
    }

    /// The sum over the block, in every thread; see [`Asm::block_fold`].
    pub fn block_sum<'a>(&'a self, x: Reg<'a, F32>, threads: u32) -> Reg<'a, F32> {
        self.block_fold(Fold::Sum, x, threads)
    }

    /// The largest value of the block, NaN if there is one, in every thread; see [`Asm::block_fold`].
    pub fn block_max<'a>(&'a self, x: Reg<'a, F32>, threads: u32) -> Reg<'a, F32> {
        self.block_fold(Fold::Max, x, threads)
    }
}
