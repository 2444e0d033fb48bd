//! `mma`: its types and shapes, and their number of registers (PTX ISA, "mma").

use super::body::Body;
use super::suffix::Suffixes;
use crate::machine::program::{Loc, Matrix, Multiply, Op, Product};
use crate::numerics::Rounding;
use crate::numerics::half::Half;
use crate::numerics::mma::Factor;
use crate::numerics::products::Dot;
use crate::numerics::small::Eight;
use crate::syntax::{Kind, Operand, Parsed, Type};

/// Element type of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    Bf16,
    Tf32,
    F32,
    F64,
    E4m3,
    E5m2,
    S8,
    U8,
    S4,
    U4,
    B1,
    S32,
}

impl Element {
    /// The element that a suffix names.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "e4m3" => Self::E4m3,
            "e5m2" => Self::E5m2,
            "s8" => Self::S8,
            "u8" => Self::U8,
            "s4" => Self::S4,
            "u4" => Self::U4,
            "b1" => Self::B1,
            "s32" => Self::S32,
            _ => return None,
        })
    }

    pub fn bits(self) -> u32 {
        match self {
            Self::F64 => 64,
            Self::Tf32 | Self::F32 | Self::S32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::E4m3 | Self::E5m2 | Self::S8 | Self::U8 => 8,
            Self::S4 | Self::U4 => 4,
            Self::B1 => 1,
        }
    }

    /// Elements per register; f64 has registers of 64 bits.
    pub fn per(self) -> usize {
        (32 / self.bits()).max(1) as usize
    }

    fn eight(self) -> Option<Eight> {
        match self {
            Self::E4m3 => Some(Eight::E4m3),
            Self::E5m2 => Some(Eight::E5m2),
            _ => None,
        }
    }
}

/// Rows, columns and products of a shape: `m16n8k16`.
pub(super) fn shape(name: &str) -> Option<[usize; 3]> {
    let (m, rest) = name.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
}

/// Suffixes other than types.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    /// Whether `.satfinite` is given.
    pub satfinite: bool,
    /// `.xor.popc` (true) or `.and.popc`.
    pub xor: Option<bool>,
    /// Rounding mode of f64.
    pub rounding: Option<Rounding>,
}

/// The product of A's and B's elements in an accumulator; `None` for unsupported types.
pub(super) fn product(a: Element, b: Element, accumulator: Element, flags: Flags) -> Option<Product> {
    let Flags { satfinite, xor, rounding } = flags;
    let integers = |bits, signs| Product::Integers(Dot::Integers(bits, signs), satfinite);
    let found = match (a, b, accumulator) {
        (Element::F16, Element::F16, Element::F32) => Product::Single(Factor::Half(Half::F16)),
        (Element::F16, Element::F16, Element::F16) => Product::Half,
        (Element::Bf16, Element::Bf16, Element::F32) => Product::Single(Factor::Half(Half::Bf16)),
        (Element::Tf32, Element::Tf32, Element::F32) => Product::Single(Factor::Tf32),
        (Element::F64, Element::F64, Element::F64) => Product::Doubles(rounding.unwrap_or(Rounding::Nearest)),
        (Element::E4m3 | Element::E5m2, _, Element::F32) => Product::Eights([a.eight()?, b.eight()?]),
        (Element::E4m3 | Element::E5m2, _, Element::F16) => Product::EightsHalf([a.eight()?, b.eight()?]),
        (Element::S8 | Element::U8, Element::S8 | Element::U8, Element::S32) => {
            integers(8, [a == Element::S8, b == Element::S8])
        }
        (Element::S4 | Element::U4, Element::S4 | Element::U4, Element::S32) => {
            integers(4, [a == Element::S4, b == Element::S4])
        }
        (Element::B1, Element::B1, Element::S32) => {
            Product::Integers(if xor? { Dot::Xor } else { Dot::And }, satfinite)
        }
        _ => return None,
    };
    let integer = matches!(found, Product::Integers(..));
    let fits = (!satfinite || integer && a != Element::B1)
        && (xor.is_none() || a == Element::B1)
        && (rounding.is_none() || a == Element::F64);
    fits.then_some(found)
}

/// The shapes of `mma` with elements of that kind.
fn shapes(a: Element) -> &'static [[usize; 3]] {
    match a {
        Element::F16 | Element::Bf16 => &[[16, 8, 8], [16, 8, 16]],
        Element::Tf32 => &[[16, 8, 4], [16, 8, 8]],
        Element::E4m3 | Element::E5m2 => &[[16, 8, 16], [16, 8, 32]],
        Element::F64 => &[[8, 8, 4], [16, 8, 4], [16, 8, 8], [16, 8, 16]],
        Element::S8 | Element::U8 => &[[8, 8, 16], [16, 8, 16], [16, 8, 32]],
        Element::S4 | Element::U4 => &[[8, 8, 32], [16, 8, 32], [16, 8, 64]],
        Element::B1 => &[[8, 8, 128], [16, 8, 128], [16, 8, 256]],
        Element::F32 | Element::S32 => &[],
    }
}

/// Registers of A, of B, and of C and D.
pub(super) fn counts([m, _, k]: [usize; 3], factor: Element, accumulator: Element) -> [usize; 3] {
    let tiles = k / (4 * factor.per());
    [m / 8 * tiles, tiles, m / 8 * if accumulator == Element::F16 { 1 } else { 2 }]
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    /// The elements of an operand in braces.
    pub(super) fn braced<'o>(&self, operand: &'o Operand<'a>, count: usize) -> Parsed<&'o [Operand<'a>]> {
        let Operand::Vector(elements) = operand else { return self.fail("expected registers in braces") };
        if elements.len() != count {
            return self.fail(format!("expected {count} registers, not {}", elements.len()));
        }
        Ok(elements)
    }

    /// The registers of the results.
    pub(super) fn fragments<const N: usize>(
        &mut self,
        operand: &Operand<'a>,
        count: usize,
        ty: Type,
    ) -> Parsed<[Loc; N]> {
        self.each_braced(operand, count, |body, element| body.to(element, ty))
    }

    /// The registers or constants of the operands.
    pub(super) fn sources<const N: usize>(
        &mut self,
        operand: &Operand<'a>,
        count: usize,
        ty: Type,
    ) -> Parsed<[Loc; N]> {
        self.each_braced(operand, count, |body, element| body.value(element, ty))
    }

    /// The columns of an operand's elements in braces; those beyond `count` are the constant 0.
    fn each_braced<const N: usize>(
        &mut self,
        operand: &Operand<'a>,
        count: usize,
        locate: impl Fn(&mut Self, &Operand<'a>) -> Parsed<Loc>,
    ) -> Parsed<[Loc; N]> {
        let mut out = [Loc::ZERO; N];
        for (loc, element) in out.iter_mut().zip(self.braced(operand, count)?) {
            *loc = locate(self, element)?;
        }
        Ok(out)
    }

    pub(super) fn mma(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let form = (s.take("sync"), s.take("aligned"), s.take("row"), s.take("col"));
        let mut flags = Flags { satfinite: s.take("satfinite"), ..Flags::default() };
        if s.take("popc") {
            flags.xor = s.take_any(&["xor", "and"]).map(|name| name == "xor");
        }
        let Some(size @ [m, n, k]) = s.take_parsed(shape) else { return Err(s.unknown()) };
        let mut types = [Element::F32; 4];
        for ty in &mut types {
            let Some(element) = s.take_parsed(Element::named) else { return Err(s.unknown()) };
            *ty = element;
        }
        let [d, a, b, c] = types;
        let Some(product) = product(a, b, c, flags) else { return Err(s.unknown()) };
        if form != (true, true, true, true) || d != c || !shapes(a).contains(&size) {
            return Err(s.unknown());
        }
        let wide = a == Element::F64;
        let factor_type = if wide { Type { kind: Kind::Float, ..Type::B64 } } else { Type::B32 };
        let sum_type =
            if wide || c == Element::F32 { Type { kind: Kind::Float, ..factor_type } } else { Type::B32 };
        let counts @ [lefts, rights, sums] = counts(size, a, c);
        let [to, left, right, sum] = s.operands()?;
        let multiply = Multiply {
            product,
            counts,
            left: self.sources(left, lefts, factor_type)?,
            right: self.sources(right, rights, factor_type)?,
            sum: self.sources(sum, sums, sum_type)?,
            to: self.fragments(to, sums, sum_type)?,
            macs: (m * n * k) as u64,
        };
        self.emit(Op::Matrix(Box::new(Matrix::Multiply(multiply))));
        Ok(())
    }
}
