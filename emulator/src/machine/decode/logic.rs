//! Logic, shifts, bit fields and counts (PTX ISA, "Logic and Shift Instructions" and the bit instructions of "Integer").

use super::body::{Body, LaneFn};
use super::integer::{both, of_width};
use super::suffix::Suffixes;
use crate::machine::lanes::{LaneFn32, NarrowFn, ShiftFn, compare, lanes};
use crate::machine::program::{Combine, Loc, Logic, Op, Pred, SetPredicate};
use crate::syntax::{Kind, Operand, Parsed, Type};

/// `bfe` (PTX ISA): `len` bits of `a` from `pos` on; beyond the top, and above the field, the sign where it is signed.
#[inline(always)]
fn extract(a: u64, pos: u32, len: u32, bits: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let sign = match (signed, len) {
        (false, _) | (_, 0) => 0,
        _ => a >> (pos + len - 1).min(bits - 1) & 1,
    };
    let mask = u64::MAX.checked_shr(64 - len.min(64)).unwrap_or(0);
    let inside = bits.saturating_sub(pos).min(len);
    let kept = u64::MAX.checked_shr(64 - inside).unwrap_or(0);
    let field = a.checked_shr(pos).unwrap_or(0) & mask & kept;
    let fill = if sign == 1 { !kept } else { 0 };
    field | fill
}

/// `bfi`: the low `len` bits of `a` put into `b` from `pos` on.
#[inline(always)]
pub(in crate::machine) fn insert(a: u64, b: u64, pos: u32, len: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let mask = u64::MAX.checked_shr(64 - len.min(64)).unwrap_or(0).checked_shl(pos).unwrap_or(0);
    b & !mask | a.checked_shl(pos).unwrap_or(0) & mask
}

/// `prmt`: bytes of `a` and `b` picked by `c`.
#[inline(always)]
fn permute(a: u32, b: u32, c: u32) -> u32 {
    let bytes = u64::from(a) | u64::from(b) << 32;
    let mut out = 0;
    for i in 0..4 {
        let pick = c >> (4 * i) & 0xf;
        let byte = (bytes >> (8 * (pick & 7))) as u32 & 0xff;
        let byte = if pick & 8 == 0 { byte } else { (byte >> 7) * 0xff };
        out |= byte << (8 * i);
    }
    out
}

/// The low `bits` (up to 32) bits.
#[inline(always)]
fn low_bits(a: u32, bits: u32) -> u32 {
    a & u32::MAX.checked_shr(32 - bits).unwrap_or(0)
}

/// The low `bits` bits, sign-extended.
#[inline(always)]
fn low_bits_signed(a: u32, bits: u32) -> u32 {
    let shift = 32 - bits;
    if bits == 0 { 0 } else { (((a << shift) as i32) >> shift) as u32 }
}

/// `fns` (PTX ISA): where in `mask` the `offset`-th set bit from `base` on is, upward or (negative) downward; with 0, `base`
/// itself if it is set. All ones if there is none.
#[inline(always)]
fn nth_set(mask: u32, base: u32, offset: u32) -> u32 {
    let base = base as i32;
    let (mut wanted, step) = match offset as i32 {
        0 => return if base & !31 == 0 && mask >> base & 1 == 1 { base as u32 } else { u32::MAX },
        n if n > 0 => (n, 1),
        n => (n.saturating_neg(), -1),
    };
    let mut at = base;
    while at & !31 == 0 {
        wanted -= (mask >> at & 1) as i32;
        if wanted == 0 {
            return at as u32;
        }
        at += step;
    }
    u32::MAX
}

/// The selector of `prmt`'s other modes, in terms of the default mode.
fn permute_mode(mode: &str) -> Option<[u32; 4]> {
    Some(match mode {
        "f4e" => [0x3210, 0x4321, 0x5432, 0x6543],
        "b4e" => [0x5670, 0x6701, 0x7012, 0x0123],
        "rc8" => [0x0000, 0x1111, 0x2222, 0x3333],
        "ecl" => [0x3210, 0x3211, 0x3222, 0x3333],
        "ecr" => [0x0000, 0x1110, 0x2210, 0x3210],
        "rc16" => [0x1010, 0x3232, 0x1010, 0x3232],
        _ => return None,
    })
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn logic(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        match name {
            "and" | "or" | "xor" | "not" | "cnot" => self.bitwise(name, s),
            "shl" | "shr" => self.shift(name, s),
            "shf" => self.funnel(s),
            "lop3" => self.lop3(s),
            "prmt" => self.prmt(s),
            "bfe" => self.bfe(s),
            "bfi" => self.bfi(s),
            "bfind" | "popc" | "clz" => self.count(name, s),
            "brev" => {
                let ty = s.ty()?;
                let f = match ty.bits {
                    32 => LaneFn::Bits32(lanes!(|a, _, _| a.reverse_bits())),
                    64 => LaneFn::Bits64(lanes!(|a, _, _| a.reverse_bits())),
                    _ => return Err(s.unknown()),
                };
                self.one(f, ty, s)
            }
            "bmsk" => {
                let clamp = s.take("clamp");
                if !clamp && !s.take("wrap") {
                    return Err(s.unknown());
                }
                s.ty()?;
                let f: LaneFn32 = if clamp {
                    lanes!(|a, b, _| insert(u64::MAX, 0, a.min(255), b.min(255)) as u32)
                } else {
                    lanes!(|a, b, _| insert(u64::MAX, 0, a & 31, b & 31) as u32)
                };
                let [to, a, b] = s.operands()?;
                let from = [self.value(a, Type::B32)?, self.value(b, Type::B32)?, Loc::ZERO];
                let to = self.to(to, Type::B32)?;
                self.emit(Op::Lane32(f, to, from));
                Ok(())
            }
            "szext" => self.extend_from(s),
            "fns" => {
                s.ty()?;
                self.three(LaneFn::Bits32(lanes!(|a, b, c| nth_set(a, b, c))), [Type::B32; 4], s)
            }
            _ => Err(s.unknown()),
        }
    }

    /// `szext`: the low `b` bits of `a`, extended by their sign or by zeros.
    fn extend_from(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let clamp = s.take("clamp");
        if !clamp && !s.take("wrap") {
            return Err(s.unknown());
        }
        let ty = s.ty()?;
        let f: LaneFn32 = match (clamp, ty.signed()) {
            (true, true) => lanes!(|a, b, _| low_bits_signed(a, b.min(32))),
            (true, false) => lanes!(|a, b, _| low_bits(a, b.min(32))),
            (false, true) => lanes!(|a, b, _| low_bits_signed(a, b & 31)),
            (false, false) => lanes!(|a, b, _| low_bits(a, b & 31)),
        };
        if !matches!(ty.kind, Kind::Signed | Kind::Unsigned) || ty.bits != 32 {
            return Err(s.unknown());
        }
        let [to, a, b] = s.operands()?;
        let from = [self.value(a, ty)?, self.value(b, Type::B32)?, Loc::ZERO];
        let to = self.to(to, ty)?;
        self.emit(Op::Lane32(f, to, from));
        Ok(())
    }

    /// A lane function of one operand.
    fn one(&mut self, f: LaneFn, ty: Type, s: &Suffixes<'m, 'a>) -> Parsed<()> {
        let [to, a] = s.operands()?;
        let from = [self.value(a, ty)?, Loc::ZERO, Loc::ZERO];
        let to = self.to(to, ty)?;
        self.emit_lanes(f, to, from);
        Ok(())
    }

    fn bitwise(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let ty = s.ty()?;
        if ty.kind == Kind::Predicate {
            return self.predicate_logic(name, s);
        }
        if ty.kind != Kind::Bits || ty.bits == 8 {
            return Err(s.unknown());
        }
        let f = match name {
            "and" => both!(|a, b, _| a & b),
            "or" => both!(|a, b, _| a | b),
            "xor" => both!(|a, b, _| a ^ b),
            "not" if ty.bits == 16 => both!(|a, _, _| !a & 0xffff),
            "not" => both!(|a, _, _| !a),
            _ => both!(|a, _, _| if a == 0 { 1 } else { 0 }),
        };
        let f = of_width(ty.bits, f);
        if matches!(name, "not" | "cnot") {
            return self.one(f, ty, s);
        }
        let [to, a, b] = s.operands()?;
        let from = [self.value(a, ty)?, self.value(b, ty)?, Loc::ZERO];
        let to = self.to(to, ty)?;
        self.emit_lanes(f, to, from);
        Ok(())
    }

    fn predicate_logic(&mut self, name: &str, s: &Suffixes<'m, 'a>) -> Parsed<()> {
        if name == "not" {
            let [to, a] = s.operands()?;
            let (to, a) = (self.predicate_to(to)?, self.predicate(a)?);
            self.emit(Op::Predicate(Logic::Not, to, [a, Pred::NONE]));
            return Ok(());
        }
        let logic = match name {
            "and" => Logic::And,
            "or" => Logic::Or,
            "xor" => Logic::Xor,
            _ => return Err(s.unknown()),
        };
        let [to, a, b] = s.operands()?;
        let from = [self.predicate(a)?, self.predicate(b)?];
        let to = self.predicate_to(to)?;
        self.emit(Op::Predicate(logic, to, from));
        Ok(())
    }

    /// Shifts by more than the width give 0, or the sign.
    fn shift(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let ty = s.ty()?;
        let narrow: LaneFn32 = match (name, ty.signed(), ty.bits) {
            ("shl", _, 16) => lanes!(|a, b, _| if b > 15 { 0 } else { a << b & 0xffff }),
            ("shl", _, _) => lanes!(|a, b, _| if b > 31 { 0 } else { a << b }),
            (_, true, 16) => lanes!(|a, b, _| u32::from((a as i16 >> b.min(15)) as u16)),
            (_, true, _) => lanes!(|a, b, _| (a as i32 >> b.min(31)) as u32),
            (_, false, _) => lanes!(|a, b, _| if b > 31 { 0 } else { a >> b }),
        };
        let wide: ShiftFn = match (name, ty.signed()) {
            ("shl", _) => lanes!(|a, b, _| if b > 63 { 0 } else { a << b }),
            (_, true) => lanes!(|a, b, _| (a as i64 >> b.min(63)) as u64),
            (_, false) => lanes!(|a, b, _| if b > 63 { 0 } else { a >> b }),
        };
        if !ty.integer() || ty.pair || ty.bits == 8 {
            return Err(s.unknown());
        }
        let [to, a, b] = s.operands()?;
        let from = [self.value(a, ty)?, self.value(b, Type::B32)?, Loc::ZERO];
        let to = self.to(to, ty)?;
        self.emit(if ty.bits == 64 { Op::Shift(wide, to, from) } else { Op::Lane32(narrow, to, from) });
        Ok(())
    }

    fn funnel(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let left = s.take("l");
        if !left && !s.take("r") {
            return Err(s.unknown());
        }
        let clamp = s.take("clamp");
        if !clamp && !s.take("wrap") {
            return Err(s.unknown());
        }
        let ty = s.ty()?;
        if ty.bits != 32 {
            return Err(s.unknown());
        }
        let f: LaneFn32 = match (left, clamp) {
            (true, true) => lanes!(|a, b, c| ((u64::from(a) | u64::from(b) << 32) << c.min(32) >> 32) as u32),
            (true, false) => lanes!(|a, b, c| ((u64::from(a) | u64::from(b) << 32) << (c & 31) >> 32) as u32),
            (false, true) => lanes!(|a, b, c| ((u64::from(a) | u64::from(b) << 32) >> c.min(32)) as u32),
            (false, false) => lanes!(|a, b, c| ((u64::from(a) | u64::from(b) << 32) >> (c & 31)) as u32),
        };
        self.three(LaneFn::Bits32(f), [Type::B32; 4], s)
    }

    /// Any function of three bits; the common ones have a lane function of their own.
    fn lop3(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let bool_op = s.take_any(&["and", "or"]);
        let ty = s.ty()?;
        if ty.bits != 32 {
            return Err(s.unknown());
        }
        let logic = match bool_op {
            Some("and") => Some(Logic::And),
            Some("or") => Some(Logic::Or),
            _ => None,
        };
        // With .and or .or there is a predicate as well: whether the result is not 0, combined with one more operand.
        let (operands, with): (&[Operand<'a>; 5], _) = match (logic, s.all()) {
            (Some(_), [head @ .., with]) => match head.try_into() {
                Ok(operands) => (operands, Some(self.predicate(with)?)),
                Err(_) => return self.fail(format!("lop3 takes 6 operands here, not {}", s.count())),
            },
            _ => (s.operands()?, None),
        };
        let [to, a, b, c, table] = operands;
        let (to, p) = match (logic, to) {
            (Some(_), Operand::Both(to, p)) => (Operand::Name(to), self.predicate_to(&Operand::Name(p))?),
            (Some(_), _) => return self.fail("expected a register and a predicate"),
            (None, to) => (to.clone(), Pred::NONE),
        };
        let Operand::Integer(table @ 0..=255) = *table else {
            return self.fail("lop3's table is a number below 256");
        };
        let from = [self.value(a, ty)?, self.value(b, ty)?, self.value(c, ty)?];
        let to = self.to(&to, ty)?;
        self.any_of_three(table, to, from, ty)?;
        if let (Some(logic), Some(with)) = (logic, with) {
            let some = self.scratch_predicate()?;
            let outcome =
                SetPredicate { first: some, second: Pred::NONE, combine: Combine::None, with: Pred::NONE };
            self.emit(Op::Compare32(compare!(|a, b| a != b), [to, Loc::ZERO], outcome));
            self.emit(Op::Predicate(logic, p, [some, with]));
        }
        Ok(())
    }

    /// The function of three bits given by a table of 8 bits.
    fn any_of_three(&mut self, table: i64, to: Loc, from: [Loc; 3], ty: Type) -> Parsed<()> {
        // The sum of the products whose bit in the table is set, one product at a time.
        let products: [LaneFn32; 8] = [
            lanes!(|a, b, c| !a & !b & !c),
            lanes!(|a, b, c| !a & !b & c),
            lanes!(|a, b, c| !a & b & !c),
            lanes!(|a, b, c| !a & b & c),
            lanes!(|a, b, c| a & !b & !c),
            lanes!(|a, b, c| a & !b & c),
            lanes!(|a, b, c| a & b & !c),
            lanes!(|a, b, c| a & b & c),
        ];
        let common: Option<LaneFn32> = match table {
            0x00 => Some(lanes!(|_, _, _| 0)),
            0x80 => Some(lanes!(|a, b, c| a & b & c)),
            0xfe => Some(lanes!(|a, b, c| a | b | c)),
            0x96 => Some(lanes!(|a, b, c| a ^ b ^ c)),
            0xc0 => Some(lanes!(|a, b, _| a & b)),
            0xfc => Some(lanes!(|a, b, _| a | b)),
            0x3c => Some(lanes!(|a, b, _| a ^ b)),
            0xea => Some(lanes!(|a, b, c| a & b | c)),
            0xf8 => Some(lanes!(|a, b, c| a | b & c)),
            0xa8 => Some(lanes!(|a, b, c| (a | b) & c)),
            0xe8 => Some(lanes!(|a, b, c| a & b | a & c | b & c)),
            0xca => Some(lanes!(|a, b, c| a & b | !a & c)),
            0xd8 => Some(lanes!(|a, b, c| c & b | !c & a)),
            0x6a => Some(lanes!(|a, b, c| a & b ^ c)),
            0x78 => Some(lanes!(|a, b, c| a ^ b & c)),
            0x1e => Some(lanes!(|a, b, c| a ^ (b | c))),
            _ => None,
        };
        if let Some(f) = common {
            self.emit(Op::Lane32(f, to, from));
            return Ok(());
        }
        let or: LaneFn32 = lanes!(|a, b, _| a | b);
        let mut sum = Loc::ZERO;
        for (bit, product) in products.into_iter().enumerate().filter(|(bit, _)| table >> bit & 1 == 1) {
            let term = self.column(ty)?;
            self.emit(Op::Lane32(product, term, from));
            let last = table >> bit == 1;
            let next = if last { to } else { self.column(ty)? };
            self.emit(Op::Lane32(or, next, [sum, term, Loc::ZERO]));
            sum = next;
        }
        Ok(())
    }

    fn prmt(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let mode = s.take_parsed(permute_mode);
        s.ty()?;
        let f: LaneFn32 = lanes!(|a, b, c| permute(a, b, c));
        let Some(picks) = mode else { return self.three(LaneFn::Bits32(f), [Type::B32; 4], s) };
        let [to, a, b, c] = s.operands()?;
        let from = [self.value(a, Type::B32)?, self.value(b, Type::B32)?];
        let mode = self.value(c, Type::B32)?;
        let [p0, p1, p2, p3] = picks.map(|p| self.builder.constant32(p));
        // The pick is a constant of the mode's two bits.
        let (low, high) = (self.scratch()?, self.scratch()?);
        let pick: LaneFn32 = lanes!(|m, even, odd| if m & 1 == 0 { even } else { odd });
        self.emit(Op::Lane32(pick, low, [mode, p0, p1]));
        self.emit(Op::Lane32(pick, high, [mode, p2, p3]));
        let picked = self.scratch()?;
        self.emit(Op::Lane32(
            lanes!(|m, low, high| if m & 2 == 0 { low } else { high }),
            picked,
            [mode, low, high],
        ));
        let to = self.to(to, Type::B32)?;
        self.emit(Op::Lane32(f, to, [from[0], from[1], picked]));
        Ok(())
    }

    fn bfe(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let ty = s.ty()?;
        let [to, a, b, c] = s.operands()?;
        let from = [self.value(a, ty)?, self.value(b, Type::B32)?, self.value(c, Type::B32)?];
        let to = self.to(to, ty)?;
        self.emit(match (ty.signed(), ty.bits) {
            (false, 32) => {
                Op::Lane32(lanes!(|a, b, c| extract(u64::from(a), b, c, 32, false) as u32), to, from)
            }
            (true, 32) => {
                Op::Lane32(lanes!(|a, b, c| extract(u64::from(a), b, c, 32, true) as u32), to, from)
            }
            (false, 64) => Op::Shift(lanes!(|a, b, c| extract(a, b, c, 64, false)), to, from),
            (true, 64) => Op::Shift(lanes!(|a, b, c| extract(a, b, c, 64, true)), to, from),
            _ => return Err(s.unknown()),
        });
        Ok(())
    }

    fn bfi(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let ty = s.ty()?;
        let [to, a, b, pos, len] = s.operands()?;
        let values = [self.value(a, ty)?, self.value(b, ty)?];
        let field = [self.value(pos, Type::B32)?, self.value(len, Type::B32)?];
        let to = self.to(to, ty)?;
        match ty.bits {
            // The mask first, then both sides of it.
            32 => {
                let (mask, moved) = (self.scratch()?, self.scratch()?);
                let field3 = [field[0], field[1], Loc::ZERO];
                self.emit(Op::Lane32(
                    lanes!(|pos, len, _| insert(u64::MAX, 0, pos, len) as u32),
                    mask,
                    field3,
                ));
                let shift: LaneFn32 =
                    lanes!(|a, pos, _| u64::from(a).checked_shl(pos & 0xff).unwrap_or(0) as u32);
                self.emit(Op::Lane32(shift, moved, [values[0], field[0], Loc::ZERO]));
                let merge: LaneFn32 = lanes!(|moved, b, mask| moved & mask | b & !mask);
                self.emit(Op::Lane32(merge, to, [moved, values[1], mask]));
            }
            64 => {
                let mask = self.column(Type::B64)?;
                let moved = self.column(Type::B64)?;
                let ones = self.builder.constant64(u64::MAX);
                let masked: ShiftFn = lanes!(|ones, pos, len| insert(ones, 0, pos, len));
                self.emit(Op::Shift(masked, mask, [ones, field[0], field[1]]));
                let shift: ShiftFn = lanes!(|a, pos, _| a.checked_shl(pos & 0xff).unwrap_or(0));
                self.emit(Op::Shift(shift, moved, [values[0], field[0], Loc::ZERO]));
                self.emit(Op::Lane64(
                    lanes!(|moved, b, mask| moved & mask | b & !mask),
                    to,
                    [moved, values[1], mask],
                ));
            }
            _ => return Err(s.unknown()),
        }
        Ok(())
    }

    /// `popc`, `clz`, `bfind`: the result has 32 bits for any operand width.
    fn count(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let distance = s.take("shiftamt");
        let ty = s.ty()?;
        let [to, a] = s.operands()?;
        let from = [self.value(a, ty)?, Loc::ZERO, Loc::ZERO];
        let to = self.to(to, Type::B32)?;
        let narrow: LaneFn32 = match (name, ty.signed(), distance) {
            ("popc", _, false) => lanes!(|a, _, _| a.count_ones()),
            ("clz", _, false) => lanes!(|a, _, _| a.leading_zeros()),
            ("bfind", false, false) => lanes!(|a, _, _| 31u32.wrapping_sub(a.leading_zeros())),
            ("bfind", false, true) => lanes!(|a, _, _| if a == 0 { u32::MAX } else { a.leading_zeros() }),
            ("bfind", true, false) => {
                lanes!(|a, _, _| 31u32.wrapping_sub((a ^ (a as i32 >> 31) as u32).leading_zeros()))
            }
            ("bfind", true, true) => lanes!(|a, _, _| {
                let a = a ^ (a as i32 >> 31) as u32;
                if a == 0 { u32::MAX } else { a.leading_zeros() }
            }),
            _ => return Err(s.unknown()),
        };
        let wide: NarrowFn = match (name, ty.signed(), distance) {
            ("popc", ..) => lanes!(|a, _, _| a.count_ones()),
            ("clz", ..) => lanes!(|a, _, _| a.leading_zeros()),
            (_, false, false) => lanes!(|a, _, _| 63u32.wrapping_sub(a.leading_zeros())),
            (_, false, true) => lanes!(|a, _, _| if a == 0 { u32::MAX } else { a.leading_zeros() }),
            (_, true, false) => {
                lanes!(|a, _, _| 63u32.wrapping_sub((a ^ (a as i64 >> 63) as u64).leading_zeros()))
            }
            (_, true, true) => lanes!(|a, _, _| {
                let a = a ^ (a as i64 >> 63) as u64;
                if a == 0 { u32::MAX } else { a.leading_zeros() }
            }),
        };
        match ty.bits {
            32 => self.emit(Op::Lane32(narrow, to, from)),
            64 => self.emit(Op::Narrow(wide, to, from)),
            _ => return Err(s.unknown()),
        }
        Ok(())
    }
}
