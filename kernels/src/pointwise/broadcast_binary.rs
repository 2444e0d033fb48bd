//! y = a ∘ b for arrays that may lack axes of y, along which their elements repeat: NumPy's broadcasting.

use super::{Arithmetic, Elementwise, FAMILY};
use crate::{
    Error, Kernel, Result, Target,
    ptx::{Asm, F32, Global, Reg, U32},
    size,
    span::{Real, Span, access_width},
};

/// An axis of y, and the operands that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Size of the axis.
    pub size: u32,
    /// Whether a has this axis.
    pub a: bool,
    /// Whether b has this axis.
    pub b: bool,
}

/// y = a ∘ b with broadcasting. Each array is row-major over its axes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Broadcast {
    /// The operation on two elements.
    pub operation: Arithmetic,
    /// The axes of y, outermost first. Merge neighbours that a and b treat alike: each axis costs a division.
    pub axes: Vec<Axis>,
}

/// Index computation for one operand.
struct Operand<'k> {
    start: Reg<'k, U32>,
    /// Elements of the axes after the current one.
    stride: u32,
    /// Whether it has y's last axis; otherwise one element is used for the whole span.
    last: bool,
}

impl Broadcast {
    /// The kernel. Parameters a, b, y. A thread writes up to 16 bytes within y's last axis. Moves y, a and b once each;
    /// repeated reads come from a cache.
    ///
    /// # Errors
    /// No axes, or an array that is empty or of 2³¹ elements or more.
    pub fn kernel<T: Real>(&self, target: Target) -> Result<Kernel> {
        let Self { operation, axes } = self;
        let n = size::elements(FAMILY, &axes.iter().map(|axis| axis.size).collect::<Vec<_>>())?;
        let last = axes.last().ok_or_else(|| Error::new(FAMILY, "broadcast arrays need an axis"))?.size;
        let width = access_width(last, T::VECTOR);
        let count = |has: fn(&Axis) -> bool| -> u64 {
            axes.iter().filter(|axis| has(axis)).map(|axis| u64::from(axis.size)).product()
        };
        let elementwise = Elementwise {
            name: format!("broadcast_{}_{}_{}", operation.name(), T::SPELLED, self.spelled()),
            summary: &format!("{}, each repeated along the axes that it lacks", operation.summary()),
            n,
            width,
            target,
            bytes: T::BYTES,
            operations: 1,
            other_bytes: (count(|axis| axis.a) + count(|axis| axis.b)) * u64::from(T::BYTES),
        };
        Ok(elementwise.kernel(|asm| {
            let (a, b, y) = (asm.pointer::<T>("a"), asm.pointer::<T>("b"), asm.pointer::<T>("y"));
            asm.each_span(n, width, |span| {
                let [of_a, of_b] = self.operands(asm, span);
                let pairs = of_a.load(a, width).into_iter().zip(of_b.load(b, width));
                span.store(y, &pairs.map(|(a, b)| operation.of(a, b)).collect::<Vec<_>>());
            });
        }))
    }

    /// Indices at which a span's elements of a and b begin.
    fn operands<'k>(&self, asm: &'k Asm, span: Span<'k>) -> [Operand<'k>; 2] {
        let has = |axis: &Axis| [axis.a, axis.b];
        let last = self.axes.last().map_or([false; 2], has);
        let mut operands = last.map(|last| Operand { start: asm.value(0), stride: 1, last });
        let mut rest = span.first();
        for (i, axis) in self.axes.iter().enumerate().rev() {
            let (outer, index) = if i == 0 { (rest, rest) } else { asm.divide(rest, axis.size) };
            for (operand, has) in operands.iter_mut().zip(has(axis)) {
                if has {
                    operand.start = index.mad(operand.stride, operand.start);
                    operand.stride *= axis.size;
                }
            }
            rest = outer;
        }
        operands
    }

    /// The axes' part of a kernel's name.
    fn spelled(&self) -> String {
        let owner = |axis: &Axis| match (axis.a, axis.b) {
            (true, true) => "",
            (true, false) => "a",
            (false, true) => "b",
            (false, false) => "y",
        };
        let axes: Vec<_> = self.axes.iter().map(|axis| format!("{}{}", axis.size, owner(axis))).collect();
        axes.join("x")
    }
}

impl<'k> Operand<'k> {
    fn load<T: Real>(&self, array: Global<'k, T>, width: u32) -> Vec<Reg<'k, F32>> {
        let at = array.at(self.start);
        if self.last { T::load(at, width) } else { vec![T::load(at, 1)[0]; width as usize] }
    }
}
