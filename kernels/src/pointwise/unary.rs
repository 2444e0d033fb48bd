//! y[i] = f(x[i]) and dx[i] = dy[i]·f′. A function defines its value and its derivative; the rest is shared.

use super::Elementwise;
use crate::{
    Kernel, Target,
    ptx::{Asm, F32, Reg},
    span::Real,
};

/// A function of one number, written with the assembler.
type Function = for<'a> fn(&'a Asm, Reg<'a, F32>) -> Reg<'a, F32>;

/// A differentiable function of one number, computed in f32.
#[derive(Debug, Clone, Copy)]
pub struct Activation {
    /// Name of the operator, for kernel names.
    pub name: &'static str,
    /// Whether the derivative is computed from y instead of x.
    pub from_output: bool,
    /// y = f(x).
    pub value: Function,
    /// dy/dx at x, or at y with `from_output`.
    pub derivative: Function,
}

/// All activations, for tables and tests.
pub const ACTIVATIONS: [Activation; 8] = [RELU, SILU, SIGMOID, TANH, SOFTPLUS, EXP, LOG, SQRT];

/// y = max(x, 0); dy/dx = 1 where y > 0. NaN stays NaN.
pub const RELU: Activation = Activation {
    name: "relu",
    from_output: true,
    value: |asm, x| asm.select(x.lt(0.0), 0.0, x),
    derivative: |asm, y| asm.select(y.gt(0.0), 1.0, 0.0),
};

/// y = x·σ(x) (SiLU; Elfwing et al. 2017).  dy/dx = σ(x) + x·σ(x)·σ(−x).
pub const SILU: Activation = Activation {
    name: "silu",
    from_output: false,
    // If a factor exceeded 1, the largest numbers would overflow to infinity. NaN stays NaN: x is a factor.
    value: |asm, x| x * asm.sigmoid(x).min(1.0),
    derivative: |asm, x| {
        // 1 − σ(x) would keep only the error of σ(x), and a large x would multiply it.
        let [smaller, larger] = asm.sigmoids(x);
        (x * smaller).mad(larger, asm.select(x.lt(0.0), smaller, larger))
    },
};

/// y = σ(x) = 1/(1 + e⁻ˣ).  dy/dx = y·(1 − y).
pub const SIGMOID: Activation = Activation {
    name: "sigmoid",
    from_output: true,
    value: |asm, x| asm.sigmoid(x),
    derivative: |_, y| y * (-y + 1.0),
};

/// y = tanh(x).  dy/dx = 1 − y².
pub const TANH: Activation = Activation {
    name: "tanh",
    from_output: true,
    value: |asm, x| asm.tanh(x),
    derivative: |_, y| -(y * y) + 1.0,
};

/// y = ln(1 + eˣ), x itself past 20.  dy/dx = σ(x), 1 past 20.
pub const SOFTPLUS: Activation = Activation {
    name: "softplus",
    from_output: false,
    value: |asm, x| asm.softplus(x),
    derivative: |asm, x| asm.select(x.gt(20.0), 1.0, asm.sigmoid(x)),
};

/// y = ln x.  dy/dx = 1/x.
pub const LOG: Activation = Activation {
    name: "log",
    from_output: false,
    value: |asm, x| asm.log(x),
    derivative: |_, x| x.reciprocal(),
};

/// y = √x.  dy/dx = 1/(2y).
pub const SQRT: Activation = Activation {
    name: "sqrt",
    from_output: true,
    value: |_, x| x.sqrt(),
    derivative: |_, y| y.reciprocal() * 0.5,
};

/// y = eˣ.  dy/dx = y.
pub const EXP: Activation =
    Activation { name: "exp", from_output: true, value: |asm, x| asm.exp(x), derivative: |_, y| y };

impl Activation {
    /// y[i] = f(x[i]) for n elements. Parameters x, y. Moves two elements per element.
    pub fn forward<T: Real>(&self, n: u32, target: Target) -> Kernel {
        let name = self.name;
        Elementwise {
            name: format!("{name}_{}_n{n}", T::SPELLED),
            summary: &format!("y[i] = {name}(x[i])"),
            n,
            width: T::VECTOR,
            target,
            bytes: 2 * T::BYTES,
            operations: 1,
            other_bytes: 0,
        }
        .kernel(|asm| {
            let (x, y) = (asm.pointer::<T>("x"), asm.pointer::<T>("y"));
            asm.each_span(n, T::VECTOR, |span| {
                let values: Vec<_> = span.load(x).into_iter().map(|x| (self.value)(asm, x)).collect();
                span.store(y, &values);
            });
        })
    }

    /// dx[i] = dy[i]·f′(at[i]) for n elements, where `at` is y with [`Activation::from_output`] and x without.
    /// Parameters dy, at, dx. Moves three elements per element.
    pub fn backward<T: Real>(&self, n: u32, target: Target) -> Kernel {
        let (name, at) = (self.name, if self.from_output { "y" } else { "x" });
        Elementwise {
            name: format!("{name}_backward_{}_n{n}", T::SPELLED),
            summary: &format!("dx[i] = dy[i]*{name}', from {at}[i]"),
            n,
            width: T::VECTOR,
            target,
            bytes: 3 * T::BYTES,
            operations: 2,
            other_bytes: 0,
        }
        .kernel(|asm| {
            let (dy, at, dx) = (asm.pointer::<T>("dy"), asm.pointer::<T>(at), asm.pointer::<T>("dx"));
            asm.each_span(n, T::VECTOR, |span| {
                let (dy, at) = (span.load(dy), span.load(at));
                let slopes = dy.into_iter().zip(at).map(|(dy, at)| dy * (self.derivative)(asm, at));
                span.store(dx, &slopes.collect::<Vec<_>>());
            });
        })
    }
}

/// y[i] = factor·x[i]; with dy in place of x, also its derivative. Parameters x, y, factor (f32, given at the launch).
/// Moves two elements per element.
pub fn scale<T: Real>(n: u32, target: Target) -> Kernel {
    Elementwise {
        name: format!("scale_{}_n{n}", T::SPELLED),
        summary: "y[i] = factor*x[i]",
        n,
        width: T::VECTOR,
        target,
        bytes: 2 * T::BYTES,
        operations: 1,
        other_bytes: 0,
    }
    .kernel(|asm| {
        let (x, y, factor) = (asm.pointer::<T>("x"), asm.pointer::<T>("y"), asm.parameter_f32("factor"));
        asm.each_span(n, T::VECTOR, |span| {
            let values: Vec<_> = span.load(x).into_iter().map(|x| x * factor).collect();
            span.store(y, &values);
        });
    })
}
