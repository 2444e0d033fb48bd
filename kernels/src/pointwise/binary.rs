//! y[i] = a[i] ∘ b[i]. The derivatives are sums, products and quotients again, so they use the same kernels.

use super::Elementwise;
use crate::{
    Kernel, Target,
    ptx::{F32, Reg},
    span::Real,
};

/// An operation on two numbers, in f32 and rounded to the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a·b.
    Mul,
    /// a/b.
    Div,
}

impl Arithmetic {
    /// All values, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Add, Self::Sub, Self::Mul, Self::Div];

    /// Name of the operator, for kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
        }
    }

    /// a ∘ b.
    pub(super) fn of<'a>(self, a: Reg<'a, F32>, b: Reg<'a, F32>) -> Reg<'a, F32> {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
        }
    }

    /// The operation as one line of text.
    pub(super) fn summary(self) -> &'static str {
        match self {
            Self::Add => "y[i] = a[i] + b[i]",
            Self::Sub => "y[i] = a[i] - b[i]",
            Self::Mul => "y[i] = a[i]*b[i]",
            Self::Div => "y[i] = a[i]/b[i]",
        }
    }

    /// y[i] = a[i] ∘ b[i] for n elements. Parameters a, b, y. Moves three elements per element.
    pub fn kernel<T: Real>(self, n: u32, target: Target) -> Kernel {
        Elementwise {
            name: format!("{}_{}_n{n}", self.name(), T::SPELLED),
            summary: self.summary(),
            n,
            width: T::VECTOR,
            target,
            bytes: 3 * T::BYTES,
            operations: 1,
            other_bytes: 0,
        }
        .kernel(|asm| {
            let (a, b, y) = (asm.pointer::<T>("a"), asm.pointer::<T>("b"), asm.pointer::<T>("y"));
            asm.each_span(n, T::VECTOR, |span| {
                let pairs = span.load(a).into_iter().zip(span.load(b));
                span.store(y, &pairs.map(|(a, b)| self.of(a, b)).collect::<Vec<_>>());
            });
        })
    }
}

/// sum[i] ← sum[i] + x[i] with the sum in f32: a gradient with several sources. Parameters x, sum. Moves the element
/// and 8 bytes.
pub fn accumulate<T: Real>(n: u32, target: Target) -> Kernel {
    let width = F32::VECTOR;
    Elementwise {
        name: format!("accumulate_{}_n{n}", T::SPELLED),
        summary: "sum[i] = sum[i] + x[i]",
        n,
        width,
        target,
        bytes: T::BYTES + 8,
        operations: 1,
        other_bytes: 0,
    }
    .kernel(|asm| {
        let (x, sum) = (asm.pointer::<T>("x"), asm.pointer::<F32>("sum"));
        asm.each_span(n, width, |span| {
            let sums: Vec<_> = span.load(sum).into_iter().zip(span.load(x)).map(|(s, x)| s + x).collect();
            span.store(sum, &sums);
        });
    })
}
