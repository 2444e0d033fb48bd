//! y[i] = a[i] ∘ b[i]. The derivatives need no other kernels: those of a sum are dy itself, those of a product products.

use super::Elementwise;
use crate::{
    Kernel, Target,
    ptx::{F32, Reg},
    span::Real,
};

/// y[i] = a[i] + b[i]. Parameters a, b, y. Moves three elements an element.
pub fn add<T: Real>(n: u32, target: Target) -> Kernel {
    binary::<T>("add", "y[i] = a[i] + b[i]", n, target, |a, b| a + b)
}

/// y[i] = a[i] − b[i]. Parameters a, b, y. Moves three elements an element.
pub fn sub<T: Real>(n: u32, target: Target) -> Kernel {
    binary::<T>("sub", "y[i] = a[i] - b[i]", n, target, |a, b| a - b)
}

/// y[i] = a[i]·b[i]; with dy for b it is da, with dy for a it is db. Parameters a, b, y. Moves three elements an element.
pub fn mul<T: Real>(n: u32, target: Target) -> Kernel {
    binary::<T>("mul", "y[i] = a[i]*b[i]", n, target, |a, b| a * b)
}

fn binary<T: Real>(
    name: &str,
    summary: &str,
    n: u32,
    target: Target,
    f: impl for<'a> Fn(Reg<'a, F32>, Reg<'a, F32>) -> Reg<'a, F32>,
) -> Kernel {
    Elementwise {
        name: format!("{name}_{}_n{n}", T::SPELLED),
        summary,
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
            let values: Vec<_> = span.load(a).into_iter().zip(span.load(b)).map(|(a, b)| f(a, b)).collect();
            span.store(y, &values);
        });
    })
}

/// sum[i] ← sum[i] + x[i] with the sum in f32: a gradient that has several sources. Parameters x, sum. Moves the element
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
