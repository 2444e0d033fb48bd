//! Integer arithmetic (PTX ISA, "Integer Arithmetic Instructions" and "Extended-Precision").

use super::body::{Body, LaneFn};
use super::compare::by_integer;
use super::suffix::Suffixes;
use crate::machine::lanes::{LaneFn32, LaneFn64, WidenFn, lanes};
use crate::machine::program::{Carry, Loc, Op};
use crate::syntax::{Kind, Parsed, Type};

/// A quotient; all ones for a division by zero, as on the hardware.
macro_rules! divide {
    ($ty:ty, $a:expr, $b:expr) => {{
        let (a, b) = ($a as $ty, $b as $ty);
        if b == 0 { !0 } else { a.wrapping_div(b) }
    }};
}
/// The remainder of a division by zero: the dividend.
macro_rules! remain {
    ($ty:ty, $a:expr, $b:expr) => {{
        let (a, b) = ($a as $ty, $b as $ty);
        if b == 0 { a } else { a.wrapping_rem(b) }
    }};
}

/// Lane functions for an integer type, from an expression that also gets the type.
macro_rules! typed {
    ($ty:expr, $what:ident) => {
        match ($ty.signed(), $ty.bits) {
            (true, 16) => Some(LaneFn::Bits32(lanes!(|a, b, _| u32::from($what!(i16, a, b) as u16)))),
            (false, 16) => Some(LaneFn::Bits32(lanes!(|a, b, _| u32::from($what!(u16, a, b))))),
            (true, 32) => Some(LaneFn::Bits32(lanes!(|a, b, _| $what!(i32, a, b) as u32))),
            (false, 32) => Some(LaneFn::Bits32(lanes!(|a, b, _| $what!(u32, a, b)))),
            (true, 64) => Some(LaneFn::Bits64(lanes!(|a, b, _| $what!(i64, a, b) as u64))),
            (false, 64) => Some(LaneFn::Bits64(lanes!(|a, b, _| $what!(u64, a, b)))),
            _ => None,
        }
    };
}

/// One operation on the halves of pairs.
macro_rules! halves {
    ($ty:ty, |$a:ident, $b:ident| $body:expr) => {
        Some(LaneFn::Bits32(lanes!(|a, b, _| {
            let half = |$a: $ty, $b: $ty| u32::from($body as u16);
            half(a as $ty, b as $ty) | half((a >> 16) as $ty, (b >> 16) as $ty) << 16
        })))
    };
}

/// The high half of a product.
fn high(ty: Type) -> Option<LaneFn> {
    Some(match (ty.signed(), ty.bits) {
        (true, 16) => LaneFn::Bits32(lanes!(|a, b, c| {
            let high = (i32::from(a as i16) * i32::from(b as i16)) >> 16;
            (high as u32).wrapping_add(c) & 0xffff
        })),
        (false, 16) => {
            LaneFn::Bits32(lanes!(|a, b, c| (((a & 0xffff) * (b & 0xffff)) >> 16).wrapping_add(c) & 0xffff))
        }
        (true, 32) => LaneFn::Bits32(lanes!(|a, b, c| {
            (((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32).wrapping_add(c)
        })),
        (false, 32) => {
            LaneFn::Bits32(lanes!(|a, b, c| (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)))
        }
        (true, 64) => LaneFn::Bits64(lanes!(|a, b, c| {
            (((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64).wrapping_add(c)
        })),
        (false, 64) => {
            LaneFn::Bits64(lanes!(|a, b, c| (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)))
        }
        _ => return None,
    })
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    /// `add`, `sub`, `mul`, … of integers; the type suffix `ty` is parsed already.
    pub(super) fn integer_arithmetic(
        &mut self,
        name: &str,
        ty: Type,
        s: &mut Suffixes<'m, 'a>,
    ) -> Parsed<()> {
        if s.take("cc") {
            let carry =
                Carry { wide: ty.bits == 64, subtract: name == "sub", reads_flag: false, writes_flag: true };
            return match name {
                "add" | "sub" => self.emit_carry(carry, ty, s),
                "mad" => self.mad_carry(ty, s, false, true),
                _ => Err(s.unknown()),
            };
        }
        if matches!(name, "mul" | "mad") {
            return self.product(name, ty, s);
        }
        let (saturate, relu) = (s.take("sat"), s.take("relu"));
        let f = if relu {
            match (name, ty.kind, ty.bits, ty.pair) {
                ("min", Kind::Signed, 32, false) => {
                    Some(LaneFn::Bits32(lanes!(|a, b, _| (a as i32).min(b as i32).max(0) as u32)))
                }
                ("max", Kind::Signed, 32, false) => {
                    Some(LaneFn::Bits32(lanes!(|a, b, _| (a as i32).max(b as i32).max(0) as u32)))
                }
                ("min", Kind::Signed, 16, true) => halves!(i16, |a, b| a.min(b).max(0)),
                ("max", Kind::Signed, 16, true) => halves!(i16, |a, b| a.max(b).max(0)),
                _ => None,
            }
        } else if saturate {
            match (name, ty.kind, ty.bits, ty.pair) {
                ("add", Kind::Signed, 32, false) => {
                    Some(LaneFn::Bits32(lanes!(|a, b, _| (a as i32).saturating_add(b as i32) as u32)))
                }
                ("sub", Kind::Signed, 32, false) => {
                    Some(LaneFn::Bits32(lanes!(|a, b, _| (a as i32).saturating_sub(b as i32) as u32)))
                }
                _ => None,
            }
        } else if ty.pair {
            match (name, ty.signed()) {
                ("add", _) => halves!(u16, |a, b| a.wrapping_add(b)),
                ("sub", _) => halves!(u16, |a, b| a.wrapping_sub(b)),
                ("min", false) => halves!(u16, |a, b| a.min(b)),
                ("max", false) => halves!(u16, |a, b| a.max(b)),
                ("min", true) => halves!(i16, |a, b| a.min(b)),
                ("max", true) => halves!(i16, |a, b| a.max(b)),
                ("neg", true) => halves!(i16, |a, _b| a.wrapping_neg()),
                _ => None,
            }
        } else {
            match name {
                "add" => by_integer!(ty, |a, b, _c| a.wrapping_add(b)),
                "sub" => by_integer!(ty, |a, b, _c| a.wrapping_sub(b)),
                "min" => by_integer!(ty, |a, b, _c| a.min(b)),
                "max" => by_integer!(ty, |a, b, _c| a.max(b)),
                "div" => typed!(ty, divide),
                "rem" => typed!(ty, remain),
                "neg" if ty.signed() => by_integer!(ty, |a, _b, _c| a.wrapping_neg()),
                "abs" if ty.signed() => match ty.bits {
                    16 => Some(LaneFn::Bits32(lanes!(|a, _, _| u32::from((a as i16).unsigned_abs())))),
                    32 => Some(LaneFn::Bits32(lanes!(|a, _, _| (a as i32).unsigned_abs()))),
                    64 => Some(LaneFn::Bits64(lanes!(|a, _, _| (a as i64).unsigned_abs()))),
                    _ => None,
                },
                _ => None,
            }
        };
        let Some(f) = f else { return Err(s.unknown()) };
        if matches!(name, "neg" | "abs") {
            let [to, a] = s.operands()?;
            let from = [self.value(a, ty)?, Loc::ZERO, Loc::ZERO];
            let to = self.to(to, ty)?;
            self.emit_lanes(f, to, from);
            return Ok(());
        }
        let [to, a, b] = s.operands()?;
        let from = [self.value(a, ty)?, self.value(b, ty)?, Loc::ZERO];
        let to = self.to(to, ty)?;
        self.emit_lanes(f, to, from);
        Ok(())
    }

    /// `mul` and `mad` with `.lo`, `.hi` or `.wide`.
    fn product(&mut self, name: &str, ty: Type, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let Some(part) = s.take_any(&["lo", "hi", "wide"]) else { return Err(s.unknown()) };
        let saturate = s.take("sat");
        if ty.kind == Kind::Bits || ty.pair {
            return Err(s.unknown());
        }
        let double = Type { bits: ty.bits * 2, ..ty };
        let (result, f) = match part {
            "lo" => (ty, by_integer!(ty, |a, b, c| a.wrapping_mul(b).wrapping_add(c))),
            "hi" if saturate && (name, ty.kind, ty.bits) == ("mad", Kind::Signed, 32) => {
                let f: LaneFn32 = lanes!(|a, b, c| {
                    let high = ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as i32;
                    high.saturating_add(c as i32) as u32
                });
                (ty, Some(LaneFn::Bits32(f)))
            }
            "hi" => (ty, high(ty)),
            _ if ty.bits == 16 => {
                let f: LaneFn32 = if ty.signed() {
                    lanes!(|a, b, c| ((i32::from(a as i16) * i32::from(b as i16)) as u32).wrapping_add(c))
                } else {
                    lanes!(|a, b, c| ((a & 0xffff) * (b & 0xffff)).wrapping_add(c))
                };
                (double, Some(LaneFn::Bits32(f)))
            }
            _ if ty.bits == 32 => (double, None),
            _ => return Err(s.unknown()),
        };
        if saturate && part != "hi" {
            return Err(s.unknown());
        }
        let (to, a, b, c) = if name == "mul" {
            let [to, a, b] = s.operands()?;
            (to, self.value(a, ty)?, self.value(b, ty)?, Loc::ZERO)
        } else {
            let [to, a, b, c] = s.operands()?;
            (to, self.value(a, ty)?, self.value(b, ty)?, self.value(c, result)?)
        };
        let to = self.to(to, result)?;
        match f {
            Some(f) => self.emit_lanes(f, to, [a, b, c]),
            None => {
                let f: WidenFn = if ty.signed() {
                    lanes!(|a, b, c| ((i64::from(a as i32) * i64::from(b as i32)) as u64).wrapping_add(c))
                } else {
                    lanes!(|a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c))
                };
                self.emit(Op::Widen(f, to, [a, b, c]));
            }
        }
        Ok(())
    }

    /// `rem`, `sad`, `mul24`, `mad24`, `dp4a`, `dp2a`.
    pub(super) fn integer(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        match name {
            "rem" => {
                let ty = s.ty()?;
                self.integer_arithmetic(name, ty, s)
            }
            "sad" => {
                let ty = s.ty()?;
                let f = by_integer!(ty, |a, b, c| a.max(b).wrapping_sub(a.min(b)).wrapping_add(c));
                let Some(f) = f else { return Err(s.unknown()) };
                self.three(f, [ty; 4], s)
            }
            "dp4a" | "dp2a" => self.dot(name, s),
            _ => {
                let high = s.take("hi");
                if !high && !s.take("lo") {
                    return Err(s.unknown());
                }
                let saturate = s.take("sat");
                let ty = s.ty()?;
                if ty.bits != 32 || ty.kind == Kind::Bits || ty.kind == Kind::Float {
                    return Err(s.unknown());
                }
                if saturate && (name, high, ty.signed()) != ("mad24", true, true) {
                    return Err(s.unknown());
                }
                let f: LaneFn32 = match (ty.signed(), high) {
                    (true, true) if saturate => lanes!(|a, b, c| {
                        let product = i64::from((a << 8) as i32 >> 8) * i64::from((b << 8) as i32 >> 8);
                        ((product >> 16) as i32).saturating_add(c as i32) as u32
                    }),
                    (true, false) => lanes!(|a, b, c| ((a << 8) as i32 >> 8)
                        .wrapping_mul((b << 8) as i32 >> 8)
                        .wrapping_add(c as i32) as u32),
                    (false, false) => {
                        lanes!(|a, b, c| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff).wrapping_add(c))
                    }
                    (true, true) => lanes!(|a, b, c| {
                        let product = i64::from((a << 8) as i32 >> 8) * i64::from((b << 8) as i32 >> 8);
                        ((product >> 16) as u32).wrapping_add(c)
                    }),
                    (false, true) => lanes!(|a, b, c| {
                        (((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> 16) as u32).wrapping_add(c)
                    }),
                };
                if name == "mul24" {
                    let [to, a, b] = s.operands()?;
                    let from = [self.value(a, ty)?, self.value(b, ty)?, Loc::ZERO];
                    let to = self.to(to, ty)?;
                    self.emit(Op::Lane32(f, to, from));
                    return Ok(());
                }
                self.three(LaneFn::Bits32(f), [ty; 4], s)
            }
        }
    }

    /// A lane function of three operands; the types are those of the result and the operands.
    pub(super) fn three(&mut self, f: LaneFn, types: [Type; 4], s: &Suffixes<'m, 'a>) -> Parsed<()> {
        let [to, a, b, c] = s.operands()?;
        let from = [self.value(a, types[1])?, self.value(b, types[2])?, self.value(c, types[3])?];
        let to = self.to(to, types[0])?;
        self.emit_lanes(f, to, from);
        Ok(())
    }

    /// Dot products of bytes.
    fn dot(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        macro_rules! dot4 {
            ($a:ty, $b:ty) => {
                lanes!(|a, b, c| {
                    let mut sum = c as i32;
                    for i in 0..4 {
                        let product = i32::from((a >> (8 * i)) as $a) * i32::from((b >> (8 * i)) as $b);
                        sum = sum.wrapping_add(product);
                    }
                    sum as u32
                })
            };
        }
        macro_rules! dot2 {
            ($a:ty, $b:ty, $at:literal) => {
                lanes!(|a, b, c| {
                    let mut sum = c as i32;
                    for i in 0..2 {
                        let product =
                            i32::from((a >> (16 * i)) as $a) * i32::from((b >> ($at + 8 * i)) as $b);
                        sum = sum.wrapping_add(product);
                    }
                    sum as u32
                })
            };
        }
        let high = name == "dp2a" && s.take("hi");
        if name == "dp2a" && !high && !s.take("lo") {
            return Err(s.unknown());
        }
        let (a, b) = (s.ty()?, s.ty()?);
        if a.bits != 32 || b.bits != 32 {
            return Err(s.unknown());
        }
        let f: LaneFn32 = match (name, a.signed(), b.signed(), high) {
            ("dp4a", true, true, _) => dot4!(i8, i8),
            ("dp4a", true, false, _) => dot4!(i8, u8),
            ("dp4a", false, true, _) => dot4!(u8, i8),
            ("dp4a", false, false, _) => dot4!(u8, u8),
            (_, true, true, false) => dot2!(i16, i8, 0),
            (_, true, false, false) => dot2!(i16, u8, 0),
            (_, false, true, false) => dot2!(u16, i8, 0),
            (_, false, false, false) => dot2!(u16, u8, 0),
            (_, true, true, true) => dot2!(i16, i8, 16),
            (_, true, false, true) => dot2!(i16, u8, 16),
            (_, false, true, true) => dot2!(u16, i8, 16),
            (_, false, false, true) => dot2!(u16, u8, 16),
        };
        self.three(LaneFn::Bits32(f), [Type::B32; 4], s)
    }

    fn emit_carry(&mut self, carry: Carry, ty: Type, s: &Suffixes<'m, 'a>) -> Parsed<()> {
        let [to, a, b] = s.operands()?;
        if ty.bits < 32 || ty.pair {
            return Err(s.unknown());
        }
        let from = [self.value(a, ty)?, self.value(b, ty)?];
        let to = self.to(to, ty)?;
        self.emit(Op::Carry(carry, to, from));
        Ok(())
    }

    /// Arithmetic with carry: `addc`, `subc`, `madc`.
    pub(super) fn carry(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let writes_flag = s.take("cc");
        let ty = s.ty()?;
        if name == "madc" {
            return self.mad_carry(ty, s, true, writes_flag);
        }
        let carry = Carry { wide: ty.bits == 64, subtract: name == "subc", reads_flag: true, writes_flag };
        self.emit_carry(carry, ty, s)
    }

    /// A product, then an addition with the carry flag.
    fn mad_carry(
        &mut self,
        ty: Type,
        s: &mut Suffixes<'m, 'a>,
        reads_flag: bool,
        writes_flag: bool,
    ) -> Parsed<()> {
        let part = s.take_any(&["lo", "hi"]);
        let f = match part {
            Some("lo") => by_integer!(ty, |a, b, _c| a.wrapping_mul(b)),
            Some(_) => high(ty),
            None => None,
        };
        let Some(f) = f.filter(|_| ty.bits >= 32 && !ty.pair) else { return Err(s.unknown()) };
        let [to, a, b, c] = s.operands()?;
        let product = self.column(ty)?;
        let from = [self.value(a, ty)?, self.value(b, ty)?, Loc::ZERO];
        self.emit_lanes(f, product, from);
        let c = self.value(c, ty)?;
        let to = self.to(to, ty)?;
        self.emit(Op::Carry(
            Carry { wide: ty.bits == 64, subtract: false, reads_flag, writes_flag },
            to,
            [product, c],
        ));
        Ok(())
    }
}

/// Lane functions of 32 and of 64 bits from the same expression.
macro_rules! both {
    (|$a:pat_param, $b:pat_param, $c:pat_param| $body:expr) => {{
        let narrow: $crate::machine::lanes::LaneFn32 = lanes!(|$a, $b, $c| $body);
        let wide: $crate::machine::lanes::LaneFn64 = lanes!(|$a, $b, $c| $body);
        (narrow, wide)
    }};
}
pub(super) use both;

/// The function for a width of up to 32 or of 64 bits.
pub(super) fn of_width(bits: u32, (narrow, wide): (LaneFn32, LaneFn64)) -> LaneFn {
    if bits == 64 { LaneFn::Bits64(wide) } else { LaneFn::Bits32(narrow) }
}
