//! Mean and variance of each channel.

use super::{FAMILY, check, inverse};
use crate::{
    Kernel, Result, Target, Work,
    ptx::{Asm, F32, Launch, Reg},
    reduce::Columns,
    span::{Real, store_all},
};

/// Rows that are loaded and folded together.
const BATCH: u32 = 8;

/// The statistics of a matrix [rows, cols].
///
/// They are computed of x − x₀, where x₀ is the channel's value in the first row; it is added to the mean at the end.
/// So the rounding error in f32 scales with the spread of the values, not with their distance from 0.
///
/// A group of numbers is (n, μ, S): the count, the mean, and the sum of squared distances from it. A thread computes
/// groups of up to 8 rows, the mean first, and merges each with the previous ones as Chan, Golub & LeVeque (1983) do: δ
/// = μ₂ − μ₁, μ = μ₁ + δ·n₂/n, S = S₁ + S₂ + δ²·n₁·n₂/n. Threads, warps and pieces merge in the same way. Welford's
/// recurrence, which PyTorch uses, is the case of groups of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Statistics {
    /// Number of rows, N·H·W.
    pub rows: u32,
    /// Number of channels C, the size of the last axis.
    pub cols: u32,
}

/// μ and S of one group.
type Moments<'a> = [Reg<'a, F32>; 2];

/// Coefficients for merging groups of n₁ and n₂ numbers, shared by all channels.
#[derive(Clone, Copy)]
struct Join<'a> {
    /// n₁ + n₂.
    n: Reg<'a, F32>,
    /// n₂/n.
    part: Reg<'a, F32>,
    /// n₁·n₂/n.
    product: Reg<'a, F32>,
}

impl<'a> Join<'a> {
    fn of(n1: Reg<'a, F32>, n2: Reg<'a, F32>) -> Self {
        let n = n1 + n2;
        let part = n2 / n.max(1.0);
        Self { n, part, product: n1 * part }
    }

    /// An empty group has μ = S = 0 and changes nothing: δ·0 is 0 before the square could overflow f32.
    fn moments(self, [mean1, s1]: Moments<'a>, [mean2, s2]: Moments<'a>) -> Moments<'a> {
        let d = mean2 - mean1;
        [d.mad(self.part, mean1), (d * self.product).mad(d, s1 + s2)]
    }
}

/// Merges two groups into one.
fn join<'a>([n1, mean1, s1]: [Reg<'a, F32>; 3], [n2, mean2, s2]: [Reg<'a, F32>; 3]) -> [Reg<'a, F32>; 3] {
    let join = Join::of(n1, n2);
    let [mean, s] = join.moments([mean1, s1], [mean2, s2]);
    [join.n, mean, s]
}

/// The moments of one or more numbers.
fn moments<'a>(values: &[Reg<'a, F32>]) -> Moments<'a> {
    let sum = values[1..].iter().fold(values[0], |sum, &x| sum + x);
    let mean = if values.len() > 1 { sum * (1.0 / values.len() as f32) } else { sum };
    let far: Vec<_> = values.iter().map(|&x| x - mean).collect();
    [mean, far[1..].iter().fold(far[0] * far[0], |sum, &d| d.mad(d, sum))]
}

impl Statistics {
    fn columns(self) -> Columns {
        Columns::new(self.rows, self.cols)
    }

    /// Size of the workspace between the two kernels in bytes; 0 for unsupported sizes.
    pub fn workspace_bytes(self) -> u64 {
        check(self.rows, self.cols)
            .map_or(0, |()| (u64::from(self.columns().order.splits) * 3 + 1) * u64::from(self.cols) * 4)
    }

    /// Index of x₀ in the workspace, after the groups.
    fn origin(self) -> i64 {
        i64::from(self.columns().order.splits) * 3 * i64::from(self.cols)
    }

    /// groups[s, :, c] = (n, μ, S) of piece s of channel c, followed by x₀. Parameters: x, groups (f32, the workspace).
    /// Reads x once, with about 5 operations per element: bound by memory.
    ///
    /// # Errors
    /// No rows, no channels, more than 2²⁰ channels, 2³¹ elements or more.
    pub fn partials<T: Real>(self, target: Target) -> Result<Kernel> {
        let Self { rows, cols } = self;
        check(rows, cols)?;
        let columns = self.columns();
        let launch =
            Launch::new(FAMILY, format!("batch_norm_statistics_{}_{rows}x{cols}", T::SPELLED), target);
        let elements = u64::from(rows) * u64::from(cols);
        let work =
            Work { bytes: elements * u64::from(T::BYTES) + self.workspace_bytes(), operations: 5 * elements };
        Ok(Asm::kernel(columns.launch(launch), work, "(n, mean, squared distances) of pieces", |asm| {
            let (x, groups) = (asm.pointer::<T>("x"), asm.pointer::<F32>("groups"));
            let (share, width) = (columns.share(asm), columns.order.width);
            let count = asm.var::<F32>(0.0);
            let found: Vec<_> = (0..width).map(|_| [asm.var::<F32>(0.0), asm.var::<F32>(0.0)]).collect();
            let origin: Vec<_> = (0..width).map(|_| asm.var::<F32>(0.0)).collect();
            asm.if_(share.col.lt(cols), || {
                let first = T::load(x.at(share.col), width);
                origin.iter().zip(&first).for_each(|(to, &x)| to.set(x));
                let writes = share.piece.eq(0) & asm.thread(0).lt(columns.order.across);
                asm.if_(writes, || store_all(groups.plus(self.origin()).at(share.col), &first));
            });
            share.each_batch(BATCH, |rows| {
                let places = rows.iter().map(|row| row.mad(cols, share.col));
                let loaded: Vec<_> = places.map(|at| T::load(x.at(at), width)).collect();
                let join = Join::of(count.get(), asm.value::<F32>(rows.len() as f32));
                for (j, found) in found.iter().enumerate() {
                    let values: Vec<_> = loaded.iter().map(|row| row[j] - origin[j]).collect();
                    let joined = join.moments(found.map(|v| v.get()), moments(&values));
                    found.iter().zip(joined).for_each(|(v, x)| v.set(x));
                }
                count.set(join.n);
            });
            let mine = found.iter().map(|[mean, s]| [count.get(), mean.get(), s.get()]).collect();
            share.fold(mine, join, |col, group| share.store_result(groups, col, group));
        }))
    }

    /// From the groups: mean[c] = μ and inverse[c] = 1/√(S/M + ε), for the normalisation; and the running statistics,
    /// each r ← r + momentum·(new − r), of the mean and of the unbiased variance S/(M − 1) (S/M of a single row).
    ///
    /// Parameters: groups, running_mean, running_variance, mean, inverse (all f32), eps, momentum (f32, at the launch).
    ///
    /// # Errors
    /// As [`Statistics::partials`].
    pub fn finish(self, target: Target) -> Result<Kernel> {
        let Self { rows, cols } = self;
        check(rows, cols)?;
        let columns = self.columns().results();
        let launch = Launch::new(FAMILY, format!("batch_norm_statistics_finish_{rows}x{cols}"), target);
        let work = Work {
            bytes: self.workspace_bytes() + 6 * 4 * u64::from(cols),
            operations: 8 * u64::from(columns.rows) * u64::from(cols),
        };
        Ok(Asm::kernel(
            columns.launch(launch),
            work,
            "mean, 1/sqrt(variance + eps), the running ones",
            |asm| {
                let groups = asm.pointer::<F32>("groups");
                let [running_mean, running_variance, mean, inverse_deviation] =
                    ["running_mean", "running_variance", "mean", "inverse"]
                        .map(|name| asm.pointer::<F32>(name));
                let (eps, momentum) = (asm.parameter_f32("eps"), asm.parameter_f32("momentum"));
                let (share, width) = (columns.share(asm), columns.order.width);
                let count = asm.var::<F32>(0.0);
                let found: Vec<_> = (0..width).map(|_| [asm.var::<F32>(0.0), asm.var::<F32>(0.0)]).collect();
                share.each_batch(BATCH, |rows| {
                    let loaded: Vec<_> = rows.iter().map(|&row| share.results::<3>(groups, row)).collect();
                    for [n, means, squares] in &loaded {
                        // A piece has the same number of rows in every channel.
                        let join = Join::of(count.get(), n[0]);
                        for (j, found) in found.iter().enumerate() {
                            let joined = join.moments(found.map(|v| v.get()), [means[j], squares[j]]);
                            found.iter().zip(joined).for_each(|(v, x)| v.set(x));
                        }
                        count.set(join.n);
                    }
                });
                let mine = found.iter().map(|[mean, s]| [count.get(), mean.get(), s.get()]).collect();
                share.fold(mine, join, |col, [_, mu, squares]| {
                    let (biased, unbiased) = (rows as f32, rows.saturating_sub(1).max(1) as f32);
                    let mu = groups.plus(self.origin()).at(col).load() + mu;
                    mean.at(col).store(mu);
                    inverse_deviation.at(col).store(inverse(squares / biased, eps));
                    for (running, new) in [(running_mean, mu), (running_variance, squares / unbiased)] {
                        let old = running.at(col).load();
                        running.at(col).store((new - old).mad(momentum, old));
                    }
                });
            },
        ))
    }
}
