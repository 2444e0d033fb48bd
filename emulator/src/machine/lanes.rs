//! Columns: one value per lane, and the functions that compute a column from columns.
//!
//! A lane function is compiled for the machine's widest instruction set (as `wide!` does it in the CPU kernels), so the
//! loop over the 32 lanes is a handful of vector instructions.

use pulp::Arch;

use crate::memory::LANES;

/// A column of 32 bits per lane.
pub(super) type V32 = [u32; LANES];
/// A column of 64 bits per lane.
pub(super) type V64 = [u64; LANES];

/// The mask of all lanes.
pub(super) const FULL: u32 = u32::MAX;

/// Maps 32-bit operands to a 32-bit result.
pub(super) type LaneFn32 = fn(&V32, &V32, &V32, &mut V32);
/// Maps 64-bit operands to a 64-bit result.
pub(super) type LaneFn64 = fn(&V64, &V64, &V64, &mut V64);
/// 32-bit operands (the third 64-bit), 64-bit result: wide products and conversions.
pub(super) type WidenFn = fn(&V32, &V32, &V64, &mut V64);
/// 64-bit operands (the third 32-bit), 32-bit result: counts and conversions.
pub(super) type NarrowFn = fn(&V64, &V64, &V32, &mut V32);
/// A 64-bit operand and two 32-bit ones, 64-bit result: shifts and bit fields.
pub(super) type ShiftFn = fn(&V64, &V32, &V32, &mut V64);
/// A comparison of 32-bit operands: the lanes where it holds.
pub(super) type CompareFn32 = fn(&V32, &V32) -> u32;
/// A comparison of 64-bit operands: the lanes where it holds.
pub(super) type CompareFn64 = fn(&V64, &V64) -> u32;

/// Runs `body` compiled for the widest instruction set of this machine.
#[inline(always)]
pub(super) fn wide<R>(body: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(body)
}

/// A lane function from an expression over its operands.
macro_rules! lanes {
    (|$a:pat_param, $b:pat_param, $c:pat_param| $body:expr) => {{
        #[allow(clippy::needless_range_loop)]
        fn lanes<A: Copy, B: Copy, C: Copy, D>(
            a: &[A; 32],
            b: &[B; 32],
            c: &[C; 32],
            d: &mut [D; 32],
            f: impl Fn(A, B, C) -> D,
        ) {
            $crate::machine::lanes::wide(
                #[inline(always)]
                || {
                    for i in 0..32 {
                        d[i] = f(a[i], b[i], c[i]);
                    }
                },
            );
        }
        |a, b, c, d| {
            lanes(
                a,
                b,
                c,
                d,
                #[inline(always)]
                |$a, $b, $c| $body,
            )
        }
    }};
}

/// A comparison from an expression over its operands.
macro_rules! compare {
    (|$a:pat_param, $b:pat_param| $body:expr) => {{
        fn lanes<A: Copy>(a: &[A; 32], b: &[A; 32], f: impl Fn(A, A) -> bool) -> u32 {
            $crate::machine::lanes::wide(
                #[inline(always)]
                || {
                    let mut mask = 0;
                    for i in 0..32 {
                        mask |= u32::from(f(a[i], b[i])) << i;
                    }
                    mask
                },
            )
        }
        |a, b| {
            lanes(
                a,
                b,
                #[inline(always)]
                |$a, $b| $body,
            )
        }
    }};
}

pub(super) use {compare, lanes};

/// Puts the lanes of `mask` of `from` into `to`.
#[inline]
pub(super) fn blend<T: Copy>(to: &mut [T; LANES], from: &[T; LANES], mask: u32) {
    if mask == FULL {
        *to = *from;
        return;
    }
    wide(
        #[inline(always)]
        || {
            for i in 0..LANES {
                to[i] = if mask >> i & 1 == 1 { from[i] } else { to[i] };
            }
        },
    );
}

/// 64 bits per lane from their low and high halves.
#[inline]
pub(super) fn pack(low: &V32, high: &V32) -> V64 {
    let mut out = [0; LANES];
    wide(
        #[inline(always)]
        || {
            for i in 0..LANES {
                out[i] = u64::from(low[i]) | u64::from(high[i]) << 32;
            }
        },
    );
    out
}

/// The lanes of a mask, lowest first.
pub(super) use crate::memory::lanes as each;
