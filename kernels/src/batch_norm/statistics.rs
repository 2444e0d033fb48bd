//! Mean and variance of each channel.

use super::{FAMILY, inverse};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Launch, Reg},
    reduce::Columns,
    span::Real,
};

/// Rows that are loaded, and folded, together.
const BATCH: u32 = 8;

/// The statistics of a matrix [rows, cols] of fewer than 2³² elements, of at least one row.
///
/// A group of numbers is (n, μ, S): how many, their mean, the sum of their squared distances from it. A thread makes a
/// group of up to 8 rows at a time, its mean first and then the distances, and joins it to those before as Chan, Golub &
/// LeVeque (1983) do: δ = μ₂ − μ₁, μ = μ₁ + δ·n₂/n, S = S₁ + S₂ + δ²·n₁·n₂/n. Threads, warps and pieces are joined alike.
/// Nothing cancels, however far the mean is from 0; Welford's recurrence, which PyTorch uses, is the same with groups of
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Statistics {
    /// Rows, N·H·W.
    pub rows: u32,
    /// Channels.
    pub cols: u32,
}

/// (n, μ, S).
type Group<'k> = [Reg<'k, F32>; 3];

/// Two groups as one; an empty one has μ = S = 0 and changes nothing.
fn join<'k>([n1, mean1, s1]: Group<'k>, [n2, mean2, s2]: Group<'k>) -> Group<'k> {
    let n = n1 + n2;
    let part = n2 / n.max(1.0);
    let d = mean2 - mean1;
    [n, d.mad(part, mean1), (d * d).mad(n1 * part, s1 + s2)]
}

/// (n, μ, S) of n numbers.
fn group<'k>(k: &'k Asm, values: &[Reg<'k, F32>]) -> Group<'k> {
    let n = values.len() as f32;
    let sum = |values: &[Reg<'k, F32>]| values.iter().copied().reduce(|a, b| a + b);
    let zero = || k.value::<F32>(0.0);
    let mean = sum(values).unwrap_or_else(zero) * (1.0 / n);
    let squares: Vec<_> = values.iter().map(|&x| x - mean).map(|d| d * d).collect();
    [k.value::<F32>(n), mean, sum(&squares).unwrap_or_else(zero)]
}

impl Statistics {
    fn columns(self) -> Columns {
        Columns::new(self.rows, self.cols)
    }

    /// Bytes of the workspace between the two kernels.
    pub fn workspace_bytes(self) -> u64 {
        u64::from(self.columns().order.splits) * 3 * u64::from(self.cols) * 4
    }

    /// groups[s, :, c] = (n, μ, S) of piece s of channel c. Parameters x, groups (f32).
    /// Reads x once, some 4 operations an element: bound by memory.
    pub fn partials<T: Real>(self, target: Target) -> Kernel {
        let (Self { rows, cols }, columns) = (self, self.columns());
        let launch =
            Launch::new(FAMILY, format!("batch_norm_statistics_{}_{rows}x{cols}", T::SPELLED), target);
        let elements = u64::from(rows) * u64::from(cols);
        let work = Work {
            bytes: elements * u64::from(T::BYTES) + self.workspace_bytes(),
            operations: 4 * elements,
        };
        Asm::kernel(columns.launch(launch), work, "(n, mean, squared distances) of pieces", |k| {
            let (x, groups) = (k.pointer::<T>("x"), k.pointer::<F32>("groups"));
            let (share, width) = (columns.share(k), columns.order.width);
            let count = k.var::<F32>(0.0);
            let moments: Vec<_> = (0..width).map(|_| [k.var::<F32>(0.0), k.var::<F32>(0.0)]).collect();
            share.each_batch(BATCH, |rows| {
                let loaded: Vec<_> =
                    rows.iter().map(|row| T::load(x.at(row.mad(cols, share.col)), width)).collect();
                let before = count.get();
                for (j, moments) in moments.iter().enumerate() {
                    let values: Vec<_> = loaded.iter().map(|row| row[j]).collect();
                    let [_, mean, squares] =
                        join([before, moments[0].get(), moments[1].get()], group(k, &values));
                    moments[0].set(mean);
                    moments[1].set(squares);
                }
                count.add(rows.len() as f32);
            });
            let mine = moments.iter().map(|[mean, s]| [count.get(), mean.get(), s.get()]).collect();
            share.fold(mine, join, |col, group| share.store_result(groups, col, group));
        })
    }

    /// From the groups: mean[c] = μ and inverse[c] = 1/√(S/M + ε), which normalise; and the running ones, each
    /// r ← r + momentum·(new − r), of the mean and of the unbiased variance S/(M − 1) (S/M of a single row).
    ///
    /// Parameters: groups, running_mean, running_variance, mean, inverse (all f32), eps, momentum (f32, at the launch).
    pub fn finish(self, target: Target) -> Kernel {
        let (Self { rows, cols }, columns) = (self, self.columns().results());
        let launch = Launch::new(FAMILY, format!("batch_norm_statistics_finish_{rows}x{cols}"), target);
        let work = Work {
            bytes: self.workspace_bytes() + 6 * 4 * u64::from(cols),
            operations: 8 * u64::from(columns.rows) * u64::from(cols),
        };
        Asm::kernel(columns.launch(launch), work, "mean, 1/√(variance + ε), the running ones", |k| {
            let groups = k.pointer::<F32>("groups");
            let [running_mean, running_variance, mean, inverse_deviation] =
                ["running_mean", "running_variance", "mean", "inverse"].map(|name| k.pointer::<F32>(name));
            let (eps, momentum) = (k.parameter_f32("eps"), k.parameter_f32("momentum"));
            let (share, width) = (columns.share(k), columns.order.width);
            let group = |_| [(); 3].map(|()| k.var::<F32>(0.0));
            let joined: Vec<_> = (0..width).map(group).collect();
            share.each_batch(BATCH, |rows| {
                let loaded: Vec<_> = rows.iter().map(|&row| share.results::<3>(groups, row)).collect();
                for [n, means, squares] in &loaded {
                    for (j, joined) in joined.iter().enumerate() {
                        let group = join(joined.map(|v| v.get()), [n[j], means[j], squares[j]]);
                        joined.iter().zip(group).for_each(|(v, x)| v.set(x));
                    }
                }
            });
            let mine = joined.iter().map(|group| group.map(|v| v.get())).collect();
            share.fold(mine, join, |col, [_, mu, squares]| {
                let (biased, unbiased) = (rows as f32, rows.saturating_sub(1).max(1) as f32);
                mean.at(col).store(mu);
                inverse_deviation.at(col).store(inverse(squares / biased, eps));
                for (running, new) in [(running_mean, mu), (running_variance, squares / unbiased)] {
                    let old = running.at(col).load();
                    running.at(col).store((new - old).mad(momentum, old));
                }
            });
        })
    }
}
