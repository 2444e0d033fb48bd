//! The scan on the CPU: one task per sequence, sequential in time, 16 channels side by side in the inner loops.

use rayon::prelude::*;

use super::Sizes;
use crate::{Element, Result, Tensor, buffer::Buffer, wide};

/// Channels that the inner loops process together.
const BLOCK: usize = 16;
/// Sequences up to this long keep all states of a block at once.
const SHORT: usize = 64;

type Lane<T> = [T; BLOCK];

/// Elements of the six input tensors.
pub(super) struct Inputs<'a, T> {
    u: &'a [T],
    delta: &'a [T],
    a: &'a [T],
    b: &'a [T],
    c: &'a [T],
    d: &'a [T],
}

impl<'a, T: Element> Inputs<'a, T> {
    pub fn of(tensors: &[&'a Tensor]) -> Result<Self> {
        let [u, delta, a, b, c, d] = [0, 1, 2, 3, 4, 5].map(|i| tensors[i].values::<T>());
        Ok(Self { u: u?, delta: delta?, a: a?, b: b?, c: c?, d: d? })
    }

    /// The part of sequence `i`.
    fn sequence(&self, s: Sizes, i: usize) -> Self {
        let (wide, narrow) = (s.length * s.channels, s.length * s.states);
        Self {
            u: &self.u[i * wide..][..wide],
            delta: &self.delta[i * wide..][..wide],
            b: &self.b[i * narrow..][..narrow],
            c: &self.c[i * narrow..][..narrow],
            ..*self
        }
    }
}

#[inline(always)]
fn load<T: Element>(from: &[T]) -> Lane<T> {
    let mut lane = [T::ZERO; BLOCK];
    if let Some(full) = from.first_chunk() {
        lane = *full;
    } else {
        lane[..from.len()].copy_from_slice(from);
    }
    lane
}

/// The channels of a block: their position, their number, and their rows of A, state by state.
struct Block<T> {
    first: usize,
    count: usize,
    a: Vec<Lane<T>>,
}

impl<T: Element> Block<T> {
    fn new(s: Sizes, a: &[T], first: usize) -> Self {
        let count = BLOCK.min(s.channels - first);
        let mut lanes = vec![[T::ZERO; BLOCK]; s.states];
        for j in 0..count {
            for (n, lane) in lanes.iter_mut().enumerate() {
                lane[j] = a[(first + j) * s.states + n];
            }
        }
        Self { first, count, a: lanes }
    }

    #[inline(always)]
    fn at(&self, s: Sizes, values: &[T], t: usize) -> Lane<T> {
        load(&values[t * s.channels + self.first..][..self.count])
    }

    /// decay ← exp(Δ·A), h ← decay·h + Δ·u·B.
    #[inline(always)]
    fn step(&self, h: &mut [Lane<T>], decays: &mut [Lane<T>], delta: &Lane<T>, u: &Lane<T>, b: &[T]) {
        for (((h, decay), a), &b) in h.iter_mut().zip(decays).zip(&self.a).zip(b) {
            Self::next(h, decay, a, delta, u, b);
        }
    }

    /// As [`Block::step`], from the states `before` to `h`.
    #[inline(always)]
    fn step_from(
        &self,
        before: &[Lane<T>],
        h: &mut [Lane<T>],
        decays: &mut [Lane<T>],
        [delta, u]: [&Lane<T>; 2],
        b: &[T],
    ) {
        for ((((h, &before), decay), a), &b) in h.iter_mut().zip(before).zip(decays).zip(&self.a).zip(b) {
            *h = before;
            Self::next(h, decay, a, delta, u, b);
        }
    }

    #[inline(always)]
    fn next(h: &mut Lane<T>, decay: &mut Lane<T>, a: &Lane<T>, delta: &Lane<T>, u: &Lane<T>, b: T) {
        for j in 0..BLOCK {
            decay[j] = (delta[j] * a[j]).exp_wide();
            h[j] = decay[j] * h[j] + delta[j] * u[j] * b;
        }
    }
}

fn blocks<T: Element>(s: Sizes, a: &[T]) -> Vec<Block<T>> {
    (0..s.channels).step_by(BLOCK).map(|first| Block::new(s, a, first)).collect()
}

pub(super) fn forward<T: Element>(s: Sizes, x: &Inputs<T>) -> Buffer<T> {
    let mut y = Buffer::uninit(x.u.len());
    let blocks = blocks(s, x.a);
    y.par_chunks_mut(s.length * s.channels).enumerate().for_each(|(i, y)| {
        let x = x.sequence(s, i);
        wide!({
            let (mut h, mut decays) = (vec![[T::ZERO; BLOCK]; s.states], vec![[T::ZERO; BLOCK]; s.states]);
            for block in &blocks {
                h.fill([T::ZERO; BLOCK]);
                let d = load(&x.d[block.first..][..block.count]);
                for t in 0..s.length {
                    let (u, delta) = (block.at(s, x.u, t), block.at(s, x.delta, t));
                    block.step(&mut h, &mut decays, &delta, &u, &x.b[t * s.states..][..s.states]);
                    let mut out: Lane<T> = std::array::from_fn(|j| d[j] * u[j]);
                    for (h, &c) in h.iter().zip(&x.c[t * s.states..][..s.states]) {
                        for j in 0..BLOCK {
                            out[j] += h[j] * c;
                        }
                    }
                    y[t * s.channels + block.first..][..block.count].copy_from_slice(&out[..block.count]);
                }
            }
        });
    });
    y
}

/// Gradients of u, Δ, A, B, C, D.
pub(super) fn backward<T: Element>(s: Sizes, x: &Inputs<T>, dy: &[T]) -> [Buffer<T>; 6] {
    let (wide_len, narrow_len) = (s.length * s.channels, s.length * s.states);
    let mut du = Buffer::uninit(x.u.len());
    let mut ddelta = Buffer::uninit(x.u.len());
    let mut db = Buffer::uninit(x.b.len());
    let mut dc = Buffer::uninit(x.c.len());
    let blocks = blocks(s, x.a);
    let outputs = du.par_chunks_mut(wide_len).zip(ddelta.par_chunks_mut(wide_len));
    let outputs = outputs.zip(db.par_chunks_mut(narrow_len).zip(dc.par_chunks_mut(narrow_len)));
    let parts: Vec<(Vec<T>, Vec<T>)> = outputs
        .enumerate()
        .map(|(i, ((du, ddelta), (db, dc)))| {
            let mut sums = (vec![T::ZERO; x.a.len()], vec![T::ZERO; s.channels]);
            let sequence = x.sequence(s, i);
            let dy = &dy[i * wide_len..][..wide_len];
            wide!({
                let mut pass =
                    BackwardScan { s, x: sequence, dy, du, ddelta, da: &mut sums.0, dd: &mut sums.1 };
                let mut scratch = Scratch::new(s);
                for block in &blocks {
                    pass.block(block, &mut scratch);
                }
                for (out, lanes) in [(db, &scratch.db), (dc, &scratch.dc)] {
                    out.iter_mut().zip(lanes).for_each(|(out, lane)| *out = sum(lane));
                }
            });
            sums
        })
        .collect();
    let (mut da, mut dd) = (Buffer::zeros(x.a.len()), Buffer::zeros(s.channels));
    for (part_a, part_d) in parts {
        da.iter_mut().zip(part_a).for_each(|(s, v)| *s += v);
        dd.iter_mut().zip(part_d).for_each(|(s, v)| *s += v);
    }
    [du, ddelta, da, db, dc, dd]
}

/// Scratch memory of a task: states at checkpoints, and all states and decays between two of them.
struct Scratch<T> {
    span: usize,
    checkpoints: Vec<Lane<T>>,
    /// span + 1 states: `history[k]` is the state before step k of the span.
    history: Vec<Lane<T>>,
    /// exp(Δ·A) of each step of the span.
    decays: Vec<Lane<T>>,
    /// Sums of dB and dC over the blocks, for each step and state; their lanes are added up at the end.
    db: Vec<Lane<T>>,
    dc: Vec<Lane<T>>,
    lambda: Vec<Lane<T>>,
    da: Vec<Lane<T>>,
}

impl<T: Element> Scratch<T> {
    fn new(s: Sizes) -> Self {
        let span = if s.length <= SHORT { s.length } else { s.length.isqrt() };
        let zero = [T::ZERO; BLOCK];
        Self {
            span,
            checkpoints: vec![zero; s.length.div_ceil(span) * s.states],
            history: vec![zero; (span + 1) * s.states],
            decays: vec![zero; span * s.states],
            db: vec![zero; s.length * s.states],
            dc: vec![zero; s.length * s.states],
            lambda: vec![zero; s.states],
            da: vec![zero; s.states],
        }
    }
}

struct BackwardScan<'a, T> {
    s: Sizes,
    x: Inputs<'a, T>,
    dy: &'a [T],
    du: &'a mut [T],
    ddelta: &'a mut [T],
    da: &'a mut [T],
    dd: &'a mut [T],
}

impl<T: Element> BackwardScan<'_, T> {
    #[inline(always)]
    fn block(&mut self, block: &Block<T>, scratch: &mut Scratch<T>) {
        let (s, n) = (self.s, self.s.states);
        let spans = s.length.div_ceil(scratch.span);
        // The states at the beginning of each span.
        scratch.checkpoints[..n].fill([T::ZERO; BLOCK]);
        for span in 1..spans {
            let (done, next) = scratch.checkpoints.split_at_mut(span * n);
            let h = &mut next[..n];
            h.copy_from_slice(&done[(span - 1) * n..]);
            for t in (span - 1) * scratch.span..span * scratch.span {
                let (u, delta) = (block.at(s, self.x.u, t), block.at(s, self.x.delta, t));
                block.step(h, &mut scratch.decays[..n], &delta, &u, &self.x.b[t * n..][..n]);
            }
        }
        scratch.lambda.fill([T::ZERO; BLOCK]);
        scratch.da.fill([T::ZERO; BLOCK]);
        let mut dd = [T::ZERO; BLOCK];
        for span in (0..spans).rev() {
            let (from, to) = (span * scratch.span, ((span + 1) * scratch.span).min(s.length));
            scratch.history[..n].copy_from_slice(&scratch.checkpoints[span * n..][..n]);
            for t in from..to {
                let (done, next) = scratch.history.split_at_mut((t - from + 1) * n);
                let (u, delta) = (block.at(s, self.x.u, t), block.at(s, self.x.delta, t));
                let decays = &mut scratch.decays[(t - from) * n..][..n];
                let before = &done[(t - from) * n..];
                block.step_from(before, &mut next[..n], decays, [&delta, &u], &self.x.b[t * n..][..n]);
            }
            for t in (from..to).rev() {
                self.step_back(block, t, t - from, scratch, &mut dd);
            }
        }
        for j in 0..block.count {
            self.dd[block.first + j] = dd[j];
            for (k, da) in scratch.da.iter().enumerate() {
                self.da[(block.first + j) * n + k] = da[j];
            }
        }
    }

    #[inline(always)]
    fn step_back(
        &mut self,
        block: &Block<T>,
        t: usize,
        k: usize,
        scratch: &mut Scratch<T>,
        dd: &mut Lane<T>,
    ) {
        let (s, n) = (self.s, self.s.states);
        let (u, delta) = (block.at(s, self.x.u, t), block.at(s, self.x.delta, t));
        let dy = block.at(s, self.dy, t);
        let d = load(&self.x.d[block.first..][..block.count]);
        let (mut du, mut ddelta): (Lane<T>, Lane<T>) =
            (std::array::from_fn(|j| d[j] * dy[j]), [T::ZERO; BLOCK]);
        for j in 0..BLOCK {
            dd[j] += dy[j] * u[j];
        }
        let (before, after) = (&scratch.history[k * n..][..n], &scratch.history[(k + 1) * n..][..n]);
        for i in 0..n {
            let (b, c) = (self.x.b[t * n + i], self.x.c[t * n + i]);
            let (a, h, lambda, da) = (&block.a[i], &before[i], &mut scratch.lambda[i], &mut scratch.da[i]);
            let decay = &scratch.decays[k * n + i];
            let (db, dc) = (&mut scratch.db[t * n + i], &mut scratch.dc[t * n + i]);
            for j in 0..BLOCK {
                let l = lambda[j] + dy[j] * c;
                dc[j] += dy[j] * after[i][j];
                let carried = l * decay[j];
                let e = carried * h[j];
                da[j] += delta[j] * e;
                let lu = l * u[j];
                ddelta[j] += a[j] * e + lu * b;
                du[j] += l * delta[j] * b;
                db[j] += lu * delta[j];
                lambda[j] = carried;
            }
        }
        let at = t * s.channels + block.first;
        self.du[at..at + block.count].copy_from_slice(&du[..block.count]);
        self.ddelta[at..at + block.count].copy_from_slice(&ddelta[..block.count]);
    }
}

/// The sum of a lane's elements, as a tree.
#[inline(always)]
fn sum<T: Element>(lane: &Lane<T>) -> T {
    let eight: [T; 8] = std::array::from_fn(|j| lane[j] + lane[j + 8]);
    let four: [T; 4] = std::array::from_fn(|j| eight[j] + eight[j + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
