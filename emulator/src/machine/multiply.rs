//! Matrix products of a warp's registers (PTX ISA, "mma"); `wmma.mma` is made of them too.

use super::block::Context;
use super::lanes::FULL;
use super::program::Loc;
use super::warp::Warp;
use crate::error::Fault;
use crate::numerics::Rounding;
use crate::numerics::mma::{self, Factor};
use crate::numerics::products::{self, Dot};
use crate::numerics::small::Eight;

/// The types of the factors and of the sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Product {
    /// f16, bf16 or tf32, in f32.
    Single(Factor),
    /// f16, in f16.
    Half,
    /// 8-bit floats, in f32.
    Eights([Eight; 2]),
    /// 8-bit floats, in f16.
    EightsHalf([Eight; 2]),
    /// Integers or bits, in s32, with or without `.satfinite`.
    Integers(Dot, bool),
    /// f64, in f64; its registers have 64 bits.
    Doubles(Rounding),
}

/// `mma`, of 8 or 16 rows and 8 columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Multiply {
    /// What it computes.
    pub product: Product,
    /// How many registers A, B, and C and D have.
    pub counts: [usize; 3],
    /// D.
    pub to: [Loc; 4],
    /// A.
    pub left: [Loc; 8],
    /// B.
    pub right: [Loc; 4],
    /// C.
    pub sum: [Loc; 4],
    /// Multiply-accumulates.
    pub macs: u64,
}

impl Warp {
    pub(super) fn multiply(&mut self, cx: &mut Context<'_>, op: &Multiply) -> Result<(), Fault> {
        let [lefts, rights, sums] = op.counts;
        let file = usize::from(matches!(op.product, Product::Doubles(_)));
        self.need(cx.program, file, &op.left[..lefts], FULL)?;
        self.need(cx.program, file, &op.right[..rights], FULL)?;
        self.need(cx.program, file, &op.sum[..sums], FULL)?;
        cx.report.tensor_macs += op.macs;
        if let Product::Doubles(rounding) = op.product {
            let a = op.left.map(|loc| *self.v64(cx.program, loc));
            let b = op.right.map(|loc| *self.v64(cx.program, loc));
            let mut c = op.sum.map(|loc| *self.v64(cx.program, loc));
            products::doubles(rounding, &a[..lefts], &b[..rights], &mut c[..sums]);
            for (&to, column) in op.to.iter().zip(&c).take(sums) {
                self.set64(to, column, FULL);
            }
            return Ok(());
        }
        let [l0, l1, l2, l3, ..] = op.left;
        let a = [l0, l1, l2, l3].map(|loc| *self.v32(cx.program, loc));
        let b = op.right.map(|loc| *self.v32(cx.program, loc));
        let mut c = op.sum.map(|loc| *self.v32(cx.program, loc));
        let (a, b) = (&a[..lefts.min(4)], &b[..rights]);
        let mut two = [c[0], c[1]];
        match op.product {
            Product::Single(factor) => mma::mma_f32(cx.core, factor, a, b, &mut c),
            Product::Half => mma::mma_f16(cx.core, a, b, &mut two),
            Product::Eights(formats) => products::eights_f32(cx.core, formats, a, b, &mut c),
            Product::EightsHalf(formats) => products::eights_f16(cx.core, formats, a, b, &mut two),
            Product::Integers(dot, satfinite) => products::integers(dot, satfinite, a, b, &mut c[..sums]),
            Product::Doubles(_) => {}
        }
        if matches!(op.product, Product::Half | Product::EightsHalf(_)) {
            [c[0], c[1]] = two;
        }
        for (&to, column) in op.to.iter().zip(&c).take(sums) {
            self.set32(to, column, FULL);
        }
        Ok(())
    }
}
