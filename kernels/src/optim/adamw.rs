//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) over whole arenas, in one pass.

use std::ops::Range;

use super::state::OnDevice;
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F16, F32, Hint, Launch, Reg, U32},
    span::Real,
};

/// Threads of a block.
const BLOCK: u32 = 256;

/// Elements that a thread takes: 16 bytes of f32.
const WIDTH: u32 = 4;

/// Elements that share a bit of the map of decay; parameters start at multiples of it.
const GROUP: u32 = 64;

/// One step over arenas of `n` elements:
///
/// g ← gradient·(clip / scale),  p ← p·(1 − lr·λ),  m ← m + (1 − β₁)(g − m),  v ← β₂·v + (1 − β₂)·g²,
/// p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
///
/// in f32 with every operation rounded by itself, λ = 0 where the map of decay says so. Its numbers are those that
/// [`optimiser_step`](super::optimiser_step) left in the state; where that found an infinity or NaN, nothing is touched.
///
/// Parameters: parameters, m, v (f32), gradients (`G`), with `copy` the parameters' f16 copy, decaying
/// ([`decay_bitmap`]), state ([`StepState`](super::StepState)).
/// Reads p, m, v, g and writes p, m, v and the copy: 28 bytes an element with f16 gradients, 30 with f32 ones, 28 without
/// a copy. Bound by memory. `n` may be up to 2³² − 2¹².
pub fn adamw<G: Real>(n: u32, copy: bool, target: Target) -> Kernel {
    let name = format!("adamw_{}{}_n{n}", G::SPELLED, if copy { "_copy" } else { "" });
    let launch = Launch::new("adamw", name, target).threads(BLOCK, n.div_ceil(WIDTH).into());
    let each = 2 * 3 * 4 + G::BYTES + if copy { 2 } else { 0 };
    let work = Work {
        bytes: u64::from(n) * u64::from(each) + u64::from(words(n)) * 4,
        operations: 15 * u64::from(n),
    };
    Asm::kernel(launch, work, "p, m, v = AdamW(p, m, v, g)", |asm| {
        let [p, m, v] = ["parameters", "m", "v"].map(|name| asm.pointer::<F32>(name));
        let g = asm.pointer::<G>("gradients");
        let half = copy.then(|| asm.pointer::<F16>("half"));
        let (decaying, state) = (asm.pointer::<U32>("decaying"), OnDevice(asm.pointer("state")));
        asm.exit_if(state.found_inf().load_hinted::<1>(Hint::ReadOnly)[0].ne(0));
        let step = Step::load(state);

        asm.each_span(n, WIDTH, |span| {
            let (word, bit) = asm.divide(asm.divide(span.first(), GROUP).0, 32);
            let [word] = decaying.at(word).load_hinted(Hint::ReadOnly);
            let keep = asm.select::<F32>(((word >> bit) & 1).ne(0), step.keep, 1.0);
            let [mut ps, mut ms, mut vs] = [p, m, v].map(|array| span.load(array));
            for (i, g) in span.load(g).into_iter().enumerate() {
                [ps[i], ms[i], vs[i]] = step.update(keep, [ps[i], ms[i], vs[i]], g);
            }
            span.store(p, &ps);
            span.store(m, &ms);
            span.store(v, &vs);
            if let Some(half) = half {
                span.store(half, &ps);
            }
        });
    })
}

/// The numbers of a step.
#[derive(Clone, Copy)]
struct Step<'a> {
    scale: Reg<'a, F32>,
    keep: Reg<'a, F32>,
    step_size: Reg<'a, F32>,
    root: Reg<'a, F32>,
    v_keep: Reg<'a, F32>,
    m_gain: Reg<'a, F32>,
    v_gain: Reg<'a, F32>,
    v_floor: Reg<'a, F32>,
}

impl<'a> Step<'a> {
    fn load(state: OnDevice<'a>) -> Self {
        let [scale, keep, step_size, root] = state.gradient_scale().load_hinted(Hint::ReadOnly);
        let [v_keep, m_gain, v_gain, v_floor] = state.v_keep().load_hinted(Hint::ReadOnly);
        Self { scale, keep, step_size, root, v_keep, m_gain, v_gain, v_floor }
    }

    /// The new p, m and v of an element.
    fn update(&self, keep: Reg<'a, F32>, [p, m, v]: [Reg<'a, F32>; 3], g: Reg<'a, F32>) -> [Reg<'a, F32>; 3] {
        let g = g * self.scale;
        let m = m + self.m_gain * (g - m);
        let v = self.v_keep * v + self.v_gain * (g * g);
        let p = p * keep - self.step_size * (m / (v.sqrt() / self.root + self.v_floor));
        [p, m, v]
    }
}

/// Words of the map of decay for `n` elements.
fn words(n: u32) -> u32 {
    n.div_ceil(32 * GROUP)
}

/// A range that a map of decay cannot show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("elements {}..{} decay, of an arena of {n}: ranges start at multiples of {GROUP} and end in the arena", range.start, range.end)]
pub struct RangeError {
    /// Elements that the error is about.
    pub range: Range<usize>,
    /// Elements of the arena.
    pub n: u32,
}

/// Which elements of an arena of `n` decay, a bit for each 64, the lowest bit of a word first. A range that ends inside of
/// such a group takes the whole of it: the rest is a gap between parameters, zero and without a gradient.
///
/// # Errors
/// A range that does not start at a multiple of 64 or that ends past the arena.
pub fn decay_bitmap(n: u32, ranges: &[Range<usize>]) -> Result<Vec<u32>, RangeError> {
    let mut bitmap = vec![0u32; words(n) as usize];
    let group = GROUP as usize;
    for range in ranges {
        if range.start % group != 0 || range.end > n as usize {
            return Err(RangeError { range: range.clone(), n });
        }
        for i in range.start / group..range.end.div_ceil(group) {
            bitmap[i / 32] |= 1 << (i % 32);
        }
    }
    Ok(bitmap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_a_bit_for_each_group() {
        assert_eq!(decay_bitmap(0, &[]), Ok(vec![]));
        assert_eq!(decay_bitmap(1, std::slice::from_ref(&(0..1))), Ok(vec![1]));
        assert_eq!(decay_bitmap(2049, &[64..128, 192..250, 2048..2049]), Ok(vec![0b1010, 1]));
        assert_eq!(decay_bitmap(4096, std::slice::from_ref(&(0..4096))), Ok(vec![u32::MAX; 2]));
    }

    #[test]
    fn ranges_that_it_cannot_show_are_errors() {
        for range in [1..64, 0..129, 63..63] {
            let error = decay_bitmap(128, std::slice::from_ref(&range)).unwrap_err();
            assert_eq!(error.range, range);
        }
    }
}
