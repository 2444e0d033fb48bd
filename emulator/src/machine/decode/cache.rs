//! Cache policies, prefetches, priorities, and `discard` (PTX ISA, "createpolicy", "prefetch",
//! "applypriority", "discard").
//!
//! Caches are not modelled: a policy changes nothing. Kernels may store its number, so it has the encoding that ptxas 13.5
//! computes for sm_80.

use super::body::Body;
use super::suffix::Suffixes;
use crate::machine::lanes::{LaneFn64, ShiftFn, WidenFn, lanes};
use crate::machine::program::{Loc, Op};
use crate::syntax::{Kind, Operand, Parsed, Type};

/// Priorities of the level-2 cache, in the order of their codes.
const PRIORITIES: [&str; 4] =
    ["L2::evict_unchanged", "L2::evict_first", "L2::evict_last", "L2::evict_normal"];
/// Bytes that `applypriority` and `discard` affect.
const LINE: i64 = 128;

/// The kind of a policy, in bits 56 and higher.
const FRACTIONAL: u64 = 0x10;
const RANGE: u64 = 0x18;

/// The code of a priority in a policy.
fn code(name: &str) -> Option<u64> {
    PRIORITIES.iter().position(|p| *p == name).map(|at| at as u64)
}

/// The code of a range: in units of 2^s bytes, s at least 12, the low bits of its start, and its length.
#[inline(always)]
fn range(base: u64, primary: u32, total: u32) -> u64 {
    let s = (32 - total.max(1).saturating_sub(1).leading_zeros()).saturating_sub(7).max(12);
    let start = base >> s;
    let end = base.wrapping_add(u64::from(primary)).wrapping_add((1 << s) - 1) >> s;
    let units = end.wrapping_sub(start).min(0x7f);
    (u64::from(s - 12) & 0xf) << 52 | (start & 0x7f) << 44 | units << 37
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    /// Decodes `createpolicy` in its three forms.
    pub(super) fn create_policy(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let Some(form) = s.take_any(&["fractional", "range", "cvt"]) else { return Err(s.unknown()) };
        if form == "cvt" {
            if !s.take("L2") || s.ty()? != Type::B64 {
                return Err(s.unknown());
            }
            let [to, from] = s.operands()?;
            let (from, to) = (self.value(from, Type::B64)?, self.to(to, Type::B64)?);
            self.emit(Op::Copy64(to, from));
            return Ok(());
        }
        if form == "range" {
            s.take("global");
        }
        let Some(primary) = s.take_parsed(code) else { return Err(s.unknown()) };
        // The second is evict_unchanged or evict_first.
        let secondary = s.take_parsed(|name| code(name).filter(|c| *c < 2)).unwrap_or(0);
        if s.ty()? != Type::B64 {
            return Err(s.unknown());
        }
        let kind = if form == "range" { RANGE } else { FRACTIONAL };
        let prefix = self.builder.constant64((kind | primary << 1 | secondary) << 56);
        if form == "fractional" {
            let f32 = Type { kind: Kind::Float, bits: 32, pair: false };
            let (to, fraction) = match s.all() {
                [to] => (to, self.builder.constant32(1f32.to_bits())),
                [to, fraction] => (to, self.value(fraction, f32)?),
                _ => return self.fail("createpolicy.fractional takes a register and a fraction"),
            };
            let to = self.to(to, Type::B64)?;
            let sixteenths: WidenFn = lanes!(|fraction, _, prefix| {
                prefix | ((f32::from_bits(fraction) * 15.99) as u64 & 0xf) << 52
            });
            self.emit(Op::Widen(sixteenths, to, [fraction, Loc::ZERO, prefix]));
            return Ok(());
        }
        let [to, address, primary, total] = s.operands()?;
        let base = self.global_line(address)?;
        let sizes = [self.value(primary, Type::B32)?, self.value(total, Type::B32)?];
        let (encoded, to) = (self.column(Type::B64)?, self.to(to, Type::B64)?);
        let f: ShiftFn = lanes!(|base, primary, total| range(base, primary, total));
        self.emit(Op::Shift(f, encoded, [base, sizes[0], sizes[1]]));
        let or: LaneFn64 = lanes!(|a, b, _| a | b);
        self.emit(Op::Lane64(or, to, [encoded, prefix, Loc::ZERO]));
        Ok(())
    }

    /// A global or generic address as a column.
    fn global_line(&mut self, operand: &Operand<'a>) -> Parsed<Loc> {
        let address = self.address(operand, None)?;
        if !address.may_be_global() {
            return self.fail("expected a global address");
        }
        let to = self.column(Type::B64)?;
        let offset = self.builder.constant64(address.offset as u64);
        let add: LaneFn64 = lanes!(|a, b, _| a.wrapping_add(b));
        self.emit(Op::Lane64(add, to, [address.base, offset, Loc::ZERO]));
        Ok(to)
    }

    /// `prefetch`, `prefetchu`: no effect that a kernel can observe, at any address.
    pub(super) fn prefetch(&mut self, uniform: bool, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let space = if uniform { None } else { s.take_any(&["global", "local"]) };
        let levels: &[&str] = match (uniform, space) {
            (true, _) => &["L1"],
            (_, Some("global")) => &["L1", "L2", "L2::evict_last", "L2::evict_normal"],
            _ => &["L1", "L2"],
        };
        if s.take_any(levels).is_none() {
            return Err(s.unknown());
        }
        let [address] = s.operands()?;
        self.address(address, space)?;
        self.emit(Op::Nop);
        Ok(())
    }

    /// `applypriority`, `discard`: of one line of global memory. Discarded bytes count as never written.
    pub(super) fn line(&mut self, discard: bool, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.take("global");
        if !s.take(if discard { "L2" } else { "L2::evict_normal" }) {
            return Err(s.unknown());
        }
        let [address, Operand::Integer(LINE)] = s.operands()? else {
            return self.fail(format!("expected an address and the size {LINE}"));
        };
        let address = self.address(address, None)?;
        if !address.may_be_global() {
            return self.fail("expected a global address");
        }
        self.emit(if discard { Op::Discard(Box::new(address)) } else { Op::Nop });
        Ok(())
    }
}
