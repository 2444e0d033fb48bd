//! What one step needs to know, computed where it is needed.

use super::{
    norm::{LANES, over_lanes, pairs, partial_sums},
    state::{OnDevice, StepState},
};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, F64, Global, Launch, Pred, Reg, U32, U64},
};

/// Rounds of 256 partial sums whose loads are under way together.
const ROUNDS: u32 = 8;

/// Settles a step over an arena of `n` elements: reads the sums of squares that [`grad_norm`](super::grad_norm) left and
/// writes the [`StepState`]. One block; its first thread does what is left after the sum.
///
/// - norm = √Σ / scale, where Σ holds the squares of scaled gradients; the step is skipped where it is not finite or
///   `overflow` was set.
/// - clip = min(1, max_norm / (norm + 1e-6)), as torch's clip_grad_norm_.
/// - Where the step is taken: t ← t + 1 and AdamW's numbers for it, computed in f64 and rounded once to f32. βᵗ is by
///   squaring, from the lowest bit of t on.
/// - The loss scale as torch.amp.GradScaler's update: backed off after a skipped step; grown after `interval` good ones
///   in a row, unless that passes f32. The next loss reads it. A scale that falls without end is for the host to notice.
///
/// Parameters: partials ([`partial_sums`] f64), state.
pub fn optimiser_step(n: u32, target: Target) -> Kernel {
    let count = partial_sums(n);
    let launch = Launch::new("optimiser_step", format!("optimiser_step_n{n}"), target).block([LANES, 1, 1]);
    let work =
        Work { bytes: 8 * u64::from(count) + 2 * StepState::BYTES as u64, operations: u64::from(count) };
    Asm::kernel(launch, work, "norm, found_inf, clip, AdamW's numbers and the next loss scale", |k| {
        let (partials, state) = (k.pointer::<F64>("partials"), OnDevice(k.pointer("state")));
        let thread = k.thread(0);
        let sum = k.var::<F64>(0.0);
        let whole = count / (ROUNDS * LANES) * (ROUNDS * LANES);
        if whole > 0 {
            k.for_range(0, whole, ROUNDS * LANES, |offset| {
                let at = partials.at(thread + offset);
                let values: Vec<_> = (0..ROUNDS).map(|i| at.plus(i64::from(i * LANES)).load()).collect();
                values.into_iter().for_each(|x| sum.add(x));
            });
        }
        for offset in (whole..count).step_by(LANES as usize) {
            k.if_(thread.lt(count - offset), || sum.add(partials.at(thread).plus(offset.into()).load()));
        }

        k.step("the warps' sums, in pairs of neighbours");
        let warps = k.shared::<F64>(LANES / 32);
        let sum = over_lanes(sum.get());
        k.if_(k.lane().eq(0), || warps.at(thread >> 5).store(sum));
        k.barrier();
        k.exit_if(thread.ne(0));
        let mut sums: Vec<_> =
            (0..LANES / 32).step_by(2).flat_map(|i| warps.plus(i.into()).load_vector::<2>()).collect();
        while sums.len() > 1 {
            sums = pairs(&sums);
        }

        k.step("the norm of the gradients without the loss scale");
        let scale = state.scale().load();
        let norm = sums[0].sqrt() / scale.to::<F64>();
        let clip = (state.max_norm().load() / (norm + 1e-6)).min(1.0);
        let taken = finite(norm) & state.overflow().load().eq(0);
        state.norm().store(norm);
        state.clip().store(clip);
        state.overflow().store(0);
        state.found_inf().store(k.select::<U32>(taken, 0, 1));
        state.steps().store(state.steps().load() + 1);
        k.if_else(
            taken,
            || {
                adamw_numbers(k, state, clip / scale.to::<F64>());
                good_step(k, state, scale);
            },
            || skipped_step(state, scale),
        );
    })
}

/// Counts an update and writes its numbers.
fn adamw_numbers<'k>(k: &'k Asm, state: OnDevice<'k>, gradient_scale: Reg<'k, F64>) {
    k.step("AdamW's numbers");
    let t = state.updates().load() + 1;
    state.updates().store(t);
    let one = k.value::<F64>(1.0);
    let (rate, beta1, beta2) = (state.rate().load(), state.beta1().load(), state.beta2().load());
    let store = |at: Global<'k, F32>, x: Reg<'k, F64>| at.store(x.to::<F32>());
    store(state.gradient_scale(), gradient_scale);
    store(state.keep(), one - rate * state.weight_decay().load());
    store(state.step_size(), rate / (one - power(k, beta1, t)));
    store(state.root(), (one - power(k, beta2, t)).sqrt());
    store(state.v_keep(), beta2);
    store(state.m_gain(), one - beta1);
    store(state.v_gain(), one - beta2);
    store(state.v_floor(), state.eps().load());
}

/// The scale after a step that was taken.
fn good_step<'k>(k: &'k Asm, state: OnDevice<'k>, scale: Reg<'k, F32>) {
    k.step("the loss scale after a good step");
    let good = state.growth_tracker().load().min(u32::MAX - 1) + 1;
    let due = good.ge(state.interval().load());
    let grown = scale * state.growth().load();
    let fits = grown.abs().lt(f32::INFINITY);
    state.scale().store(k.select(due & fits, grown, scale));
    state.growth_tracker().store(k.select::<U32>(due, 0, good));
    state.consecutive_skips().store(0);
}

/// The scale after a step that was skipped.
fn skipped_step<'k>(state: OnDevice<'k>, scale: Reg<'k, F32>) {
    state.scale().store(scale * state.backoff().load());
    state.growth_tracker().store(0);
    state.consecutive_skips().store(state.consecutive_skips().load().min(u32::MAX - 1) + 1);
}

/// |x| < ∞: false for NaN.
fn finite<'k>(x: Reg<'k, F64>) -> Reg<'k, Pred> {
    x.abs().lt(f64::INFINITY)
}

/// baseᵗ: for each bit of t from the lowest on, the result is multiplied by the base where the bit is set, then the base
/// by itself.
fn power<'k>(k: &'k Asm, base: Reg<'k, F64>, t: Reg<'k, U64>) -> Reg<'k, F64> {
    let (result, base, left) = (k.var::<F64>(1.0), k.var(base), k.var(t));
    k.while_(
        || left.get().ne(0),
        || {
            let odd = (left.get() & 1).ne(0);
            result.set(k.select::<F64>(odd, result * base, result));
            base.set(base * base);
            left.set(left.get() >> 1);
        },
    );
    result.get()
}
