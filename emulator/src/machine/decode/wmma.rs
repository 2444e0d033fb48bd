//! `wmma`: fragments and the `mma` instructions that they consist of (PTX ISA, "wmma.load", "wmma.mma", "wmma.store").
//!
//! m16n16k16 is two `mma` side by side, m32n8k16 two on top of each other, and m8n32k16 the transpose of m32n8k16 with
//! A and B exchanged. The small shapes are one `mma`. Fragments of f16 always have 8 registers; if fewer are needed,
//! the same registers repeat.

use super::body::Body;
use super::float::rounding;
use super::mma::{Element, Flags, counts, product, shape};
use super::suffix::Suffixes;
use crate::machine::lanes::{LaneFn32, lanes};
use crate::machine::math::Math32;
use crate::machine::program::{Fragment, Loc, Matrix, Multiply, Op, Product, Value};
use crate::numerics::convert::{Conversion, Type as Number};
use crate::numerics::half::Half;
use crate::syntax::{Kind, Operand, Parsed, Type};

/// A matrix of D = A·B + C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    A,
    B,
    Sum,
}

/// Whether a shape supports matrices A and B of this element type.
fn factors(element: Element, size: [usize; 3]) -> bool {
    match element {
        Element::F16 | Element::Bf16 | Element::S8 | Element::U8 => {
            matches!(size, [16, 16, 16] | [32, 8, 16] | [8, 32, 16])
        }
        Element::Tf32 => size == [16, 16, 8],
        Element::F64 => size == [8, 8, 4],
        Element::S4 | Element::U4 => size == [8, 8, 32],
        Element::B1 => size == [8, 8, 128],
        _ => false,
    }
}

/// Whether a shape supports matrices C and D of this element type.
fn sums(element: Element, size: [usize; 3]) -> bool {
    match element {
        Element::F16 => factors(Element::F16, size),
        Element::F32 => factors(Element::F16, size) || factors(Element::Tf32, size),
        Element::S32 => [Element::S8, Element::S4, Element::B1].iter().any(|&e| factors(e, size)),
        Element::F64 => factors(Element::F64, size),
        _ => false,
    }
}

/// The shape of the equivalent `mma`.
fn turned(size: [usize; 3]) -> ([usize; 3], bool) {
    match size {
        [8, 32, k] => ([32, 8, k], true),
        size => (size, false),
    }
}

/// Row and column where each run of lane 0 begins, in the order of the registers.
fn units(role: Role, size: [usize; 3], per: usize) -> Vec<(u32, u32)> {
    let ([m, n, k], turned) = turned(size);
    let mut out = Vec::new();
    let mut push = |row: usize, column: usize| out.push((row as u32, column as u32));
    match (role, turned) {
        (Role::Sum, _) => {
            for column in (0..n).step_by(8) {
                (0..m).step_by(8).for_each(|row| push(row, column));
            }
        }
        (Role::A, false) | (Role::B, true) => {
            for block in (0..m).step_by(16) {
                for tile in (0..k).step_by(4 * per) {
                    (block..m.min(block + 16)).step_by(8).for_each(|row| push(row, tile));
                }
            }
        }
        _ => {
            for column in (0..n).step_by(8) {
                (0..k).step_by(4 * per).for_each(|tile| push(column, tile));
            }
        }
    }
    out
}

/// Registers of a fragment: of one copy of the matrix, and in total.
fn registers(role: Role, size: [usize; 3], element: Element) -> (usize, usize) {
    let units = units(role, size, element.per()).len();
    let once = match (role, element) {
        (Role::Sum, Element::F16) => units,
        (Role::Sum, _) => 2 * units,
        _ => units,
    };
    (once, if role != Role::Sum && element == Element::F16 { 8 } else { once })
}

/// The type of an element's registers.
fn register_type(element: Element) -> Type {
    match element {
        Element::F64 => Type { kind: Kind::Float, ..Type::B64 },
        Element::F32 => Type { kind: Kind::Float, ..Type::B32 },
        _ => Type::B32,
    }
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn wmma(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let Some(what) = s.take_any(&["load", "mma", "store"]) else { return Err(s.unknown()) };
        if (s.take("sync"), s.take("aligned")) != (true, true) {
            return Err(s.unknown());
        }
        let Some(size) = s.take_parsed(shape) else { return Err(s.unknown()) };
        match what {
            "load" => {
                let role = match s.take_any(&["a", "b", "c"]) {
                    Some("a") => Role::A,
                    Some("b") => Role::B,
                    Some(_) => Role::Sum,
                    None => return Err(s.unknown()),
                };
                self.wmma_transfer(role, size, false, s)
            }
            "store" if s.take("d") => self.wmma_transfer(Role::Sum, size, true, s),
            "mma" => self.wmma_multiply(size, s),
            _ => Err(s.unknown()),
        }
    }

    fn wmma_transfer(
        &mut self,
        role: Role,
        size @ [m, n, k]: [usize; 3],
        store: bool,
        s: &mut Suffixes<'m, 'a>,
    ) -> Parsed<()> {
        let row_major = match s.take_any(&["row", "col"]) {
            Some(layout) => layout == "row",
            None => return Err(s.unknown()),
        };
        let space = s.take_any(&["global", "shared", "shared::cta"]);
        let Some(element) = s.take_parsed(Element::named) else { return Err(s.unknown()) };
        let known = if role == Role::Sum { sums(element, size) } else { factors(element, size) };
        // Where elements have less than a byte, A is in rows and B in columns.
        let possible = element.bits() >= 8 || row_major == (role == Role::A);
        if !known || !possible {
            return Err(s.unknown());
        }
        let (address, values, stride) = match (store, s.all()) {
            (false, [values, address]) | (true, [address, values]) => (address, values, None),
            (false, [values, address, stride]) | (true, [address, values, stride]) => {
                (address, values, Some(stride))
            }
            _ => return self.fail("expected the registers, an address and perhaps a stride"),
        };
        let address = self.address(address, space)?;
        if !address.may_be_global() && !address.may_be_shared() {
            return Err(s.unknown());
        }
        let [rows, columns] = match role {
            Role::A => [m, k],
            Role::B => [k, n],
            Role::Sum => [m, n],
        };
        let stride = match stride {
            Some(stride) => self.value(stride, Type::B32)?,
            None => self.builder.constant32(if row_major { columns } else { rows } as u32),
        };
        // Runs go along k in A and B, and along the columns of C and D (of their transpose).
        let (_, turned) = turned(size);
        let contiguous = row_major == (role == Role::A || role == Role::Sum && !turned);
        let run = if role == Role::Sum { 2 } else { element.per() };
        let (once, all) = registers(role, size, element);
        let ty = register_type(element);
        let wide = ty.bits == 64;
        let units = units(role, size, element.per());
        let given = self.braced(values, all)?;
        let mut registers = Vec::new();
        for operand in given {
            let loc = if store { self.value(operand, ty)? } else { self.to(operand, ty)? };
            registers.push(Value::new(loc, wide));
        }
        // The further copies of a small matrix are copies of its registers.
        let copies: Vec<_> = registers.drain(once..).enumerate().collect();
        let first = registers.clone();
        let fragment = Fragment {
            store,
            address,
            stride,
            bits: element.bits(),
            contiguous,
            run: run as u32,
            units,
            registers,
        };
        self.emit(Op::Matrix(Box::new(Matrix::Fragment(fragment))));
        for (at, copy) in copies {
            self.emit(Op::Copy32(copy.loc, first[at % once].loc));
        }
        Ok(())
    }

    fn wmma_multiply(&mut self, size: [usize; 3], s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let mut flags = Flags { satfinite: s.take("satfinite"), ..Flags::default() };
        if s.take("popc") {
            flags.xor = s.take_any(&["xor", "and"]).map(|name| name == "xor");
        }
        flags.rounding = s.take_parsed(rounding);
        let layouts = [s.take_any(&["row", "col"]), s.take_any(&["row", "col"])];
        let mut types = Vec::new();
        while let Some(element) = s.take_parsed(Element::named) {
            types.push(element);
        }
        let (d, a, b, c) = match *types.as_slice() {
            [d, c] => (d, Element::F16, Element::F16, c),
            [d, a, b, c] if a != Element::F16 => (d, a, b, c),
            _ => return Err(s.unknown()),
        };
        // Sums of f16 are computed in f32 where C or D is f32.
        let halves = a == Element::F16 && d == Element::F16 && c == Element::F16;
        let inner = if a == Element::F16 && !halves { Element::F32 } else { c };
        let mixed = d != c && !(a == Element::F16 && sums(d, size));
        let small = a.bits() < 8 && layouts != [Some("row"), Some("col")];
        let known = factors(a, size) && sums(c, size) && layouts[1].is_some();
        let Some(product) =
            product(a, b, inner, flags).filter(|_| known && !mixed && !small && a.bits() == b.bits())
        else {
            return Err(s.unknown());
        };
        let [to, left, right, sum] = s.operands()?;
        let factor_type = register_type(a);
        let read = |body: &mut Self, operand: &Operand<'a>, role| -> Parsed<Vec<Loc>> {
            let (once, all) = registers(role, size, a);
            let elements = body.braced(operand, all)?;
            elements[..once].iter().map(|e| body.value(e, factor_type)).collect()
        };
        let (left, right) = (read(self, left, Role::A)?, read(self, right, Role::B)?);
        let (_, count) = registers(Role::Sum, size, c);
        let mut sum: Vec<Loc> =
            Vec::from_iter(self.braced(sum, count)?.iter().map(|e| self.value(e, register_type(c))))
                .into_iter()
                .collect::<Parsed<_>>()?;
        if c == Element::F16 && inner == Element::F32 {
            sum = self.halves_widened(&sum)?;
        }
        let ([m, n, k], turned) = turned(size);
        let (left, right) = if turned { (right, left) } else { (left, right) };
        let mut results = Vec::new();
        // On the chip a tf32 product of k = 8 is two of k = 4.
        let steps = if product == Product::Single(crate::numerics::mma::Factor::Tf32) { 2 } else { 1 };
        let rows = m.min(16);
        let each = counts([rows, 8, k / steps], a, inner);
        let blocks = [left.len() / (each[0] * steps), right.len() / (each[1] * steps)];
        for column in 0..blocks[1] {
            for row in 0..blocks[0] {
                let mut held = sum[(column * blocks[0] + row) * each[2]..][..each[2]].to_vec();
                for step in 0..steps {
                    let a = &left[(row * steps + step) * each[0]..][..each[0]];
                    let b = &right[(column * steps + step) * each[1]..][..each[1]];
                    let mut to = Vec::new();
                    for _ in 0..each[2] {
                        to.push(Loc::register(self.temporary(register_type(inner))?.index));
                    }
                    let multiply = Multiply {
                        product,
                        counts: each,
                        to: filled(&to),
                        left: filled(a),
                        right: filled(b),
                        sum: filled(&held),
                        macs: (rows * 8 * k / steps) as u64,
                    };
                    self.emit(Op::Matrix(Box::new(Matrix::Multiply(multiply))));
                    held = to;
                }
                results.extend(held);
            }
        }
        debug_assert_eq!(blocks[1] * 8, n);
        self.wmma_results(to, d, inner, size, &results)
    }

    /// The results are moved to their registers after all products, because these registers may be operands.
    fn wmma_results(
        &mut self,
        to: &Operand<'a>,
        d: Element,
        inner: Element,
        size: [usize; 3],
        results: &[Loc],
    ) -> Parsed<()> {
        let (_, count) = registers(Role::Sum, size, d);
        let ty = register_type(d);
        let elements = self.braced(to, count)?;
        if d == Element::F16 && inner == Element::F32 {
            for (operand, pair) in elements.iter().zip(results.chunks_exact(2)) {
                let to = self.to(operand, ty)?;
                self.emit(Op::Math32(Math32::Pack(Half::F16, false), to, [pair[1], pair[0], Loc::ZERO]));
            }
            return Ok(());
        }
        for (operand, &from) in elements.iter().zip(results) {
            let to = self.to(operand, ty)?;
            self.emit(if ty.bits == 64 { Op::Copy64(to, from) } else { Op::Copy32(to, from) });
        }
        Ok(())
    }

    /// Pairs of f16 as f32.
    fn halves_widened(&mut self, pairs: &[Loc]) -> Parsed<Vec<Loc>> {
        let mut out = Vec::new();
        let parts: [LaneFn32; 2] = [lanes!(|a, _, _| a & 0xffff), lanes!(|a, _, _| a >> 16)];
        for &pair in pairs {
            for part in parts {
                let half = self.scratch()?;
                self.emit(Op::Lane32(part, half, [pair, Loc::ZERO, Loc::ZERO]));
                let single = self.scratch()?;
                let conversion = Conversion::new(Number::F32, Number::F16);
                self.emit(Op::Math32(Math32::Convert(conversion), single, [half, Loc::ZERO, Loc::ZERO]));
                out.push(single);
            }
        }
        Ok(out)
    }
}

/// The first registers of a fixed number.
fn filled<const N: usize>(locs: &[Loc]) -> [Loc; N] {
    std::array::from_fn(|i| locs.get(i).copied().unwrap_or(Loc::ZERO))
}
