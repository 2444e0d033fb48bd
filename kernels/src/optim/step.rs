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
/// - The parameters' share in their running mean, 1 − min(δ, (1 + t)/(10 + t)): a constant decay would keep the first
///   parameters for about 1/(1 − δ) steps (the warm-up of TensorFlow's ExponentialMovingAverage with `num_updates`).
/// - The loss scale as torch.amp.GradScaler's update: backed off after a skipped step; grown after `interval` good ones
///   in a row, unless that passes f32. The next loss reads it. A scale that falls without end is for the host to notice.
///
/// Parameters: partials ([`partial_sums`] f64), state.
pub fn optimiser_step(n: u32, target: Target) -> Kernel {
    let count = partial_sums(n);
    let launch = Launch::new("optimiser_step", format!("optimiser_step_n{n}"), target).block([LANES, 1, 1]);
    let work =
        Work { bytes: 8 * u64::from(count) + 2 * StepState::BYTES as u64, operations: u64::from(count) };
    Asm::kernel(launch, work, "norm, found_inf, clip, AdamW's numbers and the next loss scale", |asm| {
        let (partials, state) = (asm.pointer::<F64>("partials"), OnDevice(asm.pointer("state")));
        let thread = asm.thread(0);
        let sum = asm.var::<F64>(0.0);
        let whole = count / (ROUNDS * LANES) * (ROUNDS * LANES);
        if whole > 0 {
            asm.for_range(0, whole, ROUNDS * LANES, |offset| {
                let at = partials.at(thread + offset);
                let values: Vec<_> = (0..ROUNDS).map(|i| at.plus(i64::from(i * LANES)).load()).collect();
                values.into_iter().for_each(|x| sum.add(x));
            });
        }
        for offset in (whole..count).step_by(LANES as usize) {
            asm.if_(thread.lt(count - offset), || sum.add(partials.at(thread).plus(offset.into()).load()));
        }

        asm.step("the warps' sums, in pairs of neighbours");
        let warps = asm.shared::<F64>(LANES / 32);
        let sum = over_lanes(sum.get());
        asm.if_(asm.lane().eq(0), || warps.at(thread >> 5).store(sum));
        asm.barrier();
        asm.exit_if(thread.ne(0));
        let mut sums: Vec<_> =
            (0..LANES / 32).step_by(2).flat_map(|i| warps.plus(i.into()).load_vector::<2>()).collect();
        while sums.len() > 1 {
            sums = pairs(&sums);
        }

        asm.step("the norm of the gradients without the loss scale");
        let scale = state.scale().load();
        let norm = sums[0].sqrt() / scale.to::<F64>();
        let clip = (state.max_norm().load() / (norm + 1e-6)).min(1.0);
        let taken = finite(norm) & state.overflow().load().eq(0);
        state.norm().store(norm);
        state.clip().store(clip);
        state.overflow().store(0);
        state.found_inf().store(asm.select::<U32>(taken, 0, 1));
        state.steps().store(state.steps().load() + 1);
        asm.if_else(
            taken,
            || {
                adamw_numbers(asm, state, clip / scale.to::<F64>());
                ema_share(asm, state);
                good_step(asm, state, scale);
            },
            || skipped_step(state, scale),
        );
    })
}

/// Counts an update and writes its numbers.
fn adamw_numbers<'a>(asm: &'a Asm, state: OnDevice<'a>, gradient_scale: Reg<'a, F64>) {
    asm.step("AdamW's numbers");
    let t = state.updates().load() + 1;
    state.updates().store(t);
    let one = asm.value::<F64>(1.0);
    let (rate, beta1, beta2) = (state.rate().load(), state.beta1().load(), state.beta2().load());
    let store = |at: Global<'a, F32>, x: Reg<'a, F64>| at.store(x.to::<F32>());
    store(state.gradient_scale(), gradient_scale);
    store(state.keep(), one - rate * state.weight_decay().load());
    store(state.step_size(), rate / (one - power(asm, beta1, t)));
    store(state.root(), (one - power(asm, beta2, t)).sqrt());
    store(state.v_keep(), beta2);
    store(state.m_gain(), one - beta1);
    store(state.v_gain(), one - beta2);
    store(state.v_floor(), state.eps().load());
}

/// Writes the parameters' share in their running mean, after the update was counted.
fn ema_share<'a>(asm: &'a Asm, state: OnDevice<'a>) {
    asm.step("the share in the running mean");
    let t = state.updates().load().to::<F64>();
    let warming = (t + 1.0) / (t + 10.0);
    state.ema_share().store(asm.value::<F64>(1.0) - state.ema_decay().load().min(warming));
}

/// The scale after a step that was taken.
fn good_step<'a>(asm: &'a Asm, state: OnDevice<'a>, scale: Reg<'a, F32>) {
    asm.step("the loss scale after a good step");
    let good = state.growth_tracker().load().min(u32::MAX - 1) + 1;
    let due = good.ge(state.interval().load());
    let grown = scale * state.growth().load();
    let fits = grown.abs().lt(f32::INFINITY);
    state.scale().store(asm.select(due & fits, grown, scale));
    state.growth_tracker().store(asm.select::<U32>(due, 0, good));
    state.consecutive_skips().store(0);
}

/// The scale after a step that was skipped.
fn skipped_step<'a>(state: OnDevice<'a>, scale: Reg<'a, F32>) {
    state.scale().store(scale * state.backoff().load());
    state.growth_tracker().store(0);
    state.consecutive_skips().store(state.consecutive_skips().load().min(u32::MAX - 1) + 1);
}

/// |x| < ∞: false for NaN.
fn finite<'a>(x: Reg<'a, F64>) -> Reg<'a, Pred> {
    x.abs().lt(f64::INFINITY)
}

/// baseᵗ: for each bit of t from the lowest on, the result is multiplied by the base where the bit is set, then the base
/// by itself.
fn power<'a>(asm: &'a Asm, base: Reg<'a, F64>, t: Reg<'a, U64>) -> Reg<'a, F64> {
    let (result, base, left) = (asm.var::<F64>(1.0), asm.var(base), asm.var(t));
    asm.while_(
        || left.get().ne(0),
        || {
            let odd = (left.get() & 1).ne(0);
            result.set(asm.select::<F64>(odd, result * base, result));
            base.set(base * base);
            left.set(left.get() >> 1);
        },
    );
    result.get()
}
