//! What goes along with a step of the optimiser, and stays as it is where the step is skipped: numbers that the forward
//! pass left pending, and the running average of the parameters.

use super::state::OnDevice;
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Hint, Launch, U64},
    span::Real,
};

/// Threads of a block.
const BLOCK: u32 = 256;

/// kept\[i\] ← pending\[i\] for `n` f32, unless the state says that the step was skipped: then nothing is written. For
/// running statistics, which a step with an infinity must not touch.
///
/// Parameters: pending, kept, state ([`StepState`](super::StepState)).
/// Moves 8 bytes an element: bound by memory. `n` may be up to 2³² − 2¹².
pub fn keep_unless_skipped(n: u32, target: Target) -> Kernel {
    let work = Work { bytes: 8 * u64::from(n), operations: 0 };
    Asm::kernel(launch("keep_unless_skipped", n, target), work, "kept = pending, unless skipped", |asm| {
        let [pending, kept] = ["pending", "kept"].map(|name| asm.pointer::<F32>(name));
        exit_if_skipped(asm);
        asm.each_span(n, F32::VECTOR, |span| span.store(kept, &span.load(pending)));
    })
}

/// average ← average + share·(parameter − average) for `n` f32, each operation rounded by itself, unless the state says
/// that the step was skipped: then nothing is written. The share is the state's, rounded to f32: with 1 − decay it is an
/// exponential moving average (Polyak & Juditsky 1992).
///
/// Parameters: parameters, average, state ([`StepState`](super::StepState)).
/// Moves 12 bytes an element for 3 operations: bound by memory. `n` may be up to 2³² − 2¹².
pub fn average(n: u32, target: Target) -> Kernel {
    let work = Work { bytes: 12 * u64::from(n), operations: 3 * u64::from(n) };
    Asm::kernel(launch("average", n, target), work, "a = a + share*(p - a), unless skipped", |asm| {
        let [parameters, average] = ["parameters", "average"].map(|name| asm.pointer::<F32>(name));
        let state = exit_if_skipped(asm);
        let share = state.ema_share().load().to::<F32>();
        asm.each_span(n, F32::VECTOR, |span| {
            let both = span.load(parameters).into_iter().zip(span.load(average));
            let moved: Vec<_> = both.map(|(p, a)| a + (p - a) * share).collect();
            span.store(average, &moved);
        });
    })
}

fn launch(family: &'static str, n: u32, target: Target) -> Launch {
    let threads = n.div_ceil(F32::VECTOR);
    Launch::new(family, format!("{family}_n{n}"), target).threads(BLOCK, threads.into())
}

/// Declares the state, which is given, and ends every thread where it says that the step was skipped.
fn exit_if_skipped(asm: &Asm) -> OnDevice<'_> {
    let state = OnDevice(asm.pointer::<U64>("state"));
    let [skipped] = state.found_inf().load_hinted::<1>(Hint::ReadOnly);
    asm.exit_if(skipped.ne(0));
    state
}
