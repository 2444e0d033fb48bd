//! Conversion between element types, and filling with a number.

use super::Elementwise;
use crate::{Kernel, Target, span::Real};

/// y[i] = x[i] in the other type, rounded to the nearest, ties to even; values beyond f16's 65,504 (65,520 and more)
/// become infinite. Parameters x, y. Moves one element of each type per element, in accesses of 16 bytes of the wider
/// type.
pub fn cast<From: Real, To: Real>(n: u32, target: Target) -> Kernel {
    let width = From::VECTOR.min(To::VECTOR);
    Elementwise {
        name: format!("cast_{}_{}_n{n}", From::SPELLED, To::SPELLED),
        summary: &format!("y[i] = {}(x[i])", To::SPELLED),
        n,
        width,
        target,
        bytes: From::BYTES + To::BYTES,
        operations: 0,
        other_bytes: 0,
    }
    .kernel(|asm| {
        let (x, y) = (asm.pointer::<From>("x"), asm.pointer::<To>("y"));
        asm.each_span(n, width, |span| span.store(y, &span.load(x)));
    })
}

/// y[i] = value. Parameters y, value (f32, given at the launch). Moves one element per element.
pub fn fill<T: Real>(n: u32, target: Target) -> Kernel {
    Elementwise {
        name: format!("fill_{}_n{n}", T::SPELLED),
        summary: "y[i] = value",
        n,
        width: T::VECTOR,
        target,
        bytes: T::BYTES,
        operations: 0,
        other_bytes: 0,
    }
    .kernel(|asm| {
        let (y, value) = (asm.pointer::<T>("y"), asm.parameter_f32("value"));
        asm.each_span(n, T::VECTOR, |span| span.store(y, &vec![value; span.width() as usize]));
    })
}
